/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP server: /iaas (the query API), /data/images (bulk bytes), /instances/…/console, health
 * and metrics. Everything about an action that can be said as data stands in one table, which the
 * manual is tested against. */
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

struct cloud;
struct http;

struct http_config {
    const char *address; /* to listen on: "127.0.0.1", "::1", "0.0.0.0" … */
    int port;            /* 0 = any free one, see http_port() */
    unsigned threads;
    unsigned max_connections, max_connections_per_ip; /* per address; 0 = no limit */
    unsigned idle_timeout_s; /* a connection on which nothing moves for so long is closed */
    const char *tls_certificate, *tls_key; /* PEM files; NULL or "" = plain HTTP */
    int64_t time_tolerance_s;              /* how far time_stamp may lie from our clock */
    uint64_t body_max_bytes;               /* of a POST to /iaas */
    uint64_t upload_max_bytes;             /* of one image; 0 = no limit here */
    uint64_t cache_bytes;                  /* for kept replies; 0 = none */
    /* Form of CreateSnapshots' job_id: "array" as newer SDKs want it, "string" as older ones do,
     * "none" for both. NULL is "array". */
    const char *snapshot_job_id;
};

/* Serves until http_close(). The files of the certificate are read here. */
struct http *http_open(const struct http_config *config, struct cloud *cloud,
                       struct im_err *err) IM_MUST_CHECK;
/* Ends open consoles, lets requests under way finish. NULL is fine. */
void http_close(struct http *http);
int http_port(const struct http *http);

/* --- The table of actions ----------------------------------------------------------------------
 */

enum http_param_type {
    HTTP_TEXT, /* min..max: length in bytes */
    HTTP_INT,  /* min..max: value */
    HTTP_BOOL, /* 0, 1, true, false */
    HTTP_LIST, /* name.1, name.2 … or name; max: number of items */
    HTTP_WORD, /* one of `words` */
};
enum http_param_flags {
    HTTP_REQUIRED = 1,
    HTTP_EMPTIES = 2,    /* an empty value is a value: it empties the attribute */
    HTTP_ZERO_UNSET = 4, /* 0 means "not given" */
    HTTP_SECRET = 8,
    HTTP_CONTAINS = 16, /* a filter that looks for a substring */
};
struct http_param {
    const char *name; /* NULL ends a table */
    enum http_param_type type;
    unsigned flags;
    int64_t min, max;
    const char *words; /* HTTP_WORD: separated by blanks */
    const char *field; /* the field that this parameter filters by; NULL if it is no filter */
    const char *about;
};

enum http_action_flags {
    HTTP_NO_ZONE = 1, /* the parameter zone is not needed and not looked at */
    HTTP_CACHED = 2,  /* replies may be kept while the record stays the same */
    HTTP_ADMIN = 4,   /* administrators only */
};
struct request;
struct object_type;
struct http_action {
    const char *name;
    const struct http_param *params;
    unsigned flags;
    const struct object_type *type; /* what it lists: takes http_list_params too; else NULL */
    bool (*handle)(struct request *request, struct im_err *err);
    const char *about;
};
/* All actions, in no special order; static memory. */
const struct http_action *const *http_actions(size_t *ret_count);
/* Parameters of every request, and of every action that lists. */
extern const struct http_param http_common_params[], http_list_params[];

#endif
