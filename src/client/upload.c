/* SPDX-License-Identifier: Apache-2.0 */
/* Uploads that go on where they broke off: PUT /data/images/{id} with Content-Range.
 *
 * "Content-Range: bytes * /TOTAL" and no body asks how far the server is; "bytes A-B/TOTAL" sends.
 * Either answer names received_bytes, and job_id once all bytes are there. */
#include "client-private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

enum { TRIES_WITHOUT_GAIN = 5 };

struct upload {
    struct client *client;
    const char *image_id;
    int fd;
    uint64_t total_bytes, offset, sent; /* of the request under way */
    client_progress progress;
    void *context;
    bool read_failed;
    int read_errno;
};

static size_t read_part(char *bytes, size_t size, size_t count, void *context) {
    struct upload *up = context;
    size_t room = size * count;
    ssize_t n;

    if (room > up->total_bytes - up->offset - up->sent)
        room = (size_t) (up->total_bytes - up->offset - up->sent);
    do
        n = pread(up->fd, bytes, room, (off_t) (up->offset + up->sent));
    while (n < 0 && errno == EINTR);
    if (n < 0 || (n == 0 && room > 0)) { /* a file that shrinks meanwhile is an error, too */
        up->read_failed = true;
        up->read_errno = n < 0 ? errno : EIO;
        return CURL_READFUNC_ABORT;
    }
    up->sent += (uint64_t) n;
    return (size_t) n;
}

static int seek_part(void *context, curl_off_t offset, int origin) {
    struct upload *up = context;

    if (origin != SEEK_SET || offset < 0)
        return CURL_SEEKFUNC_CANTSEEK;
    up->sent = (uint64_t) offset;
    return CURL_SEEKFUNC_OK;
}

static int report(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t sent) {
    struct upload *up = context;

    (void) a, (void) b, (void) c;
    if (client_interrupted(up->client))
        return 1;
    if (up->progress != NULL &&
        !up->progress(up->context, up->offset + (uint64_t) sent, up->total_bytes))
        return 1;
    return 0;
}

static char *signed_url(struct client *client, const char *image_id) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(free_auto) char *path = im_printf("%s/data/images/%s", client->prefix, image_id);
    IM_AUTO(free_auto) char *query = NULL;

    client_common_params(client, &params, im_now_s());
    query = client_signed_query("PUT", path, &params, client->secret);
    return im_printf("%s/data/images/%s?%s", client->origin, image_id, query);
}

/* One PUT; with `ask` only the question how far the server is. */
static bool put(struct upload *up, bool ask, struct wire_doc **ret_doc, struct im_err *err) {
    IM_AUTO(curl_slist_free_all_auto) struct curl_slist *headers = NULL;
    IM_AUTO(free_auto) char *url = signed_url(up->client, up->image_id);
    IM_AUTO(im_str_done) struct im_str reply = {0};
    CURL *curl = up->client->curl;
    char range[96];
    long status = 0;
    CURLcode rc;

    if (ask)
        snprintf(range, sizeof(range), "Content-Range: bytes */%" PRIu64, up->total_bytes);
    else
        snprintf(range, sizeof(range), "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64,
                 up->offset, up->total_bytes - 1, up->total_bytes);
    headers = curl_slist_append(headers, range);
    headers = curl_slist_append(headers, "Content-Type: application/octet-stream");
    headers = curl_slist_append(headers, ask ? "Expect:" : "Expect: 100-continue");
    client_prepare(up->client, curl);
    up->sent = 0;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, 1L << 20);
    curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE,
                     (curl_off_t) (ask ? 0 : up->total_bytes - up->offset));
    curl_easy_setopt(curl, CURLOPT_READFUNCTION, read_part);
    curl_easy_setopt(curl, CURLOPT_READDATA, up);
    curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, seek_part);
    curl_easy_setopt(curl, CURLOPT_SEEKDATA, up);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, client_gather);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &reply);
    if (!ask) {
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, report);
        curl_easy_setopt(curl, CURLOPT_XFERINFODATA, up);
    }
    rc = curl_easy_perform(curl);
    if (up->read_failed)
        return im_fail_sys(err, up->read_errno, "cannot read the file that is uploaded");
    if (rc != CURLE_OK)
        return client_transfer_fail(up->client, curl, rc, err);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    return client_reply(up->client, status, reply.data, reply.len, ret_doc, err);
}

