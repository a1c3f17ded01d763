/* SPDX-License-Identifier: Apache-2.0 */
/* vxnet-0 on a bridge of our own: the link, its address, the rules and dnsmasq, each made so that
 * doing it again changes nothing. The bridge carries the name of its owner in its alias. */
#include "net-private.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

#define RUN_DIR "/run/imprint"
#define MARK "imprint:"

struct bridge {
    pthread_mutex_t lock; /* one change at a time */
    char *name, *state_dir, *domain, *host_ports, *folder;
    struct subnet subnet;
    struct rules rules;
    struct dnsmasq dnsmasq;
    int lock_fd;
};

/* --- What the configuration says ------------------------------------------------------------ */

/* dnsmasq's user must reach its files, and the folders above state_dir may be closed to it (a clone
 * under /root): they are in /run, in a folder told apart by state_dir (FNV-1a). Nothing in it is
 * needed after the host was off. */
static char *folder_of(const char *bridge, const char *state_dir) {
    uint32_t hash = 2166136261u;

    for (const char *c = state_dir; *c != '\0'; c++)
        hash = (hash ^ (unsigned char) *c) * 16777619u;
    return im_printf(RUN_DIR "/%s-%08" PRIx32, bridge, hash);
}

static bool name_fits(const char *name, struct im_err *err) {
    size_t len = strlen(name);

    if (len < 1 || len > 15)
        return im_fail(err, IM_BAD_MESSAGE,
                       "bridge [%.64s]: an interface's name has 1 to 15 characters", name);
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char) name[i]) && (i == 0 || strchr("-_", name[i]) == NULL))
            return im_fail(err, IM_BAD_MESSAGE,
                           "bridge [%s]: its name should consist of letters, digits, - and _",
                           name);
    return true;
}

static bool domain_fits(const char *domain, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings labels = {0};
    bool fits = strlen(domain) <= 200 && !im_ends_with(domain, ".");

    im_strings_split(&labels, domain, ".");
    for (size_t i = 0; i < labels.count; i++)
        fits = fits && label_valid(labels.items[i]);
    return (fits && labels.count > 0) ||
           im_fail(err, IM_BAD_MESSAGE, "domain [%.64s] is no name of a domain", domain);
}

/* "7200 80" in nft's words: "7200, 80". */
static bool ports_text(const char *text, char **ret_text, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ports = {0};

    im_strings_split(&ports, text ? text : "", ", ");
    for (size_t i = 0; i < ports.count; i++) {
        int64_t port;

        if (!im_parse_i64(ports.items[i], 1, 65535, &port))
            return im_fail(err, IM_BAD_MESSAGE, "host_ports: [%.32s] is no port", ports.items[i]);
    }
    *ret_text = im_strings_join(&ports, ", ");
    return true;
}

static bool configure(struct bridge *bridge, const struct net_config *config, struct im_err *err) {
    if (!name_fits(config->bridge, err) || !domain_fits(config->domain, err) ||
        !subnet_parse(config->subnet, &bridge->subnet, err) ||
        !ports_text(config->host_ports, &bridge->host_ports, err))
        return false;
    bridge->name = im_strdup(config->bridge);
    bridge->state_dir = im_strdup(config->state_dir);
    bridge->domain = im_strdup(config->domain);
    bridge->folder = folder_of(bridge->name, bridge->state_dir);
    bridge->rules = (struct rules){.bridge = bridge->name,
                                   .subnet = &bridge->subnet,
                                   .nat = config->nat,
                                   .host_ports = bridge->host_ports};
    bridge->dnsmasq = (struct dnsmasq){.folder = bridge->folder,
                                       .bridge = bridge->name,
                                       .domain = bridge->domain,
                                       .subnet = &bridge->subnet};
    return true;
}

/* --- Whose bridge it is --------------------------------------------------------------------- */

/* -1: somebody else holds it, or there is no such folder. */
static int try_lock(const char *folder) {
    IM_AUTO(free_auto) char *path = im_printf("%s/lock", folder);
    IM_AUTO(fd_auto) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 ? im_steal_fd(&fd) : -1;
}

static void empty_folder(const char *path) {
    struct dirent *entry;
    DIR *dir = opendir(path);

    while (dir != NULL && (entry = readdir(dir)) != NULL)
        (void) unlinkat(dirfd(dir), entry->d_name, 0);
    if (dir != NULL)
        closedir(dir);
    (void) rmdir(path);
}

