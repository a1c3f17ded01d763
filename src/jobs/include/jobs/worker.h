/* SPDX-License-Identifier: Apache-2.0 */
/* Running imprint-worker: one process per long or dangerous piece of work, which speaks JSON lines
 * (see wire.h). */
#ifndef JOBS_WORKER_H
#define JOBS_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

struct worker_call {
    const char *program; /* path of imprint-worker */
    const char *verb;    /* "import", "probe" … : its first argument */
    const char *request; /* JSON text for its stdin; may hold secrets, which argv and environment
                            never do */
    const int *fds;      /* handed down as descriptors 3, 4, …; stay open here */
    size_t fd_count;
    const volatile bool
        *cancel; /* true: the worker is asked (SIGTERM), then killed after 2 s; IM_CANCELLED */
    int64_t silence_ms; /* killed with IM_TIMEOUT when it says nothing for so long; 0 = 60 s */
    void (*progress)(void *arg, const char *phase, int64_t done_bytes,
                     int64_t total_bytes); /* may be NULL */
    void *arg;
};

/* Runs it to the end. *ret_result is the JSON text of its result object. A worker that dies without
 * a word (signal, crash, memory limit) is IM_INTERNAL "import worker was killed by signal 11 …";
 * what it wrote on stderr goes to the log. It dies with us: PR_SET_PDEATHSIG. */
bool worker_run(const struct worker_call *call, char **ret_result,
                struct im_err *err) IM_MUST_CHECK;

#endif
