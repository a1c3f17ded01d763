/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs as their users call them, from an image to machines and back to an image: ends, states,
 * refusals, limits and names. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "test-verbs.h"

static struct rig rig;

#define JOB char job_id[IM_JOB_ID_MAX] = ""
#define RUN(args) cloud_instances_run(rig.cloud, &rig.alice, (args), &made, job_id, &err)

/* --- Each verb on what it is for, and in every other state ---------------------------------- */

/* A lock that outlives its job would make what it is on useless. */
static int64_t locked(void) {
    return rig_number(&rig, "SELECT COUNT(*) FROM instances WHERE transition_status <> ''") +
           rig_number(&rig, "SELECT COUNT(*) FROM volumes WHERE busy <> 0");
}

static void verb_does(const struct rig_verb *verb) {
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    struct im_err err = {0};
    char id[IM_ID_MAX];
    bool fine;
    JOB;

    rig_subject(&rig, &rig.alice, verb->subject, id);
    fine = verb->call(&rig, &rig.alice, id, &made, job_id, &err) && rig_done(&rig, job_id) &&
           verb->reached(&rig, id, made.count > 0 ? made.items[0] : "") && locked() == 0;
    if (!check(fine, "%s ends where it should", verb->name))
        test_note("%s", err.text);
    rig_sweep(&rig);
}

static void verbs_do(void) {
    for (const struct rig_verb *verb = rig_verbs; verb->name != NULL; verb++)
        verb_does(verb);
    rig_check_clean(&rig, "after every verb");
}

/* The table of the model decides: what it does not allow is refused, without a job, and nothing
 * changes. */
static void verb_refuses(const struct rig_verb *verb, enum subject subject, const char *id) {
    static const enum instance_status statuses[] = {
        [ON_RUNNING] = INSTANCE_RUNNING,
        [ON_STOPPED] = INSTANCE_STOPPED,
        [ON_TERMINATED] = INSTANCE_TERMINATED,
    };
    IM_AUTO(free_auto) char *action = im_strndup(verb->name, strcspn(verb->name, " ,"));
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    const struct verb_rule *rule = verb_rule_find(instance_rules, action);
    int64_t jobs = rig_number(&rig, "SELECT COUNT(*) FROM jobs");
    JOB;

    if (rule == NULL || verb->subject >= ON_IMAGE || (rule->allowed & 1u << statuses[subject]))
        return;
    check_err(verb->call(&rig, &rig.alice, id, &made, job_id, &err), IM_WRONG_STATE,
              "%s is refused for an instance that is %s", verb->name,
              instance_status_word(statuses[subject]));
    check(rig_number(&rig, "SELECT COUNT(*) FROM jobs") == jobs &&
              rig_instance_is(&rig, id, statuses[subject]),
          "and leaves it as it is");
}

static void verbs_refuse(void) {
    for (enum subject subject = ON_RUNNING; subject <= ON_TERMINATED; subject++) {
        char id[IM_ID_MAX];

        rig_subject(&rig, &rig.alice, subject, id);
        for (const struct rig_verb *verb = rig_verbs; verb->name != NULL; verb++)
            verb_refuses(verb, subject, id);
        rig_discard(&rig, id);
    }
    rig_check_clean(&rig, "after every refusal");
}

/* --- From an image to machines and back to an image ----------------------------------------- */

/* `ret_made` is the first id that it made; "" when it makes none. */
static bool step(const char *name, const char *id, char ret_made[IM_ID_MAX]) {
    for (const struct rig_verb *verb = rig_verbs; verb->name != NULL; verb++) {
        IM_AUTO(im_strings_done) struct im_strings made = {0};
        struct im_err err = {0};
        bool fine;
        JOB;

        if (strcmp(verb->name, name) != 0)
            continue;
        fine = verb->call(&rig, &rig.alice, id, &made, job_id, &err) && rig_done(&rig, job_id);
        snprintf(ret_made, IM_ID_MAX, "%s", made.count > 0 ? made.items[0] : "");
        return check(fine && verb->reached(&rig, id, ret_made), "%s in a whole life: %s", name,
                     err.text);
    }
    return check(false, "there is no verb %s", name);
}

static void whole_life(void) {
    char first[IM_ID_MAX], image[IM_ID_MAX], second[IM_ID_MAX], third[IM_ID_MAX], made[IM_ID_MAX];

    rig_instance(&rig, &rig.alice, RIG_SYSTEM_IMAGE, true, first);
    step("RestartInstances", first, made);
    step("StopInstances", first, made);
    step("ResizeInstances", first, made);
    step("StartInstances", first, made);
    step("ResetInstances", first, made);
    step("StopInstances by force", first, made);
    step("CaptureInstance", first, image);
    step("TerminateInstances", first, made);
    step("CeaseInstances", first, made);
    rig_instance(&rig, &rig.alice, image, true, second);
    check(rig_runs(&rig, second), "a machine runs from what was captured, its origin is gone");
    step("CloneInstances", second, third);
    step("TerminateInstances at once", third, made);
    step("DeleteImages at once", image, made);
    check(rig_runs(&rig, second), "and goes on when its image is deleted");
    step("RestartInstances", second, made);
    step("TerminateInstances at once", second, made);
    rig_check_clean(&rig, "after a whole life");
    check(rig_machines(&rig) == 0 && rig_number(&rig, "SELECT COUNT(*) FROM layers") == 1,
          "only the system image's layer is left");
}

