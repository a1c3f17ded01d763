/* SPDX-License-Identifier: Apache-2.0 */
/* libmicrohttpd: taking requests in, bounded in every direction, and sending replies. Nothing of
 * it shows elsewhere but in data.c and console.c. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/id.h"
#include "base/log.h"
#include "server-private.h"

/* Bodies of all requests under way together: one client alone can not fill the memory. */
#define BODIES_MAX_BYTES (64u << 20)

/* --- Replies -------------------------------------------------------------------------------------
 */

enum MHD_Result reply_text(struct MHD_Connection *connection, unsigned status,
                           struct text_ref *text, const char *type) {
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback_cls(
        text->len, text->bytes, text_unref, text);
    enum MHD_Result result;

    if (response == NULL) {
        text_unref(text);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result reply_string(struct MHD_Connection *connection, unsigned status, const char *text,
                             const char *type) {
    struct im_str copy = {0};

    im_str_add(&copy, text);
    return reply_text(connection, status, text_ref_new(&copy), type);
}

enum MHD_Result reply_error(struct MHD_Connection *connection, unsigned status,
                            const struct im_err *err) {
    struct wire_writer writer = {0};
    char id[IM_ID_MAX];

    im_id_make(id, "r-", 12);
    error_reply(&writer, id, err);
    return reply_text(connection, status, text_ref_new(&writer.text), "application/json");
}

/* --- The query API ---------------------------------------------------------------------------- */

static void body_add(struct exchange *exchange, const char *bytes, size_t len) {
    struct http *http = exchange->http;

    if (exchange->body.len + len > http->config.body_max_bytes) {
        exchange->too_large = true;
    } else if (atomic_fetch_add(&http->body_bytes, len) + len > BODIES_MAX_BYTES) {
        atomic_fetch_sub(&http->body_bytes, len);
        exchange->busy = true;
    } else {
        exchange->counted += len;
        im_str_add_bytes(&exchange->body, bytes, len);
    }
}

static enum MHD_Result serve_api(struct exchange *exchange, const char *bytes, size_t *len) {
    struct MHD_Connection *connection = exchange->connection;
    bool post = strcmp(exchange->method, "POST") == 0;
    struct im_err err = {0};

    if (*len > 0) {
        exchange->received += *len;
        /* What is too long is read a little further, so that the client gets to see the reason. */
        if (exchange->received > 2 * exchange->http->config.body_max_bytes)
            return MHD_NO;
        if (post && !exchange->too_large && !exchange->busy)
            body_add(exchange, bytes, *len);
        *len = 0;
        return MHD_YES;
    }
    if (exchange->too_large || exchange->busy) {
        if (exchange->too_large)
            im_fail(&err, IM_BAD_MESSAGE, "the body is longer than %llu bytes",
                    (unsigned long long) exchange->http->config.body_max_bytes);
        else
            im_fail(&err, IM_BUSY, "too many large requests at once, please try later");
        return reply_error(connection, MHD_HTTP_OK, &err);
    }
    if (post && exchange->body.len > 0)
        return reply_text(connection, MHD_HTTP_OK,
                          api_answer(exchange->http, exchange->method, exchange->path,
                                     exchange->body.data, exchange->body.len),
                          "application/json");
    return reply_text(connection, MHD_HTTP_OK,
                      api_answer(exchange->http, exchange->method, exchange->path, exchange->query,
                                 strlen(exchange->query)),
                      "application/json");
}

/* --- Health and figures ----------------------------------------------------------------------- */

static enum MHD_Result serve_healthz(struct exchange *exchange) {
    return reply_string(exchange->connection, MHD_HTTP_OK, "ok\n", "text/plain");
}

static enum MHD_Result serve_readyz(struct exchange *exchange) {
    struct cloud_health health = {0};
    IM_AUTO(free_auto) char *text = NULL;

    cloud_health(exchange->http->cloud, &health);
    if (health.db_ok && health.virt_ok && health.pool_ok)
        return reply_string(exchange->connection, MHD_HTTP_OK, "ready\n", "text/plain");
    text = im_printf("not ready: %s\n", health.reason);
    return reply_string(exchange->connection, MHD_HTTP_SERVICE_UNAVAILABLE, text, "text/plain");
}

static enum MHD_Result serve_metrics(struct exchange *exchange) {
    struct im_str text = {0};

    metrics_write(exchange->http->metrics, exchange->http->cloud, &text);
    return reply_text(exchange->connection, MHD_HTTP_OK, text_ref_new(&text),
                      "text/plain; version=0.0.4");
}

static enum MHD_Result serve_front(struct exchange *exchange) {
    return reply_string(exchange->connection, MHD_HTTP_OK,
                        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">"
                        "<title>Imprint</title>\n<h1>Imprint</h1>\n"
                        "<p>This is imprintd " IMPRINT_VERSION ". The API is at "
                        "<code>/iaas/</code>; <code>imprint --help</code> shows the command "
                        "line. See <a href=\"/readyz\">/readyz</a> and "
                        "<a href=\"/metrics\">/metrics</a>.</p></html>\n",
                        "text/html; charset=utf-8");
}

static const struct {
    const char *path;
    enum MHD_Result (*serve)(struct exchange *exchange);
} pages[] = {
    {"/", serve_front},
    {"/healthz", serve_healthz},
    {"/readyz", serve_readyz},
    {"/metrics", serve_metrics},
};

static enum MHD_Result serve_page(struct exchange *exchange, size_t *len) {
    struct im_err err = {0};

    if (*len > 0) { /* a body nobody asked for */
        exchange->received += *len;
        *len = 0;
        return exchange->received > 1 << 20 ? MHD_NO : MHD_YES;
    }
    if (strcmp(exchange->method, "GET") != 0 && strcmp(exchange->method, "HEAD") != 0) {
        im_fail(&err, IM_BAD_ACTION, "method %.16s is not allowed here", exchange->method);
        return reply_error(exchange->connection, MHD_HTTP_METHOD_NOT_ALLOWED, &err);
    }
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
        if (strcmp(pages[i].path, exchange->path) == 0)
            return pages[i].serve(exchange);
    im_fail(&err, IM_NOT_FOUND, "there is nothing at [%.80s]", exchange->path);
    return reply_error(exchange->connection, MHD_HTTP_NOT_FOUND, &err);
}

/* --- Taking requests -------------------------------------------------------------------------- */

static enum route route_of(const struct exchange *exchange) {
    const char *path = exchange->path;

    if (strcmp(path, "/iaas/") == 0 || strcmp(path, "/iaas") == 0)
        return strcmp(exchange->method, "GET") == 0 || strcmp(exchange->method, "POST") == 0
                   ? ROUTE_API
                   : ROUTE_PAGE;
    if (im_starts_with(path, "/data/images/"))
        return ROUTE_DATA;
    if (im_starts_with(path, "/data/exports/") || im_starts_with(path, "/data/boot-tests/"))
        return ROUTE_DOWNLOAD;
    if (im_starts_with(path, "/instances/"))
        return ROUTE_CONSOLE;
    return ROUTE_PAGE;
}

/* Called before anything is decoded: signatures are made over these very bytes. */
static void *on_uri(void *arg, const char *uri, struct MHD_Connection *connection) {
    struct exchange *exchange = im_alloc(sizeof(*exchange));
    char *mark;

    exchange->http = arg;
    exchange->connection = connection;
    exchange->path = im_strdup(uri);
    mark = strchr(exchange->path, '?');
    if (mark != NULL) {
        *mark = '\0';
        /* The library would now take the query apart into the connection's memory, for nobody; and
         * when a long one does not fit there, version 0.9.75 does not answer at all. It looks at
         * its own copy, which this is: show it an empty query. */
        ((char *) uri)[mark + 1 - exchange->path] = '\0';
    }
    exchange->query = mark != NULL ? mark + 1 : "";
    exchange->fd = -1;
    return exchange;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *bytes,
                                  size_t *len, void **slot) {
    struct exchange *exchange = *slot;

    (void) arg, (void) url, (void) version, (void) connection;
    if (exchange == NULL)
        return MHD_NO;
    if (exchange->method[0] == '\0') {
        snprintf(exchange->method, sizeof(exchange->method), "%s", method);
        exchange->route = route_of(exchange);
        if (exchange->route == ROUTE_DATA)
            return data_begin(exchange);
        return MHD_YES;
    }
    switch (exchange->route) {
    case ROUTE_API:
        return serve_api(exchange, bytes, len);
    case ROUTE_DATA:
        return data_serve(exchange, bytes, len);
    case ROUTE_DOWNLOAD:
        return download_serve(exchange, len);
    case ROUTE_CONSOLE:
        return console_serve(exchange, len);
    case ROUTE_PAGE:
        break;
    }
    return serve_page(exchange, len);
}

/* A client that ends its side together with the request: the library (0.9.75, with epoll) sees the
 * data and misses the end, so the connection would stay, and count, until the idle timeout. Ending
 * our side too is an event of its own; what was sent still arrives. */
static void end_if_half_closed(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    char byte;

    if (info != NULL && recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
        (void) shutdown(info->connect_fd, SHUT_RDWR);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode how) {
    struct exchange *exchange = *slot;

    (void) arg;
    if (exchange == NULL)
        return;
    if (how == MHD_REQUEST_TERMINATED_COMPLETED_OK && exchange->route != ROUTE_CONSOLE)
        end_if_half_closed(connection);
    data_end(exchange);
    atomic_fetch_sub(&exchange->http->body_bytes, exchange->counted);
    im_str_done(&exchange->body);
    free(exchange->path);
    free(exchange);
    *slot = NULL;
}

static void on_log(void *arg, const char *format, va_list args) {
    char line[512];

    (void) arg;
    vsnprintf(line, sizeof(line), format, args);
    im_debug("http", "libmicrohttpd: %s", line);
}

/* --- Start and end ---------------------------------------------------------------------------- */

static bool resolve(const struct http_config *config, struct sockaddr_storage *ret_address,
                    struct im_err *err) {
    struct sockaddr_in *v4 = (struct sockaddr_in *) ret_address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *) ret_address;

    memset(ret_address, 0, sizeof(*ret_address));
    if (inet_pton(AF_INET, config->address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t) config->port);
        return true;
    }
    if (inet_pton(AF_INET6, config->address, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t) config->port);
        return true;
    }
    return im_fail(err, IM_BAD_MESSAGE, "address [%s] to listen on is no IP address",
                   config->address);
}

