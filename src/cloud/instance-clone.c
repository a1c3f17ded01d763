/* SPDX-License-Identifier: Apache-2.0 */
/* CloneInstances: the source's disk is frozen, source and clone go on from there. Constant time,
 * also while it runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud-private.h"

struct clone {
    const struct im_strings *vxnets; /* "instance|vxnet[|ip]" */
    struct im_strings *ret_ids, *ret_volumes;
};

/* The networks asked for this source; without any, those the source has. */
static void clone_vxnets(const struct clone *clone, const struct instance *source,
                         const struct nic *const *nics, size_t nic_count,
                         struct im_strings *ret_vxnets) {
    size_t len = strlen(source->instance_id);

    for (size_t i = 0; clone->vxnets != NULL && i < clone->vxnets->count; i++) {
        const char *item = clone->vxnets->items[i];

        if (strncmp(item, source->instance_id, len) == 0 && item[len] == '|')
            im_strings_add(ret_vxnets, item + len + 1);
    }
    for (size_t i = 0; clone->vxnets == NULL || clone->vxnets->count == 0; i++) {
        if (i == nic_count)
            break;
        im_strings_add(ret_vxnets, nics[i]->vxnet_id);
    }
}

/* A network for an instance that is not cloned would be forgotten without a word. */
static bool vxnets_fit(const struct im_strings *ids, const struct im_strings *vxnets,
                       struct im_err *err) {
    for (size_t i = 0; vxnets != NULL && i < vxnets->count; i++) {
        size_t len = strcspn(vxnets->items[i], "|");
        bool known = false;

        for (size_t j = 0; j < ids->count && !known; j++)
            known = vxnets->items[i][len] == '|' && strlen(ids->items[j]) == len &&
                    strncmp(vxnets->items[i], ids->items[j], len) == 0;
        if (!known)
            return im_fail(err, IM_BAD_MESSAGE,
                           "parameter [vxnets.n] is not of the form INSTANCE|VXNET with one of the "
                           "instances: [%.64s]",
                           vxnets->items[i]);
    }
    return true;
}

static bool add_links(struct db_conn *conn, const char *from, const char *to, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    void **links = NULL;
    size_t count = 0;
    bool added = true;

    query_add(&query, "instance_id", CONDITION_IN, from);
    if (!record_list(conn, &keypair_link_type, &query, &links, &count, NULL, err))
        return false;
    for (size_t i = 0; i < count && added; i++)
        added = keypair_link_add(conn, ((struct keypair_link *) links[i])->keypair_id, to, err);
    record_list_free(&keypair_link_type, links, count);
    return added;
}

static bool add_clone(struct instance_batch *batch, struct db_conn *conn,
                      const struct instance *source, const char *layer_id, char ret_id[IM_ID_MAX],
                      struct im_err *err) {
    struct clone *clone = batch->arg;
    IM_AUTO(instance_free_auto) struct instance *copy = object_copy(&instance_type, source);
    IM_AUTO(im_strings_done) struct im_strings vxnets = {0};
    IM_AUTO(free_auto) char *group = NULL;
    struct nic **nics = NULL;
    size_t nic_count = 0;
    char graphics[GRAPHICS_PASSWORD + 1];

    if (!nics_load(conn, source->instance_id, &nics, &nic_count, err))
        return false;
    clone_vxnets(clone, source, (const struct nic *const *) nics, nic_count, &vxnets);
    group = im_strdup(nic_count > 0 ? nics[0]->security_group : NULL);
    record_list_free(&nic_type, (void **) nics, nic_count);
    im_id_make(ret_id, "i-", 8);
    graphics_password(graphics);
    im_replace(&copy->instance_id, ret_id);
    im_replace(&copy->owner, batch->caller->user_id);
    im_replace(&copy->layer_id, layer_id);
    im_replace(&copy->graphics_passwd, graphics);
    im_replace(&copy->hostname, ret_id);
    im_replace(&copy->agent_state, NULL);
    im_replace(&copy->graphics_port, NULL);
    copy->passwd_time = copy->passwd_turn = 0;
    copy->status = INSTANCE_PENDING;
    copy->transition_status = TRANSITION_CREATING;
    copy->create_time = copy->status_time = im_now_s();
    return record_insert(conn, &instance_type, copy, err) &&
           add_links(conn, source->instance_id, ret_id, err) &&
           nics_plan(batch->cloud, conn, copy, &vxnets, group, err);
}

/* --- Its volumes, which the clone gets copies of ---------------------------------------------- */

/* Those of the source, locked for the freeze. */
struct attached {
    struct volume **items;
    size_t count;
};

static void attached_done(struct attached *attached) {
    record_list_free(&volume_type, (void **) attached->items, attached->count);
}

static bool attached_lock(struct db_conn *conn, const struct instance *source,
                          struct attached *ret_attached, struct im_err *err) {
    if (!volumes_of(conn, source->instance_id, &ret_attached->items, &ret_attached->count, err))
        return false;
    for (size_t i = 0; i < ret_attached->count; i++)
        if (!volume_make_busy(conn, ret_attached->items[i], "CloneVolumes", err))
            return false;
    return true;
}

