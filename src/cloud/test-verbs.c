/* SPDX-License-Identifier: Apache-2.0 */
/* The table of verbs for tests. */
#include "test-verbs.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"

#define CALL(name)                                                                                 \
    static bool name(struct rig *rig, const struct caller *caller, const char *id,                 \
                     struct im_strings *ret_made, char ret_job_id[IM_JOB_ID_MAX],                  \
                     struct im_err *err)
#define ONE(id) IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(id)

/* --- Calls ---------------------------------------------------------------------------------- */

CALL(run_off) {
    struct instance_run_args args = rig_run_args(RIG_SYSTEM_IMAGE);
    ONE(VXNET_BASIC);

    (void) id;
    args.vxnets = &ids;
    args.no_start = true;
    return cloud_instances_run(rig->cloud, caller, &args, ret_made, ret_job_id, err);
}

CALL(run_on) {
    struct instance_run_args args = rig_run_args(RIG_SYSTEM_IMAGE);
    ONE(VXNET_BASIC);

    (void) id;
    args.vxnets = &ids;
    return cloud_instances_run(rig->cloud, caller, &args, ret_made, ret_job_id, err);
}

CALL(start) {
    ONE(id);
    (void) ret_made;
    return cloud_instances_start(rig->cloud, caller, &ids, ret_job_id, err);
}

CALL(stop) {
    ONE(id);
    (void) ret_made;
    return cloud_instances_stop(rig->cloud, caller, &ids, false, ret_job_id, err);
}

CALL(stop_hard) {
    ONE(id);
    (void) ret_made;
    return cloud_instances_stop(rig->cloud, caller, &ids, true, ret_job_id, err);
}

CALL(restart) {
    ONE(id);
    (void) ret_made;
    return cloud_instances_restart(rig->cloud, caller, &ids, ret_job_id, err);
}

CALL(resize) {
    struct instance_resize_args args = {
        .cpu = 2, .memory = 2 * RIG_MEMORY_MIB, .os_disk_size = 2 * RIG_IMAGE_GIB};
    ONE(id);

    (void) ret_made;
    return cloud_instances_resize(rig->cloud, caller, &ids, &args, ret_job_id, err);
}

CALL(reset) {
    struct instance_reset_args args = {
        .login_mode = "passwd", .login_passwd = "Secret4you", .os_disk_size = -1};
    ONE(id);

    (void) ret_made;
    return cloud_instances_reset(rig->cloud, caller, &ids, &args, ret_job_id, err);
}

static bool capture_as(struct rig *rig, const struct caller *caller, const char *id, bool trim,
                       bool seal, struct im_strings *ret_made, char ret_job_id[IM_JOB_ID_MAX],
                       struct im_err *err) {
    struct image_capture_args args = {.instance_id = id, .image_name = "captured", .trim = trim};
    ONE("all");
    char image_id[IM_ID_MAX];

    if (seal)
        args.seal = &ids;
    if (!cloud_image_capture(rig->cloud, caller, &args, image_id, ret_job_id, err))
        return false;
    im_strings_add(ret_made, image_id);
    return true;
}

CALL(capture) { return capture_as(rig, caller, id, false, false, ret_made, ret_job_id, err); }

CALL(capture_sealed) { return capture_as(rig, caller, id, false, true, ret_made, ret_job_id, err); }

CALL(capture_trim) { return capture_as(rig, caller, id, true, false, ret_made, ret_job_id, err); }

CALL(capture_both) { return capture_as(rig, caller, id, true, true, ret_made, ret_job_id, err); }

CALL(clone_one) {
    IM_AUTO(im_strings_done) struct im_strings volumes = {0};
    ONE(id);

    return cloud_instances_clone(rig->cloud, caller, &ids, NULL, ret_made, &volumes, ret_job_id,
                                 err);
}

CALL(terminate) {
    ONE(id);
    (void) ret_made;
    return cloud_instances_terminate(rig->cloud, caller, &ids, false, ret_job_id, err);
}

CALL(terminate_at_once) {
    ONE(id);
    (void) ret_made;
    return cloud_instances_terminate(rig->cloud, caller, &ids, true, ret_job_id, err);
}

CALL(cease) {
    ONE(id);
    (void) ret_made;
    return cloud_instances_cease(rig->cloud, caller, &ids, ret_job_id, err);
}

