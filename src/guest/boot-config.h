/* SPDX-License-Identifier: Apache-2.0 */
/* What boot loaders are told to start: menus of entries, whatever language they were written in. */
#ifndef BOOT_CONFIG_H
#define BOOT_CONFIG_H

#include "system.h"

#define INITRDS_MAX 8u
#define ENTRIES_MAX 200u
#define CONFIG_BYTES (256u << 10) /* of one configuration file */
#define PLACES_MAX 64u
#define TEXTS_MAX 64u
#define NOWHERE SIZE_MAX /* a part that is not on this disk, or cannot be told */

/* A file as a boot loader names it: within one file system. */
struct boot_file {
    size_t part;
    char *path; /* owned; NULL = none */
};
struct boot_entry {
    char *title, *id; /* owned; `id` may be "" */
    size_t within;    /* the submenu it is in, NOWHERE for none */
    bool submenu;
    struct boot_file kernel, initrds[INITRDS_MAX];
    size_t initrd_count;
    char *cmdline; /* owned; NULL = none */
    char *lost;    /* owned; the file system that it searches for in vain */
    bool packed;   /* kernel and initramfs in one file that the firmware starts */
};
struct boot_menu {
    const char *loader; /* a literal: "grub" … */
    char config[160];   /* the file, for people */
    size_t part;        /* where it lies */
    struct boot_entry *entries;
    size_t count, capacity;
    char *wanted;         /* owned: the default as the loader takes it; NULL or "" = the first */
    char *lost;           /* owned: what the way to the menu searches for in vain */
    bool serial, graphic; /* what the loader itself shows its menu on, where it says so */
};
void boot_menu_done(struct boot_menu *menu);
/* NULL when there are too many; it moves when the next one comes. */
struct boot_entry *boot_entry_add(struct boot_menu *menu, const char *title, const char *id);
void boot_entry_initrd(struct boot_entry *entry, size_t part, const char *path);

/* One file system as boot loaders see it: not the machine's tree of mounts. */
struct place {
    size_t part;
    struct tree tree;
};
/* A configuration file that was read on the way to the menu, or as a part of it. */
struct boot_config_file {
    const struct place *place;
    char *path; /* owned; within the place */
};
struct boot {
    struct look *look;
    const struct tree *tree; /* of the system; NULL = none was found */
    struct place *places;    /* all of them before anything points to one */
    size_t place_count, place_capacity;
    struct boot_config_file texts[TEXTS_MAX];
    size_t text_count;
    struct boot_menu menu;
};

enum boot_answer { BOOT_MISSING, BOOT_FOUND, BOOT_UNKNOWN /* the file system cannot be read */ };
enum boot_answer boot_find(const struct boot *boot, size_t part, const char *path,
                           struct file *ret_file);
/* Owned, NULL if there is no such file; what was read is remembered. */
char *boot_text(struct boot *boot, size_t part, const char *path);
size_t boot_part_index(const struct boot *boot, const struct guest_part *part);

/* --- boot-grub.c ------------------------------------------------------------------------------ */

/* Evaluates the script as GRUB would, and the ones that it hands over to. */
void boot_grub(struct boot *boot, size_t part, const char *path);

/* --- boot-menus.c ----------------------------------------------------------------------------- */

void boot_extlinux(struct boot *boot, size_t part, const char *path);
void boot_grub_legacy(struct boot *boot, size_t part, const char *path);
/* Entries of the Boot Loader Specification, newest first. `values` expands $name; it may be NULL.
 */
typedef const char *boot_value(void *arg, const char *name);
void boot_entries(struct boot *boot, size_t part, const char *folder, boot_value *value, void *arg);
void boot_systemd(struct boot *boot, size_t part);
/* $name and ${name}; what `value` does not know is nothing. Owned. */
char *boot_expand(const char *text, boot_value *value, void *arg);

/* --- boot-packed.c ---------------------------------------------------------------------------- */

/* A kernel as an EFI program with all that it needs: where its parts lie in the file. */
struct boot_packed {
    uint64_t kernel_at, kernel_len, initrd_at, initrd_len;
    char *cmdline; /* owned; NULL = none */
};
/* False if the file is none. */
bool boot_unpack(const struct file *file, struct boot_packed *ret_packed);
struct boot_kernel {
    bool arm;         /* else of a PC, or not told */
    char version[80]; /* "" = not told */
};
/* False if these bytes of the file are no kernel; `*ret_why` is a sentence's end. */
bool boot_kernel_check(const struct file *file, uint64_t at, uint64_t len,
                       struct boot_kernel *ret_kernel, const char **ret_why);

/* --- boot-judge.c ----------------------------------------------------------------------------- */

/* The entry that is started when nobody chooses; NULL when there is none. */
const struct boot_entry *boot_default(const struct boot *boot);
/* An entry of the menu that loaders would know by this name. */
bool boot_has(const struct boot_menu *menu, const char *name);
/* All that the entry starts is there, as far as can be seen. */
bool boot_entry_whole(const struct boot *boot, const struct boot_entry *entry);
void boot_judge(const struct boot *boot);
/* The kernel waits for this device, and it can only be one of this disk. */
bool boot_must_be_here(const struct look *look, const char *cmdline, const char *device);
/* What is on it is no root file system. */
bool boot_no_root(const struct guest_part *part);
/* It begins as an initramfs does. */
bool boot_initrd_check(const struct file *file);
/* What `name=` is set to on the command line, the last time; false if it is not. */
bool cmdline_value(const char *cmdline, const char *name, char *out, size_t size);

/* --- boot-config.c ---------------------------------------------------------------------------- */

/* `tree` is NULL when there is no system. Fills found->boot. */
void boot_look(struct look *look, const struct tree *tree);
/* The menu as boot_look finds it, without entries where there is none; `tree` outlives it. */
struct boot *boot_open(struct look *look, const struct tree *tree);
void boot_free(struct boot *boot); /* NULL is fine */
IM_DEFINE_AUTO(struct boot *, boot_free)

#endif
