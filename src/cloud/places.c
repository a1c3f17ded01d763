/* SPDX-License-Identifier: Apache-2.0 */
/* What belongs to the objects of a page: one question for all of them. */
#include <stdlib.h>
#include <string.h>

#include "cloud-private.h"

enum { CHUNK = 500 }; /* ids in one question: lists without a limit are long */

static int by_id(const void *a, const void *b) {
    return strcmp(((const struct place *) a)->id, ((const struct place *) b)->id);
}

void places_add(struct places *places, const char *id, size_t at) {
    im_grow(&places->items, places->count, &places->capacity);
    places->items[places->count++] = (struct place){id, at};
}

void places_done(struct places *places) { free(places->items); }

/* Calls `take` for each place of that id: an image is that of several instances. */
static void places_give(const struct places *places, const char *id, void *object,
                        void (*take)(void *page, size_t at, void *object), void *page) {
    size_t low = 0, high = places->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (strcmp(places->items[middle].id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < places->count && strcmp(places->items[low].id, id) == 0; low++)
        take(page, places->items[low].at, object);
}

bool places_gather(struct db_conn *conn, const struct object_type *type, const char *field,
                   const char *sort_field, struct places *places,
                   void (*take)(void *page, size_t at, void *object), void *page,
                   struct im_err *err) {
    const struct field *key = object_field(type, field);

    if (places->count > 0)
        qsort(places->items, places->count, sizeof(*places->items), by_id);
    for (size_t from = 0; from < places->count; from += CHUNK) {
        IM_AUTO(query_done) struct query query = {.sort_field = sort_field, .ascending = true};
        const char *last = "";
        void **found = NULL;
        size_t count = 0;

        for (size_t i = from; i < places->count && i < from + CHUNK; i++)
            if (i == from || strcmp(places->items[i].id, last) != 0)
                query_add(&query, field, CONDITION_IN, last = places->items[i].id);
        if (!record_list(conn, type, &query, &found, &count, NULL, err))
            return false;
        for (size_t i = 0; i < count; i++)
            places_give(places, *field_text(key, found[i]), found[i], take, page);
        record_list_free(type, found, count);
    }
    return true;
}
