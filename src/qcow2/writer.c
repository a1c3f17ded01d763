/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a whole image: data clusters one after another from the second cluster on, all tables
 * behind them, the header last of all. */
#include "qcow2-private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

#define CLUSTER ((uint64_t) QCOW2_CLUSTER)
#define CLUSTER_BITS 16u
#define L2_ENTRIES (CLUSTER / 8)
#define COUNTS_PER_BLOCK (CLUSTER / 2)
/* Entries are kept in pieces of 4 KiB, which stand for 32 MiB of the disk: strewn data costs a
 * sixteenth of itself, not as much again. */
#define PIECE_ENTRIES 512u
#define L2_PIECES (L2_ENTRIES / PIECE_ENTRIES)
#define COPY_BUFFER (1u << 20)

struct qcow2_writer {
    int fd;
    uint64_t size, next; /* virtual size; where the next cluster of the file goes */
    uint64_t l1_count;
    uint64_t **pieces; /* l1_count * L2_PIECES: entries in host order; NULL = nothing there */
    char *backing, *backing_format; /* NULL: none */
    bool finished;
};

/* --- Placing data ----------------------------------------------------------------------------- */

struct qcow2_writer *qcow2_writer_new(int fd, uint64_t size_bytes, struct im_err *err) {
    struct qcow2_writer *writer;

    if (size_bytes == 0 || size_bytes % 512 != 0 || size_bytes > QCOW2_SIZE_MAX) {
        (void) im_fail(err, IM_BAD_MESSAGE, "a disk cannot have %" PRIu64 " bytes", size_bytes);
        return NULL;
    }
    writer = im_alloc(sizeof(*writer));
    writer->fd = fd;
    writer->size = size_bytes;
    writer->next = CLUSTER;
    writer->l1_count = l1_entries(size_bytes, CLUSTER_BITS);
    writer->pieces = im_alloc(writer->l1_count * L2_PIECES * sizeof(*writer->pieces));
    return writer;
}

void qcow2_writer_free(struct qcow2_writer *writer) {
    if (writer == NULL)
        return;
    for (uint64_t i = 0; i < writer->l1_count * L2_PIECES; i++)
        free(writer->pieces[i]);
    free(writer->pieces);
    free(writer->backing);
    free(writer->backing_format);
    free(writer);
}

bool qcow2_writer_back(struct qcow2_writer *writer, const char *backing, const char *backing_format,
                       struct im_err *err) {
    if (!backing_check(backing, backing_format, err))
        return false;
    im_replace(&writer->backing, backing);
    im_replace(&writer->backing_format, backing_format);
    return true;
}

static bool range_check(const struct qcow2_writer *writer, uint64_t offset, uint64_t len,
                        struct im_err *err) {
    if (writer->finished || offset % CLUSTER != 0 || len == 0 || offset > writer->size ||
        len > writer->size - offset || (len % CLUSTER != 0 && offset + len != writer->size))
        return im_fail(err, IM_BAD_MESSAGE,
                       "%" PRIu64 " bytes at %" PRIu64 " cannot be written to this image", len,
                       offset);
    return true;
}

static uint64_t *entry_of(struct qcow2_writer *writer, uint64_t cluster) {
    uint64_t **piece = &writer->pieces[cluster / PIECE_ENTRIES];

    if (*piece == NULL)
        *piece = im_alloc(PIECE_ENTRIES * sizeof(**piece));
    return *piece + cluster % PIECE_ENTRIES;
}

/* The clusters of the range, none of which was written before. */
static bool range_new(struct qcow2_writer *writer, uint64_t guest_offset, uint64_t len,
                      uint64_t *ret_first, uint64_t *ret_count, struct im_err *err) {
    uint64_t first = guest_offset / CLUSTER, count = round_up(len, CLUSTER) / CLUSTER;

    if (!range_check(writer, guest_offset, len, err))
        return false;
    for (uint64_t i = 0; i < count; i++)
        if (*entry_of(writer, first + i) != 0)
            return im_fail(err, IM_BAD_MESSAGE, "the cluster at %" PRIu64 " was written before",
                           (first + i) * CLUSTER);
    *ret_first = first;
    *ret_count = count;
    return true;
}

