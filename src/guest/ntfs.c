/* SPDX-License-Identifier: Apache-2.0 */
/* Files of NTFS: records, attributes and their bytes. A node is a record's number, and beside it
 * the sequence number that tells whether it is still the same file; 0 = any. */
#include "ntfs.h"

#include <stdio.h>

#define LIST_BYTES (256u << 10) /* NTFS itself allows no more */
#define RUNS_MAX 65536u
#define CLUSTER_BYTES (2u << 20)
#define RECORD_BYTES 4096u
#define UNIT_BYTES 65536u /* 16 clusters of 4 KiB: larger ones cannot be compressed */
#define NUMBER_MASK 0xffffffffffffull

enum { IN_USE = 1, IS_FOLDER = 2, COMPRESSED = 0x00ff, ENCRYPTED = 0x4000 };
enum { FILE_REPARSES = 0x400 };
#define TAG_SURROGATE 0x20000000u /* stands for something else: links, junctions */
#define TAG_WOF 0x80000017u
#define TAG_DEDUP 0x80000013u

/* --- Records ---------------------------------------------------------------------------------- */

bool ntfs_fix(uint8_t *bytes, size_t len) {
    size_t at = le16(bytes + 4), count = le16(bytes + 6);

    if (count != len / SECTOR + 1 || at % 2 != 0 || at + 2 * count > SECTOR - 2)
        return false;
    for (size_t i = 1; i < count; i++) {
        uint8_t *end = bytes + i * SECTOR - 2;

        if (!checksum_fits(le16(end), le16(bytes + at)))
            return false;
        memcpy(end, bytes + at + 2 * i, 2);
    }
    return true;
}

bool ntfs_record(struct ntfs *fs, uint64_t number, uint8_t *record) {
    uint64_t at;
    size_t got;

    return !__builtin_mul_overflow(number, fs->record, &at) &&
           ntfs_stream_read(fs, &fs->mft, at, record, fs->record, &got) && got == fs->record &&
           memcmp(record, "FILE", 4) == 0 && ntfs_fix(record, fs->record) &&
           (le16(record + 22) & IN_USE) && le32(record + 24) <= fs->record;
}

bool ntfs_inode(struct ntfs *fs, const struct node *node, uint8_t *record) {
    return ntfs_record(fs, node->id, record) && (le64(record + 32) & NUMBER_MASK) == 0 &&
           (node->within == 0 || node->within == le16(record + 16));
}

/* --- Attributes ------------------------------------------------------------------------------- */

struct attribute {
    uint32_t type, len;
    const uint8_t *bytes; /* its head, within the record */
    bool resident;
    uint64_t first; /* cluster of the stream that this piece begins with */
};

/* Steps to the next one; `*at` is 0 before the first. */
static bool next_attribute(const uint8_t *record, size_t *at, struct attribute *ret_attribute) {
    size_t used = le32(record + 24);
    struct attribute attribute = {0};

    if (*at == 0)
        *at = le16(record + 20);
    if (*at % 8 != 0 || *at < 42 || *at + 24 > used || le32(record + *at) == UINT32_MAX)
        return false;
    attribute.bytes = record + *at;
    attribute.type = le32(attribute.bytes);
    attribute.len = le32(attribute.bytes + 4);
    attribute.resident = attribute.bytes[8] == 0;
    if (attribute.len < (attribute.resident ? 24u : 64u) || attribute.len > used - *at ||
        attribute.len % 8 != 0)
        return false;
    if (!attribute.resident)
        attribute.first = le64(attribute.bytes + 16);
    *at += attribute.len;
    *ret_attribute = attribute;
    return true;
}

