/* SPDX-License-Identifier: Apache-2.0 */
/* ExportImage: a worker makes one file of an image's layers, in state_dir/exports, from where its
 * owner downloads it until it expires. The row is there before the file and goes before it, so that
 * a file without a row is junk, whenever we were killed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "cloud-private.h"
#include "jobs/worker.h"

enum { LAYERS_MAX = 200, EXPIRED_PER_ROUND = 256 };
static const int64_t worker_silence_ms = 300000;

static char *export_path(const struct cloud *cloud, const char *export_id) {
    return im_printf("%s/exports/%s", cloud->config.state_dir, export_id);
}

static void export_remove(const struct cloud *cloud, const char *export_id) {
    IM_AUTO(free_auto) char *path = export_path(cloud, export_id);

    if (unlink(path) < 0 && errno != ENOENT)
        im_warn("cloud", "cannot remove %s: %s", path, strerror(errno));
}

/* --- The request ------------------------------------------------------------------------------ */

struct export_call {
    struct cloud *cloud;
    const struct caller *caller;
    const char *image_id, *format;
    char export_id[IM_ID_MAX];
    char job_id[IM_JOB_ID_MAX];  /* of the job that was added */
    char earlier[IM_JOB_ID_MAX]; /* the job of an earlier call for the same file */
};

static bool format_fits(const char *format, struct im_err *err) {
    static const char *const formats[] = {"qcow2", "raw", "raw.zst", "vmdk"};

    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (strcmp(format, formats[i]) == 0)
            return true;
    return im_fail(err, IM_BAD_MESSAGE, "format [%.32s] should be one of: qcow2 raw raw.zst vmdk",
                   format);
}

/* The same file, if the caller has it already; it then stays for another full time. Of what the
 * image held before it was repaired it is another file. */
static bool find_same(struct db_conn *conn, const struct export_call *call,
                      const struct image *image, struct image_export **ret_export,
                      struct im_err *err) {
    IM_AUTO(query_done) struct query query = {.limit = 1};
    struct image_export **found = NULL;
    size_t count = 0;

    query_add(&query, "owner", CONDITION_IN, call->caller->user_id);
    query_add(&query, "image_id", CONDITION_IN, image->image_id);
    query_add(&query, "layer_id", CONDITION_IN, image->layer_id);
    query_add(&query, "format", CONDITION_IN, call->format);
    if (!record_list(conn, &image_export_type, &query, (void ***) &found, &count, NULL, err))
        return false;
    *ret_export = count > 0 ? found[0] : NULL;
    free(found);
    return true;
}

static bool use_same(struct db_conn *conn, struct export_call *call, struct image_export *same,
                     struct im_err *err) {
    snprintf(call->export_id, sizeof(call->export_id), "%s", same->export_id);
    snprintf(call->earlier, sizeof(call->earlier), "%s", same->job_id);
    if (same->status != EXPORT_AVAILABLE)
        return true;
    same->expire_time = im_now_s() + call->cloud->config.export_keep_s;
    return record_update_fields(conn, &image_export_type, same,
                                (const char *const[]){"expire_time", NULL}, err);
}

/* What the file may take: no more than the layers do, and its own tables. */
static bool estimate(struct cloud *cloud, struct db_conn *conn, const char *layer_id,
                     struct image_export *export, struct im_err *err) {
    struct layer **layers = NULL;
    uint64_t bytes = 4 << 20;
    size_t count = 0;

    if (!layer_chain(conn, layer_id, &layers, &count, err))
        return false;
    export->disk_bytes = layers[0]->size_bytes;
    for (size_t i = 0; i < count; i++) {
        struct storage_usage usage = {0};
        struct im_err gone = {0};

        if (storage_usage(cloud->config.pool, layers[i]->name, &usage, &gone))
            bytes += usage.own_bytes + usage.own_bytes / 64;
    }
    record_list_free(&layer_type, (void **) layers, count);
    export->stored_bytes = (int64_t) bytes;
    return true;
}

