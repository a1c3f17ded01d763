/* SPDX-License-Identifier: Apache-2.0 */
/* Signing as clients do, and plain sockets. */
#include "test-client.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "fake-cloud.h"

struct http_config test_config(void) {
    return (struct http_config){.address = "127.0.0.1",
                                .threads = 2,
                                .max_connections = 64,
                                .max_connections_per_ip = 64,
                                .idle_timeout_s = 2,
                                .time_tolerance_s = 60,
                                .body_max_bytes = 8 << 20,
                                .upload_max_bytes = 64 << 20,
                                .cache_bytes = 1 << 20};
}

static void encode(struct im_str *out, const char *text) {
    for (; *text != '\0'; text++)
        if (strchr("+/=:", *text) != NULL)
            im_str_addf(out, "%%%02X", (unsigned char) *text);
        else
            im_str_add_char(out, *text);
}

char *test_sign_raw(const char *method, const char *path, const char *query, bool sha1) {
    struct im_str out = {0};
    IM_AUTO(free_auto) char *text = im_printf("%s\n%s\n%s", method, path, query);
    char signature[64];

    crypto_hmac_base64(FAKE_SECRET, text, strlen(text), sha1, signature);
    im_str_addf(&out, "%s&signature=", query);
    encode(&out, signature);
    return im_str_take(&out);
}

char *test_signed(const char *method, const char *path, const char *query, const char *key,
                  int64_t age_s) {
    struct im_str full = {0};
    IM_AUTO(free_auto) char *text = NULL;
    char now[IM_TIME_TEXT];

    im_time_format(im_now_s() - age_s, now);
    im_str_addf(&full,
                "%s%saccess_key_id=%s&zone=test1a&version=1&signature_version=1&"
                "signature_method=HmacSHA256&time_stamp=",
                query, *query ? "&" : "", key != NULL ? key : FAKE_ADMIN_KEY);
    encode(&full, now);
    text = im_str_take(&full);
    return test_sign_raw(method, path, text, false);
}

int test_connect(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) < 0) {
        perror("connect");
        exit(1);
    }
    return fd;
}

char *test_talk(int port, const char *bytes, size_t len) {
    int fd = test_connect(port);
    struct im_str in = {0};
    size_t sent = 0;
    char part[4096];

    for (;;) {
        struct pollfd wait = {.fd = fd, .events = POLLIN | (sent < len ? POLLOUT : 0)};
        ssize_t n;

        if (poll(&wait, 1, 4000) <= 0)
            break;
        if (wait.revents & POLLIN) {
            n = recv(fd, part, sizeof(part), 0);
            if (n <= 0)
                break;
            im_str_add_bytes(&in, part, (size_t) n);
        } else if (wait.revents & POLLOUT) {
            n = send(fd, bytes + sent, len - sent > 65536 ? 65536 : len - sent,
                     MSG_NOSIGNAL | MSG_DONTWAIT);
            if (n <= 0)
                sent = len; /* the server will not hear more, but may have said why */
            else
                sent += (size_t) n;
        } else {
            break;
        }
    }
    close(fd);
    return im_str_take(&in);
}

static struct wire_doc *parse_body(const char *json) {
    const char *body = json == NULL ? NULL : strstr(json, "\r\n\r\n");
    struct im_err ignored = {0};

    if (json == NULL)
        return NULL;
    body = im_starts_with(json, "HTTP/") && body != NULL ? body + 4 : json;
    return wire_parse(body, strlen(body), &ignored);
}

int64_t test_ret_code(const char *json) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = parse_body(json);

    return doc == NULL ? -1 : wire_get_int(wire_root(doc), "ret_code", -1);
}

const char *test_message(const char *json) {
    static char text[600];
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = parse_body(json);

    snprintf(text, sizeof(text), "%s",
             doc == NULL ? "(no JSON)" : wire_get_text(wire_root(doc), "message", ""));
    return text;
}
