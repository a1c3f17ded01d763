/* SPDX-License-Identifier: Apache-2.0 */
/* Hyper-V's VHDX: two headers, two region tables, metadata, and a table of blocks. */
#include <stdlib.h>

#include "base/mem.h"
#include "guest-private.h"

#define MIB (1u << 20)
#define GUID_BYTES 16
enum {
    BLOCK_NOT_PRESENT,
    BLOCK_UNDEFINED,
    BLOCK_IS_ZERO,
    BLOCK_UNMAPPED,
    BLOCK_FULL = 6,
    BLOCK_PARTIAL = 7
};

static const uint8_t region_bat[] =
    "\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08";
static const uint8_t region_metadata[] =
    "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";

enum item { ITEM_FILE, ITEM_SIZE, ITEM_SECTOR, ITEM_PHYSICAL, ITEM_PAGE83, ITEM_PARENT, ITEMS };
static const uint8_t item_guids[ITEMS][GUID_BYTES + 1] = {
    [ITEM_FILE] = "\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b",
    [ITEM_SIZE] = "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8",
    [ITEM_SECTOR] = "\x1d\xbf\x41\x81\x6f\xa9\x09\x47\xba\x47\xf2\x33\xa8\xfa\xab\x5f",
    [ITEM_PHYSICAL] = "\xc7\x48\xa3\xcd\x5d\x44\x71\x44\x9c\xc9\xe9\x88\x52\x51\xc5\x56",
    [ITEM_PAGE83] = "\xab\x12\xca\xbe\xe6\xb2\x23\x45\x93\xef\xc3\x09\xe0\x00\xc7\x46",
    [ITEM_PARENT] = "\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c",
};

struct vhdx {
    uint64_t bat_offset, metadata_offset;
    uint32_t bat_bytes, metadata_bytes;
    uint64_t size;
    uint32_t block_bytes, flags, sector_bytes;
};

/* The newer of the two headers that are whole. */
static bool check_headers(const struct guest_image *image, struct im_err *err) {
    uint8_t head[4096], newest[4096] = {0};
    bool found = false;

    for (uint64_t offset = 65536; offset <= 131072; offset += 65536) {
        if (!guest_read_at(image, offset, head, sizeof(head), "vhdx: its header", err))
            return false;
        if (memcmp(head, "head", 4) != 0 ||
            !checksum_fits(le32(head + 4), guest_crc32c_around(head, sizeof(head), 4)))
            continue;
        if (!found || le64(head + 8) > le64(newest + 8))
            memcpy(newest, head, sizeof(head));
        found = true;
    }
    if (!found)
        return im_fail(err, IM_BAD_IMAGE, "vhdx: both of its headers are damaged");
    if (le16(newest + 66) != 1)
        return im_fail(err, IM_BAD_IMAGE, "vhdx: version %u is not known", le16(newest + 66));
    for (size_t i = 0; i < GUID_BYTES; i++)
        if (newest[48 + i])
            return im_fail(err, IM_BAD_IMAGE,
                           "vhdx: its log holds writes that are not in the disk yet (it was not "
                           "closed); open and close it where it was made");
    return true;
}

static bool take_region(struct vhdx *vhdx, const uint8_t *entry, struct im_err *err) {
    if (memcmp(entry, region_bat, GUID_BYTES) == 0) {
        vhdx->bat_offset = le64(entry + 16);
        vhdx->bat_bytes = le32(entry + 24);
    } else if (memcmp(entry, region_metadata, GUID_BYTES) == 0) {
        vhdx->metadata_offset = le64(entry + 16);
        vhdx->metadata_bytes = le32(entry + 24);
    } else if (le32(entry + 28) & 1)
        return im_fail(err, IM_BAD_IMAGE, "vhdx: it requires a region that is not known");
    return true;
}

static bool read_regions(const struct guest_image *image, struct vhdx *vhdx, struct im_err *err) {
    IM_AUTO(free_auto) void *table = NULL;
    const uint8_t *regions;
    uint32_t count;

    for (uint64_t offset = 196608; offset <= 262144; offset += 65536) {
        free(im_steal(&table));
        if (!guest_read_table(image, offset, 65536, "vhdx: its region table", &table, err))
            return false;
        regions = table;
        if (memcmp(regions, "regi", 4) == 0 &&
            checksum_fits(le32(regions + 4), guest_crc32c_around(regions, 65536, 4)))
            break;
        if (offset == 262144)
            return im_fail(err, IM_BAD_IMAGE, "vhdx: both of its region tables are damaged");
    }
    regions = table;
    count = le32(regions + 8);
    if (count > 2047)
        return im_fail(err, IM_BAD_IMAGE, "vhdx: it has too many regions");
    for (uint32_t i = 0; i < count; i++)
        if (!take_region(vhdx, regions + 16 + 32 * i, err))
            return false;
    if (vhdx->bat_offset < MIB || vhdx->metadata_offset < MIB || vhdx->metadata_bytes < 65536)
        return im_fail(err, IM_BAD_IMAGE, "vhdx: its block table or its metadata is missing");
    return true;
}