static bool freeze_with(struct cloud *cloud, struct db_conn *conn, const struct instance *source,
                        const struct attached *attached, struct wire_writer *data,
                        struct im_err *err) {
    IM_AUTO(free_auto) struct disk *disks = im_alloc((attached->count + 1) * sizeof(*disks));

    disks[0] = disk_of_instance(source);
    for (size_t i = 0; i < attached->count; i++)
        disks[1 + i] = (struct disk){.kind = DISK_VOLUME,
                                     .id = attached->items[i]->volume_id,
                                     .machine = disks[0].machine,
                                     .layer_id = attached->items[i]->layer_id,
                                     .size_gib = attached->items[i]->size};
    return freeze_plan(cloud, conn, disks, attached->count + 1, data, err);
}

/* Copies, attached to the clone under the same names. */
static bool add_volumes(struct instance_batch *batch, struct db_conn *conn,
                        const struct instance *source, const struct attached *attached,
                        const char *clone_id, struct wire_writer *data, struct im_err *err) {
    struct clone *clone = batch->arg;

    wire_array_begin(data, "volumes");
    for (size_t i = 0; i < attached->count; i++) {
        const struct volume *from = attached->items[i];
        IM_AUTO(volume_free_auto) struct volume *copy = object_copy(&volume_type, from);
        IM_AUTO(free_auto) char *pair = NULL;

        im_replace(&copy->owner, batch->caller->user_id);
        if (!volume_plan(batch->cloud, conn, copy, from->layer_id, err))
            return false;
        im_replace(&copy->instance_id, clone_id);
        im_replace(&copy->device, from->device);
        if (!record_update(conn, &volume_type, copy, err))
            return false;
        pair = im_printf("%s|%s|%s", source->instance_id, from->volume_id, copy->volume_id);
        im_strings_add(clone->ret_volumes, pair);
        wire_text(data, NULL, copy->volume_id);
    }
    wire_array_end(data);
    return true;
}

static bool clone_prepare(struct instance_batch *batch, struct db_conn *conn,
                          struct instance *instance, struct wire_writer *data, struct im_err *err) {
    struct clone *clone = batch->arg;
    IM_AUTO(attached_done) struct attached attached = {0};
    char layer_id[IM_ID_MAX], clone_id[IM_ID_MAX];

    if (batch->index == 0) { /* the transaction began, perhaps anew */
        im_strings_done(clone->ret_ids);
        im_strings_done(clone->ret_volumes);
    }
    if (!attached_lock(conn, instance, &attached, err) ||
        !freeze_with(batch->cloud, conn, instance, &attached, data, err) ||
        !layer_plan(batch->cloud, conn, instance->layer_id, instance->os_disk_size * GIB, layer_id,
                    err) ||
        !add_clone(batch, conn, instance, layer_id, clone_id, err) ||
        !add_volumes(batch, conn, instance, &attached, clone_id, data, err))
        return false;
    im_strings_add(clone->ret_ids, clone_id);
    wire_text(data, "clone", clone_id);
    wire_text(data, "layer", layer_id);
    return true;
}

bool cloud_instances_clone(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, const struct im_strings *vxnets,
                           struct im_strings *ret_instance_ids, struct im_strings *ret_volumes,
                           char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct clone clone = {
        .vxnets = vxnets, .ret_ids = ret_instance_ids, .ret_volumes = ret_volumes};
    struct instance_batch batch = {.cloud = cloud,
                                   .caller = caller,
                                   .action = "CloneInstances",
                                   .ids = ids,
                                   .prepare = clone_prepare,
                                   .arg = &clone};

    return vxnets_fit(ids, vxnets, err) && instance_batch_run(&batch, ret_job_id, err);
}

/* --- The job: item = the source; the clone's id is in its data -----------------------------------
 */

static bool volume_plug(struct job_run *run, struct db_conn *conn, struct volume *volume,
                        struct im_err *err) {
    (void) run;
    return layer_set_state(conn, volume->layer_id, LAYER_HEAD, err) &&
           volume_settle(conn, volume->volume_id, VOLUME_IN_USE, err);
}

static bool disk_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);

    return data != NULL && conn != NULL &&
           layer_make_head(cloud, wire_get_text(wire_root(data), "layer", ""), err) &&
           volumes_each(run, conn, "volumes", volume_make_head, err);
}

static bool disk_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    return data != NULL &&
           layer_set_state(conn, wire_get_text(wire_root(data), "layer", ""), LAYER_HEAD, err) &&
           volumes_each(run, conn, "volumes", volume_plug, err);
}

static bool start_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    return data != NULL &&
           machine_start(run->context, wire_get_text(wire_root(data), "clone", ""), err);
}

static bool start_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    return data != NULL && instance_settle(conn, wire_get_text(wire_root(data), "clone", ""),
                                           INSTANCE_RUNNING, err);
}

static bool start_undo(struct job_run *run, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    return data != NULL &&
           machine_forget(run->context, wire_get_text(wire_root(data), "clone", ""), err);
}

static bool clone_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                         struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(instance_free_auto) struct instance *copy = NULL;

    (void) why;
    if (data == NULL || !freeze_undone(run, conn, err) ||
        !record_get(conn, &instance_type, wire_get_text(wire_root(data), "clone", ""), &copy, err))
        return false;
    copy->sub_code = 1;
    return volumes_each(run, conn, "volumes", volume_fail, err) &&
           instance_cease(run->context, conn, copy, err);
}

static const struct job_step clone_steps[] = {
    {"freeze", freeze_step_run, freeze_step_commit, freeze_step_undo},
    {"disk", disk_run, disk_commit, NULL},
    {"start", start_run, start_commit, start_undo},
};
const struct job_verb instance_clone_verb = {.action = "CloneInstances",
                                             .steps = clone_steps,
                                             .step_count = 3,
                                             .undone = clone_undone,
                                             .resumes = true};
