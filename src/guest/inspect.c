/* SPDX-License-Identifier: Apache-2.0 */
/* One look at a disk, from its first sector to the system on it; and what all readers share. */
#include "guest/inspect.h"

#include <stdarg.h>
#include <stdio.h>

#include "files.h"
#include "lvm.h"

#define READS_MAX 200000u /* even small ones take time */
#define FILE_BYTES (2ull * GUEST_LOOK_BYTES)
#define FILE_CALL 512u              /* what even an empty read of a file costs */
#define UNPACK_BYTES (256ull << 20) /* in all, whatever it is and however often */
#define UNPACK_SLOW 4u
#define TEXT_MAX 400

/* --- Findings --------------------------------------------------------------------------------- */

static const struct {
    const char *code, *hint;
    enum guest_severity severity;
} kinds[] = {
#define X(name, code, severity, hint) {code, hint, GUEST_##severity},
    GUEST_FINDING_TABLE(X)
#undef X
};

const char *guest_severity_name(enum guest_severity severity) {
    static const char *const names[] = {"info", "warning", "error"};

    return names[severity];
}

const char *finding_code(enum guest_found kind) { return kinds[kind].code; }

bool look_has(const struct look *look, enum guest_found kind) {
    for (size_t i = 0; i < look->found->finding_count; i++)
        if (look->found->findings[i].code == kinds[kind].code)
            return true;
    return false;
}

