/* SPDX-License-Identifier: Apache-2.0 */
/* What is in an initramfs: cpio archives one behind the other, each plain or packed in its own way,
 * as the kernel unpacks them. Contents are passed over. */
#ifndef INITRAMFS_H
#define INITRAMFS_H

#include "tree.h"

/* `name` is as in the archive, mostly without a slash before it; false: enough. */
typedef bool initramfs_visit(void *arg, const char *name, enum node_kind kind);

enum initramfs_answer {
    INITRAMFS_END,     /* all names were seen */
    INITRAMFS_ENOUGH,  /* by `visit` */
    INITRAMFS_DAMAGED, /* the kernel too comes only so far */
    INITRAMFS_UNKNOWN, /* too large for a look, of a kind that is not known, or not readable */
};
/* Of these bytes of the file. */
enum initramfs_answer initramfs_names(const struct file *file, uint64_t at, uint64_t len,
                                      initramfs_visit *visit, void *arg);

#endif
