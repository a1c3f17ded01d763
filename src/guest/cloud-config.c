/* SPDX-License-Identifier: Apache-2.0 */
/* cloud-init's configuration, and what will not work without it or without the guest agent. */
#include "cloud-config.h"

#include <stdio.h>

#include "yml.h"

/* --- Its files -------------------------------------------------------------------------------- */

static void take_sources(struct cloud *cloud, const char *file, const struct yml_node *list) {
    struct im_str words = {0};

    if (list == NULL)
        return;
    for (const struct yml_node *node = list->first; node != NULL; node = node->next)
        if (node->word != NULL)
            im_str_addf(&words, "%s%s", words.len > 0 ? " " : "", node->word);
    if (list->word != NULL)
        im_str_add(&words, list->word);
    text_take(cloud->sources, sizeof(cloud->sources), words.len > 0 ? words.data : "", words.len);
    text_take(cloud->sources_file, sizeof(cloud->sources_file), file, strlen(file));
    im_str_done(&words);
}

/* Lists of later files go over earlier ones, as a whole. */
static void take_module(const struct yml_node *list, const char *name, bool *listed) {
    if (list == NULL)
        return;
    *listed = false;
    for (const struct yml_node *node = list->first; node != NULL; node = node->next)
        *listed |= node->word != NULL && strcmp(node->word, name) == 0;
}

/* Later files go over earlier ones. One that is not understood leaves it to the others. */
static void take_file(const struct tree *tree, const char *path, struct cloud *cloud) {
    IM_AUTO(free_auto) char *text = tree_text(tree, path);
    IM_AUTO(yml_free_auto) struct yml *yaml = text != NULL ? yml_read(text) : NULL;
    const struct yml_node *root = yml_root(yaml);
    const char *user = yml_word(yml_get(yml_get(root, "system_info"), "default_user"), "name");

    if (user[0] != '\0')
        text_take(cloud->user, sizeof(cloud->user), user, strlen(user));
    take_sources(cloud, path, yml_get(root, "datasource_list"));
    take_module(yml_get(root, "cloud_init_modules"), "growpart", &cloud->grows_partition);
    take_module(yml_get(root, "cloud_init_modules"), "resizefs", &cloud->grows_filesystem);
}

static void take_files(const struct tree *tree, const char *config, const char *folder,
                       struct cloud *cloud) {
    IM_AUTO(im_strings_done) struct im_strings names = {0};

    take_file(tree, config, cloud);
    tree_names(tree, folder, "", ".cfg", &names);
    for (size_t i = 0; i < names.count && i < 64; i++) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, names.items[i]);

        take_file(tree, path, cloud);
    }
}

/* --- Does it run? ----------------------------------------------------------------------------- */

static void why_off(const struct tree *tree, const struct guest_os *os, const char *cmdline,
                    struct cloud *cloud) {
    static const char *const units[] = {"cloud-init.service", "cloud-init-local.service",
                                        "cloud-init-main.service", "cloud-init-network.service",
                                        "cloud-init.target"};
    char unit[64];

    if (tree_has(tree, "/etc/cloud/cloud-init.disabled"))
        snprintf(cloud->off, sizeof(cloud->off), "by /etc/cloud/cloud-init.disabled");
    else if (strstr(cmdline, "cloud-init=disabled") != NULL)
        snprintf(cloud->off, sizeof(cloud->off), "by the kernel's command line");
    else if (os->init[0] != '\0' && strcmp(os->init, "rc") != 0 &&
             strcmp(os->init, "upstart") != 0 &&
             !unit_begins(tree, "cloud-init", unit, sizeof(unit)))
        snprintf(cloud->off, sizeof(cloud->off), "as none of its services is enabled");
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]) && cloud->off[0] == '\0'; i++)
        if (unit_masked(tree, units[i]))
            snprintf(cloud->off, sizeof(cloud->off), "as %s is masked", units[i]);
}

/* Packages that are gone leave their configuration behind. */
static bool has_program(const struct tree *tree, const struct guest_os *os, const char *name) {
    static const char *const folders[] = {"/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin"};

    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", folders[i], name);

        if (tree_has(tree, path))
            return true;
    }
    return os->init[0] == '\0'; /* hardly a system: its configuration has to do */
}

