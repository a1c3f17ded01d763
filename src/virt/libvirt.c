/* SPDX-License-Identifier: Apache-2.0 */
/* Machines through libvirt: start, stop, state, disks. One code path for a daemon, an embedded
 * driver and libvirt's own test driver. */
#include "libvirt-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libvirt/virterror.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

enum { SCREENSHOT_MAX = 64 << 20, PORT_TRIES = 8 };

static bool lv_host(struct virt_driver *driver, struct virt_host *ret_host, struct im_err *err) {
    struct virt_host host = {0};
    const char *accel;
    IM_AUTO(virConnectClose_auto) virConnectPtr conn = lv_connection(driver, err);

    if (conn == NULL)
        return false;
    accel = lv_accel(driver, conn, err);
    if (accel == NULL)
        return false;
    snprintf(host.accel, sizeof(host.accel), "%s", accel);
    snprintf(host.accel_reason, sizeof(host.accel_reason), "%s", driver->accel_reason);
    if (strstr(driver->uri, ":///") != NULL) {
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);

        host.cpus = cpus > 0 ? (unsigned) cpus : 1;
        if (gethostname(host.name, sizeof(host.name) - 1) < 0 ||
            !virt_meminfo(&host.memory_bytes, &host.memory_free_bytes, err))
            return false;
    } else {
        virNodeInfo node;
        IM_AUTO(free_auto) char *name = virConnectGetHostname(conn);

        if (virNodeGetInfo(conn, &node) < 0)
            return lv_fail(err, "%s", driver->uri);
        host.cpus = node.cpus;
        host.memory_bytes = (uint64_t) node.memory << 10;
        host.memory_free_bytes = virNodeGetFreeMemory(conn);
        snprintf(host.name, sizeof(host.name), "%s", name ? name : "");
    }
    *ret_host = host;
    return true;
}

bool lv_is_ours(struct virt_driver *driver, virDomainPtr domain) {
    IM_AUTO(free_auto)
    char *mark = virDomainGetMetadata(domain, VIR_DOMAIN_METADATA_ELEMENT, VIRT_MARK_URI, 0);
    IM_AUTO(free_auto) char *owner = NULL;
    const char *at = mark ? strstr(mark, "owner='") : NULL;

    if (at == NULL)
        at = mark ? strstr(mark, "owner=\"") : NULL;
    if (at == NULL)
        return false;
    owner = im_strndup(at + 7, strcspn(at + 7, "'\""));
    return strcmp(owner, driver->state_dir) == 0;
}

/* libvirt had the name: if it runs and is ours, the start was done before, and that is success; if
 * it is off, the definition is a left-over that goes. False without an error: start once more. */
static bool lv_existing(struct virt_driver *driver, virConnectPtr conn, const char *name,
                        bool *ret_running, struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = virDomainLookupByName(conn, name);

    *ret_running = false;
    if (domain == NULL)
        return true;
    if (virDomainIsActive(domain) == 1) {
        if (!lv_is_ours(driver, domain))
            return im_fail(err, IM_EXISTS, "libvirt runs a machine of that name that is not ours");
        *ret_running = true;
        return true;
    }
    if (virDomainUndefineFlags(domain, VIR_DOMAIN_UNDEFINE_MANAGED_SAVE |
                                           VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |
                                           VIR_DOMAIN_UNDEFINE_KEEP_NVRAM) < 0 &&
        virDomainUndefine(domain) < 0)
        return lv_fail(err, "cannot drop its old definition");
    return true;
}

/* Transient: defined and started in one call. Such a machine survives the end of this process and
 * of the daemon like any other (libvirt keeps its state beside QEMU's), and nothing of it is left
 * when it is off, whoever switched it off and whether or not we were there to see it: the record of
 * what should exist is ours, not libvirt's. */
static bool run_start(struct lv_call *call, struct im_err *err) {
    virDomainPtr domain = virDomainCreateXML(call->conn, call->text, VIR_DOMAIN_NONE);

    if (domain == NULL) {
        int code = virGetLastErrorCode();

        call->number = code == VIR_ERR_OPERATION_FAILED || code == VIR_ERR_OPERATION_INVALID ||
                       code == VIR_ERR_DOM_EXIST;
        return lv_fail(err, "cannot start it");
    }
    if (lv_call_abandoned(call))
        virDomainDestroy(domain);
    virDomainFree(domain);
    return true;
}

