/* SPDX-License-Identifier: Apache-2.0 */
/* What the instance verbs share: batches, settling, ceasing, logins; and the verbs that need no
 * job. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "cloud-private.h"

enum { PASSWORD_MIN = 8, PASSWORD_MAX = 128 };

bool cloud_transact(struct cloud *cloud,
                    bool (*body)(struct db_conn *conn, void *arg, struct im_err *err), void *arg,
                    struct im_err *err) {
    return db_transact(cloud->config.db, body, arg, err);
}

bool cloud_order(struct cloud *cloud,
                 bool (*body)(struct db_conn *conn, void *arg, struct im_err *err), void *arg,
                 const char *job_id, char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) {
    bool ordered = cloud_transact(cloud, body, arg, err);

    /* Where nobody knows whether it was committed, the job is there or not: if so, it runs. */
    if ((ordered || err->code == IM_UNKNOWN_COMMIT) && job_id[0] != '\0')
        jobs_wake(cloud->jobs, job_id);
    if (ordered)
        memcpy(ret_job_id, job_id, IM_JOB_ID_MAX);
    return ordered;
}

struct wire_doc *item_data(const struct job_run *run, struct im_err *err) {
    const char *data = im_str_empty(run->item->data) ? "{}" : run->item->data;

    return wire_parse(data, strlen(data), err);
}

/* --- Batches ---------------------------------------------------------------------------------- */

static bool batch_one(void *arg, struct db_conn *conn, const char *id, size_t index,
                      struct wire_writer *data, struct im_err *err) {
    struct instance_batch *batch = arg;
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    batch->index = index;
    if (!instance_load(conn, batch->caller, id, &instance, err) ||
        !instance_allows(instance, batch->action, err) ||
        (batch->prepare != NULL && !batch->prepare(batch, conn, instance, data, err)))
        return false;
    instance->transition_status = verb_rule_find(instance_rules, batch->action)->during;
    return record_update(conn, &instance_type, instance, err);
}

bool instance_batch_run(struct instance_batch *batch, char ret_job_id[IM_JOB_ID_MAX],
                        struct im_err *err) {
    struct batch_call call = {batch->cloud, batch->caller, batch->action, batch_one, batch};

    return batch_run(&call, "instances", batch->ids, ret_job_id, err);
}

/* --- Ends of jobs ----------------------------------------------------------------------------- */

bool instance_settle(struct db_conn *conn, const char *instance_id, enum instance_status status,
                     struct im_err *err) {
    struct instance instance = {.instance_id = (char *) instance_id,
                                .status = status,
                                .transition_status = TRANSITION_NONE,
                                .status_time = im_now_s()};

    return record_update_fields(
        conn, &instance_type, &instance,
        (const char *const[]){"status", "transition_status", "status_time", NULL}, err);
}

bool instance_settle_by_machine(struct cloud *cloud, struct db_conn *conn, const char *instance_id,
                                enum virt_state otherwise, struct im_err *err) {
    enum virt_state state = otherwise;
    struct im_err unknown = {0};

    if (!virt_state(cloud->config.virt, instance_id, &state, &unknown))
        state = otherwise;
    return instance_settle(conn, instance_id,
                           state == VIRT_OFF ? INSTANCE_STOPPED : INSTANCE_RUNNING, err);
}

bool instance_unlock(struct db_conn *conn, const char *instance_id, struct im_err *err) {
    struct instance instance = {.instance_id = (char *) instance_id,
                                .transition_status = TRANSITION_NONE};

    return record_update_fields(conn, &instance_type, &instance,
                                (const char *const[]){"transition_status", NULL}, err);
}

bool instance_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                     struct im_err *err) {
    (void) why;
    return instance_unlock(conn, run->item->resource_id, err);
}

void graphics_password(char ret_password[GRAPHICS_PASSWORD + 1]) {
    im_random_text(ret_password, GRAPHICS_PASSWORD, IM_ALPHANUMERIC);
}

