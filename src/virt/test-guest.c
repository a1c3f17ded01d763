/* SPDX-License-Identifier: Apache-2.0 */
/* The guest of 512 bytes, for the tests on real QEMU. */
#include "test-guest.h"

#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"

const char *guest_folder, *guest_base, *guest_head, *guest_next, *guest_state_dir, *guest_log;
const char *guest_user = "";
static char *pid_path;

void guest_set_paths(const char *folder, const char *pids) {
    guest_folder = folder;
    guest_base = im_printf("%s/base", folder);
    guest_head = im_printf("%s/head", folder);
    guest_next = im_printf("%s/next", folder);
    guest_state_dir = im_printf("%s/state", folder);
    guest_log = im_printf("%s/console/i-nano.log", guest_state_dir);
    pid_path = im_printf("%s/%s/i-nano.pid", folder, pids);
    /* As imprintd's own machines do where there is such a user. */
    if (geteuid() == 0 && getpwnam("libvirt-qemu") != NULL)
        guest_user = "libvirt-qemu";
}

bool guest_start(struct virt *virt, const char *head, struct im_err *err) {
    const struct virt_layer layers[] = {
        {head, "qcow2"}, {guest_head, "qcow2"}, {guest_base, "raw"}};
    bool switched = strcmp(head, guest_head) != 0;
    const struct virt_layer plain[] = {layers[1], layers[2]};
    const struct virt_disk disk = {"i-nano", switched ? layers : plain, switched ? 3 : 2, false};
    const struct virt_nic nic = {
        .kind = VIRT_NIC_USER, .mac = "52:54:00:12:34:56", .isolated = true};
    const struct virt_machine machine = {.name = "i-nano",
                                         .uuid = "5b6d0b2e-8f3e-4d0c-9c6f-0d3a0a4b1c2d",
                                         .vcpus = 1,
                                         .memory_mib = 16,
                                         .firmware = "bios",
                                         .disks = &disk,
                                         .disk_count = 1,
                                         .nics = &nic,
                                         .nic_count = 1,
                                         .graphics_passwd = "pass&<'>, and more",
                                         .firmware_log = true};

    return virt_start(virt, &machine, err);
}

bool guest_file_has(const char *path, const char *what) {
    int64_t deadline = im_mono_ms() + GUEST_PATIENCE_MS;

    while (im_mono_ms() < deadline) {
        IM_AUTO(free_auto) char *text = NULL;
        struct im_err err = {0};

        if (im_read_file(path, 8 << 20, &text, NULL, &err) && strstr(text, what) != NULL)
            return true;
        im_sleep_ms(50);
    }
    return false;
}

bool guest_said(const char *what) { return guest_file_has(guest_log, what); }

bool guest_overlay(const char *path, const char *backing, const char *format) {
    const struct passwd *user = im_str_empty(guest_user) ? NULL : getpwnam(guest_user);
    struct im_err err = {0};

    return im_run((const char *[]){"qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F",
                                   format, path, NULL},
                  NULL, 60000, NULL, &err) &&
           (user == NULL || chown(path, user->pw_uid, user->pw_gid) == 0);
}

bool guest_make_disk(const char *nano) {
    IM_AUTO(free_auto) char *code = NULL;
    struct im_err err = {0};
    size_t len = 0;

    return im_read_file(nano, 512, &code, &len, &err) &&
           im_write_file(guest_base, code, len, 0444, &err) && truncate(guest_base, 1 << 20) == 0 &&
           guest_overlay(guest_head, "base", "raw");
}

/* Reads until `what` came. */
bool guest_hears(int fd, const char *what) {
    int64_t deadline = im_mono_ms() + GUEST_PATIENCE_MS;
    IM_AUTO(im_str_done) struct im_str got = {0};

    while (im_mono_ms() < deadline && (got.data == NULL || strstr(got.data, what) == NULL)) {
        struct pollfd poll_fd = {fd, POLLIN, 0};
        char bytes[256];
        ssize_t n;

        if (poll(&poll_fd, 1, 1000) <= 0)
            continue;
        n = read(fd, bytes, sizeof(bytes));
        if (n <= 0)
            return false;
        im_str_add_bytes(&got, bytes, (size_t) n);
    }
    return got.data != NULL && strstr(got.data, what) != NULL;
}

pid_t guest_pid(void) {
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err err = {0};
    int64_t pid = 0;

    if (!im_read_file(pid_path, 32, &text, NULL, &err))
        return 0;
    text[strcspn(text, "\n")] = '\0';
    return im_parse_i64(text, 2, INT32_MAX, &pid) ? (pid_t) pid : 0;
}

void guest_kill(void) {
    pid_t pid = guest_pid();

    if (pid > 0)
        kill(pid, SIGKILL);
}

bool guest_have(const char *program) {
    struct im_err err = {0};

    return im_run((const char *[]){program, "--version", NULL}, NULL, 60000, NULL, &err);
}
