/* SPDX-License-Identifier: Apache-2.0 */
/* The disk: its pieces as devices, its file systems mounted, grown, trimmed and unmounted. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/btrfs.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "appliance-private.h"
#include "base/fd.h"
#include "base/mem.h"

#define SECTOR 512u
enum { DEVICES_MAX = 64, MOUNTS_MAX = 64, TABLE_MAX = 65536, AREAS_MAX = 64 };

/* --- Pieces of the disk as one device --------------------------------------------------------- */

/* Two file systems that lie on the same pieces (sub-volumes) are one device. */
static struct device {
    char *pieces;
    unsigned minor;
} devices[DEVICES_MAX];
static size_t device_count;
static int mapper = -1;

static bool mapper_open(struct im_err *err) {
    if (mapper >= 0)
        return true;
    module_load("dm_mod");
    if (!device_wait("/dev/mapper/control", err))
        return false;
    mapper = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
    return mapper >= 0 || im_fail_sys(err, errno, "the device mapper");
}

static struct dm_ioctl *mapper_order(struct im_str *buffer, unsigned number) {
    struct dm_ioctl head = {.version = {4, 0, 0}, .data_start = sizeof(head)};

    snprintf(head.name, sizeof(head.name), "part%u", number);
    im_str_add_bytes(buffer, &head, sizeof(head));
    return (struct dm_ioctl *) buffer->data;
}

static bool mapper_do(unsigned number, unsigned long what, unsigned *ret_minor,
                      struct im_err *err) {
    struct im_str buffer = {0};
    struct dm_ioctl *head = mapper_order(&buffer, number);
    bool fine;

    head->data_size = (unsigned) buffer.len;
    fine =
        ioctl(mapper, what, head) == 0 || im_fail_sys(err, errno, "a device of the disk's pieces");
    if (fine && ret_minor)
        *ret_minor = minor(head->dev);
    im_str_done(&buffer);
    return fine;
}

/* "bytes stripe_bytes area area …" as numbers. */
static size_t piece_numbers(const char *piece, uint64_t numbers[2 + AREAS_MAX]) {
    IM_AUTO(im_strings_done) struct im_strings words = {0};

    im_strings_split(&words, piece, " ");
    for (size_t i = 0; i < words.count; i++) {
        int64_t value;

        if (i == 2 + AREAS_MAX || !im_parse_i64(words.items[i], 0, INT64_MAX, &value) ||
            value % SECTOR)
            return 0;
        numbers[i] = (uint64_t) value;
    }
    return words.count;
}

/* One target: linear, or striped over several areas. */
static bool target_add(struct im_str *table, const char *piece, uint64_t *start,
                       struct im_err *err) {
    uint64_t numbers[2 + AREAS_MAX];
    size_t count = piece_numbers(piece, numbers), begin = table->len;
    bool striped = count > 3;
    struct dm_target_spec spec = {.sector_start = *start, .length = numbers[0] / SECTOR};

    if (count < 3 || numbers[0] == 0 || (striped && numbers[1] == 0))
        return im_fail(err, IM_BAD_MESSAGE, "[%s] is no piece of a disk", piece);
    snprintf(spec.target_type, sizeof(spec.target_type), "%s", striped ? "striped" : "linear");
    im_str_add_bytes(table, &spec, sizeof(spec));
    if (striped)
        im_str_addf(table, "%zu %" PRIu64 " ", count - 2, numbers[1] / SECTOR);
    for (size_t i = 2; i < count; i++)
        im_str_addf(table, "%s" DISK " %" PRIu64, i > 2 ? " " : "", numbers[i] / SECTOR);
    do
        im_str_add_char(table, '\0');
    while (table->len % 8);
    ((struct dm_target_spec *) (table->data + begin))->next = (unsigned) (table->len - begin);
    *start += spec.length;
    return table->len <= TABLE_MAX || im_fail(err, IM_BAD_IMAGE, "a volume has too many pieces");
}

