/* SPDX-License-Identifier: Apache-2.0 */
/* Network files that are lines of a shell: Red Hat's and SUSE's ifcfg-*, and netctl's profiles.
 * None but NetworkManager's reading of Red Hat's has a word for any card: there the names that
 * cards have in a machine here are written, as cloud images do. */
#include <stdio.h>

#include "repair-network.h"

#define SCRIPTS "/etc/sysconfig/network-scripts"
#define SUSE "/etc/sysconfig/network"

/* --- Both kinds of ifcfg ---------------------------------------------------------------------- */

static enum line_fate unpin_line(void *arg, const struct net_line *line, struct im_str *after) {
    static const char *const pins[] = {"HWADDR", "MACADDR", "LLADDR", "MACAddress", NULL};

    (void) arg;
    (void) after;
    return is_one_of(line->key, pins) ? LINE_OUT : LINE_KEEP;
}

static bool unpin(struct planning *planning, const struct net *net, const struct net_card *card) {
    (void) net;
    return lines_rewrite(planning, card->file, unpin_line, NULL, "");
}

/* IPADDR, IPADDR0, IPADDR_1 … */
static bool is_fixed(const char *key) {
    static const char *const begins[] = {"IPADDR",  "NETMASK",   "PREFIX",       "GATEWAY",
                                         "NETWORK", "BROADCAST", "REMOTE_IPADDR"};

    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
        if (im_starts_with(key, begins[i]))
            return true;
    return im_starts_with(key, "DNS") && key[3] >= '0' && key[3] <= '9';
}

static enum line_fate ask_line(void *arg, const struct net_line *line, struct im_str *after) {
    bool *told = arg;

    if (strcmp(line->key, "BOOTPROTO") != 0)
        return is_fixed(line->key) ? LINE_REMARK : LINE_KEEP;
    if (!*told)
        im_str_add(after, "BOOTPROTO=dhcp\n");
    *told = true;
    return LINE_REMARK;
}

static enum line_fate gateway_line(void *arg, const struct net_line *line, struct im_str *after) {
    (void) arg;
    (void) after;
    return im_starts_with(line->key, "GATEWAY") || im_starts_with(line->text, "default ")
               ? LINE_REMARK
               : LINE_KEEP;
}

/* Ways out of a network that it may not be in stand elsewhere. */
static bool ask(struct planning *planning, const struct net *net, const struct net_card *card) {
    IM_AUTO(free_auto) char *routes = im_printf(SUSE "/ifroute-%s", card->name);
    bool told = false;

    (void) net;
    if (!lines_rewrite(planning, card->file, ask_line, &told, ""))
        return false;
    if (!told) {
        IM_AUTO(free_auto) char *text = im_strdup(draft_text(planning, card->file));

        (void) net_write(planning, card->file, im_printf("%sBOOTPROTO=dhcp\n", text));
    }
    (void) lines_rewrite(planning, "/etc/sysconfig/network", gateway_line, NULL, "");
    (void) lines_rewrite(planning, SUSE "/routes", gateway_line, NULL, "");
    (void) lines_rewrite(planning, routes, gateway_line, NULL, "");
    return true;
}

/* What else such a file says of its card stays. */
static enum line_fate off_line(void *arg, const struct net_line *line, struct im_str *after) {
    static const char *const keys[] = {"ONBOOT", "STARTMODE", "BOOTPROTO", NULL};

    (void) arg;
    (void) after;
    return is_one_of(line->key, keys) || is_fixed(line->key) ? LINE_REMARK : LINE_KEEP;
}

/* A file for each name; the path of the first. */
static char *add_files(struct planning *planning, const struct net *net, const char *folder,
                       const char *text, bool device) {
    char *first = NULL;

    for (size_t i = 0; net->ours[i] != NULL; i++) {
        IM_AUTO(free_auto) char *path = im_printf("%s/ifcfg-%s", folder, net->ours[i]);

        if (i == 0)
            first = im_strdup(path);
        if (!lines_rewrite(planning, path, off_line, NULL, text))
            draft_set(planning, path,
                      im_printf("%s%s%s%s", device ? "DEVICE=" : "", device ? net->ours[i] : "",
                                device ? "\n" : "", text),
                      0644);
    }
    return first;
}

/* --- Red Hat's -------------------------------------------------------------------------------- */

struct device {
    const char *name; /* NULL: whatever there is */
    bool told, typed;
};

/* NetworkManager wants to be told the type where it is not told the card. */
static enum line_fate device_line(void *arg, const struct net_line *line, struct im_str *after) {
    struct device *device = arg;

    if (strcmp(line->key, "DEVICE") != 0)
        return LINE_KEEP;
    if (device->name != NULL)
        im_str_addf(after, "DEVICE=%s\n", device->name);
    else if (!device->typed)
        im_str_add(after, "TYPE=Ethernet\n");
    device->told = true;
    return LINE_OUT;
}

