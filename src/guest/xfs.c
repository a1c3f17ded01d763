/* SPDX-License-Identifier: Apache-2.0 */
/* Files of XFS, versions 4 and 5. All numbers are big-endian. Folders are read name by name and
 * without their index, which only helps those who write. */
#include "xfs.h"

#include <sys/stat.h>

enum { SECTOR_MAX = 32768, LINK_MAX = 1024, FOLDER_MAX = 32 << 20 };
enum fork_form { FORK_INLINE = 1, FORK_EXTENTS = 2, FORK_TREE = 3 };

/* --- The superblock --------------------------------------------------------------------------- */

enum { REPAIR = 0x10, INCOMPAT_KNOWN = 0x1ff };

static bool take_shape(struct xfs *fs, const uint8_t *super) {
    fs->block = be32(super + 4);
    fs->blocks = be64(super + 8);
    fs->real_blocks = be64(super + 16);
    fs->log_block = be64(super + 48);
    fs->root = be64(super + 56);
    fs->ag_blocks = be32(super + 84);
    fs->ag_count = be32(super + 88);
    fs->log_blocks = be32(super + 96);
    fs->inode_bytes = be16(super + 104);
    fs->inode_log = super[123];
    fs->ag_log = super[124];
    fs->free_blocks = be64(super + 144);
    if (fs->block < SECTOR || fs->block > 65536 || !power_of_two(fs->block) ||
        fs->inode_bytes < 256 || fs->inode_bytes > XFS_INODE_MAX ||
        !power_of_two(fs->inode_bytes) || fs->inode_log > 8 ||
        fs->block >> fs->inode_log != fs->inode_bytes || super[192] > 7 || fs->ag_log > 31 ||
        fs->ag_blocks == 0 || fs->ag_blocks > 1ull << fs->ag_log || fs->ag_count == 0)
        return false;
    fs->folder_block = fs->block << super[192];
    return fs->folder_block <= 65536 && fs->blocks <= fs->span->len / fs->block;
}

static bool take_version(struct xfs *fs, const uint8_t *super, size_t len) {
    enum { MORE = 0x8000, FOLDERS_2 = 0x2000, TYPED_4 = 0x200, TYPED_5 = 1 };
    uint16_t version = be16(super + 100);
    uint32_t incompat = be32(super + 216);

    fs->v5 = (version & 15) == 5;
    if (!fs->v5) {
        fs->typed = (version & MORE) && (be32(super + 200) & TYPED_4);
        return (version & 15) == 4 && (version & FOLDERS_2);
    }
    fs->typed = incompat & TYPED_5;
    fs->damaged = (incompat & REPAIR) ||
                  !checksum_fits(le32(super + 224), guest_crc32c_around(super, len, 224));
    return (incompat & ~(uint32_t) INCOMPAT_KNOWN) == 0;
}

static bool read_super(struct xfs *fs) {
    IM_AUTO(free_auto) uint8_t *super = im_alloc(SECTOR_MAX);
    size_t len;

    if (!span_read(fs->span, 0, super, SECTOR) || memcmp(super, "XFSB", 4) != 0)
        return false;
    len = be16(super + 102);
    return len >= SECTOR && len <= SECTOR_MAX && power_of_two(len) &&
           span_read(fs->span, 0, super, len) && take_shape(fs, super) &&
           take_version(fs, super, len);
}

/* --- Inodes ----------------------------------------------------------------------------------- */

bool xfs_place(const struct xfs *fs, uint64_t block, uint64_t count, uint64_t *ret_at) {
    uint64_t group = block >> fs->ag_log, within = block & ((1ull << fs->ag_log) - 1);
    uint64_t number;

    if (group >= fs->ag_count || within >= fs->ag_blocks || count > fs->ag_blocks - within)
        return false;
    number = group * fs->ag_blocks + within;
    if (number >= fs->blocks || count > fs->blocks - number)
        return false;
    *ret_at = number * fs->block;
    return true;
}

