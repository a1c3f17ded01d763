/* SPDX-License-Identifier: Apache-2.0 */
/* A disk that no machine has open goes on in a layer of its own, to be changed there: the one below
 * stays as it was, so that what fails has changed nothing. */
#include <stdio.h>

#include "cloud-private.h"

bool disk_next_begin(struct cloud *cloud, const char *id, const char *from_name,
                     const char *make_name, struct disk_next *ret_next, struct im_err *err) {
    struct storage_pool *pool = cloud->config.pool;
    struct disk_next next = {0};

    if (!pull_stop(cloud, id, err) || !storage_freeze_undo(pool, from_name, make_name, err) ||
        !storage_freeze_begin(pool, from_name, make_name, next.frozen, next.head, err) ||
        !storage_freeze_end(pool, next.frozen, err))
        return false;
    *ret_next = next;
    return true;
}

bool disk_next_undo(struct cloud *cloud, const char *from_name, const char *make_name,
                    struct im_err *err) {
    return storage_freeze_undo(cloud->config.pool, from_name, make_name, err);
}

bool layer_settle(struct db_conn *conn, const char *layer_id, const char *name,
                  enum layer_state state, struct im_err *err) {
    struct layer layer = {.layer_id = (char *) layer_id, .name = (char *) name, .state = state};

    return record_update_fields(conn, &layer_type, &layer,
                                (const char *const[]){"name", "state", NULL}, err);
}

bool disk_name_head(struct db_conn *conn, const char *id, const char *layer_id,
                    struct im_err *err) {
    static const char *const names[] = {"layer_id", NULL};
    struct instance instance = {.instance_id = (char *) id, .layer_id = (char *) layer_id};
    struct volume volume = {.volume_id = (char *) id, .layer_id = (char *) layer_id};

    return im_starts_with(id, "i-")
               ? record_update_fields(conn, &instance_type, &instance, names, err)
               : record_update_fields(conn, &volume_type, &volume, names, err);
}

/* From one disk there is one way back, and it does not lead past what was changed now. */
bool disk_next_commit(struct db_conn *conn, const char *id, const char *from, const char *make,
                      const struct disk_next *next, struct im_err *err) {
    return layer_settle(conn, from, next->frozen, LAYER_FROZEN, err) &&
           layer_settle(conn, make, next->head, LAYER_HEAD, err) &&
           disk_name_head(conn, id, make, err) &&
           db_exec(conn, NULL, err,
                   "UPDATE repairs SET undoable = 0, layer_id = NULL WHERE resource_id = $1", "t",
                   id);
}
