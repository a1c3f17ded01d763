/* SPDX-License-Identifier: Apache-2.0 */
/* Opens the cloud for tests, and compares record, pool and hypervisor afterwards. */
#include "test-rig.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "qcow2/qcow2.h"

static void need(bool fine, const struct im_err *err) {
    if (fine)
        return;
    printf("Bail out! %s\n", err->text);
    fflush(stdout);
    abort();
}

/* --- Opening -------------------------------------------------------------------------------- */

static void write_answer(struct rig *rig, const char *name, const char *result) {
    IM_AUTO(free_auto) char *path = im_printf("%s/%s", rig->folder, name);
    IM_AUTO(free_auto) char *line = im_printf("{\"result\":%s}\n", result);
    struct im_err err = {0};

    need(im_write_file(path, line, strlen(line), 0644, &err), &err);
}

void rig_report(struct rig *rig, const char *report) { write_answer(rig, "report", report); }

void rig_plan(struct rig *rig, const char *plan) { write_answer(rig, "plan", plan); }

static char *take_text(struct rig *rig, const char *name) {
    IM_AUTO(free_auto) char *path = im_printf("%s/%s", rig->folder, name);
    struct im_err err = {0};
    char *text = NULL;

    if (access(path, F_OK) < 0)
        return im_strdup("");
    need(im_read_file(path, 1 << 20, &text, NULL, &err), &err);
    (void) unlink(path);
    return text;
}

char *rig_mends(struct rig *rig) { return take_text(rig, "mends"); }

char *rig_asked(struct rig *rig) { return take_text(rig, "asked"); }

