/* SPDX-License-Identifier: Apache-2.0 */
/* Machines over libvirt's C API. Domains are transient: nothing is left defined when a machine is
 * off, and one that runs is found again by its name after any restart, as QEMU and libvirt's own
 * state outlive us. */
#include <errno.h>
#include <fcntl.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "virt-private.h"

enum { AGENT_S = 1, CONSOLE_LOG_MAX = 1 << 20, POLL_MS = 100 };
IM_DEFINE_AUTO(virDomainPtr, virDomainFree)

struct virt {
    char *uri, *console;
    bool kvm;
    int tb_cache_mib;
    virt_event *event;
    void *arg;
    pthread_mutex_t lock; /* guards link */
    virConnectPtr link;
    unsigned fault_at, calls;
    bool fault_after;
};

/* libvirt's last error as one of ours. */
static bool virt_fail(const char *name, const char *what, struct im_err *err) {
    virErrorPtr last = virGetLastError();
    int code = last ? last->code : VIR_ERR_INTERNAL_ERROR;
    enum im_code ours = code == VIR_ERR_NO_DOMAIN ? IM_NOT_FOUND
                        : code == VIR_ERR_NO_SUPPORT || code == VIR_ERR_AGENT_UNRESPONSIVE ||
                                code == VIR_ERR_ARGUMENT_UNSUPPORTED
                            ? IM_UNSUPPORTED
                        : code == VIR_ERR_OPERATION_TIMEOUT ? IM_TIMEOUT
                                                            : IM_INTERNAL;

    return im_fail(err, ours, "machine %s: cannot %s: %s", name, what,
                   last && last->message ? last->message : "libvirt gives no reason");
}

static void quiet(void *arg, virErrorPtr error) { (void) arg, (void) error; }

static void *events_main(void *arg) {
    (void) arg;
    for (;;)
        if (virEventRunDefaultImpl() < 0)
            im_sleep_ms(POLL_MS);
    return NULL;
}

static void events_begin(void) {
    pthread_t thread;

    virSetErrorFunc(NULL, quiet);
    if (virEventRegisterDefaultImpl() == 0 && pthread_create(&thread, NULL, events_main, NULL) == 0)
        pthread_detach(thread);
}

static int on_event(virConnectPtr link, virDomainPtr domain, int event, int detail, void *arg) {
    struct virt *virt = arg;

    (void) link, (void) detail;
    if (virt->event != NULL &&
        (event == VIR_DOMAIN_EVENT_STOPPED || event == VIR_DOMAIN_EVENT_CRASHED))
        virt->event(virt->arg, virDomainGetName(domain),
                    event == VIR_DOMAIN_EVENT_STOPPED ? VIRT_OFF : VIRT_CRASHED);
    return 0;
}

/* Borrowed; opened anew when it is lost. NULL with IM_BUSY when the hypervisor is not to be had. */
static virConnectPtr link_of(struct virt *virt, struct im_err *err) {
    virConnectPtr link;

    pthread_mutex_lock(&virt->lock);
    if (virt->link != NULL && virConnectIsAlive(virt->link) != 1) {
        virConnectClose(virt->link);
        virt->link = NULL;
    }
    if (virt->link == NULL) {
        virt->link = virConnectOpen(virt->uri);
        if (virt->link != NULL)
            virConnectDomainEventRegisterAny(virt->link, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                             VIR_DOMAIN_EVENT_CALLBACK(on_event), virt, NULL);
    }
    link = virt->link;
    pthread_mutex_unlock(&virt->lock);
    if (link == NULL)
        im_fail(err, IM_BUSY, "libvirt at %s does not answer (%s); is libvirtd running?", virt->uri,
                virGetLastErrorMessage());
    return link;
}

