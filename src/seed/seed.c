/* SPDX-License-Identifier: Apache-2.0 */
/* The NoCloud disk: meta-data, user-data and network-config in an ISO image by libarchive. */
#include "seed-private.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"

static const char network[] =
    "{\"version\":2,\"ethernets\":{\"all\":{\"match\":{\"name\":\"e*\"},\"dhcp4\":true}}}\n";

static bool put(struct archive *archive, const char *name, const char *text, size_t len) {
    struct archive_entry *entry = archive_entry_new();
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

/* {"KEY":"VALUE",…} of pairs that end with NULL; those without a value are left out. The first has
 * one. */
static char *object(const char *const pairs[]) {
    struct im_str out = {0};

    for (size_t i = 0; pairs[i] != NULL; i += 2) {
        if (i > 0 && im_str_empty(pairs[i + 1]))
            continue;
        im_str_addf(&out, "%s\"%s\":", i == 0 ? "{" : ",", pairs[i]);
        seed_add_quoted(&out, pairs[i + 1]);
    }
    im_str_add(&out, "}\n");
    return im_str_take(&out);
}

static void forget(char *secret) {
    explicit_bzero(secret, strlen(secret));
    free(secret);
}

static bool put_linux(struct archive *archive, const struct seed *seed) {
    IM_AUTO(free_auto)
    char *meta = object((const char *const[]){"instance-id", seed->instance_id, "local-hostname",
                                              seed->hostname, NULL});
    IM_AUTO(free_auto) char *user = seed_user_data(seed);

    return put(archive, "meta-data", meta, strlen(meta)) &&
           put(archive, "user-data", user, strlen(user)) &&
           put(archive, "network-config", network, strlen(network));
}

/* Without network-config: cards without one are set up by DHCP, and of one that names no address of
 * a card cloudbase-init makes nothing. */
static bool put_windows(struct archive *archive, const struct seed *seed) {
    char *stack = object((const char *const[]){"uuid", seed->instance_id, "hostname",
                                               seed->hostname, "admin_username", seed->default_user,
                                               "admin_pass", seed->admin_passwd, NULL});
    char *cloud = object((const char *const[]){"instance-id", seed->instance_id, "local-hostname",
                                               seed->hostname, "admin-username", seed->default_user,
                                               "admin-password", seed->admin_passwd, NULL});
    const char *user = seed->userdata != NULL ? seed->userdata : "";
    bool done = put(archive, "openstack/latest/meta_data.json", stack, strlen(stack)) &&
                put(archive, "meta-data", cloud, strlen(cloud)) &&
                (seed->userdata_len == 0 ||
                 (put(archive, "openstack/latest/user_data", user, seed->userdata_len) &&
                  put(archive, "user-data", user, seed->userdata_len)));

    forget(stack);
    forget(cloud);
    return done;
}

static bool write_image(int fd, const struct seed *seed) {
    struct archive *archive = archive_write_new();
    IM_AUTO(free_auto)
    char *options = im_printf("iso9660:volume-id=%s,iso9660:rockridge=useful,iso9660:joliet=1,"
                              "iso9660:pad=0",
                              seed->windows ? "config-2" : "cidata");
    bool done = archive_write_set_format_iso9660(archive) == ARCHIVE_OK &&
                archive_write_set_options(archive, options) == ARCHIVE_OK &&
                archive_write_open_fd(archive, fd) == ARCHIVE_OK &&
                (seed->windows ? put_windows(archive, seed) : put_linux(archive, seed)) &&
                archive_write_close(archive) == ARCHIVE_OK;

    archive_write_free(archive);
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

/* What is written over the file: the image, then zeros where the older one was longer. */
static bool write_over(int fd, int draft, const char *path, struct im_err *err) {
    static const char zeros[4096];
    char bytes[sizeof(zeros)];
    struct stat old, made;
    ssize_t len = 0;

    if (fstat(fd, &old) < 0 || fstat(draft, &made) < 0)
        return im_fail_sys(err, errno, "cannot look at the seed %s", path);
    for (off_t at = 0; at < made.st_size || at < old.st_size; at += len) {
        len = pread(draft, bytes, sizeof(bytes), at);
        if (len < 0)
            return im_fail_sys(err, errno, "cannot read the draft of the seed %s", path);
        if (len == 0) {
            memcpy(bytes, zeros, sizeof(zeros));
            len = (ssize_t) (old.st_size - at < (off_t) sizeof(zeros) ? old.st_size - at
                                                                      : (off_t) sizeof(zeros));
        }
        if (!im_pwrite_all(fd, bytes, (size_t) len, (uint64_t) at, path, err))
            return false;
    }
    return fsync(fd) == 0 || im_fail_sys(err, errno, "cannot write the seed %s", path);
}

bool seed_rewrite(const char *path, const struct seed *seed, struct im_err *err) {
    IM_AUTO(free_auto) char *half = im_printf("%s.new", path);
    IM_AUTO(fd_auto) int draft = memfd_create("seed", MFD_CLOEXEC);
    IM_AUTO(fd_auto) int fd = -1;

    (void) unlink(half); /* what a crash in seed_write may have left */
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return true;
    if (fd < 0 || draft < 0 || !write_image(draft, seed))
        return im_fail_sys(err, errno ? errno : EIO, "cannot write the seed %s", path);
    return write_over(fd, draft, path, err);
}
