/* SPDX-License-Identifier: Apache-2.0 */
/* How a system sets up its network: what each family's files say, in one form. */
#ifndef NETWORK_H
#define NETWORK_H

#include "cloud-config.h"
#include "system.h"
#include "yml.h"

#define NET_CARDS_MAX 64u
#define NET_FILES_MAX 64u

/* What one file says of one network card. */
struct net_card {
    char file[160];   /* where it says so */
    char id[64];      /* netplan's; "" elsewhere */
    char name[128];   /* of the interface; patterns with blanks between, "!" first: all others; "":
                         whatever it is called */
    char wants[24];   /* the MAC address that the card must have; "" = any */
    char sets[24];    /* the MAC address that it is given; "" = its own */
    char address[64]; /* fixed; "" = none */
    bool dhcp;        /* of IPv4 */
    bool written;     /* by cloud-init, for the machine that the disk was in */
};

struct net {
    struct look *look;
    const struct tree *tree;
    const struct cloud *cloud;
    struct net_card cards[NET_CARDS_MAX];
    size_t count;
    const char *ours[4]; /* what the card of a machine here may be called; NULL behind the last */
    bool manager;        /* NetworkManager is started */
    bool known;          /* there is something whose files were understood */
    bool covered;        /* something asks for an address on whatever card there is */
    bool unclear;        /* there are words that are not understood */
};

/* One more, with these files' name; NULL when there are too many. */
struct net_card *net_add(struct net *net, const char *file);
/* The last one again, which turned out to be none. */
void net_drop(struct net *net);
/* One of the names that a card may have here. */
bool net_fits(const struct net *net, const char *name);
/* *, ? and [a-z]; no backslashes. */
bool net_pattern_fits(const char *pattern, const char *name);
/* Loopback and devices that are made up: no card of the machine. */
bool net_is_made_up(const char *name);
/* Whether cloud-init wrote it, by the file's own words and name. */
bool net_is_written(const char *file, const char *text);
/* An address with what may stand around it; none for loopback and link-local ones. */
void net_take_address(struct net_card *card, const char *value);
/* A MAC address, or nothing where the value is none. */
void net_take_mac(char out[24], const char *value);

/* The files of these folders that end so, by their names without the folder; one in a later folder
 * hides one of the same name in an earlier one. `folders` ends with NULL; `paths` is empty. */
void net_files(struct net *net, const char *const *folders, const char *end,
               struct im_strings *paths);

/* Each fills in what its files say, if the system goes by them. */
void net_ifupdown(struct net *net);
void net_netplan(struct net *net);
void net_netplan_words(struct net *net, const char *file, const struct yml_node *network);
void net_manager(struct net *net);   /* NetworkManager's keyfiles, and what it does by itself */
void net_networkd(struct net *net);  /* .network and .link */
void net_sysconfig(struct net *net); /* ifcfg-* of Red Hat and of SUSE */
void net_netctl(struct net *net);
void net_rc_conf(struct net *net); /* FreeBSD's */

#endif
