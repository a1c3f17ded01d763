/* SPDX-License-Identifier: Apache-2.0 */
/* The bridge as machines and the host meet it, in namespaces of our own: this program is the host,
 * "a" and "b" are machines on the far end of veth pairs, "world" is what lies beyond. Real dnsmasq,
 * real packet filter, busybox as the machines' DHCP client. */
#include "net-private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "harness/test.h"

enum { COMMAND_MS = 60000 };

#define MAC_A "52:54:9e:00:00:0a"
#define MAC_B "52:54:9e:00:00:0b"

static const char *folder;
static char *state_dir;
static struct net_config config;
static struct net *net;
static pid_t services[8];
static size_t service_count;

/* --- Commands ------------------------------------------------------------------------------- */

static bool sh(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What the last command said. */
static char output[65536];

static bool sh(const char *format, ...) {
    IM_AUTO(free_auto) char *command = NULL, *out = NULL;
    struct im_err err = {0};
    va_list args;
    bool ran;

    va_start(args, format);
    if (vasprintf(&command, format, args) < 0)
        abort();
    va_end(args);
    ran = im_run((const char *const[]){"sh", "-c", command, NULL}, NULL, COMMAND_MS, &out, &err);
    snprintf(output, sizeof(output), "%s", out ? out : err.text);
    return ran;
}

/* The same on one line, as TAP wants it. */
static const char *said(void) {
    static char line[512];

    snprintf(line, sizeof(line), "%s", output);
    for (char *c = line; *c != '\0'; c++)
        if (*c == '\n')
            *c = ' ';
    return line;
}

/* Runs until the test ends. */
static void service(const char *const argv[]) {
    struct im_err err = {0};

    if (!im_start(argv, NULL, &services[service_count++], &err))
        test_note("%s", err.text);
}

static void stop_services(void) {
    for (size_t i = 0; i < service_count; i++) {
        kill(services[i], SIGKILL);
        waitpid(services[i], NULL, 0);
    }
    service_count = 0;
}

static void clean_up(void) {
    struct im_err err = {0};

    stop_services();
    for (const char *c = "ab"; *c != '\0'; c++)
        (void) sh("ip netns del %c", *c);
    (void) sh("ip netns del world");
    (void) !net_remove(&config, &err);
}

/* --- The scenery ---------------------------------------------------------------------------- */

static void need(bool there, const char *what) {
    if (!there)
        test_skip_all(im_printf("%s: %s", what, output));
}

static void write_text(const char *name, const char *text, mode_t mode) {
    IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, name);

    check_ok(im_write_file(path, text, strlen(text), mode, &err), "%s is written", name);
}

