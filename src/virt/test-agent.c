/* SPDX-License-Identifier: Apache-2.0 */
/* A real guest agent: needs a disk image of a Linux that runs one, named by IMPRINT_TEST_IMAGE (a
 * qcow2 file, as tools/build-debian-image makes it), and minutes. The image is not changed. */
#include "virt-private.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "harness/test.h"
#include "test-guest.h"

/* A first boot on an emulated processor. */
enum { BOOT_MS = 900000 };

static const char key[] = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHYTHbBEdLArxa9ODiVmlKN4jxFOSOqRrAs"
                          "kNIpbxilP kp-aaaaaaaa";

static bool start(struct virt *virt, const char *image, struct im_err *err) {
    const struct virt_layer layers[] = {{guest_head, "qcow2"}, {image, "qcow2"}};
    const struct virt_disk disk = {"i-nano", layers, 2, false};
    const struct virt_nic nic = {.kind = VIRT_NIC_USER, .mac = "52:54:00:12:34:57"};

    return virt_start(virt,
                      &(struct virt_machine){.name = "i-nano",
                                             .uuid = "5b6d0b2e-8f3e-4d0c-9c6f-0d3a0a4b1c30",
                                             .vcpus = 2,
                                             .memory_mib = 512,
                                             .firmware = "bios",
                                             .disks = &disk,
                                             .disk_count = 1,
                                             .nics = &nic,
                                             .nic_count = 1},
                      err);
}

static bool agent_tells(struct virt *virt, struct virt_info *ret_info) {
    int64_t deadline = im_mono_ms() + BOOT_MS;
    struct im_err err = {0};

    while (im_mono_ms() < deadline && virt_info(virt, "i-nano", ret_info, &err)) {
        if (ret_info->agent_connected && ret_info->hostname[0] != '\0' && ret_info->ip[0] != '\0')
            return true;
        im_sleep_ms(1000);
    }
    test_note("agent %s, host name %s, address %s", ret_info->agent_connected ? "there" : "missing",
              ret_info->hostname, ret_info->ip);
    return false;
}

static void test_agent(struct virt *virt) {
    const char *const keys[] = {key};
    struct virt_info info = {0};
    bool frozen = false, hooked = true;

    check(agent_tells(virt, &info), "its agent tells name and address");
    check(strcmp(info.ip, "10.0.2.15") == 0, "the address is %s, the name %s", info.ip,
          info.hostname);
    check_ok(virt_fs_freeze(virt, "i-nano", 60000, &frozen, &err), "its file systems are frozen");
    check(frozen, "really");
    check_ok(virt_fs_thaw(virt, "i-nano", &err), "and thawed");
    check_ok(virt_fs_hooked(virt, "i-nano", 60000, &hooked, &err), "whether by a hook, is told");
    check(!hooked, "by none");
    check_ok(virt_set_password(virt, "i-nano", "root", VIRT_SECRET_HASH, "$6$x$a; $(x)", &err),
             "a password by its hash");
    check_ok(virt_set_password(virt, "i-nano", "root", VIRT_SECRET_PLAIN, "a Passw0rd; $(x)", &err),
             "or as it is");
    check_err(virt_set_password(virt, "i-nano", "nobody-there", VIRT_SECRET_HASH, "x", &err),
              IM_INTERNAL, "of a user who is not there");
    check_ok(virt_authorized_keys(virt, "i-nano", "root", keys, 1, false, &err), "a key goes in");
    check_ok(virt_authorized_keys(virt, "i-nano", "root", keys, 1, true, &err), "and out again");
    check_ok(virt_shutdown(virt, "i-nano", &err), "it is asked to power off");
    check_ok(virt_wait_off(virt, "i-nano", GUEST_PATIENCE_MS, NULL, &err), "and does");
}

int main(void) {
    const char *image = getenv("IMPRINT_TEST_IMAGE");
    IM_AUTO(free_auto) char *uri = NULL;
    struct im_err err = {0};
    struct virt *virt;

    if (image == NULL || image[0] != '/')
        test_skip_all("IMPRINT_TEST_IMAGE names no image");
    guest_set_paths(test_folder(), "libvirt/run/qemu");
    atexit(guest_kill);
    chmod(guest_folder, 0755);
    uri = im_printf("qemu:///embed?root=%s/libvirt", guest_folder);
    check(guest_overlay(guest_head, image, "qcow2"), "an overlay on %s", image);
    virt = virt_open(&(struct virt_config){uri, "auto", 0, guest_state_dir, guest_user}, NULL, NULL,
                     &err);
    if (!check(virt != NULL, "open: %s", err.text))
        return test_end();
    check_ok(start(virt, image, &err), "it starts");
    test_agent(virt);
    check_ok(virt_destroy(virt, "i-nano", &err), "destroy");
    virt_close(virt);
    return test_end();
}
