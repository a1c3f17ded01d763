/* SPDX-License-Identifier: Apache-2.0 */
/* /etc/fstab: what is mounted where, and whether each device is on the disk. */
#include <stdio.h>

#include "system.h"

#define LINES_MAX 200u

/* --- The file --------------------------------------------------------------------------------- */

struct fstab *fstab_read(const struct tree *tree) {
    struct fstab *fstab = im_alloc(sizeof(*fstab));
    IM_AUTO(free_auto) char *text = tree_text(tree, "/etc/fstab");
    char *at = text, *line;

    for (unsigned i = 1; text != NULL && i <= LINES_MAX && (line = text_line(&at)) != NULL; i++) {
        char device[256], path[256], type[64], options[256] = "";

        line += strspn(line, " \t");
        if (*line == '#' || sscanf(line, "%255s %255s %63s %255s", device, path, type, options) < 3)
            continue;
        im_grow(&fstab->lines, fstab->count, &fstab->capacity);
        fstab->lines[fstab->count++] = (struct fstab_line){im_strdup(device), im_strdup(path),
                                                           im_strdup(type), im_strdup(options), i};
    }
    return fstab;
}

void fstab_free(struct fstab *fstab) {
    for (size_t i = 0; i < fstab->count; i++) {
        free(fstab->lines[i].device);
        free(fstab->lines[i].path);
        free(fstab->lines[i].type);
        free(fstab->lines[i].options);
    }
    free(fstab->lines);
    free(fstab);
}

/* --- Devices ---------------------------------------------------------------------------------- */

/* /dev/vg/lv, or /dev/mapper/vg-lv in which a dash of a name is two. */
void volume_path(const struct guest_part *part, char out[VOLUME_PATH_BYTES]) {
    size_t used = (size_t) snprintf(out, VOLUME_PATH_BYTES, "/dev/mapper/");

    for (const char *c = part->name; *c != '\0' && used + 2 < VOLUME_PATH_BYTES; c++) {
        if (*c == '-')
            out[used++] = '-';
        out[used++] = *c == '/' ? '-' : *c;
    }
    out[used] = '\0';
}

static bool volume_is(const struct guest_part *part, const char *device) {
    char mapped[VOLUME_PATH_BYTES];

    if (strcmp(part->type, "lv") != 0)
        return false;
    volume_path(part, mapped);
    return strcmp(mapped, device) == 0 ||
           (im_starts_with(device, "/dev/") && strcmp(part->name, device + strlen("/dev/")) == 0);
}

/* A device as udev links it, /dev/disk/by-uuid/X, is the same as UUID=X. */
static const struct {
    const char *tag, *link;
    size_t at; /* of the text in a part */
    bool any_case;
} tags[] = {
    {"UUID=", "/dev/disk/by-uuid/", offsetof(struct guest_part, uuid), true},
    {"PARTUUID=", "/dev/disk/by-partuuid/", offsetof(struct guest_part, partuuid), true},
    {"LABEL=", "/dev/disk/by-label/", offsetof(struct guest_part, label), false},
    {"PARTLABEL=", "/dev/disk/by-partlabel/", offsetof(struct guest_part, partlabel), false},
    /* As FreeBSD says it. */
    {"/dev/ufsid/", "/dev/ufsid/", offsetof(struct guest_part, uuid), true},
    {"/dev/ufs/", "/dev/ufs/", offsetof(struct guest_part, label), false},
    {"/dev/msdosfs/", "/dev/msdosfs/", offsetof(struct guest_part, label), false},
    {"/dev/gpt/", "/dev/gpt/", offsetof(struct guest_part, partlabel), false},
    {"/dev/gptid/", "/dev/gptid/", offsetof(struct guest_part, partuuid), true},
};

/* The value that a tag is followed by, which part_is compares; NULL = another kind of name. */
static const char *tag_value(const char *device, size_t tag) {
    return im_starts_with(device, tags[tag].tag)    ? device + strlen(tags[tag].tag)
           : im_starts_with(device, tags[tag].link) ? device + strlen(tags[tag].link)
                                                    : NULL;
}

