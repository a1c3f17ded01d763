/* SPDX-License-Identifier: Apache-2.0 */
/* Chains are kept short, in the background: what layers hold together is written to a new file,
 * which takes the place of the uppermost one's; the others are read through it no longer.
 *
 *     row in `folds` ─> new file beside the old one ─> it takes the name ─> graph and row agree
 *
 * The new file shows the same, through the layers below as through those it makes needless, so
 * either side of the last arrow is right; who has the old file open goes on reading that. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "cloud-private.h"
#include "jobs/worker.h"

enum {
    ROUND_S = 10,
    LEAVE_S = 3600,          /* what failed is left alone for so long */
    FREE_PART = 10,          /* a tenth of the pool stays free for the machines */
    SILENCE_MS = 300 * 1000, /* a disk may take its time to write what it was given */
};

void chains_hold(struct cloud *cloud) { pthread_rwlock_rdlock(&cloud->chains); }
void chains_release(struct cloud *cloud) { pthread_rwlock_unlock(&cloud->chains); }

/* --- The rows --------------------------------------------------------------------------------- */

struct fold {
    const char *layer_id, *name;
    const char *onto_id, *onto_name; /* NULL and "" when nothing is below */
    bool begun;
};

/* A layer that was given up meanwhile stays so: who collects comes first. */
static bool begin_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct fold *fold = arg;
    int64_t changed = 0;

    if (!db_exec(conn, &changed, err,
                 "INSERT INTO folds (layer_id, onto_id, create_time)"
                 " SELECT layer_id, CAST($1 AS TEXT), $2 FROM layers"
                 " WHERE layer_id = $3 AND state = 'frozen'",
                 "tit", fold->onto_id, im_now_s(), fold->layer_id))
        return false;
    fold->begun = changed > 0;
    return true;
}

static bool forget_body(struct db_conn *conn, void *arg, struct im_err *err) {
    return db_exec(conn, NULL, err, "DELETE FROM folds WHERE layer_id = $1", "t",
                   ((struct fold *) arg)->layer_id);
}

/* A layer that was given up while it was folded is collected like any other. */
static bool done_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct fold *fold = arg;

    return layer_stand_on(conn, fold->layer_id, fold->onto_id, err) && forget_body(conn, arg, err);
}

bool fold_busy(struct db_conn *conn, const char *layer_id, bool *ret_busy, struct im_err *err) {
    IM_AUTO(db_rows_free_auto)
    struct db_rows *rows =
        db_query(conn, err, "SELECT 1 FROM folds WHERE layer_id = $1", "t", layer_id);

    return rows != NULL && db_next(rows, ret_busy, err);
}

/* --- What an end before its time has left ----------------------------------------------------- */

/* The new file may have its name since a moment before a crash: once more, now durably. */
static bool finish(struct cloud *cloud, struct fold *fold, int fd, struct im_err *err) {
    return storage_put_end(cloud->config.pool, fold->name, fold->onto_name, fd, err) &&
           cloud_transact(cloud, done_body, fold, err);
}

static bool take_back(struct cloud *cloud, struct fold *fold, struct im_err *err) {
    return storage_put_undo(cloud->config.pool, fold->name, err) &&
           cloud_transact(cloud, forget_body, fold, err);
}

/* The file itself tells which of both it is. A layer that is lost, or never was whole, is neither.
 */
static bool settle(struct cloud *cloud, struct fold *fold, struct im_err *err) {
    char below[STORAGE_NAME_MAX] = "";
    IM_AUTO(fd_auto) int fd = -1;
    struct im_err unread = {0};
    bool settled;

    if (!storage_read(cloud->config.pool, fold->name, &fd, below, &unread) &&
        unread.code != IM_NOT_FOUND && unread.code != IM_UNSUPPORTED) {
        *err = unread;
        return false;
    }
    pthread_rwlock_wrlock(&cloud->chains);
    settled = fd >= 0 && strcmp(below, fold->onto_name) == 0 ? finish(cloud, fold, fd, err)
                                                             : take_back(cloud, fold, err);
    pthread_rwlock_unlock(&cloud->chains);
    return settled;
}

