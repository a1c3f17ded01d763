/* SPDX-License-Identifier: Apache-2.0 */
/* Files of FAT 12, 16 and 32, with long names; and what a UEFI firmware finds there. A node is a
 * first cluster, and beside it the size of a file or the mark of a folder: FAT has no inodes. */
#include <ctype.h>
#include <stdio.h>

#include "tree.h"

enum { ENTRY = 32, DIRECTORY = 0x10, VOLUME_LABEL = 0x08, LONG_NAME = 0x0f, DELETED = 0xe5 };
#define FOLDER (1ull << 32)     /* of node.within; below it is the size */
#define FOLDER_BYTES (2u << 20) /* 65536 entries, as many as there may be */
#define CLUSTER_BYTES 262144u   /* the largest there is */
#define CHAIN_MAX (1u << 22)    /* clusters that are followed for one file */
#define WINDOW 4096u            /* of the table, read at once */
#define PIECES 20u              /* of a long name, of 13 characters each */
#define NAME_BYTES (PIECES * 13u * 3u + 1u)

struct fat {
    const struct span *span;
    unsigned bits;
    uint32_t cluster_bytes, clusters, root_cluster;
    uint64_t fat_at, root_at, root_bytes, data_at;
    uint64_t window_at; /* UINT64_MAX: nothing was read yet */
    uint8_t window[WINDOW + 4];
    /* Where the last file was left: reading goes on there. */
    uint32_t first, cluster, index;
};

/* --- The file system -------------------------------------------------------------------------- */

static bool take_form(const uint8_t *boot, struct fat *fat) {
    uint32_t sector = le16(boot + 11), each = boot[13], reserved = le16(boot + 14), fats = boot[16],
             root_entries = le16(boot + 17),
             total = le16(boot + 19) ? le16(boot + 19) : le32(boot + 32),
             fat_sectors = le16(boot + 22) ? le16(boot + 22) : le32(boot + 36);

    if (boot[510] != 0x55 || boot[511] != 0xaa || sector < 512 || sector > 4096 ||
        !power_of_two(sector) || !power_of_two(each) || sector * each > CLUSTER_BYTES ||
        reserved == 0 || fats == 0 || fats > 2 || fat_sectors == 0)
        return false;
    fat->cluster_bytes = sector * each;
    fat->fat_at = (uint64_t) reserved * sector;
    fat->root_at = fat->fat_at + (uint64_t) fats * fat_sectors * sector;
    fat->root_bytes = ceil_div((uint64_t) root_entries * ENTRY, sector) * sector;
    fat->data_at = fat->root_at + fat->root_bytes;
    if (fat->data_at / sector >= total)
        return false;
    fat->clusters = (uint32_t) ((total - fat->data_at / sector) / each);
    fat->bits = fat->clusters < 4085 ? 12 : fat->clusters < 65525 ? 16 : 32;
    fat->root_cluster = fat->bits == 32 ? le32(boot + 44) : 0;
    return true;
}

static bool fat_open(const struct span *span, const struct guest_part *part, void **ret_state,
                     struct node *ret_root) {
    IM_AUTO(free_auto) struct fat *fat = im_alloc(sizeof(*fat));
    uint8_t boot[SECTOR];

    (void) part;
    fat->span = span;
    fat->window_at = UINT64_MAX;
    if (!span_read(span, 0, boot, sizeof(boot)) || !take_form(boot, fat))
        return false;
    *ret_root = (struct node){.id = fat->root_cluster, .within = FOLDER};
    *ret_state = im_steal(&fat);
    return true;
}

/* Entries of 12 bits may lie across two windows: each has a few bytes of the next. */
static const uint8_t *fat_entry(struct fat *fat, uint64_t within) {
    uint64_t at = fat->fat_at + within / WINDOW * WINDOW;
    size_t len = fat->span->len - at < sizeof(fat->window) ? (size_t) (fat->span->len - at)
                                                           : sizeof(fat->window);

    if (at > fat->span->len)
        return NULL;
    if (fat->window_at != at) {
        memset(fat->window, 0, sizeof(fat->window));
        fat->window_at = UINT64_MAX;
        if (!span_read(fat->span, at, fat->window, len))
            return NULL;
        fat->window_at = at;
    }
    return fat->window + within % WINDOW;
}

