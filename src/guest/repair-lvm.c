/* SPDX-License-Identifier: Apache-2.0 */
/* LVM's metadata when a physical volume has become larger: what pvresize and lvextend would write.
 * The text is changed in a few places and stays else as it is; it is written behind the old one,
 * into each area that the group has, and then the areas' headers name it. */
#include <inttypes.h>
#include <stdio.h>
#include <zlib.h>

#include "lvm.h"
#include "repair-private.h"

enum { PATCHES_MAX = 8, LABEL_CRC = 16, LABEL_FROM = 20 };
enum { AREA_CRC = 0, AREA_FROM = 4, AREA_TEXT = 40, AREA_NEXT = 64, AREA_IGNORED = 1 };

/* LVM's is zlib's, begun with a number of its own and not turned over at the end. */
static uint32_t lvm_crc(const void *bytes, size_t len) {
    return ~(uint32_t) crc32(~0xf597a6cfu, bytes, (uInt) len);
}

/* --- Changes of the text ---------------------------------------------------------------------- */

struct patch {
    size_t from, to;
    char *text; /* owned */
};
struct growth {
    struct planning *planning;
    const struct lvm_pvs *pvs;
    const struct lvm_pv *members[LVM_PVS_MAX]; /* of the group: all keep its metadata */
    size_t member_count;
    const struct lvm_pv *pv; /* the one that grows */
    const char *text;        /* as it is */
    const struct lvm_node *group, *row, *volume;
    const char *row_name;
    uint64_t extent, start, old_count, count; /* of the physical volume's extents */
    struct patch patches[PATCHES_MAX];
    size_t patch_count;
};

static void patch(struct growth *growth, size_t from, size_t to, char *text) {
    growth->patches[growth->patch_count++] = (struct patch){from, to, text};
}

static bool set_number(struct growth *growth, const struct lvm_node *section, const char *key,
                       uint64_t value) {
    const struct lvm_node *node = lvm_child(section, key);

    if (node == NULL || node->value == NULL)
        return false;
    patch(growth, node->from, node->to, im_printf("%" PRIu64, value));
    return true;
}

static int by_place(const void *a, const void *b) {
    const struct patch *one = a, *other = b;

    return (one->from > other->from) - (one->from < other->from);
}

static char *patched(struct growth *growth) {
    struct im_str text = {0};
    size_t at = 0;

    qsort(growth->patches, growth->patch_count, sizeof(growth->patches[0]), by_place);
    for (size_t i = 0; i < growth->patch_count; i++) {
        const struct patch *patch = &growth->patches[i];

        im_str_add_bytes(&text, growth->text + at, patch->from - at);
        im_str_add(&text, patch->text);
        at = patch->to;
    }
    im_str_add(&text, growth->text + at);
    return im_str_take(&text);
}

/* --- The logical volume ----------------------------------------------------------------------- */

/* Snapshots of the older kind share its blocks by their number. */
static bool has_snapshots(const struct growth *growth) {
    for (const struct lvm_node *other = lvm_children(growth->group, "logical_volumes");
         other != NULL; other = other->next)
        for (const struct lvm_node *node = other->children; node != NULL; node = node->next)
            if (strcmp(lvm_text(node, "origin"), growth->volume->name) == 0)
                return true;
    return false;
}

struct tail {
    const struct lvm_node *last; /* the segment with the highest extents */
    uint64_t end, segments;
};

static struct tail tail_of(const struct lvm_node *volume) {
    struct tail tail = {0};

    for (const struct lvm_node *node = volume->children; node != NULL; node = node->next) {
        uint64_t end = lvm_number(node, "start_extent") + lvm_number(node, "extent_count");

        if (node->children == NULL || !im_starts_with(node->name, "segment"))
            continue;
        tail.segments++;
        if (end > tail.end) {
            tail.end = end;
            tail.last = node;
        }
    }
    return tail;
}

/* The last segment ends where the new extents begin. */
static bool adjoins(const struct growth *growth, const struct lvm_node *segment) {
    char name[128];
    uint64_t first;

    return lvm_number(segment, "stripe_count") == 1 &&
           lvm_pair(segment, "stripes", 0, name, sizeof(name), &first) &&
           strcmp(name, growth->row_name) == 0 &&
           first + lvm_number(segment, "extent_count") == growth->old_count;
}

