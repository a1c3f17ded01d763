/* SPDX-License-Identifier: Apache-2.0 */
/* The layout of the format, shared by the parts of this room. All numbers in a file are big-endian.
 */
#ifndef QCOW2_QCOW2_PRIVATE_H
#define QCOW2_QCOW2_PRIVATE_H

#include <endian.h>
#include <string.h>

#include "qcow2/qcow2.h"

#define HEADER_MAGIC 0x514649fbu /* "QFI" and 0xfb */
#define HEADER_V2 72u            /* bytes that version 2 has */
#define HEADER_V3 104u           /* and the least that version 3 has */
#define HEADER_COMPRESSION 104u  /* one byte, where the header is longer */

#define INCOMPAT_DIRTY 1ull
#define INCOMPAT_CORRUPT 2ull
#define INCOMPAT_DATA_FILE 4ull
#define INCOMPAT_COMPRESSION 8ull
#define INCOMPAT_EXTENDED_L2 16ull

#define EXT_END 0u
#define EXT_BACKING_FORMAT 0xe2792acau
#define EXT_DATA_FILE 0x44415441u

#define ENTRY_OFFSET 0x00fffffffffffe00ull /* of L1 and of plain L2 entries */
#define ENTRY_COPIED (1ull << 63)          /* refcount is exactly one: may be written in place */
#define ENTRY_COMPRESSED (1ull << 62)
#define ENTRY_ZERO 1ull

/* As in QEMU: 4 Mi first level entries. */
#define L1_BYTES_MAX (32ull << 20)

struct header {
    uint32_t version;
    uint64_t backing_offset;
    uint32_t backing_len;
    uint32_t cluster_bits;
    uint64_t size;
    uint32_t crypt;
    uint32_t l1_size; /* entries */
    uint64_t l1_offset;
    uint64_t refcount_offset;
    uint32_t refcount_clusters;
    uint32_t snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible;
    uint64_t autoclear;
    uint32_t refcount_order;
    uint32_t length;
    uint8_t compression; /* 0 zlib, 1 zstd */
};

static inline uint16_t get16(const void *p) {
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return be16toh(v);
}
static inline uint32_t get32(const void *p) {
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return be32toh(v);
}
static inline uint64_t get64(const void *p) {
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return be64toh(v);
}
static inline void put16(void *p, uint16_t v) {
    v = htobe16(v);
    memcpy(p, &v, sizeof(v));
}
static inline void put32(void *p, uint32_t v) {
    v = htobe32(v);
    memcpy(p, &v, sizeof(v));
}
static inline void put64(void *p, uint64_t v) {
    v = htobe64(v);
    memcpy(p, &v, sizeof(v));
}
static inline uint64_t round_up(uint64_t value, uint64_t unit) {
    return (value + unit - 1) / unit * unit;
}

/* Entries of a first level table for so many bytes. */
uint64_t l1_entries(uint64_t size_bytes, unsigned cluster_bits);
/* Puts a version 3 header of HEADER_V3 bytes into `out`. */
void header_put(const struct header *header, unsigned char out[HEADER_V3]);
/* What stands at the beginning of an image: header, the backing file's format, its name (NULL:
 * none), in at most HEAD_MAX bytes, all zeros before; how many of them. */
#define HEAD_MAX (HEADER_V3 + 64 + QCOW2_BACKING_MAX)
size_t head_put(unsigned char out[HEAD_MAX], struct header *header, const char *backing,
                const char *format);
bool backing_check(const char *backing, const char *format, struct im_err *err);
/* Reads the header of a file of `file_size` bytes and checks what can be checked without knowing
 * what it is for: magic, version, cluster size, its own length, that l1 and refcount table lie
 * inside the file. */
bool header_read(int fd, uint64_t file_size, struct header *ret_header, struct im_err *err);
/* Calls `each` for the header extensions up to the end mark; stops with false when it does. A
 * payload that reaches beyond the first cluster or into the backing name is IM_BAD_IMAGE. */
bool header_extensions(int fd, uint64_t file_size, const struct header *header,
                       bool (*each)(void *arg, uint32_t type, const unsigned char *bytes,
                                    uint32_t len, struct im_err *err),
                       void *arg, struct im_err *err);
/* The backing file name, NUL-terminated; header->backing_len is checked. */
bool header_backing(int fd, uint64_t file_size, const struct header *header,
                    char ret_name[QCOW2_BACKING_MAX], struct im_err *err);
/* Exactly `len` bytes; a file that ends before is IM_BAD_IMAGE, as it was longer a moment ago. */
bool image_pread(int fd, void *bytes, size_t len, uint64_t offset, struct im_err *err);

#endif
