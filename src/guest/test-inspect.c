/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at disks that the usual tools made, at each defect one by one, and at disks that mean
 * harm. */
#include <string.h>
#include <zlib.h>

#include "base/mem.h"
#include "guest-private.h"
#include "harness/test.h"
#include "system.h"
#include "test-disk.h"

#define SECTOR 512u

/* --- One by one ------------------------------------------------------------------------------- */

/* Boot code as GRUB's: its first sector, and the one that it points to. */
#define GRUB_AT(sector)                                                                            \
    "printf 'GRUB ' | dd of=$D bs=1 seek=384 conv=notrunc 2>/dev/null; "                           \
    "printf '\\" sector "' | dd of=$D bs=1 seek=92 conv=notrunc 2>/dev/null; "                     \
    "printf '\\125\\252' | dd of=$D bs=1 seek=510 conv=notrunc 2>/dev/null; "
#define CORE(sector) "printf core | dd of=$D bs=512 seek=" sector " conv=notrunc 2>/dev/null; "
#define MBR_LINUX                                                                                  \
    "truncate -s 64M $D; printf 'label: dos\\n2048,,83,*\\n' | sfdisk -q $D; "                     \
    "truncate -s 63M part; "
#define PUT_PART "dd if=part of=$D bs=1M seek=1 conv=notrunc,sparse 2>/dev/null; rm part; "
#define CODE "printf '\\372\\353' | dd of=$D conv=notrunc 2>/dev/null; "
#define GPT_ESP                                                                                    \
    "truncate -s 64M $D; sgdisk -n 1::+40M -t 1:ef00 -n 2:: $D; "                                  \
    "mformat -i $D@@1M -F -T 81920 ::; "

