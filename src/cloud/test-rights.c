/* SPDX-License-Identifier: Apache-2.0 */
/* Users see their own and what is for all, and nothing else; and two who want one thing at the same
 * time do not both get it. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "test-verbs.h"

static struct rig rig;

#define JOB char job_id[IM_JOB_ID_MAX] = ""

/* --- Another's ids -------------------------------------------------------------------------- */

/* Bob tries a verb on what is Alice's: as if it were not there, without a job or a row. */
static void verb_hidden(const struct rig_verb *verb) {
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    static const char rows[] = "SELECT (SELECT COUNT(*) FROM jobs) + (SELECT COUNT(*) FROM images)"
                               " + (SELECT COUNT(*) FROM instances)";
    static const char layers[] = "SELECT COUNT(*) FROM layers";
    char id[IM_ID_MAX];
    int64_t before, layers_before;
    JOB;

    if (verb->subject == ON_NOTHING)
        return;
    rig_subject(&rig, &rig.alice, verb->subject, id);
    before = rig_number(&rig, rows);
    layers_before = rig_number(&rig, layers);
    check_err(verb->call(&rig, &rig.bob, id, &made, job_id, &err), IM_NOT_FOUND,
              "%s: what is another's does not exist", verb->name);
    /* Those of subjects before may still be being collected. */
    check(rig_number(&rig, rows) == before && rig_number(&rig, layers) <= layers_before &&
              made.count == 0,
          "and nothing comes of it");
    rig_discard(&rig, id);
}

static void verbs_hidden(void) {
    for (const struct rig_verb *verb = rig_verbs; verb->name != NULL; verb++)
        verb_hidden(verb);
    rig_check_clean(&rig, "after another's tries");
}

/* Verbs without a job. */
static void others_hidden(void) {
    char instance[IM_ID_MAX], image[IM_ID_MAX], pair[IM_ID_MAX];
    IM_AUTO(free_auto) char *private_key = NULL;
    IM_AUTO(free_auto) char *bytes = NULL;
    struct ssh_address address = {0};
    size_t len = 0;
    int fd = -1;
    JOB;

    rig_subject(&rig, &rig.alice, ON_RUNNING, instance);
    rig_subject(&rig, &rig.alice, ON_IMAGE, image);
    check_ok(cloud_keypair_create(rig.cloud, &rig.alice, "hers", "ssh-ed25519", NULL, pair,
                                  &private_key, &err),
             "alice has a pair");
    check_err(cloud_instance_modify(rig.cloud, &rig.bob, instance, "his", NULL, -1, &err),
              IM_NOT_FOUND, "bob does not rename her instance");
    check_err(cloud_image_modify(rig.cloud, &rig.bob, image, "his", NULL, &err), IM_NOT_FOUND,
              "nor her image");
    check_err(cloud_keypair_modify(rig.cloud, &rig.bob, pair, "his", NULL, &err), IM_NOT_FOUND,
              "nor her pair");
    check_err(cloud_instance_ssh(rig.cloud, &rig.bob, instance, &address, &err), IM_NOT_FOUND,
              "he does not learn the way to it");
    check_err(cloud_instance_console(rig.cloud, &rig.bob, instance, &fd, &err), IM_NOT_FOUND,
              "he gets no console");
    check_err(cloud_instance_console_log(rig.cloud, &rig.bob, instance, &bytes, &len, &err),
              IM_NOT_FOUND, "and reads none");
    {
        IM_AUTO(im_strings_done) struct im_strings pairs = rig_ids(pair);
        char own[IM_ID_MAX];
        struct instance_run_args run = rig_run_args(RIG_SYSTEM_IMAGE);
        struct instance_reset_args reset = {.login_mode = "passwd",
                                            .login_passwd = "Secret4you",
                                            .login_keypair = pair,
                                            .os_disk_size = -1};
        IM_AUTO(im_strings_done) struct im_strings made = {0};

        check_err(cloud_keypairs_delete(rig.cloud, &rig.bob, &pairs, &err), IM_NOT_FOUND,
                  "he does not delete her pair");
        run.login_mode = "passwd";
        run.login_passwd = "Secret4you";
        run.login_keypair = pair;
        check_err(cloud_instances_run(rig.cloud, &rig.bob, &run, &made, job_id, &err), IM_NOT_FOUND,
                  "he runs nothing with her pair, also beside a password");
        rig_subject(&rig, &rig.bob, ON_STOPPED, own);
        {
            IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(own);

            check_err(cloud_keypairs_attach(rig.cloud, &rig.bob, &pairs, &ids, false, job_id, &err),
                      IM_NOT_FOUND, "he attaches it to nothing");
            check_err(cloud_instances_reset(rig.cloud, &rig.bob, &ids, &reset, job_id, &err),
                      IM_NOT_FOUND, "nor resets with it");
            reset.login_keypair = NULL;
            reset.image_id = image;
            check_err(cloud_instances_reset(rig.cloud, &rig.bob, &ids, &reset, job_id, &err),
                      IM_NOT_FOUND, "nor to her image");
        }
        run = rig_run_args(image);
        check_err(cloud_instances_run(rig.cloud, &rig.bob, &run, &made, job_id, &err), IM_NOT_FOUND,
                  "nor runs it");
        check_ok(cloud_keypairs_delete(rig.cloud, &rig.alice, &pairs, &err), "she deletes it");
    }
    rig_sweep(&rig);
}

