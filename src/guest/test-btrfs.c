/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of btrfs: everything that mkfs.btrfs, or the kernel where it may mount, put into a
 * file system comes out again, byte by byte; subvolumes are found as the kernel finds them. */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "harness/test.h"
#include "system.h"
#include "test-folder.h"

/* --- As mkfs.btrfs writes it ------------------------------------------------------------------ */

#define BTRFS(size, options) "truncate -s " size " $D; mkfs.btrfs -q --rootdir r " options " $D"

struct form {
    const char *name, *script, *codes;
};

static void test_forms(void) {
    static const struct form forms[] = {
        {"btrfs", BTRFS("300M", ""), ""},
        {"btrfs with nodes of 4 KiB", BTRFS("300M", "-n 4096"), ""},
        {"btrfs with nodes of 64 KiB", BTRFS("300M", "-n 65536"), ""},
        {"btrfs with sectors of 16 KiB", BTRFS("300M", "-s 16384"), ""},
        {"btrfs with XXHASH", BTRFS("300M", "--csum xxhash"), ""},
        {"btrfs with SHA-256", BTRFS("300M", "--csum sha256"), ""},
        {"btrfs with BLAKE2", BTRFS("300M", "--csum blake2"), ""},
        {"btrfs with data among the metadata", BTRFS("300M", "-M"), ""},
        {"btrfs with data kept twice", BTRFS("600M", "-m dup -d dup"), ""},
        {"btrfs with all kept once", BTRFS("300M", "-m single -d single"), ""},
        {"btrfs of the oldest form",
         BTRFS("300M", "-O ^no-holes,^skinny-metadata,^extref -R ^free-space-tree"), ""},
        {"btrfs shrunk to what it holds", BTRFS("300M", "--shrink"), ""},
        {"btrfs with another UUID", BTRFS("300M", "") "; btrfstune -m $D", ""},
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        IM_AUTO(close_disk_auto) struct opened *opened = open_disk(forms[i].script, forms[i].name);

        if (opened == NULL)
            continue;
        check_same(opened, "r", forms[i].name);
        check_codes(opened, forms[i].codes, forms[i].name);
    }
}

/* --- As the kernel writes it ------------------------------------------------------------------ */

#define MOUNTED(size, mkfs, options, after)                                                        \
    "truncate -s " size " $D; mkfs.btrfs -q " mkfs " $D; mkdir -p m; "                             \
    "mount -t btrfs -o loop" options " $D m; trap 'umount m' EXIT; cp -a r/. m; "                  \
    "python3 $M --holes m; sync; " after "rm -rf h; cp -a --sparse=always m h; "

static void test_written(void) {
    static const struct form forms[] = {
        {"btrfs written by the kernel", MOUNTED("800M", "", "", ""), ""},
        {"btrfs with zlib", MOUNTED("800M", "", ",compress-force=zlib", ""), ""},
        /* Enough pieces that some end within the last three bytes of a sector. */
        {"btrfs with LZO",
         MOUNTED(
             "800M", "", ",compress-force=lzo",
             "python3 -c 'import os, sys; sys.stdout.buffer.writelines(os.urandom(9 + i % 500) + "
             "bytes(300) for i in range(40000))' >m/mixed; sync; "),
         ""},
        {"btrfs with zstd", MOUNTED("800M", "", ",compress-force=zstd:15", ""), ""},
        {"btrfs with zstd where it pays, nodes of 4 KiB",
         MOUNTED("800M", "-n 4096", ",compress=zstd", ""), ""},
        {"btrfs that has no holes written down",
         MOUNTED("800M", "-O ^no-holes", ",compress=lzo,max_inline=0", ""), ""},
        {"btrfs without checksums of data", MOUNTED("800M", "--csum xxhash", ",nodatacow", ""), ""},
        {"btrfs in use",
         MOUNTED("800M", "", "", "") "echo last >m/few/last; sync m/few/last; "
                                     "cp --sparse=always $D c; umount m; trap - EXIT; mv c $D",
         "filesystem.dirty"},
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        IM_AUTO(free_auto) char *script = im_printf("M='%s'; %s", maker, forms[i].script);
        IM_AUTO(close_disk_auto) struct opened *opened = open_disk(script, forms[i].name);

        if (opened == NULL)
            continue;
        check_same(opened, "h", forms[i].name);
        check_codes(opened, forms[i].codes, forms[i].name);
    }
}

