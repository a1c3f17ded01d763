/* SPDX-License-Identifier: Apache-2.0 */
/* The NoCloud disk: user-data as JSON, which is YAML too and needs no quoting of our own, in an ISO
 * image by libarchive. */
#include "seed/seed.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/str.h"

/* Text as a JSON string: what is in it stays in it, in YAML as well. */
static void add_quoted(struct im_str *out, const char *text) {
    im_str_add_char(out, '"');
    for (const char *p = text ? text : ""; *p != '\0'; p++) {
        if ((unsigned char) *p < ' ' || *p == 0x7f)
            im_str_addf(out, "\\u%04x", (unsigned) *p);
        else if (*p == '"' || *p == '\\')
            im_str_addf(out, "\\%c", *p);
        else
            im_str_add_char(out, *p);
    }
    im_str_add_char(out, '"');
}

static void add_file(struct im_str *out, const char *path, const char *content, bool last) {
    im_str_add(out, "{\"path\":");
    add_quoted(out, path);
    im_str_add(out, ",\"content\":");
    add_quoted(out, content);
    im_str_add(out, last ? "}" : "},");
}

static void add_user(struct im_str *out, const struct seed *seed) {
    bool root = strcmp(seed->default_user, "root") == 0;

    im_str_add(out, "\"users\":[{\"name\":");
    add_quoted(out, seed->default_user);
    if (!root)
        im_str_add(out, ",\"sudo\":\"ALL=(ALL) NOPASSWD:ALL\",\"shell\":\"/bin/bash\"");
    if (!im_str_empty(seed->passwd_hash)) {
        im_str_add(out, ",\"lock_passwd\":false,\"passwd\":");
        add_quoted(out, seed->passwd_hash);
    }
    im_str_add(out, ",\"ssh_authorized_keys\":[");
    for (size_t i = 0; i < seed->public_key_count; i++) {
        im_str_add(out, i ? "," : "");
        add_quoted(out, seed->public_keys[i]);
    }
    im_str_addf(out, "]}],\"disable_root\":%s,\"ssh_pwauth\":%s,", root ? "false" : "true",
                im_str_empty(seed->passwd_hash) ? "false" : "true");
    /* `users` leaves the password of a user that is there already alone; chpasswd does not. */
    if (!im_str_empty(seed->passwd_hash)) {
        IM_AUTO(free_auto) char *line = im_printf("%s:%s", seed->default_user, seed->passwd_hash);

        im_str_add(out, "\"chpasswd\":{\"expire\":false,\"list\":[");
        add_quoted(out, line);
        im_str_add(out, "]},");
    }
}

static char *cloud_config(const struct seed *seed) {
    struct im_str out = {0};
    IM_AUTO(free_auto)
    char *string_path =
        im_printf("%s/userdata.string",
                  seed->userdata_path ? seed->userdata_path : "/etc/qingcloud/userdata");
    IM_AUTO(free_auto)
    char *metadata_path = im_printf(
        "%s/metadata.json", seed->userdata_path ? seed->userdata_path : "/etc/qingcloud/userdata");
    bool text = seed->userdata != NULL && im_utf8_valid(seed->userdata, seed->userdata_len);
    IM_AUTO(free_auto)
    char *userdata = text ? im_strndup(seed->userdata, seed->userdata_len) : NULL;

    im_str_add(&out, "#cloud-config\n{\"hostname\":");
    add_quoted(&out, seed->hostname);
    im_str_add(&out, ",\"manage_etc_hosts\":true,");
    add_user(&out, seed);
    im_str_add(&out, "\"growpart\":{\"mode\":\"auto\",\"devices\":[\"/\"]},\"resize_rootfs\":true,"
                     "\"write_files\":[");
    if (seed->metadata_json != NULL)
        add_file(&out, metadata_path, seed->metadata_json, false);
    if (text)
        add_file(&out, string_path, userdata, false);
    add_file(&out, "/etc/qingcloud/instance-id", seed->instance_id, true);
    im_str_add(&out, "]}\n");
    return im_str_take(&out);
}