/* A capture inherits, and its depth grows with each generation. */
static void capture_inherits(void) {
    IM_AUTO(image_free_auto) struct image *image = NULL;
    char id[IM_ID_MAX], made[IM_ID_MAX];

    rig_subject(&rig, &rig.alice, ON_STOPPED, id);
    step("ResizeInstances", id, made);
    if (!step("CaptureInstance", id, made))
        return;
    image = rig_image_row(&rig, made);
    check(im_str_equal(image->owner, rig.alice.user_id) &&
              im_str_equal(image->visibility, "private") && im_str_equal(image->provider, "self") &&
              im_str_equal(image->os_family, "debian") &&
              im_str_equal(image->default_user, "root") &&
              im_str_equal(image->root_id, RIG_SYSTEM_IMAGE) && im_str_empty(image->family) &&
              image->size == (int64_t) 2 * RIG_IMAGE_GIB &&
              im_str_equal(image->image_name, "captured"),
          "a captured image is its owner's and inherits the rest");
    rig_discard(&rig, id);
    rig_discard(&rig, made);
    rig_check_clean(&rig, "after a capture");
}

/* --- RunInstances --------------------------------------------------------------------------- */

/* One change to good arguments, and what becomes of it. */
static void run_refused(enum im_code code, const char *what,
                        void (*change)(struct instance_run_args *args)) {
    struct instance_run_args args = rig_run_args(RIG_SYSTEM_IMAGE);
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    JOB;

    change(&args);
    check_err(RUN(&args), code, "RunInstances refuses %s", what);
    check(made.count == 0, "and names no instance");
}

#define CHANGE(name, ...)                                                                          \
    static void name(struct instance_run_args *args) { __VA_ARGS__; }
CHANGE(no_image, args->image_id = NULL)
CHANGE(strange_image, args->image_id = "img-nothing0")
CHANGE(no_size, args->cpu = -1)
CHANGE(strange_type, args->cpu = args->memory = -1; args->instance_type = "c99m99")
CHANGE(many_cpus, args->cpu = 65)
CHANGE(much_memory, args->memory = 65537)
CHANGE(little_memory, args->memory = 63)
CHANGE(many, args->count = 201)
CHANGE(small_disk, args->os_disk_size = RIG_IMAGE_GIB - 1)
CHANGE(large_disk, args->os_disk_size = RIG_DISK_MAX_GIB + 1)
CHANGE(bad_hostname, args->hostname = "two words")
CHANGE(dash_hostname, args->hostname = "-x")
CHANGE(bad_name, args->instance_name = "bell\a")
CHANGE(no_utf8, args->instance_name = "\xc3(")
CHANGE(bad_topology, args->cpu_topology = "1,2,2")
CHANGE(weak_password, args->login_mode = "passwd"; args->login_passwd = "abcdefgh")
CHANGE(no_password, args->login_mode = "passwd")
CHANGE(no_keypair, args->login_mode = "keypair")
CHANGE(strange_keypair, args->login_mode = "keypair"; args->login_keypair = "kp-nothing0")
CHANGE(strange_mode, args->login_mode = "shout")
CHANGE(bad_userdata, args->need_userdata = 1; args->userdata_value = "%%%")
CHANGE(bad_userdata_type, args->need_userdata = 1; args->userdata_value = "aGk=";
       args->userdata_type = "zip")
static struct im_strings strange_vxnet;
CHANGE(bad_vxnet, args->vxnets = &strange_vxnet)

static void run_limits(void) {
    strange_vxnet = rig_ids("vxnet-other");
    run_refused(IM_BAD_MESSAGE, "no image", no_image);
    run_refused(IM_NOT_FOUND, "an unknown image", strange_image);
    run_refused(IM_BAD_MESSAGE, "memory without cpu", no_size);
    run_refused(IM_NOT_FOUND, "an unknown type", strange_type);
    run_refused(IM_BAD_MESSAGE, "too many CPUs", many_cpus);
    run_refused(IM_BAD_MESSAGE, "too much memory", much_memory);
    run_refused(IM_BAD_MESSAGE, "too little memory", little_memory);
    run_refused(IM_BAD_MESSAGE, "201 instances", many);
    run_refused(IM_BAD_MESSAGE, "a disk smaller than the image", small_disk);
    run_refused(IM_BAD_MESSAGE, "a disk beyond the limit", large_disk);
    run_refused(IM_BAD_MESSAGE, "a host name of two words", bad_hostname);
    run_refused(IM_BAD_MESSAGE, "a host name with a dash in front", dash_hostname);
    run_refused(IM_BAD_MESSAGE, "a name that rings", bad_name);
    run_refused(IM_BAD_MESSAGE, "a name that is not UTF-8", no_utf8);
    run_refused(IM_BAD_MESSAGE, "a topology of other CPUs", bad_topology);
    run_refused(IM_BAD_MESSAGE, "a weak password", weak_password);
    run_refused(IM_BAD_MESSAGE, "passwd without one", no_password);
    run_refused(IM_BAD_MESSAGE, "keypair without one", no_keypair);
    run_refused(IM_NOT_FOUND, "an unknown key pair", strange_keypair);
    run_refused(IM_BAD_MESSAGE, "an unknown login mode", strange_mode);
    run_refused(IM_BAD_MESSAGE, "user data that is not base64", bad_userdata);
    run_refused(IM_BAD_MESSAGE, "user data of an unknown type", bad_userdata_type);
    run_refused(IM_NOT_FOUND, "an unknown vxnet", bad_vxnet);
    im_strings_done(&strange_vxnet);
    check(rig_number(&rig, "SELECT COUNT(*) FROM instances WHERE status <> 'ceased'") == 0,
          "nothing of it was made");
    rig_check_clean(&rig, "after refused runs");
}

