/* SPDX-License-Identifier: Apache-2.0 */
/* LVM2: physical volumes on this disk, and the logical volumes that can be read through them. */
#include "lvm.h"

#include <inttypes.h>
#include <stdio.h>

#include "lvm-text.h"

#define PVS_MAX 16u
#define LVS_MAX 64u
#define SEGMENTS_MAX 256u
#define TEXT_MAX (1u << 20)
#define UUID_LEN 32u

struct pv {
    struct span span;
    const char *part;        /* its name */
    char uuid[UUID_LEN + 1]; /* without dashes */
    char *text;              /* the newest metadata it has, owned; NULL = none */
    bool torn;               /* it should have some */
};
struct vg {
    struct look *look;
    struct pv pvs[PVS_MAX];
    size_t count;
};

/* --- What a physical volume says of itself ---------------------------------------------------- */

/* Two halves: the text begins anew at the area's start when it reaches its end. */
static char *read_text(const struct span *span, uint64_t area, uint64_t area_len, uint64_t at,
                       uint64_t len) {
    IM_AUTO(free_auto) char *text = NULL;
    uint64_t first = area_len - at < len ? area_len - at : len;

    if (len == 0 || len > TEXT_MAX || at < SECTOR || at >= area_len || len > area_len - SECTOR)
        return NULL;
    text = im_alloc((size_t) len + 1);
    if (!span_read(span, area + at, text, (size_t) first) ||
        (first < len && !span_read(span, area + SECTOR, text + first, (size_t) (len - first))))
        return NULL;
    return im_steal(&text);
}

/* A volume of no group yet has an area without text. */
static void read_area(struct pv *pv, uint64_t area) {
    static const char magic[] = " LVM2 x[5A%r0N*>";
    uint8_t header[SECTOR];
    bool whole = span_read(&pv->span, area, header, sizeof(header)) &&
                 memcmp(header + 4, magic, sizeof(magic) - 1) == 0 && le64(header + 24) == area;

    if (whole && le64(header + 48) > 0)
        pv->text =
            read_text(&pv->span, area, le64(header + 32), le64(header + 40), le64(header + 48));
    if (pv->text == NULL && (!whole || le64(header + 48) > 0))
        pv->torn = true;
}

/* The label is in one of the first four sectors; behind it lie the places of data, a gap, and those
 * of the metadata. */
static bool read_label(struct pv *pv) {
    uint8_t sector[SECTOR];
    uint32_t at;

    for (uint64_t number = 0; number < 4; number++) {
        if (!span_read(&pv->span, number * SECTOR, sector, SECTOR))
            return false;
        if (memcmp(sector, "LABELONE", 8) == 0 && memcmp(sector + 24, "LVM2 001", 8) == 0)
            break;
        if (number == 3)
            return false;
    }
    at = le32(sector + 20);
    if (at < 32 || at > SECTOR - UUID_LEN - 8)
        return false;
    text_take(pv->uuid, sizeof(pv->uuid), sector + at, UUID_LEN);
    at += UUID_LEN + 8;
    for (unsigned gaps = 0; at + 16 <= SECTOR; at += 16) {
        uint64_t offset = le64(sector + at);

        if (offset == 0 && ++gaps == 2)
            break;
        if (offset != 0 && gaps == 1 && pv->text == NULL)
            read_area(pv, offset);
    }
    return true;
}

/* --- Logical volumes -------------------------------------------------------------------------- */

static const struct pv *pv_of_uuid(const struct vg *vg, const char *dashed) {
    char plain[UUID_LEN + 1];
    size_t used = 0;

    for (; *dashed != '\0' && used < UUID_LEN; dashed++)
        if (*dashed != '-')
            plain[used++] = *dashed;
    plain[used] = '\0';
    for (size_t i = 0; i < vg->count; i++)
        if (strcmp(vg->pvs[i].uuid, plain) == 0)
            return &vg->pvs[i];
    return NULL;
}

