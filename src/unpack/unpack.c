/* SPDX-License-Identifier: Apache-2.0 */
/* One loop over five libraries. Each of them is asked for one step at a time; members, ends and
 * limits are the loop's. */
#include "unpack/unpack.h"

#include <bzlib.h>
#include <inttypes.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "base/mem.h"
#include "base/str.h"

#define MEMORY_DEFAULT (192ull << 20)
#define FLOOR_DEFAULT (1ull << 30)

enum step { STEP_MORE, STEP_MEMBER_END, STEP_DAMAGED, STEP_MEMORY };

struct unpacker;
struct lz4;
struct codec {
    const char *name, *magic;
    size_t magic_len;
    bool (*start)(struct unpacker *unpacker); /* for each member anew */
    void (*stop)(struct unpacker *unpacker);
    enum step (*step)(struct unpacker *unpacker, uint8_t **out, size_t *room);
};

struct unpacker {
    const struct codec *codec;
    struct unpacker_limits limits;
    const uint8_t *in;
    size_t in_len;
    bool last, started, ended_once;
    uint64_t taken, made;
    z_stream gzip;
    bz_stream bzip2;
    lzma_stream xz;
    ZSTD_DStream *zstd;
    struct lz4 *lz4;
};

/* --- gzip ------------------------------------------------------------------------------------- */

static bool gzip_start(struct unpacker *unpacker) {
    unpacker->gzip = (z_stream){0};
    return inflateInit2(&unpacker->gzip, 15 + 16) == Z_OK;
}

static void gzip_stop(struct unpacker *unpacker) { (void) inflateEnd(&unpacker->gzip); }

static unsigned clip(size_t len) { return len > 1u << 30 ? 1u << 30 : (unsigned) len; }

static enum step gzip_step(struct unpacker *unpacker, uint8_t **out, size_t *room) {
    z_stream *z = &unpacker->gzip;
    unsigned in = clip(unpacker->in_len), space = clip(*room);
    int code;

    z->next_in = (Bytef *) unpacker->in;
    z->avail_in = in;
    z->next_out = *out;
    z->avail_out = space;
    code = inflate(z, Z_NO_FLUSH);
    unpacker->in += in - z->avail_in;
    unpacker->in_len -= in - z->avail_in;
    *out += space - z->avail_out;
    *room -= space - z->avail_out;
    if (code == Z_STREAM_END)
        return STEP_MEMBER_END;
    return code == Z_OK || code == Z_BUF_ERROR ? STEP_MORE
           : code == Z_MEM_ERROR               ? STEP_MEMORY
                                               : STEP_DAMAGED;
}

/* --- bzip2 ------------------------------------------------------------------------------------ */

static bool bzip2_start(struct unpacker *unpacker) {
    unpacker->bzip2 = (bz_stream){0};
    return BZ2_bzDecompressInit(&unpacker->bzip2, 0, 0) == BZ_OK;
}

static void bzip2_stop(struct unpacker *unpacker) { (void) BZ2_bzDecompressEnd(&unpacker->bzip2); }

static enum step bzip2_step(struct unpacker *unpacker, uint8_t **out, size_t *room) {
    bz_stream *bz = &unpacker->bzip2;
    unsigned in = clip(unpacker->in_len), space = clip(*room);
    int code;

    bz->next_in = (char *) unpacker->in;
    bz->avail_in = in;
    bz->next_out = (char *) *out;
    bz->avail_out = space;
    code = BZ2_bzDecompress(bz);
    unpacker->in += in - bz->avail_in;
    unpacker->in_len -= in - bz->avail_in;
    *out += space - bz->avail_out;
    *room -= space - bz->avail_out;
    if (code == BZ_STREAM_END)
        return STEP_MEMBER_END;
    return code == BZ_OK ? STEP_MORE : code == BZ_MEM_ERROR ? STEP_MEMORY : STEP_DAMAGED;
}

/* --- xz --------------------------------------------------------------------------------------- */

static bool xz_start(struct unpacker *unpacker) {
    unpacker->xz = (lzma_stream) LZMA_STREAM_INIT;
    return lzma_stream_decoder(&unpacker->xz, unpacker->limits.memory_bytes, 0) == LZMA_OK;
}

static bool lzma_start(struct unpacker *unpacker) {
    unpacker->xz = (lzma_stream) LZMA_STREAM_INIT;
    return lzma_alone_decoder(&unpacker->xz, unpacker->limits.memory_bytes) == LZMA_OK;
}

