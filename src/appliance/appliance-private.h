/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the appliance's init share. It is the only program of a machine that lives for
 * seconds and holds nothing but one disk, whose content is hostile: a crash here costs that
 * machine. A single thread; each function sets err where it returns false. */
#ifndef APPLIANCE_PRIVATE_H
#define APPLIANCE_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "appliance/frame.h"

#define DISK "/dev/vda"
#define GUEST "/guest" /* where the disk's root file system is mounted */
#define NAME_SIZE 256  /* of a file, with its NUL */

/* --- kernel.c: its modules and its log -------------------------------------------------------- */

/* Loads the module and what it needs; one that is not there may be built in. */
void module_load(const char *name);
/* Waits for a device file. */
bool device_wait(const char *path, struct im_err *err);
void klog_open(void);
/* What the kernel says from now on counts for klog_add. */
void klog_mark(void);
/* Puts the kernel's first complaints since the mark behind the sentence; returns false. */
bool klog_add(struct im_err *err);

/* --- disk.c ----------------------------------------------------------------------------------- */

bool disk_mount(const struct frame *order, struct im_err *err);
bool disk_raw(const struct frame *order, struct im_err *err);
bool disk_trim(const char *path, uint64_t *ret_bytes, struct im_err *err);
/* Grows the file system that the path lies on to its device. */
bool disk_grow(const char *path, uint64_t *ret_bytes, struct im_err *err);
/* Everything is on the disk and nothing mounted. */
bool disk_close(struct im_err *err);

/* --- tree.c: names of the guest --------------------------------------------------------------- */

/* The root file system is mounted: names are looked up below it from now on. */
bool tree_begin(struct im_err *err);
int tree_root(void); /* -1 before tree_begin */
/* Opens a path as the guest would, symbolic links included, and never leaves its tree; -1 and errno
 * otherwise. */
int tree_open(const char *path, int flags);
/* The folder that holds what the path names, and its name there. `make`: missing folders are made.
 * `follow`: where that is a symbolic link to something, the place it leads to. */
enum tree_how { TREE_PLAIN = 0, TREE_MAKE = 1, TREE_FOLLOW = 2 };
bool tree_place(const char *path, unsigned how, int *ret_folder, char ret_name[NAME_SIZE],
                struct im_err *err);
/* Removes what is in a folder, mounts excepted: those are an error. */
bool tree_clear(int folder, const char *path, struct im_err *err);

/* --- edit.c, run.c: one edit each ------------------------------------------------------------- */

bool edit_write(const struct frame *order, struct frame *answer, struct im_err *err);
bool edit_append(const struct frame *order, struct frame *answer, struct im_err *err);
bool edit_remove(const struct frame *order, struct frame *answer, struct im_err *err);
bool edit_empty(const struct frame *order, struct frame *answer, struct im_err *err);
bool edit_link(const struct frame *order, struct frame *answer, struct im_err *err);
bool edit_copy(const struct frame *order, struct frame *answer, struct im_err *err);
bool edit_folder(const struct frame *order, struct frame *answer, struct im_err *err);
bool edit_run(const struct frame *order, struct frame *answer, struct im_err *err);
/* Ends whatever still runs. */
void run_end_all(void);

#endif
