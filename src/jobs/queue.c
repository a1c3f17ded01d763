/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of items, first in first out, and the progress of the jobs they belong to. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "jobs-private.h"
#include "record/record.h"

enum {
    REST_MS = 500,
    REST_MAX_MS = 15000,
    DOUBLINGS = 6,
    TICK_MS = 60000,
    FLUSH_MS = 1000,
    RATE_MS = 5000
};

void queue_init(struct jobs *jobs) {
    pthread_condattr_t monotonic;

    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_cond_init(&jobs->wake, &monotonic);
    pthread_cond_init(&jobs->halt, &monotonic);
    pthread_condattr_destroy(&monotonic);
    jobs->last = &jobs->first;
}

/* --- Jobs at work ---------------------------------------------------------------------------- */

struct active *queue_active(struct jobs *jobs, const char *job_id) {
    struct active *active = jobs->active;

    while (active != NULL && strcmp(active->job_id, job_id) != 0)
        active = active->next;
    return active;
}

static struct active *active_ref(struct jobs *jobs, const char *job_id) {
    struct active *active = queue_active(jobs, job_id);

    if (active == NULL) {
        active = im_alloc(sizeof(*active));
        snprintf(active->job_id, sizeof(active->job_id), "%s", job_id);
        active->next = jobs->active;
        jobs->active = active;
    }
    active->tickets++;
    return active;
}

static void active_unref(struct jobs *jobs, struct active *active) {
    struct active **slot = &jobs->active;

    if (--active->tickets > 0)
        return;
    while (*slot != active)
        slot = &(*slot)->next;
    *slot = active->next;
    for (size_t i = 0; i < active->share_count; i++)
        free(active->shares[i].item_id);
    free(active->shares);
    free(active);
}

/* --- Tickets --------------------------------------------------------------------------------- */

static void unlink_ticket(struct jobs *jobs, struct ticket *ticket) {
    struct ticket **slot = &jobs->first;

    while (*slot != ticket)
        slot = &(*slot)->next;
    *slot = ticket->next;
    if (jobs->last == &ticket->next)
        jobs->last = slot;
    active_unref(jobs, ticket->active);
    free(ticket->item_id);
    free(ticket);
}

void queue_done(struct jobs *jobs) {
    while (jobs->first != NULL)
        unlink_ticket(jobs, jobs->first);
    pthread_cond_destroy(&jobs->halt);
    pthread_cond_destroy(&jobs->wake);
    pthread_mutex_destroy(&jobs->lock);
}

static bool has_ticket(const struct jobs *jobs, const char *item_id) {
    for (const struct ticket *ticket = jobs->first; ticket != NULL; ticket = ticket->next)
        if (im_str_equal(ticket->item_id, item_id))
            return true;
    return false;
}

void queue_add(struct jobs *jobs, const char *job_id, const char *item_id) {
    pthread_mutex_lock(&jobs->lock);
    if (item_id == NULL || !has_ticket(jobs, item_id)) {
        struct ticket *ticket = im_alloc(sizeof(*ticket));

        ticket->active = active_ref(jobs, job_id);
        ticket->item_id = item_id ? im_strdup(item_id) : NULL;
        *jobs->last = ticket;
        jobs->last = &ticket->next;
        pthread_cond_signal(&jobs->wake);
    }
    pthread_mutex_unlock(&jobs->lock);
}

static struct ticket *waiting(const struct jobs *jobs) {
    struct ticket *ticket = jobs->first;

    while (ticket != NULL && (ticket->working || ticket->parked))
        ticket = ticket->next;
    return ticket;
}

static void wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t mono_ms) {
    struct timespec until = {.tv_sec = mono_ms / 1000, .tv_nsec = mono_ms % 1000 * 1000000};

    pthread_cond_timedwait(cond, lock, &until);
}

bool queue_next(struct jobs *jobs, struct ticket **ret_ticket) {
    bool going;

    pthread_mutex_lock(&jobs->lock);
    while (!jobs->stop && waiting(jobs) == NULL && im_mono_ms() < jobs->tick_ms)
        wait_until(&jobs->wake, &jobs->lock, jobs->tick_ms);
    going = !jobs->stop;
    *ret_ticket = NULL;
    if (going && im_mono_ms() >= jobs->tick_ms)
        jobs->tick_ms = im_mono_ms() + (jobs->config.tick_ms ? jobs->config.tick_ms : TICK_MS);
    else if (going)
        *ret_ticket = waiting(jobs);
    if (*ret_ticket != NULL)
        (*ret_ticket)->working = true;
    pthread_mutex_unlock(&jobs->lock);
    return going;
}

void queue_unpark(struct jobs *jobs) {
    for (struct ticket *ticket = jobs->first; ticket != NULL; ticket = ticket->next)
        ticket->parked = false;
    pthread_cond_broadcast(&jobs->wake);
}

