/* SPDX-License-Identifier: Apache-2.0 */
/* Is there anything that a firmware starts? */
#include <stdio.h>

#include "inspect-private.h"

#define CODE_BYTES 440u
#define GRUB_CORE_AT 0x5cu  /* where GRUB's boot sector keeps the place of its next part */
#define GRUB_LIST_AT 500u   /* where that part keeps the place and number of the others */
#define GRUB_LIST_MAX 1024u /* sectors of a core that makes sense */

static bool says(const uint8_t *sector, const char *text) {
    size_t len = strlen(text);

    for (size_t at = 0; at + len <= SECTOR; at++)
        if (memcmp(sector + at, text, len) == 0)
            return true;
    return false;
}

/* What mkfs.fat and mkfs.ntfs write only tells that there is nothing to start. */
static bool has_code(const uint8_t *first) {
    return first[510] == 0x55 && first[511] == 0xaa && !im_all_zero(first, CODE_BYTES) &&
           !says(first, "not a bootable disk") && !says(first, "BOOTMGR is missing");
}

/* Windows writes its boot code onto GPT disks as well, where it finds no active entry to go on
 * with. */
static bool leads_nowhere(const uint8_t *first, enum guest_table table) {
    if (table != GUEST_TABLE_GPT || !says(first, "Invalid partition table") ||
        !says(first, "Error loading operating system"))
        return false;
    for (unsigned i = 0; i < 4; i++)
        if (first[446 + 16 * i] == 0x80)
            return false;
    return true;
}

static const struct guest_part *part_of_type(const struct look *look, const char *type) {
    for (size_t i = 0; i < look->found->part_count; i++)
        if (look->found->parts[i].number != 0 && strcmp(look->found->parts[i].type, type) == 0)
            return &look->found->parts[i];
    return NULL;
}

static bool any_active(const struct look *look) {
    for (size_t i = 0; i < look->found->part_count; i++)
        if (look->found->parts[i].active)
            return true;
    return false;
}

/* --- UEFI ------------------------------------------------------------------------------------- */

/* The best of all EFI system partitions. */
static enum fat_answer esp_answer(struct look *look) {
    enum fat_answer best = FAT_UNREADABLE;

    for (size_t i = 0; i < look->found->part_count; i++) {
        const struct guest_part *part = &look->found->parts[i];
        struct span span = span_of(look, part->offset, part->len);
        enum fat_answer answer;

        if (part->number == 0 || strcmp(part->type, TYPE_ESP) != 0)
            continue;
        answer = fat_loader(&span);
        best = answer > best ? answer : best;
    }
    return best;
}

/* A disk that a BIOS starts need not have anything for UEFI. */
static void check_uefi(struct look *look) {
    const struct guest_part *esp = part_of_type(look, TYPE_ESP);
    enum fat_answer answer;

    if (esp == NULL)
        return;
    answer = esp_answer(look);
    look->found->uefi = answer >= FAT_VENDOR;
    if (look->found->bios || answer == FAT_FALLBACK)
        return;
    if (answer == FAT_VENDOR)
        look_found(look, GUEST_FOUND_ESP_FALLBACK,
                   "the EFI system partition (%u) has no /EFI/BOOT/BOOTX64.EFI", esp->number);
    else if (answer == FAT_NOTHING)
        look_found(look, GUEST_FOUND_ESP_EMPTY,
                   "the EFI system partition (%u) has no boot loader, and there is no boot sector "
                   "code",
                   esp->number);
    else
        look_found(look, GUEST_FOUND_ESP_UNREADABLE,
                   "the EFI system partition (%u) has no readable FAT file system, and there is no "
                   "boot sector code",
                   esp->number);
}

/* --- BIOS ------------------------------------------------------------------------------------- */

/* What the core's first sector loads is packed: hardly a sector of it is empty. */
static bool rest_filled(const struct span *disk, const uint8_t *core) {
    uint64_t at = le64(core + GRUB_LIST_AT);
    unsigned count = le16(core + GRUB_LIST_AT + 8), filled = 0;
    uint8_t sector[SECTOR];

    if (count == 0 || count > GRUB_LIST_MAX)
        return true; /* not as GRUB lays it out: that it is there must do */
    for (unsigned i = 0; i < count; i++)
        filled += at < disk->len / SECTOR && at + i < disk->len / SECTOR &&
                  span_read(disk, (at + i) * SECTOR, sector, sizeof(sector)) &&
                  !im_all_zero(sector, sizeof(sector));
    return filled > count / 2;
}

/* GRUB's first sector only loads the rest, which lies between the partitions or in one of its own;
 * disks that were copied from their first partition on lack it. */
static bool grub_whole(struct look *look, const uint8_t *first) {
    struct span disk = span_of(look, 0, look->source->size_bytes);
    uint8_t core[SECTOR];

    return le64(first + GRUB_CORE_AT) < disk.len / SECTOR &&
           span_read(&disk, le64(first + GRUB_CORE_AT) * SECTOR, core, sizeof(core)) &&
           !im_all_zero(core, sizeof(core)) && rest_filled(&disk, core);
}

static void check_bios(struct look *look, const uint8_t *first) {
    struct guest_inspection *found = look->found;
    bool grub = says(first, "GRUB ");

    if (!has_code(first) || leads_nowhere(first, found->table))
        return;
    found->bios = !grub || grub_whole(look, first);
    look->grub = grub && found->bios;
    if (grub && found->bios && found->table == GUEST_TABLE_GPT && found->part_count > 0 &&
        part_of_type(look, TYPE_BIOS) == NULL)
        look_found(look, GUEST_FOUND_BOOT_BIOS_PARTITION,
                   "GRUB's code lies between the partitions of a GPT disk, where others may write");
    if (!grub && found->table == GUEST_TABLE_MBR && !any_active(look))
        look_found(look, GUEST_FOUND_BOOT_ACTIVE,
                   "no partition is marked active, as boot sectors other than GRUB's want it");
}

/* --- Neither ---------------------------------------------------------------------------------- */

static void tell_why(struct look *look, const uint8_t *first) {
    const struct guest_inspection *found = look->found;
    const struct guest_part *whole = found->part_count > 0 ? &found->parts[0] : NULL;

    if (found->table != GUEST_TABLE_NONE)
        look_found(look, GUEST_FOUND_BOOT_NONE,
                   "there is neither code in the boot sector nor an EFI system partition");
    else if (whole != NULL && whole->filesystem[0] != '\0')
        look_found(look, GUEST_FOUND_BOOT_NONE,
                   "the whole disk is one %s file system, without partition table or boot loader",
                   whole->filesystem);
    else if (im_all_zero(first, SECTOR))
        look_found(look, GUEST_FOUND_DISK_EMPTY,
                   "the disk begins with zeros: there is neither a boot sector nor a partition "
                   "table");
    else
        look_found(look, GUEST_FOUND_BOOT_NONE,
                   "there is neither a boot sector nor a partition table");
}

void boot_check(struct look *look, const uint8_t *first) {
    struct guest_inspection *found = look->found;

    check_bios(look, first);
    check_uefi(look);
    if (found->bios && found->table == GUEST_TABLE_NONE)
        look_found(look, GUEST_FOUND_DISK_NO_TABLE,
                   "the disk has a boot sector but no partition table");
    if (found->bios || found->uefi || part_of_type(look, TYPE_ESP) != NULL)
        return;
    if (says(first, "GRUB "))
        look_found(look, GUEST_FOUND_BOOT_CORE,
                   "GRUB's boot sector points to a place where the rest of it is not");
    else
        tell_why(look, first);
}
