/* SPDX-License-Identifier: Apache-2.0 */
/* A disk as its machine sees it: a chain of layers, read only. Whoever opens the files says which
 * layer stands on which and what format each has; nothing is guessed, and the names of backing
 * files that the layers carry are not looked at.
 *
 * Every number in the files is checked as qcow2_reader_open does, and the codes are the same. An
 * object belongs to one thread; the descriptors stay the caller's. */
#ifndef QCOW2_CHAIN_H
#define QCOW2_CHAIN_H

#include "qcow2/qcow2.h"

#define QCOW2_CHAIN_MAX 256u /* layers */

struct qcow2_layer {
    int fd;
    bool raw; /* else qcow2 */
    uint64_t file_size;
};

struct qcow2_chain;
/* The head of the chain, which holds what was written last, comes first. Memory: the first level
 * table of each layer, and some 64 second level tables of all together, at least one of each. */
bool qcow2_chain_open(const struct qcow2_layer *layers, size_t count,
                      struct qcow2_chain **ret_chain, struct im_err *err) IM_MUST_CHECK;
void qcow2_chain_free(struct qcow2_chain *chain); /* NULL is fine */
IM_DEFINE_AUTO(struct qcow2_chain *, qcow2_chain_free)

uint64_t qcow2_chain_size(const struct qcow2_chain *chain); /* that of the head, in bytes */

struct qcow2_chain_extent {
    enum qcow2_kind kind; /* QCOW2_HOLE: no layer holds it */
    size_t layer;         /* which one holds it, by its place in the chain */
    uint64_t guest_offset, len;
    uint64_t file_offset; /* QCOW2_DATA: in that layer's file */
};
/* What lies at guest_offset (less than the size), as far as it goes on alike; an extent may end
 * early. */
bool qcow2_chain_map(struct qcow2_chain *chain, uint64_t guest_offset,
                     struct qcow2_chain_extent *ret_extent, struct im_err *err) IM_MUST_CHECK;
/* The bytes of the range, which must lie inside the disk; zeros where no layer holds anything. */
bool qcow2_chain_read(struct qcow2_chain *chain, uint64_t guest_offset, void *bytes, size_t len,
                      struct im_err *err) IM_MUST_CHECK;

#endif
