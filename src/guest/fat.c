/* SPDX-License-Identifier: Apache-2.0 */
/* FAT 12, 16 and 32, as far as a firmware goes to find a boot loader. */
#include <stdio.h>

#include "inspect-private.h"

enum { ENTRY = 32, DIRECTORY = 0x10, VOLUME_LABEL = 0x08, DELETED = 0xe5 };
#define CLUSTERS_MAX 512u     /* of one directory */
#define CLUSTER_BYTES 262144u /* the largest there is */
#define FOLDERS_MAX 64u       /* below /EFI */

struct fat {
    const struct span *span;
    unsigned bits;
    uint32_t cluster_bytes, clusters, root_cluster;
    uint64_t fat_at, root_at, root_bytes, data_at;
    uint8_t *buffer; /* one cluster or the fixed root's piece, owned */
};

static bool fat_open(const struct span *span, struct fat *fat) {
    uint8_t boot[SECTOR];
    uint32_t sector, each, reserved, fats, root_entries, fat_sectors, total;
    uint64_t data_sectors;

    if (!span_read(span, 0, boot, sizeof(boot)) || boot[510] != 0x55 || boot[511] != 0xaa)
        return false;
    sector = le16(boot + 11);
    each = boot[13];
    reserved = le16(boot + 14);
    fats = boot[16];
    root_entries = le16(boot + 17);
    total = le16(boot + 19) ? le16(boot + 19) : le32(boot + 32);
    fat_sectors = le16(boot + 22) ? le16(boot + 22) : le32(boot + 36);
    if (sector < 512 || sector > 4096 || !power_of_two(sector) || !power_of_two(each) ||
        sector * each > CLUSTER_BYTES || reserved == 0 || fats == 0 || fats > 2 || fat_sectors == 0)
        return false;
    *fat = (struct fat){.span = span, .cluster_bytes = sector * each};
    fat->fat_at = (uint64_t) reserved * sector;
    fat->root_at = fat->fat_at + (uint64_t) fats * fat_sectors * sector;
    fat->root_bytes = ceil_div((uint64_t) root_entries * ENTRY, sector) * sector;
    fat->data_at = fat->root_at + fat->root_bytes;
    if (fat->data_at / sector >= total)
        return false;
    data_sectors = total - fat->data_at / sector;
    fat->clusters = (uint32_t) (data_sectors / each);
    fat->bits = fat->clusters < 4085 ? 12 : fat->clusters < 65525 ? 16 : 32;
    if (fat->bits == 32)
        fat->root_cluster = le32(boot + 44);
    fat->buffer = im_alloc(fat->cluster_bytes);
    return true;
}

/* The cluster that follows; 0 at the end and where the table makes no sense. */
static uint32_t fat_next(const struct fat *fat, uint32_t cluster) {
    uint64_t at = fat->fat_at + (uint64_t) cluster * fat->bits / 8;
    uint8_t bytes[4] = {0};
    uint32_t next;

    if (!span_read(fat->span, at, bytes, fat->bits == 32 ? 4 : 2))
        return 0;
    next = fat->bits == 32 ? le32(bytes) & 0x0fffffff : le16(bytes);
    if (fat->bits == 12)
        next = cluster % 2 ? next >> 4 : next & 0xfff;
    return next >= 2 && next - 2 < fat->clusters ? next : 0;
}

typedef bool fat_visit(void *arg, const uint8_t *entry); /* false: enough */

/* False at the end of the directory, or when the visitor has enough. */
static bool visit_piece(const uint8_t *bytes, size_t len, fat_visit *visit, void *arg) {
    for (size_t at = 0; at + ENTRY <= len; at += ENTRY) {
        const uint8_t *entry = bytes + at;

        if (entry[0] == 0)
            return false;
        if (entry[0] == DELETED || (entry[11] & VOLUME_LABEL)) /* long names have that bit too */
            continue;
        if (!visit(arg, entry))
            return false;
    }
    return true;
}

