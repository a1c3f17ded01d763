/* SPDX-License-Identifier: Apache-2.0 */
/* /etc/network/interfaces, as ifupdown of Debian and of Alpine read it. */
#include <ctype.h>
#include <stdio.h>

#include "network.h"

enum { SOURCES_MAX = 32, DEPTH_MAX = 4, AUTOS_MAX = 64 };

struct stanzas {
    struct net *net;
    struct net_card *card;       /* of the stanza at hand; NULL = it is of no matter */
    struct im_strings autos;     /* names and patterns that are brought up */
    struct im_strings autos_for; /* for each, the stanza that it means */
    unsigned sources, line;
    size_t first; /* the first of our cards */
    const char *file;
    const char *text;
};

static void read_file(struct stanzas *stanzas, const char *path, unsigned depth);

/* --- Other files ------------------------------------------------------------------------------ */

static bool plain_name(const char *name) {
    for (; *name != '\0'; name++)
        if (!isalnum((unsigned char) *name) && *name != '-' && *name != '_')
            return false;
    return true;
}

/* "interfaces.d/" and its like begin at the file's own folder. */
static void source(struct stanzas *stanzas, const char *what, bool folder, unsigned depth) {
    IM_AUTO(free_auto)
    char *path =
        im_printf("%s%s%s", what[0] == '/' ? "" : "/etc/network/", what, folder ? "/*" : "");
    IM_AUTO(im_strings_done) struct im_strings names = {0};
    char *slash = strrchr(path, '/');

    *slash = '\0';
    if (strpbrk(path, "*?[") != NULL) {
        stanzas->net->unclear = true;
        return;
    }
    net_names(stanzas->net, path[0] != '\0' ? path : "/", "", "", &names);
    for (size_t i = 0; i < names.count; i++) {
        IM_AUTO(free_auto) char *file = im_printf("%s/%s", path, names.items[i]);

        if (folder ? plain_name(names.items[i]) : net_pattern_fits(slash + 1, names.items[i]))
            read_file(stanzas, file, depth + 1);
    }
}

/* --- Stanzas ---------------------------------------------------------------------------------- */

/* "eth0", "/en*", "/en*=lan": which cards, and by which stanza. */
static void bring_up(struct stanzas *stanzas, char *words, bool at_start) {
    char *save = NULL;

    for (char *word = strtok_r(words, " \t", &save);
         word != NULL && stanzas->autos.count < AUTOS_MAX; word = strtok_r(NULL, " \t", &save)) {
        char *equals = strchr(word, '=');

        if (equals != NULL)
            *equals = '\0';
        if (word[0] == '/' && (!at_start || strchr(word + 1, '/') != NULL))
            stanzas->net->unclear = true; /* by MAC address, by number, or as udev names them */
        im_strings_add(&stanzas->autos, word[0] == '/' ? word + 1 : word);
        im_strings_add(&stanzas->autos_for, equals != NULL ? equals + 1 : "");
    }
}

/* "iface NAME inet dhcp"; Alpine's also has them without family and method. */
static void begin_iface(struct stanzas *stanzas, const char *words) {
    char name[64] = "", family[16] = "", method[32] = "";

    stanzas->card = NULL;
    (void) sscanf(words, "%63s %15s %31s", name, family, method);
    if (net_is_made_up(name) || strcmp(method, "loopback") == 0 || strcmp(family, "inet6") == 0 ||
        strchr(name, ':') != NULL || strchr(name, '.') != NULL)
        return;
    stanzas->card = net_add(stanzas->net, NET_IFUPDOWN, stanzas->file);
    if (stanzas->card == NULL)
        return;
    stanzas->card->line = stanzas->line;
    text_take(stanzas->card->id, sizeof(stanzas->card->id), name, strlen(name));
    text_take(stanzas->card->name, sizeof(stanzas->card->name), name, strlen(name));
    stanzas->card->dhcp = strcmp(method, "dhcp") == 0;
    stanzas->card->written = net_is_written(stanzas->file, stanzas->text);
}

