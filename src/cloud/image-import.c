/* SPDX-License-Identifier: Apache-2.0 */
/* ImportImage: from an upload, a URL, or a path the operator allows. This process only moves
 * descriptors; every byte is looked at in a worker. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cloud-private.h"
#include "jobs/worker.h"

static const int64_t worker_silence_ms = 300000;

static char *upload_path(const struct cloud *cloud, const char *image_id) {
    return im_printf("%s/uploads/%s.part", cloud->config.state_dir, image_id);
}

static bool is_url(const char *source) {
    return im_starts_with(source, "http://") || im_starts_with(source, "https://");
}

/* --- Paths the operator allows ---------------------------------------------------------------- */

static bool path_below(const char *path, const char *folder) {
    size_t len = strlen(folder);

    while (len > 1 && folder[len - 1] == '/')
        len--;
    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0' || len == 1);
}

static bool path_allowed(const struct cloud *cloud, const char *real) {
    IM_AUTO(im_strings_done) struct im_strings folders = {0};

    im_strings_split(&folders, cloud->config.import_paths, ":");
    for (size_t i = 0; i < folders.count; i++) {
        IM_AUTO(free_auto) char *folder = realpath(folders.items[i], NULL);

        if (folder != NULL && path_below(real, folder))
            return true;
    }
    return false;
}

static bool not_allowed(const char *path, struct im_err *err) {
    return im_fail(err, IM_DENIED,
                   "source [%.256s] is not below a folder of the configuration's import_paths",
                   path);
}

/* What lies elsewhere on the host is nobody's business, nor is whether there is anything: only of
 * an allowed folder does one learn that a name is not in it. */
static bool name_allowed(const struct cloud *cloud, const char *path, struct im_err *err) {
    IM_AUTO(free_auto) char *real = realpath(path, NULL);
    IM_AUTO(free_auto) char *folder = NULL;
    int sys = errno;

    if (real != NULL)
        return path_allowed(cloud, real) || not_allowed(path, err);
    folder = im_strndup(path, (size_t) (strrchr(path, '/') + 1 - path));
    real = realpath(folder, NULL);
    if (real == NULL || !path_allowed(cloud, real))
        return not_allowed(path, err);
    return im_fail(err, IM_BAD_MESSAGE, "source [%.256s] cannot be opened: %s", path,
                   strerror(sys));
}

/* Opens, and asks again where that was, so that a name exchanged in between leads nowhere. */
static bool open_allowed(const struct cloud *cloud, const char *path, int *ret_fd,
                         struct im_err *err) {
    IM_AUTO(fd_auto) int fd = -1;
    char link[64], real[PATH_MAX];
    struct stat st;
    ssize_t len;

    if (!name_allowed(cloud, path, err))
        return false;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return im_fail(err, IM_BAD_MESSAGE, "source [%.256s] cannot be opened: %s", path,
                       strerror(errno));
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, real, sizeof(real) - 1);
    if (len < 0 || fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "source [%.256s] cannot be looked at", path);
    real[len] = '\0';
    if (!path_allowed(cloud, real))
        return not_allowed(path, err);
    if (!S_ISREG(st.st_mode))
        return im_fail(err, IM_BAD_MESSAGE, "source [%.256s] is not a regular file", path);
    *ret_fd = im_steal_fd(&fd);
    return true;
}

/* --- The request ------------------------------------------------------------------------------ */

struct import {
    struct cloud *cloud;
    const struct caller *caller;
    const struct image_import_args *args;
    char image_id[IM_ID_MAX];
    char job_id[IM_JOB_ID_MAX];
};

static bool one_of(const char *what, const char *value, const char *words, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings list = {0};

    im_strings_split(&list, words, " ");
    for (size_t i = 0; i < list.count; i++)
        if (im_str_empty(value) || strcmp(value, list.items[i]) == 0)
            return true;
    return im_fail(err, IM_BAD_MESSAGE, "%s [%.64s] should be one of: %s", what, value, words);
}

