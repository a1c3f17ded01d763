/* SPDX-License-Identifier: Apache-2.0 */
/* Wiring: opens the rooms in order, from the record up to the HTTP server, and closes them again.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "daemon-private.h"

/* Guards house->cloud: it is opened after the hypervisor whose events lead to it, and closed
 * before. */
static pthread_mutex_t events = PTHREAD_MUTEX_INITIALIZER;

static void lead_events(struct house *house, struct cloud *cloud) {
    pthread_mutex_lock(&events);
    house->cloud = cloud;
    pthread_mutex_unlock(&events);
}

static void on_machine(void *arg, const char *name, enum virt_state state) {
    struct house *house = arg;

    pthread_mutex_lock(&events);
    if (house->cloud != NULL)
        cloud_machine_event(house->cloud, name, state);
    pthread_mutex_unlock(&events);
}

/* What a killed imprintd had forked, for a worker or QEMU, holds its lock until it becomes that. */
enum { LOCK_MS = 10000, LOCK_LOOK_MS = 20 };

static void lock_owner(int fd, char *ret_pid, size_t size) {
    ssize_t got = pread(fd, ret_pid, size - 1, 0);

    ret_pid[got > 0 ? got : 0] = '\0';
    ret_pid[strcspn(ret_pid, "\n")] = '\0';
}

static bool is_gone(const char *pid) {
    int64_t number;

    return im_parse_i64(pid, 1, INT32_MAX, &number) && kill((pid_t) number, 0) < 0 &&
           errno == ESRCH;
}

static bool lock_wait(int fd, const char *state_dir, struct im_err *err) {
    int64_t deadline_ms = im_mono_ms() + LOCK_MS;
    char pid[32];

    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        lock_owner(fd, pid, sizeof(pid));
        if (!is_gone(pid) || im_mono_ms() >= deadline_ms)
            return im_fail(err, IM_BUSY, "another imprintd (process %s) uses %s",
                           pid[0] ? pid : "unknown", state_dir);
        im_sleep_ms(LOCK_LOOK_MS);
    }
    return true;
}

static bool lock_state(struct house *house, struct im_err *err) {
    IM_AUTO(free_auto) char *path = im_printf("%s/imprintd.pid", house->config->state_dir);
    char text[32];

    house->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (house->lock_fd < 0)
        return im_fail_sys(err, errno, "cannot open %s", path);
    if (!lock_wait(house->lock_fd, house->config->state_dir, err))
        return false;
    snprintf(text, sizeof(text), "%d\n", (int) getpid());
    if (ftruncate(house->lock_fd, 0) < 0)
        return im_fail_sys(err, errno, "cannot write %s", path);
    return im_pwrite_all(house->lock_fd, text, strlen(text), 0, path, err);
}

/* The user that machines run as: what the configuration says, or what the distribution's libvirt
 * uses for machines of its daemon. */
static bool machine_owner(const struct config *config, uid_t *ret_uid, gid_t *ret_gid,
                          struct im_err *err) {
    bool system = strstr(config->virt_uri, ":///system") != NULL;
    const char *name = !im_str_empty(config->run_as) ? config->run_as
                       : system                      ? "libvirt-qemu"
                                                     : NULL;
    const struct passwd *user;

    *ret_uid = geteuid();
    *ret_gid = getegid();
    if (name == NULL || geteuid() != 0)
        return true;
    user = getpwnam(name);
    if (user == NULL && !im_str_empty(config->run_as))
        return im_fail(err, IM_BAD_MESSAGE, "[virt] run_as: there is no user %s", name);
    if (user != NULL) {
        *ret_uid = user->pw_uid;
        *ret_gid = user->pw_gid;
    }
    return true;
}

static char *find_worker(const struct config *config) {
    static const char *const beside[] = {"imprint-worker", "../worker/imprint-worker",
                                         "../libexec/imprint/imprint-worker"};
    char self[512];
    ssize_t len;

    if (!im_str_empty(config->worker))
        return im_strdup(config->worker);
    len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[len > 0 ? len : 0] = '\0';
    if (strrchr(self, '/') != NULL)
        *strrchr(self, '/') = '\0';
    for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", self, beside[i]);

        if (access(path, X_OK) == 0)
            return im_steal(&path);
    }
    return im_strdup("/usr/libexec/imprint/imprint-worker");
}

static const char *worker_user(const struct config *config) {
    if (geteuid() != 0 || im_str_empty(config->worker_user))
        return "";
    if (getpwnam(config->worker_user) != NULL)
        return config->worker_user;
    return "nobody";
}

/* Signals are blocked while we open: those that end us are looked at here. */
static bool told_to_stop(void) {
    const struct timespec second = {.tv_sec = 1};
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    return sigtimedwait(&set, NULL, &second) > 0;
}