struct lv {
    const struct vg *vg;
    const struct lvm_node *group, *node;
    uint64_t extent; /* bytes */
    struct piece pieces[SEGMENTS_MAX];
    size_t count;
};

static void missing(const struct lv *lv) {
    look_found(lv->vg->look, GUEST_FOUND_LVM_MISSING,
               "logical volume %s/%s lies partly on another disk", lv->group->name, lv->node->name);
}

static bool multiply(uint64_t a, uint64_t b, uint64_t *ret_value) {
    return !__builtin_mul_overflow(a, b, ret_value) && *ret_value < (1ull << 62);
}

/* Where the stripe begins on the disk. */
static bool place_stripe(struct lv *lv, const char *pv_name, uint64_t extent, uint64_t bytes,
                         uint64_t *ret_at) {
    const struct lvm_node *pvs = lvm_child(lv->group, "physical_volumes");
    const struct lvm_node *row = lvm_child(pvs, pv_name);
    const struct pv *pv = pv_of_uuid(lv->vg, lvm_text(row, "id"));
    uint64_t start, offset;

    if (row == NULL || pv == NULL) {
        missing(lv);
        return false;
    }
    if (!multiply(lvm_number(row, "pe_start"), SECTOR, &start) ||
        !multiply(extent, lv->extent, &offset) || start + offset > pv->span.len ||
        bytes > pv->span.len - start - offset) {
        look_found(lv->vg->look, GUEST_FOUND_LVM_DAMAGED,
                   "logical volume %s/%s goes beyond the end of %s", lv->group->name,
                   lv->node->name, pv->part);
        return false;
    }
    *ret_at = pv->span.offset + start + offset;
    return true;
}

/* Room for other volumes, which are told of one by one. */
static bool is_pool(const char *type) {
    const char *dash = strrchr(type, '-');

    return dash != NULL && strcmp(dash, "-pool") == 0;
}

static bool add_segment(struct lv *lv, const struct lvm_node *segment) {
    struct piece *piece = &lv->pieces[lv->count];
    const char *type = lvm_text(segment, "type");
    uint64_t count = lvm_number(segment, "stripe_count");

    if (strcmp(type, "striped") != 0 && strcmp(type, "linear") != 0) {
        if (!is_pool(type))
            look_found(lv->vg->look, GUEST_FOUND_LVM_SEGMENT,
                       "logical volume %s/%s is of the type %s: what is in it cannot be looked at",
                       lv->group->name, lv->node->name, type);
        return false;
    }
    *piece = (struct piece){.areas = (unsigned) count};
    if (lv->count == SEGMENTS_MAX - 1 || count == 0 || count > STRIPES_MAX ||
        !multiply(lvm_number(segment, "start_extent"), lv->extent, &piece->at) ||
        !multiply(lvm_number(segment, "extent_count"), lv->extent, &piece->len) ||
        !multiply(lvm_number(segment, "stripe_size"), SECTOR, &piece->stripe))
        return false;
    if (count == 1)
        piece->stripe = 0;
    else if (piece->stripe == 0)
        return false;
    for (unsigned i = 0; i < count; i++) {
        char pv_name[128];
        uint64_t extent;

        if (!lvm_pair(segment, "stripes", i, pv_name, sizeof(pv_name), &extent) ||
            !place_stripe(lv, pv_name, extent, piece->len / count, &piece->area[i]))
            return false;
    }
    lv->count++;
    return true;
}