static const struct {
    const char *name, *script, *codes, *filesystems;
    enum guest_table table;
    bool bios, uefi;
} cases[] = {
    {"nothing", "truncate -s 64M $D", "disk.empty", "-", GUEST_TABLE_NONE, false, false},
    {"MBR and boot code", MBR_LINUX CODE, "", "-", GUEST_TABLE_MBR, true, false},
    {"MBR without boot code", MBR_LINUX, "boot.none", "-", GUEST_TABLE_MBR, false, false},
    {"MBR without an active partition",
     "truncate -s 64M $D; printf 'label: dos\\n2048,,83\\n' | sfdisk -q $D; " CODE, "boot.active",
     "-", GUEST_TABLE_MBR, true, false},
    {"MBR with GRUB", MBR_LINUX GRUB_AT("001") CORE("1"), "", "-", GUEST_TABLE_MBR, true, false},
    {"GRUB without its core", MBR_LINUX GRUB_AT("001"), "boot.core", "-", GUEST_TABLE_MBR, false,
     false},
    {"GRUB with a core of which only the first sector is left",
     MBR_LINUX GRUB_AT("001") CORE("1") "printf '\\002\\0\\0\\0\\0\\0\\0\\0\\100' | "
                                        "dd of=$D bs=1 seek=1012 conv=notrunc 2>/dev/null",
     "boot.core", "-", GUEST_TABLE_MBR, false, false},
    {"GRUB with all of its core",
     MBR_LINUX GRUB_AT("001") CORE("1") "printf '\\002\\0\\0\\0\\0\\0\\0\\0\\100' | "
                                        "dd of=$D bs=1 seek=1012 conv=notrunc 2>/dev/null; "
                                        "head -c 32768 /dev/zero | tr '\\0' x | dd of=$D bs=512 "
                                        "seek=2 conv=notrunc 2>/dev/null",
     "", "-", GUEST_TABLE_MBR, true, false},
    {"GPT with GRUB in its own partition",
     "truncate -s 64M $D; sgdisk -n 1::+1M -t 1:ef02 -n 2:: $D; " GRUB_AT("042") CORE("34")
         CORE("2048"),
     "", "- -", GUEST_TABLE_GPT, true, false},
    {"GPT with GRUB between partitions",
     "truncate -s 64M $D; sgdisk -n 1:: $D; " GRUB_AT("042") CORE("34"), "boot.bios_partition", "-",
     GUEST_TABLE_GPT, true, false},
    {"GPT and UEFI",
     GPT_ESP "mmd -i $D@@1M ::/EFI ::/EFI/BOOT; echo x >x; mcopy -i $D@@1M x "
             "::/EFI/BOOT/BOOTX64.EFI",
     "", "vfat -", GUEST_TABLE_GPT, false, true},
    {"UEFI, in a vendor's folder only",
     GPT_ESP "mmd -i $D@@1M ::/EFI ::/EFI/debian; echo x >x; mcopy -i $D@@1M x "
             "::/EFI/debian/grubx64.efi",
     "esp.fallback", "vfat -", GUEST_TABLE_GPT, false, true},
    {"UEFI without a loader", GPT_ESP, "esp.empty", "vfat -", GUEST_TABLE_GPT, false, false},
    {"UEFI with an empty loader",
     GPT_ESP "mmd -i $D@@1M ::/EFI ::/EFI/BOOT; : >x; mcopy -i $D@@1M x ::/EFI/BOOT/BOOTX64.EFI",
     "esp.empty", "vfat -", GUEST_TABLE_GPT, false, false},
    {"UEFI without a file system", "truncate -s 64M $D; sgdisk -n 1:: -t 1:ef00 $D",
     "esp.unreadable", "-", GUEST_TABLE_GPT, false, false},
    {"UEFI with FAT 16, MBR",
     "truncate -s 64M $D; printf 'label: dos\\n2048,,ef\\n' | sfdisk -q $D; "
     "mkfs.fat -F 16 --offset 2048 $D 64512; mmd -i $D@@1M ::/EFI ::/EFI/BOOT; echo x >x; "
     "mcopy -i $D@@1M x ::/EFI/BOOT/BOOTX64.EFI",
     "", "vfat", GUEST_TABLE_MBR, false, true},
    {"UEFI with FAT 12",
     "truncate -s 64M $D; sgdisk -n 1::+4M -t 1:ef00 $D; mkfs.fat -F 12 --offset 2048 $D 4096; "
     "mmd -i $D@@1M ::/EFI ::/EFI/BOOT; echo x >x; mcopy -i $D@@1M x ::/EFI/BOOT/BOOTX64.EFI",
     "", "vfat", GUEST_TABLE_GPT, false, true},
    {"GPT cut short", GPT_ESP CODE "truncate -s 50M $D", "gpt.backup partition.beyond", "vfat -",
     GUEST_TABLE_GPT, true, false},
    {"GPT on a disk that grew", GPT_ESP CODE "truncate -s 80M $D", "gpt.misplaced", "vfat -",
     GUEST_TABLE_GPT, true, false},
    {"GPT without its beginning",
     GPT_ESP CODE "dd if=/dev/zero of=$D bs=512 seek=1 count=33 conv=notrunc 2>/dev/null",
     "gpt.primary", "vfat -", GUEST_TABLE_GPT, true, false},
    {"GPT with a wrong checksum in its backup",
     GPT_ESP CODE "printf x | dd of=$D bs=512 seek=131040 conv=notrunc 2>/dev/null", "gpt.backup",
     "vfat -", GUEST_TABLE_GPT, true, false},
    {"GPT damaged on both ends",
     GPT_ESP CODE "for s in 3 131040; do printf x | dd of=$D bs=512 seek=$s conv=notrunc "
                  "2>/dev/null; done",
     "gpt.damaged", "", GUEST_TABLE_GPT, true, false},
    {"MBR with logical partitions",
     "truncate -s 64M $D; printf 'label: dos\\n2048,8192,83,*\\n,,5\\n,8192,83\\n,8192,82\\n' | "
     "sfdisk -q $D; " CODE,
     "", "- - -", GUEST_TABLE_MBR, true, false},
    {"MBR with an entry that makes no sense",
     MBR_LINUX CODE "printf '\\203' | dd of=$D bs=1 seek=466 conv=notrunc 2>/dev/null", "mbr.entry",
     "-", GUEST_TABLE_MBR, true, false},
    {"GPT without partitions, GRUB's code",
     "truncate -s 64M $D; sgdisk -o $D; " GRUB_AT("042") CORE("34"), "partition.none", "",
     GUEST_TABLE_GPT, true, false},
    {"MBR cut short", MBR_LINUX CODE "truncate -s 40M $D", "partition.beyond", "-", GUEST_TABLE_MBR,
     true, false},
    {"a bare ext4", "truncate -s 64M $D; mkfs.ext4 -qF $D", "boot.none", "ext4", GUEST_TABLE_NONE,
     false, false},
    {"a bare FAT, whose code only complains", "truncate -s 64M $D; mkfs.fat $D", "boot.none",
     "vfat", GUEST_TABLE_NONE, false, false},
    {"a boot sector without partitions",
     "truncate -s 64M $D; printf '\\125\\252' | dd of=$D bs=1 seek=510 conv=notrunc "
     "2>/dev/null; " CODE,
     "disk.no_table", "-", GUEST_TABLE_NONE, true, false},
    {"ext2", MBR_LINUX CODE "mkfs.ext2 -qF part; " PUT_PART, "", "ext2", GUEST_TABLE_MBR, true,
     false},
    {"ext3", MBR_LINUX CODE "mkfs.ext3 -qF part; " PUT_PART, "", "ext3", GUEST_TABLE_MBR, true,
     false},
    {"xfs",
     "truncate -s 320M $D; printf 'label: dos\\n2048,,83,*\\n' | sfdisk -q $D; " CODE
     "truncate -s 319M part; mkfs.xfs -q -L root part; " PUT_PART,
     "", "xfs", GUEST_TABLE_MBR, true, false},
    {"btrfs",
     "truncate -s 160M $D; printf 'label: dos\\n2048,,83,*\\n' | sfdisk -q $D; " CODE
     "truncate -s 159M part; mkfs.btrfs -q part; " PUT_PART,
     "", "btrfs", GUEST_TABLE_MBR, true, false},
    {"ntfs", MBR_LINUX CODE "mkfs.ntfs -qF part 2>/dev/null; " PUT_PART, "", "ntfs",
     GUEST_TABLE_MBR, true, false},
    {"swap", MBR_LINUX CODE "mkswap part 2>/dev/null; " PUT_PART, "", "swap", GUEST_TABLE_MBR, true,
     false},
    {"a file system larger than its partition",
     MBR_LINUX CODE "truncate -s 90M part; mkfs.ext4 -qF part; truncate -s 63M part; " PUT_PART,
     "filesystem.beyond", "ext4", GUEST_TABLE_MBR, true, false},
    {"a file system in use",
     MBR_LINUX CODE "mkfs.ext4 -qF part; debugfs -w -R 'feature needs_recovery' part "
                    "2>/dev/null; " PUT_PART,
     "filesystem.dirty", "ext4", GUEST_TABLE_MBR, true, false},
};

static void test_cases(void) {
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct disk disk = make_disk(cases[i].script);
        struct guest_inspection *found;

        if (disk.bytes == NULL)
            continue;
        found = look(&disk);
        if (found != NULL) {
            IM_AUTO(free_auto) char *codes = codes_of(found);
            IM_AUTO(free_auto) char *filesystems = filesystems_of(found);

            check(strcmp(codes, cases[i].codes) == 0, "%s: finds [%s]", cases[i].name, codes);
            check(strcmp(filesystems, cases[i].filesystems) == 0, "%s: has [%s]", cases[i].name,
                  filesystems);
            check(found->table == cases[i].table && found->bios == cases[i].bios &&
                      found->uefi == cases[i].uefi,
                  "%s: table %s, %s %s", cases[i].name, guest_table_name(found->table),
                  found->bios ? "BIOS" : "-", found->uefi ? "UEFI" : "-");
        }
        guest_inspection_free(found);
        drop_disk(&disk);
    }
}

/* --- Systems ---------------------------------------------------------------------------------- */