/* With a pair of the caller's own, so that only the instance is another's. */
static bool keys(struct rig *rig, const struct caller *caller, const char *id, bool detach,
                 char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    static const char line[] = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDuw/GtH5LxFh8yy8x0uwv3PY1Pn"
                               "bT0ZgTkZ0vTCGYbB";
    IM_AUTO(free_auto) char *private_key = NULL;
    char keypair_id[IM_ID_MAX];
    bool ordered;

    if (!cloud_keypair_create(rig->cloud, caller, "pair", NULL, line, keypair_id, &private_key,
                              err))
        return false;
    {
        IM_AUTO(im_strings_done) struct im_strings pairs = rig_ids(keypair_id);
        ONE(id);

        ordered = cloud_keypairs_attach(rig->cloud, caller, &pairs, &ids, detach, ret_job_id, err);
    }
    return ordered;
}

CALL(attach) {
    (void) ret_made;
    return keys(rig, caller, id, false, ret_job_id, err);
}

CALL(detach) {
    (void) ret_made;
    return keys(rig, caller, id, true, ret_job_id, err);
}

CALL(password) {
    ONE(id);
    (void) ret_made;
    return cloud_password_reset(rig->cloud, caller, &ids, "Secret4you", ret_job_id, err);
}

/* On the disk of a system that reads a seed, or not. */
CALL(password_of_seed) {
    rig_report(rig, RIG_REPORT);
    return password(rig, caller, id, ret_made, ret_job_id, err);
}

CALL(password_of_disk) {
    rig_report(rig, RIG_NO_CLOUD_INIT);
    return password(rig, caller, id, ret_made, ret_job_id, err);
}

CALL(attach_to_disk) {
    rig_report(rig, RIG_NO_CLOUD_INIT);
    return attach(rig, caller, id, ret_made, ret_job_id, err);
}

CALL(image_clone) {
    return cloud_image_clone(rig->cloud, caller, id, 1, NULL, ret_made, ret_job_id, err);
}

CALL(image_delete) {
    ONE(id);
    (void) ret_made;
    return cloud_images_delete(rig->cloud, caller, &ids, false, ret_job_id, err);
}

CALL(image_cease) {
    ONE(id);
    (void) ret_made;
    return cloud_images_delete(rig->cloud, caller, &ids, true, ret_job_id, err);
}

CALL(image_import) {
    IM_AUTO(free_auto) char *source = im_printf("%s/disk.qcow2", rig->folder);
    struct image_import_args args = {.image_name = "imported", .source = source, .force = -1};
    char image_id[IM_ID_MAX];

    (void) id;
    if (!cloud_image_import(rig->cloud, caller, &args, image_id, ret_job_id, err))
        return false;
    im_strings_add(ret_made, image_id);
    return true;
}

CALL(image_export) {
    char export_id[IM_ID_MAX];

    if (!cloud_image_export(rig->cloud, caller, id, "raw", export_id, ret_job_id, err))
        return false;
    im_strings_add(ret_made, export_id);
    return true;
}

CALL(boot_test) {
    struct boot_test_args args = {.resource_id = id, .cpu = -1, .memory = -1, .timeout_s = -1};
    char test_id[IM_ID_MAX];

    if (!cloud_boot_test(rig->cloud, caller, &args, test_id, ret_job_id, err))
        return false;
    im_strings_add(ret_made, test_id);
    return true;
}

CALL(repair) {
    IM_AUTO(im_strings_done) struct im_strings findings = {0}, seal = {0};
    struct repair_args args = {.resource_id = id, .findings = &findings, .seal = &seal};
    char repair_id[IM_ID_MAX];

    if (!cloud_repair(rig->cloud, caller, &args, repair_id, ret_job_id, err))
        return false;
    im_strings_add(ret_made, repair_id);
    return true;
}

CALL(repair_undo) {
    char repair_id[IM_ID_MAX];

    if (!cloud_repair_undo(rig->cloud, caller, id, repair_id, ret_job_id, err))
        return false;
    im_strings_add(ret_made, repair_id);
    return true;
}

CALL(volume_create) {
    struct volume_create_args args = {
        .size = 20, .volume_type = 100, .count = 2, .volume_name = "data"};

    (void) id;
    return cloud_volumes_create(rig->cloud, caller, &args, ret_made, ret_job_id, err);
}

CALL(volume_attach) {
    ONE(id);
    (void) ret_made;
    return cloud_volumes_attach(rig->cloud, caller, &ids, rig->companion, ret_job_id, err);
}

CALL(clone_with_volume) {
    return clone_one(rig, caller, rig->companion, ret_made, ret_job_id, err) || (id == NULL);
}

