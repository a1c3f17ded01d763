/* SPDX-License-Identifier: Apache-2.0 */
/* Are the drivers of a virtual machine there when the kernel looks for its root? First by what the
 * kernel says of itself, which is cheap; an initramfs is unpacked only for what is left. */
#include "drivers.h"

#include <stdio.h>

#include "initramfs.h"

#define LIST_BYTES (8u << 20) /* of modules.builtin and modules.dep */

/* --- Names ------------------------------------------------------------------------------------ */

static bool same_name(const char *file, const char *name, size_t len) {
    for (size_t i = 0; i < len; i++)
        if ((file[i] == '-' ? '_' : file[i]) != name[i])
            return false;
    return true;
}

bool module_is(const char *file, size_t len, const char *name) {
    static const char *const ends[] = {".ko", ".ko.xz", ".ko.zst", ".ko.gz"};
    size_t name_len = strlen(name);

    if (len <= name_len || !same_name(file, name, name_len))
        return false;
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (len - name_len == strlen(ends[i]) &&
            memcmp(file + name_len, ends[i], len - name_len) == 0)
            return true;
    return false;
}

static const char *base_of(const char *path, size_t len) {
    const char *slash = memrchr(path, '/', len);

    return slash != NULL ? slash + 1 : path;
}

/* --- What is wanted --------------------------------------------------------------------------- */

static void want(struct drivers *drivers, const char *name, enum guest_found as) {
    struct driver *driver = &drivers->list[drivers->count];

    if (drivers->count == DRIVERS_MAX)
        return;
    *driver = (struct driver){.as = as};
    snprintf(driver->name, sizeof(driver->name), "%s", name);
    drivers->count++;
}

/* The part that the kernel mounts; NULL when that is not known. */
static const struct guest_part *root_part(const struct boot *boot, const struct boot_entry *entry) {
    char device[256];

    if (entry->cmdline != NULL && cmdline_value(entry->cmdline, "root", device, sizeof(device)))
        return part_named(boot->look, device);
    return NULL;
}

static void want_root(struct drivers *drivers, const struct guest_part *root, const char *cmdline) {
    static const char *const filesystems[] = {"ext4", "xfs", "btrfs"};

    for (size_t i = 0; i < sizeof(filesystems) / sizeof(filesystems[0]); i++)
        if (strcmp(root->filesystem, filesystems[i]) == 0)
            want(drivers, filesystems[i], GUEST_FOUND_DRIVER_ROOT);
    if (strcmp(root->type, "lv") != 0 || strstr(cmdline, "dm-mod.create=") != NULL)
        return;
    want(drivers, "dm_mod", GUEST_FOUND_DRIVER_ROOT);
    want(drivers, "lvm", GUEST_FOUND_DRIVER_ROOT);
    if (drivers->count < DRIVERS_MAX)
        drivers->list[drivers->count - 1].program = true;
}

static void want_all(struct drivers *drivers, const struct boot *boot,
                     const struct boot_entry *entry) {
    const struct guest_part *root = root_part(boot, entry);

    want(drivers, "virtio_blk", GUEST_FOUND_DRIVER_DISK);
    want(drivers, "virtio_pci", GUEST_FOUND_DRIVER_DISK);
    want(drivers, "virtio_net", GUEST_FOUND_DRIVER_NET);
    drivers->list[drivers->count - 1].net = true;
    if (root != NULL)
        want_root(drivers, root, entry->cmdline);
}

static bool all_there(const struct drivers *drivers) {
    for (size_t i = 0; i < drivers->count; i++)
        if (!drivers->list[i].there)
            return false;
    return true;
}

/* --- The kernel's own lists ------------------------------------------------------------------- */

static char *list_text(const struct boot *boot, const struct drivers *drivers, const char *name) {
    IM_AUTO(free_auto) char *path = im_printf("/lib/modules/%s/%s", drivers->version, name);
    struct file file;
    char *text = NULL;
    size_t len;

    if (!tree_find(boot->tree, path, &file) || file.facts.size > LIST_BYTES ||
        !tree_read(boot->tree, path, LIST_BYTES, &text, &len))
        return NULL;
    return text;
}

/* "kernel/drivers/block/virtio_blk.ko" on a line of its own. */
static bool take_builtin(const struct boot *boot, struct drivers *drivers) {
    IM_AUTO(free_auto) char *text = list_text(boot, drivers, "modules.builtin");
    char *at = text, *line;

    if (text == NULL || !im_starts_with(text, "kernel/"))
        return false;
    while ((line = text_line(&at)) != NULL) {
        const char *base = base_of(line, strlen(line));

        for (size_t i = 0; i < drivers->count; i++)
            if (!drivers->list[i].program && module_is(base, strlen(base), drivers->list[i].name))
                drivers->list[i].there = true;
    }
    return true;
}

/* Where every kernel has it, or else wherever the list of all modules says. True if that is not
 * known either. */
static bool has_net(const struct boot *boot, struct drivers *drivers) {
    static const char *const ends[] = {"", ".xz", ".zst", ".gz"};
    IM_AUTO(free_auto) char *text = NULL;

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        IM_AUTO(free_auto)
        char *path = im_printf("/lib/modules/%s/kernel/drivers/net/virtio_net.ko%s",
                               drivers->version, ends[i]);

        if (tree_has(boot->tree, path))
            return true;
    }
    text = list_text(boot, drivers, "modules.dep");
    return text == NULL || strstr(text, "/virtio_net.ko") != NULL;
}