static void remove_folder(const char *folder) {
    static const char *const names[] = {"dhcp", "hosts", "leases"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, names[i]);

        empty_folder(path);
    }
    empty_folder(folder);
}

/* The bridge of an imprintd that is gone, with no machine on it, is ours now. */
static bool inherit(const struct bridge *bridge, const struct link *link, struct im_err *err) {
    const char *other = link->alias + strlen(MARK);
    IM_AUTO(free_auto) char *folder = folder_of(bridge->name, other);
    IM_AUTO(free_auto) char *mark = im_printf(MARK "%s", bridge->state_dir);
    IM_AUTO(fd_auto) int lock = -1;
    struct stat st;
    size_t ports;

    if (stat(folder, &st) == 0 && (lock = try_lock(folder)) < 0)
        return im_fail(err, IM_UNSUPPORTED,
                       "bridge %s belongs to the imprintd of %s; give this one another name and "
                       "subnet under [net]",
                       bridge->name, other);
    if (!link_ports(link->index, &ports, err))
        return false;
    if (ports > 0)
        return im_fail(err, IM_UNSUPPORTED, "bridge %s has machines of the imprintd of %s on it",
                       bridge->name, other);
    if (!dnsmasq_stop(folder, err))
        return false;
    remove_folder(folder);
    return link_set_alias(link->index, mark, err);
}

/* Deterministic, so that machines find a bridge made anew under the MAC they know. */
static void bridge_mac(const struct bridge *bridge, char out[MAC_TEXT]) {
    uint32_t gateway = subnet_gateway(&bridge->subnet);

    snprintf(out, MAC_TEXT, "52:54:%02x:%02x:%02x:%02x", gateway >> 24, (gateway >> 16) & 255,
             (gateway >> 8) & 255, gateway & 255);
}

/* Makes it, or makes sure that it is ours. */
static bool claim_link(const struct bridge *bridge, struct link *ret_link, bool *ret_made,
                       struct im_err *err) {
    IM_AUTO(free_auto) char *mark = im_printf(MARK "%s", bridge->state_dir);
    char mac[MAC_TEXT];
    struct link link;

    bridge_mac(bridge, mac);
    if (!link_find(bridge->name, &link, err))
        return false;
    if (link.index == 0) {
        if (!link_make_bridge(bridge->name, mac, mark, err))
            return false;
        *ret_made = true;
        return link_find(bridge->name, ret_link, err);
    }
    /* Killed between making it and marking it. */
    if (link.alias[0] == '\0' && strcmp(link.kind, "bridge") == 0 && strcmp(link.mac, mac) == 0) {
        if (!link_set_alias(link.index, mark, err))
            return false;
        snprintf(link.alias, sizeof(link.alias), "%s", mark);
    }
    if (strcmp(link.kind, "bridge") != 0 || !im_starts_with(link.alias, MARK))
        return im_fail(err, IM_UNSUPPORTED,
                       "interface %s exists already and was not made by imprintd; choose another "
                       "name under [net] bridge",
                       bridge->name);
    if (strcmp(link.alias, mark) != 0 && !inherit(bridge, &link, err))
        return false;
    *ret_link = link;
    return link.up || link_set_up(link.index, err);
}

/* --- Its addresses -------------------------------------------------------------------------- */

static bool subnet_free(const struct bridge *bridge, const struct link_address *list, size_t count,
                        int own_index, struct im_err *err) {
    for (size_t i = 0; i < count; i++) {
        uint32_t mask = list[i].prefix == 0 ? 0 : ~UINT32_C(0) << (32 - list[i].prefix);
        char text[ADDRESS_TEXT];

        if (list[i].index == own_index ||
            ((list[i].address ^ bridge->subnet.network) & mask & bridge->subnet.mask) != 0)
            continue;
        address_text(list[i].address, text);
        return im_fail(err, IM_UNSUPPORTED,
                       "subnet %s is in use on this host, which has the address %s/%u; choose "
                       "another under [net] subnet",
                       bridge->subnet.text, text, list[i].prefix);
    }
    return true;
}