/* What is for all is seen, run and cloned by all, and changed by the administrator alone. */
static void system_image(void) {
    IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(RIG_SYSTEM_IMAGE), made = {0};
    IM_AUTO(image_free_auto) struct image *image = NULL;
    JOB;

    check_err(cloud_image_modify(rig.cloud, &rig.alice, RIG_SYSTEM_IMAGE, "mine", NULL, &err),
              IM_DENIED, "a system image is not renamed by a user");
    check_err(cloud_images_delete(rig.cloud, &rig.alice, &ids, true, job_id, &err), IM_DENIED,
              "nor deleted");
    check_ok(
        cloud_image_clone(rig.cloud, &rig.alice, RIG_SYSTEM_IMAGE, 1, "mine", &made, job_id, &err),
        "but cloned");
    check(rig_done(&rig, job_id), "in a job");
    image = rig_image_row(&rig, made.items[0]);
    check(im_str_equal(image->owner, rig.alice.user_id) &&
              im_str_equal(image->visibility, "private") && im_str_equal(image->provider, "self"),
          "and the clone is hers alone");
    check_ok(cloud_image_modify(rig.cloud, &rig.admin, RIG_SYSTEM_IMAGE, NULL, "for all", &err),
             "the administrator describes it");
    rig_sweep(&rig);
}

/* --- Lists ---------------------------------------------------------------------------------- */

struct seen {
    int64_t images, instances, pairs, jobs, keys;
};

/* What a user's lists show; `id` asks for one thing by its id. */
static struct seen look(const struct caller *caller, const char *image_id,
                        const char *instance_id) {
    IM_AUTO(query_done)
    struct query images = {0}, instances = {0}, pairs = {0}, jobs = {0}, keys = {0};
    IM_AUTO(image_list_done) struct image_list image_list = {0};
    IM_AUTO(instance_list_done) struct instance_list instance_list = {0};
    IM_AUTO(keypair_list_done) struct keypair_list pair_list = {0};
    IM_AUTO(job_list_done) struct job_list job_list = {0};
    IM_AUTO(access_key_list_done) struct access_key_list key_list = {0};
    struct im_err err = {0};
    bool listed;

    if (image_id != NULL)
        query_add(&images, "image_id", CONDITION_IN, image_id);
    if (instance_id != NULL)
        query_add(&instances, "instance_id", CONDITION_IN, instance_id);
    listed = cloud_images(rig.cloud, caller, &images, &image_list, &err) &&
             cloud_instances(rig.cloud, caller, &instances, true, &instance_list, &err) &&
             cloud_keypairs(rig.cloud, caller, &pairs, instance_id, &pair_list, &err) &&
             cloud_jobs(rig.cloud, caller, &jobs, &job_list, &err) &&
             cloud_access_keys(rig.cloud, caller, &keys, &key_list, &err);
    if (!listed)
        test_note("%s", err.text);
    return (struct seen){image_list.total, instance_list.total, pair_list.total, job_list.total,
                         key_list.total};
}

