/* SPDX-License-Identifier: Apache-2.0 */
/* Netplan's YAML, and what of it, or of an older form, cloud-init's own configuration has. */
#include <stdio.h>

#include "repair-network.h"

/* One pattern of netplan's for names of Ethernet cards. */
#define ANY_NAME "e*"

/* --- Lines of a file -------------------------------------------------------------------------- */

static const char *line_after(const char *at) {
    at += strcspn(at, "\n");
    return at + (*at == '\n');
}

static bool is_bare(const char *line) {
    line += strspn(line, " \t\r");
    return *line == '\0' || *line == '\n' || *line == '#';
}

/* Where the node's lines end. In blocks, what is further to the right belongs to it, and so do
 * lists right below their key. */
static const char *end_of(const char *from, const struct yml_node *node) {
    size_t column = strspn(from, " ");
    const char *end = line_after(from);

    if (node->flow || node->kind == YML_WORD) {
        for (unsigned line = node->line; line < node->end_line; line++)
            end = line_after(end);
        return end;
    }
    for (const char *at = end; *at != '\0'; at = line_after(at)) {
        size_t here = strspn(at, " ");

        if (is_bare(at))
            continue;
        if (here < column || (here == column && at[here] != '-'))
            break;
        end = line_after(at);
    }
    return end;
}

enum node_fate { NODE_ANEW, NODE_ANEW_REMARKED, NODE_OUT_REMARKED };

/* The node as it is now in place of its lines, which may stay above it as remarks. */
static bool put_back(struct planning *planning, const char *path, const struct yml_node *node,
                     enum node_fate fate) {
    const char *text = draft_text(planning, path), *from = text, *to;
    struct im_str out = {0};

    for (unsigned line = 1; line < node->line; line++)
        from = line_after(from);
    to = end_of(from, node);
    im_str_add_bytes(&out, text, (size_t) (from - text));
    for (const char *at = from; fate != NODE_ANEW && at < to; at = line_after(at))
        im_str_addf(&out, "#%.*s\n", (int) strcspn(at, "\n"), at);
    if (fate != NODE_OUT_REMARKED) {
        IM_AUTO(free_auto) char *fresh = yml_write(node, (unsigned) strspn(from, " "));

        im_str_add(&out, fresh);
    }
    im_str_add(&out, to);
    return net_write(planning, path, im_str_take(&out));
}

/* --- A device --------------------------------------------------------------------------------- */

typedef bool device_change(struct yml *yaml, struct yml_node *device, const struct net *net);

static bool is_mac(const char *word) {
    char mac[24] = "";

    net_take_mac(mac, word);
    return mac[0] != '\0';
}

/* One that was found by its MAC address alone is any; its name would be renamed to. */
static bool unpin_device(struct yml *yaml, struct yml_node *device, const struct net *net) {
    struct yml_node *match = (struct yml_node *) yml_get(device, "match");
    bool changed = is_mac(yml_word(device, "macaddress")) && yml_drop(device, "macaddress");

    if (match == NULL || !yml_drop(match, "macaddress"))
        return changed;
    if (match->first == NULL) {
        (void) yml_drop(device, "set-name");
        if (net_fits(net, device->key))
            (void) yml_drop(device, "match");
        else
            (void) yml_put(yaml, match, "name", ANY_NAME);
    }
    return true;
}

static bool ask_device(struct yml *yaml, struct yml_node *device, const struct net *net) {
    static const char *const fixed[] = {"addresses", "gateway4",    "gateway6",      "routes",
                                        "dhcp4",     "nameservers", "routing-policy"};

    (void) net;
    if (yml_get(device, "addresses") == NULL)
        return false;
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        (void) yml_drop(device, fixed[i]);
    return yml_put(yaml, device, "dhcp4", "true") != NULL;
}

static bool widen_device(struct yml *yaml, struct yml_node *device, const struct net *net) {
    struct yml_node *match = (struct yml_node *) yml_get(device, "match");

    (void) net;
    if (match == NULL)
        match = yml_put(yaml, device, "match", NULL);
    (void) yml_drop(device, "set-name");
    return match != NULL && yml_put(yaml, match, "name", ANY_NAME) != NULL;
}

/* Of the device of that name in one file, if it has it; where maps of maps stand on one line, they
 * are written as one. */
