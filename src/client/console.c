/* SPDX-License-Identifier: Apache-2.0 */
/* The serial console: a WebSocket (RFC 6455) over a connection that libcurl made. What the guest
 * prints comes as binary messages, what is typed goes as such. */
#include "client-private.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/id.h"
#include "crypto/crypto.h"

enum {
    HEAD_MAX = 16384,  /* of the HTTP reply */
    CONTROL_MAX = 125, /* payload of a ping or close, by the RFC */
    WRITE_MAX = 4096,  /* payload of one frame of ours */
    IO_TIMEOUT_MS = 30000,
};
enum opcode { OP_MORE = 0, OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

struct client_console {
    struct client *client;
    CURL *curl;
    curl_socket_t socket;
    struct im_str in; /* received, not yet taken apart */
    size_t in_at;
    uint64_t payload_left; /* of the data frame that is being read */
    bool ended;
    char reason[CONTROL_MAX + 1];
};

static bool wait_for(const struct client_console *console, short events, struct im_err *err) {
    int64_t deadline = im_mono_ms() + IO_TIMEOUT_MS;

    while (im_mono_ms() < deadline) {
        struct pollfd fd = {console->socket, events, 0};
        int rc = poll(&fd, 1, 100);

        if (client_interrupted(console->client))
            return im_fail(err, IM_CANCELLED, "interrupted");
        if (rc > 0)
            return true;
        if (rc < 0 && errno != EINTR)
            return im_fail_sys(err, errno, "cannot wait for the console");
    }
    return im_fail(err, IM_TIMEOUT, "the console's connection does not move");
}

static bool send_all(struct client_console *console, const char *bytes, size_t len,
                     struct im_err *err) {
    while (len > 0) {
        size_t n = 0;
        CURLcode rc = curl_easy_send(console->curl, bytes, len, &n);

        if (rc == CURLE_AGAIN) {
            if (!wait_for(console, POLLOUT, err))
                return false;
            continue;
        }
        if (rc != CURLE_OK)
            return im_fail(err, IM_INTERNAL, "the console's connection broke: %s",
                           curl_easy_strerror(rc));
        bytes += n;
        len -= n;
    }
    return true;
}

/* Reads what there is. *ret_len 0: nothing now, or the end (then console->ended). */
static bool receive(struct client_console *console, size_t *ret_len, struct im_err *err) {
    CURLcode rc;
    size_t n = 0;

    if (console->in_at > 0) { /* keep the unread rest at the front */
        console->in.len -= console->in_at;
        memmove(console->in.data, console->in.data + console->in_at, console->in.len);
        console->in_at = 0;
    }
    rc = curl_easy_recv(console->curl, im_str_reserve(&console->in, 16384), 16384, &n);
    if (rc != CURLE_OK && rc != CURLE_AGAIN)
        return im_fail(err, IM_INTERNAL, "the console's connection broke: %s",
                       curl_easy_strerror(rc));
    if (rc == CURLE_OK && n == 0)
        console->ended = true;
    console->in.len += n;
    *ret_len = n;
    return true;
}

/* --- The log ------------------------------------------------------------------------------------
 */

static bool get_bytes(struct client *client, const char *what, char **ret_bytes, size_t *ret_len,
                      struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(free_auto) char *path = im_printf("%s%s", client->prefix, what);
    IM_AUTO(im_str_done) struct im_str reply = {0};
    IM_AUTO(free_auto) char *query = NULL;
    IM_AUTO(free_auto) char *url = NULL;
    char *type = NULL;
    long status = 0;
    CURLcode rc;

    client_common_params(client, &params, im_now_s());
    query = client_signed_query("GET", path, &params, client->secret);
    url = im_printf("%s%s?%s", client->origin, what, query);
    client_prepare(client, client->curl);
    curl_easy_setopt(client->curl, CURLOPT_URL, url);
    curl_easy_setopt(client->curl, CURLOPT_WRITEFUNCTION, client_gather);
    curl_easy_setopt(client->curl, CURLOPT_WRITEDATA, &reply);
    rc = curl_easy_perform(client->curl);
    if (rc != CURLE_OK)
        return client_transfer_fail(client, client->curl, rc, err);
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(client->curl, CURLINFO_CONTENT_TYPE, &type);
    /* A refusal is a reply of the API; what was asked for is plain bytes. */
    if (status != 200 || (type != NULL && im_starts_with(type, "application/json"))) {
        if (client_reply(client, status, reply.data, reply.len, NULL, err))
            return im_fail(err, IM_INTERNAL, "the server sent nothing for %s", what);
        return false;
    }
    *ret_len = reply.len;
    *ret_bytes = im_str_take(&reply);
    return true;
}

bool client_console_log(struct client *client, const char *instance_id, char **ret_bytes,
                        size_t *ret_len, struct im_err *err) {
    IM_AUTO(free_auto) char *what = im_printf("/instances/%s/console.log", instance_id);

    return get_bytes(client, what, ret_bytes, ret_len, err);
}

bool client_boot_test_file(struct client *client, const char *boot_test_id, const char *kind,
                           char **ret_bytes, size_t *ret_len, struct im_err *err) {
    IM_AUTO(free_auto) char *what = im_printf("/data/boot-tests/%s/%s", boot_test_id, kind);

    return get_bytes(client, what, ret_bytes, ret_len, err);
}

/* --- Opening ---------------------------------------------------------------------------------- */

static bool request_upgrade(struct client_console *console, const char *id, struct im_err *err) {
    const struct client *client = console->client;
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(free_auto) char *path = im_printf("%s/instances/%s/console", client->prefix, id);
    IM_AUTO(free_auto) char *query = NULL;
    IM_AUTO(free_auto) char *key = NULL;
    IM_AUTO(im_str_done) struct im_str request = {0};
    const char *authority = strstr(client->origin, "://") + 3;
    unsigned char nonce[16];

    im_random(nonce, sizeof(nonce));
    key = crypto_base64(nonce, sizeof(nonce));
    client_common_params(client, &params, im_now_s());
    query = client_signed_query("GET", path, &params, client->secret);
    im_str_addf(&request,
                "GET %s?%s HTTP/1.1\r\nHost: %.*s\r\nUser-Agent: imprint/" IMPRINT_VERSION "\r\n"
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: binary\r\n\r\n",
                path, query, (int) strcspn(authority, "/"), authority, key);
    return send_all(console, request.data, request.len, err);
}

/* The body of a refusal, as far as Content-Length says. */
static bool read_refusal(struct client_console *console, size_t head_len, long status,
                         struct im_err *err) {
    const char *field = strcasestr(console->in.data, "\r\nContent-Length:");
    size_t want = field ? strtoul(field + 17, NULL, 10) : 0, n;