/* A root file system, made from a folder; the options are mke2fs'. */
#define ROOT(options, fstab)                                                                       \
    "rm -rf r; mkdir -p r/etc r/bin r/usr/lib r/etc/ssh r/etc/cloud; "                             \
    "printf 'ID=debian\nPRETTY_NAME=\"Debian 12\"\nVERSION_ID=\"12\"\n' >r/usr/lib/os-release; "   \
    "ln -s ../usr/lib/os-release r/etc/os-release; cp /bin/true r/bin/ls; echo web "               \
    ">r/etc/hostname; "                                                                            \
    "printf 'system_info:\n  default_user:\n    name: admin\n' >r/etc/cloud/cloud.cfg; "           \
    "printf '" fstab "' >r/etc/fstab; mkfs.ext4 -qF -d r " options " part; "
#define ROOT_UUID "-U 11111111-2222-3333-4444-555555555555"

static const struct {
    const char *name, *script, *codes, *root;
} systems[] = {
    {"a system",
     MBR_LINUX CODE ROOT(
         ROOT_UUID, "UUID=11111111-2222-3333-4444-555555555555 / ext4 defaults 0 1\n") PUT_PART,
     "", "/dev/vda1"},
    {"fstab with another disk's UUID",
     MBR_LINUX CODE ROOT(ROOT_UUID,
                         "# /\nUUID=99999999-2222-3333-4444-555555555555 / ext4 defaults 0 1\n")
         PUT_PART,
     "fstab.root", "/dev/vda1"},
    {"fstab with a data disk that stays behind",
     MBR_LINUX CODE ROOT("-L root", "LABEL=root / ext4 defaults\nLABEL=data /srv xfs defaults 0 0\n"
                                    "LABEL=more /more xfs nofail 0 0\n") PUT_PART,
     "fstab.unknown", "/dev/vda1"},
    {"fstab with names of devices",
     MBR_LINUX CODE ROOT("", "/dev/sda1 / ext4 defaults 0 1\n") PUT_PART, "fstab.name",
     "/dev/vda1"},
    {"a system with its identity",
     MBR_LINUX CODE ROOT(
         "", "") "echo 0123456789abcdef >r/etc/machine-id; rm -r r/etc/cloud; "
                 "echo x >r/etc/ssh/ssh_host_rsa_key; mkfs.ext4 -qF -d r part; " PUT_PART,
     "identity.machine identity.ssh identity.hostname os.no_cloud_init", "/dev/vda1"},
    {"a root without room",
     MBR_LINUX CODE ROOT("",
                         "") "B=$(dumpe2fs -h part 2>/dev/null | sed -n 's/^Free blocks: *//p'); "
                             "S=$(dumpe2fs -h part 2>/dev/null | sed -n 's/^Block size: *//p'); "
                             "head -c $(((B - 40) * S)) /dev/zero | tr '\\0' x >r/filler; "
                             "mkfs.ext4 -qF -m 0 -d r part; " PUT_PART,
     "filesystem.full", "/dev/vda1"},
    {"newer features of ext4",
     MBR_LINUX CODE ROOT("-O inline_data,metadata_csum_seed,orphan_file,ea_inode,bigalloc", "")
         PUT_PART,
     "", "/dev/vda1"},
};

static void test_systems(void) {
    for (size_t i = 0; i < sizeof(systems) / sizeof(systems[0]); i++) {
        struct disk disk = make_disk(systems[i].script);
        IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
        IM_AUTO(free_auto) char *codes = NULL;

        if (disk.bytes == NULL)
            continue;
        found = look(&disk);
        codes = codes_of(found);
        check(strcmp(codes, systems[i].codes) == 0, "%s: finds [%s]", systems[i].name, codes);
        check(strcmp(found->os.id, "debian") == 0 && strcmp(found->os.version, "12") == 0 &&
                  strcmp(found->os.name, "Debian 12") == 0 &&
                  strcmp(found->os.hostname, "web") == 0 &&
                  strcmp(found->os.processor, sizeof(void *) == 8 ? "64bit" : "32bit") == 0 &&
                  strcmp(found->os.root, systems[i].root) == 0,
              "%s: is known (%s on %s)", systems[i].name, found->os.name, found->os.root);
        check(strcmp(found->os.user, strstr(codes, "cloud") ? "" : "admin") == 0,
              "%s: login as [%s]", systems[i].name, found->os.user);
        drop_disk(&disk);
    }
}

/* Flatcar's way: the root is all but empty, the system another partition that nothing names, and
 * GRUB has its menu in itself. */
static void test_usr_elsewhere(void) {
    struct disk disk = make_disk(
        "truncate -s 64M $D; printf 'label: dos\n2048,61440,83\n63488,,83,*\n' | sfdisk -q "
        "$D; " GRUB_AT("001") CORE(
            "1") "rm -rf r; mkdir -p r/lib r/bin; cp /bin/true r/bin/ls; cp /bin/true "
                 "r/bin/ignition; "
                 "printf 'ID=flatcar\nPRETTY_NAME=\"Flatcar 1\"\nVERSION_ID=1\n' "
                 ">r/lib/os-release; "
                 "truncate -s 30M part; mkfs.ext4 -qF -d r part; "
                 "dd if=part of=$D bs=1M seek=1 conv=notrunc,sparse 2>/dev/null; rm -r part r; "
                 "mkdir -p r/usr r/etc r/bin; ln -s ../usr/lib/os-release r/etc/os-release; "
                 "truncate -s 33M part; mkfs.ext4 -qF -d r part; "
                 "dd if=part of=$D bs=1M seek=31 conv=notrunc,sparse 2>/dev/null; rm -r part r");
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    IM_AUTO(free_auto) char *codes = NULL;

    if (disk.bytes == NULL)
        return;
    found = look(&disk);
    codes = codes_of(found);
    check(strcmp(found->os.name, "Flatcar 1") == 0 && strcmp(found->os.root, "/dev/vda2") == 0,
          "/usr on a partition of its own: %s on %s", found->os.name, found->os.root);
    check(strcmp(found->os.user, "core") == 0, "/usr elsewhere: login as [%s]", found->os.user);
    check(strstr(codes, "boot.") == NULL, "/usr elsewhere: nothing is wrong with its menu [%s]",
          codes);
    drop_disk(&disk);
}

