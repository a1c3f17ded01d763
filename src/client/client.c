/* SPDX-License-Identifier: Apache-2.0 */
/* One signed call: the request, what can happen to it on the way, and what the reply says. */
#include "client-private.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"

/* --- Opening ---------------------------------------------------------------------------------- */

/* Takes "http://host:7200/prefix/iaas/" apart with libcurl's own parser; the scheme may be missing.
 */
static bool parse_endpoint(struct client *client, const char *endpoint, struct im_err *err) {
    IM_AUTO(free_auto)
    char *whole = im_printf("%s%s", strstr(endpoint, "://") ? "" : "http://", endpoint);
    CURLU *url = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL, *path = NULL;
    bool fine = curl_url_set(url, CURLUPART_URL, whole, 0) == CURLUE_OK &&
                curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                curl_url_get(url, CURLUPART_PATH, &path, 0) == CURLUE_OK &&
                (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);

    if (fine) {
        size_t len = strlen(path);

        if (curl_url_get(url, CURLUPART_PORT, &port, 0) != CURLUE_OK)
            port = NULL;
        while (len > 0 && path[len - 1] == '/')
            path[--len] = '\0';
        if (im_ends_with(path, "/iaas"))
            path[len - 5] = '\0';
        client->host = im_strdup(host);
        client->prefix = im_strdup(path);
        client->origin = im_printf("%s://%s%s%s%s", scheme, host, port ? ":" : "", port ? port : "",
                                   client->prefix);
        client->endpoint = im_printf("%s/iaas/", client->origin);
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_free(path);
    curl_url_cleanup(url);
    if (!fine)
        return im_fail(err, IM_BAD_MESSAGE,
                       "endpoint %s is no address of an API, such as http://127.0.0.1:7200/iaas/",
                       endpoint);
    return true;
}

struct client *client_open(const char *endpoint, const char *access_key_id, const char *secret,
                           const char *zone, struct im_err *err) {
    IM_AUTO(client_close_auto) struct client *client = im_alloc(sizeof(*client));

    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (!parse_endpoint(client, endpoint, err))
        return NULL;
    client->curl = curl_easy_init();
    if (client->curl == NULL) {
        im_fail(err, IM_INTERNAL, "libcurl cannot be started");
        return NULL;
    }
    client->access_key_id = im_strdup(access_key_id);
    client->secret = im_strdup(secret);
    client->zone = im_strdup(zone);
    return im_steal(&client);
}

void client_close(struct client *client) {
    if (client == NULL)
        return;
    if (client->curl != NULL)
        curl_easy_cleanup(client->curl);
    if (client->secret != NULL)
        explicit_bzero(client->secret, strlen(client->secret));
    free(client->origin);
    free(client->prefix);
    free(client->endpoint);
    free(client->host);
    free(client->access_key_id);
    free(client->secret);
    free(client->zone);
    free(client->ca);
    free(client);
}

void client_set_ca(struct client *client, const char *path) { im_replace(&client->ca, path); }

void client_set_interrupt(struct client *client, const volatile sig_atomic_t *flag) {
    client->interrupt = flag;
}

const char *client_endpoint(const struct client *client) { return client->endpoint; }
enum client_fault client_fault(const struct client *client) { return client->fault; }
int client_ret_code(const struct client *client) { return client->ret_code; }

bool client_interrupted(const struct client *client) {
    return client->interrupt != NULL && *client->interrupt != 0;
}

bool client_line_failed(const struct client *client) {
    return client->fault == CLIENT_REFUSED || client->fault == CLIENT_UNREACHABLE ||
           client->fault == CLIENT_CUT_OFF || client->fault == CLIENT_SLOW;
}

/* --- Transfers -------------------------------------------------------------------------------- */

static int watch(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d) {
    (void) a, (void) b, (void) c, (void) d;
    return client_interrupted(context);
}

/* The API of this very host is never reached through a proxy, whatever http_proxy says. */
static bool loopback(const char *host) {
    return strcasecmp(host, "localhost") == 0 || im_starts_with(host, "127.") ||
           strcmp(host, "[::1]") == 0;
}

void client_prepare(struct client *client, CURL *curl) {
    client->fault = CLIENT_FINE;
    client->ret_code = 0;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "imprint/" IMPRINT_VERSION);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long) CLIENT_CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, (long) CLIENT_IDLE_TIMEOUT_S);
    if (loopback(client->host))
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
    if (!im_str_empty(client->ca))
        curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, watch);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, client);
}

