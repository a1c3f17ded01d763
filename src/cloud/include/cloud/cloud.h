/* SPDX-License-Identifier: Apache-2.0 */
/* The verbs and all business rules. http/ turns a request into one of these calls; nothing here
 * knows of HTTP.
 *
 * Every verb checks first and changes nothing when it refuses. Verbs that touch a hypervisor or
 * storage make their rows and their job in one transaction and return the job's id at once; what
 * they made is visible to the describe calls before they return. Texts in argument structs are
 * borrowed and may be NULL ("not given"); numbers are -1 when not given.
 *
 * Codes: IM_BAD_MESSAGE (parameter missing or malformed), IM_NOT_FOUND (also for what the caller
 * may not see), IM_DENIED and IM_WRONG_STATE, IM_QUOTA, IM_NO_RESOURCE, IM_NO_SPACE, IM_BUSY.
 * Threads: any. */
#ifndef CLOUD_CLOUD_H
#define CLOUD_CLOUD_H

#include "base/id.h"
#include "base/mem.h"
#include "crypto/crypto.h"
#include "db/db.h"
#include "jobs/jobs.h"
#include "model/model.h"
#include "net/net.h"
#include "storage/storage.h"
#include "virt/virt.h"

struct cloud;

struct cloud_config {
    /* Opened by the daemon, used by the cloud, closed by the daemon after cloud_close. */
    struct db *db;
    struct storage_pool *pool;
    struct virt *virt;
    struct net *net;
    struct crypto_key *key;

    const char *zone_id;               /* "local1a" */
    const char *state_dir;             /* absolute: uploads/, exports/, seeds/ are made in it */
    const char *worker_program;        /* path of imprint-worker */
    const char *worker_user;           /* user the workers change to when started by root */
    const char *instance_name;         /* name of this imprintd among replicas */
    uint32_t machine_uid, machine_gid; /* owner of what machines write */
    unsigned job_threads;

    int64_t max_vcpus,
        max_memory_mib; /* per instance; 0 = the host's CPUs times 8, the host's memory */
    int64_t min_memory_mib;
    int64_t
        memory_reserve_mib; /* kept for the host: a start that would leave less is IM_NO_RESOURCE */
    int64_t max_disk_gib;
    const char *volume_types; /* "TYPE:MIN-MAX, …", sizes in GiB */
    int64_t volume_step_gib;
    int64_t detach_timeout_ms; /* how long a guest may take to let go of a volume */
    int64_t freeze_timeout_ms; /* how long guests may be kept from writing for a snapshot, all of
                                  them together, and then be asked how it was */
    int64_t data_image_min_gib,
        data_image_max_gib;  /* sizes of a volume that becomes an image; max 0 = any */
    int64_t recycle_s;       /* time in the recycle bin, default 7200 */
    int64_t stop_timeout_ms; /* soft stop, then power off */
    int64_t job_keep_s;
    int64_t job_rest_ms;        /* see jobs_config.rest_ms; 0 = its default */
    int64_t monitor_interval_s; /* between two looks at the machines' counters; 0 = none */
    int64_t merge_rate; /* bytes a second that may be copied to shorten chains; 0 = they stay */
    int64_t chain_max;  /* frozen layers above one another; 0 = any number */
    int64_t running_chain_max; /* layers that a running machine reads through; 0 = any number */
    const char *second_uri;    /* pool that snapshots are copied to; "" = none */
    int64_t scrub_rate_bytes;  /* a second, that frozen layers are read with; 0 = not by itself */
    int64_t scrub_interval_s;  /* each of them once in this time */
    const char *import_paths;  /* folders ImportImage may read from, separated by ':'; "" = none */
    bool import_private_addresses;            /* URLs may lead to loopback and private ranges */
    const char *import_proxy;                 /* for URLs; "" = none */
    int64_t import_max_bytes;                 /* virtual size and received bytes */
    int64_t import_max_ratio;                 /* decompressed : compressed */
    int64_t export_keep_s;                    /* how long an export can be downloaded */
    int64_t export_max_bytes;                 /* of all exports together; 0 = no limit */
    int64_t boot_test_at_once;                /* machines of boot tests */
    int64_t boot_test_kvm_s, boot_test_tcg_s; /* that a machine may take to be up */
    int64_t boot_test_vcpus, boot_test_memory_mib;
    int64_t boot_test_keep_s; /* how long reports are kept */
    const char *appliance; /* folder that make-appliance filled, the machine that changes disks */
    const char *boot_test_required; /* kinds of images that must boot before they are published:
                                       "import, volume, instance"; "" = none */
};

