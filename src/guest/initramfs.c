/* SPDX-License-Identifier: Apache-2.0 */
/* Names in an initramfs. Reading, unpacking and the archive's own lengths are bounded each. */
#include "initramfs.h"

#include <ctype.h>

#include "unpack/unpack.h"

enum { CHUNK = 48 << 10, HEAD = 110, NAME_BYTES = 4096 };
#define MEMORY_MAX (48u << 20) /* of a decompressor */
#define KEPT (8u << 20)        /* what is left to the rest of the look */

/* --- cpio ------------------------------------------------------------------------------------- */

struct cpio {
    enum { CPIO_BETWEEN, CPIO_HEAD, CPIO_NAME, CPIO_DATA } state;
    char head[HEAD + 1], name[NAME_BYTES + 1];
    size_t have, name_len, name_room; /* name_room: with the padding behind it */
    uint64_t data;                    /* still to be passed over */
    bool enough, damaged;
    initramfs_visit *visit;
    void *arg;
};

/* Eight hexadecimal digits. */
static bool field(const char *head, unsigned number, uint64_t *ret_value) {
    const char *at = head + 6 + 8 * (size_t) number;
    uint64_t value = 0;

    for (unsigned i = 0; i < 8; i++) {
        unsigned char c = (unsigned char) at[i];

        if (!isxdigit(c))
            return false;
        value = value * 16 + (uint64_t) (isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
    }
    *ret_value = value;
    return true;
}

static bool take_head(struct cpio *cpio) {
    uint64_t name_len, size;

    if ((memcmp(cpio->head, "070701", 6) != 0 && memcmp(cpio->head, "070702", 6) != 0) ||
        !field(cpio->head, 6, &size) || !field(cpio->head, 11, &name_len) || name_len == 0 ||
        name_len > NAME_BYTES)
        return false;
    cpio->name_len = (size_t) name_len;
    cpio->name_room = ((HEAD + (size_t) name_len + 3) & ~(size_t) 3) - HEAD;
    cpio->data = (size + 3) & ~(uint64_t) 3;
    cpio->have = 0;
    cpio->state = CPIO_NAME;
    return true;
}

static enum node_kind kind_of(const struct cpio *cpio) {
    uint64_t mode = 0;

    (void) field(cpio->head, 1, &mode);
    switch (mode & 0170000) {
    case 0100000:
        return NODE_FILE;
    case 0040000:
        return NODE_FOLDER;
    case 0120000:
        return NODE_LINK;
    default:
        return NODE_OTHER;
    }
}

static void take_name(struct cpio *cpio) {
    bool last;

    cpio->name[cpio->name_len] = '\0';
    last = strcmp(cpio->name, "TRAILER!!!") == 0;
    if (!last)
        cpio->enough = !cpio->visit(cpio->arg, cpio->name, kind_of(cpio));
    cpio->have = 0;
    cpio->state = last ? CPIO_BETWEEN : cpio->data > 0 ? CPIO_DATA : CPIO_HEAD;
}

/* Up to `want` bytes in all into the head or the name; what is padding is dropped. */
static size_t collect(struct cpio *cpio, char *to, size_t size, size_t want, const uint8_t *bytes,
                      size_t len) {
    size_t now = want - cpio->have < len ? want - cpio->have : len;

    for (size_t i = 0; i < now; i++, cpio->have++)
        if (cpio->have < size)
            to[cpio->have] = (char) bytes[i];
    return now;
}

static size_t take_some(struct cpio *cpio, const uint8_t *bytes, size_t len) {
    size_t now = len;

    switch (cpio->state) {
    case CPIO_BETWEEN:
        for (now = 0; now < len && bytes[now] == 0;)
            now++;
        if (now < len)
            cpio->state = CPIO_HEAD;
        return now;
    case CPIO_HEAD:
        now = collect(cpio, cpio->head, HEAD, HEAD, bytes, len);
        if (cpio->have == HEAD)
            cpio->damaged = !take_head(cpio);
        return now;
    case CPIO_NAME:
        now = collect(cpio, cpio->name, NAME_BYTES, cpio->name_room, bytes, len);
        if (cpio->have == cpio->name_room)
            take_name(cpio);
        return now;
    case CPIO_DATA:
        now = cpio->data < len ? (size_t) cpio->data : len;
        cpio->data -= now;
        if (cpio->data == 0)
            cpio->state = CPIO_HEAD;
        return now;
    }
    return now;
}

/* How many bytes it took: all, unless an archive has ended, there is enough, or it is damaged. */
static size_t cpio_feed(struct cpio *cpio, const uint8_t *bytes, size_t len) {
    size_t taken = 0;
    bool within = cpio->state != CPIO_BETWEEN;

    while (taken < len && !cpio->enough && !cpio->damaged) {
        taken += take_some(cpio, bytes + taken, len - taken);
        if (within && cpio->state == CPIO_BETWEEN)
            break;
        within = cpio->state != CPIO_BETWEEN;
    }
    return taken;
}

/* --- The file --------------------------------------------------------------------------------- */

struct reading {
    const struct file *file;
    uint64_t at, end;
    struct cpio cpio;
    uint8_t chunk[CHUNK], plain[CHUNK];
};

/* Not even the largest initramfs shall take the rest of the look its reads. */
static bool affordable(const struct reading *reading, size_t len) {
    const struct look *look = reading->file->volume->span.look;

    return look->reads_left > 20000 && look->file_left > len + KEPT &&
           look->found->read_bytes + len + KEPT < GUEST_LOOK_BYTES;
}

static bool read_chunk(struct reading *reading, size_t *ret_got) {
    uint64_t left = reading->end - reading->at;
    size_t want = left < CHUNK ? (size_t) left : CHUNK;

    return affordable(reading, want) &&
           file_read(reading->file, reading->at, reading->chunk, want, ret_got) && *ret_got > 0;
}

static enum initramfs_answer state_of(const struct cpio *cpio) {
    return cpio->enough ? INITRAMFS_ENOUGH : cpio->damaged ? INITRAMFS_DAMAGED : INITRAMFS_END;
}

/* An archive that is not packed: what is in its files is not even read. INITRAMFS_END: go on. */
static enum initramfs_answer take_plain(struct reading *reading) {
    struct cpio *cpio = &reading->cpio;
    enum initramfs_answer answer;
    size_t got, taken;

    cpio->state = CPIO_HEAD;
    do {
        if (reading->at >= reading->end)
            return INITRAMFS_DAMAGED;
        if (!read_chunk(reading, &got))
            return INITRAMFS_UNKNOWN;
        taken = cpio_feed(cpio, reading->chunk, got);
        reading->at += taken;
        answer = state_of(cpio);
        if (cpio->state == CPIO_DATA) {
            reading->at += cpio->data;
            cpio->data = 0;
            cpio->state = CPIO_HEAD;
        }
    } while (answer == INITRAMFS_END && cpio->state != CPIO_BETWEEN);
    return answer;
}

static enum initramfs_answer feed_all(struct cpio *cpio, const uint8_t *bytes, size_t len) {
    while (len > 0 && state_of(cpio) == INITRAMFS_END) {
        size_t taken = cpio_feed(cpio, bytes, len);

        bytes += taken;
        len -= taken;
    }
    return state_of(cpio);
}

/* What can be had of the input so far. */
static enum initramfs_answer drain(struct reading *reading, struct unpacker *unpacker, bool slow) {
    struct look *look = reading->file->volume->span.look;
    struct im_err err = {0};
    size_t got;

    do {
        enum initramfs_answer answer;

        if (!unpacker_take(unpacker, reading->plain, CHUNK, &got, &err))
            return err.code == IM_BAD_IMAGE && strstr(err.text, "memory") == NULL
                       ? INITRAMFS_DAMAGED
                       : INITRAMFS_UNKNOWN;
        if (!look_unpacks(look, got, slow))
            return INITRAMFS_UNKNOWN;
        answer = feed_all(&reading->cpio, reading->plain, got);
        if (answer != INITRAMFS_END)
            return answer;
    } while (got > 0);
    return INITRAMFS_END;
}

static enum initramfs_answer take_packed(struct reading *reading, enum packing packing) {
    bool slow = packing == PACKING_XZ || packing == PACKING_LZMA || packing == PACKING_BZIP2;
    uint64_t left = look_unpack_left(reading->file->volume->span.look, slow);
    struct unpacker_limits limits = {
        .max_bytes = left, .memory_bytes = MEMORY_MAX, .one_member = true};
    struct im_err ignored = {0};
    IM_AUTO(unpacker_free_auto)
    struct unpacker *unpacker = unpacker_new(packing, &limits, &ignored);
    size_t got, rest;

    reading->cpio.state = CPIO_BETWEEN;
    do {
        enum initramfs_answer answer;

        if (left == 0 || unpacker == NULL || !read_chunk(reading, &got))
            return INITRAMFS_UNKNOWN;
        reading->at += got;
        unpacker_feed(unpacker, reading->chunk, got, reading->at == reading->end);
        answer = drain(reading, unpacker, slow);
        if (answer != INITRAMFS_END)
            return answer;
    } while (!unpacker_ended(unpacker, &rest) && reading->at < reading->end);
    reading->at -= rest;
    return reading->cpio.state == CPIO_BETWEEN ? INITRAMFS_END : INITRAMFS_DAMAGED;
}

/* The next archive, behind zeros. */
static enum initramfs_answer take_archive(struct reading *reading) {
    enum packing packing;
    size_t got, zeros = 0;

    if (!read_chunk(reading, &got))
        return INITRAMFS_UNKNOWN;
    while (zeros < got && reading->chunk[zeros] == 0)
        zeros++;
    reading->at += zeros;
    if (zeros == got)
        return INITRAMFS_END;
    if (zeros > 0 && !read_chunk(reading, &got))
        return INITRAMFS_UNKNOWN;
    if (got > 6 && memcmp(reading->chunk, "07070", 5) == 0)
        return take_plain(reading);
    packing = packing_detect_all(reading->chunk, got);
    return packing != PACKING_NONE ? take_packed(reading, packing) : INITRAMFS_UNKNOWN;
}

enum initramfs_answer initramfs_names(const struct file *file, uint64_t at, uint64_t len,
                                      initramfs_visit *visit, void *arg) {
    IM_AUTO(free_auto) struct reading *reading = im_alloc(sizeof(*reading));
    enum initramfs_answer answer = INITRAMFS_END;

    *reading = (struct reading){
        .file = file, .at = at, .end = at + len, .cpio = {.visit = visit, .arg = arg}};
    while (answer == INITRAMFS_END && reading->at < reading->end)
        answer = take_archive(reading);
    return answer;
}
