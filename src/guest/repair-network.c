/* SPDX-License-Identifier: Apache-2.0 */
/* A network for whatever machine the disk is in: what is bound to one card's MAC address or name is
 * made to be for any, with the words of each system's own. */
#include "drivers.h"
#include "repair-network.h"

#include <stdio.h>

static const struct net_ways *const ways[NET_SYSTEMS] = {
    [NET_CLOUD] = &cloud_ways,     [NET_IFUPDOWN] = &ifupdown_ways, [NET_NETPLAN] = &netplan_ways,
    [NET_MANAGER] = &manager_ways, [NET_NETWORKD] = &networkd_ways, [NET_LINK] = &link_ways,
    [NET_IFCFG] = &ifcfg_ways,     [NET_WICKED] = &wicked_ways,     [NET_NETCTL] = &netctl_ways,
};

/* --- The network as it will be ---------------------------------------------------------------- */

static char *text_then(void *arg, const char *path) { return plan_text(arg, path); }

static void names_then(void *arg, const char *folder, const char *begin, const char *end,
                       struct im_strings *names) {
    plan_names(arg, folder, begin, end, names);
}

struct looking {
    struct cloud cloud;
    struct net_files files;
    struct net *net;
};

static void looking_done(struct looking *looking) { free(looking->net); }

static void look_now(struct planning *planning, struct looking *looking) {
    const struct guest_inspection *found = planning->look->found;

    free(looking->net);
    cloud_take(planning->tree, &found->os, found->boot.cmdline, &looking->cloud);
    looking->files = (struct net_files){text_then, names_then, planning};
    looking->net = network_take(planning->look, planning->tree, &looking->cloud, &looking->files);
}

/* --- One kind of fault, until there is none --------------------------------------------------- */

typedef bool is_faulty(const struct net *net, const struct net_card *card);

static bool is_pinned(const struct net *net, const struct net_card *card) {
    (void) net;
    return card->wants[0] != '\0' || card->sets[0] != '\0';
}

static bool has_address(const struct net *net, const struct net_card *card) {
    (void) net;
    return card->address[0] != '\0' && card->wants[0] == '\0';
}

static bool is_elsewhere(const struct net *net, const struct net_card *card) {
    return card->dhcp && card->wants[0] == '\0' && !net_fits(net, card->name);
}

static const struct net_card *first_faulty(const struct net *net, is_faulty *faulty) {
    for (size_t i = 0; i < net->count; i++)
        if (net_counts(net, &net->cards[i]) && faulty(net, &net->cards[i]))
            return &net->cards[i];
    return NULL;
}

static void by_hand(struct planning *planning, const struct net_card *card) {
    plan_cannot(planning, "%s is written in a way that is not changed here: change it by hand",
                card->file);
}

/* The first of those that the system has and that can be told of any card. */
static char *create(struct planning *planning, const struct net *net) {
    static const enum net_system order[] = {NET_CLOUD,  NET_NETPLAN, NET_NETWORKD, NET_MANAGER,
                                            NET_WICKED, NET_IFCFG,   NET_IFUPDOWN};
    char *path = NULL;

    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]) && path == NULL; i++)
        if (net->has[order[i]])
            path = ways[order[i]]->create(planning, net);
    return path;
}

static bool is_any(const struct net *net, const struct net_card *card) {
    (void) net;
    return card != NULL;
}

/* Where nothing is said of any card: what cloud-init was told may have been all there was. */
static void add_any(struct planning *planning, struct looking *looking) {
    for (unsigned round = 0; round < 2 && !net_served(looking->net); round++) {
        IM_AUTO(free_auto) char *path = NULL;

        if (first_faulty(looking->net, is_any) != NULL)
            return;
        path = create(planning, looking->net);
        if (path == NULL) {
            plan_cannot(planning,
                        "what sets up networks in it has no word for any card: tell it of "
                        "%s by hand, or install cloud-init",
                        looking->net->ours[0]);
            return;
        }
        plan_done(planning, "%s is changed so that any network card is set up by DHCP", path);
        look_now(planning, looking);
    }
}

