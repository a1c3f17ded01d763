/* SPDX-License-Identifier: Apache-2.0 */
/* The second pool: layers under the names they have in the first, a note for each that tells its
 * parent and digest, and a note for each snapshot, written last. What the notes say was written by
 * us, but the pool may lie where others write, or rot: all of it is checked. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cloud-private.h"

enum { COPIES_MAX = 4096, WAIT_MS = 200 };

static const char layer_mark[] = "layer 1", snapshot_mark[] = "snapshot 1";

/* --- Opening ---------------------------------------------------------------------------------- */

bool second_configured(const struct cloud *cloud, struct im_err *err) {
    return !im_str_empty(cloud->config.second_uri) ||
           im_fail(err, IM_UNSUPPORTED,
                   "there is no second pool: [storage] second in the configuration names one");
}

static bool second_used(struct cloud *cloud, bool *ret_used, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;

    if (conn == NULL)
        return false;
    rows = db_query(conn, err, "SELECT 1 FROM second_pools WHERE uri = $1", "t",
                    cloud->config.second_uri);
    return rows != NULL && db_next(rows, ret_used, err);
}

static bool used_body(struct db_conn *conn, void *arg, struct im_err *err) {
    return db_exec(conn, NULL, err,
                   "INSERT INTO second_pools (uri, used_time) VALUES ($1, $2)"
                   " ON CONFLICT (uri) DO NOTHING",
                   "ti", (const char *) arg, im_now_s());
}

/* Anew for each piece of work, so that it may come and go like a file system that is mounted. One
 * that was used before is not made anew where it is not. */
bool second_open(struct cloud *cloud, struct storage_pool **ret_pool, struct im_err *err) {
    const char *uri = cloud->config.second_uri;
    IM_AUTO(storage_close_auto) struct storage_pool *pool = NULL;
    struct im_err trouble = {0};
    bool used = false;

    if (!second_configured(cloud, err) || !second_used(cloud, &used, err))
        return false;
    pool = used ? storage_open_used(uri, &trouble) : storage_open(uri, &trouble);
    if (pool == NULL)
        return im_fail(err, trouble.code == IM_NOT_FOUND ? IM_NO_RESOURCE : trouble.code,
                       "second pool: %s", trouble.text);
    if (!used && !cloud_transact(cloud, used_body, (void *) uri, err))
        return false;
    *ret_pool = im_steal(&pool);
    return true;
}

/* --- Who is at work in it --------------------------------------------------------------------- */

static bool cancelled(const volatile bool *cancel) { return cancel != NULL && *cancel; }

/* Call with the lock held. */
static void wait_a_moment(struct cloud *cloud) {
    struct timespec until = im_wall_after(WAIT_MS);

    pthread_cond_timedwait(&cloud->second_free, &cloud->second_lock, &until);
}

bool second_enter(struct cloud *cloud, const volatile bool *cancel, struct im_err *err) {
    bool entered;

    pthread_mutex_lock(&cloud->second_lock);
    while (cloud->second_sweeping && !cancelled(cancel))
        wait_a_moment(cloud);
    entered = !cloud->second_sweeping;
    cloud->second_users += entered;
    pthread_mutex_unlock(&cloud->second_lock);
    return entered || im_fail(err, IM_CANCELLED, "cancelled while the second pool was cleaned up");
}

/* The last one sweeps, if that is asked for. */
void second_leave(struct cloud *cloud, struct storage_pool *pool, bool sweep) {
    struct im_err err = {0};

    pthread_mutex_lock(&cloud->second_lock);
    cloud->second_dirty = cloud->second_dirty || sweep;
    cloud->second_sweeping = --cloud->second_users == 0 && cloud->second_dirty;
    sweep = cloud->second_sweeping;
    if (sweep)
        cloud->second_dirty = false;
    pthread_mutex_unlock(&cloud->second_lock);
    if (!sweep)
        return;
    if (!second_sweep(pool, &err))
        im_warn("cloud", "second pool: what no copy needs stays for now: %s", err.text);
    pthread_mutex_lock(&cloud->second_lock);
    cloud->second_sweeping = false;
    pthread_cond_broadcast(&cloud->second_free);
    pthread_mutex_unlock(&cloud->second_lock);
}

