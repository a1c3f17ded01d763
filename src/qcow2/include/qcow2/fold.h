/* SPDX-License-Identifier: Apache-2.0 */
/* Several layers made into one: what the uppermost of them shows, and they all hold together. What
 * none of them holds is still read from the layer below them. */
#ifndef QCOW2_FOLD_H
#define QCOW2_FOLD_H

#include "qcow2/chain.h"

struct qcow2_fold {
    const struct qcow2_layer *layers; /* the uppermost first; clusters of 64 KiB and more */
    size_t count;
    /* The file below the lowest of them, of the format qcow2, and not larger than it; NULL: none.
     */
    const char *backing;
    /* Called every MiB or so of data and every few thousand clusters without: the bytes of the disk
     * that are done, and of data copied. Ends the fold with false. May be NULL. */
    bool (*pace)(void *arg, uint64_t done_bytes, uint64_t copied_bytes, struct im_err *err);
    void *arg;
};
/* Fills the empty file, durably; only the end makes it a valid image. Zeros that hide what is below
 * stay, in no room. *ret_copied is the data in it. Codes as of qcow2_chain_open; IM_UNSUPPORTED for
 * smaller clusters. */
bool qcow2_fold(int fd, const struct qcow2_fold *fold, uint64_t *ret_copied,
                struct im_err *err) IM_MUST_CHECK;

#endif