static bool part_is(const struct guest_part *part, size_t tag, const char *value) {
    const char *has = (const char *) part + tags[tag].at;
    IM_AUTO(free_auto) char *plain = NULL;

    value += *value == '"';
    plain = im_strndup(value, strcspn(value, "\""));
    return has[0] != '\0' &&
           (tags[tag].any_case ? strcasecmp(has, plain) : strcmp(has, plain)) == 0;
}

const struct guest_part *part_named(const struct look *look, const char *device) {
    for (size_t i = 0; i < look->found->part_count; i++) {
        const struct guest_part *part = &look->found->parts[i];

        if (volume_is(part, device))
            return part;
        for (size_t tag = 0; tag < sizeof(tags) / sizeof(tags[0]); tag++) {
            const char *value = tag_value(device, tag);

            if (value != NULL && part_is(part, tag, value))
                return part;
        }
    }
    return NULL;
}

/* /dev/ada0p2, and not /dev/data/lv. */
static bool bsd_by_number(const char *device) {
    static const char *const begins[] = {"/dev/ada", "/dev/da", "/dev/vtbd", "/dev/nda",
                                         "/dev/nvd"};

    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
        size_t len = strlen(begins[i]);

        if (im_starts_with(device, begins[i]) && device[len] >= '0' && device[len] <= '9')
            return true;
    }
    return false;
}

bool device_by_number(const char *device) {
    static const char *const begins[] = {"/dev/sd", "/dev/hd", "/dev/vd", "/dev/xvd", "/dev/nvme"};

    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
        if (im_starts_with(device, begins[i]))
            return true;
    return bsd_by_number(device);
}

/* /dev/VG/LV, and not in one of the folders of udev or of drivers. */
static bool is_volume_path(const char *device) {
    static const char *const folders[] = {"disk/",  "mapper/", "md/",    "block/",  "zvol/",
                                          "nvd/",   "shm/",    "label/", "diskid/", "mirror/",
                                          "cciss/", "rd/",     "ida/",   "loop/"};
    const char *name = device + strlen("/dev/");

    if (!im_starts_with(device, "/dev/") || strchr(name, '/') == NULL)
        return false;
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
        if (im_starts_with(name, folders[i]))
            return false;
    return true;
}

/* Names that must lead to something of this disk; PARTLABEL and ID are not known here. */
bool fstab_bound(const char *device) {
    for (size_t tag = 0; tag < sizeof(tags) / sizeof(tags[0]); tag++)
        if (tag_value(device, tag) != NULL)
            return true;
    return im_starts_with(device, "/dev/mapper/") || is_volume_path(device);
}

/* --- Mounting --------------------------------------------------------------------------------- */

const struct volume *volume_of(const struct look *look, const struct guest_part *part) {
    for (size_t i = 0; i < look->volume_count; i++)
        if (volume_part(look->volumes[i]) == part)
            return look->volumes[i];
    return NULL;
}

/* Names by number are taken as they were on the machine that wrote them: of this disk. */
const struct guest_part *part_of_line(const struct look *look, const char *device) {
    size_t len = strlen(device);

    if (!device_by_number(device))
        return part_named(look, device);
    for (size_t i = 0; i < look->found->part_count; i++) {
        char number[16];
        size_t digits =
            (size_t) snprintf(number, sizeof(number), "%u", look->found->parts[i].number);

        if (look->found->parts[i].number > 0 && len > digits &&
            strcmp(device + len - digits, number) == 0 &&
            strspn(device + len - digits - 1, "0123456789") == 0)
            return &look->found->parts[i];
    }
    return NULL;
}

void fstab_mount(struct look *look, const struct fstab *fstab, struct tree *tree) {
    for (size_t i = 0; i < fstab->count; i++) {
        const struct fstab_line *line = &fstab->lines[i];
        const struct guest_part *part = part_of_line(look, line->device);
        const struct volume *volume = part != NULL ? volume_of(look, part) : NULL;

        if (volume != NULL && line->path[0] == '/' && line->path[1] != '\0')
            (void) tree_mount(tree, line->path, volume, line->options);
    }
}

/* --- What is wrong with it -------------------------------------------------------------------- */

