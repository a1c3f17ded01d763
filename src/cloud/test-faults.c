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

/* Everything that a round made, also what it was not told of. */
static void sweep(void) {
    static const char *const lists[] = {
        "SELECT instance_id FROM instances WHERE status <> 'ceased'",
        "SELECT image_id FROM images WHERE status NOT IN ('ceased', 'deleted') AND owner <> "
        "'system'",
    };

    for (size_t i = 0; i < 2; i++) {
        IM_AUTO(im_strings_done) struct im_strings ids = {0};
        struct im_err err = {0};
        struct db_conn *conn = db_take(rig.db, &err);
        struct db_rows *rows = db_query(conn, &err, lists[i], "");
        bool more = true;

        while (rows != NULL && db_next(rows, &more, &err) && more)
            im_strings_add(&ids, db_text(rows, 0));
        db_rows_free(rows);
        db_give(conn);
        for (size_t j = 0; j < ids.count; j++)
            rig_discard(&rig, ids.items[j]);
    }
}

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
    sweep();
    return round.broke;
}

static void walk(const struct rig_verb *verb, bool after) {
    unsigned n = 1;

    while (n < MOMENTS_MAX && round_once(verb, n, after))
        n++;
    check(n > 1 && n < MOMENTS_MAX, "%s gets through in %u calls", verb->name, n - 1);
}

int main(int argc, char **argv) {
    struct rig_options options = {0};

    rig_open(&rig, test_folder(), &options);
    rig_image(&rig, RIG_SYSTEM_IMAGE, NULL, true);
    for (const struct rig_verb *verb = rig_verbs; verb->name != NULL; verb++)
        for (int after = 0; after < 2; after++)
            if (argc < 2 || strstr(verb->name, argv[1]) != NULL)
                walk(verb, after == 1);
    rig_close(&rig);
    return test_end();
}
