/* SPDX-License-Identifier: Apache-2.0 */
/* A Windows on the disk. */
#ifndef WINDOWS_H
#define WINDOWS_H

#include "tree.h"

/* The file system that holds a Windows; NULL = none that can be read. */
const struct volume *windows_root(const struct look *look);
/* Which it is, fills found->os; what of it will make trouble. */
void windows_look(struct look *look, const struct volume *root);

#endif
