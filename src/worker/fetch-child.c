/* SPDX-License-Identifier: Apache-2.0 */
/* The fetch has a process of its own: the one with a network parses no image, the one that parses
 * has no network. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/mem.h"
#include "fetch/fetch.h"
#include "worker-private.h"

#define ATTRIBUTE "user.imprint.etag"

struct job {
    struct fetch_result result;
    char kept[256]; /* the validator that lies with the file */
};

/* Which file the bytes are of is written down before there are many of them. Where it cannot be, a
 * later attempt begins anew. */
static void keep_etag(struct job *job) {
    if (strcmp(job->kept, job->result.etag) == 0)
        return;
    memcpy(job->kept, job->result.etag, sizeof(job->kept));
    if (job->kept[0] == '\0')
        (void) fremovexattr(WORKER_FD_SOURCE, ATTRIBUTE);
    else
        (void) fsetxattr(WORKER_FD_SOURCE, ATTRIBUTE, job->kept, strlen(job->kept), 0);
}

static void progress(void *arg, uint64_t done, uint64_t total) {
    keep_etag(arg);
    report_progress("fetch", done, total);
}

static bool fetch(const struct request *request, struct im_err *err) {
    struct sandbox_policy policy = {
        .user = request->user, .network = true, .resolve = true, .file_bytes = request->max_bytes};
    struct job job = {0};
    struct fetch_order order = {.url = request->url,
                                .proxy = request->proxy,
                                .allow_private = request->allow_private,
                                .max_bytes = request->max_bytes,
                                .fd = WORKER_FD_SOURCE,
                                .etag = job.kept,
                                .progress = progress,
                                .arg = &job};
    struct sandbox_report report;
    ssize_t len = fgetxattr(WORKER_FD_SOURCE, ATTRIBUTE, job.kept, sizeof(job.kept) - 1);

    if (len <= 0)
        job.kept[0] = '\0';
    if (!sandbox_enter(&policy, &report, err))
        return false;
    report_progress("fetch", 0, 0);
    report_keep_alive(true);
    return fetch_url(&order, &job.result, err);
}

static void child(const struct request *request, int pipe) {
    struct im_err err = {0};

    (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!fetch(request, &err))
        (void) !write(pipe, &err, sizeof(err));
    _exit(err.code ? 1 : 0);
}

/* What the child says is checked like anything else that comes from outside. */
static bool judge(int status, struct im_err *said, ssize_t len, struct im_err *err) {
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (len != sizeof(*said) || said->code <= IM_OK || said->code >= IM_CODES)
        return im_fail(err, IM_INTERNAL, "the fetch ended without a word (status %d)", status);
    said->text[sizeof(said->text) - 1] = '\0';
    *err = *said;
    return false;
}

bool fetch_in_child(const struct request *request, struct im_err *err) {
    struct im_err said = {0};
    int pipes[2], status = 0;
    ssize_t len;
    pid_t pid;

    if (pipe2(pipes, O_CLOEXEC) < 0)
        return im_fail_sys(err, errno, "no pipe");
    pid = fork();
    if (pid < 0)
        return im_fail_sys(err, errno, "no process for the fetch");
    if (pid == 0)
        child(request, pipes[1]);
    (void) close(pipes[1]);
    do
        len = read(pipes[0], &said, sizeof(said));
    while (len < 0 && errno == EINTR);
    (void) close(pipes[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return judge(status, &said, len, err);
}