/* Machines here are given a disk as NoCloud wants it. */
static bool asks_us(const struct cloud *cloud, const char *cmdline) {
    return cloud->sources[0] == '\0' || strcasestr(cloud->sources, "nocloud") != NULL ||
           strstr(cmdline, "ds=") != NULL;
}

/* That disk asks for growth, whatever the configuration says of its own; and what it has for a root
 * on LVM needs the same. Without a list of modules it is not known which there are. */
static void take_growth(const struct tree *tree, const struct guest_os *os, const char *cmdline,
                        struct cloud *cloud) {
    bool ours = cloud->runs && asks_us(cloud, cmdline);

    cloud->grows_partition &= ours && has_program(tree, os, "growpart");
    cloud->grows_filesystem &= ours;
}

void cloud_take(const struct tree *tree, const struct guest_os *os, const char *cmdline,
                struct cloud *ret_cloud) {
    struct cloud cloud = {.grows_partition = true, .grows_filesystem = true};

    cloud.present = tree_has(tree, CLOUD_CONFIG);
    if (cloud.present)
        take_files(tree, CLOUD_CONFIG, CLOUD_FOLDER, &cloud);
    else if ((cloud.present = tree_has(tree, CLOUD_CONFIG_BSD)))
        take_files(tree, CLOUD_CONFIG_BSD, CLOUD_FOLDER_BSD, &cloud);
    cloud.present = cloud.present && has_program(tree, os, "cloud-init");
    if (cloud.present)
        why_off(tree, os, cmdline, &cloud);
    cloud.runs = cloud.present && cloud.off[0] == '\0';
    take_growth(tree, os, cmdline, &cloud);
    *ret_cloud = cloud;
}

/* --- What will not work ----------------------------------------------------------------------- */

static void check_cloud(struct look *look, const struct cloud *cloud) {
    if (!cloud->present)
        look_found(look, GUEST_FOUND_NO_CLOUD_INIT, "the system has no cloud-init");
    else if (cloud->off[0] != '\0')
        look_found(look, GUEST_FOUND_CLOUD_OFF,
                   "cloud-init is turned off, %s: no keys, password, name or growth at first start",
                   cloud->off);
    else if (!asks_us(cloud, look->found->boot.cmdline))
        look_found(look, GUEST_FOUND_CLOUD_SOURCE,
                   "cloud-init asks only %s (%s), and not NoCloud, which machines here have",
                   cloud->sources, cloud->sources_file);
}

static bool agent_starts(const struct tree *tree) {
    static const char device[] =
        "/etc/systemd/system/dev-virtio\\x2dports-org.qemu.guest_agent.0.device.wants";
    static const char *const rules[] = {"/usr/lib/udev/rules.d", "/lib/udev/rules.d",
                                        "/etc/udev/rules.d"};
    char unit[64];

    if (unit_masked(tree, "qemu-guest-agent.service"))
        return false;
    if (tree_has(tree, device) || unit_begins(tree, "qemu-guest-agent", unit, sizeof(unit)) ||
        unit_begins(tree, "qemu-ga", unit, sizeof(unit)))
        return true;
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        IM_AUTO(im_strings_done) struct im_strings names = {0};

        tree_names(tree, rules[i], "", ".rules", &names);
        for (size_t k = 0; k < names.count; k++)
            if (strstr(names.items[k], "qemu-guest-agent") != NULL)
                return true;
    }
    return false;
}

static void check_agent(struct look *look, const struct tree *tree) {
    static const char *const programs[] = {"/usr/sbin/qemu-ga", "/usr/bin/qemu-ga",
                                           "/usr/local/bin/qemu-ga", "/usr/libexec/qemu-ga"};
    const char *init = look->found->os.init;
    bool there = false;

    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
        there |= tree_has(tree, programs[i]);
    if (!there && init[0] != '\0')
        look_found(look, GUEST_FOUND_NO_AGENT,
                   "the system has no guest agent: no passwords while it runs, and snapshots of "
                   "running machines as after a power cut");
    else if (there && (strcmp(init, "systemd") == 0 || strcmp(init, "openrc") == 0) &&
             !agent_starts(tree))
        look_found(look, GUEST_FOUND_AGENT_OFF,
                   "the guest agent is there and not started: no passwords while it runs, and "
                   "snapshots of running machines as after a power cut");
}

void agents_check(struct look *look, const struct tree *tree, const struct cloud *cloud) {
    check_cloud(look, cloud);
    check_agent(look, tree);
}
