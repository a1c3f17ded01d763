/* SPDX-License-Identifier: Apache-2.0 */
/* Network files that are lines of a shell: ifcfg-* of Red Hat and of SUSE, netctl's profiles, and
 * FreeBSD's rc.conf. */
#include <stdio.h>

#include "network.h"

/* --- ifcfg-* ---------------------------------------------------------------------------------- */

struct ifcfg {
    char device[64], proto[32], address[64], mac[32], set[32], start[16], type[24];
    bool part; /* of a bridge or bond, or made of other cards */
};

static void take_words(char *text, struct ifcfg *ifcfg) {
    static const char *const parts[] = {"BRIDGE",         "MASTER",      "TEAM_MASTER", "VLAN",
                                        "BONDING_MASTER", "ETHERDEVICE", "SLAVE"};
    char *line, word[64] = "";

    while ((line = text_line(&text)) != NULL) {
        line += strspn(line, " \t");
        (void) text_value(line, "DEVICE", ifcfg->device, sizeof(ifcfg->device));
        (void) text_value(line, "BOOTPROTO", ifcfg->proto, sizeof(ifcfg->proto));
        if (!text_value(line, "IPADDR", ifcfg->address, sizeof(ifcfg->address)))
            (void) text_value(line, "IPADDR0", ifcfg->address, sizeof(ifcfg->address));
        (void) text_value(line, "HWADDR", ifcfg->mac, sizeof(ifcfg->mac));
        (void) text_value(line, "MACADDR", ifcfg->set, sizeof(ifcfg->set));
        (void) text_value(line, "LLADDR", ifcfg->set, sizeof(ifcfg->set));
        (void) text_value(line, "ONBOOT", ifcfg->start, sizeof(ifcfg->start));
        (void) text_value(line, "STARTMODE", ifcfg->start, sizeof(ifcfg->start));
        (void) text_value(line, "TYPE", ifcfg->type, sizeof(ifcfg->type));
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
            if (text_value(line, parts[i], word, sizeof(word)) && word[0] != '\0' &&
                strcasecmp(word, "no") != 0)
                ifcfg->part = true;
    }
}

static bool starts(const char *start) {
    static const char *const never[] = {"no", "off", "manual", "false"};

    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
        if (strcasecmp(start, never[i]) == 0)
            return false;
    return true;
}

/* Left behind by editors and package managers; read by nobody. */
static bool left_behind(const char *name) {
    static const char *const ends[] = {"~",       ".bak",     ".old",     ".orig",
                                       ".rpmnew", ".rpmsave", ".rpmorig", ".template"};

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        if (im_ends_with(name, ends[i]))
            return true;
    return im_starts_with(name, "ifcfg.") || strchr(name, ':') != NULL;
}

/* SUSE's are for the card that their name ends with, and Red Hat's scripts take it for one that is
 * not said. */
static void read_ifcfg(struct net *net, const char *folder, const char *name, bool suse) {
    IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, name);
    IM_AUTO(free_auto) char *text = net_text(net, path);
    IM_AUTO(free_auto) char *whole = im_strdup(text);
    const char *own = name + strlen("ifcfg-");
    struct ifcfg ifcfg = {0};
    struct net_card *card;

    if (text == NULL || left_behind(name))
        return;
    take_words(text, &ifcfg);
    if (suse || (ifcfg.device[0] == '\0' && ifcfg.mac[0] == '\0' && !net->manager))
        snprintf(ifcfg.device, sizeof(ifcfg.device), "%s", own);
    if (ifcfg.part || net_is_made_up(ifcfg.device) || net_is_made_up(own) || !starts(ifcfg.start) ||
        (!suse && ifcfg.type[0] != '\0' && strcasecmp(ifcfg.type, "Ethernet") != 0))
        return;
    card = net_add(net, suse ? NET_WICKED : NET_IFCFG, path);
    if (card == NULL)
        return;
    memcpy(card->name, ifcfg.device, sizeof(ifcfg.device));
    card->dhcp = im_starts_with(ifcfg.proto, "dhcp") || strcmp(ifcfg.proto, "bootp") == 0;
    card->written = net_is_written(path, whole);
    net_take_mac(card->wants, ifcfg.mac);
    net_take_mac(card->sets, ifcfg.set);
    if (!card->dhcp)
        net_take_address(card, ifcfg.address);
}

