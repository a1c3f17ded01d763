/* SPDX-License-Identifier: Apache-2.0 */
/* The seccomp belt. Our own code gets a list of what it needs; programs that we run (QEMU's tools)
 * get a list of what they do not, as theirs changes with every release. */
#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/socket.h>

#include "base/auto.h"
#include "sandbox-private.h"

/* Nothing here opens a file, makes a socket, or starts a program. */
static const char *const allowed[] = {"read",
                                      "pread64",
                                      "readv",
                                      "preadv",
                                      "write",
                                      "pwrite64",
                                      "writev",
                                      "pwritev",
                                      "lseek",
                                      "_llseek",
                                      "fstat",
                                      "fstat64",
                                      "newfstatat",
                                      "ftruncate",
                                      "ftruncate64",
                                      "fallocate",
                                      "fsync",
                                      "fdatasync",
                                      "sync_file_range",
                                      "sync_file_range2",
                                      "fadvise64",
                                      "copy_file_range",
                                      "close",
                                      "fcntl",
                                      "fcntl64",
                                      "mmap",
                                      "mmap2",
                                      "munmap",
                                      "mprotect",
                                      "mremap",
                                      "madvise",
                                      "brk",
                                      "futex",
                                      "futex_time64",
                                      "set_robust_list",
                                      "get_robust_list",
                                      "rseq",
                                      "set_tid_address",
                                      "rt_sigprocmask",
                                      "rt_sigaction",
                                      "rt_sigreturn",
                                      "sigaltstack",
                                      "exit",
                                      "exit_group",
                                      "gettid",
                                      "getpid",
                                      "getuid",
                                      "geteuid",
                                      "getgid",
                                      "getegid",
                                      "tgkill",
                                      "clock_gettime",
                                      "clock_gettime64",
                                      "clock_nanosleep",
                                      "clock_nanosleep_time64",
                                      "nanosleep",
                                      "gettimeofday",
                                      "getrandom",
                                      "sched_yield",
                                      "sched_getaffinity",
                                      "wait4",
                                      "poll",
                                      "ppoll",
                                      "ppoll_time64",
                                      "restart_syscall",
                                      "uname",
                                      "getrusage",
                                      "sysinfo",
                                      "membarrier"};

/* What a process with a network looks up and talks with, in addition. */
static const char *const allowed_network[] = {
    "socket",     "connect",     "getsockname", "getpeername",     "getsockopt",    "setsockopt",
    "sendto",     "sendmsg",     "sendmmsg",    "recvfrom",        "recvmsg",       "recvmmsg",
    "shutdown",   "select",      "pselect6",    "pselect6_time64", "epoll_create1", "epoll_ctl",
    "epoll_wait", "epoll_pwait", "eventfd2",    "pipe2",           "pipe",          "socketpair",
    "bind",       "open",        "openat",      "access",          "faccessat",     "faccessat2",
    "stat",       "stat64",      "lstat",       "statx",           "readlink",      "readlinkat",
    "getdents64", "ioctl",       "getppid",     "prlimit64",       "getcwd",        "dup",
    "statfs",     "fstatfs"};

/* No honest path of our own programs calls these: an attempt is the end. */
static const char *const deadly[] = {
    "execve",        "execveat", "ptrace",      "process_vm_readv", "process_vm_writev",
    "kill",          "mount",    "umount2",     "pivot_root",       "chroot",
    "setns",         "unshare",  "bpf",         "init_module",      "finit_module",
    "keyctl",        "add_key",  "request_key", "perf_event_open",  "userfaultfd",
    "io_uring_setup"};

/* What a program that only converts images never needs. */
static const char *const denied_exec[] = {"ptrace",
                                          "process_vm_readv",
                                          "process_vm_writev",
                                          "mount",
                                          "umount2",
                                          "pivot_root",
                                          "chroot",
                                          "setns",
                                          "unshare",
                                          "bpf",
                                          "init_module",
                                          "finit_module",
                                          "delete_module",
                                          "kexec_load",
                                          "kexec_file_load",
                                          "keyctl",
                                          "add_key",
                                          "request_key",
                                          "perf_event_open",
                                          "userfaultfd",
                                          "open_by_handle_at",
                                          "name_to_handle_at",
                                          "swapon",
                                          "swapoff",
                                          "reboot",
                                          "settimeofday",
                                          "clock_settime",
                                          "adjtimex",
                                          "acct",
                                          "quotactl",
                                          "setuid",
                                          "setgid",
                                          "setreuid",
                                          "setregid",
                                          "setresuid",
                                          "setresgid",
                                          "setgroups",
                                          "sethostname",
                                          "setdomainname",
                                          "fsopen",
                                          "fsmount",
                                          "move_mount",
                                          "open_tree",
                                          "mount_setattr",
                                          "personality",
                                          "io_uring_setup"};

/* Names that this machine or this libseccomp does not know are skipped: they cannot be called. */
static bool add_all(scmp_filter_ctx filter, uint32_t action, const char *const *names,
                    size_t count) {
    for (size_t i = 0; i < count; i++) {
        int number = seccomp_syscall_resolve_name(names[i]);

        if (number != __NR_SCMP_ERROR && seccomp_rule_add(filter, action, number, 0) < 0)
            return false;
    }
    return true;
}
#define ADD_ALL(filter, action, names)                                                             \
    add_all(filter, action, names, sizeof(names) / sizeof((names)[0]))

/* Threads, but no processes. clone3 hides its flags in memory: glibc falls back to clone. */
static bool allow_threads(scmp_filter_ctx filter) {
    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                            SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)) == 0 &&
           seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) == 0;
}

static bool fill_own(scmp_filter_ctx filter, const struct sandbox_policy *policy) {
    return ADD_ALL(filter, SCMP_ACT_ALLOW, allowed) && allow_threads(filter) &&
           (!policy->network || ADD_ALL(filter, SCMP_ACT_ALLOW, allowed_network)) &&
           ADD_ALL(filter, SCMP_ACT_KILL_PROCESS, deadly);
}

/* Without network only sockets of this machine remain (QEMU's tools wake their threads with them).
 */
static bool fill_exec(scmp_filter_ctx filter, const struct sandbox_policy *policy) {
    if (!ADD_ALL(filter, SCMP_ACT_ERRNO(EPERM), denied_exec))
        return false;
    return policy->network || seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1,
                                               SCMP_A0(SCMP_CMP_NE, AF_UNIX, 0)) == 0;
}

#ifdef SANDBOX_WIDE
bool belt_syscalls(const struct sandbox_policy *policy, struct belt_why *why) {
    (void) fill_own, (void) fill_exec, (void) policy;
    return belt_missing(why, "left off in sanitizer builds");
}
#else
IM_DEFINE_AUTO(scmp_filter_ctx, seccomp_release)

bool belt_syscalls(const struct sandbox_policy *policy, struct belt_why *why) {
    IM_AUTO(seccomp_release_auto)
    scmp_filter_ctx filter = seccomp_init(policy->exec ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EPERM));
    int failed;

    if (!filter)
        return belt_missing(why, "no filter could be made");
    if (!(policy->exec ? fill_exec(filter, policy) : fill_own(filter, policy)))
        return belt_missing(why, "the filter cannot be filled");
    failed = seccomp_load(filter);
    if (failed < 0)
        return belt_missing(why, "cannot be fastened: %s", strerror(-failed));
    return true;
}
#endif
