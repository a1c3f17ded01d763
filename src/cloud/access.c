/* SPDX-License-Identifier: Apache-2.0 */
/* Who may see and change what, and which verb is allowed in which state. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud-private.h"

static bool sees(const struct caller *caller, const char *owner, const char *visibility) {
    return caller->admin || im_str_equal(owner, caller->user_id) ||
           im_str_equal(visibility, "public");
}

static bool absent(const char *kind, const char *id, struct im_err *err) {
    return im_fail(err, IM_NOT_FOUND, "%s [%s] does not exist", kind, id);
}

/* *ret_object is the caller's; `kind` is the word for people. */
static bool load_owned(struct db_conn *conn, const struct caller *caller,
                       const struct object_type *type, const char *kind, const char *id,
                       void *ret_object, struct im_err *err) {
    void *object = NULL;

    if (!record_get(conn, type, id, &object, err))
        return err->code == IM_NOT_FOUND ? absent(kind, id, err) : false;
    if (!sees(caller, *field_text(object_field(type, "owner"), object), NULL)) {
        object_free(type, object);
        return absent(kind, id, err);
    }
    *(void **) ret_object = object;
    return true;
}

bool instance_load(struct db_conn *conn, const struct caller *caller, const char *id,
                   struct instance **ret_instance, struct im_err *err) {
    return load_owned(conn, caller, &instance_type, "instance", id, ret_instance, err);
}

bool keypair_load(struct db_conn *conn, const struct caller *caller, const char *id,
                  struct keypair **ret_keypair, struct im_err *err) {
    return load_owned(conn, caller, &keypair_type, "key pair", id, ret_keypair, err);
}

bool volume_load(struct db_conn *conn, const struct caller *caller, const char *id,
                 struct volume **ret_volume, struct im_err *err) {
    return load_owned(conn, caller, &volume_type, "volume", id, ret_volume, err);
}

bool snapshot_load(struct db_conn *conn, const struct caller *caller, const char *id,
                   struct snapshot **ret_snapshot, struct im_err *err) {
    return load_owned(conn, caller, &snapshot_type, "snapshot", id, ret_snapshot, err);
}

bool boot_test_load(struct db_conn *conn, const struct caller *caller, const char *id,
                    struct boot_test **ret_test, struct im_err *err) {
    return load_owned(conn, caller, &boot_test_type, "boot test", id, ret_test, err);
}

bool repair_load(struct db_conn *conn, const struct caller *caller, const char *id,
                 struct repair **ret_repair, struct im_err *err) {
    return load_owned(conn, caller, &repair_type, "repair", id, ret_repair, err);
}

bool image_export_load(struct db_conn *conn, const struct caller *caller, const char *id,
                       struct image_export **ret_export, struct im_err *err) {
    return load_owned(conn, caller, &image_export_type, "export", id, ret_export, err);
}

bool job_load(struct db_conn *conn, const struct caller *caller, const char *id,
              struct job **ret_job, struct im_err *err) {
    return load_owned(conn, caller, &job_type, "job", id, ret_job, err);
}

bool access_key_load(struct db_conn *conn, const struct caller *caller, const char *id,
                     struct access_key **ret_key, struct im_err *err) {
    return load_owned(conn, caller, &access_key_type, "access key", id, ret_key, err);
}

/* The newest available image of a family that the caller sees. */
static bool family_newest(struct db_conn *conn, const struct caller *caller, const char *family,
                          struct image **ret_image, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {.limit = 1};
    void **found = NULL;
    size_t count = 0;

    query_add(&query, "family", CONDITION_IN, family);
    query_add(&query, "status", CONDITION_IN, "available");
    if (!caller->admin)
        query.visible_to = im_strdup(caller->user_id);
    if (!record_list(conn, &image_type, &query, &found, &count, NULL, err))
        return false;
    if (count == 0) {
        record_list_free(&image_type, found, count);
        return absent("image", family, err);
    }
    *ret_image = found[0];
    free(found);
    return true;
}

bool image_load(struct db_conn *conn, const struct caller *caller, const char *id,
                struct image **ret_image, struct im_err *err) {
    IM_AUTO(image_free_auto) struct image *image = NULL;

    if (!record_get(conn, &image_type, id, &image, err))
        return err->code == IM_NOT_FOUND ? family_newest(conn, caller, id, ret_image, err) : false;
    if (!sees(caller, image->owner, image->visibility))
        return absent("image", id, err);
    *ret_image = im_steal(&image);
    return true;
}

bool image_owned(const struct caller *caller, const struct image *image, struct im_err *err) {
    if (caller->admin || im_str_equal(image->owner, caller->user_id))
        return true;
    return im_fail(err, IM_DENIED, "image [%s] is not yours", image->image_id);
}