/* Many from one call: ids in order, names and host names, one disk each. */
static void run_many(void) {
    struct instance_run_args args = rig_run_args(RIG_SYSTEM_IMAGE);
    IM_AUTO(im_strings_done) struct im_strings made = {0}, vxnets = rig_ids(VXNET_BASIC);
    IM_AUTO(instance_free_auto) struct instance *third = NULL;
    struct im_err err = {0};
    JOB;

    args.count = 5;
    args.hostname = args.instance_name = "web";
    args.vxnets = &vxnets;
    args.instance_type = "c1m1";
    args.cpu = args.memory = -1;
    if (!check(RUN(&args) && made.count == 5 && rig_done(&rig, job_id),
               "five instances from one call: %s", err.text))
        return;
    third = rig_instance_row(&rig, made.items[2]);
    check(im_str_equal(third->hostname, "web-3") && im_str_equal(third->instance_name, "web") &&
              im_str_equal(third->instance_type, "c1m1") && third->vcpus_current == 1 &&
              third->memory_current == 1024 && im_str_equal(third->zone_id, "test1"),
          "the third is web-3, with the CPUs and memory of its type");
    check(rig_machines(&rig) == 5 && rig_number(&rig, "SELECT COUNT(*) FROM nics") == 5 &&
              rig_number(&rig, "SELECT COUNT(DISTINCT ssh_port) FROM nics") == 5 &&
              rig_number(&rig, "SELECT COUNT(*) FROM layers WHERE state = 'head'") == 5,
          "each has a machine, a disk and a port of its own");
    check_ok(cloud_instances_terminate(rig.cloud, &rig.alice, &made, true, job_id, &err),
             "all five are terminated by one call");
    check(rig_done(&rig, job_id), "which is one job");
    rig_check_clean(&rig, "after five");
}

/* One bad member refuses the whole batch. */
static void batch_whole(void) {
    char running[IM_ID_MAX], stopped[IM_ID_MAX];
    IM_AUTO(im_strings_done) struct im_strings ids = {0}, none = {0};
    JOB;

    rig_subject(&rig, &rig.alice, ON_RUNNING, running);
    rig_subject(&rig, &rig.alice, ON_STOPPED, stopped);
    im_strings_add(&ids, stopped);
    im_strings_add(&ids, running);
    check_err(cloud_instances_start(rig.cloud, &rig.alice, &ids, job_id, &err), IM_WRONG_STATE,
              "a batch with one that runs already is refused");
    check(rig_instance_is(&rig, stopped, INSTANCE_STOPPED), "and the other is left alone");
    check_err(cloud_instances_start(rig.cloud, &rig.alice, &none, job_id, &err), IM_BAD_MESSAGE,
              "no instance at all is refused");
    im_strings_done(&ids);
    for (int i = 0; i < 3; i++)
        im_strings_add(&ids, stopped);
    check_ok(cloud_instances_start(rig.cloud, &rig.alice, &ids, job_id, &err),
             "the same one three times counts once");
    check(rig_done(&rig, job_id) && rig_runs(&rig, stopped), "and is started");
    rig_discard(&rig, running);
    rig_discard(&rig, stopped);
}

/* --- Sizes ---------------------------------------------------------------------------------- */

static void resize_limits(void) {
    struct instance_resize_args shrink = {.os_disk_size = RIG_IMAGE_GIB - 1},
                                grow = {.os_disk_size = RIG_DISK_MAX_GIB + 1}, nothing = {0},
                                type = {.instance_type = "c2m4"}, strange = {.instance_type = "x"};
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    char id[IM_ID_MAX];
    JOB;

    rig_subject(&rig, &rig.alice, ON_STOPPED, id);
    {
        IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(id);

        check_err(cloud_instances_resize(rig.cloud, &rig.alice, &ids, &shrink, job_id, &err),
                  IM_BAD_MESSAGE, "a disk does not shrink");
        check_err(cloud_instances_resize(rig.cloud, &rig.alice, &ids, &grow, job_id, &err),
                  IM_BAD_MESSAGE, "nor grow beyond the limit");
        check_err(cloud_instances_resize(rig.cloud, &rig.alice, &ids, &nothing, job_id, &err),
                  IM_BAD_MESSAGE, "a resize to nothing is refused");
        check_err(cloud_instances_resize(rig.cloud, &rig.alice, &ids, &strange, job_id, &err),
                  IM_NOT_FOUND, "so is an unknown type");
        check_ok(cloud_instances_resize(rig.cloud, &rig.alice, &ids, &type, job_id, &err),
                 "a type is a size");
    }
    check(rig_done(&rig, job_id), "and is taken over");
    instance = rig_instance_row(&rig, id);
    check(instance->vcpus_current == 2 && instance->memory_current == 4096 &&
              im_str_equal(instance->instance_type, "c2m4") &&
              instance->os_disk_size == RIG_IMAGE_GIB,
          "two CPUs, 4 GiB, the disk as before");
    rig_discard(&rig, id);
}

/* --- Images --------------------------------------------------------------------------------- */

