/* SPDX-License-Identifier: Apache-2.0 */
/* How many packages rpm has installed: by its SQLite file, where the entries of its table of names
 * are counted page by page, or by the table at the beginning of its own format, ndb. Only what such
 * a count needs is read. */
#include "system.h"

enum {
    PAGES_MAX = 4096,
    LEVELS_MAX = 4,
    PACKAGES_MAX = 1000000,
    TABLE_INNER = 5,
    TABLE_LEAF = 13,
    FILE_HEADER = 100 /* before the header of the first page */
};

struct pages {
    struct file file;
    size_t size;
    uint64_t count;
    unsigned left; /* pages that may still be read */
};

static bool read_page(struct pages *pages, uint32_t number, uint8_t *page) {
    size_t got = 0;

    if (number == 0 || number > pages->count || pages->left == 0)
        return false;
    pages->left--;
    return file_read(&pages->file, (uint64_t) (number - 1) * pages->size, page, pages->size,
                     &got) &&
           got == pages->size;
}

/* Their numbers: up to nine bytes of seven bits, the highest first. */
static bool take_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret_value) {
    uint64_t value = 0;

    for (unsigned i = 0; i < 9 && *at < end; i++) {
        uint8_t byte = *(*at)++;

        value = i == 8 ? value << 8 | byte : value << 7 | (byte & 0x7f);
        if (i == 8 || (byte & 0x80) == 0) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* A row of sqlite_schema: type, name, tbl_name, rootpage, sql. */
static uint32_t root_in_row(const uint8_t *at, const uint8_t *end) {
    const uint8_t *values, *head = at;
    uint64_t head_len, kinds[4], name = 0, number_len;
    uint32_t root = 0;

    if (!take_varint(&at, end, &head_len) || head_len > (uint64_t) (end - head))
        return 0;
    values = head + head_len;
    for (size_t i = 0; i < 4; i++)
        if (!take_varint(&at, values, &kinds[i]))
            return 0;
    for (size_t i = 0; i < 3; i++) {
        uint64_t len = kinds[i] >= 13 && kinds[i] % 2 == 1 ? (kinds[i] - 13) / 2 : UINT64_MAX;

        if (len > (uint64_t) (end - values))
            return 0;
        name += i < 2 && len == (i == 0 ? 5u : 4u) &&
                memcmp(values, i == 0 ? "table" : "Name", (size_t) len) == 0;
        values += len;
    }
    number_len = kinds[3];
    if (name != 2 || number_len < 1 || number_len > 4 || number_len > (uint64_t) (end - values))
        return 0;
    for (uint64_t i = 0; i < number_len; i++)
        root = root << 8 | values[i];
    return root;
}

/* The first page is the schema's, which is small: a leaf. */
static uint32_t root_of_names(const uint8_t *page, size_t size) {
    const uint8_t *head = page + FILE_HEADER;
    size_t cells = be16(head + 3);

    if (head[0] != TABLE_LEAF)
        return 0;
    for (size_t i = 0; i < cells && FILE_HEADER + 8 + 2 * i + 2 <= size; i++) {
        size_t offset = be16(head + 8 + 2 * i);
        const uint8_t *at = page + offset;
        uint64_t len, row;
        uint32_t root;

        if (offset >= size || !take_varint(&at, page + size, &len) ||
            !take_varint(&at, page + size, &row))
            continue;
        root = root_in_row(at, page + size);
        if (root != 0)
            return root;
    }
    return 0;
}

/* Entries of the tree below a page; bounded by its levels and by the pages that are left. */
static unsigned count_below(struct pages *pages, uint32_t number, unsigned levels) {
    IM_AUTO(free_auto) uint8_t *page = im_alloc(pages->size);
    unsigned count = 0;
    size_t cells;

    if (number == 1 || !read_page(pages, number, page))
        return 0;
    cells = be16(page + 3);
    if (page[0] == TABLE_LEAF)
        return (unsigned) cells;
    if (page[0] != TABLE_INNER || levels == 0)
        return 0;
    for (size_t i = 0; i < cells && 12 + 2 * i + 2 <= pages->size && pages->left > 0; i++) {
        size_t at = be16(page + 12 + 2 * i);

        if (at + 4 <= pages->size)
            count += count_below(pages, be32(page + at), levels - 1);
    }
    return count + count_below(pages, be32(page + 8), levels - 1);
}

static unsigned count_file(const struct tree *tree, const char *path) {
    struct pages pages = {.left = PAGES_MAX};
    IM_AUTO(free_auto) uint8_t *first = NULL;
    uint8_t head[FILE_HEADER];
    unsigned count;
    uint32_t root;
    size_t got = 0;

    if (!tree_find(tree, path, &pages.file) || pages.file.facts.kind != NODE_FILE ||
        !file_read(&pages.file, 0, head, sizeof(head), &got) || got < sizeof(head) ||
        memcmp(head, "SQLite format 3", 16) != 0)
        return 0;
    pages.size = be16(head + 16) == 1 ? 65536 : be16(head + 16);
    if (pages.size < 512 || !power_of_two(pages.size))
        return 0;
    pages.count = pages.file.facts.size / pages.size;
    first = im_alloc(pages.size);
    if (!read_page(&pages, 1, first))
        return 0;
    root = root_of_names(first, pages.size);
    count = root != 0 ? count_below(&pages, root, LEVELS_MAX) : 0;
    return count < PACKAGES_MAX ? count : 0;
}

/* --- ndb, as SUSE's systems have it ----------------------------------------------------------- */

enum { NDB_PAGE = 4096, NDB_SLOT = 16, NDB_PAGES_MAX = 1024 };

/* Slots of 16 bytes fill the first pages, but for two in whose place the header is: a magic, the
 * package's number or 0, and where it lies. */
static unsigned count_slots(const struct tree *tree, const char *path) {
    uint8_t page[NDB_PAGE];
    unsigned count = 0;
    uint32_t pages = 1;
    struct file file;
    size_t got = 0;

    if (!tree_find(tree, path, &file) || file.facts.kind != NODE_FILE)
        return 0;
    for (uint32_t i = 0; i < pages && i < NDB_PAGES_MAX; i++) {
        if (!file_read(&file, (uint64_t) i * NDB_PAGE, page, sizeof(page), &got) ||
            got != sizeof(page) || (i == 0 && memcmp(page, "RpmP", 4) != 0))
            return 0;
        if (i == 0)
            pages = le32(page + 12);
        for (size_t at = i == 0 ? 2 * NDB_SLOT : 0; at < NDB_PAGE; at += NDB_SLOT)
            count += memcmp(page + at, "Slot", 4) == 0 && le32(page + at + 4) != 0;
    }
    return count;
}

unsigned rpm_count(const struct tree *tree) {
    static const char *const folders[] = {"/var/lib/rpm", "/usr/lib/sysimage/rpm",
                                          "/usr/share/rpm"}; /* of ostree */
    unsigned count = 0;

    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]) && count == 0; i++) {
        IM_AUTO(free_auto) char *sqlite = im_printf("%s/rpmdb.sqlite", folders[i]);
        IM_AUTO(free_auto) char *ndb = im_printf("%s/Packages.db", folders[i]);

        count = count_file(tree, sqlite);
        if (count == 0)
            count = count_slots(tree, ndb);
    }
    return count;
}