static bool room_left(struct cloud *cloud, struct db_conn *conn, int64_t bytes,
                      struct im_err *err) {
    IM_AUTO(db_rows_free_auto)
    struct db_rows *rows = db_query(
        conn, err, "SELECT CAST(COALESCE(SUM(stored_bytes), 0) AS BIGINT) FROM image_exports", "");
    char taken[16], wanted[16], limit[16];
    bool more = false;
    int64_t now;

    if (rows == NULL || !db_next(rows, &more, err))
        return false;
    now = more ? db_int(rows, 0) : 0;
    if (cloud->config.export_max_bytes == 0 || bytes <= cloud->config.export_max_bytes - now)
        return true;
    return im_fail(err, IM_NO_SPACE,
                   "exports take %s of %s, and this one may take %s: delete some, or wait until "
                   "they expire",
                   im_size_text((uint64_t) now, taken),
                   im_size_text((uint64_t) cloud->config.export_max_bytes, limit),
                   im_size_text((uint64_t) bytes, wanted));
}

static bool add_export(struct db_conn *conn, struct export_call *call, const struct image *image,
                       struct im_err *err) {
    IM_AUTO(free_auto) char *data = NULL;
    struct image_export export = {.export_id = call->export_id,
                                  .image_id = image->image_id,
                                  .format = (char *) call->format,
                                  .status = EXPORT_PENDING,
                                  .owner = (char *) call->caller->user_id,
                                  .job_id = call->job_id,
                                  .create_time = im_now_s(),
                                  .layer_id = image->layer_id};
    struct job_order order = {.resource_id = image->image_id};

    im_id_make(call->export_id, "exp-", 8);
    data = im_printf("{\"export\":\"%s\"}", call->export_id);
    order.data = data;
    return estimate(call->cloud, conn, image->layer_id, &export, err) &&
           room_left(call->cloud, conn, export.stored_bytes, err) &&
           jobs_add(call->cloud->jobs, conn, "ExportImage", call->caller->user_id, "", &order, 1,
                    call->job_id, err) &&
           record_insert(conn, &image_export_type, &export, err);
}

static bool export_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct export_call *call = arg;
    IM_AUTO(image_free_auto) struct image *image = NULL;
    IM_AUTO(image_export_free_auto) struct image_export *same = NULL;

    call->job_id[0] = call->earlier[0] = '\0';
    if (!image_load(conn, call->caller, call->image_id, &image, err) ||
        !image_allows(image, "ExportImage", err) || !layer_usable(conn, image->layer_id, err) ||
        !find_same(conn, call, image, &same, err))
        return false;
    return same != NULL ? use_same(conn, call, same, err) : add_export(conn, call, image, err);
}

bool cloud_image_export(struct cloud *cloud, const struct caller *caller, const char *image_id,
                        const char *format, char ret_export_id[IM_ID_MAX],
                        char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct export_call call = {.cloud = cloud,
                               .caller = caller,
                               .image_id = image_id,
                               .format = im_str_empty(format) ? "qcow2" : format};

    if (im_str_empty(image_id))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [image] is missing");
    if (!format_fits(call.format, err) ||
        !cloud_order(cloud, export_body, &call, call.job_id, ret_job_id, err))
        return false;
    if (call.earlier[0] != '\0')
        memcpy(ret_job_id, call.earlier, IM_JOB_ID_MAX);
    memcpy(ret_export_id, call.export_id, IM_ID_MAX);
    return true;
}

/* --- The job ---------------------------------------------------------------------------------- */

struct export_run {
    struct image_export *row;
    char *layer_name;
};

static void export_run_done(struct export_run *work) {
    image_export_free(work->row);
    free(work->layer_name);
}

static bool export_load(struct job_run *run, struct export_run *work, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;

    if (data == NULL || conn == NULL ||
        !record_get(conn, &image_export_type, wire_get_text(wire_root(data), "export", ""),
                    &work->row, err) ||
        !record_get(conn, &layer_type, work->row->layer_id, &layer, err))
        return false;
    work->layer_name = im_steal(&layer->name);
    return true;
}

static bool open_out(struct cloud *cloud, const char *export_id, int *ret_fd, struct im_err *err) {
    IM_AUTO(free_auto) char *path = export_path(cloud, export_id);
    IM_AUTO(fd_auto)
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return im_fail_sys(err, errno, "cannot make the file of the export");
    if (!im_sync_parent(path, err))
        return false;
    *ret_fd = im_steal_fd(&fd);
    return true;
}

static void report_progress(void *arg, const char *phase, int64_t done, int64_t total) {
    (void) phase;
    jobs_progress(arg, done, total);
}

static char *worker_request(const struct cloud *cloud, const struct image_export *row,
                            const struct layer_files *files) {
    IM_AUTO(free_auto) char *formats = layer_files_formats(files);
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "format", row->format);
    wire_text(&writer, "layers", formats);
    wire_int(&writer, "max_bytes", row->disk_bytes);
    wire_text(&writer, "user", cloud->config.worker_user);
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

