/* SPDX-License-Identifier: Apache-2.0 */
/* What is checked before anything is made: networks, addresses, names; and user mode's ports. */
#include "net-private.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness/test.h"

static void test_subnets(void) {
    static const char *const bad[] = {"",
                                      "10.180.0.0",
                                      "10.180.0.0/",
                                      "10.180.0/20",
                                      "10.180.0.0/33",
                                      "10.180.0.0/30",
                                      "10.0.0.0/7",
                                      "10.180.0.1/20",
                                      "127.0.0.0/8",
                                      "169.254.0.0/16",
                                      "224.0.0.0/8",
                                      "0.0.0.0/8",
                                      "10.180.0.0/20 ",
                                      "fd00::/64",
                                      "999999999999999999999.0.0.0/8"};
    struct subnet subnet = {0};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        check_err(subnet_parse(bad[i], &subnet, &err), IM_BAD_MESSAGE, "subnet [%s] is refused",
                  bad[i]);
    check_ok(subnet_parse("10.180.0.0/20", &subnet, &err), "a good one is taken");
    check(subnet_gateway(&subnet) == 0x0ab40001 && subnet_last(&subnet) == 0x0ab40ffe,
          "with its gateway and its last address");
    check(
        !subnet_for_machines(&subnet, 0x0ab40000) && !subnet_for_machines(&subnet, 0x0ab40001) &&
            subnet_for_machines(&subnet, 0x0ab40002) && subnet_for_machines(&subnet, 0x0ab40ffe) &&
            !subnet_for_machines(&subnet, 0x0ab40fff) && !subnet_for_machines(&subnet, 0x0ab41000),
        "machines get what lies between gateway and broadcast");
}

static void test_words(void) {
    char mac[MAC_TEXT] = "", tap[16];

    check(mac_parse("52:54:9E:AB:CD:EF", mac) && strcmp(mac, "52:54:9e:ab:cd:ef") == 0,
          "a MAC is read, in lower case from then on");
    check(!mac_parse("53:54:9e:ab:cd:ef", mac) && !mac_parse("52-54-9e-ab-cd-ef", mac) &&
              !mac_parse("52:54:9e:ab:cd", mac) && !mac_parse("52:54:9e:ab:cd:eg", mac) &&
              !mac_parse("", mac) && !mac_parse(NULL, mac),
          "a group's, one with dashes, a short one and nonsense are not");
    tap_name("52:54:9e:ab:cd:ef", tap);
    check(strcmp(tap, "imt52549eabcdef") == 0, "the name of its tap fits into 15 characters");
    check(label_valid("web-1") && label_valid("I-2abc") && !label_valid("") && !label_valid(NULL) &&
              !label_valid("-web") && !label_valid("web-") && !label_valid("web.example") &&
              !label_valid("web\nx") && !label_valid("web,x") &&
              !label_valid("0123456789012345678901234567890123456789012345678901234567890123"),
          "only one label of DNS is a name for a machine");
}

static void test_user_mode(void) {
    const struct net_config config = {.mode = "user",
                                      .bridge = "imbr0",
                                      .subnet = "10.180.0.0/20",
                                      .domain = "imprint.internal",
                                      .state_dir = "/nonexistent"};
    struct im_err err = {0};
    struct net *net = net_open(&config, &err);
    uint32_t first, last, gateway;

    if (!check(net != NULL && net_kind(net) == NET_USER, "user mode needs nothing"))
        return;
    net_range(net, &first, &last, &gateway);
    check(first == 0x0a00020f && last == first && gateway == 0x0a000202,
          "every machine has 10.0.2.15 there");
    check(net_reason(net)[0] == '\0' && net_bridge_name(net)[0] == '\0',
          "there is no reason for it and no bridge");
    check_ok(net_plug(net, "52:54:9e:00:00:01", "10.0.2.15", "web", &err), "plugging is nothing");
    check_ok(net_unplug(net, "52:54:9e:00:00:01", &err), "and unplugging");
    check_ok(net_heal(net, &err), "and healing");
    net_close(net);
}

static void test_ports(void) {
    IM_AUTO(fd_auto) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int64_t taken[9999];
    int port = 0, only;

    check_ok(net_free_port(NULL, 0, &port, &err), "a port is found");
    check(port >= 20000 && port <= 29999, "in its range");
    /* All but one are taken: it finds that one, and not while somebody listens on it. */
    only = port;
    for (int i = 0, at = 0; i < 10000; i++)
        if (20000 + i != only)
            taken[at++] = 20000 + i;
    check_ok(net_free_port(taken, 9999, &port, &err), "of all ports one is left");
    check(port == only, "and given");
    address.sin_port = htons((uint16_t) only);
    check(bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0 && listen(fd, 1) == 0,
          "somebody listens on it");
    check_err(net_free_port(taken, 9999, &port, &err), IM_NO_RESOURCE, "none is left");
}

int main(void) {
    test_subnets();
    test_words();
    test_user_mode();
    test_ports();
    return test_end();
}
