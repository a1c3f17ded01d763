/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share: the cloud itself, who may touch what, layers, machines,
 * batches of instances. */
#ifndef CLOUD_PRIVATE_H
#define CLOUD_PRIVATE_H

#include <pthread.h>

#include "cloud/cloud.h"
#include "record/record.h"
#include "wire/wire.h"

enum {
    SECRETS_KEPT = 64, /* access keys whose secret is kept in memory */
    EVENTS_KEPT =
        256, /* machine events between two rounds of the background; more only cost a full round */
    DISK_MIN_LINUX_GIB = 20, /* what a system disk gets at least, as in the API */
    DISK_MIN_WINDOWS_GIB = 50,
    USERDATA_MAX = 64 * 1024,
    INSTANCES_MAX_PER_CALL = 200,
    VOLUMES_PER_INSTANCE = VIRT_DISKS_MAX - 2, /* the system disk and the seed are the others */
    GRAPHICS_PASSWORD = 32,                    /* letters of a VNC password */
};
#define GIB (1ll << 30)

/* One access key in memory, for one generation of the record: another program may change it. */
struct secret_entry {
    char access_key_id[IM_ID_MAX];
    char *secret;
    struct caller caller;
    uint64_t generation;
    int64_t until_ms;
};

struct cloud {
    struct cloud_config config; /* texts are copies, owned */
    struct jobs *jobs;
    struct monitor *monitor;

    pthread_mutex_t secrets_lock;
    struct secret_entry secrets[SECRETS_KEPT];
    size_t secrets_next;

    /* The background thread. `lock` guards all below and is never held while calling another room.
     */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t background;
    bool background_runs, stop, collect_now;
    int64_t collect_again_ms;  /* when to look once more; 0 = not asked for */
    char *events[EVENTS_KEPT]; /* names of machines that stopped by themselves, owned */
    size_t event_count;
    bool events_lost;
    struct im_strings machines_locked;
    pthread_cond_t machine_free;
    unsigned looks;          /* into disks, on demand, at the moment */
    unsigned boots;          /* machines of boot tests that run */
    uint32_t address_cursor; /* where the search for a free address begins */

    /* Held while what was read of a layer is written down, never while it is read. */
    pthread_mutex_t digest_lock;
    struct im_strings rewriting; /* layers whose file is being replaced now */
    struct im_strings rewritten; /* those of which it was begun, one after the other */
    unsigned rewrites_forgotten; /* how often that list was emptied */
    pthread_t scrubber;
    pthread_cond_t scrub_wake; /* with `lock` */
    bool scrub_runs;
    volatile bool scrub_stop;

    /* Guards the rest; never held while calling another room. */
    pthread_mutex_t second_lock;
    pthread_cond_t second_free;
    unsigned second_users;              /* jobs at work in the second pool */
    bool second_dirty, second_sweeping; /* there may be layers there that no copy needs */
    struct im_strings layers_claimed;   /* names of layers that are being copied, either way */

    pthread_rwlock_t chains; /* see chains_hold */
    pthread_t folder;
    pthread_cond_t fold_wake; /* with `lock` */
    bool folder_runs, fold_paused;
    volatile bool fold_cancel;   /* ends the fold or pull under way; none begins */
    struct im_strings pull_seen; /* the folder's own: heads whose chains are short enough */
};

/* --- access.c: who may see and change what ---------------------------------------------------- */

/* IM_NOT_FOUND also for what the caller may not see, so that nobody learns which ids exist. */
bool instance_load(struct db_conn *conn, const struct caller *caller, const char *id,
                   struct instance **ret_instance, struct im_err *err) IM_MUST_CHECK;
/* An id, a symbolic id, or a family (its newest available image). */
bool image_load(struct db_conn *conn, const struct caller *caller, const char *id,
                struct image **ret_image, struct im_err *err) IM_MUST_CHECK;
bool keypair_load(struct db_conn *conn, const struct caller *caller, const char *id,
                  struct keypair **ret_keypair, struct im_err *err) IM_MUST_CHECK;
bool volume_load(struct db_conn *conn, const struct caller *caller, const char *id,
                 struct volume **ret_volume, struct im_err *err) IM_MUST_CHECK;
bool snapshot_load(struct db_conn *conn, const struct caller *caller, const char *id,
                   struct snapshot **ret_snapshot, struct im_err *err) IM_MUST_CHECK;
bool boot_test_load(struct db_conn *conn, const struct caller *caller, const char *id,
                    struct boot_test **ret_test, struct im_err *err) IM_MUST_CHECK;
bool repair_load(struct db_conn *conn, const struct caller *caller, const char *id,
                 struct repair **ret_repair, struct im_err *err) IM_MUST_CHECK;
bool image_export_load(struct db_conn *conn, const struct caller *caller, const char *id,
                       struct image_export **ret_export, struct im_err *err) IM_MUST_CHECK;
bool job_load(struct db_conn *conn, const struct caller *caller, const char *id,
              struct job **ret_job, struct im_err *err) IM_MUST_CHECK;
bool access_key_load(struct db_conn *conn, const struct caller *caller, const char *id,
                     struct access_key **ret_key, struct im_err *err) IM_MUST_CHECK;
/* Seeing a public image is not owning it. */
bool image_owned(const struct caller *caller, const struct image *image,
                 struct im_err *err) IM_MUST_CHECK;
/* The verb's rule against the state; the sentence is the one clients of the API know. */
bool instance_allows(const struct instance *instance, const char *action,
                     struct im_err *err) IM_MUST_CHECK;
bool image_allows(const struct image *image, const char *action, struct im_err *err) IM_MUST_CHECK;
/* A processor model is a word, a topology multiplies to the vCPUs; NULL and "" are fine. */
bool cpu_shape_fits(const char *model, const char *topology, int64_t vcpus,
                    struct im_err *err) IM_MUST_CHECK;
bool volume_allows(const struct volume *volume, const char *action,
                   struct im_err *err) IM_MUST_CHECK;
bool snapshot_allows(const struct snapshot *snapshot, const char *action,
                     struct im_err *err) IM_MUST_CHECK;
/* A name or description: UTF-8, no control characters, at most `max` bytes. NULL and "" are fine.
 */
bool text_fits(const char *what, const char *text, size_t max, struct im_err *err) IM_MUST_CHECK;
/* Leaves out repeated ids; IM_BAD_MESSAGE when there is none. */
bool ids_unique(const char *parameter, const struct im_strings *ids, struct im_strings *ret_unique,
                struct im_err *err) IM_MUST_CHECK;
/* What a list shows when nothing else is asked for: the caller's own (an administrator: all),
 * nothing that is gone. */
void query_restrict(const struct caller *caller, struct query *query, const char *key,
                    const char *gone);

/* --- places.c ------------------------------------------------------------------------------------
 */