/* qemu:///embed?root=DIR reads DIR/etc/qemu.conf: without one it wants virtlogd and fails. */
static bool embed_prepare(const char *uri, const char *run_as, struct im_err *err) {
    static const char prefix[] = "qemu:///embed?root=";
    IM_AUTO(free_auto) char *folder = NULL;
    IM_AUTO(free_auto) char *path = NULL;
    IM_AUTO(free_auto) char *text = NULL;
    const char *user = im_str_empty(run_as) ? "root" : run_as;

    if (!im_starts_with(uri, prefix))
        return true;
    folder = im_printf("%s/etc", uri + strlen(prefix));
    path = im_printf("%s/qemu.conf", folder);
    if (access(path, F_OK) == 0)
        return true;
    text = im_printf("stdio_handler = \"file\"\nsecurity_driver = \"none\"\nnamespaces = []\n"
                     "remember_owner = 0\nuser = \"%s\"\ngroup = \"%s\"\n",
                     user, user);
    if (geteuid() != 0)
        im_replace(&text,
                   "stdio_handler = \"file\"\nsecurity_driver = \"none\"\nnamespaces = []\n");
    return im_make_dirs(folder, 0755, err) && im_write_file(path, text, strlen(text), 0644, err);
}

struct virt *virt_open(const struct virt_config *config, virt_event *event, void *arg,
                       struct im_err *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct virt *virt = im_alloc(sizeof(*virt));

    pthread_once(&once, events_begin);
    virt->uri = im_strdup(config->uri);
    virt->console = im_printf("%s/console", config->state_dir);
    virt->kvm = im_str_equal(config->accel, "kvm") ||
                (!im_str_equal(config->accel, "tcg") && access("/dev/kvm", R_OK | W_OK) == 0);
    virt->tb_cache_mib = config->tb_cache_mib > 0 ? config->tb_cache_mib : 128;
    virt->event = event;
    virt->arg = arg;
    pthread_mutex_init(&virt->lock, NULL);
    if (!embed_prepare(virt->uri, config->run_as, err) || !im_make_dirs(virt->console, 0755, err) ||
        link_of(virt, err) == NULL) {
        virt_close(virt);
        return NULL;
    }
    if (geteuid() == 0 && chmod(virt->console, 0777 | S_ISVTX) < 0)
        im_warn("virt", "cannot open %s to the machines", virt->console);
    return virt;
}

void virt_close(struct virt *virt) {
    if (virt == NULL)
        return;
    if (virt->link != NULL)
        virConnectClose(virt->link);
    pthread_mutex_destroy(&virt->lock);
    free(virt->uri);
    free(virt->console);
    free(virt);
}

/* --- Faults for tests ------------------------------------------------------------------------- */

void virt_fault_set(struct virt *virt, unsigned n, bool after) {
    virt->fault_at = n;
    virt->fault_after = after;
    virt->calls = 0;
}

unsigned virt_fault_calls(const struct virt *virt) { return virt->calls; }

static bool faultless(struct virt *virt, bool after, struct im_err *err) {
    if (!after)
        virt->calls++;
    return virt->fault_at == 0 || virt->calls != virt->fault_at || virt->fault_after != after ||
           im_fail(err, IM_INTERNAL, "call %u of the hypervisor fails on purpose", virt->calls);
}

/* --- Host, states -------------------------------------------------------------------------------
 */

static uint64_t meminfo(const char *text, const char *key) {
    const char *line = strstr(text, key);

    return line ? strtoull(line + strlen(key), NULL, 10) << 10 : 0;
}

bool virt_host(struct virt *virt, struct virt_host *ret_host, struct im_err *err) {
    struct virt_host host = {0};
    IM_AUTO(free_auto) char *text = NULL;

    if (!im_read_file("/proc/meminfo", 1 << 16, &text, NULL, err))
        return false;
    host.memory_bytes = meminfo(text, "MemTotal:");
    host.memory_free_bytes = meminfo(text, "MemAvailable:");
    host.cpus = (unsigned) sysconf(_SC_NPROCESSORS_ONLN);
    strcpy(host.accel, virt->kvm ? "kvm" : "tcg");
    if (gethostname(host.name, sizeof(host.name) - 1) < 0)
        strcpy(host.name, "localhost");
    *ret_host = host;
    return true;
}

/* NULL with IM_NOT_FOUND when there is no such machine. */
static virDomainPtr domain_of(struct virt *virt, const char *name, struct im_err *err) {
    virConnectPtr link = link_of(virt, err);
    virDomainPtr domain = link ? virDomainLookupByName(link, name) : NULL;

    if (link != NULL && domain == NULL)
        virt_fail(name, "find it", err);
    return domain;
}

