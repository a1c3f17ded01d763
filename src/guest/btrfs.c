/* SPDX-License-Identifier: Apache-2.0 */
/* Files of btrfs and its subvolumes. A node's `id` is its inode, `within` the subvolume. */
#include "btrfs.h"

#include <stdio.h>
#include <sys/stat.h>

enum { NAMES_MAX = 200000, SUBVOLUMES_MAX = 64, PATH_STEPS_MAX = 64 };
/* In a snapshot, what was a subvolume in the original is only an empty folder. */
#define EMPTY_FOLDER 2u

/* --- Inodes ----------------------------------------------------------------------------------- */

static bool is_empty_folder(const struct node *node) {
    return node->id == EMPTY_FOLDER && node->within == 0;
}

static bool btrfs_facts(void *state, const struct node *node, struct node_facts *ret_facts) {
    struct btrfs_root tree;
    struct btrfs_item item;
    uint32_t mode;

    if (is_empty_folder(node)) {
        *ret_facts = (struct node_facts){.kind = NODE_FOLDER, .mode = 0755};
        return true;
    }
    if (!btrfs_tree(state, node->within, &tree) ||
        !btrfs_item(state, &tree, (struct btrfs_key){node->id, BTRFS_INODE, 0}, 160, &item))
        return false;
    mode = le32(item.bytes + 52);
    *ret_facts = (struct node_facts){
        .kind = S_ISREG(mode)   ? NODE_FILE
                : S_ISDIR(mode) ? NODE_FOLDER
                : S_ISLNK(mode) ? NODE_LINK
                                : NODE_OTHER,
        .mode = mode & 07777,
        .uid = le32(item.bytes + 44),
        .gid = le32(item.bytes + 48),
        .size = le64(item.bytes + 16),
    };
    return true;
}

static bool btrfs_read(void *state, const struct node *node, uint64_t offset, void *bytes,
                       size_t len, size_t *ret_got) {
    struct node_facts facts;
    struct btrfs_root tree;

    if (!btrfs_facts(state, node, &facts) || (facts.kind != NODE_FILE && facts.kind != NODE_LINK) ||
        !btrfs_tree(state, node->within, &tree))
        return false;
    *ret_got = offset >= facts.size        ? 0
               : facts.size - offset < len ? (size_t) (facts.size - offset)
                                           : len;
    return btrfs_read_file(state, &tree, node->id, offset, bytes, *ret_got);
}

/* --- Folders ---------------------------------------------------------------------------------- */

/* An entry: the key of what it names, 12 bytes on where it came from, and its name. */
struct entry {
    struct btrfs_key key;
    const char *name;
    uint32_t len, bytes;
};

static bool take_entry(const uint8_t *bytes, uint32_t room, struct entry *ret_entry) {
    uint32_t more;

    if (room < 30)
        return false;
    more = le16(bytes + 25);
    *ret_entry = (struct entry){.key = {le64(bytes), bytes[8], le64(bytes + 9)},
                                .name = (const char *) bytes + 30,
                                .len = le16(bytes + 27)};
    ret_entry->bytes = 30 + ret_entry->len + more;
    return ret_entry->len > 0 && ret_entry->len <= 255 && ret_entry->bytes <= room;
}

/* Names whose hashes are the same share an item. */
static bool search_entry(const struct btrfs_item *item, const char *name, size_t len,
                         struct btrfs_key *ret_key) {
    struct entry entry;

    for (uint32_t at = 0; take_entry(item->bytes + at, item->len - at, &entry); at += entry.bytes)
        if (entry.len == len && memcmp(entry.name, name, len) == 0) {
            *ret_key = entry.key;
            return true;
        }
    return false;
}

/* The root of a subvolume, if it is mounted here by that name, and not only in the original of
 * which this is a snapshot. */
static struct node subvolume_of(struct btrfs *fs, const struct node *folder, uint64_t id,
                                const char *name, size_t len) {
    struct btrfs_key key = {folder->within, BTRFS_ROOT_REF, id};
    struct btrfs_item item;

    if (btrfs_item(fs, &fs->root_tree, key, 18 + (uint32_t) len, &item) &&
        le64(item.bytes) == folder->id && le16(item.bytes + 16) == len &&
        memcmp(item.bytes + 18, name, len) == 0)
        return (struct node){BTRFS_FIRST, id};
    return (struct node){EMPTY_FOLDER, 0};
}

