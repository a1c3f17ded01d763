/* SPDX-License-Identifier: Apache-2.0 */
/* The files of one file system. Each reader (ext.c …) fills in a struct fs_ops; everything about
 * paths, links and mounts is above them, in tree.c. */
#ifndef FILES_H
#define FILES_H

#include "inspect-private.h"

/* A file, folder or link. What the numbers mean is the reader's: an inode, a subvolume … */
struct node {
    uint64_t id, within;
};
static inline bool node_same(struct node one, struct node other) {
    return one.id == other.id && one.within == other.within;
}
enum node_kind { NODE_OTHER, NODE_FILE, NODE_FOLDER, NODE_LINK };
struct node_facts {
    enum node_kind kind;
    uint32_t mode; /* the lowest 12 bits */
    uint32_t uid, gid;
    uint64_t size; /* bytes; of a link: of its target */
};
typedef bool node_visit(void *arg, const char *name, size_t len); /* false: enough */
typedef bool root_visit(void *arg, const char *options);          /* the same */

/* All read through the span they were opened with, which outlives them; false where the bytes make
 * no sense or there is nothing of that name. Loops are bounded whatever the bytes say. */
struct fs_ops {
    /* `part` is what the span is, for what may be told; not every reader needs it. */
    bool (*open)(const struct span *span, const struct guest_part *part, void **ret_state,
                 struct node *ret_root);
    /* The root that mount options choose ("subvol=@"); NULL where they choose nothing. */
    bool (*choose)(void *state, const char *options, struct node *ret_root);
    /* Options that choose its roots one by one, some of the first; NULL where there is only one. */
    void (*roots)(void *state, root_visit *visit, void *arg);
    bool (*facts)(void *state, const struct node *node, struct node_facts *ret_facts);
    bool (*find)(void *state, const struct node *folder, const char *name, size_t len,
                 struct node *ret_node);
    bool (*list)(void *state, const struct node *folder, node_visit *visit, void *arg);
    /* Of a file, or of a link its target; `*ret_got` is less than `len` only at the end. */
    bool (*read)(void *state, const struct node *node, uint64_t offset, void *bytes, size_t len,
                 size_t *ret_got);
    /* Bytes in all and free; NULL where the reader does not know. */
    bool (*space)(void *state, uint64_t *ret_size, uint64_t *ret_free);
    /* Fills in what the superblock does not tell of it, as a label; NULL = nothing. */
    void (*describe)(void *state, struct guest_part *part);
    /* Tells what is wrong with it beyond its superblock, once all are open; NULL = nothing. */
    void (*check)(void *state, const struct guest_part *part);
    void (*close)(void *state);
};
extern const struct fs_ops btrfs_ops, ext_ops, fat_ops, ntfs_ops, ufs_ops, xfs_ops;

/* A file system of the disk that can be read. */
struct volume {
    struct span span; /* with pieces of its own */
    const struct fs_ops *ops;
    void *state;
    struct node root;
    size_t part; /* its index among the parts */
};
/* Opens what the part holds, if there is a reader for it, and keeps it with the look. */
void volume_open(const struct span *span, size_t part);
void volumes_check(struct look *look);
void volumes_close(struct look *look);
static inline const struct guest_part *volume_part(const struct volume *volume) {
    return &volume->span.look->found->parts[volume->part];
}

#endif
