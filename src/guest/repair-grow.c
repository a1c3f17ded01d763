/* SPDX-License-Identifier: Apache-2.0 */
/* The root takes room that nothing uses: partition, physical and logical volume, file system, from
 * the outside in. Tables and LVM's metadata are written by us; the file system grows mounted. */
#include <stdio.h>

#include "repair-private.h"
#include "room.h"

/* What a kernel refuses of an ext file system, whose superblock this is. */
static const char *ext_cannot(const uint8_t *super, uint64_t len) {
    enum { SPARSE_2 = 0x200, RESIZE_INODE = 0x10, WIDE = 0x80 };
    uint32_t compat = le32(super + 92);
    bool wide = le32(super + 96) & WIDE;

    if (compat & SPARSE_2)
        return "it has the feature sparse_super2, with which it cannot grow while it is mounted";
    if (!(compat & RESIZE_INODE) && le16(super + 206) != 0)
        return "it lacks the inode that growth needs";
    if (!wide && len / (1024ull << (le32(super + 24) & 7)) > UINT32_MAX)
        return "it counts its blocks with 32 bits, which are too few: resize2fs -b first";
    return NULL;
}

/* Why the root's file system cannot have `len` bytes; NULL = it can. */
static const char *why_not(const struct look *look, const struct volume *root, uint64_t len) {
    uint8_t super[1024];

    if (look_has(look, GUEST_FOUND_FS_DAMAGED))
        return "it is marked as damaged: check it first";
    if (look_has(look, GUEST_FOUND_FS_DEVICES))
        return "a part of it lies on another disk";
    if (!im_starts_with(volume_part(root)->filesystem, "ext"))
        return NULL;
    return span_read(&root->span, 1024, super, sizeof(super)) ? ext_cannot(super, len)
                                                              : "it cannot be read";
}

static bool find(struct planning *planning, struct room *room) {
    if (planning->tree != NULL && room_find(planning->look, planning->tree, room))
        return true;
    plan_cannot(planning, "it is not known what lies where");
    return false;
}

static bool allowed(struct planning *planning, const struct room *room, uint64_t len) {
    const char *why = why_not(planning->look, room->root, len);

    if (why != NULL)
        plan_cannot(planning, "the root file system stays as it is: %s", why);
    return why == NULL;
}

static void grow_root(struct planning *planning, const struct room *room,
                      const struct guest_piece *more) {
    planning->grown = room->root;
    planning->more = *more;
    plan_grow(planning, "/");
}

/* The physical volume takes so much of its partition; `outside`: what happened before, in words. */
static void grow_lvm(struct planning *planning, const struct room *room, uint64_t part_len,
                     const char *outside) {
    const struct guest_part *volume = volume_part(room->root);
    struct guest_piece more = {0};
    const char *why = NULL;
    char size[16];

    if (!lvm_grow(planning, room->part, part_len, volume, &more, &why)) {
        if (outside[0] != '\0')
            plan_done(planning, "%sthe physical volume stays as it is: %s", outside, why);
        else
            plan_cannot(planning, "the physical volume stays as it is: %s", why);
        return;
    }
    if (more.bytes == 0) {
        plan_done(planning, "%sthe physical volume grows, and its group has more free extents: %s",
                  outside, why);
        return;
    }
    grow_root(planning, room, &more);
    plan_done(planning, "%sthe physical volume grows, and by %s %s with its %s file system",
              outside, im_size_text(more.bytes, size), volume->name, volume->filesystem);
}

void repair_partition_room(struct planning *planning) {
    const struct guest_part *part;
    uint64_t bytes;
    struct room room;
    char from[16], to[16];

    if (!find(planning, &room))
        return;
    part = &planning->look->found->parts[room.part];
    bytes = room.part_len - part->len;
    if (!allowed(planning, &room, room.root->span.len + bytes))
        return;
    if (!table_grow(planning, part, room.part_len)) {
        plan_cannot(planning, "the partition table cannot be written anew");
        return;
    }
    (void) im_size_text(part->len, from);
    (void) im_size_text(room.part_len, to);
    if (room.pv_used != 0) {
        IM_AUTO(free_auto)
        char *outside = im_printf("partition %u grows from %s to %s; ", part->number, from, to);

        grow_lvm(planning, &room, room.part_len, outside);
        return;
    }
    grow_root(
        planning, &room,
        &(struct guest_piece){.bytes = bytes, .areas = 1, .area = {part->offset + part->len}});
    plan_done(planning, "partition %u grows from %s to %s, and its %s file system with it",
              part->number, from, to, part->filesystem);
}

void repair_lvm_room(struct planning *planning) {
    struct room room;
    uint64_t len;

    if (planning->lvm_written) {
        plan_done(planning, "the physical volume takes all of its partition");
        return;
    }
    if (!find(planning, &room))
        return;
    len = planning->look->found->parts[room.part].len;
    if (allowed(planning, &room, room.root->span.len + (len - room.pv_used)))
        grow_lvm(planning, &room, len, "");
}

void repair_filesystem_room(struct planning *planning) {
    struct room room;
    char size[16];

    if (planning->grown != NULL) {
        plan_done(planning, "the root file system takes all of its place");
        return;
    }
    if (!find(planning, &room) || !allowed(planning, &room, room.root->span.len))
        return;
    grow_root(planning, &room, &(struct guest_piece){0});
    plan_done(planning, "the %s file system on %s grows to %s", volume_part(room.root)->filesystem,
              volume_part(room.root)->name, im_size_text(room.root->span.len, size));
}
