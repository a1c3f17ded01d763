/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: points in time of system disks and volumes, in chains. A point is a name for a frozen
 * layer, so that it costs the same at any size and place in the chain. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud-private.h"

#define MIB (1ll << 20)

void item_ids(const struct job_run *run, struct im_strings *ret_ids) {
    im_strings_split(ret_ids, run->item->resource_id, " ");
}

/* For commits: sets status and clears the transition. */
static bool snapshot_settle(struct db_conn *conn, const char *snapshot_id,
                            enum snapshot_status status, struct im_err *err) {
    struct snapshot snapshot = {
        .snapshot_id = (char *) snapshot_id, .status = status, .status_time = im_now_s()};

    return record_update_fields(
        conn, &snapshot_type, &snapshot,
        (const char *const[]){"status", "transition_status", "status_time", NULL}, err);
}

bool snapshot_cease(struct db_conn *conn, struct snapshot *snapshot, struct im_err *err) {
    im_replace(&snapshot->layer_id, NULL);
    snapshot->status = SNAPSHOT_CEASED;
    snapshot->transition_status = TRANSITION_NONE;
    snapshot->is_head = snapshot->head_chain = snapshot->damaged = 0;
    snapshot->status_time = im_now_s();
    return record_update(conn, &snapshot_type, snapshot, err);
}

/* --- Create ----------------------------------------------------------------------------------- */

struct create {
    struct cloud *cloud;
    const struct caller *caller;
    const struct snapshot_create_args *args;
    const struct im_strings *resources;
    struct locks locks;
    struct im_strings machines, layers; /* texts that the disks borrow */
    struct disk *disks;
    size_t disk_count;
    struct im_strings *ret_ids;
    char job_id[IM_JOB_ID_MAX];
};

/* The points of a chain that are there, with those on their way in and out. */
static bool chain_length(struct db_conn *conn, const char *root_id, int64_t *ret_count,
                         struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};

    query_add(&query, "root_id", CONDITION_IN, root_id);
    query_add(&query, "status", CONDITION_NOT_IN, "ceased");
    return record_count(conn, &snapshot_type, &query, ret_count, err);
}

/* The point that its resource went on from; NULL if there is none. */
static bool head_point(struct db_conn *conn, const char *resource_id, struct snapshot **ret_head,
                       struct im_err *err) {
    IM_AUTO(query_done) struct query query = {.limit = 1};
    void **found = NULL;
    size_t count = 0;

    query_add(&query, "resource_id", CONDITION_IN, resource_id);
    query_add(&query, "is_head", CONDITION_IN, "1");
    query_add(&query, "status", CONDITION_IN, "available");
    if (!record_list(conn, &snapshot_type, &query, &found, &count, NULL, err))
        return false;
    *ret_head = count > 0 ? found[0] : NULL;
    free(found);
    return true;
}

/* Full or increment, and of which chain. */
static bool place_in_chain(const struct create *create, struct db_conn *conn,
                           struct snapshot *snapshot, struct im_err *err) {
    IM_AUTO(snapshot_free_auto) struct snapshot *head = NULL;
    int64_t length = 0;

    if (!head_point(conn, snapshot->resource_id, &head, err) ||
        (head != NULL && !chain_length(conn, head->root_id, &length, err)))
        return false;
    if (create->args->is_full || head == NULL || length >= SNAPSHOT_CHAIN_MAX) {
        snapshot->snapshot_type = SNAPSHOT_FULL;
        im_replace(&snapshot->parent_id, SNAPSHOT_SELF);
        im_replace(&snapshot->root_id, snapshot->snapshot_id);
        return true;
    }
    snapshot->snapshot_type = SNAPSHOT_INCREMENT;
    im_replace(&snapshot->parent_id, head->snapshot_id);
    im_replace(&snapshot->root_id, head->root_id);
    return true;
}

