/* SPDX-License-Identifier: Apache-2.0 */
/* The things of the cloud: their structs, their states, and which verb is allowed in which state.
 * No I/O.
 *
 * Names of fields are those of the QingCloud API where it has one; fields of our own are marked.
 * Sizes: `size` and `os_disk_size` are GiB as on the wire, everything named _bytes is bytes, memory
 * is MiB. */
#ifndef MODEL_H
#define MODEL_H

#include "base/auto.h"
#include "base/err.h"
#include "model/object.h"

/* --- States ----------------------------------------------------------------------------------- */

/* clang-format off */
#define IMAGE_STATUS_TABLE(X)                                                                      \
    X(PENDING, "pending")                                                                          \
    X(AVAILABLE, "available")                                                                      \
    X(DEPRECATED, "deprecated")                                                                    \
    X(SUSPENDED, "suspended")                                                                      \
    X(DELETED, "deleted")                                                                          \
    X(CEASED, "ceased")
#define INSTANCE_STATUS_TABLE(X)                                                                   \
    X(PENDING, "pending")                                                                          \
    X(RUNNING, "running")                                                                          \
    X(STOPPED, "stopped")                                                                          \
    X(SUSPENDED, "suspended")                                                                      \
    X(TERMINATED, "terminated")                                                                    \
    X(CEASED, "ceased")
#define VOLUME_STATUS_TABLE(X)                                                                     \
    X(PENDING, "pending")                                                                          \
    X(AVAILABLE, "available")                                                                      \
    X(IN_USE, "in-use")                                                                            \
    X(SUSPENDED, "suspended")                                                                      \
    X(DELETED, "deleted")                                                                          \
    X(CEASED, "ceased")
#define SNAPSHOT_STATUS_TABLE(X)                                                                   \
    X(PENDING, "pending")                                                                          \
    X(AVAILABLE, "available")                                                                      \
    X(SUSPENDED, "suspended")                                                                      \
    X(DELETED, "deleted")                                                                          \
    X(CEASED, "ceased")
#define JOB_STATUS_TABLE(X)                                                                        \
    X(PENDING, "pending")                                                                          \
    X(WORKING, "working")                                                                          \
    X(SUCCESSFUL, "successful")                                                                    \
    X(FAILED, "failed")                                                                            \
    X(PARTLY, "done with failure")
#define EXPORT_STATUS_TABLE(X)                                                                     \
    X(PENDING, "pending")                                                                          \
    X(AVAILABLE, "available")
#define BOOT_TEST_STATUS_TABLE(X)                                                                  \
    X(PENDING, "pending")                                                                          \
    X(DONE, "done")
#define REPAIR_STATUS_TABLE(X)                                                                     \
    X(PENDING, "pending")                                                                          \
    X(APPLIED, "applied")                                                                          \
    X(UNDONE, "undone")                                                                            \
    X(NOTHING, "nothing")       /* there was nothing to change */
/* What a resource is on its way to; clients treat a non-empty one as "wait". Terraform aborts on
 * words it does not know, so no new ones are invented here. */
#define TRANSITION_TABLE(X)                                                                        \
    X(NONE, "")                                                                                    \
    X(CREATING, "creating")                                                                        \
    X(STARTING, "starting")                                                                        \
    X(STOPPING, "stopping")                                                                        \
    X(RESTARTING, "restarting")                                                                    \
    X(SUSPENDING, "suspending")                                                                    \
    X(RESUMING, "resuming")                                                                        \
    X(TERMINATING, "terminating")                                                                  \
    X(RECOVERING, "recovering")                                                                    \
    X(RESETTING, "resetting")                                                                      \
    X(DELETING, "deleting")                                                                        \
    X(UPDATING, "updating")                                                                        \
    X(ATTACHING, "attaching")                                                                      \
    X(DETACHING, "detaching")                                                                      \
    X(APPLYING, "applying")
