/* SPDX-License-Identifier: Apache-2.0 */
/* Query strings and form bodies: decoding, the canonical form that is signed, look-ups. All of it
 * is hostile input. */
#include <stdlib.h>
#include <string.h>

#include "http-private.h"

static int hex_value(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes [from, end) to `to`; the result is never longer. Returns its end, NULL for a bad escape.
 */
static char *decode(const char *from, const char *end, char *to) {
    while (from < end) {
        if (*from == '+') {
            *to++ = ' ';
            from++;
        } else if (*from == '%') {
            int high = end - from > 2 ? hex_value(from[1]) : -1;
            int low = high < 0 ? -1 : hex_value(from[2]);

            if (low < 0)
                return NULL;
            *to++ = (char) (high << 4 | low);
            from += 3;
        } else {
            *to++ = *from++;
        }
    }
    return to;
}

/* What may be shown of a name that is not to be trusted. */
static void shown_name(const char *name, size_t len, char out[41]) {
    size_t to = 0;

    for (size_t i = 0; i < len && to < 40; i++)
        out[to++] = name[i] > ' ' && name[i] < 0x7f ? name[i] : '?';
    out[to] = '\0';
}

static bool parse_pair(struct params *params, const char *at, const char *end, char **memory,
                       struct im_err *err) {
    const char *equals = memchr(at, '=', (size_t) (end - at));
    const char *name_end = equals != NULL ? equals : end;
    char *name = *memory, *value, *to, shown[41];

    shown_name(at, (size_t) (name_end - at), shown);
    to = decode(at, name_end, name);
    if (to == NULL)
        return im_fail(err, IM_BAD_MESSAGE, "parameter name [%s] has a bad escape", shown);
    if (to == name || !im_utf8_valid(name, (size_t) (to - name)))
        return im_fail(err, IM_BAD_MESSAGE, "parameter name [%s] is empty or not UTF-8 text",
                       shown);
    *to++ = '\0';
    value = to;
    if (equals != NULL) {
        to = decode(equals + 1, end, value);
        if (to == NULL)
            return im_fail(err, IM_BAD_MESSAGE, "parameter [%s] has a bad escape", shown);
        if (!im_utf8_valid(value, (size_t) (to - value)))
            return im_fail(err, IM_BAD_MESSAGE,
                           "parameter [%s] is not UTF-8 text without zero bytes", shown);
    }
    *to++ = '\0';
    *memory = to;
    if (params->count == PARAMS_MAX)
        return im_fail(err, IM_BAD_MESSAGE, "the request has more than %d parameters", PARAMS_MAX);
    im_grow(&params->items, params->count, &params->capacity);
    params->items[params->count++] = (struct param){name, value};
    return true;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct param *) a)->name, ((const struct param *) b)->name);
}

static bool sort_pairs(struct params *params, struct im_err *err) {
    bool sorted = true;

    for (size_t i = 1; i < params->count && sorted; i++)
        sorted = by_name(&params->items[i - 1], &params->items[i]) < 0;
    if (sorted) /* most clients send them so */
        return true;
    qsort(params->items, params->count, sizeof(params->items[0]), by_name);
    for (size_t i = 1; i < params->count; i++)
        if (by_name(&params->items[i - 1], &params->items[i]) == 0) {
            char shown[41];

            shown_name(params->items[i].name, strlen(params->items[i].name), shown);
            return im_fail(err, IM_BAD_MESSAGE, "parameter [%s] is given more than once", shown);
        }
    return true;
}

bool params_parse(struct params *params, const char *raw, size_t len, struct im_err *err) {
    const char *at = raw, *end = raw + len;
    char *memory;

    *params = (struct params){.cut_at = len};
    /* Each pair costs its own length and two zero bytes: one stands in place of '=' or '&', so
     * twice the length and a little always suffices. */
    params->memory = memory = im_alloc(2 * len + 4);
    while (at < end) {
        const char *stop = memchr(at, '&', (size_t) (end - at));

        if (stop == NULL)
            stop = end;
        if (stop > at) {
            if (!parse_pair(params, at, stop, &memory, err))
                return false;
            if (strcmp(params->items[params->count - 1].name, "signature") == 0) {
                /* Cut with the '&' in front of it, or behind it when it is the first pair. */
                params->cut_at = at > raw ? (size_t) (at - raw) - 1 : 0;
                params->cut_len = (size_t) (stop - raw) - params->cut_at;
                if (at == raw && stop < end)
                    params->cut_len++;
            }
        }
        at = stop + 1;
    }
    return sort_pairs(params, err);
}

void params_done(struct params *params) {
    free(params->items);
    free(params->memory);
    *params = (struct params){0};
}

/* Index of the first item whose name is not less than `name`. */
static size_t lower_bound(const struct params *params, const char *name) {
    size_t low = 0, high = params->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (strcmp(params->items[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const char *params_get(const struct params *params, const char *name) {
    size_t i = lower_bound(params, name);

    return i < params->count && strcmp(params->items[i].name, name) == 0 ? params->items[i].value
                                                                         : NULL;
}

struct numbered {
    int64_t number;
    const char *value;
};

static int by_number(const void *a, const void *b) {
    int64_t left = ((const struct numbered *) a)->number,
            right = ((const struct numbered *) b)->number;

    return left < right ? -1 : left > right;
}

void params_list(const struct params *params, const char *name, struct im_strings *list) {
    size_t len = strlen(name), found = 0;
    size_t first = lower_bound(params, name);
    IM_AUTO(free_auto) struct numbered *items = NULL;

    /* Names that begin with `name` stand together; those of other parameters are left out. */
    for (size_t i = first; i < params->count && strncmp(params->items[i].name, name, len) == 0;
         i++) {
        const char *rest = params->items[i].name + len;
        int64_t number = 0;

        if (params->items[i].value[0] == '\0')
            continue;
        if (*rest != '\0' && (*rest != '.' || !im_parse_i64(rest + 1, 0, INT64_MAX, &number)))
            continue;
        if (items == NULL)
            items = im_realloc_array(NULL, params->count - i, sizeof(*items));
        items[found++] = (struct numbered){*rest == '\0' ? -1 : number, params->items[i].value};
    }
    if (found > 1)
        qsort(items, found, sizeof(*items), by_number);
    for (size_t i = 0; i < found; i++)
        im_strings_add(list, items[i].value);
}

static void encode(struct im_str *out, const char *text) {
    static const char digits[] = "0123456789ABCDEF";
    char *to = im_str_reserve(out, 3 * strlen(text)), *start = to;

    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char) *text;

        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
            c == '-' || c == '_' || c == '.' || c == '~') {
            *to++ = (char) c;
        } else {
            *to++ = '%';
            *to++ = digits[c >> 4];
            *to++ = digits[c & 15];
        }
    }
    *to = '\0';
    out->len += (size_t) (to - start);
}

void params_canonical(const struct params *params, struct im_str *out) {
    bool first = true;

    for (size_t i = 0; i < params->count; i++) {
        if (strcmp(params->items[i].name, "signature") == 0)
            continue;
        if (!first)
            im_str_add_char(out, '&');
        encode(out, params->items[i].name);
        im_str_add_char(out, '=');
        encode(out, params->items[i].value);
        first = false;
    }
}
