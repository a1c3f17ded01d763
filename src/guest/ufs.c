/* SPDX-License-Identifier: Apache-2.0 */
/* Files of UFS 1 and 2, as FreeBSD has them. Room is counted in fragments, of which a block is
 * some; inodes lie at the beginning of each cylinder group. A node is an inode's number. */
#include <sys/stat.h>

#include "files.h"

#define SUPER_BYTES 1376u
#define FOLDER_BYTES (32u << 20)
#define FOLDER_PIECE 4096u
#define PLACES 15u /* of blocks in an inode, the last three of blocks of places */
#define DIRECT 12u
#define WINDOW 4096u

enum { INODE_ROOT = 2, INODE_2 = 256, INODE_1 = 128 };
enum { NEEDS_CHECK = 0x04, FLAGS_ELSEWHERE = 0x80 };

struct window {
    uint64_t at; /* UINT64_MAX: nothing was read yet */
    uint8_t bytes[WINDOW];
};
struct ufs {
    const struct span *span;
    bool second; /* UFS2 */
    uint32_t block, fragment, groups, group_inodes, group_fragments, inodes_at, block_inodes;
    uint32_t offset, mask; /* how UFS1 shifts its groups */
    uint32_t link_max;     /* bytes of a target that lies in the inode */
    uint64_t fragments, usable, free_fragments;
    bool in_use, damaged, counted;
    struct window inodes;     /* that were read last */
    struct window windows[3]; /* of blocks of places, the nearest to the data first */
};
struct inode {
    uint32_t mode, uid, gid;
    uint64_t size;
    uint64_t places[PLACES];
    uint8_t target[PLACES * 8];
};

/* --- The superblock --------------------------------------------------------------------------- */

static bool take_super(struct ufs *fs, const uint8_t *super) {
    fs->second = le32(super + 1372) == 0x19540119;
    if (!fs->second && le32(super + 1372) != 0x00011954)
        return false;
    fs->inodes_at = le32(super + 16);
    fs->offset = fs->second ? 0 : le32(super + 24);
    fs->mask = fs->second ? UINT32_MAX : le32(super + 28);
    fs->groups = le32(super + 44);
    fs->block = le32(super + 48);
    fs->fragment = le32(super + 52);
    fs->group_inodes = le32(super + 184);
    fs->group_fragments = le32(super + 188);
    fs->block_inodes = fs->block / (fs->second ? INODE_2 : INODE_1);
    fs->link_max = le32(super + 1320);
    fs->fragments = fs->second ? le64(super + 1080) : le32(super + 36);
    fs->usable = fs->second ? le64(super + 1088) : le32(super + 40);
    fs->in_use = super[209] == 0;
    fs->damaged = (super[211] & FLAGS_ELSEWHERE ? le32(super + 1312) : super[211]) & NEEDS_CHECK;
    return true;
}

/* They may be wrong while it is in use. */
static void take_free(struct ufs *fs, const uint8_t *super) {
    uint64_t blocks = fs->second ? le64(super + 1016) : le32(super + 196);
    uint64_t rest = fs->second ? le64(super + 1032) : le32(super + 204);

    if (blocks > fs->fragments || rest > fs->fragments)
        return;
    fs->free_fragments = blocks * (fs->block / fs->fragment) + rest;
    fs->counted = fs->free_fragments <= fs->usable && fs->usable <= fs->fragments;
}

static bool sane(const struct ufs *fs) {
    return power_of_two(fs->block) && fs->block >= 4096 && fs->block <= 65536 &&
           power_of_two(fs->fragment) && fs->fragment >= SECTOR && fs->fragment <= fs->block &&
           fs->block / fs->fragment <= 8 && fs->groups > 0 && fs->group_inodes > 0 &&
           fs->group_fragments > 0 && fs->inodes_at < fs->group_fragments &&
           fs->link_max <= PLACES * 8 && fs->fragments <= fs->span->len / fs->fragment;
}

static bool read_super(struct ufs *fs) {
    static const uint32_t places[] = {65536, 8192};
    uint8_t super[SUPER_BYTES];

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (span_read(fs->span, places[i], super, sizeof(super)) && take_super(fs, super) &&
            sane(fs)) {
            take_free(fs, super);
            return true;
        }
    return false;
}

/* --- Inodes ----------------------------------------------------------------------------------- */

static uint64_t inode_at(const struct ufs *fs, uint64_t number) {
    uint64_t group = number / fs->group_inodes, within = number % fs->group_inodes;
    uint64_t begin = group * fs->group_fragments + (uint64_t) fs->offset * (group & ~fs->mask);
    uint64_t fragment =
        begin + fs->inodes_at + within / fs->block_inodes * (fs->block / fs->fragment);

    return fragment * fs->fragment + within % fs->block_inodes * (fs->second ? INODE_2 : INODE_1);
}

static void take_inode_2(const uint8_t *bytes, struct inode *inode) {
    inode->uid = le32(bytes + 4);
    inode->gid = le32(bytes + 8);
    inode->size = le64(bytes + 16);
    for (size_t i = 0; i < PLACES; i++)
        inode->places[i] = le64(bytes + 112 + 8 * i);
    memcpy(inode->target, bytes + 112, PLACES * 8);
}

