/* SPDX-License-Identifier: Apache-2.0 */
/* What is made of snapshots: volumes and images. Both are new names for what the point holds, so
 * constant time. */
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "cloud-private.h"

/* --- A volume --------------------------------------------------------------------------------- */

struct to_volume {
    struct cloud *cloud;
    const struct caller *caller;
    const char *snapshot_id, *volume_name;
    char *volume_id; /* IM_ID_MAX bytes of the caller */
    char job_id[IM_JOB_ID_MAX];
};

static bool volume_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct to_volume *to = arg;
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;
    IM_AUTO(volume_free_auto) struct volume *volume = object_new(&volume_type);
    struct job_order order;

    if (!snapshot_load(conn, to->caller, to->snapshot_id, &snapshot, err) ||
        !snapshot_allows(snapshot, "CreateVolumeFromSnapshot", err))
        return false;
    if (!im_str_equal(snapshot->resource_type, "volume"))
        return im_fail(err, IM_BAD_MESSAGE,
                       "snapshot [%s] is of an instance; only a volume's can be made a volume",
                       snapshot->snapshot_id);
    im_replace(&volume->volume_name, to->volume_name ? to->volume_name : "");
    im_replace(&volume->owner, to->caller->user_id);
    volume->volume_type = snapshot->volume_type;
    volume->size = snapshot->disk_size;
    if (!volume_plan(to->cloud, conn, volume, snapshot->layer_id, err))
        return false;
    memcpy(to->volume_id, volume->volume_id, strlen(volume->volume_id) + 1);
    order = (struct job_order){.resource_id = to->volume_id};
    return jobs_add(to->cloud->jobs, conn, "CreateVolumeFromSnapshot", to->caller->user_id, "",
                    &order, 1, to->job_id, err);
}

bool cloud_snapshot_volume(struct cloud *cloud, const struct caller *caller,
                           const char *snapshot_id, const char *volume_name,
                           char ret_volume_id[IM_ID_MAX], char ret_job_id[IM_JOB_ID_MAX],
                           struct im_err *err) {
    struct to_volume to = {.cloud = cloud,
                           .caller = caller,
                           .snapshot_id = snapshot_id,
                           .volume_name = volume_name,
                           .volume_id = ret_volume_id};

    if (im_str_empty(snapshot_id))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [snapshot] is missing");
    return text_fits("volume_name", volume_name, 255, err) &&
           cloud_order(cloud, volume_body, &to, to.job_id, ret_job_id, err);
}

static const struct job_step volume_steps[] = {{"disk", volume_make_run, volume_make_commit, NULL}};
const struct job_verb snapshot_volume_verb = {.action = "CreateVolumeFromSnapshot",
                                              .steps = volume_steps,
                                              .step_count = 1,
                                              .undone = volume_make_undone,
                                              .resumes = true,
                                              .cancels = true};

/* --- An image --------------------------------------------------------------------------------- */

struct to_image {
    struct cloud *cloud;
    const struct caller *caller;
    const struct snapshot_image_args *args;
    const char *action;
    char *image_id; /* IM_ID_MAX bytes of the caller */
    char job_id[IM_JOB_ID_MAX];
};

/* What the disk of a volume tells is found out later; a base fills the gaps. */
static struct image *unknown_facts(void) {
    struct image *image = object_new(&image_type);

    im_replace(&image->platform, "linux");
    im_replace(&image->os_family, "linux");
    im_replace(&image->processor_type, "64bit");
    im_replace(&image->ui_type, "tui");
    im_replace(&image->hypervisor, "kvm");
    im_replace(&image->firmware, "bios");
    image->f_resetpwd = 1;
    return image;
}

static struct image *image_facts(struct to_image *to, struct db_conn *conn,
                                 const struct snapshot *snapshot, struct im_err *err) {
    struct image *base = NULL;

    if (!im_str_empty(to->args->base_image))
        return image_load(conn, to->caller, to->args->base_image, &base, err) ? base : NULL;
    if (im_str_equal(snapshot->resource_type, "instance"))
        return image_from_disk(conn, snapshot->image_id, snapshot->platform, snapshot->firmware,
                               err);
    return unknown_facts();
}

static bool size_fits(const struct cloud *cloud, const struct snapshot *snapshot,
                      struct im_err *err) {
    int64_t min = cloud->config.data_image_min_gib, max = cloud->config.data_image_max_gib;

    if (im_str_equal(snapshot->resource_type, "instance") ||
        (snapshot->disk_size >= min && (max == 0 || snapshot->disk_size <= max)))
        return true;
    return im_fail(err, IM_WRONG_STATE,
                   "snapshot [%s] is of a volume of %" PRId64
                   " GB, an image of a volume can have %" PRId64 " to %" PRId64
                   " GB; data_image_min and data_image_max in the configuration lift the limits",
                   snapshot->snapshot_id, snapshot->disk_size, min, max);
}

static bool add_image(struct to_image *to, struct db_conn *conn, const struct snapshot *snapshot,
                      struct im_err *err) {
    IM_AUTO(image_free_auto) struct image *image = image_facts(to, conn, snapshot, err);

    if (image == NULL)
        return false;
    image_make_own(image, to->caller->user_id, to->args->image_name, snapshot->snapshot_id);
    im_replace(&image->description, to->args->description);
    im_replace(&image->layer_id, snapshot->layer_id);
    if (!im_str_empty(snapshot->instance_type))
        im_replace(&image->recommended_type, snapshot->instance_type);
    image->size = snapshot->disk_size;
    image->size_bytes = snapshot->disk_size * GIB;
    memcpy(to->image_id, image->image_id, strlen(image->image_id) + 1);
    return record_insert(conn, &image_type, image, err);
}