/* What imprint-worker would write, without looking at a byte. */
static void write_worker(struct rig *rig) {
    IM_AUTO(free_auto) char *disk = im_printf("%s/disk.qcow2", rig->folder);
    IM_AUTO(free_auto)
    char *script =
        im_printf("#!/bin/sh\nread request\n"
                  "[ $1 = inspect ] && exec cat '%s/report'\n"
                  "[ $1 = plan ] && echo \"$request\" >'%s/asked' && exec cat '%s/plan'\n"
                  "if [ $1 = mend ]; then\n"
                  "echo \"$request\" >>'%s/mends'\n"
                  "echo '{\"result\":{\"edits\":[],\"kernel\":\"6\",\"freed_bytes\":%d}}'\n"
                  "exit\nfi\n"
                  "if [ $1 = export ]; then\n"
                  "echo \"$request\" | grep -q '\"layers\":\"qcow2' || exit 1\n"
                  "cat <&4 >&3\n"
                  "echo '{\"progress\":{\"phase\":\"copy\",\"done\":5,\"total\":9}}'\n"
                  "echo '{\"result\":{\"size_bytes\":'$(stat -Lc %%s /dev/fd/3)',"
                  "\"stored_bytes\":4096,\"disk_bytes\":9,\"digest\":\"sha256:00\"}}'\n"
                  "exit\nfi\ncat '%s' >&4\n"
                  "echo '{\"progress\":{\"phase\":\"copy\",\"done\":5,\"total\":9}}'\n"
                  "echo '{\"result\":{\"size_bytes\":%lld,\"digest\":\"sha256:00\","
                  "\"firmware\":\"bios\",\"report\":'\"$(sed 's/^{.result.:\\(.*\\)}$/\\1/' "
                  "'%s/report')\"'}}'\n",
                  rig->folder, rig->folder, rig->folder, rig->folder, RIG_FREED, disk,
                  RIG_IMAGE_GIB * GIB, rig->folder);
    IM_AUTO(free_auto) char *appliance = im_printf("%s/appliance", rig->folder);
    IM_AUTO(free_auto) char *kernel = im_printf("%s/kernel", appliance);
    struct im_err err = {0};
    IM_AUTO(fd_auto) int fd = -1;

    rig->worker = im_printf("%s/worker", rig->folder);
    if (access(rig->worker, X_OK) == 0)
        return;
    rig_report(rig, RIG_REPORT);
    rig_plan(rig, RIG_PLAN);
    need(im_make_dirs(appliance, 0755, &err) && im_write_file(kernel, "", 0, 0644, &err), &err);
    fd = open(disk, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    need(fd >= 0 && qcow2_overlay_write(fd, NULL, NULL, (uint64_t) RIG_IMAGE_GIB << 30, &err) &&
             im_write_file(rig->worker, script, strlen(script), 0755, &err),
         &err);
}

/* Guards rig->cloud against events that are still on their way. */
static pthread_mutex_t events = PTHREAD_MUTEX_INITIALIZER;

static void lead_events(struct rig *rig, struct cloud *cloud) {
    pthread_mutex_lock(&events);
    rig->cloud = cloud;
    pthread_mutex_unlock(&events);
}

static void on_machine(void *arg, const char *name, enum virt_state state) {
    struct rig *rig = arg;

    pthread_mutex_lock(&events);
    if (rig->cloud != NULL)
        cloud_machine_event(rig->cloud, name, state);
    pthread_mutex_unlock(&events);
}

static void open_rooms(struct rig *rig, struct im_err *err) {
    IM_AUTO(free_auto) char *record = im_printf("sqlite:%s/record", rig->folder);
    IM_AUTO(free_auto) char *secret = im_printf("%s/secret.key", rig->folder);
    struct virt_config virt = {.uri = "memory:", .accel = "auto", .state_dir = rig->folder};
    struct net_config net = {.mode = "user", .state_dir = rig->folder};

    rig->db = db_open(record, err);
    need(rig->db != NULL && db_migrate(rig->db, err), err);
    rig->pool = storage_open(rig->pool_uri, err);
    need(rig->pool != NULL, err);
    rig->virt = virt_open(&virt, on_machine, rig, err);
    need(rig->virt != NULL, err);
    rig->net = net_open(&net, err);
    need(rig->net != NULL, err);
    rig->key = crypto_key_open(secret, err);
    need(rig->key != NULL, err);
}

/* The users of an earlier rig_open in the same folder are found again. */
static void open_user(struct rig *rig, const char *name, bool admin, struct caller *ret_caller) {
    struct im_err err = {0};
    struct user **users = NULL;
    size_t count = 0;
    bool found = false;

    ret_caller->admin = admin;
    need(cloud_user_list(rig->cloud, &users, &count, &err), &err);
    for (size_t i = 0; i < count; i++)
        if (strcmp(users[i]->user_name, name) == 0) {
            snprintf(ret_caller->user_id, sizeof(ret_caller->user_id), "%s", users[i]->user_id);
            found = true;
        }
    record_list_free(&user_type, (void **) users, count);
    if (!found)
        need(cloud_user_add(rig->cloud, name, NULL, admin, ret_caller->user_id, &err), &err);
}

void rig_open(struct rig *rig, const char *folder, const struct rig_options *options) {
    struct im_err err = {0};
    struct cloud_config config = {.zone_id = "test1",
                                  .worker_user = "",
                                  .instance_name = "rig",
                                  .machine_uid = geteuid(),
                                  .machine_gid = getegid(),
                                  .job_threads = 4,
                                  .job_rest_ms = 2,
                                  .max_vcpus = 64,
                                  .min_memory_mib = 64,
                                  .max_memory_mib = 65536,
                                  .max_disk_gib = RIG_DISK_MAX_GIB,
                                  .volume_types = "0:10-2000, 100:10-2000, 200:10-2000, 5:20-100",
                                  .volume_step_gib = 10,
                                  .detach_timeout_ms = 5000,
                                  .freeze_timeout_ms = 5000,
                                  .data_image_min_gib = 20,
                                  .data_image_max_gib = 100,
                                  .import_max_bytes = 1ll << 40,
                                  .import_max_ratio = 1000,
                                  .export_keep_s = 3600,
                                  .export_max_bytes = 1ll << 40,
                                  .boot_test_at_once = 2,
                                  .boot_test_kvm_s = 1,
                                  .boot_test_tcg_s = 1,
                                  .boot_test_vcpus = 1,
                                  .boot_test_memory_mib = 64,
                                  .boot_test_keep_s = 3600,
                                  .boot_test_required = "import, volume instance"};
    IM_AUTO(free_auto) char *appliance = NULL;
    struct cloud *cloud;

    im_log_set_level(getenv("IMPRINT_DEBUG") ? IM_LOG_DEBUG : IM_LOG_ERROR);
    *rig = (struct rig){.folder = im_strdup(folder)};
    need(im_make_dirs(folder, 0755, &err), &err);
    rig->pool_uri = options->local ? im_printf("local:%s/pool", folder) : im_strdup("memory:");
    rig->second_uri =
        options->local ? im_printf("local:%s/second", folder) : im_strdup("memory:second");
    write_worker(rig);
    open_rooms(rig, &err);
    config.db = rig->db;
    config.pool = rig->pool;
    config.virt = rig->virt;
    config.net = rig->net;
    config.key = rig->key;
    config.state_dir = config.import_paths = rig->folder;
    config.appliance = appliance = im_printf("%s/appliance", rig->folder);
    config.worker_program = rig->worker;
    config.second_uri = rig->second_uri;
    config.scrub_rate_bytes = options->scrub_rate;
    config.scrub_interval_s = 86400;
    config.stop_timeout_ms = options->stop_timeout_ms ? options->stop_timeout_ms : 2000;
    config.recycle_s = options->recycle_s ? options->recycle_s : 3600;
    cloud = cloud_open(&config, &err);
    need(cloud != NULL, &err);
    lead_events(rig, cloud);
    open_user(rig, "root", true, &rig->admin);
    open_user(rig, "alice", false, &rig->alice);
    open_user(rig, "bob", false, &rig->bob);
    if (!options->not_started)
        need(cloud_start(cloud, &err), &err);
}

void rig_close(struct rig *rig) {
    struct cloud *cloud = rig->cloud;

    lead_events(rig, NULL);
    cloud_close(cloud);
    virt_close(rig->virt);
    net_close(rig->net);
    storage_close(rig->pool);
    crypto_key_close(rig->key);
    db_close(rig->db);
    free(rig->folder);
    free(rig->pool_uri);
    free(rig->second_uri);
    free(rig->worker);
    *rig = (struct rig){0};
}

/* --- Making things -------------------------------------------------------------------------- */

void rig_image(struct rig *rig, const char *image_id, const char *owner, bool public) {
    IM_AUTO(free_auto) char *layer_id = im_printf("l-%s", image_id);
    struct layer layer = {.layer_id = layer_id,
                          .name = layer_id,
                          .pool = rig->pool_uri,
                          .state = LAYER_FROZEN,
                          .size_bytes = RIG_IMAGE_GIB * GIB,
                          .depth = 1,
                          .create_time = im_now_s()};
    struct image image = {.image_id = (char *) image_id,
                          .image_name = (char *) image_id,
                          .size = RIG_IMAGE_GIB,
                          .size_bytes = RIG_IMAGE_GIB * GIB,
                          .processor_type = "64bit",
                          .platform = "linux",
                          .os_family = "debian",
                          .visibility = public ? "public" : "private",
                          .provider = public ? "system" : "self",
                          .owner = (char *) (public ? SYSTEM_OWNER : owner),
                          .status = IMAGE_AVAILABLE,
                          .ui_type = "tui",
                          .hypervisor = "kvm",
                          .default_user = "root",
                          .firmware = "bios",
                          .layer_id = layer_id,
                          .create_time = im_now_s(),
                          .status_time = im_now_s()};
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(rig->db, &err);
    IM_AUTO(fd_auto) int fd = -1;

    need(conn != NULL && storage_import_begin(rig->pool, layer_id, &fd, &err) &&
             qcow2_overlay_write(fd, NULL, NULL, (uint64_t) layer.size_bytes, &err) &&
             storage_import_end(rig->pool, layer_id, fd, &err) &&
             record_insert(conn, &layer_type, &layer, &err) &&
             record_insert(conn, &image_type, &image, &err),
         &err);
}

struct instance_run_args rig_run_args(const char *image_id) {
    return (struct instance_run_args){.image_id = image_id,
                                      .cpu = 1,
                                      .memory = RIG_MEMORY_MIB,
                                      .os_disk_size = -1,
                                      .count = -1,
                                      .instance_class = -1,
                                      .cpu_max = -1,
                                      .mem_max = -1,
                                      .nic_mqueue = -1,
                                      .need_userdata = -1};
}

void rig_instance(struct rig *rig, const struct caller *caller, const char *image_id, bool running,
                  char ret_id[IM_ID_MAX]) {
    struct instance_run_args args = rig_run_args(image_id);
    IM_AUTO(im_strings_done) struct im_strings ids = {0}, vxnets = rig_ids(VXNET_BASIC);
    struct im_err err = {0};
    char job_id[IM_JOB_ID_MAX];

    args.no_start = !running;
    args.vxnets = &vxnets;
    ret_id[0] = '\0';
    if (!cloud_instances_run(rig->cloud, caller, &args, &ids, job_id, &err))
        test_note("RunInstances: %s", err.text);
    else if (rig_done(rig, job_id))
        snprintf(ret_id, IM_ID_MAX, "%s", ids.items[0]);
}

struct im_strings rig_ids(const char *id) {
    struct im_strings ids = {0};

    im_strings_add(&ids, id);
    return ids;
}

/* --- Looking -------------------------------------------------------------------------------- */

static void *row(struct rig *rig, const struct object_type *type, const char *id) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(rig->db, &err);
    void *object = NULL;

    need(conn != NULL, &err);
    need(record_get(conn, type, id, &object, &err) || err.code == IM_NOT_FOUND, &err);
    return object;
}

