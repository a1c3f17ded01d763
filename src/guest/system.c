/* SPDX-License-Identifier: Apache-2.0 */
/* The system on a disk: which it is, and the order in which it is looked at. */
#include <stdio.h>

#include "boot-config.h"
#include "cloud-config.h"
#include "room.h"
#include "windows.h"

/* Free room is little below both: a part of the whole, and what logs and packages soon take. */
enum { FULL_PART = 50, FULL_BYTES = 256 << 20 };

/* --- Which system ----------------------------------------------------------------------------- */

static bool take_release(const struct tree *tree, struct guest_os *os) {
    IM_AUTO(free_auto) char *text = tree_text(tree, "/etc/os-release");
    char *at, *line;

    if (text == NULL)
        text = tree_text(tree, "/usr/lib/os-release");
    if (text == NULL)
        return freebsd_release(tree, os);
    for (at = text; (line = text_line(&at)) != NULL;) {
        (void) text_value(line, "ID", os->id, sizeof(os->id));
        (void) text_value(line, "PRETTY_NAME", os->name, sizeof(os->name));
        (void) text_value(line, "VERSION_ID", os->version, sizeof(os->version));
    }
    snprintf(os->platform, sizeof(os->platform), "%s",
             strcmp(os->id, "freebsd") == 0 ? "bsd" : "linux");
    return os->id[0] != '\0';
}

static void take_processor(const struct tree *tree, struct guest_os *os) {
    static const char *const programs[] = {"/bin/ls", "/bin/sh", "/usr/bin/ls", "/bin/busybox"};
    static const struct {
        uint16_t number;
        const char *architecture, *processor;
    } machines[] = {{62, "x86_64", "64bit"},
                    {3, "i386", "32bit"},
                    {183, "aarch64", "64bit"},
                    {243, "riscv64", "64bit"},
                    {40, "arm", "32bit"}};

    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
        IM_AUTO(free_auto) char *head = NULL;
        size_t len = 0;

        if (!tree_read(tree, programs[i], 64, &head, &len) || len < 20 ||
            memcmp(head, "\177ELF", 4) != 0)
            continue;
        for (size_t j = 0; j < sizeof(machines) / sizeof(machines[0]); j++)
            if (machines[j].number == le16((const uint8_t *) head + 18)) {
                snprintf(os->architecture, sizeof(os->architecture), "%s",
                         machines[j].architecture);
                snprintf(os->processor, sizeof(os->processor), "%s", machines[j].processor);
            }
        return;
    }
}

/* --- Root and mounts -------------------------------------------------------------------------- */

/* A file system that holds a system, and which root of it, where it has several. */
struct search {
    const struct look *look;
    const struct volume *volume;
    struct tree tree; /* count 0 = nothing was found yet */
    struct guest_os os;
    bool sure;
};

/* A path is enough: the number beside it is wrong in one that was restored. */
static bool chooses(const struct mount *mount, const char *options) {
    const struct volume *volume = mount->volume;
    const char *path = strstr(options, "subvol=");
    IM_AUTO(free_auto)
    char *plain = path != NULL ? im_strndup(path, strcspn(path, ",")) : im_strdup(options);
    struct node root;

    return volume->ops->choose(volume->state, plain, &root) && node_same(root, mount->root);
}

/* Snapshots hold the fstab of what they were made of: it names another root than them. */
static bool names_itself(const struct tree *tree) {
    IM_AUTO(fstab_free_auto) struct fstab *fstab = fstab_read(tree);

    for (size_t i = 0; i < fstab->count; i++)
        if (strcmp(fstab->lines[i].path, "/") == 0)
            return chooses(&tree->mounts[0], fstab->lines[i].options);
    return false;
}

static bool try_root(void *arg, const char *options) {
    struct search *search = arg;
    struct tree tree = {0};
    struct guest_os os = {0};

    if (!tree_mount(&tree, "/", search->volume, options) ||
        !(take_release(&tree, &os) ||
          (deployed_mount(search->look, &tree) && take_release(&tree, &os))))
        return true;
    search->sure = search->volume->ops->choose == NULL || names_itself(&tree);
    if (search->sure || search->tree.count == 0) {
        search->tree = tree;
        search->os = os;
    }
    return !search->sure;
}

/* Of a file system with several roots the kernel mounts the one that it is told: by rootflags=, or
 * where that says nothing, as no options choose. */