/* A broken connection is worth another try, and so is a server that has not noticed yet that the
 * last one broke; a refusal or an interrupt is not. */
static bool worth_retrying(const struct upload *up, bool sending, const struct im_err *err) {
    enum client_fault fault = up->client->fault;

    /* What an earlier connection still held has ended the upload since we asked: its job is told
     * when we ask again. */
    if (fault == CLIENT_ANSWERED && sending && strstr(err->text, "waits for no upload") != NULL)
        return true;
    if (fault == CLIENT_ANSWERED)
        return strstr(err->text, "please try later") != NULL ||
               strstr(err->text, "goes on at byte") != NULL;
    return err->code != IM_CANCELLED && !up->read_failed && client_line_failed(up->client);
}

/* Where the server is. Remembers the job when it has all. */
static bool ask_offset(struct upload *up, char **ret_job_id, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    int64_t received;

    if (!put(up, true, &doc, err))
        return false;
    received = wire_get_int(wire_root(doc), "received_bytes", -1);
    if (received < 0 || (uint64_t) received > up->total_bytes)
        return im_fail(err, IM_BAD_MESSAGE,
                       "image %s: the server has %" PRId64 " bytes of a file of %" PRIu64
                       ": was another file uploaded before?",
                       up->image_id, received, up->total_bytes);
    up->offset = (uint64_t) received;
    im_replace(ret_job_id, wire_get_text(wire_root(doc), "job_id", NULL));
    return true;
}

static bool send_rest(struct upload *up, char **ret_job_id, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;

    if (!put(up, false, &doc, err))
        return false;
    up->offset = (uint64_t) wire_get_int(wire_root(doc), "received_bytes", 0);
    im_replace(ret_job_id, wire_get_text(wire_root(doc), "job_id", NULL));
    return true;
}

bool client_upload(struct client *client, const char *image_id, int fd, client_progress progress,
                   void *context, char **ret_job_id, struct im_err *err) {
    struct upload up = {
        .client = client, .image_id = image_id, .fd = fd, .progress = progress, .context = context};
    IM_AUTO(free_auto) char *job_id = NULL;
    uint64_t best = 0;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot look at the file to upload");
    if (!S_ISREG(st.st_mode) || st.st_size == 0)
        return im_fail(err, IM_BAD_MESSAGE,
                       "only a regular file with something in it can be "
                       "uploaded");
    up.total_bytes = (uint64_t) st.st_size;
    for (int tries = 0;;) {
        bool passed = ask_offset(&up, &job_id, err);
        bool sending = passed && up.offset < up.total_bytes;

        if (sending)
            passed = send_rest(&up, &job_id, err);
        if (passed && !im_str_empty(job_id))
            break;
        if (passed && ++tries >= TRIES_WITHOUT_GAIN)
            return im_fail(err, IM_INTERNAL,
                           "image %s: the server has %" PRIu64 " of %" PRIu64
                           " bytes and no job for them",
                           image_id, up.offset, up.total_bytes);
        if (!passed && !worth_retrying(&up, sending, err))
            return im_within(err, "upload of image %s", image_id);
        tries = up.offset > best ? 0 : tries + !passed;
        best = up.offset > best ? up.offset : best;
        if (tries >= TRIES_WITHOUT_GAIN)
            return im_within(err, "upload of image %s, at %" PRIu64 " of %" PRIu64 " bytes",
                             image_id, up.offset, up.total_bytes);
        im_sleep_ms(500 << tries);
        *err = (struct im_err){0};
    }
    *ret_job_id = im_steal(&job_id);
    return true;
}
