/* SPDX-License-Identifier: Apache-2.0 */
/* VMware's VMDK, where header, descriptor and data are one file: monolithicSparse and
 * streamOptimized. The other kinds name further files and are refused. */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <zlib.h>

#include "base/mem.h"
#include "base/str.h"
#include "guest-private.h"
#include "vmdk-private.h"

#define SECTOR 512u
#define TABLE_ENTRIES 512u
#define GRAIN_MAX 65536u /* as VMware and QEMU write it; compressed ones are unpacked in memory */

enum { FLAG_NEWLINES = 1, FLAG_ZERO_GRAINS = 4, FLAG_COMPRESSED = 1 << 16, FLAG_MARKERS = 1 << 17 };

struct vmdk_head {
    uint32_t version, flags, table_entries;
    uint64_t capacity, grain, descriptor, descriptor_sectors, directory, overhead;
    bool newlines_whole;
    unsigned compression;
};

struct vmdk {
    uint64_t grain_bytes, directory_count;
    uint32_t *directory; /* sectors of the grain tables, 0 = none */
    uint32_t *table;     /* the one that was used last */
    uint64_t table_index;
    bool compressed, zero_grains;
    uint64_t lowest;      /* no grain begins before: tables and descriptor lie there */
    uint64_t grain_index; /* in `unpacked`; UINT64_MAX = none */
    uint8_t *packed, *unpacked;
};

static void vmdk_close(void *state) {
    struct vmdk *vmdk = state;

    if (!vmdk)
        return;
    free(vmdk->directory);
    free(vmdk->table);
    free(vmdk->packed);
    free(vmdk->unpacked);
    free(vmdk);
}
IM_DEFINE_AUTO(struct vmdk *, vmdk_close)

static void parse_head(const uint8_t *p, struct vmdk_head *head) {
    *head = (struct vmdk_head){.version = le32(p + 4),
                               .flags = le32(p + 8),
                               .capacity = le64(p + 12),
                               .grain = le64(p + 20),
                               .descriptor = le64(p + 28),
                               .descriptor_sectors = le64(p + 36),
                               .table_entries = le32(p + 44),
                               .directory = le64(p + 56),
                               .overhead = le64(p + 64),
                               .newlines_whole = memcmp(p + 73, "\n \r\n", 4) == 0,
                               .compression = le16(p + 77)};
}

/* A stream writes its directory last and repeats the header in a footer behind it. */
static bool read_head(const struct guest_image *image, struct vmdk_head *head, struct im_err *err) {
    uint8_t sector[SECTOR];

    if (!guest_read_at(image, 0, sector, SECTOR, "vmdk: its header", err))
        return false;
    parse_head(sector, head);
    if (head->directory != UINT64_MAX)
        return true;
    if (image->file_size < 3 * SECTOR ||
        !guest_read_at(image, image->file_size / SECTOR * SECTOR - 2 * SECTOR, sector, SECTOR,
                       "vmdk: its footer", err) ||
        memcmp(sector, "KDMV", 4) != 0)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: the stream has no footer (cut short?)");
    parse_head(sector, head);
    if (head->directory == UINT64_MAX)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: its footer does not say where the directory is");
    return true;
}

static bool check_head(const struct guest_image *image, const struct vmdk_head *head,
                       struct im_err *err) {
    if (head->version < 1 || head->version > 3)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: version %u is not known", head->version);
    if ((head->flags & FLAG_NEWLINES) && !head->newlines_whole)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: it was damaged by a transfer as text");
    if (head->compression > 1 || (head->flags & FLAG_COMPRESSED && head->compression != 1))
        return im_fail(err, IM_BAD_IMAGE, "vmdk: compression %u is not known", head->compression);
    if (!power_of_two(head->grain) || head->grain < 8 || head->grain > GRAIN_MAX / SECTOR)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: grains of %" PRIu64 " sectors are not possible",
                       head->grain);
    if (head->table_entries != TABLE_ENTRIES)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: grain tables of %u entries are not possible",
                       head->table_entries);
    if (head->capacity > UINT64_MAX / SECTOR)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: its capacity overflows");
    return guest_size_ok(image, "vmdk", head->capacity * SECTOR, err);
}

static bool check_descriptor(const struct guest_image *image, const struct vmdk_head *head,
                             struct im_err *err) {
    IM_AUTO(free_auto) void *bytes = NULL;
    IM_AUTO(free_auto) char *text = NULL;

    if (head->descriptor == 0 || head->descriptor_sectors == 0)
        return im_fail(err, IM_BAD_IMAGE,
                       "vmdk: it has no descriptor (one extent of a split disk?)");
    if (head->descriptor > image->file_size / SECTOR || head->descriptor_sectors > 128)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: its descriptor lies beyond the end of the file");
    if (!guest_read_table(image, head->descriptor * SECTOR, head->descriptor_sectors * SECTOR,
                          "vmdk: its descriptor", &bytes, err))
        return false;
    text = im_strndup(bytes, head->descriptor_sectors * SECTOR);
    return vmdk_descriptor_check(text, err);
}

