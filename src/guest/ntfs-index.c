/* SPDX-License-Identifier: Apache-2.0 */
/* Folders of NTFS: a tree of names whose top lies in the folder's record, and whose other blocks
 * lie in an attribute of their own. A name is looked up along the tree; to list all, the blocks
 * that a bitmap says are in use are read in a row. */
#include <ctype.h>

#include "ntfs.h"

enum { NAMES = 0x30, HAS_BELOW = 1, IS_LAST = 2, SHORT_NAME = 2 };
enum { DEPTH_MAX = 32, INDEX_BYTES_MAX = 65536, BITMAP_BYTES = 65536 };
#define SEQUENCE_SHIFT 48

/* --- Names ------------------------------------------------------------------------------------ */

/* Which letters are the same, the file system tells itself, in a table of 65536. */
static void load_upcase(struct ntfs *fs) {
    const size_t size = 65536 * 2;
    IM_AUTO(free_auto) uint8_t *bytes = NULL;
    size_t len = 0;

    fs->upcase_tried = true;
    bytes = ntfs_content(fs, NTFS_UPCASE, NTFS_DATA, size, &len);
    if (bytes == NULL || len != size)
        return;
    fs->upcase = im_alloc(size);
    for (size_t i = 0; i < 65536; i++)
        fs->upcase[i] = le16(bytes + 2 * i);
}

static uint16_t upper(struct ntfs *fs, uint16_t wide) {
    if (wide < 0x80)
        return (uint16_t) toupper(wide);
    if (!fs->upcase_tried)
        load_upcase(fs);
    return fs->upcase != NULL ? fs->upcase[wide] : wide;
}

struct key {
    uint16_t wide[NTFS_NAME_MAX];
    size_t len;
};

/* False if it is too long, or no text. */
static bool take_key(struct key *key, const char *name, size_t len) {
    key->len = 0;
    for (size_t at = 0; at < len;) {
        uint32_t code;
        size_t used = utf8_take(name + at, len - at, &code);

        if (used == 0 || key->len + (code >= 0x10000) >= NTFS_NAME_MAX)
            return false;
        at += used;
        if (code >= 0x10000) {
            key->wide[key->len++] = (uint16_t) (0xd800 + ((code - 0x10000) >> 10));
            code = 0xdc00 + ((code - 0x10000) & 0x3ff);
        }
        key->wide[key->len++] = (uint16_t) code;
    }
    return true;
}

/* Letter by letter as they are; a beginning comes before the whole. */
static int compare_exact(const struct key *key, const uint8_t *name, size_t len) {
    for (size_t i = 0; i < key->len && i < len; i++)
        if (key->wide[i] != le16(name + 2 * i))
            return key->wide[i] < le16(name + 2 * i) ? -1 : 1;
    return key->len < len ? -1 : key->len > len;
}

/* The order of a folder. */
static int compare(struct ntfs *fs, const struct key *key, const uint8_t *name, size_t len,
                   bool *ret_alike) {
    *ret_alike = false;
    for (size_t i = 0; i < key->len && i < len; i++) {
        uint16_t ours = key->wide[i], theirs = le16(name + 2 * i);

        if (ours == theirs)
            continue;
        ours = upper(fs, ours);
        theirs = upper(fs, theirs);
        if (ours != theirs)
            return ours < theirs ? -1 : 1;
    }
    if (key->len != len)
        return key->len < len ? -1 : 1;
    *ret_alike = true;
    return compare_exact(key, name, len);
}

/* --- Entries ---------------------------------------------------------------------------------- */

struct entry {
    uint64_t where; /* number and sequence of the record */
    const uint8_t *name;
    size_t len;     /* of the name, in characters; 0 in the last entry, which has none */
    unsigned space; /* of the name: SHORT_NAME … */
    bool last, has_below;
    uint64_t below; /* the block with what comes before this entry */
};
struct entries {
    const uint8_t *at, *end;
};