/* --- Subvolumes ------------------------------------------------------------------------------- */

/* Of the file system that is mounted as m. */
#define VERBS                                                                                      \
    "make() { for v in $*; do btrfs -q subvolume create m/$v; done; }; "                           \
    "snap() { btrfs -q subvolume snapshot -r m/$1 m/$2; }; "                                       \
    "default() { btrfs subvolume set-default m/$1; }; "

static const char subvolumes[] =
    VERBS "truncate -s 400M $D; mkfs.btrfs -q $D; mkdir -p m; mount -t btrfs -o loop $D m; "
          "trap 'umount m' EXIT; make @; cp -a r/few r/deep r/links m/@; make @/inner; "
          "echo inner >m/@/inner/file; mkdir m/plain; make plain/home; cp -a r/many m/plain/home; "
          "snap @ plain/snapshot; echo later >m/@/later; make @/gone gone; "
          "btrfs -q subvolume delete -c m/gone m/@/gone; default plain/snapshot; sync; "
          "rm -rf h; cp -a m h; ";

/* Below what the options choose is the same as in `folder`; NULL = they choose nothing. */
static const struct {
    const char *options, *folder;
} choices[] = {
    {"", "h/plain/snapshot"},
    {"rw,noatime", "h/plain/snapshot"},
    {"subvolid=5", "h"},
    {"subvolid=0", "h"},
    {"subvol=/", "h"},
    {"subvol=@", "h/@"},
    {"noatime,subvol=/@,compress=zstd:1", "h/@"},
    {"subvol=@/inner", "h/@/inner"},
    {"subvol=plain/home", "h/plain/home"},
    {"subvol=//plain//home/", "h/plain/home"},
    {"subvolid=256", "h/@"},
    {"subvolid=0x100,subvol=@", "h/@"},
    {"subvolid=257,subvol=@", NULL},
    {"subvol=plain", NULL},
    {"subvol=gone", NULL},
    {"subvol=@/gone", NULL},
    {"subvol=plain/snapshot/inner", NULL},
    {"subvolid=4711", NULL},
    {"subvolid=2", NULL},
};

static void test_subvolumes(void) {
    IM_AUTO(close_disk_auto) struct opened *opened = open_disk(subvolumes, "a btrfs of subvolumes");

    if (opened == NULL)
        return;
    for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
        struct tree tree = {0};
        bool there = tree_mount(&tree, "/", opened->look.volumes[0], choices[i].options);

        if (!check(there == (choices[i].folder != NULL), "[%s] chooses %s", choices[i].options,
                   choices[i].folder != NULL ? choices[i].folder : "nothing") ||
            !there)
            continue;
        opened->tree = tree;
        check_same(opened, choices[i].folder, choices[i].options);
    }
}

/* --- Systems ---------------------------------------------------------------------------------- */

/* A btrfs on the disk's only partition, mounted as m while `then` runs; $U is its UUID. */
#define DISK(then)                                                                                 \
    VERBS "U=$(cat /proc/sys/kernel/random/uuid); truncate -s 400M $D; "                           \
          "printf 'label: dos\n2048,,83,*\n' | sfdisk -q $D; "                                     \
          "printf '\372\353' | dd of=$D conv=notrunc 2>/dev/null; "                                \
          "L=$(losetup -f --show -o 1M $D); "                                                      \
          "trap 'umount m 2>/dev/null || :; losetup -d $L' EXIT; mkfs.btrfs -q -U $U $L; "         \
          "mkdir -p m; mount -t btrfs $L m; " then "sync; umount m; losetup -d $L; trap - EXIT; "
