/* SPDX-License-Identifier: Apache-2.0 */
/* The reader of UFS: everything that makefs put into a file system comes out again, byte by byte;
 * and FreeBSD on it, with each defect one by one. */
#include <string.h>

#include "guest/repair.h"
#include "harness/test.h"
#include "test-folder.h"

/* --- Bytes ------------------------------------------------------------------------------------ */

/* makefs knows neither modes above 0777 nor who owns what else than as it is. */
#define MAKE(folder, options)                                                                      \
    "makefs -t ffs -B le -o " options " -s 200m $D " folder " >/dev/null; "
/* Where FreeBSD's own tools put the superblock, which is a file's room here. */
#define MOVE_SUPER                                                                                 \
    "python3 -c 'import struct, sys; d = bytearray(open(sys.argv[1], \"rb\").read()); "            \
    "assert d[65536:73728] == b\"P\" * 8192; d[65536:73728] = d[8192:16384]; "                     \
    "d[8192:16384] = bytes(8192); struct.pack_into(\"<q\", d, 65536 + 1000, 65536); "              \
    "d[65536 + 680:65536 + 686] = b\"rootfs\"; open(sys.argv[1], \"wb\").write(d)' $D; "

static void test_forms(void) {
    static const struct {
        const char *name, *script, *label;
    } forms[] = {
        {"ufs 2", MAKE("r", "version=2"), ""},
        {"ufs 2 as FreeBSD makes it", MAKE("r", "version=2,bsize=32768,fsize=4096"), ""},
        {"ufs 2 with blocks of 4 KiB", MAKE("r", "version=2,bsize=4096,fsize=512"), ""},
        {"ufs 1", MAKE("r", "version=1"), ""},
        {"ufs 1 with groups", MAKE("r", "version=1,bsize=4096,fsize=512"), ""},
        {"ufs 2 with its superblock elsewhere",
         "rm -rf p; mkdir p; head -c 300000 /dev/zero | tr '\\0' P >p/pad; " MAKE("p",
                                                                                  "version=2") //
         MOVE_SUPER "rm p/pad",
         "rootfs"},
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        IM_AUTO(close_disk_auto)
        struct opened *opened = open_disk(forms[i].script, forms[i].name);
        IM_AUTO(free_auto) char *codes = NULL;
        uint64_t size, left;

        if (opened == NULL)
            continue;
        if (forms[i].label[0] == '\0')
            check_same(opened, "r", forms[i].name);
        check(strcmp(opened->look.found->parts[0].label, forms[i].label) == 0 &&
                  strlen(opened->look.found->parts[0].uuid) == 16,
              "%s: label [%s], identity %s", forms[i].name, opened->look.found->parts[0].label,
              opened->look.found->parts[0].uuid);
        check(opened->look.volumes[0]->ops->space(opened->look.volumes[0]->state, &size, &left) &&
                  size > 150 * MIB && left < size && left > size / 2,
              "%s: its room is told", forms[i].name);
        volumes_check(&opened->look);
        codes = codes_of(opened->look.found);
        check(codes[0] == '\0', "%s: nothing is wrong: [%s]", forms[i].name, codes);
    }
}

/* --- FreeBSD ---------------------------------------------------------------------------------- */

#define FSTAB "/dev/gpt/rootfs / ufs rw 1 1\\n/dev/gpt/swap none swap sw 0 0\\n"
/* As its images come: boot code, loader, swap, root; `then` changes the folder "s". */
#define FREEBSD(then)                                                                              \
    "rm -rf s; mkdir -p s/etc s/bin s/sbin s/boot/kernel s/var/run s/etc/ssh; "                    \
    "ln -s ../var/run/os-release s/etc/os-release; cp /bin/true s/bin/ls; echo x >s/sbin/init; "   \
    "printf '#!/bin/sh\\nUSERLAND_VERSION=\"14.1-RELEASE-p5\"\\n' >s/bin/freebsd-version; "        \
    "printf 'hostname=\"beastie\"\\nifconfig_DEFAULT=\"DHCP\"\\nsshd_enable=\"YES\"\\n' "          \
    ">s/etc/rc.conf; echo x >s/etc/rc.subr; printf '" FSTAB "' >s/etc/fstab; "                     \
    "for f in loader loader.efi kernel/kernel; do echo x >s/boot/$f; done; "                       \
    "mkdir -p s/usr/local/bin s/usr/local/etc/cloud; echo x >s/usr/local/bin/cloud-init; echo x "  \
    ">s/usr/local/bin/qemu-ga; printf 'system_info:\\n  default_user:\\n    name: freebsd\\n' "    \
    ">s/usr/local/etc/cloud/cloud.cfg; "                                                           \
    ""                                                                                             \
    "printf 'autoboot_delay=\"1\"\\nconsole=\"comconsole,vidconsole\"\\n' "                        \
    ">s/boot/loader.conf; " then                                                                   \
    "truncate -s 120M $D; sgdisk -n 1::+512K -t 1:a501 -n 2::+10M -t 2:a502 -c 2:swap "            \
    "-n 3:24576: -t 3:a503 -c 3:rootfs $D; "                                                       \
    "printf '\\372\\353' | dd of=$D conv=notrunc 2>/dev/null; "                                    \
    "makefs -t ffs -B le -o version=2 -s 100m part s >/dev/null; "                                 \
    "dd if=part of=$D bs=1M seek=12 conv=notrunc,sparse 2>/dev/null; rm part"

