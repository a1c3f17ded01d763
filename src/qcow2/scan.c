/* SPDX-License-Identifier: Apache-2.0 */
/* Walks all tables of an image before the first byte is copied, and finds what is used twice: such
 * images unfold to any size. */
#include "reader-private.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"

/* A bit for each cluster of the file; compressed clusters share one, so they count separately. */
struct used {
    unsigned char *plain, *packed;
    uint64_t cluster, count;
};

static void used_done(struct used *used) {
    free(used->plain);
    free(used->packed);
}

static bool test_and_set(unsigned char *bits, uint64_t at) {
    bool was = bits[at / 8] >> at % 8 & 1;

    bits[at / 8] |= (unsigned char) (1u << at % 8);
    return was;
}

/* Marks clusters as used by one thing alone. */
static bool claim(struct used *used, uint64_t offset, uint64_t bytes, const char *what,
                  struct im_err *err) {
    for (uint64_t at = offset / used->cluster; at * used->cluster < offset + bytes; at++)
        if (at >= used->count || used->packed[at / 8] >> at % 8 & 1 ||
            test_and_set(used->plain, at))
            return im_fail(err, IM_BAD_IMAGE, "qcow2: %s at %" PRIu64 " of the file is used twice",
                           what, offset);
    return true;
}

/* Compressed clusters lie side by side: no cluster of the file holds both kinds, and together they
 * take no more room than the file has, which the totals tell. */
static bool claim_packed(const struct qcow2_reader *reader, struct used *used, uint64_t entry,
                         struct im_err *err) {
    uint64_t offset, len;

    reader_packed(reader, entry, &offset, &len);
    for (uint64_t at = offset / used->cluster;
         at < used->count && at * used->cluster < offset + len; at++) {
        if (used->plain[at / 8] >> at % 8 & 1)
            return im_fail(err, IM_BAD_IMAGE,
                           "qcow2: compressed data at %" PRIu64 " of the file lies on other data",
                           offset);
        (void) test_and_set(used->packed, at);
    }
    return true;
}

struct scan {
    struct used used;
    struct qcow2_totals totals;
    uint64_t packed_room; /* bytes of the file that compressed clusters say they take */
};

static bool scan_table(struct qcow2_reader *reader, struct scan *scan, uint64_t index,
                       struct im_err *err) {
    uint64_t per_table = reader->cluster / 8, guest = index * per_table * reader->cluster;
    const uint64_t *entries;

    if (!reader_table(reader, index, &entries, err))
        return false;
    for (uint64_t i = 0; entries && i < per_table && guest < reader->header.size;
         i++, guest += reader->cluster) {
        enum qcow2_kind kind;
        uint64_t offset, len;

        if (entries[i] == 0)
            continue;
        if (!reader_entry(reader, entries[i], guest, &kind, err))
            return false;
        if (kind == QCOW2_DATA) {
            scan->totals.data_bytes += reader->cluster;
            if (!claim(&scan->used, entries[i] & ENTRY_OFFSET, 1, "data", err))
                return false;
        } else if (kind == QCOW2_COMPRESSED) {
            reader_packed(reader, entries[i], &offset, &len);
            scan->totals.compressed_bytes += reader->cluster;
            scan->packed_room += len > 512 ? len - 511 : 1;
            if (!claim_packed(reader, &scan->used, entries[i], err))
                return false;
        }
    }
    return true;
}

static bool scan_all(struct qcow2_reader *reader, struct scan *scan, struct im_err *err) {
    const struct header *header = &reader->header;

    if (!claim(&scan->used, 0, 1, "the header", err) ||
        !claim(&scan->used, header->l1_offset, header->l1_size * 8ull, "the L1 table", err))
        return false;
    for (uint64_t i = 0; i < reader->l1_count; i++)
        if (reader->l1[i] && !claim(&scan->used, reader->l1[i], 1, "an L2 table", err))
            return false;
    for (uint64_t i = 0; i < reader->l1_count; i++)
        if (reader->l1[i] && !scan_table(reader, scan, i, err))
            return false;
    if (scan->packed_room > reader->file_size)
        return im_fail(err, IM_BAD_IMAGE, "qcow2: compressed clusters share their bytes");
    return true;
}

bool qcow2_reader_scan(struct qcow2_reader *reader, struct qcow2_totals *ret_totals,
                       struct im_err *err) {
    uint64_t count = reader->file_size / reader->cluster + 1;
    struct scan scan = {.used = {.plain = calloc(count / 8 + 1, 1),
                                 .packed = calloc(count / 8 + 1, 1),
                                 .cluster = reader->cluster,
                                 .count = count}};
    bool fine = scan.used.plain && scan.used.packed
                    ? scan_all(reader, &scan, err)
                    : im_fail(err, IM_NO_RESOURCE, "qcow2: its map does not fit into memory");

    used_done(&scan.used);
    if (fine)
        *ret_totals = scan.totals;
    return fine;
}