/* Does the record know layers of this pool? Then an empty folder is none of it: for the daemon,
 * which opens the pool before the cloud. */
bool cloud_pool_used(struct db *db, const char *pool_uri, bool *ret_used,
                     struct im_err *err) IM_MUST_CHECK;
/* For the operator, while nothing serves: every layer that the record knows and the pool has not is
 * marked as damaged, with what stands on it. */
bool cloud_pool_accept_loss(struct db *db, struct storage_pool *pool, int64_t *ret_lost,
                            struct im_err *err) IM_MUST_CHECK;
struct cloud *cloud_open(const struct cloud_config *config, struct im_err *err) IM_MUST_CHECK;
/* Puts the record and the world in agreement (machines that stopped meanwhile, half-made layers),
 * then starts jobs and the background: collecting layers, emptying the recycle bin, watching
 * machines. */
bool cloud_start(struct cloud *cloud, struct im_err *err) IM_MUST_CHECK;
/* Stops jobs and background; machines go on running. NULL is fine. */
void cloud_close(struct cloud *cloud);
/* The virt_event of the daemon leads here. */
void cloud_machine_event(struct cloud *cloud, const char *name, enum virt_state state);
struct db *cloud_db(struct cloud *cloud);
const char *cloud_zone(const struct cloud *cloud);

/* --- Who asks --------------------------------------------------------------------------------- */

struct caller {
    char user_id[IM_ID_MAX];
    bool admin;
};
/* The secret of an active key of an active user, for checking a signature. Answers from memory
 * mostly. *ret_secret is the caller's. IM_AUTH when there is no such key. */
bool cloud_secret(struct cloud *cloud, const char *access_key_id, struct caller *ret_caller,
                  char **ret_secret, struct im_err *err) IM_MUST_CHECK;
/* Operator's verbs (imprintd user …); no caller. ret_key_id and ret_secret are owned; the secret is
 * shown only here. */
bool cloud_user_add(struct cloud *cloud, const char *name, const char *email, bool admin,
                    char ret_user_id[IM_ID_MAX], struct im_err *err) IM_MUST_CHECK;
bool cloud_user_list(struct cloud *cloud, struct user ***ret_users, size_t *ret_count,
                     struct im_err *err) IM_MUST_CHECK;
bool cloud_user_set_status(struct cloud *cloud, const char *name, enum account_status status,
                           struct im_err *err) IM_MUST_CHECK;
bool cloud_access_key_add(struct cloud *cloud, const char *user_name, const char *key_name,
                          char **ret_key_id, char **ret_secret, struct im_err *err) IM_MUST_CHECK;
bool cloud_access_keys_delete(struct cloud *cloud, const struct caller *caller,
                              const struct im_strings *ids, struct im_err *err) IM_MUST_CHECK;

/* --- Lists. `query` holds the conditions of the request; the cloud adds who may see what, and
 * leaves out ceased resources unless they are asked for by id or status. Results are freed with the
 * _done call. ---------------------------------------- */

struct image_export_list {
    struct image_export **items;
    size_t count;
    int64_t total;
};
bool cloud_image_exports(struct cloud *cloud, const struct caller *caller, struct query *query,
                         struct image_export_list *ret_list, struct im_err *err) IM_MUST_CHECK;
void image_export_list_done(struct image_export_list *list);

struct image_list {
    struct image **items;
    size_t count;
    int64_t total;
};
bool cloud_images(struct cloud *cloud, const struct caller *caller, struct query *query,
                  struct image_list *ret_list, struct im_err *err) IM_MUST_CHECK;
void image_list_done(struct image_list *list);

struct instance_view {
    struct instance *instance;
    struct image *image; /* never NULL: a bare one with the id when the row is gone */
    struct nic **nics;
    size_t nic_count;
    struct im_strings keypair_ids;
    struct volume **volumes; /* attached, in the order of their devices */
    size_t volume_count;
};
struct instance_list {
    struct instance_view *items;
    size_t count;
    int64_t total;
};
/* `live`: also asks the machines for agent, host name and VNC port (a few ms each; never more than
 * a second in all). */
