/* SPDX-License-Identifier: Apache-2.0 */
/* Netplan's YAML: all files of three folders, those of later names over the earlier ones. */
#include <stdio.h>

#include "network.h"

/* A device that an earlier file has described goes on there. */
static struct net_card *card_of(struct net *net, enum net_system system, const char *file,
                                const struct yml_node *device) {
    const char *id = device->key;
    struct net_card *card;

    for (size_t i = 0; i < net->count; i++)
        if (net->cards[i].system == system && strcmp(net->cards[i].id, id) == 0) {
            net->cards[i].line = device->line;
            text_take(net->cards[i].file, sizeof(net->cards[i].file), file, strlen(file));
            return &net->cards[i];
        }
    card = net_add(net, system, file);
    if (card == NULL)
        return NULL;
    card->line = device->line;
    text_take(card->id, sizeof(card->id), id, strlen(id));
    memcpy(card->name, card->id, sizeof(card->id));
    return card;
}

static void take_match(struct net *net, struct net_card *card, const struct yml_node *match) {
    const char *name = yml_word(match, "name"), *mac = yml_word(match, "macaddress");

    if (match == NULL)
        return;
    text_take(card->name, sizeof(card->name), name, strlen(name));
    net_take_mac(card->wants, mac);
    net->unclear |= yml_get(match, "driver") != NULL;
}

static void take_addresses(struct net_card *card, const struct yml_node *list) {
    for (const struct yml_node *node = list != NULL ? list->first : NULL; node != NULL;
         node = node->next)
        if (node->word != NULL)
            net_take_address(card, node->word);
        else if (node->first != NULL && node->first->key != NULL)
            net_take_address(card, node->first->key); /* with options behind it */
}

static void take_ethernet(struct net *net, enum net_system system, const char *file,
                          const struct yml_node *device, bool written) {
    struct net_card *card = card_of(net, system, file, device);

    if (card == NULL)
        return;
    card->written = written;
    take_match(net, card, yml_get(device, "match"));
    if (yml_get(device, "dhcp4") != NULL)
        card->dhcp = yml_true(device, "dhcp4");
    if (yml_get(device, "addresses") != NULL)
        card->address[0] = '\0';
    take_addresses(card, yml_get(device, "addresses"));
    net_take_mac(card->sets, yml_word(device, "macaddress"));
}

/* Devices on top of the cards: whether they get along without a card of that name is theirs. */
static void take_upper(struct net *net, enum net_system system, const char *file,
                       const struct yml_node *device, bool written) {
    struct net_card *card = net_add(net, system, file);

    net->unclear |= yml_true(device, "dhcp4");
    if (card == NULL)
        return;
    card->written = written;
    card->line = device->line;
    text_take(card->name, sizeof(card->name), device->key, strlen(device->key));
    take_addresses(card, yml_get(device, "addresses"));
    if (card->address[0] == '\0')
        net_drop(net);
}

static const struct yml_node *devices(const struct yml_node *network, const char *kind) {
    const struct yml_node *map = yml_get(network, kind);

    return map != NULL && map->kind == YML_MAP ? map->first : NULL;
}

void net_netplan_words(struct net *net, enum net_system system, const char *file,
                       const struct yml_node *network, bool written) {
    static const char *const uppers[] = {"bridges", "bonds", "vlans"};

    for (const struct yml_node *at = devices(network, "ethernets"); at != NULL; at = at->next)
        take_ethernet(net, system, file, at, written);
    for (size_t i = 0; i < sizeof(uppers) / sizeof(uppers[0]); i++)
        for (const struct yml_node *at = devices(network, uppers[i]); at != NULL; at = at->next)
            take_upper(net, system, file, at, written);
}

static void read_file(struct net *net, const char *path) {
    IM_AUTO(free_auto) char *text = net_text(net, path);
    IM_AUTO(yml_free_auto) struct yml *yaml = text != NULL ? yml_read(text) : NULL;

    if (yaml == NULL)
        net->unclear = true;
    else
        net_netplan_words(net, NET_NETPLAN, path, yml_get(yml_root(yaml), "network"),
                          net_is_written(path, text));
}

/* --- Folders ---------------------------------------------------------------------------------- */

static int by_base(const void *a, const void *b) {
    const char *left = strrchr(*(char *const *) a, '/'), *right = strrchr(*(char *const *) b, '/');

    return strcmp(left, right);
}

/* A file in a later folder hides one of the same name in an earlier one. */
static void collect(const struct net *net, const char *folder, const char *end,
                    struct im_strings *paths) {
    IM_AUTO(im_strings_done) struct im_strings names = {0};

    net_names(net, folder, "", end, &names);
    for (size_t i = 0; i < names.count && paths->count < NET_FILES_MAX; i++) {
        char *path = im_printf("%s/%s", folder, names.items[i]);
        bool hides = false;

        for (size_t k = 0; k < paths->count && !hides; k++)
            if (strcmp(strrchr(paths->items[k], '/') + 1, names.items[i]) == 0) {
                im_replace(&paths->items[k], path);
                hides = true;
            }
        if (!hides)
            im_strings_add(paths, path);
        free(path);
    }
}

void net_paths(const struct net *net, const char *const *folders, const char *end,
               struct im_strings *paths) {
    for (; *folders != NULL; folders++)
        collect(net, *folders, end, paths);
    if (paths->count > 0)
        qsort(paths->items, paths->count, sizeof(char *), by_base);
}

void netplan_paths(const struct net *net, struct im_strings *paths) {
    static const char *const folders[] = {"/usr/lib/netplan", "/lib/netplan", "/etc/netplan", NULL};

    net_paths(net, folders, ".yaml", paths);
}

void net_netplan(struct net *net) {
    static const char *const programs[] = {"/usr/sbin/netplan", "/lib/netplan/generate",
                                           "/usr/lib/netplan/generate",
                                           "/usr/libexec/netplan/generate"};
    IM_AUTO(im_strings_done) struct im_strings paths = {0};
    bool there = false;

    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]) && !there; i++)
        there = tree_has(net->tree, programs[i]);
    if (!there)
        return;
    net->known = net->has[NET_NETPLAN] = true;
    netplan_paths(net, &paths);
    for (size_t i = 0; i < paths.count; i++)
        read_file(net, paths.items[i]);
}
