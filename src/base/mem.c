/* SPDX-License-Identifier: Apache-2.0 */
/* Allocation that does not fail, and lists of strings. */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

static void *checked(void *memory) {
    if (memory == NULL) {
        fputs("out of memory\n", stderr);
        abort();
    }
    return memory;
}

void *im_alloc(size_t size) { return checked(calloc(1, size ? size : 1)); }

void *im_realloc_array(void *old, size_t count, size_t size) {
    return checked(reallocarray(old, count ? count : 1, size ? size : 1));
}

char *im_strdup(const char *text) { return text == NULL ? NULL : checked(strdup(text)); }

char *im_strndup(const char *text, size_t len) { return checked(strndup(text, len)); }

char *im_printf(const char *format, ...) {
    char *text = NULL;
    va_list args;
    int len;

    va_start(args, format);
    len = vasprintf(&text, format, args);
    va_end(args);
    return checked(len < 0 ? NULL : text);
}

void im_replace(char **slot, const char *text) {
    char *copy = im_strdup(text);

    free(*slot);
    *slot = copy;
}

/* glibc's memcmp compares the bytes with themselves, one further on. */
bool im_all_zero(const void *bytes, size_t len) {
    const unsigned char *at = bytes;

    return len == 0 || (at[0] == 0 && memcmp(at, at + 1, len - 1) == 0);
}

void im_strings_add(struct im_strings *list, const char *text) {
    im_grow(&list->items, list->count, &list->capacity);
    list->items[list->count++] = im_strdup(text);
}

bool im_strings_has(const struct im_strings *list, const char *text) {
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], text) == 0)
            return true;
    return false;
}

void im_strings_drop(struct im_strings *list, const char *text) {
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i], text) == 0) {
            free(list->items[i]);
            list->items[i] = list->items[--list->count];
            return;
        }
}

void im_strings_done(struct im_strings *list) {
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct im_strings){0};
}

char *im_strings_join(const struct im_strings *list, const char *separator) {
    struct im_str text = {0};

    for (size_t i = 0; i < list->count; i++)
        im_str_addf(&text, "%s%s", i ? separator : "", list->items[i]);
    return im_str_take(&text);
}

void im_strings_split(struct im_strings *list, const char *text, const char *separators) {
    while (text != NULL && *text != '\0') {
        size_t len;

        text += strspn(text, separators);
        len = strcspn(text, separators);
        if (len > 0) {
            im_grow(&list->items, list->count, &list->capacity);
            list->items[list->count++] = im_strndup(text, len);
        }
        text += len;
    }
}
