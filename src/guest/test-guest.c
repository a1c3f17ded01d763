/* SPDX-License-Identifier: Apache-2.0 */
/* The gate: sound images of each format come out byte for byte, spoiled ones are refused, each with
 * a sentence of its own. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "guest/image.h"
#include "harness/test.h"

#define SECRET "the secret of the host"

static uint64_t size_of(int fd) {
    struct stat st;

    return fstat(fd, &st) < 0 ? 0 : (uint64_t) st.st_size;
}

static int open_in_folder(const char *name) {
    IM_AUTO(free_auto) char *path = im_printf("%s/%s", test_folder(), name);

    return open(path, O_RDONLY | O_CLOEXEC);
}

/* --- Sound images ----------------------------------------------------------------------------- */

/* Reads through the map, in uneven pieces, and compares with the raw disk. */
static bool same_content(struct guest_image *image, const char *disk, size_t len) {
    IM_AUTO(free_auto) char *bytes = im_alloc(len);
    struct im_err err = {0};
    size_t step = 70001;

    for (size_t at = 0; at < len; at += step)
        if (!guest_image_read(image, at, bytes + at, len - at < step ? len - at : step, &err)) {
            test_note("%s", err.text);
            return false;
        }
    return memcmp(bytes, disk, len) == 0;
}

/* Extents follow one another, none is empty, and all of the disk is in them. */
static bool sound_map(struct guest_image *image, uint64_t *ret_zero) {
    uint64_t at = 0, size = guest_image_size(image);
    struct guest_extent extent;
    struct im_err err = {0};

    *ret_zero = 0;
    while (at < size) {
        if (!guest_image_map(image, at, &extent, &err) || extent.offset != at || extent.len == 0 ||
            extent.len > size - at)
            return false;
        if (extent.kind == GUEST_ZERO)
            *ret_zero += extent.len;
        at += extent.len;
    }
    return true;
}

static void test_sound(const char *name, const char *declared, enum guest_format format,
                       const char *disk, size_t len) {
    IM_AUTO(fd_auto) int fd = open_in_folder(name);
    IM_AUTO(guest_image_free_auto) struct guest_image *image = NULL;
    struct guest_report report = {0};
    uint64_t zero;

    check_ok(guest_image_open(fd, size_of(fd), declared, NULL, &image, &err), "%s is let through",
             name);
    if (!image)
        return;
    check(guest_image_format(image) == format, "%s is %s", name, guest_format_name(format));
    check(guest_image_size(image) == len, "%s has its size (%llu)", name,
          (unsigned long long) guest_image_size(image));
    check(same_content(image, disk, len), "%s has its content", name);
    check(sound_map(image, &zero), "%s has a sound map", name);
    if (format == GUEST_QCOW2 ||
        format == GUEST_VMDK) /* the others have blocks of 1 MiB and more */
        check(zero > 0, "%s: zeros need not be read", name);
    check_ok(guest_probe(fd, size_of(fd), declared, false, NULL, &report, &err), "%s starts", name);
    check(report.format == format && report.size_bytes == len &&
              report.disk.table == GUEST_TABLE_NONE && !report.disk.uefi,
          "%s: the report says so", name);
}

static void test_all_sound(void) {
    static const struct {
        const char *name, *declared;
        enum guest_format format;
    } rows[] = {{"sound.raw", "raw", GUEST_RAW},       {"sound.qcow2", NULL, GUEST_QCOW2},
                {"sound.vmdk", "vmdk", GUEST_VMDK},    {"sound.stream.vmdk", "", GUEST_VMDK},
                {"sound.vdi", "vdi", GUEST_VDI},       {"sound.vhd", "vpc", GUEST_VHD},
                {"sound.fixed.vhd", "vhd", GUEST_VHD}, {"sound.fixed.vhd", "", GUEST_VHD},
                {"sound.vhdx", "vhdx", GUEST_VHDX}};
    IM_AUTO(free_auto) char *path = im_printf("%s/sound.raw", test_folder());
    IM_AUTO(free_auto) char *disk = NULL;
    struct im_err failed = {0};
    size_t len;

    if (!check(im_read_file(path, 16u << 20, &disk, &len, &failed), "the disk is there"))
        return;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        test_sound(rows[i].name, rows[i].declared, rows[i].format, disk, len);
}

/* --- Spoiled images --------------------------------------------------------------------------- */

static struct im_strings sentences;

static void test_refusal(const char *name, const char *declared, const char *word) {
    IM_AUTO(fd_auto) int fd = open_in_folder(name);
    struct guest_limits limits = {.max_bytes = 1ull << 40};
    struct guest_report report;
    struct im_err why = {0};
    bool passed = guest_probe(fd, size_of(fd), declared[0] == '-' ? NULL : declared, false, &limits,
                              &report, &why);

    check(!passed && (why.code == IM_BAD_IMAGE || why.code == IM_QUOTA), "%s is refused: %s (%s)",
          name, why.text, im_code_name(why.code));
    check(strstr(why.text, word) != NULL, "%s: because of \"%s\"", name, word);
    check(!strstr(why.text, SECRET), "%s: the sentence holds no secret", name);
    for (size_t i = 0; i < sentences.count; i++)
        if (strcmp(sentences.items[i], why.text) == 0)
            check(false, "%s: its sentence is its own: %s", name, why.text);
    im_strings_add(&sentences, why.text);
}