static bool read_directory(const struct guest_image *image, const struct vmdk_head *head,
                           struct vmdk *vmdk, struct im_err *err) {
    uint64_t span = head->grain * SECTOR * TABLE_ENTRIES;
    IM_AUTO(free_auto) void *table = NULL;

    vmdk->grain_bytes = head->grain * SECTOR;
    vmdk->directory_count = ceil_div(image->size, span);
    if (head->directory > image->file_size / SECTOR)
        return im_fail(err, IM_BAD_IMAGE,
                       "vmdk: its grain directory lies beyond the end of the file");
    if (!guest_read_table(image, head->directory * SECTOR, vmdk->directory_count * 4,
                          "vmdk: its grain directory", &table, err))
        return false;
    vmdk->directory = im_steal(&table);
    for (uint64_t i = 0; i < vmdk->directory_count; i++) {
        uint64_t sector = vmdk->directory[i] = le32((uint8_t *) &vmdk->directory[i]);

        if (sector == 0 || (sector == 1 && vmdk->zero_grains)) {
            vmdk->directory[i] = 0;
            continue;
        }
        if (sector * SECTOR + TABLE_ENTRIES * 4 > image->file_size)
            return im_fail(
                err, IM_BAD_IMAGE,
                "vmdk: grain table %" PRIu64 " lies beyond the end of the file (cut short?)", i);
    }
    return true;
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

    return x < y ? -1 : x > y;
}

/* Tables that are used twice are what bombs are made of. */
static bool check_twice(const struct vmdk *vmdk, struct im_err *err) {
    IM_AUTO(free_auto) uint32_t *sorted = im_realloc_array(NULL, vmdk->directory_count + 1, 4);

    memcpy(sorted, vmdk->directory, vmdk->directory_count * 4);
    qsort(sorted, vmdk->directory_count, 4, by_value);
    for (uint64_t i = 1; i < vmdk->directory_count; i++)
        if (sorted[i] && sorted[i] - sorted[i - 1] < TABLE_ENTRIES * 4 / SECTOR && sorted[i - 1])
            return im_fail(err, IM_BAD_IMAGE, "vmdk: two grain tables share one place in the file");
    return true;
}

static bool load_table(const struct guest_image *image, struct vmdk *vmdk, uint64_t index,
                       struct im_err *err) {
    if (vmdk->table_index == index)
        return true;
    vmdk->table_index = UINT64_MAX;
    if (!guest_read_at(image, (uint64_t) vmdk->directory[index] * SECTOR, vmdk->table,
                       TABLE_ENTRIES * 4, "vmdk: a grain table", err))
        return false;
    for (unsigned i = 0; i < TABLE_ENTRIES; i++)
        vmdk->table[i] = le32((uint8_t *) &vmdk->table[i]);
    vmdk->table_index = index;
    return true;
}

/* 0 when the grain holds nothing, else its place in the file. */
static bool find_grain(struct guest_image *image, uint64_t grain, uint64_t *ret_at,
                       struct im_err *err) {
    struct vmdk *vmdk = image->state;
    uint64_t table = grain / TABLE_ENTRIES, need = vmdk->grain_bytes, sector;

    *ret_at = 0;
    if (vmdk->directory[table] == 0)
        return true;
    if (!load_table(image, vmdk, table, err))
        return false;
    sector = vmdk->table[grain % TABLE_ENTRIES];
    if (sector == 0 || (sector == 1 && vmdk->zero_grains))
        return true;
    if (need > image->size - grain * vmdk->grain_bytes)
        need = image->size - grain * vmdk->grain_bytes;
    if (sector * SECTOR < vmdk->lowest)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: grain %" PRIu64 " lies on the header", grain);
    if (sector * SECTOR > image->file_size ||
        (vmdk->compressed ? SECTOR : need) > image->file_size - sector * SECTOR)
        return im_fail(err, IM_BAD_IMAGE,
                       "vmdk: grain %" PRIu64 " lies beyond the end of the file (cut short?)",
                       grain);
    *ret_at = sector * SECTOR;
    return true;
}

