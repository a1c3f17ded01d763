/* SPDX-License-Identifier: Apache-2.0 */
/* Windows: which one, by its registry; whether its boot manager is there; and whether it has the
 * drivers of a virtual machine's disk and network, and starts the first with itself. */
#include "windows.h"

#include <stdio.h>

#include "ntfs.h"
#include "registry.h"
#include "system.h"

#define CONFIG "/Windows/System32/config/"
#define VERSION_KEY "Microsoft\\Windows NT\\CurrentVersion"

struct windows {
    struct look *look;
    struct guest_os *os;
    struct tree tree;
    struct hive software, system;
    uint32_t control; /* the key of the set that is started with; HIVE_NOWHERE = not known */
    uint32_t major, build;
    bool server;
};

const struct volume *windows_root(const struct look *look) {
    for (size_t i = 0; i < look->volume_count; i++) {
        struct tree tree = tree_of(look->volumes[i]);

        if (look->volumes[i]->ops == &ntfs_ops && tree_has(&tree, CONFIG "SOFTWARE") &&
            tree_has(&tree, CONFIG "SYSTEM"))
            return look->volumes[i];
    }
    return NULL;
}

/* --- Hives ------------------------------------------------------------------------------------ */

/* What NTFS packs in ways that are not read is no fault of the disk. */
static bool open_hive(struct windows *windows, const char *path, struct hive *hive) {
    const char *why = hive_open(&windows->tree, path, hive), *packed = NULL;
    struct file file;

    if (why == NULL)
        return true;
    if (tree_find(&windows->tree, path, &file))
        packed = ntfs_unreadable(file.volume->state, &file.node);
    look_found(windows->look, GUEST_FOUND_WINDOWS_REGISTRY, "the registry's file %s on %s %s", path,
               windows->os->root, packed != NULL ? packed : why);
    return false;
}

/* The registry keeps two or more sets of what a Windows is started with. */
static void find_control(struct windows *windows) {
    const struct hive *hive = &windows->system;
    uint32_t select = hive_key(hive, hive->root, "Select"), number = 1;
    char name[32];

    if (!hive_number(hive, select, "Current", &number))
        (void) hive_number(hive, select, "Default", &number);
    snprintf(name, sizeof(name), "ControlSet%03u", number % 1000);
    windows->control = hive_key(hive, hive->root, name);
}

static uint32_t control_key(const struct windows *windows, const char *path) {
    return windows->control != HIVE_NOWHERE ? hive_key(&windows->system, windows->control, path)
                                            : HIVE_NOWHERE;
}

/* --- Which one -------------------------------------------------------------------------------- */

/* From that build on. */
struct release {
    uint32_t build;
    const char *osinfo;
};
static const struct release clients[] = {{22000, "win11"}, {10240, "win10"}, {9600, "win8.1"},
                                         {9200, "win8"},   {7600, "win7"},   {6000, "winvista"},
                                         {2600, "winxp"}};
static const struct release servers[] = {
    {26040, "win2k25"}, {20348, "win2k22"},  {17763, "win2k19"},
    {14393, "win2k16"}, {9600, "win2k12r2"}, {9200, "win2k12"},
    {7600, "win2k8r2"}, {6001, "win2k8"},    {3790, "win2k3"},
};

static const char *osinfo_of(const struct windows *windows) {
    const struct release *releases = windows->server ? servers : clients;
    size_t count = windows->server ? sizeof(servers) / sizeof(servers[0])
                                   : sizeof(clients) / sizeof(clients[0]);

    for (size_t i = 0; i < count; i++)
        if (windows->build >= releases[i].build)
            return releases[i].osinfo;
    return "";
}

/* Windows 11 still says that it is 10. */
static void take_name(struct windows *windows, uint32_t key) {
    char name[80] = "Windows", shown[16] = "";
    const char *ten = "Windows 10";

    (void) hive_text(&windows->software, key, "ProductName", name, sizeof(name));
    (void) hive_text(&windows->software, key, "DisplayVersion", shown, sizeof(shown));
    if (!windows->server && windows->build >= 22000 && im_starts_with(name, ten))
        name[strlen(ten) - 1] = '1';
    snprintf(windows->os->name, sizeof(windows->os->name), "%s%s%s", name,
             shown[0] != '\0' ? " " : "", shown);
}

