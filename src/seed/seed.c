/* SPDX-License-Identifier: Apache-2.0 */
/* The NoCloud disk: meta-data, user-data and network-config in an ISO image by libarchive. */
#include "seed-private.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

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
    bool done;

    user = seed_user_data(seed);
    im_str_add(&meta, "{\"instance-id\":");
    seed_add_quoted(&meta, seed->instance_id);
    im_str_add(&meta, ",\"local-hostname\":");
    seed_add_quoted(&meta, seed->hostname);
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

    if (seed->userdata_len > SEED_USERDATA_MAX)
        return im_fail(err, IM_BAD_MESSAGE,
                       "user data has %zu bytes, a seed disk takes at most %d of them",
                       seed->userdata_len, SEED_USERDATA_MAX);
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