static bool nothing_sent(CURL *curl) {
    long sent = 0;

    curl_easy_getinfo(curl, CURLINFO_REQUEST_SIZE, &sent);
    return sent == 0;
}

bool client_transfer_fail(struct client *client, CURL *curl, CURLcode rc, struct im_err *err) {
    static const struct {
        CURLcode rc;
        enum client_fault fault;
        enum im_code code;
    } rows[] = {
        {CURLE_COULDNT_CONNECT, CLIENT_REFUSED, IM_INTERNAL},
        {CURLE_COULDNT_RESOLVE_HOST, CLIENT_UNREACHABLE, IM_INTERNAL},
        {CURLE_COULDNT_RESOLVE_PROXY, CLIENT_UNREACHABLE, IM_INTERNAL},
        {CURLE_PEER_FAILED_VERIFICATION, CLIENT_TLS, IM_INTERNAL},
        {CURLE_SSL_CONNECT_ERROR, CLIENT_TLS, IM_INTERNAL},
        {CURLE_SSL_CACERT_BADFILE, CLIENT_TLS, IM_INTERNAL},
        {CURLE_ABORTED_BY_CALLBACK, CLIENT_FINE, IM_CANCELLED},
        {CURLE_WRITE_ERROR, CLIENT_FOREIGN, IM_INTERNAL},
        {CURLE_UNSUPPORTED_PROTOCOL, CLIENT_FOREIGN, IM_INTERNAL},
        {CURLE_WEIRD_SERVER_REPLY, CLIENT_FOREIGN, IM_INTERNAL},
    };
    enum im_code code = IM_INTERNAL;
    long os_errno = 0;

    curl_easy_getinfo(curl, CURLINFO_OS_ERRNO, &os_errno);
    client->fault = nothing_sent(curl) ? CLIENT_UNREACHABLE : CLIENT_CUT_OFF;
    if (rc == CURLE_OPERATION_TIMEDOUT) {
        client->fault = nothing_sent(curl) ? CLIENT_UNREACHABLE : CLIENT_SLOW;
        code = IM_TIMEOUT;
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].rc == rc) {
            client->fault = rows[i].fault;
            code = rows[i].code;
        }
    /* libcurl has one code for all failed connections */
    if (client->fault == CLIENT_REFUSED && os_errno != ECONNREFUSED && os_errno != 0)
        client->fault = CLIENT_UNREACHABLE;
    if (code == IM_CANCELLED)
        return im_fail(err, code, "interrupted");
    if (client->fault == CLIENT_REFUSED)
        return im_fail(err, code, "nothing answers at %s: connection refused", client->endpoint);
    return im_fail(err, code, "cannot speak with %s: %s", client->endpoint, curl_easy_strerror(rc));
}

size_t client_gather(char *bytes, size_t size, size_t count, void *context) {
    struct im_str *into = context;

    if (into->len + size * count > CLIENT_REPLY_MAX)
        return 0;
    im_str_add_bytes(into, bytes, size * count);
    return size * count;
}

/* --- Replies ---------------------------------------------------------------------------------- */

/* The wire has one number for "not yours" and "not in this state"; the sentence tells them apart.
 */
static bool speaks_of_state(const char *message) {
    static const char *const words[] = {"can not be ", "can not take",     "is not available",
                                        " is not ",    "please try later", "in transition",
                                        " still "};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strstr(message, words[i]) != NULL)
            return strstr(message, "access denied") == NULL && strstr(message, "not yours") == NULL;
    return false;
}

enum im_code client_code(int ret_code, const char *message) {
    if (ret_code == 1400 && speaks_of_state(message))
        return IM_WRONG_STATE;
    /* Several codes share a number on the wire; the first of each is the general one. */
    for (int code = IM_OK + 1; code < IM_CODES; code++)
        if (im_code_ret((enum im_code) code) == ret_code)
            return (enum im_code) code;
    return IM_INTERNAL;
}