/* Our address and no other. Machines must not lose their gateway by a change of the subnet. */
static bool settle_address(const struct bridge *bridge, int index, const struct link_address *list,
                           size_t count, struct im_err *err) {
    struct link_address ours = {index, subnet_gateway(&bridge->subnet), bridge->subnet.prefix};
    size_t ports = 0;

    for (size_t i = 0; i < count; i++) {
        char text[ADDRESS_TEXT];

        if (list[i].index != index ||
            (list[i].address == ours.address && list[i].prefix == ours.prefix))
            continue;
        address_text(list[i].address, text);
        if (!link_ports(index, &ports, err))
            return false;
        if (ports > 0)
            return im_fail(err, IM_UNSUPPORTED,
                           "bridge %s has the address %s/%u and machines on it; stop them before "
                           "the subnet becomes %s",
                           bridge->name, text, list[i].prefix, bridge->subnet.text);
        if (!link_drop_address(&list[i], err))
            return false;
    }
    return link_add_address(&ours, err);
}

static bool write_sysctl(const char *path, const char *value, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = open(path, O_RDWR | O_CLOEXEC);
    char had[8] = "";

    if (fd >= 0 && read(fd, had, sizeof(had) - 1) > 0 && had[0] == value[0])
        return true;
    return (fd >= 0 && pwrite(fd, value, 1, 0) == 1) ||
           im_fail_sys(err, errno, "cannot set %s to %s", path, value);
}

/* IPv6 is off on the bridge: the host would answer machines at an address that no rule of ours
 * speaks of. A kernel without it has no such file. */
static bool settle_kernel(const struct bridge *bridge, struct im_err *err) {
    IM_AUTO(free_auto)
    char *ipv6 = im_printf("/proc/sys/net/ipv6/conf/%s/disable_ipv6", bridge->name);

    return (access(ipv6, F_OK) < 0 || write_sysctl(ipv6, "1", err)) &&
           write_sysctl("/proc/sys/net/ipv4/ip_forward", "1", err);
}

/* The machine's end on the host, if the machine runs: onto the bridge, or off any (0). */
static bool settle_tap(int index, const struct machine *machine, struct im_err *err) {
    char name[16];
    struct link tap;

    tap_name(machine->mac, name);
    return (link_find(name, &tap, err) &&
            (tap.index == 0 || tap.master == index || link_set_master(tap.index, index, err))) ||
           im_within(err, "interface %s", name);
}

static bool settle_taps(int index, const struct machine *machines, size_t count,
                        struct im_err *err) {
    for (size_t i = 0; i < count; i++)
        if (!settle_tap(index, &machines[i], err))
            return false;
    return true;
}

/* --- Making and healing --------------------------------------------------------------------- */

/* Machines of another subnet are no longer ours to serve. */
static bool machines_of(struct bridge *bridge, struct machine **ret_list, size_t *ret_count,
                        struct im_err *err) {
    size_t kept = 0;

    if (!dnsmasq_machines(bridge->folder, ret_list, ret_count, err))
        return false;
    for (size_t i = 0; i < *ret_count; i++) {
        struct machine *machine = &(*ret_list)[i];
        uint32_t address = 0;

        if (address_parse(machine->ip, &address) && subnet_for_machines(&bridge->subnet, address))
            (*ret_list)[kept++] = *machine;
        else if (!dnsmasq_unplug(&bridge->dnsmasq, machine, err))
            return false;
    }
    *ret_count = kept;
    return true;
}

static bool settle(struct bridge *bridge, bool anew, bool *ret_made, struct im_err *err) {
    IM_AUTO(free_auto) struct link_address *addresses = NULL;
    IM_AUTO(free_auto) struct machine *machines = NULL;
    size_t address_count = 0, count = 0;
    struct link link;

    if (!link_find(bridge->name, &link, err) || !link_addresses(&addresses, &address_count, err) ||
        !subnet_free(bridge, addresses, address_count, link.index, err) ||
        !claim_link(bridge, &link, ret_made, err) ||
        !settle_address(bridge, link.index, addresses, address_count, err) ||
        !settle_kernel(bridge, err) || !machines_of(bridge, &machines, &count, err))
        return false;
    return (anew ? rules_apply : rules_heal)(&bridge->rules, machines, count, err) &&
           dnsmasq_ensure(&bridge->dnsmasq, err) && settle_taps(link.index, machines, count, err);
}

