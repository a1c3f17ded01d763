/* SPDX-License-Identifier: Apache-2.0 */
/* XFS: what its files and its log need to know of the whole. */
#ifndef XFS_H
#define XFS_H

#include "files.h"

enum { XFS_LEVELS = 9, XFS_INODE_MAX = 2048 };

struct xfs {
    const struct span *span;
    uint32_t block, folder_block; /* bytes; a folder's are one or more blocks */
    uint32_t ag_blocks, ag_count; /* allocation groups */
    uint32_t inode_bytes;
    uint64_t blocks, free_blocks, root;
    uint64_t log_block;   /* its number; 0 = the log is on another device */
    uint32_t log_blocks;  /* blocks */
    uint64_t real_blocks; /* of a realtime device, which is always another one */
    uint8_t ag_log, inode_log;
    bool v5, typed; /* typed: names of folders have a type behind them */
    bool damaged;   /* the superblock says so, or its checksum is wrong */

    /* What was read last: an inode, and of each level of an extent tree one block. */
    uint64_t inode;
    uint8_t inode_raw[XFS_INODE_MAX];
    uint64_t held[XFS_LEVELS];
    uint8_t *held_block[XFS_LEVELS]; /* owned */
};

/* Where `count` blocks lie within the span; false if they leave their allocation group. */
bool xfs_place(const struct xfs *fs, uint64_t block, uint64_t count, uint64_t *ret_at);

/* --- xfs-log.c -------------------------------------------------------------------------------- */

/* Its log does not end with the record of an unmount. False also when that cannot be told surely.
 */
bool xfs_in_use(const struct xfs *fs);

#endif
