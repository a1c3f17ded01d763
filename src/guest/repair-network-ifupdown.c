/* SPDX-License-Identifier: Apache-2.0 */
/* /etc/network/interfaces. Debian's ifupdown brings up whatever fits a pattern when the machine
 * starts ("auto /en*=NAME"), but not when udev tells of a card ("allow-hotplug"): so the start has
 * to wait until udev is through. Others know names only. */
#include <stdio.h>

#include "repair-network.h"

#define INTERFACES "/etc/network/interfaces"
#define WAITING "/etc/systemd/system/networking.service.d/wait-for-cards.conf"

/* --- Stanzas ---------------------------------------------------------------------------------- */

struct words {
    char first[32], rest[256];
    size_t indent;
};

static struct words words_of(const char *line) {
    struct words words = {.indent = strspn(line, " \t")};
    size_t len = strcspn(line + words.indent, " \t");
    const char *rest = line + words.indent + len;

    snprintf(words.first, sizeof(words.first), "%.*s", (int) len, line + words.indent);
    snprintf(words.rest, sizeof(words.rest), "%s", rest + strspn(rest, " \t"));
    return words;
}

static bool begins_stanza(const char *word) {
    static const char *const begins[] = {
        "iface",        "auto",       "mapping",  "source",           "rename",
        "no-auto-down", "no-scripts", "template", "source-directory", NULL};

    return is_one_of(word, begins) || im_starts_with(word, "allow-");
}

struct stanza {
    const struct net *net;
    const struct net_card *card;
    const char *path; /* of the file at hand, which may be another than the card's */
    bool told;
};

/* What becomes of a line: of the card's stanza (`within`), or of another. */
typedef enum line_fate stanza_rule(struct stanza *stanza, bool within, const struct words *words,
                                   struct im_str *after);

/* A line that ends with a backslash goes on, and both have one fate. */
static bool stanza_rewrite(struct planning *planning, struct stanza *stanza, stanza_rule *rule) {
    IM_AUTO(free_auto) char *copy = im_strdup(draft_text(planning, stanza->path));
    bool own = strcmp(stanza->path, stanza->card->file) == 0;
    enum line_fate fate = LINE_KEEP;
    bool within = false, goes_on = false;
    struct im_str out = {0};
    unsigned number = 0;
    char *at = copy, *line;

    if (copy == NULL)
        return false;
    while ((line = text_line(&at)) != NULL) {
        struct words words = words_of(line);
        struct im_str after = {0};

        number++;
        if (!goes_on) {
            within =
                (own && number == stanza->card->line) || (within && !begins_stanza(words.first));
            fate = rule(stanza, within, &words, &after);
        }
        goes_on = im_ends_with(line, "\\");
        if (fate != LINE_OUT)
            im_str_addf(&out, "%s%s\n", fate == LINE_REMARK ? "#" : "", line);
        if (after.data != NULL)
            im_str_add(&out, after.data);
        im_str_done(&after);
    }
    return net_write(planning, stanza->path, im_str_take(&out));
}

static enum line_fate unpin_option(struct stanza *stanza, bool within, const struct words *words,
                                   struct im_str *after) {
    (void) stanza;
    (void) after;
    return within && strcmp(words->first, "hwaddress") == 0 ? LINE_OUT : LINE_KEEP;
}

static bool ifupdown_unpin(struct planning *planning, const struct net *net,
                           const struct net_card *card) {
    struct stanza stanza = {net, card, card->file, false};

    return stanza_rewrite(planning, &stanza, unpin_option);
}

/* Alpine's may do without family and method. */
static enum line_fate ask_option(struct stanza *stanza, bool within, const struct words *words,
                                 struct im_str *after) {
    static const char *const fixed[] = {"address", "netmask",     "broadcast", "network",
                                        "gateway", "pointopoint", "scope",     NULL};
    char name[64] = "", family[16] = "";

    (void) stanza;
    if (!within)
        return LINE_KEEP;
    if (strcmp(words->first, "iface") != 0)
        return is_one_of(words->first, fixed) || im_starts_with(words->first, "dns-") ? LINE_REMARK
                                                                                      : LINE_KEEP;
    if (sscanf(words->rest, "%63s %15s", name, family) == 2)
        im_str_addf(after, "iface %s inet dhcp\n", name);
    else
        im_str_addf(after, "iface %s\n\tuse dhcp\n", name);
    return LINE_REMARK;
}

static bool ifupdown_ask(struct planning *planning, const struct net *net,
                         const struct net_card *card) {
    struct stanza stanza = {net, card, card->file, false};

    return stanza_rewrite(planning, &stanza, ask_option);
}

/* --- Any card --------------------------------------------------------------------------------- */

/* Debian's own, since 9. */
static bool knows_patterns(const struct planning *planning) {
    static const char *const helpers[] = {"/lib/udev/ifupdown-hotplug",
                                          "/usr/lib/udev/ifupdown-hotplug"};

    return tree_has(planning->tree, helpers[0]) || tree_has(planning->tree, helpers[1]);
}

