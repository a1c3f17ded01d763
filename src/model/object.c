/* SPDX-License-Identifier: Apache-2.0 */
/* Objects by table: making, freeing, copying, reaching a field; building queries. */
#include "model/object.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static void *slot_of(const struct field *field, const void *object) {
    return (char *) object + field->offset;
}

void *object_new(const struct object_type *type) { return im_alloc(type->size); }

void object_clear(const struct object_type *type, void *object) {
    for (size_t i = 0; i < type->field_count; i++)
        if (type->fields[i].type == FIELD_TEXT)
            free(*field_text(&type->fields[i], object));
    memset(object, 0, type->size);
}

void object_free(const struct object_type *type, void *object) {
    if (object == NULL)
        return;
    object_clear(type, object);
    free(object);
}

void *object_copy(const struct object_type *type, const void *object) {
    void *copy = object_new(type);

    memcpy(copy, object, type->size);
    for (size_t i = 0; i < type->field_count; i++)
        if (type->fields[i].type == FIELD_TEXT)
            *field_text(&type->fields[i], copy) = im_strdup(*field_text(&type->fields[i], object));
    return copy;
}

const struct field *object_field(const struct object_type *type, const char *name) {
    for (size_t i = 0; i < type->field_count; i++)
        if (strcmp(type->fields[i].name, name) == 0)
            return &type->fields[i];
    return NULL;
}

char **field_text(const struct field *field, const void *object) {
    assert(field->type == FIELD_TEXT);
    return slot_of(field, object);
}

int64_t field_int(const struct field *field, const void *object) {
    assert(field->type != FIELD_TEXT);
    return field->type == FIELD_ENUM ? *(int *) slot_of(field, object)
                                     : *(int64_t *) slot_of(field, object);
}

void field_set_int(const struct field *field, void *object, int64_t value) {
    assert(field->type != FIELD_TEXT);
    if (field->type == FIELD_ENUM)
        *(int *) slot_of(field, object) = (int) value;
    else
        *(int64_t *) slot_of(field, object) = value;
}

const char *field_word(const struct field *field, const void *object) {
    int64_t value = field_int(field, object), i = 0;

    while (i < value && field->words[i] != NULL)
        i++;
    return value < 0 || field->words[i] == NULL ? "" : field->words[i];
}

int field_word_value(const struct field *field, const char *word) {
    for (int i = 0; field->words[i] != NULL; i++)
        if (strcmp(field->words[i], word) == 0)
            return i;
    return -1;
}

void query_add(struct query *query, const char *field, enum condition_op op, const char *value) {
    struct condition *condition = NULL;

    for (size_t i = 0; i < query->condition_count; i++)
        if (query->conditions[i].op == op && strcmp(query->conditions[i].field, field) == 0)
            condition = &query->conditions[i];
    if (condition == NULL) {
        im_grow(&query->conditions, query->condition_count, &query->condition_capacity);
        condition = &query->conditions[query->condition_count++];
        *condition = (struct condition){.field = field, .op = op};
    }
    /* Room doubles at 1, 2, 4, 8 … values: nobody needs to keep how much there is. */
    if ((condition->value_count & (condition->value_count - 1)) == 0)
        condition->values = im_realloc_array(
            condition->values, condition->value_count ? condition->value_count * 2 : 1,
            sizeof(char *));
    condition->values[condition->value_count++] = im_strdup(value);
}

void query_done(struct query *query) {
    for (size_t i = 0; i < query->condition_count; i++) {
        for (size_t j = 0; j < query->conditions[i].value_count; j++)
            free(query->conditions[i].values[j]);
        free(query->conditions[i].values);
    }
    free(query->conditions);
    free(query->search);
    free(query->visible_to);
    *query = (struct query){0};
}
