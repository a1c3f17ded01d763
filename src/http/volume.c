/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes: all eight actions. */
#include "http-private.h"

#define NAME_MAX_BYTES 255
#define TEXT_MAX_BYTES 4096

/* The instance it is attached to, in the three forms that clients look for; detached, they find an
 * object whose texts are empty. */
static void write_attachment(struct wire_writer *writer, const char *key,
                             const struct volume_view *view, bool resource) {
    const struct volume *volume = view->volume;
    const char *id = volume->instance_id ? volume->instance_id : "";

    wire_object_begin(writer, key);
    wire_text(writer, resource ? "resource_id" : "instance_id", id);
    wire_text(writer, resource ? "resource_name" : "instance_name", view->instance_name);
    if (resource)
        wire_text(writer, "resource_type", "instance");
    wire_text(writer, "device", volume->device ? volume->device : "");
    wire_object_end(writer);
}

static void write_volume(struct wire_writer *writer, const struct volume_view *view) {
    const struct volume *volume = view->volume;

    wire_object_begin(writer, NULL);
    wire_fields(writer, &volume_type, volume);
    write_attachment(writer, "instance", view, false);
    wire_array_begin(writer, "instances");
    write_attachment(writer, NULL, view, false);
    wire_array_end(writer);
    wire_array_begin(writer, "resources");
    if (!im_str_empty(volume->instance_id))
        write_attachment(writer, NULL, view, true);
    wire_array_end(writer);
    /* The API's own spelling, and the right one that some clients look for. */
    wire_time(writer, "lastest_snapshot_time", volume->latest_snapshot_time);
    wire_time(writer, "latest_snapshot_time", volume->latest_snapshot_time);
    wire_null(writer, "extra");
    wire_raw(writer, "tags", "[]");
    wire_raw(writer, "resource_project_info", "[]");
    wire_object_end(writer);
}

static bool describe_volumes(struct request *request, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(volume_list_done) struct volume_list list = {0};

    request->live = request_int(request, "verbose") > 0;
    if (!request_query(request, &query, err) ||
        !cloud_volumes(request->cloud, &request->caller, &query, request->live, &list, err))
        return false;
    request_begin_set(request, list.total);
    for (size_t i = 0; i < list.count; i++)
        write_volume(&request->reply, &list.items[i]);
    wire_array_end(&request->reply);
    return true;
}

static const struct http_param describe_volumes_params[] = {
    {"volumes", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "volume_id", "ids"},
    {"volume_name", HTTP_LIST, HTTP_CONTAINS, 0, HTTP_ID_LIST_MAX, NULL, "volume_name",
     "part of the name"},
    {"volume_type", HTTP_LIST, 0, 0, 16, NULL, "volume_type", "types"},
    {"instance_id", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "instance_id",
     "only those attached to these instances"},
    {"status", HTTP_LIST, 0, 0, 16, NULL, "status",
     "pending, available, in-use, suspended, deleted, ceased"},
    {0},
};

static bool create_volumes(struct request *request, struct im_err *err) {
    struct volume_create_args args = {.size = request_int(request, "size"),
                                      .volume_type = request_int(request, "volume_type"),
                                      .count = request_int(request, "count"),
                                      .volume_name = request_text(request, "volume_name"),
                                      .round_up = request_flag(request, "round_up")};
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX];

    if (!cloud_volumes_create(request->cloud, &request->caller, &args, &ids, job_id, err))
        return false;
    wire_strings(&request->reply, "volumes", &ids);
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static const struct http_param create_volumes_params[] = {
    {"size", HTTP_INT, HTTP_REQUIRED, 0, 1 << 30, NULL, NULL, "GiB"},
    {"volume_name", HTTP_TEXT, 0, 0, NAME_MAX_BYTES, NULL, NULL, "name"},
    {"volume_type", HTTP_INT, 0, 0, 1 << 30, NULL, NULL, "type, 0 by default"},
    {"count", HTTP_INT, HTTP_ZERO_UNSET, 1, 1000, NULL, NULL, "how many, 1 by default"},
    {"round_up", HTTP_BOOL, 0, 0, 1, NULL, NULL, "1 lifts the size to one that is allowed"},
    {0},
};

static bool delete_volumes(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX];

    request_list(request, "volumes", &ids);
    if (!cloud_volumes_delete(request->cloud, &request->caller, &ids,
                              request_flag(request, "direct_cease"), job_id, err))
        return false;
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static const struct http_param delete_volumes_params[] = {
    {"volumes", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL, "ids"},
    {"direct_cease", HTTP_BOOL, 0, 0, 1, NULL, NULL, "1 skips the recycle bin"},
    {0},
};

