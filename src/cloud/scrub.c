/* SPDX-License-Identifier: Apache-2.0 */
/* Frozen layers are read again and again, at a bounded rate: the first time for their digest, later
 * to see whether they still have it. One that has rotted is marked, so that nothing new is made
 * from it, and put right from the second pool where a copy has the bytes that it had. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "cloud-private.h"

enum { CANDIDATES = 64, IDLE_MS = 10000, SKIP_MS = 3600000, NAMED_MAX = 5 };

/* --- Putting right ---------------------------------------------------------------------------- */

struct healing {
    struct cloud *cloud;
    const char *layer_id;
    const struct layer_copy *copy;
};

static bool repaired_body(struct db_conn *conn, void *arg, struct im_err *err) {
    const struct healing *repair = arg;
    struct layer layer = {.layer_id = (char *) repair->layer_id,
                          .file_digest = (char *) repair->copy->digest,
                          .checked_time = im_now_s()};

    return record_update_fields(conn, &layer_type, &layer,
                                (const char *const[]){"file_digest", "checked_time", NULL}, err) &&
           damage_set(conn, repair->layer_id, "", err);
}

/* Does the copy stand for the very bytes that the layer had? One of another parent shows the same,
 * but needs its own chain: that is what RestoreSnapshots brings. */
static bool copy_fits(struct cloud *cloud, const struct layer *layer, const struct layer_copy *copy,
                      struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(layer_free_auto) struct layer *row = NULL;
    IM_AUTO(layer_free_auto) struct layer *parent = NULL;

    if (conn == NULL || !record_get(conn, &layer_type, layer->layer_id, &row, err) ||
        (row->parent_id != NULL && !record_get(conn, &layer_type, row->parent_id, &parent, err)))
        return false;
    if (im_str_empty(row->file_digest) ? strcmp(copy->parent, parent ? parent->name : "") == 0
                                       : strcmp(copy->digest, row->file_digest) == 0)
        return true;
    return im_fail(err, IM_UNSUPPORTED,
                   "the copy of it in the second pool has another parent, as layers were merged "
                   "since; RestoreSnapshots brings it back with that");
}

static bool repair_from(struct cloud *cloud, struct storage_pool *second, const struct layer *layer,
                        const volatile bool *cancel, struct im_err *err) {
    struct layer_copy copy;
    struct healing repair = {cloud, layer->layer_id, &copy};
    struct stream stream = {.cancel = cancel};
    IM_AUTO(fd_auto) int fd = -1;
    bool brought;

    if (!layer_copy_get(second, layer->name, &copy, err) || !copy_fits(cloud, layer, &copy, err) ||
        !layer_claim(cloud, layer->name, cancel, err))
        return false;
    brought = layer_fetch(cloud, second, &copy, &stream, &fd, err) &&
              storage_put_end(cloud->config.pool, copy.name, copy.parent, fd, err);
    layer_release(cloud, layer->name);
    return brought && cloud_transact(cloud, repaired_body, &repair, err);
}

/* False when there is nothing to repair it from; the log has the reason. */
static bool repair(struct cloud *cloud, const struct layer *layer, const volatile bool *cancel) {
    IM_AUTO(storage_close_auto) struct storage_pool *second = NULL;
    struct im_err err = {0};
    bool repaired;

    if (im_str_empty(cloud->config.second_uri))
        return false;
    if (!second_open(cloud, &second, &err) || !second_enter(cloud, cancel, &err)) {
        if (im_str_empty(layer->damage))
            im_error("scrub", "layer %s stays damaged: %s", layer->layer_id, err.text);
        return false;
    }
    repaired = repair_from(cloud, second, layer, cancel, &err);
    second_leave(cloud, second, false);
    if (repaired)
        im_warn("scrub",
                "layer %s was put right from the second pool; machines that had it open read the "
                "old file until they are started again",
                layer->layer_id);
    else if (im_str_empty(layer->damage)) /* else it has been said */
        im_error("scrub", "layer %s stays damaged: %s", layer->layer_id, err.text);
    return repaired;
}

