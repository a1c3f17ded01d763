/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of requests by action and code, their times, and the state of the cloud, in the text
 * form that Prometheus reads. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "http-private.h"

static const int64_t bounds_micros[] = {500,   1000,   2500,   5000,   10000,   25000,
                                        50000, 100000, 250000, 500000, 1000000, 5000000};
#define BOUNDS (sizeof(bounds_micros) / sizeof(bounds_micros[0]))

struct metrics {
    size_t actions;
    _Atomic uint64_t buckets[BOUNDS + 1];
    _Atomic uint64_t total_micros;
    _Atomic uint64_t counts[]; /* actions + 1 rows of IM_CODES; the last row: unknown actions */
};

struct metrics *metrics_new(void) {
    struct metrics *metrics;
    size_t count;

    (void) http_actions(&count);
    metrics = im_alloc(sizeof(*metrics) + (count + 1) * IM_CODES * sizeof(metrics->counts[0]));
    metrics->actions = count;
    return metrics;
}

void metrics_free(struct metrics *metrics) { free(metrics); }

static size_t row_of(const struct metrics *metrics, const struct http_action *action) {
    size_t low = 0, high = metrics->actions, count;
    const struct http_action *const *all = http_actions(&count);

    while (action != NULL && low < high) {
        size_t middle = (low + high) / 2;

        if (strcmp(all[middle]->name, action->name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return action == NULL ? metrics->actions : low;
}

void metrics_count(struct metrics *metrics, const struct http_action *action, enum im_code code,
                   int64_t micros) {
    size_t bucket = 0;

    while (bucket < BOUNDS && micros > bounds_micros[bucket])
        bucket++;
    atomic_fetch_add_explicit(&metrics->buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&metrics->total_micros, (uint64_t) micros, memory_order_relaxed);
    atomic_fetch_add_explicit(&metrics->counts[row_of(metrics, action) * IM_CODES + code], 1,
                              memory_order_relaxed);
}

/* Several names share one ret_code: the wire's codes are what is counted by. */
static void write_counts(struct metrics *metrics, struct im_str *out) {
    size_t count;
    const struct http_action *const *all = http_actions(&count);

    im_str_add(out, "# HELP imprint_requests_total Requests of the query API.\n"
                    "# TYPE imprint_requests_total counter\n");
    for (size_t row = 0; row <= count; row++)
        for (int code = 0; code < IM_CODES; code++) {
            uint64_t n = metrics->counts[row * IM_CODES + (size_t) code];

            if (n > 0)
                im_str_addf(out,
                            "imprint_requests_total{action=\"%s\",code=\"%d\",reason=\"%s\"} "
                            "%" PRIu64 "\n",
                            row == count ? "unknown" : all[row]->name,
                            im_code_ret((enum im_code) code), im_code_name((enum im_code) code), n);
        }
}

static void write_times(struct metrics *metrics, struct im_str *out) {
    uint64_t sum = 0;

    im_str_add(out, "# HELP imprint_request_seconds Time to answer a request.\n"
                    "# TYPE imprint_request_seconds histogram\n");
    for (size_t i = 0; i < BOUNDS; i++) {
        sum += metrics->buckets[i];
        im_str_addf(out, "imprint_request_seconds_bucket{le=\"%g\"} %" PRIu64 "\n",
                    (double) bounds_micros[i] / 1e6, sum);
    }
    sum += metrics->buckets[BOUNDS];
    im_str_addf(out, "imprint_request_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n", sum);
    im_str_addf(out,
                "imprint_request_seconds_sum %.6f\nimprint_request_seconds_count %" PRIu64 "\n",
                (double) metrics->total_micros / 1e6, sum);
}

static void gauge(struct im_str *out, const char *name, const char *help, int64_t value) {
    im_str_addf(out, "# HELP imprint_%s %s\n# TYPE imprint_%s gauge\nimprint_%s %" PRId64 "\n",
                name, help, name, name, value);
}

void metrics_write(struct metrics *metrics, struct cloud *cloud, struct im_str *out) {
    struct cloud_health health = {0};

    cloud_health(cloud, &health);
    write_counts(metrics, out);
    write_times(metrics, out);
    gauge(out, "database_up", "1 when the record answers.", health.db_ok);
    gauge(out, "hypervisor_up", "1 when the hypervisor answers.", health.virt_ok);
    gauge(out, "pool_up", "1 when the storage pool answers.", health.pool_ok);
    gauge(out, "images", "Images that are not ceased.", health.images);
    gauge(out, "instances_running", "Running instances.", health.instances_running);
    gauge(out, "instances_stopped", "Stopped instances.", health.instances_stopped);
    gauge(out, "jobs_working", "Jobs that are not finished.", health.jobs_working);
    gauge(out, "pool_total_bytes", "Size of the storage pool.", (int64_t) health.space.total_bytes);
    gauge(out, "pool_free_bytes", "Free bytes of the storage pool.",
          (int64_t) health.space.free_bytes);
}
