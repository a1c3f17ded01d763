/* SPDX-License-Identifier: Apache-2.0 */
/* For each verb the n-th call to a room below fails, n = 1, 2, 3 … until the verb gets through.
 * Each time the call or its job says why in one sentence, nothing is left behind, and the same verb
 * then succeeds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "test-moments.h"
#include "test-verbs.h"

enum { MOMENTS_MAX = 200 };

static struct rig rig;

/* Jobs that were ordered although the call said that it failed end as well. */
static bool jobs_end(void) {
    int64_t deadline = im_mono_ms() + RIG_WAIT_MS;

    while (rig_number(&rig, "SELECT COUNT(*) FROM jobs WHERE status IN ('pending', 'working')") > 0)
        if (im_mono_ms() < deadline)
            im_sleep_ms(5);
        else
            return false;
    return true;
}

struct round {
    const struct rig_verb *verb;
    unsigned n;
    bool after;
    /* What came of it. */
    bool broke, succeeded;
    char sentence[504]; /* of the failure */
};

static void attempt(struct round *round, const char *id, struct im_strings *made) {
    struct moments moments = {.at = round->n,
                              .after = round->after,
                              .code = IM_INTERNAL,
                              .exempt = rig.cloud->background,
                              .main = pthread_self()};
    IM_AUTO(job_free_auto) struct job *job = NULL;
    struct im_err err = {0};
    char job_id[IM_JOB_ID_MAX];
    bool ordered;

    moments_arm(&moments);
    moments_enter();
    ordered = round->verb->call(&rig, &rig.alice, id, made, job_id, &err);
    moments_leave();
    if (!jobs_end())
        test_note("a job hangs");
    round->broke = moments_disarm() >= round->n;
    snprintf(round->sentence, sizeof(round->sentence), "%s", err.text);
    if (!ordered)
        return;
    job = rig_job(&rig, job_id);
    round->succeeded = job != NULL && job->status == JOB_SUCCESSFUL;
    snprintf(round->sentence, sizeof(round->sentence), "%s",
             job != NULL && job->error_message != NULL ? job->error_message : "");
}

/* The same verb once more; an instance that a failed restart left off is started first. */
static bool again(const struct rig_verb *verb, const char *id, char job_id[IM_JOB_ID_MAX]) {
    IM_AUTO(im_strings_done) struct im_strings made = {0}, ids = rig_ids(id);
    IM_AUTO(instance_free_auto) struct instance *instance = rig_instance_row(&rig, id);
    struct im_err err = {0};
    bool fine;

    if (verb->subject == ON_RUNNING && instance->status == INSTANCE_STOPPED &&
        !(cloud_instances_start(rig.cloud, &rig.alice, &ids, job_id, &err) &&
          rig_done(&rig, job_id))) {
        test_note("start: %s", err.text);
        return false;
    }
    fine = verb->call(&rig, &rig.alice, id, &made, job_id, &err) && rig_done(&rig, job_id) &&
           verb->reached(&rig, id, made.count > 0 ? made.items[0] : "");
    if (!fine)
        test_note("again: %s", err.text);
    return fine;
}

static bool settled(const struct round *round, const char *id, const struct im_strings *made) {
    const char *first = made->count > 0 ? made->items[0] : "";
    IM_AUTO(free_auto) char *faults = rig_faults(&rig);
    char job_id[IM_JOB_ID_MAX];

    if (faults[0] != '\0')
        test_note("%s", faults);
    if (!round->succeeded && round->sentence[0] == '\0')
        test_note("no reason was given");
    if (round->succeeded)
        return faults[0] == '\0' && round->verb->reached(&rig, id, first);
    return faults[0] == '\0' && round->sentence[0] != '\0' &&
           (round->verb->reached(&rig, id, first) || again(round->verb, id, job_id));
}

/* False when the verb got through. */
static bool round_once(const struct rig_verb *verb, unsigned n, bool after) {
    struct round round = {.verb = verb, .n = n, .after = after};
    IM_AUTO(im_strings_done) struct im_strings made = {0};
    char id[IM_ID_MAX];
    bool fine;

    rig_subject(&rig, &rig.alice, verb->subject, id);
    attempt(&round, id, &made);
    fine = settled(&round, id, &made);
    if (round.broke || !fine)
        check(fine, "%s, call %u fails %s (%s): %s", verb->name, n,
              after ? "after its effect" : "at once", moments_what(),
              round.succeeded ? "done all the same" : round.sentence);
    rig_sweep(&rig);
    return round.broke;
}

static void walk(const struct rig_verb *verb, bool after) {
    unsigned n = 1;

    while (n < MOMENTS_MAX && round_once(verb, n, after))
        n = moment_next(n, (size_t) (verb - rig_verbs) + after);
    check(n > 1 && n < MOMENTS_MAX, "%s gets through in fewer than %u calls", verb->name, n);
}

/* --- What is seen at the same seams --------------------------------------------------------- */

