/* SPDX-License-Identifier: Apache-2.0 */
/* Users and access keys; secrets are sealed in the record and kept in memory while it stays as it
 * is. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud-private.h"

/* Where the record can not tell of other programs' changes, a key that one of them disabled is
 * good for so long. */
static const int64_t secret_kept_ms = 1000;
enum { KEY_ID_LETTERS = 20, SECRET_LETTERS = 40 };

/* --- Secrets ------------------------------------------------------------------------------------
 */

static bool secret_kept(struct cloud *cloud, const char *id, uint64_t generation,
                        struct caller *ret_caller, char **ret_secret) {
    bool found = false;
    int64_t now = im_mono_ms();

    pthread_mutex_lock(&cloud->secrets_lock);
    for (size_t i = 0; i < SECRETS_KEPT && !found; i++) {
        const struct secret_entry *entry = &cloud->secrets[i];

        if (entry->generation != generation || entry->until_ms < now ||
            strcmp(entry->access_key_id, id) != 0)
            continue;
        *ret_caller = entry->caller;
        *ret_secret = im_strdup(entry->secret);
        found = true;
    }
    pthread_mutex_unlock(&cloud->secrets_lock);
    return found;
}

/* Takes the place of what is kept of the same key, so that a busy writer does not drive out the
 * keys of others. */
static void secret_keep(struct cloud *cloud, const char *id, uint64_t generation,
                        const struct caller *caller, const char *secret) {
    struct secret_entry *entry = NULL;

    if (strlen(id) >= sizeof(entry->access_key_id))
        return;
    pthread_mutex_lock(&cloud->secrets_lock);
    for (size_t i = 0; i < SECRETS_KEPT && entry == NULL; i++)
        if (strcmp(cloud->secrets[i].access_key_id, id) == 0)
            entry = &cloud->secrets[i];
    if (entry == NULL)
        entry = &cloud->secrets[cloud->secrets_next++ % SECRETS_KEPT];
    strcpy(entry->access_key_id, id);
    im_replace(&entry->secret, secret);
    entry->caller = *caller;
    entry->generation = generation;
    entry->until_ms = generation != 0 ? INT64_MAX : im_mono_ms() + secret_kept_ms;
    pthread_mutex_unlock(&cloud->secrets_lock);
}

static void secrets_forget(struct cloud *cloud) {
    pthread_mutex_lock(&cloud->secrets_lock);
    for (size_t i = 0; i < SECRETS_KEPT; i++)
        cloud->secrets[i].until_ms = 0;
    pthread_mutex_unlock(&cloud->secrets_lock);
}

/* One sentence for every way in which a key is none, so that nobody learns which keys exist. */
static bool no_key(struct im_err *err) {
    return im_fail(err, IM_AUTH, "the access key is unknown or not active");
}

bool cloud_secret(struct cloud *cloud, const char *access_key_id, struct caller *ret_caller,
                  char **ret_secret, struct im_err *err) {
    IM_AUTO(access_key_free_auto) struct access_key *key = NULL;
    IM_AUTO(user_free_auto) struct user *user = NULL;
    IM_AUTO(free_auto) char *secret = NULL;
    IM_AUTO(db_give_auto) struct db_conn *conn = NULL;
    struct caller caller = {0};
    /* Asked before the record is read: a change in between only makes what is kept look older. */
    uint64_t generation = db_generation(cloud->config.db);

    if (secret_kept(cloud, access_key_id, generation, ret_caller, ret_secret))
        return true;
    conn = db_take(cloud->config.db, err);
    if (conn == NULL)
        return false;
    if (!record_get(conn, &access_key_type, access_key_id, &key, err) ||
        !record_get(conn, &user_type, key->owner, &user, err))
        return err->code == IM_NOT_FOUND ? no_key(err) : false;
    if (key->status != ACCOUNT_ACTIVE || user->status != ACCOUNT_ACTIVE)
        return no_key(err);
    if (!crypto_unseal(cloud->config.key, key->secret_sealed, &secret, err))
        return im_within(err, "access key %s", access_key_id);
    snprintf(caller.user_id, sizeof(caller.user_id), "%s", user->user_id);
    caller.admin = user->role == ROLE_ADMIN;
    secret_keep(cloud, access_key_id, generation, &caller, secret);
    *ret_caller = caller;
    *ret_secret = im_steal(&secret);
    return true;
}

/* --- Users --------------------------------------------------------------------------------------
 */

static bool user_insert(struct db_conn *conn, void *arg, struct im_err *err) {
    return record_insert(conn, &user_type, arg, err);
}

