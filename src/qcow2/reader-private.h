/* SPDX-License-Identifier: Apache-2.0 */
/* The reader's inside, shared by its look-ups and its scan. */
#ifndef QCOW2_READER_PRIVATE_H
#define QCOW2_READER_PRIVATE_H

#include "qcow2-private.h"

#define L2_CACHE 16u

struct l2_slot {
    uint64_t offset; /* of the table in the file; 0 = empty */
    uint64_t used;   /* when it was used last */
    uint64_t *entries;
};

struct qcow2_reader {
    int fd;
    bool layer; /* one of a chain: its backing file name is nobody's business */
    uint64_t file_size, cluster, clock;
    struct header header;
    uint64_t *l1; /* host order, only what the size needs */
    uint64_t l1_count;
    struct l2_slot cache[L2_CACHE];
    unsigned slots;                   /* of the cache that are used, at least one */
    uint64_t unpacked_entry;          /* whose cluster is in `unpacked`; 0 = none */
    unsigned char *packed, *unpacked; /* NULL until the first compressed cluster */
};

/* As qcow2_reader_open, but a backing file may be named: what the image does not hold is a
 * QCOW2_HOLE. */
bool reader_open_layer(int fd, uint64_t file_size, struct qcow2_reader **ret_reader,
                       struct im_err *err);

/* Where a compressed cluster lies: at most so many bytes from there on. */
void reader_packed(const struct qcow2_reader *reader, uint64_t entry, uint64_t *ret_offset,
                   uint64_t *ret_len);
/* The second level table of a first level index; *ret_entries NULL when there is none. Stays valid
 * until the next call. */
bool reader_table(struct qcow2_reader *reader, uint64_t l1_index, const uint64_t **ret_entries,
                  struct im_err *err);
/* Checks an entry as far as it can be alone, and says what it is. */
bool reader_entry(const struct qcow2_reader *reader, uint64_t entry, uint64_t guest_offset,
                  enum qcow2_kind *ret_kind, struct im_err *err);

#endif
