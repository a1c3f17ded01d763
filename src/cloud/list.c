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

/* --- Instances ------------------------------------------------------------------------------ */

static void take_image(void *page, size_t at, void *object) {
    struct instance_view *view = &((struct instance_list *) page)->items[at];

    if (view->image == NULL) /* an id at the edge of a chunk comes twice */
        view->image = object_copy(&image_type, object);
}

static void take_nic(void *page, size_t at, void *object) {
    struct instance_view *view = &((struct instance_list *) page)->items[at];

    view->nics = im_realloc_array(view->nics, view->nic_count + 1, sizeof(struct nic *));
    view->nics[view->nic_count++] = object_copy(&nic_type, object);
}

static void take_link(void *page, size_t at, void *object) {
    im_strings_add(&((struct instance_list *) page)->items[at].keypair_ids,
                   ((const struct keypair_link *) object)->keypair_id);
}

static void take_volume(void *page, size_t at, void *object) {
    struct instance_view *view = &((struct instance_list *) page)->items[at];

    view->volumes =
        im_realloc_array(view->volumes, view->volume_count + 1, sizeof(struct volume *));
    view->volumes[view->volume_count++] = object_copy(&volume_type, object);
}

static void bare_images(struct instance_list *list) {
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].image == NULL) {
            list->items[i].image = object_new(&image_type);
            im_replace(&list->items[i].image->image_id, list->items[i].instance->image_id);
        }
}

static bool fill(struct db_conn *conn, struct instance_list *list, struct im_err *err) {
    IM_AUTO(places_done) struct places instances = {0}, images = {0};

    for (size_t i = 0; i < list->count; i++) {
        const struct instance *instance = list->items[i].instance;

        places_add(&instances, instance->instance_id, i);
        if (instance->image_id != NULL)
            places_add(&images, instance->image_id, i);
    }
    if (!places_gather(conn, &image_type, "image_id", NULL, &images, take_image, list, err) ||
        !places_gather(conn, &nic_type, "instance_id", "sequence", &instances, take_nic, list,
                       err) ||
        !places_gather(conn, &keypair_link_type, "instance_id", "keypair_id", &instances, take_link,
                       list, err) ||
        !places_gather(conn, &volume_type, "instance_id", "device", &instances, take_volume, list,
                       err))
        return false;
    bare_images(list);
    return true;
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
    if (info.agent_connected && im_mono_ms() <= deadline_ms)
        volumes_ask(cloud, instance->instance_id, view->volumes, view->volume_count);
}

bool cloud_instances(struct cloud *cloud, const struct caller *caller, struct query *query,
                     bool live, struct instance_list *ret_list, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct instance_list list = {0};
    int64_t deadline_ms = im_mono_ms() + 1000;
    void **found = NULL;

    if (conn == NULL ||
        !page(conn, caller, &instance_type, query, "ceased", &found, &list.count, &list.total, err))
        return false;
    list.items = im_alloc(list.count * sizeof(*list.items));
    for (size_t i = 0; i < list.count; i++)
        list.items[i].instance = found[i];
    free(found);
    if (!fill(conn, &list, err)) {
        instance_list_done(&list);
        return false;
    }
    for (size_t i = 0; live && i < list.count; i++)
        view_live(cloud, &list.items[i], deadline_ms);
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
        record_list_free(&volume_type, (void **) view->volumes, view->volume_count);
    }
    free(list->items);
    *list = (struct instance_list){0};
}

/* --- Key pairs, jobs, access keys ------------------------------------------------------------ */

struct used {
    struct keypair_list *list;
    struct im_strings pairs, instances; /* of the links, in step */
};

static void used_done(struct used *used) {
    im_strings_done(&used->pairs);
    im_strings_done(&used->instances);
}

static void take_pair(void *page, size_t at, void *object) {
    struct used *used = page;
    const struct keypair_link *link = object;

    im_strings_add(&used->pairs, used->list->items[at].keypair->keypair_id);
    im_strings_add(&used->instances, link->instance_id);
}

