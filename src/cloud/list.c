/* SPDX-License-Identifier: Apache-2.0 */
/* The describe calls: what the caller may see, with what belongs to it. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud-private.h"

/* Pages of one type; the connection stays with the caller for what belongs to each object. */
static bool page(struct db_conn *conn, const struct caller *caller, const struct object_type *type,
                 struct query *query, const char *gone, void ***ret_objects, size_t *ret_count,
                 int64_t *ret_total, struct im_err *err) {
    query_restrict(caller, query, type->key, gone);
    return record_list(conn, type, query, ret_objects, ret_count, ret_total, err);
}

/* Ids in one column of the rows a statement with one argument gives. */
static bool ids_of(struct db_conn *conn, const char *sql, const char *argument,
                   struct im_strings *ret_ids, struct im_err *err) {
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = db_query(conn, err, sql, "t", argument);
    bool more = true;

    if (rows == NULL)
        return false;
    while (db_next(rows, &more, err) && more)
        im_strings_add(ret_ids, db_text(rows, 0));
    return !more;
}

bool cloud_images(struct cloud *cloud, const struct caller *caller, struct query *query,
                  struct image_list *ret_list, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct image_list list = {0};

    if (conn == NULL || !page(conn, caller, &image_type, query, "ceased", (void ***) &list.items,
                              &list.count, &list.total, err))
        return false;
    *ret_list = list;
    return true;
}

void image_list_done(struct image_list *list) {
    record_list_free(&image_type, (void **) list->items, list->count);
    *list = (struct image_list){0};
}

/* --- Instances ----------------------------------------------------------------------------------
 */

static bool view_fill(struct db_conn *conn, struct instance_view *view, struct im_err *err) {
    const char *id = view->instance->instance_id;
    struct im_err missing = {0};

    if (!record_get(conn, &image_type, view->instance->image_id, &view->image, &missing)) {
        if (missing.code != IM_NOT_FOUND) {
            *err = missing;
            return false;
        }
        view->image = object_new(&image_type);
        im_replace(&view->image->image_id, view->instance->image_id);
    }
    return nics_load(conn, id, &view->nics, &view->nic_count, err) &&
           ids_of(conn, "SELECT keypair_id FROM keypair_links WHERE instance_id = $1 ORDER BY 1",
                  id, &view->keypair_ids, err);
}

/* What running machines say of themselves; at most a second for all of them together. */
static void view_live(struct cloud *cloud, struct instance_view *view, int64_t deadline_ms) {
    struct instance *instance = view->instance;
    struct virt_info info = {0};
    struct im_err err = {0};
    char port[16];

    if (instance->status != INSTANCE_RUNNING || im_mono_ms() > deadline_ms ||
        !virt_info(cloud->config.virt, instance->instance_id, &info, &err))
        return;
    snprintf(port, sizeof(port), "%d", info.vnc_port);
    im_replace(&instance->graphics_port, info.vnc_port > 0 ? port : NULL);
    im_replace(&instance->agent_state, info.agent_connected ? "connected" : "disconnected");
    if (im_str_equal(info.hostname, instance->hostname))
        im_replace(&instance->unapplied, ""); /* the guest bears the name it was given */
}

bool cloud_instances(struct cloud *cloud, const struct caller *caller, struct query *query,
                     bool live, struct instance_list *ret_list, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct instance_list list = {0};
    int64_t deadline_ms = im_mono_ms() + 1000;
    void **found = NULL;
    bool filled = true;

    if (conn == NULL ||
        !page(conn, caller, &instance_type, query, "ceased", &found, &list.count, &list.total, err))
        return false;
    list.items = im_alloc(list.count * sizeof(*list.items));
    for (size_t i = 0; i < list.count; i++)
        list.items[i].instance = found[i];
    free(found);
    for (size_t i = 0; i < list.count && filled; i++) {
        filled = view_fill(conn, &list.items[i], err);
        if (filled && live)
            view_live(cloud, &list.items[i], deadline_ms);
    }
    if (!filled) {
        instance_list_done(&list);
        return false;
    }
    *ret_list = list;
    return true;
}

void instance_list_done(struct instance_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        struct instance_view *view = &list->items[i];

        instance_free(view->instance);
        image_free(view->image);
        record_list_free(&nic_type, (void **) view->nics, view->nic_count);
        im_strings_done(&view->keypair_ids);
    }
    free(list->items);
    *list = (struct instance_list){0};
}

/* --- Key pairs, jobs, access keys ------------------------------------------------------------- */