/* The inode as it is on the disk, kept until the next one is asked for. */
static const uint8_t *read_inode(struct xfs *fs, uint64_t number) {
    uint64_t at, within = number & ((1ull << fs->inode_log) - 1);

    if (number != 0 && fs->inode == number)
        return fs->inode_raw;
    fs->inode = 0;
    if (!xfs_place(fs, number >> fs->inode_log, 1, &at) ||
        !span_read(fs->span, at + within * fs->inode_bytes, fs->inode_raw, fs->inode_bytes) ||
        memcmp(fs->inode_raw, "IN", 2) != 0 || (fs->inode_raw[4] >= 3) != fs->v5 ||
        (fs->v5 && be64(fs->inode_raw + 152) != number))
        return NULL;
    fs->inode = number;
    return fs->inode_raw;
}

static uint32_t inode_mode(const uint8_t *inode) { return be16(inode + 2); }
static uint64_t inode_size(const uint8_t *inode) { return be64(inode + 56); }

/* What an inode holds itself of its content: bytes, extents, or the root of a tree of them. */
struct fork {
    enum fork_form form;
    const uint8_t *bytes;
    uint32_t len;
    uint64_t extents;
};

static bool data_fork(const struct xfs *fs, const uint8_t *inode, struct fork *ret_fork) {
    enum { ELSEWHERE = 1, MANY_EXTENTS = 0x10 };
    uint32_t head = fs->v5 ? 176 : 100, room = fs->inode_bytes - head;
    uint32_t len = inode[82] ? inode[82] * 8u : room;
    bool wide = fs->v5 && (be64(inode + 120) & MANY_EXTENTS);

    if (len > room || (be16(inode + 90) & ELSEWHERE))
        return false;
    *ret_fork =
        (struct fork){inode[5], inode + head, len, wide ? be64(inode + 24) : be32(inode + 76)};
    return true;
}

/* --- Where the blocks of a file are ----------------------------------------------------------- */

/* Blocks of a file in a row; `at` is their place on the span, `there` false: they are zeros. */
struct run {
    bool there;
    uint64_t at, count;
};

static bool take_extent(const struct xfs *fs, const uint8_t *record, uint64_t block,
                        struct run *ret_run) {
    uint64_t high = be64(record), low = be64(record + 8);
    uint64_t first = (high & INT64_MAX) >> 9, count = low & 0x1fffff;
    uint64_t place = (high & 0x1ff) << 43 | low >> 21;

    ret_run->there = !(high >> 63); /* set: reserved, never written */
    ret_run->count = count - (block - first);
    return xfs_place(fs, place, count, &ret_run->at) &&
           (ret_run->at += (block - first) * fs->block, true);
}

/* Records are in order. Where none holds the block, there is a hole up to the next one. */
static bool search_extents(const struct xfs *fs, const uint8_t *records, uint64_t count,
                           uint64_t block, struct run *ret_run) {
    for (uint64_t i = 0; i < count; i++) {
        uint64_t first = (be64(records + i * 16) & INT64_MAX) >> 9;
        uint64_t blocks = be64(records + i * 16 + 8) & 0x1fffff;

        if (first > block) {
            *ret_run = (struct run){.count = first - block};
            return true;
        }
        if (block - first < blocks)
            return take_extent(fs, records + i * 16, block, ret_run);
    }
    *ret_run = (struct run){.count = 1};
    return true;
}

/* Keys and pointers of a node: the last key that is not above the block leads on. */
static uint64_t descend(const uint8_t *keys, const uint8_t *pointers, uint32_t count,
                        uint64_t block) {
    uint32_t taken = 0;

    while (taken + 1 < count && be64(keys + (taken + 1) * 8) <= block)
        taken++;
    return be64(pointers + taken * 8);
}

static const uint8_t *tree_block(struct xfs *fs, uint64_t block, unsigned level) {
    uint64_t at;

    if (fs->held_block[level] == NULL)
        fs->held_block[level] = im_alloc(fs->block);
    else if (fs->held[level] == block)
        return fs->held_block[level];
    fs->held[level] = UINT64_MAX;
    if (!xfs_place(fs, block, 1, &at) || !span_read(fs->span, at, fs->held_block[level], fs->block))
        return NULL;
    fs->held[level] = block;
    return fs->held_block[level];
}