#define LAYER_STATE_TABLE(X)                                                                       \
    X(MAKING, "making")         /* the back end may have nothing, half of it, or all */            \
    X(HEAD, "head")             /* the writable end of one disk */                                 \
    X(FROZEN, "frozen")         /* never changes again */                                          \
    X(DROPPING, "dropping")     /* nothing refers to it; the back end may have it still */
#define ITEM_STATE_TABLE(X)                                                                        \
    X(PENDING, "pending")                                                                          \
    X(WORKING, "working")                                                                          \
    X(UNDOING, "undoing")                                                                          \
    X(DONE, "done")                                                                                \
    X(FAILED, "failed")
#define USER_ROLE_TABLE(X)                                                                         \
    X(USER, "user")                                                                                \
    X(ADMIN, "admin")
#define ACCOUNT_STATUS_TABLE(X)                                                                    \
    X(ACTIVE, "active")                                                                            \
    X(INACTIVE, "inactive")                                                                        \
    X(DISABLED, "disabled")
/* clang-format on */

#define X(name, word) IMAGE_##name,
enum image_status { IMAGE_STATUS_TABLE(X) IMAGE_STATUSES };
#undef X
#define X(name, word) INSTANCE_##name,
enum instance_status { INSTANCE_STATUS_TABLE(X) INSTANCE_STATUSES };
#undef X
#define X(name, word) VOLUME_##name,
enum volume_status { VOLUME_STATUS_TABLE(X) VOLUME_STATUSES };
#undef X
#define X(name, word) SNAPSHOT_##name,
enum snapshot_status { SNAPSHOT_STATUS_TABLE(X) SNAPSHOT_STATUSES };
#undef X
#define X(name, word) EXPORT_##name,
enum export_status { EXPORT_STATUS_TABLE(X) EXPORT_STATUSES };
#undef X
#define X(name, word) BOOT_TEST_##name,
enum boot_test_status { BOOT_TEST_STATUS_TABLE(X) BOOT_TEST_STATUSES };
#undef X
#define X(name, word) REPAIR_##name,
enum repair_status { REPAIR_STATUS_TABLE(X) REPAIR_STATUSES };
#undef X
#define X(name, word) JOB_##name,
enum job_status { JOB_STATUS_TABLE(X) JOB_STATUSES };
#undef X
#define X(name, word) TRANSITION_##name,
enum transition { TRANSITION_TABLE(X) TRANSITIONS };
#undef X
#define X(name, word) LAYER_##name,
enum layer_state { LAYER_STATE_TABLE(X) LAYER_STATES };
#undef X
#define X(name, word) ITEM_##name,
enum item_state { ITEM_STATE_TABLE(X) ITEM_STATES };
#undef X
#define X(name, word) ROLE_##name,
enum user_role { USER_ROLE_TABLE(X) USER_ROLES };
#undef X
#define X(name, word) ACCOUNT_##name,
enum account_status { ACCOUNT_STATUS_TABLE(X) ACCOUNT_STATUSES };
#undef X

const char *image_status_word(enum image_status status);
const char *instance_status_word(enum instance_status status);
const char *volume_status_word(enum volume_status status);
const char *snapshot_status_word(enum snapshot_status status);
const char *transition_word(enum transition transition);

/* Which verb is allowed in which state. The check, the manual's table and the test are all read
 * from these rows. `allowed` is a mask of 1 << status; an object in transition is never allowed. */
struct verb_rule {
    const char *action;
    unsigned allowed;
    enum transition during; /* shown while the job runs */
    const char *cannot;     /* "can not be stopped": ends the sentence of the refusal */
};
/* Each ends with a NULL action. */
extern const struct verb_rule instance_rules[], image_rules[], volume_rules[], snapshot_rules[];
/* NULL if the table has no such action. */
const struct verb_rule *verb_rule_find(const struct verb_rule *rules, const char *action);

/* --- Objects ---------------------------------------------------------------------------------- */

#define SYSTEM_OWNER "system" /* owner of system images */
#define VXNET_BASIC "vxnet-0"

struct user {
    char *user_id, *user_name, *email;
    enum user_role role;
    enum account_status status;
    int64_t create_time;
};
extern const struct object_type user_type;

