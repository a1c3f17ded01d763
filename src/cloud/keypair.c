/* SPDX-License-Identifier: Apache-2.0 */
/* Key pairs: made or brought, attached to instances, listed with the instances that have them. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cloud-private.h"

/* --- Create ------------------------------------------------------------------------------------
 */

static bool insert_body(struct db_conn *conn, void *arg, struct im_err *err) {
    return record_insert(conn, &keypair_type, arg, err);
}

bool cloud_keypair_create(struct cloud *cloud, const struct caller *caller, const char *name,
                          const char *method, const char *public_key,
                          char ret_keypair_id[IM_ID_MAX], char **ret_private_key,
                          struct im_err *err) {
    IM_AUTO(free_auto) char *private_key = NULL;
    IM_AUTO(free_auto) char *body = NULL;
    IM_AUTO(free_auto) char *real_method = NULL;
    char id[IM_ID_MAX];
    struct keypair keypair = {.keypair_id = id,
                              .keypair_name = (char *) (name ? name : ""),
                              .owner = (char *) caller->user_id,
                              .create_time = im_now_s()};

    if (!text_fits("keypair_name", name, 255, err))
        return false;
    if (public_key != NULL) {
        private_key = im_strdup("");
        if (!crypto_public_key_parse(public_key, &real_method, &body, err))
            return false;
    } else {
        real_method = im_strdup(im_str_empty(method) ? "ssh-rsa" : method);
        if (!crypto_keypair_make(real_method, &private_key, &body, err))
            return false;
    }
    keypair.encrypt_method = real_method;
    keypair.pub_key = body;
    im_id_make(id, "kp-", 8);
    if (!cloud_transact(cloud, insert_body, &keypair, err))
        return false;
    memcpy(ret_keypair_id, id, IM_ID_MAX);
    *ret_private_key = im_steal(&private_key);
    return true;
}

/* --- Delete, modify ----------------------------------------------------------------------------
 */

struct change {
    const struct caller *caller;
    const struct im_strings *ids;
};

static bool in_use(struct db_conn *conn, const char *keypair_id, char **ret_instance,
                   struct im_err *err) {
    IM_AUTO(db_rows_free_auto)
    struct db_rows *rows =
        db_query(conn, err,
                 "SELECT l.instance_id FROM keypair_links l JOIN instances i ON i.instance_id = "
                 "l.instance_id"
                 " WHERE l.keypair_id = $1 AND i.status NOT IN ('terminated', 'ceased') LIMIT 1",
                 "t", keypair_id);
    bool more = false;

    if (rows == NULL || !db_next(rows, &more, err))
        return false;
    *ret_instance = more ? im_strdup(db_text(rows, 0)) : NULL;
    return true;
}

static bool delete_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct change *change = arg;

    for (size_t i = 0; i < change->ids->count; i++) {
        const char *id = change->ids->items[i];
        IM_AUTO(keypair_free_auto) struct keypair *keypair = NULL;
        IM_AUTO(free_auto) char *instance = NULL;

        if (!keypair_load(conn, change->caller, id, &keypair, err) ||
            !in_use(conn, id, &instance, err))
            return false;
        if (instance != NULL)
            return im_fail(err, IM_WRONG_STATE,
                           "key pair [%s] is attached to instance [%s], detach it first", id,
                           instance);
        if (!db_exec(conn, NULL, err, "DELETE FROM keypair_links WHERE keypair_id = $1", "t", id) ||
            !record_delete(conn, &keypair_type, id, err))
            return false;
    }
    return true;
}

bool cloud_keypairs_delete(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings unique = {0};
    struct change change = {.caller = caller, .ids = &unique};

    return ids_unique("keypairs", ids, &unique, err) &&
           cloud_transact(cloud, delete_body, &change, err);
}

static bool modify_load(struct db_conn *conn, const struct caller *caller, const char *id,
                        void *ret_object, struct im_err *err) {
    return keypair_load(conn, caller, id, ret_object, err);
}

bool cloud_keypair_modify(struct cloud *cloud, const struct caller *caller, const char *id,
                          const char *name, const char *description, struct im_err *err) {
    struct attributes attributes = {name, description};

    return attributes_modify(cloud, caller, &keypair_type, modify_load, id, &attributes, err);
}

/* --- Attach and detach: rows, and the guest's own file where an agent is connected ------------ */

struct attach {
    const struct im_strings *keypairs;
    bool detach;
};