static bool add_point(struct create *create, struct db_conn *conn, struct snapshot *snapshot,
                      struct im_err *err) {
    char id[IM_ID_MAX];

    im_id_make(id, "ss-", 8);
    im_replace(&snapshot->snapshot_id, id);
    im_replace(&snapshot->snapshot_name,
               create->args->snapshot_name ? create->args->snapshot_name : "");
    im_replace(&snapshot->owner, create->caller->user_id);
    im_replace(&snapshot->provider, "self");
    im_replace(&snapshot->visibility, "private");
    im_replace(&snapshot->consistency, "");
    snapshot->status = SNAPSHOT_PENDING;
    snapshot->transition_status = TRANSITION_CREATING;
    snapshot->is_manually = 1;
    snapshot->virtual_size = snapshot->disk_size * (GIB / MIB);
    snapshot->create_time = snapshot->status_time = im_now_s();
    im_strings_add(create->ret_ids, id);
    return place_in_chain(create, conn, snapshot, err) &&
           record_insert(conn, &snapshot_type, snapshot, err);
}

static void add_disk(struct create *create, enum disk_kind kind, const char *id,
                     const char *machine, const char *layer_id, int64_t size_gib) {
    size_t i = create->disk_count++;

    im_strings_add(&create->machines, machine);
    im_strings_add(&create->layers, layer_id);
    create->disks[i] = (struct disk){.kind = kind,
                                     .id = id,
                                     .machine = create->machines.items[i],
                                     .layer_id = create->layers.items[i],
                                     .size_gib = size_gib};
}

static bool add_instance(struct create *create, struct db_conn *conn, const char *id,
                         struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = object_new(&snapshot_type);

    if (!instance_load(conn, create->caller, id, &instance, err) ||
        !locks_instance(&create->locks, conn, instance, err))
        return false;
    im_replace(&snapshot->resource_id, id);
    im_replace(&snapshot->resource_name, instance->instance_name);
    im_replace(&snapshot->resource_type, "instance");
    im_replace(&snapshot->layer_id, instance->layer_id);
    im_replace(&snapshot->image_id, instance->image_id);
    im_replace(&snapshot->platform, instance->platform);
    im_replace(&snapshot->firmware, instance->firmware);
    im_replace(&snapshot->instance_type, instance->instance_type);
    snapshot->disk_size = instance->os_disk_size;
    add_disk(create, DISK_INSTANCE, id, instance->status == INSTANCE_RUNNING ? id : "",
             instance->layer_id, instance->os_disk_size);
    return add_point(create, conn, snapshot, err);
}

static bool add_volume(struct create *create, struct db_conn *conn, const char *id,
                       struct im_err *err) {
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = object_new(&snapshot_type);

    if (!volume_load(conn, create->caller, id, &volume, err) ||
        !locks_volume(&create->locks, conn, volume, &instance, err))
        return false;
    im_replace(&snapshot->resource_id, id);
    im_replace(&snapshot->resource_name, volume->volume_name);
    im_replace(&snapshot->resource_type, "volume");
    im_replace(&snapshot->layer_id, volume->layer_id);
    snapshot->disk_size = volume->size;
    snapshot->volume_type = volume->volume_type;
    add_disk(create, DISK_VOLUME, id,
             instance != NULL && instance->status == INSTANCE_RUNNING ? instance->instance_id : "",
             volume->layer_id, volume->size);
    return add_point(create, conn, snapshot, err);
}

static bool create_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct create *create = arg;
    IM_AUTO(free_auto) char *ids = NULL;
    struct wire_writer data = {0};
    struct job_order order;
    bool planned;

    im_strings_done(create->ret_ids);
    locks_done(&create->locks);
    im_strings_done(&create->machines);
    im_strings_done(&create->layers);
    create->disk_count = 0;
    for (size_t i = 0; i < create->resources->count; i++) {
        const char *id = create->resources->items[i];

        if (!(im_starts_with(id, "vol-") ? add_volume : add_instance)(create, conn, id, err))
            return false;
    }
    wire_object_begin(&data, NULL);
    planned = freeze_plan(create->cloud, conn, create->disks, create->disk_count, &data, err);
    wire_object_end(&data);
    ids = im_strings_join(create->ret_ids, " ");
    order = (struct job_order){.resource_id = ids, .data = data.text.data};
    planned = planned && jobs_add(create->cloud->jobs, conn, "CreateSnapshots",
                                  create->caller->user_id, "", &order, 1, create->job_id, err);
    im_str_done(&data.text);
    return planned;
}