/* The rest runs as process 1 of a namespace: with it ends whatever it started, however it ends. */
static void become_first(void) {
    pid_t first = fork();
    int status = 0;

    if (first == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        return;
    }
    while (waitpid(first, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void enter_namespaces(void) {
    bool entered;

    if (geteuid() != 0)
        test_skip_all("needs root");
    entered = unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID) == 0;
    if (entered)
        become_first();
    if (!entered || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("proc", "/proc", "proc", 0, NULL) < 0 ||
        mount("none", "/run", "tmpfs", 0, "mode=0755") < 0) {
        snprintf(output, sizeof(output), "%s", strerror(errno));
        need(false, "this machine allows no namespaces");
    }
    need(sh("ip link set lo up"), "iproute2");
    need(sh("busybox udhcpc --help 2>&1 | grep -q udhcpc"), "busybox");
    need(sh("command -v nft"), "nft");
    need(sh("test -x /usr/sbin/dnsmasq"), "dnsmasq");
    need(sh("ip netns add world && ip netns add a && ip netns add b"), "network namespaces");
    need(sh("nft add table bridge probe && nft delete table bridge probe"), "nftables for bridges");
    folder = test_folder();
    chmod(folder, 0755);
}

/* The world has a name server and a web server, and knows no way to the machines. */
static void make_world(void) {
    IM_AUTO(free_auto) char *names = im_printf("%s/world.conf", folder);
    IM_AUTO(free_auto) char *resolv = im_printf("%s/resolv.conf", folder);
    IM_AUTO(free_auto) char *www = im_printf("%s/www", folder);

    write_text("world.conf",
               "port=53\nno-resolv\nno-hosts\nlisten-address=192.0.2.2\nbind-interfaces\n"
               "address=/world.test/192.0.2.77\nuser=root\npid-file=\n",
               0644);
    write_text("resolv.conf", "nameserver 192.0.2.2\n", 0644);
    check(sh("ip link add outside type veth peer name eth0 netns world && "
             "ip addr add 192.0.2.1/24 dev outside && ip link set outside up && "
             "ip -n world addr add 192.0.2.2/24 dev eth0 && ip -n world link set eth0 up && "
             "ip -n world link set lo up && mkdir -p %s && echo hello >%s/index.html",
             www, www) &&
              mount(resolv, "/etc/resolv.conf", NULL, MS_BIND, NULL) == 0,
          "there is a world: %s", said());
    service(
        (const char *const[]){"ip", "netns", "exec", "world", "dnsmasq", "-k", "-C", names, NULL});
    service((const char *const[]){"ip", "netns", "exec", "world", "busybox", "httpd", "-f", "-p",
                                  "80", "-h", www, NULL});
}

/* The far end of a machine's cable, and a DHCP client that puts there what it is told. */
static void make_guest(char name, const char *mac) {
    char tap[16];

    tap_name(mac, tap);
    check(sh("ip link add %s type veth peer name eth0 netns %c && ip -n %c link set lo up && "
             "ip -n %c link set eth0 address %s && ip -n %c link set eth0 up && "
             "ip link set %s master imbr0 && ip link set %s up",
             tap, name, name, name, mac, name, tap, tap),
          "machine %c is on the bridge: %s", name, said());
}

static bool dhcp(char name) {
    return sh("ip netns exec %c busybox udhcpc -i eth0 -n -q -f -t 10 -T 1 -s %s/dhcp.sh 2>&1",
              name, folder);
}

static bool has_address(char name, const char *ip) {
    return sh("ip -n %c -4 -o addr show eth0 | grep -qF ' %s/20 '", name, ip);
}

static bool pings(char name, const char *where) {
    return sh("ip netns exec %c busybox ping -c 1 -W 1 -w 2 %s", name, where);
}

static bool resolves(char name, const char *what, const char *ip) {
    return sh("ip netns exec %c busybox nslookup -type=a %s 10.180.0.1 | grep -qx 'Address: %s'",
              name, what, ip);
}

static bool fetches(char name, const char *ip, int port) {
    return sh("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | ip netns exec %c busybox timeout 3 busybox nc "
              "-w 3 %s %d"
              " | grep -q hello",
              name, ip, port);
}

static pid_t its_pid(void) {
    IM_AUTO(free_auto) char *path = NULL;

    if (!sh("ls -d /run/imprint/imbr0-*"))
        return 0;
    path = im_strndup(output, strcspn(output, "\n"));
    return dnsmasq_pid(path);
}

/* --- Claims --------------------------------------------------------------------------------- */

static bool open_net(void) {
    struct im_err err = {0};

    net = net_open(&config, &err);
    if (net == NULL)
        test_note("%s", err.text);
    return net != NULL;
}

static void test_open(void) {
    uint32_t first, last, gateway;

    check(open_net(), "the network opens");
    if (net == NULL)
        exit(test_end() | 1);
    check(net_kind(net) == NET_BRIDGE && strcmp(net_bridge_name(net), "imbr0") == 0 &&
              net_reason(net)[0] == '\0',
          "as a bridge");
    net_range(net, &first, &last, &gateway);
    check(gateway == 0x0ab40001 && first == 0x0ab40002 && last == 0x0ab40ffe, "with its range");
    check(sh("ip -o -4 addr show dev imbr0 | grep -qF 10.180.0.1/20"), "the host has the first");
    check(sh("test $(cat /proc/sys/net/ipv4/ip_forward) = 1"), "the host forwards");
    check(sh("test -z \"$(ip -6 -o addr show dev imbr0)\""), "IPv6 is off on the bridge");
    check(its_pid() > 0 && sh("ps -o user= -p %d | grep -qE 'dnsmasq|nobody'", its_pid()),
          "dnsmasq runs, and not as root: %s", said());
    check(sh("ss -Hlnup | grep pid=%d | grep -vE '10.180.0.1:53 |%%imbr0:67 ' | wc -l | grep -qx 0",
             its_pid()) &&
              sh("ss -Hlnup | grep -c pid=%d | grep -qx 2", its_pid()),
          "it listens on the bridge and nowhere else");
}

static void test_guests(void) {
    check_ok(net_plug(net, MAC_A, "10.180.0.10", "alpha", &err), "machine a is plugged");
    check_ok(net_plug(net, MAC_B, "10.180.0.11", "beta", &err), "machine b is plugged");
    make_guest('a', MAC_A);
    make_guest('b', MAC_B);
    check(dhcp('a') && has_address('a', "10.180.0.10"), "a gets its fixed address: %s", said());
    check(sh("grep -qx 'alpha imprint.internal 10.180.0.1' %s/told", folder),
          "with its name, the domain and a name server");
    check(dhcp('b') && has_address('b', "10.180.0.11"), "b gets the other one: %s", said());
    check(pings('a', "10.180.0.1") && pings('a', "10.180.0.11"), "a reaches host and b");
    check(sh("busybox ping -c 1 -w 3 10.180.0.10"), "the host reaches a");
    check(resolves('a', "beta", "10.180.0.11") &&
              resolves('a', "beta.imprint.internal", "10.180.0.11"),
          "names of machines resolve");
    check(resolves('a', "www.world.test", "192.0.2.77"), "names of the world resolve: %s", said());
    check(!resolves('a', "gamma.imprint.internal", "10.*"), "unknown names do not");
}

static void test_world(void) {
    check(fetches('a', "192.0.2.2", 80), "a fetches a page of the world, masqueraded");
    check(sh("ip -n world route add 10.180.0.0/20 via 192.0.2.1"), "the world learns the way in");
    check(!sh("ip netns exec world busybox ping -c 1 -W 1 -w 1 10.180.0.10"),
          "and is not let in all the same");
}

static void test_host_services(void) {
    IM_AUTO(free_auto) char *www = im_printf("%s/www", folder);

    service((const char *const[]){"busybox", "httpd", "-f", "-p", "7200", "-h", www, NULL});
    service((const char *const[]){"busybox", "httpd", "-f", "-p", "7201", "-h", www, NULL});
    check(fetches('a', "10.180.0.1", 7200), "a port of host_ports is open to machines");
    check(!fetches('a', "10.180.0.1", 7201), "another is not");
    check(!fetches('a', "192.0.2.1", 7200), "nor at the host's other addresses");
    check(
        sh("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 2 10.180.0.1 7201 | grep -q hello"),
        "the host itself reaches it");
}

/* Counts what the host hears of this kind from now on: that no answer comes proves nothing, as it
 * would go to the one whose address it is. */
static void listen_for(const char *what) {
    check(sh("nft add table ip probe && nft delete table ip probe && nft add table ip probe && "
             "nft 'add chain ip probe in { type filter hook prerouting priority -500; }' && "
             "nft add rule ip probe in iifname imbr0 %s counter",
             what),
          "the host listens for %s: %s", what, said());
}

static bool heard(void) { return sh("nft list chain ip probe in | grep -q 'packets [1-9]'"); }

static void send_from(char name, const char *source, const char *to) {
    (void) sh("ip netns exec %c busybox ping -c 1 -W 1 -w 1 -I %s %s", name, source, to);
}

/* A datagram from this port of a machine to one of the host. */
static bool send_udp(char name, int from, int to) {
    pid_t child = fork();
    int status = 1;

    if (child == 0) {
        IM_AUTO(free_auto) char *path = im_printf("/run/netns/%c", name);
        int there = open(path, O_RDONLY | O_CLOEXEC), fd;
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) from)};

        if (setns(there, CLONE_NEWNET) < 0 || (fd = socket(AF_INET, SOCK_DGRAM, 0)) < 0 ||
            bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0)
            _exit(1);
        address.sin_port = htons((uint16_t) to);
        address.sin_addr.s_addr = inet_addr("10.180.0.1");
        _exit(sendto(fd, "offer", 5, 0, (struct sockaddr *) &address, sizeof(address)) != 5);
    }
    waitpid(child, &status, 0);
    return status == 0;
}

