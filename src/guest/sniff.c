/* SPDX-License-Identifier: Apache-2.0 */
/* What a file is, by its magic numbers: our formats, and the many others that get a sentence of
 * their own instead of a guess. */
#include "guest-private.h"

struct magic {
    unsigned offset;
    unsigned len;
    const char *bytes;
};

static const struct {
    const char *name;
    enum guest_format format;
} names[] = {{"raw", GUEST_RAW}, {"qcow2", GUEST_QCOW2}, {"vmdk", GUEST_VMDK}, {"vdi", GUEST_VDI},
             {"vhd", GUEST_VHD}, {"vhdx", GUEST_VHDX},   {"img", GUEST_RAW},   {"vpc", GUEST_VHD}};

static const struct {
    struct magic magic;
    enum guest_format format;
} ours[] = {
    {{0, 8, "QFI\xfb\0\0\0\x02"}, GUEST_QCOW2},
    {{0, 8, "QFI\xfb\0\0\0\x03"}, GUEST_QCOW2},
    {{0, 4, "KDMV"}, GUEST_VMDK},
    {{0x40, 4, "\x7f\x10\xda\xbe"}, GUEST_VDI},
    {{0, 8, "conectix"}, GUEST_VHD},
    {{0, 8, "vhdxfile"}, GUEST_VHDX},
};

