/* SPDX-License-Identifier: Apache-2.0 */
/* First-boot data: a small ISO 9660 disk, written with libarchive. Labelled "cidata" in
 * cloud-init's NoCloud form; for Windows labelled "config-2" with OpenStack's folders, the form
 * that every cloudbase-init looks for by itself, and with NoCloud's files as well. */
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
    /* crypt(3) hash for default_user, NULL or "" = none; with one, SSH password login is on */
    const char *passwd_hash;
    /* What the user gave, plain bytes, at most SEED_USERDATA_MAX; NULL = none. Lies in the guest as
     * userdata.string, and is acted on by cloud-init when it is something that cloud-init knows: a
     * script, "#cloud-config" and its kin, MIME, these compressed with gzip. Not UTF-8: scripts
     * only. */
    const char *userdata;
    size_t userdata_len;
    /* Folder in the guest for metadata.json, metadata.env, userdata.string; NULL or no absolute
     * path = the default, /etc/qingcloud/userdata */
    const char *userdata_path;
    const char *metadata_json; /* QingCloud's metadata file as JSON text; NULL = none */
    const char *metadata_env;  /* the same in lines of NAME=value; NULL = none */
    /* For cloudbase-init. Of what is above it gets host name, user and user data, which it acts on
     * when it knows what to do with it; no keys, no hash, no metadata. */
    bool windows;
    const char *admin_passwd; /* as it is, for default_user, once per instance_id; NULL = none, on
                                 which cloudbase-init makes one up where it has not set one yet */
};
enum { SEED_USERDATA_MAX = 256 << 10 };

/* Writes the disk at `path` (mode 0600, owner uid:gid if run by root), replacing an older one,
 * durable. Under 1 MiB.
 *
 * The guest reads it at every boot: keys, password and host name that changed while the machine was
 * off take effect, though instance_id is the same; of the keys in the login user's file, those
 * whose line ends in " kp-…" are ours and go when they are not given any more. Scripts and the like
 * in `userdata` run once per instance_id. IM_BAD_MESSAGE for too much user data. */
bool seed_write(const char *path, const struct seed *seed, uint32_t uid, uint32_t gid,
                struct im_err *err) IM_MUST_CHECK;

/* Writes over the disk at `path` as it is, so that also a machine that has it open reads the new
 * one and the bytes of the old one are gone. Not whole while it is written: for what is written
 * anew before the next start anyway. Fine when there is none. */
bool seed_rewrite(const char *path, const struct seed *seed, struct im_err *err) IM_MUST_CHECK;

#endif
