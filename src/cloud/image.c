/* SPDX-License-Identifier: Apache-2.0 */
/* Image verbs that move no bytes: capture, clone, delete, modify. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud-private.h"

enum { CLONES_MAX = 100 };

bool image_settle(struct db_conn *conn, const char *image_id, enum image_status status,
                  struct im_err *err) {
    struct image image = {.image_id = (char *) image_id,
                          .status = status,
                          .transition_status = TRANSITION_NONE,
                          .status_time = im_now_s()};

    return record_update_fields(
        conn, &image_type, &image,
        (const char *const[]){"status", "transition_status", "status_time", NULL}, err);
}

/* --- Capture: the stopped instance's disk is frozen and becomes the image; it goes on with a new
 * head. With trim its unused blocks are given back before ---- */

struct capture {
    struct instance_batch batch;
    const struct image_capture_args *args;
    const char *seal;        /* items with blanks in between, "" = none */
    char *image_id;          /* IM_ID_MAX bytes of the caller */
    char trimmed[IM_ID_MAX]; /* the layer that the disk goes on in */
};

struct image *image_from_disk(struct db_conn *conn, const char *image_id, const char *platform,
                              const char *firmware, struct im_err *err) {
    IM_AUTO(image_free_auto) struct image *image = NULL;
    struct im_err missing = {0};

    if (record_get(conn, &image_type, image_id, &image, &missing))
        return im_steal(&image);
    if (missing.code != IM_NOT_FOUND) {
        *err = missing;
        return NULL;
    }
    image = object_new(&image_type);
    im_replace(&image->image_id, image_id);
    im_replace(&image->platform, platform);
    im_replace(&image->processor_type, "64bit");
    im_replace(&image->ui_type, "tui");
    im_replace(&image->hypervisor, "kvm");
    im_replace(&image->firmware, firmware);
    image->f_resetpwd = 1;
    return im_steal(&image);
}

void image_make_own(struct image *image, const char *owner, const char *name, const char *source) {
    char id[IM_ID_MAX];

    im_id_make(id, "img-", 8);
    im_replace(&image->root_id, image->image_id);
    im_replace(&image->image_id, id);
    im_replace(&image->image_name, name ? name : "");
    im_replace(&image->description, NULL);
    im_replace(&image->visibility, "private");
    im_replace(&image->provider, "self");
    im_replace(&image->owner, owner);
    im_replace(&image->family, NULL);
    im_replace(&image->digest, NULL);
    im_replace(&image->source, source);
    image->status = IMAGE_PENDING;
    image->transition_status = TRANSITION_CREATING;
    image->sub_code = image->damaged = 0;
    image->create_time = image->status_time = im_now_s();
}

static bool capture_prepare(struct instance_batch *batch, struct db_conn *conn,
                            struct instance *instance, struct wire_writer *data,
                            struct im_err *err) {
    struct capture *capture = batch->arg;
    IM_AUTO(image_free_auto)
    struct image *image =
        image_from_disk(conn, instance->image_id, instance->platform, instance->firmware, err);
    struct disk disk = disk_of_instance(instance);

    if (image == NULL || (capture->args->trim > 0 && !disk_next_plan(batch->cloud, conn, instance,
                                                                     data, capture->trimmed, err)))
        return false;
    if (capture->args->trim > 0)
        disk.layer_id = capture->trimmed;
    if (!freeze_plan(batch->cloud, conn, &disk, 1, data, err))
        return false;
    image_make_own(image, batch->caller->user_id, capture->args->image_name, instance->instance_id);
    im_replace(&image->recommended_type, instance->instance_type);
    im_replace(&image->layer_id, disk.layer_id);
    image->trimmed_bytes = 0;
    image->size = instance->os_disk_size;
    image->size_bytes = instance->os_disk_size * GIB;
    memcpy(capture->image_id, image->image_id, strlen(image->image_id) + 1);
    wire_text(data, "image", image->image_id);
    return record_insert(conn, &image_type, image, err) &&
           (capture->seal[0] == '\0' ||
            seal_plan(batch->cloud, conn, image, capture->seal, data, err));
}

bool cloud_image_capture(struct cloud *cloud, const struct caller *caller,
                         const struct image_capture_args *args, char ret_image_id[IM_ID_MAX],
                         char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    IM_AUTO(free_auto)
    char *items = args->seal != NULL ? im_strings_join(args->seal, " ") : im_strdup("");
    struct capture capture = {.args = args, .seal = items, .image_id = ret_image_id};

    if (im_str_empty(args->instance_id))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [instance] is missing");
    if (!text_fits("image_name", args->image_name, 255, err) ||
        (args->seal != NULL && !repair_words_fit("seal_items", args->seal, err)) ||
        ((items[0] != '\0' || args->trim > 0) && !appliance_there(cloud, err)))
        return false;
    im_strings_add(&ids, args->instance_id);
    capture.batch = (struct instance_batch){.cloud = cloud,
                                            .caller = caller,
                                            .action = "CaptureInstance",
                                            .ids = &ids,
                                            .prepare = capture_prepare,
                                            .arg = &capture};
    return instance_batch_run(&capture.batch, ret_job_id, err);
}