static bool settle_row(struct cloud *cloud, const char *layer_id, const char *onto_id,
                       struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;
    IM_AUTO(layer_free_auto) struct layer *onto = NULL;
    struct fold fold = {.layer_id = layer_id};

    if (conn == NULL || !record_get(conn, &layer_type, layer_id, &layer, err) ||
        (onto_id[0] != '\0' && !record_get(conn, &layer_type, onto_id, &onto, err)))
        return false;
    db_give(im_steal(&conn));
    fold.name = layer->name;
    fold.onto_id = onto ? onto->layer_id : NULL;
    fold.onto_name = onto ? onto->name : "";
    return settle(cloud, &fold, err) || im_within(err, "layer %s", layer_id);
}

bool fold_settle(struct cloud *cloud, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(im_strings_done) struct im_strings layers = {0}, onto = {0};
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    bool more = true;

    if (conn == NULL ||
        (rows = db_query(conn, err, "SELECT layer_id, onto_id FROM folds", "")) == NULL)
        return false;
    while (more) {
        if (!db_next(rows, &more, err))
            return false;
        if (!more)
            break;
        im_strings_add(&layers, db_text(rows, 0));
        im_strings_add(&onto, db_is_null(rows, 1) ? "" : db_text(rows, 1));
    }
    db_rows_free(im_steal(&rows));
    db_give(im_steal(&conn));
    for (size_t i = 0; i < layers.count; i++)
        if (!settle_row(cloud, layers.items[i], onto.items[i], err))
            return false;
    return true;
}

/* --- One fold --------------------------------------------------------------------------------- */