static bool lengthen(struct growth *growth) {
    struct tail tail = tail_of(growth->volume);
    uint64_t more = growth->count - growth->old_count;

    if (tail.last == NULL)
        return false;
    if (adjoins(growth, tail.last))
        return set_number(growth, tail.last, "extent_count",
                          lvm_number(tail.last, "extent_count") + more);
    patch(growth, growth->volume->to, growth->volume->to,
          im_printf("\nsegment%" PRIu64 " {\nstart_extent = %" PRIu64 "\nextent_count = %" PRIu64
                    "\n\ntype = \"striped\"\nstripe_count = 1\n\nstripes = [\n\"%s\", %" PRIu64
                    "\n]\n}\n",
                    tail.segments + 1, tail.end, more, growth->row_name, growth->old_count));
    return set_number(growth, growth->volume, "segment_count", tail.segments + 1);
}

/* NULL = it gets the new extents. */
static const char *grow_volume(struct growth *growth) {
    if (has_snapshots(growth))
        return "the root's volume has snapshots";
    if (!lvm_list_has(growth->row, "status", "ALLOCATABLE"))
        return "nothing is to be put on this physical volume";
    return lengthen(growth) ? NULL : "the root's volume is of a kind that is not known";
}

/* --- Writing ---------------------------------------------------------------------------------- */

/* Behind the old text, or before it; 0 = it does not fit. */
static uint64_t place_for(const struct lvm_area *area, uint64_t len) {
    uint64_t behind = ceil_div(area->text_at + area->text_len, SECTOR) * SECTOR;

    if (behind <= area->len && len <= area->len - behind)
        return behind;
    return len + SECTOR <= area->text_at ? SECTOR : 0;
}

static bool is_used(const struct lvm_area *area) {
    return area->text_len != 0 && !(le32(area->header + AREA_TEXT + 20) & AREA_IGNORED);
}

/* It lies within its volume, and its text within it; nothing is half done in it. */
static bool is_sound(const struct lvm_pv *pv, uint64_t at, const struct lvm_area *area) {
    return area->len <= pv->span.len && at <= pv->span.len - area->len && area->text_at >= SECTOR &&
           area->text_at < area->len && area->text_len <= area->len &&
           im_all_zero(area->header + AREA_NEXT, 24);
}

/* Each area is looked at before the first is written. */
static bool areas_fit(const struct growth *growth, uint64_t len) {
    size_t used = 0;

    for (size_t i = 0; i < growth->member_count; i++)
        for (size_t k = 0; k < growth->members[i]->area_count; k++) {
            const struct lvm_pv *pv = growth->members[i];
            struct lvm_area area;

            if (!lvm_area_read(pv, pv->areas[k], &area))
                return false;
            if (!is_used(&area))
                continue;
            if (!is_sound(pv, pv->areas[k], &area) || place_for(&area, len) == 0)
                return false;
            used++;
        }
    return used > 0;
}

static void write_area(struct growth *growth, const struct lvm_pv *pv, uint64_t at,
                       struct lvm_area *area, const char *text) {
    size_t len = strlen(text) + 1; /* LVM counts the NUL */
    uint64_t place = place_for(area, len);
    char what[160];

    put_le64(area->header + AREA_TEXT, place);
    put_le64(area->header + AREA_TEXT + 8, len);
    put_le32(area->header + AREA_TEXT + 16, lvm_crc(text, len));
    put_le32(area->header + AREA_CRC, lvm_crc(area->header + AREA_FROM, SECTOR - AREA_FROM));
    snprintf(what, sizeof(what), "the metadata of volume group %.80s on %.60s", growth->group->name,
             pv->part);
    plan_raw(growth->planning, pv->span.offset + at + place, text, len, what);
    snprintf(what, sizeof(what), "where the metadata of volume group %.60s lies on %.60s",
             growth->group->name, pv->part);
    plan_raw(growth->planning, pv->span.offset + at, area->header, SECTOR, what);
}

static void write_areas(struct growth *growth, const char *text) {
    for (size_t i = 0; i < growth->member_count; i++)
        for (size_t k = 0; k < growth->members[i]->area_count; k++) {
            const struct lvm_pv *pv = growth->members[i];
            struct lvm_area area;

            if (lvm_area_read(pv, pv->areas[k], &area) && is_used(&area))
                write_area(growth, pv, pv->areas[k], &area, text);
        }
}

/* The label has the size of the device as well. */
static bool write_label(struct growth *growth, uint64_t part_len) {
    const struct lvm_pv *pv = growth->pv;
    uint8_t sector[SECTOR];
    char what[120];

    if (!span_read(&pv->span, pv->label, sector, sizeof(sector)))
        return false;
    put_le64(sector + le32(sector + 20) + LVM_UUID_LEN, part_len);
    put_le32(sector + LABEL_CRC, lvm_crc(sector + LABEL_FROM, SECTOR - LABEL_FROM));
    snprintf(what, sizeof(what), "the size of the physical volume on %.80s", pv->part);
    plan_raw(growth->planning, pv->span.offset + pv->label, sector, sizeof(sector), what);
    return true;
}