static const struct {
    const char *name, *script, *codes;
} systems[] = {
    {"FreeBSD", FREEBSD(""), ""},
    {"FreeBSD with an os-release",
     FREEBSD("printf 'NAME=FreeBSD\\nVERSION=\"14.1-RELEASE-p5\"\\nVERSION_ID=\"14.1\"\\nID=freebsd"
             "\\nPRETTY_NAME=\"FreeBSD 14.1-RELEASE-p5\"\\n' >s/var/run/os-release; "),
     ""},
    {"FreeBSD whose loader names its root",
     FREEBSD("echo 'vfs.root.mountfrom=\"ufs:/dev/gpt/rootfs\"' >>s/boot/loader.conf; "), ""},
    {"another disk's label in fstab", FREEBSD("sed -i s/gpt.rootfs/gpt\\\\/other/ s/etc/fstab; "),
     "fstab.root"},
    {"another disk's label in the loader",
     FREEBSD("echo 'vfs.root.mountfrom=\"ufs:/dev/ufs/other\"' >>s/boot/loader.conf; "),
     "boot.root"},
    {"a root by its number in the loader",
     FREEBSD("echo 'vfs.root.mountfrom=\"ufs:/dev/ada0p3\"' >>s/boot/loader.conf; "),
     "boot.root_name"},
    {"names by number in fstab", FREEBSD("sed -i s/gpt.rootfs/ada0p3/ s/etc/fstab; "),
     "fstab.name"},
    {"a swap that stays behind", FREEBSD("sed -i s/gpt.swap/gpt\\\\/swap2/ s/etc/fstab; "),
     "fstab.unknown"},
    {"no kernel", FREEBSD("rm s/boot/kernel/kernel; "), "boot.kernel"},
    {"another kernel",
     FREEBSD("mkdir s/boot/mine; mv s/boot/kernel/kernel s/boot/mine/; "
             "echo 'kernel=\"mine\"' >>s/boot/loader.conf; "),
     ""},
    {"an empty kernel", FREEBSD(": >s/boot/kernel/kernel; "), "boot.kernel_damaged"},
    {"in use",
     FREEBSD("") "; printf '\\0' | dd of=$D bs=1 seek=$((12 * 1048576 + 8192 + 209)) conv=notrunc "
                 "2>/dev/null",
     "filesystem.dirty"},
    {"marked for a check",
     FREEBSD("") "; printf '\\4' | dd of=$D bs=1 seek=$((12 * 1048576 + 8192 + 1312)) conv=notrunc "
                 "2>/dev/null",
     "filesystem.damaged"},
};

static void test_systems(void) {
    for (size_t i = 0; i < sizeof(systems) / sizeof(systems[0]); i++) {
        struct disk disk = make_disk(systems[i].script);
        IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
        IM_AUTO(free_auto) char *codes = NULL;
        const struct guest_os *os;

        if (disk.bytes == NULL)
            continue;
        found = look(&disk);
        os = &found->os;
        codes = codes_of(found);
        check(strcmp(codes, systems[i].codes) == 0, "%s: finds [%s]", systems[i].name, codes);
        for (size_t j = 0; strcmp(codes, systems[i].codes) != 0 && j < found->finding_count; j++)
            test_note("%s", found->findings[j].text);
        check(strcmp(os->id, "freebsd") == 0 && strcmp(os->version, "14.1") == 0 &&
                  strcmp(os->name, "FreeBSD 14.1-RELEASE-p5") == 0 &&
                  strcmp(os->osinfo, "freebsd14.1") == 0 && strcmp(os->platform, "bsd") == 0 &&
                  strcmp(os->hostname, "beastie") == 0 && strcmp(os->init, "rc") == 0 &&
                  strcmp(os->root, "/dev/vda3") == 0 && strcmp(os->processor, "64bit") == 0,
              "%s: %s, %s, %s on %s, host %s", systems[i].name, os->name, os->version, os->osinfo,
              os->root, os->hostname);
        drop_disk(&disk);
    }
}

/* Files of a FreeBSD are not for a Linux to change. */
static void test_repair(void) {
    struct disk disk = make_disk(FREEBSD("sed -i s/gpt.rootfs/ada0p3/ s/etc/fstab; "));
    struct guest_source source = {read_disk, &disk, disk.len};
    struct guest_wish wish = {.all = true};
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    IM_AUTO(guest_plan_free_auto) struct guest_plan *plan = NULL;
    struct im_err err = {0};

    if (disk.bytes == NULL)
        return;
    check(guest_plan(&source, &wish, &found, &plan, &err) && plan->edit_count == 0 &&
              plan->repair_count == 1 && !plan->repairs[0].done &&
              strstr(plan->repairs[0].text, "no Linux") != NULL,
          "nothing is repaired: %s",
          plan != NULL && plan->repair_count > 0 ? plan->repairs[0].text : err.text);
    drop_disk(&disk);
}

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    maker = argv[1];
    if (!check(run("rm -rf r; mkdir r; python3 $M r; rm r/many/name-[1-9][0-9][0-9]*; "
                   "mkdir -p r/links; python3 $M --holes r; rm r/far r/reserved; "
                   "chmod 755 r/deep/er/and/deeper; chmod 644 r/deep/er/and/deeper/x",
                   ""),
               "a folder is made"))
        return test_end();
    test_forms();
    test_systems();
    test_repair();
    return test_end();
}
