/* SPDX-License-Identifier: Apache-2.0 */
/* Microsoft's VHD (Virtual PC): fixed, which is raw bytes and a footer, and dynamic. */
#include <stdlib.h>

#include "base/mem.h"
#include "guest-private.h"

enum { VHD_FIXED = 2, VHD_DYNAMIC = 3, VHD_DIFFERENCE = 4 };

/* The sum of all bytes but those of the checksum itself, inverted. */
static uint32_t checksum(const uint8_t *bytes, size_t len, size_t at) {
    uint32_t sum = 0;

    for (size_t i = 0; i < len; i++)
        sum += i >= at && i < at + 4 ? 0 : bytes[i];
    return ~sum;
}

/* At the end; older programs wrote 511 bytes, and of a dynamic disk there is a copy in front. */
static bool read_footer(const struct guest_image *image, uint8_t footer[512], struct im_err *err) {
    if (image->file_size < 1024)
        return im_fail(err, IM_BAD_IMAGE, "vhd: the file is too short for one");
    if (!guest_read_at(image, image->file_size - 512, footer, 512, "vhd: its footer", err))
        return false;
    if (memcmp(footer, "conectix", 8) != 0 &&
        !guest_read_at(image, 0, footer, 512, "vhd: its footer", err))
        return false;
    if (memcmp(footer, "conectix", 8) != 0)
        return im_fail(err, IM_BAD_IMAGE, "vhd: it has no footer (cut short?)");
    if (!checksum_fits(be32(footer + 64), checksum(footer, 512, 64)))
        return im_fail(err, IM_BAD_IMAGE, "vhd: the checksum of its footer is wrong");
    return true;
}

static bool open_fixed(struct guest_image *image, struct im_err *err) {
    struct guest_blocks *blocks;

    if (image->size > image->file_size - 512)
        return im_fail(err, IM_BAD_IMAGE, "vhd: the file is shorter than the disk in it");
    blocks = guest_blocks_new(1, image->size);
    blocks->where[0] = 0;
    image->state = blocks;
    return true;
}

struct dynamic {
    uint64_t table_offset, data_offset;
    uint32_t count, block_bytes;
};

static bool read_dynamic(const struct guest_image *image, uint64_t offset, struct dynamic *dynamic,
                         struct im_err *err) {
    uint8_t head[1024];

    if (!guest_read_at(image, offset, head, sizeof(head), "vhd: its dynamic header", err))
        return false;
    if (memcmp(head, "cxsparse", 8) != 0 ||
        !checksum_fits(be32(head + 36), checksum(head, sizeof(head), 36)))
        return im_fail(err, IM_BAD_IMAGE, "vhd: its dynamic header is damaged");
    *dynamic = (struct dynamic){
        .table_offset = be64(head + 16), .count = be32(head + 28), .block_bytes = be32(head + 32)};
    dynamic->data_offset = offset + sizeof(head);
    if (!power_of_two(dynamic->block_bytes) || dynamic->block_bytes < 4096 ||
        dynamic->block_bytes > 256u << 20)
        return im_fail(err, IM_BAD_IMAGE, "vhd: blocks of %u bytes are not possible",
                       dynamic->block_bytes);
    if (dynamic->count < ceil_div(image->size, dynamic->block_bytes))
        return im_fail(err, IM_BAD_IMAGE, "vhd: its block table is too small for its size");
    return true;
}

/* In front of each block lies a bitmap of its sectors. As in QEMU it is not looked at: without a
 * parent, a sector that was never written holds zeros anyway. */
static bool open_dynamic(struct guest_image *image, uint64_t offset, struct im_err *err) {
    IM_AUTO(guest_blocks_close_auto) struct guest_blocks *blocks = NULL;
    IM_AUTO(free_auto) void *table = NULL;
    struct dynamic dynamic = {0};
    uint64_t count, bitmap;

    if (!read_dynamic(image, offset, &dynamic, err))
        return false;
    count = ceil_div(image->size, dynamic.block_bytes);
    bitmap = ceil_div(dynamic.block_bytes / 512 / 8, 512) * 512;
    if (!guest_read_table(image, dynamic.table_offset, count * 4, "vhd: its block table", &table,
                          err))
        return false;
    blocks = guest_blocks_new(count, dynamic.block_bytes);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t sector = be32((uint8_t *) table + 4 * i);

        blocks->where[i] = sector == UINT32_MAX ? BLOCK_HOLE : sector * 512ull + bitmap;
    }
    if (!guest_blocks_check(image, blocks, dynamic.data_offset, "vhd", err))
        return false;
    image->state = im_steal(&blocks);
    return true;
}

static bool vhd_open(struct guest_image *image, struct im_err *err) {
    uint8_t footer[512];
    uint32_t type;

    if (!read_footer(image, footer, err))
        return false;
    type = be32(footer + 60);
    if (be32(footer + 12) >> 16 != 1)
        return im_fail(err, IM_BAD_IMAGE, "vhd: version %u is not known", be32(footer + 12) >> 16);
    if (type == VHD_DIFFERENCE)
        return im_fail(err, IM_BAD_IMAGE, "vhd: it is a difference to a parent disk");
    /* The current size, as Azure and Hyper-V have it; the geometry never reaches further. */
    image->size = be64(footer + 48);
    if (!guest_size_ok(image, "vhd", image->size, err))
        return false;
    if (type == VHD_FIXED)
        return open_fixed(image, err);
    if (type == VHD_DYNAMIC)
        return open_dynamic(image, be64(footer + 16), err);
    return im_fail(err, IM_BAD_IMAGE, "vhd: disk type %u is not known", type);
}

const struct guest_ops guest_vhd = {
    .format = GUEST_VHD, .open = vhd_open, .close = guest_blocks_close, .map = guest_blocks_map};
