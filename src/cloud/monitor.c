/* SPDX-License-Identifier: Apache-2.0 */
/* Monitoring: a thread that reads all machines' counters now and then, the rows their averages are
 * kept in, and the series that are asked for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "monitor-private.h"

enum { WRITES_AT_ONCE = 100, SWEEP_S = 3600 };

struct monitor {
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t wake;
    pthread_t thread;
    bool runs, stop;
    struct monitor_set open; /* buckets that are not over */
};

/* --- Writing ---------------------------------------------------------------------------------- */

static bool block_load(struct db_conn *conn, const char *id, int64_t step, int64_t start,
                       struct monitor_block *block, struct im_err *err) {
    IM_AUTO(db_rows_free_auto)
    struct db_rows *rows = db_query(conn, err,
                                    "SELECT data FROM monitor_blocks WHERE resource_id = $1"
                                    " AND step = $2 AND start = $3",
                                    "tii", id, step, start);
    bool more = false;

    if (rows == NULL || !db_next(rows, &more, err))
        return false;
    if (more)
        monitor_block_read(block, db_text(rows, 0));
    return true;
}

/* Only for what still exists: its rows go in the transaction that ends it. */
static bool block_store(struct db_conn *conn, const char *id, int64_t step, int64_t start,
                        const struct monitor_block *block, struct im_err *err) {
    IM_AUTO(free_auto) char *text = monitor_block_text(block);

    return db_exec(
        conn, NULL, err,
        "INSERT INTO monitor_blocks (resource_id, step, start, data)"
        " SELECT $1, $2, $3, $4 WHERE EXISTS (SELECT 1 FROM instances"
        " WHERE instance_id = $1 AND status <> 'ceased') OR EXISTS (SELECT 1 FROM volumes"
        " WHERE volume_id = $1 AND status <> 'ceased')"
        " ON CONFLICT (resource_id, step, start) DO UPDATE SET data = excluded.data",
        "tiit", id, step, start, text);
}

static bool write_one(struct db_conn *conn, const struct monitored *item, struct im_err *err) {
    IM_AUTO(monitor_block_done) struct monitor_block fine = {0}, coarse = {0};
    int64_t fine_start = item->bucket - item->bucket % MONITOR_FINE_BLOCK_S;
    int64_t coarse_start = item->bucket - item->bucket % MONITOR_COARSE_BLOCK_S;
    size_t slot = (size_t) ((item->bucket - fine_start) / MONITOR_FINE_S);
    size_t coarse_slot = (size_t) ((fine_start - coarse_start) / MONITOR_COARSE_S);

    if (!block_load(conn, item->id, MONITOR_FINE_S, fine_start, &fine, err) ||
        !block_load(conn, item->id, MONITOR_COARSE_S, coarse_start, &coarse, err))
        return false;
    for (size_t i = 0; i < item->gauge_count; i++)
        monitor_block_put(&fine, item->gauges[i].meter, slot, gauge_value(&item->gauges[i]));
    /* A row of the fine grain is one slot of the coarse one: its mean so far. */
    for (size_t i = 0; i < fine.count; i++)
        monitor_block_set(&coarse, fine.items[i].meter, coarse_slot,
                          monitor_mean(fine.items[i].slots, fine.items[i].count));
    return block_store(conn, item->id, MONITOR_FINE_S, fine_start, &fine, err) &&
           block_store(conn, item->id, MONITOR_COARSE_S, coarse_start, &coarse, err);
}

struct some {
    const struct monitored *items;
    size_t count;
};

static bool write_some(struct db_conn *conn, void *arg, struct im_err *err) {
    const struct some *some = arg;

    for (size_t i = 0; i < some->count; i++)
        if (!write_one(conn, &some->items[i], err))
            return false;
    return true;
}

/* In several transactions, so that nobody waits long for the record. */
static void write_done(struct cloud *cloud, const struct monitor_set *done) {
    for (size_t at = 0; at < done->count; at += WRITES_AT_ONCE) {
        size_t left = done->count - at;
        struct some some = {&done->items[at], left < WRITES_AT_ONCE ? left : WRITES_AT_ONCE};
        struct im_err err = {0};

        if (!cloud_transact(cloud, write_some, &some, &err))
            im_warn("cloud", "monitoring: five minutes of %zu resources are lost: %s", some.count,
                    err.text);
    }
}

