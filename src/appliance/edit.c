/* SPDX-License-Identifier: Apache-2.0 */
/* Edits of files. What is replaced keeps mode, owner and attributes unless they are given, and is
 * old or new whatever happens. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "appliance-private.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

#define TEMPORARY ".imprint-new"
#define LABEL "security.selinux"
#define ATTRIBUTE_MAX 65536

/* --- Mode, owner, attributes ------------------------------------------------------------------ */

/* FAT knows neither. */
static bool has_owners(int fd) {
    struct statfs fs;

    return fstatfs(fd, &fs) < 0 || fs.f_type != MSDOS_SUPER_MAGIC;
}

/* Sums of the old content would be wrong. */
static bool is_of_content(const char *name) {
    return strcmp(name, "security.ima") == 0 || strcmp(name, "security.evm") == 0;
}

static bool copy_attribute(int from, int to, const char *name) {
    IM_AUTO(free_auto) char *value = im_alloc(ATTRIBUTE_MAX);
    ssize_t len = fgetxattr(from, name, value, ATTRIBUTE_MAX);

    return len >= 0 && (fsetxattr(to, name, value, (size_t) len, 0) == 0 || errno == EOPNOTSUPP);
}

static bool copy_attributes(int from, int to) {
    IM_AUTO(free_auto) char *names = im_alloc(ATTRIBUTE_MAX);
    ssize_t len = flistxattr(from, names, ATTRIBUTE_MAX - 1);

    if (len < 0)
        return errno == EOPNOTSUPP;
    for (const char *name = names; name < names + len; name += strlen(name) + 1)
        if (!is_of_content(name) && !copy_attribute(from, to, name))
            return false;
    return true;
}

/* A label that was given, else that of the old file, else that of the folder, as SELinux itself
 * labels what is new where its rules say nothing else. */
static bool set_label(int folder, int to, const char *label) {
    char inherited[1024];
    ssize_t len;

    if (label)
        return fsetxattr(to, LABEL, label, strlen(label) + 1, 0) == 0;
    if (fgetxattr(to, LABEL, NULL, 0) >= 0)
        return true;
    len = fgetxattr(folder, LABEL, inherited, sizeof(inherited));
    return len <= 0 || fsetxattr(to, LABEL, inherited, (size_t) len, 0) == 0 || errno == EOPNOTSUPP;
}

/* `like` is the file whose attributes are taken over, or -1. */
static bool dress(int folder, int to, int like, const struct frame *order) {
    struct stat st = {.st_mode = 0644};
    uid_t uid;
    gid_t gid;
    mode_t mode;

    if (like >= 0 && fstat(like, &st) < 0)
        return false;
    mode = (mode_t) frame_get_int(order, "mode", st.st_mode) & 07777;
    uid = (uid_t) frame_get_int(order, "uid", st.st_uid);
    gid = (gid_t) frame_get_int(order, "gid", st.st_gid);
    if (!has_owners(to))
        return true;
    /* The owner first: a change of it takes away bits of the mode and capabilities. */
    return fchown(to, uid, gid) == 0 && (like < 0 || copy_attributes(like, to)) &&
           fchmod(to, mode) == 0 && set_label(folder, to, frame_get(order, "label"));
}

/* --- Replacing -------------------------------------------------------------------------------- */

static const char *order_path(const struct frame *order) {
    const char *path = frame_get(order, "path");

    return path ? path : "";
}

/* A file that is there; -1 if there is none, which is no error. */
static bool open_old(int folder, const char *name, int *ret_fd, struct im_err *err) {
    IM_AUTO(fd_auto)
    int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    /* ELOOP: a link that leads nowhere, or the file shall be one's own. */
    if (fd < 0 && errno != ENOENT && errno != ELOOP)
        return im_fail_sys(err, errno, "the old file");
    if (fd >= 0 && fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "the old file");
    if (fd >= 0 && !S_ISREG(st.st_mode))
        return im_fail(err, IM_BAD_IMAGE, "it is no file, but a %s",
                       S_ISDIR(st.st_mode) ? "folder" : "device or a socket");
    *ret_fd = im_steal_fd(&fd);
    return true;
}

/* What the new file holds: bytes, or another file. */
struct content {
    const void *bytes;
    size_t len;
    int fd; /* -1: the bytes */
};

