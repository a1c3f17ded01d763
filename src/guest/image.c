/* SPDX-License-Identifier: Apache-2.0 */
/* The gate and the reader: finds the format, lets it check its tables, serves ranges. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "guest-private.h"

#define TABLE_MAX (64u << 20)
#define SIZE_MAX_DEFAULT (64ull << 40)

static const struct guest_ops *const formats[GUEST_FORMATS] = {
    [GUEST_RAW] = &guest_raw, [GUEST_QCOW2] = &guest_qcow2, [GUEST_VMDK] = &guest_vmdk,
    [GUEST_VDI] = &guest_vdi, [GUEST_VHD] = &guest_vhd,     [GUEST_VHDX] = &guest_vhdx};

bool guest_read_at(const struct guest_image *image, uint64_t offset, void *bytes, size_t len,
                   const char *what, struct im_err *err) {
    uint8_t *to = bytes;

    if (offset > image->file_size || len > image->file_size - offset)
        return im_fail(err, IM_BAD_IMAGE, "%s lies beyond the end of the file", what);
    while (len > 0) {
        ssize_t got = pread(image->fd, to, len, (off_t) offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return im_fail_sys(err, errno, "%s cannot be read", what);
        if (got == 0)
            return im_fail(err, IM_BAD_IMAGE, "%s: the file became shorter while it was read",
                           what);
        to += got;
        offset += (uint64_t) got;
        len -= (size_t) got;
    }
    return true;
}

bool guest_read_table(const struct guest_image *image, uint64_t offset, uint64_t len,
                      const char *what, void **ret_table, struct im_err *err) {
    IM_AUTO(free_auto) void *table = NULL;

    if (offset > image->file_size || len > image->file_size - offset)
        return im_fail(err, IM_BAD_IMAGE, "%s lies beyond the end of the file", what);
    if (len > TABLE_MAX)
        return im_fail(err, IM_BAD_IMAGE, "%s is too large", what);
    table = malloc(len ? (size_t) len : 1);
    if (!table)
        return im_fail(err, IM_NO_RESOURCE, "%s does not fit into memory", what);
    if (!guest_read_at(image, offset, table, (size_t) len, what, err))
        return false;
    *ret_table = im_steal(&table);
    return true;
}

bool guest_size_ok(const struct guest_image *image, const char *name, uint64_t size,
                   struct im_err *err) {
    char has[16], may[16];

    if (size == 0)
        return im_fail(err, IM_BAD_IMAGE, "%s: its virtual size is zero", name);
    if (size % 512)
        return im_fail(err, IM_BAD_IMAGE, "%s: its virtual size is no multiple of 512", name);
    if (size > image->max_bytes)
        return im_fail(err, IM_QUOTA, "%s: its virtual size of %s is above the limit of %s", name,
                       im_size_text(size, has), im_size_text(image->max_bytes, may));
    return true;
}

/* --- Raw -------------------------------------------------------------------------------------- */

static bool raw_open(struct guest_image *image, struct im_err *err) {
    image->size = (image->file_size + 511) / 512 * 512;
    return guest_size_ok(image, "raw", image->size, err);
}

static bool raw_map(struct guest_image *image, uint64_t offset, struct guest_extent *extent,
                    struct im_err *err) {
    (void) err;
    if (offset < image->file_size)
        *extent = (struct guest_extent){GUEST_DATA, offset, image->file_size - offset, offset};
    else
        *extent = (struct guest_extent){GUEST_ZERO, offset, image->size - offset, 0};
    return true;
}

const struct guest_ops guest_raw = {.format = GUEST_RAW, .open = raw_open, .map = raw_map};

/* --- Tables of blocks ------------------------------------------------------------------------- */

struct guest_blocks *guest_blocks_new(uint64_t count, uint64_t block_bytes) {
    struct guest_blocks *blocks = im_alloc(sizeof(*blocks));

    blocks->where = im_realloc_array(NULL, count ? count : 1, sizeof(*blocks->where));
    blocks->count = count;
    blocks->block_bytes = block_bytes;
    return blocks;
}

void guest_blocks_close(void *state) {
    struct guest_blocks *blocks = state;

    if (blocks)
        free(blocks->where);
    free(blocks);
}

static int by_place(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

    return x < y ? -1 : x > y;
}

bool guest_blocks_check(const struct guest_image *image, const struct guest_blocks *blocks,
                        uint64_t lowest, const char *name, struct im_err *err) {
    IM_AUTO(free_auto) uint64_t *sorted = im_realloc_array(NULL, blocks->count + 1, 8);
    uint64_t used = 0;

    for (uint64_t i = 0; i < blocks->count; i++) {
        uint64_t at = blocks->where[i], need = blocks->block_bytes;

        if (at == BLOCK_HOLE)
            continue;
        if (need > image->size - i * blocks->block_bytes)
            need = image->size - i * blocks->block_bytes; /* the last one may be cut */
        if (at < lowest)
            return im_fail(err, IM_BAD_IMAGE, "%s: block %llu lies on the image's own tables", name,
                           (unsigned long long) i);
        if (at > image->file_size || need > image->file_size - at)
            return im_fail(err, IM_BAD_IMAGE,
                           "%s: block %llu lies beyond the end of the file (cut short?)", name,
                           (unsigned long long) i);
        sorted[used++] = at;
    }
    qsort(sorted, used, sizeof(*sorted), by_place);
    for (uint64_t i = 1; i < used; i++)
        if (sorted[i] - sorted[i - 1] < blocks->block_bytes)
            return im_fail(err, IM_BAD_IMAGE, "%s: two blocks share one place in the file", name);
    return true;
}