/* `at` is the link; where it leads back to stands in the page. */
static void take_user(void *page, size_t at, void *object) {
    struct used *used = page;
    const struct instance *instance = object;

    if (instance->status == INSTANCE_TERMINATED || instance->status == INSTANCE_CEASED)
        return;
    for (size_t i = 0; i < used->list->count; i++)
        if (strcmp(used->list->items[i].keypair->keypair_id, used->pairs.items[at]) == 0)
            im_strings_add(&used->list->items[i].instance_ids, instance->instance_id);
}

/* The live instances that have each pair. */
static bool fill_pairs(struct db_conn *conn, struct keypair_list *list, struct im_err *err) {
    IM_AUTO(used_done) struct used used = {.list = list};
    IM_AUTO(places_done) struct places pairs = {0}, instances = {0};

    for (size_t i = 0; i < list->count; i++)
        places_add(&pairs, list->items[i].keypair->keypair_id, i);
    if (!places_gather(conn, &keypair_link_type, "keypair_id", "instance_id", &pairs, take_pair,
                       &used, err))
        return false;
    for (size_t i = 0; i < used.instances.count; i++)
        places_add(&instances, used.instances.items[i], i);
    return places_gather(conn, &instance_type, "instance_id", "instance_id", &instances, take_user,
                         &used, err);
}

/* Only the pairs on that instance; a condition that nothing fits when it has none. */
static bool on_instance(struct db_conn *conn, const char *instance_id, struct query *query,
                        struct im_err *err) {
    IM_AUTO(query_done) struct query links = {0};
    void **found = NULL;
    size_t count = 0;

    query_add(&links, "instance_id", CONDITION_IN, instance_id);
    if (!record_list(conn, &keypair_link_type, &links, &found, &count, NULL, err))
        return false;
    for (size_t i = 0; i < count; i++)
        query_add(query, "keypair_id", CONDITION_IN,
                  ((const struct keypair_link *) found[i])->keypair_id);
    if (count == 0)
        query_add(query, "keypair_id", CONDITION_IN, "");
    record_list_free(&keypair_link_type, found, count);
    return true;
}

bool cloud_keypairs(struct cloud *cloud, const struct caller *caller, struct query *query,
                    const char *instance_id, struct keypair_list *ret_list, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct keypair_list list = {0};
    void **found = NULL;

    if (conn == NULL ||
        (!im_str_empty(instance_id) && !on_instance(conn, instance_id, query, err)) ||
        !page(conn, caller, &keypair_type, query, NULL, &found, &list.count, &list.total, err))
        return false;
    list.items = im_alloc(list.count * sizeof(*list.items));
    for (size_t i = 0; i < list.count; i++)
        list.items[i].keypair = found[i];
    free(found);
    if (!fill_pairs(conn, &list, err)) {
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

static void take_item(void *page, size_t at, void *object) {
    struct job_view *view = &((struct job_list *) page)->items[at];

    view->items = im_realloc_array(view->items, view->item_count + 1, sizeof(struct job_item *));
    view->items[view->item_count++] = object_copy(&job_item_type, object);
}

static bool fill_jobs(struct db_conn *conn, struct job_list *list, struct im_err *err) {
    IM_AUTO(places_done) struct places jobs = {0};

    for (size_t i = 0; i < list->count; i++)
        places_add(&jobs, list->items[i].job->job_id, i);
    return places_gather(conn, &job_item_type, "job_id", "item_id", &jobs, take_item, list, err);
}

bool cloud_jobs(struct cloud *cloud, const struct caller *caller, struct query *query,
                struct job_list *ret_list, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct job_list list = {0};
    void **found = NULL;

    if (conn == NULL ||
        !page(conn, caller, &job_type, query, NULL, &found, &list.count, &list.total, err))
        return false;
    list.items = im_alloc(list.count * sizeof(*list.items));
    for (size_t i = 0; i < list.count; i++)
        list.items[i].job = found[i];
    free(found);
    if (!fill_jobs(conn, &list, err)) {
        job_list_done(&list);
        return false;
    }
    for (size_t i = 0; i < list.count; i++)
        jobs_overlay(cloud->jobs, list.items[i].job);
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
