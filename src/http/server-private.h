/* SPDX-License-Identifier: Apache-2.0 */
/* What server.c, data.c and console.c share: an HTTP exchange on libmicrohttpd. */
#ifndef HTTP_SERVER_PRIVATE_H
#define HTTP_SERVER_PRIVATE_H

#include <errno.h>
#include <microhttpd.h>

#include "http-private.h"

enum route { ROUTE_API, ROUTE_DATA, ROUTE_DOWNLOAD, ROUTE_CONSOLE, ROUTE_PAGE };

struct exchange {
    struct http *http;
    struct MHD_Connection *connection;
    char *path;        /* as sent, not decoded */
    const char *query; /* within `path` */
    char method[16];
    enum route route;
    uint64_t received;
    /* The query API. */
    struct im_str body;
    uint64_t counted; /* bytes of it that are counted in http->body_bytes */
    bool too_large, busy;
    /* An upload. */
    struct caller caller;
    char id[IM_ID_MAX];
    int fd;
    uint64_t offset, end, total;
    bool ask;                     /* only how far it is */
    struct exchange *next_holder; /* see data.c */
    _Atomic int64_t moved_ms;     /* when bytes came last */
    struct im_err err;
    unsigned status;
};

enum MHD_Result reply_text(struct MHD_Connection *connection, unsigned status,
                           struct text_ref *text, const char *type);
enum MHD_Result reply_string(struct MHD_Connection *connection, unsigned status, const char *text,
                             const char *type);
enum MHD_Result reply_error(struct MHD_Connection *connection, unsigned status,
                            const struct im_err *err);

/* /data/images/ID (data.c): headers, then the body piece by piece, then the end. */
enum MHD_Result data_begin(struct exchange *exchange);
enum MHD_Result data_serve(struct exchange *exchange, const char *bytes, size_t *len);
void data_end(struct exchange *exchange);
/* /data/exports/ID, /data/boot-tests/ID/serial and …/screen (download.c). */
enum MHD_Result download_serve(struct exchange *exchange, size_t *len);
/* The caller of a request that is signed like the query API's; `path` and query as received. */
bool exchange_authenticate(struct exchange *exchange, struct params *params, struct im_err *err);

/* /instances/ID/console and console.log (console.c). */
struct consoles *consoles_new(void);
enum MHD_Result console_serve(struct exchange *exchange, size_t *len);
/* Ends all open consoles and waits for their threads. */
void consoles_stop(struct consoles *consoles);
void consoles_free(struct consoles *consoles);

#endif