static bool search_tree(struct xfs *fs, const struct fork *fork, uint64_t block,
                        struct run *ret_run) {
    unsigned level = be16(fork->bytes);
    uint32_t count = be16(fork->bytes + 2), head = fs->v5 ? 72 : 24, most = (fork->len - 4) / 16;
    uint64_t next;

    if (level == 0 || level > XFS_LEVELS || count == 0 || count > most)
        return false;
    next = descend(fork->bytes + 4, fork->bytes + 4 + most * 8, count, block);
    most = (fs->block - head) / 16;
    while (level-- > 0) {
        const uint8_t *node = tree_block(fs, next, level);

        if (node == NULL || memcmp(node, fs->v5 ? "BMA3" : "BMAP", 4) != 0 ||
            be16(node + 4) != level || be16(node + 6) == 0 || be16(node + 6) > most)
            return false;
        count = be16(node + 6);
        if (level == 0)
            return search_extents(fs, node + head, count, block, ret_run);
        next = descend(node + head, node + head + most * 8, count, block);
    }
    return false;
}

static bool find_run(struct xfs *fs, const struct fork *fork, uint64_t block, struct run *ret_run) {
    if (fork->form == FORK_TREE)
        return fork->len >= 20 && search_tree(fs, fork, block, ret_run);
    return fork->form == FORK_EXTENTS && fork->extents <= fork->len / 16 &&
           search_extents(fs, fork->bytes, fork->extents, block, ret_run);
}

static bool read_blocks(struct xfs *fs, const struct fork *fork, uint64_t offset, uint8_t *bytes,
                        size_t len) {
    while (len > 0) {
        uint64_t within = offset % fs->block, now;
        struct run run;

        if (!find_run(fs, fork, offset / fs->block, &run))
            return false;
        if (__builtin_mul_overflow(run.count, fs->block, &now) || now - within > len)
            now = len;
        else
            now -= within;
        if (!run.there)
            memset(bytes, 0, (size_t) now);
        else if (!span_read(fs->span, run.at + within, bytes, (size_t) now))
            return false;
        bytes += now;
        offset += now;
        len -= (size_t) now;
    }
    return true;
}

/* --- Links ------------------------------------------------------------------------------------ */

/* Of version 5, each piece of a target begins with a header. */
static bool read_target(struct xfs *fs, const struct fork *fork, uint8_t *target, size_t len) {
    uint32_t head = fs->v5 ? 56 : 0;
    uint64_t block = 0;

    while (len > 0) {
        struct run run;
        uint8_t magic[4];
        uint64_t now;

        if (!find_run(fs, fork, block, &run) || !run.there || run.count > 64)
            return false;
        now = run.count * fs->block - head < len ? run.count * fs->block - head : len;
        if ((head > 0 && (!span_read(fs->span, run.at, magic, 4) || memcmp(magic, "XSLM", 4))) ||
            !span_read(fs->span, run.at + head, target, (size_t) now))
            return false;
        target += now;
        len -= (size_t) now;
        block += run.count;
    }
    return true;
}

static bool read_link(struct xfs *fs, const uint8_t *inode, const struct fork *fork,
                      uint8_t target[LINK_MAX]) {
    uint64_t size = inode_size(inode);

    if (size > LINK_MAX)
        return false;
    if (fork->form != FORK_INLINE)
        return read_target(fs, fork, target, (size_t) size);
    if (size > fork->len)
        return false;
    memcpy(target, fork->bytes, (size_t) size);
    return true;
}

/* --- Folders ---------------------------------------------------------------------------------- */

enum answer { MORE, ENOUGH, NONSENSE };
typedef bool entry_visit(void *arg, const char *name, size_t len, uint64_t inode);