/* --- Boot configuration ----------------------------------------------------------------------- */

#define UUID "11111111-2222-3333-4444-555555555555"
#define KERNEL(at)                                                                                 \
    "head -c 4096 /dev/zero >k; printf HdrS | dd of=k bs=1 seek=514 conv=notrunc 2>/dev/null; "    \
    "printf 070701 >i; mkdir -p r/boot/grub; cp k r/boot/vmlinuz-" at                              \
    "; cp i r/boot/initrd.img-" at "; "
/* A root with GRUB's configuration; `then` spoils it. */
#define MENU(path, text, then)                                                                     \
    MBR_LINUX GRUB_AT("001") CORE("1") ROOT("", "")                                                \
        KERNEL("6.1") "cat >r/boot/" path " <<'END'\n" text "\nEND\n" then                         \
                      "; mkfs.ext4 -qF -d r " ROOT_UUID " part; " PUT_PART
/* As Debian's update-grub writes it, shortened. */
#define DEBIAN_ENTRY(title, search, kernel, initrd, line)                                          \
    "menuentry '" title "' --class debian $menuentry_id_option 'gnulinux-" title "' {\n"           \
    "\tload_video\n\tset root='hd0,msdos1'\n"                                                      \
    "\tif [ x$feature_platform_search_hint = xy ]; then\n"                                         \
    "\t  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,msdos1  " search "\n"             \
    "\telse\n\t  search --no-floppy --fs-uuid --set=root " search "\n\tfi\n"                       \
    "\techo\t'Loading Linux ...'\n\tlinux\t" kernel " " line "\n\tinitrd\t" initrd "\n}\n"
#define DEBIAN_HEAD                                                                                \
    "serial --unit=0\nterminal_output serial\n"                                                    \
    "if [ -s $prefix/grubenv ]; then\n  set have_grubenv=true\n  load_env\nfi\n"                   \
    "if [ \"${next_entry}\" ] ; then\n   set default=\"${next_entry}\"\n   set next_entry=\n"      \
    "   save_env next_entry\n   set boot_once=true\nelse\n   set default=\"0\"\nfi\n"              \
    "function load_video {\n  if [ x$feature_all_video_module = xy ]; then\n    insmod x\n"        \
    "  else\n    insmod y\n  fi\n}\n"
#define LINE(root) "root=" root " ro console=ttyS0 quiet"
#define DEBIAN(search, kernel, initrd, line)                                                       \
    DEBIAN_HEAD DEBIAN_ENTRY("Debian", search, kernel, initrd, line)
#define GOOD DEBIAN(UUID, "/boot/vmlinuz-6.1", "/boot/initrd.img-6.1", LINE("UUID=" UUID))
#define BLS(options)                                                                               \
    "mkdir -p r/boot/loader/entries; cat >r/boot/loader/entries/0-6.1.conf <<'END'\n"              \
    "title Fedora\nversion 6.1\nlinux /boot/vmlinuz-6.1\n"                                         \
    "initrd /boot/initrd.img-6.1 $tuned_initrd\noptions " options "\nEND\n"                        \
    "printf '# GRUB Environment Block\\nsaved_entry=0-6.1\\n"                                      \
    "kernelopts=root=UUID=" UUID " console=ttyS0\\n####' >r/boot/grub/grubenv"
#define BLS_MENU                                                                                   \
    "serial\nterminal_output serial\nif [ -f ${config_directory}/grubenv ]; then\n"                \
    "  load_env -f ${config_directory}/grubenv\nfi\nset default=\"${saved_entry}\"\n"              \
    "insmod blscfg\nblscfg\n"
#define ESP_SYSTEM(then)                                                                           \
    "truncate -s 128M $D; sgdisk -n 1::+40M -t 1:ef00 -n 2:: $D; "                                 \
    "mformat -i $D@@1M -F -T 81920 ::; mmd -i $D@@1M ::/EFI ::/EFI/BOOT; echo x >x; "              \
    "mcopy -i $D@@1M x ::/EFI/BOOT/BOOTX64.EFI; truncate -s 80M part; " ROOT("", "") KERNEL("6.1") \
        then "; mkfs.ext4 -qF -d r " ROOT_UUID " part; dd if=part of=$D bs=1M seek=41 "            \
             "conv=notrunc,sparse 2>/dev/null; rm part"

