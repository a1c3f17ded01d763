/* SPDX-License-Identifier: Apache-2.0 */
/* imprint image boot-test, boot-tests: does it start, how far did it come, and why no further. */
#include "cli-private.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

enum { LOOK_MS = 500 };

static const struct column columns[] = {
    {"ID", "boot_test_id", FORM_TEXT, 0},
    {"OF", "resource_id", FORM_TEXT, 0},
    {"STATE", "status", FORM_TEXT, 1},
    {"VERDICT", "verdict", FORM_TEXT, 0},
    {"REASON", "reason", FORM_TEXT, 0},
    {"SECONDS", "seconds", FORM_INT, 2},
    {"CREATED", "create_time", FORM_TIME, 1},
    {"FIRMWARE", "firmware", FORM_TEXT, 3},
    {"OWNER", "owner", FORM_TEXT, 3},
    {"EVIDENCE", "evidence", FORM_TEXT, 4},
    {0},
};

static const struct listing boot_test_listing = {
    "DescribeBootTests",
    "boot_test_set",
    "boot_test_id",
    "boot_tests",
    columns,
    "no boot tests: make one with 'imprint image boot-test IMAGE'"};

/* --- Waiting ---------------------------------------------------------------------------------- */

static void show_progress(struct progress *progress, const struct wire_value *test) {
    const struct wire_value *line = wire_get(test, "timeline");
    size_t count = wire_count(line);

    progress_step(progress, count > 0 ? wire_get_text(wire_at(line, count - 1), "mark", "")
                                      : "waiting for a sign of it");
}

static bool find(struct cli *cli, const char *id, struct wire_doc **ret_doc,
                 const struct wire_value **ret_test, struct im_err *err) {
    return cli_find(cli, boot_test_listing.action, boot_test_listing.set,
                    boot_test_listing.ids_param, id, ret_doc, ret_test, err);
}

/* A test whose job fails is gone, and the job says why. */
static bool gone(struct cli *cli, const char *job_id, struct im_err *err) {
    struct im_err why = {0};

    if (cli->exit != CLI_NOT_FOUND && err->code != IM_NOT_FOUND)
        return false;
    cli->exit = CLI_OK;
    im_str_done(&cli->hint);
    cli->hint = (struct im_str){0};
    if (!cli_follow_job(cli, job_id, NULL, &why))
        *err = why;
    return false;
}

static bool wait_done(struct cli *cli, const char *id, const char *job_id,
                      struct wire_doc **ret_doc, const struct wire_value **ret_test,
                      struct im_err *err) {
    IM_AUTO(free_auto) char *what = im_printf("boot test %s", id);
    struct progress *progress = progress_new(cli, what);
    bool done = false, found = true;

    cli_catch_interrupts();
    for (int64_t next_ms = 0; found && !done && !cli_interrupted; im_sleep_ms(50)) {
        if (im_mono_ms() < next_ms)
            continue;
        wire_doc_free(im_steal(ret_doc));
        found = find(cli, id, ret_doc, ret_test, err);
        done = found && strcmp(wire_get_text(*ret_test, "status", ""), "done") == 0;
        if (found)
            show_progress(progress, *ret_test);
        next_ms = im_mono_ms() + LOOK_MS;
    }
    progress_free(progress, NULL);
    if (done)
        return true;
    if (!found && !cli_interrupted)
        return gone(cli, job_id, err);
    cli_hint(cli, "the test goes on: imprint image boot-test %s", id);
    return im_fail(err, IM_CANCELLED, "stopped waiting for boot test %s", id);
}

/* The one that is named, or a new one of the image that is. */
static bool begin(struct cli *cli, char **ret_id, char **ret_job_id, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const struct wire_value *reply;
    const char *of = cli->args.items[0];

    if (im_starts_with(of, "bt-")) {
        if (!find(cli, of, &doc, &reply, err))
            return false;
    } else {
        cli_params(cli, &params);
        client_param(&params, "image", of);
        if (!cli_call(cli, "BootTestImage", &params, &doc, err))
            return false;
        reply = wire_root(doc);
    }
    *ret_id = im_strdup(wire_get_text(reply, "boot_test_id", ""));
    *ret_job_id = im_strdup(wire_get_text(reply, "job_id", ""));
    return true;
}

