/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords for Windows: neither cloudbase-init nor the guest agent takes a hash there. The
 * password itself is kept, sealed with the host's key, until the machine has had it from its seed;
 * then it goes from the record and from the seed. Nothing tells when cloudbase-init has read a
 * seed, so it is taken to have when the machine has run for long enough: were the password gone
 * before, cloudbase-init would make one up that nobody knows. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cloud-private.h"

enum {
    HAD_WITH_AGENT_S = 15 * 60, /* its agent answers, so it has come up */
    HAD_S = 4 * 3600
};

bool takes_plain(const char *platform) { return im_str_equal(platform, "windows"); }

bool plain_open(const struct cloud *cloud, const struct instance *instance, char **ret_password,
                struct im_err *err) {
    if (im_str_empty(instance->passwd_sealed))
        return true;
    return crypto_unseal(cloud->config.key, instance->passwd_sealed, ret_password, err) ||
           im_within(err, "the password of instance [%s], which a new one (ResetPassword) replaces",
                     instance->instance_id);
}

void plain_forget(char *password) {
    if (password != NULL)
        explicit_bzero(password, strlen(password));
    free(password);
}

/* --- Reset ------------------------------------------------------------------------------------ */

void plain_reset_prepare(const struct login *login, struct instance *instance,
                         struct wire_writer *data) {
    wire_int(data, "pending", !im_str_empty(instance->passwd_sealed));
    wire_int(data, "shown", !im_str_empty(instance->passwd_sealed) && instance->passwd_time > 0);
    login_give(login, instance->platform, instance);
}

/* Of an earlier password that the machine may not have had: whether there is one ("pending"), and
 * whether a start has shown it to the machine ("shown"). */
static bool earlier_is(const struct job_run *run, const char *what) {
    struct im_err err = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *data = item_data(run, &err);

    return data != NULL && wire_get_int(wire_root(data), what, 0) != 0;
}

static bool tell_agent(struct cloud *cloud, const struct instance *instance, const char *user,
                       struct im_err *err) {
    char *password = NULL;
    bool told = plain_open(cloud, instance, &password, err) && password != NULL &&
                virt_set_password(cloud->config.virt, instance->instance_id, user,
                                  VIRT_SECRET_PLAIN, password, err);

    plain_forget(password);
    return told;
}

static bool replace_in_seed(struct cloud *cloud, const struct instance *instance,
                            struct im_err *err) {
    bool written;

    machine_lock(cloud, instance->instance_id);
    written = machine_seed_rewrite(cloud, instance->instance_id, instance->passwd_sealed, err);
    machine_unlock(cloud, instance->instance_id);
    return written;
}

bool plain_reset_run(struct job_run *run, const struct instance *instance, const char *user,
                     bool running, char **ret_trouble, struct im_err *err) {
    struct cloud *cloud = run->context;
    struct im_err guest = {0};

    /* It may be about to read the earlier one: what comes last counts, whatever the agent does. */
    if (running && earlier_is(run, "shown") && !replace_in_seed(cloud, instance, err))
        return false;
    if (running && tell_agent(cloud, instance, user, &guest))
        return true;
    if (running)
        im_info("cloud", "%s: its password is taken over at the next boot: %s",
                instance->instance_id, guest.text);
    *ret_trouble = im_strdup(guest.text);
    return true;
}

bool plain_reset_commit(struct job_run *run, struct db_conn *conn, const char *unapplied,
                        struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    if (!record_get(conn, &instance_type, run->item->resource_id, &instance, err))
        return false;
    if (!takes_plain(instance->platform))
        return true;
    if (im_str_empty(unapplied) && !earlier_is(run, "pending")) {
        im_replace(&instance->passwd_sealed, NULL); /* the guest has it, and waits for no other */
    } else if (!im_str_empty(unapplied) &&
               (earlier_is(run, "shown") || !earlier_is(run, "pending"))) {
        instance->passwd_turn++; /* it takes none under a name under which it may have had one */
        instance->passwd_time = 0;
    }
    return record_update_fields(
        conn, &instance_type, instance,
        (const char *const[]){"passwd_sealed", "passwd_turn", "passwd_time", NULL}, err);
}

/* --- On the seed, and off it ------------------------------------------------------------------ */

static bool hand_over_body(struct db_conn *conn, void *arg, struct im_err *err) {
    return db_exec(conn, NULL, err, "UPDATE instances SET passwd_time = $1 WHERE instance_id = $2",
                   "it", im_now_s(), (const char *) arg);
}

bool plain_hand_over(struct cloud *cloud, const struct instance *instance, struct im_err *err) {
    return im_str_empty(instance->passwd_sealed) ||
           cloud_transact(cloud, hand_over_body, instance->instance_id, err);
}

/* Has its machine run with it for so long that it has read it? */
static bool is_had(struct cloud *cloud, const struct instance *instance, int64_t now_s) {
    bool running = instance->status == INSTANCE_RUNNING;
    int64_t ran_s = (running ? now_s : instance->status_time) - instance->passwd_time;
    struct virt_info info = {0};
    struct im_err err = {0};

    if (im_str_empty(instance->passwd_sealed) || instance->passwd_time == 0 ||
        instance->transition_status != TRANSITION_NONE)
        return false;
    return ran_s >= HAD_S || (ran_s >= HAD_WITH_AGENT_S && running &&
                              virt_info(cloud->config.virt, instance->instance_id, &info, &err) &&
                              info.agent_connected);
}

static bool forget_body(struct db_conn *conn, void *arg, struct im_err *err) {
    const struct instance *instance = arg;

    return db_exec(conn, NULL, err,
                   "UPDATE instances SET passwd_sealed = NULL, passwd_time = 0"
                   " WHERE instance_id = $1 AND passwd_sealed = $2",
                   "tt", instance->instance_id, instance->passwd_sealed);
}

/* The seed first: a crash in between only repeats it. */
static bool forget_one(struct cloud *cloud, const char *instance_id, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;

    if (conn == NULL || !record_get(conn, &instance_type, instance_id, &instance, err))
        return false;
    db_give(im_steal(&conn));
    return !is_had(cloud, instance, im_now_s()) ||
           (machine_seed_rewrite(cloud, instance_id, NULL, err) &&
            cloud_transact(cloud, forget_body, instance, err));
}

static bool handed_over(struct cloud *cloud, struct im_strings *ret_ids, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    bool more = true;

    if (conn == NULL)
        return false;
    rows = db_query(conn, err,
                    "SELECT instance_id FROM instances WHERE passwd_sealed <> ''"
                    " AND passwd_time > 0 AND passwd_time <= $1",
                    "i", im_now_s() - HAD_WITH_AGENT_S);
    if (rows == NULL)
        return false;
    while (db_next(rows, &more, err) && more)
        im_strings_add(ret_ids, db_text(rows, 0));
    return !more;
}

bool plain_round(struct cloud *cloud, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    bool fine = handed_over(cloud, &ids, err);

    for (size_t i = 0; i < ids.count && fine; i++) {
        machine_lock(cloud, ids.items[i]);
        fine = forget_one(cloud, ids.items[i], err);
        machine_unlock(cloud, ids.items[i]);
    }
    return fine;
}