bool cloud_instances(struct cloud *cloud, const struct caller *caller, struct query *query,
                     bool live, struct instance_list *ret_list, struct im_err *err) IM_MUST_CHECK;
void instance_list_done(struct instance_list *list);

struct keypair_view {
    struct keypair *keypair;
    struct im_strings instance_ids; /* live instances only */
};
struct keypair_list {
    struct keypair_view *items;
    size_t count;
    int64_t total;
};
/* instance_id (may be NULL): only pairs on that instance. */
bool cloud_keypairs(struct cloud *cloud, const struct caller *caller, struct query *query,
                    const char *instance_id, struct keypair_list *ret_list,
                    struct im_err *err) IM_MUST_CHECK;
void keypair_list_done(struct keypair_list *list);

struct job_view {
    struct job *job;
    struct job_item **items;
    size_t item_count;
};
struct job_list {
    struct job_view *items;
    size_t count;
    int64_t total;
};
bool cloud_jobs(struct cloud *cloud, const struct caller *caller, struct query *query,
                struct job_list *ret_list, struct im_err *err) IM_MUST_CHECK;
void job_list_done(struct job_list *list);

struct access_key_list {
    struct access_key **items;
    size_t count;
    int64_t total;
};
bool cloud_access_keys(struct cloud *cloud, const struct caller *caller, struct query *query,
                       struct access_key_list *ret_list, struct im_err *err) IM_MUST_CHECK;
void access_key_list_done(struct access_key_list *list);

/* --- Images ----------------------------------------------------------------------------------- */

struct image_import_args {
    const char *image_name, *description;
    const char *source; /* URL or absolute path; NULL: the bytes come by upload */
    const char *format; /* "raw", "qcow2", "vmdk", "vdi", "vpc", "vhdx"; NULL = by its magic */
    const char *digest; /* "sha256:…" or bare hex of what comes in; NULL = not compared */
    const char *platform, *os_family, *processor_type, *default_user, *firmware, *ui_type;
    int64_t force; /* 1: also without partition table */
    /* Administrators only: an image for all, under a symbolic id, perhaps of a family. */
    const char *image_id, *visibility, *family;
};
/* With a source: image and job. By upload: image only (job_id is ""); the job is made by
 * cloud_upload_finish. */
