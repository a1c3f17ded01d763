/* SPDX-License-Identifier: Apache-2.0 */
/* The table of configuration keys, and the INI file they stand in. */
#include "daemon/config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

#define AT(field) offsetof(struct config, field)
#define TEXT(section, name, field, fallback, about)                                                \
    { section, name, CONFIG_TEXT, AT(field), fallback, 0, 0, NULL, NULL, about }
#define WORD(section, name, field, fallback, words, about)                                         \
    { section, name, CONFIG_WORD, AT(field), fallback, 0, 0, NULL, words, about }
#define BOOL(section, name, field, fallback, about)                                                \
    { section, name, CONFIG_BOOL, AT(field), fallback, 0, 1, NULL, NULL, about }
#define INT(section, name, field, fallback, min, max, unit, about)                                 \
    { section, name, CONFIG_INT, AT(field), fallback, min, max, unit, NULL, about }
#define SIZE(section, name, field, fallback, min, max, about)                                      \
    { section, name, CONFIG_SIZE, AT(field), fallback, min, max, "bytes", NULL, about }

#define DAY 86400
#define TIB (INT64_C(1) << 40)

static const struct config_key keys[] = {
    TEXT("imprintd", "zone", zone, "local1a", "name of the zone that clients address"),
    TEXT("imprintd", "state_dir", state_dir, "/var/lib/imprint",
         "absolute folder for everything that is kept"),
    TEXT("imprintd", "name", name, "",
         "what others that want its record are told; empty = the host's name"),
    WORD("imprintd", "log_level", log_level, "info", "error warning info debug",
         "least important kind of line that is logged"),
    TEXT("imprintd", "worker", worker, "",
         "path of imprint-worker; empty = beside imprintd, or where it is installed"),
    TEXT("imprintd", "worker_user", worker_user, "imprint-worker",
         "user that workers change to when imprintd runs as root; without such a user, nobody"),
    TEXT("imprintd", "appliance", appliance, "",
         "folder that make-appliance filled, for changing disks; empty = appliance in state_dir"),
    INT("imprintd", "job_threads", job_threads, "4", 1, 64, NULL,
        "resources that are worked on at once"),
    INT("imprintd", "job_keep", job_keep_s, "604800", 0, 3650 * DAY, "s",
        "how long finished jobs stay listed; 0 = for ever"),
    TEXT("record", "uri", record_uri, "",
         "sqlite:/path or postgresql://...; empty = sqlite: in state_dir"),
    INT("record", "wait", record_wait_s, "60", 0, DAY, "s",
        "how long to wait at start for a PostgreSQL that cannot be reached"),
    TEXT("storage", "uri", pool_uri, "", "local:/path or memory:; empty = local: in state_dir"),
    TEXT("storage", "second", second_uri, "",
         "local:/path of another file system, which snapshots are copied to; empty = none"),
    SIZE("storage", "scrub_rate", scrub_rate_bytes, "20M", 0, TIB,
         "how much of frozen layers is read a second, to find what has rotted; 0 = nothing"),
    INT("storage", "scrub_interval", scrub_interval_days, "30", 1, 3650, "days",
        "each frozen layer is read once in it"),
    SIZE("storage", "merge_rate", merge_rate, "64M", 0, TIB,
         "bytes a second that are copied, at most, to shorten chains of layers; 0 = they stay"),
    INT("storage", "chain_max", chain_max, "32", 2, 1000, NULL,
        "frozen layers that stand on one another; longer chains are shortened"),
    INT("storage", "running_chain_max", running_chain_max, "60", 3, 190, NULL,
        "layers a running machine reads a disk through; longer chains are shortened in it"),
    TEXT("virt", "uri", virt_uri, "qemu:///system",
         "libvirt URI, or memory: for a make-believe hypervisor"),
    WORD("virt", "accel", accel, "auto", "auto kvm tcg",
         "how guest code runs; auto = KVM where a test guest runs under it, else TCG"),
    INT("virt", "tb_cache", tb_cache_mib, "128", 8, 65536, "MiB",
        "translation cache of each machine under TCG"),
    TEXT("virt", "run_as", run_as, "", "user that machines run as; empty = libvirt's own choice"),
    WORD("net", "mode", net_mode, "auto", "auto bridge user",
         "network of machines; auto = bridge where the host lets us make one, else user"),
    TEXT("net", "bridge", bridge, "imbr0", "name of the bridge, at most 15 characters"),
    TEXT("net", "subnet", subnet, "10.180.0.0/20",
         "addresses of vxnet-0; the host has the first one"),
    TEXT("net", "domain", domain, "imprint.internal", "domain of machines' names"),
    BOOL("net", "nat", nat, "yes",
         "machines reach the world under the host's address, and the world does not reach them"),
    TEXT("net", "host_ports", host_ports, "",
         "TCP ports of the host that machines may reach, separated by blanks; empty = none"),
    TEXT("http", "address", address, "127.0.0.1", "IP address to listen on"),
    INT("http", "port", port, "7200", 0, 65535, NULL, "port to listen on; 0 = any free one"),
    INT("http", "threads", threads, "4", 1, 64, NULL, "threads that answer requests"),
    INT("http", "max_connections", max_connections, "512", 1, 65536, NULL,
        "open connections in all"),
    INT("http", "max_connections_per_ip", max_connections_per_ip, "256", 0, 65536, NULL,
        "open connections of one address; 0 = no limit"),
    INT("http", "idle_timeout", idle_timeout_s, "65", 1, 3600, "s",
        "a connection on which nothing moves for so long is closed"),
    TEXT("http", "tls_certificate", tls_certificate, "",
         "PEM file; with tls_key, HTTPS instead of HTTP"),
    TEXT("http", "tls_key", tls_key, "", "PEM file of the certificate's private key"),
    INT("http", "time_tolerance", time_tolerance_s, "60", 1, 3650 * DAY, "s",
        "how far the time_stamp of a request may lie from our clock"),
    SIZE("http", "body_max", body_max_bytes, "8M", 65536, 64 << 20,
         "longest body of a POST to /iaas"),
    SIZE("http", "cache", cache_bytes, "4M", 0, 1 << 30,
         "for replies that are kept while nothing changes; 0 = none"),
    WORD("http", "snapshot_job_id", snapshot_job_id, "array", "array string none",
         "form of CreateSnapshots' job_id: clients differ in what they can read"),
    INT("limits", "max_vcpus", max_vcpus, "0", 0, 4096, NULL,
        "vCPUs of one instance; 0 = eight times the host's CPUs"),
    INT("limits", "max_memory", max_memory_mib, "0", 0, 1 << 30, "MiB",
        "memory of one instance; 0 = the host's memory"),
    INT("limits", "min_memory", min_memory_mib, "64", 1, 1 << 20, "MiB",
        "least memory of one instance"),
    INT("limits", "memory_reserve", memory_reserve_mib, "512", 0, 1 << 30, "MiB",
        "memory that stays with the host"),
    INT("limits", "max_disk", max_disk_gib, "2048", 1, 65536, "GiB", "size of one disk"),
    TEXT("limits", "volume_types", volume_types,
         "0:10-2000, 1:10-5000, 2:10-32000, 3:10-2000, 5:10-24000, 6:10-32000, 7:10-32000, "
         "20:10-200, 100:10-2000, 200:10-2000",
         "types of volumes and their sizes in GiB: TYPE:MIN-MAX, ..."),
    INT("limits", "volume_step", volume_step_gib, "10", 1, 1024, "GiB",
        "sizes of volumes are multiples of it"),
    INT("limits", "detach_timeout", detach_timeout_s, "60", 1, 3600, "s",
        "how long a guest may take to let go of a volume"),
    INT("limits", "freeze_timeout", freeze_timeout_s, "5", 1, 60, "s",
        "how long the guests of a snapshot may be kept from writing"),
    INT("limits", "data_image_min", data_image_min_gib, "20", 0, 65536, "GiB",
        "size of a volume that is made an image, at least"),
    INT("limits", "data_image_max", data_image_max_gib, "100", 0, 65536, "GiB",
        "size of a volume that is made an image, at most; 0 = any"),
    INT("limits", "recycle", recycle_s, "7200", 0, 365 * DAY, "s", "time in the recycle bin"),
    INT("limits", "stop_timeout", stop_timeout_s, "60", 1, 3600, "s",
        "a machine that was asked to stop is powered off after it"),
    INT("limits", "monitor", monitor_interval_s, "60", 0, 300, "s",
        "time between two looks at what machines use; 0 = never"),
    TEXT("import", "paths", import_paths, "",
         "folders ImportImage may read from, separated by ':'; empty = none"),
    BOOL("import", "private_addresses", import_private_addresses, "no",
         "URLs may lead to loopback and private addresses"),
    TEXT("import", "proxy", import_proxy, "", "proxy for URLs; empty = none"),
    SIZE("import", "max_bytes", import_max_bytes, "2T", 1 << 20, 64 * TIB,
         "of what comes in, and of the disk in it"),
    INT("import", "max_ratio", import_max_ratio, "1000", 1, 1000000, NULL,
        "how much larger compressed data may become"),
    INT("export", "keep", export_keep_s, "86400", 60, 365 * DAY, "s",
        "an export can be downloaded for so long"),
    SIZE("export", "max_bytes", export_max_bytes, "100G", 0, 64 * TIB,
         "of all exports together, which lie in state_dir; 0 = no limit"),
    INT("boottest", "at_once", boot_test_at_once, "1", 1, 64, NULL,
        "so many machines of boot tests run at once; further tests wait"),
    INT("boottest", "timeout_kvm", boot_test_kvm_s, "60", 10, 7200, "s",
        "a machine under KVM may take so long to be up"),
    INT("boottest", "timeout_tcg", boot_test_tcg_s, "300", 10, 7200, "s", "one without KVM"),
    INT("boottest", "cpus", boot_test_vcpus, "1", 1, 512, NULL, "what such a machine has"),
    INT("boottest", "memory", boot_test_memory_mib, "1024", 16, 1 << 20, "MiB", "the same"),
    TEXT(
        "boottest", "required", boot_test_required, "",
        "images that are published only if they boot, or are forced: import, volume, instance (the "
        "last two of snapshots); empty = none"),
    INT("boottest", "keep", boot_test_keep_s, "604800", 60, 365 * DAY, "s",
        "a report is kept for so long"),
};
#define KEYS (sizeof(keys) / sizeof(keys[0]))