static void test_spoofing(void) {
    check(sh("ip -n b addr add 10.180.0.10/20 dev eth0"), "b takes the address of a");
    listen_for("ip saddr 10.180.0.11");
    send_from('b', "10.180.0.11", "10.180.0.1");
    check(heard(), "it is heard with its own address");
    listen_for("ip saddr 10.180.0.10");
    send_from('b', "10.180.0.10", "10.180.0.1");
    send_from('b', "10.180.0.10", "192.0.2.2");
    check(!heard(), "not with that of a");
    send_from('a', "10.180.0.10", "10.180.0.1");
    check(heard(), "with which a is");
    check(sh("ip neigh flush dev imbr0; ip netns exec b busybox arping -q -c 2 -w 3 -I eth0"
             " -s 10.180.0.10 10.180.0.1; ! ip neigh show dev imbr0 | grep -q '10.180.0.10 .*%s'",
             MAC_B),
          "its ARP does not take a's place at the host: %s", said());
    check(sh("ip -n b addr del 10.180.0.10/20 dev eth0 && ip -n b link set eth0 address %s", MAC_A),
          "b takes the MAC of a");
    listen_for("ether saddr " MAC_A " ip saddr 10.180.0.11");
    send_from('b', "10.180.0.11", "10.180.0.1");
    check(!heard(), "and is not heard");
    listen_for("ether saddr " MAC_A " udp dport 67");
    check(!sh("ip netns exec b busybox udhcpc -i eth0 -n -q -f -t 2 -T 1 -s /bin/true 2>&1") &&
              !heard(),
          "nor given the address of a");
    check(sh("ip -n b link set eth0 address %s", MAC_B), "b has its own MAC again");
    listen_for("udp dport 68");
    check(send_udp('b', 67, 68) && !heard() && send_udp('b', 66, 68) && heard(),
          "it is no DHCP server");
    check(pings('b', "10.180.0.1"), "as itself it is heard");
    check(!sh("ip -n b -6 addr add fd00::b/64 dev eth0 nodad && ip -n a -6 addr add fd00::a/64 dev"
              " eth0 nodad && ip netns exec b busybox ping6 -c 1 -W 1 -w 1 fd00::a"),
          "IPv6 passes between no machines");
    check(sh("nft delete table ip probe"), "the host listens no more");
}

