/* SPDX-License-Identifier: Apache-2.0 */
/* Data of the image to its place, past the page cache where the file system can: the disk then
 * takes it from where it lies, nothing is copied, and the fsync at the end is short. Each page of a
 * new file costs as much as hashing it on some virtual hosts, which give memory away and take it
 * back. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fd.h"
#include "worker-private.h"

#define DIRECT_PIECE (8u << 20)
#define WRITEBACK_BYTES (32ull << 20)

static bool set_direct(struct store *store, bool on) {
    int flags;

    if (store->direct == on)
        return true;
    flags = fcntl(store->fd, F_GETFL);
    if (flags < 0 || fcntl(store->fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) < 0)
        return false;
    store->direct = on;
    return true;
}

/* How many bytes got written that way; the rest is left to the page cache. */
static bool write_direct(struct store *store, const uint8_t *bytes, size_t len, uint64_t at,
                         size_t *ret_written, struct im_err *err) {
    size_t written = 0;

    while (written < len) {
        size_t now = len - written < DIRECT_PIECE ? len - written : DIRECT_PIECE;
        ssize_t got = pwrite(store->fd, bytes + written, now, (off_t) (at + written));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EFAULT) /* its page is no longer there */
            return im_fail(err, IM_BAD_IMAGE, "what came in became shorter while it was read");
        if (got < 0 && errno != EINVAL)
            return im_fail_sys(err, errno, "cannot write %s", "the image");
        if (got <= 0 || got % 512 != 0) { /* its alignment does not suit this file system */
            store->never_direct = true;
            break;
        }
        written += (size_t) got;
    }
    *ret_written = written;
    return true;
}

/* Lets the disk begin early, so that the fsync at the end is short. */
static void start_writeback(struct store *store, size_t len) {
    store->dirty += len;
    if (store->dirty < WRITEBACK_BYTES)
        return;
    store->dirty = 0;
    (void) sync_file_range(store->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

bool store_write(struct store *store, const uint8_t *bytes, size_t len, uint64_t at, bool in_place,
                 struct im_err *err) {
    size_t written = 0;

    if (in_place && !store->never_direct && len % 512 == 0) {
        if (!set_direct(store, true))
            store->never_direct = true;
        else if (!write_direct(store, bytes, len, at, &written, err))
            return false;
    }
    if (written == len)
        return true;
    if (!store_plain(store, err) ||
        !im_pwrite_all(store->fd, bytes + written, len - written, at + written, "the image", err))
        return false;
    start_writeback(store, len - written);
    return true;
}

bool store_plain(struct store *store, struct im_err *err) {
    return set_direct(store, false) || im_fail_sys(err, errno, "the image");
}
