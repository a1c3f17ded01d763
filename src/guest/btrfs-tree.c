/* SPDX-License-Identifier: Apache-2.0 */
/* The trees of btrfs. A block is taken only if it is what its parent says: at that address, of that
 * level and generation, and its checksum fits; so that no path is longer than the levels it goes
 * down, and none leads back up. */
#include "btrfs.h"

enum { HEAD = 101, POINTER = 33, ITEM = 25, KEY = 17 };

/* --- Keys ------------------------------------------------------------------------------------- */

static struct btrfs_key key_at(const uint8_t *bytes) {
    return (struct btrfs_key){le64(bytes), bytes[8], le64(bytes + 9)};
}

static int compare(struct btrfs_key a, struct btrfs_key b) {
    if (a.id != b.id)
        return a.id < b.id ? -1 : 1;
    if (a.type != b.type)
        return a.type < b.type ? -1 : 1;
    return a.offset < b.offset ? -1 : a.offset > b.offset;
}

/* --- Blocks ----------------------------------------------------------------------------------- */

/* `wanted` says which tree it belongs to, and what its parent says of it. */
static bool head_fits(const struct btrfs *fs, const struct btrfs_root *wanted,
                      const uint8_t *block) {
    uint32_t room = (fs->node - HEAD) / (wanted->level > 0 ? POINTER : ITEM);

    return memcmp(block + 32, fs->id, sizeof(fs->id)) == 0 && le64(block + 48) == wanted->at &&
           le64(block + 80) == wanted->generation && block[100] == wanted->level &&
           /* Blocks of a subvolume may be another's, which it is a snapshot of. */
           (wanted->id >= BTRFS_TOP || le64(block + 88) == wanted->id) && le32(block + 96) <= room;
}

/* Other checksums than CRC-32C are taken as they are. */
static bool block_whole(const struct btrfs *fs, const uint8_t *block) {
    return fs->checksum != 0 ||
           checksum_fits(le32(block), ~guest_crc32c(UINT32_MAX, block + 32, fs->node - 32));
}

/* The one that was not used for the longest time makes room. */
static struct btrfs_block *make_room(struct btrfs *fs) {
    struct btrfs_block *block = &fs->held[0];

    for (size_t i = 1; i < BTRFS_HELD; i++)
        if (fs->held[i].used < block->used)
            block = &fs->held[i];
    if (block->bytes == NULL)
        block->bytes = im_alloc(fs->node);
    block->used = 0;
    return block;
}

static void tell_damaged(const struct btrfs *fs) {
    look_found(fs->span->look, GUEST_FOUND_FS_DAMAGED,
               "the btrfs file system on %s is damaged: a block of its trees is not what it should "
               "be, nor is a copy of it",
               fs->name);
}

/* NULL if no copy is right, which is told; or if the look may not go on. */
static const uint8_t *read_block(struct btrfs *fs, const struct btrfs_root *wanted) {
    struct btrfs_block *block;
    bool unread = false;
    uint64_t at, left;

    for (size_t i = 0; i < BTRFS_HELD; i++) {
        block = &fs->held[i];
        if (block->used > 0 && block->at == wanted->at && head_fits(fs, wanted, block->bytes)) {
            block->used = ++fs->clock;
            return block->bytes;
        }
    }
    block = make_room(fs);
    for (unsigned copy = 0; btrfs_place(fs, wanted->at, copy, &at, &left); copy++) {
        if (left < fs->node || at > fs->span->len || fs->node > fs->span->len - at)
            continue;
        if (!span_read(fs->span, at, block->bytes, fs->node)) {
            unread = true;
            break;
        }
        if (!head_fits(fs, wanted, block->bytes) || !block_whole(fs, block->bytes))
            continue;
        block->at = wanted->at;
        block->used = ++fs->clock;
        return block->bytes;
    }
    fs->lost++;
    if (!unread)
        tell_damaged(fs);
    return NULL;
}

/* --- Searching -------------------------------------------------------------------------------- */

