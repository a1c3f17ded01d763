/* SPDX-License-Identifier: Apache-2.0 */
/* Logical volumes as further parts of a look. */
#ifndef LVM_H
#define LVM_H

#include "inspect-private.h"

/* Finds the logical volumes on the parts that are physical volumes, and looks at each. */
void lvm_look(struct look *look);

#endif
