/* SPDX-License-Identifier: Apache-2.0 */
/* AttachVolumes, DetachVolumes and ResizeVolumes: what changes the disks of a machine, running or
 * not. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cloud-private.h"

/* --- Attach ----------------------------------------------------------------------------------- */

struct attach {
    const char *instance_id;
};

/* The lowest name no other volume has; vda is the system disk and vdb the seed. The guest's kernel
 * counts the same way. */
static bool device_pick(struct db_conn *conn, const char *instance_id, char ret_device[16],
                        struct im_err *err) {
    struct volume **volumes = NULL;
    size_t count = 0;
    bool taken = true;

    if (!volumes_of(conn, instance_id, &volumes, &count, err))
        return false;
    for (size_t number = 0; number < VOLUMES_PER_INSTANCE && taken; number++) {
        snprintf(ret_device, 16, "/dev/vd%c", (char) ('c' + number));
        taken = false;
        for (size_t i = 0; i < count; i++)
            taken = taken || im_str_equal(volumes[i]->device, ret_device);
    }
    record_list_free(&volume_type, (void **) volumes, count);
    return !taken || im_fail(err, IM_NO_RESOURCE, "instance [%s] has %d volumes, the most it can",
                             instance_id, VOLUMES_PER_INSTANCE);
}

static bool attach_prepare(struct volume_batch *batch, struct db_conn *conn, struct volume *volume,
                           struct wire_writer *data, struct im_err *err) {
    const struct attach *attach = batch->arg;
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    char device[16];

    (void) data;
    if (!instance_load(conn, batch->caller, attach->instance_id, &instance, err) ||
        !instance_allows(instance, batch->action, err) ||
        !device_pick(conn, attach->instance_id, device, err))
        return false;
    im_replace(&volume->instance_id, attach->instance_id);
    im_replace(&volume->device, device);
    return true;
}

bool cloud_volumes_attach(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, const char *instance_id,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct attach attach = {instance_id};
    struct volume_batch batch = {.cloud = cloud,
                                 .caller = caller,
                                 .action = "AttachVolumes",
                                 .ids = ids,
                                 .prepare = attach_prepare,
                                 .arg = &attach};

    if (im_str_empty(instance_id))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [instance] is missing");
    return volume_batch_run(&batch, ret_job_id, err);
}

static bool load(struct cloud *cloud, const char *volume_id, struct volume **ret_volume,
                 struct disk_chain *chain, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);

    return conn != NULL && record_get(conn, &volume_type, volume_id, ret_volume, err) &&
           (chain == NULL || disk_chain_load(cloud, conn, (*ret_volume)->layer_id, chain, err));
}

static bool machine_runs(struct cloud *cloud, const char *instance_id, bool *ret_runs,
                         struct im_err *err) {
    enum virt_state state = VIRT_OFF;

    if (!virt_state(cloud->config.virt, instance_id, &state, err))
        return false;
    *ret_runs = state == VIRT_RUNNING || state == VIRT_PAUSED;
    return true;
}

/* A machine that is off, or goes off at this moment, gets the volume at its next start. */
static bool plug_in(struct cloud *cloud, const struct volume *volume,
                    const struct disk_chain *chain, struct im_err *err) {
    struct virt_disk disk = {
        .serial = volume->volume_id, .layers = chain->layers, .layer_count = chain->count};
    struct im_err failed = {0};
    bool runs = false;

    if (!machine_runs(cloud, volume->instance_id, &runs, err))
        return false;
    if (!runs || virt_attach_disk(cloud->config.virt, volume->instance_id, &disk, &failed) ||
        failed.code == IM_NOT_FOUND)
        return true;
    *err = failed;
    return false;
}

/* The guest names disks in the order in which they are plugged in. Volumes that are attached by one
 * call are plugged in by several threads: whoever comes first plugs in those before its own too. If
 * that fails, their own items tell. */