static bool is_script(const struct seed *seed) {
    return seed->userdata != NULL && seed->userdata_len > 2 && memcmp(seed->userdata, "#!", 2) == 0;
}

static bool is_config(const struct seed *seed) {
    static const char head[] = "#cloud-config";

    return seed->userdata != NULL && seed->userdata_len > strlen(head) &&
           memcmp(seed->userdata, head, strlen(head)) == 0;
}

/* Our part and the user's, each a MIME part: a boundary that nobody can guess keeps them apart. */
static char *user_data(const struct seed *seed, const char *boundary) {
    IM_AUTO(free_auto) char *ours = cloud_config(seed);
    struct im_str out = {0};

    if (!is_script(seed) && !is_config(seed))
        return im_steal(&ours);
    im_str_addf(&out,
                "Content-Type: multipart/mixed; boundary=\"%s\"\nMIME-Version: 1.0\n\n--%s\n"
                "Content-Type: text/cloud-config\n\n%s\n--%s\nContent-Type: %s\n"
                "Merge-Type: list(append)+dict(no_replace,recurse_list)+str()\n\n",
                boundary, boundary, ours, boundary,
                is_script(seed) ? "text/x-shellscript" : "text/cloud-config");
    im_str_add_bytes(&out, seed->userdata, seed->userdata_len);
    im_str_addf(&out, "\n--%s--\n", boundary);
    return im_str_take(&out);
}

static bool put(struct archive *archive, const char *name, const char *text) {
    struct archive_entry *entry = archive_entry_new();
    size_t len = strlen(text);
    bool done;

    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t) len);
    done = archive_write_header(archive, entry) == ARCHIVE_OK &&
           archive_write_data(archive, text, len) == (la_ssize_t) len;
    archive_entry_free(entry);
    return done;
}

static bool write_image(int fd, const struct seed *seed) {
    struct archive *archive = archive_write_new();
    struct im_str meta = {0};
    IM_AUTO(free_auto) char *user = NULL;
    char boundary[33];
    bool done;

    im_random_text(boundary, 32, "abcdefghijklmnopqrstuvwxyz0123456789");
    user = user_data(seed, boundary);
    im_str_add(&meta, "{\"instance-id\":");
    add_quoted(&meta, seed->instance_id);
    im_str_add(&meta, ",\"local-hostname\":");
    add_quoted(&meta, seed->hostname);
    im_str_add(&meta, "}\n");
    done = archive_write_set_format_iso9660(archive) == ARCHIVE_OK &&
           archive_write_set_options(archive, "iso9660:volume-id=cidata,iso9660:rockridge=useful,"
                                              "iso9660:joliet=1,iso9660:pad=0") == ARCHIVE_OK &&
           archive_write_open_fd(archive, fd) == ARCHIVE_OK &&
           put(archive, "meta-data", meta.data) && put(archive, "user-data", user) &&
           put(archive, "network-config",
               "{\"version\":2,\"ethernets\":{\"all\":{\"match\":{\"name\":\"e*\"},\"dhcp4\":true}}"
               "}\n") &&
           archive_write_close(archive) == ARCHIVE_OK;
    archive_write_free(archive);
    im_str_done(&meta);
    return done;
}

bool seed_write(const char *path, const struct seed *seed, uint32_t uid, uint32_t gid,
                struct im_err *err) {
    IM_AUTO(free_auto) char *draft = im_printf("%s.new", path);
    IM_AUTO(fd_auto) int fd = -1;

    unlink(draft);
    fd = open(draft, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return im_fail_sys(err, errno, "cannot make the seed %s", draft);
    if (!write_image(fd, seed) || (geteuid() == 0 && fchown(fd, uid, gid) < 0) || fsync(fd) < 0 ||
        rename(draft, path) < 0) {
        im_fail_sys(err, errno ? errno : EIO, "cannot write the seed %s", path);
        unlink(draft);
        return false;
    }
    return im_sync_parent(path, err);
}
