/* SPDX-License-Identifier: Apache-2.0 */
/* Small allocations that end the process instead of failing: truth is in the database, so a restart
 * loses nothing. Sizes named from outside are checked against a limit first, and use malloc(). */
#ifndef IM_MEM_H
#define IM_MEM_H

#include <stdbool.h>
#include <stddef.h>

void *im_alloc(size_t size); /* zeroed */
void *im_realloc_array(void *old, size_t count, size_t size);
char *im_strdup(const char *text); /* NULL stays NULL */
char *im_strndup(const char *text, size_t len);
char *im_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Replaces an owned string by a copy of `text` (NULL allowed); `text` may be part of the old value.
 */
void im_replace(char **slot, const char *text);

/* Makes room for one more element at the end of a growing array. */
#define im_grow(array, count, capacity)                                                            \
    do {                                                                                           \
        if ((count) == *(capacity)) {                                                              \
            *(capacity) = *(capacity) ? *(capacity) *2 : 8;                                        \
            *(array) = im_realloc_array(*(array), *(capacity), sizeof(**(array)));                 \
        }                                                                                          \
    } while (0)

/* At the speed of memory; true of no bytes at all. */
bool im_all_zero(const void *bytes, size_t len);

/* A growing list of owned strings. Zero-initialise. */
struct im_strings {
    char **items;
    size_t count;
    size_t capacity;
};
void im_strings_add(struct im_strings *list, const char *text); /* copies */
bool im_strings_has(const struct im_strings *list, const char *text);
/* Takes one item of that text out, if there is one; the others do not keep their order. */
void im_strings_drop(struct im_strings *list, const char *text);
void im_strings_done(struct im_strings *list);
/* Items joined by `separator`, owned by the caller; "" for an empty list. */
char *im_strings_join(const struct im_strings *list, const char *separator);
/* Splits at any run of characters of `separators`, leaving out empty pieces; adds to the list. */
void im_strings_split(struct im_strings *list, const char *text, const char *separators);

#endif
