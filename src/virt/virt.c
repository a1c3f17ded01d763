/* SPDX-License-Identifier: Apache-2.0 */
/* The contract's entry points: choose the driver by URI, check what comes in, count calls and fail
 * the one a test asked for. */
#include "virt-private.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/str.h"

struct virt {
    const struct virt_ops *ops;
    struct virt_driver *driver;
    char *state_dir;
    atomic_uint calls;
    atomic_uint fault_at; /* number of the call that fails, 0 = none */
    atomic_bool fault_after;
};
IM_DEFINE_AUTO(struct virt *, virt_close)

static const struct virt_ops *const drivers[] = {&virt_memory_ops, &virt_libvirt_ops};

/* Console logs and firmware variables are opened by QEMU under its own user: the folders must let
 * it in, and the files carry no names but the machines' own ids. */
static bool make_state(const char *state_dir, struct im_err *err) {
    static const char *const folders[] = {"console", "nvram"};

    for (size_t i = 0; i < 2; i++) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", state_dir, folders[i]);

        if (!im_make_dirs(path, 0711, err))
            return false;
    }
    return true;
}

struct virt *virt_open(const struct virt_config *config, virt_event *event, void *arg,
                       struct im_err *err) {
    IM_AUTO(virt_close_auto) struct virt *virt = im_alloc(sizeof(*virt));

    if (im_str_empty(config->uri) || im_str_empty(config->state_dir) ||
        config->state_dir[0] != '/') {
        im_fail(err, IM_INTERNAL, "the hypervisor needs a URI and an absolute state folder");
        return NULL;
    }
    if (!make_state(config->state_dir, err))
        return NULL;
    virt->state_dir = im_strdup(config->state_dir);
    for (size_t i = 0; virt->ops == NULL; i++)
        if (im_starts_with(config->uri, drivers[i]->scheme))
            virt->ops = drivers[i];
    virt->driver = virt->ops->open(config, event, arg, err);
    if (virt->driver == NULL)
        return NULL;
    return im_steal(&virt);
}

void virt_close(struct virt *virt) {
    if (virt == NULL)
        return;
    if (virt->driver != NULL)
        virt->ops->close(virt->driver);
    free(virt->state_dir);
    free(virt);
}

/* One call through the driver's table: counted, and failed before or after its effect if this is
 * the one that a test chose. */
static bool fault_due(struct virt *virt, unsigned call, bool after, struct im_err *err) {
    if (call != virt->fault_at || virt->fault_after != after)
        return false;
    im_fail(err, IM_INTERNAL, "call %u of the hypervisor fails on request", call);
    return true;
}

static bool supported(const void *entry, struct im_err *err) {
    return entry != NULL || im_fail(err, IM_UNSUPPORTED, "this hypervisor cannot do that");
}

static bool name_ok(const char *name, struct im_err *err) {
    return im_id_valid(name) ||
           im_fail(err, IM_INTERNAL, "a machine's name must be letters, digits, '.', '_' and '-'");
}

#define CALL(virt, entry, ...)                                                                     \
    do {                                                                                           \
        unsigned call_ = atomic_fetch_add(&(virt)->calls, 1) + 1;                                  \
        if (!supported((const void *) (virt)->ops->entry, err) ||                                  \
            fault_due((virt), call_, false, err) ||                                                \
            !(virt)->ops->entry((virt)->driver, __VA_ARGS__, err) ||                               \
            fault_due((virt), call_, true, err)) {                                                 \
            assert(err->code != IM_OK);                                                            \
            return false;                                                                          \
        }                                                                                          \
        return true;                                                                               \
    } while (0)

bool virt_host(struct virt *virt, struct virt_host *ret_host, struct im_err *err) {
    CALL(virt, host, ret_host);
}

/* xx:xx:xx:xx:xx:xx with lower- or upper-case digits; a multicast address is not a machine's. */
static bool mac_ok(const char *mac) {
    if (mac == NULL || strlen(mac) != 17)
        return false;
    for (int i = 0; i < 17; i++)
        if (i % 3 == 2 ? mac[i] != ':' : !isxdigit((unsigned char) mac[i]))
            return false;
    return (strtol((char[]){mac[1], '\0'}, NULL, 16) & 1) == 0;
}

