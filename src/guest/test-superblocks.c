/* SPDX-License-Identifier: Apache-2.0 */
/* What superblocks tell, held against blkid: type, UUID and label of each kind that is known. */
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "harness/test.h"
#include "test-disk.h"

static const struct {
    const char *make; /* of $D, 320 MiB of zeros */
    bool read;
} kinds[] = {
    {"mkfs.ext2 -qF -L root $D", true},
    {"mkfs.ext4 -qF -L root $D", true},
    {"mkfs.xfs -q -L root $D", true},
    {"mkfs.btrfs -q -L root $D", true},
    {"mkfs.ntfs -qFf -L root $D", true},
    {"mkfs.fat -F 32 -n ROOT $D", true},
    {"mkswap -L swap $D", true},
    {"makefs -t ffs -o version=2 -s 64m $D r", true},
    {"mkfs.f2fs -q -l root $D", false},
    {"mkfs.jfs -q -L root $D", false},
    {"mkfs.reiserfs -qff -l root $D", false},
    {"mkfs.nilfs2 -q -L root $D", false},
    {"mkfs.exfat $D", false},
    {"make-bcache -B $D", false},
};

/* What blkid says of the disk; owned; "" = nothing. */
static char *by_blkid(const char *field) {
    IM_AUTO(free_auto) char *path = im_printf("%s/disk", test_folder());
    struct im_err err = {0};
    char *value = NULL;

    if (!im_run((const char *const[]){"blkid", "-p", "-o", "value", "-s", field, path, NULL}, NULL,
                60000, &value, &err))
        return im_strdup("");
    value[strcspn(value, "\n")] = '\0';
    return value;
}

static void agree(const char *make, const char *field, const char *ours) {
    IM_AUTO(free_auto) char *theirs = by_blkid(field);

    check(strcmp(ours, theirs) == 0, "%s: %s is [%s], blkid says [%s]", make, field, ours, theirs);
}

static bool told_unread(const struct guest_inspection *found) {
    for (size_t i = 0; i < found->finding_count; i++)
        if (strcmp(found->findings[i].code, "filesystem.unreadable") == 0)
            return true;
    return false;
}

int main(void) {
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        IM_AUTO(free_auto)
        char *script =
            im_printf("rm -rf r; mkdir r; truncate -s 320M $D; %s 2>/dev/null", kinds[i].make);
        struct disk disk = make_disk(script);
        struct guest_inspection *found = disk.bytes != NULL ? look(&disk) : NULL;

        if (found == NULL)
            continue;
        agree(kinds[i].make, "TYPE", found->parts[0].filesystem);
        agree(kinds[i].make, "UUID", found->parts[0].uuid);
        agree(kinds[i].make, "LABEL", found->parts[0].label);
        check(told_unread(found) != kinds[i].read, "%s: %s", kinds[i].make,
              kinds[i].read ? "is read" : "is said not to be read");
        guest_inspection_free(found);
        drop_disk(&disk);
    }
    return test_end();
}
