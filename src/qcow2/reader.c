/* SPDX-License-Identifier: Apache-2.0 */
/* Reading images that nobody vouches for. No number of the file is used before it was compared with
 * what the file has room for. */
#include "reader-private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "base/mem.h"

#define MAP_TABLES 64u
#define PACKED_SECTOR 512u
#define PACKED_WINDOW_LOG 22 /* twice the largest cluster */

IM_DEFINE_AUTO(ZSTD_DCtx *, ZSTD_freeDCtx)

/* --- Opening ---------------------------------------------------------------------------------- */

static bool refuse_data_file(void *arg, uint32_t type, const unsigned char *bytes, uint32_t len,
                             struct im_err *err) {
    (void) arg, (void) bytes, (void) len;
    if (type == EXT_DATA_FILE)
        return im_fail(err, IM_BAD_IMAGE, "qcow2: it names an external data file");
    return true;
}

static bool check_features(const struct header *header, struct im_err *err) {
    uint64_t known = INCOMPAT_DIRTY | INCOMPAT_COMPRESSION;

    if (header->incompatible & INCOMPAT_DATA_FILE)
        return im_fail(err, IM_BAD_IMAGE, "qcow2: its data lies in an external data file");
    if (header->incompatible & INCOMPAT_CORRUPT)
        return im_fail(err, IM_BAD_IMAGE, "qcow2: it is marked as corrupt");
    if (header->incompatible & INCOMPAT_EXTENDED_L2)
        return im_fail(err, IM_BAD_IMAGE, "qcow2: it has extended L2 entries, which are not taken");
    if (header->incompatible & ~known)
        return im_fail(err, IM_BAD_IMAGE,
                       "qcow2: it needs features that are not known (0x%" PRIx64 ")",
                       header->incompatible & ~known);
    if (header->compression > 1 ||
        (header->compression == 1) != ((header->incompatible & INCOMPAT_COMPRESSION) != 0))
        return im_fail(err, IM_BAD_IMAGE, "qcow2: compression %u is not known",
                       header->compression);
    if (header->crypt != 0)
        return im_fail(err, IM_BAD_IMAGE, "qcow2: it is encrypted");
    if (header->snapshots != 0)
        return im_fail(err, IM_BAD_IMAGE, "qcow2: it has %" PRIu32 " internal snapshots",
                       header->snapshots);
    return true;
}

/* QEMU would open whatever the name says, and more than files when it is a description. */
static bool refuse_backing(const struct qcow2_reader *reader, struct im_err *err) {
    const struct header *header = &reader->header;
    char name[QCOW2_BACKING_MAX];

    if (header->backing_offset == 0 && header->backing_len == 0)
        return true;
    if (!header_backing(reader->fd, reader->file_size, header, name, err))
        return im_within(err, "qcow2");
    if (strncmp(name, "json:", 5) == 0)
        return im_fail(err, IM_BAD_IMAGE,
                       "qcow2: it names its backing file by a json: description");
    return im_fail(err, IM_BAD_IMAGE, "qcow2: it has a backing file: only whole images are taken");
}

static bool check_header(const struct qcow2_reader *reader, const struct qcow2_limits *limits,
                         struct im_err *err) {
    const struct header *header = &reader->header;
    uint64_t most = limits && limits->size_max ? limits->size_max : QCOW2_SIZE_MAX;

    if (!reader->layer && !refuse_backing(reader, err))
        return false;
    if (!check_features(header, err))
        return false;
    if (header->size == 0 || header->size % 512)
        return im_fail(err, IM_BAD_IMAGE, "qcow2: a virtual size of %" PRIu64 " bytes",
                       header->size);
    if (header->size > most)
        return im_fail(err, IM_BAD_IMAGE,
                       "qcow2: its virtual size of %" PRIu64
                       " bytes is above the limit of %" PRIu64,
                       header->size, most);
    return header_extensions(reader->fd, reader->file_size, header, refuse_data_file, NULL, err);
}

