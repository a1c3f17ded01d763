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
