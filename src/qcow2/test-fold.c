/* SPDX-License-Identifier: Apache-2.0 */
/* What layers show is the same before and after they were folded, as QEMU sees it, whatever they
 * hold and wherever they end. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "harness/run.h"
#include "harness/test.h"
#include "qcow2/fold.h"

#define KIB (1ull << 10)
#define MIB (1ull << 20)
#define ROUNDS 8
#define LAYERS 5

static char folder[64];
static uint64_t state = 7;

static uint64_t any(uint64_t below) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (state >> 33) % below;
}

static char *path_of(unsigned layer) { return im_printf("%s/%u.qcow2", folder, layer); }

/* Data, compressed data, zeros and holes, all lengths, at the end of the layer too. */
static bool scribble(const char *path, uint64_t size) {
    const char *argv[2 * 14 + 5] = {"qemu-io", "-f", "qcow2"};
    char *commands[14];
    size_t argc = 3, count = 0;
    bool wrote;

    for (; count < 14; count++) {
        uint64_t at = any(size / 512) * 512, len = (1 + any(400)) * 512;
        /* QEMU compresses only what was not written before */
        uint64_t kind = count == 0 ? 0 : 1 + any(5);

        if (count == 1 || at + len > size) /* always something in its last cluster */
            at = size > len ? size - len : 0;
        if (at + len > size)
            len = size - at;
        if (kind == 0)
            at -= at % (64 * KIB);
        commands[count] =
            kind == 0 && size - at >= 64 * KIB
                ? im_printf("write -c -P %" PRIu64 " %" PRIu64 " 64k", 1 + any(255), at)
            : kind <= 2
                ? im_printf("write -z %" PRIu64 " %" PRIu64, at, len)
                : im_printf("write -P %" PRIu64 " %" PRIu64 " %" PRIu64, 1 + any(255), at, len);
        argv[argc++] = "-c";
        argv[argc++] = commands[count];
    }
    argv[argc++] = path;
    argv[argc] = NULL;
    wrote = test_run(argv);
    while (count > 0)
        free(commands[--count]);
    return wrote;
}

/* Layers that grow upwards, some by less than a cluster. */
static bool make_layers(void) {
    uint64_t size = 3 * MIB + any(200) * 512;

    for (unsigned i = 0; i < LAYERS; i++) {
        IM_AUTO(free_auto) char *path = path_of(i);
        IM_AUTO(free_auto) char *below = im_printf("%u.qcow2", i - 1);
        IM_AUTO(free_auto) char *text = im_printf("%" PRIu64, size);
        bool made = i == 0 ? RUN("qemu-img", "create", "-q", "-f", "qcow2", path, text)
                           : RUN("qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F",
                                 "qcow2", path, text);

        if (!made || !scribble(path, size))
            return false;
        size += any(3) == 0 ? 0 : (1 + any(300)) * 512;
    }
    return true;
}

static bool count_pace(void *arg, uint64_t done, uint64_t copied, struct im_err *err) {
    uint64_t *last = arg;

    (void) err;
    if (copied > done || done < *last)
        test_note("done %" PRIu64 " after %" PRIu64 ", copied %" PRIu64, done, *last, copied);
    *last = done;
    return true;
}

