/* SPDX-License-Identifier: Apache-2.0 */
/* The readers of XFS: everything that the usual tools, or the kernel where it may, put into a file
 * system comes out again, byte by byte. */
#include <string.h>

#include "harness/test.h"
#include "test-folder.h"

/* --- XFS -------------------------------------------------------------------------------------- */

#define XFS(size, options) "truncate -s " size " $D; mkfs.xfs -q -p proto " options " $D"

static const struct {
    const char *name, *script;
} xfs_forms[] = {
    {"xfs", XFS("400M", "")},
    {"xfs with blocks of 1 KiB", XFS("400M", "-b size=1024")},
    {"xfs with blocks of 1 KiB and folders of 8", XFS("400M", "-b size=1024 -n size=8192")},
    {"xfs with many extents' numbers and large inodes", XFS("400M", "-i nrext64=1,size=2048")},
    {"xfs with full-sized inodes' clusters", XFS("400M", "-i sparse=0 -m bigtime=0,reflink=0")},
    {"xfs with 8 allocation groups", XFS("600M", "-d agcount=8 -b size=2048")},
    {"xfs of version 4", XFS("400M", "-m crc=0")},
    {"xfs of version 4 without types", XFS("400M", "-m crc=0 -n ftype=0 -i size=256")},
    {"xfs with sectors of 4 KiB", XFS("400M", "-s size=4096")},
};

static void test_xfs_forms(void) {
    for (size_t i = 0; i < sizeof(xfs_forms) / sizeof(xfs_forms[0]); i++) {
        IM_AUTO(close_disk_auto)
        struct opened *opened = open_disk(xfs_forms[i].script, xfs_forms[i].name);
        IM_AUTO(free_auto) char *codes = NULL;

        if (opened == NULL)
            continue;
        check_same(opened, "r", xfs_forms[i].name);
        volumes_check(&opened->look);
        codes = codes_of(opened->look.found);
        check(codes[0] == '\0', "%s: nothing is wrong: [%s]", xfs_forms[i].name, codes);
    }
}

/* Files in pieces, with holes; and inodes whose numbers take 64 bits. */
#define MOUNTED(size, mkfs, options, after)                                                        \
    "truncate -s " size " $D; " mkfs " $D; mkdir -p m; mount -o loop" options " $D m; "            \
    "trap 'umount m' EXIT; cp -a r/. m; python3 $M --holes m; sync; " after                        \
    "rm -rf h; cp -a --sparse=always m h; "

static void test_xfs_written(void) {
    static const struct {
        const char *name, *script, *codes;
    } forms[] = {
        {"xfs written by the kernel", MOUNTED("800M", "mkfs.xfs -q", "", ""), ""},
        {"xfs written by the kernel, blocks of 1 KiB",
         MOUNTED("800M", "mkfs.xfs -q -b size=1024", "", ""), ""},
        {"xfs with many extents' numbers, written by the kernel",
         MOUNTED("800M", "mkfs.xfs -q -i nrext64=1", "", ""), ""},
        {"xfs in use",
         MOUNTED("800M", "mkfs.xfs -q", "", "") "umount m; trap - EXIT; mount -o loop $D m; "
                                                "chmod 700 m/few; sync; "
                                                "cp --sparse=always $D c; umount m; mv c $D",
         "filesystem.dirty"},
    };

    if (!can_mount("xfs", "mkfs.xfs -q"))
        return;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        IM_AUTO(free_auto) char *script = im_printf("M='%s'; %s", maker, forms[i].script);
        IM_AUTO(close_disk_auto) struct opened *opened = open_disk(script, forms[i].name);

        if (opened == NULL)
            continue;
        check_same(opened, "h", forms[i].name);
        check_codes(opened, forms[i].codes, forms[i].name);
    }
}

static void test_xfs_apart(void) {
    static const struct {
        const char *name, *script, *codes;
    } forms[] = {
        {"an xfs whose log is elsewhere",
         "truncate -s 400M $D; truncate -s 64M log; mkfs.xfs -q -l logdev=log $D",
         "filesystem.devices"},
        {"an xfs with a realtime volume",
         "truncate -s 400M $D; truncate -s 64M rt; mkfs.xfs -q -r rtdev=rt $D",
         "filesystem.devices"},
        {"an xfs with a wrong checksum",
         "truncate -s 400M $D; mkfs.xfs -q $D; printf x | dd of=$D bs=1 seek=110 conv=notrunc "
         "2>/dev/null",
         "filesystem.damaged"},
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        IM_AUTO(close_disk_auto) struct opened *opened = open_disk(forms[i].script, forms[i].name);

        if (opened != NULL)
            check_codes(opened, forms[i].codes, forms[i].name);
    }
}

