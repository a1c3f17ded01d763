/* SPDX-License-Identifier: Apache-2.0 */
/* Whole reads and writes, durable replacement of small files. */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/mem.h"

bool im_write_all(int fd, const void *bytes, size_t len, const char *what, struct im_err *err) {
    const char *p = bytes;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return im_fail_sys(err, errno, "cannot write %s", what);
        p += n;
        len -= (size_t) n;
    }
    return true;
}

bool im_pwrite_all(int fd, const void *bytes, size_t len, uint64_t offset, const char *what,
                   struct im_err *err) {
    const char *p = bytes;

    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t) offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return im_fail_sys(err, errno, "cannot write %s", what);
        p += n;
        offset += (uint64_t) n;
        len -= (size_t) n;
    }
    return true;
}

bool im_pread_all(int fd, void *bytes, size_t len, uint64_t offset, const char *what,
                  struct im_err *err) {
    char *p = bytes;

    while (len > 0) {
        ssize_t n = pread(fd, p, len, (off_t) offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return im_fail_sys(err, errno, "cannot read %s", what);
        if (n == 0)
            return im_fail(err, IM_BAD_MESSAGE, "%s ends early", what);
        p += n;
        offset += (uint64_t) n;
        len -= (size_t) n;
    }
    return true;
}

bool im_read_file(const char *path, size_t max, char **ret_text, size_t *ret_len,
                  struct im_err *err) {
    IM_AUTO(fd_auto) int fd = open(path, O_RDONLY | O_CLOEXEC);
    IM_AUTO(free_auto) char *text = NULL;
    size_t len = 0, capacity = 0;

    if (fd < 0)
        return im_fail_sys(err, errno, "cannot open %s", path);
    for (;;) {
        ssize_t n;

        if (len + 1 >= capacity) {
            capacity = capacity ? capacity * 2 : 4096;
            text = im_realloc_array(text, capacity, 1);
        }
        n = read(fd, text + len, capacity - len - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return im_fail_sys(err, errno, "cannot read %s", path);
        if (n == 0)
            break;
        len += (size_t) n;
        if (len > max)
            return im_fail(err, IM_BAD_MESSAGE, "%s is larger than %zu bytes", path, max);
    }
    text[len] = '\0';
    *ret_text = im_steal(&text);
    if (ret_len != NULL)
        *ret_len = len;
    return true;
}

bool im_sync_parent(const char *path, struct im_err *err) {
    const char *slash = strrchr(path, '/');
    IM_AUTO(free_auto)
    char *folder = slash == NULL   ? im_strdup(".")
                   : slash == path ? im_strdup("/")
                                   : im_strndup(path, (size_t) (slash - path));
    IM_AUTO(fd_auto) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return im_fail_sys(err, errno, "cannot make the folder %s durable", folder);
    return true;
}

bool im_write_file(const char *path, const void *bytes, size_t len, mode_t mode,
                   struct im_err *err) {
    IM_AUTO(free_auto) char *draft = im_printf("%s.new", path);
    IM_AUTO(fd_auto) int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    if (fd < 0)
        return im_fail_sys(err, errno, "cannot create %s", draft);
    if (fchmod(fd, mode) < 0 || !im_write_all(fd, bytes, len, draft, err) || fsync(fd) < 0 ||
        rename(draft, path) < 0) {
        if (err->code == IM_OK)
            im_fail_sys(err, errno, "cannot write %s", path);
        unlink(draft);
        return false;
    }
    return im_sync_parent(path, err);
}

bool im_make_dirs(const char *path, mode_t mode, struct im_err *err) {
    IM_AUTO(free_auto) char *part = im_strdup(path);

    for (char *p = part + 1;; p++) {
        char end = *p;

        if (end != '/' && end != '\0')
            continue;
        *p = '\0';
        if (mkdir(part, mode) < 0 && errno != EEXIST)
            return im_fail_sys(err, errno, "cannot create the folder %s", part);
        if (end == '\0')
            return true;
        *p = end;
    }
}