static bool fill(int to, const struct content *content, struct im_err *err) {
    char buffer[65536];
    ssize_t got;

    if (content->fd < 0)
        return im_write_all(to, content->bytes, content->len, "the new file", err);
    while ((got = read(content->fd, buffer, sizeof(buffer))) > 0)
        if (!im_write_all(to, buffer, (size_t) got, "the new file", err))
            return false;
    return got == 0 || im_fail_sys(err, errno, "the file that is copied");
}

static bool write_beside(int folder, const char *name, const struct content *content,
                         const struct frame *order, struct im_err *err) {
    IM_AUTO(fd_auto) int old = -1;
    IM_AUTO(fd_auto) int fd = -1;

    if (!open_old(folder, name, &old, err))
        return false;
    fd = openat(folder, TEMPORARY, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return im_fail_sys(err, errno, "a new file");
    if (!fill(fd, content, err))
        return false;
    if (!dress(folder, fd, old >= 0 ? old : content->fd, order))
        return im_fail_sys(err, errno, "mode, owner or attributes of the new file");
    return fsync(fd) == 0 || im_fail_sys(err, errno, "the new file");
}

/* Puts the file TEMPORARY into the place of `name`. */
static bool put_in_place(int folder, const char *name, struct im_err *err) {
    return (renameat(folder, TEMPORARY, folder, name) == 0 && fsync(folder) == 0) ||
           im_fail_sys(err, errno, "the new file cannot take the old one's place");
}

static bool replace(const char *path, const struct content *content, const struct frame *order,
                    struct im_err *err) {
    IM_AUTO(fd_auto) int folder = -1;
    char name[NAME_SIZE];

    if (!tree_place(path, TREE_MAKE | TREE_FOLLOW, &folder, name, err))
        return false;
    (void) unlinkat(folder, TEMPORARY, 0);
    if (write_beside(folder, name, content, order, err) && put_in_place(folder, name, err))
        return true;
    (void) unlinkat(folder, TEMPORARY, 0);
    return false;
}

bool edit_write(const struct frame *order, struct frame *answer, struct im_err *err) {
    struct content content = {.bytes = order->data.data, .len = order->data.len, .fd = -1};

    (void) answer;
    return replace(order_path(order), &content, order, err);
}

bool edit_copy(const struct frame *order, struct frame *answer, struct im_err *err) {
    const char *from = frame_get(order, "from");
    IM_AUTO(fd_auto) int fd = tree_open(from ? from : "", O_RDONLY | O_NONBLOCK);
    struct content content = {.fd = fd};
    struct stat st;

    (void) answer;
    if (fd < 0 || fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "%s", from);
    if (!S_ISREG(st.st_mode))
        return im_fail(err, IM_BAD_IMAGE, "%s is no file", from);
    return replace(order_path(order), &content, order, err);
}

/* --- In place --------------------------------------------------------------------------------- */

/* Opens the file for writing; -1 when it is not there. */
static bool open_there(const char *path, int flags, int *ret_fd, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = tree_open(path, O_WRONLY | O_NONBLOCK | flags);
    struct stat st;

    if (fd < 0 && errno != ENOENT)
        return im_fail_sys(err, errno, "the file");
    if (fd >= 0 && fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "the file");
    if (fd >= 0 && !S_ISREG(st.st_mode))
        return im_fail(err, IM_BAD_IMAGE, "it is no file");
    *ret_fd = im_steal_fd(&fd);
    return true;
}

/* Large files, as an initramfs, in a boot partition that has no room for a second one: what was
 * added is taken away again when it does not fit. */
bool edit_append(const struct frame *order, struct frame *answer, struct im_err *err) {
    static const char zeros[4096];
    int64_t align = frame_get_int(order, "align", 1);
    IM_AUTO(fd_auto) int fd = -1;
    struct stat st;
    size_t gap;

    (void) answer;
    if (align < 1 || align > (int64_t) sizeof(zeros))
        return im_fail(err, IM_BAD_MESSAGE, "align is not 1 to %zu", sizeof(zeros));
    if (!open_there(order_path(order), O_APPEND, &fd, err))
        return false;
    if (fd < 0 || fstat(fd, &st) < 0)
        return im_fail_sys(err, ENOENT, "the file");
    gap = (size_t) ((align - st.st_size % align) % align);
    if (im_write_all(fd, zeros, gap, "the file", err) &&
        im_write_all(fd, order->data.data, order->data.len, "the file", err) &&
        (fsync(fd) == 0 || im_fail_sys(err, errno, "the file")))
        return true;
    (void) !ftruncate(fd, st.st_size);
    return false;
}

/* --- Away ------------------------------------------------------------------------------------- */

static bool clear_folder(int folder, const char *name, struct im_err *err) {
    IM_AUTO(fd_auto)
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    return fd >= 0 ? tree_clear(fd, name, err) : im_fail_sys(err, errno, "the folder");
}

static bool remove_at(int folder, const char *name, bool recursive, struct im_err *err) {
    struct stat st;

    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return im_fail_sys(err, errno, "it");
    if (S_ISDIR(st.st_mode) && recursive && !clear_folder(folder, name, err))
        return false;
    if (unlinkat(folder, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0)
        return im_fail_sys(err, errno, "it cannot be removed");
    return fsync(folder) == 0 || im_fail_sys(err, errno, "its folder");
}

/* What is not there, or its folder, need not be removed. */
bool edit_remove(const struct frame *order, struct frame *answer, struct im_err *err) {
    IM_AUTO(fd_auto) int folder = -1;
    char name[NAME_SIZE];
    struct stat st;

    if (!tree_place(order_path(order), TREE_PLAIN, &folder, name, err)) {
        if (err->sys != ENOENT)
            return false;
        *err = (struct im_err){0};
    }
    if (folder < 0 || (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)) {
        frame_put_int(answer, "changed", 0);
        return true;
    }
    return remove_at(folder, name, frame_get_int(order, "recursive", 0) != 0, err);
}

/* A file becomes empty; with `recursive` a folder too. */
bool edit_empty(const struct frame *order, struct frame *answer, struct im_err *err) {
    const char *path = order_path(order);
    IM_AUTO(fd_auto) int folder = -1;
    IM_AUTO(fd_auto) int fd = -1;

    if (frame_get_int(order, "recursive", 0))
        folder = tree_open(path, O_RDONLY | O_DIRECTORY);
    if (folder >= 0)
        return tree_clear(folder, path, err);
    if (!open_there(path, 0, &fd, err))
        return false;
    if (fd < 0)
        frame_put_int(answer, "changed", 0);
    else if (ftruncate(fd, 0) < 0 || fsync(fd) < 0)
        return im_fail_sys(err, errno, "it cannot be emptied");
    return true;
}

/* --- Made ------------------------------------------------------------------------------------- */

bool edit_link(const struct frame *order, struct frame *answer, struct im_err *err) {
    const char *target = frame_get(order, "target");
    IM_AUTO(fd_auto) int folder = -1;
    char name[NAME_SIZE];

    (void) answer;
    if (!tree_place(order_path(order), TREE_MAKE, &folder, name, err))
        return false;
    (void) unlinkat(folder, TEMPORARY, 0);
    if (symlinkat(target ? target : "", folder, TEMPORARY) < 0)
        return im_fail_sys(err, errno, "a link to %s", target ? target : "nothing");
    if (put_in_place(folder, name, err))
        return true;
    (void) unlinkat(folder, TEMPORARY, 0);
    return false;
}

bool edit_folder(const struct frame *order, struct frame *answer, struct im_err *err) {
    IM_AUTO(fd_auto) int folder = -1;
    IM_AUTO(fd_auto) int fd = -1;
    char name[NAME_SIZE];
    bool made;

    if (!tree_place(order_path(order), TREE_MAKE | TREE_FOLLOW, &folder, name, err))
        return false;
    made = mkdirat(folder, name, 0755) == 0;
    if (!made && errno != EEXIST)
        return im_fail_sys(err, errno, "it cannot be made");
    fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return im_fail_sys(err, errno, "it is no folder");
    if (!made)
        frame_put_int(answer, "changed", 0);
    else if (!dress(folder, fd, fd, order) || fsync(fd) < 0 || fsync(folder) < 0)
        return im_fail_sys(err, errno, "its mode, owner or attributes");
    return true;
}
