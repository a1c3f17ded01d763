/* SPDX-License-Identifier: Apache-2.0 */
/* Exports as raw and as qcow2: sparse files, in which each byte has its place. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "qcow2/qcow2.h"
#include "worker-private.h"

#define PAGE 4096u

/* --- raw: the digest is made beside the copy, as all of the file is known in order ------------ */

static bool raw_begin(struct outlet *outlet, void **ret_state, struct im_err *err) {
    *ret_state = NULL;
    return ftruncate(outlet->fd, (off_t) outlet->size) == 0 ||
           im_fail_sys(err, errno, "the export cannot be made so large");
}

static bool zero_page(const uint8_t *bytes, size_t left) {
    size_t len = left < PAGE ? left : PAGE;

    return im_all_zero(bytes, len);
}

static bool raw_window(struct outlet *outlet, void *state, uint64_t offset, const uint8_t *bytes,
                       size_t len, struct im_err *err) {
    uint8_t *copy;
    size_t begin = 0;

    (void) state;
    if (offset > outlet->written)
        hash_push_zeros(outlet->hash, offset - outlet->written);
    copy = hash_claim(outlet->hash);
    memcpy(copy, bytes, len);
    hash_push(outlet->hash, len);
    outlet->written = offset + len;
    while (begin < len) { /* page by page, so that it takes no more than the layers do */
        size_t end = begin;

        while (end < len && !zero_page(bytes + end, len - end))
            end += len - end < PAGE ? len - end : PAGE;
        if (!im_pwrite_all(outlet->fd, bytes + begin, end - begin, offset + begin, "the export",
                           err))
            return false;
        begin = end < len ? end + PAGE : len;
    }
    return true;
}

static bool raw_end(struct outlet *outlet, void *state, struct im_err *err) {
    (void) state, (void) err;
    if (outlet->size > outlet->written)
        hash_push_zeros(outlet->hash, outlet->size - outlet->written);
    return true;
}

static void raw_free(void *state) { (void) state; }

const struct export_format export_raw = {"raw", raw_begin, raw_window, raw_end, raw_free};

/* --- qcow2: its header comes last, so its digest is that of the whole file ------------------- */

static bool qcow2_begin(struct outlet *outlet, void **ret_state, struct im_err *err) {
    *ret_state = qcow2_writer_new(outlet->fd, outlet->size, err);
    return *ret_state != NULL;
}

static bool qcow2_window(struct outlet *outlet, void *state, uint64_t offset, const uint8_t *bytes,
                         size_t len, struct im_err *err) {
    (void) outlet;
    return qcow2_writer_data(state, offset, bytes, len, err);
}

static bool qcow2_end(struct outlet *outlet, void *state, struct im_err *err) {
    off_t len;

    if (!qcow2_writer_finish(state, err))
        return false;
    len = lseek(outlet->fd, 0, SEEK_END);
    if (len < 0)
        return im_fail_sys(err, errno, "the export");
    hash_push_file(outlet->hash, outlet->fd, (uint64_t) len, (uint64_t) len);
    return true;
}

static void qcow2_free(void *state) { qcow2_writer_free(state); }

const struct export_format export_qcow2 = {"qcow2", qcow2_begin, qcow2_window, qcow2_end,
                                           qcow2_free};
