/* SPDX-License-Identifier: Apache-2.0 */
/* Chains of layers: which of them holds a byte, and the byte. */
#include "qcow2/chain.h"

#include <inttypes.h>

#include "base/mem.h"
#include "reader-private.h"

#define TABLES_KEPT 64u /* second level tables in memory, of all layers together */

struct link {
    struct qcow2_layer layer;
    struct qcow2_reader *reader; /* NULL: raw */
    uint64_t size;
};

struct qcow2_chain {
    struct link *links;
    size_t count;
};

/* --- Opening ---------------------------------------------------------------------------------- */

static bool open_link(const struct qcow2_layer *layer, size_t count, struct link *link,
                      struct im_err *err) {
    size_t share = TABLES_KEPT / count;

    link->layer = *layer;
    if (layer->raw) {
        link->size = layer->file_size;
        return layer->file_size > 0 || im_fail(err, IM_BAD_IMAGE, "raw: the file is empty");
    }
    if (!reader_open_layer(layer->fd, layer->file_size, &link->reader, err))
        return false;
    link->reader->slots = share == 0 ? 1 : share < L2_CACHE ? (unsigned) share : L2_CACHE;
    link->size = qcow2_reader_size(link->reader);
    return true;
}

bool qcow2_chain_open(const struct qcow2_layer *layers, size_t count,
                      struct qcow2_chain **ret_chain, struct im_err *err) {
    IM_AUTO(qcow2_chain_free_auto) struct qcow2_chain *chain = NULL;

    if (count == 0 || count > QCOW2_CHAIN_MAX)
        return im_fail(err, IM_BAD_MESSAGE, "a chain of %zu layers; 1 to %u are read", count,
                       QCOW2_CHAIN_MAX);
    chain = im_alloc(sizeof(*chain));
    chain->links = im_alloc(count * sizeof(*chain->links));
    for (size_t i = 0; i < count; i++) {
        chain->count = i + 1;
        if (!open_link(&layers[i], count, &chain->links[i], err))
            return im_within(err, "layer %zu of %zu", i + 1, count);
    }
    *ret_chain = im_steal(&chain);
    return true;
}

void qcow2_chain_free(struct qcow2_chain *chain) {
    if (chain == NULL)
        return;
    for (size_t i = 0; i < chain->count; i++)
        qcow2_reader_free(chain->links[i].reader);
    free(chain->links);
    free(chain);
}

uint64_t qcow2_chain_size(const struct qcow2_chain *chain) { return chain->links[0].size; }

/* --- Look-ups --------------------------------------------------------------------------------- */

static bool map_link(struct link *link, uint64_t at, struct qcow2_extent *extent,
                     struct im_err *err) {
    if (link->reader != NULL)
        return qcow2_reader_map(link->reader, at, extent, err);
    *extent = (struct qcow2_extent){QCOW2_DATA, at, link->size - at, at};
    return true;
}

/* From the head down, each layer narrows the range to what is alike in it; a layer that ends
 * before is followed by nothing. */
bool qcow2_chain_map(struct qcow2_chain *chain, uint64_t guest_offset,
                     struct qcow2_chain_extent *ret_extent, struct im_err *err) {
    uint64_t size = qcow2_chain_size(chain), len = size - guest_offset;

    if (guest_offset >= size)
        return im_fail(err, IM_BAD_MESSAGE, "%" PRIu64 " is beyond the disk", guest_offset);
    for (size_t i = 0; i < chain->count; i++) {
        struct qcow2_extent extent;

        if (guest_offset >= chain->links[i].size)
            break;
        if (!map_link(&chain->links[i], guest_offset, &extent, err))
            return im_within(err, "layer %zu of %zu", i + 1, chain->count);
        if (extent.len < len)
            len = extent.len;
        if (extent.kind == QCOW2_HOLE)
            continue;
        *ret_extent =
            (struct qcow2_chain_extent){extent.kind, i, guest_offset, len, extent.file_offset};
        return true;
    }
    *ret_extent = (struct qcow2_chain_extent){QCOW2_HOLE, chain->count - 1, guest_offset, len, 0};
    return true;
}

static bool read_extent(struct link *link, const struct qcow2_chain_extent *extent, void *bytes,
                        size_t len, struct im_err *err) {
    if (extent->kind == QCOW2_DATA)
        return image_pread(link->layer.fd, bytes, len, extent->file_offset, err);
    if (extent->kind == QCOW2_COMPRESSED)
        return qcow2_reader_read(link->reader, extent->guest_offset, bytes, len, err);
    memset(bytes, 0, len);
    return true;
}

bool qcow2_chain_read(struct qcow2_chain *chain, uint64_t guest_offset, void *bytes, size_t len,
                      struct im_err *err) {
    uint64_t size = qcow2_chain_size(chain);
    unsigned char *to = bytes;

    if (guest_offset > size || len > size - guest_offset)
        return im_fail(err, IM_BAD_MESSAGE, "the range is beyond the disk");
    while (len > 0) {
        struct qcow2_chain_extent extent;
        size_t now;

        if (!qcow2_chain_map(chain, guest_offset, &extent, err))
            return false;
        now = extent.len < len ? (size_t) extent.len : len;
        if (!read_extent(&chain->links[extent.layer], &extent, to, now, err))
            return im_within(err, "layer %zu of %zu", extent.layer + 1, chain->count);
        to += now;
        guest_offset += now;
        len -= now;
    }
    return true;
}