/* Machines must not stand still for want of space because of something that can wait. */
bool layers_fit(struct cloud *cloud, struct layer *const *layers, size_t count,
                struct im_err *err) {
    struct storage_space space;
    uint64_t need = 0;

    if (!storage_space(cloud->config.pool, &space, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        struct storage_usage usage;

        if (!storage_usage(cloud->config.pool, layers[i]->name, &usage, err))
            return false;
        need += usage.own_bytes;
    }
    return need + space.total_bytes / FREE_PART <= space.free_bytes ||
           im_fail(err, IM_NO_SPACE,
                   "%llu MiB of room are needed for a while, besides what is kept "
                   "for machines",
                   (unsigned long long) (need >> 20));
}

/* A layer is read, and held against its digest, before its content goes over into another one: rot
 * that is copied gets a digest of its own, and is never found again. */
static bool is_whole(struct cloud *cloud, const struct layer *layer, struct im_err *err) {
    struct stream stream = {.rate_bytes = cloud->config.merge_rate, .cancel = &cloud->fold_cancel};
    enum verdict verdict = VERDICT_STALE;

    if (!im_str_empty(layer->damage))
        return im_fail(err, IM_WRONG_STATE, "layer %s is damaged", layer->layer_id);
    return layer_judge(cloud, layer, &stream, &verdict, err) &&
           (verdict == VERDICT_GOOD ||
            im_fail(err, IM_WRONG_STATE, "layer %s is %s", layer->layer_id,
                    verdict == VERDICT_BAD ? "damaged" : "changing"));
}

bool layers_whole(struct cloud *cloud, struct layer *const *layers, size_t count,
                  struct im_err *err) {
    for (size_t i = 0; i < count; i++)
        if (!is_whole(cloud, layers[i], err))
            return false;
    return true;
}

char *layer_file(struct cloud *cloud, const char *name, struct im_err *err) {
    struct storage_source source = {0};
    const char *slash;
    char *file;

    if (name[0] == '\0')
        return im_strdup("");
    if (!storage_attach_info(cloud->config.pool, name, &source, err))
        return NULL;
    slash = strrchr(source.path, '/');
    file = im_strdup(slash ? slash + 1 : source.path);
    storage_source_done(&source);
    return file;
}

static char *request_text(const struct cloud *cloud, const char *backing) {
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "backing", backing);
    wire_int(&writer, "rate", cloud->config.merge_rate);
    wire_text(&writer, "user", cloud->config.worker_user);
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

static bool open_layers(struct cloud *cloud, const struct fold_plan *plan, int *fds,
                        struct im_err *err) {
    for (size_t i = 0; i < plan->count; i++)
        if (!storage_read(cloud->config.pool, plan->layers[i]->name, &fds[i], NULL, err))
            return false;
    return true;
}

/* By a worker: heads were written by machines, and what a guest can have spoiled is not read here.
 */
static bool copy(struct cloud *cloud, const struct fold *fold, const struct fold_plan *plan,
                 int *fds, struct im_err *err) {
    IM_AUTO(free_auto) char *backing = layer_file(cloud, fold->onto_name, err);
    IM_AUTO(free_auto) char *request = NULL;
    IM_AUTO(free_auto) char *result = NULL;
    struct worker_call call = {.program = cloud->config.worker_program,
                               .verb = "fold",
                               .fds = fds,
                               .fd_count = plan->count + 1,
                               .cancel = &cloud->fold_cancel,
                               .silence_ms = SILENCE_MS};

    if (backing == NULL || !storage_put_begin(cloud->config.pool, fold->name, &fds[0], err) ||
        !open_layers(cloud, plan, fds + 1, err))
        return false;
    call.request = request = request_text(cloud, backing);
    return worker_run(&call, &result, err);
}

/* Nobody who has read the graph is on his way to the files while both change. */
static bool exchange(struct cloud *cloud, struct fold *fold, int fd, struct im_err *err) {
    bool exchanged;

    if (!layer_rewrite_begin(cloud, fold->layer_id, err))
        return false;
    pthread_rwlock_wrlock(&cloud->chains);
    exchanged = storage_put_end(cloud->config.pool, fold->name, fold->onto_name, fd, err) &&
                cloud_transact(cloud, done_body, fold, err);
    pthread_rwlock_unlock(&cloud->chains);
    layer_rewrite_end(cloud, fold->layer_id);
    return exchanged;
}

static bool fold_begun(struct cloud *cloud, struct fold *fold, const struct fold_plan *plan,
                       struct im_err *err) {
    int fds[FOLD_MAX + 1];
    struct im_err later = {0};
    bool folded;

    for (size_t i = 0; i <= FOLD_MAX; i++)
        fds[i] = -1;
    folded = copy(cloud, fold, plan, fds, err) && exchange(cloud, fold, fds[0], err);
    for (size_t i = 0; i <= plan->count; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (!folded && !settle(cloud, fold, &later))
        im_warn("cloud", "layer %s: what its fold has left is settled later: %s", fold->layer_id,
                later.text);
    return folded;
}

bool fold_run(struct cloud *cloud, const struct fold_plan *plan, struct im_err *err) {
    const struct layer *layer = plan->layers[0], *onto = fold_onto(plan);
    struct fold fold = {.layer_id = layer->layer_id,
                        .name = layer->name,
                        .onto_id = onto ? onto->layer_id : NULL,
                        .onto_name = onto ? onto->name : ""};
    bool folded;

    if (!layer_claim(cloud, fold.name, &cloud->fold_cancel, err))
        return false;
    folded = layers_fit(cloud, plan->layers, plan->count, err) &&
             layers_whole(cloud, plan->layers, plan->count, err) &&
             cloud_transact(cloud, begin_body, &fold, err) &&
             (!fold.begun || fold_begun(cloud, &fold, plan, err));
    layer_release(cloud, fold.name);
    if (!folded)
        return im_within(err, "layer %s", fold.layer_id);
    background_collect(cloud);
    if (fold.begun)
        im_info("cloud", "layer %s took up %zu below it, and stands on %s", fold.layer_id,
                plan->count - 1, onto ? onto->layer_id : "nothing");
    return true;
}

/* --- The thread ------------------------------------------------------------------------------- */

/* Folds what there is to fold, until nothing is left; `leave` gets what failed. What a running
 * machine has taken up need not be folded any more, so that comes first. */
static bool fold_round(struct cloud *cloud, struct im_strings *leave) {
    bool pulled = pull_round(cloud, leave);

    while (!cloud->fold_cancel) {
        IM_AUTO(fold_plan_done) struct fold_plan plan = {0};
        struct im_err err = {0};

        if (!fold_settle(cloud, &err) || !fold_plan_next(cloud, leave, &plan, &err)) {
            im_warn("cloud", "chains are shortened later: %s", err.text);
            return false;
        }
        if (plan.count == 0)
            return pulled;
        if (!fold_run(cloud, &plan, &err)) {
            if (err.code == IM_CANCELLED)
                return false;
            im_warn("cloud", "its chain stays as it is for now: %s", err.text);
            im_strings_add(leave, plan.layers[0]->layer_id);
        }
    }
    return false;
}

bool fold_wait(struct cloud *cloud, int64_t ms) {
    struct timespec until = im_wall_after(ms);
    bool stop;

    pthread_mutex_lock(&cloud->lock);
    if (!cloud->stop)
        pthread_cond_timedwait(&cloud->fold_wake, &cloud->lock, &until);
    stop = cloud->stop;
    pthread_mutex_unlock(&cloud->lock);
    return !stop;
}

static void *thread_main(void *arg) {
    IM_AUTO(im_strings_done) struct im_strings leave = {0};
    struct cloud *cloud = arg;
    int64_t again_ms = im_mono_ms() + LEAVE_S * 1000;
    uint64_t seen = 0;

    while (fold_wait(cloud, ROUND_S * 1000)) {
        uint64_t now = db_generation(cloud->config.db);

        /* In a record that has not changed there is nothing new to find. */
        if (now == 0 || now != seen)
            seen = fold_round(cloud, &leave) ? now : 0;
        if (im_mono_ms() >= again_ms) {
            im_strings_done(&leave);
            seen = 0;
            again_ms = im_mono_ms() + LEAVE_S * 1000;
        }
    }
    return NULL;
}

/* --- Pausing ---------------------------------------------------------------------------------- */

/* A file, so that it lasts. */
static char *pause_path(const struct cloud *cloud) {
    return im_printf("%s/merging-paused", cloud->config.state_dir);
}

static void set_paused(struct cloud *cloud, bool paused) {
    pthread_mutex_lock(&cloud->lock);
    cloud->fold_paused = paused;
    cloud->fold_cancel = paused || cloud->stop;
    pthread_cond_broadcast(&cloud->fold_wake);
    pthread_mutex_unlock(&cloud->lock);
}

bool cloud_merging_pause(struct cloud *cloud, const struct caller *caller, bool pause,
                         struct im_err *err) {
    static const char text[] = "Layers are not merged while this file is here.\n";
    IM_AUTO(free_auto) char *path = pause_path(cloud);

    if (!caller->admin)
        return im_fail(err, IM_DENIED, "only an administrator pauses the merging of layers");
    if (pause ? !im_write_file(path, text, strlen(text), 0644, err)
              : unlink(path) < 0 && errno != ENOENT &&
                    !im_fail_sys(err, errno, "%s cannot be removed", path))
        return false;
    set_paused(cloud, pause);
    return true;
}

const char *fold_mode(struct cloud *cloud) {
    bool paused;

    pthread_mutex_lock(&cloud->lock);
    paused = cloud->fold_paused;
    pthread_mutex_unlock(&cloud->lock);
    return cloud->config.merge_rate == 0 ? "off" : paused ? "paused" : "on";
}

/* --- Start and stop --------------------------------------------------------------------------- */

bool fold_start(struct cloud *cloud, struct im_err *err) {
    IM_AUTO(free_auto) char *path = pause_path(cloud);
    int rc;

    if (cloud->config.merge_rate == 0)
        return true;
    set_paused(cloud, access(path, F_OK) == 0);
    rc = pthread_create(&cloud->folder, NULL, thread_main, cloud);
    if (rc != 0)
        return im_fail_sys(err, rc, "cannot start the thread that shortens chains");
    cloud->folder_runs = true;
    return true;
}

void fold_stop(struct cloud *cloud) {
    pthread_mutex_lock(&cloud->lock);
    cloud->stop = cloud->fold_cancel = true;
    pthread_cond_broadcast(&cloud->fold_wake);
    pthread_mutex_unlock(&cloud->lock);
    if (cloud->folder_runs)
        pthread_join(cloud->folder, NULL);
    cloud->folder_runs = false;
}
