/* SPDX-License-Identifier: Apache-2.0 */
/* RestoreSnapshots: layers of the second pool back into the first, as far as they are not whole
 * there, root first; and points that the record has lost. What is planned is written down with the
 * rows of new layers; a point is usable again when all its layers are there. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "cloud-private.h"

/* --- The request ------------------------------------------------------------------------------ */

struct request {
    struct cloud *cloud;
    const struct caller *caller;
    const struct im_strings *ids;
    char job_id[IM_JOB_ID_MAX];
};

/* Whose a point is that the record has lost stands in its note, which the job reads. */
static bool restorable(const struct request *request, struct db_conn *conn, const char *id,
                       struct im_err *err) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;
    struct im_err missing = {0};

    if (!im_id_valid(id) || !im_starts_with(id, "ss-"))
        return im_fail(err, IM_NOT_FOUND, "snapshot [%.63s] does not exist", id);
    if (record_get(conn, &snapshot_type, id, &snapshot, &missing)) {
        snapshot_free(im_steal(&snapshot));
        return snapshot_load(conn, request->caller, id, &snapshot, err) &&
               snapshot_allows(snapshot, "RestoreSnapshots", err);
    }
    if (missing.code == IM_NOT_FOUND)
        return true;
    *err = missing;
    return false;
}

static bool restore_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct request *request = arg;
    IM_AUTO(free_auto) char *ids = im_strings_join(request->ids, " ");
    struct wire_writer data = {0};
    struct job_order order = {.resource_id = ids};
    bool ordered = true;

    for (size_t i = 0; i < request->ids->count && ordered; i++)
        ordered = restorable(request, conn, request->ids->items[i], err);
    wire_object_begin(&data, NULL);
    wire_text(&data, "caller", request->caller->user_id);
    wire_int(&data, "admin", request->caller->admin);
    wire_object_end(&data);
    order.data = data.text.data;
    ordered = ordered && jobs_add(request->cloud->jobs, conn, "RestoreSnapshots",
                                  request->caller->user_id, "", &order, 1, request->job_id, err);
    im_str_done(&data.text);
    return ordered;
}

bool cloud_snapshots_restore(struct cloud *cloud, const struct caller *caller,
                             const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                             struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings unique = {0};
    struct request request = {.cloud = cloud, .caller = caller, .ids = &unique};

    return second_configured(cloud, err) && ids_unique("snapshots", ids, &unique, err) &&
           cloud_order(cloud, restore_body, &request, request.job_id, ret_job_id, err);
}

/* --- Step 1: what is to be brought back ------------------------------------------------------- */

struct plan {
    struct cloud *cloud;
    struct storage_pool *second;
    struct caller caller;
    struct im_strings names; /* layers that are in it */
    struct wire_writer layers, points;
};

static bool row_by_name(struct cloud *cloud, struct db_conn *conn, const char *name,
                        struct layer **ret_layer, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {.limit = 1};
    void **found = NULL;
    size_t count = 0;

    query_add(&query, "pool", CONDITION_IN, storage_uri(cloud->config.pool));
    query_add(&query, "name", CONDITION_IN, name);
    if (!record_list(conn, &layer_type, &query, &found, &count, NULL, err))
        return false;
    *ret_layer = count > 0 ? found[0] : NULL;
    free(found);
    return true;
}

/* Is the layer frozen and, with all that it stands on, in the pool and not known to be damaged? */
static bool healthy(struct cloud *cloud, struct db_conn *conn, const char *name, bool *ret_healthy,
                    struct im_err *err) {
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;
    struct layer **layers = NULL;
    struct im_err why = {0};
    size_t count = 0;

    *ret_healthy = false;
    if (!row_by_name(cloud, conn, name, &layer, err))
        return false;
    if (layer == NULL || layer->state != LAYER_FROZEN ||
        !layer_usable(conn, layer->layer_id, &why) ||
        !layer_chain(conn, layer->layer_id, &layers, &count, &why)) {
        *err = why;
        return why.code == IM_OK || why.code == IM_WRONG_STATE || why.code == IM_NOT_FOUND;
    }
    *ret_healthy = true;
    for (size_t i = 0; i < count && *ret_healthy; i++) {
        struct storage_usage usage;

        *ret_healthy = storage_usage(cloud->config.pool, layers[i]->name, &usage, &why);
    }
    record_list_free(&layer_type, (void **) layers, count);
    return true;
}