/* The scripts are told each name in a file of its own. */
static bool ifcfg_widen(struct planning *planning, const struct net *net,
                        const struct net_card *card) {
    const char *text = draft_text(planning, card->file);
    struct device device = {.name = net->manager ? NULL : net->ours[0],
                            .typed = text != NULL && strstr(text, "TYPE=") != NULL};
    IM_AUTO(free_auto)
    char *end = net->manager || (text != NULL && strstr(text, "DEVICE=") != NULL)
                    ? im_strdup("")
                    : im_printf("DEVICE=%s\n", net->ours[0]);

    if (!lines_rewrite(planning, card->file, device_line, &device, end))
        return false;
    for (size_t i = 1; !net->manager && net->ours[i] != NULL; i++) {
        IM_AUTO(free_auto) char *path = im_printf(SCRIPTS "/ifcfg-%s", net->ours[i]);

        draft_set(planning, path,
                  im_printf("DEVICE=%s\nBOOTPROTO=dhcp\nONBOOT=yes\n", net->ours[i]), 0644);
    }
    return true;
}

static char *ifcfg_create(struct planning *planning, const struct net *net) {
    return add_files(planning, net, SCRIPTS, "BOOTPROTO=dhcp\nONBOOT=yes\n", true);
}

const struct net_ways ifcfg_ways = {unpin, ask, ifcfg_widen, ifcfg_create};

/* --- SUSE's ----------------------------------------------------------------------------------- */

/* Nobody waits for a card that is not there when it is plugged in. */
static enum line_fate plug_line(void *arg, const struct net_line *line, struct im_str *after) {
    bool *told = arg;

    if (strcmp(line->key, "STARTMODE") != 0)
        return LINE_KEEP;
    if (!*told)
        im_str_add(after, "STARTMODE='hotplug'\n");
    *told = true;
    return LINE_OUT;
}

/* The card's name is the file's: what it says is said again for each name. */
static bool wicked_widen(struct planning *planning, const struct net *net,
                         const struct net_card *card) {
    IM_AUTO(free_auto) char *text = NULL;
    bool told = false;

    (void) lines_rewrite(planning, card->file, plug_line, &told, "");
    text = im_strdup(draft_text(planning, card->file));
    if (text == NULL)
        return false;
    free(add_files(planning, net, SUSE, text, false));
    plan_remove(planning, card->file, false);
    return true;
}

static char *wicked_create(struct planning *planning, const struct net *net) {
    return add_files(planning, net, SUSE, "BOOTPROTO='dhcp'\nSTARTMODE='hotplug'\n", false);
}

const struct net_ways wicked_ways = {unpin, ask, wicked_widen, wicked_create};

/* --- netctl ----------------------------------------------------------------------------------- */

static enum line_fate ask_netctl(void *arg, const struct net_line *line, struct im_str *after) {
    static const char *const fixed[] = {"Address", "Gateway", "Routes", "DNS", NULL};

    (void) arg;
    if (strcmp(line->key, "IP") != 0)
        return is_one_of(line->key, fixed) ? LINE_REMARK : LINE_KEEP;
    im_str_add(after, "IP=dhcp\n");
    return LINE_REMARK;
}

static bool netctl_ask(struct planning *planning, const struct net *net,
                       const struct net_card *card) {
    (void) net;
    return lines_rewrite(planning, card->file, ask_netctl, NULL, "");
}

static enum line_fate interface_line(void *arg, const struct net_line *line, struct im_str *after) {
    if (strcmp(line->key, "Interface") != 0)
        return LINE_KEEP;
    im_str_addf(after, "Interface=%s\n", (const char *) arg);
    return LINE_OUT;
}

struct renaming {
    char *from, *to;
};

/* Its units wait for the card by a name that `netctl enable` wrote. */
static enum line_fate unit_line(void *arg, const struct net_line *line, struct im_str *after) {
    const struct renaming *renaming = arg;
    const char *at = strstr(line->text, renaming->from);

    if (at == NULL)
        return LINE_KEEP;
    im_str_addf(after, "%.*s%s%s\n", (int) (at - line->text), line->text, renaming->to,
                at + strlen(renaming->from));
    return LINE_OUT;
}

static bool netctl_widen(struct planning *planning, const struct net *net,
                         const struct net_card *card) {
    const char *profile = strrchr(card->file, '/') + 1;
    IM_AUTO(free_auto)
    char *unit = im_printf("/etc/systemd/system/netctl@%s.service", profile);
    IM_AUTO(free_auto) char *more = im_printf("%s.d/profile.conf", unit);
    IM_AUTO(free_auto)
    char *from = im_printf("net-devices-%s.device", card->name);
    IM_AUTO(free_auto) char *to = im_printf("net-devices-%s.device", net->ours[0]);
    struct renaming renaming = {from, to};

    (void) lines_rewrite(planning, unit, unit_line, &renaming, "");
    (void) lines_rewrite(planning, more, unit_line, &renaming, "");
    return lines_rewrite(planning, card->file, interface_line, (void *) net->ours[0], "");
}

static char *netctl_create(struct planning *planning, const struct net *net) {
    (void) planning;
    (void) net;
    return NULL; /* a profile is enabled by a link */
}

const struct net_ways netctl_ways = {unpin, netctl_ask, netctl_widen, netctl_create};
