/* SPDX-License-Identifier: Apache-2.0 */
/* What is the same in every machine made from a disk, taken out of it. */
#include <stdio.h>

#include "repair-private.h"

/* --- Folders ---------------------------------------------------------------------------------- */

/* Plans to remove what is so called in the folder; how many there are. */
static size_t remove_matching(struct planning *planning, const char *folder, const char *begin,
                              const char *end) {
    IM_AUTO(im_strings_done) struct im_strings names = {0};

    tree_names(planning->tree, folder, begin, end, &names);
    for (size_t i = 0; i < names.count; i++) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, names.items[i]);

        plan_remove(planning, path, false);
    }
    return names.count;
}

static bool is_kind(const struct planning *planning, const char *path, enum node_kind kind) {
    struct file file;

    return tree_find_link(planning->tree, path, &file) && file.facts.kind == kind;
}

/* --- Each of them ----------------------------------------------------------------------------- */

/* A second copy would be taken for the first's new content. */
void repair_machine_id(struct planning *planning) {
    struct file file;

    if (tree_find(planning->tree, "/etc/machine-id", &file) && file.facts.size > 0) {
        plan_empty(planning, "/etc/machine-id", false);
        plan_done(planning,
                  "/etc/machine-id is emptied: each machine makes its own when it starts");
    }
    if (is_kind(planning, "/var/lib/dbus/machine-id", NODE_FILE))
        plan_remove(planning, "/var/lib/dbus/machine-id", false);
}

/* Debian and Ubuntu make keys when the package is installed and never again, and their sshd does
 * not start without; the others have a unit or script of their own. */
#define SSH_UNIT "/lib/systemd/system/ssh.service"
#define SSH_DROP_IN "/etc/systemd/system/ssh.service.d/host-keys.conf"
static const char ssh_drop_in[] = "# Host keys that are missing are made at start.\n"
                                  "[Service]\n"
                                  "ExecStartPre=\n"
                                  "ExecStartPre=/usr/bin/ssh-keygen -A\n"
                                  "ExecStartPre=/usr/sbin/sshd -t\n";

static bool makes_no_keys(struct planning *planning) {
    IM_AUTO(free_auto) char *unit = tree_text(planning->tree, SSH_UNIT);

    return unit != NULL && strstr(unit, "keygen") == NULL &&
           !tree_has(planning->tree, "/etc/cloud/cloud.cfg");
}

void repair_ssh_keys(struct planning *planning) {
    size_t count = remove_matching(planning, "/etc/ssh", "ssh_host_", "_key") +
                   remove_matching(planning, "/etc/ssh", "ssh_host_", "_key.pub");

    if (count == 0)
        return;
    if (makes_no_keys(planning))
        draft_set(planning, SSH_DROP_IN, im_strdup(ssh_drop_in), 0644);
    plan_done(planning, "the SSH host keys are removed: each machine makes its own when it starts");
}

/* How many there were; they stay as remarks. */
static size_t comment_out_rules(struct planning *planning, const char *path) {
    const char *before = draft_text(planning, path);
    IM_AUTO(free_auto) char *text = im_strdup(before);
    struct im_str out = {0};
    char *at = text, *line;
    size_t count = 0;

    while (at != NULL && (line = text_line(&at)) != NULL) {
        bool binds = rule_binds_card(line);

        im_str_addf(&out, "%s%s\n", binds ? "#" : "", line);
        count += binds;
    }
    if (count > 0)
        draft_set(planning, path, im_str_take(&out), 0644);
    im_str_done(&out);
    return count;
}

/* A file of that name is made by a program, which makes it anew. */
void repair_net_rules(struct planning *planning) {
    static const char made[] = RULES_FOLDER "/70-persistent-net.rules";
    bool removes = is_kind(planning, made, NODE_FILE);
    IM_AUTO(im_strings_done) struct im_strings names = {0};
    size_t count = removes;

    if (removes)
        plan_remove(planning, made, false);
    tree_names(planning->tree, RULES_FOLDER, "", ".rules", &names);
    for (size_t i = 0; i < names.count; i++) {
        IM_AUTO(free_auto) char *path = im_printf(RULES_FOLDER "/%s", names.items[i]);

        if (strcmp(path, made) != 0)
            count += comment_out_rules(planning, path);
    }
    if (count > 0)
        plan_done(planning, "network cards are no longer bound to the addresses of older ones");
}

/* --- Sealing ---------------------------------------------------------------------------------- */

const struct guest_seal_item guest_seal_items[] = {
    {"machine-id", "/etc/machine-id"},
    {"ssh-keys", "SSH host keys"},
    {"leases", "what DHCP servers gave to it"},
    {"random-seed", "the seed of random numbers"},
    {"net-rules", "udev rules that bind names of network cards to their addresses"},
    {"cloud-init", "what cloud-init remembers of the instance"},
    {"logs", "/var/log: the files stay, empty; the journal goes"},
    {"history", "what was typed at shells of root and of the users in /home"},
    {NULL, NULL},
};
enum {
    SEAL_MACHINE,
    SEAL_SSH,
    SEAL_LEASES,
    SEAL_SEED,
    SEAL_RULES,
    SEAL_CLOUD,
    SEAL_LOGS,
    SEAL_HISTORY
};