/* A few names in the inode itself; their inodes' numbers take 4 bytes, or all of them 8. */
static enum answer walk_inline(const struct xfs *fs, const struct fork *fork, entry_visit *visit,
                               void *arg) {
    uint32_t wide = fork->len > 2 && fork->bytes[1] ? 8 : 4, at = 2 + wide;

    if (fork->len < 2 + wide)
        return NONSENSE;
    for (unsigned i = 0; i < fork->bytes[0]; i++) {
        uint32_t len = at + 3 <= fork->len ? fork->bytes[at] : 0, number = at + 3 + len + fs->typed;

        if (len == 0 || number + wide > fork->len)
            return NONSENSE;
        if (!visit(arg, (const char *) fork->bytes + at + 3, len,
                   wide == 8 ? be64(fork->bytes + number) : be32(fork->bytes + number)))
            return ENOUGH;
        at = number + wide;
    }
    return MORE;
}

/* Where the names of a block end; 0 = there are none in it. */
static uint32_t names_end(const struct xfs *fs, const uint8_t *block) {
    uint32_t index;

    if (memcmp(block, fs->v5 ? "XDD3" : "XD2D", 4) == 0)
        return fs->folder_block;
    if (memcmp(block, fs->v5 ? "XDB3" : "XD2B", 4) != 0)
        return 0;
    index = be32(block + fs->folder_block - 8); /* a folder of one block: its index is behind */
    return index > (fs->folder_block - 8) / 8 ? 0 : fs->folder_block - 8 - index * 8;
}

static enum answer walk_block(const struct xfs *fs, const uint8_t *block, entry_visit *visit,
                              void *arg) {
    uint32_t end = names_end(fs, block), at = fs->v5 ? 64 : 16;

    while (at + 16 <= end) {
        const uint8_t *entry = block + at;
        uint32_t len = entry[8], used = (8 + 1 + len + fs->typed + 2 + 7) & ~7u;

        if (be16(entry) == 0xffff) { /* unused */
            used = be16(entry + 2);
            if (used < 8 || used % 8)
                return NONSENSE;
        } else if (len == 0 || used > end - at) {
            return NONSENSE;
        } else if (!visit(arg, (const char *) entry + 9, len, be64(entry))) {
            return ENOUGH;
        }
        at += used;
    }
    return MORE;
}

/* "." and ".." come along where they are written down. Whoever visits may read other inodes. */
static enum answer walk_folder(struct xfs *fs, uint64_t number, entry_visit *visit, void *arg) {
    IM_AUTO(free_auto) uint8_t *block = NULL;
    uint8_t inode[XFS_INODE_MAX];
    enum answer answer = MORE;
    struct fork fork;
    uint64_t size;

    if (read_inode(fs, number) == NULL)
        return NONSENSE;
    memcpy(inode, fs->inode_raw, fs->inode_bytes);
    if (!S_ISDIR(inode_mode(inode)) || !data_fork(fs, inode, &fork))
        return NONSENSE;
    if (fork.form == FORK_INLINE)
        return walk_inline(fs, &fork, visit, arg);
    size = inode_size(inode) < FOLDER_MAX ? inode_size(inode) : FOLDER_MAX;
    block = im_alloc(fs->folder_block);
    for (uint64_t at = 0; answer == MORE && at + fs->folder_block <= size; at += fs->folder_block)
        answer = read_blocks(fs, &fork, at, block, fs->folder_block)
                     ? walk_block(fs, block, visit, arg)
                     : NONSENSE;
    return answer;
}

/* --- As fs_ops -------------------------------------------------------------------------------- */

static bool xfs_facts(void *state, const struct node *node, struct node_facts *ret_facts) {
    const uint8_t *inode = read_inode(state, node->id);

    if (inode == NULL)
        return false;
    *ret_facts = (struct node_facts){
        .kind = S_ISREG(inode_mode(inode))   ? NODE_FILE
                : S_ISDIR(inode_mode(inode)) ? NODE_FOLDER
                : S_ISLNK(inode_mode(inode)) ? NODE_LINK
                                             : NODE_OTHER,
        .mode = inode_mode(inode) & 07777,
        .uid = be32(inode + 8),
        .gid = be32(inode + 12),
        .size = inode_size(inode),
    };
    return true;
}

