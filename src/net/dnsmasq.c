/* SPDX-License-Identifier: Apache-2.0 */
/* dnsmasq on our bridge: a file for each machine, and its process, which outlives ours and is known
 * by the one configuration file it was started with.
 *
 * It reads the files again at SIGHUP. Its own watch on folders (dhcp-hostsdir, 2.90) would be less
 * work, but keeps the old address of a machine beside the new one. */
#include "net-private.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"

enum {
    START_MS = 30000,
    START_TRIES = 15,
    STOP_MS = 10000,
    RELEASE_MS = 2000,
    CONFIG_MAX = 16384,
    LEASES_MAX = 8 << 20,
    LOG_MAX = 1 << 20,
    DHCP_PORT = 67
};

static char *path_of(const char *folder, const char *name) {
    return im_printf("%s/%s", folder, name);
}

/* --- Its process ---------------------------------------------------------------------------- */

/* The process runs dnsmasq with our file: never only a number, which another process may have by
 * now. */
static bool is_ours(pid_t pid, const char *argument) {
    char path[64], exe[256] = "", words[512] = "";
    IM_AUTO(fd_auto) int fd = -1;
    const char *base, *second;
    ssize_t len;

    snprintf(path, sizeof(path), "/proc/%d/exe", (int) pid);
    if (readlink(path, exe, sizeof(exe) - 1) <= 0)
        return false;
    base = strrchr(exe, '/');
    if (base == NULL || !im_starts_with(base, "/dnsmasq"))
        return false;
    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int) pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    len = fd >= 0 ? read(fd, words, sizeof(words) - 1) : -1;
    if (len <= 0)
        return false;
    second = words + strlen(words) + 1;
    return second < words + len && strcmp(second, argument) == 0;
}

static pid_t pid_from_file(const char *folder) {
    IM_AUTO(free_auto) char *path = path_of(folder, "dnsmasq.pid");
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err ignored = {0};
    size_t len;

    return im_read_file(path, 64, &text, &len, &ignored) ? (pid_t) strtol(text, NULL, 10) : 0;
}

static char *its_argument(const char *folder) {
    return im_printf("--conf-file=%s/dnsmasq.conf", folder);
}

pid_t dnsmasq_pid(const char *folder) {
    IM_AUTO(free_auto) char *argument = its_argument(folder);
    pid_t pid = pid_from_file(folder);
    struct dirent *entry;
    DIR *proc;

    if (pid > 0 && is_ours(pid, argument))
        return pid;
    /* The file may be gone, or not yet written when we were killed. */
    proc = opendir("/proc");
    for (pid = 0; proc != NULL && pid == 0 && (entry = readdir(proc)) != NULL;) {
        int candidate = atoi(entry->d_name);

        if (candidate > 0 && is_ours(candidate, argument))
            pid = candidate;
    }
    if (proc != NULL)
        closedir(proc);
    return pid;
}

/* A handle on the process, -1 if there is none: looked at again after it is held, so that a signal
 * through it cannot hit another one. */
static int its_pidfd(const char *folder) {
    IM_AUTO(free_auto) char *argument = its_argument(folder);
    pid_t pid = dnsmasq_pid(folder);
    IM_AUTO(fd_auto) int fd = pid > 0 ? pidfd_open(pid, 0) : -1;

    return fd >= 0 && is_ours(pid, argument) ? im_steal_fd(&fd) : -1;
}

static bool ended(int fd, int timeout_ms) {
    struct pollfd wait = {fd, POLLIN, 0};

    return poll(&wait, 1, timeout_ms) > 0;
}

bool dnsmasq_stop(const char *folder, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = its_pidfd(folder);
    IM_AUTO(free_auto) char *pid_path = path_of(folder, "dnsmasq.pid");

    if (fd >= 0 && pidfd_send_signal(fd, SIGTERM, NULL, 0) == 0 && !ended(fd, STOP_MS) &&
        pidfd_send_signal(fd, SIGKILL, NULL, 0) == 0 && !ended(fd, STOP_MS))
        return im_fail(err, IM_TIMEOUT, "dnsmasq (process %d) does not end",
                       (int) dnsmasq_pid(folder));
    unlink(pid_path);
    return true;
}

void dnsmasq_reload(const char *folder) {
    IM_AUTO(fd_auto) int fd = its_pidfd(folder);

    if (fd >= 0)
        (void) pidfd_send_signal(fd, SIGHUP, NULL, 0);
}