static bool digest_fits(const char *digest, struct im_err *err) {
    const char *hex = digest;

    if (im_str_empty(digest))
        return true;
    if (im_starts_with(hex, "sha256:"))
        hex += 7;
    if (strlen(hex) != 64 || strspn(hex, "0123456789abcdefABCDEF") != 64)
        return im_fail(err, IM_BAD_MESSAGE,
                       "digest [%.80s] should be sha256: and 64 hexadecimal digits", digest);
    return true;
}

static bool import_check(const struct import *import, struct im_err *err) {
    const struct image_import_args *args = import->args;
    bool for_all = !im_str_empty(args->image_id) || !im_str_empty(args->family) ||
                   im_str_equal(args->visibility, "public");

    if (for_all && !import->caller->admin)
        return im_fail(
            err, IM_DENIED,
            "only an administrator imports system images (image_id, family, visibility)");
    if (!im_str_empty(args->image_id) && !im_id_valid(args->image_id))
        return im_fail(err, IM_BAD_MESSAGE,
                       "image_id [%.64s] should be letters, digits, dots and dashes",
                       args->image_id);
    if (!im_str_empty(args->source) && !is_url(args->source) && args->source[0] != '/')
        return im_fail(err, IM_BAD_MESSAGE,
                       "source [%.256s] should be an http or https URL or an absolute path",
                       args->source);
    if (!im_str_empty(args->source) && args->source[0] == '/') {
        IM_AUTO(fd_auto) int fd = -1;

        if (!open_allowed(import->cloud, args->source, &fd, err))
            return false;
    }
    return text_fits("image_name", args->image_name, 255, err) &&
           text_fits("description", args->description, 1000, err) &&
           text_fits("source", args->source, 4096, err) &&
           text_fits("os_family", args->os_family, 64, err) &&
           text_fits("default_user", args->default_user, 32, err) &&
           text_fits("family", args->family, 63, err) && digest_fits(args->digest, err) &&
           one_of("format", args->format, "raw qcow2 vmdk vdi vpc vhdx", err) &&
           one_of("platform", args->platform, "linux windows", err) &&
           one_of("processor_type", args->processor_type, "64bit 32bit", err) &&
           one_of("visibility", args->visibility, "private public", err) &&
           one_of("firmware", args->firmware, "bios uefi", err) &&
           one_of("ui_type", args->ui_type, "tui gui", err);
}

/* A URL without user and password, as it is shown. */
static char *source_shown(const char *source) {
    const char *scheme = source ? strstr(source, "://") : NULL;
    const char *host = scheme ? scheme + 3 : NULL;
    const char *at = host ? strpbrk(host, "@/") : NULL;

    if (source == NULL)
        return im_strdup("upload");
    if (at != NULL && *at == '@')
        return im_printf("%.*s%s", (int) (host - source), source, at + 1);
    return im_strdup(source);
}

static const char *given(const char *text, const char *otherwise) {
    return im_str_empty(text) ? otherwise : text;
}

static char *import_data(const struct import *import) {
    const struct image_import_args *args = import->args;
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "source", given(args->source, ""));
    wire_text(&writer, "format", given(args->format, ""));
    wire_text(&writer, "digest", given(args->digest, ""));
    wire_text(&writer, "firmware", given(args->firmware, ""));
    wire_text(&writer, "platform", given(args->platform, ""));
    wire_text(&writer, "os_family", given(args->os_family, ""));
    wire_text(&writer, "processor_type", given(args->processor_type, ""));
    wire_text(&writer, "default_user", given(args->default_user, ""));
    wire_int(&writer, "force", args->force == 1);
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

