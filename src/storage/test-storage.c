/* SPDX-License-Identifier: Apache-2.0 */
/* The contract of a pool, with qemu-img and qemu-io as judges of what is in it. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "harness/test.h"
#include "qcow2/qcow2.h"
#include "storage/storage.h"

static const uint64_t size = 20ull << 30;
static char frozen[STORAGE_NAME_MAX], head[STORAGE_NAME_MAX];

static struct storage_pool *pool_open(const char *name) {
    struct im_err err = {0};
    IM_AUTO(free_auto) char *uri = im_printf("local:%s/%s", test_folder(), name);
    struct storage_pool *pool = storage_open(uri, &err);

    if (pool == NULL)
        test_note("%s", err.text);
    return pool;
}

static char *path_of(struct storage_pool *pool, const char *name) {
    struct storage_source source = {0};
    struct im_err err = {0};

    if (!storage_attach_info(pool, name, &source, &err))
        test_note("%s", err.text);
    return source.path;
}

static bool qemu_io(const char *path, const char *command) {
    struct im_err err = {0};
    IM_AUTO(free_auto) char *output = NULL;
    bool done = im_run((const char *const[]){"qemu-io", "-f", "qcow2", "-c", command, path, NULL},
                       NULL, 60000, &output, &err);

    if (!done || strstr(output, "failed") != NULL)
        test_note("%s %s", err.text, output ? output : "");
    return done && strstr(output, "failed") == NULL;
}

static bool sound(const char *path) {
    struct im_err err = {0};

    return im_run((const char *const[]){"qemu-img", "check", "-q", "-f", "qcow2", path, NULL}, NULL,
                  60000, NULL, &err);
}

/* An import: a worker would fill the descriptor. */
static bool import(struct storage_pool *pool, const char *name, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = -1;

    return storage_import_begin(pool, name, &fd, err) &&
           qcow2_overlay_write(fd, NULL, NULL, size, err) &&
           storage_import_end(pool, name, fd, err);
}

static void test_graph(struct storage_pool *pool) {
    IM_AUTO(free_auto) char *first = NULL;
    IM_AUTO(free_auto) char *second = NULL;
    IM_AUTO(free_auto) char *clone = NULL;
    struct stat st = {0};

    check_ok(import(pool, "base", &err), "a layer is imported");
    check_ok(storage_clone(pool, "base", "head-1", size, &err), "a head is cloned from it");
    check_ok(storage_clone(pool, "base", "head-1", size, &err), "and once more: repeatable");
    check_err(storage_clone(pool, "base", "head-1", size * 2, &err), IM_EXISTS,
              "another one of that name is refused");
    first = path_of(pool, "head-1");
    check(qemu_io(first, "write -P 7 1M 64k") && sound(first), "the head takes writes");
    check_ok(storage_freeze_begin(pool, "head-1", "head-2", frozen, head, &err), "a freeze begins");
    check(strcmp(frozen, "head-1") == 0 && strcmp(head, "head-2") == 0, "and tells the names");
    check_ok(storage_freeze_end(pool, frozen, &err), "and ends");
    check(stat(first, &st) == 0 && (st.st_mode & 0777) == 0444, "frozen is read-only");
    second = path_of(pool, head);
    check(qemu_io(second, "read -P 7 1M 64k"), "the new head reads what was written");
    check(qemu_io(second, "write -P 8 1M 64k"), "and takes writes of its own");
    check_ok(storage_clone(pool, frozen, "head-3", size * 2, &err), "a larger clone of the frozen");
    clone = path_of(pool, "head-3");
    check(qemu_io(clone, "read -P 7 1M 64k") && qemu_io(clone, "read -P 0 30G 64k") && sound(clone),
          "reads the frozen state, and zeros beyond its parent");
    check_ok(storage_resize(pool, "head-3", size * 3, &err), "it grows");
    check(qemu_io(clone, "write -P 9 50G 64k") && qemu_io(clone, "read -P 7 1M 64k") &&
              sound(clone),
          "and takes writes at its new end");
    check_err(storage_resize(pool, "head-3", size, &err), IM_UNSUPPORTED, "it does not shrink");
}