/* --- One layer -------------------------------------------------------------------------------- */

bool trouble_is_rot(const struct im_err *trouble) {
    return trouble->code == IM_NOT_FOUND || trouble->code == IM_BAD_IMAGE || trouble->sys == EIO;
}

bool layer_judge(struct cloud *cloud, const struct layer *layer, struct stream *stream,
                 enum verdict *ret_verdict, struct im_err *err) {
    struct reading_since since = reading_begin(cloud);
    char digest[DIGEST_TEXT] = "";
    struct im_err trouble = {0};
    bool whole = layer_read(cloud->config.pool, layer->name, stream, digest, &trouble);

    if (!whole && !trouble_is_rot(&trouble)) {
        *err = trouble;
        return false;
    }
    return reading_judge(cloud, layer->layer_id, &since, digest, whole ? NULL : &trouble,
                         ret_verdict, err);
}

/* *ret_verdict is VERDICT_BAD only if it stays damaged. */
static bool scrub_layer(struct cloud *cloud, const struct layer *layer, struct stream *stream,
                        enum verdict *ret_verdict, struct im_err *err) {
    if (!layer_judge(cloud, layer, stream, ret_verdict, err))
        return false;
    if (*ret_verdict == VERDICT_BAD && repair(cloud, layer, stream->cancel))
        *ret_verdict = VERDICT_GOOD;
    return true;
}

/* --- By itself -------------------------------------------------------------------------------- */

#define DUE                                                                                        \
    "SELECT layer_id FROM layers WHERE pool = $1 AND state = 'frozen'"                             \
    " AND (COALESCE(file_digest, '') = '' OR checked_time < $2 OR damage <> '')"                   \
    " ORDER BY CASE WHEN COALESCE(file_digest, '') = '' THEN 0 ELSE 1 END, checked_time, layer_id" \
    " LIMIT $3"

/* The layer whose turn it is; NULL if none is. Damaged ones are tried again now and then: their
 * files, or the second pool, may be there again. */
static bool next_due(struct cloud *cloud, const struct im_strings *skipped,
                     struct layer **ret_layer, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    IM_AUTO(free_auto) char *id = NULL;
    bool more = true;

    *ret_layer = NULL;
    if (conn == NULL)
        return false;
    rows = db_query(conn, err, DUE, "tii", storage_uri(cloud->config.pool),
                    im_now_s() - cloud->config.scrub_interval_s,
                    (int64_t) (CANDIDATES + skipped->count));
    if (rows == NULL)
        return false;
    while (id == NULL && more) {
        if (!db_next(rows, &more, err))
            return false;
        if (more && !im_strings_has(skipped, db_text(rows, 0)))
            id = im_strdup(db_text(rows, 0));
    }
    db_rows_free(im_steal(&rows));
    return id == NULL || record_get(conn, &layer_type, id, ret_layer, err);
}

static void rest(struct cloud *cloud, int64_t ms) {
    struct timespec until = im_wall_after(ms);

    pthread_mutex_lock(&cloud->lock);
    if (!cloud->scrub_stop)
        pthread_cond_timedwait(&cloud->scrub_wake, &cloud->lock, &until);
    pthread_mutex_unlock(&cloud->lock);
}

/* What cannot be read just now is left out for a while. */
static void scrub_one(struct cloud *cloud, struct im_strings *skipped) {
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;
    struct stream stream = {.rate_bytes = cloud->config.scrub_rate_bytes,
                            .cancel = &cloud->scrub_stop};
    enum verdict verdict = VERDICT_STALE;
    struct im_err err = {0};

    if (!next_due(cloud, skipped, &layer, &err)) {
        im_warn("scrub", "layers are read later: %s", err.text);
        rest(cloud, IDLE_MS);
        return;
    }
    if (layer == NULL) {
        rest(cloud, IDLE_MS);
        return;
    }
    if (!scrub_layer(cloud, layer, &stream, &verdict, &err) && err.code != IM_CANCELLED)
        im_warn("scrub", "layer %s is read later: %s", layer->layer_id, err.text);
    if (verdict != VERDICT_GOOD)
        im_strings_add(skipped, layer->layer_id);
}

