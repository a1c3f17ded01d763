/* SPDX-License-Identifier: Apache-2.0 */
/* A machine as libvirt's XML: q35, virtio everywhere, every format and the whole chain of layers
 * given explicitly. */
#include <inttypes.h>
#include <stdio.h>

#include "base/str.h"
#include "virt-private.h"

enum { SPARE_PORTS = 10 }; /* q35 has one free slot for hot-plug by itself */

/* Adds text with the five characters that XML minds escaped, and none that XML 1.0 forbids. */
static void add_text(struct im_str *xml, const char *text) {
    for (const char *p = text ? text : ""; *p != '\0'; p++) {
        switch (*p) {
        case '&':
            im_str_add(xml, "&amp;");
            break;
        case '<':
            im_str_add(xml, "&lt;");
            break;
        case '>':
            im_str_add(xml, "&gt;");
            break;
        case '"':
            im_str_add(xml, "&quot;");
            break;
        case '\'':
            im_str_add(xml, "&apos;");
            break;
        default:
            if ((unsigned char) *p >= ' ')
                im_str_add_char(xml, *p);
        }
    }
}

static void add_tag(struct im_str *xml, const char *tag, const char *text) {
    im_str_addf(xml, "<%s>", tag);
    add_text(xml, text);
    im_str_addf(xml, "</%s>", tag);
}

/* One layer with those below it. libvirt neither probes the chain nor changes owners: both are ours
 * to know. */
static void add_source(struct im_str *xml, const char *path) {
    im_str_add(xml, "<source file='");
    add_text(xml, path);
    im_str_add(xml, "'><seclabel model='dac' relabel='no'/></source>");
}

static void add_disk(struct im_str *xml, const struct virt_disk *disk, size_t number) {
    im_str_addf(xml, "<disk type='file' device='disk'><driver name='qemu' type='%s'%s/>",
                disk->layers[0].format,
                disk->read_only ? "" : " discard='unmap' detect_zeroes='unmap'");
    add_source(xml, disk->layers[0].path);
    for (size_t i = 1; i < disk->layer_count; i++) {
        im_str_addf(xml, "<backingStore type='file'><format type='%s'/>", disk->layers[i].format);
        add_source(xml, disk->layers[i].path);
    }
    im_str_add(xml, "<backingStore/>");
    for (size_t i = 1; i < disk->layer_count; i++)
        im_str_add(xml, "</backingStore>");
    im_str_addf(xml, "<target dev='vd%c' bus='virtio'/>", (int) ('a' + number));
    add_tag(xml, "serial", disk->serial);
    if (disk->read_only)
        im_str_add(xml, "<readonly/>");
    if (number == 0)
        im_str_add(xml, "<boot order='1'/>");
    im_str_add(xml, "</disk>");
}

static void add_bridge_nic(struct im_str *xml, const struct virt_nic *nic) {
    im_str_add(xml, "<interface type='bridge'><mac address='");
    add_text(xml, nic->mac);
    im_str_add(xml, "'/><source bridge='");
    add_text(xml, nic->bridge);
    im_str_add(xml, "'/><model type='virtio'/>");
    if (nic->tap != NULL) {
        im_str_add(xml, "<target dev='");
        add_text(xml, nic->tap);
        im_str_add(xml, "'/>");
    }
    im_str_add(xml, "</interface>");
}

/* libvirt 9 ignores portForward of user-mode networks, so the card is QEMU's own words, on a slot
 * libvirt leaves alone. */
static void add_user_nics(struct im_str *xml, const struct virt_machine *machine) {
    im_str_add(xml, "<qemu:commandline>");
    for (size_t i = 0; i < machine->nic_count; i++) {
        const struct virt_nic *nic = &machine->nics[i];

        if (nic->kind != VIRT_NIC_USER)
            continue;
        im_str_addf(xml, "<qemu:arg value='-netdev'/><qemu:arg value='user,id=net%zu", i);
        if (nic->ssh_port > 0)
            im_str_addf(xml, ",hostfwd=tcp:127.0.0.1:%d-:22", nic->ssh_port);
        im_str_addf(
            xml,
            "'/><qemu:arg value='-device'/><qemu:arg value='virtio-net-pci,netdev=net%zu,mac=", i);
        add_text(xml, nic->mac);
        im_str_addf(xml, ",bus=pcie.0,addr=0x%zx'/>", 0x10 + i);
    }
    im_str_add(xml, "</qemu:commandline>");
}