CALL(volume_detach) {
    ONE(id);
    (void) ret_made;
    return cloud_volumes_detach(rig->cloud, caller, &ids, NULL, ret_job_id, err);
}

CALL(volume_resize) {
    ONE(id);
    (void) ret_made;
    return cloud_volumes_resize(rig->cloud, caller, &ids, 30, ret_job_id, err);
}

CALL(volume_clone) {
    struct volume_clone_args args = {.volume_id = id, .count = 2, .volume_type = -1};

    return cloud_volumes_clone(rig->cloud, caller, &args, ret_made, ret_job_id, err);
}

CALL(volume_delete) {
    ONE(id);
    (void) ret_made;
    return cloud_volumes_delete(rig->cloud, caller, &ids, false, ret_job_id, err);
}

CALL(volume_delete_at_once) {
    ONE(id);
    (void) ret_made;
    return cloud_volumes_delete(rig->cloud, caller, &ids, true, ret_job_id, err);
}

static bool snapshots(struct rig *rig, const struct caller *caller, const struct im_strings *ids,
                      struct im_strings *ret_made, char ret_job_id[IM_JOB_ID_MAX],
                      struct im_err *err) {
    struct snapshot_create_args args = {.resources = ids, .snapshot_name = "point"};

    return cloud_snapshots_create(rig->cloud, caller, &args, ret_made, ret_job_id, err);
}

CALL(snapshot_create) {
    ONE(id);
    return snapshots(rig, caller, &ids, ret_made, ret_job_id, err);
}

/* The machine's own disk and the volume, at one instant. */
CALL(snapshot_both) {
    ONE(id);

    im_strings_add(&ids, rig->companion);
    return snapshots(rig, caller, &ids, ret_made, ret_job_id, err);
}

CALL(snapshot_copy) {
    ONE(id);
    (void) ret_made;
    return cloud_snapshots_copy(rig->cloud, caller, &ids, ret_job_id, err);
}

CALL(snapshot_restore) {
    ONE(id);
    (void) ret_made;
    return cloud_snapshots_restore(rig->cloud, caller, &ids, ret_job_id, err);
}

CALL(copy_delete) {
    ONE(id);
    (void) ret_made;
    return cloud_copies_delete(rig->cloud, caller, &ids, ret_job_id, err);
}

CALL(snapshot_apply) {
    ONE(id);
    (void) ret_made;
    return cloud_snapshots_apply(rig->cloud, caller, &ids, ret_job_id, err);
}

CALL(snapshot_delete) {
    ONE(id);
    (void) ret_made;
    return cloud_snapshots_delete(rig->cloud, caller, &ids, false, false, ret_job_id, err);
}

CALL(snapshot_delete_at_once) {
    ONE(id);
    (void) ret_made;
    return cloud_snapshots_delete(rig->cloud, caller, &ids, false, true, ret_job_id, err);
}

CALL(snapshot_volume) {
    char volume_id[IM_ID_MAX];

    if (!cloud_snapshot_volume(rig->cloud, caller, id, "restored", volume_id, ret_job_id, err))
        return false;
    im_strings_add(ret_made, volume_id);
    return true;
}

static bool image_of(struct rig *rig, const struct caller *caller,
                     const struct snapshot_image_args *args, struct im_strings *ret_made,
                     char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    char image_id[IM_ID_MAX];

    if (!cloud_snapshot_image(rig->cloud, caller, args, image_id, ret_job_id, err))
        return false;
    im_strings_add(ret_made, image_id);
    return true;
}

CALL(snapshot_instance_image) {
    struct snapshot_image_args args = {
        .snapshot_id = id, .image_name = "web", .instance_only = true};

    return image_of(rig, caller, &args, ret_made, ret_job_id, err);
}

CALL(snapshot_image) {
    struct snapshot_image_args args = {
        .snapshot_id = id, .image_name = "data", .base_image = RIG_SYSTEM_IMAGE};

    return image_of(rig, caller, &args, ret_made, ret_job_id, err);
}

/* --- Ends ----------------------------------------------------------------------------------- */

#define REACHED(name) static bool name(struct rig *rig, const char *id, const char *made)

REACHED(made_stopped) {
    (void) id;
    return rig_instance_is(rig, made, INSTANCE_STOPPED) && !rig_runs(rig, made);
}

REACHED(made_running) {
    (void) id;
    return rig_instance_is(rig, made, INSTANCE_RUNNING) && rig_runs(rig, made);
}

REACHED(running) {
    (void) made;
    return rig_instance_is(rig, id, INSTANCE_RUNNING) && rig_runs(rig, id);
}