/* Adds what its chain lacks, root first; the nearest layer that is whole here carries the rest. */
static bool plan_chain(struct plan *plan, struct db_conn *conn, const char *tip,
                       struct im_err *err) {
    IM_AUTO(free_auto) struct layer_copy *copies = NULL;
    size_t count = 0, lacking = 0;
    bool whole = false;

    if (!layer_copies_load(plan->second, tip, &copies, &count, err))
        return im_within(err, "second pool");
    while (lacking < count && !whole) {
        if (!healthy(plan->cloud, conn, copies[lacking].name, &whole, err))
            return false;
        lacking += !whole;
    }
    *err = (struct im_err){0};
    for (size_t i = lacking; i > 0; i--) {
        const struct layer_copy *copy = &copies[i - 1];

        if (im_strings_has(&plan->names, copy->name))
            continue;
        im_strings_add(&plan->names, copy->name);
        wire_object_begin(&plan->layers, NULL);
        layer_copy_write(&plan->layers, copy);
        wire_object_end(&plan->layers);
    }
    return true;
}

/* A point that the record does not know belongs to whom its note names. */
static bool may_have(const struct plan *plan, struct db_conn *conn, struct snapshot *snapshot,
                     struct im_err *err) {
    IM_AUTO(user_free_auto) struct user *owner = NULL;
    struct im_err gone = {0};

    if (!plan->caller.admin && !im_str_equal(snapshot->owner, plan->caller.user_id))
        return im_fail(err, IM_NOT_FOUND, "snapshot [%s] does not exist", snapshot->snapshot_id);
    if (im_id_valid(snapshot->owner) &&
        record_get(conn, &user_type, snapshot->owner, &owner, &gone))
        return true;
    /* Users were lost with the record. */
    im_replace(&snapshot->owner, plan->caller.user_id);
    return true;
}

static bool plan_point(struct plan *plan, struct db_conn *conn, const char *id,
                       struct im_err *err) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;
    IM_AUTO(snapshot_free_auto) struct snapshot *row = NULL;
    struct im_err unknown = {0};
    char tip[IM_ID_MAX];

    if (!snapshot_copy_get(plan->second, id, &snapshot, tip, err))
        return err->code == IM_NOT_FOUND
                   ? im_fail(err, IM_NOT_FOUND, "snapshot [%s] has no copy in the second pool", id)
                   : false;
    if (record_get(conn, &snapshot_type, id, &row, &unknown))
        im_replace(&snapshot->owner, row->owner);
    else if (!may_have(plan, conn, snapshot, err))
        return false;
    if (!plan_chain(plan, conn, tip, err))
        return false;
    wire_object_begin(&plan->points, NULL);
    wire_text(&plan->points, "tip", tip);
    snapshot_copy_write(&plan->points, "row", snapshot);
    wire_object_end(&plan->points);
    return true;
}

static bool plan_points(struct plan *plan, const struct job_run *run, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(plan->cloud->config.db, err);
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    bool planned = conn != NULL;

    item_ids(run, &ids);
    for (size_t i = 0; i < ids.count && planned; i++)
        planned = plan_point(plan, conn, ids.items[i], err);
    return planned;
}

static char *plan_text(struct plan *plan) {
    struct wire_writer writer = {0};

    wire_array_end(&plan->layers);
    wire_array_end(&plan->points);
    wire_object_begin(&writer, NULL);
    wire_raw(&writer, "layers", plan->layers.text.data);
    wire_raw(&writer, "points", plan->points.text.data);
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

static bool plan_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(storage_close_auto) struct storage_pool *second = NULL;
    struct plan plan = {.cloud = run->context};
    bool planned;

    if (data == NULL || !second_open(plan.cloud, &second, err) ||
        !second_enter(plan.cloud, run->cancel, err))
        return false;
    plan.second = second;
    plan.caller.admin = wire_get_int(wire_root(data), "admin", 0) != 0;
    snprintf(plan.caller.user_id, sizeof(plan.caller.user_id), "%s",
             wire_get_text(wire_root(data), "caller", ""));
    wire_array_begin(&plan.layers, NULL);
    wire_array_begin(&plan.points, NULL);
    planned = plan_points(&plan, run, err);
    second_leave(plan.cloud, second, false);
    if (planned)
        run->scratch = plan_text(&plan);
    im_str_done(&plan.layers.text);
    im_str_done(&plan.points.text);
    im_strings_done(&plan.names);
    return planned;
}

