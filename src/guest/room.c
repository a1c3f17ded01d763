/* SPDX-License-Identifier: Apache-2.0 */
/* Room of the disk that the system's root could have: behind its partition, behind what LVM uses of
 * it, and behind its file system. */
#include "room.h"

#include <stdio.h>

#include "gpt.h"
#include "lvm.h"

#define ALIGN (1ull << 20)
enum { LITTLE_BYTES = 64 << 20, LITTLE_PART = 20 };

static uint64_t less(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* --- Behind a partition ----------------------------------------------------------------------- */

/* Where partitions of the table have to end; 0 = nothing is to be changed in it. */
static uint64_t end_of_gpt(struct look *look) {
    struct gpt gpt = {0};
    uint64_t end = 0;

    if (gpt_load_any(look, &gpt) && gpt_last_usable(look, &gpt) > 0)
        end = (gpt_last_usable(look, &gpt) + 1) * gpt.sector;
    free(gpt.entries);
    return end;
}

/* A second table in the first sector, of the same partitions, would tell another size. */
static bool has_two_tables(const struct mbr *mbr) {
    size_t count = 0;

    for (size_t i = 0; i < 4; i++)
        count += mbr->entries[i].type != 0;
    return count > 1;
}

/* Sectors are counted with 32 bits. */
static uint64_t end_of_mbr(const struct look *look) {
    return less(look->source->size_bytes, ((uint64_t) UINT32_MAX + 1) * SECTOR);
}

/* An extended partition may grow when it holds this one, and nothing behind it. */
static bool behind_chain(const struct look *look, const struct guest_part *part,
                         const struct mbr *mbr, uint64_t *end) {
    size_t extended = 0;

    for (size_t i = 0; i < 4; i++)
        extended += mbr->entries[i].extended;
    for (size_t i = 0; i < look->found->part_count; i++)
        if (look->found->parts[i].number > 4 && look->found->parts[i].offset > part->offset)
            return false;
    *end = less(*end, end_of_mbr(look));
    return extended == 1;
}

/* Up to the first thing behind it. */
static uint64_t end_of_room(struct look *look, const struct guest_part *part) {
    bool gpt = look->found->table == GUEST_TABLE_GPT;
    uint64_t behind = part->offset + part->len;
    uint64_t end = gpt ? end_of_gpt(look) : end_of_mbr(look);
    struct mbr mbr;

    if (!mbr_read(look, &mbr) || (gpt && has_two_tables(&mbr)) ||
        (!gpt && part->number > 4 && !behind_chain(look, part, &mbr, &end)))
        return behind;
    for (size_t i = 0; i < look->found->part_count; i++) {
        const struct guest_part *other = &look->found->parts[i];

        if (other->number != 0 && other->offset >= behind)
            end = less(end, other->offset);
    }
    for (size_t i = 0; !gpt && i < 4; i++)
        if (mbr.entries[i].extended && mbr.entries[i].first * SECTOR >= behind)
            end = less(end, mbr.entries[i].first * SECTOR);
    end -= end % ALIGN;
    return end > behind ? end : behind;
}

static bool table_is_right(const struct look *look) {
    static const enum guest_found wrong[] = {GUEST_FOUND_MBR_ENTRY, GUEST_FOUND_MBR_CHAIN,
                                             GUEST_FOUND_GPT_DAMAGED, GUEST_FOUND_PART_BEYOND,
                                             GUEST_FOUND_PART_OVERLAP};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        if (look_has(look, wrong[i]))
            return false;
    return true;
}

static uint64_t most_of(struct look *look, const struct guest_part *part) {
    return part->number != 0 && table_is_right(look) ? end_of_room(look, part) - part->offset
                                                     : part->len;
}

/* --- Behind what LVM uses --------------------------------------------------------------------- */

static const struct lvm_node *volume_named(const struct lvm_node *group,
                                           const struct guest_part *part) {
    for (const struct lvm_node *node = lvm_children(group, "logical_volumes"); node != NULL;
         node = node->next)
        if (node->children != NULL && lvm_is(part, group, node))
            return node;
    return NULL;
}

/* What is used of the physical volume; metadata behind it would be in the way. */
static bool used_of(const struct lvm_pv *pv, const struct lvm_node *row, uint64_t extent,
                    uint64_t *ret_used) {
    uint64_t start, extents;

    if (!lvm_multiply(lvm_number(row, "pe_start"), SECTOR, &start) ||
        !lvm_multiply(lvm_number(row, "pe_count"), extent, &extents) || start == 0 ||
        start + extents > pv->span.len)
        return false;
    for (size_t i = 0; i < pv->area_count; i++)
        if (pv->areas[i] >= start)
            return false;
    *ret_used = start + extents;
    return true;
}

/* Whole ones only. */
static uint64_t whole_extents(uint64_t bytes, uint64_t each) { return bytes / each * each; }

static uint64_t gain(const struct room *room) {
    return whole_extents(room->part_len - room->pv_used, room->extent);
}

/* Of several physical volumes the one that can grow most. */
static void try_volumes(struct look *look, const struct lvm_pvs *pvs, const struct lvm_node *group,
                        struct room *room) {
    for (const struct lvm_node *row = lvm_children(group, "physical_volumes"); row != NULL;
         row = row->next) {
        const struct lvm_pv *pv = lvm_pv_of(pvs, lvm_text(row, "id"));
        struct room other = {.root = room->root, .extent = lvm_extent(group)};

        if (pv == NULL || !used_of(pv, row, other.extent, &other.pv_used))
            continue;
        other.part = pv->index;
        other.part_len = most_of(look, &look->found->parts[pv->index]);
        if (room->pv_used == 0 || gain(&other) > gain(room))
            *room = other;
    }
}

static bool find_in_lvm(struct look *look, struct room *room) {
    IM_AUTO(lvm_pvs_free_auto) struct lvm_pvs *pvs = lvm_pvs_read(look);

    for (size_t i = 0; i < pvs->count && room->pv_used == 0; i++) {
        IM_AUTO(lvm_free_auto)
        struct lvm_node *root = pvs->pvs[i].text != NULL ? lvm_parse(pvs->pvs[i].text) : NULL;
        const struct lvm_node *group = lvm_group(root);

        if (group != NULL && lvm_extent(group) != 0 &&
            volume_named(group, volume_part(room->root)) != NULL)
            try_volumes(look, pvs, group, room);
    }
    return room->pv_used != 0;
}

/* --- All of it -------------------------------------------------------------------------------- */

/* What is not worth a word is none. */
static uint64_t unless_little(uint64_t more, uint64_t size) {
    return more >= LITTLE_BYTES && more >= size / LITTLE_PART ? more : 0;
}

uint64_t room_outside(const struct look *look, const struct room *room) {
    const struct guest_part *part = &look->found->parts[room->part];

    return unless_little(room->part_len - part->len, part->len);
}

uint64_t room_of_lvm(const struct look *look, const struct room *room) {
    const struct guest_part *part = &look->found->parts[room->part];

    return room->pv_used == 0
               ? 0
               : unless_little(whole_extents(part->len - room->pv_used, room->extent),
                               room->pv_used);
}

uint64_t room_inside(const struct room *room) {
    uint64_t has = volume_part(room->root)->filesystem_bytes, may = room->root->span.len;

    return has < may ? unless_little(may - has, has) : 0;
}

static bool can_grow(const char *filesystem) {
    return im_starts_with(filesystem, "ext") || strcmp(filesystem, "xfs") == 0 ||
           strcmp(filesystem, "btrfs") == 0;
}

bool room_find(struct look *look, const struct tree *tree, struct room *ret_room) {
    struct room room = {.root = tree->mounts[0].volume};
    const struct guest_part *part = volume_part(room.root);

    if (!can_grow(part->filesystem) || part->filesystem_bytes == 0)
        return false;
    if (strcmp(part->type, "lv") == 0) {
        if (!find_in_lvm(look, &room))
            return false;
    } else {
        room.part = room.root->part;
        room.part_len = most_of(look, part);
    }
    *ret_room = room;
    return true;
}

/* The initramfs does it: the partition alone. */
static bool initramfs_grows(const struct tree *tree) {
    return tree_has(tree, "/usr/share/initramfs-tools/scripts/local-bottom/growroot") ||
           tree_has(tree, "/usr/lib/dracut/modules.d/50growroot");
}

/* systemd-repart, or a unit that is called so. */
static bool grows_itself(const struct tree *tree) {
    static const char *const units[] = {"grow", "resize", "expand-root", "extend-filesystems"};
    static const char *const plans[] = {"/etc/repart.d", "/usr/lib/repart.d"};
    char unit[64];

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (unit_begins(tree, units[i], unit, sizeof(unit)))
            return true;
    for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
        IM_AUTO(im_strings_done) struct im_strings names = {0};

        tree_names(tree, plans[i], "", ".conf", &names);
        if (names.count > 0)
            return true;
    }
    return false;
}

