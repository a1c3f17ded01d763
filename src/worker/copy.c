/* SPDX-License-Identifier: Apache-2.0 */
/* One pass from what came in to a sparse qcow2 image: plain data from the file's own pages to the
 * disk, the rest through a buffer, compressed files as a stream; the digest is made beside it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "unpack/unpack.h"
#include "guest/image.h"
#include "qcow2/qcow2.h"
#include "worker-private.h"

#define WINDOW HASH_BUFFER_BYTES
#define PROGRESS_BYTES (32u << 20)
#define RATIO_FLOOR (1ull << 30)

struct copy {
    const struct request *request;
    int in, out, scratch;
    uint64_t in_size;
    struct copy_result *result;
    struct hash *hash;
    struct qcow2_writer *writer;
    struct store store;
};

/* A small image that unfolds to a huge disk full of data, whatever its format calls that. */
static bool check_ratio(const struct copy *copy, struct im_err *err) {
    uint64_t placed = qcow2_writer_placed(copy->writer);

    if (placed > RATIO_FLOOR && placed / copy->request->max_ratio > copy->in_size)
        return im_fail(err, IM_BAD_IMAGE,
                       "it unfolds to more than %" PRIu64 " times its size (a bomb?)",
                       copy->request->max_ratio);
    return true;
}

/* As far as both the copy and the digest are. */
static void show(const struct copy *copy, uint64_t offset) {
    uint64_t hashed = hash_shown(copy->hash);

    report_progress("copy", offset < hashed ? offset : hashed, copy->result->size_bytes);
}

static bool write_run(struct copy *copy, uint64_t offset, const uint8_t *bytes, size_t len,
                      bool in_place, struct im_err *err) {
    uint64_t at;

    return qcow2_writer_place(copy->writer, offset, len, &at, err) &&
           store_write(&copy->store, bytes, len, at, in_place, err);
}

/* Writes what is not zeros, cluster by cluster, joined to runs. `bytes` has room up to the next
 * multiple of 512, filled with zeros. */
static bool write_window(struct copy *copy, uint64_t offset, const uint8_t *bytes, size_t len,
                         bool in_place, struct im_err *err) {
    size_t begin = 0;

    while (begin < len) {
        size_t end = begin;

        while (end < len) {
            size_t now = len - end < QCOW2_CLUSTER ? len - end : QCOW2_CLUSTER;

            if (im_all_zero(bytes + end, now))
                break;
            end += now;
        }
        if (end > begin &&
            !write_run(copy, offset + begin, bytes + begin, end - begin, in_place, err))
            return false;
        begin = end < len ? end + QCOW2_CLUSTER : end;
    }
    return check_ratio(copy, err);
}

static bool check_disk(struct copy *copy, const uint8_t *head, size_t len, uint64_t size,
                       struct im_err *err) {
    struct guest_disk disk;

    if (!guest_disk_check(head, len, size, copy->request->force, &disk, err))
        return false;
    copy->result->table = guest_table_name(disk.table);
    copy->result->uefi = disk.uefi;
    return true;
}

static bool check_image(struct copy *copy, struct guest_image *image, struct im_err *err) {
    IM_AUTO(free_auto) uint8_t *head = im_alloc(GUEST_DISK_HEAD);
    uint64_t size = guest_image_size(image);
    size_t len = size < GUEST_DISK_HEAD ? (size_t) size : GUEST_DISK_HEAD;

    copy->result->format = guest_format_name(guest_image_format(image));
    copy->result->size_bytes = size;
    return guest_image_read(image, 0, head, len, err) && check_disk(copy, head, len, size, err);
}

static bool open_writer(struct copy *copy, uint64_t size, struct im_err *err) {
    copy->writer = qcow2_writer_new(copy->out, size, err);
    return copy->writer != NULL;
}

/* --- Plain data of the file ------------------------------------------------------------------- */

/* The next stretch of the file from `from` on that holds data; empty if there is none until `end`.
 */
static void next_data(int fd, uint64_t from, uint64_t end, uint64_t *ret_begin, uint64_t *ret_end) {
    off_t data = lseek(fd, (off_t) from, SEEK_DATA), hole;

    *ret_begin = from;
    *ret_end = end;
    if (data < 0 && errno != ENXIO)
        return; /* this file system cannot tell: all is data */
    if (data < 0 || (uint64_t) data >= end) {
        *ret_begin = end;
        return;
    }
    hole = lseek(fd, data, SEEK_HOLE);
    *ret_begin = (uint64_t) data;
    if (hole > data && (uint64_t) hole < end)
        *ret_end = (uint64_t) hole;
}