/* A row for a layer that the record has lost too; one that is there must be such a layer. */
static bool plan_layer_row(struct cloud *cloud, struct db_conn *conn, const struct layer_copy *copy,
                           struct im_err *err) {
    IM_AUTO(layer_free_auto) struct layer *row = NULL;
    struct layer fresh = {.layer_id = (char *) copy->name,
                          .pool = (char *) storage_uri(cloud->config.pool),
                          .name = (char *) copy->name,
                          .parent_id = copy->parent[0] != '\0' ? (char *) copy->parent : NULL,
                          .state = LAYER_MAKING,
                          .size_bytes = copy->size_bytes,
                          .depth = 1,
                          .digest = copy->source_digest[0] ? (char *) copy->source_digest : NULL,
                          .create_time = copy->create_time};

    if (!row_by_name(cloud, conn, copy->name, &row, err))
        return false;
    if (row == NULL)
        return record_insert(conn, &layer_type, &fresh, err);
    if (row->state == LAYER_MAKING || row->state == LAYER_DROPPING)
        return im_fail(err, IM_BUSY, "layer %s is being restored or removed; try again later",
                       copy->name);
    if (row->state != LAYER_FROZEN || row->size_bytes != copy->size_bytes)
        return im_fail(err, IM_BAD_MESSAGE,
                       "the note of %s in the second pool is of another layer than the record's",
                       copy->name);
    return true;
}

/* The chain it was part of may be gone: then it begins its own. */
static bool place_point(struct db_conn *conn, struct snapshot *snapshot, struct im_err *err) {
    IM_AUTO(snapshot_free_auto) struct snapshot *parent = NULL;
    struct im_err gone = {0};

    if (snapshot->snapshot_type == SNAPSHOT_INCREMENT && im_id_valid(snapshot->parent_id) &&
        !record_get(conn, &snapshot_type, snapshot->parent_id, &parent, &gone) &&
        gone.code != IM_NOT_FOUND) {
        *err = gone;
        return false;
    }
    if (parent != NULL && parent->status != SNAPSHOT_CEASED &&
        im_str_equal(parent->root_id, snapshot->root_id) &&
        im_str_equal(parent->resource_id, snapshot->resource_id) &&
        im_str_equal(parent->owner, snapshot->owner))
        return true;
    snapshot->snapshot_type = SNAPSHOT_FULL;
    im_replace(&snapshot->parent_id, SNAPSHOT_SELF);
    im_replace(&snapshot->root_id, snapshot->snapshot_id);
    return true;
}

static bool plan_point_row(struct db_conn *conn, const struct wire_value *point,
                           struct im_err *err) {
    IM_AUTO(snapshot_free_auto)
    struct snapshot *snapshot = snapshot_copy_parse(wire_get(point, "row"), err);
    IM_AUTO(snapshot_free_auto) struct snapshot *row = NULL;
    struct im_err unknown = {0};

    if (snapshot == NULL)
        return false;
    if (record_get(conn, &snapshot_type, snapshot->snapshot_id, &row, &unknown) &&
        row->status != SNAPSHOT_CEASED) {
        if (!snapshot_allows(row, "RestoreSnapshots", err))
            return false;
        row->transition_status = TRANSITION_RECOVERING;
        return record_update(conn, &snapshot_type, row, err);
    }
    if (unknown.code != IM_OK && unknown.code != IM_NOT_FOUND) {
        *err = unknown;
        return false;
    }
    im_replace(&snapshot->provider, "self");
    im_replace(&snapshot->visibility, "private");
    snapshot->status = SNAPSHOT_PENDING;
    snapshot->transition_status = TRANSITION_RECOVERING;
    snapshot->status_time = im_now_s();
    return place_point(conn, snapshot, err) &&
           (row != NULL ? record_update(conn, &snapshot_type, snapshot, err)
                        : record_insert(conn, &snapshot_type, snapshot, err));
}

