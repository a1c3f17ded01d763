/* SPDX-License-Identifier: Apache-2.0 */
/* What each network system's files are changed to. All work on the files as the repairs so far
 * leave them, and look again afterwards. */
#ifndef REPAIR_NETWORK_H
#define REPAIR_NETWORK_H

#include "network.h"
#include "repair-private.h"

/* Names of Ethernet cards, as systemd and the kernel give them. */
#define ANY_NAMES "en* eth*"

/* What a system can do about its own files; false when nothing was changed. The card is one of
 * `net`, which was taken just before. */
struct net_ways {
    /* Takes out the MAC address that the card must have, or is given; all else stays. */
    bool (*unpin)(struct planning *planning, const struct net *net, const struct net_card *card);
    /* DHCP in place of the fixed address, whose lines stay as remarks. */
    bool (*ask)(struct planning *planning, const struct net *net, const struct net_card *card);
    /* What it says of this card shall be for any, or for what cards are called here. */
    bool (*widen)(struct planning *planning, const struct net *net, const struct net_card *card);
    /* DHCP on any card, where nothing is set up. The path of the file, owned; NULL = not here. */
    char *(*create)(struct planning *planning, const struct net *net);
};
extern const struct net_ways ifupdown_ways, netplan_ways, cloud_ways, manager_ways, networkd_ways,
    link_ways, ifcfg_ways, wicked_ways, netctl_ways;

/* --- Lines ------------------------------------------------------------------------------------ */

/* A line of a file with keys. */
struct net_line {
    const char *text;        /* without the newline */
    const char *section;     /* "" where files have none */
    const char *key, *value; /* "" where it is none: a remark, a section's beginning */
    bool heads;              /* a section begins */
};
enum line_fate { LINE_KEEP, LINE_OUT, LINE_REMARK };
/* What becomes of a line; what is added to `after` comes behind it. */
typedef enum line_fate line_rule(void *arg, const struct net_line *line, struct im_str *after);
/* The file, or the copy of it that is under /etc, with each line as the rule says; an array of the
 * shell's that goes on over lines has one fate. `end`: what is put behind all; may be "". False
 * when that is what it was. */
bool lines_rewrite(struct planning *planning, const char *path, line_rule *rule, void *arg,
                   const char *end);
/* The file, or the copy of it that is under /etc, reads so; false when that is what it was. `text`
 * is taken. */
bool net_write(struct planning *planning, const char *path, char *text);
/* One of the words that `list` has, with NULL behind the last. */
bool is_one_of(const char *word, const char *const *list);

/* A path in the folder that nothing has yet: NAME, or NAME with a number. Owned. */
char *free_path(struct planning *planning, const char *folder, const char *name, const char *end);

#endif