bool cloud_snapshots_create(struct cloud *cloud, const struct caller *caller,
                            const struct snapshot_create_args *args,
                            struct im_strings *ret_snapshot_ids, char ret_job_id[IM_JOB_ID_MAX],
                            struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings unique = {0};
    struct create create = {.cloud = cloud,
                            .caller = caller,
                            .args = args,
                            .resources = &unique,
                            .locks = {.action = "CreateSnapshots"},
                            .ret_ids = ret_snapshot_ids};
    bool ordered;

    if (!ids_unique("resources", args->resources, &unique, err) ||
        !text_fits("snapshot_name", args->snapshot_name, 255, err))
        return false;
    create.disks = im_alloc(unique.count * sizeof(*create.disks));
    ordered = cloud_order(cloud, create_body, &create, create.job_id, ret_job_id, err);
    free(create.disks);
    locks_done(&create.locks);
    im_strings_done(&create.machines);
    im_strings_done(&create.layers);
    if (!ordered)
        im_strings_done(ret_snapshot_ids);
    return ordered;
}

/* The new point is where its resource goes on from. */
static bool take_point(const struct job_run *run, struct db_conn *conn, const char *id,
                       struct im_err *err) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;
    const char *consistency;

    if (!record_get(conn, &snapshot_type, id, &snapshot, err) ||
        !db_exec(conn, NULL, err,
                 "UPDATE snapshots SET is_head = 0,"
                 " head_chain = CASE WHEN root_id = $1 THEN 1 ELSE 0 END WHERE resource_id = $2",
                 "tt", snapshot->root_id, snapshot->resource_id) ||
        !db_exec(conn, NULL, err,
                 "UPDATE volumes SET latest_snapshot_time = $1"
                 " WHERE volume_id = $2",
                 "it", freeze_time(run), snapshot->resource_id))
        return false;
    snapshot->is_taken = snapshot->is_head = snapshot->head_chain = 1;
    snapshot->snapshot_time = freeze_time(run);
    /* A guest's file systems that were quiet are as good as its programs' data only where these
     * take part, as Windows' do through VSS and those of others where a hook was run. */
    consistency = freeze_consistency(run, snapshot->resource_id);
    if (im_str_equal(snapshot->platform, "windows") && strcmp(consistency, "fs") == 0)
        consistency = "app";
    im_replace(&snapshot->consistency, consistency);
    return record_update(conn, &snapshot_type, snapshot, err);
}

static bool create_freeze_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    item_ids(run, &ids);
    if (!freeze_step_commit(run, conn, err))
        return false;
    for (size_t i = 0; i < ids.count; i++)
        if (!take_point(run, conn, ids.items[i], err))
            return false;
    return true;
}

/* What the point needs that its parent has not. */
static bool own_bytes(struct cloud *cloud, struct db_conn *conn, const struct snapshot *snapshot,
                      int64_t *ret_bytes, struct im_err *err) {
    IM_AUTO(snapshot_free_auto) struct snapshot *parent = NULL;
    struct layer **layers = NULL;
    struct im_err gone = {0};
    size_t count = 0;

    if (snapshot->snapshot_type == SNAPSHOT_INCREMENT &&
        !record_get(conn, &snapshot_type, snapshot->parent_id, &parent, &gone) &&
        gone.code != IM_NOT_FOUND) {
        *err = gone;
        return false;
    }
    if (!layer_chain(conn, snapshot->layer_id, &layers, &count, err))
        return false;
    *ret_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        struct storage_usage usage = {0};
        struct im_err unknown = {0};

        if (parent != NULL && im_str_equal(layers[i]->layer_id, parent->layer_id))
            break;
        if (storage_usage(cloud->config.pool, layers[i]->name, &usage, &unknown))
            *ret_bytes += (int64_t) usage.own_bytes;
    }
    record_list_free(&layer_type, (void **) layers, count);
    return true;
}

static bool create_size_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    int64_t *bytes;

    item_ids(run, &ids);
    bytes = run->scratch = im_alloc((ids.count + 1) * sizeof(*bytes));
    for (size_t i = 0; conn != NULL && i < ids.count; i++) {
        IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;

        if (!record_get(conn, &snapshot_type, ids.items[i], &snapshot, err) ||
            !own_bytes(cloud, conn, snapshot, &bytes[i], err))
            return false;
    }
    return conn != NULL;
}

