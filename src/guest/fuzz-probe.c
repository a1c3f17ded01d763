/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes at the gate, and what it lets through read here and there. For libFuzzer with clang;
 * its saved inputs run as a normal test through replay.c. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "guest/image.h"

#define EXTENTS 200
#define PIECE 4096

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void read_some(struct guest_image *image) {
    static uint8_t piece[PIECE];
    uint64_t at = 0, size = guest_image_size(image);

    for (int i = 0; i < EXTENTS && at < size; i++) {
        struct guest_extent extent;
        struct im_err err = {0};

        if (!guest_image_map(image, at, &extent, &err))
            return;
        if (extent.offset != at || extent.len == 0 || extent.len > size - at)
            abort();
        if (extent.kind != GUEST_ZERO &&
            !guest_image_read(image, at, piece, extent.len < PIECE ? extent.len : PIECE, &err) &&
            err.text[0] == '\0')
            abort();
        at += extent.len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    static const char *const declared[] = {NULL, "raw", "qcow2", "vmdk", "vdi", "vhd", "vhdx"};
    struct guest_limits limits = {.max_bytes = 1ull << 32};
    struct guest_image *image = NULL;
    struct guest_report report;
    struct im_err err = {0};
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    if (fd < 0 || write(fd, bytes, len) != (ssize_t) len)
        abort();
    if (guest_image_open(fd, len, declared[len % 7], &limits, &image, &err))
        read_some(image);
    else if (err.text[0] == '\0')
        abort();
    guest_image_free(image);
    (void) !guest_probe(fd, len, NULL, false, &limits, &report, &err);
    close(fd);
    return 0;
}