/* Names are UTF-16, and all that are asked for are ASCII. */
static bool same_name(const uint8_t *wide, size_t count, const char *name) {
    if (strlen(name) != count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (le16(wide + 2 * i) != (uint8_t) name[i])
            return false;
    return true;
}

/* The piece of an attribute that begins with that cluster. */
static bool find_attribute(const uint8_t *record, enum ntfs_type type, const char *name,
                           uint64_t first, struct attribute *ret_attribute) {
    struct attribute attribute;

    for (size_t at = 0; next_attribute(record, &at, &attribute);) {
        size_t name_at = le16(attribute.bytes + 10), count = attribute.bytes[9];

        if (attribute.type != type || attribute.first != first ||
            name_at + 2 * count > attribute.len ||
            !same_name(attribute.bytes + name_at, count, name))
            continue;
        *ret_attribute = attribute;
        return true;
    }
    return false;
}

/* --- Streams ---------------------------------------------------------------------------------- */

void ntfs_stream_close(struct ntfs_stream *stream) {
    free(stream->resident);
    free(stream->runs);
    free(stream->unpacked);
    *stream = (struct ntfs_stream){0};
}

static bool take_resident(struct ntfs_stream *stream, const struct attribute *attribute) {
    uint32_t len = le32(attribute->bytes + 16), at = le16(attribute->bytes + 20);

    if (at > attribute->len || len > attribute->len - at)
        return false;
    stream->resident = im_alloc(len + 1);
    memcpy(stream->resident, attribute->bytes + at, len);
    stream->size = stream->filled = len;
    return true;
}

/* A number of 1 to 8 bytes; the last one's highest bit is the sign. */
static int64_t packed_number(const uint8_t *bytes, unsigned len) {
    uint64_t value = bytes[len - 1] & 0x80 ? UINT64_MAX : 0;

    for (unsigned i = len; i-- > 0;)
        value = value << 8 | bytes[i];
    return (int64_t) value;
}

static bool add_run(const struct ntfs *fs, struct ntfs_stream *stream, int64_t len, uint64_t lcn) {
    if (len <= 0 || stream->count == RUNS_MAX || (uint64_t) len > (UINT64_MAX >> 24) ||
        stream->clusters > (UINT64_MAX >> 24) ||
        (lcn != NTFS_HOLE && (lcn >= fs->clusters || (uint64_t) len > fs->clusters - lcn)))
        return false;
    im_grow(&stream->runs, stream->count, &stream->capacity);
    stream->runs[stream->count++] =
        (struct ntfs_run){.vcn = stream->clusters, .len = (uint64_t) len, .lcn = lcn};
    stream->clusters += (uint64_t) len;
    return true;
}

/* Each run is told by its length and how far it is from the one before. */
static bool take_runs(const struct ntfs *fs, struct ntfs_stream *stream,
                      const struct attribute *attribute) {
    size_t at = le16(attribute->bytes + 32);
    uint64_t lcn = 0;

    while (at < attribute->len && attribute->bytes[at] != 0) {
        unsigned len = attribute->bytes[at] & 15, far = attribute->bytes[at] >> 4;
        const uint8_t *from = attribute->bytes + at + 1;

        if (len == 0 || len > 8 || far > 8 || at + 1 + len + far > attribute->len)
            return false;
        if (far > 0)
            lcn += (uint64_t) packed_number(from + len, far);
        if (!add_run(fs, stream, packed_number(from, len), far > 0 ? lcn : NTFS_HOLE))
            return false;
        at += 1 + len + far;
    }
    return true;
}

/* Pieces come in order, without a gap; the first one tells the sizes. */
static bool take_piece(const struct ntfs *fs, struct ntfs_stream *stream,
                       const struct attribute *attribute) {
    const uint8_t *bytes = attribute->bytes;

    if (attribute->resident)
        return stream->count == 0 && stream->resident == NULL && take_resident(stream, attribute);
    if (stream->resident != NULL || attribute->first != stream->clusters)
        return false;
    if (attribute->first == 0) {
        unsigned shift = bytes[34];

        stream->size = le64(bytes + 48);
        stream->filled = le64(bytes + 56);
        stream->encrypted = le16(bytes + 12) & ENCRYPTED;
        if ((le16(bytes + 12) & COMPRESSED) && shift > 0) {
            if (shift > 4 || (uint64_t) fs->cluster << shift > UNIT_BYTES)
                return false;
            stream->unit = fs->cluster << shift;
        }
        if (stream->size > (uint64_t) INT64_MAX || stream->filled > stream->size)
            return false;
    }
    return take_runs(fs, stream, attribute);
}

/* What does not fit into the record lies in others, which a list names. */
static bool take_listed(struct ntfs *fs, uint64_t number, const uint8_t *record,
                        const uint8_t *list, size_t len, enum ntfs_type type, const char *name,
                        struct ntfs_stream *stream) {
    IM_AUTO(free_auto) uint8_t *other = im_alloc(fs->record);
    bool any = false;

    for (size_t at = 0; at + 26 <= len;) {
        const uint8_t *entry = list + at;
        size_t size = le16(entry + 4), count = entry[6], name_at = entry[7];
        uint64_t where = le64(entry + 16) & NUMBER_MASK;
        const uint8_t *from = where == number ? record : other;
        struct attribute attribute;

        if (size < 26 || size > len - at)
            return false;
        at += size;
        if (le32(entry) != type || name_at + 2 * count > size ||
            !same_name(entry + name_at, count, name))
            continue;
        if ((from == other &&
             (!ntfs_record(fs, where, other) || (le64(other + 32) & NUMBER_MASK) != number)) ||
            !find_attribute(from, type, name, le64(entry + 8), &attribute) ||
            !take_piece(fs, stream, &attribute))
            return false;
        any = true;
    }
    return any;
}

static bool take_stream(struct ntfs *fs, uint64_t number, const uint8_t *record,
                        enum ntfs_type type, const char *name, struct ntfs_stream *stream) {
    struct ntfs_stream listing = {0};
    IM_AUTO(free_auto) uint8_t *list = NULL;
    struct attribute attribute;
    size_t len = 0;
    bool fine;

    if (!find_attribute(record, NTFS_LIST, "", 0, &attribute))
        return find_attribute(record, type, name, 0, &attribute) &&
               take_piece(fs, stream, &attribute);
    fine = take_piece(fs, &listing, &attribute) && listing.size <= LIST_BYTES;
    if (fine) {
        list = im_alloc((size_t) listing.size + 1);
        fine = ntfs_stream_read(fs, &listing, 0, list, (size_t) listing.size, &len);
    }
    ntfs_stream_close(&listing);
    return fine && take_listed(fs, number, record, list, len, type, name, stream);
}

bool ntfs_stream_open(struct ntfs *fs, uint64_t number, const uint8_t *record, enum ntfs_type type,
                      const char *name, struct ntfs_stream *ret_stream) {
    struct ntfs_stream stream = {0};

    if (take_stream(fs, number, record, type, name, &stream)) {
        *ret_stream = stream;
        return true;
    }
    ntfs_stream_close(&stream);
    return false;
}

/* --- Bytes ------------------------------------------------------------------------------------ */

/* NULL behind the last one. */
static const struct ntfs_run *run_at(const struct ntfs_stream *stream, uint64_t vcn) {
    size_t low = 0, high = stream->count;

    if (vcn >= stream->clusters)
        return NULL;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (stream->runs[middle].vcn <= vcn)
            low = middle;
        else
            high = middle;
    }
    return &stream->runs[low];
}