static bool create_size_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    const int64_t *bytes = run->scratch;

    item_ids(run, &ids);
    for (size_t i = 0; i < ids.count; i++) {
        struct snapshot snapshot = {
            .snapshot_id = ids.items[i], .own_bytes = bytes[i], .size = (bytes[i] + MIB - 1) / MIB};

        if (!record_update_fields(conn, &snapshot_type, &snapshot,
                                  (const char *const[]){"own_bytes", "size", NULL}, err) ||
            !snapshot_settle(conn, ids.items[i], SNAPSHOT_AVAILABLE, err))
            return false;
    }
    return true;
}

static bool create_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                          struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    (void) why;
    item_ids(run, &ids);
    for (size_t i = 0; i < ids.count; i++) {
        IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;

        if (!record_get(conn, &snapshot_type, ids.items[i], &snapshot, err))
            return false;
        snapshot->sub_code = 1;
        if (!snapshot_cease(conn, snapshot, err))
            return false;
    }
    return freeze_undone(run, conn, err);
}

static const struct job_step create_steps[] = {
    {"freeze", freeze_step_run_asking, create_freeze_commit, freeze_step_undo},
    {"size", create_size_run, create_size_commit, NULL},
};
const struct job_verb snapshot_create_verb = {.action = "CreateSnapshots",
                                              .steps = create_steps,
                                              .step_count = 2,
                                              .undone = create_undone,
                                              .resumes = true};

/* --- Delete ----------------------------------------------------------------------------------- */

struct delete {
    struct cloud *cloud;
    const struct caller *caller;
    const struct im_strings *ids;
    bool merge, direct_cease;
    char job_id[IM_JOB_ID_MAX];
};

/* All points of its chain, itself among them. */
static bool chain_load(struct db_conn *conn, const char *root_id, struct snapshot ***ret_points,
                       size_t *ret_count, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {.ascending = true};

    query_add(&query, "root_id", CONDITION_IN, root_id);
    query_add(&query, "status", CONDITION_NOT_IN, "ceased");
    return record_list(conn, &snapshot_type, &query, (void ***) ret_points, ret_count, NULL, err);
}

/* Adds the point and, if it takes others with it, all that come after it. */
static void add_branch(struct snapshot *const *points, size_t count, const char *id, bool alone,
                       struct im_strings *branch) {
    if (!im_strings_has(branch, id))
        im_strings_add(branch, id);
    for (size_t i = 0; i < count && !alone; i++)
        if (strcmp(points[i]->parent_id, id) == 0 &&
            !im_strings_has(branch, points[i]->snapshot_id))
            add_branch(points, count, points[i]->snapshot_id, alone, branch);
}

static struct snapshot *point_of(struct snapshot *const *points, size_t count, const char *id) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(points[i]->snapshot_id, id) == 0)
            return points[i];
    return NULL;
}

/* Its resource goes on from the nearest point that stays; the children of a point that goes alone
 * hang on its parent. */
static bool unhook(struct db_conn *conn, struct snapshot *const *points, size_t count,
                   const struct snapshot *from, const struct im_strings *branch,
                   struct im_err *err) {
    bool head = false;

    for (size_t i = 0; i < count; i++) {
        head = head || (points[i]->is_head && im_strings_has(branch, points[i]->snapshot_id));
        if (strcmp(points[i]->parent_id, from->snapshot_id) == 0 &&
            !im_strings_has(branch, points[i]->snapshot_id)) {
            im_replace(&points[i]->parent_id, from->parent_id);
            if (!record_update(conn, &snapshot_type, points[i], err))
                return false;
        }
    }
    return !head ||
           db_exec(conn, NULL, err, "UPDATE snapshots SET is_head = 1 WHERE snapshot_id = $1", "t",
                   from->parent_id);
}

static bool mark_point(struct db_conn *conn, struct snapshot *point, struct im_strings *marked,
                       struct im_err *err) {
    if (im_strings_has(marked, point->snapshot_id))
        return true;
    if (!snapshot_allows(point, "DeleteSnapshots", err))
        return false;
    point->transition_status = TRANSITION_DELETING;
    point->is_head = 0;
    im_strings_add(marked, point->snapshot_id);
    return record_update(conn, &snapshot_type, point, err);
}

