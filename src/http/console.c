/* SPDX-License-Identifier: Apache-2.0 */
/* /instances/ID/console: the serial console over a WebSocket (RFC 6455), one thread each;
 * /instances/ID/console.log: what it said so far. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "server-private.h"
#include "websocket.h"

#define CONSOLES_MAX 64
#define PING_MS 30000

struct session {
    struct session *next;
    struct consoles *consoles;
    pthread_t thread;
    struct MHD_UpgradeResponseHandle *handle;
    MHD_socket socket;
    int console;
    int stop[2]; /* a byte into stop[1], or its closing, ends the session */
    struct websocket_reader reader;
    struct im_str in; /* bytes for the machine that were read already */
    bool raw;         /* no frames: "Upgrade: imprint-console" */
};

struct consoles {
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t ended;
    struct session *sessions;
    unsigned count;
    bool stopping;
};

struct consoles *consoles_new(void) {
    struct consoles *consoles = im_alloc(sizeof(*consoles));

    pthread_mutex_init(&consoles->lock, NULL);
    pthread_cond_init(&consoles->ended, NULL);
    return consoles;
}

void consoles_stop(struct consoles *consoles) {
    pthread_mutex_lock(&consoles->lock);
    consoles->stopping = true;
    for (struct session *session = consoles->sessions; session != NULL; session = session->next)
        (void) !write(session->stop[1], "x", 1);
    while (consoles->count > 0)
        pthread_cond_wait(&consoles->ended, &consoles->lock);
    pthread_mutex_unlock(&consoles->lock);
}

void consoles_free(struct consoles *consoles) {
    pthread_mutex_destroy(&consoles->lock);
    pthread_cond_destroy(&consoles->ended);
    free(consoles);
}

static void session_free(struct session *session) {
    if (session->console >= 0)
        close(session->console);
    if (session->stop[0] >= 0)
        close(session->stop[0]);
    if (session->stop[1] >= 0)
        close(session->stop[1]);
    im_str_done(&session->in);
    free(session);
}

/* --- Bytes both ways ----------------------------------------------------------------------------
 */

/* Waits for room when the other side is slow, but not for ever. */
static bool send_all(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);

        if (sent < 0 && errno == ENOTSOCK)
            sent = write(fd, bytes, len);
        if (sent > 0) {
            bytes += sent;
            len -= (size_t) sent;
        } else if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            struct pollfd wait = {.fd = fd, .events = POLLOUT};

            if (poll(&wait, 1, 10000) <= 0)
                return false;
        } else if (sent < 0 && errno != EINTR) {
            return false;
        }
    }
    return true;
}

static bool send_frame(struct session *session, unsigned opcode, const char *bytes, size_t len) {
    struct im_str frame = {0};
    bool sent;

    if (session->raw)
        return opcode != WEBSOCKET_BINARY || send_all(session->socket, bytes, len);
    websocket_frame(&frame, opcode, bytes, len);
    sent = send_all(session->socket, frame.data, frame.len);
    im_str_done(&frame);
    return sent;
}

static bool from_machine(struct session *session) {
    char bytes[4096];
    ssize_t got = read(session->console, bytes, sizeof(bytes));

    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    return got > 0 && send_frame(session, WEBSOCKET_BINARY, bytes, (size_t) got);
}

static bool on_payload(void *arg, unsigned opcode, const char *bytes, size_t len) {
    struct session *session = arg;

    if (opcode == WEBSOCKET_PING)
        return send_frame(session, WEBSOCKET_PONG, bytes, len);
    if (opcode == WEBSOCKET_CLOSE) {
        (void) send_frame(session, WEBSOCKET_CLOSE, bytes, len);
        return false;
    }
    return opcode == WEBSOCKET_PONG || send_all(session->console, bytes, len);
}

static bool take_client_bytes(struct session *session, const char *bytes, size_t len) {
    if (session->raw)
        return send_all(session->console, bytes, len);
    return websocket_read(&session->reader, bytes, len, on_payload, session);
}

static bool from_client(struct session *session) {
    char bytes[4096];
    ssize_t got = recv(session->socket, bytes, sizeof(bytes), 0);

    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    return got > 0 && take_client_bytes(session, bytes, (size_t) got);
}

