/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of client/ share. */
#ifndef CLIENT_PRIVATE_H
#define CLIENT_PRIVATE_H

#include <curl/curl.h>

#include "base/str.h"
#include "client/client.h"

enum {
    CLIENT_QUERY_MAX = 8192,     /* longer queries travel as POST */
    CLIENT_REPLY_MAX = 64 << 20, /* a reply beyond this is not ours */
    CLIENT_CONNECT_TIMEOUT_MS = 10000,
    CLIENT_IDLE_TIMEOUT_S = 60, /* without a byte in either direction */
};

IM_DEFINE_AUTO(CURL *, curl_easy_cleanup)
IM_DEFINE_AUTO(struct curl_slist *, curl_slist_free_all)

struct client {
    CURL *curl;     /* kept for its connection */
    char *origin;   /* "http://host:7200" and a path prefix if the endpoint has one */
    char *prefix;   /* the path prefix, "" mostly: part of what is signed */
    char *endpoint; /* origin + "/iaas/" */
    char *host;     /* for the proxy rule */
    char *access_key_id, *secret, *zone;
    char *ca;
    const volatile sig_atomic_t *interrupt;
    enum client_fault fault;
    int ret_code;
};

/* Percent-encoding of RFC 3986 with upper-case hex, as the signature wants it. */
void client_encode(struct im_str *out, const char *text);
/* name=value pairs sorted by name and joined by &. Owned. */
char *client_canonical(const struct client_params *params);
/* The canonical string with &signature=… behind it. Owned. */
char *client_signed_query(const char *method, const char *path, const struct client_params *params,
                          const char *secret);
/* Adds what every signed request carries. `now_s` is the time stamp. */
void client_common_params(const struct client *client, struct client_params *params, int64_t now_s);

bool client_interrupted(const struct client *client);
/* Whether it was the line that failed the last call, which may be there again: nothing was
 * answered. */
bool client_line_failed(const struct client *client);
/* A fresh set of options on client->curl: proxy rule, time-outs, TLS, interrupt. */
void client_prepare(struct client *client, CURL *curl);
/* Turns a failed transfer into an error and a fault. */
bool client_transfer_fail(struct client *client, CURL *curl, CURLcode rc, struct im_err *err);
/* Checks that a reply is the API's and that its ret_code is 0. *ret_doc is the caller's. */
bool client_reply(struct client *client, long http_status, const char *text, size_t len,
                  struct wire_doc **ret_doc, struct im_err *err) IM_MUST_CHECK;
/* libcurl's write function; `context` is a struct im_str. */
size_t client_gather(char *bytes, size_t size, size_t count, void *context);
/* The code for a ret_code and its message. */
enum im_code client_code(int ret_code, const char *message);

#endif
