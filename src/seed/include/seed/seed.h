/* SPDX-License-Identifier: Apache-2.0 */
/* First-boot data: a small ISO 9660 disk labelled "cidata" in cloud-init's NoCloud form, written
 * with libarchive. */
#ifndef SEED_SEED_H
#define SEED_SEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

struct seed {
    const char *instance_id; /* cloud-init's: changes when the machine must see itself as new */
    const char *hostname;
    const char *default_user;       /* the image's login user; "root" allows root login by key */
    const char *const *public_keys; /* whole authorized_keys lines */
    size_t public_key_count;
    const char *passwd_hash; /* crypt(3) hash for default_user, NULL or "" = none; with one, SSH
                                password login is on */
    const char *userdata; /* what the user gave, plain bytes; NULL = none. Goes in as a second MIME
                             part when it begins with "#!" or "#cloud-config" or is MIME itself,
                             else only as a file */
    size_t userdata_len;
    const char *userdata_path; /* folder in the guest for metadata.json, metadata.env,
                                  userdata.string; NULL = default */
    const char *metadata_json; /* QingCloud's metadata file as JSON text; NULL = none */
};

/* Writes the disk at `path` (mode 0600, owner uid:gid if run by root), replacing an older one,
 * durable. Under 400 KiB. */
bool seed_write(const char *path, const struct seed *seed, uint32_t uid, uint32_t gid,
                struct im_err *err) IM_MUST_CHECK;

#endif
