/* SPDX-License-Identifier: Apache-2.0 */
/* The storage pool: is it what the record says, and who holds its bytes. */
#include "http-private.h"

static bool check_pool(struct request *request, struct im_err *err) {
    IM_AUTO(pool_report_done) struct pool_report report = {0};

    if (!cloud_pool_check(request->cloud, &request->caller, &report, err))
        return false;
    wire_bool(&request->reply, "clean",
              report.orphans.count + report.missing.count + report.wrong.count +
                      report.damaged.count ==
                  0);
    wire_int(&request->reply, "layers", report.layers);
    wire_int(&request->reply, "busy", report.busy);
    wire_strings(&request->reply, "orphans", &report.orphans);
    wire_strings(&request->reply, "missing", &report.missing);
    wire_strings(&request->reply, "wrong", &report.wrong);
    wire_strings(&request->reply, "damaged", &report.damaged);
    wire_int(&request->reply, "unread", report.unread);
    wire_time(&request->reply, "oldest_check", report.oldest_check);
    wire_text(&request->reply, "merging", report.merging);
    return true;
}

static bool describe_usage(struct request *request, struct im_err *err) {
    IM_AUTO(usage_report_done) struct usage_report report = {0};
    struct wire_writer *writer = &request->reply;

    if (!cloud_usage(request->cloud, &request->caller, &report, err))
        return false;
    wire_int(writer, "pool_total_bytes", report.pool_total_bytes);
    wire_int(writer, "pool_free_bytes", report.pool_free_bytes);
    wire_int(writer, "pool_used_bytes", report.pool_used_bytes);
    wire_int(writer, "exports_bytes", report.exports_bytes);
    wire_int(writer, "total_count", (int64_t) report.count);
    wire_array_begin(writer, "usage_set");
    for (size_t i = 0; i < report.count; i++) {
        const struct usage_line *line = &report.lines[i];

        wire_object_begin(writer, NULL);
        wire_text(writer, "resource_id", line->id);
        wire_text(writer, "resource_type", line->kind);
        wire_int(writer, "virtual_bytes", line->virtual_bytes);
        wire_int(writer, "own_bytes", line->own_bytes);
        wire_int(writer, "shared_bytes", line->shared_bytes);
        wire_object_end(writer);
    }
    wire_array_end(writer);
    return true;
}

static bool scrub_pool(struct request *request, struct im_err *err) {
    int64_t rate = request_int(request, "rate");
    char job_id[IM_JOB_ID_MAX];

    if (!cloud_pool_scrub(request->cloud, &request->caller,
                          rate > 0    ? rate
                          : rate == 0 ? -1
                                      : 0,
                          job_id, err))
        return false;
    wire_text(&request->reply, "job_id", job_id);
    return true;
}

static bool pause_merging(struct request *request, struct im_err *err) {
    return cloud_merging_pause(request->cloud, &request->caller, true, err);
}

static bool resume_merging(struct request *request, struct im_err *err) {
    return cloud_merging_pause(request->cloud, &request->caller, false, err);
}

static const struct http_param scrub_params[] = {
    {"rate", HTTP_INT, 0, 0, INT64_C(1) << 40, NULL, NULL,
     "bytes that are read a second; 0 as fast as it goes, by default as configured"},
    {0},
};
static const struct http_param none[] = {{0}};

const struct http_action pool_actions[] = {
    {"CheckPool", none, HTTP_ADMIN, NULL, check_pool,
     "ours: compares the storage pool with the record"},
    {"PauseMerging", none, HTTP_ADMIN, NULL, pause_merging,
     "ours: no layers are merged until ResumeMerging"},
    {"ResumeMerging", none, HTTP_ADMIN, NULL, resume_merging,
     "ours: layers that nothing needs are merged again, and long chains shortened"},
    {"ScrubPool", scrub_params, HTTP_ADMIN, NULL, scrub_pool,
     "ours: reads all frozen layers and compares them with their digests"},
    {"DescribeUsage", none, 0, NULL, describe_usage,
     "ours: virtual, own and shared bytes of each image and instance"},
    {0},
};
