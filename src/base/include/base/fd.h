/* SPDX-License-Identifier: Apache-2.0 */
/* Files and descriptors: whole reads and writes, durable replacement. All set err as im_fail_sys()
 * does. */
#ifndef IM_FD_H
#define IM_FD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* Writes all of it, going on after short writes and EINTR. `what` names the file in the error. */
bool im_write_all(int fd, const void *bytes, size_t len, const char *what, struct im_err *err);
bool im_pwrite_all(int fd, const void *bytes, size_t len, uint64_t offset, const char *what,
                   struct im_err *err);
/* Reads exactly `len` bytes; an early end is IM_BAD_MESSAGE "… ends early". */
bool im_pread_all(int fd, void *bytes, size_t len, uint64_t offset, const char *what,
                  struct im_err *err);
/* A whole small file as NUL-terminated text of the caller; more than `max` bytes is an error. */
bool im_read_file(const char *path, size_t max, char **ret_text, size_t *ret_len,
                  struct im_err *err);
/* Writes `path`.new with `mode`, fsyncs, renames, fsyncs the folder: the file has the old or the
 * new content. */
bool im_write_file(const char *path, const void *bytes, size_t len, mode_t mode,
                   struct im_err *err);
/* fsync of the folder that holds `path`, which makes a new, renamed or removed name durable. */
bool im_sync_parent(const char *path, struct im_err *err);
/* mkdir -p; existing folders keep their mode. */
bool im_make_dirs(const char *path, mode_t mode, struct im_err *err);

#endif
