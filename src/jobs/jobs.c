/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: threads that take items and move them step by step, forward or back, through the
 * record. */
#include "jobs/jobs.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "jobs-private.h"
#include "record/record.h"

enum { UNDO_TRIES = 3, SWEEP_ROWS = 500 };

const struct job_verb *jobs_verb(const struct jobs *jobs, const char *action) {
    for (size_t i = 0; jobs->config.verbs[i] != NULL; i++)
        if (strcmp(jobs->config.verbs[i]->action, action) == 0)
            return jobs->config.verbs[i];
    return NULL;
}

struct jobs *jobs_open(const struct jobs_config *config, struct im_err *err) {
    struct jobs *jobs;

    if (config->threads == 0 || config->threads > THREADS_MAX) {
        im_fail(err, IM_BAD_MESSAGE, "job threads should be between 1 and %d", THREADS_MAX);
        return NULL;
    }
    jobs = im_alloc(sizeof(*jobs));
    jobs->config = *config;
    jobs->worker = im_strdup(config->worker ? config->worker : "");
    queue_init(jobs);
    return jobs;
}

/* --- Adding -------------------------------------------------------------------------------------
 */

bool jobs_add(struct jobs *jobs, struct db_conn *conn, const char *action, const char *owner,
              const char *directive, const struct job_order *orders, size_t order_count,
              char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    IM_AUTO(im_str_done) struct im_str resources = {0};
    char id[IM_ID_MAX];
    struct job job = {.job_id = id,
                      .job_action = (char *) action,
                      .status = JOB_PENDING,
                      .owner = (char *) owner,
                      .directive = (char *) directive,
                      .create_time = im_now_s(),
                      .status_time = im_now_s(),
                      .worker = jobs->worker};

    assert(jobs_verb(jobs, action) != NULL && order_count > 0);
    im_id_make(id, "j-", 11);
    for (size_t i = 0; i < order_count; i++) {
        /* Of one length, so that the order of the texts is the order of the numbers. */
        IM_AUTO(free_auto) char *item_id = im_printf("%s/%04zu", id, i);
        struct job_item item = {.item_id = item_id,
                                .job_id = id,
                                .resource_id = (char *) orders[i].resource_id,
                                .state = ITEM_PENDING,
                                .data = (char *) (orders[i].data ? orders[i].data : "")};

        im_str_addf(&resources, "%s%s", i ? " " : "", orders[i].resource_id);
        if (!record_insert(conn, &job_item_type, &item, err))
            return false;
    }
    job.resource_ids = resources.data;
    if (!record_insert(conn, &job_type, &job, err))
        return false;
    memcpy(ret_job_id, id, sizeof(id));
    return true;
}

void jobs_wake(struct jobs *jobs, const char *job_id) { queue_add(jobs, job_id, NULL); }

/* Gives tickets to the unfinished items of one job, or, with NULL, of all. */
static bool add_unfinished(struct jobs *jobs, const char *job_id, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(jobs->config.db, err);
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    bool more = true;

    if (conn == NULL)
        return false;
    rows = db_query(conn, err,
                    "SELECT i.job_id, i.item_id FROM job_items i JOIN jobs j ON j.job_id = i.job_id"
                    " WHERE i.state IN ('pending', 'working', 'undoing')"
                    " AND ($1 = '' OR j.job_id = $1) ORDER BY j.create_time, i.item_id",
                    "t", job_id ? job_id : "");
    if (rows == NULL)
        return false;
    while (db_next(rows, &more, err) && more)
        queue_add(jobs, db_text(rows, 0), db_text(rows, 1));
    return !more;
}

/* The job is in the record, and the record may be away. */
static void add_woken(struct jobs *jobs, const char *job_id) {
    struct im_err err = {0};

    for (unsigned try = 0; !add_unfinished(jobs, job_id, &err); try++) {
        im_warn("jobs", "%s has to wait: %s", job_id, err.text);
        err = (struct im_err){0};
        if (!queue_rest(jobs, try))
            return;
    }
}

/* --- Ends of items, and of their job ---------------------------------------------------------- */

/* Everything one step of one item touches in the record, for one transaction. */
struct move {
    struct job_run *run;
    const struct job_verb *verb;
    const struct job_step *step; /* whose commit is part of it; NULL: none */
    enum item_state state;       /* of the item afterwards */
    int64_t next_step;
    const struct im_err *why; /* of a failed item */
};