static const struct {
    const char *name, *script, *codes, *loader, *kernel;
} boots[] = {
    {"GRUB as Debian's", MENU("grub/grub.cfg", GOOD, ":"), "", "grub", "/boot/vmlinuz-6.1"},
    {"GRUB without a menu", MENU("grub/nothing", "", ":"), "boot.config", "", ""},
    {"a kernel that is not there", MENU("grub/grub.cfg", GOOD, "rm r/boot/vmlinuz-6.1"),
     "boot.kernel", "grub", "/boot/vmlinuz-6.1"},
    {"an empty kernel", MENU("grub/grub.cfg", GOOD, ": >r/boot/vmlinuz-6.1"), "boot.kernel_damaged",
     "grub", "/boot/vmlinuz-6.1"},
    {"a kernel that is none", MENU("grub/grub.cfg", GOOD, "echo x >r/boot/vmlinuz-6.1"),
     "boot.kernel_damaged", "grub", "/boot/vmlinuz-6.1"},
    {"an initramfs that is not there", MENU("grub/grub.cfg", GOOD, "rm r/boot/initrd.img-6.1"),
     "boot.initrd", "grub", "/boot/vmlinuz-6.1"},
    {"an empty initramfs", MENU("grub/grub.cfg", GOOD, ": >r/boot/initrd.img-6.1"),
     "boot.initrd_damaged", "grub", "/boot/vmlinuz-6.1"},
    {"another disk's root",
     MENU("grub/grub.cfg",
          DEBIAN(UUID, "/boot/vmlinuz-6.1", "/boot/initrd.img-6.1", LINE("UUID=0-1")), ":"),
     "boot.root", "grub", "/boot/vmlinuz-6.1"},
    {"no root at all",
     MENU("grub/grub.cfg",
          DEBIAN(UUID, "/boot/vmlinuz-6.1", "/boot/initrd.img-6.1", "ro console=ttyS0"), ":"),
     "boot.root", "grub", "/boot/vmlinuz-6.1"},
    {"a label in the root's place, as CirrOS has it",
     MENU("grub/grub.cfg",
          DEBIAN(UUID, "/boot/vmlinuz-6.1", "/boot/initrd.img-6.1", "LABEL=root console=ttyS0"),
          ":"),
     "", "grub", "/boot/vmlinuz-6.1"},
    {"a root by its number",
     MENU("grub/grub.cfg",
          DEBIAN(UUID, "/boot/vmlinuz-6.1", "/boot/initrd.img-6.1", LINE("/dev/sda1")), ":"),
     "boot.root_name", "grub", "/boot/vmlinuz-6.1"},
    {"another disk's search",
     MENU("grub/grub.cfg",
          DEBIAN("9-9", "/boot/vmlinuz-6.1", "/boot/initrd.img-6.1", LINE("UUID=" UUID)), ":"),
     "boot.search", "grub", "/boot/vmlinuz-6.1"},
    {"a volume that is not there",
     MENU("grub/grub.cfg",
          DEBIAN(UUID, "/boot/vmlinuz-6.1", "/boot/initrd.img-6.1",
                 LINE("UUID=" UUID) " rd.lvm.lv=cl/swap resume=UUID=1-2"),
          ":"),
     "boot.volume boot.resume", "grub", "/boot/vmlinuz-6.1"},
    {"no serial console",
     MENU("grub/grub.cfg",
          DEBIAN(UUID, "/boot/vmlinuz-6.1", "/boot/initrd.img-6.1", "root=UUID=" UUID), ":"),
     "boot.console", "grub", "/boot/vmlinuz-6.1"},
    {"an older kernel that is gone",
     MENU("grub/grub.cfg",
          GOOD "submenu 'Advanced' {\n" DEBIAN_ENTRY(
              "Old", UUID, "/boot/vmlinuz-6.0", "/boot/initrd.img-6.0", LINE("UUID=" UUID)) "}\n",
          ":"),
     "boot.entry", "grub", "/boot/vmlinuz-6.1"},
    {"a default in a submenu",
     MENU("grub/grub.cfg",
          DEBIAN_ENTRY("Old", UUID, "/boot/vmlinuz-6.1", "/boot/initrd.img-6.1",
                       LINE("UUID=" UUID)) "serial\nterminal_output serial\nset default='1>0'\n"
                                           "submenu 'Advanced' {\n" DEBIAN_ENTRY(
                                               "New", UUID, "/boot/new", "/boot/initrd.img-6.1",
                                               LINE("UUID=" UUID)) "}\n",
          ":"),
     "boot.kernel", "grub", "/boot/new"},
    {"a menu that asks without end",
     MENU("grub/grub.cfg", GOOD,
          "i=0; while [ $i -lt 19000 ]; do echo \"if [ -f /usr/lib/$i/x ]; then true; fi\"; "
          "i=$((i+1)); done >g; cat r/boot/grub/grub.cfg >>g; mv g r/boot/grub/grub.cfg"),
     "look.ended", "", ""},
    {"a default that is not there", MENU("grub/grub.cfg", GOOD "set default=gone\n", ":"),
     "boot.default", "grub", "/boot/vmlinuz-6.1"},
    {"a default that only a boot that failed before would take",
     MENU("grub/grub.cfg",
          GOOD "if [ -n \"${boot_counter}\" -a \"${boot_success}\" = \"0\" ]; then\n"
               "  if [ \"${boot_counter}\" = \"0\" -o \"${boot_counter}\" = \"-1\" ]; then\n"
               "    set default=gone\n  fi\nfi\n",
          ":"),
     "", "grub", "/boot/vmlinuz-6.1"},
    {"a default that the last boot that failed leads to",
     MENU("grub/grub.cfg",
          GOOD "set boot_counter=-1\nif [ -n \"${boot_counter}\" -a ! -z \"${default}\" ]; then\n"
               "  if [ \"${boot_counter}\" = \"0\" -o \"${boot_counter}\" = \"-1\" ]; then\n"
               "    set default=gone\n  fi\nfi\n",
          ":"),
     "boot.default", "grub", "/boot/vmlinuz-6.1"},
    {"BLS entries", MENU("grub/grub.cfg", BLS_MENU, BLS("$kernelopts $tuned_params")), "", "grub",
     "/boot/vmlinuz-6.1"},
    {"BLS entries with another disk's root",
     MENU("grub/grub.cfg", BLS_MENU, BLS("root=UUID=0-1 console=ttyS0")), "boot.root", "grub",
     "/boot/vmlinuz-6.1"},
    {"extlinux as Alpine's",
     MENU("extlinux.conf",
          "DEFAULT menu.c32\nPROMPT 0\nLABEL virt\n  MENU DEFAULT\n  LINUX vmlinuz-6.1\n"
          "  INITRD initrd.img-6.1\n  APPEND root=UUID=" UUID " modules=ext4 console=ttyS0",
          ":"),
     "", "extlinux", "/boot/vmlinuz-6.1"},
    {"extlinux without its kernel",
     MENU("extlinux.conf",
          "DEFAULT l\nLABEL l\n KERNEL gone\n APPEND initrd=initrd.img-6.1 "
          "root=UUID=" UUID " console=ttyS0",
          ":"),
     "boot.kernel", "extlinux", "/boot/gone"},
    {"the first GRUB",
     MENU(
         "grub/menu.lst",
         "default 0\ntimeout 5\ntitle Linux\nroot (hd0,0)\nkernel /boot/vmlinuz-6.1 root=UUID=" UUID
         " console=ttyS0\ninitrd /boot/initrd.img-6.1",
         ":"),
     "", "grub-legacy", "/boot/vmlinuz-6.1"},
    {"systemd-boot, with long names",
     ESP_SYSTEM("mmd -i $D@@1M ::/EFI/systemd ::/loader ::/loader/entries; "
                "mcopy -i $D@@1M x ::/EFI/systemd/systemd-bootx64.efi; "
                "mcopy -i $D@@1M k ::/vmlinuz-linux-with-a-long-name; mcopy -i $D@@1M i "
                "::/initramfs-linux.img; printf 'title Arch\\nlinux /vmlinuz-linux-with-a-long-name"
                "\\ninitrd /initramfs-linux.img\\noptions root=UUID=" UUID
                " console=ttyS0\\n' >e; mcopy -i $D@@1M e ::/loader/entries/arch-linux.conf; "
                "printf 'default arch*\\n' >e; mcopy -i $D@@1M e ::/loader/loader.conf"),
     "", "systemd-boot", "/vmlinuz-linux-with-a-long-name"},
    {"systemd-boot behind a shim",
     ESP_SYSTEM("mmd -i $D@@1M ::/EFI/systemd ::/loader ::/loader/entries; echo longer >x; "
                "mcopy -i $D@@1M x ::/EFI/systemd/systemd-bootx64.efi; mcopy -i $D@@1M k ::/linux; "
                "mcopy -i $D@@1M i ::/initrd; printf 'options root=UUID=" UUID
                " console=ttyS0\\nlinux /linux\\ninitrd /initrd\\n' >e; "
                "mcopy -i $D@@1M e ::/loader/entries/opensuse-tumbleweed-6.1-default-1.conf"),
     "", "systemd-boot", "/linux"},
    {"GRUB by way of the EFI system partition",
     ESP_SYSTEM("mmd -i $D@@1M ::/EFI/debian; printf 'search.fs_uuid " UUID
                " root \\nset prefix=($root)/boot/grub\\nconfigfile $prefix/grub.cfg\\n' >e; "
                "mcopy -i $D@@1M e ::/EFI/debian/grub.cfg; cat >r/boot/grub/grub.cfg <<'END'\n" GOOD
                "END\n:"),
     "", "grub", "/boot/vmlinuz-6.1"},
    {"an EFI system partition that searches for another disk",
     ESP_SYSTEM("mmd -i $D@@1M ::/EFI/debian; printf 'search.fs_uuid 9-9 root \\nset "
                "prefix=($root)/boot/grub\\nconfigfile $prefix/grub.cfg\\n' >e; "
                "mcopy -i $D@@1M e ::/EFI/debian/grub.cfg; cat >r/boot/grub/grub.cfg <<'END'\n" GOOD
                "END\n:"),
     "esp.config", "grub", "/boot/vmlinuz-6.1"},
};