/* Hidden ones (parts of mirrors, of thin pools) are looked at through those that use them. */
static void look_at_lv(struct lv *lv) {
    uint64_t len = 0;
    struct guest_part *part;
    struct span span;

    if (!lvm_list_has(lv->node, "status", "VISIBLE"))
        return;
    for (const struct lvm_node *segment = lv->node->children; segment; segment = segment->next)
        if (segment->children != NULL && im_starts_with(segment->name, "segment") &&
            !add_segment(lv, segment)) {
            lv->count = 0;
            break;
        }
    for (size_t i = 0; i < lv->count; i++)
        if (lv->pieces[i].at + lv->pieces[i].len > len)
            len = lv->pieces[i].at + lv->pieces[i].len;
    part = look_part(lv->vg->look);
    if (part == NULL)
        return;
    part->len = len;
    snprintf(part->type, sizeof(part->type), "lv");
    snprintf(part->name, sizeof(part->name), "%.39s/%.39s", lv->group->name, lv->node->name);
    span = (struct span){lv->vg->look, len, lv->pieces, lv->count, 0};
    if (lv->count > 0)
        filesystem_look(&span, lv->vg->look->found->part_count - 1);
}

static bool is_known(const struct look *look, const struct lv *lv) {
    IM_AUTO(free_auto) char *name = im_printf("%.39s/%.39s", lv->group->name, lv->node->name);

    for (size_t i = 0; i < look->found->part_count; i++)
        if (strcmp(look->found->parts[i].name, name) == 0)
            return true;
    return false;
}

/* The text holds one group; all physical volumes of it say the same. */
static void look_at_group(const struct vg *vg, const struct pv *pv) {
    IM_AUTO(lvm_free_auto) struct lvm_node *root = lvm_parse(pv->text);
    const struct lvm_node *group = root ? root->children : NULL;
    IM_AUTO(free_auto) struct lv *lv = im_alloc(sizeof(*lv));
    unsigned seen = 0;

    while (group != NULL && group->children == NULL)
        group = group->next;
    if (group == NULL) {
        look_found(vg->look, GUEST_FOUND_LVM_DAMAGED, "the LVM metadata on %s cannot be read",
                   pv->part);
        return;
    }
    lv->extent = lvm_number(group, "extent_size") * SECTOR;
    if (lv->extent == 0 || lv->extent > (1ull << 44))
        return;
    for (const struct lvm_node *node = lvm_children(group, "logical_volumes");
         node != NULL && seen < LVS_MAX; node = node->next) {
        lv->vg = vg;
        lv->group = group;
        lv->node = node;
        lv->count = 0;
        if (node->children == NULL || is_known(vg->look, lv))
            continue;
        seen++;
        look_at_lv(lv);
    }
}

/* One that has no metadata of its own, or lost it, is described by the others of its group. */
static void tell_torn(const struct vg *vg) {
    const struct pv *torn = NULL;

    for (size_t i = 0; i < vg->count; i++) {
        if (vg->pvs[i].text != NULL)
            return;
        if (vg->pvs[i].torn)
            torn = &vg->pvs[i];
    }
    if (torn != NULL)
        look_found(vg->look, GUEST_FOUND_LVM_DAMAGED, "the LVM metadata on %s cannot be read",
                   torn->part);
}

void lvm_look(struct look *look) {
    IM_AUTO(free_auto) struct vg *vg = im_alloc(sizeof(*vg));
    size_t parts = look->found->part_count;
    char names[PVS_MAX][80];

    vg->look = look;
    for (size_t i = 0; i < parts && vg->count < PVS_MAX; i++) {
        const struct guest_part *part = &look->found->parts[i];
        struct pv *pv = &vg->pvs[vg->count];

        if (strcmp(part->filesystem, "LVM2_member") != 0)
            continue;
        memcpy(names[vg->count], part->name, sizeof(part->name));
        *pv = (struct pv){.span = span_of(look, part->offset, part->len), .part = names[vg->count]};
        if (read_label(pv))
            vg->count++;
        else
            look_found(look, GUEST_FOUND_LVM_DAMAGED, "the LVM label on %s is damaged", part->name);
    }
    for (size_t i = 0; i < vg->count; i++)
        if (vg->pvs[i].text != NULL)
            look_at_group(vg, &vg->pvs[i]);
    tell_torn(vg);
    for (size_t i = 0; i < vg->count; i++)
        free(vg->pvs[i].text);
}
