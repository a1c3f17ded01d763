/* SPDX-License-Identifier: Apache-2.0 */
/* Whether machines can run under KVM here. A /dev/kvm that opens proves nothing: under some nested
 * ones every ordinary kernel hangs. So a guest of 512 bytes is run once per boot of the host. */
#include "virt-private.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"

/* It needs a quarter of a second, under TCG as well. */
enum { GUEST_MS = 10000, GUEST_DISK = 1 << 20 };

extern const unsigned char virt_kvm_guest[512];

bool virt_kvm_opens(uid_t uid) {
    const struct passwd *user = uid == VIRT_USER_SAME ? NULL : getpwuid(uid);
    gid_t groups[64];
    int count = 64;
    struct stat st;

    if (uid == VIRT_USER_SAME || uid == 0 || uid == geteuid()) {
        IM_AUTO(fd_auto) int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

        return fd >= 0;
    }
    if (stat("/dev/kvm", &st) < 0)
        return false;
    if ((st.st_mode & 0006) == 0006 || (st.st_uid == uid && (st.st_mode & 0600) == 0600))
        return true;
    if (user == NULL || getgrouplist(user->pw_name, user->pw_gid, groups, &count) < 0)
        return false;
    for (int i = 0; i < count; i++)
        if (groups[i] == st.st_gid && (st.st_mode & 0060) == 0060)
            return true;
    return false;
}

/* The guest on a disk, under the CPU that machines get, run by the user who will run them. */
bool virt_kvm_try(const char *disk, uid_t uid, const char *accel, struct im_err *err) {
    bool other = uid != VIRT_USER_SAME && uid != geteuid();
    IM_AUTO(free_auto)
    char *drive = im_printf("if=none,id=d,format=raw,read-only=on,file=%s", disk);
    IM_AUTO(free_auto) char *machine = im_printf("q35,accel=%s", accel);
    IM_AUTO(free_auto) char *user = im_printf("%u", (unsigned) uid);
    const struct passwd *entry = other ? getpwuid(uid) : NULL;
    IM_AUTO(free_auto) char *group = im_printf("%u", entry ? (unsigned) entry->pw_gid : 0);
    IM_AUTO(free_auto) char *said = NULL;
    bool kvm = strcmp(accel, "kvm") == 0;
    const char *const argv[] = {"setpriv",
                                "--reuid",
                                user,
                                "--regid",
                                group,
                                entry ? "--init-groups" : "--clear-groups",
                                "qemu-system-x86_64",
                                "-nodefaults",
                                "-no-user-config",
                                "-display",
                                "none",
                                "-machine",
                                machine,
                                "-cpu",
                                kvm ? "host,migratable=off,arch-capabilities=off" : "Nehalem",
                                "-m",
                                "16",
                                "-drive",
                                drive,
                                "-device",
                                "virtio-blk-pci,drive=d",
                                "-chardev",
                                "stdio,id=c",
                                "-device",
                                "isa-debugcon,iobase=0xe9,chardev=c",
                                NULL};

    if (!im_run(other ? argv : argv + 6, NULL, GUEST_MS, &said, err)) {
        if (err->code == IM_TIMEOUT)
            return im_fail(err, IM_TIMEOUT, "a test guest hangs under it");
        return im_within(err, "a test guest does not run under it");
    }
    return im_str_equal(said, "K") ||
           im_fail(err, IM_UNSUPPORTED, "a test guest under it ends without a word");
}

bool virt_kvm_disk(const char *path, struct im_err *err) {
    IM_AUTO(free_auto) char *bytes = im_alloc(GUEST_DISK);

    memcpy(bytes, virt_kvm_guest, sizeof(virt_kvm_guest));
    return im_write_file(path, bytes, GUEST_DISK, 0644, err);
}

/* --- What was found is kept until the host boots again -------------------------------------- */

/* All that may change the answer: the boot, the user, and QEMU itself. */
static char *situation(uid_t uid) {
    IM_AUTO(free_auto) char *boot = NULL;
    struct im_err ignored = {0};
    struct stat st = {0};

    if (!im_read_file("/proc/sys/kernel/random/boot_id", 100, &boot, NULL, &ignored))
        return NULL;
    boot[strcspn(boot, "\n")] = '\0';
    if (stat("/usr/bin/qemu-system-x86_64", &st) < 0)
        memset(&st, 0, sizeof(st));
    return im_printf("%s %d %lld\n", boot, (int) uid, (long long) st.st_mtime);
}

/* The file has the situation in its first line and the reason, empty if KVM works, in the second.
 */
static bool remembered(const char *path, const char *now, char **ret_reason) {
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err ignored = {0};

    if (now == NULL || !im_read_file(path, 4096, &text, NULL, &ignored) ||
        !im_starts_with(text, now) || !im_ends_with(text, "\n"))
        return false;
    *ret_reason = im_strdup(text + strlen(now));
    (*ret_reason)[strcspn(*ret_reason, "\n")] = '\0';
    return true;
}

static void remember(const char *path, const char *now, const char *reason) {
    IM_AUTO(free_auto) char *text = im_printf("%s%s\n", now, reason);
    struct im_err ignored = {0};

    if (strchr(reason, '\n') == NULL)
        (void) !im_write_file(path, text, strlen(text), 0644, &ignored); /* asked again, then */
}

bool virt_kvm_works(const char *state_dir, uid_t uid, struct im_err *err) {
    IM_AUTO(free_auto) char *path = im_printf("%s/kvm", state_dir);
    IM_AUTO(free_auto) char *disk = im_printf("%s/kvm.raw", state_dir);
    IM_AUTO(free_auto) char *now = situation(uid);
    IM_AUTO(free_auto) char *reason = NULL;
    struct im_err why = {0};

    if (!remembered(path, now, &reason)) {
        if (!virt_kvm_disk(disk, err))
            return false;
        reason = im_strdup(virt_kvm_try(disk, uid, "kvm", &why) ? "" : why.text);
        unlink(disk);
        if (now != NULL)
            remember(path, now, reason);
    }
    return reason[0] == '\0' || im_fail(err, IM_UNSUPPORTED, "%s", reason);
}
