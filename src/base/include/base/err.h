/* SPDX-License-Identifier: Apache-2.0 */
/* One error for all rooms: a code that API clients see, and one sentence that names the thing and
 * the reason.
 *
 * What can fail returns bool or a pointer, takes `struct im_err *err` last and never NULL. The
 * place that knows the cause sets it once with im_fail(); callers put context in front with
 * im_within(). Outputs are untouched on failure. */
#ifndef IM_ERR_H
#define IM_ERR_H

#include <stdbool.h>
#include <stddef.h>

/* name, ret_code on the wire, word that opens the message, text when nothing better is known.
 * Several names may share a ret_code: the wire knows fewer cases than we do. */
/* clang-format off */
#define IM_ERR_TABLE(X)                                                                            \
    X(OK,             0, "",                     "no error")                                       \
    X(BAD_MESSAGE,    1100, "InvalidMessageFormat", "a required parameter is missing or malformed")\
    X(BAD_IMAGE,      1100, "InvalidImage",         "the disk image cannot be used")               \
    X(BAD_ACTION,     1101, "InvalidRequestMethod", "unknown action or parameter value")           \
    X(AUTH,           1200, "AuthFailure",          "unknown access key or wrong signature")       \
    X(EXPIRED,        1300, "RequestHasExpired",    "the request is too old")                      \
    X(DENIED,         1400, "PermissionDenied",     "access denied")                               \
    X(WRONG_STATE,    1400, "PermissionDenied",     "the resource is in another state")            \
    X(NOT_FOUND,      2100, "ResourceNotFound",     "no such resource")                            \
    X(EXISTS,         2110, "ResourceExists",       "the resource exists already")                 \
    X(QUOTA,          2500, "QuotasExceeded",       "quota exceeded")                              \
    X(INTERNAL,       5000, "InternalError",        "internal error")                              \
    X(UNKNOWN_COMMIT, 5000, "InternalError",        "the commit may have happened or not")         \
    X(CANCELLED,      5000, "Cancelled",            "cancelled")                                   \
    X(UNSUPPORTED,    5000, "NotSupported",         "not supported here")                          \
    X(BUSY,           5100, "ServerBusy",           "the server is busy")                          \
    X(NO_RECORD,      5100, "ServerBusy",           "the record cannot be reached or written now") \
    X(TIMEOUT,        5100, "ServerBusy",           "timed out")                                   \
    X(NO_SPACE,       5200, "InsufficientResource", "the storage pool is full")                    \
    X(NO_RESOURCE,    5200, "InsufficientResource", "not enough resources on the host")
/* clang-format on */

enum im_code {
#define X(name, ret, type, text) IM_##name,
    IM_ERR_TABLE(X)
#undef X
        IM_CODES
};

/* Lives on the caller's stack: an error never allocates and never leaks. Zero-initialise: `struct
 * im_err err = {0};` */
struct im_err {
    enum im_code code;
    int sys;        /* errno behind it, 0 if none; for the log only */
    char text[504]; /* one sentence: which thing, what went wrong, no full stop */
};

/* Sets *err and returns false, so that a function can end with `return im_fail(...)`. */
bool im_fail(struct im_err *err, enum im_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same for a failed system call: the text of `sys` follows the sentence. ENOSPC, EDQUOT and
 * EFBIG become IM_NO_SPACE, ENOENT stays IM_INTERNAL (a missing file of ours is our fault, not the
 * client's). */
bool im_fail_sys(struct im_err *err, int sys, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "format: " in front of the sentence; code and sys stay. Returns false. */
bool im_within(struct im_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The ret_code that goes over the wire, the word that opens the message, and the table's own text.
 */
int im_code_ret(enum im_code code);
const char *im_code_type(enum im_code code);
const char *im_code_text(enum im_code code);
/* "NOT_FOUND" and so on: the form in which codes are kept in the record and sent by workers. */
const char *im_code_name(enum im_code code);
/* IM_INTERNAL for a name that is not in the table. */
enum im_code im_code_from_name(const char *name);

#endif
