/* SPDX-License-Identifier: Apache-2.0 */
/* CopySnapshots: the layers of points, as they lie in the pool, in a second pool, root first; only
 * those that are not there yet. And what is done with copies: listing and deleting them. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "cloud-private.h"

enum { TRIES = 8 }; /* a chain that is merged while it is copied is looked at anew so often */

/* --- The requests ----------------------------------------------------------------------------- */

struct request {
    struct cloud *cloud;
    const struct caller *caller;
    const struct im_strings *ids;
    const char *action;
    char job_id[IM_JOB_ID_MAX];
};

/* One item for all of them: a job of many points must not keep all threads. */
static bool add_job(struct request *request, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(free_auto) char *ids = im_strings_join(request->ids, " ");
    struct job_order order = {.resource_id = ids, .data = "{}"};

    return jobs_add(request->cloud->jobs, conn, request->action, request->caller->user_id, "",
                    &order, 1, request->job_id, err);
}

static bool copy_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct request *request = arg;

    for (size_t i = 0; i < request->ids->count; i++) {
        IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;

        if (!snapshot_load(conn, request->caller, request->ids->items[i], &snapshot, err) ||
            !snapshot_allows(snapshot, "CopySnapshots", err))
            return false;
    }
    return add_job(request, conn, err);
}

bool cloud_snapshots_copy(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                          struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings unique = {0};
    struct request request = {
        .cloud = cloud, .caller = caller, .ids = &unique, .action = "CopySnapshots"};

    return second_configured(cloud, err) && ids_unique("snapshots", ids, &unique, err) &&
           cloud_order(cloud, copy_body, &request, request.job_id, ret_job_id, err);
}

/* --- The job ---------------------------------------------------------------------------------- */

struct work {
    struct job_run *run;
    struct cloud *cloud;
    struct storage_pool *second;
    struct im_strings counted; /* layers whose bytes are in `total` */
    int64_t done, total;       /* bytes of files */
    int64_t needed;            /* what they take */
};

static void tell_progress(void *arg, uint64_t bytes) {
    struct work *work = arg;
    int64_t done = work->done + (int64_t) bytes;

    jobs_progress(work->run, done, done > work->total ? done : work->total);
}

/* The point and its layers, itself first. */
static bool load_point(struct work *work, const char *id, struct snapshot **ret_snapshot,
                       struct layer ***ret_layers, size_t *ret_count, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(work->cloud->config.db, err);
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;

    if (conn == NULL || !record_get(conn, &snapshot_type, id, &snapshot, err))
        return false;
    if (im_str_empty(snapshot->layer_id))
        return im_fail(err, IM_WRONG_STATE, "snapshot [%s] was deleted meanwhile", id);
    if (!layer_chain(conn, snapshot->layer_id, ret_layers, ret_count, err))
        return false;
    *ret_snapshot = im_steal(&snapshot);
    return true;
}

static bool still_usable(struct cloud *cloud, const char *layer_id, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);

    return conn != NULL && layer_usable(conn, layer_id, err);
}

/* How many of them, from the tip on, the second pool has not. */
static size_t missing_of(struct work *work, struct layer *const *layers, size_t count) {
    size_t missing = 0;

    while (missing < count && !layer_copy_whole(work->second, layers[missing]->name))
        missing++;
    return missing;
}

struct source {
    int fd;
    char parent[STORAGE_NAME_MAX];
    struct stat st;
};

static void source_done(struct source *source) {
    if (source->fd >= 0)
        (void) close(source->fd);
}

static bool source_open(struct cloud *cloud, const char *name, struct source *source,
                        struct im_err *err) {
    *source = (struct source){.fd = -1};
    return storage_read(cloud->config.pool, name, &source->fd, source->parent, err) &&
           (fstat(source->fd, &source->st) == 0 ||
            im_fail_sys(err, errno, "cannot look at layer %s", name));
}

static void count_layer(struct work *work, const char *name) {
    IM_AUTO(source_done) struct source source = {.fd = -1};
    struct im_err later = {0};

    if (im_strings_has(&work->counted, name))
        return;
    im_strings_add(&work->counted, name);
    if (!source_open(work->cloud, name, &source, &later))
        return; /* told when its turn comes */
    work->total += source.st.st_size;
    work->needed += source.st.st_blocks * 512;
}

