/* SPDX-License-Identifier: Apache-2.0 */
/* RepairImage and its way back: disks of images, volumes and stopped instances are changed in a new
 * layer, and the layer below it stays as it was, kept by a row of its own. So a repair that fails
 * has changed nothing, and one that succeeded is undone by naming the old layer again.
 *
 * The resource keeps its id: whoever has it in a script or a Terraform file goes on with the
 * repaired disk, and instances that run from the old layer are not touched. An image is not locked
 * meanwhile, it is used as it was; a disk is. Volumes and instances have one way back, to the last
 * repair; of images each can be taken back, the last one first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud-private.h"

enum { REPAIRS_AT_ONCE = 2 }; /* each has a machine of some hundred MiB */

enum kind { KIND_IMAGE, KIND_VOLUME, KIND_INSTANCE };
static const char *const kind_words[] = {"image", "volume", "instance"};

static enum kind kind_of(const char *id) {
    return im_starts_with(id, "vol-") ? KIND_VOLUME
           : im_starts_with(id, "i-") ? KIND_INSTANCE
                                      : KIND_IMAGE;
}

/* --- What is repaired ------------------------------------------------------------------------- */

struct target {
    enum kind kind;
    char id[IM_ID_MAX], layer_id[IM_ID_MAX];
    int64_t size_bytes; /* 0: as its layer */
};

static bool take_image(struct db_conn *conn, const struct caller *caller, const char *id,
                       struct target *target, struct im_err *err) {
    IM_AUTO(image_free_auto) struct image *image = NULL;

    if (!image_load(conn, caller, id, &image, err) || !image_owned(caller, image, err) ||
        !image_allows(image, "RepairImage", err))
        return false;
    snprintf(target->id, IM_ID_MAX, "%s", image->image_id);
    snprintf(target->layer_id, IM_ID_MAX, "%s", image->layer_id);
    return true;
}

/* No machine may have it open until the job is over. */
static bool take_volume(struct db_conn *conn, const struct caller *caller, const char *id,
                        struct target *target, struct im_err *err) {
    IM_AUTO(volume_free_auto) struct volume *volume = NULL;
    char machine[IM_ID_MAX];

    if (!volume_load(conn, caller, id, &volume, err) ||
        !volume_allows(volume, "RepairImage", err) || !volume_lock(conn, volume, machine, err))
        return false;
    if (machine[0] != '\0')
        return im_fail(err, IM_WRONG_STATE,
                       "volume [%s] is attached to instance [%s], which is running: stop it or "
                       "detach the volume, then repair it",
                       id, machine);
    snprintf(target->id, IM_ID_MAX, "%s", volume->volume_id);
    snprintf(target->layer_id, IM_ID_MAX, "%s", volume->layer_id);
    target->size_bytes = volume->size * GIB;
    return record_update_fields(conn, &volume_type, volume, (const char *const[]){"busy", NULL},
                                err);
}

static bool take_instance(struct db_conn *conn, const struct caller *caller, const char *id,
                          struct target *target, struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    if (!instance_load(conn, caller, id, &instance, err) ||
        !instance_allows(instance, "RepairImage", err))
        return false;
    snprintf(target->id, IM_ID_MAX, "%s", instance->instance_id);
    snprintf(target->layer_id, IM_ID_MAX, "%s", instance->layer_id);
    target->size_bytes = instance->os_disk_size * GIB;
    instance->transition_status = TRANSITION_UPDATING;
    return record_update_fields(conn, &instance_type, instance,
                                (const char *const[]){"transition_status", NULL}, err);
}

static bool is_alone(struct db_conn *conn, const struct target *target, struct im_err *err) {
    IM_AUTO(db_rows_free_auto)
    struct db_rows *rows = db_query(
        conn, err, "SELECT job_id FROM repairs WHERE resource_id = $1 AND status = 'pending'", "t",
        target->id);
    bool more = false;

    if (rows == NULL || !db_next(rows, &more, err))
        return false;
    return !more || im_fail(err, IM_WRONG_STATE, "%s [%s] is being repaired already, by job [%s]",
                            kind_words[target->kind], target->id, db_text(rows, 0));
}

