/* SPDX-License-Identifier: Apache-2.0 */
/* ResetPassword: a new password for the login user, through the guest agent where one is connected,
 * else from the seed at the next boot, or, where the system of a stopped machine reads no seed, in
 * its disk. Only its hash is kept, and only its hash goes to the guest. It is SHA-512's of
 * crypt(3): glibc has known it since 2007 and musl always has, so every Linux that still starts
 * takes it, while yescrypt, which is stronger, would lock out those of before 2018 and Alpine.
 * plain-password.c has what takes no hash. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cloud-private.h"

static bool reset_prepare(struct instance_batch *batch, struct db_conn *conn,
                          struct instance *instance, struct wire_writer *data, struct im_err *err) {
    if (takes_plain(instance->platform)) {
        plain_reset_prepare(batch->arg, instance, data);
        return true;
    }
    login_give(batch->arg, instance->platform, instance);
    return login_edit_plan(batch->cloud, conn, instance, data, err);
}

bool cloud_password_reset(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *instance_ids, const char *password,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    IM_AUTO(login_done) struct login login = {0};
    struct instance_batch batch = {.cloud = cloud,
                                   .caller = caller,
                                   .action = "ResetPassword",
                                   .ids = instance_ids,
                                   .prepare = reset_prepare};

    batch.arg = &login;
    return login_check(cloud, "passwd", NULL, password, &login, err) &&
           instance_batch_run(&batch, ret_job_id, err);
}

static bool load(struct cloud *cloud, const char *instance_id, struct instance **ret_instance,
                 struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);

    return conn != NULL && record_get(conn, &instance_type, instance_id, ret_instance, err);
}

/* What the run tells the commit: the sentence is for people, "" when the guest has its password. */
static void tell(struct job_run *run, const struct login_edit *edit, char *unapplied) {
    struct login_edit *told = im_alloc(sizeof(*told) + strlen(unapplied) + 1);

    if (edit != NULL)
        *told = *edit;
    strcpy(told->text, unapplied);
    run->scratch = told;
}

static char *at_next_boot(const char *trouble) {
    return im_printf("password: offered on the seed disk for the next boot%s%s",
                     trouble[0] != '\0' ? "; " : "", trouble);
}

/* A machine that runs. */
static bool tell_agent(struct job_run *run, const struct instance *instance, const char *user) {
    struct cloud *cloud = run->context;
    IM_AUTO(free_auto) char *unapplied = NULL;
    struct im_err guest = {0};

    if (virt_set_password(cloud->config.virt, instance->instance_id, user, VIRT_SECRET_HASH,
                          instance->passwd_hash, &guest)) {
        tell(run, NULL, "");
        return true;
    }
    im_info("cloud", "%s: its password is taken over at the next boot: %s", instance->instance_id,
            guest.text);
    unapplied = at_next_boot(guest.text);
    tell(run, NULL, unapplied);
    return true;
}

static bool change_disk(struct job_run *run, const struct instance *instance, const char *user,
                        struct im_err *err) {
    struct disk_login login = {.user = user, .hash = instance->passwd_hash};
    IM_AUTO(free_auto) struct login_edit *edit = NULL;
    IM_AUTO(free_auto) char *unapplied = NULL;

    if (!login_edit_run(run, &login, &edit, err))
        return false;
    unapplied = edit->needed ? im_strdup("") : at_next_boot(edit->text);
    tell(run, edit, unapplied);
    return true;
}

static bool change_plain(struct job_run *run, const struct instance *instance, const char *user,
                         bool running, struct im_err *err) {
    IM_AUTO(free_auto) char *trouble = NULL;
    IM_AUTO(free_auto) char *unapplied = NULL;

    if (!plain_reset_run(run, instance, user, running, &trouble, err))
        return false;
    unapplied = trouble == NULL ? im_strdup("") : at_next_boot(trouble);
    tell(run, NULL, unapplied);
    return true;
}

/* What the guest is told is kept in the record already: a guest that does not take it now finds it
 * in the seed. */
static bool reset_run(struct job_run *run, struct im_err *err) {
    struct cloud *cloud = run->context;
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    IM_AUTO(free_auto) char *user = NULL;
    bool running = false;

    if (!load(cloud, run->item->resource_id, &instance, err) ||
        !login_user(cloud, run->item->resource_id, &user, &running, err))
        return false;
    if (takes_plain(instance->platform))
        return change_plain(run, instance, user, running, err);
    return running ? tell_agent(run, instance, user) : change_disk(run, instance, user, err);
}

static bool reset_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    struct login_edit *edit = run->scratch;
    struct instance instance = {.instance_id = run->item->resource_id, .unapplied = edit->text};

    return login_edit_commit(run, conn, edit, err) &&
           plain_reset_commit(run, conn, edit->text, err) &&
           record_update_fields(conn, &instance_type, &instance,
                                (const char *const[]){"unapplied", "transition_status", NULL}, err);
}

static const struct job_step reset_steps[] = {
    {"password", reset_run, reset_commit, login_edit_undo}};
const struct job_verb password_reset_verb = {.action = "ResetPassword",
                                             .steps = reset_steps,
                                             .step_count = 1,
                                             .undone = login_edit_undone,
                                             .resumes = true,
                                             .at_once = login_edits_at_once};
