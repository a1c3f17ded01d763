/* SPDX-License-Identifier: Apache-2.0 */
/* Freezing an instance's disk, as steps of a job: what it holds becomes a frozen layer, and the
 * instance goes on with a new head. Capture and clone are this and something more. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cloud-private.h"

static const int64_t fs_freeze_timeout_ms = 5000;
enum { FREEZE_TRIES = 5 };

/* Names that the pool chose, carried from run to commit. */
struct freeze {
    char frozen[STORAGE_NAME_MAX], head[STORAGE_NAME_MAX];
};

/* --- The layers ---------------------------------------------------------------------------------
 */

static bool load_pair(struct cloud *cloud, const char *head_id, const char *next_id,
                      struct layer **ret_head, struct layer **ret_next, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(layer_free_auto) struct layer *head = NULL;

    if (conn == NULL || !record_get(conn, &layer_type, head_id, &head, err) ||
        !record_get(conn, &layer_type, next_id, ret_next, err))
        return false;
    *ret_head = im_steal(&head);
    return true;
}

/* Switches a running machine from the old head to the new one, with its file systems quiet if it
 * has an agent. */
static bool switch_machine(struct cloud *cloud, const char *machine, const char *head,
                           struct im_err *err) {
    struct storage_source source = {0};
    struct im_err thaw = {0}, quiet_err = {0};
    bool quiet = false, switched;

    if (!storage_attach_info(cloud->config.pool, head, &source, err))
        return false;
    if (!virt_fs_freeze(cloud->config.virt, machine, fs_freeze_timeout_ms, &quiet, &quiet_err))
        im_debug("cloud", "%s: file systems not frozen: %s", machine, quiet_err.text);
    switched = virt_switch_disk(cloud->config.virt, machine, machine, source.path, err);
    /* Thawed always, whatever happened: a frozen guest is worse than a crash-consistent copy. */
    if (quiet && !virt_fs_thaw(cloud->config.virt, machine, &thaw))
        im_warn("cloud", "%s: cannot thaw its file systems: %s", machine, thaw.text);
    storage_source_done(&source);
    return switched;
}

/* A machine that was switched over writes to the new head: there is no way back, only a layer that
 * is less protected. So it is worth some patience, and no reason to fail. */
static void freeze_end_surely(struct cloud *cloud, const char *frozen) {
    for (int try = 1;; try++) {
        struct im_err err = {0};

        if (storage_freeze_end(cloud->config.pool, frozen, &err))
            return;
        if (try == FREEZE_TRIES) {
            im_warn("cloud", "layer %s stays writable: %s", frozen, err.text);
            return;
        }
        im_sleep_ms(50 * try);
    }
}

static bool freeze_run(struct cloud *cloud, const char *head_id, const char *next_id,
                       const char *machine, struct freeze *ret_freeze, struct im_err *err) {
    IM_AUTO(layer_free_auto) struct layer *head = NULL;
    IM_AUTO(layer_free_auto) struct layer *next = NULL;
    struct freeze freeze = {0};

    if (!load_pair(cloud, head_id, next_id, &head, &next, err) ||
        !storage_freeze_begin(cloud->config.pool, head->name, next->name, freeze.frozen,
                              freeze.head, err))
        return false;
    if (machine != NULL && strcmp(freeze.head, head->name) != 0) {
        if (!switch_machine(cloud, machine, freeze.head, err))
            return false;
        freeze_end_surely(cloud, freeze.frozen);
    } else if (!storage_freeze_end(cloud->config.pool, freeze.frozen, err)) {
        return false;
    }
    *ret_freeze = freeze;
    return true;
}

static bool freeze_commit(struct db_conn *conn, const char *head_id, const char *next_id,
                          const struct freeze *freeze, struct im_err *err) {
    static const char *const names[] = {"name", "state", NULL};
    struct layer frozen = {
        .layer_id = (char *) head_id, .name = (char *) freeze->frozen, .state = LAYER_FROZEN};
    struct layer head = {
        .layer_id = (char *) next_id, .name = (char *) freeze->head, .state = LAYER_HEAD};

    return record_update_fields(conn, &layer_type, &frozen, names, err) &&
           record_update_fields(conn, &layer_type, &head, names, err);
}

static bool freeze_undo(struct cloud *cloud, const char *head_id, const char *next_id,
                        struct im_err *err) {
    IM_AUTO(layer_free_auto) struct layer *head = NULL;
    IM_AUTO(layer_free_auto) struct layer *next = NULL;

    return load_pair(cloud, head_id, next_id, &head, &next, err) &&
           storage_freeze_undo(cloud->config.pool, head->name, next->name, err);
}

/* --- The steps ----------------------------------------------------------------------------------
 */

bool freeze_plan(struct cloud *cloud, struct db_conn *conn, const struct instance *instance,
                 struct wire_writer *data, struct im_err *err) {
    char next_id[IM_ID_MAX];

    if (!layer_plan(cloud, conn, instance->layer_id, instance->os_disk_size * GIB, next_id, err))
        return false;
    wire_text(data, "head", instance->layer_id);
    wire_text(data, "next", next_id);
    wire_int(data, "running", instance->status == INSTANCE_RUNNING);
    return true;
}

bool freeze_step_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    struct freeze *freeze = im_alloc(sizeof(*freeze));
    const struct wire_value *root;

    run->scratch = freeze;
    if (data == NULL)
        return false;
    root = wire_root(data);
    return freeze_run(
        run->context, wire_get_text(root, "head", ""), wire_get_text(root, "next", ""),
        wire_get_int(root, "running", 0) ? run->item->resource_id : NULL, freeze, err);
}

bool freeze_step_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    struct instance instance = {.instance_id = run->item->resource_id};
    const char *next;

    if (data == NULL)
        return false;
    next = wire_get_text(wire_root(data), "next", "");
    instance.layer_id = (char *) next;
    return freeze_commit(conn, wire_get_text(wire_root(data), "head", ""), next, run->scratch,
                         err) &&
           record_update_fields(conn, &instance_type, &instance,
                                (const char *const[]){"layer_id", NULL}, err);
}

/* Once committed the instance lives on `next`: only a freeze that is not committed is taken back.
 */
bool freeze_step_undo(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    const char *next;

    if (data == NULL || conn == NULL ||
        !record_get(conn, &instance_type, run->item->resource_id, &instance, err))
        return false;
    next = wire_get_text(wire_root(data), "next", "");
    return im_str_equal(instance->layer_id, next) ||
           freeze_undo(cloud, wire_get_text(wire_root(data), "head", ""), next, err);
}

bool freeze_undone(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(layer_free_auto) struct layer *next = NULL;

    return data != NULL &&
           record_get(conn, &layer_type, wire_get_text(wire_root(data), "next", ""), &next, err) &&
           (next->state != LAYER_MAKING || layer_drop(run->context, conn, next->layer_id, err)) &&
           instance_unlock(conn, run->item->resource_id, err);
}