bool layer_claim(struct cloud *cloud, const char *name, const volatile bool *cancel,
                 struct im_err *err) {
    bool claimed;

    pthread_mutex_lock(&cloud->second_lock);
    while (im_strings_has(&cloud->layers_claimed, name) && !cancelled(cancel))
        wait_a_moment(cloud);
    claimed = !im_strings_has(&cloud->layers_claimed, name);
    if (claimed)
        im_strings_add(&cloud->layers_claimed, name);
    pthread_mutex_unlock(&cloud->second_lock);
    return claimed ||
           im_fail(err, IM_CANCELLED, "cancelled while another job copied layer %s", name);
}

void layer_release(struct cloud *cloud, const char *name) {
    pthread_mutex_lock(&cloud->second_lock);
    im_strings_drop(&cloud->layers_claimed, name);
    pthread_cond_broadcast(&cloud->second_free);
    pthread_mutex_unlock(&cloud->second_lock);
}

/* --- Notes of layers -------------------------------------------------------------------------- */

static bool bad_note(const char *name, const char *what, struct im_err *err) {
    return im_fail(err, IM_BAD_MESSAGE, "the note of %s in the second pool is no good: %s", name,
                   what);
}

/* The note as a document, if it is of that kind and of that name. */
static struct wire_doc *note_load(struct storage_pool *pool, const char *name, const char *mark,
                                  struct im_err *err) {
    IM_AUTO(free_auto) char *text = NULL;
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    struct im_err trouble = {0};

    if (!storage_note_get(pool, name, &text, err))
        return NULL;
    doc = wire_parse(text, strlen(text), &trouble);
    if (doc == NULL) {
        bad_note(name, trouble.text, err);
        return NULL;
    }
    if (strcmp(wire_get_text(wire_root(doc), "imprint", ""), mark) != 0) {
        bad_note(name, "another program or version wrote it", err);
        return NULL;
    }
    return im_steal(&doc);
}

static bool digest_fits(const char *digest) {
    return im_starts_with(digest, "sha256:") && strlen(digest) == DIGEST_TEXT - 1 &&
           strspn(digest + 7, "0123456789abcdef") == 64;
}

static bool layer_name_fits(const char *name) {
    return im_id_valid(name) && strlen(name) < 49 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(name);
}

bool layer_copy_parse(const struct wire_value *root, struct layer_copy *ret_copy,
                      struct im_err *err) {
    const char *name = wire_get_text(root, "name", ""), *parent = wire_get_text(root, "parent", "");
    const char *digest = wire_get_text(root, "file_digest", "");
    const char *source = wire_get_text(root, "digest", "");
    struct layer_copy copy = {.size_bytes = wire_get_int(root, "size_bytes", -1),
                              .file_bytes = wire_get_int(root, "file_bytes", -1),
                              .create_time = wire_get_int(root, "create_time", 0),
                              .damaged = wire_get_int(root, "damaged", 0) != 0};

    if (!layer_name_fits(name) || (parent[0] != '\0' && !layer_name_fits(parent)) ||
        strcmp(name, parent) == 0)
        return im_fail(err, IM_BAD_MESSAGE, "its layer or parent is no name");
    if (copy.size_bytes <= 0 || copy.size_bytes % 512 != 0 ||
        (uint64_t) copy.size_bytes > STORAGE_SIZE_MAX || copy.file_bytes <= 0 ||
        copy.create_time < 0 || !digest_fits(digest))
        return im_fail(err, IM_BAD_MESSAGE, "sizes or digest are out of range");
    snprintf(copy.name, sizeof(copy.name), "%s", name);
    snprintf(copy.parent, sizeof(copy.parent), "%s", parent);
    snprintf(copy.digest, sizeof(copy.digest), "%s", digest);
    snprintf(copy.source_digest, sizeof(copy.source_digest), "%s",
             digest_fits(source) ? source : "");
    *ret_copy = copy;
    return true;
}

