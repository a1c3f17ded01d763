/* SPDX-License-Identifier: Apache-2.0 */
/* One generic set of verbs over the field tables: SQL is drawn from the table, values are moved by
 * it. */
#include "record/record.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

/* PostgreSQL takes 65535 values in one statement, SQLite 32766. */
enum { FIELDS_MAX = 64, VALUES_MAX = 32000 };

/* Arguments that are gathered while the SQL text grows. Patterns keep their own memory. */
struct statement {
    struct im_str sql;
    struct db_value *values;
    size_t count, capacity;
    struct im_strings owned;
};

static void statement_done(struct statement *statement) {
    im_str_done(&statement->sql);
    im_strings_done(&statement->owned);
    free(statement->values);
}

static void add_value(struct statement *statement, struct db_value value) {
    im_grow(&statement->values, statement->count, &statement->capacity);
    statement->values[statement->count++] = value;
    im_str_addf(&statement->sql, "$%zu", statement->count);
}

static struct db_rows *ask(struct db_conn *conn, const struct statement *statement,
                           struct im_err *err) {
    if (statement->count > VALUES_MAX) {
        im_fail(err, IM_BAD_MESSAGE, "%zu values are too many for one list, at most %d are taken",
                statement->count, VALUES_MAX);
        return NULL;
    }
    return db_query_values(conn, err, statement->sql.data, statement->values, statement->count);
}

static struct db_value value_of(const struct field *field, const void *object) {
    if (field->type == FIELD_TEXT)
        return (struct db_value){.type = 't', .text = *field_text(field, object)};
    if (field->type == FIELD_ENUM)
        return (struct db_value){.type = 't', .text = field_word(field, object)};
    return (struct db_value){.type = 'i', .integer = field_int(field, object)};
}

static void add_columns(struct im_str *sql, const struct object_type *type) {
    for (size_t i = 0; i < type->field_count; i++)
        im_str_addf(sql, "%s%s", i ? ", " : "", type->fields[i].name);
}

static void read_row(const struct object_type *type, struct db_rows *rows, void *object) {
    for (size_t i = 0; i < type->field_count; i++) {
        const struct field *field = &type->fields[i];
        const char *text;

        if (field->type == FIELD_INT || field->type == FIELD_TIME) {
            field_set_int(field, object, db_int(rows, (int) i));
            continue;
        }
        text = db_text(rows, (int) i);
        if (field->type == FIELD_TEXT)
            *field_text(field, object) = im_strdup(text);
        else
            field_set_int(field, object, text ? field_word_value(field, text) : 0);
    }
}

static const char *key_of(const struct object_type *type, const void *object) {
    return *field_text(&type->fields[0], object);
}

static bool absent(const struct object_type *type, const char *key, struct im_err *err) {
    return im_fail(err, IM_NOT_FOUND, "%s %s does not exist", type->name, key ? key : "");
}

bool record_get(struct db_conn *conn, const struct object_type *type, const char *key,
                void *ret_object, struct im_err *err) {
    IM_AUTO(im_str_done) struct im_str sql = {0};
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    bool more = false;
    void *object;

    im_str_add(&sql, "SELECT ");
    add_columns(&sql, type);
    im_str_addf(&sql, " FROM %s WHERE %s = $1", type->table, type->key);
    rows = db_query(conn, err, sql.data, "t", key);
    if (rows == NULL || !db_next(rows, &more, err))
        return false;
    if (!more)
        return absent(type, key, err);
    object = object_new(type);
    read_row(type, rows, object);
    *(void **) ret_object = object;
    return true;
}

/* --- Conditions --------------------------------------------------------------------------------
 */

/* % and _ are no wildcards in what people type; \ escapes them. Lower case on both sides. */
static char *like_pattern(const char *text) {
    struct im_str pattern = {0};

    im_str_add_char(&pattern, '%');
    for (const char *p = text; *p != '\0'; p++) {
        if (strchr("%_\\", *p) != NULL)
            im_str_add_char(&pattern, '\\');
        im_str_add_char(&pattern, (char) (*p >= 'A' && *p <= 'Z' ? *p + 32 : *p));
    }
    im_str_add_char(&pattern, '%');
    return im_str_take(&pattern);
}

