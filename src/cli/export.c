/* SPDX-License-Identifier: Apache-2.0 */
/* imprint image export, exports, unexport: files of images, and their way to this machine. */
#include "cli-private.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fd.h"

static const struct column columns[] = {
    {"ID", "export_id", FORM_TEXT, 0},        {"IMAGE", "image_id", FORM_TEXT, 1},
    {"FORMAT", "format", FORM_TEXT, 0},       {"STATE", "status", FORM_STATE, 0},
    {"SIZE", "size_bytes", FORM_BYTES, 0},    {"TAKES", "stored_bytes", FORM_BYTES, 2},
    {"EXPIRES", "expire_time", FORM_TIME, 1}, {"OWNER", "owner", FORM_TEXT, 3},
    {"SHA-256", "digest", FORM_TEXT, 4},      {0},
};

static const struct listing export_listing = {
    "DescribeImageExports",
    "image_export_set",
    "export_id",
    "exports",
    columns,
    "no exports: make one with 'imprint image export IMAGE'"};

/* The export as it is when it is ready; *ret_doc holds it. */
static bool make_ready(struct cli *cli, struct wire_doc **ret_doc,
                       const struct wire_value **ret_export, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *reply = NULL;
    const char *id;

    cli_params(cli, &params);
    client_param(&params, "image", cli->args.items[0]);
    if (!cli_call(cli, "ExportImage", &params, &reply, err))
        return false;
    id = wire_get_text(wire_root(reply), "export_id", "");
    for (int look = 0;; look++) {
        if (!cli_find(cli, export_listing.action, export_listing.set, export_listing.ids_param, id,
                      ret_doc, ret_export, err))
            return false;
        if (strcmp(wire_get_text(*ret_export, "status", ""), "available") == 0)
            return true;
        if (look > 0)
            return im_fail(err, IM_INTERNAL, "export %s is not ready after its job", id);
        wire_doc_free(im_steal(ret_doc));
        if (!cli_follow_job(cli, wire_get_text(wire_root(reply), "job_id", ""), NULL, err))
            return false;
    }
}

/* The part that is there; nobody else may be at it. */
static bool open_part(const char *path, int *ret_fd, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

    if (fd < 0)
        return im_fail_sys(err, errno, "cannot write %s", path);
    if (flock(fd, LOCK_EX | LOCK_NB) < 0)
        return im_fail(err, IM_WRONG_STATE, "%s is being written by another imprint", path);
    *ret_fd = im_steal_fd(&fd);
    return true;
}

static bool show_download(void *context, uint64_t done, uint64_t total) {
    progress_bytes(context, done, total, 0);
    return cli_interrupted == 0;
}

static bool fetch(struct cli *cli, const struct client_export *file, int fd, const char *path,
                  struct im_err *err) {
    IM_AUTO(free_auto) char *what = im_printf("download %s", path);
    struct progress *progress = progress_new(cli, what);
    bool passed;

    cli_catch_interrupts();
    passed = client_download(cli->client, file, fd, show_download, progress, err);
    progress_free(progress, NULL);
    if (passed)
        return true;
    if (err->code == IM_CANCELLED)
        im_fail(err, IM_CANCELLED, "download of %s stopped", path);
    if (client_fault(cli->client) != CLIENT_ANSWERED || err->code == IM_CANCELLED)
        cli_hint(cli, "the same command goes on where it stopped");
    return false;
}

static bool save(struct cli *cli, const struct wire_value *export, const char *path,
                 struct im_err *err) {
    IM_AUTO(free_auto) char *part = im_printf("%s.part", path);
    const char *digest = wire_get_text(export, "digest", "");
    struct client_export file = {.export_id = wire_get_text(export, "export_id", ""),
                                 .digest = im_starts_with(digest, "sha256:") ? digest + 7 : digest,
                                 .size_bytes = (uint64_t) wire_get_int(export, "size_bytes", 0)};
    IM_AUTO(fd_auto) int fd = -1;

    if (!open_part(part, &fd, err) || !fetch(cli, &file, fd, path, err))
        return false;
    if (fsync(fd) < 0 || rename(part, path) < 0)
        return im_fail_sys(err, errno, "cannot write %s", path);
    return im_sync_parent(path, err);
}

static char *path_for(const struct cli *cli) {
    const char *file = cli_value(cli, "file"), *format = cli_value(cli, "format");

    if (file != NULL)
        return im_strdup(file);
    return im_printf("%s.%s", cli->args.items[0], format ? format : "qcow2");
}

static bool export_url(struct cli *cli, const struct wire_value *export) {
    int64_t hours = 24;
    IM_AUTO(free_auto) char *url = NULL;

    if (cli_value(cli, "valid") != NULL)
        (void) im_parse_i64(cli_value(cli, "valid"), 0, 24, &hours);
    url = client_export_url(cli->client, wire_get_text(export, "export_id", ""), hours * 3600);
    fprintf(cli->out, "%s\n", url);
    if (!cli->quiet)
        fprintf(stderr,
                "%s, good for %d h; goes on where it broke off with: curl -C - -fo FILE URL\n",
                wire_get_text(export, "digest", ""), (int) hours);
    return true;
}

bool cli_image_export(struct cli *cli, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings paths = {0};
    IM_AUTO(free_auto) char *path = path_for(cli);
    const struct wire_value *export = NULL;
    bool url = cli_flag(cli, "url");
    int64_t hours = 0;

    if (url && cli_value(cli, "file") != NULL)
        return cli_usage(cli, err, "--url downloads nothing: leave --file away");
    if (cli_value(cli, "valid") != NULL &&
        (!url || !im_parse_i64(cli_value(cli, "valid"), 1, 24, &hours)))
        return cli_usage(cli, err, "--valid says for how many hours, 1 to 24, a --url is good");
    if (!url && access(path, F_OK) == 0) {
        cli_hint(cli, "another name: --file FILE");
        return im_fail(err, IM_EXISTS, "%s is there already", path);
    }
    if (!make_ready(cli, &doc, &export, err))
        return false;
    if (url)
        return export_url(cli, export);
    if (!save(cli, export, path, err))
        return false;
    im_strings_add(&paths, path);
    cli_print_done(cli, doc, &paths, "%s  %s", path, wire_get_text(export, "digest", ""));
    return true;
}

bool cli_image_exports(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    return cli_list(cli, &export_listing, &params, err);
}

bool cli_image_unexport(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(free_auto) char *ids = im_strings_join(&cli->args, " ");

    client_param_list(&params, "exports", &cli->args);
    if (!cli_call(cli, "DeleteImageExports", &params, &doc, err))
        return false;
    cli_print_done(cli, doc, &cli->args, "%s: gone", ids);
    return true;
}