static bool sweep_body(struct db_conn *conn, void *arg, struct im_err *err) {
    int64_t now_s = *(const int64_t *) arg;

    return db_exec(conn, NULL, err, "DELETE FROM monitor_blocks WHERE step = $1 AND start < $2",
                   "ii", (int64_t) MONITOR_FINE_S,
                   now_s - MONITOR_FINE_KEPT_S - MONITOR_FINE_BLOCK_S) &&
           db_exec(conn, NULL, err, "DELETE FROM monitor_blocks WHERE step = $1 AND start < $2",
                   "ii", (int64_t) MONITOR_COARSE_S,
                   now_s - MONITOR_COARSE_KEPT_S - MONITOR_COARSE_BLOCK_S);
}

bool monitor_forget(struct db_conn *conn, const char *id, struct im_err *err) {
    return db_exec(conn, NULL, err, "DELETE FROM monitor_blocks WHERE resource_id = $1", "t", id);
}

/* --- The thread ------------------------------------------------------------------------------- */

void monitor_round(struct cloud *cloud, int64_t now_s, int64_t mono_ms, bool last) {
    IM_AUTO(monitor_set_done) struct monitor_set done = {0};
    struct virt_stats *stats = NULL;
    struct im_err err = {0};
    size_t count = 0;

    if (!last && !virt_stats(cloud->config.virt, &stats, &count, &err))
        im_debug("cloud", "monitoring: %s", err.text);
    pthread_mutex_lock(&cloud->monitor->lock);
    monitor_take(&cloud->monitor->open, stats, count, now_s, mono_ms);
    monitor_ripe(&cloud->monitor->open, now_s, last, &done);
    pthread_mutex_unlock(&cloud->monitor->lock);
    virt_stats_free(stats, count);
    write_done(cloud, &done);
    err = (struct im_err){0};
    if (now_s % SWEEP_S < cloud->config.monitor_interval_s &&
        !cloud_transact(cloud, sweep_body, &now_s, &err))
        im_warn("cloud", "monitoring: old series are dropped later: %s", err.text);
}

/* Sleeps until the wall clock shows a multiple of the interval; false when it is to end. */
static bool wait_turn(struct cloud *cloud) {
    struct monitor *monitor = cloud->monitor;
    int64_t interval = cloud->config.monitor_interval_s, now = im_now_s();
    struct timespec until = {.tv_sec = now - now % interval + interval};
    bool stop;

    pthread_mutex_lock(&monitor->lock);
    while (!monitor->stop && pthread_cond_timedwait(&monitor->wake, &monitor->lock, &until) == 0)
        ;
    stop = monitor->stop;
    pthread_mutex_unlock(&monitor->lock);
    return !stop;
}

static void *monitor_main(void *arg) {
    struct cloud *cloud = arg;

    do
        monitor_round(cloud, im_now_s(), im_mono_ms(), false);
    while (wait_turn(cloud));
    return NULL;
}

struct monitor *monitor_new(void) {
    struct monitor *monitor = im_alloc(sizeof(*monitor));

    pthread_mutex_init(&monitor->lock, NULL);
    pthread_cond_init(&monitor->wake, NULL);
    return monitor;
}

bool monitor_start(struct cloud *cloud, struct im_err *err) {
    int rc;

    if (cloud->config.monitor_interval_s <= 0)
        return true;
    rc = pthread_create(&cloud->monitor->thread, NULL, monitor_main, cloud);
    if (rc != 0)
        return im_fail_sys(err, rc, "cannot start the monitoring thread");
    cloud->monitor->runs = true;
    return true;
}

