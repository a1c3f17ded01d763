/* SPDX-License-Identifier: Apache-2.0 */
/* Words of the kernel's command line put right, in the menu and in what later menus are made of. */
#include <stdio.h>

#include "repair-boot.h"

#define SERIAL "console=ttyS0,115200"

/* --- Words that lines lack -------------------------------------------------------------------- */

static bool says(const struct config_line *line, const char *words) {
    return memmem(line->words, line->words_len, words, strlen(words)) != NULL;
}

static bool has_key(const struct config_line *line, const char *key) {
    return strncasecmp(line->text + strspn(line->text, " \t"), key, strlen(key)) == 0;
}

/* Behind the last word, and before what may follow a command line, as a quote. */
static void add_words(const struct config_line *line, const char *words, struct im_str *out) {
    const char *behind = line->words + line->words_len;

    while (behind > line->words && (behind[-1] == ' ' || behind[-1] == '\t' || behind[-1] == '\r'))
        behind--;
    im_str_add_bytes(out, line->text, (size_t) (behind - line->text));
    if (behind > line->words)
        im_str_add_char(out, ' ');
    im_str_add(out, words);
    im_str_add_bytes(out, behind, (size_t) (line->text + line->len - behind));
}

/* --- root= ------------------------------------------------------------------------------------ */

/* How the kernel shall name the root of the system; "" = it cannot be named. */
struct root_name {
    char text[VOLUME_PATH_BYTES];
    bool by_number; /* those that name it by number are wrong, else those that lead nowhere */
};

/* Without an initramfs the kernel itself has to find it. */
static bool has_initramfs(struct planning *planning) {
    const struct boot_entry *entry = boot_default(planning_boot(planning));

    return entry == NULL || entry->initrd_count > 0 || entry->packed;
}

static void take_root(struct planning *planning, struct root_name *root) {
    const struct guest_part *part =
        planning->tree != NULL ? volume_part(planning->tree->mounts[0].volume) : NULL;

    if (part == NULL)
        return;
    if (strcmp(part->type, "lv") == 0)
        volume_path(part, root->text);
    else if (!has_initramfs(planning) && part->partuuid[0] != '\0')
        snprintf(root->text, sizeof(root->text), "PARTUUID=%s", part->partuuid);
    else if (has_initramfs(planning) && part->uuid[0] != '\0')
        snprintf(root->text, sizeof(root->text), "UUID=%s", part->uuid);
}

static bool is_lost(const struct planning *planning, const char *device) {
    const struct guest_part *part = part_named(planning->look, device);

    if (device_by_number(device))
        return false;
    return part != NULL ? boot_no_root(part) : boot_must_be_here(planning->look, "", device);
}

static enum word_fate edit_root(struct planning *planning, const char *word, struct im_str *as,
                                void *arg) {
    const struct root_name *root = arg;
    const char *device = word + strlen("root=");

    if (!im_starts_with(word, "root=") || strcmp(device, root->text) == 0 ||
        !(root->by_number ? device_by_number(device) : is_lost(planning, device)))
        return WORD_KEEP;
    im_str_addf(as, "root=%s", root->text);
    return WORD_AS;
}

/* Entries of Linux that say nothing of a root: others (a memory test) take no such words. */
static bool edit_rootless(struct planning *planning, const struct config_line *line,
                          struct im_str *out, void *arg) {
    const struct root_name *root = arg;
    IM_AUTO(free_auto) char *word = im_printf("root=%s", root->text);

    (void) planning;
    if (line->kind != CONFIG_ENTRY || says(line, "root=") || says(line, "$kernelopts") ||
        !(has_key(line, "options") || has_key(line, "append") ||
          memmem(line->text, line->len, "vmlinuz", strlen("vmlinuz")) != NULL))
        return false;
    add_words(line, word, out);
    return true;
}

static bool rootless(struct planning *planning) {
    const struct boot_entry *entry = boot_default(planning_boot(planning));
    char value[256];

    return entry != NULL && entry->cmdline != NULL &&
           !cmdline_value(entry->cmdline, "root", value, sizeof(value));
}

static void name_root(struct planning *planning, bool by_number) {
    struct root_name root = {.by_number = by_number};
    IM_AUTO(free_auto) char *paths = NULL;

    take_root(planning, &root);
    if (root.text[0] == '\0') {
        plan_cannot(planning, "there is no root file system that the kernel could be told to use");
        return;
    }
    paths = rootless(planning) ? config_rewrite(planning, edit_rootless, &root)
                               : words_rewrite(planning, edit_root, &root);
    if (paths[0] != '\0')
        plan_done(planning, "the kernel is told root=%s in %s", root.text, paths);
    else
        plan_cannot(planning,
                    "root= is nowhere that it could be changed: it may be in the kernel's "
                    "own file, or set by a script");
}