struct access_key {
    char *access_key_id, *access_key_name, *description, *owner;
    char *secret_sealed; /* sealed with the host's key, see crypto.h; the signature needs the secret
                            itself */
    enum account_status status;
    int64_t create_time, status_time;
};
extern const struct object_type access_key_type;

/* One piece of disk content. The back end knows only `name` in `pool`. */
struct layer {
    char *layer_id, *pool, *name;
    char *parent_id; /* NULL: it holds everything itself */
    enum layer_state state;
    int64_t size_bytes; /* virtual */
    int64_t depth;      /* 1 + the parent's; 1 without parent */
    char *digest;       /* "sha256:…" of the source an import came from; NULL otherwise */
    int64_t create_time;
    char *file_digest; /* "sha256:…" of its bytes in the pool, once it is frozen; NULL: not known */
    int64_t checked_time; /* when its bytes were last found to have it */
    char *damage;         /* a sentence on what is wrong with it; NULL or "": nothing */
};
extern const struct object_type layer_type;

struct image {
    char *image_id, *image_name, *description;
    int64_t size; /* GiB, rounded up */
    char *processor_type, *platform, *os_family, *visibility, *provider, *owner, *recommended_type;
    enum image_status status;
    enum transition transition_status;
    int64_t sub_code;
    char *ui_type, *hypervisor, *default_user, *default_passwd;
    int64_t f_resetpwd, features, feature;
    char *architecture, *root_id, *billing_id, *app_billing_id;
    char *family;          /* ours: `debian12`, resolves to its newest available image */
    char *firmware;        /* ours: "bios" or "uefi" */
    char *source;          /* ours: what it was made from: an instance, image, URL or file name */
    char *digest;          /* ours: "sha256:…" of what came in at import */
    int64_t size_bytes;    /* ours: virtual size to the byte */
    int64_t damaged;       /* ours: 1: a layer that it needs is lost or has rotted */
    int64_t trimmed_bytes; /* ours: data of its disk that held no file and was given back */
    char *layer_id;        /* private */
    char *report;          /* private: what was found on its disk, JSON; NULL = not looked at */
    int64_t create_time, status_time;
};
extern const struct object_type image_type;

/* Ours: a file made of an image for a user to download. The row goes with the file. */
struct image_export {
    char *export_id, *image_id;
    char *format; /* "raw", "qcow2", "raw.zst" or "vmdk" */
    enum export_status status;
    int64_t size_bytes;   /* of the file; 0 while it is being made */
    int64_t disk_bytes;   /* virtual size of the disk in it */
    int64_t stored_bytes; /* what the file takes; while it is being made, what it may take */
    char *digest;         /* "sha256:…" of the file */
    char *owner, *job_id;
    int64_t create_time, expire_time; /* when the file goes; 0 while it is being made */
    char *layer_id;                   /* private */
};
extern const struct object_type image_export_type;

/* Ours: a machine that was started for the sake of seeing it start. */
struct boot_test {
    char *boot_test_id;
    char *resource_id; /* an image or snapshot */
    enum boot_test_status status;
    char *verdict;          /* "boots", "does_not_boot" or "no_sign_of_life"; "" while it runs */
    char *reason;           /* a code for why */
    char *message;          /* the same as a sentence */
    char *evidence;         /* the line of the guest that tells; "" = none */
    char *hint;             /* what to do; "" = nothing to say */
    int64_t vcpus, memory;  /* of the machine; MiB */
    int64_t timeout;        /* that it was given, s */
    int64_t seconds;        /* until the verdict stood */
    int64_t clean_shutdown; /* 1: it powered off when it was asked to */
    char *firmware, *accel; /* "bios" or "uefi"; "kvm" or "tcg" */
    int64_t serial_bytes;   /* of its serial console's log */
    int64_t screen_bytes;   /* of the picture of its screen, a PNG; 0 = there is none */
    char *owner, *job_id;
    int64_t create_time, end_time;
    char *timeline; /* private: JSON, [{"mark":"kernel","ms":4200}, …] */
    char *layer_id; /* private: its disk while it runs */
};
extern const struct object_type boot_test_type;

