/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2 images, through the room that knows the format. */
#include "guest-private.h"
#include "qcow2/qcow2.h"

static void close_reader(void *state) { qcow2_reader_free(state); }

static bool open_reader(struct guest_image *image, struct im_err *err) {
    struct qcow2_totals totals;
    struct qcow2_reader *reader;

    if (!qcow2_reader_open(image->fd, image->file_size, NULL, &reader, err))
        return false;
    image->state = reader;
    image->size = qcow2_reader_size(reader);
    return guest_size_ok(image, "qcow2", image->size, err) &&
           qcow2_reader_scan(reader, &totals, err);
}

static bool map(struct guest_image *image, uint64_t offset, struct guest_extent *extent,
                struct im_err *err) {
    static const enum guest_kind kinds[] = {[QCOW2_HOLE] = GUEST_ZERO,
                                            [QCOW2_ZERO] = GUEST_ZERO,
                                            [QCOW2_DATA] = GUEST_DATA,
                                            [QCOW2_COMPRESSED] = GUEST_PACKED};
    struct qcow2_extent found;

    if (!qcow2_reader_map(image->state, offset, &found, err))
        return false;
    *extent = (struct guest_extent){kinds[found.kind], offset, found.len, found.file_offset};
    return true;
}

static bool unpack(struct guest_image *image, uint64_t offset, uint8_t *bytes, size_t len,
                   struct im_err *err) {
    return qcow2_reader_read(image->state, offset, bytes, len, err);
}

const struct guest_ops guest_qcow2 = {.format = GUEST_QCOW2,
                                      .open = open_reader,
                                      .close = close_reader,
                                      .map = map,
                                      .unpack = unpack};