static bool in_range(const struct fat *fat, uint32_t cluster) {
    return cluster >= 2 && cluster - 2 < fat->clusters;
}

/* The cluster that follows; 0 at the end and where the table makes no sense. */
static uint32_t fat_next(struct fat *fat, uint32_t cluster) {
    const uint8_t *entry = fat_entry(fat, (uint64_t) cluster * fat->bits / 8);
    uint32_t next;

    if (entry == NULL)
        return 0;
    next = fat->bits == 32 ? le32(entry) & 0x0fffffff : le16(entry);
    if (fat->bits == 12)
        next = cluster % 2 ? next >> 4 : next & 0xfff;
    return in_range(fat, next) ? next : 0;
}

/* --- Bytes of files --------------------------------------------------------------------------- */

/* The n-th cluster of the chain that begins at `first`; 0 when it is shorter. */
static uint32_t cluster_at(struct fat *fat, uint32_t first, uint32_t index) {
    if (fat->first != first || fat->index > index || fat->cluster == 0) {
        fat->first = first;
        fat->index = 0;
        fat->cluster = in_range(fat, first) ? first : 0;
    }
    if (index - fat->index > CHAIN_MAX)
        return 0;
    while (fat->index < index && fat->cluster != 0) {
        fat->cluster = fat_next(fat, fat->cluster);
        fat->index++;
    }
    return fat->cluster;
}

/* Clusters in a row are read at once; stops early where the chain ends. */
static bool chain_read(struct fat *fat, uint32_t first, uint64_t offset, uint8_t *bytes, size_t len,
                       size_t *ret_got) {
    size_t got = 0;

    while (got < len) {
        uint32_t within = (uint32_t) ((offset + got) % fat->cluster_bytes);
        uint32_t begin = cluster_at(fat, first, (uint32_t) ((offset + got) / fat->cluster_bytes));
        uint32_t last = begin;
        uint64_t run = fat->cluster_bytes - within;

        if (begin == 0)
            break;
        while (run < len - got && cluster_at(fat, first, fat->index + 1) == last + 1) {
            last++;
            run += fat->cluster_bytes;
        }
        if (run > len - got)
            run = len - got;
        if (!span_read(fat->span,
                       fat->data_at + (uint64_t) (begin - 2) * fat->cluster_bytes + within,
                       bytes + got, (size_t) run))
            return false;
        got += (size_t) run;
    }
    *ret_got = got;
    return true;
}

static bool fat_read(void *state, const struct node *node, uint64_t offset, void *bytes, size_t len,
                     size_t *ret_got) {
    uint64_t size = node->within;

    if (node->within >= FOLDER)
        return false;
    *ret_got = 0;
    if (offset >= size)
        return true;
    if (len > size - offset)
        len = (size_t) (size - offset);
    return chain_read(state, (uint32_t) node->id, offset, bytes, len, ret_got);
}

static bool fat_facts(void *state, const struct node *node, struct node_facts *ret_facts) {
    bool folder = node->within >= FOLDER;

    (void) state;
    *ret_facts = (struct node_facts){.kind = folder ? NODE_FOLDER : NODE_FILE,
                                     .mode = folder ? 0755 : 0644,
                                     .size = folder ? 0 : node->within};
    return true;
}

/* --- Names ------------------------------------------------------------------------------------ */

struct name {
    uint16_t wide[PIECES * 13];
    unsigned left; /* pieces that are still to come; the last one comes first */
    unsigned pieces;
    uint8_t sum;
};

static uint8_t short_sum(const uint8_t *entry) {
    uint8_t sum = 0;

    for (unsigned i = 0; i < 11; i++)
        sum = (uint8_t) ((sum >> 1 | sum << 7) + entry[i]);
    return sum;
}