/* Ours: a disk that was changed from outside, and what it takes to change it back. */
struct repair {
    char *repair_id;
    char *resource_id; /* an image, volume or instance */
    enum repair_status status;
    char *findings;   /* codes that were asked for, with blanks in between; "all"; "" = none */
    char *seal;       /* items of sealing, the same way */
    int64_t undoable; /* 1: the disk as it was is kept, and the resource goes on from there */
    char *owner, *job_id;
    int64_t create_time, end_time;
    char *changes;  /* private: JSON, {"repairs", "files", "steps"} as worker/request.h has them */
    char *report;   /* private: what was found on the disk before, JSON */
    char *layer_id; /* private: the disk as it was; NULL once it is not kept any more */
    char *made_id;  /* private: the layer that was made of it */
};
extern const struct object_type repair_type;

struct instance {
    char *instance_id, *instance_name, *description;
    char *instance_type;
    int64_t instance_class, vcpus_current, memory_current;
    char *cpu_topology;
    enum instance_status status;
    enum transition transition_status;
    int64_t sub_code;
    int64_t create_time, status_time;
    char *zone_id, *owner, *platform, *hostname, *host_machine;
    char *graphics_protocol, *graphics_passwd, *graphics_port;
    char *agent_state; /* ours: "connected", "disconnected" or "" when never seen */
    char *unapplied;   /* ours: what first boot could not be given, one sentence; "" if all was
                          applied */
    int64_t damaged;   /* ours, as an image's */
    /* Private: shown in nested objects, or never. */
    char *image_id, *layer_id;
    int64_t os_disk_size; /* GiB */
    int64_t cpu_max, mem_max, nic_mqueue;
    char *cpu_model, *login_mode, *passwd_hash, *userdata, *userdata_path;
    /* Where a system takes no hash (Windows): the password itself, sealed with the host's key,
     * while its machine may not have had it; when it was last started with it on the seed, 0 = not
     * yet; and how often a later one went by the seed, which cloudbase-init must see as new. */
    char *passwd_sealed;
    int64_t passwd_time, passwd_turn;
    int64_t generation; /* raised by reset and clone, so that cloud-init sees a new machine */
    char *firmware;
};
extern const struct object_type instance_type;

/* A data disk. */
struct volume {
    char *volume_id, *volume_name, *description;
    int64_t size, volume_type; /* GiB; a row of the configured table of types */
    enum volume_status status;
    enum transition transition_status;
    int64_t sub_code;
    int64_t create_time, status_time;
    char *owner, *zone_id, *repl, *place_group_id;
    char *device;    /* as the guest is expected to name it, "/dev/vdc"; "" when detached */
    int64_t damaged; /* ours, as an image's */
    char *instance_id, *layer_id; /* private */
    int64_t latest_snapshot_time; /* private: shown in both of the API's spellings */
    /* Private: 1 while a verb works on it that the API has no transition for (resize, clone,
     * backup); Terraform gives up on words of our own. */
    int64_t busy;
};
extern const struct object_type volume_type;

/* A point in time of one disk: an instance's system disk or a volume. Outlives its source, so it
 * keeps what a machine or a volume made from it must know. */
struct snapshot {
    char *snapshot_id, *snapshot_name, *description;
    int64_t snapshot_type; /* SNAPSHOT_FULL or SNAPSHOT_INCREMENT */
    enum snapshot_status status;
    enum transition transition_status;
    int64_t sub_code;
    char *parent_id; /* the point before, "self" for a full one */
    char *root_id;   /* the full one of its chain */
    int64_t is_head; /* 1: what its resource holds now began here */
    int64_t is_taken, head_chain;
    int64_t size, virtual_size; /* MiB */
    int64_t snapshot_time, create_time, status_time;
    char *provider, *visibility, *owner;
    char *consistency;   /* ours: "app", "fs" or "crash"; "off" when its machine did not run */
    int64_t is_manually; /* 1: asked for by a user */
    int64_t damaged;     /* ours, as an image's */
    int64_t copy_time;   /* ours: when it was last copied to the second pool; 0 = never */
    /* Private. */
    char *resource_id, *resource_name, *resource_type; /* "instance" or "volume" */
    char *layer_id;                                    /* frozen; NULL once it is gone */
    int64_t own_bytes;
    int64_t disk_size, volume_type;                       /* GiB of the resource */
    char *image_id, *platform, *firmware, *instance_type; /* of an instance */
};
extern const struct object_type snapshot_type;
enum { SNAPSHOT_INCREMENT = 0, SNAPSHOT_FULL = 1 };
#define SNAPSHOT_SELF "self" /* parent_id of a full one */

