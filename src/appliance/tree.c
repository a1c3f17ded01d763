/* SPDX-License-Identifier: Apache-2.0 */
/* Names of the guest, looked up as in a chroot. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "appliance-private.h"
#include "base/mem.h"

enum { LINKS_MAX = 40, DEPTH_MAX = 128 };

static int root = -1;

bool tree_begin(struct im_err *err) {
    root = open(GUEST, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root >= 0 || im_fail_sys(err, errno, "the root file system");
}

int tree_root(void) { return root; }

int tree_open(const char *path, int flags) {
    struct open_how how = {.flags = (unsigned) (flags | O_CLOEXEC),
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};

    return (int) syscall(SYS_openat2, root, path, &how, sizeof(how));
}

/* --- Places ----------------------------------------------------------------------------------- */

/* Where the last name of the path begins, if there is one. */
static const char *last_name(const char *path) {
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : "";

    return path[0] != '/' || strlen(path) >= PATH_MAX || name[0] == '\0' ||
                   strlen(name) >= NAME_SIZE || strcmp(name, ".") == 0 || strcmp(name, "..") == 0
               ? NULL
               : name;
}

/* Makes the folder `path`, where the one above it is there. */
static bool make_folder(const char *path) {
    const char *name = last_name(path);
    IM_AUTO(free_auto) char *above = name ? im_strndup(path, (size_t) (name - path)) : NULL;
    IM_AUTO(fd_auto) int parent = name ? tree_open(above, O_RDONLY | O_DIRECTORY) : -1;

    return !name || (parent >= 0 && (mkdirat(parent, name, 0755) == 0 || errno == EEXIST));
}

/* Opens the folder `path`, which begins and ends with a slash; makes what is missing of it. */
static int open_folder(const char *path, bool make) {
    int folder = tree_open(path, O_RDONLY | O_DIRECTORY);

    if (folder >= 0 || errno != ENOENT || !make)
        return folder;
    for (size_t at = 1; path[at]; at++) {
        IM_AUTO(free_auto) char *here = NULL;
        IM_AUTO(fd_auto) int fd = -1;

        if (path[at] != '/')
            continue;
        here = im_strndup(path, at);
        fd = tree_open(here, O_PATH | O_DIRECTORY);
        if (fd < 0 && (errno != ENOENT || !make_folder(here)))
            return -1;
    }
    return tree_open(path, O_RDONLY | O_DIRECTORY);
}

static bool place_one(const char *path, bool make, int *ret_folder, char ret_name[NAME_SIZE],
                      struct im_err *err) {
    const char *name = last_name(path);
    IM_AUTO(free_auto) char *above = NULL;

    if (!name)
        return im_fail(err, IM_BAD_MESSAGE, "%s is no path of a file", path);
    above = im_strndup(path, (size_t) (name - path));
    *ret_folder = open_folder(above, make);
    if (*ret_folder < 0)
        return im_fail_sys(err, errno, "the folder %s", above);
    snprintf(ret_name, NAME_SIZE, "%s", name);
    return true;
}

/* Where the link leads to, as text for another look-up from the root. */
static char *link_target(int folder, const char *name, const char *path) {
    char target[PATH_MAX];
    ssize_t len = readlinkat(folder, name, target, sizeof(target) - 1);

    if (len <= 0)
        return NULL;
    target[len] = '\0';
    return target[0] == '/' ? im_strdup(target)
                            : im_printf("%.*s/%s", (int) (strrchr(path, '/') - path), path, target);
}

bool tree_place(const char *path, unsigned how, int *ret_folder, char ret_name[NAME_SIZE],
                struct im_err *err) {
    IM_AUTO(free_auto) char *at = im_strdup(path);

    for (int links = 0; links <= LINKS_MAX; links++) {
        IM_AUTO(fd_auto) int folder = -1, there = -1;
        struct stat st;
        char *next;

        if (!place_one(at, how & TREE_MAKE, &folder, ret_name, err))
            return false;
        if ((how & TREE_FOLLOW) && fstatat(folder, ret_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISLNK(st.st_mode))
            there = tree_open(at, O_PATH);
        if (there < 0) {
            *ret_folder = im_steal_fd(&folder);
            return true;
        }
        next = link_target(folder, ret_name, at);
        if (!next)
            return im_fail_sys(err, errno, "the link %s", at);
        free(at);
        at = next;
    }
    return im_fail(err, IM_BAD_IMAGE, "%s leads through too many links", path);
}

/* --- Clearing --------------------------------------------------------------------------------- */

/* One level of the tree that is being removed. */
struct level {
    DIR *dir;
    char name[NAME_SIZE]; /* in the level above */
};

static bool level_open(struct level *level, int parent, const char *name, dev_t device,
                       struct im_err *err) {
    IM_AUTO(fd_auto)
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "the folder %s", name);
    if (st.st_dev != device)
        return im_fail(err, IM_BAD_IMAGE, "another file system is mounted on %s", name);
    level->dir = fdopendir(fd);
    if (!level->dir)
        return im_fail_sys(err, errno, "the folder %s", name);
    fd = -1;
    snprintf(level->name, sizeof(level->name), "%s", name);
    return true;
}

/* The next entry that is neither . nor .. */
static const struct dirent *next_entry(DIR *dir) {
    const struct dirent *entry;

    do
        entry = readdir(dir);
    while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    return entry;
}

static bool is_folder(DIR *dir, const char *name) {
    struct stat st;

    return fstatat(dirfd(dir), name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* Goes down with a stack of its own; what is below a level is gone when it is left. */
static bool clear_levels(struct level *levels, size_t *count, dev_t device, struct im_err *err) {
    while (*count > 0) {
        DIR *dir = levels[*count - 1].dir;
        const struct dirent *entry = next_entry(dir);

        if (entry && !is_folder(dir, entry->d_name)) {
            if (unlinkat(dirfd(dir), entry->d_name, 0) < 0)
                return im_fail_sys(err, errno, "%s cannot be removed", entry->d_name);
            continue;
        }
        if (entry) {
            if (*count == DEPTH_MAX)
                return im_fail(err, IM_BAD_IMAGE, "its folders are nested too deeply");
            if (!level_open(&levels[*count], dirfd(dir), entry->d_name, device, err))
                return false;
            ++*count;
            continue;
        }
        (void) closedir(dir);
        --*count;
        if (*count > 0 &&
            unlinkat(dirfd(levels[*count - 1].dir), levels[*count].name, AT_REMOVEDIR) < 0)
            return im_fail_sys(err, errno, "%s cannot be removed", levels[*count].name);
    }
    return true;
}

bool tree_clear(int folder, const char *path, struct im_err *err) {
    struct level *levels = im_alloc(DEPTH_MAX * sizeof(*levels));
    size_t count = 0;
    struct stat st;
    bool fine = fstat(folder, &st) == 0 || im_fail_sys(err, errno, "%s", path);

    if (fine && (fine = level_open(&levels[0], folder, ".", st.st_dev, err)))
        count = 1;
    fine = fine && clear_levels(levels, &count, st.st_dev, err);
    while (count > 0)
        (void) closedir(levels[--count].dir);
    free(levels);
    return fine || im_within(err, "%s", path);
}