static void *thread_main(void *arg) {
    struct cloud *cloud = arg;
    IM_AUTO(im_strings_done) struct im_strings skipped = {0};
    int64_t forget_ms = im_mono_ms() + SKIP_MS;

    while (!cloud->scrub_stop) {
        if (im_mono_ms() >= forget_ms) {
            im_strings_done(&skipped);
            forget_ms = im_mono_ms() + SKIP_MS;
        }
        scrub_one(cloud, &skipped);
    }
    return NULL;
}

bool scrub_start(struct cloud *cloud, struct im_err *err) {
    int rc;

    if (cloud->config.scrub_rate_bytes <= 0)
        return true;
    rc = pthread_create(&cloud->scrubber, NULL, thread_main, cloud);
    if (rc != 0)
        return im_fail_sys(err, rc, "cannot start the thread that reads layers");
    cloud->scrub_runs = true;
    return true;
}

void scrub_stop(struct cloud *cloud) {
    pthread_mutex_lock(&cloud->lock);
    cloud->scrub_stop = true;
    pthread_cond_broadcast(&cloud->scrub_wake);
    pthread_mutex_unlock(&cloud->lock);
    if (cloud->scrub_runs)
        pthread_join(cloud->scrubber, NULL);
    cloud->scrub_runs = false;
}

/* --- When an administrator asks --------------------------------------------------------------- */

struct request {
    struct cloud *cloud;
    const struct caller *caller;
    int64_t rate_bytes;
    char job_id[IM_JOB_ID_MAX];
};

static bool order_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct request *request = arg;
    IM_AUTO(free_auto) char *data = im_printf("{\"rate\":%" PRId64 "}", request->rate_bytes);
    struct job_order order = {.resource_id = "pool", .data = data};

    return jobs_add(request->cloud->jobs, conn, "ScrubPool", request->caller->user_id, "", &order,
                    1, request->job_id, err);
}

bool cloud_pool_scrub(struct cloud *cloud, const struct caller *caller, int64_t rate_bytes,
                      char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct request request = {.cloud = cloud,
                              .caller = caller,
                              .rate_bytes = rate_bytes < 0    ? 0
                                            : rate_bytes == 0 ? cloud->config.scrub_rate_bytes
                                                              : rate_bytes};

    if (!caller->admin)
        return im_fail(err, IM_DENIED, "only an administrator scrubs the pool");
    return cloud_order(cloud, order_body, &request, request.job_id, ret_job_id, err);
}

struct scrub {
    struct job_run *run;
    struct cloud *cloud;
    int64_t rate_bytes, done, total;
    int64_t read, damaged;
    struct im_str names; /* of some that are */
};

static void tell_progress(void *arg, uint64_t bytes) {
    struct scrub *scrub = arg;
    int64_t done = scrub->done + (int64_t) bytes;

    jobs_progress(scrub->run, done, done > scrub->total ? done : scrub->total);
}

/* Heads change all the time: of one that was lost it only counts whether it is there again. */
static bool heads_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct cloud *cloud = arg;
    IM_AUTO(query_done) struct query query = {0};
    struct layer **layers = NULL;
    size_t count = 0;
    bool fine = true;

    query_add(&query, "pool", CONDITION_IN, storage_uri(cloud->config.pool));
    query_add(&query, "state", CONDITION_IN, "head");
    if (!record_list(conn, &layer_type, &query, (void ***) &layers, &count, NULL, err))
        return false;
    for (size_t i = 0; i < count && fine; i++) {
        struct storage_usage usage;
        struct im_err gone = {0};

        if (!im_str_empty(layers[i]->damage) &&
            storage_usage(cloud->config.pool, layers[i]->name, &usage, &gone))
            fine = damage_set(conn, layers[i]->layer_id, "", err);
    }
    record_list_free(&layer_type, (void **) layers, count);
    return fine;
}