/* The objects of a page by ids that they have or name. Several may have the same. */
struct place {
    const char *id; /* borrowed */
    size_t at;      /* in the page */
};
struct places {
    struct place *items;
    size_t count, capacity;
};
void places_add(struct places *places, const char *id, size_t at);
void places_done(struct places *places);
/* Rows of `type` whose `field` is one of the places' ids, in the order of `sort_field`: `take` is
 * called for each place of that id, and may not keep the object. Sorts the places. */
bool places_gather(struct db_conn *conn, const struct object_type *type, const char *field,
                   const char *sort_field, struct places *places,
                   void (*take)(void *page, size_t at, void *object), void *page,
                   struct im_err *err) IM_MUST_CHECK;

/* --- attributes.c ----------------------------------------------------------------------------- */

/* What may be changed of anything: NULL leaves it, "" empties it. */
struct attributes {
    const char *name, *description;
};
/* Loads what the caller may change: *(struct TYPE **) ret_object. */
typedef bool attributes_load(struct db_conn *conn, const struct caller *caller, const char *id,
                             void *ret_object, struct im_err *err);
bool attributes_fit(const struct object_type *type, const struct attributes *attributes,
                    struct im_err *err) IM_MUST_CHECK;
void attributes_set(const struct object_type *type, void *object,
                    const struct attributes *attributes);
/* A whole Modify…Attributes of one object; the type's `title` is its name. */
bool attributes_modify(struct cloud *cloud, const struct caller *caller,
                       const struct object_type *type, attributes_load *load, const char *id,
                       const struct attributes *attributes, struct im_err *err) IM_MUST_CHECK;

/* --- layer.c: rows of the layer graph --------------------------------------------------------- */

/* A row for a layer that a job is about to make: state MAKING, a fresh name. `parent` may be NULL.
 */
bool layer_plan(struct cloud *cloud, struct db_conn *conn, const char *parent_id,
                int64_t size_bytes, char ret_layer_id[IM_ID_MAX], struct im_err *err) IM_MUST_CHECK;
bool layer_set_state(struct db_conn *conn, const char *layer_id, enum layer_state state,
                     struct im_err *err) IM_MUST_CHECK;
/* Its size as the record has it, unless it is that large already. */
bool layer_grow(struct db_conn *conn, const char *layer_id, int64_t bytes,
                struct im_err *err) IM_MUST_CHECK;
/* For `undone`: a disk that has grown stays grown, and the record follows the pool. */
bool layer_follow(struct cloud *cloud, struct db_conn *conn, const char *layer_id,
                  int64_t *ret_bytes, struct im_err *err) IM_MUST_CHECK;
/* Gives a layer up that nothing will refer to any more; the background removes it. NULL and missing
 * are fine. */
bool layer_drop(struct cloud *cloud, struct db_conn *conn, const char *layer_id,
                struct im_err *err) IM_MUST_CHECK;
/* The layer and all that stands on it are so many layers further from the root; negative: nearer.
 */
bool layer_deepen(struct db_conn *conn, const char *layer_id, int64_t more,
                  struct im_err *err) IM_MUST_CHECK;
/* It gets another parent, NULL = none, through which it shows the same. */
bool layer_stand_on(struct db_conn *conn, const char *layer_id, const char *parent_id,
                    struct im_err *err) IM_MUST_CHECK;
/* The layer and its ancestors, itself first; freed with record_list_free(&layer_type, …). */
bool layer_chain(struct db_conn *conn, const char *layer_id, struct layer ***ret_layers,
                 size_t *ret_count, struct im_err *err) IM_MUST_CHECK;
/* Makes the planned head on its parent. Repeatable. */
bool layer_make_head(struct cloud *cloud, const char *layer_id, struct im_err *err) IM_MUST_CHECK;

/* --- damage.c: layers that are lost or have rotted -------------------------------------------- */

/* IM_WRONG_STATE with the reason when the layer or one that it stands on is damaged; to be asked
 * before something new is named after it or made from it (layer_plan does). NULL is fine. */
bool layer_usable(struct db_conn *conn, const char *layer_id, struct im_err *err) IM_MUST_CHECK;
/* `why` is a sentence; "" when it is whole again. Marks what stands on it. */
bool damage_set(struct db_conn *conn, const char *layer_id, const char *why,
                struct im_err *err) IM_MUST_CHECK;
