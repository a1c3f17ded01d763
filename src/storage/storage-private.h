/* SPDX-License-Identifier: Apache-2.0 */
/* What a back end fills in. The wrapper in storage.c has checked names and sizes before it calls.
 */
#ifndef STORAGE_PRIVATE_H
#define STORAGE_PRIVATE_H

#include "storage/storage.h"

struct storage_ops {
    const char *scheme;
    /* `used`: the pool must be there already. */
    void *(*open)(const char *address, bool used, struct im_err *err);
    void (*close)(void *handle);
    void (*set_owner)(void *handle, uint32_t uid, uint32_t gid);
    bool (*create)(void *handle, const char *name, uint64_t size, struct im_err *err);
    bool (*clone)(void *handle, const char *parent, const char *name, uint64_t size,
                  struct im_err *err);
    /* Both names are filled with what the caller should keep. */
    bool (*freeze_begin)(void *handle, const char *head, const char *next, char *ret_frozen,
                         char *ret_head, struct im_err *err);
    bool (*freeze_end)(void *handle, const char *frozen, struct im_err *err);
    bool (*freeze_undo)(void *handle, const char *head, const char *next, struct im_err *err);
    bool (*sync)(void *handle, const char *name, struct im_err *err);
    bool (*parent)(void *handle, const char *name, char *ret_parent, struct im_err *err);
    bool (*reparent)(void *handle, const char *head, const char *parent, struct im_err *err);
    bool (*resize)(void *handle, const char *head, uint64_t size, struct im_err *err);
    bool (*remove)(void *handle, const char *name, struct im_err *err);
    bool (*import_begin)(void *handle, const char *name, int *ret_fd, struct im_err *err);
    bool (*import_end)(void *handle, const char *name, int fd, struct im_err *err);
    bool (*read)(void *handle, const char *name, int *ret_fd, char *ret_parent, struct im_err *err);
    bool (*open_head)(void *handle, const char *head, bool writable, int *ret_fd, char *ret_parent,
                      struct im_err *err);
    bool (*put_begin)(void *handle, const char *name, int *ret_fd, struct im_err *err);
    bool (*put_end)(void *handle, const char *name, const char *parent, int fd, struct im_err *err);
    bool (*put_undo)(void *handle, const char *name, struct im_err *err);
    bool (*note_put)(void *handle, const char *name, const char *text, struct im_err *err);
    bool (*note_get)(void *handle, const char *name, char **ret_text, struct im_err *err);
    bool (*note_remove)(void *handle, const char *name, struct im_err *err);
    bool (*note_list)(void *handle, struct im_strings *ret_names, struct im_err *err);
    bool (*usage)(void *handle, const char *name, struct storage_usage *ret_usage,
                  struct im_err *err);
    bool (*space)(void *handle, struct storage_space *ret_space, struct im_err *err);
    bool (*attach_info)(void *handle, const char *name, struct storage_source *ret_source,
                        struct im_err *err);
    bool (*list)(void *handle, struct storage_entry **ret_entries, size_t *ret_count,
                 struct im_err *err);
};

extern const struct storage_ops storage_local, storage_memory;

/* For tests: called between the steps of the local back end's verbs, so that a test can end the
 * process there. NULL: nothing. */
extern void (*storage_local_step)(void);

/* The size of what an import wrote: a qcow2 image without backing file, else IM_BAD_IMAGE. */
bool storage_imported_size(int fd, const char *name, uint64_t *ret_size, struct im_err *err);

struct storage_pool {
    const struct storage_ops *ops;
    void *handle;
    char *uri;
    /* Faults for tests; see storage_faulty. */
    bool faulty, fault_after;
    unsigned fault_at, calls;
    enum im_code fault_code;
};

#endif
