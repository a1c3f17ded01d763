/* SPDX-License-Identifier: Apache-2.0 */
/* What machines run with on this host, and the folder of an embedded driver. */
#include "libvirt-private.h"

#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/spawn.h"
#include "base/str.h"
#include "harness/test.h"

static bool have_qemu(void) {
    struct im_err err = {0};

    return im_run((const char *[]){"qemu-system-x86_64", "--version", NULL}, NULL, 60000, NULL,
                  &err);
}

static void test_guest(const char *folder) {
    IM_AUTO(free_auto) char *disk = im_printf("%s/guest", folder);
    const struct passwd *user = getpwnam("nobody");

    check_ok(virt_kvm_disk(disk, &err), "the guest on a disk");
    check_ok(virt_kvm_try(disk, VIRT_USER_SAME, "tcg", &err), "does all it tries, under TCG");
    if (geteuid() == 0 && user != NULL)
        check_ok(virt_kvm_try(disk, user->pw_uid, "tcg", &err), "and for another user");
    check_ok(im_write_file(disk, "", 0, 0644, &err), "without it");
    {
        struct im_err err = {0};

        check(!virt_kvm_try(disk, VIRT_USER_SAME, "none-such", &err) &&
                  strstr(err.text, "a test guest does not run under it") != NULL,
              "a run that cannot be: %s", err.text);
    }
}

static void test_memory(const char *folder) {
    IM_AUTO(free_auto) char *path = im_printf("%s/kvm", folder);
    IM_AUTO(free_auto) char *first = NULL;
    IM_AUTO(free_auto) char *second = NULL;
    IM_AUTO(free_auto) char *changed = NULL;
    struct im_err err = {0}, again = {0};
    bool works = virt_kvm_works(folder, VIRT_USER_SAME, &err);
    int64_t begin;

    test_note("KVM here: %s", works ? "works" : err.text);
    check_ok(im_read_file(path, 4096, &first, NULL, &err), "the answer is kept");
    begin = im_mono_ms();
    check(virt_kvm_works(folder, VIRT_USER_SAME, &again) == works, "and the same again");
    check(im_mono_ms() - begin < 100, "without another guest");
    changed = im_printf("%.*s\na reason of its own\n", (int) strcspn(first, "\n"), first);
    check_ok(im_write_file(path, changed, strlen(changed), 0644, &err), "another answer");
    check_err(virt_kvm_works(folder, VIRT_USER_SAME, &err), IM_UNSUPPORTED, "is believed");
    changed[0] = changed[0] == '0' ? '1' : '0';
    check_ok(im_write_file(path, changed, strlen(changed), 0644, &err), "of another boot");
    check(virt_kvm_works(folder, VIRT_USER_SAME, &again) == works, "is not");
    check_ok(im_read_file(path, 4096, &second, NULL, &err), "and is");
    check(strcmp(first, second) == 0, "replaced");
}

static char *conf_after(const char *root, const char *run_as, struct virt_driver *driver,
                        bool expected) {
    IM_AUTO(free_auto) char *uri = im_printf("qemu:///embed?root=%s", root);
    IM_AUTO(free_auto) char *path = im_printf("%s/etc/qemu.conf", root);
    struct im_err err = {0};
    char *text = NULL;

    *driver = (struct virt_driver){.uri = uri, .embed = true};
    check(lv_embed_prepare(driver, run_as, &err) == expected, "prepare for %s: %s", run_as,
          err.text);
    driver->uri = NULL;
    if (!im_read_file(path, 4096, &text, NULL, &err))
        return im_strdup("");
    return text;
}

static void test_embed(const char *folder) {
    IM_AUTO(free_auto) char *root = im_printf("%s/embed", folder);
    IM_AUTO(free_auto) char *path = im_printf("%s/etc/qemu.conf", root);
    IM_AUTO(free_auto) char *first = NULL;
    IM_AUTO(free_auto) char *second = NULL;
    IM_AUTO(free_auto) char *third = NULL;
    struct virt_driver driver;
    bool root_user = geteuid() == 0;

    first = conf_after(root, "", &driver, true);
    check(strstr(first, "stdio_handler = \"file\"\n") != NULL && driver.user_known &&
              (strstr(first, "user = \"root\"\n") != NULL) == root_user,
          "a file is written, machines run as we do");
    check(driver.emulator == NULL, "with the distribution's QEMU");
    second = conf_after(root, root_user ? "nobody" : "", &driver, true);
    check(!root_user || strstr(second, "user = \"nobody\"\ngroup = \"nogroup\"\n") != NULL,
          "and written again for another user");
    check((driver.emulator != NULL) ==
              (root_user && virt_kvm_opens(0) && !virt_kvm_opens(driver.user)),
          "a QEMU without rights where /dev/kvm is root's alone: %s",
          driver.emulator ? driver.emulator : "none");
    free(im_steal(&driver.emulator));
    if (root_user)
        free(conf_after(root, "no-such-user", &driver, false));
    check_ok(im_write_file(path, "user = \"daemon\"\n", 16, 0644, &err), "an operator's file");
    third = conf_after(root, "", &driver, true);
    check(strcmp(third, "user = \"daemon\"\n") == 0 && !driver.user_known, "stays");
}

