/* SPDX-License-Identifier: Apache-2.0 */
/* Partition tables put right: a GPT from the half of it that is whole, a partition that shall be
 * larger, and the active mark. */
#include <stdio.h>
#include <zlib.h>

#include "gpt.h"
#include "repair-private.h"

enum { MBR_ACTIVE = 0x80, MBR_PROTECTIVE = 0xee };

/* --- GPT -------------------------------------------------------------------------------------- */

static void sign(uint8_t *header) {
    put_le32(header + 16, guest_gpt_checksum(header, le32(header + 12)));
}

/* Both halves of a table, made from one that is whole. */
struct halves {
    struct gpt gpt;
    uint64_t last, entry_sectors, bytes; /* of the disk; of the entries */
    uint64_t first_usable, last_usable;
};

static uint64_t last_used(const struct gpt *gpt) {
    uint64_t last = 0;

    for (uint32_t i = 0; i < gpt->count; i++) {
        const uint8_t *entry = gpt->entries + (size_t) i * gpt->each;

        if (!im_all_zero(entry, 16) && le64(entry + 40) > last)
            last = le64(entry + 40);
    }
    return last;
}

static uint64_t first_used(const struct gpt *gpt) {
    uint64_t first = UINT64_MAX;

    for (uint32_t i = 0; i < gpt->count; i++) {
        const uint8_t *entry = gpt->entries + (size_t) i * gpt->each;

        if (!im_all_zero(entry, 16) && le64(entry + 32) < first)
            first = le64(entry + 32);
    }
    return first;
}

/* Is there room for the table at both ends? */
static bool measure(struct planning *planning, struct halves *halves) {
    const struct gpt *gpt = &halves->gpt;

    halves->bytes = (uint64_t) gpt->count * gpt->each;
    halves->entry_sectors = gpt_entry_sectors(gpt);
    halves->last = planning->look->source->size_bytes / gpt->sector - 1;
    halves->last_usable = gpt_last_usable(planning->look, gpt);
    if (halves->last_usable == 0) {
        plan_cannot(planning, "the disk is too small for a partition table");
        return false;
    }
    halves->first_usable = gpt->first_usable;
    if (halves->first_usable < 2 + halves->entry_sectors)
        halves->first_usable = 2 + halves->entry_sectors;
    if (last_used(gpt) > halves->last_usable || first_used(gpt) < halves->first_usable) {
        plan_cannot(planning, "a partition reaches to where the table has to be: make the disk "
                              "larger, or the partition smaller");
        return false;
    }
    return true;
}

static void write_half(struct planning *planning, const struct halves *halves, bool backup) {
    const struct gpt *gpt = &halves->gpt;
    uint64_t header_at = backup ? halves->last : 1;
    uint64_t entries_at = backup ? halves->last - halves->entry_sectors : 2;
    uint8_t header[4096] = {0};

    memcpy(header, gpt->header, le32(gpt->header + 12));
    put_le64(header + 24, header_at);
    put_le64(header + 32, backup ? 1 : halves->last);
    put_le64(header + 40, halves->first_usable);
    put_le64(header + 48, halves->last_usable);
    put_le64(header + 72, entries_at);
    sign(header);
    plan_raw(planning, entries_at * gpt->sector, gpt->entries, (size_t) halves->bytes,
             backup ? "the entries of the partition table at the end of the disk"
                    : "the entries of the partition table at the beginning of the disk");
    plan_raw(planning, header_at * gpt->sector, header, gpt->sector,
             backup ? "the header of the partition table at the end of the disk"
                    : "the header of the partition table at the beginning of the disk");
}

/* The sector before it says to older programs that the whole disk is taken. */
static void write_protective(struct planning *planning, const struct halves *halves) {
    struct span disk = span_of(planning->look, 0, planning->look->source->size_bytes);
    uint8_t first[SECTOR], count[4];
    uint8_t *entry = first + MBR_ENTRIES;

    if (!span_read(&disk, 0, first, sizeof(first)) || first[510] != 0x55 || first[511] != 0xaa ||
        entry[4] != MBR_PROTECTIVE || le32(entry + 8) != 1)
        return;
    put_le32(count, halves->last > UINT32_MAX ? UINT32_MAX : (uint32_t) halves->last);
    if (memcmp(count, entry + 12, 4) != 0)
        plan_raw(planning, MBR_ENTRIES + 12, count, sizeof(count),
                 "the size of the disk in its first sector");
}

static bool write_both(struct planning *planning, struct halves *halves) {
    if (!measure(planning, halves))
        return false;
    write_half(planning, halves, true);
    write_half(planning, halves, false);
    write_protective(planning, halves);
    planning->table_written = true;
    return true;
}

void repair_gpt_backup(struct planning *planning) {
    struct halves halves = {0};
    unsigned sector = gpt_sector(planning->look);

    if (planning->table_written ||
        (sector != 0 && gpt_load(planning->look, 1, sector, &halves.gpt) &&
         write_both(planning, &halves)))
        plan_done(planning, "the backup of the partition table is written to the end of the disk");
    free(halves.gpt.entries);
}

