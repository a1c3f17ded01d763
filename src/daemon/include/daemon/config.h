/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration of imprintd: one table of keys, from which the parser, the sample file and the
 * test of the manual are drawn. */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

struct config {
    char *zone, *state_dir, *name, *log_level, *worker, *worker_user, *appliance;
    int64_t job_threads, job_keep_s;
    char *record_uri, *pool_uri, *second_uri;
    int64_t scrub_rate_bytes, scrub_interval_days;
    int64_t merge_rate, chain_max, running_chain_max;
    char *virt_uri, *accel, *run_as;
    int64_t tb_cache_mib;
    char *net_mode, *bridge, *subnet, *domain, *host_ports;
    int64_t nat, record_wait_s;
    char *address, *tls_certificate, *tls_key;
    int64_t port, threads, max_connections, max_connections_per_ip, idle_timeout_s;
    int64_t time_tolerance_s, body_max_bytes, cache_bytes;
    int64_t max_vcpus, max_memory_mib, min_memory_mib, memory_reserve_mib, max_disk_gib;
    int64_t recycle_s, stop_timeout_s, monitor_interval_s;
    char *volume_types, *snapshot_job_id;
    int64_t volume_step_gib, detach_timeout_s, freeze_timeout_s, data_image_min_gib,
        data_image_max_gib;
    char *import_paths, *import_proxy;
    int64_t import_private_addresses, import_max_bytes, import_max_ratio;
    int64_t export_keep_s, export_max_bytes;
    int64_t boot_test_at_once, boot_test_kvm_s, boot_test_tcg_s, boot_test_vcpus,
        boot_test_memory_mib, boot_test_keep_s;
    char *boot_test_required;
};

enum config_type {
    CONFIG_TEXT,
    CONFIG_INT,
    CONFIG_BOOL, /* yes, no, true, false, 1, 0 */
    CONFIG_SIZE, /* bytes; 64M, 20G … */
    CONFIG_WORD, /* one of `words` */
};
struct config_key {
    const char *section, *name;
    enum config_type type;
    size_t offset;
    const char *fallback; /* the default, as it would stand in the file */
    int64_t min, max;
    const char *unit; /* "s", "MiB", …; NULL = none */
    const char *words;
    const char *about;
};
const struct config_key *config_keys(size_t *ret_count);

/* All keys at their defaults. */
void config_init(struct config *config);
void config_done(struct config *config);
/* An unknown section or key, a value out of range, or a line of no form is IM_BAD_MESSAGE with file
 * and line number; the last of two values of one key wins. */
bool config_read(struct config *config, const char *path, struct im_err *err) IM_MUST_CHECK;
/* Puts everything that was left empty under state_dir, and checks what hangs together. */
bool config_finish(struct config *config, struct im_err *err) IM_MUST_CHECK;
/* A whole file with every key at its default, commented; owned. */
char *config_sample(void);

#endif