static bool vmdk_map(struct guest_image *image, uint64_t offset, struct guest_extent *extent,
                     struct im_err *err) {
    struct vmdk *vmdk = image->state;
    uint64_t grain = offset / vmdk->grain_bytes, inside = offset % vmdk->grain_bytes;
    uint64_t at, next, end, last = (image->size - 1) / vmdk->grain_bytes;
    unsigned steps = 0;

    if (!find_grain(image, grain, &at, err))
        return false;
    next = at;
    end = grain;
    /* Joined where alike, as far as four tables go. */
    while (end < last && steps++ < 4 * TABLE_ENTRIES) {
        uint64_t wanted = at == 0 ? 0 : next + vmdk->grain_bytes;

        if (at != 0 && vmdk->compressed)
            break;
        if (!find_grain(image, end + 1, &next, err))
            return false;
        if (next != wanted)
            break;
        end++;
    }
    end = (end + 1) * vmdk->grain_bytes;
    if (end > image->size)
        end = image->size;
    *extent = (struct guest_extent){at == 0            ? GUEST_ZERO
                                    : vmdk->compressed ? GUEST_PACKED
                                                       : GUEST_DATA,
                                    offset, end - offset, at == 0 ? 0 : at + inside};
    return true;
}

/* A compressed grain: its first sector (8 bytes), its length (4), then a zlib stream. */
static bool unpack_grain(struct guest_image *image, uint64_t grain, struct im_err *err) {
    struct vmdk *vmdk = image->state;
    uint8_t head[12];
    uint64_t at;
    uLongf len = vmdk->grain_bytes;
    uint32_t packed;

    if (vmdk->grain_index == grain)
        return true;
    if (!find_grain(image, grain, &at, err) ||
        !guest_read_at(image, at, head, sizeof(head), "vmdk: a grain", err))
        return false;
    packed = le32(head + 8);
    if (le64(head) != grain * (vmdk->grain_bytes / SECTOR))
        return im_fail(err, IM_BAD_IMAGE, "vmdk: grain %" PRIu64 " says it is another one", grain);
    if (packed == 0 || packed > 2 * GRAIN_MAX)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: grain %" PRIu64 " has an impossible length",
                       grain);
    vmdk->grain_index = UINT64_MAX;
    if (!guest_read_at(image, at + sizeof(head), vmdk->packed, packed, "vmdk: a grain", err))
        return false;
    memset(vmdk->unpacked, 0, vmdk->grain_bytes);
    if (uncompress(vmdk->unpacked, &len, vmdk->packed, packed) != Z_OK)
        return im_fail(err, IM_BAD_IMAGE, "vmdk: grain %" PRIu64 " does not decompress", grain);
    vmdk->grain_index = grain;
    return true;
}

static bool vmdk_unpack(struct guest_image *image, uint64_t offset, uint8_t *bytes, size_t len,
                        struct im_err *err) {
    struct vmdk *vmdk = image->state;

    while (len > 0) {
        uint64_t inside = offset % vmdk->grain_bytes;
        size_t now = vmdk->grain_bytes - inside < len ? vmdk->grain_bytes - inside : len;

        if (!unpack_grain(image, offset / vmdk->grain_bytes, err))
            return false;
        memcpy(bytes, vmdk->unpacked + inside, now);
        bytes += now;
        offset += now;
        len -= now;
    }
    return true;
}

static bool vmdk_open(struct guest_image *image, struct im_err *err) {
    IM_AUTO(vmdk_close_auto) struct vmdk *vmdk = im_alloc(sizeof(*vmdk));
    struct vmdk_head head;

    if (!read_head(image, &head, err) || !check_head(image, &head, err))
        return false;
    /* The descriptor is only in front, even of a stream. */
    if (head.descriptor == 0) {
        uint8_t sector[SECTOR];

        if (!guest_read_at(image, 0, sector, SECTOR, "vmdk: its header", err))
            return false;
        head.descriptor = le64(sector + 28);
        head.descriptor_sectors = le64(sector + 36);
    }
    if (!check_descriptor(image, &head, err))
        return false;
    image->size = head.capacity * SECTOR;
    vmdk->zero_grains = head.flags & FLAG_ZERO_GRAINS;
    vmdk->compressed = head.flags & FLAG_COMPRESSED;
    vmdk->lowest = (head.descriptor + head.descriptor_sectors) * SECTOR;
    if (!read_directory(image, &head, vmdk, err) || !check_twice(vmdk, err))
        return false;
    vmdk->table = im_realloc_array(NULL, TABLE_ENTRIES, 4);
    vmdk->packed = im_alloc(2 * GRAIN_MAX);
    vmdk->unpacked = im_alloc(GRAIN_MAX);
    vmdk->table_index = vmdk->grain_index = UINT64_MAX;
    image->state = im_steal(&vmdk);
    return true;
}

const struct guest_ops guest_vmdk = {.format = GUEST_VMDK,
                                     .open = vmdk_open,
                                     .close = vmdk_close,
                                     .map = vmdk_map,
                                     .unpack = vmdk_unpack};