static void test_replug(void) {
    check_ok(net_plug(net, MAC_A, "10.180.0.10", "alpha", &err), "plugging a again is fine");
    check_err(net_plug(net, MAC_A, "10.180.0.11", "alpha", &err), IM_INTERNAL,
              "not with the address of b");
    check_err(net_plug(net, MAC_A, "10.180.0.1", "alpha", &err), IM_INTERNAL,
              "nor with the host's");
    check_err(net_plug(net, MAC_A, "10.180.16.1", "alpha", &err), IM_INTERNAL,
              "nor with one outside the subnet");
    check_err(net_plug(net, "nonsense", "10.180.0.20", "alpha", &err), IM_INTERNAL,
              "nor with a MAC that is none");
    check_ok(net_plug(net, "52:54:9e:00:00:0c", "10.180.0.20", "delta", &err),
             "a machine is plugged that never runs");
    check_ok(net_plug(net, MAC_A, "10.180.0.20", "gamma", &err), "a gets another address and name");
    check(!pings('a', "10.180.0.1"), "the old one is no longer heard");
    check_ok(net_plug(net, MAC_B, "10.180.0.10", "beta", &err), "b gets the address of a");
    check(dhcp('b') && has_address('b', "10.180.0.10"), "whose lease is not in the way: %s",
          said());
    check_ok(net_plug(net, MAC_B, "10.180.0.11", "beta", &err), "and its own again");
    check(dhcp('b'), "by DHCP: %s", said());
    check(dhcp('a') && has_address('a', "10.180.0.20") && pings('a', "10.180.0.1"),
          "the new one takes effect at once: %s", said());
    check(resolves('b', "gamma", "10.180.0.20") && !resolves('b', "alpha", "10.*") &&
              !resolves('b', "delta", "10.*"),
          "so does the name");
    /* While the lease of a is still in force. */
    check_ok(net_unplug(net, MAC_A, &err), "a is unplugged");
    check_ok(net_unplug(net, MAC_A, &err), "twice");
    check(!resolves('b', "gamma", "10.*"), "its name is gone");
    check(!pings('a', "10.180.0.1"), "and its cable is out");
    check_ok(net_plug(net, MAC_B, "10.180.0.20", "bad name\n", &err), "b gets the address of a");
    check(dhcp('b') && has_address('b', "10.180.0.20"), "at once: %s", said());
    check_ok(net_plug(net, MAC_B, "10.180.0.11", "beta", &err), "and its own again");
    check_ok(net_plug(net, MAC_A, "10.180.0.10", "alpha", &err), "as does a");
    check(dhcp('a') && dhcp('b') && has_address('b', "10.180.0.11"), "both have them: %s", said());
}

