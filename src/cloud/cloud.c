/* SPDX-License-Identifier: Apache-2.0 */
/* The cloud itself: opened on what the daemon opened, started, closed; and its health. */
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/log.h"
#include "cloud-private.h"

static const struct job_verb *const verbs[] = {
    &image_import_verb,
    &image_export_verb,
    &image_capture_verb,
    &image_clone_verb,
    &image_delete_verb,
    &instance_run_verb,
    &instance_start_verb,
    &instance_stop_verb,
    &instance_restart_verb,
    &instance_cease_verb,
    &instance_terminate_verb,
    &instance_reset_verb,
    &instance_resize_verb,
    &instance_clone_verb,
    &keypair_attach_verb,
    &keypair_detach_verb,
    &password_reset_verb,
    &volume_create_verb,
    &volume_delete_verb,
    &volume_attach_verb,
    &volume_detach_verb,
    &volume_resize_verb,
    &volume_clone_verb,
    &snapshot_create_verb,
    &snapshot_delete_verb,
    &snapshot_apply_verb,
    &snapshot_volume_verb,
    &snapshot_instance_image_verb,
    &snapshot_image_verb,
    &snapshot_copy_verb,
    &snapshot_restore_verb,
    &copy_delete_verb,
    &pool_scrub_verb,
    &boot_test_verb,
    &repair_verb,
    &repair_undo_verb,
    NULL,
};

/* The texts of the configuration, which become copies of our own. */
static const size_t texts[] = {
    offsetof(struct cloud_config, zone_id),           offsetof(struct cloud_config, state_dir),
    offsetof(struct cloud_config, worker_program),    offsetof(struct cloud_config, worker_user),
    offsetof(struct cloud_config, appliance),         offsetof(struct cloud_config, instance_name),
    offsetof(struct cloud_config, import_paths),      offsetof(struct cloud_config, import_proxy),
    offsetof(struct cloud_config, volume_types),      offsetof(struct cloud_config, second_uri),
    offsetof(struct cloud_config, boot_test_required)};

static char **text_at(struct cloud *cloud, size_t i) {
    return (char **) ((char *) &cloud->config + texts[i]);
}

struct cloud *cloud_open(const struct cloud_config *config, struct im_err *err) {
    struct cloud *cloud = im_alloc(sizeof(*cloud));
    struct jobs_config jobs = {.db = config->db,
                               .verbs = verbs,
                               .context = cloud,
                               .threads = config->job_threads,
                               .worker = config->instance_name,
                               .keep_s = config->job_keep_s,
                               .rest_ms = config->job_rest_ms};
    IM_AUTO(free_auto) char *uploads = im_printf("%s/uploads", config->state_dir);
    IM_AUTO(free_auto) char *exports = im_printf("%s/exports", config->state_dir);
    IM_AUTO(free_auto) char *boot_tests = im_printf("%s/boot-tests", config->state_dir);
    IM_AUTO(free_auto) char *seeds = im_printf("%s/seeds", config->state_dir);

    cloud->config = *config;
    cloud->monitor = monitor_new();
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        *text_at(cloud, i) = im_strdup(*text_at(cloud, i) ? *text_at(cloud, i) : "");
    pthread_mutex_init(&cloud->secrets_lock, NULL);
    pthread_mutex_init(&cloud->lock, NULL);
    pthread_mutex_init(&cloud->digest_lock, NULL);
    pthread_mutex_init(&cloud->second_lock, NULL);
    pthread_cond_init(&cloud->second_free, NULL);
    pthread_cond_init(&cloud->wake, NULL);
    pthread_cond_init(&cloud->scrub_wake, NULL);
    pthread_cond_init(&cloud->machine_free, NULL);
    pthread_cond_init(&cloud->fold_wake, NULL);
    pthread_rwlock_init(&cloud->chains, NULL);
    /* Seeds are read by the machines' user, the others by nobody but us. */
    if (!boot_gate_kinds(cloud->config.boot_test_required, err) ||
        !im_make_dirs(uploads, 0700, err) || !im_make_dirs(exports, 0700, err) ||
        !im_make_dirs(boot_tests, 0700, err) || !im_make_dirs(seeds, 0755, err) ||
        (cloud->jobs = jobs_open(&jobs, err)) == NULL) {
        cloud_close(cloud);
        return NULL;
    }
    return cloud;
}

