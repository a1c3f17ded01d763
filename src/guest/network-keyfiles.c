/* SPDX-License-Identifier: Apache-2.0 */
/* NetworkManager and systemd-networkd, whose files have sections and keys. */
#include <stdio.h>

#include "network.h"

/* --- Sections and keys ------------------------------------------------------------------------ */

typedef void take_key(void *arg, const char *section, const char *key, const char *value);

static char *trimmed(char *text) {
    char *end = text + strlen(text);

    while (end > text && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
        *--end = '\0';
    return text + strspn(text, " \t");
}

static void each_key(char *text, take_key *take, void *arg) {
    char *line, section[32] = "";

    while ((line = text_line(&text)) != NULL) {
        char *equals;

        line = trimmed(line);
        equals = strchr(line, '=');
        if (line[0] == '[') {
            snprintf(section, sizeof(section), "%.*s", (int) strcspn(line + 1, "]"), line + 1);
        } else if (line[0] != '#' && line[0] != ';' && equals != NULL) {
            *equals = '\0';
            take(arg, section, trimmed(line), trimmed(equals + 1));
        }
    }
}

static bool no(const char *value) {
    return strcasecmp(value, "no") == 0 || strcasecmp(value, "false") == 0 ||
           strcmp(value, "0") == 0;
}

/* --- NetworkManager --------------------------------------------------------------------------- */

struct profile {
    struct net_card *card;
    bool ethernet, starts, manual;
};

static void take_profile(void *arg, const char *section, const char *key, const char *value) {
    struct profile *profile = arg;
    struct net_card *card = profile->card;
    bool wired = strcmp(section, "ethernet") == 0 || strcmp(section, "802-3-ethernet") == 0;

    if (strcmp(section, "connection") == 0 && strcmp(key, "type") == 0)
        profile->ethernet = strcmp(value, "ethernet") == 0 || strcmp(value, "802-3-ethernet") == 0;
    else if (strcmp(section, "connection") == 0 && strcmp(key, "autoconnect") == 0)
        profile->starts = !no(value);
    else if (strcmp(key, "interface-name") == 0)
        text_take(card->name, sizeof(card->name), value, strcspn(value, ";"));
    else if (wired && strcmp(key, "mac-address") == 0)
        net_take_mac(card->wants, value);
    else if (wired && strcmp(key, "cloned-mac-address") == 0)
        net_take_mac(card->sets, value);
    else if (strcmp(section, "ipv4") == 0 && strcmp(key, "method") == 0)
        card->dhcp = strcmp(value, "auto") == 0;
    else if (strcmp(section, "ipv4") == 0 && im_starts_with(key, "address"))
        net_take_address(card, value);
}

static void read_profile(struct net *net, const char *path) {
    IM_AUTO(free_auto) char *text = net_text(net, path);
    struct profile profile = {.starts = true};

    profile.card = text != NULL ? net_add(net, NET_MANAGER, path) : NULL;
    if (profile.card == NULL)
        return;
    profile.card->written = net_is_written(path, text);
    each_key(text, take_profile, &profile);
    if (!profile.ethernet || !profile.starts)
        net_drop(net);
}

struct defaults {
    bool none;      /* cards without a profile are left alone */
    bool unmanaged; /* some are not its own */
};

static void take_default(void *arg, const char *section, const char *key, const char *value) {
    struct defaults *defaults = arg;

    if (strcmp(section, "main") == 0 && strcmp(key, "no-auto-default") == 0)
        defaults->none = strchr(value, '*') != NULL;
    else if (strcmp(key, "unmanaged-devices") == 0 || strcmp(key, "managed") == 0)
        defaults->unmanaged = true;
}

static void read_defaults(struct net *net, const char *path, struct defaults *defaults) {
    IM_AUTO(free_auto) char *text = net_text(net, path);

    if (text != NULL)
        each_key(text, take_default, defaults);
}

void net_manager(struct net *net) {
    static const char *const profiles[] = {"/usr/lib/NetworkManager/system-connections",
                                           "/etc/NetworkManager/system-connections", NULL};
    static const char *const settings[] = {"/usr/lib/NetworkManager/conf.d",
                                           "/etc/NetworkManager/conf.d", NULL};
    IM_AUTO(im_strings_done) struct im_strings paths = {0};
    IM_AUTO(im_strings_done) struct im_strings conf = {0};
    struct defaults defaults = {0};

    if (!unit_starts(net->tree, "NetworkManager"))
        return;
    net->known = net->has[NET_MANAGER] = true;
    net->manager = true;
    net_paths(net, profiles, "", &paths);
    for (size_t i = 0; i < paths.count; i++)
        read_profile(net, paths.items[i]);
    read_defaults(net, "/etc/NetworkManager/NetworkManager.conf", &defaults);
    net_paths(net, settings, ".conf", &conf);
    for (size_t i = 0; i < conf.count; i++)
        read_defaults(net, conf.items[i], &defaults);
    if (defaults.unmanaged)
        net->unclear = true;
    else
        net->covered |= !defaults.none;
}

/* --- systemd-networkd ------------------------------------------------------------------------- */

struct unit {
    struct net_card *card;
    bool other; /* for devices that no machine here has */
    bool names; /* gives a name */
};

/* Several lines add to one another; an empty one begins anew. */
static void add_name(struct net_card *card, const char *value) {
    char both[2 * sizeof(card->name)];

    snprintf(both, sizeof(both), "%s%s%s", card->name, card->name[0] != '\0' ? " " : "", value);
    text_take(card->name, sizeof(card->name), both, value[0] != '\0' ? strlen(both) : 0);
}

static void take_match(struct unit *unit, const char *key, const char *value) {
    struct net_card *card = unit->card;

    if (strcmp(key, "Name") == 0 || strcmp(key, "OriginalName") == 0)
        add_name(card, value);
    else if (strcmp(key, "MACAddress") == 0 || strcmp(key, "PermanentMACAddress") == 0)
        net_take_mac(card->wants, value);
    else if (strcmp(key, "Type") == 0)
        unit->other |= strstr(value, "ether") == NULL || value[0] == '!';
    else if (strcmp(key, "Driver") == 0)
        unit->other |= strstr(value, "virtio") == NULL && strchr(value, '*') == NULL;
    else if (strcmp(key, "Virtualization") == 0)
        unit->other |= no(value) || strstr(value, "container") == value;
    else if (strcmp(key, "Kind") == 0)
        unit->other |= value[0] != '!';
    else if (strcmp(key, "Property") == 0 || strcmp(key, "WLANInterfaceType") == 0 ||
             strcmp(key, "SSID") == 0)
        unit->other = true;
}

static bool means_dhcp(const char *value) {
    static const char *const words[] = {"yes", "true", "ipv4", "both", "v4", "on", "1"};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcasecmp(value, words[i]) == 0)
            return true;
    return false;
}

