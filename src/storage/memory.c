/* SPDX-License-Identifier: Apache-2.0 */
/* A pool that keeps the contract and no bytes: for tests of what stands above storage. Layers are
 * rows in memory; only imports have a real file, as a worker fills it. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
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
    struct im_strings note_names, note_texts; /* side by side */
    char *name;
    struct memory *next; /* of those with a name */
};

/* Pools with a name are found again as long as the process lives. */
static pthread_mutex_t named_lock = PTHREAD_MUTEX_INITIALIZER;
static struct memory *named;

static struct memory *memory_new(const char *name) {
    struct memory *memory = im_alloc(sizeof(*memory));

    pthread_mutex_init(&memory->lock, NULL);
    memory->name = im_strdup(name);
    return memory;
}

static void *memory_open(const char *address, bool used, struct im_err *err) {
    struct memory *memory;

    (void) used, (void) err; /* it is always new, or always there */
    if (address[0] == '\0')
        return memory_new("");
    pthread_mutex_lock(&named_lock);
    for (memory = named; memory != NULL && strcmp(memory->name, address) != 0;)
        memory = memory->next;
    if (memory == NULL) {
        memory = memory_new(address);
        memory->next = named;
        named = memory;
    }
    pthread_mutex_unlock(&named_lock);
    return memory;
}

