/* SPDX-License-Identifier: Apache-2.0 */
/* DescribeVolumes: what the caller may see, and what each is called where it is attached. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud-private.h"

static void take_instance(void *page, size_t at, void *object) {
    const char *name = ((const struct instance *) object)->instance_name;

    im_replace(&((struct volume_list *) page)->items[at].instance_name, name ? name : "");
}

/* What the instances are called that the volumes are attached to; "" where there is none. */
static bool name_instances(struct db_conn *conn, struct volume_list *list, struct im_err *err) {
    IM_AUTO(places_done) struct places instances = {0};

    for (size_t i = 0; i < list->count; i++) {
        im_replace(&list->items[i].instance_name, "");
        if (!im_str_empty(list->items[i].volume->instance_id))
            places_add(&instances, list->items[i].volume->instance_id, i);
    }
    return places_gather(conn, &instance_type, "instance_id", NULL, &instances, take_instance, list,
                         err);
}

void volumes_ask(struct cloud *cloud, const char *instance_id, struct volume *const *volumes,
                 size_t count) {
    struct virt_device *devices = NULL;
    struct im_err err = {0};
    size_t device_count = 0;

    if (count == 0 ||
        !virt_disk_devices(cloud->config.virt, instance_id, &devices, &device_count, &err))
        return;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < device_count; j++)
            if (im_str_equal(volumes[i]->instance_id, instance_id) &&
                strcmp(volumes[i]->volume_id, devices[j].serial) == 0)
                im_replace(&volumes[i]->device, devices[j].device);
    free(devices);
}

/* Each machine once, and no longer than a second for all of them together. */
static void ask_machines(struct cloud *cloud, struct volume_list *list) {
    int64_t deadline_ms = im_mono_ms() + 1000;
    IM_AUTO(im_strings_done) struct im_strings asked = {0};
    IM_AUTO(free_auto)
    struct volume **volumes = im_alloc((list->count + 1) * sizeof(*volumes));

    for (size_t i = 0; i < list->count; i++)
        volumes[i] = list->items[i].volume;
    for (size_t i = 0; i < list->count; i++) {
        const char *instance_id = volumes[i]->instance_id;

        if (im_str_empty(instance_id) || im_strings_has(&asked, instance_id) ||
            im_mono_ms() >= deadline_ms)
            continue;
        im_strings_add(&asked, instance_id);
        volumes_ask(cloud, instance_id, volumes, list->count);
    }
}

bool cloud_volumes(struct cloud *cloud, const struct caller *caller, struct query *query, bool live,
                   struct volume_list *ret_list, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(volume_list_done) struct volume_list list = {0};
    void **found = NULL;
    bool named;

    if (conn == NULL)
        return false;
    query_restrict(caller, query, volume_type.key, "ceased");
    if (!record_list(conn, &volume_type, query, &found, &list.count, &list.total, err))
        return false;
    list.items = im_alloc((list.count + 1) * sizeof(*list.items));
    for (size_t i = 0; i < list.count; i++)
        list.items[i].volume = found[i];
    free(found);
    named = name_instances(conn, &list, err);
    db_give(im_steal(&conn));
    if (!named)
        return false;
    if (live)
        ask_machines(cloud, &list);
    *ret_list = list;
    list = (struct volume_list){0};
    return true;
}

void volume_list_done(struct volume_list *list) {
    for (size_t i = 0; i < list->count; i++) {
        volume_free(list->items[i].volume);
        free(list->items[i].instance_name);
    }
    free(list->items);
    *list = (struct volume_list){0};
}
