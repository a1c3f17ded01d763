/* SPDX-License-Identifier: Apache-2.0 */
/* Files and file systems that a menu names put right, and where it is shown. */
#include <ctype.h>
#include <stdio.h>

#include "repair-boot.h"

/* --- Kernels that are there ------------------------------------------------------------------- */

struct kernels {
    struct im_strings names;
};

static bool see_kernel(void *arg, const char *name, size_t len) {
    static const char *const begins[] = {"vmlinuz", "vmlinux", "bzImage", "linux-", "kernel-"};
    struct kernels *kernels = arg;
    IM_AUTO(free_auto) char *copy = im_strndup(name, len);

    for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
        if (strlen(copy) == len && im_starts_with(copy, begins[i]))
            im_strings_add(&kernels->names, copy);
    return kernels->names.count < 64;
}

/* The newest that is no rescue system comes first. */
static int newest_first(const void *a, const void *b) {
    const char *one = *(char *const *) a, *two = *(char *const *) b;
    bool one_rescue = strstr(one, "rescue") != NULL, two_rescue = strstr(two, "rescue") != NULL;

    return one_rescue != two_rescue ? one_rescue - two_rescue : strverscmp(two, one);
}

static bool sound_file(const struct boot *boot, size_t part, const char *path, bool kernel) {
    struct boot_kernel facts;
    struct file file;
    const char *why;

    return boot_find(boot, part, path, &file) == BOOT_FOUND && file.facts.kind == NODE_FILE &&
           (kernel ? boot_kernel_check(&file, 0, file.facts.size, &facts, &why)
                   : boot_initrd_check(&file));
}

/* The initramfs that distributions name after a kernel of this name; owned, NULL = none. */
static char *initrd_of(const struct boot *boot, size_t part, const char *folder,
                       const char *kernel) {
    static const char *const forms[] = {
        "initrd.img%s",         "initramfs%s.img", "initrd%s",
        "initrd%s.img",         "initramfs%s",     "initramfs%s-fallback.img",
        "initramfs-genkernel%s"};
    const char *version = strchr(kernel, '-');

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        const char *hole = strstr(forms[i], "%s");
        IM_AUTO(free_auto)
        char *path = im_printf("%s/%.*s%s%s", folder, (int) (hole - forms[i]), forms[i],
                               version != NULL ? version : "", hole + 2);

        if (sound_file(boot, part, path, false))
            return im_steal(&path);
    }
    return NULL;
}

/* --- What an entry should start --------------------------------------------------------------- */

struct files {
    char *kernel, *kernel_as; /* paths; the same when it is right */
    char *initrd, *initrd_as; /* NULL: the entry has none, and needs none */
    size_t part;
};

static void files_done(struct files *files) {
    free(files->kernel);
    free(files->kernel_as);
    free(files->initrd);
    free(files->initrd_as);
}

static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');

    return im_strndup(path, slash != NULL ? (size_t) (slash - path) : 0);
}

/* A kernel in the folder, with an initramfs if one is wanted. */
static bool search_folder(const struct boot *boot, const char *folder, struct files *files) {
    struct kernels kernels = {0};
    struct boot_file at = {files->part, (char *) (folder[0] != '\0' ? folder : "/")};
    struct file file;
    bool found = false;

    if (boot_find(boot, at.part, at.path, &file) == BOOT_FOUND && file.facts.kind == NODE_FOLDER)
        (void) file.volume->ops->list(file.volume->state, &file.node, see_kernel, &kernels);
    if (kernels.names.count > 0)
        qsort(kernels.names.items, kernels.names.count, sizeof(char *), newest_first);
    for (size_t i = 0; i < kernels.names.count && !found; i++) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, kernels.names.items[i]);
        IM_AUTO(free_auto)
        char *initrd = initrd_of(boot, files->part, folder, kernels.names.items[i]);

        if (!sound_file(boot, files->part, path, true) || (files->initrd != NULL && initrd == NULL))
            continue;
        found = true;
        files->kernel_as = im_steal(&path);
        files->initrd_as = files->initrd != NULL ? im_steal(&initrd) : NULL;
    }
    im_strings_done(&kernels.names);
    return found;
}

/* The kernel stays, when it is sound and only its initramfs has another name. */
static bool keep_kernel(const struct boot *boot, struct files *files) {
    IM_AUTO(free_auto) char *folder = folder_of(files->kernel);

    if (!sound_file(boot, files->part, files->kernel, true))
        return false;
    if (files->initrd != NULL)
        files->initrd_as = initrd_of(boot, files->part, folder, files->kernel + strlen(folder) + 1);
    if (files->initrd != NULL && files->initrd_as == NULL)
        return false;
    files->kernel_as = im_strdup(files->kernel);
    return true;
}