/* The tree of a system in the folder "s". */
#define SYSTEM(id, fstab)                                                                          \
    "rm -rf s; mkdir -p s/etc/cloud s/bin s/usr/lib s/boot; "                                      \
    "printf 'ID=\"" id "\"\nPRETTY_NAME=\"" id "\"\n' >s/usr/lib/os-release; "                     \
    "ln -s ../usr/lib/os-release s/etc/os-release; cp /bin/true s/bin/ls; "                        \
    "echo web >s/etc/hostname; "                                                                   \
    "printf 'system_info:\n  default_user:\n    name: admin\n' >s/etc/cloud/cloud.cfg; "           \
    "printf \"" fstab "\" >s/etc/fstab; head -c 4096 /dev/zero >s/boot/vmlinuz; "                  \
    "printf HdrS | dd of=s/boot/vmlinuz bs=1 seek=514 conv=notrunc 2>/dev/null; "                  \
    "printf 070701 >s/boot/initrd; "
#define MENU(folder, prefix, flags)                                                                \
    "mkdir -p " folder "; printf \"serial\nterminal_output serial\nsearch --no-floppy --fs-uuid "  \
    "--set=root $U\nmenuentry a {\n linux " prefix "/boot/vmlinuz root=UUID=$U " flags             \
    " console=ttyS0\n initrd " prefix "/boot/initrd\n}\n\" >" folder "/grub.cfg; "

/* Its root is a snapshot, the default subvolume; GRUB takes paths within that one. */
#define SUSE_LINES                                                                                 \
    "UUID=$U / btrfs defaults 0 0\nUUID=$U /var btrfs subvol=/@/var 0 0\n"                         \
    "UUID=$U /home btrfs subvol=/@/home 0 0\nUUID=$U /.snapshots btrfs subvol=/@/.snapshots 0 0\n" \
    "UUID=$U /boot/grub2/i386-pc btrfs subvol=/@/boot/grub2/i386-pc 0 0\n"
#define SUSE(fstab, then)                                                                          \
    DISK("make @ @/.snapshots @/home @/var; "                                                      \
         "mkdir -p m/@/boot/grub2 m/@/.snapshots/1 m/@/.snapshots/2; "                             \
         "make @/boot/grub2/i386-pc @/.snapshots/1/snapshot; " SYSTEM("opensuse-leap", fstab)      \
             MENU("s/boot/grub2", "", "") then                                                     \
         "; cp -a s/. m/@/.snapshots/1/snapshot; default @/.snapshots/1/snapshot; "                \
         "snap @/.snapshots/1/snapshot @/.snapshots/2/snapshot; ")
/* Its root is named by fstab and by the kernel's command line; GRUB's paths begin at the top. */
#define ARCH_LINES                                                                                 \
    "UUID=$U / btrfs rw,relatime,compress=zstd:3,subvol=/@ 0 0\n"                                  \
    "UUID=$U /home btrfs rw,relatime,subvolid=258,subvol=/@home 0 0\n"
#define ARCH(root, fstab, flags, then)                                                             \
    DISK("R='" root "'; mkdir m/@snapshots; make another $R @home; " SYSTEM(                       \
        "arch", "# old\n") "cp -a s/. m/another; " SYSTEM("arch", fstab)                           \
             MENU("s/boot/grub", "/" root, flags) then "; cp -a s/. m/$R; snap $R @snapshots/1; ")

