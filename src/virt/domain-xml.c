/* SPDX-License-Identifier: Apache-2.0 */
/* A machine as libvirt's XML text, and the few things we read back from such text. Every value is
 * escaped; there is no other place that writes XML. */
#include "virt-private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

/* Each root port takes one device. The fixed ones are the serial channel's controller, the balloon
 * and the source of random numbers; one more stays free for what an operator plugs in by hand. */
enum { FIXED_DEVICES = 3, SPARE_PORTS = 1, USER_NIC_SLOT = 0x10 };

struct xml {
    struct im_str text;
    bool unspeakable; /* a value had a character that XML cannot carry at all */
};

static void xml_value(struct xml *xml, const char *value) {
    static const struct {
        char c;
        const char *as;
    } escapes[] = {{'&', "&amp;"},   {'<', "&lt;"},  {'>', "&gt;"},  {'"', "&quot;"},
                   {'\'', "&apos;"}, {'\t', "&#9;"}, {'\n', "&#10;"}};

    if (!im_utf8_valid(value, strlen(value)))
        xml->unspeakable = true;
    for (const char *p = value; *p != '\0'; p++) {
        const char *as = NULL;

        for (size_t i = 0; i < sizeof(escapes) / sizeof(*escapes); i++)
            if (escapes[i].c == *p)
                as = escapes[i].as;
        if (as != NULL)
            im_str_add(&xml->text, as);
        else if ((unsigned char) *p < 0x20 || *p == 0x7f)
            xml->unspeakable = true;
        else
            im_str_add_char(&xml->text, *p);
    }
}

/* Adds `format` with each '@' replaced by the next value, escaped. All values are strings; NULL is
 * the empty one. */
static void add(struct xml *xml, const char *format, ...) {
    va_list values;

    va_start(values, format);
    for (const char *p = format; *p != '\0'; p++) {
        if (*p == '@') {
            const char *value = va_arg(values, const char *);

            xml_value(xml, value ? value : "");
        } else {
            im_str_add_char(&xml->text, *p);
        }
    }
    va_end(values);
}

static void add_number(struct xml *xml, const char *before, uint64_t number, const char *after) {
    im_str_addf(&xml->text, "%s%llu%s", before, (unsigned long long) number, after);
}

void virt_disk_target(size_t index, char out[8]) {
    if (index < 26)
        snprintf(out, 8, "vd%c", (char) ('a' + index));
    else
        snprintf(out, 8, "vd%c%c", (char) ('a' + index / 26 - 1), (char) ('a' + index % 26));
}

/* We own our layers' permissions (frozen ones are read-only and not QEMU's): libvirt must neither
 * chown them at start nor "restore" root at stop. */
static void add_source(struct xml *xml, const char *path) {
    add(xml, "<source file='@'><seclabel model='dac' relabel='no'/></source>\n", path);
}

/* The whole chain with its formats, ended by an empty element: nothing is left for libvirt or QEMU
 * to find out from file contents, which a guest may have written. */
static void add_chain(struct xml *xml, const struct virt_disk *disk) {
    for (size_t i = 1; i < disk->layer_count; i++) {
        add(xml, "<backingStore type='file'><format type='@'/>", disk->layers[i].format);
        add_source(xml, disk->layers[i].path);
    }
    add(xml, "<backingStore/>\n");
    for (size_t i = 1; i < disk->layer_count; i++)
        add(xml, "</backingStore>\n");
}

/* cache='writeback': what the guest flushes is on the disk when its flush returns, so its journals
 * hold through a power cut of the host; the many machines cast from one image read it from one copy
 * in the page cache, where cache='none' would keep none and read the disk for each; and it works on
 * tmpfs and overlays, which refuse O_DIRECT. io='threads' because the others want O_DIRECT.
 * discard and detect_zeroes give freed space back to the pool. */