/* The file to be made is the first. */
static bool open_files(struct cloud *cloud, const struct export_run *work,
                       struct layer_files *files, struct im_err *err) {
    int out = -1;

    if (!open_out(cloud, work->row->export_id, &out, err))
        return false;
    layer_files_add(files, out);
    return layer_files_open(cloud, work->layer_name, LAYER_END_FROZEN, LAYERS_MAX, files, err);
}

static bool export_file(struct job_run *run, const struct export_run *work,
                        struct layer_files *files, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(free_auto) char *request = NULL;
    struct worker_call call = {.program = cloud->config.worker_program,
                               .verb = "export",
                               .cancel = run->cancel,
                               .silence_ms = worker_silence_ms,
                               .progress = report_progress,
                               .arg = run};
    char *result = NULL;

    if (!open_files(cloud, work, files, err))
        return false;
    request = worker_request(cloud, work->row, files);
    call.request = request;
    call.fds = files->fds;
    call.fd_count = files->count;
    if (!worker_run(&call, &result, err))
        return false;
    run->scratch = result;
    return true;
}

static bool export_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(export_run_done) struct export_run work = {0};
    IM_AUTO(layer_files_done) struct layer_files files = {0};

    return export_load(run, &work, err) &&
           (export_file(run, &work, &files, err) ||
            im_within(err, "export of image [%s]", run->item->resource_id));
}

static bool export_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(wire_doc_free_auto)
    struct wire_doc *doc = wire_parse(run->scratch, strlen(run->scratch), err);
    IM_AUTO(image_export_free_auto) struct image_export *row = NULL;

    if (data == NULL || doc == NULL ||
        !record_get(conn, &image_export_type, wire_get_text(wire_root(data), "export", ""), &row,
                    err))
        return false;
    row->status = EXPORT_AVAILABLE;
    row->size_bytes = wire_get_int(wire_root(doc), "size_bytes", 0);
    row->disk_bytes = wire_get_int(wire_root(doc), "disk_bytes", 0);
    row->stored_bytes = wire_get_int(wire_root(doc), "stored_bytes", 0);
    im_replace(&row->digest, wire_get_text(wire_root(doc), "digest", ""));
    row->expire_time = im_now_s() + cloud->config.export_keep_s;
    return record_update(conn, &image_export_type, row, err);
}

static bool export_undo(struct job_run *run, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    if (data == NULL)
        return false;
    export_remove(run->context, wire_get_text(wire_root(data), "export", ""));
    return true;
}

static bool export_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                          struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    (void) why;
    background_collect(run->context); /* perhaps only we kept the layer */
    return data != NULL && record_delete(conn, &image_export_type,
                                         wire_get_text(wire_root(data), "export", ""), err);
}

static const struct job_step export_steps[] = {{"export", export_run, export_commit, export_undo}};
const struct job_verb image_export_verb = {.action = "ExportImage",
                                           .steps = export_steps,
                                           .step_count = 1,
                                           .undone = export_undone,
                                           .resumes = true,
                                           .cancels = true};

/* --- Looking, downloading, deleting ----------------------------------------------------------- */

bool cloud_image_exports(struct cloud *cloud, const struct caller *caller, struct query *query,
                         struct image_export_list *ret_list, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct image_export_list list = {0};

    if (conn == NULL)
        return false;
    query_restrict(caller, query, "export_id", NULL);
    if (!record_list(conn, &image_export_type, query, (void ***) &list.items, &list.count,
                     &list.total, err))
        return false;
    *ret_list = list;
    return true;
}

void image_export_list_done(struct image_export_list *list) {
    record_list_free(&image_export_type, (void **) list->items, list->count);
    *list = (struct image_export_list){0};
}

static bool load_available(struct db_conn *conn, const struct caller *caller, const char *id,
                           struct image_export **ret_export, struct im_err *err) {
    if (!image_export_load(conn, caller, id, ret_export, err))
        return false;
    if ((*ret_export)->status == EXPORT_AVAILABLE)
        return true;
    return im_fail(err, IM_WRONG_STATE, "export [%s] is being made by job [%s]", id,
                   (*ret_export)->job_id);
}