static bool plug_in_before(struct cloud *cloud, const struct volume *volume, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct volume **volumes = NULL;
    size_t count = 0;

    if (conn == NULL || !volumes_of(conn, volume->instance_id, &volumes, &count, err))
        return false;
    db_give(im_steal(&conn));
    for (size_t i = 0; i < count && strcmp(volumes[i]->device, volume->device) < 0; i++) {
        IM_AUTO(volume_free_auto) struct volume *before = NULL;
        struct disk_chain chain = {0};
        struct im_err failed = {0};

        if (volumes[i]->transition_status == TRANSITION_ATTACHING &&
            !(load(cloud, volumes[i]->volume_id, &before, &chain, &failed) &&
              plug_in(cloud, before, &chain, &failed)))
            im_debug("cloud", "%s: %s", volumes[i]->volume_id, failed.text);
        disk_chain_done(&chain);
    }
    record_list_free(&volume_type, (void **) volumes, count);
    return true;
}

static bool attach_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;
    struct disk_chain chain = {0};
    bool plugged = false;

    if (!pull_stop(cloud, run->item->resource_id, err))
        return false;
    chains_hold(cloud);
    if (load(cloud, run->item->resource_id, &volume, &chain, err)) {
        machine_lock(cloud, volume->instance_id);
        plugged = plug_in_before(cloud, volume, err) && plug_in(cloud, volume, &chain, err);
        machine_unlock(cloud, volume->instance_id);
    }
    chains_release(cloud);
    disk_chain_done(&chain);
    return plugged;
}

static bool attach_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    return volume_settle(conn, run->item->resource_id, VOLUME_IN_USE, err);
}

static bool leaving_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct volume volume = {.volume_id = arg, .transition_status = TRANSITION_DETACHING};

    return record_update_fields(conn, &volume_type, &volume,
                                (const char *const[]){"transition_status", NULL}, err);
}

/* From here on nobody plugs it in any more, neither a start nor the item of another volume. */
static bool mark_leaving(struct cloud *cloud, const struct volume *volume, struct im_err *err) {
    bool marked;

    machine_lock(cloud, volume->instance_id);
    marked = cloud_transact(cloud, leaving_body, volume->volume_id, err);
    machine_unlock(cloud, volume->instance_id);
    return marked;
}

static bool attach_undo(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;

    if (!load(cloud, run->item->resource_id, &volume, NULL, err))
        return false;
    return im_str_empty(volume->instance_id) ||
           (mark_leaving(cloud, volume, err) &&
            virt_detach_disk(cloud->config.virt, volume->instance_id, volume->volume_id,
                             cloud->config.detach_timeout_ms, NULL, err));
}

static bool free_volume(struct db_conn *conn, const char *volume_id, struct im_err *err) {
    struct volume volume = {.volume_id = (char *) volume_id, .device = ""};

    return record_update_fields(conn, &volume_type, &volume,
                                (const char *const[]){"instance_id", "device", NULL}, err) &&
           volume_settle(conn, volume_id, VOLUME_AVAILABLE, err);
}

static bool attach_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                          struct im_err *err) {
    (void) why;
    return free_volume(conn, run->item->resource_id, err);
}

static const struct job_step attach_steps[] = {{"plug", attach_run, attach_commit, attach_undo}};
const struct job_verb volume_attach_verb = {.action = "AttachVolumes",
                                            .steps = attach_steps,
                                            .step_count = 1,
                                            .undone = attach_undone,
                                            .resumes = true};

/* --- Detach ----------------------------------------------------------------------------------- */

static bool detach_prepare(struct volume_batch *batch, struct db_conn *conn, struct volume *volume,
                           struct wire_writer *data, struct im_err *err) {
    const struct attach *detach = batch->arg;

    (void) conn, (void) data;
    return im_str_empty(detach->instance_id) ||
           im_str_equal(volume->instance_id, detach->instance_id) ||
           im_fail(err, IM_WRONG_STATE, "volume [%s] is not attached to instance [%s]",
                   volume->volume_id, detach->instance_id);
}

bool cloud_volumes_detach(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, const char *instance_id,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct attach detach = {instance_id};
    struct volume_batch batch = {.cloud = cloud,
                                 .caller = caller,
                                 .action = "DetachVolumes",
                                 .ids = ids,
                                 .prepare = detach_prepare,
                                 .arg = &detach};

    return volume_batch_run(&batch, ret_job_id, err);
}

/* Without the machine's lock: a guest may take its time, and a start meanwhile leaves this volume
 * out. */
static bool detach_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;

    return load(cloud, run->item->resource_id, &volume, NULL, err) &&
           (im_str_empty(volume->instance_id) ||
            (pull_stop(cloud, volume->volume_id, err) &&
             virt_detach_disk(cloud->config.virt, volume->instance_id, volume->volume_id,
                              cloud->config.detach_timeout_ms, run->cancel, err)));
}

