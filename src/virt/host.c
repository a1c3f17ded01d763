/* SPDX-License-Identifier: Apache-2.0 */
/* What we find out about the host ourselves, and the console logs that lie on it. */
#include "virt-private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/mem.h"

static bool line_kib(const char *text, const char *word, uint64_t *ret_bytes) {
    const char *at = strstr(text, word);
    uint64_t kib;

    if (at == NULL || sscanf(at + strlen(word), " %" SCNu64 " kB", &kib) != 1)
        return false;
    *ret_bytes = kib << 10;
    return true;
}

bool virt_meminfo(uint64_t *ret_total, uint64_t *ret_available, struct im_err *err) {
    IM_AUTO(free_auto) char *text = NULL;

    if (!im_read_file("/proc/meminfo", 1 << 16, &text, NULL, err))
        return false;
    if (!line_kib(text, "MemTotal:", ret_total) || !line_kib(text, "MemAvailable:", ret_available))
        return im_fail(err, IM_INTERNAL, "/proc/meminfo does not tell the memory");
    return true;
}

/* Where a file system cannot take a range out of the front of a file: copy what stays, in place.
 * What the guest prints in the moment between reading and cutting is lost; the descriptor appends,
 * like QEMU's, so nothing is ever written over. */
static bool rewrite_tail(int fd, const char *path, uint64_t size, struct im_err *err) {
    size_t keep = VIRT_LOG_MAX / 2;
    IM_AUTO(free_auto) char *tail = im_alloc(keep);

    if (!im_pread_all(fd, tail, keep, size - keep, path, err))
        return false;
    if (ftruncate(fd, 0) < 0)
        return im_fail_sys(err, errno, "cannot shorten %s", path);
    return im_write_all(fd, tail, keep, path, err);
}

bool virt_log_trim(const char *path, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW);
    struct stat st;
    uint64_t drop;

    if (fd < 0 && errno == ENOENT)
        return true;
    if (fd < 0 || fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot open the console log %s", path);
    if (st.st_size <= VIRT_LOG_MAX)
        return true;
    /* QEMU writes with O_APPEND, and the kernel moves the end under the same lock that its writes
     * take: nothing is lost. ext4 and xfs can, whole blocks only. */
    drop = ((uint64_t) st.st_size - VIRT_LOG_MAX / 2) / 65536 * 65536;
    if (fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, (off_t) drop) == 0)
        return true;
    return rewrite_tail(fd, path, (uint64_t) st.st_size, err);
}
