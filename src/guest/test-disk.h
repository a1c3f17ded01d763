/* SPDX-License-Identifier: Apache-2.0 */
/* Disks for tests: made by the usual tools, held in memory, so that they can be spoiled. */
#ifndef TEST_DISK_H
#define TEST_DISK_H

#include "guest/inspect.h"

#define MIB (1ull << 20)

struct disk {
    uint8_t *bytes;
    uint64_t len;
};
/* As a guest_source reads; beyond the disk, the sanitizer tells. */
bool read_disk(void *arg, uint64_t offset, void *bytes, size_t len, struct im_err *err);
/* What `script` makes of the file "$D"; bytes is NULL where it failed, which was told. The mapping
 * is private. */
struct disk make_disk(const char *script);
void drop_disk(struct disk *disk);

struct guest_inspection *look(struct disk *disk);
/* The codes of all findings but root.none: most disks here have no system. Owned. */
char *codes_of(const struct guest_inspection *found);
char *filesystems_of(const struct guest_inspection *found); /* "-" for none; owned */

bool can_loop(void); /* there are loop devices here */
uint32_t chance(uint32_t *seed);

#endif