static bool capture_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    return data != NULL && freeze_step_commit(run, conn, err) &&
           (seal_planned(run) ||
            image_settle(conn, wire_get_text(wire_root(data), "image", ""), IMAGE_AVAILABLE, err));
}

bool image_gone(struct db_conn *conn, const char *image_id, struct im_err *err) {
    struct image image = {.image_id = (char *) image_id,
                          .status = IMAGE_CEASED,
                          .sub_code = 1,
                          .status_time = im_now_s()};

    return repairs_forget(conn, image_id, err) &&
           record_update_fields(conn, &image_type, &image,
                                (const char *const[]){"status", "transition_status", "sub_code",
                                                      "status_time", "layer_id", NULL},
                                err);
}

static bool capture_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                           struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    (void) why;
    return data != NULL && seal_undone(run, conn, err) && freeze_undone(run, conn, err) &&
           trim_undone(run, conn, err) &&
           image_gone(conn, wire_get_text(wire_root(data), "image", ""), err);
}

/* A machine has run from it, so nothing that is found keeps it from being an image: it is looked
 * into when it is one. */
static bool capture_look_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    return data != NULL &&
           published_look_run(run, wire_get_text(wire_root(data), "image", ""), err);
}

static bool capture_look_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    return data != NULL &&
           published_look_commit(run, conn, wire_get_text(wire_root(data), "image", ""), err);
}

static const struct job_step capture_steps[] = {
    {"trim", trim_step_run, trim_step_commit, trim_step_undo},
    {"freeze", freeze_step_run, capture_commit, freeze_step_undo},
    {"seal", seal_run, seal_commit, seal_undo},
    {"inspect", capture_look_run, capture_look_commit, NULL}};
const struct job_verb image_capture_verb = {.action = "CaptureInstance",
                                            .steps = capture_steps,
                                            .step_count = 4,
                                            .undone = capture_undone,
                                            .resumes = true};

/* --- Clone: another name for the same layer --------------------------------------------------- */

struct clone {
    struct cloud *cloud;
    const struct caller *caller;
    const char *image_id, *image_name;
    int64_t count;
    struct im_strings *ret_ids;
    char job_id[IM_JOB_ID_MAX];
};

static bool clone_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct clone *clone = arg;
    IM_AUTO(image_free_auto) struct image *image = NULL;
    IM_AUTO(free_auto) struct job_order *orders = im_alloc((size_t) clone->count * sizeof(*orders));

    im_strings_done(clone->ret_ids);
    if (!image_load(conn, clone->caller, clone->image_id, &image, err) ||
        !image_allows(image, "CloneImages", err) || !layer_usable(conn, image->layer_id, err))
        return false;
    if (!im_str_empty(clone->image_name))
        im_replace(&image->image_name, clone->image_name);
    im_replace(&image->root_id, clone->image_id);
    im_replace(&image->source, clone->image_id);
    im_replace(&image->owner, clone->caller->user_id);
    im_replace(&image->visibility, "private");
    im_replace(&image->provider, "self");
    im_replace(&image->family, NULL);
    image->status = IMAGE_PENDING;
    image->transition_status = TRANSITION_CREATING;
    image->create_time = image->status_time = im_now_s();
    for (int64_t i = 0; i < clone->count; i++) {
        char id[IM_ID_MAX];

        im_id_make(id, "img-", 8);
        im_replace(&image->image_id, id);
        if (!record_insert(conn, &image_type, image, err))
            return false;
        im_strings_add(clone->ret_ids, id);
        orders[i] = (struct job_order){.resource_id = clone->ret_ids->items[i]};
    }
    return jobs_add(clone->cloud->jobs, conn, "CloneImages", clone->caller->user_id, "", orders,
                    (size_t) clone->count, clone->job_id, err);
}

bool cloud_image_clone(struct cloud *cloud, const struct caller *caller, const char *image_id,
                       int64_t count, const char *image_name, struct im_strings *ret_image_ids,
                       char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct clone clone = {.cloud = cloud,
                          .caller = caller,
                          .image_id = image_id,
                          .image_name = image_name,
                          .count = count <= 0 ? 1 : count,
                          .ret_ids = ret_image_ids};

    if (im_str_empty(image_id))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [image] is missing");
    if (clone.count > CLONES_MAX)
        return im_fail(err, IM_BAD_MESSAGE, "count [%" PRId64 "] should be between 1 and %d",
                       clone.count, CLONES_MAX);
    return text_fits("image_name", image_name, 255, err) &&
           cloud_order(cloud, clone_body, &clone, clone.job_id, ret_job_id, err);
}