static bool attach_prepare(struct instance_batch *batch, struct db_conn *conn,
                           struct instance *instance, struct wire_writer *data,
                           struct im_err *err) {
    struct attach *attach = batch->arg;

    wire_array_begin(data, "lines");
    for (size_t i = 0; i < attach->keypairs->count; i++) {
        const char *id = attach->keypairs->items[i];
        IM_AUTO(keypair_free_auto) struct keypair *keypair = NULL;
        IM_AUTO(free_auto) char *line = NULL;

        if (!keypair_load(conn, batch->caller, id, &keypair, err))
            return false;
        line = im_printf("%s %s %s", keypair->encrypt_method, keypair->pub_key, id);
        wire_text(data, NULL, line);
        if (attach->detach ? !db_exec(conn, NULL, err,
                                      "DELETE FROM keypair_links WHERE keypair_id = $1"
                                      " AND instance_id = $2",
                                      "tt", id, instance->instance_id)
                           : !keypair_link_add(conn, id, instance->instance_id, err))
            return false;
    }
    wire_array_end(data);
    return login_edit_plan(batch->cloud, conn, instance, data, err);
}

bool cloud_keypairs_attach(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, const struct im_strings *instance_ids,
                           bool detach, char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings unique = {0};
    struct attach attach = {.keypairs = &unique, .detach = detach};
    struct instance_batch batch = {.cloud = cloud,
                                   .caller = caller,
                                   .action = detach ? "DetachKeyPairs" : "AttachKeyPairs",
                                   .ids = instance_ids,
                                   .prepare = attach_prepare,
                                   .arg = &attach};

    return ids_unique("keypairs", ids, &unique, err) && instance_batch_run(&batch, ret_job_id, err);
}

bool login_user(struct cloud *cloud, const char *instance_id, char **ret_user, bool *ret_running,
                struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    IM_AUTO(image_free_auto) struct image *image = NULL;
    struct im_err missing = {0};

    if (conn == NULL || !record_get(conn, &instance_type, instance_id, &instance, err))
        return false;
    *ret_running = instance->status == INSTANCE_RUNNING;
    *ret_user = im_strdup(record_get(conn, &image_type, instance->image_id, &image, &missing) &&
                                  !im_str_empty(image->default_user)
                              ? image->default_user
                          : takes_plain(instance->platform) ? "Administrator"
                                                            : "root");
    return true;
}

/* A machine that runs without an agent gets its keys at the next start, from the seed. */
static void tell_agent(struct job_run *run, const struct disk_login *login) {
    struct cloud *cloud = run->context;
    struct im_err guest = {0};

    if (!virt_authorized_keys(cloud->config.virt, run->item->resource_id, login->user, login->lines,
                              login->line_count, login->detach, &guest))
        im_info("cloud", "%s: keys are taken over at the next start: %s", run->item->resource_id,
                guest.text);
}

static bool keys_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, err);
    IM_AUTO(free_auto) char *user = NULL;
    const struct wire_value *lines;
    IM_AUTO(free_auto) const char **keys = NULL;
    struct disk_login login = {.hash = "",
                               .detach = strcmp(run->job->job_action, "DetachKeyPairs") == 0};
    struct login_edit *edit = NULL;
    bool running = false;

    if (data == NULL || !login_user(run->context, run->item->resource_id, &user, &running, err))
        return false;
    lines = wire_get(wire_root(data), "lines");
    keys = im_alloc((wire_count(lines) + 1) * sizeof(*keys));
    for (; login.line_count < wire_count(lines); login.line_count++)
        keys[login.line_count] = wire_as_text(wire_at(lines, login.line_count), "");
    login.user = user;
    login.lines = keys;
    if (running)
        tell_agent(run, &login);
    else if (!login_edit_run(run, &login, &edit, err))
        return false;
    run->scratch = edit;
    return true;
}

static bool keys_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) {
    return (run->scratch == NULL || login_edit_commit(run, conn, run->scratch, err)) &&
           instance_unlock(conn, run->item->resource_id, err);
}

static const struct job_step keys_steps[] = {{"keys", keys_run, keys_commit, login_edit_undo}};
const struct job_verb keypair_attach_verb = {.action = "AttachKeyPairs",
                                             .steps = keys_steps,
                                             .step_count = 1,
                                             .undone = login_edit_undone,
                                             .resumes = true,
                                             .at_once = login_edits_at_once};
const struct job_verb keypair_detach_verb = {.action = "DetachKeyPairs",
                                             .steps = keys_steps,
                                             .step_count = 1,
                                             .undone = login_edit_undone,
                                             .resumes = true,
                                             .at_once = login_edits_at_once};