/* One that is to be cancelled need not wait for that. */
bool queue_enter(struct jobs *jobs, struct ticket *ticket, const struct job_verb *verb) {
    unsigned limit = verb->at_once != NULL ? verb->at_once(jobs->config.context) : 0, working = 0;
    bool entered;

    if (limit == 0)
        return true;
    pthread_mutex_lock(&jobs->lock);
    for (const struct ticket *other = jobs->first; other != NULL; other = other->next)
        working += other->working && other->verb == verb;
    entered = working < limit || ticket->active->cancel;
    if (entered) {
        ticket->verb = verb;
    } else {
        ticket->parked = true;
        ticket->working = false;
    }
    pthread_mutex_unlock(&jobs->lock);
    return entered;
}

void queue_finish(struct jobs *jobs, struct ticket *ticket) {
    pthread_mutex_lock(&jobs->lock);
    if (ticket->verb != NULL)
        queue_unpark(jobs);
    unlink_ticket(jobs, ticket);
    pthread_mutex_unlock(&jobs->lock);
}

bool queue_rest(struct jobs *jobs, unsigned try) {
    int64_t ms = jobs->config.rest_ms ? jobs->config.rest_ms : REST_MS;
    bool going;

    ms = try < 5 ? ms << try : REST_MAX_MS
        ;
    ms += im_mono_ms();
    pthread_mutex_lock(&jobs->lock);
    while (!jobs->stop && im_mono_ms() < ms)
        wait_until(&jobs->halt, &jobs->lock, ms);
    going = !jobs->stop;
    pthread_mutex_unlock(&jobs->lock);
    return going;
}

/* --- Progress -------------------------------------------------------------------------------- */

bool active_sum(const struct active *active, struct job *job) {
    job->done_bytes = job->total_bytes = 0;
    for (size_t i = 0; i < active->share_count; i++) {
        job->done_bytes += active->shares[i].done_bytes;
        job->total_bytes += active->shares[i].total_bytes;
    }
    job->rate_bytes = active->rate_bytes;
    return job->total_bytes + job->done_bytes > 0;
}

static struct share *share_of(struct active *active, const char *item_id) {
    for (size_t i = 0; i < active->share_count; i++)
        if (strcmp(active->shares[i].item_id, item_id) == 0)
            return &active->shares[i];
    im_grow(&active->shares, active->share_count, &active->share_capacity);
    active->shares[active->share_count] = (struct share){.item_id = im_strdup(item_id)};
    return &active->shares[active->share_count++];
}

static void measure(struct active *active, int64_t done_bytes) {
    int64_t now = im_mono_ms();

    if (active->rate_from_ms == 0 || now - active->rate_from_ms > RATE_MS) {
        active->rate_from_ms = now;
        active->rate_from_bytes = done_bytes;
    } else if (now > active->rate_from_ms + 200) {
        active->rate_bytes =
            (done_bytes - active->rate_from_bytes) * 1000 / (now - active->rate_from_ms);
    }
}

static void flush(struct jobs *jobs, const struct job *row) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(jobs->config.db, &err);

    if (conn == NULL ||
        !record_update_fields(
            conn, &job_type, row,
            (const char *const[]){"done_bytes", "total_bytes", "rate_bytes", NULL}, &err))
        im_debug("jobs", "progress not written: %s", err.text);
}

void jobs_progress(struct job_run *run, int64_t done_bytes, int64_t total_bytes) {
    struct jobs *jobs = run->jobs;
    struct job row = {.job_id = run->job->job_id};
    int64_t now = im_mono_ms();
    struct active *active;
    struct share *share;
    bool due;

    pthread_mutex_lock(&jobs->lock);
    active = queue_active(jobs, run->job->job_id);
    share = share_of(active, run->item->item_id);
    share->done_bytes = done_bytes;
    share->total_bytes = total_bytes;
    active_sum(active, &row);
    measure(active, row.done_bytes);
    row.rate_bytes = active->rate_bytes;
    due = now - active->flushed_ms >= FLUSH_MS;
    if (due)
        active->flushed_ms = now;
    pthread_mutex_unlock(&jobs->lock);
    if (due)
        flush(jobs, &row);
}

void jobs_overlay(struct jobs *jobs, struct job *job) {
    struct job now = {0};
    struct active *active;

    pthread_mutex_lock(&jobs->lock);
    active = queue_active(jobs, job->job_id);
    if (active != NULL && active_sum(active, &now)) {
        job->done_bytes = now.done_bytes;
        job->total_bytes = now.total_bytes;
        job->rate_bytes = now.rate_bytes;
    }
    pthread_mutex_unlock(&jobs->lock);
}
