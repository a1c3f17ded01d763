/* SPDX-License-Identifier: Apache-2.0 */
/* What happens by itself: layers that nothing refers to are removed, the recycle bin is emptied,
 * machines that stopped are noticed, and record and hypervisor are brought to agree. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "cloud-private.h"

enum { ROUND_MS = 10000, AGAIN_MS = 500, HEAL_ROUNDS = 6, DROPS_PER_ROUND = 256 };

/* --- Layers -------------------------------------------------------------------------------------
 */

/* Marks what no image, instance, volume, snapshot and no other layer refers to. Layers that a job
 * is making belong to the job. */
static bool mark_body(struct db_conn *conn, void *arg, struct im_err *err) {
    (void) arg;
    return db_exec(conn, NULL, err,
                   "UPDATE layers SET state = 'dropping' WHERE state IN ('head', 'frozen')"
                   " AND " LAYER_UNNAMED(
                       "layers") " AND NOT EXISTS"
                                 " (SELECT 1 FROM layers c WHERE c.parent_id = layers.layer_id)",
                   "");
}

static bool layer_forget(struct db_conn *conn, void *arg, struct im_err *err) {
    return record_delete(conn, &layer_type, arg, err);
}

/* One that is being folded goes when that is over; as it was given up before this looks, no fold of
 * it begins any more. */
static bool drop_one(struct cloud *cloud, const struct layer *layer, size_t *count,
                     struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    bool busy = false;

    if (conn == NULL || !fold_busy(conn, layer->layer_id, &busy, err))
        return false;
    db_give(im_steal(&conn));
    *count += !busy;
    return busy || (storage_remove(cloud->config.pool, layer->name, err) &&
                    cloud_transact(cloud, layer_forget, layer->layer_id, err));
}

/* Removes the files, then the rows: a crash in between only repeats a removal. */
static bool drop_marked(struct cloud *cloud, size_t *ret_count, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(query_done) struct query query = {.limit = DROPS_PER_ROUND};
    struct layer **layers = NULL;
    size_t marked = 0;
    bool dropped = true;

    query_add(&query, "state", CONDITION_IN, "dropping");
    if (conn == NULL ||
        !record_list(conn, &layer_type, &query, (void ***) &layers, &marked, NULL, err))
        return false;
    db_give(im_steal(&conn));
    *ret_count = 0;
    for (size_t i = 0; i < marked && dropped; i++)
        dropped = drop_one(cloud, layers[i], ret_count, err);
    record_list_free(&layer_type, (void **) layers, marked);
    return dropped;
}

/* A layer that goes sets its parent free: until a round finds nothing. */
static void collect(struct cloud *cloud) {
    struct im_err err = {0};
    size_t count = 1;

    while (count > 0)
        if (!cloud_transact(cloud, mark_body, NULL, &err) || !drop_marked(cloud, &count, &err)) {
            im_warn("cloud", "layers are collected later: %s", err.text);
            return;
        }
}

void background_collect(struct cloud *cloud) {
    pthread_mutex_lock(&cloud->lock);
    cloud->collect_now = true;
    cloud->collect_again_ms = im_mono_ms() + AGAIN_MS;
    pthread_cond_signal(&cloud->wake);
    pthread_mutex_unlock(&cloud->lock);
}

/* --- Machines -----------------------------------------------------------------------------------
 */

static bool note_stopped(struct db_conn *conn, void *arg, struct im_err *err) {
    int64_t changed = 0;

    if (!db_exec(conn, &changed, err,
                 "UPDATE instances SET status = 'stopped', status_time = $1 WHERE instance_id = $2"
                 " AND status = 'running' AND transition_status = ''",
                 "it", im_now_s(), (const char *) arg))
        return false;
    if (changed > 0)
        im_info("cloud", "%s stopped by itself", (const char *) arg);
    return true;
}

