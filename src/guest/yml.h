/* SPDX-License-Identifier: Apache-2.0 */
/* YAML of a disk as a tree, by libyaml's events. Documents with aliases, which could stand for any
 * amount of text, are refused, and so are such that are deep or have many nodes. */
#ifndef YML_H
#define YML_H

#include <stdbool.h>

enum yml_kind { YML_WORD, YML_LIST, YML_MAP };
struct yml_node {
    enum yml_kind kind;
    char *key;  /* within a map; NULL elsewhere */
    char *word; /* NULL unless a word */
    struct yml_node *first, *last, *next;
    /* As it is written: lines from 1, of its key where it has one; columns from 0. */
    unsigned line, end_line, column;
    bool quoted; /* a word in quotes, or in a block of its own */
    bool flow;   /* { } or [ ] */
};
struct yml;

/* Its first document; NULL = it is none, or refused. An empty one is an empty map. */
struct yml *yml_read(const char *text);
void yml_free(struct yml *yaml); /* NULL is fine */
static inline void yml_free_auto(struct yml **slot) { yml_free(*slot); }
const struct yml_node *yml_root(const struct yml *yaml);

/* These take NULL, and anything that is no map. The last of several with one key counts. */
const struct yml_node *yml_get(const struct yml_node *map, const char *key);
const char *yml_word(const struct yml_node *map, const char *key); /* "" = none */
bool yml_true(const struct yml_node *map, const char *key);

/* --- yml-write.c: changes, within the tree alone ---------------------------------------------- */

/* The node that these keys lead to; `keys` ends with NULL. NULL = there is none. */
struct yml_node *yml_at(struct yml *yaml, const char *const *keys);
/* Takes out what has this key; false if nothing had. */
bool yml_drop(struct yml_node *map, const char *key);
/* A word, or with NULL an empty map, at the end of the map and instead of what had the key. */
struct yml_node *yml_put(struct yml *yaml, struct yml_node *map, const char *key, const char *word);
/* The key and its node as lines of a file, in the columns in which they were. Owned. */
char *yml_write(const struct yml_node *node, unsigned column);

/* For yml-write.c: a node of this tree's, which no other has yet. */
struct yml_node *yml_new(struct yml *yaml, enum yml_kind kind, const char *word);

#endif
