/* SPDX-License-Identifier: Apache-2.0 */
/* How the things of the cloud are described once and used everywhere.
 *
 * A kind of thing (image, instance, job …) is a flat struct and a table of its fields. A field's
 * name is its name in the API's replies and its column in the record, so record/ builds its SQL and
 * wire/ its JSON from the same table, and a field that is added here is stored and shown without a
 * further line of code.
 *
 * Structs hold only `char *` (owned, NULL = not set), `int64_t`, and enums; they are made zeroed
 * and freed by object_free(). */
#ifndef MODEL_OBJECT_H
#define MODEL_OBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum field_type {
    FIELD_TEXT, /* char * */
    FIELD_INT,  /* int64_t; a JSON integer */
    FIELD_TIME, /* int64_t seconds since the epoch, 0 = none; RFC 3339 or null on the wire */
    FIELD_ENUM, /* an enum, 4 bytes; its word in the record and on the wire, from `words` */
};

enum field_flags {
    FIELD_PRIVATE = 1, /* kept in the record, never on the wire */
    FIELD_NULL = 2,    /* a text that is not set is null on the wire; without this flag it is "" */
};

struct field {
    const char *name;
    enum field_type type;
    size_t offset;
    unsigned flags;
    const char *const *words; /* FIELD_ENUM only: NULL-terminated, indexed by the enum */
};

struct object_type {
    const char *name;  /* "image": for messages, and `<name>_set` on the wire */
    const char *table; /* in the record */
    const char *key;   /* the field that identifies one, e.g. "image_id"; also the first field */
    const char *title; /* the field search_word looks into besides the key; NULL if none */
    size_t size;       /* of the struct */
    const struct field *fields;
    size_t field_count;
};

void *object_new(const struct object_type *type);
/* Frees the strings and the struct; NULL is fine. */
void object_free(const struct object_type *type, void *object);
/* Frees the strings of a struct that is embedded elsewhere and zeroes it. */
void object_clear(const struct object_type *type, void *object);
void *object_copy(const struct object_type *type, const void *object);
/* NULL if the type has no such field. */
const struct field *object_field(const struct object_type *type, const char *name);

/* Reading and writing a field through the table. Wrong types are our own mistake (assert). */
char **field_text(const struct field *field, const void *object);
int64_t field_int(const struct field *field, const void *object); /* also enums and times */
void field_set_int(const struct field *field, void *object, int64_t value);
/* The word of an enum field; "" when the value is out of range. */
const char *field_word(const struct field *field, const void *object);
/* -1 if `word` is none of the field's words. */
int field_word_value(const struct field *field, const char *word);

/* --- Asking for a list of objects ------------------------------------------------------------- */

enum condition_op {
    CONDITION_IN, /* the field is one of the values */
    CONDITION_NOT_IN,
    CONDITION_CONTAINS, /* the (text) field contains one of the values, case matters not */
    CONDITION_GREATER,  /* the field is greater than values[0] */
    CONDITION_LESS,
};

struct condition {
    const char *field; /* a field of the type; borrowed, usually a literal */
    enum condition_op op;
    char **values; /* owned texts; integers in decimal, enums as their words */
    size_t value_count;
};

/* All conditions must hold. Zero-initialise; query_done() frees it. */
struct query {
    struct condition *conditions;
    size_t condition_count, condition_capacity;
    char *search;     /* substring of key or title; NULL = any */
    char *visible_to; /* only objects with owner = this user, or visibility = public where the type
                         has it */
    int64_t offset;
    int64_t limit;          /* 0 = all */
    int64_t total;          /* how many match in all, where that is known; 0 = count them */
    const char *sort_field; /* NULL = create_time if the type has it, else the key */
    bool ascending;         /* default is newest (largest) first; ties are broken by the key */
};

/* Adds a condition with one value, or appends the value to an existing condition of the same field
 * and op. */
void query_add(struct query *query, const char *field, enum condition_op op, const char *value);
void query_done(struct query *query);

#endif