/* They follow a head, of which `len` bytes are there with all behind it. */
static bool entries_of(const uint8_t *head, size_t len, struct entries *ret_entries) {
    size_t first = le32(head), used = le32(head + 4);

    if (first < 16 || used > len || first > used)
        return false;
    *ret_entries = (struct entries){head + first, head + used};
    return true;
}

static bool next_entry(struct entries *entries, struct entry *ret_entry) {
    const uint8_t *at = entries->at;
    size_t left = (size_t) (entries->end - at), len, flags;

    if (left < 16)
        return false;
    len = le16(at + 8);
    flags = le16(at + 12);
    if (len < 16 || len > left || ((flags & HAS_BELOW) && len < 24))
        return false;
    *ret_entry = (struct entry){.where = le64(at),
                                .last = flags & IS_LAST,
                                .has_below = flags & HAS_BELOW,
                                .below = flags & HAS_BELOW ? le64(at + len - 8) : 0};
    if (!ret_entry->last) {
        if (len < 16 + 66 || 16 + 66 + 2u * at[16 + 64] > len)
            return false;
        ret_entry->name = at + 16 + 66;
        ret_entry->len = at[16 + 64];
        ret_entry->space = at[16 + 65];
    }
    entries->at = at + len;
    return true;
}

static struct node node_of(const struct entry *entry) {
    return (struct node){.id = entry->where & ((1ull << SEQUENCE_SHIFT) - 1),
                         .within = entry->where >> SEQUENCE_SHIFT};
}

/* --- Folders ---------------------------------------------------------------------------------- */

struct folder {
    struct ntfs *fs;
    struct ntfs_stream top, blocks;
    bool has_blocks;
    uint8_t *record, *bitmap, *block; /* owned */
    size_t bitmap_len;
    uint32_t size; /* of a block */
};

static void folder_close(struct folder *folder) {
    ntfs_stream_close(&folder->top);
    ntfs_stream_close(&folder->blocks);
    free(folder->record);
    free(folder->bitmap);
    free(folder->block);
}

static void open_blocks(struct folder *folder, uint64_t number) {
    struct ntfs *fs = folder->fs;
    struct ntfs_stream bitmap;

    folder->has_blocks =
        ntfs_stream_open(fs, number, folder->record, NTFS_INDEX_BLOCKS, "$I30", &folder->blocks);
    if (!folder->has_blocks ||
        !ntfs_stream_open(fs, number, folder->record, NTFS_BITMAP, "$I30", &bitmap))
        return;
    folder->bitmap = im_alloc(BITMAP_BYTES);
    if (!ntfs_stream_read(fs, &bitmap, 0, folder->bitmap, BITMAP_BYTES, &folder->bitmap_len))
        folder->bitmap_len = 0;
    ntfs_stream_close(&bitmap);
}

static bool folder_open(struct ntfs *fs, const struct node *node, struct folder *folder) {
    *folder = (struct folder){.fs = fs, .record = im_alloc(fs->record)};
    if (!ntfs_inode(fs, node, folder->record) ||
        !ntfs_stream_open(fs, node->id, folder->record, NTFS_INDEX_ROOT, "$I30", &folder->top) ||
        folder->top.resident == NULL || folder->top.size < 32 ||
        le32(folder->top.resident) != NAMES)
        return false;
    folder->size = le32(folder->top.resident + 8);
    if (folder->size < SECTOR || folder->size > INDEX_BYTES_MAX || !power_of_two(folder->size))
        return false;
    folder->block = im_alloc(folder->size);
    open_blocks(folder, node->id);
    return true;
}

static bool top_entries(const struct folder *folder, struct entries *ret_entries) {
    return entries_of(folder->top.resident + 16, (size_t) folder->top.size - 16, ret_entries);
}

