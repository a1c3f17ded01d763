/* SPDX-License-Identifier: Apache-2.0 */
/* Running workers: small shell scripts that speak, fail, crash, keep silent and will not go. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "harness/test.h"
#include "jobs/worker.h"

static char *script_path;

struct heard {
    int64_t done, total;
    int count;
    char phase[32];
    volatile bool cancel;
    bool cancel_at_progress;
};

static void progress(void *arg, const char *phase, int64_t done, int64_t total) {
    struct heard *heard = arg;

    heard->done = done;
    heard->total = total;
    heard->count++;
    heard->cancel = heard->cancel_at_progress;
    snprintf(heard->phase, sizeof(heard->phase), "%s", phase ? phase : "");
}

static bool runs(const char *script, const struct worker_call *like, char **ret_result,
                 struct im_err *err) {
    IM_AUTO(free_auto) char *text = im_printf("#!/bin/sh\n%s\n", script);
    struct worker_call call = *like;

    call.program = script_path;
    call.verb = "import";
    return im_write_file(script_path, text, strlen(text), 0700, err) &&
           worker_run(&call, ret_result, err);
}

static void test_talk(void) {
    IM_AUTO(free_auto) char *result = NULL;
    struct heard heard = {0};
    struct worker_call call = {
        .request = "{\"secret\":\"s3\"}", .progress = progress, .arg = &heard};

    check_ok(runs("read line; test $1 = import || exit 3\n"
                  "echo '{\"progress\":{\"phase\":\"copy\",\"done\":5,\"total\":9}}'\n"
                  "echo '{\"log\":\"a line\"}'; echo complaint >&2\n"
                  "printf '{\"result\":{\"request\":%s}}' \"$line\"",
                  &call, &result, &err),
             "a worker runs to its end");
    check(result != NULL && strcmp(result, "{\"request\":{\"secret\":\"s3\"}}") == 0,
          "with the request on stdin and its result handed on: %s", result);
    check(heard.count == 1 && heard.done == 5 && heard.total == 9 &&
              strcmp(heard.phase, "copy") == 0,
          "progress was heard");
}

static void test_rights(void) {
    IM_AUTO(free_auto) char *result = NULL;
    IM_AUTO(free_auto) char *path = im_printf("%s/handed", test_folder());
    IM_AUTO(fd_auto) int first = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    IM_AUTO(fd_auto) int second = open("/dev/null", O_RDONLY | O_CLOEXEC);
    IM_AUTO(fd_auto) int leaky = open("/dev/zero", O_RDONLY);
    struct worker_call call = {.fds = (const int[]){first, second}, .fd_count = 2};
    char *text = NULL;
    struct im_err read_err = {0};

    setenv("IMPRINT_TEST_SECRET", "s3", 1);
    signal(SIGPIPE, SIG_IGN);
    check(leaky >= 0, "a descriptor that is not close-on-exec");
    check_ok(runs("n=0; for f in /proc/$$/fd/*; do n=$((n+1)); done\n"
                  "readlink /proc/$$/fd/4 | grep -q null || exit 4\n"
                  "for f in /proc/$$/fd/*; do readlink $f | grep -q zero && exit 5; done\n"
                  "test -z \"$IMPRINT_TEST_SECRET\" || exit 6\n"
                  "grep -q '^SigIgn:.0*$' /proc/$$/status || exit 7\n"
                  "echo hello >&3\necho '{\"result\":{}}'",
                  &call, &result, &err),
             "it has the descriptors it was given, no others, no variable, no ignored signal");
    check(im_read_file(path, 100, &text, NULL, &read_err) && strcmp(text, "hello\n") == 0,
          "and wrote to descriptor 3");
    check(fcntl(first, F_GETFD) >= 0, "which stays open here");
    signal(SIGPIPE, SIG_DFL);
    free(text);
}

static void fails(const char *script, int64_t silence_ms, enum im_code code, const char *words,
                  const char *claim) {
    struct worker_call call = {.silence_ms = silence_ms};
    struct im_err err = {0};
    char *result = NULL;
    bool passed = runs(script, &call, &result, &err);

    test_check_err(passed, &err, code, __FILE__, __LINE__, "%s", claim);
    check(strstr(err.text, words) != NULL && result == NULL, "and says why: %s", err.text);
    free(result);
}

static void test_failures(void) {
    fails("echo '{\"error\":{\"code\":\"BAD_IMAGE\",\"text\":\"it has a backing file\"}}'; exit 1",
          0, IM_BAD_IMAGE, "it has a backing file", "its own error is handed on");
    fails("kill -SEGV $$", 0, IM_INTERNAL, "import worker was killed by signal 11", "a crash");
    fails("exit 3", 0, IM_INTERNAL, "status 3", "a death without a word");
    fails("exit 0", 0, IM_INTERNAL, "without a result", "an end without a result");
    fails("echo '{\"result\":{}}'; kill -KILL $$", 0, IM_INTERNAL, "signal 9",
          "a result of one that was killed is none");
    fails("echo nonsense; sleep 100", 0, IM_INTERNAL, "worker message", "nonsense");
    fails("yes | tr -d '\\n'", 0, IM_INTERNAL, "longer than", "a line without end");
    fails("exec sleep 100", 300, IM_TIMEOUT, "said nothing", "silence");
    fails("(trap '' TERM; exec sleep 100) & kill -KILL $$", 0, IM_INTERNAL, "signal 9",
          "a helper that keeps its output open does not keep us");
}

static void test_missing(void) {
    struct worker_call call = {.program = "/nonexistent/worker", .verb = "import"};
    char *result = NULL;

    check_err(worker_run(&call, &result, &err), IM_INTERNAL, "a program that is not there");
}

static void test_cancel(void) {
    struct heard heard = {.cancel_at_progress = true};
    struct worker_call call = {.progress = progress, .arg = &heard, .cancel = &heard.cancel};
    char *result = NULL;
    int64_t begin = im_mono_ms();

    check_err(runs("echo '{\"progress\":{\"done\":1,\"total\":2}}'; exec sleep 100", &call, &result,
                   &err),
              IM_CANCELLED, "a cancelled worker");
    check(im_mono_ms() - begin < 1500, "goes at once");
    heard.cancel = false;
    begin = im_mono_ms();
    check_err(runs("trap '' TERM; echo '{\"progress\":{\"done\":1,\"total\":2}}'\n"
                   "while :; do sleep 1; done",
                   &call, &result, &err),
              IM_CANCELLED, "one that will not go");
    check(im_mono_ms() - begin >= 1900 && im_mono_ms() - begin < 8000, "is killed after 2 seconds");
}

/* The program that started it dies: so does the worker. */
static void test_orphan(void) {
    IM_AUTO(free_auto) char *pid_path = im_printf("%s/pid", test_folder());
    IM_AUTO(free_auto)
    char *script =
        im_printf("echo $$ > %s.new; mv %s.new %s\nexec sleep 100", pid_path, pid_path, pid_path);
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err err = {0};
    pid_t parent = fork(), worker = 0;

    if (parent == 0) {
        struct worker_call call = {0};
        char *result = NULL;

        _exit(runs(script, &call, &result, &err));
    }
    for (int i = 0; i < 500 && access(pid_path, F_OK) < 0; i++)
        im_sleep_ms(10);
    if (im_read_file(pid_path, 100, &text, NULL, &err))
        worker = (pid_t) atoi(text);
    check(worker > 1 && kill(worker, 0) == 0, "a worker runs");
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    for (int i = 0; i < 500 && worker > 1; i++) {
        IM_AUTO(free_auto) char *path = im_printf("/proc/%d/stat", worker);
        IM_AUTO(free_auto) char *state = NULL;

        /* Where nobody reaps orphans a zombie is as dead as can be. */
        if (!im_read_file(path, 4096, &state, NULL, &err) || strstr(state, ") Z ") != NULL)
            worker = 0;
        im_sleep_ms(10);
    }
    check(worker == 0, "and dies with the program that started it");
}

int main(void) {
    script_path = im_printf("%s/worker", test_folder());
    im_log_set_level(IM_LOG_ERROR);
    test_talk();
    test_rights();
    test_failures();
    test_missing();
    test_cancel();
    test_orphan();
    free(script_path);
    return test_end();
}