/* Checks what may be done, and locks what has to be. */
static bool take(struct db_conn *conn, const struct caller *caller, const char *id,
                 struct target *target, struct im_err *err) {
    static bool (*const takes[])(struct db_conn * conn, const struct caller *caller, const char *id,
                                 struct target *target,
                                 struct im_err *err) = {take_image, take_volume, take_instance};

    if (im_str_empty(id))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [image] is missing");
    if (im_starts_with(id, "ss-"))
        return im_fail(err, IM_BAD_MESSAGE,
                       "snapshot [%s] stays as it was taken: make an image or a volume of it, and "
                       "repair that",
                       id);
    *target = (struct target){.kind = kind_of(id)};
    return takes[target->kind](conn, caller, id, target, err) && is_alone(conn, target, err);
}

/* Images are not locked. */
static bool let_go(struct db_conn *conn, enum kind kind, const char *id, struct im_err *err) {
    return kind == KIND_VOLUME     ? volume_unlock_all(conn, id, err)
           : kind == KIND_INSTANCE ? instance_unlock(conn, id, err)
                                   : true;
}

/* --- The request ------------------------------------------------------------------------------ */

struct repair_call {
    struct cloud *cloud;
    const struct caller *caller;
    const char *id, *only, *seal;
    char repair_id[IM_ID_MAX];
    char job_id[IM_JOB_ID_MAX];
};

static void write_item(struct wire_writer *writer, const char *repair_id,
                       const struct target *target, const char *make, const char *only,
                       const char *seal) {
    wire_text(writer, "repair", repair_id);
    wire_text(writer, "id", target->id);
    wire_text(writer, "from", target->layer_id);
    wire_text(writer, "make", make);
    wire_text(writer, "only", only);
    wire_text(writer, "seal", seal);
}

static char *item_text(const char *repair_id, const struct target *target, const char *make,
                       const char *only, const char *seal) {
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    write_item(&writer, repair_id, target, make, only, seal);
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

static bool repair_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct repair_call *call = arg;
    IM_AUTO(free_auto) char *data = NULL;
    struct target target;
    char make[IM_ID_MAX];
    struct job_order order = {.resource_id = target.id};
    struct repair row = {.repair_id = call->repair_id,
                         .resource_id = target.id,
                         .status = REPAIR_PENDING,
                         .findings = (char *) call->only,
                         .seal = (char *) call->seal,
                         .owner = (char *) call->caller->user_id,
                         .job_id = call->job_id,
                         .create_time = im_now_s(),
                         .made_id = make};

    im_id_make(call->repair_id, "rep-", 8);
    if (!take(conn, call->caller, call->id, &target, err) ||
        !layer_plan(call->cloud, conn, target.layer_id, target.size_bytes, make, err))
        return false;
    order.data = data = item_text(call->repair_id, &target, make, call->only, call->seal);
    return jobs_add(call->cloud->jobs, conn, "RepairImage", call->caller->user_id, "", &order, 1,
                    call->job_id, err) &&
           record_insert(conn, &repair_type, &row, err);
}

/* Words only, as they are told to a worker in one text. */
bool repair_words_fit(const char *what, const struct im_strings *words, struct im_err *err) {
    for (size_t i = 0; i < words->count; i++)
        if (words->items[i][strspn(words->items[i], "abcdefghijklmnopqrstuvwxyz0123456789.-_")] !=
                '\0' ||
            strlen(words->items[i]) > 64)
            return im_fail(err, IM_BAD_MESSAGE, "parameter [%s.n] has no such word: [%.64s]", what,
                           words->items[i]);
    return true;
}

bool cloud_repair(struct cloud *cloud, const struct caller *caller, const struct repair_args *args,
                  char ret_repair_id[IM_ID_MAX], char ret_job_id[IM_JOB_ID_MAX],
                  struct im_err *err) {
    IM_AUTO(free_auto) char *only = im_strings_join(args->findings, " ");
    IM_AUTO(free_auto) char *seal = im_strings_join(args->seal, " ");
    struct repair_call call = {.cloud = cloud,
                               .caller = caller,
                               .id = args->resource_id,
                               .only = only[0] == '\0' && seal[0] == '\0' ? "all" : only,
                               .seal = seal};

    if (!repair_words_fit("findings", args->findings, err) ||
        !repair_words_fit("seal", args->seal, err) || !appliance_there(cloud, err) ||
        !cloud_order(cloud, repair_body, &call, call.job_id, ret_job_id, err))
        return false;
    memcpy(ret_repair_id, call.repair_id, IM_ID_MAX);
    return true;
}