/* Good until the next block is read. */
static bool block_entries(struct folder *folder, uint64_t offset, struct entries *ret_entries) {
    size_t got;

    return folder->has_blocks &&
           ntfs_stream_read(folder->fs, &folder->blocks, offset, folder->block, folder->size,
                            &got) &&
           got == folder->size && memcmp(folder->block, "INDX", 4) == 0 &&
           ntfs_fix(folder->block, folder->size) &&
           entries_of(folder->block + 24, folder->size - 24, ret_entries);
}

/* Blocks are counted in clusters, or in sectors where they are smaller than a cluster. */
static bool below(struct folder *folder, uint64_t number, struct entries *ret_entries) {
    uint32_t each = folder->size >= folder->fs->cluster ? folder->fs->cluster : SECTOR;
    uint64_t offset;

    return !__builtin_mul_overflow(number, each, &offset) &&
           block_entries(folder, offset, ret_entries);
}

/* --- Looking up ------------------------------------------------------------------------------- */

/* Among these entries: false when it cannot be below them either, or is found exactly. */
static bool seek(struct folder *folder, struct entries *entries, const struct key *key,
                 struct node *ret_node, bool *found) {
    struct entry entry;

    while (next_entry(entries, &entry)) {
        bool alike = false;
        int order = entry.last ? -1 : compare(folder->fs, key, entry.name, entry.len, &alike);

        if (alike && (order == 0 || !*found)) {
            *ret_node = node_of(&entry);
            *found = true;
        }
        if (order == 0)
            return false;
        if (order < 0)
            return entry.has_below && below(folder, entry.below, entries);
        if (entry.last)
            return false;
    }
    return false;
}

bool ntfs_find(void *state, const struct node *node, const char *name, size_t len,
               struct node *ret_node) {
    struct folder folder;
    struct entries entries;
    struct key key;
    bool found = false;

    if (!take_key(&key, name, len))
        return false;
    if (folder_open(state, node, &folder) && top_entries(&folder, &entries))
        for (unsigned depth = 0; depth < DEPTH_MAX; depth++)
            if (!seek(&folder, &entries, &key, ret_node, &found))
                break;
    folder_close(&folder);
    return found;
}

/* --- Listing ---------------------------------------------------------------------------------- */

static size_t text_of(const struct entry *entry, char *out) {
    size_t used = 0;

    for (size_t i = 0; i < entry->len; i++) {
        uint32_t code = le16(entry->name + 2 * i), low;

        if (code >= 0xd800 && code < 0xdc00 && i + 1 < entry->len &&
            (low = le16(entry->name + 2 * i + 2)) >= 0xdc00 && low < 0xe000) {
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            i++;
        }
        used += utf8_put(out + used, code == '/' ? '?' : code);
    }
    return used;
}

/* Each file has one name that counts; the file system's own records are no files of anybody's.
 * False: enough. */
static bool visit_all(struct entries *entries, node_visit *visit, void *arg) {
    char text[NTFS_NAME_MAX * 3 + 1];
    struct entry entry;

    while (next_entry(entries, &entry) && !entry.last)
        if (entry.space != SHORT_NAME && node_of(&entry).id >= NTFS_RESERVED &&
            !visit(arg, text, text_of(&entry, text)))
            return false;
    return true;
}

static bool visit_blocks(struct folder *folder, node_visit *visit, void *arg) {
    struct entries entries;

    for (size_t i = 0; i < folder->bitmap_len * 8; i++) {
        if (!(folder->bitmap[i / 8] >> i % 8 & 1))
            continue;
        if (!block_entries(folder, (uint64_t) i * folder->size, &entries))
            return false;
        if (!visit_all(&entries, visit, arg))
            break;
    }
    return true;
}

bool ntfs_list(void *state, const struct node *node, node_visit *visit, void *arg) {
    struct folder folder;
    struct entries entries;
    bool fine = folder_open(state, node, &folder) && top_entries(&folder, &entries);

    if (fine && visit_all(&entries, visit, arg))
        fine = visit_blocks(&folder, visit, arg);
    folder_close(&folder);
    return fine;
}
