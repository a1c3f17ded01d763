/* SPDX-License-Identifier: Apache-2.0 */
/* Making an image larger in place. The order of writes is such that a crash between any two of them
 * leaves the image as it was, as it shall be, or with a few clusters that nobody uses. */
#include "qcow2-private.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

/* The header's fields from `size` to `l1_table_offset` lie in one sector and are written at once.
 */
static bool patch_header(int fd, uint64_t size, uint32_t l1_size, uint64_t l1_offset,
                         struct im_err *err) {
    unsigned char bytes[24] = {0};

    put64(bytes, size);
    put32(bytes + 12, l1_size); /* bytes 8 to 11: the encryption method, none */
    put64(bytes + 16, l1_offset);
    if (!im_pwrite_all(fd, bytes, sizeof(bytes), 24, "the image's header", err))
        return false;
    if (fdatasync(fd) < 0)
        return im_fail_sys(err, errno, "cannot make the image's header durable");
    return true;
}

/* What follows the table in its last cluster belongs to it, but QEMU does not promise zeros there.
 */
static bool clear_tail(int fd, const struct header *header, uint64_t wanted, uint64_t file_size,
                       struct im_err *err) {
    uint64_t from = header->l1_offset + header->l1_size * 8ull;
    size_t len = (size_t) (wanted - header->l1_size) * 8;
    IM_AUTO(free_auto) unsigned char *tail = im_alloc(len);
    bool clear = true;

    if (from + len <= file_size) {
        if (!image_pread(fd, tail, len, from, err))
            return false;
        for (size_t i = 0; i < len; i++)
            clear = clear && tail[i] == 0;
        if (clear)
            return true;
        memset(tail, 0, len);
    }
    if (!im_pwrite_all(fd, tail, len, from, "the L1 table", err))
        return false;
    if (fdatasync(fd) < 0)
        return im_fail_sys(err, errno, "cannot make the L1 table durable");
    return true;
}

/* Where clusters are taken from: the end of the file. */
struct room {
    int fd;
    const struct header *header;
    uint64_t cluster, next; /* bytes; offset of the next new cluster */
};

static bool set_refcount(struct room *room, uint64_t offset, uint16_t count, struct im_err *err);

/* A new refcount block, its own count in it or in another, durable before `slot` of the refcount
 * table names it: else a crash could leave a block that QEMU thinks free. */
static bool add_block(struct room *room, uint64_t slot, uint64_t *ret_block, struct im_err *err) {
    uint64_t block = room->next, index = block / room->cluster, per_block = room->cluster / 2;
    uint64_t own_slot = room->header->refcount_offset + index / per_block * 8;
    unsigned char bytes[8];

    room->next += room->cluster;
    if (ftruncate(room->fd, (off_t) room->next) < 0)
        return im_fail_sys(err, errno, "cannot make the image longer");
    put16(bytes, 1);
    if (own_slot != slot ? !set_refcount(room, block, 1, err)
                         : !im_pwrite_all(room->fd, bytes, 2, block + index % per_block * 2,
                                          "the refcounts", err))
        return false;
    put64(bytes, block);
    if (fdatasync(room->fd) < 0)
        return im_fail_sys(err, errno, "cannot make the refcounts durable");
    if (!im_pwrite_all(room->fd, bytes, sizeof(bytes), slot, "the refcount table", err))
        return false;
    *ret_block = block;
    return true;
}

/* Sets the 16-bit refcount of the cluster at `offset`. */
static bool set_refcount(struct room *room, uint64_t offset, uint16_t count, struct im_err *err) {
    uint64_t per_block = room->cluster / 2, index = offset / room->cluster, block, slot;
    unsigned char bytes[8];

    slot = index / per_block * 8;
    if (slot >= (uint64_t) room->header->refcount_clusters * room->cluster)
        return im_fail(err, IM_UNSUPPORTED, "the image's refcount table is full");
    slot += room->header->refcount_offset;
    if (!image_pread(room->fd, bytes, sizeof(bytes), slot, err))
        return false;
    block = get64(bytes) & ENTRY_OFFSET;
    if (block == 0 && !add_block(room, slot, &block, err))
        return false;
    put16(bytes, count);
    return im_pwrite_all(room->fd, bytes, 2, block + index % per_block * 2, "the refcounts", err);
}