static bool read_l1(struct qcow2_reader *reader, struct im_err *err) {
    reader->l1_count = l1_entries(reader->header.size, reader->header.cluster_bits);
    reader->l1 = malloc(reader->l1_count * 8);
    if (reader->l1 == NULL)
        return im_fail(err, IM_NO_RESOURCE, "qcow2: its L1 table does not fit into memory");
    if (!image_pread(reader->fd, reader->l1, reader->l1_count * 8, reader->header.l1_offset, err))
        return false;
    for (uint64_t i = 0; i < reader->l1_count; i++) {
        uint64_t offset = be64toh(reader->l1[i]) & ENTRY_OFFSET;

        reader->l1[i] = offset;
        if (offset % reader->cluster)
            return im_fail(err, IM_BAD_IMAGE,
                           "qcow2: L2 table %" PRIu64 " does not begin at a cluster", i);
        if (offset > reader->file_size || (offset && reader->cluster > reader->file_size - offset))
            return im_fail(
                err, IM_BAD_IMAGE,
                "qcow2: L2 table %" PRIu64 " lies beyond the end of the file (cut short?)", i);
    }
    return true;
}

static bool open_reader(int fd, uint64_t file_size, const struct qcow2_limits *limits, bool layer,
                        struct qcow2_reader **ret_reader, struct im_err *err) {
    IM_AUTO(qcow2_reader_free_auto) struct qcow2_reader *reader = im_alloc(sizeof(*reader));

    reader->fd = fd;
    reader->file_size = file_size;
    reader->layer = layer;
    reader->slots = L2_CACHE;
    if (!header_read(fd, file_size, &reader->header, err))
        return im_within(err, "qcow2");
    reader->cluster = 1ull << reader->header.cluster_bits;
    if (!check_header(reader, limits, err) || !read_l1(reader, err))
        return false;
    *ret_reader = im_steal(&reader);
    return true;
}

bool qcow2_reader_open(int fd, uint64_t file_size, const struct qcow2_limits *limits,
                       struct qcow2_reader **ret_reader, struct im_err *err) {
    return open_reader(fd, file_size, limits, false, ret_reader, err);
}

bool reader_open_layer(int fd, uint64_t file_size, struct qcow2_reader **ret_reader,
                       struct im_err *err) {
    return open_reader(fd, file_size, NULL, true, ret_reader, err);
}

void qcow2_reader_free(struct qcow2_reader *reader) {
    if (reader == NULL)
        return;
    for (size_t i = 0; i < L2_CACHE; i++)
        free(reader->cache[i].entries);
    free(reader->l1);
    free(reader->packed);
    free(reader->unpacked);
    free(reader);
}

uint64_t qcow2_reader_size(const struct qcow2_reader *reader) { return reader->header.size; }

unsigned qcow2_reader_cluster_bits(const struct qcow2_reader *reader) {
    return reader->header.cluster_bits;
}

/* --- Tables ----------------------------------------------------------------------------------- */

static struct l2_slot *slot_for(struct qcow2_reader *reader, uint64_t offset) {
    struct l2_slot *oldest = &reader->cache[0];

    for (size_t i = 0; i < reader->slots; i++) {
        if (reader->cache[i].offset == offset)
            return &reader->cache[i];
        if (reader->cache[i].used < oldest->used)
            oldest = &reader->cache[i];
    }
    return oldest;
}

bool reader_table(struct qcow2_reader *reader, uint64_t l1_index, const uint64_t **ret_entries,
                  struct im_err *err) {
    uint64_t offset = reader->l1[l1_index];
    struct l2_slot *slot;

    *ret_entries = NULL;
    if (offset == 0)
        return true;
    slot = slot_for(reader, offset);
    slot->used = ++reader->clock;
    if (slot->offset != offset) {
        slot->offset = 0;
        if (slot->entries == NULL)
            slot->entries = im_alloc(reader->cluster);
        if (!image_pread(reader->fd, slot->entries, reader->cluster, offset, err))
            return false;
        for (uint64_t i = 0; i < reader->cluster / 8; i++)
            slot->entries[i] = be64toh(slot->entries[i]);
        slot->offset = offset;
    }
    *ret_entries = slot->entries;
    return true;
}

void reader_packed(const struct qcow2_reader *reader, uint64_t entry, uint64_t *ret_offset,
                   uint64_t *ret_len) {
    unsigned bits = 62 - (reader->header.cluster_bits - 8);
    uint64_t sectors = (entry & ~(ENTRY_COPIED | ENTRY_COMPRESSED)) >> bits;

    *ret_offset = entry & ((1ull << bits) - 1);
    *ret_len = (sectors + 1) * PACKED_SECTOR - *ret_offset % PACKED_SECTOR;
}

