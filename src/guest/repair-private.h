/* SPDX-License-Identifier: Apache-2.0 */
/* What repairs are made with. Each looks at the disk again rather than at the finding's text, plans
 * what it changes, and says so in a sentence. */
#ifndef REPAIR_PRIVATE_H
#define REPAIR_PRIVATE_H

#include "guest/repair.h"
#include "system.h"

/* A text file as the repairs so far leave it. */
struct draft {
    char *path, *before, *text; /* before NULL: there was none */
    char *label;                /* NULL: as its folder */
    uint32_t mode, uid, gid;
    bool secret; /* hashes of passwords are not shown */
};

struct planning {
    struct look *look;
    struct guest_plan *plan;
    const struct tree *tree; /* `mounts`, or NULL: no system was found */
    struct tree mounts;      /* what has to be mounted: the system's, and perhaps more */
    size_t own_mounts;       /* the system's, which come first */
    struct boot *boot;       /* repair-boot.h; NULL: not asked for yet */
    char *menu_told;         /* what was done about kernel and initramfs; NULL: nothing yet */
    bool drivers_added;      /* to the initramfs */
    bool table_written, lvm_written; /* both halves of the GPT; a physical volume's size */
    const struct volume *grown; /* the root's file system, which takes all of its place; NULL */
    struct guest_piece more;    /* that place gets this behind it; size 0 = it does not */
    struct draft *drafts;
    size_t draft_count, draft_capacity;
    const char *code; /* of the finding at hand */
    const char *hash; /* of the new password; NULL = none */
};

/* The file as it stands; NULL when it is no text, too long, or not there. Borrowed until the next
 * draft_*. */
const char *draft_text(struct planning *planning, const char *path);
/* The file shall read so; one that is not there is made with this mode. `text` is taken. */
void draft_set(struct planning *planning, const char *path, char *text, uint32_t mode);
/* Of one that was set: hashes in it are not shown. */
void draft_hide(struct planning *planning, const char *path);
/* Of one that was set: a new file is this user's; `label` may be NULL. */
void draft_own(struct planning *planning, const char *path, uint32_t uid, uint32_t gid,
               const char *label);

/* A file, and names in a folder, as they will be then: as tree_text and tree_names have them. */
char *plan_text(struct planning *planning, const char *path);
void plan_names(struct planning *planning, const char *folder, const char *begin, const char *end,
                struct im_strings *names);

void plan_remove(struct planning *planning, const char *path, bool recursive);
void plan_empty(struct planning *planning, const char *path, bool recursive);
void plan_copy(struct planning *planning, const char *from, const char *path);
/* `data` is taken; `what`: in words. */
void plan_append(struct planning *planning, const char *path, void *data, size_t len,
                 const char *what);
void plan_folder(struct planning *planning, const char *path, uint32_t mode, uint32_t uid,
                 uint32_t gid, const char *label);
void plan_trim(struct planning *planning, const char *path);
void plan_grow(struct planning *planning, const char *path);
/* `what`: in words. */
void plan_raw(struct planning *planning, uint64_t offset, const void *data, size_t len,
              const char *what);
/* For the finding at hand. */
void plan_done(struct planning *planning, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void plan_cannot(struct planning *planning, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Those of each file; see the table in repair.c. */
typedef void repair_function(struct planning *planning);
repair_function repair_fstab_names, repair_fstab_unknown, repair_fstab_root;
repair_function repair_fstab_type, repair_fstab_subvolume, repair_fstab_twice;
repair_function repair_machine_id, repair_ssh_keys, repair_net_rules;
repair_function repair_gpt_backup, repair_gpt_primary, repair_active;
repair_function repair_partition_room, repair_lvm_room, repair_filesystem_room;
repair_function repair_journal;
repair_function repair_boot_files, repair_boot_search, repair_boot_root, repair_boot_root_name;
repair_function repair_boot_default, repair_boot_subvolume;
repair_function repair_boot_entry, repair_boot_volume, repair_boot_resume, repair_boot_console,
    repair_boot_terminal;
repair_function repair_esp_fallback, repair_drivers;
repair_function repair_network_mac, repair_network_address, repair_network_name,
    repair_network_none, repair_network_driver;

/* --- repair-table.c --------------------------------------------------------------------------- */

/* The partition gets this size; false where the table cannot be written, which may have been told.
 */
bool table_grow(struct planning *planning, const struct guest_part *part, uint64_t len);

/* --- repair-lvm.c ----------------------------------------------------------------------------- */

/* The physical volume on the part takes `part_len` bytes of it, and the logical volume that is
 * `volume` the extents that are new. `*ret_more` is its new piece; size 0 = it stays as it is, and
 * `*ret_why` says why. False: nothing is changed, and `*ret_why` says why. */
bool lvm_grow(struct planning *planning, size_t part, uint64_t part_len,
              const struct guest_part *volume, struct guest_piece *ret_more, const char **ret_why);

/* --- repair-identity.c ------------------------------------------------------------------------ */

/* Items of guest_seal_items, by index. */
void seal_item(struct planning *planning, size_t item);

/* --- repair-trim.c ---------------------------------------------------------------------------- */

void trim_plan(struct planning *planning);

/* --- repair-login.c, repair-keys.c ------------------------------------------------------------ */

struct account {
    const char *user;
    uint32_t uid, gid;
    char *home, *shell;
};
void login_plan(struct planning *planning, const struct guest_login *login);
bool login_check(const struct guest_login *login, struct im_err *err);
void keys_plan(struct planning *planning, const struct guest_login *login,
               const struct account *account);
/* The text of such a file without the hashes in it; owned. NULL stays NULL. */
char *hashes_hidden(const char *text, const char *fresh);

#endif
