/* SPDX-License-Identifier: Apache-2.0 */
/* Layers as qcow2 files in a folder: DIR/layers/NAME.qcow2, with backing files named relative to
 * it, so that the folder can be moved. A file has its final name only when it is whole and durable;
 * NAME.part is half made. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "qcow2/qcow2.h"
#include "storage-private.h"

#define POOL_MARK "imprint pool 1\n"

struct local {
    char *folder; /* DIR */
    int layers;   /* descriptor of DIR/layers */
    uid_t machine_uid;
    gid_t machine_gid;
    bool owned; /* heads go to machine_uid:machine_gid */
};

static void local_close(void *handle) {
    struct local *local = handle;

    if (local->layers >= 0)
        close(local->layers);
    free(local->folder);
    free(local);
}

void (*storage_local_step)(void);

static void step(void) {
    if (storage_local_step != NULL)
        storage_local_step();
}

/* Nothing but what a new file system has, and what a start that was broken off may have left. */
static bool folder_fresh(const char *path) {
    static const char *const harmless[] = {".", "..", "lost+found", "layers", "pool.new"};
    IM_AUTO(free_auto) char *layers = im_printf("%s/layers", path);
    DIR *dir = opendir(path);
    bool fresh = dir != NULL;

    for (struct dirent *entry; fresh && (entry = readdir(dir)) != NULL;) {
        bool known = false;

        for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
            known = known || strcmp(entry->d_name, harmless[i]) == 0;
        fresh = known;
    }
    if (dir != NULL)
        closedir(dir);
    /* rmdir succeeds only if it is empty: layers without a mark are somebody's. */
    return fresh && (rmdir(layers) == 0 || errno == ENOENT);
}

/* The mark tells a pool from a folder whose file system is not mounted, or that belongs to somebody
 * else. */
static bool mark_check(struct local *local, bool used, struct im_err *err) {
    IM_AUTO(free_auto) char *mark = im_printf("%s/pool", local->folder);
    IM_AUTO(free_auto) char *layers = im_printf("%s/layers", local->folder);
    IM_AUTO(free_auto) char *text = NULL;

    if (access(mark, F_OK) == 0) {
        if (!im_read_file(mark, 256, &text, NULL, err))
            return false;
        if (strcmp(text, POOL_MARK) != 0)
            return im_fail(err, IM_UNSUPPORTED, "pool %s was made by another version: %.40s",
                           local->folder, text);
        return access(layers, F_OK) == 0 ||
               im_fail(err, IM_INTERNAL, "pool %s has lost its folder layers", local->folder);
    }
    if (used)
        return im_fail(
            err, IM_NOT_FOUND,
            "pool %s is not there, but the record knows layers of it: is its file system "
            "mounted?",
            local->folder);
    if (!folder_fresh(local->folder))
        return im_fail(err, IM_INTERNAL, "%s is neither empty nor a pool: its file pool is missing",
                       local->folder);
    return im_make_dirs(layers, 0755, err) &&
           im_write_file(mark, POOL_MARK, strlen(POOL_MARK), 0644, err);
}