struct job *rig_job(struct rig *rig, const char *job_id) {
    struct im_err err = {0};

    if (!jobs_wait(rig->cloud->jobs, job_id, RIG_WAIT_MS, &err)) {
        test_note("%s", err.text);
        return NULL;
    }
    return row(rig, &job_type, job_id);
}

bool rig_done(struct rig *rig, const char *job_id) {
    IM_AUTO(job_free_auto) struct job *job = rig_job(rig, job_id);

    if (job != NULL && job->status != JOB_SUCCESSFUL)
        test_note("%s: %s", job->job_action, job->error_message);
    return job != NULL && job->status == JOB_SUCCESSFUL;
}

struct instance *rig_instance_row(struct rig *rig, const char *id) {
    return row(rig, &instance_type, id);
}

struct image *rig_image_row(struct rig *rig, const char *id) {
    return row(rig, &image_type, id);
}

struct repair *rig_repair_row(struct rig *rig, const char *id) {
    return row(rig, &repair_type, id);
}

struct boot_test *rig_boot_test_row(struct rig *rig, const char *id) {
    return row(rig, &boot_test_type, id);
}

struct image_export *rig_export_row(struct rig *rig, const char *id) {
    return row(rig, &image_export_type, id);
}

struct volume *rig_volume_row(struct rig *rig, const char *id) {
    return row(rig, &volume_type, id);
}