/* All of it is in runs. */
static bool read_plain(const struct ntfs *fs, const struct ntfs_stream *stream, uint64_t offset,
                       uint8_t *bytes, size_t len) {
    while (len > 0) {
        const struct ntfs_run *run = run_at(stream, offset / fs->cluster);
        uint64_t within, now;

        if (run == NULL)
            return false;
        within = offset - run->vcn * fs->cluster;
        now = run->len * fs->cluster - within;
        if (now > len)
            now = len;
        if (run->lcn == NTFS_HOLE)
            memset(bytes, 0, (size_t) now);
        else if (!span_read(fs->span, run->lcn * fs->cluster + within, bytes, (size_t) now))
            return false;
        offset += now;
        bytes += now;
        len -= (size_t) now;
    }
    return true;
}

/* A unit that takes all of its clusters is not compressed, one that takes none is zeros. */
static bool load_unit(const struct ntfs *fs, struct ntfs_stream *stream, uint64_t at) {
    IM_AUTO(free_auto) uint8_t *packed = NULL;
    uint64_t first = at / fs->cluster;
    uint32_t len = 0;

    if (stream->unpacked != NULL && stream->unpacked_at == at)
        return true;
    if (stream->unpacked == NULL)
        stream->unpacked = im_alloc(UNIT_BYTES);
    stream->unpacked_at = UINT64_MAX;
    for (; len < stream->unit; len += fs->cluster) {
        const struct ntfs_run *run = run_at(stream, first + len / fs->cluster);

        if (run == NULL || run->lcn == NTFS_HOLE)
            break;
    }
    if (len == stream->unit || len == 0) {
        memset(stream->unpacked, 0, stream->unit);
        if (!read_plain(fs, stream, at, stream->unpacked, len))
            return false;
    } else if (!look_unpacks(fs->span->look, stream->unit, false)) {
        return false;
    } else {
        packed = im_alloc(len);
        if (!read_plain(fs, stream, at, packed, len) ||
            !ntfs_unpack(packed, len, stream->unpacked, stream->unit))
            return false;
    }
    stream->unpacked_at = at;
    return true;
}