/* Brings the marks of images, instances, volumes and snapshots to what the layers say. */
bool damage_spread(struct db_conn *conn, struct im_err *err) IM_MUST_CHECK;
/* The same now and then, as disks change their layers. */
bool damage_round(struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;

/* --- digest.c: the bytes of frozen layers ----------------------------------------------------- */

enum { DIGEST_TEXT = 72 }; /* "sha256:…" with its NUL */
/* A file read from one end to the other, and perhaps written to another. Zero-initialise. */
struct stream {
    int in, out; /* out -1: only read; else an empty file */
    const char *name;
    int64_t rate_bytes;          /* a second; 0 = as fast as it goes */
    const volatile bool *cancel; /* may be NULL */
    void (*progress)(void *arg, uint64_t bytes);
    void *arg;
    uint64_t bytes;   /* read so far */
    bool read_failed; /* it was the source that made it fail */
};
bool stream_run(struct stream *stream, char ret_digest[DIGEST_TEXT],
                struct im_err *err) IM_MUST_CHECK;
/* A layer of a pool, for its digest alone; in, out and name of the stream are set. */
bool layer_read(struct storage_pool *pool, const char *name, struct stream *stream,
                char ret_digest[DIGEST_TEXT], struct im_err *err) IM_MUST_CHECK;

/* Around the replacement of a frozen layer's file by one that shows the same (merge, flatten):
 * begin forgets its digest in the record, which is then computed anew, and until end nobody writes
 * one down; so call begin before the pool is touched, in every try of a step, and end after the
 * commit (or when the step failed). */
bool layer_rewrite_begin(struct cloud *cloud, const char *layer_id,
                         struct im_err *err) IM_MUST_CHECK;
void layer_rewrite_end(struct cloud *cloud, const char *layer_id);

/* When a reading began, so that it is known whether the file was replaced meanwhile. */
struct reading_since {
    size_t count;
    unsigned forgotten;
};
struct reading_since reading_begin(struct cloud *cloud);
enum verdict {
    VERDICT_GOOD, /* as it was; or never read before, and now it has a digest */
    VERDICT_BAD,  /* it is marked as damaged now */
    VERDICT_STALE /* what was read is not what is there: replaced or given up meanwhile */
};
/* Holds what was read of a layer against the record, and writes it down. `trouble` (else NULL): it
 * could not be read. */
bool reading_judge(struct cloud *cloud, const char *layer_id, const struct reading_since *since,
                   const char *digest, const struct im_err *trouble, enum verdict *ret_verdict,
                   struct im_err *err) IM_MUST_CHECK;

/* --- second.c: the second pool, and the notes in it ------------------------------------------- */

/* IM_UNSUPPORTED without one. */
bool second_configured(const struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;
/* IM_NO_RESOURCE while it is not there; closed by the caller. */
bool second_open(struct cloud *cloud, struct storage_pool **ret_pool,
                 struct im_err *err) IM_MUST_CHECK;
/* Around work in it: meanwhile nothing is swept out. `sweep`: it may have left what no copy needs.
 */
bool second_enter(struct cloud *cloud, const volatile bool *cancel,
                  struct im_err *err) IM_MUST_CHECK;
void second_leave(struct cloud *cloud, struct storage_pool *pool, bool sweep);
/* Removes the layers that no snapshot's note leads to. */
bool second_sweep(struct storage_pool *pool, struct im_err *err) IM_MUST_CHECK;
/* One at a time writes a layer of that name, in either pool. */
bool layer_claim(struct cloud *cloud, const char *name, const volatile bool *cancel,
                 struct im_err *err) IM_MUST_CHECK;
void layer_release(struct cloud *cloud, const char *name);

/* A layer in the second pool, as its note tells. The parent is the one that the copied bytes name:
 * the record may have another, since layers are merged. */
struct layer_copy {
    char name[IM_ID_MAX], parent[IM_ID_MAX];
    int64_t size_bytes, file_bytes, create_time; /* virtual, and of the file */
    char digest[DIGEST_TEXT];                    /* of the file */
    char source_digest[DIGEST_TEXT];             /* of what an import came from; "" = none */
    bool damaged;                                /* its bytes were not what they should be */
};
bool layer_copy_get(struct storage_pool *pool, const char *name, struct layer_copy *ret_copy,
                    struct im_err *err) IM_MUST_CHECK;
bool layer_copy_put(struct storage_pool *pool, const struct layer_copy *copy,
                    struct im_err *err) IM_MUST_CHECK;
bool layer_copy_parse(const struct wire_value *root, struct layer_copy *ret_copy,
                      struct im_err *err) IM_MUST_CHECK;
void layer_copy_write(struct wire_writer *writer, const struct layer_copy *copy);
/* The layer and its ancestors there, itself first; freed with free(). Fails unless all are there
 * with their notes. */
bool layer_copies_load(struct storage_pool *pool, const char *tip, struct layer_copy **ret_copies,
                       size_t *ret_count, struct im_err *err) IM_MUST_CHECK;
/* None of them is known to be damaged. */
bool layer_copies_whole(const struct layer_copy *copies, size_t count,
                        struct im_err *err) IM_MUST_CHECK;
/* Both, for a layer that another copy is to stand on. */
bool layer_copy_whole(struct storage_pool *pool, const char *name);
/* A snapshot's note: written last, it says that its layers are all there. */
bool snapshot_copy_put(struct storage_pool *pool, const struct snapshot *snapshot, const char *tip,
                       struct im_err *err) IM_MUST_CHECK;
bool snapshot_copy_get(struct storage_pool *pool, const char *id, struct snapshot **ret_snapshot,
                       char ret_tip[IM_ID_MAX], struct im_err *err) IM_MUST_CHECK;
void snapshot_copy_write(struct wire_writer *writer, const char *key,
                         const struct snapshot *snapshot);
struct snapshot *snapshot_copy_parse(const struct wire_value *value,
                                     struct im_err *err) IM_MUST_CHECK;

/* Whether no image, instance, volume, snapshot and export under way is named after the layer `l`, a
 * table or its alias, and no repair keeps it. */
#define LAYER_UNNAMED(l)                                                                           \
    "NOT EXISTS (SELECT 1 FROM images u WHERE u.layer_id = " l ".layer_id"                         \
    " AND u.status <> 'ceased')"                                                                   \
    " AND NOT EXISTS (SELECT 1 FROM instances u WHERE u.layer_id = " l ".layer_id"                 \
    " AND u.status <> 'ceased')"                                                                   \
    " AND NOT EXISTS (SELECT 1 FROM volumes u WHERE u.layer_id = " l ".layer_id"                   \
    " AND u.status <> 'ceased')"                                                                   \
    " AND NOT EXISTS (SELECT 1 FROM snapshots u WHERE u.layer_id = " l ".layer_id"                 \
    " AND u.status <> 'ceased')"                                                                   \
    " AND NOT EXISTS (SELECT 1 FROM image_exports u WHERE u.layer_id = " l ".layer_id"             \
    " AND u.status = 'pending')"                                                                   \
    " AND NOT EXISTS (SELECT 1 FROM repairs u WHERE u.layer_id = " l ".layer_id)"

/* --- layer-files.c ------------------------------------------------------------------------------
 */

/* Open descriptors: what was added, then the layers, itself first. Zero-initialise. */
struct layer_files {
    int *fds; /* closed by layer_files_done */
    size_t count, capacity;
    struct im_strings formats; /* of the layers */
};
/* The layer that is named is frozen, or a head that no machine has open. */
enum layer_end { LAYER_END_FROZEN, LAYER_END_HEAD, LAYER_END_WRITABLE };
/* Takes the descriptor over. */
void layer_files_add(struct layer_files *files, int fd);
/* Adds the layer and those below it, at most `max`, by what their files name, as the record may
 * have other parents already where layers are being merged; while it opens them chains stay as they
 * are. After a failure some may be open. */
bool layer_files_open(struct cloud *cloud, const char *layer_name, enum layer_end end, size_t max,
                      struct layer_files *files, struct im_err *err) IM_MUST_CHECK;
/* "qcow2 raw", for the worker; owned by the caller. */
char *layer_files_formats(const struct layer_files *files);
void layer_files_done(struct layer_files *files);

/* --- fold-plan.c, fold.c: chains are shortened in the background ------------------------------ */

/* Between reading a chain from the record and having its files open, hold this: only then a layer
 * that others no longer read through may lose its file. May be held twice. */
void chains_hold(struct cloud *cloud);
void chains_release(struct cloud *cloud);

enum { FOLD_MAX = 32 }; /* layers at once: the descriptors of a worker */
struct fold_plan {
    struct layer **layers; /* the chain, of which the first `count` become the first one */
    size_t count, chain;   /* count 0: there is nothing to do */
};
/* What to do next, but not to those of `leave`: layers that nothing needs but the one layer above
 * them, then chains that are too long. */
bool fold_plan_next(struct cloud *cloud, const struct im_strings *leave, struct fold_plan *ret_plan,
                    struct im_err *err) IM_MUST_CHECK;
void fold_plan_done(struct fold_plan *plan);
/* What the folded layer will stand on; NULL: nothing. */
const struct layer *fold_onto(const struct fold_plan *plan);
/* Carries it out. After a failure all is as before, or is made so by fold_settle. */
bool fold_run(struct cloud *cloud, const struct fold_plan *plan, struct im_err *err) IM_MUST_CHECK;
/* Finishes or undoes what was cut short; nobody else folds. */
bool fold_settle(struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;
/* Is its file being replaced? */
bool fold_busy(struct db_conn *conn, const char *layer_id, bool *ret_busy,
               struct im_err *err) IM_MUST_CHECK;
/* "on", "paused" or "off". */
const char *fold_mode(struct cloud *cloud);
/* What these layers hold has room once more, beside what stays free for machines. */
bool layers_fit(struct cloud *cloud, struct layer *const *layers, size_t count,
                struct im_err *err) IM_MUST_CHECK;
/* They are read and held against their digests. */
bool layers_whole(struct cloud *cloud, struct layer *const *layers, size_t count,
                  struct im_err *err) IM_MUST_CHECK;
/* How layers of the pool name this one, without folders; "" of "". Owned. */
char *layer_file(struct cloud *cloud, const char *name, struct im_err *err);
/* The thread that shortens chains sleeps so long, or until it is woken; false when it is to end. */
bool fold_wait(struct cloud *cloud, int64_t ms);
bool fold_start(struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;
void fold_stop(struct cloud *cloud);

/* --- pull-plan.c, pull.c: chains inside running machines -----------------------------------------
 */

/* A disk of a running machine, and the layer that its head is to stand on. */
struct pull_plan {
    char machine[IM_ID_MAX], disk[IM_ID_MAX]; /* "": there is nothing to do */
    size_t depth;                             /* layers that the machine reads through */
    size_t left;                              /* those that it will */
    struct layer **layers;                    /* the chain in the record, the head first */
    size_t base, chain;                       /* layers[base] */
    char *base_path;
};
/* `leave`: disks that are left alone; gets those of machines that hang. `seen` gets the heads that
 * need not be asked for again. */
bool pull_plan_next(struct cloud *cloud, struct im_strings *leave, struct im_strings *seen,
                    struct pull_plan *ret_plan, struct im_err *err) IM_MUST_CHECK;
void pull_plan_done(struct pull_plan *plan);
/* Carries it out, in the thread that shortens chains. IM_BUSY when something else was asked of the
 * machine meanwhile. After a failure all is as before, or is made so by pull_settle. */
bool pull_run(struct cloud *cloud, const struct pull_plan *plan, struct im_err *err) IM_MUST_CHECK;
/* All there is to do; `leave` gets what failed. False: not all was done. */
bool pull_round(struct cloud *cloud, struct im_strings *leave);
/* Before a disk of a running machine is switched, taken out or grown, or anything is done with one
 * that may have been pulled in a machine which is off now: ends the pull of this disk or of all
 * disks of this machine, at once, and brings record and layers to agree. The caller has locked the
 * instance by its transition, so that no other begins, and does not hold machine_lock. */
bool pull_stop(struct cloud *cloud, const char *id, struct im_err *err) IM_MUST_CHECK;
/* The same where it matters less than what comes next. */
void pull_stop_anyway(struct cloud *cloud, const char *id);
/* All of them: what an end before its time has left. */
bool pull_settle(struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;

/* --- batch.c: one call on several things ------------------------------------------------------ */

/* `one` loads what has this id, checks it, writes its rows, and the members of its item's data. A
 * transaction that is tried again begins with index 0 again. */
struct batch_call {
    struct cloud *cloud;
    const struct caller *caller;
    const char *action;
    bool (*one)(void *batch, struct db_conn *conn, const char *id, size_t index,
                struct wire_writer *data, struct im_err *err);
    void *batch;
};
/* `parameter` names the ids in a refusal. */
bool batch_run(const struct batch_call *call, const char *parameter, const struct im_strings *ids,
               char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;

/* --- freeze.c: disks frozen at one instant, by the steps of a job ----------------------------- */

/* A disk of the record: an instance's system disk, or a volume. All borrowed. */
enum disk_kind { DISK_INSTANCE, DISK_VOLUME };
struct disk {
    enum disk_kind kind;
    const char *id;      /* of the instance or volume; also the disk's serial */
    const char *machine; /* the instance whose running machine has it open, "" = none */
    const char *layer_id;
    int64_t size_gib;
};
struct disk disk_of_instance(const struct instance *instance);
/* The caller has locked the disks, and the instances whose machines have them open. Plans their
 * next heads, and tells the item's data of them. */
bool freeze_plan(struct cloud *cloud, struct db_conn *conn, const struct disk *disks, size_t count,
                 struct wire_writer *data, struct im_err *err) IM_MUST_CHECK;
/* The halves of a step. After the commit the old heads are frozen, the disks live on the next ones,
 * and are not locked any more. Running machines are switched over. */
bool freeze_step_run(struct job_run *run, struct im_err *err) IM_MUST_CHECK;
/* The same, and asks the guests afterwards whether their programs were quiet, too. */
bool freeze_step_run_asking(struct job_run *run, struct im_err *err) IM_MUST_CHECK;
bool freeze_step_commit(struct job_run *run, struct db_conn *conn,
                        struct im_err *err) IM_MUST_CHECK;
bool freeze_step_undo(struct job_run *run, struct im_err *err) IM_MUST_CHECK;
/* Between the two halves, of the disk of an instance or volume: "fs", "crash", or "off" when no
 * machine ran; "app" only where it was asked for. */
const char *freeze_consistency(const struct job_run *run, const char *id);
int64_t freeze_time(const struct job_run *run); /* when the instant was, in seconds */
/* For `undone`: gives up the next heads that never came to life, and ends their locks. */
bool freeze_undone(struct job_run *run, struct db_conn *conn, struct im_err *err) IM_MUST_CHECK;

/* --- volume.c: what the volume verbs share ---------------------------------------------------- */

/* One call on several volumes that exist, as struct instance_batch. `lock`: sets their `busy`,
 * where the rule has no transition for it, and the transition of the instance they are attached
 * to. */
struct volume_batch {
    struct cloud *cloud;
    const struct caller *caller;
    const char *action;
    const struct im_strings *ids;
    bool lock;
    bool (*prepare)(struct volume_batch *batch, struct db_conn *conn, struct volume *volume,
                    struct wire_writer *data, struct im_err *err);
    void *arg;
};
bool volume_batch_run(struct volume_batch *batch, char ret_job_id[IM_JOB_ID_MAX],
                      struct im_err *err) IM_MUST_CHECK;
/* Checks the rule of the verb, and sets `busy` in the row. */
bool volume_make_busy(struct db_conn *conn, struct volume *volume, const char *action,
                      struct im_err *err) IM_MUST_CHECK;
/* Within a batch, which has checked the rule and writes the volume afterwards: sets its `busy`, and
 * locks the instance it is attached to. ret_machine is that instance if its machine runs, else "".
 */
bool volume_lock(struct db_conn *conn, struct volume *volume, char ret_machine[IM_ID_MAX],
                 struct im_err *err) IM_MUST_CHECK;
/* Ends transition and `busy`; the status stays. */
bool volume_unlock(struct db_conn *conn, const char *volume_id, struct im_err *err) IM_MUST_CHECK;
/* The same, and the lock on the instance it is attached to. */
bool volume_unlock_all(struct db_conn *conn, const char *volume_id,
                       struct im_err *err) IM_MUST_CHECK;
/* For commits: sets status, ends transition and `busy`. */
bool volume_settle(struct db_conn *conn, const char *volume_id, enum volume_status status,
                   struct im_err *err) IM_MUST_CHECK;
bool volume_count_fits(int64_t count, struct im_err *err) IM_MUST_CHECK;
/* Is the size one that the table of types allows? `round_up` lifts one that is too small or between
 * two steps. */
bool volume_size_fits(const struct cloud *cloud, int64_t type, bool round_up, int64_t *size,
                      struct im_err *err) IM_MUST_CHECK;
/* What is attached to the instance, in the order of its devices; freed with record_list_free. */
bool volumes_of(struct db_conn *conn, const char *instance_id, struct volume ***ret_volumes,
                size_t *ret_count, struct im_err *err) IM_MUST_CHECK;
/* Asks the guest agent what it calls those of them that are attached to this machine, and puts it
 * into their `device`; those it does not tell of keep the predicted name. */
void volumes_ask(struct cloud *cloud, const char *instance_id, struct volume *const *volumes,
                 size_t count);
/* All its volumes are free again, as when it is terminated. */
bool volumes_release(struct db_conn *conn, const char *instance_id,
                     struct im_err *err) IM_MUST_CHECK;
/* A new row, pending, with the next head planned on `parent_id` (may be NULL). */
bool volume_plan(struct cloud *cloud, struct db_conn *conn, struct volume *volume,
                 const char *parent_id, struct im_err *err) IM_MUST_CHECK;
/* What the volume holds is given up. */
bool volume_cease(struct cloud *cloud, struct db_conn *conn, struct volume *volume,
                  struct im_err *err) IM_MUST_CHECK;
/* Visits the volumes that the item's data names in the array `key`; and two of the visits: makes
 * the planned head; gives up a volume that a job did not bring to life. */
typedef bool volume_visit(struct job_run *run, struct db_conn *conn, struct volume *volume,
                          struct im_err *err);
bool volumes_each(struct job_run *run, struct db_conn *conn, const char *key, volume_visit *visit,
                  struct im_err *err) IM_MUST_CHECK;
volume_visit volume_make_head, volume_fail;
/* Steps of verbs whose item is a new volume with a planned head. */
bool volume_make_run(struct job_run *run, struct im_err *err) IM_MUST_CHECK;
bool volume_make_commit(struct job_run *run, struct db_conn *conn,
                        struct im_err *err) IM_MUST_CHECK;
bool volume_make_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                        struct im_err *err) IM_MUST_CHECK;

/* --- lock.c ----------------------------------------------------------------------------------- */

/* Zero-initialise but for the action, by whose rules it is decided. */
struct locks {
    const char *action;
    struct im_strings instances; /* those that are locked */
};
/* An instance, unless this call has it already. */
bool locks_instance(struct locks *locks, struct db_conn *conn, struct instance *instance,
                    struct im_err *err) IM_MUST_CHECK;
/* A volume, and with it the instance that it is attached to: *ret_instance, set if there is one,
 * has its status. */
bool locks_volume(struct locks *locks, struct db_conn *conn, struct volume *volume,
                  struct instance **ret_instance, struct im_err *err) IM_MUST_CHECK;
/* Forgets them: for a transaction that begins anew, and in the end. */
void locks_done(struct locks *locks);

/* --- snapshot.c ------------------------------------------------------------------------------- */

/* What the point holds is given up. */
bool snapshot_cease(struct db_conn *conn, struct snapshot *snapshot,
                    struct im_err *err) IM_MUST_CHECK;
/* The words between blanks of an item's resource_id: verbs whose item is several points. */
void item_ids(const struct job_run *run, struct im_strings *ret_ids);

/* The chain of a disk as the hypervisor wants it. Zero-initialise. */
struct disk_chain {
    struct storage_source *sources;
    struct virt_layer *layers;
    size_t count;
};
bool disk_chain_load(struct cloud *cloud, struct db_conn *conn, const char *layer_id,
                     struct disk_chain *chain, struct im_err *err) IM_MUST_CHECK;
void disk_chain_done(struct disk_chain *chain);

/* --- address.c: network cards and their addresses --------------------------------------------- */

/* Makes the rows of one card per vxnet ("vxnet-0" or "vxnet-0|ip"). The security group (may be
 * NULL) is kept and shown again, for the clients that compare. */
bool nics_plan(struct cloud *cloud, struct db_conn *conn, const struct instance *instance,
               const struct im_strings *vxnets, const char *security_group,
               struct im_err *err) IM_MUST_CHECK;
bool nics_load(struct db_conn *conn, const char *instance_id, struct nic ***ret_nics,
               size_t *ret_count, struct im_err *err) IM_MUST_CHECK;
bool nics_delete(struct db_conn *conn, const char *instance_id, struct im_err *err) IM_MUST_CHECK;
/* Before a start: brings cards to agree with the network of today, which may have been another when
 * they were planned. On a bridge each has an address of the range, and keeps it; in user mode each
 * has a port on 127.0.0.1 (`anew`: another one, as the old was taken by a stranger). */
bool nics_settle(struct cloud *cloud, struct nic **nics, size_t count, bool anew,
                 struct im_err *err) IM_MUST_CHECK;

/* --- machine.c: from rows to a running machine ------------------------------------------------ */

/* Writes the seed, plugs the network, starts. Repeatable. */
bool machine_start(struct cloud *cloud, const char *instance_id, struct im_err *err) IM_MUST_CHECK;
/* Writes over its seed with the sealed password as given (NULL: none), also while it runs; fine
 * when there is no seed. Call with the machine locked. */
bool machine_seed_rewrite(struct cloud *cloud, const char *instance_id, const char *sealed,
                          struct im_err *err) IM_MUST_CHECK;
/* Off, forgotten by libvirt, its address kept. `soft`: asks the guest first and waits
 * stop_timeout_ms. */
bool machine_stop(struct cloud *cloud, const char *instance_id, bool soft,
                  const volatile bool *cancel, struct im_err *err) IM_MUST_CHECK;
/* Asks the guest to power off. False when it runs on, with the reason. */
bool machine_ask_off(struct cloud *cloud, const char *instance_id, int64_t timeout_ms,
                     const volatile bool *cancel, struct im_err *err) IM_MUST_CHECK;
/* Off, and nothing is left of it outside the record and the pool. */
bool machine_forget(struct cloud *cloud, const char *instance_id, struct im_err *err) IM_MUST_CHECK;
/* What one machine may have: asks the hypervisor's host, so before a transaction is begun. */
struct machine_limits {
    int64_t vcpus, memory_mib, least_memory_mib;
};
bool machine_limits(struct cloud *cloud, struct machine_limits *ret_limits,
                    struct im_err *err) IM_MUST_CHECK;
/* Held while a machine is started, or its disks are plugged in and out: what is plugged in must be
 * what the record says, whoever comes first. */
void machine_lock(struct cloud *cloud, const char *instance_id);
void machine_unlock(struct cloud *cloud, const char *instance_id);
/* Does a machine of this size fit the limits and the host at all? */
bool machine_fits(const struct machine_limits *limits, int64_t vcpus, int64_t memory_mib,
                  struct im_err *err) IM_MUST_CHECK;
/* Would it fit into the memory that is free now? */
bool machine_memory_free(struct cloud *cloud, int64_t memory_mib, struct im_err *err) IM_MUST_CHECK;

/* --- instance.c: what the instance verbs share ------------------------------------------------ */

/* One call on several instances that exist: checks each against the verb's rule, lets the verb
 * prepare each, marks them in transition and adds the job, all in one transaction. */
struct instance_batch {
    struct cloud *cloud;
    const struct caller *caller;
    const char *action;
    const struct im_strings *ids;
    /* The verb's own checks and rows for one instance; may change fields of it, which are written
     * back. */
    bool (*prepare)(struct instance_batch *batch, struct db_conn *conn, struct instance *instance,
                    struct wire_writer *data, struct im_err *err);
    void *arg;    /* of the verb */
    size_t index; /* of the instance at hand among those of the call */
};
bool instance_batch_run(struct instance_batch *batch, char ret_job_id[IM_JOB_ID_MAX],
                        struct im_err *err) IM_MUST_CHECK;
/* For commits: sets status and clears the transition. */
bool instance_settle(struct db_conn *conn, const char *instance_id, enum instance_status status,
                     struct im_err *err) IM_MUST_CHECK;
/* The same with the status that the machine shows; `otherwise` where the hypervisor does not
 * answer.
 */
bool instance_settle_by_machine(struct cloud *cloud, struct db_conn *conn, const char *instance_id,
                                enum virt_state otherwise, struct im_err *err) IM_MUST_CHECK;
/* Clears the transition, the status stays. */
bool instance_unlock(struct db_conn *conn, const char *instance_id,
                     struct im_err *err) IM_MUST_CHECK;
/* The `undone` of verbs that need no more than that. */
bool instance_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                     struct im_err *err) IM_MUST_CHECK;
void graphics_password(char ret_password[GRAPHICS_PASSWORD + 1]);
/* Everything an instance has besides its row is given up. */
bool instance_cease(struct cloud *cloud, struct db_conn *conn, struct instance *instance,
                    struct im_err *err) IM_MUST_CHECK;
/* A password in the two forms that an instance may keep; both "" without one. */
struct login {
    char *hash, *sealed;
};
void login_done(struct login *login);
/* Checks login_mode with its key pair or password against the rules, and hashes the password, which
 * takes too long for a transaction. */
bool login_check(const struct cloud *cloud, const char *mode, const char *keypair,
                 const char *password, struct login *ret_login, struct im_err *err) IM_MUST_CHECK;
/* The instance keeps the form that the platform takes; without a password, what it has. */
void login_give(const struct login *login, const char *platform, struct instance *instance);
/* The half that needs the record: the key pair (NULL and "" are fine) is the caller's, and of use
 * on that platform. */
bool login_fits(struct db_conn *conn, const struct caller *caller, const char *platform,
                const char *keypair, struct im_err *err) IM_MUST_CHECK;
/* Who logs in to it (owned), by its image; and whether its machine should be asked. */
bool login_user(struct cloud *cloud, const char *instance_id, char **ret_user, bool *ret_running,
                struct im_err *err) IM_MUST_CHECK;
/* Is it a password that the rules allow? */
bool password_fits(const char *password, struct im_err *err) IM_MUST_CHECK;

/* --- plain-password.c ------------------------------------------------------------------------- */

/* Does the system take no hash, so that the password itself has to be kept until it has it? */
bool takes_plain(const char *platform);
/* ResetPassword for such an instance: prepare, run and commit. In the record are the sealed
 * password and, in the item's data, whether an earlier one is still on its way. *ret_trouble is the
 * caller's: why the guest has not got it now, "" when it does not run; NULL when it has. */
void plain_reset_prepare(const struct login *login, struct instance *instance,
                         struct wire_writer *data);
bool plain_reset_run(struct job_run *run, const struct instance *instance, const char *user,
                     bool running, char **ret_trouble, struct im_err *err) IM_MUST_CHECK;
/* `unapplied` as the instance will have it: "" when the guest has its password. */
bool plain_reset_commit(struct job_run *run, struct db_conn *conn, const char *unapplied,
                        struct im_err *err) IM_MUST_CHECK;
/* For a seed: the password (free it with plain_forget), NULL when there is none to hand over. */
bool plain_open(const struct cloud *cloud, const struct instance *instance, char **ret_password,
                struct im_err *err) IM_MUST_CHECK;
void plain_forget(char *password); /* NULL is fine */
/* Before a start with such a seed: notes when that was. */
bool plain_hand_over(struct cloud *cloud, const struct instance *instance,
                     struct im_err *err) IM_MUST_CHECK;
/* Passwords that their machines have had by now go from record and seed. */
bool plain_round(struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;
bool keypair_link_add(struct db_conn *conn, const char *keypair_id, const char *instance_id,
                      struct im_err *err) IM_MUST_CHECK;

/* The item's data as a document, and one text of it. */
struct wire_doc *item_data(const struct job_run *run, struct im_err *err) IM_MUST_CHECK;
/* Runs `body` in a transaction of the cloud's record. */
bool cloud_transact(struct cloud *cloud,
                    bool (*body)(struct db_conn *conn, void *arg, struct im_err *err), void *arg,
                    struct im_err *err) IM_MUST_CHECK;

/* The same for a body that adds a job, whose id it writes to `job_id` (part of *arg, "" if none):
 * afterwards the job runs, and its id is told. */
bool cloud_order(struct cloud *cloud,
                 bool (*body)(struct db_conn *conn, void *arg, struct im_err *err), void *arg,
                 const char *job_id, char ret_job_id[IM_JOB_ID_MAX],
                 struct im_err *err) IM_MUST_CHECK;

/* For commits: sets status and clears the transition. */
bool image_settle(struct db_conn *conn, const char *image_id, enum image_status status,
                  struct im_err *err) IM_MUST_CHECK;
/* Makes an image's facts into those of an own image: private, without family and digest. */
void image_make_own(struct image *image, const char *owner, const char *name, const char *source);
/* What an image made from an instance's disk inherits; NULL on failure. */
struct image *image_from_disk(struct db_conn *conn, const char *image_id, const char *platform,
                              const char *firmware, struct im_err *err) IM_MUST_CHECK;
/* For `undone` and for deleting at once: what the image holds is given up, and it is gone. */
bool image_gone(struct db_conn *conn, const char *image_id, struct im_err *err) IM_MUST_CHECK;

/* --- inspect.c -------------------------------------------------------------------------------- */

/* A worker looks at what a frozen layer and all below it hold. *ret_report is the caller's: JSON,
 * see worker/request.h. */
bool layer_inspect(struct cloud *cloud, const char *layer_id, const volatile bool *cancel,
                   char **ret_report, struct im_err *err) IM_MUST_CHECK;
/* What a worker is asked to plan: words with blanks in between. */
struct disk_wish {
    const char *only;  /* codes of findings, "all" */
    const char *seal;  /* items of sealing */
    const char *login; /* JSON, see worker/request.h; NULL: nothing about it */
    bool trim;         /* unused blocks are given back */
};
/* The same of layers that are open; with a wish, the worker plans what would fulfil it. */
bool disk_look(struct cloud *cloud, const struct layer_files *files, const struct disk_wish *wish,
               const volatile bool *cancel, char **ret_report, struct im_err *err) IM_MUST_CHECK;
/* Could it become an image? IM_WRONG_STATE with the first error found and what to do. */
bool report_publishes(const struct wire_value *report, struct im_err *err) IM_MUST_CHECK;
/* The image keeps the report, and has the facts that were found, but for those the user has given
 * (an object of texts; NULL: none). */
void image_take_report(struct image *image, const struct wire_value *report,
                       const struct wire_value *given);

/* The step of a job, when its image is published: the image keeps the report, and its own facts but
 * where it had none. Whatever is found, or if nothing can be: neither fails for that. */
bool published_look_run(struct job_run *run, const char *image_id,
                        struct im_err *err) IM_MUST_CHECK;
bool published_look_commit(struct job_run *run, struct db_conn *conn, const char *image_id,
                           struct im_err *err) IM_MUST_CHECK;

/* --- repair-run.c -----------------------------------------------------------------------------
 */

/* Is there what changes disks? IM_UNSUPPORTED and what to do about it. */
bool appliance_there(const struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;
/* Changes what a head holds, which nobody else has open, as wished: looks, mends, looks again.
 * *ret_result is the caller's: {"changed", "freed_bytes" (by trim), "before", "after", "changes":
 * {"repairs", "files", "steps"}}, with reports before and after; "changed": 0 when there was
 * nothing to do. Fails with IM_WRONG_STATE and the reason when the disk is no better for it. A head
 * that was not changed to the end is of no use any more. */
bool head_mend(struct job_run *run, const char *head, int64_t size_bytes,
               const struct disk_wish *wish, char **ret_result, struct im_err *err) IM_MUST_CHECK;

/* --- disk-next.c ------------------------------------------------------------------------------ */

/* What the pool calls the layers of a disk that goes on in another one. */
struct disk_next {
    char frozen[STORAGE_NAME_MAX], head[STORAGE_NAME_MAX];
};
/* In the transaction that orders a job on a stopped instance: plans the layer that goes on, and
 * notes it in the item's data. */
bool disk_next_plan(struct cloud *cloud, struct db_conn *conn, const struct instance *instance,
                    struct wire_writer *data, char ret_make[IM_ID_MAX],
                    struct im_err *err) IM_MUST_CHECK;
/* A layer and the one that is made of it, with the names that the record has for them. */
struct disk_work {
    char from[IM_ID_MAX], make[IM_ID_MAX];
    char from_name[STORAGE_NAME_MAX], make_name[STORAGE_NAME_MAX];
    int64_t size_bytes;
    enum layer_state made; /* the state of `make` */
};
/* "from" and "make" of the data. */
bool disk_work_read(struct db_conn *conn, const struct wire_value *data, struct disk_work *work,
                    struct im_err *err) IM_MUST_CHECK;
/* What the item's data says of it; nothing, and success, where nothing was planned. conn NULL: one
 * is taken for it. */
bool disk_work_load(const struct job_run *run, struct db_conn *conn, struct disk_work *work,
                    struct im_err *err) IM_MUST_CHECK;
/* What head_mend's result says was done, in words; fails with the reason where something was not.
 */
bool disk_next_judge(const struct wire_value *result, struct im_str *text,
                     struct im_err *err) IM_MUST_CHECK;
/* Freezes the head of a volume or instance that no machine has open, and begins the layer that
 * layer_plan planned on it: empty, whatever an earlier run wrote. Names are the record's. */
bool disk_next_begin(struct cloud *cloud, const char *id, const char *from_name,
                     const char *make_name, struct disk_next *ret_next,
                     struct im_err *err) IM_MUST_CHECK;
/* As it was; also fine when nothing had begun. */
bool disk_next_undo(struct cloud *cloud, const char *from_name, const char *make_name,
                    struct im_err *err) IM_MUST_CHECK;
/* In the commit: the disk goes on from `make`. What could be undone of it before cannot any more.
 */
bool disk_next_commit(struct db_conn *conn, const char *id, const char *from, const char *make,
                      const struct disk_next *next, struct im_err *err) IM_MUST_CHECK;
bool disk_name_head(struct db_conn *conn, const char *id, const char *layer_id,
                    struct im_err *err) IM_MUST_CHECK;
bool layer_settle(struct db_conn *conn, const char *layer_id, const char *name,
                  enum layer_state state, struct im_err *err) IM_MUST_CHECK;

/* --- login-edit.c ----------------------------------------------------------------------------- */

/* Passwords and keys for stopped machines whose systems take none from a seed: the disk itself is
 * changed. */
struct disk_login {
    const char *user, *hash;  /* "" = no new password */
    const char *const *lines; /* for authorized_keys */
    size_t line_count;
    bool detach;
};
struct login_edit {
    bool needed, edited; /* the disk has to have it; it had it not yet */
    struct disk_next next;
    char text[]; /* where it is not needed: why that is not known, "" = it is */
};
/* In the transaction that orders the job, with the instance at hand: plans, where it is stopped,
 * the layer that an edit would need, and notes it in the item's data. */
bool login_edit_plan(struct cloud *cloud, struct db_conn *conn, const struct instance *instance,
                     struct wire_writer *data, struct im_err *err) IM_MUST_CHECK;
/* In the step: looks whether the system has cloud-init, and changes the disk where it has not.
 * Harmless when it is done again. *ret_edit is the caller's, free(). */
bool login_edit_run(struct job_run *run, const struct disk_login *login,
                    struct login_edit **ret_edit, struct im_err *err) IM_MUST_CHECK;
bool login_edit_commit(struct job_run *run, struct db_conn *conn, const struct login_edit *edit,
                       struct im_err *err) IM_MUST_CHECK;
/* For the step's and the job's `undo` and `undone`; the latter also unlocks the instance. */
bool login_edit_undo(struct job_run *run, struct im_err *err) IM_MUST_CHECK;
bool login_edit_undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                       struct im_err *err) IM_MUST_CHECK;
unsigned login_edits_at_once(void *context);

/* --- capture-trim.c --------------------------------------------------------------------------- */

/* The step before the freeze of a capture: the instance goes on in a layer in which its file
 * systems have given back their unused blocks, where the item's data plans one; else it does
 * nothing. */
bool trim_step_run(struct job_run *run, struct im_err *err) IM_MUST_CHECK;
bool trim_step_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) IM_MUST_CHECK;
bool trim_step_undo(struct job_run *run, struct im_err *err) IM_MUST_CHECK;
/* After the freeze's own: gives up the layer if it was not made. */
bool trim_undone(struct job_run *run, struct db_conn *conn, struct im_err *err) IM_MUST_CHECK;

/* --- repair.c ---------------------------------------------------------------------------------
 */

/* Sealing as a step of a verb whose item is, or makes, an image: in the transaction that orders it
 * the layer that will be sealed is planned, for an image whose row has its id, owner and layer,
 * and the item's data told. Without such a plan the steps do nothing; with it, the commit publishes
 * the image. Its disk has only the sealed layer as a name: there is no way back. */
bool seal_plan(struct cloud *cloud, struct db_conn *conn, const struct image *image,
               const char *items, struct wire_writer *data, struct im_err *err) IM_MUST_CHECK;
bool seal_planned(const struct job_run *run);
bool seal_run(struct job_run *run, struct im_err *err) IM_MUST_CHECK;
bool seal_commit(struct job_run *run, struct db_conn *conn, struct im_err *err) IM_MUST_CHECK;
bool seal_undo(struct job_run *run, struct im_err *err) IM_MUST_CHECK;
bool seal_undone(struct job_run *run, struct db_conn *conn, struct im_err *err) IM_MUST_CHECK;
/* Are these words that a worker can be told? `what` is the parameter. */
bool repair_words_fit(const char *what, const struct im_strings *words,
                      struct im_err *err) IM_MUST_CHECK;
/* What has ceased needs no way back. */
bool repairs_forget(struct db_conn *conn, const char *resource_id,
                    struct im_err *err) IM_MUST_CHECK;

/* --- The verbs' tables, gathered in cloud.c --------------------------------------------------- */

/* Uploads that do not end as an import. In a transaction: the image waits for its upload no longer;
 * *ret_waited whether it did. The file goes after the commit. */
bool upload_give_up(struct db_conn *conn, const char *image_id, bool *ret_waited,
                    struct im_err *err) IM_MUST_CHECK;
void upload_remove(const struct cloud *cloud, const char *image_id);
/* Removes the files of images that are not pending. */
bool uploads_sweep(const struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;

extern const struct job_verb image_import_verb, image_export_verb, image_capture_verb,
    image_clone_verb, image_delete_verb, instance_run_verb, instance_start_verb, instance_stop_verb,
    instance_restart_verb, instance_terminate_verb, instance_cease_verb, instance_resize_verb,
    instance_reset_verb, instance_clone_verb, keypair_attach_verb, keypair_detach_verb,
    password_reset_verb, volume_create_verb, volume_delete_verb, volume_attach_verb,
    volume_detach_verb, volume_resize_verb, volume_clone_verb, snapshot_create_verb,
    snapshot_delete_verb, snapshot_apply_verb, snapshot_volume_verb, snapshot_instance_image_verb,
    snapshot_image_verb, snapshot_copy_verb, snapshot_restore_verb, copy_delete_verb,
    pool_scrub_verb, boot_test_verb, repair_verb, repair_undo_verb;

/* --- image-export.c --------------------------------------------------------------------------- */

/* Exports whose time is over go, rows and files. */
bool exports_expire(struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;
/* Removes files that no row knows. Before jobs start. */
bool exports_sweep(const struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;

/* --- boot-test.c ------------------------------------------------------------------------------ */

#define BOOT_TEST_PREFIX "bt-" /* of their ids, which are their machines' names */
/* Images that are only published if they boot, by the configuration: `kind` is "import", "volume"
 * or "instance". In the commit before the steps below: plans the test of `image`, whose layer is
 * frozen by then, and notes it in the item's data; *ret_planned false when there is none. The two
 * steps are part of the verb and do nothing without a plan; the test's report stays, whatever it
 * says. */
bool boot_gate_plan(struct job_run *run, struct db_conn *conn, const struct image *image,
                    const char *kind, bool *ret_planned, struct im_err *err) IM_MUST_CHECK;
/* Fails with IM_WRONG_STATE and the reason. */
bool boot_gate_run(struct job_run *run, struct im_err *err) IM_MUST_CHECK;
bool boot_gate_undo(struct job_run *run, struct im_err *err) IM_MUST_CHECK;
/* The image is published if its test was planned. */
bool boot_gate_publish(struct job_run *run, struct db_conn *conn, struct im_err *err) IM_MUST_CHECK;
/* For `undone`: a test that has no report is forgotten. */
bool boot_gate_undone(struct job_run *run, struct db_conn *conn, struct im_err *err) IM_MUST_CHECK;
/* Are these words kinds? */
bool boot_gate_kinds(const char *kinds, struct im_err *err) IM_MUST_CHECK;
/* A machine of that name runs: ends it, unless its job is at work on it. */
void boot_test_stray(struct cloud *cloud, struct db_conn *conn, const char *name);
/* Those whose time is over go, rows and files. */
bool boot_tests_expire(struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;
/* Removes files that no row knows. Before jobs start. */
bool boot_tests_sweep(const struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;

/* --- recover.c -------------------------------------------------------------------------------- */

/* What has lain in the recycle bin for its time is gone for good. */
bool recycle_empty(struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;

/* --- monitor.c -------------------------------------------------------------------------------- */

struct monitor *monitor_new(void);
bool monitor_start(struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;
/* Writes what is open, and frees it. */
void monitor_stop(struct cloud *cloud);
/* One look at the counters; `last`: none, but everything is written. */
void monitor_round(struct cloud *cloud, int64_t now_s, int64_t mono_ms, bool last);
/* The series of what has ceased. */
bool monitor_forget(struct db_conn *conn, const char *id, struct im_err *err) IM_MUST_CHECK;

/* --- scrub.c ---------------------------------------------------------------------------------- */

bool scrub_start(struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;
void scrub_stop(struct cloud *cloud);
/* Does it say that the bytes are gone, not that they cannot be had right now? */
bool trouble_is_rot(const struct im_err *trouble);
/* Reads a frozen layer through and holds it against its digest; rot is marked in its row. Fails
 * when its bytes cannot be had right now. The caller gives cancel and rate. */
bool layer_judge(struct cloud *cloud, const struct layer *layer, struct stream *stream,
                 enum verdict *ret_verdict, struct im_err *err) IM_MUST_CHECK;
/* scrub-copies.c: reads all layers of the second pool; names of those that have rotted. The caller
 * gives cancel and rate. */
bool copies_scrub(struct cloud *cloud, struct stream *stream, struct im_strings *bad,
                  struct im_err *err) IM_MUST_CHECK;
/* snapshot-restore.c: the bytes of a layer from the second pool, their digest checked; the caller
 * has claimed it, gives cancel, progress and rate, and ends what storage_put_begin began. */
bool layer_fetch(struct cloud *cloud, struct storage_pool *second, const struct layer_copy *copy,
                 struct stream *stream, int *ret_fd, struct im_err *err) IM_MUST_CHECK;

/* --- background.c ----------------------------------------------------------------------------- */

bool background_start(struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;
void background_stop(struct cloud *cloud);
/* There may be layers to collect: look now, and once more a moment later, as who asks may not have
 * committed yet. */
void background_collect(struct cloud *cloud);
/* One round of agreement between record and hypervisor; also run before jobs start. */
bool background_reconcile(struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;

#endif
