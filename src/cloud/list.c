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

/* --- What belongs to the objects of a page: one question for all of them -------------------- */

enum { CHUNK = 500 }; /* ids in one question: lists without a limit are long */

struct place {
    const char *id; /* borrowed */
    size_t at;      /* in the page */
};

/* The objects of a page by their ids. */
struct places {
    struct place *items;
    size_t count;
};

static int by_id(const void *a, const void *b) {
    return strcmp(((const struct place *) a)->id, ((const struct place *) b)->id);
}

static void places_sort(struct places *places) {
    if (places->count > 0)
        qsort(places->items, places->count, sizeof(*places->items), by_id);
}

static void places_done(struct places *places) { free(places->items); }

/* Calls `take` for each place of that id: an image is that of several instances. */
static void places_give(const struct places *places, const char *id, void *object,
                        void (*take)(void *page, size_t at, void *object), void *page) {
    size_t low = 0, high = places->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (strcmp(places->items[middle].id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < places->count && strcmp(places->items[low].id, id) == 0; low++)
        take(page, places->items[low].at, object);
}

/* Rows of `type` whose `field` is one of the places' ids, in the order of `sort_field`. `take` may
 * not keep the object. */
static bool gather(struct db_conn *conn, const struct object_type *type, const char *field,
                   const char *sort_field, const struct places *places,
                   void (*take)(void *page, size_t at, void *object), void *page,
                   struct im_err *err) {
    const struct field *key = object_field(type, field);

    for (size_t from = 0; from < places->count; from += CHUNK) {
        IM_AUTO(query_done) struct query query = {.sort_field = sort_field, .ascending = true};
        const char *last = "";
        void **found = NULL;
        size_t count = 0;

        for (size_t i = from; i < places->count && i < from + CHUNK; i++)
            if (i == from || strcmp(places->items[i].id, last) != 0)
                query_add(&query, field, CONDITION_IN, last = places->items[i].id);
        if (!record_list(conn, type, &query, &found, &count, NULL, err))
            return false;
        for (size_t i = 0; i < count; i++)
            places_give(places, *field_text(key, found[i]), found[i], take, page);
        record_list_free(type, found, count);
    }
    return true;
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

    instances.items = im_alloc(list->count * sizeof(struct place));
    images.items = im_alloc(list->count * sizeof(struct place));
    for (size_t i = 0; i < list->count; i++) {
        const struct instance *instance = list->items[i].instance;

        instances.items[instances.count++] = (struct place){instance->instance_id, i};
        if (instance->image_id != NULL)
            images.items[images.count++] = (struct place){instance->image_id, i};
    }
    places_sort(&instances);
    places_sort(&images);
    if (!gather(conn, &image_type, "image_id", NULL, &images, take_image, list, err) ||
        !gather(conn, &nic_type, "instance_id", "sequence", &instances, take_nic, list, err) ||
        !gather(conn, &keypair_link_type, "instance_id", "keypair_id", &instances, take_link, list,
                err) ||
        !gather(conn, &volume_type, "instance_id", "device", &instances, take_volume, list, err))
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

    pairs.items = im_alloc(list->count * sizeof(struct place));
    for (; pairs.count < list->count; pairs.count++)
        pairs.items[pairs.count] =
            (struct place){list->items[pairs.count].keypair->keypair_id, pairs.count};
    places_sort(&pairs);
    if (!gather(conn, &keypair_link_type, "keypair_id", "instance_id", &pairs, take_pair, &used,
                err))
        return false;
    instances.items = im_alloc(used.instances.count * sizeof(struct place));
    for (; instances.count < used.instances.count; instances.count++)
        instances.items[instances.count] =
            (struct place){used.instances.items[instances.count], instances.count};
    places_sort(&instances);
    return gather(conn, &instance_type, "instance_id", "instance_id", &instances, take_user, &used,
                  err);
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

    jobs.items = im_alloc(list->count * sizeof(struct place));
    for (; jobs.count < list->count; jobs.count++)
        jobs.items[jobs.count] = (struct place){list->items[jobs.count].job->job_id, jobs.count};
    places_sort(&jobs);
    return gather(conn, &job_item_type, "job_id", "item_id", &jobs, take_item, list, err);
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