/* libvirt tries a port for VNC before it starts QEMU; in between somebody else may take it, such as
 * another libvirt on this host. */
static bool port_was_taken(const struct im_err *err) {
    return strstr(err->text, "-vnc ") != NULL &&
           strstr(err->text, "find an available port") != NULL;
}

static bool start_with(struct virt_driver *driver, const char *name, const char *xml,
                       struct im_err *err) {
    for (int attempt = 0;; attempt++) {
        IM_AUTO(lv_call_unref_auto) struct lv_call *call = lv_call_new(run_start);
        IM_AUTO(virConnectClose_auto) virConnectPtr conn = lv_connection(driver, err);
        struct im_err ignored = {0};
        bool running = false;

        if (conn == NULL)
            return false;
        virConnectRef(conn);
        call->conn = conn;
        call->text = im_strdup(xml);
        if (lv_call_run(call, LV_START_MS, err))
            return true;
        if (port_was_taken(err) && attempt < PORT_TRIES) {
            *err = (struct im_err){0};
            continue;
        }
        if (err->code == IM_TIMEOUT || attempt > 0)
            return false;
        if (virConnectIsAlive(conn) != 1)
            continue; /* a lost connection shows only now */
        if (call->number == 0)
            return false;
        if (!lv_existing(driver, conn, name, &running, err))
            return false;
        if (running)
            return true;
        (void) ignored;
    }
}

/* UEFI firmware as Debian's package lays it out. */
static bool find_firmware(struct virt_xml_options *options, struct im_err *err) {
    static const char loader[] = "/usr/share/OVMF/OVMF_CODE_4M.fd";
    static const char variables[] = "/usr/share/OVMF/OVMF_VARS_4M.fd";

    if (access(loader, R_OK) < 0 || access(variables, R_OK) < 0)
        return im_fail(err, IM_UNSUPPORTED,
                       "UEFI firmware is not installed on this host; install the package ovmf");
    options->loader = loader;
    options->nvram_template = variables;
    return true;
}

/* The log is made by us before QEMU's start, so that we may read it whoever runs QEMU. */
static bool prepare_log(const char *path, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

    if (fd < 0)
        return im_fail_sys(err, errno, "cannot create the console log %s", path);
    return virt_log_trim(path, err);
}

static bool lv_start(struct virt_driver *driver, const struct virt_machine *machine,
                     struct im_err *err) {
    IM_AUTO(free_auto) char *log = virt_log_path(driver->state_dir, machine->name);
    IM_AUTO(free_auto) char *firmware = virt_firmware_path(driver->state_dir, machine->name);
    IM_AUTO(free_auto) char *nvram = virt_nvram_path(driver->state_dir, machine->name);
    IM_AUTO(free_auto) char *xml = NULL;
    struct virt_xml_options options = {.tb_cache_mib = driver->tb_cache_mib,
                                       .emulator = driver->emulator,
                                       .owner = driver->state_dir,
                                       .log_path = log,
                                       .firmware_log_path = machine->firmware_log ? firmware : NULL,
                                       .nvram = nvram};
    IM_AUTO(virConnectClose_auto) virConnectPtr conn = lv_connection(driver, err);
    const char *accel = conn ? lv_accel(driver, conn, err) : NULL;

    if (accel == NULL)
        return false;
    lv_embed_kill_late(driver, machine->name);
    options.type = driver->test ? "test" : strcmp(accel, "kvm") == 0 ? "kvm" : "qemu";
    if (strcmp(machine->firmware, "uefi") == 0 && !driver->test && !find_firmware(&options, err))
        return false;
    if (!prepare_log(log, err) || (machine->firmware_log && !prepare_log(firmware, err)) ||
        !virt_domain_xml(machine, &options, &xml, err))
        return false;
    return start_with(driver, machine->name, xml, err);
}

static bool run_shutdown(struct lv_call *call, struct im_err *err) {
    IM_AUTO(free_auto) char *xml = virDomainGetXMLDesc(call->domain, 0);

    if (xml != NULL && virt_xml_agent_connected(xml)) {
        virDomainAgentSetResponseTimeout(call->domain, 5, 0);
        if (virDomainShutdownFlags(call->domain, VIR_DOMAIN_SHUTDOWN_GUEST_AGENT) == 0)
            return true;
    }
    return virDomainShutdown(call->domain) == 0 || lv_fail(err, "cannot ask it to power off");
}