static void add_like(struct statement *statement, const char *column, const char *text) {
    char *pattern = like_pattern(text);

    im_str_addf(&statement->sql, "LOWER(%s) LIKE ", column);
    im_strings_add(&statement->owned, pattern);
    free(pattern);
    add_value(
        statement,
        (struct db_value){.type = 't', .text = statement->owned.items[statement->owned.count - 1]});
    im_str_add(&statement->sql, " ESCAPE '\\'");
}

/* False: the value can be no value of the field, so it matches nothing. */
static bool fitting(const struct field *field, const char *text, struct db_value *ret_value) {
    int64_t number;

    if (field->type == FIELD_TEXT || field->type == FIELD_ENUM) {
        *ret_value = (struct db_value){.type = 't', .text = text};
        return true;
    }
    if (!im_parse_i64(text, INT64_MIN, INT64_MAX, &number))
        return false;
    *ret_value = (struct db_value){.type = 'i', .integer = number};
    return true;
}

/* NULL is none of the values; without any that fits none matches, or, turned round, every one. */
static void add_in(struct statement *statement, const struct field *field,
                   const struct condition *condition) {
    bool not = condition->op == CONDITION_NOT_IN;
    size_t added = 0;
    struct db_value value;

    for (size_t i = 0; i < condition->value_count; i++) {
        if (!fitting(field, condition->values[i], &value))
            continue;
        if (added++ > 0)
            im_str_add(&statement->sql, ", ");
        else if (not )
            im_str_addf(&statement->sql, "(%s IS NULL OR %s NOT IN (", field->name, field->name);
        else
            im_str_addf(&statement->sql, "(%s IN (", field->name);
        add_value(statement, value);
    }
    im_str_add(&statement->sql, added > 0 ? "))" : not ? "1 = 1" : "1 = 0");
}

/* By far the most frequent: one value. */
static bool add_equal(struct statement *statement, const struct field *field,
                      const struct condition *condition) {
    struct db_value value;

    if (condition->value_count != 1)
        return false;
    if (!fitting(field, condition->values[0], &value)) {
        im_str_add(&statement->sql, condition->op == CONDITION_IN ? "1 = 0" : "1 = 1");
        return true;
    }
    im_str_addf(&statement->sql, "%s %s ", field->name,
                condition->op == CONDITION_IN ? "=" : "IS DISTINCT FROM");
    add_value(statement, value);
    return true;
}

static void add_condition(struct statement *statement, const struct object_type *type,
                          const struct condition *condition) {
    const struct field *field = object_field(type, condition->field);
    struct db_value value;

    assert(field != NULL);
    switch (condition->op) {
    case CONDITION_IN:
    case CONDITION_NOT_IN:
        if (!add_equal(statement, field, condition))
            add_in(statement, field, condition);
        return;
    case CONDITION_CONTAINS:
        im_str_add_char(&statement->sql, '(');
        for (size_t i = 0; i < condition->value_count; i++) {
            im_str_add(&statement->sql, i ? " OR " : "");
            add_like(statement, field->name, condition->values[i]);
        }
        im_str_add_char(&statement->sql, ')');
        return;
    case CONDITION_GREATER:
    case CONDITION_LESS:
        if (!fitting(field, condition->values[0], &value)) {
            im_str_add(&statement->sql, "1 = 0");
            return;
        }
        im_str_addf(&statement->sql, "%s %c ", field->name,
                    condition->op == CONDITION_GREATER ? '>' : '<');
        add_value(statement, value);
        return;
    }
}

/* What all parts of a query have in common: " AND …" for each condition. */
static char *common(struct statement *statement, const struct object_type *type,
                    const struct query *query) {
    struct im_str kept = statement->sql;
    char *text;

    statement->sql = (struct im_str){0};
    im_str_add(&statement->sql, "");
    for (size_t i = 0; i < query->condition_count; i++) {
        im_str_add(&statement->sql, " AND ");
        add_condition(statement, type, &query->conditions[i]);
    }
    if (!im_str_empty(query->search)) {
        im_str_add(&statement->sql, " AND (");
        add_like(statement, type->key, query->search);
        if (type->title != NULL) {
            im_str_add(&statement->sql, " OR ");
            add_like(statement, type->title, query->search);
        }
        im_str_add_char(&statement->sql, ')');
    }
    text = im_str_take(&statement->sql);
    statement->sql = kept;
    return text;
}

