/* SPDX-License-Identifier: Apache-2.0 */
/* vxnet-0 over QEMU's user-mode network: every machine has 10.0.2.15 and is reached by a port on
 * 127.0.0.1. The bridge is not in this version: asked for it, net_open refuses; `auto` takes user
 * mode and says why. */
#include "net/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/id.h"
#include "base/mem.h"

enum { PORT_FIRST = 20000, PORT_LAST = 29999, GUEST = 0x0a00020f, GATEWAY = 0x0a000202 };

struct net {
    const char *reason;
};

struct net *net_open(const struct net_config *config, struct im_err *err) {
    struct net *net;

    if (strcmp(config->mode, "user") != 0 && strcmp(config->mode, "auto") != 0) {
        im_fail(err, IM_UNSUPPORTED, "network mode %s is not in this version; use user or auto",
                config->mode);
        return NULL;
    }
    net = im_alloc(sizeof(*net));
    net->reason = strcmp(config->mode, "auto") == 0
                      ? "bridges are not in this version: machines have user-mode networking"
                      : "";
    return net;
}

void net_close(struct net *net) { free(net); }

bool net_remove(struct net *net, struct im_err *err) {
    (void) net, (void) err;
    return true; /* nothing was made outside the machines */
}

enum net_kind net_kind(const struct net *net) {
    (void) net;
    return NET_USER;
}

const char *net_reason(const struct net *net) { return net->reason; }

const char *net_bridge_name(const struct net *net) {
    (void) net;
    return "";
}

void net_range(const struct net *net, uint32_t *ret_first, uint32_t *ret_last,
               uint32_t *ret_gateway) {
    (void) net;
    *ret_first = *ret_last = GUEST;
    *ret_gateway = GATEWAY;
}

/* QEMU's own DHCP knows its one guest, so there is nothing to be told to anybody. */
bool net_plug(struct net *net, const char *mac, const char *ip, const char *hostname,
              struct im_err *err) {
    (void) net, (void) mac, (void) ip, (void) hostname, (void) err;
    return true;
}

bool net_unplug(struct net *net, const char *mac, struct im_err *err) {
    (void) net, (void) mac, (void) err;
    return true;
}

bool net_heal(struct net *net, struct im_err *err) {
    (void) net, (void) err;
    return true;
}

static bool port_free(int port) {
    IM_AUTO(fd_auto) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t) port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    return fd >= 0 && bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0;
}

/* From a random place on, so that two processes rarely want the same. */
bool net_free_port(const int64_t *taken, size_t count, int *ret_port, struct im_err *err) {
    unsigned start, range = PORT_LAST - PORT_FIRST + 1;

    im_random(&start, sizeof(start));
    for (unsigned i = 0; i < range; i++) {
        int port = PORT_FIRST + (int) ((start + i) % range);
        bool used = false;

        for (size_t j = 0; j < count && !used; j++)
            used = taken[j] == port;
        if (!used && port_free(port)) {
            *ret_port = port;
            return true;
        }
    }
    return im_fail(err, IM_NO_RESOURCE, "no port between %d and %d is free on 127.0.0.1",
                   PORT_FIRST, PORT_LAST);
}