static bool import_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct import *import = arg;
    const struct image_import_args *args = import->args;
    bool system = !im_str_empty(args->image_id) || im_str_equal(args->visibility, "public");
    bool windows = im_str_equal(args->platform, "windows");
    IM_AUTO(free_auto) char *source = source_shown(args->source);
    IM_AUTO(free_auto) char *data = import_data(import);
    IM_AUTO(image_free_auto) struct image *old = NULL;
    struct im_err missing = {0};
    char layer_id[IM_ID_MAX];
    struct image image = {.image_id = import->image_id,
                          .image_name = (char *) given(args->image_name, given(args->image_id, "")),
                          .description = (char *) args->description,
                          .size = windows ? DISK_MIN_WINDOWS_GIB : DISK_MIN_LINUX_GIB,
                          .processor_type = (char *) given(args->processor_type, "64bit"),
                          .platform = (char *) given(args->platform, "linux"),
                          .os_family =
                              (char *) given(args->os_family, windows ? "windows" : "linux"),
                          .visibility = system ? "public" : "private",
                          .provider = system ? "system" : "self",
                          .owner = (char *) (system ? SYSTEM_OWNER : import->caller->user_id),
                          .status = IMAGE_PENDING,
                          .transition_status = TRANSITION_CREATING,
                          .ui_type = (char *) given(args->ui_type, windows ? "gui" : "tui"),
                          .hypervisor = "kvm",
                          .default_user = (char *) given(args->default_user, ""),
                          .f_resetpwd = 1,
                          .family = (char *) args->family,
                          .firmware = (char *) given(args->firmware, ""),
                          .source = source,
                          .digest = (char *) args->digest,
                          .create_time = im_now_s(),
                          .status_time = im_now_s()};
    struct job_order order = {.resource_id = import->image_id, .data = data};

    if (im_str_empty(args->image_id))
        im_id_make(import->image_id, "img-", 8);
    else
        snprintf(import->image_id, sizeof(import->image_id), "%s", args->image_id);
    if (record_get(conn, &image_type, import->image_id, &old, &missing)) {
        if (old->status != IMAGE_CEASED)
            return im_fail(err, IM_EXISTS,
                           "image [%s] exists already; delete it first or choose "
                           "another image_id",
                           import->image_id);
        if (!record_delete(conn, &image_type, import->image_id, err))
            return false;
    }
    if (!im_str_empty(args->source)) {
        if (!layer_plan(import->cloud, conn, NULL, 0, layer_id, err))
            return false;
        image.layer_id = layer_id;
    }
    if (!record_insert(conn, &image_type, &image, err))
        return false;
    if (im_str_empty(args->source))
        return db_exec(conn, NULL, err,
                       "INSERT INTO uploads (image_id, data, create_time) VALUES ($1, $2, $3)",
                       "tti", import->image_id, data, im_now_s());
    return jobs_add(import->cloud->jobs, conn, "ImportImage", import->caller->user_id, "", &order,
                    1, import->job_id, err);
}

bool cloud_image_import(struct cloud *cloud, const struct caller *caller,
                        const struct image_import_args *args, char ret_image_id[IM_ID_MAX],
                        char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct import import = {.cloud = cloud, .caller = caller, .args = args};

    if (!import_check(&import, err) ||
        !cloud_order(cloud, import_body, &import, import.job_id, ret_job_id, err))
        return false;
    memcpy(ret_image_id, import.image_id, IM_ID_MAX);
    return true;
}

/* --- Upload ----------------------------------------------------------------------------------- */

/* The image waits for its bytes: pending, and its wishes lie in `uploads`. *ret_data may be NULL.
 */
static bool upload_waits(struct db_conn *conn, const struct caller *caller, const char *image_id,
                         char **ret_data, struct im_err *err) {
    IM_AUTO(image_free_auto) struct image *image = NULL;
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    bool more = false;

    if (!image_load(conn, caller, image_id, &image, err) || !image_owned(caller, image, err))
        return false;
    rows = db_query(conn, err, "SELECT data FROM uploads WHERE image_id = $1", "t", image_id);
    if (rows == NULL || !db_next(rows, &more, err))
        return false;
    if (!more)
        return im_fail(err, IM_WRONG_STATE, "image [%s] is %s, it waits for no upload", image_id,
                       image_status_word(image->status));
    if (ret_data != NULL)
        *ret_data = im_strdup(db_text(rows, 0));
    return true;
}

