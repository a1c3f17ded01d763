/* SPDX-License-Identifier: Apache-2.0 */
/* Running imprint-worker: request in by a pipe, JSON lines out, killed when it is silent, unwanted,
 * or orphaned. */
#include "jobs/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "wire/wire.h"

enum {
    FDS_MAX = 8,
    LINE_MAX_BYTES = 1 << 20,
    SILENCE_MS = 60000,
    PATIENCE_MS = 2000,
    POLL_MS = 100
};

/* In the child: descriptors 0, 1, 3, 4 … are what the worker is promised, everything else is
 * closed. Only calls that are safe after fork in a program with threads. */
__attribute__((noreturn)) static void become(const struct worker_call *call, int in, int out,
                                             pid_t parent) {
    int moved[FDS_MAX];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127); /* it died before the line above */
    for (size_t i = 0; i < call->fd_count; i++)
        moved[i] = fcntl(call->fds[i], F_DUPFD, 64);
    in = fcntl(in, F_DUPFD, 64);
    out = fcntl(out, F_DUPFD, 64);
    if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0)
        _exit(127);
    for (size_t i = 0; i < call->fd_count; i++)
        if (moved[i] < 0 || dup2(moved[i], 3 + (int) i) < 0)
            _exit(127);
    if (close_range(3 + (unsigned) call->fd_count, ~0u, 0) < 0)
        _exit(127);
    for (int signal_number = 1; signal_number < 32; signal_number++)
        signal(signal_number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &(sigset_t){0}, NULL);
    execl(call->program, call->program, call->verb, (char *) NULL);
    _exit(127);
}

struct talk {
    const struct worker_call *call;
    struct im_str pending; /* an unfinished line */
    char *result;
    struct im_err err; /* what the worker says went wrong */
    bool heard_error;
};

static void take_line(struct talk *talk, const char *line, size_t len) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    struct worker_message message = {0};
    struct im_err err = {0};

    if (!wire_worker_read(line, len, &message, &doc, &err)) {
        im_warn("worker", "%s: a line that is no message: %s", talk->call->verb, err.text);
        return;
    }
    switch (message.kind) {
    case WORKER_PROGRESS:
        if (talk->call->progress != NULL)
            talk->call->progress(talk->call->arg, message.phase, message.done_bytes,
                                 message.total_bytes);
        break;
    case WORKER_RESULT:
        im_replace(&talk->result, message.text);
        break;
    case WORKER_ERROR:
        talk->err = message.err;
        talk->heard_error = true;
        break;
    case WORKER_LOG:
        im_info("worker", "%s: %s", talk->call->verb, message.text);
        break;
    }
}

static bool take_bytes(struct talk *talk, const char *bytes, size_t len) {
    const char *newline;

    im_str_add_bytes(&talk->pending, bytes, len);
    while ((newline = memchr(talk->pending.data, '\n', talk->pending.len)) != NULL) {
        size_t line = (size_t) (newline - talk->pending.data);

        take_line(talk, talk->pending.data, line);
        memmove(talk->pending.data, newline + 1, talk->pending.len - line - 1);
        talk->pending.len -= line + 1;
    }
    return talk->pending.len < LINE_MAX_BYTES;
}

/* Reads until the worker closes its output. False with the reason when it had to be killed. */
static bool listen_to(struct talk *talk, int out, pid_t pid, struct im_err *err) {
    int64_t silence_ms = talk->call->silence_ms > 0 ? talk->call->silence_ms : SILENCE_MS;
    int64_t heard_ms = im_mono_ms(), asked_ms = 0;

    for (;;) {
        struct pollfd fd = {out, POLLIN, 0};
        char buffer[16384];
        ssize_t n;

        if (talk->call->cancel != NULL && *talk->call->cancel && asked_ms == 0) {
            kill(pid, SIGTERM);
            asked_ms = im_mono_ms();
        }
        if (asked_ms != 0 && im_mono_ms() - asked_ms > PATIENCE_MS)
            kill(pid, SIGKILL);
        if (asked_ms == 0 && im_mono_ms() - heard_ms > silence_ms) {
            kill(pid, SIGKILL);
            return im_fail(err, IM_TIMEOUT, "%s worker said nothing for %lld s", talk->call->verb,
                           (long long) silence_ms / 1000);
        }
        if (poll(&fd, 1, POLL_MS) <= 0)
            continue;
        n = read(out, buffer, sizeof(buffer));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        heard_ms = im_mono_ms();
        if (!take_bytes(talk, buffer, (size_t) n)) {
            kill(pid, SIGKILL);
            return im_fail(err, IM_INTERNAL, "%s worker speaks in endless lines", talk->call->verb);
        }
    }
    return asked_ms == 0 || im_fail(err, IM_CANCELLED, "%s was cancelled", talk->call->verb);
}

static bool judge(struct talk *talk, int status, char **ret_result, struct im_err *err) {
    if (talk->heard_error) {
        *err = talk->err;
        return false;
    }
    if (WIFSIGNALED(status))
        return im_fail(err, IM_INTERNAL, "%s worker was killed by signal %d", talk->call->verb,
                       WTERMSIG(status));
    if (WEXITSTATUS(status) != 0 || talk->result == NULL)
        return im_fail(err, IM_INTERNAL, "%s worker ended with status %d and no result",
                       talk->call->verb, WEXITSTATUS(status));
    *ret_result = im_steal(&talk->result);
    return true;
}

static void give_request(int in, const char *request) {
    size_t left = strlen(request);

    while (left > 0) {
        ssize_t n = write(in, request, left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return; /* it died: its status will tell */
        request += n;
        left -= (size_t) n;
    }
}

bool worker_run(const struct worker_call *call, char **ret_result, struct im_err *err) {
    struct talk talk = {.call = call};
    int in[2], out[2], status = 0;
    pid_t parent = getpid(), pid;
    bool heard;

    if (call->fd_count > FDS_MAX)
        return im_fail(err, IM_INTERNAL, "%s worker: too many descriptors", call->verb);
    if (pipe2(in, O_CLOEXEC) < 0)
        return im_fail_sys(err, errno, "cannot make a pipe");
    if (pipe2(out, O_CLOEXEC) < 0) {
        close(in[0]);
        close(in[1]);
        return im_fail_sys(err, errno, "cannot make a pipe");
    }
    pid = fork();
    if (pid == 0)
        become(call, in[0], out[1], parent);
    close(in[0]);
    close(out[1]);
    if (pid > 0)
        give_request(in[1], call->request ? call->request : "{}");
    close(in[1]);
    heard = pid > 0 ? listen_to(&talk, out[0], pid, err)
                    : im_fail_sys(err, errno, "cannot start a worker");
    close(out[0]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    heard = heard && judge(&talk, status, ret_result, err);
    im_str_done(&talk.pending);
    free(talk.result);
    return heard;
}
