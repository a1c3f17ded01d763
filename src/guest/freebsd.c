/* SPDX-License-Identifier: Apache-2.0 */
/* FreeBSD, where it differs from what Linux does: its version, and what its loader starts. */
#include <stdio.h>

#include "system.h"

/* --- Which one -------------------------------------------------------------------------------- */

/* /etc/os-release is made anew at each start, and not there before the first. */
bool freebsd_release(const struct tree *tree, struct guest_os *os) {
    IM_AUTO(free_auto) char *text = tree_text(tree, "/bin/freebsd-version");
    char *at = text, *line, release[64] = "";

    while (at != NULL && (line = text_line(&at)) != NULL)
        (void) text_value(line, "USERLAND_VERSION", release, sizeof(release));
    if (release[0] == '\0')
        return false;
    snprintf(os->id, sizeof(os->id), "freebsd");
    snprintf(os->name, sizeof(os->name), "FreeBSD %s", release);
    snprintf(os->version, sizeof(os->version), "%.*s", (int) strspn(release, "0123456789."),
             release);
    snprintf(os->platform, sizeof(os->platform), "bsd");
    return true;
}

void freebsd_hostname(const struct tree *tree, struct guest_os *os) {
    IM_AUTO(free_auto) char *text = tree_text(tree, "/etc/rc.conf");
    char *at = text, *line;

    while (at != NULL && (line = text_line(&at)) != NULL)
        (void) text_value(line, "hostname", os->hostname, sizeof(os->hostname));
}

/* --- What its loader starts ------------------------------------------------------------------- */

struct loader {
    char kernel[128], root[128];
};

static void take_loader(const struct tree *tree, const char *path, struct loader *loader) {
    IM_AUTO(free_auto) char *text = tree_text(tree, path);
    char *at = text, *line;

    while (at != NULL && (line = text_line(&at)) != NULL) {
        (void) text_value(line, "kernel", loader->kernel, sizeof(loader->kernel));
        (void) text_value(line, "vfs.root.mountfrom", loader->root, sizeof(loader->root));
    }
}

static void check_kernel(struct look *look, const struct tree *tree, const struct loader *loader) {
    struct guest_boot *boot = &look->found->boot;
    struct file file;

    snprintf(boot->loader, sizeof(boot->loader), "freebsd");
    snprintf(boot->kernel, sizeof(boot->kernel), "%s%s/kernel",
             loader->kernel[0] == '/' ? "" : "/boot/", loader->kernel);
    snprintf(boot->part, sizeof(boot->part), "%s", look->found->os.root);
    if (!tree_find(tree, boot->kernel, &file))
        look_found(look, GUEST_FOUND_BOOT_KERNEL, "the kernel %.120s does not exist on %s",
                   boot->kernel, boot->part);
    else if (file.facts.kind != NODE_FILE || file.facts.size == 0)
        look_found(look, GUEST_FOUND_BOOT_KERNEL_DAMAGED, "the kernel %.120s on %s is empty",
                   boot->kernel, boot->part);
}

/* "ufs:/dev/gpt/rootfs", maybe several with blanks between them; without it fstab tells. */
static void check_root(struct look *look, const struct loader *loader) {
    const char *device = strchr(loader->root, ':');

    if (device == NULL || strchr(loader->root, ' ') != NULL)
        return;
    device++;
    if (device_by_number(device))
        look_found(look, GUEST_FOUND_BOOT_ROOT_NAME,
                   "the loader's vfs.root.mountfrom is %.120s, which may be another disk elsewhere",
                   loader->root);
    else if (fstab_bound(device) && part_named(look, device) == NULL && !look_hides_something(look))
        look_found(look, GUEST_FOUND_BOOT_ROOT,
                   "the loader's vfs.root.mountfrom is %.120s, which is not on this disk",
                   loader->root);
}

void freebsd_boot(struct look *look, const struct tree *tree) {
    static const char *const files[] = {"/boot/loader.conf", "/boot/loader.conf.local"};
    struct loader loader = {.kernel = "kernel"};

    if (!tree_has(tree, "/boot/loader") && !tree_has(tree, "/boot/loader.efi"))
        return; /* it is started in another way */
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        take_loader(tree, files[i], &loader);
    check_kernel(look, tree, &loader);
    check_root(look, &loader);
}
