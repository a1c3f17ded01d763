/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a look share. */
#ifndef INSPECT_PRIVATE_H
#define INSPECT_PRIVATE_H

#include "base/mem.h"
#include "base/str.h"
#include "guest-private.h"
#include "guest/inspect.h"

#define SECTOR 512u
#define PARTS_MAX 128u
#define FINDINGS_MAX 64u
#define STRIPES_MAX 16u
#define VOLUMES_MAX 32u

struct volume; /* files.h */
struct look {
    const struct guest_source *source;
    struct guest_inspection *found;
    uint64_t reads_left, file_left, unpack_left; /* see look_reads_file, look_unpacks */
    bool grub;                                   /* a BIOS starts GRUB, and all of that is there */
    bool ended;                                  /* look_end() was called */
    bool member;                                 /* the whole disk is one of a RAID of Linux (md) */
    struct im_err trouble;                       /* the host could not read */
    struct volume *volumes[VOLUMES_MAX];         /* owned: all file systems that can be read */
    size_t volume_count;
};

/* Some bytes of the disk in a row, though not always in one place. */
struct piece {
    uint64_t at, len; /* within the span */
    uint64_t stripe;  /* bytes before the next area's turn; 0 = one area */
    unsigned areas;
    uint64_t area[STRIPES_MAX]; /* where they begin on the disk */
};
struct span {
    struct look *look;
    uint64_t len;
    const struct piece *pieces; /* without a gap, in order; NULL: `offset` is where it begins */
    size_t piece_count;
    uint64_t offset;
};
/* False beyond the span or the disk, when too much was read already, and when the host cannot read:
 * then look->trouble says so. */
bool span_read(const struct span *span, uint64_t at, void *bytes, size_t len);
/* Bytes of files are paid for as well, those in holes too: they cost no reading, but time, and
 * there may be as many as a file system has numbers for. Ends the look when it is too much. */
bool look_reads_file(struct look *look, size_t len);
/* The same for what is unpacked, which is much from little; `slow`: by a packer that takes longer.
 * False when it is too much; the look goes on without it. */
bool look_unpacks(struct look *look, uint64_t len, bool slow);
uint64_t look_unpack_left(const struct look *look, bool slow);
struct span span_of(struct look *look, uint64_t offset, uint64_t len);

void look_found(struct look *look, enum guest_found kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* What is not found from now on may be there all the same: nothing more is told. */
void look_end(struct look *look, const char *why);
const char *finding_code(enum guest_found kind);
bool look_has(const struct look *look, enum guest_found kind);
/* A whole look; `then` (may be NULL) sees it before its file systems are closed. */
bool look_run(const struct guest_source *source, void (*then)(struct look *look, void *arg),
              void *arg, struct guest_inspection **ret_inspection,
              struct im_err *err) IM_MUST_CHECK;
/* Room for one more; NULL when there are too many. It moves when the next one comes. */
struct guest_part *look_part(struct look *look);

/* --- text.c ----------------------------------------------------------------------------------- */

/* Text of the disk as it may be shown: up to a NUL or `len`, without blanks at its end. */
void text_take(char *out, size_t size, const void *bytes, size_t len);
/* A character in UTF-8; what cannot be shown is a question mark. At most 3 bytes for one below
 * 0x10000, else 4. */
size_t utf8_put(char *out, uint32_t code);
/* The next character and how many bytes it takes; 0 where the text is none. */
size_t utf8_take(const char *text, size_t len, uint32_t *ret_code);
/* 16 bytes as a UUID is written; `mixed`: the first three groups are little-endian, as in GPT. */
void uuid_text(char out[40], const uint8_t *bytes, bool mixed);
/* The next line, ended by a NUL in place; NULL at the end. */
char *text_line(char **at);
/* KEY=value, KEY="value" or KEY='value', as shells read them; false if the line is another one. */
bool text_value(const char *line, const char *key, char *out, size_t size);

/* --- table.c ---------------------------------------------------------------------------------- */

/* Fills table and parts. `first` is the first sector. */
void table_read(struct look *look, const uint8_t *first);
/* How GPT and MBR call the partitions that matter here. */
#define TYPE_ESP "esp"
#define TYPE_BIOS "bios-boot"
#define TYPE_BOOT "linux-boot" /* kernels and entries for boot loaders */

/* --- boot.c ----------------------------------------------------------------------------------- */

void boot_check(struct look *look, const uint8_t *first);

/* --- fat.c ------------------------------------------------------------------------------------ */

enum fat_answer { FAT_UNREADABLE, FAT_NOTHING, FAT_VENDOR, FAT_FALLBACK };
/* What a UEFI firmware finds there. */
enum fat_answer fat_loader(const struct span *span);

/* --- filesystem.c ----------------------------------------------------------------------------- */

/* Recognises what is on the span, fills the part's fields, tells of what is wrong with it, and
 * opens it where its files can be read. `part` is its index. */
void filesystem_look(const struct span *span, size_t part);
/* One that may hold a system, and of which the superblock alone is read. */
bool filesystem_unread(const char *type);
/* Where md's superblock lies behind what the span holds; 0 = there is none. */
uint64_t member_end(const struct span *span);

/* --- system.c --------------------------------------------------------------------------------- */

/* Once all file systems are known: the system on them, and what in it will make trouble. */
void system_look(struct look *look);

#endif
