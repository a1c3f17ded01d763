/* SPDX-License-Identifier: Apache-2.0 */
/* Downloads that go on where they broke off: GET /data/exports/{id} with Range and If-Range, the
 * digest made on the way. */
#include "client-private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "crypto/crypto.h"

enum { TRIES_WITHOUT_GAIN = 5, PIECE = 1 << 16, URL_MAX_S = 86400 };

struct download {
    struct client *client;
    const struct client_export *file;
    int fd;
    uint64_t offset; /* the file has all before it */
    struct crypto_digest *digest;
    client_progress progress;
    void *context;
    struct im_err write_err; /* of the file here */
    bool judged, whole;      /* its status was looked at; it sends the file from the beginning */
    struct im_str refusal;   /* what came in place of the file */
};

static void download_done(struct download *download) {
    char unused[65];

    if (download->digest != NULL)
        crypto_digest_end(download->digest, unused);
    im_str_done(&download->refusal);
}

static void digest_anew(struct download *download) {
    char unused[65];

    if (download->digest != NULL)
        crypto_digest_end(download->digest, unused);
    download->digest = crypto_digest_begin();
}

/* The digest of what is there from an earlier run. */
static bool take_up(struct download *download, struct im_err *err) {
    IM_AUTO(free_auto) char *piece = im_alloc(PIECE);
    struct stat st;

    if (fstat(download->fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot look at the file");
    digest_anew(download);
    download->offset = 0;
    if ((uint64_t) st.st_size > download->file->size_bytes)
        return ftruncate(download->fd, 0) == 0 || im_fail_sys(err, errno, "the file");
    while (download->offset < (uint64_t) st.st_size) {
        uint64_t left = (uint64_t) st.st_size - download->offset;
        size_t now = left < PIECE ? (size_t) left : PIECE;

        if (!im_pread_all(download->fd, piece, now, download->offset, "the file", err))
            return false;
        crypto_digest_add(download->digest, piece, now);
        download->offset += now;
        if (client_interrupted(download->client))
            return im_fail(err, IM_CANCELLED, "interrupted");
    }
    return true;
}

/* The first bytes of an answer: do they go on where we are? */
static bool judge(struct download *download) {
    long status = 0;

    download->judged = true;
    curl_easy_getinfo(download->client->curl, CURLINFO_RESPONSE_CODE, &status);
    download->whole = status == 200;
    if (!download->whole)
        return true;
    download->offset = 0;
    digest_anew(download);
    return ftruncate(download->fd, 0) == 0 ||
           im_fail_sys(&download->write_err, errno, "cannot write the file");
}

/* Zeros stay holes: disks are full of them. */
static bool keep(struct download *download, const char *bytes, size_t len) {
    bool zeros = im_all_zero(bytes, len);

    if (len > download->file->size_bytes - download->offset)
        return im_fail(&download->write_err, IM_INTERNAL, "the server sends more than was told");
    crypto_digest_add(download->digest, bytes, len);
    if (!zeros && !im_pwrite_all(download->fd, bytes, len, download->offset, "the file",
                                 &download->write_err))
        return false;
    download->offset += len;
    return true;
}

static size_t take_part(char *bytes, size_t size, size_t count, void *context) {
    struct download *download = context;
    size_t len = size * count;
    long status = 0;

    if (len == 0)
        return 0;
    curl_easy_getinfo(download->client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200 && status != 206)
        return client_gather(bytes, size, count, &download->refusal);
    if (!download->judged && !judge(download))
        return 0;
    return keep(download, bytes, len) ? len : 0;
}

static int report(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    struct download *download = context;

    (void) a, (void) b, (void) c, (void) d;
    if (client_interrupted(download->client))
        return 1;
    return download->progress != NULL &&
           !download->progress(download->context, download->offset, download->file->size_bytes);
}

char *client_export_url(struct client *client, const char *export_id, int64_t valid_s) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(free_auto) char *path = im_printf("%s/data/exports/%s", client->prefix, export_id);
    IM_AUTO(free_auto) char *query = NULL;
    char expires[IM_TIME_TEXT];
    int64_t now_s = im_now_s();

    client_common_params(client, &params, now_s);
    im_time_format(now_s + (valid_s < URL_MAX_S ? valid_s : URL_MAX_S), expires);
    client_param(&params, "expires", expires);
    query = client_signed_query("GET", path, &params, client->secret);
    return im_printf("%s/data/exports/%s?%s", client->origin, export_id, query);
}

/* One GET, from where we are to the end or until it breaks. */
static bool get_rest(struct download *download, struct im_err *err) {
    IM_AUTO(curl_slist_free_all_auto) struct curl_slist *headers = NULL;
    IM_AUTO(free_auto)
    char *url = client_export_url(download->client, download->file->export_id, URL_MAX_S);
    CURL *curl = download->client->curl;
    char range[96], same[96];
    long status = 0;
    CURLcode rc;

    snprintf(range, sizeof(range), "Range: bytes=%" PRIu64 "-", download->offset);
    snprintf(same, sizeof(same), "If-Range: \"%s\"", download->file->digest);
    headers = curl_slist_append(headers, range);
    headers = curl_slist_append(headers, same);
    client_prepare(download->client, curl);
    download->judged = false;
    im_str_done(&download->refusal);
    download->refusal = (struct im_str){0};
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 1L << 18);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_part);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, download);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, report);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, download);
    rc = curl_easy_perform(curl);
    /* What was zeros at the end is in the file as well: an interrupted run goes on from there. */
    if (ftruncate(download->fd, (off_t) download->offset) < 0 && download->write_err.code == IM_OK)
        im_fail_sys(&download->write_err, errno, "cannot write the file");
    if (download->write_err.code != IM_OK) {
        *err = download->write_err;
        return false;
    }
    if (rc != CURLE_OK)
        return client_transfer_fail(download->client, curl, rc, err);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200 || status == 206)
        return true;
    return client_reply(download->client, status, download->refusal.data, download->refusal.len,
                        NULL, err) ||
           im_fail(err, IM_INTERNAL, "%s answered HTTP %ld", download->client->endpoint, status);
}

