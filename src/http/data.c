/* SPDX-License-Identifier: Apache-2.0 */
/* /data/images/ID: uploads, resumable. The body goes straight into the file that the cloud names;
 * what was acknowledged is durable. */
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "server-private.h"

#define PREFIX "/data/images/"
/* How much of a refused body is read so that the client gets to see the reason. */
#define DRAIN_MAX_BYTES (16u << 20)
#define SILENCE_MS 10000 /* after which another request may take an upload over */

bool exchange_authenticate(struct exchange *exchange, struct params *params, struct im_err *err) {
    bool head = exchange->route == ROUTE_DOWNLOAD && strcmp(exchange->method, "HEAD") == 0;
    struct request request = {.http = exchange->http,
                              .cloud = exchange->http->cloud,
                              /* One URL to look at a file and to fetch it. */
                              .method = head ? "GET" : exchange->method,
                              .path = exchange->path};
    size_t len = strlen(exchange->query);
    bool good = params_parse(&request.params, exchange->query, len, err) &&
                request_authenticate(&request, exchange->query, len, err);

    if (good)
        exchange->caller = request.caller;
    *params = request.params;
    return good;
}

// "bytes FIRST-LAST/TOTAL" sends; "bytes */TOTAL" with an empty body asks how far it is.
static bool parse_range(struct exchange *exchange, const char *text, struct im_err *err) {
    uint64_t first, last, total;
    int64_t asked;
    int used = 0;

    if (im_starts_with(text, "bytes */") && im_parse_i64(text + 8, 1, INT64_MAX, &asked)) {
        exchange->ask = true;
        exchange->total = (uint64_t) asked;
        return true;
    }
    if (sscanf(text, "bytes %" SCNu64 "-%" SCNu64 "/%" SCNu64 "%n", &first, &last, &total, &used) !=
            3 ||
        text[used] != '\0' || strchr(text, '+') != NULL || strstr(text, "--") != NULL ||
        first > last || last >= total || total > INT64_MAX)
        return im_fail(err, IM_BAD_MESSAGE,
                       "header Content-Range is not of the form \"bytes FIRST-LAST/TOTAL\"");
    exchange->offset = first;
    exchange->end = last + 1;
    exchange->total = total;
    return true;
}

static bool announced(struct exchange *exchange, struct im_err *err) {
    const char *range =
        MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, "Content-Range");
    const char *length =
        MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, "Content-Length");
    int64_t bytes = 0;

    if (range != NULL)
        return parse_range(exchange, range, err);
    if (length == NULL || !im_parse_i64(length, 1, INT64_MAX, &bytes))
        return im_fail(err, IM_BAD_MESSAGE,
                       "an upload needs the header Content-Range or a Content-Length above 0");
    exchange->end = exchange->total = (uint64_t) bytes;
    return true;
}

/* --- Who holds the lock of an upload's file --------------------------------------------------- */

static struct {
    pthread_mutex_t lock; /* guards the list; none other is taken inside */
    struct exchange *first;
} holders = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void hold(struct exchange *exchange) {
    atomic_store(&exchange->moved_ms, im_mono_ms());
    pthread_mutex_lock(&holders.lock);
    exchange->next_holder = holders.first;
    holders.first = exchange;
    pthread_mutex_unlock(&holders.lock);
}

static void let_go(struct exchange *exchange) {
    pthread_mutex_lock(&holders.lock);
    for (struct exchange **at = &holders.first; *at != NULL; at = &(*at)->next_holder)
        if (*at == exchange) {
            *at = exchange->next_holder;
            break;
        }
    pthread_mutex_unlock(&holders.lock);
}

/* A client that came back is served, not told to wait for its own dead connection: libmicrohttpd
 * 0.9.75 misses an end that arrives together with the last bytes until its time-out, and a line
 * that was cut sends no end at all. */
