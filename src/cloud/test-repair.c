/* SPDX-License-Identifier: Apache-2.0 */
/* Repairs: when the changed disk is taken and when not, what is asked of the appliance, and every
 * way back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test-verbs.h"

static struct rig rig;
static const char clean[] = "{\"errors\":0,\"findings\":[]}";

/* --- Orders --------------------------------------------------------------------------------- */

static bool order(const char *id, const char *finding, const char *seal, char repair_id[IM_ID_MAX],
                  char job_id[IM_JOB_ID_MAX], struct im_err *why) {
    IM_AUTO(im_strings_done) struct im_strings findings = {0}, items = {0};
    struct repair_args args = {.resource_id = id, .findings = &findings, .seal = &items};

    if (finding != NULL)
        im_strings_add(&findings, finding);
    if (seal != NULL)
        im_strings_add(&items, seal);
    return cloud_repair(rig.cloud, &rig.alice, &args, repair_id, job_id, why);
}

/* The job's sentence; "" when it was successful. Owned. */
static char *repair(const char *id, const char *seal, char repair_id[IM_ID_MAX]) {
    char job_id[IM_JOB_ID_MAX];
    IM_AUTO(job_free_auto) struct job *job = NULL;
    struct im_err why = {0};

    if (!order(id, NULL, seal, repair_id, job_id, &why))
        return im_strdup(why.text);
    job = rig_job(&rig, job_id);
    return im_strdup(job == NULL                     ? "it does not end"
                     : job->status == JOB_SUCCESSFUL ? ""
                                                     : job->error_message);
}

static bool undo(const char *id, struct im_err *why) {
    char repair_id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];

    return cloud_repair_undo(rig.cloud, &rig.alice, id, repair_id, job_id, why) &&
           rig_done(&rig, job_id);
}

static char *image_layer(const char *id) {
    IM_AUTO(image_free_auto) struct image *image = rig_image_row(&rig, id);

    return im_strdup(image->layer_id);
}

static void world_is_right(void) {
    rig_plan(&rig, RIG_PLAN);
    rig_report(&rig, clean);
    free(rig_mends(&rig));
}

/* --- Is it better? -------------------------------------------------------------------------- */

static void refused_with(const char *id, const char *report, const char *words, const char *text) {
    IM_AUTO(free_auto) char *before = image_layer(id);
    IM_AUTO(free_auto) char *why = NULL;
    IM_AUTO(free_auto) char *after = NULL;
    char repair_id[IM_ID_MAX];

    rig_report(&rig, report);
    why = repair(id, NULL, repair_id);
    after = image_layer(id);
    check(strstr(why, words) != NULL && strstr(why, "nothing was changed") != NULL, "%s: %s", text,
          why);
    check(strcmp(before, after) == 0 && rig_image_is(&rig, id, IMAGE_AVAILABLE) &&
              rig_number(&rig, "SELECT COUNT(*) FROM repairs") == 0,
          "and the image is as it was");
    rig_check_clean(&rig, text);
}

static void test_judged(void) {
    char id[IM_ID_MAX];

    rig_subject(&rig, &rig.alice, ON_IMAGE, id);
    refused_with(id,
                 "{\"errors\":1,\"findings\":[{\"code\":\"fstab.root\",\"severity\":\"error\","
                 "\"text\":\"still another's\"}]}",
                 "[fstab.root]: still another's", "a disk that still has it");
    refused_with(id,
                 "{\"errors\":1,\"findings\":[{\"code\":\"boot.kernel\",\"severity\":\"error\","
                 "\"text\":\"it is gone\"}]}",
                 "new error [boot.kernel]: it is gone", "a disk that has a new error");
    rig_report(&rig, "{\"errors\":0,\"findings\":[{\"code\":\"boot.console\",\"severity\":"
                     "\"warning\",\"text\":\"it is silent\"}]}");
    {
        char repair_id[IM_ID_MAX];
        IM_AUTO(free_auto) char *why = repair(id, NULL, repair_id);
        IM_AUTO(image_free_auto) struct image *image = rig_image_row(&rig, id);

        check(why[0] == '\0' && strstr(image->report, "boot.console") != NULL,
              "a new warning is no reason, and is kept with the image: %s", why);
    }
    world_is_right();
    rig_sweep(&rig);
}