    if (want > HEAD_MAX)
        want = HEAD_MAX;
    while (console->in.len < head_len + want && !console->ended)
        if (!wait_for(console, POLLIN, err) || !receive(console, &n, err))
            return false;
    if (console->in.len < head_len + want)
        want = console->in.len - head_len;
    if (client_reply(console->client, status, console->in.data + head_len, want, NULL, err))
        return im_fail(err, IM_INTERNAL, "the server did not open the console (HTTP %ld)", status);
    return false;
}

static bool read_upgrade(struct client_console *console, struct im_err *err) {
    char *end = NULL;
    size_t n;
    long status;

    while (end == NULL) {
        if (!wait_for(console, POLLIN, err) || !receive(console, &n, err))
            return false;
        if (console->ended || console->in.len > HEAD_MAX) {
            console->client->fault = CLIENT_FOREIGN;
            return im_fail(err, IM_INTERNAL, "%s does not offer the console",
                           console->client->endpoint);
        }
        im_str_reserve(&console->in, 1)[0] = '\0';
        end = console->in.data != NULL ? strstr(console->in.data, "\r\n\r\n") : NULL;
    }
    status =
        strncmp(console->in.data, "HTTP/1.", 7) == 0 ? strtol(console->in.data + 9, NULL, 10) : 0;
    end[2] = '\0';
    console->in_at = (size_t) (end + 4 - console->in.data);
    if (status == 101)
        return true;
    n = console->in_at;
    console->in_at = 0;
    return read_refusal(console, n, status, err);
}

struct client_console *client_console(struct client *client, const char *instance_id,
                                      struct im_err *err) {
    IM_AUTO(client_console_close_auto)
    struct client_console *console = im_alloc(sizeof(*console));
    CURLcode rc;