REACHED(stopped) {
    (void) made;
    return rig_instance_is(rig, id, INSTANCE_STOPPED) && !rig_runs(rig, id);
}

REACHED(resized) {
    IM_AUTO(instance_free_auto) struct instance *instance = rig_instance_row(rig, id);

    return stopped(rig, id, made) && instance->vcpus_current == 2 &&
           instance->memory_current == (int64_t) 2 * RIG_MEMORY_MIB &&
           instance->os_disk_size == (int64_t) 2 * RIG_IMAGE_GIB;
}

REACHED(was_reset) {
    IM_AUTO(instance_free_auto) struct instance *instance = rig_instance_row(rig, id);

    (void) made; /* where its last step failed it is off, with the new disk */
    return instance->transition_status == TRANSITION_NONE && instance->generation > 0 &&
           !im_str_empty(instance->passwd_hash);
}

REACHED(has_password) {
    IM_AUTO(instance_free_auto) struct instance *instance = rig_instance_row(rig, id);

    (void) made;
    return instance->transition_status == TRANSITION_NONE && !im_str_empty(instance->passwd_hash);
}

REACHED(captured) { return stopped(rig, id, made) && rig_image_is(rig, made, IMAGE_AVAILABLE); }

/* In a layer above that of the capture. */
REACHED(captured_sealed) {
    IM_AUTO(free_auto)
    char *sql = im_printf("SELECT COUNT(*) FROM repairs r JOIN images i ON i.image_id ="
                          " r.resource_id AND i.layer_id = r.made_id WHERE i.image_id = '%s'"
                          " AND r.status = 'applied' AND r.undoable = 0 AND r.changes IS NULL",
                          made);

    return captured(rig, id, made) && rig_number(rig, sql) == 1;
}

REACHED(captured_trimmed) {
    IM_AUTO(image_free_auto) struct image *image = rig_image_row(rig, made);

    return captured(rig, id, made) && image->trimmed_bytes == RIG_FREED;
}

REACHED(cloned) { return running(rig, id, made) && made_running(rig, id, made); }

REACHED(terminated) {
    (void) made;
    return rig_instance_is(rig, id, INSTANCE_TERMINATED) && !rig_runs(rig, id);
}

REACHED(ceased) {
    (void) made;
    return rig_instance_is(rig, id, INSTANCE_CEASED) && !rig_runs(rig, id);
}

REACHED(image_made) {
    (void) id;
    return rig_image_is(rig, made, IMAGE_AVAILABLE);
}

REACHED(image_deleted) {
    (void) made;
    return rig_image_is(rig, id, IMAGE_DELETED);
}

REACHED(image_ceased) {
    (void) made;
    return rig_image_is(rig, id, IMAGE_CEASED);
}

REACHED(exported) {
    IM_AUTO(image_export_free_auto) struct image_export *row = rig_export_row(rig, made);
    IM_AUTO(free_auto) char *path = im_printf("%s/exports/%s", rig->folder, made);
    struct stat st = {0};

    return row != NULL && row->status == EXPORT_AVAILABLE && im_str_equal(row->image_id, id) &&
           row->expire_time > im_now_s() && stat(path, &st) == 0 && st.st_size == row->size_bytes;
}

REACHED(boot_tested) {
    IM_AUTO(boot_test_free_auto) struct boot_test *row = rig_boot_test_row(rig, made);
    IM_AUTO(free_auto) char *path = im_printf("%s/boot-tests/%s.serial", rig->folder, made);
    struct stat st = {0};

    return row != NULL && row->status == BOOT_TEST_DONE && im_str_equal(row->resource_id, id) &&
           im_str_equal(row->verdict, "boots") && im_str_equal(row->reason, "login_prompt") &&
           strstr(row->timeline, "\"login\"") != NULL && stat(path, &st) == 0 &&
           st.st_size == row->serial_bytes;
}

/* The layer that an image, instance or volume has. */
static char *layer_of(struct rig *rig, const char *id) {
    IM_AUTO(image_free_auto) struct image *image = rig_image_row(rig, id);
    IM_AUTO(instance_free_auto) struct instance *instance = rig_instance_row(rig, id);
    IM_AUTO(volume_free_auto) struct volume *volume = rig_volume_row(rig, id);

    return im_strdup(image      ? image->layer_id
                     : instance ? instance->layer_id
                     : volume   ? volume->layer_id
                                : "");
}

