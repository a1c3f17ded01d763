/* SPDX-License-Identifier: Apache-2.0 */
/* Repairs of disks: done, taken back, listed. What one would do is told by PlanImageRepair. */
#include "http-private.h"

static const char target_about[] =
    "an image of one's own, or a volume or stopped instance whose disk no machine has open";

static void write_reply(struct request *request, const char *id, const char *repair_id,
                        const char *job_id) {
    wire_text(&request->reply, "image_id", id);
    wire_text(&request->reply, "repair_id", repair_id);
    wire_text(&request->reply, "job_id", job_id);
}

static bool repair_image(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings findings = {0};
    IM_AUTO(im_strings_done) struct im_strings seal = {0};
    struct repair_args args = {
        .resource_id = request_text(request, "image"), .findings = &findings, .seal = &seal};
    char repair_id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];

    request_list(request, "findings", &findings);
    request_list(request, "seal", &seal);
    if (!cloud_repair(request->cloud, &request->caller, &args, repair_id, job_id, err))
        return false;
    write_reply(request, args.resource_id, repair_id, job_id);
    return true;
}

static const struct http_param repair_image_params[] = {
    {"image", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, target_about},
    {"findings", HTTP_LIST, 0, 0, 32, NULL, NULL,
     "codes of findings; without them, all that can be repaired"},
    {"seal", HTTP_LIST, 0, 0, 32, NULL, NULL,
     "what else is taken out: machine-id, ssh-keys, leases, random-seed, net-rules, cloud-init, "
     "logs, history"},
    {0},
};

static bool undo_image_repair(struct request *request, struct im_err *err) {
    const char *id = request_text(request, "image");
    char repair_id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];

    if (!cloud_repair_undo(request->cloud, &request->caller, id, repair_id, job_id, err))
        return false;
    write_reply(request, id, repair_id, job_id);
    return true;
}

static const struct http_param undo_image_repair_params[] = {
    {"image", HTTP_TEXT, HTTP_REQUIRED, 1, 63, NULL, NULL, target_about},
    {0},
};

static bool describe_repairs(struct request *request, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(repair_list_done) struct repair_list list = {0};

    if (!request_query(request, &query, err) ||
        !cloud_repairs(request->cloud, &request->caller, &query, &list, err))
        return false;
    request_begin_set(request, list.total);
    for (size_t i = 0; i < list.count; i++) {
        const char *changes = list.items[i]->changes;

        wire_object_begin(&request->reply, NULL);
        wire_fields(&request->reply, &repair_type, list.items[i]);
        if (request_int(request, "verbose") > 0)
            wire_raw(&request->reply, "changes", im_str_empty(changes) ? "null" : changes);
        wire_object_end(&request->reply);
    }
    wire_array_end(&request->reply);
    return true;
}

static const struct http_param describe_repairs_params[] = {
    {"repairs", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "repair_id", "ids"},
    {"images", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "resource_id",
     "only those of these images, volumes or instances"},
    {"status", HTTP_LIST, 0, 0, 16, NULL, "status", "pending, applied, undone or nothing"},
    {0},
};

const struct http_action repair_actions[] = {
    {"RepairImage", repair_image_params, 0, NULL, repair_image,
     "ours: changes a disk so that nothing is wrong with it any more, in a new layer"},
    {"UndoImageRepair", undo_image_repair_params, 0, NULL, undo_image_repair,
     "ours: takes the last repair back, in constant time"},
    {"DescribeImageRepairs", describe_repairs_params, HTTP_CACHED, &repair_type, describe_repairs,
     "ours: lists one's repairs; verbose=1 adds the files as they were, and their differences"},
    {0},
};