/* --- What is done --------------------------------------------------------------------------- */

static void test_journal(void) {
    IM_AUTO(free_auto) char *mends = NULL;
    IM_AUTO(free_auto) char *why = NULL;
    char id[IM_ID_MAX], repair_id[IM_ID_MAX];
    const char *second;

    rig_subject(&rig, &rig.alice, ON_IMAGE, id);
    rig_plan(&rig, "{\"report\":{\"errors\":0,\"findings\":[{\"code\":\"filesystem.dirty\","
                   "\"severity\":\"warning\",\"text\":\"dirty\"}]},\"plan\":{\"repairs\":[{"
                   "\"code\":\"filesystem.dirty\",\"done\":1,\"text\":\"replayed\"}],\"files\":[],"
                   "\"steps\":[],\"mounts\":[{\"path\":\"/\"}],\"edits\":[{\"op\":\"write\"}]}}");
    why = repair(id, NULL, repair_id);
    mends = rig_mends(&rig);
    second = strchr(mends, '\n');
    check(why[0] == '\0' && second != NULL && strstr(mends, "\"edits\":[],") == NULL &&
              strstr(mends, "\"edits\":[]") != NULL && strstr(mends, "\"edits\":[]") < second &&
              strstr(second, "\"op\":\"write\"") != NULL,
          "a dirty journal is replayed before anything is changed: %s", why);
    check(strstr(mends, "\"layers\":\"qcow2 qcow2\"") != NULL &&
              strstr(mends, "/appliance\"") != NULL,
          "in a head above the image's layer");
    world_is_right();
    rig_sweep(&rig);
}

static void test_nothing(void) {
    IM_AUTO(free_auto) char *before = NULL;
    IM_AUTO(free_auto) char *after = NULL;
    IM_AUTO(free_auto) char *mends = NULL;
    IM_AUTO(free_auto) char *why = NULL;
    IM_AUTO(repair_free_auto) struct repair *row = NULL;
    char id[IM_ID_MAX], repair_id[IM_ID_MAX];

    rig_subject(&rig, &rig.alice, ON_IMAGE, id);
    before = image_layer(id);
    rig_plan(&rig, "{\"report\":{\"errors\":0},\"plan\":{\"repairs\":[{\"code\":\"boot.none\","
                   "\"done\":0,\"text\":\"not here\"}],\"files\":[],\"steps\":[],\"mounts\":[],"
                   "\"edits\":[]}}");
    why = repair(id, NULL, repair_id);
    mends = rig_mends(&rig);
    after = image_layer(id);
    row = rig_repair_row(&rig, repair_id);
    check(why[0] == '\0' && mends[0] == '\0' && strcmp(before, after) == 0,
          "where there is nothing to do nothing is done: %s", why);
    check(row->status == REPAIR_NOTHING && !row->undoable &&
              strstr(row->changes, "not here") != NULL,
          "and the reason is kept");
    rig_check_clean(&rig, "after nothing");
    world_is_right();
    rig_sweep(&rig);
}

/* --- Ways back ------------------------------------------------------------------------------ */

static void test_undo_image(void) {
    char id[IM_ID_MAX], instance[IM_ID_MAX], first[IM_ID_MAX], second[IM_ID_MAX];
    IM_AUTO(free_auto) char *before = NULL;
    IM_AUTO(free_auto) char *after = NULL;

    rig_subject(&rig, &rig.alice, ON_IMAGE, id);
    before = image_layer(id);
    free(repair(id, NULL, first));
    rig_instance(&rig, &rig.alice, id, true, instance);
    free(repair(id, NULL, second));
    check(rig_number(&rig, "SELECT COUNT(*) FROM repairs WHERE undoable = 1") == 2,
          "an image is repaired twice, and a machine runs from the first");
    check_ok(undo(id, &err), "the last one is undone");
    {
        IM_AUTO(repair_free_auto) struct repair *row = rig_repair_row(&rig, first);
        IM_AUTO(free_auto) char *now = image_layer(id);

        check(strcmp(now, row->made_id) == 0, "it has what the first one made");
    }
    check_ok(undo(id, &err), "and the first one");
    after = image_layer(id);
    check(strcmp(before, after) == 0, "it has its own layer again");
    check(rig_instance_is(&rig, instance, INSTANCE_RUNNING) && rig_runs(&rig, instance),
          "the machine runs on");
    check_err(undo(id, &err), IM_WRONG_STATE, "there is nothing more to undo");
    rig_check_clean(&rig, "after two repairs and back");
    rig_sweep(&rig);
}