static const char *program(void) {
    static const char *const places[] = {"/usr/sbin/dnsmasq", "/usr/local/sbin/dnsmasq",
                                         "/usr/bin/dnsmasq", "/sbin/dnsmasq"};

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    return NULL;
}

bool dnsmasq_installed(void) { return program() != NULL; }

/* --- Its configuration ---------------------------------------------------------------------- */

static const struct passwd *its_user(void) {
    const struct passwd *user = getpwnam("dnsmasq");

    return user != NULL ? user : getpwnam("nobody");
}

/* bind-dynamic keeps it to the bridge, also for DHCP; without except-interface it would listen on
 * loopback, too. Names that machines claim for themselves do not count: the files have them. */
static char *config_text(const struct dnsmasq *dnsmasq, const char *user) {
    struct im_str out = {0};
    char network[ADDRESS_TEXT], mask[ADDRESS_TEXT];
    struct link link = {0};
    struct im_err ignored = {0};

    if (!link_find(dnsmasq->bridge, &link, &ignored))
        link.index = 0;
    address_text(dnsmasq->subnet->network, network);
    address_text(dnsmasq->subnet->mask, mask);
    /* The number is that of the interface: on a bridge made anew the sockets are bound to nothing.
     */
    im_str_addf(&out, "# Made by imprintd for %s (interface %d); changes are lost.\n",
                dnsmasq->bridge, link.index);
    im_str_addf(&out, "interface=%s\nexcept-interface=lo\nbind-dynamic\n", dnsmasq->bridge);
    im_str_addf(&out, "user=%s\ngroup=nogroup\n", user);
    im_str_addf(&out, "domain=%s\nlocal=/%s/\nexpand-hosts\nno-hosts\n", dnsmasq->domain,
                dnsmasq->domain);
    im_str_add(&out, "domain-needed\nbogus-priv\ndhcp-ignore-names\ndhcp-authoritative\n"
                     "quiet-dhcp\n");
    im_str_addf(&out, "dhcp-range=%s,static,%s,1h\ndhcp-lease-max=%u\n", network, mask,
                subnet_last(dnsmasq->subnet) - dnsmasq->subnet->network);
    im_str_addf(&out,
                "dhcp-hostsfile=%s/dhcp\naddn-hosts=%s/hosts\ndhcp-leasefile=%s/leases/leases\n",
                dnsmasq->folder, dnsmasq->folder, dnsmasq->folder);
    im_str_addf(&out, "pid-file=%s/dnsmasq.pid\nlog-facility=%s/dnsmasq.log\n", dnsmasq->folder,
                dnsmasq->folder);
    return im_str_take(&out);
}

static bool make_folders(const struct dnsmasq *dnsmasq, const struct passwd *user,
                         struct im_err *err) {
    static const char *const names[] = {"dhcp", "hosts", "leases"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        IM_AUTO(free_auto) char *path = path_of(dnsmasq->folder, names[i]);

        if (!im_make_dirs(path, 0755, err))
            return false;
        if (strcmp(names[i], "leases") == 0 && chown(path, user->pw_uid, user->pw_gid) < 0)
            return im_fail_sys(err, errno, "cannot give %s to user %s", path, user->pw_name);
    }
    return true;
}

static bool start(const struct dnsmasq *dnsmasq, struct im_err *err) {
    IM_AUTO(free_auto) char *argument = its_argument(dnsmasq->folder);
    IM_AUTO(free_auto) char *log = path_of(dnsmasq->folder, "dnsmasq.log");
    const char *const argv[] = {program(), argument, NULL};
    struct stat st;

    if (stat(log, &st) == 0 && st.st_size > LOG_MAX)
        unlink(log);
    /* One that was killed gives its sockets back a moment after it can no longer be seen. */
    for (int i = 0; i < START_TRIES - 1; i++) {
        struct im_err again = {0};

        if (im_run(argv, NULL, START_MS, NULL, &again))
            return true;
        im_sleep_ms(100);
    }
    return im_run(argv, NULL, START_MS, NULL, err);
}

