/* SPDX-License-Identifier: Apache-2.0 */
/* LZNT1: chunks of 4 KiB, each of which is plain or a row of bytes and of copies from before. */
#include "ntfs.h"

enum { CHUNK = 4096, IS_PACKED = 0x8000 };

/* The farther we are in the chunk, the more bits tell the distance and the fewer the length. */
static bool copy(uint8_t *out, size_t *at, size_t size, uint16_t word) {
    unsigned bits = 12;
    size_t far, len;

    for (size_t i = *at > 0 ? *at - 1 : 0; i >= 16; i >>= 1)
        bits--;
    far = (size_t) (word >> bits) + 1;
    len = (word & ((1u << bits) - 1)) + 3u;
    if (far > *at || len > size - *at)
        return false;
    for (; len > 0; len--, (*at)++)
        out[*at] = out[*at - far];
    return true;
}

static bool unpack_chunk(const uint8_t *packed, size_t len, uint8_t *out, size_t size) {
    size_t from = 0, at = 0;

    while (from < len) {
        uint8_t kinds = packed[from++];

        for (unsigned i = 0; i < 8 && from < len; i++, kinds >>= 1) {
            if (kinds & 1) {
                if (len - from < 2 || !copy(out, &at, size, le16(packed + from)))
                    return false;
                from += 2;
            } else {
                if (at == size)
                    return false;
                out[at++] = packed[from++];
            }
        }
    }
    return true;
}

bool ntfs_unpack(const uint8_t *packed, size_t len, uint8_t *out, size_t size) {
    size_t from = 0;

    memset(out, 0, size);
    for (size_t at = 0; at < size && len - from >= 2; at += CHUNK) {
        uint16_t head = le16(packed + from);
        size_t here = (head & 0xfffu) + 1, room = size - at < CHUNK ? size - at : CHUNK;

        if (head == 0)
            return true;
        from += 2;
        if (here > len - from)
            return false;
        if (head & IS_PACKED) {
            if (!unpack_chunk(packed + from, here, out + at, room))
                return false;
        } else {
            if (here > room)
                return false;
            memcpy(out + at, packed + from, here);
        }
        from += here;
    }
    return true;
}