static bool count_points(struct work *work, const struct im_strings *ids, struct im_err *err) {
    struct storage_space space = {0};
    char want[16], have[16];

    for (size_t i = 0; i < ids->count; i++) {
        IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;
        struct layer **layers = NULL;
        size_t count = 0, missing;

        if (!load_point(work, ids->items[i], &snapshot, &layers, &count, err))
            return false;
        missing = missing_of(work, layers, count);
        for (size_t j = 0; j < missing; j++)
            count_layer(work, layers[j]->name);
        record_list_free(&layer_type, (void **) layers, count);
    }
    if (!storage_space(work->second, &space, err))
        return im_within(err, "second pool");
    if ((uint64_t) work->needed <= space.free_bytes)
        return true;
    return im_fail(
        err, IM_NO_SPACE, "the second pool is too full: %s are to be copied, %s are free",
        im_size_text((uint64_t) work->needed, want), im_size_text(space.free_bytes, have));
}

/* Writes the bytes, and looks whether they are what they were; *ret_again when they were replaced
 * meanwhile. */
static bool copy_bytes(struct work *work, const struct layer *layer, struct source *source,
                       struct layer_copy *copy, bool *ret_again, struct im_err *err) {
    struct reading_since since = reading_begin(work->cloud);
    IM_AUTO(fd_auto) int out = -1;
    struct stream stream = {.in = source->fd,
                            .name = layer->name,
                            .cancel = work->run->cancel,
                            .progress = tell_progress,
                            .arg = work};
    struct im_err trouble = {0};
    enum verdict verdict;
    bool streamed;

    if (!storage_put_begin(work->second, layer->name, &out, err))
        return im_within(err, "second pool");
    stream.out = out;
    streamed = stream_run(&stream, copy->digest, &trouble);
    if (!streamed && !stream.read_failed) {
        *err = trouble;
        return im_within(err, "second pool");
    }
    if (!streamed && !trouble_is_rot(&trouble)) {
        *err = trouble;
        return false;
    }
    if (!reading_judge(work->cloud, layer->layer_id, &since, copy->digest,
                       streamed ? NULL : &trouble, &verdict, err))
        return false;
    if (verdict == VERDICT_BAD)
        return im_fail(err, IM_WRONG_STATE, "layer %s is damaged and was not copied",
                       layer->layer_id);
    *ret_again = verdict == VERDICT_STALE;
    copy->file_bytes = (int64_t) stream.bytes;
    return *ret_again || storage_put_end(work->second, layer->name, copy->parent, out, err) ||
           im_within(err, "second pool");
}

static bool copy_claimed(struct work *work, const struct layer *layer, bool *ret_again,
                         struct im_err *err) {
    IM_AUTO(source_done) struct source source = {.fd = -1};
    struct layer_copy copy = {.size_bytes = layer->size_bytes, .create_time = layer->create_time};
    struct im_err gone = {0}, undone = {0};

    if (layer_copy_whole(work->second, layer->name))
        return true;
    *ret_again = !source_open(work->cloud, layer->name, &source, &gone) ||
                 (source.parent[0] != '\0' && !layer_copy_whole(work->second, source.parent));
    if (gone.code != IM_OK && gone.code != IM_NOT_FOUND) {
        *err = gone;
        return false;
    }
    if (*ret_again)
        return true;
    snprintf(copy.name, sizeof(copy.name), "%s", layer->name);
    snprintf(copy.parent, sizeof(copy.parent), "%.48s", source.parent);
    if (layer->digest != NULL)
        snprintf(copy.source_digest, sizeof(copy.source_digest), "%s", layer->digest);
    /* An older file of that name may stand there with a note of its own. */
    if (!storage_note_remove(work->second, layer->name, err))
        return im_within(err, "second pool");
    if (!copy_bytes(work, layer, &source, &copy, ret_again, err) || *ret_again) {
        if (!storage_put_undo(work->second, layer->name, &undone))
            im_warn("cloud", "second pool: %s", undone.text);
        return *ret_again;
    }
    work->done += copy.file_bytes;
    return layer_copy_put(work->second, &copy, err) || im_within(err, "second pool");
}