/* Takes back what a failed first attempt made. */
static void undo(const struct bridge *bridge) {
    struct im_err ignored = {0};
    struct link link;

    (void) !dnsmasq_stop(bridge->folder, &ignored);
    (void) !rules_remove(bridge->name, &ignored);
    if (link_find(bridge->name, &link, &ignored) && link.index != 0)
        (void) !link_remove(link.index, &ignored);
}

static bool lock_folder(struct bridge *bridge, bool *ret_fresh, struct im_err *err) {
    *ret_fresh = access(bridge->folder, F_OK) < 0;
    if (!im_make_dirs(bridge->folder, 0755, err))
        return false;
    bridge->lock_fd = try_lock(bridge->folder);
    return bridge->lock_fd >= 0 ||
           im_fail(err, IM_UNSUPPORTED, "another program holds %s/lock", bridge->folder);
}

static struct bridge *bridge_new(void) {
    struct bridge *bridge = im_alloc(sizeof(*bridge));

    pthread_mutex_init(&bridge->lock, NULL);
    bridge->lock_fd = -1;
    return bridge;
}

IM_DEFINE_AUTO(struct bridge *, bridge_close)

struct bridge *bridge_open(const struct net_config *config, struct im_err *err) {
    struct bridge *bridge = bridge_new();
    bool made = false, fresh = false, opened;

    opened = configure(bridge, config, err);
    if (opened && geteuid() != 0)
        opened = im_fail(err, IM_UNSUPPORTED, "making a bridge needs root");
    if (opened && !dnsmasq_installed())
        opened = im_fail(err, IM_UNSUPPORTED, "dnsmasq is not installed (package dnsmasq-base)");
    opened = opened && lock_folder(bridge, &fresh, err) && settle(bridge, true, &made, err);
    if (opened) {
        dnsmasq_reload(bridge->folder);
        return bridge;
    }
    if (made)
        undo(bridge);
    if (fresh)
        remove_folder(bridge->folder);
    bridge_close(bridge);
    return NULL;
}

bool bridge_check(const struct net_config *config, struct im_err *err) {
    IM_AUTO(bridge_close_auto) struct bridge *bridge = bridge_new();

    return configure(bridge, config, err);
}

void bridge_close(struct bridge *bridge) {
    if (bridge->lock_fd >= 0)
        close(bridge->lock_fd);
    rules_done(&bridge->rules);
    pthread_mutex_destroy(&bridge->lock);
    free(bridge->name);
    free(bridge->state_dir);
    free(bridge->domain);
    free(bridge->host_ports);
    free(bridge->folder);
    free(bridge);
}

bool bridge_heal(struct bridge *bridge, struct im_err *err) {
    bool made = false, healed;

    pthread_mutex_lock(&bridge->lock);
    healed = settle(bridge, false, &made, err);
    pthread_mutex_unlock(&bridge->lock);
    return healed;
}

bool bridge_in_use(const struct net_config *config) {
    IM_AUTO(free_auto) char *mark = im_printf(MARK "%s", config->state_dir);
    struct im_err ignored = {0};
    struct link link;
    size_t ports = 0;

    return strlen(config->bridge) < 16 && link_find(config->bridge, &link, &ignored) &&
           link.index != 0 && strcmp(link.alias, mark) == 0 &&
           link_ports(link.index, &ports, &ignored) && ports > 0;
}

bool bridge_remove(const struct net_config *config, struct im_err *err) {
    IM_AUTO(free_auto) char *mark = im_printf(MARK "%s", config->state_dir);
    IM_AUTO(free_auto) char *folder = folder_of(config->bridge, config->state_dir);
    IM_AUTO(fd_auto) int lock = -1;
    struct link link = {0};
    struct stat st;

    if (!name_fits(config->bridge, err) || !link_find(config->bridge, &link, err))
        return false;
    if (link.index == 0 && stat(folder, &st) < 0)
        return true;
    if (stat(folder, &st) == 0 && (lock = try_lock(folder)) < 0)
        return im_fail(err, IM_WRONG_STATE, "bridge %s is in use by a running imprintd",
                       config->bridge);
    if (bridge_in_use(config))
        return im_fail(err, IM_WRONG_STATE, "bridge %s has machines on it; stop them first",
                       config->bridge);
    if (!dnsmasq_stop(folder, err))
        return false;
    if (link.index != 0 && strcmp(link.alias, mark) != 0)
        return true; /* another's: so are the rules of that name */
    if (!rules_remove(config->bridge, err))
        return false;
    if (link.index != 0 && !link_remove(link.index, err))
        return false;
    remove_folder(folder);
    return true;
}