/* "instance [i-x] is not running, can not be stopped", as the API words it. */
static bool allows(const struct verb_rule *rule, const char *kind, const char *id, unsigned status,
                   const char *status_word, enum transition transition, const char *only_word,
                   struct im_err *err) {
    if (transition != TRANSITION_NONE)
        return im_fail(err, IM_WRONG_STATE, "%s [%s] is %s, %s now, please try later", kind, id,
                       transition_word(transition), rule->cannot);
    if ((rule->allowed & 1u << status) != 0)
        return true;
    if (only_word != NULL)
        return im_fail(err, IM_WRONG_STATE, "%s [%s] is not %s, %s", kind, id, only_word,
                       rule->cannot);
    return im_fail(err, IM_WRONG_STATE, "%s [%s] is %s, %s", kind, id, status_word, rule->cannot);
}

/* The one status a rule allows, or -1 when there are several. */
static int only_status(unsigned allowed) {
    return (allowed & (allowed - 1)) == 0 ? __builtin_ctz(allowed) : -1;
}

bool instance_allows(const struct instance *instance, const char *action, struct im_err *err) {
    const struct verb_rule *rule = verb_rule_find(instance_rules, action);
    int only = only_status(rule->allowed);

    return allows(rule, "instance", instance->instance_id, instance->status,
                  instance_status_word(instance->status), instance->transition_status,
                  only < 0 ? NULL : instance_status_word((enum instance_status) only), err);
}

bool image_allows(const struct image *image, const char *action, struct im_err *err) {
    const struct verb_rule *rule = verb_rule_find(image_rules, action);
    int only = only_status(rule->allowed);

    return allows(rule, "image", image->image_id, image->status, image_status_word(image->status),
                  image->transition_status,
                  only < 0 ? NULL : image_status_word((enum image_status) only), err);
}

bool volume_allows(const struct volume *volume, const char *action, struct im_err *err) {
    const struct verb_rule *rule = verb_rule_find(volume_rules, action);
    int only = only_status(rule->allowed);

    if (volume->busy)
        return im_fail(err, IM_WRONG_STATE, "volume [%s] is busy, %s now, please try later",
                       volume->volume_id, rule->cannot);
    return allows(rule, "volume", volume->volume_id, volume->status,
                  volume_status_word(volume->status), volume->transition_status,
                  only < 0 ? NULL : volume_status_word((enum volume_status) only), err);
}

bool snapshot_allows(const struct snapshot *snapshot, const char *action, struct im_err *err) {
    const struct verb_rule *rule = verb_rule_find(snapshot_rules, action);
    int only = only_status(rule->allowed);

    return allows(rule, "snapshot", snapshot->snapshot_id, snapshot->status,
                  snapshot_status_word(snapshot->status), snapshot->transition_status,
                  only < 0 ? NULL : snapshot_status_word((enum snapshot_status) only), err);
}

bool text_fits(const char *what, const char *text, size_t max, struct im_err *err) {
    size_t len = text ? strlen(text) : 0;

    if (len > max)
        return im_fail(err, IM_BAD_MESSAGE, "%s is %zu bytes long, at most %zu are allowed", what,
                       len, max);
    if (len > 0 && !im_utf8_valid(text, len))
        return im_fail(err, IM_BAD_MESSAGE, "%s is not valid UTF-8", what);
    for (size_t i = 0; i < len; i++)
        if (((unsigned char) text[i] < ' ' && text[i] != '\n' && text[i] != '\t') ||
            text[i] == 0x7f)
            return im_fail(err, IM_BAD_MESSAGE, "%s contains a control character", what);
    return true;
}

bool ids_unique(const char *parameter, const struct im_strings *ids, struct im_strings *ret_unique,
                struct im_err *err) {
    for (size_t i = 0; i < ids->count; i++) {
        if (!im_str_empty(ids->items[i]) && !im_strings_has(ret_unique, ids->items[i]))
            im_strings_add(ret_unique, ids->items[i]);
    }
    if (ret_unique->count == 0)
        return im_fail(err, IM_BAD_MESSAGE, "parameter [%s.n] is missing", parameter);
    if (ret_unique->count > INSTANCES_MAX_PER_CALL)
        return im_fail(err, IM_BAD_MESSAGE,
                       "parameter [%s.n] names %zu resources, at most %d fit one call", parameter,
                       ret_unique->count, INSTANCES_MAX_PER_CALL);
    return true;
}

void query_restrict(const struct caller *caller, struct query *query, const char *key,
                    const char *gone) {
    bool asked = gone == NULL;

    for (size_t i = 0; i < query->condition_count; i++)
        if (strcmp(query->conditions[i].field, "status") == 0 ||
            strcmp(query->conditions[i].field, key) == 0)
            asked = true;
    if (!asked)
        query_add(query, "status", CONDITION_NOT_IN, gone);
    if (!caller->admin) {
        free(query->visible_to);
        query->visible_to = im_strdup(caller->user_id);
    }
}
