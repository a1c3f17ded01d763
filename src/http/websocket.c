/* SPDX-License-Identifier: Apache-2.0 */
/* Reading masked frames byte by byte as they come, writing plain ones. */
#include "websocket.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "crypto/crypto.h"

#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

void websocket_accept(const char *key, char ret_accept[32]) {
    IM_AUTO(free_auto) char *text = im_printf("%s" GUID, key);

    crypto_sha1_base64(text, strlen(text), ret_accept);
}

void websocket_frame(struct im_str *out, unsigned opcode, const char *bytes, size_t len) {
    im_str_add_char(out, (char) (0x80 | opcode)); /* FIN: whole in one frame */
    if (len < 126) {
        im_str_add_char(out, (char) len);
    } else {
        bool wide = len > 0xffff;

        im_str_add_char(out, wide ? 127 : 126);
        for (int shift = wide ? 56 : 8; shift >= 0; shift -= 8)
            im_str_add_char(out, (char) ((uint64_t) len >> shift));
    }
    if (len > 0)
        im_str_add_bytes(out, bytes, len);
}

/* Length of the head as far as it is known: 2, then with the longer length, and the mask. */
static size_t head_size(const struct websocket_reader *reader) {
    unsigned len = reader->head_len < 2 ? 0 : reader->head[1] & 0x7f;

    return 2 + (len == 126 ? 2 : len == 127 ? 8 : 0) + 4;
}

static bool begin_frame(struct websocket_reader *reader) {
    unsigned len = reader->head[1] & 0x7f;
    size_t extra = len == 126 ? 2 : len == 127 ? 8 : 0;
    uint64_t left = extra == 0 ? len : 0;

    for (size_t i = 0; i < extra; i++)
        left = left << 8 | reader->head[2 + i];
    memcpy(reader->mask, reader->head + 2 + extra, 4);
    reader->opcode = reader->head[0] & 0x0f;
    reader->left = left;
    reader->at = 0;
    reader->in_payload = true;
    reader->head_len = 0;
    if (reader->opcode >= 8) /* control: short and never in pieces */
        return left <= sizeof(reader->control) && (reader->head[0] & 0x80) && reader->opcode <= 10;
    return reader->opcode <= WEBSOCKET_BINARY && left >> 63 == 0;
}

static bool take_payload(struct websocket_reader *reader, const char *bytes, size_t len,
                         bool (*payload)(void *, unsigned, const char *, size_t), void *arg) {
    char plain[1024];

    while (len > 0) {
        size_t part = len < sizeof(plain) ? len : sizeof(plain);

        for (size_t i = 0; i < part; i++)
            plain[i] = (char) (bytes[i] ^ reader->mask[(reader->at + i) & 3]);
        if (reader->opcode >= 8)
            memcpy(reader->control + reader->at, plain, part);
        else if (!payload(arg, WEBSOCKET_BINARY, plain, part))
            return false;
        reader->at += part;
        reader->left -= part;
        bytes += part;
        len -= part;
    }
    return true;
}

bool websocket_read(struct websocket_reader *reader, const char *bytes, size_t len,
                    bool (*payload)(void *arg, unsigned opcode, const char *bytes, size_t len),
                    void *arg) {
    for (;;) {
        size_t part;

        if (!reader->in_payload) {
            if (len == 0)
                return true;
            reader->head[reader->head_len++] = (unsigned char) *bytes++;
            len--;
            if (reader->head_len == 1 && (reader->head[0] & 0x70)) /* no extension was agreed on */
                return false;
            if (reader->head_len == 2 && !(reader->head[1] & 0x80)) /* clients must mask */
                return false;
            if (reader->head_len < 2 || reader->head_len < head_size(reader))
                continue;
            if (!begin_frame(reader))
                return false;
        }
        part = reader->left < len ? (size_t) reader->left : len;
        if (!take_payload(reader, bytes, part, payload, arg))
            return false;
        bytes += part;
        len -= part;
        if (reader->left > 0)
            return true;
        reader->in_payload = false;
        if (reader->opcode >= 8 &&
            !payload(arg, reader->opcode, reader->control, (size_t) reader->at))
            return false;
    }
}