/* Cards that are called otherwise here, until one of them asks for an address. */
static void widen(struct planning *planning, struct looking *looking) {
    for (unsigned round = 0; round < NET_CARDS_MAX && !net_served(looking->net); round++) {
        const struct net_card *card = first_faulty(looking->net, is_elsewhere);

        if (card == NULL) {
            add_any(planning, looking);
            return;
        }
        if (ways[card->system] == NULL ||
            !ways[card->system]->widen(planning, looking->net, card)) {
            by_hand(planning, card);
            return;
        }
        plan_done(planning, "%s is for the network cards of machines here, not for %s alone",
                  card->file, card->name);
        look_now(planning, looking);
    }
}

void repair_network_mac(struct planning *planning) {
    IM_AUTO(looking_done) struct looking looking = {0};
    const struct net_card *card;

    look_now(planning, &looking);
    for (unsigned round = 0; (card = first_faulty(looking.net, is_pinned)) != NULL; round++) {
        const char *mac = card->wants[0] != '\0' ? card->wants : card->sets;

        if (round == NET_CARDS_MAX || ways[card->system] == NULL ||
            !ways[card->system]->unpin(planning, looking.net, card)) {
            by_hand(planning, card);
            return;
        }
        plan_done(planning, "%s is no longer bound to the MAC address %s", card->file, mac);
        look_now(planning, &looking);
    }
    widen(planning, &looking);
}

void repair_network_address(struct planning *planning) {
    IM_AUTO(looking_done) struct looking looking = {0};
    const struct net_card *card;

    look_now(planning, &looking);
    for (unsigned round = 0; (card = first_faulty(looking.net, has_address)) != NULL; round++) {
        if (round == NET_CARDS_MAX || ways[card->system] == NULL ||
            !ways[card->system]->ask(planning, looking.net, card)) {
            by_hand(planning, card);
            return;
        }
        plan_done(planning, "%s asks for an address by DHCP; %s stays there as a remark",
                  card->file, card->address);
        look_now(planning, &looking);
    }
    widen(planning, &looking);
}

/* A card that another repair has seen to needs no second one. */
static void serve(struct planning *planning) {
    IM_AUTO(looking_done) struct looking looking = {0};

    look_now(planning, &looking);
    if (net_served(looking.net))
        plan_done(planning, "with the other repairs, something asks for an address");
    else
        widen(planning, &looking);
}

void repair_network_name(struct planning *planning) { serve(planning); }

void repair_network_none(struct planning *planning) { serve(planning); }

/* --- The driver of the cards ------------------------------------------------------------------ */

static enum line_fate block_line(void *arg, const struct net_line *line, struct im_str *after) {
    (void) arg;
    (void) after;
    return line_blocks(line->text, "virtio_net") ? LINE_REMARK : LINE_KEEP;
}

/* What the kernel's package does not have cannot be put there from here. */
void repair_network_driver(struct planning *planning) {
    IM_AUTO(im_strings_done) struct im_strings paths = {0};
    bool done = false;

    modprobe_files(planning->tree, &paths);
    for (size_t i = 0; i < paths.count; i++)
        if (lines_rewrite(planning, paths.items[i], block_line, NULL, "")) {
            plan_done(planning, "%s no longer keeps virtio_net from being loaded", paths.items[i]);
            done = true;
        }
    if (!done)
        plan_cannot(planning, "the modules of the kernel on this disk do not have virtio_net: "
                              "install all of them, as linux-modules-extra or kernel-modules has "
                              "them, and then make an image of it again");
}

/* --- Lines ------------------------------------------------------------------------------------ */

bool is_one_of(const char *word, const char *const *list) {
    for (; *list != NULL; list++)
        if (strcmp(word, *list) == 0)
            return true;
    return false;
}

