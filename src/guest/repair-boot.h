/* SPDX-License-Identifier: Apache-2.0 */
/* Changes in what boot loaders are told: every file that a menu was read from, line by line. */
#ifndef REPAIR_BOOT_H
#define REPAIR_BOOT_H

#include "boot-config.h"
#include "repair-private.h"

/* The menu of the disk, never NULL. */
const struct boot *planning_boot(struct planning *planning);
/* Where a machine of this disk finds a file of this file system; what is not mounted there is
 * mounted for the repair. NULL when that cannot be. Owned. */
char *machine_path(struct planning *planning, const struct volume *volume, struct node root,
                   const char *path);
/* The same for a file as a boot loader names it. */
char *machine_path_of(struct planning *planning, const struct boot_file *file);

/* One line of such a file. `words`: where in it a kernel's command line stands. */
enum config_kind {
    CONFIG_OTHER,  /* without a command line */
    CONFIG_ENTRY,  /* of one entry: GRUB's linux, extlinux' append, options of BLS */
    CONFIG_SHARED, /* a variable that entries use, as kernelopts */
    CONFIG_FUTURE, /* of menus that are made later: GRUB_CMDLINE_LINUX= */
};
struct config_line {
    const char *text;
    size_t len; /* without the newline */
    enum config_kind kind;
    const char *words;
    size_t words_len;
};
/* Puts the line as it shall be into `out`; false: it stays. */
typedef bool config_edit(struct planning *planning, const struct config_line *line,
                         struct im_str *out, void *arg);
/* Runs it over all lines of all files of the menu, and of those that later menus are made from.
 * The paths of changed files as people know them, with commas between; "" = none. Owned. */
char *config_rewrite(struct planning *planning, config_edit *edit, void *arg);

/* One word of a command line, quotes included: what becomes of it. */
enum word_fate { WORD_KEEP, WORD_OUT, WORD_AS };
typedef enum word_fate word_edit(struct planning *planning, const char *word, struct im_str *as,
                                 void *arg);
/* The same for each word of each command line. */
char *words_rewrite(struct planning *planning, word_edit *edit, void *arg);

#endif