/* --- Machines ------------------------------------------------------------------------------- */

static const struct machine *machine_of(const struct machine *list, size_t count, const char *mac) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].mac, mac) == 0)
            return &list[i];
    return NULL;
}

/* The record gives out addresses: who has it here without a cable is a machine that ended while
 * this network was not open, and makes way. */
static bool make_way(struct bridge *bridge, const struct machine *machine,
                     const struct machine *list, size_t count, struct im_err *err) {
    for (size_t i = 0; i < count; i++) {
        char tap[16];
        struct link link;

        if (strcmp(list[i].ip, machine->ip) != 0 || strcmp(list[i].mac, machine->mac) == 0)
            continue;
        tap_name(list[i].mac, tap);
        if (!link_find(tap, &link, err))
            return false;
        if (link.index != 0)
            return im_fail(err, IM_INTERNAL, "address %s is plugged already, for %s", machine->ip,
                           list[i].mac);
        if (!rules_unplug(&bridge->rules, &list[i], err) ||
            !dnsmasq_unplug(&bridge->dnsmasq, &list[i], err))
            return false;
    }
    return true;
}

static bool in_subnet(const struct bridge *bridge, const struct machine *machine,
                      struct im_err *err) {
    uint32_t address;

    return (address_parse(machine->ip, &address) &&
            subnet_for_machines(&bridge->subnet, address)) ||
           im_fail(err, IM_INTERNAL, "address %s does not belong to the machines of %s",
                   machine->ip, bridge->subnet.text);
}

static bool plug(struct bridge *bridge, const struct machine *machine, struct im_err *err) {
    IM_AUTO(free_auto) struct machine *list = NULL;
    const struct machine *had;
    struct link link;
    size_t count = 0;

    if (!in_subnet(bridge, machine, err) || !dnsmasq_machines(bridge->folder, &list, &count, err) ||
        !make_way(bridge, machine, list, count, err))
        return false;
    had = machine_of(list, count, machine->mac);
    if (had != NULL && strcmp(had->ip, machine->ip) != 0 && !rules_unplug(&bridge->rules, had, err))
        return false;
    return dnsmasq_plug(&bridge->dnsmasq, machine, err) &&
           rules_plug(&bridge->rules, machine, err) && link_find(bridge->name, &link, err) &&
           (link.index == 0 || settle_tap(link.index, machine, err));
}

bool bridge_plug(struct bridge *bridge, const char *mac, const char *ip, const char *hostname,
                 struct im_err *err) {
    struct machine machine = {0};
    bool plugged;

    if (!mac_parse(mac, machine.mac))
        return im_fail(err, IM_INTERNAL, "[%.32s] is no MAC address", mac ? mac : "");
    snprintf(machine.ip, sizeof(machine.ip), "%s", ip ? ip : "");
    /* A name that is none in DNS would spoil the file; the machine runs without it. */
    if (label_valid(hostname))
        snprintf(machine.hostname, sizeof(machine.hostname), "%s", hostname);
    pthread_mutex_lock(&bridge->lock);
    plugged = plug(bridge, &machine, err);
    pthread_mutex_unlock(&bridge->lock);
    return plugged;
}

bool bridge_unplug(struct bridge *bridge, const char *mac, struct im_err *err) {
    IM_AUTO(free_auto) struct machine *list = NULL;
    const struct machine *machine;
    char plain[MAC_TEXT];
    bool unplugged = true;
    size_t count = 0;

    if (!mac_parse(mac, plain))
        return true; /* never plugged */
    pthread_mutex_lock(&bridge->lock);
    unplugged = dnsmasq_machines(bridge->folder, &list, &count, err);
    machine = unplugged ? machine_of(list, count, plain) : NULL;
    /* No longer known to the rules, its port would be one that nobody watches: it is pulled out. */
    if (machine != NULL)
        unplugged = settle_tap(0, machine, err) && rules_unplug(&bridge->rules, machine, err) &&
                    dnsmasq_unplug(&bridge->dnsmasq, machine, err);
    pthread_mutex_unlock(&bridge->lock);
    return unplugged;
}

const char *bridge_name(const struct bridge *bridge) { return bridge->name; }

const struct subnet *bridge_subnet(const struct bridge *bridge) { return &bridge->subnet; }