/* "blacklist virtio_net", "install virtio-net /bin/true". */
bool line_blocks(const char *line, const char *name) {
    char word[16] = "", module[64] = "", program[64] = "";
    const char *base;

    if (sscanf(line, "%15s %63s %63s", word, module, program) < 2 ||
        strlen(module) != strlen(name) || !same_name(module, name, strlen(name)))
        return false;
    base = base_of(program, strlen(program));
    return strcmp(word, "blacklist") == 0 ||
           (strcmp(word, "install") == 0 &&
            (strcmp(base, "true") == 0 || strcmp(base, "false") == 0));
}

void modprobe_files(const struct tree *tree, struct im_strings *paths) {
    static const char *const folders[] = {"/etc/modprobe.d", "/usr/lib/modprobe.d",
                                          "/lib/modprobe.d"};
    IM_AUTO(im_strings_done) struct im_strings seen = {0};

    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        IM_AUTO(im_strings_done) struct im_strings names = {0};

        tree_names(tree, folders[i], "", ".conf", &names);
        for (size_t k = 0; k < names.count; k++) {
            IM_AUTO(free_auto) char *path = im_printf("%s/%s", folders[i], names.items[k]);

            if (im_strings_has(&seen, names.items[k]))
                continue;
            im_strings_add(&seen, names.items[k]);
            im_strings_add(paths, path);
        }
    }
}

/* Not of what is built in. */
static void look_at_blocks(const struct boot *boot, struct drivers *drivers) {
    IM_AUTO(im_strings_done) struct im_strings paths = {0};

    modprobe_files(boot->tree, &paths);
    for (size_t i = 0; i < paths.count && drivers->blocked[0] == '\0'; i++) {
        IM_AUTO(free_auto) char *text = tree_text(boot->tree, paths.items[i]);

        for (char *at = text, *line; at != NULL && (line = text_line(&at)) != NULL;)
            if (line_blocks(line, "virtio_net"))
                text_take(drivers->blocked, sizeof(drivers->blocked), paths.items[i],
                          strlen(paths.items[i]));
    }
}

/* --- The initramfs ---------------------------------------------------------------------------- */

struct search {
    struct drivers *drivers;
    char *folder; /* "modules/6.1.0/": those of other kernels do not count */
};

static bool see_name(void *arg, const char *name, enum node_kind kind) {
    struct search *search = arg;
    const char *base = base_of(name, strlen(name));
    bool module = strstr(name, search->folder) != NULL;

    if (kind == NODE_LINK && strcmp(name, "lib") == 0)
        search->drivers->links = true;
    for (size_t i = 0; i < search->drivers->count; i++) {
        struct driver *driver = &search->drivers->list[i];

        driver->there |= kind == NODE_FOLDER ? false
                         : driver->program   ? strcmp(base, driver->name) == 0
                                           : module && module_is(base, strlen(base), driver->name);
    }
    return !all_there(search->drivers);
}

/* Of the file, or of the part of it that holds an initramfs. */
static void search_file(struct search *search, const struct file *file, uint64_t at, uint64_t len) {
    struct drivers *drivers = search->drivers;

    if (at > file->facts.size || len > file->facts.size - at)
        len = 0, at = 0;
    switch (initramfs_names(file, at, len, see_name, search)) {
    case INITRAMFS_DAMAGED:
        drivers->damaged = true;
        break;
    case INITRAMFS_UNKNOWN:
        drivers->sure = false;
        break;
    case INITRAMFS_END:
    case INITRAMFS_ENOUGH:
        break;
    }
}

static void search_packed(const struct boot *boot, const struct boot_entry *entry,
                          struct search *search) {
    struct boot_packed packed;
    struct file file;

    if (boot_find(boot, entry->kernel.part, entry->kernel.path, &file) != BOOT_FOUND ||
        !boot_unpack(&file, &packed)) {
        search->drivers->sure = false;
        return;
    }
    free(packed.cmdline);
    search_file(search, &file, packed.initrd_at, packed.initrd_len);
}

static void search_initrds(const struct boot *boot, const struct boot_entry *entry,
                           struct drivers *drivers) {
    IM_AUTO(free_auto) char *folder = im_printf("modules/%s/", drivers->version);
    struct search search = {drivers, folder};
    struct file file;

    if (entry->packed)
        search_packed(boot, entry, &search);
    for (size_t i = 0; i < entry->initrd_count && !all_there(drivers); i++)
        if (boot_find(boot, entry->initrds[i].part, entry->initrds[i].path, &file) == BOOT_FOUND)
            search_file(&search, &file, 0, file.facts.size);
        else
            drivers->sure = false;
}

/* --- All -------------------------------------------------------------------------------------- */

bool drivers_look(const struct boot *boot, const struct boot_entry *entry,
                  const struct boot_kernel *kernel, struct drivers *ret_drivers) {
    struct drivers drivers = {.sure = true};

    if (boot->tree == NULL || kernel->version[0] == '\0' || strchr(kernel->version, '/') != NULL)
        return false;
    snprintf(drivers.version, sizeof(drivers.version), "%s", kernel->version);
    want_all(&drivers, boot, entry);
    if (!take_builtin(boot, &drivers))
        return false;
    for (size_t i = 0; i < drivers.count; i++)
        if (drivers.list[i].net && !drivers.list[i].there) {
            drivers.list[i].there = has_net(boot, &drivers);
            look_at_blocks(boot, &drivers);
        }
    if (!all_there(&drivers))
        search_initrds(boot, entry, &drivers);
    *ret_drivers = drivers;
    return true;
}
