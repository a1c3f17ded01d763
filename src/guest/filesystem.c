/* SPDX-License-Identifier: Apache-2.0 */
/* File systems and other inhabitants of partitions, by their superblocks. */
#include <inttypes.h>
#include <stdio.h>

#include "files.h"

#define MD_MAGIC 0xa92b4efcu
#define MD_ROOM (64ull << 10)
#define HEAD_BYTES (68u << 10) /* the farthest superblock here, btrfs', ends at 68 KiB */

/* What a superblock tells; `size` 0 = it does not. */
struct facts {
    const char *type;
    uint64_t size;
    bool dirty, damaged;
};
struct kind {
    const char *type, *magic;
    size_t at, len;
    void (*take)(const uint8_t *head, struct guest_part *part, struct facts *facts);
};

/* --- Each one's own words --------------------------------------------------------------------- */

static uint64_t limited(uint64_t count, uint64_t each) {
    uint64_t bytes;

    return __builtin_mul_overflow(count, each, &bytes) ? UINT64_MAX : bytes;
}

static void take_ext(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    enum { RECOVER = 0x4, EXTENTS = 0x40, WIDE = 0x80, JOURNAL = 0x4, ERRORS = 0x2 };
    const uint8_t *super = head + 1024;
    uint32_t incompat = le32(super + 96), log = le32(super + 24);
    uint64_t blocks = le32(super + 4);

    if (incompat & WIDE)
        blocks |= (uint64_t) le32(super + 0x150) << 32;
    facts->type = incompat & (EXTENTS | WIDE)  ? "ext4"
                  : le32(super + 92) & JOURNAL ? "ext3"
                                               : "ext2";
    facts->size = limited(blocks, 1024ull << (log & 15));
    facts->dirty = incompat & RECOVER;
    facts->damaged = (le16(super + 58) & ERRORS) || log > 6;
    text_take(part->label, sizeof(part->label), super + 120, 16);
    uuid_text(part->uuid, super + 104, false);
}

static void take_xfs(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    facts->size = limited(be64(head + 8), be32(head + 4));
    text_take(part->label, sizeof(part->label), head + 108, 12);
    uuid_text(part->uuid, head + 32, false);
}

/* It may have several devices: this one's share counts. */
static void take_btrfs(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    const uint8_t *super = head + 65536;

    facts->size = le64(super + 201 + 8);
    text_take(part->label, sizeof(part->label), super + 299, 255);
    uuid_text(part->uuid, super + 32, false);
}

static void take_fat(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    bool wide = memcmp(head + 82, "FAT32", 5) == 0;
    const uint8_t *serial = head + (wide ? 67 : 39);
    uint32_t sectors = le16(head + 19) ? le16(head + 19) : le32(head + 32);

    facts->size = (uint64_t) sectors * le16(head + 11);
    text_take(part->label, sizeof(part->label), serial + 4, 11);
    if (strcmp(part->label, "NO NAME") == 0)
        part->label[0] = '\0';
    snprintf(part->uuid, sizeof(part->uuid), "%02X%02X-%02X%02X", serial[3], serial[2], serial[1],
             serial[0]);
}

static void take_ntfs(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    facts->size = limited(le64(head + 40), le16(head + 11));
    snprintf(part->uuid, sizeof(part->uuid), "%016" PRIX64, le64(head + 72));
}

/* FreeBSD's has a label, and the same two numbers for an identity. */
static void take_ufs_id(const uint8_t *super, struct guest_part *part) {
    if (le64(super + 144) != 0)
        snprintf(part->uuid, sizeof(part->uuid), "%08x%08x", le32(super + 144), le32(super + 148));
}

static void take_ufs_2(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    bool usual = memcmp(head + 65536 + 1372, "\x19\x01\x54\x19", 4) == 0;
    const uint8_t *super = head + (usual ? 65536 : 8192);

    facts->size = limited(le64(super + 1080), le32(super + 52));
    text_take(part->label, sizeof(part->label), super + 680, 32);
    take_ufs_id(super, part);
}

