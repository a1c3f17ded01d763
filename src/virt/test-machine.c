/* SPDX-License-Identifier: Apache-2.0 */
/* Real QEMU under an embedded libvirt: the smallest guest starts, proves what it read and wrote,
 * outlives its owner, and has its disk switched under it. Usage: test-machine NANO.BIN */
#include "virt-private.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "harness/test.h"

/* Without KVM, on a busy machine. */
enum { PATIENCE_MS = 180000 };

static const char *folder;
static char *base_path, *head_path, *next_path, *uri, *state_dir;
static const char *machine_user = ""; /* as imprintd's own does where there is one */
static volatile int events[4];

static void on_event(void *arg, const char *name, enum virt_state state) {
    (void) arg, (void) name;
    events[state]++;
}

static struct virt_config config(void) {
    const char *accel = getenv("IMPRINT_TEST_ACCEL");

    return (struct virt_config){uri, accel ? accel : "auto", 32, state_dir, machine_user};
}

static bool start(struct virt *virt, const char *head, struct im_err *err) {
    const struct virt_layer layers[] = {{head, "qcow2"}, {head_path, "qcow2"}, {base_path, "raw"}};
    bool switched = strcmp(head, head_path) != 0;
    const struct virt_layer plain[] = {layers[1], layers[2]};
    const struct virt_disk disk = {"i-nano", switched ? layers : plain, switched ? 3 : 2, false};
    const struct virt_nic nic = {VIRT_NIC_USER, "52:54:00:12:34:56", NULL, NULL, 0};
    const struct virt_machine machine = {.name = "i-nano",
                                         .uuid = "5b6d0b2e-8f3e-4d0c-9c6f-0d3a0a4b1c2d",
                                         .vcpus = 1,
                                         .memory_mib = 16,
                                         .firmware = "bios",
                                         .disks = &disk,
                                         .disk_count = 1,
                                         .nics = &nic,
                                         .nic_count = 1,
                                         .graphics_passwd = "pass&<'>, and more"};

    return virt_start(virt, &machine, err);
}

static void set_paths(const char *where) {
    folder = where;
    base_path = im_printf("%s/base", folder);
    head_path = im_printf("%s/head", folder);
    next_path = im_printf("%s/next", folder);
    uri = im_printf("qemu:///embed?root=%s/libvirt", folder);
    state_dir = im_printf("%s/state", folder);
    if (geteuid() == 0 && getpwnam("libvirt-qemu") != NULL)
        machine_user = "libvirt-qemu";
}

/* The other role of this program: owns the embedded driver, starts the machine, and waits to be
 * killed. Prints why it cannot. */
static int own(const char *where, bool and_start) {
    struct im_err err = {0};
    struct virt_config its;
    struct virt *virt;

    set_paths(where);
    its = config();
    virt = virt_open(&its, NULL, NULL, &err);
    if (virt == NULL || (and_start && !start(virt, head_path, &err))) {
        fprintf(stderr, "%s\n", err.text);
        _exit(1); /* libvirt 9.0.0 leaks a string when its driver is taken */
    }
    if (and_start) {
        printf("running\n");
        fflush(stdout);
        pause();
    }
    return 0;
}

static bool said(const char *path, const char *what) {
    int64_t deadline = im_mono_ms() + PATIENCE_MS;

    while (im_mono_ms() < deadline) {
        IM_AUTO(free_auto) char *text = NULL;
        struct im_err err = {0};

        if (im_read_file(path, 8 << 20, &text, NULL, &err) && strstr(text, what) != NULL)
            return true;
        im_sleep_ms(50);
    }
    return false;
}

static bool overlay(const char *path, const char *backing, const char *format) {
    const struct passwd *user = im_str_empty(machine_user) ? NULL : getpwnam(machine_user);
    struct im_err err = {0};

    return im_run((const char *[]){"qemu-img", "create", "-q", "-f", "qcow2", "-b", backing, "-F",
                                   format, path, NULL},
                  NULL, 60000, NULL, &err) &&
           (user == NULL || chown(path, user->pw_uid, user->pw_gid) == 0);
}

