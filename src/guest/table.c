/* SPDX-License-Identifier: Apache-2.0 */
/* Partition tables as they are: what is damaged in one does not hide the rest. */
#include <inttypes.h>
#include <stdio.h>
#include <zlib.h>

#include "gpt.h"

#define ENTRIES_BYTES (1u << 20) /* far more than anybody uses; 128 entries take 16 KiB */
#define CHAIN_MAX PARTS_MAX

enum { MBR_EXTENDED = 0x05, MBR_EXTENDED_LBA = 0x0f, MBR_EXTENDED_LINUX = 0x85, MBR_GPT = 0xee };

/* --- What partitions are called --------------------------------------------------------------- */

static const struct {
    const char *guid, *name;
} gpt_types[] = {
    {"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", TYPE_ESP},
    {"21686148-6449-6e6f-744e-656564454649", TYPE_BIOS},
    {"0fc63daf-8483-4772-8e79-3d69d8477de4", "linux"},
    {"4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "linux-root"},
    {"bc13c2ff-59e6-4262-a352-b275fd6f7172", TYPE_BOOT},
    {"0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "swap"},
    {"e6d6d379-f507-44c2-a23c-238f2a3df928", "lvm"},
    {"a19d880f-05fc-4d3b-a006-743f0f84911e", "raid"},
    {"ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "windows"},
    {"e3c9e316-0b5c-4db8-817d-f92df00215ae", "windows-reserved"},
    {"516e7cb6-6ecf-11d6-8ff8-00022d09712b", "freebsd-ufs"},
    {"83bd6b9d-7f41-11dc-be0b-001560b84f0f", "freebsd-boot"},
    {"516e7cba-6ecf-11d6-8ff8-00022d09712b", "freebsd-zfs"},
};
static const struct {
    uint8_t number;
    const char *name;
} mbr_types[] = {{0xef, TYPE_ESP}, {0x83, "linux"},   {0x82, "swap"},   {0x8e, "lvm"},
                 {0xfd, "raid"},   {0x07, "windows"}, {0xa5, "freebsd"}};

static void name_gpt(struct guest_part *part, const uint8_t *guid) {
    char text[40];

    uuid_text(text, guid, true);
    for (size_t i = 0; i < sizeof(gpt_types) / sizeof(gpt_types[0]); i++)
        if (strcmp(gpt_types[i].guid, text) == 0)
            snprintf(part->type, sizeof(part->type), "%s", gpt_types[i].name);
}

static void name_mbr(struct guest_part *part, uint8_t number) {
    snprintf(part->type, sizeof(part->type), "0x%02x", number);
    for (size_t i = 0; i < sizeof(mbr_types) / sizeof(mbr_types[0]); i++)
        if (mbr_types[i].number == number)
            snprintf(part->type, sizeof(part->type), "%s", mbr_types[i].name);
}

/* --- Both kinds ------------------------------------------------------------------------------- */

/* The part is kept as far as the disk goes; one that begins behind it is not. */
static struct guest_part *add(struct look *look, unsigned number, uint64_t offset, uint64_t len) {
    uint64_t size = look->source->size_bytes;
    struct guest_part *part;
    char over[16], has[16];

    if (offset > size || len > size - offset)
        look_found(look, GUEST_FOUND_PART_BEYOND,
                   "partition %u ends %s behind the end of the disk, which is %s large", number,
                   im_size_text(offset + len - size, over), im_size_text(size, has));
    if (offset >= size || (part = look_part(look)) == NULL)
        return NULL;
    part->number = number;
    part->offset = offset;
    part->len = len < size - offset ? len : size - offset;
    snprintf(part->name, sizeof(part->name), "/dev/vda%u", number);
    return part;
}

static void overlaps(struct look *look) {
    const struct guest_inspection *found = look->found;

    for (size_t i = 0; i < found->part_count; i++)
        for (size_t j = 0; j < i; j++) {
            const struct guest_part *a = &found->parts[j], *b = &found->parts[i];

            if (a->offset < b->offset + b->len && b->offset < a->offset + a->len)
                look_found(look, GUEST_FOUND_PART_OVERLAP,
                           "partitions %u and %u lie on the same bytes", a->number, b->number);
        }
}

/* --- MBR -------------------------------------------------------------------------------------- */

static bool is_extended(uint8_t type) {
    return type == MBR_EXTENDED || type == MBR_EXTENDED_LBA || type == MBR_EXTENDED_LINUX;
}

static void add_mbr(struct look *look, const uint8_t *entry, unsigned number, uint64_t base,
                    uint32_t signature) {
    uint64_t first = base + le32(entry + 8), count = le32(entry + 12);
    struct guest_part *part;

    if (first == 0 || count == 0) {
        look_found(look, GUEST_FOUND_MBR_ENTRY, "partition %u has no beginning or no size", number);
        return;
    }
    part = add(look, number, first * SECTOR, count * SECTOR);
    if (part == NULL)
        return;
    name_mbr(part, entry[4]);
    part->active = entry[0] == 0x80;
    snprintf(part->partuuid, sizeof(part->partuuid), "%08x-%02x", signature, number);
}

/* Each logical partition is described in a sector that names the next; one that was there already
 * makes a ring. */
static void read_chain(struct look *look, uint64_t base, uint32_t signature) {
    struct span disk = span_of(look, 0, look->source->size_bytes);
    uint64_t seen[CHAIN_MAX], next = 0;
    unsigned number = 5;

    for (size_t count = 0; count < CHAIN_MAX; count++) {
        uint8_t sector[SECTOR];

        for (size_t i = 0; i < count; i++)
            if (seen[i] == next) {
                look_found(look, GUEST_FOUND_MBR_CHAIN,
                           "the chain of logical partitions leads back into itself");
                return;
            }
        seen[count] = next;
        if (!span_read(&disk, (base + next) * SECTOR, sector, SECTOR) || sector[510] != 0x55 ||
            sector[511] != 0xaa) {
            look_found(look, GUEST_FOUND_MBR_CHAIN,
                       "the chain of logical partitions leads nowhere after %zu of them", count);
            return;
        }
        if (sector[446 + 4] != 0)
            add_mbr(look, sector + 446, number++, base + next, signature);
        if (!is_extended(sector[462 + 4]) || le32(sector + 462 + 8) == 0)
            return;
        next = le32(sector + 462 + 8);
    }
    look_found(look, GUEST_FOUND_MBR_CHAIN, "there are more than %u logical partitions", CHAIN_MAX);
}

static bool read_sector(struct look *look, uint64_t number, uint8_t sector[SECTOR]) {
    struct span disk = span_of(look, 0, look->source->size_bytes);

    return number <= disk.len / SECTOR && span_read(&disk, number * SECTOR, sector, SECTOR);
}

bool mbr_read(struct look *look, struct mbr *mbr) {
    uint8_t sector[SECTOR];

    *mbr = (struct mbr){0};
    if (!read_sector(look, 0, sector))
        return false;
    for (unsigned i = 0; sector[510] == 0x55 && sector[511] == 0xaa && i < 4; i++) {
        const uint8_t *entry = sector + MBR_ENTRIES + MBR_EACH * i;

        if (entry[4] != 0)
            mbr->entries[i] = (struct mbr_entry){entry[4], is_extended(entry[4]), le32(entry + 8),
                                                 le32(entry + 12)};
    }
    return true;
}

bool mbr_logical(struct look *look, uint64_t base, uint64_t first, uint64_t *ret_sector,
                 uint64_t *ret_before) {
    uint64_t at = base, before = base;
    uint8_t sector[SECTOR];

    for (size_t i = 0; i < CHAIN_MAX && read_sector(look, at, sector); i++) {
        const uint8_t *entry = sector + MBR_ENTRIES, *next = entry + MBR_EACH;

        if (entry[4] != 0 && at + le32(entry + 8) == first) {
            *ret_sector = at;
            *ret_before = before;
            return true;
        }
        if (!is_extended(next[4]) || le32(next + 8) == 0)
            return false;
        before = at;
        at = base + le32(next + 8);
    }
    return false;
}

static void read_mbr(struct look *look, const uint8_t *first) {
    uint32_t signature = le32(first + 440);

    look->found->table = GUEST_TABLE_MBR;
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *entry = first + 446 + 16 * i;

        if (entry[4] == 0)
            continue;
        if (is_extended(entry[4]))
            read_chain(look, le32(entry + 8), signature);
        else
            add_mbr(look, entry, i + 1, 0, signature);
    }
}

/* --- GPT -------------------------------------------------------------------------------------- */

static bool header_whole(const uint8_t *header) {
    uint32_t size = le32(header + 12);

    return memcmp(header, "EFI PART", 8) == 0 && size >= 92 && size <= SECTOR &&
           checksum_fits(le32(header + 16), guest_gpt_checksum(header, size));
}

bool gpt_load(struct look *look, uint64_t at, unsigned sector, struct gpt *gpt) {
    struct span disk = span_of(look, 0, look->source->size_bytes);
    uint64_t entries_at, len;
    uint8_t header[4096];

    if (!span_read(&disk, at * sector, header, sector) || !header_whole(header))
        return false;
    *gpt = (struct gpt){.here = at,
                        .other = le64(header + 32),
                        .sector = sector,
                        .first_usable = le64(header + 40),
                        .count = le32(header + 80),
                        .each = le32(header + 84)};
    memcpy(gpt->header, header, SECTOR);
    entries_at = le64(header + 72);
    len = (uint64_t) gpt->count * gpt->each;
    if (le64(header + 24) != at || gpt->each < 128 || gpt->each % 8 != 0 || len == 0 ||
        len > ENTRIES_BYTES || entries_at > disk.len / sector)
        return false;
    gpt->entries = im_alloc((size_t) len);
    if (span_read(&disk, entries_at * sector, gpt->entries, (size_t) len) &&
        checksum_fits(le32(header + 88), (uint32_t) crc32(0, gpt->entries, (uInt) len)))
        return true;
    free(gpt->entries);
    gpt->entries = NULL;
    return false;
}

bool gpt_load_any(struct look *look, struct gpt *gpt) {
    unsigned sector = gpt_sector(look);

    if (sector == 0)
        sector = SECTOR; /* its beginning may be lost */
    return gpt_load(look, 1, sector, gpt) ||
           gpt_load(look, look->source->size_bytes / sector - 1, sector, gpt);
}

uint64_t gpt_entry_sectors(const struct gpt *gpt) {
    return ceil_div((uint64_t) gpt->count * gpt->each, gpt->sector);
}

uint64_t gpt_last_usable(const struct look *look, const struct gpt *gpt) {
    uint64_t last = look->source->size_bytes / gpt->sector - 1;
    uint64_t entries = gpt_entry_sectors(gpt);

    return last < 2 * entries + 4 ? 0 : last - entries - 1;
}

/* 36 characters of UTF-16; what is not ASCII is not compared with anything. */
static void take_label(struct guest_part *part, const uint8_t *wide) {
    char label[36];
    size_t len = 0;

    for (; len < sizeof(label) && le16(wide + 2 * len) != 0; len++)
        label[len] = (char) (le16(wide + 2 * len) < 0x80 ? le16(wide + 2 * len) : '?');
    text_take(part->partlabel, sizeof(part->partlabel), label, len);
}

static void add_gpt(struct look *look, const struct gpt *gpt, uint32_t index) {
    const uint8_t *entry = gpt->entries + (size_t) index * gpt->each;
    uint64_t first = le64(entry + 32), last = le64(entry + 40);
    struct guest_part *part;

    if (im_all_zero(entry, 16))
        return;
    if (last < first || last >= UINT64_MAX / 4096 - 1) {
        look_found(look, GUEST_FOUND_GPT_DAMAGED, "partition %u ends before it begins", index + 1);
        return;
    }
    part = add(look, index + 1, first * gpt->sector, (last - first + 1) * gpt->sector);
    if (part == NULL)
        return;
    name_gpt(part, entry);
    uuid_text(part->partuuid, entry + 16, true);
    take_label(part, entry + 56);
    part->active = (le64(entry + 48) & 4) != 0; /* "legacy BIOS bootable" */
}

static void check_twin(struct look *look, const struct gpt *gpt, uint64_t last) {
    struct gpt twin = {0};

    if (gpt->other > last) {
        look_found(look, GUEST_FOUND_GPT_BACKUP,
                   "the backup of the partition table lies behind the end of the disk");
        return;
    }
    if (gpt->other != last)
        look_found(look, GUEST_FOUND_GPT_MISPLACED,
                   "the backup of the partition table is not at the end of the disk");
    if (!gpt_load(look, gpt->other, gpt->sector, &twin))
        look_found(look, GUEST_FOUND_GPT_BACKUP, "the backup of the partition table is damaged");
    free(twin.entries);
}

/* Sectors have 512 or 4096 bytes. */
unsigned gpt_sector(struct look *look) {
    struct span disk = span_of(look, 0, look->source->size_bytes);
    static const unsigned sectors[] = {512, 4096};
    uint8_t magic[8];

    for (size_t i = 0; i < 2; i++)
        if (span_read(&disk, sectors[i], magic, sizeof(magic)) && memcmp(magic, "EFI PART", 8) == 0)
            return sectors[i];
    return 0;
}

static void read_gpt(struct look *look, unsigned sector) {
    uint64_t last = look->source->size_bytes / sector - 1;
    struct gpt gpt = {0};
    bool primary = gpt_load(look, 1, sector, &gpt);

    look->found->table = GUEST_TABLE_GPT;
    if (!primary && !gpt_load(look, last, sector, &gpt)) {
        look_found(look, GUEST_FOUND_GPT_DAMAGED,
                   "the GPT partition table is damaged, and so is its backup");
        return;
    }
    if (primary)
        check_twin(look, &gpt, last);
    else
        look_found(look, GUEST_FOUND_GPT_PRIMARY,
                   "the GPT partition table at the beginning of the disk is damaged, only its "
                   "backup is whole");
    for (uint32_t i = 0; i < gpt.count; i++)
        add_gpt(look, &gpt, i);
    free(gpt.entries);
}

/* --- Which of them ---------------------------------------------------------------------------- */

void table_read(struct look *look, const uint8_t *first) {
    bool signature = first[510] == 0x55 && first[511] == 0xaa, announced = false;
    unsigned sector = gpt_sector(look);

    if (signature && guest_mbr_plausible(first))
        for (unsigned i = 0; i < 4; i++)
            announced |= first[446 + 16 * i + 4] == MBR_GPT;
    if (sector == 0 && announced)
        sector = SECTOR;
    if (sector != 0)
        read_gpt(look, sector);
    else if (signature && guest_mbr_plausible(first))
        read_mbr(look, first);
    if (look->found->table != GUEST_TABLE_NONE && look->found->part_count == 0 &&
        look->found->counts[GUEST_ERROR] == 0)
        look_found(look, GUEST_FOUND_PART_EMPTY, "the partition table has no partitions");
    overlaps(look);
}