static bool delete_one(struct delete *delete, struct db_conn *conn, const char *id,
                       struct im_strings *marked, struct im_strings *full, struct im_err *err) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;
    IM_AUTO(im_strings_done) struct im_strings branch = {0};
    struct snapshot **points = NULL;
    size_t count = 0;
    bool increment, fine;

    if (!snapshot_load(conn, delete->caller, id, &snapshot, err))
        return false;
    if (im_strings_has(marked, id))
        return true;
    increment = snapshot->snapshot_type == SNAPSHOT_INCREMENT;
    if (!snapshot_allows(snapshot, "DeleteSnapshots", err) ||
        !chain_load(conn, snapshot->root_id, &points, &count, err))
        return false;
    add_branch(points, count, id, delete->merge && increment, &branch);
    fine = !increment || unhook(conn, points, count, snapshot, &branch, err);
    for (size_t i = 0; i < branch.count && fine; i++) {
        struct snapshot *point = point_of(points, count, branch.items[i]);

        fine = point != NULL && mark_point(conn, point, marked, err);
        if (fine && !increment)
            im_strings_add(full, branch.items[i]);
    }
    record_list_free(&snapshot_type, (void **) points, count);
    return fine;
}

static bool delete_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct delete *delete = arg;
    IM_AUTO(im_strings_done) struct im_strings marked = {0}, full = {0};
    IM_AUTO(free_auto) struct job_order *orders = NULL;

    for (size_t i = 0; i < delete->ids->count; i++)
        if (!delete_one(delete, conn, delete->ids->items[i], &marked, &full, err))
            return false;
    orders = im_alloc(marked.count * sizeof(*orders));
    for (size_t i = 0; i < marked.count; i++) {
        bool cease = delete->direct_cease || !im_strings_has(&full, marked.items[i]);

        orders[i] = (struct job_order){.resource_id = marked.items[i],
                                       .data = cease ? "{\"cease\":1}" : "{}"};
    }
    return jobs_add(delete->cloud->jobs, conn, "DeleteSnapshots", delete->caller->user_id, "",
                    orders, marked.count, delete->job_id, err);
}

bool cloud_snapshots_delete(struct cloud *cloud, const struct caller *caller,
                            const struct im_strings *ids, bool merge, bool direct_cease,
                            char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings unique = {0};
    struct delete delete = {.cloud = cloud,
                            .caller = caller,
                            .ids = &unique,
                            .merge = merge,
                            .direct_cease = direct_cease};

    return ids_unique("snapshots", ids, &unique, err) &&
           cloud_order(cloud, delete_body, &delete, delete.job_id, ret_job_id, err);
}

static bool delete_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;

    if (data == NULL || !record_get(conn, &snapshot_type, run->item->resource_id, &snapshot, err))
        return false;
    if (wire_get_int(wire_root(data), "cease", 0) == 0)
        return snapshot_settle(conn, snapshot->snapshot_id, SNAPSHOT_DELETED, err);
    return snapshot_cease(conn, snapshot, err);
}

static bool delete_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                          struct im_err *err) {
    (void) why;
    return snapshot_settle(conn, run->item->resource_id, SNAPSHOT_AVAILABLE, err);
}

static const struct job_step delete_steps[] = {{"delete", NULL, delete_commit, NULL}};
const struct job_verb snapshot_delete_verb = {.action = "DeleteSnapshots",
                                              .steps = delete_steps,
                                              .step_count = 1,
                                              .undone = delete_undone,
                                              .resumes = true};

/* --- Modify ----------------------------------------------------------------------------------- */

static bool modify_load(struct db_conn *conn, const struct caller *caller, const char *id,
                        void *ret_object, struct im_err *err) {
    return snapshot_load(conn, caller, id, ret_object, err);
}

bool cloud_snapshot_modify(struct cloud *cloud, const struct caller *caller,
                           const char *snapshot_id, const char *snapshot_name,
                           const char *description, struct im_err *err) {
    struct attributes attributes = {snapshot_name, description};

    return attributes_modify(cloud, caller, &snapshot_type, modify_load, snapshot_id, &attributes,
                             err);
}