/* The layers from `top` down to `low`. */
static bool fold(unsigned top, unsigned low, const char *out, struct im_err *err) {
    struct qcow2_layer layers[LAYERS];
    IM_AUTO(free_auto) char *below = low > 0 ? im_printf("%u.qcow2", low - 1) : NULL;
    uint64_t last = 0, copied = 0;
    struct qcow2_fold fold = {.layers = layers, .backing = below, .pace = count_pace, .arg = &last};
    IM_AUTO(fd_auto) int fd = open(out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool folded;

    for (unsigned i = top + 1; i-- > low; fold.count++) {
        IM_AUTO(free_auto) char *path = path_of(i);
        struct stat st = {0};

        layers[fold.count].fd = open(path, O_RDONLY | O_CLOEXEC);
        (void) fstat(layers[fold.count].fd, &st);
        layers[fold.count].raw = false;
        layers[fold.count].file_size = (uint64_t) st.st_size;
    }
    folded = qcow2_fold(fd, &fold, &copied, err);
    while (fold.count > 0)
        close(layers[--fold.count].fd);
    return folded;
}

static void same(unsigned top, unsigned low) {
    IM_AUTO(free_auto) char *out = im_printf("%s/folded.qcow2", folder);
    IM_AUTO(free_auto) char *was = path_of(top);
    struct qcow2_info info = {0};
    IM_AUTO(fd_auto) int fd = -1;
    char below[16] = "";

    check_ok(fold(top, low, out, &err), "layers %u to %u are folded", low, top);
    check(RUN("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", was, out),
          "and show the same");
    check(RUN("qemu-img", "check", "-q", "-f", "qcow2", out), "in a sound image");
    fd = open(out, O_RDONLY | O_CLOEXEC);
    if (low > 0)
        snprintf(below, sizeof(below), "%u.qcow2", low - 1);
    check_ok(qcow2_info_read(fd, &info, &err), "whose header is read");
    check(im_str_equal(info.backing, below) &&
              im_str_equal(info.backing_format, low > 0 ? "qcow2" : ""),
          "which names what is below [%s]", below);
}

/* Zeros over data below take no room, and hide it. */
static void test_zeros(void) {
    IM_AUTO(free_auto) char *low = path_of(0);
    IM_AUTO(free_auto) char *middle = path_of(1);
    IM_AUTO(free_auto) char *top = path_of(2);
    IM_AUTO(free_auto) char *out = im_printf("%s/folded.qcow2", folder);
    struct stat st = {0};

    check(RUN("qemu-img", "create", "-q", "-f", "qcow2", low, "64M") &&
              RUN("qemu-io", "-f", "qcow2", "-c", "write -P 9 0 32M", low) &&
              RUN("qemu-img", "create", "-q", "-f", "qcow2", "-b", "0.qcow2", "-F", "qcow2",
                  middle) &&
              RUN("qemu-io", "-f", "qcow2", "-c", "write -z 0 32M", middle) &&
              RUN("qemu-img", "create", "-q", "-f", "qcow2", "-b", "1.qcow2", "-F", "qcow2", top) &&
              RUN("qemu-io", "-f", "qcow2", "-c", "write -P 8 1M 64k", top),
          "32 MiB of zeros lie over data");
    same(2, 1);
    check(stat(out, &st) == 0 && st.st_size < (off_t) MIB, "and take no room: %lld bytes",
          (long long) st.st_size);
}

static bool stop(void *arg, uint64_t done, uint64_t copied, struct im_err *err) {
    (void) arg, (void) done, (void) copied;
    return im_fail(err, IM_CANCELLED, "enough");
}

static void test_refused(void) {
    IM_AUTO(free_auto) char *small = im_printf("%s/small.qcow2", folder);
    IM_AUTO(free_auto) char *low = path_of(0);
    IM_AUTO(free_auto) char *out = im_printf("%s/folded.qcow2", folder);
    IM_AUTO(fd_auto) int from = -1, big = -1;
    IM_AUTO(fd_auto) int to = open(out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct qcow2_layer layer = {0};
    struct qcow2_fold fold = {.layers = &layer, .count = 1};
    struct qcow2_info info;
    uint64_t copied;
    struct stat st = {0};

    check(RUN("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4096", small, "1M"),
          "an image with small clusters");
    layer.fd = from = open(small, O_RDONLY | O_CLOEXEC);
    (void) fstat(from, &st);
    layer.file_size = (uint64_t) st.st_size;
    check_err(qcow2_fold(to, &fold, &copied, &err), IM_UNSUPPORTED, "it is not folded");
    layer.fd = big = open(low, O_RDONLY | O_CLOEXEC);
    (void) fstat(big, &st);
    layer.file_size = (uint64_t) st.st_size;
    fold.pace = stop;
    check_err(qcow2_fold(to, &fold, &copied, &err), IM_CANCELLED, "a fold is stopped");
    check_err(qcow2_info_read(to, &info, &err), IM_BAD_IMAGE, "and leaves no valid image");
}

int main(void) {
    snprintf(folder, sizeof(folder), "/tmp/qcow2-fold-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return check(false, "a folder"), test_end();
    for (unsigned round = 0; round < ROUNDS; round++) {
        state = round + 7;
        check(make_layers(), "round %u: layers are made", round);
        same(LAYERS - 1, LAYERS - 2);
        same(LAYERS - 2, 1);
        same(LAYERS - 1, 0);
    }
    test_zeros();
    test_refused();
    (void) RUN("rm", "-rf", folder);
    return test_end();
}
