/* SPDX-License-Identifier: Apache-2.0 */
/* A pool that keeps the contract and no bytes: for tests of what stands above storage. Layers are
 * rows in memory; only imports have a real file, as a worker fills it. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "storage-private.h"

/* What an empty layer takes in a local pool. */
#define EMPTY_BYTES 12288u
#define POOL_BYTES (1ull << 44)

struct memory {
    pthread_mutex_t lock; /* guards the rest */
    struct storage_entry *layers;
    struct import {
        ino_t inode; /* of the file that is being filled; 0: none */
        dev_t device;
    } * imports; /* beside layers */
    size_t count, capacity;
};

static void *memory_open(const char *address, bool used, struct im_err *err) {
    struct memory *memory;

    (void) used; /* it is always new */
    if (address[0] != '\0') {
        im_fail(err, IM_BAD_MESSAGE, "pool memory:%s: nothing may follow the colon", address);
        return NULL;
    }
    memory = im_alloc(sizeof(*memory));
    pthread_mutex_init(&memory->lock, NULL);
    return memory;
}

static void memory_close(void *handle) {
    struct memory *memory = handle;

    pthread_mutex_destroy(&memory->lock);
    free(memory->layers);
    free(memory->imports);
    free(memory);
}

static void memory_set_owner(void *handle, uint32_t uid, uint32_t gid) {
    (void) handle, (void) uid, (void) gid;
}

static void unlock(pthread_mutex_t **lock) { pthread_mutex_unlock(*lock); }
/* Held to the end of the block. */
#define LOCKED(memory)                                                                             \
    IM_AUTO(unlock) pthread_mutex_t *held_ = &(memory)->lock;                                      \
    pthread_mutex_lock(held_)

static struct storage_entry *find(const struct memory *memory, const char *name, bool partial) {
    for (size_t i = 0; i < memory->count; i++)
        if (strcmp(memory->layers[i].name, name) == 0 && memory->layers[i].partial == partial)
            return &memory->layers[i];
    return NULL;
}

/* A whole layer. */
static struct storage_entry *layer_of(const struct memory *memory, const char *name,
                                      struct im_err *err) {
    struct storage_entry *layer = find(memory, name, false);

    if (layer == NULL)
        im_fail(err, IM_NOT_FOUND, "layer %s is not in the pool", name);
    return layer;
}

static struct storage_entry *add(struct memory *memory, const char *name) {
    size_t capacity = memory->capacity;
    struct storage_entry *layer;

    im_grow(&memory->layers, memory->count, &memory->capacity);
    if (memory->capacity != capacity)
        memory->imports =
            im_realloc_array(memory->imports, memory->capacity, sizeof(*memory->imports));
    memory->imports[memory->count] = (struct import){0};
    layer = &memory->layers[memory->count++];
    *layer = (struct storage_entry){.usage.own_bytes = EMPTY_BYTES};
    snprintf(layer->name, sizeof(layer->name), "%s", name);
    return layer;
}

static void drop(struct memory *memory, const char *name, bool partial) {
    struct storage_entry *layer = find(memory, name, partial);
    size_t at;

    if (layer == NULL)
        return;
    at = (size_t) (layer - memory->layers);
    memory->count--;
    memory->layers[at] = memory->layers[memory->count];
    memory->imports[at] = memory->imports[memory->count];
}

static bool make_head(struct memory *memory, const char *name, const char *parent, uint64_t size,
                      struct im_err *err) {
    struct storage_entry *layer = find(memory, name, false);

    if (layer != NULL)
        return (!layer->frozen && strcmp(layer->parent, parent) == 0 &&
                layer->usage.virtual_bytes == size) ||
               im_fail(err, IM_EXISTS, "layer %s is in the pool already", name);
    layer = add(memory, name);
    snprintf(layer->parent, sizeof(layer->parent), "%s", parent);
    layer->usage.virtual_bytes = size;
    return true;
}

static bool memory_create(void *handle, const char *name, uint64_t size, struct im_err *err) {
    LOCKED((struct memory *) handle);

    return make_head(handle, name, "", size, err);
}

static bool memory_clone(void *handle, const char *parent, const char *name, uint64_t size,
                         struct im_err *err) {
    LOCKED((struct memory *) handle);
    const struct storage_entry *from = layer_of(handle, parent, err);

    if (from == NULL)
        return false;
    if (size < from->usage.virtual_bytes)
        return im_fail(err, IM_BAD_MESSAGE, "layer %s can not be smaller than its parent %s", name,
                       parent);
    return make_head(handle, name, parent, size, err);
}

static bool memory_freeze_begin(void *handle, const char *head, const char *next, char *ret_frozen,
                                char *ret_head, struct im_err *err) {
    LOCKED((struct memory *) handle);
    const struct storage_entry *layer = layer_of(handle, head, err);

    if (layer == NULL || !make_head(handle, next, head, layer->usage.virtual_bytes, err))
        return false;
    snprintf(ret_frozen, STORAGE_NAME_MAX, "%s", head);
    snprintf(ret_head, STORAGE_NAME_MAX, "%s", next);
    return true;
}