/* The agent may take seconds to say that it heard; if it never does, the power button is pressed
 * from the call's own thread, while our caller is gone already. */
static bool lv_shutdown(struct virt_driver *driver, const char *name, struct im_err *err) {
    struct im_err failed = {0};

    if (!lv_call_domain(driver, name, run_shutdown, NULL, NULL, 0, LV_INFO_MS, NULL, &failed) &&
        failed.code != IM_TIMEOUT) {
        *err = failed;
        return false;
    }
    return true;
}

static bool run_reboot(struct lv_call *call, struct im_err *err) {
    return virDomainReboot(call->domain, 0) == 0 || lv_fail(err, "cannot ask it to reboot");
}

static bool lv_reboot(struct virt_driver *driver, const char *name, struct im_err *err) {
    return lv_call_domain(driver, name, run_reboot, NULL, NULL, 0, LV_CALL_MS, NULL, err);
}

static bool run_reset(struct lv_call *call, struct im_err *err) {
    return virDomainReset(call->domain, 0) == 0 || lv_fail(err, "cannot reset it");
}

static bool lv_reset(struct virt_driver *driver, const char *name, struct im_err *err) {
    return lv_call_domain(driver, name, run_reset, NULL, NULL, 0, LV_CALL_MS, NULL, err);
}

static bool run_pause(struct lv_call *call, struct im_err *err) {
    return virDomainSuspend(call->domain) == 0 || lv_fail(err, "cannot pause it");
}

static bool run_resume(struct lv_call *call, struct im_err *err) {
    return virDomainResume(call->domain) == 0 || lv_fail(err, "cannot resume it");
}

static bool lv_pause(struct virt_driver *driver, const char *name, struct im_err *err) {
    return lv_call_domain(driver, name, run_pause, NULL, NULL, 0, LV_CALL_MS, NULL, err);
}

/* libvirt refuses to resume what runs. */
static bool lv_resume(struct virt_driver *driver, const char *name, struct im_err *err) {
    enum virt_state state = VIRT_PAUSED;

    return virt_libvirt_ops.state(driver, name, &state, err) &&
           (state == VIRT_RUNNING ||
            lv_call_domain(driver, name, run_resume, NULL, NULL, 0, LV_CALL_MS, NULL, err));
}

static bool run_destroy(struct lv_call *call, struct im_err *err) {
    if (virDomainDestroy(call->domain) == 0)
        return true;
    return lv_fail(err, "cannot power it off");
}

/* It may vanish at any moment of this; that is success. */
static bool lv_destroy(struct virt_driver *driver, const char *name, struct im_err *err) {
    IM_AUTO(virConnectClose_auto) virConnectPtr conn = NULL;
    struct im_err failed = {0};
    bool running;

    if (!lv_call_domain(driver, name, run_destroy, NULL, NULL, 0, LV_CALL_MS, NULL, &failed) &&
        failed.code != IM_NOT_FOUND) {
        enum virt_state state;

        if (!virt_libvirt_ops.state(driver, name, &state, err))
            return false;
        if (state != VIRT_OFF && state != VIRT_CRASHED) {
            *err = failed;
            return false;
        }
    }
    lv_embed_kill_late(driver, name);
    conn = lv_connection(driver, err);
    return conn != NULL && lv_existing(driver, conn, name, &running, err);
}

static enum virt_state state_from(int state) {
    switch (state) {
    case VIR_DOMAIN_PAUSED:
    case VIR_DOMAIN_PMSUSPENDED:
        return VIRT_PAUSED;
    case VIR_DOMAIN_SHUTOFF:
        return VIRT_OFF;
    case VIR_DOMAIN_CRASHED:
        return VIRT_CRASHED;
    default: /* shutting down is still running */
        return VIRT_RUNNING;
    }
}

static bool lv_state(struct virt_driver *driver, const char *name, enum virt_state *ret_state,
                     struct im_err *err) {
    struct im_err failed = {0};
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = lv_domain(driver, name, &failed);
    int state, reason;

    if (domain == NULL && failed.code != IM_NOT_FOUND) {
        *err = failed;
        return false;
    }
    if (domain == NULL) {
        *ret_state = VIRT_OFF;
        return true;
    }
    if (virDomainGetState(domain, &state, &reason, 0) < 0) {
        if (virGetLastErrorCode() != VIR_ERR_NO_DOMAIN)
            return lv_fail(err, "machine %s", name);
        state = VIR_DOMAIN_SHUTOFF;
    }
    *ret_state = state_from(state);
    return true;
}