static void image_verbs(void) {
    IM_AUTO(im_strings_done) struct im_strings clones = {0}, none = {0}, gone = {0};
    IM_AUTO(image_free_auto) struct image *image = NULL;
    char id[IM_ID_MAX];
    struct im_err err = {0};
    JOB;

    rig_subject(&rig, &rig.alice, ON_IMAGE, id);
    check_ok(cloud_image_modify(rig.cloud, &rig.alice, id, "named", "described", &err),
             "an image takes name and description");
    check_ok(cloud_image_modify(rig.cloud, &rig.alice, id, NULL, "", &err),
             "what is not given stays, what is empty is emptied");
    image = rig_image_row(&rig, id);
    check(im_str_equal(image->image_name, "named") && im_str_empty(image->description) &&
              image->status == IMAGE_AVAILABLE && im_str_equal(image->owner, rig.alice.user_id),
          "the name stayed, the description went");
    check_err(cloud_image_modify(rig.cloud, &rig.alice, id, "a\nb\x01", NULL, &err), IM_BAD_MESSAGE,
              "a name with control characters is refused");
    check_err(cloud_image_clone(rig.cloud, &rig.alice, id, 101, NULL, &none, job_id, &err),
              IM_BAD_MESSAGE, "101 clones are refused");
    check_ok(cloud_image_clone(rig.cloud, &rig.alice, id, 3, NULL, &clones, job_id, &err),
             "three clones");
    check(clones.count == 3 && rig_done(&rig, job_id), "are one job");
    rig_discard(&rig, id);
    check_err(cloud_image_clone(rig.cloud, &rig.alice, id, 1, NULL, &none, job_id, &err),
              IM_WRONG_STATE, "a ceased image is not cloned");
    gone = rig_ids(id);
    check_err(cloud_images_delete(rig.cloud, &rig.alice, &gone, false, job_id, &err),
              IM_WRONG_STATE, "nor deleted again");
    check_ok(cloud_images_delete(rig.cloud, &rig.alice, &clones, true, job_id, &err),
             "the clones do not need it");
    check(rig_done(&rig, job_id), "and go as well");
    (void) err;
    rig_check_clean(&rig, "after images");
}

/* The recycle bin: a deleted image runs nothing; after its time it is gone for good. */
static void recycle_bin(void) {
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    char image[IM_ID_MAX], instance[IM_ID_MAX], nothing[IM_ID_MAX];
    struct instance_run_args args;
    struct im_err err = {0};
    JOB;

    rig_subject(&rig, &rig.alice, ON_IMAGE, image);
    args = rig_run_args(image);
    rig_subject(&rig, &rig.alice, ON_TERMINATED, instance);
    step("DeleteImages", image, nothing);
    check_err(RUN(&args), IM_WRONG_STATE, "no instance from a deleted image");
    {
        IM_AUTO(db_give_auto) struct db_conn *conn = db_take(rig.db, &err);
        int64_t changed = 0;

        check(db_exec(conn, &changed, &err,
                      "UPDATE images SET status_time = 1 WHERE status = 'deleted'", "") &&
                  changed > 0 &&
                  db_exec(conn, &changed, &err,
                          "UPDATE instances SET status_time = 1 WHERE status = 'terminated'", "") &&
                  changed > 0,
              "years go by");
    }
    rig_round(&rig);
    for (int64_t end = im_mono_ms() + RIG_WAIT_MS; im_mono_ms() < end; im_sleep_ms(20)) {
        IM_AUTO(image_free_auto) struct image *row = rig_image_row(&rig, image);
        IM_AUTO(instance_free_auto) struct instance *other = rig_instance_row(&rig, instance);

        if (row->status == IMAGE_CEASED && other->status == INSTANCE_CEASED)
            break;
    }
    check(rig_image_is(&rig, image, IMAGE_CEASED) &&
              rig_instance_is(&rig, instance, INSTANCE_CEASED),
          "then both are ceased");
    rig_check_clean(&rig, "after the recycle bin");
}

/* A family leads to its newest available image. */
static void family(void) {
    struct image_import_args args = {.image_id = "debian99x64a", .family = "debian99", .force = -1};
    IM_AUTO(free_auto) char *source = im_printf("%s/disk.qcow2", rig.folder);
    struct instance_run_args run = rig_run_args("debian99");
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    char image_id[IM_ID_MAX];
    JOB;

    args.source = source;
    check_err(cloud_image_import(rig.cloud, &rig.alice, &args, image_id, job_id, &err), IM_DENIED,
              "only an administrator imports for all");
    check_ok(cloud_image_import(rig.cloud, &rig.admin, &args, image_id, job_id, &err),
             "the administrator does");
    check(rig_done(&rig, job_id) && strcmp(image_id, "debian99x64a") == 0,
          "under the id that was asked for");
    check_err(cloud_image_import(rig.cloud, &rig.admin, &args, image_id, job_id, &err), IM_EXISTS,
              "not twice");
    run.no_start = true;
    check_ok(RUN(&run), "a family runs");
    check(rig_done(&rig, job_id), "and is made");
    instance = made.count > 0 ? rig_instance_row(&rig, made.items[0]) : NULL;
    check(instance != NULL && im_str_equal(instance->image_id, "debian99x64a"),
          "the instance is pinned to the image");
    if (made.count > 0)
        rig_discard(&rig, made.items[0]);
    rig_discard(&rig, "debian99x64a");
    rig_check_clean(&rig, "after a family");
}

/* --- Key pairs ------------------------------------------------------------------------------ */

static const char pub[] =
    "  ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDuw/GtH5LxFh8yy8x0uwv3PY1PnbT0ZgTkZ0vTCGYbB a comment";

static size_t listed_on(const char *instance_id) {
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(keypair_list_done) struct keypair_list list = {0};
    struct im_err err = {0};

    if (!cloud_keypairs(rig.cloud, &rig.alice, &query, instance_id, &list, &err))
        test_note("%s", err.text);
    return list.count;
}