static bool plain_name_ok(const char *name, size_t max) {
    if (im_str_empty(name) || strlen(name) > max)
        return false;
    for (const char *p = name; *p != '\0'; p++)
        if (!isalnum((unsigned char) *p) && strchr("-_.", *p) == NULL)
            return false;
    return true;
}

static bool nic_ok(const struct virt_nic *nic, struct im_err *err) {
    if (!mac_ok(nic->mac))
        return im_fail(err, IM_INTERNAL, "%s is no MAC address", nic->mac ? nic->mac : "nothing");
    if (nic->kind == VIRT_NIC_BRIDGE && !plain_name_ok(nic->bridge, 15))
        return im_fail(err, IM_INTERNAL, "a bridge's name has 1 to 15 characters");
    if (nic->kind == VIRT_NIC_BRIDGE && nic->tap != NULL && !plain_name_ok(nic->tap, 15))
        return im_fail(err, IM_INTERNAL, "a tap's name has 1 to 15 characters");
    if (nic->ssh_port < 0 || nic->ssh_port > 65535 || nic->mirror_port < 0 ||
        nic->mirror_port > 65535)
        return im_fail(err, IM_INTERNAL, "%d or %d is no port", nic->ssh_port, nic->mirror_port);
    return true;
}

static bool disk_ok(const struct virt_disk *disk, struct im_err *err) {
    if (!im_str_empty(disk->serial) && !plain_name_ok(disk->serial, 64))
        return im_fail(err, IM_INTERNAL, "%s cannot be a disk's serial", disk->serial);
    if (disk->layer_count == 0)
        return im_fail(err, IM_INTERNAL, "a disk needs at least one layer");
    for (size_t i = 0; i < disk->layer_count; i++)
        if (disk->layers[i].path == NULL || disk->layers[i].path[0] != '/' ||
            (strcmp(disk->layers[i].format, "qcow2") != 0 &&
             strcmp(disk->layers[i].format, "raw") != 0))
            return im_fail(err, IM_INTERNAL, "a layer needs an absolute path and qcow2 or raw");
    return true;
}

static bool uuid_ok(const char *uuid) {
    if (uuid == NULL || strlen(uuid) != 36)
        return false;
    for (int i = 0; i < 36; i++)
        if (i == 8 || i == 13 || i == 18 || i == 23 ? uuid[i] != '-'
                                                    : !isxdigit((unsigned char) uuid[i]))
            return false;
    return true;
}

static bool machine_ok(const struct virt_machine *machine, struct im_err *err) {
    if (!name_ok(machine->name, err))
        return false;
    if (!uuid_ok(machine->uuid) || machine->vcpus == 0 || machine->memory_mib == 0 ||
        machine->disk_count == 0)
        return im_fail(err, IM_INTERNAL, "a machine needs a UUID, CPUs, memory and a disk");
    if (!im_str_equal(machine->firmware, "bios") && !im_str_equal(machine->firmware, "uefi"))
        return im_fail(err, IM_INTERNAL, "firmware is bios or uefi");
    if (!im_str_empty(machine->cpu_model) && !plain_name_ok(machine->cpu_model, 64))
        return im_fail(err, IM_BAD_MESSAGE, "%s is no CPU model", machine->cpu_model);
    for (size_t i = 0; i < machine->disk_count; i++)
        if (!disk_ok(&machine->disks[i], err))
            return false;
    for (size_t i = 0; i < machine->nic_count; i++)
        if (!nic_ok(&machine->nics[i], err))
            return false;
    return true;
}

static bool start(struct virt *virt, const struct virt_machine *machine, struct im_err *err) {
    CALL(virt, start, machine);
}

bool virt_start(struct virt *virt, const struct virt_machine *machine, struct im_err *err) {
    if (!machine_ok(machine, err) || !start(virt, machine, err))
        return im_within(err, "machine %s", machine->name);
    return true;
}

bool virt_shutdown(struct virt *virt, const char *name, struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, shutdown, name);
}

bool virt_reboot(struct virt *virt, const char *name, struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, reboot, name);
}

bool virt_reset(struct virt *virt, const char *name, struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, reset, name);
}

