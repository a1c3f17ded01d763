/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a guest's file system, whichever it is. Paths begin with a slash; symbolic links are
 * followed inside the file system. */
#ifndef TREE_H
#define TREE_H

#include "inspect-private.h"

struct tree {
    void *state;
    /* At most `most` bytes of a regular file, with a NUL behind them; owned. */
    bool (*read)(void *state, const char *path, size_t most, char **ret_text, size_t *ret_len);
    bool (*list)(void *state, const char *path,
                 void (*visit)(void *arg, const char *name, size_t len), void *arg);
    bool (*has)(void *state, const char *path);
    void (*close)(void *state);
};

/* The span must outlive the tree. */
bool ext_open(const struct span *span, struct tree *ret_tree);

/* --- system.c --------------------------------------------------------------------------------- */

/* Is it the root of a system? Then it is looked at. */
bool system_look(struct look *look, const struct tree *tree, const char *part_name);
/* Once all parts are known. */
void system_check(struct look *look);

#endif
