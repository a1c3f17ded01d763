/* SPDX-License-Identifier: Apache-2.0 */
/* The file user-data of the seed: a MIME document whose parts are a boothook, our cloud-config, and
 * what the user gave, where cloud-init knows what to do with that. */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/auto.h"
#include "base/id.h"
#include "base/mem.h"
#include "seed-private.h"

static void add_user(struct im_str *out, const struct seed *seed) {
    bool root = strcmp(seed->default_user, "root") == 0;

    im_str_add(out, "\"users\":[{\"name\":");
    seed_add_quoted(out, seed->default_user);
    if (!root)
        im_str_add(out, ",\"sudo\":\"ALL=(ALL) NOPASSWD:ALL\",\"shell\":\"/bin/bash\"");
    if (!im_str_empty(seed->passwd_hash)) {
        im_str_add(out, ",\"lock_passwd\":false,\"passwd\":");
        seed_add_quoted(out, seed->passwd_hash);
    }
    for (size_t i = 0; i < seed->public_key_count; i++) {
        im_str_add(out, i ? "," : ",\"ssh_authorized_keys\":[");
        seed_add_quoted(out, seed->public_keys[i]);
    }
    im_str_addf(out, "%s}],\"disable_root\":%s,\"ssh_pwauth\":%s,",
                seed->public_key_count > 0 ? "]" : "", root ? "false" : "true",
                im_str_empty(seed->passwd_hash) ? "false" : "true");
    /* `users` leaves the password of a user that is there already alone; chpasswd does not. In the
     * form of a list, as versions before 22 know no other. */
    if (!im_str_empty(seed->passwd_hash)) {
        IM_AUTO(free_auto) char *line = im_printf("%s:%s", seed->default_user, seed->passwd_hash);

        im_str_add(out, "\"chpasswd\":{\"expire\":false,\"list\":[");
        seed_add_quoted(out, line);
        im_str_add(out, "]},");
    }
}

/* JSON, which is YAML too and needs no indentation. */
static char *cloud_config(const struct seed *seed) {
    struct im_str out = {0};

    im_str_add(&out, "#cloud-config\n{\"hostname\":");
    seed_add_quoted(&out, seed->hostname);
    im_str_add(&out, ",\"preserve_hostname\":false,\"manage_etc_hosts\":true,");
    add_user(&out, seed);
    im_str_add(&out, "\"growpart\":{\"mode\":\"auto\",\"devices\":[\"/\"]},"
                     "\"resize_rootfs\":true}\n");
    return im_str_take(&out);
}

/* --- What the user gave ------------------------------------------------------------------------
 */

static bool begins(const struct seed *seed, const char *word) {
    size_t len = strlen(word);

    return seed->userdata_len >= len && memcmp(seed->userdata, word, len) == 0;
}

static bool begins_any(const struct seed *seed, const char *const words[], size_t count) {
    for (size_t i = 0; i < count; i++)
        if (begins(seed, words[i]))
            return true;
    return false;
}

/* As cloud-init tells: the header stands in the first 4 KiB. Ours wants to begin with a header, as
 * it becomes a part among others. */
static bool is_mime(const struct seed *seed) {
    static const char word[] = "mime-version:";
    size_t end = seed->userdata_len < 4096 ? seed->userdata_len : 4096;

    if (seed->userdata_len == 0 || !isalpha((unsigned char) seed->userdata[0]))
        return false;
    for (size_t i = 0; i + strlen(word) <= end; i++)
        if (strncasecmp(seed->userdata + i, word, strlen(word)) == 0)
            return true;
    return false;
}

static void part_begin(struct im_str *out, const char *boundary, const char *type) {
    im_str_addf(out, "--%s\nContent-Type: %s\nContent-Transfer-Encoding: base64\n", boundary, type);
}

/* cloud-init reads text parts as UTF-8. A script that is not is carried in one that is. */
static void add_bytes_script(struct im_str *out, const struct seed *seed) {
    struct im_str carrier = {0};

    im_str_add(&carrier, "#!/bin/sh\nf=$(mktemp) || exit 1\nbase64 -d >\"$f\" <<'X'\n");
    seed_add_base64(&carrier, seed->userdata, seed->userdata_len);
    im_str_add(&carrier, "X\nchmod 700 \"$f\"\nexec \"$f\"\n");
    im_str_add_char(out, '\n');
    seed_add_base64(out, carrier.data, carrier.len);
    im_str_done(&carrier);
}

/* Ours goes first and wins where both say a thing; lists are joined. text/plain: cloud-init looks
 * at the first line, as it does when such data comes alone. */
static void add_given(struct im_str *out, const struct seed *seed, const char *boundary) {
    static const char *const texts[] = {"#!", "#cloud-", "#include", "#part-handler",
                                        "## template: jinja"};
    static const char merge[] = "Merge-Type: list(append)+dict(no_replace,recurse_list)+str()\n\n";
    bool utf8;

    if (seed->userdata == NULL)
        return;
    utf8 = im_utf8_valid(seed->userdata, seed->userdata_len);
    if (utf8 && is_mime(seed)) {
        im_str_addf(out, "--%s\n", boundary);
        im_str_add_bytes(out, seed->userdata, seed->userdata_len);
        im_str_add_char(out, '\n');
    } else if (begins(seed, "\x1f\x8b")) {
        part_begin(out, boundary, "application/gzip");
        im_str_add(out, merge);
        seed_add_base64(out, seed->userdata, seed->userdata_len);
    } else if (utf8 && begins_any(seed, texts, sizeof(texts) / sizeof(*texts))) {
        part_begin(out, boundary, "text/plain");
        im_str_add(out, merge);
        seed_add_base64(out, seed->userdata, seed->userdata_len);
    } else if (begins(seed, "#!")) {
        part_begin(out, boundary, "text/x-shellscript");
        add_bytes_script(out, seed);
    }
}

/* A boundary that nobody can guess keeps the parts apart. */
char *seed_user_data(const struct seed *seed) {
    IM_AUTO(free_auto) char *hook = seed_hook(seed);
    IM_AUTO(free_auto) char *config = cloud_config(seed);
    struct im_str out = {0};
    char boundary[33];

    im_random_text(boundary, 32, "abcdefghijklmnopqrstuvwxyz0123456789");
    im_str_addf(&out, "Content-Type: multipart/mixed; boundary=\"%s\"\nMIME-Version: 1.0\n\n",
                boundary);
    part_begin(&out, boundary, "text/cloud-boothook");
    im_str_add_char(&out, '\n');
    seed_add_base64(&out, hook, strlen(hook));
    part_begin(&out, boundary, "text/cloud-config");
    im_str_add_char(&out, '\n');
    seed_add_base64(&out, config, strlen(config));
    add_given(&out, seed, boundary);
    im_str_addf(&out, "--%s--\n", boundary);
    return im_str_take(&out);
}
