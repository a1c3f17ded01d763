/* SPDX-License-Identifier: Apache-2.0 */
/* Drivers that a machine on virtio needs: in the kernel, in its initramfs, or among its modules. */
#ifndef DRIVERS_H
#define DRIVERS_H

#include "boot-config.h"

#define DRIVERS_MAX 8u

/* What the kernel of an entry must have, and what of it is there. */
struct driver {
    char name[24];       /* of the module, with underscores; or the program "lvm" */
    bool program;        /* a program of the initramfs, no module */
    bool there;          /* before the root file system is mounted */
    bool net;            /* may come later than that */
    enum guest_found as; /* the finding that it is told as when it is missing */
};
struct drivers {
    char version[80]; /* of the kernel */
    struct driver list[DRIVERS_MAX];
    size_t count;
    bool sure;         /* all that could hold them was read to its end */
    bool damaged;      /* an initramfs that cannot be unpacked that far */
    bool links;        /* the initramfs has /lib as a link to /usr/lib */
    char blocked[160]; /* the file that keeps the network's from being loaded; "" = none */
};
/* Of one entry of the menu. False when nothing can be told: an unknown kernel, for example. */
bool drivers_look(const struct boot *boot, const struct boot_entry *entry,
                  const struct boot_kernel *kernel, struct drivers *ret_drivers);
/* Files that tell modprobe what not to load, as /etc has them over what packages have; added. */
void modprobe_files(const struct tree *tree, struct im_strings *paths);
/* A line of them that keeps this module from being loaded when a device is found. */
bool line_blocks(const char *line, const char *name);
/* "virtio-blk.ko.xz" is virtio_blk. */
bool module_is(const char *file, size_t len, const char *name);

#endif
