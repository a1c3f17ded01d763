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
