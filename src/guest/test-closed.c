/* SPDX-License-Identifier: Apache-2.0 */
/* Disks whose system lies where it cannot be looked at: that is told, and nothing false beside it.
 */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "harness/test.h"
#include "test-disk.h"

/* /boot on the first partition with all that GRUB needs; `root` is what the kernel is told of the
 * root, and `then` fills the two other partitions, of 100 MiB each. */
#define DISK(root, then)                                                                           \
    "truncate -s 301M $D; printf 'label: dos\n2048,204800,83,*\n,204800,83\n,,83\n' | "            \
    "sfdisk -q $D; printf 'GRUB ' | dd of=$D bs=1 seek=384 conv=notrunc 2>/dev/null; "             \
    "printf '\001' | dd of=$D bs=1 seek=92 conv=notrunc 2>/dev/null; "                             \
    "printf core | dd of=$D bs=512 seek=1 conv=notrunc 2>/dev/null; rm -rf r; "                    \
    "mkdir -p r/grub; head -c 4096 /dev/zero >r/vmlinuz; "                                         \
    "printf HdrS | dd of=r/vmlinuz bs=1 seek=514 conv=notrunc 2>/dev/null; "                       \
    "printf 070701 >r/initrd; printf 'serial\nterminal_output serial\nmenuentry a {\n "            \
    "linux /vmlinuz " root " ro console=ttyS0\n initrd /initrd\n}\n' >r/grub/grub.cfg; "           \
    "truncate -s 100M part; mkfs.ext4 -qF -d r part; "                                             \
    "dd if=part of=$D bs=1M seek=1 conv=notrunc,sparse 2>/dev/null; rm part; " then
#define PUT(bytes, at) "printf '" bytes "' | dd of=$D bs=1 seek=" at " conv=notrunc 2>/dev/null; "
#define EXT(size)                                                                                  \
    "truncate -s " size " part; mkfs.ext4 -qF -L x part; "                                         \
    "dd if=part of=$D bs=1M seek=101 conv=notrunc,sparse 2>/dev/null; rm part; "
#define SECOND "105906176" /* where that partition begins */
#define LVM_ROOT(kind)                                                                             \
    DISK(                                                                                          \
        "root=/dev/mapper/cl-root rd.lvm.lv=cl/root",                                              \
        "A=$(losetup -f --show -o 101M --sizelimit 100M $D); exec 8<$A; losetup -d $A; "           \
        "B=$(losetup -f --show -o 201M --sizelimit 100M $D); exec 9<$B; losetup -d $B; " LVM_TOOLS \
        "lvm_on \"$A|$B\" pvcreate $A $B; lvm_on \"$A|$B\" vgcreate cl $A $B; "                    \
        "lvm_on \"$A|$B\" vgcfgbackup -f text cl; python3 $M " kind " <text >restored; "           \
        "lvm_on \"$A|$B\" vgcfgrestore --force -f restored cl; "                                   \
        "lvm_on \"$A|$B\" lvs --noheadings -o segtype cl/root | grep -q " kind "; sync; ")

static const struct {
    const char *name, *script, *codes, *filesystems;
    enum { LOOPS = 1, ALL } how; /* needs loop devices; not even the menu can be read */
} cases[] = {
    {"LUKS",
     DISK("root=/dev/mapper/root cryptdevice=UUID=1-2:root", PUT("LUKS\\272\\276\\0\\002", SECOND)),
     "filesystem.encrypted", "ext4 crypto_LUKS -", 0},
    {"LUKS whose root is named by what is within",
     DISK("root=UUID=11111111-2222-3333-4444-555555555555", PUT("LUKS\\272\\276\\0\\002", SECOND)),
     "filesystem.encrypted", "ext4 crypto_LUKS -", 0},
    {"md", DISK("root=/dev/md0", PUT("\\374\\116\\053\\251\\001", "105910272")),
     "filesystem.unreadable", "ext4 linux_raid_member -", 0},
    {"md whose root is named by what is within",
     DISK("root=UUID=11111111-2222-3333-4444-555555555555",
          PUT("\\374\\116\\053\\251\\001", "105910272")),
     "filesystem.unreadable", "ext4 linux_raid_member -", 0},
    {"md with its superblock at the end",
     DISK("root=/dev/md0", PUT("\\374\\116\\053\\251\\001", "210755584")
                               PUT("\\360\\037\\003", "210755712") EXT("99M")),
     "filesystem.unreadable", "ext4 linux_raid_member -", 0},
    {"md of the old kind",
     DISK("root=/dev/md0", PUT("\\374\\116\\053\\251\\0\\0\\0\\0\\132", "210698240") EXT("99M")),
     "filesystem.unreadable", "ext4 linux_raid_member -", 0},
    {"what md left behind a file system that was made over it",
     DISK("root=LABEL=x", PUT("\\374\\116\\053\\251\\0\\0\\0\\0\\132", "210698240") EXT("100M")),
     "", "ext4 ext4 -", 0},
    {"a whole disk of md",
     DISK("root=LABEL=x", "truncate -s 302M $D; " PUT("\\374\\116\\053\\251\\001", "316661760")
                              PUT("\\360\\157\\011", "316661888") EXT("100M")),
     "filesystem.unreadable filesystem.unreadable", "linux_raid_member linux_raid_member -", ALL},
    {"thin volumes of LVM", LVM_ROOT("thin"), "lvm.segment", "ext4 LVM2_member LVM2_member - -",
     LOOPS},
    {"a mirror of LVM", LVM_ROOT("raid1"), "lvm.segment", "ext4 LVM2_member LVM2_member -", LOOPS},
    {"a cached volume of LVM", LVM_ROOT("cache"), "lvm.segment", "ext4 LVM2_member LVM2_member -",
     LOOPS},
};

int main(int argc, char **argv) {
    bool loops = can_loop();

    if (argc < 2)
        return 2;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        IM_AUTO(free_auto) char *script = im_printf("M='%s'; %s", argv[1], cases[i].script);
        IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
        IM_AUTO(free_auto) char *codes = NULL;
        IM_AUTO(free_auto) char *filesystems = NULL;
        struct disk disk;

        if (cases[i].how == LOOPS && !loops) {
            test_note("no loop devices here: %s is left out", cases[i].name);
            continue;
        }
        disk = make_disk(script);
        if (disk.bytes == NULL)
            continue;
        found = look(&disk);
        codes = codes_of(found);
        filesystems = filesystems_of(found);
        check(strcmp(codes, cases[i].codes) == 0, "%s: finds [%s]", cases[i].name, codes);
        check(strcmp(filesystems, cases[i].filesystems) == 0, "%s: has [%s]", cases[i].name,
              filesystems);
        check(found->os.id[0] == '\0' && found->counts[GUEST_ERROR] == 0 &&
                  strcmp(found->boot.kernel, cases[i].how == ALL ? "" : "/vmlinuz") == 0,
              "%s: its system is not known, and what starts it is: [%s]", cases[i].name,
              found->boot.kernel);
        drop_disk(&disk);
    }
    return test_end();
}