static bool lv_list(struct virt_driver *driver, struct virt_listed **ret_list, size_t *ret_count,
                    struct im_err *err) {
    IM_AUTO(virConnectClose_auto) virConnectPtr conn = lv_connection(driver, err);
    IM_AUTO(free_auto) struct virt_listed *list = NULL;
    virDomainPtr *domains = NULL;
    size_t count = 0;
    int found;

    if (conn == NULL)
        return false;
    found = virConnectListAllDomains(conn, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    if (found < 0)
        return lv_fail(err, "cannot list machines at %s", driver->uri);
    list = im_alloc(((size_t) found + 1) * sizeof(*list));
    for (int i = 0; i < found; i++) {
        int state, reason;

        /* One that ends while we look is left out. */
        if (lv_is_ours(driver, domains[i]) &&
            virDomainGetState(domains[i], &state, &reason, 0) == 0) {
            snprintf(list[count].name, sizeof(list->name), "%s", virDomainGetName(domains[i]));
            list[count++].state = state_from(state);
        }
        virDomainFree(domains[i]);
    }
    free(domains);
    *ret_list = im_steal(&list);
    *ret_count = count;
    return true;
}

static int gather(virStreamPtr stream, const char *bytes, size_t len, void *opaque) {
    struct im_str *image = opaque;

    (void) stream;
    if (image->len + len > SCREENSHOT_MAX)
        return -1;
    im_str_add_bytes(image, bytes, len);
    return (int) len;
}

static bool run_screenshot(struct lv_call *call, struct im_err *err) {
    IM_AUTO(virStreamFree_auto)
    virStreamPtr stream = virStreamNew(virDomainGetConnect(call->domain), 0);
    IM_AUTO(free_auto) char *type = NULL;
    IM_AUTO(im_str_done) struct im_str image = {0};

    if (stream == NULL)
        return lv_fail(err, "cannot take a screenshot");
    type = virDomainScreenshot(call->domain, stream, 0, 0);
    if (type == NULL || virStreamRecvAll(stream, gather, &image) < 0)
        return lv_fail(err, "cannot take a screenshot");
    virStreamFinish(stream);
    if (image.len < 8 || memcmp(image.data, "\x89PNG", 4) != 0)
        return im_fail(err, IM_UNSUPPORTED, "the screen comes as %s, not as PNG", type);
    call->out_len = image.len;
    call->out = im_str_take(&image);
    return true;
}

static bool lv_screenshot(struct virt_driver *driver, const char *name, char **ret_bytes,
                          size_t *ret_len, struct im_err *err) {
    IM_AUTO(lv_call_unref_auto) struct lv_call *call = NULL;

    if (!lv_call_domain(driver, name, run_screenshot, NULL, NULL, 0, LV_CALL_MS, &call, err))
        return false;
    *ret_len = call->out_len;
    *ret_bytes = im_steal(&call->out);
    return true;
}

const struct virt_ops virt_libvirt_ops = {
    .scheme = "",
    .open = lv_open,
    .close = lv_close,
    .host = lv_host,
    .start = lv_start,
    .shutdown = lv_shutdown,
    .reboot = lv_reboot,
    .reset = lv_reset,
    .destroy = lv_destroy,
    .state = lv_state,
    .list = lv_list,
    .info = lv_info,
    .switch_disks = lv_switch_disks,
    .has_file = lv_has_file,
    .disk_chain = lv_disk_chain,
    .pull_begin = lv_pull_begin,
    .pull_end = lv_pull_end,
    .disk_settle = lv_disk_settle,
    .attach_disk = lv_attach_disk,
    .detach_disk = lv_detach_disk,
    .resize_disk = lv_resize_disk,
    .pause = lv_pause,
    .resume = lv_resume,
    .disk_devices = lv_disk_devices,
    .fs_freeze = lv_fs_freeze,
    .fs_thaw = lv_fs_thaw,
    .fs_hooked = lv_fs_hooked,
    .set_password = lv_set_password,
    .authorized_keys = lv_authorized_keys,
    .console_open = lv_console_open,
    .screenshot = lv_screenshot,
    .screen_text = lv_screen_text,
    .stats = lv_stats,
};