bool guest_blocks_map(struct guest_image *image, uint64_t offset, struct guest_extent *extent,
                      struct im_err *err) {
    const struct guest_blocks *blocks = image->state;
    uint64_t size = blocks->block_bytes, index = offset / size, inside = offset % size;
    uint64_t at = blocks->where[index], end = (index + 1) * size;

    (void) err;
    while (end < image->size && index + 1 < blocks->count &&
           blocks->where[index + 1] ==
               (at == BLOCK_HOLE ? BLOCK_HOLE : blocks->where[index] + size)) {
        index++;
        end += size;
    }
    if (end > image->size)
        end = image->size;
    *extent = (struct guest_extent){at == BLOCK_HOLE ? GUEST_ZERO : GUEST_DATA, offset,
                                    end - offset, at == BLOCK_HOLE ? 0 : at + inside};
    return true;
}

/* --- The gate --------------------------------------------------------------------------------- */

bool guest_image_open(int fd, uint64_t file_size, const char *declared,
                      const struct guest_limits *limits, struct guest_image **ret_image,
                      struct im_err *err) {
    size_t head_len = file_size < GUEST_HEAD_BYTES ? (size_t) file_size : GUEST_HEAD_BYTES;
    IM_AUTO(free_auto) uint8_t *head = im_alloc(GUEST_HEAD_BYTES);
    IM_AUTO(guest_image_free_auto) struct guest_image *image = im_alloc(sizeof(*image));
    uint8_t tail[512] = {0};
    enum guest_format format;

    image->fd = fd;
    image->file_size = file_size;
    image->max_bytes = limits && limits->max_bytes ? limits->max_bytes : SIZE_MAX_DEFAULT;
    if (!guest_read_at(image, 0, head, head_len, "the beginning", err))
        return false;
    if (file_size >= 512 &&
        !guest_read_at(image, file_size - 512, tail, sizeof(tail), "the end", err))
        return false;
    if (!guest_image_sniff(head, head_len, tail, declared, &format, err))
        return false;
    image->ops = formats[format];
    if (!image->ops->open(image, err))
        return false;
    *ret_image = im_steal(&image);
    return true;
}

void guest_image_free(struct guest_image *image) {
    if (image && image->ops && image->ops->close)
        image->ops->close(image->state);
    free(image);
}

enum guest_format guest_image_format(const struct guest_image *image) { return image->ops->format; }

uint64_t guest_image_size(const struct guest_image *image) { return image->size; }

bool guest_image_map(struct guest_image *image, uint64_t offset, struct guest_extent *ret_extent,
                     struct im_err *err) {
    if (offset >= image->size)
        return im_fail(err, IM_BAD_IMAGE, "nothing lies beyond the end of the disk");
    return image->ops->map(image, offset, ret_extent, err);
}

bool guest_image_read(struct guest_image *image, uint64_t offset, void *bytes, size_t len,
                      struct im_err *err) {
    uint8_t *to = bytes;

    while (len > 0) {
        struct guest_extent extent;
        size_t now;
        bool fine = true;

        if (!guest_image_map(image, offset, &extent, err))
            return false;
        now = extent.len < len ? (size_t) extent.len : len;
        if (extent.kind == GUEST_ZERO)
            memset(to, 0, now);
        else if (extent.kind == GUEST_DATA)
            fine = guest_read_at(image, extent.file_offset, to, now, "data", err);
        else
            fine = image->ops->unpack(image, offset, to, now, err);
        if (!fine)
            return false;
        to += now;
        offset += now;
        len -= now;
    }
    return true;
}

bool guest_probe(int fd, uint64_t file_size, const char *declared, bool force,
                 const struct guest_limits *limits, struct guest_report *ret_report,
                 struct im_err *err) {
    IM_AUTO(guest_image_free_auto) struct guest_image *image = NULL;
    IM_AUTO(free_auto) uint8_t *head = im_alloc(GUEST_DISK_HEAD);
    struct guest_report report;
    size_t len;

    if (!guest_image_open(fd, file_size, declared, limits, &image, err))
        return false;
    report.format = image->ops->format;
    report.size_bytes = image->size;
    len = image->size < GUEST_DISK_HEAD ? (size_t) image->size : GUEST_DISK_HEAD;
    if (!guest_image_read(image, 0, head, len, err) ||
        !guest_disk_check(head, len, image->size, force, &report.disk, err))
        return false;
    *ret_report = report;
    return true;
}
