/* SPDX-License-Identifier: Apache-2.0 */
/* Streaming decompression of what a stranger compressed: gzip, xz, zstd, bzip2, found by magic
 * number, and what else kernels take an initramfs in. Concatenated members are one stream; junk
 * behind the last one is refused; memory, output and ratio are limited while the bytes run. */
#ifndef UNPACK_UNPACK_H
#define UNPACK_UNPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

enum packing {
    PACKING_NONE,
    PACKING_GZIP,
    PACKING_XZ,
    PACKING_ZSTD,
    PACKING_BZIP2,
    PACKING_LZMA, /* the form before xz */
    PACKING_LZ4,  /* the form before frames, `lz4 -l` */
    PACKINGS
};
/* Six bytes are enough; fewer are PACKING_NONE unless they match already. The last two kinds are
 * not found: a disk may well begin as they do. */
enum packing packing_detect(const void *head, size_t len);
enum packing packing_detect_all(const void *head, size_t len); /* of any kind */
const char *packing_name(enum packing packing); /* "", "gz", "xz", "zst", "bz2", "lzma", "lz4" */

struct unpacker_limits {
    uint64_t max_bytes;    /* of output; 0 = no limit */
    uint64_t max_ratio;    /* output per input; 0 = no limit */
    uint64_t ratio_floor;  /* the ratio counts only above so much output; 0 = 1 GiB */
    uint64_t memory_bytes; /* for xz, lzma, zstd and lz4; 0 = 192 MiB */
    bool one_member;       /* ends with its first member, whatever follows */
};

struct unpacker;
struct unpacker *unpacker_new(enum packing packing, const struct unpacker_limits *limits,
                              struct im_err *err) IM_MUST_CHECK;
void unpacker_free(struct unpacker *unpacker); /* NULL is fine */
IM_DEFINE_AUTO(struct unpacker *, unpacker_free)

/* Gives it input; it is borrowed until all of it is used up. `last`: nothing follows. */
void unpacker_feed(struct unpacker *unpacker, const void *bytes, size_t len, bool last);
/* Fills `bytes` as far as the input goes. *ret_len of 0 means: feed more, or, after the last input,
 * that the stream has ended as it should. IM_BAD_IMAGE for damaged, cut and trailing bytes and for
 * bombs, IM_QUOTA above max_bytes. */
bool unpacker_take(struct unpacker *unpacker, void *bytes, size_t size, size_t *ret_len,
                   struct im_err *err) IM_MUST_CHECK;
/* True once a member has ended; *ret_rest: bytes of the last input that it did not take. */
bool unpacker_ended(const struct unpacker *unpacker, size_t *ret_rest);

#endif