static bool copy_layer(struct work *work, const struct layer *layer, bool *ret_again,
                       struct im_err *err) {
    bool copied;

    if (layer->state != LAYER_FROZEN)
        return im_fail(err, IM_WRONG_STATE, "layer %s is not frozen", layer->layer_id);
    if (!layer_claim(work->cloud, layer->name, work->run->cancel, err))
        return false;
    copied = copy_claimed(work, layer, ret_again, err);
    layer_release(work->cloud, layer->name);
    return copied;
}

/* Root first, so that each stands on what is there. */
static bool copy_layers(struct work *work, struct layer *const *layers, size_t missing,
                        bool *ret_again, struct im_err *err) {
    if (missing > 0 && !still_usable(work->cloud, layers[0]->layer_id, err))
        return false;
    for (size_t i = missing; i > 0 && !*ret_again; i--)
        if (!copy_layer(work, layers[i - 1], ret_again, err))
            return false;
    return true;
}

static bool copy_try(struct work *work, const char *id, bool *ret_again, struct im_err *err) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;
    struct layer **layers = NULL;
    size_t count = 0;
    bool copied;

    if (!load_point(work, id, &snapshot, &layers, &count, err))
        return false;
    copied = copy_layers(work, layers, missing_of(work, layers, count), ret_again, err) &&
             (*ret_again || layer_copy_whole(work->second, layers[0]->name) ||
              im_fail(err, IM_INTERNAL, "second pool: the copy of [%s] is not whole", id)) &&
             (*ret_again || snapshot_copy_put(work->second, snapshot, layers[0]->name, err));
    record_list_free(&layer_type, (void **) layers, count);
    return copied;
}

static bool copy_point(struct work *work, const char *id, struct im_err *err) {
    for (int try = 0; try < TRIES; try++) {
        bool again = false;

        if (!copy_try(work, id, &again, err))
            return false;
        if (!again)
            return true;
    }
    return im_fail(err, IM_BUSY, "the layers of [%s] are being merged; copy it again later", id);
}

static bool copy_points(struct work *work, const struct im_strings *ids, struct im_err *err) {
    if (!count_points(work, ids, err))
        return false;
    for (size_t i = 0; i < ids->count; i++)
        if (!copy_point(work, ids->items[i], err))
            return im_within(err, "snapshot [%s]", ids->items[i]);
    return true;
}

static bool copy_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    IM_AUTO(storage_close_auto) struct storage_pool *second = NULL;
    struct work work = {.run = run, .cloud = run->context};
    bool copied;

    item_ids(run, &ids);
    if (!second_open(work.cloud, &second, err) || !second_enter(work.cloud, run->cancel, err))
        return false;
    work.second = second;
    copied = copy_points(&work, &ids, err);
    /* Who is only interrupted goes on with what is there. */
    second_leave(work.cloud, second, !copied && err->code != IM_CANCELLED);
    im_strings_done(&work.counted);
    return copied;
}

static bool copy_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    item_ids(run, &ids);
    for (size_t i = 0; i < ids.count; i++)
        if (!db_exec(conn, NULL, err, "UPDATE snapshots SET copy_time = $1 WHERE snapshot_id = $2",
                     "it", im_now_s(), ids.items[i]))
            return false;
    return true;
}

/* What was copied of a job that is given up goes, unless another copy needs it. */
static bool copy_undo(struct job_run *run, struct im_err *err) {
    IM_AUTO(storage_close_auto) struct storage_pool *second = NULL;
    struct im_err away = {0};

    if (!second_open(run->context, &second, &away))
        return true; /* swept the next time it is there */
    if (!second_enter(run->context, NULL, err))
        return false;
    second_leave(run->context, second, true);
    return true;
}

static const struct job_step copy_steps[] = {{"copy", copy_run, copy_commit, copy_undo}};
const struct job_verb snapshot_copy_verb = {.action = "CopySnapshots",
                                            .steps = copy_steps,
                                            .step_count = 1,
                                            .resumes = true,
                                            .cancels = true};

/* --- Deleting copies -------------------------------------------------------------------------- */

/* Of a point that the record has lost, only an administrator knows whose it is. */
static bool delete_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct request *request = arg;

    for (size_t i = 0; i < request->ids->count; i++) {
        IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;

        if (!snapshot_load(conn, request->caller, request->ids->items[i], &snapshot, err)) {
            if (err->code != IM_NOT_FOUND || !request->caller->admin ||
                !im_id_valid(request->ids->items[i]))
                return false;
            *err = (struct im_err){0};
        }
    }
    return add_job(request, conn, err);
}

