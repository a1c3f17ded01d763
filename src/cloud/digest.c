/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of frozen layers, read from one end to the other: their digest, and a copy of them on
 * the way if one is wanted. What was read is then held against the record. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "cloud-private.h"

enum { PIECE = 1 << 20, ALIGNMENT = 4096, REST_MS = 200, REWRITES_KEPT = 1024 };

/* --- Reading ---------------------------------------------------------------------------------- */

/* Past the cache, where rot would not be seen, and which machines need more. Not every file system
 * can. */
static void read_directly(int fd, bool directly) {
    int flags = fcntl(fd, F_GETFL);

    if (flags >= 0)
        (void) fcntl(fd, F_SETFL, directly ? flags | O_DIRECT : flags & ~O_DIRECT);
}

static ssize_t read_piece(const struct stream *stream, unsigned char *piece, uint64_t at) {
    for (;;) {
        ssize_t got = pread(stream->in, piece, PIECE, (off_t) at);

        if (got >= 0 || (errno != EINTR && errno != EINVAL))
            return got;
        if (errno == EINVAL && (fcntl(stream->in, F_GETFL) & O_DIRECT) == 0)
            return got;
        if (errno == EINVAL)
            read_directly(stream->in, false);
    }
}

/* Zeros stay holes: the file is empty before. */
static bool write_piece(const struct stream *stream, const unsigned char *piece, size_t len,
                        uint64_t at, struct im_err *err) {
    return stream->out < 0 || im_all_zero(piece, len) ||
           im_pwrite_all(stream->out, piece, len, at, stream->name, err);
}

static bool told_to_stop(const struct stream *stream) {
    return stream->cancel != NULL && *stream->cancel;
}

/* Not faster than allowed, counted from the beginning; wakes up to be told to stop. */
static void keep_pace(const struct stream *stream, int64_t began_ms, uint64_t done) {
    int64_t due;

    if (stream->rate_bytes <= 0)
        return;
    due = began_ms + (int64_t) (done / (uint64_t) stream->rate_bytes) * 1000 +
          (int64_t) (done % (uint64_t) stream->rate_bytes) * 1000 / stream->rate_bytes;
    for (int64_t left; !told_to_stop(stream) && (left = due - im_mono_ms()) > 0;)
        im_sleep_ms(left < REST_MS ? left : REST_MS);
}

static bool stream_pieces(struct stream *stream, unsigned char *piece, struct crypto_digest *digest,
                          struct im_err *err) {
    int64_t began_ms = im_mono_ms();

    for (stream->bytes = 0;;) {
        ssize_t got = read_piece(stream, piece, stream->bytes);

        if (told_to_stop(stream))
            return im_fail(err, IM_CANCELLED, "cancelled while layer %s was read", stream->name);
        stream->read_failed = got < 0;
        if (got < 0)
            return im_fail_sys(err, errno, "layer %s cannot be read at %" PRIu64, stream->name,
                               stream->bytes);
        if (got == 0)
            break;
        crypto_digest_add(digest, piece, (size_t) got);
        if (!write_piece(stream, piece, (size_t) got, stream->bytes, err))
            return false;
        stream->bytes += (uint64_t) got;
        if (stream->progress != NULL)
            stream->progress(stream->arg, stream->bytes);
        keep_pace(stream, began_ms, stream->bytes);
    }
    if (stream->out >= 0 && ftruncate(stream->out, (off_t) stream->bytes) < 0)
        return im_fail_sys(err, errno, "layer %s cannot be written", stream->name);
    return true;
}

bool stream_run(struct stream *stream, char ret_digest[DIGEST_TEXT], struct im_err *err) {
    struct crypto_digest *digest = crypto_digest_begin();
    unsigned char *piece = NULL;
    char hex[65];
    bool streamed;

    if (posix_memalign((void **) &piece, ALIGNMENT, PIECE) != 0)
        abort();
    read_directly(stream->in, true);
    streamed = stream_pieces(stream, piece, digest, err);
    crypto_digest_end(digest, hex);
    free(piece);
    snprintf(ret_digest, DIGEST_TEXT, "sha256:%s", hex);
    return streamed;
}

bool layer_read(struct storage_pool *pool, const char *name, struct stream *stream,
                char ret_digest[DIGEST_TEXT], struct im_err *err) {
    IM_AUTO(fd_auto) int in = -1;

    if (!storage_read(pool, name, &in, NULL, err))
        return false;
    stream->in = in;
    stream->out = -1;
    stream->name = name;
    return stream_run(stream, ret_digest, err);
}

/* --- Files that are replaced by others of the same content ------------------------------------ */

/* A layer that is merged with its parent keeps its name and what it shows, but not its bytes. Who
 * reads it meanwhile must not take that for rot: each time is written down, and a reading from
 * before counts for nothing. */
static bool forget_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct layer layer = {.layer_id = arg};

    return record_update_fields(conn, &layer_type, &layer,
                                (const char *const[]){"file_digest", "checked_time", NULL}, err);
}