bool instance_cease(struct cloud *cloud, struct db_conn *conn, struct instance *instance,
                    struct im_err *err) {
    if (!layer_drop(cloud, conn, instance->layer_id, err) ||
        !nics_delete(conn, instance->instance_id, err) ||
        !repairs_forget(conn, instance->instance_id, err) ||
        !monitor_forget(conn, instance->instance_id, err) ||
        !db_exec(conn, NULL, err, "DELETE FROM keypair_links WHERE instance_id = $1", "t",
                 instance->instance_id))
        return false;
    im_replace(&instance->layer_id, NULL);
    im_replace(&instance->userdata, NULL);
    im_replace(&instance->passwd_hash, NULL);
    im_replace(&instance->passwd_sealed, NULL);
    im_replace(&instance->graphics_passwd, NULL);
    instance->status = INSTANCE_CEASED;
    instance->transition_status = TRANSITION_NONE;
    instance->status_time = im_now_s();
    return record_update(conn, &instance_type, instance, err);
}

/* --- Logins ----------------------------------------------------------------------------------- */

bool password_fits(const char *password, struct im_err *err) {
    size_t len = strlen(password);
    bool lower = false, upper = false, digit = false;

    for (const char *p = password; *p != '\0'; p++) {
        lower |= *p >= 'a' && *p <= 'z';
        upper |= *p >= 'A' && *p <= 'Z';
        digit |= *p >= '0' && *p <= '9';
        if ((unsigned char) *p < ' ' || *p == 0x7f)
            return im_fail(err, IM_BAD_MESSAGE, "login_passwd contains a control character");
    }
    if (len < PASSWORD_MIN || len > PASSWORD_MAX || !lower || !upper || !digit)
        return im_fail(err, IM_BAD_MESSAGE,
                       "login_passwd should have %d to %d characters, among them an upper-case "
                       "letter, a lower-case letter and a digit",
                       PASSWORD_MIN, PASSWORD_MAX);
    return true;
}

static const char *login_mode(const char *mode, const char *keypair, const char *password) {
    if (!im_str_empty(mode))
        return mode;
    return !im_str_empty(keypair) ? "keypair" : !im_str_empty(password) ? "passwd" : "";
}

void login_done(struct login *login) {
    free(login->hash);
    free(login->sealed);
}

void login_give(const struct login *login, const char *platform, struct instance *instance) {
    bool plain = takes_plain(platform);

    if (im_str_empty(login->hash))
        return;
    im_replace(&instance->passwd_hash, plain ? NULL : login->hash);
    im_replace(&instance->passwd_sealed, plain ? login->sealed : NULL);
}

bool login_check(const struct cloud *cloud, const char *mode, const char *keypair,
                 const char *password, struct login *ret_login, struct im_err *err) {
    mode = login_mode(mode, keypair, password);
    if (strcmp(mode, "passwd") != 0) {
        if (strcmp(mode, "keypair") == 0 && im_str_empty(keypair))
            return im_fail(err, IM_BAD_MESSAGE,
                           "parameter [login_keypair] is missing, login_mode is [keypair]");
        if (strcmp(mode, "keypair") != 0 && *mode != '\0')
            return im_fail(err, IM_BAD_MESSAGE, "login_mode [%.64s] should be keypair or passwd",
                           mode);
        *ret_login = (struct login){im_strdup(""), im_strdup("")};
        return true;
    }
    if (im_str_empty(password))
        return im_fail(err, IM_BAD_MESSAGE,
                       "parameter [login_passwd] is missing, login_mode is [passwd]");
    if (!password_fits(password, err))
        return false;
    *ret_login =
        (struct login){crypto_password_hash(password), crypto_seal(cloud->config.key, password)};
    return true;
}

bool login_fits(struct db_conn *conn, const struct caller *caller, const char *platform,
                const char *keypair, struct im_err *err) {
    IM_AUTO(keypair_free_auto) struct keypair *found = NULL;

    if (im_str_empty(keypair))
        return true;
    if (im_str_equal(platform, "windows"))
        return im_fail(err, IM_BAD_MESSAGE,
                       "login_mode [keypair] does not work with Windows, use [passwd]");
    return keypair_load(conn, caller, keypair, &found, err);
}

