/* SPDX-License-Identifier: Apache-2.0 */
/* The qcow2 format in our own hands: writing empty overlays in a fraction of a millisecond, writing
 * whole images at the speed of memory, and reading images that nobody vouches for.
 *
 * Codes: IM_NO_SPACE and IM_INTERNAL from the file system, IM_BAD_IMAGE for what is wrong with an
 * image, IM_BAD_MESSAGE for a size or range that a caller may not ask for, IM_UNSUPPORTED. An
 * object belongs to one thread; several objects may share a descriptor, as only pread and pwrite
 * are used. Descriptors stay the caller's. */
#ifndef QCOW2_QCOW2_H
#define QCOW2_QCOW2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

#define QCOW2_CLUSTER 65536u         /* of everything we write */
#define QCOW2_SIZE_MAX (64ull << 40) /* largest virtual size we write */
#define QCOW2_BACKING_MAX 1024       /* longest backing file name with its NUL, as QEMU has it */

/* --- Empty images, and images of ours --------------------------------------------------------- */

/* Fills the empty file `fd` with an image of `size_bytes` (a multiple of 512) that holds nothing:
 * version 3, refcounts of 16 bits, no features. With `backing` (NULL: none) what it does not hold
 * is read from that file, of the format `backing_format` ("qcow2", "raw"), which is written down so
 * that QEMU never guesses. Not yet durable: fsync is the caller's. */
bool qcow2_overlay_write(int fd, const char *backing, const char *backing_format,
                         uint64_t size_bytes, struct im_err *err) IM_MUST_CHECK;

/* Makes the image larger, durably. Nobody else may have it open. Up to 4 TiB the first level table
 * has room, and only one sector changes: the file has the old or the new size, whatever happens.
 * Beyond it the table moves to the end of the file first. Equal is fine, smaller is IM_UNSUPPORTED;
 * so are images with internal snapshots, encryption or features we do not know. */
bool qcow2_grow(int fd, uint64_t size_bytes, struct im_err *err) IM_MUST_CHECK;

/* What the header says. For files of our own pool; for files of others use the reader. */
struct qcow2_info {
    unsigned version, cluster_bits;
    uint64_t size_bytes;
    char backing[QCOW2_BACKING_MAX]; /* "" if there is none */
    char backing_format[16];         /* "" if it is not written down */
    bool data_file;                  /* its bytes lie in another file, as never in ours */
};
bool qcow2_info_read(int fd, struct qcow2_info *ret_info, struct im_err *err) IM_MUST_CHECK;

/* Writes another name in the place of that of the backing file, durably. What the image shows must
 * not change by it, and nobody else may have it open for writing. A crash in between may leave
 * neither name: the same call puts it right. IM_UNSUPPORTED for an image without one. */
bool qcow2_backing_rename(int fd, const char *backing, struct im_err *err) IM_MUST_CHECK;

/* --- Writing a whole image -------------------------------------------------------------------- */

/* Fills an empty file with an image. Clusters may come in any order, each at
 * most once; what is never written reads as zeros. Tables, refcounts and, after an fsync, the
 * header are written by qcow2_writer_finish: until then the file is no valid image. Memory: 8 bytes
 * per 64 KiB of data where data lies together, at most a sixteenth of the data where it is strewn.
 */
struct qcow2_writer;
struct qcow2_writer *qcow2_writer_new(int fd, uint64_t size_bytes,
                                      struct im_err *err) IM_MUST_CHECK;
void qcow2_writer_free(struct qcow2_writer *writer); /* NULL is fine; an unfinished file is junk */
IM_DEFINE_AUTO(struct qcow2_writer *, qcow2_writer_free)

/* What is never written is read from that file instead, as qcow2_overlay_write has it. */
bool qcow2_writer_back(struct qcow2_writer *writer, const char *backing, const char *backing_format,
                       struct im_err *err) IM_MUST_CHECK;
/* `guest_offset` is a multiple of QCOW2_CLUSTER, and so is `len` unless the range ends at the
 * image's end. Large ranges are fast. */
bool qcow2_writer_data(struct qcow2_writer *writer, uint64_t guest_offset, const void *bytes,
                       size_t len, struct im_err *err) IM_MUST_CHECK;
/* The same, from a file: copy_file_range where the kernel can, else through a buffer. A source that
 * ends early is IM_BAD_IMAGE. */