static bool clone_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    return image_settle(conn, run->item->resource_id, IMAGE_AVAILABLE, err);
}

static bool clone_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                         struct im_err *err) {
    (void) why;
    return image_gone(conn, run->item->resource_id, err);
}

static const struct job_step clone_steps[] = {{"publish", NULL, clone_commit, NULL}};
const struct job_verb image_clone_verb = {.action = "CloneImages",
                                          .steps = clone_steps,
                                          .step_count = 1,
                                          .undone = clone_undone,
                                          .resumes = true};

/* --- Delete ----------------------------------------------------------------------------------- */

struct delete {
    struct cloud *cloud;
    const struct caller *caller;
    const struct im_strings *ids;
    bool direct_cease;
    char job_id[IM_JOB_ID_MAX];
};

/* An image whose upload nobody will finish can be deleted like one that is there; nothing of it is
 * kept. */
static bool delete_one(const struct delete *delete, struct db_conn *conn, const char *id,
                       struct job_order *ret_order, struct im_err *err) {
    IM_AUTO(image_free_auto) struct image *image = NULL;
    bool waited = false;

    if (!image_load(conn, delete->caller, id, &image, err))
        return false;
    if (strcmp(image->image_id, id) != 0) /* a family runs instances, but one deletes by id */
        return im_fail(err, IM_NOT_FOUND, "image [%s] does not exist", id);
    if (!image_owned(delete->caller, image, err) ||
        !upload_give_up(conn, image->image_id, &waited, err) ||
        (!waited && !image_allows(image, "DeleteImages", err)))
        return false;
    ret_order->resource_id = id;
    ret_order->data = waited ? "{\"upload\":1}" : delete->direct_cease ? "{\"cease\":1}" : "{}";
    image->transition_status = TRANSITION_DELETING;
    return record_update_fields(conn, &image_type, image,
                                (const char *const[]){"transition_status", NULL}, err);
}

static bool delete_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct delete *delete = arg;
    IM_AUTO(free_auto) struct job_order *orders = im_alloc(delete->ids->count * sizeof(*orders));

    for (size_t i = 0; i < delete->ids->count; i++) {
        if (!delete_one(delete, conn, delete->ids->items[i], &orders[i], err))
            return false;
    }
    return jobs_add(delete->cloud->jobs, conn, "DeleteImages", delete->caller->user_id, "", orders,
                    delete->ids->count, delete->job_id, err);
}

bool cloud_images_delete(struct cloud *cloud, const struct caller *caller,
                         const struct im_strings *image_ids, bool direct_cease,
                         char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings unique = {0};
    struct delete delete = {
        .cloud = cloud, .caller = caller, .ids = &unique, .direct_cease = direct_cease};

    return ids_unique("images", image_ids, &unique, err) &&
           cloud_order(cloud, delete_body, &delete, delete.job_id, ret_job_id, err);
}

static bool delete_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    if (data == NULL)
        return false;
    if (wire_get_int(wire_root(data), "upload", 0))
        upload_remove(run->context, run->item->resource_id);
    return true;
}

static bool delete_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    bool cease;

    if (data == NULL)
        return false;
    if (wire_get_int(wire_root(data), "upload", 0))
        return image_gone(conn, run->item->resource_id, err);
    cease = wire_get_int(wire_root(data), "cease", 0) != 0;
    if (cease)
        background_collect(run->context);
    return cease ? image_gone(conn, run->item->resource_id, err)
                 : image_settle(conn, run->item->resource_id, IMAGE_DELETED, err);
}

static bool delete_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                          struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);

    (void) why;
    if (data == NULL)
        return false;
    if (wire_get_int(wire_root(data), "upload", 0))
        return image_gone(conn, run->item->resource_id, err);
    return image_settle(conn, run->item->resource_id, IMAGE_AVAILABLE, err);
}

static const struct job_step delete_steps[] = {{"delete", delete_run, delete_commit, NULL}};
const struct job_verb image_delete_verb = {.action = "DeleteImages",
                                           .steps = delete_steps,
                                           .step_count = 1,
                                           .undone = delete_undone,
                                           .resumes = true};

/* --- Modify ----------------------------------------------------------------------------------- */

/* Seeing a public image is not owning it. */
static bool modify_load(struct db_conn *conn, const struct caller *caller, const char *id,
                        void *ret_object, struct im_err *err) {
    IM_AUTO(image_free_auto) struct image *image = NULL;

    if (!image_load(conn, caller, id, &image, err) || !image_owned(caller, image, err))
        return false;
    *(struct image **) ret_object = im_steal(&image);
    return true;
}

bool cloud_image_modify(struct cloud *cloud, const struct caller *caller, const char *image_id,
                        const char *image_name, const char *description, struct im_err *err) {
    struct attributes attributes = {image_name, description};

    return attributes_modify(cloud, caller, &image_type, modify_load, image_id, &attributes, err);
}