bool dnsmasq_ensure(const struct dnsmasq *dnsmasq, struct im_err *err) {
    IM_AUTO(free_auto) char *path = path_of(dnsmasq->folder, "dnsmasq.conf");
    IM_AUTO(free_auto) char *had = NULL;
    IM_AUTO(free_auto) char *wanted = NULL;
    const struct passwd *user = its_user();
    struct im_err ignored = {0};
    bool same;
    size_t len;

    if (user == NULL)
        return im_fail(err, IM_UNSUPPORTED, "there is no user dnsmasq and no user nobody");
    if (!make_folders(dnsmasq, user, err))
        return false;
    wanted = config_text(dnsmasq, user->pw_name);
    same = im_read_file(path, CONFIG_MAX, &had, &len, &ignored) && strcmp(had, wanted) == 0;
    if (same && dnsmasq_pid(dnsmasq->folder) > 0)
        return true;
    return dnsmasq_stop(dnsmasq->folder, err) &&
           (same || im_write_file(path, wanted, strlen(wanted), 0644, err)) && start(dnsmasq, err);
}

/* --- Machines ------------------------------------------------------------------------------- */

/* Under a name that dnsmasq passes over, and then in one step; nobody needs it after a power cut,
 * so it is not synced. */
static bool put_file(const struct dnsmasq *dnsmasq, const char *kind, const char *mac,
                     const char *text, struct im_err *err) {
    IM_AUTO(free_auto) char *path = im_printf("%s/%s/%s", dnsmasq->folder, kind, mac);
    IM_AUTO(free_auto) char *fresh = im_printf("%s/%s/.%s", dnsmasq->folder, kind, mac);
    IM_AUTO(fd_auto) int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    if (fd < 0)
        return im_fail_sys(err, errno, "cannot make %s", fresh);
    (void) fchmod(fd, 0644);
    if (!im_write_all(fd, text, strlen(text), fresh, err))
        return false;
    return rename(fresh, path) == 0 || im_fail_sys(err, errno, "cannot make %s", path);
}

static bool drop_file(const struct dnsmasq *dnsmasq, const char *kind, const char *mac,
                      struct im_err *err) {
    IM_AUTO(free_auto) char *path = im_printf("%s/%s/%s", dnsmasq->folder, kind, mac);

    return unlink(path) == 0 || errno == ENOENT ||
           im_fail_sys(err, errno, "cannot remove %s", path);
}

static bool read_machine(const char *folder, const char *mac, struct machine *ret_machine) {
    IM_AUTO(free_auto) char *path = im_printf("%s/dhcp/%s", folder, mac);
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err ignored = {0};
    struct machine machine = {0};
    uint32_t address;
    size_t len;

    if (!im_read_file(path, 512, &text, &len, &ignored) ||
        sscanf(text, "%17[^,],id:*,%15[^,\n],%63[^\n]", machine.mac, machine.ip, machine.hostname) <
            2 ||
        strcmp(machine.mac, mac) != 0 || !address_parse(machine.ip, &address))
        return false;
    *ret_machine = machine;
    return true;
}

bool dnsmasq_machines(const char *folder, struct machine **ret_list, size_t *ret_count,
                      struct im_err *err) {
    IM_AUTO(free_auto) char *path = path_of(folder, "dhcp");
    struct machine *list = NULL;
    size_t count = 0, capacity = 0;
    struct dirent *entry;
    DIR *dir = opendir(path);

    if (dir == NULL && errno != ENOENT)
        return im_fail_sys(err, errno, "cannot read %s", path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char mac[MAC_TEXT];

        if (!mac_parse(entry->d_name, mac))
            continue;
        im_grow(&list, count, &capacity);
        if (read_machine(folder, mac, &list[count]))
            count++;
    }
    if (dir != NULL)
        closedir(dir);
    *ret_list = list;
    *ret_count = count;
    return true;
}

/* --- Leases --------------------------------------------------------------------------------- */

/* Tells dnsmasq in the machine's name that it needs its address no more (RFC 2131, DHCPRELEASE). An
 * address on lease to one machine would not be given to another. */
