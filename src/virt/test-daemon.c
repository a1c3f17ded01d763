/* SPDX-License-Identifier: Apache-2.0 */
/* A libvirt daemon of our own, in a mount namespace of its own: machines outlive its kill -9 and
 * are found again, events and consoles come back by themselves, and a hung or dead daemon is told
 * in a sentence. Usage: test-daemon NANO.BIN */
#include "virt-private.h"

#include <fcntl.h>
#include <poll.h>
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
#include "test-guest.h"

static pid_t daemon_pid;
static volatile int offs;

static void on_event(void *arg, const char *name, enum virt_state state) {
    (void) arg, (void) name;
    offs += state == VIRT_OFF;
}

/* The folders that are compiled into libvirtd lie in ours, for it and the machines alone. */
static bool start_daemon(void) {
    static const char script[] =
        "set -e; for d in etc run lib cache log; do mkdir -p \"$0/$d\"; done\n"
        "mkdir -p /etc/libvirt /run/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt\n"
        "mount --make-rprivate /\n"
        "mount --bind \"$0/etc\" /etc/libvirt; mount --bind \"$0/run\" /run/libvirt\n"
        "mount --bind \"$0/lib\" /var/lib/libvirt; mount --bind \"$0/cache\" /var/cache/libvirt\n"
        "mount --bind \"$0/log\" /var/log/libvirt\n"
        "exec libvirtd -f \"$0/libvirtd.conf\" -p \"$0/libvirtd.pid\"";
    IM_AUTO(free_auto) char *log = im_printf("%s/libvirtd.out", guest_folder);
    struct im_err err = {0};

    return im_start((const char *[]){"unshare", "-m", "sh", "-c", script, guest_folder, NULL}, log,
                    &daemon_pid, &err);
}

static bool configure(struct im_err *err) {
    IM_AUTO(free_auto) char *etc = im_printf("%s/etc", guest_folder);
    IM_AUTO(free_auto) char *daemon = im_printf("%s/libvirtd.conf", guest_folder);
    IM_AUTO(free_auto) char *qemu = im_printf("%s/qemu.conf", etc);
    IM_AUTO(free_auto)
    char *text = im_printf("unix_sock_dir = \"%s\"\nunix_sock_group = \"root\"\n"
                           "unix_sock_rw_perms = \"0700\"\nauth_unix_rw = \"none\"\n"
                           "auth_unix_ro = \"none\"\nlog_outputs = \"4:stderr\"\n"
                           "host_uuid = \"5b6d0b2e-8f3e-4d0c-9c6f-0d3a0a4b1c2e\"\n",
                           guest_folder);
    /* As root, so that a /dev/kvm that only root may open does not slow each start by a minute. The
     * layers are another user's: libvirt would take them for root, if it were not told. */
    static const char conf[] = "user = \"root\"\ngroup = \"root\"\nstdio_handler = \"file\"\n"
                               "security_driver = \"none\"\nnamespaces = []\n"
                               "cgroup_controllers = []\n";

    return im_make_dirs(etc, 0755, err) && im_write_file(daemon, text, strlen(text), 0600, err) &&
           im_write_file(qemu, conf, strlen(conf), 0600, err);
}

/* Answers again: asked until it does, as every call of a daemon would. */
static bool comes_back(struct virt *virt, enum virt_state wanted) {
    int64_t deadline = im_mono_ms() + GUEST_PATIENCE_MS;
    enum virt_state state = VIRT_CRASHED;
    struct im_err err = {0};

    while (im_mono_ms() < deadline) {
        if (virt_state(virt, "i-nano", &state, &err))
            return state == wanted;
        im_sleep_ms(100);
    }
    test_note("%s", err.text);
    return false;
}

struct owner {
    uid_t uid;
    mode_t mode;
};
static struct owner owner_of(const char *path) {
    struct stat st = {0};

    return stat(path, &st) == 0 ? (struct owner){st.st_uid, st.st_mode} : (struct owner){0, 0};
}

static bool same_owner(const char *path, struct owner was) {
    struct owner is = owner_of(path);

    return is.uid == was.uid && is.mode == was.mode;
}

/* Its end of file comes, and does not keep the test for ever. */
static bool ends(int console) {
    struct pollfd poll_fd = {console, POLLIN, 0};
    char byte;

    return poll(&poll_fd, 1, GUEST_PATIENCE_MS) == 1 && read(console, &byte, 1) <= 0;
}

