/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots and what is made of them; and the recycle bin. */
#include <string.h>

#include "http-private.h"

#define NAME_MAX_BYTES 255
#define TEXT_MAX_BYTES 4096

static const char *or_empty(const char *text) { return text ? text : ""; }

static void write_snapshot(struct wire_writer *writer, const struct snapshot_view *view) {
    const struct snapshot *snapshot = view->snapshot;
    bool full = snapshot->snapshot_type == SNAPSHOT_FULL;

    wire_object_begin(writer, NULL);
    wire_fields(writer, &snapshot_type, snapshot);
    if (full) {
        wire_int(writer, "total_size", view->total_size);
        wire_int(writer, "total_count", view->total_count);
        /* The API's own spelling, and the right one that some clients look for. */
        wire_time(writer, "lastest_snapshot_time", view->latest_time);
        wire_time(writer, "latest_snapshot_time", view->latest_time);
    }
    wire_object_begin(writer, "resource");
    wire_text(writer, "resource_id", or_empty(snapshot->resource_id));
    wire_text(writer, "resource_name", or_empty(snapshot->resource_name));
    wire_text(writer, "resource_type", or_empty(snapshot->resource_type));
    wire_object_end(writer);
    wire_object_begin(writer, "snapshot_resource");
    wire_int(writer, "volume_type", snapshot->volume_type);
    wire_int(writer, "size", snapshot->disk_size);
    wire_text(writer, "architecture", "hp");
    wire_object_end(writer);
    wire_raw(writer, "tags", "[]");
    wire_object_end(writer);
}

static bool describe_snapshots(struct request *request, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(snapshot_list_done) struct snapshot_list list = {0};

    if (!request_query(request, &query, err) ||
        !cloud_snapshots(request->cloud, &request->caller, &query, &list, err))
        return false;
    request_begin_set(request, list.total);
    for (size_t i = 0; i < list.count; i++)
        write_snapshot(&request->reply, &list.items[i]);
    wire_array_end(&request->reply);
    return true;
}

static const struct http_param describe_snapshots_params[] = {
    {"snapshots", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "snapshot_id", "ids"},
    {"resource_id", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "resource_id",
     "only those of these instances and volumes"},
    {"snapshot_type", HTTP_LIST, 0, 0, 2, NULL, "snapshot_type", "0 increments, 1 full ones"},
    {"root_id", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "root_id", "only points of these chains"},
    {"snapshot_name", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "snapshot_name", "the whole name"},
    {"is_manually", HTTP_LIST, 0, 0, 2, NULL, "is_manually", "1 those that a user asked for"},
    {"status", HTTP_LIST, 0, 0, 16, NULL, "status",
     "pending, available, suspended, deleted, ceased"},
    {0},
};

/* No value suits all clients: the Go SDK decodes an array since 2024, and a string before. */
static void write_job_id(struct request *request, const char *job_id) {
    const char *form = request->http->config.snapshot_job_id;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    im_strings_add(&ids, job_id);
    if (im_str_empty(form) || strcmp(form, "array") == 0)
        wire_strings(&request->reply, "job_id", &ids);
    else if (strcmp(form, "string") == 0)
        wire_text(&request->reply, "job_id", job_id);
}

static bool create_snapshots(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings resources = {0}, ids = {0};
    struct snapshot_create_args args = {.resources = &resources,
                                        .snapshot_name = request_text(request, "snapshot_name"),
                                        .is_full = request_flag(request, "is_full")};
    char job_id[IM_JOB_ID_MAX];

    request_list(request, "resources", &resources);
    if (!cloud_snapshots_create(request->cloud, &request->caller, &args, &ids, job_id, err))
        return false;
    wire_strings(&request->reply, "snapshots", &ids);
    write_job_id(request, job_id);
    return true;
}

static const struct http_param create_snapshots_params[] = {
    {"resources", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL,
     "ids of instances and volumes, mixed; all at one instant"},
    {"snapshot_name", HTTP_TEXT, 0, 0, NAME_MAX_BYTES, NULL, NULL, "name"},
    {"is_full", HTTP_BOOL, 0, 0, 1, NULL, NULL,
     "1 begins a new chain; else an increment where there is one with room"},
    {0},
};

