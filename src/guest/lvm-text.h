/* SPDX-License-Identifier: Apache-2.0 */
/* The text form in which LVM2 keeps its metadata: sections, and keys with a value. */
#ifndef LVM_TEXT_H
#define LVM_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"

struct lvm_node {
    char *name, *value;        /* value: of a key, as it is written, without the outer quotes */
    struct lvm_node *children; /* of a section, NULL for a key */
    struct lvm_node *next;
    size_t from, to; /* where the value stands in the text, or what is between a section's braces */
};
/* NULL for text that is none, is nested too deep, or has too many nodes. */
struct lvm_node *lvm_parse(const char *text);
void lvm_free(struct lvm_node *node); /* NULL is fine */
IM_DEFINE_AUTO(struct lvm_node *, lvm_free)

/* All of these take NULL. */
const struct lvm_node *lvm_child(const struct lvm_node *node, const char *name);
const struct lvm_node *lvm_children(const struct lvm_node *node, const char *name);
const char *lvm_text(const struct lvm_node *node, const char *key); /* "" if there is none */
uint64_t lvm_number(const struct lvm_node *node, const char *key);  /* 0 if there is none */
bool lvm_list_has(const struct lvm_node *node, const char *key, const char *word);
/* The n-th pair of a list ["name", number, "name", number …]; false if there is none. */
bool lvm_pair(const struct lvm_node *node, const char *key, unsigned n, char *ret_name,
              size_t name_size, uint64_t *ret_number);

#endif