static void test_killed(struct virt *virt) {
    enum virt_state state;
    struct im_err err = {0};
    IM_AUTO(fd_auto) int console = -1;
    IM_AUTO(free_auto) struct virt_listed *list = NULL;
    size_t count = 0;

    check_ok(virt_console_open(virt, "i-nano", &console, &err), "its console opens");
    check(write(console, "hello", 5) == 5 && guest_hears(console, "hello"), "and echoes");
    check(kill(daemon_pid, SIGKILL) == 0 && waitpid(daemon_pid, NULL, 0) == daemon_pid,
          "the daemon is killed");
    check(!virt_state(virt, "i-nano", &state, &err) && err.code == IM_BUSY &&
              strstr(err.text, "does not answer") != NULL,
          "which is told: %s", err.text);
    check(ends(console), "the console ends");
    check(guest_pid() > 0 && kill(guest_pid(), 0) == 0, "the machine runs on");
    check(start_daemon(), "another daemon starts");
    check(comes_back(virt, VIRT_RUNNING), "the machine is found, running");
    check_ok(virt_list(virt, &list, &count, &err), "machines are listed");
    check(count == 1 && strcmp(list[0].name, "i-nano") == 0, "it is one of ours");
    close(console);
    check_ok(virt_console_open(virt, "i-nano", &console, &err), "its console opens again");
    check(write(console, "again", 5) == 5 && guest_hears(console, "again"), "and echoes");
}

static void test_hung(struct virt *virt) {
    enum virt_state state;
    struct im_err err = {0};

    /* The console's end needs an answer of the daemon; both at once run into a race of libvirt's
     * own (CVE-2024-4418). */
    check_ok(virt_state(virt, "i-nano", &state, &err), "its state");
    im_sleep_ms(500);
    check(kill(daemon_pid, SIGSTOP) == 0, "the daemon hangs");
    check(!virt_state(virt, "i-nano", &state, &err) && err.code == IM_BUSY, "which is told: %s",
          err.text);
    check(kill(daemon_pid, SIGCONT) == 0, "it goes on");
    check(comes_back(virt, VIRT_RUNNING), "and so do we");
}

static void test_all(void) {
    IM_AUTO(free_auto)
    char *uri = im_printf("qemu+unix:///system?socket=%s/libvirt-sock", guest_folder);
    struct virt_config config = {uri, "tcg", 32, guest_state_dir, NULL};
    struct owner base = owner_of(guest_base), head = owner_of(guest_head);
    struct virt_host host = {0};
    struct virt *virt;
    struct im_err err = {0};

    virt = virt_open(&config, on_event, NULL, &err);
    if (!check(virt != NULL, "open: %s", err.text))
        return;
    check(!virt_host(virt, &host, &err) && err.code == IM_BUSY, "no daemon yet: %s", err.text);
    check(start_daemon(), "a daemon starts");
    check(comes_back(virt, VIRT_OFF), "and answers");
    check_ok(guest_start(virt, guest_head, &err), "a machine starts");
    check(guest_said("NANO up disks=01 boots=00000001"), "and boots from its disk");
    check(same_owner(guest_base, base) && same_owner(guest_head, head),
          "its layers still are whose they were");
    test_killed(virt);
    test_hung(virt);
    offs = 0;
    check_ok(virt_shutdown(virt, "i-nano", &err), "its power button is pressed");
    check_ok(virt_wait_off(virt, "i-nano", GUEST_PATIENCE_MS, NULL, &err), "it powers off");
    for (int i = 0; i < 600 && offs == 0; i++)
        im_sleep_ms(100);
    check(offs == 1, "which is told once");
    check(same_owner(guest_base, base) && same_owner(guest_head, head),
          "its layers were given back to nobody");
    check_ok(guest_start(virt, guest_head, &err), "it starts again");
    check(guest_said("boots=00000002"), "and has kept its count");
    check_ok(virt_destroy(virt, "i-nano", &err), "destroy");
    check_ok(virt_wait_off(virt, "i-nano", 0, NULL, &err), "it is off");
    virt_close(virt);
}

static void end_daemon(void) {
    if (daemon_pid > 0) {
        kill(daemon_pid, SIGKILL);
        waitpid(daemon_pid, NULL, 0);
    }
    guest_kill();
}

int main(int argc, char **argv) {
    struct im_err err = {0};

    if (!guest_have("qemu-system-x86_64") || !guest_have("qemu-img") || !guest_have("libvirtd"))
        test_skip_all("QEMU or libvirtd is not installed");
    if (geteuid() != 0)
        test_skip_all("a private libvirtd needs root");
    signal(SIGPIPE, SIG_IGN); /* a dead daemon's socket: as imprintd does */
    guest_set_paths(test_folder(), "run/qemu");
    atexit(end_daemon);
    chmod(guest_folder, 0755);
    if (check(argc == 2 && guest_make_disk(argv[1]), "a disk with a boot sector") &&
        check(configure(&err), "a daemon's configuration %s", err.text))
        test_all();
    return test_end();
}
