/* SPDX-License-Identifier: Apache-2.0 */
/* Looks at disks that were spoiled a byte here and there, aimed at what a look reads: whatever the
 * bytes say, it ends, stays on the disk, and takes no more reads, memory and time than it may. The
 * sanitizers are the judges of the rest.
 *
 *     test-mutants MAKE-TREE [COUNT [FIRST [FOLDER [KIND]]]]
 *
 * COUNT mutants of each kind of disk, or only of that KIND, from number FIRST on; a number is
 * always the same mutant of the same disk. One that does harm is left in FOLDER as it then was.
 * CONTRIBUTING.md tells how to run a million. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/str.h"
#include "guest-private.h"
#include "harness/test.h"
#include "test-disk.h"
#include "test-ntfs-disk.h"
#include "unpack/unpack.h"

enum { COUNT = 1500, RANGES_MAX = 4096, PACKED_MAX = 64, SPOTS_MAX = 8 };

/* What one look may take. Processor time, as others work beside it; under the sanitizers. */
enum { READS_MOST = 200000, SECONDS_MOST = 10 };
#define MEMORY_MOST (64u << 20)

static unsigned long count_of_each = COUNT, first_number;
static const char *keep_in;   /* a folder; NULL = nothing is kept */
static const char *only_kind; /* NULL = all */

/* --- What it takes ---------------------------------------------------------------------------- */

static long long memory_now, memory_peak; /* bytes since the look began */

#ifdef __SANITIZE_ADDRESS__
/* Of the sanitizers' allocator_interface.h, which not every compiler brings. */
int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void *, size_t),
                                              void (*)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *);
void __sanitizer_set_death_callback(void (*)(void));

/* Some tens of looks stay in quarantine, which is far longer than anything is kept by mistake. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "quarantine_size_mb=16:malloc_context_size=2:allocator_release_to_os_interval_ms=-1";
}
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void) { return "halt_on_error=1:print_stacktrace=1"; }

static void see_malloc(const volatile void *at, size_t size) {
    (void) at;
    memory_now += (long long) size;
    if (memory_now > memory_peak)
        memory_peak = memory_now;
}
static void see_free(const volatile void *at) {
    if (at != NULL)
        memory_now -= (long long) __sanitizer_get_allocated_size(at);
}
static void watch_memory(void (*died)(void)) {
    __sanitizer_install_malloc_and_free_hooks(see_malloc, see_free);
    __sanitizer_set_death_callback(died);
}
#else
static void watch_memory(void (*died)(void)) {
    (void) died;
    test_note("without the address sanitizer, memory is not measured");
}
#endif

static double cpu_seconds(void) {
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

/* The most that any look took. */
struct worst {
    double seconds;
    uint64_t read_bytes, memory;
    size_t reads;
};
static void worst_add(struct worst *worst, const struct worst *one) {
    if (one->seconds > worst->seconds)
        worst->seconds = one->seconds;
    if (one->read_bytes > worst->read_bytes)
        worst->read_bytes = one->read_bytes;
    if (one->memory > worst->memory)
        worst->memory = one->memory;
    if (one->reads > worst->reads)
        worst->reads = one->reads;
}
static bool within(const struct worst *worst) {
    return worst->seconds < SECONDS_MOST && worst->read_bytes <= GUEST_LOOK_BYTES &&
           worst->memory <= MEMORY_MOST && worst->reads <= READS_MOST;
}

/* --- What a look reads ------------------------------------------------------------------------ */

struct range {
    uint64_t at;
    size_t len;
};
struct traced {
    const char *name;
    struct disk *disk;
    bool traces; /* else reads are only counted */
    struct range ranges[RANGES_MAX];
    size_t count, packed[PACKED_MAX], packed_count; /* packed: such as begin an initramfs */
    size_t reads;
    unsigned long number; /* of the mutant that is looked at */
};
static struct traced *current; /* for when it does not come back */

static void trace(struct traced *traced, uint64_t offset, const void *bytes, size_t len) {
    if (traced->count == RANGES_MAX)
        return;
    if (len > 6 && traced->packed_count < PACKED_MAX &&
        (packing_detect_all(bytes, len) != PACKING_NONE || memcmp(bytes, "070701", 6) == 0))
        traced->packed[traced->packed_count++] = traced->count;
    traced->ranges[traced->count++] = (struct range){offset, len};
}

