/* SPDX-License-Identifier: Apache-2.0 */
/* The fake cloud's looks into disks: nothing is ever wrong with one. */
#include "fake-cloud.h"

bool cloud_inspect(struct cloud *cloud, const struct caller *caller, const char *id,
                   char **ret_report, struct im_err *err) {
    (void) cloud, (void) caller, (void) id, (void) err;
    *ret_report = im_strdup("{\"errors\":0}");
    return true;
}

bool cloud_repair_plan(struct cloud *cloud, const struct caller *caller, const char *id,
                       const struct im_strings *codes, const struct im_strings *seal,
                       char **ret_plan, struct im_err *err) {
    (void) cloud, (void) caller, (void) id, (void) codes, (void) seal, (void) err;
    *ret_plan = im_strdup("{\"repairs\":[],\"files\":[],\"steps\":[]}");
    return true;
}

/* --- Repairs ---------------------------------------------------------------------------------- */

bool cloud_repair(struct cloud *cloud, const struct caller *caller, const struct repair_args *args,
                  char ret_repair_id[IM_ID_MAX], char ret_job_id[IM_JOB_ID_MAX],
                  struct im_err *err) {
    (void) cloud, (void) caller, (void) args, (void) err;
    snprintf(ret_repair_id, IM_ID_MAX, "rep-0a1b2c3d");
    snprintf(ret_job_id, IM_JOB_ID_MAX, "j-0a1b2c3d");
    return true;
}

bool cloud_repair_undo(struct cloud *cloud, const struct caller *caller, const char *resource_id,
                       char ret_repair_id[IM_ID_MAX], char ret_job_id[IM_JOB_ID_MAX],
                       struct im_err *err) {
    struct repair_args args = {.resource_id = resource_id};

    return cloud_repair(cloud, caller, &args, ret_repair_id, ret_job_id, err);
}

bool cloud_repairs(struct cloud *cloud, const struct caller *caller, struct query *query,
                   struct repair_list *ret_list, struct im_err *err) {
    (void) cloud, (void) caller, (void) query, (void) err;
    *ret_list = (struct repair_list){0};
    return true;
}

void repair_list_done(struct repair_list *list) { (void) list; }
