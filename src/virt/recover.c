/* SPDX-License-Identifier: Apache-2.0 */
/* What a killed owner of an embedded driver left: machines that were about to start are taken back
 * before libvirt looks, and nobody asks for the others until libvirt has found them again. */
#include "libvirt-private.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

enum { STATUS_MAX = 16 << 20, ARGUMENTS_MAX = 1 << 20, KILL_MS = 20000, SETTLE_MS = 90000 };

/* --- Machines that were about to start ------------------------------------------------------ */

/* Before QEMU runs, libvirt (9.0) writes "paused, starting up", and its next owner waits half a
 * minute for a monitor that never comes. All that time the machine counts as active: its start
 * would look done, and every call to it would run out of time. */
static bool was_starting(const char *path) {
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err err = {0};
    const char *status, *end;

    if (!im_read_file(path, STATUS_MAX, &text, NULL, &err))
        return false;
    status = strstr(text, "<domstatus ");
    end = status ? strchr(status, '>') : NULL;
    if (end == NULL)
        return false;
    text[end - text] = '\0';
    return strstr(status, "state='paused'") != NULL &&
           strstr(status, "reason='starting up'") != NULL;
}

/* Whether the process is a QEMU with an argument that begins with one text, and one that has the
 * other in it. */
static bool is_qemu_with(const char *pid, const char *begins, const char *has) {
    IM_AUTO(free_auto) char *path = im_printf("/proc/%s/cmdline", pid);
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err gone = {0};
    bool found = false, had = false;
    size_t len = 0;

    if (!im_read_file(path, ARGUMENTS_MAX, &text, &len, &gone) ||
        strstr(text, "qemu-system-") == NULL)
        return false;
    for (size_t i = 0; i < len; i += strlen(text + i) + 1) {
        found = found || im_starts_with(text + i, begins);
        had = had || strstr(text + i, has) != NULL;
    }
    return found && had;
}

/* Kills all of those; how many there were. */
static unsigned kill_all(const char *begins, const char *has) {
    DIR *dir = opendir("/proc");
    struct dirent *entry;
    unsigned count = 0;

    while (dir != NULL && (entry = readdir(dir)) != NULL)
        if (isdigit((unsigned char) entry->d_name[0]) && is_qemu_with(entry->d_name, begins, has)) {
            kill((pid_t) atol(entry->d_name), SIGKILL);
            count++;
        }
    if (dir != NULL)
        closedir(dir);
    return count;
}

/* Whatever QEMU of that machine there is. */
static unsigned kill_qemu(const char *root, const char *name) {
    IM_AUTO(free_auto) char *guest = im_printf("guest=%s,", name);
    IM_AUTO(free_auto) char *folder = im_printf("%s/lib/qemu/domain-", root);

    return kill_all(guest, folder);
}

/* libvirt asks each QEMU there is what it can do, once per root; one that was being asked when its
 * owner was killed waits for more questions for ever. */
static void kill_asked(const char *root) {
    IM_AUTO(free_auto) char *socket = im_printf("unix:%s/lib/qemu/qmp-", root);
    unsigned count = kill_all(socket, socket);

    if (count > 0)
        im_info("virt", "%u QEMU that were only being asked what they can do: ended", count);
}

static void take_back(struct virt_driver *driver, const char *root, const char *status,
                      const char *name) {
    IM_AUTO(free_auto) char *pid_file = im_printf("%s/run/qemu/%s.pid", root, name);
    int64_t deadline = im_mono_ms() + KILL_MS;

    im_strings_add(&driver->taken_back, name);
    while (kill_qemu(root, name) > 0 && im_mono_ms() < deadline)
        im_sleep_ms(20);
    unlink(pid_file);
    if (unlink(status) < 0 && errno != ENOENT)
        im_warn("virt", "cannot remove %s: %s", status, strerror(errno));
    else
        im_info("virt", "machine %s was about to start when its owner ended: taken back", name);
}

/* A QEMU that was not yet recognised when its machine was taken back, for it had been forked but
 * had not become QEMU: it would hold the disk for ever. */
void lv_embed_kill_late(struct virt_driver *driver, const char *name) {
    IM_AUTO(free_auto) char *root = NULL;
    int64_t deadline = im_mono_ms() + KILL_MS;
    enum virt_state state;
    struct im_err err = {0};

    if (!im_strings_has(&driver->taken_back, name) ||
        !virt_libvirt_ops.state(driver, name, &state, &err) || state != VIRT_OFF)
        return; /* what libvirt knows is libvirt's to stop */
    root = lv_embed_root(driver->uri);
    while (kill_qemu(root, name) > 0 && im_mono_ms() < deadline)
        im_sleep_ms(20);
}

/* libvirt holds this lock as long as a driver is open. */
static bool in_use(const char *root) {
    IM_AUTO(free_auto) char *path = im_printf("%s/run/qemu/driver.pid", root);
    IM_AUTO(fd_auto) int fd = open(path, O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};

    return fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

void lv_embed_recover(struct virt_driver *driver, const char *root) {
    IM_AUTO(free_auto) char *folder = im_printf("%s/run/qemu", root);
    bool ours = !in_use(root);
    DIR *dir = ours ? opendir(folder) : NULL;
    struct dirent *entry;

    if (ours)
        kill_asked(root);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, entry->d_name);

        if (im_ends_with(entry->d_name, ".xml") && was_starting(path)) {
            IM_AUTO(free_auto) char *name = im_strndup(entry->d_name, strlen(entry->d_name) - 4);

            take_back(driver, root, path, name);
        }
    }
    if (dir != NULL)
        closedir(dir);
}

/* --- Machines that ran ---------------------------------------------------------------------- */

/* libvirt holds a job on a machine from before it can be looked up until its monitor answered, or
 * it is given up. Outside the monitor such a job looks like an internal error. */
static bool found_again(virDomainPtr domain) {
    virDomainControlInfo info;

    if (virDomainGetControlInfo(domain, &info, 0) < 0)
        return true; /* it is gone */
    return info.state == VIR_DOMAIN_CONTROL_OK ||
           (info.state == VIR_DOMAIN_CONTROL_ERROR &&
            info.details != VIR_DOMAIN_CONTROL_ERROR_REASON_INTERNAL);
}

void lv_embed_settle(virConnectPtr conn) {
    int64_t deadline = im_mono_ms() + SETTLE_MS;
    virDomainPtr *domains = NULL;
    int count = virConnectListAllDomains(conn, &domains, VIR_CONNECT_LIST_DOMAINS_ACTIVE);

    for (int i = 0; i < count; i++) {
        while (!found_again(domains[i]) && im_mono_ms() < deadline)
            im_sleep_ms(10);
        virDomainFree(domains[i]);
    }
    if (count >= 0)
        free(domains);
}
