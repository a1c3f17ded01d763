/* SPDX-License-Identifier: Apache-2.0 */
/* Texts within texts: quoting for YAML and for the shell, and base64 in lines. */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/mem.h"
#include "crypto/crypto.h"
#include "seed-private.h"

enum { BASE64_LINE = 76 };

/* Code points that YAML does not allow as they are, or takes for line ends: C1 controls, line and
 * paragraph separators, byte order mark, U+FFFE and U+FFFF. All in two or three bytes. */
static unsigned awkward(const char *at) {
    const unsigned char *p = (const unsigned char *) at;
    unsigned code;

    if (p[0] == 0xc2 && p[1] < 0xa0)
        return p[1];
    if ((p[0] & 0xf0) != 0xe0)
        return 0;
    code = (unsigned) (p[0] & 15) << 12 | (unsigned) (p[1] & 63) << 6 | (p[2] & 63);
    return code == 0x2028 || code == 0x2029 || code == 0xfeff || code >= 0xfffe ? code : 0;
}

void seed_add_quoted(struct im_str *out, const char *text) {
    im_str_add_char(out, '"');
    for (const char *p = text ? text : ""; *p != '\0'; p++) {
        unsigned code = awkward(p);

        if (code != 0) {
            im_str_addf(out, "\\u%04x", code);
            p += code < 0x800 ? 1 : 2;
        } else if ((unsigned char) *p < ' ' || *p == 0x7f) {
            im_str_addf(out, "\\u%04x", (unsigned) *p);
        } else {
            if (*p == '"' || *p == '\\')
                im_str_add_char(out, '\\');
            im_str_add_char(out, *p);
        }
    }
    im_str_add_char(out, '"');
}

void seed_add_base64(struct im_str *out, const void *bytes, size_t len) {
    IM_AUTO(free_auto) char *text = crypto_base64(bytes, len);

    for (size_t at = 0, left = strlen(text); left > 0;) {
        size_t n = left < BASE64_LINE ? left : BASE64_LINE;

        im_str_add_bytes(out, text + at, n);
        im_str_add_char(out, '\n');
        at += n;
        left -= n;
    }
}
