/* SPDX-License-Identifier: Apache-2.0 */
/* How an NTFS was left: its label and room, and whether Windows had it open. */
#include "ntfs.h"

#define BITMAP_BYTES (8u << 20) /* of 256 GiB with the usual clusters; more is not counted */
#define LOG_PAGE 4096u

enum { VOLUME_DIRTY = 1 };

/* --- Room and label --------------------------------------------------------------------------- */

static uint64_t count_free(const uint8_t *bitmap, uint64_t clusters) {
    uint64_t used = 0;

    for (uint64_t i = 0; i < clusters / 8; i++)
        used += (unsigned) __builtin_popcount(bitmap[i]);
    for (uint64_t i = clusters / 8 * 8; i < clusters; i++)
        used += bitmap[i / 8] >> i % 8 & 1;
    return clusters - used;
}

bool ntfs_space(void *state, uint64_t *ret_size, uint64_t *ret_free) {
    struct ntfs *fs = state;
    IM_AUTO(free_auto) uint8_t *bitmap = NULL;
    size_t len = 0;

    if (fs->clusters / 8 >= BITMAP_BYTES)
        return false;
    bitmap = ntfs_content(fs, NTFS_CLUSTERS, NTFS_DATA, (size_t) ceil_div(fs->clusters, 8), &len);
    if (bitmap == NULL || len < ceil_div(fs->clusters, 8))
        return false;
    *ret_size = fs->clusters * fs->cluster;
    *ret_free = count_free(bitmap, fs->clusters) * fs->cluster;
    return true;
}

void ntfs_describe(void *state, struct guest_part *part) {
    size_t len = 0, used = 0;
    IM_AUTO(free_auto)
    uint8_t *wide = ntfs_content(state, NTFS_VOLUME, NTFS_VOLUME_NAME, 256, &len);
    char label[128 * 3];

    for (size_t i = 0; wide != NULL && i + 1 < len; i += 2)
        used += utf8_put(label + used, le16(wide + i));
    text_take(part->label, sizeof(part->label), label, used);
}

/* --- In use ----------------------------------------------------------------------------------- */

static bool marked_dirty(struct ntfs *fs) {
    size_t len = 0;
    IM_AUTO(free_auto) uint8_t *facts = ntfs_content(fs, NTFS_VOLUME, NTFS_VOLUME_FACTS, 12, &len);

    return facts != NULL && len == 12 && (le16(facts + 10) & VOLUME_DIRTY);
}

/* One of the two pages that tell where the log begins; `*ret_at` orders them. */
static bool restart_page(uint8_t *page, uint64_t *ret_at, bool *ret_in_use) {
    enum { CLEAN = 2, NOBODY = 0xffff };
    size_t area = le16(page + 24);

    if (memcmp(page, "RSTR", 4) != 0 || area % 8 != 0 || area < 30 || area + 48 > LOG_PAGE ||
        !ntfs_fix(page, LOG_PAGE))
        return false;
    *ret_at = le64(page + area);
    *ret_in_use = le16(page + area + 12) != NOBODY && !(le16(page + area + 14) & CLEAN);
    return true;
}

/* A log that was never written is full of ones. */
static bool log_in_use(struct ntfs *fs) {
    size_t len = 0;
    IM_AUTO(free_auto)
    uint8_t *pages = ntfs_content(fs, NTFS_LOG, NTFS_DATA, (size_t) 2 * LOG_PAGE, &len);
    uint64_t latest = 0;
    bool in_use = false;

    for (size_t i = 0; pages != NULL && (i + 1) * LOG_PAGE <= len; i++) {
        uint64_t at;
        bool this_one;

        if (!restart_page(pages + i * LOG_PAGE, &at, &this_one) || at < latest)
            continue;
        latest = at;
        in_use = this_one;
    }
    return in_use;
}

/* What Windows keeps of memory begins with such words, and with zeros once it was taken back. */
static bool hibernated(struct ntfs *fs) {
    struct node root = {.id = NTFS_ROOT}, file;
    char word[4] = "";
    size_t got = 0;

    return ntfs_find(fs, &root, "hiberfil.sys", 12, &file) &&
           ntfs_ops.read(fs, &file, 0, word, sizeof(word), &got) && got == sizeof(word) &&
           (strncasecmp(word, "hibr", 4) == 0 || strncasecmp(word, "rstr", 4) == 0);
}

void ntfs_check(void *state, const struct guest_part *part) {
    struct ntfs *fs = state;
    struct look *look = fs->span->look;

    if (hibernated(fs))
        look_found(look, GUEST_FOUND_FS_HIBERNATED,
                   "the Windows on %s is hibernated, or was shut down for a fast startup",
                   part->name);
    else if (marked_dirty(fs))
        look_found(look, GUEST_FOUND_FS_DIRTY,
                   "the ntfs file system on %s is marked to be checked at the next start",
                   part->name);
    else if (log_in_use(fs))
        look_found(look, GUEST_FOUND_FS_DIRTY,
                   "the ntfs file system on %s was in use when the disk was backed up", part->name);
}