bool cloud_upload_begin(struct cloud *cloud, const struct caller *caller, const char *image_id,
                        struct upload *ret_upload, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(free_auto) char *path = upload_path(cloud, image_id);
    struct stat st;

    if (conn == NULL || !upload_waits(conn, caller, image_id, NULL, err))
        return false;
    if (strlen(path) >= sizeof(ret_upload->path))
        return im_fail(err, IM_INTERNAL, "path of the upload of image [%s] is too long", image_id);
    strcpy(ret_upload->path, path);
    ret_upload->received_bytes = stat(path, &st) == 0 ? (uint64_t) st.st_size : 0;
    return true;
}

bool upload_give_up(struct db_conn *conn, const char *image_id, bool *ret_waited,
                    struct im_err *err) {
    int64_t changed = 0;

    if (!db_exec(conn, &changed, err, "DELETE FROM uploads WHERE image_id = $1", "t", image_id))
        return false;
    *ret_waited = changed > 0;
    return true;
}

void upload_remove(const struct cloud *cloud, const char *image_id) {
    IM_AUTO(free_auto) char *path = upload_path(cloud, image_id);

    if (unlink(path) < 0 && errno != ENOENT)
        im_warn("cloud", "cannot remove %s: %s", path, strerror(errno));
}

/* A file that a request opened while its image was deleted; what a crash left. */
static void sweep_one(const struct cloud *cloud, struct db_conn *conn, const char *name) {
    size_t len = strlen(name);
    IM_AUTO(free_auto) char *image_id = len > 5 ? im_strndup(name, len - 5) : NULL;
    IM_AUTO(image_free_auto) struct image *image = NULL;
    struct im_err err = {0};
    bool found;

    if (image_id == NULL || strcmp(name + len - 5, ".part") != 0)
        return;
    found = record_get(conn, &image_type, image_id, &image, &err);
    if ((found && image->status != IMAGE_PENDING) || (!found && err.code == IM_NOT_FOUND))
        upload_remove(cloud, image_id);
}

bool uploads_sweep(const struct cloud *cloud, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(free_auto) char *path = im_printf("%s/uploads", cloud->config.state_dir);
    struct dirent *entry;
    DIR *dir;

    if (conn == NULL)
        return false;
    dir = opendir(path);
    if (dir == NULL)
        return im_fail_sys(err, errno, "cannot look into %s", path);
    while ((entry = readdir(dir)) != NULL)
        sweep_one(cloud, conn, entry->d_name);
    (void) closedir(dir);
    return true;
}

struct finish {
    struct cloud *cloud;
    const struct caller *caller;
    const char *image_id;
    uint64_t total_bytes;
    char job_id[IM_JOB_ID_MAX];
    char earlier[IM_JOB_ID_MAX]; /* the job of an earlier call; that one was told to run */
};

/* The job of an upload that was finished before; "" while it waits for its bytes. IM_WRONG_STATE
 * when there is neither. */
static bool finished_job(struct db_conn *conn, const struct finish *finish, char **ret_data,
                         char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct im_err waits = {0};
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    bool more = false;

    ret_job_id[0] = '\0';
    if (upload_waits(conn, finish->caller, finish->image_id, ret_data, &waits))
        return true;
    if (waits.code != IM_WRONG_STATE) {
        *err = waits;
        return false;
    }
    rows = db_query(conn, err,
                    "SELECT job_id FROM jobs WHERE resource_ids = $1"
                    " AND job_action = 'ImportImage' ORDER BY create_time DESC LIMIT 1",
                    "t", finish->image_id);
    if (rows == NULL || !db_next(rows, &more, err))
        return false;
    if (more)
        snprintf(ret_job_id, IM_JOB_ID_MAX, "%s", db_text(rows, 0));
    else
        *err = waits;
    return more;
}

static bool upload_complete(const struct finish *finish, struct im_err *err) {
    IM_AUTO(free_auto) char *path = upload_path(finish->cloud, finish->image_id);
    struct stat st = {0};

    if (stat(path, &st) == 0 && (uint64_t) st.st_size == finish->total_bytes)
        return true;
    return im_fail(err, IM_WRONG_STATE,
                   "upload of image [%s] is not complete: %" PRIu64 " of %" PRIu64 " bytes",
                   finish->image_id, (uint64_t) st.st_size, finish->total_bytes);
}

