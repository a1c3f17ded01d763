/* SPDX-License-Identifier: Apache-2.0 */
/* The series that are asked for: who may see them, and their steps from kept rows and from the step
 * that is open. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "monitor-private.h"

/* --- Meters ----------------------------------------------------------------------------------- */

/* What there may be of a kind of resource. Names that end with '-' go on with a volume's id or a
 * card's MAC. */
static const char *const instance_meters[] = {
    "cpu",       "memory",         "disk-os",      "disk-iops-os", "disk-us-os",
    "disk-vol-", "disk-iops-vol-", "disk-us-vol-", "if-",          NULL};
static const char *const volume_meters[] = {"disk-vol-", "disk-iops-vol-", "disk-us-vol-", NULL};

static bool meter_known(const char *const *known, const char *meter) {
    for (; *known != NULL; known++)
        if (strcmp(meter, *known) == 0 ||
            (im_ends_with(*known, "-") && im_starts_with(meter, *known)))
            return !im_ends_with(meter, "-") && strlen(meter) < MONITOR_NAME_MAX;
    return false;
}

/* One meter of a request. Volumes have series of their own, wherever they are attached. */
struct asked {
    const char *id, *meter; /* as it is kept */
    struct meter_view *view;
    struct monitor_block steps; /* of the kept grain, from the view's start on, under "" */
    bool read;
};
struct asked_list {
    struct asked *items;
    size_t count;
    int64_t grain, block_s; /* what is read */
    int64_t start, end;
};

static void asked_list_done(struct asked_list *list) {
    for (size_t i = 0; i < list->count; i++)
        monitor_block_done(&list->items[i].steps);
    free(list->items);
}

static void kept_as(const char *resource, const char *meter, struct asked *asked) {
    static const struct {
        const char *front, *kept;
    } of_volumes[] = {
        {"disk-iops-vol-", "disk-iops"}, {"disk-us-vol-", "disk-us"}, {"disk-vol-", "disk"}};

    asked->id = resource;
    asked->meter = meter;
    for (size_t i = 0; i < sizeof(of_volumes) / sizeof(of_volumes[0]); i++)
        if (im_starts_with(meter, of_volumes[i].front)) {
            asked->id = meter + strlen(of_volumes[i].kept) + 1;
            asked->meter = of_volumes[i].kept;
        }
}

/* --- Steps ------------------------------------------------------------------------------------ */

static void put_step(const struct asked_list *list, struct asked *asked, int64_t at,
                     const struct monitor_value *value) {
    if (at >= list->start && at < list->end && value->known)
        monitor_block_set(&asked->steps, "", (size_t) ((at - list->start) / list->grain), *value);
}

static bool read_rows(struct db_conn *conn, struct asked_list *list, const char *id,
                      struct im_err *err) {
    bool more = false;
    IM_AUTO(db_rows_free_auto)
    struct db_rows *rows =
        db_query(conn, err,
                 "SELECT start, data FROM monitor_blocks WHERE resource_id = $1 AND step = $2"
                 " AND start > $3 AND start < $4 ORDER BY start",
                 "tiii", id, list->grain, list->start - list->block_s, list->end);

    if (rows == NULL)
        return false;
    for (;;) {
        IM_AUTO(monitor_block_done) struct monitor_block block = {0};

        if (!db_next(rows, &more, err))
            return false;
        if (!more)
            return true;
        monitor_block_read(&block, db_text(rows, 1));
        for (size_t i = 0; i < list->count; i++) {
            struct asked *asked = &list->items[i];
            const struct series *series =
                strcmp(asked->id, id) == 0 ? monitor_block_find(&block, asked->meter) : NULL;

            for (size_t j = 0; series != NULL && j < series->count; j++)
                put_step(list, asked, db_int(rows, 0) + (int64_t) j * list->grain,
                         &series->slots[j]);
        }
    }
}

/* What was counted of a resource and is in no row yet: 0 is returned when that is nothing, else
 * where its bucket begins. */
static int64_t bucket_of(struct monitor *monitor, const struct monitor_set *set, const char *id,
                         struct monitor_block *now) {
    const struct monitored *item;
    int64_t bucket = 0;

    pthread_mutex_lock(&monitor->lock);
    item = monitor_set_find(set, id);
    for (size_t i = 0; item != NULL && i < item->gauge_count; i++) {
        bucket = item->bucket;
        monitor_block_set(now, item->gauges[i].meter, 0, gauge_value(&item->gauges[i]));
    }
    pthread_mutex_unlock(&monitor->lock);
    return bucket;
}

