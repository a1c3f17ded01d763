/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs that survive anything. A job is one API call that works on one or more resources; each
 * resource is an *item*, a row that goes through the steps of its verb. The number of the step is
 * written before the step is done, so that after `kill -9` at any moment start-up finds every
 * unfinished item and either goes on with it or undoes it.
 *
 * A step has two halves: `run` does things outside the record (files, machines) and is repeatable;
 * `commit` changes rows, in the same transaction that moves the item to the next step. When a step
 * fails, is cancelled, or the verb does not resume after a restart, the `undo` halves run from that
 * step back to the first, then `undone` puts the rows right in the transaction that marks the item
 * failed. Undo must not depend on `run` having finished, or begun.
 *
 * A record in trouble (IM_NO_RECORD: a full disk, a server that is away) fails no job: the commit,
 * or the step that met it, is tried again with longer and longer pauses. Whether a commit happened
 * whose answer was lost is read from the item.
 *
 * Codes that end up in a job are those of the steps; the sentence is kept with the item and the
 * job. */
#ifndef JOBS_JOBS_H
#define JOBS_JOBS_H

#include "db/db.h"
#include "model/model.h"

#define IM_JOB_ID_MAX 64

struct jobs;

/* What a step sees. Belongs to the thread that runs the item. */
struct job_run {
    struct jobs *jobs;
    void *context;               /* what was given to jobs_open: the cloud */
    struct job *job;             /* read-only for steps */
    struct job_item *item;       /* steps may change `data`: it is written with the next commit */
    const volatile bool *cancel; /* true: stop soon, fail with IM_CANCELLED */
    void *scratch; /* free for the verb between run and commit of one step: freed with free() */
};

struct job_step {
    const char *name; /* "disk", "start": shown by DescribeJobs and in the log */
    bool (*run)(struct job_run *run, struct im_err *err);                          /* may be NULL */
    bool (*commit)(struct job_run *run, struct db_conn *conn, struct im_err *err); /* may be NULL */
    bool (*undo)(struct job_run *run, struct im_err *err);                         /* may be NULL */
};

struct job_verb {
    const char *action; /* API name */
    const struct job_step *steps;
    size_t step_count;
    bool (*undone)(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                   struct im_err *err);
    bool resumes; /* after a restart: true = go on with the step, false = undo */
    bool cancels; /* CancelJobs is allowed while it runs */
    /* So many of its items run at once; the others wait without holding a thread. NULL, 0: as many
     * as there are threads. */
    unsigned (*at_once)(void *context);
};

struct jobs_config {
    struct db *db;
    const struct job_verb *const *verbs; /* NULL-terminated */
    void *context;
    unsigned threads;   /* items that run at once, e.g. 4 */
    const char *worker; /* name of this imprintd, kept in job.worker */
    int64_t keep_s;     /* finished jobs are removed after this time; 0 = keep */
    int64_t tick_ms;    /* old jobs are removed, forgotten ones found so often; 0 = every minute */
    int64_t rest_ms;    /* first pause while record or undo is in trouble; doubles; 0 = 500 */
};

struct jobs *jobs_open(const struct jobs_config *config, struct im_err *err) IM_MUST_CHECK;
/* Reads the unfinished items from the record, whichever imprintd left them (one serves at a time,
 * see db_claim), and starts the threads. */
bool jobs_start(struct jobs *jobs, struct im_err *err) IM_MUST_CHECK;
/* Lets running steps end (or stops them when they look at `cancel`) and joins the threads;
 * unfinished items stay in the record and go on at the next start. NULL is fine. */
void jobs_stop(struct jobs *jobs);

struct job_order {
    const char *resource_id;
    const char *data; /* the item's data at the beginning; NULL = "" */
};
/* Writes job and items inside the caller's transaction: the resource's rows and its job appear
 * together. Directive is JSON text for people, without secrets. The job runs once the caller has
 * committed and called jobs_wake(), at the latest when the record is looked after. */
bool jobs_add(struct jobs *jobs, struct db_conn *conn, const char *action, const char *owner,
              const char *directive, const struct job_order *orders, size_t order_count,
              char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
void jobs_wake(struct jobs *jobs, const char *job_id);
/* Asks a job to stop. IM_WRONG_STATE when it is finished or its verb can not be cancelled. Call
 * inside a transaction. */
bool jobs_cancel(struct jobs *jobs, struct db_conn *conn, const char *job_id,
                 struct im_err *err) IM_MUST_CHECK;
/* For steps that move bytes: those of this item. The sum over the job's items is kept in memory,
 * written to the record at most once a second, shown with rate and time left. */
void jobs_progress(struct job_run *run, int64_t done_bytes, int64_t total_bytes);
/* The freshest progress of a job that runs here: overlays the fields of `job`, which came from the
 * record. */
void jobs_overlay(struct jobs *jobs, struct job *job);
/* Waits until the job is finished, at most timeout_ms; for tests and for shutting down. */
bool jobs_wait(struct jobs *jobs, const char *job_id, int64_t timeout_ms,
               struct im_err *err) IM_MUST_CHECK;
/* The verb of an action; NULL if it has none. */
const struct job_verb *jobs_verb(const struct jobs *jobs, const char *action);

#endif