void repair_boot_root(struct planning *planning) { name_root(planning, false); }

void repair_boot_root_name(struct planning *planning) { name_root(planning, true); }

static bool root_was_named(const struct planning *planning) {
    for (size_t i = 0; i < planning->plan->repair_count; i++)
        if (planning->plan->repairs[i].done &&
            (im_starts_with(planning->plan->repairs[i].code, finding_code(GUEST_FOUND_BOOT_ROOT)) ||
             strcmp(planning->plan->repairs[i].code, finding_code(GUEST_FOUND_BOOT_SUBVOLUME)) ==
                 0))
            return true;
    return false;
}

static bool others_whole(struct planning *planning) {
    const struct boot *boot = planning_boot(planning);
    const struct boot_entry *first = boot_default(boot);

    for (size_t i = 0; i < boot->menu.count; i++)
        if (&boot->menu.entries[i] != first && !boot_entry_whole(boot, &boot->menu.entries[i]))
            return false;
    return true;
}

/* Entries beside the default: a menu with kernels that are gone is for its own tool to make. */
void repair_boot_entry(struct planning *planning) {
    struct root_name root = {.by_number = false};
    IM_AUTO(free_auto) char *lost = NULL;
    IM_AUTO(free_auto) char *numbered = NULL;

    take_root(planning, &root);
    if (root.text[0] != '\0') {
        lost = words_rewrite(planning, edit_root, &root);
        root.by_number = true;
        numbered = words_rewrite(planning, edit_root, &root);
    }
    if (others_whole(planning) &&
        (!im_str_empty(lost) || !im_str_empty(numbered) || root_was_named(planning)))
        plan_done(planning, "all entries tell the kernel root=%s", root.text);
    else
        plan_cannot(planning, "entries of kernels that are gone go when the menu is made anew");
}

/* --- rootflags= ------------------------------------------------------------------------------- */

/* Options that choose the root on its file system; "" where it is the one that none choose. As
 * /etc/fstab says it, if it means the same. */
static void root_choice(const struct planning *planning, char out[128]) {
    const struct mount *root = &planning->tree->mounts[0];
    IM_AUTO(fstab_free_auto) struct fstab *fstab = fstab_read(planning->tree);
    struct node chosen;

    snprintf(out, 128, "%s", root->options);
    for (size_t i = 0; i < fstab->count && im_starts_with(root->options, "subvolid="); i++) {
        const char *path = strstr(fstab->lines[i].options, "subvol=");
        IM_AUTO(free_auto)
        char *only = path != NULL ? im_strndup(path, strcspn(path, ",")) : im_strdup("");

        if (strcmp(fstab->lines[i].path, "/") == 0 && path != NULL && strlen(only) < 128 &&
            root->volume->ops->choose(root->volume->state, only, &chosen) &&
            node_same(chosen, root->root))
            snprintf(out, 128, "%s", only);
    }
}

/* The other options stay. */
static enum word_fate edit_rootflags(struct planning *planning, const char *word, struct im_str *as,
                                     void *arg) {
    const struct volume *volume = planning->tree->mounts[0].volume;
    const char *flags = word + strlen("rootflags="), *choice = arg;
    IM_AUTO(im_strings_done) struct im_strings options = {0};
    struct node chosen;

    if (!im_starts_with(word, "rootflags=") || volume->ops->choose(volume->state, flags, &chosen))
        return WORD_KEEP;
    im_strings_split(&options, flags, ",");
    im_str_add(as, "rootflags=");
    for (size_t i = 0; i < options.count; i++)
        if (!im_starts_with(options.items[i], "subvol"))
            im_str_addf(as, "%s,", options.items[i]);
    im_str_add(as, choice);
    if (im_ends_with(as->data, ","))
        as->data[--as->len] = '\0';
    return im_ends_with(as->data, "=") ? WORD_OUT : WORD_AS;
}

