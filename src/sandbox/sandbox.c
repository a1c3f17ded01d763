/* SPDX-License-Identifier: Apache-2.0 */
/* Fastens the belts in the order in which they can be fastened: those that need rights first, then
 * the rights go, then the system calls. */
#include "sandbox/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "sandbox-private.h"

#define DEFAULT_MEMORY (1ULL << 30)

static const char *const belt_names[SANDBOX_BELTS] = {
    "user", "limits", "no-new-privileges", "namespaces", "landlock", "no-tcp", "syscalls"};

static const char *const exec_paths[] = {"/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache"};
static const char *const resolve_paths[] = {
    "/usr/lib",           "/usr/share",           "/lib",           "/lib64",
    "/etc/ld.so.cache",   "/etc/resolv.conf",     "/etc/hosts",     "/etc/host.conf",
    "/etc/nsswitch.conf", "/etc/gai.conf",        "/etc/services",  "/etc/protocols",
    "/etc/ssl",           "/etc/ca-certificates", "/etc/localtime", "/run/systemd/resolve"};

const char *sandbox_belt_name(enum sandbox_belt belt) { return belt_names[belt]; }

bool belt_missing(struct belt_why *why, const char *format, ...) {
    va_list args;

    va_start(args, format);
    vsnprintf(why->text, why->size, format, args);
    va_end(args);
    return false;
}

static bool add_path(const char **list, size_t *count, const char *path, struct im_err *err) {
    if (path[0] != '/' || path[1] == '\0' || strstr(path, "/../"))
        return im_fail(err, IM_INTERNAL, "sandbox: %s is no path that can be allowed", path);
    if (*count == SANDBOX_PATHS)
        return im_fail(err, IM_INTERNAL, "sandbox: too many paths");
    list[(*count)++] = path;
    return true;
}

static bool add_list(const char **list, size_t *count, const char *const *paths, size_t limit,
                     struct im_err *err) {
    for (size_t i = 0; paths && i < limit && paths[i]; i++)
        if (!add_path(list, count, paths[i], err))
            return false;
    return true;
}

bool paths_collect(const struct sandbox_policy *policy, struct sandbox_paths *paths,
                   struct im_err *err) {
    size_t *count = &paths->readable_count;

    if (policy->exec && !add_list(paths->readable, count, exec_paths,
                                  sizeof(exec_paths) / sizeof(exec_paths[0]), err))
        return false;
    if (policy->resolve && !add_list(paths->readable, count, resolve_paths,
                                     sizeof(resolve_paths) / sizeof(resolve_paths[0]), err))
        return false;
    if (policy->kvm && !add_path(paths->writable, &paths->writable_count, SANDBOX_KVM, err))
        return false;
    return add_list(paths->readable, count, policy->readable, SIZE_MAX, err) &&
           add_list(paths->writable, &paths->writable_count, policy->writable, SIZE_MAX, err);
}

static bool limit(int what, uint64_t value, const char *name, struct im_err *err) {
    struct rlimit now, wanted = {.rlim_cur = value, .rlim_max = value};

    if (getrlimit(what, &now) == 0 && now.rlim_max != RLIM_INFINITY && now.rlim_max < value)
        wanted = (struct rlimit){now.rlim_max, now.rlim_max};
    if (setrlimit(what, &wanted) < 0)
        return im_fail_sys(err, errno, "sandbox: cannot limit %s", name);
    return true;
}

static bool belt_limits(const struct sandbox_policy *policy, struct im_err *err) {
    /* A write beyond the limit shall be an error with a sentence, not a signal. */
    (void) signal(SIGXFSZ, SIG_IGN);
#ifndef SANDBOX_WIDE /* sanitizers reserve terabytes of address space */
    if (!limit(RLIMIT_AS, policy->memory_bytes ? policy->memory_bytes : DEFAULT_MEMORY, "memory",
               err))
        return false;
#endif
    if (policy->cpu_s && !limit(RLIMIT_CPU, policy->cpu_s, "CPU time", err))
        return false;
    if (policy->file_bytes && !limit(RLIMIT_FSIZE, policy->file_bytes, "file size", err))
        return false;
    return limit(RLIMIT_CORE, 0, "core files", err) &&
           limit(RLIMIT_NOFILE, policy->files ? policy->files : 64, "files", err);
}

struct identity {
    uid_t uid;
    gid_t gid, extra;
    size_t extras; /* 0 or 1 */
};

/* Looked up while /etc and /dev can still be read. */
static struct identity identity_find(const struct sandbox_policy *policy) {
    const struct passwd *found = policy->user && policy->user[0] ? getpwnam(policy->user) : NULL;
    struct identity to = {.uid = 65534, .gid = 65534};
    struct stat st;