/* The members, without braces. */
void layer_copy_write(struct wire_writer *writer, const struct layer_copy *copy) {
    wire_text(writer, "name", copy->name);
    wire_text(writer, "parent", copy->parent);
    wire_int(writer, "size_bytes", copy->size_bytes);
    wire_int(writer, "file_bytes", copy->file_bytes);
    wire_text(writer, "file_digest", copy->digest);
    wire_text(writer, "digest", copy->source_digest);
    wire_int(writer, "create_time", copy->create_time);
    wire_int(writer, "damaged", copy->damaged);
}

bool layer_copy_get(struct storage_pool *pool, const char *name, struct layer_copy *ret_copy,
                    struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = note_load(pool, name, layer_mark, err);
    struct layer_copy copy;
    struct im_err trouble = {0};

    if (doc == NULL)
        return false;
    if (!layer_copy_parse(wire_root(doc), &copy, &trouble))
        return bad_note(name, trouble.text, err);
    if (strcmp(copy.name, name) != 0)
        return bad_note(name, "it is of another layer", err);
    *ret_copy = copy;
    return true;
}

bool layer_copy_put(struct storage_pool *pool, const struct layer_copy *copy, struct im_err *err) {
    struct wire_writer writer = {0};
    bool put;

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "imprint", layer_mark);
    layer_copy_write(&writer, copy);
    wire_object_end(&writer);
    put = storage_note_put(pool, copy->name, writer.text.data, err);
    im_str_done(&writer.text);
    return put;
}

bool layer_copies_load(struct storage_pool *pool, const char *tip, struct layer_copy **ret_copies,
                       size_t *ret_count, struct im_err *err) {
    IM_AUTO(free_auto) struct layer_copy *copies = NULL;
    size_t count = 0, capacity = 0;
    char next[IM_ID_MAX];

    snprintf(next, sizeof(next), "%s", tip);
    while (next[0] != '\0') {
        struct storage_usage usage;

        if (count == COPIES_MAX)
            return bad_note(tip, "its parents have no end", err);
        im_grow(&copies, count, &capacity);
        if (!layer_copy_get(pool, next, &copies[count], err) ||
            !storage_usage(pool, next, &usage, err))
            return false;
        snprintf(next, sizeof(next), "%s", copies[count++].parent);
    }
    *ret_copies = im_steal(&copies);
    *ret_count = count;
    return true;
}

bool layer_copies_whole(const struct layer_copy *copies, size_t count, struct im_err *err) {
    for (size_t i = 0; i < count; i++)
        if (copies[i].damaged)
            return im_fail(err, IM_BAD_IMAGE, "the copy of layer %s is damaged", copies[i].name);
    return true;
}

bool layer_copy_whole(struct storage_pool *pool, const char *name) {
    IM_AUTO(free_auto) struct layer_copy *copies = NULL;
    struct im_err err = {0};
    size_t count;

    return layer_copies_load(pool, name, &copies, &count, &err) &&
           layer_copies_whole(copies, count, &err);
}

/* --- Notes of snapshots ----------------------------------------------------------------------- */

