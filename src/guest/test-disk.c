/* SPDX-License-Identifier: Apache-2.0 */
/* Disks for tests. */
#include "test-disk.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "harness/test.h"

bool read_disk(void *arg, uint64_t offset, void *bytes, size_t len, struct im_err *err) {
    const struct disk *disk = arg;

    if (offset > disk->len || len > disk->len - offset)
        return im_fail(err, IM_INTERNAL, "%zu bytes at %llu lie beyond the disk", len,
                       (unsigned long long) offset);
    memcpy(bytes, disk->bytes + offset, len);
    return true;
}

struct guest_inspection *look(struct disk *disk) {
    struct guest_source source = {read_disk, disk, disk->len};
    struct guest_inspection *found = NULL;
    struct im_err err = {0};

    if (!guest_inspect(&source, &found, &err))
        check(false, "%s", err.text);
    return found;
}

/* What `script` makes of the file "$D"; the mapping is private, so that it can be spoiled. */
struct disk make_disk(const char *script) {
    IM_AUTO(free_auto) char *path = im_printf("%s/disk", test_folder());
    IM_AUTO(free_auto)
    char *text = im_printf("set -e; exec >/dev/null; cd '%s'; D='%s'; rm -f $D; %s", test_folder(),
                           path, script);
    struct disk disk = {0};
    struct im_err err = {0};
    IM_AUTO(fd_auto) int fd = -1;
    struct stat st = {0};

    if (!im_run((const char *const[]){"sh", "-c", text, NULL}, NULL, 120000, NULL, &err)) {
        check(false, "%s: %s", script, err.text);
        return disk;
    }
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return disk;
    disk.len = (uint64_t) st.st_size;
    disk.bytes = mmap(NULL, disk.len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    return disk;
}

void drop_disk(struct disk *disk) { (void) munmap(disk->bytes, disk->len); }

char *codes_of(const struct guest_inspection *found) {
    struct im_str text = {0};

    /* Most disks here have no system, which is told of every time. */
    for (size_t i = 0; i < found->finding_count; i++)
        if (strcmp(found->findings[i].code, "root.none") != 0)
            im_str_addf(&text, "%s%s", text.len > 0 ? " " : "", found->findings[i].code);
    return im_str_take(&text);
}

char *filesystems_of(const struct guest_inspection *found) {
    struct im_str text = {0};

    for (size_t i = 0; i < found->part_count; i++)
        im_str_addf(&text, "%s%s", i ? " " : "",
                    found->parts[i].filesystem[0] ? found->parts[i].filesystem : "-");
    return im_str_take(&text);
}

bool can_loop(void) {
    struct im_err ignored = {0};
    IM_AUTO(free_auto)
    char *text = im_printf(
        "cd '%s' && truncate -s 1M l && L=$(losetup -f --show l) && losetup -d $L", test_folder());

    return im_run((const char *const[]){"sh", "-c", text, NULL}, NULL, 60000, NULL, &ignored);
}

uint32_t chance(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}
