/* SPDX-License-Identifier: Apache-2.0 */
/* A network that cloud-init's own configuration tells it to set up, in its first version and in
 * netplan's words: for every machine of the disk the same. */
#include "network.h"

/* --- The first version ------------------------------------------------------------------------ */

static void take_subnets(struct net *net, struct net_card *card, const struct yml_node *device) {
    const struct yml_node *list = yml_get(device, "subnets");

    for (const struct yml_node *at = list != NULL ? list->first : NULL; at != NULL; at = at->next) {
        const char *type = yml_word(at, "type");

        if (strcmp(type, "dhcp") == 0 || strcmp(type, "dhcp4") == 0)
            card->dhcp = true;
        else if (strcmp(type, "static") == 0)
            net_take_address(card, yml_word(at, "address"));
        else if (strcmp(type, "manual") != 0 && strstr(type, "6") == NULL)
            net->unclear = true;
    }
}

/* A bridge or the like on top of cards may ask for an address as well. */
static void take_device(struct net *net, const char *file, const struct yml_node *device) {
    static const char *const others[] = {"nameserver", "route", "loopback"};
    const char *name = yml_word(device, "name"), *type = yml_word(device, "type");
    bool physical = strcmp(type, "physical") == 0;
    struct net_card *card;

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (strcmp(type, others[i]) == 0)
            return;
    card = net_add(net, NET_CLOUD, file);
    if (card == NULL)
        return;
    card->line = device->line;
    text_take(card->name, sizeof(card->name), name, strlen(name));
    take_subnets(net, card, device);
    if (physical)
        net_take_mac(card->wants, yml_word(device, "mac_address"));
    else
        net->unclear |= card->dhcp;
    if (!physical && card->address[0] == '\0')
        net_drop(net);
}

/* --- Its files -------------------------------------------------------------------------------- */

/* Of several files that have one, the last counts. */
static struct yml *instructions(struct net *net, const char *path, struct yml *before) {
    IM_AUTO(free_auto) char *text = net_text(net, path);
    struct yml *yaml = text != NULL && strstr(text, "network") != NULL ? yml_read(text) : NULL;
    const struct yml_node *network = yml_get(yml_root(yaml), "network");

    if (network == NULL) {
        yml_free(yaml);
        return before;
    }
    yml_free(before);
    net->cloud_writes = strcmp(yml_word(network, "config"), "disabled") != 0;
    text_take(net->instructed, sizeof(net->instructed), path, strlen(path));
    return yaml;
}

void net_cloud(struct net *net) {
    bool bsd = !tree_has(net->tree, CLOUD_CONFIG);
    const char *folder = bsd ? CLOUD_FOLDER_BSD : CLOUD_FOLDER;
    IM_AUTO(im_strings_done) struct im_strings names = {0};
    IM_AUTO(yml_free_auto) struct yml *yaml = NULL;
    const struct yml_node *network, *list;

    if (!net->cloud->runs ||
        strstr(net->look->found->boot.cmdline, "network-config=disabled") != NULL)
        return;
    net->cloud_writes = true;
    yaml = instructions(net, bsd ? CLOUD_CONFIG_BSD : CLOUD_CONFIG, NULL);
    net_names(net, folder, "", ".cfg", &names);
    for (size_t i = 0; i < names.count && i < NET_FILES_MAX; i++) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, names.items[i]);

        yaml = instructions(net, path, yaml);
    }
    if (!net->cloud_writes)
        net->instructed[0] = '\0';
    if (yaml == NULL || !net->cloud_writes)
        return;
    net->known = net->has[NET_CLOUD] = true;
    network = yml_get(yml_root(yaml), "network");
    list = yml_get(network, "config");
    if (strcmp(yml_word(network, "version"), "2") == 0)
        net_netplan_words(net, NET_CLOUD, net->instructed, network, false);
    else if (list == NULL || list->kind != YML_LIST)
        net->unclear = true;
    else
        for (const struct yml_node *at = list->first; at != NULL; at = at->next)
            take_device(net, net->instructed, at);
}
