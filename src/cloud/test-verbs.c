/* SPDX-License-Identifier: Apache-2.0 */
/* The table of verbs for tests. */
#include "test-verbs.h"

#include <stdio.h>
#include <string.h>

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

CALL(capture) {
    char image_id[IM_ID_MAX];

    if (!cloud_image_capture(rig->cloud, caller, id, "captured", image_id, ret_job_id, err))
        return false;
    im_strings_add(ret_made, image_id);
    return true;
}

CALL(clone_one) {
    ONE(id);
    return cloud_instances_clone(rig->cloud, caller, &ids, NULL, ret_made, ret_job_id, err);
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

REACHED(captured) { return stopped(rig, id, made) && rig_image_is(rig, made, IMAGE_AVAILABLE); }

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
    {"CloneInstances", ON_RUNNING, clone_one, cloned},
    {"TerminateInstances", ON_RUNNING, terminate, terminated},
    {"TerminateInstances at once", ON_RUNNING, terminate_at_once, ceased},
    {"CeaseInstances", ON_TERMINATED, cease, ceased},
    {"AttachKeyPairs", ON_RUNNING, attach, running},
    {"DetachKeyPairs", ON_RUNNING, detach, running},
    {"CloneImages", ON_IMAGE, image_clone, image_made},
    {"DeleteImages", ON_IMAGE, image_delete, image_deleted},
    {"DeleteImages at once", ON_IMAGE, image_cease, image_ceased},
    {"ImportImage", ON_NOTHING, image_import, image_made},
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

void rig_subject(struct rig *rig, const struct caller *caller, enum subject subject,
                 char ret_id[IM_ID_MAX]) {
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    char job_id[IM_JOB_ID_MAX];
    struct im_err err = {0};

    ret_id[0] = '\0';
    if (subject == ON_IMAGE)
        subject_image(rig, caller, ret_id);
    else if (subject == ON_SYSTEM_IMAGE)
        snprintf(ret_id, IM_ID_MAX, "%s", RIG_SYSTEM_IMAGE);
    else if (subject != ON_NOTHING)
        rig_instance(rig, caller, RIG_SYSTEM_IMAGE, subject == ON_RUNNING, ret_id);
    if (subject == ON_TERMINATED &&
        !(terminate(rig, caller, ret_id, &made, job_id, &err) && rig_done(rig, job_id)))
        test_note("a terminated instance to try on: %s", err.text);
}

void rig_discard(struct rig *rig, const char *id) {
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    char job_id[IM_JOB_ID_MAX];
    struct im_err err = {0};

    if (im_str_empty(id) || strcmp(id, RIG_SYSTEM_IMAGE) == 0)
        return;
    instance = rig_instance_row(rig, id);
    if (instance == NULL ? image_cease(rig, &rig->admin, id, &made, job_id, &err)
                         : (instance->status == INSTANCE_TERMINATED
                                ? cease(rig, &rig->admin, id, &made, job_id, &err)
                                : terminate_at_once(rig, &rig->admin, id, &made, job_id, &err)))
        (void) rig_done(rig, job_id);
}

void rig_sweep(struct rig *rig) {
    static const char *const lists[] = {
        "SELECT instance_id FROM instances WHERE status <> 'ceased'",
        "SELECT image_id FROM images WHERE status NOT IN ('ceased', 'deleted')"
        " AND owner <> 'system'",
    };

    for (size_t i = 0; i < 2; i++) {
        IM_AUTO(im_strings_done) struct im_strings ids = {0};

        rig_texts(rig, lists[i], &ids);
        for (size_t j = 0; j < ids.count; j++)
            rig_discard(rig, ids.items[j]);
    }
}