const struct config_key *config_keys(size_t *ret_count) {
    *ret_count = KEYS;
    return keys;
}

static bool holds_text(const struct config_key *key) {
    return key->type == CONFIG_TEXT || key->type == CONFIG_WORD;
}

static char **text_slot(struct config *config, const struct config_key *key) {
    return (char **) (void *) ((char *) config + key->offset);
}

static int64_t *int_slot(struct config *config, const struct config_key *key) {
    return (int64_t *) (void *) ((char *) config + key->offset);
}

/* --- Values -------------------------------------------------------------------------------------
 */

static bool is_word(const char *words, const char *value) {
    IM_AUTO(im_strings_done) struct im_strings list = {0};
    bool found = false;

    im_strings_split(&list, words, " ");
    for (size_t i = 0; i < list.count; i++)
        found = found || strcmp(list.items[i], value) == 0;
    return found;
}

static bool parse_bool(const char *value, int64_t *ret_value) {
    static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false",
                                                                                "off", "0"};

    for (size_t i = 0; i < 4; i++)
        if (strcasecmp(value, yes[i]) == 0 || strcasecmp(value, no[i]) == 0) {
            *ret_value = strcasecmp(value, yes[i]) == 0;
            return true;
        }
    return false;
}

static bool set_number(struct config *config, const struct config_key *key, const char *value,
                       struct im_err *err) {
    int64_t *slot = int_slot(config, key);
    uint64_t bytes;

    if (key->type == CONFIG_BOOL)
        return parse_bool(value, slot) ||
               im_fail(err, IM_BAD_MESSAGE, "%s must be yes or no", key->name);
    if (key->type == CONFIG_SIZE && im_parse_size(value, &bytes) && bytes >= (uint64_t) key->min &&
        bytes <= (uint64_t) key->max) {
        *slot = (int64_t) bytes;
        return true;
    }
    if (key->type == CONFIG_INT && im_parse_i64(value, key->min, key->max, slot))
        return true;
    return im_fail(err, IM_BAD_MESSAGE,
                   "%s must be a whole number from %" PRId64 " to %" PRId64 "%s%s%s", key->name,
                   key->min, key->max, key->unit ? " (" : "", key->unit ? key->unit : "",
                   key->unit ? ")" : "");
}

