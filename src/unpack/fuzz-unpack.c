/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a packed stream, fed in pieces: limits hold, and what fails says why. For libFuzzer
 * with clang; its saved inputs run as a normal test through replay.c. */
#include <stdlib.h>

#include "unpack/unpack.h"

#define MOST 300000u
#define PIECE 65536u

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static void claim(bool holds) {
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    static uint8_t out[PIECE];
    struct unpacker_limits limits = {
        .max_bytes = MOST, .max_ratio = 50, .ratio_floor = 100000, .memory_bytes = 20u << 20};
    enum packing packing = packing_detect_all(bytes, len);
    size_t fed = 0, made = 0, step = len ? 1 + bytes[len - 1] * 16u : 1;
    struct unpacker *unpacker;
    struct im_err err = {0};

    if (packing == PACKING_NONE)
        return 0;
    unpacker = unpacker_new(packing, &limits, &err);
    claim(unpacker != NULL);
    for (bool more = true; more;) {
        size_t got = 0;

        if (!unpacker_take(unpacker, out, sizeof(out), &got, &err)) {
            claim(err.text[0] != '\0' &&
                  (err.code == IM_BAD_IMAGE || err.code == IM_QUOTA || err.code == IM_NO_RESOURCE));
            break;
        }
        made += got;
        claim(got <= sizeof(out) && made <= MOST);
        if (got > 0)
            continue;
        more = fed < len;
        if (more) {
            size_t now = len - fed < step ? len - fed : step;

            fed += now;
            unpacker_feed(unpacker, bytes + fed - now, now, fed == len);
        }
    }
    unpacker_free(unpacker);
    return 0;
}
