/* SPDX-License-Identifier: Apache-2.0 */
/* The wrapper over the back ends: checks names and sizes, sees that failures have a reason, and
 * fails on purpose for tests. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "qcow2/qcow2.h"
#include "storage-private.h"

static const struct storage_ops *const back_ends[] = {&storage_local, &storage_memory};

static struct storage_pool *open_pool(const char *uri, bool used, struct im_err *err) {
    const char *colon = strchr(uri, ':');

    for (size_t i = 0; colon != NULL && i < sizeof(back_ends) / sizeof(back_ends[0]); i++) {
        const struct storage_ops *ops = back_ends[i];
        struct storage_pool *pool;
        void *handle;

        if (strlen(ops->scheme) != (size_t) (colon - uri) || !im_starts_with(uri, ops->scheme))
            continue;
        handle = ops->open(colon + 1, used, err);
        if (handle == NULL)
            return NULL;
        pool = im_alloc(sizeof(*pool));
        pool->ops = ops;
        pool->handle = handle;
        pool->uri = im_strdup(uri);
        return pool;
    }
    im_fail(err, IM_BAD_MESSAGE, "pool %s: the URI should begin with local: or memory:", uri);
    return NULL;
}

struct storage_pool *storage_open(const char *uri, struct im_err *err) {
    return open_pool(uri, false, err);
}

struct storage_pool *storage_open_used(const char *uri, struct im_err *err) {
    return open_pool(uri, true, err);
}

void storage_close(struct storage_pool *pool) {
    if (pool == NULL)
        return;
    pool->ops->close(pool->handle);
    free(pool->uri);
    free(pool);
}

const char *storage_uri(const struct storage_pool *pool) { return pool->uri; }

void storage_set_owner(struct storage_pool *pool, uint32_t uid, uint32_t gid) {
    pool->ops->set_owner(pool->handle, uid, gid);
}

/* --- Faults ----------------------------------------------------------------------------------- */

struct storage_pool *storage_faulty(struct storage_pool *inner) {
    inner->faulty = true;
    return inner;
}

void storage_faulty_set(struct storage_pool *pool, unsigned n, enum im_code code, bool after) {
    assert(pool->faulty);
    pool->fault_at = n;
    pool->fault_code = code;
    pool->fault_after = after;
    pool->calls = 0;
}

unsigned storage_faulty_calls(const struct storage_pool *pool) {
    return __atomic_load_n(&pool->calls, __ATOMIC_RELAXED);
}

/* The number of this call; machines are made in many threads. */
static unsigned count_call(struct storage_pool *pool) {
    return pool->faulty ? __atomic_add_fetch(&pool->calls, 1, __ATOMIC_RELAXED) : 0;
}

static bool fault(const struct storage_pool *pool, unsigned call, bool after, struct im_err *err) {
    return call != 0 && call == pool->fault_at && pool->fault_after == after &&
           !im_fail(err, pool->fault_code, "call %u of the pool fails on purpose", call);
}

static bool told(bool done, const char *verb, const char *name, const struct im_err *err) {
    assert(done || err->code != IM_OK);
    im_debug("storage", "%s %s%s%s", verb, name, done ? "" : ": ", done ? "" : err->text);
    return done;
}

/* Counts the call, fails it if it is the one, sees that a failure has a reason, and writes down at
 * debug level what was done. */
#define CALL(pool, verb, name, err, call)                                                          \
    __extension__({                                                                                \
        unsigned call_ = count_call(pool);                                                         \
        told(!fault((pool), call_, false, (err)) && (call) && !fault((pool), call_, true, (err)),  \
             (verb), (name), (err));                                                               \
    })

/* --- Checks ----------------------------------------------------------------------------------- */

static bool name_fits(const char *name, size_t max, struct im_err *err) {
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-@");

    if (len == 0 || name[len] != '\0' || len >= max || name[0] == '-')
        return im_fail(err, IM_BAD_MESSAGE, "layer name [%.64s] is not made of [a-z0-9-]", name);
    return true;
}

static bool new_name_fits(const char *name, struct im_err *err) {
    if (strchr(name, '@') != NULL)
        return im_fail(err, IM_BAD_MESSAGE, "layer name [%.64s] is not made of [a-z0-9-]", name);
    return name_fits(name, 49, err);
}

static bool size_fits(uint64_t size, struct im_err *err) {
    if (size == 0 || size % 512 != 0 || size > STORAGE_SIZE_MAX)
        return im_fail(err, IM_BAD_MESSAGE,
                       "size %" PRIu64 " should be a multiple of 512 and at most %" PRIu64, size,
                       (uint64_t) STORAGE_SIZE_MAX);
    return true;
}