/* What the vendor wrote stays: a file of that name under /etc hides it. */
static char *etc_path(const char *path) {
    static const struct {
        const char *from, *to;
    } places[] = {{"/usr/lib/systemd/network/", "/etc/systemd/network/"},
                  {"/lib/systemd/network/", "/etc/systemd/network/"},
                  {"/usr/lib/netplan/", "/etc/netplan/"},
                  {"/lib/netplan/", "/etc/netplan/"},
                  {"/usr/lib/NetworkManager/", "/etc/NetworkManager/"},
                  {"/usr/lib/modprobe.d/", "/etc/modprobe.d/"},
                  {"/lib/modprobe.d/", "/etc/modprobe.d/"}};

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (im_starts_with(path, places[i].from))
            return im_printf("%s%s", places[i].to, path + strlen(places[i].from));
    return im_strdup(path);
}

bool net_write(struct planning *planning, const char *path, char *text) {
    IM_AUTO(free_auto) char *own = etc_path(path);
    const char *before = draft_text(planning, path);

    if (before == NULL || strcmp(before, text) == 0) {
        free(text);
        return false;
    }
    draft_set(planning, own, text, im_starts_with(own, "/etc/NetworkManager/") ? 0600 : 0644);
    return true;
}

static void take_part(char *out, size_t size, const char *from, size_t len) {
    while (len > 0 && (*from == ' ' || *from == '\t')) {
        from++;
        len--;
    }
    while (len > 0 && (from[len - 1] == ' ' || from[len - 1] == '\t' || from[len - 1] == '\r'))
        len--;
    snprintf(out, size, "%.*s", (int) len, from);
}

struct parts {
    char section[64], key[64], value[160];
};

static struct net_line understood(const char *text, struct parts *parts) {
    const char *begin = text + strspn(text, " \t"), *equals = strchr(begin, '=');

    parts->key[0] = parts->value[0] = '\0';
    if (*begin == '[')
        take_part(parts->section, sizeof(parts->section), begin + 1, strcspn(begin + 1, "]"));
    else if (*begin != '#' && *begin != ';' && equals != NULL) {
        take_part(parts->key, sizeof(parts->key), begin, (size_t) (equals - begin));
        take_part(parts->value, sizeof(parts->value), equals + 1, strlen(equals + 1));
    }
    return (struct net_line){text, parts->section, parts->key, parts->value, *begin == '['};
}

static void put_line(struct im_str *out, enum line_fate fate, const char *text) {
    if (fate != LINE_OUT)
        im_str_addf(out, "%s%s\n", fate == LINE_REMARK ? "#" : "", text);
}

bool lines_rewrite(struct planning *planning, const char *path, line_rule *rule, void *arg,
                   const char *end) {
    IM_AUTO(free_auto) char *before = im_strdup(draft_text(planning, path));
    IM_AUTO(free_auto) char *copy = im_strdup(before);
    struct parts parts = {0};
    struct im_str out = {0};
    enum line_fate fate = LINE_KEEP;
    char *at = copy, *line;
    bool goes_on = false;

    if (copy == NULL)
        return false;
    while ((line = text_line(&at)) != NULL) {
        struct im_str after = {0};

        if (!goes_on) {
            struct net_line words = understood(line, &parts);

            fate = rule(arg, &words, &after);
            goes_on = words.value[0] == '(';
        }
        goes_on = goes_on && strchr(line, ')') == NULL;
        put_line(&out, fate, line);
        if (after.data != NULL)
            im_str_add(&out, after.data);
        im_str_done(&after);
    }
    if (end[0] == '\0' && fate == LINE_KEEP && out.len > 0 && !im_ends_with(before, "\n"))
        out.data[--out.len] = '\0';
    im_str_add(&out, end);
    return net_write(planning, path, im_str_take(&out));
}

char *free_path(struct planning *planning, const char *folder, const char *name, const char *end) {
    for (unsigned number = 1;; number++) {
        char more[16] = "";
        char *path;
        struct file file;

        if (number > 1)
            snprintf(more, sizeof(more), "-%u", number);
        path = im_printf("%s/%s%s%s", folder, name, more, end);
        if (number == 100 || !tree_find_link(planning->tree, path, &file))
            return path;
        free(path);
    }
}