static bool start(struct http *http, struct im_err *err) {
    const struct http_config *config = &http->config;
    IM_AUTO(free_auto) char *certificate = NULL, *key = NULL;
    bool tls = !im_str_empty(config->tls_certificate) || !im_str_empty(config->tls_key);
    struct sockaddr_storage address;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ERROR_LOG | MHD_ALLOW_UPGRADE;
    struct MHD_OptionItem options[4] = {{MHD_OPTION_END, 0, NULL}};
    size_t len;

    if (!resolve(config, &address, err))
        return false;
    if (tls) {
        if (!im_read_file(config->tls_certificate, 1 << 20, &certificate, &len, err) ||
            !im_read_file(config->tls_key, 1 << 20, &key, &len, err))
            return im_within(err, "TLS");
        options[0] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, certificate};
        options[1] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, key};
        options[2] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
        flags |= MHD_USE_TLS;
    }
    if (address.ss_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    http->daemon = MHD_start_daemon(
        flags, (uint16_t) config->port, NULL, NULL, on_request, http, MHD_OPTION_EXTERNAL_LOGGER,
        on_log, NULL, MHD_OPTION_SOCK_ADDR, (struct sockaddr *) &address,
        MHD_OPTION_URI_LOG_CALLBACK, on_uri, http, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
        MHD_OPTION_THREAD_POOL_SIZE, config->threads > 1 ? config->threads : 0,
        MHD_OPTION_CONNECTION_LIMIT, config->max_connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        config->max_connections_per_ip, MHD_OPTION_CONNECTION_TIMEOUT, config->idle_timeout_s,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) (64 << 10), MHD_OPTION_ARRAY, options,
        MHD_OPTION_END);
    if (http->daemon == NULL)
        return im_fail_sys(err, errno, "cannot listen on %s port %d%s", config->address,
                           config->port, tls ? " with TLS" : "");
    return true;
}

struct http *http_open(const struct http_config *config, struct cloud *cloud, struct im_err *err) {
    struct http *http = im_alloc(sizeof(*http));

    http->config = *config;
    http->cloud = cloud;
    http->cache = config->cache_bytes > 0 ? cache_new(config->cache_bytes) : NULL;
    http->metrics = metrics_new();
    http->consoles = consoles_new();
    if (!start(http, err)) {
        http_close(http);
        return NULL;
    }
    return http;
}

int http_port(const struct http *http) {
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_BIND_PORT);

    return info == NULL ? 0 : info->port;
}

void http_close(struct http *http) {
    if (http == NULL)
        return;
    consoles_stop(http->consoles); /* MHD_stop_daemon waits for upgraded connections */
    if (http->daemon != NULL)
        MHD_stop_daemon(http->daemon);
    consoles_free(http->consoles);
    cache_free(http->cache);
    metrics_free(http->metrics);
    free(http);
}