void look_found(struct look *look, enum guest_found kind, const char *format, ...) {
    struct guest_inspection *found = look->found;
    char text[TEXT_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (found->finding_count == FINDINGS_MAX || look->ended)
        return;
    for (size_t i = 0; i < found->finding_count; i++)
        if (found->findings[i].code == kinds[kind].code &&
            strcmp(found->findings[i].text, text) == 0)
            return;
    im_grow(&found->findings, found->finding_count, &found->finding_capacity);
    found->findings[found->finding_count++] = (struct guest_finding){
        kinds[kind].code, kinds[kind].hint, kinds[kind].severity, im_strdup(text)};
    found->counts[kinds[kind].severity]++;
}

void look_end(struct look *look, const char *why) {
    look_found(look, GUEST_FOUND_LOOK_ENDED, "%s", why);
    look->ended = true;
}

struct guest_part *look_part(struct look *look) {
    struct guest_inspection *found = look->found;

    if (found->part_count == PARTS_MAX)
        return NULL;
    im_grow(&found->parts, found->part_count, &found->part_capacity);
    found->parts[found->part_count] = (struct guest_part){0};
    return &found->parts[found->part_count++];
}

/* --- Reading ---------------------------------------------------------------------------------- */

static bool disk_read(struct look *look, uint64_t at, void *bytes, size_t len) {
    const struct guest_source *source = look->source;

    if (at > source->size_bytes || len > source->size_bytes - at)
        return false;
    if (look->reads_left == 0 || look->found->read_bytes + len > GUEST_LOOK_BYTES) {
        look_end(look, "not everything on the disk was looked at: it asks for too much reading");
        return false;
    }
    look->reads_left--;
    look->found->read_bytes += len;
    return look->trouble.code == IM_OK && source->read(source->arg, at, bytes, len, &look->trouble);
}

bool look_reads_file(struct look *look, size_t len) {
    if (len + FILE_CALL > look->file_left) {
        look_end(look,
                 "not everything on the disk was looked at: its files ask for too much reading");
        return false;
    }
    look->file_left -= len + FILE_CALL;
    return true;
}

uint64_t look_unpack_left(const struct look *look, bool slow) {
    return slow ? look->unpack_left / UNPACK_SLOW : look->unpack_left;
}

bool look_unpacks(struct look *look, uint64_t len, bool slow) {
    if (len > look_unpack_left(look, slow))
        return false;
    look->unpack_left -= slow ? len * UNPACK_SLOW : len;
    return true;
}

struct span span_of(struct look *look, uint64_t offset, uint64_t len) {
    return (struct span){.look = look, .offset = offset, .len = len};
}

/* Where a byte of the piece lies, and how many follow it there. */
static uint64_t piece_place(const struct piece *piece, uint64_t within, uint64_t *ret_len) {
    uint64_t row, column, number;

    *ret_len = piece->len - within;
    if (piece->stripe == 0)
        return piece->area[0] + within;
    number = within / piece->stripe;
    row = number / piece->areas;
    column = number % piece->areas;
    if (piece->stripe - within % piece->stripe < *ret_len)
        *ret_len = piece->stripe - within % piece->stripe;
    return piece->area[column] + row * piece->stripe + within % piece->stripe;
}

static const struct piece *piece_at(const struct span *span, uint64_t at) {
    for (size_t i = 0; i < span->piece_count; i++)
        if (at >= span->pieces[i].at && at - span->pieces[i].at < span->pieces[i].len)
            return &span->pieces[i];
    return NULL;
}

bool span_read(const struct span *span, uint64_t at, void *bytes, size_t len) {
    uint8_t *to = bytes;

    if (at > span->len || len > span->len - at)
        return false;
    if (span->pieces == NULL)
        return disk_read(span->look, span->offset + at, bytes, len);
    while (len > 0) {
        const struct piece *piece = piece_at(span, at);
        uint64_t there, now;

        if (piece == NULL)
            return false;
        there = piece_place(piece, at - piece->at, &now);
        if (now > len)
            now = len;
        if (!disk_read(span->look, there, to, (size_t) now))
            return false;
        to += now;
        at += now;
        len -= (size_t) now;
    }
    return true;
}

/* --- The look --------------------------------------------------------------------------------- */

/* Behind all of its partitions; in the last of them it would be that one's. */
static bool is_member(struct look *look) {
    struct span disk = span_of(look, 0, look->source->size_bytes);
    uint64_t end = member_end(&disk);

    for (size_t i = 0; i < look->found->part_count; i++)
        if (look->found->parts[i].offset + look->found->parts[i].len > end)
            return false;
    return end > 0;
}

static void look_parts(struct look *look) {
    size_t count = look->found->part_count; /* logical volumes are added behind them */

    look->member = is_member(look);
    for (size_t i = 0; i < count; i++) {
        const struct guest_part *part = &look->found->parts[i];
        struct span span = span_of(look, part->offset, part->len);

        filesystem_look(&span, i);
    }
}

/* A disk without partitions may still be a file system, or a boot sector. */
static void whole_disk(struct look *look) {
    struct guest_part *part = look_part(look);

    part->len = look->source->size_bytes;
    snprintf(part->name, sizeof(part->name), "/dev/vda");
}

static void look_at(struct look *look) {
    uint8_t first[SECTOR];
    struct span disk = span_of(look, 0, look->source->size_bytes);

    if (!span_read(&disk, 0, first, sizeof(first))) {
        if (look->trouble.code == IM_OK)
            look_found(look, GUEST_FOUND_DISK_EMPTY, "the disk has not even one sector");
        return;
    }
    table_read(look, first);
    if (look->found->part_count == 0 && look->found->table == GUEST_TABLE_NONE)
        whole_disk(look);
    look_parts(look);
    boot_check(look, first);
    lvm_look(look);
    volumes_check(look);
    system_look(look);
}

bool look_run(const struct guest_source *source, void (*then)(struct look *look, void *arg),
              void *arg, struct guest_inspection **ret_inspection, struct im_err *err) {
    IM_AUTO(guest_inspection_free_auto)
    struct guest_inspection *found = im_alloc(sizeof(*found));
    struct look look = {.source = source,
                        .found = found,
                        .reads_left = READS_MAX,
                        .file_left = FILE_BYTES,
                        .unpack_left = UNPACK_BYTES};

    found->size_bytes = source->size_bytes;
    look_at(&look);
    if (then != NULL)
        then(&look, arg);
    volumes_close(&look);
    if (look.trouble.code != IM_OK) {
        *err = look.trouble;
        return false;
    }
    *ret_inspection = im_steal(&found);
    return true;
}

bool guest_inspect(const struct guest_source *source, struct guest_inspection **ret_inspection,
                   struct im_err *err) {
    return look_run(source, NULL, NULL, ret_inspection, err);
}

void guest_inspection_free(struct guest_inspection *inspection) {
    if (inspection == NULL)
        return;
    for (size_t i = 0; i < inspection->finding_count; i++)
        free(inspection->findings[i].text);
    free(inspection->findings);
    free(inspection->parts);
    free(inspection);
}
