/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and values of one hive of Windows' registry. */
#ifndef REGISTRY_H
#define REGISTRY_H

#include "tree.h"

/* Not libhivex: it takes a hive by its path, reads all of it, which for SOFTWARE is more than a
 * look may read, and follows it by recursion. Here only the cells on the way to a key are read. */
struct hive {
    struct file file;
    uint32_t root;
};
#define HIVE_NOWHERE 0u /* no key lies there */

/* NULL, or why it cannot be read, as a sentence's end; then nothing is in it. */
const char *hive_open(const struct tree *tree, const char *path, struct hive *ret_hive);
/* The key below `from` (hive->root at first) of that path, "Select" or "Control\\Session Manager";
 * HIVE_NOWHERE if there is none. Letters are the same large and small. */
uint32_t hive_key(const struct hive *hive, uint32_t from, const char *path);
/* Values; false, with `out` or `*ret_number` as they were, if there is none of that name and
 * kind. Text is cleaned. */
bool hive_text(const struct hive *hive, uint32_t key, const char *name, char *out, size_t size);
bool hive_number(const struct hive *hive, uint32_t key, const char *name, uint32_t *ret_number);

#endif
