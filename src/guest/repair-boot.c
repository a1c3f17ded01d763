/* SPDX-License-Identifier: Apache-2.0 */
/* Files of boot loaders, rewritten line by line: only what is wrong changes. */
#include "repair-boot.h"

#include <ctype.h>
#include <stdio.h>

#define ENVIRONMENT "# GRUB Environment Block\n"
#define ENVIRONMENT_BYTES 1024u

/* --- Places ----------------------------------------------------------------------------------- */

const struct boot *planning_boot(struct planning *planning) {
    if (planning->boot == NULL)
        planning->boot = boot_open(planning->look, planning->tree);
    return planning->boot;
}

static bool is_mount(const struct tree *tree, const char *path) {
    for (size_t i = 0; i < tree->count; i++)
        if (strcmp(tree->mounts[i].path, path) == 0)
            return true;
    return false;
}

/* A folder of the system where it can be mounted meanwhile; NULL = none. */
static const char *spare_folder(const struct planning *planning, const struct volume *volume) {
    static const char *const folders[] = {"/boot/efi", "/efi", "/mnt", "/media", "/srv"};
    bool esp = strcmp(volume_part(volume)->type, TYPE_ESP) == 0;
    struct file file;

    for (size_t i = esp ? 0 : 2; i < sizeof(folders) / sizeof(folders[0]); i++)
        if (!is_mount(planning->tree, folders[i]) &&
            tree_find_link(planning->tree, folders[i], &file) && file.facts.kind == NODE_FOLDER)
            return folders[i];
    return NULL;
}

static bool same_root(const struct mount *mount, const struct volume *volume, struct node root) {
    return mount->volume == volume && node_same(mount->root, root);
}

static bool is_plain(const char *path) {
    return path[0] == '/' && strstr(path, "/../") == NULL && !im_ends_with(path, "/..") &&
           im_utf8_valid(path, strlen(path));
}

char *machine_path(struct planning *planning, const struct volume *volume, struct node root,
                   const char *path) {
    const char *folder, *options = "";

    if (planning->tree == NULL || !is_plain(path))
        return NULL;
    for (size_t i = 0; i < planning->tree->count; i++)
        if (same_root(&planning->tree->mounts[i], volume, root))
            return im_printf("%s%s", planning->tree->mounts[i].path, path);
    folder = spare_folder(planning, volume);
    if (same_root(&planning->tree->menu, volume, root))
        options = planning->tree->menu.options;
    else if (!node_same(volume->root, root))
        return NULL;
    if (folder == NULL || !tree_mount(&planning->mounts, folder, volume, options))
        return NULL;
    return im_printf("%s%s", folder, path);
}

char *machine_path_of(struct planning *planning, const struct boot_file *file) {
    const struct boot *boot = planning_boot(planning);

    for (size_t i = 0; i < boot->place_count; i++) {
        const struct mount *mount = &boot->places[i].tree.mounts[0];

        if (boot->places[i].part == file->part && tree_has(&boot->places[i].tree, file->path))
            return machine_path(planning, mount->volume, mount->root, file->path);
    }
    return NULL;
}

/* --- Lines ------------------------------------------------------------------------------------ */

static const char *skip_blanks(const char *at, const char *end) {
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    return at;
}

static const char *skip_word(const char *at, const char *end) {
    for (bool quoted = false; at < end && (quoted || (*at != ' ' && *at != '\t')); at++)
        quoted ^= *at == '"' || *at == '\'';
    return at;
}

/* Behind `NAME="`, up to the quote that ends it; false if the line sets another variable. */
static bool take_value(struct config_line *line, const char *at, const char *name) {
    const char *end = line->text + line->len, *close;
    size_t len = strlen(name);

    if ((size_t) (end - at) <= len || strncmp(at, name, len) != 0 || at[len] != '=')
        return false;
    at += len + 1;
    if (at < end && (*at == '"' || *at == '\'')) {
        close = memrchr(at + 1, *at, (size_t) (end - at - 1));
        if (close == NULL)
            return false;
        at++;
        end = close;
    }
    line->words = at;
    line->words_len = (size_t) (end - at);
    return true;
}

static bool is_command(const char *at, size_t len, const char *const *names) {
    for (; *names != NULL; names++)
        if (strlen(*names) == len && strncasecmp(at, *names, len) == 0)
            return true;
    return false;
}

