/* SPDX-License-Identifier: Apache-2.0 */
/* Drivers put into an initramfs: an archive of them behind those that are there, which the kernel
 * unpacks last; and the word to the distribution's own tool for the next one that it makes. */
#include <stdio.h>

#include "drivers.h"
#include "repair-boot.h"

#define MODULES_BYTES (8u << 20) /* of all that is added */
#define LIST_BYTES (8u << 20)

/* --- An archive ------------------------------------------------------------------------------- */

struct adding {
    struct planning *planning;
    struct drivers drivers;
    struct im_str archive;
    unsigned count;          /* of what is in it */
    struct im_strings there; /* names in the archive */
    const char *top;         /* "usr/lib" or "lib" */
};

/* "070701" and thirteen fields; then the name, and the content, each up to a multiple of four. */
static void put_entry(struct adding *adding, const char *name, unsigned mode, const void *data,
                      size_t len) {
    struct im_str *archive = &adding->archive;

    im_str_addf(archive, "070701%08X%08X%08X%08X%08X%08X%08zX%08X%08X%08X%08X%08zX%08X",
                ++adding->count, mode, 0, 0, 1, 0, len, 0, 0, 0, 0, strlen(name) + 1, 0);
    im_str_add_bytes(archive, name, strlen(name) + 1);
    while (archive->len % 4 != 0)
        im_str_add_bytes(archive, "", 1);
    if (len > 0)
        im_str_add_bytes(archive, data, len);
    while (archive->len % 4 != 0)
        im_str_add_bytes(archive, "", 1);
}

