/* SPDX-License-Identifier: Apache-2.0 */
/* The verb export: the disk that a chain of layers holds becomes one file, in one pass from its
 * beginning to its end. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "qcow2/chain.h"
#include "worker-private.h"

#define CPU_S 86400
#define THREADS_MAX 8u
#define WRITEBACK_BYTES (32ull << 20)

static const struct export_format *const formats[] = {&export_raw, &export_qcow2, &export_zstd,
                                                      &export_vmdk};
enum { FORMATS = sizeof(formats) / sizeof(formats[0]) };

static const struct export_format *format_find(const char *name, struct im_err *err) {
    for (size_t i = 0; i < FORMATS; i++)
        if (strcmp(formats[i]->name, name) == 0)
            return formats[i];
    im_fail(err, IM_BAD_MESSAGE, "disks are not exported as [%.32s]", name);
    return NULL;
}

/* --- Appending -------------------------------------------------------------------------------- */

bool outlet_flush(struct outlet *outlet, struct im_err *err) {
    if (outlet->filled == 0)
        return true;
    if (!im_pwrite_all(outlet->fd, outlet->buffer, outlet->filled, outlet->written, "the export",
                       err))
        return false;
    outlet->written += outlet->filled;
    hash_push(outlet->hash, outlet->filled);
    outlet->filled = 0;
    outlet->buffer = NULL;
    return true;
}

bool outlet_append(struct outlet *outlet, const void *bytes, size_t len, struct im_err *err) {
    const uint8_t *from = bytes;

    while (len > 0) {
        size_t now = HASH_BUFFER_BYTES - outlet->filled;

        if (outlet->buffer == NULL)
            outlet->buffer = hash_claim(outlet->hash);
        if (now > len)
            now = len;
        memcpy(outlet->buffer + outlet->filled, from, now);
        outlet->filled += now;
        from += now;
        len -= now;
        if (outlet->filled == HASH_BUFFER_BYTES && !outlet_flush(outlet, err))
            return false;
    }
    return true;
}

/* --- The chain -------------------------------------------------------------------------------- */

bool layers_open(const char *layers, int first_fd, struct qcow2_chain **ret_chain,
                 struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings words = {0};
    IM_AUTO(free_auto) struct qcow2_layer *list = NULL;

    im_strings_split(&words, layers, " ");
    if (words.count == 0)
        return im_fail(err, IM_BAD_MESSAGE, "the request names no layers");
    list = im_alloc(words.count * sizeof(*list));
    for (size_t i = 0; i < words.count; i++) {
        int fd = first_fd + (int) i;
        struct stat st;

        if (strcmp(words.items[i], "qcow2") != 0 && strcmp(words.items[i], "raw") != 0)
            return im_fail(err, IM_BAD_MESSAGE, "layers are qcow2 or raw, not [%.32s]",
                           words.items[i]);
        if (fstat(fd, &st) < 0)
            return im_fail_sys(err, errno, "layer %zu at descriptor %d", i + 1, fd);
        list[i] = (struct qcow2_layer){.fd = fd,
                                       .raw = strcmp(words.items[i], "raw") == 0,
                                       .file_size = (uint64_t) st.st_size};
    }
    return qcow2_chain_open(list, words.count, ret_chain, err);
}

/* The next offset, of whole windows' alignment, at which a layer holds something; `end` if there is
 * none before it. */
static bool next_data(struct qcow2_chain *chain, uint64_t offset, uint64_t end, uint64_t *ret_next,
                      struct im_err *err) {
    while (offset < end) {
        struct qcow2_chain_extent extent;

        if (!qcow2_chain_map(chain, offset, &extent, err))
            return false;
        if (extent.kind == QCOW2_DATA || extent.kind == QCOW2_COMPRESSED)
            break;
        offset += extent.len;
    }
    *ret_next = offset < end ? offset / QCOW2_CLUSTER * QCOW2_CLUSTER : end;
    return true;
}

/* What lies in the window, without the clusters of zeros at either end. */
static bool one_window(struct outlet *outlet, const struct export_format *format, void *state,
                       uint64_t offset, const uint8_t *bytes, size_t len, struct im_err *err) {
    size_t begin = 0;

    while (begin < len) {
        size_t now = len - begin < QCOW2_CLUSTER ? len - begin : QCOW2_CLUSTER;

        if (!im_all_zero(bytes + begin, now))
            break;
        begin += now;
    }
    while (len > begin) {
        size_t now = len % QCOW2_CLUSTER != 0 ? len % QCOW2_CLUSTER : QCOW2_CLUSTER;

        if (!im_all_zero(bytes + len - now, now))
            break;
        len -= now;
    }
    if (begin == len)
        return true;
    outlet->data += len - begin;
    return format->window(outlet, state, offset + begin, bytes + begin, len - begin, err);
}