static bool read_traced(void *arg, uint64_t offset, void *bytes, size_t len, struct im_err *err) {
    struct traced *traced = arg;
    bool read = read_disk(traced->disk, offset, bytes, len, err);

    traced->reads++;
    if (traced->traces)
        trace(traced, offset, bytes, len);
    return read;
}

static struct guest_inspection *look_traced(struct traced *traced) {
    struct guest_source source = {read_traced, traced, traced->disk->len};
    struct guest_inspection *found = NULL;
    struct im_err err = {0};

    traced->reads = 0;
    return guest_inspect(&source, &found, &err) ? found : NULL;
}

/* --- When one does harm ----------------------------------------------------------------------- */

/* The disk as it is, with holes where there are zeros. */
static void keep(void) {
    char path[512];
    int fd;

    if (current == NULL)
        return;
    fprintf(stderr, "%s: mutant %lu does harm\n", current->name, current->number);
    if (keep_in == NULL)
        return;
    snprintf(path, sizeof(path), "%s/%c-%lu.disk", keep_in, current->name[0], current->number);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (uint64_t at = 0; fd >= 0 && at < current->disk->len; at += 4096)
        if (!im_all_zero(current->disk->bytes + at, 512) ||
            !im_all_zero(current->disk->bytes + at + 512, 3584))
            (void) !pwrite(fd, current->disk->bytes + at, 4096, (off_t) at);
    (void) !ftruncate(fd, (off_t) current->disk->len);
    close(fd);
}

static void too_long(int signal) {
    (void) signal;
    fprintf(stderr, "a look does not end\n");
    keep();
    _exit(1);
}

/* Counts processor time, so a look that hangs ends. */
static void watch_time(int seconds) {
    struct itimerval timer = {.it_value = {.tv_sec = seconds}};

    setitimer(ITIMER_PROF, &timer, NULL);
}