/* --- What a job knows ------------------------------------------------------------------------- */

/* The item's data, and the names of both layers. */
struct work {
    char repair_id[IM_ID_MAX], id[IM_ID_MAX];
    enum kind kind;
    char *only, *seal;
    struct disk_work disk;
};

static void work_done(struct work *work) {
    free(work->only);
    free(work->seal);
}

static void copy_id(char out[IM_ID_MAX], const struct wire_value *data, const char *key) {
    snprintf(out, IM_ID_MAX, "%s", wire_get_text(data, key, ""));
}

static bool work_load(const struct job_run *run, struct db_conn *conn, struct work *work,
                      struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    if (data == NULL)
        return false;
    copy_id(work->repair_id, wire_root(data), "repair");
    copy_id(work->id, wire_root(data), "id");
    work->kind = kind_of(work->id);
    work->only = im_strdup(wire_get_text(wire_root(data), "only", ""));
    work->seal = im_strdup(wire_get_text(wire_root(data), "seal", ""));
    return disk_work_read(conn, wire_root(data), &work->disk, err);
}

static bool work_load_now(const struct job_run *run, struct work *work, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);

    return conn != NULL && work_load(run, conn, work, err);
}

/* What the run tells the commit: names as the pool has them now, and the result. */
struct outcome {
    struct disk_next next;
    char text[];
};

/* --- The step --------------------------------------------------------------------------------- */

/* A head of its own on what is frozen already, or what goes on where the disk ends; empty in both
 * cases, whatever an earlier run wrote. */
static bool begin(struct cloud *cloud, const struct work *work, struct disk_next *next,
                  struct im_err *err) {
    if (work->kind != KIND_IMAGE)
        return disk_next_begin(cloud, work->id, work->disk.from_name, work->disk.make_name, next,
                               err);
    snprintf(next->head, STORAGE_NAME_MAX, "%s", work->disk.make_name);
    return storage_remove(cloud->config.pool, work->disk.make_name, err) &&
           layer_make_head(cloud, work->disk.make, err);
}

static bool take_back(struct cloud *cloud, const struct work *work, struct im_err *err) {
    return work->kind == KIND_IMAGE
               ? storage_remove(cloud->config.pool, work->disk.make_name, err)
               : disk_next_undo(cloud, work->disk.from_name, work->disk.make_name, err);
}

static bool was_changed(const char *result) { return strstr(result, "\"changed\":1") != NULL; }

static bool mend_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(work_done) struct work work = {0};
    IM_AUTO(free_auto) char *result = NULL;
    struct disk_next next = {0};
    struct outcome *outcome;
    bool fine;

    if (!work_load_now(run, &work, err) || !begin(cloud, &work, &next, err) ||
        !head_mend(run, next.head, work.disk.size_bytes,
                   &(struct disk_wish){.only = work.only, .seal = work.seal}, &result, err))
        return false;
    if (!was_changed(result))
        fine = take_back(cloud, &work, err);
    else
        fine = work.kind != KIND_IMAGE || storage_freeze_end(cloud->config.pool, next.head, err);
    if (!fine)
        return false;
    outcome = im_alloc(sizeof(*outcome) + strlen(result) + 1);
    outcome->next = next;
    strcpy(outcome->text, result);
    run->scratch = outcome;
    return true;
}

static bool mend_undo(struct job_run *run, struct im_err *err) {
    IM_AUTO(work_done) struct work work = {0};

    return work_load_now(run, &work, err) && take_back(run->context, &work, err);
}

/* --- Its end ---------------------------------------------------------------------------------- */

/* The image goes on from the layer that was made, with what is known of that disk. It was used
 * meanwhile, and perhaps changed. */
static bool name_layer(struct db_conn *conn, const struct work *work, const char *report,
                       struct im_err *err) {
    IM_AUTO(image_free_auto) struct image *image = NULL;

    if (!record_get(conn, &image_type, work->id, &image, err) ||
        !image_allows(image, "RepairImage", err))
        return false;
    if (!im_str_equal(image->layer_id, work->disk.from))
        return im_fail(err, IM_WRONG_STATE, "image [%s] got another disk meanwhile", work->id);
    im_replace(&image->layer_id, work->disk.make);
    im_replace(&image->report, report);
    return record_update_fields(conn, &image_type, image,
                                (const char *const[]){"layer_id", "report", NULL}, err);
}