static bool set_value(struct config *config, const struct config_key *key, const char *value,
                      struct im_err *err) {
    if (!holds_text(key))
        return set_number(config, key, value, err);
    if (key->type == CONFIG_WORD && !is_word(key->words, value))
        return im_fail(err, IM_BAD_MESSAGE, "%s must be one of: %s", key->name, key->words);
    im_replace(text_slot(config, key), value);
    return true;
}

void config_init(struct config *config) {
    memset(config, 0, sizeof(*config));
    for (size_t i = 0; i < KEYS; i++) {
        struct im_err err = {0};

        if (!set_value(config, &keys[i], keys[i].fallback, &err)) {
            fprintf(stderr, "default of %s: %s\n", keys[i].name, err.text);
            abort();
        }
    }
}

void config_done(struct config *config) {
    for (size_t i = 0; i < KEYS; i++)
        if (holds_text(&keys[i]))
            im_replace(text_slot(config, &keys[i]), NULL);
}

/* --- The file -----------------------------------------------------------------------------------
 */

static char *trim(char *text) {
    char *end;

    text += strspn(text, " \t\r");
    end = text + strlen(text);
    while (end > text && strchr(" \t\r", end[-1]) != NULL)
        *--end = '\0';
    return text;
}

static bool known_section(const char *section) {
    for (size_t i = 0; i < KEYS; i++)
        if (strcmp(keys[i].section, section) == 0)
            return true;
    return false;
}

