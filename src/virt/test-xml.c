/* SPDX-License-Identifier: Apache-2.0 */
/* What a machine consists of, in the XML that libvirt gets. */
#include "virt-private.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "harness/test.h"

static const struct virt_layer layers[] = {
    {"/pool/head", "qcow2"}, {"/pool/middle", "qcow2"}, {"/pool/base", "raw"}};
static const struct virt_layer seed_layer = {"/seeds/i-one.iso", "raw"};
static const struct virt_disk disks[] = {{"i-one", layers, 3, false},
                                         {"seed", &seed_layer, 1, true}};
static const struct virt_nic nics[] = {
    {.kind = VIRT_NIC_BRIDGE, .mac = "52:54:00:00:00:01", .bridge = "imbr0", .tap = "im1"},
    {.kind = VIRT_NIC_USER, .mac = "52:54:00:00:00:02", .ssh_port = 2222},
};

static struct virt_machine plain(void) {
    return (struct virt_machine){.name = "i-one",
                                 .uuid = "5b6d0b2e-8f3e-4d0c-9c6f-0d3a0a4b1c2d",
                                 .title = "a <b> & 'c' \"d\"",
                                 .vcpus = 4,
                                 .memory_mib = 1536,
                                 .firmware = "bios",
                                 .disks = disks,
                                 .disk_count = 2,
                                 .nics = nics,
                                 .nic_count = 2,
                                 .graphics_passwd = "12345678901234"};
}

static char *xml_of(const struct virt_machine *machine, struct virt_xml_options options) {
    struct im_err err = {0};
    char *xml = NULL;

    options.owner = "/state";
    options.log_path = "/state/console/i-one.log";
    if (!check(virt_domain_xml(machine, &options, &xml, &err), "XML for %s: %s", options.type,
               err.text))
        return im_strdup("");
    return xml;
}

static unsigned count(const char *xml, const char *what) {
    unsigned n = 0;

    for (const char *at = strstr(xml, what); at != NULL; at = strstr(at + 1, what))
        n++;
    return n;
}

static void has(const char *xml, const char *what, const char *claim) {
    check(count(xml, what) == 1, "%s", claim);
}

static void test_plain(void) {
    struct virt_machine machine = plain();
    IM_AUTO(free_auto) char *xml = xml_of(&machine, (struct virt_xml_options){.type = "qemu"});

    has(xml, "machine='q35'", "a q35");
    has(xml, "<title>a &lt;b&gt; &amp; &apos;c&apos; &quot;d&quot;</title>", "its title is text");
    has(xml, "<memory unit='MiB'>1536</memory>", "its memory");
    has(xml, "<vcpu placement='static'>4</vcpu>", "its CPUs");
    check(count(xml, "model='pcie-root-port'") == 3 + 1 + 1 + VIRT_DISKS_MAX,
          "a port for each disk that may be plugged in, beside all else");
    has(xml, "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
        "virtio-rng");
    has(xml, "<tb-cache unit='MiB'>128</tb-cache>", "TCG's cache is bounded");
    has(xml, "<model fallback='allow'>Nehalem</model>", "with a CPU that TCG can do");
    has(xml, "<target type='virtio' name='org.qemu.guest_agent.0'/>", "the agent's channel");
    has(xml, "<log file='/state/console/i-one.log' append='on'/>", "the console's log");
    has(xml, "<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1' passwd='12345678'/>",
        "VNC for this host alone, with a password of eight");
    has(xml, "owner='/state'", "the mark of its owner");
    check(strstr(xml, "<emulator>") == NULL && strstr(xml, "<loader") == NULL &&
              strstr(xml, "<topology") == NULL,
          "nothing else than asked for");
}

/* Nothing is left to find out from what a guest may have written, and no file changes hands. */
static void test_disks(void) {
    struct virt_machine machine = plain();
    IM_AUTO(free_auto) char *xml = xml_of(&machine, (struct virt_xml_options){.type = "qemu"});

    has(xml, "<target dev='vda' bus='virtio'/>\n<serial>i-one</serial>\n<boot order='1'/>",
        "the first disk boots, by virtio, with its serial");
    check(count(xml, "<backingStore type='file'><format type='qcow2'/>") == 1 &&
              count(xml, "<backingStore type='file'><format type='raw'/>") == 1 &&
              count(xml, "<backingStore/>") == 2 && count(xml, "</backingStore>") == 2,
          "each layer's format is told, and where the chain ends");
    check(count(xml, "<source file='") == 4 &&
              count(xml, "<seclabel model='dac' relabel='no'/></source>") == 4,
          "no layer is given to another owner");
    has(xml, "<target dev='vdb' bus='virtio'/>\n<serial>seed</serial>\n<readonly/>",
        "the seed is read-only, and no CD");
}

