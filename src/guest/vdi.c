/* SPDX-License-Identifier: Apache-2.0 */
/* VirtualBox's VDI: a header and a table of blocks. */
#include <stdlib.h>

#include "base/mem.h"
#include "guest-private.h"

enum { VDI_DYNAMIC = 1, VDI_FIXED = 2, VDI_DIFFERENCE = 4 };
#define ENTRY_HOLE 0xfffffffeu /* this and the next: discarded, never written */

struct vdi {
    uint32_t type, table_offset, data_offset, sector_bytes, block_bytes, extra_bytes, count;
    uint64_t size;
};

static bool read_header(const struct guest_image *image, struct vdi *vdi, struct im_err *err) {
    uint8_t head[512];

    if (!guest_read_at(image, 0, head, sizeof(head), "vdi: its header", err))
        return false;
    if (le32(head + 0x44) >> 16 != 1)
        return im_fail(err, IM_BAD_IMAGE, "vdi: version %u is not known", le32(head + 0x44) >> 16);
    *vdi = (struct vdi){.type = le32(head + 0x4c),
                        .table_offset = le32(head + 0x154),
                        .data_offset = le32(head + 0x158),
                        .sector_bytes = le32(head + 0x168),
                        .size = le64(head + 0x170),
                        .block_bytes = le32(head + 0x178),
                        .extra_bytes = le32(head + 0x17c),
                        .count = le32(head + 0x180)};
    if (vdi->type == VDI_DIFFERENCE || !im_all_zero(head + 0x1a8, 32))
        return im_fail(err, IM_BAD_IMAGE, "vdi: it is a difference to another image");
    if (vdi->type != VDI_DYNAMIC && vdi->type != VDI_FIXED)
        return im_fail(err, IM_BAD_IMAGE, "vdi: image type %u is not known", vdi->type);
    return true;
}

static bool check_header(const struct guest_image *image, const struct vdi *vdi,
                         struct im_err *err) {
    if (vdi->sector_bytes != 512 || vdi->extra_bytes != 0)
        return im_fail(err, IM_BAD_IMAGE, "vdi: its sectors or blocks have an unusual form");
    if (!power_of_two(vdi->block_bytes) || vdi->block_bytes < 65536 || vdi->block_bytes > 64u << 20)
        return im_fail(err, IM_BAD_IMAGE, "vdi: blocks of %u bytes are not possible",
                       vdi->block_bytes);
    if (!guest_size_ok(image, "vdi", vdi->size, err))
        return false;
    if (vdi->count < ceil_div(vdi->size, vdi->block_bytes))
        return im_fail(err, IM_BAD_IMAGE, "vdi: its block table is too small for its size");
    if (vdi->table_offset < 512 || vdi->table_offset % 512 || vdi->data_offset % 512 ||
        vdi->data_offset < vdi->table_offset + 4ull * vdi->count)
        return im_fail(err, IM_BAD_IMAGE, "vdi: its tables overlap or lie askew");
    return true;
}

static bool vdi_open(struct guest_image *image, struct im_err *err) {
    IM_AUTO(guest_blocks_close_auto) struct guest_blocks *blocks = NULL;
    IM_AUTO(free_auto) void *table = NULL;
    struct vdi vdi;
    uint64_t count;

    if (!read_header(image, &vdi, err) || !check_header(image, &vdi, err))
        return false;
    image->size = vdi.size;
    count = ceil_div(vdi.size, vdi.block_bytes);
    if (!guest_read_table(image, vdi.table_offset, count * 4, "vdi: its block table", &table, err))
        return false;
    blocks = guest_blocks_new(count, vdi.block_bytes);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t entry = le32((uint8_t *) table + 4 * i);

        blocks->where[i] =
            entry >= ENTRY_HOLE ? BLOCK_HOLE : vdi.data_offset + (uint64_t) entry * vdi.block_bytes;
    }
    if (!guest_blocks_check(image, blocks, vdi.data_offset, "vdi", err))
        return false;
    image->state = im_steal(&blocks);
    return true;
}

const struct guest_ops guest_vdi = {
    .format = GUEST_VDI, .open = vdi_open, .close = guest_blocks_close, .map = guest_blocks_map};
