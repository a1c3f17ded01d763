/* SPDX-License-Identifier: Apache-2.0 */
/* IPv4 networks, addresses, MACs and host names as text: checked here, before they go into rules or
 * into the files of dnsmasq. */
#include "net-private.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

enum { PREFIX_MIN = 8, PREFIX_MAX = 29 };

void address_text(uint32_t address, char out[ADDRESS_TEXT]) {
    struct in_addr in = {.s_addr = htonl(address)};

    inet_ntop(AF_INET, &in, out, ADDRESS_TEXT);
}

bool address_parse(const char *text, uint32_t *ret_address) {
    struct in_addr in;

    if (text == NULL || inet_pton(AF_INET, text, &in) != 1)
        return false;
    *ret_address = ntohl(in.s_addr);
    return true;
}

/* What no host may be in, or what means something else everywhere. */
static bool reserved(uint32_t network) {
    return network >> 24 == 0 || network >> 24 == 127 || network >> 16 == 0xa9fe ||
           network >> 28 >= 0xe;
}

bool subnet_parse(const char *text, struct subnet *ret_subnet, struct im_err *err) {
    char address[ADDRESS_TEXT] = "", right[ADDRESS_TEXT];
    const char *slash = strchr(text, '/');
    struct subnet subnet = {0};
    int64_t prefix;
    uint32_t given;

    if (slash != NULL && (size_t) (slash - text) < sizeof(address))
        memcpy(address, text, (size_t) (slash - text));
    if (!address_parse(address, &given) || !im_parse_i64(slash + 1, 0, 32, &prefix))
        return im_fail(err, IM_BAD_MESSAGE,
                       "subnet [%.64s] should be a network such as 10.180.0.0/20", text);
    if (prefix < PREFIX_MIN || prefix > PREFIX_MAX)
        return im_fail(err, IM_BAD_MESSAGE, "subnet %s: its length should be from /%d to /%d", text,
                       PREFIX_MIN, PREFIX_MAX);
    subnet.prefix = (unsigned) prefix;
    subnet.mask = ~UINT32_C(0) << (32 - prefix);
    subnet.network = given & subnet.mask;
    address_text(subnet.network, right);
    snprintf(subnet.text, sizeof(subnet.text), "%s/%u", right, subnet.prefix);
    if (given != subnet.network)
        return im_fail(err, IM_BAD_MESSAGE, "subnet %s has host bits set; %s is the network", text,
                       subnet.text);
    if (reserved(subnet.network))
        return im_fail(err, IM_BAD_MESSAGE, "subnet %s is reserved and not for machines", text);
    *ret_subnet = subnet;
    return true;
}

uint32_t subnet_gateway(const struct subnet *subnet) { return subnet->network + 1; }

uint32_t subnet_last(const struct subnet *subnet) { return (subnet->network | ~subnet->mask) - 1; }

bool subnet_for_machines(const struct subnet *subnet, uint32_t address) {
    return address > subnet_gateway(subnet) && address <= subnet_last(subnet);
}

bool mac_parse(const char *text, char ret_mac[MAC_TEXT]) {
    char mac[MAC_TEXT] = "";

    if (text == NULL || strlen(text) != MAC_TEXT - 1)
        return false;
    for (size_t i = 0; i < MAC_TEXT - 1; i++) {
        bool fits = i % 3 == 2 ? text[i] == ':' : isxdigit((unsigned char) text[i]) != 0;

        if (!fits)
            return false;
        mac[i] = (char) tolower((unsigned char) text[i]);
    }
    /* The lowest bit of the first byte marks a group of hosts. */
    if (strchr("13579bdf", mac[1]) != NULL)
        return false;
    memcpy(ret_mac, mac, MAC_TEXT);
    return true;
}

bool label_valid(const char *text) {
    size_t len = text ? strlen(text) : 0;

    if (len < 1 || len > 63 || text[0] == '-' || text[len - 1] == '-')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char) text[i]) && text[i] != '-')
            return false;
    return true;
}

void tap_name(const char *mac, char ret_tap[16]) {
    size_t len = (size_t) snprintf(ret_tap, 16, "imt");

    for (const char *c = mac; *c != '\0' && len < 15; c++)
        if (*c != ':')
            ret_tap[len++] = *c;
    ret_tap[len] = '\0';
}
