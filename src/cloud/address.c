/* SPDX-License-Identifier: Apache-2.0 */
/* Network cards: which address each gets, and which port leads to it in user mode. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cloud-private.h"

static void address_text(uint32_t address, char out[INET_ADDRSTRLEN]) {
    struct in_addr in = {.s_addr = htonl(address)};

    inet_ntop(AF_INET, &in, out, INET_ADDRSTRLEN);
}

static bool address_taken(struct db_conn *conn, const char *ip, bool *ret_taken,
                          struct im_err *err) {
    IM_AUTO(query_done) struct query query = {0};
    int64_t count = 0;

    query_add(&query, "private_ip", CONDITION_IN, ip);
    if (!record_count(conn, &nic_type, &query, &count, err))
        return false;
    *ret_taken = count > 0;
    return true;
}

/* The next free address after the one given out last, so that the k-th search is as short as the
 * first. */
static bool address_pick(struct cloud *cloud, struct db_conn *conn, char ret_ip[INET_ADDRSTRLEN],
                         struct im_err *err) {
    uint32_t first, last, gateway, next;

    net_range(cloud->config.net, &first, &last, &gateway);
    pthread_mutex_lock(&cloud->lock);
    next = cloud->address_cursor;
    pthread_mutex_unlock(&cloud->lock);
    for (uint64_t tries = 0; tries <= (uint64_t) last - first; tries++) {
        bool taken = true;

        next = next < first || next >= last ? first : next + 1;
        address_text(next, ret_ip);
        if (next != gateway && !address_taken(conn, ret_ip, &taken, err))
            return false;
        if (!taken) {
            pthread_mutex_lock(&cloud->lock);
            cloud->address_cursor = next;
            pthread_mutex_unlock(&cloud->lock);
            return true;
        }
    }
    return im_fail(err, IM_NO_RESOURCE, "vxnet [%s] has no free address left", VXNET_BASIC);
}

static bool address_wanted(struct cloud *cloud, struct db_conn *conn, const char *ip,
                           struct im_err *err) {
    uint32_t first, last, gateway;
    struct in_addr in;
    bool taken;

    if (net_kind(cloud->config.net) == NET_USER)
        return im_fail(err, IM_BAD_MESSAGE,
                       "address %s can not be chosen: this host has user-mode networking", ip);
    net_range(cloud->config.net, &first, &last, &gateway);
    if (inet_pton(AF_INET, ip, &in) != 1 || ntohl(in.s_addr) < first || ntohl(in.s_addr) > last ||
        ntohl(in.s_addr) == gateway)
        return im_fail(err, IM_BAD_MESSAGE, "address %s does not belong to vxnet [%s]", ip,
                       VXNET_BASIC);
    if (!address_taken(conn, ip, &taken, err))
        return false;
    return taken ? im_fail(err, IM_WRONG_STATE, "address %s is in use", ip) : true;
}

static bool mac_pick(struct db_conn *conn, char ret_mac[18], struct im_err *err) {
    for (;;) {
        IM_AUTO(nic_free_auto) struct nic *nic = NULL;
        struct im_err missing = {0};
        unsigned char tail[3];

        im_random(tail, sizeof(tail));
        snprintf(ret_mac, 18, "52:54:9e:%02x:%02x:%02x", tail[0], tail[1], tail[2]);
        if (record_get(conn, &nic_type, ret_mac, &nic, &missing))
            continue;
        if (missing.code == IM_NOT_FOUND)
            return true;
        *err = missing;
        return false;
    }
}

static bool nic_plan(struct cloud *cloud, struct db_conn *conn, const struct instance *instance,
                     const char *wanted, const char *security_group, int64_t sequence,
                     struct im_err *err) {
    char mac[18], ip[INET_ADDRSTRLEN];
    const char *bar = strchr(wanted, '|');
    size_t len = bar ? (size_t) (bar - wanted) : strlen(wanted);
    struct nic nic = {.nic_id = mac,
                      .status = "in-use",
                      .instance_id = instance->instance_id,
                      .vxnet_id = VXNET_BASIC,
                      .private_ip = ip,
                      .security_group = (char *) security_group,
                      .owner = instance->owner,
                      .role = sequence == 0,
                      .sequence = sequence,
                      .create_time = im_now_s(),
                      .status_time = im_now_s()};

    if (len != strlen(VXNET_BASIC) || strncmp(wanted, VXNET_BASIC, len) != 0)
        return im_fail(err, IM_NOT_FOUND, "vxnet [%.*s] does not exist", (int) len, wanted);
    if (sequence > 0)
        return im_fail(err, IM_BAD_MESSAGE, "an instance joins vxnet [%s] only once", VXNET_BASIC);
    if (bar != NULL && bar[1] != '\0') {
        if (!address_wanted(cloud, conn, bar + 1, err))
            return false;
        snprintf(ip, sizeof(ip), "%s", bar + 1);
    } else if (net_kind(cloud->config.net) == NET_USER) {
        uint32_t first, last, gateway;

        net_range(cloud->config.net, &first, &last, &gateway);
        address_text(first, ip);
    } else if (!address_pick(cloud, conn, ip, err)) {
        return false;
    }
    return mac_pick(conn, mac, err) && record_insert(conn, &nic_type, &nic, err);
}

bool nics_plan(struct cloud *cloud, struct db_conn *conn, const struct instance *instance,
               const struct im_strings *vxnets, const char *security_group, struct im_err *err) {
    for (size_t i = 0; vxnets != NULL && i < vxnets->count; i++)
        if (!nic_plan(cloud, conn, instance, vxnets->items[i], security_group, (int64_t) i, err))
            return false;
    return true;
}

