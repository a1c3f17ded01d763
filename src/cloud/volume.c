/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes: what their verbs share, and those that touch no machine: create, delete, modify. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud-private.h"

enum { VOLUMES_MAX_PER_CALL = 100 };

/* --- Types ------------------------------------------------------------------------------------ */

/* The configured table: "TYPE:MIN-MAX" in GiB, separated by commas. */
static bool type_find(const struct cloud *cloud, int64_t type, int64_t *ret_min, int64_t *ret_max) {
    IM_AUTO(im_strings_done) struct im_strings rows = {0};

    im_strings_split(&rows, cloud->config.volume_types, ", ");
    for (size_t i = 0; i < rows.count; i++) {
        int64_t number, min, max;

        if (sscanf(rows.items[i], "%" SCNd64 ":%" SCNd64 "-%" SCNd64, &number, &min, &max) == 3 &&
            number == type) {
            *ret_min = min;
            *ret_max = max;
            return true;
        }
    }
    return false;
}

bool volume_size_fits(const struct cloud *cloud, int64_t type, bool round_up, int64_t *size,
                      struct im_err *err) {
    int64_t min = 0, max = 0, step = cloud->config.volume_step_gib;

    if (!type_find(cloud, type, &min, &max))
        return im_fail(err, IM_BAD_MESSAGE, "volume_type [%" PRId64 "] does not exist here", type);
    if (round_up && *size < min)
        *size = min;
    if (round_up && *size % step != 0)
        *size += step - *size % step;
    if (*size < min || *size > max || *size % step != 0)
        return im_fail(err, IM_BAD_MESSAGE,
                       "size [%" PRId64 " GB] of a volume of type %" PRId64 " should be %" PRId64
                       " to %" PRId64 " in steps of %" PRId64,
                       *size, type, min, max, step);
    return true;
}

/* --- Rows ------------------------------------------------------------------------------------- */

bool volume_plan(struct cloud *cloud, struct db_conn *conn, struct volume *volume,
                 const char *parent_id, struct im_err *err) {
    char id[IM_ID_MAX], layer_id[IM_ID_MAX];

    if (!layer_plan(cloud, conn, parent_id, volume->size * GIB, layer_id, err))
        return false;
    im_id_make(id, "vol-", 8);
    im_replace(&volume->volume_id, id);
    im_replace(&volume->layer_id, layer_id);
    im_replace(&volume->instance_id, NULL);
    im_replace(&volume->device, "");
    im_replace(&volume->zone_id, cloud->config.zone_id);
    im_replace(&volume->repl, "rpp-00000002");
    im_replace(&volume->place_group_id, "plg-00000000");
    volume->status = VOLUME_PENDING;
    volume->transition_status = TRANSITION_CREATING;
    volume->sub_code = volume->busy = volume->latest_snapshot_time = 0;
    volume->create_time = volume->status_time = im_now_s();
    return record_insert(conn, &volume_type, volume, err);
}

bool volume_settle(struct db_conn *conn, const char *volume_id, enum volume_status status,
                   struct im_err *err) {
    struct volume volume = {
        .volume_id = (char *) volume_id, .status = status, .status_time = im_now_s()};

    return record_update_fields(
        conn, &volume_type, &volume,
        (const char *const[]){"status", "transition_status", "status_time", "busy", NULL}, err);
}

bool volume_make_busy(struct db_conn *conn, struct volume *volume, const char *action,
                      struct im_err *err) {
    if (!volume_allows(volume, action, err))
        return false;
    volume->busy = 1;
    return record_update_fields(conn, &volume_type, volume, (const char *const[]){"busy", NULL},
                                err);
}

bool volume_unlock(struct db_conn *conn, const char *volume_id, struct im_err *err) {
    struct volume volume = {.volume_id = (char *) volume_id};

    return record_update_fields(conn, &volume_type, &volume,
                                (const char *const[]){"transition_status", "busy", NULL}, err);
}

bool volume_unlock_all(struct db_conn *conn, const char *volume_id, struct im_err *err) {
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;

    return record_get(conn, &volume_type, volume_id, &volume, err) &&
           volume_unlock(conn, volume_id, err) &&
           (im_str_empty(volume->instance_id) || instance_unlock(conn, volume->instance_id, err));
}

bool volume_lock(struct db_conn *conn, struct volume *volume, char ret_machine[IM_ID_MAX],
                 struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    ret_machine[0] = '\0';
    volume->busy = 1;
    if (im_str_empty(volume->instance_id))
        return true;
    if (!record_get(conn, &instance_type, volume->instance_id, &instance, err))
        return false;
    if (instance->transition_status != TRANSITION_NONE)
        return im_fail(err, IM_WRONG_STATE,
                       "volume [%s] is attached to instance [%s], which is %s, please try later",
                       volume->volume_id, instance->instance_id,
                       transition_word(instance->transition_status));
    if (instance->status == INSTANCE_RUNNING)
        snprintf(ret_machine, IM_ID_MAX, "%s", instance->instance_id);
    instance->transition_status = TRANSITION_UPDATING;
    return record_update_fields(conn, &instance_type, instance,
                                (const char *const[]){"transition_status", NULL}, err);
}

