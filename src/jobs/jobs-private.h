/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine's files share: the queue of items, and what is known of jobs while they are at
 * work. */
#ifndef JOBS_PRIVATE_H
#define JOBS_PRIVATE_H

#include <pthread.h>

#include "base/str.h"
#include "jobs/jobs.h"

enum { THREADS_MAX = 64 };

/* The part of a job's bytes that one item moves. */
struct share {
    char *item_id;
    int64_t done_bytes, total_bytes;
};

/* A job of which at least one item is queued or at work. */
struct active {
    char job_id[IM_JOB_ID_MAX];
    volatile bool cancel;
    unsigned tickets;
    struct share *shares;
    size_t share_count, share_capacity;
    int64_t rate_bytes, rate_from_ms, rate_from_bytes, flushed_ms;
    struct active *next;
};

/* An item from the moment it is queued until a thread is done with it. */
struct ticket {
    struct active *active;
    char *item_id; /* NULL: all unfinished items of the job, which are still to be read */
    bool working;
    bool parked;                 /* until another one of its verb is over */
    const struct job_verb *verb; /* once it is at work and its verb is bounded; else NULL */
    struct ticket *next;
};

struct jobs {
    struct jobs_config config;
    char *worker;
    pthread_mutex_t lock; /* guards all below; never held while a step runs */
    pthread_cond_t wake;  /* there may be work */
    pthread_cond_t halt;  /* the engine stops */
    struct ticket *first, **last;
    struct active *active;
    int64_t tick_ms;    /* when to look after the record next */
    volatile bool stop; /* set under the lock, looked at between steps without it */
    pthread_t threads[THREADS_MAX];
    unsigned thread_count;
};

void queue_init(struct jobs *jobs);
void queue_done(struct jobs *jobs);
/* An item that has a ticket already gets no second one. item_id NULL: the whole job. */
void queue_add(struct jobs *jobs, const char *job_id, const char *item_id);
/* Waits for work. *ret_ticket NULL: it is time to look after the record. False: the engine stops.
 */
bool queue_next(struct jobs *jobs, struct ticket **ret_ticket);
/* May an item of this verb run now? If not, its ticket waits, and is no longer the caller's. */
bool queue_enter(struct jobs *jobs, struct ticket *ticket, const struct job_verb *verb);
/* Those that wait try again. Under the lock. */
void queue_unpark(struct jobs *jobs);
void queue_finish(struct jobs *jobs, struct ticket *ticket);
/* NULL if the job neither waits nor works. Under the lock. */
struct active *queue_active(struct jobs *jobs, const char *job_id);
/* Sleeps longer with each try; false when the engine stops. */
bool queue_rest(struct jobs *jobs, unsigned try);

/* Writes job's bytes from what its items have told; false if none has. Under the lock. */
bool active_sum(const struct active *active, struct job *job);

#endif