void repair_boot_subvolume(struct planning *planning) {
    IM_AUTO(free_auto) char *paths = NULL;
    char choice[128];

    if (planning->tree == NULL || planning->tree->mounts[0].volume->ops->choose == NULL) {
        plan_cannot(planning, "there is no root file system with subvolumes that could be chosen");
        return;
    }
    root_choice(planning, choice);
    paths = words_rewrite(planning, edit_rootflags, choice);
    if (paths[0] == '\0')
        plan_cannot(planning, "rootflags= is nowhere that it could be changed");
    else if (choice[0] != '\0')
        plan_done(planning, "the kernel is told rootflags=%s in %s", choice, paths);
    else
        plan_done(planning, "the kernel takes the file system's default subvolume, by %s", paths);
}

/* --- rd.lvm.lv=, resume= ---------------------------------------------------------------------- */

static bool has_volume(const struct look *look, const char *name) {
    for (size_t i = 0; i < look->found->part_count; i++)
        if (strcmp(look->found->parts[i].type, "lv") == 0 &&
            strcmp(look->found->parts[i].name, name) == 0)
            return true;
    return false;
}

/* The root's volume takes the place of one that is not there, unless it is named anyway. */
static enum word_fate edit_volume(struct planning *planning, const char *word, struct im_str *as,
                                  void *arg) {
    const struct guest_part *root =
        planning->tree != NULL ? volume_part(planning->tree->mounts[0].volume) : NULL;
    const char *cmdline = arg;
    IM_AUTO(free_auto) char *own = NULL;

    if (!im_starts_with(word, "rd.lvm.lv=") ||
        has_volume(planning->look, word + strlen("rd.lvm.lv=")))
        return WORD_KEEP;
    own = im_printf("rd.lvm.lv=%s", root != NULL ? root->name : "");
    if (root == NULL || strcmp(root->type, "lv") != 0 || strstr(cmdline, own) != NULL)
        return WORD_OUT;
    im_str_add(as, own);
    return WORD_AS;
}

static enum word_fate edit_resume(struct planning *planning, const char *word, struct im_str *as,
                                  void *arg) {
    const char *device = word + strlen("resume=");

    (void) as, (void) arg;
    return (im_starts_with(word, "resume=") && part_named(planning->look, device) == NULL &&
            boot_must_be_here(planning->look, "", device))
               ? WORD_OUT
               : WORD_KEEP;
}

static void tell(struct planning *planning, const char *paths, const char *what) {
    if (paths[0] != '\0')
        plan_done(planning, "%s in %s", what, paths);
    else
        plan_cannot(planning, "the kernel's command line is nowhere that it could be changed");
}

void repair_boot_volume(struct planning *planning) {
    const struct boot_entry *entry = boot_default(planning_boot(planning));
    const char *cmdline = entry != NULL && entry->cmdline != NULL ? entry->cmdline : "";
    IM_AUTO(free_auto) char *paths = words_rewrite(planning, edit_volume, (void *) cmdline);

    tell(planning, paths, "the kernel no longer waits for a logical volume that is not there,");
}

void repair_boot_resume(struct planning *planning) {
    IM_AUTO(free_auto) char *paths = words_rewrite(planning, edit_resume, NULL);

    tell(planning, paths, "the kernel no longer waits for a device to resume from,");
}

/* --- console= --------------------------------------------------------------------------------- */

/* Entries of Linux: others (a memory test) take no such words. What BLS has in kernelopts is put
 * into each entry instead. */
static bool wants_console(const struct config_line *line) {
    bool bls = memmem(line->text, line->len, "kernelopts=", strlen("kernelopts=")) != NULL;
    bool entry =
        (line->kind == CONFIG_ENTRY && (says(line, "root=") || says(line, "$kernelopts"))) ||
        (line->kind == CONFIG_SHARED && says(line, "root=") && !bls);

    entry |= line->kind == CONFIG_ENTRY && (has_key(line, "options") || has_key(line, "append"));
    return (entry || (line->kind == CONFIG_FUTURE &&
                      memmem(line->text, line->len, "_DEFAULT=", strlen("_DEFAULT=")) == NULL)) &&
           !says(line, "console=ttyS0") && !says(line, "console=hvc0");
}

/* The last one is where the system's own messages go: the serial port, which people can read who
 * cannot see the screen. */
static bool edit_console(struct planning *planning, const struct config_line *line,
                         struct im_str *out, void *arg) {
    (void) planning, (void) arg;
    if (!wants_console(line))
        return false;
    add_words(line, says(line, "console=tty0") ? SERIAL : "console=tty0 " SERIAL, out);
    return true;
}

void repair_boot_console(struct planning *planning) {
    IM_AUTO(free_auto) char *paths = config_rewrite(planning, edit_console, NULL);

    tell(planning, paths, "the kernel is told to use the first serial port as well,");
}
