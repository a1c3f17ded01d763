/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of http/ share: the request as handlers see it, and the parts of the server. */
#ifndef HTTP_PRIVATE_H
#define HTTP_PRIVATE_H

#include <stdatomic.h>

#include "base/str.h"
#include "cloud/cloud.h"
#include "http/http.h"
#include "wire/wire.h"

/* --- Parameters (param.c) ----------------------------------------------------------------------
 */

#define PARAMS_MAX 4096

struct param {
    const char *name, *value; /* decoded, NUL-terminated, UTF-8 */
};
/* Sorted by name, in plain byte order. Zero-initialise; params_done() frees it. */
struct params {
    struct param *items;
    size_t count, capacity;
    char *memory;           /* the decoded texts */
    size_t cut_at, cut_len; /* where the pair `signature=…` stands in the raw text, with its '&' */
};
/* Takes a query or form body apart. IM_BAD_MESSAGE for bad escapes, names without text, values
 * that are not UTF-8 or hold NUL, duplicates, and more than PARAMS_MAX pairs. */
bool params_parse(struct params *params, const char *raw, size_t len,
                  struct im_err *err) IM_MUST_CHECK;
void params_done(struct params *params);
/* NULL if there is none of exactly this name. */
const char *params_get(const struct params *params, const char *name);
/* Items of `name` and `name.N`, ordered by number; empty values are left out. */
void params_list(const struct params *params, const char *name, struct im_strings *list);
/* name=value&… as it is signed: sorted, percent-encoded, without `signature`. */
void params_canonical(const struct params *params, struct im_str *out);

/* --- One request -------------------------------------------------------------------------------
 */

struct request {
    struct http *http;
    struct cloud *cloud;
    const char *method, *path; /* "GET" or "POST"; the path as it was sent */
    const struct http_action *action;
    struct params params;
    struct caller caller;
    char id[IM_ID_MAX];       /* names the request in log and message when something broke */
    struct wire_writer reply; /* handlers add members */
    bool live;                /* the reply shows what is not in the record: never kept */
    uint64_t generation;      /* of the record that the reply may be kept for; 0 = none */
};

/* Values as handlers want them. The table was checked before. */
const char *request_text(const struct request *request, const char *name); /* NULL: not given */
/* NULL: not given; "" stays "". */
const char *request_raw(const struct request *request, const char *name);
int64_t request_int(const struct request *request, const char *name); /* -1: not given */
bool request_flag(const struct request *request, const char *name);
void request_list(const struct request *request, const char *name, struct im_strings *list);
/* Checks every parameter of the action against its table. */
bool request_check(const struct request *request, struct im_err *err) IM_MUST_CHECK;
/* Conditions, order and page from the parameters of an action that lists. */
bool request_query(const struct request *request, struct query *ret_query,
                   struct im_err *err) IM_MUST_CHECK;
/* How many things match in all, whatever the page: kept beside the replies. 0: not known. */
int64_t request_find_total(const struct request *request);
void request_keep_total(const struct request *request, int64_t total);
/* {"action":…,"ret_code":0, and what follows. */
void request_begin_reply(struct request *request);
/* total_count and an opened array `<type>_set`. */
void request_begin_set(struct request *request, int64_t total);

/* --- Who asks (auth.c) -------------------------------------------------------------------------
 */

/* Common parameters, key and signature, time, in this order. `raw` is the query or body as it was
 * received. */
bool request_authenticate(struct request *request, const char *raw, size_t raw_len,
                          struct im_err *err) IM_MUST_CHECK;

/* --- Kept replies (cache.c) --------------------------------------------------------------------
 */

/* The text of a reply, held by the cache and by the responses that are being sent. */
struct text_ref {
    _Atomic unsigned refs;
    size_t len;
    char *bytes;
};
struct text_ref *text_ref_new(struct im_str *text); /* takes the text over */
struct text_ref *text_ref(struct text_ref *text);
void text_unref(void *text);

struct cache;
struct cache *cache_new(uint64_t max_bytes);
void cache_free(struct cache *cache);
/* A reference of the caller's, or NULL. */
struct text_ref *cache_find(struct cache *cache, const char *key, uint64_t generation);
/* Takes a reference of its own. */
void cache_put(struct cache *cache, const char *key, uint64_t generation, struct text_ref *text);

/* --- Figures (metrics.c) -----------------------------------------------------------------------
 */

struct metrics;
struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics);
/* action NULL: one that is not in the table. */
void metrics_count(struct metrics *metrics, const struct http_action *action, enum im_code code,
                   int64_t micros);
void metrics_write(struct metrics *metrics, struct cloud *cloud, struct im_str *out);

/* --- The server --------------------------------------------------------------------------------
 */

struct http {
    struct http_config config;
    struct cloud *cloud;
    struct cache *cache;
    struct metrics *metrics;
    struct MHD_Daemon *daemon;
    struct consoles *consoles;
    _Atomic uint64_t body_bytes; /* held by requests under way */
};

const struct http_action *action_find(const char *name);
/* Runs one request of the query API; the text of its reply is the caller's reference. */
struct text_ref *api_answer(struct http *http, const char *method, const char *path,
                            const char *raw, size_t len);
/* What a failure looks like on the wire: {"message":…,"ret_code":…}. Internal errors are logged and
 * shown without their words. */
void error_reply(struct wire_writer *writer, const char *request_id, const struct im_err *err);

/* Tables of the resources. */
extern const struct http_action image_actions[], instance_actions[], keypair_actions[],
    job_actions[], zone_actions[], access_key_actions[], vxnet_actions[], pool_actions[],
    user_actions[], volume_actions[], snapshot_actions[], monitor_actions[], repair_actions[];

#define HTTP_ID_LIST_MAX 1000

#endif
