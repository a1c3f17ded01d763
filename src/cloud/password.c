/* SPDX-License-Identifier: Apache-2.0 */
/* ResetPassword: a new password for the login user, through the guest agent where one is connected,
 * else from the seed at the next boot. Only its hash is kept, and only its hash goes to the guest.
 */
#include <stdlib.h>

#include "base/log.h"
#include "cloud-private.h"

static bool reset_prepare(struct instance_batch *batch, struct db_conn *conn,
                          struct instance *instance, struct wire_writer *data, struct im_err *err) {
    (void) conn, (void) data;
    if (im_str_equal(instance->platform, "windows") && instance->status == INSTANCE_RUNNING)
        return im_fail(err, IM_UNSUPPORTED,
                       "instance [%s] runs Windows, whose agent takes no hashes; stop it first",
                       instance->instance_id);
    im_replace(&instance->passwd_hash, batch->arg);
    return true;
}

bool cloud_password_reset(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *instance_ids, const char *password,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    IM_AUTO(free_auto) char *hash = NULL;
    struct instance_batch batch = {.cloud = cloud,
                                   .caller = caller,
                                   .action = "ResetPassword",
                                   .ids = instance_ids,
                                   .prepare = reset_prepare};

    if (im_str_empty(password))
        return im_fail(err, IM_BAD_MESSAGE, "parameter [login_passwd] is missing");
    if (!password_fits(password, err))
        return false;
    batch.arg = hash = crypto_password_hash(password);
    return instance_batch_run(&batch, ret_job_id, err);
}

static bool load(struct cloud *cloud, const char *instance_id, struct instance **ret_instance,
                 struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);

    return conn != NULL && record_get(conn, &instance_type, instance_id, ret_instance, err);
}

/* What the guest is told is kept in the record already: a guest that does not take it now finds it
 * in the seed. *scratch is what it did not take, one sentence; "" when it did. */
static bool reset_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    IM_AUTO(free_auto) char *user = NULL;
    struct im_err guest = {0};
    bool running = false;

    if (!load(cloud, run->item->resource_id, &instance, err) ||
        !login_user(cloud, run->item->resource_id, &user, &running, err))
        return false;
    if (running && virt_set_password(cloud->config.virt, instance->instance_id, user,
                                     instance->passwd_hash, &guest)) {
        run->scratch = im_strdup("");
        return true;
    }
    if (running)
        im_info("cloud", "%s: its password is taken over at the next boot: %s",
                instance->instance_id, guest.text);
    run->scratch = im_printf("password: offered on the seed disk for the next boot%s%s",
                             running ? "; " : "", running ? guest.text : "");
    return true;
}

static bool reset_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    struct instance instance = {.instance_id = run->item->resource_id, .unapplied = run->scratch};

    return record_update_fields(conn, &instance_type, &instance,
                                (const char *const[]){"unapplied", "transition_status", NULL}, err);
}

static const struct job_step reset_steps[] = {{"password", reset_run, reset_commit, NULL}};
const struct job_verb password_reset_verb = {.action = "ResetPassword",
                                             .steps = reset_steps,
                                             .step_count = 1,
                                             .undone = instance_undone,
                                             .resumes = true};
