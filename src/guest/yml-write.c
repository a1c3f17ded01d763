/* SPDX-License-Identifier: Apache-2.0 */
/* A tree of YAML changed, and written again as near as can be to how it was: remarks within it are
 * all that goes. */
#include "yml.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

struct yml_node *yml_at(struct yml *yaml, const char *const *keys) {
    const struct yml_node *node = yml_root(yaml);

    for (; *keys != NULL && node != NULL; keys++)
        node = yml_get(node, *keys);
    return (struct yml_node *) node; /* the tree is the caller's */
}

bool yml_drop(struct yml_node *map, const char *key) {
    struct yml_node **slot = &map->first, *before = NULL;
    bool any = false;

    if (map->kind != YML_MAP)
        return false;
    while (*slot != NULL) {
        if (im_str_equal((*slot)->key, key)) {
            *slot = (*slot)->next;
            any = true;
        } else {
            before = *slot;
            slot = &before->next;
        }
    }
    map->last = before;
    return any;
}

struct yml_node *yml_put(struct yml *yaml, struct yml_node *map, const char *key,
                         const char *word) {
    struct yml_node *node = yml_new(yaml, word != NULL ? YML_WORD : YML_MAP, word);

    if (node == NULL)
        return NULL;
    (void) yml_drop(map, key);
    node->key = im_strdup(key);
    node->quoted = word != NULL && strpbrk(word, "*: ") != NULL;
    node->flow = map->flow;
    node->column = map->column + 2;
    if (map->last != NULL)
        map->last->next = node;
    else
        map->first = node;
    map->last = node;
    return node;
}

/* --- Writing ---------------------------------------------------------------------------------- */

/* In quotes where it was, or where it would not be one word without. */
static void put_word(struct im_str *out, const char *word, bool quoted) {
    static const char special[] = "{}[],&*#?|<>=!%@`\"'";

    if (!quoted && word[0] != '\0' && strpbrk(word, special) == NULL &&
        strstr(word, ": ") == NULL && strpbrk(word, "\n\t") == NULL) {
        im_str_add(out, word);
        return;
    }
    im_str_add_char(out, '"');
    for (const char *at = word; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\')
            im_str_add_char(out, '\\');
        if (*at == '\n' || *at == '\t')
            im_str_add(out, *at == '\n' ? "\\n" : "\\t");
        else
            im_str_add_char(out, *at);
    }
    im_str_add_char(out, '"');
}

static void put_flow(struct im_str *out, const struct yml_node *node) {
    if (node->kind == YML_WORD) {
        put_word(out, node->word, node->quoted);
        return;
    }
    im_str_add_char(out, node->kind == YML_MAP ? '{' : '[');
    for (const struct yml_node *at = node->first; at != NULL; at = at->next) {
        if (at->key != NULL) {
            put_word(out, at->key, false);
            im_str_add(out, ": ");
        }
        put_flow(out, at);
        im_str_add(out, at->next != NULL ? ", " : "");
    }
    im_str_add_char(out, node->kind == YML_MAP ? '}' : ']');
}

static void put_blanks(struct im_str *out, unsigned count) {
    while (count-- > 0)
        im_str_add_char(out, ' ');
}

static void put_children(struct im_str *out, const struct yml_node *node, unsigned column,
                         bool begun);

/* Behind its key, or behind the "- " of a list. */
static void put_value(struct im_str *out, const struct yml_node *node, unsigned above) {
    unsigned column = node->column > above ? node->column : above + 2;

    if (node->kind == YML_WORD || node->flow || node->first == NULL) {
        im_str_add_char(out, ' ');
        put_flow(out, node);
        im_str_add_char(out, '\n');
        return;
    }
    if (node->kind == YML_LIST && node->column == above)
        column = above; /* a list may stand right below its key */
    im_str_add_char(out, '\n');
    put_children(out, node, column, false);
}

/* `begun`: the first stands behind a "- " already. */
static void put_children(struct im_str *out, const struct yml_node *node, unsigned column,
                         bool begun) {
    for (const struct yml_node *at = node->first; at != NULL; at = at->next, begun = false) {
        if (!begun)
            put_blanks(out, column);
        if (node->kind == YML_MAP) {
            put_word(out, at->key, false);
            im_str_add_char(out, ':');
            put_value(out, at, column);
        } else if (at->kind == YML_MAP && !at->flow && at->first != NULL) {
            im_str_add(out, "- ");
            put_children(out, at, column + 2, true);
        } else {
            im_str_add_char(out, '-');
            put_value(out, at, column);
        }
    }
}

char *yml_write(const struct yml_node *node, unsigned column) {
    struct im_str out = {0};

    put_blanks(&out, column);
    put_word(&out, node->key, false);
    im_str_add_char(&out, ':');
    put_value(&out, node, column);
    return im_str_take(&out);
}
