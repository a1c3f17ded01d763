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
/* As a guest_source reads; beyond the disk it fails, and so does the look. */
bool read_disk(void *arg, uint64_t offset, void *bytes, size_t len, struct im_err *err);
/* What `script` makes of the file "$D"; bytes is NULL where it failed, which was told. The mapping
 * is private. */
struct disk make_disk(const char *script);
void drop_disk(struct disk *disk);

struct guest_inspection *look(struct disk *disk);
/* The codes of all findings but root.none: most disks here have no system. Owned. */
char *codes_of(const struct guest_inspection *found);
char *filesystems_of(const struct guest_inspection *found); /* "-" for none; owned */

/* lvm_on "DEVICE|DEVICE" TOOL …: one of LVM's tools, which sees these devices alone, so that others
 * may have groups of the same name; it has no device mapper, and keeps no backups. Let the devices
 * be held by the shell and detached, as `exec 8<$A; losetup -d $A`: they go with it, come what may.
 */
#define LVM_TOOLS                                                                                  \
    "export LVM_SUPPRESS_FD_WARNINGS=1; lvm_on() { d=$1; n=$2; shift 2; /sbin/$n --config "        \
    "\"global{activation=0 locking_dir=\\\"$PWD\\\"} backup{backup=0 archive=0} "                  \
    "devices{use_devicesfile=0 scan_lvs=0 filter=[\\\"a#^($d)\\$#\\\",\\\"r#.*#\\\"]}\" "          \
    "\"$@\"; }; "

bool can_loop(void); /* there are loop devices here */
uint32_t chance(uint32_t *seed);

#endif