static bool switch_image(struct db_conn *conn, const struct work *work,
                         const struct outcome *outcome, const struct wire_value *report,
                         struct im_err *err) {
    IM_AUTO(free_auto) char *text = wire_dump(report, false);

    return name_layer(conn, work, text, err) &&
           layer_settle(conn, work->disk.make, outcome->next.head, LAYER_FROZEN, err);
}

static bool keep_row(struct db_conn *conn, const struct work *work, const struct wire_value *result,
                     bool changed, struct im_err *err) {
    IM_AUTO(repair_free_auto) struct repair *row = NULL;

    if (!record_get(conn, &repair_type, work->repair_id, &row, err))
        return false;
    free(row->changes);
    free(row->report);
    row->changes = wire_dump(wire_get(result, "changes"), false);
    row->report = wire_dump(wire_get(result, "before"), false);
    row->status = changed ? REPAIR_APPLIED : REPAIR_NOTHING;
    row->undoable = changed;
    row->end_time = im_now_s();
    im_replace(&row->layer_id, changed ? work->disk.from : NULL);
    return record_update(conn, &repair_type, row, err);
}

static bool mend_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    const struct outcome *outcome = run->scratch;
    IM_AUTO(wire_doc_free_auto)
    struct wire_doc *doc = wire_parse(outcome->text, strlen(outcome->text), err);
    IM_AUTO(work_done) struct work work = {0};
    const struct wire_value *result = doc != NULL ? wire_root(doc) : NULL;
    bool changed = wire_get_int(result, "changed", 0) != 0;

    if (doc == NULL || !work_load(run, conn, &work, err))
        return false;
    return (!changed ? layer_drop(run->context, conn, work.disk.make, err)
            : work.kind == KIND_IMAGE
                ? switch_image(conn, &work, outcome, wire_get(result, "after"), err)
                : disk_next_commit(conn, work.id, work.disk.from, work.disk.make, &outcome->next,
                                   err)) &&
           let_go(conn, work.kind, work.id, err) && keep_row(conn, &work, result, changed, err);
}

static bool repair_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                          struct im_err *err) {
    IM_AUTO(work_done) struct work work = {0};

    (void) why;
    return work_load(run, conn, &work, err) &&
           layer_drop(run->context, conn, work.disk.make, err) &&
           record_delete(conn, &repair_type, work.repair_id, err) &&
           let_go(conn, work.kind, work.id, err);
}

static unsigned at_once(void *context) {
    (void) context;
    return REPAIRS_AT_ONCE;
}

static const struct job_step repair_steps[] = {{"mend", mend_run, mend_commit, mend_undo}};
const struct job_verb repair_verb = {.action = "RepairImage",
                                     .steps = repair_steps,
                                     .step_count = 1,
                                     .undone = repair_undone,
                                     .resumes = true,
                                     .cancels = true,
                                     .at_once = at_once};

/* --- Sealing on the way to an image ----------------------------------------------------------- */

bool seal_plan(struct cloud *cloud, struct db_conn *conn, const struct image *image,
               const char *items, struct wire_writer *data, struct im_err *err) {
    char repair_id[IM_ID_MAX], make[IM_ID_MAX];
    struct target target = {.kind = KIND_IMAGE};
    struct repair row = {.repair_id = repair_id,
                         .resource_id = image->image_id,
                         .status = REPAIR_PENDING,
                         .findings = "",
                         .seal = (char *) items,
                         .owner = image->owner,
                         .create_time = im_now_s(),
                         .made_id = make};

    im_id_make(repair_id, "rep-", 8);
    snprintf(target.id, IM_ID_MAX, "%s", image->image_id);
    snprintf(target.layer_id, IM_ID_MAX, "%s", image->layer_id);
    if (!layer_plan(cloud, conn, image->layer_id, image->size_bytes, make, err))
        return false;
    write_item(data, repair_id, &target, make, "", items);
    return record_insert(conn, &repair_type, &row, err);
}

