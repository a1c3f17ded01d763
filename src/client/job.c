/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for a job: asks ever less often, and through a restart of the server. */
#include "client-private.h"

#include <string.h>

#include "base/clock.h"

enum {
    POLL_FIRST_MS = 100,
    POLL_LAST_MS = 1000,
    AWAY_MAX_MS = 120000, /* jobs survive a restart of imprintd, so we wait for it to come back */
};

void client_job_read(const struct wire_value *value, struct client_job *ret_job) {
    const char *status = wire_get_text(value, "status", "");
    const struct wire_value *items = wire_get(value, "items");

    *ret_job = (struct client_job){
        .job_id = wire_get_text(value, "job_id", ""),
        .action = wire_get_text(value, "job_action", ""),
        .status = status,
        .resource_ids = wire_get_text(value, "resource_ids", ""),
        .error_message = wire_get_text(value, "error_message", ""),
        .done_bytes = wire_get_int(value, "done_bytes", 0),
        .total_bytes = wire_get_int(value, "total_bytes", 0),
        .rate_bytes = wire_get_int(value, "rate_bytes", 0),
        .items = wire_count(items),
        .over = strcmp(status, "pending") != 0 && strcmp(status, "working") != 0,
    };
    for (size_t i = 0; i < wire_count(items); i++) {
        const char *item = wire_get_text(wire_at(items, i), "status", "");

        ret_job->items_over += strcmp(item, "done") == 0 || strcmp(item, "failed") == 0;
    }
}

/* Sleeps in pieces, so that an interrupt is seen at once and whoever watches can show that we live.
 */
static void pause_for(const struct client *client, int64_t ms, client_job_seen seen, void *context,
                      const struct client_job *job) {
    int64_t until = im_mono_ms() + ms;

    while (!client_interrupted(client) && im_mono_ms() < until) {
        int64_t left = until - im_mono_ms();

        im_sleep_ms(left < 100 ? left : 100);
        if (seen != NULL)
            seen(context, job);
    }
}

/* A proxy answers for a server that is away. */
static bool away(const struct client *client) {
    return client_line_failed(client) || client->fault == CLIENT_FOREIGN;
}

/* One look at the job. *ret_doc stays NULL when the server is away, which *away_since_ms then
 * tells. */
static bool look(struct client *client, const char *job_id, int64_t *away_since_ms,
                 struct wire_doc **ret_doc, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    int64_t now_ms = im_mono_ms();

    client_param(&params, "jobs.1", job_id);
    client_param(&params, "verbose", "1");
    if (client_call(client, "DescribeJobs", &params, ret_doc, err)) {
        *away_since_ms = 0;
        return true;
    }
    if (err->code == IM_CANCELLED || (!away(client) && err->code != IM_BUSY))
        return false;
    if (*away_since_ms == 0)
        *away_since_ms = now_ms;
    if (now_ms - *away_since_ms > AWAY_MAX_MS)
        return im_within(err, "lost sight of job %s", job_id);
    return true;
}

bool client_wait_job(struct client *client, const char *job_id, client_job_seen seen, void *context,
                     int64_t timeout_ms, struct wire_doc **ret_doc, struct im_err *err) {
    int64_t deadline = timeout_ms > 0 ? im_mono_ms() + timeout_ms : INT64_MAX;
    int64_t wait_ms = POLL_FIRST_MS, away_since_ms = 0;

    for (;;) {
        IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
        struct client_job job = {.job_id = job_id, .unreachable = true};

        if (!look(client, job_id, &away_since_ms, &doc, err))
            return false;
        if (doc != NULL) {
            const struct wire_value *set = wire_get(wire_root(doc), "job_set");

            if (wire_count(set) == 0)
                return im_fail(err, IM_NOT_FOUND, "job %s does not exist", job_id);
            client_job_read(wire_at(set, 0), &job);
        }
        if (seen != NULL)
            seen(context, &job);
        if (job.over) {
            if (ret_doc != NULL)
                *ret_doc = im_steal(&doc);
            return true;
        }
        if (im_mono_ms() >= deadline)
            return im_fail(err, IM_TIMEOUT, "job %s is not over yet; it goes on", job_id);
        pause_for(client, wait_ms, seen, context, &job);
        if (client_interrupted(client))
            return im_fail(err, IM_CANCELLED, "interrupted");
        wait_ms = wait_ms * 3 / 2 > POLL_LAST_MS ? POLL_LAST_MS : wait_ms * 3 / 2;
    }
}