/* A stretch of whole clusters. */
static bool copy_stretch(struct copy *copy, struct view *view, const struct guest_extent *extent,
                         uint64_t begin, uint64_t end, struct im_err *err) {
    while (begin < end) {
        size_t now;
        const uint8_t *bytes = view_at(view, extent->file_offset + begin, end - begin, &now, err);

        if (!bytes)
            return false;
        if (now > PROGRESS_BYTES)
            now = PROGRESS_BYTES;
        now = now / QCOW2_CLUSTER * QCOW2_CLUSTER;
        if (!write_window(copy, extent->offset + begin, bytes, now, view->mapped, err))
            return false;
        begin += now;
        show(copy, extent->offset + begin);
    }
    return true;
}

/* An extent of whole clusters; its holes in the file are not even looked at. */
static bool copy_extent(struct copy *copy, struct view *view, const struct guest_extent *extent,
                        struct im_err *err) {
    uint64_t done = 0, begin, end;

    while (done < extent->len) {
        next_data(view->fd, extent->file_offset + done, extent->file_offset + extent->len, &begin,
                  &end);
        begin = (begin - extent->file_offset) / QCOW2_CLUSTER * QCOW2_CLUSTER;
        end = (end - extent->file_offset + QCOW2_CLUSTER - 1) / QCOW2_CLUSTER * QCOW2_CLUSTER;
        if (!copy_stretch(copy, view, extent, begin < done ? done : begin, end, err))
            return false;
        done = end;
    }
    return true;
}

/* --- The disk by its format's tables
 * ---------------------------------------------------------------------- */

/* Where the zeros that begin here end, in whole clusters; `offset` if there are none. */
static bool skip_zeros(struct guest_image *image, uint64_t offset, uint64_t *ret_end,
                       struct im_err *err) {
    uint64_t size = guest_image_size(image), end = offset;
    struct guest_extent extent;

    while (end < size) {
        if (!guest_image_map(image, end, &extent, err))
            return false;
        if (extent.kind != GUEST_ZERO)
            break;
        end += extent.len;
    }
    *ret_end = end >= size ? size : end / QCOW2_CLUSTER * QCOW2_CLUSTER;
    return true;
}

/* What is packed, or lies in pieces smaller than our clusters. */
static bool copy_pieces(struct copy *copy, struct guest_image *image, uint64_t offset,
                        uint8_t *window, uint64_t *ret_next, struct im_err *err) {
    uint64_t left = guest_image_size(image) - offset;
    size_t now = left < WINDOW ? (size_t) left : WINDOW;

    *ret_next = offset + now;
    return guest_image_read(image, offset, window, now, err) &&
           write_window(copy, offset, window, now, false, err);
}

static bool copy_next(struct copy *copy, struct view *view, struct guest_image *image,
                      uint64_t offset, uint8_t *window, uint64_t *ret_next, struct im_err *err) {
    struct guest_extent extent;

    if (!guest_image_map(image, offset, &extent, err))
        return false;
    extent.len = extent.len / QCOW2_CLUSTER * QCOW2_CLUSTER;
    if (extent.kind != GUEST_DATA || extent.len == 0)
        return copy_pieces(copy, image, offset, window, ret_next, err);
    *ret_next = offset + extent.len;
    return copy_extent(copy, view, &extent, err);
}

static bool copy_mapped(struct copy *copy, struct view *view, struct guest_image *image,
                        struct im_err *err) {
    IM_AUTO(free_auto) uint8_t *window = im_alloc(WINDOW);
    uint64_t size = guest_image_size(image), offset = 0;

    while (offset < size) {
        if (!skip_zeros(image, offset, &offset, err))
            return false;
        if (offset < size && !copy_next(copy, view, image, offset, window, &offset, err))
            return false;
        show(copy, offset);
    }
    return true;
}

static bool copy_opened(struct copy *copy, int fd, uint64_t file_size, bool hash,
                        struct im_err *err) {
    struct guest_limits limits = {.max_bytes = copy->request->max_bytes};
    IM_AUTO(guest_image_free_auto) struct guest_image *image = NULL;
    struct view view = {.fd = fd, .file_size = file_size};
    bool fine;

    if (!guest_image_open(fd, file_size, copy->request->format, &limits, &image, err) ||
        !check_image(copy, image, err) || !open_writer(copy, guest_image_size(image), err))
        return false;
    if (hash)
        hash_push_file(copy->hash, fd, file_size, guest_image_size(image));
    fine = copy_mapped(copy, &view, image, err);
    view_done(&view);
    return fine;
}

