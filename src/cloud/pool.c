/* SPDX-License-Identifier: Apache-2.0 */
/* The pool against the graph, and the bytes of each image and disk. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud-private.h"

bool cloud_pool_used(struct db *db, const char *pool_uri, bool *ret_used, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(db, err);
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;

    if (conn == NULL)
        return false;
    rows = db_query(conn, err,
                    "SELECT 1 FROM layers WHERE pool = $1 AND state IN ('head', 'frozen') LIMIT 1",
                    "t", pool_uri);
    return rows != NULL && db_next(rows, ret_used, err);
}

static bool admin_only(const struct caller *caller, struct im_err *err) {
    return caller->admin || im_fail(err, IM_DENIED, "only an administrator looks at the pool");
}

/* Both sides sorted by name, so that they are compared in one pass; what is to take the place of a
 * layer's file comes behind that. */
static int by_entry_name(const void *a, const void *b) {
    const struct storage_entry *x = a, *y = b;
    int order = strcmp(x->name, y->name);

    return order != 0 ? order : x->partial - y->partial;
}

static int by_layer_name(const void *a, const void *b) {
    return strcmp((*(struct layer *const *) a)->name, (*(struct layer *const *) b)->name);
}

struct sides {
    struct storage_entry *entries;
    size_t entry_count;
    struct layer **layers;
    size_t layer_count;
};

static void sides_done(struct sides *sides) {
    free(sides->entries);
    record_list_free(&layer_type, (void **) sides->layers, sides->layer_count);
}

/* The record first: a layer is planned there before it is in the pool, so nothing new looks like an
 * orphan. */
static bool sides_load(struct cloud *cloud, struct sides *sides, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(query_done) struct query query = {.sort_field = "name", .ascending = true};

    query_add(&query, "pool", CONDITION_IN, storage_uri(cloud->config.pool));
    if (conn == NULL ||
        !storage_list(cloud->config.pool, &sides->entries, &sides->entry_count, err) ||
        !record_list(conn, &layer_type, &query, (void ***) &sides->layers, &sides->layer_count,
                     NULL, err))
        return false;
    if (sides->entry_count > 0)
        qsort(sides->entries, sides->entry_count, sizeof(*sides->entries), by_entry_name);
    if (sides->layer_count > 0)
        qsort(sides->layers, sides->layer_count, sizeof(*sides->layers), by_layer_name);
    return true;
}

static void say(struct im_strings *lines, const char *format, const char *a, const char *b,
                const char *c) __attribute__((format(printf, 2, 0)));
static void say(struct im_strings *lines, const char *format, const char *a, const char *b,
                const char *c) {
    char line[512];

    snprintf(line, sizeof(line), format, a, b, c);
    im_strings_add(lines, line);
}

static const char *parent_name(const struct sides *sides, const struct layer *layer) {
    for (size_t i = 0; layer->parent_id != NULL && i < sides->layer_count; i++)
        if (strcmp(sides->layers[i]->layer_id, layer->parent_id) == 0)
            return sides->layers[i]->name;
    return "";
}

static void compare(const struct sides *sides, const struct layer *layer,
                    const struct storage_entry *entry, struct pool_report *report) {
    const char *parent = parent_name(sides, layer);

    report->layers++;
    if (entry->partial)
        say(&report->wrong, "layer %s is half made in the pool, the record calls it %s%s",
            layer->name, layer->state == LAYER_HEAD ? "a head" : "frozen", "");
    else if (strcmp(parent, entry->parent) != 0)
        say(&report->wrong, "layer %s has the parent [%s] in the pool, [%s] in the record",
            layer->name, entry->parent, parent);
    else if (entry->usage.virtual_bytes != (uint64_t) layer->size_bytes)
        say(&report->wrong, "layer %s has another size in the pool than in the record%s%s",
            layer->name, "", "");
    else if (entry->frozen != (layer->state == LAYER_FROZEN))
        say(&report->wrong, "layer %s is %s in the pool, the record says otherwise%s", layer->name,
            entry->frozen ? "read-only" : "writable", "");
}

static void note_check(const struct layer *layer, struct pool_report *report) {
    if (layer->state != LAYER_FROZEN)
        return;
    if (im_str_empty(layer->file_digest))
        report->unread++;
    else if (report->oldest_check == 0 || layer->checked_time < report->oldest_check)
        report->oldest_check = layer->checked_time;
}

/* A file that is being made for a layer which has one. */
static bool is_successor(const struct sides *sides, size_t entry) {
    return entry > 0 && sides->entries[entry].partial && !sides->entries[entry - 1].partial &&
           strcmp(sides->entries[entry].name, sides->entries[entry - 1].name) == 0;
}