static void xz_stop(struct unpacker *unpacker) { lzma_end(&unpacker->xz); }

static enum step xz_step(struct unpacker *unpacker, uint8_t **out, size_t *room) {
    lzma_stream *xz = &unpacker->xz;
    lzma_ret code;

    xz->next_in = unpacker->in;
    xz->avail_in = unpacker->in_len;
    xz->next_out = *out;
    xz->avail_out = *room;
    code = lzma_code(xz, LZMA_RUN);
    unpacker->in = xz->next_in;
    unpacker->in_len = xz->avail_in;
    *out = xz->next_out;
    *room = xz->avail_out;
    if (code == LZMA_STREAM_END)
        return STEP_MEMBER_END;
    if (code == LZMA_MEMLIMIT_ERROR || code == LZMA_MEM_ERROR)
        return STEP_MEMORY;
    return code == LZMA_OK || code == LZMA_BUF_ERROR ? STEP_MORE : STEP_DAMAGED;
}

/* --- zstd ------------------------------------------------------------------------------------- */

static bool zstd_start(struct unpacker *unpacker) {
    int window = 10;

    if (!unpacker->zstd)
        unpacker->zstd = ZSTD_createDStream();
    while (window < 31 && 2ull << window <= unpacker->limits.memory_bytes)
        window++;
    return unpacker->zstd && !ZSTD_isError(ZSTD_initDStream(unpacker->zstd)) &&
           !ZSTD_isError(ZSTD_DCtx_setParameter(unpacker->zstd, ZSTD_d_windowLogMax, window));
}

static void zstd_stop(struct unpacker *unpacker) { (void) unpacker; }

static enum step zstd_step(struct unpacker *unpacker, uint8_t **out, size_t *room) {
    ZSTD_inBuffer in = {.src = unpacker->in, .size = unpacker->in_len};
    ZSTD_outBuffer to = {.dst = *out, .size = *room};
    size_t code = ZSTD_decompressStream(unpacker->zstd, &to, &in);

    unpacker->in += in.pos;
    unpacker->in_len -= in.pos;
    *out += to.pos;
    *room -= to.pos;
    if (ZSTD_isError(code))
        return ZSTD_getErrorCode(code) == ZSTD_error_frameParameter_windowTooLarge ||
                       ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation
                   ? STEP_MEMORY
                   : STEP_DAMAGED;
    return code == 0 ? STEP_MEMBER_END : STEP_MORE;
}

/* --- lz4, as kernels have it ------------------------------------------------------------------ */

/* The oldest form of its files: a magic number, then blocks, each with its packed length before it,
 * up to the end of the input or a length that is none. */
enum { LZ4_PLAIN = 8 << 20, LZ4_PACKED = LZ4_COMPRESSBOUND(LZ4_PLAIN) };
struct lz4 {
    bool began;
    uint8_t head[4]; /* the magic number, or the length of a block, as far as it is here */
    size_t head_len, wants, packed_len; /* wants: the length of this block, 0 = not known yet */
    size_t made, given;
    uint8_t packed[LZ4_PACKED], plain[LZ4_PLAIN];
};

static bool lz4_start(struct unpacker *unpacker) {
    if (unpacker->limits.memory_bytes < sizeof(struct lz4))
        return true; /* told by the first step */
    if (!unpacker->lz4)
        unpacker->lz4 = malloc(sizeof(*unpacker->lz4));
    if (unpacker->lz4)
        memset(unpacker->lz4, 0, offsetof(struct lz4, packed));
    return unpacker->lz4 != NULL;
}

static void lz4_stop(struct unpacker *unpacker) { (void) unpacker; }

/* Moves input behind what is there already, up to `want` bytes in all; true once they are. */
static bool lz4_collect(struct unpacker *unpacker, uint8_t *to, size_t *len, size_t want) {
    size_t now = want - *len < unpacker->in_len ? want - *len : unpacker->in_len;

    if (now > 0)
        memcpy(to + *len, unpacker->in, now);
    unpacker->in += now;
    unpacker->in_len -= now;
    *len += now;
    return *len == want;
}

