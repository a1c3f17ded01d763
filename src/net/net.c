/* SPDX-License-Identifier: Apache-2.0 */
/* vxnet-0: chooses between the bridge and user mode, where QEMU itself is the network and there is
 * nothing to do. */
#include "net-private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { USER_GUEST = 0x0a00020f, USER_GATEWAY = 0x0a000202 };

struct net {
    struct bridge *bridge; /* NULL in user mode */
    char reason[sizeof(((struct im_err *) 0)->text) + 64];
};

bool net_check(const struct net_config *config, struct im_err *err) {
    return bridge_check(config, err);
}

struct net *net_open(const struct net_config *config, struct im_err *err) {
    struct net *net = im_alloc(sizeof(*net));

    if (strcmp(config->mode, "user") == 0)
        return net;
    net->bridge = bridge_open(config, err);
    /* Machines on the bridge would be out of reach, and their addresses lies. A mistake in the
     * configuration is one under `auto`, too. */
    if (net->bridge == NULL && (strcmp(config->mode, "auto") != 0 || bridge_in_use(config) ||
                                err->code == IM_BAD_MESSAGE)) {
        free(net);
        return NULL;
    }
    if (net->bridge == NULL) {
        snprintf(net->reason, sizeof(net->reason), "user mode, as there can be no bridge: %s",
                 err->text);
        *err = (struct im_err){0};
    }
    return net;
}

void net_close(struct net *net) {
    if (net->bridge != NULL)
        bridge_close(net->bridge);
    free(net);
}

bool net_remove(const struct net_config *config, struct im_err *err) {
    return bridge_remove(config, err); /* made, perhaps, when the mode was another */
}

enum net_kind net_kind(const struct net *net) {
    return net->bridge != NULL ? NET_BRIDGE : NET_USER;
}

const char *net_reason(const struct net *net) { return net->reason; }

const char *net_bridge_name(const struct net *net) {
    return net->bridge != NULL ? bridge_name(net->bridge) : "";
}

const char *net_subnet(const struct net *net) {
    return net->bridge != NULL ? bridge_subnet(net->bridge)->text : "10.0.2.0/24";
}

void net_range(const struct net *net, uint32_t *ret_first, uint32_t *ret_last,
               uint32_t *ret_gateway) {
    const struct subnet *subnet = net->bridge != NULL ? bridge_subnet(net->bridge) : NULL;

    *ret_first = subnet != NULL ? subnet_gateway(subnet) + 1 : USER_GUEST;
    *ret_last = subnet != NULL ? subnet_last(subnet) : USER_GUEST;
    *ret_gateway = subnet != NULL ? subnet_gateway(subnet) : USER_GATEWAY;
}

void net_tap_name(const char *mac, char ret_tap[NET_TAP_TEXT]) { tap_name(mac, ret_tap); }

/* In user mode QEMU's own DHCP knows its one guest: there is nothing to be told to anybody. */
bool net_plug(struct net *net, const char *mac, const char *ip, const char *hostname,
              struct im_err *err) {
    return net->bridge == NULL || bridge_plug(net->bridge, mac, ip, hostname, err);
}

bool net_unplug(struct net *net, const char *mac, struct im_err *err) {
    return net->bridge == NULL || bridge_unplug(net->bridge, mac, err);
}

bool net_heal(struct net *net, struct im_err *err) {
    return net->bridge == NULL || bridge_heal(net->bridge, err);
}
