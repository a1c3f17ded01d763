/* SPDX-License-Identifier: Apache-2.0 */
/* What the formats fill in, and bounded reading for all of them. */
#ifndef GUEST_PRIVATE_H
#define GUEST_PRIVATE_H

#include <string.h>

#include "guest/image.h"

struct guest_image;
struct guest_ops {
    enum guest_format format;
    /* Sets image->size and image->state. */
    bool (*open)(struct guest_image *image, struct im_err *err);
    void (*close)(void *state);
    bool (*map)(struct guest_image *image, uint64_t offset, struct guest_extent *extent,
                struct im_err *err);
    /* Within one GUEST_PACKED extent; NULL if the format has none. */
    bool (*unpack)(struct guest_image *image, uint64_t offset, uint8_t *bytes, size_t len,
                   struct im_err *err);
};
extern const struct guest_ops guest_raw, guest_qcow2, guest_vmdk, guest_vdi, guest_vhd, guest_vhdx;

struct guest_image {
    const struct guest_ops *ops;
    int fd;
    uint64_t file_size, size, max_bytes;
    void *state;
};

/* Exactly `len` bytes at `offset`; beyond the end is IM_BAD_IMAGE naming `what`. */
bool guest_read_at(const struct guest_image *image, uint64_t offset, void *bytes, size_t len,
                   const char *what, struct im_err *err) IM_MUST_CHECK;
/* The same into memory of the caller, at most 64 MiB. */
bool guest_read_table(const struct guest_image *image, uint64_t offset, uint64_t len,
                      const char *what, void **ret_table, struct im_err *err) IM_MUST_CHECK;
/* A virtual size that is zero, no multiple of 512, or above the limit. */
bool guest_size_ok(const struct guest_image *image, const char *name, uint64_t size,
                   struct im_err *err) IM_MUST_CHECK;

/* The four entries of a first sector make sense, or are not a table at all (a boot sector has code
 * there). */
bool guest_mbr_plausible(const uint8_t *head);

/* Of a GPT's header of `len` bytes, at least 20, as if its field for the checksum were zeros. */
uint32_t guest_gpt_checksum(const uint8_t *header, uint32_t len);

/* A table of equally large blocks, as VDI, VHD and VHDX have it; entries say where a block lies in
 * the file, or one of the two below. */
#define BLOCK_HOLE UINT64_MAX
struct guest_blocks {
    uint64_t *where;
    uint64_t count, block_bytes;
};
/* Refuses blocks that leave the file, begin before `lowest`, or lie on one another. */
bool guest_blocks_check(const struct guest_image *image, const struct guest_blocks *blocks,
                        uint64_t lowest, const char *name, struct im_err *err) IM_MUST_CHECK;
bool guest_blocks_map(struct guest_image *image, uint64_t offset, struct guest_extent *extent,
                      struct im_err *err);
struct guest_blocks *guest_blocks_new(uint64_t count, uint64_t block_bytes);
void guest_blocks_close(void *blocks);
IM_DEFINE_AUTO(struct guest_blocks *, guest_blocks_close)

static inline uint16_t le16(const uint8_t *p) { return (uint16_t) (p[0] | p[1] << 8); }
static inline uint32_t le32(const uint8_t *p) { return le16(p) | (uint32_t) le16(p + 2) << 16; }
static inline uint64_t le64(const uint8_t *p) { return le32(p) | (uint64_t) le32(p + 4) << 32; }
static inline uint32_t be32(const uint8_t *p) {
    return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}
static inline uint16_t be16(const uint8_t *p) { return (uint16_t) (p[0] << 8 | p[1]); }
static inline uint64_t be64(const uint8_t *p) { return (uint64_t) be32(p) << 32 | be32(p + 4); }
/* CRC-32C, begun with ~0 and not turned over at the end: so as btrfs hashes names, with ~1. */
uint32_t guest_crc32c(uint32_t crc, const uint8_t *bytes, size_t len);
/* The checksum of `bytes` with the four at `at`, where it is kept itself, as zeros. */
uint32_t guest_crc32c_around(const uint8_t *bytes, size_t len, size_t at);

static inline void put_le32(uint8_t *p, uint32_t value) {
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t) (value >> 8 * i);
}
static inline void put_le64(uint8_t *p, uint64_t value) {
    put_le32(p, (uint32_t) value);
    put_le32(p + 4, (uint32_t) (value >> 32));
}
/* A fuzzer cannot guess checksums: to it all are right, so that it gets behind them. */
static inline bool checksum_fits(uint32_t written, uint32_t found) {
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    (void) written, (void) found;
    return true;
#else
    return written == found;
#endif
}
static inline bool power_of_two(uint64_t n) { return n && !(n & (n - 1)); }
static inline uint64_t ceil_div(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }

#endif