static void take_unit(void *arg, const char *section, const char *key, const char *value) {
    struct unit *unit = arg;

    if (strcmp(section, "Match") == 0)
        take_match(unit, key, value);
    else if (strcmp(section, "Network") == 0 && strcmp(key, "DHCP") == 0)
        unit->card->dhcp = means_dhcp(value);
    else if (strcmp(key, "Address") == 0 &&
             (strcmp(section, "Network") == 0 || strcmp(section, "Address") == 0))
        net_take_address(unit->card, value);
    else if (strcmp(section, "Link") == 0 && strcmp(key, "MACAddress") == 0)
        net_take_mac(unit->card->sets, value);
    else if (strcmp(section, "Link") == 0 && strcmp(key, "Unmanaged") == 0)
        unit->other |= !no(value);
    else if (strcmp(section, "Link") == 0 && strcmp(key, "Name") == 0)
        unit->names = true;
}

static void read_unit(struct net *net, const char *path, bool link) {
    IM_AUTO(free_auto) char *text = net_text(net, path);
    IM_AUTO(free_auto) char *whole = im_strdup(text);
    struct unit unit = {.card = text != NULL ? net_add(net, link ? NET_LINK : NET_NETWORKD, path)
                                             : NULL};

    if (unit.card == NULL)
        return;
    unit.card->written = net_is_written(path, whole);
    each_key(text, take_unit, &unit);
    if (link) { /* it names a card, and gives it neither address nor network */
        net->unclear |= unit.names && !unit.other && unit.card->wants[0] == '\0';
        unit.card->dhcp = false;
        unit.card->address[0] = '\0';
        unit.other |= unit.card->wants[0] == '\0' && unit.card->sets[0] == '\0';
    }
    if (unit.other || net_is_made_up(unit.card->name))
        net_drop(net);
}

void net_networkd(struct net *net) {
    static const char *const folders[] = {"/usr/lib/systemd/network", "/lib/systemd/network",
                                          "/etc/systemd/network", NULL};
    IM_AUTO(im_strings_done) struct im_strings networks = {0};
    IM_AUTO(im_strings_done) struct im_strings links = {0};

    net_paths(net, folders, ".link", &links);
    for (size_t i = 0; i < links.count; i++)
        if (im_starts_with(links.items[i], "/etc/"))
            read_unit(net, links.items[i], true);
    if (!unit_starts(net->tree, "systemd-networkd"))
        return;
    net->known = net->has[NET_NETWORKD] = true;
    net_paths(net, folders, ".network", &networks);
    for (size_t i = 0; i < networks.count; i++)
        read_unit(net, networks.items[i], false);
}
