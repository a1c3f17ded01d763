/* SPDX-License-Identifier: Apache-2.0 */
/* Running somebody else's program on a file that we did not make: fork, fasten the belts, exec. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "sandbox/sandbox.h"

#define OUTPUT_MAX 65536

/* In the child, which is single-threaded whatever the parent is. Ends in exec or _exit. */
static void child(const struct sandbox_policy *policy, const char *const argv[], unsigned kept,
                  int out, pid_t parent) {
    struct sandbox_policy own = *policy;
    struct sandbox_report report;
    struct im_err err = {0};
    char *environment[] = {(char[]){"PATH=/usr/bin:/bin"}, (char[]){"LC_ALL=C"}, NULL};
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    own.exec = true;
    (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
        _exit(127);
    if (close_range(3 + kept, ~0U, 0) < 0)
        _exit(127);
    if (sandbox_enter(&own, &report, &err)) {
        if (getppid() != parent) /* which ended before its end was ours */
            _exit(127);
        execve(argv[0], (char *const *) argv, environment);
        (void) im_fail_sys(&err, errno, "%s cannot be run", argv[0]);
    }
    dprintf(2, "%s\n", err.text);
    _exit(127);
}

/* Reads until the child closes its end; false when the time is over. */
static bool collect(int fd, int64_t timeout_ms, struct im_str *output) {
    int64_t end = im_mono_ms() + timeout_ms;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    char buffer[4096];

    for (;;) {
        int64_t left = end - im_mono_ms();
        ssize_t got;

        if (left <= 0)
            return false;
        if (poll(&ready, 1, left > 1000 ? 1000 : (int) left) <= 0)
            continue;
        got = read(fd, buffer, sizeof(buffer));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return true;
        if (output->len < OUTPUT_MAX)
            im_str_add_bytes(output, buffer, (size_t) got);
    }
}

/* The last line that says anything. */
static const char *last_line(char *text) {
    char *end = text + strlen(text), *line;

    while (end > text && (end[-1] == '\n' || end[-1] == ' '))
        *--end = '\0';
    line = strrchr(text, '\n');
    return line ? line + 1 : text;
}

static bool judge(const char *program, int status, const char *output, struct im_err *err) {
    IM_AUTO(free_auto) char *copy = im_strdup(output);

    if (WIFSIGNALED(status))
        return im_fail(err, IM_INTERNAL, "%s was killed by signal %d", program, WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        return im_fail(err, IM_INTERNAL, "%s failed: %s", program, last_line(copy));
    return true;
}

bool sandbox_start(const struct sandbox_policy *policy, const char *const argv[], unsigned kept,
                   pid_t *ret_pid, int *ret_output, struct im_err *err) {
    pid_t parent = getpid(), pid;
    int pipes[2];

    if (pipe2(pipes, O_CLOEXEC) < 0)
        return im_fail_sys(err, errno, "%s: no pipe", argv[0]);
    pid = fork();
    if (pid == 0)
        child(policy, argv, kept, pipes[1], parent);
    (void) close(pipes[1]);
    if (pid < 0) {
        (void) close(pipes[0]);
        return im_fail_sys(err, errno, "%s: no process", argv[0]);
    }
    *ret_pid = pid;
    *ret_output = pipes[0];
    return true;
}

bool sandbox_exec(const struct sandbox_policy *policy, const char *const argv[], int64_t timeout_ms,
                  char **ret_output, struct im_err *err) {
    struct im_str output = {0};
    IM_AUTO(free_auto) char *text = NULL;
    int out, status = 0;
    bool ended, fine;
    pid_t pid;

    if (!sandbox_start(policy, argv, 0, &pid, &out, err))
        return false;
    ended = collect(out, timeout_ms, &output);
    (void) close(out);
    if (!ended)
        (void) kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    text = im_str_take(&output);
    fine = ended ? judge(argv[0], status, text, err)
                 : im_fail(err, IM_TIMEOUT, "%s did not end in time", argv[0]);
    if (ret_output)
        *ret_output = im_steal(&text);
    return fine;
}
