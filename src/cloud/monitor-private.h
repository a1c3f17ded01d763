/* SPDX-License-Identifier: Apache-2.0 */
/* Series of what machines use: counters become averages of five minutes, which are kept in blocks
 * of text, one row each, and averaged again for what lies further back. Only the last part does
 * I/O.
 */
#ifndef CLOUD_MONITOR_PRIVATE_H
#define CLOUD_MONITOR_PRIVATE_H

#include <pthread.h>

#include "base/str.h"
#include "cloud-private.h"

/* Two grains are kept: 5 minutes for 15 days in rows of 2 hours, and 2 hours for 180 days in rows
 * of 4 days. */
enum {
    MONITOR_FINE_S = 300,
    MONITOR_FINE_BLOCK_S = 7200,
    MONITOR_FINE_KEPT_S = 15 * 86400,
    MONITOR_COARSE_S = 7200,
    MONITOR_COARSE_BLOCK_S = 4 * 86400,
    MONITOR_COARSE_KEPT_S = 180 * 86400,
    MONITOR_NAME_MAX = 48,
};

/* A meter with its values in slots of one length; pairs are [in, out] or [read, write]. */
struct series {
    char meter[MONITOR_NAME_MAX];
    struct monitor_value *slots;
    size_t count; /* slots; those behind are unknown */
};
struct monitor_block {
    struct series *items;
    size_t count, capacity;
};
void monitor_block_done(struct monitor_block *block);
/* Puts a value; one that is there already is averaged with it. */
void monitor_block_put(struct monitor_block *block, const char *meter, size_t slot,
                       struct monitor_value value);
/* The same, in place of what is there. */
void monitor_block_set(struct monitor_block *block, const char *meter, size_t slot,
                       struct monitor_value value);
const struct series *monitor_block_find(const struct monitor_block *block, const char *meter);
/* "METER V V/V - V" lines. Text is owned. What cannot be read is left out. */
char *monitor_block_text(const struct monitor_block *block);
void monitor_block_read(struct monitor_block *block, const char *text);
/* The mean of the known values; unknown if there is none. */
struct monitor_value monitor_mean(const struct monitor_value *values, size_t count);

/* What was counted of one resource within the bucket that is open. */
struct gauge {
    char meter[MONITOR_NAME_MAX];
    bool pair;
    double a, b, weight;
};
struct counter {
    char meter[MONITOR_NAME_MAX];
    uint64_t a, b;
};
struct monitored {
    char id[64];
    uint64_t run;
    int64_t seen_ms; /* monotonic; 0 = no sample to compare with */
    int64_t bucket;  /* start of the open one, seconds */
    struct counter *counters;
    size_t counter_count, counter_capacity;
    struct gauge *gauges;
    size_t gauge_count, gauge_capacity;
};
struct monitor_set {
    struct monitored *items;
    size_t count, capacity;
};
void monitor_set_done(struct monitor_set *set);
const struct monitored *monitor_set_find(const struct monitor_set *set, const char *id);
struct monitor_value gauge_value(const struct gauge *gauge);
/* Takes one round of counters in, at wall clock now_s and monotonic mono_ms. */
void monitor_take(struct monitor_set *set, const struct virt_stats *stats, size_t count,
                  int64_t now_s, int64_t mono_ms);
/* Hands over buckets that are over (all: every one, as at the end), and forgets what has not been
 * seen since; ret_done is a set to write and free. */
void monitor_ripe(struct monitor_set *set, int64_t now_s, bool all, struct monitor_set *ret_done);

/* --- With I/O (monitor.c) ----------------------------------------------------------------------
 */

struct monitor {
    pthread_mutex_t lock; /* of stop, open and writing */
    pthread_cond_t wake;
    pthread_t thread;
    bool runs, stop;
    struct monitor_set open;    /* buckets that are not over */
    struct monitor_set writing; /* those that are, until their rows are written */
    bool blind;                 /* the hypervisor did not answer; this and below are the thread's */
    int64_t swept;              /* hour in which old rows were dropped */
};
/* Adds what the row of this grain and start holds; nothing when there is none. */
bool monitor_block_load(struct db_conn *conn, const char *id, int64_t step, int64_t start,
                        struct monitor_block *block, struct im_err *err) IM_MUST_CHECK;

#endif
