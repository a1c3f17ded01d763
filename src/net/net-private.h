/* SPDX-License-Identifier: Apache-2.0 */
/* Inside net/: the two kinds of network behind one table, and the parts of the bridge. Foreign
 * types stay in one file each: rtnetlink in link.c, libnftables in rules.c. */
#ifndef NET_PRIVATE_H
#define NET_PRIVATE_H

#include "net/net.h"

#include <sys/types.h>

/* --- Addresses and names (subnet.c) --------------------------------------------------------- */

struct subnet {
    uint32_t network, mask; /* host byte order */
    unsigned prefix;
    char text[24]; /* "10.180.0.0/20" */
};
#define ADDRESS_TEXT 16
#define MAC_TEXT 18

bool subnet_parse(const char *text, struct subnet *ret_subnet, struct im_err *err) IM_MUST_CHECK;
uint32_t subnet_gateway(const struct subnet *subnet);
uint32_t subnet_last(const struct subnet *subnet);
/* Belongs to machines: neither the network's own, nor the gateway, nor the broadcast address. */
bool subnet_for_machines(const struct subnet *subnet, uint32_t address);
void address_text(uint32_t address, char out[ADDRESS_TEXT]);
bool address_parse(const char *text, uint32_t *ret_address);
/* Six pairs of hex digits, not a group address; lower case goes to ret_mac. */
bool mac_parse(const char *text, char ret_mac[MAC_TEXT]);
/* One label of a host's name: letters, digits, dashes inside, at most 63 characters. */
bool label_valid(const char *text);

/* --- Links over rtnetlink (link.c) ---------------------------------------------------------- */

struct link {
    int index; /* 0: there is no such link */
    int master;
    bool up;
    char name[16], kind[16], alias[256], mac[MAC_TEXT];
};
/* Success with index 0 when there is none. */
bool link_find(const char *name, struct link *ret_link, struct im_err *err) IM_MUST_CHECK;
/* A bridge that is up, with this MAC and alias. */
bool link_make_bridge(const char *name, const char *mac, const char *alias,
                      struct im_err *err) IM_MUST_CHECK;
bool link_set_alias(int index, const char *alias, struct im_err *err) IM_MUST_CHECK;
bool link_set_up(int index, struct im_err *err) IM_MUST_CHECK;
bool link_set_master(int index, int master, struct im_err *err) IM_MUST_CHECK;
bool link_remove(int index, struct im_err *err) IM_MUST_CHECK;
/* How many links have this one as master. */
bool link_ports(int index, size_t *ret_count, struct im_err *err) IM_MUST_CHECK;

struct link_address {
    int index;
    uint32_t address;
    unsigned prefix;
};
/* All IPv4 addresses of the host; the array is the caller's. */
bool link_addresses(struct link_address **ret_list, size_t *ret_count,
                    struct im_err *err) IM_MUST_CHECK;
/* Fine if it is there, or gone, already. */
bool link_add_address(const struct link_address *address, struct im_err *err) IM_MUST_CHECK;
bool link_drop_address(const struct link_address *address, struct im_err *err) IM_MUST_CHECK;

/* --- The packet filter (rules.c) ------------------------------------------------------------ */

struct machine {
    char mac[MAC_TEXT], ip[ADDRESS_TEXT], hostname[64]; /* the name may be empty */
};

struct rules {
    const char *bridge;
    const struct subnet *subnet;
    bool nat;
    const char *host_ports; /* "7200, 7201" in nft's own words; "" = none */
    char *applied;          /* how nft lists our tables after we made them */
};
/* Makes our tables anew in one step, with these machines in them. */
bool rules_apply(struct rules *rules, const struct machine *machines, size_t count,
                 struct im_err *err) IM_MUST_CHECK;
/* Puts back what others took away or changed. */
bool rules_heal(struct rules *rules, const struct machine *machines, size_t count,
                struct im_err *err) IM_MUST_CHECK;
bool rules_plug(struct rules *rules, const struct machine *machine,
                struct im_err *err) IM_MUST_CHECK;
bool rules_unplug(struct rules *rules, const struct machine *machine,
                  struct im_err *err) IM_MUST_CHECK;
bool rules_remove(const char *bridge, struct im_err *err) IM_MUST_CHECK;
void rules_done(struct rules *rules);

/* --- dnsmasq (dnsmasq.c) -------------------------------------------------------------------- */

struct dnsmasq {
    char *folder; /* state_dir/net */
    const char *bridge, *domain;
    const struct subnet *subnet;
};
/* Running, with this configuration: taken over, started, or started again as need be. */
bool dnsmasq_ensure(const struct dnsmasq *dnsmasq, struct im_err *err) IM_MUST_CHECK;
/* It reads the files of all machines again. */
void dnsmasq_reload(const char *folder);
bool dnsmasq_installed(void);
/* Ends it, whoever started it. Fine if there is none. */
bool dnsmasq_stop(const char *folder, struct im_err *err) IM_MUST_CHECK;
bool dnsmasq_plug(const struct dnsmasq *dnsmasq, const struct machine *machine,
                  struct im_err *err) IM_MUST_CHECK;
bool dnsmasq_unplug(const struct dnsmasq *dnsmasq, const struct machine *machine,
                    struct im_err *err) IM_MUST_CHECK;
/* The machines that were plugged, as its files say: they are our memory, too. */
bool dnsmasq_machines(const char *folder, struct machine **ret_list, size_t *ret_count,
                      struct im_err *err) IM_MUST_CHECK;
/* Its process, 0 if it does not run. */
pid_t dnsmasq_pid(const char *folder);

/* --- The two kinds -------------------------------------------------------------------------- */

struct bridge;
struct bridge *bridge_open(const struct net_config *config, struct im_err *err) IM_MUST_CHECK;
bool bridge_check(const struct net_config *config, struct im_err *err) IM_MUST_CHECK;
void bridge_close(struct bridge *bridge);
bool bridge_remove(const struct net_config *config, struct im_err *err) IM_MUST_CHECK;
const char *bridge_name(const struct bridge *bridge);
const struct subnet *bridge_subnet(const struct bridge *bridge);
bool bridge_plug(struct bridge *bridge, const char *mac, const char *ip, const char *hostname,
                 struct im_err *err) IM_MUST_CHECK;
bool bridge_unplug(struct bridge *bridge, const char *mac, struct im_err *err) IM_MUST_CHECK;
bool bridge_heal(struct bridge *bridge, struct im_err *err) IM_MUST_CHECK;
/* Machines are plugged into a bridge of that name: `auto` must not leave them. */
bool bridge_in_use(const struct net_config *config);

/* "imt" and the twelve digits of the MAC: the name of the machine's end on the host. */
void tap_name(const char *mac, char ret_tap[16]);

#endif
