/* SPDX-License-Identifier: Apache-2.0 */
/* Freezing disks, as a step of a job: what each holds becomes a frozen layer and it goes on with a
 * new head, all at one instant. Captures, clones and backups are this and something more.
 *
 * Which disks, is in the item's data: "disks": [{"kind", "id", "machine", "head", "next"}]. The
 * machines they belong to are locked by their transition for as long as the job runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cloud-private.h"

enum { FREEZE_TRIES = 5 };

/* --- Which disks ------------------------------------------------------------------------------ */

static const char *const kind_words[] = {[DISK_INSTANCE] = "instance", [DISK_VOLUME] = "volume"};

bool freeze_plan(struct cloud *cloud, struct db_conn *conn, const struct disk *disks, size_t count,
                 struct wire_writer *data, struct im_err *err) {
    wire_array_begin(data, "disks");
    for (size_t i = 0; i < count; i++) {
        char next_id[IM_ID_MAX];

        if (!layer_plan(cloud, conn, disks[i].layer_id, disks[i].size_gib * GIB, next_id, err))
            return false;
        wire_object_begin(data, NULL);
        wire_text(data, "kind", kind_words[disks[i].kind]);
        wire_text(data, "id", disks[i].id);
        wire_text(data, "machine", disks[i].machine);
        wire_text(data, "head", disks[i].layer_id);
        wire_text(data, "next", next_id);
        wire_object_end(data);
    }
    wire_array_end(data);
    return true;
}

struct disk disk_of_instance(const struct instance *instance) {
    return (struct disk){.kind = DISK_INSTANCE,
                         .id = instance->instance_id,
                         .machine =
                             instance->status == INSTANCE_RUNNING ? instance->instance_id : "",
                         .layer_id = instance->layer_id,
                         .size_gib = instance->os_disk_size};
}

/* What one freeze knows of one disk; names that the pool chose are carried from run to commit. */
struct frozen {
    enum disk_kind kind;
    char id[IM_ID_MAX], machine[IM_ID_MAX], head_id[IM_ID_MAX], next_id[IM_ID_MAX];
    char was[STORAGE_NAME_MAX], wanted[STORAGE_NAME_MAX]; /* the layers' names before */
    char frozen[STORAGE_NAME_MAX], head[STORAGE_NAME_MAX];
    char *path;  /* the new head's, for the machine */
    bool hooked; /* its machine's programs were quiet as well */
};
struct freeze {
    const char *consistency; /* of all of them together */
    int64_t time_s;          /* of the instant */
    int64_t deadline_ms;     /* for what is asked of guests */
    size_t count;
    struct frozen items[];
};

static void freeze_free(struct freeze *freeze) {
    for (size_t i = 0; freeze != NULL && i < freeze->count; i++)
        free(freeze->items[i].path);
    free(freeze);
}
IM_DEFINE_AUTO(struct freeze *, freeze_free)

static bool layer_name(struct db_conn *conn, const char *layer_id, char ret_name[STORAGE_NAME_MAX],
                       struct im_err *err) {
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;

    if (!record_get(conn, &layer_type, layer_id, &layer, err))
        return false;
    snprintf(ret_name, STORAGE_NAME_MAX, "%s", layer->name);
    return true;
}

static bool item_load(struct db_conn *conn, const struct wire_value *value, struct frozen *item,
                      struct im_err *err) {
    item->kind = im_str_equal(wire_get_text(value, "kind", ""), kind_words[DISK_VOLUME])
                     ? DISK_VOLUME
                     : DISK_INSTANCE;
    snprintf(item->id, sizeof(item->id), "%s", wire_get_text(value, "id", ""));
    snprintf(item->machine, sizeof(item->machine), "%s", wire_get_text(value, "machine", ""));
    snprintf(item->head_id, sizeof(item->head_id), "%s", wire_get_text(value, "head", ""));
    snprintf(item->next_id, sizeof(item->next_id), "%s", wire_get_text(value, "next", ""));
    return layer_name(conn, item->head_id, item->was, err) &&
           layer_name(conn, item->next_id, item->wanted, err);
}

static struct freeze *freeze_load(const struct job_run *run, struct db_conn *conn,
                                  struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    const struct wire_value *disks = data ? wire_get(wire_root(data), "disks") : NULL;
    size_t count = wire_count(disks);
    IM_AUTO(freeze_free_auto) struct freeze *freeze = NULL;

    if (data == NULL)
        return NULL;
    freeze = im_alloc(sizeof(*freeze) + count * sizeof(freeze->items[0]));
    for (; freeze->count < count; freeze->count++)
        if (!item_load(conn, wire_at(disks, freeze->count), &freeze->items[freeze->count], err))
            return NULL;
    return im_steal(&freeze);
}

