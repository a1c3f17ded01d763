/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a look at a system. Each reads through the tree and tells what it finds. */
#ifndef SYSTEM_H
#define SYSTEM_H

#include "tree.h"

/* --- system.c --------------------------------------------------------------------------------- */

/* The files of the system on the disk as it mounts them; false when there is none, and of one that
 * comes as a whole image: what is changed in it is not a file here and there. */
bool system_tree(struct look *look, struct tree *ret_tree);

/* --- deployed.c ------------------------------------------------------------------------------- */

/* The root in `tree` holds no system itself: makes it the one that is within it as an image, or has
 * its /usr elsewhere. False if there is none; the tree stays as it was then. */
bool deployed_mount(const struct look *look, struct tree *tree);
/* Whom ignition makes, where it does. */
void deployed_user(const struct tree *tree, struct guest_os *os);

/* --- freebsd.c -------------------------------------------------------------------------------- */

/* Where no os-release tells it; false if it is none. */
bool freebsd_release(const struct tree *tree, struct guest_os *os);
void freebsd_hostname(const struct tree *tree, struct guest_os *os);
void freebsd_boot(struct look *look, const struct tree *tree);

/* --- fstab.c ---------------------------------------------------------------------------------- */

struct fstab_line {
    char *device, *path, *type, *options; /* as written, without escapes; owned */
    unsigned number;                      /* of the line in the file, from 1 */
};
struct fstab {
    struct fstab_line *lines;
    size_t count, capacity;
};
struct fstab *fstab_read(const struct tree *tree); /* never NULL, maybe empty */
void fstab_free(struct fstab *fstab);
IM_DEFINE_AUTO(struct fstab *, fstab_free)
/* The part that a device of fstab or of a kernel's root= names: a path, UUID=, LABEL=, PARTUUID=,
 * PARTLABEL=; NULL = none on this disk, or a name by number, which is not bound to a disk. */
const struct guest_part *part_named(const struct look *look, const char *device);
/* Mounts what of it can be read below the root. */
void fstab_mount(struct look *look, const struct fstab *fstab, struct tree *tree);
void fstab_check(struct look *look, const struct tree *tree, const struct fstab *fstab);
/* A file system of this kind can be mounted by that type of fstab. */
bool fstab_types_agree(const char *wanted, const char *has);
/* It cannot be mounted there by this type; of what the kernel mounts itself that does not matter.
 */
bool fstab_type_wrong(const char *type, const char *path, const struct guest_part *part);
/* A name by a disk's serial number or place, which the next machine's disk has not. */
bool device_of_other(const char *device);
/* A name that depends on the order in which disks are found, as /dev/sda1. */
bool device_by_number(const char *device);
/* The part that such a name means, or that part_named finds. */
const struct guest_part *part_of_line(const struct look *look, const char *device);
/* /dev/mapper/VG-LV of a logical volume. */
#define VOLUME_PATH_BYTES 180
void volume_path(const struct guest_part *part, char out[VOLUME_PATH_BYTES]);
/* A line that the machine cannot start without. */
bool fstab_vital(const char *path);
/* The device is named by what only one disk has. */
bool fstab_bound(const char *device);
/* NULL = its files cannot be read. */
const struct volume *volume_of(const struct look *look, const struct guest_part *part);
/* Something on the disk that could hold what is looked for, and cannot be read. */
bool look_hides_something(const struct look *look);

/* --- units.c ---------------------------------------------------------------------------------- */

/* Started with the machine, under systemd ("NAME.service"), OpenRC or runit. */
bool unit_starts(const struct tree *tree, const char *name);
/* The first of what is started that begins so, under the same and System V's init. */
bool unit_begins(const struct tree *tree, const char *begin, char *out, size_t size);
bool unit_masked(const struct tree *tree, const char *unit);

/* --- network.c -------------------------------------------------------------------------------- */

struct cloud; /* cloud-config.h */
/* Once it is known what the kernel is started with. */
void network_check(struct look *look, const struct tree *tree, const struct cloud *cloud);

/* --- facts.c ---------------------------------------------------------------------------------- */

/* Fills osinfo, init, ui and packages. */
void facts_take(const struct tree *tree, struct guest_os *os);

/* --- rpm.c ------------------------------------------------------------------------------------ */

/* Packages in rpm's database where that is SQLite or ndb; 0 = none, or not known. */
unsigned rpm_count(const struct tree *tree);

/* --- identity.c ------------------------------------------------------------------------------- */

void identity_check(struct look *look, const struct tree *tree);
/* What a machine remembers of DHCP servers, and its seeds of random numbers; added to `paths`. */
void lease_files(const struct tree *tree, struct im_strings *paths);
void seed_files(const struct tree *tree, struct im_strings *paths);
#define RULES_FOLDER "/etc/udev/rules.d"
/* A rule of udev's that names a network card by its MAC address. */
bool rule_binds_card(const char *line);

#endif
