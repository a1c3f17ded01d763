/* SPDX-License-Identifier: Apache-2.0 */
/* Model ⇄ JSON, nothing else. Writing streams compact text straight into a string (replies are made
 * some ten thousand times a second; building a tree first costs three times as much); reading is
 * jansson's, which stays behind this header. */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/object.h"

/* --- Writing. `key` is NULL inside arrays. Text that is not UTF-8 has its bad bytes replaced by
 * U+FFFD. --- */

struct wire_writer {
    struct im_str text;
    bool comma; /* something stands before the next member */
};
void wire_object_begin(struct wire_writer *writer, const char *key);
void wire_object_end(struct wire_writer *writer);
void wire_array_begin(struct wire_writer *writer, const char *key);
void wire_array_end(struct wire_writer *writer);
void wire_text(struct wire_writer *writer, const char *key,
               const char *value); /* NULL is written as null */
void wire_int(struct wire_writer *writer, const char *key, int64_t value);
void wire_time(struct wire_writer *writer, const char *key,
               int64_t time_s); /* 0 is written as null */
void wire_bool(struct wire_writer *writer, const char *key, bool value);
void wire_null(struct wire_writer *writer, const char *key);
void wire_strings(struct wire_writer *writer, const char *key, const struct im_strings *list);
/* Raw JSON text that is known to be valid. */
void wire_raw(struct wire_writer *writer, const char *key, const char *json);
/* The members of an object that are not private, in the order of the table (no braces). */
void wire_fields(struct wire_writer *writer, const struct object_type *type, const void *object);

/* --- Reading ---------------------------------------------------------------------------------- */

struct wire_value; /* part of a document; valid as long as the document */
struct wire_doc;
/* At most 64 MiB and 64 levels deep; duplicates of a key are refused. IM_BAD_MESSAGE names line and
 * column. */
struct wire_doc *wire_parse(const char *text, size_t len, struct im_err *err) IM_MUST_CHECK;
void wire_doc_free(struct wire_doc *doc);
IM_DEFINE_AUTO(struct wire_doc *, wire_doc_free)
const struct wire_value *wire_root(const struct wire_doc *doc);
/* NULL when `value` is no object or has no such key. All of these take NULL. */
const struct wire_value *wire_get(const struct wire_value *value, const char *key);
size_t wire_count(const struct wire_value *value); /* of an array or object, else 0 */
const struct wire_value *wire_at(const struct wire_value *value,
                                 size_t index);                        /* of an array, else NULL */
const char *wire_key_at(const struct wire_value *value, size_t index); /* of an object, else NULL */
const struct wire_value *wire_member_at(const struct wire_value *value, size_t index);
enum wire_kind {
    WIRE_NONE,
    WIRE_NULL,
    WIRE_BOOL,
    WIRE_INT,
    WIRE_REAL,
    WIRE_TEXT,
    WIRE_ARRAY,
    WIRE_OBJECT
};
enum wire_kind wire_kind(const struct wire_value *value);
const char *wire_as_text(const struct wire_value *value, const char *otherwise); /* of a text */
int64_t wire_as_int(const struct wire_value *value,
                    int64_t otherwise); /* of an integer or boolean */
/* Shorthand for wire_as_*(wire_get(value, key), otherwise). */
const char *wire_get_text(const struct wire_value *value, const char *key, const char *otherwise);
int64_t wire_get_int(const struct wire_value *value, const char *key, int64_t otherwise);
/* JSON text of any part, owned: compact, or indented by 2 for people. */
char *wire_dump(const struct wire_value *value, bool indent);

/* --- Messages between imprintd and imprint-worker: one JSON object per line ------------------- */

enum worker_message_kind { WORKER_PROGRESS, WORKER_RESULT, WORKER_ERROR, WORKER_LOG };
struct worker_message {
    enum worker_message_kind kind;
    int64_t done_bytes, total_bytes; /* WORKER_PROGRESS; total 0 = unknown */
    const char *phase;               /* WORKER_PROGRESS: "fetch", "copy" …, may be NULL */
    struct im_err err;               /* WORKER_ERROR */
    const char *text; /* WORKER_LOG: a line; WORKER_RESULT: JSON text of the result object */
};
void wire_worker_write(struct im_str *line, const struct worker_message *message);
/* `message` borrows from *ret_doc. A line that is no message is IM_BAD_MESSAGE. */
bool wire_worker_read(const char *line, size_t len, struct worker_message *message,
                      struct wire_doc **ret_doc, struct im_err *err) IM_MUST_CHECK;

#endif
