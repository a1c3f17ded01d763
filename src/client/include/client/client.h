/* SPDX-License-Identifier: Apache-2.0 */
/* Speaks the HTTP API of imprintd: signed calls, uploads, downloads, the serial console, waiting
 * for jobs.
 *
 * A client belongs to one thread. Texts that go in are borrowed for the call. What the server
 * refuses comes back as im_err with the server's message word for word; what kind of trouble it
 * was, client_fault() and client_ret_code() tell. */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/mem.h"
#include "wire/wire.h"

/* What went wrong in the last call. */
enum client_fault {
    CLIENT_FINE,
    CLIENT_REFUSED,     /* nothing listens there */
    CLIENT_UNREACHABLE, /* no such host, no route, or no answer to the connection */
    CLIENT_TLS,         /* certificate or handshake */
    CLIENT_CUT_OFF,     /* the connection broke after the request was sent: done or not */
    CLIENT_SLOW,        /* no answer in time: done or not */
    CLIENT_FOREIGN,     /* something answered that is not the API */
    CLIENT_ANSWERED,    /* the server refused; see client_ret_code() */
};

struct client;

/* `endpoint` is "http://127.0.0.1:7200/iaas/" or any shorter form of it ("host:7200"). Nothing is
 * sent yet. IM_BAD_MESSAGE when the endpoint is no http or https URL. */
struct client *client_open(const char *endpoint, const char *access_key_id, const char *secret,
                           const char *zone, struct im_err *err) IM_MUST_CHECK;
/* NULL is fine. */
void client_close(struct client *client);
IM_DEFINE_AUTO(struct client *, client_close)
/* Certificates to trust instead of the system's (PEM file). */
void client_set_ca(struct client *client, const char *path);
/* While *flag is not 0, whatever the client is doing ends soon with IM_CANCELLED. */
void client_set_interrupt(struct client *client, const volatile sig_atomic_t *flag);
const char *client_endpoint(const struct client *client);
enum client_fault client_fault(const struct client *client);
int client_ret_code(const struct client *client);

/* --- Parameters of a call. Zero-initialise. --------------------------------------------------- */

struct client_params {
    struct im_strings names, values;
};
/* Sets one; a parameter of that name is replaced. A NULL value is left out. */
void client_param(struct client_params *params, const char *name, const char *value);
void client_param_int(struct client_params *params, const char *name, int64_t value);
/* name.1, name.2, … behind those that are there. */
void client_param_list(struct client_params *params, const char *name,
                       const struct im_strings *values);
void client_params_done(struct client_params *params);

/* --- Calls ------------------------------------------------------------------------------------ */

/* One action, signed with HmacSHA256: GET, or POST when the query is longer than 8 KiB. Tried a
 * second time only when nothing had been sent. On success *ret_doc is the whole reply and the
 * caller's (ret_doc may be NULL). Fails with the code that fits the reply's ret_code (1400 becomes
 * IM_WRONG_STATE when the message speaks of a state, else IM_DENIED), IM_TIMEOUT after 60 s without
 * a byte, IM_CANCELLED, or IM_INTERNAL when the server cannot be spoken to. */
bool client_call(struct client *client, const char *action, const struct client_params *params,
                 struct wire_doc **ret_doc, struct im_err *err) IM_MUST_CHECK;

/* Bytes so far and in all; returns false to stop the transfer. */
typedef bool (*client_progress)(void *context, uint64_t done_bytes, uint64_t total_bytes);

/* PUT /data/images/{id}: sends the file behind `fd` from the offset that the server names, and
 * after a broken connection goes on from where the server is, as long as bytes get through.
 * ret_job_id (owned) is the import job that the server makes when all bytes are there. */
bool client_upload(struct client *client, const char *image_id, int fd, client_progress progress,
                   void *context, char **ret_job_id, struct im_err *err) IM_MUST_CHECK;

/* What DescribeImageExports tells of a file. Borrowed texts. */
struct client_export {
    const char *export_id;
    const char *digest; /* SHA-256, hexadecimal, without "sha256:" */
    uint64_t size_bytes;
};
/* GET /data/exports/{id} into the file behind `fd`, which goes on where it ends and, after a broken
 * connection, from where it was; zeros become holes. In the end the digest of all of it is
 * compared. A file that held something else before is begun anew; IM_BAD_IMAGE, and an empty file,
 * when the digest is wrong all the same. */
bool client_download(struct client *client, const struct client_export *file, int fd,
                     client_progress progress, void *context, struct im_err *err) IM_MUST_CHECK;
/* A URL under which any program gets the file for so long, at most a day. Owned. */
char *client_export_url(struct client *client, const char *export_id, int64_t valid_s);

/* How a job stands. Texts are valid during the callback only. Called ten times a second, also when
 * nothing is new. */
struct client_job {
    const char *job_id, *action, *status, *resource_ids, *error_message;
    int64_t done_bytes, total_bytes, rate_bytes;
    size_t items, items_over; /* resources it works on, and those it is through with */
    bool over;                /* successful, failed or done with failure */
    bool unreachable;         /* the server does not answer just now; it is asked again */
};
typedef void (*client_job_seen)(void *context, const struct client_job *job);
/* Reads one object of a job_set. */
void client_job_read(const struct wire_value *value, struct client_job *ret_job);
/* Asks until the job is over, whatever its outcome, and hands its DescribeJobs reply to the caller
 * (ret_doc may be NULL). A server that is away (restarted) is waited for up to two minutes.
 * timeout_ms 0 = for ever; IM_TIMEOUT says that the job goes on; IM_NOT_FOUND when there is no such
 * job. */
bool client_wait_job(struct client *client, const char *job_id, client_job_seen seen, void *context,
                     int64_t timeout_ms, struct wire_doc **ret_doc,
                     struct im_err *err) IM_MUST_CHECK;

/* --- Serial console: a WebSocket at /instances/{id}/console ----------------------------------- */

/* What the console showed so far, as it is kept by the server (bounded there). *ret_bytes is the
 * caller's and ends with a NUL that is not counted. */
bool client_console_log(struct client *client, const char *instance_id, char **ret_bytes,
                        size_t *ret_len, struct im_err *err) IM_MUST_CHECK;

/* What a boot test kept, the same way: "serial", the log of its console, or "screen", a PNG. */
bool client_boot_test_file(struct client *client, const char *boot_test_id, const char *kind,
                           char **ret_bytes, size_t *ret_len, struct im_err *err) IM_MUST_CHECK;

struct client_console;
struct client_console *client_console(struct client *client, const char *instance_id,
                                      struct im_err *err) IM_MUST_CHECK;
/* To wait for with poll(2); also read when client_console_pending(). */
int client_console_fd(const struct client_console *console);
bool client_console_pending(const struct client_console *console);
/* What has come, up to `size` bytes: *ret_len 0 = nothing yet. *ret_open false = the other side has
 * ended it. */
bool client_console_read(struct client_console *console, void *bytes, size_t size, size_t *ret_len,
                         bool *ret_open, struct im_err *err) IM_MUST_CHECK;
bool client_console_write(struct client_console *console, const void *bytes, size_t len,
                          struct im_err *err) IM_MUST_CHECK;
void client_console_close(struct client_console *console);
IM_DEFINE_AUTO(struct client_console *, client_console_close)

#endif
