/* SPDX-License-Identifier: Apache-2.0 */
/* Room of the disk that the system's root could have, and has not. */
#ifndef ROOM_H
#define ROOM_H

#include "cloud-config.h"

/* From the outside in: a partition (or the whole disk), perhaps a physical volume on it, and the
 * root's file system on either. All in bytes. */
struct room {
    const struct volume *root;
    size_t part;       /* index of the partition */
    uint64_t part_len; /* how large it may become; at least as large as it is */
    uint64_t pv_used;  /* what LVM uses of it, from its beginning; 0 = the root is not on LVM */
    uint64_t extent;   /* of LVM */
};
/* False when nothing may be grown: the partition table is not right, or it is not known what lies
 * where. */
bool room_find(struct look *look, const struct tree *tree, struct room *ret_room);
/* Bytes behind the partition, behind what LVM uses of it, behind the file system; 0 = none, or so
 * little that it is not worth a word. */
uint64_t room_outside(const struct look *look, const struct room *room);
uint64_t room_of_lvm(const struct look *look, const struct room *room);
uint64_t room_inside(const struct room *room);

/* Tells of room that nothing will take when the machine starts. */
void room_check(struct look *look, const struct tree *tree, const struct fstab *fstab,
                const struct cloud *cloud);

#endif