/* A machine that powered itself off: its row follows, and libvirt forgets it. Locked, as a job that
 * started it between the look and the note would be told of a stop that was before. */
static void settle_stopped(struct cloud *cloud, const char *name) {
    enum virt_state state = VIRT_RUNNING;
    struct im_err err = {0};
    bool known;

    machine_lock(cloud, name);
    known = virt_state(cloud->config.virt, name, &state, &err);
    if (known && state != VIRT_RUNNING && state != VIRT_PAUSED &&
        !cloud_transact(cloud, note_stopped, (void *) name, &err))
        im_warn("cloud", "%s: %s", name, err.text);
    machine_unlock(cloud, name);
}

void cloud_machine_event(struct cloud *cloud, const char *name, enum virt_state state) {
    if (state == VIRT_RUNNING || state == VIRT_PAUSED)
        return;
    pthread_mutex_lock(&cloud->lock);
    if (cloud->event_count < EVENTS_KEPT)
        cloud->events[cloud->event_count++] = im_strdup(name);
    else
        cloud->events_lost = true;
    pthread_cond_signal(&cloud->wake);
    pthread_mutex_unlock(&cloud->lock);
}

static bool running_in(const struct virt_listed *list, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].name, name) == 0)
            return list[i].state == VIRT_RUNNING || list[i].state == VIRT_PAUSED;
    return false;
}

/* A machine that runs although its row says it is off: a job was cut short after it had told the
 * record. Call with the machine locked, so that no job starts it meanwhile. */
static void destroy_if_stray(struct cloud *cloud, struct db_conn *conn, const char *name) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    struct im_err err = {0};

    if (!record_get(conn, &instance_type, name, &instance, &err)) {
        im_warn("cloud", "machine %s runs, but no instance of that name is known", name);
        return;
    }
    if (instance->transition_status != TRANSITION_NONE || instance->status == INSTANCE_RUNNING ||
        instance->status == INSTANCE_PENDING)
        return;
    im_warn("cloud", "%s is %s but its machine runs: powered off", name,
            instance_status_word(instance->status));
    if (!virt_destroy(cloud->config.virt, name, &err))
        im_warn("cloud", "%s: %s", name, err.text);
}

static void destroy_stray(struct cloud *cloud, struct db_conn *conn, const char *name) {
    if (im_starts_with(name, BOOT_TEST_PREFIX)) {
        boot_test_stray(cloud, conn, name);
        return;
    }
    machine_lock(cloud, name);
    destroy_if_stray(cloud, conn, name);
    machine_unlock(cloud, name);
}

bool background_reconcile(struct cloud *cloud, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(free_auto) struct virt_listed *machines = NULL;
    struct instance **instances = NULL;
    size_t count = 0, machine_count = 0;

    query_add(&query, "status", CONDITION_IN, "running");
    if (conn == NULL || !virt_list(cloud->config.virt, &machines, &machine_count, err) ||
        !record_list(conn, &instance_type, &query, (void ***) &instances, &count, NULL, err))
        return false;
    for (size_t i = 0; i < machine_count; i++)
        if (machines[i].state == VIRT_RUNNING)
            destroy_stray(cloud, conn, machines[i].name);
    for (size_t i = 0; i < count; i++)
        if (!running_in(machines, machine_count, instances[i]->instance_id))
            settle_stopped(cloud, instances[i]->instance_id);
    record_list_free(&instance_type, (void **) instances, count);
    return true;
}

/* --- The thread ------------------------------------------------------------------------------- */

/* What the thread sleeps until at the latest. Call with the lock held. */
static struct timespec latest(const struct cloud *cloud, int64_t round_ms) {
    int64_t due = cloud->collect_again_ms != 0 && cloud->collect_again_ms < round_ms
                      ? cloud->collect_again_ms
                      : round_ms;

    return im_wall_after(due - im_mono_ms());
}

