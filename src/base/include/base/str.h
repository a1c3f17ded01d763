/* SPDX-License-Identifier: Apache-2.0 */
/* A growing string, and the checks on text that comes from outside. */
#ifndef IM_STR_H
#define IM_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zero-initialise. `data` is NUL-terminated once something was added, NULL before. */
struct im_str {
    char *data;
    size_t len;
    size_t capacity;
};
void im_str_add(struct im_str *str, const char *text);
void im_str_add_bytes(struct im_str *str, const void *bytes, size_t len);
void im_str_add_char(struct im_str *str, char c);
void im_str_addf(struct im_str *str, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* '…' as a POSIX shell reads it back; NULL is the empty text. */
void im_str_add_shell_quoted(struct im_str *str, const char *text);
/* Makes sure `more` further bytes fit without another allocation; returns where they go. */
char *im_str_reserve(struct im_str *str, size_t more);
/* Hands the text to the caller ("" if nothing was added) and empties the string. */
char *im_str_take(struct im_str *str);
void im_str_done(struct im_str *str);

/* The whole text is one decimal integer of the range (leading and trailing blanks are not allowed).
 */
bool im_parse_i64(const char *text, int64_t min, int64_t max, int64_t *ret_value);
/* "64", "64K", "20G", "1T" (binary units, also KiB, MiB …), fractions not allowed; bytes. */
bool im_parse_size(const char *text, uint64_t *ret_bytes);
/* "1.5 GiB": at most 4 significant digits, for people. `out` is returned. */
const char *im_size_text(uint64_t bytes, char out[16]);
/* Valid UTF-8 (no surrogates, no overlong forms, nothing above U+10FFFF) without NUL. */
bool im_utf8_valid(const char *text, size_t len);
bool im_starts_with(const char *text, const char *prefix);
bool im_ends_with(const char *text, const char *suffix);
/* NULL counts as empty in these two. */
bool im_str_empty(const char *text);
bool im_str_equal(const char *a, const char *b);

#endif
