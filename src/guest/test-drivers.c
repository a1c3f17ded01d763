/* SPDX-License-Identifier: Apache-2.0 */
/* Drivers in an initramfs of each kind, in the kernel, or in neither; and initramfses that mean
 * harm. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "guest-private.h"
#include "harness/test.h"
#include "test-disk.h"

#define UUID "11111111-2222-3333-4444-555555555555"

/* A kernel of version 6.1.0 with a module of ext4 and dm-mod built in, modules on the disk, and
 * what is to be its initramfs in the folder i. */
#define BEFORE                                                                                     \
    "rm -rf r i m; K=lib/modules/6.1.0/kernel; export PATH=$PATH:/sbin; "                          \
    "mkdir -p r/etc/cloud r/bin r/usr/lib r/boot/grub r/$K/drivers/net i/usr/$K/drivers/block "    \
    "i/usr/$K/drivers/virtio i/bin m/kernel/x86/microcode; "                                       \
    "printf 'ID=debian\\nVERSION_ID=12\\n' >r/etc/os-release; : >r/etc/fstab; "                    \
    ": >r/etc/cloud/cloud.cfg; "                                                                   \
    "head -c 4096 /dev/zero >k; printf HdrS | dd of=k bs=1 seek=514 conv=notrunc 2>/dev/null; "    \
    "printf '\\000\\004' | dd of=k bs=1 seek=526 conv=notrunc 2>/dev/null; "                       \
    "printf '6.1.0 (someone)' | dd of=k bs=1 seek=1536 conv=notrunc 2>/dev/null; "                 \
    "printf 'kernel/drivers/md/dm-mod.ko\\nkernel/fs/ext4/ext4.ko\\n' "                            \
    ">r/lib/modules/6.1.0/modules.builtin; : >r/lib/modules/6.1.0/modules.dep; "                   \
    "echo x >r/$K/drivers/net/virtio_net.ko; cp k r/boot/vmlinuz; head -c 99999 /dev/urandom "     \
    ">i/bin/busybox; ln -s usr/lib i/lib; echo x >i/usr/$K/drivers/block/virtio_blk.ko; "          \
    "echo x >i/usr/$K/drivers/virtio/virtio_pci.ko; head -c 9999 /dev/zero "                       \
    ">m/kernel/x86/microcode/GenuineIntel.bin; I='initrd /boot/initrd'; "
#define ARCHIVE(packer)                                                                            \
    "(cd i; find . | LC_ALL=C sort | cpio -o -H newc 2>/dev/null | " packer ") >r/boot/initrd; "
/* As distributions put microcode before all else. */
#define EARLY                                                                                      \
    "(cd m; find . | cpio -o -H newc 2>/dev/null; cat ../r/boot/initrd) >both; "                   \
    "mv both r/boot/initrd; "
#define AFTER                                                                                      \
    "printf \"serial\\nterminal_output serial\\nmenuentry Linux {\\n linux /boot/vmlinuz "         \
    "root=UUID=" UUID " console=ttyS0\\n $I\\n}\\n\" >r/boot/grub/grub.cfg; "                      \
    "truncate -s 64M $D; printf 'label: dos\\n2048,,83,*\\n' | sfdisk -q $D; "                     \
    "printf '\\372\\353' | dd of=$D conv=notrunc 2>/dev/null; truncate -s 63M part; "              \
    "mkfs.ext4 -qF -U " UUID " -d r part; dd if=part of=$D bs=1M seek=1 conv=notrunc,sparse "      \
    "2>/dev/null; rm part"
#define WITHOUT "rm i/usr/$K/drivers/block/virtio_blk.ko; "
#define PACKED(packer)                                                                             \
    {packer ", with", BEFORE ARCHIVE(packer) EARLY AFTER, ""}, {                                   \
        packer ", without", BEFORE WITHOUT ARCHIVE(packer) EARLY AFTER, "driver.disk"              \
    }