static size_t remove_where(struct planning *planning, const char *const *paths, bool recursive) {
    size_t count = 0;

    for (; *paths != NULL; paths++) {
        struct file file;

        if (!tree_find_link(planning->tree, *paths, &file))
            continue;
        plan_remove(planning, *paths, recursive);
        count++;
    }
    return count;
}

static size_t remove_these(struct planning *planning, struct im_strings *paths) {
    size_t count = paths->count;

    for (size_t i = 0; i < count; i++)
        plan_remove(planning, paths->items[i], false);
    im_strings_done(paths);
    return count;
}

static void seal_leases(struct planning *planning) {
    struct im_strings paths = {0};

    lease_files(planning->tree, &paths);
    if (remove_these(planning, &paths) > 0)
        plan_done(planning, "what DHCP servers gave to the machine is removed");
}

static void seal_seed(struct planning *planning) {
    struct im_strings paths = {0};

    seed_files(planning->tree, &paths);
    if (remove_these(planning, &paths) > 0)
        plan_done(planning, "the seed of random numbers is removed");
}

static void seal_cloud(struct planning *planning) {
    static const char *const paths[] = {"/var/lib/cloud/instance",
                                        "/var/lib/cloud/instances",
                                        "/var/lib/cloud/data",
                                        "/var/lib/cloud/sem",
                                        "/etc/netplan/50-cloud-init.yaml",
                                        "/etc/network/interfaces.d/50-cloud-init",
                                        NULL};

    if (remove_where(planning, paths, true) > 0)
        plan_done(planning, "cloud-init sees a new machine when it starts");
}

/* Three levels are as deep as anybody goes. */
struct folder {
    char path[256];
    unsigned depth;
};
struct folders {
    struct planning *planning;
    struct folder items[64];
    size_t count, files;
    const struct folder *at;
};

static bool see_log(void *arg, const char *name, size_t len) {
    struct folders *folders = arg;
    IM_AUTO(free_auto) char *path = NULL;
    struct file file;

    if (len == 0 || name[0] == '.' || len > 200 || !im_utf8_valid(name, len) ||
        strlen(folders->at->path) + len + 2 > sizeof(folders->items[0].path))
        return true;
    path = im_printf("%s/%.*s", folders->at->path, (int) len, name);
    if (!tree_find_link(folders->planning->tree, path, &file))
        return true;
    if (file.facts.kind == NODE_FILE && file.facts.size > 0 && folders->files < FOLDER_NAMES_MAX) {
        plan_empty(folders->planning, path, false);
        folders->files++;
    } else if (file.facts.kind == NODE_FOLDER && folders->at->depth < 3 &&
               strcmp(path, "/var/log/journal") != 0 &&
               folders->count < sizeof(folders->items) / sizeof(folders->items[0])) {
        struct folder *folder = &folders->items[folders->count++];

        snprintf(folder->path, sizeof(folder->path), "%s", path);
        folder->depth = folders->at->depth + 1;
    }
    return true;
}

static void seal_logs(struct planning *planning) {
    IM_AUTO(free_auto) struct folders *folders = im_alloc(sizeof(*folders));

    folders->planning = planning;
    folders->items[0] = (struct folder){"/var/log", 0};
    folders->count = 1;
    for (size_t i = 0; i < folders->count; i++) {
        folders->at = &folders->items[i];
        (void) tree_list(planning->tree, folders->items[i].path, see_log, folders);
    }
    if (is_kind(planning, "/var/log/journal", NODE_FOLDER)) {
        plan_empty(planning, "/var/log/journal", true);
        folders->files++;
    }
    if (folders->files > 0)
        plan_done(planning, "the logs are emptied");
}

static void seal_history(struct planning *planning) {
    static const char *const names[] = {
        ".bash_history", ".ash_history", ".zsh_history",    ".history",
        ".lesshst",      ".viminfo",     ".python_history", NULL};
    IM_AUTO(im_strings_done) struct im_strings homes = {0};
    size_t count = 0;

    tree_names(planning->tree, "/home", "", "", &homes);
    im_strings_add(&homes, "../root");
    for (size_t i = 0; i < homes.count; i++)
        for (const char *const *name = names; *name != NULL; name++) {
            bool own = strcmp(homes.items[i], "../root") == 0;
            IM_AUTO(free_auto)
            char *path =
                im_printf("%s%s/%s", own ? "/root" : "/home/", own ? "" : homes.items[i], *name);

            if (!is_kind(planning, path, NODE_FILE))
                continue;
            plan_remove(planning, path, false);
            count++;
        }
    if (count > 0)
        plan_done(planning, "what was typed at its shells is removed");
}

void seal_item(struct planning *planning, size_t item) {
    static repair_function *const functions[] = {
        [SEAL_MACHINE] = repair_machine_id,
        [SEAL_SSH] = repair_ssh_keys,
        [SEAL_LEASES] = seal_leases,
        [SEAL_SEED] = seal_seed,
        [SEAL_RULES] = repair_net_rules,
        [SEAL_CLOUD] = seal_cloud,
        [SEAL_LOGS] = seal_logs,
        [SEAL_HISTORY] = seal_history,
    };

    if (planning->tree == NULL)
        plan_cannot(planning, "no system was found on the disk");
    else
        functions[item](planning);
}