static bool detach_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    return free_volume(conn, run->item->resource_id, err);
}

/* The guest did not let go, so it is still plugged in; a machine that was started meanwhile without
 * it gets it back. */
static bool detach_undo(struct job_run *run, struct im_err *err) { return attach_run(run, err); }

static bool detach_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                          struct im_err *err) {
    (void) why;
    return volume_settle(conn, run->item->resource_id, VOLUME_IN_USE, err);
}

static const struct job_step detach_steps[] = {{"unplug", detach_run, detach_commit, detach_undo}};
const struct job_verb volume_detach_verb = {.action = "DetachVolumes",
                                            .steps = detach_steps,
                                            .step_count = 1,
                                            .undone = detach_undone,
                                            .resumes = true,
                                            .cancels = true};

/* --- Resize ----------------------------------------------------------------------------------- */

static bool resize_prepare(struct volume_batch *batch, struct db_conn *conn, struct volume *volume,
                           struct wire_writer *data, struct im_err *err) {
    int64_t size = *(int64_t *) batch->arg;

    (void) conn;
    if (size <= volume->size)
        return im_fail(err, IM_BAD_MESSAGE,
                       "volume [%s] has %" PRId64 " GB and can only grow, size [%" PRId64
                       " GB] is not larger",
                       volume->volume_id, volume->size, size);
    wire_int(data, "size", size);
    return volume_size_fits(batch->cloud, volume->volume_type, false, &size, err);
}

bool cloud_volumes_resize(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, int64_t size,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct volume_batch batch = {.cloud = cloud,
                                 .caller = caller,
                                 .action = "ResizeVolumes",
                                 .ids = ids,
                                 .lock = true,
                                 .prepare = resize_prepare,
                                 .arg = &size};

    if (size < 0)
        return im_fail(err, IM_BAD_MESSAGE, "parameter [size] is missing");
    return volume_batch_run(&batch, ret_job_id, err);
}

/* QEMU has the file of a running machine open and grows it itself; what the pool does then is to
 * see that it has. */
static bool resize_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;
    struct im_err failed = {0};
    const char *machine;
    uint64_t bytes;

    if (data == NULL || conn == NULL || !pull_stop(cloud, run->item->resource_id, err) ||
        !record_get(conn, &volume_type, run->item->resource_id, &volume, err) ||
        !record_get(conn, &layer_type, volume->layer_id, &layer, err))
        return false;
    machine = wire_get_text(wire_root(data), "machine", "");
    bytes = (uint64_t) (wire_get_int(wire_root(data), "size", 0) * GIB);
    if (*machine != '\0' &&
        !virt_resize_disk(cloud->config.virt, machine, volume->volume_id, bytes, &failed) &&
        failed.code != IM_NOT_FOUND) {
        *err = failed;
        return false;
    }
    return storage_resize(cloud->config.pool, layer->name, bytes, err);
}

static bool resize_settle(struct db_conn *conn, struct volume *volume, int64_t bytes,
                          struct im_err *err) {
    volume->size = bytes / GIB;
    return layer_grow(conn, volume->layer_id, bytes, err) &&
           record_update_fields(conn, &volume_type, volume, (const char *const[]){"size", NULL},
                                err) &&
           volume_unlock_all(conn, volume->volume_id, err);
}

static bool resize_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;

    return data != NULL && record_get(conn, &volume_type, run->item->resource_id, &volume, err) &&
           resize_settle(conn, volume, wire_get_int(wire_root(data), "size", volume->size) * GIB,
                         err);
}

static bool resize_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                          struct im_err *err) {
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;
    int64_t bytes = 0;

    (void) why;
    return record_get(conn, &volume_type, run->item->resource_id, &volume, err) &&
           layer_follow(run->context, conn, volume->layer_id, &bytes, err) &&
           resize_settle(conn, volume, bytes, err);
}

static const struct job_step resize_steps[] = {{"resize", resize_run, resize_commit, NULL}};
const struct job_verb volume_resize_verb = {.action = "ResizeVolumes",
                                            .steps = resize_steps,
                                            .step_count = 1,
                                            .undone = resize_undone,
                                            .resumes = true};