bool virt_destroy(struct virt *virt, const char *name, struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, destroy, name);
}

bool virt_state(struct virt *virt, const char *name, enum virt_state *ret_state,
                struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, state, name, ret_state);
}

/* Asks instead of listening to events: an event is lost when the connection is, and ten short
 * questions a second cost nothing. Counts as one call. */
static bool wait_off(struct virt_driver *driver, const struct virt_ops *ops, const char *name,
                     int64_t timeout_ms, const volatile bool *cancel, struct im_err *err) {
    int64_t deadline = im_mono_ms() + timeout_ms;

    for (;;) {
        enum virt_state state = VIRT_RUNNING;

        if (!ops->state(driver, name, &state, err))
            return false;
        if (state == VIRT_OFF || state == VIRT_CRASHED)
            return true;
        if (cancel != NULL && *cancel)
            return im_fail(err, IM_CANCELLED, "machine %s: waiting for power-off was cancelled",
                           name);
        if (im_mono_ms() >= deadline)
            return im_fail(err, IM_TIMEOUT, "machine %s did not power off within %lld s", name,
                           (long long) (timeout_ms + 999) / 1000);
        im_sleep_ms(100);
    }
}

bool virt_wait_off(struct virt *virt, const char *name, int64_t timeout_ms,
                   const volatile bool *cancel, struct im_err *err) {
    unsigned call = atomic_fetch_add(&virt->calls, 1) + 1;

    return name_ok(name, err) && !fault_due(virt, call, false, err) &&
           wait_off(virt->driver, virt->ops, name, timeout_ms, cancel, err) &&
           !fault_due(virt, call, true, err);
}

bool virt_list(struct virt *virt, struct virt_listed **ret_list, size_t *ret_count,
               struct im_err *err) {
    CALL(virt, list, ret_list, ret_count);
}

bool virt_info(struct virt *virt, const char *name, struct virt_info *ret_info,
               struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, info, name, ret_info);
}

bool virt_switch_disks(struct virt *virt, const char *name, const struct virt_switch *switches,
                       size_t count, struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!plain_name_ok(switches[i].serial, 64) || im_str_empty(switches[i].path) ||
            switches[i].path[0] != '/')
            return im_fail(err, IM_INTERNAL,
                           "switching a disk needs its serial and an absolute path");
    CALL(virt, switch_disks, name, switches, count);
}

bool virt_has_file(struct virt *virt, const char *name, const char *path, bool *ret_has,
                   struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, has_file, name, path, ret_has);
}

static bool disk_named(const char *name, const char *serial, struct im_err *err) {
    return name_ok(name, err) &&
           (plain_name_ok(serial, 64) || im_fail(err, IM_INTERNAL, "a disk is told by its serial"));
}

bool virt_disk_chain(struct virt *virt, const char *name, const char *serial,
                     struct virt_chain *ret_chain, struct im_err *err) {
    if (!disk_named(name, serial, err))
        return false;
    CALL(virt, disk_chain, name, serial, ret_chain);
}

void virt_chain_done(struct virt_chain *chain) { im_strings_done(&chain->paths); }

bool virt_pull_begin(struct virt *virt, const char *name, const char *serial, const char *base,
                     uint64_t rate_bytes, struct im_err *err) {
    if (!disk_named(name, serial, err))
        return false;
    if (im_str_empty(base) || base[0] != '/')
        return im_fail(err, IM_INTERNAL, "what a disk is to stand on needs an absolute path");
    CALL(virt, pull_begin, name, serial, base, rate_bytes);
}

bool virt_pull_end(struct virt *virt, const char *name, const char *serial, struct im_err *err) {
    if (!disk_named(name, serial, err))
        return false;
    CALL(virt, pull_end, name, serial);
}

bool virt_disk_settle(struct virt *virt, const char *name, const char *serial, const char *backing,
                      struct im_err *err) {
    if (!disk_named(name, serial, err))
        return false;
    if (im_str_empty(backing))
        return im_fail(err, IM_INTERNAL, "a head without parent needs no name for it");
    CALL(virt, disk_settle, name, serial, backing);
}