static void keypair_verbs(void) {
    IM_AUTO(free_auto) char *private_key = NULL;
    IM_AUTO(free_auto) char *none = NULL;
    char made[IM_ID_MAX], brought[IM_ID_MAX], instance[IM_ID_MAX];
    JOB;

    check_ok(cloud_keypair_create(rig.cloud, &rig.alice, "made", "ssh-ed25519", NULL, made,
                                  &private_key, &err),
             "a pair is made");
    check(private_key != NULL && strstr(private_key, "PRIVATE KEY") != NULL,
          "its private half is shown");
    check_ok(cloud_keypair_create(rig.cloud, &rig.alice, "brought", "ssh-rsa", pub, brought, &none,
                                  &err),
             "a public key is brought");
    check(none != NULL && none[0] == '\0', "and has no private half here");
    rig_subject(&rig, &rig.alice, ON_RUNNING, instance);
    {
        IM_AUTO(im_strings_done) struct im_strings pairs = rig_ids(made), ids = rig_ids(instance);

        im_strings_add(&pairs, brought);
        for (int i = 0; i < 2; i++) {
            check_ok(
                cloud_keypairs_attach(rig.cloud, &rig.alice, &pairs, &ids, false, job_id, &err),
                "two pairs are attached, time %d", i + 1);
            check(rig_done(&rig, job_id) && listed_on(instance) == 2, "and listed there");
        }
        check_err(cloud_keypairs_delete(rig.cloud, &rig.alice, &pairs, &err), IM_WRONG_STATE,
                  "attached pairs are not deleted");
        for (int i = 0; i < 2; i++) {
            check_ok(cloud_keypairs_attach(rig.cloud, &rig.alice, &pairs, &ids, true, job_id, &err),
                     "both are detached, time %d", i + 1);
            check(rig_done(&rig, job_id) && listed_on(instance) == 0, "and listed no more");
        }
        check_ok(cloud_keypair_modify(rig.cloud, &rig.alice, made, "other", NULL, &err),
                 "a pair takes another name");
        check_ok(cloud_keypairs_delete(rig.cloud, &rig.alice, &pairs, &err), "both are deleted");
        check_err(cloud_keypairs_delete(rig.cloud, &rig.alice, &pairs, &err), IM_NOT_FOUND, "once");
    }
    check_err(cloud_keypair_create(rig.cloud, &rig.alice, "x", "ssh-dss", NULL, made, &none, &err),
              IM_BAD_MESSAGE, "no DSA");
    check_err(cloud_keypair_create(rig.cloud, &rig.alice, "x", NULL, "ssh-rsa nonsense", made,
                                   &none, &err),
              IM_BAD_MESSAGE, "no nonsense");
    rig_discard(&rig, instance);
    rig_check_clean(&rig, "after key pairs");
}

/* --- Jobs, access keys, users ---------------------------------------------------------------- */

static void jobs_told(void) {
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(job_list_done) struct job_list list = {0};
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    struct instance_run_args args = rig_run_args(RIG_SYSTEM_IMAGE);
    struct im_err err = {0};
    JOB;

    args.count = 3;
    args.no_start = true;
    check_ok(RUN(&args), "three instances");
    query_add(&query, "job_id", CONDITION_IN, job_id);
    check(cloud_jobs(rig.cloud, &rig.alice, &query, &list, &err) && list.count == 1,
          "their job is there at once: %s", err.text);
    check(rig_done(&rig, job_id), "and ends");
    job_list_done(&list);
    check(cloud_jobs(rig.cloud, &rig.alice, &query, &list, &err) && list.count == 1 &&
              list.items[0].item_count == 3 && list.items[0].job->status == JOB_SUCCESSFUL &&
              im_str_equal(list.items[0].job->job_action, "RunInstances") &&
              strstr(list.items[0].job->resource_ids, made.items[2]) != NULL,
          "with three items and all three names");
    {
        IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(job_id), odd = rig_ids("j-none");

        check_err(cloud_jobs_cancel(rig.cloud, &rig.alice, &ids, &err), IM_WRONG_STATE,
                  "a finished job is not cancelled");
        check_err(cloud_jobs_cancel(rig.cloud, &rig.alice, &odd, &err), IM_NOT_FOUND,
                  "nor one that does not exist");
    }
    for (size_t i = 0; i < made.count; i++)
        rig_discard(&rig, made.items[i]);
}

static void users_and_keys(void) {
    IM_AUTO(free_auto) char *key_id = NULL;
    IM_AUTO(free_auto) char *secret = NULL;
    IM_AUTO(free_auto) char *shown = NULL;
    IM_AUTO(free_auto) char *other = NULL;
    struct caller caller = {0};
    char user_id[IM_ID_MAX];

    check_err(cloud_user_add(rig.cloud, "alice", NULL, false, user_id, &err), IM_EXISTS,
              "a user's name is taken once");
    check_err(cloud_user_add(rig.cloud, "two words", NULL, false, user_id, &err), IM_BAD_MESSAGE,
              "and is one word");
    check_err(cloud_access_key_add(rig.cloud, "nobody", NULL, &key_id, &secret, &err), IM_NOT_FOUND,
              "no key for nobody");
    check_ok(cloud_access_key_add(rig.cloud, "alice", "first", &key_id, &secret, &err),
             "a key for alice");
    check_ok(cloud_secret(rig.cloud, key_id, &caller, &shown, &err), "its secret is found");
    check(strcmp(shown, secret) == 0 && strcmp(caller.user_id, rig.alice.user_id) == 0 &&
              !caller.admin,
          "and is the one that was shown, of alice");
    check_ok(cloud_user_set_status(rig.cloud, "alice", ACCOUNT_DISABLED, &err), "alice is out");
    check_err(cloud_secret(rig.cloud, key_id, &caller, &other, &err), IM_AUTH,
              "and her key at once");
    check_ok(cloud_user_set_status(rig.cloud, "alice", ACCOUNT_ACTIVE, &err), "alice is back");
    {
        IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(key_id);

        check_err(cloud_access_keys_delete(rig.cloud, &rig.bob, &ids, &err), IM_NOT_FOUND,
                  "bob does not delete her key");
        check_ok(cloud_access_keys_delete(rig.cloud, &rig.alice, &ids, &err), "alice does");
        check_err(cloud_secret(rig.cloud, key_id, &caller, &other, &err), IM_AUTH,
                  "and it opens nothing any more");
    }
}