bool volumes_of(struct db_conn *conn, const char *instance_id, struct volume ***ret_volumes,
                size_t *ret_count, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {.sort_field = "device", .ascending = true};

    query_add(&query, "instance_id", CONDITION_IN, instance_id);
    return record_list(conn, &volume_type, &query, (void ***) ret_volumes, ret_count, NULL, err);
}

bool volumes_release(struct db_conn *conn, const char *instance_id, struct im_err *err) {
    return db_exec(conn, NULL, err,
                   "UPDATE volumes SET status = 'available', transition_status = '', busy = 0,"
                   " instance_id = NULL, device = '', status_time = $1 WHERE instance_id = $2",
                   "it", im_now_s(), instance_id);
}

bool volume_cease(struct cloud *cloud, struct db_conn *conn, struct volume *volume,
                  struct im_err *err) {
    if (!layer_drop(cloud, conn, volume->layer_id, err) ||
        !repairs_forget(conn, volume->volume_id, err) ||
        !monitor_forget(conn, volume->volume_id, err))
        return false;
    im_replace(&volume->layer_id, NULL);
    im_replace(&volume->instance_id, NULL);
    im_replace(&volume->device, "");
    volume->status = VOLUME_CEASED;
    volume->transition_status = TRANSITION_NONE;
    volume->busy = 0;
    volume->status_time = im_now_s();
    return record_update(conn, &volume_type, volume, err);
}

/* --- Volumes that a job makes ----------------------------------------------------------------- */

bool volumes_each(struct job_run *run, struct db_conn *conn, const char *key, volume_visit *visit,
                  struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    const struct wire_value *ids = data ? wire_get(wire_root(data), key) : NULL;

    for (size_t i = 0; i < wire_count(ids); i++) {
        IM_AUTO(volume_free_auto) struct volume *volume = NULL;

        if (!record_get(conn, &volume_type, wire_as_text(wire_at(ids, i), ""), &volume, err) ||
            !visit(run, conn, volume, err))
            return false;
    }
    return data != NULL;
}

bool volume_make_head(struct job_run *run, struct db_conn *conn, struct volume *volume,
                      struct im_err *err) {
    (void) conn;
    return layer_make_head(run->context, volume->layer_id, err);
}

bool volume_fail(struct job_run *run, struct db_conn *conn, struct volume *volume,
                 struct im_err *err) {
    volume->sub_code = 1;
    return volume_cease(run->context, conn, volume, err);
}

/* --- Batches ---------------------------------------------------------------------------------- */

static bool batch_one(void *arg, struct db_conn *conn, const char *id, size_t index,
                      struct wire_writer *data, struct im_err *err) {
    struct volume_batch *batch = arg;
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;
    char machine[IM_ID_MAX] = "";

    (void) index;
    if (!volume_load(conn, batch->caller, id, &volume, err) ||
        !volume_allows(volume, batch->action, err) ||
        (batch->lock && !volume_lock(conn, volume, machine, err)))
        return false;
    wire_text(data, "machine", machine);
    if (batch->prepare != NULL && !batch->prepare(batch, conn, volume, data, err))
        return false;
    volume->transition_status = verb_rule_find(volume_rules, batch->action)->during;
    return record_update(conn, &volume_type, volume, err);
}

bool volume_batch_run(struct volume_batch *batch, char ret_job_id[IM_JOB_ID_MAX],
                      struct im_err *err) {
    struct batch_call call = {batch->cloud, batch->caller, batch->action, batch_one, batch};

    return batch_run(&call, "volumes", batch->ids, ret_job_id, err);
}

/* --- Create ----------------------------------------------------------------------------------- */

struct create {
    struct cloud *cloud;
    const struct caller *caller;
    const struct volume_create_args *args;
    int64_t size, count;
    struct im_strings *ret_ids;
    char job_id[IM_JOB_ID_MAX];
};

static bool create_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct create *create = arg;
    IM_AUTO(free_auto)
    struct job_order *orders = im_alloc((size_t) create->count * sizeof(*orders));

    im_strings_done(create->ret_ids);
    for (int64_t i = 0; i < create->count; i++) {
        IM_AUTO(volume_free_auto) struct volume *volume = object_new(&volume_type);

        im_replace(&volume->volume_name,
                   create->args->volume_name ? create->args->volume_name : "");
        im_replace(&volume->owner, create->caller->user_id);
        volume->volume_type = create->args->volume_type < 0 ? 0 : create->args->volume_type;
        volume->size = create->size;
        if (!volume_plan(create->cloud, conn, volume, NULL, err))
            return false;
        im_strings_add(create->ret_ids, volume->volume_id);
        orders[i] = (struct job_order){.resource_id = create->ret_ids->items[i]};
    }
    return jobs_add(create->cloud->jobs, conn, "CreateVolumes", create->caller->user_id, "", orders,
                    (size_t) create->count, create->job_id, err);
}