bool fstab_vital(const char *path) {
    return strcmp(path, "/") == 0 || strcmp(path, "/boot") == 0 || strcmp(path, "/usr") == 0;
}

/* What is in them is not known at all: file systems of any name may be. */
static bool has_sealed(const struct look *look) {
    static const char *const types[] = {"crypto_LUKS", "linux_raid_member", "bcache", "zfs_member"};

    for (size_t i = 0; i < look->found->part_count; i++)
        for (size_t j = 0; j < sizeof(types) / sizeof(types[0]); j++)
            if (strcmp(look->found->parts[i].filesystem, types[j]) == 0)
                return true;
    return false;
}

bool look_hides_something(const struct look *look) {
    for (size_t i = 0; i < look->found->part_count; i++) {
        const struct guest_part *part = &look->found->parts[i];

        if (filesystem_unread(part->filesystem) ||
            (strcmp(part->type, "lv") == 0 && part->filesystem[0] == '\0'))
            return true;
    }
    return has_sealed(look);
}

/* Lines that the machine starts without. */
static bool may_fail(const struct fstab_line *line) {
    return strstr(line->options, "nofail") != NULL || strstr(line->options, "noauto") != NULL;
}

bool device_of_other(const char *device) {
    static const char *const begins[] = {
        "/dev/disk/by-path/",      "/dev/disk/by-id/ata-",  "/dev/disk/by-id/scsi-",
        "/dev/disk/by-id/virtio-", "/dev/disk/by-id/nvme-", "/dev/disk/by-id/wwn-",
        "/dev/disk/by-id/google-", "/dev/disk/azure/",      "/dev/disk/by-id/edd-",
        "/dev/disk/by-id/usb-",    "/dev/disk/cloud/"};

    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
        if (im_starts_with(device, begins[i]))
            return true;
    return false;
}

static void unknown(struct look *look, const struct fstab_line *line) {
    char device[80], path[80];
    bool vital = fstab_vital(line->path) && !look_hides_something(look);

    text_take(device, sizeof(device), line->device, strlen(line->device));
    text_take(path, sizeof(path), line->path, strlen(line->path));
    if (strcmp(line->type, "swap") == 0)
        look_found(look, GUEST_FOUND_FSTAB_UNKNOWN,
                   "/etc/fstab swaps to %s, which is not on this disk", device);
    else
        look_found(look, vital ? GUEST_FOUND_FSTAB_ROOT : GUEST_FOUND_FSTAB_UNKNOWN,
                   "/etc/fstab mounts %s from %s, which is not on this disk", path, device);
}

/* Such a mount fails, and the machine waits for somebody to see why. */
static void check_subvolume(struct look *look, const struct fstab_line *line) {
    const struct guest_part *part = part_of_line(look, line->device);
    const struct volume *volume = part != NULL ? volume_of(look, part) : NULL;
    char options[128], path[80];
    struct node root;

    if (volume == NULL || volume->ops->choose == NULL ||
        volume->ops->choose(volume->state, line->options, &root))
        return;
    text_take(path, sizeof(path), line->path, strlen(line->path));
    text_take(options, sizeof(options), line->options, strlen(line->options));
    look_found(look, GUEST_FOUND_FSTAB_SUBVOLUME,
               "/etc/fstab mounts %s with the options %s, which choose no subvolume of %s", path,
               options, part->name);
}

/* What is encrypted may have the file system in it. */
static void check_device(struct look *look, const struct tree *tree,
                         const struct fstab_line *line) {
    bool swaps = strcmp(line->type, "swap") == 0;
    char device[64];

    text_take(device, sizeof(device), line->device, strlen(line->device));
    if (device_by_number(line->device) || (device_of_other(line->device) && !may_fail(line)))
        look_found(look, GUEST_FOUND_FSTAB_NAME,
                   "/etc/fstab names %s, which may be another disk on the next machine", device);
    else if (may_fail(line))
        return;
    else if (fstab_bound(line->device) && part_named(look, line->device) == NULL &&
             !has_sealed(look))
        unknown(look, line);
    else if (swaps && line->device[0] == '/' && !im_starts_with(line->device, "/dev/") &&
             !tree_has(tree, line->device))
        look_found(look, GUEST_FOUND_FSTAB_UNKNOWN,
                   "/etc/fstab swaps to the file %s, which does not exist", device);
}