static bool find_files(const struct boot *boot, struct files *files) {
    IM_AUTO(free_auto) char *folder = folder_of(files->kernel);

    return keep_kernel(boot, files) || search_folder(boot, folder, files) ||
           search_folder(boot, "", files) || search_folder(boot, "/boot", files);
}

/* --- In the files ----------------------------------------------------------------------------- */

static bool is_path_line(const struct config_line *line) {
    static const char *const commands[] = {"linux",  "linux16",  "linuxefi",  "kernel", "append",
                                           "initrd", "initrd16", "initrdefi", "options"};
    const char *at = line->text + strspn(line->text, " \t");
    size_t len = strcspn(at, " \t\n");

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strlen(commands[i]) == len && strncasecmp(at, commands[i], len) == 0)
            return true;
    return false;
}

/* The path as it is written, or without its folder, as extlinux may have it: from where a path may
 * begin to where it ends. */
static bool find_path(const char *text, size_t len, const char *path, size_t *ret_at,
                      size_t *ret_len) {
    const char *names[] = {path, strrchr(path, '/') + 1};

    for (size_t i = 0; i < 2; i++)
        for (size_t at = 1, want = strlen(names[i]); at + want <= len; at++) {
            char before = text[at - 1], behind = at + want < len ? text[at + want] : ' ';

            if (memcmp(text + at, names[i], want) == 0 && strchr(" \t\"'),=", before) != NULL &&
                strchr(" \t\"',\r", behind) != NULL) {
                *ret_at = at;
                *ret_len = want;
                return true;
            }
        }
    return false;
}

static bool replace_path(struct im_str *line, const char *path, const char *as) {
    size_t at, len;
    IM_AUTO(free_auto) char *behind = NULL;

    if (path == NULL || as == NULL || strcmp(path, as) == 0 ||
        !find_path(line->data, line->len, path, &at, &len))
        return false;
    behind = im_strdup(line->data + at + len);
    line->len = at;
    im_str_add(line, as);
    im_str_add(line, behind);
    return true;
}

static bool edit_paths(struct planning *planning, const struct config_line *line,
                       struct im_str *out, void *arg) {
    const struct files *files = arg;
    struct im_str made = {0};
    bool changed;

    (void) planning;
    if (line->kind == CONFIG_FUTURE || !is_path_line(line))
        return false;
    im_str_add_bytes(&made, line->text, line->len);
    changed = replace_path(&made, files->kernel, files->kernel_as);
    changed |= replace_path(&made, files->initrd, files->initrd_as);
    if (changed)
        im_str_add_bytes(out, made.data, made.len);
    im_str_done(&made);
    return changed;
}

void repair_boot_files(struct planning *planning) {
    const struct boot *boot = planning_boot(planning);
    const struct boot_entry *entry = boot_default(boot);
    IM_AUTO(files_done) struct files files = {0};
    IM_AUTO(free_auto) char *paths = NULL;

    if (planning->menu_told != NULL) { /* by another finding's repair */
        plan_done(planning, "%s", planning->menu_told);
        return;
    }
    if (entry == NULL || entry->kernel.path == NULL || entry->kernel.path[0] != '/' ||
        entry->packed || entry->initrd_count > 1) {
        plan_cannot(planning, "the menu's first entry is not one that could be changed");
        return;
    }
    files.part = entry->kernel.part;
    files.kernel = im_strdup(entry->kernel.path);
    if (entry->initrd_count == 1 && entry->initrds[0].path[0] == '/')
        files.initrd = im_strdup(entry->initrds[0].path);
    if (files.part == NOWHERE || !find_files(boot, &files)) {
        plan_cannot(planning, "there is no kernel%s beside the place of the one that is missing",
                    files.initrd != NULL ? " with an initramfs" : "");
        return;
    }
    paths = config_rewrite(planning, edit_paths, &files);
    if (paths[0] == '\0') {
        plan_cannot(planning, "the path %.100s is nowhere in the menu that it could be changed",
                    files.kernel);
        return;
    }
    planning->menu_told = im_printf("%.100s is started%s%.100s, by %s", files.kernel_as,
                                    files.initrd_as != NULL ? " with " : "",
                                    files.initrd_as != NULL ? files.initrd_as : "", paths);
    plan_done(planning, "%s", planning->menu_told);
}

/* --- search ----------------------------------------------------------------------------------- */