static void memory_close(void *handle) {
    struct memory *memory = handle;

    if (memory->name[0] != '\0')
        return;
    pthread_mutex_destroy(&memory->lock);
    free(memory->name);
    free(memory->layers);
    free(memory->imports);
    im_strings_done(&memory->note_names);
    im_strings_done(&memory->note_texts);
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

static bool memory_sync(void *handle, const char *name, struct im_err *err) {
    LOCKED((struct memory *) handle);

    return layer_of(handle, name, err) != NULL;
}

static bool memory_parent(void *handle, const char *name, char *ret_parent, struct im_err *err) {
    LOCKED((struct memory *) handle);
    const struct storage_entry *layer = layer_of(handle, name, err);

    if (layer != NULL)
        memcpy(ret_parent, layer->parent, STORAGE_NAME_MAX);
    return layer != NULL;
}

static bool memory_reparent(void *handle, const char *head, const char *parent,
                            struct im_err *err) {
    LOCKED((struct memory *) handle);
    struct storage_entry *layer = layer_of(handle, head, err);

    if (layer == NULL)
        return false;
    if (layer->frozen || layer->parent[0] == '\0')
        return im_fail(err, IM_UNSUPPORTED, "layer %s %s", head,
                       layer->frozen ? "is frozen and never changes" : "has no parent");
    snprintf(layer->parent, sizeof(layer->parent), "%s", parent);
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

/* --- Whole layers, in and out: their bytes are what is known of them -------------------------- */

static bool open_bytes(void *handle, const char *name, bool frozen, int *ret_fd, char *ret_parent,
                       struct im_err *err) {
    IM_AUTO(fd_auto) int fd = memfd_create(name, MFD_CLOEXEC);
    IM_AUTO(free_auto) char *text = NULL;
    LOCKED((struct memory *) handle);
    const struct storage_entry *layer = layer_of(handle, name, err);

    if (layer == NULL)
        return false;
    if (layer->frozen != frozen)
        return im_fail(err, IM_UNSUPPORTED, "layer %s is %s", name,
                       frozen ? "a head, which changes" : "frozen and never changes");
    text = im_printf("%" PRIu64 " %s", layer->usage.virtual_bytes, layer->parent);
    if (fd < 0 || !im_pwrite_all(fd, text, strlen(text), 0, name, err))
        return im_fail_sys(err, errno, "cannot make the bytes of layer %s", name);
    memcpy(ret_parent, layer->parent, STORAGE_NAME_MAX);
    *ret_fd = im_steal_fd(&fd);
    return true;
}

static bool memory_read(void *handle, const char *name, int *ret_fd, char *ret_parent,
                        struct im_err *err) {
    return open_bytes(handle, name, true, ret_fd, ret_parent, err);
}

/* What is written to it is lost, as what machines write is. */
static bool memory_open_head(void *handle, const char *head, bool writable, int *ret_fd,
                             char *ret_parent, struct im_err *err) {
    (void) writable;
    return open_bytes(handle, head, false, ret_fd, ret_parent, err);
}

static bool memory_put_begin(void *handle, const char *name, int *ret_fd, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = memfd_create(name, MFD_CLOEXEC);
    struct memory *memory = handle;
    struct stat st;
    LOCKED(memory);

    if (fd < 0 || fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot make layer %s", name);
    drop(memory, name, true);
    add(memory, name)->partial = true;
    memory->imports[memory->count - 1] = (struct import){st.st_ino, st.st_dev};
    *ret_fd = im_steal_fd(&fd);
    return true;
}

static bool memory_put_end(void *handle, const char *name, const char *parent, int fd,
                           struct im_err *err) {
    struct memory *memory = handle;
    char text[STORAGE_NAME_MAX + 32] = "", *rest;
    struct storage_entry *layer;
    uint64_t size;
    LOCKED(memory);

    if (find(memory, name, true) == NULL && find(memory, name, false) == NULL)
        return im_fail(err, IM_NOT_FOUND, "layer %s: nothing is being put there", name);
    if (pread(fd, text, sizeof(text) - 1, 0) < 2)
        return im_fail(err, IM_BAD_IMAGE, "layer %s: these are no bytes of a layer", name);
    size = strtoull(text, &rest, 10);
    if (rest[0] != ' ' || strcmp(rest + 1, parent) != 0)
        return im_fail(err, IM_BAD_IMAGE, "layer %s: its bytes name another parent than [%s]", name,
                       parent);
    if (find(memory, name, true) == NULL)
        return true;
    drop(memory, name, false);
    layer = find(memory, name, true);
    layer->partial = false;
    layer->frozen = true;
    layer->usage = (struct storage_usage){size, EMPTY_BYTES};
    snprintf(layer->parent, sizeof(layer->parent), "%s", parent);
    return true;
}

static bool memory_put_undo(void *handle, const char *name, struct im_err *err) {
    LOCKED((struct memory *) handle);

    (void) err;
    drop(handle, name, true);
    return true;
}

static size_t note_at(const struct memory *memory, const char *name) {
    size_t at = 0;

    while (at < memory->note_names.count && strcmp(memory->note_names.items[at], name) != 0)
        at++;
    return at;
}

static bool memory_note_put(void *handle, const char *name, const char *text, struct im_err *err) {
    struct memory *memory = handle;
    LOCKED(memory);
    size_t at = note_at(memory, name);

    (void) err;
    if (at == memory->note_names.count) {
        im_strings_add(&memory->note_names, name);
        im_strings_add(&memory->note_texts, "");
    }
    im_replace(&memory->note_texts.items[at], text);
    return true;
}

static bool memory_note_get(void *handle, const char *name, char **ret_text, struct im_err *err) {
    struct memory *memory = handle;
    LOCKED(memory);
    size_t at = note_at(memory, name);

    if (at == memory->note_names.count)
        return im_fail(err, IM_NOT_FOUND, "the pool has no note of %s", name);
    *ret_text = im_strdup(memory->note_texts.items[at]);
    return true;
}

static bool memory_note_remove(void *handle, const char *name, struct im_err *err) {
    struct memory *memory = handle;
    LOCKED(memory);
    size_t at = note_at(memory, name), last = memory->note_names.count - 1;

    (void) err;
    if (at == memory->note_names.count)
        return true;
    im_replace(&memory->note_names.items[at], memory->note_names.items[last]);
    im_replace(&memory->note_texts.items[at], memory->note_texts.items[last]);
    free(memory->note_names.items[last]);
    free(memory->note_texts.items[last]);
    memory->note_names.count = memory->note_texts.count = last;
    return true;
}

static bool memory_note_list(void *handle, struct im_strings *ret_names, struct im_err *err) {
    struct memory *memory = handle;
    LOCKED(memory);

    (void) err;
    for (size_t i = 0; i < memory->note_names.count; i++)
        im_strings_add(ret_names, memory->note_names.items[i]);
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
    .sync = memory_sync,
    .parent = memory_parent,
    .reparent = memory_reparent,
    .resize = memory_resize,
    .remove = memory_remove,
    .import_begin = memory_import_begin,
    .import_end = memory_import_end,
    .read = memory_read,
    .open_head = memory_open_head,
    .put_begin = memory_put_begin,
    .put_end = memory_put_end,
    .put_undo = memory_put_undo,
    .note_put = memory_note_put,
    .note_get = memory_note_get,
    .note_remove = memory_note_remove,
    .note_list = memory_note_list,
    .usage = memory_usage,
    .space = memory_space,
    .attach_info = memory_attach_info,
    .list = memory_list,
};
