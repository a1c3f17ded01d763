/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at disks that were spoiled a byte here and there, aimed at what a look reads: whatever the
 * bytes say, it ends, stays on the disk, and reads no more than it may. The sanitizers are the
 * judges of the rest.
 *
 *     test-mutants MAKE-TREE [ROUNDS]     for each kind of disk; 340000 make a million */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "guest-private.h"
#include "harness/test.h"
#include "test-disk.h"
#include "test-ntfs-disk.h"

enum { ROUNDS = 1500, RANGES_MAX = 4096, SPOTS_MAX = 8, SECONDS_MAX = 10 };

/* --- What a look reads ------------------------------------------------------------------------ */

struct range {
    uint64_t at;
    size_t len;
};
struct traced {
    struct disk *disk;
    struct range ranges[RANGES_MAX];
    size_t count;
};

static bool read_traced(void *arg, uint64_t offset, void *bytes, size_t len, struct im_err *err) {
    struct traced *traced = arg;

    if (traced->count < RANGES_MAX)
        traced->ranges[traced->count++] = (struct range){offset, len};
    return read_disk(traced->disk, offset, bytes, len, err);
}

static struct guest_inspection *look_traced(struct traced *traced) {
    struct guest_source source = {read_traced, traced, traced->disk->len};
    struct guest_inspection *found = NULL;
    struct im_err err = {0};

    return guest_inspect(&source, &found, &err) ? found : NULL;
}

/* --- Mutants ---------------------------------------------------------------------------------- */

/* Bits turn, and numbers become the ones that go wrong: none, all, one more, one less. */
static uint8_t spoiled(uint8_t byte, uint32_t *seed) {
    switch (chance(seed) % 6) {
    case 0:
        return byte ^ (uint8_t) (1u << chance(seed) % 8);
    case 1:
        return 0;
    case 2:
        return 0xff;
    case 3:
        return (uint8_t) (byte + 1);
    case 4:
        return (uint8_t) (byte - 1);
    default:
        return (uint8_t) chance(seed);
    }
}

/* Most structures have their counts at the beginning, so half of the spots lie there. */
struct spot {
    const struct range *range;
    uint64_t at;
    uint8_t old;
};
static struct spot spot_in(const struct traced *traced, uint32_t *seed) {
    const struct range *range = &traced->ranges[chance(seed) % traced->count];
    size_t len = range->len > 128 && chance(seed) % 2 ? 128 : range->len;
    struct spot spot = {range, range->at + chance(seed) % len, 0};

    spot.old = traced->disk->bytes[spot.at];
    return spot;
}

static bool holds(struct disk *disk) {
    int64_t began = im_mono_ms();
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = look(disk);

    return found != NULL && found->read_bytes <= GUEST_LOOK_BYTES &&
           im_mono_ms() - began < SECONDS_MAX * 1000;
}

/* Blocks of btrfs and its superblock get their checksum again, without which nobody looks further:
 * now they read as if they had been written so. */
static void seal(struct disk *disk, const struct range *range) {
    static const uint8_t id[] = {0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33,
                                 0x44, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55};
    uint8_t *block = disk->bytes + range->at;

    if ((range->len == 4096 && memcmp(block + 64, "_BHRfS_M", 8) == 0) ||
        (range->len == 16384 && memcmp(block + 32, id, sizeof(id)) == 0))
        put_le32(block, ~guest_crc32c(UINT32_MAX, block + 32, range->len - 32));
}

static void spoil(const struct traced *traced, unsigned rounds, const char *name) {
    struct disk *disk = traced->disk;
    int64_t began = im_mono_ms();
    uint32_t seed = 7;
    bool fine = true;
    unsigned round;

    for (round = 0; fine && round < rounds; round++) {
        struct spot spots[SPOTS_MAX];
        size_t count = 1 + chance(&seed) % SPOTS_MAX;

        for (size_t i = 0; i < count; i++) {
            spots[i] = spot_in(traced, &seed);
            disk->bytes[spots[i].at] = spoiled(spots[i].old, &seed);
            seal(disk, spots[i].range);
        }
        fine = holds(disk);
        for (size_t i = count; i-- > 0;) {
            disk->bytes[spots[i].at] = spots[i].old;
            seal(disk, spots[i].range);
        }
    }
    check(fine, "%s: %u mutants", name, round);
    test_note("%s: %.0f mutants a second", name, round * 1e3 / (double) (im_mono_ms() - began + 1));
}