bool keypair_link_add(struct db_conn *conn, const char *keypair_id, const char *instance_id,
                      struct im_err *err) {
    IM_AUTO(free_auto) char *id = im_printf("%s/%s", keypair_id, instance_id);

    return db_exec(
        conn, NULL, err,
        "INSERT INTO keypair_links (link_id, keypair_id, instance_id) VALUES ($1, $2, $3)"
        " ON CONFLICT (link_id) DO NOTHING",
        "ttt", id, keypair_id, instance_id);
}

/* --- Verbs without a job ---------------------------------------------------------------------- */

struct modify {
    const struct caller *caller;
    const char *id;
    struct attributes attributes;
    int64_t nic_mqueue;
};

static bool modify_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct modify *modify = arg;
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    if (!instance_load(conn, modify->caller, modify->id, &instance, err))
        return false;
    attributes_set(&instance_type, instance, &modify->attributes);
    if (modify->nic_mqueue >= 0)
        instance->nic_mqueue = modify->nic_mqueue;
    return record_update_fields(
        conn, &instance_type, instance,
        (const char *const[]){"instance_name", "description", "nic_mqueue", NULL}, err);
}

bool cloud_instance_modify(struct cloud *cloud, const struct caller *caller, const char *id,
                           const char *instance_name, const char *description, int64_t nic_mqueue,
                           struct im_err *err) {
    struct modify modify = {caller, id, {instance_name, description}, nic_mqueue};

    return attributes_fit(&instance_type, &modify.attributes, err) &&
           cloud_transact(cloud, modify_body, &modify, err);
}

static bool load_running(struct cloud *cloud, const struct caller *caller, const char *id,
                         struct instance **ret_instance, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    if (conn == NULL || !instance_load(conn, caller, id, &instance, err))
        return false;
    if (instance->status != INSTANCE_RUNNING)
        return im_fail(err, IM_WRONG_STATE, "instance [%s] is not running; start it first", id);
    *ret_instance = im_steal(&instance);
    return true;
}

bool cloud_instance_ssh(struct cloud *cloud, const struct caller *caller, const char *id,
                        struct ssh_address *ret_address, struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    IM_AUTO(image_free_auto) struct image *image = NULL;
    IM_AUTO(db_give_auto) struct db_conn *conn = NULL;
    struct im_err missing = {0};
    struct nic **nics = NULL;
    size_t count = 0;

    if (!load_running(cloud, caller, id, &instance, err))
        return false;
    conn = db_take(cloud->config.db, err);
    if (conn == NULL || !nics_load(conn, id, &nics, &count, err))
        return false;
    (void) !record_get(conn, &image_type, instance->image_id, &image, &missing);
    if (count > 0) {
        bool forwarded = nics[0]->ssh_port != 0;

        snprintf(ret_address->host, sizeof(ret_address->host), "%s",
                 forwarded ? "127.0.0.1" : nics[0]->private_ip);
        ret_address->port = forwarded ? (int) nics[0]->ssh_port : 22;
        snprintf(ret_address->user, sizeof(ret_address->user), "%s",
                 image && !im_str_empty(image->default_user) ? image->default_user : "root");
    }
    record_list_free(&nic_type, (void **) nics, count);
    return count > 0
               ? true
               : im_fail(err, IM_WRONG_STATE, "instance [%s] has no network; use its console", id);
}

bool cloud_instance_console(struct cloud *cloud, const struct caller *caller, const char *id,
                            int *ret_fd, struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    return load_running(cloud, caller, id, &instance, err) &&
           virt_console_open(cloud->config.virt, id, ret_fd, err);
}

bool cloud_instance_console_log(struct cloud *cloud, const struct caller *caller, const char *id,
                                char **ret_bytes, size_t *ret_len, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    IM_AUTO(free_auto) char *path = NULL;

    if (conn == NULL || !instance_load(conn, caller, id, &instance, err))
        return false;
    path = virt_console_log_path(cloud->config.virt, id);
    if (access(path, F_OK) != 0) {
        *ret_bytes = im_strdup("");
        *ret_len = 0;
        return true;
    }
    return im_read_file(path, 8 << 20, ret_bytes, ret_len, err);
}