static void take_piece(struct name *name, const uint8_t *entry) {
    static const uint8_t places[13] = {1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30};
    unsigned number = entry[0] & 0x3f;

    if (entry[0] & 0x40) {
        name->pieces = number <= PIECES ? number : 0;
        name->left = name->pieces;
        name->sum = entry[13];
    }
    if (number == 0 || number != name->left || entry[13] != name->sum) {
        name->pieces = 0;
        return;
    }
    for (unsigned i = 0; i < 13; i++)
        name->wide[(number - 1) * 13 + i] = le16(entry + places[i]);
    name->left--;
}

static size_t short_name(const uint8_t *entry, char out[16]) {
    enum { LOWER_BASE = 0x08, LOWER_REST = 0x10 };
    size_t used = 0;

    for (size_t i = 0; i < 11; i++) {
        bool lower = entry[12] & (i < 8 ? LOWER_BASE : LOWER_REST);
        int c = i == 0 && entry[0] == 0x05 ? DELETED : entry[i];

        if (c == ' ')
            continue;
        if (i >= 8 && memchr(out, '.', used) == NULL)
            out[used++] = '.';
        out[used++] = (char) (c < 0x20 || c >= 0x7f || c == '/' ? '?' : lower ? tolower(c) : c);
    }
    return used;
}

/* The long name where there is a whole one. */
static size_t name_of(const struct name *name, const uint8_t *entry, char out[NAME_BYTES]) {
    size_t used = 0;

    if (name->pieces == 0 || name->left != 0 || name->sum != short_sum(entry))
        return short_name(entry, out);
    for (size_t i = 0; i < (size_t) name->pieces * 13 && name->wide[i] != 0; i++)
        used += utf8_put(out + used, name->wide[i] == '/' ? '?' : name->wide[i]);
    return used;
}

/* --- Folders ---------------------------------------------------------------------------------- */

/* False: enough. */
typedef bool entry_visit(void *arg, const uint8_t *entry, const char *name, size_t len);

/* The fixed root of FAT 12 and 16 is no chain of clusters. */
static bool folder_read(struct fat *fat, uint32_t first, uint64_t offset, uint8_t *bytes,
                        size_t len, size_t *ret_got) {
    if (first != 0 || fat->bits == 32)
        return chain_read(fat, first != 0 ? first : fat->root_cluster, offset, bytes, len, ret_got);
    *ret_got = offset >= fat->root_bytes        ? 0
               : fat->root_bytes - offset < len ? (size_t) (fat->root_bytes - offset)
                                                : len;
    return span_read(fat->span, fat->root_at + offset, bytes, *ret_got);
}

/* False at the end of the folder, or when the visitor has enough. */
static bool visit_piece(const uint8_t *bytes, size_t len, struct name *name, entry_visit *visit,
                        void *arg) {
    for (size_t at = 0; at + ENTRY <= len; at += ENTRY) {
        const uint8_t *entry = bytes + at;
        char text[NAME_BYTES];

        if (entry[0] == 0)
            return false;
        if (entry[0] != DELETED && entry[11] == LONG_NAME) {
            take_piece(name, entry);
            continue;
        }
        if (entry[0] != DELETED && entry[0] != '.' && !(entry[11] & VOLUME_LABEL) &&
            !visit(arg, entry, text, name_of(name, entry, text)))
            return false;
        name->pieces = 0;
    }
    return true;
}

static bool folder_each(struct fat *fat, const struct node *folder, entry_visit *visit, void *arg) {
    size_t piece = fat->cluster_bytes < WINDOW ? WINDOW : fat->cluster_bytes, got = piece;
    IM_AUTO(free_auto) uint8_t *bytes = NULL;
    struct name name = {.pieces = 0};

    if (folder->within < FOLDER)
        return false;
    bytes = im_alloc(piece);
    for (uint64_t at = 0; at < FOLDER_BYTES && got == piece; at += piece) {
        if (!folder_read(fat, (uint32_t) folder->id, at, bytes, piece, &got))
            return false;
        if (!visit_piece(bytes, got, &name, visit, arg))
            return true;
    }
    return true;
}