static void add_cpu(struct im_str *xml, const struct virt_machine *machine, bool kvm,
                    int tb_cache_mib) {
    bool host = im_str_empty(machine->cpu_model) && kvm;

    if (host) {
        im_str_add(xml, "<cpu mode='host-passthrough' check='none' migratable='off'>");
    } else {
        im_str_add(xml, "<cpu mode='custom' match='exact' check='none'><model fallback='allow'>");
        add_text(xml, im_str_empty(machine->cpu_model) ? "Nehalem" : machine->cpu_model);
        im_str_add(xml, "</model>");
    }
    if (machine->sockets > 0)
        im_str_addf(xml, "<topology sockets='%u' dies='1' cores='%u' threads='%u'/>",
                    machine->sockets, machine->cores, machine->threads);
    /* Nested hosts offer this register and refuse its value, whereupon QEMU aborts. Without it the
     * guest takes itself for vulnerable, which is the safe side. */
    if (host)
        im_str_add(xml, "<feature policy='disable' name='arch-capabilities'/>");
    im_str_add(xml, "</cpu><features><acpi/><apic/>");
    /* Without a bound TCG's cache grows to a gigabyte. */
    if (!kvm)
        im_str_addf(xml, "<tcg><tb-cache unit='MiB'>%d</tb-cache></tcg>", tb_cache_mib);
    im_str_add(xml, "</features>");
}

static void add_console(struct im_str *xml, const struct virt_machine *machine,
                        const char *console) {
    im_str_add(xml, "<serial type='unix'><source mode='bind' path='");
    add_text(xml, console);
    im_str_addf(xml, "/%s.sock'/><log file='", machine->name);
    add_text(xml, console);
    im_str_addf(xml, "/%s.log' append='on'/><target port='0'/></serial>", machine->name);
    im_str_add(
        xml, "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
             "<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'");
    if (!im_str_empty(machine->graphics_passwd)) {
        im_str_add(xml, " passwd='");
        for (size_t i = 0; i < 8 && machine->graphics_passwd[i] != '\0'; i++)
            add_text(xml, (const char[]){machine->graphics_passwd[i], '\0'});
        im_str_add(xml, "'");
    }
    im_str_add(xml, "/><video><model type='vga'/></video>");
}

char *domain_xml(const struct virt_machine *machine, bool kvm, int tb_cache_mib,
                 const char *console) {
    struct im_str xml = {0};

    im_str_addf(&xml, "<domain type='%s' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>",
                kvm ? "kvm" : "qemu");
    add_tag(&xml, "name", machine->name);
    add_tag(&xml, "uuid", machine->uuid);
    if (!im_str_empty(machine->title))
        add_tag(&xml, "title", machine->title);
    im_str_addf(&xml, "<memory unit='MiB'>%" PRIu64 "</memory><vcpu>%u</vcpu>", machine->memory_mib,
                machine->vcpus);
    im_str_addf(&xml, "<os%s><type arch='x86_64' machine='q35'>hvm</type></os>",
                im_str_equal(machine->firmware, "uefi") ? " firmware='efi'" : "");
    add_cpu(&xml, machine, kvm, tb_cache_mib);
    im_str_add(&xml, "<clock offset='utc'/><on_poweroff>destroy</on_poweroff><on_reboot>restart"
                     "</on_reboot><on_crash>destroy</on_crash><devices>");
    im_str_add(&xml, "<controller type='pci' index='0' model='pcie-root'/>");
    for (int i = 0; i < SPARE_PORTS; i++)
        im_str_add(&xml, "<controller type='pci' model='pcie-root-port'/>");
    for (size_t i = 0; i < machine->disk_count; i++)
        add_disk(&xml, &machine->disks[i], i);
    for (size_t i = 0; i < machine->nic_count; i++)
        if (machine->nics[i].kind == VIRT_NIC_BRIDGE)
            add_bridge_nic(&xml, &machine->nics[i]);
    add_console(&xml, machine, console);
    im_str_add(&xml, "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
                     "<memballoon model='virtio'/></devices>");
    add_user_nics(&xml, machine);
    im_str_add(&xml, "</domain>");
    return im_str_take(&xml);
}