/* --- What is found on a disk ------------------------------------------------------------------ */

static void make_image(const char *point, bool force, bool base, struct im_str *ret_sentence,
                       char ret_image_id[IM_ID_MAX]) {
    struct snapshot_image_args args = {
        .snapshot_id = point, .force = force, .base_image = base ? RIG_SYSTEM_IMAGE : NULL};
    IM_AUTO(job_free_auto) struct job *job = NULL;
    JOB;

    check_ok(cloud_snapshot_image(rig.cloud, &rig.alice, &args, ret_image_id, job_id, &err),
             "an image of a data disk is ordered");
    job = rig_job(&rig, job_id);
    if (job != NULL && job->status != JOB_SUCCESSFUL)
        im_str_add(ret_sentence, job->error_message);
}

#define REPORT(rest)                                                                               \
    "{\"bios\":0,\"uefi\":1,\"os\":{\"platform\":\"linux\",\"os_family\":\"centos\","              \
    "\"processor_type\":\"32bit\",\"default_user\":\"\",\"ui_type\":\"gui\"}," rest "}"
#define GOOD REPORT("\"errors\":0,\"findings\":[]")
#define BAD                                                                                        \
    REPORT("\"errors\":1,\"findings\":[{\"code\":\"esp.fallback\",\"severity\":\"warning\","       \
           "\"text\":\"no\"},{\"code\":\"boot.none\",\"severity\":\"error\",\"text\":"             \
           "\"it starts nowhere\",\"hint\":\"run grub-install\"}]")

static void looked_into(void) {
    struct im_str sentence = {0};
    IM_AUTO(image_free_auto) struct image *image = NULL;
    IM_AUTO(image_free_auto) struct image *with_base = NULL;
    IM_AUTO(image_free_auto) struct image *forced = NULL;
    char point[IM_ID_MAX], id[IM_ID_MAX];
    char *report = NULL;

    rig_report(&rig, BAD);
    rig_subject(&rig, &rig.alice, ON_VOLUME_POINT, point);
    make_image(point, false, false, &sentence, id);
    check(sentence.data != NULL && strstr(sentence.data, "it starts nowhere [boot.none]") &&
              strstr(sentence.data, "run grub-install") && strstr(sentence.data, point),
          "a disk with an error is refused: %s", sentence.data ? sentence.data : "");
    check(rig_image_is(&rig, id, IMAGE_CEASED), "and the image is gone");
    im_str_done(&sentence);
    make_image(point, true, false, &sentence, id);
    forced = rig_image_row(&rig, id);
    check(forced && forced->status == IMAGE_AVAILABLE && strstr(forced->report, "starts nowhere"),
          "unless forced; what was found stays with it");
    rig_discard(&rig, id);
    rig_report(&rig, GOOD);
    make_image(point, false, false, &sentence, id);
    image = rig_image_row(&rig, id);
    check(image && im_str_equal(image->os_family, "centos") &&
              im_str_equal(image->processor_type, "32bit") && im_str_equal(image->ui_type, "gui") &&
              im_str_equal(image->firmware, "uefi") && im_str_empty(image->default_user),
          "without a base, all is as it was found");
    check_err(cloud_inspect(rig.cloud, &rig.bob, id, &report, &err), IM_NOT_FOUND,
              "bob does not look into it");
    rig_report(&rig, BAD);
    check_ok(cloud_inspect(rig.cloud, &rig.alice, id, &report, &err), "alice does");
    image_free(image);
    image = rig_image_row(&rig, id);
    check(report && strstr(report, "boot.none") && image->status == IMAGE_AVAILABLE &&
              strstr(image->report, "boot.none"),
          "and the newest report stays");
    free(report);
    report = NULL;
    check_ok(cloud_inspect(rig.cloud, &rig.alice, point, &report, &err), "a snapshot too");
    free(report);
    report = NULL;
    check_err(cloud_inspect(rig.cloud, &rig.alice, "ss-00000000", &report, &err), IM_NOT_FOUND,
              "not one that is not there");
    rig_discard(&rig, id);
    rig_report(&rig, GOOD);
    make_image(point, false, true, &sentence, id);
    with_base = rig_image_row(&rig, id);
    check(with_base && im_str_equal(with_base->os_family, "centos") &&
              im_str_equal(with_base->platform, "linux"),
          "with a base, what was found outranks it");
    rig_discard(&rig, id);
    rig_sweep(&rig);
    im_str_done(&sentence);
    rig_check_clean(&rig, "after looks into disks");
}

