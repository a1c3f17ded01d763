/* SPDX-License-Identifier: Apache-2.0 */
/* btrfs: what its trees and its files need to know of the whole. A file system has one space of
 * logical addresses; chunks say where on the device a stretch of it lies. All else is in trees of
 * items, ordered by key, whose blocks lie at logical addresses. */
#ifndef BTRFS_H
#define BTRFS_H

#include "files.h"

enum { BTRFS_LEVELS = 8, BTRFS_HELD = 12, BTRFS_ROOTS = 8, BTRFS_COPIES = 4 };
#define BTRFS_SECTOR_MAX 65536u
#define BTRFS_PACKED_MAX (128u << 10) /* bytes that are compressed in one, at most */
#define BTRFS_TOP 5u                  /* the subvolume that holds all others */
#define BTRFS_FIRST 256u              /* the first folder of each subvolume; the first subvolume */

enum btrfs_type {
    BTRFS_INODE = 1,
    BTRFS_NAME = 84,  /* of a folder, by its hash */
    BTRFS_ORDER = 96, /* the same in the order in which they came */
    BTRFS_EXTENT = 108,
    BTRFS_ROOT = 132,
    BTRFS_ROOT_REF = 156,
    BTRFS_CHUNK = 228
};
struct btrfs_key {
    uint64_t id;
    uint8_t type;
    uint64_t offset;
};
/* The bytes are valid until the next block is read. */
struct btrfs_item {
    struct btrfs_key key;
    const uint8_t *bytes;
    uint32_t len;
};
/* The block that a tree begins with. */
struct btrfs_root {
    uint64_t id, at, generation;
    uint8_t level;
};
struct btrfs_chunk {
    uint64_t logical, len, type;
    uint64_t copy[BTRFS_COPIES]; /* where they lie on this device */
    unsigned copies;
};
struct btrfs_block {
    uint64_t at, used; /* used: when, as fs->clock; 0 = it holds nothing */
    uint8_t *bytes;    /* owned; NULL = never read */
};

struct btrfs {
    const struct span *span;
    char name[80];         /* of the part, for people */
    uint8_t id[16];        /* as written into each block */
    uint32_t sector, node; /* bytes; a node is a block of a tree */
    uint64_t device;       /* which of its devices this one is */
    uint64_t devices, device_bytes, device_used;
    uint64_t bytes, used; /* of all devices */
    uint16_t checksum;    /* its kind: 0 = CRC-32C */
    bool journal;         /* there is a log to replay */
    bool damaged;         /* the superblock is; this is from its copy */
    struct btrfs_root chunk_tree, root_tree;

    struct btrfs_chunk *chunks; /* in order; owned */
    size_t chunk_count, chunk_capacity;
    uint64_t spread; /* types of chunks that no single device holds */
    bool elsewhere;  /* some chunks lie on other devices only */

    /* What was read last. */
    struct btrfs_block held[BTRFS_HELD];
    uint64_t clock;
    unsigned lost; /* blocks that could not be read */
    struct btrfs_root roots[BTRFS_ROOTS];
    unsigned root_next;
    uint64_t unpacked; /* logical address of what is in `plain`; 0 = nothing */
    uint32_t plain_len;
    uint8_t *plain, *packed; /* owned: of BTRFS_PACKED_MAX */
};

/* --- btrfs-super.c ---------------------------------------------------------------------------- */

/* Fills in everything up to `chunks`, and those of them that the rest is found by. False where that
 * cannot be read: `*ret_why` says so in words, or is NULL where it makes no sense. */
bool btrfs_super(struct btrfs *fs, const char **ret_why);
/* How many of its devices are on the disk, this one included. */
uint64_t btrfs_devices_here(const struct btrfs *fs);
/* All other chunks. */
bool btrfs_chunks(struct btrfs *fs);
/* One of the copies; `ret_left`, which may be NULL, is what follows in the same chunk. */
bool btrfs_place(const struct btrfs *fs, uint64_t logical, unsigned copy, uint64_t *ret_at,
                 uint64_t *ret_left);
bool btrfs_read_bytes(const struct btrfs *fs, uint64_t logical, void *bytes, uint64_t len);

/* --- btrfs-tree.c ----------------------------------------------------------------------------- */

/* The last item that is not above `key`, or the first that is not below it. */
bool btrfs_before(struct btrfs *fs, const struct btrfs_root *root, struct btrfs_key key,
                  struct btrfs_item *ret_item);
bool btrfs_after(struct btrfs *fs, const struct btrfs_root *root, struct btrfs_key key,
                 struct btrfs_item *ret_item);
/* Exactly that key, with at least `least` bytes. */
bool btrfs_item(struct btrfs *fs, const struct btrfs_root *root, struct btrfs_key key,
                uint32_t least, struct btrfs_item *ret_item);
/* A subvolume's, or another tree's. */
bool btrfs_tree(struct btrfs *fs, uint64_t id, struct btrfs_root *ret_root);

/* --- btrfs-file.c ----------------------------------------------------------------------------- */

/* `len` bytes of a file or link, none of them beyond its end. */
bool btrfs_read_file(struct btrfs *fs, const struct btrfs_root *tree, uint64_t inode,
                     uint64_t offset, uint8_t *bytes, size_t len);

#endif
