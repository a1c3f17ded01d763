/* SPDX-License-Identifier: Apache-2.0 */
/* One half of a GPT: a header and its entries. */
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

#endif