static void test_boots(void) {
    for (size_t i = 0; i < sizeof(boots) / sizeof(boots[0]); i++) {
        struct disk disk = make_disk(boots[i].script);
        IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
        IM_AUTO(free_auto) char *codes = NULL;

        if (disk.bytes == NULL)
            continue;
        found = look(&disk);
        codes = codes_of(found);
        check(strcmp(codes, boots[i].codes) == 0, "%s: finds [%s]", boots[i].name, codes);
        check(strcmp(found->boot.loader, boots[i].loader) == 0 &&
                  strcmp(found->boot.kernel, boots[i].kernel) == 0,
              "%s: %s starts [%s]", boots[i].name, found->boot.loader, found->boot.kernel);
        drop_disk(&disk);
    }
}

/* --- Logical volumes -------------------------------------------------------------------------- */

/* Made on a loop device without device mapper, so that what is in them must be put where LVM's own
 * words say: extents of 4 MiB from 1 MiB on. */
#define LVM(table, after)                                                                          \
    "truncate -s 400M $D; printf 'label: dos\\n" table "' | sfdisk -q $D; " CODE                   \
    "A=$(losetup -f --show -o 1M --sizelimit 100M $D); exec 8<$A; losetup -d $A; "                 \
    "B=$(losetup -f --show -o 101M --sizelimit 100M $D); exec 9<$B; losetup -d $B; " LVM_TOOLS     \
    "lvm() { n=$1; shift; lvm_on \"$A|$B\" $n --nolocking \"$@\"; }; " after "; sync; "
/* Of 64 MiB, into the first volume of the group; fstab also names a swap. */
#define LV_SYSTEM(device)                                                                          \
    "truncate -s 64M part; " ROOT(                                                                 \
        "", device " / ext4 defaults 0 1\n"                                                        \
                   "/dev/cl/swap none swap sw 0 0\n") "dd if=part of=$D bs=1M seek=2 "             \
                                                      "conv=notrunc 2>/dev/null"