static bool job_counts(struct db_conn *conn, const char *job_id, int64_t *ret_all,
                       int64_t *ret_left, int64_t *ret_failed, struct im_err *err) {
    IM_AUTO(db_rows_free_auto)
    struct db_rows *rows = db_query(
        conn, err,
        "SELECT COUNT(*), SUM(CASE WHEN state IN ('done', 'failed') THEN 0 ELSE 1 END),"
        " SUM(CASE WHEN state = 'failed' THEN 1 ELSE 0 END) FROM job_items WHERE job_id = $1",
        "t", job_id);
    bool more = false;

    if (rows == NULL || !db_next(rows, &more, err))
        return false;
    *ret_all = db_int(rows, 0);
    *ret_left = db_int(rows, 1);
    *ret_failed = db_int(rows, 2);
    return true;
}

/* Clients know only successful and failed: "done with failure" lets some of them wait for ever. */
static bool job_settle(struct db_conn *conn, const struct move *move, struct im_err *err) {
    IM_AUTO(job_free_auto) struct job *job = NULL;
    int64_t all = 0, left = 0, failed = 0;

    if (!record_get(conn, &job_type, move->run->job->job_id, &job, err) ||
        !job_counts(conn, job->job_id, &all, &left, &failed, err))
        return false;
    job->status = left > 0 ? JOB_WORKING : failed > 0 ? JOB_FAILED : JOB_SUCCESSFUL;
    job->status_time = im_now_s();
    if (move->why != NULL && im_str_empty(job->error_message)) {
        char code[16];

        snprintf(code, sizeof(code), "%d", im_code_ret(move->why->code));
        im_replace(&job->error_codes, code);
        im_replace(&job->error_message, move->why->text);
    }
    if (left == 0 && failed > 0 && failed < all) {
        IM_AUTO(free_auto)
        char *text = im_printf("%" PRId64 " of %" PRId64 " failed, the first: %s", failed, all,
                               job->error_message);

        im_replace(&job->error_message, text);
    }
    return record_update_fields(
        conn, &job_type, job,
        (const char *const[]){"status", "status_time", "error_codes", "error_message", NULL}, err);
}

static bool move_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct move *move = arg;
    struct job_run *run = move->run;
    struct job_item *item = run->item;
    struct job_item row = {.item_id = item->item_id, .state = move->state, .step = move->next_step};

    if (move->step != NULL && move->step->commit != NULL && !move->step->commit(run, conn, err))
        return false;
    if (move->state == ITEM_FAILED && move->verb->undone != NULL &&
        !move->verb->undone(run, conn, move->why, err))
        return false;
    row.data = item->data;
    if (move->why != NULL) {
        row.error_code = (char *) im_code_name(move->why->code);
        row.error_message = (char *) move->why->text;
    }
    return record_update_fields(
               conn, &job_item_type, &row,
               (const char *const[]){"state", "step", "data", "error_code", "error_message", NULL},
               err) &&
           job_settle(conn, move, err);
}

/* A commit may have happened although nobody told us: then the item is where it should be. */
static bool has_moved(const struct move *move, bool *ret_moved, struct im_err *err) {
    struct job_run *run = move->run;
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(run->jobs->config.db, err);
    IM_AUTO(job_item_free_auto) struct job_item *item = NULL;

    if (conn == NULL || !record_get(conn, &job_item_type, run->item->item_id, &item, err))
        return false;
    *ret_moved = item->state == move->state && item->step == move->next_step;
    return true;
}

/* The trouble is the record's, and passes: a full disk, a server that is away. */
static bool passes(const struct im_err *err) {
    return err->code == IM_BUSY || err->code == IM_NO_RECORD || err->code == IM_UNKNOWN_COMMIT;
}

static bool try_to_move(const struct move *move, bool *unknown, struct im_err *err) {
    bool moved = false;

    if (*unknown && !has_moved(move, &moved, err))
        return false;
    if (moved)
        return true;
    *unknown = false;
    if (db_transact(move->run->jobs->config.db, move_body, (void *) move, err))
        return true;
    *unknown = err->code == IM_UNKNOWN_COMMIT;
    return false;
}

/* What a step did stays done while the record is in trouble: its commit is tried until it goes, the
 * engine stops, or (going forward) somebody cancels. */
