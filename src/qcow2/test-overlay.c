/* SPDX-License-Identifier: Apache-2.0 */
/* Empty images and their growing, with QEMU's own tools as the judges. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "harness/test.h"
#include "qcow2/qcow2.h"

#define GIB (1ull << 30)
#define TIB (1ull << 40)

static const char *in_folder(const char *name) {
    static char paths[4][128];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", test_folder(), name);
    return path;
}

/* Runs a QEMU tool; its output must contain `wanted` (NULL: anything). */
static bool tool(const char *wanted, const char *const argv[]) {
    IM_AUTO(free_auto) char *output = NULL;
    struct im_err err = {0};

    if (!im_run(argv, NULL, 60000, &output, &err)) {
        test_note("%s: %s", argv[0], err.text);
        return false;
    }
    if (wanted != NULL && strstr(output, wanted) == NULL) {
        test_note("%s said: %s", argv[0], output);
        return false;
    }
    return true;
}
#define TOOL(wanted, ...) tool(wanted, (const char *const[]){__VA_ARGS__, NULL})
#define CLEAN(path) TOOL("No errors were found", "qemu-img", "check", "-f", "qcow2", path)

/* One command of qemu-io, which tells of wrong patterns in its output only. */
static bool io(const char *path, const char *command) {
    const char *const argv[] = {"qemu-io", "-f", "qcow2", "-c", command, path, NULL};
    IM_AUTO(free_auto) char *output = NULL;
    struct im_err err = {0};

    if (im_run(argv, NULL, 60000, &output, &err) && strstr(output, "failed") == NULL)
        return true;
    test_note("%s: %s %s", command, err.text, output ? output : "");
    return false;
}

static bool make(const char *path, const char *backing, uint64_t size, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    return fd >= 0 && qcow2_overlay_write(fd, backing, "qcow2", size, err);
}

static bool grow(const char *path, uint64_t size, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = open(path, O_RDWR | O_CLOEXEC);

    return fd >= 0 && qcow2_grow(fd, size, err);
}

static struct qcow2_info info_of(const char *path) {
    IM_AUTO(fd_auto) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct qcow2_info info = {0};
    struct im_err err = {0};

    if (!qcow2_info_read(fd, &info, &err))
        test_note("%s", err.text);
    return info;
}

static void test_sizes(void) {
    static const uint64_t sizes[] = {0,        512,     65536,         512ull << 20,
                                     20 * GIB, 4 * TIB, 4 * TIB + 512, 64 * TIB};
    const char *path = in_folder("empty");

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct stat st;

        check_ok(make(path, NULL, sizes[i], &err), "an image of %llu bytes is written",
                 (unsigned long long) sizes[i]);
        check(CLEAN(path), "qemu-img check finds nothing");
        check(info_of(path).size_bytes == sizes[i], "its size is read back");
        check(stat(path, &st) == 0 && st.st_blocks * 512 <= 16384, "it takes %ld bytes",
              (long) st.st_blocks * 512);
    }
    check_err(make(path, NULL, 64 * TIB + 512, &err), IM_BAD_MESSAGE, "too large is refused");
    check_err(make(path, NULL, 513, &err), IM_BAD_MESSAGE, "half a sector is refused");
    check_err(make(path, "", 512, &err), IM_BAD_MESSAGE, "an empty backing name is refused");
}

static void test_overlay(void) {
    const char *base = in_folder("base.qcow2"), *top = in_folder("top.qcow2");
    struct qcow2_info info;

    check_ok(make(base, NULL, GIB, &err), "a base is written");
    check(io(base, "write -P 0x11 0 1M"), "qemu-io writes to it");
    check_ok(make(top, "base.qcow2", 2 * GIB, &err), "a larger overlay is put on it");
    info = info_of(top);
    check(strcmp(info.backing, "base.qcow2") == 0 && strcmp(info.backing_format, "qcow2") == 0 &&
              info.version == 3 && info.size_bytes == 2 * GIB,
          "the header tells all that");
    check(TOOL("\"backing-filename-format\": \"qcow2\"", "qemu-img", "info", "-f", "qcow2",
               "--output=json", top),
          "qemu-img reads the format too");
    check(io(top, "read -P 0x11 0 1M"), "the base shows through");
    check(io(top, "read -P 0 1536M 1M"), "zeros beyond it");
    check(io(top, "write -P 0x22 4k 4k"), "the overlay is written");
    check(io(top, "read -P 0x22 4k 4k") && io(top, "read -P 0x11 8k 4k"), "and read");
    check(io(base, "read -P 0x11 0 1M"), "the base stays as it was");
    check(CLEAN(top) && CLEAN(base), "both are clean");
}

static bool rename_backing(const char *path, const char *backing, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = open(path, O_RDWR | O_CLOEXEC);

    return fd >= 0 && qcow2_backing_rename(fd, backing, err);
}