static void add_disk(struct xml *xml, const struct virt_disk *disk, const char *target, bool boots,
                     bool test) {
    add(xml, "<disk type='file' device='disk'>\n<driver name='qemu' type='@' cache='writeback'",
        disk->layers[0].format);
    if (disk->read_only || test)
        add(xml, "/>\n");
    else
        add(xml, " io='threads' discard='unmap' detect_zeroes='unmap'/>\n");
    add_source(xml, disk->layers[0].path);
    add_chain(xml, disk);
    add(xml, "<target dev='@' bus='virtio'/>\n", target);
    if (!im_str_empty(disk->serial))
        add(xml, "<serial>@</serial>\n", disk->serial);
    if (boots)
        add(xml, "<boot order='1'/>\n");
    if (disk->read_only)
        add(xml, "<readonly/>\n");
    add(xml, "</disk>\n");
}

static void add_nic(struct xml *xml, const struct virt_nic *nic) {
    add(xml, "<interface type='bridge'>\n<mac address='@'/>\n<source bridge='@'/>\n", nic->mac,
        nic->bridge);
    if (nic->tap != NULL)
        add(xml, "<target dev='@'/>\n", nic->tap);
    /* Without its boot ROM a guest does not spend a second in the NIC's firmware. */
    add(xml, "<model type='virtio'/>\n<rom enabled='no'/>\n</interface>\n");
}

/* Datagrams to this host: what is not read in time is lost there, and QEMU never waits. */
static void add_mirror(struct xml *xml, size_t i, int port) {
    im_str_addf(&xml->text,
                "<qemu:arg value='-chardev'/>\n"
                "<qemu:arg value='udp,id=immirror%zu,host=127.0.0.1,port=%d'/>\n"
                "<qemu:arg value='-object'/>\n"
                "<qemu:arg value='filter-mirror,id=imfilter%zu,netdev=imnet%zu,queue=all,"
                "outdev=immirror%zu'/>\n",
                i, port, i, i, i);
}

/* QEMU's own options, for what libvirt cannot say: it ignores port forwards of a slirp network
 * (9.0.0, without an error). Adding the forward over the monitor after the start would leave a
 * moment, and after a crash of ours any time, in which the machine runs without it; given here, the
 * machine starts with it or not at all. The slot lies above all that libvirt numbers on pcie.0 and
 * below the chipset's own. */
static void add_user_nics(struct xml *xml, const struct virt_machine *machine) {
    bool any = false;

    for (size_t i = 0; i < machine->nic_count; i++) {
        const struct virt_nic *nic = &machine->nics[i];

        if (nic->kind != VIRT_NIC_USER)
            continue;
        if (!any)
            add(xml, "<qemu:commandline>\n");
        any = true;
        im_str_addf(&xml->text, "<qemu:arg value='-netdev'/>\n<qemu:arg value='user,id=imnet%zu",
                    i);
        if (nic->isolated)
            im_str_add(&xml->text, ",restrict=on");
        if (nic->ssh_port > 0)
            im_str_addf(&xml->text, ",hostfwd=tcp:127.0.0.1:%d-:22", nic->ssh_port);
        im_str_addf(&xml->text,
                    "'/>\n<qemu:arg value='-device'/>\n"
                    "<qemu:arg value='virtio-net-pci,netdev=imnet%zu,id=imnic%zu,mac=",
                    i, i);
        add(xml, "@", nic->mac);
        im_str_addf(&xml->text, ",bus=pcie.0,addr=0x%zx,romfile='/>\n", USER_NIC_SLOT + i);
        if (nic->mirror_port > 0)
            add_mirror(xml, i, nic->mirror_port);
    }
    if (any)
        add(xml, "</qemu:commandline>\n");
}

static void add_topology(struct xml *xml, const struct virt_machine *machine) {
    unsigned sockets = machine->sockets ? machine->sockets : 1;
    unsigned cores = machine->cores ? machine->cores : 1;
    unsigned threads = machine->threads ? machine->threads : 1;

    if ((uint64_t) sockets * cores * threads != machine->vcpus)
        return; /* not given, or made for another number of CPUs: QEMU's default is right */
    im_str_addf(&xml->text, "<topology sockets='%u' dies='1' cores='%u' threads='%u'/>\n", sockets,
                cores, threads);
}