static unsigned asked_for_lists(void) {
    IM_AUTO(query_done)
    struct query query = {.limit = 100}, pairs = {.limit = 100}, works = {.limit = 100},
                 disks = {.limit = 100};
    IM_AUTO(instance_list_done) struct instance_list instances = {0};
    IM_AUTO(keypair_list_done) struct keypair_list keypairs = {0};
    IM_AUTO(job_list_done) struct job_list jobs = {0};
    IM_AUTO(volume_list_done) struct volume_list volumes = {0};
    struct im_err err = {0};
    bool listed;

    (void) moments_statements();
    listed = cloud_instances(rig.cloud, &rig.alice, &query, false, &instances, &err) &&
             cloud_keypairs(rig.cloud, &rig.alice, &pairs, NULL, &keypairs, &err) &&
             cloud_jobs(rig.cloud, &rig.alice, &works, &jobs, &err) &&
             cloud_volumes(rig.cloud, &rig.alice, &disks, false, &volumes, &err);
    check(listed, "%zu instances, %zu key pairs, %zu jobs, %zu volumes are listed", instances.count,
          keypairs.count, jobs.count, volumes.count);
    for (size_t i = 0; i < instances.count; i++) {
        const struct instance_view *view = &instances.items[i];
        bool companion = view->instance->status == INSTANCE_RUNNING;

        if (view->nic_count != 1 || view->keypair_ids.count != (companion ? 0 : 1) ||
            view->volume_count != (companion ? 1 : 0) ||
            !im_str_equal(view->image->image_id, RIG_SYSTEM_IMAGE))
            check(false, "%s has its image, card, and pair or volume", view->instance->instance_id);
    }
    return moments_statements();
}

/* Makes instances with a pair each and volumes attached to others; a page costs the same whatever
 * stands on it. */
static void lists_ask_as_often(void) {
    const struct rig_verb *attach = rig_verbs;
    unsigned few = 0;

    while (strcmp(attach->name, "AttachKeyPairs") != 0)
        attach++;
    moments_arm(&(struct moments){.main = pthread_self()});
    for (int i = 0; i < 12; i++) {
        IM_AUTO(im_strings_done) struct im_strings made = {0};
        char id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];
        struct im_err err = {0};

        rig_subject(&rig, &rig.alice, ON_STOPPED, id);
        check(attach->call(&rig, &rig.alice, id, &made, job_id, &err) && rig_done(&rig, job_id),
              "instance %d takes a pair", i);
        rig_subject(&rig, &rig.alice, ON_ATTACHED, id);
        if (i == 1)
            few = asked_for_lists();
    }
    check(few > 0 && asked_for_lists() == few,
          "a page of twelve takes the %u questions of one of two", few);
    moments_disarm();
    rig_sweep(&rig);
}

/* Firmware does not hear the power button; the guest that comes after it does. */
static void button_is_pressed_again(void) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];
    int64_t began = im_mono_ms();

    rig_subject(&rig, &rig.alice, ON_RUNNING, id);
    im_strings_add(&ids, id);
    rig.cloud->config.stop_timeout_ms = 6 * RIG_WAIT_MS;
    moments_deaf(1);
    check_ok(cloud_instances_stop(rig.cloud, &rig.alice, &ids, false, job_id, &err),
             "a guest in its firmware is asked to stop");
    check(rig_done(&rig, job_id) && im_mono_ms() - began < 3 * RIG_WAIT_MS &&
              moments_presses_left() < 0,
          "it is asked again, and stops long before it would be forced");
    check(rig_instance_is(&rig, id, INSTANCE_STOPPED), "and is called stopped");
    rig_sweep(&rig);
}

static void stop_is_cancelled(void) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0}, jobs = {0};
    IM_AUTO(job_free_auto) struct job *job = NULL;
    char id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];

    rig_subject(&rig, &rig.alice, ON_RUNNING, id);
    im_strings_add(&ids, id);
    moments_deaf(1000);
    check_ok(cloud_instances_stop(rig.cloud, &rig.alice, &ids, false, job_id, &err),
             "a deaf guest is asked to stop");
    im_strings_add(&jobs, job_id);
    while (moments_presses_left() == 1000)
        im_sleep_ms(5);
    check_ok(cloud_jobs_cancel(rig.cloud, &rig.alice, &jobs, &err), "the job is cancelled");
    job = rig_job(&rig, job_id);
    check(job != NULL && job->status == JOB_FAILED && strstr(job->error_message, "cancel") != NULL,
          "and fails with that reason: %s", job ? job->error_message : "");
    moments_deaf(0);
    check(rig_instance_is(&rig, id, INSTANCE_RUNNING) && rig_runs(&rig, id), "the guest runs on");
    rig_check_clean(&rig, "after a cancelled stop");
    rig_sweep(&rig);
}

int main(int argc, char **argv) {
    struct rig_options options = {0};

    moments_all(&argc, argv);
    rig_open(&rig, test_folder(), &options);
    rig_image(&rig, RIG_SYSTEM_IMAGE, NULL, true);
    for (const struct rig_verb *verb = rig_verbs; verb->name != NULL; verb++)
        for (int after = 0; after < 2; after++)
            if (argc < 2 || strstr(verb->name, argv[1]) != NULL)
                walk(verb, after == 1);
    if (argc < 2 || strcmp(argv[1], "seams") == 0) {
        lists_ask_as_often();
        button_is_pressed_again();
        stop_is_cancelled();
    }
    rig_close(&rig);
    return test_end();
}