/* What `name` makes of a fresh `subject` is an image whose report is `found`, or that has none. */
static void published_with(const char *name, enum subject subject, const char *found) {
    IM_AUTO(image_free_auto) struct image *image = NULL;
    char id[IM_ID_MAX], made[IM_ID_MAX];

    rig_subject(&rig, &rig.alice, subject, id);
    if (!step(name, id, made))
        return;
    image = rig_image_row(&rig, made);
    check(image->status == IMAGE_AVAILABLE &&
              (found ? !im_str_empty(image->report) && strstr(image->report, found) != NULL
                     : im_str_empty(image->report)),
          "%s keeps what was found: %s", name, image->report ? image->report : "nothing");
    check(im_str_equal(image->os_family, "debian") && im_str_equal(image->firmware, "bios") &&
              im_str_equal(image->processor_type, "64bit") &&
              im_str_equal(image->default_user, "root"),
          "and goes by what its machine ran with");
    rig_discard(&rig, made);
    rig_discard(&rig, id);
}

static void looked_into_afterwards(void) {
    rig_report(&rig, BAD);
    published_with("CaptureInstance", ON_STOPPED, "starts nowhere");
    published_with("CaptureInstanceFromSnapshot", ON_POINT, "starts nowhere");
    published_with("CaptureImageFromSnapshot", ON_POINT, "starts nowhere");
    rig_report(&rig, "no report at all");
    published_with("CaptureInstance", ON_STOPPED, NULL);
    published_with("CaptureInstanceFromSnapshot", ON_POINT, NULL);
    rig_report(&rig, GOOD);
    rig_sweep(&rig);
    rig_check_clean(&rig, "after looks into what machines ran from");
}

static struct job *import_disk(int64_t force, char ret_image_id[IM_ID_MAX]) {
    IM_AUTO(free_auto) char *source = im_printf("%s/disk.qcow2", rig.folder);
    struct image_import_args args = {.image_name = "found", .source = source, .force = force};
    JOB;

    check_ok(cloud_image_import(rig.cloud, &rig.alice, &args, ret_image_id, job_id, &err),
             "an import is ordered");
    return rig_job(&rig, job_id);
}

static void import_refused(void) {
    IM_AUTO(job_free_auto) struct job *refused = NULL;
    IM_AUTO(job_free_auto) struct job *forced = NULL;
    IM_AUTO(image_free_auto) struct image *image = NULL;
    char id[IM_ID_MAX];

    rig_report(&rig, BAD);
    refused = import_disk(-1, id);
    check(refused && refused->status == JOB_FAILED && im_str_equal(refused->error_codes, "1400") &&
              strstr(refused->error_message, "it starts nowhere [boot.none]: run grub-install") &&
              strstr(refused->error_message, "--force"),
          "an import with an error is refused: %s", refused ? refused->error_message : "");
    check(rig_image_is(&rig, id, IMAGE_CEASED), "and the image is gone");
    rig_sweep(&rig);
    rig_check_clean(&rig, "after a refused import");
    forced = import_disk(1, id);
    image = rig_image_row(&rig, id);
    check(forced && forced->status == JOB_SUCCESSFUL && image && image->status == IMAGE_AVAILABLE &&
              strstr(image->report, "starts nowhere"),
          "unless forced; what was found stays with it");
    rig_discard(&rig, id);
    rig_report(&rig, GOOD);
    rig_sweep(&rig);
    rig_check_clean(&rig, "after a forced import");
}

/* --- How quiet a guest was -------------------------------------------------------------------- */

static void consistency_of(const char *id, const char *wanted, const char *when) {
    IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(id);
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    const struct snapshot_create_args args = {.resources = &ids, .snapshot_name = "point"};
    IM_AUTO(snapshot_free_auto) struct snapshot *point = NULL;
    JOB;

    check_ok(cloud_snapshots_create(rig.cloud, &rig.alice, &args, &made, job_id, &err),
             "a snapshot of it %s", when);
    if (!rig_done(&rig, job_id) || made.count != 1)
        return;
    point = rig_snapshot_row(&rig, made.items[0]);
    check(point && im_str_equal(point->consistency, wanted), "is %s, should be %s",
          point ? point->consistency : "not there", wanted);
}

/* The machine in memory has a hook when it is named "hooked". */
static void consistency(void) {
    struct instance_run_args args = rig_run_args(RIG_SYSTEM_IMAGE);
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    char plain[IM_ID_MAX];
    JOB;

    args.instance_name = "hooked";
    check_ok(RUN(&args), "a machine whose agent has a hook");
    rig_done(&rig, job_id);
    consistency_of(made.items[0], "app", "with a hook");
    {
        IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(made.items[0]);

        check_ok(cloud_instances_stop(rig.cloud, &rig.alice, &ids, true, job_id, &err),
                 "it is stopped");
        rig_done(&rig, job_id);
    }
    consistency_of(made.items[0], "off", "when it is off");
    rig_instance(&rig, &rig.alice, RIG_SYSTEM_IMAGE, true, plain);
    consistency_of(plain, "fs", "without a hook");
    rig_sweep(&rig);
    rig_check_clean(&rig, "after points of all kinds");
}

/* --- Uploads -------------------------------------------------------------------------------- */