struct nic {
    char *nic_id; /* the MAC address */
    char *nic_name, *status, *instance_id, *vxnet_id, *private_ip, *security_group, *owner;
    int64_t role, sequence;
    int64_t ssh_port; /* private: port on 127.0.0.1 that leads to the guest's 22; 0 when bridged */
    int64_t create_time, status_time;
};
extern const struct object_type nic_type;

struct keypair {
    char *keypair_id, *keypair_name, *description, *encrypt_method, *pub_key, *owner;
    int64_t create_time;
};
extern const struct object_type keypair_type;

struct keypair_link {
    char *link_id; /* keypair_id + "/" + instance_id */
    char *keypair_id, *instance_id;
};
extern const struct object_type keypair_link_type;

struct job {
    char *job_id, *job_action;
    enum job_status status;
    char *resource_ids, *owner, *error_codes, *directive;
    int64_t create_time, status_time;
    char *error_message;             /* ours: the first failed item's sentence */
    int64_t done_bytes, total_bytes; /* ours: 0 and 0 where no bytes move */
    int64_t rate_bytes;              /* ours: per second, over the last seconds */
    int64_t cancel;                  /* private: 1 = asked to stop */
    char *worker;                    /* private: the imprintd that runs it */
};
extern const struct object_type job_type;

/* What one job does to one resource: a row that says which step is under way. */
struct job_item {
    char *item_id; /* job_id + "/" + number */
    char *job_id, *resource_id;
    enum item_state state;
    int64_t step; /* index of the step that is being done, or to be undone next */
    char *data;   /* what the verb must remember: JSON text of its own */
    char *error_code, *error_message; /* name from IM_ERR_TABLE and the sentence */
};
extern const struct object_type job_item_type;

/* One line per type: image_free(), image_free_auto() and so on. */
#define MODEL_DEFINE_FREE(name)                                                                    \
    static inline void name##_free(struct name *object) { object_free(&name##_type, object); }     \
    IM_DEFINE_AUTO(struct name *, name##_free)
MODEL_DEFINE_FREE(user)
MODEL_DEFINE_FREE(access_key)
MODEL_DEFINE_FREE(layer)
MODEL_DEFINE_FREE(image)
MODEL_DEFINE_FREE(image_export)
MODEL_DEFINE_FREE(boot_test)
MODEL_DEFINE_FREE(repair)
MODEL_DEFINE_FREE(instance)
MODEL_DEFINE_FREE(volume)
MODEL_DEFINE_FREE(snapshot)
MODEL_DEFINE_FREE(nic)
MODEL_DEFINE_FREE(keypair)
MODEL_DEFINE_FREE(keypair_link)
MODEL_DEFINE_FREE(job)
MODEL_DEFINE_FREE(job_item)

/* --- Instance types --------------------------------------------------------------------------- */

struct instance_preset {
    char name[24];
    int64_t vcpus, memory_mb, instance_class;
};
/* The presets of the API; *ret_count rows, static memory. */
const struct instance_preset *instance_presets(size_t *ret_count);
/* NULL if there is none of that name. */
const struct instance_preset *instance_preset_find(const char *name);
/* The name of the preset that matches, or "custom". */
const char *instance_preset_name(int64_t vcpus, int64_t memory_mb, int64_t instance_class);

#endif