static void test_heal(void) {
    pid_t pid = its_pid();

    check_ok(net_heal(net, &err), "nothing is wrong");
    check(its_pid() == pid, "and nothing is started again");
    kill(pid, SIGKILL);
    for (int i = 0; i < 300 && its_pid() == pid; i++)
        im_sleep_ms(100);
    check_ok(net_heal(net, &err), "dnsmasq was killed");
    check(its_pid() > 0 && its_pid() != pid && dhcp('a'), "another one runs: %s", said());
    check(sh("nft flush ruleset"), "all rules are flushed");
    check_ok(net_heal(net, &err), "healed");
    check(fetches('a', "192.0.2.2", 80) && !fetches('a', "10.180.0.1", 7201), "they are back");
    check(sh("nft delete rule inet imprint_imbr0 input handle $(nft -a list table inet "
             "imprint_imbr0 | sed -n 's/.*\\sdrop # handle //p' | head -n 1)") &&
              sh("nft flush set bridge imprint_imbr0 addresses") && !pings('a', "10.180.0.1"),
          "one rule and the elements of a set are gone: %s", said());
    check_ok(net_heal(net, &err), "healed");
    check(pings('a', "10.180.0.1") && !fetches('a', "10.180.0.1", 7201), "also these");
    check(sh("ip link del imbr0 && echo 0 >/proc/sys/net/ipv4/ip_forward"),
          "the bridge is deleted, and nothing is forwarded");
    check_ok(net_heal(net, &err), "healed");
    check(dhcp('a') && dhcp('b') && pings('a', "10.180.0.11") && fetches('a', "192.0.2.2", 80),
          "the machines are on it again: %s", said());
}

/* What docker, ufw and firewalld leave behind. */
static void test_host_filter(void) {
    check(sh("nft add table ip filter && nft 'add chain ip filter FORWARD { type filter hook "
             "forward priority 0; policy drop; }' && nft 'add chain ip filter INPUT { type filter "
             "hook input priority 0; policy drop; }' && nft add table inet firewalld && nft 'add "
             "chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }' && "
             "nft add rule inet firewalld filter_FORWARD ct state established accept && nft add "
             "rule inet firewalld filter_FORWARD reject"),
          "the host's own filter drops: %s", said());
    check(!fetches('a', "192.0.2.2", 80), "machines are cut off");
    check_ok(net_heal(net, &err), "healed");
    check_ok(net_heal(net, &err), "once more");
    check(dhcp('a') && fetches('a', "192.0.2.2", 80), "they are on the net again: %s", said());
    check(sh("nft list chain ip filter FORWARD | grep -c 'comment \"imprint imbr0\"' | grep -qx 2"),
          "by two rules with our mark");
    check(pings('a', "10.180.0.11"), "machines reach each other");
    check(!fetches('a', "10.180.0.1", 7201), "while nothing of the host is open");
}