static bool read_pair(struct config *config, const char *section, char *line, struct im_err *err) {
    char *equals = strchr(line, '='), *name, *value;

    if (equals == NULL)
        return im_fail(err, IM_BAD_MESSAGE, "neither [section] nor key = value");
    *equals = '\0';
    name = trim(line);
    value = trim(equals + 1);
    if (section[0] == '\0')
        return im_fail(err, IM_BAD_MESSAGE, "key %s stands before the first [section]", name);
    for (size_t i = 0; i < KEYS; i++)
        if (strcmp(keys[i].section, section) == 0 && strcmp(keys[i].name, name) == 0)
            return set_value(config, &keys[i], value, err);
    return im_fail(err, IM_BAD_MESSAGE, "section [%s] has no key %s", section, name);
}

static bool read_line(struct config *config, char section[32], char *line, struct im_err *err) {
    size_t len = strlen(line);

    if (line[0] == '\0' || line[0] == '#' || line[0] == ';')
        return true;
    if (line[0] != '[')
        return read_pair(config, section, line, err);
    if (line[len - 1] != ']')
        return im_fail(err, IM_BAD_MESSAGE, "a section's name must end in ]");
    line[len - 1] = '\0';
    line = trim(line + 1);
    if (!known_section(line))
        return im_fail(err, IM_BAD_MESSAGE, "there is no section [%s]", line);
    snprintf(section, 32, "%s", line);
    return true;
}

