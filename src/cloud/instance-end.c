/* SPDX-License-Identifier: Apache-2.0 */
/* Terminate (into the recycle bin) and cease (for good). */
#include "cloud-private.h"

static bool end_prepare(struct instance_batch *batch, struct db_conn *conn,
                        struct instance *instance, struct wire_writer *data, struct im_err *err) {
    (void) conn, (void) instance, (void) err;
    wire_int(data, "cease", *(bool *) batch->arg);
    return true;
}

static bool end(struct cloud *cloud, const struct caller *caller, const char *action,
                const struct im_strings *ids, bool cease, char ret_job_id[IM_JOB_ID_MAX],
                struct im_err *err) {
    struct instance_batch batch = {.cloud = cloud,
                                   .caller = caller,
                                   .action = action,
                                   .ids = ids,
                                   .prepare = end_prepare,
                                   .arg = &cease};

    return instance_batch_run(&batch, ret_job_id, err);
}

bool cloud_instances_terminate(struct cloud *cloud, const struct caller *caller,
                               const struct im_strings *ids, bool direct_cease,
                               char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    return end(cloud, caller, "TerminateInstances", ids, direct_cease, ret_job_id, err);
}

bool cloud_instances_cease(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                           struct im_err *err) {
    return end(cloud, caller, "CeaseInstances", ids, true, ret_job_id, err);
}

static bool end_run(struct job_run *run, struct im_err *err) {
    return machine_forget(run->context, run->item->resource_id, err);
}

static bool end_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    if (data == NULL || !volumes_release(conn, run->item->resource_id, err))
        return false;
    if (wire_get_int(wire_root(data), "cease", 0) == 0)
        return instance_settle(conn, run->item->resource_id, INSTANCE_TERMINATED, err);
    return record_get(conn, &instance_type, run->item->resource_id, &instance, err) &&
           instance_cease(run->context, conn, instance, err);
}

/* It may have got as far as switching the machine off. */
static bool terminate_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                             struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    (void) why;
    return record_get(conn, &instance_type, run->item->resource_id, &instance, err) &&
           instance_settle_by_machine(
               run->context, conn, instance->instance_id,
               instance->status == INSTANCE_RUNNING ? VIRT_RUNNING : VIRT_OFF, err);
}

static const struct job_step end_steps[] = {{"remove", end_run, end_commit, NULL}};
const struct job_verb instance_terminate_verb = {.action = "TerminateInstances",
                                                 .steps = end_steps,
                                                 .step_count = 1,
                                                 .undone = terminate_undone,
                                                 .resumes = true};
const struct job_verb instance_cease_verb = {.action = "CeaseInstances",
                                             .steps = end_steps,
                                             .step_count = 1,
                                             .undone = instance_undone,
                                             .resumes = true};
