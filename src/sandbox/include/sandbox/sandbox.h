/* SPDX-License-Identifier: Apache-2.0 */
/* What a process gives up before it looks at bytes that we did not make.
 *
 * Several belts, because no kernel and no container has them all: another user, resource limits,
 * no new privileges, namespaces with an empty root, landlock, seccomp. Each is fastened where it
 * can be; what could not be is told in the report. */
#ifndef SANDBOX_SANDBOX_H
#define SANDBOX_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum sandbox_belt {
    SANDBOX_USER,       /* neither root, nor able to become it */
    SANDBOX_LIMITS,     /* memory, CPU time, file size, descriptors, processes, no core */
    SANDBOX_NO_NEW,     /* no privileges gained by exec */
    SANDBOX_NAMESPACES, /* sees only the listed paths; no network unless wanted */
    SANDBOX_LANDLOCK,   /* opens only the listed paths */
    SANDBOX_NO_TCP,     /* landlock forbids TCP too */
    SANDBOX_SYSCALLS,   /* seccomp */
    SANDBOX_BELTS
};

struct sandbox_policy {
    const char *user; /* who to become when we are root; NULL or unknown = "nobody" */
    bool network;     /* may connect */
    bool exec;    /* may run the programs under /usr; implies reading /usr, /lib and ld.so.cache */
    bool resolve; /* may look up names and check certificates: implies reading parts of /etc */
    bool kvm;     /* may open /dev/kvm, in the group that it belongs to */
    bool scoped;  /* sandbox_scope() was called, and something was started since */
    uint64_t memory_bytes;       /* address space; 0 = 1 GiB */
    uint64_t cpu_s;              /* 0 = no limit */
    uint64_t file_bytes;         /* largest file that may be written; 0 = no limit */
    unsigned files;              /* open at once; 0 = 64 */
    const char *const *readable; /* paths, NULL-terminated; may be NULL */
    const char *const *writable; /* existing files, NULL-terminated; may be NULL */
};

struct sandbox_report {
    bool fastened[SANDBOX_BELTS];
    char why[SANDBOX_BELTS][80]; /* why not, where not */
    unsigned landlock_abi;       /* 0 = the kernel has none */
};

/* Fastens the belts on this process, which must have only one thread. There is no way back. Files
 * that are open stay open. Fails with IM_DENIED when we would stay root, with IM_INTERNAL when a
 * belt that is always there (limits, no new privileges) does not fasten, or when neither namespaces
 * nor landlock are there and `readable` could not be enforced for a program that is run (`exec`).
 */
bool sandbox_enter(const struct sandbox_policy *policy, struct sandbox_report *report,
                   struct im_err *err) __attribute__((warn_unused_result));

/* For who starts a program before it fastens its own belts: where the kernel has this, signals of
 * both reach the two and nothing else. Else landlock would keep the signal that ends the program
 * when we end from going out of our own belts. */
void sandbox_scope(void);

/* Runs argv[0] (an absolute path) in a child under the policy (`exec` is implied), with stdin from
 * /dev/null and stdout and stderr captured together. *ret_output (may be NULL) is the first 64 KiB
 * of it, the caller's; it is set on failure too, as far as the program came. Fails with IM_INTERNAL
 * and the last line of the output when the program does, with IM_TIMEOUT when it was killed after
 * timeout_ms. */
bool sandbox_exec(const struct sandbox_policy *policy, const char *const argv[], int64_t timeout_ms,
                  char **ret_output, struct im_err *err) __attribute__((warn_unused_result));

/* The same for a program that is talked to while it runs: it is killed when the calling thread
 * ends, and is the caller's to wait for. It also keeps the descriptors 3 to 3 + `kept` - 1.
 * *ret_output, the caller's, is what it says. */
bool sandbox_start(const struct sandbox_policy *policy, const char *const argv[], unsigned kept,
                   pid_t *ret_pid, int *ret_output, struct im_err *err)
    __attribute__((warn_unused_result));

/* "user", "limits" …: for reports. */
const char *sandbox_belt_name(enum sandbox_belt belt);
/* One line: "user limits no-new-privileges …, without landlock (not in this kernel)". `out` is
 * returned. */
const char *sandbox_report_text(const struct sandbox_report *report, char *out, size_t size);
/* Neither namespaces nor landlock: worth a warning. */
bool sandbox_report_weak(const struct sandbox_report *report);

#endif