/* Entries: a word, with some a path behind it, then the kernel's words. */
static bool take_entry(struct config_line *line, const char *at) {
    static const char *const with_path[] = {"linux", "linux16", "linuxefi", "kernel", NULL};
    static const char *const without[] = {"append", "options", NULL};
    const char *end = line->text + line->len, *next = skip_word(at, end);
    size_t len = (size_t) (next - at);

    if (!is_command(at, len, with_path) && !is_command(at, len, without))
        return false;
    if (is_command(at, len, with_path)) {
        next = skip_blanks(next, end);
        if (next == end) /* in an entry of BLS or extlinux: only a path, or nothing */
            return false;
        next = skip_word(next, end);
    }
    line->words = skip_blanks(next, end);
    line->words_len = (size_t) (end - line->words);
    return is_command(at, len, without) || line->words_len > 0;
}

/* NAME=value, if it is a command line: kernelopts, or any that says what the root is. */
static bool take_variable(struct config_line *line, const char *at) {
    const char *end = line->text + line->len, *word;
    size_t len = 0;
    IM_AUTO(free_auto) char *name = NULL;

    while (at + len < end && (isalnum((unsigned char) at[len]) || at[len] == '_'))
        len++;
    name = im_strndup(at, len);
    if (len == 0 || !take_value(line, at, name))
        return false;
    word = memmem(line->words, line->words_len, "root=", strlen("root="));
    return strcmp(name, "kernelopts") == 0 ||
           (word != NULL && (word == line->words || word[-1] == ' '));
}

static void take_words(struct config_line *line) {
    const char *end = line->text + line->len, *at = skip_blanks(line->text, end);

    line->kind = CONFIG_OTHER;
    if (take_entry(line, at)) {
        line->kind = CONFIG_ENTRY;
        return;
    }
    if (end - at > 4 && strncmp(at, "set ", 4) == 0)
        at = skip_blanks(at + 4, end);
    if (take_variable(line, at))
        line->kind = CONFIG_SHARED;
}

/* GRUB reads and writes exactly this many bytes. */
static char *pad_environment(char *text) {
    size_t len = strlen(text);
    char *padded;

    if (!im_starts_with(text, ENVIRONMENT))
        return text;
    while (len > 0 && text[len - 1] == '#')
        text[--len] = '\0';
    if (len > ENVIRONMENT_BYTES)
        return text;
    padded = im_alloc(ENVIRONMENT_BYTES + 1);
    memset(padded, '#', ENVIRONMENT_BYTES);
    memcpy(padded, text, len);
    free(text);
    return padded;
}

/* --- Files ------------------------------------------------------------------------------------ */

struct rewriting {
    config_edit *edit;
    void *arg;
    struct im_strings changed; /* as they are mounted for the repair */
    struct im_strings shown;   /* the same as people know them */
};

typedef void line_kind(struct config_line *line, const void *arg);

static void kind_of_menu(struct config_line *line, const void *arg) {
    (void) arg;
    take_words(line);
}

static void kind_of_future(struct config_line *line, const void *arg) {
    const char *name = arg, *at = skip_blanks(line->text, line->text + line->len);

    line->kind = CONFIG_OTHER;
    if (name[0] == '\0') { /* nothing but a command line */
        line->words = line->text;
        line->words_len = line->len;
        line->kind = line->len > 0 && line->text[0] != '#' ? CONFIG_FUTURE : CONFIG_OTHER;
    } else if (take_value(line, at, name)) {
        line->kind = CONFIG_FUTURE;
    }
}

static void rewrite_file(struct planning *planning, struct rewriting *rewriting, const char *path,
                         line_kind *kind, const void *arg) {
    const char *text = draft_text(planning, path);
    struct config_line line;
    struct im_str out = {0};
    bool changed = false;

    if (text == NULL)
        return;
    for (const char *at = text; *at != '\0'; at += line.len + (at[line.len] == '\n')) {
        line = (struct config_line){.text = at, .len = strcspn(at, "\n")};
        kind(&line, arg);
        if (rewriting->edit(planning, &line, &out, rewriting->arg))
            changed = true;
        else
            im_str_add_bytes(&out, line.text, line.len);
        if (at[line.len] == '\n')
            im_str_add_char(&out, '\n');
    }
    if (changed) {
        draft_set(planning, path, pad_environment(im_str_take(&out)), 0644);
        im_strings_add(&rewriting->changed, path);
    }
    im_str_done(&out);
}