bool cloud_keypairs(struct cloud *cloud, const struct caller *caller, struct query *query,
                    const char *instance_id, struct keypair_list *ret_list, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(im_strings_done) struct im_strings wanted = {0};
    struct keypair_list list = {0};
    void **found = NULL;
    bool filled = true;

    if (conn == NULL)
        return false;
    if (!im_str_empty(instance_id)) {
        if (!ids_of(conn, "SELECT keypair_id FROM keypair_links WHERE instance_id = $1",
                    instance_id, &wanted, err))
            return false;
        for (size_t i = 0; i < wanted.count; i++)
            query_add(query, "keypair_id", CONDITION_IN, wanted.items[i]);
        if (wanted.count == 0)
            query_add(query, "keypair_id", CONDITION_IN, "");
    }
    if (!page(conn, caller, &keypair_type, query, NULL, &found, &list.count, &list.total, err))
        return false;
    list.items = im_alloc(list.count * sizeof(*list.items));
    for (size_t i = 0; i < list.count; i++)
        list.items[i].keypair = found[i];
    free(found);
    for (size_t i = 0; i < list.count && filled; i++)
        filled = ids_of(conn,
                        "SELECT l.instance_id FROM keypair_links l JOIN instances i"
                        " ON i.instance_id = l.instance_id WHERE l.keypair_id = $1"
                        " AND i.status NOT IN ('terminated', 'ceased') ORDER BY 1",
                        list.items[i].keypair->keypair_id, &list.items[i].instance_ids, err);
    if (!filled) {
        keypair_list_done(&list);
        return false;
    }
    *ret_list = list;
    return true;
}

void keypair_list_done(struct keypair_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        keypair_free(list->items[i].keypair);
        im_strings_done(&list->items[i].instance_ids);
    }
    free(list->items);
    *list = (struct keypair_list){0};
}

static bool job_items(struct db_conn *conn, struct job_view *view, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {.ascending = true};

    query_add(&query, "job_id", CONDITION_IN, view->job->job_id);
    return record_list(conn, &job_item_type, &query, (void ***) &view->items, &view->item_count,
                       NULL, err);
}

bool cloud_jobs(struct cloud *cloud, const struct caller *caller, struct query *query,
                struct job_list *ret_list, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct job_list list = {0};
    void **found = NULL;
    bool filled = true;

    if (conn == NULL ||
        !page(conn, caller, &job_type, query, NULL, &found, &list.count, &list.total, err))
        return false;
    list.items = im_alloc(list.count * sizeof(*list.items));
    for (size_t i = 0; i < list.count; i++)
        list.items[i].job = found[i];
    free(found);
    for (size_t i = 0; i < list.count && filled; i++) {
        jobs_overlay(cloud->jobs, list.items[i].job);
        filled = job_items(conn, &list.items[i], err);
    }
    if (!filled) {
        job_list_done(&list);
        return false;
    }
    *ret_list = list;
    return true;
}

void job_list_done(struct job_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        job_free(list->items[i].job);
        record_list_free(&job_item_type, (void **) list->items[i].items, list->items[i].item_count);
    }
    free(list->items);
    *list = (struct job_list){0};
}

struct cancel {
    struct cloud *cloud;
    const struct caller *caller;
    const struct im_strings *ids;
};

static bool cancel_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct cancel *cancel = arg;

    for (size_t i = 0; i < cancel->ids->count; i++) {
        const char *id = cancel->ids->items[i];
        IM_AUTO(job_free_auto) struct job *job = NULL;

        if (!job_load(conn, cancel->caller, id, &job, err) ||
            !jobs_cancel(cancel->cloud->jobs, conn, id, err))
            return false;
    }
    return true;
}

bool cloud_jobs_cancel(struct cloud *cloud, const struct caller *caller,
                       const struct im_strings *ids, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings unique = {0};
    struct cancel cancel = {.cloud = cloud, .caller = caller, .ids = &unique};

    return ids_unique("jobs", ids, &unique, err) &&
           cloud_transact(cloud, cancel_body, &cancel, err);
}

bool cloud_access_keys(struct cloud *cloud, const struct caller *caller, struct query *query,
                       struct access_key_list *ret_list, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct access_key_list list = {0};

    if (conn == NULL || !page(conn, caller, &access_key_type, query, NULL, (void ***) &list.items,
                              &list.count, &list.total, err))
        return false;
    *ret_list = list;
    return true;
}

void access_key_list_done(struct access_key_list *list) {
    record_list_free(&access_key_type, (void **) list->items, list->count);
    *list = (struct access_key_list){0};
}