void monitor_stop(struct cloud *cloud) {
    struct monitor *monitor = cloud->monitor;

    pthread_mutex_lock(&monitor->lock);
    monitor->stop = true;
    pthread_cond_signal(&monitor->wake);
    pthread_mutex_unlock(&monitor->lock);
    if (monitor->runs) {
        pthread_join(monitor->thread, NULL);
        monitor_round(cloud, im_now_s(), im_mono_ms(), true);
    }
    monitor_set_done(&monitor->open);
    pthread_cond_destroy(&monitor->wake);
    pthread_mutex_destroy(&monitor->lock);
    free(monitor);
}

/* --- Reading ---------------------------------------------------------------------------------- */

/* Where a meter's values are kept: volumes have series of their own, wherever they are attached. */
static void kept_as(const char *resource, const char *meter, const char **ret_id,
                    const char **ret_meter) {
    *ret_id = resource;
    *ret_meter = meter;
    if (im_starts_with(meter, "disk-iops-vol-")) {
        *ret_id = meter + strlen("disk-iops-");
        *ret_meter = "disk-iops";
    } else if (im_starts_with(meter, "disk-vol-")) {
        *ret_id = meter + strlen("disk-");
        *ret_meter = "disk";
    }
}

/* Adds what is kept of one meter: the mean of the kept slots within each of the view's. */
static bool read_rows(struct db_conn *conn, const char *id, const char *meter, int64_t grain,
                      int64_t block_s, struct meter_view *view, struct monitor_block *sums,
                      struct im_err *err) {
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    int64_t end = view->start + (int64_t) view->count * view->step;
    bool more = false;

    rows = db_query(conn, err,
                    "SELECT start, data FROM monitor_blocks WHERE resource_id = $1 AND step = $2"
                    " AND start > $3 AND start < $4 ORDER BY start",
                    "tiii", id, grain, view->start - block_s, end);
    while (rows != NULL && db_next(rows, &more, err) && more) {
        IM_AUTO(monitor_block_done) struct monitor_block block = {0};
        const struct series *series;

        monitor_block_read(&block, db_text(rows, 1));
        series = monitor_block_find(&block, meter);
        for (size_t i = 0; series != NULL && i < series->count; i++) {
            int64_t at = db_int(rows, 0) + (int64_t) i * grain;

            if (at >= view->start && at < end && series->slots[i].known)
                monitor_block_set(sums, "", (size_t) ((at - view->start) / grain),
                                  series->slots[i]);
        }
    }
    return rows != NULL && err->code == IM_OK;
}

static void read_open(struct cloud *cloud, const char *id, const char *meter, int64_t grain,
                      const struct meter_view *view, struct monitor_block *sums) {
    const struct monitored *item;
    int64_t end = view->start + (int64_t) view->count * view->step;

    pthread_mutex_lock(&cloud->monitor->lock);
    item = monitor_set_find(&cloud->monitor->open, id);
    for (size_t i = 0; item != NULL && i < item->gauge_count; i++)
        if (strcmp(item->gauges[i].meter, meter) == 0 && item->bucket >= view->start &&
            item->bucket < end)
            monitor_block_put(sums, "", (size_t) ((item->bucket - view->start) / grain),
                              gauge_value(&item->gauges[i]));
    pthread_mutex_unlock(&cloud->monitor->lock);
}

static bool read_meter(struct cloud *cloud, struct db_conn *conn, const char *resource,
                       struct meter_view *view, struct im_err *err) {
    IM_AUTO(monitor_block_done) struct monitor_block sums = {0};
    bool coarse = view->step >= MONITOR_COARSE_S;
    int64_t grain = coarse ? MONITOR_COARSE_S : MONITOR_FINE_S;
    size_t group = (size_t) (view->step / grain);
    const struct series *series;
    const char *id, *meter;

    kept_as(resource, view->meter, &id, &meter);
    if (!read_rows(conn, id, meter, grain, coarse ? MONITOR_COARSE_BLOCK_S : MONITOR_FINE_BLOCK_S,
                   view, &sums, err))
        return false;
    read_open(cloud, id, meter, grain, view, &sums);
    series = monitor_block_find(&sums, "");
    view->values = im_alloc((view->count + 1) * sizeof(*view->values));
    for (size_t i = 0; series != NULL && i < view->count && i * group < series->count; i++) {
        size_t left = series->count - i * group;

        view->values[i] = monitor_mean(&series->slots[i * group], left < group ? left : group);
    }
    return true;
}