/* The folders on the way to the name, each once. */
static void put_folders(struct adding *adding, const char *name) {
    for (const char *slash = strchr(name, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        IM_AUTO(free_auto) char *folder = im_strndup(name, (size_t) (slash - name));

        if (im_strings_has(&adding->there, folder))
            continue;
        im_strings_add(&adding->there, folder);
        put_entry(adding, folder, 040755, NULL, 0);
    }
}

static void put_file(struct adding *adding, const char *name, const void *data, size_t len) {
    if (im_strings_has(&adding->there, name))
        return;
    put_folders(adding, name);
    im_strings_add(&adding->there, name);
    put_entry(adding, name, 0100644, data, len);
}

/* A file of the modules' folder, by its path there; false when it is not there or too large. */
static bool put_module_file(struct adding *adding, const char *path) {
    IM_AUTO(free_auto)
    char *from = im_printf("/lib/modules/%s/%s", adding->drivers.version, path);
    IM_AUTO(free_auto)
    char *name = im_printf("%s/modules/%s/%s", adding->top, adding->drivers.version, path);
    IM_AUTO(free_auto) char *data = NULL;
    struct file file;
    size_t len;

    if (!tree_find(adding->planning->tree, from, &file) || file.facts.kind != NODE_FILE ||
        adding->archive.len + file.facts.size > MODULES_BYTES ||
        !tree_read(adding->planning->tree, from, MODULES_BYTES, &data, &len) ||
        len != file.facts.size)
        return false;
    put_file(adding, name, data, len);
    return true;
}

/* --- Modules ---------------------------------------------------------------------------------- */

static bool is_plain(const char *path) {
    return path[0] != '\0' && path[0] != '/' && strstr(path, "..") == NULL;
}

/* A line of modules.dep is the module, a colon, and all that it needs. */
static bool put_line(struct adding *adding, const char *line) {
    struct im_strings paths = {0};
    bool fine = true;

    im_strings_split(&paths, line, ": \t\r");
    for (size_t i = 0; i < paths.count && fine; i++)
        fine = is_plain(paths.items[i]) && put_module_file(adding, paths.items[i]);
    im_strings_done(&paths);
    return fine && paths.count == 0;
}

/* The module that is so called, and what it needs; what is built in has no line. */
static bool put_module(struct adding *adding, const char *list, const char *name) {
    IM_AUTO(free_auto) char *copy = im_strdup(list);
    char *at = copy, *line;

    while ((line = text_line(&at)) != NULL) {
        size_t len = strcspn(line, ":");
        const char *slash = memrchr(line, '/', len), *base = slash != NULL ? slash + 1 : line;

        if (module_is(base, len - (size_t) (base - line), name))
            return put_line(adding, line);
    }
    return false;
}

/* Checksums that file systems ask the kernel for by a name that no list has. */
static void put_helpers(struct adding *adding, const char *list) {
    static const char *const helpers[] = {"crc32c_generic", "crc32c_intel", "libcrc32c",
                                          "xxhash_generic"};

    for (size_t i = 0; i < sizeof(helpers) / sizeof(helpers[0]); i++)
        (void) put_module(adding, list, helpers[i]);
}

/* Names that lack, first as a sentence's end. False when one of them is nowhere. */
static bool put_missing(struct adding *adding, const char *list, struct im_str *names) {
    for (size_t i = 0; i < adding->drivers.count; i++) {
        const struct driver *driver = &adding->drivers.list[i];

        if (driver->there || driver->net)
            continue;
        im_str_addf(names, "%s%s", names->len > 0 ? ", " : "", driver->name);
        if (driver->program || !put_module(adding, list, driver->name))
            return false;
        if (driver->as == GUEST_FOUND_DRIVER_ROOT)
            put_helpers(adding, list);
    }
    return true;
}

/* How udev and modprobe there find them; and a list for those systems that load by one. */
static void put_lists(struct adding *adding) {
    static const char *const lists[] = {"modules.dep", "modules.dep.bin", "modules.alias",
                                        "modules.alias.bin"};
    static const char names[] = "virtio_pci\nvirtio_blk\n";

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        (void) put_module_file(adding, lists[i]);
    put_file(adding, "etc/modules-load.d/virtio.conf", names, strlen(names));
    put_entry(adding, "TRAILER!!!", 0, NULL, 0);
}

/* --- The next initramfs ----------------------------------------------------------------------- */

static void add_lines(struct planning *planning, const char *path, const char *lines) {
    const char *text = draft_text(planning, path);

    if (text != NULL && strstr(text, lines) != NULL)
        return;
    draft_set(planning, path,
              im_printf("%s%s%s", text != NULL ? text : "",
                        text != NULL && text[0] != '\0' && !im_ends_with(text, "\n") ? "\n" : "",
                        lines),
              0644);
}

/* features="ata base …" of Alpine's mkinitfs. */
static void add_feature(struct planning *planning, const char *path) {
    const char *text = draft_text(planning, path);
    const char *at = text != NULL ? strstr(text, "features=\"") : NULL;

    if (at == NULL || strstr(text, "virtio") != NULL)
        return;
    at += strlen("features=\"");
    draft_set(planning, path, im_printf("%.*svirtio %s", (int) (at - text), text, at), 0644);
}

static void tell_tools(struct planning *planning) {
    const struct tree *tree = planning->tree;

    if (tree_has(tree, "/etc/initramfs-tools"))
        add_lines(planning, "/etc/initramfs-tools/modules",
                  "virtio_pci\nvirtio_blk\nvirtio_scsi\nvirtio_net\n");
    if (tree_has(tree, "/usr/lib/dracut") || tree_has(tree, "/etc/dracut.conf.d"))
        add_lines(planning, "/etc/dracut.conf.d/virtio.conf",
                  "add_drivers+=\" virtio_pci virtio_blk virtio_scsi virtio_net \"\n");
    if (tree_has(tree, "/etc/mkinitcpio.conf"))
        add_lines(planning, "/etc/mkinitcpio.conf",
                  "MODULES+=(virtio_pci virtio_blk virtio_scsi virtio_net)\n");
    if (tree_has(tree, "/etc/mkinitfs/mkinitfs.conf"))
        add_feature(planning, "/etc/mkinitfs/mkinitfs.conf");
}

/* --- All -------------------------------------------------------------------------------------- */

/* The one that is unpacked last; lz4's old form has no end, so that nothing can follow it. */
static bool can_append(struct planning *planning, const struct boot_entry *entry,
                       const struct boot_file **ret_initrd) {
    const struct boot *boot = planning_boot(planning);
    const struct boot_file *initrd;
    struct file file;
    uint8_t head[4] = {0};
    size_t got;

    if (entry->packed || entry->initrd_count == 0) {
        plan_cannot(planning, "%s",
                    entry->packed ? "kernel and initramfs are one signed file"
                                  : "there is no initramfs to put them into");
        return false;
    }
    initrd = &entry->initrds[entry->initrd_count - 1];
    if (boot_find(boot, initrd->part, initrd->path, &file) != BOOT_FOUND ||
        !file_read(&file, 0, head, sizeof(head), &got) ||
        memcmp(head, "\x02\x21\x4c\x18", 4) == 0) {
        plan_cannot(planning, "nothing can be put behind the initramfs %.120s", initrd->path);
        return false;
    }
    *ret_initrd = initrd;
    return true;
}

static bool look_again(struct planning *planning, const struct boot_entry *entry,
                       struct drivers *drivers) {
    const struct boot *boot = planning_boot(planning);
    struct boot_kernel kernel;
    struct file file;
    const char *why;

    return planning->tree != NULL && entry != NULL && entry->kernel.path != NULL &&
           boot_find(boot, entry->kernel.part, entry->kernel.path, &file) == BOOT_FOUND &&
           !entry->packed && boot_kernel_check(&file, 0, file.facts.size, &kernel, &why) &&
           drivers_look(boot, entry, &kernel, drivers) && drivers->sure;
}

static char *read_list(const struct adding *adding) {
    IM_AUTO(free_auto)
    char *path = im_printf("/lib/modules/%s/modules.dep", adding->drivers.version);
    char *list = NULL;
    size_t len;

    return tree_read(adding->planning->tree, path, LIST_BYTES, &list, &len) ? list : NULL;
}

static void append(struct adding *adding, const struct boot_file *initrd, const char *names) {
    struct planning *planning = adding->planning;
    IM_AUTO(free_auto) char *path = machine_path_of(planning, initrd);
    IM_AUTO(free_auto) char *what = im_printf("an archive with %s", names);
    size_t len;

    if (path == NULL) {
        plan_cannot(planning, "the file system of the initramfs cannot be mounted");
        return;
    }
    put_lists(adding);
    len = adding->archive.len;
    plan_append(planning, path, im_str_take(&adding->archive), len, what);
    tell_tools(planning);
    planning->drivers_added = true;
    plan_done(planning,
              "%s of the kernel %s are put into the initramfs %.100s, and into those that "
              "are made later",
              names, adding->drivers.version, path);
}

static void adding_done(struct adding *adding) {
    im_str_done(&adding->archive);
    im_strings_done(&adding->there);
}

void repair_drivers(struct planning *planning) {
    const struct boot_entry *entry = boot_default(planning_boot(planning));
    IM_AUTO(adding_done) struct adding adding = {.planning = planning};
    const struct boot_file *initrd;
    IM_AUTO(free_auto) char *list = NULL;
    struct im_str names = {0};

    if (planning->drivers_added) { /* by the other finding's repair */
        plan_done(planning,
                  "the drivers of the root file system are put into the initramfs as well");
        return;
    }
    if (!look_again(planning, entry, &adding.drivers)) {
        plan_cannot(planning, "the kernel that is started is not known well enough");
        return;
    }
    if (!can_append(planning, entry, &initrd))
        return;
    adding.top = adding.drivers.links ? "usr/lib" : "lib";
    list = read_list(&adding);
    if (list != NULL && put_missing(&adding, list, &names))
        append(&adding, initrd, names.data != NULL ? names.data : "nothing");
    else
        plan_cannot(planning,
                    "the modules of the kernel %s on this disk do not have %s: install "
                    "all of them",
                    adding.drivers.version, names.data != NULL ? names.data : "a list");
    im_str_done(&names);
}