static bool take_item(const struct guest_image *image, struct vhdx *vhdx, const uint8_t *entry,
                      unsigned *seen, struct im_err *err) {
    static const uint32_t lengths[ITEMS] = {8, 8, 4, 4, 16, 0};
    uint32_t offset = le32(entry + 16);
    uint8_t value[16];
    int item = 0;

    while (item < ITEMS && memcmp(entry, item_guids[item], GUID_BYTES) != 0)
        item++;
    if (item == ITEM_PARENT)
        return im_fail(err, IM_BAD_IMAGE, "vhdx: it names a parent disk");
    if (item == ITEMS)
        return !(le32(entry + 24) & 4) ||
               im_fail(err, IM_BAD_IMAGE, "vhdx: it requires metadata that is not known");
    if (offset < 65536 || offset > vhdx->metadata_bytes - lengths[item])
        return im_fail(err, IM_BAD_IMAGE, "vhdx: a metadata item lies outside its region");
    if (!guest_read_at(image, vhdx->metadata_offset + offset, value, lengths[item],
                       "vhdx: its metadata", err))
        return false;
    *seen |= 1u << item;
    if (item == ITEM_FILE) {
        vhdx->block_bytes = le32(value);
        vhdx->flags = le32(value + 4);
    } else if (item == ITEM_SIZE)
        vhdx->size = le64(value);
    else if (item == ITEM_SECTOR)
        vhdx->sector_bytes = le32(value);
    return true;
}

static bool read_metadata(const struct guest_image *image, struct vhdx *vhdx, struct im_err *err) {
    IM_AUTO(free_auto) void *memory = NULL;
    const uint8_t *table;
    unsigned seen = 0, needed = 1u << ITEM_FILE | 1u << ITEM_SIZE | 1u << ITEM_SECTOR;

    if (!guest_read_table(image, vhdx->metadata_offset, 65536, "vhdx: its metadata", &memory, err))
        return false;
    table = memory;
    if (memcmp(table, "metadata", 8) != 0 || le16(table + 10) > 2047)
        return im_fail(err, IM_BAD_IMAGE, "vhdx: its metadata is damaged");
    for (unsigned i = 0; i < le16(table + 10); i++)
        if (!take_item(image, vhdx, table + 32 + 32 * i, &seen, err))
            return false;
    if ((seen & needed) != needed)
        return im_fail(err, IM_BAD_IMAGE, "vhdx: its metadata lacks size, block or sector size");
    if (vhdx->flags & 2)
        return im_fail(err, IM_BAD_IMAGE, "vhdx: it is a difference to a parent disk");
    if (vhdx->sector_bytes != 512 && vhdx->sector_bytes != 4096)
        return im_fail(err, IM_BAD_IMAGE, "vhdx: sectors of %u bytes are not possible",
                       vhdx->sector_bytes);
    if (!power_of_two(vhdx->block_bytes) || vhdx->block_bytes < MIB ||
        vhdx->block_bytes > 256 * MIB)
        return im_fail(err, IM_BAD_IMAGE, "vhdx: blocks of %u bytes are not possible",
                       vhdx->block_bytes);
    return guest_size_ok(image, "vhdx", vhdx->size, err);
}

static bool take_entry(uint64_t entry, uint64_t index, uint64_t *ret_where, struct im_err *err) {
    unsigned state = entry & 7;

    if (state == BLOCK_PARTIAL)
        return im_fail(err, IM_BAD_IMAGE, "vhdx: block %llu is partly in a parent disk",
                       (unsigned long long) index);
    if (state > BLOCK_UNMAPPED && state != BLOCK_FULL)
        return im_fail(err, IM_BAD_IMAGE, "vhdx: block %llu is in state %u, which is not known",
                       (unsigned long long) index, state);
    *ret_where = state == BLOCK_FULL ? entry >> 20 << 20 : BLOCK_HOLE;
    return true;
}

/* After every `ratio` blocks the table has an entry for a bitmap, which only differences use. */
static bool read_blocks(struct guest_image *image, const struct vhdx *vhdx, struct im_err *err) {
    uint64_t count = ceil_div(vhdx->size, vhdx->block_bytes);
    uint64_t ratio = (uint64_t) (1u << 23) * vhdx->sector_bytes / vhdx->block_bytes;
    uint64_t entries = count + (count - 1) / ratio;
    IM_AUTO(guest_blocks_close_auto) struct guest_blocks *blocks = NULL;
    IM_AUTO(free_auto) void *table = NULL;

    if (entries * 8 > vhdx->bat_bytes)
        return im_fail(err, IM_BAD_IMAGE, "vhdx: its block table is too small for its size");
    if (!guest_read_table(image, vhdx->bat_offset, entries * 8, "vhdx: its block table", &table,
                          err))
        return false;
    blocks = guest_blocks_new(count, vhdx->block_bytes);
    for (uint64_t i = 0; i < count; i++)
        if (!take_entry(le64((uint8_t *) table + 8 * (i + i / ratio)), i, &blocks->where[i], err))
            return false;
    if (!guest_blocks_check(image, blocks, MIB, "vhdx", err))
        return false;
    image->state = im_steal(&blocks);
    return true;
}

static bool vhdx_open(struct guest_image *image, struct im_err *err) {
    struct vhdx vhdx = {0};

    if (!check_headers(image, err) || !read_regions(image, &vhdx, err) ||
        !read_metadata(image, &vhdx, err))
        return false;
    image->size = vhdx.size;
    return read_blocks(image, &vhdx, err);
}

const struct guest_ops guest_vhdx = {
    .format = GUEST_VHDX, .open = vhdx_open, .close = guest_blocks_close, .map = guest_blocks_map};