static void lists(void) {
    char image[IM_ID_MAX], instance[IM_ID_MAX], pair[IM_ID_MAX];
    IM_AUTO(free_auto) char *private_key = NULL;
    IM_AUTO(free_auto) char *key_id = NULL;
    IM_AUTO(free_auto) char *secret = NULL;
    struct seen alice, bob, admin, asked;
    struct seen none = look(&rig.bob, NULL, NULL);

    rig_subject(&rig, &rig.alice, ON_IMAGE, image);
    rig_subject(&rig, &rig.alice, ON_RUNNING, instance);
    check_ok(cloud_keypair_create(rig.cloud, &rig.alice, "hers", "ssh-ed25519", NULL, pair,
                                  &private_key, &err),
             "a pair");
    check_ok(cloud_access_key_add(rig.cloud, "alice", NULL, &key_id, &secret, &err), "a key");
    alice = look(&rig.alice, NULL, NULL);
    bob = look(&rig.bob, NULL, NULL);
    admin = look(&rig.admin, NULL, NULL);
    asked = look(&rig.bob, image, instance);
    check(alice.images == 2 && alice.instances == 1 && alice.keys == 1 && alice.pairs > 0 &&
              alice.jobs > 0,
          "alice sees what is hers, and the system image");
    check(bob.images == 1 && bob.instances == 0 && bob.keys == 0 && bob.pairs == none.pairs &&
              bob.jobs == none.jobs,
          "bob sees the system image, and none of hers");
    check(admin.images == 2 && admin.instances == 1 && admin.keys == 1 &&
              admin.jobs >= alice.jobs + bob.jobs,
          "the administrator sees all");
    check(asked.images == 0 && asked.instances == 0 && asked.pairs == 0,
          "asked for by id they are not there for bob");
    check(look(&rig.alice, image, instance).instances == 1, "and are for alice");
    rig_sweep(&rig);
    check(look(&rig.alice, NULL, NULL).instances == 0 &&
              look(&rig.alice, NULL, instance).instances == 1,
          "what is ceased is listed only when asked for by id");
}

static void administration(void) {
    struct pool_report report = {0};
    struct usage_report usage = {0};
    char instance[IM_ID_MAX];

    check_err(cloud_pool_check(rig.cloud, &rig.alice, &report, &err), IM_DENIED,
              "the pool is the administrator's");
    rig_subject(&rig, &rig.alice, ON_STOPPED, instance);
    check_ok(cloud_usage(rig.cloud, &rig.bob, &usage, &err), "bob's usage");
    for (size_t i = 0; i < usage.count; i++)
        check(strcmp(usage.lines[i].id, instance) != 0, "tells of nothing that is alice's");
    usage_report_done(&usage);
    check_ok(cloud_usage(rig.cloud, &rig.alice, &usage, &err), "alice's usage");
    check(usage.count == 2 && strcmp(usage.lines[1].id, instance) == 0 &&
              usage.lines[1].virtual_bytes == RIG_IMAGE_GIB * GIB &&
              usage.lines[1].own_bytes < 1 << 20 && usage.lines[1].shared_bytes > 0,
          "tells of her disk: 20 GiB, hardly any of its own, the rest shared");
    usage_report_done(&usage);
    rig_sweep(&rig);
}

/* --- Two at the same time ------------------------------------------------------------------- */

enum { RACERS = 8, RACES = 5 };

struct racer {
    const struct rig_verb *verb;
    const char *id;
    pthread_barrier_t *start;
    bool ordered;
    enum im_code code;
    struct im_strings made;
    char job_id[IM_JOB_ID_MAX];
};

static void *race_one(void *arg) {
    struct racer *racer = arg;
    struct im_err err = {0};

    pthread_barrier_wait(racer->start);
    racer->ordered =
        racer->verb->call(&rig, &rig.alice, racer->id, &racer->made, racer->job_id, &err);
    racer->code = err.code;
    return NULL;
}

