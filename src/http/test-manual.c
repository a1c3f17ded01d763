/* SPDX-License-Identifier: Apache-2.0 */
/* imprint-api(7) names the same actions, each with the same parameters, as the table. */
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "http/http.h"
#include "harness/test.h"

/* "ACTION" and "ACTION PARAMETER", one line each. */
static void from_table(struct im_strings *list) {
    size_t count;
    const struct http_action *const *all = http_actions(&count);

    for (size_t i = 0; i < count; i++) {
        im_strings_add(list, all[i]->name);
        for (const struct http_param *param = all[i]->params; param->name != NULL; param++) {
            IM_AUTO(free_auto)
            char *line = im_printf("%s %s%s", all[i]->name, param->name,
                                   param->type == HTTP_LIST ? ".n" : "");

            im_strings_add(list, line);
        }
    }
}

static void from_manual(char *text, struct im_strings *list) {
    const char *action = NULL;
    bool inside = false;
    char *rest = text;

    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        if (im_starts_with(line, ".Sh "))
            inside = strcmp(line, ".Sh ACTIONS") == 0;
        if (inside && im_starts_with(line, ".It Ic ")) {
            action = line + 7;
            im_strings_add(list, action);
        } else if (inside && action != NULL && im_starts_with(line, ".It Cm ")) {
            IM_AUTO(free_auto) char *entry = im_printf("%s %s", action, line + 7);

            im_strings_add(list, entry);
        }
    }
}

static bool holds(const struct im_strings *list, const char *text) {
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], text) == 0)
            return true;
    return false;
}

static void compare(const struct im_strings *a, const struct im_strings *b, const char *where) {
    for (size_t i = 0; i < a->count; i++)
        check(holds(b, a->items[i]), "%s: %s", where, a->items[i]);
}

int main(int argc, char **argv) {
    IM_AUTO(im_strings_done) struct im_strings table = {0}, manual = {0};
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err failure = {0};
    size_t len;

    if (!im_read_file(argc > 1 ? argv[1] : "man/imprint-api.7", 1 << 20, &text, &len, &failure)) {
        check(false, "%s", failure.text);
        return test_end();
    }
    from_table(&table);
    from_manual(text, &manual);
    compare(&table, &manual, "in the manual");
    compare(&manual, &table, "in the table");
    return test_end();
}