bool nics_load(struct db_conn *conn, const char *instance_id, struct nic ***ret_nics,
               size_t *ret_count, struct im_err *err) {
    IM_AUTO(query_done) struct query query = {.sort_field = "sequence", .ascending = true};
    void **found = NULL;

    query_add(&query, "instance_id", CONDITION_IN, instance_id);
    if (!record_list(conn, &nic_type, &query, &found, ret_count, NULL, err))
        return false;
    *ret_nics = (struct nic **) found;
    return true;
}

bool nics_delete(struct db_conn *conn, const char *instance_id, struct im_err *err) {
    return db_exec(conn, NULL, err, "DELETE FROM nics WHERE instance_id = $1", "t", instance_id);
}

/* All ports that rows hold, whoever owns them. */
static bool ports_taken(struct db_conn *conn, int64_t **ret_ports, size_t *ret_count,
                        struct im_err *err) {
    IM_AUTO(db_rows_free_auto)
    struct db_rows *rows = db_query(conn, err, "SELECT ssh_port FROM nics WHERE ssh_port <> 0", "");
    IM_AUTO(free_auto) int64_t *ports = NULL;
    size_t count = 0, capacity = 0;
    bool more = true;

    if (rows == NULL)
        return false;
    while (db_next(rows, &more, err) && more) {
        im_grow(&ports, count, &capacity);
        ports[count++] = db_int(rows, 0);
    }
    if (more)
        return false;
    *ret_ports = im_steal(&ports);
    *ret_count = count;
    return true;
}

/* Cards that stand in the way of new ones: on a bridge by their address, in user mode by their
 * port. */
static bool cards_count(struct cloud *cloud, int64_t *ret_count, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(cloud->config.db, err);
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = NULL;
    bool more = false;

    if (conn == NULL)
        return false;
    rows = net_kind(cloud->config.net) == NET_BRIDGE
               ? db_query(conn, err, "SELECT count(*) FROM nics WHERE ssh_port = 0", "")
               : db_query(conn, err, "SELECT count(*) FROM nics WHERE ssh_port <> 0", "");
    if (rows == NULL || !db_next(rows, &more, err))
        return false;
    *ret_count = more ? db_int(rows, 0) : 0;
    return true;
}

bool cloud_vxnet(struct cloud *cloud, struct vxnet_state *ret_state, struct im_err *err) {
    const struct net *net = cloud->config.net;
    struct vxnet_state state = {.bridge = net_kind(net) == NET_BRIDGE};
    uint32_t first, last, gateway;
    int64_t used = 0, all;

    if (!cards_count(cloud, &used, err))
        return false;
    net_range(net, &first, &last, &gateway);
    all = state.bridge ? (int64_t) last - first + 1 : NET_PORTS;
    state.free_count = used < all ? all - used : 0;
    address_text(first, state.first);
    address_text(last, state.last);
    address_text(gateway, state.gateway);
    snprintf(state.subnet, sizeof(state.subnet), "%s", net_subnet(net));
    if (state.bridge)
        snprintf(state.about, sizeof(state.about), "bridge %s on the host", net_bridge_name(net));
    else
        snprintf(state.about, sizeof(state.about), "%s",
                 im_str_empty(net_reason(net)) ? "user mode, as configured" : net_reason(net));
    *ret_state = state;
    return true;
}

/* A card and the network it is to agree with. */
struct settling {
    struct cloud *cloud;
    struct nic *nic;
    bool anew;
};

static bool settle_user(const struct settling *settling, struct db_conn *conn, const char *ip,
                        struct im_err *err) {
    IM_AUTO(free_auto) int64_t *taken = NULL;
    struct nic *nic = settling->nic;
    size_t count = 0;
    int port = 0;

    if (!settling->anew && nic->ssh_port != 0 && im_str_equal(nic->private_ip, ip))
        return true;
    if (!ports_taken(conn, &taken, &count, err) || !net_free_port(taken, count, &port, err))
        return false;
    nic->ssh_port = port;
    im_replace(&nic->private_ip, ip);
    return record_update_fields(conn, &nic_type, nic,
                                (const char *const[]){"ssh_port", "private_ip", NULL}, err);
}

static bool settle_bridge(const struct settling *settling, struct db_conn *conn, uint32_t first,
                          uint32_t last, struct im_err *err) {
    char ip[INET_ADDRSTRLEN];
    struct nic *nic = settling->nic;
    struct in_addr in = {0};
    bool inside = inet_pton(AF_INET, nic->private_ip ? nic->private_ip : "", &in) == 1 &&
                  ntohl(in.s_addr) >= first && ntohl(in.s_addr) <= last;

    if (inside && nic->ssh_port == 0)
        return true;
    if (!inside) {
        if (!address_pick(settling->cloud, conn, ip, err))
            return false;
        im_replace(&nic->private_ip, ip);
    }
    nic->ssh_port = 0;
    return record_update_fields(conn, &nic_type, nic,
                                (const char *const[]){"ssh_port", "private_ip", NULL}, err);
}

static bool settle_body(struct db_conn *conn, void *arg, struct im_err *err) {
    const struct settling *settling = arg;
    uint32_t first, last, gateway;
    char ip[INET_ADDRSTRLEN];

    net_range(settling->cloud->config.net, &first, &last, &gateway);
    if (net_kind(settling->cloud->config.net) == NET_BRIDGE)
        return settle_bridge(settling, conn, first, last, err);
    address_text(first, ip);
    return settle_user(settling, conn, ip, err);
}

bool nics_settle(struct cloud *cloud, struct nic **nics, size_t count, bool anew,
                 struct im_err *err) {
    for (size_t i = 0; i < count; i++) {
        struct settling settling = {cloud, nics[i], anew};

        if (!cloud_transact(cloud, settle_body, &settling, err))
            return false;
    }
    return true;
}
