/* SPDX-License-Identifier: Apache-2.0 */
/* The packet filter through libnftables. Two tables of ours carry the bridge's name, so that
 * several imprintd on one host do not meet: `bridge` keeps each machine to its own addresses,
 * `inet` says what leaves, what comes in and what the host offers.
 *
 * In nftables a packet must pass every chain of a hook, so an accept of ours cannot undo a drop in
 * the host's own filter (docker, ufw, firewalld, /etc/nftables.conf). Where such a chain drops by
 * default we put an accept for our bridge at its head, marked with a comment; what the host drops
 * in other ways stays dropped. */
#include "net-private.h"

#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

IM_DEFINE_AUTO(struct nft_ctx *, nft_ctx_free)

#define TABLE "imprint_"

/* What nft complains about is told after "Error: ", on the first line. */
static bool nft_fail(const char *complaint, struct im_err *err) {
    const char *from = complaint ? strstr(complaint, "Error: ") : NULL;
    size_t len;

    from = from ? from + strlen("Error: ") : complaint ? complaint : "";
    len = strcspn(from, "\n");
    return im_fail(err, IM_INTERNAL, "nftables: %.*s", (int) (len > 300 ? 300 : len), from);
}

/* All of it or nothing: nft sends its commands as one transaction. */
static bool nft(const char *commands, unsigned flags, char **ret_output, struct im_err *err) {
    IM_AUTO(nft_ctx_free_auto) struct nft_ctx *ctx = nft_ctx_new(NFT_CTX_DEFAULT);

    if (ctx == NULL)
        return im_fail(err, IM_INTERNAL, "nftables: no memory");
    nft_ctx_output_set_flags(ctx, flags);
    if (nft_ctx_buffer_output(ctx) != 0 || nft_ctx_buffer_error(ctx) != 0)
        return im_fail(err, IM_INTERNAL, "nftables: no memory");
    if (nft_run_cmd_from_buffer(ctx, commands) != 0)
        return nft_fail(nft_ctx_get_error_buffer(ctx), err);
    if (ret_output != NULL)
        *ret_output = im_strdup(nft_ctx_get_output_buffer(ctx));
    return true;
}

/* --- Our tables ----------------------------------------------------------------------------- */

/* Frames of machines: the sender must be who it was plugged in as, in the frame, in ARP and in IP;
 * nothing but IPv4 and ARP (so no forged router of IPv6 either); no DHCP server. Ports that others
 * put on the bridge are theirs to watch. Only known ports are looked at, as the kernel may lack the
 * test for "port of this bridge". */
static void add_bridge_table(struct im_str *out, const struct rules *rules) {
    im_str_addf(out, "table bridge " TABLE "%s {\n", rules->bridge);
    im_str_add(out, "set ports { type ifname; }\n"
                    "set macs { type ifname . ether_addr; }\n"
                    "set addresses { type ifname . ether_addr . ipv4_addr; }\n"
                    "chain prerouting {\n"
                    "type filter hook prerouting priority -300; policy accept;\n"
                    "iifname != @ports accept\n"
                    "iifname . ether saddr != @macs drop\n"
                    "ether type arp jump arps\n"
                    "ether type != ip drop\n"
                    "udp sport 67 drop\n"
                    "ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n"
                    "iifname . ether saddr . ip saddr @addresses accept\n"
                    "drop\n"
                    "}\n"
                    "chain arps {\n"
                    "arp htype 1 arp ptype ip arp hlen 6 arp plen 4"
                    " iifname . arp saddr ether . arp saddr ip @addresses accept\n"
                    "arp htype 1 arp ptype ip arp hlen 6 arp plen 4 arp saddr ip 0.0.0.0"
                    " iifname . arp saddr ether @macs accept\n"
                    "drop\n"
                    "}\n"
                    "}\n");
}

static void add_input(struct im_str *out, const struct rules *rules) {
    char gateway[ADDRESS_TEXT];

    address_text(subnet_gateway(rules->subnet), gateway);
    im_str_addf(out,
                "chain input {\n"
                "type filter hook input priority -10; policy accept;\n"
                "iifname != \"%s\" accept\n"
                "ct state established,related accept\n"
                "meta nfproto ipv4 udp dport 67 accept\n"
                "ip daddr %s meta l4proto { tcp, udp } th dport 53 accept\n"
                "ip daddr %s icmp type echo-request accept\n",
                rules->bridge, gateway, gateway);
    if (!im_str_empty(rules->host_ports))
        im_str_addf(out, "ip daddr %s tcp dport { %s } accept\n", gateway, rules->host_ports);
    im_str_add(out, "drop\n}\n");
}

/* With NAT the world gets answers in, as behind any router; without, the subnet is routed both
 * ways. */