/* How many layers would become one now. */
static size_t foldable(void) {
    IM_AUTO(fold_plan_done) struct fold_plan plan = {0};
    IM_AUTO(im_strings_done) struct im_strings leave = {0};
    struct im_err why = {0};

    if (!fold_plan_next(rig.cloud, &leave, &plan, &why))
        test_note("%s", why.text);
    return plan.count;
}

static bool forget_body(struct db_conn *conn, void *arg, struct im_err *why) {
    return repairs_forget(conn, arg, why);
}

/* Of an image that stands on another one by a layer that nobody else names. */
static void test_kept(void) {
    char instance[IM_ID_MAX], id[IM_ID_MAX], repair_id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];
    IM_AUTO(free_auto) char *sentence = NULL;
    struct image_capture_args args = {.instance_id = instance, .image_name = "own"};
    struct im_err why = {0};

    rig_instance(&rig, &rig.alice, RIG_SYSTEM_IMAGE, false, instance);
    check(cloud_image_capture(rig.cloud, &rig.alice, &args, id, job_id, &why) &&
              rig_done(&rig, job_id),
          "an image of a machine");
    rig_discard(&rig, instance);
    sentence = repair(id, NULL, repair_id);
    rig_check_clean(&rig, "when it is repaired");
    check(sentence[0] == '\0' && foldable() == 0, "the layer as it was is not merged: %s",
          sentence);
    check(cloud_transact(rig.cloud, forget_body, id, &why) && foldable() == 2,
          "it would be if the repair were forgotten");
    rig_sweep(&rig);
}

/* What a machine wrote after the point would be lost without a word. */
static void test_undo_volume(void) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0}, made = {0};
    struct snapshot_create_args args = {.resources = &ids, .snapshot_name = "point"};
    char id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];
    struct im_err why = {0};

    rig_subject(&rig, &rig.alice, ON_REPAIRED_VOLUME, id);
    im_strings_add(&ids, id);
    check(cloud_snapshots_create(rig.cloud, &rig.alice, &args, &made, job_id, &why) &&
              rig_done(&rig, job_id),
          "a repaired volume is backed up");
    check(!undo(id, &why) && why.code == IM_WRONG_STATE && strstr(why.text, "backed up") != NULL,
          "then its repair is not undone: %s", why.text);
    rig_check_clean(&rig, "after a refused undo");
    rig_sweep(&rig);
}

/* --- Refusals ------------------------------------------------------------------------------- */

static void test_refused(void) {
    IM_AUTO(free_auto) char *kernel = im_printf("%s/appliance/kernel", rig.folder);
    char id[IM_ID_MAX], repair_id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];
    IM_AUTO(free_auto) char *sentence = NULL;
    struct im_err why = {0};

    rig_subject(&rig, &rig.alice, ON_ATTACHED, id);
    check(!order(id, NULL, NULL, repair_id, job_id, &why) && why.code == IM_WRONG_STATE &&
              strstr(why.text, "running") != NULL,
          "a volume of a running machine is not repaired: %s", why.text);
    rig_subject(&rig, &rig.alice, ON_POINT, id);
    check_err(order(id, NULL, NULL, repair_id, job_id, &err), IM_BAD_MESSAGE,
              "a snapshot stays what it was");
    rig_subject(&rig, &rig.alice, ON_IMAGE, id);
    check_err(order(id, "fstab.root all", NULL, repair_id, job_id, &err), IM_BAD_MESSAGE,
              "two words in one");
    rig_plan(&rig, "{\"report\":{\"errors\":0},\"plan\":{\"repairs\":[{\"code\":\"machine-id\","
                   "\"done\":0,\"text\":\"no system\"}],\"files\":[],\"steps\":[],\"mounts\":[],"
                   "\"edits\":[]}}");
    sentence = repair(id, "machine-id", repair_id);
    check(strstr(sentence, "[machine-id] cannot be sealed: no system") != NULL,
          "what cannot be sealed is told of: %s", sentence);
    world_is_right();
    (void) unlink(kernel);
    check(!order(id, NULL, NULL, repair_id, job_id, &why) && why.code == IM_UNSUPPORTED &&
              strstr(why.text, "make-appliance --fetch") != NULL,
          "without an appliance one is told how to make it: %s", why.text);
    rig_check_clean(&rig, "after refusals");
    rig_sweep(&rig);
}