static void test_network(void) {
    struct virt_machine machine = plain();
    const struct virt_nic nic = {.kind = VIRT_NIC_USER,
                                 .mac = "52:54:00:00:00:03",
                                 .ssh_port = 2222,
                                 .isolated = true,
                                 .mirror_port = 4711};
    IM_AUTO(free_auto) char *xml = xml_of(&machine, (struct virt_xml_options){.type = "qemu"});
    IM_AUTO(free_auto) char *alone = NULL;

    has(xml,
        "<interface type='bridge'>\n<mac address='52:54:00:00:00:01'/>\n<source bridge='imbr0'/>\n"
        "<target dev='im1'/>\n<model type='virtio'/>",
        "a card on the bridge");
    has(xml, "user,id=imnet1,hostfwd=tcp:127.0.0.1:2222-:22",
        "one on QEMU's own network, with SSH");
    has(xml, "netdev=imnet1,id=imnic1,mac=52:54:00:00:00:02,", "and its address");
    check(strstr(xml, "restrict=on") == NULL && strstr(xml, "filter-mirror") == NULL,
          "it is open, and nobody listens");
    alone = xml_of(&(struct virt_machine){.name = "bt-one",
                                          .firmware = "bios",
                                          .nics = &nic,
                                          .nic_count = 1,
                                          .firmware_log = true},
                   (struct virt_xml_options){.type = "qemu", .firmware_log_path = "/s/f.log"});
    has(alone, "user,id=imnet0,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22'",
        "a network that nothing leaves");
    has(alone, "'filter-mirror,id=imfilter0,netdev=imnet0,queue=all,outdev=immirror0'",
        "of which frames are copied");
    has(alone, "'udp,id=immirror0,host=127.0.0.1,port=4711'", "to a port of this host");
    has(alone, "<serial type='null'>\n<log file='/s/f.log' append='on'/>", "the firmware's log");
}

static void test_choices(void) {
    struct virt_machine machine = plain();
    IM_AUTO(free_auto) char *kvm = NULL;
    IM_AUTO(free_auto) char *chosen = NULL;
    char *none = NULL;

    machine.sockets = 2, machine.cores = 2, machine.threads = 1;
    kvm = xml_of(&machine, (struct virt_xml_options){.type = "kvm", .emulator = "/opt/qemu"});
    has(kvm, "<domain type='kvm'", "under KVM");
    has(kvm, "mode='host-passthrough'", "the host's CPU");
    check(strstr(kvm, "tb-cache") == NULL, "no cache of TCG's");
    has(kvm, "<topology sockets='2' dies='1' cores='2' threads='1'/>", "a topology");
    has(kvm, "<emulator>/opt/qemu</emulator>", "another QEMU");
    machine.vcpus = 3;
    machine.cpu_model = "Westmere";
    chosen = xml_of(&machine, (struct virt_xml_options){.type = "qemu",
                                                        .tb_cache_mib = 48,
                                                        .loader = "/code",
                                                        .nvram = "/state/nvram/i-one.fd",
                                                        .nvram_template = "/vars"});
    check(strstr(chosen, "<topology") == NULL, "one that does not fit the CPUs is left out");
    has(chosen, "<model fallback='allow'>Westmere</model>", "a CPU of choice");
    has(chosen, "<tb-cache unit='MiB'>48</tb-cache>", "a bound of choice");
    has(chosen,
        "<loader readonly='yes' type='pflash'>/code</loader>\n"
        "<nvram template='/vars'>/state/nvram/i-one.fd</nvram>",
        "UEFI with variables of its own");
    machine.title = "\x01";
    check_err(virt_domain_xml(&machine, &(struct virt_xml_options){.type = "qemu", .owner = "/s"},
                              &none, &err),
              IM_INTERNAL, "what XML cannot say is refused");
}

int main(void) {
    test_plain();
    test_disks();
    test_network();
    test_choices();
    return test_end();
}
