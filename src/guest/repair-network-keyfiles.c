/* SPDX-License-Identifier: Apache-2.0 */
/* NetworkManager's profiles, and .network and .link of systemd's. */
#include <stdio.h>

#include "repair-network.h"

static bool is_in(const struct net_line *line, const char *section) {
    return strcmp(line->section, section) == 0;
}

/* --- NetworkManager --------------------------------------------------------------------------- */

static bool is_wired(const struct net_line *line) {
    return is_in(line, "ethernet") || is_in(line, "802-3-ethernet");
}

static enum line_fate unpin_profile(void *arg, const struct net_line *line, struct im_str *after) {
    char mac[24] = "";

    (void) arg;
    (void) after;
    net_take_mac(mac, line->value);
    return is_wired(line) && mac[0] != '\0' &&
                   (strcmp(line->key, "mac-address") == 0 ||
                    strcmp(line->key, "cloned-mac-address") == 0)
               ? LINE_OUT
               : LINE_KEEP;
}

static enum line_fate ask_profile(void *arg, const struct net_line *line, struct im_str *after) {
    (void) arg;
    if (!is_in(line, "ipv4"))
        return LINE_KEEP;
    if (line->heads)
        im_str_add(after, "method=auto\n");
    return im_starts_with(line->key, "address") || im_starts_with(line->key, "route") ||
                   im_starts_with(line->key, "dns") || strcmp(line->key, "gateway") == 0 ||
                   strcmp(line->key, "method") == 0
               ? LINE_REMARK
               : LINE_KEEP;
}

/* Without a name it is for whatever card there is. */
static enum line_fate widen_profile(void *arg, const struct net_line *line, struct im_str *after) {
    (void) arg;
    (void) after;
    return strcmp(line->key, "interface-name") == 0 ? LINE_OUT : LINE_KEEP;
}

static bool manager_unpin(struct planning *planning, const struct net *net,
                          const struct net_card *card) {
    (void) net;
    return lines_rewrite(planning, card->file, unpin_profile, NULL, "");
}

static bool manager_ask(struct planning *planning, const struct net *net,
                        const struct net_card *card) {
    (void) net;
    return lines_rewrite(planning, card->file, ask_profile, NULL, "");
}

static bool manager_widen(struct planning *planning, const struct net *net,
                          const struct net_card *card) {
    (void) net;
    return lines_rewrite(planning, card->file, widen_profile, NULL, "");
}

/* Others than root may not read it, or NetworkManager does not. */
static char *manager_create(struct planning *planning, const struct net *net) {
    char *path =
        free_path(planning, "/etc/NetworkManager/system-connections", "any-card", ".nmconnection");

    (void) net;
    draft_set(planning, path,
              im_strdup("# Any network card, by DHCP.\n[connection]\nid=any-card\ntype=ethernet\n"
                        "multi-connect=3\n\n[ethernet]\n\n[ipv4]\nmethod=auto\n\n"
                        "[ipv6]\nmethod=auto\n"),
              0600);
    return path;
}

const struct net_ways manager_ways = {manager_unpin, manager_ask, manager_widen, manager_create};

/* --- systemd-networkd ------------------------------------------------------------------------- */

static bool matches_mac(const struct net_line *line) {
    return is_in(line, "Match") &&
           (strcmp(line->key, "MACAddress") == 0 || strcmp(line->key, "PermanentMACAddress") == 0);
}

/* What else a unit is limited by. */
static enum line_fate count_others(void *arg, const struct net_line *line, struct im_str *after) {
    size_t *others = arg;

    (void) after;
    *others += is_in(line, "Match") && line->key[0] != '\0' && !matches_mac(line);
    return LINE_KEEP;
}

/* A unit that is limited by nothing would be for the loopback, too. */
static enum line_fate unpin_unit(void *arg, const struct net_line *line, struct im_str *after) {
    size_t *others = arg;

    if (line->heads && is_in(line, "Match") && *others == 0)
        im_str_add(after, "Name=" ANY_NAMES "\n");
    return matches_mac(line) || (is_in(line, "Link") && strcmp(line->key, "MACAddress") == 0)
               ? LINE_OUT
               : LINE_KEEP;
}

static bool networkd_unpin(struct planning *planning, const struct net *net,
                           const struct net_card *card) {
    size_t others = 0;

    (void) net;
    if (card->wants[0] == '\0')
        others = 1;
    else
        (void) lines_rewrite(planning, card->file, count_others, &others, "");
    return lines_rewrite(planning, card->file, unpin_unit, &others, "");
}

static enum line_fate ask_unit(void *arg, const struct net_line *line, struct im_str *after) {
    static const char *const fixed[] = {"Address", "Gateway", "DNS", "DHCP", NULL};
    bool *told = arg;

    if (is_in(line, "Address") || is_in(line, "Route"))
        return line->text[0] != '\0' && line->text[0] != '#' ? LINE_REMARK : LINE_KEEP;
    if (!is_in(line, "Network"))
        return LINE_KEEP;
    if (line->heads && !*told) {
        im_str_add(after, "DHCP=yes\n");
        *told = true;
    }
    return is_one_of(line->key, fixed) ? LINE_REMARK : LINE_KEEP;
}

static bool networkd_ask(struct planning *planning, const struct net *net,
                         const struct net_card *card) {
    const char *text = draft_text(planning, card->file);
    bool has = text != NULL && strstr(text, "[Network]") != NULL, told = false;

    (void) net;
    return lines_rewrite(planning, card->file, ask_unit, &told,
                         has ? "" : "\n[Network]\nDHCP=yes\n");
}

static enum line_fate widen_unit(void *arg, const struct net_line *line, struct im_str *after) {
    (void) arg;
    if (!is_in(line, "Match"))
        return LINE_KEEP;
    if (line->heads)
        im_str_add(after, "Name=" ANY_NAMES "\n");
    return strcmp(line->key, "Name") == 0 || strcmp(line->key, "OriginalName") == 0 ? LINE_OUT
                                                                                    : LINE_KEEP;
}

static bool networkd_widen(struct planning *planning, const struct net *net,
                           const struct net_card *card) {
    (void) net;
    return lines_rewrite(planning, card->file, widen_unit, NULL, "");
}

static char *networkd_create(struct planning *planning, const struct net *net) {
    char *path = free_path(planning, "/etc/systemd/network", "80-dhcp", ".network");

    (void) net;
    draft_set(planning, path,
              im_strdup("# Any network card, by DHCP.\n[Match]\nName=" ANY_NAMES
                        "\n\n[Network]\nDHCP=yes\n"),
              0644);
    return path;
}

const struct net_ways networkd_ways = {networkd_unpin, networkd_ask, networkd_widen,
                                       networkd_create};

/* One that names a card by its MAC address means no card of another machine, and without the
 * address would mean all. */
static bool link_unpin(struct planning *planning, const struct net *net,
                       const struct net_card *card) {
    size_t others = 1;

    (void) net;
    if (card->wants[0] == '\0')
        return lines_rewrite(planning, card->file, unpin_unit, &others, "");
    plan_remove(planning, card->file, false);
    return true;
}

static bool link_never(struct planning *planning, const struct net *net,
                       const struct net_card *card) {
    (void) planning;
    (void) net;
    (void) card;
    return false; /* they set up neither addresses nor networks */
}

const struct net_ways link_ways = {link_unpin, link_never, link_never, NULL};