static void read_folder(struct net *net, const char *folder, bool suse) {
    IM_AUTO(im_strings_done) struct im_strings names = {0};

    net_names(net, folder, "ifcfg-", "", &names);
    for (size_t i = 0; i < names.count && i < NET_FILES_MAX; i++)
        read_ifcfg(net, folder, names.items[i], suse);
}

void net_sysconfig(struct net *net) {
    static const char red_hat[] = "/etc/sysconfig/network-scripts";
    static const char suse[] = "/etc/sysconfig/network";
    bool scripts = tree_has(net->tree, "/etc/rc.d/init.d/network") ||
                   tree_has(net->tree, "/etc/init.d/network");

    if (tree_has(net->tree, red_hat) && (scripts || net->manager)) {
        net->known = net->has[NET_IFCFG] = true;
        read_folder(net, red_hat, false);
    }
    if (!net->manager && tree_has(net->tree, "/usr/sbin/wicked")) {
        net->known = net->has[NET_WICKED] = true;
        read_folder(net, suse, true);
    }
}

/* --- netctl ----------------------------------------------------------------------------------- */

static void read_profile(struct net *net, const char *name) {
    IM_AUTO(free_auto) char *path = im_printf("/etc/netctl/%s", name);
    IM_AUTO(free_auto) char *text = net_text(net, path);
    char ip[16] = "", address[64] = "", connection[24] = "", device[64] = "", mac[32] = "";
    struct net_card *card;
    char *at = text, *line;

    while (at != NULL && (line = text_line(&at)) != NULL) {
        (void) text_value(line, "Interface", device, sizeof(device));
        (void) text_value(line, "Connection", connection, sizeof(connection));
        (void) text_value(line, "IP", ip, sizeof(ip));
        (void) text_value(line, "Address", address, sizeof(address));
        (void) text_value(line, "MACAddress", mac, sizeof(mac));
    }
    if (strcmp(connection, "ethernet") != 0)
        return;
    card = net_add(net, NET_NETCTL, path);
    if (card == NULL)
        return;
    memcpy(card->name, device, sizeof(device));
    card->dhcp = strcmp(ip, "dhcp") == 0;
    net_take_mac(card->sets, mac);
    if (strcmp(ip, "static") == 0)
        net_take_address(card, address);
}

/* Its units are called netctl@PROFILE, and netctl-auto@ and netctl-ifplugd@ with a card's name:
 * they choose among the profiles. */
void net_netctl(struct net *net) {
    IM_AUTO(im_strings_done) struct im_strings names = {0};
    char unit[128];

    if (!unit_begins(net->tree, "netctl", unit, sizeof(unit)))
        return;
    net->known = net->has[NET_NETCTL] = true;
    net_names(net, "/etc/netctl", "", "", &names);
    for (size_t i = 0; i < names.count && i < NET_FILES_MAX; i++)
        read_profile(net, names.items[i]);
}

/* --- rc.conf ---------------------------------------------------------------------------------- */

static void take_rc_line(struct net *net, const char *file, const char *line) {
    char value[128], key[80];
    const char *name = key + strlen("ifconfig_");
    struct net_card *card;
    const char *inet;

    snprintf(key, sizeof(key), "%.*s", (int) strcspn(line, "="), line);
    if (!im_starts_with(key, "ifconfig_") || strchr(name, '_') != NULL || net_is_made_up(name) ||
        !text_value(line, key, value, sizeof(value)))
        return;
    card = net_add(net, NET_RC_CONF, file);
    if (card == NULL)
        return;
    if (strcmp(name, "DEFAULT") != 0)
        text_take(card->name, sizeof(card->name), name, strlen(name));
    card->dhcp = strstr(value, "DHCP") != NULL;
    inet = strstr(value, "inet ");
    if (inet != NULL && !card->dhcp)
        net_take_address(card, inet + 5);
    inet = strstr(value, "ether ");
    if (inet != NULL)
        net_take_mac(card->sets, inet + 6);
}

void net_rc_conf(struct net *net) {
    static const char *const files[] = {"/etc/rc.conf", "/etc/rc.conf.local"};

    if (strcmp(net->look->found->os.init, "rc") != 0)
        return;
    net->known = net->has[NET_RC_CONF] = true;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        IM_AUTO(free_auto) char *text = net_text(net, files[i]);
        char *at = text, *line;

        while (at != NULL && (line = text_line(&at)) != NULL)
            take_rc_line(net, files[i], line);
    }
}
