/* SPDX-License-Identifier: Apache-2.0 */
/* /data/exports/ID, /data/boot-tests/ID/serial, /data/boot-tests/ID/screen: files going out, by GET
 * and HEAD, whole or in ranges (RFC 9110), so that any client goes on where it broke off. The
 * kernel sends the file; its bytes are not looked at. Failures have a status of HTTP, as clients
 * that know nothing of us would take a reply with 200 for the file. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crypto/crypto.h"
#include "server-private.h"

#define EXPORTS "/data/exports/"
#define BOOT_TESTS "/data/boot-tests/"

struct span {
    uint64_t first, len; /* of the file */
    unsigned status;     /* 200, 206, 304 or 416 */
};

static const char *header(const struct exchange *exchange, const char *name) {
    return MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, name);
}

/* Digits and nothing else. */
static bool take_number(const char **at, uint64_t *ret_value) {
    size_t len = strspn(*at, "0123456789");

    if (len == 0 || len > 18)
        return false;
    *ret_value = strtoull(*at, NULL, 10);
    *at += len;
    return true;
}

/* "bytes=A-B", "bytes=A-", "bytes=-N". What is none of these, or several, is no range, and one
 * that is not understood may be passed over: then the whole file goes. */
static void apply_range(const char *text, uint64_t size, struct span *span) {
    uint64_t first = 0, last = UINT64_MAX, count;

    if (!im_starts_with(text, "bytes="))
        return;
    text += 6;
    if (*text == '-') {
        text++;
        if (!take_number(&text, &count) || *text != '\0')
            return;
        first = count < size ? size - count : 0;
        if (count == 0)
            first = size;
    } else {
        if (!take_number(&text, &first) || *text++ != '-' ||
            (*text != '\0' && !take_number(&text, &last)) || *text != '\0' || last < first)
            return;
    }
    last = last < size ? last : size - 1;
    *span = (struct span){first, 0, MHD_HTTP_RANGE_NOT_SATISFIABLE};
    if (first < size)
        *span = (struct span){first, last - first + 1, MHD_HTTP_PARTIAL_CONTENT};
}

/* A list of validators, perhaps weak ones: fine where both are only to be the same. */
static bool names_tag(const char *list, const char *tag) {
    return list != NULL && (strcmp(list, "*") == 0 || strstr(list, tag) != NULL);
}

static struct span choose(const struct exchange *exchange, const char *tag, uint64_t size) {
    const char *range = header(exchange, "Range"), *same = header(exchange, "If-Range");
    struct span span = {0, size, MHD_HTTP_OK};

    if (names_tag(header(exchange, "If-None-Match"), tag))
        span.status = MHD_HTTP_NOT_MODIFIED;
    else if (range != NULL && (same == NULL || strcmp(same, tag) == 0))
        apply_range(range, size, &span);
    return span;
}

static unsigned status_of(const struct im_err *err) {
    static const struct {
        enum im_code code;
        unsigned status;
    } rows[] = {{IM_BAD_MESSAGE, MHD_HTTP_BAD_REQUEST},
                {IM_AUTH, MHD_HTTP_FORBIDDEN},
                {IM_EXPIRED, MHD_HTTP_FORBIDDEN},
                {IM_DENIED, MHD_HTTP_FORBIDDEN},
                {IM_NOT_FOUND, MHD_HTTP_NOT_FOUND},
                {IM_WRONG_STATE, MHD_HTTP_CONFLICT},
                {IM_BAD_ACTION, MHD_HTTP_METHOD_NOT_ALLOWED},
                {IM_NO_RECORD, MHD_HTTP_SERVICE_UNAVAILABLE}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].code == err->code)
            return rows[i].status;
    return MHD_HTTP_INTERNAL_SERVER_ERROR;
}

static void add_header(struct MHD_Response *response, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void add_header(struct MHD_Response *response, const char *name, const char *format, ...) {
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    MHD_add_response_header(response, name, text);
}

/* RFC 9530: of the whole file, whatever part is sent. */
static void add_digest(struct MHD_Response *response, const char *hex) {
    unsigned char bytes[32];
    IM_AUTO(free_auto) char *text = NULL;

    for (size_t i = 0; i < sizeof(bytes); i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};

        bytes[i] = (unsigned char) strtoul(pair, NULL, 16);
    }
    text = crypto_base64(bytes, sizeof(bytes));
    add_header(response, "Repr-Digest", "sha-256=:%s:", text);
}

