/* SPDX-License-Identifier: Apache-2.0 */
/* The landlock belt: what this process may open, and whether it may use TCP.
 * The constants of later kernels stand here, as Debian 12's headers end at ABI 2. */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/auto.h"
#include "sandbox-private.h"

#define ACCESS_TRUNCATE (1ULL << 14)  /* ABI 3 */
#define ACCESS_IOCTL_DEV (1ULL << 15) /* ABI 5 */
#define ACCESS_NET 3ULL               /* ABI 4: bind and connect of TCP */
#define SCOPE_ABI 6
#define SCOPE_ALL 3ULL /* abstract sockets and signals */

struct ruleset {
    uint64_t fs, net, scoped;
};

static uint64_t rights_known(long abi) {
    uint64_t rights = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;

    if (abi >= 2)
        rights |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3)
        rights |= ACCESS_TRUNCATE;
    if (abi >= 5)
        rights |= ACCESS_IOCTL_DEV;
    return rights;
}

static bool allow_path(int ruleset, const char *path, uint64_t rights) {
    IM_AUTO(fd_auto) int fd = open(path, O_PATH | O_CLOEXEC);
    struct landlock_path_beneath_attr rule = {.parent_fd = fd, .allowed_access = rights};
    struct stat st;

    if (fd < 0)
        return errno == ENOENT; /* what is not there needs no rule */
    if (fstat(fd, &st) < 0)
        return false;
    if (!S_ISDIR(st.st_mode))
        rule.allowed_access &= LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE |
                               LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE | ACCESS_IOCTL_DEV;
    return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

static bool allow_paths(int ruleset, const struct sandbox_policy *policy,
                        const struct sandbox_paths *paths, uint64_t known) {
    uint64_t read = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;

    if (policy->exec)
        read |= LANDLOCK_ACCESS_FS_EXECUTE;
    for (size_t i = 0; i < paths->readable_count; i++)
        if (!allow_path(ruleset, paths->readable[i], read))
            return false;
    for (size_t i = 0; i < paths->writable_count; i++)
        if (!allow_path(
                ruleset, paths->writable[i],
                known & (read | LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE |
                         (strcmp(paths->writable[i], SANDBOX_KVM) == 0 ? ACCESS_IOCTL_DEV : 0))))
            return false;
    return true;
}

bool belt_landlock(const struct sandbox_policy *policy, const struct sandbox_paths *paths,
                   unsigned *ret_abi, bool *ret_tcp, struct belt_why *why) {
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    IM_AUTO(fd_auto) int fd = -1;
    struct ruleset rules;
    size_t size;

    if (abi < 1)
        return belt_missing(why, "landlock is not in this kernel, or switched off");
    rules = (struct ruleset){.fs = rights_known(abi),
                             .net = abi >= 4 && !policy->network ? ACCESS_NET : 0,
                             .scoped = abi >= SCOPE_ABI && !policy->scoped ? SCOPE_ALL : 0};
    size = abi >= 6 ? sizeof(rules) : abi >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
    fd = (int) syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (fd < 0)
        return belt_missing(why, "no ruleset: %s", strerror(errno));
    if (!allow_paths(fd, policy, paths, rules.fs))
        return belt_missing(why, "a path cannot be allowed: %s", strerror(errno));
    if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        return belt_missing(why, "cannot be fastened: %s", strerror(errno));
    *ret_abi = (unsigned) abi;
    *ret_tcp = rules.net != 0;
    return true;
}

void sandbox_scope(void) {
    struct ruleset rules = {.scoped = SCOPE_ALL};
    IM_AUTO(fd_auto) int fd = -1;

    if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < SCOPE_ABI)
        return;
    fd = (int) syscall(SYS_landlock_create_ruleset, &rules, sizeof(rules), 0);
    if (fd >= 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
        (void) syscall(SYS_landlock_restrict_self, fd, 0);
}