static void take_option(struct net_card *card, const char *word, const char *value) {
    if (strcmp(word, "address") == 0) {
        net_take_address(card, value);
    } else if (strcmp(word, "hwaddress") == 0) {
        value += im_starts_with(value, "ether") ? 5 : 0;
        net_take_mac(card->sets, value);
    } else if (strcmp(word, "use") == 0 && im_starts_with(value, "dhcp")) {
        card->dhcp = true;
    }
}

static void take_line(struct stanzas *stanzas, char *line, unsigned depth) {
    char *value;

    line += strspn(line, " \t");
    value = line + strcspn(line, " \t");
    if (*value != '\0')
        *value++ = '\0';
    value += strspn(value, " \t");
    if (line[0] == '#' || line[0] == '\0')
        return;
    if (strcmp(line, "auto") == 0 || im_starts_with(line, "allow-"))
        bring_up(stanzas, value, line[0] == 'a' && line[1] == 'u');
    else if (strcmp(line, "iface") == 0)
        begin_iface(stanzas, value);
    else if (strcmp(line, "source") == 0)
        source(stanzas, value, false, depth);
    else if (strcmp(line, "source-directory") == 0)
        source(stanzas, value, true, depth);
    else if (strcmp(line, "mapping") == 0)
        stanzas->net->unclear = true;
    else if (stanzas->card != NULL)
        take_option(stanzas->card, line, value);
}

/* Lines that end with a backslash go on. */
static void join_lines(char *text) {
    for (char *at = text; (at = strstr(at, "\\\n")) != NULL;) {
        at[0] = ' ';
        at[1] = ' ';
    }
}

static unsigned line_at(const char *text, size_t offset) {
    unsigned line = 1;

    for (size_t i = 0; i < offset; i++)
        line += text[i] == '\n';
    return line;
}

static void read_file(struct stanzas *stanzas, const char *path, unsigned depth) {
    IM_AUTO(free_auto) char *text = NULL;
    IM_AUTO(free_auto) char *whole = NULL;
    const char *file = stanzas->file, *before = stanzas->text;
    char *at, *line;

    if (depth > DEPTH_MAX || stanzas->sources++ == SOURCES_MAX) {
        stanzas->net->unclear = true;
        return;
    }
    text = net_text(stanzas->net, path);
    if (text == NULL)
        return;
    whole = im_strdup(text);
    join_lines(text);
    stanzas->file = path;
    stanzas->text = whole;
    stanzas->card = NULL;
    for (at = text; (line = text_line(&at)) != NULL;) {
        stanzas->line = line_at(whole, (size_t) (line - text));
        take_line(stanzas, line, depth);
    }
    stanzas->file = file;
    stanzas->text = before;
    stanzas->card = NULL;
}

/* --- Which of them are brought up ------------------------------------------------------------- */

static bool brought_up(const struct stanzas *stanzas, struct net_card *card) {
    char own[sizeof(card->name)];

    memcpy(own, card->name, sizeof(own));
    for (size_t i = 0; i < stanzas->autos.count; i++) {
        const char *name = stanzas->autos.items[i], *stanza = stanzas->autos_for.items[i];

        if (stanza[0] == '\0' && net_pattern_fits(name, own))
            return true;
        if (strcmp(stanza, own) != 0)
            continue;
        text_take(card->name, sizeof(card->name), name, strlen(name));
        return true;
    }
    return false;
}

void net_ifupdown(struct net *net) {
    struct stanzas stanzas = {.net = net, .first = net->count};
    size_t kept;

    if (!tree_has(net->tree, "/sbin/ifup") && !tree_has(net->tree, "/usr/sbin/ifup"))
        return;
    if (!tree_has(net->tree, "/etc/network/interfaces"))
        return;
    net->known = net->has[NET_IFUPDOWN] = true;
    read_file(&stanzas, "/etc/network/interfaces", 0);
    kept = stanzas.first;
    for (size_t i = stanzas.first; i < net->count; i++)
        if (brought_up(&stanzas, &net->cards[i]))
            net->cards[kept++] = net->cards[i];
    net->count = kept;
    im_strings_done(&stanzas.autos);
    im_strings_done(&stanzas.autos_for);
}