/* An instance's disk has started already: it is looked into when the image is there. */
static char *image_data(const struct to_image *to, const struct snapshot *snapshot) {
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_int(&writer, "inspect", im_str_equal(snapshot->resource_type, "volume"));
    wire_int(&writer, "force", to->args->force);
    wire_object_end(&writer);
    return im_str_take(&writer.text);
}

static bool image_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct to_image *to = arg;
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;
    IM_AUTO(free_auto) char *data = NULL;
    struct job_order order = {.resource_id = to->image_id};

    if (!snapshot_load(conn, to->caller, to->args->snapshot_id, &snapshot, err) ||
        !snapshot_allows(snapshot, to->action, err))
        return false;
    if (to->args->instance_only && !im_str_equal(snapshot->resource_type, "instance"))
        return im_fail(err, IM_BAD_MESSAGE,
                       "snapshot [%s] is of a volume, use CaptureImageFromSnapshot",
                       snapshot->snapshot_id);
    order.data = data = image_data(to, snapshot);
    return size_fits(to->cloud, snapshot, err) && layer_usable(conn, snapshot->layer_id, err) &&
           add_image(to, conn, snapshot, err) &&
           jobs_add(to->cloud->jobs, conn, to->action, to->caller->user_id, "", &order, 1,
                    to->job_id, err);
}

bool cloud_snapshot_image(struct cloud *cloud, const struct caller *caller,
                          const struct snapshot_image_args *args, char ret_image_id[IM_ID_MAX],
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    struct to_image to = {.cloud = cloud,
                          .caller = caller,
                          .args = args,
                          .action = args->instance_only ? "CaptureInstanceFromSnapshot"
                                                        : "CaptureImageFromSnapshot",
                          .image_id = ret_image_id};

    if (im_str_empty(args->snapshot_id))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [snapshot] is missing");
    return text_fits("image_name", args->image_name, 255, err) &&
           text_fits("description", args->description, 1000, err) &&
           cloud_order(cloud, image_body, &to, to.job_id, ret_job_id, err);
}

static bool image_read(struct cloud *cloud, const char *image_id, struct image **ret_image,
                       struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);

    return conn != NULL && record_get(conn, &image_type, image_id, ret_image, err);
}

/* A job that an older imprintd left has no data. */
static bool inspect_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *wish = NULL;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *report = NULL;
    IM_AUTO(image_free_auto) struct image *image = NULL;
    char *text = NULL;

    if (im_str_empty(run->item->data))
        return true;
    wish = item_data(run, err);
    if (wish == NULL)
        return false;
    if (wire_get_int(wire_root(wish), "inspect", 0) == 0)
        return true;
    if (!image_read(cloud, run->item->resource_id, &image, err))
        return false;
    if (!layer_inspect(cloud, image->layer_id, run->cancel, &text, err))
        return im_within(err, "snapshot [%s]", image->source);
    run->scratch = text;
    report = wire_parse(text, strlen(text), err);
    if (report == NULL)
        return false;
    return wire_get_int(wire_root(wish), "force", 0) != 0 ||
           report_publishes(wire_root(report), err) ||
           im_within(err, "snapshot [%s] can not be made an image", image->source);
}

static bool inspect_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *report = NULL;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *wish = NULL;
    bool planned = false;
    IM_AUTO(image_free_auto) struct image *image = NULL;

    if (im_str_empty(run->item->data))
        return true;
    if (!record_get(conn, &image_type, run->item->resource_id, &image, err))
        return false;
    if (run->scratch != NULL) {
        report = wire_parse(run->scratch, strlen(run->scratch), err);
        if (report == NULL)
            return false;
        image_take_report(image, wire_root(report), NULL);
        if (!record_update(conn, &image_type, image, err))
            return false;
    }
    wish = item_data(run, err);
    return wish != NULL &&
           boot_gate_plan(run, conn, image,
                          wire_get_int(wire_root(wish), "inspect", 0) ? "volume" : "instance",
                          &planned, err);
}

static bool publish_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    return image_settle(conn, run->item->resource_id, IMAGE_AVAILABLE, err);
}

/* Was it not looked into before? */
static bool looks_now(const struct job_run *run) {
    struct im_err err = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *wish = NULL;

    if (im_str_empty(run->item->data))
        return false;
    wish = item_data(run, &err);
    return wish != NULL && wire_get_int(wire_root(wish), "inspect", 0) == 0;
}

static bool look_run(struct job_run *run, struct im_err *err) {
    return !looks_now(run) || published_look_run(run, run->item->resource_id, err);
}

static bool look_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    return published_look_commit(run, conn, run->item->resource_id, err);
}

static bool image_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                         struct im_err *err) {
    (void) why;
    return boot_gate_undone(run, conn, err) && image_gone(conn, run->item->resource_id, err);
}

static const struct job_step image_steps[] = {{"inspect", inspect_run, inspect_commit, NULL},
                                              {"boot", boot_gate_run, NULL, boot_gate_undo},
                                              {"publish", NULL, publish_commit, NULL},
                                              {"look", look_run, look_commit, NULL}};
const struct job_verb snapshot_image_verb = {.action = "CaptureImageFromSnapshot",
                                             .steps = image_steps,
                                             .step_count = 4,
                                             .undone = image_undone,
                                             .resumes = true};
const struct job_verb snapshot_instance_image_verb = {.action = "CaptureInstanceFromSnapshot",
                                                      .steps = image_steps,
                                                      .step_count = 4,
                                                      .undone = image_undone,
                                                      .resumes = true};