static void test_undo(struct storage_pool *pool) {
    IM_AUTO(free_auto) char *path = NULL;
    struct stat st = {0};

    check_ok(storage_create(pool, "u-1", size, &err), "an empty disk");
    path = path_of(pool, "u-1");
    check_ok(storage_freeze_begin(pool, "u-1", "u-2", frozen, head, &err) &&
                 storage_freeze_end(pool, frozen, &err),
             "is frozen");
    check_ok(storage_freeze_undo(pool, "u-1", "u-2", &err), "and that is taken back");
    check(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "it is writable again");
    check_err(storage_attach_info(pool, "u-2", &(struct storage_source){0}, &err), IM_NOT_FOUND,
              "its continuation is gone");
}

static void test_refusals(struct storage_pool *pool) {
    check_err(storage_create(pool, "../evil", size, &err), IM_BAD_MESSAGE, "a path is no name");
    check_err(storage_create(pool, "", size, &err), IM_BAD_MESSAGE, "nothing is no name");
    check_err(storage_create(pool, "odd", 1000, &err), IM_BAD_MESSAGE, "1000 bytes is no size");
    check_err(storage_create(pool, "huge", UINT64_MAX - 511, &err), IM_BAD_MESSAGE, "too large");
    check_err(storage_clone(pool, "nothing", "x", size, &err), IM_NOT_FOUND, "no such parent");
    check_err(storage_clone(pool, "base", "x", 512, &err), IM_BAD_MESSAGE,
              "smaller than its parent");
    check_ok(storage_remove(pool, "nothing", &err), "removing nothing is fine");
    check_err(storage_open("local:relative", &err) != NULL, IM_BAD_MESSAGE, "a relative path");
    check_err(storage_open("rados:x", &err) != NULL, IM_BAD_MESSAGE, "an unknown scheme");
    check_err(storage_open("local:/usr", &err) != NULL, IM_INTERNAL, "somebody else's folder");
}

/* A pool on a file system of its own, which is not mounted any more: its mount point is no new
 * pool. */
static void test_unmounted(void) {
    IM_AUTO(free_auto) char *disk = im_printf("%s/disk", test_folder());
    IM_AUTO(free_auto) char *point = im_printf("%s/point", test_folder());
    IM_AUTO(free_auto) char *gone = im_printf("local:%s/point/deeper", test_folder());
    IM_AUTO(free_auto) char *uri = im_printf("local:%s", point);
    IM_AUTO(free_auto) char *mark = im_printf("%s/pool", point);
    struct im_err failure = {0};

    check_err(storage_open_used(uri, &err) != NULL, IM_NOT_FOUND, "a used pool that is not there");
    check(access(point, F_OK) != 0, "is not made");
    if (mkdir(disk, 0755) < 0 || mkdir(point, 0755) < 0 ||
        mount(disk, point, NULL, MS_BIND, NULL) < 0) {
        test_note("skipped: nothing can be mounted here");
        return;
    }
    storage_close(storage_open(uri, &failure));
    check(access(mark, F_OK) == 0, "a new pool is made where it is mounted: %s", failure.text);
    umount(point);
    check_err(storage_open_used(uri, &err) != NULL, IM_NOT_FOUND,
              "an empty mount point is not a used pool");
    check_err(storage_open_used(gone, &err) != NULL, IM_NOT_FOUND, "nor is a folder below it");
    check(access(mark, F_OK) != 0, "and stays empty");
    check(mount(disk, point, NULL, MS_BIND, NULL) == 0, "mounted again");
    {
        IM_AUTO(storage_close_auto) struct storage_pool *pool = storage_open_used(uri, &failure);

        check(pool != NULL, "it is the pool: %s", failure.text);
    }
    umount(point);
}

static const struct storage_entry *entry_of(const struct storage_entry *entries, size_t count,
                                            const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(entries[i].name, name) == 0)
            return &entries[i];
    return NULL;
}

static void test_list(struct storage_pool *pool) {
    struct storage_entry *entries = NULL;
    const struct storage_entry *entry;
    size_t count = 0;
    int fd = -1;

    check_ok(storage_import_begin(pool, "dead", &fd, &err), "an import that dies");
    close(fd);
    check_ok(storage_list(pool, &entries, &count, &err), "the pool is listed");
    entry = entry_of(entries, count, "dead");
    check(entry != NULL && entry->partial, "what is half made is told");
    entry = entry_of(entries, count, "head-3");
    check(entry != NULL && !entry->frozen && strcmp(entry->parent, "head-1") == 0 &&
              entry->usage.virtual_bytes == size * 3,
          "a head, its parent and its size");
    entry = entry_of(entries, count, "head-1");
    check(entry != NULL && entry->frozen, "a frozen layer");
    free(entries);
    check_ok(storage_remove(pool, "dead", &err), "the half made is removed");
}