static bool make_disk(const char *nano) {
    IM_AUTO(free_auto) char *code = NULL;
    struct im_err err = {0};
    size_t len = 0;

    return im_read_file(nano, 512, &code, &len, &err) &&
           im_write_file(base_path, code, len, 0444, &err) && truncate(base_path, 1 << 20) == 0 &&
           overlay(head_path, "base", "raw");
}

/* Reads until `what` came. */
static bool hears(int fd, const char *what) {
    int64_t deadline = im_mono_ms() + PATIENCE_MS;
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

static void test_console(struct virt *virt) {
    IM_AUTO(fd_auto) int first = -1;
    IM_AUTO(fd_auto) int second = -1;
    char byte;

    check_ok(virt_console_open(virt, "i-nano", &first, &err), "its console opens");
    check(write(first, "hello nano", 10) == 10 && hears(first, "hello nano"), "and echoes");
    check_ok(virt_console_open(virt, "i-nano", &second, &err), "a second one takes it over");
    check(read(first, &byte, 1) == 0, "the first one ends");
    check(write(second, "again", 5) == 5 && hears(second, "again"), "the second one echoes");
}

static void test_looks(struct virt *virt) {
    struct virt_info info = {0};
    struct virt_host host = {0};
    IM_AUTO(free_auto) char *png = NULL;
    bool frozen = true;
    size_t len = 0;

    check_ok(virt_host(virt, &host, &err), "the host");
    test_note("machines run with %s %s", host.accel, host.accel_reason);
    check_ok(virt_info(virt, "i-nano", &info, &err), "it tells of itself");
    check(info.vnc_port >= 5900 && !info.agent_connected && info.ip[0] == '\0', "a screen on %d",
          info.vnc_port);
    check_ok(virt_screenshot(virt, "i-nano", &png, &len, &err), "a picture of it");
    check(len > 100 && memcmp(png, "\x89PNG", 4) == 0, "is a PNG of %zu bytes", len);
    check_err(virt_set_password(virt, "i-nano", "root", "x", &err), IM_UNSUPPORTED,
              "no agent sets a password");
    check_ok(virt_fs_freeze(virt, "i-nano", 2000, &frozen, &err), "freezing without an agent");
    check(!frozen, "freezes nothing");
}

static int64_t mtime_of(const char *path) {
    struct stat st = {0};

    return stat(path, &st) == 0 ? st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec : -1;
}

static uint64_t blocks_of(const char *path) {
    struct stat st = {0};

    return stat(path, &st) == 0 ? (uint64_t) st.st_blocks : 0;
}

/* The overlay's backing name is relative, as our storage writes them. */
static void test_switch(struct virt *virt, const char *log) {
    int64_t before;
    uint64_t empty;

    check(overlay(next_path, "head", "qcow2"), "an overlay on its head");
    empty = blocks_of(next_path);
    check_ok(virt_switch_disk(virt, "i-nano", "i-nano", next_path, &err), "its disk is switched");
    check_ok(virt_switch_disk(virt, "i-nano", "i-nano", next_path, &err),
             "switching it again is success");
    check_err(virt_switch_disk(virt, "i-nano", "vol-x", next_path, &err), IM_NOT_FOUND,
              "a disk it does not have");
    before = mtime_of(head_path);
    check_ok(virt_reset(virt, "i-nano", &err), "reset");
    check(said(log, "boots=00000004"), "it boots and counts to 4");
    check(mtime_of(head_path) == before && blocks_of(next_path) > empty,
          "the overlay took the writes, the old head none");
    check_ok(virt_destroy(virt, "i-nano", &err), "the plug is pulled");
    check_ok(start(virt, next_path, &err), "it starts from the overlay");
    check(said(log, "boots=00000005"), "and goes on counting");
}

static void test_all(const char *self, pid_t owner) {
    IM_AUTO(free_auto) char *log = im_printf("%s/console/i-nano.log", state_dir);
    IM_AUTO(free_auto) struct virt_listed *list = NULL;
    struct virt_config its = config();
    struct im_err err = {0};
    enum virt_state state;
    struct virt *virt;
    size_t count = 0;

    check(said(log, "NANO up disks=01 boots=00000001"), "it boots from its disk");
    check(kill(owner, SIGKILL) == 0 && waitpid(owner, NULL, 0) == owner, "its owner is killed");
    virt = virt_open(&its, on_event, NULL, &err);
    if (!check(virt != NULL, "a new one opens: %s", err.text))
        return;
    check_ok(virt_list(virt, &list, &count, &err), "lists");
    check(count == 1 && strcmp(list[0].name, "i-nano") == 0 && list[0].state == VIRT_RUNNING,
          "and finds it running");
    check(!im_run((const char *[]){self, "--open", folder, NULL}, NULL, PATIENCE_MS, NULL, &err) &&
              strstr(err.text, "in use by another process") != NULL,
          "a second owner is told why not: %s", err.text);
    test_console(virt);
    test_looks(virt);
    check_ok(virt_shutdown(virt, "i-nano", &err), "its power button is pressed");
    check_ok(virt_wait_off(virt, "i-nano", PATIENCE_MS, NULL, &err), "it powers off");
    check(said(log, "NANO off") && events[VIRT_OFF] == 1, "by itself, and that was told");
    check_ok(start(virt, head_path, &err), "it starts again");
    check(said(log, "boots=00000002"), "and has kept its count");
    check_ok(virt_reboot(virt, "i-nano", &err), "reboot");
    check(said(log, "boots=00000003"), "counts to 3");
    test_switch(virt, log);
    virt_close(virt);
    virt = virt_open(&its, NULL, NULL, &err);
    check(virt != NULL && virt_state(virt, "i-nano", &state, &err) && state == VIRT_RUNNING,
          "it outlives a close and an open");
    check_ok(virt_destroy(virt, "i-nano", &err), "destroy");
    check_ok(virt_wait_off(virt, "i-nano", 0, NULL, &err), "it is off");
    check_ok(virt_destroy(virt, "i-nano", &err), "destroying it again is fine");
    check(access(base_path, W_OK) == 0 || access(base_path, R_OK) == 0, "its base is there");
    virt_forget(virt, "i-nano");
    check(access(log, F_OK) < 0, "forgotten");
    virt_close(virt);
}

/* However the test ends, no QEMU of its stays. */
static void kill_left(void) {
    IM_AUTO(free_auto) char *path = im_printf("%s/libvirt/run/qemu/i-nano.pid", folder);
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err err = {0};
    int64_t pid = 0;

    if (im_read_file(path, 32, &text, NULL, &err) && im_parse_i64(text, 2, INT32_MAX, &pid))
        kill((pid_t) pid, SIGKILL);
}

static bool have(const char *program) {
    struct im_err err = {0};

    return im_run((const char *[]){program, "--version", NULL}, NULL, 60000, NULL, &err);
}

int main(int argc, char **argv) {
    IM_AUTO(free_auto) char *owner_log = NULL;
    struct im_err err = {0};
    pid_t owner = -1;

    if (argc == 3)
        return own(argv[2], strcmp(argv[1], "--own") == 0);
    if (!have("qemu-system-x86_64") || !have("qemu-img"))
        test_skip_all("QEMU is not installed");
    set_paths(test_folder());
    atexit(kill_left);
    chmod(folder, 0755);
    owner_log = im_printf("%s/owner.log", folder);
    check(argc == 2 && make_disk(argv[1]), "a disk with a boot sector");
    check_ok(im_start((const char *[]){argv[0], "--own", folder, NULL}, owner_log, &owner, &err),
             "an owner starts");
    check(said(owner_log, "running"), "the machine runs");
    test_all(argv[0], owner);
    (void) err;
    return test_end();
}