/* --- Types ------------------------------------------------------------------------------------ */

bool fstab_types_agree(const char *wanted, const char *has) {
    static const char *const same[][2] = {{"msdos", "vfat"},   {"msdosfs", "vfat"}, /* BSD's */
                                          {"ntfs3", "ntfs"},   {"ntfs-3g", "ntfs"},
                                          {"fuseblk", "ntfs"}, {"none", "swap"}};

    if (has[0] == '\0')
        return false;
    if (im_starts_with(wanted, "ext") && im_starts_with(has, "ext"))
        return true;
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
        if (strcmp(wanted, same[i][0]) == 0 && strcmp(has, same[i][1]) == 0)
            return true;
    return strcmp(wanted, "auto") == 0 || strcmp(wanted, has) == 0;
}

/* Of these it is known how they are called. */
static bool is_plain(const char *filesystem) {
    static const char *const known[] = {"ext2",  "ext3", "ext4", "xfs",
                                        "btrfs", "vfat", "ntfs", "swap"};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(filesystem, known[i]) == 0)
            return true;
    return false;
}

/* The kernel's command line mounts the root, whatever fstab says. */
bool fstab_type_wrong(const char *type, const char *path, const struct guest_part *part) {
    return strcmp(path, "/") != 0 && strchr(type, ',') == NULL && is_plain(part->filesystem) &&
           !fstab_types_agree(type, part->filesystem);
}

static void check_type(struct look *look, const struct fstab_line *line) {
    const struct guest_part *part = part_named(look, line->device);
    char type[64], path[64];

    if (part == NULL || may_fail(line) || !fstab_type_wrong(line->type, line->path, part))
        return;
    text_take(type, sizeof(type), line->type, strlen(line->type));
    text_take(path, sizeof(path), line->path, strlen(line->path));
    look_found(look, GUEST_FOUND_FSTAB_TYPE, "/etc/fstab mounts %s as %s, and %s holds %s", path,
               type, part->name, part->filesystem);
}

static void check_network(struct look *look, const struct fstab_line *line) {
    static const char *const types[] = {"nfs",       "nfs4", "cifs",      "smb3",
                                        "smbfs",     "ceph", "glusterfs", "fuse.sshfs",
                                        "fuse.ceph", "afs",  "9p",        "lustre"};
    char device[80];

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(line->type, types[i]) == 0 && !may_fail(line)) {
            text_take(device, sizeof(device), line->device, strlen(line->device));
            look_found(look, GUEST_FOUND_FSTAB_NETWORK,
                       "/etc/fstab mounts %s over the network: where it is not reachable, the "
                       "machine waits for it",
                       device);
        }
}

/* --- Lines that meet -------------------------------------------------------------------------- */

/* The same device in other subvolumes is another path; the same path is a mistake. */
static void check_twice(struct look *look, const struct fstab *fstab, size_t at) {
    const struct fstab_line *line = &fstab->lines[at];
    char path[64];

    if (line->path[0] != '/' || may_fail(line))
        return;
    for (size_t i = 0; i < at; i++)
        if (strcmp(fstab->lines[i].path, line->path) == 0 && !may_fail(&fstab->lines[i])) {
            text_take(path, sizeof(path), line->path, strlen(line->path));
            look_found(look, GUEST_FOUND_FSTAB_TWICE,
                       "/etc/fstab mounts two things on %s (lines %u and %u)", path,
                       fstab->lines[i].number, line->number);
            return;
        }
}

void fstab_check(struct look *look, const struct tree *tree, const struct fstab *fstab) {
    for (size_t i = 0; i < fstab->count; i++) {
        check_device(look, tree, &fstab->lines[i]);
        if (!may_fail(&fstab->lines[i]))
            check_subvolume(look, &fstab->lines[i]);
        check_type(look, &fstab->lines[i]);
        check_network(look, &fstab->lines[i]);
        check_twice(look, fstab, i);
    }
}
