/* SPDX-License-Identifier: Apache-2.0 */
/* What is on a disk's first sectors: partition table, boot sector, and for which firmware. */
#include <zlib.h>

#include "base/str.h"
#include "guest-private.h"

enum { TYPE_ESP = 0xef, TYPE_GPT = 0xee };
#define ENTRIES_MAX 1024u
#define CODE_BYTES 440u

static const uint8_t guid_esp[] =
    "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b";
static const uint8_t guid_bios[] =
    "\x48\x61\x68\x21\x49\x64\x6f\x6e\x74\x4e\x65\x65\x64\x45\x46\x49";
static const uint8_t guid_none[16];

const char *guest_table_name(enum guest_table table) {
    static const char *const names[] = {"none", "mbr", "gpt"};

    return names[table];
}

static bool nothing(const uint8_t *bytes, size_t len) {
    while (len > 0 && bytes[len - 1] == 0)
        len--;
    return len == 0;
}

/* What the two kinds of table tell about starting. */
struct start {
    bool esp, bios;
};

static bool beyond(uint64_t end, uint64_t size, unsigned number, struct im_err *err) {
    char has[16], wants[16];

    if (end <= size)
        return true;
    return im_fail(err, IM_BAD_IMAGE,
                   "partition %u ends at %s, but the disk is only %s large (cut short?)", number,
                   im_size_text(end, wants), im_size_text(size, has));
}

/* The header at the second sector, for sectors of 512 or 4096 bytes. */
static const uint8_t *gpt_header(const uint8_t *head, size_t len, unsigned *ret_sector) {
    static const unsigned sectors[] = {512, 4096};

    for (size_t i = 0; i < 2; i++)
        if (len >= sectors[i] * 2 && memcmp(head + sectors[i], "EFI PART", 8) == 0) {
            *ret_sector = sectors[i];
            return head + sectors[i];
        }
    return NULL;
}

uint32_t guest_gpt_checksum(const uint8_t *header, uint32_t len) {
    static const uint8_t blank[4];
    uint32_t crc = (uint32_t) crc32(0, header, 16);

    crc = (uint32_t) crc32(crc, blank, 4);
    return (uint32_t) crc32(crc, header + 20, len - 20);
}

static bool gpt_whole(const uint8_t *gpt, unsigned sector) {
    uint32_t size = le32(gpt + 12);

    return size >= 92 && size <= sector &&
           checksum_fits(le32(gpt + 16), guest_gpt_checksum(gpt, size));
}

static bool gpt_entry(const uint8_t *entry, unsigned sector, uint64_t size, unsigned number,
                      struct guest_disk *disk, struct start *start, struct im_err *err) {
    uint64_t first = le64(entry + 32), last = le64(entry + 40);

    if (memcmp(entry, guid_none, 16) == 0)
        return true;
    if (last < first || last >= UINT64_MAX / 4096 - 1)
        return im_fail(err, IM_BAD_IMAGE, "partition %u ends before it begins", number);
    if (!beyond((last + 1) * sector, size, number, err))
        return false;
    disk->partitions++;
    start->esp |= memcmp(entry, guid_esp, 16) == 0;
    start->bios |= memcmp(entry, guid_bios, 16) == 0 || (le64(entry + 48) & 4);
    return true;
}

static bool read_gpt(const uint8_t *head, size_t len, uint64_t size, const uint8_t *gpt,
                     unsigned sector, struct guest_disk *disk, struct start *start,
                     struct im_err *err) {
    uint64_t at = le64(gpt + 72);
    uint32_t count = le32(gpt + 80), bytes = le32(gpt + 84);

    if (!gpt_whole(gpt, sector))
        return im_fail(err, IM_BAD_IMAGE, "the checksum of its GPT partition table is wrong");
    if (bytes < 128 || bytes > 4096 || bytes % 8 || count == 0 || count > ENTRIES_MAX || at < 2 ||
        at > len)
        return im_fail(err, IM_BAD_IMAGE, "its GPT partition table has an impossible form");
    for (uint32_t i = 0; i < count; i++) {
        uint64_t offset = at * sector + (uint64_t) i * bytes;

        if (offset + bytes > len)
            break; /* entries that lie unusually far are left to the firmware */
        if (!gpt_entry(head + offset, sector, size, i + 1, disk, start, err))
            return false;
    }
    if (disk->partitions == 0)
        return im_fail(err, IM_BAD_IMAGE, "its GPT partition table is empty");
    disk->table = GUEST_TABLE_GPT;
    return true;
}

