/* SPDX-License-Identifier: Apache-2.0 */
/* Parses LVM2's metadata text. */
#include "lvm-text.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#define DEPTH_MAX 8u
#define NODES_MAX 20000u
#define WORD_MAX 127u

struct parser {
    const char *text, *at;
    unsigned nodes;
};

/* --- Words ------------------------------------------------------------------------------------ */

static void skip(struct parser *parser) {
    for (;;) {
        parser->at += strspn(parser->at, " \t\r\n");
        if (*parser->at != '#')
            return;
        parser->at += strcspn(parser->at, "\n");
    }
}

static char *take_name(struct parser *parser) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789_.+-";
    size_t len = strspn(parser->at, letters);
    char *name;

    if (len == 0 || len > WORD_MAX)
        return NULL;
    name = im_strndup(parser->at, len);
    parser->at += len;
    return name;
}

/* The quote that ends a text; one behind a backslash is of it, as where LVM wrote down the command
 * that it was called by. */
static const char *text_end(const char *from) {
    while (*from != '\0' && *from != '"')
        from += from[0] == '\\' && from[1] != '\0' ? 2 : 1;
    return *from == '"' ? from : NULL;
}

/* The bracket that ends a list. */
static const char *list_end(const char *from) {
    while (from != NULL && *from != '\0' && *from != ']') {
        if (*from == '"')
            from = text_end(from + 1);
        from += from != NULL;
    }
    return from != NULL && *from == ']' ? from : NULL;
}

/* A number, a text in quotes as it is written, or a list up to its bracket. */
static char *take_value(struct parser *parser) {
    const char *from = parser->at;
    size_t len;

    if (*from == '"' || *from == '[') {
        const char *end = *from == '"' ? text_end(from + 1) : list_end(from + 1);

        if (end == NULL)
            return NULL;
        parser->at = end + 1;
        return im_strndup(from + 1, (size_t) (end - from - 1));
    }
    len = strspn(from, "0123456789.-");
    parser->at += len;
    return len > 0 ? im_strndup(from, len) : NULL;
}

/* --- Sections --------------------------------------------------------------------------------- */

void lvm_free(struct lvm_node *node) {
    while (node != NULL) {
        struct lvm_node *next = node->next;

        free(node->name);
        free(node->value);
        lvm_free(node->children); /* not deeper than they were parsed */
        free(node);
        node = next;
    }
}

static bool parse_members(struct parser *parser, unsigned depth, struct lvm_node **ret_first);

static bool parse_member(struct parser *parser, unsigned depth, struct lvm_node *node) {
    node->name = take_name(parser);
    if (node->name == NULL)
        return false;
    skip(parser);
    if (*parser->at == '=') {
        parser->at++;
        skip(parser);
        node->from = (size_t) (parser->at - parser->text);
        node->value = take_value(parser);
        node->to = (size_t) (parser->at - parser->text);
        return node->value != NULL;
    }
    if (*parser->at != '{')
        return false;
    node->from = (size_t) (++parser->at - parser->text);
    if (depth == 0 || !parse_members(parser, depth - 1, &node->children) || *parser->at != '}')
        return false;
    node->to = (size_t) (parser->at++ - parser->text);
    return true;
}

/* Up to a closing brace or the end. */
static bool parse_members(struct parser *parser, unsigned depth, struct lvm_node **ret_first) {
    struct lvm_node **slot = ret_first;

    for (skip(parser); *parser->at != '\0' && *parser->at != '}'; skip(parser)) {
        if (parser->nodes++ == NODES_MAX)
            return false;
        *slot = im_alloc(sizeof(**slot));
        if (!parse_member(parser, depth, *slot))
            return false;
        slot = &(*slot)->next;
    }
    return true;
}

struct lvm_node *lvm_parse(const char *text) {
    struct parser parser = {.text = text, .at = text};
    IM_AUTO(lvm_free_auto) struct lvm_node *root = im_alloc(sizeof(*root));

    if (!parse_members(&parser, DEPTH_MAX, &root->children) || *parser.at != '\0')
        return NULL;
    return im_steal(&root);
}

/* --- Asking ----------------------------------------------------------------------------------- */

const struct lvm_node *lvm_child(const struct lvm_node *node, const char *name) {
    const struct lvm_node *child = node ? node->children : NULL;

    while (child != NULL && strcmp(child->name, name) != 0)
        child = child->next;
    return child;
}

const struct lvm_node *lvm_children(const struct lvm_node *node, const char *name) {
    const struct lvm_node *child = lvm_child(node, name);

    return child ? child->children : NULL;
}

const char *lvm_text(const struct lvm_node *node, const char *key) {
    const struct lvm_node *child = lvm_child(node, key);

    return child != NULL && child->value != NULL ? child->value : "";
}

uint64_t lvm_number(const struct lvm_node *node, const char *key) {
    return strtoull(lvm_text(node, key), NULL, 10);
}

bool lvm_list_has(const struct lvm_node *node, const char *key, const char *word) {
    IM_AUTO(free_auto) char *quoted = im_printf("\"%s\"", word);
    const char *list = lvm_text(node, key);

    return strstr(list, quoted) != NULL || strcmp(list, word) == 0;
}

bool lvm_pair(const struct lvm_node *node, const char *key, unsigned n, char *ret_name,
              size_t name_size, uint64_t *ret_number) {
    const char *at = lvm_text(node, key);

    for (unsigned i = 0;; i++) {
        const char *from = strchr(at, '"'), *end = from ? strchr(from + 1, '"') : NULL;

        if (end == NULL || (size_t) (end - from) > name_size)
            return false;
        if (i == n) {
            memcpy(ret_name, from + 1, (size_t) (end - from - 1));
            ret_name[end - from - 1] = '\0';
            *ret_number = strtoull(end + 1 + strspn(end + 1, ", \t\n"), NULL, 10);
            return true;
        }
        at = end + 1;
    }
}