static bool table_load(unsigned number, const struct frame *order, struct im_err *err) {
    struct im_str buffer = {0};
    struct dm_ioctl *head = mapper_order(&buffer, number);
    uint64_t start = 0;
    unsigned count = 0;
    bool fine = true;

    for (const char *piece = NULL; fine && (piece = frame_next(order, "piece", piece)); count++)
        fine = target_add(&buffer, piece, &start, err);
    head = (struct dm_ioctl *) buffer.data;
    head->data_size = (unsigned) buffer.len;
    head->target_count = count;
    fine = fine && (count > 0 || im_fail(err, IM_BAD_MESSAGE, "a file system without pieces")) &&
           (ioctl(mapper, DM_TABLE_LOAD, head) == 0 ||
            im_fail_sys(err, errno, "a device of the disk's pieces"));
    im_str_done(&buffer);
    return fine;
}

static char *pieces_text(const struct frame *order) {
    struct im_str text = {0};

    for (const char *piece = NULL; (piece = frame_next(order, "piece", piece));)
        im_str_addf(&text, "%s,", piece);
    return im_str_take(&text);
}

/* The device file is /dev/dm-MINOR. */
static bool device_make(const struct frame *order, unsigned *ret_minor, struct im_err *err) {
    IM_AUTO(free_auto) char *pieces = pieces_text(order);
    unsigned number = (unsigned) device_count;

    for (size_t i = 0; i < device_count; i++)
        if (strcmp(devices[i].pieces, pieces) == 0) {
            *ret_minor = devices[i].minor;
            return true;
        }
    if (device_count == DEVICES_MAX)
        return im_fail(err, IM_BAD_IMAGE, "too many file systems");
    if (!mapper_open(err))
        return false;
    klog_mark(); /* modules have words of their own */
    if (!mapper_do(number, DM_DEV_CREATE, ret_minor, err))
        return false;
    devices[device_count++] = (struct device){.pieces = im_steal(&pieces), .minor = *ret_minor};
    return table_load(number, order, err) && mapper_do(number, DM_DEV_SUSPEND, NULL, err);
}

/* --- Mounting --------------------------------------------------------------------------------- */

static char *mounts[MOUNTS_MAX];
static size_t mount_count;

/* The module and the name to mount with; ext4 reads its ancestors. */
static const char *filesystem_ready(const char *filesystem) {
    static const char *const charsets[] = {"nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"};

    if (strcmp(filesystem, "ext2") == 0 || strcmp(filesystem, "ext3") == 0)
        filesystem = "ext4";
    if (strcmp(filesystem, "vfat") == 0)
        for (size_t i = 0; i < sizeof(charsets) / sizeof(charsets[0]); i++)
            module_load(charsets[i]);
    module_load(filesystem);
    return filesystem;
}

/* The first is the root; the others lie in its tree, wherever its links lead. */
static bool mount_at(const char *source, const char *path, const char *filesystem,
                     const char *options, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = -1;
    char place[40];

    if (mount_count == 0) {
        if (strcmp(path, "/") != 0)
            return im_fail(err, IM_BAD_MESSAGE, "the root file system comes first");
        snprintf(place, sizeof(place), GUEST);
    } else {
        fd = tree_open(path, O_PATH | O_DIRECTORY);
        if (fd < 0)
            return im_fail_sys(err, errno, "%s", path);
        snprintf(place, sizeof(place), "/proc/self/fd/%d", fd);
    }
    klog_mark();
    if (mount(source, place, filesystem, MS_NOATIME | MS_NODEV, options) == 0)
        return true;
    if (errno == ENODEV)
        return im_fail(err, IM_UNSUPPORTED, "the appliance's kernel has no file system %s",
                       filesystem);
    im_fail_sys(err, errno, "%s (%s) cannot be mounted", path, filesystem);
    return klog_add(err);
}