static void end_dead_holder(const char *id) {
    int64_t now = im_mono_ms();

    pthread_mutex_lock(&holders.lock);
    for (struct exchange *one = holders.first; one != NULL; one = one->next_holder) {
        const union MHD_ConnectionInfo *info =
            strcmp(one->id, id) == 0
                ? MHD_get_connection_info(one->connection, MHD_CONNECTION_INFO_CONNECTION_FD)
                : NULL;
        char byte;

        if (info != NULL && (now - atomic_load(&one->moved_ms) > SILENCE_MS ||
                             recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0))
            (void) shutdown(info->connect_fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&holders.lock);
}

/* One writer at a time holds the file's lock: others are told so at once. */
static bool open_file(struct exchange *exchange, struct im_err *err) {
    struct upload upload = {0};
    struct stat st;

    if (!cloud_upload_begin(exchange->http->cloud, &exchange->caller, exchange->id, &upload, err))
        return false;
    exchange->fd = open(upload.path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (exchange->fd < 0)
        return im_fail_sys(err, errno, "cannot open the file of the upload of image [%s]",
                           exchange->id);
    if (flock(exchange->fd, LOCK_EX | LOCK_NB) < 0) {
        end_dead_holder(exchange->id);
        return im_fail(err, IM_WRONG_STATE,
                       "image [%s] is being uploaded by another request, please try later",
                       exchange->id);
    }
    hold(exchange);
    if (fstat(exchange->fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot read the file of the upload of image [%s]",
                           exchange->id);
    if ((uint64_t) st.st_size != exchange->offset) {
        uint64_t wanted = exchange->offset;

        exchange->offset = (uint64_t) st.st_size; /* the right one goes into the reply */
        return im_fail(err, IM_WRONG_STATE,
                       "upload of image [%s] goes on at byte %lld, not at %" PRIu64, exchange->id,
                       (long long) st.st_size, wanted);
    }
    return im_sync_parent(upload.path, err);
}

static bool identify(struct exchange *exchange, struct im_err *err) {
    const char *id = exchange->path + strlen(PREFIX);

    if (!im_id_valid(id))
        return im_fail(err, IM_NOT_FOUND, "there is nothing at [%.80s]", exchange->path);
    snprintf(exchange->id, sizeof(exchange->id), "%s", id);
    return true;
}

static bool begin(struct exchange *exchange, struct im_err *err) {
    struct params params = {0};
    uint64_t limit = exchange->http->config.upload_max_bytes;
    bool put = strcmp(exchange->method, "PUT") == 0;
    bool good = identify(exchange, err) && exchange_authenticate(exchange, &params, err);

    params_done(&params);
    if (!good)
        return false;
    if (!put && strcmp(exchange->method, "GET") != 0 && strcmp(exchange->method, "HEAD") != 0)
        return im_fail(err, IM_BAD_ACTION, "method %s is not allowed here", exchange->method);
    if (!put)
        return true;
    if (!announced(exchange, err))
        return false;
    if (limit > 0 && exchange->total > limit)
        return im_fail(err, IM_BAD_MESSAGE,
                       "upload of %" PRIu64 " bytes is larger than the limit of %" PRIu64,
                       exchange->total, limit);
    return exchange->ask || open_file(exchange, err);
}

/* The reply says in any case how far the upload is. The file is let go before: a client that reads
 * the reply may send the next piece on another connection at once. */
static enum MHD_Result reply_upload(struct exchange *exchange, const char *job_id) {
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_int(&writer, "ret_code", im_code_ret(exchange->err.code));
    if (exchange->err.code != IM_OK) {
        struct wire_writer inner = {0};
        IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
        struct im_err ignored = {0};
        char id[IM_ID_MAX];

        im_id_make(id, "r-", 12);
        error_reply(&inner, id, &exchange->err);
        doc = wire_parse(inner.text.data, inner.text.len, &ignored);
        wire_text(&writer, "message", wire_get_text(wire_root(doc), "message", ""));
        im_str_done(&inner.text);
    }
    wire_text(&writer, "image_id", exchange->id);
    if (exchange->fd >= 0 || exchange->ask) {
        wire_int(&writer, "received_bytes", (int64_t) exchange->offset);
        wire_int(&writer, "total_bytes", (int64_t) exchange->total);
    }
    data_end(exchange);
    if (job_id != NULL)
        wire_text(&writer, "job_id", job_id);
    wire_object_end(&writer);
    return reply_text(exchange->connection, MHD_HTTP_OK, text_ref_new(&writer.text),
                      "application/json");
}

enum MHD_Result data_begin(struct exchange *exchange) {
    const char *expect =
        MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, "Expect");

    if (begin(exchange, &exchange->err))
        return MHD_YES;
    /* A client that waits for a word before it sends gets the refusal instead. */
    return expect != NULL ? reply_upload(exchange, NULL) : MHD_YES;
}

static void take_bytes(struct exchange *exchange, const char *bytes, size_t len) {
    if (exchange->err.code != IM_OK)
        return;
    atomic_store(&exchange->moved_ms, im_mono_ms());
    if (exchange->fd < 0 || len > exchange->end - exchange->offset)
        im_fail(&exchange->err, IM_BAD_MESSAGE, "the body is longer than was announced");
    else if (im_pwrite_all(exchange->fd, bytes, len, exchange->offset, "the upload",
                           &exchange->err))
        exchange->offset += len;
}

static void finish(struct exchange *exchange, char job_id[IM_JOB_ID_MAX]) {
    if (fdatasync(exchange->fd) < 0) {
        im_fail_sys(&exchange->err, errno, "cannot write the upload of image [%s]", exchange->id);
        return;
    }
    if (exchange->offset < exchange->end)
        im_fail(&exchange->err, IM_BAD_MESSAGE, "the body is shorter than was announced");
    else if (exchange->offset == exchange->total)
        (void) (cloud_upload_finish(exchange->http->cloud, &exchange->caller, exchange->id,
                                    exchange->total, job_id, &exchange->err) ||
                im_within(&exchange->err, "upload"));
}

static enum MHD_Result serve_state(struct exchange *exchange) {
    struct upload upload = {0};
    struct wire_writer writer = {0};
    char offset[24];
    struct MHD_Response *response;
    enum MHD_Result result;

    if (!cloud_upload_begin(exchange->http->cloud, &exchange->caller, exchange->id, &upload,
                            &exchange->err))
        return reply_upload(exchange, NULL);
    wire_object_begin(&writer, NULL);
    wire_int(&writer, "ret_code", 0);
    wire_text(&writer, "image_id", exchange->id);
    wire_int(&writer, "received_bytes", (int64_t) upload.received_bytes);
    wire_object_end(&writer);
    snprintf(offset, sizeof(offset), "%" PRIu64, upload.received_bytes);
    response =
        MHD_create_response_from_buffer(writer.text.len, writer.text.data, MHD_RESPMEM_MUST_FREE);
    MHD_add_response_header(response, "Content-Type", "application/json");
    MHD_add_response_header(response, "Upload-Offset", offset);
    result = MHD_queue_response(exchange->connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

/* How far the upload is. When all is there, the question does what the last piece would have done:
 * clients need the job. */
static enum MHD_Result serve_question(struct exchange *exchange) {
    struct cloud *cloud = exchange->http->cloud;
    struct upload upload = {0};
    char job_id[IM_JOB_ID_MAX] = "";

    exchange->offset = exchange->total;
    if (cloud_upload_begin(cloud, &exchange->caller, exchange->id, &upload, &exchange->err))
        exchange->offset = upload.received_bytes;
    else if (exchange->err.code == IM_WRONG_STATE)
        exchange->err = (struct im_err){0}; /* perhaps it was finished before */
    if (exchange->err.code == IM_OK && exchange->offset == exchange->total)
        (void) !cloud_upload_finish(cloud, &exchange->caller, exchange->id, exchange->total, job_id,
                                    &exchange->err);
    return reply_upload(exchange, job_id[0] != '\0' ? job_id : NULL);
}

enum MHD_Result data_serve(struct exchange *exchange, const char *bytes, size_t *len) {
    char job_id[IM_JOB_ID_MAX] = "";

    if (*len > 0) {
        exchange->received += *len;
        take_bytes(exchange, bytes, *len);
        *len = 0;
        return exchange->err.code != IM_OK && exchange->received > DRAIN_MAX_BYTES ? MHD_NO
                                                                                   : MHD_YES;
    }
    if (exchange->err.code != IM_OK)
        return reply_upload(exchange, NULL);
    if (strcmp(exchange->method, "PUT") != 0)
        return serve_state(exchange);
    if (exchange->ask)
        return serve_question(exchange);
    finish(exchange, job_id);
    return reply_upload(exchange, job_id[0] != '\0' ? job_id : NULL);
}

void data_end(struct exchange *exchange) {
    if (exchange->fd < 0)
        return;
    /* A broken connection keeps what came: make true what a look at the size will say. */
    (void) fdatasync(exchange->fd);
    let_go(exchange);
    (void) close(exchange->fd);
    exchange->fd = -1;
}
