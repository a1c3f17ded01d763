/* SPDX-License-Identifier: Apache-2.0 */
/* The frames of RFC 6455, server side: no I/O, so that they can be tested by hand. */
#ifndef HTTP_WEBSOCKET_H
#define HTTP_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum websocket_opcode {
    WEBSOCKET_MORE = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10,
};

/* The answer to Sec-WebSocket-Key. */
void websocket_accept(const char *key, char ret_accept[32]);
/* Adds one whole frame, unmasked as a server sends it. */
void websocket_frame(struct im_str *out, unsigned opcode, const char *bytes, size_t len);

/* Zero-initialise. Data is handed on as it arrives; control frames when they are whole. */
struct websocket_reader {
    unsigned char head[14];
    size_t head_len;
    uint64_t left; /* of the payload of the frame under way */
    uint64_t at;   /* bytes of it that were seen */
    unsigned char mask[4];
    unsigned opcode;
    bool in_payload;
    char control[125];
};
/* false: the client broke the protocol, or `payload` returned false. */
bool websocket_read(struct websocket_reader *reader, const char *bytes, size_t len,
                    bool (*payload)(void *arg, unsigned opcode, const char *bytes, size_t len),
                    void *arg);

#endif