/* A bucket goes where it will be written: beside the rest of its row, so that the step of the
 * coarse grain has the mean that it would have then. */
static void put_bucket(struct asked_list *list, const char *id, int64_t bucket,
                       const struct monitor_block *now, struct monitor_block *fine) {
    int64_t row = bucket - bucket % MONITOR_FINE_BLOCK_S;
    size_t slot = (size_t) ((bucket - row) / MONITOR_FINE_S);

    for (size_t i = 0; i < now->count; i++)
        monitor_block_put(fine, now->items[i].meter, slot, now->items[i].slots[0]);
    for (size_t i = 0; i < list->count; i++) {
        struct asked *asked = &list->items[i];
        const struct series *series =
            strcmp(asked->id, id) == 0 ? monitor_block_find(fine, asked->meter) : NULL;
        struct monitor_value mean;

        if (series == NULL || monitor_block_find(now, asked->meter) == NULL)
            continue;
        mean = monitor_mean(series->slots, series->count);
        put_step(list, asked, list->grain == MONITOR_FINE_S ? bucket : row,
                 list->grain == MONITOR_FINE_S ? &series->slots[slot] : &mean);
    }
}

/* Of one resource: the bucket that is being written, and the one that is open. */
struct pending {
    int64_t buckets[2];
    struct monitor_block now[2];
};

static void pending_done(struct pending *pending) {
    monitor_block_done(&pending->now[0]);
    monitor_block_done(&pending->now[1]);
}

static bool put_pending(struct db_conn *conn, struct asked_list *list, const char *id,
                        const struct pending *pending, struct im_err *err) {
    IM_AUTO(monitor_block_done) struct monitor_block fine = {0};
    int64_t loaded = -1;

    for (size_t i = 0; i < 2; i++) {
        int64_t row = pending->buckets[i] - pending->buckets[i] % MONITOR_FINE_BLOCK_S;

        if (pending->buckets[i] == 0)
            continue;
        if (row != loaded) {
            monitor_block_done(&fine);
            if (!monitor_block_load(conn, id, MONITOR_FINE_S, row, &fine, err))
                return false;
        }
        loaded = row;
        put_bucket(list, id, pending->buckets[i], &pending->now[i], &fine);
    }
    return true;
}

/* What is pending is looked at first: it may be in a row by the time that rows are read, and then
 * does no harm, but is never in neither. */
static bool read_one(struct cloud *cloud, struct db_conn *conn, struct asked_list *list,
                     const char *id, struct im_err *err) {
    IM_AUTO(pending_done) struct pending pending = {0};
    struct monitor *monitor = cloud->monitor;

    pending.buckets[1] = bucket_of(monitor, &monitor->open, id, &pending.now[1]);
    pending.buckets[0] = bucket_of(monitor, &monitor->writing, id, &pending.now[0]);
    return read_rows(conn, list, id, err) && put_pending(conn, list, id, &pending, err);
}

/* Steps of the kept grain become those of the view. */
static void fill_view(const struct asked *asked, int64_t grain) {
    const struct series *series = monitor_block_find(&asked->steps, "");
    struct meter_view *view = asked->view;
    size_t group = (size_t) (view->step / grain);

    view->values = im_alloc((view->count + 1) * sizeof(*view->values));
    for (size_t i = 0; series != NULL && i < view->count && i * group < series->count; i++) {
        size_t left = series->count - i * group;

        view->values[i] = monitor_mean(&series->slots[i * group], left < group ? left : group);
    }
}

/* Each resource's rows are read once, however many meters are asked of it. */
static bool read_all(struct cloud *cloud, struct db_conn *conn, struct asked_list *list,
                     struct im_err *err) {
    for (size_t i = 0; i < list->count; i++) {
        const char *id = list->items[i].id;

        if (list->items[i].read)
            continue;
        if (list->end > list->start && !read_one(cloud, conn, list, id, err))
            return false;
        for (size_t j = i; j < list->count; j++)
            if (strcmp(list->items[j].id, id) == 0) {
                fill_view(&list->items[j], list->grain);
                list->items[j].read = true;
            }
    }
    return true;
}

/* --- What is asked for ------------------------------------------------------------------------ */

/* The resource is the caller's to see; *ret_known are the meters there may be of it. */
static bool may_read(struct db_conn *conn, const struct caller *caller, const char *resource,
                     const char *const **ret_known, struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;
    bool is_volume = im_starts_with(resource, "vol-");

    *ret_known = is_volume ? volume_meters : instance_meters;
    return is_volume ? volume_load(conn, caller, resource, &volume, err)
                     : instance_load(conn, caller, resource, &instance, err);
}