static bool frozen_layers(struct cloud *cloud, struct layer ***ret_layers, size_t *ret_count,
                          struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(query_done) struct query query = {.ascending = true};

    query_add(&query, "pool", CONDITION_IN, storage_uri(cloud->config.pool));
    query_add(&query, "state", CONDITION_IN, "frozen");
    return conn != NULL &&
           record_list(conn, &layer_type, &query, (void ***) ret_layers, ret_count, NULL, err);
}

static void name_damaged(struct scrub *scrub, const char *layer_id) {
    if (++scrub->damaged <= NAMED_MAX)
        im_str_addf(&scrub->names, "%s%s", scrub->damaged > 1 ? ", " : "", layer_id);
}

/* What an earlier try of this job has read needs no second time. */
static bool scrub_next(struct scrub *scrub, const struct layer *layer, struct im_err *err) {
    struct stream stream = {.rate_bytes = scrub->rate_bytes,
                            .cancel = scrub->run->cancel,
                            .progress = tell_progress,
                            .arg = scrub};
    enum verdict verdict = VERDICT_STALE;
    struct im_err trouble = {0};

    if (layer->checked_time > scrub->run->job->create_time && im_str_empty(layer->damage))
        return true;
    if (!scrub_layer(scrub->cloud, layer, &stream, &verdict, &trouble)) {
        if (trouble.code != IM_UNSUPPORTED) {
            *err = trouble;
            return false;
        }
        verdict = VERDICT_STALE; /* it is being frozen just now */
    }
    scrub->done += (int64_t) stream.bytes;
    scrub->read += verdict != VERDICT_STALE;
    if (verdict == VERDICT_BAD)
        name_damaged(scrub, layer->layer_id);
    return true;
}

static bool scrub_copies(struct scrub *scrub, struct im_strings *bad, struct im_err *err) {
    struct stream stream = {.rate_bytes = scrub->rate_bytes, .cancel = scrub->run->cancel};

    return copies_scrub(scrub->cloud, &stream, bad, err);
}

static bool tell_damage(struct scrub *scrub, const struct im_strings *copies, struct im_err *err) {
    if (scrub->damaged > 0)
        return im_fail(err, IM_BAD_IMAGE,
                       "%" PRId64 " of %" PRId64 " layers are damaged: %s%s; 'imprint pool check' "
                       "says how",
                       scrub->damaged, scrub->read, scrub->names.data,
                       scrub->damaged > NAMED_MAX ? " and others" : "");
    if (copies->count > 0)
        return im_fail(err, IM_BAD_IMAGE,
                       "%zu layer%s damaged in the second pool, %s first; copy the snapshots again "
                       "that 'imprint snapshot copies' calls not whole",
                       copies->count, copies->count == 1 ? " is" : "s are", copies->items[0]);
    return true;
}

static bool scrub_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(im_strings_done) struct im_strings copies = {0};
    struct scrub scrub = {.run = run, .cloud = run->context};
    struct layer **layers = NULL;
    size_t count = 0;
    bool fine = true;

    if (data == NULL || !cloud_transact(scrub.cloud, heads_body, scrub.cloud, err) ||
        !frozen_layers(scrub.cloud, &layers, &count, err))
        return false;
    scrub.rate_bytes = wire_get_int(wire_root(data), "rate", 0);
    for (size_t i = 0; i < count; i++) {
        struct storage_usage usage = {0};
        struct im_err gone = {0};

        if (storage_usage(scrub.cloud->config.pool, layers[i]->name, &usage, &gone))
            scrub.total += (int64_t) usage.own_bytes;
    }
    for (size_t i = 0; i < count && fine; i++)
        fine = scrub_next(&scrub, layers[i], err);
    fine = fine && scrub_copies(&scrub, &copies, err) && tell_damage(&scrub, &copies, err);
    im_str_done(&scrub.names);
    record_list_free(&layer_type, (void **) layers, count);
    return fine;
}

static const struct job_step scrub_steps[] = {{"scrub", scrub_run, NULL, NULL}};
const struct job_verb pool_scrub_verb = {
    .action = "ScrubPool", .steps = scrub_steps, .step_count = 1, .resumes = true, .cancels = true};