static enum virt_state state_word(int state) {
    switch (state) {
    case VIR_DOMAIN_RUNNING:
    case VIR_DOMAIN_BLOCKED:
    case VIR_DOMAIN_SHUTDOWN:
        return VIRT_RUNNING;
    case VIR_DOMAIN_PAUSED:
    case VIR_DOMAIN_PMSUSPENDED:
        return VIRT_PAUSED;
    case VIR_DOMAIN_CRASHED:
        return VIRT_CRASHED;
    default:
        return VIRT_OFF;
    }
}

bool virt_state(struct virt *virt, const char *name, enum virt_state *ret_state,
                struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = domain_of(virt, name, err);
    int state = VIR_DOMAIN_NOSTATE;

    if (domain == NULL && err->code != IM_NOT_FOUND)
        return false;
    if (domain != NULL && virDomainGetState(domain, &state, NULL, 0) < 0)
        state = VIR_DOMAIN_SHUTOFF;
    *ret_state = domain == NULL ? VIRT_OFF : state_word(state);
    *err = (struct im_err){0};
    return true;
}

bool virt_list(struct virt *virt, struct virt_listed **ret_list, size_t *ret_count,
               struct im_err *err) {
    virConnectPtr link = link_of(virt, err);
    virDomainPtr *domains = NULL;
    struct virt_listed *list;
    int count;

    if (link == NULL)
        return false;
    count = virConnectListAllDomains(link, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);
    if (count < 0)
        return virt_fail("list", "list machines", err);
    list = im_alloc((size_t) count * sizeof(*list));
    for (int i = 0; i < count; i++) {
        int state = VIR_DOMAIN_NOSTATE;

        snprintf(list[i].name, sizeof(list[i].name), "%s", virDomainGetName(domains[i]));
        if (virDomainGetState(domains[i], &state, NULL, 0) == 0)
            list[i].state = state_word(state);
        virDomainFree(domains[i]);
    }
    free(domains);
    *ret_list = list;
    *ret_count = (size_t) count;
    return true;
}

/* --- Power
 * ---------------------------------------------------------------------------------------- */

char *virt_console_log_path(struct virt *virt, const char *name) {
    return im_printf("%s/%s.log", virt->console, name);
}

/* Drops the older half before a start, while nobody has the log open. */
static void trim_log(struct virt *virt, const char *name) {
    IM_AUTO(free_auto) char *path = virt_console_log_path(virt, name);
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err err = {0};
    struct stat st;
    size_t len = 0;

    if (stat(path, &st) == 0 && st.st_size > CONSOLE_LOG_MAX &&
        im_read_file(path, (size_t) st.st_size + CONSOLE_LOG_MAX, &text, &len, &err) &&
        !im_write_file(path, text + len - CONSOLE_LOG_MAX / 2, CONSOLE_LOG_MAX / 2, 0600, &err))
        im_warn("virt", "%s", err.text);
}

bool virt_start(struct virt *virt, const struct virt_machine *machine, struct im_err *err) {
    virConnectPtr link = link_of(virt, err);
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = NULL;
    IM_AUTO(free_auto) char *xml = NULL;

    if (link == NULL || !faultless(virt, false, err))
        return false;
    domain = virDomainLookupByName(link, machine->name);
    if (domain != NULL && virDomainIsActive(domain) == 1)
        return faultless(virt, true, err);
    trim_log(virt, machine->name);
    xml = domain_xml(machine, virt->kvm, virt->tb_cache_mib, virt->console);
    if (domain != NULL)
        virDomainFree(im_steal(&domain));
    domain = virDomainCreateXML(link, xml, 0);
    return domain != NULL ? faultless(virt, true, err) : virt_fail(machine->name, "start it", err);
}

bool virt_shutdown(struct virt *virt, const char *name, struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = domain_of(virt, name, err);

    if (domain == NULL || !faultless(virt, false, err))
        return false;
    return virDomainShutdownFlags(domain, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN) == 0
               ? faultless(virt, true, err)
               : virt_fail(name, "shut it down", err);
}

