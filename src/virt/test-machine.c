/* SPDX-License-Identifier: Apache-2.0 */
/* Real QEMU under an embedded libvirt: the smallest guest starts, proves what it read and wrote,
 * outlives its owner, and has its disk switched under it. Usage: test-machine NANO.BIN */
#include "libvirt-private.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <libvirt/libvirt-qemu.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "harness/test.h"
#include "test-guest.h"

static char *uri;

static bool switch_disk(struct virt *virt, const char *name, const char *serial, const char *path,
                        struct im_err *err) {
    return virt_switch_disks(virt, name, &(struct virt_switch){serial, path}, 1, err);
}

static volatile int events[4];

static void on_event(void *arg, const char *name, enum virt_state state) {
    (void) arg, (void) name;
    events[state]++;
}

static struct virt_config config(void) {
    const char *accel = getenv("IMPRINT_TEST_ACCEL");

    return (struct virt_config){uri, accel ? accel : "auto", 32, guest_state_dir, guest_user};
}

static void set_paths(const char *where) {
    guest_set_paths(where, "libvirt/run/qemu");
    uri = im_printf("qemu:///embed?root=%s/libvirt", where);
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
    if (virt == NULL || (and_start && !guest_start(virt, guest_head, &err))) {
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

static void test_console(struct virt *virt) {
    IM_AUTO(fd_auto) int first = -1;
    IM_AUTO(fd_auto) int second = -1;
    char byte;

    check_ok(virt_console_open(virt, "i-nano", &first, &err), "its console opens");
    check(write(first, "hello nano", 10) == 10 && guest_hears(first, "hello nano"), "and echoes");
    check_ok(virt_console_open(virt, "i-nano", &second, &err), "a second one takes it over");
    check(read(first, &byte, 1) == 0, "the first one ends");
    check(write(second, "again", 5) == 5 && guest_hears(second, "again"), "the second one echoes");
}

static void test_looks(struct virt *virt) {
    struct virt_info info = {0};
    struct virt_host host = {0};
    IM_AUTO(free_auto) char *png = NULL;
    IM_AUTO(free_auto) char *screen = NULL;
    IM_AUTO(free_auto) char *firmware = virt_firmware_log_path(virt, "i-nano");
    bool frozen = true;
    size_t len = 0;

    check_ok(virt_host(virt, &host, &err), "the host");
    test_note("machines run with %s %s", host.accel, host.accel_reason);
    check_ok(virt_info(virt, "i-nano", &info, &err), "it tells of itself");
    check(info.vnc_port >= 5900 && !info.agent_connected && info.ip[0] == '\0', "a screen on %d",
          info.vnc_port);
    check_ok(virt_screenshot(virt, "i-nano", &png, &len, &err), "a picture of it");
    check(len > 100 && memcmp(png, "\x89PNG", 4) == 0, "is a PNG of %zu bytes", len);
    check_ok(virt_screen_text(virt, "i-nano", &screen, &err), "what its screen says");
    check(screen != NULL && strstr(screen, "Booting from Hard Disk...\n") != NULL,
          "is what the firmware wrote there");
    check(guest_file_has(firmware, "Booting from 0000:7c00"), "which also keeps a log");
    check_err(virt_set_password(virt, "i-nano", "root", VIRT_SECRET_HASH, "x", &err),
              IM_UNSUPPORTED, "no agent sets a password");
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

/* What is left when its owner is killed between QEMU's switch and libvirt's note of it. */
static bool order(virDomainPtr domain, const char *command, const char *arguments) {
    IM_AUTO(free_auto)
    char *text = im_printf("{\"execute\":\"%s\",\"arguments\":%s}", command, arguments);
    IM_AUTO(free_auto) char *answer = NULL;

    return virDomainQemuMonitorCommand(domain, text, &answer, 0) == 0 &&
           strstr(answer, "error") == NULL;
}

/* As libvirt does it, with its next number; `halfway`: the node is made and not yet switched to. */
static bool switch_unseen(const char *path, int number, bool halfway) {
    IM_AUTO(free_auto)
    char *storage = im_printf("{\"driver\":\"file\",\"filename\":\"%s\",\"node-name\":"
                              "\"libvirt-%d-storage\",\"auto-read-only\":true}",
                              path, number);
    IM_AUTO(free_auto)
    char *format = im_printf("{\"driver\":\"qcow2\",\"file\":\"libvirt-%d-storage\","
                             "\"node-name\":\"libvirt-%d-format\",\"backing\":null}",
                             number, number);
    IM_AUTO(free_auto)
    char *snapshot =
        im_printf("{\"node\":\"libvirt-1-format\",\"overlay\":\"libvirt-%d-format\"}", number);
    IM_AUTO(virConnectClose_auto) virConnectPtr conn = virConnectOpen(uri);
    IM_AUTO(virDomainFree_auto)
    virDomainPtr domain = conn ? virDomainLookupByName(conn, "i-nano") : NULL;

    return domain != NULL && order(domain, "blockdev-add", storage) &&
           order(domain, "blockdev-add", format) &&
           (halfway || order(domain, "blockdev-snapshot", snapshot));
}

/* The overlay's backing name is relative, as our storage writes them. */
static void test_switch(struct virt *virt) {
    int64_t before;
    uint64_t empty;

    check(guest_overlay(guest_next, "head", "qcow2"), "an overlay on its head");
    empty = blocks_of(guest_next);
    check(switch_unseen(guest_next, 90, true), "QEMU is about to switch, its owner is killed");
    check_ok(switch_disk(virt, "i-nano", "i-nano", guest_next, &err), "its disk is switched");
    check_ok(switch_disk(virt, "i-nano", "i-nano", guest_next, &err),
             "switching it again is success");
    check_err(switch_disk(virt, "i-nano", "vol-x", guest_next, &err), IM_NOT_FOUND,
              "a disk it does not have");
    before = mtime_of(guest_head);
    check_ok(virt_reset(virt, "i-nano", &err), "reset");
    check(guest_said("boots=00000004"), "it boots and counts to 4");
    check(mtime_of(guest_head) == before && blocks_of(guest_next) > empty,
          "the overlay took the writes, the old head none");
    check_ok(virt_destroy(virt, "i-nano", &err), "the plug is pulled");
    check_ok(guest_start(virt, guest_next, &err), "it starts from the overlay");
    check(guest_said("boots=00000005"), "and goes on counting");
}

static void test_unseen(struct virt *virt) {
    IM_AUTO(free_auto) char *third = im_printf("%s/third", guest_folder);
    IM_AUTO(free_auto) char *fourth = im_printf("%s/fourth", guest_folder);
    bool has = true;

    check(guest_overlay(third, "next", "qcow2") && guest_overlay(fourth, "third", "qcow2"),
          "two more overlays");
    check(switch_unseen(fourth, 90, true), "QEMU is about to switch, its owner is killed");
    check_ok(virt_has_file(virt, "i-nano", fourth, &has, &err), "asked");
    check(!has, "it does not write there");
    check(switch_unseen(third, 91, false), "QEMU switches, libvirt does not know");
    check_ok(virt_has_file(virt, "i-nano", third, &has, &err), "asked");
    check(has, "it writes there");
    check_ok(switch_disk(virt, "i-nano", "i-nano", third, &err), "which is success");
    check_err(switch_disk(virt, "i-nano", "i-nano", fourth, &err), IM_WRONG_STATE,
              "from there it is not switched again");
    check_ok(virt_reset(virt, "i-nano", &err), "reset");
    check(guest_said("boots=00000007"), "it has gone on");
}

/* What is left when its owner is killed between making a disk's nodes and plugging it in: libvirt
 * takes the same numbers for the next one, and the file stays locked. */
static void test_left_over(struct virt *virt) {
    IM_AUTO(free_auto) char *path = im_printf("%s/volume", guest_folder);
    struct virt_layer layer = {.path = path, .format = "qcow2"};
    struct virt_disk disk = {.serial = "vol-left", .layers = &layer, .layer_count = 1};
    bool has = false;

    check(guest_overlay(path, "base", "raw"), "a volume");
    for (int number = 1; number <= 8; number++)
        (void) switch_unseen(path, number, true); /* the numbers in use are refused */
    check_ok(virt_attach_disk(virt, "i-nano", &disk, &err), "it is plugged in all the same");
    check_ok(virt_has_file(virt, "i-nano", path, &has, &err), "asked");
    check(has, "the machine has it");
}

/* What libvirt counts of it, by the names we gave. The card is QEMU's own: nobody counts for it. */
static void test_stats(struct virt *virt) {
    struct virt_stats *stats = NULL;
    size_t count = 0;

    check_ok(virt_stats(virt, &stats, &count, &err), "counters");
    check(count == 1 && strcmp(stats[0].name, "i-nano") == 0 && stats[0].vcpus == 1,
          "of one machine");
    if (count != 1)
        return;
    check(stats[0].has_cpu && stats[0].cpu_ns > 0, "it used %llu ns of its CPU",
          (unsigned long long) stats[0].cpu_ns);
    check(stats[0].memory_bytes == 16 << 20 && stats[0].memory_used_bytes > 0,
          "and %llu bytes of memory", (unsigned long long) stats[0].memory_used_bytes);
    check(stats[0].disk_count == 1 && strcmp(stats[0].disks[0].serial, "i-nano") == 0 &&
              stats[0].disks[0].reads > 0 && stats[0].disks[0].read_bytes >= 512,
          "its disk by its serial, which it read from");
    check(stats[0].nic_count == 0, "no card");
    virt_stats_free(stats, count);
}

static void test_all(const char *self, pid_t owner) {
    IM_AUTO(free_auto) struct virt_listed *list = NULL;
    struct virt_config its = config();
    struct im_err err = {0};
    enum virt_state state;
    struct virt *virt;
    size_t count = 0;

    check(guest_said("NANO up disks=01 boots=00000001"), "it boots from its disk");
    check(kill(owner, SIGKILL) == 0 && waitpid(owner, NULL, 0) == owner, "its owner is killed");
    virt = virt_open(&its, on_event, NULL, &err);
    if (!check(virt != NULL, "a new one opens: %s", err.text))
        return;
    check_ok(virt_list(virt, &list, &count, &err), "lists");
    check(count == 1 && strcmp(list[0].name, "i-nano") == 0 && list[0].state == VIRT_RUNNING,
          "and finds it running");
    check(!im_run((const char *[]){self, "--open", guest_folder, NULL}, NULL, GUEST_PATIENCE_MS,
                  NULL, &err) &&
              strstr(err.text, "in use by another process") != NULL,
          "a second owner is told why not: %s", err.text);
    test_console(virt);
    test_looks(virt);
    test_stats(virt);
    check_ok(virt_shutdown(virt, "i-nano", &err), "its power button is pressed");
    check_ok(virt_wait_off(virt, "i-nano", GUEST_PATIENCE_MS, NULL, &err), "it powers off");
    check(guest_said("NANO off") && events[VIRT_OFF] == 1, "by itself, and that was told");
    check_ok(guest_start(virt, guest_head, &err), "it starts again");
    check(guest_said("boots=00000002"), "and has kept its count");
    check_ok(virt_reboot(virt, "i-nano", &err), "reboot");
    check(guest_said("boots=00000003"), "counts to 3");
    test_switch(virt);
    test_left_over(virt);
    check_ok(virt_destroy(virt, "i-nano", &err), "the plug is pulled");
    check_ok(guest_start(virt, guest_next, &err), "it starts again");
    check(guest_said("boots=00000006"), "and goes on counting");
    test_unseen(virt);
    virt_close(virt);
    virt = virt_open(&its, NULL, NULL, &err);
    check(virt != NULL && virt_state(virt, "i-nano", &state, &err) && state == VIRT_RUNNING,
          "it outlives a close and an open");
    check_ok(virt_destroy(virt, "i-nano", &err), "destroy");
    check_ok(virt_wait_off(virt, "i-nano", 0, NULL, &err), "it is off");
    check_ok(virt_destroy(virt, "i-nano", &err), "destroying it again is fine");
    check(access(guest_base, W_OK) == 0 || access(guest_base, R_OK) == 0, "its base is there");
    virt_forget(virt, "i-nano");
    check(access(guest_log, F_OK) < 0, "forgotten");
    virt_close(virt);
}

int main(int argc, char **argv) {
    IM_AUTO(free_auto) char *owner_log = NULL;
    struct im_err err = {0};
    pid_t owner = -1;

    if (argc == 3)
        return own(argv[2], strcmp(argv[1], "--own") == 0);
    if (!guest_have("qemu-system-x86_64") || !guest_have("qemu-img"))
        test_skip_all("QEMU is not installed");
    set_paths(test_folder());
    atexit(guest_kill);
    chmod(guest_folder, 0755);
    owner_log = im_printf("%s/owner.log", guest_folder);
    check(argc == 2 && guest_make_disk(argv[1]), "a disk with a boot sector");
    check_ok(
        im_start((const char *[]){argv[0], "--own", guest_folder, NULL}, owner_log, &owner, &err),
        "an owner starts");
    check(guest_file_has(owner_log, "running"), "the machine runs");
    test_all(argv[0], owner);
    (void) err;
    return test_end();
}