static const struct {
    const char *name, *script, *codes, *filesystems, *root;
} volumes[] = {
    {"a root on LVM",
     LVM("2048,204800,8e,*\n", "lvm pvcreate $A; lvm vgcreate cl $A; "
                               "lvm lvcreate -an -Zn -Wn -y -n root -L 64M cl; "
                               "lvm lvcreate -an -Zn -Wn -y -n swap -L 16M cl")
         LV_SYSTEM("/dev/mapper/cl-root"),
     "", "LVM2_member ext4 -", "cl/root"},
    {"an LV in two pieces",
     LVM("2048,204800,8e,*\n",
         "lvm pvcreate $A; lvm vgcreate cl $A; "
         "lvm lvcreate -an -Zn -Wn -y -n root -l 4 cl; "
         "lvm lvcreate -an -Zn -Wn -y -n between -l 4 cl; lvm lvextend -l 16 "
         "cl/root") "truncate -s 64M part; " ROOT("", "") "dd if=part of=$D bs=1M "
                                                          "seek=2 count=16 "
                                                          "conv=notrunc 2>/dev/null; "
                                                          "dd if=part of=$D bs=1M "
                                                          "seek=34 skip=16 "
                                                          "conv=notrunc 2>/dev/null",
     "", "LVM2_member ext4 -", "cl/root"},
    {"an LV in stripes",
     LVM("2048,204800,8e,*\n,204800,8e\n",
         "lvm pvcreate $A $B; lvm vgcreate cl $A "
         "$B; "
         "lvm lvcreate -an -Zn -Wn -y -n root -i 2 -I 64k -L 64M "
         "cl") "truncate -s 64M part; " ROOT("", "") "i=0; while [ "
                                                     "$i -lt 512 ]; "
                                                     "do dd if=part "
                                                     "of=$D bs=64k "
                                                     "skip=$((2*i)) "
                                                     "seek=$((32+i)) "
                                                     "count=1 "
                                                     "conv=notrunc "
                                                     "2>/dev/null; "
                                                     "dd if=part "
                                                     "of=$D bs=64k "
                                                     "skip=$((2*i+1))"
                                                     " seek=$((1632+"
                                                     "i)) count=1 "
                                                     "conv=notrunc "
                                                     "2>/dev/null; "
                                                     "i=$((i+1)); "
                                                     "done",
     "", "LVM2_member LVM2_member ext4", "cl/root"},
    {"an LV that goes on on another disk",
     LVM("2048,204800,8e,*\n,204800,8e\n",
         "lvm pvcreate $A $B; lvm vgcreate cl $A $B; "
         "lvm lvcreate -an -Zn -Wn -y -n root -L 150M cl") "dd if=/dev/zero of=$D bs=1M seek=101 "
                                                           "count=1 conv=notrunc 2>/dev/null",
     "lvm.missing", "LVM2_member - -", ""},
    /* Without device mapper LVM makes no mirrors: one is called so instead. */
    {"a mirror",
     LVM("2048,204800,8e,*\\n", "lvm pvcreate $A; lvm vgcreate cl $A; lvm lvcreate -an -Zn -Wn -y "
                                "-n root -L 32M cl") "O=$(grep -abo 'type = \"striped\"' $D | head "
                                                     "-n 1 | cut -d: -f1); "
                                                     "printf 'type = \"raid1\"  ' | dd of=$D bs=1 "
                                                     "seek=$O conv=notrunc 2>/dev/null",
     "lvm.segment", "LVM2_member -", ""},
    {"a damaged area of metadata",
     LVM("2048,204800,8e,*\\n", "lvm pvcreate $A; lvm vgcreate cl $A") "printf x | dd of=$D bs=1 "
                                                                       "seek=1052676 conv=notrunc "
                                                                       "2>/dev/null",
     "lvm.damaged", "LVM2_member", ""},
    {"a physical volume of no group", LVM("2048,204800,8e,*\\n", "lvm pvcreate $A"), "",
     "LVM2_member", ""},
    {"a swap of LVM that stays behind",
     LVM("2048,204800,8e,*\\n", "lvm pvcreate $A; lvm vgcreate cl $A; "
                                "lvm lvcreate -an -Zn -Wn -y -n root -L 64M cl")
         LV_SYSTEM("/dev/cl/root"),
     "fstab.unknown", "LVM2_member ext4", "cl/root"},
    {"a damaged label",
     LVM("2048,204800,8e,*\n",
         "lvm pvcreate $A; lvm vgcreate cl $A") "printf '\\377\\377\\377' | dd of=$D bs=1 "
                                                "seek=1049108 conv=notrunc 2>/dev/null",
     "lvm.damaged", "LVM2_member", ""},
};

static void test_lvm(void) {
    if (!can_loop()) {
        test_note("no loop devices here: logical volumes are left out");
        return;
    }
    for (size_t i = 0; i < sizeof(volumes) / sizeof(volumes[0]); i++) {
        struct disk disk = make_disk(volumes[i].script);
        IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
        IM_AUTO(free_auto) char *codes = NULL;
        IM_AUTO(free_auto) char *filesystems = NULL;

        if (disk.bytes == NULL)
            continue;
        found = look(&disk);
        codes = codes_of(found);
        filesystems = filesystems_of(found);
        check(strcmp(codes, volumes[i].codes) == 0, "%s: finds [%s]", volumes[i].name, codes);
        check(strcmp(filesystems, volumes[i].filesystems) == 0, "%s: has [%s]", volumes[i].name,
              filesystems);
        check(strcmp(found->os.root, volumes[i].root) == 0, "%s: root is [%s]", volumes[i].name,
              found->os.root);
        drop_disk(&disk);
    }
}

/* --- Disks that mean harm --------------------------------------------------------------------- */

static void expect(struct disk *disk, const char *code, const char *name) {
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = look(disk);
    IM_AUTO(free_auto) char *codes = found ? codes_of(found) : im_strdup("");

    check(strstr(codes, code) != NULL, "%s: [%s]", name, codes);
    check(found != NULL && found->read_bytes <= GUEST_LOOK_BYTES, "%s: not too much is read", name);
}

static void gpt_header(uint8_t *header, uint64_t at, uint32_t count, uint32_t each) {
    memset(header, 0, SECTOR);
    memcpy(header, "EFI PART\0\0\1\0", 12);
    put_le32(header + 12, 92);
    put_le64(header + 24, at);
    put_le64(header + 32, 1);
    put_le64(header + 72, 2);
    put_le32(header + 80, count);
    put_le32(header + 84, each);
    put_le32(header + 16, (uint32_t) crc32(0, header, 92));
}

static void test_hostile_gpt(void) {
    struct disk disk = {im_alloc(8 * MIB), 8 * MIB};
    static const uint32_t forms[][2] = {{UINT32_MAX, 128},
                                        {UINT32_MAX, UINT32_MAX - 7},
                                        {1, UINT32_MAX - 7},
                                        {0x2000000, 0x80000000},
                                        {0, 128},
                                        {128, 0}};

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        gpt_header(disk.bytes + SECTOR, 1, forms[i][0], forms[i][1]);
        gpt_header(disk.bytes + disk.len - SECTOR, disk.len / SECTOR - 1, forms[i][0], forms[i][1]);
        expect(&disk, "gpt.damaged", "GPT with an impossible number of entries");
    }
    free(disk.bytes);
}