static bool memory_freeze_end(void *handle, const char *frozen, struct im_err *err) {
    LOCKED((struct memory *) handle);
    struct storage_entry *layer = layer_of(handle, frozen, err);

    if (layer == NULL)
        return false;
    layer->frozen = true;
    return true;
}

static bool memory_freeze_undo(void *handle, const char *head, const char *next,
                               struct im_err *err) {
    LOCKED((struct memory *) handle);
    struct storage_entry *layer = layer_of(handle, head, err);

    if (layer == NULL)
        return false;
    layer->frozen = false;
    drop(handle, next, false);
    return true;
}

static bool memory_resize(void *handle, const char *head, uint64_t size, struct im_err *err) {
    LOCKED((struct memory *) handle);
    struct storage_entry *layer = layer_of(handle, head, err);

    if (layer == NULL)
        return false;
    if (layer->frozen)
        return im_fail(err, IM_UNSUPPORTED, "layer %s is frozen and never changes", head);
    if (size < layer->usage.virtual_bytes)
        return im_fail(err, IM_UNSUPPORTED,
                       "layer %s: a disk of %" PRIu64 " bytes cannot shrink to %" PRIu64, head,
                       layer->usage.virtual_bytes, size);
    layer->usage.virtual_bytes = size;
    return true;
}

static bool memory_remove(void *handle, const char *name, struct im_err *err) {
    LOCKED((struct memory *) handle);

    (void) err;
    drop(handle, name, false);
    drop(handle, name, true);
    return true;
}

/* --- Imports ---------------------------------------------------------------------------------- */

static bool memory_import_begin(void *handle, const char *name, int *ret_fd, struct im_err *err) {
    struct memory *memory = handle;
    IM_AUTO(fd_auto) int fd = memfd_create(name, MFD_CLOEXEC);
    struct stat st;
    LOCKED(memory);

    if (fd < 0 || fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot make layer %s", name);
    drop(memory, name, false);
    drop(memory, name, true);
    add(memory, name)->partial = true;
    memory->imports[memory->count - 1] = (struct import){st.st_ino, st.st_dev};
    *ret_fd = im_steal_fd(&fd);
    return true;
}

static bool memory_import_end(void *handle, const char *name, int fd, struct im_err *err) {
    struct memory *memory = handle;
    struct storage_entry *layer;
    struct import *import;
    uint64_t size;
    struct stat st;
    LOCKED(memory);

    if (fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "layer %s: cannot look at its file", name);
    layer = find(memory, name, true);
    if (layer == NULL)
        layer = find(memory, name, false);
    import = layer == NULL ? NULL : &memory->imports[layer - memory->layers];
    if (import == NULL || import->inode != st.st_ino || import->device != st.st_dev)
        return im_fail(err, IM_NOT_FOUND, "layer %s: no such import is under way", name);
    if (!storage_imported_size(fd, name, &size, err))
        return false;
    layer->partial = false;
    layer->frozen = true;
    layer->usage = (struct storage_usage){size, (uint64_t) st.st_blocks * 512};
    return true;
}

/* --- Looking ---------------------------------------------------------------------------------- */

static bool memory_usage(void *handle, const char *name, struct storage_usage *ret_usage,
                         struct im_err *err) {
    LOCKED((struct memory *) handle);
    const struct storage_entry *layer = layer_of(handle, name, err);

    if (layer == NULL)
        return false;
    *ret_usage = layer->usage;
    return true;
}

static bool memory_space(void *handle, struct storage_space *ret_space, struct im_err *err) {
    struct memory *memory = handle;
    uint64_t used = 0;
    LOCKED(memory);

    (void) err;
    for (size_t i = 0; i < memory->count; i++)
        used += memory->layers[i].usage.own_bytes;
    *ret_space = (struct storage_space){POOL_BYTES, used < POOL_BYTES ? POOL_BYTES - used : 0};
    return true;
}

static bool memory_attach_info(void *handle, const char *name, struct storage_source *ret_source,
                               struct im_err *err) {
    LOCKED((struct memory *) handle);

    if (layer_of(handle, name, err) == NULL)
        return false;
    *ret_source = (struct storage_source){
        .kind = STORAGE_SOURCE_FILE, .format = "qcow2", .path = im_printf("/memory/%s", name)};
    return true;
}

static bool memory_list(void *handle, struct storage_entry **ret_entries, size_t *ret_count,
                        struct im_err *err) {
    struct memory *memory = handle;
    LOCKED(memory);

    (void) err;
    *ret_entries = im_alloc(memory->count * sizeof(**ret_entries));
    for (size_t i = 0; i < memory->count; i++)
        (*ret_entries)[i] = memory->layers[i];
    *ret_count = memory->count;
    return true;
}

const struct storage_ops storage_memory = {
    .scheme = "memory",
    .open = memory_open,
    .close = memory_close,
    .set_owner = memory_set_owner,
    .create = memory_create,
    .clone = memory_clone,
    .freeze_begin = memory_freeze_begin,
    .freeze_end = memory_freeze_end,
    .freeze_undo = memory_freeze_undo,
    .resize = memory_resize,
    .remove = memory_remove,
    .import_begin = memory_import_begin,
    .import_end = memory_import_end,
    .usage = memory_usage,
    .space = memory_space,
    .attach_info = memory_attach_info,
    .list = memory_list,
};