static const struct {
    const char *name, *script, *codes;
} cases[] = {
    PACKED("cat"),
    PACKED("gzip"),
    PACKED("xz --check=crc32"),
    PACKED("zstd"),
    PACKED("bzip2"),
    PACKED("xz --format=lzma"),
    PACKED("lz4 -l"),
    {"two packed archives, one with the drivers",
     BEFORE ARCHIVE("gzip") "mv r/boot/initrd one; " WITHOUT ARCHIVE(
         "zstd") "head -c 512 /dev/zero >>r/boot/initrd; cat one >>r/boot/initrd; " AFTER,
     ""},
    {"an archive behind a larger one that is not packed",
     BEFORE "(cd i; head -c 30000000 /dev/zero >filler; find . | cpio -o -H newc 2>/dev/null; rm "
            "filler) >r/boot/initrd; " AFTER,
     ""},
    {"modules that are packed",
     BEFORE "echo x >i/usr/$K/drivers/block/virtio-blk.ko.zst; " WITHOUT ARCHIVE("zstd") AFTER, ""},
    {"the drivers of another kernel",
     BEFORE "mv i/usr/lib/modules/6.1.0 i/usr/lib/modules/6.0.0; " ARCHIVE("gzip") AFTER,
     "driver.disk"},
    {"drivers built in",
     BEFORE WITHOUT "printf 'kernel/drivers/block/virtio_blk.ko\\n' "
                    ">>r/lib/modules/6.1.0/modules.builtin; " ARCHIVE("gzip") AFTER,
     ""},
    {"no initramfs: one fault, one finding", BEFORE "I=; " AFTER, "boot.initrd"},
    {"a kernel that says nothing of what is built in",
     BEFORE WITHOUT "rm r/lib/modules/6.1.0/modules.builtin; " ARCHIVE("gzip") AFTER, ""},
    {"an initramfs of a kind that is not known",
     BEFORE WITHOUT ARCHIVE("(printf '\\211LZO\\000\\r\\n\\032\\n'; cat)") AFTER, ""},
    {"the root's file system is not there",
     BEFORE "sed -i /ext4/d r/lib/modules/6.1.0/modules.builtin; " ARCHIVE("gzip") AFTER,
     "driver.root"},
    {"the root's file system is a module",
     BEFORE "sed -i /ext4/d r/lib/modules/6.1.0/modules.builtin; "
            "echo x >i/usr/$K/drivers/ext4.ko.xz; " ARCHIVE("gzip") AFTER,
     ""},
    {"no driver for the network",
     BEFORE "rm r/$K/drivers/net/virtio_net.ko; " ARCHIVE("gzip") AFTER, "driver.net"},
    {"a driver for the network that is not to be loaded",
     BEFORE
     "mkdir -p r/etc/modprobe.d; echo 'blacklist virtio-net' >r/etc/modprobe.d/a.conf; " ARCHIVE(
         "gzip") AFTER,
     "driver.net"},
    {"the same by a program that does nothing",
     BEFORE "mkdir -p r/usr/lib/modprobe.d; echo 'install virtio_net /bin/true' "
            ">r/usr/lib/modprobe.d/a.conf; " ARCHIVE("gzip") AFTER,
     "driver.net"},
    {"the same, but the driver is built in",
     BEFORE "mkdir -p r/etc/modprobe.d; echo 'blacklist virtio_net' >r/etc/modprobe.d/a.conf; "
            "printf 'kernel/drivers/net/virtio_net.ko\\n' "
            ">>r/lib/modules/6.1.0/modules.builtin; " ARCHIVE("gzip") AFTER,
     ""},
    {"others that are not to be loaded, and what /etc hides",
     BEFORE
     "mkdir -p r/etc/modprobe.d r/usr/lib/modprobe.d; printf '#blacklist virtio_net\\n"
     "blacklist e1000\\ninstall virtio_net /sbin/modprobe -i virtio_net\\n' "
     ">r/etc/modprobe.d/a.conf; echo 'blacklist virtio_net' >r/usr/lib/modprobe.d/a.conf; " ARCHIVE(
         "gzip") AFTER,
     ""},
    {"a driver for the network in another place",
     BEFORE "rm r/$K/drivers/net/virtio_net.ko; "
            "echo 'updates/virtio_net.ko.xz: x' >r/lib/modules/6.1.0/modules.dep; " ARCHIVE("gzip")
                AFTER,
     ""},
    {"an initramfs that was cut short before them",
     BEFORE ARCHIVE("gzip") "truncate -s 60000 r/boot/initrd; " AFTER, "boot.initrd_damaged"},
    /* Holes are no reading, but to pass over terabytes of them would take an hour. */
    {"an initramfs that ends in a hole of terabytes",
     BEFORE WITHOUT ARCHIVE("gzip") "truncate -s 8T r/boot/initrd; " AFTER, ""},
    /* Each could be unpacked by itself. */
    {"archives that are too much together",
     BEFORE WITHOUT "head -c 150M /dev/zero >i/filler; " ARCHIVE(
         "gzip -1") "cat r/boot/initrd r/boot/initrd >both; mv both r/boot/initrd; " AFTER,
     ""},
    {"bytes in the place of an archive's head",
     BEFORE ARCHIVE("(head -c 112; tr 0 Q) | gzip") AFTER, "boot.initrd_damaged"},
};