bool qcow2_writer_zero(struct qcow2_writer *writer, uint64_t guest_offset, uint64_t len,
                       struct im_err *err) {
    uint64_t first, count;

    if (!range_new(writer, guest_offset, len, &first, &count, err))
        return false;
    for (uint64_t i = 0; i < count; i++)
        *entry_of(writer, first + i) = ENTRY_ZERO;
    return true;
}

bool qcow2_writer_place(struct qcow2_writer *writer, uint64_t guest_offset, uint64_t len,
                        uint64_t *ret_file_offset, struct im_err *err) {
    uint64_t first, count;

    if (!range_new(writer, guest_offset, len, &first, &count, err))
        return false;
    for (uint64_t i = 0; i < count; i++)
        *entry_of(writer, first + i) = (writer->next + i * CLUSTER) | ENTRY_COPIED;
    *ret_file_offset = writer->next;
    writer->next += count * CLUSTER;
    return true;
}

bool qcow2_writer_data(struct qcow2_writer *writer, uint64_t guest_offset, const void *bytes,
                       size_t len, struct im_err *err) {
    uint64_t at;

    return qcow2_writer_place(writer, guest_offset, len, &at, err) &&
           im_pwrite_all(writer->fd, bytes, len, at, "the image", err);
}

static bool copy_bytes(int from, uint64_t from_at, int to, uint64_t to_at, uint64_t len,
                       struct im_err *err) {
    IM_AUTO(free_auto) char *buffer = im_alloc(COPY_BUFFER);

    while (len > 0) {
        size_t now = len < COPY_BUFFER ? (size_t) len : COPY_BUFFER;

        if (!image_pread(from, buffer, now, from_at, err) ||
            !im_pwrite_all(to, buffer, now, to_at, "the image", err))
            return false;
        from_at += now;
        to_at += now;
        len -= now;
    }
    return true;
}

bool qcow2_writer_copy(struct qcow2_writer *writer, uint64_t guest_offset, int src_fd,
                       uint64_t src_offset, uint64_t len, struct im_err *err) {
    off_t from = (off_t) src_offset, to;
    uint64_t at;

    if (!qcow2_writer_place(writer, guest_offset, len, &at, err))
        return false;
    to = (off_t) at;
    while (len > 0) {
        ssize_t now = copy_file_range(src_fd, &from, writer->fd, &to, (size_t) len, 0);

        if (now < 0 && errno == EINTR)
            continue;
        if (now < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO))
            return im_fail_sys(err, errno, "the image");
        if (now <= 0) /* not between these files, or the end: the plain way tells which */
            return copy_bytes(src_fd, (uint64_t) from, writer->fd, (uint64_t) to, len, err);
        len -= (uint64_t) now;
    }
    return true;
}

uint64_t qcow2_writer_placed(const struct qcow2_writer *writer) { return writer->next - CLUSTER; }

/* Whether nothing was placed from this cluster on. */
static bool empty_from(const struct qcow2_writer *writer, uint64_t cluster) {
    uint64_t first = cluster / PIECE_ENTRIES, count = writer->l1_count * L2_PIECES;

    for (uint64_t k = cluster % PIECE_ENTRIES;
         first < count && writer->pieces[first] != NULL && k < PIECE_ENTRIES; k++)
        if (writer->pieces[first][k] != 0)
            return false;
    for (uint64_t i = first + 1; i < count; i++)
        if (writer->pieces[i] != NULL)
            return false;
    return true;
}

bool qcow2_writer_cut(struct qcow2_writer *writer, uint64_t size_bytes, struct im_err *err) {
    uint64_t count = l1_entries(size_bytes, CLUSTER_BITS);

    if (size_bytes == 0 || size_bytes % 512 != 0 || size_bytes > writer->size)
        return im_fail(err, IM_BAD_MESSAGE, "the image cannot be cut to %" PRIu64 " bytes",
                       size_bytes);
    if (!empty_from(writer, round_up(size_bytes, CLUSTER) / CLUSTER))
        return im_fail(err, IM_BAD_MESSAGE, "something was written beyond %" PRIu64 " bytes",
                       size_bytes);
    /* An empty piece behind the end is of no use, and would not be freed. */
    for (uint64_t i = count * L2_PIECES; i < writer->l1_count * L2_PIECES; i++)
        free(writer->pieces[i]);
    writer->size = size_bytes;
    writer->l1_count = count;
    return true;
}