static bool plan_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto)
    struct wire_doc *doc = wire_parse(run->scratch, strlen(run->scratch), err);
    const struct wire_value *layers, *points;

    if (doc == NULL)
        return false;
    layers = wire_get(wire_root(doc), "layers");
    points = wire_get(wire_root(doc), "points");
    for (size_t i = 0; i < wire_count(layers); i++) {
        struct layer_copy copy;

        if (!layer_copy_parse(wire_at(layers, i), &copy, err) ||
            !plan_layer_row(run->context, conn, &copy, err))
            return false;
    }
    for (size_t i = 0; i < wire_count(points); i++)
        if (!plan_point_row(conn, wire_at(points, i), err))
            return false;
    im_replace(&run->item->data, run->scratch);
    return true;
}

/* --- Rows of what was brought ------------------------------------------------------------------
 */

/* Calls `what` for each layer of the plan, root first. */
static bool each_layer(struct job_run *run,
                       bool (*what)(void *arg, const struct layer_copy *copy, struct im_err *err),
                       void *arg, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    const struct wire_value *layers = data ? wire_get(wire_root(data), "layers") : NULL;

    for (size_t i = 0; i < wire_count(layers); i++) {
        struct layer_copy copy;

        if (!layer_copy_parse(wire_at(layers, i), &copy, err) || !what(arg, &copy, err))
            return false;
    }
    return data != NULL;
}

struct settle {
    struct cloud *cloud;
    struct db_conn *conn;
};

static bool settle_layer(void *arg, const struct layer_copy *copy, struct im_err *err) {
    struct settle *settle = arg;
    IM_AUTO(layer_free_auto) struct layer *row = NULL;
    IM_AUTO(layer_free_auto) struct layer *parent = NULL;

    if (!row_by_name(settle->cloud, settle->conn, copy->name, &row, err) ||
        (copy->parent[0] != '\0' &&
         !row_by_name(settle->cloud, settle->conn, copy->parent, &parent, err)))
        return false;
    if (row == NULL ||
        (copy->parent[0] != '\0' && (parent == NULL || parent->state != LAYER_FROZEN)))
        return im_fail(err, IM_WRONG_STATE,
                       "layer %s or its parent was given up meanwhile; try again", copy->name);
    if (!layer_deepen(settle->conn, row->layer_id, (parent ? parent->depth : 0) + 1 - row->depth,
                      err))
        return false;
    im_replace(&row->parent_id, parent ? parent->layer_id : NULL);
    im_replace(&row->file_digest, copy->digest);
    im_replace(&row->damage, NULL);
    row->depth = (parent ? parent->depth : 0) + 1;
    row->state = LAYER_FROZEN;
    row->checked_time = im_now_s();
    return record_update(settle->conn, &layer_type, row, err);
}

/* --- Step 2: bytes ---------------------------------------------------------------------------- */

struct bring {
    struct job_run *run;
    struct cloud *cloud;
    struct storage_pool *second;
    int64_t done, total;
};

static void tell_progress(void *arg, uint64_t bytes) {
    struct bring *bring = arg;

    jobs_progress(bring->run, bring->done + (int64_t) bytes, bring->total);
}

/* What a job that was interrupted has brought already, or what was thought to be damaged and is
 * not. */
static bool is_there(struct bring *bring, const struct layer_copy *copy) {
    IM_AUTO(fd_auto) int in = -1;
    struct stream stream = {.out = -1, .name = copy->name, .cancel = bring->run->cancel};
    char digest[DIGEST_TEXT], parent[STORAGE_NAME_MAX];
    struct im_err err = {0};

    if (!storage_read(bring->cloud->config.pool, copy->name, &in, parent, &err) ||
        strcmp(parent, copy->parent) != 0)
        return false;
    stream.in = in;
    return stream_run(&stream, digest, &err) && strcmp(digest, copy->digest) == 0;
}

bool layer_fetch(struct cloud *cloud, struct storage_pool *second, const struct layer_copy *copy,
                 struct stream *stream, int *ret_fd, struct im_err *err) {
    IM_AUTO(fd_auto) int in = -1;
    IM_AUTO(fd_auto) int out = -1;
    char digest[DIGEST_TEXT];
    struct im_err undone = {0};

    if (!storage_read(second, copy->name, &in, NULL, err))
        return im_within(err, "second pool");
    if (!storage_put_begin(cloud->config.pool, copy->name, &out, err))
        return false;
    stream->in = in;
    stream->out = out;
    stream->name = copy->name;
    if (stream_run(stream, digest, err) &&
        (strcmp(digest, copy->digest) == 0 ||
         im_fail(err, IM_BAD_IMAGE,
                 "the copy of layer %s in the second pool is damaged: its bytes were %.24s…, they "
                 "are %.24s…",
                 copy->name, copy->digest, digest))) {
        *ret_fd = im_steal_fd(&out);
        return true;
    }
    if (!storage_put_undo(cloud->config.pool, copy->name, &undone))
        im_warn("cloud", "%s", undone.text);
    return false;
}

