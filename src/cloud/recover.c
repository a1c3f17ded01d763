/* SPDX-License-Identifier: Apache-2.0 */
/* The recycle bin: taking things out of it, and emptying it. */
#include <string.h>

#include "base/clock.h"
#include "cloud-private.h"

enum { CEASED_PER_ROUND = 256 };

/* --- Taking out ------------------------------------------------------------------------------- */

struct recover {
    const struct caller *caller;
    const struct im_strings *ids;
};

static const char action[] = "RecoverResources";

static bool recover_image(struct db_conn *conn, const struct caller *caller, const char *id,
                          struct im_err *err) {
    IM_AUTO(image_free_auto) struct image *image = NULL;

    return image_load(conn, caller, id, &image, err) && image_owned(caller, image, err) &&
           image_allows(image, action, err) && image_settle(conn, id, IMAGE_AVAILABLE, err);
}

/* Off: its machine went when it was terminated. */
static bool recover_instance(struct db_conn *conn, const struct caller *caller, const char *id,
                             struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    return instance_load(conn, caller, id, &instance, err) &&
           instance_allows(instance, action, err) &&
           instance_settle(conn, id, INSTANCE_STOPPED, err);
}

static bool recover_volume(struct db_conn *conn, const struct caller *caller, const char *id,
                           struct im_err *err) {
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;

    return volume_load(conn, caller, id, &volume, err) && volume_allows(volume, action, err) &&
           volume_settle(conn, id, VOLUME_AVAILABLE, err);
}

/* With its chain, which went with it. */
static bool recover_snapshot(struct db_conn *conn, const struct caller *caller, const char *id,
                             struct im_err *err) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;

    if (!snapshot_load(conn, caller, id, &snapshot, err) || !snapshot_allows(snapshot, action, err))
        return false;
    if (snapshot->snapshot_type != SNAPSHOT_FULL)
        return im_fail(err, IM_WRONG_STATE, "snapshot [%s] comes back with its chain, recover [%s]",
                       id, snapshot->root_id);
    return db_exec(conn, NULL, err,
                   "UPDATE snapshots SET status = 'available', status_time = $1"
                   " WHERE root_id = $2 AND status = 'deleted'",
                   "it", im_now_s(), snapshot->root_id);
}

static const struct {
    const char *prefix; /* of ids; "" takes what is left: images may have symbolic ids */
    bool (*recover)(struct db_conn *conn, const struct caller *caller, const char *id,
                    struct im_err *err);
} kinds[] = {{"i-", recover_instance},
             {"vol-", recover_volume},
             {"ss-", recover_snapshot},
             {"", recover_image}};

static bool recover_body(struct db_conn *conn, void *arg, struct im_err *err) {
    const struct recover *recover = arg;

    for (size_t i = 0; i < recover->ids->count; i++) {
        const char *id = recover->ids->items[i];
        size_t kind = 0;

        while (!im_starts_with(id, kinds[kind].prefix))
            kind++;
        if (!kinds[kind].recover(conn, recover->caller, id, err))
            return false;
    }
    return true;
}

bool cloud_recover(struct cloud *cloud, const struct caller *caller, const struct im_strings *ids,
                   struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings unique = {0};
    struct recover recover = {caller, &unique};

    return ids_unique("resources", ids, &unique, err) &&
           cloud_transact(cloud, recover_body, &recover, err);
}

/* --- Emptying --------------------------------------------------------------------------------- */

/* One thing whose time in the bin is over, read again inside the transaction: it may have been
 * taken out since. */
struct cease {
    struct cloud *cloud;
    const char *id;
};

static bool cease_instance(struct db_conn *conn, void *arg, struct im_err *err) {
    const struct cease *cease = arg;
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    return record_get(conn, &instance_type, cease->id, &instance, err) &&
           (instance->status != INSTANCE_TERMINATED ||
            instance->transition_status != TRANSITION_NONE ||
            instance_cease(cease->cloud, conn, instance, err));
}

static bool cease_volume(struct db_conn *conn, void *arg, struct im_err *err) {
    const struct cease *cease = arg;
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;

    return record_get(conn, &volume_type, cease->id, &volume, err) &&
           (volume->status != VOLUME_DELETED || volume->transition_status != TRANSITION_NONE ||
            volume_cease(cease->cloud, conn, volume, err));
}

static bool cease_image(struct db_conn *conn, void *arg, struct im_err *err) {
    const struct cease *cease = arg;
    IM_AUTO(image_free_auto) struct image *image = NULL;

    return record_get(conn, &image_type, cease->id, &image, err) &&
           (image->status != IMAGE_DELETED || image->transition_status != TRANSITION_NONE ||
            image_settle(conn, cease->id, IMAGE_CEASED, err));
}

static bool cease_snapshot(struct db_conn *conn, void *arg, struct im_err *err) {
    const struct cease *cease = arg;
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;

    return record_get(conn, &snapshot_type, cease->id, &snapshot, err) &&
           (snapshot->status != SNAPSHOT_DELETED ||
            snapshot->transition_status != TRANSITION_NONE || snapshot_cease(conn, snapshot, err));
}

static const struct {
    const struct object_type *type;
    const char *status; /* of what lies in the bin */
    bool (*cease)(struct db_conn *conn, void *arg, struct im_err *err);
} bins[] = {{&instance_type, "terminated", cease_instance},
            {&volume_type, "deleted", cease_volume},
            {&image_type, "deleted", cease_image},
            {&snapshot_type, "deleted", cease_snapshot}};

static bool find_due(struct cloud *cloud, const struct object_type *type, const char *status,
                     void ***ret_objects, size_t *ret_count, struct im_err *err) {
    IM_AUTO(free_auto)
    char *limit = im_printf("%lld", (long long) (im_now_s() - cloud->config.recycle_s));
    IM_AUTO(query_done) struct query query = {.limit = CEASED_PER_ROUND};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);

    query_add(&query, "status", CONDITION_IN, status);
    query_add(&query, "status_time", CONDITION_LESS, limit);
    return conn != NULL && record_list(conn, type, &query, ret_objects, ret_count, NULL, err);
}

static bool empty_bin(struct cloud *cloud, size_t bin, struct im_err *err) {
    const struct object_type *type = bins[bin].type;
    void **objects = NULL;
    size_t count = 0;
    bool emptied = true;

    if (!find_due(cloud, type, bins[bin].status, &objects, &count, err))
        return false;
    for (size_t i = 0; i < count && emptied; i++) {
        struct cease cease = {cloud, *field_text(&type->fields[0], objects[i])};

        emptied = (type != &instance_type || machine_forget(cloud, cease.id, err)) &&
                  cloud_transact(cloud, bins[bin].cease, &cease, err);
    }
    record_list_free(type, objects, count);
    return emptied;
}

bool recycle_empty(struct cloud *cloud, struct im_err *err) {
    for (size_t i = 0; i < sizeof(bins) / sizeof(bins[0]); i++)
        if (!empty_bin(cloud, i, err))
            return false;
    return true;
}
