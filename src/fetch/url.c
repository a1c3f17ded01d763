/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching over libcurl, attempt after attempt, each going on where the last one broke off. */
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "fetch/fetch.h"

#define REDIRECTS 5L
#define CONNECT_MS 20000L
#define ATTEMPTS_MAX 1000u /* of a server that breaks off after every few bytes */

IM_DEFINE_AUTO(CURL *, curl_easy_cleanup)
IM_DEFINE_AUTO(CURLU *, curl_url_cleanup)
IM_DEFINE_AUTO(struct curl_slist *, curl_slist_free_all)

/* One fetch; the callbacks leave here what curl cannot carry. */
struct fetch {
    const struct fetch_order *order;
    struct fetch_result *result;
    CURL *curl;
    uint64_t written, total;
    uint64_t begin; /* where this attempt wants to go on */
    char etag[256]; /* of the reply under way */
    char modified[64];
    uint64_t range_begin; /* that the reply says it begins at */
    bool ranges, body_begun, refused;
    struct im_err failure; /* why a callback stopped the transfer */
};

char *fetch_url_shown(const char *url) {
    IM_AUTO(curl_url_cleanup_auto) CURLU *parts = curl_url();
    char *text = NULL, *shown;

    if (!parts || curl_url_set(parts, CURLUPART_URL, url, 0) != CURLUE_OK)
        return im_strdup("the address");
    (void) curl_url_set(parts, CURLUPART_USER, NULL, 0);
    (void) curl_url_set(parts, CURLUPART_PASSWORD, NULL, 0);
    (void) curl_url_set(parts, CURLUPART_QUERY, NULL, 0);
    (void) curl_url_set(parts, CURLUPART_FRAGMENT, NULL, 0);
    if (curl_url_get(parts, CURLUPART_URL, &text, 0) != CURLUE_OK)
        return im_strdup("the address");
    shown = im_printf("%.200s", text);
    curl_free(text);
    return shown;
}

/* --- What curl calls -------------------------------------------------------------------------- */

/* Asked with the address the name was resolved to, for the first request and each redirect: what is
 * checked here is what is connected to. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address) {
    struct fetch *fetch = arg;

    (void) purpose;
    if (!fetch->order->allow_private && im_str_empty(fetch->order->proxy) &&
        !fetch_address_public(&address->addr)) {
        fetch->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static void copy_value(char *out, size_t size, const char *line, size_t len, size_t name_len) {
    size_t begin = name_len;

    while (begin < len && (line[begin] == ' ' || line[begin] == '\t'))
        begin++;
    while (len > begin && (unsigned char) line[len - 1] <= ' ')
        len--;
    snprintf(out, size, "%.*s", (int) (len - begin < size ? len - begin : size - 1), line + begin);
}

static bool has_name(const char *line, size_t len, const char *name) {
    return len > strlen(name) && strncasecmp(line, name, strlen(name)) == 0;
}

static size_t take_header(char *line, size_t size, size_t count, void *arg) {
    struct fetch *fetch = arg;
    size_t len = size * count;
    char range[96] = "";

    if (has_name(line, len, "HTTP/")) { /* a new reply: after a redirect or 100 Continue */
        fetch->etag[0] = fetch->modified[0] = '\0';
        fetch->range_begin = 0;
    } else if (has_name(line, len, "etag:"))
        copy_value(fetch->etag, sizeof(fetch->etag), line, len, 5);
    else if (has_name(line, len, "last-modified:"))
        copy_value(fetch->modified, sizeof(fetch->modified), line, len, 14);
    else if (has_name(line, len, "content-range:")) {
        copy_value(range, sizeof(range), line, len, 14);
        if (sscanf(range, "bytes %" SCNu64 "-", &fetch->range_begin) != 1)
            fetch->range_begin = UINT64_MAX;
    }
    return len;
}