/* What a copy keeps of a snapshot, and the range of its numbers. */
static const struct {
    const char *name;
    int64_t max; /* of a number; of a text, the bytes */
} kept[] = {{"snapshot_name", 255},
            {"description", 4096},
            {"snapshot_type", 1},
            {"parent_id", IM_ID_MAX - 1},
            {"root_id", IM_ID_MAX - 1},
            {"is_taken", 1},
            {"size", INT64_C(1) << 40},
            {"virtual_size", INT64_C(1) << 40},
            {"snapshot_time", INT64_C(1) << 40},
            {"create_time", INT64_C(1) << 40},
            {"owner", IM_ID_MAX - 1},
            {"consistency", 8},
            {"is_manually", 1},
            {"resource_id", IM_ID_MAX - 1},
            {"resource_name", 255},
            {"resource_type", 16},
            {"own_bytes", INT64_C(1) << 60},
            {"disk_size", 65536},
            {"volume_type", 100000},
            {"image_id", IM_ID_MAX - 1},
            {"platform", 32},
            {"firmware", 16},
            {"instance_type", 64}};
enum { KEPT = sizeof(kept) / sizeof(kept[0]) };

void snapshot_copy_write(struct wire_writer *writer, const char *key,
                         const struct snapshot *snapshot) {
    wire_object_begin(writer, key);
    wire_text(writer, "snapshot_id", snapshot->snapshot_id);
    for (size_t i = 0; i < KEPT; i++) {
        const struct field *field = object_field(&snapshot_type, kept[i].name);

        if (field->type == FIELD_TEXT)
            wire_text(writer, field->name, *field_text(field, snapshot));
        else
            wire_int(writer, field->name, field_int(field, snapshot));
    }
    wire_object_end(writer);
}

static bool field_parse(const struct wire_value *value, size_t i, struct snapshot *snapshot,
                        struct im_err *err) {
    const struct field *field = object_field(&snapshot_type, kept[i].name);
    const char *text = wire_as_text(value, "");
    int64_t number = wire_as_int(value, 0);

    if (field->type == FIELD_TEXT) {
        if (!text_fits(field->name, text, (size_t) kept[i].max, err))
            return false;
        im_replace(field_text(field, snapshot), text);
        return true;
    }
    if (number < 0 || number > kept[i].max)
        return im_fail(err, IM_BAD_MESSAGE, "%s is out of range", field->name);
    field_set_int(field, snapshot, number);
    return true;
}

struct snapshot *snapshot_copy_parse(const struct wire_value *value, struct im_err *err) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = object_new(&snapshot_type);
    const char *id = wire_get_text(value, "snapshot_id", "");

    if (!im_id_valid(id) || !im_starts_with(id, "ss-")) {
        im_fail(err, IM_BAD_MESSAGE, "snapshot_id is none");
        return NULL;
    }
    im_replace(&snapshot->snapshot_id, id);
    for (size_t i = 0; i < KEPT; i++)
        if (!field_parse(wire_get(value, kept[i].name), i, snapshot, err))
            return NULL;
    if (!im_str_equal(snapshot->resource_type, "volume") &&
        !im_str_equal(snapshot->resource_type, "instance")) {
        im_fail(err, IM_BAD_MESSAGE, "resource_type is neither instance nor volume");
        return NULL;
    }
    if (!im_id_valid(snapshot->resource_id) || snapshot->disk_size == 0) {
        im_fail(err, IM_BAD_MESSAGE, "resource_id or disk_size is out of range");
        return NULL;
    }
    return im_steal(&snapshot);
}

bool snapshot_copy_put(struct storage_pool *pool, const struct snapshot *snapshot, const char *tip,
                       struct im_err *err) {
    struct wire_writer writer = {0};
    bool put;

    wire_object_begin(&writer, NULL);
    wire_text(&writer, "imprint", snapshot_mark);
    wire_text(&writer, "layer", tip);
    wire_int(&writer, "copy_time", im_now_s());
    snapshot_copy_write(&writer, "snapshot", snapshot);
    wire_object_end(&writer);
    put = storage_note_put(pool, snapshot->snapshot_id, writer.text.data, err);
    im_str_done(&writer.text);
    return put;
}

