/* SPDX-License-Identifier: Apache-2.0 */
/* ResizeInstances: other CPU, memory, or a larger system disk, for a stopped instance. */
#include <inttypes.h>
#include <string.h>

#include "cloud-private.h"

struct resize {
    const struct instance_resize_args *args;
    struct machine_limits limits;
};

static bool wanted_size(const struct instance_resize_args *args, const struct instance *instance,
                        int64_t *ret_vcpus, int64_t *ret_memory, struct im_err *err) {
    const struct instance_preset *preset = NULL;

    *ret_vcpus = args->cpu > 0 ? args->cpu : instance->vcpus_current;
    *ret_memory = args->memory > 0 ? args->memory : instance->memory_current;
    if (im_str_empty(args->instance_type) || args->cpu > 0 || args->memory > 0)
        return true;
    preset = instance_preset_find(args->instance_type);
    if (preset == NULL)
        return im_fail(err, IM_NOT_FOUND, "instance type [%.64s] does not exist",
                       args->instance_type);
    *ret_vcpus = preset->vcpus;
    *ret_memory = preset->memory_mb;
    return true;
}

static bool resize_prepare(struct instance_batch *batch, struct db_conn *conn,
                           struct instance *instance, struct wire_writer *data,
                           struct im_err *err) {
    const struct resize *resize = batch->arg;
    const struct instance_resize_args *args = resize->args;
    int64_t vcpus, memory_mib, gib = args->os_disk_size;

    (void) conn;
    if (!wanted_size(args, instance, &vcpus, &memory_mib, err) ||
        !machine_fits(&resize->limits, vcpus, memory_mib, err) ||
        !cpu_shape_fits(args->cpu_model, args->cpu_topology, vcpus, err))
        return false;
    if (gib > 0 && (gib < instance->os_disk_size || gib > batch->cloud->config.max_disk_gib))
        return im_fail(err, IM_BAD_MESSAGE,
                       "os_disk_size [%" PRId64 " GB] should be between %" PRId64
                       " (its size now) and %" PRId64,
                       gib, instance->os_disk_size, batch->cloud->config.max_disk_gib);
    wire_int(data, "cpu", vcpus);
    wire_int(data, "memory", memory_mib);
    wire_int(data, "disk", gib > 0 ? gib : instance->os_disk_size);
    wire_text(data, "cpu_model", args->cpu_model ? args->cpu_model : instance->cpu_model);
    wire_text(data, "cpu_topology", args->cpu_topology ? args->cpu_topology : "");
    return true;
}

bool cloud_instances_resize(struct cloud *cloud, const struct caller *caller,
                            const struct im_strings *ids, const struct instance_resize_args *args,
                            char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct resize resize = {.args = args};
    struct instance_batch batch = {.cloud = cloud,
                                   .caller = caller,
                                   .action = "ResizeInstances",
                                   .ids = ids,
                                   .prepare = resize_prepare,
                                   .arg = &resize};

    if (im_str_empty(args->instance_type) && args->cpu <= 0 && args->memory <= 0 &&
        args->os_disk_size <= 0)
        return im_fail(err, IM_BAD_MESSAGE,
                       "parameter [instance_type], [cpu], [memory] or [os_disk_size] is missing");
    return machine_limits(cloud, &resize.limits, err) &&
           instance_batch_run(&batch, ret_job_id, err);
}

static bool disk_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;
    uint64_t bytes;

    if (data == NULL || conn == NULL ||
        !record_get(conn, &instance_type, run->item->resource_id, &instance, err) ||
        !record_get(conn, &layer_type, instance->layer_id, &layer, err))
        return false;
    bytes = (uint64_t) (wire_get_int(wire_root(data), "disk", 0) * GIB);
    return bytes <= (uint64_t) layer->size_bytes ||
           storage_resize(cloud->config.pool, layer->name, bytes, err);
}

static bool resize_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    const struct wire_value *root;

    if (data == NULL || !record_get(conn, &instance_type, run->item->resource_id, &instance, err))
        return false;
    root = wire_root(data);
    instance->vcpus_current = wire_get_int(root, "cpu", instance->vcpus_current);
    instance->memory_current = wire_get_int(root, "memory", instance->memory_current);
    instance->os_disk_size = wire_get_int(root, "disk", instance->os_disk_size);
    im_replace(&instance->cpu_model, wire_get_text(root, "cpu_model", ""));
    im_replace(&instance->cpu_topology, wire_get_text(root, "cpu_topology", ""));
    im_replace(&instance->instance_type,
               instance_preset_name(instance->vcpus_current, instance->memory_current,
                                    instance->instance_class));
    instance->transition_status = TRANSITION_NONE;
    return layer_grow(conn, instance->layer_id, instance->os_disk_size * GIB, err) &&
           record_update(conn, &instance_type, instance, err);
}

static bool resize_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                          struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    int64_t bytes = 0;

    (void) why;
    if (!record_get(conn, &instance_type, run->item->resource_id, &instance, err) ||
        !layer_follow(run->context, conn, instance->layer_id, &bytes, err))
        return false;
    if (bytes / GIB > instance->os_disk_size)
        instance->os_disk_size = bytes / GIB;
    instance->transition_status = TRANSITION_NONE;
    return record_update_fields(conn, &instance_type, instance,
                                (const char *const[]){"os_disk_size", "transition_status", NULL},
                                err);
}

static const struct job_step resize_steps[] = {{"resize", disk_run, resize_commit, NULL}};
const struct job_verb instance_resize_verb = {.action = "ResizeInstances",
                                              .steps = resize_steps,
                                              .step_count = 1,
                                              .undone = resize_undone,
                                              .resumes = true};