static bool asked(const struct cloud *cloud) {
    return cloud->stop || cloud->collect_now || cloud->event_count > 0 || cloud->events_lost ||
           (cloud->collect_again_ms != 0 && im_mono_ms() >= cloud->collect_again_ms);
}

/* Waits for something to do; false when it is to end. *ret_events are owned. *ret_full: also the
 * round that is due every 10 s. */
static bool wait_work(struct cloud *cloud, int64_t round_ms, struct im_strings *ret_events,
                      bool *ret_full) {
    bool stop;

    pthread_mutex_lock(&cloud->lock);
    while (!asked(cloud) && im_mono_ms() < round_ms) {
        struct timespec until = latest(cloud, round_ms);

        pthread_cond_timedwait(&cloud->wake, &cloud->lock, &until);
    }
    *ret_full = cloud->events_lost || im_mono_ms() >= round_ms;
    for (size_t i = 0; i < cloud->event_count; i++) {
        im_strings_add(ret_events, cloud->events[i]);
        free(cloud->events[i]);
    }
    cloud->event_count = 0;
    if (cloud->collect_again_ms != 0 && im_mono_ms() >= cloud->collect_again_ms)
        cloud->collect_again_ms = 0;
    cloud->events_lost = cloud->collect_now = false;
    stop = cloud->stop;
    pthread_mutex_unlock(&cloud->lock);
    return !stop;
}

static void full_round(struct cloud *cloud, unsigned number) {
    struct im_err err = {0};

    if (!background_reconcile(cloud, &err))
        im_warn("cloud", "record and hypervisor are compared later: %s", err.text);
    err = (struct im_err){0};
    if (!recycle_empty(cloud, &err))
        im_warn("cloud", "the recycle bin is emptied later: %s", err.text);
    err = (struct im_err){0};
    if (!exports_expire(cloud, &err))
        im_warn("cloud", "exports expire later: %s", err.text);
    err = (struct im_err){0};
    if (!boot_tests_expire(cloud, &err))
        im_warn("cloud", "boot tests expire later: %s", err.text);
    err = (struct im_err){0};
    if (!plain_round(cloud, &err))
        im_warn("cloud", "passwords that were handed over are forgotten later: %s", err.text);
    err = (struct im_err){0};
    if (!damage_round(cloud, &err))
        im_warn("cloud", "what is damaged is marked later: %s", err.text);
    err = (struct im_err){0};
    if (number % HEAL_ROUNDS == 0 && !net_heal(cloud->config.net, &err))
        im_warn("cloud", "network: %s", err.text);
}

static void *thread_main(void *arg) {
    struct cloud *cloud = arg;
    int64_t round_ms = im_mono_ms() + ROUND_MS;

    for (unsigned number = 1;;) {
        IM_AUTO(im_strings_done) struct im_strings events = {0};
        bool full = false;

        if (!wait_work(cloud, round_ms, &events, &full))
            return NULL;
        for (size_t i = 0; i < events.count; i++)
            settle_stopped(cloud, events.items[i]);
        if (full) {
            full_round(cloud, number++);
            round_ms = im_mono_ms() + ROUND_MS;
        }
        collect(cloud);
    }
}

bool background_start(struct cloud *cloud, struct im_err *err) {
    int rc = pthread_create(&cloud->background, NULL, thread_main, cloud);

    if (rc != 0)
        return im_fail_sys(err, rc, "cannot start the background thread");
    cloud->background_runs = true;
    return true;
}

void background_stop(struct cloud *cloud) {
    pthread_mutex_lock(&cloud->lock);
    cloud->stop = true;
    pthread_cond_signal(&cloud->wake);
    pthread_mutex_unlock(&cloud->lock);
    if (cloud->background_runs)
        pthread_join(cloud->background, NULL);
    cloud->background_runs = false;
    for (size_t i = 0; i < cloud->event_count; i++)
        free(cloud->events[i]);
    cloud->event_count = 0;
}