    if (!found)
        found = getpwnam("nobody");
    if (found)
        to = (struct identity){.uid = found->pw_uid, .gid = found->pw_gid};
    if (policy->kvm && stat(SANDBOX_KVM, &st) == 0 && st.st_gid != 0) {
        to.extra = st.st_gid;
        to.extras = 1;
    }
    return to;
}

static bool drop_capabilities(void) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {0};

    return syscall(SYS_capset, &head, none) == 0;
}

/* `death` is the signal that the end of our parent sends. */
static bool belt_user(struct identity to, bool limit_processes, int death, struct im_err *err) {
    if (geteuid() == 0) {
        if (to.uid == 0 || to.gid == 0)
            return im_fail(err, IM_DENIED, "the worker's user must not be root");
        if (setgroups(to.extras, &to.extra) < 0 || setresgid(to.gid, to.gid, to.gid) < 0 ||
            setresuid(to.uid, to.uid, to.uid) < 0)
            return im_fail_sys(err, errno, "sandbox: cannot become user %u", to.uid);
    }
    if (!drop_capabilities())
        return im_fail_sys(err, errno, "sandbox: cannot drop capabilities");
    if (getuid() == 0 || geteuid() == 0 || setresuid(0, 0, 0) == 0)
        return im_fail(err, IM_DENIED, "the worker would still be root: refused");
    if (death)
        (void) prctl(PR_SET_PDEATHSIG, death);
    /* Counts all processes of the user, so it bounds a fork bomb, not us alone. */
    return !limit_processes || limit(RLIMIT_NPROC, 512, "processes", err);
}

static void fasten(struct sandbox_report *report, enum sandbox_belt belt, bool done) {
    report->fastened[belt] = done;
    if (done)
        report->why[belt][0] = '\0';
}

static struct belt_why why_of(struct sandbox_report *report, enum sandbox_belt belt) {
    return (struct belt_why){report->why[belt], sizeof(report->why[belt])};
}

static void fasten_paths(const struct sandbox_policy *policy, const struct sandbox_paths *paths,
                         bool namespaces, struct sandbox_report *report) {
    struct belt_why why = why_of(report, SANDBOX_LANDLOCK);
    bool tcp = false;

    if (namespaces) {
        struct belt_why spaces = why_of(report, SANDBOX_NAMESPACES);

        fasten(report, SANDBOX_NAMESPACES, belt_namespaces(policy, paths, &spaces));
    }
    fasten(report, SANDBOX_LANDLOCK,
           belt_landlock(policy, paths, &report->landlock_abi, &tcp, &why));
    fasten(report, SANDBOX_NO_TCP, tcp);
    if (!tcp)
        snprintf(report->why[SANDBOX_NO_TCP], sizeof(report->why[0]), "%s",
                 policy->network ? "it has a network" : "this kernel's landlock cannot");
}

bool sandbox_enter(const struct sandbox_policy *policy, struct sandbox_report *report,
                   struct im_err *err) {
    struct identity to = identity_find(policy);
    struct sandbox_paths paths = {0};
    struct belt_why why = why_of(report, SANDBOX_SYSCALLS);
    int death = 0;

    (void) prctl(PR_GET_PDEATHSIG, &death); /* new namespaces and another user forget it */
    *report = (struct sandbox_report){0};
    if (!paths_collect(policy, &paths, err))
        return false;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return im_fail_sys(err, errno, "sandbox: cannot renounce new privileges");
    fasten(report, SANDBOX_NO_NEW, true);
    fasten_paths(policy, &paths, true, report);
    if (policy->exec && sandbox_report_weak(report))
        return im_fail(err, IM_DENIED,
                       "neither namespaces (%s) nor landlock (%s) can hide the host's files",
                       report->why[SANDBOX_NAMESPACES], report->why[SANDBOX_LANDLOCK]);
    if (!belt_limits(policy, err))
        return false;
    fasten(report, SANDBOX_LIMITS, true);
    if (!belt_user(to, true, death, err))
        return false;
    fasten(report, SANDBOX_USER, true);
    fasten(report, SANDBOX_SYSCALLS, belt_syscalls(policy, &why));
    return true;
}

bool sandbox_report_weak(const struct sandbox_report *report) {
    return !report->fastened[SANDBOX_NAMESPACES] && !report->fastened[SANDBOX_LANDLOCK];
}

const char *sandbox_report_text(const struct sandbox_report *report, char *out, size_t size) {
    size_t used = 0;

    out[0] = '\0';
    for (int belt = 0; belt < SANDBOX_BELTS && used < size; belt++)
        if (report->fastened[belt])
            used += (size_t) snprintf(out + used, size - used, "%s%s", used ? " " : "",
                                      belt_names[belt]);
    for (int belt = 0; belt < SANDBOX_BELTS && used < size; belt++)
        if (!report->fastened[belt])
            used += (size_t) snprintf(out + used, size - used, ", without %s (%s)",
                                      belt_names[belt], report->why[belt]);
    return out;
}