/* check='none': libvirt's comparison of wanted and given features asks QEMU hundreds of questions
 * and can only refuse a start, never improve it. Nehalem is what TCG can do in full (x86-64-v2); it
 * is as fast there as "max", and the same on every host. */
static void add_cpu(struct xml *xml, const struct virt_machine *machine, bool kvm) {
    bool host = im_str_empty(machine->cpu_model) && kvm;

    if (host)
        add(xml, "<cpu mode='host-passthrough' check='none' migratable='off'>\n");
    else
        add(xml,
            "<cpu mode='custom' match='exact' check='none'>\n<model fallback='allow'>@</model>\n",
            im_str_empty(machine->cpu_model) ? "Nehalem" : machine->cpu_model);
    add_topology(xml, machine);
    /* Nested hosts offer this register and refuse its value, whereupon QEMU aborts. Without it the
     * guest takes itself for vulnerable, which is the safe side. */
    if (host)
        add(xml, "<feature policy='disable' name='arch-capabilities'/>\n");
    add(xml, "</cpu>\n");
}

static void add_head(struct xml *xml, const struct virt_machine *machine,
                     const struct virt_xml_options *options) {
    add(xml, "<domain type='@' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n",
        options->type);
    add(xml, "<name>@</name>\n<uuid>@</uuid>\n", machine->name, machine->uuid);
    if (!im_str_empty(machine->title))
        add(xml, "<title>@</title>\n", machine->title);
    add(xml, "<metadata><im:machine xmlns:im='" VIRT_MARK_URI "' owner='@'/></metadata>\n",
        options->owner);
    add_number(xml, "<memory unit='MiB'>", machine->memory_mib, "</memory>\n");
    add_number(xml, "<vcpu placement='static'>", machine->vcpus, "</vcpu>\n");
    if (strcmp(options->type, "test") == 0) {
        add(xml, "<os><type>hvm</type></os>\n");
        return;
    }
    add(xml, "<os>\n<type arch='x86_64' machine='q35'>hvm</type>\n");
    if (options->loader != NULL)
        add(xml, "<loader readonly='yes' type='pflash'>@</loader>\n<nvram template='@'>@</nvram>\n",
            options->loader, options->nvram_template, options->nvram);
    add(xml, "</os>\n<features>\n<acpi/>\n<apic/>\n");
    if (strcmp(options->type, "qemu") == 0)
        add_number(xml, "<tcg><tb-cache unit='MiB'>",
                   options->tb_cache_mib > 0 ? (uint64_t) options->tb_cache_mib : 128,
                   "</tb-cache></tcg>\n");
    add(xml, "</features>\n");
    add_cpu(xml, machine, strcmp(options->type, "kvm") == 0);
    add(xml, "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/>"
             "<timer name='hpet' present='no'/></clock>\n");
}

/* A machine has from its start the ports for all the disks it may ever get, whatever else it has:
 * ports themselves cannot be plugged in. Eight share a slot, so that they cost no room on the bus,
 * and those without a device take no window of I/O ports. */
static void add_ports(struct xml *xml, const struct virt_machine *machine) {
    size_t disks = machine->disk_count > VIRT_DISKS_MAX ? machine->disk_count : VIRT_DISKS_MAX;
    size_t ports = FIXED_DEVICES + SPARE_PORTS + disks;

    for (size_t i = 0; i < machine->nic_count; i++)
        ports += machine->nics[i].kind == VIRT_NIC_BRIDGE;
    add(xml, "<controller type='pci' index='0' model='pcie-root'/>\n");
    for (size_t i = 1; i <= ports; i++)
        im_str_addf(&xml->text, "<controller type='pci' index='%zu' model='pcie-root-port'/>\n", i);
}

/* What every machine has besides disks and network. Standard VGA because every firmware, boot
 * loader and guest draws on it without a driver. */