/* A volume that a meter of an instance names is attached to it, or the resource itself. */
static bool check_volume(struct db_conn *conn, const struct caller *caller, const char *resource,
                         const struct asked *asked, struct im_err *err) {
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;

    if (strcmp(asked->id, resource) == 0)
        return true;
    if (!volume_load(conn, caller, asked->id, &volume, err))
        return false;
    return im_str_equal(volume->instance_id, resource) ||
           im_fail(err, IM_NOT_FOUND, "volume [%s] is not attached to [%s]", asked->id, resource);
}

static bool name_card(struct db_conn *conn, const char *resource, struct meter_view *view,
                      struct im_err *err) {
    IM_AUTO(nic_free_auto) struct nic *nic = NULL;
    struct im_err missing = {0};

    if (!im_starts_with(view->meter, "if-"))
        return true;
    view->mac = view->meter + strlen("if-");
    if (!record_get(conn, &nic_type, view->mac, &nic, &missing)) {
        if (missing.code != IM_NOT_FOUND)
            *err = missing;
        return missing.code == IM_NOT_FOUND;
    }
    if (!im_str_equal(nic->instance_id, resource))
        return true; /* somebody else's */
    view->vxnet_id = im_strdup(nic->vxnet_id ? nic->vxnet_id : "");
    view->sequence = nic->sequence;
    return true;
}

static bool add_meter(struct db_conn *conn, const struct caller *caller, const char *resource,
                      const char *meter, struct asked_list *list, struct im_err *err) {
    struct asked *asked = &list->items[list->count++];

    asked->view->meter = im_strdup(meter);
    kept_as(resource, asked->view->meter, asked);
    return check_volume(conn, caller, resource, asked, err) &&
           name_card(conn, resource, asked->view, err);
}

/* The part of the span that series may be kept of, in whole steps. */
static void clip(const struct monitor_span *span, struct asked_list *list) {
    bool coarse = span->step_s >= MONITOR_COARSE_S;
    int64_t now_s = im_now_s();
    int64_t first = now_s - (coarse ? MONITOR_COARSE_KEPT_S : MONITOR_FINE_KEPT_S);
    int64_t end = span->end_s < now_s ? span->end_s : now_s;
    int64_t start = span->start_s > first ? span->start_s : first;
    int64_t steps;

    list->grain = coarse ? MONITOR_COARSE_S : MONITOR_FINE_S;
    list->block_s = coarse ? MONITOR_COARSE_BLOCK_S : MONITOR_FINE_BLOCK_S;
    list->start = start - start % span->step_s;
    steps = end > start ? (end - list->start + span->step_s - 1) / span->step_s : 0;
    list->end = list->start + steps * span->step_s;
}

bool cloud_monitor(struct cloud *cloud, const struct caller *caller, const char *resource,
                   const struct im_strings *meters, const struct monitor_span *span,
                   struct monitor_view *ret_view, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(monitor_view_done) struct monitor_view view = {0};
    IM_AUTO(asked_list_done) struct asked_list list = {0};
    const char *const *known;

    if (conn == NULL)
        return false;
    if (span->start_s >= span->end_s)
        return im_fail(err, IM_BAD_MESSAGE, "start_time is not before end_time");
    if (!may_read(conn, caller, resource, &known, err))
        return false;
    clip(span, &list);
    view.resource_id = im_strdup(resource);
    view.meters = im_alloc((meters->count + 1) * sizeof(*view.meters));
    list.items = im_alloc((meters->count + 1) * sizeof(*list.items));
    for (size_t i = 0; i < meters->count; i++) {
        struct meter_view *meter = &view.meters[view.count++];

        meter->start = list.start;
        meter->step = span->step_s;
        meter->count = (size_t) ((list.end - list.start) / span->step_s);
        list.items[i].view = meter;
        if (!meter_known(known, meters->items[i]))
            return im_fail(err, IM_BAD_MESSAGE, "meter [%.60s] is not known of [%s]",
                           meters->items[i], resource);
        if (!add_meter(conn, caller, resource, meters->items[i], &list, err))
            return false;
    }
    if (!read_all(cloud, conn, &list, err))
        return false;
    *ret_view = view;
    view = (struct monitor_view){0};
    return true;
}

void monitor_view_done(struct monitor_view *view) {
    for (size_t i = 0; i < view->count; i++) {
        free(view->meters[i].meter);
        free(view->meters[i].vxnet_id);
        free(view->meters[i].values);
    }
    free(view->meters);
    free(view->resource_id);
    *view = (struct monitor_view){0};
}
