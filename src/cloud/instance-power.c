/* SPDX-License-Identifier: Apache-2.0 */
/* Start, stop and restart. */
#include "cloud-private.h"

/* --- Start ------------------------------------------------------------------------------------ */

static bool start_prepare(struct instance_batch *batch, struct db_conn *conn,
                          struct instance *instance, struct wire_writer *data, struct im_err *err) {
    (void) conn, (void) data;
    return machine_fits(batch->arg, instance->vcpus_current, instance->memory_current, err);
}

bool cloud_instances_start(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                           struct im_err *err) {
    struct machine_limits limits;
    struct instance_batch batch = {.cloud = cloud,
                                   .caller = caller,
                                   .action = "StartInstances",
                                   .ids = ids,
                                   .prepare = start_prepare,
                                   .arg = &limits};

    return machine_limits(cloud, &limits, err) && instance_batch_run(&batch, ret_job_id, err);
}

static bool start_run(struct job_run *run, struct im_err *err) {
    return machine_start(run->context, run->item->resource_id, err);
}

static bool running_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    return instance_settle(conn, run->item->resource_id, INSTANCE_RUNNING, err);
}

static bool off_undo(struct job_run *run, struct im_err *err) {
    return machine_stop(run->context, run->item->resource_id, false, NULL, err);
}

static bool stopped_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                           struct im_err *err) {
    (void) why;
    return instance_settle(conn, run->item->resource_id, INSTANCE_STOPPED, err);
}

static const struct job_step start_steps[] = {{"start", start_run, running_commit, off_undo}};
const struct job_verb instance_start_verb = {.action = "StartInstances",
                                             .steps = start_steps,
                                             .step_count = 1,
                                             .undone = stopped_undone,
                                             .resumes = true,
                                             .cancels = true};

/* --- Stop ------------------------------------------------------------------------------------- */

static bool stop_prepare(struct instance_batch *batch, struct db_conn *conn,
                         struct instance *instance, struct wire_writer *data, struct im_err *err) {
    (void) conn, (void) instance, (void) err;
    wire_int(data, "force", *(bool *) batch->arg);
    return true;
}

bool cloud_instances_stop(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, bool force, char ret_job_id[IM_JOB_ID_MAX],
                          struct im_err *err) {
    struct instance_batch batch = {.cloud = cloud,
                                   .caller = caller,
                                   .action = "StopInstances",
                                   .ids = ids,
                                   .prepare = stop_prepare,
                                   .arg = &force};

    return instance_batch_run(&batch, ret_job_id, err);
}

static bool stop_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    return data != NULL &&
           machine_stop(run->context, run->item->resource_id,
                        wire_get_int(wire_root(data), "force", 0) == 0, run->cancel, err);
}

static bool stopped_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    return instance_settle(conn, run->item->resource_id, INSTANCE_STOPPED, err);
}

/* A stop that failed or was cancelled: the machine runs on, or it is off after all. */
static bool stop_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                        struct im_err *err) {
    (void) why;
    return instance_settle_by_machine(run->context, conn, run->item->resource_id, VIRT_RUNNING,
                                      err);
}

static const struct job_step stop_steps[] = {{"stop", stop_run, stopped_commit, NULL}};
const struct job_verb instance_stop_verb = {.action = "StopInstances",
                                            .steps = stop_steps,
                                            .step_count = 1,
                                            .undone = stop_undone,
                                            .resumes = true,
                                            .cancels = true};

/* --- Restart: off and on again, so that what was changed meanwhile takes effect ------------------
 */

bool cloud_instances_restart(struct cloud *cloud, const struct caller *caller,
                             const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                             struct im_err *err) {
    struct instance_batch batch = {
        .cloud = cloud, .caller = caller, .action = "RestartInstances", .ids = ids};

    return instance_batch_run(&batch, ret_job_id, err);
}

static const struct job_step restart_steps[] = {
    {"stop", stop_run, NULL, NULL},
    {"start", start_run, running_commit, NULL},
};
const struct job_verb instance_restart_verb = {.action = "RestartInstances",
                                               .steps = restart_steps,
                                               .step_count = 2,
                                               .undone = stop_undone,
                                               .resumes = true,
                                               .cancels = false};
