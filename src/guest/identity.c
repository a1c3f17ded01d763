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

bool rule_binds_card(const char *line) {
    return line[strspn(line, " \t")] != '#' && strstr(line, "\"net\"") != NULL &&
           strstr(line, "{address}==\"") != NULL && strstr(line, "NAME") != NULL;
}

/* A file of that name without a rule, or a link to nowhere, is how such rules are turned off. */
static void check_rules(struct look *look, const struct tree *tree) {
    IM_AUTO(im_strings_done) struct im_strings names = {0};

    tree_names(tree, RULES_FOLDER, "", ".rules", &names);
    for (size_t i = 0; i < names.count; i++) {
        IM_AUTO(free_auto) char *path = im_printf(RULES_FOLDER "/%s", names.items[i]);
        IM_AUTO(free_auto) char *text = tree_text(tree, path);
        char shown[160];
        bool bound = false;

        for (char *at = text, *line; at != NULL && (line = text_line(&at)) != NULL;)
            bound |= rule_binds_card(line);
        text_take(shown, sizeof(shown), path, strlen(path));
        if (bound)
            look_found(look, GUEST_FOUND_ID_NET,
                       "%s binds names of network cards to the addresses of an older machine's",
                       shown);
    }
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
    check_rules(look, tree);
}
