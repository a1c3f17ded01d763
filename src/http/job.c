/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs: list with progress, cancel. */
#include "http-private.h"

static void write_items(struct wire_writer *writer, const struct job_view *view) {
    const struct field *state = object_field(&job_item_type, "state");

    wire_array_begin(writer, "items");
    for (size_t i = 0; i < view->item_count; i++) {
        const struct job_item *item = view->items[i];
        bool failed = !im_str_empty(item->error_code);

        wire_object_begin(writer, NULL);
        wire_text(writer, "resource_id", item->resource_id ? item->resource_id : "");
        wire_text(writer, "status", field_word(state, item));
        wire_int(writer, "step", item->step);
        wire_text(writer, "error_code", failed ? item->error_code : "");
        wire_int(writer, "ret_code", failed ? im_code_ret(im_code_from_name(item->error_code)) : 0);
        wire_text(writer, "message", item->error_message ? item->error_message : "");
        wire_object_end(writer);
    }
    wire_array_end(writer);
}

/* By bytes where bytes move, else by items that are over; once the job is over, by those that
 * worked: one that failed is not at 100. */
static int64_t percent_of(const struct job_view *view) {
    const struct job *job = view->job;
    bool under_way = job->status == JOB_PENDING || job->status == JOB_WORKING;
    int64_t done = 0;

    if (job->status == JOB_SUCCESSFUL)
        return 100;
    if (job->total_bytes > 0) {
        int64_t percent = (int64_t) ((double) job->done_bytes * 100.0 / (double) job->total_bytes);

        return percent > 100 ? 100 : percent < 0 ? 0 : percent;
    }
    for (size_t i = 0; i < view->item_count; i++)
        done += view->items[i]->state == ITEM_DONE ||
                (under_way && view->items[i]->state == ITEM_FAILED);
    return view->item_count == 0 ? 0 : done * 100 / (int64_t) view->item_count;
}

static void write_job(struct wire_writer *writer, const struct job_view *view) {
    const struct job *job = view->job;
    bool under_way = job->status == JOB_PENDING || job->status == JOB_WORKING;

    wire_object_begin(writer, NULL);
    wire_fields(writer, &job_type, job);
    wire_int(writer, "percent", percent_of(view));
    wire_int(writer, "rate", under_way ? job->rate_bytes : 0);
    if (under_way && job->rate_bytes > 0 && job->total_bytes > job->done_bytes)
        wire_int(writer, "eta_seconds",
                 (job->total_bytes - job->done_bytes + job->rate_bytes - 1) / job->rate_bytes);
    else
        wire_null(writer, "eta_seconds");
    write_items(writer, view);
    wire_object_end(writer);
}

static bool describe_jobs(struct request *request, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    IM_AUTO(job_list_done) struct job_list list = {0};

    if (!request_query(request, &query, err) ||
        !cloud_jobs(request->cloud, &request->caller, &query, &list, err))
        return false;
    request_begin_set(request, list.total);
    for (size_t i = 0; i < list.count; i++)
        write_job(&request->reply, &list.items[i]);
    wire_array_end(&request->reply);
    return true;
}

static const struct http_param describe_jobs_params[] = {
    {"jobs", HTTP_LIST, 0, 0, HTTP_ID_LIST_MAX, NULL, "job_id", "ids"},
    {"status", HTTP_LIST, 0, 0, 16, NULL, "status",
     "pending, working, successful, failed, done with failure"},
    {"job_action", HTTP_LIST, 0, 0, 64, NULL, "job_action", "names of actions"},
    {0},
};

static bool cancel_jobs(struct request *request, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    request_list(request, "jobs", &ids);
    if (!cloud_jobs_cancel(request->cloud, &request->caller, &ids, err))
        return false;
    wire_strings(&request->reply, "jobs", &ids);
    return true;
}

static const struct http_param cancel_jobs_params[] = {
    {"jobs", HTTP_LIST, HTTP_REQUIRED, 0, HTTP_ID_LIST_MAX, NULL, NULL, "ids"},
    {0},
};

const struct http_action job_actions[] = {
    {"DescribeJobs", describe_jobs_params, 0, &job_type, describe_jobs,
     "lists jobs with progress and the result of each resource"},
    {"CancelJobs", cancel_jobs_params, 0, NULL, cancel_jobs, "ours: asks jobs to stop"},
    {0},
};