bool layer_rewrite_begin(struct cloud *cloud, const char *layer_id, struct im_err *err) {
    pthread_mutex_lock(&cloud->digest_lock);
    if (cloud->rewritten.count >= REWRITES_KEPT) {
        im_strings_done(&cloud->rewritten);
        cloud->rewrites_forgotten++;
    }
    im_strings_add(&cloud->rewritten, layer_id);
    im_strings_add(&cloud->rewriting, layer_id);
    pthread_mutex_unlock(&cloud->digest_lock);
    if (cloud_transact(cloud, forget_body, (void *) layer_id, err))
        return true;
    layer_rewrite_end(cloud, layer_id);
    return false;
}

void layer_rewrite_end(struct cloud *cloud, const char *layer_id) {
    pthread_mutex_lock(&cloud->digest_lock);
    im_strings_drop(&cloud->rewriting, layer_id);
    pthread_mutex_unlock(&cloud->digest_lock);
}

struct reading_since reading_begin(struct cloud *cloud) {
    struct reading_since since;

    pthread_mutex_lock(&cloud->digest_lock);
    since = (struct reading_since){cloud->rewritten.count, cloud->rewrites_forgotten};
    pthread_mutex_unlock(&cloud->digest_lock);
    return since;
}

/* Call with the lock held. */
static bool rewritten_since(const struct cloud *cloud, const char *layer_id,
                            const struct reading_since *since) {
    if (cloud->rewrites_forgotten != since->forgotten ||
        im_strings_has(&cloud->rewriting, layer_id))
        return true;
    for (size_t i = since->count; i < cloud->rewritten.count; i++)
        if (strcmp(cloud->rewritten.items[i], layer_id) == 0)
            return true;
    return false;
}

/* --- What was read, held against the record --------------------------------------------------- */

struct judgement {
    const char *layer_id, *digest;
    const struct im_err *trouble;
    enum verdict verdict;
    bool news; /* it was not known to be damaged before */
    char why[320];
};

static bool judge_row(struct db_conn *conn, struct judgement *judgement, struct layer *layer,
                      struct im_err *err) {
    bool known = !im_str_empty(layer->file_digest), was_damaged = !im_str_empty(layer->damage);
    char time[IM_TIME_TEXT];

    im_time_format(im_now_s(), time);
    if (judgement->trouble != NULL)
        snprintf(judgement->why, sizeof(judgement->why), "%.240s (%s)", judgement->trouble->text,
                 time);
    else if (known && strcmp(layer->file_digest, judgement->digest) != 0)
        snprintf(judgement->why, sizeof(judgement->why),
                 "its bytes have changed: they were %.24s…, they are %.24s… (%s)",
                 layer->file_digest, judgement->digest, time);
    judgement->verdict = judgement->why[0] != '\0' ? VERDICT_BAD : VERDICT_GOOD;
    judgement->news = !was_damaged;
    if (judgement->verdict == VERDICT_BAD)
        return was_damaged || damage_set(conn, layer->layer_id, judgement->why, err);
    im_replace(&layer->file_digest, judgement->digest);
    layer->checked_time = im_now_s();
    if (was_damaged && !damage_set(conn, layer->layer_id, "", err))
        return false;
    return record_update_fields(conn, &layer_type, layer,
                                (const char *const[]){"file_digest", "checked_time", NULL}, err);
}

/* A layer that is given up, or was never whole, is nobody's loss. */
static bool judge_body(struct db_conn *conn, void *arg, struct im_err *err) {
    struct judgement *judgement = arg;
    IM_AUTO(layer_free_auto) struct layer *layer = NULL;
    struct im_err missing = {0};

    judgement->why[0] = '\0';
    judgement->verdict = VERDICT_STALE;
    if (!record_get(conn, &layer_type, judgement->layer_id, &layer, &missing)) {
        if (missing.code != IM_NOT_FOUND)
            *err = missing;
        return missing.code == IM_NOT_FOUND;
    }
    return layer->state != LAYER_FROZEN || judge_row(conn, judgement, layer, err);
}

bool reading_judge(struct cloud *cloud, const char *layer_id, const struct reading_since *since,
                   const char *digest, const struct im_err *trouble, enum verdict *ret_verdict,
                   struct im_err *err) {
    struct judgement judgement = {.layer_id = layer_id, .digest = digest, .trouble = trouble};
    bool judged = true;

    pthread_mutex_lock(&cloud->digest_lock);
    if (rewritten_since(cloud, layer_id, since))
        judgement.verdict = VERDICT_STALE;
    else
        judged = cloud_transact(cloud, judge_body, &judgement, err);
    pthread_mutex_unlock(&cloud->digest_lock);
    if (!judged)
        return false;
    if (judgement.verdict == VERDICT_BAD && judgement.news)
        im_error("scrub", "layer %s is damaged: %s", layer_id, judgement.why);
    *ret_verdict = judgement.verdict;
    return true;
}
