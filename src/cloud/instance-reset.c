/* SPDX-License-Identifier: Apache-2.0 */
/* ResetInstances: a fresh system disk from the image, constant time; the machine sees itself as
 * new. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cloud-private.h"

struct reset {
    const struct instance_reset_args *args;
    struct login login;
};

static bool reset_login(struct reset *reset, struct db_conn *conn, const char *platform,
                        struct instance *instance, struct im_err *err) {
    const struct instance_reset_args *args = reset->args;

    if (!im_str_empty(args->login_mode))
        im_replace(&instance->login_mode, args->login_mode);
    login_give(&reset->login, platform, instance);
    instance->passwd_time = 0; /* the new disk has had none */
    return im_str_empty(args->login_keypair) ||
           keypair_link_add(conn, args->login_keypair, instance->instance_id, err);
}

static bool reset_prepare(struct instance_batch *batch, struct db_conn *conn,
                          struct instance *instance, struct wire_writer *data, struct im_err *err) {
    struct reset *reset = batch->arg;
    IM_AUTO(image_free_auto) struct image *image = NULL;
    const char *image_id =
        im_str_empty(reset->args->image_id) ? instance->image_id : reset->args->image_id;
    int64_t gib =
        reset->args->os_disk_size > 0 ? reset->args->os_disk_size : instance->os_disk_size;
    char layer_id[IM_ID_MAX];

    if (!image_load(conn, batch->caller, image_id, &image, err) ||
        !image_allows(image, "ResetInstances", err) ||
        !login_fits(conn, batch->caller, image->platform, reset->args->login_keypair, err) ||
        !reset_login(reset, conn, image->platform, instance, err))
        return false;
    if (gib < image->size)
        gib = image->size;
    if (gib > batch->cloud->config.max_disk_gib)
        return im_fail(err, IM_BAD_MESSAGE,
                       "os_disk_size [%" PRId64 " GB] should be at most %" PRId64, gib,
                       batch->cloud->config.max_disk_gib);
    if (!layer_plan(batch->cloud, conn, image->layer_id, gib * GIB, layer_id, err))
        return false;
    wire_text(data, "image", image->image_id);
    wire_text(data, "platform", image->platform);
    wire_text(data, "layer", layer_id);
    wire_int(data, "disk", gib);
    wire_int(data, "running", instance->status == INSTANCE_RUNNING);
    return true;
}

bool cloud_instances_reset(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, const struct instance_reset_args *args,
                           char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct reset reset = {.args = args};
    struct instance_batch batch = {.cloud = cloud,
                                   .caller = caller,
                                   .action = "ResetInstances",
                                   .ids = ids,
                                   .prepare = reset_prepare,
                                   .arg = &reset};
    bool added = login_check(cloud, args->login_mode, args->login_keypair, args->login_passwd,
                             &reset.login, err) &&
                 instance_batch_run(&batch, ret_job_id, err);

    login_done(&reset.login);
    return added;
}

/* --- The job: new disk first, then off, rows, and on again ------------------------------------ */

static bool disk_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    return data != NULL &&
           layer_make_head(run->context, wire_get_text(wire_root(data), "layer", ""), err);
}

static bool off_run(struct job_run *run, struct im_err *err) {
    return machine_stop(run->context, run->item->resource_id, false, NULL, err);
}

static bool swap_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    const struct wire_value *root;

    if (data == NULL || !record_get(conn, &instance_type, run->item->resource_id, &instance, err))
        return false;
    root = wire_root(data);
    if (!layer_set_state(conn, wire_get_text(root, "layer", ""), LAYER_HEAD, err) ||
        !layer_drop(run->context, conn, instance->layer_id, err))
        return false;
    im_replace(&instance->layer_id, wire_get_text(root, "layer", ""));
    im_replace(&instance->image_id, wire_get_text(root, "image", instance->image_id));
    im_replace(&instance->platform, wire_get_text(root, "platform", instance->platform));
    instance->os_disk_size = wire_get_int(root, "disk", instance->os_disk_size);
    instance->generation++;
    instance->passwd_turn = 0;
    return record_update(conn, &instance_type, instance, err);
}

static bool was_running(const struct job_run *run) {
    struct im_err err = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, &err);

    return data != NULL && wire_get_int(wire_root(data), "running", 0) != 0;
}

static bool on_run(struct job_run *run, struct im_err *err) {
    return !was_running(run) || machine_start(run->context, run->item->resource_id, err);
}

static bool on_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    return instance_settle(conn, run->item->resource_id,
                           was_running(run) ? INSTANCE_RUNNING : INSTANCE_STOPPED, err);
}

/* Before the swap the planned layer is given up; after it the new disk stays and the instance is
 * off. */
static bool reset_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                         struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    const char *layer_id;

    (void) why;
    if (data == NULL || !record_get(conn, &instance_type, run->item->resource_id, &instance, err))
        return false;
    layer_id = wire_get_text(wire_root(data), "layer", "");
    if (!im_str_equal(instance->layer_id, layer_id) && !layer_drop(cloud, conn, layer_id, err))
        return false;
    return instance_settle_by_machine(cloud, conn, instance->instance_id, VIRT_OFF, err);
}

static const struct job_step reset_steps[] = {
    {"disk", disk_run, NULL, NULL},
    {"swap", off_run, swap_commit, NULL},
    {"start", on_run, on_commit, NULL},
};
const struct job_verb instance_reset_verb = {.action = "ResetInstances",
                                             .steps = reset_steps,
                                             .step_count = 3,
                                             .undone = reset_undone,
                                             .resumes = true};
