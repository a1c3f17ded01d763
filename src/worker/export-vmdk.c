/* SPDX-License-Identifier: Apache-2.0 */
/* Exports as VMDK, the streamOptimized kind: grains of 64 KiB, each deflated, with their tables
 * behind them, written from the first byte to the last. Several threads deflate. */
#include <endian.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/mem.h"
#include "qcow2/qcow2.h"
#include "worker-private.h"

#define SECTOR 512u
#define GRAIN QCOW2_CLUSTER
#define GRAIN_SECTORS (GRAIN / SECTOR)
#define TABLE_ENTRIES 512u
#define OVERHEAD 128u   /* sectors in front of the first grain */
#define BATCH 64u       /* grains that are deflated together */
#define MARKER_HEAD 12u /* a grain's: its sector and its size */
#define PACKED_MAX (GRAIN + 4096u)
#define LEVEL 5
#define LANES_MAX 8u
#define GD_AT_END UINT64_MAX

enum marker { MARKER_END, MARKER_TABLE, MARKER_DIRECTORY, MARKER_FOOTER };

struct header {
    uint32_t magic, version, flags;
    uint64_t capacity, grain_sectors, descriptor_at, descriptor_sectors;
    uint32_t table_entries;
    uint64_t redundant_at, directory_at, overhead;
    uint8_t unclean;
    char newlines[4];
    uint16_t compression;
    uint8_t pad[433];
} __attribute__((packed));
_Static_assert(sizeof(struct header) == SECTOR, "one sector");

struct grain {
    uint64_t offset;
    size_t len; /* deflated */
    bool failed;
    uint8_t plain[GRAIN], packed[PACKED_MAX];
};

struct lane {
    struct vmdk *vmdk;
    z_stream stream;
    pthread_t thread;
};

struct vmdk {
    uint64_t at;         /* sectors of the file so far */
    uint32_t *directory; /* where the tables lie */
    size_t tables;
    uint32_t table[TABLE_ENTRIES]; /* of the grains that come now */
    size_t current;
    bool table_used;
    struct grain *grains;
    size_t count; /* waiting in the batch */

    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t work, done;
    size_t next, finished, offered;
    bool stop;
    struct lane lanes[LANES_MAX];
    unsigned running;
};

/* --- Deflating, several at once --------------------------------------------------------------- */

static void deflate_grain(struct grain *grain, z_stream *stream) {
    stream->next_in = grain->plain;
    stream->avail_in = GRAIN;
    stream->next_out = grain->packed;
    stream->avail_out = PACKED_MAX;
    grain->failed = deflateReset(stream) != Z_OK || deflate(stream, Z_FINISH) != Z_STREAM_END;
    grain->len = PACKED_MAX - stream->avail_out;
}

/* Call with the lock held. */
static void take_grains(struct vmdk *vmdk, z_stream *stream) {
    while (vmdk->next < vmdk->offered) {
        struct grain *grain = &vmdk->grains[vmdk->next++];

        pthread_mutex_unlock(&vmdk->lock);
        deflate_grain(grain, stream);
        pthread_mutex_lock(&vmdk->lock);
        vmdk->finished++;
    }
    if (vmdk->finished == vmdk->offered)
        pthread_cond_signal(&vmdk->done);
}

static void *deflate_main(void *arg) {
    struct lane *lane = arg;
    struct vmdk *vmdk = lane->vmdk;

    pthread_mutex_lock(&vmdk->lock);
    while (!vmdk->stop) {
        take_grains(vmdk, &lane->stream);
        if (!vmdk->stop)
            pthread_cond_wait(&vmdk->work, &vmdk->lock);
    }
    pthread_mutex_unlock(&vmdk->lock);
    return NULL;
}

static bool start_lanes(struct outlet *outlet, struct vmdk *vmdk, struct im_err *err) {
    while (vmdk->running < outlet->threads && vmdk->running < LANES_MAX) {
        struct lane *lane = &vmdk->lanes[vmdk->running];

        lane->vmdk = vmdk;
        if (deflateInit(&lane->stream, LEVEL) != Z_OK)
            break;
        if (pthread_create(&lane->thread, NULL, deflate_main, lane) != 0) {
            (void) deflateEnd(&lane->stream);
            break;
        }
        vmdk->running++;
    }
    return vmdk->running > 0 || im_fail(err, IM_NO_RESOURCE, "no memory or threads to deflate");
}

/* --- Pieces of the file ----------------------------------------------------------------------- */