/* --- Passwords on disks ----------------------------------------------------------------------- */

#define PLAN(done, text, edits)                                                                    \
    "{\"report\":" RIG_NO_CLOUD_INIT                                                               \
    ",\"plan\":{\"repairs\":[{\"code\":\"password\",\"done\":" done ",\"text\":\"" text            \
    "\"}],\"files\":[],\"steps\":[],\"mounts\":[],\"edits\":[" edits "]}}"
#define SHADOW "{\"op\":\"write\",\"path\":\"/etc/shadow\"}"

/* The sentence of the job that failed, "" when it did not. */
static char *reset_password(const char *id) {
    IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(id);
    IM_AUTO(job_free_auto) struct job *job = NULL;
    char job_id[IM_JOB_ID_MAX];

    check_ok(cloud_password_reset(rig.cloud, &rig.alice, &ids, "Secret4you", job_id, &err),
             "a new password is ordered");
    job = rig_job(&rig, job_id);
    return im_strdup(job == NULL                        ? "no job"
                     : job->status == JOB_SUCCESSFUL    ? ""
                     : im_str_empty(job->error_message) ? "?"
                                                        : job->error_message);
}

static void disk_passwords(void) {
    char id[IM_ID_MAX];
    IM_AUTO(free_auto) char *appliance = im_strdup(rig.cloud->config.appliance);
    IM_AUTO(instance_free_auto) struct instance *before = NULL;
    IM_AUTO(instance_free_auto) struct instance *after = NULL;
    IM_AUTO(instance_free_auto) struct instance *refused = NULL;
    IM_AUTO(instance_free_auto) struct instance *seeded = NULL;
    IM_AUTO(free_auto) char *first = NULL, *asked = NULL, *mends = NULL;
    IM_AUTO(free_auto) char *second = NULL, *none = NULL, *third = NULL, *fourth = NULL;

    rig_subject(&rig, &rig.alice, ON_STOPPED, id);
    before = rig_instance_row(&rig, id);
    rig_report(&rig, RIG_NO_CLOUD_INIT);
    rig_plan(&rig, PLAN("1", "user root has a new password", SHADOW));
    free(rig_mends(&rig));
    first = reset_password(id);
    asked = rig_asked(&rig);
    mends = rig_mends(&rig);
    after = rig_instance_row(&rig, id);
    check(first[0] == '\0' && strstr(asked, "\"user\":\"root\",\"hash\":\"$6$") != NULL &&
              strstr(asked, "Secret4you") == NULL && strstr(mends, SHADOW) != NULL,
          "without cloud-init the disk is changed, and only a hash is told: %s %s", first, asked);
    check(!im_str_equal(before->layer_id, after->layer_id) && im_str_empty(after->unapplied) &&
              after->transition_status == TRANSITION_NONE,
          "in a layer of its own");
    rig_plan(&rig, PLAN("0", "/etc/passwd has no user root: choose one that it has", ""));
    second = reset_password(id);
    none = rig_mends(&rig);
    refused = rig_instance_row(&rig, id);
    check(strstr(second, id) != NULL && strstr(second, "no user root") != NULL && none[0] == '\0' &&
              im_str_equal(refused->layer_id, after->layer_id),
          "what can not be is told, and nothing is changed: %s", second);
    im_replace((char **) &rig.cloud->config.appliance, "/nonexistent");
    third = reset_password(id);
    im_replace((char **) &rig.cloud->config.appliance, appliance);
    check(strstr(third, "has no cloud-init") != NULL && strstr(third, "make-appliance") != NULL,
          "so is that the appliance is missing, and how it is made: %s", third);
    rig_report(&rig, RIG_REPORT);
    fourth = reset_password(id);
    seeded = rig_instance_row(&rig, id);
    check(fourth[0] == '\0' && im_str_equal(seeded->layer_id, after->layer_id) &&
              strstr(seeded->unapplied, "seed disk for the next boot") != NULL,
          "a system with cloud-init reads it from the seed: %s %s", fourth, seeded->unapplied);
    rig_plan(&rig, RIG_PLAN);
    rig_discard(&rig, id);
    rig_sweep(&rig);
    rig_check_clean(&rig, "after passwords on disks");
}

