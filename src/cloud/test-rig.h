/* SPDX-License-Identifier: Apache-2.0 */
/* A whole cloud for tests: SQLite in a folder, a pool, the hypervisor in memory, user-mode network,
 * three users. And the question that ends every test: is anything left behind? */
#ifndef CLOUD_TEST_RIG_H
#define CLOUD_TEST_RIG_H

#include "cloud-private.h"
#include "harness/test.h"

enum { RIG_WAIT_MS = 60000, RIG_MEMORY_MIB = 128, RIG_IMAGE_GIB = 20, RIG_DISK_MAX_GIB = 500 };

struct rig {
    char *folder, *pool_uri, *second_uri, *worker;
    struct db *db;
    struct storage_pool *pool;
    struct virt *virt;
    struct net *net;
    struct crypto_key *key;
    struct cloud *cloud;
    struct caller admin, alice, bob;
    char companion[IM_ID_MAX]; /* the machine beside a volume, see rig_subject */
};

/* What differs from test to test. Zeros are fine. */
struct rig_options {
    bool local;              /* a folder of qcow2 files instead of the pool in memory */
    int64_t stop_timeout_ms; /* 0: 2 s */
    int64_t recycle_s;       /* 0: an hour */
    int64_t scrub_rate;      /* bytes a second; 0: layers are not read by themselves */
    bool not_started;        /* the caller calls cloud_start */
};

/* Everything of `folder` (made if missing) is found again by the next rig_open, except a pool in
 * memory. Ends the program when it fails, as nothing can be tested then. */
void rig_open(struct rig *rig, const char *folder, const struct rig_options *options);
/* Leaves the cloud as a daemon does that is told to end. */
void rig_close(struct rig *rig);

/* What the worker tells of each disk it looks into from now on, JSON. */
void rig_report(struct rig *rig, const char *report);
#define RIG_REPORT "{\"errors\":0,\"bios\":1,\"uefi\":0}" /* until then */
#define RIG_NO_CLOUD_INIT                                                                          \
    "{\"errors\":0,\"bios\":1,\"uefi\":0,\"os\":{\"platform\":\"linux\"},"                         \
    "\"findings\":[{\"code\":\"os.no_cloud_init\",\"severity\":\"info\",\"text\":\"it has "        \
    "none\"}]}"

/* What it plans for each disk, {"report", "plan"}; the plan of each rig that is opened anew is
 * RIG_PLAN, which repairs something. */
void rig_plan(struct rig *rig, const char *plan);
#define RIG_PLAN                                                                                   \
    "{\"report\":{\"errors\":1,\"findings\":[{\"code\":\"fstab.root\",\"severity\":\"error\","     \
    "\"text\":\"it is another's\"}]},\"plan\":{\"repairs\":[{\"code\":\"fstab.root\",\"done\":1,"  \
    "\"text\":\"it is its "                                                                        \
    "own\"}],\"files\":[{\"path\":\"/etc/fstab\",\"before\":\"old\\n\",\"diff\":"                  \
    "\"-old\\n+new\\n\"}],\"steps\":[],\"mounts\":[{\"path\":\"/"                                  \
    "\"}],\"edits\":[{\"op\":\"write\"}]}}"
#define RIG_FREED 8192 /* what mending gives back */
/* What the appliance was told since the last call: a request on each line. Owned. */
char *rig_mends(struct rig *rig);
/* The last plan that was asked for: the worker's request. Owned. */
char *rig_asked(struct rig *rig);

/* A system image of RIG_IMAGE_GIB, or a private one of `owner`, without going through an import. */
void rig_image(struct rig *rig, const char *image_id, const char *owner, bool public);
/* Arguments of RunInstances with nothing given but what must be. */
struct instance_run_args rig_run_args(const char *image_id);
/* A running instance, or a stopped one; `ret_id` is "" when that fails. */
void rig_instance(struct rig *rig, const struct caller *caller, const char *image_id, bool running,
                  char ret_id[IM_ID_MAX]);

/* The job, finished; NULL and a remark when it does not finish. */
struct job *rig_job(struct rig *rig, const char *job_id);
/* Waits for it: true when it was successful; else its sentence is a remark. */
bool rig_done(struct rig *rig, const char *job_id);
/* Rows as they are now; NULL when there is none. */
struct instance *rig_instance_row(struct rig *rig, const char *id);
struct image *rig_image_row(struct rig *rig, const char *id);
struct repair *rig_repair_row(struct rig *rig, const char *id);
struct boot_test *rig_boot_test_row(struct rig *rig, const char *id);
struct image_export *rig_export_row(struct rig *rig, const char *id);
struct volume *rig_volume_row(struct rig *rig, const char *id);
struct snapshot *rig_snapshot_row(struct rig *rig, const char *id);
bool rig_instance_is(struct rig *rig, const char *id, enum instance_status status);
bool rig_image_is(struct rig *rig, const char *id, enum image_status status);
/* How many machines run, and whether this one does. */
size_t rig_machines(struct rig *rig);
bool rig_runs(struct rig *rig, const char *id);
/* One number from the record. */
int64_t rig_number(struct rig *rig, const char *sql);
/* The texts of its first column. */
void rig_texts(struct rig *rig, const char *sql, struct im_strings *ret_texts);
/* A list of one id. */
struct im_strings rig_ids(const char *id);

/* Has the background make one of its full rounds now. */
void rig_round(struct rig *rig);

/* "" when record, pool and hypervisor agree and nothing is under way or left over; else sentences
 * on what is wrong. Owned. Waits for layers that are being collected. */
char *rig_faults(struct rig *rig);
/* The same as a claim. */
void rig_check_clean(struct rig *rig, const char *when);

#endif