static bool append(struct outlet *outlet, struct vmdk *vmdk, const void *bytes, size_t len,
                   struct im_err *err) {
    static const uint8_t zeros[SECTOR];
    size_t rest = (SECTOR - len % SECTOR) % SECTOR;

    vmdk->at += (len + rest) / SECTOR;
    if (vmdk->at > UINT32_MAX)
        return im_fail(err, IM_UNSUPPORTED,
                       "a VMDK holds at most 2 TiB; export the disk as qcow2 or raw");
    return outlet_append(outlet, bytes, len, err) && outlet_append(outlet, zeros, rest, err);
}

static bool append_marker(struct outlet *outlet, struct vmdk *vmdk, uint64_t sectors,
                          enum marker kind, struct im_err *err) {
    struct {
        uint64_t value;
        uint32_t size, type;
    } __attribute__((packed)) marker = {htole64(sectors), 0, htole32(kind)};

    return append(outlet, vmdk, &marker, sizeof(marker), err);
}

static struct header header_of(const struct outlet *outlet, uint64_t directory_at) {
    return (struct header){.magic = htole32(0x564d444b),
                           .version = htole32(3),
                           .flags = htole32(0x30001), /* newlines told, deflated, markers */
                           .capacity = htole64(outlet->size / SECTOR),
                           .grain_sectors = htole64(GRAIN_SECTORS),
                           .descriptor_at = htole64(1),
                           .descriptor_sectors = htole64(OVERHEAD - 1),
                           .table_entries = htole32(TABLE_ENTRIES),
                           .directory_at = htole64(directory_at),
                           .overhead = htole64(OVERHEAD),
                           .newlines = {'\n', ' ', '\r', '\n'},
                           .compression = htole16(1)};
}

/* The geometry is what BIOSes make of a disk of that size; nobody boots by it. */
static char *descriptor(const struct outlet *outlet) {
    uint64_t sectors = outlet->size / SECTOR, cylinders = sectors / (255 * 63);

    return im_printf("# Disk DescriptorFile\n"
                     "version=1\n"
                     "CID=fffffffe\n"
                     "parentCID=ffffffff\n"
                     "createType=\"streamOptimized\"\n"
                     "\n"
                     "# Extent description\n"
                     "RDONLY %" PRIu64 " SPARSE \"disk.vmdk\"\n"
                     "\n"
                     "# The Disk Data Base\n"
                     "#DDB\n"
                     "\n"
                     "ddb.virtualHWVersion = \"4\"\n"
                     "ddb.geometry.cylinders = \"%" PRIu64 "\"\n"
                     "ddb.geometry.heads = \"255\"\n"
                     "ddb.geometry.sectors = \"63\"\n"
                     "ddb.adapterType = \"lsilogic\"\n",
                     sectors, cylinders > 65535 ? 65535 : cylinders);
}

static bool append_table(struct outlet *outlet, struct vmdk *vmdk, struct im_err *err) {
    if (!vmdk->table_used)
        return true;
    if (!append_marker(outlet, vmdk, sizeof(vmdk->table) / SECTOR, MARKER_TABLE, err))
        return false;
    vmdk->directory[vmdk->current] = htole32((uint32_t) vmdk->at);
    if (!append(outlet, vmdk, vmdk->table, sizeof(vmdk->table), err))
        return false;
    memset(vmdk->table, 0, sizeof(vmdk->table));
    vmdk->table_used = false;
    return true;
}

static bool append_grain(struct outlet *outlet, struct vmdk *vmdk, const struct grain *grain,
                         struct im_err *err) {
    uint64_t number = grain->offset / GRAIN;
    uint8_t bytes[MARKER_HEAD + PACKED_MAX];
    uint64_t sector = htole64(grain->offset / SECTOR);
    uint32_t len = htole32((uint32_t) grain->len);

    if (grain->failed)
        return im_fail(err, IM_INTERNAL, "zlib does not deflate");
    if (number / TABLE_ENTRIES != vmdk->current && !append_table(outlet, vmdk, err))
        return false;
    vmdk->current = number / TABLE_ENTRIES;
    vmdk->table[number % TABLE_ENTRIES] = htole32((uint32_t) vmdk->at);
    vmdk->table_used = true;
    memcpy(bytes, &sector, sizeof(sector));
    memcpy(bytes + sizeof(sector), &len, sizeof(len));
    memcpy(bytes + MARKER_HEAD, grain->packed, grain->len);
    return append(outlet, vmdk, bytes, MARKER_HEAD + grain->len, err);
}

/* --- The format ------------------------------------------------------------------------------- */