static void test_cases(void) {
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct disk disk = make_disk(cases[i].script);
        IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
        IM_AUTO(free_auto) char *codes = NULL;

        if (disk.bytes == NULL)
            continue;
        found = look(&disk);
        codes = codes_of(found);
        if (!check(strcmp(codes, cases[i].codes) == 0, "%s: finds [%s]", cases[i].name, codes))
            for (size_t k = 0; k < found->finding_count; k++)
                test_note("%s", found->findings[k].text);
        check(found->read_bytes < 4 * MIB, "%s: %llu bytes are read", cases[i].name,
              (unsigned long long) found->read_bytes);
        drop_disk(&disk);
    }
}

/* Bytes of the initramfs are turned over; the sanitizers are the judges. */
static void spoil(const char *packer, const char *magic, size_t magic_len) {
    IM_AUTO(free_auto)
    char *script = im_printf("%s (cd i; find . | LC_ALL=C sort | cpio -o -H newc 2>/dev/null | %s) "
                             ">r/boot/initrd; %s",
                             BEFORE WITHOUT "echo x >i/bin/busybox; ", packer, AFTER);
    struct disk disk = make_disk(script);
    uint8_t *at = disk.bytes != NULL ? memmem(disk.bytes, disk.len, magic, magic_len) : NULL;
    uint32_t seed = 1;
    bool bounded = at != NULL;

    for (unsigned round = 0; bounded && round < 1500; round++) {
        uint8_t old[512];

        memcpy(old, at, sizeof(old));
        for (uint32_t count = 1 + chance(&seed) % 6; count > 0; count--)
            at[chance(&seed) % sizeof(old)] =
                (uint8_t) (chance(&seed) % 4 == 0 ? 'F' : chance(&seed));
        IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = look(&disk);
        bounded = found != NULL && found->read_bytes <= GUEST_LOOK_BYTES;
        memcpy(at, old, sizeof(old));
    }
    check(bounded, "%s, spoiled 1500 times", packer);
    drop_disk(&disk);
}

int main(void) {
    test_cases();
    spoil("cat", "070701", 6);
    spoil("gzip -n", "\x1f\x8b\x08", 3);
    spoil("zstd", "\x28\xb5\x2f\xfd", 4);
    spoil("lz4 -l", "\x02\x21\x4c\x18", 4);
    spoil("xz --format=lzma", "\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff", 13);
    return test_end();
}
