/* SPDX-License-Identifier: Apache-2.0 */
/* Runs imprint-worker: starts it with nothing of ours but what it is given, listens to its JSON
 * lines, and ends it when it is cancelled, silent, or talks nonsense. */
#include "jobs/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "wire/wire.h"

enum {
    FDS_MAX = 256,
    LINE_MAX_BYTES = 16 << 20, /* a plan may have drivers for an initramfs in it */
    LOG_LINE_MAX = 1000,
    SILENCE_MS = 60000,
    LOOK_MS = 100,      /* how often `cancel` is looked at */
    TERM_MS = 2000,     /* from asking to killing */
    LEAVING_MS = 10000, /* from the end of its output to its own end */
};

struct child {
    pid_t pid;    /* also its process group */
    int ended;    /* readable when it has ended; -1: the kernel has no such thing */
    int out, log; /* its stdout and stderr; -1 once it closed them */
};

struct talk {
    const struct worker_call *call;
    struct im_str out, log; /* lines that are not whole yet */
    char *result;
    bool refused; /* it gave an error itself */
    struct im_err error;
};

/* --- Starting --------------------------------------------------------------------------------- */

/* What may come along: no variable of ours holds a path or secret that the worker needs. */
static const char *const kept_variables[] = {"http_proxy",   "https_proxy",   "no_proxy",
                                             "ASAN_OPTIONS", "UBSAN_OPTIONS", "IMPRINT_DEBUG"};
enum { KEPT = sizeof(kept_variables) / sizeof(kept_variables[0]) };