struct snapshot *rig_snapshot_row(struct rig *rig, const char *id) {
    return row(rig, &snapshot_type, id);
}

bool rig_instance_is(struct rig *rig, const char *id, enum instance_status status) {
    IM_AUTO(instance_free_auto) struct instance *instance = rig_instance_row(rig, id);
    bool is = instance != NULL && instance->status == status &&
              instance->transition_status == TRANSITION_NONE;

    if (!is)
        test_note("%s is %s %s", id, instance ? instance_status_word(instance->status) : "gone",
                  instance ? transition_word(instance->transition_status) : "");
    return is;
}

bool rig_image_is(struct rig *rig, const char *id, enum image_status status) {
    IM_AUTO(image_free_auto) struct image *image = rig_image_row(rig, id);
    bool is =
        image != NULL && image->status == status && image->transition_status == TRANSITION_NONE;

    if (!is)
        test_note("%s is %s %s", id, image ? image_status_word(image->status) : "gone",
                  image ? transition_word(image->transition_status) : "");
    return is;
}

size_t rig_machines(struct rig *rig) {
    IM_AUTO(free_auto) struct virt_listed *list = NULL;
    struct im_err err = {0};
    size_t count = 0;

    need(virt_list(rig->virt, &list, &count, &err), &err);
    return count;
}

