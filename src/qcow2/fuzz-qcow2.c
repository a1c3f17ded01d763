/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an image: scanned, mapped and read; what the map promises must hold. For libFuzzer
 * with clang; its saved inputs run as a normal test through replay.c. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "qcow2/qcow2.h"

#define EXTENTS 300
#define PIECE 4096u

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void claim(bool holds) {
    if (!holds)
        abort();
}

/* A failure has a code that fits and a sentence. */
static void explained(const struct im_err *err) {
    claim(err->text[0] != '\0' && (err->code == IM_BAD_IMAGE || err->code == IM_NO_RESOURCE));
}

static bool look(struct qcow2_reader *reader, const uint8_t *file, size_t file_len, uint64_t at,
                 struct qcow2_extent *extent) {
    uint64_t left = qcow2_reader_size(reader) - at, len;
    static uint8_t piece[PIECE];
    struct im_err err = {0};

    if (!qcow2_reader_map(reader, at, extent, &err)) {
        explained(&err);
        return false;
    }
    claim(extent->guest_offset == at && extent->len > 0 && extent->len <= left);
    len = extent->len < PIECE ? extent->len : PIECE;
    memset(piece, 0xaa, sizeof(piece));
    if (!qcow2_reader_read(reader, at, piece, len, &err)) {
        claim(extent->kind == QCOW2_COMPRESSED);
        explained(&err);
        return true;
    }
    if (extent->kind == QCOW2_DATA) {
        claim(extent->file_offset <= file_len && extent->len <= file_len - extent->file_offset);
        claim(memcmp(piece, file + extent->file_offset, len) == 0);
    } else if (extent->kind != QCOW2_COMPRESSED) {
        claim(piece[0] == 0 && memcmp(piece, piece + 1, len - 1) == 0);
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct qcow2_reader *reader = NULL;
    struct qcow2_extent extent = {0};
    struct qcow2_totals totals;
    struct qcow2_info info;
    struct im_err err = {0};
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    claim(fd >= 0 && write(fd, bytes, len) == (ssize_t) len);
    if (!qcow2_info_read(fd, &info, &err))
        explained(&err);
    if (!qcow2_reader_open(fd, len, NULL, &reader, &err)) {
        explained(&err);
    } else {
        uint64_t at = 0;

        if (!qcow2_reader_scan(reader, &totals, &err))
            explained(&err);
        for (int i = 0; i < EXTENTS && at < qcow2_reader_size(reader); i++, at += extent.len)
            if (!look(reader, bytes, len, at, &extent))
                break;
    }
    qcow2_reader_free(reader);
    /* Growing is for files of ours, but a machine may have written to them. */
    if (!qcow2_grow(fd, 1ull << 32, &err))
        claim(err.text[0] != '\0');
    close(fd);
    return 0;
}