static bool move_item(const struct move *move, bool cancels, struct im_err *err) {
    struct job_run *run = move->run;
    bool unknown = false;

    for (unsigned try = 0; !try_to_move(move, &unknown, err); try++) {
        if (!passes(err) || run->jobs->stop)
            return false;
        im_warn("jobs", "%s has to wait: %s", run->item->item_id, err->text);
        if (!queue_rest(run->jobs, try))
            return false;
        if (cancels && *run->cancel && !unknown)
            return im_fail(err, IM_CANCELLED, "cancelled while its end could not be written");
        *err = (struct im_err){0};
    }
    run->item->state = move->state;
    run->item->step = move->next_step;
    return true;
}

/* --- Running one item ------------------------------------------------------------------------- */

static void forget_scratch(struct job_run *run) {
    free(run->scratch);
    run->scratch = NULL;
}

/* A step that met a record in trouble is done again: it is repeatable. */
static bool run_step(struct job_run *run, const struct job_step *step, struct im_err *err) {
    for (unsigned try = 0; step->run != NULL && !step->run(run, err); try++) {
        forget_scratch(run);
        if (err->code != IM_NO_RECORD || run->jobs->stop || *run->cancel)
            return false;
        im_warn("jobs", "%s: step %s has to wait: %s", run->item->item_id, step->name, err->text);
        if (!queue_rest(run->jobs, try))
            return false;
        *err = (struct im_err){0};
    }
    return true;
}

static bool begun_body(struct db_conn *conn, void *arg, struct im_err *err) {
    return db_exec(conn, NULL, err,
                   "UPDATE jobs SET status = 'working', status_time = $1"
                   " WHERE job_id = $2 AND status = 'pending'",
                   "it", im_now_s(), (const char *) arg);
}

/* So that lists find it among those at work within its first step, too: the end of a step writes
 * the same. It may be lost, as the job then begins again, and need not hold up a step of a few
 * milliseconds. */
static void note_begun(const struct job_run *run) {
    struct im_err err = {0};

    if (run->job->status == JOB_PENDING &&
        !db_transact_lightly(run->jobs->config.db, begun_body, run->job->job_id, &err))
        im_debug("jobs", "%s: that it has begun is not written: %s", run->job->job_id, err.text);
}

/* Forward from the item's step to its end. False with the reason when it has to go back. An engine
 * that stops is no reason: the item stays as it is (*ret_left true). */
static bool forward(struct job_run *run, const struct job_verb *verb, bool *ret_left,
                    struct im_err *err) {
    while (run->item->step < (int64_t) verb->step_count) {
        int64_t number = run->item->step;
        const struct job_step *step = &verb->steps[number];
        bool last = number + 1 == (int64_t) verb->step_count, fine;
        struct move move = {.run = run,
                            .verb = verb,
                            .step = step,
                            .state = last ? ITEM_DONE : ITEM_WORKING,
                            .next_step = number + 1};

        if (run->jobs->stop) {
            *ret_left = true;
            return true;
        }
        if (*run->cancel && verb->cancels)
            return im_fail(err, IM_CANCELLED, "cancelled before step %s", step->name);
        if (number == 0 && step->run != NULL)
            note_begun(run);
        fine = run_step(run, step, err) && move_item(&move, verb->cancels, err);
        forget_scratch(run);
        if (!fine && run->jobs->stop && (err->code == IM_CANCELLED || passes(err))) {
            *ret_left = true;
            return true;
        }
        if (!fine)
            return im_within(err, "%s", step->name);
    }
    return true;
}

/* False when the engine stops before it is undone. */
static bool undo_step(struct job_run *run, const struct job_step *step) {
    for (unsigned try = 0; step->undo != NULL; try++) {
        struct im_err err = {0};
        bool undone = step->undo(run, &err);

        forget_scratch(run);
        if (undone)
            break;
        im_warn("jobs", "%s: cannot undo step %s: %s", run->item->item_id, step->name, err.text);
        if (try + 1 == UNDO_TRIES)
            break; /* what is left is found by comparing pool and record */
        if (!queue_rest(run->jobs, try))
            return false;
    }
    return true;
}

