/* SPDX-License-Identifier: Apache-2.0 */
/* The namespace belt: an own, empty root with only the listed paths in it, and no network.
 * Root does it directly; others need a user namespace, which some hosts forbid. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/fd.h"
#include "base/mem.h"
#include "sandbox-private.h"

/* Any folder serves as the mount point: nobody else sees what is mounted there. */
#define NEW_ROOT "/tmp"

static bool write_text(const char *path, const char *text) {
    IM_AUTO(fd_auto) int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t) strlen(text);
}

/* We stay who we are inside. */
static bool map_self(uid_t uid, gid_t gid) {
    char line[64];

    snprintf(line, sizeof(line), "%u %u 1", uid, uid);
    if (!write_text("/proc/self/uid_map", line) || !write_text("/proc/self/setgroups", "deny"))
        return false;
    snprintf(line, sizeof(line), "%u %u 1", gid, gid);
    return write_text("/proc/self/gid_map", line);
}

/* The place of an opened path under the new root: a folder, an empty file, or the same symbolic
 * link. */
static bool make_place(int fd, const char *place, bool *ret_mount) {
    IM_AUTO(free_auto) char *copy = im_strdup(place);
    const char *parent = dirname(copy);
    char target[PATH_MAX];
    struct im_err err = {0};
    struct stat st;
    ssize_t len;
    int made;

    *ret_mount = false;
    if (fstat(fd, &st) < 0 || !im_make_dirs(parent, 0755, &err))
        return false;
    if (S_ISLNK(st.st_mode)) {
        len = readlinkat(fd, "", target, sizeof(target) - 1);
        if (len < 0)
            return false;
        target[len] = '\0';
        return symlink(target, place) == 0 || errno == EEXIST;
    }
    *ret_mount = true;
    if (S_ISDIR(st.st_mode))
        return im_make_dirs(place, 0755, &err);
    made = open(place, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    return made >= 0 && close(made) == 0;
}

/* A user namespace may not take away flags that the mount has outside. */
static unsigned long kept_flags(int fd) {
    struct statvfs fs;
    unsigned long flags = 0;

    if (fstatvfs(fd, &fs) < 0)
        return 0;
    if (fs.f_flag & ST_NOEXEC)
        flags |= MS_NOEXEC;
    if (fs.f_flag & ST_NOATIME)
        flags |= MS_NOATIME;
    if (fs.f_flag & ST_RELATIME)
        flags |= MS_RELATIME;
    return flags;
}

/* `fd` was opened before the new root was mounted, which may cover where the path lies. */
static bool show_path(int fd, const char *path, bool writable) {
    IM_AUTO(free_auto) char *place = im_printf(NEW_ROOT "%s", path);
    IM_AUTO(free_auto) char *source = im_printf("/proc/self/fd/%d", fd);
    unsigned long flags = MS_BIND | MS_REMOUNT | MS_NOSUID | kept_flags(fd);
    bool mounts;

    if (!make_place(fd, place, &mounts))
        return false;
    if (!mounts)
        return true;
    if (strcmp(path, SANDBOX_KVM) != 0)
        flags |= MS_NODEV;
    if (mount(source, place, NULL, MS_BIND, NULL) < 0)
        return false;
    return mount(NULL, place, NULL, flags | (writable ? 0 : MS_RDONLY), NULL) == 0;
}

struct shown {
    int fds[2 * SANDBOX_PATHS];
    const char *paths[2 * SANDBOX_PATHS];
    bool writable[2 * SANDBOX_PATHS];
    size_t count;
};

static bool open_paths(struct shown *shown, const char *const *paths, size_t count, bool writable) {
    for (size_t i = 0; i < count; i++) {
        int fd = open(paths[i], O_PATH | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0 && errno == ENOENT)
            continue; /* what is not there need not be shown */
        if (fd < 0)
            return false;
        shown->fds[shown->count] = fd;
        shown->paths[shown->count] = paths[i];
        shown->writable[shown->count++] = writable;
    }
    return true;
}

static void close_paths(struct shown *shown) {
    for (size_t i = 0; i < shown->count; i++)
        (void) close(shown->fds[i]);
}

/* Fills the new root and makes it ours; the old one is gone afterwards. */
static bool enter_root(const struct shown *shown) {
    for (size_t i = 0; i < shown->count; i++)
        if (!show_path(shown->fds[i], shown->paths[i], shown->writable[i]))
            return false;
    if (mount(NULL, NEW_ROOT, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL))
        return false;
    return chdir(NEW_ROOT) == 0 && syscall(SYS_pivot_root, ".", ".") == 0 &&
           umount2(".", MNT_DETACH) == 0 && chdir("/") == 0;
}

static bool change_root(const struct sandbox_paths *paths) {
    struct shown shown = {0};
    bool done = false;
    int saved;

    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        open_paths(&shown, paths->readable, paths->readable_count, false) &&
        open_paths(&shown, paths->writable, paths->writable_count, true) &&
        mount("tmpfs", NEW_ROOT, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=1m") == 0) {
        done = enter_root(&shown);
        saved = errno;
        if (!done) /* else landlock would look for its paths in the half-made root */
            (void) umount2(NEW_ROOT, MNT_DETACH);
        errno = saved;
    }
    saved = errno;
    close_paths(&shown);
    errno = saved;
    return done;
}

bool belt_namespaces(const struct sandbox_policy *policy, const struct sandbox_paths *paths,
                     struct belt_why *why) {
    int flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | (policy->network ? 0 : CLONE_NEWNET);
    uid_t uid = geteuid();
    gid_t gid = getegid();

    if (uid != 0)
        flags |= CLONE_NEWUSER;
    if (unshare(flags) < 0)
        return belt_missing(why, "%snamespaces are not allowed here: %s", uid ? "user " : "",
                            strerror(errno));
    if (uid != 0 && !map_self(uid, gid))
        return belt_missing(why, "the user cannot be mapped: %s", strerror(errno));
    if (!change_root(paths))
        return belt_missing(why, "the root cannot be changed: %s", strerror(errno));
    return true;
}