static void environment(struct im_strings *list) {
    im_strings_add(list, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    im_strings_add(list, "LANG=C.UTF-8");
    for (size_t i = 0; i < KEPT; i++) {
        const char *value = getenv(kept_variables[i]);
        IM_AUTO(free_auto) char *entry = NULL;

        if (value == NULL)
            continue;
        entry = im_printf("%s=%s", kept_variables[i], value);
        im_strings_add(list, entry);
    }
    im_grow(&list->items, list->count, &list->capacity);
    list->items[list->count] = NULL;
}

/* Memory, not a pipe: it can be written whole before anybody reads, and a worker that dies early
 * can not hurt us with SIGPIPE. */
static int request_fd(const char *request, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = memfd_create("request", MFD_CLOEXEC);

    if (fd < 0) {
        im_fail_sys(err, errno, "worker: no memory for its request");
        return -1;
    }
    if (!im_write_all(fd, request, strlen(request), "worker request", err))
        return -1;
    if (lseek(fd, 0, SEEK_SET) < 0) {
        im_fail_sys(err, errno, "worker: its request cannot be read back");
        return -1;
    }
    return im_steal_fd(&fd);
}

/* Between vfork and exec, in the memory of a program with threads, whose calling thread stands
 * still meanwhile: only calls that are safe in signal handlers, and nothing of ours changes. */
static void __attribute__((noreturn))
become(const struct worker_call *call, char *const argv[], char *const envp[], const int fds[],
       int count, pid_t parent) {
    struct sigaction fallback = {.sa_handler = SIG_DFL};
    int high[FDS_MAX + 3];
    sigset_t none;

    (void) setpgid(0, 0);
    /* Tied to the thread that forked: it waits in worker_run for our end, so it outlives us unless
     * the whole program goes, which may have happened before the call. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(127);
    for (int sig = 1; sig < NSIG; sig++)
        (void) sigaction(sig, &fallback, NULL);
    sigemptyset(&none);
    (void) sigprocmask(SIG_SETMASK, &none, NULL);
    /* First out of each other's way, then to their places; dup2 drops FD_CLOEXEC. */
    for (int i = 0; i < count; i++)
        if ((high[i] = fcntl(fds[i], F_DUPFD, FDS_MAX + 3)) < 0)
            _exit(127);
    for (int i = 0; i < count; i++)
        if (dup2(high[i], i) < 0)
            _exit(127);
    if (close_range((unsigned) count, ~0u, 0) < 0)
        _exit(127);
    execve(call->program, argv, envp);
    dprintf(STDERR_FILENO, "cannot run %s: %s", call->program, strerrordesc_np(errno));
    _exit(127);
}

static bool make_pipe(int *ret_read, int *ret_write, struct im_err *err) {
    int pair[2];

    if (pipe2(pair, O_CLOEXEC) < 0)
        return im_fail_sys(err, errno, "worker: no pipe");
    (void) fcntl(pair[0], F_SETFL, O_NONBLOCK);
    *ret_read = pair[0];
    *ret_write = pair[1];
    return true;
}

static bool start(const struct worker_call *call, struct child *ret_child, struct im_err *err) {
    IM_AUTO(fd_auto) int request = request_fd(call->request ? call->request : "{}", err);
    IM_AUTO(fd_auto) int out = -1;
    IM_AUTO(fd_auto) int out_end = -1;
    IM_AUTO(fd_auto) int log = -1;
    IM_AUTO(fd_auto) int log_end = -1;
    IM_AUTO(im_strings_done) struct im_strings envp = {0};
    char *const argv[] = {(char *) call->program, (char *) call->verb, NULL};
    int fds[FDS_MAX + 3];
    pid_t parent = getpid(), pid;
    sigset_t all, before;
    int sys;

    if (call->fd_count > FDS_MAX)
        return im_fail(err, IM_INTERNAL, "worker: %zu descriptors are too many", call->fd_count);
    if (request < 0 || !make_pipe(&out, &out_end, err) || !make_pipe(&log, &log_end, err))
        return false;
    fds[0] = request;
    fds[1] = out_end;
    fds[2] = log_end;
    for (size_t i = 0; i < call->fd_count; i++)
        fds[i + 3] = call->fds[i];
    environment(&envp);
    /* No handler of ours may run in the child, which has our memory until it execs: to copy the
     * tables of a large one takes longer than most looks. */
    sigfillset(&all);
    (void) pthread_sigmask(SIG_SETMASK, &all, &before);
    pid = vfork();
    if (pid == 0)
        become(call, argv, envp.items, fds, (int) call->fd_count + 3, parent);
    sys = errno;
    (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return im_fail_sys(err, sys, "cannot start %s", call->program);
    (void) setpgid(pid, pid); /* both sides do it: whoever comes first */
    *ret_child = (struct child){.pid = pid,
                                .ended = pidfd_open(pid, 0),
                                .out = im_steal_fd(&out),
                                .log = im_steal_fd(&log)};
    return true;
}

/* --- Listening -------------------------------------------------------------------------------- */

static bool take_message(struct talk *talk, const char *line, size_t len, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const struct worker_call *call = talk->call;
    struct worker_message message = {0};

    if (!wire_worker_read(line, len, &message, &doc, err)) {
        err->code = IM_INTERNAL;
        return im_within(err, "%s worker", call->verb);
    }
    switch (message.kind) {
    case WORKER_PROGRESS:
        if (call->progress != NULL)
            call->progress(call->arg, message.phase, message.done_bytes, message.total_bytes);
        break;
    case WORKER_RESULT:
        im_replace(&talk->result, message.text);
        break;
    case WORKER_ERROR:
        talk->refused = true;
        talk->error = message.err;
        break;
    case WORKER_LOG:
        im_info("worker", "%s: %s", call->verb, message.text);
        break;
    }
    return true;
}

static bool take_complaint(struct talk *talk, const char *line, size_t len, struct im_err *err) {
    (void) err;
    if (len > 0)
        im_warn("worker", "%s: %.*s", talk->call->verb,
                (int) (len < LOG_LINE_MAX ? len : LOG_LINE_MAX), line);
    return true;
}

/* Takes the whole lines out of `text`; with `all` also what stands behind the last of them. */
static bool take_lines(struct talk *talk, struct im_str *text, bool all,
                       bool (*take)(struct talk *talk, const char *line, size_t len,
                                    struct im_err *err),
                       struct im_err *err) {
    size_t from = 0;
    char *end;

    while (from < text->len && (end = memchr(text->data + from, '\n', text->len - from)) != NULL) {
        size_t len = (size_t) (end - text->data) - from;

        if (!take(talk, text->data + from, len, err))
            return false;
        from += len + 1;
    }
    if (all && from < text->len) {
        if (!take(talk, text->data + from, text->len - from, err))
            return false;
        from = text->len;
    }
    if (from > 0) {
        memmove(text->data, text->data + from, text->len - from);
        text->len -= from;
    }
    if (text->len > LINE_MAX_BYTES)
        return im_fail(err, IM_INTERNAL, "%s worker: its line is longer than %d bytes",
                       talk->call->verb, LINE_MAX_BYTES);
    return true;
}

/* What lies in a pipe now; *fd becomes -1 at its end. False only without memory or sense. */
static bool drain(struct talk *talk, int *fd, struct im_str *text,
                  bool (*take)(struct talk *talk, const char *line, size_t len, struct im_err *err),
                  struct im_err *err) {
    char buffer[16384];
    ssize_t got;

    while ((got = read(*fd, buffer, sizeof(buffer))) > 0) {
        bool ends = memchr(buffer, '\n', (size_t) got) != NULL;

        im_str_add_bytes(text, buffer, (size_t) got);
        if ((ends || text->len > LINE_MAX_BYTES) && !take_lines(talk, text, false, take, err))
            return false;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    close(*fd);
    *fd = -1;
    return take_lines(talk, text, true, take, err);
}

/* It has ended; its status stays to be fetched. */
static bool ended(pid_t pid) {
    siginfo_t info = {0};

    return waitid(P_PID, (id_t) pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == pid;
}

/* Until it closes its stdout, or is gone: a helper of its own may still hold the pipe open. */
static bool listen_to(struct talk *talk, struct child *child, struct im_err *err) {
    const struct worker_call *call = talk->call;
    int64_t silence_ms = call->silence_ms > 0 ? call->silence_ms : SILENCE_MS;
    int64_t heard_ms = im_mono_ms();

    while (child->out >= 0) {
        struct pollfd fds[] = {
            {child->out, POLLIN, 0}, {child->log, POLLIN, 0}, {child->ended, POLLIN, 0}};
        bool last = ended(child->pid); /* before the look into the pipe: then nothing is missed */

        if (call->cancel != NULL && *call->cancel)
            return im_fail(err, IM_CANCELLED, "cancelled");
        if (poll(fds, 3, last ? 0 : LOOK_MS) < 0 && errno != EINTR)
            return im_fail_sys(err, errno, "%s worker cannot be heard", call->verb);
        if (fds[0].revents != 0) {
            heard_ms = im_mono_ms();
            if (!drain(talk, &child->out, &talk->out, take_message, err))
                return false;
        }
        if (fds[1].revents != 0 && !drain(talk, &child->log, &talk->log, take_complaint, err))
            return false;
        if (last)
            return take_lines(talk, &talk->out, true, take_message, err);
        if (im_mono_ms() - heard_ms > silence_ms)
            return im_fail(err, IM_TIMEOUT, "%s worker said nothing for %lld seconds", call->verb,
                           (long long) silence_ms / 1000);
    }
    return true;
}

/* --- Ending ----------------------------------------------------------------------------------- */

static bool gone(const struct child *child, int64_t within_ms, int *ret_status) {
    int64_t deadline = im_mono_ms() + within_ms;

    for (;;) {
        struct pollfd ended = {child->ended, POLLIN, 0};
        pid_t got = waitpid(child->pid, ret_status, WNOHANG);

        if (got == child->pid || (got < 0 && errno == ECHILD))
            return true;
        if (im_mono_ms() >= deadline)
            return false;
        (void) poll(&ended, 1, child->ended < 0 ? 20 : (int) (deadline - im_mono_ms()));
    }
}

/* Its whole group, as a worker may have helpers of its own. Returns its wait status. */
static int end(const struct child *child, bool listened, const struct im_err *err) {
    int status = 0;

    if (!listened && err->code == IM_CANCELLED)
        (void) kill(-child->pid, SIGTERM);
    if ((listened || err->code == IM_CANCELLED) &&
        gone(child, listened ? LEAVING_MS : TERM_MS, &status)) {
        (void) kill(-child->pid, SIGKILL);
        return status;
    }
    (void) kill(-child->pid, SIGKILL);
    (void) kill(child->pid, SIGKILL); /* should it have left its group */
    while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

static bool judge(struct talk *talk, int status, char **ret_result, struct im_err *err) {
    const char *verb = talk->call->verb;

    if (talk->refused) {
        *err = talk->error;
        return false;
    }
    if (WIFSIGNALED(status))
        return im_fail(err, IM_INTERNAL, "%s worker was killed by signal %d (%s)", verb,
                       WTERMSIG(status), sigdescr_np(WTERMSIG(status)));
    if (WEXITSTATUS(status) != 0)
        return im_fail(err, IM_INTERNAL, "%s worker ended with status %d without a word", verb,
                       WEXITSTATUS(status));
    if (talk->result == NULL)
        return im_fail(err, IM_INTERNAL, "%s worker ended without a result", verb);
    *ret_result = im_steal(&talk->result);
    return true;
}

bool worker_run(const struct worker_call *call, char **ret_result, struct im_err *err) {
    struct talk talk = {.call = call};
    struct child child;
    bool listened, fine = false;
    int status;

    if (!start(call, &child, err))
        return false;
    listened = listen_to(&talk, &child, err);
    status = end(&child, listened, err);
    if (child.log >= 0) {
        struct im_err ignored = {0};

        (void) drain(&talk, &child.log, &talk.log, take_complaint, &ignored);
        (void) take_lines(&talk, &talk.log, true, take_complaint, &ignored);
    }
    if (listened)
        fine = judge(&talk, status, ret_result, err);
    fd_auto(&child.out);
    fd_auto(&child.log);
    fd_auto(&child.ended);
    im_str_done(&talk.out);
    im_str_done(&talk.log);
    free(talk.result);
    return fine;
}