bool virt_attach_disk(struct virt *virt, const char *name, const struct virt_disk *disk,
                      struct im_err *err) {
    if (!name_ok(name, err) || !disk_ok(disk, err))
        return false;
    if (im_str_empty(disk->serial))
        return im_fail(err, IM_INTERNAL, "a disk that is plugged in needs a serial");
    CALL(virt, attach_disk, name, disk);
}

bool virt_detach_disk(struct virt *virt, const char *name, const char *serial, int64_t timeout_ms,
                      const volatile bool *cancel, struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, detach_disk, name, serial, timeout_ms, cancel);
}

bool virt_resize_disk(struct virt *virt, const char *name, const char *serial, uint64_t size_bytes,
                      struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, resize_disk, name, serial, size_bytes);
}

bool virt_pause(struct virt *virt, const char *name, struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, pause, name);
}

bool virt_resume(struct virt *virt, const char *name, struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, resume, name);
}

bool virt_disk_devices(struct virt *virt, const char *name, struct virt_device **ret_devices,
                       size_t *ret_count, struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, disk_devices, name, ret_devices, ret_count);
}

bool virt_fs_freeze(struct virt *virt, const char *name, int64_t timeout_ms, bool *ret_frozen,
                    struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, fs_freeze, name, timeout_ms, ret_frozen);
}

bool virt_fs_thaw(struct virt *virt, const char *name, struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, fs_thaw, name);
}

bool virt_fs_hooked(struct virt *virt, const char *name, int64_t timeout_ms, bool *ret_hooked,
                    struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, fs_hooked, name, timeout_ms, ret_hooked);
}

bool virt_set_password(struct virt *virt, const char *name, const char *user, enum virt_secret kind,
                       const char *secret, struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, set_password, name, user, kind, secret);
}

bool virt_authorized_keys(struct virt *virt, const char *name, const char *user,
                          const char *const keys[], size_t count, bool remove, struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, authorized_keys, name, user, keys, count, remove);
}

char *virt_log_path(const char *state_dir, const char *name) {
    return im_printf("%s/console/%s.log", state_dir, name);
}

char *virt_firmware_path(const char *state_dir, const char *name) {
    return im_printf("%s/console/%s.firmware.log", state_dir, name);
}

char *virt_nvram_path(const char *state_dir, const char *name) {
    return im_printf("%s/nvram/%s.fd", state_dir, name);
}

char *virt_console_log_path(struct virt *virt, const char *name) {
    return virt_log_path(virt->state_dir, im_id_valid(name) ? name : "-");
}

char *virt_firmware_log_path(struct virt *virt, const char *name) {
    return virt_firmware_path(virt->state_dir, im_id_valid(name) ? name : "-");
}

bool virt_console_open(struct virt *virt, const char *name, int *ret_fd, struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, console_open, name, ret_fd);
}

bool virt_screenshot(struct virt *virt, const char *name, char **ret_bytes, size_t *ret_len,
                     struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, screenshot, name, ret_bytes, ret_len);
}

bool virt_screen_text(struct virt *virt, const char *name, char **ret_text, struct im_err *err) {
    if (!name_ok(name, err))
        return false;
    CALL(virt, screen_text, name, ret_text);
}

void virt_forget(struct virt *virt, const char *name) {
    static char *(*const paths[])(const char *state_dir, const char *name) = {
        virt_log_path, virt_firmware_path, virt_nvram_path};

    for (size_t i = 0; im_id_valid(name) && i < sizeof(paths) / sizeof(paths[0]); i++) {
        IM_AUTO(free_auto) char *path = paths[i](virt->state_dir, name);

        unlink(path);
    }
}

bool virt_stats(struct virt *virt, struct virt_stats **ret_stats, size_t *ret_count,
                struct im_err *err) {
    CALL(virt, stats, ret_stats, ret_count);
}

void virt_stats_free(struct virt_stats *stats, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(stats[i].disks);
        free(stats[i].nics);
    }
    free(stats);
}

void virt_fault_set(struct virt *virt, unsigned n, bool after) {
    virt->fault_after = after;
    virt->fault_at = n == 0 ? 0 : virt->calls + n;
}

unsigned virt_fault_calls(const struct virt *virt) { return virt->calls; }
