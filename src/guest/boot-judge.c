/* SPDX-License-Identifier: Apache-2.0 */
/* Does what a menu names exist, and will the kernel find its root? What is wrong with the entry
 * that is started by itself is told of one by one; of the others, that they are broken. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>

#include "drivers.h"

#define OTHERS_MAX 8u /* entries that are told of beside the default */

struct judge {
    const struct boot *boot;
    const struct boot_entry *entry;
    bool is_default, told;
    unsigned others;
    char title[64];
    struct boot_kernel kernel;
};

/* --- Telling ---------------------------------------------------------------------------------- */

/* Texts come from the disk: `format` is filled in and then cleaned as a whole. */
static void defect(struct judge *judge, enum guest_found kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void defect(struct judge *judge, enum guest_found kind, const char *format, ...) {
    struct look *look = judge->boot->look;
    char raw[320], text[320];
    va_list args;

    va_start(args, format);
    vsnprintf(raw, sizeof(raw), format, args);
    va_end(args);
    text_take(text, sizeof(text), raw, strlen(raw));
    if (judge->is_default) {
        look_found(look, kind, "%s", text);
    } else if (!judge->told && judge->others < OTHERS_MAX) {
        judge->told = true;
        judge->others++;
        look_found(look, GUEST_FOUND_BOOT_ENTRY, "boot entry \"%s\": %s", judge->title, text);
    }
}

/* --- The default ------------------------------------------------------------------------------ */

static bool named(const struct boot_entry *entry, const char *name, size_t len) {
    return (strlen(entry->id) == len && len > 0 && strncmp(entry->id, name, len) == 0) ||
           (strlen(entry->title) == len && strncmp(entry->title, name, len) == 0);
}

/* By its number at that level (with GRUB), its id or its title. */
static size_t find_within(const struct boot_menu *menu, size_t within, const char *name,
                          size_t len) {
    bool numeric = len > 0 && strspn(name, "0123456789") >= len && menu->loader != NULL &&
                   im_starts_with(menu->loader, "grub");
    unsigned long number = numeric ? strtoul(name, NULL, 10) : 0, seen = 0;

    for (size_t i = 0; i < menu->count; i++) {
        if (menu->entries[i].within != within)
            continue;
        if (numeric ? seen == number : named(&menu->entries[i], name, len))
            return i;
        seen++;
    }
    return NOWHERE;
}

/* "1>0", "Advanced options>Linux 6.1" or one name; NOWHERE if there is none such. */
static size_t find_wanted(const struct boot_menu *menu, const char *wanted) {
    size_t found = NOWHERE;

    for (;;) {
        size_t len = strcspn(wanted, ">");

        found = find_within(menu, found, wanted, len);
        if (found == NOWHERE || wanted[len] == '\0' || !menu->entries[found].submenu)
            return found;
        wanted += len + 1;
    }
}

bool boot_has(const struct boot_menu *menu, const char *name) {
    return find_wanted(menu, name) != NOWHERE;
}

const struct boot_entry *boot_default(const struct boot *boot) {
    const struct boot_menu *menu = &boot->menu;
    bool asks = !im_str_empty(menu->wanted) && strcmp(menu->wanted, "saved") != 0;
    size_t found = asks ? find_wanted(menu, menu->wanted) : NOWHERE;

    if (found == NOWHERE && menu->count > 0)
        found = 0;
    while (found != NOWHERE && menu->entries[found].submenu) {
        size_t within = found;

        for (found = within + 1; found < menu->count; found++)
            if (menu->entries[found].within == within)
                break;
        if (found == menu->count)
            return NULL;
    }
    return found != NOWHERE ? &menu->entries[found] : NULL;
}

bool boot_entry_whole(const struct boot *boot, const struct boot_entry *entry) {
    struct file file;

    if (entry->kernel.path != NULL &&
        boot_find(boot, entry->kernel.part, entry->kernel.path, &file) == BOOT_MISSING)
        return false;
    for (size_t i = 0; i < entry->initrd_count; i++)
        if (boot_find(boot, entry->initrds[i].part, entry->initrds[i].path, &file) == BOOT_MISSING)
            return false;
    return true;
}

static void check_wanted(struct judge *judge) {
    const struct boot_menu *menu = &judge->boot->menu;

    if (!im_str_empty(menu->wanted) && strcmp(menu->wanted, "saved") != 0 &&
        !boot_has(menu, menu->wanted))
        defect(judge, GUEST_FOUND_BOOT_DEFAULT,
               "the default entry %.80s is not in the boot menu (%s): the first one is started",
               menu->wanted, menu->config);
}

/* --- Kernel and initramfs --------------------------------------------------------------------- */

static const char *part_name(const struct judge *judge, size_t part) {
    return part != NOWHERE ? judge->boot->look->found->parts[part].name : "a disk";
}

static void check_kernel(struct judge *judge) {
    const struct boot_file *kernel = &judge->entry->kernel;
    struct boot_packed packed;
    struct file file;
    const char *why;
    bool fine;

    switch (boot_find(judge->boot, kernel->part, kernel->path, &file)) {
    case BOOT_MISSING:
        defect(judge, GUEST_FOUND_BOOT_KERNEL, "the kernel %.120s does not exist on %s",
               kernel->path, part_name(judge, kernel->part));
        return;
    case BOOT_UNKNOWN:
        return;
    case BOOT_FOUND:
        break;
    }
    if (judge->entry->packed) {
        why = file.facts.size == 0 ? "is empty" : "is no EFI program with a kernel in it";
        fine = boot_unpack(&file, &packed);
        if (fine) {
            fine =
                boot_kernel_check(&file, packed.kernel_at, packed.kernel_len, &judge->kernel, &why);
            free(packed.cmdline);
        }
    } else {
        fine = boot_kernel_check(&file, 0, file.facts.size, &judge->kernel, &why);
    }
    if (!fine)
        defect(judge, GUEST_FOUND_BOOT_KERNEL_DAMAGED, "the kernel %.120s on %s %s", kernel->path,
               part_name(judge, kernel->part), why);
}

/* Archives may begin with zeros, but not with a whole sector of them. */
bool boot_initrd_check(const struct file *file) {
    static const struct {
        const char *bytes;
        size_t len;
    } magics[] = {{"07070", 5},
                  {"\x1f\x8b", 2},
                  {"\xfd"
                   "7zXZ",
                   5},
                  {"\x28\xb5\x2f\xfd", 4},
                  {"BZh", 3},
                  {"\x02\x21\x4c\x18", 4},
                  {"\x5d\0\0", 3},
                  {"\x89LZO", 4},
                  {"\xc7\x71", 2}}; /* cpio's old binary form */
    uint8_t head[SECTOR] = {0};
    size_t got = 0, at = 0;

    if (!file_read(file, 0, head, sizeof(head), &got))
        return false;
    while (at < got && head[at] == 0)
        at++;
    for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
        if (at + magics[i].len <= got && memcmp(head + at, magics[i].bytes, magics[i].len) == 0)
            return true;
    return false;
}

static void check_initrd(struct judge *judge, const struct boot_file *initrd) {
    struct file file;
    enum boot_answer answer = boot_find(judge->boot, initrd->part, initrd->path, &file);

    if (answer == BOOT_MISSING)
        defect(judge, GUEST_FOUND_BOOT_INITRD, "the initramfs %.120s does not exist on %s",
               initrd->path, part_name(judge, initrd->part));
    else if (answer == BOOT_FOUND && !boot_initrd_check(&file))
        defect(judge, GUEST_FOUND_BOOT_INITRD_DAMAGED, "the initramfs %.120s on %s %s",
               initrd->path, part_name(judge, initrd->part),
               file.facts.size == 0 ? "is empty" : "is no archive");
}

/* --- The command line ------------------------------------------------------------------------- */

/* The n-th word that begins with "name=", from 0; quotes hold blanks together. */
static bool value_numbered(const char *cmdline, const char *name, unsigned n, char *out,
                           size_t size) {
    size_t len = strlen(name);

    while (cmdline != NULL && *cmdline != '\0') {
        const char *word = cmdline + strspn(cmdline, " \t\n\v\f\r"), *end = word;

        for (bool quoted = false; *end != '\0' && (quoted || !isspace((unsigned char) *end)); end++)
            quoted ^= *end == '"';
        cmdline = end;
        word += *word == '"';
        if ((size_t) (end - word) > len && strncmp(word, name, len) == 0 && word[len] == '=' &&
            n-- == 0) {
            word += len + 1;
            if (word < end && *word == '"')
                word++;
            while (end > word && end[-1] == '"')
                end--;
            text_take(out, size, word, (size_t) (end - word));
            return true;
        }
    }
    return false;
}

bool cmdline_value(const char *cmdline, const char *name, char *out, size_t size) {
    unsigned n = 0;

    while (value_numbered(cmdline, name, n, out, size))
        n++;
    return n > 0;
}

/* Devices that the machine makes up itself while it starts. */
static bool made_at_boot(const char *cmdline) {
    return strstr(cmdline, "dm-mod.create=") != NULL || strstr(cmdline, "verity") != NULL ||
           strstr(cmdline, "roothash=") != NULL || strstr(cmdline, "luks") != NULL ||
           strstr(cmdline, "cryptdevice=") != NULL || strstr(cmdline, "rd.md.uuid") != NULL ||
           strstr(cmdline, "netroot=") != NULL || strstr(cmdline, "iscsi") != NULL;
}

bool boot_must_be_here(const struct look *look, const char *cmdline, const char *device) {
    return fstab_bound(device) && !look_hides_something(look) && !made_at_boot(cmdline);
}

static bool must_be_here(const struct judge *judge, const char *device) {
    return boot_must_be_here(judge->boot->look, judge->entry->cmdline, device);
}

bool boot_no_root(const struct guest_part *part) {
    static const char *const no_roots[] = {"swap", "LVM2_member", "vfat"};

    for (size_t i = 0; i < sizeof(no_roots) / sizeof(no_roots[0]); i++)
        if (strcmp(part->filesystem, no_roots[i]) == 0)
            return true;
    return false;
}

static void check_subvolume(struct judge *judge, const struct guest_part *part) {
    const struct volume *volume = volume_of(judge->boot->look, part);
    char flags[256];
    struct node root;

    if (volume != NULL && volume->ops->choose != NULL &&
        cmdline_value(judge->entry->cmdline, "rootflags", flags, sizeof(flags)) &&
        !volume->ops->choose(volume->state, flags, &root))
        defect(judge, GUEST_FOUND_BOOT_SUBVOLUME,
               "the kernel's rootflags=%s names a subvolume that is not on %s", flags, part->name);
}

/* Some initramfs find it by themselves: by the type of its partition or what is written into them
 * (NixOS: init=), by a deployment of ostree's, a live medium, or a bare label as CirrOS' do. */
static bool needs_no_root(const struct judge *judge) {
    static const char *const names[] = {"ostree", "init", "boot", "mount.usr", "LABEL", "UUID"};
    const struct boot *boot = judge->boot;
    bool tool = !judge->is_default && judge->entry->initrd_count == 0; /* a memory test */
    char value[256];

    if (tool || boot->tree == NULL || boot->tree->deployed || judge->entry->packed ||
        strcmp(boot->look->found->os.platform, "linux") != 0 ||
        strcmp(boot->menu.loader, "systemd-boot") == 0 ||
        (!boot->look->found->bios && /* what starts it must be known to have been UEFI */
         strcmp(volume_part(boot->tree->mounts[0].volume)->type, "linux-root") == 0))
        return true;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (cmdline_value(judge->entry->cmdline, names[i], value, sizeof(value)))
            return true;
    return false;
}

static void check_root(struct judge *judge) {
    const struct guest_part *part;
    char device[256];

    if (!cmdline_value(judge->entry->cmdline, "root", device, sizeof(device))) {
        if (!needs_no_root(judge))
            defect(judge, GUEST_FOUND_BOOT_ROOT, "the kernel is told no root=");
        return;
    }
    part = part_named(judge->boot->look, device);
    if (device_by_number(device))
        defect(judge, GUEST_FOUND_BOOT_ROOT_NAME,
               "the kernel's root=%s may be another disk on the next machine", device);
    if (part == NULL && must_be_here(judge, device))
        defect(judge, GUEST_FOUND_BOOT_ROOT, "the kernel's root=%s is not on this disk", device);
    if (part == NULL)
        return;
    if (boot_no_root(part))
        defect(judge, GUEST_FOUND_BOOT_ROOT, "the kernel's root=%s is %s, which holds %s", device,
               part->name, part->filesystem);
    if (judge->entry->initrd_count == 0 && !judge->entry->packed &&
        !im_starts_with(device, "/dev/sd") && !im_starts_with(device, "/dev/vd") &&
        !im_starts_with(device, "PARTUUID=") && !im_starts_with(device, "PARTLABEL="))
        defect(judge, GUEST_FOUND_BOOT_INITRD,
               "there is no initramfs, without which the kernel does not find root=%s", device);
    check_subvolume(judge, part);
}

static void check_volumes(struct judge *judge) {
    const struct guest_inspection *found = judge->boot->look->found;
    char name[160];

    for (unsigned n = 0;
         n < 16 && value_numbered(judge->entry->cmdline, "rd.lvm.lv", n, name, sizeof(name)); n++) {
        bool there = false;

        for (size_t i = 0; i < found->part_count; i++)
            there |= strcmp(found->parts[i].name, name) == 0;
        if (!there && !look_hides_something(judge->boot->look) &&
            !made_at_boot(judge->entry->cmdline))
            defect(judge, GUEST_FOUND_BOOT_VOLUME,
                   "the kernel's rd.lvm.lv=%s is not on this disk: the machine waits for it", name);
    }
}

static void check_resume(struct judge *judge) {
    char device[256];

    if (cmdline_value(judge->entry->cmdline, "resume", device, sizeof(device)) &&
        part_named(judge->boot->look, device) == NULL && must_be_here(judge, device))
        defect(judge, GUEST_FOUND_BOOT_RESUME,
               "the kernel's resume=%s is not on this disk: the machine waits for it", device);
}

/* Boards of ARM tell the kernel themselves which serial port is the console. */
static void check_console(struct judge *judge) {
    const struct boot *boot = judge->boot;
    char value[64];
    bool serial = judge->kernel.arm || strcmp(boot->look->found->os.architecture, "aarch64") == 0;

    for (unsigned n = 0;
         n < 16 && value_numbered(judge->entry->cmdline, "console", n, value, sizeof(value)); n++)
        serial |= im_starts_with(value, "ttyS0") || im_starts_with(value, "hvc0");
    if (!serial)
        defect(judge, GUEST_FOUND_BOOT_CONSOLE,
               "the kernel has no console on the first serial port, where a machine that does not "
               "start tells why");
    if (strcmp(boot->menu.loader, "grub") == 0 && !boot->menu.serial)
        defect(judge, GUEST_FOUND_BOOT_TERMINAL,
               "GRUB does not show its menu on the first serial port");
}

/* --- Drivers ---------------------------------------------------------------------------------- */

/* "virtio_blk and virtio_pci", of those that would be told as this finding; false if none lack. */
static bool lacking(const struct drivers *drivers, enum guest_found as, char out[80]) {
    struct im_str text = {0};

    for (size_t i = 0; i < drivers->count; i++)
        if (drivers->list[i].as == as && !drivers->list[i].there)
            im_str_addf(&text, "%s%s", text.len > 0 ? " and " : "", drivers->list[i].name);
    snprintf(out, 80, "%s", text.len > 0 ? text.data : "");
    im_str_done(&text);
    return out[0] != '\0';
}

static bool was_told(const struct look *look, enum guest_found kind) {
    for (size_t i = 0; i < look->found->finding_count; i++)
        if (look->found->findings[i].code == finding_code(kind))
            return true;
    return false;
}

/* Only of what is certain: every place that could have the driver was read. An initramfs that is
 * not there, or none, has been told of: one fault is one finding. */
static void check_drivers(struct judge *judge) {
    const char *initramfs = judge->entry->packed || judge->entry->initrd_count > 0
                                ? "nor its initramfs has"
                                : "nor an initramfs, of which there is none, has";
    struct drivers drivers;
    char names[80];

    if (!drivers_look(judge->boot, judge->entry, &judge->kernel, &drivers))
        return;
    if (lacking(&drivers, GUEST_FOUND_DRIVER_NET, names))
        defect(judge, GUEST_FOUND_DRIVER_NET,
               "the kernel %s has no %s: the machine will have no network", drivers.version, names);
    else if (drivers.blocked[0] != '\0')
        defect(judge, GUEST_FOUND_DRIVER_NET,
               "%s keeps virtio_net from being loaded: the machine will have no network",
               drivers.blocked);
    if (!drivers.sure || was_told(judge->boot->look, GUEST_FOUND_BOOT_INITRD) ||
        was_told(judge->boot->look, GUEST_FOUND_BOOT_INITRD_DAMAGED))
        return;
    if (drivers.damaged && (lacking(&drivers, GUEST_FOUND_DRIVER_DISK, names) ||
                            lacking(&drivers, GUEST_FOUND_DRIVER_ROOT, names))) {
        defect(judge, GUEST_FOUND_BOOT_INITRD_DAMAGED,
               "the initramfs %.120s cannot be unpacked as far as to %s",
               judge->entry->packed ? judge->entry->kernel.path : judge->entry->initrds[0].path,
               names);
        return;
    }
    if (lacking(&drivers, GUEST_FOUND_DRIVER_DISK, names))
        defect(judge, GUEST_FOUND_DRIVER_DISK,
               "neither the kernel %s %s %s: the machine does not find its disk", drivers.version,
               initramfs, names);
    if (lacking(&drivers, GUEST_FOUND_DRIVER_ROOT, names))
        defect(judge, GUEST_FOUND_DRIVER_ROOT,
               "neither the kernel %s %s %s, which its root file system needs", drivers.version,
               initramfs, names);
}

/* --- Entries ---------------------------------------------------------------------------------- */

static void check_entry(struct judge *judge) {
    const struct boot_entry *entry = judge->entry;

    if (entry->kernel.path == NULL)
        return;
    check_kernel(judge);
    for (size_t i = 0; i < entry->initrd_count; i++)
        check_initrd(judge, &entry->initrds[i]);
    if (entry->lost != NULL)
        defect(judge, GUEST_FOUND_BOOT_SEARCH,
               "GRUB searches for the file system %.64s, which is not on this disk", entry->lost);
    if (entry->cmdline == NULL)
        return;
    check_root(judge);
    check_volumes(judge);
}

static void remember(const struct judge *judge) {
    const struct boot_entry *entry = judge->entry;
    struct guest_boot *boot = &judge->boot->look->found->boot;
    struct im_str initrds = {0};

    for (size_t i = 0; i < entry->initrd_count; i++)
        im_str_addf(&initrds, "%s%s", i > 0 ? " " : "", entry->initrds[i].path);
    text_take(boot->loader, sizeof(boot->loader), judge->boot->menu.loader,
              strlen(judge->boot->menu.loader));
    text_take(boot->config, sizeof(boot->config), judge->boot->menu.config,
              strlen(judge->boot->menu.config));
    text_take(boot->title, sizeof(boot->title), entry->title, strlen(entry->title));
    if (entry->kernel.path != NULL)
        text_take(boot->kernel, sizeof(boot->kernel), entry->kernel.path,
                  strlen(entry->kernel.path));
    if (entry->kernel.path != NULL && entry->kernel.part != NOWHERE)
        snprintf(boot->part, sizeof(boot->part), "%s", part_name(judge, entry->kernel.part));
    text_take(boot->initrd, sizeof(boot->initrd), initrds.len > 0 ? initrds.data : "", initrds.len);
    if (entry->cmdline != NULL)
        text_take(boot->cmdline, sizeof(boot->cmdline), entry->cmdline, strlen(entry->cmdline));
    snprintf(boot->version, sizeof(boot->version), "%s", judge->kernel.version);
    boot->packed = entry->packed;
    im_str_done(&initrds);
}

static void judge_default(struct judge *judge, const struct boot_entry *entry) {
    judge->entry = entry;
    judge->is_default = true;
    check_wanted(judge);
    check_entry(judge);
    if (entry->cmdline != NULL && entry->kernel.path != NULL) {
        check_resume(judge);
        check_console(judge);
        check_drivers(judge);
    }
    remember(judge);
}

void boot_judge(const struct boot *boot) {
    const struct boot_entry *first = boot_default(boot);
    struct judge judge = {.boot = boot};

    if (first != NULL)
        judge_default(&judge, first);
    judge.is_default = false;
    for (size_t i = 0; i < boot->menu.count; i++) {
        const struct boot_entry *entry = &boot->menu.entries[i];

        if (entry == first || entry->submenu)
            continue;
        judge.entry = entry;
        judge.told = false;
        text_take(judge.title, sizeof(judge.title), entry->title, strlen(entry->title));
        check_entry(&judge);
    }
}
