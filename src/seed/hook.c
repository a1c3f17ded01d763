/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest does early at every boot, as a boothook of cloud-init: cloud-init's own modules
 * for keys and passwords run once per instance only, and what changed while the machine was off
 * would never reach it. */
#include <string.h>

#include "base/auto.h"
#include "base/mem.h"
#include "seed-private.h"

#define DEFAULT_PATH "/etc/qingcloud/userdata"

/* Only POSIX shell and what every distribution has. It never fails cloud-init, whatever is missing
 * in the guest.
 *
 * Keys of ours are known by the comment that ends them, the key pair's id: all such lines are taken
 * out and the present ones put in, so that a detached key is gone, and one that came with a
 * captured disk too. Lines of the user's own stay. The new file takes the old one's place in one
 * step, and neither may be a link, as the folder is the user's.
 *
 * A password is set when it is another one than last time, so that one changed inside the guest
 * stays. At the first boot the user may be missing yet: cloud-init makes it then, and sets it.
 *
 * A root on LVM grows with its disk, by what its physical volumes gained and no more: what its
 * owner left free stays free. cloud-init grows partitions and file systems only, and it is still to
 * come at this point, so the file system is left to it. */
static const char script[] =
    "mkdir -p \"$path\" /etc/qingcloud \"$state\" && chmod 700 \"$state\"\n"
    "put() { # FILE MODE, base64 on stdin\n"
    "    umask 077\n"
    "    base64 -d >\"$1.new\" && chmod \"$2\" \"$1.new\" && mv -f \"$1.new\" \"$1\"\n"
    "}\n"
    "home=$(awk -F: -v user=\"$user\" '$1 == user { print $6 }' /etc/passwd)\n"
    "set_keys() {\n"
    "    dir=$home/.ssh file=$home/.ssh/authorized_keys\n"
    "    [ -n \"$home\" ] && [ -d \"$home\" ] && [ ! -L \"$dir\" ] && [ ! -L \"$file\" ] || return "
    "0\n"
    "    [ -e \"$file\" ] || [ -n \"$keys\" ] || return 0\n"
    "    umask 077\n"
    "    mkdir -p \"$dir\" && rm -f \"$file.new\" || return 0\n"
    "    {\n"
    "        [ ! -e \"$file\" ] || grep -v ' kp-[a-z0-9]*$' \"$file\"\n"
    "        [ -z \"$keys\" ] || printf '%s\\n' \"$keys\"\n"
    "    } >\"$file.new\"\n"
    "    chown \"$user:\" \"$dir\" \"$file.new\"\n"
    "    mv -f \"$file.new\" \"$file\"\n"
    "    ! command -v restorecon >/dev/null || restorecon -R \"$dir\"\n"
    "}\n"
    "set_password() {\n"
    "    sshd=/etc/ssh/sshd_config.d/40-imprint.conf\n"
    "    [ -z \"$hash\" ] || [ -z \"$home\" ] || printf '%s:%s\\n' \"$user\" \"$hash\" | chpasswd "
    "-e\n"
    "    if [ -z \"$hash\" ]; then\n"
    "        rm -f \"$sshd\"\n"
    "    elif [ -d /etc/ssh/sshd_config.d ]; then\n"
    "        root=prohibit-password\n"
    "        [ \"$user\" != root ] || root=yes\n"
    "        printf 'PasswordAuthentication yes\\nPermitRootLogin %s\\n' $root >\"$sshd\"\n"
    "    fi\n"
    "    printf '%s\\n' \"$id $hash\" >\"$state/passwd\"\n"
    "    chmod 600 \"$state/passwd\"\n"
    "}\n"
    "free_extents() { vgs --noheadings -o vg_free_count \"$group\" | tr -d ' '; }\n"
    "grow_lvm() {\n"
    "    command -v lvs || return 0\n"
    "    root=$(awk '$2 == \"/\" { root = $1 } END { print root }' /proc/mounts)\n"
    "    group=$(lvs --noheadings -o vg_name \"$root\" | tr -d ' ')\n"
    "    [ -n \"$group\" ] || return 0\n"
    "    free=$(free_extents)\n"
    "    for pv in $(pvs --noheadings -o pv_name -S \"vg_name=$group\"); do\n"
    "        node=$(readlink -f \"/sys/class/block/${pv##*/}\") disk=${node%/*}\n"
    "        [ ! -e \"$node/partition\" ] ||\n"
    "            growpart \"/dev/${disk##*/}\" \"$(cat \"$node/partition\")\"\n"
    "        pvresize \"$pv\"\n"
    "    done\n"
    "    more=$(($(free_extents) - free))\n"
    "    [ \"$more\" -le 0 ] || lvextend -l \"+$more\" \"$root\"\n"
    "}\n"
    "grow_lvm >/dev/null 2>&1\n"
    "set_keys\n"
    "[ \"$(cat \"$state/passwd\" 2>/dev/null)\" = \"$id $hash\" ] || set_password\n";

static bool path_ok(const char *path) {
    if (im_str_empty(path) || path[0] != '/' || strlen(path) > 1000 || strstr(path, "/../") ||
        im_ends_with(path, "/..") || !im_utf8_valid(path, strlen(path)))
        return false;
    for (const char *p = path; *p != '\0'; p++)
        if ((unsigned char) *p < ' ' || *p == 0x7f)
            return false;
    return true;
}

static void add_variable(struct im_str *out, const char *name, const char *value) {
    im_str_addf(out, "%s=", name);
    im_str_add_shell_quoted(out, value);
    im_str_add_char(out, '\n');
}

static void add_put(struct im_str *out, const char *file, const char *mode, const void *bytes,
                    size_t len) {
    im_str_addf(out, "put %s %s <<'X'\n", file, mode);
    seed_add_base64(out, bytes, len);
    im_str_add(out, "X\n");
}

static void add_text(struct im_str *out, const char *file, const char *text) {
    if (text != NULL)
        add_put(out, file, "644", text, strlen(text));
}

char *seed_hook(const struct seed *seed) {
    struct im_str out = {0};
    struct im_str keys = {0};

    for (size_t i = 0; i < seed->public_key_count; i++)
        im_str_addf(&keys, "%s%s", i ? "\n" : "", seed->public_keys[i]);
    im_str_add(&out, "#!/bin/sh\n# What Imprint keeps true in this machine, at every boot.\n");
    add_variable(&out, "id", seed->instance_id);
    add_variable(&out, "user", seed->default_user);
    add_variable(&out, "hash", seed->passwd_hash);
    add_variable(&out, "keys", keys.data);
    add_variable(&out, "path", path_ok(seed->userdata_path) ? seed->userdata_path : DEFAULT_PATH);
    im_str_add(&out, "state=/var/lib/imprint\n");
    im_str_add(&out, script);
    add_text(&out, "/etc/qingcloud/instance-id", seed->instance_id);
    add_text(&out, "\"$path/metadata.json\"", seed->metadata_json);
    add_text(&out, "\"$path/metadata.env\"", seed->metadata_env);
    /* It may hold secrets. */
    if (seed->userdata != NULL)
        add_put(&out, "\"$path/userdata.string\"", "600", seed->userdata, seed->userdata_len);
    im_str_add(&out, "exit 0\n");
    im_str_done(&keys);
    return im_str_take(&out);
}
