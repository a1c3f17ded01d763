/* SPDX-License-Identifier: Apache-2.0 */
/* Every asynchronous verb as one function on one resource, and what it needs beforehand, so that a
 * test can try each with another's id, in a wrong state, or with a fault at its n-th step. */
#ifndef CLOUD_TEST_VERBS_H
#define CLOUD_TEST_VERBS_H

#include "test-rig.h"

/* What the verb works on. */
enum subject {
    ON_RUNNING,
    ON_STOPPED,
    ON_TERMINATED,
    ON_IMAGE,
    ON_SYSTEM_IMAGE,
    ON_REPAIRED_IMAGE,
    ON_VOLUME,       /* rig->companion is a running machine */
    ON_ATTACHED,     /* a volume that the running companion has */
    ON_ATTACHED_OFF, /* a volume that the companion has, which is stopped */
    ON_REPAIRED_VOLUME,
    ON_POINT,        /* a snapshot of a running instance, its companion */
    ON_VOLUME_POINT, /* a snapshot of a volume */
    ON_COPIED_POINT, /* the same, with a copy in the second pool */
    ON_LOST_POINT,   /* the same, but its layer is lost */
    ON_CEASED_POINT, /* the same, but it was deleted for good */
    ON_NOTHING
};

struct rig_verb {
    const char *name;
    enum subject subject;
    /* Calls the cloud; ret_made gets the ids of what it makes, if it makes something. */
    bool (*call)(struct rig *rig, const struct caller *caller, const char *id,
                 struct im_strings *ret_made, char ret_job_id[IM_JOB_ID_MAX], struct im_err *err);
    /* The state in which everything is once its job was successful. `made` is the first id it made.
     */
    bool (*reached)(struct rig *rig, const char *id, const char *made);
};
/* All of them; ends with a NULL name. */
extern const struct rig_verb rig_verbs[];

#define RIG_SYSTEM_IMAGE "debian12x64"

/* Makes what the verb works on; it belongs to `caller`, except the system image, which must be
 * there already. */
void rig_subject(struct rig *rig, const struct caller *caller, enum subject subject,
                 char ret_id[IM_ID_MAX]);
/* Gives up what rig_subject or the verb made: instances for good, images too. */
void rig_discard(struct rig *rig, const char *id);
/* All of everything but the system's images, and what lies in the recycle bin. */
void rig_sweep(struct rig *rig);

#endif