bool disk_mount(const struct frame *order, struct im_err *err) {
    const char *path = frame_get(order, "path"), *filesystem = frame_get(order, "filesystem");
    const char *options = frame_get(order, "options");
    char source[24];
    unsigned minor;

    if (!path || !filesystem || mount_count == MOUNTS_MAX)
        return im_fail(err, IM_BAD_MESSAGE, "a mount without path or file system, or too many");
    if (!device_make(order, &minor, err))
        return klog_add(err);
    snprintf(source, sizeof(source), "/dev/dm-%u", minor);
    if (!device_wait(source, err) ||
        !mount_at(source, path, filesystem_ready(filesystem), options ? options : "", err))
        return false;
    mounts[mount_count++] = im_strdup(path);
    return mount_count > 1 || tree_begin(err);
}

/* Writes back what a file system still holds, and hears of it when that fails. */
static bool mount_sync(const char *path, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = tree_open(path, O_RDONLY | O_DIRECTORY);

    return fd < 0 || syncfs(fd) == 0 || im_fail_sys(err, errno, "%s cannot be written", path);
}

static bool unmount_last(struct im_err *err) {
    const char *path = mounts[mount_count - 1];
    IM_AUTO(fd_auto) int fd = -1;
    char place[4096 + 64];
    ssize_t len = 0;

    if (!mount_sync(path, err))
        return false;
    snprintf(place, sizeof(place), GUEST);
    if (mount_count > 1) { /* a path that does not follow the guest's links into our own tree */
        char link[40];

        fd = tree_open(path, O_PATH | O_DIRECTORY);
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        len = readlink(link, place, sizeof(place) - 1);
        if (fd < 0 || len < 0)
            return im_fail_sys(err, errno, "%s cannot be unmounted", path);
        place[len] = '\0';
        (void) close(im_steal_fd(&fd));
    }
    if (umount2(place, UMOUNT_NOFOLLOW) < 0)
        return im_fail_sys(err, errno, "%s cannot be unmounted", path);
    free(mounts[--mount_count]);
    return true;
}

static bool disk_flush(struct im_err *err) {
    IM_AUTO(fd_auto) int fd = open(DISK, O_RDWR | O_CLOEXEC);

    return (fd >= 0 && fsync(fd) == 0) || im_fail_sys(err, errno, "the disk cannot be written");
}

bool disk_close(struct im_err *err) {
    while (mount_count > 0) {
        if (mount_count == 1 && tree_root() >= 0 && !mount_sync("/", err))
            return klog_add(err);
        if (mount_count == 1 && tree_root() >= 0)
            (void) close(tree_root());
        if (!unmount_last(err))
            return klog_add(err);
    }
    while (device_count > 0) {
        free(devices[--device_count].pieces);
        if (!mapper_do((unsigned) device_count, DM_DEV_REMOVE, NULL, err))
            return klog_add(err);
    }
    return disk_flush(err) || klog_add(err);
}

/* --- Bytes, unused blocks, size --------------------------------------------------------------- */

bool disk_raw(const struct frame *order, struct im_err *err) {
    int64_t offset = frame_get_int(order, "offset", -1);
    IM_AUTO(fd_auto) int fd = open(DISK, O_RDWR | O_CLOEXEC);
    off_t size;

    if (fd < 0 || (size = lseek(fd, 0, SEEK_END)) < 0)
        return im_fail_sys(err, errno, "the disk");
    if (offset < 0 || offset > size || order->data.len > (size_t) (size - offset))
        return im_fail(err, IM_BAD_MESSAGE, "%zu bytes at %" PRId64 " are not inside the disk",
                       order->data.len, offset);
    return im_pwrite_all(fd, order->data.data, order->data.len, (uint64_t) offset, "the disk",
                         err) &&
           (fsync(fd) == 0 || im_fail_sys(err, errno, "the disk"));
}

bool disk_trim(const char *path, uint64_t *ret_bytes, struct im_err *err) {
    struct fstrim_range range = {.len = UINT64_MAX};
    IM_AUTO(fd_auto) int fd = tree_open(path, O_RDONLY | O_DIRECTORY);

    if (fd < 0 || ioctl(fd, FITRIM, &range) < 0)
        return im_fail_sys(err, errno, "unused blocks cannot be given back");
    *ret_bytes = range.len;
    return true;
}