static void take_ufs_1(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    const uint8_t *super = head + 8192;

    facts->size = limited(le32(super + 36), le32(super + 52));
    take_ufs_id(super, part);
}

static void take_swap(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    facts->size = ((uint64_t) le32(head + 1028) + 1) * 4096;
    text_take(part->label, sizeof(part->label), head + 1024 + 28, 16);
    uuid_text(part->uuid, head + 1024 + 12, false);
}

/* --- The words of those that are named and not read ------------------------------------------- */

static void take_f2fs(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    const uint8_t *super = head + 1024, *name = super + 124;
    size_t len = 0;

    facts->size = limited(le64(super + 36), 4096);
    uuid_text(part->uuid, super + 108, false);
    for (; le16(name) != 0 && len + 4 < sizeof(part->label); name += 2)
        len += utf8_put(part->label + len, le16(name));
    part->label[len] = '\0';
}

static void take_jfs(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    const uint8_t *super = head + 32768;

    facts->size = limited(le64(super + 8), le32(super + 24)); /* in the disk's sectors */
    uuid_text(part->uuid, super + 136, false);
    text_take(part->label, sizeof(part->label), super + 152, 16);
}

static void take_reiserfs(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    const uint8_t *super = head + 65536;

    facts->size = limited(le32(super), le16(super + 44));
    uuid_text(part->uuid, super + 84, false);
    text_take(part->label, sizeof(part->label), super + 100, 16);
}

static void take_nilfs(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    const uint8_t *super = head + 1024;

    facts->size = le64(super + 32);
    uuid_text(part->uuid, super + 152, false);
    text_take(part->label, sizeof(part->label), super + 168, 80);
}

static void take_bcachefs(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    const uint8_t *super = head + 4096;

    (void) facts;
    uuid_text(part->uuid, super + 56, false);
    text_take(part->label, sizeof(part->label), super + 72, 32);
}

static void take_bcache(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    (void) facts;
    uuid_text(part->uuid, head + 4096 + 40, false);
}

static void take_exfat(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    facts->size = limited(le64(head + 72), 1ull << (head[108] & 15));
    snprintf(part->uuid, sizeof(part->uuid), "%02X%02X-%02X%02X", head[103], head[102], head[101],
             head[100]);
}

static void take_luks(const uint8_t *head, struct guest_part *part, struct facts *facts) {
    (void) facts;
    text_take(part->uuid, sizeof(part->uuid), head + 168, 36);
}

static const struct kind kinds[] = {
    {"LVM2_member", "LVM2 001", 512 + 24, 8, NULL},
    {"LVM2_member", "LVM2 001", 24, 8, NULL},
    {"crypto_LUKS", "LUKS\xba\xbe", 0, 6, take_luks},
    {"linux_raid_member", "\xfc\x4e\x2b\xa9", 4096, 4, NULL},
    {"linux_raid_member", "\xfc\x4e\x2b\xa9", 0, 4, NULL},
    {"BitLocker", "-FVE-FS-", 3, 8, NULL},
    {"xfs", "XFSB", 0, 4, take_xfs},
    {"ntfs", "NTFS    ", 3, 8, take_ntfs},
    {"btrfs", "_BHRfS_M", 65536 + 64, 8, take_btrfs},
    {"swap", "SWAPSPACE2", 4086, 10, take_swap},
    {"ext", "\x53\xef", 1024 + 56, 2, take_ext},
    {"f2fs", "\x10\x20\xf5\xf2", 1024, 4, take_f2fs},
    {"jfs", "JFS1", 32768, 4, take_jfs},
    {"reiserfs", "ReIsEr", 65536 + 52, 6, take_reiserfs},
    {"nilfs2", "\x34\x34", 1024 + 6, 2, take_nilfs},
    {"bcachefs", "\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", 4096 + 24, 16,
     take_bcachefs},
    {"bcache", "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", 4096 + 24, 16,
     take_bcache},
    {"exfat", "EXFAT   ", 3, 8, take_exfat},
    /* The first word of the first label's list of a pool's properties. */
    {"zfs_member", "\0\0\0\x07version\0", 16384 + 20, 12, NULL},
    {"ufs", "\x19\x01\x54\x19", 65536 + 1372, 4, take_ufs_2},
    {"ufs", "\x19\x01\x54\x19", 8192 + 1372, 4, take_ufs_2},
    {"ufs", "\x54\x19\x01\x00", 8192 + 1372, 4, take_ufs_1},
    {"iso9660", "CD001", 32769, 5, NULL},
    {"vfat", "FAT32   ", 82, 8, take_fat},
    {"vfat", "FAT1", 54, 4, take_fat},
};

