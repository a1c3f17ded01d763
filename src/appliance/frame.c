/* SPDX-License-Identifier: Apache-2.0 */
#include "appliance/frame.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define MAGIC 0x46417049u
#define PATIENCE_US 10000

struct head {
    uint32_t magic, words_len, data_len;
};

void frame_put(struct frame *frame, const char *key, const char *value) {
    im_str_add_bytes(&frame->words, key, strlen(key) + 1);
    im_str_add_bytes(&frame->words, value, strlen(value) + 1);
}

void frame_put_int(struct frame *frame, const char *key, int64_t value) {
    char text[24];

    snprintf(text, sizeof(text), "%" PRId64, value);
    frame_put(frame, key, text);
}

const char *frame_next(const struct frame *frame, const char *key, const char *after) {
    const char *at = after ? after + strlen(after) + 1 : frame->words.data;
    const char *end = frame->words.data + frame->words.len;

    while (at && at < end) {
        const char *value = at + strlen(at) + 1;

        if (strcmp(at, key) == 0)
            return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}

const char *frame_get(const struct frame *frame, const char *key) {
    return frame_next(frame, key, NULL);
}

int64_t frame_get_int(const struct frame *frame, const char *key, int64_t otherwise) {
    const char *text = frame_get(frame, key);
    int64_t value;

    return text && im_parse_i64(text, INT64_MIN, INT64_MAX, &value) ? value : otherwise;
}

void frame_done(struct frame *frame) {
    im_str_done(&frame->words);
    im_str_done(&frame->data);
}

/* --- The stream ------------------------------------------------------------------------------- */

static bool again(const struct frame_link *link) {
    if (errno == EPIPE && link->patient)
        (void) usleep(PATIENCE_US);
    return errno == EINTR || errno == EAGAIN || (errno == EPIPE && link->patient);
}

static bool put_all(const struct frame_link *link, const void *bytes, size_t len,
                    struct im_err *err) {
    const char *from = bytes;

    while (len > 0) {
        ssize_t got;

        if (link->ready && !link->ready(link->arg, link->fd, POLLOUT, err))
            return false;
        got = write(link->fd, from, len);
        if (got < 0 && again(link))
            continue;
        if (got < 0)
            return im_fail_sys(err, errno, "the other side cannot be told anything");
        from += got;
        len -= (size_t) got;
    }
    return true;
}

static bool get_all(const struct frame_link *link, void *bytes, size_t len, struct im_err *err) {
    char *to = bytes;

    while (len > 0) {
        ssize_t got;

        if (link->ready && !link->ready(link->arg, link->fd, POLLIN, err))
            return false;
        got = read(link->fd, to, len);
        if (got < 0 && again(link))
            continue;
        if (got < 0)
            return im_fail_sys(err, errno, "the other side cannot be heard");
        if (got == 0 && link->ended)
            return link->ended(link->arg, err);
        if (got == 0 && !link->patient)
            return im_fail(err, IM_BAD_MESSAGE, "the other side has ended");
        if (got == 0)
            (void) usleep(PATIENCE_US);
        to += got;
        len -= (size_t) got;
    }
    return true;
}

bool frame_send(const struct frame_link *link, const struct frame *frame, struct im_err *err) {
    struct head head = {MAGIC, (uint32_t) frame->words.len, (uint32_t) frame->data.len};

    if (frame->words.len > FRAME_WORDS_MAX || frame->data.len > FRAME_DATA_MAX)
        return im_fail(err, IM_BAD_MESSAGE, "an edit of %zu bytes is too long",
                       frame->words.len + frame->data.len);
    return put_all(link, &head, sizeof(head), err) &&
           put_all(link, frame->words.data, frame->words.len, err) &&
           put_all(link, frame->data.data, frame->data.len, err);
}

/* Keys and values in turn, each with its NUL. */
static bool words_valid(const struct im_str *words) {
    size_t nuls = 0;

    for (size_t i = 0; i < words->len; i++)
        nuls += words->data[i] == '\0';
    return nuls % 2 == 0 && (words->len == 0 || words->data[words->len - 1] == '\0');
}

static bool take(const struct frame_link *link, struct im_str *str, size_t len,
                 struct im_err *err) {
    if (len == 0)
        return true;
    if (!get_all(link, im_str_reserve(str, len), len, err))
        return false;
    str->len = len;
    str->data[len] = '\0';
    return true;
}

bool frame_receive(const struct frame_link *link, struct frame *frame, struct im_err *err) {
    struct head head;

    if (!get_all(link, &head, sizeof(head), err))
        return false;
    if (head.magic != MAGIC || head.words_len > FRAME_WORDS_MAX || head.data_len > link->data_max)
        return im_fail(err, IM_BAD_MESSAGE, "the other side talks nonsense");
    return take(link, &frame->words, head.words_len, err) &&
           take(link, &frame->data, head.data_len, err) &&
           (words_valid(&frame->words) ||
            im_fail(err, IM_BAD_MESSAGE, "the other side talks nonsense"));
}
