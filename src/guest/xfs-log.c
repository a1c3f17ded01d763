/* SPDX-License-Identifier: Apache-2.0 */
/* The end of XFS' log. It is a ring of sectors, each of which begins with the number of the round
 * in which it was written, so that the end is where the number of the first sector is last seen. */
#include "xfs.h"

enum { RECORD = 0xfeedbabe, RECORD_SECTORS_MAX = 520, UNMOUNT = 0x20 };

struct ring {
    const struct xfs *fs;
    uint64_t at, sectors;
};

static bool ring_read(const struct ring *ring, uint64_t sector, uint8_t bytes[SECTOR]) {
    return span_read(ring->fs->span, ring->at + sector * SECTOR, bytes, SECTOR);
}

/* Records begin with a magic number, and the round comes second. */
static bool ring_round(const struct ring *ring, uint64_t sector, uint32_t *ret_round) {
    uint8_t bytes[SECTOR];

    if (!ring_read(ring, sector, bytes))
        return false;
    *ret_round = be32(bytes) == RECORD ? be32(bytes + 4) : be32(bytes);
    return true;
}

/* The first sector that is not of the latest round. */
static bool ring_end(const struct ring *ring, uint64_t *ret_end) {
    uint64_t low = 0, high = ring->sectors - 1;
    uint32_t latest, round;

    if (!ring_round(ring, low, &latest) || !ring_round(ring, high, &round) || latest == 0 ||
        round == latest)
        return false;
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;

        if (!ring_round(ring, middle, &round))
            return false;
        *(round == latest ? &low : &high) = middle;
    }
    *ret_end = high;
    return true;
}

/* The record before `end` is the last one. */
static bool last_record(const struct ring *ring, uint64_t end, uint64_t *ret_at,
                        uint8_t record[SECTOR]) {
    for (uint64_t back = 1; back <= RECORD_SECTORS_MAX && back < ring->sectors; back++) {
        *ret_at = (end + ring->sectors - back) % ring->sectors;
        if (!ring_read(ring, *ret_at, record))
            return false;
        if (be32(record) == RECORD)
            return true;
    }
    return false;
}

bool xfs_in_use(const struct xfs *fs) {
    struct ring ring = {.fs = fs, .sectors = (uint64_t) fs->log_blocks * (fs->block / SECTOR)};
    uint8_t record[SECTOR], first[SECTOR];
    uint64_t end, at, heads;

    if (fs->log_block == 0 || ring.sectors < 16 ||
        !xfs_place(fs, fs->log_block, fs->log_blocks, &ring.at) || !ring_end(&ring, &end) ||
        !last_record(&ring, end, &at, record))
        return false;
    /* Version 2 has one sector of its own for each 32 KiB that a record may hold. */
    heads = (be32(record + 8) & 2) ? ceil_div(be32(record + 320), 32768) : 1;
    if (heads == 0 || heads > 8 || !ring_read(&ring, (at + heads) % ring.sectors, first))
        return false;
    return be32(record + 40) != 1 || !(first[9] & UNMOUNT) ||
           (at + heads + ceil_div(be32(record + 12), SECTOR)) % ring.sectors != end;
}