/* What xfs_fs.h of xfslibs has; the kernel exports no header. */
struct xfs_geometry_v1 {
    uint32_t blocksize, rtextsize, agblocks, agcount, logblocks, sectsize, inodesize, imaxpct;
    uint64_t datablocks, rtblocks, rtextents, logstart;
    uint8_t uuid[16];
    uint32_t sunit, swidth;
    int32_t version;
    uint32_t flags, logsectsize, rtsectsize, dirblocksize;
};
struct xfs_growth {
    uint64_t newblocks;
    uint32_t imaxpct;
};
#define XFS_GEOMETRY_V1 _IOR('X', 100, struct xfs_geometry_v1)
#define XFS_GROW_DATA _IOW('X', 110, struct xfs_growth)
#define EXT4_RESIZE _IOW('f', 16, uint64_t)
#define EXT4_MAGIC 0xEF53
#define XFS_MAGIC 0x58465342
#define BTRFS_MAGIC 0x9123683E

static bool device_size(int fd, uint64_t *ret_bytes) {
    IM_AUTO(fd_auto) int device = -1;
    char path[32];
    struct stat st;

    if (fstat(fd, &st) < 0)
        return false;
    snprintf(path, sizeof(path), "/dev/dm-%u", minor(st.st_dev));
    device = open(path, O_RDONLY | O_CLOEXEC);
    return device >= 0 && ioctl(device, BLKGETSIZE64, ret_bytes) == 0;
}

static bool grow_ext4(int fd, const struct statfs *fs) {
    uint64_t bytes, blocks;

    if (!device_size(fd, &bytes))
        return false;
    blocks = bytes / (uint64_t) fs->f_bsize;
    return ioctl(fd, EXT4_RESIZE, &blocks) == 0;
}

static bool grow_xfs(int fd, const struct statfs *fs) {
    struct xfs_geometry_v1 geometry;
    struct xfs_growth growth;
    uint64_t bytes;

    if (!device_size(fd, &bytes) || ioctl(fd, XFS_GEOMETRY_V1, &geometry) < 0)
        return false;
    growth = (struct xfs_growth){bytes / (uint64_t) fs->f_bsize, geometry.imaxpct};
    return growth.newblocks <= geometry.datablocks || ioctl(fd, XFS_GROW_DATA, &growth) == 0;
}

/* Its only device need not be the first that it has had. */
static bool grow_btrfs(int fd, const struct statfs *fs) {
    struct btrfs_ioctl_fs_info_args info = {0};
    struct btrfs_ioctl_vol_args args = {0};

    (void) fs;
    if (ioctl(fd, BTRFS_IOC_FS_INFO, &info) < 0)
        return false;
    snprintf(args.name, sizeof(args.name), "%llu:max", (unsigned long long) info.max_id);
    return ioctl(fd, BTRFS_IOC_RESIZE, &args) >= 0;
}

static const struct {
    uint32_t magic;
    bool (*grow)(int fd, const struct statfs *fs);
} growers[] = {{EXT4_MAGIC, grow_ext4}, {XFS_MAGIC, grow_xfs}, {BTRFS_MAGIC, grow_btrfs}};

bool disk_grow(const char *path, uint64_t *ret_bytes, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = tree_open(path, O_RDONLY | O_DIRECTORY);
    struct statfs fs;
    size_t i = 0;

    if (fd < 0 || fstatfs(fd, &fs) < 0)
        return im_fail_sys(err, errno, "the file system");
    while (i < sizeof(growers) / sizeof(growers[0]) && growers[i].magic != (uint32_t) fs.f_type)
        i++;
    if (i == sizeof(growers) / sizeof(growers[0]))
        return im_fail(err, IM_UNSUPPORTED, "only ext4, xfs and btrfs can be grown");
    if (!growers[i].grow(fd, &fs) || fstatfs(fd, &fs) < 0)
        return im_fail_sys(err, errno, "the file system cannot be grown");
    *ret_bytes = (uint64_t) fs.f_blocks * (uint64_t) fs.f_bsize;
    return true;
}