bool filesystem_unread(const char *type) {
    static const char *const types[] = {"f2fs",   "jfs",      "reiserfs",   "nilfs2",
                                        "bcache", "bcachefs", "zfs_member", "exfat"};

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(types[i], type) == 0)
            return true;
    return false;
}

/* --- Looking ---------------------------------------------------------------------------------- */

static void tell(const struct span *span, const struct guest_part *part,
                 const struct facts *facts) {
    char has[16], wants[16];

    if (facts->size > span->len)
        look_found(span->look, GUEST_FOUND_FS_BEYOND,
                   "the %s file system on %s is %s large, but there are only %s", part->filesystem,
                   part->name, im_size_text(facts->size, wants), im_size_text(span->len, has));
    if (facts->damaged)
        look_found(span->look, GUEST_FOUND_FS_DAMAGED,
                   "the %s file system on %s is marked as damaged", part->filesystem, part->name);
    if (facts->dirty)
        look_found(span->look, GUEST_FOUND_FS_DIRTY,
                   "the %s file system on %s was in use when the disk was backed up",
                   part->filesystem, part->name);
    if (strcmp(part->filesystem, "linux_raid_member") == 0)
        look_found(span->look, GUEST_FOUND_FS_UNREADABLE,
                   "%s is a member of a RAID of Linux (md): what is in it cannot be looked at",
                   part->name);
    if (filesystem_unread(part->filesystem))
        look_found(span->look, GUEST_FOUND_FS_UNREADABLE,
                   "%s holds %s, which is not read: what is in it is not judged", part->name,
                   part->filesystem);
    if (strcmp(part->filesystem, "crypto_LUKS") == 0 || strcmp(part->filesystem, "BitLocker") == 0)
        look_found(span->look, GUEST_FOUND_FS_ENCRYPTED,
                   "%s is encrypted: what is in it cannot be looked at", part->name);
}

/* --- Those that can be read ------------------------------------------------------------------- */

static const struct {
    const char *type;
    const struct fs_ops *ops;
} readers[] = {{"ext2", &ext_ops},  {"ext3", &ext_ops}, {"ext4", &ext_ops}, {"btrfs", &btrfs_ops},
               {"ntfs", &ntfs_ops}, {"ufs", &ufs_ops},  {"vfat", &fat_ops}, {"xfs", &xfs_ops}};

static const struct fs_ops *reader_of(const char *type) {
    for (size_t i = 0; i < sizeof(readers) / sizeof(readers[0]); i++)
        if (strcmp(readers[i].type, type) == 0)
            return readers[i].ops;
    return NULL;
}

static void volume_free(struct volume *volume) {
    free((void *) volume->span.pieces);
    free(volume);
}

void volume_open(const struct span *span, size_t part) {
    struct look *look = span->look;
    const struct fs_ops *ops = reader_of(look->found->parts[part].filesystem);
    struct volume *volume;

    if (ops == NULL || look->volume_count == VOLUMES_MAX)
        return;
    volume = im_alloc(sizeof(*volume));
    *volume = (struct volume){.span = *span, .ops = ops, .part = part};
    if (span->pieces != NULL) {
        struct piece *pieces = im_alloc(span->piece_count * sizeof(*pieces));

        memcpy(pieces, span->pieces, span->piece_count * sizeof(*pieces));
        volume->span.pieces = pieces;
    }
    if (!ops->open(&volume->span, &look->found->parts[part], &volume->state, &volume->root)) {
        volume_free(volume);
        return;
    }
    if (ops->describe != NULL)
        ops->describe(volume->state, &look->found->parts[part]);
    look->volumes[look->volume_count++] = volume;
}