static void take_inode_1(const uint8_t *bytes, struct inode *inode) {
    inode->uid = le32(bytes + 112);
    inode->gid = le32(bytes + 116);
    inode->size = le64(bytes + 8);
    for (size_t i = 0; i < PLACES; i++)
        inode->places[i] = le32(bytes + 40 + 4 * i);
    memcpy(inode->target, bytes + 40, PLACES * 4);
}

static bool look_through(const struct ufs *fs, struct window *window, uint64_t at) {
    if (window->at == at)
        return true;
    window->at = UINT64_MAX;
    if (!span_read(fs->span, at, window->bytes, WINDOW))
        return false;
    window->at = at;
    return true;
}

static bool read_inode(struct ufs *fs, uint64_t number, struct inode *ret_inode) {
    const uint8_t *bytes;
    uint64_t at;
    struct inode inode = {0};

    if (number < INODE_ROOT || number / fs->group_inodes >= fs->groups)
        return false;
    /* Fragments are whole inodes, so none lies across two windows. */
    at = inode_at(fs, number);
    if (!look_through(fs, &fs->inodes, at - at % WINDOW))
        return false;
    bytes = fs->inodes.bytes + at % WINDOW;
    inode.mode = le16(bytes);
    if (fs->second)
        take_inode_2(bytes, &inode);
    else
        take_inode_1(bytes, &inode);
    if (inode.mode == 0 || inode.size > INT64_MAX)
        return false;
    *ret_inode = inode;
    return true;
}

static bool ufs_facts(void *state, const struct node *node, struct node_facts *ret_facts) {
    struct inode inode;

    if (!read_inode(state, node->id, &inode))
        return false;
    *ret_facts = (struct node_facts){.kind = S_ISREG(inode.mode)   ? NODE_FILE
                                             : S_ISDIR(inode.mode) ? NODE_FOLDER
                                             : S_ISLNK(inode.mode) ? NODE_LINK
                                                                   : NODE_OTHER,
                                     .mode = inode.mode & 07777,
                                     .uid = inode.uid,
                                     .gid = inode.gid,
                                     .size = inode.size};
    return true;
}

/* --- Bytes ------------------------------------------------------------------------------------ */

/* The n-th place in a block of places, whose first fragment is `block`; 0 is a hole. */
static bool place_in(struct ufs *fs, unsigned level, uint64_t block, uint64_t index,
                     uint64_t *ret_place) {
    struct window *window = &fs->windows[level];
    uint32_t each = fs->second ? 8 : 4;
    uint64_t byte = index * each, at = block * fs->fragment + byte / WINDOW * WINDOW;

    *ret_place = 0;
    if (block == 0)
        return true;
    if (block >= fs->fragments)
        return false;
    if (!look_through(fs, window, at))
        return false;
    *ret_place =
        each == 8 ? le64(window->bytes + byte % WINDOW) : le32(window->bytes + byte % WINDOW);
    return true;
}

/* The first fragment of the file's n-th block. */
static bool block_of(struct ufs *fs, const struct inode *inode, uint64_t number,
                     uint64_t *ret_place) {
    uint64_t each = fs->block / (fs->second ? 8 : 4), covers = 1;
    unsigned levels = 0;

    if (number < DIRECT) {
        *ret_place = inode->places[number];
        return true;
    }
    number -= DIRECT;
    do {
        if (levels > 0)
            number -= covers;
        covers *= each;
        levels++;
    } while (number >= covers && levels < 3);
    if (number >= covers)
        return false;
    *ret_place = inode->places[DIRECT + levels - 1];
    while (levels-- > 0) {
        covers /= each;
        if (!place_in(fs, levels, *ret_place, number / covers, ret_place))
            return false;
        number %= covers;
    }
    return true;
}

/* Bytes of one block; where it is not wholly used, only so many fragments are its own. */
static bool read_block(const struct ufs *fs, uint64_t place, uint32_t within, uint8_t *bytes,
                       size_t len) {
    if (place == 0) {
        memset(bytes, 0, len);
        return true;
    }
    return place < fs->fragments && span_read(fs->span, place * fs->fragment + within, bytes, len);
}

static bool inode_read(struct ufs *fs, const struct inode *inode, uint64_t offset, uint8_t *bytes,
                       size_t len, size_t *ret_got) {
    size_t got = 0;

    if (offset >= inode->size)
        len = 0;
    else if (len > inode->size - offset)
        len = (size_t) (inode->size - offset);
    while (got < len) {
        uint32_t within = (uint32_t) ((offset + got) % fs->block);
        size_t now = fs->block - within < len - got ? fs->block - within : len - got;
        uint64_t place;

        if (!block_of(fs, inode, (offset + got) / fs->block, &place) ||
            !read_block(fs, place, within, bytes + got, now))
            return false;
        got += now;
    }
    *ret_got = got;
    return true;
}

