/* SPDX-License-Identifier: Apache-2.0 */
/* The contract to a storage pool: opaque names of layers, and the few verbs the layer graph needs.
 *
 * A layer is *frozen* (never changes again) or a *head* (the writable end of one disk); what it
 * does not hold itself is read from its parent. The pool knows only names; who uses a layer and why
 * is in the record. Names are chosen by the caller, [a-z0-9-]{1,48}, and opaque to it afterwards: a
 * back end may answer freeze with other names than were asked for (Ceph RBD keeps the head's name
 * and names the frozen state `name@snapshot`; `local` keeps the frozen file's name and makes a new
 * head), so callers store what they get back. Sizes are bytes, multiples of 512, at most
 * STORAGE_SIZE_MAX.
 *
 * Every verb is *repeatable*: after a crash at any moment the same call with the same arguments
 * leads to the same end, and remove() of anything half made, or of nothing, succeeds. What a
 * successful call made is durable when it returns.
 *
 * Codes: IM_NO_SPACE (nothing is left behind), IM_NOT_FOUND, IM_EXISTS, IM_UNSUPPORTED,
 * IM_BAD_MESSAGE (name or size), IM_INTERNAL. Threads: all functions may run at once, never two for
 * the same layer. */
#ifndef STORAGE_STORAGE_H
#define STORAGE_STORAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/mem.h"

#define STORAGE_NAME_MAX 128 /* with its NUL; longer than what callers choose, see above */
#define STORAGE_SIZE_MAX (64ull << 40)

struct storage_pool;

/* "local:/path" (the folder is made if its parent exists), "memory:", "memory:NAME" (found
 * again by later calls of this process). A pool that was written by a
 * newer version, or a folder that is somebody else's, is refused with the reason. */
struct storage_pool *storage_open(const char *uri, struct im_err *err) IM_MUST_CHECK;
/* The same for a pool that the record knows layers of: nothing is made. A folder that is not there,
 * or is empty, as it is when its file system is not mounted, is IM_NOT_FOUND. */
struct storage_pool *storage_open_used(const char *uri, struct im_err *err) IM_MUST_CHECK;
void storage_close(struct storage_pool *pool);
IM_DEFINE_AUTO(struct storage_pool *, storage_close)
const char *storage_uri(const struct storage_pool *pool);
/* The user and group that machines run as, who must be able to write heads: new heads belong to
 * them (mode 0600), frozen layers to us (mode 0444). Default: nobody else than us. Call before the
 * first verb. */
void storage_set_owner(struct storage_pool *pool, uint32_t uid, uint32_t gid);

/* A head without parent that reads as zeros. */
bool storage_create(struct storage_pool *pool, const char *name, uint64_t size_bytes,
                    struct im_err *err) IM_MUST_CHECK;
/* A head on a frozen layer; `size_bytes` may be larger than the parent (reads as zeros beyond it),
 * not smaller. Constant time at any size: local writes the empty overlay itself, under 1 ms with
 * fsync. */
bool storage_clone(struct storage_pool *pool, const char *parent, const char *name,
                   uint64_t size_bytes, struct im_err *err) IM_MUST_CHECK;

/* Freezing, in two halves so that a running machine can be switched over between them.
 * storage_freeze_begin makes the continuation `next` of `head` and tells both names as they are
 * from now on: `ret_frozen` holds what the head held, `ret_head` is the writable end. When
 * `ret_head` differs from `head` and the disk is in use, the caller switches the machine to
 * `ret_head` before storage_freeze_end, which makes the frozen layer read-only. storage_freeze_undo
 * takes a begun freeze back (the machine still writes to `head`). All three are repeatable. A head
 * that nothing goes on from is frozen by storage_freeze_end alone. */
bool storage_freeze_begin(struct storage_pool *pool, const char *head, const char *next,
                          char ret_frozen[STORAGE_NAME_MAX], char ret_head[STORAGE_NAME_MAX],
                          struct im_err *err) IM_MUST_CHECK;
bool storage_freeze_end(struct storage_pool *pool, const char *frozen,
                        struct im_err *err) IM_MUST_CHECK;
bool storage_freeze_undo(struct storage_pool *pool, const char *head, const char *next,
                         struct im_err *err) IM_MUST_CHECK;

/* What machines have written to a layer is made durable, as far as they have written it. */
bool storage_sync(struct storage_pool *pool, const char *name, struct im_err *err) IM_MUST_CHECK;

/* The parent that the layer itself names, "" = none; IM_BAD_IMAGE when what it names is no layer's.
 */
bool storage_parent(struct storage_pool *pool, const char *name, char ret_parent[STORAGE_NAME_MAX],
                    struct im_err *err) IM_MUST_CHECK;
/* A head that no machine has open names this parent, whatever it named before: one that was pulled
 * shows the same on any of the layers that it stood on. One without parent stays so
 * (IM_UNSUPPORTED), and so does a frozen layer. */
bool storage_reparent(struct storage_pool *pool, const char *head, const char *parent,
                      struct im_err *err) IM_MUST_CHECK;

