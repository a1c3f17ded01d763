/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of readers: everything that was put into a file system comes out again. */
#ifndef TEST_FOLDER_H
#define TEST_FOLDER_H

#include "test-disk.h"
#include "tree.h"

extern const char *maker; /* make-tree.py; $M in scripts */

/* A file system alone on a disk. */
struct opened {
    struct disk disk;
    struct guest_source source;
    struct look look;
    struct tree tree;
};
/* NULL if it cannot be made or opened, which was told. */
struct opened *open_disk(const char *script, const char *name);
void close_disk(struct opened *opened);
IM_DEFINE_AUTO(struct opened *, close_disk)

/* Checks that all files are as in `folder`, which is one of the test's. */
void check_same(struct opened *opened, const char *folder, const char *name);

/* Checks what is found on its volumes: just these codes, with blanks between. */
void check_codes(struct opened *opened, const char *codes, const char *name);

/* In the test's folder. */
bool run(const char *format, const char *arg);
/* The kernel may mount such a file system here. */
bool can_mount(const char *type, const char *mkfs);

#endif