/* How many entries of a block are not above the key. */
static uint32_t count_upto(const uint8_t *block, uint32_t count, uint32_t each,
                           struct btrfs_key key) {
    uint32_t low = 0, high = count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (compare(key_at(block + HEAD + middle * each), key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Where a search came to: a leaf, and how many of its items are not above the key. */
struct place {
    const uint8_t *leaf;
    uint32_t count, upto;
    bool more; /* there are further leaves, which begin with `next` */
    struct btrfs_key next;
};

static bool descend(struct btrfs *fs, const struct btrfs_root *root, struct btrfs_key key,
                    struct place *ret_place) {
    struct btrfs_root at = *root;

    *ret_place = (struct place){0};
    if (at.level >= BTRFS_LEVELS)
        return false;
    for (;; at.level--) {
        const uint8_t *block = read_block(fs, &at), *pointer;
        uint32_t count, taken;

        if (block == NULL)
            return false;
        count = le32(block + 96);
        taken = count_upto(block, count, at.level > 0 ? POINTER : ITEM, key);
        if (at.level == 0) {
            ret_place->leaf = block;
            ret_place->count = count;
            ret_place->upto = taken;
            return true;
        }
        if (count == 0)
            return false;
        taken -= taken > 0;
        pointer = block + HEAD + taken * POINTER;
        if (taken + 1 < count) {
            ret_place->more = true;
            ret_place->next = key_at(pointer + POINTER);
        }
        at.at = le64(pointer + KEY);
        at.generation = le64(pointer + KEY + 8);
    }
}

static bool take_item(const struct btrfs *fs, const struct place *place, uint32_t number,
                      struct btrfs_item *ret_item) {
    const uint8_t *head = place->leaf + HEAD + number * ITEM;
    uint32_t at = le32(head + KEY), len = le32(head + KEY + 4), room = fs->node - HEAD;

    if (at > room || len > room - at)
        return false;
    *ret_item = (struct btrfs_item){key_at(head), place->leaf + HEAD + at, len};
    return true;
}

bool btrfs_before(struct btrfs *fs, const struct btrfs_root *root, struct btrfs_key key,
                  struct btrfs_item *ret_item) {
    struct place place;

    return descend(fs, root, key, &place) && place.upto > 0 &&
           take_item(fs, &place, place.upto - 1, ret_item) && compare(ret_item->key, key) <= 0;
}

/* The next one may be the first of the next leaf. */
bool btrfs_after(struct btrfs *fs, const struct btrfs_root *root, struct btrfs_key key,
                 struct btrfs_item *ret_item) {
    struct place place;

    for (unsigned leaf = 0; leaf < 2; leaf++) {
        if (!descend(fs, root, key, &place))
            return false;
        if (place.upto > 0 && take_item(fs, &place, place.upto - 1, ret_item) &&
            compare(ret_item->key, key) == 0)
            return true;
        if (place.upto < place.count)
            return take_item(fs, &place, place.upto, ret_item) && compare(ret_item->key, key) > 0;
        if (!place.more || compare(place.next, key) <= 0)
            return false;
        key = place.next;
    }
    return false;
}

bool btrfs_item(struct btrfs *fs, const struct btrfs_root *root, struct btrfs_key key,
                uint32_t least, struct btrfs_item *ret_item) {
    return btrfs_before(fs, root, key, ret_item) && compare(ret_item->key, key) == 0 &&
           ret_item->len >= least;
}

/* --- Trees ------------------------------------------------------------------------------------ */

/* A subvolume that was deleted stays for a while, without a name. */
static bool take_root(const struct btrfs_item *item, uint64_t id, struct btrfs_root *ret_root) {
    if (item->key.id != id || item->key.type != BTRFS_ROOT || item->len < 239 ||
        le32(item->bytes + 216) == 0)
        return false;
    *ret_root =
        (struct btrfs_root){id, le64(item->bytes + 176), le64(item->bytes + 160), item->bytes[238]};
    return true;
}

bool btrfs_tree(struct btrfs *fs, uint64_t id, struct btrfs_root *ret_root) {
    struct btrfs_item item;

    for (size_t i = 0; i < BTRFS_ROOTS; i++)
        if (fs->roots[i].id == id && id != 0) {
            *ret_root = fs->roots[i];
            return true;
        }
    if (!btrfs_after(fs, &fs->root_tree, (struct btrfs_key){id, BTRFS_ROOT, 0}, &item) ||
        !take_root(&item, id, ret_root))
        return false;
    fs->roots[fs->root_next++ % BTRFS_ROOTS] = *ret_root;
    return true;
}