static void add_devices(struct xml *xml, const struct virt_machine *machine,
                        const struct virt_xml_options *options) {
    if (options->emulator != NULL)
        add(xml, "<emulator>@</emulator>\n", options->emulator);
    add_ports(xml, machine);
    add(xml, "<controller type='usb' model='none'/>\n");
    for (size_t i = 0; i < machine->nic_count; i++)
        if (machine->nics[i].kind == VIRT_NIC_BRIDGE)
            add_nic(xml, &machine->nics[i]);
    add(xml, "<serial type='pty'>\n");
    if (options->log_path != NULL)
        add(xml, "<log file='@' append='on'/>\n", options->log_path);
    add(xml, "<target type='isa-serial' port='0'/>\n</serial>\n");
    if (options->firmware_log_path != NULL)
        add(xml,
            "<serial type='null'>\n<log file='@' append='on'/>\n"
            "<target type='isa-debug' port='1'><model name='isa-debugcon'/></target>\n"
            "<address type='isa' iobase='0x402'/>\n</serial>\n",
            options->firmware_log_path);
    add(xml, "<console type='pty'><target type='serial' port='0'/></console>\n"
             "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>"
             "</channel>\n"
             "<input type='mouse' bus='ps2'/>\n<input type='keyboard' bus='ps2'/>\n"
             "<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'");
    if (!im_str_empty(machine->graphics_passwd)) {
        /* RFB knows eight characters; libvirt refuses more. */
        IM_AUTO(free_auto) char *known = im_strndup(machine->graphics_passwd, 8);

        add(xml, " passwd='@'", known);
    }
    add(xml, "/>\n<video><model type='vga' vram='16384'/></video>\n"
             "<memballoon model='virtio' freePageReporting='on'><stats period='30'/></memballoon>\n"
             "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>\n");
}

/* Hands the text over, unless a value had no place in it. */
static bool finish(struct xml *xml, char **ret_xml, struct im_err *err) {
    if (xml->unspeakable) {
        im_str_done(&xml->text);
        return im_fail(err, IM_INTERNAL, "its description has control characters");
    }
    *ret_xml = im_str_take(&xml->text);
    return true;
}

bool virt_domain_xml(const struct virt_machine *machine, const struct virt_xml_options *options,
                     char **ret_xml, struct im_err *err) {
    bool test = strcmp(options->type, "test") == 0;
    struct xml xml = {0};

    add_head(&xml, machine, options);
    add(&xml, "<on_poweroff>destroy</on_poweroff>\n<on_reboot>restart</on_reboot>\n"
              "<on_crash>destroy</on_crash>\n<devices>\n");
    for (size_t i = 0; i < machine->disk_count; i++) {
        char target[8];

        virt_disk_target(i, target);
        add_disk(&xml, &machine->disks[i], target, i == 0, test);
    }
    if (!test)
        add_devices(&xml, machine, options);
    add(&xml, "</devices>\n");
    if (!test)
        add_user_nics(&xml, machine);
    add(&xml, "</domain>\n");
    return finish(&xml, ret_xml, err);
}

bool virt_disk_xml(const struct virt_disk *disk, const char *target, char **ret_xml,
                   struct im_err *err) {
    struct xml xml = {0};

    add_disk(&xml, disk, target, false, false);
    return finish(&xml, ret_xml, err);
}

bool virt_snapshot_xml(const struct virt_xml_disk *disks, const char *const *paths, size_t count,
                       char **ret_xml, struct im_err *err) {
    struct xml xml = {0};

    add(&xml, "<domainsnapshot>\n<disks>\n");
    for (size_t i = 0; i < count; i++) {
        if (paths[i] == NULL) {
            add(&xml, "<disk name='@' snapshot='no'/>\n", disks[i].target);
            continue;
        }
        add(&xml, "<disk name='@' snapshot='external' type='file'>\n<driver type='qcow2'/>\n",
            disks[i].target);
        add_source(&xml, paths[i]);
        add(&xml, "</disk>\n");
    }
    add(&xml, "</disks>\n</domainsnapshot>\n");
    return finish(&xml, ret_xml, err);
}

