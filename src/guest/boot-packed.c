/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels as files: what they begin with, which version they are of, and whether all of one is
 * there; and EFI programs with kernel, initramfs and command line as their sections. */
#include <stdio.h>

#include "boot-config.h"

#define CMDLINE_MAX 4096u
#define SECTIONS_MAX 32u

static bool read_at(const struct file *file, uint64_t at, void *bytes, size_t len) {
    size_t got = 0;

    return file_read(file, at, bytes, len, &got) && got == len;
}

/* --- Kernels ---------------------------------------------------------------------------------- */

enum {
    PC_MAGIC = 0x202,
    PC_PROTOCOL = 0x206,
    PC_VERSION = 0x20e,
    PC_SECTORS = 0x1f1,
    PC_SIZE = 0x1f4
};

static void take_version(const struct file *file, uint64_t at, const uint8_t *head,
                         struct boot_kernel *kernel) {
    char text[128] = "";
    size_t got = 0;

    if (le16(head + PC_VERSION) == 0 ||
        !file_read(file, at + le16(head + PC_VERSION) + 0x200, text, sizeof(text) - 1, &got))
        return;
    text[strcspn(text, " ")] = '\0';
    if (strchr(text, '/') == NULL && text[0] >= '0' && text[0] <= '9')
        text_take(kernel->version, sizeof(kernel->version), text, strlen(text));
}

/* Signatures may follow behind it; a few bytes of padding may lack. */
static bool pc_whole(const uint8_t *head, uint64_t len) {
    uint64_t sectors = head[PC_SECTORS] != 0 ? head[PC_SECTORS] : 4;
    uint64_t wants = (sectors + 1) * SECTOR;

    if (le16(head + PC_PROTOCOL) >= 0x204)
        wants += (uint64_t) le32(head + PC_SIZE) * 16;
    return len + 4096 >= wants;
}

bool boot_kernel_check(const struct file *file, uint64_t at, uint64_t len,
                       struct boot_kernel *ret_kernel, const char **ret_why) {
    uint8_t head[1024] = {0};
    size_t got = 0;

    *ret_kernel = (struct boot_kernel){.arm = false};
    *ret_why = "is empty";
    if (len == 0)
        return false;
    *ret_why = "cannot be read";
    if (!file_read(file, at, head, sizeof(head), &got))
        return false;
    *ret_why = "is no Linux kernel";
    if (memcmp(head + PC_MAGIC, "HdrS", 4) == 0) {
        take_version(file, at, head, ret_kernel);
        *ret_why = "was cut short";
        return pc_whole(head, len);
    }
    ret_kernel->arm = memcmp(head + 56, "ARM\x64", 4) == 0 || memcmp(head, "\x1f\x8b", 2) == 0 ||
                      memcmp(head + 4, "zimg", 4) == 0;
    return ret_kernel->arm || memcmp(head + 56, "RSC\x05", 4) == 0 ||
           memcmp(head, "\177ELF", 4) == 0;
}

/* --- EFI programs ----------------------------------------------------------------------------- */

static char *take_text(const struct file *file, uint64_t at, uint64_t len) {
    char *text = im_alloc(CMDLINE_MAX + 1);
    size_t got = 0;

    if (!file_read(file, at, text, len < CMDLINE_MAX ? (size_t) len : CMDLINE_MAX, &got))
        text[0] = '\0';
    for (size_t i = strlen(text); i > 0 && strchr(" \n", text[i - 1]) != NULL; i--)
        text[i - 1] = '\0';
    return text;
}

static void take_section(const struct file *file, const uint8_t *section,
                         struct boot_packed *packed) {
    uint64_t len = le32(section + 8), at = le32(section + 20);

    if (len > le32(section + 16))
        len = le32(section + 16);
    if (at > file->facts.size || len > file->facts.size - at)
        return;
    if (memcmp(section, ".linux\0", 8) == 0) {
        packed->kernel_at = at;
        packed->kernel_len = len;
    } else if (memcmp(section, ".initrd", 8) == 0) {
        packed->initrd_at = at;
        packed->initrd_len = len;
    } else if (memcmp(section, ".cmdline", 8) == 0 && packed->cmdline == NULL) {
        packed->cmdline = take_text(file, at, len);
    }
}

bool boot_unpack(const struct file *file, struct boot_packed *ret_packed) {
    uint8_t dos[64], header[24], section[40];
    struct boot_packed packed = {0};
    uint64_t at;

    if (!read_at(file, 0, dos, sizeof(dos)) || memcmp(dos, "MZ", 2) != 0)
        return false;
    at = le32(dos + 60);
    if (!read_at(file, at, header, sizeof(header)) || memcmp(header, "PE\0\0", 4) != 0)
        return false;
    at += sizeof(header) + le16(header + 20);
    for (unsigned i = 0; i < le16(header + 6) && i < SECTIONS_MAX; i++, at += sizeof(section))
        if (read_at(file, at, section, sizeof(section)))
            take_section(file, section, &packed);
    if (packed.kernel_len == 0) {
        free(packed.cmdline);
        return false;
    }
    *ret_packed = packed;
    return true;
}