static bool read_packed(const struct ntfs *fs, struct ntfs_stream *stream, uint64_t offset,
                        uint8_t *bytes, size_t len) {
    while (len > 0) {
        size_t within = (size_t) (offset % stream->unit), now = stream->unit - within;

        if (now > len)
            now = len;
        if (!load_unit(fs, stream, offset - within))
            return false;
        memcpy(bytes, stream->unpacked + within, now);
        offset += now;
        bytes += now;
        len -= now;
    }
    return true;
}

bool ntfs_stream_read(struct ntfs *fs, struct ntfs_stream *stream, uint64_t offset, void *bytes,
                      size_t len, size_t *ret_got) {
    size_t written;

    *ret_got = 0;
    if (offset >= stream->size)
        return true;
    if (len > stream->size - offset)
        len = (size_t) (stream->size - offset);
    if (stream->resident != NULL) {
        memcpy(bytes, stream->resident + offset, len);
        *ret_got = len;
        return true;
    }
    written = offset >= stream->filled        ? 0
              : stream->filled - offset < len ? (size_t) (stream->filled - offset)
                                              : len;
    memset((uint8_t *) bytes + written, 0, len - written);
    if (!(stream->unit != 0 ? read_packed(fs, stream, offset, bytes, written)
                            : read_plain(fs, stream, offset, bytes, written)))
        return false;
    *ret_got = len;
    return true;
}

uint8_t *ntfs_content(struct ntfs *fs, uint64_t number, enum ntfs_type type, size_t most,
                      size_t *ret_len) {
    IM_AUTO(free_auto) uint8_t *record = im_alloc(fs->record), *content = NULL;
    struct ntfs_stream stream;
    bool fine;

    if (!ntfs_record(fs, number, record) ||
        !ntfs_stream_open(fs, number, record, type, "", &stream))
        return NULL;
    if (most > stream.size)
        most = (size_t) stream.size;
    content = im_alloc(most + 1);
    fine = ntfs_stream_read(fs, &stream, 0, content, most, ret_len);
    ntfs_stream_close(&stream);
    return fine ? im_steal(&content) : NULL;
}

/* --- Files ------------------------------------------------------------------------------------ */

/* The tag of what a file stands for, or by whom it was packed; 0 = neither. */
static uint32_t reparse_tag(struct ntfs *fs, uint64_t number, const uint8_t *record) {
    struct ntfs_stream stream;
    struct attribute standard;
    uint8_t tag[4] = {0};
    size_t got = 0;

    if (!find_attribute(record, NTFS_STANDARD, "", 0, &standard) || !standard.resident ||
        le32(standard.bytes + 16) < 36 || standard.len < 24u + 36u ||
        le16(standard.bytes + 20) > standard.len - 36u ||
        !(le32(standard.bytes + le16(standard.bytes + 20) + 32) & FILE_REPARSES))
        return 0;
    if (!ntfs_stream_open(fs, number, record, NTFS_REPARSE, "", &stream))
        return 0;
    (void) ntfs_stream_read(fs, &stream, 0, tag, sizeof(tag), &got);
    ntfs_stream_close(&stream);
    return got == sizeof(tag) ? le32(tag) : 0;
}

static const char *tag_means(uint32_t tag) {
    switch (tag) {
    case 0:
        return NULL;
    case TAG_WOF:
        return "is compressed as system files may be (WOF), which is not read";
    case TAG_DEDUP:
        return "is deduplicated, which is not read";
    default:
        return "lies elsewhere (a reparse point)";
    }
}

/* Keeps the file's bytes at hand; false where there are none. A file that is packed in another way
 * looks like a hole, so that why it cannot be read is kept as well. */
static bool hold(struct ntfs *fs, uint64_t number, const uint8_t *record) {
    if (fs->held == number && number != 0)
        return true;
    ntfs_stream_close(&fs->file);
    fs->held = 0;
    if (!ntfs_stream_open(fs, number, record, NTFS_DATA, "", &fs->file))
        return false;
    fs->held = number;
    fs->why = tag_means(reparse_tag(fs, number, record));
    if (fs->why == NULL && fs->file.encrypted)
        fs->why = "is encrypted";
    return true;
}