static struct freeze *freeze_load_now(const struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);

    return conn != NULL ? freeze_load(run, conn, err) : NULL;
}

/* --- One instant ------------------------------------------------------------------------------ */

/* The machines that have these disks open, each once. */
static void machines_of(const struct freeze *freeze, struct im_strings *ret_machines) {
    for (size_t i = 0; i < freeze->count; i++) {
        const char *machine = freeze->items[i].machine;

        if (*machine != '\0' && !im_strings_has(ret_machines, machine))
            im_strings_add(ret_machines, machine);
    }
}

/* Asks the guests to write out what they hold. A guest without agent, or too slow, is frozen as if
 * its power had failed. Bit i of the result: machine i is quiet. */
static void quiesce(struct cloud *cloud, const struct im_strings *machines, int64_t deadline_ms,
                    bool *quiet) {
    for (size_t i = 0; i < machines->count; i++) {
        int64_t left_ms = deadline_ms - im_mono_ms();
        struct im_err err = {0};

        if (left_ms <= 0 ||
            !virt_fs_freeze(cloud->config.virt, machines->items[i], left_ms, &quiet[i], &err))
            im_info("cloud", "%s: its file systems are not frozen: %s", machines->items[i],
                    left_ms <= 0 ? "no time left" : err.text);
    }
}

/* Always, whatever happened: a frozen guest is worse than a copy that is only crash-consistent. */
static void wake_up(struct cloud *cloud, const struct im_strings *machines, const bool *quiet,
                    bool paused) {
    for (size_t i = 0; i < machines->count; i++) {
        struct im_err err = {0};

        if (paused && !virt_resume(cloud->config.virt, machines->items[i], &err))
            im_warn("cloud", "%s: cannot resume it: %s", machines->items[i], err.text);
        err = (struct im_err){0};
        if (quiet[i] && !virt_fs_thaw(cloud->config.virt, machines->items[i], &err))
            im_warn("cloud", "%s: cannot thaw its file systems: %s", machines->items[i], err.text);
    }
}

/* Several machines have one instant only while none of them runs. */
static bool pause_all(struct cloud *cloud, const struct im_strings *machines, struct im_err *err) {
    for (size_t i = 0; i < machines->count; i++)
        if (!virt_pause(cloud->config.virt, machines->items[i], err))
            return im_within(err, "%s", machines->items[i]);
    return true;
}

static bool begin_one(struct cloud *cloud, struct frozen *item, struct im_err *err) {
    struct storage_source source = {0};

    if (!storage_freeze_begin(cloud->config.pool, item->was, item->wanted, item->frozen, item->head,
                              err) ||
        !storage_attach_info(cloud->config.pool, item->head, &source, err))
        return false;
    free(item->path);
    item->path = im_steal(&source.path);
    storage_source_done(&source);
    return true;
}

/* Where the pool kept the head's name (RBD) the machine need not be told. */
static bool needs_switch(const struct frozen *item) { return strcmp(item->head, item->was) != 0; }

static bool switch_machine(struct cloud *cloud, const struct freeze *freeze, const char *machine,
                           struct im_err *err) {
    IM_AUTO(free_auto)
    struct virt_switch *switches = im_alloc((freeze->count + 1) * sizeof(*switches));
    size_t count = 0;

    for (size_t i = 0; i < freeze->count; i++)
        if (strcmp(freeze->items[i].machine, machine) == 0 && needs_switch(&freeze->items[i]))
            switches[count++] = (struct virt_switch){freeze->items[i].id, freeze->items[i].path};
    return count == 0 || virt_switch_disks(cloud->config.virt, machine, switches, count, err);
}

