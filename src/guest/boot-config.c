/* SPDX-License-Identifier: Apache-2.0 */
/* Where boot loaders look for what to start, and which of it a machine of this disk comes to. */
#include "boot-config.h"

#include <stdio.h>

/* --- Menus ------------------------------------------------------------------------------------ */

struct boot_entry *boot_entry_add(struct boot_menu *menu, const char *title, const char *id) {
    struct boot_entry *entry;

    if (menu->count == ENTRIES_MAX)
        return NULL;
    im_grow(&menu->entries, menu->count, &menu->capacity);
    entry = &menu->entries[menu->count++];
    *entry = (struct boot_entry){.title = im_strdup(title), .id = im_strdup(id), .within = NOWHERE};
    return entry;
}

void boot_entry_initrd(struct boot_entry *entry, size_t part, const char *path) {
    if (entry->initrd_count < INITRDS_MAX && path[0] != '\0')
        entry->initrds[entry->initrd_count++] = (struct boot_file){part, im_strdup(path)};
}

static void entry_done(struct boot_entry *entry) {
    free(entry->title);
    free(entry->id);
    free(entry->kernel.path);
    free(entry->cmdline);
    free(entry->lost);
    for (size_t i = 0; i < entry->initrd_count; i++)
        free(entry->initrds[i].path);
}

void boot_menu_done(struct boot_menu *menu) {
    for (size_t i = 0; i < menu->count; i++)
        entry_done(&menu->entries[i]);
    free(menu->entries);
    free(menu->wanted);
    free(menu->lost);
    *menu = (struct boot_menu){0};
}

/* --- Places ----------------------------------------------------------------------------------- */

static void add_place(struct boot *boot, const struct volume *volume, struct node root) {
    struct place *place;

    for (size_t i = 0; i < boot->place_count; i++)
        if (boot->places[i].tree.mounts[0].volume == volume &&
            node_same(boot->places[i].tree.mounts[0].root, root))
            return;
    if (boot->place_count == PLACES_MAX)
        return;
    im_grow(&boot->places, boot->place_count, &boot->place_capacity);
    place = &boot->places[boot->place_count++];
    place->part = volume->part;
    place->tree = tree_of(volume);
    place->tree.mounts[0].root = root;
}

/* Those that the machine mounts first, its root before all but the one the menu is on. A file
 * system with subvolumes has several roots, and boot loaders differ in which they take. */
static void find_places(struct boot *boot) {
    const struct look *look = boot->look;

    if (boot->tree != NULL && boot->tree->menu.volume != NULL)
        add_place(boot, boot->tree->menu.volume, boot->tree->menu.root);
    for (size_t i = 0; boot->tree != NULL && i < boot->tree->count; i++)
        add_place(boot, boot->tree->mounts[i].volume, boot->tree->mounts[i].root);
    for (size_t i = 0; i < look->volume_count; i++) {
        const struct volume *volume = look->volumes[i];
        struct node top;

        add_place(boot, volume, volume->root);
        if (volume->ops->choose != NULL && volume->ops->choose(volume->state, "subvolid=5", &top))
            add_place(boot, volume, top);
    }
}

enum boot_answer boot_find(const struct boot *boot, size_t part, const char *path,
                           struct file *ret_file) {
    enum boot_answer answer = BOOT_UNKNOWN;

    for (size_t i = 0; i < boot->place_count; i++) {
        if (boot->places[i].part != part)
            continue;
        if (tree_find(&boot->places[i].tree, path, ret_file))
            return BOOT_FOUND;
        answer = BOOT_MISSING;
    }
    return answer;
}

static void remember_text(struct boot *boot, const struct place *place, const char *path) {
    for (size_t i = 0; i < boot->text_count; i++)
        if (boot->texts[i].place == place && strcmp(boot->texts[i].path, path) == 0)
            return;
    if (boot->text_count < TEXTS_MAX)
        boot->texts[boot->text_count++] = (struct boot_config_file){place, im_strdup(path)};
}

char *boot_text(struct boot *boot, size_t part, const char *path) {
    char *text = NULL;
    size_t len;

    for (size_t i = 0; i < boot->place_count; i++)
        if (boot->places[i].part == part &&
            tree_read(&boot->places[i].tree, path, CONFIG_BYTES, &text, &len)) {
            remember_text(boot, &boot->places[i], path);
            return text;
        }
    return NULL;
}

size_t boot_part_index(const struct boot *boot, const struct guest_part *part) {
    return part != NULL ? (size_t) (part - boot->look->found->parts) : NOWHERE;
}

/* --- Ways to a menu --------------------------------------------------------------------------- */

