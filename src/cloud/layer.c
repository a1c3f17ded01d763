/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the layer graph, and the pool made to agree with them. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud-private.h"

enum {
    CHAIN_MAX = 4096
}; /* far beyond what QEMU opens; only bounds a record that bites its own tail */

bool layer_plan(struct cloud *cloud, struct db_conn *conn, const char *parent_id,
                int64_t size_bytes, char ret_layer_id[IM_ID_MAX], struct im_err *err) {
    IM_AUTO(layer_free_auto) struct layer *parent = NULL;
    char id[IM_ID_MAX];
    struct layer layer = {.layer_id = id,
                          .name = id,
                          .pool = (char *) storage_uri(cloud->config.pool),
                          .parent_id = (char *) parent_id,
                          .state = LAYER_MAKING,
                          .size_bytes = size_bytes,
                          .depth = 1,
                          .create_time = im_now_s()};

    if (parent_id != NULL) {
        if (!record_get(conn, &layer_type, parent_id, &parent, err) ||
            !layer_usable(conn, parent_id, err))
            return false;
        layer.depth = parent->depth + 1;
        if (size_bytes < parent->size_bytes)
            layer.size_bytes = parent->size_bytes;
    }
    im_id_make(id, "l-", 12);
    if (!record_insert(conn, &layer_type, &layer, err))
        return false;
    memcpy(ret_layer_id, id, IM_ID_MAX);
    return true;
}

bool layer_set_state(struct db_conn *conn, const char *layer_id, enum layer_state state,
                     struct im_err *err) {
    struct layer layer = {.layer_id = (char *) layer_id, .state = state};

    return record_update_fields(conn, &layer_type, &layer, (const char *const[]){"state", NULL},
                                err);
}

bool layer_grow(struct db_conn *conn, const char *layer_id, int64_t bytes, struct im_err *err) {
    return db_exec(conn, NULL, err,
                   "UPDATE layers SET size_bytes = $1 WHERE layer_id = $2 AND size_bytes < $1",
                   "it", bytes, layer_id);
}

bool layer_follow(struct cloud *cloud, struct db_conn *conn, const char *layer_id,
                  int64_t *ret_bytes, struct im_err *err) {
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;
    struct storage_usage usage = {0};
    struct im_err unknown = {0};

    if (!record_get(conn, &layer_type, layer_id, &layer, err))
        return false;
    *ret_bytes = layer->size_bytes;
    if (storage_usage(cloud->config.pool, layer->name, &usage, &unknown) &&
        (int64_t) usage.virtual_bytes > *ret_bytes)
        *ret_bytes = (int64_t) usage.virtual_bytes;
    return layer_grow(conn, layer_id, *ret_bytes, err);
}

bool layer_drop(struct cloud *cloud, struct db_conn *conn, const char *layer_id,
                struct im_err *err) {
    struct im_err missing = {0};

    if (im_str_empty(layer_id))
        return true;
    if (!layer_set_state(conn, layer_id, LAYER_DROPPING, &missing) &&
        missing.code != IM_NOT_FOUND) {
        *err = missing;
        return false;
    }
    background_collect(cloud);
    return true;
}

bool layer_deepen(struct db_conn *conn, const char *layer_id, int64_t more, struct im_err *err) {
    return more == 0 || db_exec(conn, NULL, err,
                                "WITH RECURSIVE above(layer_id) AS (SELECT layer_id FROM layers"
                                " WHERE layer_id = $1 UNION SELECT l.layer_id FROM layers l"
                                " JOIN above ON l.parent_id = above.layer_id)"
                                " UPDATE layers SET depth = depth + $2"
                                " WHERE layer_id IN (SELECT layer_id FROM above)",
                                "ti", layer_id, more);
}

bool layer_stand_on(struct db_conn *conn, const char *layer_id, const char *parent_id,
                    struct im_err *err) {
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;
    IM_AUTO(layer_free_auto) struct layer *parent = NULL;
    struct layer now = {.layer_id = (char *) layer_id, .parent_id = (char *) parent_id};

    return record_get(conn, &layer_type, layer_id, &layer, err) &&
           (parent_id == NULL || record_get(conn, &layer_type, parent_id, &parent, err)) &&
           record_update_fields(conn, &layer_type, &now, (const char *const[]){"parent_id", NULL},
                                err) &&
           layer_deepen(conn, layer_id, (parent ? parent->depth : 0) + 1 - layer->depth, err);
}

bool layer_chain(struct db_conn *conn, const char *layer_id, struct layer ***ret_layers,
                 size_t *ret_count, struct im_err *err) {
    struct layer **layers = NULL;
    size_t count = 0, capacity = 0;
    const char *next = layer_id;

    while (next != NULL) {
        struct layer *layer = NULL;

        if (count == CHAIN_MAX || !record_get(conn, &layer_type, next, &layer, err)) {
            record_list_free(&layer_type, (void **) layers, count);
            return count == CHAIN_MAX
                       ? im_fail(err, IM_INTERNAL, "layer %s: its chain of parents has no end",
                                 layer_id)
                       : im_within(err, "chain of layer %s", layer_id);
        }
        im_grow(&layers, count, &capacity);
        layers[count++] = layer;
        next = layer->parent_id;
    }
    *ret_layers = layers;
    *ret_count = count;
    return true;
}

bool layer_make_head(struct cloud *cloud, const char *layer_id, struct im_err *err) {
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;
    IM_AUTO(layer_free_auto) struct layer *parent = NULL;
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);

    if (conn == NULL || !record_get(conn, &layer_type, layer_id, &layer, err) ||
        (layer->parent_id != NULL &&
         !record_get(conn, &layer_type, layer->parent_id, &parent, err)))
        return false;
    if (parent == NULL)
        return storage_create(cloud->config.pool, layer->name, (uint64_t) layer->size_bytes, err);
    return storage_clone(cloud->config.pool, parent->name, layer->name,
                         (uint64_t) layer->size_bytes, err);
}