/* --- Verbs ------------------------------------------------------------------------------------ */

bool storage_create(struct storage_pool *pool, const char *name, uint64_t size_bytes,
                    struct im_err *err) {
    return new_name_fits(name, err) && size_fits(size_bytes, err) &&
           CALL(pool, "create", name, err, pool->ops->create(pool->handle, name, size_bytes, err));
}

bool storage_clone(struct storage_pool *pool, const char *parent, const char *name,
                   uint64_t size_bytes, struct im_err *err) {
    return name_fits(parent, STORAGE_NAME_MAX, err) && new_name_fits(name, err) &&
           size_fits(size_bytes, err) &&
           CALL(pool, "clone", name, err,
                pool->ops->clone(pool->handle, parent, name, size_bytes, err));
}

bool storage_freeze_begin(struct storage_pool *pool, const char *head, const char *next,
                          char ret_frozen[STORAGE_NAME_MAX], char ret_head[STORAGE_NAME_MAX],
                          struct im_err *err) {
    return name_fits(head, STORAGE_NAME_MAX, err) && new_name_fits(next, err) &&
           CALL(pool, "freeze_begin", head, err,
                pool->ops->freeze_begin(pool->handle, head, next, ret_frozen, ret_head, err));
}

bool storage_freeze_end(struct storage_pool *pool, const char *frozen, struct im_err *err) {
    return name_fits(frozen, STORAGE_NAME_MAX, err) &&
           CALL(pool, "freeze_end", frozen, err, pool->ops->freeze_end(pool->handle, frozen, err));
}

bool storage_freeze_undo(struct storage_pool *pool, const char *head, const char *next,
                         struct im_err *err) {
    return name_fits(head, STORAGE_NAME_MAX, err) && new_name_fits(next, err) &&
           CALL(pool, "freeze_undo", head, err,
                pool->ops->freeze_undo(pool->handle, head, next, err));
}

bool storage_sync(struct storage_pool *pool, const char *name, struct im_err *err) {
    return name_fits(name, STORAGE_NAME_MAX, err) &&
           CALL(pool, "sync", name, err, pool->ops->sync(pool->handle, name, err));
}

bool storage_parent(struct storage_pool *pool, const char *name, char ret_parent[STORAGE_NAME_MAX],
                    struct im_err *err) {
    return name_fits(name, STORAGE_NAME_MAX, err) &&
           CALL(pool, "parent", name, err, pool->ops->parent(pool->handle, name, ret_parent, err));
}

bool storage_reparent(struct storage_pool *pool, const char *head, const char *parent,
                      struct im_err *err) {
    return name_fits(head, STORAGE_NAME_MAX, err) && name_fits(parent, STORAGE_NAME_MAX, err) &&
           CALL(pool, "reparent", head, err, pool->ops->reparent(pool->handle, head, parent, err));
}

bool storage_resize(struct storage_pool *pool, const char *head, uint64_t size_bytes,
                    struct im_err *err) {
    return name_fits(head, STORAGE_NAME_MAX, err) && size_fits(size_bytes, err) &&
           CALL(pool, "resize", head, err, pool->ops->resize(pool->handle, head, size_bytes, err));
}

bool storage_remove(struct storage_pool *pool, const char *name, struct im_err *err) {
    return name_fits(name, STORAGE_NAME_MAX, err) &&
           CALL(pool, "remove", name, err, pool->ops->remove(pool->handle, name, err));
}

bool storage_import_begin(struct storage_pool *pool, const char *name, int *ret_fd,
                          struct im_err *err) {
    return new_name_fits(name, err) &&
           CALL(pool, "import_begin", name, err,
                pool->ops->import_begin(pool->handle, name, ret_fd, err));
}

bool storage_import_end(struct storage_pool *pool, const char *name, int fd, struct im_err *err) {
    return new_name_fits(name, err) &&
           CALL(pool, "import_end", name, err, pool->ops->import_end(pool->handle, name, fd, err));
}

bool storage_read(struct storage_pool *pool, const char *name, int *ret_fd,
                  char ret_parent[STORAGE_NAME_MAX], struct im_err *err) {
    char parent[STORAGE_NAME_MAX] = "";
    int fd = -1;

    if (!name_fits(name, STORAGE_NAME_MAX, err) ||
        !CALL(pool, "read", name, err, pool->ops->read(pool->handle, name, &fd, parent, err))) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    if (ret_parent != NULL)
        memcpy(ret_parent, parent, sizeof(parent));
    *ret_fd = fd;
    return true;
}