bool cloud_copies_delete(struct cloud *cloud, const struct caller *caller,
                         const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                         struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings unique = {0};
    struct request request = {
        .cloud = cloud, .caller = caller, .ids = &unique, .action = "DeleteSnapshotCopies"};

    return second_configured(cloud, err) && ids_unique("snapshots", ids, &unique, err) &&
           cloud_order(cloud, delete_body, &request, request.job_id, ret_job_id, err);
}

static bool delete_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    IM_AUTO(storage_close_auto) struct storage_pool *second = NULL;
    bool removed = true;

    item_ids(run, &ids);
    if (!second_open(run->context, &second, err) || !second_enter(run->context, run->cancel, err))
        return false;
    for (size_t i = 0; i < ids.count && removed; i++)
        removed = im_starts_with(ids.items[i], "ss-")
                      ? storage_note_remove(second, ids.items[i], err)
                      : im_fail(err, IM_NOT_FOUND, "snapshot [%s] does not exist", ids.items[i]);
    second_leave(run->context, second, true);
    return removed || im_within(err, "second pool");
}

static bool delete_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    item_ids(run, &ids);
    for (size_t i = 0; i < ids.count; i++)
        if (!db_exec(conn, NULL, err, "UPDATE snapshots SET copy_time = 0 WHERE snapshot_id = $1",
                     "t", ids.items[i]))
            return false;
    return true;
}

static const struct job_step delete_steps[] = {{"delete", delete_run, delete_commit, NULL}};
const struct job_verb copy_delete_verb = {
    .action = "DeleteSnapshotCopies", .steps = delete_steps, .step_count = 1, .resumes = true};

/* --- Listing them ----------------------------------------------------------------------------- */

static bool view_copy(struct storage_pool *second, const struct caller *caller, const char *id,
                      struct copy_view *ret_view) {
    IM_AUTO(free_auto) struct layer_copy *copies = NULL;
    struct copy_view view = {.whole = false};
    struct im_err trouble = {0};
    char tip[IM_ID_MAX] = "";
    size_t count = 0;

    if (!snapshot_copy_get(second, id, &view.snapshot, tip, &trouble)) {
        if (!caller->admin)
            return false;
        view.snapshot = object_new(&snapshot_type);
        im_replace(&view.snapshot->snapshot_id, id);
    } else if (!caller->admin && !im_str_equal(view.snapshot->owner, caller->user_id)) {
        snapshot_free(view.snapshot);
        return false;
    } else {
        view.whole = layer_copies_load(second, tip, &copies, &count, &trouble) &&
                     layer_copies_whole(copies, count, &trouble);
    }
    for (size_t i = 0; i < count; i++)
        view.file_bytes += copies[i].file_bytes;
    snprintf(view.trouble, sizeof(view.trouble), "%.255s", trouble.text);
    *ret_view = view;
    return true;
}

static int newest_first(const void *a, const void *b) {
    const struct snapshot *left = ((const struct copy_view *) a)->snapshot;
    const struct snapshot *right = ((const struct copy_view *) b)->snapshot;

    if (left->snapshot_time != right->snapshot_time)
        return left->snapshot_time < right->snapshot_time ? 1 : -1;
    return strcmp(left->snapshot_id, right->snapshot_id);
}

bool cloud_copies(struct cloud *cloud, const struct caller *caller, struct copy_list *ret_list,
                  struct im_err *err) {
    IM_AUTO(storage_close_auto) struct storage_pool *second = NULL;
    IM_AUTO(im_strings_done) struct im_strings notes = {0};
    struct copy_list list = {0};

    if (!second_open(cloud, &second, err) || !storage_note_list(second, &notes, err))
        return false;
    list.items = im_alloc((notes.count + 1) * sizeof(*list.items));
    for (size_t i = 0; i < notes.count; i++)
        if (im_starts_with(notes.items[i], "ss-"))
            list.count += view_copy(second, caller, notes.items[i], &list.items[list.count]);
    qsort(list.items, list.count, sizeof(*list.items), newest_first);
    *ret_list = list;
    return true;
}

void copy_list_done(struct copy_list *list) {
    for (size_t i = 0; i < list->count; i++)
        snapshot_free(list->items[i].snapshot);
    free(list->items);
    *list = (struct copy_list){0};
}
