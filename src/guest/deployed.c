/* SPDX-License-Identifier: Apache-2.0 */
/* Systems that come as whole images: their root is a folder of its file system (ostree), or their
 * /usr a partition of its own that no fstab names (Flatcar). */
#include <stdio.h>

#include "boot-config.h"

#define DEPLOYED "/ostree/deploy"
#define RELEASE "/usr/lib/os-release"

/* --- ostree ----------------------------------------------------------------------------------- */

/* The folder becomes what `path` of the tree leads to. */
static bool mount_folder(struct tree *tree, const char *path, const struct file *folder) {
    if (folder->facts.kind != NODE_FOLDER || !tree_mount(tree, path, folder->volume, ""))
        return false;
    tree->mounts[tree->count - 1].root = folder->node;
    return true;
}

/* The files that all deployments of a system share; both ways to one name it third:
 * /ostree/boot.1/NAME/SUM/0, /ostree/deploy/NAME/deploy/SUM.0. */
static void mount_shared(const struct tree *outside, const char *path, struct tree *tree) {
    IM_AUTO(im_strings_done) struct im_strings names = {0};
    struct file var;

    im_strings_split(&names, path, "/");
    if (names.count > 2) {
        IM_AUTO(free_auto) char *shared = im_printf(DEPLOYED "/%s/var", names.items[2]);

        if (tree_find(outside, shared, &var))
            (void) mount_folder(tree, "/var", &var);
    }
}

/* The folder as root, with what the machine mounts into it. */
static bool mount_deployment(struct tree *tree, const char *path) {
    const struct tree outside = *tree;
    struct file root;

    if (!tree_find(&outside, path, &root) || root.facts.kind != NODE_FOLDER)
        return false;
    tree->mounts[0].root = root.node;
    tree->deployed = true;
    if (tree_has(tree, RELEASE)) {
        mount_shared(&outside, path, tree);
        return true;
    }
    *tree = outside;
    return false;
}

/* The deployment that the newest entry for boot loaders names, as the machine comes to it: a link.
 * Owned; NULL = none. */
static char *named_by_entry(const struct tree *files, const char *folder) {
    IM_AUTO(im_strings_done) struct im_strings names = {0};
    char value[512];

    tree_names(files, folder, "", ".conf", &names);
    for (size_t i = names.count; i-- > 0;) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, names.items[i]);
        IM_AUTO(free_auto) char *text = tree_text(files, path);

        for (char *at = text, *line; at != NULL && (line = text_line(&at)) != NULL;)
            if (im_starts_with(line, "options") &&
                cmdline_value(line, "ostree", value, sizeof(value)))
                return im_strdup(value);
    }
    return NULL;
}

static bool mount_named(const struct look *look, struct tree *tree) {
    static const char *const folders[] = {"/loader/entries", "/boot/loader/entries"};

    for (size_t i = 0; i < look->volume_count; i++)
        for (size_t k = 0; k < 2; k++) {
            struct tree files =
                look->volumes[i] == tree->mounts[0].volume ? *tree : tree_of(look->volumes[i]);
            IM_AUTO(free_auto) char *path = named_by_entry(&files, folders[k]);

            if (path != NULL && mount_deployment(tree, path))
                return true;
        }
    return false;
}

/* Where no entry says which: any. */
static bool mount_any(struct tree *tree) {
    const struct tree outside = *tree;
    IM_AUTO(im_strings_done) struct im_strings systems = {0};

    tree_names(&outside, DEPLOYED, "", "", &systems);
    for (size_t i = 0; i < systems.count; i++) {
        IM_AUTO(free_auto) char *folder = im_printf(DEPLOYED "/%s/deploy", systems.items[i]);
        IM_AUTO(im_strings_done) struct im_strings sums = {0};

        tree_names(&outside, folder, "", "", &sums);
        for (size_t k = 0; k < sums.count; k++) {
            IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, sums.items[k]);

            if (mount_deployment(tree, path))
                return true;
        }
    }
    return false;
}

/* --- /usr of its own -------------------------------------------------------------------------- */

static bool mount_usr(const struct look *look, struct tree *tree) {
    IM_AUTO(im_strings_done) struct im_strings names = {0};
    struct file usr;

    if (!tree_find(tree, "/usr", &usr) || usr.facts.kind != NODE_FOLDER)
        return false;
    tree_names(tree, "/usr", "", "", &names);
    for (size_t i = 0; names.count == 0 && i < look->volume_count; i++) {
        if (look->volumes[i] == tree->mounts[0].volume ||
            !tree_mount(tree, "/usr", look->volumes[i], ""))
            continue;
        tree->deployed = tree_has(tree, RELEASE);
        if (tree->deployed)
            return true;
        tree->count--;
    }
    return false;
}

bool deployed_mount(const struct look *look, struct tree *tree) {
    return tree_has(tree, DEPLOYED) ? mount_named(look, tree) || mount_any(tree)
                                    : mount_usr(look, tree);
}

void deployed_user(const struct tree *tree, struct guest_os *os) {
    static const char *const programs[] = {"/usr/bin/ignition", "/usr/libexec/ignition",
                                           "/usr/lib/dracut/modules.d/30ignition/ignition"};

    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]) && os->user[0] == '\0'; i++)
        if (tree_has(tree, programs[i]))
            snprintf(os->user, sizeof(os->user), "core");
}