static void backward(struct job_run *run, const struct job_verb *verb, const struct im_err *why) {
    struct move begin = {
        .run = run, .verb = verb, .state = ITEM_UNDOING, .next_step = run->item->step, .why = why};
    struct move end = {.run = run, .verb = verb, .state = ITEM_FAILED, .why = why};
    struct im_err err = {0};

    if (run->item->state != ITEM_UNDOING && !move_item(&begin, false, &err)) {
        im_error("jobs", "%s: cannot be undone now: %s", run->item->item_id, err.text);
        return; /* until somebody looks after the record, or the next start */
    }
    for (int64_t i = run->item->step < (int64_t) verb->step_count ? run->item->step
                                                                  : (int64_t) verb->step_count - 1;
         i >= 0; i--)
        if (!undo_step(run, &verb->steps[i]))
            return; /* the next start goes on with it */
    err = (struct im_err){0};
    if (!move_item(&end, false, &err))
        im_error("jobs", "%s: its end cannot be written now: %s", run->item->item_id, err.text);
}

static void run_loaded(struct job_run *run, bool restarted) {
    const struct job_verb *verb = jobs_verb(run->jobs, run->job->job_action);
    struct im_err err = {0};
    bool left = false;

    if (verb == NULL) {
        im_error("jobs", "%s: this program has no verb %s", run->job->job_id, run->job->job_action);
        return;
    }
    if (run->item->state == ITEM_UNDOING) {
        im_fail(&err, im_code_from_name(run->item->error_code), "%s", run->item->error_message);
        backward(run, verb, &err);
        return;
    }
    if (restarted && run->item->state == ITEM_WORKING && !verb->resumes) {
        im_fail(&err, IM_CANCELLED, "imprintd was restarted in the middle of %s", verb->action);
        backward(run, verb, &err);
        return;
    }
    if (!forward(run, verb, &left, &err)) {
        im_info("jobs", "%s %s: %s", verb->action, run->item->resource_id, err.text);
        backward(run, verb, &err);
    }
}

static bool load(struct jobs *jobs, const char *item_id, struct job_item **ret_item,
                 struct job **ret_job, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(jobs->config.db, err);
    IM_AUTO(job_item_free_auto) struct job_item *item = NULL;

    if (conn == NULL || !record_get(conn, &job_item_type, item_id, &item, err) ||
        !record_get(conn, &job_type, item->job_id, ret_job, err))
        return false;
    *ret_item = im_steal(&item);
    return true;
}

static bool load_patiently(struct jobs *jobs, const char *item_id, struct job_item **ret_item,
                           struct job **ret_job) {
    struct im_err err = {0};

    for (unsigned try = 0; !load(jobs, item_id, ret_item, ret_job, &err); try++) {
        im_warn("jobs", "%s cannot be read: %s", item_id, err.text);
        if (err.code == IM_NOT_FOUND || !queue_rest(jobs, try))
            return false;
        err = (struct im_err){0};
    }
    return true;
}

/* False when its ticket waits for another time. */
static bool run_item(struct jobs *jobs, struct ticket *ticket) {
    IM_AUTO(job_free_auto) struct job *job = NULL;
    IM_AUTO(job_item_free_auto) struct job_item *item = NULL;
    struct job_run run = {.jobs = jobs, .context = jobs->config.context};
    const struct job_verb *verb;

    if (!load_patiently(jobs, ticket->item_id, &item, &job) || item->state == ITEM_DONE ||
        item->state == ITEM_FAILED)
        return true;
    if (job->cancel || jobs->stop)
        ticket->active->cancel = true;
    verb = jobs_verb(jobs, job->job_action);
    if (verb != NULL && !queue_enter(jobs, ticket, verb))
        return false;
    run.job = job;
    run.item = item;
    run.cancel = &ticket->active->cancel;
    im_log_set_context(job->job_id);
    run_loaded(&run, item->state == ITEM_WORKING);
    im_log_set_context(NULL);
    return true;
}

/* --- Looking after the record -----------------------------------------------------------------
 */

/* Some of the finished jobs whose time is over. */
static bool sweep_body(struct db_conn *conn, void *arg, struct im_err *err) {
    static const char old[] = " WHERE job_id IN (SELECT job_id FROM jobs WHERE status IN"
                              " ('successful', 'failed') AND status_time < $1"
                              " ORDER BY status_time, job_id LIMIT %d)";
    IM_AUTO(free_auto) char *where = im_printf(old, SWEEP_ROWS);
    IM_AUTO(free_auto) char *items = im_printf("DELETE FROM job_items%s", where);
    IM_AUTO(free_auto) char *rows = im_printf("DELETE FROM jobs%s", where);
    int64_t *arguments = arg;

    return db_exec(conn, NULL, err, items, "i", arguments[0]) &&
           db_exec(conn, &arguments[1], err, rows, "i", arguments[0]);
}