/* --- Compressed streams ----------------------------------------------------------------------- */

struct stream {
    struct copy *copy;
    struct unpacker *unpacker;
    uint64_t read, made; /* packed bytes, unpacked bytes */
    uint8_t tail[512];   /* the last bytes that were made */
};

/* Fills `bytes` with unpacked data; fewer than `size` only at the end. */
static bool stream_take(struct stream *stream, uint8_t *bytes, size_t size, size_t *ret_len,
                        struct im_err *err) {
    struct copy *copy = stream->copy;
    size_t filled = 0, got;

    while (filled < size) {
        size_t now = WINDOW;
        uint8_t *packed;

        if (!unpacker_take(stream->unpacker, bytes + filled, size - filled, &got, err))
            return false;
        filled += got;
        if (got > 0)
            continue;
        if (stream->read == copy->in_size)
            break;
        if (now > copy->in_size - stream->read)
            now = (size_t) (copy->in_size - stream->read);
        packed = hash_claim(copy->hash);
        if (!im_pread_all(copy->in, packed, now, stream->read, "what came in", err))
            return false;
        hash_push(copy->hash, now);
        stream->read += now;
        unpacker_feed(stream->unpacker, packed, now, stream->read == copy->in_size);
        report_progress("copy", stream->read, copy->in_size);
    }
    stream->made += filled;
    if (filled >= sizeof(stream->tail))
        memcpy(stream->tail, bytes + filled - sizeof(stream->tail), sizeof(stream->tail));
    *ret_len = filled;
    return true;
}

/* The size is known only when the stream has ended: the image is begun as large as it may become.
 */
static bool stream_raw(struct stream *stream, uint8_t *window, size_t len, struct im_err *err) {
    struct copy *copy = stream->copy;
    uint64_t most = copy->request->max_bytes / QCOW2_CLUSTER * QCOW2_CLUSTER + QCOW2_CLUSTER;
    uint64_t offset = 0;

    copy->result->format = guest_format_name(GUEST_RAW);
    if (!open_writer(copy, most < QCOW2_SIZE_MAX ? most : QCOW2_SIZE_MAX, err))
        return false;
    while (len > 0) {
        size_t whole = (len + QCOW2_CLUSTER - 1) / QCOW2_CLUSTER * QCOW2_CLUSTER;

        memset(window + len, 0, whole - len);
        if (!write_window(copy, offset, window, whole, false, err))
            return false;
        offset += len;
        if (len < WINDOW)
            break;
        if (!stream_take(stream, window, WINDOW, &len, err))
            return false;
    }
    if (memcmp(stream->tail, "conectix", 8) == 0)
        return im_fail(err, IM_BAD_IMAGE,
                       "it ends as a fixed VHD; import it as one, with the format vhd");
    copy->result->size_bytes = (offset + 511) / 512 * 512;
    return qcow2_writer_cut(copy->writer, copy->result->size_bytes, err);
}

/* Other formats are read here and there: unpack them first. */
static bool stream_staged(struct stream *stream, uint8_t *window, size_t len, struct im_err *err) {
    struct copy *copy = stream->copy;
    uint64_t offset = 0;

    if (copy->scratch < 0)
        return im_fail(err, IM_UNSUPPORTED,
                       "a compressed file with another format than raw inside needs a scratch_dir");
    while (len > 0) {
        if (!im_all_zero(window, len) &&
            !im_pwrite_all(copy->scratch, window, len, offset, "the temporary file", err))
            return false;
        offset += len;
        if (len < WINDOW)
            break;
        if (!stream_take(stream, window, WINDOW, &len, err))
            return false;
    }
    if (ftruncate(copy->scratch, (off_t) offset) < 0)
        return im_fail_sys(err, errno, "the temporary file");
    return copy_opened(copy, copy->scratch, offset, false, err);
}