static bool asks_systemd(const struct fstab *fstab) {
    for (size_t i = 0; i < fstab->count; i++)
        if (strcmp(fstab->lines[i].path, "/") == 0 &&
            strstr(fstab->lines[i].options, "x-systemd.growfs") != NULL)
            return true;
    return false;
}

static void tell_outside(struct look *look, const struct room *room) {
    char size[16];

    look_found(look, GUEST_FOUND_PART_ROOM,
               "behind partition %u, on which the root file system lies, there are %s that nothing "
               "uses",
               look->found->parts[room->part].number, im_size_text(room_outside(look, room), size));
}

static void tell_lvm(struct look *look, const struct room *room) {
    char size[16];

    look_found(look, GUEST_FOUND_LVM_ROOM,
               "LVM leaves %s of %s unused: its physical volume is smaller",
               im_size_text(room_of_lvm(look, room), size), look->found->parts[room->part].name);
}

static void tell_inside(struct look *look, const struct room *room) {
    const struct guest_part *part = volume_part(room->root);
    char small[16], large[16];

    look_found(look, GUEST_FOUND_FS_ROOM,
               "the root file system on %s is %s large, and there are %s for it", part->name,
               im_size_text(part->filesystem_bytes, small),
               im_size_text(room->root->span.len, large));
}

void room_check(struct look *look, const struct tree *tree, const struct fstab *fstab,
                const struct cloud *cloud) {
    struct room room;
    bool outside, lvm, inside;

    if (strcmp(look->found->os.platform, "linux") != 0 || !room_find(look, tree, &room))
        return;
    outside = room_outside(look, &room) > 0 && !cloud->grows_partition;
    lvm = room_of_lvm(look, &room) > 0 && !cloud->grows_filesystem;
    inside = room_inside(&room) > 0 && !cloud->grows_filesystem && !asks_systemd(fstab);
    if ((!outside && !lvm && !inside) || grows_itself(tree))
        return;
    if (outside && !initramfs_grows(tree))
        tell_outside(look, &room);
    if (lvm)
        tell_lvm(look, &room);
    if (inside)
        tell_inside(look, &room);
}
