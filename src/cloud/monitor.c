/* SPDX-License-Identifier: Apache-2.0 */
/* Monitoring: a thread that reads all machines' counters now and then, and the rows that their
 * averages are kept in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "monitor-private.h"

enum { WRITES_AT_ONCE = 100, SWEEP_S = 3600 };

/* --- Writing ---------------------------------------------------------------------------------- */

bool monitor_block_load(struct db_conn *conn, const char *id, int64_t step, int64_t start,
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

    if (!monitor_block_load(conn, item->id, MONITOR_FINE_S, fine_start, &fine, err) ||
        !monitor_block_load(conn, item->id, MONITOR_COARSE_S, coarse_start, &coarse, err))
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

static void sweep(struct cloud *cloud, int64_t now_s) {
    struct im_err err = {0};

    if (cloud_transact(cloud, sweep_body, &now_s, &err))
        cloud->monitor->swept = now_s / SWEEP_S;
    else
        im_warn("cloud", "monitoring: old series are dropped later: %s", err.text);
}

/* --- The thread ------------------------------------------------------------------------------- */

/* A hypervisor that is away leaves a gap; said when it begins and when it is over. */
static void see(struct monitor *monitor, bool seen, const struct im_err *err) {
    if (!seen && !monitor->blind)
        im_warn("cloud", "monitoring: a gap in all series begins: %s", err->text);
    if (seen && monitor->blind)
        im_info("cloud", "monitoring: machines are seen again");
    monitor->blind = !seen;
}

void monitor_round(struct cloud *cloud, int64_t now_s, int64_t mono_ms, bool last) {
    struct monitor *monitor = cloud->monitor;
    struct virt_stats *stats = NULL;
    struct im_err err = {0};
    size_t count = 0;

    if (!last)
        see(monitor, virt_stats(cloud->config.virt, &stats, &count, &err), &err);
    pthread_mutex_lock(&monitor->lock);
    monitor_take(&monitor->open, stats, count, now_s, mono_ms);
    monitor_ripe(&monitor->open, now_s, last, &monitor->writing);
    pthread_mutex_unlock(&monitor->lock);
    virt_stats_free(stats, count);
    write_done(cloud, &monitor->writing);
    pthread_mutex_lock(&monitor->lock);
    monitor_set_done(&monitor->writing);
    pthread_mutex_unlock(&monitor->lock);
    if (!last && now_s / SWEEP_S != monitor->swept)
        sweep(cloud, now_s);
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