/* All verbs of `verbs` (two of them) by turns; returns how many got their way. */
static int race(const struct rig_verb *const verbs[2], const char *id,
                struct racer racers[RACERS]) {
    pthread_barrier_t start;
    pthread_t threads[RACERS];
    int winners = 0;

    pthread_barrier_init(&start, NULL, RACERS);
    for (int i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){.verb = verbs[i % 2], .id = id, .start = &start};
        pthread_create(&threads[i], NULL, race_one, &racers[i]);
    }
    for (int i = 0; i < RACERS; i++) {
        pthread_join(threads[i], NULL);
        winners += racers[i].ordered;
        if (racers[i].ordered)
            (void) rig_done(&rig, racers[i].job_id);
        else if (racers[i].code != IM_WRONG_STATE)
            check(false, "who comes late is told of the state, not %s",
                  im_code_name(racers[i].code));
    }
    pthread_barrier_destroy(&start);
    return winners;
}

static const struct rig_verb *verb_named(const char *name) {
    const struct rig_verb *verb = rig_verbs;

    while (strcmp(verb->name, name) != 0)
        verb++;
    return verb;
}

/* Each pair of verbs excludes itself and the other: the first one takes the instance. */
static void races(void) {
    static const char *const pairs[][2] = {
        {"TerminateInstances", "TerminateInstances at once"},
        {"CaptureInstance", "TerminateInstances at once"},
        {"StartInstances", "ResizeInstances"},
    };

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        for (int round = 0; round < RACES; round++) {
            const struct rig_verb *verbs[2] = {verb_named(pairs[i][0]), verb_named(pairs[i][1])};
            struct racer racers[RACERS];
            char id[IM_ID_MAX];
            int winners;

            rig_subject(&rig, &rig.alice, ON_STOPPED, id);
            winners = race(verbs, id, racers);
            /* One at a time: after a capture or a resize there may be a second winner, later. */
            check(winners >= 1, "%s and %s, %d at once: %d", pairs[i][0], pairs[i][1], RACERS,
                  winners);
            for (int j = 0; j < RACERS; j++)
                im_strings_done(&racers[j].made);
            rig_check_clean(&rig, "after a race");
            rig_sweep(&rig);
        }
}

/* An image is deleted while instances are made from it: they are made whole, or refused. */
static void image_races(void) {
    for (int round = 0; round < RACES; round++) {
        char image[IM_ID_MAX];
        struct instance_run_args args;
        IM_AUTO(im_strings_done) struct im_strings ids = {0}, made = {0};
        char delete_job[IM_JOB_ID_MAX], job_id[IM_JOB_ID_MAX];
        struct im_err err = {0};
        int runs = 0;

        rig_subject(&rig, &rig.alice, ON_IMAGE, image);
        ids = rig_ids(image);
        args = rig_run_args(image);
        args.count = 3;
        for (int i = 0; i < 4; i++) {
            if (i == round % 4)
                check_ok(cloud_images_delete(rig.cloud, &rig.alice, &ids, true, delete_job, &err),
                         "the image is deleted in between");
            im_strings_done(&made);
            if (cloud_instances_run(rig.cloud, &rig.alice, &args, &made, job_id, &err))
                runs++;
            else if (err.code != IM_WRONG_STATE)
                check(false, "%s", err.text);
        }
        check(rig_done(&rig, delete_job), "the delete is done");
        while (rig_number(&rig, "SELECT COUNT(*) FROM jobs WHERE status IN ('pending', 'working')"))
            im_sleep_ms(5);
        check(rig_machines(&rig) == (size_t) runs * 3, "%d calls that were taken made %d machines",
              runs, runs * 3);
        rig_check_clean(&rig, "after an image went");
        rig_sweep(&rig);
    }
}

int main(void) {
    struct rig_options options = {0};

    rig_open(&rig, test_folder(), &options);
    rig_image(&rig, RIG_SYSTEM_IMAGE, NULL, true);
    verbs_hidden();
    others_hidden();
    system_image();
    lists();
    administration();
    races();
    image_races();
    rig_check_clean(&rig, "at the end");
    rig_close(&rig);
    return test_end();
}