static void add_headers(struct MHD_Response *response, const struct export_file *file,
                        const struct span *span, const char *tag) {
    add_header(response, "Accept-Ranges", "bytes");
    add_header(response, "ETag", "%s", tag);
    add_header(response, "Cache-Control", "private, no-transform");
    if (strlen(file->digest) == 64)
        add_digest(response, file->digest);
    if (span->status == MHD_HTTP_RANGE_NOT_SATISFIABLE)
        add_header(response, "Content-Range", "bytes */%" PRIu64, file->size_bytes);
    if (span->len == 0)
        return;
    add_header(response, "Content-Type", "%s", file->type);
    add_header(response, "Content-Disposition", "attachment; filename=\"%s\"", file->name);
    if (span->status == MHD_HTTP_PARTIAL_CONTENT)
        add_header(response, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, span->first,
                   span->first + span->len - 1, file->size_bytes);
}

/* Takes the file's descriptor over. */
static enum MHD_Result send_file(struct exchange *exchange, const struct export_file *file) {
    /* What has no digest never changes under its name. */
    IM_AUTO(free_auto)
    char *tag = im_printf("\"%s\"", file->digest[0] != '\0' ? file->digest : file->name);
    struct span span = choose(exchange, tag, file->size_bytes);
    struct MHD_Response *response;
    enum MHD_Result result;

    if (span.status != MHD_HTTP_OK && span.status != MHD_HTTP_PARTIAL_CONTENT)
        span.len = 0;
    if (span.len == 0) {
        (void) close(file->fd);
        response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    } else {
        response = MHD_create_response_from_fd_at_offset64(span.len, file->fd, span.first);
        if (response == NULL)
            (void) close(file->fd);
    }
    if (response == NULL)
        return MHD_NO;
    add_headers(response, file, &span, tag);
    result = MHD_queue_response(exchange->connection, span.status, response);
    MHD_destroy_response(response);
    return result;
}

/* ID, or ID/WHAT for a boot test. Owned; NULL if it is none of these. */
static char *split_path(const char *path, const char **ret_what) {
    const char *id = path + strlen(im_starts_with(path, EXPORTS) ? EXPORTS : BOOT_TESTS);
    const char *slash = strchr(id, '/');
    char *only = im_strndup(id, strcspn(id, "/"));

    *ret_what = slash != NULL ? slash + 1 : NULL;
    if (im_id_valid(only) &&
        (im_starts_with(path, EXPORTS)
             ? slash == NULL
             : slash != NULL && (strcmp(slash, "/serial") == 0 || strcmp(slash, "/screen") == 0)))
        return only;
    free(only);
    return NULL;
}

static bool open_file(struct exchange *exchange, struct export_file *ret_file, struct im_err *err) {
    const char *what = NULL;
    IM_AUTO(free_auto) char *id = split_path(exchange->path, &what);
    struct params params = {0};
    bool good;

    if (strcmp(exchange->method, "GET") != 0 && strcmp(exchange->method, "HEAD") != 0)
        return im_fail(err, IM_BAD_ACTION, "method %.16s is not allowed here", exchange->method);
    if (id == NULL)
        return im_fail(err, IM_NOT_FOUND, "there is nothing at [%.80s]", exchange->path);
    good = exchange_authenticate(exchange, &params, err);
    params_done(&params);
    if (!good)
        return false;
    return what == NULL
               ? cloud_export_open(exchange->http->cloud, &exchange->caller, id, ret_file, err)
               : cloud_boot_test_open(exchange->http->cloud, &exchange->caller, id, what, ret_file,
                                      err);
}

enum MHD_Result download_serve(struct exchange *exchange, size_t *len) {
    struct export_file file = {.fd = -1};
    struct im_err err = {0};

    if (*len > 0) { /* a body nobody asked for */
        exchange->received += *len;
        *len = 0;
        return exchange->received > 1 << 20 ? MHD_NO : MHD_YES;
    }
    if (!open_file(exchange, &file, &err))
        return reply_error(exchange->connection, status_of(&err), &err);
    return send_file(exchange, &file);
}
