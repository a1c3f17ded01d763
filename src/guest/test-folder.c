/* SPDX-License-Identifier: Apache-2.0 */
/* What readers read, compared with a folder of the host. */
#include "test-folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/spawn.h"
#include "harness/test.h"

#define PIECE 70000u /* odd to all blocks */
#define DEPTH_MAX 8

const char *maker;

/* --- A file system alone on a disk ------------------------------------------------------------ */

void close_disk(struct opened *opened) {
    volumes_close(&opened->look);
    guest_inspection_free(opened->look.found);
    if (opened->disk.bytes != NULL)
        drop_disk(&opened->disk);
    free(opened);
}
struct opened *open_disk(const char *script, const char *name) {
    IM_AUTO(close_disk_auto) struct opened *opened = im_alloc(sizeof(*opened));
    struct span span;

    opened->disk = make_disk(script);
    if (opened->disk.bytes == NULL)
        return NULL;
    opened->source = (struct guest_source){read_disk, &opened->disk, opened->disk.len};
    opened->look = (struct look){.source = &opened->source,
                                 .found = im_alloc(sizeof(*opened->look.found)),
                                 .reads_left = UINT64_MAX,
                                 .file_left = UINT64_MAX,
                                 .unpack_left = UINT64_MAX};
    look_part(&opened->look)->len = opened->disk.len;
    span = span_of(&opened->look, 0, opened->disk.len);
    filesystem_look(&span, 0);
    if (!check(opened->look.volume_count == 1, "%s can be opened", name))
        return NULL;
    opened->tree = tree_of(opened->look.volumes[0]);
    return im_steal(&opened);
}

/* --- The same as a folder of the host --------------------------------------------------------- */

struct comparison {
    struct opened *opened;
    unsigned files, wrong;
};

static void differs(struct comparison *comparison, const char *path, const char *how) {
    if (comparison->wrong++ < 5)
        test_note("%s: %s", path, how);
}

static bool same_bytes(struct comparison *comparison, const struct file *file, int fd) {
    IM_AUTO(free_auto) char *ours = im_alloc(PIECE), *theirs = im_alloc(PIECE);
    uint64_t at = 0;
    size_t got = 0;

    for (;;) {
        ssize_t wanted = pread(fd, theirs, PIECE, (off_t) at);
        off_t data;

        comparison->opened->look.found->read_bytes = 0; /* each piece has its own budget */
        if (wanted < 0 || !file_read(file, at, ours, PIECE, &got) || got != (size_t) wanted ||
            memcmp(ours, theirs, got) != 0)
            return false;
        if (got < PIECE)
            return true;
        at += got;
        data = at > 64 * MIB ? lseek(fd, (off_t) at, SEEK_DATA) : (off_t) at;
        if (data > (off_t) (at + 2 * PIECE)) /* a large hole: its beginning is enough */
            at = (uint64_t) data - PIECE;
    }
}

static void compare_content(struct comparison *comparison, const char *host, const char *path,
                            const struct file *file) {
    IM_AUTO(fd_auto) int fd = -1;
    char target[1100], read[1100];
    size_t got = 0;
    ssize_t len;

    if (file->facts.kind == NODE_LINK) {
        len = readlink(host, target, sizeof(target));
        if (!file_read(file, 0, read, sizeof(read), &got) || (ssize_t) got != len ||
            memcmp(read, target, got) != 0)
            differs(comparison, path, "another target");
        return;
    }
    fd = open(host, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || !same_bytes(comparison, file, fd))
        differs(comparison, path, "another content");
}

static bool count_name(void *arg, const char *name, size_t len) {
    *(unsigned *) arg += !(len == 1 && name[0] == '.') && !(len == 2 && memcmp(name, "..", 2) == 0);
    return true;
}

static void compare(struct comparison *comparison, const char *host, const char *path,
                    unsigned depth);

static void compare_folder(struct comparison *comparison, const char *host, const char *path,
                           unsigned depth) {
    DIR *dir = opendir(host);
    unsigned here = 0, there = 0;
    struct dirent *entry;

    if (dir == NULL || depth > DEPTH_MAX)
        return;
    while ((entry = readdir(dir)) != NULL) {
        IM_AUTO(free_auto) char *host_path = im_printf("%s/%s", host, entry->d_name);
        IM_AUTO(free_auto) char *our_path = im_printf("%s/%s", path, entry->d_name);

        if (!count_name(&here, entry->d_name, strlen(entry->d_name)) ||
            strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        compare(comparison, host_path, our_path, depth);
    }
    closedir(dir);
    if (!tree_list(&comparison->opened->tree, depth == 0 ? "/" : path, count_name, &there) ||
        here != there)
        differs(comparison, path, "other names");
}

static void compare(struct comparison *comparison, const char *host, const char *path,
                    unsigned depth) {
    struct look *look = &comparison->opened->look;
    struct file file;
    struct stat st;

    look->found->read_bytes = 0;
    comparison->files++;
    if (lstat(host, &st) < 0 || !tree_find_link(&comparison->opened->tree, path, &file))
        return differs(comparison, path, "is not found");
    if (file.facts.kind != (S_ISREG(st.st_mode)   ? NODE_FILE
                            : S_ISDIR(st.st_mode) ? NODE_FOLDER
                                                  : NODE_LINK) ||
        (!S_ISLNK(st.st_mode) && file.facts.mode != (st.st_mode & 07777)) ||
        file.facts.uid != st.st_uid || file.facts.gid != st.st_gid ||
        (!S_ISDIR(st.st_mode) && file.facts.size != (uint64_t) st.st_size))
        return differs(comparison, path, "another kind, mode or size");
    if (S_ISDIR(st.st_mode))
        return compare_folder(comparison, host, path, depth + 1);
    compare_content(comparison, host, path, &file);
}

void check_codes(struct opened *opened, const char *wanted, const char *name) {
    IM_AUTO(free_auto) char *codes = NULL;

    opened->look.found->read_bytes = 0; /* what the test read does not count */
    volumes_check(&opened->look);
    codes = codes_of(opened->look.found);
    check(strcmp(codes, wanted) == 0, "%s: finds [%s]", name, codes);
}

void check_same(struct opened *opened, const char *folder, const char *name) {
    IM_AUTO(free_auto) char *host = im_printf("%s/%s", test_folder(), folder);
    struct comparison comparison = {.opened = opened};

    compare_folder(&comparison, host, "", 0);
    check(comparison.wrong == 0 && comparison.files > 0,
          "%s: all %u files come out as they went in, %u differ", name, comparison.files,
          comparison.wrong);
}

bool run(const char *format, const char *arg) {
    IM_AUTO(free_auto)
    char *text = im_printf("cd '%s'; M='%s'; %s %s", test_folder(), maker, format, arg);
    struct im_err err = {0};

    return im_run((const char *const[]){"sh", "-ec", text, NULL}, NULL, 300000, NULL, &err);
}

bool can_mount(const char *type, const char *mkfs) {
    IM_AUTO(free_auto)
    char *script = im_printf("rm -f m.img; truncate -s 400M m.img; %s m.img; mkdir -p m; "
                             "mount -t %s -o loop m.img m; umount m; #",
                             mkfs, type);
    bool can = run("exec >/dev/null 2>&1;", script);

    if (!can)
        test_note("%s cannot be mounted here: what only the kernel writes is left out", type);
    return can;
}