/* Four bytes that begin a block; false at the end. */
static bool lz4_head(struct lz4 *lz4) {
    size_t value = lz4->head[0] | (size_t) lz4->head[1] << 8 | (size_t) lz4->head[2] << 16 |
                   (size_t) lz4->head[3] << 24;

    lz4->head_len = 0;
    if (!lz4->began || memcmp(lz4->head, "\x02\x21\x4c\x18", 4) == 0) {
        lz4->began = true;
        return true;
    }
    lz4->wants = value;
    return value != 0;
}

static enum step lz4_block(struct lz4 *lz4) {
    int made = LZ4_decompress_safe((const char *) lz4->packed, (char *) lz4->plain,
                                   (int) lz4->wants, LZ4_PLAIN);

    if (made < 0)
        return STEP_DAMAGED;
    lz4->made = (size_t) made;
    lz4->given = lz4->wants = lz4->packed_len = 0;
    return STEP_MORE;
}

static enum step lz4_step(struct unpacker *unpacker, uint8_t **out, size_t *room) {
    struct lz4 *lz4 = unpacker->lz4;
    size_t now;

    if (!lz4)
        return STEP_MEMORY;
    while (lz4->given == lz4->made) {
        if (lz4->wants == 0) {
            if (unpacker->in_len == 0 && unpacker->last && lz4->head_len == 0 && lz4->began)
                return STEP_MEMBER_END;
            if (!lz4_collect(unpacker, lz4->head, &lz4->head_len, 4))
                return STEP_MORE;
            if (!lz4_head(lz4))
                return STEP_MEMBER_END;
            if (lz4->wants > LZ4_PACKED)
                return STEP_DAMAGED;
            continue;
        }
        if (!lz4_collect(unpacker, lz4->packed, &lz4->packed_len, lz4->wants))
            return STEP_MORE;
        if (lz4_block(lz4) != STEP_MORE)
            return STEP_DAMAGED;
    }
    now = lz4->made - lz4->given < *room ? lz4->made - lz4->given : *room;
    memcpy(*out, lz4->plain + lz4->given, now);
    lz4->given += now;
    *out += now;
    *room -= now;
    return STEP_MORE;
}

/* --- All of them ------------------------------------------------------------------------------ */

static const struct codec codecs[PACKINGS] = {
    [PACKING_GZIP] = {"gz", "\x1f\x8b\x08", 3, gzip_start, gzip_stop, gzip_step},
    [PACKING_XZ] = {"xz",
                    "\xfd"
                    "7zXZ\0",
                    6, xz_start, xz_stop, xz_step},
    [PACKING_ZSTD] = {"zst", "\x28\xb5\x2f\xfd", 4, zstd_start, zstd_stop, zstd_step},
    [PACKING_BZIP2] = {"bz2", "BZh", 3, bzip2_start, bzip2_stop, bzip2_step},
    [PACKING_LZMA] = {"lzma", "\x5d\0\0", 3, lzma_start, xz_stop, xz_step},
    [PACKING_LZ4] = {"lz4", "\x02\x21\x4c\x18", 4, lz4_start, lz4_stop, lz4_step},
};

static enum packing detect(const void *head, size_t len, int kinds) {
    for (int i = PACKING_NONE + 1; i < kinds; i++)
        if (len >= codecs[i].magic_len && memcmp(head, codecs[i].magic, codecs[i].magic_len) == 0)
            return i;
    return PACKING_NONE;
}

enum packing packing_detect(const void *head, size_t len) {
    return detect(head, len, PACKING_LZMA);
}

enum packing packing_detect_all(const void *head, size_t len) {
    return detect(head, len, PACKINGS);
}

const char *packing_name(enum packing packing) {
    return packing == PACKING_NONE ? "" : codecs[packing].name;
}

struct unpacker *unpacker_new(enum packing packing, const struct unpacker_limits *limits,
                              struct im_err *err) {
    IM_AUTO(unpacker_free_auto) struct unpacker *unpacker = im_alloc(sizeof(*unpacker));

    unpacker->codec = &codecs[packing];
    unpacker->limits = *limits;
    if (!unpacker->limits.memory_bytes)
        unpacker->limits.memory_bytes = MEMORY_DEFAULT;
    if (!unpacker->limits.ratio_floor)
        unpacker->limits.ratio_floor = FLOOR_DEFAULT;
    if (!unpacker->codec->start(unpacker)) {
        (void) im_fail(err, IM_NO_RESOURCE, "%s: no memory to decompress", unpacker->codec->name);
        return NULL;
    }
    unpacker->started = true;
    return im_steal(&unpacker);
}