/* What a user sees is their own, and what of others is public. Those are asked for apart, as either
 * is one piece of an index in the order of the list; both at once is none. */
enum part { PART_ALL, PART_OWN, PART_PUBLIC };

static enum part first_part(const struct object_type *type, const struct query *query) {
    return query->visible_to != NULL && object_field(type, "owner") != NULL ? PART_OWN : PART_ALL;
}

static bool has_second(const struct object_type *type, enum part first) {
    return first == PART_OWN && object_field(type, "visibility") != NULL;
}

/* `owner` is the number of the argument. */
static void add_part(struct statement *statement, const struct object_type *type, enum part part,
                     size_t owner, const char *conditions) {
    im_str_addf(&statement->sql, " FROM %s WHERE ", type->table);
    if (part == PART_OWN)
        im_str_addf(&statement->sql, "owner = $%zu", owner);
    else if (part == PART_PUBLIC)
        im_str_addf(&statement->sql, "visibility = 'public' AND owner IS DISTINCT FROM $%zu",
                    owner);
    else
        im_str_add(&statement->sql, "1 = 1");
    im_str_add(&statement->sql, conditions);
}

/* Writes the parts, each behind `head`, with `between` between them. */
static void add_parts(struct statement *statement, const struct object_type *type,
                      const struct query *query, const char *head, const char *between) {
    IM_AUTO(free_auto) char *conditions = common(statement, type, query);
    enum part first = first_part(type, query);
    size_t owner = statement->count + 1;

    if (first == PART_OWN) {
        im_grow(&statement->values, statement->count, &statement->capacity);
        statement->values[statement->count++] =
            (struct db_value){.type = 't', .text = query->visible_to};
    }
    im_str_add(&statement->sql, head);
    add_part(statement, type, first, owner, conditions);
    if (has_second(type, first)) {
        im_str_addf(&statement->sql, "%s%s", between, head);
        add_part(statement, type, PART_PUBLIC, owner, conditions);
    }
}

static void add_order(struct statement *statement, const struct object_type *type,
                      const struct query *query) {
    const char *field = query->sort_field;
    const char *direction = query->ascending ? "ASC" : "DESC";

    if (field == NULL)
        field = object_field(type, "create_time") ? "create_time" : type->key;
    assert(object_field(type, field) != NULL);
    im_str_addf(&statement->sql, " ORDER BY %s %s", field, direction);
    if (strcmp(field, type->key) != 0)
        im_str_addf(&statement->sql, ", %s %s", type->key, direction);
    if (query->limit <= 0)
        return;
    /* As values, so that all pages of a list are one statement: prepared once, kept once. */
    im_str_add(&statement->sql, " LIMIT ");
    add_value(statement, (struct db_value){.type = 'i', .integer = query->limit});
    im_str_add(&statement->sql, " OFFSET ");
    add_value(statement,
              (struct db_value){.type = 'i', .integer = query->offset > 0 ? query->offset : 0});
}

bool record_count(struct db_conn *conn, const struct object_type *type, const struct query *query,
                  int64_t *ret_count, struct im_err *err) {
    IM_AUTO(statement_done) struct statement statement = {0};
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    bool more = false;

    im_str_add(&statement.sql, "SELECT ");
    add_parts(&statement, type, query, "(SELECT COUNT(*)", ") + ");
    im_str_add_char(&statement.sql, ')');
    rows = ask(conn, &statement, err);
    if (rows == NULL || !db_next(rows, &more, err))
        return false;
    *ret_count = more ? db_int(rows, 0) : 0;
    return true;
}

static bool list_rows(struct db_rows *rows, const struct object_type *type, void ***ret_objects,
                      size_t *ret_count, struct im_err *err) {
    void **objects = NULL;
    size_t count = 0, capacity = 0;
    bool more = true;

    while (db_next(rows, &more, err) && more) {
        im_grow(&objects, count, &capacity);
        objects[count] = object_new(type);
        read_row(type, rows, objects[count++]);
    }
    if (more) {
        record_list_free(type, objects, count);
        return false;
    }
    *ret_objects = objects;
    *ret_count = count;
    return true;
}

/* The end of a list tells how many there are without counting. */
static bool is_end(const struct query *query, size_t count) {
    return query->limit <= 0 ||
           ((int64_t) count < query->limit && (count > 0 || query->offset <= 0));
}