/* Lets the disk begin early, so that the fsync at the end is short. */
static void start_writeback(const struct outlet *outlet, uint64_t *begun) {
    if (outlet->data - *begun < WRITEBACK_BYTES)
        return;
    *begun = outlet->data;
    (void) sync_file_range(outlet->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static bool walk(struct outlet *outlet, const struct export_format *format, void *state,
                 struct qcow2_chain *chain, struct im_err *err) {
    IM_AUTO(free_auto) uint8_t *window = im_alloc(EXPORT_WINDOW);
    uint64_t offset = 0, begun = 0;

    report_progress("copy", 0, outlet->size);
    while (offset < outlet->size) {
        size_t len;

        if (!next_data(chain, offset, outlet->size, &offset, err))
            return false;
        len = outlet->size - offset < EXPORT_WINDOW ? (size_t) (outlet->size - offset)
                                                    : EXPORT_WINDOW;
        if (!qcow2_chain_read(chain, offset, window, len, err) ||
            !one_window(outlet, format, state, offset, window, len, err))
            return false;
        offset += len;
        start_writeback(outlet, &begun);
        report_progress("copy", offset, outlet->size);
    }
    return true;
}

/* --- The verb --------------------------------------------------------------------------------- */

static bool write_file(struct outlet *outlet, const struct export_format *format,
                       struct qcow2_chain *chain, char ret_digest[65], struct im_err *err) {
    void *state = NULL;
    bool fine = format->begin(outlet, &state, err) && walk(outlet, format, state, chain, err);

    report_keep_alive(true); /* what is left takes its time without a word */
    fine = fine && format->end(outlet, state, err);
    format->free(state);
    if (!fine)
        return false;
    if (fdatasync(outlet->fd) < 0)
        return im_fail_sys(err, errno, "the export cannot be made durable");
    return hash_finish(outlet->hash, ret_digest, err);
}

static bool tell(const struct outlet *outlet, const char *digest, struct im_err *err) {
    IM_AUTO(free_auto) char *text = im_printf("sha256:%s", digest);
    struct wire_writer writer = {0};
    struct stat st;

    if (fstat(outlet->fd, &st) < 0)
        return im_fail_sys(err, errno, "the export");
    wire_object_begin(&writer, NULL);
    wire_int(&writer, "size_bytes", (int64_t) st.st_size);
    wire_int(&writer, "stored_bytes", (int64_t) st.st_blocks * 512);
    wire_int(&writer, "disk_bytes", (int64_t) outlet->size);
    wire_int(&writer, "data_bytes", (int64_t) outlet->data);
    wire_text(&writer, "digest", text);
    wire_object_end(&writer);
    report_result(writer.text.data);
    im_str_done(&writer.text);
    return true;
}

static unsigned threads_here(void) {
    cpu_set_t set;
    unsigned count = sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned) CPU_COUNT(&set) : 1;

    return count > THREADS_MAX ? THREADS_MAX : count;
}

bool verb_export(const struct request *request, struct im_err *err) {
    const struct export_format *format = format_find(request->format, err);
    IM_AUTO(qcow2_chain_free_auto) struct qcow2_chain *chain = NULL;
    IM_AUTO(hash_free_auto) struct hash *hash = NULL;
    struct sandbox_policy policy = {.user = request->user,
                                    .memory_bytes = 16ull << 30, /* tables of many layers */
                                    .cpu_s = CPU_S,
                                    .file_bytes = request->max_bytes + request->max_bytes / 64 +
                                                  (64ull << 20)};
    struct outlet outlet = {.fd = WORKER_FD_EXPORT, .threads = threads_here()};
    char digest[65];

    if (!format || !fasten_belts(&policy, err) ||
        !layers_open(request->layers, WORKER_FD_LAYERS, &chain, err))
        return false;
    outlet.size = qcow2_chain_size(chain);
    outlet.hash = hash = hash_new(err);
    return hash && write_file(&outlet, format, chain, digest, err) && tell(&outlet, digest, err);
}