static void pump(struct session *session) {
    if (session->in.len > 0 && !take_client_bytes(session, session->in.data, session->in.len))
        return;
    for (;;) {
        struct pollfd fds[3] = {{.fd = session->socket, .events = POLLIN},
                                {.fd = session->console, .events = POLLIN},
                                {.fd = session->stop[0], .events = POLLIN}};
        int ready = poll(fds, 3, PING_MS);

        if (ready < 0 && errno != EINTR)
            return;
        if (ready == 0 && !send_frame(session, WEBSOCKET_PING, "", 0))
            return;
        if (fds[2].revents != 0)
            break;
        if (fds[1].revents != 0 && !from_machine(session))
            break;
        if (fds[0].revents != 0 && !from_client(session))
            return;
    }
    (void) send_frame(session, WEBSOCKET_CLOSE, "\x03\xe8", 2); /* 1000: normal end */
}

static void session_end(struct session *session) {
    struct consoles *consoles = session->consoles;

    MHD_upgrade_action(session->handle, MHD_UPGRADE_ACTION_CLOSE);
    pthread_mutex_lock(&consoles->lock);
    for (struct session **slot = &consoles->sessions; *slot != NULL; slot = &(*slot)->next)
        if (*slot == session) {
            *slot = session->next;
            break;
        }
    session_free(session);
    consoles->count--;
    pthread_cond_broadcast(&consoles->ended);
    pthread_mutex_unlock(&consoles->lock);
}

static void *session_main(void *arg) {
    struct session *session = arg;

    pump(session);
    session_end(session);
    return NULL;
}

static void on_upgrade(void *arg, struct MHD_Connection *connection, void *slot, const char *in,
                       size_t in_len, MHD_socket socket, struct MHD_UpgradeResponseHandle *handle) {
    struct session *session = arg;
    struct consoles *consoles = session->consoles;
    bool started;

    (void) connection, (void) slot;
    session->handle = handle;
    session->socket = socket;
    if (in_len > 0)
        im_str_add_bytes(&session->in, in, in_len);
    pthread_mutex_lock(&consoles->lock);
    started =
        !consoles->stopping && pthread_create(&session->thread, NULL, session_main, session) == 0;
    if (started) {
        pthread_detach(session->thread);
        session->next = consoles->sessions;
        consoles->sessions = session;
    }
    pthread_mutex_unlock(&consoles->lock);
    if (!started)
        session_end(session);
}

/* --- Requests -----------------------------------------------------------------------------------
 */

/* Splits "/instances/ID/WHAT". */
static bool identify(struct exchange *exchange, const char **ret_what, struct im_err *err) {
    const char *id = exchange->path + strlen("/instances/"), *slash = strchr(id, '/');

    if (slash == NULL || slash == id || (size_t) (slash - id) >= sizeof(exchange->id))
        return im_fail(err, IM_NOT_FOUND, "there is nothing at [%.80s]", exchange->path);
    memcpy(exchange->id, id, (size_t) (slash - id));
    if (!im_id_valid(exchange->id) ||
        (strcmp(slash + 1, "console") != 0 && strcmp(slash + 1, "console.log") != 0))
        return im_fail(err, IM_NOT_FOUND, "there is nothing at [%.80s]", exchange->path);
    *ret_what = slash + 1;
    return true;
}

static bool reserve(struct consoles *consoles, struct im_err *err) {
    bool room;

    pthread_mutex_lock(&consoles->lock);
    room = !consoles->stopping && consoles->count < CONSOLES_MAX;
    consoles->count += room;
    pthread_mutex_unlock(&consoles->lock);
    return room || im_fail(err, IM_BUSY, "%d consoles are open already", CONSOLES_MAX);
}

static void give_back(struct consoles *consoles) {
    pthread_mutex_lock(&consoles->lock);
    consoles->count--;
    pthread_cond_broadcast(&consoles->ended);
    pthread_mutex_unlock(&consoles->lock);
}

static struct session *session_new(struct exchange *exchange, struct im_err *err) {
    struct session *session = im_alloc(sizeof(*session));

    *session =
        (struct session){.consoles = exchange->http->consoles, .console = -1, .stop = {-1, -1}};
    if (pipe2(session->stop, O_CLOEXEC) < 0)
        im_fail_sys(err, errno, "console of instance [%s]", exchange->id);
    else if (cloud_instance_console(exchange->http->cloud, &exchange->caller, exchange->id,
                                    &session->console, err))
        return session;
    session_free(session);
    return NULL;
}

