/* SPDX-License-Identifier: Apache-2.0 */
/* The content of files of btrfs: within a tree's leaf, in extents, or in packed extents. */
#include <lzo/lzo1x.h>
#include <zlib.h>
#include <zstd.h>

#include "btrfs.h"

enum packing { PLAIN, ZLIB, LZO, ZSTD };
enum form { INLINE, REGULAR, RESERVED };
enum { INLINE_HEAD = 21, REGULAR_BYTES = 53, ZSTD_WINDOW_LOG = 17 };

/* --- Unpacking -------------------------------------------------------------------------------- */

/* Each fills `plain`; `*ret_len` is how much of it. What follows the packed bytes is padding. */
typedef bool unpacker(const struct btrfs *fs, const uint8_t *packed, uint32_t len, uint8_t *plain,
                      uint32_t room, uint32_t *ret_len);

static bool unpack_zlib(const struct btrfs *fs, const uint8_t *packed, uint32_t len, uint8_t *plain,
                        uint32_t room, uint32_t *ret_len) {
    z_stream stream = {.next_in = (uint8_t *) packed, .avail_in = len};
    int answer;

    (void) fs;
    if (inflateInit(&stream) != Z_OK)
        return false;
    stream.next_out = plain;
    stream.avail_out = room;
    answer = inflate(&stream, Z_FINISH);
    *ret_len = room - stream.avail_out;
    (void) inflateEnd(&stream);
    return answer == Z_STREAM_END || (answer == Z_BUF_ERROR && *ret_len == room);
}

static bool unpack_zstd(const struct btrfs *fs, const uint8_t *packed, uint32_t len, uint8_t *plain,
                        uint32_t room, uint32_t *ret_len) {
    ZSTD_DCtx *context = ZSTD_createDCtx();
    ZSTD_inBuffer in = {packed, len, 0};
    ZSTD_outBuffer out = {plain, room, 0};
    size_t left = 1;

    (void) fs;
    if (context == NULL)
        return false;
    (void) ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
    while (left != 0 && !ZSTD_isError(left) && in.pos < in.size && out.pos < out.size)
        left = ZSTD_decompressStream(context, &out, &in);
    ZSTD_freeDCtx(context);
    *ret_len = (uint32_t) out.pos;
    return left == 0 || (!ZSTD_isError(left) && out.pos == out.size);
}

/* The length of all, then pieces of one sector each with their own; no length lies across the end
 * of a sector. */
static bool unpack_lzo(const struct btrfs *fs, const uint8_t *packed, uint32_t len, uint8_t *plain,
                       uint32_t room, uint32_t *ret_len) {
    uint32_t end = len >= 4 ? le32(packed) : 0, at = 4, used = 0;

    if (end < 4 || end > len)
        return false;
    while (at < end && used < room) {
        uint32_t left = fs->sector - at % fs->sector, piece;
        lzo_uint got = room - used < fs->sector ? room - used : fs->sector;

        at += left < 4 ? left : 0;
        if (at > end || end - at < 4)
            break;
        piece = le32(packed + at);
        at += 4;
        if (piece > end - at ||
            lzo1x_decompress_safe(packed + at, piece, plain + used, &got, NULL) != LZO_E_OK)
            return false;
        at += piece;
        used += (uint32_t) got;
    }
    *ret_len = used;
    return true;
}

/* What a packed extent lacks at its end is zeros. */
static bool unpack(struct btrfs *fs, unsigned packing, const uint8_t *packed, uint32_t len,
                   uint32_t plain_len) {
    static unpacker *const unpackers[] = {
        [ZLIB] = unpack_zlib, [LZO] = unpack_lzo, [ZSTD] = unpack_zstd};
    uint32_t got = 0;

    fs->unpacked = 0;
    if (packing == PLAIN || packing > ZSTD || plain_len > BTRFS_PACKED_MAX)
        return false;
    if (!look_unpacks(fs->span->look, plain_len, false))
        return false;
    if (fs->plain == NULL)
        fs->plain = im_alloc(BTRFS_PACKED_MAX);
    if (!unpackers[packing](fs, packed, len, fs->plain, plain_len, &got))
        return false;
    memset(fs->plain + got, 0, plain_len - got);
    return true;
}

/* --- Extents ---------------------------------------------------------------------------------- */

/* Bytes of a file in a row. */
struct extent {
    uint64_t first, len; /* of the file */
    unsigned packing;
    enum form form;
    uint64_t plain_len;         /* of all that is packed together */
    uint64_t at, at_len, skips; /* logical address and length, and where the extent begins there */
    const uint8_t *bytes;       /* INLINE: `at_len` of them, valid as those of an item */
};