bool virt_wait_off(struct virt *virt, const char *name, int64_t timeout_ms,
                   const volatile bool *cancel, struct im_err *err) {
    int64_t deadline = im_mono_ms() + timeout_ms;

    for (;;) {
        enum virt_state state;

        if (!virt_state(virt, name, &state, err))
            return false;
        if (state == VIRT_OFF || state == VIRT_CRASHED)
            return true;
        if (cancel != NULL && *cancel)
            return im_fail(err, IM_CANCELLED, "machine %s: the wait for its end was cancelled",
                           name);
        if (im_mono_ms() >= deadline)
            return im_fail(err, IM_TIMEOUT, "machine %s still runs after %lld s", name,
                           (long long) timeout_ms / 1000);
        im_sleep_ms(POLL_MS);
    }
}

bool virt_reboot(struct virt *virt, const char *name, struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = domain_of(virt, name, err);

    return domain != NULL && (virDomainReboot(domain, 0) == 0 || virt_fail(name, "reboot it", err));
}

bool virt_reset(struct virt *virt, const char *name, struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = domain_of(virt, name, err);

    return domain != NULL && (virDomainReset(domain, 0) == 0 || virt_fail(name, "reset it", err));
}

bool virt_destroy(struct virt *virt, const char *name, struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = NULL;

    if (!faultless(virt, false, err))
        return false;
    domain = domain_of(virt, name, err);
    if (domain == NULL && err->code != IM_NOT_FOUND)
        return false;
    *err = (struct im_err){0};
    /* Right after a restart libvirt may still be taking the machine over and lose the race: what
     * counts is that it ends. */
    if (domain != NULL && virDomainDestroy(domain) < 0 && virDomainIsActive(domain) == 1)
        return virt_fail(name, "power it off", err);
    return faultless(virt, true, err);
}

/* --- What a machine says -------------------------------------------------------------------------
 */

/* The VNC port of the running machine, from its own XML. */
static int vnc_port(virDomainPtr domain) {
    IM_AUTO(free_auto) char *xml = virDomainGetXMLDesc(domain, 0);
    const char *port = xml ? strstr(xml, "<graphics type='vnc' port='") : NULL;

    return port ? atoi(port + strlen("<graphics type='vnc' port='")) : 0;
}

bool virt_info(struct virt *virt, const char *name, struct virt_info *ret_info,
               struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = domain_of(virt, name, err);
    struct virt_info info = {0};
    IM_AUTO(free_auto) char *hostname = NULL;

    if (domain == NULL)
        return false;
    info.vnc_port = vnc_port(domain);
    virDomainAgentSetResponseTimeout(domain, AGENT_S, 0);
    hostname = virDomainGetHostname(domain, VIR_DOMAIN_GET_HOSTNAME_AGENT);
    info.agent_connected = hostname != NULL;
    if (hostname != NULL)
        snprintf(info.hostname, sizeof(info.hostname), "%s", hostname);
    *ret_info = info;
    return true;
}

bool virt_fs_freeze(struct virt *virt, const char *name, int64_t timeout_ms, bool *ret_frozen,
                    struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = domain_of(virt, name, err);

    *ret_frozen = false;
    if (domain == NULL)
        return false;
    virDomainAgentSetResponseTimeout(domain, (int) ((timeout_ms + 999) / 1000), 0);
    *ret_frozen = virDomainFSFreeze(domain, NULL, 0, 0) >= 0;
    return *ret_frozen || virt_fail(name, "freeze its file systems", err);
}

bool virt_fs_thaw(struct virt *virt, const char *name, struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = domain_of(virt, name, err);

    return domain != NULL && (virDomainFSThaw(domain, NULL, 0, 0) >= 0 ||
                              virt_fail(name, "thaw its file systems", err));
}

bool virt_set_password(struct virt *virt, const char *name, const char *user, const char *password,
                       struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = domain_of(virt, name, err);

    return domain != NULL && (virDomainSetUserPassword(domain, user, password, 0) == 0 ||
                              virt_fail(name, "set a password", err));
}

bool virt_authorized_keys(struct virt *virt, const char *name, const char *user,
                          const char *const keys[], size_t count, bool remove, struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = domain_of(virt, name, err);
    unsigned flags = remove ? VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_REMOVE
                            : VIR_DOMAIN_AUTHORIZED_SSH_KEYS_SET_APPEND;

    if (domain == NULL)
        return false;
    virDomainAgentSetResponseTimeout(domain, AGENT_S, 0);
    return virDomainAuthorizedSSHKeysSet(domain, user, (const char **) keys, (unsigned) count,
                                         flags) == 0 ||
           virt_fail(name, "change its authorized keys", err);
}

