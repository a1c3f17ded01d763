/* SPDX-License-Identifier: Apache-2.0 */
/* Folding: one pass over the disk, cluster by cluster of the layer that is made. */
#include "qcow2/fold.h"

#include "base/mem.h"
#include "qcow2-private.h"

#define CLUSTER ((uint64_t) QCOW2_CLUSTER)
#define COPY_MOST (16 * CLUSTER) /* between two calls of pace */
#define SKIP_MOST (8192 * CLUSTER)

struct folding {
    const struct qcow2_fold *fold;
    struct qcow2_chain *chain;
    struct qcow2_writer *writer;
    uint64_t size, copied;
    unsigned char *cluster; /* one that comes from several extents */
};

/* Smaller ones could hold a part of a cluster of ours, whose other part is in a layer below, which
 * we do not read. */
static bool clusters_fit(const struct qcow2_fold *fold, struct im_err *err) {
    for (size_t i = 0; i < fold->count; i++) {
        struct qcow2_info info;

        if (fold->layers[i].raw)
            continue;
        if (!qcow2_info_read(fold->layers[i].fd, &info, err))
            return im_within(err, "layer %zu of %zu", i + 1, fold->count);
        if (1ull << info.cluster_bits < CLUSTER)
            return im_fail(err, IM_UNSUPPORTED,
                           "layer %zu of %zu: clusters below 64 KiB are not folded", i + 1,
                           fold->count);
    }
    return true;
}

static bool copy_data(struct folding *folding, const struct qcow2_chain_extent *extent,
                      uint64_t len, struct im_err *err) {
    folding->copied += len;
    return qcow2_writer_copy(folding->writer, extent->guest_offset,
                             folding->fold->layers[extent->layer].fd, extent->file_offset, len,
                             err);
}

static bool copy_read(struct folding *folding, uint64_t at, uint64_t len, struct im_err *err) {
    folding->copied += len;
    return qcow2_chain_read(folding->chain, at, folding->cluster, (size_t) len, err) &&
           qcow2_writer_data(folding->writer, at, folding->cluster, (size_t) len, err);
}

static bool hide(struct folding *folding, uint64_t at, uint64_t len, struct im_err *err) {
    return folding->fold->backing == NULL || qcow2_writer_zero(folding->writer, at, len, err);
}

/* A cluster that a layer ends in. Above that layer there is nothing, and those below end no later:
 * what is no data there reads as zeros. */
static bool fold_mixed(struct folding *folding, uint64_t at, uint64_t len, struct im_err *err) {
    struct qcow2_chain_extent extent;
    bool data = false, zero = false;

    for (uint64_t next = at; next < at + len; next += extent.len) {
        if (!qcow2_chain_map(folding->chain, next, &extent, err))
            return false;
        data = data || extent.kind == QCOW2_DATA || extent.kind == QCOW2_COMPRESSED;
        zero = zero || extent.kind == QCOW2_ZERO;
    }
    if (data)
        return copy_read(folding, at, len, err);
    return !zero || hide(folding, at, len, err);
}

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* From `at`, which begins a cluster, as far as one step goes. */
static bool fold_step(struct folding *folding, uint64_t at, uint64_t *ret_len, struct im_err *err) {
    uint64_t first = least(CLUSTER, folding->size - at);
    struct qcow2_chain_extent extent;

    if (!qcow2_chain_map(folding->chain, at, &extent, err))
        return false;
    if (extent.len < first) {
        *ret_len = first;
        return fold_mixed(folding, at, first, err);
    }
    if (at + extent.len < folding->size)
        extent.len -= extent.len % CLUSTER;
    switch (extent.kind) {
    case QCOW2_DATA:
        *ret_len = least(extent.len, COPY_MOST);
        return copy_data(folding, &extent, *ret_len, err);
    case QCOW2_COMPRESSED:
        *ret_len = first;
        return copy_read(folding, at, first, err);
    case QCOW2_ZERO:
        *ret_len = least(extent.len, SKIP_MOST);
        return hide(folding, at, *ret_len, err);
    case QCOW2_HOLE:
        break;
    }
    *ret_len = least(extent.len, SKIP_MOST);
    return true;
}

static bool fold_all(struct folding *folding, struct im_err *err) {
    uint64_t at = 0, len, told = 0, told_copied = 0;

    for (; at < folding->size; at += len) {
        if (!fold_step(folding, at, &len, err))
            return false;
        if (folding->fold->pace != NULL &&
            (folding->copied - told_copied >= COPY_MOST || at + len - told >= SKIP_MOST)) {
            if (!folding->fold->pace(folding->fold->arg, at + len, folding->copied, err))
                return false;
            told = at + len;
            told_copied = folding->copied;
        }
    }
    return true;
}

bool qcow2_fold(int fd, const struct qcow2_fold *fold, uint64_t *ret_copied, struct im_err *err) {
    IM_AUTO(qcow2_chain_free_auto) struct qcow2_chain *chain = NULL;
    IM_AUTO(qcow2_writer_free_auto) struct qcow2_writer *writer = NULL;
    IM_AUTO(free_auto) unsigned char *cluster = im_alloc(CLUSTER);
    struct folding folding = {.fold = fold, .cluster = cluster};

    if (!clusters_fit(fold, err) || !qcow2_chain_open(fold->layers, fold->count, &chain, err))
        return false;
    folding.chain = chain;
    folding.size = qcow2_chain_size(chain);
    folding.writer = writer = qcow2_writer_new(fd, folding.size, err);
    if (writer == NULL ||
        (fold->backing != NULL && !qcow2_writer_back(writer, fold->backing, "qcow2", err)) ||
        !fold_all(&folding, err) || !qcow2_writer_finish(writer, err))
        return false;
    *ret_copied = folding.copied;
    return true;
}