static const struct {
    const char *path;
    void (*read)(struct boot *boot, size_t part, const char *path);
} configs[] = {
    {"/boot/grub/grub.cfg", boot_grub},
    {"/grub/grub.cfg", boot_grub},
    {"/boot/grub2/grub.cfg", boot_grub},
    {"/grub2/grub.cfg", boot_grub},
    {"/boot/extlinux/extlinux.conf", boot_extlinux},
    {"/extlinux/extlinux.conf", boot_extlinux},
    {"/boot/extlinux.conf", boot_extlinux},
    {"/extlinux.conf", boot_extlinux},
    {"/boot/syslinux/syslinux.cfg", boot_extlinux},
    {"/syslinux/syslinux.cfg", boot_extlinux},
    {"/syslinux.cfg", boot_extlinux},
    {"/boot/grub/menu.lst", boot_grub_legacy},
    {"/grub/menu.lst", boot_grub_legacy},
    {"/boot/grub/grub.conf", boot_grub_legacy},
    {"/grub/grub.conf", boot_grub_legacy},
};

/* What lies in the root's own /boot is not seen where another file system is mounted there. */
static bool hidden(const struct boot *boot, const struct place *place, const char *path) {
    if (boot->tree == NULL || place->tree.mounts[0].volume != boot->tree->mounts[0].volume ||
        !im_starts_with(path, "/boot/"))
        return false;
    for (size_t i = 1; i < boot->tree->count; i++)
        if (strcmp(boot->tree->mounts[i].path, "/boot") == 0)
            return true;
    return false;
}

/* Empty ones do not count: the search goes on. */
static bool menu_there(struct boot *boot) {
    if (boot->menu.count > 0)
        return true;
    boot_menu_done(&boot->menu);
    return false;
}

static bool find_config(struct boot *boot) {
    for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++)
        for (size_t j = 0; j < boot->place_count; j++) {
            const struct place *place = &boot->places[j];

            if (!tree_has(&place->tree, configs[i].path) || hidden(boot, place, configs[i].path))
                continue;
            configs[i].read(boot, place->part, configs[i].path);
            if (menu_there(boot))
                return true;
        }
    return false;
}

/* --- UEFI ------------------------------------------------------------------------------------- */

static bool file_at(const struct boot *boot, size_t part, const char *path, struct file *ret_file) {
    return boot_find(boot, part, path, ret_file) == BOOT_FOUND &&
           ret_file->facts.kind == NODE_FILE && ret_file->facts.size > 0;
}

/* bootctl puts the same program into both places. */
static bool systemd_starts(const struct boot *boot, size_t esp) {
    struct file own, fallback;

    return file_at(boot, esp, "/EFI/systemd/systemd-bootx64.efi", &own) &&
           (!file_at(boot, esp, "/EFI/BOOT/BOOTX64.EFI", &fallback) ||
            own.facts.size == fallback.facts.size);
}

struct vendors {
    struct im_strings names;
};

static bool see_vendor(void *arg, const char *name, size_t len) {
    struct vendors *vendors = arg;
    IM_AUTO(free_auto) char *path = im_printf("/EFI/%.*s/grub.cfg", (int) len, name);

    im_strings_add(&vendors->names, path);
    return vendors->names.count < 32;
}

/* The fallback loader's own, then the system's, then any. */
static bool vendor_config(struct boot *boot, size_t esp, char *out, size_t size) {
    struct vendors vendors = {0};
    struct file folder, file;
    bool found = false;

    if (boot_find(boot, esp, "/EFI", &folder) == BOOT_FOUND && folder.facts.kind == NODE_FOLDER)
        (void) folder.volume->ops->list(folder.volume->state, &folder.node, see_vendor, &vendors);
    snprintf(out, size, "/EFI/BOOT/grub.cfg");
    found = file_at(boot, esp, out, &file);
    if (!found && boot->look->found->os.id[0] != '\0') {
        snprintf(out, size, "/EFI/%s/grub.cfg", boot->look->found->os.id);
        found = file_at(boot, esp, out, &file);
    }
    for (size_t i = 0; i < vendors.names.count && !found; i++) {
        snprintf(out, size, "%s", vendors.names.items[i]);
        found = file_at(boot, esp, out, &file);
    }
    im_strings_done(&vendors.names);
    return found;
}

/* A disk that a BIOS starts as well is judged by what that one comes to. */
static bool grub_on_esp(struct boot *boot, size_t esp) {
    char path[1024];

    if (!vendor_config(boot, esp, path, sizeof(path)))
        return false;
    boot_grub(boot, esp, path);
    if (boot->menu.count == 0 && boot->menu.lost != NULL && !boot->look->found->bios) {
        char where[128], lost[64];

        text_take(where, sizeof(where), path, strlen(path));
        text_take(lost, sizeof(lost), boot->menu.lost, strlen(boot->menu.lost));
        look_found(boot->look, GUEST_FOUND_ESP_CONFIG,
                   "%s on the EFI system partition searches for the file system %s, which is not "
                   "on this disk",
                   where, lost);
    }
    return menu_there(boot);
}