static unsigned files_in(const char *folder) {
    DIR *dir = opendir(folder);
    unsigned count = 0;

    while (dir != NULL && readdir(dir) != NULL)
        count++;
    if (dir != NULL)
        closedir(dir);
    return count;
}

/* Each verb in a pool without a free block: a clear reason, and not a file more than before. */
static void test_full(void) {
    IM_AUTO(free_auto) char *folder = im_printf("%s/full", test_folder());
    IM_AUTO(free_auto) char *layers = im_printf("%s/full/pool/layers", test_folder());
    IM_AUTO(free_auto) char *ballast = im_printf("%s/full/ballast", test_folder());
    IM_AUTO(storage_close_auto) struct storage_pool *pool = NULL;
    static char block[4096];
    unsigned before;
    int fd;

    if (mkdir(folder, 0755) < 0 || mount("imprint-test", folder, "tmpfs", 0, "size=1m") < 0) {
        test_note("skipped: no small file system can be mounted here");
        return;
    }
    pool = pool_open("full/pool");
    check_ok(import(pool, "base", &err), "a base while there is room");
    fd = open(ballast, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, block, sizeof(block)) == sizeof(block))
        ;
    close(fd);
    before = files_in(layers);
    check_err(storage_create(pool, "a", size, &err), IM_NO_SPACE, "create in a full pool");
    check_err(storage_clone(pool, "base", "b", size, &err), IM_NO_SPACE, "clone in a full pool");
    check_err(storage_freeze_begin(pool, "base", "c", frozen, head, &err), IM_NO_SPACE,
              "freeze in a full pool");
    check(files_in(layers) == before, "nothing is left behind");
    unlink(ballast);
    check_ok(storage_clone(pool, "base", "b", size, &err), "and with room it works again");
    storage_close(im_steal(&pool));
    umount(folder);
}

static void test_faulty(struct storage_pool *pool) {
    struct storage_pool *faulty = storage_faulty(pool);

    storage_faulty_set(faulty, 2, IM_NO_SPACE, false);
    check_ok(storage_create(faulty, "f-1", size, &err), "the first call works");
    check_err(storage_create(faulty, "f-2", size, &err), IM_NO_SPACE,
              "the second fails on purpose");
    check_ok(storage_create(faulty, "f-2", size, &err), "the third works");
    storage_faulty_set(faulty, 1, IM_INTERNAL, true);
    check_err(storage_create(faulty, "f-3", size, &err), IM_INTERNAL, "fails after its effect");
    check_ok(storage_create(faulty, "f-3", size, &err), "and repeating it is fine");
    storage_faulty_set(faulty, 0, IM_OK, false);
}

static void test_speed(struct storage_pool *pool) {
    struct storage_usage usage = {0};
    struct im_err fail = {0};
    int64_t begin = im_mono_ms();

    for (int i = 0; i < 100; i++) {
        char name[32];

        snprintf(name, sizeof(name), "fast-%d", i);
        if (!storage_clone(pool, "base", name, size, &fail))
            test_note("%s", fail.text);
    }
    test_note("clone of 20 GiB, durable: %.2f ms each", (double) (im_mono_ms() - begin) / 100);
    check_ok(storage_usage(pool, "fast-99", &usage, &err), "usage of a clone");
    check(usage.virtual_bytes == size && usage.own_bytes < 1 << 20, "it takes under 1 MiB");
}

int main(void) {
    IM_AUTO(storage_close_auto) struct storage_pool *pool = pool_open("pool");

    if (access("/usr/bin/qemu-io", X_OK) < 0)
        test_skip_all("qemu-io is not installed");
    test_graph(pool);
    test_undo(pool);
    test_refusals(pool);
    test_list(pool);
    test_faulty(pool);
    test_speed(pool);
    test_unmounted();
    test_full();
    return test_end();
}
