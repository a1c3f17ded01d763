/* SPDX-License-Identifier: Apache-2.0 */
/* A growing string, strict number parsing, UTF-8 checking. */
#include "base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

char *im_str_reserve(struct im_str *str, size_t more) {
    if (str->len + more + 1 > str->capacity) {
        size_t capacity = str->capacity ? str->capacity * 2 : 64;

        while (capacity < str->len + more + 1)
            capacity *= 2;
        str->data = im_realloc_array(str->data, capacity, 1);
        str->capacity = capacity;
    }
    return str->data + str->len;
}

void im_str_add_bytes(struct im_str *str, const void *bytes, size_t len) {
    memcpy(im_str_reserve(str, len), bytes, len);
    str->len += len;
    str->data[str->len] = '\0';
}

void im_str_add(struct im_str *str, const char *text) { im_str_add_bytes(str, text, strlen(text)); }

void im_str_add_char(struct im_str *str, char c) { im_str_add_bytes(str, &c, 1); }

void im_str_addf(struct im_str *str, const char *format, ...) {
    va_list args, again;
    int len;

    va_start(args, format);
    va_copy(again, args);
    len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len > 0) {
        vsnprintf(im_str_reserve(str, (size_t) len), (size_t) len + 1, format, again);
        str->len += (size_t) len;
    }
    va_end(again);
}

void im_str_add_shell_quoted(struct im_str *str, const char *text) {
    im_str_add_char(str, '\'');
    for (const char *p = text ? text : ""; *p != '\0'; p++) {
        if (*p == '\'')
            im_str_add(str, "'\\''");
        else
            im_str_add_char(str, *p);
    }
    im_str_add_char(str, '\'');
}

char *im_str_take(struct im_str *str) {
    char *text = str->data != NULL ? str->data : im_strdup("");

    *str = (struct im_str){0};
    return text;
}

void im_str_done(struct im_str *str) {
    free(str->data);
    *str = (struct im_str){0};
}

bool im_parse_i64(const char *text, int64_t min, int64_t max, int64_t *ret_value) {
    char *end;
    intmax_t value;

    if (text == NULL || !((*text >= '0' && *text <= '9') || *text == '-'))
        return false;
    errno = 0;
    value = strtoimax(text, &end, 10);
    if (errno != 0 || *end != '\0' || end == text || value < min || value > max)
        return false;
    *ret_value = value;
    return true;
}

bool im_parse_size(const char *text, uint64_t *ret_bytes) {
    static const char units[] = "KMGTPE";
    char *end;
    uintmax_t value;
    unsigned shift = 0;

    if (text == NULL || *text < '0' || *text > '9')
        return false;
    errno = 0;
    value = strtoumax(text, &end, 10);
    if (errno != 0)
        return false;
    if (*end != '\0') {
        const char *unit = strchr(units, *end & ~0x20);

        if (unit == NULL)
            return false;
        shift = 10 * (unsigned) (unit - units + 1);
        end++;
        if (strcasecmp(end, "iB") != 0 && strcasecmp(end, "B") != 0 && *end != '\0')
            return false;
    }
    if (value > UINT64_MAX >> shift)
        return false;
    *ret_bytes = (uint64_t) value << shift;
    return true;
}

const char *im_size_text(uint64_t bytes, char out[16]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double) bytes;
    unsigned unit = 0;

    while (value >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    snprintf(out, 16, unit == 0 || value >= 99.95 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}

bool im_utf8_valid(const char *text, size_t len) {
    const unsigned char *p = (const unsigned char *) text, *end = p + len;

    while (p < end) {
        unsigned more = *p < 0x80 ? 0 : *p >= 0xf0 ? 3 : *p >= 0xe0 ? 2 : 1;
        uint32_t rune = more == 0 ? *p : *p & (0x3fu >> more);

        if (*p == 0 || *p > 0xf4 || (*p >= 0x80 && *p < 0xc2) || (size_t) (end - p) <= more)
            return false;
        for (unsigned i = 1; i <= more; i++) {
            if ((p[i] & 0xc0) != 0x80)
                return false;
            rune = rune << 6 | (p[i] & 0x3f);
        }
        if ((more == 2 && rune < 0x800) || (more == 3 && rune < 0x10000) || rune > 0x10ffff ||
            (rune >= 0xd800 && rune <= 0xdfff))
            return false;
        p += more + 1;
    }
    return true;
}

bool im_starts_with(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool im_ends_with(const char *text, const char *suffix) {
    size_t len = strlen(text), tail = strlen(suffix);

    return len >= tail && strcmp(text + len - tail, suffix) == 0;
}

bool im_str_empty(const char *text) { return text == NULL || *text == '\0'; }

bool im_str_equal(const char *a, const char *b) { return strcmp(a ? a : "", b ? b : "") == 0; }