/* A server may come up later than we do, as hosts start in any order. */
static bool wait_for_record(struct house *house, struct im_err *err) {
    int64_t until = im_mono_ms() + house->config->record_wait_s * 1000;
    bool told = false;

    for (;;) {
        if (db_migrate(house->db, err))
            return true;
        if (err->code != IM_NO_RECORD || strcmp(db_driver(house->db), "sqlite") == 0 ||
            im_mono_ms() >= until)
            return false;
        if (!told)
            im_warn("imprintd", "%s; trying for %d s", err->text,
                    (int) house->config->record_wait_s);
        told = true;
        *err = (struct im_err){0};
        if (told_to_stop())
            return im_fail(err, IM_CANCELLED, "told to stop while the record could not be reached");
    }
}

/* The one that serves: nobody else's jobs are in the record, nobody else collects its layers. */
static bool claim_record(struct house *house, struct im_err *err) {
    IM_AUTO(free_auto)
    char *name = im_printf("imprintd on %s, process %d", house->config->name, (int) getpid());

    return wait_for_record(house, err) && db_claim(house->db, name, err);
}

static bool open_state(struct house *house, bool serving, struct im_err *err) {
    const struct config *config = house->config;
    IM_AUTO(free_auto) char *key_path = im_printf("%s/secret.key", config->state_dir);

    /* Machines must be able to reach their disks below it: searchable, not listable. */
    if (!im_make_dirs(config->state_dir, 0711, err))
        return false;
    house->db = db_open(config->record_uri, err);
    if (house->db == NULL || !(serving ? claim_record(house, err) : db_migrate(house->db, err)))
        return false;
    house->key = crypto_key_open(key_path, err);
    return house->key != NULL;
}

static bool open_cloud(struct house *house, uid_t uid, gid_t gid, struct im_err *err) {
    const struct config *config = house->config;
    IM_AUTO(free_auto) char *worker = find_worker(config);
    struct cloud_config cloud = {
        .db = house->db,
        .pool = house->pool,
        .second_uri = config->second_uri,
        .scrub_rate_bytes = config->scrub_rate_bytes,
        .scrub_interval_s = config->scrub_interval_days * 86400,
        .virt = house->virt,
        .net = house->net,
        .key = house->key,
        .zone_id = config->zone,
        .state_dir = config->state_dir,
        .worker_program = worker,
        .worker_user = worker_user(config),
        .appliance = config->appliance,
        .instance_name = config->name,
        .machine_uid = uid,
        .machine_gid = gid,
        .job_threads = (unsigned) config->job_threads,
        .max_vcpus = config->max_vcpus,
        .max_memory_mib = config->max_memory_mib,
        .min_memory_mib = config->min_memory_mib,
        .memory_reserve_mib = config->memory_reserve_mib,
        .max_disk_gib = config->max_disk_gib,
        .volume_types = config->volume_types,
        .volume_step_gib = config->volume_step_gib,
        .merge_rate = config->merge_rate,
        .chain_max = config->chain_max,
        .running_chain_max = config->running_chain_max,
        .detach_timeout_ms = config->detach_timeout_s * 1000,
        .freeze_timeout_ms = config->freeze_timeout_s * 1000,
        .data_image_min_gib = config->data_image_min_gib,
        .data_image_max_gib = config->data_image_max_gib,
        .recycle_s = config->recycle_s,
        .stop_timeout_ms = config->stop_timeout_s * 1000,
        .job_keep_s = config->job_keep_s,
        .monitor_interval_s = config->monitor_interval_s,
        .import_paths = config->import_paths,
        .import_private_addresses = config->import_private_addresses,
        .import_proxy = config->import_proxy,
        .import_max_bytes = config->import_max_bytes,
        .import_max_ratio = config->import_max_ratio,
        .export_keep_s = config->export_keep_s,
        .export_max_bytes = config->export_max_bytes,
        .boot_test_at_once = config->boot_test_at_once,
        .boot_test_kvm_s = config->boot_test_kvm_s,
        .boot_test_tcg_s = config->boot_test_tcg_s,
        .boot_test_vcpus = config->boot_test_vcpus,
        .boot_test_memory_mib = config->boot_test_memory_mib,
        .boot_test_keep_s = config->boot_test_keep_s,
        .boot_test_required = config->boot_test_required,
    };
    struct cloud *opened;

    im_replace(&house->config->worker, worker); /* the cloud borrows its texts from there */
    cloud.worker_program = house->config->worker;
    opened = cloud_open(&cloud, err);
    lead_events(house, opened);
    return opened != NULL;
}

static void log_host(struct virt *virt) {
    struct virt_host host;
    struct im_err err = {0};

    if (!virt_host(virt, &host, &err))
        im_warn("imprintd", "hypervisor: %s", err.text);
    else if (host.accel_reason[0] != '\0')
        im_warn("imprintd", "machines run under TCG, without KVM: %s", host.accel_reason);
    else
        im_info("imprintd", "machines run with %s", host.accel);
}

struct net_config house_net_config(const struct config *config) {
    return (struct net_config){.mode = config->net_mode,
                               .bridge = config->bridge,
                               .subnet = config->subnet,
                               .domain = config->domain,
                               .nat = config->nat,
                               .host_ports = config->host_ports,
                               .state_dir = config->state_dir};
}