bool rig_runs(struct rig *rig, const char *id) {
    enum virt_state state = VIRT_OFF;
    struct im_err err = {0};

    need(virt_state(rig->virt, id, &state, &err), &err);
    return state == VIRT_RUNNING;
}

int64_t rig_number(struct rig *rig, const char *sql) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(rig->db, &err);
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    bool more = false;

    need(conn != NULL, &err);
    rows = db_query(conn, &err, sql, "");
    need(rows != NULL && db_next(rows, &more, &err) && more, &err);
    return db_int(rows, 0);
}

void rig_texts(struct rig *rig, const char *sql, struct im_strings *ret_texts) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(rig->db, &err);
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    bool more = true;

    need(conn != NULL, &err);
    rows = db_query(conn, &err, sql, "");
    need(rows != NULL, &err);
    while (db_next(rows, &more, &err) && more)
        im_strings_add(ret_texts, db_text(rows, 0));
}

void rig_round(struct rig *rig) {
    pthread_mutex_lock(&rig->cloud->lock);
    rig->cloud->events_lost = true;
    pthread_cond_signal(&rig->cloud->wake);
    pthread_mutex_unlock(&rig->cloud->lock);
}

/* --- Is anything left behind? --------------------------------------------------------------- */

/* A layer that nobody reads: it is given up in one round of the background, and goes in the next.
 */
#define UNREAD                                                                                     \
    "l.state = 'frozen' AND NOT EXISTS (SELECT 1 FROM images i"                                    \
    " WHERE i.layer_id = l.layer_id AND i.status <> 'ceased') AND NOT EXISTS"                      \
    " (SELECT 1 FROM layers c WHERE c.parent_id = l.layer_id)"                                     \
    " AND NOT EXISTS (SELECT 1 FROM snapshots s WHERE s.layer_id = l.layer_id"                     \
    " AND s.status <> 'ceased') AND NOT EXISTS"                                                    \
    " (SELECT 1 FROM repairs r WHERE r.layer_id = l.layer_id)"
/* In one statement: what is given up between two of them would be in neither. */
static const char collectable[] =
    "SELECT COUNT(*) FROM layers l WHERE l.state = 'dropping' OR (" UNREAD ")";

