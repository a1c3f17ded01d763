/* SPDX-License-Identifier: Apache-2.0 */
/* Bridges, ports and addresses over rtnetlink. Each call opens its own socket, so that there is no
 * state to share or to go stale. */
#include "net-private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

IM_DEFINE_AUTO(struct mnl_socket *, mnl_socket_close)

/* Large enough for a link with all its statistics; libmnl's own size is a page at most. */
enum { REQUEST_SIZE = 1024, REPLY_SIZE = 32768 };

struct request {
    char bytes[REQUEST_SIZE];
    struct nlmsghdr *head;
};

static void *request_init(struct request *request, uint16_t type, uint16_t flags, size_t extra) {
    memset(request->bytes, 0, sizeof(request->bytes));
    request->head = mnl_nlmsg_put_header(request->bytes);
    request->head->nlmsg_type = type;
    request->head->nlmsg_flags = (uint16_t) (NLM_F_REQUEST | flags);
    return mnl_nlmsg_put_extra_header(request->head, extra);
}

static struct ifinfomsg *link_request(struct request *request, uint16_t type, uint16_t flags,
                                      int index) {
    struct ifinfomsg *info = request_init(request, type, flags, sizeof(*info));

    info->ifi_family = AF_UNSPEC;
    info->ifi_index = index;
    return info;
}

/* Sends it and feeds the answers to `each`. Returns 0 or the errno of the kernel. */
static int talk(struct request *request, mnl_cb_t each, void *arg) {
    IM_AUTO(mnl_socket_close_auto)
    struct mnl_socket *socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    char reply[REPLY_SIZE];
    ssize_t got;
    int more = 1;

    if (socket == NULL || mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) < 0 ||
        mnl_socket_sendto(socket, request->head, request->head->nlmsg_len) < 0)
        return errno;
    while (more > 0) {
        got = mnl_socket_recvfrom(socket, reply, sizeof(reply));
        if (got < 0)
            return errno;
        more = mnl_cb_run(reply, (size_t) got, request->head->nlmsg_seq,
                          mnl_socket_get_portid(socket), each, arg);
        if (more < 0)
            return errno;
        /* An answer to a single question has no end mark; those that ask for one get it. */
        if ((request->head->nlmsg_flags & (NLM_F_DUMP | NLM_F_ACK)) == 0)
            break;
    }
    return 0;
}

static bool change(struct request *request, struct im_err *err, const char *what) {
    int sys = talk(request, NULL, NULL);

    if (sys == EPERM)
        return im_fail(err, IM_UNSUPPORTED, "%s needs root (CAP_NET_ADMIN)", what);
    return sys == 0 || im_fail_sys(err, sys, "%s failed", what);
}

/* --- Links ---------------------------------------------------------------------------------- */

static int on_kind(const struct nlattr *attr, void *arg) {
    struct link *link = arg;

    if (mnl_attr_get_type(attr) == IFLA_INFO_KIND)
        snprintf(link->kind, sizeof(link->kind), "%s", mnl_attr_get_str(attr));
    return MNL_CB_OK;
}

static void mac_write(const unsigned char *bytes, char out[MAC_TEXT]) {
    snprintf(out, MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", bytes[0], bytes[1], bytes[2], bytes[3],
             bytes[4], bytes[5]);
}

static int on_link_attr(const struct nlattr *attr, void *arg) {
    struct link *link = arg;

    switch (mnl_attr_get_type(attr)) {
    case IFLA_IFNAME:
        snprintf(link->name, sizeof(link->name), "%s", mnl_attr_get_str(attr));
        break;
    case IFLA_MASTER:
        link->master = (int) mnl_attr_get_u32(attr);
        break;
    case IFLA_ADDRESS:
        if (mnl_attr_get_payload_len(attr) == 6)
            mac_write(mnl_attr_get_payload(attr), link->mac);
        break;
    case IFLA_IFALIAS:
        snprintf(link->alias, sizeof(link->alias), "%s", mnl_attr_get_str(attr));
        break;
    case IFLA_LINKINFO:
        return mnl_attr_parse_nested(attr, on_kind, arg);
    default:
        break;
    }
    return MNL_CB_OK;
}

static int on_link(const struct nlmsghdr *head, void *arg) {
    const struct ifinfomsg *info = mnl_nlmsg_get_payload(head);
    struct link *link = arg;

    link->index = info->ifi_index;
    link->up = (info->ifi_flags & IFF_UP) != 0;
    return mnl_attr_parse(head, sizeof(*info), on_link_attr, link);
}

bool link_find(const char *name, struct link *ret_link, struct im_err *err) {
    struct link link = {0};
    struct request request;
    int sys;

    link_request(&request, RTM_GETLINK, 0, 0);
    mnl_attr_put_strz(request.head, IFLA_IFNAME, name);
    sys = talk(&request, on_link, &link);
    if (sys != 0 && sys != ENODEV)
        return im_fail_sys(err, sys, "cannot look for interface %s", name);
    *ret_link = link;
    return true;
}

static bool mac_bytes(const char *mac, unsigned char out[6]) {
    return sscanf(mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &out[0], &out[1], &out[2], &out[3],
                  &out[4], &out[5]) == 6;
}