bool seal_planned(const struct job_run *run) {
    struct im_err err = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, &err);

    return data != NULL && wire_get_text(wire_root(data), "repair", "")[0] != '\0';
}

bool seal_run(struct job_run *run, struct im_err *err) {
    return !seal_planned(run) || mend_run(run, err);
}

bool seal_undo(struct job_run *run, struct im_err *err) {
    return !seal_planned(run) || mend_undo(run, err);
}

/* What was sealed shall be gone: there is no way back, and the row keeps no file as it was. */
static bool close_row(struct db_conn *conn, const struct job_run *run, const struct work *work,
                      bool changed, struct im_err *err) {
    struct repair row = {.repair_id = (char *) work->repair_id,
                         .status = changed ? REPAIR_APPLIED : REPAIR_NOTHING,
                         .job_id = run->job->job_id,
                         .end_time = im_now_s()};

    return record_update_fields(conn, &repair_type, &row,
                                (const char *const[]){"status", "job_id", "end_time", NULL}, err);
}

static bool image_sealed(struct db_conn *conn, const struct work *work,
                         const struct outcome *outcome, struct im_err *err) {
    struct image image = {.image_id = (char *) work->id, .layer_id = (char *) work->disk.make};

    return layer_settle(conn, work->disk.make, outcome->next.head, LAYER_FROZEN, err) &&
           record_update_fields(conn, &image_type, &image, (const char *const[]){"layer_id", NULL},
                                err);
}

bool seal_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    const struct outcome *outcome = run->scratch;
    IM_AUTO(work_done) struct work work = {0};
    bool changed;

    if (!seal_planned(run))
        return true;
    changed = was_changed(outcome->text);
    return work_load(run, conn, &work, err) &&
           (changed ? image_sealed(conn, &work, outcome, err)
                    : layer_drop(run->context, conn, work.disk.make, err)) &&
           close_row(conn, run, &work, changed, err) &&
           image_settle(conn, work.id, IMAGE_AVAILABLE, err);
}

bool seal_undone(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(work_done) struct work work = {0};

    return !seal_planned(run) || (work_load(run, conn, &work, err) &&
                                  (work.disk.made != LAYER_MAKING ||
                                   layer_drop(run->context, conn, work.disk.make, err)));
}

/* --- The way back ----------------------------------------------------------------------------- */

static bool find_undoable(struct db_conn *conn, const struct target *target, const char *made_id,
                          struct repair **ret_repair, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {.limit = 1, .sort_field = "end_time"};
    struct repair **found = NULL;
    size_t count = 0;

    query_add(&query, "resource_id", CONDITION_IN, target->id);
    query_add(&query, "undoable", CONDITION_IN, "1");
    if (made_id != NULL)
        query_add(&query, "made_id", CONDITION_IN, made_id);
    if (!record_list(conn, &repair_type, &query, (void ***) &found, &count, NULL, err))
        return false;
    *ret_repair = count > 0 ? found[0] : NULL;
    free(found);
    return true;
}

/* The one that made what the resource has now. */
static bool last_repair(struct db_conn *conn, const struct target *target,
                        struct repair **ret_repair, struct im_err *err) {
    IM_AUTO(repair_free_auto) struct repair *other = NULL;

    if (!find_undoable(conn, target, target->layer_id, ret_repair, err))
        return false;
    if (*ret_repair != NULL)
        return true;
    if (!find_undoable(conn, target, NULL, &other, err))
        return false;
    return other == NULL
               ? im_fail(err, IM_WRONG_STATE, "%s [%s] has no repair that could be undone",
                         kind_words[target->kind], target->id)
               : im_fail(err, IM_WRONG_STATE,
                         "%s [%s] was backed up, cloned or rolled back after repair [%s]: a "
                         "snapshot leads back from here, not the repair",
                         kind_words[target->kind], target->id, other->repair_id);
}

