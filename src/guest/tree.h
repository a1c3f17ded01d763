/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a machine as it sees them once it runs: one file system mounted below another. Paths
 * begin with a slash; links are followed as the machine would follow them, never out of the disk.
 */
#ifndef TREE_H
#define TREE_H

#include "files.h"

#define MOUNTS_MAX 16u
#define TEXT_FILE_MAX 65536u
#define FOLDER_NAMES_MAX 200u

struct mount {
    char path[64]; /* "" for the root, otherwise without a slash at its end */
    const struct volume *volume;
    struct node root;
    char options[128]; /* that chose the root, and no others; "" = none */
};
struct tree {
    struct mount mounts[MOUNTS_MAX];
    size_t count;
    bool deployed; /* a system that comes as a whole image: deployed.c put this together */
    /* The root that the boot loader's menu belongs to, where the kernel is told to take another one
     * of the same file system; `volume` NULL otherwise. */
    struct mount menu;
};
struct file {
    const struct volume *volume;
    struct node node;
    struct node_facts facts;
};

/* A tree of one file system alone. */
struct tree tree_of(const struct volume *volume);
/* False when there are too many, or the options choose what is not there. */
bool tree_mount(struct tree *tree, const char *path, const struct volume *volume,
                const char *options);
bool tree_find(const struct tree *tree, const char *path, struct file *ret_file);
/* The same, but a link at the end of the path is not followed. */
bool tree_find_link(const struct tree *tree, const char *path, struct file *ret_file);
bool tree_has(const struct tree *tree, const char *path);
bool tree_list(const struct tree *tree, const char *path, node_visit *visit, void *arg);
/* Names in a folder that begin and end so, sorted, at most FOLDER_NAMES_MAX; only such as can be
 * written as a path. `names` is added to. */
void tree_names(const struct tree *tree, const char *path, const char *begin, const char *end,
                struct im_strings *names);
/* `*ret_got` is less than `len` only at the end. */
bool file_read(const struct file *file, uint64_t offset, void *bytes, size_t len, size_t *ret_got);
/* At most `most` bytes of a regular file, with a NUL behind them; owned. */
bool tree_read(const struct tree *tree, const char *path, size_t most, char **ret_text,
               size_t *ret_len);
/* The first TEXT_FILE_MAX bytes; owned; NULL = no such file. */
char *tree_text(const struct tree *tree, const char *path);

#endif