static bool finish_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct finish *finish = arg;
    IM_AUTO(free_auto) char *data = NULL;
    char layer_id[IM_ID_MAX];
    struct image image = {.image_id = (char *) finish->image_id, .layer_id = layer_id};
    struct job_order order = {.resource_id = finish->image_id};

    if (!finished_job(conn, finish, &data, finish->earlier, err))
        return false;
    if (finish->earlier[0] != '\0')
        return true;
    if (!upload_complete(finish, err) || !layer_plan(finish->cloud, conn, NULL, 0, layer_id, err) ||
        !record_update_fields(conn, &image_type, &image, (const char *const[]){"layer_id", NULL},
                              err) ||
        !db_exec(conn, NULL, err, "DELETE FROM uploads WHERE image_id = $1", "t", finish->image_id))
        return false;
    order.data = data;
    return jobs_add(finish->cloud->jobs, conn, "ImportImage", finish->caller->user_id, "", &order,
                    1, finish->job_id, err);
}

bool cloud_upload_finish(struct cloud *cloud, const struct caller *caller, const char *image_id,
                         uint64_t total_bytes, char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct finish finish = {
        .cloud = cloud, .caller = caller, .image_id = image_id, .total_bytes = total_bytes};

    if (!cloud_order(cloud, finish_body, &finish, finish.job_id, ret_job_id, err))
        return false;
    if (finish.earlier[0] != '\0')
        memcpy(ret_job_id, finish.earlier, IM_JOB_ID_MAX);
    return true;
}

/* --- The job ---------------------------------------------------------------------------------- */

/* The layer that was planned for the image. */
static bool planned_layer(struct cloud *cloud, const char *image_id, struct layer **ret_layer,
                          struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(image_free_auto) struct image *image = NULL;

    return conn != NULL && record_get(conn, &image_type, image_id, &image, err) &&
           record_get(conn, &layer_type, image->layer_id, ret_layer, err);
}

static char *worker_request(const struct cloud *cloud, const struct wire_value *wish) {
    const char *source = wire_get_text(wish, "source", "");
    IM_AUTO(free_auto) char *scratch = im_printf("%s/uploads", cloud->config.state_dir);
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "kind", is_url(source) ? "url" : "fd");
    if (is_url(source))
        wire_text(&writer, "url", source);
    wire_text(&writer, "format", wire_get_text(wish, "format", ""));
    wire_text(&writer, "digest", wire_get_text(wish, "digest", ""));
    wire_int(&writer, "force", wire_get_int(wish, "force", 0));
    wire_int(&writer, "max_bytes", cloud->config.import_max_bytes);
    wire_int(&writer, "max_ratio", cloud->config.import_max_ratio);
    wire_text(&writer, "user", cloud->config.worker_user);
    wire_text(&writer, "scratch_dir", scratch);
    wire_text(&writer, "proxy", cloud->config.import_proxy ? cloud->config.import_proxy : "");
    wire_int(&writer, "allow_private", cloud->config.import_private_addresses);
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

static bool open_source(const struct cloud *cloud, const char *image_id, const char *source,
                        int *ret_fd, struct im_err *err) {
    IM_AUTO(free_auto) char *path = NULL;

    if (source[0] == '/')
        return open_allowed(cloud, source, ret_fd, err);
    path = upload_path(cloud, image_id);
    *ret_fd =
        open(path, is_url(source) ? O_RDWR | O_CREAT | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0600);
    return *ret_fd >= 0 ||
           im_fail_sys(err, errno, "image [%s]: cannot open what was received", image_id);
}

static void report_progress(void *arg, const char *phase, int64_t done, int64_t total) {
    (void) phase;
    jobs_progress(arg, done, total);
}

/* Is what came in published, going by what the worker found on it? */
static bool import_publishes(const struct wire_value *wish, const char *result,
                             struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = wire_parse(result, strlen(result), err);

    return doc != NULL && (wire_get_int(wish, "force", 0) != 0 ||
                           report_publishes(wire_get(wire_root(doc), "report"), err));
}

