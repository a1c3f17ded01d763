/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as one file of a system: the first byte chooses which. The file system is one of ours
 * in memory, so that nothing but what reads fstab, menus, networks, registries and the like is
 * tried. For libFuzzer with clang; its saved inputs run as a normal test through replay.c. */
#include <stdio.h>
#include <stdlib.h>

#include "system.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* What there is beside the file. The kernel is none, but is there. */
static const struct {
    const char *path, *text;
} always[] = {
    {"/etc/os-release", "ID=debian\nVERSION_ID=12\n"},
    {"/usr/bin/cloud-init", "x"},
    {"/usr/lib/systemd/systemd", "x"},
    {"/boot/vmlinuz", "x"},
    {"/Windows/System32/config/SYSTEM", ""},
};
static const char *const paths[] = {
    "/etc/fstab",
    "/boot/grub/grub.cfg",
    "/boot/grub/menu.lst",
    "/boot/extlinux/extlinux.conf",
    "/boot/loader/entries/a.conf",
    "/boot/loader/loader.conf",
    "/boot/grub2/grubenv",
    "/etc/netplan/a.yaml",
    "/etc/network/interfaces",
    "/etc/NetworkManager/system-connections/a.nmconnection",
    "/etc/systemd/network/a.network",
    "/etc/systemd/network/a.link",
    "/etc/sysconfig/network-scripts/ifcfg-eth0",
    "/etc/sysconfig/network/ifcfg-eth0",
    "/etc/netctl/a",
    "/etc/rc.conf",
    "/etc/cloud/cloud.cfg",
    "/etc/udev/rules.d/70-persistent-net.rules",
    "/etc/os-release",
    "/etc/default/grub",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/var/lib/dpkg/status",
    "/lib/modules/6.1/modules.builtin",
    "/boot/vmlinuz",
    "/boot/initrd.img",
    "/Windows/System32/config/SOFTWARE",
    "/Windows/System32/config/SYSTEM",
};
enum { PATHS = sizeof(paths) / sizeof(paths[0]), ALWAYS = sizeof(always) / sizeof(always[0]) };

/* --- A file system ---------------------------------------------------------------------------- */

/* A node is a path, by its number, and how much of that: all of it is the file. */
struct memory {
    struct {
        const char *path;
        const uint8_t *bytes;
        size_t len;
    } files[ALWAYS + 1];
    size_t count;
};

static bool memory_facts(void *state, const struct node *node, struct node_facts *ret_facts) {
    const struct memory *memory = state;
    bool file = memory->files[node->id].path[node->within] == '\0';

    *ret_facts = (struct node_facts){.kind = file ? NODE_FILE : NODE_FOLDER,
                                     .mode = 0755,
                                     .size = file ? memory->files[node->id].len : 0};
    return true;
}

/* The name that comes next on the path of a file below the folder; NULL = it is not below. */
static const char *next_name(const struct memory *memory, const struct node *folder, size_t file) {
    const char *path = memory->files[file].path;

    if (strncmp(path, memory->files[folder->id].path, folder->within) != 0 ||
        path[folder->within] != '/')
        return NULL;
    return path + folder->within + 1;
}

static bool memory_find(void *state, const struct node *folder, const char *name, size_t len,
                        struct node *ret_node) {
    const struct memory *memory = state;

    for (size_t i = 0; i < memory->count; i++) {
        const char *next = next_name(memory, folder, i);

        if (next == NULL || strcspn(next, "/") != len || memcmp(next, name, len) != 0)
            continue;
        *ret_node = (struct node){i, (uint64_t) (next - memory->files[i].path) + len};
        return true;
    }
    return false;
}

static bool memory_list(void *state, const struct node *folder, node_visit *visit, void *arg) {
    const struct memory *memory = state;

    for (size_t i = 0; i < memory->count; i++) {
        const char *next = next_name(memory, folder, i);

        if (next != NULL && !visit(arg, next, strcspn(next, "/")))
            return true;
    }
    return true;
}

static bool memory_read(void *state, const struct node *node, uint64_t offset, void *bytes,
                        size_t len, size_t *ret_got) {
    const struct memory *memory = state;
    size_t size = memory->files[node->id].len;

    *ret_got = offset >= size ? 0 : size - offset < len ? size - (size_t) offset : len;
    if (*ret_got > 0)
        memcpy(bytes, memory->files[node->id].bytes + offset, *ret_got);
    return true;
}

static void memory_close(void *state) { (void) state; }

static const struct fs_ops memory_ops = {.facts = memory_facts,
                                         .find = memory_find,
                                         .list = memory_list,
                                         .read = memory_read,
                                         .close = memory_close};

static void add_file(struct memory *memory, const char *path, const void *bytes, size_t len) {
    memory->files[memory->count].path = path;
    memory->files[memory->count].bytes = bytes;
    memory->files[memory->count++].len = len;
}

/* --- The look --------------------------------------------------------------------------------- */

/* After the look at an empty disk: as if this had been on it. */
static void look_again(struct look *look, void *arg) {
    struct memory *memory = arg;
    struct volume *volume = im_alloc(sizeof(*volume));
    struct guest_part *part = look_part(look);

    if (part == NULL)
        abort();
    snprintf(part->filesystem, sizeof(part->filesystem), "ext4");
    snprintf(part->name, sizeof(part->name), "/dev/vda1");
    volume->span = span_of(look, 0, look->source->size_bytes);
    volume->ops = &memory_ops;
    volume->state = memory;
    volume->part = look->found->part_count - 1;
    look->volumes[look->volume_count++] = volume;
    system_look(look);
}

static bool read_zeros(void *arg, uint64_t offset, void *bytes, size_t len, struct im_err *err) {
    (void) arg, (void) offset, (void) err;
    memset(bytes, 0, len);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len) {
    struct guest_source source = {read_zeros, NULL, 1 << 20};
    struct guest_inspection *found = NULL;
    struct memory memory = {.count = 0};
    struct im_err err = {0};
    const char *path;

    if (len == 0)
        return 0;
    path = paths[bytes[0] % PATHS];
    add_file(&memory, path, bytes + 1, len - 1);
    for (size_t i = 0; i < ALWAYS; i++)
        if (strcmp(always[i].path, path) != 0 &&
            (strncmp(path, "/Windows", 8) != 0 || strncmp(always[i].path, "/Windows", 8) == 0))
            add_file(&memory, always[i].path, always[i].text, strlen(always[i].text));
    if (!look_run(&source, look_again, &memory, &found, &err))
        abort();
    guest_inspection_free(found);
    return 0;
}