/* Grows a head that no machine has open; smaller is IM_UNSUPPORTED, equal is fine. */
bool storage_resize(struct storage_pool *pool, const char *head, uint64_t size_bytes,
                    struct im_err *err) IM_MUST_CHECK;
/* Also of what is half made or not there. The caller knows that nothing refers to it. */
bool storage_remove(struct storage_pool *pool, const char *name, struct im_err *err) IM_MUST_CHECK;

/* Import: a new layer that a worker fills. The worker gets only the descriptor (read-write, empty);
 * it writes a qcow2 without backing file. storage_import_end makes the content durable and the
 * layer frozen; storage_remove takes it back. */
bool storage_import_begin(struct storage_pool *pool, const char *name, int *ret_fd,
                          struct im_err *err) IM_MUST_CHECK;
bool storage_import_end(struct storage_pool *pool, const char *name, int fd,
                        struct im_err *err) IM_MUST_CHECK;

/* A frozen layer as it lies in the pool, byte for byte: for digests, and for copies in another pool
 * of the same kind. ret_parent (may be NULL) is the parent that these very bytes name, "" = none:
 * the record may have another already when layers are merged. */
bool storage_read(struct storage_pool *pool, const char *name, int *ret_fd,
                  char ret_parent[STORAGE_NAME_MAX], struct im_err *err) IM_MUST_CHECK;
/* A head that no machine has open, as it lies in the pool, for who looks into it or changes what it
 * holds; ret_parent as above. IM_UNSUPPORTED for a frozen layer. */
bool storage_open_head(struct storage_pool *pool, const char *head, bool writable, int *ret_fd,
                       char ret_parent[STORAGE_NAME_MAX], struct im_err *err) IM_MUST_CHECK;
/* Puts a layer there that another pool made, or in the place of one that holds the same content:
 * who has the old one open goes on reading that. storage_put_begin gives an empty file for its
 * bytes; storage_put_end looks whether it is a layer on `parent` ("" = none), makes it durable,
 * frozen, and gives it the name. storage_put_undo takes what was begun back, never what was there
 * before. */
bool storage_put_begin(struct storage_pool *pool, const char *name, int *ret_fd,
                       struct im_err *err) IM_MUST_CHECK;
bool storage_put_end(struct storage_pool *pool, const char *name, const char *parent, int fd,
                     struct im_err *err) IM_MUST_CHECK;
bool storage_put_undo(struct storage_pool *pool, const char *name,
                      struct im_err *err) IM_MUST_CHECK;

/* Small texts beside the layers, which make a pool tell what is in it without the record. Writing
 * replaces whole and durably; removing what is not there is fine. Texts are owned. */
#define STORAGE_NOTE_MAX 65536
bool storage_note_put(struct storage_pool *pool, const char *name, const char *text,
                      struct im_err *err) IM_MUST_CHECK;
bool storage_note_get(struct storage_pool *pool, const char *name, char **ret_text,
                      struct im_err *err) IM_MUST_CHECK;
bool storage_note_remove(struct storage_pool *pool, const char *name,
                         struct im_err *err) IM_MUST_CHECK;
bool storage_note_list(struct storage_pool *pool, struct im_strings *ret_names,
                       struct im_err *err) IM_MUST_CHECK;

struct storage_usage {
    uint64_t virtual_bytes; /* size the machine sees */
    uint64_t own_bytes;     /* what the layer itself takes in the pool */
};
bool storage_usage(struct storage_pool *pool, const char *name, struct storage_usage *ret_usage,
                   struct im_err *err) IM_MUST_CHECK;
struct storage_space {
    uint64_t total_bytes, free_bytes;
};
bool storage_space(struct storage_pool *pool, struct storage_space *ret_space,
                   struct im_err *err) IM_MUST_CHECK;

/* Where virt/ finds one layer. Built anew for each start from the chain that the record knows:
 * nothing is probed. */
enum storage_source_kind { STORAGE_SOURCE_FILE };
struct storage_source {
    enum storage_source_kind kind;
    char format[16]; /* always given to QEMU: "qcow2" or "raw" */
    char *path;      /* owned */
};
bool storage_attach_info(struct storage_pool *pool, const char *name,
                         struct storage_source *ret_source, struct im_err *err) IM_MUST_CHECK;
void storage_source_done(struct storage_source *source);

/* All names in the pool, for comparing it with the record: what a crash left half made is listed
 * with `partial`. */
struct storage_entry {
    char name[STORAGE_NAME_MAX];
    char parent[STORAGE_NAME_MAX]; /* "" if it has none */
    bool frozen, partial;
    struct storage_usage usage;
};
bool storage_list(struct storage_pool *pool, struct storage_entry **ret_entries, size_t *ret_count,
                  struct im_err *err) IM_MUST_CHECK;

/* For tests: a wrapper around another pool in which the n-th call from now on (1 = the next) fails
 * with `code`, before or, if `after` is set, after it took effect. n = 0: none fails. Takes the
 * inner pool over. */
struct storage_pool *storage_faulty(struct storage_pool *inner);
void storage_faulty_set(struct storage_pool *pool, unsigned n, enum im_code code, bool after);
/* Number of calls since storage_faulty_set. */
unsigned storage_faulty_calls(const struct storage_pool *pool);

#endif