static bool take_extent(const struct btrfs_item *item, struct extent *ret_extent) {
    const uint8_t *bytes = item->bytes;
    struct extent extent = {.first = item->key.offset};

    if (item->len < INLINE_HEAD)
        return false;
    extent.plain_len = le64(bytes + 8);
    extent.packing = bytes[16];
    extent.form = bytes[20];
    if (extent.form == INLINE) {
        extent.bytes = bytes + INLINE_HEAD;
        extent.at_len = item->len - INLINE_HEAD;
        extent.len = extent.packing == PLAIN ? extent.at_len : extent.plain_len;
    } else {
        if (item->len < REGULAR_BYTES || extent.form > RESERVED)
            return false;
        extent.at = le64(bytes + 21);
        extent.at_len = le64(bytes + 29);
        extent.skips = le64(bytes + 37);
        extent.len = le64(bytes + 45);
    }
    *ret_extent = extent;
    return extent.len > 0 && extent.len <= UINT64_MAX - extent.first && bytes[17] == 0 &&
           le16(bytes + 18) == 0;
}

static bool unpack_extent(struct btrfs *fs, const struct extent *extent) {
    if (extent->plain_len > BTRFS_PACKED_MAX || extent->at_len > BTRFS_PACKED_MAX)
        return false;
    if (extent->form == INLINE)
        return unpack(fs, extent->packing, extent->bytes, (uint32_t) extent->at_len,
                      (uint32_t) extent->plain_len);
    if (fs->unpacked == extent->at && fs->plain_len == extent->plain_len)
        return true;
    if (fs->packed == NULL)
        fs->packed = im_alloc(BTRFS_PACKED_MAX);
    if (!btrfs_read_bytes(fs, extent->at, fs->packed, extent->at_len) ||
        !unpack(fs, extent->packing, fs->packed, (uint32_t) extent->at_len,
                (uint32_t) extent->plain_len))
        return false;
    fs->unpacked = extent->at;
    fs->plain_len = (uint32_t) extent->plain_len;
    return true;
}

/* `len` bytes, from the extent's byte `from` on. */
static bool read_extent(struct btrfs *fs, const struct extent *extent, uint64_t from,
                        uint8_t *bytes, uint64_t len) {
    if (extent->form == RESERVED || (extent->form == REGULAR && extent->at == 0)) {
        memset(bytes, 0, len);
        return true;
    }
    if (extent->packing == PLAIN && extent->form == INLINE) {
        memcpy(bytes, extent->bytes + from, len);
        return true;
    }
    if (__builtin_add_overflow(from, extent->skips, &from))
        return false;
    if (extent->packing == PLAIN)
        return from <= extent->at_len && len <= extent->at_len - from &&
               extent->at <= UINT64_MAX - from &&
               btrfs_read_bytes(fs, extent->at + from, bytes, len);
    if (!unpack_extent(fs, extent) || from > extent->plain_len || len > extent->plain_len - from)
        return false;
    memcpy(bytes, fs->plain + from, len);
    return true;
}

enum answer { HELD, HOLE, NONSENSE };

/* The extent that holds the byte, or a hole, which ends at `*ret_end`. */
static enum answer find_extent(struct btrfs *fs, const struct btrfs_root *tree, uint64_t inode,
                               uint64_t offset, struct extent *ret_extent, uint64_t *ret_end) {
    struct btrfs_key key = {inode, BTRFS_EXTENT, offset};
    unsigned lost = fs->lost;
    struct btrfs_item item;

    *ret_end = UINT64_MAX;
    if (btrfs_before(fs, tree, key, &item) && item.key.id == inode &&
        item.key.type == BTRFS_EXTENT) {
        if (!take_extent(&item, ret_extent))
            return NONSENSE;
        if (offset - ret_extent->first < ret_extent->len)
            return HELD;
    }
    key.offset++;
    if (btrfs_after(fs, tree, key, &item) && item.key.id == inode && item.key.type == BTRFS_EXTENT)
        *ret_end = item.key.offset;
    return fs->lost == lost && *ret_end > offset ? HOLE : NONSENSE;
}

bool btrfs_read_file(struct btrfs *fs, const struct btrfs_root *tree, uint64_t inode,
                     uint64_t offset, uint8_t *bytes, size_t len) {
    while (len > 0) {
        struct extent extent;
        uint64_t now, end;

        switch (find_extent(fs, tree, inode, offset, &extent, &end)) {
        case HELD:
            end = extent.first + extent.len;
            now = end - offset < len ? end - offset : len;
            if (!read_extent(fs, &extent, offset - extent.first, bytes, now))
                return false;
            break;
        case HOLE:
            now = end - offset < len ? end - offset : len;
            memset(bytes, 0, (size_t) now);
            break;
        default:
            return false;
        }
        bytes += now;
        offset += now;
        len -= (size_t) now;
    }
    return true;
}
