/* SPDX-License-Identifier: Apache-2.0 */
/* How the worker and the appliance (a virtual machine for a moment, in which the file systems of a
 * disk are changed) talk: frames over a stream. A frame is a list of words, key by key, and bytes.
 *
 * The worker takes nothing for granted of what comes back: limits are checked before memory is
 * taken, and a frame that is none is IM_BAD_MESSAGE. */
#ifndef APPLIANCE_FRAME_H
#define APPLIANCE_FRAME_H

#include "base/auto.h"
#include "base/err.h"
#include "base/str.h"

#define FRAME_WORDS_MAX (256u << 10)
#define FRAME_DATA_MAX (64u << 20) /* of one edit */
#define FRAME_OUTPUT_MAX 65536u    /* what is kept of a program's output */

/* Zero-initialise. */
struct frame {
    struct im_str words; /* key, NUL, value, NUL, … */
    struct im_str data;
};
void frame_put(struct frame *frame, const char *key, const char *value);
void frame_put_int(struct frame *frame, const char *key, int64_t value);
/* The value of the first such key after the value `after` (NULL: the first of all), borrowed; NULL
 * if there is none. */
const char *frame_next(const struct frame *frame, const char *key, const char *after);
const char *frame_get(const struct frame *frame, const char *key);
int64_t frame_get_int(const struct frame *frame, const char *key, int64_t otherwise);
void frame_done(struct frame *frame);

struct frame_link {
    int fd;
    size_t data_max; /* of frames that are received */
    /* Called before each read or write with POLLIN or POLLOUT; false ends it. May be NULL. */
    bool (*ready)(void *arg, int fd, short events, struct im_err *err);
    /* Says why the stream has ended; false. May be NULL. */
    bool (*ended)(void *arg, struct im_err *err);
    void *arg;
    bool patient; /* no bytes are no end: the other side has not come yet */
};
bool frame_send(const struct frame_link *link, const struct frame *frame,
                struct im_err *err) IM_MUST_CHECK;
/* Fills an empty frame. */
bool frame_receive(const struct frame_link *link, struct frame *frame,
                   struct im_err *err) IM_MUST_CHECK;

#endif