static void test_all_hostile(void) {
    IM_AUTO(free_auto) char *path = im_printf("%s/index", test_folder());
    IM_AUTO(free_auto) char *text = NULL;
    struct im_err failed = {0};
    char *rest, *line;
    size_t len;

    if (!check(im_read_file(path, 1u << 20, &text, &len, &failed), "the index is there"))
        return;
    rest = text;
    while ((line = strsep(&rest, "\n")) && line[0]) {
        char *name = strsep(&line, "\t"), *declared = strsep(&line, "\t");

        test_refusal(name, declared, line);
    }
    check(sentences.count > 90, "%zu images were refused, each in its own words", sentences.count);
    im_strings_done(&sentences);
}

/* --- Disks ------------------------------------------------------------------------------------ */

/* sfdisk makes the tables. */
static bool make_disk(const char *script, uint8_t head[GUEST_DISK_HEAD]) {
    IM_AUTO(free_auto) char *path = im_printf("%s/disk", test_folder());
    IM_AUTO(fd_auto) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    const char *argv[] = {"sfdisk", "-q", path, NULL};
    struct im_err why = {0};

    if (ftruncate(fd, 64 << 20) == 0 && im_run(argv, script, 20000, NULL, &why) &&
        im_pread_all(fd, head, GUEST_DISK_HEAD, 0, "disk", &why))
        return true;
    test_note("%s", why.text);
    return false;
}

static void test_disks(void) {
    static const struct {
        const char *name, *script;
        bool code;
        enum guest_table table;
        unsigned partitions;
        bool uefi;
    } rows[] = {
        {"MBR", "label: dos\n,,L,*\n", true, GUEST_TABLE_MBR, 1, false},
        {"MBR without code", "label: dos\n,,L,*\n", false, GUEST_TABLE_MBR, 1, false},
        {"MBR with an EFI partition", "label: dos\n,20M,U\n,,L\n", false, GUEST_TABLE_MBR, 2, true},
        {"MBR with an EFI partition and code", "label: dos\n,20M,U\n,,L\n", true, GUEST_TABLE_MBR,
         2, false},
        {"GPT with EFI and BIOS partitions",
         "label: gpt\n,1M,21686148-6449-6E6F-744E-656564454649\n,20M,U\n,,L\n", true,
         GUEST_TABLE_GPT, 3, false},
        {"GPT with an EFI partition", "label: gpt\n,20M,U\n,,L\n", false, GUEST_TABLE_GPT, 2, true},
        {"GPT without either", "label: gpt\n,,L\n", true, GUEST_TABLE_GPT, 1, false},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint8_t head[GUEST_DISK_HEAD];
        struct guest_disk disk = {0};

        if (!make_disk(rows[i].script, head)) {
            test_note("sfdisk is missing: disks are not tried");
            return;
        }
        if (rows[i].code)
            head[0] = 0xeb;
        check_ok(guest_disk_check(head, sizeof(head), 64 << 20, false, &disk, &err), "%s starts",
                 rows[i].name);
        check(disk.table == rows[i].table && disk.partitions == rows[i].partitions,
              "%s: %u partitions", rows[i].name, disk.partitions);
        check(disk.uefi == rows[i].uefi, "%s: for %s", rows[i].name,
              rows[i].uefi ? "UEFI" : "BIOS");
        check_err(guest_disk_check(head, sizeof(head), 8 << 20, false, &disk, &err), IM_BAD_IMAGE,
                  "%s cut short", rows[i].name);
        check_ok(guest_disk_check(head, sizeof(head), 8 << 20, true, &disk, &err),
                 "%s cut short, forced", rows[i].name);
    }
}

static void test_force(void) {
    uint8_t nothing[1024] = {0};
    struct guest_disk disk;

    check_err(guest_disk_check(nothing, sizeof(nothing), 1024, false, &disk, &err), IM_BAD_IMAGE,
              "nothing does not start");
    check_ok(guest_disk_check(nothing, sizeof(nothing), 1024, true, &disk, &err),
             "nothing, forced");
    check(disk.table == GUEST_TABLE_NONE && disk.partitions == 0, "is taken for what it is");
}

static void test_limit(void) {
    IM_AUTO(fd_auto) int fd = open_in_folder("sound.raw");
    struct guest_limits limits = {.max_bytes = 1u << 20};
    struct guest_report report;

    check_err(guest_probe(fd, size_of(fd), NULL, false, &limits, &report, &err), IM_QUOTA,
              "a raw disk above the limit");
    check_err(guest_probe(fd, size_of(fd) + 512, NULL, false, NULL, &report, &err), IM_BAD_IMAGE,
              "a file that became shorter");
}

int main(int argc, char **argv) {
    IM_AUTO(free_auto) char *secret = im_printf("%s/secret", test_folder());
    struct im_err why = {0};
    char page[4096] = SECRET;
    const char *make[] = {"python3", argc > 1 ? argv[1] : "", test_folder(), secret, NULL};

    if (!im_write_file(secret, page, sizeof(page), 0600, &why) ||
        !im_run(make, NULL, 120000, NULL, &why)) {
        test_note("%s", why.text);
        test_skip_all("python3 or qemu-img is missing");
    }
    test_all_sound();
    test_all_hostile();
    test_disks();
    test_force();
    test_limit();
    return test_end();
}