static bool ntfs_facts(void *state, const struct node *node, struct node_facts *ret_facts) {
    struct ntfs *fs = state;
    IM_AUTO(free_auto) uint8_t *record = im_alloc(fs->record);
    bool folder, stands;

    if (!ntfs_inode(fs, node, record))
        return false;
    folder = le16(record + 22) & IS_FOLDER;
    stands = reparse_tag(fs, node->id, record) & TAG_SURROGATE;
    *ret_facts = (struct node_facts){.kind = stands   ? NODE_OTHER
                                             : folder ? NODE_FOLDER
                                                      : NODE_FILE,
                                     .mode = folder ? 0755 : 0644};
    if (folder || stands)
        return true;
    if (!hold(fs, node->id, record))
        return false;
    ret_facts->size = fs->file.size;
    return true;
}

const char *ntfs_unreadable(void *state, const struct node *node) {
    struct ntfs *fs = state;
    IM_AUTO(free_auto) uint8_t *record = NULL;

    if (fs->held == node->id && node->id != 0)
        return fs->why;
    record = im_alloc(fs->record);
    if (!ntfs_inode(fs, node, record))
        return "has a damaged record";
    return hold(fs, node->id, record) ? fs->why : "has a damaged list of clusters";
}

static bool ntfs_read(void *state, const struct node *node, uint64_t offset, void *bytes,
                      size_t len, size_t *ret_got) {
    struct ntfs *fs = state;

    return ntfs_unreadable(state, node) == NULL &&
           ntfs_stream_read(fs, &fs->file, offset, bytes, len, ret_got);
}

/* --- The file system -------------------------------------------------------------------------- */

/* A small number, or a power of two. */
static uint32_t count_of(uint8_t code) {
    return code <= 0x80 ? code : code > 0xe0 ? 1u << (256 - code) : 0;
}

static bool take_form(struct ntfs *fs, const uint8_t *boot) {
    uint32_t sector = le16(boot + 11), each = count_of(boot[13]);
    uint64_t sectors = le64(boot + 40);

    if (sector < 512 || sector > 4096 || !power_of_two(sector) || !power_of_two(each) ||
        each > CLUSTER_BYTES / sector || sectors == 0)
        return false;
    fs->cluster = sector * each;
    fs->clusters = sectors / each;
    fs->record = count_of(boot[64]) * (boot[64] < 0x80 ? fs->cluster : 1);
    return fs->record >= SECTOR && fs->record <= RECORD_BYTES && power_of_two(fs->record) &&
           fs->clusters <= fs->span->len / fs->cluster;
}

/* The records' own record says where they are; only its place is told by the boot sector. */
static bool open_records(struct ntfs *fs, uint64_t lcn) {
    IM_AUTO(free_auto) uint8_t *record = im_alloc(fs->record);
    struct ntfs_stream *mft = &fs->mft;
    bool there;

    mft->size = mft->filled = fs->record;
    there = add_run(fs, mft, (int64_t) ceil_div(fs->record, fs->cluster), lcn) &&
            ntfs_record(fs, NTFS_MFT, record);
    ntfs_stream_close(mft);
    return there && take_stream(fs, NTFS_MFT, record, NTFS_DATA, "", mft) && mft->unit == 0;
}

static void ntfs_close(void *state) {
    struct ntfs *fs = state;

    ntfs_stream_close(&fs->mft);
    ntfs_stream_close(&fs->file);
    free(fs->upcase);
    free(fs);
}
IM_DEFINE_AUTO(struct ntfs *, ntfs_close)

static bool ntfs_open(const struct span *span, const struct guest_part *part, void **ret_state,
                      struct node *ret_root) {
    IM_AUTO(ntfs_close_auto) struct ntfs *fs = im_alloc(sizeof(*fs));
    struct node root = {.id = NTFS_ROOT};
    struct node_facts facts;
    uint8_t boot[SECTOR];

    (void) part;
    fs->span = span;
    if (!span_read(span, 0, boot, sizeof(boot)) || !take_form(fs, boot) ||
        !open_records(fs, le64(boot + 48)) || !ntfs_facts(fs, &root, &facts) ||
        facts.kind != NODE_FOLDER)
        return false;
    *ret_root = root;
    *ret_state = im_steal(&fs);
    return true;
}

const struct fs_ops ntfs_ops = {
    .open = ntfs_open,
    .facts = ntfs_facts,
    .find = ntfs_find,
    .list = ntfs_list,
    .read = ntfs_read,
    .space = ntfs_space,
    .describe = ntfs_describe,
    .check = ntfs_check,
    .close = ntfs_close,
};