static bool is_uuid(const char *word) {
    size_t len = strlen(word);

    return len >= 9 && strchr(word, '-') != NULL && strspn(word, "0123456789abcdefABCDEF-") == len;
}

static bool uuid_here(const struct look *look, const char *uuid) {
    for (size_t i = 0; i < look->found->part_count; i++)
        if (strcasecmp(look->found->parts[i].uuid, uuid) == 0)
            return true;
    return false;
}

/* Each word of a line that searches; `arg` is the UUID of where the kernels are. */
static bool edit_search(struct planning *planning, const struct config_line *line,
                        struct im_str *out, void *arg) {
    const char *at = line->text, *end = line->text + line->len;
    size_t lead = strspn(at, " \t");
    struct im_str made = {0};
    bool changed = false;

    if (line->kind == CONFIG_FUTURE || strncmp(at + lead, "search", 6) != 0)
        return false;
    while (at < end) {
        size_t blanks = strspn(at, " \t"), len = strcspn(at + blanks, " \t\n");
        IM_AUTO(free_auto) char *word = im_strndup(at + blanks, len);
        bool lost = is_uuid(word) && !uuid_here(planning->look, word);

        im_str_add_bytes(&made, at, blanks);
        im_str_add(&made, lost ? (const char *) arg : word);
        changed |= lost;
        at += blanks + len;
    }
    if (changed)
        im_str_add_bytes(out, made.data, made.len);
    im_str_done(&made);
    return changed;
}

/* Where the kernel of the menu lies, or else the menu itself. */
static const struct guest_part *part_searched(struct planning *planning) {
    const struct boot *boot = planning_boot(planning);
    const struct boot_entry *entry = boot_default(boot);
    struct file file;

    if (entry == NULL)
        return NULL;
    if (entry->kernel.path != NULL && entry->kernel.part != NOWHERE &&
        boot_find(boot, entry->kernel.part, entry->kernel.path, &file) == BOOT_FOUND)
        return &planning->look->found->parts[entry->kernel.part];
    return &planning->look->found->parts[boot->menu.part];
}

void repair_boot_search(struct planning *planning) {
    const struct guest_part *part = part_searched(planning);
    IM_AUTO(free_auto) char *paths = NULL;

    if (part == NULL || part->uuid[0] == '\0') {
        plan_cannot(planning, "it is not known on which file system the kernels are");
        return;
    }
    paths = config_rewrite(planning, edit_search, (void *) part->uuid);
    if (paths[0] != '\0')
        plan_done(planning, "GRUB searches for the file system %s in %s", part->uuid, paths);
    else
        plan_cannot(planning, "what GRUB searches for is no UUID that could be changed");
}

/* --- The menu on the serial port -------------------------------------------------------------- */

#define GRUB_DEFAULTS "/etc/default/grub"

/* In front of the first entry: what was said before holds for the screen. */
static bool edit_terminal(struct planning *planning, const struct config_line *line,
                          struct im_str *out, void *arg) {
    static const char *const entries[] = {"menuentry ", "submenu ", "blscfg"};
    bool *done = arg, first = false;

    (void) planning;
    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++)
        first |= line->len >= strlen(entries[i]) &&
                 strncmp(line->text, entries[i], strlen(entries[i])) == 0;
    if (*done || !first || line->kind == CONFIG_FUTURE)
        return false;
    *done = true;
    im_str_add(out, "serial --unit=0 --speed=115200\nterminal_input serial console\n"
                    "terminal_output serial console\n");
    im_str_add_bytes(out, line->text, line->len);
    return true;
}

/* Of menus that are made later. */
static bool defaults_terminal(struct planning *planning) {
    const char *text = draft_text(planning, GRUB_DEFAULTS);

    if (text == NULL)
        return false;
    draft_set(planning, GRUB_DEFAULTS,
              im_printf("%s%sGRUB_TERMINAL=\"console serial\"\n"
                        "GRUB_SERIAL_COMMAND=\"serial --unit=0 --speed=115200\"\n",
                        text, im_ends_with(text, "\n") || text[0] == '\0' ? "" : "\n"),
              0644);
    return true;
}

void repair_boot_terminal(struct planning *planning) {
    bool done = false;
    IM_AUTO(free_auto) char *paths = config_rewrite(planning, edit_terminal, &done);

    if (paths[0] == '\0') {
        plan_cannot(planning, "the menu has no place where GRUB could be told of a terminal");
        return;
    }
    plan_done(planning, "GRUB shows its menu on the first serial port as well, by %s%s", paths,
              defaults_terminal(planning) ? " and " GRUB_DEFAULTS : "");
}
