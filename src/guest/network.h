/* SPDX-License-Identifier: Apache-2.0 */
/* How a system sets up its network: what each family's files say, in one form. */
#ifndef NETWORK_H
#define NETWORK_H

#include "cloud-config.h"
#include "system.h"
#include "yml.h"

#define NET_CARDS_MAX 64u
#define NET_FILES_MAX 64u

/* Whose file it is. */
enum net_system {
    NET_CLOUD, /* cloud-init's own configuration, which it makes the others' files from */
    NET_IFUPDOWN,
    NET_NETPLAN,
    NET_MANAGER,
    NET_NETWORKD, /* .network */
    NET_LINK,     /* .link */
    NET_IFCFG,    /* Red Hat's */
    NET_WICKED,   /* SUSE's */
    NET_NETCTL,
    NET_RC_CONF,
    NET_SYSTEMS
};

/* What one file says of one network card. */
struct net_card {
    enum net_system system;
    char file[160];   /* where it says so */
    char id[64];      /* netplan's, or the name of ifupdown's stanza; "" elsewhere */
    unsigned line;    /* of the stanza's beginning, from 1; 0: the whole file is about it */
    char name[128];   /* of the interface; patterns with blanks between, "!" first: all others; "":
                         whatever it is called */
    char wants[24];   /* the MAC address that the card must have; "" = any */
    char sets[24];    /* the MAC address that it is given; "" = its own */
    char address[64]; /* fixed; "" = none */
    bool dhcp;        /* of IPv4 */
    bool written;     /* by cloud-init, for the machine that the disk was in */
};

/* Files as they are going to be, where they are not those of the disk. */
struct net_files {
    char *(*text)(void *arg, const char *path); /* owned; NULL = no such file */
    void (*names)(void *arg, const char *folder, const char *begin, const char *end,
                  struct im_strings *names);
    void *arg;
};

struct net {
    struct look *look;
    const struct tree *tree;
    const struct cloud *cloud;
    const struct net_files *files; /* NULL: the disk's */
    struct net_card cards[NET_CARDS_MAX];
    size_t count;
    const char *ours[4]; /* what the card of a machine here may be called; NULL behind the last */
    bool has[NET_SYSTEMS];
    bool cloud_writes;    /* cloud-init sets up the network, before anything else does */
    char instructed[160]; /* cloud-init's file that tells it what to set up; "" = it finds out */
    bool manager;         /* NetworkManager is started */
    bool known;           /* there is something whose files were understood */
    bool covered;         /* something asks for an address on whatever card there is */
    bool unclear;         /* there are words that are not understood */
};

/* All that the system says of its network; owned, and not judged. */
struct net *network_take(struct look *look, const struct tree *tree, const struct cloud *cloud,
                         const struct net_files *files);
/* What cloud-init wrote for another machine is of no matter where it will do so again. */
bool net_counts(const struct net *net, const struct net_card *card);
/* Something will ask for an address, as far as can be told. */
bool net_served(const struct net *net);

/* A file, and names in a folder, as tree_text and tree_names have them. */
char *net_text(const struct net *net, const char *path);
void net_names(const struct net *net, const char *folder, const char *begin, const char *end,
               struct im_strings *names);

/* One more, with these files' name; NULL when there are too many. */
struct net_card *net_add(struct net *net, enum net_system system, const char *file);
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
void net_paths(const struct net *net, const char *const *folders, const char *end,
               struct im_strings *paths);

/* All of netplan's files, in the order in which they are read. */
void netplan_paths(const struct net *net, struct im_strings *paths);

/* Each fills in what its files say, if the system goes by them. */
void net_cloud(struct net *net);
void net_ifupdown(struct net *net);
void net_netplan(struct net *net);
void net_netplan_words(struct net *net, enum net_system system, const char *file,
                       const struct yml_node *network, bool written);
void net_manager(struct net *net);   /* NetworkManager's keyfiles, and what it does by itself */
void net_networkd(struct net *net);  /* .network and .link */
void net_sysconfig(struct net *net); /* ifcfg-* of Red Hat and of SUSE */
void net_netctl(struct net *net);
void net_rc_conf(struct net *net); /* FreeBSD's */

#endif