struct system {
    const char *name, *script, *codes, *id, *kernel, *options;
};
static const struct system systems[] = {
    {"a system at the top",
     DISK(SYSTEM("debian", "UUID=$U / btrfs defaults 0 0\n")
              MENU("s/boot/grub", "", "") "cp -a s/. m; "),
     "", "debian", "/boot/vmlinuz", ""},
    {"openSUSE", SUSE(SUSE_LINES, ":"), "", "opensuse-leap", "/boot/vmlinuz", ""},
    {"openSUSE without its kernel", SUSE(SUSE_LINES, "rm s/boot/vmlinuz"), "boot.kernel",
     "opensuse-leap", "/boot/vmlinuz", ""},
    {"openSUSE without a subvolume",
     SUSE(SUSE_LINES
          "UUID=$U /opt btrfs subvol=@/opt 0 0\nUUID=$U /srv btrfs subvol=@/srv,nofail\n",
          ":"),
     "fstab.subvolume", "opensuse-leap", "/boot/vmlinuz", ""},
    {"Arch", ARCH("@", ARCH_LINES, "rw rootflags=subvol=@", ":"), "", "arch", "/@/boot/vmlinuz",
     "subvolid=257"},
    {"Arch without its initramfs",
     ARCH("@", ARCH_LINES, "rw rootflags=subvol=@", "rm s/boot/initrd"), "boot.initrd", "arch",
     "/@/boot/vmlinuz", "subvolid=257"},
    {"Arch with another subvolume as its root",
     ARCH("@", ARCH_LINES, "rw rootflags=subvol=@x", ":"), "boot.subvolume", "arch",
     "/@/boot/vmlinuz", "subvolid=257"},
    {"Arch, whose kernel is told of another system",
     ARCH("@", ARCH_LINES, "rw rootflags=compress=zstd,subvol=another", ":"), "", "arch",
     "/@/boot/vmlinuz", "subvol=another"},
    {"openSUSE, whose kernel is told of an older snapshot",
     SUSE(SUSE_LINES, "sed -i 's,console,rootflags=subvol=@/.snapshots/2/snapshot console,' "
                      "s/boot/grub2/grub.cfg"),
     "", "opensuse-leap", "/boot/vmlinuz", "subvol=@/.snapshots/2/snapshot"},
    {"Arch, restored as another subvolume",
     ARCH("@", "UUID=$U / btrfs subvolid=4711,subvol=/@ 0 0\n", "rw rootflags=subvol=@", ":"),
     "fstab.subvolume", "arch", "/@/boot/vmlinuz", "subvolid=257"},
    {"Debian",
     ARCH("@rootfs", "UUID=$U / btrfs defaults,subvol=@rootfs 0 0\n", "ro rootflags=subvol=@rootfs",
          ":"),
     "", "arch", "/@rootfs/boot/vmlinuz", "subvolid=257"},
};

static void check_root(struct look *look, void *arg) {
    struct tree tree = {0};
    char *options = arg;

    if (system_tree(look, &tree))
        snprintf(options, sizeof(tree.mounts[0].options), "%s", tree.mounts[0].options);
}

static void check_system(const struct system *system) {
    struct disk disk = make_disk(system->script);
    struct guest_source source = {read_disk, &disk, disk.len};
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    IM_AUTO(free_auto) char *codes = NULL;
    char options[sizeof(((struct mount *) NULL)->options)] = "";
    struct im_err err = {0};

    if (disk.bytes == NULL)
        return;
    if (check(look_run(&source, check_root, options, &found, &err), "%s: %s", system->name,
              err.text)) {
        codes = codes_of(found);
        check(strcmp(codes, system->codes) == 0, "%s: finds [%s]", system->name, codes);
        check(strcmp(found->os.id, system->id) == 0 && strcmp(found->os.hostname, "web") == 0 &&
                  strcmp(found->os.processor, "64bit") == 0 &&
                  strcmp(found->os.root, "/dev/vda1") == 0,
              "%s: is known (%s on %s)", system->name, found->os.id, found->os.root);
        check(strcmp(found->boot.kernel, system->kernel) == 0 &&
                  strcmp(options, system->options) == 0,
              "%s: its root is [%s], which starts [%s]", system->name, options, found->boot.kernel);
        check(found->read_bytes < 2 * MIB, "%s: %u KiB are read", system->name,
              (unsigned) (found->read_bytes >> 10));
    }
    drop_disk(&disk);
}

/* --- Several devices, and damage -------------------------------------------------------------- */

