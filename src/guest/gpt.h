/* SPDX-License-Identifier: Apache-2.0 */
/* Partition tables as they are written: a half of a GPT, an MBR and its chain. */
#ifndef GPT_H
#define GPT_H

#include "inspect-private.h"

struct gpt {
    uint64_t here, other; /* sectors of this header and of its twin */
    unsigned sector;
    uint32_t count, each;
    uint64_t first_usable;
    uint8_t header[SECTOR]; /* as much as it says to have, at most this */
    uint8_t *entries;       /* owned */
};
/* The sector size of a disk with something that was a GPT; 0 = there is none. */
unsigned gpt_sector(struct look *look);
/* With its entries; false if anything about it is wrong. `at` is a sector. */
bool gpt_load(struct look *look, uint64_t at, unsigned sector, struct gpt *gpt);
/* The half that counts: the first one that is whole, from the beginning of the disk. */
bool gpt_load_any(struct look *look, struct gpt *gpt);
/* Sectors that the entries take. */
uint64_t gpt_entry_sectors(const struct gpt *gpt);
/* The last sector that partitions may have when the backup is at the end of the disk; 0 = there is
 * no room for a backup. */
uint64_t gpt_last_usable(const struct look *look, const struct gpt *gpt);

/* --- MBR -------------------------------------------------------------------------------------- */

#define MBR_ENTRIES 446u
#define MBR_EACH 16u

struct mbr_entry {
    uint8_t type; /* 0 = none */
    bool extended;
    uint64_t first, count; /* sectors */
};
struct mbr {
    struct mbr_entry entries[4];
};
/* A first sector without a table has no entries; false where it cannot be read. */
bool mbr_read(struct look *look, struct mbr *mbr);
/* Where the chain that begins at the sector `base` describes the logical partition that begins at
 * `first`: the sector that does, and the one before it in the chain, which names it; that is the
 * same for the first one. False = it does not. */
bool mbr_logical(struct look *look, uint64_t base, uint64_t first, uint64_t *ret_sector,
                 uint64_t *ret_before);

#endif