REACHED(repaired) {
    IM_AUTO(free_auto) char *layer_id = layer_of(rig, id);
    IM_AUTO(repair_free_auto) struct repair *row = rig_repair_row(rig, made);

    return row != NULL && row->status == REPAIR_APPLIED && row->undoable == 1 &&
           im_str_equal(row->resource_id, id) && im_str_equal(row->made_id, layer_id) &&
           !im_str_equal(row->layer_id, layer_id) && strstr(row->changes, "+new") != NULL;
}

REACHED(repair_undone) {
    IM_AUTO(free_auto) char *layer_id = layer_of(rig, id);
    IM_AUTO(free_auto)
    char *sql = im_printf("SELECT COUNT(*) FROM repairs WHERE resource_id = '%s' AND undoable = 0"
                          " AND status = 'undone' AND layer_id IS NULL AND made_id <> '%s'",
                          id, layer_id);

    (void) made; /* an answer that was lost told no id */
    return rig_number(rig, sql) == 1;
}

static bool volume_is(struct rig *rig, const char *id, enum volume_status status) {
    IM_AUTO(volume_free_auto) struct volume *volume = rig_volume_row(rig, id);

    return volume != NULL && volume->status == status && !volume->busy &&
           volume->transition_status == TRANSITION_NONE;
}

static bool snapshot_is(struct rig *rig, const char *id, enum snapshot_status status) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = rig_snapshot_row(rig, id);

    return snapshot != NULL && snapshot->status == status &&
           snapshot->transition_status == TRANSITION_NONE;
}

REACHED(volume_made) {
    (void) id;
    return volume_is(rig, made, VOLUME_AVAILABLE);
}

REACHED(volume_attached) {
    IM_AUTO(volume_free_auto) struct volume *volume = rig_volume_row(rig, id);

    (void) made;
    return volume_is(rig, id, VOLUME_IN_USE) && im_str_equal(volume->device, "/dev/vdc") &&
           im_str_equal(volume->instance_id, rig->companion);
}

REACHED(cloned_with_volume) {
    struct im_err err = {0};
    struct db_conn *conn = db_take(rig->db, &err);
    struct volume **volumes = NULL;
    size_t count = 0;
    bool has = conn != NULL && volumes_of(conn, made, &volumes, &count, &err) && count == 1 &&
               volumes[0]->status == VOLUME_IN_USE && strcmp(volumes[0]->volume_id, id) != 0;

    record_list_free(&volume_type, (void **) volumes, count);
    db_give(conn);
    return has && cloned(rig, rig->companion, made);
}

REACHED(volume_detached) {
    IM_AUTO(volume_free_auto) struct volume *volume = rig_volume_row(rig, id);

    (void) made;
    return volume_is(rig, id, VOLUME_AVAILABLE) && im_str_empty(volume->instance_id);
}

REACHED(volume_grown) {
    IM_AUTO(volume_free_auto) struct volume *volume = rig_volume_row(rig, id);

    (void) made;
    return volume_is(rig, id, volume->instance_id ? VOLUME_IN_USE : VOLUME_AVAILABLE) &&
           volume->size > 20;
}

REACHED(volume_cloned) {
    return volume_made(rig, id, made) &&
           (volume_is(rig, id, VOLUME_AVAILABLE) || volume_is(rig, id, VOLUME_IN_USE));
}

REACHED(volume_deleted) {
    (void) made;
    return volume_is(rig, id, VOLUME_DELETED);
}

REACHED(volume_ceased) {
    (void) made;
    return volume_is(rig, id, VOLUME_CEASED);
}

REACHED(point_taken) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = rig_snapshot_row(rig, made);

    (void) id;
    return snapshot_is(rig, made, SNAPSHOT_AVAILABLE) && snapshot->is_taken && snapshot->is_head &&
           snapshot->snapshot_time > 0;
}

REACHED(point_applied) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = rig_snapshot_row(rig, id);

    (void) made;
    return snapshot_is(rig, id, SNAPSHOT_AVAILABLE) && snapshot->is_head;
}

REACHED(point_deleted) {
    (void) made;
    return snapshot_is(rig, id, SNAPSHOT_DELETED);
}

REACHED(point_ceased) {
    (void) made;
    return snapshot_is(rig, id, SNAPSHOT_CEASED);
}

REACHED(point_copied) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = rig_snapshot_row(rig, id);

    (void) made;
    return snapshot_is(rig, id, SNAPSHOT_AVAILABLE) && snapshot->copy_time != 0;
}

REACHED(copy_deleted) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = rig_snapshot_row(rig, id);

    (void) made;
    return snapshot_is(rig, id, SNAPSHOT_AVAILABLE) && snapshot->copy_time == 0;
}