static enum MHD_Result upgrade(struct exchange *exchange, const char *protocol, const char *key) {
    struct im_err err = {0};
    struct session *session = NULL;
    struct MHD_Response *response;
    enum MHD_Result result;
    const char *wanted = MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND,
                                                     "Sec-WebSocket-Protocol");

    if (!reserve(exchange->http->consoles, &err))
        return reply_error(exchange->connection, MHD_HTTP_OK, &err);
    session = session_new(exchange, &err);
    if (session == NULL) {
        give_back(exchange->http->consoles);
        return reply_error(exchange->connection, MHD_HTTP_OK, &err);
    }
    session->raw = key == NULL;
    response = MHD_create_response_for_upgrade(on_upgrade, session);
    MHD_add_response_header(response, "Upgrade", protocol);
    if (key != NULL) {
        char accept[32];

        websocket_accept(key, accept);
        MHD_add_response_header(response, "Sec-WebSocket-Accept", accept);
        if (im_str_equal(wanted, "binary")) /* browsers insist on an answer */
            MHD_add_response_header(response, "Sec-WebSocket-Protocol", wanted);
    }
    result = MHD_queue_response(exchange->connection, MHD_HTTP_SWITCHING_PROTOCOLS, response);
    MHD_destroy_response(response);
    if (result == MHD_NO) {
        session_free(session);
        give_back(exchange->http->consoles);
    }
    return result;
}

static enum MHD_Result serve_console(struct exchange *exchange) {
    const char *protocol =
        MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, "Upgrade");
    const char *key =
        MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, "Sec-WebSocket-Key");
    const char *version =
        MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, "Sec-WebSocket-Version");
    struct im_err err = {0};

    if (protocol != NULL && strcasecmp(protocol, "websocket") == 0) {
        if (key == NULL || strlen(key) > 64)
            im_fail(&err, IM_BAD_MESSAGE, "header Sec-WebSocket-Key is missing or too long");
        else if (version != NULL && strcmp(version, "13") != 0)
            im_fail(&err, IM_BAD_MESSAGE, "header Sec-WebSocket-Version must be 13");
        else
            return upgrade(exchange, "websocket", key);
        return reply_error(exchange->connection, MHD_HTTP_OK, &err);
    }
    if (protocol != NULL && strcasecmp(protocol, "imprint-console") == 0)
        return upgrade(exchange, "imprint-console", NULL);
    im_fail(&err, IM_BAD_MESSAGE, "the console is reached by a WebSocket (header Upgrade)");
    return reply_error(exchange->connection, MHD_HTTP_OK, &err);
}

static enum MHD_Result serve_log(struct exchange *exchange) {
    struct im_err err = {0};
    char *bytes = NULL;
    size_t len = 0;
    struct im_str text;

    if (!cloud_instance_console_log(exchange->http->cloud, &exchange->caller, exchange->id, &bytes,
                                    &len, &err))
        return reply_error(exchange->connection, MHD_HTTP_OK, &err);
    text = (struct im_str){bytes, len, len};
    return reply_text(exchange->connection, MHD_HTTP_OK, text_ref_new(&text),
                      "application/octet-stream");
}

enum MHD_Result console_serve(struct exchange *exchange, size_t *len) {
    struct params params = {0};
    struct im_err err = {0};
    const char *what = NULL;
    bool good;

    if (*len > 0) {
        exchange->received += *len;
        *len = 0;
        return exchange->received > 1 << 20 ? MHD_NO : MHD_YES;
    }
    good = identify(exchange, &what, &err) && exchange_authenticate(exchange, &params, &err);
    params_done(&params);
    if (!good)
        return reply_error(exchange->connection, MHD_HTTP_OK, &err);
    if (strcmp(exchange->method, "GET") != 0) {
        im_fail(&err, IM_BAD_ACTION, "method %s is not allowed here", exchange->method);
        return reply_error(exchange->connection, MHD_HTTP_OK, &err);
    }
    return strcmp(what, "console") == 0 ? serve_console(exchange) : serve_log(exchange);
}