static void test_takeover(void) {
    pid_t pid = its_pid(), child;

    net_close(net);
    child = fork();
    if (child == 0) {
        if (open_net())
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    check(waitpid(child, &(int){0}, 0) == child && its_pid() == pid && pid > 0,
          "dnsmasq outlives a process that opened the network and was killed");
    check(fetches('a', "192.0.2.2", 80), "machines did not notice");
    check(open_net(), "the next one opens it");
    if (net == NULL)
        exit(test_end() | 1);
    check(its_pid() == pid, "and takes dnsmasq over");
    check(pings('a', "10.180.0.1"), "and the machines");
    check_ok(net_unplug(net, MAC_A, &err), "whom it can unplug");
    check(!pings('a', "10.180.0.1"), "which takes effect");
    check_ok(net_plug(net, MAC_A, "10.180.0.10", "alpha", &err), "a is back");
}

/* The number in the pid file is that of a stranger: it must live. */
static void test_pid_reuse(void) {
    pid_t pid = its_pid(), stranger;

    service((const char *const[]){"sleep", "600", NULL});
    stranger = services[service_count - 1];
    kill(pid, SIGKILL);
    for (int i = 0; i < 300 && its_pid() == pid; i++)
        im_sleep_ms(100);
    check(sh("echo %d >$(ls -d /run/imprint/imbr0-*)/dnsmasq.pid", stranger),
          "the pid file names a stranger");
    check_ok(net_heal(net, &err), "healed");
    check(its_pid() > 0 && its_pid() != stranger && kill(stranger, 0) == 0 &&
              waitpid(stranger, NULL, WNOHANG) == 0,
          "by another dnsmasq, and the stranger lives");
}

static void refused(struct net_config wrong, enum im_code code, const char *words) {
    struct im_err err = {0};
    struct net *opened;

    wrong.mode = "bridge";
    opened = net_open(&wrong, &err);
    check(opened == NULL && err.code == code && strstr(err.text, words) != NULL, "refused: %s",
          opened ? "not at all" : err.text);
    if (opened != NULL)
        net_close(opened);
}

static void test_refusals(void) {
    struct net_config other = config, wrong;

    other.bridge = "imbr1";
    other.subnet = "10.181.0.0/29";
    wrong = other;
    wrong.subnet = "10.181.0.1/29";
    refused(wrong, IM_BAD_MESSAGE, "10.181.0.0/29 is the network");
    wrong = other;
    wrong.subnet = "192.0.2.128/25";
    refused(wrong, IM_UNSUPPORTED, "the address 192.0.2.1/24");
    wrong = other;
    wrong.subnet = "10.180.8.0/24";
    refused(wrong, IM_UNSUPPORTED, "the address 10.180.0.1/20");
    wrong = other;
    wrong.bridge = "abcdefghijklmnop";
    refused(wrong, IM_BAD_MESSAGE, "1 to 15 characters");
    wrong.bridge = "a b";
    refused(wrong, IM_BAD_MESSAGE, "should consist of");
    wrong.bridge = "outside";
    refused(wrong, IM_UNSUPPORTED, "interface outside exists already");
    wrong = other;
    wrong.domain = "no domain";
    refused(wrong, IM_BAD_MESSAGE, "no name of a domain");
    wrong = other;
    wrong.host_ports = "7200, ssh";
    refused(wrong, IM_BAD_MESSAGE, "[ssh] is no port");
    wrong = other;
    wrong.bridge = "imbr0";
    wrong.state_dir = "/another";
    refused(wrong, IM_UNSUPPORTED, "belongs to the imprintd of");
    check(!sh("ip link show imbr1"), "nothing is left of what failed");
}

static void test_auto(void) {
    struct net_config other = config;
    struct im_err err = {0};
    struct net *second;

    other.mode = "auto";
    other.bridge = "outside";
    other.subnet = "10.181.0.0/29";
    second = net_open(&other, &err);
    check(second != NULL && net_kind(second) == NET_USER &&
              strstr(net_reason(second), "outside exists already") != NULL,
          "auto falls back: %s", second ? net_reason(second) : err.text);
    if (second != NULL)
        net_close(second);
    other.subnet = "10.181.0.0";
    check_err((second = net_open(&other, &err)) != NULL, IM_BAD_MESSAGE,
              "but not over a mistake in the configuration");
}

/* Another imprintd on the same host. */
static void test_second(void) {
    struct net_config other = config;
    uint32_t first, last, gateway;
    struct im_err err = {0};
    struct net *second;

    other.bridge = "imbr1";
    other.subnet = "10.181.0.0/29";
    other.state_dir = "/another";
    second = net_open(&other, &err);
    if (!check(second != NULL, "a second one opens beside it: %s", err.text))
        return;
    net_range(second, &first, &last, &gateway);
    check(last - first == 4, "five addresses are few, and enough");
    check(sh("nft list tables | grep -c imprint_imbr | grep -qx 4"), "each has its own tables");
    check(dhcp('a') && fetches('a', "192.0.2.2", 80), "the first one still works: %s", said());
    net_close(second);
    /* Its folder is gone, and so is its imprintd. */
    other.state_dir = "/a-third";
    second = net_open(&other, &err);
    if (!check(second != NULL, "a third one inherits a bridge without machines: %s", err.text))
        return;
    net_close(second);
    check_ok(net_remove(&other, &err), "and removes it");
    check(!sh("ip link show imbr1") && sh("nft list tables | grep -c imprint | grep -qx 2"),
          "with its tables");
}

static void test_remove(void) {
    pid_t pid = its_pid();

    check_err(net_remove(&config, &err), IM_WRONG_STATE, "it is not removed while it is open");
    net_close(net);
    check_err(net_remove(&config, &err), IM_WRONG_STATE, "nor while machines are on it");
    check(sh("ip link del imt52549e00000a && ip link del imt52549e00000b"), "the machines end");
    check_ok(net_remove(&config, &err), "now it is removed");
    check(!sh("ip link show imbr0"), "the bridge is gone");
    check(!sh("nft list ruleset | grep imprint"), "so are our rules: %s", said());
    check(sh("nft list table ip filter | grep -q 'policy drop'"), "the host's own stay");
    check(pid > 0 && its_pid() == 0, "dnsmasq is gone");
    check(!sh("ls -d /run/imprint/imbr0-*"), "and its files");
    check_ok(net_remove(&config, &err), "removing it again is fine");
}

int main(void) {
    enter_namespaces();
    state_dir = im_printf("%s/state", folder);
    config = (struct net_config){.mode = "bridge",
                                 .bridge = "imbr0",
                                 .subnet = "10.180.0.0/20",
                                 .domain = "imprint.internal",
                                 .nat = true,
                                 .host_ports = "7200, 7202",
                                 .state_dir = state_dir};
    atexit(clean_up);
    write_text("dhcp.sh",
               "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr flush dev eth0\n"
               "ip addr add $ip/20 dev eth0\nip route add default via $router\n"
               "echo $hostname $domain $dns >${0%/*}/told\n",
               0755);
    make_world();
    test_open();
    test_guests();
    test_world();
    test_host_services();
    test_spoofing();
    test_replug();
    test_heal();
    test_host_filter();
    test_takeover();
    test_pid_reuse();
    test_refusals();
    test_auto();
    test_second();
    test_remove();
    return test_end();
}
