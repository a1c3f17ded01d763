/* SPDX-License-Identifier: Apache-2.0 */
/* The boot loader on the EFI system partition, where the firmware of any machine looks for it. */
#include <stdio.h>

#include "repair-boot.h"

#define FALLBACK "/EFI/BOOT"

/* Loaders in the order in which they are taken, and what has to lie beside each. */
static const struct {
    const char *loader;
    const char *companions[4];
} loaders[] = {
    {"shimx64.efi", {"grubx64.efi", "mmx64.efi", "grub.cfg"}},
    {"shim.efi", {"grub.efi", "MokManager.efi", "grub.cfg"}}, /* openSUSE's */
    {"grubx64.efi", {"grub.cfg"}},
    {"grub.efi", {"grub.cfg"}},
    {"systemd-bootx64.efi", {NULL}},
    {"refind_x64.efi", {NULL}},
    {"bootmgfw.efi", {NULL}},
    {"Boot/bootmgfw.efi", {NULL}},
};
enum { LOADERS = sizeof(loaders) / sizeof(loaders[0]) };

struct vendor {
    struct planning *planning;
    const struct volume *esp;
    size_t rank; /* of the best loader so far */
    char folder[300];
};

static bool file_there(const struct volume *esp, const char *path) {
    struct tree tree = tree_of(esp);
    struct file file;

    return tree_find(&tree, path, &file) && file.facts.kind == NODE_FILE && file.facts.size > 0;
}

/* The system's own folder before one that another left there. */
static bool see_vendor(void *arg, const char *name, size_t len) {
    struct vendor *vendor = arg;
    const struct guest_inspection *found = vendor->planning->look->found;
    IM_AUTO(free_auto) char *folder = im_strndup(name, len);
    bool own = strcasecmp(folder, found->os.id) == 0;

    if (folder[0] == '.' || strchr(folder, '/') != NULL || strlen(folder) > 255 ||
        strcasecmp(folder, "BOOT") == 0 || !im_utf8_valid(folder, strlen(folder)))
        return true;
    for (size_t i = 0; i < LOADERS && (i < vendor->rank || (own && vendor->rank < LOADERS)); i++) {
        IM_AUTO(free_auto) char *path = im_printf("/EFI/%s/%s", folder, loaders[i].loader);

        if (!file_there(vendor->esp, path))
            continue;
        vendor->rank = i;
        snprintf(vendor->folder, sizeof(vendor->folder), "/EFI/%s", folder);
        break;
    }
    return true;
}

static const struct volume *esp_of(const struct planning *planning) {
    const struct look *look = planning->look;

    for (size_t i = 0; i < look->volume_count; i++)
        if (strcmp(volume_part(look->volumes[i])->type, TYPE_ESP) == 0)
            return look->volumes[i];
    return NULL;
}

static void copy_file(struct planning *planning, const struct volume *esp, const char *from,
                      const char *to) {
    IM_AUTO(free_auto) char *source = machine_path(planning, esp, esp->root, from);
    IM_AUTO(free_auto) char *target = machine_path(planning, esp, esp->root, to);

    if (source != NULL && target != NULL)
        plan_copy(planning, source, target);
}

/* What the loader finds beside itself: another's is not written over. */
static void copy_companions(struct planning *planning, const struct vendor *vendor) {
    const char *const *names = loaders[vendor->rank].companions;

    for (size_t i = 0; i < 4 && names[i] != NULL; i++) {
        IM_AUTO(free_auto) char *from = im_printf("%s/%s", vendor->folder, names[i]);
        IM_AUTO(free_auto) char *to = im_printf(FALLBACK "/%s", names[i]);

        if (file_there(vendor->esp, from) && !file_there(vendor->esp, to))
            copy_file(planning, vendor->esp, from, to);
    }
}

void repair_esp_fallback(struct planning *planning) {
    const struct volume *esp = esp_of(planning);
    struct vendor vendor = {.planning = planning, .esp = esp, .rank = LOADERS};
    struct tree tree;
    IM_AUTO(free_auto) char *loader = NULL;
    IM_AUTO(free_auto) char *target = NULL;

    if (esp != NULL) {
        tree = tree_of(esp);
        (void) tree_list(&tree, "/EFI", see_vendor, &vendor);
        target = machine_path(planning, esp, esp->root, FALLBACK "/BOOTX64.EFI");
    }
    if (vendor.rank == LOADERS || target == NULL) {
        plan_cannot(planning, "%s",
                    vendor.rank == LOADERS
                        ? "no boot loader that is known is on the EFI system partition"
                        : "the EFI system partition cannot be mounted anywhere in the system");
        return;
    }
    loader = im_printf("%s/%s", vendor.folder, loaders[vendor.rank].loader);
    copy_file(planning, esp, loader, FALLBACK "/BOOTX64.EFI");
    copy_companions(planning, &vendor);
    plan_done(planning,
              "%.200s is also put where every machine's firmware looks for it: " FALLBACK
              "/BOOTX64.EFI",
              loader);
}