bool cloud_start(struct cloud *cloud, struct im_err *err) {
    struct im_err later = {0}, pulls = {0};

    /* A hypervisor that does not answer yet must not keep the API away: the background tries again.
     */
    if (!background_reconcile(cloud, &later))
        im_warn("cloud", "record and hypervisor are compared later: %s", later.text);
    if (!pull_settle(cloud, &pulls))
        im_warn("cloud", "what machines were taking up is settled later: %s", pulls.text);
    return uploads_sweep(cloud, err) && exports_sweep(cloud, err) && boot_tests_sweep(cloud, err) &&
           fold_settle(cloud, err) && jobs_start(cloud->jobs, err) &&
           background_start(cloud, err) && monitor_start(cloud, err) && scrub_start(cloud, err) &&
           fold_start(cloud, err);
}

void cloud_close(struct cloud *cloud) {
    if (cloud == NULL)
        return;
    scrub_stop(cloud);
    jobs_stop(cloud->jobs);
    fold_stop(cloud);
    background_stop(cloud);
    monitor_stop(cloud);
    for (size_t i = 0; i < SECRETS_KEPT; i++)
        free(cloud->secrets[i].secret);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        free(*text_at(cloud, i));
    im_strings_done(&cloud->machines_locked);
    im_strings_done(&cloud->rewriting);
    im_strings_done(&cloud->rewritten);
    im_strings_done(&cloud->layers_claimed);
    im_strings_done(&cloud->pull_seen);
    pthread_cond_destroy(&cloud->second_free);
    pthread_mutex_destroy(&cloud->second_lock);
    pthread_mutex_destroy(&cloud->digest_lock);
    pthread_rwlock_destroy(&cloud->chains);
    pthread_cond_destroy(&cloud->fold_wake);
    pthread_cond_destroy(&cloud->machine_free);
    pthread_cond_destroy(&cloud->wake);
    pthread_cond_destroy(&cloud->scrub_wake);
    pthread_mutex_destroy(&cloud->lock);
    pthread_mutex_destroy(&cloud->secrets_lock);
    free(cloud);
}

struct db *cloud_db(struct cloud *cloud) {
    return cloud->config.db;
}

const char *cloud_zone(const struct cloud *cloud) { return cloud->config.zone_id; }

/* --- Health ----------------------------------------------------------------------------------- */

static bool count_status(struct db_conn *conn, const struct object_type *type, const char *status,
                         int64_t *ret_count, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};

    query_add(&query, "status", CONDITION_IN, status);
    return record_count(conn, type, &query, ret_count, err);
}

static void health_reason(struct cloud_health *health, const struct im_err *err) {
    if (health->reason[0] == '\0')
        snprintf(health->reason, sizeof(health->reason), "%s", err->text);
}

void cloud_health(struct cloud *cloud, struct cloud_health *ret_health) {
    struct cloud_health health = {0};
    struct im_err db_err = {0}, virt_err = {0}, pool_err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, &db_err);
    struct virt_host host;

    health.db_ok =
        conn != NULL && count_status(conn, &image_type, "available", &health.images, &db_err) &&
        count_status(conn, &instance_type, "running", &health.instances_running, &db_err) &&
        count_status(conn, &instance_type, "stopped", &health.instances_stopped, &db_err) &&
        count_status(conn, &job_type, "working", &health.jobs_working, &db_err);
    health.virt_ok = virt_host(cloud->config.virt, &host, &virt_err);
    health.pool_ok = storage_space(cloud->config.pool, &health.space, &pool_err);
    if (!health.db_ok)
        health_reason(&health, &db_err);
    if (!health.virt_ok)
        health_reason(&health, &virt_err);
    if (!health.pool_ok)
        health_reason(&health, &pool_err);
    *ret_health = health;
}