/* One line on which network machines have, and why: quickstart shows it, too. */
static void tell_network(const struct house *house) {
    const struct config *config = house->config;

    if (net_kind(house->net) == NET_BRIDGE)
        im_info("imprintd", "network: bridge %s, subnet %s%s", config->bridge, config->subnet,
                config->nat ? ", NAT" : "");
    else
        im_info("imprintd", "network: %s",
                im_str_empty(net_reason(house->net)) ? "user mode, as configured"
                                                     : net_reason(house->net));
}

/* A pool that was used before is not made anew where its file system is not mounted. */
static bool open_pool(struct house *house, struct im_err *err) {
    const char *uri = house->config->pool_uri;
    bool used = false;

    if (!cloud_pool_used(house->db, uri, &used, err))
        return im_within(err, "record");
    house->pool = used ? storage_open_used(uri, err) : storage_open(uri, err);
    if (house->pool == NULL && used && err->code == IM_NOT_FOUND) {
        struct im_err why = *err;

        return im_fail(err, IM_NOT_FOUND,
                       "storage: %.300s If it is lost for good: imprintd pool accept-loss",
                       why.text);
    }
    return house->pool != NULL || im_within(err, "storage");
}

/* While nothing serves: what the pool has not is lost, and a pool that is not there begins anew. */
bool house_accept_loss(struct house *house, struct config *config, int64_t *ret_lost,
                       struct im_err *err) {
    bool accepted;

    *house = (struct house){.config = config, .lock_fd = -1};
    accepted = im_make_dirs(config->state_dir, 0711, err) && lock_state(house, err) &&
               open_state(house, true, err) &&
               (house->pool = storage_open(config->pool_uri, err)) != NULL &&
               cloud_pool_accept_loss(house->db, house->pool, ret_lost, err);
    house_close(house);
    return accepted;
}

static bool open_world(struct house *house, uid_t uid, gid_t gid, struct im_err *err) {
    struct config *config = house->config;
    struct virt_config virt = {.uri = config->virt_uri,
                               .accel = config->accel,
                               .tb_cache_mib = (int) config->tb_cache_mib,
                               .state_dir = config->state_dir,
                               .run_as = config->run_as};
    struct net_config net = house_net_config(config);

    if (!open_pool(house, err))
        return false;
    storage_set_owner(house->pool, uid, gid);
    house->net = net_open(&net, err);
    if (house->net == NULL)
        return im_within(err, "network");
    tell_network(house);
    house->virt = virt_open(&virt, on_machine, house, err);
    if (house->virt == NULL)
        return im_within(err, "hypervisor");
    log_host(house->virt);
    return true;
}

static bool open_http(struct house *house, struct im_err *err) {
    const struct config *config = house->config;
    struct http_config http = {
        .address = config->address,
        .port = (int) config->port,
        .threads = (unsigned) config->threads,
        .max_connections = (unsigned) config->max_connections,
        .max_connections_per_ip = (unsigned) config->max_connections_per_ip,
        .idle_timeout_s = (unsigned) config->idle_timeout_s,
        .tls_certificate = config->tls_certificate,
        .tls_key = config->tls_key,
        .time_tolerance_s = config->time_tolerance_s,
        .body_max_bytes = (uint64_t) config->body_max_bytes,
        .upload_max_bytes = (uint64_t) config->import_max_bytes,
        .snapshot_job_id = config->snapshot_job_id,
        .cache_bytes = (uint64_t) config->cache_bytes,
    };

    house->http = http_open(&http, house->cloud, err);
    return house->http != NULL;
}

static bool open_all(struct house *house, struct im_err *err) {
    const char *user = worker_user(house->config);
    uid_t uid;
    gid_t gid;

    if (!im_str_equal(user, house->config->worker_user) && geteuid() == 0)
        im_warn("imprintd", "there is no user %s; workers run as %s", house->config->worker_user,
                user);
    return im_make_dirs(house->config->state_dir, 0711, err) && lock_state(house, err) &&
           machine_owner(house->config, &uid, &gid, err) && open_state(house, true, err) &&
           open_world(house, uid, gid, err) && open_cloud(house, uid, gid, err) &&
           cloud_start(house->cloud, err) && open_http(house, err);
}

bool house_open(struct house *house, struct config *config, struct im_err *err) {
    *house = (struct house){.config = config, .lock_fd = -1};
    if (open_all(house, err))
        return true;
    house_close(house);
    return false;
}

bool house_open_record(struct house *house, struct config *config, struct im_err *err) {
    *house = (struct house){.config = config, .lock_fd = -1};
    if (open_state(house, false, err) && open_cloud(house, 0, 0, err))
        return true;
    house_close(house);
    return false;
}

void house_close(struct house *house) {
    struct cloud *cloud = house->cloud;

    http_close(house->http);
    lead_events(house, NULL); /* those that are still on their way find no cloud */
    cloud_close(cloud);
    if (house->virt != NULL)
        virt_close(house->virt);
    if (house->net != NULL)
        net_close(house->net);
    if (house->pool != NULL)
        storage_close(house->pool);
    crypto_key_close(house->key);
    db_close(house->db);
    if (house->lock_fd >= 0)
        close(house->lock_fd);
}