bool cloud_image_import(struct cloud *cloud, const struct caller *caller,
                        const struct image_import_args *args, char ret_image_id[IM_ID_MAX],
                        char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;

/* Upload, resumable: the bytes are kept in state_dir/uploads until the import is over; never looked
 * at here. */
struct upload {
    char path[512];          /* of the file that takes the bytes */
    uint64_t received_bytes; /* durable so far: the offset to go on from */
};
bool cloud_upload_begin(struct cloud *cloud, const struct caller *caller, const char *image_id,
                        struct upload *ret_upload, struct im_err *err) IM_MUST_CHECK;
/* All bytes are there: makes the import job. Repeatable: later calls tell the same job. */
bool cloud_upload_finish(struct cloud *cloud, const struct caller *caller, const char *image_id,
                         uint64_t total_bytes, char ret_job_id[IM_JOB_ID_MAX],
                         struct im_err *err) IM_MUST_CHECK;

/* Makes a file of what the image holds, "qcow2" (NULL is that), "raw", "raw.zst" or "vmdk": a job.
 * An export that the caller has already, or that is being made, is told again, with its job, which
 * may be over, and stays for another full time. */
bool cloud_image_export(struct cloud *cloud, const struct caller *caller, const char *image_id,
                        const char *format, char ret_export_id[IM_ID_MAX],
                        char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
/* The file, to be read: its content never changes. */
struct export_file {
    int fd; /* the caller's */
    uint64_t size_bytes;
    char digest[65];           /* SHA-256, hexadecimal; "" = not known */
    char name[IM_ID_MAX + 16]; /* to save it under */
    const char *type;          /* of its content */
};
bool cloud_export_open(struct cloud *cloud, const struct caller *caller, const char *export_id,
                       struct export_file *ret_file, struct im_err *err) IM_MUST_CHECK;
/* Those that are ready; at once. */
bool cloud_image_exports_delete(struct cloud *cloud, const struct caller *caller,
                                const struct im_strings *ids, struct im_err *err) IM_MUST_CHECK;

/* Starts a machine of what an image or snapshot holds, on a disk that is thrown away and a network
 * that nothing leaves, to see whether it comes up: a job. What is not given is as configured. */
struct boot_test_args {
    const char *resource_id, *firmware;
    int64_t cpu, memory, timeout_s; /* memory in MiB */
};
bool cloud_boot_test(struct cloud *cloud, const struct caller *caller,
                     const struct boot_test_args *args, char ret_boot_test_id[IM_ID_MAX],
                     char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
struct boot_test_list {
    struct boot_test **items;
    size_t count;
    int64_t total;
};
bool cloud_boot_tests(struct cloud *cloud, const struct caller *caller, struct query *query,
                      struct boot_test_list *ret_list, struct im_err *err) IM_MUST_CHECK;
void boot_test_list_done(struct boot_test_list *list);
/* What the machine said, "serial", or a picture of its screen, "screen" (PNG). */
bool cloud_boot_test_open(struct cloud *cloud, const struct caller *caller,
                          const char *boot_test_id, const char *what, struct export_file *ret_file,
                          struct im_err *err) IM_MUST_CHECK;

/* seal (NULL, empty: nothing): what is taken out of the image before it is available, items of
 * guest/repair.h, or "all". trim: what of the disk holds no file any more is not kept, for the
 * instance neither; the image tells how much that was. Both take some seconds, and the appliance:
 * IM_UNSUPPORTED without it. */
struct image_capture_args {
    const char *instance_id, *image_name;
    const struct im_strings *seal;
    int64_t trim; /* 1 = yes */
};
bool cloud_image_capture(struct cloud *cloud, const struct caller *caller,
                         const struct image_capture_args *args, char ret_image_id[IM_ID_MAX],
                         char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
bool cloud_image_clone(struct cloud *cloud, const struct caller *caller, const char *image_id,
                       int64_t count, const char *image_name, struct im_strings *ret_image_ids,
                       char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
/* direct_cease (ours): skips the recycle bin. */
bool cloud_images_delete(struct cloud *cloud, const struct caller *caller,
                         const struct im_strings *image_ids, bool direct_cease,
                         char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
/* NULL leaves an attribute, "" empties it. Same for the two below. */
bool cloud_image_modify(struct cloud *cloud, const struct caller *caller, const char *image_id,
                        const char *image_name, const char *description,
                        struct im_err *err) IM_MUST_CHECK;

/* --- Instances -------------------------------------------------------------------------------- */

struct instance_run_args {
    const char *image_id; /* id, symbolic id, or family */
    const char *instance_type;
    int64_t cpu, memory; /* memory in MiB; win over instance_type unless go_defaults */
    bool go_defaults; /* cpu=1 and memory=1024 came with the Go SDK's other defaults: instance_type
                         wins */
    int64_t os_disk_size; /* GiB */
    int64_t count;
    const char *instance_name, *hostname;
    const char *login_mode, *login_keypair, *login_passwd;
    const struct im_strings *vxnets; /* "vxnet-0" or "vxnet-0|ip"; empty = no network */
    int64_t instance_class, cpu_max, mem_max, nic_mqueue;
    const char *cpu_model, *cpu_topology;
    int64_t need_userdata;
    const char *userdata_type, *userdata_value, *userdata_path, *userdata_file;
    const char *security_group;
    bool no_start; /* ours (start=0): ends "stopped" */
};
bool cloud_instances_run(struct cloud *cloud, const struct caller *caller,
                         const struct instance_run_args *args, struct im_strings *ret_instance_ids,
                         char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
bool cloud_instances_start(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                           struct im_err *err) IM_MUST_CHECK;
bool cloud_instances_stop(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, bool force, char ret_job_id[IM_JOB_ID_MAX],
                          struct im_err *err) IM_MUST_CHECK;
bool cloud_instances_restart(struct cloud *cloud, const struct caller *caller,
                             const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                             struct im_err *err) IM_MUST_CHECK;
bool cloud_instances_terminate(struct cloud *cloud, const struct caller *caller,
                               const struct im_strings *ids, bool direct_cease,
                               char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
bool cloud_instances_cease(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                           struct im_err *err) IM_MUST_CHECK;
struct instance_resize_args {
    const char *instance_type;
    int64_t cpu, memory, os_disk_size;
    const char *cpu_model, *cpu_topology;
};
bool cloud_instances_resize(struct cloud *cloud, const struct caller *caller,
                            const struct im_strings *ids, const struct instance_resize_args *args,
                            char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
struct instance_reset_args {
    const char *image_id; /* NULL: the image it was made from */
    const char *login_mode, *login_keypair, *login_passwd;
    int64_t os_disk_size;
};
bool cloud_instances_reset(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, const struct instance_reset_args *args,
                           char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
bool cloud_instance_modify(struct cloud *cloud, const struct caller *caller, const char *id,
                           const char *instance_name, const char *description, int64_t nic_mqueue,
                           struct im_err *err) IM_MUST_CHECK;
/* ret_instance_ids[i] is the clone of ids[i], with copies of the volumes it has: ret_volumes are
 * "instance|volume|copy". vxnets: "instance|vxnet[|ip]". */
bool cloud_instances_clone(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, const struct im_strings *vxnets,
                           struct im_strings *ret_instance_ids, struct im_strings *ret_volumes,
                           char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;

/* Of the image's login user: at once where a guest agent is connected, else at the next boot. */
bool cloud_password_reset(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *instance_ids, const char *password,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;

/* How to reach an instance by SSH from this host. */
struct ssh_address {
    char host[64];
    int port;
    char user[64];
};
bool cloud_instance_ssh(struct cloud *cloud, const struct caller *caller, const char *id,
                        struct ssh_address *ret_address, struct im_err *err) IM_MUST_CHECK;
/* The serial console, both ways (see virt_console_open), and what was logged of it so far (owned).
 */
bool cloud_instance_console(struct cloud *cloud, const struct caller *caller, const char *id,
                            int *ret_fd, struct im_err *err) IM_MUST_CHECK;
bool cloud_instance_console_log(struct cloud *cloud, const struct caller *caller, const char *id,
                                char **ret_bytes, size_t *ret_len,
                                struct im_err *err) IM_MUST_CHECK;

/* The network vxnet-0 as this host has it. */
struct vxnet_state {
    bool bridge; /* else user mode: each machine has its own network, and a port on 127.0.0.1 */
    char subnet[24], gateway[16], first[16], last[16]; /* user mode: QEMU's, subnet "10.0.2.0/24" */
    int64_t free_count; /* addresses that are left; user mode: ports */
    char about[768];    /* one sentence for people: the mode, and why it is not the bridge */
};
bool cloud_vxnet(struct cloud *cloud, struct vxnet_state *ret_state,
                 struct im_err *err) IM_MUST_CHECK;
/* --- Volumes ---------------------------------------------------------------------------------- */

struct volume_view {
    struct volume *volume; /* its `device` as the guest names it, where its agent tells */
    char *instance_name;   /* "" when detached */
};
struct volume_list {
    struct volume_view *items;
    size_t count;
    int64_t total;
};
/* instance_id and the other conditions are in the query; `live` asks the guests for their names of
 * the devices. */
bool cloud_volumes(struct cloud *cloud, const struct caller *caller, struct query *query, bool live,
                   struct volume_list *ret_list, struct im_err *err) IM_MUST_CHECK;
void volume_list_done(struct volume_list *list);

struct volume_create_args {
    int64_t size, volume_type, count; /* GiB; type 0 and one by default */
    const char *volume_name;
    bool round_up;
};
bool cloud_volumes_create(struct cloud *cloud, const struct caller *caller,
                          const struct volume_create_args *args, struct im_strings *ret_volume_ids,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
bool cloud_volumes_delete(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, bool direct_cease,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
bool cloud_volumes_attach(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, const char *instance_id,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
/* instance_id may be NULL: from whatever they are attached to. */
bool cloud_volumes_detach(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, const char *instance_id,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
/* Also while a machine has it open; the guest sees the new size at once. */
bool cloud_volumes_resize(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, int64_t size,
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
struct volume_clone_args {
    const char *volume_id, *volume_name;
    int64_t count, volume_type;
};
bool cloud_volumes_clone(struct cloud *cloud, const struct caller *caller,
                         const struct volume_clone_args *args, struct im_strings *ret_volume_ids,
                         char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
bool cloud_volume_modify(struct cloud *cloud, const struct caller *caller, const char *volume_id,
                         const char *volume_name, const char *description,
                         struct im_err *err) IM_MUST_CHECK;

/* --- Snapshots -------------------------------------------------------------------------------- */

struct snapshot_view {
    struct snapshot *snapshot;
    int64_t total_size, total_count; /* full ones: MiB and points of the chain */
    int64_t latest_time;             /* full ones: of its newest point */
};
struct snapshot_list {
    struct snapshot_view *items;
    size_t count;
    int64_t total;
};
bool cloud_snapshots(struct cloud *cloud, const struct caller *caller, struct query *query,
                     struct snapshot_list *ret_list, struct im_err *err) IM_MUST_CHECK;
void snapshot_list_done(struct snapshot_list *list);

enum { SNAPSHOT_CHAIN_MAX = 30 }; /* points of one chain */
struct snapshot_create_args {
    const struct im_strings *resources; /* ids of instances and volumes, mixed */
    const char *snapshot_name;
    bool is_full; /* false: an increment where there is a chain that has room */
};
/* All resources at one instant; ret_snapshot_ids in their order. */
bool cloud_snapshots_create(struct cloud *cloud, const struct caller *caller,
                            const struct snapshot_create_args *args,
                            struct im_strings *ret_snapshot_ids, char ret_job_id[IM_JOB_ID_MAX],
                            struct im_err *err) IM_MUST_CHECK;
/* A full one takes its chain with it into the recycle bin; an increment is gone at once, with all
 * points after it, or alone when `merge` says so. */
bool cloud_snapshots_delete(struct cloud *cloud, const struct caller *caller,
                            const struct im_strings *ids, bool merge, bool direct_cease,
                            char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;
/* Their resources hold again what they held then; running machines are stopped and started. */
bool cloud_snapshots_apply(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                           struct im_err *err) IM_MUST_CHECK;
bool cloud_snapshot_modify(struct cloud *cloud, const struct caller *caller,
                           const char *snapshot_id, const char *snapshot_name,
                           const char *description, struct im_err *err) IM_MUST_CHECK;
bool cloud_snapshot_volume(struct cloud *cloud, const struct caller *caller,
                           const char *snapshot_id, const char *volume_name,
                           char ret_volume_id[IM_ID_MAX], char ret_job_id[IM_JOB_ID_MAX],
                           struct im_err *err) IM_MUST_CHECK;
/* An image of what it holds. base_image: whose facts (platform, login user …) it inherits where the
 * disk of a volume does not tell them. A volume's disk is looked into first: IM_WRONG_STATE, in the
 * job, when no machine could start from it. */
struct snapshot_image_args {
    const char *snapshot_id, *image_name, *description, *base_image;
    bool instance_only; /* CaptureInstanceFromSnapshot */
    bool force;         /* whatever is found on the disk */
};
bool cloud_snapshot_image(struct cloud *cloud, const struct caller *caller,
                          const struct snapshot_image_args *args, char ret_image_id[IM_ID_MAX],
                          char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;

/* Copies in the second pool: only the layers that are not there yet, under the same names. */
bool cloud_snapshots_copy(struct cloud *cloud, const struct caller *caller,
                          const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                          struct im_err *err) IM_MUST_CHECK;
/* Brings back what the pool has not, or has damaged; also points that the record has lost. */
bool cloud_snapshots_restore(struct cloud *cloud, const struct caller *caller,
                             const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                             struct im_err *err) IM_MUST_CHECK;
bool cloud_copies_delete(struct cloud *cloud, const struct caller *caller,
                         const struct im_strings *ids, char ret_job_id[IM_JOB_ID_MAX],
                         struct im_err *err) IM_MUST_CHECK;
/* Read from the second pool itself, not from the record. */
struct copy_view {
    struct snapshot *snapshot; /* as it was copied */
    bool whole;                /* all its layers are there */
    int64_t file_bytes;        /* of all its layers, some of which others share */
    char trouble[256];         /* what is wrong with its note or layers; "" = nothing */
};
struct copy_list {
    struct copy_view *items;
    size_t count;
};
bool cloud_copies(struct cloud *cloud, const struct caller *caller, struct copy_list *ret_list,
                  struct im_err *err) IM_MUST_CHECK;
void copy_list_done(struct copy_list *list);
/* Looks into the disk of an image, snapshot, or a volume or stopped instance whose disk no machine
 * has open, now. *ret_report is the caller's: JSON, as
 * worker/request.h has it; it stays with an image of one's own. Takes some ten milliseconds to
 * start the worker. IM_BUSY while others are looked into. */
bool cloud_inspect(struct cloud *cloud, const struct caller *caller, const char *id,
                   char **ret_report, struct im_err *err) IM_MUST_CHECK;
/* What would repair such a disk, or seal it: {"repairs", "files", "steps"} as
 * worker/request.h has them. Findings by their codes and items of sealing; neither: all that can be
 * repaired. Changes nothing. IM_BAD_MESSAGE for a code or item that there is not. */
bool cloud_repair_plan(struct cloud *cloud, const struct caller *caller, const char *id,
                       const struct im_strings *codes, const struct im_strings *seal,
                       char **ret_plan, struct im_err *err) IM_MUST_CHECK;

/* Does it, and seals: a job, at whose end the resource, an image, or a volume or stopped instance
 * whose disk no machine has open, goes on from a changed layer. The disk as it was is kept for
 * cloud_repair_undo. The job fails with IM_WRONG_STATE, and nothing is changed, when the disk is no
 * better for it. IM_UNSUPPORTED without the appliance. */
struct repair_args {
    const char *resource_id;
    const struct im_strings *findings, *seal; /* as for cloud_repair_plan */
};
bool cloud_repair(struct cloud *cloud, const struct caller *caller, const struct repair_args *args,
                  char ret_repair_id[IM_ID_MAX], char ret_job_id[IM_JOB_ID_MAX],
                  struct im_err *err) IM_MUST_CHECK;
/* Takes the last repair of the resource back, with all that was written to a volume or an instance
 * since. A job; constant time. IM_WRONG_STATE when there is none, or the disk was frozen since. */
bool cloud_repair_undo(struct cloud *cloud, const struct caller *caller, const char *resource_id,
                       char ret_repair_id[IM_ID_MAX], char ret_job_id[IM_JOB_ID_MAX],
                       struct im_err *err) IM_MUST_CHECK;
struct repair_list {
    struct repair **items;
    size_t count;
    int64_t total;
};
bool cloud_repairs(struct cloud *cloud, const struct caller *caller, struct query *query,
                   struct repair_list *ret_list, struct im_err *err) IM_MUST_CHECK;
void repair_list_done(struct repair_list *list);

/* --- The recycle bin -------------------------------------------------------------------------- */

/* Images, instances, volumes and full snapshots come back out of it. */
bool cloud_recover(struct cloud *cloud, const struct caller *caller, const struct im_strings *ids,
                   struct im_err *err) IM_MUST_CHECK;

/* --- Key pairs -------------------------------------------------------------------------------- */

/* public_key NULL: a pair is made and ret_private_key is its private half (owned); else
 * ret_private_key is "". */
bool cloud_keypair_create(struct cloud *cloud, const struct caller *caller, const char *name,
                          const char *method, const char *public_key,
                          char ret_keypair_id[IM_ID_MAX], char **ret_private_key,
                          struct im_err *err) IM_MUST_CHECK;
bool cloud_keypairs_delete(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, struct im_err *err) IM_MUST_CHECK;
bool cloud_keypair_modify(struct cloud *cloud, const struct caller *caller, const char *id,
                          const char *name, const char *description,
                          struct im_err *err) IM_MUST_CHECK;
/* Both idempotent. */
bool cloud_keypairs_attach(struct cloud *cloud, const struct caller *caller,
                           const struct im_strings *ids, const struct im_strings *instance_ids,
                           bool detach, char ret_job_id[IM_JOB_ID_MAX],
                           struct im_err *err) IM_MUST_CHECK;

/* --- Monitoring ------------------------------------------------------------------------------- */

struct monitor_value {
    bool known, pair;
    int64_t a, b; /* per mille (cpu, memory); pairs: in and out or read and written, per second */
};
struct monitor_span {
    int64_t step_s;         /* a multiple of 300; from 7200 on of 7200 */
    int64_t start_s, end_s; /* [start, end) */
};
struct meter_view {
    char *meter;     /* as it was asked for */
    const char *mac; /* of a network card, within `meter`; else NULL */
    char *vxnet_id;  /* of a card that is known */
    int64_t sequence;
    int64_t start, step; /* seconds; values[i] is the mean of [start + i * step, … + step) */
    struct monitor_value *values;
    size_t count;
};
struct monitor_view {
    char *resource_id;
    struct meter_view *meters;
    size_t count;
};
/* Series of an instance or volume: five-minute means for 15 days, of 2 hours for 180 days; the time
 * that is not over is in it with its mean so far. IM_BAD_MESSAGE for a meter that is none. */
bool cloud_monitor(struct cloud *cloud, const struct caller *caller, const char *resource,
                   const struct im_strings *meters, const struct monitor_span *span,
                   struct monitor_view *ret_view, struct im_err *err) IM_MUST_CHECK;
void monitor_view_done(struct monitor_view *view);

/* --- Jobs, pool ------------------------------------------------------------------------------- */

bool cloud_jobs_cancel(struct cloud *cloud, const struct caller *caller,
                       const struct im_strings *ids, struct im_err *err) IM_MUST_CHECK;

/* Compares the pool with the graph. Administrators only. Lines are whole sentences; none = clean.
 */
struct pool_report {
    struct im_strings orphans; /* in the pool, not in the record */
    struct im_strings missing; /* in the record, not in the pool */
    struct im_strings wrong; /* parent, size or frozenness differ; layers that nothing refers to */
    struct im_strings damaged; /* layers that have rotted or are lost */
    int64_t unread;            /* frozen layers that have no digest yet */
    int64_t oldest_check;      /* of the others, when the one that was read longest ago was */
    int64_t layers;            /* that were compared */
    int64_t busy;              /* left out because a job is at work on them */
    const char *merging;       /* "on", "paused"; "off" by the configuration */
};
bool cloud_pool_check(struct cloud *cloud, const struct caller *caller,
                      struct pool_report *ret_report, struct im_err *err) IM_MUST_CHECK;
void pool_report_done(struct pool_report *report);
/* Paused, no layers are merged and no chains shortened, also after a restart, until it is taken
 * back. What is under way ends soon, without effect. Administrators only. */
bool cloud_merging_pause(struct cloud *cloud, const struct caller *caller, bool pause,
                         struct im_err *err) IM_MUST_CHECK;
/* Reads all frozen layers and compares them with their digests; what has rotted is marked, and
 * restored where the second pool has a good copy. rate_bytes: a second; 0 = the configured rate,
 * -1 = as fast as it goes. Administrators only. The job fails if something stays damaged. */
bool cloud_pool_scrub(struct cloud *cloud, const struct caller *caller, int64_t rate_bytes,
                      char ret_job_id[IM_JOB_ID_MAX], struct im_err *err) IM_MUST_CHECK;

/* Bytes of one image or instance disk: what the machine sees, what it holds by itself, what it
 * reads from shared layers. */
struct usage_line {
    char id[IM_ID_MAX];
    const char *kind; /* "image", "instance", "volume", "snapshot", "pool", "image_export" */
    int64_t virtual_bytes, own_bytes, shared_bytes;
};
struct usage_report {
    struct usage_line *lines;
    size_t count;
    int64_t pool_total_bytes, pool_free_bytes, pool_used_bytes;
    int64_t exports_bytes; /* of the lines that are exports; not in the pool */
};
bool cloud_usage(struct cloud *cloud, const struct caller *caller, struct usage_report *ret_report,
                 struct im_err *err) IM_MUST_CHECK;
void usage_report_done(struct usage_report *report);

/* For /metrics and /readyz. */
struct cloud_health {
    bool db_ok, virt_ok, pool_ok;
    char reason[256]; /* of what is not ok */
    int64_t images, instances_running, instances_stopped, jobs_working;
    struct storage_space space;
};
void cloud_health(struct cloud *cloud, struct cloud_health *ret_health);

#endif
