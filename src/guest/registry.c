/* SPDX-License-Identifier: Apache-2.0 */
/* Hives of Windows' registry. Behind a first block lie cells, each with its size before it, that
 * refer to one another by how far they are from the first. Keys have lists of keys, maybe in two
 * levels, and a list of values. */
#include "registry.h"

#include <ctype.h>
#include <strings.h>

#define HEAD_BYTES 4096u
#define VALUES_MAX 4096u
#define NAME_LENGTH 255u /* of a name, in characters */
#define TEXT_BYTES 1024u /* of a value */
#define DEPTH_MAX 16u    /* names in a path */

enum { KEY_ASCII = 0x20, VALUE_ASCII = 1, TEXT = 1, TEXT_WITH_NAMES = 2, NUMBER = 4 };
#define INLINE_DATA 0x80000000u

/* --- Cells ------------------------------------------------------------------------------------ */

/* Bytes at `within` of a cell that is in use, all inside it. */
static bool cell_read(const struct hive *hive, uint32_t cell, uint32_t within, void *bytes,
                      size_t len) {
    uint8_t size[4];
    uint32_t used;
    size_t got;

    if (!file_read(&hive->file, (uint64_t) HEAD_BYTES + cell, size, 4, &got) || got != 4)
        return false;
    used = -le32(size); /* a cell that is free has its size as it is */
    return used >= 8 && used <= INT32_MAX && within <= used - 4 && len <= used - 4 - within &&
           file_read(&hive->file, (uint64_t) HEAD_BYTES + cell + 4 + within, bytes, len, &got) &&
           got == len;
}

const char *hive_open(const struct tree *tree, const char *path, struct hive *ret_hive) {
    struct hive hive = {0};
    uint8_t head[HEAD_BYTES], key[2];
    size_t got = 0;

    if (!tree_find(tree, path, &hive.file) || hive.file.facts.kind != NODE_FILE)
        return "is not there";
    if (!file_read(&hive.file, 0, head, sizeof(head), &got))
        return "cannot be read";
    hive.root = got == sizeof(head) ? le32(head + 36) : 0;
    if (got != sizeof(head) || memcmp(head, "regf", 4) != 0 ||
        !cell_read(&hive, hive.root, 0, key, 2) || memcmp(key, "nk", 2) != 0)
        return "is damaged";
    *ret_hive = hive;
    return NULL;
}

/* --- Names ------------------------------------------------------------------------------------ */

/* Those that are looked for are ASCII. */
static bool same_name(const uint8_t *name, size_t len, bool ascii, const char *wanted,
                      size_t wanted_len) {
    size_t each = ascii ? 1 : 2;

    if (len != wanted_len * each)
        return false;
    for (size_t i = 0; i < wanted_len; i++) {
        unsigned c = ascii ? name[i] : le16(name + 2 * i);

        if (c >= 0x80 || tolower((int) c) != tolower((unsigned char) wanted[i]))
            return false;
    }
    return true;
}

static bool is_called(const struct hive *hive, uint32_t key, const char *name, size_t name_len) {
    uint8_t head[76], text[2 * NAME_LENGTH];
    size_t len;

    if (!cell_read(hive, key, 0, head, sizeof(head)) || memcmp(head, "nk", 2) != 0)
        return false;
    len = le16(head + 72);
    return len <= sizeof(text) && (len == name_len || len == 2 * name_len) &&
           cell_read(hive, key, sizeof(head), text, len) &&
           same_name(text, len, le16(head + 2) & KEY_ASCII, name, name_len);
}

/* --- Keys ------------------------------------------------------------------------------------- */

struct list {
    uint8_t *bytes; /* owned */
    uint32_t count, each;
    bool hashed, lists; /* entries have a hash of the name; are lists themselves */
};

static void list_done(struct list *list) { free(list->bytes); }

static bool list_read(const struct hive *hive, uint32_t cell, struct list *ret_list) {
    struct list list = {0};
    uint8_t head[4];

    if (!cell_read(hive, cell, 0, head, sizeof(head)) || head[0] == 'n')
        return false;
    list.hashed = memcmp(head, "lh", 2) == 0;
    list.lists = memcmp(head, "ri", 2) == 0;
    list.count = le16(head + 2);
    list.each = head[0] == 'l' && (head[1] == 'h' || head[1] == 'f') ? 8 : 4;
    if (list.each == 4 && !list.lists && memcmp(head, "li", 2) != 0)
        return false;
    list.bytes = im_alloc((size_t) list.count * list.each + 1);
    if (!cell_read(hive, cell, 4, list.bytes, (size_t) list.count * list.each)) {
        free(list.bytes);
        return false;
    }
    *ret_list = list;
    return true;
}

static uint32_t hash_of(const char *name, size_t len) {
    uint32_t hash = 0;

    for (size_t i = 0; i < len; i++)
        hash = hash * 37 + (uint32_t) toupper((unsigned char) name[i]);
    return hash;
}