static bool plug_volumes(struct request *request, bool detach, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    const char *instance = request_text(request, "instance");
    char job_id[IM_JOB_ID_MAX];

    request_list(request, "volumes", &ids);
    if (!(detach ? cloud_volumes_detach : cloud_volumes_attach)(request->cloud, &request->caller,
                                                                &ids, instance, job_id, err))
        return false;
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static bool attach_volumes(struct request *request, struct im_err *err) {
    return plug_volumes(request, false, err);
}

static bool detach_volumes(struct request *request, struct im_err *err) {
    return plug_volumes(request, true, err);
}

static const struct http_param attach_volumes_params[] = {
    {"volumes", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL, "ids"},
    {"instance", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "running or stopped"},
    {0},
};

static const struct http_param detach_volumes_params[] = {
    {"volumes", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL, "ids"},
    {"instance", HTTP_TEXT, 0, 1, 63, NULL, NULL, "what they are attached to"},
    {0},
};

static bool resize_volumes(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX];

    request_list(request, "volumes", &ids);
    if (!cloud_volumes_resize(request->cloud, &request->caller, &ids, request_int(request, "size"),
                              job_id, err))
        return false;
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static const struct http_param resize_volumes_params[] = {
    {"volumes", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL,
     "ids, also of attached volumes"},
    {"size", HTTP_INT, HTTP_REQUIRED, 0, 1 << 30, NULL, NULL, "GiB, larger than now"},
    {0},
};

static bool clone_volumes(struct request *request, struct im_err *err) {
    struct volume_clone_args args = {.volume_id = request_text(request, "volume"),
                                     .volume_name = request_text(request, "volume_name"),
                                     .count = request_int(request, "count"),
                                     .volume_type = request_int(request, "volume_type")};
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    char job_id[IM_JOB_ID_MAX];

    if (!cloud_volumes_clone(request->cloud, &request->caller, &args, &ids, job_id, err))
        return false;
    wire_strings(&request->reply, "volumes", &ids);
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static const struct http_param clone_volumes_params[] = {
    {"volume", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "the volume to clone"},
    {"volume_name", HTTP_TEXT, 0, 0, NAME_MAX_BYTES, NULL, NULL, "name of the clones"},
    {"volume_type", HTTP_INT, 0, 0, 1 << 30, NULL, NULL, "type, the source's by default"},
    {"count", HTTP_INT, HTTP_ZERO_UNSET, 1, 1000, NULL, NULL, "how many, 1 by default"},
    {0},
};

static bool modify_volume(struct request *request, struct im_err *err) {
    const char *id = request_text(request, "volume");

    return cloud_volume_modify(request->cloud, &request->caller, id,
                               request_raw(request, "volume_name"),
                               request_raw(request, "description"), err);
}

static const struct http_param modify_volume_params[] = {
    {"volume", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, "the volume"},
    {"volume_name", HTTP_TEXT, HTTP_EMPTIES, 0, NAME_MAX_BYTES, NULL, NULL, "new name"},
    {"description", HTTP_TEXT, HTTP_EMPTIES, 0, TEXT_MAX_BYTES, NULL, NULL, "new description"},
    {0},
};

const struct http_action volume_actions[] = {
    {"DescribeVolumes", describe_volumes_params, HTTP_CACHED, &volume_type, describe_volumes,
     "lists volumes"},
    {"CreateVolumes", create_volumes_params, 0, NULL, create_volumes, "makes empty volumes"},
    {"DeleteVolumes", delete_volumes_params, 0, NULL, delete_volumes,
     "moves volumes to the recycle bin"},
    {"AttachVolumes", attach_volumes_params, 0, NULL, attach_volumes,
     "plugs volumes into an instance"},
    {"DetachVolumes", detach_volumes_params, 0, NULL, detach_volumes,
     "takes volumes out of an instance"},
    {"ResizeVolumes", resize_volumes_params, 0, NULL, resize_volumes, "grows volumes"},
    {"CloneVolumes", clone_volumes_params, 0, NULL, clone_volumes,
     "makes volumes with the same content, in constant time"},
    {"ModifyVolumeAttributes", modify_volume_params, 0, NULL, modify_volume,
     "changes name and description"},
    {0},
};
