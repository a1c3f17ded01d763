/* SPDX-License-Identifier: Apache-2.0 */
/* What physical volumes of LVM2 say of themselves: labels, and areas of metadata. */
#include <stdio.h>

#include "lvm.h"

#define TEXT_MAX (1u << 20)

/* --- Metadata --------------------------------------------------------------------------------- */

bool lvm_area_read(const struct lvm_pv *pv, uint64_t at, struct lvm_area *ret_area) {
    static const char magic[] = " LVM2 x[5A%r0N*>";
    struct lvm_area area;

    if (!span_read(&pv->span, at, area.header, sizeof(area.header)) ||
        memcmp(area.header + 4, magic, sizeof(magic) - 1) != 0 || le64(area.header + 24) != at)
        return false;
    area.len = le64(area.header + 32);
    area.text_at = le64(area.header + 40);
    area.text_len = le64(area.header + 48);
    *ret_area = area;
    return true;
}

/* Two halves: the text begins anew at the area's start when it reaches its end. */
static char *read_text(const struct lvm_pv *pv, uint64_t at, const struct lvm_area *area) {
    IM_AUTO(free_auto) char *text = NULL;
    uint64_t len = area->text_len;
    uint64_t first = area->len - area->text_at < len ? area->len - area->text_at : len;

    if (len > TEXT_MAX || area->text_at < SECTOR || area->text_at >= area->len ||
        len > area->len - SECTOR)
        return NULL;
    text = im_alloc((size_t) len + 1);
    if (!span_read(&pv->span, at + area->text_at, text, (size_t) first) ||
        (first < len && !span_read(&pv->span, at + SECTOR, text + first, (size_t) (len - first))))
        return NULL;
    return im_steal(&text);
}

/* A volume of no group yet has an area without text. */
static void take_area(struct lvm_pv *pv, uint64_t at) {
    struct lvm_area area;
    bool whole = lvm_area_read(pv, at, &area);

    if (pv->area_count < LVM_AREAS_MAX)
        pv->areas[pv->area_count++] = at;
    if (pv->text != NULL || (whole && area.text_len == 0))
        return;
    if (whole)
        pv->text = read_text(pv, at, &area);
    if (pv->text == NULL)
        pv->torn = true;
}

/* --- Labels ----------------------------------------------------------------------------------- */

/* The label is in one of the first four sectors; behind it lie the places of data, a gap, and those
 * of the metadata. */
static bool read_label(struct lvm_pv *pv) {
    uint8_t sector[SECTOR];
    uint32_t at;

    for (uint64_t number = 0; number < 4; number++) {
        pv->label = number * SECTOR;
        if (!span_read(&pv->span, pv->label, sector, SECTOR))
            return false;
        if (memcmp(sector, "LABELONE", 8) == 0 && memcmp(sector + 24, "LVM2 001", 8) == 0)
            break;
        if (number == 3)
            return false;
    }
    at = le32(sector + 20);
    if (at < 32 || at > SECTOR - LVM_UUID_LEN - 8)
        return false;
    text_take(pv->uuid, sizeof(pv->uuid), sector + at, LVM_UUID_LEN);
    at += LVM_UUID_LEN + 8;
    for (unsigned gaps = 0; at + 16 <= SECTOR; at += 16) {
        uint64_t offset = le64(sector + at);

        if (offset == 0 && ++gaps == 2)
            break;
        if (offset != 0 && gaps == 1)
            take_area(pv, offset);
    }
    return true;
}

struct lvm_pvs *lvm_pvs_read(struct look *look) {
    struct lvm_pvs *pvs = im_alloc(sizeof(*pvs));
    size_t parts = look->found->part_count;

    pvs->look = look;
    for (size_t i = 0; i < parts && pvs->count < LVM_PVS_MAX; i++) {
        const struct guest_part *part = &look->found->parts[i];
        struct lvm_pv *pv = &pvs->pvs[pvs->count];

        if (strcmp(part->filesystem, "LVM2_member") != 0)
            continue;
        *pv = (struct lvm_pv){.span = span_of(look, part->offset, part->len), .index = i};
        memcpy(pv->part, part->name, sizeof(pv->part));
        if (read_label(pv))
            pvs->count++;
        else
            look_found(look, GUEST_FOUND_LVM_DAMAGED, "the LVM label on %s is damaged", part->name);
    }
    return pvs;
}

void lvm_pvs_free(struct lvm_pvs *pvs) {
    if (pvs == NULL)
        return;
    for (size_t i = 0; i < pvs->count; i++)
        free(pvs->pvs[i].text);
    free(pvs);
}

const struct lvm_pv *lvm_pv_of(const struct lvm_pvs *pvs, const char *dashed) {
    char plain[LVM_UUID_LEN + 1];
    size_t used = 0;

    for (; *dashed != '\0' && used < LVM_UUID_LEN; dashed++)
        if (*dashed != '-')
            plain[used++] = *dashed;
    plain[used] = '\0';
    for (size_t i = 0; i < pvs->count; i++)
        if (strcmp(pvs->pvs[i].uuid, plain) == 0)
            return &pvs->pvs[i];
    return NULL;
}

/* --- Groups ----------------------------------------------------------------------------------- */

/* A text holds one; all physical volumes of it say the same. */
const struct lvm_node *lvm_group(const struct lvm_node *root) {
    const struct lvm_node *group = root != NULL ? root->children : NULL;

    while (group != NULL && group->children == NULL)
        group = group->next;
    return group;
}

bool lvm_multiply(uint64_t a, uint64_t b, uint64_t *ret_value) {
    return !__builtin_mul_overflow(a, b, ret_value) && *ret_value < (1ull << 62);
}

uint64_t lvm_extent(const struct lvm_node *group) {
    uint64_t extent;

    return lvm_multiply(lvm_number(group, "extent_size"), SECTOR, &extent) && extent <= 1ull << 44
               ? extent
               : 0;
}

bool lvm_is(const struct guest_part *part, const struct lvm_node *group,
            const struct lvm_node *volume) {
    char name[sizeof(part->name)];

    snprintf(name, sizeof(name), "%.39s/%.39s", group->name, volume->name);
    return strcmp(part->name, name) == 0;
}