static bool btrfs_find(void *state, const struct node *folder, const char *name, size_t len,
                       struct node *ret_node) {
    struct btrfs_key key = {folder->id, BTRFS_NAME,
                            guest_crc32c(~UINT32_C(1), (const uint8_t *) name, len)};
    struct btrfs_root tree;
    struct btrfs_item item;

    if (!btrfs_tree(state, folder->within, &tree) || !btrfs_item(state, &tree, key, 30, &item) ||
        !search_entry(&item, name, len, &key))
        return false;
    if (key.type == BTRFS_ROOT)
        *ret_node = subvolume_of(state, folder, key.id, name, len);
    else if (key.type == BTRFS_INODE)
        *ret_node = (struct node){key.id, folder->within};
    else
        return false;
    return true;
}

/* Whoever visits may read other blocks, so each name is looked for anew. */
static bool btrfs_list(void *state, const struct node *folder, node_visit *visit, void *arg) {
    struct btrfs_key key = {folder->id, BTRFS_ORDER, 0};
    struct btrfs *fs = state;
    unsigned lost = fs->lost;
    struct btrfs_root tree;
    struct btrfs_item item;

    if (is_empty_folder(folder))
        return true;
    if (!btrfs_tree(fs, folder->within, &tree))
        return false;
    for (unsigned i = 0; i < NAMES_MAX && btrfs_after(fs, &tree, key, &item); i++) {
        struct entry entry;
        char name[256];

        if (item.key.id != folder->id || item.key.type != BTRFS_ORDER ||
            item.key.offset == UINT64_MAX)
            break;
        if (!take_entry(item.bytes, item.len, &entry))
            return false;
        memcpy(name, entry.name, entry.len);
        name[entry.len] = '\0';
        if (!visit(arg, name, entry.len))
            break;
        key.offset = item.key.offset + 1;
    }
    return fs->lost == lost;
}

/* --- Subvolumes ------------------------------------------------------------------------------- */

static bool is_subvolume(uint64_t id) {
    return id == BTRFS_TOP || (id >= BTRFS_FIRST && id <= UINT64_MAX - BTRFS_FIRST);
}

static bool take_subvolume(struct btrfs *fs, uint64_t id, struct node *ret_root) {
    struct btrfs_root tree;

    if (!is_subvolume(id) || !btrfs_tree(fs, id, &tree))
        return false;
    *ret_root = (struct node){BTRFS_FIRST, id};
    return true;
}

/* What is mounted when no option says so. */
static bool default_subvolume(struct btrfs *fs, struct node *ret_root) {
    enum { FOLDER = 6 };
    static const char name[] = "default";
    struct btrfs_key key = {FOLDER, BTRFS_NAME,
                            guest_crc32c(~UINT32_C(1), (const uint8_t *) name, 7)};
    struct btrfs_item item;

    if (btrfs_item(fs, &fs->root_tree, key, 30, &item) && search_entry(&item, name, 7, &key) &&
        take_subvolume(fs, key.id, ret_root))
        return true;
    return take_subvolume(fs, BTRFS_TOP, ret_root);
}

/* By its path from the top, with or without a slash in front. */
static bool named_subvolume(struct btrfs *fs, const char *path, size_t len, struct node *ret_root) {
    struct node node = {BTRFS_FIRST, BTRFS_TOP};

    for (unsigned steps = 0; len > 0; steps++) {
        const char *slash = memchr(path, '/', len);
        size_t name = slash != NULL ? (size_t) (slash - path) : len;

        if (steps == PATH_STEPS_MAX || (name > 0 && !btrfs_find(fs, &node, path, name, &node)))
            return false;
        path += name + (slash != NULL);
        len -= name + (slash != NULL);
    }
    *ret_root = node;
    return node.id == BTRFS_FIRST && take_subvolume(fs, node.within, ret_root);
}

static bool numbered_subvolume(struct btrfs *fs, const char *number, struct node *ret_root) {
    uint64_t id = strtoull(number, NULL, 0);

    return take_subvolume(fs, id == 0 ? BTRFS_TOP : id, ret_root);
}

/* Where both a path and a number are given they must mean the same. */
static bool btrfs_choose(void *state, const char *options, struct node *ret_root) {
    struct node path = {0}, number = {0};

    for (const char *at = options; *at != '\0';) {
        size_t len = strcspn(at, ",");

        if (im_starts_with(at, "subvol=") &&
            !named_subvolume(state, at + strlen("subvol="), len - strlen("subvol="), &path))
            return false;
        if (im_starts_with(at, "subvolid=") &&
            !numbered_subvolume(state, at + strlen("subvolid="), &number))
            return false;
        at += len + (at[len] == ',');
    }
    if (path.id != 0 && number.id != 0 && path.within != number.within)
        return false;
    if (path.id == 0 && number.id == 0)
        return default_subvolume(state, ret_root);
    *ret_root = path.id != 0 ? path : number;
    return true;
}