static bool check_packed(const struct qcow2_reader *reader, uint64_t entry, uint64_t guest_offset,
                         struct im_err *err) {
    uint64_t offset, len;

    reader_packed(reader, entry, &offset, &len);
    if (offset < reader->cluster || offset >= reader->file_size ||
        len > reader->cluster + PACKED_SECTOR)
        return im_fail(err, IM_BAD_IMAGE,
                       "qcow2: the compressed cluster for %" PRIu64
                       " lies beyond the end of the file or on the header",
                       guest_offset);
    return true;
}

bool reader_entry(const struct qcow2_reader *reader, uint64_t entry, uint64_t guest_offset,
                  enum qcow2_kind *ret_kind, struct im_err *err) {
    uint64_t offset = entry & ENTRY_OFFSET, need = reader->cluster;
    bool zero = reader->header.version >= 3 && (entry & ENTRY_ZERO);

    if (entry & ENTRY_COMPRESSED) {
        *ret_kind = QCOW2_COMPRESSED;
        return check_packed(reader, entry, guest_offset, err);
    }
    *ret_kind = zero ? QCOW2_ZERO : offset ? QCOW2_DATA : QCOW2_HOLE;
    if (*ret_kind != QCOW2_DATA)
        return true;
    if (offset % reader->cluster)
        return im_fail(err, IM_BAD_IMAGE,
                       "qcow2: the cluster for %" PRIu64 " does not begin at a cluster",
                       guest_offset);
    if (need > reader->header.size - guest_offset)
        need = reader->header.size - guest_offset;
    if (offset > reader->file_size || need > reader->file_size - offset)
        return im_fail(err, IM_BAD_IMAGE,
                       "qcow2: the cluster for %" PRIu64
                       " lies beyond the end of the file (cut short?)",
                       guest_offset);
    return true;
}

/* --- Look-ups --------------------------------------------------------------------------------- */

struct cluster_info {
    enum qcow2_kind kind;
    uint64_t entry;
};

static bool look_up(struct qcow2_reader *reader, uint64_t guest_offset, struct cluster_info *info,
                    struct im_err *err) {
    uint64_t index = guest_offset >> reader->header.cluster_bits, per_table = reader->cluster / 8;
    const uint64_t *entries;

    if (!reader_table(reader, index / per_table, &entries, err))
        return false;
    *info = (struct cluster_info){QCOW2_HOLE, entries ? entries[index % per_table] : 0};
    return reader_entry(reader, info->entry, index << reader->header.cluster_bits, &info->kind,
                        err);
}

/* Does `next` go on where `last` was? */
static bool alike(const struct qcow2_reader *reader, const struct cluster_info *last,
                  const struct cluster_info *next) {
    return last->kind == next->kind &&
           (last->kind != QCOW2_DATA ||
            (next->entry & ENTRY_OFFSET) == (last->entry & ENTRY_OFFSET) + reader->cluster);
}

bool qcow2_reader_map(struct qcow2_reader *reader, uint64_t guest_offset,
                      struct qcow2_extent *ret_extent, struct im_err *err) {
    uint64_t size = reader->header.size, span = reader->cluster / 8 * reader->cluster;
    uint64_t end = guest_offset / reader->cluster * reader->cluster + reader->cluster, stop;
    struct cluster_info first, last, next;

    if (guest_offset >= size)
        return im_fail(err, IM_BAD_MESSAGE, "%" PRIu64 " is beyond the image", guest_offset);
    if (!look_up(reader, guest_offset, &first, err))
        return false;
    last = first;
    stop = (guest_offset / span + MAP_TABLES) * span;
    while (end < size && end < stop) {
        bool no_table = reader->l1[end / span] == 0;

        if (no_table && first.kind == QCOW2_HOLE && end % span == 0) {
            end += span;
            continue;
        }
        if (!look_up(reader, end, &next, err))
            return false;
        if (!alike(reader, &last, &next))
            break;
        last = next;
        end += reader->cluster;
    }
    *ret_extent = (struct qcow2_extent){first.kind, guest_offset,
                                        (end < size ? end : size) - guest_offset, 0};
    if (first.kind == QCOW2_DATA)
        ret_extent->file_offset = (first.entry & ENTRY_OFFSET) + guest_offset % reader->cluster;
    return true;
}