/* Cut off at places all over, as uploads are. */
static void cut(const struct traced *traced, const char *name) {
    struct disk shorter = *traced->disk;
    bool fine = true;

    for (unsigned i = 0; fine && i < 64; i++) {
        shorter.len = traced->disk->len / 64 * i + 512;
        fine = holds(&shorter);
    }
    check(fine, "%s: cut short at 64 places", name);
}

static void test_disk(const char *name, const char *maker, const char *script, const char *os,
                      unsigned rounds) {
    IM_AUTO(free_auto)
    char *text = im_printf("M='%s'; K=${M%%/*}/make-hive.py; PATH=$PATH:/sbin; %s", maker, script);
    IM_AUTO(free_auto) struct traced *traced = im_alloc(sizeof(*traced));
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    struct disk disk = make_disk(text);

    if (disk.bytes == NULL)
        return;
    traced->disk = &disk;
    found = look_traced(traced);
    if (check(found != NULL && strcmp(found->os.id, os) == 0 && traced->count > 10,
              "%s: a system, found in %zu reads", name, traced->count)) {
        spoil(traced, rounds, name);
        cut(traced, name);
    }
    drop_disk(&disk);
}

/* --- Disks ------------------------------------------------------------------------------------ */

#define SYSTEM(filesystem)                                                                         \
    "rm -rf s; mkdir -p s/etc/ssh s/etc/cloud s/bin s/boot/grub s/boot/loader/entries; "           \
    "printf 'ID=debian\nVERSION_ID=\"12\"\n' >s/etc/os-release; cp /bin/true s/bin/ls; "           \
    "printf 'UUID=" UUID " / " filesystem " defaults 0 1\nUUID=1234-ABCD /boot/efi vfat "          \
    "umask=0077 0 1\n/dev/sda5 none swap sw 0 0\n' >s/etc/fstab; "                                 \
    "printf 'system_info:\n  default_user:\n    name: admin\n' >s/etc/cloud/cloud.cfg; "           \
    "printf 'set default=0\nsearch --fs-uuid --set=root " UUID "\nmenuentry a {\n linux "          \
    "/boot/vmlinuz-6.1 root=UUID=" UUID " console=ttyS0\n initrd /boot/initrd.img-6.1\n}\n' "      \
    ">s/boot/grub/grub.cfg; "                                                                      \
    "printf 'title b\nlinux /boot/vmlinuz-6.1\ninitrd /boot/initrd.img-6.1\noptions "              \
    "root=UUID=" UUID "\n' >s/boot/loader/entries/b.conf; "                                        \
    "head -c 4096 /dev/urandom >s/boot/vmlinuz-6.1; cp s/boot/vmlinuz-6.1 "                        \
    "s/boot/initrd.img-6.1; echo x >s/etc/ssh/ssh_host_rsa_key; "
#define UUID "11111111-2222-3333-4444-555555555555"
#define MBR(size)                                                                                  \
    "truncate -s " size " $D; printf 'label: dos\n2048,,83,*\n' | sfdisk -q $D; "                  \
    "printf '\372\353' | dd of=$D conv=notrunc 2>/dev/null; "
#define PUT(at) "dd if=part of=$D bs=1M seek=" at " conv=notrunc,sparse 2>/dev/null; rm part; "

static const char ext_script[] = SYSTEM("ext4") MBR("65M") //
    "truncate -s 64M part; mkfs.ext4 -qF -U " UUID " -d s part; " PUT("1");
static const char xfs_script[] = SYSTEM("xfs") MBR("401M") //
    "python3 $M --proto $PWD/s >sproto; truncate -s 400M part; "
    "mkfs.xfs -q -m uuid=" UUID " -p sproto part; " PUT("1");