bool qcow2_writer_copy(struct qcow2_writer *writer, uint64_t guest_offset, int src_fd,
                       uint64_t src_offset, uint64_t len, struct im_err *err) IM_MUST_CHECK;
/* The same, but the caller writes the `len` bytes itself, to *ret_file_offset of the file on, in
 * any thread, before qcow2_writer_finish. */
bool qcow2_writer_place(struct qcow2_writer *writer, uint64_t guest_offset, uint64_t len,
                        uint64_t *ret_file_offset, struct im_err *err) IM_MUST_CHECK;
/* The range reads as zeros, whatever the backing file holds there; takes no room. */
bool qcow2_writer_zero(struct qcow2_writer *writer, uint64_t guest_offset, uint64_t len,
                       struct im_err *err) IM_MUST_CHECK;
/* Bytes of data placed so far, in whole clusters. */
uint64_t qcow2_writer_placed(const struct qcow2_writer *writer);
/* For streams whose end is not known before: the image ends at `size_bytes` already, a multiple of
 * 512 not above what was said at first, and nothing was written beyond its last cluster. */
bool qcow2_writer_cut(struct qcow2_writer *writer, uint64_t size_bytes,
                      struct im_err *err) IM_MUST_CHECK;
/* Ends the image, durably. The writer can then only be freed. */
bool qcow2_writer_finish(struct qcow2_writer *writer, struct im_err *err) IM_MUST_CHECK;

/* --- Reading an image that nobody vouches for ------------------------------------------------- */

/* Every number in the file is checked before it is used. Versions 2 and 3, clusters of 512 bytes to
 * 2 MiB, uncompressed, zlib and zstd. Refused with the reason: backing files, external data files,
 * encryption, internal snapshots, extended L2 entries, unknown incompatible features, images marked
 * corrupt, tables outside the file or used twice. Memory: the first level table (at most 32 MiB),
 * 16 second level tables and two clusters. */
struct qcow2_reader;
struct qcow2_limits {
    uint64_t size_max; /* largest virtual size; 0 = QCOW2_SIZE_MAX */
};
/* `file_size` bytes of the file are the image. `limits` may be NULL. */
bool qcow2_reader_open(int fd, uint64_t file_size, const struct qcow2_limits *limits,
                       struct qcow2_reader **ret_reader, struct im_err *err) IM_MUST_CHECK;
void qcow2_reader_free(struct qcow2_reader *reader); /* NULL is fine */
IM_DEFINE_AUTO(struct qcow2_reader *, qcow2_reader_free)

uint64_t qcow2_reader_size(const struct qcow2_reader *reader); /* virtual, in bytes */
unsigned qcow2_reader_cluster_bits(const struct qcow2_reader *reader);

enum qcow2_kind {
    QCOW2_HOLE,       /* not allocated: reads as zeros */
    QCOW2_ZERO,       /* marked as zeros */
    QCOW2_DATA,       /* plain bytes of the file */
    QCOW2_COMPRESSED, /* only qcow2_reader_read gets at it */
};
struct qcow2_extent {
    enum qcow2_kind kind;
    uint64_t guest_offset, len; /* begins at the offset that was asked for */
    uint64_t file_offset;       /* QCOW2_DATA: len bytes from here on, all inside the file */
};
/* What lies at guest_offset (less than the size), as far as it goes on alike: neighbouring clusters
 * of a kind are joined, data only where it is contiguous in the file; at most to the image's end.
 * A call looks at no more than 64 second level tables, so that neighbouring extents may be alike.
 */
bool qcow2_reader_map(struct qcow2_reader *reader, uint64_t guest_offset,
                      struct qcow2_extent *ret_extent, struct im_err *err) IM_MUST_CHECK;
/* The bytes of the range, which must lie inside the image; zeros where it holds nothing. */
bool qcow2_reader_read(struct qcow2_reader *reader, uint64_t guest_offset, void *bytes, size_t len,
                       struct im_err *err) IM_MUST_CHECK;

struct qcow2_totals {
    uint64_t data_bytes;       /* guest bytes that lie plain in the file */
    uint64_t compressed_bytes; /* guest bytes that compressed clusters unpack to */
};
/* Walks all tables before the first byte is copied: each entry is checked, and so is that no
 * cluster of the file is used twice (of which bombs are made). Memory: 2 bits per cluster of the
 * file. */
bool qcow2_reader_scan(struct qcow2_reader *reader, struct qcow2_totals *ret_totals,
                       struct im_err *err) IM_MUST_CHECK;

#endif