/* The first bytes of a reply decide whether it goes on or begins anew. */
static bool begin_body(struct fetch *fetch) {
    curl_off_t length = -1;
    long status = 0;

    (void) curl_easy_getinfo(fetch->curl, CURLINFO_RESPONSE_CODE, &status);
    (void) curl_easy_getinfo(fetch->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (status == 206) {
        if (fetch->range_begin != fetch->begin)
            return im_fail(&fetch->failure, IM_NO_RESOURCE,
                           "the server sent another range than was asked for");
    } else
        fetch->begin = 0;
    fetch->written = fetch->begin;
    if (ftruncate(fetch->order->fd, (off_t) fetch->begin) < 0)
        return im_fail_sys(&fetch->failure, errno, "the staging file cannot be cut");
    fetch->total = length > 0 ? fetch->begin + (uint64_t) length : 0;
    /* Only a strong validator proves that both halves are of one file. */
    snprintf(fetch->result->etag, sizeof(fetch->result->etag), "%s",
             fetch->etag[0] && strncmp(fetch->etag, "W/", 2) != 0 ? fetch->etag : fetch->modified);
    fetch->body_begun = true;
    return true;
}

static bool over_limit(struct fetch *fetch, uint64_t bytes) {
    char has[16], may[16];

    if (!fetch->order->max_bytes || bytes <= fetch->order->max_bytes)
        return false;
    (void) im_fail(&fetch->failure, IM_QUOTA, "it is larger (%s) than the limit of %s",
                   im_size_text(bytes, has), im_size_text(fetch->order->max_bytes, may));
    return true;
}

static size_t take_body(char *bytes, size_t size, size_t count, void *arg) {
    struct fetch *fetch = arg;
    size_t len = size * count;

    if (!fetch->body_begun && !begin_body(fetch))
        return 0;
    if (over_limit(fetch, fetch->total) || over_limit(fetch, fetch->written + len))
        return 0;
    if (!im_pwrite_all(fetch->order->fd, bytes, len, fetch->written, "the staging file",
                       &fetch->failure))
        return 0;
    fetch->written += len;
    if (fetch->order->progress)
        fetch->order->progress(fetch->order->arg, fetch->written, fetch->total);
    return len;
}

/* --- One attempt ------------------------------------------------------------------------------ */

static void set_up(struct fetch *fetch, char *reason, struct curl_slist **headers) {
    const struct fetch_order *order = fetch->order;
    CURL *curl = fetch->curl;
    int64_t stall_ms = order->stall_ms ? order->stall_ms : 30000;

    curl_easy_setopt(curl, CURLOPT_URL, order->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, REDIRECTS);
    curl_easy_setopt(curl, CURLOPT_PROXY,
                     order->proxy ? order->proxy : ""); /* not the environment's */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "imprint/" IMPRINT_VERSION);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long) (stall_ms + 999) / 1000);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 262144L);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, fetch);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, fetch);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, fetch);
    if (fetch->begin > 0) {
        IM_AUTO(free_auto) char *only = im_printf("If-Range: %s", fetch->result->etag);
        IM_AUTO(free_auto) char *range = im_printf("Range: bytes=%" PRIu64 "-", fetch->begin);

        *headers = curl_slist_append(curl_slist_append(NULL, range), only);
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, *headers);
    }
}

static bool status_fail(long status, struct im_err *err) {
    if (status == 404 || status == 410)
        return im_fail(err, IM_NOT_FOUND, "the server has no such file (%ld)", status);
    if (status == 401 || status == 403)
        return im_fail(err, IM_DENIED, "the server does not let us have it (%ld)", status);
    return im_fail(err, IM_NO_RESOURCE, "the server answered %ld", status);
}

