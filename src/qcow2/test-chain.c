/* SPDX-License-Identifier: Apache-2.0 */
/* A disk of layers reads as QEMU reads it, whatever its layers say about each other. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "harness/run.h"
#include "harness/test.h"
#include "qcow2/chain.h"

#define MIB (1ull << 20)
#define LAYERS 4

static char folder[128];

static char *path_of(const char *name) { return im_printf("%s/%s", folder, name); }

static bool write_io(const char *image, const char *command) {
    return RUN("qemu-io", "-f", "qcow2", "-c", command, image);
}

static struct qcow2_layer layer_of(const char *name, bool raw) {
    IM_AUTO(free_auto) char *path = path_of(name);
    struct qcow2_layer layer = {.fd = open(path, O_RDONLY | O_CLOEXEC), .raw = raw};
    struct stat st = {0};

    (void) fstat(layer.fd, &st);
    layer.file_size = (uint64_t) st.st_size;
    return layer;
}

/* A raw base, a compressed image without parent that stands on it all the same, and two overlays
 * with data, zeros and growth. */
static bool make_layers(void) {
    IM_AUTO(free_auto) char *base = path_of("base.raw");
    IM_AUTO(free_auto) char *one = path_of("one.qcow2");
    IM_AUTO(free_auto) char *two = path_of("two.qcow2");
    IM_AUTO(free_auto) char *three = path_of("three.qcow2");

    return RUN("qemu-img", "create", "-q", "-f", "raw", base, "3M") &&
           RUN("qemu-io", "-f", "raw", "-c", "write -P 0x11 0 3M", base) &&
           RUN("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", one, "4M") &&
           write_io(one, "write -c -P 0x22 64k 64k") && write_io(one, "write -P 0x33 1M 100k") &&
           RUN("qemu-img", "create", "-q", "-f", "qcow2", "-b", one, "-F", "qcow2", two) &&
           write_io(two, "write -z 2M 128k") && write_io(two, "write -P 0x44 192k 64k") &&
           RUN("qemu-img", "create", "-q", "-f", "qcow2", "-b", two, "-F", "qcow2", three, "6M") &&
           write_io(three, "write -P 0x55 5M 64k") && write_io(three, "write -P 0x66 1088k 4k");
}

static void open_layers(struct qcow2_layer layers[LAYERS]) {
    layers[0] = layer_of("three.qcow2", false);
    layers[1] = layer_of("two.qcow2", false);
    layers[2] = layer_of("one.qcow2", false);
    layers[3] = layer_of("base.raw", true);
}

static void test_content(struct qcow2_chain *chain) {
    IM_AUTO(free_auto) char *flat = path_of("flat.raw");
    IM_AUTO(free_auto) char *top = path_of("three.qcow2");
    IM_AUTO(free_auto) char *wanted = NULL;
    IM_AUTO(free_auto) char *got = im_alloc(6 * MIB);
    size_t len = 0;

    check(RUN("qemu-img", "convert", "-f", "qcow2", "-O", "raw", top, flat), "QEMU reads it");
    check_ok(im_read_file(flat, 64 * MIB, &wanted, &len, &err), "and we read that");
    check(qcow2_chain_size(chain) == 6 * MIB && len == 6 * MIB, "the size is the head's");
    check_ok(qcow2_chain_read(chain, 0, got, 6 * MIB, &err), "at once");
    check(wanted && memcmp(got, wanted, 6 * MIB) == 0, "the same bytes");
    memset(got, 0xff, 6 * MIB);
    for (uint64_t at = 0; at < 6 * MIB; at += 70001) {
        struct im_err err = {0};
        size_t piece = 6 * MIB - at < 70001 ? (size_t) (6 * MIB - at) : 70001;

        if (!qcow2_chain_read(chain, at, got + at, piece, &err))
            check(false, "%s", err.text);
    }
    check(wanted && memcmp(got, wanted, 6 * MIB) == 0, "the same bytes in pieces");
}

static void test_map(struct qcow2_chain *chain) {
    static const struct {
        uint64_t at;
        enum qcow2_kind kind;
        size_t layer;
    } spots[] = {{0, QCOW2_DATA, 3},           {64 << 10, QCOW2_COMPRESSED, 2},
                 {192 << 10, QCOW2_DATA, 1},   {2 * MIB, QCOW2_ZERO, 1},
                 {1088 << 10, QCOW2_DATA, 0},  {5 * MIB, QCOW2_DATA, 0},
                 {7 * MIB / 2, QCOW2_HOLE, 3}, {5 * MIB + (64 << 10), QCOW2_HOLE, 3}};
    struct qcow2_chain_extent extent;

    for (size_t i = 0; i < sizeof(spots) / sizeof(spots[0]); i++) {
        struct im_err err = {0};

        check(qcow2_chain_map(chain, spots[i].at, &extent, &err) && extent.kind == spots[i].kind &&
                  extent.layer == spots[i].layer && extent.guest_offset == spots[i].at &&
                  extent.len > 0,
              "spot %zu is in layer %zu %s", i, spots[i].layer, err.text);
    }
    check_err(qcow2_chain_map(chain, 6 * MIB, &extent, &err), IM_BAD_MESSAGE, "the end");
}

static void test_order(const struct qcow2_layer layers[LAYERS]) {
    struct qcow2_chain *chain = NULL;
    struct qcow2_layer wrong[2] = {layers[3], layers[0]};
    unsigned char byte = 0;

    /* The names inside would lead on to three more layers. */
    check_ok(qcow2_chain_open(layers, 1, &chain, &err), "a head alone");
    check_ok(qcow2_chain_read(chain, 0, &byte, 1, &err), "is read");
    check(byte == 0, "and names of backing files are not followed");
    qcow2_chain_free(chain);
    chain = NULL;
    wrong[0].raw = false;
    check_err(qcow2_chain_open(wrong, 2, &chain, &err), IM_BAD_IMAGE, "raw is not taken as qcow2");
    check_err(qcow2_chain_open(layers, 0, &chain, &err), IM_BAD_MESSAGE, "no layer at all");
    check_err(qcow2_chain_open(layers, QCOW2_CHAIN_MAX + 1, &chain, &err), IM_BAD_MESSAGE,
              "too many layers");
}

int main(void) {
    struct qcow2_layer layers[LAYERS];
    struct qcow2_chain *chain = NULL;

    snprintf(folder, sizeof(folder), "/tmp/qcow2-chain-XXXXXX");
    if (mkdtemp(folder) == NULL || !make_layers())
        return check(false, "layers are made"), test_end();
    open_layers(layers);
    check_ok(qcow2_chain_open(layers, LAYERS, &chain, &err), "a chain is opened");
    if (chain != NULL) {
        test_content(chain);
        test_map(chain);
    }
    qcow2_chain_free(chain);
    test_order(layers);
    for (size_t i = 0; i < LAYERS; i++)
        close(layers[i].fd);
    (void) RUN("rm", "-rf", folder);
    return test_end();
}