/* Each counts what must not be once no job is at work. */
static const struct {
    const char *what, *sql;
} strays[] = {
    {"jobs not finished", "SELECT COUNT(*) FROM jobs WHERE status IN ('pending', 'working')"},
    {"items not finished", "SELECT COUNT(*) FROM job_items WHERE state NOT IN ('done', 'failed')"},
    {"failed items without a sentence",
     "SELECT COUNT(*) FROM job_items WHERE state = 'failed'"
     " AND (COALESCE(error_message, '') = '' OR COALESCE(error_code, '') = '')"},
    {"failed jobs without a sentence",
     "SELECT COUNT(*) FROM jobs WHERE status = 'failed'"
     " AND (COALESCE(error_message, '') = '' OR COALESCE(error_codes, '') = '')"},
    {"instances in transition or pending",
     "SELECT COUNT(*) FROM instances WHERE transition_status <> '' OR status = 'pending'"},
    {"images in transition",
     "SELECT COUNT(*) FROM images WHERE (transition_status <> '' OR status = 'pending')"
     " AND image_id NOT IN (SELECT image_id FROM uploads)"},
    {"uploads whose image does not wait",
     "SELECT COUNT(*) FROM uploads WHERE image_id NOT IN"
     " (SELECT image_id FROM images WHERE status = 'pending')"},
    {"repairs under way", "SELECT COUNT(*) FROM repairs WHERE status = 'pending'"},
    {"repairs of what is gone",
     "SELECT COUNT(*) FROM repairs r WHERE NOT EXISTS (SELECT 1 FROM images i"
     " WHERE i.image_id = r.resource_id AND i.status <> 'ceased') AND NOT EXISTS"
     " (SELECT 1 FROM volumes v WHERE v.volume_id = r.resource_id AND v.status <> 'ceased')"
     " AND NOT EXISTS (SELECT 1 FROM instances i WHERE i.instance_id = r.resource_id"
     " AND i.status <> 'ceased')"},
    {"repairs without a way back",
     "SELECT COUNT(*) FROM repairs r WHERE undoable = 1 AND NOT EXISTS"
     " (SELECT 1 FROM layers l WHERE l.layer_id = r.layer_id AND l.state = 'frozen')"},
    {"boot tests under way", "SELECT COUNT(*) FROM boot_tests WHERE status = 'pending'"},
    {"exports that are being made", "SELECT COUNT(*) FROM image_exports WHERE status = 'pending'"},
    {"pulls not settled", "SELECT COUNT(*) FROM pulls"},
    {"layers planned or given up", "SELECT COUNT(*) FROM layers WHERE state NOT IN"
                                   " ('head', 'frozen')"},
    {"instances without a head of their own",
     "SELECT COUNT(*) FROM instances i WHERE i.status <> 'ceased' AND NOT EXISTS"
     " (SELECT 1 FROM layers l WHERE l.layer_id = i.layer_id AND l.state = 'head')"},
    {"volumes in transition, busy or pending",
     "SELECT COUNT(*) FROM volumes WHERE transition_status <> '' OR busy <> 0"
     " OR status = 'pending'"},
    {"volumes whose state and instance disagree",
     "SELECT COUNT(*) FROM volumes v WHERE (v.status = 'in-use') <> (EXISTS (SELECT 1 FROM"
     " instances i WHERE i.instance_id = v.instance_id AND i.status IN ('running', 'stopped')))"
     " OR (v.status = 'in-use') <> (COALESCE(v.device, '') <> '')"},
    {"volumes without a head of their own",
     "SELECT COUNT(*) FROM volumes v WHERE v.status <> 'ceased' AND NOT EXISTS"
     " (SELECT 1 FROM layers l WHERE l.layer_id = v.layer_id AND l.state = 'head')"},
    {"snapshots in transition or pending",
     "SELECT COUNT(*) FROM snapshots WHERE transition_status <> '' OR status = 'pending'"},
    {"copies of snapshots that were never made",
     "SELECT COUNT(*) FROM snapshots WHERE copy_time <> 0 AND status = 'pending'"},
    {"marks of damage without a damaged layer",
     "SELECT COUNT(*) FROM snapshots WHERE damaged = 1 AND status <> 'ceased' AND NOT EXISTS"
     " (SELECT 1 FROM layers WHERE damage <> '')"},
    {"snapshots without a frozen layer",
     "SELECT COUNT(*) FROM snapshots s WHERE s.status <> 'ceased' AND NOT EXISTS"
     " (SELECT 1 FROM layers l WHERE l.layer_id = s.layer_id AND l.state = 'frozen')"},
    {"increments whose parent is gone",
     "SELECT COUNT(*) FROM snapshots s WHERE s.status <> 'ceased' AND s.parent_id <> 'self'"
     " AND NOT EXISTS (SELECT 1 FROM snapshots p WHERE p.snapshot_id = s.parent_id"
     " AND p.status <> 'ceased')"},
    {"disks with two points that they go on from",
     "SELECT COUNT(*) FROM (SELECT resource_id FROM snapshots WHERE is_head = 1"
     " GROUP BY resource_id HAVING COUNT(*) > 1) AS twice"},
    {"heads that are no instance's and no volume's",
     "SELECT COUNT(*) FROM layers l WHERE l.state = 'head' AND 1 <>"
     " (SELECT COUNT(*) FROM instances i WHERE i.layer_id = l.layer_id AND i.status <> 'ceased') +"
     " (SELECT COUNT(*) FROM volumes v WHERE v.layer_id = l.layer_id AND v.status <> 'ceased')"},
    {"images without a frozen layer",
     "SELECT COUNT(*) FROM images i WHERE i.status NOT IN ('ceased', 'pending') AND NOT EXISTS"
     " (SELECT 1 FROM layers l WHERE l.layer_id = i.layer_id AND l.state = 'frozen')"},
    {"frozen layers that nobody reads", "SELECT COUNT(*) FROM layers l WHERE " UNREAD},
    {"layers whose parent is gone or writable",
     "SELECT COUNT(*) FROM layers l WHERE l.parent_id IS NOT NULL AND NOT EXISTS"
     " (SELECT 1 FROM layers p WHERE p.layer_id = l.parent_id AND p.state = 'frozen')"},
    {"network cards of nobody", "SELECT COUNT(*) FROM nics WHERE instance_id NOT IN"
                                " (SELECT instance_id FROM instances WHERE status <> 'ceased')"},
    {"key pair links of nobody", "SELECT COUNT(*) FROM keypair_links WHERE instance_id NOT IN"
                                 " (SELECT instance_id FROM instances WHERE status <> 'ceased')"
                                 " OR keypair_id NOT IN (SELECT keypair_id FROM keypairs)"},
};