static bool write_status(const char *root, const char *name, const char *status) {
    IM_AUTO(free_auto) char *path = im_printf("%s/run/qemu/%s.xml", root, name);
    IM_AUTO(free_auto)
    char *text = im_printf("<!-- generated -->\n<domstatus %s pid='0'>\n</domstatus>\n", status);
    struct im_err err = {0};

    return im_write_file(path, text, strlen(text), 0600, &err);
}

static bool has_status(const char *root, const char *name) {
    IM_AUTO(free_auto) char *path = im_printf("%s/run/qemu/%s.xml", root, name);

    return access(path, F_OK) == 0;
}

/* A process that looks like QEMU of that machine and root until its standard input ends; without a
 * name like one that is asked what it can do. */
static pid_t pose(const char *root, const char *name, int input) {
    IM_AUTO(free_auto)
    char *guest = name ? im_printf("guest=%s,debug-threads=on", name) : im_strdup("-qmp");
    IM_AUTO(free_auto)
    char *socket = name ? im_printf("path=%s/lib/qemu/domain-1/monitor.sock", root)
                        : im_printf("unix:%s/lib/qemu/qmp-V8TDZ3/qmp.monitor", root);
    IM_AUTO(free_auto) char *path = NULL;
    pid_t pid = fork();

    if (pid == 0) {
        dup2(input, 0);
        execl("/bin/sh", "qemu-system-x86_64", "-c", "read line", guest, socket, NULL);
        _exit(127);
    }
    path = im_printf("/proc/%d/cmdline", (int) pid);
    for (int tries = 0; tries < 3000; tries++) {
        IM_AUTO(free_auto) char *text = NULL;
        struct im_err err = {0};

        if (im_read_file(path, 4096, &text, NULL, &err) && im_starts_with(text, "qemu-system-"))
            break;
        im_sleep_ms(10);
    }
    return pid;
}

/* Half a start, by a killed owner. */
static void test_recover(const char *folder) {
    IM_AUTO(free_auto) char *root = im_printf("%s/recover", folder);
    IM_AUTO(free_auto) char *run = im_printf("%s/run/qemu", root);
    struct virt_driver driver = {0};
    int status = 0, input[2] = {-1, -1};
    pid_t half, full, asked;

    check_ok(im_make_dirs(run, 0755, &err), "a folder with statuses");
    check(write_status(root, "i-half", "state='paused' reason='starting up'") &&
              write_status(root, "i-full", "state='running' reason='booted'") &&
              write_status(root, "i-paused", "state='paused' reason='user'"),
          "of machines");
    check(pipe2(input, O_CLOEXEC) == 0, "with processes");
    half = pose(root, "i-half", input[0]);
    full = pose(root, "i-full", input[0]);
    asked = pose(root, NULL, input[0]);
    lv_embed_recover(&driver, root);
    check(waitpid(asked, &status, 0) == asked && WIFSIGNALED(status),
          "a QEMU that was only being asked is killed");
    check(!has_status(root, "i-half"), "one that was about to start is forgotten");
    check(waitpid(half, &status, 0) == half && WIFSIGNALED(status), "and its QEMU killed");
    check(driver.taken_back.count == 1 && im_strings_has(&driver.taken_back, "i-half"),
          "its name is kept");
    im_strings_done(&driver.taken_back);
    check(has_status(root, "i-full") && has_status(root, "i-paused"), "others are not");
    check(waitpid(full, &status, WNOHANG) == 0, "nor theirs");
    close(input[0]);
    close(input[1]);
    waitpid(full, &status, 0);
}

int main(void) {
    const char *folder = test_folder();

    chmod(folder, 0755);
    test_embed(folder);
    test_recover(folder);
    if (!have_qemu()) {
        test_note("QEMU is not installed");
        return test_end();
    }
    test_guest(folder);
    test_memory(folder);
    return test_end();
}
