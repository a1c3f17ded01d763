/* SPDX-License-Identifier: Apache-2.0 */
/* CloneVolumes: the source's disk is frozen, source and clones go on from there. Constant time,
 * also while a machine writes to it. */
#include <inttypes.h>
#include <string.h>

#include "cloud-private.h"

struct clone {
    const struct volume_clone_args *args;
    struct im_strings *ret_ids;
};

static bool clone_types_match(const struct volume *source, int64_t type, struct im_err *err) {
    bool local = source->volume_type == 100 || source->volume_type == 200;

    if (type == source->volume_type || (local && (type == 100 || type == 200)))
        return true;
    return im_fail(err, IM_BAD_MESSAGE,
                   "volume [%s] is of type %" PRId64 ", its clone can not be of type %" PRId64,
                   source->volume_id, source->volume_type, type);
}

static bool clone_prepare(struct volume_batch *batch, struct db_conn *conn, struct volume *source,
                          struct wire_writer *data, struct im_err *err) {
    struct clone *clone = batch->arg;
    int64_t count = clone->args->count < 0 ? 1 : clone->args->count;
    int64_t type = clone->args->volume_type < 0 ? source->volume_type : clone->args->volume_type;
    struct disk disk = {.kind = DISK_VOLUME,
                        .id = source->volume_id,
                        .machine = "",
                        .layer_id = source->layer_id,
                        .size_gib = source->size};
    char machine[IM_ID_MAX];

    im_strings_done(clone->ret_ids);
    if (!clone_types_match(source, type, err) || !volume_lock(conn, source, machine, err))
        return false;
    disk.machine = machine;
    if (!freeze_plan(batch->cloud, conn, &disk, 1, data, err))
        return false;
    wire_array_begin(data, "clones");
    for (int64_t i = 0; i < count; i++) {
        IM_AUTO(volume_free_auto) struct volume *copy = object_copy(&volume_type, source);

        if (!im_str_empty(clone->args->volume_name))
            im_replace(&copy->volume_name, clone->args->volume_name);
        im_replace(&copy->owner, batch->caller->user_id);
        copy->volume_type = type;
        if (!volume_plan(batch->cloud, conn, copy, source->layer_id, err))
            return false;
        im_strings_add(clone->ret_ids, copy->volume_id);
        wire_text(data, NULL, copy->volume_id);
    }
    wire_array_end(data);
    return true;
}

bool cloud_volumes_clone(struct cloud *cloud, const struct caller *caller,
                         const struct volume_clone_args *args, struct im_strings *ret_volume_ids,
                         char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    struct clone clone = {.args = args, .ret_ids = ret_volume_ids};
    struct volume_batch batch = {.cloud = cloud,
                                 .caller = caller,
                                 .action = "CloneVolumes",
                                 .ids = &ids,
                                 .prepare = clone_prepare,
                                 .arg = &clone};

    if (im_str_empty(args->volume_id))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [volume] is missing");
    if (!volume_count_fits(args->count < 0 ? 1 : args->count, err) ||
        !text_fits("volume_name", args->volume_name, 255, err))
        return false;
    im_strings_add(&ids, args->volume_id);
    if (volume_batch_run(&batch, ret_job_id, err))
        return true;
    im_strings_done(ret_volume_ids);
    return false;
}

static bool clone_settle(struct job_run *run, struct db_conn *conn, struct volume *volume,
                         struct im_err *err) {
    (void) run;
    return layer_set_state(conn, volume->layer_id, LAYER_HEAD, err) &&
           volume_settle(conn, volume->volume_id, VOLUME_AVAILABLE, err);
}

static bool clone_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);

    return conn != NULL && volumes_each(run, conn, "clones", volume_make_head, err);
}

static bool clone_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    return volumes_each(run, conn, "clones", clone_settle, err);
}

static bool clone_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                         struct im_err *err) {
    (void) why;
    return freeze_undone(run, conn, err) && volumes_each(run, conn, "clones", volume_fail, err);
}

static const struct job_step clone_steps[] = {
    {"freeze", freeze_step_run, freeze_step_commit, freeze_step_undo},
    {"disks", clone_run, clone_commit, NULL},
};
const struct job_verb volume_clone_verb = {.action = "CloneVolumes",
                                           .steps = clone_steps,
                                           .step_count = 2,
                                           .undone = clone_undone,
                                           .resumes = true};