bool cloud_user_add(struct cloud *cloud, const char *name, const char *email, bool admin,
                    char ret_user_id[IM_ID_MAX], struct im_err *err) {
    char id[IM_ID_MAX] = "usr-";
    struct user user = {.user_id = id,
                        .user_name = (char *) name,
                        .email = (char *) email,
                        .role = admin ? ROLE_ADMIN : ROLE_USER,
                        .status = ACCOUNT_ACTIVE,
                        .create_time = im_now_s()};

    if (!im_id_valid(name))
        return im_fail(err, IM_BAD_MESSAGE,
                       "user name [%.64s] should be letters, digits, dots and dashes", name);
    if (!text_fits("email", email, 254, err))
        return false;
    im_random_text(id + 4, 8, IM_ALPHANUMERIC);
    if (!cloud_transact(cloud, user_insert, &user, err))
        return err->code == IM_EXISTS ? im_fail(err, IM_EXISTS, "user [%s] exists already", name)
                                      : false;
    memcpy(ret_user_id, id, IM_ID_MAX);
    return true;
}

bool cloud_user_list(struct cloud *cloud, struct user ***ret_users, size_t *ret_count,
                     struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    struct query query = {.sort_field = "user_name", .ascending = true};

    return conn != NULL &&
           record_list(conn, &user_type, &query, (void ***) ret_users, ret_count, NULL, err);
}

static bool user_by_name(struct db_conn *conn, const char *name, struct user **ret_user,
                         struct im_err *err) {
    IM_AUTO(query_done) struct query query = {.limit = 1};
    void **found = NULL;
    size_t count = 0;

    query_add(&query, "user_name", CONDITION_IN, name);
    if (!record_list(conn, &user_type, &query, &found, &count, NULL, err))
        return false;
    if (count == 1)
        *ret_user = found[0];
    free(found);
    return count == 1 || im_fail(err, IM_NOT_FOUND, "user [%.64s] does not exist", name);
}

struct user_change {
    const char *name;
    enum account_status status;
    struct access_key *key; /* to be added, its owner filled in; NULL: the status is set */
};

static bool user_change_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct user_change *change = arg;
    IM_AUTO(user_free_auto) struct user *user = NULL;

    if (!user_by_name(conn, change->name, &user, err))
        return false;
    if (change->key != NULL) {
        change->key->owner = user->user_id;
        return record_insert(conn, &access_key_type, change->key, err);
    }
    user->status = change->status;
    return record_update(conn, &user_type, user, err);
}

bool cloud_user_set_status(struct cloud *cloud, const char *name, enum account_status status,
                           struct im_err *err) {
    struct user_change change = {.name = name, .status = status};
    bool changed = cloud_transact(cloud, user_change_body, &change, err);

    secrets_forget(cloud);
    return changed;
}

bool cloud_access_key_add(struct cloud *cloud, const char *user_name, const char *key_name,
                          char **ret_key_id, char **ret_secret, struct im_err *err) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    char id[KEY_ID_LETTERS + 1], secret[SECRET_LETTERS + 1];
    IM_AUTO(free_auto) char *sealed = NULL;
    struct access_key key = {.access_key_id = id,
                             .access_key_name = (char *) (key_name ? key_name : "default"),
                             .status = ACCOUNT_ACTIVE,
                             .create_time = im_now_s(),
                             .status_time = im_now_s()};
    struct user_change change = {.name = user_name, .key = &key};

    im_random_text(id, KEY_ID_LETTERS, letters);
    im_random_text(secret, SECRET_LETTERS, IM_ALPHANUMERIC);
    sealed = crypto_seal(cloud->config.key, secret);
    key.secret_sealed = sealed;
    if (!cloud_transact(cloud, user_change_body, &change, err))
        return false;
    *ret_key_id = im_strdup(id);
    *ret_secret = im_strdup(secret);
    return true;
}

struct keys_delete {
    const struct caller *caller;
    const struct im_strings *ids;
};

static bool keys_delete_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct keys_delete *delete = arg;

    for (size_t i = 0; i < delete->ids->count; i++) {
        const char *id = delete->ids->items[i];
        IM_AUTO(access_key_free_auto) struct access_key *key = NULL;

        if (!access_key_load(conn, delete->caller, id, &key, err) ||
            !record_delete(conn, &access_key_type, id, err))
            return false;
    }
    return true;
}

bool cloud_access_keys_delete(struct cloud *cloud, const struct caller *caller,
                              const struct im_strings *ids, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings unique = {0};
    struct keys_delete delete = {.caller = caller, .ids = &unique};
    bool deleted = ids_unique("access_keys", ids, &unique, err) &&
                   cloud_transact(cloud, keys_delete_body, &delete, err);

    secrets_forget(cloud);
    return deleted;
}