/* --- The report ------------------------------------------------------------------------------- */

static void print_text(struct cli *cli, const char *before, const char *text) {
    if (!im_str_empty(text))
        fprintf(cli->out, "%s%s\n", before, text);
}

static void print_report(struct cli *cli, const struct wire_value *test) {
    const struct wire_value *line = wire_get(test, "timeline");

    fprintf(cli->out, "%s  %s: %s\n", wire_get_text(test, "boot_test_id", ""),
            wire_get_text(test, "verdict", ""), wire_get_text(test, "message", ""));
    print_text(cli, "  it said: ", wire_get_text(test, "evidence", ""));
    print_text(cli, "  to do:   ", wire_get_text(test, "hint", ""));
    for (size_t i = 0; i < wire_count(line); i++)
        fprintf(cli->out, "  %7.1f s  %s\n",
                (double) wire_get_int(wire_at(line, i), "ms", 0) / 1000,
                wire_get_text(wire_at(line, i), "mark", ""));
    fprintf(cli->out, "  %s, %s, %d CPU, %d MiB; known after %d s\n",
            wire_get_text(test, "firmware", ""), wire_get_text(test, "accel", ""),
            (int) wire_get_int(test, "vcpus", 0), (int) wire_get_int(test, "memory", 0),
            (int) wire_get_int(test, "seconds", 0));
}

/* On a terminal a guest's bytes must do nothing but be seen. */
static bool print_serial(struct cli *cli, const char *id, struct im_err *err) {
    IM_AUTO(free_auto) char *bytes = NULL;
    size_t len = 0;

    if (!client_boot_test_file(cli->client, id, "serial", &bytes, &len, err))
        return false;
    for (size_t i = 0; isatty(STDOUT_FILENO) && i < len; i++)
        if ((unsigned char) bytes[i] < 0x20 && strchr("\n\t", bytes[i]) == NULL)
            bytes[i] = ' ';
    return im_write_all(STDOUT_FILENO, bytes, len, "standard output", err);
}

static bool save_screen(struct cli *cli, const char *id, const char *path, struct im_err *err) {
    IM_AUTO(free_auto) char *bytes = NULL;
    size_t len = 0;

    return client_boot_test_file(cli->client, id, "screen", &bytes, &len, err) &&
           im_write_file(path, bytes, len, 0644, err);
}

static bool print_all(struct cli *cli, const struct wire_doc *doc, const struct wire_value *test,
                      struct im_err *err) {
    const char *id = wire_get_text(test, "boot_test_id", ""), *path = cli_value(cli, "screen");

    if (path != NULL && !save_screen(cli, id, path, err))
        return false;
    if (cli_flag(cli, "serial"))
        return print_serial(cli, id, err);
    if (cli->quiet || cli->output != OUTPUT_TABLE)
        cli_print_set(cli, &boot_test_listing, wire_get(wire_root(doc), boot_test_listing.set));
    else
        print_report(cli, test);
    return true;
}

bool cli_image_boot_test(struct cli *cli, struct im_err *err) {
    IM_AUTO(free_auto) char *id = NULL;
    IM_AUTO(free_auto) char *job_id = NULL;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const struct wire_value *test = NULL;

    if (!begin(cli, &id, &job_id, err) || !wait_done(cli, id, job_id, &doc, &test, err))
        return false;
    if (!print_all(cli, doc, test, err))
        return false;
    if (strcmp(wire_get_text(test, "verdict", ""), "boots") != 0)
        cli->exit = CLI_FAILED;
    return true;
}

bool cli_image_boot_tests(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    return cli_list(cli, &boot_test_listing, &params, err);
}