static void upload(void) {
    struct image_import_args args = {.image_name = "uploaded", .force = -1};
    struct upload upload = {0};
    char image_id[IM_ID_MAX], again[IM_JOB_ID_MAX];
    JOB;

    check_ok(cloud_image_import(rig.cloud, &rig.alice, &args, image_id, job_id, &err),
             "an image that waits for its bytes");
    check(job_id[0] == '\0', "has no job yet");
    check_err(cloud_upload_begin(rig.cloud, &rig.bob, image_id, &upload, &err), IM_NOT_FOUND,
              "bob does not send them");
    check_ok(cloud_upload_begin(rig.cloud, &rig.alice, image_id, &upload, &err), "alice does");
    {
        FILE *file = fopen(upload.path, "w");

        check(file != NULL && fputs("0123456789", file) >= 0 && fclose(file) == 0, "ten bytes");
    }
    check_err(cloud_upload_finish(rig.cloud, &rig.alice, image_id, 11, job_id, &err),
              IM_WRONG_STATE, "eleven are wanted, ten are there");
    check_ok(cloud_upload_begin(rig.cloud, &rig.alice, image_id, &upload, &err), "how many?");
    check(upload.received_bytes == 10, "ten");
    check_ok(cloud_upload_finish(rig.cloud, &rig.alice, image_id, 10, job_id, &err), "all there");
    check_ok(cloud_upload_finish(rig.cloud, &rig.alice, image_id, 10, again, &err),
             "said once more");
    check(strcmp(job_id, again) == 0, "it is the same job");
    check(rig_done(&rig, job_id) && rig_image_is(&rig, image_id, IMAGE_AVAILABLE),
          "and the image is there");
    check_ok(cloud_upload_finish(rig.cloud, &rig.alice, image_id, 10, again, &err),
             "said when all is over");
    check(strcmp(job_id, again) == 0, "it is still that job");
    check(access(upload.path, F_OK) != 0, "what was received is not kept");
    rig_discard(&rig, image_id);
    rig_check_clean(&rig, "after an upload");
}

static void later(const char *sql) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(rig.db, &err);
    int64_t changed = 0;

    check(db_exec(conn, &changed, &err, sql, "") && changed > 0, "its time passes");
}

static bool opens(const struct caller *caller, const char *export_id, struct im_err *err) {
    struct export_file file = {.fd = -1};

    if (!cloud_export_open(rig.cloud, caller, export_id, &file, err))
        return false;
    (void) close(file.fd);
    return true;
}

/* Files of images: whose they are, how many, how long. */
static void exports(void) {
    char image[IM_ID_MAX], export_id[IM_ID_MAX], again[IM_ID_MAX], other[IM_ID_MAX];
    IM_AUTO(usage_report_done) struct usage_report usage = {0};
    char again_job[IM_JOB_ID_MAX];
    JOB;

    rig_subject(&rig, &rig.alice, ON_IMAGE, image);
    check_err(cloud_image_export(rig.cloud, &rig.bob, image, NULL, export_id, job_id, &err),
              IM_NOT_FOUND, "another's image is not exported");
    check_err(cloud_image_export(rig.cloud, &rig.alice, image, "vhdx", export_id, job_id, &err),
              IM_BAD_MESSAGE, "nor one in a format that is none of ours");
    check_ok(cloud_image_export(rig.cloud, &rig.alice, image, NULL, export_id, job_id, &err),
             "one's own is");
    check(rig_done(&rig, job_id), "in a job");
    check_ok(cloud_image_export(rig.cloud, &rig.alice, image, "qcow2", again, again_job, &err),
             "asked again");
    check(strcmp(export_id, again) == 0 && strcmp(job_id, again_job) == 0, "it is the same file");
    check_ok(
        cloud_image_export(rig.cloud, &rig.alice, RIG_SYSTEM_IMAGE, "vmdk", other, job_id, &err),
        "so is a system image");
    check(rig_done(&rig, job_id), "in a job");
    check_ok(opens(&rig.alice, export_id, &err), "the file opens for its owner");
    check_err(opens(&rig.bob, export_id, &err), IM_NOT_FOUND, "for nobody else");
    check_ok(cloud_usage(rig.cloud, &rig.alice, &usage, &err), "usage is told");
    check(usage.exports_bytes == 2 * 4096, "with both exports");

    rig.cloud->config.export_max_bytes = 3 * 4096;
    check_err(cloud_image_export(rig.cloud, &rig.alice, image, "raw", again, job_id, &err),
              IM_NO_SPACE, "beyond the limit nothing is made");
    rig.cloud->config.export_max_bytes = 0;
    later("UPDATE image_exports SET expire_time = 1 WHERE format = 'vmdk'");
    check_err(opens(&rig.alice, other, &err), IM_NOT_FOUND, "an expired one does not open");
    rig_round(&rig);
    for (int64_t end = im_mono_ms() + RIG_WAIT_MS; im_mono_ms() < end; im_sleep_ms(20))
        if (rig_number(&rig, "SELECT COUNT(*) FROM image_exports") == 1)
            break;
    rig_check_clean(&rig, "after an export expired");
    {
        IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(export_id);

        check_err(cloud_image_exports_delete(rig.cloud, &rig.bob, &ids, &err), IM_NOT_FOUND,
                  "another's export is not deleted");
        check_ok(cloud_image_exports_delete(rig.cloud, &rig.alice, &ids, &err), "one's own is");
    }
    check(rig_number(&rig, "SELECT COUNT(*) FROM image_exports") == 0, "none is left");
    rig_discard(&rig, image);
    rig_check_clean(&rig, "after exports");
}

int main(void) {
    struct rig_options options = {0};

    rig_open(&rig, test_folder(), &options);
    rig_image(&rig, RIG_SYSTEM_IMAGE, NULL, true);
    verbs_do();
    verbs_refuse();
    whole_life();
    capture_inherits();
    run_limits();
    run_many();
    batch_whole();
    resize_limits();
    image_verbs();
    recycle_bin();
    family();
    keypair_verbs();
    jobs_told();
    users_and_keys();
    looked_into();
    looked_into_afterwards();
    import_refused();
    consistency();
    upload();
    exports();
    rig_close(&rig);
    return test_end();
}