/* With packed files, where the kernel may mount it. */
static const char btrfs_script[] = SYSTEM("btrfs") MBR("301M") //
    "truncate -s 300M part; mkfs.btrfs -q -m single -U " UUID " part; mkdir -p m; "
    "if mount -t btrfs -o loop,compress-force=lzo part m 2>/dev/null; then "
    "trap 'umount m' EXIT; btrfs -q subvolume create m/@; cp -a s/etc m/@; sync; "
    "mount -o remount,compress-force=zlib m; cp -a s/boot m/@; sync; "
    "mount -o remount,compress-force=zstd m; cp -a s/bin m/@; umount m; trap - EXIT; else "
    "mkfs.btrfs -q -f -m single -U " UUID " --rootdir s part; fi; " PUT("1");
static const char uefi_script[] = SYSTEM("ext4") //
    "truncate -s 100M $D; sgdisk -n 1:2048:+16M -t 1:ef00 -n 2:: $D; "
    "truncate -s 16M part; mkfs.vfat -i 1234ABCD part; mmd -i part ::/EFI ::/EFI/BOOT "
    "::/EFI/debian; echo x >x; mcopy -i part x ::/EFI/BOOT/BOOTX64.EFI; "
    "mcopy -i part x ::/EFI/debian/a-rather-long-name.efi; "
    "mcopy -i part s/boot/grub/grub.cfg ::/EFI/debian/grub.cfg; " PUT("1") //
    "truncate -s 64M part; mkfs.ext4 -qF -U " UUID " -d s part; " PUT("17");

/* With hives that are compressed, and a folder that is more than its top. */
static const char windows_script[] = MBR("65M") WINDOWS_TREE(
    "64M", "for i in $(seq 300); do : >w/Windows/System32/drivers/a-driver-$i.sys; done; "
           "(printf hibe; head -c 9000 /dev/zero) >w/hiberfil.sys")
    NTFS_MOUNT("windows") "python3 -c 'import os; os.setxattr(\"m/Windows/System32/config\", "
                          "\"system.ntfs_attrib_be\", (0x810).to_bytes(4, \"big\"))'; "
                          "cd m/Windows/System32/config; for f in SOFTWARE SYSTEM; do cp $f x; rm "
                          "$f; mv x $f; done; cd ../../../..; " NTFS_UNMOUNT
                          "mv windows part; " PUT("1");

static const char freebsd_script[] =
    "rm -rf s; mkdir -p s/etc s/bin s/boot/kernel s/many; for i in $(seq 200); do echo $i "
    ">s/many/a-name-of-some-length-$i; done; cp /bin/true s/bin/ls; "
    "printf 'USERLAND_VERSION=\"14.1-RELEASE\"\n' >s/bin/freebsd-version; "
    "(printf 'kernel=\"kernel\"\n'; head -c 400000 /dev/zero | tr '\\0' '#') >s/boot/loader.conf; "
    "echo x >s/boot/loader; echo x >s/boot/kernel/kernel; ln -s etc/fstab s/link; "
    "printf '/dev/gpt/root / ufs rw 1 1\n' >s/etc/fstab; " MBR("65M") //
    "makefs -t ffs -B le -o version=2 -s 64m part s >/dev/null; " PUT("1");

int main(int argc, char **argv) {
    unsigned rounds = argc > 2 ? (unsigned) strtoul(argv[2], NULL, 10) : ROUNDS;

    if (argc < 2)
        return 2;
    test_disk("ext4, GRUB", argv[1], ext_script, "debian", rounds);
    test_disk("xfs", argv[1], xfs_script, "debian", rounds);
    test_disk("btrfs", argv[1], btrfs_script, "debian", rounds);
    test_disk("GPT, EFI, FAT", argv[1], uefi_script, "debian", rounds);
    test_disk("FreeBSD on UFS 2", argv[1], freebsd_script, "freebsd", rounds);
    if (access("/dev/fuse", R_OK | W_OK) == 0)
        test_disk("Windows on NTFS", argv[1], windows_script, "windows", rounds);
    else
        test_note("ntfs-3g cannot mount here: Windows is left out");
    return test_end();
}