static bool meter_known(const char *meter) {
    static const char *const begins[] = {"disk-", "if-", "traffic", "flow", "vxnet-"};

    if (strcmp(meter, "cpu") == 0 || strcmp(meter, "memory") == 0)
        return true;
    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
        if (im_starts_with(meter, begins[i]))
            return true;
    return false;
}

/* The caller may see the resource, and the volumes that the meters name. */
static bool may_read(struct db_conn *conn, const struct caller *caller, const char *resource,
                     const char *meter, struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;
    const char *id, *kept;

    if (!meter_known(meter) || strlen(meter) >= MONITOR_NAME_MAX)
        return im_fail(err, IM_BAD_MESSAGE, "meter [%.60s] is not known", meter);
    kept_as(resource, meter, &id, &kept);
    if (id != resource && strcmp(id, resource) != 0 && !volume_load(conn, caller, id, &volume, err))
        return false;
    if (volume != NULL && !im_str_equal(volume->instance_id, resource))
        return im_fail(err, IM_NOT_FOUND, "volume [%s] is not attached to [%s]", id, resource);
    volume_free(im_steal(&volume));
    return im_starts_with(resource, "vol-") ? volume_load(conn, caller, resource, &volume, err)
                                            : instance_load(conn, caller, resource, &instance, err);
}

static bool name_card(struct db_conn *conn, struct meter_view *view, struct im_err *err) {
    IM_AUTO(nic_free_auto) struct nic *nic = NULL;
    struct im_err missing = {0};

    if (!im_starts_with(view->meter, "if-"))
        return true;
    view->mac = view->meter + 3;
    if (!record_get(conn, &nic_type, view->mac, &nic, &missing)) {
        *err = missing.code == IM_NOT_FOUND ? *err : missing;
        return missing.code == IM_NOT_FOUND;
    }
    view->vxnet_id = im_strdup(nic->vxnet_id ? nic->vxnet_id : "");
    view->sequence = nic->sequence;
    return true;
}

bool cloud_monitor(struct cloud *cloud, const struct caller *caller, const char *resource,
                   const struct im_strings *meters, const struct monitor_span *span,
                   struct monitor_view *ret_view, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(monitor_view_done) struct monitor_view view = {0};
    int64_t now_s = im_now_s();
    int64_t kept = span->step_s >= MONITOR_COARSE_S ? MONITOR_COARSE_KEPT_S : MONITOR_FINE_KEPT_S;
    int64_t end = span->end_s < now_s ? span->end_s : now_s;
    int64_t start = span->start_s > now_s - kept ? span->start_s : now_s - kept;

    if (conn == NULL)
        return false;
    if (span->start_s >= span->end_s)
        return im_fail(err, IM_BAD_MESSAGE, "start_time should be before end_time");
    view.resource_id = im_strdup(resource);
    view.meters = im_alloc((meters->count + 1) * sizeof(*view.meters));
    start -= start % span->step_s;
    for (size_t i = 0; i < meters->count; i++) {
        struct meter_view *meter = &view.meters[view.count++];

        meter->meter = im_strdup(meters->items[i]);
        meter->start = start;
        meter->step = span->step_s;
        meter->count = end > start ? (size_t) ((end - start + span->step_s - 1) / span->step_s) : 0;
        if (!may_read(conn, caller, resource, meter->meter, err) || !name_card(conn, meter, err) ||
            !read_meter(cloud, conn, resource, meter, err))
            return false;
    }
    *ret_view = view;
    view = (struct monitor_view){0};
    return true;
}

void monitor_view_done(struct monitor_view *view) {
    for (size_t i = 0; i < view->count; i++) {
        free(view->meters[i].meter);
        free(view->meters[i].vxnet_id);
        free(view->meters[i].values);
    }
    free(view->meters);
    free(view->resource_id);
    *view = (struct monitor_view){0};
}