static bool copy_stream(struct copy *copy, enum packing packing, struct im_err *err) {
    struct unpacker_limits limits = {.max_bytes = copy->request->max_bytes,
                                     .max_ratio = copy->request->max_ratio};
    IM_AUTO(unpacker_free_auto) struct unpacker *unpacker = NULL;
    IM_AUTO(free_auto) uint8_t *window = im_alloc(WINDOW);
    struct stream stream = {.copy = copy};
    enum guest_format format;
    size_t len;

    stream.unpacker = unpacker = unpacker_new(packing, &limits, err);
    if (!unpacker || !stream_take(&stream, window, WINDOW, &len, err))
        return false;
    if (!guest_image_sniff(window, len < GUEST_HEAD_BYTES ? len : GUEST_HEAD_BYTES, NULL,
                           copy->request->format, &format, err))
        return false;
    if (format != GUEST_RAW)
        return stream_staged(&stream, window, len, err);
    return check_disk(copy, window, len < GUEST_DISK_HEAD ? len : GUEST_DISK_HEAD,
                      len < WINDOW ? len : UINT64_MAX, err) &&
           stream_raw(&stream, window, len, err);
}

/* --- All of it -------------------------------------------------------------------------------- */

static bool check_digest(const struct copy *copy, struct im_err *err) {
    const char *wanted = copy->request->digest;

    if (wanted[0] == '\0' || strcmp(wanted, copy->result->digest) == 0)
        return true;
    return im_fail(err, IM_BAD_IMAGE, "its digest is sha256:%s, not sha256:%s as was announced",
                   copy->result->digest, wanted);
}

/* The digest and the data were read at different moments: they belong together only if nobody wrote
 * in between. */
static bool check_unchanged(const struct copy *copy, const struct stat *before,
                            struct im_err *err) {
    struct stat after;

    if (fstat(copy->in, &after) < 0)
        return im_fail_sys(err, errno, "what came in");
    if (after.st_size == before->st_size && after.st_ctim.tv_sec == before->st_ctim.tv_sec &&
        after.st_ctim.tv_nsec == before->st_ctim.tv_nsec)
        return true;
    return im_fail(err, IM_BAD_IMAGE, "what came in was changed while it was read");
}

/* Data goes to the disk while the digest is still being made. */
static bool flush(struct copy *copy, struct im_err *err) {
    report_keep_alive(true);
    if (!store_plain(&copy->store, err))
        return false;
    if (fdatasync(copy->out) < 0)
        return im_fail_sys(err, errno, "the image cannot be made durable");
    return true;
}

static bool copy_all(struct copy *copy, const struct stat *before, struct im_err *err) {
    uint8_t head[8] = {0};
    size_t len = copy->in_size < sizeof(head) ? (size_t) copy->in_size : sizeof(head);
    enum packing packing;

    if (!im_pread_all(copy->in, head, len, 0, "what came in", err))
        return false;
    packing = packing_detect(head, len);
    copy->result->compression = packing_name(packing);
    copy->hash = hash_new(err);
    if (!copy->hash)
        return false;
    if (!(packing == PACKING_NONE ? copy_opened(copy, copy->in, copy->in_size, true, err)
                                  : copy_stream(copy, packing, err)))
        return false;
    if (!flush(copy, err) || !hash_finish(copy->hash, copy->result->digest, err) ||
        !check_unchanged(copy, before, err) || !check_digest(copy, err))
        return false;
    copy->result->data_bytes = qcow2_writer_placed(copy->writer);
    report_progress("sync", 0, 1);
    if (!qcow2_writer_finish(copy->writer, err))
        return false;
    report_keep_alive(false);
    report_progress("sync", 1, 1);
    return true;
}

bool copy_image(const struct request *request, int in, int out, int scratch,
                struct copy_result *result, struct im_err *err) {
    struct copy copy = {.request = request,
                        .in = in,
                        .out = out,
                        .scratch = scratch,
                        .result = result,
                        .store = {.fd = out}};
    char has[16], may[16];
    struct stat st;
    bool fine;

    if (fstat(in, &st) < 0)
        return im_fail_sys(err, errno, "what came in");
    if (!S_ISREG(st.st_mode))
        return im_fail(err, IM_BAD_MESSAGE, "what came in is not a regular file");
    copy.in_size = result->received_bytes = (uint64_t) st.st_size;
    if (copy.in_size > request->max_bytes)
        return im_fail(err, IM_QUOTA, "%s came in, more than the limit of %s",
                       im_size_text(copy.in_size, has), im_size_text(request->max_bytes, may));
    view_guard();
    (void) posix_fadvise(in, 0, 0, POSIX_FADV_SEQUENTIAL);
    fine = copy_all(&copy, &st, err);
    hash_free(copy.hash);
    qcow2_writer_free(copy.writer);
    return fine;
}