static bool begin_and_switch(struct cloud *cloud, struct freeze *freeze,
                             const struct im_strings *machines, struct im_err *err) {
    for (size_t i = 0; i < freeze->count; i++)
        if (!begin_one(cloud, &freeze->items[i], err))
            return im_within(err, "%s", freeze->items[i].id);
    for (size_t i = 0; i < machines->count; i++)
        if (!switch_machine(cloud, freeze, machines->items[i], err))
            return false;
    return true;
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

static bool end_all(struct cloud *cloud, const struct freeze *freeze, struct im_err *err) {
    for (size_t i = 0; i < freeze->count; i++) {
        const struct frozen *item = &freeze->items[i];

        if (item->machine[0] != '\0')
            freeze_end_surely(cloud, item->frozen);
        else if (!storage_freeze_end(cloud->config.pool, item->frozen, err))
            return false;
    }
    return true;
}

/* Before guests are kept from writing: it takes its moment. */
static bool stop_pulls(struct cloud *cloud, const struct freeze *freeze, struct im_err *err) {
    for (size_t i = 0; i < freeze->count; i++)
        if (!pull_stop(cloud, freeze->items[i].id, err))
            return im_within(err, "%s", freeze->items[i].id);
    return true;
}

static bool freeze_all(struct cloud *cloud, struct freeze *freeze, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings machines = {0};
    IM_AUTO(free_auto) bool *quiet = NULL;
    bool several, fine;

    if (!stop_pulls(cloud, freeze, err))
        return false;
    machines_of(freeze, &machines);
    several = machines.count > 1;
    quiet = im_alloc((machines.count + 1) * sizeof(*quiet));
    freeze->deadline_ms = im_mono_ms() + cloud->config.freeze_timeout_ms;
    quiesce(cloud, &machines, freeze->deadline_ms, quiet);
    fine = (!several || pause_all(cloud, &machines, err)) &&
           begin_and_switch(cloud, freeze, &machines, err);
    freeze->time_s = im_now_s();
    wake_up(cloud, &machines, quiet, several);
    freeze->consistency = machines.count == 0 ? "off" : "fs";
    for (size_t i = 0; i < machines.count; i++)
        if (!quiet[i])
            freeze->consistency = "crash";
    return fine && end_all(cloud, freeze, err);
}

/* --- The rows --------------------------------------------------------------------------------- */

static bool commit_one(struct db_conn *conn, const struct frozen *item, struct im_err *err) {
    static const char *const names[] = {"name", "state", NULL};
    static const char *const head_names[] = {"layer_id", NULL};
    struct layer frozen = {
        .layer_id = (char *) item->head_id, .name = (char *) item->frozen, .state = LAYER_FROZEN};
    struct layer head = {
        .layer_id = (char *) item->next_id, .name = (char *) item->head, .state = LAYER_HEAD};
    struct instance instance = {.instance_id = (char *) item->id,
                                .layer_id = (char *) item->next_id};
    struct volume volume = {.volume_id = (char *) item->id, .layer_id = (char *) item->next_id};

    return record_update_fields(conn, &layer_type, &frozen, names, err) &&
           record_update_fields(conn, &layer_type, &head, names, err) &&
           (item->kind == DISK_INSTANCE
                ? record_update_fields(conn, &instance_type, &instance, head_names, err)
                : record_update_fields(conn, &volume_type, &volume, head_names, err));
}

/* Ends the locks that the verb put on the disk, and on the instance that has it, running or not. */
static bool unlock_one(struct db_conn *conn, const struct frozen *item, struct im_err *err) {
    return item->kind == DISK_INSTANCE ? instance_unlock(conn, item->id, err)
                                       : volume_unlock_all(conn, item->id, err);
}

/* --- The steps -------------------------------------------------------------------------------- */

bool freeze_step_run(struct job_run *run, struct im_err *err) {
    struct freeze *freeze = freeze_load_now(run, err);
    bool fine = freeze != NULL && freeze_all(run->context, freeze, err);

    /* The paths are not needed any more, and the engine frees one block only. */
    for (size_t i = 0; freeze != NULL && i < freeze->count; i++)
        free(im_steal(&freeze->items[i].path));
    run->scratch = freeze;
    return fine;
}

/* Asked when the guests go on again, so that no freeze comes later or lasts longer for it, and
 * anew each time: a hook may have been put in a minute ago. What cannot be told stays "fs". */
static void ask_hooks(struct cloud *cloud, struct freeze *freeze) {
    IM_AUTO(im_strings_done) struct im_strings machines = {0};

    machines_of(freeze, &machines);
    for (size_t i = 0; i < machines.count; i++) {
        int64_t left_ms = freeze->deadline_ms - im_mono_ms();
        struct im_err err = {0};
        bool hooked = false;

        if (left_ms <= 0 ||
            !virt_fs_hooked(cloud->config.virt, machines.items[i], left_ms, &hooked, &err))
            im_info("cloud", "%s: whether its programs were quiet is not known: %s",
                    machines.items[i], left_ms <= 0 ? "no time left" : err.text);
        for (size_t j = 0; j < freeze->count; j++)
            if (strcmp(freeze->items[j].machine, machines.items[i]) == 0)
                freeze->items[j].hooked = hooked;
    }
}

bool freeze_step_run_asking(struct job_run *run, struct im_err *err) {
    struct freeze *freeze;

    if (!freeze_step_run(run, err))
        return false;
    freeze = run->scratch;
    if (strcmp(freeze->consistency, "fs") == 0)
        ask_hooks(run->context, freeze);
    return true;
}

const char *freeze_consistency(const struct job_run *run, const char *id) {
    const struct freeze *freeze = run->scratch;

    for (size_t i = 0; i < freeze->count; i++)
        if (freeze->items[i].hooked && strcmp(freeze->items[i].id, id) == 0)
            return "app";
    return freeze->consistency;
}

int64_t freeze_time(const struct job_run *run) {
    return ((const struct freeze *) run->scratch)->time_s;
}

bool freeze_step_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    const struct freeze *freeze = run->scratch;

    for (size_t i = 0; i < freeze->count; i++)
        if (!commit_one(conn, &freeze->items[i], err) || !unlock_one(conn, &freeze->items[i], err))
            return false;
    return true;
}