bool storage_open_head(struct storage_pool *pool, const char *head, bool writable, int *ret_fd,
                       char ret_parent[STORAGE_NAME_MAX], struct im_err *err) {
    char parent[STORAGE_NAME_MAX] = "";
    IM_AUTO(fd_auto) int fd = -1;

    if (!name_fits(head, STORAGE_NAME_MAX, err) ||
        !CALL(pool, "open_head", head, err,
              pool->ops->open_head(pool->handle, head, writable, &fd, parent, err)))
        return false;
    if (ret_parent != NULL)
        memcpy(ret_parent, parent, sizeof(parent));
    *ret_fd = im_steal_fd(&fd);
    return true;
}

bool storage_put_begin(struct storage_pool *pool, const char *name, int *ret_fd,
                       struct im_err *err) {
    return new_name_fits(name, err) && CALL(pool, "put_begin", name, err,
                                            pool->ops->put_begin(pool->handle, name, ret_fd, err));
}

bool storage_put_end(struct storage_pool *pool, const char *name, const char *parent, int fd,
                     struct im_err *err) {
    return new_name_fits(name, err) &&
           (parent[0] == '\0' || name_fits(parent, STORAGE_NAME_MAX, err)) &&
           CALL(pool, "put_end", name, err,
                pool->ops->put_end(pool->handle, name, parent, fd, err));
}

bool storage_put_undo(struct storage_pool *pool, const char *name, struct im_err *err) {
    return new_name_fits(name, err) &&
           CALL(pool, "put_undo", name, err, pool->ops->put_undo(pool->handle, name, err));
}

bool storage_note_put(struct storage_pool *pool, const char *name, const char *text,
                      struct im_err *err) {
    if (strlen(text) > STORAGE_NOTE_MAX)
        return im_fail(err, IM_BAD_MESSAGE, "note %s is too long for the pool", name);
    return new_name_fits(name, err) &&
           CALL(pool, "note_put", name, err, pool->ops->note_put(pool->handle, name, text, err));
}

bool storage_note_get(struct storage_pool *pool, const char *name, char **ret_text,
                      struct im_err *err) {
    return new_name_fits(name, err) && CALL(pool, "note_get", name, err,
                                            pool->ops->note_get(pool->handle, name, ret_text, err));
}

bool storage_note_remove(struct storage_pool *pool, const char *name, struct im_err *err) {
    return new_name_fits(name, err) &&
           CALL(pool, "note_remove", name, err, pool->ops->note_remove(pool->handle, name, err));
}

bool storage_note_list(struct storage_pool *pool, struct im_strings *ret_names,
                       struct im_err *err) {
    return CALL(pool, "note_list", pool->uri, err,
                pool->ops->note_list(pool->handle, ret_names, err));
}

bool storage_usage(struct storage_pool *pool, const char *name, struct storage_usage *ret_usage,
                   struct im_err *err) {
    return name_fits(name, STORAGE_NAME_MAX, err) &&
           CALL(pool, "usage", name, err, pool->ops->usage(pool->handle, name, ret_usage, err));
}

bool storage_space(struct storage_pool *pool, struct storage_space *ret_space, struct im_err *err) {
    return CALL(pool, "space", pool->uri, err, pool->ops->space(pool->handle, ret_space, err));
}

bool storage_attach_info(struct storage_pool *pool, const char *name,
                         struct storage_source *ret_source, struct im_err *err) {
    return name_fits(name, STORAGE_NAME_MAX, err) &&
           CALL(pool, "attach_info", name, err,
                pool->ops->attach_info(pool->handle, name, ret_source, err));
}

void storage_source_done(struct storage_source *source) {
    free(source->path);
    *source = (struct storage_source){0};
}

bool storage_list(struct storage_pool *pool, struct storage_entry **ret_entries, size_t *ret_count,
                  struct im_err *err) {
    return CALL(pool, "list", pool->uri, err,
                pool->ops->list(pool->handle, ret_entries, ret_count, err));
}

bool storage_imported_size(int fd, const char *name, uint64_t *ret_size, struct im_err *err) {
    struct qcow2_info info = {0};

    if (!qcow2_info_read(fd, &info, err))
        return im_within(err, "layer %s", name);
    if (info.backing[0] != '\0')
        return im_fail(err, IM_BAD_IMAGE, "layer %s: what was imported has a backing file", name);
    *ret_size = info.size_bytes;
    return true;
}