void unpacker_free(struct unpacker *unpacker) {
    if (unpacker && unpacker->started)
        unpacker->codec->stop(unpacker);
    if (unpacker)
        ZSTD_freeDStream(unpacker->zstd);
    if (unpacker)
        free(unpacker->lz4);
    free(unpacker);
}

void unpacker_feed(struct unpacker *unpacker, const void *bytes, size_t len, bool last) {
    unpacker->in = bytes;
    unpacker->in_len = len;
    unpacker->last = last;
}

static bool within_limits(const struct unpacker *unpacker, struct im_err *err) {
    const struct unpacker_limits *limits = &unpacker->limits;
    char text[16];

    if (limits->max_bytes && unpacker->made > limits->max_bytes)
        return im_fail(err, IM_QUOTA, "%s: it unpacks to more than the limit of %s",
                       unpacker->codec->name, im_size_text(limits->max_bytes, text));
    if (limits->max_ratio && unpacker->made > limits->ratio_floor &&
        unpacker->made / limits->max_ratio > unpacker->taken)
        return im_fail(err, IM_BAD_IMAGE,
                       "%s: it unpacks to more than %" PRIu64 " times its size (a bomb?)",
                       unpacker->codec->name, limits->max_ratio);
    return true;
}

/* A member has ended: another may follow; zeros as padding are tolerated up to the end. */
static bool next_member(struct unpacker *unpacker, struct im_err *err) {
    const struct codec *codec = unpacker->codec;
    size_t seen = unpacker->in_len < codec->magic_len ? unpacker->in_len : codec->magic_len;

    if (memcmp(unpacker->in, codec->magic, seen) != 0)
        return im_fail(err, IM_BAD_IMAGE, "%s: other bytes follow the compressed data",
                       codec->name);
    codec->stop(unpacker);
    unpacker->started = codec->start(unpacker);
    unpacker->ended_once = false;
    return unpacker->started ||
           im_fail(err, IM_NO_RESOURCE, "%s: no memory to decompress", codec->name);
}

static void skip_padding(struct unpacker *unpacker) {
    while (unpacker->in_len > 0 && *unpacker->in == 0) {
        unpacker->in++;
        unpacker->in_len--;
        unpacker->taken++;
    }
}

/* One call into the library; *ret_stuck when it neither took nor gave anything. */
static bool advance(struct unpacker *unpacker, uint8_t **out, size_t *room, bool *ret_stuck,
                    struct im_err *err) {
    size_t in = unpacker->in_len, space = *room;
    enum step step = unpacker->codec->step(unpacker, out, room);

    unpacker->taken += in - unpacker->in_len;
    unpacker->made += space - *room;
    *ret_stuck = in == unpacker->in_len && space == *room && step == STEP_MORE;
    if (step == STEP_DAMAGED)
        return im_fail(err, IM_BAD_IMAGE, "%s: the compressed data is damaged",
                       unpacker->codec->name);
    if (step == STEP_MEMORY)
        return im_fail(err, IM_BAD_IMAGE, "%s: it needs more memory to unpack than is allowed",
                       unpacker->codec->name);
    unpacker->ended_once = step == STEP_MEMBER_END;
    return within_limits(unpacker, err);
}

bool unpacker_take(struct unpacker *unpacker, void *bytes, size_t size, size_t *ret_len,
                   struct im_err *err) {
    uint8_t *out = bytes;
    size_t room = size;
    bool stuck = false;

    while (room > 0 && !stuck) {
        if (unpacker->ended_once && unpacker->limits.one_member)
            break;
        if (unpacker->ended_once) {
            skip_padding(unpacker);
            if (unpacker->in_len == 0)
                break;
            if (!next_member(unpacker, err))
                return false;
        }
        if (!advance(unpacker, &out, &room, &stuck, err))
            return false;
    }
    if (out == bytes && unpacker->last && !unpacker->ended_once)
        return im_fail(err, IM_BAD_IMAGE, "%s: the compressed data ends early (cut short?)",
                       unpacker->codec->name);
    *ret_len = (size_t) (out - (uint8_t *) bytes);
    return true;
}

bool unpacker_ended(const struct unpacker *unpacker, size_t *ret_rest) {
    *ret_rest = unpacker->in_len;
    return unpacker->ended_once;
}