static void heed_kernel(struct look *look, struct guest_os *os, struct tree *root) {
    const struct volume *volume = root->mounts[0].volume;
    IM_AUTO(fstab_free_auto) struct fstab *fstab = fstab_read(root);
    struct tree guessed = *root, told = {0};
    IM_AUTO(boot_free_auto) struct boot *boot = NULL;
    const struct boot_entry *entry;
    char device[256], flags[256] = "";
    struct guest_os found = {0};

    fstab_mount(look, fstab, &guessed);
    boot = boot_open(look, &guessed);
    entry = boot_default(boot);
    if (entry == NULL || !cmdline_value(entry->cmdline, "root", device, sizeof(device)) ||
        part_of_line(look, device) != volume_part(volume))
        return;
    (void) cmdline_value(entry->cmdline, "rootflags", flags, sizeof(flags));
    if (!tree_mount(&told, "/", volume, flags) ||
        node_same(told.mounts[0].root, root->mounts[0].root) || !take_release(&told, &found))
        return;
    told.menu = root->mounts[0];
    *root = told;
    *os = found;
}

/* The first one; of a file system with several roots the one that the kernel is told to take, or
 * that says so itself, or else the one that is mounted where no options choose. */
static bool find_root(struct look *look, struct guest_os *os, struct tree *ret_tree) {
    struct search search = {.look = look};

    for (size_t i = 0; i < look->volume_count && search.tree.count == 0; i++) {
        search.volume = look->volumes[i];
        if (try_root(&search, "") && search.volume->ops->roots != NULL)
            search.volume->ops->roots(search.volume->state, try_root, &search);
    }
    if (search.tree.count == 0)
        return false;
    *os = search.os;
    *ret_tree = search.tree;
    if (ret_tree->mounts[0].volume->ops->choose != NULL && !ret_tree->deployed)
        heed_kernel(look, os, ret_tree);
    return true;
}

static void take_hostname(const struct tree *tree, struct guest_os *os) {
    IM_AUTO(free_auto) char *name = tree_text(tree, "/etc/hostname");

    if (name != NULL)
        text_take(os->hostname, sizeof(os->hostname), name, strcspn(name, "\n"));
    else if (strcmp(os->platform, "bsd") == 0)
        freebsd_hostname(tree, os);
}

/* A system that cannot write starts badly: no logs, no keys, no state of cloud-init. */
static void check_space(struct look *look, const struct volume *root) {
    uint64_t size, left;
    char has[16], of[16];

    if (root->ops->space == NULL || !root->ops->space(root->state, &size, &left) ||
        left >= size / FULL_PART || left >= FULL_BYTES)
        return;
    look_found(look, GUEST_FOUND_FS_FULL, "of the %s of the root file system on %s, %s are free",
               im_size_text(size, of), volume_part(root)->name, im_size_text(left, has));
}

static void look_at_system(struct look *look, struct tree *tree) {
    struct guest_os *os = &look->found->os;
    const struct volume *root = tree->mounts[0].volume;
    struct cloud cloud;
    IM_AUTO(fstab_free_auto) struct fstab *fstab = fstab_read(tree);

    snprintf(os->root, sizeof(os->root), "%s", volume_part(root)->name);
    fstab_mount(look, fstab, tree);
    take_processor(tree, os);
    take_hostname(tree, os);
    facts_take(tree, os);
    check_space(look, root);
    identity_check(look, tree);
    fstab_check(look, tree, fstab);
    if (strcmp(os->id, "freebsd") == 0)
        freebsd_boot(look, tree);
    else
        boot_look(look, tree);
    cloud_take(tree, os, look->found->boot.cmdline, &cloud);
    snprintf(os->user, sizeof(os->user), "%s", cloud.present ? cloud.user : "");
    if (!cloud.present)
        deployed_user(tree, os);
    agents_check(look, tree, &cloud);
    network_check(look, tree, &cloud);
    room_check(look, tree, fstab, &cloud);
}

bool system_tree(struct look *look, struct tree *ret_tree) {
    IM_AUTO(fstab_free_auto) struct fstab *fstab = NULL;
    struct guest_os os;

    if (!find_root(look, &os, ret_tree) || ret_tree->deployed)
        return false;
    fstab = fstab_read(ret_tree);
    fstab_mount(look, fstab, ret_tree);
    return true;
}

void system_look(struct look *look) {
    const struct volume *windows;
    struct tree tree;

    if (find_root(look, &look->found->os, &tree)) {
        look_at_system(look, &tree);
    } else if ((windows = windows_root(look)) != NULL) {
        windows_look(look, windows);
        check_space(look, windows);
    } else {
        look_found(look, GUEST_FOUND_ROOT_NONE,
                   "no root file system that can be read was found: the system is not known");
        boot_look(look, NULL);
    }
}