/* --- Content ---------------------------------------------------------------------------------- */

/* zlib's stream has no header here; what lies behind its end in the last sector is not looked at.
 */
static bool inflate_cluster(struct qcow2_reader *reader, size_t len) {
    z_stream z = {.next_in = reader->packed,
                  .avail_in = (unsigned) len,
                  .next_out = reader->unpacked,
                  .avail_out = (unsigned) reader->cluster};
    int code;

    if (inflateInit2(&z, -12) != Z_OK)
        return false;
    code = inflate(&z, Z_FINISH);
    (void) inflateEnd(&z);
    return z.avail_out == 0 && (code == Z_STREAM_END || code == Z_BUF_ERROR);
}

static bool unzstd_cluster(struct qcow2_reader *reader, size_t len) {
    IM_AUTO(ZSTD_freeDCtx_auto) ZSTD_DCtx *context = ZSTD_createDCtx();
    ZSTD_inBuffer in = {.src = reader->packed, .size = len};
    ZSTD_outBuffer out = {.dst = reader->unpacked, .size = reader->cluster};

    /* A frame may ask for a window of 128 MiB; that of a cluster needs no more than the cluster. */
    if (context &&
        ZSTD_isError(ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, PACKED_WINDOW_LOG)))
        return false;
    while (context && out.pos < out.size) {
        size_t before = out.pos, code = ZSTD_decompressStream(context, &out, &in);

        if (ZSTD_isError(code) || (out.pos == before && (code == 0 || in.pos == in.size)))
            return false;
    }
    return context != NULL;
}

static bool unpack(struct qcow2_reader *reader, uint64_t entry, uint64_t guest_offset,
                   struct im_err *err) {
    uint64_t offset, len;

    if (reader->unpacked_entry == entry)
        return true;
    reader->unpacked_entry = 0;
    if (reader->packed == NULL) {
        reader->packed = im_alloc(reader->cluster + PACKED_SECTOR);
        reader->unpacked = im_alloc(reader->cluster);
    }
    reader_packed(reader, entry, &offset, &len);
    if (len > reader->file_size - offset) /* the last sector of a file need not be whole */
        len = reader->file_size - offset;
    if (!image_pread(reader->fd, reader->packed, len, offset, err))
        return false;
    if (!(reader->header.compression == 1 ? unzstd_cluster(reader, len)
                                          : inflate_cluster(reader, len)))
        return im_fail(err, IM_BAD_IMAGE,
                       "qcow2: the compressed cluster for %" PRIu64 " does not decompress",
                       guest_offset);
    reader->unpacked_entry = entry;
    return true;
}

static bool read_packed(struct qcow2_reader *reader, uint64_t guest_offset, unsigned char *to,
                        size_t len, struct im_err *err) {
    while (len > 0) {
        uint64_t inside = guest_offset % reader->cluster;
        size_t now = reader->cluster - inside < len ? (size_t) (reader->cluster - inside) : len;
        struct cluster_info info;

        if (!look_up(reader, guest_offset, &info, err) ||
            !unpack(reader, info.entry, guest_offset, err))
            return false;
        memcpy(to, reader->unpacked + inside, now);
        to += now;
        guest_offset += now;
        len -= now;
    }
    return true;
}

bool qcow2_reader_read(struct qcow2_reader *reader, uint64_t guest_offset, void *bytes, size_t len,
                       struct im_err *err) {
    unsigned char *to = bytes;

    if (guest_offset > reader->header.size || len > reader->header.size - guest_offset)
        return im_fail(err, IM_BAD_MESSAGE, "the range is beyond the image");
    while (len > 0) {
        struct qcow2_extent extent;
        bool fine = true;
        size_t now;

        if (!qcow2_reader_map(reader, guest_offset, &extent, err))
            return false;
        now = extent.len < len ? (size_t) extent.len : len;
        if (extent.kind == QCOW2_DATA)
            fine = image_pread(reader->fd, to, now, extent.file_offset, err);
        else if (extent.kind == QCOW2_COMPRESSED)
            fine = read_packed(reader, guest_offset, to, now, err);
        else
            memset(to, 0, now);
        if (!fine)
            return false;
        to += now;
        guest_offset += now;
        len -= now;
    }
    return true;
}