static bool change_device(struct planning *planning, const struct net *net, const char *path,
                          const char *id, device_change *change, enum node_fate fate) {
    static const char *const kinds[] = {"ethernets", "bridges", "bonds", "vlans"};
    const char *text = draft_text(planning, path);
    IM_AUTO(yml_free_auto) struct yml *yaml = text != NULL ? yml_read(text) : NULL;
    struct yml_node *network, *devices, *device;

    for (size_t i = 0; yaml != NULL && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        network = yml_at(yaml, (const char *const[]){"network", NULL});
        devices = yml_at(yaml, (const char *const[]){"network", kinds[i], NULL});
        device = yml_at(yaml, (const char *const[]){"network", kinds[i], id, NULL});
        if (device == NULL || device->kind != YML_MAP || yml_root(yaml)->flow)
            continue;
        if (change(yaml, device, net))
            return put_back(planning, path, network->flow || devices->flow ? network : device,
                            fate);
    }
    return false;
}

/* --- Netplan ---------------------------------------------------------------------------------- */

/* What one file says of a device, others may add to. */
static bool in_all_files(struct planning *planning, const struct net *net,
                         const struct net_card *card, device_change *change, enum node_fate fate) {
    const char *id = card->id[0] != '\0' ? card->id : card->name;
    IM_AUTO(im_strings_done) struct im_strings paths = {0};
    bool changed = false;

    netplan_paths(net, &paths);
    for (size_t i = 0; i < paths.count; i++)
        changed |= change_device(planning, net, paths.items[i], id, change, fate);
    return changed;
}

static bool netplan_unpin(struct planning *planning, const struct net *net,
                          const struct net_card *card) {
    return in_all_files(planning, net, card, unpin_device, NODE_ANEW);
}

static bool netplan_ask(struct planning *planning, const struct net *net,
                        const struct net_card *card) {
    return in_all_files(planning, net, card, ask_device, NODE_ANEW_REMARKED);
}

static bool netplan_widen(struct planning *planning, const struct net *net,
                          const struct net_card *card) {
    return in_all_files(planning, net, card, widen_device, NODE_ANEW);
}

/* As Debian's cloud images have it. */
static char *netplan_create(struct planning *planning, const struct net *net) {
    char *path = free_path(planning, "/etc/netplan", "90-dhcp", ".yaml");
    bool manager = net->manager && !net->has[NET_NETWORKD];

    draft_set(planning, path,
              im_printf("# Any network card, by DHCP.\nnetwork:\n  version: 2\n%s  ethernets:\n"
                        "    all-en:\n      match:\n        name: en*\n      dhcp4: true\n"
                        "      dhcp6: true\n    all-eth:\n      match:\n        name: eth*\n"
                        "      dhcp4: true\n      dhcp6: true\n",
                        manager ? "  renderer: NetworkManager\n" : ""),
              0600);
    return path;
}

const struct net_ways netplan_ways = {netplan_unpin, netplan_ask, netplan_widen, netplan_create};

/* --- cloud-init ------------------------------------------------------------------------------- */

/* Without word of a network it sets up the card that there is, by DHCP. */
static bool withdraw(struct planning *planning, const char *path) {
    const char *text = draft_text(planning, path);
    IM_AUTO(yml_free_auto) struct yml *yaml = text != NULL ? yml_read(text) : NULL;
    const struct yml_node *root = yml_root(yaml), *network = yml_get(root, "network");

    return network != NULL && !root->flow && put_back(planning, path, network, NODE_OUT_REMARKED);
}

/* In the first version devices are a list. */
static bool unpin_entry(struct planning *planning, const struct net_card *card) {
    const char *text = draft_text(planning, card->file);
    IM_AUTO(yml_free_auto) struct yml *yaml = text != NULL ? yml_read(text) : NULL;
    struct yml_node *list = NULL;

    if (yaml != NULL && !yml_root(yaml)->flow)
        list = yml_at(yaml, (const char *const[]){"network", "config", NULL});
    for (struct yml_node *at = list != NULL ? list->first : NULL; at != NULL; at = at->next)
        if (at->kind == YML_MAP && at->line == card->line && yml_drop(at, "mac_address"))
            return put_back(planning, card->file,
                            yml_at(yaml, (const char *const[]){"network", NULL}), NODE_ANEW);
    return false;
}

static bool cloud_unpin(struct planning *planning, const struct net *net,
                        const struct net_card *card) {
    return unpin_entry(planning, card) ||
           change_device(planning, net, card->file, card->id, unpin_device, NODE_ANEW);
}

static bool cloud_withdraw(struct planning *planning, const struct net *net,
                           const struct net_card *card) {
    (void) net;
    return withdraw(planning, card->file);
}

static char *cloud_create(struct planning *planning, const struct net *net) {
    return withdraw(planning, net->instructed) ? im_strdup(net->instructed) : NULL;
}

const struct net_ways cloud_ways = {cloud_unpin, cloud_withdraw, cloud_withdraw, cloud_create};
