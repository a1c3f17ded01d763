/* SPDX-License-Identifier: Apache-2.0 */
/* Exports as raw.zst: one zstd frame, which says how much it unpacks to and carries a checksum. The
 * same disk gives the same bytes, whatever the number of threads. */
#include <zstd.h>

#include "base/mem.h"
#include "worker-private.h"

#define LEVEL 3

struct zstd_state {
    ZSTD_CCtx *context;
    uint64_t taken; /* bytes of the disk */
};

static const uint8_t zeros[EXPORT_WINDOW];

static bool fine(size_t result, struct im_err *err) {
    return !ZSTD_isError(result) ||
           im_fail(err, IM_NO_RESOURCE, "zstd: %s", ZSTD_getErrorName(result));
}

static bool zstd_begin(struct outlet *outlet, void **ret_state, struct im_err *err) {
    struct zstd_state *state = im_alloc(sizeof(*state));

    *ret_state = state;
    state->context = ZSTD_createCCtx();
    if (state->context == NULL)
        return im_fail(err, IM_NO_RESOURCE, "zstd: no memory");
    /* A library without threads compresses in ours. */
    (void) ZSTD_CCtx_setParameter(state->context, ZSTD_c_nbWorkers, (int) outlet->threads);
    return fine(ZSTD_CCtx_setParameter(state->context, ZSTD_c_compressionLevel, LEVEL), err) &&
           fine(ZSTD_CCtx_setParameter(state->context, ZSTD_c_checksumFlag, 1), err) &&
           fine(ZSTD_CCtx_setPledgedSrcSize(state->context, outlet->size), err);
}

static bool feed(struct outlet *outlet, struct zstd_state *state, const uint8_t *bytes, size_t len,
                 ZSTD_EndDirective how, struct im_err *err) {
    ZSTD_inBuffer in = {bytes, len, 0};
    size_t left;

    do {
        ZSTD_outBuffer out;

        if (outlet->buffer == NULL)
            outlet->buffer = hash_claim(outlet->hash);
        out = (ZSTD_outBuffer){outlet->buffer, HASH_BUFFER_BYTES, outlet->filled};
        left = ZSTD_compressStream2(state->context, &out, &in, how);
        outlet->filled = out.pos;
        if (!fine(left, err) || (outlet->filled == HASH_BUFFER_BYTES && !outlet_flush(outlet, err)))
            return false;
    } while (in.pos < in.size || (how == ZSTD_e_end && left > 0));
    state->taken += len;
    return true;
}

static bool feed_zeros(struct outlet *outlet, struct zstd_state *state, uint64_t end,
                       struct im_err *err) {
    while (state->taken < end) {
        uint64_t left = end - state->taken;

        if (!feed(outlet, state, zeros, left < sizeof(zeros) ? (size_t) left : sizeof(zeros),
                  ZSTD_e_continue, err))
            return false;
    }
    return true;
}

static bool zstd_window(struct outlet *outlet, void *state, uint64_t offset, const uint8_t *bytes,
                        size_t len, struct im_err *err) {
    return feed_zeros(outlet, state, offset, err) &&
           feed(outlet, state, bytes, len, ZSTD_e_continue, err);
}

static bool zstd_end(struct outlet *outlet, void *state, struct im_err *err) {
    return feed_zeros(outlet, state, outlet->size, err) &&
           feed(outlet, state, zeros, 0, ZSTD_e_end, err) && outlet_flush(outlet, err);
}

static void zstd_free(void *arg) {
    struct zstd_state *state = arg;

    if (state == NULL)
        return;
    (void) ZSTD_freeCCtx(state->context);
    free(state);
}

const struct export_format export_zstd = {"raw.zst", zstd_begin, zstd_window, zstd_end, zstd_free};