static struct node node_of(const uint8_t *entry) {
    uint32_t first = (uint32_t) le16(entry + 20) << 16 | le16(entry + 26);

    return (struct node){.id = first, .within = entry[11] & DIRECTORY ? FOLDER : le32(entry + 28)};
}

struct search {
    const char *name;
    size_t len;
    bool found;
    struct node node;
};

static bool match(void *arg, const uint8_t *entry, const char *name, size_t len) {
    struct search *search = arg;
    char plain[16];
    size_t plain_len = short_name(entry, plain);

    if ((len != search->len || strncasecmp(name, search->name, len) != 0) &&
        (plain_len != search->len || strncasecmp(plain, search->name, plain_len) != 0))
        return true;
    search->found = true;
    search->node = node_of(entry);
    return false;
}

static bool fat_find(void *state, const struct node *folder, const char *name, size_t len,
                     struct node *ret_node) {
    struct search search = {.name = name, .len = len};

    if (!folder_each(state, folder, match, &search) || !search.found)
        return false;
    *ret_node = search.node;
    return true;
}

struct listing {
    node_visit *visit;
    void *arg;
};

static bool list_entry(void *arg, const uint8_t *entry, const char *name, size_t len) {
    const struct listing *listing = arg;

    (void) entry;
    return listing->visit(listing->arg, name, len);
}

static bool fat_list(void *state, const struct node *folder, node_visit *visit, void *arg) {
    struct listing listing = {visit, arg};

    return folder_each(state, folder, list_entry, &listing);
}

static void fat_close(void *state) { free(state); }

const struct fs_ops fat_ops = {
    .open = fat_open,
    .facts = fat_facts,
    .find = fat_find,
    .list = fat_list,
    .read = fat_read,
    .close = fat_close,
};

/* --- What a firmware finds -------------------------------------------------------------------- */

#define FOLDERS_MAX 64u /* below /EFI */

struct loaders {
    const struct tree *tree;
    char folder[NAME_BYTES + 8];
    unsigned folders;
    bool any, fallback;
};

static bool see_loader(void *arg, const char *name, size_t len) {
    struct loaders *loaders = arg;
    IM_AUTO(free_auto) char *path = im_printf("%s/%.*s", loaders->folder, (int) len, name);
    struct file file;

    if (len < 4 || strncasecmp(name + len - 4, ".efi", 4) != 0 ||
        !tree_find(loaders->tree, path, &file) || file.facts.kind != NODE_FILE ||
        file.facts.size == 0)
        return true;
    loaders->any = true;
    loaders->fallback |= strcasecmp(path, "/EFI/BOOT/BOOTX64.EFI") == 0 ||
                         strcasecmp(path, "/EFI/BOOT/BOOTAA64.EFI") == 0;
    return !loaders->fallback;
}

static bool see_folder(void *arg, const char *name, size_t len) {
    struct loaders *loaders = arg;

    snprintf(loaders->folder, sizeof(loaders->folder), "/EFI/%.*s", (int) len, name);
    (void) tree_list(loaders->tree, loaders->folder, see_loader, loaders);
    return !loaders->fallback && ++loaders->folders < FOLDERS_MAX;
}

enum fat_answer fat_loader(const struct span *span) {
    struct volume volume = {.span = *span, .ops = &fat_ops};
    struct loaders loaders = {.any = false};
    struct tree tree;

    if (!fat_open(&volume.span, NULL, &volume.state, &volume.root))
        return FAT_UNREADABLE;
    tree = tree_of(&volume);
    loaders.tree = &tree;
    (void) tree_list(&tree, "/EFI", see_folder, &loaders);
    fat_close(volume.state);
    return loaders.fallback ? FAT_FALLBACK : loaders.any ? FAT_VENDOR : FAT_NOTHING;
}