static void take_version(struct windows *windows) {
    const struct hive *hive = &windows->software;
    uint32_t key = hive_key(hive, hive->root, VERSION_KEY), minor = 0;
    char text[32] = "", kind[32] = "", build[16] = "";

    (void) hive_text(hive, key, "CurrentVersion", text, sizeof(text));
    (void) hive_text(hive, key, "CurrentBuildNumber", build, sizeof(build));
    if (build[0] == '\0')
        (void) hive_text(hive, key, "CurrentBuild", build, sizeof(build));
    (void) hive_text(hive, key, "InstallationType", kind, sizeof(kind));
    windows->build = (uint32_t) strtoul(build, NULL, 10);
    windows->server = im_starts_with(kind, "Server");
    if (!hive_number(hive, key, "CurrentMajorVersionNumber", &windows->major))
        windows->major = (uint32_t) strtoul(text, NULL, 10);
    else if (hive_number(hive, key, "CurrentMinorVersionNumber", &minor))
        snprintf(text, sizeof(text), "%u.%u", windows->major, minor);
    take_name(windows, key);
    if (kind[0] == '\0')
        windows->server = strstr(windows->os->name, "Server") != NULL;
    snprintf(windows->os->version, sizeof(windows->os->version), "%s%s%s", text,
             build[0] != '\0' ? "." : "", build);
    snprintf(windows->os->osinfo, sizeof(windows->os->osinfo), "%s", osinfo_of(windows));
}

static void take_processor(struct windows *windows) {
    static const struct {
        const char *theirs, *architecture, *processor;
    } names[] = {
        {"AMD64", "x86_64", "64bit"}, {"x86", "i386", "32bit"}, {"ARM64", "aarch64", "64bit"}};
    char theirs[16] = "";

    (void) hive_text(&windows->system,
                     control_key(windows, "Control\\Session Manager\\Environment"),
                     "PROCESSOR_ARCHITECTURE", theirs, sizeof(theirs));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcasecmp(theirs, names[i].theirs) == 0) {
            snprintf(windows->os->architecture, sizeof(windows->os->architecture), "%s",
                     names[i].architecture);
            snprintf(windows->os->processor, sizeof(windows->os->processor), "%s",
                     names[i].processor);
        }
}

static void take_hostname(struct windows *windows) {
    char *name = windows->os->hostname;
    size_t size = sizeof(windows->os->hostname);

    if (!hive_text(&windows->system, control_key(windows, "Services\\Tcpip\\Parameters"),
                   "Hostname", name, size) ||
        name[0] == '\0')
        (void) hive_text(&windows->system,
                         control_key(windows, "Control\\ComputerName\\ComputerName"),
                         "ComputerName", name, size);
}

/* --- Drivers ---------------------------------------------------------------------------------- */

enum { START_WITH_KERNEL = 0, START_NEVER = 4 };

/* The path of a driver as its service names it, or where drivers are. False where only Windows
 * can tell. */
static bool driver_path(const struct windows *windows, uint32_t service, const char *name,
                        char out[512]) {
    char image[400] = "";
    const char *rest = image;

    (void) hive_text(&windows->system, service, "ImagePath", image, sizeof(image));
    for (char *at = image; *at != '\0'; at++)
        if (*at == '\\')
            *at = '/';
    if (image[0] == '\0')
        snprintf(out, 512, "/Windows/System32/drivers/%s.sys", name);
    else if (strncasecmp(rest, "/SystemRoot/", 12) == 0)
        snprintf(out, 512, "/Windows/%s", rest + 12);
    else if (strncasecmp(rest, "System32/", 9) == 0)
        snprintf(out, 512, "/Windows/%s", rest);
    else
        return false;
    return true;
}

static bool service_file(const struct windows *windows, uint32_t service, const char *name,
                         char path[512]) {
    path[0] = '\0';
    return !driver_path(windows, service, name, path) || tree_has(&windows->tree, path);
}

/* The disk is a virtio-blk: a Windows that does not load its driver with itself stops at once. */
static void check_disk_driver(const struct windows *windows) {
    uint32_t service = control_key(windows, "Services\\viostor"), start = START_NEVER;
    char path[512];

    if (service == HIVE_NOWHERE)
        look_found(windows->look, GUEST_FOUND_DRIVER_VIOSTOR,
                   "Windows has no driver of virtio disks (viostor): it stops with "
                   "INACCESSIBLE_BOOT_DEVICE");
    else if (hive_number(&windows->system, service, "Start", &start) && start != START_WITH_KERNEL)
        look_found(windows->look, GUEST_FOUND_DRIVER_VIOSTOR,
                   "Windows does not load its driver of virtio disks (viostor) when it starts: its "
                   "Start is %u, not 0",
                   start);
    else if (!service_file(windows, service, "viostor", path))
        look_found(windows->look, GUEST_FOUND_DRIVER_VIOSTOR,
                   "the driver of virtio disks that Windows is to load, %.200s, does not exist",
                   path);
}