static void add_forward(struct im_str *out, const struct rules *rules) {
    im_str_add(out, "chain forward {\ntype filter hook forward priority -10; policy accept;\n");
    im_str_addf(out, "iifname \"%s\" ip saddr != %s drop\n", rules->bridge, rules->subnet->text);
    if (rules->nat)
        im_str_addf(out,
                    "iifname != \"%s\" oifname \"%s\" ct state != { established, related } drop\n",
                    rules->bridge, rules->bridge);
    im_str_add(out, "}\n");
    if (rules->nat)
        im_str_addf(out,
                    "chain postrouting {\n"
                    "type nat hook postrouting priority 100; policy accept;\n"
                    "ip saddr %s ip daddr != %s oifname != \"%s\" masquerade\n}\n",
                    rules->subnet->text, rules->subnet->text, rules->bridge);
}

static void add_elements(struct im_str *out, const char *verb, const struct rules *rules,
                         const struct machine *machine) {
    char tap[16];

    tap_name(machine->mac, tap);
    im_str_addf(out, "%s element bridge " TABLE "%s addresses { %s . %s . %s }\n", verb,
                rules->bridge, tap, machine->mac, machine->ip);
    im_str_addf(out, "%s element bridge " TABLE "%s macs { %s . %s }\n", verb, rules->bridge, tap,
                machine->mac);
    im_str_addf(out, "%s element bridge " TABLE "%s ports { %s }\n", verb, rules->bridge, tap);
}

/* Adding first makes the deletion work where there is none: "delete if there" came later. */
static void add_removal(struct im_str *out, const char *bridge) {
    static const char *const families[] = {"bridge", "inet"};

    for (size_t i = 0; i < 2; i++)
        im_str_addf(out,
                    "add table %s " TABLE "%s\n"
                    "delete table %s " TABLE "%s\n",
                    families[i], bridge, families[i], bridge);
}

/* Without what is in the sets. One by one: of two tables in one go nft 1.0.6 finds only one. */
static bool list_ours(const struct rules *rules, char **ret_text, struct im_err *err) {
    static const char *const families[] = {"bridge", "inet"};
    IM_AUTO(im_str_done) struct im_str out = {0};

    for (size_t i = 0; i < 2; i++) {
        IM_AUTO(free_auto)
        char *command = im_printf("list table %s " TABLE "%s\n", families[i], rules->bridge);
        IM_AUTO(free_auto) char *text = NULL;

        if (!nft(command, NFT_CTX_OUTPUT_TERSE | NFT_CTX_OUTPUT_STATELESS, &text, err))
            return false;
        im_str_add(&out, text);
    }
    *ret_text = im_str_take(&out);
    return true;
}

static bool make_ours(struct rules *rules, const struct machine *machines, size_t count,
                      struct im_err *err) {
    IM_AUTO(im_str_done) struct im_str out = {0};

    add_removal(&out, rules->bridge);
    add_bridge_table(&out, rules);
    im_str_addf(&out, "table inet " TABLE "%s {\n", rules->bridge);
    add_input(&out, rules);
    add_forward(&out, rules);
    im_str_add(&out, "}\n");
    for (size_t i = 0; i < count; i++)
        add_elements(&out, "add", rules, &machines[i]);
    free(im_steal(&rules->applied));
    return nft(out.data, 0, NULL, err) && list_ours(rules, &rules->applied, err);
}

/* --- The host's own filter ------------------------------------------------------------------ */

struct chain {
    char family[8], table[64], name[64], hook[16];
};

/* Where our bridge stands in an accept of each hook. */
static const struct {
    const char *hook, *match;
} doors[] = {
    {"input", "iifname"}, {"forward", "iifname"}, {"forward", "oifname"}, {"output", "oifname"}};
#define DOORS (sizeof(doors) / sizeof(doors[0]))

/* The chains of others that see IPv4 packets at one of these hooks. */
static bool host_chains(struct chain **ret_chains, size_t *ret_count, struct im_err *err) {
    IM_AUTO(free_auto) char *text = NULL;
    IM_AUTO(im_strings_done) struct im_strings lines = {0};
    struct chain chain = {0}, *chains = NULL;
    size_t count = 0, capacity = 0;

    if (!nft("list chains\n", 0, &text, err))
        return false;
    im_strings_split(&lines, text, "\n");
    for (size_t i = 0; i < lines.count; i++) {
        const char *line = lines.items[i];

        (void) sscanf(line, "table %7s %63s {", chain.family, chain.table);
        (void) sscanf(line, " chain %63s {", chain.name);
        if (sscanf(line, " type filter hook %15s", chain.hook) != 1 ||
            im_starts_with(chain.table, TABLE) ||
            (strcmp(chain.family, "ip") != 0 && strcmp(chain.family, "inet") != 0))
            continue;
        for (size_t door = 0; door < DOORS; door++)
            if (strcmp(doors[door].hook, chain.hook) == 0) {
                im_grow(&chains, count, &capacity);
                chains[count++] = chain;
                break;
            }
    }
    *ret_chains = chains;
    *ret_count = count;
    return true;
}