    console->client = client;
    console->curl = curl_easy_init();
    client_prepare(client, console->curl);
    curl_easy_setopt(console->curl, CURLOPT_URL, client->endpoint);
    curl_easy_setopt(console->curl, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(console->curl, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
    rc = curl_easy_perform(console->curl);
    if (rc != CURLE_OK) {
        client_transfer_fail(client, console->curl, rc, err);
        return NULL;
    }
    curl_easy_getinfo(console->curl, CURLINFO_ACTIVESOCKET, &console->socket);
    if (!request_upgrade(console, instance_id, err) || !read_upgrade(console, err))
        return NULL;
    return im_steal(&console);
}

int client_console_fd(const struct client_console *console) { return console->socket; }

bool client_console_pending(const struct client_console *console) {
    return console->in.len > console->in_at;
}

/* --- Frames ----------------------------------------------------------------------------------- */

/* A frame of ours: always final and masked, as a client's must be. */
static bool send_frame(struct client_console *console, enum opcode op, const void *bytes,
                       size_t len, struct im_err *err) {
    IM_AUTO(im_str_done) struct im_str frame = {0};
    const unsigned char *from = bytes;
    unsigned char mask[4];

    im_random(mask, sizeof(mask));
    im_str_add_char(&frame, (char) (0x80 | op));
    if (len <= CONTROL_MAX) {
        im_str_add_char(&frame, (char) (0x80 | len));
    } else {
        im_str_add_char(&frame, (char) (0x80 | 126));
        im_str_add_char(&frame, (char) (len >> 8));
        im_str_add_char(&frame, (char) len);
    }
    im_str_add_bytes(&frame, mask, sizeof(mask));
    for (size_t i = 0; i < len; i++)
        im_str_add_char(&frame, (char) (from[i] ^ mask[i % 4]));
    return send_all(console, frame.data, frame.len, err);
}

static void end_with(struct client_console *console, const unsigned char *payload, size_t len) {
    console->ended = true;
    if (len > 2) {
        memcpy(console->reason, payload + 2, len - 2);
        console->reason[len - 2] = '\0';
    }
}

/* Takes the head of the next frame off the input, and whole control frames. *ret_more false: more
 * bytes must come first. */
static bool next_frame(struct client_console *console, bool *ret_more, struct im_err *err) {
    const unsigned char *at = (unsigned char *) console->in.data + console->in_at;
    size_t have = console->in.len - console->in_at, head = 2;
    uint64_t len;
    unsigned op;

    *ret_more = false;
    if (have < 2)
        return true;
    op = at[0] & 0x0f;
    len = at[1] & 0x7f;
    head += len == 126 ? 2 : len == 127 ? 8 : 0;
    if ((at[0] & 0x70) != 0 || (at[1] & 0x80) != 0)
        return im_fail(err, IM_BAD_MESSAGE, "the console sent a frame that a server must not send");
    if (have < head)
        return true;
    if (head > 2) {
        len = 0;
        for (size_t i = 2; i < head; i++)
            len = len << 8 | at[i];
    }
    if (op < OP_CLOSE) {
        console->in_at += head;
        console->payload_left = len;
        *ret_more = true;
        return true;
    }
    if (len > CONTROL_MAX)
        return im_fail(err, IM_BAD_MESSAGE, "the console sent a control frame that is too long");
    if (have < head + len)
        return true;
    console->in_at += head + (size_t) len;
    *ret_more = true;
    if (op == OP_CLOSE)
        end_with(console, at + head, (size_t) len);
    if (op == OP_PING)
        return send_frame(console, OP_PONG, at + head, (size_t) len, err);
    return true;
}

static size_t take_payload(struct client_console *console, char *bytes, size_t size) {
    size_t n = console->in.len - console->in_at;

    if (n > console->payload_left)
        n = (size_t) console->payload_left;
    if (n > size)
        n = size;
    if (n > 0)
        memcpy(bytes, console->in.data + console->in_at, n);
    console->in_at += n;
    console->payload_left -= n;
    return n;
}

bool client_console_read(struct client_console *console, void *bytes, size_t size, size_t *ret_len,
                         bool *ret_open, struct im_err *err) {
    bool asked = false;

    *ret_len = 0;
    for (;;) {
        size_t n = 0;
        bool more = true;

        while (console->payload_left == 0 && more && !console->ended)
            if (!next_frame(console, &more, err))
                return false;
        *ret_len = take_payload(console, bytes, size);
        *ret_open = !console->ended || *ret_len > 0;
        if (*ret_len > 0 || console->ended || asked)
            break;
        if (!receive(console, &n, err))
            return false;
        asked = n == 0; /* nothing there just now: one last look at what we have */
    }
    if (!*ret_open && console->reason[0] != '\0')
        return im_fail(err, IM_INTERNAL, "the server ended the console: %s", console->reason);
    return true;
}

bool client_console_write(struct client_console *console, const void *bytes, size_t len,
                          struct im_err *err) {
    const char *at = bytes;

    while (len > 0) {
        size_t n = len > WRITE_MAX ? WRITE_MAX : len;

        if (!send_frame(console, OP_BINARY, at, n, err))
            return false;
        at += n;
        len -= n;
    }
    return true;
}

void client_console_close(struct client_console *console) {
    struct im_err ignored = {0};

    if (console == NULL)
        return;
    if (console->socket > 0 && !console->ended)
        (void) send_frame(console, OP_CLOSE, "\x03\xe8", 2, &ignored);
    curl_easy_cleanup(console->curl);
    im_str_done(&console->in);
    free(console);
}