bool config_read(struct config *config, const char *path, struct im_err *err) {
    IM_AUTO(free_auto) char *text = NULL;
    char section[32] = "";
    unsigned number = 0;
    size_t len;

    if (!im_read_file(path, 1 << 20, &text, &len, err))
        return false;
    if (strlen(text) != len)
        return im_fail(err, IM_BAD_MESSAGE, "%s has a zero byte in it", path);
    for (char *line = text; line != NULL;) {
        char *next = strchr(line, '\n');

        if (next != NULL)
            *next++ = '\0';
        number++;
        if (!read_line(config, section, trim(line), err))
            return im_within(err, "%s line %u", path, number);
        line = next;
    }
    return true;
}

/* --- What hangs together ------------------------------------------------------------------------
 */

static void under_state(char **slot, const char *scheme, const char *state_dir, const char *name) {
    IM_AUTO(free_auto) char *uri = im_printf("%s:%s/%s", scheme, state_dir, name);

    if (im_str_empty(*slot))
        im_replace(slot, uri);
}

bool config_finish(struct config *config, struct im_err *err) {
    char host[256] = "";

    if (config->state_dir[0] != '/')
        return im_fail(err, IM_BAD_MESSAGE, "state_dir must be an absolute path");
    if (im_str_empty(config->zone) || strlen(config->zone) > 63)
        return im_fail(err, IM_BAD_MESSAGE, "zone must have 1 to 63 characters");
    if (im_str_empty(config->tls_certificate) != im_str_empty(config->tls_key))
        return im_fail(err, IM_BAD_MESSAGE, "tls_certificate and tls_key belong together");
    if (strlen(config->bridge) > 15 || im_str_empty(config->bridge))
        return im_fail(err, IM_BAD_MESSAGE, "bridge must have 1 to 15 characters");
    under_state(&config->record_uri, "sqlite", config->state_dir, "imprint.db");
    under_state(&config->pool_uri, "local", config->state_dir, "pool");
    if (im_str_empty(config->appliance)) {
        free(config->appliance);
        config->appliance = im_printf("%s/appliance", config->state_dir);
    }
    if (config->appliance[0] != '/')
        return im_fail(err, IM_BAD_MESSAGE, "appliance must be an absolute path");
    if (!im_str_empty(config->second_uri) &&
        (strcmp(config->second_uri, config->pool_uri) == 0 ||
         strcspn(config->second_uri, ":") != strcspn(config->pool_uri, ":") ||
         strncmp(config->second_uri, config->pool_uri, strcspn(config->pool_uri, ":")) != 0))
        return im_fail(err, IM_BAD_MESSAGE,
                       "[storage] second must be another pool than uri, and of the same kind");
    if (im_str_empty(config->name)) {
        (void) gethostname(host, sizeof(host) - 1);
        im_replace(&config->name, host[0] != '\0' ? host : "imprintd");
    }
    return true;
}

char *config_sample(void) {
    struct im_str out = {0};
    const char *section = "";

    im_str_add(&out,
               "# Configuration of imprintd, see imprintd.conf(5). Every key stands here with "
               "its default.\n");
    for (size_t i = 0; i < KEYS; i++) {
        const struct config_key *key = &keys[i];

        if (strcmp(section, key->section) != 0) {
            section = key->section;
            im_str_addf(&out, "\n[%s]\n", section);
        }
        im_str_addf(&out, "# %s", key->about);
        if (key->words != NULL)
            im_str_addf(&out, " (%s)", key->words);
        else if (key->unit != NULL)
            im_str_addf(&out, " (%s)", key->unit);
        im_str_addf(&out, "\n#%s = %s\n", key->name, key->fallback);
    }
    return im_str_take(&out);
}