/* --- Systems ---------------------------------------------------------------------------------- */

/* The tree of a system in the folder "s"; fstab may name the file system. */
#define SYSTEM(fstab)                                                                              \
    "rm -rf s; mkdir -p s/etc/ssh s/etc/cloud s/bin s/usr/lib; "                                   \
    "printf 'ID=debian\nPRETTY_NAME=\"Debian 12\"\nVERSION_ID=\"12\"\n' "                          \
    ">s/usr/lib/os-release; ln -s ../usr/lib/os-release s/etc/os-release; cp /bin/true s/bin/ls; " \
    "echo web >s/etc/hostname; "                                                                   \
    "printf 'system_info:\n  default_user:\n    name: admin\n' >s/etc/cloud/cloud.cfg; "           \
    "printf '" fstab "' >s/etc/fstab; "
#define UUID "11111111-2222-3333-4444-555555555555"
#define DISK(size)                                                                                 \
    "truncate -s " size " $D; printf 'label: dos\n2048,,83,*\n' | sfdisk -q $D; "                  \
    "printf '\372\353' | dd of=$D conv=notrunc 2>/dev/null; "
#define PUT(at) "dd if=part of=$D bs=1M seek=" at " conv=notrunc,sparse 2>/dev/null; rm part; "

struct wanted {
    const char *name, *script, *root;
};

static void check_system(const struct wanted *wanted) {
    IM_AUTO(free_auto) char *script = im_printf("M='%s'; %s", maker, wanted->script);
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    IM_AUTO(free_auto) char *codes = NULL;
    struct disk disk = make_disk(script);

    if (disk.bytes == NULL)
        return;
    found = look(&disk);
    codes = codes_of(found);
    check(codes[0] == '\0', "%s: no false findings [%s]", wanted->name, codes);
    check(strcmp(found->os.name, "Debian 12") == 0 && strcmp(found->os.hostname, "web") == 0 &&
              strcmp(found->os.user, "admin") == 0 && strcmp(found->os.processor, "64bit") == 0 &&
              strcmp(found->os.root, wanted->root) == 0,
          "%s: is known (%s on %s)", wanted->name, found->os.name, found->os.root);
    check(found->read_bytes < 2 * MIB, "%s: %u KiB are read", wanted->name,
          (unsigned) (found->read_bytes >> 10));
    drop_disk(&disk);
}

static void test_xfs_systems(void) {
    check_system(&(struct wanted){
        "a system on xfs",
        SYSTEM("UUID=" UUID " / xfs defaults 0 0\n")
            DISK("401M") "python3 $M --proto $PWD/s "
                         ">sproto; truncate -s 400M part; mkfs.xfs -q -m uuid=" UUID
                         " -p sproto part; " PUT("1"),
        "/dev/vda1"});
    if (can_loop())
        check_system(&(struct wanted){
            "a system on xfs on LVM",
            SYSTEM("/dev/mapper/xr-root / xfs defaults 0 0\n")
                DISK("401M") "A=$(losetup -f --show -o 1M $D); exec 8<$A; losetup -d $A; " LVM_TOOLS
                             "lvm() { n=$1; shift; lvm_on $A $n --nolocking \"$@\"; }; "
                             "lvm pvcreate $A; lvm vgcreate xr $A; "
                             "lvm lvcreate -an -Zn -Wn -y -n root -L 320M xr; sync; "
                             "python3 $M --proto $PWD/s >sproto; truncate -s 320M part; "
                             "mkfs.xfs -q -p sproto part; " PUT("2"),
            "xr/root"});
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    maker = argv[1];
    if (!check(run("rm -rf r; mkdir r; python3 $M r; python3 $M --proto r >proto", ""),
               "a folder is made"))
        return test_end();
    test_xfs_forms();
    test_xfs_apart();
    test_xfs_written();
    test_xfs_systems();
    return test_end();
}