static bool keep_body(struct db_conn *conn, void *arg, struct im_err *err) {
    return commit_one(conn, arg, err) && unlock_one(conn, arg, err);
}

/* The head that the record knows of the disk; "" when it is gone. */
static bool known_head(struct cloud *cloud, const struct frozen *item, char ret_id[IM_ID_MAX],
                       struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;

    if (conn == NULL ||
        !(item->kind == DISK_INSTANCE ? record_get(conn, &instance_type, item->id, &instance, err)
                                      : record_get(conn, &volume_type, item->id, &volume, err)))
        return false;
    snprintf(ret_id, IM_ID_MAX, "%s",
             instance && instance->layer_id ? instance->layer_id
             : volume && volume->layer_id   ? volume->layer_id
                                            : "");
    return true;
}

/* Does the machine write to the new head already? */
static bool was_switched(struct cloud *cloud, const struct frozen *item, bool *ret_switched,
                         struct im_err *err) {
    struct storage_source next = {0};
    struct im_err failed = {0};
    bool asked = true;

    *ret_switched = false;
    if (item->machine[0] == '\0')
        return true;
    /* What was never made, or a machine that does not run, settles it. */
    if (!storage_attach_info(cloud->config.pool, item->wanted, &next, &failed))
        asked = failed.code == IM_NOT_FOUND;
    else if (!virt_has_file(cloud->config.virt, item->machine, next.path, ret_switched, &failed))
        asked = failed.code == IM_NOT_FOUND;
    storage_source_done(&next);
    if (!asked)
        *err = failed;
    return asked;
}

/* Once committed the disk lives on `next`; and what a machine writes to can not be taken away, so
 * such a disk goes forward: its chain is one layer longer, and nothing else. */
static bool undo_one(struct cloud *cloud, struct frozen *item, struct im_err *err) {
    char known[IM_ID_MAX];
    bool switched;

    if (!known_head(cloud, item, known, err))
        return false;
    if (strcmp(known, item->head_id) != 0)
        return true;
    if (!was_switched(cloud, item, &switched, err))
        return false;
    if (!switched)
        return storage_freeze_undo(cloud->config.pool, item->was, item->wanted, err);
    if (!begin_one(cloud, item, err)) /* done long ago: it only tells the names again */
        return false;
    freeze_end_surely(cloud, item->frozen);
    return cloud_transact(cloud, keep_body, item, err);
}

bool freeze_step_undo(struct job_run *run, struct im_err *err) {
    IM_AUTO(freeze_free_auto) struct freeze *freeze = freeze_load_now(run, err);

    for (size_t i = 0; freeze != NULL && i < freeze->count; i++)
        if (!undo_one(run->context, &freeze->items[i], err))
            return false;
    return freeze != NULL;
}

/* Where the freeze was committed the locks are gone, and may be another job's by now. */
bool freeze_undone(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(freeze_free_auto) struct freeze *freeze = freeze_load(run, conn, err);

    for (size_t i = 0; freeze != NULL && i < freeze->count; i++) {
        IM_AUTO(layer_free_auto) struct layer *next = NULL;

        if (!record_get(conn, &layer_type, freeze->items[i].next_id, &next, err))
            return false;
        if (next->state == LAYER_MAKING && (!layer_drop(run->context, conn, next->layer_id, err) ||
                                            !unlock_one(conn, &freeze->items[i], err)))
            return false;
    }
    return freeze != NULL;
}