struct search {
    const char *name;
    size_t len;
    uint64_t inode;
};

static bool search_entry(void *arg, const char *name, size_t len, uint64_t inode) {
    struct search *search = arg;

    if (len != search->len || memcmp(name, search->name, len) != 0)
        return true;
    search->inode = inode;
    return false;
}

static bool xfs_find(void *state, const struct node *folder, const char *name, size_t len,
                     struct node *ret_node) {
    struct search search = {.name = name, .len = len};

    if (walk_folder(state, folder->id, search_entry, &search) != ENOUGH)
        return false;
    *ret_node = (struct node){.id = search.inode};
    return true;
}

struct listing {
    node_visit *visit;
    void *arg;
};

static bool list_entry(void *arg, const char *name, size_t len, uint64_t inode) {
    const struct listing *listing = arg;

    (void) inode;
    return listing->visit(listing->arg, name, len);
}

static bool xfs_list(void *state, const struct node *folder, node_visit *visit, void *arg) {
    struct listing listing = {visit, arg};

    return walk_folder(state, folder->id, list_entry, &listing) != NONSENSE;
}

static bool xfs_read(void *state, const struct node *node, uint64_t offset, void *bytes, size_t len,
                     size_t *ret_got) {
    const uint8_t *inode = read_inode(state, node->id);
    uint8_t target[LINK_MAX];
    struct fork fork;
    uint64_t size;

    if (inode == NULL || !data_fork(state, inode, &fork))
        return false;
    size = inode_size(inode);
    len = offset >= size ? 0 : size - offset < len ? (size_t) (size - offset) : len;
    *ret_got = len;
    if (!S_ISLNK(inode_mode(inode)))
        return S_ISREG(inode_mode(inode)) && read_blocks(state, &fork, offset, bytes, len);
    if (!read_link(state, inode, &fork, target))
        return false;
    memcpy(bytes, target + (len > 0 ? offset : 0), len);
    return true;
}

static bool xfs_space(void *state, uint64_t *ret_size, uint64_t *ret_free) {
    const struct xfs *fs = state;

    *ret_size = fs->blocks * fs->block;
    *ret_free = fs->free_blocks < fs->blocks ? fs->free_blocks * fs->block : *ret_size;
    return true;
}

static void xfs_check(void *state, const struct guest_part *part) {
    const struct xfs *fs = state;
    struct look *look = fs->span->look;

    if (fs->log_block == 0)
        look_found(look, GUEST_FOUND_FS_DEVICES,
                   "the xfs file system on %s keeps its log on another device", part->name);
    if (fs->real_blocks != 0)
        look_found(look, GUEST_FOUND_FS_DEVICES,
                   "the xfs file system on %s has a realtime volume, which is another device",
                   part->name);
    if (fs->damaged)
        look_found(look, GUEST_FOUND_FS_DAMAGED,
                   "the xfs file system on %s is marked as damaged, or its superblock is",
                   part->name);
    else if (xfs_in_use(fs))
        look_found(look, GUEST_FOUND_FS_DIRTY,
                   "the xfs file system on %s was in use when the disk was backed up", part->name);
}

static void xfs_close(void *state) {
    struct xfs *fs = state;

    for (size_t i = 0; i < XFS_LEVELS; i++)
        free(fs->held_block[i]);
    free(fs);
}
IM_DEFINE_AUTO(void *, xfs_close)

static bool xfs_open(const struct span *span, const struct guest_part *part, void **ret_state,
                     struct node *ret_root) {
    IM_AUTO(xfs_close_auto) void *state = im_alloc(sizeof(struct xfs));
    struct xfs *fs = state;

    (void) part;
    fs->span = span;
    if (!read_super(fs))
        return false;
    *ret_root = (struct node){.id = fs->root};
    *ret_state = im_steal(&state);
    return true;
}

const struct fs_ops xfs_ops = {
    .open = xfs_open,
    .facts = xfs_facts,
    .find = xfs_find,
    .list = xfs_list,
    .read = xfs_read,
    .space = xfs_space,
    .check = xfs_check,
    .close = xfs_close,
};
