/* SPDX-License-Identifier: Apache-2.0 */
/* What would be the same in every machine of a disk. */
#include <ctype.h>

#include "system.h"

static bool see_key(void *arg, const char *name, size_t len) {
    bool *found = arg;

    *found |=
        len > 13 && strncmp(name, "ssh_host_", 9) == 0 && strncmp(name + len - 4, "_key", 4) == 0;
    return !*found;
}

bool rule_binds_card(const char *line) {
    return line[strspn(line, " \t")] != '#' && strstr(line, "\"net\"") != NULL &&
           strstr(line, "{address}==\"") != NULL && strstr(line, "NAME") != NULL;
}

/* A file of that name without a rule, or a link to nowhere, is how such rules are turned off. */
static void check_rules(struct look *look, const struct tree *tree) {
    IM_AUTO(im_strings_done) struct im_strings names = {0};

    tree_names(tree, RULES_FOLDER, "", ".rules", &names);
    for (size_t i = 0; i < names.count; i++) {
        IM_AUTO(free_auto) char *path = im_printf(RULES_FOLDER "/%s", names.items[i]);
        IM_AUTO(free_auto) char *text = tree_text(tree, path);
        char shown[160];
        bool bound = false;

        for (char *at = text, *line; at != NULL && (line = text_line(&at)) != NULL;)
            bound |= rule_binds_card(line);
        text_take(shown, sizeof(shown), path, strlen(path));
        if (bound)
            look_found(look, GUEST_FOUND_ID_NET,
                       "%s binds names of network cards to the addresses of an older machine's",
                       shown);
    }
}

/* --- Files that a machine keeps of itself ----------------------------------------------------- */

static void add_where(const struct tree *tree, const char *const *paths, struct im_strings *found) {
    for (; *paths != NULL; paths++) {
        struct file file;

        if (tree_find_link(tree, *paths, &file))
            im_strings_add(found, *paths);
    }
}

void lease_files(const struct tree *tree, struct im_strings *paths) {
    static const char *const folders[][3] = {
        {"/var/lib/dhcp", "", ".leases"},          {"/var/lib/dhcp3", "", ".leases"},
        {"/var/lib/dhclient", "", ".leases"},      {"/var/lib/dhclient", "", ".lease"},
        {"/var/lib/dhcpcd", "", ".lease"},         {"/var/lib/dhcpcd", "", ".lease6"},
        {"/var/lib/NetworkManager", "", ".lease"}, {"/var/lib/wicked", "lease-", ".xml"},
        {"/var/lib/systemd/network", "", ""},
    };
    static const char *const files[] = {"/var/lib/dhcpcd/duid", "/var/lib/dhcpcd/secret",
                                        "/var/lib/NetworkManager/secret_key", "/etc/dhcpcd.duid",
                                        NULL};

    add_where(tree, files, paths);
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        IM_AUTO(im_strings_done) struct im_strings names = {0};

        tree_names(tree, folders[i][0], folders[i][1], folders[i][2], &names);
        for (size_t k = 0; k < names.count; k++) {
            IM_AUTO(free_auto) char *path = im_printf("%s/%s", folders[i][0], names.items[k]);

            im_strings_add(paths, path);
        }
    }
}

void seed_files(const struct tree *tree, struct im_strings *paths) {
    static const char *const files[] = {
        "/var/lib/systemd/random-seed", "/var/lib/random-seed",    "/var/lib/urandom/random-seed",
        "/var/lib/seedrng/seed.credit", "/loader/random-seed",     "/boot/loader/random-seed",
        "/boot/efi/loader/random-seed", "/efi/loader/random-seed", NULL};

    add_where(tree, files, paths);
}

/* The first that has something in it; NULL = none. */
static const char *first_filled(const struct tree *tree, const struct im_strings *paths) {
    for (size_t i = 0; i < paths->count; i++) {
        struct file file;

        if (tree_find(tree, paths->items[i], &file) && file.facts.kind == NODE_FILE &&
            file.facts.size > 0)
            return paths->items[i];
    }
    return NULL;
}

static void check_kept(struct look *look, const struct tree *tree) {
    IM_AUTO(im_strings_done) struct im_strings leases = {0};
    IM_AUTO(im_strings_done) struct im_strings seeds = {0};
    const char *lease, *seed;
    char shown[160];

    lease_files(tree, &leases);
    seed_files(tree, &seeds);
    lease = first_filled(tree, &leases);
    seed = first_filled(tree, &seeds);
    if (lease != NULL) {
        text_take(shown, sizeof(shown), lease, strlen(lease));
        look_found(look, GUEST_FOUND_ID_LEASES,
                   "%s is of an address that the machine of this disk had", shown);
    }
    if (seed != NULL)
        look_found(look, GUEST_FOUND_ID_SEED,
                   "%s is the same in all machines of this disk: their random numbers begin alike",
                   seed);
}

/* cloud-init gives a machine the name of its instance. */
static void check_hostname(struct look *look, const struct tree *tree) {
    const char *name = look->found->os.hostname;

    if (name[0] != '\0' && strcmp(name, "localhost") != 0 && !im_starts_with(name, "localhost.") &&
        !tree_has(tree, "/etc/cloud/cloud.cfg") &&
        !tree_has(tree, "/usr/local/etc/cloud/cloud.cfg"))
        look_found(look, GUEST_FOUND_ID_HOSTNAME, "all machines of this disk are called %s", name);
}

void identity_check(struct look *look, const struct tree *tree) {
    IM_AUTO(free_auto) char *machine = tree_text(tree, "/etc/machine-id");
    bool keys = false;

    if (machine != NULL && isxdigit((unsigned char) machine[0]))
        look_found(look, GUEST_FOUND_ID_MACHINE,
                   "/etc/machine-id is set: all machines of this disk have the same");
    if (tree_list(tree, "/etc/ssh", see_key, &keys) && keys &&
        !tree_has(tree, "/etc/cloud/cloud.cfg"))
        look_found(look, GUEST_FOUND_ID_SSH,
                   "all machines of this disk have the same SSH host keys");
    check_rules(look, tree);
    check_kept(look, tree);
    check_hostname(look, tree);
}
