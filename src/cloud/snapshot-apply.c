/* SPDX-License-Identifier: Apache-2.0 */
/* ApplySnapshots: disks hold again what they held at a point in time; a new head on its layer, so
 * constant time. Machines that have them open are stopped before and started after. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud-private.h"

/* --- The request ------------------------------------------------------------------------------ */

struct apply {
    struct cloud *cloud;
    const struct caller *caller;
    const struct im_strings *ids;
    struct im_strings disks; /* resources rolled back */
    struct locks locks;
    char job_id[IM_JOB_ID_MAX];
};

/* Locks the disk; *ret_machine is the instance that has it, with its state before. */
static bool lock_disk(struct apply *apply, struct db_conn *conn, const struct snapshot *snapshot,
                      struct instance **ret_machine, int64_t *ret_gib, struct im_err *err) {
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;

    if (im_str_equal(snapshot->resource_type, "instance")) {
        if (!instance_load(conn, apply->caller, snapshot->resource_id, ret_machine, err))
            return false;
        *ret_gib = (*ret_machine)->os_disk_size;
        return locks_instance(&apply->locks, conn, *ret_machine, err);
    }
    if (!volume_load(conn, apply->caller, snapshot->resource_id, &volume, err))
        return false;
    *ret_gib = volume->size;
    return locks_volume(&apply->locks, conn, volume, ret_machine, err);
}

static bool apply_one(struct apply *apply, struct db_conn *conn, const char *id,
                      struct wire_writer *data, struct im_err *err) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;
    IM_AUTO(instance_free_auto) struct instance *machine = NULL;
    char layer_id[IM_ID_MAX];
    int64_t gib = 0;

    if (!snapshot_load(conn, apply->caller, id, &snapshot, err) ||
        !snapshot_allows(snapshot, "ApplySnapshots", err))
        return false;
    if (im_strings_has(&apply->disks, snapshot->resource_id))
        return im_fail(err, IM_BAD_MESSAGE,
                       "two of the snapshots are of [%s]; it can hold only one of them",
                       snapshot->resource_id);
    im_strings_add(&apply->disks, snapshot->resource_id);
    /* A disk that has grown since keeps its size. */
    if (!lock_disk(apply, conn, snapshot, &machine, &gib, err) ||
        !layer_plan(apply->cloud, conn, snapshot->layer_id, gib * GIB, layer_id, err))
        return false;
    wire_object_begin(data, NULL);
    wire_text(data, "snapshot", id);
    wire_text(data, "kind", snapshot->resource_type);
    wire_text(data, "id", snapshot->resource_id);
    wire_text(data, "layer", layer_id);
    wire_text(data, "instance", machine ? machine->instance_id : "");
    wire_int(data, "running", machine && machine->status == INSTANCE_RUNNING);
    wire_object_end(data);
    snapshot->transition_status = TRANSITION_APPLYING;
    return record_update(conn, &snapshot_type, snapshot, err);
}

static bool apply_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct apply *apply = arg;
    IM_AUTO(free_auto) char *ids = im_strings_join(apply->ids, " ");
    struct wire_writer data = {0};
    struct job_order order;
    bool planned = true;

    im_strings_done(&apply->disks);
    locks_done(&apply->locks);
    wire_object_begin(&data, NULL);
    wire_array_begin(&data, "disks");
    for (size_t i = 0; i < apply->ids->count && planned; i++)
        planned = apply_one(apply, conn, apply->ids->items[i], &data, err);
    wire_array_end(&data);
    wire_object_end(&data);
    order = (struct job_order){.resource_id = ids, .data = data.text.data};
    planned = planned && jobs_add(apply->cloud->jobs, conn, "ApplySnapshots",
                                  apply->caller->user_id, "", &order, 1, apply->job_id, err);
    im_str_done(&data.text);
    return planned;
}

bool cloud_snapshots_apply(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                           struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings unique = {0};
    struct apply apply = {
        .cloud = cloud, .caller = caller, .ids = &unique, .locks = {.action = "ApplySnapshots"}};
    bool ordered = ids_unique("snapshots", ids, &unique, err) &&
                   cloud_order(cloud, apply_body, &apply, apply.job_id, ret_job_id, err);

    im_strings_done(&apply.disks);
    locks_done(&apply.locks);
    return ordered;
}

/* --- The job: new heads, machines off, rows, machines on -------------------------------------- */

/* One row of the item's data; all borrowed from its document. */
struct target {
    const char *snapshot, *id, *layer, *instance;
    bool is_volume, running;
};

static struct target target_at(const struct wire_value *disks, size_t i) {
    const struct wire_value *value = wire_at(disks, i);