/* Two partitions, one device of a btrfs in each; or the second one on another disk. */
#define PAIR(options, then)                                                                        \
    "truncate -s 801M $D; printf 'label: dos\n2048,819200,83,*\n,,83\n' | sfdisk -q $D; "          \
    "printf '\372\353' | dd of=$D conv=notrunc 2>/dev/null; truncate -s 400M a; "                  \
    "truncate -s 399M b; mkfs.btrfs -q " options " a b; dd if=a of=$D bs=1M seek=1 "               \
    "conv=notrunc,sparse 2>/dev/null; " then "; rm a b"
#define BOTH "dd if=b of=$D bs=1M seek=401 conv=notrunc,sparse 2>/dev/null"
#define SPOIL(at, count)                                                                           \
    "dd if=/dev/urandom of=$D bs=1 seek=" at " count=" count " conv=notrunc 2>/dev/null"

/* `opened`: how many file systems can be read. */
static const struct {
    const char *name, *script, *codes;
    unsigned opened;
} others[] = {
    {"two devices, everything on both", PAIR("-d raid1 -m raid1", BOTH), "", 2},
    {"two devices, everything on both, one of them missing", PAIR("-d raid1 -m raid1", ":"),
     "filesystem.devices", 1},
    {"two devices with data on one of them", PAIR("-d single -m raid1", BOTH),
     "filesystem.unreadable", 1},
    {"two devices, one without data missing", PAIR("-d single -m raid1", ":"), "filesystem.devices",
     1},
    {"two devices, the one with data missing",
     PAIR("-d single -m raid1", "dd if=b of=$D bs=1M seek=1 conv=notrunc 2>/dev/null"),
     "filesystem.devices filesystem.unreadable", 0},
    {"stripes over two devices", PAIR("-d raid0 -m raid0", BOTH),
     "filesystem.unreadable filesystem.unreadable", 0},
    {"a damaged superblock", BTRFS("300M", "") "; " SPOIL("65600", "8"), "disk.empty", 0},
    {"a superblock with a wrong checksum", BTRFS("300M", "") "; " SPOIL("66000", "8"),
     "boot.none filesystem.damaged", 1},
    {"a superblock and its copy with a wrong checksum",
     BTRFS("300M", "") "; " SPOIL("66000", "8") "; " SPOIL("67109600", "8"), "boot.none", 0},
    {"features of the future",
     BTRFS("300M", "") "; printf '\\001' | dd of=$D bs=1 seek=65730 conv=notrunc 2>/dev/null; "
                       "python3 $M --btrfs-super $D",
     "filesystem.unreadable boot.none", 0},
    {"one of two copies of the trees", BTRFS("300M", "-m dup") "; python3 $M --btrfs-trees 0 $D",
     "boot.none", 1},
    {"both copies of the trees",
     BTRFS("300M", "-m dup") "; python3 $M --btrfs-trees 0 $D; python3 $M --btrfs-trees 1 $D",
     "filesystem.damaged boot.none", 0},
};

static void count_volumes(struct look *look, void *arg) {
    *(unsigned *) arg = (unsigned) look->volume_count;
}

static void test_others(void) {
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        IM_AUTO(free_auto) char *script = im_printf("M='%s'; %s", maker, others[i].script);
        struct disk disk = make_disk(script);
        struct guest_source source = {read_disk, &disk, disk.len};
        IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
        IM_AUTO(free_auto) char *codes = NULL;
        unsigned opened = 0;
        struct im_err err = {0};

        if (disk.bytes == NULL)
            continue;
        if (look_run(&source, count_volumes, &opened, &found, &err)) {
            codes = codes_of(found);
            check(strcmp(codes, others[i].codes) == 0, "%s: finds [%s]", others[i].name, codes);
            check(opened == others[i].opened, "%s: %u of its devices can be read", others[i].name,
                  opened);
        }
        drop_disk(&disk);
    }
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    maker = argv[1];
    if (!check(run("rm -rf r; mkdir r; python3 $M r", ""), "a folder is made"))
        return test_end();
    test_forms();
    test_others();
    if (can_mount("btrfs", "mkfs.btrfs -q")) {
        test_written();
        test_subvolumes();
        for (size_t i = 0; i < sizeof(systems) / sizeof(systems[0]); i++)
            check_system(&systems[i]);
    }
    return test_end();
}