/* Copies the table to new clusters at the end of the file, in full length. */
static bool move_table(struct room *room, uint64_t entries, uint64_t *ret_offset,
                       struct im_err *err) {
    uint64_t old_len = room->header->l1_size * 8ull, offset = room->next;
    IM_AUTO(free_auto) unsigned char *table = im_alloc(old_len);

    room->next += round_up(entries * 8, room->cluster);
    if (ftruncate(room->fd, (off_t) room->next) < 0)
        return im_fail_sys(err, errno, "cannot make the image longer");
    for (uint64_t at = offset; at < offset + round_up(entries * 8, room->cluster);
         at += room->cluster)
        if (!set_refcount(room, at, 1, err))
            return false;
    if (!image_pread(room->fd, table, old_len, room->header->l1_offset, err) ||
        !im_pwrite_all(room->fd, table, old_len, offset, "the L1 table", err))
        return false;
    if (fdatasync(room->fd) < 0)
        return im_fail_sys(err, errno, "cannot make the L1 table durable");
    *ret_offset = offset;
    return true;
}

static bool grow_moving(int fd, const struct header *header, uint64_t size_bytes,
                        uint64_t file_size, struct im_err *err) {
    uint64_t cluster = 1ull << header->cluster_bits, offset = 0;
    uint64_t entries = l1_entries(QCOW2_SIZE_MAX, header->cluster_bits);
    struct room room = {fd, header, cluster, round_up(file_size, cluster)};

    if (header->refcount_order != 4)
        return im_fail(err, IM_UNSUPPORTED, "the image's refcounts are not of 16 bits");
    if (entries * 8 > L1_BYTES_MAX)
        entries = l1_entries(size_bytes, header->cluster_bits);
    if (!move_table(&room, entries, &offset, err) ||
        !patch_header(fd, size_bytes, (uint32_t) entries, offset, err))
        return false;
    /* From here on the old table is free; lost only if we crash before. */
    for (uint64_t at = 0; at < header->l1_size * 8ull; at += cluster)
        if (!set_refcount(&room, header->l1_offset + at, 0, err))
            return false;
    if (fdatasync(fd) < 0)
        return im_fail_sys(err, errno, "cannot make the refcounts durable");
    return true;
}

static bool may_grow(const struct header *header, uint64_t size_bytes, struct im_err *err) {
    if (header->crypt != 0 || header->snapshots != 0 ||
        (header->incompatible & ~INCOMPAT_COMPRESSION) != 0)
        return im_fail(err, IM_UNSUPPORTED,
                       "only a clean image without internal snapshots and encryption can grow");
    if (size_bytes < header->size)
        return im_fail(err, IM_UNSUPPORTED, "a disk of %" PRIu64 " bytes cannot shrink to %" PRIu64,
                       header->size, size_bytes);
    if (l1_entries(size_bytes, header->cluster_bits) * 8 > L1_BYTES_MAX)
        return im_fail(err, IM_UNSUPPORTED,
                       "the image's clusters are too small for %" PRIu64 " bytes", size_bytes);
    return true;
}

bool qcow2_grow(int fd, uint64_t size_bytes, struct im_err *err) {
    struct header header;
    uint64_t wanted, capacity;
    struct stat st;

    if (size_bytes % 512 != 0 || size_bytes > QCOW2_SIZE_MAX)
        return im_fail(err, IM_BAD_MESSAGE, "a disk cannot have %" PRIu64 " bytes", size_bytes);
    if (fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot look at the image");
    if (!header_read(fd, (uint64_t) st.st_size, &header, err) ||
        !may_grow(&header, size_bytes, err))
        return false;
    if (size_bytes == header.size)
        return true;
    wanted = l1_entries(size_bytes, header.cluster_bits);
    capacity = round_up(header.l1_size * 8ull, 1ull << header.cluster_bits) / 8;
    if (wanted > capacity)
        return grow_moving(fd, &header, size_bytes, (uint64_t) st.st_size, err);
    if (wanted <= header.l1_size)
        wanted = header.l1_size;
    else if (!clear_tail(fd, &header, wanted, (uint64_t) st.st_size, err))
        return false;
    return patch_header(fd, size_bytes, (uint32_t) wanted, header.l1_offset, err);
}