static bool import_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    const char *image_id = run->item->resource_id;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *wish = item_data(run, err);
    IM_AUTO(free_auto) char *request = NULL;
    IM_AUTO(fd_auto) int source = -1;
    IM_AUTO(fd_auto) int output = -1;
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;
    char *result = NULL;
    struct worker_call call = {.program = cloud->config.worker_program,
                               .verb = "import",
                               .cancel = run->cancel,
                               .silence_ms = worker_silence_ms,
                               .progress = report_progress,
                               .arg = run};

    if (wish == NULL ||
        !open_source(cloud, image_id, wire_get_text(wire_root(wish), "source", ""), &source, err))
        return false;
    if (!planned_layer(cloud, image_id, &layer, err) ||
        !storage_import_begin(cloud->config.pool, layer->name, &output, err))
        return false;
    request = worker_request(cloud, wire_root(wish));
    call.request = request;
    call.fds = (const int[]){source, output};
    call.fd_count = 2;
    if (!worker_run(&call, &result, err) || !import_publishes(wire_root(wish), result, err) ||
        !storage_import_end(cloud->config.pool, layer->name, output, err)) {
        free(result);
        return false;
    }
    run->scratch = result;
    return true;
}

static bool layer_imported(struct db_conn *conn, const struct image *image, struct im_err *err) {
    struct layer layer = {.layer_id = image->layer_id,
                          .state = LAYER_FROZEN,
                          .size_bytes = image->size_bytes,
                          .digest = image->digest};

    return record_update_fields(conn, &layer_type, &layer,
                                (const char *const[]){"state", "size_bytes", "digest", NULL}, err);
}

static bool import_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto)
    struct wire_doc *doc = wire_parse(run->scratch, strlen(run->scratch), err);
    IM_AUTO(wire_doc_free_auto) struct wire_doc *wish = item_data(run, err);
    IM_AUTO(image_free_auto) struct image *image = NULL;
    const struct wire_value *result;
    bool planned = false;
    int64_t gib;

    if (doc == NULL || wish == NULL ||
        !record_get(conn, &image_type, run->item->resource_id, &image, err))
        return false;
    result = wire_root(doc);
    image->size_bytes = wire_get_int(result, "size_bytes", 0);
    gib = (image->size_bytes + GIB - 1) / GIB;
    if (gib > image->size)
        image->size = gib;
    im_replace(&image->digest, wire_get_text(result, "digest", ""));
    if (im_str_empty(image->firmware))
        im_replace(&image->firmware, wire_get_text(result, "firmware", "bios"));
    if (wire_get(result, "report") != NULL)
        image_take_report(image, wire_get(result, "report"), wire_root(wish));
    if (!layer_imported(conn, image, err) ||
        !boot_gate_plan(run, conn, image, "import", &planned, err))
        return false;
    if (!planned) {
        image->status = IMAGE_AVAILABLE;
        image->transition_status = TRANSITION_NONE;
        image->status_time = im_now_s();
    }
    return record_update(conn, &image_type, image, err);
}

/* What was received has served. Failing here must not take a published image back, so it only
 * warns. */
static bool clean_run(struct job_run *run, struct im_err *err) {
    (void) err;
    upload_remove(run->context, run->item->resource_id);
    return true;
}

static bool import_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                          struct im_err *err) {
    IM_AUTO(image_free_auto) struct image *image = NULL;

    (void) why;
    return boot_gate_undone(run, conn, err) &&
           record_get(conn, &image_type, run->item->resource_id, &image, err) &&
           layer_drop(run->context, conn, image->layer_id, err) &&
           image_gone(conn, image->image_id, err);
}

static const struct job_step import_steps[] = {
    {"import", import_run, import_commit, clean_run},
    {"boot", boot_gate_run, boot_gate_publish, boot_gate_undo},
    {"clean", clean_run, NULL, NULL},
};
const struct job_verb image_import_verb = {.action = "ImportImage",
                                           .steps = import_steps,
                                           .step_count = 3,
                                           .undone = import_undone,
                                           .resumes = true,
                                           .cancels = true};