REACHED(point_restored) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = rig_snapshot_row(rig, id);
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(rig->db, &err);

    (void) made;
    return snapshot_is(rig, id, SNAPSHOT_AVAILABLE) && snapshot->damaged == 0 && conn != NULL &&
           layer_usable(conn, snapshot->layer_id, &err);
}

const struct rig_verb rig_verbs[] = {
    {"RunInstances, not started", ON_NOTHING, run_off, made_stopped},
    {"RunInstances", ON_NOTHING, run_on, made_running},
    {"StartInstances", ON_STOPPED, start, running},
    {"StopInstances", ON_RUNNING, stop, stopped},
    {"StopInstances by force", ON_RUNNING, stop_hard, stopped},
    {"RestartInstances", ON_RUNNING, restart, running},
    {"ResizeInstances", ON_STOPPED, resize, resized},
    {"ResetInstances", ON_RUNNING, reset, was_reset},
    {"CaptureInstance", ON_STOPPED, capture, captured},
    {"CaptureInstance, sealed", ON_STOPPED, capture_sealed, captured_sealed},
    {"CaptureInstance with trim", ON_STOPPED, capture_trim, captured_trimmed},
    {"CaptureInstance with trim, sealed", ON_STOPPED, capture_both, captured_sealed},
    {"CloneInstances", ON_RUNNING, clone_one, cloned},
    {"TerminateInstances", ON_RUNNING, terminate, terminated},
    {"TerminateInstances at once", ON_RUNNING, terminate_at_once, ceased},
    {"CeaseInstances", ON_TERMINATED, cease, ceased},
    {"AttachKeyPairs", ON_RUNNING, attach, running},
    {"DetachKeyPairs", ON_RUNNING, detach, running},
    {"ResetPassword", ON_RUNNING, password, has_password},
    {"ResetPassword of a stopped instance", ON_STOPPED, password_of_seed, has_password},
    {"ResetPassword without cloud-init", ON_STOPPED, password_of_disk, has_password},
    {"AttachKeyPairs without cloud-init", ON_STOPPED, attach_to_disk, stopped},
    {"CloneImages", ON_IMAGE, image_clone, image_made},
    {"DeleteImages", ON_IMAGE, image_delete, image_deleted},
    {"DeleteImages at once", ON_IMAGE, image_cease, image_ceased},
    {"ImportImage", ON_NOTHING, image_import, image_made},
    {"ExportImage", ON_IMAGE, image_export, exported},
    {"BootTestImage", ON_IMAGE, boot_test, boot_tested},
    {"BootTestImage of a point", ON_POINT, boot_test, boot_tested},
    {"RepairImage", ON_IMAGE, repair, repaired},
    {"RepairImage of a volume", ON_VOLUME, repair, repaired},
    {"RepairImage of a stopped instance's volume", ON_ATTACHED_OFF, repair, repaired},
    {"RepairImage of a stopped instance", ON_STOPPED, repair, repaired},
    {"UndoImageRepair", ON_REPAIRED_IMAGE, repair_undo, repair_undone},
    {"UndoImageRepair of a volume", ON_REPAIRED_VOLUME, repair_undo, repair_undone},
    {"CreateVolumes", ON_NOTHING, volume_create, volume_made},
    {"AttachVolumes", ON_VOLUME, volume_attach, volume_attached},
    {"CloneInstances with a volume", ON_ATTACHED, clone_with_volume, cloned_with_volume},
    {"DetachVolumes", ON_ATTACHED, volume_detach, volume_detached},
    {"ResizeVolumes", ON_VOLUME, volume_resize, volume_grown},
    {"ResizeVolumes while attached", ON_ATTACHED, volume_resize, volume_grown},
    {"CloneVolumes", ON_VOLUME, volume_clone, volume_cloned},
    {"CloneVolumes while attached", ON_ATTACHED, volume_clone, volume_cloned},
    {"CloneVolumes of a stopped instance's", ON_ATTACHED_OFF, volume_clone, volume_cloned},
    {"DeleteVolumes", ON_VOLUME, volume_delete, volume_deleted},
    {"DeleteVolumes at once", ON_VOLUME, volume_delete_at_once, volume_ceased},
    {"CreateSnapshots of a stopped instance", ON_STOPPED, snapshot_create, point_taken},
    {"CreateSnapshots of a running instance", ON_RUNNING, snapshot_create, point_taken},
    {"CreateSnapshots of a volume", ON_VOLUME, snapshot_create, point_taken},
    {"CreateSnapshots of a stopped instance's volume", ON_ATTACHED_OFF, snapshot_create,
     point_taken},
    {"CreateSnapshots of a machine with its volume", ON_ATTACHED, snapshot_both, point_taken},
    {"ApplySnapshots to a running instance", ON_POINT, snapshot_apply, point_applied},
    {"ApplySnapshots to a volume", ON_VOLUME_POINT, snapshot_apply, point_applied},
    {"DeleteSnapshots", ON_VOLUME_POINT, snapshot_delete, point_deleted},
    {"DeleteSnapshots at once", ON_POINT, snapshot_delete_at_once, point_ceased},
    {"CreateVolumeFromSnapshot", ON_VOLUME_POINT, snapshot_volume, volume_made},
    {"CaptureInstanceFromSnapshot", ON_POINT, snapshot_instance_image, image_made},
    {"CaptureImageFromSnapshot", ON_VOLUME_POINT, snapshot_image, image_made},
    {"CopySnapshots", ON_POINT, snapshot_copy, point_copied},
    {"DeleteSnapshotCopies", ON_COPIED_POINT, copy_delete, copy_deleted},
    {"RestoreSnapshots of a lost point", ON_LOST_POINT, snapshot_restore, point_restored},
    {"RestoreSnapshots of a deleted point", ON_CEASED_POINT, snapshot_restore, point_restored},
    {NULL, ON_NOTHING, NULL, NULL},
};

