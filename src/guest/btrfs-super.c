/* SPDX-License-Identifier: Apache-2.0 */
/* The superblock of btrfs, and the chunks: which part of its address space lies where. */
#include "btrfs.h"

enum { SUPER_BYTES = 4096, SUPER_CHUNKS = 811, SUPER_CHUNKS_MAX = 2048, CHUNKS_MAX = 65536 };
#define SUPER_AT 65536u
#define SUPER_COPY_AT (64ull << 20)
enum profile { RAID0 = 0x8, RAID10 = 0x40, RAID5 = 0x80, RAID6 = 0x100 };

/* --- The superblock --------------------------------------------------------------------------- */

static bool read_super(const struct span *span, uint64_t at, uint8_t super[SUPER_BYTES]) {
    return span_read(span, at, super, SUPER_BYTES) && memcmp(super + 64, "_BHRfS_M", 8) == 0 &&
           le64(super + 48) == at;
}

static bool super_whole(const uint8_t *super) {
    return le16(super + 196) != 0 ||
           checksum_fits(le32(super), ~guest_crc32c(UINT32_MAX, super + 32, SUPER_BYTES - 32));
}

static bool take_shape(struct btrfs *fs, const uint8_t *super) {
    fs->bytes = le64(super + 112);
    fs->used = le64(super + 120);
    fs->devices = le64(super + 136);
    fs->sector = le32(super + 144);
    fs->node = le32(super + 148);
    fs->checksum = le16(super + 196);
    fs->device = le64(super + 201);
    fs->device_bytes = le64(super + 201 + 8);
    fs->device_used = le64(super + 201 + 16);
    fs->journal = le64(super + 96) != 0;
    fs->root_tree = (struct btrfs_root){1, le64(super + 80), le64(super + 72), super[198]};
    fs->chunk_tree = (struct btrfs_root){3, le64(super + 88), le64(super + 164), super[199]};
    memcpy(fs->id, super + 32, sizeof(fs->id));
    return power_of_two(fs->sector) && fs->sector >= 4096 && fs->sector <= BTRFS_SECTOR_MAX &&
           power_of_two(fs->node) && fs->node >= 4096 && fs->node <= 65536;
}

static const char *take_features(struct btrfs *fs, const uint8_t *super) {
    enum { OTHER_ID = 0x400, ZONED = 0x1000, KNOWN = 0x10fff };
    uint64_t incompat = le64(super + 188);

    if (incompat & OTHER_ID) /* it was changed without writing all blocks anew */
        memcpy(fs->id, super + 571, sizeof(fs->id));
    if (incompat & ZONED)
        return "is for zoned devices";
    return (incompat & ~(uint64_t) KNOWN) != 0 ? "has features that are newer than this program"
                                               : NULL;
}

/* --- Chunks ----------------------------------------------------------------------------------- */

static void take_copies(struct btrfs *fs, const uint8_t *bytes, unsigned stripes,
                        struct btrfs_chunk *chunk) {
    uint64_t spread = chunk->type & (RAID0 | RAID10 | RAID5 | RAID6);

    if (spread != 0 && stripes > 1) {
        fs->spread |= spread;
        return;
    }
    for (unsigned i = 0; i < stripes && chunk->copies < BTRFS_COPIES; i++)
        if (le64(bytes + 48 + i * 32) == fs->device)
            chunk->copy[chunk->copies++] = le64(bytes + 48 + i * 32 + 8);
    fs->elsewhere |= chunk->copies == 0;
}

/* They come in order. */
static bool take_chunk(struct btrfs *fs, uint64_t logical, const uint8_t *bytes, uint32_t len,
                       uint32_t *ret_used) {
    const struct btrfs_chunk *last = fs->chunk_count > 0 ? &fs->chunks[fs->chunk_count - 1] : NULL;
    struct btrfs_chunk chunk = {.logical = logical};
    unsigned stripes;

    if (len < 80 || fs->chunk_count == CHUNKS_MAX)
        return false;
    chunk.len = le64(bytes);
    chunk.type = le64(bytes + 24);
    stripes = le16(bytes + 44);
    *ret_used = 48 + stripes * 32;
    if (stripes == 0 || *ret_used > len || chunk.len == 0 || chunk.len > UINT64_MAX - logical ||
        (last != NULL && logical - last->logical < last->len))
        return false;
    take_copies(fs, bytes, stripes, &chunk);
    im_grow(&fs->chunks, fs->chunk_count, &fs->chunk_capacity);
    fs->chunks[fs->chunk_count++] = chunk;
    return true;
}