static bool flush_batch(struct outlet *outlet, struct vmdk *vmdk, struct im_err *err) {
    pthread_mutex_lock(&vmdk->lock);
    vmdk->next = vmdk->finished = 0;
    vmdk->offered = vmdk->count;
    pthread_cond_broadcast(&vmdk->work);
    while (vmdk->finished < vmdk->offered)
        pthread_cond_wait(&vmdk->done, &vmdk->lock);
    pthread_mutex_unlock(&vmdk->lock);
    for (size_t i = 0; i < vmdk->count; i++)
        if (!append_grain(outlet, vmdk, &vmdk->grains[i], err))
            return false;
    vmdk->count = 0;
    return true;
}

static bool vmdk_begin(struct outlet *outlet, void **ret_state, struct im_err *err) {
    struct vmdk *vmdk = im_alloc(sizeof(*vmdk));
    struct header header = header_of(outlet, GD_AT_END);
    IM_AUTO(free_auto) char *text = im_alloc((OVERHEAD - 1) * SECTOR);
    IM_AUTO(free_auto) char *words = descriptor(outlet);
    uint64_t grains = (outlet->size + GRAIN - 1) / GRAIN;

    *ret_state = vmdk;
    (void) pthread_mutex_init(&vmdk->lock, NULL);
    (void) pthread_cond_init(&vmdk->work, NULL);
    (void) pthread_cond_init(&vmdk->done, NULL);
    vmdk->tables = (size_t) ((grains + TABLE_ENTRIES - 1) / TABLE_ENTRIES);
    vmdk->directory = im_alloc(vmdk->tables * sizeof(*vmdk->directory));
    vmdk->grains = im_alloc(BATCH * sizeof(*vmdk->grains));
    memcpy(text, words, strlen(words));
    return start_lanes(outlet, vmdk, err) && append(outlet, vmdk, &header, SECTOR, err) &&
           append(outlet, vmdk, text, (OVERHEAD - 1) * SECTOR, err);
}

static bool vmdk_window(struct outlet *outlet, void *state, uint64_t offset, const uint8_t *bytes,
                        size_t len, struct im_err *err) {
    struct vmdk *vmdk = state;

    for (size_t at = 0; at < len; at += GRAIN) {
        size_t now = len - at < GRAIN ? len - at : GRAIN;
        struct grain *grain = &vmdk->grains[vmdk->count];

        if (im_all_zero(bytes + at, now))
            continue;
        grain->offset = offset + at;
        memcpy(grain->plain, bytes + at, now);
        memset(grain->plain + now, 0, GRAIN - now);
        if (++vmdk->count == BATCH && !flush_batch(outlet, vmdk, err))
            return false;
    }
    return true;
}

static bool vmdk_end(struct outlet *outlet, void *state, struct im_err *err) {
    struct vmdk *vmdk = state;
    size_t len = vmdk->tables * sizeof(*vmdk->directory);
    struct header footer;

    if (!flush_batch(outlet, vmdk, err) || !append_table(outlet, vmdk, err) ||
        !append_marker(outlet, vmdk, (len + SECTOR - 1) / SECTOR, MARKER_DIRECTORY, err))
        return false;
    footer = header_of(outlet, vmdk->at);
    return append(outlet, vmdk, vmdk->directory, len, err) &&
           append_marker(outlet, vmdk, 1, MARKER_FOOTER, err) &&
           append(outlet, vmdk, &footer, SECTOR, err) &&
           append_marker(outlet, vmdk, 0, MARKER_END, err) && outlet_flush(outlet, err);
}

static void vmdk_free(void *state) {
    struct vmdk *vmdk = state;

    if (vmdk == NULL)
        return;
    pthread_mutex_lock(&vmdk->lock);
    vmdk->stop = true;
    pthread_cond_broadcast(&vmdk->work);
    pthread_mutex_unlock(&vmdk->lock);
    for (unsigned i = 0; i < vmdk->running; i++) {
        (void) pthread_join(vmdk->lanes[i].thread, NULL);
        (void) deflateEnd(&vmdk->lanes[i].stream);
    }
    (void) pthread_cond_destroy(&vmdk->done);
    (void) pthread_cond_destroy(&vmdk->work);
    (void) pthread_mutex_destroy(&vmdk->lock);
    free(vmdk->grains);
    free(vmdk->directory);
    free(vmdk);
}

const struct export_format export_vmdk = {"vmdk", vmdk_begin, vmdk_window, vmdk_end, vmdk_free};