static bool holds(struct traced *traced, struct worst *worst) {
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    struct worst now;
    double began = cpu_seconds();
    bool fine;

    memory_now = memory_peak = 0;
    found = look_traced(traced);
    now = (struct worst){.seconds = cpu_seconds() - began,
                         .read_bytes = found != NULL ? found->read_bytes : 0,
                         .memory = (uint64_t) memory_peak,
                         .reads = traced->reads};
    worst_add(worst, &now);
    fine = found != NULL && within(&now);
    if (!fine)
        keep();
    return fine;
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

/* A few of all ranges are packed, but much can go wrong there: an eighth of the spots. */
static const struct range *range_in(const struct traced *traced, uint32_t *seed) {
    if (traced->packed_count > 0 && chance(seed) % 8 == 0)
        return &traced->ranges[traced->packed[chance(seed) % traced->packed_count]];
    return &traced->ranges[chance(seed) % traced->count];
}

/* Most structures have their counts at the beginning, so half of the spots lie there. */
struct spot {
    const struct range *range;
    uint64_t at;
    uint8_t old;
};
static struct spot spot_in(const struct traced *traced, uint32_t *seed) {
    const struct range *range = range_in(traced, seed);
    size_t len = range->len > 128 && chance(seed) % 2 ? 128 : range->len;
    struct spot spot = {range, range->at + chance(seed) % len, 0};

    spot.old = traced->disk->bytes[spot.at];
    return spot;
}

/* Of a GPT, its entries and then its header. */
static void seal_gpt(struct disk *disk, uint8_t *header) {
    uint64_t at = le64(header + 72), len = (uint64_t) le32(header + 80) * le32(header + 84);

    if (at < disk->len / 512 && len > 0 && len <= MIB && len <= disk->len - at * 512)
        put_le32(header + 88, (uint32_t) crc32(0, disk->bytes + at * 512, (uInt) len));
    if (le32(header + 12) >= 92 && le32(header + 12) <= 512)
        put_le32(header + 16, guest_gpt_checksum(header, le32(header + 12)));
}

/* What has a checksum gets it again, without which nobody looks further: now it reads as if it had
 * been written so. Blocks of btrfs and its superblock, that of XFS, and both ends of a GPT. */
static void seal(struct disk *disk, const struct range *range) {
    static const uint8_t id[] = {0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33,
                                 0x44, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55};
    uint8_t *block = disk->bytes + range->at;

    if ((range->len == 4096 && memcmp(block + 64, "_BHRfS_M", 8) == 0) ||
        (range->len == 16384 && memcmp(block + 32, id, sizeof(id)) == 0))
        put_le32(block, ~guest_crc32c(UINT32_MAX, block + 32, range->len - 32));
    else if (range->len == 512 && memcmp(block, "XFSB", 4) == 0)
        put_le32(block + 224, guest_crc32c_around(block, range->len, 224));
    if (memcmp(disk->bytes + 512, "EFI PART", 8) == 0)
        seal_gpt(disk, disk->bytes + 512);
    if (memcmp(disk->bytes + disk->len - 512, "EFI PART", 8) == 0)
        seal_gpt(disk, disk->bytes + disk->len - 512);
}

/* One mutant; the disk is as it was when it is done. */
static bool mutant(struct traced *traced, unsigned long number, struct worst *worst) {
    struct disk *disk = traced->disk;
    struct spot spots[SPOTS_MAX];
    uint32_t seed = (uint32_t) number * 2654435761u + 7;
    size_t count = 1 + chance(&seed) % SPOTS_MAX;
    bool fine;

    traced->number = number;
    for (size_t i = 0; i < count; i++) {
        spots[i] = spot_in(traced, &seed);
        disk->bytes[spots[i].at] = spoiled(spots[i].old, &seed);
        seal(disk, spots[i].range);
    }
    fine = holds(traced, worst);
    for (size_t i = count; i-- > 0;) {
        disk->bytes[spots[i].at] = spots[i].old;
        seal(disk, spots[i].range);
    }
    return fine;
}

static void spoil(struct traced *traced) {
    int64_t began_ms = im_mono_ms();
    double began = cpu_seconds(), took;
    struct worst worst = {0};
    unsigned long done = 0;
    bool fine = true;

    while (fine && done < count_of_each) {
        if (done % 64 == 0)
            watch_time(64 * SECONDS_MOST);
        fine = mutant(traced, first_number + done++, &worst);
    }
    watch_time(0);
    took = cpu_seconds() - began;
    check(fine, "%s: %lu mutants", traced->name, done);
    test_note("%s: %lld s, %.0f mutants a second of processor time", traced->name,
              (long long) (im_mono_ms() - began_ms) / 1000, (double) done / (took + 1e-9));
    test_note("%s: at most %.0f ms, %zu reads, %.1f MiB read, %.1f MiB of memory", traced->name,
              worst.seconds * 1e3, worst.reads, (double) worst.read_bytes / MIB,
              (double) worst.memory / MIB);
}

/* Cut off at places all over, as uploads are. */
static void cut(struct traced *traced) {
    struct disk shorter = *traced->disk, *whole = traced->disk;
    struct worst worst = {0};
    bool fine = true;

    traced->disk = &shorter;
    for (unsigned i = 0; fine && i < 64; i++) {
        shorter.len = whole->len / 64 * i + 512;
        fine = holds(traced, &worst);
    }
    traced->disk = whole;
    check(fine, "%s: cut short at 64 places", traced->name);
}

/* `packed`: it has an initramfs, of which the look unpacks all. */
static void test_disk(const char *name, const char *maker, const char *script, const char *os,
                      bool packed) {
    IM_AUTO(free_auto)
    char *text = im_printf("M='%s'; K=${M%%/*}/make-hive.py; PATH=$PATH:/sbin; %s", maker, script);
    IM_AUTO(free_auto) struct traced *traced = im_alloc(sizeof(*traced));
    IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
    struct disk disk;

    if (only_kind != NULL && strcmp(name, only_kind) != 0)
        return;
    disk = make_disk(text);
    if (disk.bytes == NULL)
        return;
    traced->name = name;
    traced->disk = &disk;
    traced->traces = true;
    found = look_traced(traced);
    traced->traces = false;
    current = traced;
    if (check(found != NULL && strcmp(found->os.id, os) == 0 && traced->count > 10 &&
                  (traced->packed_count > 0) == packed,
              "%s: a system, found in %zu reads, %zu of them of packed files", name, traced->count,
              traced->packed_count)) {
        spoil(traced);
        cut(traced);
    }
    current = NULL;
    drop_disk(&disk);
}

/* --- Disks ------------------------------------------------------------------------------------ */

/* A kernel and an initramfs, as `packers` make it of the folders i and m: all of it is read, as it
 * lacks a driver. */
#define KERNEL(packers)                                                                            \
    "rm -rf i m; mkdir -p s/lib/modules/6.1 i/usr/lib/modules/6.1/kernel/drivers i/bin "           \
    "m/kernel/x86/microcode; head -c 4096 /dev/zero >k; put() { dd of=k bs=1 seek=$1 "             \
    "conv=notrunc 2>/dev/null; }; printf HdrS | put 514; printf '\\000\\004' | put 526; "          \
    "printf '6.1 (someone)' | put 1536; cp k s/boot/vmlinuz-6.1; "                                 \
    "echo kernel/drivers/md/dm-mod.ko >s/lib/modules/6.1/modules.builtin; "                        \
    "head -c 3000 /dev/urandom >i/bin/busybox; ln -s usr/lib i/lib; "                              \
    "for f in virtio_pci ext4 xfs; do echo $f >i/usr/lib/modules/6.1/kernel/drivers/$f.ko; done; " \
    "head -c 999 /dev/zero >m/kernel/x86/microcode/GenuineIntel.bin; pack() { (cd $1; "            \
    "find . | LC_ALL=C sort | cpio -o -H newc 2>/dev/null); }; "                                   \
    "{ " packers "; } >s/boot/initrd.img-6.1; "
#define SYSTEM(filesystem, packers)                                                                \
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
    "echo x >s/etc/ssh/ssh_host_rsa_key; " KERNEL(packers)
#define UUID "11111111-2222-3333-4444-555555555555"
#define MBR(size)                                                                                  \
    "truncate -s " size " $D; printf 'label: dos\n2048,,83,*\n' | sfdisk -q $D; "                  \
    "printf '\372\353' | dd of=$D conv=notrunc 2>/dev/null; "
#define PUT(at) "dd if=part of=$D bs=1M seek=" at " conv=notrunc,sparse 2>/dev/null; rm part; "

static const char ext_script[] = SYSTEM("ext4", "pack m; pack i | gzip") MBR("65M") //
    "truncate -s 64M part; mkfs.ext4 -qF -U " UUID " -d s part; " PUT("1");
static const char packed_script[] = SYSTEM("ext4", "pack i | bzip2; pack i | lz4 -l") MBR("65M") //
    "truncate -s 64M part; mkfs.ext4 -qF -U " UUID " -d s part; " PUT("1");
static const char xfs_script[] = SYSTEM("xfs", "pack i >c; pack m; zstd -qc c") MBR("401M") //
    "python3 $M --proto $PWD/s >sproto; truncate -s 400M part; "
    "mkfs.xfs -q -m uuid=" UUID " -p sproto part; " PUT("1");
/* With packed files, where the kernel may mount it. */
static const char btrfs_script[] =
    SYSTEM("btrfs", "pack i | xz --check=crc32 --lzma2=preset=0,dict=64KiB; pack i | xz "
                    "--format=lzma --lzma1=preset=0,dict=64KiB") MBR("301M") //
    "truncate -s 300M part; mkfs.btrfs -q -m single -U " UUID " part; mkdir -p m; "
    "if mount -t btrfs -o loop,compress-force=lzo part m 2>/dev/null; then "
    "trap 'umount m' EXIT; btrfs -q subvolume create m/@; cp -a s/etc s/lib m/@; sync; "
    "mount -o remount,compress-force=zlib m; cp -a s/boot m/@; sync; "
    "mount -o remount,compress-force=zstd m; cp -a s/bin m/@; umount m; trap - EXIT; else "
    "mkfs.btrfs -q -f -m single -U " UUID " --rootdir s part; fi; " PUT("1");
static const char uefi_script[] = SYSTEM("ext4", "pack m; pack i | gzip") //
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
    if (argc < 2)
        return 2;
    if (argc > 2)
        count_of_each = strtoul(argv[2], NULL, 10);
    if (argc > 3)
        first_number = strtoul(argv[3], NULL, 10);
    if (argc > 4)
        keep_in = argv[4];
    if (argc > 5)
        only_kind = argv[5];
    watch_memory(keep);
    (void) signal(SIGPROF, too_long);
    test_disk("ext4", argv[1], ext_script, "debian", true);
    test_disk("xfs", argv[1], xfs_script, "debian", true);
    test_disk("btrfs", argv[1], btrfs_script, "debian", true);
    test_disk("efi", argv[1], uefi_script, "debian", true);
    count_of_each /= 20; /* megabytes of tables, which takes the sanitizers long */
    test_disk("packed", argv[1], packed_script, "debian", true);
    count_of_each *= 20;
    test_disk("ufs", argv[1], freebsd_script, "freebsd", false);
    if (access("/dev/fuse", R_OK | W_OK) == 0)
        test_disk("ntfs", argv[1], windows_script, "windows", false);
    else
        test_note("ntfs-3g cannot mount here: Windows is left out");
    return test_end();
}
