/* SPDX-License-Identifier: Apache-2.0 */
/* Identifiers: a prefix and random characters from the kernel's generator. */
#ifndef IM_ID_H
#define IM_ID_H

#include <stdbool.h>
#include <stddef.h>

#define IM_ID_MAX 64 /* longest identifier with its NUL, symbolic image names included */

/* Fills with bytes of getrandom(2). */
void im_random(void *bytes, size_t len);
/* prefix + count characters of [a-z0-9], e.g. im_id_make(id, "img-", 8). */
void im_id_make(char out[IM_ID_MAX], const char *prefix, size_t count);
#define IM_ALPHANUMERIC "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
/* count characters of `alphabet` and a NUL; unbiased. */
void im_random_text(char *out, size_t count, const char *alphabet);
/* 1 to 63 characters of [A-Za-z0-9._-], beginning with a letter or digit: safe as a file name and
 * in a message. */
bool im_id_valid(const char *id);

#endif