bool record_list(struct db_conn *conn, const struct object_type *type, const struct query *query,
                 void ***ret_objects, size_t *ret_count, int64_t *ret_total, struct im_err *err) {
    IM_AUTO(statement_done) struct statement statement = {0};
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    IM_AUTO(im_str_done) struct im_str head = {0};
    void **objects = NULL;
    size_t count = 0;
    int64_t total;

    im_str_add(&head, "SELECT ");
    add_columns(&head, type);
    add_parts(&statement, type, query, head.data, " UNION ALL ");
    add_order(&statement, type, query);
    rows = ask(conn, &statement, err);
    if (rows == NULL || !list_rows(rows, type, &objects, &count, err))
        return false;
    db_rows_free(im_steal(&rows));
    total = (int64_t) count + (query->limit > 0 && query->offset > 0 ? query->offset : 0);
    if (query->total > 0)
        total = query->total;
    else if (ret_total != NULL && !is_end(query, count) &&
             !record_count(conn, type, query, &total, err)) {
        record_list_free(type, objects, count);
        return false;
    }
    *ret_objects = objects;
    *ret_count = count;
    if (ret_total != NULL)
        *ret_total = total;
    return true;
}

void record_list_free(const struct object_type *type, void **objects, size_t count) {
    for (size_t i = 0; i < count; i++)
        object_free(type, objects[i]);
    free(objects);
}

/* --- Changes -----------------------------------------------------------------------------------
 */

bool record_insert(struct db_conn *conn, const struct object_type *type, const void *object,
                   struct im_err *err) {
    IM_AUTO(statement_done) struct statement statement = {0};

    im_str_addf(&statement.sql, "INSERT INTO %s (", type->table);
    add_columns(&statement.sql, type);
    im_str_add(&statement.sql, ") VALUES (");
    for (size_t i = 0; i < type->field_count; i++) {
        im_str_add(&statement.sql, i ? ", " : "");
        add_value(&statement, value_of(&type->fields[i], object));
    }
    im_str_add_char(&statement.sql, ')');
    if (db_exec_values(conn, NULL, err, statement.sql.data, statement.values, statement.count))
        return true;
    return err->code == IM_EXISTS ? im_within(err, "%s %s", type->name, key_of(type, object))
                                  : false;
}

static bool update(struct db_conn *conn, const struct object_type *type, const void *object,
                   const struct field *const fields[], size_t count, struct im_err *err) {
    IM_AUTO(statement_done) struct statement statement = {0};
    int64_t changed = 0;

    im_str_addf(&statement.sql, "UPDATE %s SET ", type->table);
    for (size_t i = 0; i < count; i++) {
        im_str_addf(&statement.sql, "%s%s = ", i ? ", " : "", fields[i]->name);
        add_value(&statement, value_of(fields[i], object));
    }
    im_str_addf(&statement.sql, " WHERE %s = ", type->key);
    add_value(&statement, (struct db_value){.type = 't', .text = key_of(type, object)});
    if (!db_exec_values(conn, &changed, err, statement.sql.data, statement.values, statement.count))
        return false;
    return changed > 0 || absent(type, key_of(type, object), err);
}

bool record_update(struct db_conn *conn, const struct object_type *type, const void *object,
                   struct im_err *err) {
    const struct field *fields[FIELDS_MAX];

    assert(type->field_count <= FIELDS_MAX);
    for (size_t i = 1; i < type->field_count; i++)
        fields[i - 1] = &type->fields[i];
    return update(conn, type, object, fields, type->field_count - 1, err);
}

bool record_update_fields(struct db_conn *conn, const struct object_type *type, const void *object,
                          const char *const names[], struct im_err *err) {
    const struct field *fields[FIELDS_MAX];
    size_t count = 0;

    for (; names[count] != NULL; count++) {
        assert(count < FIELDS_MAX);
        fields[count] = object_field(type, names[count]);
        assert(fields[count] != NULL);
    }
    return update(conn, type, object, fields, count, err);
}

bool record_delete(struct db_conn *conn, const struct object_type *type, const char *key,
                   struct im_err *err) {
    IM_AUTO(free_auto)
    char *sql = im_printf("DELETE FROM %s WHERE %s = $1", type->table, type->key);

    return db_exec(conn, NULL, err, sql, "t", key);
}