static void *local_open(const char *address, bool used, struct im_err *err) {
    struct local *local = im_alloc(sizeof(*local));
    IM_AUTO(free_auto) char *layers = im_printf("%s/layers", address);

    local->folder = im_strdup(address);
    local->layers = -1;
    if (address[0] != '/') {
        im_fail(err, IM_BAD_MESSAGE, "pool %s: the path should be absolute", address);
    } else if (!used && mkdir(address, 0755) < 0 && errno != EEXIST) {
        im_fail_sys(err, errno, "pool %s cannot be made", address);
    } else if (mark_check(local, used, err)) {
        local->layers = open(layers, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (local->layers >= 0)
            return local;
        im_fail_sys(err, errno, "pool %s cannot be opened", address);
    }
    local_close(local);
    return NULL;
}

static void local_set_owner(void *handle, uint32_t uid, uint32_t gid) {
    struct local *local = handle;

    local->machine_uid = uid;
    local->machine_gid = gid;
    local->owned = true;
}

/* --- Files ------------------------------------------------------------------------------------ */

struct file_name {
    char text[STORAGE_NAME_MAX + 8];
};

static struct file_name file_of(const char *name) {
    struct file_name file;

    snprintf(file.text, sizeof(file.text), "%s.qcow2", name);
    return file;
}

/* The layer whose file has that name; "" of "". */
static bool layer_of_file(const char *file, char ret_name[STORAGE_NAME_MAX]) {
    size_t len = strlen(file), ending = strlen(".qcow2");

    if (len > 0 && (!im_ends_with(file, ".qcow2") || len == ending ||
                    len - ending >= STORAGE_NAME_MAX || strchr(file, '/') != NULL))
        return false;
    len = len > 0 ? len - ending : 0;
    memcpy(ret_name, file, len);
    ret_name[len] = '\0';
    return true;
}

static struct file_name part_of(const char *name) {
    struct file_name file;

    snprintf(file.text, sizeof(file.text), "%s.part", name);
    return file;
}

/* Who may write a frozen layer is root alone, and root is us. */
static bool is_frozen(const struct stat *st) { return (st->st_mode & 0222) == 0; }

static bool sync_folder(struct local *local, const char *name, struct im_err *err) {
    return fsync(local->layers) == 0 ||
           im_fail_sys(err, errno, "layer %s: cannot make its folder durable", name);
}

static bool open_layer(struct local *local, const char *name, int flags, int *ret_fd,
                       struct im_err *err) {
    struct file_name file = file_of(name);
    int fd = openat(local->layers, file.text, flags | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 && errno == ENOENT)
        return im_fail(err, IM_NOT_FOUND, "layer %s is not in the pool", name);
    if (fd < 0)
        return im_fail_sys(err, errno, "cannot open layer %s", name);
    *ret_fd = fd;
    return true;
}

static bool head_rights(struct local *local, int fd) {
    return fchmod(fd, 0600) == 0 && (!local->owned || geteuid() != 0 ||
                                     fchown(fd, local->machine_uid, local->machine_gid) == 0);
}

/* What a layer's header says, and whether it is frozen. */
static bool layer_info(struct local *local, const char *name, struct qcow2_info *ret_info,
                       bool *ret_frozen, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = -1;
    struct stat st;

    if (!open_layer(local, name, O_RDONLY, &fd, err))
        return false;
    if (fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot look at layer %s", name);
    *ret_frozen = is_frozen(&st);
    return qcow2_info_read(fd, ret_info, err) || im_within(err, "layer %s", name);
}

/* Gives the whole and durable file its final name. One that is there already is from an earlier try
 * that was not written down, or somebody else's: the caller has looked. */
static bool publish(struct local *local, const char *name, struct im_err *err) {
    struct file_name part = part_of(name), file = file_of(name);

    step();
    if (renameat(local->layers, part.text, local->layers, file.text) < 0) {
        im_fail_sys(err, errno, "cannot name layer %s", name);
        unlinkat(local->layers, part.text, 0);
        return false;
    }
    step();
    return sync_folder(local, name, err);
}

/* --- Verbs ------------------------------------------------------------------------------------ */

/* Writes the empty image under its half-made name; on failure nothing stays. */
static bool write_part(struct local *local, const char *name, const char *backing, uint64_t size,
                       struct im_err *err) {
    struct file_name part = part_of(name);
    IM_AUTO(fd_auto)
    int fd =
        openat(local->layers, part.text, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return im_fail_sys(err, errno, "cannot make layer %s", name);
    step();
    if (qcow2_overlay_write(fd, backing, backing ? "qcow2" : NULL, size, err) &&
        ((head_rights(local, fd) && fsync(fd) == 0) ||
         im_fail_sys(err, errno, "cannot make layer %s durable", name)))
        return true;
    unlinkat(local->layers, part.text, 0);
    return im_within(err, "layer %s", name);
}

/* A head of that name with the same parent and size is what a repeated call finds; any other is
 * somebody's. */
static bool make_head(struct local *local, const char *name, const char *backing, uint64_t size,
                      struct im_err *err) {
    struct qcow2_info info = {0};
    struct im_err missing = {0};
    bool frozen;

    if (layer_info(local, name, &info, &frozen, &missing)) {
        if (frozen || strcmp(info.backing, backing ? backing : "") != 0 || info.size_bytes != size)
            return im_fail(err, IM_EXISTS, "layer %s is in the pool already", name);
        return sync_folder(local, name, err); /* the earlier call may have ended before that */
    }
    if (missing.code != IM_NOT_FOUND) {
        *err = missing;
        return false;
    }
    return write_part(local, name, backing, size, err) && publish(local, name, err);
}

static bool local_create(void *handle, const char *name, uint64_t size, struct im_err *err) {
    return make_head(handle, name, NULL, size, err);
}

static bool local_clone(void *handle, const char *parent, const char *name, uint64_t size,
                        struct im_err *err) {
    struct qcow2_info info = {0};
    struct file_name backing = file_of(parent);
    bool frozen;

    if (!layer_info(handle, parent, &info, &frozen, err))
        return false;
    if (size < info.size_bytes)
        return im_fail(err, IM_BAD_MESSAGE, "layer %s can not be smaller than its parent %s", name,
                       parent);
    return make_head(handle, name, backing.text, size, err);
}

static bool local_freeze_begin(void *handle, const char *head, const char *next, char *ret_frozen,
                               char *ret_head, struct im_err *err) {
    struct qcow2_info info = {0};
    struct file_name backing = file_of(head);
    bool frozen;

    if (!layer_info(handle, head, &info, &frozen, err) ||
        !make_head(handle, next, backing.text, info.size_bytes, err))
        return false;
    snprintf(ret_frozen, STORAGE_NAME_MAX, "%s", head);
    snprintf(ret_head, STORAGE_NAME_MAX, "%s", next);
    return true;
}

static bool local_freeze_end(void *handle, const char *frozen, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = -1;

    if (!open_layer(handle, frozen, O_RDONLY, &fd, err))
        return false;
    /* Read-only, and not the machines': a machine that is broken out of cannot write to what others
     * read. */
    if ((geteuid() == 0 && fchown(fd, geteuid(), getegid()) < 0) || fchmod(fd, 0444) < 0)
        return im_fail_sys(err, errno, "cannot freeze layer %s", frozen);
    step();
    return fsync(fd) == 0 || im_fail_sys(err, errno, "cannot make layer %s durable", frozen);
}

static bool local_remove(void *handle, const char *name, struct im_err *err) {
    struct local *local = handle;
    struct file_name names[] = {part_of(name), file_of(name)};

    for (size_t i = 0; i < 2; i++) {
        if (unlinkat(local->layers, names[i].text, 0) < 0 && errno != ENOENT)
            return im_fail_sys(err, errno, "cannot remove layer %s", name);
        step();
    }
    return sync_folder(local, name, err);
}

static bool local_freeze_undo(void *handle, const char *head, const char *next,
                              struct im_err *err) {
    struct local *local = handle;
    IM_AUTO(fd_auto) int fd = -1;

    if (!open_layer(local, head, O_RDONLY, &fd, err))
        return false;
    if (!head_rights(local, fd) || fsync(fd) < 0)
        return im_fail_sys(err, errno, "cannot make layer %s writable again", head);
    step();
    return local_remove(local, next, err);
}

static bool local_sync(void *handle, const char *name, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = -1;

    if (!open_layer(handle, name, O_RDONLY, &fd, err))
        return false;
    return fdatasync(fd) == 0 || im_fail_sys(err, errno, "cannot make layer %s durable", name);
}

static bool local_parent(void *handle, const char *name, char *ret_parent, struct im_err *err) {
    struct qcow2_info info = {0};
    bool frozen;

    return layer_info(handle, name, &info, &frozen, err) &&
           (layer_of_file(info.backing, ret_parent) ||
            im_fail(err, IM_BAD_IMAGE, "layer %s: its parent [%.64s] is no layer's file", name,
                    info.backing));
}

/* Opens a head for a change that only its file sees. */
static bool open_head(struct local *local, const char *head, int *ret_fd, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = -1;
    struct stat st;

    if (!open_layer(local, head, O_RDWR, &fd, err))
        return false;
    if (fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot look at layer %s", head);
    if (is_frozen(&st))
        return im_fail(err, IM_UNSUPPORTED, "layer %s is frozen and never changes", head);
    *ret_fd = im_steal_fd(&fd);
    return true;
}

static bool local_reparent(void *handle, const char *head, const char *parent, struct im_err *err) {
    struct file_name backing = file_of(parent);
    IM_AUTO(fd_auto) int fd = -1;

    return open_head(handle, head, &fd, err) &&
           (qcow2_backing_rename(fd, backing.text, err) || im_within(err, "layer %s", head));
}

static bool local_resize(void *handle, const char *head, uint64_t size, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = -1;

    return open_head(handle, head, &fd, err) &&
           (qcow2_grow(fd, size, err) || im_within(err, "layer %s", head));
}

static bool local_import_begin(void *handle, const char *name, int *ret_fd, struct im_err *err) {
    struct local *local = handle;
    struct file_name part = part_of(name);
    int fd;

    /* An earlier try's file may still be open in a worker that is dying: never the same file again.
     */
    if (!local_remove(local, name, err))
        return false;
    fd = openat(local->layers, part.text, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return im_fail_sys(err, errno, "cannot make layer %s", name);
    *ret_fd = fd;
    return true;
}

/* Whether the name in the pool is the file that `fd` is. */
static bool same_file(struct local *local, struct file_name file, int fd) {
    struct stat named, open;

    return fstatat(local->layers, file.text, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           fstat(fd, &open) == 0 && named.st_dev == open.st_dev && named.st_ino == open.st_ino;
}

static bool local_import_end(void *handle, const char *name, int fd, struct im_err *err) {
    struct local *local = handle;
    uint64_t size;

    if (same_file(local, file_of(name), fd))
        return sync_folder(local, name, err);
    if (!same_file(local, part_of(name), fd))
        return im_fail(err, IM_NOT_FOUND, "layer %s: no such import is under way", name);
    if (!storage_imported_size(fd, name, &size, err))
        return false;
    if (fchmod(fd, 0444) < 0 || fsync(fd) < 0)
        return im_fail_sys(err, errno, "cannot make layer %s durable", name);
    return publish(local, name, err);
}

/* --- Whole layers, in and out ----------------------------------------------------------------- */

/* The folder may be on a file system that others write to: nothing but a file of ours is opened for
 * long, and its header leads to no file but a layer. */
static bool open_whole(struct local *local, const char *name, bool frozen, int flags, int *ret_fd,
                       char *ret_parent, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = -1;
    struct qcow2_info info = {0};
    struct stat st;

    if (!open_layer(local, name, flags | O_NONBLOCK, &fd, err))
        return false;
    if (fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot look at layer %s", name);
    if (!S_ISREG(st.st_mode))
        return im_fail(err, IM_BAD_IMAGE, "layer %s is no regular file", name);
    if (is_frozen(&st) != frozen)
        return im_fail(err, IM_UNSUPPORTED, "layer %s is %s", name,
                       frozen ? "a head, which changes" : "frozen and never changes");
    if (!qcow2_info_read(fd, &info, err))
        return im_within(err, "layer %s", name);
    if (!layer_of_file(info.backing, ret_parent))
        return im_fail(err, IM_BAD_IMAGE, "layer %s: its parent [%.64s] is no layer's file", name,
                       info.backing);
    *ret_fd = im_steal_fd(&fd);
    return true;
}

static bool local_read(void *handle, const char *name, int *ret_fd, char *ret_parent,
                       struct im_err *err) {
    return open_whole(handle, name, true, O_RDONLY, ret_fd, ret_parent, err);
}

static bool local_open_head(void *handle, const char *head, bool writable, int *ret_fd,
                            char *ret_parent, struct im_err *err) {
    return open_whole(handle, head, false, writable ? O_RDWR : O_RDONLY, ret_fd, ret_parent, err);
}

static bool local_put_undo(void *handle, const char *name, struct im_err *err) {
    struct local *local = handle;

    if (unlinkat(local->layers, part_of(name).text, 0) < 0 && errno != ENOENT)
        return im_fail_sys(err, errno, "cannot remove what is half made of layer %s", name);
    step();
    return sync_folder(local, name, err);
}

static bool local_put_begin(void *handle, const char *name, int *ret_fd, struct im_err *err) {
    struct local *local = handle;
    int fd;

    if (!local_put_undo(local, name, err))
        return false;
    fd = openat(local->layers, part_of(name).text,
                O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return im_fail_sys(err, errno, "cannot make layer %s", name);
    *ret_fd = fd;
    return true;
}

static bool local_put_end(void *handle, const char *name, const char *parent, int fd,
                          struct im_err *err) {
    struct local *local = handle;
    struct file_name backing = {""};
    struct qcow2_info info = {0};

    if (parent[0] != '\0')
        backing = file_of(parent);
    if (!qcow2_info_read(fd, &info, err))
        return im_within(err, "layer %s", name);
    if (strcmp(info.backing, backing.text) != 0)
        return im_fail(err, IM_BAD_IMAGE, "layer %s: its bytes name the parent [%.64s], not [%s]",
                       name, info.backing, backing.text);
    if (info.data_file || (parent[0] != '\0' && strcmp(info.backing_format, "qcow2") != 0))
        return im_fail(err, IM_BAD_IMAGE, "layer %s: its bytes lie in another file than a layer's",
                       name);
    if (same_file(local, file_of(name), fd))
        return sync_folder(local, name, err);
    if (!same_file(local, part_of(name), fd))
        return im_fail(err, IM_NOT_FOUND, "layer %s: nothing is being put there", name);
    if (fchmod(fd, 0444) < 0 || fsync(fd) < 0)
        return im_fail_sys(err, errno, "cannot make layer %s durable", name);
    return publish(local, name, err);
}

/* --- Notes: DIR/notes/NAME.json --------------------------------------------------------------- */

static char *note_path(const struct local *local, const char *name) {
    return im_printf("%s/notes/%s.json", local->folder, name);
}

static bool local_note_put(void *handle, const char *name, const char *text, struct im_err *err) {
    struct local *local = handle;
    IM_AUTO(free_auto) char *folder = im_printf("%s/notes", local->folder);
    IM_AUTO(free_auto) char *path = note_path(local, name);

    return im_make_dirs(folder, 0700, err) && im_write_file(path, text, strlen(text), 0600, err);
}

static bool local_note_get(void *handle, const char *name, char **ret_text, struct im_err *err) {
    struct local *local = handle;
    IM_AUTO(free_auto) char *path = note_path(local, name);
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT
                   ? im_fail(err, IM_NOT_FOUND, "pool %s has no note of %s", local->folder, name)
                   : im_fail_sys(err, errno, "cannot look at the note of %s", name);
    if (!S_ISREG(st.st_mode))
        return im_fail(err, IM_BAD_MESSAGE, "the note of %s is no regular file", name);
    return im_read_file(path, STORAGE_NOTE_MAX, ret_text, NULL, err);
}

static bool local_note_remove(void *handle, const char *name, struct im_err *err) {
    struct local *local = handle;
    IM_AUTO(free_auto) char *path = note_path(local, name);

    if (unlink(path) < 0)
        return errno == ENOENT || im_fail_sys(err, errno, "cannot remove the note of %s", name);
    return im_sync_parent(path, err);
}

static bool local_note_list(void *handle, struct im_strings *ret_names, struct im_err *err) {
    struct local *local = handle;
    IM_AUTO(free_auto) char *folder = im_printf("%s/notes", local->folder);
    DIR *dir = opendir(folder);

    if (dir == NULL)
        return errno == ENOENT ||
               im_fail_sys(err, errno, "cannot list the notes of pool %s", local->folder);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        if (im_ends_with(entry->d_name, ".json") && entry->d_name[0] != '.') {
            IM_AUTO(free_auto)
            char *name = im_strndup(entry->d_name, strlen(entry->d_name) - strlen(".json"));

            im_strings_add(ret_names, name);
        }
    closedir(dir);
    return true;
}

/* --- Looking ---------------------------------------------------------------------------------- */

static bool local_usage(void *handle, const char *name, struct storage_usage *ret_usage,
                        struct im_err *err) {
    IM_AUTO(fd_auto) int fd = -1;
    struct qcow2_info info = {0};
    struct stat st;

    if (!open_layer(handle, name, O_RDONLY, &fd, err) || !qcow2_info_read(fd, &info, err))
        return false;
    if (fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot look at layer %s", name);
    *ret_usage = (struct storage_usage){.virtual_bytes = info.size_bytes,
                                        .own_bytes = (uint64_t) st.st_blocks * 512};
    return true;
}

static bool local_space(void *handle, struct storage_space *ret_space, struct im_err *err) {
    struct local *local = handle;
    struct statvfs st;

    if (fstatvfs(local->layers, &st) < 0)
        return im_fail_sys(err, errno, "cannot ask for the space of pool %s", local->folder);
    ret_space->total_bytes = (uint64_t) st.f_blocks * st.f_frsize;
    ret_space->free_bytes = (uint64_t) st.f_bavail * st.f_frsize;
    return true;
}

static bool local_attach_info(void *handle, const char *name, struct storage_source *ret_source,
                              struct im_err *err) {
    struct local *local = handle;
    struct file_name file = file_of(name);

    if (faccessat(local->layers, file.text, F_OK, 0) < 0 && errno != ENOENT)
        return im_fail_sys(err, errno, "cannot look at layer %s", name);
    if (faccessat(local->layers, file.text, F_OK, 0) < 0)
        return im_fail(err, IM_NOT_FOUND, "layer %s is not in the pool", name);
    *ret_source =
        (struct storage_source){.kind = STORAGE_SOURCE_FILE,
                                .format = "qcow2",
                                .path = im_printf("%s/layers/%s", local->folder, file.text)};
    return true;
}

/* Fills the entry of one file; what cannot be read counts as partial, so that it is shown. */
static bool list_one(struct local *local, const char *file, struct storage_entry *entry) {
    bool whole = im_ends_with(file, ".qcow2"), part = im_ends_with(file, ".part");
    size_t len = strlen(file) - strlen(whole ? ".qcow2" : ".part");
    struct qcow2_info info = {0};
    struct im_err err = {0};
    struct stat st;
    bool frozen;

    if ((!whole && !part) || len == 0 || len >= sizeof(entry->name) ||
        fstatat(local->layers, file, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    *entry = (struct storage_entry){.frozen = is_frozen(&st), .partial = true};
    memcpy(entry->name, file, len);
    entry->usage.own_bytes = (uint64_t) st.st_blocks * 512;
    if (part || !layer_info(local, entry->name, &info, &frozen, &err))
        return true;
    entry->partial = false;
    entry->usage.virtual_bytes = info.size_bytes;
    (void) layer_of_file(info.backing, entry->parent);
    return true;
}

static bool local_list(void *handle, struct storage_entry **ret_entries, size_t *ret_count,
                       struct im_err *err) {
    struct local *local = handle;
    int fd = openat(local->layers, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct storage_entry *entries = NULL;
    size_t count = 0, capacity = 0;
    int failed = errno;

    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return im_fail_sys(err, failed, "cannot list pool %s", local->folder);
    }
    for (struct dirent *entry; errno = 0, (entry = readdir(dir)) != NULL;) {
        im_grow(&entries, count, &capacity);
        if (list_one(local, entry->d_name, &entries[count]))
            count++;
    }
    failed = errno;
    closedir(dir);
    if (failed != 0) {
        free(entries);
        return im_fail_sys(err, failed, "cannot list pool %s", local->folder);
    }
    *ret_entries = entries;
    *ret_count = count;
    return true;
}

const struct storage_ops storage_local = {.scheme = "local",
                                          .open = local_open,
                                          .close = local_close,
                                          .set_owner = local_set_owner,
                                          .create = local_create,
                                          .clone = local_clone,
                                          .freeze_begin = local_freeze_begin,
                                          .freeze_end = local_freeze_end,
                                          .freeze_undo = local_freeze_undo,
                                          .sync = local_sync,
                                          .parent = local_parent,
                                          .reparent = local_reparent,
                                          .resize = local_resize,
                                          .remove = local_remove,
                                          .import_begin = local_import_begin,
                                          .import_end = local_import_end,
                                          .read = local_read,
                                          .open_head = local_open_head,
                                          .put_begin = local_put_begin,
                                          .put_end = local_put_end,
                                          .put_undo = local_put_undo,
                                          .note_put = local_note_put,
                                          .note_get = local_note_get,
                                          .note_remove = local_note_remove,
                                          .note_list = local_note_list,
                                          .usage = local_usage,
                                          .space = local_space,
                                          .attach_info = local_attach_info,
                                          .list = local_list};