/* Old jobs go; a job nobody woke, since its caller did not learn that it was committed, begins. */
static void look_after(struct jobs *jobs) {
    int64_t arguments[2] = {im_now_s() - jobs->config.keep_s, SWEEP_ROWS};
    struct im_err err = {0};

    while (jobs->config.keep_s > 0 && arguments[1] == SWEEP_ROWS && !jobs->stop)
        if (!db_transact(jobs->config.db, sweep_body, arguments, &err))
            break;
    if (err.code != IM_OK)
        im_warn("jobs", "old jobs stay for now: %s", err.text);
    err = (struct im_err){0};
    if (!add_unfinished(jobs, NULL, &err))
        im_warn("jobs", "cannot look for unfinished jobs: %s", err.text);
}

static void *thread_main(void *arg) {
    struct jobs *jobs = arg;
    struct ticket *ticket;

    while (queue_next(jobs, &ticket)) {
        if (ticket == NULL) {
            look_after(jobs);
            continue;
        }
        if (ticket->item_id == NULL)
            add_woken(jobs, ticket->active->job_id);
        else if (!run_item(jobs, ticket))
            continue;
        queue_finish(jobs, ticket);
    }
    return NULL;
}

/* --- Start, stop, cancel ------------------------------------------------------------------------
 */

bool jobs_start(struct jobs *jobs, struct im_err *err) {
    if (!add_unfinished(jobs, NULL, err))
        return false;
    for (; jobs->thread_count < jobs->config.threads; jobs->thread_count++) {
        int rc = pthread_create(&jobs->threads[jobs->thread_count], NULL, thread_main, jobs);

        if (rc != 0)
            return im_fail_sys(err, rc, "cannot start a job thread");
    }
    return true;
}

void jobs_stop(struct jobs *jobs) {
    if (jobs == NULL)
        return;
    pthread_mutex_lock(&jobs->lock);
    jobs->stop = true;
    for (struct active *active = jobs->active; active != NULL; active = active->next)
        active->cancel = true;
    pthread_cond_broadcast(&jobs->wake);
    pthread_cond_broadcast(&jobs->halt);
    pthread_mutex_unlock(&jobs->lock);
    for (unsigned i = 0; i < jobs->thread_count; i++)
        pthread_join(jobs->threads[i], NULL);
    queue_done(jobs);
    free(jobs->worker);
    free(jobs);
}

bool jobs_cancel(struct jobs *jobs, struct db_conn *conn, const char *job_id, struct im_err *err) {
    IM_AUTO(job_free_auto) struct job *job = NULL;
    const struct job_verb *verb;
    struct active *active;

    if (!record_get(conn, &job_type, job_id, &job, err))
        return false;
    verb = jobs_verb(jobs, job->job_action);
    if (job->status != JOB_PENDING && job->status != JOB_WORKING)
        return im_fail(err, IM_WRONG_STATE, "job [%s] is finished, can not be cancelled", job_id);
    if (verb == NULL || !verb->cancels)
        return im_fail(err, IM_WRONG_STATE, "job [%s]: %s can not be cancelled", job_id,
                       job->job_action);
    job->cancel = 1;
    if (!record_update_fields(conn, &job_type, job, (const char *const[]){"cancel", NULL}, err))
        return false;
    pthread_mutex_lock(&jobs->lock);
    active = queue_active(jobs, job_id);
    if (active != NULL) {
        active->cancel = true;
        queue_unpark(jobs);
    }
    pthread_mutex_unlock(&jobs->lock);
    return true;
}

bool jobs_wait(struct jobs *jobs, const char *job_id, int64_t timeout_ms, struct im_err *err) {
    int64_t deadline = im_mono_ms() + timeout_ms;

    for (;;) {
        IM_AUTO(db_give_auto) struct db_conn *conn = db_take(jobs->config.db, err);
        IM_AUTO(job_free_auto) struct job *job = NULL;

        if (conn == NULL || !record_get(conn, &job_type, job_id, &job, err))
            return false;
        if (job->status != JOB_PENDING && job->status != JOB_WORKING)
            return true;
        if (im_mono_ms() > deadline)
            return im_fail(err, IM_TIMEOUT, "job [%s] is not finished after %" PRId64 " ms", job_id,
                           timeout_ms);
        im_sleep_ms(10);
    }
}
