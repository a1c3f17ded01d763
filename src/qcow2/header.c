/* SPDX-License-Identifier: Apache-2.0 */
/* The header of an image: written, read and checked. What it says is believed only as far as it
 * was compared with the size of the file. */
#include "qcow2-private.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define REFCOUNT_TABLE_MAX (8ull << 20) /* bytes; as in QEMU */
#define EXTENSIONS_MAX 256

uint64_t l1_entries(uint64_t size_bytes, unsigned cluster_bits) {
    unsigned shift = cluster_bits + cluster_bits - 3;

    return (size_bytes >> shift) + ((size_bytes & ((1ull << shift) - 1)) != 0);
}

void header_put(const struct header *header, unsigned char out[HEADER_V3]) {
    memset(out, 0, HEADER_V3);
    put32(out, HEADER_MAGIC);
    put32(out + 4, 3);
    put64(out + 8, header->backing_offset);
    put32(out + 16, header->backing_len);
    put32(out + 20, header->cluster_bits);
    put64(out + 24, header->size);
    put32(out + 36, header->l1_size);
    put64(out + 40, header->l1_offset);
    put64(out + 48, header->refcount_offset);
    put32(out + 56, header->refcount_clusters);
    put32(out + 96, header->refcount_order);
    put32(out + 100, HEADER_V3);
}

bool backing_check(const char *backing, const char *format, struct im_err *err) {
    return (backing[0] != '\0' && strlen(backing) < QCOW2_BACKING_MAX && format != NULL &&
            strlen(format) < 16) ||
           im_fail(err, IM_BAD_MESSAGE, "the backing file name is empty or too long");
}

size_t head_put(unsigned char out[HEAD_MAX], struct header *header, const char *backing,
                const char *format) {
    size_t len = HEADER_V3;

    if (backing != NULL) {
        size_t format_len = strlen(format);

        put32(out + len, EXT_BACKING_FORMAT);
        put32(out + len + 4, (uint32_t) format_len);
        memcpy(out + len + 8, format, format_len);
        len += 8 + round_up(format_len, 8);
    }
    len += 8; /* the end mark is zeros */
    if (backing != NULL) {
        header->backing_offset = len;
        header->backing_len = (uint32_t) strlen(backing);
        memcpy(out + len, backing, header->backing_len);
        len += header->backing_len;
    }
    header_put(header, out);
    return len;
}