/* Rows of the layers up to the one at hand. */
struct upto {
    struct cloud *cloud;
    struct job_run *run;
    const struct layer_copy *last;
    struct settle settle;
    bool past;
};

static bool settle_upto(void *arg, const struct layer_copy *copy, struct im_err *err) {
    struct upto *upto = arg;

    if (upto->past)
        return true;
    upto->past = strcmp(copy->name, upto->last->name) == 0;
    return settle_layer(&upto->settle, copy, err);
}

static bool upto_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct upto *upto = arg;

    upto->settle = (struct settle){.cloud = upto->cloud, .conn = conn};
    upto->past = false;
    return each_layer(upto->run, settle_upto, upto, err);
}

/* A layer that the record has on another parent: file and row change at once, as who reads the
 * graph puts the files together by it. */
static bool exchange(struct bring *bring, const struct layer_copy *copy, int fd,
                     struct im_err *err) {
    struct upto upto = {.cloud = bring->cloud, .run = bring->run, .last = copy};
    bool exchanged;

    pthread_rwlock_wrlock(&bring->cloud->chains);
    exchanged = storage_put_end(bring->cloud->config.pool, copy->name, copy->parent, fd, err) &&
                cloud_transact(bring->cloud, upto_body, &upto, err);
    pthread_rwlock_unlock(&bring->cloud->chains);
    return exchanged;
}

/* Is it known, on another parent? */
static bool moves(struct cloud *cloud, const struct layer_copy *copy, bool *ret_moves,
                  struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(layer_free_auto) struct layer *row = NULL;
    IM_AUTO(layer_free_auto) struct layer *parent = NULL;

    if (conn == NULL || !row_by_name(cloud, conn, copy->name, &row, err) ||
        (row != NULL && row->parent_id != NULL &&
         !record_get(conn, &layer_type, row->parent_id, &parent, err)))
        return false;
    *ret_moves = row != NULL && row->state == LAYER_FROZEN &&
                 strcmp(parent ? parent->name : "", copy->parent) != 0;
    return true;
}

static bool bring_claimed(struct bring *bring, const struct layer_copy *copy, struct im_err *err) {
    struct stream stream = {.cancel = bring->run->cancel, .progress = tell_progress, .arg = bring};
    IM_AUTO(fd_auto) int fd = -1;
    bool other = false;

    if (is_there(bring, copy))
        return true;
    if (!moves(bring->cloud, copy, &other, err) ||
        !layer_fetch(bring->cloud, bring->second, copy, &stream, &fd, err))
        return false;
    return other ? exchange(bring, copy, fd, err)
                 : storage_put_end(bring->cloud->config.pool, copy->name, copy->parent, fd, err);
}

static bool bring_layer(struct bring *bring, const struct layer_copy *copy, struct im_err *err) {
    bool brought;

    if (!layer_claim(bring->cloud, copy->name, bring->run->cancel, err))
        return false;
    brought = bring_claimed(bring, copy, err);
    layer_release(bring->cloud, copy->name);
    bring->done += copy->file_bytes;
    return brought;
}

static bool add_bytes(void *arg, const struct layer_copy *copy, struct im_err *err) {
    (void) err;
    ((struct bring *) arg)->total += copy->file_bytes;
    return true;
}

static bool bring_one(void *arg, const struct layer_copy *copy, struct im_err *err) {
    return bring_layer(arg, copy, err);
}

static bool bring_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(storage_close_auto) struct storage_pool *second = NULL;
    struct bring bring = {.run = run, .cloud = run->context};
    bool brought;

    if (!each_layer(run, add_bytes, &bring, err) || !second_open(bring.cloud, &second, err) ||
        !second_enter(bring.cloud, run->cancel, err))
        return false;
    bring.second = second;
    brought = each_layer(run, bring_one, &bring, err);
    second_leave(bring.cloud, second, false);
    return brought;
}