bool guest_mbr_plausible(const uint8_t *head) {
    unsigned good = 0;

    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *entry = head + 446 + 16 * i;

        if (entry[0] != 0 && entry[0] != 0x80)
            return false;
        if (entry[4] != 0 && le32(entry + 8) != 0 && le32(entry + 12) != 0)
            good++;
    }
    return good > 0;
}

static bool read_mbr(const uint8_t *head, uint64_t size, struct guest_disk *disk,
                     struct start *start, struct im_err *err) {
    for (unsigned i = 0; i < 4; i++) {
        const uint8_t *entry = head + 446 + 16 * i;
        uint64_t end = ((uint64_t) le32(entry + 8) + le32(entry + 12)) * 512;

        if (entry[4] == 0 || le32(entry + 8) == 0 || le32(entry + 12) == 0)
            continue;
        if (entry[4] == TYPE_GPT)
            return im_fail(err, IM_BAD_IMAGE,
                           "its first sector announces a GPT partition table that is not there");
        if (!beyond(end, size, i + 1, err))
            return false;
        disk->partitions++;
        start->esp |= entry[4] == TYPE_ESP;
    }
    start->bios = true; /* with code, it is what a BIOS starts */
    disk->table = GUEST_TABLE_MBR;
    return true;
}

static bool refuse_bare(const uint8_t *head, size_t len, struct im_err *err) {
    if (len >= 1082 && head[1080] == 0x53 && head[1081] == 0xef)
        return im_fail(err, IM_BAD_IMAGE,
                       "it is a bare ext file system without partition table or boot sector");
    if (len >= 4 && memcmp(head, "XFSB", 4) == 0)
        return im_fail(err, IM_BAD_IMAGE,
                       "it is a bare XFS file system without partition table or boot sector");
    if (nothing(head, len))
        return im_fail(err, IM_BAD_IMAGE,
                       "it begins with zeros only: no partition table, no boot sector");
    return im_fail(err, IM_BAD_IMAGE, "it has neither a partition table nor a boot sector");
}

static bool look(const uint8_t *head, size_t len, uint64_t size, struct guest_disk *disk,
                 struct start *start, struct im_err *err) {
    bool signature = len >= 512 && head[510] == 0x55 && head[511] == 0xaa;
    unsigned sector = 0;
    const uint8_t *gpt = gpt_header(head, len, &sector);

    if (gpt)
        return read_gpt(head, len, size, gpt, sector, disk, start, err);
    if (signature && guest_mbr_plausible(head))
        return read_mbr(head, size, disk, start, err);
    if (signature && !nothing(head, CODE_BYTES)) {
        start->bios = true;
        return true;
    }
    return refuse_bare(head, len, err);
}

bool guest_disk_check(const uint8_t *head, size_t head_len, uint64_t size_bytes, bool force,
                      struct guest_disk *ret_disk, struct im_err *err) {
    struct guest_disk disk = {0};
    struct start start = {0};

    if (!look(head, head_len, size_bytes, &disk, &start, err)) {
        if (!force)
            return false;
        *err = (struct im_err){0};
    }
    start.bios = start.bios && head_len >= CODE_BYTES && !nothing(head, CODE_BYTES);
    disk.uefi = start.esp && !start.bios;
    *ret_disk = disk;
    return true;
}