/* *ret_again: another attempt may help. */
static bool explain(struct fetch *fetch, CURLcode code, const char *reason, bool *ret_again,
                    struct im_err *err) {
    long status = 0;

    (void) curl_easy_getinfo(fetch->curl, CURLINFO_RESPONSE_CODE, &status);
    *ret_again = false;
    if (fetch->refused)
        return im_fail(err, IM_DENIED,
                       "it leads to an address of this host or of a private network");
    if (fetch->failure.code) {
        *err = fetch->failure;
        return false;
    }
    if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT)
        return im_fail(err, IM_BAD_MESSAGE, "only well-formed http and https addresses are taken");
    if (code == CURLE_TOO_MANY_REDIRECTS)
        return im_fail(err, IM_DENIED, "more than %ld redirects", REDIRECTS);
    if (code == CURLE_PEER_FAILED_VERIFICATION)
        return im_fail(err, IM_DENIED, "the server's certificate is not valid");
    if (code == CURLE_HTTP_RETURNED_ERROR && status == 416 && fetch->begin > 0) {
        /* Nothing lies behind what we have: it may be another file by now, so begin anew. */
        fetch->result->etag[0] = '\0';
        *ret_again = true;
    } else if (code == CURLE_HTTP_RETURNED_ERROR) {
        *ret_again = status >= 500 || status == 429 || status == 408;
    }
    if (code == CURLE_HTTP_RETURNED_ERROR)
        return status_fail(status, err);
    *ret_again = true;
    if (code == CURLE_OPERATION_TIMEDOUT)
        return im_fail(err, IM_TIMEOUT, "the server sent nothing for too long");
    return im_fail(err, IM_NO_RESOURCE, "%s", reason[0] ? reason : curl_easy_strerror(code));
}

static bool attempt(struct fetch *fetch, bool *ret_again, struct im_err *err) {
    IM_AUTO(curl_easy_cleanup_auto) CURL *curl = curl_easy_init();
    IM_AUTO(curl_slist_free_all_auto) struct curl_slist *headers = NULL;
    char reason[CURL_ERROR_SIZE] = "";
    CURLcode code;

    *ret_again = false;
    if (!curl)
        return im_fail(err, IM_NO_RESOURCE, "no memory for a connection");
    fetch->curl = curl;
    fetch->body_begun = fetch->refused = false;
    fetch->begin = fetch->result->etag[0] ? fetch->written : 0;
    set_up(fetch, reason, &headers);
    code = curl_easy_perform(curl);
    if (code == CURLE_OK && !fetch->body_begun && !begin_body(fetch))
        code = CURLE_WRITE_ERROR; /* an empty reply */
    if (code != CURLE_OK)
        return explain(fetch, code, reason, ret_again, err);
    return true;
}

static bool all_attempts(struct fetch *fetch, struct im_err *err) {
    unsigned most = fetch->order->attempts ? fetch->order->attempts : 5, left = most;
    int64_t first_pause_ms = fetch->order->pause_ms ? fetch->order->pause_ms : 1000;
    int64_t pause_ms = first_pause_ms;
    unsigned all = 0;

    for (;;) {
        uint64_t before = fetch->written;
        bool again;

        if (attempt(fetch, &again, err))
            return true;
        if (!again || --left == 0 || ++all == ATTEMPTS_MAX)
            return false;
        *err = (struct im_err){0};
        if (fetch->written > before) { /* it was worth it: only attempts in vain count */
            left = most;
            pause_ms = first_pause_ms;
        }
        im_sleep_ms(pause_ms);
        pause_ms *= 2;
    }
}

bool fetch_url(const struct fetch_order *order, struct fetch_result *result, struct im_err *err) {
    IM_AUTO(free_auto) char *shown = fetch_url_shown(order->url);
    struct fetch fetch = {.order = order, .result = result};
    struct stat st;

    *result = (struct fetch_result){0};
    if (!im_starts_with(order->url, "http://") && !im_starts_with(order->url, "https://"))
        return im_fail(err, IM_BAD_MESSAGE, "only http and https addresses are taken");
    if (order->etag && order->etag[0] && fstat(order->fd, &st) == 0) {
        snprintf(result->etag, sizeof(result->etag), "%s", order->etag);
        fetch.written = (uint64_t) st.st_size;
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return im_fail(err, IM_INTERNAL, "libcurl does not start");
    if (!all_attempts(&fetch, err)) {
        result->bytes = fetch.written;
        return im_within(err, "%s", shown);
    }
    result->bytes = fetch.written;
    return true;
}
