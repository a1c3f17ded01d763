/* SPDX-License-Identifier: Apache-2.0 */
/* imprint-worker: long or dangerous work with few rights. Which verbs there are, and how they are
 * asked; see worker/request.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "worker-private.h"

#define REQUEST_MAX (64u << 20) /* an edit may hold an initramfs */

#ifdef SANDBOX_WIDE
/* Looking for leaks at the end takes rights that are gone by then. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }
#endif

static const struct {
    const char *name;
    bool (*run)(const struct request *request, struct im_err *err);
} verbs[] = {{"import", verb_import}, {"probe", verb_probe}, {"inspect", verb_inspect},
             {"plan", verb_plan},     {"fold", verb_fold},   {"export", verb_export},
             {"mend", verb_mend}};

static const char usage[] =
    "usage: imprint-worker import|probe|inspect|plan|fold|export|mend\n"
    "                                         (JSON request on stdin; started by imprintd)\n"
    "       imprint-worker --sandbox-report   shows which belts can be fastened here\n"
    "       imprint-worker --version\n";

static bool read_request(struct im_str *text, struct im_err *err) {
    char buffer[8192];
    ssize_t got;

    while ((got = read(STDIN_FILENO, buffer, sizeof(buffer))) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return im_fail_sys(err, errno, "the request cannot be read");
        im_str_add_bytes(text, buffer, (size_t) got);
        if (text->len > REQUEST_MAX)
            return im_fail(err, IM_BAD_MESSAGE, "the request is too long");
    }
    return true;
}

static bool run(const char *verb, struct im_err *err) {
    struct im_str text = {0};
    struct request request = {0};
    bool fine = read_request(&text, err) &&
                request_parse(text.data ? text.data : "", text.len, &request, err);
    size_t i = 0;

    while (i < sizeof(verbs) / sizeof(verbs[0]) && strcmp(verbs[i].name, verb) != 0)
        i++;
    if (fine)
        fine = i < sizeof(verbs) / sizeof(verbs[0])
                   ? verbs[i].run(&request, err)
                   : im_fail(err, IM_BAD_ACTION, "imprint-worker has no verb %s", verb);
    im_str_done(&text);
    request_done(&request);
    return fine;
}

/* For operators and tests: one belt a line. */
static int show_sandbox(void) {
    struct sandbox_policy policy = {0};
    struct sandbox_report report;
    struct im_err err = {0};

    if (!sandbox_enter(&policy, &report, &err)) {
        fprintf(stderr, "imprint-worker: %s\n", err.text);
        return 1;
    }
    for (int belt = 0; belt < SANDBOX_BELTS; belt++)
        dprintf(STDOUT_FILENO, "%-18s %s%s\n", sandbox_belt_name(belt),
                report.fastened[belt] ? "fastened" : "no: ", report.why[belt]);
    return 0;
}

int main(int argc, char **argv) {
    struct im_err err = {0};

    if (argc == 2 && strcmp(argv[1], "--sandbox-report") == 0)
        return show_sandbox();
    if (argc == 2 && strcmp(argv[1], "--version") == 0)
        return printf("imprint-worker %s\n", IMPRINT_VERSION) < 0;
    if (argc != 2 || argv[1][0] == '-') {
        fputs(usage, stderr);
        return 2;
    }
    if (getenv("IMPRINT_DEBUG"))
        im_log_set_level(IM_LOG_DEBUG);
    if (run(argv[1], &err))
        return 0;
    report_error(&err);
    return 1;
}