/* Names that QEMU wrote, or we, shorter ones and longer ones. */
static void test_rename(void) {
    const char *base = in_folder("base.qcow2"), *top = in_folder("renamed.qcow2");
    static const char *const names[] = {"base.qcow2", "a-much-longer-name-of-a-layer.qcow2", "b",
                                        "base.qcow2"};

    check(TOOL(NULL, "qemu-img", "create", "-f", "qcow2", "-F", "qcow2", "-b", base, top),
          "an overlay that names its base with all folders");
    check(io(top, "write -P 0x44 3M 1M"), "with data");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        check_ok(rename_backing(top, names[i], &err), "now it names %s", names[i]);
        check(strcmp(info_of(top).backing, names[i]) == 0 &&
                  strcmp(info_of(top).backing_format, "qcow2") == 0,
              "as is read back");
    }
    check(TOOL("\"backing-filename\": \"base.qcow2\"", "qemu-img", "info", "-f", "qcow2",
               "--output=json", top),
          "by qemu-img too");
    check(io(top, "read -P 0x44 3M 1M") && io(top, "read -P 0x11 0 1M") && CLEAN(top),
          "it holds what it held");
    check_err(rename_backing(base, "other.qcow2", &err), IM_UNSUPPORTED, "one without base");
    check_err(rename_backing(top, "", &err), IM_BAD_MESSAGE, "an empty name");
}

static void test_grow(void) {
    const char *path = in_folder("grow");

    check_ok(make(path, NULL, GIB, &err), "an image is written");
    check(io(path, "write -P 0x33 1000M 8M"), "with data");
    check_ok(grow(path, GIB, &err), "growing to its own size");
    check_err(grow(path, GIB - 512, &err), IM_UNSUPPORTED, "shrinking is refused");
    check_ok(grow(path, 20 * GIB, &err), "growing to 20 GiB");
    check(CLEAN(path) && io(path, "write -P 0x44 19G 1M"), "it is clean and takes data there");
    check_ok(grow(path, 4 * TIB, &err), "growing to 4 TiB in place");
    check(CLEAN(path) && io(path, "write -P 0x55 4095G 1M"), "it is clean and takes data there");
    check_ok(grow(path, 5 * TIB, &err), "growing beyond: the table moves");
    check(CLEAN(path) && io(path, "write -P 0x66 5119G 1M"), "it is clean and takes data there");
    check_ok(grow(path, 64 * TIB, &err), "growing to 64 TiB");
    check_err(grow(path, 64 * TIB + 512, &err), IM_BAD_MESSAGE, "no further");
    check(CLEAN(path), "it is clean");
    check(io(path, "read -P 0x33 1000M 8M") && io(path, "read -P 0x44 19G 1M") &&
              io(path, "read -P 0x55 4095G 1M") && io(path, "read -P 0x66 5119G 1M") &&
              io(path, "read -P 0 65535G 1M"),
          "all data is there");
}

/* Images of QEMU's making: other clusters, other versions, garbage behind the table. */
static void test_grow_foreign(void) {
    const char *path = in_folder("foreign");
    unsigned char junk[8] = "garbage";
    IM_AUTO(fd_auto) int fd = -1;

    check(TOOL(NULL, "qemu-img", "create", "-f", "qcow2", "-o", "compat=0.10,cluster_size=4096",
               path, "1G"),
          "qemu-img makes an image of version 2 with small clusters");
    check(io(path, "write -P 0x77 0 1M"), "with data");
    check_ok(grow(path, 2 * GIB, &err), "it grows, the table moves");
    check(CLEAN(path) && io(path, "read -P 0x77 0 1M") && io(path, "write -P 0x78 2047M 1M"),
          "it is clean and works");
    check(TOOL(NULL, "qemu-img", "create", "-f", "qcow2", path, "1G"), "qemu-img makes an image");
    check(io(path, "write -P 0x77 0 1M"), "with data");
    fd = open(path, O_RDWR | O_CLOEXEC);
    check(pwrite(fd, junk, sizeof(junk), 3 * 65536 + 16) == 8, "garbage is put behind its table");
    check_ok(grow(path, 2 * GIB, &err), "it grows");
    check(CLEAN(path) && io(path, "read -P 0 1G 1G"), "the garbage is not in it");
    check(TOOL(NULL, "qemu-img", "snapshot", "-c", "s1", path), "a snapshot is taken inside");
    check_err(grow(path, 3 * GIB, &err), IM_UNSUPPORTED, "such an image does not grow");
    check(ftruncate(fd, 100) == 0, "the file is cut");
    check_err(grow(path, 3 * GIB, &err), IM_BAD_IMAGE, "a cut image does not grow");
}

static void test_speed(void) {
    int64_t start = im_mono_ms();
    struct im_err err = {0};

    for (int i = 0; i < 100; i++) {
        IM_AUTO(fd_auto)
        int fd = open(in_folder("fast"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        if (!qcow2_overlay_write(fd, "base.qcow2", "qcow2", 20 * GIB, &err) || fsync(fd) < 0)
            break;
    }
    test_note("an overlay with fsync takes %.2f ms", (double) (im_mono_ms() - start) / 100);
}

int main(void) {
    if (!TOOL(NULL, "qemu-img", "--version") || !TOOL(NULL, "qemu-io", "--version"))
        test_skip_all("qemu-img is not here");
    test_sizes();
    test_overlay();
    test_rename();
    test_grow();
    test_grow_foreign();
    test_speed();
    return test_end();
}