static void add_lines(struct im_str *text, const struct im_strings *lines) {
    for (size_t i = 0; i < lines->count; i++)
        im_str_addf(text, "%s; ", lines->items[i]);
}

static void compare_pool(struct rig *rig, struct im_str *text) {
    IM_AUTO(pool_report_done) struct pool_report report = {0};
    struct im_err err = {0};

    need(cloud_pool_check(rig->cloud, &rig->admin, &report, &err), &err);
    add_lines(text, &report.orphans);
    add_lines(text, &report.missing);
    add_lines(text, &report.wrong);
    if (report.busy != 0)
        im_str_addf(text, "%" PRId64 " layers are busy; ", report.busy);
}

/* What a snapshot's note promises is there. */
static void compare_second(struct rig *rig, struct im_str *text) {
    IM_AUTO(copy_list_done) struct copy_list list = {0};
    struct im_err err = {0};

    need(cloud_copies(rig->cloud, &rig->admin, &list, &err), &err);
    for (size_t i = 0; i < list.count; i++)
        if (!list.items[i].whole)
            im_str_addf(text, "the copy of %s is not whole: %s; ",
                        list.items[i].snapshot->snapshot_id, list.items[i].trouble);
}

static void compare_machines(struct rig *rig, struct im_str *text) {
    IM_AUTO(free_auto) struct virt_listed *list = NULL;
    struct im_err err = {0};
    size_t count = 0;

    need(virt_list(rig->virt, &list, &count, &err), &err);
    for (size_t i = 0; i < count; i++) {
        IM_AUTO(instance_free_auto) struct instance *instance = rig_instance_row(rig, list[i].name);

        if (instance == NULL || instance->status != INSTANCE_RUNNING)
            im_str_addf(text, "machine %s runs, its instance is %s; ", list[i].name,
                        instance ? instance_status_word(instance->status) : "unknown");
    }
    if ((int64_t) count <
        rig_number(rig, "SELECT COUNT(*) FROM instances WHERE status = 'running'"))
        im_str_addf(text, "an instance is called running, but has no machine; ");
}

/* Machines have plugged in just what the record says. */
static void compare_disks(struct rig *rig, struct im_str *text) {
    IM_AUTO(free_auto) struct virt_listed *list = NULL;
    struct im_err err = {0};
    size_t count = 0;

    need(virt_list(rig->virt, &list, &count, &err), &err);
    for (size_t i = 0; i < count; i++) {
        IM_AUTO(free_auto) struct virt_device *devices = NULL;
        IM_AUTO(free_auto)
        char *sql =
            im_printf("SELECT COUNT(*) FROM volumes WHERE instance_id = '%s'", list[i].name);
        size_t device_count = 0;
        int64_t plugged = 0;

        need(virt_disk_devices(rig->virt, list[i].name, &devices, &device_count, &err), &err);
        for (size_t j = 0; j < device_count; j++) {
            IM_AUTO(volume_free_auto)
            struct volume *volume = rig_volume_row(rig, devices[j].serial);

            plugged += im_starts_with(devices[j].serial, "vol-");
            if (im_starts_with(devices[j].serial, "vol-") &&
                (volume == NULL || !im_str_equal(volume->instance_id, list[i].name)))
                im_str_addf(text, "%s has %s plugged in, which is not attached to it; ",
                            list[i].name, devices[j].serial);
        }
        if (plugged != rig_number(rig, sql))
            im_str_addf(text, "%s lacks a volume that is attached to it; ", list[i].name);
    }
}

