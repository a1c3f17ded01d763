/* SPDX-License-Identifier: Apache-2.0 */
/* Disk images that nobody vouches for: the gate that each file passes before anything else opens
 * it, and a reader behind that gate. Own code per format; no foreign library or program sees the
 * file.
 *
 * Refused, each with its own sentence: formats that we do not take, files that are two formats at
 * once, images that refer to anything outside themselves, that are encrypted, larger than the
 * limit, or whose tables point where they must not. All failures are IM_BAD_IMAGE, but for read
 * errors (IM_INTERNAL) and IM_QUOTA for what is merely too large. An object belongs to one thread.
 */
#ifndef GUEST_IMAGE_H
#define GUEST_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

enum guest_format {
    GUEST_RAW,
    GUEST_QCOW2,
    GUEST_VMDK, /* monolithicSparse, streamOptimized */
    GUEST_VDI,
    GUEST_VHD, /* fixed, dynamic */
    GUEST_VHDX,
    GUEST_FORMATS
};
const char *guest_format_name(enum guest_format format); /* "raw", "qcow2" … */
/* Also takes other names in use: "img", "vpc", … */
bool guest_format_find(const char *name, enum guest_format *ret_format);

struct guest_limits {
    uint64_t max_bytes; /* of the virtual size; 0 = 64 TiB */
};

enum guest_kind {
    GUEST_ZERO,   /* reads as zeros */
    GUEST_DATA,   /* plain bytes of the file */
    GUEST_PACKED, /* compressed: guest_image_read gets at it */
};
struct guest_extent {
    enum guest_kind kind;
    uint64_t offset, len;
    uint64_t file_offset; /* GUEST_DATA: all of it lies inside the file */
};

/* How much of a stream's beginning guest_image_sniff wants to see. */
#define GUEST_HEAD_BYTES 65536u

/* What a file is by its magic numbers; a file that has none of those we know is GUEST_RAW. Refuses
 * what we do not take, and disagreement with the declared format (NULL or "": none was declared).
 * `head` is the beginning of the file, `tail` its last 512 bytes (NULL: not known yet, as in a
 * stream). */
bool guest_image_sniff(const uint8_t *head, size_t head_len, const uint8_t *tail,
                       const char *declared, enum guest_format *ret_format,
                       struct im_err *err) IM_MUST_CHECK;

struct guest_image;
/* The gate: `file_size` bytes of `fd` are the image. Reads all tables and checks them. The
 * descriptor stays the caller's. */
bool guest_image_open(int fd, uint64_t file_size, const char *declared,
                      const struct guest_limits *limits, struct guest_image **ret_image,
                      struct im_err *err) IM_MUST_CHECK;
void guest_image_free(struct guest_image *image); /* NULL is fine */
IM_DEFINE_AUTO(struct guest_image *, guest_image_free)
enum guest_format guest_image_format(const struct guest_image *image);
uint64_t guest_image_size(const struct guest_image *image); /* virtual, a multiple of 512 */
/* What lies at `offset` (less than the size), as far as it goes on alike; an extent may end early.
 */
bool guest_image_map(struct guest_image *image, uint64_t offset, struct guest_extent *ret_extent,
                     struct im_err *err) IM_MUST_CHECK;
bool guest_image_read(struct guest_image *image, uint64_t offset, void *bytes, size_t len,
                      struct im_err *err) IM_MUST_CHECK;

/* --- What is on the disk ---------------------------------------------------------------------- */

enum guest_table { GUEST_TABLE_NONE, GUEST_TABLE_MBR, GUEST_TABLE_GPT };
struct guest_disk {
    enum guest_table table; /* NONE: a boot sector without partitions, or (when forced) nothing */
    bool uefi; /* starts only with UEFI: an EFI system partition and no way for a BIOS */
    unsigned partitions;
};
const char *guest_table_name(enum guest_table table); /* "none", "mbr", "gpt" */

/* How much of a disk's beginning guest_disk_check wants to see: GPT with 16 KiB of entries on
 * sectors of 4096 bytes. */
#define GUEST_DISK_HEAD 24576u
/* Can this disk start a machine? `head` is its beginning. Refuses what has neither a partition
 * table nor a boot sector, and tables that are damaged or end beyond the disk; with `force` takes
 * all. */
bool guest_disk_check(const uint8_t *head, size_t head_len, uint64_t size_bytes, bool force,
                      struct guest_disk *ret_disk, struct im_err *err) IM_MUST_CHECK;

/* --- Both at once ----------------------------------------------------------------------------- */

struct guest_report {
    enum guest_format format;
    uint64_t size_bytes; /* virtual */
    struct guest_disk disk;
};
bool guest_probe(int fd, uint64_t file_size, const char *declared, bool force,
                 const struct guest_limits *limits, struct guest_report *ret_report,
                 struct im_err *err) IM_MUST_CHECK;

#endif