void volumes_check(struct look *look) {
    for (size_t i = 0; i < look->volume_count; i++) {
        const struct volume *volume = look->volumes[i];

        if (volume->ops->check != NULL)
            volume->ops->check(volume->state, volume_part(volume));
    }
}

void volumes_close(struct look *look) {
    for (size_t i = 0; i < look->volume_count; i++) {
        look->volumes[i]->ops->close(look->volumes[i]->state);
        volume_free(look->volumes[i]);
    }
    look->volume_count = 0;
}

/* --- All -------------------------------------------------------------------------------------- */

/* md of Linux keeps its superblock behind what it covers, with metadata 0.90 and 1.0: all else
 * looks as if the file system were plain. The newer one tells where it should be. */
static bool md_at(const struct span *span, uint64_t at, bool newer) {
    uint8_t super[136];

    if (at == 0 || at >= span->len || !span_read(span, at, super, sizeof(super)) ||
        le32(super) != MD_MAGIC)
        return false;
    return newer ? le32(super + 4) == 1 && le64(super + 128) == at / SECTOR
                 : le32(super + 4) == 0 && le32(super + 8) >= 90;
}

uint64_t member_end(const struct span *span) {
    uint64_t sectors = span->len / SECTOR, newer = sectors > 24 ? ((sectors - 16) & ~7ull) : 0,
             older = span->len > 2 * MD_ROOM ? (span->len & ~(MD_ROOM - 1)) - MD_ROOM : 0;

    return md_at(span, newer * SECTOR, true) ? newer * SECTOR
           : md_at(span, older, false)       ? older
                                             : 0;
}

/* One half of it must not change without the others. A superblock that the file system has been
 * made over is a left-over. */
static bool is_member(const struct span *span, const struct facts *facts) {
    uint64_t end = span->pieces == NULL ? member_end(span) : 0;

    return span->look->member || (end > 0 && facts->size <= end);
}

/* False, as nothing of it is read. */
static bool take_member(const struct span *span, struct guest_part *part) {
    static const struct facts none = {0};

    part->uuid[0] = part->label[0] = '\0';
    snprintf(part->filesystem, sizeof(part->filesystem), "linux_raid_member");
    tell(span, part, &none);
    return false;
}

/* Its superblock says something, and nothing against reading further. */
static bool recognise(const struct span *span, struct guest_part *part) {
    size_t len = span->len < HEAD_BYTES ? (size_t) span->len : HEAD_BYTES;
    IM_AUTO(free_auto) uint8_t *head = im_alloc(HEAD_BYTES);

    if (!span_read(span, 0, head, len))
        return false;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const struct kind *kind = &kinds[i];
        struct facts facts = {.type = kind->type};

        if (memcmp(head + kind->at, kind->magic, kind->len) != 0)
            continue;
        if (kind->take != NULL)
            kind->take(head, part, &facts);
        if (is_member(span, &facts))
            return take_member(span, part);
        snprintf(part->filesystem, sizeof(part->filesystem), "%s", facts.type);
        part->filesystem_bytes = facts.size;
        tell(span, part, &facts);
        return facts.size <= span->len;
    }
    return span->pieces == NULL && member_end(span) > 0 && take_member(span, part);
}

/* The part is filled in aside: telling may need the others, and they may move. */
void filesystem_look(const struct span *span, size_t part) {
    struct guest_part filled = span->look->found->parts[part];
    bool readable = recognise(span, &filled);

    span->look->found->parts[part] = filled;
    if (readable)
        volume_open(span, part);
}
