/* SPDX-License-Identifier: Apache-2.0 */
/* What would be the same in every machine of a disk. */
#include <ctype.h>

#include "system.h"

static bool see_key(void *arg, const char *name, size_t len) {
    bool *found = arg;

    *found |=
        len > 13 && strncmp(name, "ssh_host_", 9) == 0 && strncmp(name + len - 4, "_key", 4) == 0;
    return !*found;
}

void identity_check(struct look *look, const struct tree *tree) {
    IM_AUTO(free_auto) char *machine = tree_text(tree, "/etc/machine-id");
    bool keys = false;

    if (machine != NULL && isxdigit((unsigned char) machine[0]))
        look_found(look, GUEST_FOUND_ID_MACHINE,
                   "/etc/machine-id is set: all machines of this disk have the same");
    if (tree_list(tree, "/etc/ssh", see_key, &keys) && keys &&
        !tree_has(tree, "/etc/cloud/cloud.cfg"))
        look_found(look, GUEST_FOUND_ID_SSH,
                   "all machines of this disk have the same SSH host keys");
    if (tree_has(tree, "/etc/udev/rules.d/70-persistent-net.rules"))
        look_found(look, GUEST_FOUND_ID_NET,
                   "names of network cards are bound to the addresses of an older machine's cards");
}