/* 0 is the fixed root directory of FAT 12 and 16. */
static bool fat_each(const struct fat *fat, uint32_t cluster, fat_visit *visit, void *arg) {
    uint64_t left = fat->root_bytes, at = fat->root_at;

    if (cluster == 0 && fat->bits != 32) {
        while (left > 0) {
            size_t now = left < fat->cluster_bytes ? (size_t) left : fat->cluster_bytes;

            if (!span_read(fat->span, at, fat->buffer, now))
                return false;
            if (!visit_piece(fat->buffer, now, visit, arg))
                break;
            at += now;
            left -= now;
        }
        return true;
    }
    for (unsigned count = 0; cluster != 0 && count < CLUSTERS_MAX; count++) {
        if (cluster < 2 || cluster - 2 >= fat->clusters)
            return false;
        if (!span_read(fat->span, fat->data_at + (uint64_t) (cluster - 2) * fat->cluster_bytes,
                       fat->buffer, fat->cluster_bytes))
            return false;
        if (!visit_piece(fat->buffer, fat->cluster_bytes, visit, arg))
            break;
        cluster = fat_next(fat, cluster);
    }
    return true;
}

static uint32_t first_cluster(const uint8_t *entry) {
    return (uint32_t) le16(entry + 20) << 16 | le16(entry + 26);
}

struct search {
    const char *name; /* 11 characters, as in the entry */
    bool found;
    uint32_t cluster;
};

static bool match_name(void *arg, const uint8_t *entry) {
    struct search *search = arg;

    if (!(entry[11] & DIRECTORY) || memcmp(entry, search->name, 11) != 0)
        return true;
    search->found = true;
    search->cluster = first_cluster(entry);
    return false;
}

struct folders {
    uint32_t clusters[FOLDERS_MAX];
    bool boot[FOLDERS_MAX]; /* the one named BOOT */
    size_t count;
};

static bool take_folder(void *arg, const uint8_t *entry) {
    struct folders *folders = arg;

    if (!(entry[11] & DIRECTORY) || entry[0] == '.' || first_cluster(entry) == 0)
        return true;
    folders->boot[folders->count] = memcmp(entry, "BOOT       ", 11) == 0;
    folders->clusters[folders->count++] = first_cluster(entry);
    return folders->count < FOLDERS_MAX;
}

struct loaders {
    bool any, fallback;
};

static bool take_loader(void *arg, const uint8_t *entry) {
    struct loaders *loaders = arg;

    if ((entry[11] & DIRECTORY) || memcmp(entry + 8, "EFI", 3) != 0 || le32(entry + 28) == 0)
        return true;
    loaders->any = true;
    loaders->fallback |= memcmp(entry, "BOOTX64 ", 8) == 0 || memcmp(entry, "BOOTAA64", 8) == 0;
    return !loaders->fallback;
}

static enum fat_answer look_for_loader(const struct fat *fat) {
    struct search efi = {.name = "EFI        "};
    struct folders folders = {.count = 0};
    bool any = false;

    if (!fat_each(fat, fat->root_cluster, match_name, &efi))
        return FAT_UNREADABLE;
    if (!efi.found || !fat_each(fat, efi.cluster, take_folder, &folders))
        return FAT_NOTHING;
    for (size_t i = 0; i < folders.count; i++) {
        struct loaders loaders = {0};

        if (!fat_each(fat, folders.clusters[i], take_loader, &loaders))
            continue;
        if (folders.boot[i] && loaders.fallback)
            return FAT_FALLBACK;
        any |= loaders.any;
    }
    return any ? FAT_VENDOR : FAT_NOTHING;
}

enum fat_answer fat_loader(const struct span *span) {
    struct fat fat;
    enum fat_answer answer;

    if (!fat_open(span, &fat))
        return FAT_UNREADABLE;
    answer = look_for_loader(&fat);
    free(fat.buffer);
    return answer;
}