bool snapshot_copy_get(struct storage_pool *pool, const char *id, struct snapshot **ret_snapshot,
                       char ret_tip[IM_ID_MAX], struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = note_load(pool, id, snapshot_mark, err);
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;
    const char *tip = doc ? wire_get_text(wire_root(doc), "layer", "") : "";
    struct im_err trouble = {0};

    if (doc == NULL)
        return false;
    snapshot = snapshot_copy_parse(wire_get(wire_root(doc), "snapshot"), &trouble);
    if (snapshot == NULL)
        return bad_note(id, trouble.text, err);
    if (strcmp(snapshot->snapshot_id, id) != 0 || !layer_name_fits(tip))
        return bad_note(id, "it is of another snapshot, or of no layer", err);
    snapshot->copy_time = wire_get_int(wire_root(doc), "copy_time", 0);
    snprintf(ret_tip, IM_ID_MAX, "%s", tip);
    *ret_snapshot = im_steal(&snapshot);
    return true;
}

/* --- What no copy needs any more -------------------------------------------------------------- */

struct sweep {
    struct storage_pool *pool;
    struct im_strings notes;
    struct storage_entry *entries;
    bool *needed; /* beside them */
    size_t count;
};

static void sweep_done(struct sweep *sweep) {
    im_strings_done(&sweep->notes);
    free(sweep->entries);
    free(sweep->needed);
}

/* Marks the whole layer of that name; *ret_before whether it was marked. NULL if it is not there.
 */
static const struct storage_entry *need(struct sweep *sweep, const char *name, bool *ret_before) {
    const struct storage_entry *found = NULL;

    for (size_t i = 0; i < sweep->count; i++)
        if (!sweep->entries[i].partial && strcmp(sweep->entries[i].name, name) == 0) {
            *ret_before = sweep->needed[i];
            sweep->needed[i] = true;
            found = &sweep->entries[i];
        }
    return found;
}

/* By what the files themselves name as their parents. */
static bool need_chain(struct sweep *sweep, const char *snapshot_id, struct im_err *err) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = NULL;
    char next[STORAGE_NAME_MAX];

    if (!snapshot_copy_get(sweep->pool, snapshot_id, &snapshot, next, err))
        return false;
    while (next[0] != '\0') {
        bool before = false;
        const struct storage_entry *entry = need(sweep, next, &before);

        if (entry == NULL)
            return im_fail(err, IM_NOT_FOUND,
                           "the copy of snapshot [%s] is not whole, layer %s is missing or cannot "
                           "be read",
                           snapshot_id, next);
        if (before)
            return true;
        snprintf(next, sizeof(next), "%s", entry->parent);
    }
    return true;
}

static bool sweep_one(struct sweep *sweep, size_t i, struct im_err *err) {
    const struct storage_entry *entry = &sweep->entries[i];

    if (sweep->needed[i] || !im_starts_with(entry->name, "l-"))
        return true;
    if (entry->partial)
        return storage_put_undo(sweep->pool, entry->name, err);
    return storage_note_remove(sweep->pool, entry->name, err) &&
           storage_remove(sweep->pool, entry->name, err);
}

/* Where one snapshot's note cannot be read, nobody knows what it needs, and nothing goes. */
bool second_sweep(struct storage_pool *pool, struct im_err *err) {
    IM_AUTO(sweep_done) struct sweep sweep = {.pool = pool};

    if (!storage_note_list(pool, &sweep.notes, err) ||
        !storage_list(pool, &sweep.entries, &sweep.count, err))
        return false;
    sweep.needed = im_alloc((sweep.count + 1) * sizeof(*sweep.needed));
    for (size_t i = 0; i < sweep.notes.count; i++)
        if (im_starts_with(sweep.notes.items[i], "ss-") &&
            !need_chain(&sweep, sweep.notes.items[i], err))
            return false;
    for (size_t i = 0; i < sweep.count; i++)
        if (!sweep_one(&sweep, i, err))
            return false;
    return true;
}