static void entry(uint8_t *at, uint8_t type, uint32_t first, uint32_t count) {
    at[4] = type;
    put_le32(at + 8, first);
    put_le32(at + 12, count);
}

static void sign(uint8_t *sector) {
    sector[510] = 0x55;
    sector[511] = 0xaa;
}

static void test_hostile_mbr(void) {
    struct disk disk = {im_alloc(8 * MIB), 8 * MIB};
    uint8_t *one = disk.bytes + 100 * SECTOR, *two = disk.bytes + 200 * SECTOR;

    sign(disk.bytes);
    entry(disk.bytes + 446, 5, 100, 8000);
    sign(one);
    entry(one + 446, 0x83, 1, 50);
    entry(one + 462, 5, 100, 100);
    sign(two);
    entry(two + 446, 0x83, 1, 50);
    entry(two + 462, 5, 100, 100); /* itself again */
    expect(&disk, "mbr.chain", "a ring of logical partitions");
    entry(two + 462, 5, UINT32_MAX, 100);
    expect(&disk, "mbr.chain", "logical partitions that lead beyond the disk");
    for (uint32_t i = 0; i < 200; i++) {
        uint8_t *each = disk.bytes + (100 + 4 * i) * SECTOR;

        memset(each, 0, SECTOR);
        sign(each);
        entry(each + 446, 0x83, 1, 2);
        entry(each + 462, 5, 4 * (i + 1), 4);
    }
    expect(&disk, "mbr.chain", "too many logical partitions");
    entry(disk.bytes + 446, 0x83, 2048, 4096);
    entry(disk.bytes + 462, 0x83, 6143, 4096);
    expect(&disk, "partition.overlap", "two partitions that share a sector");
    entry(disk.bytes + 446, 0x83, UINT32_MAX, UINT32_MAX);
    expect(&disk, "partition.beyond", "a partition of the largest numbers");
    free(disk.bytes);
}

/* Bytes of what is looked at are turned over, a few at a time; the sanitizers are the judges. */
static void spoil(const char *script, const uint64_t *areas, size_t area_count, unsigned rounds,
                  const char *name) {
    struct disk disk = make_disk(script);
    uint32_t seed = 1;
    bool bounded = true;

    for (unsigned round = 0; disk.bytes != NULL && round < rounds; round++) {
        uint64_t spots[8];
        uint8_t old[8];
        size_t count = 1 + chance(&seed) % 8;
        IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;

        for (size_t i = 0; i < count; i++) {
            spots[i] = areas[chance(&seed) % area_count] + chance(&seed) % 1024;
            old[i] = disk.bytes[spots[i]];
            disk.bytes[spots[i]] = (uint8_t) (chance(&seed) % 4 == 0 ? 0xff : chance(&seed));
        }
        found = look(&disk);
        bounded = bounded && found != NULL && found->read_bytes <= GUEST_LOOK_BYTES;
        for (size_t i = count; i-- > 0;)
            disk.bytes[spots[i]] = old[i];
    }
    check(disk.bytes != NULL && bounded, "%s, spoiled %u times", name, rounds);
    drop_disk(&disk);
}

static void test_spoiled(void) {
    static const uint64_t tables[] = {0, 512, 1024, MIB, MIB + 512, 64 * MIB - 1024};
    static const uint64_t chain[] = {0, 10240 * SECTOR, 20480 * SECTOR};
    static const uint64_t fat[] = {MIB, MIB + 16384, MIB + 655360, MIB + 656384, MIB + 672768};

    spoil(GPT_ESP "mmd -i $D@@1M ::/EFI ::/EFI/BOOT; echo x >x; mcopy -i $D@@1M x "
                  "::/EFI/BOOT/BOOTX64.EFI",
          tables, 6, 1500, "GPT");
    spoil(GPT_ESP "mmd -i $D@@1M ::/EFI ::/EFI/BOOT; echo x >x; mcopy -i $D@@1M x "
                  "::/EFI/BOOT/BOOTX64.EFI",
          fat, 5, 1500, "FAT");
    spoil("truncate -s 64M $D; printf 'label: dos\\n2048,8192,83,*\\n10240,,5\\n12288,8192,83\\n,"
          "8192,82\\n' | sfdisk -q $D; " CODE,
          chain, 3, 1500, "MBR");
}

/* libext2fs sees them too. */
static void test_spoiled_systems(void) {
    static const uint64_t ext[] = {MIB + 1024, MIB + 4096, MIB + 1024, MIB + (260 << 10),
                                   MIB + (64 << 10)};
    static const uint64_t lvm[] = {MIB + 512, MIB + 4096, MIB + 4608, MIB + 5120, MIB + 6144};

    spoil(systems[0].script, ext, 5, 1500, "ext4");
    if (can_loop())
        spoil(volumes[0].script, lvm, 5, 1500, "LVM");
}

static void test_noise(void) {
    struct disk disk = {im_alloc(MIB), MIB};
    uint32_t seed = 7;

    for (uint64_t i = 0; i < disk.len; i++)
        disk.bytes[i] = (uint8_t) chance(&seed);
    expect(&disk, "boot.none", "noise");
    sign(disk.bytes);
    expect(&disk, "", "noise with a signature");
    disk.len = 100;
    expect(&disk, "disk.empty", "not one sector");
    free(disk.bytes);
}

/* One file system has other names elsewhere. */
static void test_types(void) {
    check(fstab_types_agree("msdosfs", "vfat"), "FreeBSD mounts a FAT as msdosfs");
    check(!fstab_types_agree("msdosfs", "ext4"), "and an ext4 not");
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "boots") == 0) {
        test_boots();
        return test_end();
    }
    test_cases();
    test_systems();
    test_types();
    test_usr_elsewhere();
    test_boots();
    test_lvm();
    test_hostile_gpt();
    test_hostile_mbr();
    test_noise();
    test_spoiled();
    test_spoiled_systems();
    return test_end();
}
