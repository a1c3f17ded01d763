/* SPDX-License-Identifier: Apache-2.0 */
/* The streaming writer: compact JSON straight into a growing string. One table look-up a byte
 * decides what may be copied as it stands; runs are copied whole. */
#include "wire/wire.h"

#include <string.h>

#include "base/clock.h"

/* 0: copied as it stands; 'u': \u00XX; 1: part of a longer UTF-8 form, to be checked; else the
 * letter after the backslash. */
static const unsigned char escapes[256] = {
    [0x00 ... 0x07] = 'u', ['\b'] = 'b',  ['\t'] = 't', ['\n'] = 'n',
    [0x0b] = 'u',          ['\f'] = 'f',  ['\r'] = 'r', [0x0e ... 0x1f] = 'u',
    ['"'] = '"',           ['\\'] = '\\', [0x7f] = 'u', [0x80 ... 0xff] = 1,
};

static void separate(struct wire_writer *writer) {
    if (writer->comma)
        im_str_add_char(&writer->text, ',');
    writer->comma = true;
}

/* Length of the UTF-8 form at `text` (2 to 4), 0 if it is none. The NUL at the end stops it. */
static size_t rune_length(const char *text) {
    unsigned char first = (unsigned char) text[0];
    size_t len = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;

    for (size_t i = 1; i < len; i++)
        if (((unsigned char) text[i] & 0xc0) != 0x80)
            return 0;
    return im_utf8_valid(text, len) ? len : 0;
}

static void write_escape(struct im_str *out, unsigned char c) {
    static const char digits[] = "0123456789abcdef";

    if (escapes[c] == 'u') {
        char code[6] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};

        im_str_add_bytes(out, code, sizeof(code));
    } else {
        char code[2] = {'\\', (char) escapes[c]};

        im_str_add_bytes(out, code, sizeof(code));
    }
}

static void write_quoted(struct im_str *out, const char *text) {
    const char *run = text, *at = text;

    im_str_add_char(out, '"');
    for (;;) {
        unsigned char c = (unsigned char) *at;

        if (c == '\0')
            break;
        if (escapes[c] == 0) {
            at++;
            continue;
        }
        if (escapes[c] == 1) {
            size_t len = rune_length(at);

            if (len > 0) {
                at += len;
                continue;
            }
        }
        im_str_add_bytes(out, run, (size_t) (at - run));
        if (escapes[c] == 1)
            im_str_add_bytes(out, "\xef\xbf\xbd", 3);
        else
            write_escape(out, c);
        run = ++at;
    }
    im_str_add_bytes(out, run, (size_t) (at - run));
    im_str_add_char(out, '"');
}

/* Keys are ours: plain words. */
static void open_member(struct wire_writer *writer, const char *key) {
    separate(writer);
    if (key != NULL) {
        size_t len = strlen(key);
        char *to = im_str_reserve(&writer->text, len + 3);

        to[0] = '"';
        memcpy(to + 1, key, len);
        memcpy(to + 1 + len, "\":", 2);
        writer->text.len += len + 3;
        writer->text.data[writer->text.len] = '\0';
    }
}

static void open_part(struct wire_writer *writer, const char *key, char bracket) {
    open_member(writer, key);
    im_str_add_char(&writer->text, bracket);
    writer->comma = false;
}

static void close_part(struct wire_writer *writer, char bracket) {
    im_str_add_char(&writer->text, bracket);
    writer->comma = true;
}

void wire_object_begin(struct wire_writer *writer, const char *key) { open_part(writer, key, '{'); }
void wire_object_end(struct wire_writer *writer) { close_part(writer, '}'); }
void wire_array_begin(struct wire_writer *writer, const char *key) { open_part(writer, key, '['); }
void wire_array_end(struct wire_writer *writer) { close_part(writer, ']'); }

void wire_null(struct wire_writer *writer, const char *key) {
    open_member(writer, key);
    im_str_add_bytes(&writer->text, "null", 4);
}

void wire_text(struct wire_writer *writer, const char *key, const char *value) {
    if (value == NULL) {
        wire_null(writer, key);
        return;
    }
    open_member(writer, key);
    write_quoted(&writer->text, value);
}

void wire_int(struct wire_writer *writer, const char *key, int64_t value) {
    char digits[20], *at = digits + sizeof(digits);
    uint64_t rest = value < 0 ? 0 - (uint64_t) value : (uint64_t) value;

    do {
        *--at = (char) ('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0)
        *--at = '-';
    open_member(writer, key);
    im_str_add_bytes(&writer->text, at, (size_t) (digits + sizeof(digits) - at));
}

/* Days to year, month, day after Howard Hinnant's civil_from_days: gmtime_r takes a lock and costs
 * more than the rest of a row. */
static void time_text(int64_t time_s, char out[IM_TIME_TEXT]) {
    int64_t days = time_s / 86400, rest = time_s % 86400;
    int64_t z = days + 719468, era = z / 146097;
    unsigned doe = (unsigned) (z - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    unsigned day = doy - (153 * mp + 2) / 5 + 1, month = mp < 10 ? mp + 3 : mp - 9;
    unsigned year = yoe + (unsigned) era * 400 + (month <= 2);
    unsigned second = (unsigned) rest;
    unsigned parts[6] = {year, month, day, second / 3600, second / 60 % 60, second % 60};

    memcpy(out, "0000-00-00T00:00:00Z", IM_TIME_TEXT);
    out[0] = (char) ('0' + parts[0] / 1000);
    out[1] = (char) ('0' + parts[0] / 100 % 10);
    for (unsigned i = 0; i < 6; i++) {
        out[2 + 3 * i] = (char) ('0' + parts[i] / 10 % 10);
        out[3 + 3 * i] = (char) ('0' + parts[i] % 10);
    }
}

void wire_time(struct wire_writer *writer, const char *key, int64_t time_s) {
    char text[IM_TIME_TEXT];

    if (time_s == 0) {
        wire_null(writer, key);
        return;
    }
    if (time_s > 0 && time_s < 253402300800) /* year 10000 */
        time_text(time_s, text);
    else
        im_time_format(time_s, text);
    open_member(writer, key);
    im_str_add_char(&writer->text, '"');
    im_str_add(&writer->text, text);
    im_str_add_char(&writer->text, '"');
}

void wire_bool(struct wire_writer *writer, const char *key, bool value) {
    open_member(writer, key);
    im_str_add(&writer->text, value ? "true" : "false");
}

void wire_strings(struct wire_writer *writer, const char *key, const struct im_strings *list) {
    wire_array_begin(writer, key);
    for (size_t i = 0; i < list->count; i++)
        wire_text(writer, NULL, list->items[i]);
    wire_array_end(writer);
}

void wire_raw(struct wire_writer *writer, const char *key, const char *json) {
    open_member(writer, key);
    im_str_add(&writer->text, json);
}

void wire_fields(struct wire_writer *writer, const struct object_type *type, const void *object) {
    for (size_t i = 0; i < type->field_count; i++) {
        const struct field *field = &type->fields[i];

        if (field->flags & FIELD_PRIVATE)
            continue;
        if (field->type == FIELD_TEXT) {
            const char *value = *field_text(field, object);

            wire_text(writer, field->name,
                      value != NULL || (field->flags & FIELD_NULL) ? value : "");
        } else if (field->type == FIELD_TIME) {
            wire_time(writer, field->name, field_int(field, object));
        } else if (field->type == FIELD_ENUM) {
            wire_text(writer, field->name, field_word(field, object));
        } else {
            wire_int(writer, field->name, field_int(field, object));
        }
    }
}