/* --- Trim at capture -------------------------------------------------------------------------- */

static struct job *capture_trimmed(const char *id, char image_id[IM_ID_MAX]) {
    struct image_capture_args args = {.instance_id = id, .image_name = "small", .trim = 1};
    char job_id[IM_JOB_ID_MAX];

    check_ok(cloud_image_capture(rig.cloud, &rig.alice, &args, image_id, job_id, &err),
             "a capture with trim is ordered");
    return rig_job(&rig, job_id);
}

static void trimmed(void) {
    char id[IM_ID_MAX], image_id[IM_ID_MAX], none[IM_ID_MAX];
    IM_AUTO(instance_free_auto) struct instance *before = NULL;
    IM_AUTO(instance_free_auto) struct instance *after = NULL;
    IM_AUTO(image_free_auto) struct image *image = NULL;
    IM_AUTO(free_auto) char *mends = NULL;
    IM_AUTO(free_auto) char *asked = NULL;

    rig_subject(&rig, &rig.alice, ON_STOPPED, id);
    before = rig_instance_row(&rig, id);
    rig_plan(
        &rig,
        "{\"report\":{},\"plan\":{\"repairs\":[{\"code\":\"trim\",\"done\":1,\"text\":\"some\"}],"
        "\"files\":[],\"steps\":[],\"mounts\":[],\"edits\":[{\"op\":\"fstrim\",\"path\":\"/\"}]}}");
    free(rig_mends(&rig));
    job_free(capture_trimmed(id, image_id));
    after = rig_instance_row(&rig, id);
    image = rig_image_row(&rig, image_id);
    mends = rig_mends(&rig);
    asked = rig_asked(&rig);
    check(strstr(asked, "\"trim\":1") != NULL && strstr(mends, "fstrim") != NULL &&
              image->status == IMAGE_AVAILABLE && image->trimmed_bytes == RIG_FREED,
          "file systems give back what they do not use, and how much that was is kept");
    check(!im_str_equal(image->layer_id, before->layer_id) &&
              !im_str_equal(after->layer_id, before->layer_id),
          "neither image nor instance needs the layer that has it");
    rig_plan(
        &rig,
        "{\"report\":{},\"plan\":{\"repairs\":[{\"code\":\"trim\",\"done\":0,\"text\":\"none\"}],"
        "\"files\":[],\"steps\":[],\"mounts\":[],\"edits\":[]}}");
    {
        IM_AUTO(job_free_auto) struct job *job = capture_trimmed(id, none);
        IM_AUTO(instance_free_auto) struct instance *left = rig_instance_row(&rig, id);

        check(job->status == JOB_FAILED && strstr(job->error_message, "captured without trim") &&
                  rig_image_is(&rig, none, IMAGE_CEASED) &&
                  im_str_equal(left->layer_id, after->layer_id) &&
                  left->transition_status == TRANSITION_NONE,
              "a disk that can not be trimmed is told: %s", job->error_message);
    }
    rig_plan(&rig, RIG_PLAN);
    rig_discard(&rig, image_id);
    rig_discard(&rig, id);
    rig_sweep(&rig);
    rig_check_clean(&rig, "after a capture with trim");
}

int main(void) {
    struct rig_options options = {0};

    rig_open(&rig, test_folder(), &options);
    rig_image(&rig, RIG_SYSTEM_IMAGE, NULL, true);
    world_is_right();
    test_judged();
    test_journal();
    test_nothing();
    test_undo_image();
    test_kept();
    test_undo_volume();
    disk_passwords();
    trimmed();
    test_refused();
    rig_close(&rig);
    return test_end();
}