/* It drops what no rule of it accepts: by its policy, or by a last rule without a condition. */
static bool drops(const char *chain_text) {
    IM_AUTO(im_strings_done) struct im_strings lines = {0};

    if (strstr(chain_text, "policy drop;") != NULL)
        return true;
    im_strings_split(&lines, chain_text, "\n");
    for (size_t i = 0; i < lines.count; i++) {
        const char *line = lines.items[i] + strspn(lines.items[i], " \t");
        unsigned long long packets, bytes;
        int used = 0;

        if (sscanf(line, "counter packets %llu bytes %llu %n", &packets, &bytes, &used) == 2)
            line += used;
        if (im_starts_with(line, "drop") || im_starts_with(line, "reject"))
            return true;
    }
    return false;
}

static bool list_chain(const struct chain *chain, char **ret_text, struct im_err *err) {
    IM_AUTO(free_auto)
    char *commands = im_printf("list chain %s %s %s\n", chain->family, chain->table, chain->name);

    return nft(commands, NFT_CTX_OUTPUT_HANDLE, ret_text, err);
}

static bool open_chain(const struct rules *rules, const struct chain *chain, struct im_err *err) {
    IM_AUTO(free_auto) char *text = NULL;
    IM_AUTO(free_auto) char *mark = im_printf("comment \"imprint %s\"", rules->bridge);
    IM_AUTO(im_str_done) struct im_str out = {0};

    if (!list_chain(chain, &text, err))
        return false;
    if (!drops(text) || strstr(text, mark) != NULL)
        return true;
    for (size_t i = 0; i < DOORS; i++)
        if (strcmp(doors[i].hook, chain->hook) == 0)
            im_str_addf(&out, "insert rule %s %s %s %s \"%s\" counter accept %s\n", chain->family,
                        chain->table, chain->name, doors[i].match, rules->bridge, mark);
    return nft(out.data, 0, NULL, err);
}

static bool open_host(const struct rules *rules, struct im_err *err) {
    IM_AUTO(free_auto) struct chain *chains = NULL;
    size_t count = 0;

    if (!host_chains(&chains, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!open_chain(rules, &chains[i], err))
            return im_within(err, "chain %s %s %s of this host", chains[i].family, chains[i].table,
                             chains[i].name);
    return true;
}

/* Takes our accepts out of one chain again. */
static bool close_chain(const char *bridge, const struct chain *chain, struct im_err *err) {
    IM_AUTO(free_auto) char *text = NULL;
    IM_AUTO(free_auto) char *mark = im_printf("comment \"imprint %s\" # handle ", bridge);
    IM_AUTO(im_str_done) struct im_str out = {0};

    if (!list_chain(chain, &text, err))
        return false;
    for (const char *at = strstr(text, mark); at != NULL; at = strstr(at + 1, mark))
        im_str_addf(&out, "delete rule %s %s %s handle %lu\n", chain->family, chain->table,
                    chain->name, strtoul(at + strlen(mark), NULL, 10));
    return out.len == 0 || nft(out.data, 0, NULL, err);
}

/* --- For the rest of the room --------------------------------------------------------------- */

bool rules_apply(struct rules *rules, const struct machine *machines, size_t count,
                 struct im_err *err) {
    return make_ours(rules, machines, count, err) && open_host(rules, err);
}

/* What is missing in the sets comes back by adding it, which does nothing where it is there. */
static bool readd(const struct rules *rules, const struct machine *machines, size_t count,
                  struct im_err *err) {
    IM_AUTO(im_str_done) struct im_str out = {0};

    for (size_t i = 0; i < count; i++)
        add_elements(&out, "add", rules, &machines[i]);
    return out.len == 0 || nft(out.data, 0, NULL, err);
}

bool rules_heal(struct rules *rules, const struct machine *machines, size_t count,
                struct im_err *err) {
    IM_AUTO(free_auto) char *now = NULL;
    struct im_err gone = {0};
    bool same = list_ours(rules, &now, &gone) && im_str_equal(now, rules->applied);

    return (same ? readd(rules, machines, count, err) : make_ours(rules, machines, count, err)) &&
           open_host(rules, err);
}

bool rules_plug(struct rules *rules, const struct machine *machine, struct im_err *err) {
    return readd(rules, machine, 1, err);
}

bool rules_unplug(struct rules *rules, const struct machine *machine, struct im_err *err) {
    IM_AUTO(im_str_done) struct im_str out = {0};

    add_elements(&out, "add", rules, machine);
    add_elements(&out, "delete", rules, machine);
    return nft(out.data, 0, NULL, err);
}

bool rules_remove(const char *bridge, struct im_err *err) {
    IM_AUTO(im_str_done) struct im_str out = {0};
    IM_AUTO(free_auto) struct chain *chains = NULL;
    size_t count = 0;

    add_removal(&out, bridge);
    if (!nft(out.data, 0, NULL, err) || !host_chains(&chains, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!close_chain(bridge, &chains[i], err))
            return false;
    return true;
}

void rules_done(struct rules *rules) { free(im_steal(&rules->applied)); }