/* The target (vda …) of the disk with that serial. */
static bool disk_target(virDomainPtr domain, const char *serial, const char *path,
                        char ret_target[16], bool *ret_there) {
    IM_AUTO(free_auto) char *xml = virDomainGetXMLDesc(domain, 0);
    IM_AUTO(free_auto) char *mark = im_printf("<serial>%s</serial>", serial);
    const char *end = xml ? strstr(xml, mark) : NULL, *disk = NULL, *target, *source;

    for (const char *p = xml; end != NULL && p != NULL && p < end; p = strstr(p + 1, "<disk "))
        disk = p;
    target = disk ? strstr(disk, "<target dev='") : NULL;
    source = disk ? strstr(disk, "<source file='") : NULL;
    if (target == NULL || source == NULL)
        return false;
    sscanf(target, "<target dev='%15[^']", ret_target);
    source += strlen("<source file='");
    *ret_there = strncmp(source, path, strlen(path)) == 0 && source[strlen(path)] == '\'';
    return true;
}

bool virt_switch_disk(struct virt *virt, const char *name, const char *serial, const char *path,
                      struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = domain_of(virt, name, err);
    IM_AUTO(free_auto) char *xml = NULL;
    virDomainSnapshotPtr snapshot;
    char target[16];
    bool there = false;

    if (domain == NULL || !faultless(virt, false, err))
        return false;
    if (!disk_target(domain, serial, path, target, &there))
        return im_fail(err, IM_NOT_FOUND, "machine %s has no disk with the serial %s", name,
                       serial);
    if (there)
        return faultless(virt, true, err); /* an earlier try came so far */
    xml = im_printf("<domainsnapshot><disks><disk name='%s' snapshot='external'><driver "
                    "type='qcow2'/><source file='%s'><seclabel model='dac' relabel='no'/></source>"
                    "</disk></disks></domainsnapshot>",
                    target, path);
    snapshot = virDomainSnapshotCreateXML(
        domain, xml,
        VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC |
            VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA | VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT);
    if (snapshot == NULL)
        return virt_fail(name, "switch its disk", err);
    virDomainSnapshotFree(snapshot);
    return faultless(virt, true, err);
}

bool virt_console_open(struct virt *virt, const char *name, int *ret_fd, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (fd < 0)
        return im_fail_sys(err, errno, "machine %s: no socket for its console", name);
    if (snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s.sock", virt->console, name) >=
        (int) sizeof(address.sun_path))
        return im_fail(err, IM_UNSUPPORTED,
                       "the path of the state folder is too long for a console");
    if (connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
        return im_fail_sys(err, errno, "machine %s: its console is not to be had", name);
    *ret_fd = im_steal_fd(&fd);
    return true;
}

bool virt_screenshot(struct virt *virt, const char *name, char **ret_bytes, size_t *ret_len,
                     struct im_err *err) {
    IM_AUTO(virDomainFree_auto) virDomainPtr domain = domain_of(virt, name, err);
    IM_AUTO(im_str_done) struct im_str image = {0};
    virStreamPtr stream;
    char buffer[16384], *mime;
    int n;

    if (domain == NULL)
        return false;
    stream = virStreamNew(virDomainGetConnect(domain), 0);
    mime = stream ? virDomainScreenshot(domain, stream, 0, 0) : NULL;
    free(mime);
    n = mime ? 0 : -1;
    while (mime != NULL && (n = virStreamRecv(stream, buffer, sizeof(buffer))) > 0)
        im_str_add_bytes(&image, buffer, (size_t) n);
    if (stream != NULL) {
        if (n == 0)
            virStreamFinish(stream);
        virStreamFree(stream);
    }
    if (n < 0)
        return virt_fail(name, "take its screen", err);
    *ret_len = image.len;
    *ret_bytes = im_str_take(&image);
    return true;
}

void virt_forget(struct virt *virt, const char *name) {
    IM_AUTO(free_auto) char *log = virt_console_log_path(virt, name);
    IM_AUTO(free_auto) char *sock = im_printf("%s/%s.sock", virt->console, name);

    unlink(log);
    unlink(sock);
}
