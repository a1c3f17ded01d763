/* SPDX-License-Identifier: Apache-2.0 */
/* The contract to the network vxnet-0: addresses for machines, and the way to reach them.
 *
 * `bridge`: a Linux bridge of our own with dnsmasq (DHCP with fixed leases, names) and nftables
 * NAT, all made by us and the same under every libvirt URI. `user`: QEMU's user-mode network, where
 * the host lets us make no bridge: every machine has the address 10.0.2.15 and is reached through a
 * port on 127.0.0.1. `auto` takes the first that works; it does not leave a bridge that machines
 * are on.
 *
 * Everything is repeatable and survives a restart: what exists already is taken over, not torn
 * down. Addresses are given out by cloud/ (they are rows in the record); net/ makes them true.
 * Threads: all functions may run at once. Codes: IM_BAD_MESSAGE (a configuration that cannot be),
 * IM_UNSUPPORTED (with what is missing), IM_INTERNAL. */
#ifndef NET_NET_H
#define NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

struct net;

struct net_config {
    const char *mode;       /* "auto", "bridge", "user" */
    const char *bridge;     /* name, default "imbr0", at most 15 characters */
    const char *subnet;     /* "10.180.0.0/20"; the host takes the first address */
    const char *domain;     /* of the names dnsmasq knows, default "imprint.internal" */
    bool nat;               /* masquerade what leaves the subnet; the world gets only answers in */
    const char *host_ports; /* TCP ports of the host at the gateway's address that machines may
                               reach besides DHCP and DNS, "7200, 80"; "" or NULL = none */
    const char *state_dir;  /* absolute; whose network it is. The files of a bridge are not in it
                               but in a folder of /run/imprint, which dnsmasq's user can reach */
};

enum net_kind { NET_BRIDGE, NET_USER };

/* Whether the words of the configuration can be meant: names, subnet, ports. Makes nothing. */
bool net_check(const struct net_config *config, struct im_err *err) IM_MUST_CHECK;
struct net *net_open(const struct net_config *config, struct im_err *err) IM_MUST_CHECK;
/* Leaves bridge, dnsmasq and rules as they are: machines go on running. */
void net_close(struct net *net);
/* Takes everything down that net_open made with this configuration, whether in this process or an
 * earlier one; only ip_forward of the host stays on. Fails with IM_WRONG_STATE while it
 * is open or machines are on the bridge. */
bool net_remove(const struct net_config *config, struct im_err *err) IM_MUST_CHECK;

enum net_kind net_kind(const struct net *net);
/* One sentence on why `auto` fell back to user mode; "" if it did not. */
const char *net_reason(const struct net *net);
const char *net_bridge_name(const struct net *net);
/* "10.180.0.0/20"; QEMU's own 10.0.2.0/24 in user mode. */
const char *net_subnet(const struct net *net);
/* First and last address that may be given to machines, and the gateway, host byte order.
 * user: 10.0.2.15 for all. */
void net_range(const struct net *net, uint32_t *ret_first, uint32_t *ret_last,
               uint32_t *ret_gateway);

/* Name of the host's end of a machine's cable: the rules know it by that. */
#define NET_TAP_TEXT 16
void net_tap_name(const char *mac, char ret_tap[NET_TAP_TEXT]);
/* From now on the machine with this MAC gets this address by DHCP, is known by this name and may
 * send from this address only. Takes effect at once; again with another address or name is fine. A
 * hostname that is no single label of DNS is left out. */
bool net_plug(struct net *net, const char *mac, const char *ip, const char *hostname,
              struct im_err *err) IM_MUST_CHECK;
/* Fine if it is not known. */
bool net_unplug(struct net *net, const char *mac, struct im_err *err) IM_MUST_CHECK;
/* Puts back what went missing: the bridge with its address and its machines, the rules, dnsmasq.
 * Called once a minute. */
bool net_heal(struct net *net, struct im_err *err) IM_MUST_CHECK;

/* How many there are for that, and: a TCP port on 127.0.0.1 that nobody listens on now; never one
 * of `taken`. For user mode. */
enum { NET_PORTS = 10000 };
bool net_free_port(const int64_t *taken, size_t count, int *ret_port,
                   struct im_err *err) IM_MUST_CHECK;

#endif
