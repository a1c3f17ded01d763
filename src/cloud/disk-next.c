/* SPDX-License-Identifier: Apache-2.0 */
/* A disk that no machine has open goes on in a layer of its own, to be changed there: the one below
 * stays as it was, so that what fails has changed nothing. */
#include <stdio.h>

#include "cloud-private.h"

/* --- What a job knows ------------------------------------------------------------------------- */

bool disk_next_plan(struct cloud *cloud, struct db_conn *conn, const struct instance *instance,
                    struct wire_writer *data, char ret_make[IM_ID_MAX], struct im_err *err) {
    if (!layer_plan(cloud, conn, instance->layer_id, instance->os_disk_size * GIB, ret_make, err))
        return false;
    wire_object_begin(data, "next");
    wire_text(data, "from", instance->layer_id);
    wire_text(data, "make", ret_make);
    wire_object_end(data);
    return true;
}

bool disk_work_read(struct db_conn *conn, const struct wire_value *data, struct disk_work *work,
                    struct im_err *err) {
    IM_AUTO(layer_free_auto) struct layer *from = NULL;
    IM_AUTO(layer_free_auto) struct layer *make = NULL;

    snprintf(work->from, IM_ID_MAX, "%s", wire_get_text(data, "from", ""));
    snprintf(work->make, IM_ID_MAX, "%s", wire_get_text(data, "make", ""));
    if (!record_get(conn, &layer_type, work->from, &from, err) ||
        !record_get(conn, &layer_type, work->make, &make, err))
        return false;
    snprintf(work->from_name, STORAGE_NAME_MAX, "%s", from->name);
    snprintf(work->make_name, STORAGE_NAME_MAX, "%s", make->name);
    work->size_bytes = make->size_bytes;
    work->made = make->state;
    return true;
}

bool disk_work_load(const struct job_run *run, struct db_conn *conn, struct disk_work *work,
                    struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(db_give_auto) struct db_conn *own = NULL;
    const struct wire_value *next = data != NULL ? wire_get(wire_root(data), "next") : NULL;

    if (data == NULL)
        return false;
    if (wire_get_text(next, "make", "")[0] == '\0')
        return true;
    if (conn == NULL)
        conn = own = db_take(cloud->config.db, err);
    return conn != NULL && disk_work_read(conn, next, work, err);
}

bool disk_next_judge(const struct wire_value *result, struct im_str *text, struct im_err *err) {
    const struct wire_value *repairs = wire_get(wire_get(result, "changes"), "repairs");

    for (size_t i = 0; i < wire_count(repairs); i++) {
        const struct wire_value *repair = wire_at(repairs, i);
        const char *words = wire_get_text(repair, "text", "");

        if (wire_get_int(repair, "done", 0) == 0)
            return im_fail(err, IM_WRONG_STATE, "its disk can not be changed so: %.400s", words);
        im_str_addf(text, "%s%s", text->len > 0 ? "; " : "", words);
    }
    return true;
}

/* --- The steps -------------------------------------------------------------------------------- */

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
