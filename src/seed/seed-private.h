/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the seed room share. */
#ifndef SEED_PRIVATE_H
#define SEED_PRIVATE_H

#include "base/str.h"
#include "seed/seed.h"

/* "…" as JSON and YAML both read it back, whatever UTF-8 is in it. */
void seed_add_quoted(struct im_str *out, const char *text);
/* Base64 in lines of 76 characters. */
void seed_add_base64(struct im_str *out, const void *bytes, size_t len);

/* The script that the guest runs early at every boot; owned. */
char *seed_hook(const struct seed *seed);
/* The file user-data: MIME with the hook, our cloud-config, and what the user gave; owned. */
char *seed_user_data(const struct seed *seed);

#endif