static void check_net_driver(const struct windows *windows) {
    uint32_t service = control_key(windows, "Services\\netkvm"), start = START_WITH_KERNEL;

    if (service == HIVE_NOWHERE)
        look_found(windows->look, GUEST_FOUND_DRIVER_NETKVM,
                   "Windows has no driver of virtio network cards (netkvm)");
    else if (hive_number(&windows->system, service, "Start", &start) && start == START_NEVER)
        look_found(windows->look, GUEST_FOUND_DRIVER_NETKVM,
                   "the driver of virtio network cards (netkvm) is switched off in Windows");
}

static void check_services(const struct windows *windows) {
    if (control_key(windows, "Services") == HIVE_NOWHERE)
        return; /* damaged: nothing follows from what is not found */
    check_disk_driver(windows);
    check_net_driver(windows);
    if (control_key(windows, "Services\\cloudbase-init") == HIVE_NOWHERE)
        look_found(windows->look, GUEST_FOUND_NO_CLOUDBASE, "Windows has no cloudbase-init");
    if (control_key(windows, "Services\\QEMU-GA") == HIVE_NOWHERE &&
        control_key(windows, "Services\\QEMU Guest Agent") == HIVE_NOWHERE)
        look_found(windows->look, GUEST_FOUND_NO_AGENT, "Windows has no QEMU guest agent");
}

/* --- Starting --------------------------------------------------------------------------------- */

struct start {
    bool manager, menu;
};

static void see_start(const struct volume *volume, bool bios, bool uefi, struct start *start) {
    struct tree tree = tree_of(volume);

    if (bios) {
        start->manager |= tree_has(&tree, "/bootmgr");
        start->menu |= tree_has(&tree, "/Boot/BCD");
    }
    if (uefi && volume->ops == &fat_ops) {
        start->manager |= tree_has(&tree, "/EFI/Microsoft/Boot/bootmgfw.efi");
        start->menu |= tree_has(&tree, "/EFI/Microsoft/Boot/BCD");
    }
}

/* There is a file system that might hold it, and cannot be read. */
static bool hides_start(const struct look *look) {
    for (size_t i = 0; i < look->found->part_count; i++) {
        const struct guest_part *part = &look->found->parts[i];

        if ((strcmp(part->filesystem, "ntfs") == 0 || strcmp(part->filesystem, "vfat") == 0 ||
             strcmp(part->type, TYPE_ESP) == 0) &&
            volume_of(look, part) == NULL)
            return true;
    }
    return false;
}

/* Older ones than Vista start by other files; a disk that GRUB starts has its own ways. */
static void check_start(const struct windows *windows) {
    struct look *look = windows->look;
    const struct guest_inspection *found = look->found;
    struct start start = {0};

    if ((!found->bios && !found->uefi) || look->grub || windows->major < 6 || hides_start(look))
        return;
    for (size_t i = 0; i < look->volume_count; i++)
        see_start(look->volumes[i], found->bios, found->uefi, &start);
    if (!start.manager)
        look_found(look, GUEST_FOUND_BOOT_MANAGER,
                   "the boot manager of Windows (%s) does not exist",
                   found->bios ? "\\bootmgr" : "\\EFI\\Microsoft\\Boot\\bootmgfw.efi");
    if (!start.menu)
        look_found(look, GUEST_FOUND_BOOT_BCD,
                   "what the boot manager of Windows is to start (%s) is not told anywhere",
                   found->bios ? "\\Boot\\BCD" : "\\EFI\\Microsoft\\Boot\\BCD");
}

/* --- All -------------------------------------------------------------------------------------- */

void windows_look(struct look *look, const struct volume *root) {
    struct windows windows = {.look = look, .os = &look->found->os, .tree = tree_of(root)};
    struct guest_os *os = windows.os;

    snprintf(os->id, sizeof(os->id), "windows");
    snprintf(os->name, sizeof(os->name), "Windows");
    snprintf(os->platform, sizeof(os->platform), "windows");
    snprintf(os->user, sizeof(os->user), "Administrator");
    snprintf(os->ui, sizeof(os->ui), "gui");
    snprintf(os->root, sizeof(os->root), "%s", volume_part(root)->name);
    if (open_hive(&windows, CONFIG "SOFTWARE", &windows.software))
        take_version(&windows);
    if (open_hive(&windows, CONFIG "SYSTEM", &windows.system)) {
        find_control(&windows);
        take_processor(&windows);
        take_hostname(&windows);
        check_services(&windows);
    }
    check_start(&windows);
}