bool volume_count_fits(int64_t count, struct im_err *err) {
    return (count >= 1 && count <= VOLUMES_MAX_PER_CALL) ||
           im_fail(err, IM_BAD_MESSAGE, "count [%" PRId64 "] should be 1 to %d", count,
                   VOLUMES_MAX_PER_CALL);
}

bool cloud_volumes_create(struct cloud *cloud, const struct caller *caller,
                          const struct volume_create_args *args, struct im_strings *ret_volume_ids,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct create create = {.cloud = cloud,
                            .caller = caller,
                            .args = args,
                            .size = args->size,
                            .count = args->count < 0 ? 1 : args->count,
                            .ret_ids = ret_volume_ids};

    if (args->size < 0)
        return im_fail(err, IM_BAD_MESSAGE, "parameter [size] is missing");
    if (!volume_size_fits(cloud, args->volume_type < 0 ? 0 : args->volume_type, args->round_up,
                          &create.size, err) ||
        !volume_count_fits(create.count, err) ||
        !text_fits("volume_name", args->volume_name, 255, err) ||
        !cloud_order(cloud, create_body, &create, create.job_id, ret_job_id, err)) {
        im_strings_done(ret_volume_ids);
        return false;
    }
    return true;
}

bool volume_make_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;

    if (conn == NULL || !record_get(conn, &volume_type, run->item->resource_id, &volume, err))
        return false;
    db_give(im_steal(&conn));
    return layer_make_head(cloud, volume->layer_id, err);
}

bool volume_make_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;

    return record_get(conn, &volume_type, run->item->resource_id, &volume, err) &&
           layer_set_state(conn, volume->layer_id, LAYER_HEAD, err) &&
           volume_settle(conn, volume->volume_id, VOLUME_AVAILABLE, err);
}

bool volume_make_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                        struct im_err *err) {
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;

    (void) why;
    return record_get(conn, &volume_type, run->item->resource_id, &volume, err) &&
           volume_fail(run, conn, volume, err);
}

static const struct job_step create_steps[] = {{"disk", volume_make_run, volume_make_commit, NULL}};
const struct job_verb volume_create_verb = {.action = "CreateVolumes",
                                            .steps = create_steps,
                                            .step_count = 1,
                                            .undone = volume_make_undone,
                                            .resumes = true,
                                            .cancels = true};

/* --- Delete ----------------------------------------------------------------------------------- */

static bool delete_prepare(struct volume_batch *batch, struct db_conn *conn, struct volume *volume,
                           struct wire_writer *data, struct im_err *err) {
    (void) conn, (void) volume, (void) err;
    wire_int(data, "cease", *(bool *) batch->arg);
    return true;
}

bool cloud_volumes_delete(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, bool direct_cease,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct volume_batch batch = {.cloud = cloud,
                                 .caller = caller,
                                 .action = "DeleteVolumes",
                                 .ids = ids,
                                 .prepare = delete_prepare,
                                 .arg = &direct_cease};

    return volume_batch_run(&batch, ret_job_id, err);
}

static bool delete_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;

    if (data == NULL || !record_get(conn, &volume_type, run->item->resource_id, &volume, err))
        return false;
    return wire_get_int(wire_root(data), "cease", 0) != 0
               ? volume_cease(run->context, conn, volume, err)
               : volume_settle(conn, volume->volume_id, VOLUME_DELETED, err);
}

static bool delete_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                          struct im_err *err) {
    (void) why;
    return volume_unlock(conn, run->item->resource_id, err);
}

static const struct job_step delete_steps[] = {{"delete", NULL, delete_commit, NULL}};
const struct job_verb volume_delete_verb = {.action = "DeleteVolumes",
                                            .steps = delete_steps,
                                            .step_count = 1,
                                            .undone = delete_undone,
                                            .resumes = true};

/* --- Modify ----------------------------------------------------------------------------------- */

static bool modify_load(struct db_conn *conn, const struct caller *caller, const char *id,
                        void *ret_object, struct im_err *err) {
    return volume_load(conn, caller, id, ret_object, err);
}

bool cloud_volume_modify(struct cloud *cloud, const struct caller *caller, const char *volume_id,
                         const char *volume_name, const char *description, struct im_err *err) {
    struct attributes attributes = {volume_name, description};

    return attributes_modify(cloud, caller, &volume_type, modify_load, volume_id, &attributes, err);
}