static bool undo_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct repair_call *call = arg;
    IM_AUTO(repair_free_auto) struct repair *repair = NULL;
    IM_AUTO(free_auto) char *data = NULL;
    struct target target;
    char make[IM_ID_MAX] = "";
    struct job_order order = {.resource_id = target.id};

    if (!take(conn, call->caller, call->id, &target, err) ||
        !last_repair(conn, &target, &repair, err))
        return false;
    snprintf(call->repair_id, IM_ID_MAX, "%s", repair->repair_id);
    if (target.kind == KIND_IMAGE)
        snprintf(make, IM_ID_MAX, "%s", repair->layer_id);
    else if (!layer_plan(call->cloud, conn, repair->layer_id, target.size_bytes, make, err))
        return false;
    order.data = data = item_text(repair->repair_id, &target, make, "", "");
    return jobs_add(call->cloud->jobs, conn, "UndoImageRepair", call->caller->user_id, "", &order,
                    1, call->job_id, err);
}

bool cloud_repair_undo(struct cloud *cloud, const struct caller *caller, const char *resource_id,
                       char ret_repair_id[IM_ID_MAX], char ret_job_id[IM_JOB_ID_MAX],
                       struct im_err *err) {
    struct repair_call call = {.cloud = cloud, .caller = caller, .id = resource_id};

    if (!cloud_order(cloud, undo_body, &call, call.job_id, ret_job_id, err))
        return false;
    memcpy(ret_repair_id, call.repair_id, IM_ID_MAX);
    return true;
}

/* An image only names the old layer again; it may have ceased meanwhile, and its layers with it. */
static bool is_image(const struct job_run *run) {
    return kind_of(run->item->resource_id) == KIND_IMAGE;
}

static bool undo_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(work_done) struct work work = {0};

    return is_image(run) ||
           (work_load_now(run, &work, err) && layer_make_head(run->context, work.disk.make, err));
}

static bool undo_undo(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(work_done) struct work work = {0};

    return is_image(run) || (work_load_now(run, &work, err) &&
                             (work.disk.made != LAYER_MAKING ||
                              storage_remove(cloud->config.pool, work.disk.make_name, err)));
}

/* The layer that an image leaves is read by its instances, or collected. */
static bool undo_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(work_done) struct work work = {0};
    IM_AUTO(repair_free_auto) struct repair *repair = NULL;

    if (!work_load(run, conn, &work, err) ||
        !record_get(conn, &repair_type, work.repair_id, &repair, err))
        return false;
    if (work.kind == KIND_IMAGE ? !name_layer(conn, &work, repair->report, err)
                                : !layer_set_state(conn, work.disk.make, LAYER_HEAD, err) ||
                                      !disk_name_head(conn, work.id, work.disk.make, err) ||
                                      !layer_drop(run->context, conn, work.disk.from, err) ||
                                      !let_go(conn, work.kind, work.id, err))
        return false;
    repair->status = REPAIR_UNDONE;
    repair->undoable = 0;
    im_replace(&repair->layer_id, NULL);
    background_collect(run->context);
    return record_update(conn, &repair_type, repair, err);
}

static bool undo_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                        struct im_err *err) {
    IM_AUTO(work_done) struct work work = {0};

    (void) why;
    return is_image(run) || (work_load(run, conn, &work, err) &&
                             (work.disk.made != LAYER_MAKING ||
                              layer_drop(run->context, conn, work.disk.make, err)) &&
                             let_go(conn, work.kind, work.id, err));
}

static const struct job_step undo_steps[] = {{"undo", undo_run, undo_commit, undo_undo}};
const struct job_verb repair_undo_verb = {.action = "UndoImageRepair",
                                          .steps = undo_steps,
                                          .step_count = 1,
                                          .undone = undo_undone,
                                          .resumes = true};

/* --- Looking ---------------------------------------------------------------------------------- */

bool repairs_forget(struct db_conn *conn, const char *resource_id, struct im_err *err) {
    return db_exec(conn, NULL, err, "DELETE FROM repairs WHERE resource_id = $1", "t", resource_id);
}

bool cloud_repairs(struct cloud *cloud, const struct caller *caller, struct query *query,
                   struct repair_list *ret_list, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct repair_list list = {0};

    if (conn == NULL)
        return false;
    query_restrict(caller, query, "repair_id", NULL);
    if (!record_list(conn, &repair_type, query, (void ***) &list.items, &list.count, &list.total,
                     err))
        return false;
    *ret_list = list;
    return true;
}

void repair_list_done(struct repair_list *list) {
    record_list_free(&repair_type, (void **) list->items, list->count);
    *list = (struct repair_list){0};
}