bool image_pread(int fd, void *bytes, size_t len, uint64_t offset, struct im_err *err) {
    char *p = bytes;

    while (len > 0) {
        ssize_t n = pread(fd, p, len, (off_t) offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return im_fail_sys(err, errno, "cannot read the image at offset %" PRIu64, offset);
        if (n == 0)
            return im_fail(err, IM_BAD_IMAGE, "the file ends early, at offset %" PRIu64, offset);
        p += n;
        offset += (uint64_t) n;
        len -= (size_t) n;
    }
    return true;
}

/* The bytes of the two versions into numbers; nothing is judged here. */
static void header_get(const unsigned char *in, struct header *out) {
    *out = (struct header){
        .version = get32(in + 4),
        .backing_offset = get64(in + 8),
        .backing_len = get32(in + 16),
        .cluster_bits = get32(in + 20),
        .size = get64(in + 24),
        .crypt = get32(in + 32),
        .l1_size = get32(in + 36),
        .l1_offset = get64(in + 40),
        .refcount_offset = get64(in + 48),
        .refcount_clusters = get32(in + 56),
        .snapshots = get32(in + 60),
        .snapshots_offset = get64(in + 64),
        .refcount_order = 4,
        .length = HEADER_V2,
    };
    if (out->version < 3)
        return;
    out->incompatible = get64(in + 72);
    out->autoclear = get64(in + 88);
    out->refcount_order = get32(in + 96);
    out->length = get32(in + 100);
    out->compression = out->length > HEADER_COMPRESSION ? in[HEADER_COMPRESSION] : 0;
}

static bool table_check(const char *name, uint64_t offset, uint64_t bytes, uint64_t entries,
                        uint64_t cluster, uint64_t file_size, struct im_err *err) {
    if (offset % cluster != 0)
        return im_fail(err, IM_BAD_IMAGE,
                       "%s at %" PRIu64 " does not begin at a multiple of the cluster size", name,
                       offset);
    if (offset > file_size || bytes > file_size - offset)
        return im_fail(err, IM_BAD_IMAGE,
                       "%s of %" PRIu64 " entries at %" PRIu64
                       " reaches beyond the end of the file (%" PRIu64 " bytes)",
                       name, entries, offset, file_size);
    if (bytes > 0 && offset == 0)
        return im_fail(err, IM_BAD_IMAGE, "%s lies on the header", name);
    return true;
}

static bool tables_check(const struct header *header, uint64_t file_size, struct im_err *err) {
    uint64_t cluster = 1ull << header->cluster_bits;
    uint64_t l1_bytes = (uint64_t) header->l1_size * 8;
    uint64_t refcount_bytes = (uint64_t) header->refcount_clusters << header->cluster_bits;

    if (header->refcount_order > 6)
        return im_fail(err, IM_BAD_IMAGE, "refcounts of 2^%" PRIu32 " bits do not exist",
                       header->refcount_order);
    if (header->refcount_clusters == 0)
        return im_fail(err, IM_BAD_IMAGE, "the image has no refcount table");
    if (refcount_bytes > REFCOUNT_TABLE_MAX)
        return im_fail(err, IM_BAD_IMAGE, "refcount table of %" PRIu32 " clusters is too large",
                       header->refcount_clusters);
    /* Sparse files may end inside the table's last cluster: only its beginning must exist. */
    if (!table_check("refcount table", header->refcount_offset, 8, refcount_bytes / 8, cluster,
                     file_size, err))
        return false;
    if (l1_bytes > L1_BYTES_MAX)
        return im_fail(err, IM_BAD_IMAGE, "L1 table of %" PRIu32 " entries is too large",
                       header->l1_size);
    if (header->l1_size < l1_entries(header->size, header->cluster_bits))
        return im_fail(err, IM_BAD_IMAGE,
                       "L1 table of %" PRIu32 " entries is too small for %" PRIu64 " bytes",
                       header->l1_size, header->size);
    return table_check("L1 table", header->l1_offset, l1_bytes, header->l1_size, cluster, file_size,
                       err);
}

bool header_read(int fd, uint64_t file_size, struct header *ret_header, struct im_err *err) {
    unsigned char bytes[HEADER_COMPRESSION + 8] = {0};
    struct header header;

    if (file_size < HEADER_V2)
        return im_fail(err, IM_BAD_IMAGE, "a file of %" PRIu64 " bytes is no qcow2 image",
                       file_size);
    if (!image_pread(fd, bytes, file_size < sizeof(bytes) ? (size_t) file_size : sizeof(bytes), 0,
                     err))
        return false;
    if (get32(bytes) != HEADER_MAGIC)
        return im_fail(err, IM_BAD_IMAGE, "the file does not begin as a qcow2 image does");
    header_get(bytes, &header);
    if (header.version != 2 && header.version != 3)
        return im_fail(err, IM_BAD_IMAGE, "qcow version %" PRIu32 " is not supported",
                       header.version);
    if (header.cluster_bits < 9 || header.cluster_bits > 21)
        return im_fail(err, IM_BAD_IMAGE,
                       "clusters of 2^%" PRIu32 " bytes (allowed are 512 bytes to 2 MiB)",
                       header.cluster_bits);
    if (header.version == 3 && (header.length < HEADER_V3 || header.length % 8 != 0 ||
                                header.length > 1u << header.cluster_bits))
        return im_fail(err, IM_BAD_IMAGE, "a header of %" PRIu32 " bytes does not exist",
                       header.length);
    if (header.length > file_size)
        return im_fail(err, IM_BAD_IMAGE, "the file ends inside its header");
    if (!tables_check(&header, file_size, err))
        return false;
    *ret_header = header;
    return true;
}

bool header_extensions(int fd, uint64_t file_size, const struct header *header,
                       bool (*each)(void *arg, uint32_t type, const unsigned char *bytes,
                                    uint32_t len, struct im_err *err),
                       void *arg, struct im_err *err) {
    uint64_t end = 1ull << header->cluster_bits, pos = header->length;
    unsigned char head[8], payload[256];

    if (header->backing_offset != 0 && header->backing_offset < end)
        end = header->backing_offset;
    if (end > file_size)
        end = file_size;
    for (unsigned i = 0; i < EXTENSIONS_MAX && pos + sizeof(head) <= end; i++) {
        uint32_t type, len;

        if (!image_pread(fd, head, sizeof(head), pos, err))
            return false;
        type = get32(head);
        len = get32(head + 4);
        pos += sizeof(head);
        if (type == EXT_END)
            return true;
        if (len > end - pos)
            return im_fail(err, IM_BAD_IMAGE,
                           "header extension 0x%08" PRIx32 " of %" PRIu32
                           " bytes reaches beyond the header",
                           type, len);
        if (!image_pread(fd, payload, len < sizeof(payload) ? len : sizeof(payload), pos, err) ||
            !each(arg, type, payload, len < sizeof(payload) ? len : sizeof(payload), err))
            return false;
        pos += round_up(len, 8);
    }
    return true;
}

bool header_backing(int fd, uint64_t file_size, const struct header *header,
                    char ret_name[QCOW2_BACKING_MAX], struct im_err *err) {
    if (header->backing_offset == 0 || header->backing_len == 0) {
        ret_name[0] = '\0';
        return true;
    }
    if (header->backing_len >= QCOW2_BACKING_MAX || header->backing_offset > file_size ||
        header->backing_len > file_size - header->backing_offset)
        return im_fail(err, IM_BAD_IMAGE,
                       "the backing file name (%" PRIu32 " bytes at %" PRIu64
                       ") does not lie inside the header",
                       header->backing_len, header->backing_offset);
    if (!image_pread(fd, ret_name, header->backing_len, header->backing_offset, err))
        return false;
    ret_name[header->backing_len] = '\0';
    return true;
}

static bool info_extension(void *arg, uint32_t type, const unsigned char *bytes, uint32_t len,
                           struct im_err *err) {
    struct qcow2_info *info = arg;

    (void) err;
    if (type == EXT_BACKING_FORMAT && len < sizeof(info->backing_format)) {
        memcpy(info->backing_format, bytes, len);
        info->backing_format[len] = '\0';
    }
    return true;
}

bool qcow2_info_read(int fd, struct qcow2_info *ret_info, struct im_err *err) {
    struct qcow2_info info = {0};
    struct header header;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot look at the image");
    if (!header_read(fd, (uint64_t) st.st_size, &header, err) ||
        !header_backing(fd, (uint64_t) st.st_size, &header, info.backing, err) ||
        !header_extensions(fd, (uint64_t) st.st_size, &header, info_extension, &info, err))
        return false;
    info.version = header.version;
    info.cluster_bits = header.cluster_bits;
    info.size_bytes = header.size;
    info.data_file = (header.incompatible & INCOMPAT_DATA_FILE) != 0;
    *ret_info = info;
    return true;
}
