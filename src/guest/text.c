/* SPDX-License-Identifier: Apache-2.0 */
/* Texts that come from a disk: what may be shown of them, lines, values. */
#include <stdio.h>

#include "inspect-private.h"

void text_take(char *out, size_t size, const void *bytes, size_t len) {
    const unsigned char *from = bytes;
    size_t used = 0;

    for (size_t i = 0; i < len && from[i] != '\0' && used + 1 < size; i++)
        out[used++] = from[i] < 0x20 || from[i] == 0x7f ? '?' : (char) from[i];
    while (used > 0 && out[used - 1] == ' ')
        used--;
    out[used] = '\0';
    if (im_utf8_valid(out, used))
        return;
    for (size_t i = 0; i < used; i++)
        if ((unsigned char) out[i] >= 0x80)
            out[i] = '?';
}

size_t utf8_put(char *out, uint32_t code) {
    size_t more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const uint8_t heads[] = {0, 0xc0, 0xe0, 0xf0};

    if (code < 0x20 || code == 0x7f || (code >= 0xd800 && code < 0xe000) || code > 0x10ffff) {
        *out = '?';
        return 1;
    }
    out[0] = (char) (heads[more] | code >> 6 * more);
    for (size_t i = 1; i <= more; i++)
        out[i] = (char) (0x80 | (code >> 6 * (more - i) & 0x3f));
    return more + 1;
}

size_t utf8_take(const char *text, size_t len, uint32_t *ret_code) {
    const uint8_t *bytes = (const uint8_t *) text;
    size_t used = len == 0          ? 0
                  : bytes[0] < 0x80 ? 1
                  : bytes[0] < 0xe0 ? 2
                  : bytes[0] < 0xf0 ? 3
                                    : 4;

    if (used == 0 || used > len || !im_utf8_valid(text, used))
        return 0;
    *ret_code = used == 1 ? bytes[0] : bytes[0] & (0xffu >> (used + 1));
    for (size_t i = 1; i < used; i++)
        *ret_code = *ret_code << 6 | (bytes[i] & 0x3f);
    return used;
}

void uuid_text(char out[40], const uint8_t *bytes, bool mixed) {
    static const uint8_t swapped[] = {3, 2, 1, 0, 5, 4, 7, 6};
    size_t used = 0;

    for (size_t i = 0; i < 16; i++) {
        uint8_t byte = bytes[mixed && i < 8 ? swapped[i] : i];

        used += (size_t) snprintf(out + used, 40 - used, "%02x%s", byte,
                                  i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
    }
}

char *text_line(char **at) {
    char *line = *at;
    size_t len = strcspn(line, "\n");

    if (*line == '\0')
        return NULL;
    *at = line[len] == '\n' ? line + len + 1 : line + len;
    line[len] = '\0';
    return line;
}

bool text_value(const char *line, const char *key, char *out, size_t size) {
    size_t len = strlen(key);

    if (strncmp(line, key, len) != 0 || line[len] != '=')
        return false;
    line += len + 1;
    if (*line == '"' || *line == '\'') {
        line++;
        text_take(out, size, line, strcspn(line, "\"'"));
    } else {
        text_take(out, size, line, strlen(line));
    }
    return true;
}
