/* SPDX-License-Identifier: Apache-2.0 */
/* The fetch has a process of its own: the one with a network parses no image, the one that parses
 * has no network. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/mem.h"
#include "fetch/fetch.h"
#include "worker-private.h"

#define ATTRIBUTE "user.imprint.etag"

/* What the child tells the parent; short enough to be written and read as a whole. */
struct word {
    char etag[256]; /* the validator of the bytes that come, before there are many of them */
    struct im_err err;
};

struct job {
    struct fetch_result result;
    char kept[sizeof(((struct word *) 0)->etag)]; /* what was told last */
    int pipe;
};

static void tell(int pipe, const char *etag, const struct im_err *err) {
    struct word word = {0};

    snprintf(word.etag, sizeof(word.etag), "%s", etag);
    if (err)
        word.err = *err;
    (void) !write(pipe, &word, sizeof(word));
}

static void progress(void *arg, uint64_t done, uint64_t total) {
    struct job *job = arg;

    if (strcmp(job->kept, job->result.etag) != 0) {
        memcpy(job->kept, job->result.etag, sizeof(job->kept));
        tell(job->pipe, job->kept, NULL);
    }
    report_progress("fetch", done, total);
}

static bool fetch(const struct request *request, int pipe, struct im_err *err) {
    struct sandbox_policy policy = {
        .user = request->user, .network = true, .resolve = true, .file_bytes = request->max_bytes};
    struct job job = {.pipe = pipe};
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
    if (!fetch(request, pipe, &err))
        tell(pipe, "", &err);
    _exit(err.code ? 1 : 0);
}

/* The parent keeps the validator with the file, as the child may have become a user who may not.
 * Where it cannot be kept, a later attempt begins anew. */
static void keep_etag(char *etag, size_t size) {
    etag[size - 1] = '\0';
    if (etag[0] == '\0')
        (void) fremovexattr(WORKER_FD_SOURCE, ATTRIBUTE);
    else
        (void) fsetxattr(WORKER_FD_SOURCE, ATTRIBUTE, etag, strlen(etag), 0);
}

/* Until the child closes its end. What it says is checked like anything else from outside. */
static void listen_to(int pipe, struct im_err *ret_said) {
    struct word word;

    for (;;) {
        ssize_t len = read(pipe, &word, sizeof(word));

        if (len < 0 && errno == EINTR)
            continue;
        if (len != sizeof(word))
            return;
        if (word.err.code > IM_OK && word.err.code < IM_CODES) {
            word.err.text[sizeof(word.err.text) - 1] = '\0';
            *ret_said = word.err;
        } else
            keep_etag(word.etag, sizeof(word.etag));
    }
}

bool fetch_in_child(const struct request *request, struct im_err *err) {
    struct im_err said = {0};
    int pipes[2], status = 0;
    pid_t pid;

    if (pipe2(pipes, O_CLOEXEC) < 0)
        return im_fail_sys(err, errno, "no pipe");
    pid = fork();
    if (pid == 0)
        child(request, pipes[1]);
    (void) close(pipes[1]);
    if (pid > 0) {
        listen_to(pipes[0], &said);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    (void) close(pipes[0]);
    if (pid < 0)
        return im_fail(err, IM_NO_RESOURCE, "no process for the fetch");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (said.code == IM_OK)
        return im_fail(err, IM_INTERNAL, "the fetch ended without a word (status %d)", status);
    *err = said;
    return false;
}