bool link_make_bridge(const char *name, const char *mac, const char *alias, struct im_err *err) {
    struct request request;
    struct nlattr *nested;
    struct ifinfomsg *info =
        link_request(&request, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, 0);
    unsigned char bytes[6];
    struct link made;

    info->ifi_flags = info->ifi_change = IFF_UP;
    if (!mac_bytes(mac, bytes))
        return im_fail(err, IM_INTERNAL, "%s is no MAC address", mac);
    mnl_attr_put_strz(request.head, IFLA_IFNAME, name);
    mnl_attr_put(request.head, IFLA_ADDRESS, sizeof(bytes), bytes);
    nested = mnl_attr_nest_start(request.head, IFLA_LINKINFO);
    mnl_attr_put_strz(request.head, IFLA_INFO_KIND, "bridge");
    mnl_attr_nest_end(request.head, nested);
    if (!change(&request, err, "making a bridge"))
        return im_within(err, "interface %s", name);
    /* The kernel ignores an alias in the request that makes the link. */
    if (!link_find(name, &made, err))
        return false;
    if (link_set_alias(made.index, alias, err))
        return true;
    (void) !link_remove(made.index, &(struct im_err){0});
    return false;
}

bool link_set_alias(int index, const char *alias, struct im_err *err) {
    struct request request;

    link_request(&request, RTM_SETLINK, NLM_F_ACK, index);
    mnl_attr_put_strz(request.head, IFLA_IFALIAS, alias);
    return change(&request, err, "giving the bridge its mark");
}

bool link_set_up(int index, struct im_err *err) {
    struct request request;
    struct ifinfomsg *info = link_request(&request, RTM_SETLINK, NLM_F_ACK, index);

    info->ifi_flags = info->ifi_change = IFF_UP;
    return change(&request, err, "setting an interface up");
}

bool link_set_master(int index, int master, struct im_err *err) {
    struct request request;

    link_request(&request, RTM_SETLINK, NLM_F_ACK, index);
    mnl_attr_put_u32(request.head, IFLA_MASTER, (uint32_t) master);
    return change(&request, err, "plugging an interface into the bridge");
}

bool link_remove(int index, struct im_err *err) {
    struct request request;

    link_request(&request, RTM_DELLINK, NLM_F_ACK, index);
    return change(&request, err, "removing the bridge");
}

struct port_count {
    int master;
    size_t count;
};

static int on_port(const struct nlmsghdr *head, void *arg) {
    struct port_count *ports = arg;
    struct link link = {0};
    int rc = on_link(head, &link);

    ports->count += link.master == ports->master;
    return rc;
}

bool link_ports(int index, size_t *ret_count, struct im_err *err) {
    struct port_count ports = {.master = index};
    struct request request;
    int sys;

    link_request(&request, RTM_GETLINK, NLM_F_DUMP, 0);
    sys = talk(&request, on_port, &ports);
    if (sys != 0)
        return im_fail_sys(err, sys, "cannot list the host's interfaces");
    *ret_count = ports.count;
    return true;
}

/* --- Addresses ------------------------------------------------------------------------------ */

struct address_list {
    struct link_address *items, next;
    size_t count, capacity;
    bool known;
};

/* IFA_LOCAL is the address of this end; on links to one peer IFA_ADDRESS is the other's. */
static int on_address_attr(const struct nlattr *attr, void *arg) {
    struct address_list *list = arg;

    if (mnl_attr_get_type(attr) == IFA_LOCAL) {
        list->next.address = ntohl(mnl_attr_get_u32(attr));
        list->known = true;
    }
    return MNL_CB_OK;
}

static int on_address(const struct nlmsghdr *head, void *arg) {
    const struct ifaddrmsg *info = mnl_nlmsg_get_payload(head);
    struct address_list *list = arg;

    list->known = false;
    list->next =
        (struct link_address){.index = (int) info->ifa_index, .prefix = info->ifa_prefixlen};
    if (mnl_attr_parse(head, sizeof(*info), on_address_attr, list) < 0)
        return MNL_CB_ERROR;
    if (list->known) {
        im_grow(&list->items, list->count, &list->capacity);
        list->items[list->count++] = list->next;
    }
    return MNL_CB_OK;
}

bool link_addresses(struct link_address **ret_list, size_t *ret_count, struct im_err *err) {
    struct address_list list = {0};
    struct request request;
    struct ifaddrmsg *info = request_init(&request, RTM_GETADDR, NLM_F_DUMP, sizeof(*info));
    int sys;

    info->ifa_family = AF_INET;
    sys = talk(&request, on_address, &list);
    if (sys != 0) {
        free(list.items);
        return im_fail_sys(err, sys, "cannot list the host's addresses");
    }
    *ret_list = list.items;
    *ret_count = list.count;
    return true;
}

static int change_address(const struct link_address *address, uint16_t type, uint16_t flags) {
    struct request request;
    struct ifaddrmsg *info = request_init(&request, type, flags | NLM_F_ACK, sizeof(*info));
    uint32_t mask = address->prefix == 0 ? 0 : ~UINT32_C(0) << (32 - address->prefix);

    info->ifa_family = AF_INET;
    info->ifa_prefixlen = (unsigned char) address->prefix;
    info->ifa_index = (uint32_t) address->index;
    mnl_attr_put_u32(request.head, IFA_LOCAL, htonl(address->address));
    mnl_attr_put_u32(request.head, IFA_ADDRESS, htonl(address->address));
    if (type == RTM_NEWADDR)
        mnl_attr_put_u32(request.head, IFA_BROADCAST, htonl(address->address | ~mask));
    return talk(&request, NULL, NULL);
}

bool link_add_address(const struct link_address *address, struct im_err *err) {
    int sys = change_address(address, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);

    return sys == 0 || sys == EEXIST || im_fail_sys(err, sys, "cannot give the bridge its address");
}

bool link_drop_address(const struct link_address *address, struct im_err *err) {
    int sys = change_address(address, RTM_DELADDR, 0);

    return sys == 0 || sys == EADDRNOTAVAIL ||
           im_fail_sys(err, sys, "cannot take an address from the bridge");
}