/* --- Subjects ------------------------------------------------------------------------------- */

static void subject_image(struct rig *rig, const struct caller *caller, char ret_id[IM_ID_MAX]) {
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    char job_id[IM_JOB_ID_MAX];
    struct im_err err = {0};

    if (image_clone(rig, caller, RIG_SYSTEM_IMAGE, &made, job_id, &err) && rig_done(rig, job_id))
        snprintf(ret_id, IM_ID_MAX, "%s", made.items[0]);
    else
        test_note("an image to try on: %s", err.text);
}

/* The first thing that a verb makes; "" when it fails. */
static void subject_made(struct rig *rig, const struct caller *caller, const char *id,
                         bool (*call)(struct rig *rig, const struct caller *caller, const char *id,
                                      struct im_strings *ret_made, char ret_job_id[IM_JOB_ID_MAX],
                                      struct im_err *err),
                         char ret_id[IM_ID_MAX]) {
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    char job_id[IM_JOB_ID_MAX];
    struct im_err err = {0};

    if (!call(rig, caller, id, &made, job_id, &err) || !rig_done(rig, job_id))
        test_note("something to try on: %s", err.text);
    else if (made.count > 0)
        snprintf(ret_id, IM_ID_MAX, "%s", made.items[0]);
}

/* Its layer is gone from the pool, and the record knows. */
struct loss {
    const char *layer_id;
};

static bool lose_body(struct db_conn *conn, void *arg, struct im_err *err) {
    return damage_set(conn, ((struct loss *) arg)->layer_id, "it is lost", err);
}

static void lose(struct rig *rig, const char *snapshot_id) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = rig_snapshot_row(rig, snapshot_id);
    struct im_err err = {0};
    struct loss loss = {snapshot ? snapshot->layer_id : ""};

    if (!storage_remove(rig->pool, loss.layer_id, &err) ||
        !cloud_transact(rig->cloud, lose_body, &loss, &err))
        test_note("a layer to lose: %s", err.text);
}

static void subject_copied(struct rig *rig, const struct caller *caller, enum subject subject,
                           char id[IM_ID_MAX]) {
    char nothing[IM_ID_MAX] = "";

    subject_made(rig, caller, id, snapshot_copy, nothing);
    if (subject == ON_LOST_POINT)
        lose(rig, id);
    if (subject == ON_CEASED_POINT)
        subject_made(rig, caller, id, snapshot_delete_at_once, nothing);
}

static void subject_volume(struct rig *rig, const struct caller *caller, enum subject subject,
                           char ret_id[IM_ID_MAX]) {
    char volume_id[IM_ID_MAX] = "", nothing[IM_ID_MAX];

    if (subject < ON_VOLUME_POINT)
        rig_instance(rig, caller, RIG_SYSTEM_IMAGE, subject != ON_ATTACHED_OFF, rig->companion);
    if (subject == ON_POINT) {
        subject_made(rig, caller, rig->companion, snapshot_create, ret_id);
        return;
    }
    subject_made(rig, caller, NULL, volume_create, volume_id);
    if (subject == ON_ATTACHED || subject == ON_ATTACHED_OFF)
        subject_made(rig, caller, volume_id, volume_attach, nothing);
    if (subject == ON_REPAIRED_VOLUME)
        subject_made(rig, caller, volume_id, repair, nothing);
    if (subject >= ON_VOLUME_POINT)
        subject_made(rig, caller, volume_id, snapshot_create, ret_id);
    else
        snprintf(ret_id, IM_ID_MAX, "%s", volume_id);
    if (subject > ON_VOLUME_POINT)
        subject_copied(rig, caller, subject, ret_id);
}

