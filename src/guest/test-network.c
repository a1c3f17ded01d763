/* SPDX-License-Identifier: Apache-2.0 */
/* Repairs of networks: each defect of test-defects.c that has to do with one is mended, and the
 * mended disk has none; then, of each system, what is written. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "guest/repair.h"
#include "harness/test.h"
#include "test-systems.h"

/* All codes of networks are asked for by name. */
static struct guest_plan *plan_of(struct disk *disk, bool all) {
    static const char *const codes[] = {"network.mac", "network.address", "network.name",
                                        "network.none"};
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    struct guest_source source = {read_disk, disk, disk->len};
    struct guest_wish wish = {.all = all};
    struct guest_plan *plan = NULL;
    struct im_err err = {0};

    for (size_t i = 0; !all && i < sizeof(codes) / sizeof(codes[0]); i++)
        im_strings_add(&wish.only, codes[i]);
    if (!guest_plan(&source, &wish, &found, &plan, &err))
        check(false, "planning fails: %s", err.text);
    im_strings_done(&wish.only);
    return plan;
}

static void tell(const struct guest_plan *plan) {
    for (size_t i = 0; i < plan->repair_count; i++)
        test_note("%d %s: %s", plan->repairs[i].done, plan->repairs[i].code, plan->repairs[i].text);
    for (size_t i = 0; i < plan->change_count; i++)
        test_note("%s", plan->changes[i].diff);
    for (size_t i = 0; i < plan->steps.count; i++)
        test_note("%s", plan->steps.items[i]);
}

/* The codes of networks that the disk of these parts has once the plan is done; owned. */
static char *left_after(const struct entry *const parts[2], const struct guest_plan *plan) {
    IM_AUTO(free_auto) struct entry *edits = im_alloc((plan->edit_count + 1) * sizeof(*edits));
    const struct entry *const all[] = {parts[0], parts[1], edits};
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    struct im_str left = {0};
    struct disk disk;
    size_t count = 0;

    for (size_t i = 0; i < plan->edit_count; i++) {
        const struct guest_edit *edit = &plan->edits[i];

        if (edit->kind == GUEST_EDIT_WRITE || edit->kind == GUEST_EDIT_REMOVE)
            edits[count++] = (struct entry){edit->path, (const char *) edit->data};
    }
    disk = make_system(all, 3);
    if (disk.bytes == NULL)
        return im_strdup("no disk");
    found = look(&disk);
    for (size_t i = 0; i < found->finding_count; i++)
        if (im_starts_with(found->findings[i].code, "network."))
            im_str_addf(&left, "%s ", found->findings[i].code);
    drop_disk(&disk);
    return im_str_take(&left);
}

/* `diff` is what a change has somewhere; NULL = anything. `can`: it is mended, or said to be not.
 */
static void mends(const char *family, const char *name, const struct entry *entries, bool can,
                  const char *diff) {
    const struct entry *const parts[] = {family_named(family)->entries, entries};
    struct disk disk = make_system(parts, 2);
    IM_AUTO(guest_plan_free_auto) struct guest_plan *plan = NULL;
    IM_AUTO(free_auto) char *left = NULL;
    bool seen = diff == NULL, done = true;

    if (disk.bytes == NULL)
        return;
    plan = plan_of(&disk, false);
    drop_disk(&disk);
    if (plan == NULL)
        return;
    for (size_t i = 0; i < plan->change_count; i++)
        seen |= diff != NULL && strstr(plan->changes[i].diff, diff) != NULL;
    for (size_t i = 0; i < plan->repair_count; i++)
        done &= plan->repairs[i].done;
    left = can ? left_after(parts, plan) : im_strdup("");
    if (!check(done == can && plan->repair_count > 0 && seen && left[0] == '\0' &&
                   (can || plan->edit_count == 0),
               "%s, %s: %s [%s]", family, name, can ? "mended" : "cannot be mended", left))
        tell(plan);
}

static void test_defects(void) {
    for (size_t i = 0; i < defect_count; i++)
        if (strstr(defects[i].codes, "network.") != NULL)
            mends(defects[i].family, defects[i].name, defects[i].entries,
                  strcmp(defects[i].family, "FreeBSD") != 0, NULL);
}

