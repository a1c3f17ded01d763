/* SPDX-License-Identifier: Apache-2.0 */
/* LVM2: the physical volumes of a disk, and logical volumes as further parts of a look. */
#ifndef LVM_H
#define LVM_H

#include "inspect-private.h"
#include "lvm-text.h"

/* Finds the logical volumes on the parts that are physical volumes, and looks at each. */
void lvm_look(struct look *look);

/* --- lvm-pv.c --------------------------------------------------------------------------------- */

#define LVM_PVS_MAX 16u
#define LVM_AREAS_MAX 4u
#define LVM_UUID_LEN 32u

struct lvm_pv {
    struct span span;
    size_t index;                /* of its part */
    char part[80];               /* its name */
    char uuid[LVM_UUID_LEN + 1]; /* without dashes */
    uint64_t label;              /* bytes within the span, as are the next */
    uint64_t areas[LVM_AREAS_MAX];
    size_t area_count; /* of metadata */
    char *text;        /* the newest that it has, owned; NULL = none */
    bool torn;         /* it should have some */
};
/* All that a disk has; those of one group need not be all of them. */
struct lvm_pvs {
    struct look *look;
    struct lvm_pv pvs[LVM_PVS_MAX];
    size_t count;
};
/* Tells of labels that cannot be read. Never NULL. */
struct lvm_pvs *lvm_pvs_read(struct look *look);
void lvm_pvs_free(struct lvm_pvs *pvs);
IM_DEFINE_AUTO(struct lvm_pvs *, lvm_pvs_free)
/* The one whose id is written so, with dashes; NULL if it is not on this disk. */
const struct lvm_pv *lvm_pv_of(const struct lvm_pvs *pvs, const char *dashed);

/* An area of metadata: where the newest text lies in it, in bytes from its beginning. */
struct lvm_area {
    uint8_t header[SECTOR];
    uint64_t len, text_at, text_len; /* text_len 0: it has none */
};
/* False where there is no area. */
bool lvm_area_read(const struct lvm_pv *pv, uint64_t at, struct lvm_area *ret_area);

/* The group that a text describes; NULL = none. */
const struct lvm_node *lvm_group(const struct lvm_node *root);
uint64_t lvm_extent(const struct lvm_node *group); /* bytes; 0 = it makes no sense */
/* The part is this volume of the group. */
bool lvm_is(const struct guest_part *part, const struct lvm_node *group,
            const struct lvm_node *volume);
/* False when the product is no size of anything. */
bool lvm_multiply(uint64_t a, uint64_t b, uint64_t *ret_value);

#endif