/* --- The tables ------------------------------------------------------------------------------- */

/* One second level table out of its pieces; false if there is none. */
static bool gather_table(const struct qcow2_writer *writer, uint64_t index, unsigned char *l2) {
    uint64_t *const *pieces = writer->pieces + index * L2_PIECES;
    bool any = false;

    memset(l2, 0, CLUSTER);
    for (uint64_t i = 0; i < L2_PIECES; i++) {
        for (uint64_t k = 0; pieces[i] != NULL && k < PIECE_ENTRIES; k++)
            put64(l2 + 8 * (i * PIECE_ENTRIES + k), pieces[i][k]);
        any = any || pieces[i] != NULL;
    }
    return any;
}

/* The second level tables that hold something, then the first level table that names them. */
static bool write_tables(struct qcow2_writer *writer, struct header *header, struct im_err *err) {
    uint64_t l1_bytes = round_up(writer->l1_count * 8, CLUSTER);
    IM_AUTO(free_auto) unsigned char *l1 = im_alloc(l1_bytes), *l2 = im_alloc(CLUSTER);

    for (uint64_t i = 0; i < writer->l1_count; i++) {
        if (!gather_table(writer, i, l2))
            continue;
        if (!im_pwrite_all(writer->fd, l2, CLUSTER, writer->next, "the image's tables", err))
            return false;
        put64(l1 + 8 * i, writer->next | ENTRY_COPIED);
        writer->next += CLUSTER;
    }
    header->l1_offset = writer->next;
    header->l1_size = (uint32_t) writer->l1_count;
    writer->next += l1_bytes;
    return im_pwrite_all(writer->fd, l1, l1_bytes, header->l1_offset, "the image's tables", err);
}

/* Every cluster of the file is used exactly once, those of the refcounts included. */
static bool write_refcounts(struct qcow2_writer *writer, struct header *header,
                            struct im_err *err) {
    uint64_t others = writer->next / CLUSTER, blocks = 0, table = 0, all, left;
    IM_AUTO(free_auto) unsigned char *names = NULL, *counts = im_alloc(CLUSTER);

    do { /* they count themselves, so their number is found by trying */
        all = others + blocks + table;
        blocks = round_up(all, COUNTS_PER_BLOCK) / COUNTS_PER_BLOCK;
        table = round_up(blocks * 8, CLUSTER) / CLUSTER;
    } while (all != others + blocks + table);
    names = im_alloc(table * CLUSTER);
    for (uint64_t i = 0; i < blocks; i++) {
        left = all - i * COUNTS_PER_BLOCK;
        memset(counts, 0, CLUSTER);
        for (uint64_t k = 0; k < left && k < COUNTS_PER_BLOCK; k++)
            put16(counts + 2 * k, 1);
        put64(names + 8 * i, writer->next);
        if (!im_pwrite_all(writer->fd, counts, CLUSTER, writer->next, "the refcounts", err))
            return false;
        writer->next += CLUSTER;
    }
    header->refcount_offset = writer->next;
    header->refcount_clusters = (uint32_t) table;
    writer->next += table * CLUSTER;
    return im_pwrite_all(writer->fd, names, table * CLUSTER, header->refcount_offset,
                         "the refcounts", err);
}

static bool make_durable(int fd, struct im_err *err) {
    return fsync(fd) == 0 || im_fail_sys(err, errno, "the image cannot be made durable");
}

bool qcow2_writer_finish(struct qcow2_writer *writer, struct im_err *err) {
    struct header header = {
        .cluster_bits = CLUSTER_BITS, .size = writer->size, .refcount_order = 4};
    unsigned char bytes[HEAD_MAX] = {0};
    size_t len;

    writer->finished = true;
    if (!write_tables(writer, &header, err) || !write_refcounts(writer, &header, err))
        return false;
    if (ftruncate(writer->fd, (off_t) writer->next) < 0)
        return im_fail_sys(err, errno, "the image");
    if (!make_durable(writer->fd, err))
        return false;
    len = head_put(bytes, &header, writer->backing, writer->backing_format);
    return im_pwrite_all(writer->fd, bytes, len, 0, "the image's header", err) &&
           make_durable(writer->fd, err);
}