/* What is mounted for the repair only is told by where it lies. Owned. */
static char *shown_path(const struct planning *planning, const struct mount *mount,
                        const char *within, const char *path) {
    for (size_t i = 0; i < planning->own_mounts; i++)
        if (same_root(&planning->mounts.mounts[i], mount->volume, mount->root))
            return im_strdup(path);
    return im_printf("%s on %s", within, volume_part(mount->volume)->name);
}

static void show(struct rewriting *rewriting, size_t changed_before, const char *name) {
    if (rewriting->changed.count > changed_before && !im_strings_has(&rewriting->shown, name))
        im_strings_add(&rewriting->shown, name);
}

static void rewrite_menu(struct planning *planning, struct rewriting *rewriting) {
    const struct boot *boot = planning_boot(planning);

    for (size_t i = 0; i < boot->text_count; i++) {
        const struct mount *mount = &boot->texts[i].place->tree.mounts[0];
        IM_AUTO(free_auto)
        char *path = machine_path(planning, mount->volume, mount->root, boot->texts[i].path);

        size_t before = rewriting->changed.count;
        IM_AUTO(free_auto) char *shown = NULL;

        if (path == NULL || im_strings_has(&rewriting->changed, path))
            continue;
        rewrite_file(planning, rewriting, path, kind_of_menu, NULL);
        shown = shown_path(planning, mount, boot->texts[i].path, path);
        show(rewriting, before, shown);
    }
}

/* What update-grub, grub2-mkconfig, kernel-install and the like take for the next menu. */
static void rewrite_future(struct planning *planning, struct rewriting *rewriting) {
    static const char *const files[][2] = {
        {"/etc/default/grub", "GRUB_CMDLINE_LINUX"},
        {"/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT"},
        {"/etc/kernel/cmdline", ""},
        {"/etc/update-extlinux.conf", "default_kernel_opts"},
        {"/etc/default/u-boot", "U_BOOT_PARAMETERS"},
    };

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        size_t before = rewriting->changed.count;

        rewrite_file(planning, rewriting, files[i][0], kind_of_future, files[i][1]);
        show(rewriting, before, files[i][0]);
    }
}

char *config_rewrite(struct planning *planning, config_edit *edit, void *arg) {
    struct rewriting rewriting = {.edit = edit, .arg = arg};
    char *paths;

    rewrite_menu(planning, &rewriting);
    rewrite_future(planning, &rewriting);
    paths = im_strings_join(&rewriting.shown, ", ");
    im_strings_done(&rewriting.shown);
    im_strings_done(&rewriting.changed);
    return paths;
}

/* --- Words ------------------------------------------------------------------------------------ */

struct word_rewriting {
    word_edit *edit;
    void *arg;
};

/* What was before the word goes with it. */
static bool edit_words(struct planning *planning, const struct config_line *line,
                       struct im_str *out, void *arg) {
    const struct word_rewriting *rewriting = arg;
    const char *end = line->words + line->words_len, *at = line->words;
    struct im_str made = {0};
    bool changed = false;

    if (line->kind == CONFIG_OTHER)
        return false;
    while (at < end) {
        const char *word = skip_blanks(at, end), *behind = skip_word(word, end);
        IM_AUTO(free_auto) char *copy = im_strndup(word, (size_t) (behind - word));
        struct im_str as = {0};
        enum word_fate fate =
            copy[0] != '\0' ? rewriting->edit(planning, copy, &as, rewriting->arg) : WORD_KEEP;

        changed |= fate != WORD_KEEP;
        if (fate == WORD_KEEP)
            im_str_add_bytes(&made, at, (size_t) (behind - at));
        else if (fate == WORD_AS)
            im_str_add_bytes(&made, at, (size_t) (word - at)), im_str_add(&made, as.data);
        im_str_done(&as);
        at = behind;
    }
    if (changed) {
        im_str_add_bytes(out, line->text, (size_t) (line->words - line->text));
        im_str_add_bytes(out, made.data, made.len);
        im_str_add_bytes(out, end, (size_t) (line->text + line->len - end));
    }
    im_str_done(&made);
    return changed;
}

char *words_rewrite(struct planning *planning, word_edit *edit, void *arg) {
    struct word_rewriting rewriting = {edit, arg};

    return config_rewrite(planning, edit_words, &rewriting);
}