/* A pattern means what is there when the machine starts. */
static void wait_for_cards(struct planning *planning) {
    if (strcmp(planning->look->found->os.init, "systemd") != 0)
        return;
    draft_set(planning, WAITING,
              im_strdup("# Patterns in " INTERFACES " mean the cards that there are by then.\n"
                        "[Unit]\nWants=systemd-udev-settle.service\n"
                        "After=systemd-udev-settle.service\n"),
              0644);
}

static bool brings_up(const char *word) {
    return strcmp(word, "auto") == 0 || im_starts_with(word, "allow-");
}

/* "ens3" of the stanza ens3, and "/wl*=ens3". */
static bool means(const char *word, const char *id) {
    const char *equals = strchr(word, '=');

    return strcmp(equals != NULL ? equals + 1 : word, id) == 0;
}

/* Words of such a line that mean other stanzas stay. */
static bool others_of(const struct words *words, const char *id, struct im_str *others) {
    struct im_strings list = {0};
    bool any = false;

    im_strings_split(&list, words->rest, " \t");
    for (size_t i = 0; i < list.count; i++)
        if (means(list.items[i], id))
            any = true;
        else
            im_str_addf(others, " %s", list.items[i]);
    im_strings_done(&list);
    return any;
}

/* The stanza keeps its name, which is not a card's then. */
static enum line_fate pattern_line(struct stanza *stanza, bool within, const struct words *words,
                                   struct im_str *after) {
    const char *id = stanza->card->id;
    struct im_str others = {0};
    bool mine = brings_up(words->first) && others_of(words, id, &others);

    (void) within;
    if (mine && others.len > 0)
        im_str_addf(after, "%s%s\n", words->first, others.data);
    if (mine && !stanza->told) {
        im_str_addf(after, "auto /en*=%s /eth*=%s\n", id, id);
        stanza->told = true;
    }
    im_str_done(&others);
    return mine ? LINE_OUT : LINE_KEEP;
}

/* Its only card is known by name. */
static enum line_fate name_line(struct stanza *stanza, bool within, const struct words *words,
                                struct im_str *after) {
    const char *id = stanza->card->id, *name = stanza->net->ours[0];
    struct im_str others = {0};
    size_t len = strlen(id);
    bool mine = brings_up(words->first) && others_of(words, id, &others);

    (void) within;
    if (mine)
        im_str_addf(after, "%s%s %s\n", words->first, others.len > 0 ? others.data : "", name);
    im_str_done(&others);
    if (strcmp(words->first, "iface") == 0 && strncmp(words->rest, id, len) == 0 &&
        strchr(" \t", words->rest[len]) != NULL) {
        im_str_addf(after, "iface %s%s\n", name, words->rest + len);
        mine = true;
    }
    return mine ? LINE_OUT : LINE_KEEP;
}

static void add_lines(struct planning *planning, const char *lines) {
    IM_AUTO(free_auto) char *text = im_strdup(draft_text(planning, INTERFACES));
    bool ends = text[0] == '\0' || im_ends_with(text, "\n");

    (void) net_write(planning, INTERFACES, im_printf("%s%s\n%s", text, ends ? "" : "\n", lines));
}

/* What a card may be called here, from the given one on. */
static void add_names(struct planning *planning, const struct net *net, size_t from) {
    bool systemd = strcmp(planning->look->found->os.init, "systemd") == 0;
    struct im_str out = {0};

    for (size_t i = from; net->ours[i] != NULL; i++) {
        IM_AUTO(free_auto) char *stanza = im_printf("iface %s inet dhcp\n", net->ours[i]);

        im_str_addf(&out, "%s %s\n%s", systemd ? "allow-hotplug" : "auto", net->ours[i],
                    strstr(draft_text(planning, INTERFACES), stanza) == NULL ? stanza : "");
    }
    if (out.len > 0)
        add_lines(planning, out.data);
    im_str_done(&out);
}

/* The stanza may be brought up by a line of another file than its own. */
static bool ifupdown_widen(struct planning *planning, const struct net *net,
                           const struct net_card *card) {
    bool patterns = knows_patterns(planning);
    stanza_rule *rule = patterns ? pattern_line : name_line;
    struct stanza stanza = {net, card, card->file, false};
    bool changed = stanza_rewrite(planning, &stanza, rule);

    stanza.path = INTERFACES;
    if (strcmp(card->file, INTERFACES) != 0)
        changed |= stanza_rewrite(planning, &stanza, rule);
    if (changed && patterns)
        wait_for_cards(planning);
    else if (changed)
        add_names(planning, net, 1);
    return changed;
}

static char *ifupdown_create(struct planning *planning, const struct net *net) {
    if (draft_text(planning, INTERFACES) == NULL)
        return NULL;
    if (knows_patterns(planning)) {
        add_lines(planning, "auto /en*=any-card /eth*=any-card\niface any-card inet dhcp\n");
        wait_for_cards(planning);
    } else {
        add_names(planning, net, 0);
    }
    return im_strdup(INTERFACES);
}

const struct net_ways ifupdown_ways = {ifupdown_unpin, ifupdown_ask, ifupdown_widen,
                                       ifupdown_create};