bool client_reply(struct client *client, long http_status, const char *text, size_t len,
                  struct wire_doc **ret_doc, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    struct im_err ignored = {0};
    const struct wire_value *root;
    int64_t ret_code;
    const char *message;

    if (len > 0)
        doc = wire_parse(text, len, &ignored);
    root = doc ? wire_root(doc) : NULL;
    if (wire_kind(wire_get(root, "ret_code")) != WIRE_INT) {
        client->fault = CLIENT_FOREIGN;
        return im_fail(err, IM_INTERNAL, "%s answered HTTP %ld, which is no reply of the API",
                       client->endpoint, http_status);
    }
    ret_code = wire_get_int(root, "ret_code", 5000);
    if (ret_code != 0) {
        message = wire_get_text(root, "message", "the server gave no reason");
        client->fault = CLIENT_ANSWERED;
        client->ret_code = (int) ret_code;
        return im_fail(err, client_code((int) ret_code, message), "%s", message);
    }
    if (ret_doc != NULL)
        *ret_doc = im_steal(&doc);
    return true;
}

/* "Date: Tue, 24 Nov 2026 04:30:00 GMT" → the server's clock. */
struct reply_head {
    int64_t date_s;
};

static size_t read_head(char *line, size_t size, size_t count, void *context) {
    struct reply_head *head = context;
    size_t len = size * count;

    if (len > 5 && strncasecmp(line, "Date:", 5) == 0) {
        IM_AUTO(free_auto) char *text = im_strndup(line + 5, len - 5);

        head->date_s = (int64_t) curl_getdate(text, NULL);
    }
    return len;
}

/* A request that is refused as too old means that two clocks differ: say which and by how much. */
static bool name_clocks(const struct reply_head *head, struct im_err *err) {
    int64_t now_s = im_now_s();
    char ours[IM_TIME_TEXT], theirs[IM_TIME_TEXT];
    struct im_err server = *err;

    im_time_format(now_s, ours);
    if (head->date_s <= 0)
        return im_fail(err, IM_EXPIRED, "%s (this machine's clock says %s)", server.text, ours);
    im_time_format(head->date_s, theirs);
    return im_fail(err, IM_EXPIRED,
                   "%.300s (this machine's clock says %s, the server's %s: %lld s apart)",
                   server.text, ours, theirs, (long long) llabs(now_s - head->date_s));
}

static CURLcode perform(struct client *client, const char *action,
                        const struct client_params *params, struct im_str *reply,
                        struct reply_head *head) {
    IM_AUTO(free_auto) char *path = im_printf("%s/iaas/", client->prefix);
    IM_AUTO(client_params_done) struct client_params all = {0};
    IM_AUTO(free_auto) char *query = NULL;
    IM_AUTO(free_auto) char *url = NULL;

    for (size_t i = 0; params != NULL && i < params->names.count; i++)
        client_param(&all, params->names.items[i], params->values.items[i]);
    client_param(&all, "action", action);
    client_common_params(client, &all, im_now_s());
    query = client_signed_query("GET", path, &all, client->secret);
    client_prepare(client, client->curl);
    if (strlen(query) <= CLIENT_QUERY_MAX) {
        url = im_printf("%s?%s", client->endpoint, query);
    } else {
        free(query);
        query = client_signed_query("POST", path, &all, client->secret);
        url = im_strdup(client->endpoint);
        curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE, (long) strlen(query));
        curl_easy_setopt(client->curl, CURLOPT_COPYPOSTFIELDS, query);
    }
    curl_easy_setopt(client->curl, CURLOPT_URL, url);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, client_gather);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, reply);
    curl_easy_setopt(client->curl, CURLOPT_HEADERFUNCTION, read_head);
    curl_easy_setopt(client->curl, CURLOPT_HEADERDATA, head);
    return curl_easy_perform(client->curl);
}

bool client_call(struct client *client, const char *action, const struct client_params *params,
                 struct wire_doc **ret_doc, struct im_err *err) {
    IM_AUTO(im_str_done) struct im_str reply = {0};
    struct reply_head head = {0};
    long status = 0;
    CURLcode rc = perform(client, action, params, &reply, &head);

    if (rc != CURLE_OK && rc != CURLE_ABORTED_BY_CALLBACK && rc != CURLE_OPERATION_TIMEDOUT &&
        nothing_sent(client->curl)) {
        im_sleep_ms(100);
        rc = perform(client, action, params, &reply, &head);
    }
    if (rc != CURLE_OK)
        return client_transfer_fail(client, client->curl, rc, err);
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    if (client_reply(client, status, reply.data, reply.len, ret_doc, err))
        return true;
    if (client->ret_code == 1300)
        return name_clocks(&head, err);
    return false;
}
