/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the worker share. */
#ifndef WORKER_PRIVATE_H
#define WORKER_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"
#include "guest/inspect.h"
#include "qcow2/chain.h"
#include "sandbox/sandbox.h"
#include "wire/wire.h"
#include "worker/request.h"

/* --- request.c: see worker/request.h ---------------------------------------------------------- */

struct request {
    bool from_url, allow_private, force, kvm;
    char *url, *proxy, *format, *user, *scratch_dir, *backing, *layers, *only, *seal, *appliance;
    char digest[65]; /* hexadecimal, lower case; "" = none */
    uint64_t max_bytes, max_ratio, rate, limit_s;
    struct wire_doc *doc; /* all of it: what has a structure of its own */
};
bool request_parse(const char *text, size_t len, struct request *request, struct im_err *err);
void request_done(struct request *request);

/* --- report.c: messages on stdout, from any thread -------------------------------------------- */

/* At most four a second get out, and always the last of a phase (done == total). */
void report_progress(const char *phase, uint64_t done_bytes, uint64_t total_bytes);
/* While on, the last progress is repeated every few seconds: for calls that are silent but end by
 * themselves (the net's time-outs, fsync). Starts a thread. */
void report_keep_alive(bool on);
void report_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
void report_result(const char *json);
void report_error(const struct im_err *err);

/* --- hash.c: SHA-256 in a thread of its own --------------------------------------------------- */

#define HASH_BUFFER_BYTES (1u << 20)
struct hash;
struct hash *hash_new(struct im_err *err);
void hash_free(struct hash *hash); /* NULL is fine; waits for the thread */
IM_DEFINE_AUTO(struct hash *, hash_free)
/* A buffer of HASH_BUFFER_BYTES to fill; waits until one is free. It may be read, not written,
 * until the next call. */
uint8_t *hash_claim(struct hash *hash);
/* The first `len` bytes of the claimed buffer come next in the stream. */
void hash_push(struct hash *hash, size_t len);
/* So many zeros come next in the stream. */
void hash_push_zeros(struct hash *hash, uint64_t len);
/* The thread looks at the whole file by itself. It shows how far it is in bytes of `scale`. */
void hash_push_file(struct hash *hash, int fd, uint64_t len, uint64_t scale);
uint64_t hash_shown(struct hash *hash); /* UINT64_MAX if there is no file */
/* Waits for all of it, and reports the progress of a file meanwhile. */
bool hash_finish(struct hash *hash, char ret_hex[65], struct im_err *err);

/* --- view.c: what came in, without a copy ----------------------------------------------------- */

struct view {
    int fd;
    uint64_t file_size; /* these two are the caller's to set, the rest begins as zeros */
    uint64_t begin;
    size_t len;
    uint8_t *bytes;
    bool mapped;
};
#define VIEW_LEAST 65536u
/* The bytes at `offset`, all inside the file: *ret_len of them, at most `want` and at least
 * VIEW_LEAST if as many are wanted. Valid until the next call. */
const uint8_t *view_at(struct view *view, uint64_t offset, uint64_t want, size_t *ret_len,
                       struct im_err *err);
void view_done(struct view *view);
/* From now on the process ends with an error message when a file that is viewed becomes shorter. */
void view_guard(void);

/* --- store.c: the image's data to the disk ---------------------------------------------------- */

struct store {
    int fd;
    bool direct, never_direct;
    uint64_t dirty;
};
/* `in_place`: the bytes lie in pages of a view, and the disk may take them from there. */
bool store_write(struct store *store, const uint8_t *bytes, size_t len, uint64_t at, bool in_place,
                 struct im_err *err);
/* The descriptor again takes writes of any alignment. */
bool store_plain(struct store *store, struct im_err *err);

/* --- copy.c ----------------------------------------------------------------------------------- */

struct copy_result {
    const char *format, *compression, *table;
    bool uefi;
    uint64_t size_bytes, received_bytes, data_bytes;
    char digest[65];
};
/* From `in` to the qcow2 image `out`; `scratch` is an empty temporary file, or -1. Compares the
 * digest before the image becomes valid. */
bool copy_image(const struct request *request, int in, int out, int scratch,
                struct copy_result *result, struct im_err *err);

/* --- export: a chain of layers becomes one file ----------------------------------------------- */

struct qcow2_chain;
/* What goes out, as far as it is written. Formats that are written from the first byte to the last
 * append; their digest is made beside it. */
struct outlet {
    int fd;
    uint64_t size;     /* of the disk */
    unsigned threads;  /* that compress */
    uint64_t written;  /* bytes of the file so far, where it is appended to */
    uint64_t data;     /* bytes of the disk that are not zeros, in whole clusters */
    struct hash *hash; /* of the file */
    uint8_t *buffer;   /* claimed from it */
    size_t filled;
};
bool outlet_append(struct outlet *outlet, const void *bytes, size_t len, struct im_err *err);
bool outlet_flush(struct outlet *outlet, struct im_err *err);

/* The disk comes in windows of at most EXPORT_WINDOW bytes, in order, gaps are zeros; a window
 * begins at a multiple of 64 KiB and ends at one, or at the end of the disk. */
#define EXPORT_WINDOW (1u << 20)
struct export_format {
    const char *name;
    bool (*begin)(struct outlet *outlet, void **ret_state, struct im_err *err);
    bool (*window)(struct outlet *outlet, void *state, uint64_t offset, const uint8_t *bytes,
                   size_t len, struct im_err *err);
    bool (*end)(struct outlet *outlet, void *state, struct im_err *err);
    void (*free)(void *state); /* NULL is fine */
};
extern const struct export_format export_raw, export_qcow2, export_zstd, export_vmdk;

/* Opens the chain at the descriptors from first_fd on, the head first; `layers` has the format of
 * each: "qcow2 raw". */
bool layers_open(const char *layers, int first_fd, struct qcow2_chain **ret_chain,
                 struct im_err *err);

/* --- verbs ------------------------------------------------------------------------------------ */

/* Fetches into descriptor 3 in a child of its own: the process that parses has no network. */
bool fetch_in_child(const struct request *request, struct im_err *err);
/* Fastens the belts and tells when they are few. */
bool fasten_belts(const struct sandbox_policy *policy, struct im_err *err);
/* The same with what parsing takes. */
bool enter_sandbox(const struct request *request, struct im_err *err);
bool verb_import(const struct request *request, struct im_err *err);
bool verb_fold(const struct request *request, struct im_err *err);
bool verb_probe(const struct request *request, struct im_err *err);
bool verb_export(const struct request *request, struct im_err *err);
bool verb_inspect(const struct request *request, struct im_err *err);
bool verb_mend(const struct request *request, struct im_err *err);
bool verb_plan(const struct request *request, struct im_err *err);

/* What a look may take. */
#define LOOK_MEMORY (768ull << 20)
#define LOOK_CPU_S 20
#define LOOK_FILE_BYTES (1u << 20) /* it writes none */

/* --- inspect.c -------------------------------------------------------------------------------- */

/* Reads the chain (an argument of it) for a look at the disk. */
bool read_chain(void *chain, uint64_t offset, void *bytes, size_t len, struct im_err *err);
bool inspect_chain(struct qcow2_chain *chain, struct guest_inspection **ret_found,
                   struct im_err *err);
void write_report(struct wire_writer *writer, const char *key,
                  const struct guest_inspection *found);

#endif
