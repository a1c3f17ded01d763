/* SPDX-License-Identifier: Apache-2.0 */
/* Empty images: five small writes into a sparse file, where `qemu-img create` starts a process; and
 * what they stand on. */
#include "qcow2-private.h"

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

#define CLUSTER ((uint64_t) QCOW2_CLUSTER)
#define CLUSTER_BITS 16u

/* Where the parts of an empty image lie. */
#define REFCOUNT_TABLE CLUSTER
#define REFCOUNT_BLOCK (2 * CLUSTER)
#define L1_TABLE (3 * CLUSTER)

/* Up to 4 TiB one cluster holds the L1 table, and QEMU keeps only the entries in memory that the
 * size needs. Disks that are larger get the entries for QCOW2_SIZE_MAX at once: 1 MiB of zeros in
 * QEMU's memory, none in the file, and such a table never moves. */
static uint64_t l1_size_for(uint64_t size_bytes) {
    uint64_t entries = l1_entries(size_bytes, CLUSTER_BITS);

    return entries * 8 <= CLUSTER ? entries : l1_entries(QCOW2_SIZE_MAX, CLUSTER_BITS);
}

bool qcow2_overlay_write(int fd, const char *backing, const char *backing_format,
                         uint64_t size_bytes, struct im_err *err) {
    unsigned char head[HEAD_MAX] = {0}, table[8], counts[2 * 32];
    struct header header = {
        .cluster_bits = CLUSTER_BITS,
        .size = size_bytes,
        .l1_offset = L1_TABLE,
        .refcount_offset = REFCOUNT_TABLE,
        .refcount_clusters = 1,
        .refcount_order = 4,
    };
    uint64_t used;
    size_t len;

    if (size_bytes % 512 != 0 || size_bytes > QCOW2_SIZE_MAX)
        return im_fail(err, IM_BAD_MESSAGE, "a disk cannot have %" PRIu64 " bytes", size_bytes);
    if (backing != NULL && !backing_check(backing, backing_format, err))
        return false;
    header.l1_size = (uint32_t) l1_size_for(size_bytes);
    used = L1_TABLE / CLUSTER + round_up(header.l1_size * 8ull, CLUSTER) / CLUSTER;
    len = head_put(head, &header, backing, backing_format);
    put64(table, REFCOUNT_BLOCK);
    for (uint64_t i = 0; i < used; i++)
        put16(counts + 2 * i, 1);

    if (!im_pwrite_all(fd, head, len, 0, "the image's header", err) ||
        !im_pwrite_all(fd, table, sizeof(table), REFCOUNT_TABLE, "the refcount table", err) ||
        !im_pwrite_all(fd, counts, 2 * used, REFCOUNT_BLOCK, "the refcounts", err))
        return false;
    if (ftruncate(fd, (off_t) (used * CLUSTER)) < 0)
        return im_fail_sys(err, errno, "cannot set the length of the image");
    return true;
}

/* The name comes last in the header's cluster, for QEMU as for us. */
bool qcow2_backing_rename(int fd, const char *backing, struct im_err *err) {
    IM_AUTO(free_auto) unsigned char *bytes = NULL;
    struct header header;
    struct stat st;
    size_t end;

    if (!backing_check(backing, "qcow2", err))
        return false;
    if (fstat(fd, &st) < 0)
        return im_fail_sys(err, errno, "cannot look at the image");
    if (!header_read(fd, (uint64_t) st.st_size, &header, err))
        return false;
    if (header.backing_offset == 0)
        return im_fail(err, IM_UNSUPPORTED, "the image has no backing file");
    if (header.backing_offset < HEADER_V2 ||
        header.backing_offset + strlen(backing) > 1ull << header.cluster_bits)
        return im_fail(err, IM_BAD_IMAGE, "the backing file name does not lie in the header");
    end = (size_t) header.backing_offset + strlen(backing);
    bytes = im_alloc(end);
    if (!image_pread(fd, bytes, (size_t) header.backing_offset, 0, err))
        return false;
    put32(bytes + 16, (uint32_t) strlen(backing));
    memcpy(bytes + header.backing_offset, backing, strlen(backing));
    if (!im_pwrite_all(fd, bytes, end, 0, "the image's header", err))
        return false;
    return fdatasync(fd) == 0 || im_fail_sys(err, errno, "cannot make the image's header durable");
}