static bool ufs_read(void *state, const struct node *node, uint64_t offset, void *bytes, size_t len,
                     size_t *ret_got) {
    struct ufs *fs = state;
    struct inode inode;

    if (!read_inode(fs, node->id, &inode) || (!S_ISREG(inode.mode) && !S_ISLNK(inode.mode)))
        return false;
    if (!S_ISLNK(inode.mode) || inode.size >= fs->link_max)
        return inode_read(fs, &inode, offset, bytes, len, ret_got);
    *ret_got = offset >= inode.size        ? 0
               : inode.size - offset < len ? (size_t) (inode.size - offset)
                                           : len;
    memcpy(bytes, inode.target + (offset < inode.size ? offset : 0), *ret_got);
    return true;
}

/* --- Folders ---------------------------------------------------------------------------------- */

/* False: enough. */
typedef bool entry_visit(void *arg, uint32_t number, const char *name, size_t len);

/* Names do not cross the 512 bytes in which they began. */
static bool visit_piece(const uint8_t *bytes, size_t len, entry_visit *visit, void *arg) {
    for (size_t at = 0; at + 8 <= len;) {
        const uint8_t *entry = bytes + at;
        size_t size = le16(entry + 4), name_len = entry[7];

        if (size < 8 || size % 4 != 0 || size > SECTOR - at % SECTOR || name_len + 8 > size)
            at = (at / SECTOR + 1) * SECTOR; /* makes no sense: what follows may */
        else if (le32(entry) != 0 && !visit(arg, le32(entry), (const char *) entry + 8, name_len))
            return false;
        else
            at += size;
    }
    return true;
}

static bool folder_each(struct ufs *fs, const struct node *folder, entry_visit *visit, void *arg) {
    uint8_t bytes[FOLDER_PIECE];
    size_t got = FOLDER_PIECE;
    struct inode inode;

    if (!read_inode(fs, folder->id, &inode) || !S_ISDIR(inode.mode))
        return false;
    for (uint64_t at = 0; at < FOLDER_BYTES && got == FOLDER_PIECE; at += FOLDER_PIECE) {
        if (!inode_read(fs, &inode, at, bytes, FOLDER_PIECE, &got))
            return false;
        if (!visit_piece(bytes, got, visit, arg))
            return true;
    }
    return true;
}

struct search {
    const char *name;
    size_t len;
    uint32_t number; /* 0 = not found */
};

static bool match(void *arg, uint32_t number, const char *name, size_t len) {
    struct search *search = arg;

    if (len != search->len || memcmp(name, search->name, len) != 0)
        return true;
    search->number = number;
    return false;
}

static bool ufs_find(void *state, const struct node *folder, const char *name, size_t len,
                     struct node *ret_node) {
    struct search search = {.name = name, .len = len};

    if (!folder_each(state, folder, match, &search) || search.number == 0)
        return false;
    *ret_node = (struct node){.id = search.number};
    return true;
}

struct listing {
    node_visit *visit;
    void *arg;
};

static bool list_entry(void *arg, uint32_t number, const char *name, size_t len) {
    const struct listing *listing = arg;

    (void) number;
    return listing->visit(listing->arg, name, len);
}

static bool ufs_list(void *state, const struct node *folder, node_visit *visit, void *arg) {
    struct listing listing = {visit, arg};

    return folder_each(state, folder, list_entry, &listing);
}

/* --- The file system -------------------------------------------------------------------------- */

static bool ufs_space(void *state, uint64_t *ret_size, uint64_t *ret_free) {
    const struct ufs *fs = state;

    if (!fs->counted)
        return false;
    *ret_size = fs->usable * fs->fragment;
    *ret_free = fs->free_fragments * fs->fragment;
    return true;
}

static void ufs_check(void *state, const struct guest_part *part) {
    const struct ufs *fs = state;

    if (fs->damaged)
        look_found(fs->span->look, GUEST_FOUND_FS_DAMAGED,
                   "the ufs file system on %s is marked as damaged", part->name);
    else if (fs->in_use)
        look_found(fs->span->look, GUEST_FOUND_FS_DIRTY,
                   "the ufs file system on %s was in use when the disk was backed up", part->name);
}

static bool ufs_open(const struct span *span, const struct guest_part *part, void **ret_state,
                     struct node *ret_root) {
    IM_AUTO(free_auto) struct ufs *fs = im_alloc(sizeof(*fs));
    struct node root = {.id = INODE_ROOT};
    struct node_facts facts;

    (void) part;
    fs->span = span;
    fs->inodes.at = UINT64_MAX;
    for (size_t i = 0; i < 3; i++)
        fs->windows[i].at = UINT64_MAX;
    if (!read_super(fs) || !ufs_facts(fs, &root, &facts) || facts.kind != NODE_FOLDER)
        return false;
    *ret_root = root;
    *ret_state = im_steal(&fs);
    return true;
}

static void ufs_close(void *state) { free(state); }

const struct fs_ops ufs_ops = {
    .open = ufs_open,
    .facts = ufs_facts,
    .find = ufs_find,
    .list = ufs_list,
    .read = ufs_read,
    .space = ufs_space,
    .check = ufs_check,
    .close = ufs_close,
};