int virt_xml_vnc_port(const char *xml) {
    static const char mark[] = "<graphics type='vnc' port='";
    const char *at = strstr(xml, mark);
    long port = at ? strtol(at + sizeof(mark) - 1, NULL, 10) : 0;

    return port > 0 && port < 65536 ? (int) port : 0;
}

bool virt_xml_agent_connected(const char *xml) {
    return strstr(xml, "name='org.qemu.guest_agent.0' state='connected'") != NULL;
}

/* The value between `before` and the next `end`, unescaped, looked for up to `limit`. */
static char *between(const char *from, const char *limit, const char *before, char end) {
    static const struct {
        const char *as;
        char c;
    } escapes[] = {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}};
    struct im_str value = {0};
    const char *at = strstr(from, before);

    if (at == NULL || at >= limit)
        return NULL;
    for (at += strlen(before); *at != end && at < limit;) {
        size_t i = 0;

        while (i < 5 && !im_starts_with(at, escapes[i].as))
            i++;
        im_str_add_char(&value, i < 5 ? escapes[i].c : *at);
        at += i < 5 ? strlen(escapes[i].as) : 1;
    }
    return im_str_take(&value);
}

void virt_xml_disks_free(struct virt_xml_disk *disks, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(disks[i].serial);
        free(disks[i].target);
        free(disks[i].source);
        free(disks[i].element);
    }
    free(disks);
}

void virt_xml_disks(const char *xml, struct virt_xml_disk **ret_disks, size_t *ret_count) {
    static const char end_tag[] = "</disk>";
    struct virt_xml_disk *disks = NULL;
    size_t count = 0, capacity = 0;

    for (const char *at = strstr(xml, "<disk "), *end; at != NULL; at = strstr(end, "<disk ")) {
        end = strstr(at, end_tag);
        if (end == NULL)
            break;
        end += strlen(end_tag);
        im_grow(&disks, count, &capacity);
        disks[count++] = (struct virt_xml_disk){.serial = between(at, end, "<serial>", '<'),
                                                .target = between(at, end, "<target dev='", '\''),
                                                .source = between(at, end, "<source file='", '\''),
                                                .element = im_strndup(at, (size_t) (end - at))};
    }
    *ret_disks = disks;
    *ret_count = count;
}

void virt_xml_chain(const char *element, struct im_strings *ret_paths) {
    static const char tag[] = "<source ";

    for (const char *at = strstr(element, tag), *end; at != NULL; at = strstr(end, tag)) {
        IM_AUTO(free_auto) char *path = NULL;

        end = strchr(at, '>');
        if (end == NULL)
            break;
        path = between(at, end, " file='", '\'');
        if (path != NULL)
            im_strings_add(ret_paths, path);
    }
}

char *virt_xml_alias(const char *element) {
    return between(element, element + strlen(element), "<alias name='", '\'');
}

void virt_xml_nics_free(struct virt_xml_nic *nics, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(nics[i].mac);
        free(nics[i].target);
    }
    free(nics);
}

void virt_xml_nics(const char *xml, struct virt_xml_nic **ret_nics, size_t *ret_count) {
    static const char tag[] = "<interface ";
    struct virt_xml_nic *nics = NULL;
    size_t count = 0, capacity = 0;

    for (const char *at = strstr(xml, tag), *end; at != NULL; at = strstr(end, tag)) {
        end = strstr(at, "</interface>");
        if (end == NULL)
            break;
        im_grow(&nics, count, &capacity);
        nics[count++] = (struct virt_xml_nic){between(at, end, "<mac address='", '\''),
                                              between(at, end, "<target dev='", '\'')};
    }
    *ret_nics = nics;
    *ret_count = count;
}

unsigned virt_xml_vcpus(const char *xml) {
    const char *tag = strstr(xml, "<vcpu"), *text = tag ? strchr(tag, '>') : NULL;
    unsigned long vcpus = text ? strtoul(text + 1, NULL, 10) : 0;

    return vcpus > 0 && vcpus <= 4096 ? (unsigned) vcpus : 1;
}