    return (struct target){.snapshot = wire_get_text(value, "snapshot", ""),
                           .id = wire_get_text(value, "id", ""),
                           .layer = wire_get_text(value, "layer", ""),
                           .instance = wire_get_text(value, "instance", ""),
                           .is_volume = im_str_equal(wire_get_text(value, "kind", ""), "volume"),
                           .running = wire_get_int(value, "running", 0) != 0};
}

/* Calls `what` for each disk. */
static bool each(struct job_run *run, struct db_conn *conn,
                 bool (*what)(struct job_run *run, struct db_conn *conn,
                              const struct target *target, struct im_err *err),
                 struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    const struct wire_value *disks = data ? wire_get(wire_root(data), "disks") : NULL;

    for (size_t i = 0; i < wire_count(disks); i++) {
        struct target target = target_at(disks, i);

        if (!what(run, conn, &target, err))
            return false;
    }
    return data != NULL;
}

static bool make_head(struct job_run *run, struct db_conn *conn, const struct target *target,
                      struct im_err *err) {
    (void) conn;
    return layer_make_head(run->context, target->layer, err);
}

/* Softly: its other disks keep what it holds. */
static bool stop_machine(struct job_run *run, struct db_conn *conn, const struct target *target,
                         struct im_err *err) {
    (void) conn;
    return !target->running || machine_stop(run->context, target->instance, true, NULL, err);
}

static bool start_machine(struct job_run *run, struct db_conn *conn, const struct target *target,
                          struct im_err *err) {
    (void) conn;
    return !target->running || machine_start(run->context, target->instance, err);
}

static bool heads_run(struct job_run *run, struct im_err *err) {
    return each(run, NULL, make_head, err);
}

static bool swap_run(struct job_run *run, struct im_err *err) {
    return each(run, NULL, stop_machine, err);
}

static bool start_run(struct job_run *run, struct im_err *err) {
    return each(run, NULL, start_machine, err);
}

static bool swap_head(struct job_run *run, struct db_conn *conn, const struct target *target,
                      struct im_err *err) {
    const struct object_type *type = target->is_volume ? &volume_type : &instance_type;
    void *object = NULL;
    char **layer_id;
    bool swapped;

    if (!record_get(conn, type, target->id, &object, err))
        return false;
    layer_id = field_text(object_field(type, "layer_id"), object);
    swapped = layer_set_state(conn, target->layer, LAYER_HEAD, err) &&
              layer_drop(run->context, conn, *layer_id, err);
    im_replace(layer_id, target->layer);
    swapped =
        swapped &&
        record_update_fields(conn, type, object, (const char *const[]){"layer_id", NULL}, err) &&
        db_exec(conn, NULL, err,
                "UPDATE snapshots SET is_head = CASE WHEN snapshot_id = $1 THEN 1 ELSE 0 END,"
                " head_chain = CASE WHEN root_id = (SELECT root_id FROM snapshots"
                " WHERE snapshot_id = $1) THEN 1 ELSE 0 END WHERE resource_id = $2",
                "tt", target->snapshot, target->id);
    object_free(type, object);
    return swapped;
}

static bool swap_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    return each(run, conn, swap_head, err);
}

static bool unlock(struct job_run *run, struct db_conn *conn, const struct target *target,
                   struct im_err *err) {
    struct snapshot snapshot = {.snapshot_id = (char *) target->snapshot,
                                .transition_status = TRANSITION_NONE};

    (void) run;
    return record_update_fields(conn, &snapshot_type, &snapshot,
                                (const char *const[]){"transition_status", NULL}, err) &&
           (!target->is_volume || volume_unlock(conn, target->id, err)) &&
           (target->instance[0] == '\0' ||
            instance_settle(conn, target->instance,
                            target->running ? INSTANCE_RUNNING : INSTANCE_STOPPED, err));
}

static bool start_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    return each(run, conn, unlock, err);
}

/* Before the swap the planned layer is given up; after it the disk holds the point, and a machine
 * that did not start again is off. */
static bool give_up(struct job_run *run, struct db_conn *conn, const struct target *target,
                    struct im_err *err) {
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;
    struct target off = *target;

    off.running = false;
    return record_get(conn, &layer_type, target->layer, &layer, err) &&
           (layer->state != LAYER_MAKING || layer_drop(run->context, conn, target->layer, err)) &&
           unlock(run, conn, &off, err) &&
           (target->instance[0] == '\0' ||
            instance_settle_by_machine(run->context, conn, target->instance, VIRT_OFF, err));
}

static bool apply_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                         struct im_err *err) {
    (void) why;
    return each(run, conn, give_up, err);
}

static const struct job_step apply_steps[] = {
    {"heads", heads_run, NULL, NULL},
    {"swap", swap_run, swap_commit, NULL},
    {"start", start_run, start_commit, NULL},
};
const struct job_verb snapshot_apply_verb = {.action = "ApplySnapshots",
                                             .steps = apply_steps,
                                             .step_count = 3,
                                             .undone = apply_undone,
                                             .resumes = true};
