/* SPDX-License-Identifier: Apache-2.0 */
/* A machine with UEFI firmware on real QEMU: it boots a small disk, and its variables are its own,
 * are kept, and go when it is forgotten. The loader is GRUB's, as it can speak and power off. */
#include "virt-private.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "harness/test.h"
#include "test-guest.h"

static char *disk_path;

static bool run(const char *const argv[]) {
    struct im_err err = {0};

    if (im_run(argv, NULL, 60000, NULL, &err))
        return true;
    test_note("%s", err.text);
    return false;
}

/* A FAT disk with the loader where firmware looks when its variables name none. */
static bool make_disk(void) {
    IM_AUTO(free_auto) char *config = im_printf("%s/grub.cfg", guest_folder);
    IM_AUTO(free_auto) char *loader = im_printf("%s/loader", guest_folder);
    const struct passwd *user = im_str_empty(guest_user) ? NULL : getpwnam(guest_user);
    static const char text[] = "serial --unit=0\nterminal_output serial\necho 'UEFI up'\nhalt\n";
    struct im_err err = {0};

    return im_write_file(config, text, strlen(text), 0600, &err) &&
           run((const char *[]){"grub-mkimage", "-O", "x86_64-efi", "-o", loader, "-p", "/", "-c",
                                config, "serial", "terminal", "echo", "halt", NULL}) &&
           run((const char *[]){"mkfs.vfat", "-C", disk_path, "16384", NULL}) &&
           run((const char *[]){"mmd", "-i", disk_path, "::/EFI", "::/EFI/BOOT", NULL}) &&
           run((const char *[]){"mcopy", "-i", disk_path, loader, "::/EFI/BOOT/BOOTX64.EFI",
                                NULL}) &&
           (user == NULL || chown(disk_path, user->pw_uid, user->pw_gid) == 0);
}

static bool start(struct virt *virt, struct im_err *err) {
    const struct virt_layer layer = {disk_path, "raw"};
    const struct virt_disk disk = {"i-nano", &layer, 1, false};

    return virt_start(virt,
                      &(struct virt_machine){.name = "i-nano",
                                             .uuid = "5b6d0b2e-8f3e-4d0c-9c6f-0d3a0a4b1c2f",
                                             .vcpus = 1,
                                             .memory_mib = 128,
                                             .firmware = "uefi",
                                             .disks = &disk,
                                             .disk_count = 1},
                      err);
}

static void test_boot(struct virt *virt) {
    IM_AUTO(free_auto) char *variables = virt_nvram_path(guest_state_dir, "i-nano");
    struct stat first = {0}, second = {0};

    check_ok(start(virt, &err), "a machine with UEFI starts");
    check(stat(variables, &first) == 0 && first.st_size > 0, "it has variables of its own");
    check(guest_said("UEFI up"), "it boots from its disk");
    check_ok(virt_wait_off(virt, "i-nano", GUEST_PATIENCE_MS, NULL, &err), "it powers off");
    check(truncate(guest_log, 0) == 0, "its log is emptied");
    check_ok(start(virt, &err), "it starts again");
    check(stat(variables, &second) == 0 && first.st_ino == second.st_ino,
          "with the same variables");
    check(guest_said("UEFI up"), "and boots again");
    check_ok(virt_destroy(virt, "i-nano", &err), "destroy");
    check(access(variables, F_OK) == 0, "its variables are kept");
    virt_forget(virt, "i-nano");
    check(access(variables, F_OK) < 0, "until it is forgotten");
}

int main(void) {
    static const char *const programs[] = {"qemu-system-x86_64", "grub-mkimage", "mmd"};
    struct im_err err = {0};
    IM_AUTO(free_auto) char *uri = NULL;
    struct virt *virt;

    for (size_t i = 0; i < sizeof(programs) / sizeof(*programs); i++)
        if (!guest_have(programs[i]))
            test_skip_all("QEMU, GRUB or mtools is not installed");
    if (access("/usr/sbin/mkfs.vfat", X_OK) < 0 ||
        access("/usr/share/OVMF/OVMF_CODE_4M.fd", R_OK) < 0 ||
        access("/usr/lib/grub/x86_64-efi/halt.mod", R_OK) < 0)
        test_skip_all("mkfs.vfat, OVMF or GRUB for it is not installed");
    guest_set_paths(test_folder(), "libvirt/run/qemu");
    atexit(guest_kill);
    chmod(guest_folder, 0755);
    disk_path = im_printf("%s/disk", guest_folder);
    uri = im_printf("qemu:///embed?root=%s/libvirt", guest_folder);
    check(make_disk(), "a disk with a loader");
    virt = virt_open(&(struct virt_config){uri, "tcg", 64, guest_state_dir, guest_user}, NULL, NULL,
                     &err);
    if (check(virt != NULL, "open: %s", err.text))
        test_boot(virt);
    if (virt != NULL)
        virt_close(virt);
    return test_end();
}
