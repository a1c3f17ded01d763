/* SPDX-License-Identifier: Apache-2.0 */
/* Reading JSON: jansson behind our own names. A wire_value is a json_t, a wire_doc the root. */
#include "wire/wire.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#define TEXT_MAX ((size_t) 64 << 20)
#define DEPTH_MAX 64

static json_t *json_of(const struct wire_value *value) { return (json_t *) (uintptr_t) value; }
static const struct wire_value *value_of(json_t *json) { return (const void *) json; }

/* jansson's own bound on nesting is 2048, far more than we ever mean. Strings are skipped. */
static bool too_deep(const char *text, size_t len) {
    unsigned depth = 0;
    bool quoted = false;

    for (size_t i = 0; i < len; i++) {
        if (quoted) {
            if (text[i] == '\\')
                i++;
            else if (text[i] == '"')
                quoted = false;
        } else if (text[i] == '"') {
            quoted = true;
        } else if (text[i] == '{' || text[i] == '[') {
            if (++depth > DEPTH_MAX)
                return true;
        } else if ((text[i] == '}' || text[i] == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

struct wire_doc *wire_parse(const char *text, size_t len, struct im_err *err) {
    json_error_t where;
    json_t *root;

    if (len > TEXT_MAX) {
        im_fail(err, IM_BAD_MESSAGE, "JSON text of %zu bytes is too long", len);
        return NULL;
    }
    if (too_deep(text, len)) {
        im_fail(err, IM_BAD_MESSAGE, "JSON text is nested more than %d levels deep", DEPTH_MAX);
        return NULL;
    }
    root = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &where);
    if (root == NULL)
        im_fail(err, IM_BAD_MESSAGE, "JSON text is wrong at line %d, column %d: %s", where.line,
                where.column, where.text);
    return (struct wire_doc *) root;
}

void wire_doc_free(struct wire_doc *doc) { json_decref((json_t *) doc); }

const struct wire_value *wire_root(const struct wire_doc *doc) { return (const void *) doc; }

const struct wire_value *wire_get(const struct wire_value *value, const char *key) {
    return value_of(json_object_get(json_of(value), key));
}

size_t wire_count(const struct wire_value *value) {
    return json_is_array(json_of(value)) ? json_array_size(json_of(value))
                                         : json_object_size(json_of(value));
}

const struct wire_value *wire_at(const struct wire_value *value, size_t index) {
    return value_of(json_array_get(json_of(value), index));
}

static void *iter_at(const struct wire_value *value, size_t index) {
    void *iter = json_object_iter(json_of(value));

    while (iter != NULL && index-- > 0)
        iter = json_object_iter_next(json_of(value), iter);
    return iter;
}

const char *wire_key_at(const struct wire_value *value, size_t index) {
    void *iter = iter_at(value, index);

    return iter == NULL ? NULL : json_object_iter_key(iter);
}

const struct wire_value *wire_member_at(const struct wire_value *value, size_t index) {
    void *iter = iter_at(value, index);

    return iter == NULL ? NULL : value_of(json_object_iter_value(iter));
}

enum wire_kind wire_kind(const struct wire_value *value) {
    static const enum wire_kind kinds[] = {
        [JSON_OBJECT] = WIRE_OBJECT, [JSON_ARRAY] = WIRE_ARRAY, [JSON_STRING] = WIRE_TEXT,
        [JSON_INTEGER] = WIRE_INT,   [JSON_REAL] = WIRE_REAL,   [JSON_TRUE] = WIRE_BOOL,
        [JSON_FALSE] = WIRE_BOOL,    [JSON_NULL] = WIRE_NULL,
    };

    return value == NULL ? WIRE_NONE : kinds[json_typeof(json_of(value))];
}

const char *wire_as_text(const struct wire_value *value, const char *otherwise) {
    return json_is_string(json_of(value)) ? json_string_value(json_of(value)) : otherwise;
}

int64_t wire_as_int(const struct wire_value *value, int64_t otherwise) {
    json_t *json = json_of(value);

    if (json_is_boolean(json))
        return json_is_true(json);
    return json_is_integer(json) ? (int64_t) json_integer_value(json) : otherwise;
}

const char *wire_get_text(const struct wire_value *value, const char *key, const char *otherwise) {
    return wire_as_text(wire_get(value, key), otherwise);
}

int64_t wire_get_int(const struct wire_value *value, const char *key, int64_t otherwise) {
    return wire_as_int(wire_get(value, key), otherwise);
}

char *wire_dump(const struct wire_value *value, bool indent) {
    char *text = value == NULL
                     ? NULL
                     : json_dumps(json_of(value),
                                  JSON_ENCODE_ANY | (indent ? JSON_INDENT(2) : JSON_COMPACT));

    return text != NULL ? text : im_strdup("null");
}