/* Those by which the tree of all of them is found are in the superblock, each behind its key. */
static bool take_first_chunks(struct btrfs *fs, const uint8_t *super) {
    uint32_t len = le32(super + 160), used;

    if (len > SUPER_CHUNKS_MAX)
        return false;
    for (uint32_t at = 0; at < len; at += 17 + used) {
        const uint8_t *key = super + SUPER_CHUNKS + at;

        if (len - at < 17 || key[8] != BTRFS_CHUNK ||
            !take_chunk(fs, le64(key + 9), key + 17, len - at - 17, &used))
            return false;
    }
    return fs->chunk_count > 0;
}

bool btrfs_super(struct btrfs *fs, const char **ret_why) {
    IM_AUTO(free_auto) uint8_t *super = im_alloc(SUPER_BYTES);

    *ret_why = NULL;
    if (!read_super(fs->span, SUPER_AT, super) || !super_whole(super)) {
        fs->damaged = true;
        if (!read_super(fs->span, SUPER_COPY_AT, super) || !super_whole(super))
            return false;
    }
    if (!take_shape(fs, super))
        return false;
    *ret_why = take_features(fs, super);
    return *ret_why == NULL && take_first_chunks(fs, super);
}

bool btrfs_chunks(struct btrfs *fs) {
    struct btrfs_key key = {BTRFS_FIRST, BTRFS_CHUNK, 0};
    struct btrfs all = *fs;
    struct btrfs_item item;
    bool fine = true;

    all.chunks = NULL;
    all.chunk_count = all.chunk_capacity = 0;
    while (fine && btrfs_after(fs, &fs->chunk_tree, key, &item) && item.key.type == BTRFS_CHUNK) {
        uint32_t used;

        fine = item.key.id == BTRFS_FIRST && item.key.offset < UINT64_MAX &&
               take_chunk(&all, item.key.offset, item.bytes, item.len, &used);
        key.offset = item.key.offset + 1;
    }
    if (!fine || all.chunk_count == 0) {
        free(all.chunks);
        return false;
    }
    free(fs->chunks);
    fs->chunks = all.chunks;
    fs->chunk_count = all.chunk_count;
    fs->chunk_capacity = all.chunk_capacity;
    fs->spread = all.spread;
    fs->elsewhere = all.elsewhere;
    return true;
}

/* --- Devices ---------------------------------------------------------------------------------- */

uint64_t btrfs_devices_here(const struct btrfs *fs) {
    const struct guest_inspection *found = fs->span->look->found;
    IM_AUTO(free_auto) uint8_t *super = im_alloc(SUPER_BYTES);
    uint64_t seen[PARTS_MAX + 1] = {fs->device}, count = 1;

    for (size_t i = 0; i < found->part_count && fs->span->pieces == NULL; i++) {
        const struct guest_part *part = &found->parts[i];
        struct span span = span_of(fs->span->look, part->offset, part->len);
        uint64_t device, known = 0;

        if (strcmp(part->type, "lv") == 0 || !read_super(&span, SUPER_AT, super) ||
            memcmp(super + 32, fs->id, sizeof(fs->id)) != 0)
            continue;
        device = le64(super + 201);
        while (known < count && seen[known] != device)
            known++;
        if (known == count)
            seen[count++] = device;
    }
    return count;
}

/* --- Reading ---------------------------------------------------------------------------------- */

static const struct btrfs_chunk *chunk_of(const struct btrfs *fs, uint64_t logical) {
    size_t low = 0, high = fs->chunk_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (fs->chunks[middle].logical <= logical)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && logical - fs->chunks[low - 1].logical < fs->chunks[low - 1].len
               ? &fs->chunks[low - 1]
               : NULL;
}

bool btrfs_place(const struct btrfs *fs, uint64_t logical, unsigned copy, uint64_t *ret_at,
                 uint64_t *ret_left) {
    const struct btrfs_chunk *chunk = chunk_of(fs, logical);
    uint64_t within;

    if (chunk == NULL || copy >= chunk->copies)
        return false;
    within = logical - chunk->logical;
    if (__builtin_add_overflow(chunk->copy[copy], within, ret_at))
        return false;
    if (ret_left != NULL)
        *ret_left = chunk->len - within;
    return true;
}

bool btrfs_read_bytes(const struct btrfs *fs, uint64_t logical, void *bytes, uint64_t len) {
    uint8_t *to = bytes;

    while (len > 0) {
        uint64_t at, now;

        if (!btrfs_place(fs, logical, 0, &at, &now))
            return false;
        now = now < len ? now : len;
        if (!span_read(fs->span, at, to, (size_t) now))
            return false;
        to += now;
        logical += now;
        len -= now;
    }
    return true;
}