static void test_words(void) {
    static const struct entry name[] = {
        {"/etc/network/interfaces", "auto lo ens3\niface lo inet loopback\niface ens3 inet dhcp\n"
                                    "iface ens3 inet6 auto\n"},
        {0}};
    static const struct entry old[] = {
        {"/lib/udev/ifupdown-hotplug", NULL},
        {"/etc/network/interfaces", "allow-hotplug ens3\niface ens3 inet dhcp\n"},
        {0}};
    static const struct entry both[] = {
        {"/etc/cloud/cloud.cfg", NULL},
        {"/etc/systemd/network/80-ethernet.network",
         "[Match]\nMACAddress=52:54:00:12:34:56\nName=ens3\n\n[Network]\nDHCP=yes\n"},
        {0}};
    static const struct entry enabled[] = {
        {"/etc/netctl/lan", "Interface=eth0\nConnection=ethernet\nIP=dhcp\n"},
        {"/etc/systemd/system/netctl@lan.service.d/profile.conf",
         "[Unit]\nBindsTo=sys-subsystem-net-devices-eth0.device\n"},
        {0}};
    static const struct entry managed[] = {
        {"/etc/cloud/cloud.cfg", NULL},
        {"/usr/lib/NetworkManager/conf.d/00-server.conf", "[main]\nno-auto-default=*\n"},
        {"/etc/NetworkManager/system-connections/eth0.nmconnection", NULL},
        {"/etc/sysconfig/network-scripts/ifcfg-ens192",
         "DEVICE=ens192\nBOOTPROTO=dhcp\nONBOOT=yes\nHWADDR=52:54:00:12:34:56\n"},
        {0}};
    static const struct entry vendor[] = {
        {"/etc/cloud/cloud.cfg", NULL},
        {"/etc/systemd/network/80-ethernet.network", NULL},
        {"/usr/lib/systemd/network/70-own.network", "[Match]\nName=ens3\n[Network]\nDHCP=yes\n"},
        {0}};
    static const struct entry cloud[] = {
        /* without it, an earlier file turns it off */
        {"/etc/netplan/90-default.yaml", NULL},
        {"/etc/cloud/cloud.cfg.d/50-off.cfg", "network: {config: disabled}\n"},
        {"/etc/cloud/cloud.cfg.d/60-network.cfg",
         "network:\n  version: 1\n  config:\n  - type: physical\n    name: ens3\n"
         "    subnets:\n    - type: dhcp\nother: 1\n"},
        {0}};
    static const struct {
        const char *family, *name;
        const struct entry *entries;
        const char *diff;
    } rows[] = {
        {"Debian, installed", "a pattern", name,
         "-auto lo ens3\n+auto lo\n+auto /en*=ens3 /eth*=ens3\n iface lo"},
        {"Debian, installed", "which waits for cards", name, "+After=systemd-udev-settle.service"},
        {"Debian, installed", "no patterns yet", old,
         "+allow-hotplug enp1s0\n+iface enp1s0 inet dhcp\n+\n+allow-hotplug enp0s16\n"},
        {"Arch", "by MAC address and name", both,
         "-MACAddress=52:54:00:12:34:56\n-Name=ens3\n+Name=en* eth*\n"},
        {"Arch, netctl", "a unit for one name", enabled,
         "+BindsTo=sys-subsystem-net-devices-enp1s0.device"},
        {"Rocky 9", "an ifcfg that NetworkManager reads", managed,
         "-DEVICE=ens192\n+TYPE=Ethernet\n BOOTPROTO=dhcp\n ONBOOT=yes\n-HWADDR="},
        {"Debian 12", "cloud-init's own words go", cloud, "+#    - type: dhcp\n other: 1\n"},
        {"Debian 12", "and others are needed", cloud, "+++ b/etc/netplan/90-dhcp.yaml"},
        {"Arch", "what the vendor wrote", vendor,
         "--- /dev/null\n+++ b/etc/systemd/network/70-own.network"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        mends(rows[i].family, rows[i].name, rows[i].entries, true, rows[i].diff);
}

/* A fixed address stays where nobody says that it shall not. */
static void test_asked(void) {
    static const struct entry fixed[] = {
        {"/etc/network/interfaces",
         "auto lo\niface lo inet loopback\nauto enp1s0\niface enp1s0 inet static\n"
         "  address 10.0.0.5/24\n"},
        {0}};
    const struct entry *const parts[] = {family_named("Debian, installed")->entries, fixed};
    struct disk disk = make_system(parts, 2);
    IM_AUTO(guest_plan_free_auto) struct guest_plan *plan = NULL;

    if (disk.bytes == NULL)
        return;
    plan = plan_of(&disk, true);
    if (plan != NULL &&
        !check(plan->edit_count == 0 && plan->repair_count == 1 && !plan->repairs[0].done &&
                   strstr(plan->repairs[0].text, "--only network.address") != NULL,
               "a fixed address stays unless its code is named"))
        tell(plan);
    drop_disk(&disk);
}

int main(void) {
    test_asked();
    test_words();
    test_defects();
    return test_end();
}
