/* SPDX-License-Identifier: Apache-2.0 */
/* Locks that one call takes on disks, and on the instances whose machines have them open: each
 * once, as a call may name all disks of an instance. */
#include "cloud-private.h"

bool locks_instance(struct locks *locks, struct db_conn *conn, struct instance *instance,
                    struct im_err *err) {
    if (im_strings_has(&locks->instances, instance->instance_id))
        return true;
    if (!instance_allows(instance, locks->action, err))
        return false;
    im_strings_add(&locks->instances, instance->instance_id);
    instance->transition_status = TRANSITION_UPDATING;
    return record_update_fields(conn, &instance_type, instance,
                                (const char *const[]){"transition_status", NULL}, err);
}

bool locks_volume(struct locks *locks, struct db_conn *conn, struct volume *volume,
                  struct instance **ret_instance, struct im_err *err) {
    return volume_make_busy(conn, volume, locks->action, err) &&
           (im_str_empty(volume->instance_id) ||
            (record_get(conn, &instance_type, volume->instance_id, ret_instance, err) &&
             locks_instance(locks, conn, *ret_instance, err)));
}

void locks_done(struct locks *locks) { im_strings_done(&locks->instances); }