static const struct {
    struct magic magic;
    const char *what;
} foreign[] = {
    {{0, 4, "QFI\xfb"}, "a qcow image of another version than 2 or 3; convert it to qcow2"},
    {{0, 4, "QED\0"}, "a QED image, which is not taken; convert it to qcow2"},
    {{0, 4, "COWD"}, "one extent of a VMware ESX sparse disk; export it as streamOptimized"},
    {{0, 21, "# Disk DescriptorFile"},
     "only the descriptor of a VMDK whose data lies in other files; export it as streamOptimized"},
    {{0, 22, "Bochs Virtual HD Image"}, "a Bochs image, which is not taken; convert it to raw"},
    {{0, 18, "#!/bin/sh\n#V2.0 Fo"}, "a cloop image, which is not taken; convert it to raw"},
    {{0, 16, "WithoutFreeSpace"}, "a Parallels image, which is not taken; convert it to raw"},
    {{0, 16, "WithouFreSpacExt"},
     "a Parallels extended image, which is not taken; convert it to raw"},
    {{0, 6, "LUKS\xba\xbe"}, "a LUKS container, which cannot be read without its key"},
    {{257, 5, "ustar"}, "a tar archive (an OVA?); unpack it and import the disk inside"},
    {{0, 4, "PK\3\4"}, "a zip archive; unpack it and import the disk inside"},
    {{0, 6, "7z\xbc\xaf\x27\x1c"}, "a 7z archive; unpack it and import the disk inside"},
    {{0, 6, "Rar!\x1a\x07"}, "a rar archive; unpack it and import the disk inside"},
    {{0, 2, "\x1f\x8b"}, "gzip once more inside the compression; compress it only once"},
    {{0, 6,
      "\xfd"
      "7zXZ\0"},
     "xz once more inside the compression; compress it only once"},
    {{0, 4, "\x28\xb5\x2f\xfd"}, "zstd once more inside the compression; compress it only once"},
    {{0, 3, "BZh"}, "bzip2 once more inside the compression; compress it only once"},
    {{0, 4, "\x04\x22\x4d\x18"}, "lz4, which is not taken; use gz, xz, zst or bz2"},
    {{0, 5, "MSWIM"}, "a Windows installation image (WIM), not a disk"},
    {{0, 4,
      "\x7f"
      "ELF"},
     "a program or kernel, not a disk"},
    {{0, 4, "hsqs"}, "a squashfs file system, not a disk"},
    {{0, 5, "%PDF-"}, "a PDF document, not a disk"},
    {{0, 14, "<!DOCTYPE html"}, "a web page, not a disk; is the address right?"},
    {{0, 14, "<!doctype html"}, "a web page (an error page?), not a disk; is the address right?"},
    {{0, 5, "<html"}, "an HTML page, not a disk; is the address right?"},
    {{0, 5, "<?xml"}, "an XML document, not a disk; is the address right?"},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool matches(const struct magic *magic, const uint8_t *head, size_t len) {
    return magic->offset + magic->len <= len &&
           memcmp(head + magic->offset, magic->bytes, magic->len) == 0;
}

const char *guest_format_name(enum guest_format format) { return names[format].name; }

bool guest_format_find(const char *name, enum guest_format *ret_format) {
    for (size_t i = 0; i < COUNT(names); i++)
        if (strcmp(names[i].name, name) == 0) {
            *ret_format = names[i].format;
            return true;
        }
    return false;
}

/* A container whose beginning also passes for a disk or a CD: whoever looks next may see the
 * other one. */
static bool two_formats(enum guest_format format, const uint8_t *head, size_t len,
                        const uint8_t *tail, struct im_err *err) {
    const char *name = guest_format_name(format);

    if (len >= 0x8006 && memcmp(head + 0x8001, "CD001", 5) == 0)
        return im_fail(err, IM_BAD_IMAGE, "it is %s and a CD image at once", name);
    if (format != GUEST_VHDX && len >= 512 && head[510] == 0x55 && head[511] == 0xaa)
        return im_fail(err, IM_BAD_IMAGE, "it is %s and a boot sector at once", name);
    if (format != GUEST_VHD && tail && memcmp(tail, "conectix", 8) == 0)
        return im_fail(err, IM_BAD_IMAGE, "it is %s and ends as a VHD", name);
    for (size_t i = 0; i < COUNT(ours); i++)
        if (ours[i].format != format && matches(&ours[i].magic, head, len))
            return im_fail(err, IM_BAD_IMAGE, "it is %s and %s at once", name,
                           guest_format_name(ours[i].format));
    return true;
}

static bool refuse_foreign(const uint8_t *head, size_t len, const uint8_t *tail,
                           struct im_err *err) {
    for (size_t i = 0; i < COUNT(foreign); i++)
        if (matches(&foreign[i].magic, head, len))
            return im_fail(err, IM_BAD_IMAGE, "it is %s", foreign[i].what);
    if (tail && memcmp(tail, "koly", 4) == 0)
        return im_fail(err, IM_BAD_IMAGE, "it is an Apple disk image (dmg), which is not taken");
    return true;
}

static enum guest_format detect(const uint8_t *head, size_t len, const uint8_t *tail) {
    for (size_t i = 0; i < COUNT(ours); i++)
        if (matches(&ours[i].magic, head, len))
            return ours[i].format;
    if (tail && memcmp(tail, "conectix", 8) == 0)
        return GUEST_VHD; /* a fixed one is raw bytes and this footer */
    return GUEST_RAW;
}

bool guest_image_sniff(const uint8_t *head, size_t head_len, const uint8_t *tail,
                       const char *declared, enum guest_format *ret_format, struct im_err *err) {
    bool any = declared && declared[0];
    enum guest_format wanted = GUEST_RAW, found;

    if (any && !guest_format_find(declared, &wanted))
        return im_fail(err, IM_BAD_IMAGE,
                       "format %.32s is not taken: raw, qcow2, vmdk, vdi, vhd and vhdx are",
                       declared);
    if (head_len == 0)
        return im_fail(err, IM_BAD_IMAGE, "it is empty");
    found = detect(head, head_len, tail);
    /* Without the tail a fixed VHD cannot be told from raw: who declared it is believed. */
    if (any && wanted == GUEST_VHD && found == GUEST_RAW && !tail)
        found = GUEST_VHD;
    if (found == GUEST_RAW && !refuse_foreign(head, head_len, tail, err))
        return false;
    if (any && wanted != found)
        return im_fail(err, IM_BAD_IMAGE, "it was declared as %s, but it is %s",
                       guest_format_name(wanted), guest_format_name(found));
    if (found != GUEST_RAW && memcmp(head, "conectix", 8) != 0 && found == GUEST_VHD)
        ; /* fixed VHD: its content begins as a raw disk, boot sector and all */
    else if (found != GUEST_RAW && !two_formats(found, head, head_len, tail, err))
        return false;
    *ret_format = found;
    return true;
}