/* The oldest come first: snapshots are younger than what they were made of. */
static void btrfs_roots(void *state, root_visit *visit, void *arg) {
    struct btrfs_key key = {BTRFS_FIRST, BTRFS_ROOT, 0};
    struct btrfs *fs = state;
    struct btrfs_item item;

    for (unsigned i = 0; i < SUBVOLUMES_MAX && btrfs_after(fs, &fs->root_tree, key, &item); i++) {
        char options[40];

        if (!is_subvolume(item.key.id))
            return;
        key.id = item.key.id + 1;
        snprintf(options, sizeof(options), "subvolid=%llu", (unsigned long long) item.key.id);
        if (item.key.type == BTRFS_ROOT && !visit(arg, options))
            return;
    }
}

/* --- All of it -------------------------------------------------------------------------------- */

/* Where data is kept twice on the device, half of what is free there counts. */
static bool btrfs_space(void *state, uint64_t *ret_size, uint64_t *ret_free) {
    enum { DATA = 1 };
    const struct btrfs *fs = state;
    uint64_t all = 0, copies = 1;

    for (size_t i = 0; i < fs->chunk_count; i++) {
        all += fs->chunks[i].len;
        if ((fs->chunks[i].type & DATA) && fs->chunks[i].copies > copies)
            copies = fs->chunks[i].copies;
    }
    *ret_size = fs->bytes;
    *ret_free =
        fs->device_bytes > fs->device_used ? (fs->device_bytes - fs->device_used) / copies : 0;
    *ret_free += all > fs->used ? all - fs->used : 0;
    if (*ret_free > *ret_size)
        *ret_free = *ret_size;
    return true;
}

static void btrfs_check(void *state, const struct guest_part *part) {
    const struct btrfs *fs = state;

    if (fs->damaged)
        look_found(
            fs->span->look, GUEST_FOUND_FS_DAMAGED,
            "the superblock of the btrfs file system on %s is damaged; a copy of it is whole",
            part->name);
    if (fs->journal)
        look_found(fs->span->look, GUEST_FOUND_FS_DIRTY,
                   "the btrfs file system on %s was in use when the disk was backed up",
                   part->name);
}

static void btrfs_close(void *state) {
    struct btrfs *fs = state;

    for (size_t i = 0; i < BTRFS_HELD; i++)
        free(fs->held[i].bytes);
    free(fs->chunks);
    free(fs->plain);
    free(fs->packed);
    free(fs);
}
IM_DEFINE_AUTO(void *, btrfs_close)

static void unreadable(const struct btrfs *fs, const char *why) {
    look_found(fs->span->look, GUEST_FOUND_FS_UNREADABLE,
               "the btrfs file system on %s %s: what is in it cannot be looked at", fs->name, why);
}

/* It cannot even be mounted without all of its devices. */
static void check_devices(const struct btrfs *fs) {
    uint64_t here = fs->devices > 1 ? btrfs_devices_here(fs) : 1;

    if (here < fs->devices && fs->span->pieces == NULL)
        look_found(fs->span->look, GUEST_FOUND_FS_DEVICES,
                   "the btrfs file system on %s has %llu devices, of which %llu are on this disk",
                   fs->name, (unsigned long long) fs->devices, (unsigned long long) here);
}

/* Everything must be within reach: half a system would be judged wrongly. */
static bool open_trees(struct btrfs *fs, struct node *ret_root) {
    const char *why = NULL;

    if (!btrfs_super(fs, &why)) {
        if (why != NULL)
            unreadable(fs, why);
        return false;
    }
    check_devices(fs);
    if (fs->spread == 0 && !fs->elsewhere && !btrfs_chunks(fs))
        return false;
    if (fs->spread != 0 || fs->elsewhere) {
        unreadable(fs, "is spread over several devices");
        return false;
    }
    return default_subvolume(fs, ret_root);
}

static bool btrfs_open(const struct span *span, const struct guest_part *part, void **ret_state,
                       struct node *ret_root) {
    IM_AUTO(btrfs_close_auto) void *state = im_alloc(sizeof(struct btrfs));
    struct btrfs *fs = state;

    fs->span = span;
    memcpy(fs->name, part->name, sizeof(fs->name));
    if (!open_trees(fs, ret_root))
        return false;
    *ret_state = im_steal(&state);
    return true;
}

const struct fs_ops btrfs_ops = {
    .open = btrfs_open,
    .choose = btrfs_choose,
    .roots = btrfs_roots,
    .facts = btrfs_facts,
    .find = btrfs_find,
    .list = btrfs_list,
    .read = btrfs_read,
    .space = btrfs_space,
    .check = btrfs_check,
    .close = btrfs_close,
};