static void release(const struct dnsmasq *dnsmasq, const char *mac, const char *ip) {
    unsigned char packet[300] = {1, 1, 6}; /* a request, from an Ethernet of six bytes */
    const unsigned char tail[] = {0x63, 0x82, 0x53, 0x63, 53, 1, 7, 54, 4};
    uint32_t gateway = htonl(subnet_gateway(dnsmasq->subnet)), address = 0;
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(DHCP_PORT), .sin_addr.s_addr = gateway};
    IM_AUTO(fd_auto) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || !address_parse(ip, &address))
        return;
    address = htonl(address);
    memcpy(packet + 12, &address, 4);
    for (int i = 0; i < 6; i++)
        packet[28 + i] = (unsigned char) strtoul(mac + (size_t) i * 3, NULL, 16);
    memcpy(packet + 236, tail, sizeof(tail));
    memcpy(packet + 236 + sizeof(tail), &gateway, 4);
    packet[236 + sizeof(tail) + 4] = 255;
    /* Bound to the bridge, it reaches the socket that dnsmasq has bound there. */
    (void) setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, dnsmasq->bridge, strlen(dnsmasq->bridge));
    (void) sendto(fd, packet, sizeof(packet), 0, (struct sockaddr *) &to, sizeof(to));
}

/* A lease that contradicts the machine: its address with another MAC, or its MAC with another
 * address. */
static bool find_lease(const struct dnsmasq *dnsmasq, const struct machine *machine,
                       struct machine *ret_holder) {
    IM_AUTO(free_auto) char *path = path_of(dnsmasq->folder, "leases/leases");
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err ignored = {0};
    size_t len;

    if (!im_read_file(path, LEASES_MAX, &text, &len, &ignored))
        return false;
    for (const char *line = text; line != NULL && *line != '\0';) {
        struct machine holder = {0};
        const char *end = strchr(line, '\n');

        if (sscanf(line, "%*s %17s %15s", holder.mac, holder.ip) == 2 &&
            (strcmp(holder.ip, machine->ip) == 0) != (strcmp(holder.mac, machine->mac) == 0)) {
            *ret_holder = holder;
            return true;
        }
        line = end != NULL ? end + 1 : NULL;
    }
    return false;
}

/* Where asking does not help, dnsmasq starts again without its leases: machines that have theirs
 * get them again when they renew them. */
static bool clear_leases(const struct dnsmasq *dnsmasq, const struct machine *machine,
                         struct im_err *err) {
    IM_AUTO(free_auto) char *path = path_of(dnsmasq->folder, "leases/leases");
    int64_t deadline = im_mono_ms() + RELEASE_MS;
    struct machine holder;

    while (find_lease(dnsmasq, machine, &holder)) {
        if (im_mono_ms() >= deadline) {
            if (!dnsmasq_stop(dnsmasq->folder, err))
                return false;
            unlink(path);
            return start(dnsmasq, err);
        }
        release(dnsmasq, holder.mac, holder.ip);
        im_sleep_ms(10);
    }
    return true;
}

static bool same_machine(const struct machine *a, const struct machine *b) {
    return strcmp(a->mac, b->mac) == 0 && strcmp(a->ip, b->ip) == 0 &&
           strcmp(a->hostname, b->hostname) == 0;
}

/* A signal comes before any packet that is sent after it. */
bool dnsmasq_plug(const struct dnsmasq *dnsmasq, const struct machine *machine,
                  struct im_err *err) {
    bool named = machine->hostname[0] != '\0';
    IM_AUTO(free_auto)
    char *fixed = im_printf("%s,id:*,%s%s%s\n", machine->mac, machine->ip, named ? "," : "",
                            machine->hostname);
    IM_AUTO(free_auto) char *name = im_printf("%s %s\n", machine->ip, machine->hostname);
    struct machine had;

    if (!read_machine(dnsmasq->folder, machine->mac, &had) || !same_machine(&had, machine)) {
        if (!(named ? put_file(dnsmasq, "hosts", machine->mac, name, err)
                    : drop_file(dnsmasq, "hosts", machine->mac, err)) ||
            !put_file(dnsmasq, "dhcp", machine->mac, fixed, err))
            return false;
        dnsmasq_reload(dnsmasq->folder);
    }
    return clear_leases(dnsmasq, machine, err);
}

bool dnsmasq_unplug(const struct dnsmasq *dnsmasq, const struct machine *machine,
                    struct im_err *err) {
    if (!drop_file(dnsmasq, "hosts", machine->mac, err) ||
        !drop_file(dnsmasq, "dhcp", machine->mac, err))
        return false;
    dnsmasq_reload(dnsmasq->folder);
    release(dnsmasq, machine->mac, machine->ip);
    return true;
}