/* --- Both ------------------------------------------------------------------------------------- */

static const struct lvm_node *find_volume(const struct lvm_node *group,
                                          const struct guest_part *volume) {
    const struct lvm_node *node = lvm_children(group, "logical_volumes");

    while (node != NULL && (node->children == NULL || !lvm_is(volume, group, node)))
        node = node->next;
    return node;
}

/* All physical volumes of the group have to be here. */
static const char *find_rows(struct growth *growth) {
    for (const struct lvm_node *row = lvm_children(growth->group, "physical_volumes"); row != NULL;
         row = row->next) {
        const struct lvm_pv *pv = lvm_pv_of(growth->pvs, lvm_text(row, "id"));

        if (pv == NULL || growth->member_count == LVM_PVS_MAX)
            return "a part of its volume group is on another disk";
        growth->members[growth->member_count++] = pv;
        if (pv == growth->pv) {
            growth->row = row;
            growth->row_name = row->name;
        }
    }
    return growth->row != NULL && lvm_list_has(growth->group, "status", "RESIZEABLE") &&
                   lvm_list_has(growth->group, "status", "WRITE")
               ? NULL
               : "its volume group is not to be changed";
}

/* How many extents there will be; LVM counts them with 32 bits. */
static const char *measure(struct growth *growth, uint64_t part_len) {
    if (!lvm_multiply(lvm_number(growth->row, "pe_start"), SECTOR, &growth->start) ||
        growth->start >= part_len)
        return "its metadata makes no sense";
    growth->old_count = lvm_number(growth->row, "pe_count");
    growth->count = (part_len - growth->start) / growth->extent;
    if (growth->count > UINT32_MAX)
        growth->count = UINT32_MAX;
    return growth->count > growth->old_count ? NULL : "there is no room for another extent";
}

static const char *change_text(struct growth *growth, uint64_t part_len) {
    return set_number(growth, growth->group, "seqno", lvm_number(growth->group, "seqno") + 1) &&
                   set_number(growth, growth->row, "dev_size", part_len / SECTOR) &&
                   set_number(growth, growth->row, "pe_count", growth->count)
               ? NULL
               : "its metadata lacks what is to be changed";
}

static struct guest_piece piece_of(const struct growth *growth) {
    return (struct guest_piece){
        .bytes = (growth->count - growth->old_count) * growth->extent,
        .areas = 1,
        .area = {growth->pv->span.offset + growth->start + growth->old_count * growth->extent}};
}

static bool grow(struct growth *growth, uint64_t part_len, struct guest_piece *ret_more,
                 const char **ret_why) {
    IM_AUTO(free_auto) char *text = NULL;
    const char *stays;

    if ((*ret_why = find_rows(growth)) != NULL || (*ret_why = measure(growth, part_len)) != NULL ||
        (*ret_why = change_text(growth, part_len)) != NULL)
        return false;
    stays = grow_volume(growth);
    text = patched(growth);
    if (!areas_fit(growth, strlen(text) + 1) || !write_label(growth, part_len)) {
        *ret_why = "there is no room for its new metadata";
        return false;
    }
    write_areas(growth, text);
    growth->planning->lvm_written = true;
    *ret_more = stays == NULL ? piece_of(growth) : (struct guest_piece){0};
    *ret_why = stays;
    return true;
}

bool lvm_grow(struct planning *planning, size_t part, uint64_t part_len,
              const struct guest_part *volume, struct guest_piece *ret_more, const char **ret_why) {
    IM_AUTO(lvm_pvs_free_auto) struct lvm_pvs *pvs = lvm_pvs_read(planning->look);
    struct growth growth = {.planning = planning, .pvs = pvs};
    bool fine = false;

    *ret_why = "its metadata cannot be read";
    for (size_t i = 0; i < pvs->count; i++)
        if (pvs->pvs[i].index == part)
            growth.pv = &pvs->pvs[i];
    for (size_t i = 0; i < pvs->count && growth.volume == NULL; i++) {
        IM_AUTO(lvm_free_auto)
        struct lvm_node *root = pvs->pvs[i].text != NULL ? lvm_parse(pvs->pvs[i].text) : NULL;

        growth.text = pvs->pvs[i].text;
        growth.group = lvm_group(root);
        growth.extent = growth.group != NULL ? lvm_extent(growth.group) : 0;
        if (growth.extent == 0)
            continue;
        growth.volume = find_volume(growth.group, volume);
        if (growth.volume != NULL && growth.pv != NULL)
            fine = grow(&growth, part_len, ret_more, ret_why);
    }
    for (size_t i = 0; i < growth.patch_count; i++)
        free(growth.patches[i].text);
    return fine;
}