bool cloud_pool_check(struct cloud *cloud, const struct caller *caller,
                      struct pool_report *ret_report, struct im_err *err) {
    IM_AUTO(sides_done) struct sides sides = {0};
    struct pool_report report = {0};
    size_t e = 0, l = 0;

    if (!admin_only(caller, err) || !sides_load(cloud, &sides, err))
        return false;
    while (e < sides.entry_count || l < sides.layer_count) {
        int order = e == sides.entry_count   ? 1
                    : l == sides.layer_count ? -1
                                             : strcmp(sides.entries[e].name, sides.layers[l]->name);
        const struct layer *layer = order >= 0 ? sides.layers[l] : NULL;

        if (order < 0 && is_successor(&sides, e))
            report.busy++;
        else if (order < 0)
            say(&report.orphans, "layer %s is in the pool%s, nothing in the record knows it%s",
                sides.entries[e].name, sides.entries[e].partial ? ", half made" : "", "");
        else if (layer->state == LAYER_MAKING || layer->state == LAYER_DROPPING)
            report.busy++;
        else if (!im_str_empty(layer->damage))
            say(&report.damaged, "layer %s (%s): %s", layer->name, layer->layer_id, layer->damage);
        else if (order > 0)
            say(&report.missing, "layer %s (%s) is in the record, but not in the pool%s",
                layer->name, layer->layer_id, "");
        else
            compare(&sides, layer, &sides.entries[e], &report);
        e += order <= 0;
        l += order >= 0;
    }
    for (size_t i = 0; i < sides.layer_count; i++)
        note_check(sides.layers[i], &report);
    report.merging = fold_mode(cloud);
    *ret_report = report;
    return true;
}

void pool_report_done(struct pool_report *report) {
    im_strings_done(&report->orphans);
    im_strings_done(&report->missing);
    im_strings_done(&report->wrong);
    im_strings_done(&report->damaged);
}

/* --- Usage ------------------------------------------------------------------------------------ */

/* Own bytes are those of the layer itself, shared ones those of all its ancestors. */
static bool usage_of(struct cloud *cloud, struct db_conn *conn, const char *layer_id,
                     struct usage_line *line, struct im_err *err) {
    struct layer **layers = NULL;
    size_t count = 0;

    if (im_str_empty(layer_id))
        return true;
    if (!layer_chain(conn, layer_id, &layers, &count, err))
        return false;
    line->virtual_bytes = layers[0]->size_bytes;
    for (size_t i = 0; i < count; i++) {
        struct storage_usage usage = {0};
        struct im_err gone = {0};

        if (!storage_usage(cloud->config.pool, layers[i]->name, &usage, &gone))
            continue;
        *(i == 0 ? &line->own_bytes : &line->shared_bytes) += (int64_t) usage.own_bytes;
    }
    record_list_free(&layer_type, (void **) layers, count);
    return true;
}

/* `object` has its id as first field and names its layer in `layer_id`. */
static bool add_line(struct cloud *cloud, struct db_conn *conn, const struct object_type *type,
                     const void *object, struct usage_report *report, size_t *capacity,
                     struct im_err *err) {
    struct usage_line line = {.kind = type->name};
    const char *layer_id = *field_text(object_field(type, "layer_id"), object);

    snprintf(line.id, sizeof(line.id), "%s", *field_text(&type->fields[0], object));
    if (!usage_of(cloud, conn, layer_id, &line, err))
        return false;
    im_grow(&report->lines, report->count, capacity);
    report->lines[report->count++] = line;
    return true;
}

static bool add_lines(struct cloud *cloud, struct db_conn *conn, const struct caller *caller,
                      const struct object_type *type, struct usage_report *report, size_t *capacity,
                      struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    void **objects = NULL;
    size_t count = 0;
    bool added = true;

    query_restrict(caller, &query, type->key, "ceased");
    if (!record_list(conn, type, &query, &objects, &count, NULL, err))
        return false;
    for (size_t i = 0; i < count && added; i++)
        added = add_line(cloud, conn, type, objects[i], report, capacity, err);
    record_list_free(type, objects, count);
    return added;
}

/* They lie beside the pool, and share nothing. */
static bool add_exports(struct cloud *cloud, const struct caller *caller,
                        struct usage_report *report, size_t *capacity, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(image_export_list_done) struct image_export_list list = {0};

    if (!cloud_image_exports(cloud, caller, &query, &list, err))
        return false;
    for (size_t i = 0; i < list.count; i++) {
        struct usage_line line = {.kind = image_export_type.name,
                                  .virtual_bytes = list.items[i]->disk_bytes,
                                  .own_bytes = list.items[i]->stored_bytes};

        snprintf(line.id, sizeof(line.id), "%s", list.items[i]->export_id);
        im_grow(&report->lines, report->count, capacity);
        report->lines[report->count++] = line;
        report->exports_bytes += line.own_bytes;
    }
    return true;
}

bool cloud_usage(struct cloud *cloud, const struct caller *caller, struct usage_report *ret_report,
                 struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct usage_report report = {0};
    struct storage_space space = {0};
    size_t capacity = 0;

    if (conn == NULL || !storage_space(cloud->config.pool, &space, err) ||
        !add_lines(cloud, conn, caller, &image_type, &report, &capacity, err) ||
        !add_lines(cloud, conn, caller, &instance_type, &report, &capacity, err) ||
        !add_lines(cloud, conn, caller, &volume_type, &report, &capacity, err) ||
        !add_lines(cloud, conn, caller, &snapshot_type, &report, &capacity, err) ||
        !add_exports(cloud, caller, &report, &capacity, err)) {
        usage_report_done(&report);
        return false;
    }
    report.pool_total_bytes = (int64_t) space.total_bytes;
    report.pool_free_bytes = (int64_t) space.free_bytes;
    report.pool_used_bytes = (int64_t) (space.total_bytes - space.free_bytes);
    *ret_report = report;
    return true;
}

void usage_report_done(struct usage_report *report) {
    free(report->lines);
    *report = (struct usage_report){0};
}