static bool worth_retrying(const struct download *download, const struct im_err *err) {
    return err->code != IM_CANCELLED && download->write_err.code == IM_OK &&
           client_line_failed(download->client);
}

static bool get_all(struct download *download, struct im_err *err) {
    const struct client_export *file = download->file;
    uint64_t best = download->offset;

    for (int tries = 0; download->offset < file->size_bytes;) {
        bool passed = get_rest(download, err);

        if (!passed && !worth_retrying(download, err))
            return false;
        tries = download->offset > best ? 0 : tries + 1;
        best = download->offset > best ? download->offset : best;
        if (download->offset >= file->size_bytes)
            break;
        if (tries >= TRIES_WITHOUT_GAIN)
            return passed ? im_fail(err, IM_INTERNAL, "the server sends nothing more")
                          : im_within(err, "at %" PRIu64 " of %" PRIu64 " bytes", best,
                                      file->size_bytes);
        im_sleep_ms(500 << tries);
        *err = (struct im_err){0};
    }
    return true;
}

static bool check_digest(struct download *download, struct im_err *err) {
    char found[65];

    crypto_digest_end(download->digest, found);
    download->digest = NULL;
    if (strcmp(found, download->file->digest) == 0)
        return true;
    return im_fail(err, IM_BAD_IMAGE, "what came has the digest sha256:%s, not sha256:%s", found,
                   download->file->digest);
}

bool client_download(struct client *client, const struct client_export *file, int fd,
                     client_progress progress, void *context, struct im_err *err) {
    IM_AUTO(download_done)
    struct download download = {
        .client = client, .file = file, .fd = fd, .progress = progress, .context = context};
    bool resumed;

    if (!take_up(&download, err))
        return im_within(err, "download of %s", file->export_id);
    resumed = download.offset > 0;
    if (!get_all(&download, err))
        return im_within(err, "download of %s", file->export_id);
    if (check_digest(&download, err))
        return true;
    if (ftruncate(fd, 0) < 0)
        return im_fail_sys(err, errno, "cannot write the file");
    if (!resumed)
        return im_within(err, "download of %s", file->export_id);
    /* What was there belonged to another file. */
    *err = (struct im_err){0};
    return client_download(client, file, fd, progress, context, err);
}