/* Files that are named after instances which are over. */
static void compare_folder(struct rig *rig, const char *folder, const char *ending,
                           struct im_str *text) {
    IM_AUTO(free_auto) char *path = im_printf("%s/%s", rig->folder, folder);
    DIR *dir = opendir(path);

    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        IM_AUTO(free_auto) char *id = im_strdup(entry->d_name);
        IM_AUTO(instance_free_auto) struct instance *instance = NULL;

        if (id[0] == '.')
            continue;
        if (im_ends_with(id, ending))
            id[strlen(id) - strlen(ending)] = '\0';
        instance = rig_instance_row(rig, id);
        if (instance == NULL || instance->status >= INSTANCE_TERMINATED)
            im_str_addf(text, "%s/%s stays; ", folder, entry->d_name);
    }
    if (dir != NULL)
        closedir(dir);
}

/* Files and rows of exports, each with the other. */
static void compare_exports(struct rig *rig, struct im_str *text) {
    IM_AUTO(free_auto) char *path = im_printf("%s/exports", rig->folder);
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    DIR *dir = opendir(path);

    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        IM_AUTO(image_export_free_auto) struct image_export *export = NULL;

        if (entry->d_name[0] != '.' && (export = rig_export_row(rig, entry->d_name)) == NULL)
            im_str_addf(text, "exports/%s stays; ", entry->d_name);
    }
    if (dir != NULL)
        closedir(dir);
    rig_texts(rig, "SELECT export_id FROM image_exports WHERE status = 'available'", &ids);
    for (size_t i = 0; i < ids.count; i++) {
        IM_AUTO(free_auto) char *file = im_printf("%s/%s", path, ids.items[i]);

        if (access(file, R_OK) < 0)
            im_str_addf(text, "%s has no file; ", ids.items[i]);
    }
}

/* Files of boot tests that no row has. */
static void compare_boot_tests(struct rig *rig, struct im_str *text) {
    IM_AUTO(free_auto) char *path = im_printf("%s/boot-tests", rig->folder);
    DIR *dir = opendir(path);

    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        IM_AUTO(free_auto) char *id = im_strndup(entry->d_name, strcspn(entry->d_name, "."));
        IM_AUTO(boot_test_free_auto) struct boot_test *test = NULL;

        if (id[0] != '\0' && (test = rig_boot_test_row(rig, id)) == NULL)
            im_str_addf(text, "boot-tests/%s stays; ", entry->d_name);
    }
    if (dir != NULL)
        closedir(dir);
}

char *rig_faults(struct rig *rig) {
    IM_AUTO(im_str_done) struct im_str text = {0};
    int64_t deadline = im_mono_ms() + RIG_WAIT_MS;

    while (rig_number(rig, collectable) > 0 && im_mono_ms() < deadline) {
        background_collect(rig->cloud);
        im_sleep_ms(10);
    }
    for (size_t i = 0; i < sizeof(strays) / sizeof(strays[0]); i++) {
        int64_t count = rig_number(rig, strays[i].sql);

        if (count != 0)
            im_str_addf(&text, "%" PRId64 " %s; ", count, strays[i].what);
    }
    compare_pool(rig, &text);
    compare_second(rig, &text);
    compare_machines(rig, &text);
    compare_disks(rig, &text);
    compare_exports(rig, &text);
    compare_boot_tests(rig, &text);
    compare_folder(rig, "seeds", ".iso", &text);
    compare_folder(rig, "console", ".log", &text);
    return im_str_take(&text);
}

void rig_check_clean(struct rig *rig, const char *when) {
    IM_AUTO(free_auto) char *faults = rig_faults(rig);

    if (!check(faults[0] == '\0', "%s: record, pool and machines agree", when))
        test_note("%s", faults);
}