static uint32_t search(const struct hive *hive, const struct list *list, const char *name,
                       size_t len) {
    uint32_t hash = hash_of(name, len);

    for (uint32_t i = 0; i < list->count; i++) {
        const uint8_t *entry = list->bytes + (size_t) i * list->each;

        if ((!list->hashed || le32(entry + 4) == hash) && is_called(hive, le32(entry), name, len))
            return le32(entry);
    }
    return HIVE_NOWHERE;
}

static uint32_t search_lists(const struct hive *hive, const struct list *lists, const char *name,
                             size_t len) {
    uint32_t found = HIVE_NOWHERE;

    for (uint32_t i = 0; i < lists->count && found == HIVE_NOWHERE; i++) {
        struct list list;

        if (!list_read(hive, le32(lists->bytes + (size_t) i * 4), &list))
            return HIVE_NOWHERE;
        if (!list.lists)
            found = search(hive, &list, name, len);
        list_done(&list);
    }
    return found;
}

static uint32_t child_of(const struct hive *hive, uint32_t key, const char *name, size_t len) {
    uint32_t found;
    struct list list;
    uint8_t head[76];

    if (!cell_read(hive, key, 0, head, sizeof(head)) || memcmp(head, "nk", 2) != 0 ||
        le32(head + 20) == 0 || !list_read(hive, le32(head + 28), &list))
        return HIVE_NOWHERE;
    found = list.lists ? search_lists(hive, &list, name, len) : search(hive, &list, name, len);
    list_done(&list);
    return found;
}

uint32_t hive_key(const struct hive *hive, uint32_t from, const char *path) {
    uint32_t key = from;

    for (unsigned depth = 0; *path != '\0' && key != HIVE_NOWHERE; depth++) {
        size_t len = strcspn(path, "\\");

        if (depth == DEPTH_MAX || len > NAME_LENGTH)
            return HIVE_NOWHERE;
        key = child_of(hive, key, path, len);
        path += len + (path[len] == '\\');
    }
    return key;
}

/* --- Values ----------------------------------------------------------------------------------- */

struct value {
    uint32_t kind, len;
    uint8_t bytes[TEXT_BYTES]; /* the first of it */
};

static bool take_value(const struct hive *hive, const uint8_t head[20], struct value *ret_value) {
    uint32_t len = le32(head + 4);

    ret_value->kind = le32(head + 12);
    if (len & INLINE_DATA) {
        ret_value->len = len & ~INLINE_DATA;
        memcpy(ret_value->bytes, head + 8, 4);
        return ret_value->len <= 4;
    }
    ret_value->len = len < TEXT_BYTES ? len : TEXT_BYTES;
    return cell_read(hive, le32(head + 8), 0, ret_value->bytes, ret_value->len);
}

static bool find_value(const struct hive *hive, uint32_t key, const char *name,
                       struct value *ret_value) {
    uint8_t head[76], text[2 * NAME_LENGTH], place[4];
    uint32_t count;

    if (key == HIVE_NOWHERE || !cell_read(hive, key, 0, head, sizeof(head)) ||
        memcmp(head, "nk", 2) != 0)
        return false;
    count = le32(head + 36);
    for (uint32_t i = 0, list = le32(head + 40); i < count && i < VALUES_MAX; i++) {
        size_t len;
        uint32_t cell;

        if (!cell_read(hive, list, 4 * i, place, sizeof(place)))
            return false;
        cell = le32(place);
        if (!cell_read(hive, cell, 0, head, 20) || memcmp(head, "vk", 2) != 0)
            return false;
        len = le16(head + 2);
        if (len <= sizeof(text) && (len == strlen(name) || len == 2 * strlen(name)) &&
            cell_read(hive, cell, 20, text, len) &&
            same_name(text, len, le16(head + 16) & VALUE_ASCII, name, strlen(name)))
            return take_value(hive, head, ret_value);
    }
    return false;
}

bool hive_text(const struct hive *hive, uint32_t key, const char *name, char *out, size_t size) {
    struct value value;
    char text[TEXT_BYTES / 2 * 3];
    size_t used = 0;

    if (!find_value(hive, key, name, &value) ||
        (value.kind != TEXT && value.kind != TEXT_WITH_NAMES))
        return false;
    for (size_t i = 0; i + 1 < value.len && le16(value.bytes + i) != 0; i += 2)
        used += utf8_put(text + used, le16(value.bytes + i));
    text_take(out, size, text, used);
    return true;
}

bool hive_number(const struct hive *hive, uint32_t key, const char *name, uint32_t *ret_number) {
    struct value value;

    if (!find_value(hive, key, name, &value) || value.kind != NUMBER || value.len != 4)
        return false;
    *ret_number = le32(value.bytes);
    return true;
}