/* The firmware's own choice may be a kernel, with all that it needs in it. */
static bool kernel_on_esp(struct boot *boot, size_t esp) {
    struct boot_packed packed;
    struct boot_kernel kernel;
    struct boot_entry *entry;
    struct file file;
    const char *why;

    if (!file_at(boot, esp, "/EFI/BOOT/BOOTX64.EFI", &file))
        return false;
    if (!boot_unpack(&file, &packed)) /* a bare kernel knows all else by itself */
        return boot_kernel_check(&file, 0, file.facts.size, &kernel, &why);
    free(packed.cmdline);
    boot->menu.loader = "uki";
    snprintf(boot->menu.config, sizeof(boot->menu.config), "/EFI/BOOT/BOOTX64.EFI on %s",
             boot->look->found->parts[esp].name);
    boot->menu.part = esp;
    entry = boot_entry_add(&boot->menu, "BOOTX64.EFI", "");
    entry->packed = true;
    entry->kernel = (struct boot_file){esp, im_strdup("/EFI/BOOT/BOOTX64.EFI")};
    return true;
}

static bool find_on_esp(struct boot *boot) {
    const struct guest_inspection *found = boot->look->found;

    for (size_t i = 0; i < found->part_count; i++) {
        if (strcmp(found->parts[i].type, TYPE_ESP) != 0)
            continue;
        if (systemd_starts(boot, i))
            boot_systemd(boot, i);
        if (menu_there(boot) || grub_on_esp(boot, i) || kernel_on_esp(boot, i))
            return true;
    }
    return false;
}

/* Entries that no known name leads to: systemd-boot behind a shim, or a GRUB that has its script in
 * itself. */
static bool entries_on_esp(struct boot *boot) {
    const struct guest_inspection *found = boot->look->found;

    for (size_t i = 0; found->uefi && i < found->part_count; i++) {
        if (strcmp(found->parts[i].type, TYPE_ESP) != 0)
            continue;
        boot_systemd(boot, i);
        if (menu_there(boot))
            return true;
    }
    return false;
}

/* Their command lines are in the files. */
static void open_packed(struct boot *boot) {
    for (size_t i = 0; i < boot->menu.count; i++) {
        struct boot_entry *entry = &boot->menu.entries[i];
        struct boot_packed packed;
        struct file file;

        if (entry->packed && entry->cmdline == NULL &&
            boot_find(boot, entry->kernel.part, entry->kernel.path, &file) == BOOT_FOUND &&
            boot_unpack(&file, &packed))
            entry->cmdline = packed.cmdline;
    }
}

/* --- All -------------------------------------------------------------------------------------- */

/* Nothing on the disk that may hold a menu stayed closed to us. */
static bool all_seen(const struct look *look) {
    for (size_t i = 0; i < look->found->part_count; i++) {
        const struct guest_part *part = &look->found->parts[i];
        bool none = strcmp(part->filesystem, "swap") == 0 ||
                    strcmp(part->filesystem, "LVM2_member") == 0 ||
                    strcmp(part->type, TYPE_BIOS) == 0;

        if (!none && volume_of(look, part) == NULL)
            return false;
    }
    return !look_hides_something(look);
}

static void no_menu(const struct boot *boot) {
    struct look *look = boot->look;

    if (boot->tree == NULL || boot->tree->deployed || /* GRUB may have its script in itself */
        strcmp(look->found->os.platform, "linux") != 0 || !all_seen(look) ||
        !(look->grub || (look->found->uefi && !look->found->bios)))
        return;
    for (size_t i = 0; i < look->found->finding_count; i++)
        if (im_starts_with(look->found->findings[i].code, "esp."))
            return; /* told already why */
    look_found(look, GUEST_FOUND_BOOT_CONFIG,
               "there is a boot loader, but no configuration that tells it what to start");
}

static bool find_menu(struct boot *boot) {
    bool only_uefi = boot->look->found->uefi && !boot->look->found->bios;
    bool found = (only_uefi && find_on_esp(boot)) || find_config(boot) ||
                 (!only_uefi && find_on_esp(boot)) || entries_on_esp(boot);

    if (found)
        open_packed(boot);
    return found;
}

static struct boot *boot_new(struct look *look, const struct tree *tree) {
    struct boot *boot = im_alloc(sizeof(*boot));

    boot->look = look;
    boot->tree = tree;
    find_places(boot);
    return boot;
}

struct boot *boot_open(struct look *look, const struct tree *tree) {
    struct boot *boot = boot_new(look, tree);

    (void) find_menu(boot);
    return boot;
}

void boot_free(struct boot *boot) {
    if (boot == NULL)
        return;
    boot_menu_done(&boot->menu);
    for (size_t i = 0; i < boot->text_count; i++)
        free(boot->texts[i].path);
    free(boot->places);
    free(boot);
}

void boot_look(struct look *look, const struct tree *tree) {
    IM_AUTO(boot_free_auto) struct boot *boot = boot_new(look, tree);

    if (find_menu(boot))
        boot_judge(boot);
    else
        no_menu(boot);
}
