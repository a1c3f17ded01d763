/* SPDX-License-Identifier: Apache-2.0 */
/* Which services are started with the machine, by the links that systemd, OpenRC, runit and System
 * V's init go by. */
#include <stdio.h>

#include "system.h"

static const char *const unit_folders[] = {"/etc/systemd/system", "/usr/lib/systemd/system",
                                           "/lib/systemd/system"};
/* Where links to what is wanted lie. */
static const char *const wants[] = {
    "multi-user.target",     "sysinit.target",    "basic.target",
    "network-online.target", "network.target",    "default.target",
    "graphical.target",      "cloud-init.target", "cloud-config.target"};
static const char *const folders[] = {"/etc/runlevels/boot", "/etc/runlevels/default",
                                      "/etc/runlevels/sysinit", "/etc/runit/runsvdir/default",
                                      "/var/service"};
static const char *const level_folders[] = {"/etc/rc2.d", "/etc/rc3.d", "/etc/rcS.d",
                                            "/etc/rc.d/rc3.d"};

bool unit_masked(const struct tree *tree, const char *unit) {
    IM_AUTO(free_auto) char *path = im_printf("/etc/systemd/system/%s", unit);
    char target[16] = "";
    struct file file;
    size_t got = 0;

    return tree_find_link(tree, path, &file) && file.facts.kind == NODE_LINK &&
           file_read(&file, 0, target, sizeof(target) - 1, &got) &&
           strcmp(target, "/dev/null") == 0;
}

/* The first name in a folder that begins so, into `out`. */
static bool named_in(const struct tree *tree, const char *folder, const char *begin, char *out,
                     size_t size) {
    IM_AUTO(im_strings_done) struct im_strings names = {0};

    tree_names(tree, folder, begin, "", &names);
    if (names.count > 0)
        snprintf(out, size, "%s", names.items[0]);
    return names.count > 0;
}

bool unit_begins(const struct tree *tree, const char *begin, char *out, size_t size) {
    for (size_t i = 0; i < sizeof(unit_folders) / sizeof(unit_folders[0]); i++)
        for (size_t j = 0; j < sizeof(wants) / sizeof(wants[0]); j++) {
            IM_AUTO(free_auto) char *path = im_printf("%s/%s.wants", unit_folders[i], wants[j]);

            if (named_in(tree, path, begin, out, size))
                return true;
        }
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
        if (named_in(tree, folders[i], begin, out, size))
            return true;
    for (size_t i = 0; i < sizeof(level_folders) / sizeof(level_folders[0]); i++) {
        IM_AUTO(im_strings_done) struct im_strings names = {0};

        tree_names(tree, level_folders[i], "S", "", &names);
        for (size_t k = 0; k < names.count; k++)
            if (strlen(names.items[k]) > 3 && im_starts_with(names.items[k] + 3, begin)) {
                snprintf(out, size, "%s", names.items[k] + 3);
                return true;
            }
    }
    return false;
}

bool unit_starts(const struct tree *tree, const char *name) {
    IM_AUTO(free_auto) char *unit = im_printf("%s.service", name);
    struct file file;

    if (unit_masked(tree, unit))
        return false;
    for (size_t i = 0; i < sizeof(unit_folders) / sizeof(unit_folders[0]); i++)
        for (size_t j = 0; j < sizeof(wants) / sizeof(wants[0]); j++) {
            IM_AUTO(free_auto)
            char *path = im_printf("%s/%s.wants/%s", unit_folders[i], wants[j], unit);

            if (tree_find_link(tree, path, &file))
                return true;
        }
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", folders[i], name);

        if (tree_find_link(tree, path, &file))
            return true;
    }
    return false;
}