static bool delete_snapshots(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    bool merge = im_str_equal(request_text(request, "merge_action"), "commit");
    char job_id[IM_JOB_ID_MAX];

    request_list(request, "snapshots", &ids);
    if (!cloud_snapshots_delete(request->cloud, &request->caller, &ids, merge,
                                request_flag(request, "direct_cease"), job_id, err))
        return false;
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static const struct http_param delete_snapshots_params[] = {
    {"snapshots", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL,
     "ids; a full one takes its chain with it, an increment all after it"},
    {"merge_action", HTTP_WORD, 0, 0, 0, "commit", NULL,
     "commit: an increment goes alone, those after it stay"},
    {"direct_cease", HTTP_BOOL, 0, 0, 1, NULL, NULL, "1 skips the recycle bin"},
    {0},
};

static bool apply_snapshots(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX];

    request_list(request, "snapshots", &ids);
    if (!cloud_snapshots_apply(request->cloud, &request->caller, &ids, job_id, err))
        return false;
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static const struct http_param apply_snapshots_params[] = {
    {"snapshots", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL,
     "ids, at most one of each disk"},
    {0},
};

static bool modify_snapshot(struct request *request, struct im_err *err) {
    return cloud_snapshot_modify(
        request->cloud, &request->caller, request_text(request, "snapshot"),
        request_raw(request, "snapshot_name"), request_raw(request, "description"), err);
}

static const struct http_param modify_snapshot_params[] = {
    {"snapshot", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "the point"},
    {"snapshot_name", HTTP_TEXT, HTTP_EMPTIES, 0, NAME_MAX_BYTES, NULL, NULL, "new name"},
    {"description", HTTP_TEXT, HTTP_EMPTIES, 0, TEXT_MAX_BYTES, NULL, NULL, "new description"},
    {0},
};

static bool create_volume(struct request *request, struct im_err *err) {
    char volume_id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];

    if (!cloud_snapshot_volume(request->cloud, &request->caller, request_text(request, "snapshot"),
                               request_text(request, "volume_name"), volume_id, job_id, err))
        return false;
    wire_text(&request->reply, "volume_id", volume_id);
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static const struct http_param create_volume_params[] = {
    {"snapshot", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "a point of a volume"},
    {"volume_name", HTTP_TEXT, 0, 0, NAME_MAX_BYTES, NULL, NULL, "name of the new volume"},
    {0},
};

static bool capture(struct request *request, bool instance_only, struct im_err *err) {
    struct snapshot_image_args args = {.snapshot_id = request_text(request, "snapshot"),
                                       .image_name = request_text(request, "image_name"),
                                       .description = request_text(request, "description"),
                                       .base_image = request_text(request, "base_image"),
                                       .instance_only = instance_only,
                                       .force = request_flag(request, "force")};
    char image_id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];

    if (!cloud_snapshot_image(request->cloud, &request->caller, &args, image_id, job_id, err))
        return false;
    wire_text(&request->reply, "image_id", image_id);
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static bool capture_instance(struct request *request, struct im_err *err) {
    return capture(request, true, err);
}

static bool capture_image(struct request *request, struct im_err *err) {
    return capture(request, false, err);
}

static const struct http_param capture_instance_params[] = {
    {"snapshot", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "a point of an instance"},
    {"image_name", HTTP_TEXT, 0, 0, NAME_MAX_BYTES, NULL, NULL, "name of the new image"},
    {0},
};

static const struct http_param capture_image_params[] = {
    {"snapshot", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "a point of an instance or volume"},
    {"image_name", HTTP_TEXT, 0, 0, NAME_MAX_BYTES, NULL, NULL, "name of the new image"},
    {"description", HTTP_TEXT, 0, 0, TEXT_MAX_BYTES, NULL, NULL, "description"},
    {"base_image", HTTP_TEXT, 0, 1, 63, NULL, NULL,
     "the image whose platform, login user … the new one has where the disk does not tell"},
    {"force", HTTP_BOOL, 0, 0, 1, NULL, NULL,
     "ours: 1 takes a volume's disk whatever was found on it"},
    {0},
};

static bool job_on(struct request *request,
                   bool (*call)(struct cloud *cloud, const struct caller *caller,
                                const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                                struct im_err *err),
                   struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX];

    request_list(request, "snapshots", &ids);
    if (!call(request->cloud, &request->caller, &ids, job_id, err))
        return false;
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static bool copy_snapshots(struct request *request, struct im_err *err) {
    return job_on(request, cloud_snapshots_copy, err);
}

static bool restore_snapshots(struct request *request, struct im_err *err) {
    return job_on(request, cloud_snapshots_restore, err);
}

static bool delete_copies(struct request *request, struct im_err *err) {
    return job_on(request, cloud_copies_delete, err);
}

static void write_copy(struct wire_writer *writer, const struct copy_view *view) {
    const struct snapshot *snapshot = view->snapshot;

    wire_object_begin(writer, NULL);
    wire_text(writer, "snapshot_id", snapshot->snapshot_id);
    wire_text(writer, "snapshot_name", or_empty(snapshot->snapshot_name));
    wire_text(writer, "resource_id", or_empty(snapshot->resource_id));
    wire_text(writer, "resource_name", or_empty(snapshot->resource_name));
    wire_text(writer, "resource_type", or_empty(snapshot->resource_type));
    wire_text(writer, "owner", or_empty(snapshot->owner));
    wire_time(writer, "snapshot_time", snapshot->snapshot_time);
    wire_time(writer, "copy_time", snapshot->copy_time);
    wire_int(writer, "disk_size", snapshot->disk_size);
    wire_int(writer, "file_bytes", view->file_bytes);
    wire_int(writer, "whole", view->whole);
    wire_text(writer, "trouble", view->trouble);
    wire_object_end(writer);
}

static bool describe_copies(struct request *request, struct im_err *err) {
    IM_AUTO(copy_list_done) struct copy_list list = {0};
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    size_t shown = 0;

    request_list(request, "snapshots", &ids);
    if (!cloud_copies(request->cloud, &request->caller, &list, err))
        return false;
    wire_array_begin(&request->reply, "snapshot_copy_set");
    for (size_t i = 0; i < list.count; i++)
        if (ids.count == 0 || im_strings_has(&ids, list.items[i].snapshot->snapshot_id)) {
            write_copy(&request->reply, &list.items[i]);
            shown++;
        }
    wire_array_end(&request->reply);
    wire_int(&request->reply, "total_count", (int64_t) shown);
    return true;
}

static const struct http_param copy_params[] = {
    {"snapshots", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL, "ids"},
    {0},
};
static const struct http_param describe_copies_params[] = {
    {"snapshots", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, NULL, "ids; all by default"},
    {0},
};

static bool recover(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    request_list(request, "resources", &ids);
    return cloud_recover(request->cloud, &request->caller, &ids, err);
}

static const struct http_param recover_params[] = {
    {"resources", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL,
     "ids of images, instances, volumes and full snapshots"},
    {0},
};

const struct http_action snapshot_actions[] = {
    {"DescribeSnapshots", describe_snapshots_params, HTTP_CACHED, &snapshot_type,
     describe_snapshots, "lists points in time"},
    {"CreateSnapshots", create_snapshots_params, 0, NULL, create_snapshots,
     "takes points in time of disks, in constant time, running or not"},
    {"DeleteSnapshots", delete_snapshots_params, 0, NULL, delete_snapshots, "deletes points"},
    {"ApplySnapshots", apply_snapshots_params, 0, NULL, apply_snapshots,
     "rolls disks back; running instances are restarted"},
    {"ModifySnapshotAttributes", modify_snapshot_params, 0, NULL, modify_snapshot,
     "changes name and description"},
    {"CreateVolumeFromSnapshot", create_volume_params, 0, NULL, create_volume,
     "makes a volume of a point"},
    {"CaptureInstanceFromSnapshot", capture_instance_params, 0, NULL, capture_instance,
     "makes an image of an instance's point"},
    {"CaptureImageFromSnapshot", capture_image_params, 0, NULL, capture_image,
     "makes an image of any point"},
    {"CopySnapshots", copy_params, 0, NULL, copy_snapshots,
     "ours: copies points to the second pool, only what is not there yet"},
    {"RestoreSnapshots", copy_params, 0, NULL, restore_snapshots,
     "ours: brings points back from the second pool"},
    {"DescribeSnapshotCopies", describe_copies_params, 0, NULL, describe_copies,
     "ours: lists what is in the second pool"},
    {"DeleteSnapshotCopies", copy_params, 0, NULL, delete_copies,
     "ours: removes points from the second pool"},
    {"RecoverResources", recover_params, 0, NULL, recover,
     "ours: takes things out of the recycle bin"},
    {0},
};
