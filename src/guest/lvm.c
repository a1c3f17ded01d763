/* SPDX-License-Identifier: Apache-2.0 */
/* LVM2: physical volumes on this disk, and the logical volumes that can be read through them. */
#include "lvm.h"

#include <stdio.h>

#define LVS_MAX 64u
#define SEGMENTS_MAX 256u

/* --- Logical volumes -------------------------------------------------------------------------- */

struct lv {
    const struct lvm_pvs *vg;
    const struct lvm_node *group, *node;
    uint64_t extent; /* bytes */
    struct piece pieces[SEGMENTS_MAX];
    size_t count;
};

static void missing(const struct lv *lv) {
    look_found(lv->vg->look, GUEST_FOUND_LVM_MISSING,
               "logical volume %s/%s lies partly on another disk", lv->group->name, lv->node->name);
}

/* Where the stripe begins on the disk. */
static bool place_stripe(struct lv *lv, const char *pv_name, uint64_t extent, uint64_t bytes,
                         uint64_t *ret_at) {
    const struct lvm_node *pvs = lvm_child(lv->group, "physical_volumes");
    const struct lvm_node *row = lvm_child(pvs, pv_name);
    const struct lvm_pv *pv = lvm_pv_of(lv->vg, lvm_text(row, "id"));
    uint64_t start, offset;

    if (row == NULL || pv == NULL) {
        missing(lv);
        return false;
    }
    if (!lvm_multiply(lvm_number(row, "pe_start"), SECTOR, &start) ||
        !lvm_multiply(extent, lv->extent, &offset) || start + offset > pv->span.len ||
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
        !lvm_multiply(lvm_number(segment, "start_extent"), lv->extent, &piece->at) ||
        !lvm_multiply(lvm_number(segment, "extent_count"), lv->extent, &piece->len) ||
        !lvm_multiply(lvm_number(segment, "stripe_size"), SECTOR, &piece->stripe))
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
    for (size_t i = 0; i < look->found->part_count; i++)
        if (lvm_is(&look->found->parts[i], lv->group, lv->node))
            return true;
    return false;
}

/* The text holds one group; all physical volumes of it say the same. */
static void look_at_group(const struct lvm_pvs *vg, const struct lvm_pv *pv) {
    IM_AUTO(lvm_free_auto) struct lvm_node *root = lvm_parse(pv->text);
    const struct lvm_node *group = lvm_group(root);
    IM_AUTO(free_auto) struct lv *lv = im_alloc(sizeof(*lv));
    unsigned seen = 0;

    if (group == NULL) {
        look_found(vg->look, GUEST_FOUND_LVM_DAMAGED, "the LVM metadata on %s cannot be read",
                   pv->part);
        return;
    }
    lv->extent = lvm_extent(group);
    if (lv->extent == 0)
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
static void tell_torn(const struct lvm_pvs *vg) {
    const struct lvm_pv *torn = NULL;

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
    IM_AUTO(lvm_pvs_free_auto) struct lvm_pvs *vg = lvm_pvs_read(look);

    for (size_t i = 0; i < vg->count; i++)
        if (vg->pvs[i].text != NULL)
            look_at_group(vg, &vg->pvs[i]);
    tell_torn(vg);
}
