/* SPDX-License-Identifier: Apache-2.0 */
/* Random identifiers. */
#include "base/id.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void im_random(void *bytes, size_t len) {
    unsigned char *p = bytes;

    while (len > 0) {
        ssize_t n = getrandom(p, len, 0);

        if (n > 0) {
            p += n;
            len -= (size_t) n;
        }
    }
}

void im_random_text(char *out, size_t count, const char *alphabet) {
    size_t letters = strlen(alphabet);
    unsigned limit = (unsigned) (256 - 256 % letters);

    for (size_t i = 0; i < count;) {
        unsigned char pool[64];

        im_random(pool, sizeof(pool));
        for (size_t j = 0; j < sizeof(pool) && i < count; j++)
            if (pool[j] < limit)
                out[i++] = alphabet[pool[j] % letters];
    }
    out[count] = '\0';
}

void im_id_make(char out[IM_ID_MAX], const char *prefix, size_t count) {
    size_t len = strlen(prefix);

    assert(len + count < IM_ID_MAX);
    memcpy(out, prefix, len);
    im_random_text(out + len, count, "abcdefghijklmnopqrstuvwxyz0123456789");
}

bool im_id_valid(const char *id) {
    size_t len = 0;

    if (id == NULL || !isalnum((unsigned char) id[0]))
        return false;
    for (; id[len] != '\0'; len++)
        if (!isalnum((unsigned char) id[len]) && strchr("._-", id[len]) == NULL)
            return false;
    return len < IM_ID_MAX;
}