bool cloud_export_open(struct cloud *cloud, const struct caller *caller, const char *export_id,
                       struct export_file *ret_file, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(image_export_free_auto) struct image_export *row = NULL;
    IM_AUTO(free_auto) char *path = export_path(cloud, export_id);
    IM_AUTO(fd_auto) int fd = -1;
    struct stat st;

    if (conn == NULL || !load_available(conn, caller, export_id, &row, err))
        return false;
    if (row->expire_time < im_now_s())
        return im_fail(err, IM_NOT_FOUND, "export [%s] has expired", export_id);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot open the file of export [%s]", export_id);
    if (st.st_size != row->size_bytes)
        return im_fail(err, IM_INTERNAL, "export [%s] has another size than it was made with",
                       export_id);
    *ret_file = (struct export_file){.size_bytes = (uint64_t) st.st_size,
                                     .type = "application/octet-stream"};
    snprintf(ret_file->digest, sizeof(ret_file->digest), "%s",
             im_starts_with(row->digest, "sha256:") ? row->digest + 7 : "");
    snprintf(ret_file->name, sizeof(ret_file->name), "%s.%s", row->image_id, row->format);
    ret_file->fd = im_steal_fd(&fd);
    return true;
}

struct export_delete {
    const struct caller *caller;
    const struct im_strings *ids;
};

static bool delete_body(struct db_conn *conn, void *arg, struct im_err *err) {
    const struct export_delete *delete = arg;

    for (size_t i = 0; i < delete->ids->count; i++) {
        IM_AUTO(image_export_free_auto) struct image_export *row = NULL;

        if (!load_available(conn, delete->caller, delete->ids->items[i], &row, err) ||
            !record_delete(conn, &image_export_type, row->export_id, err))
            return false;
    }
    return true;
}

bool cloud_image_exports_delete(struct cloud *cloud, const struct caller *caller,
                                const struct im_strings *ids, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings unique = {0};
    struct export_delete delete = {caller, &unique};

    if (!ids_unique("exports", ids, &unique, err) ||
        !cloud_transact(cloud, delete_body, &delete, err))
        return false;
    for (size_t i = 0; i < unique.count; i++)
        export_remove(cloud, unique.items[i]);
    return true;
}

/* --- What expires, and what a crash left ------------------------------------------------------ */

/* Asked again inside: a caller may have wanted it for longer meanwhile. */
static bool expire_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct image_export *export = arg;
    int64_t changed = 0;

    if (!db_exec(conn, &changed, err,
                 "DELETE FROM image_exports WHERE export_id = $1 AND status = 'available'"
                 " AND expire_time < $2",
                 "ti", export->export_id, im_now_s()))
        return false;
    export->status = changed > 0 ? EXPORT_AVAILABLE : EXPORT_PENDING;
    return true;
}

static bool expire_one(struct cloud *cloud, struct image_export *export, struct im_err *err) {
    if (export->expire_time >= im_now_s())
        return true;
    if (!cloud_transact(cloud, expire_body, export, err))
        return false;
    if (export->status == EXPORT_AVAILABLE)
        export_remove(cloud, export->export_id);
    return true;
}

bool exports_expire(struct cloud *cloud, struct im_err *err) {
    IM_AUTO(query_done)
    struct query query = {
        .limit = EXPIRED_PER_ROUND, .sort_field = "expire_time", .ascending = true};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct image_export **found = NULL;
    size_t count = 0;
    bool fine = true;

    query_add(&query, "status", CONDITION_IN, "available");
    if (conn == NULL ||
        !record_list(conn, &image_export_type, &query, (void ***) &found, &count, NULL, err))
        return false;
    db_give(im_steal(&conn));
    for (size_t i = 0; i < count && fine; i++)
        fine = expire_one(cloud, found[i], err);
    record_list_free(&image_export_type, (void **) found, count);
    return fine;
}

bool exports_sweep(const struct cloud *cloud, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(free_auto) char *path = im_printf("%s/exports", cloud->config.state_dir);
    struct dirent *entry;
    DIR *dir;

    if (conn == NULL)
        return false;
    dir = opendir(path);
    if (dir == NULL)
        return im_fail_sys(err, errno, "cannot look into %s", path);
    while ((entry = readdir(dir)) != NULL) {
        IM_AUTO(image_export_free_auto) struct image_export *row = NULL;
        struct im_err missing = {0};

        if (entry->d_name[0] != '.' &&
            !record_get(conn, &image_export_type, entry->d_name, &row, &missing) &&
            missing.code == IM_NOT_FOUND)
            export_remove(cloud, entry->d_name);
    }
    (void) closedir(dir);
    return true;
}