static bool each_point(struct job_run *run, struct db_conn *conn,
                       bool (*what)(struct job_run *run, struct db_conn *conn,
                                    struct snapshot *snapshot, const char *tip, struct im_err *err),
                       struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    const struct wire_value *points = data ? wire_get(wire_root(data), "points") : NULL;

    for (size_t i = 0; i < wire_count(points); i++) {
        const struct wire_value *point = wire_at(points, i);
        const char *id = wire_get_text(wire_get(point, "row"), "snapshot_id", "");
        IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;

        if (!record_get(conn, &snapshot_type, id, &snapshot, err) ||
            !what(run, conn, snapshot, wire_get_text(point, "tip", ""), err))
            return false;
    }
    return data != NULL;
}

static bool settle_point(struct job_run *run, struct db_conn *conn, struct snapshot *snapshot,
                         const char *tip, struct im_err *err) {
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;

    if (!row_by_name(run->context, conn, tip, &layer, err))
        return false;
    if (layer == NULL || layer->state != LAYER_FROZEN)
        return im_fail(err, IM_WRONG_STATE, "layer %s was given up meanwhile; try again", tip);
    im_replace(&snapshot->layer_id, layer->layer_id);
    snapshot->status = SNAPSHOT_AVAILABLE;
    snapshot->transition_status = TRANSITION_NONE;
    snapshot->sub_code = 0;
    snapshot->copy_time = snapshot->copy_time ? snapshot->copy_time : im_now_s();
    return record_update(conn, &snapshot_type, snapshot, err);
}

static bool bring_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    struct settle settle = {.cloud = run->context, .conn = conn};

    return each_layer(run, settle_layer, &settle, err) &&
           each_point(run, conn, settle_point, err) && damage_spread(conn, err);
}

/* --- Back ------------------------------------------------------------------------------------- */

/* Files of rows that were there before stay, whichever of the two they are: they show the same. */
static bool put_back(void *arg, const struct layer_copy *copy, struct im_err *err) {
    struct cloud *cloud = arg;

    return storage_put_undo(cloud->config.pool, copy->name, err);
}

static bool bring_undo(struct job_run *run, struct im_err *err) {
    return each_layer(run, put_back, run->context, err);
}

/* A file that came with another parent than the record's, which goes again, is not whole. */
static bool mark_torn(struct settle *settle, const struct layer *row, const struct layer_copy *copy,
                      struct im_err *err) {
    char parent[STORAGE_NAME_MAX];
    struct im_err unknown = {0};
    int fd = -1;

    if (im_str_equal(row->parent_id ? row->parent_id : "", copy->parent) ||
        !storage_read(settle->cloud->config.pool, row->name, &fd, parent, &unknown))
        return true;
    (void) close(fd);
    return strcmp(parent, copy->parent) != 0 ||
           damage_set(settle->conn, row->layer_id, "its restoration was given up half way", err);
}

static bool drop_planned(void *arg, const struct layer_copy *copy, struct im_err *err) {
    struct settle *settle = arg;
    IM_AUTO(layer_free_auto) struct layer *row = NULL;

    if (!row_by_name(settle->cloud, settle->conn, copy->name, &row, err))
        return false;
    if (row == NULL || row->state == LAYER_MAKING)
        return row == NULL || layer_drop(settle->cloud, settle->conn, row->layer_id, err);
    return row->state != LAYER_FROZEN || mark_torn(settle, row, copy, err);
}

static bool point_back(struct job_run *run, struct db_conn *conn, struct snapshot *snapshot,
                       const char *tip, struct im_err *err) {
    (void) run, (void) tip;
    if (snapshot->status == SNAPSHOT_PENDING)
        return snapshot_cease(conn, snapshot, err);
    snapshot->transition_status = TRANSITION_NONE;
    return record_update(conn, &snapshot_type, snapshot, err);
}

static bool restore_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                           struct im_err *err) {
    struct settle settle = {.cloud = run->context, .conn = conn};

    (void) why;
    return each_layer(run, drop_planned, &settle, err) && each_point(run, conn, point_back, err);
}

static const struct job_step restore_steps[] = {
    {"plan", plan_run, plan_commit, NULL},
    {"bring", bring_run, bring_commit, bring_undo},
};
const struct job_verb snapshot_restore_verb = {.action = "RestoreSnapshots",
                                               .steps = restore_steps,
                                               .step_count = 2,
                                               .undone = restore_undone,
                                               .resumes = true,
                                               .cancels = true};