void rig_subject(struct rig *rig, const struct caller *caller, enum subject subject,
                 char ret_id[IM_ID_MAX]) {
    struct im_err err = {0};
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    char job_id[IM_JOB_ID_MAX], nothing[IM_ID_MAX];

    ret_id[0] = rig->companion[0] = '\0';
    if (subject == ON_IMAGE || subject == ON_REPAIRED_IMAGE)
        subject_image(rig, caller, ret_id);
    else if (subject == ON_SYSTEM_IMAGE)
        snprintf(ret_id, IM_ID_MAX, "%s", RIG_SYSTEM_IMAGE);
    else if (subject >= ON_VOLUME && subject < ON_NOTHING)
        subject_volume(rig, caller, subject, ret_id);
    else if (subject != ON_NOTHING)
        rig_instance(rig, caller, RIG_SYSTEM_IMAGE, subject == ON_RUNNING, ret_id);
    if (subject == ON_REPAIRED_IMAGE)
        subject_made(rig, caller, ret_id, repair, nothing);
    if (subject == ON_TERMINATED &&
        !(terminate(rig, caller, ret_id, &made, job_id, &err) && rig_done(rig, job_id)))
        test_note("a terminated instance to try on: %s", err.text);
}

/* The way each kind is given up for good. */
static bool give_up(struct rig *rig, const char *id, char job_id[IM_JOB_ID_MAX],
                    struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    if (im_starts_with(id, "exp-")) {
        ONE(id);

        job_id[0] = '\0';
        return cloud_image_exports_delete(rig->cloud, &rig->admin, &ids, err);
    }
    if (im_starts_with(id, "bt-") || im_starts_with(id, "rep-")) {
        job_id[0] = '\0';
        return true;
    }
    if (im_starts_with(id, "vol-"))
        return volume_delete_at_once(rig, &rig->admin, id, &made, job_id, err);
    if (im_starts_with(id, "ss-"))
        return snapshot_delete_at_once(rig, &rig->admin, id, &made, job_id, err);
    instance = rig_instance_row(rig, id);
    if (instance == NULL)
        return image_cease(rig, &rig->admin, id, &made, job_id, err);
    return instance->status == INSTANCE_TERMINATED
               ? cease(rig, &rig->admin, id, &made, job_id, err)
               : terminate_at_once(rig, &rig->admin, id, &made, job_id, err);
}

void rig_discard(struct rig *rig, const char *id) {
    char job_id[IM_JOB_ID_MAX];
    struct im_err err = {0};

    if (!im_str_empty(id) && strcmp(id, RIG_SYSTEM_IMAGE) != 0 && give_up(rig, id, job_id, &err) &&
        job_id[0] != '\0')
        (void) rig_done(rig, job_id);
}

static void empty_bin(struct rig *rig) {
    int64_t patience = rig->cloud->config.recycle_s;
    struct im_err err = {0};

    rig->cloud->config.recycle_s = -1;
    if (!recycle_empty(rig->cloud, &err))
        test_note("the recycle bin: %s", err.text);
    rig->cloud->config.recycle_s = patience;
}

void rig_sweep(struct rig *rig) {
    /* In this order: volumes are free once their machines are gone. */
    static const char *const lists[] = {
        "SELECT instance_id FROM instances WHERE status <> 'ceased'",
        "SELECT volume_id FROM volumes WHERE status NOT IN ('ceased', 'deleted')",
        "SELECT snapshot_id FROM snapshots WHERE status NOT IN ('ceased', 'deleted')",
        "SELECT export_id FROM image_exports WHERE status = 'available'",
        ("SELECT image_id FROM images WHERE status NOT IN ('ceased', 'deleted')"
         " AND owner <> 'system'"),
    };

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        IM_AUTO(im_strings_done) struct im_strings ids = {0};

        rig_texts(rig, lists[i], &ids);
        for (size_t j = 0; j < ids.count; j++)
            rig_discard(rig, ids.items[j]);
    }
    empty_bin(rig);
}
