/* SPDX-License-Identifier: Apache-2.0 */
/* The text inside a VMDK that says what belongs to the disk. */
#ifndef VMDK_PRIVATE_H
#define VMDK_PRIVATE_H

#include "base/err.h"

/* Refuses whatever refers to another file: kinds of several files, a parent, extents elsewhere. */
bool vmdk_descriptor_check(const char *text, struct im_err *err);

#endif