void repair_gpt_primary(struct planning *planning) {
    struct halves halves = {0};
    unsigned sector = gpt_sector(planning->look);
    uint64_t last;

    sector = sector != 0 ? sector : SECTOR;
    last = planning->look->source->size_bytes / sector - 1;
    if (gpt_load(planning->look, last, sector, &halves.gpt) && write_both(planning, &halves))
        plan_done(planning, "the partition table is restored from its backup");
    free(halves.gpt.entries);
}

static bool grow_gpt(struct planning *planning, const struct guest_part *part, uint64_t len) {
    struct halves halves = {0};
    struct gpt *gpt = &halves.gpt;
    bool fine = gpt_load_any(planning->look, gpt);

    if (fine) {
        size_t bytes = (size_t) gpt->count * gpt->each;

        put_le64(gpt->entries + (size_t) (part->number - 1) * gpt->each + 40,
                 (part->offset + len) / gpt->sector - 1);
        put_le32(gpt->header + 88, (uint32_t) crc32(0, gpt->entries, (uInt) bytes));
        fine = write_both(planning, &halves);
    }
    free(gpt->entries);
    return fine;
}

/* --- MBR -------------------------------------------------------------------------------------- */

/* All but its kind and mark. In cylinders and heads it ends where those no longer count. */
static void write_entry(struct planning *planning, uint64_t at, uint64_t first, uint64_t count,
                        unsigned number) {
    uint8_t bytes[11] = {0xfe, 0xff, 0xff};
    char what[80];

    put_le32(bytes + 3, (uint32_t) first);
    put_le32(bytes + 7, (uint32_t) count);
    snprintf(what, sizeof(what), "the size of partition %u in the partition table", number);
    plan_raw(planning, at + 5, bytes, sizeof(bytes), what);
}

static uint64_t entry_at(uint64_t sector, unsigned index) {
    return sector * SECTOR + MBR_ENTRIES + (uint64_t) index * MBR_EACH;
}

/* Its own entry, that which names it, and the extended partition around all of them. */
static bool grow_logical(struct planning *planning, const struct guest_part *part, uint64_t end) {
    uint64_t first = part->offset / SECTOR, at, before;
    struct mbr mbr;
    unsigned i = 0;

    if (!mbr_read(planning->look, &mbr))
        return false;
    while (i < 4 && !mbr.entries[i].extended)
        i++;
    if (i == 4 || !mbr_logical(planning->look, mbr.entries[i].first, first, &at, &before))
        return false;
    write_entry(planning, entry_at(at, 0), first - at, end - first, part->number);
    if (before != at)
        write_entry(planning, entry_at(before, 1), at - mbr.entries[i].first, end - at,
                    part->number);
    if (mbr.entries[i].first + mbr.entries[i].count < end)
        write_entry(planning, entry_at(0, i), mbr.entries[i].first, end - mbr.entries[i].first,
                    i + 1);
    return true;
}

bool table_grow(struct planning *planning, const struct guest_part *part, uint64_t len) {
    uint64_t first = part->offset / SECTOR;

    if (planning->look->found->table == GUEST_TABLE_GPT)
        return grow_gpt(planning, part, len);
    if (part->number > 4)
        return grow_logical(planning, part, (part->offset + len) / SECTOR);
    write_entry(planning, entry_at(0, part->number - 1), first, len / SECTOR, part->number);
    return true;
}

/* --- The active partition --------------------------------------------------------------------- */

/* What the boot sector has to start: where /boot is, or the only one that there is. */
static const struct guest_part *boot_part(const struct planning *planning) {
    const struct guest_part *only = NULL;
    const struct tree *tree = planning->tree;

    for (size_t i = 0; tree != NULL && i < tree->count; i++)
        if (strcmp(tree->mounts[i].path, "/boot") == 0)
            return volume_part(tree->mounts[i].volume);
    if (tree != NULL && volume_part(tree->mounts[0].volume)->number != 0)
        return volume_part(tree->mounts[0].volume);
    for (size_t i = 0; i < planning->look->found->part_count; i++) {
        const struct guest_part *part = &planning->look->found->parts[i];

        if (part->number == 0 || part->number > 4)
            continue;
        if (only != NULL)
            return NULL;
        only = part;
    }
    return only;
}

void repair_active(struct planning *planning) {
    const struct guest_part *part = boot_part(planning);
    uint8_t active = MBR_ACTIVE;

    if (part == NULL || part->number == 0 || part->number > 4) {
        plan_cannot(planning, "it is not clear which partition is the one to start from");
        return;
    }
    plan_raw(planning, MBR_ENTRIES + (uint64_t) (part->number - 1) * MBR_EACH, &active, 1,
             "the mark of the active partition");
    plan_done(planning, "partition %u is marked active", part->number);
}
