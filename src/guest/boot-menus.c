/* SPDX-License-Identifier: Apache-2.0 */
/* The menus that are lists of words and no programs: extlinux and syslinux, GRUB's first version,
 * entries of the Boot Loader Specification, and kernels with everything in one file. */
#include <ctype.h>
#include <fnmatch.h>
#include <stdio.h>

#include "boot-config.h"

enum { INCLUDES_MAX = 4, NAMES_MAX = 128 };
#define CMDLINE_MAX 4096u

/* --- Lines ------------------------------------------------------------------------------------ */

/* Cuts "word rest" in two; the rest is without blanks around it. */
static char *cut(char *line, char **ret_rest) {
    char *word = line + strspn(line, " \t"), *rest;
    size_t len = strcspn(word, " \t\r");

    rest = word + len + strspn(word + len, " \t\r");
    word[len] = '\0';
    for (size_t end = strlen(rest); end > 0 && strchr(" \t\r", rest[end - 1]) != NULL; end--)
        rest[end - 1] = '\0';
    *ret_rest = rest;
    return word;
}

static void add_option(struct boot_entry *entry, const char *text) {
    char *joined;

    if (entry->cmdline != NULL && strlen(entry->cmdline) + strlen(text) > CMDLINE_MAX)
        return;
    joined = entry->cmdline != NULL ? im_printf("%s %s", entry->cmdline, text) : im_strdup(text);
    free(entry->cmdline);
    entry->cmdline = joined;
}

static void set_kernel(struct boot_entry *entry, size_t part, const char *path) {
    free(entry->kernel.path);
    entry->kernel = (struct boot_file){part, im_strdup(path)};
}

static void name_config(struct boot *boot, size_t part, const char *path) {
    snprintf(boot->menu.config, sizeof(boot->menu.config), "%s on %s", path,
             boot->look->found->parts[part].name);
    boot->menu.part = part;
}

char *boot_expand(const char *text, boot_value *value, void *arg) {
    struct im_str out = {0};

    while (*text != '\0' && out.len < CMDLINE_MAX) {
        bool braced = text[0] == '$' && text[1] == '{';
        const char *name = text + 1 + braced;
        size_t len = 0;
        char key[64];

        while (*text == '$' && (isalnum((unsigned char) name[len]) || name[len] == '_'))
            len++;
        if (len == 0 || len >= sizeof(key)) {
            im_str_add_char(&out, *text++);
            continue;
        }
        memcpy(key, name, len);
        key[len] = '\0';
        text = name + len + (braced && name[len] == '}');
        if (value != NULL)
            im_str_add(&out, value(arg, key));
    }
    return im_str_take(&out);
}

/* --- extlinux, syslinux ----------------------------------------------------------------------- */

struct extlinux {
    struct boot *boot;
    size_t part;
    const char *folder; /* of the file: paths without a slash begin there */
    unsigned includes;
    size_t entry; /* NOWHERE: before the first label */
};

static char *within_folder(const struct extlinux *extlinux, const char *path) {
    return path[0] == '/' ? im_strdup(path) : im_printf("%s/%s", extlinux->folder, path);
}

static void extlinux_initrds(struct extlinux *extlinux, struct boot_entry *entry,
                             const char *list) {
    struct im_strings paths = {0};

    im_strings_split(&paths, list, ",");
    for (size_t i = 0; i < paths.count; i++) {
        IM_AUTO(free_auto) char *path = within_folder(extlinux, paths.items[i]);

        boot_entry_initrd(entry, extlinux->part, path);
    }
    im_strings_done(&paths);
}

/* Of a label. Programs for the menu and other loaders are left alone. */
static void extlinux_key(struct extlinux *extlinux, const char *key, char *rest) {
    struct boot_entry *entry = &extlinux->boot->menu.entries[extlinux->entry];
    char initrd[512];

    if (strcasecmp(key, "kernel") == 0 || strcasecmp(key, "linux") == 0) {
        IM_AUTO(free_auto) char *path = within_folder(extlinux, rest);

        if (rest[0] != '\0' && !im_ends_with(rest, ".c32") && !im_ends_with(rest, "memdisk"))
            set_kernel(entry, extlinux->part, path);
    } else if (strcasecmp(key, "initrd") == 0) {
        extlinux_initrds(extlinux, entry, rest);
    } else if (strcasecmp(key, "append") == 0) {
        im_replace(&entry->cmdline, rest);
        if (cmdline_value(rest, "initrd", initrd, sizeof(initrd)))
            extlinux_initrds(extlinux, entry, initrd);
    }
}

static void extlinux_file(struct extlinux *extlinux, const char *path);

static void extlinux_line(struct extlinux *extlinux, char *line) {
    struct boot_menu *menu = &extlinux->boot->menu;
    char *rest, *key = cut(line, &rest), *more;

    if (strcasecmp(key, "menu") == 0) {
        char *word = cut(rest, &more);

        if (strcasecmp(word, "default") == 0 && extlinux->entry != NOWHERE)
            im_replace(&menu->wanted, menu->entries[extlinux->entry].id);
        else if (strcasecmp(word, "include") == 0)
            extlinux_file(extlinux, more);
    } else if (strcasecmp(key, "label") == 0) {
        extlinux->entry = boot_entry_add(menu, rest, rest) != NULL ? menu->count - 1 : NOWHERE;
    } else if (strcasecmp(key, "include") == 0) {
        extlinux_file(extlinux, rest);
    } else if (strcasecmp(key, "default") == 0 && !im_ends_with(rest, ".c32")) {
        im_replace(&menu->wanted, rest);
    } else if (strcasecmp(key, "serial") == 0) {
        menu->serial = true;
    } else if (extlinux->entry != NOWHERE) {
        extlinux_key(extlinux, key, rest);
    }
}

static void extlinux_file(struct extlinux *extlinux, const char *path) {
    IM_AUTO(free_auto) char *whole = within_folder(extlinux, path);
    IM_AUTO(free_auto) char *text = boot_text(extlinux->boot, extlinux->part, whole);
    char *at = text, *line;

    if (text == NULL || extlinux->includes == INCLUDES_MAX)
        return;
    extlinux->includes++;
    while ((line = text_line(&at)) != NULL)
        extlinux_line(extlinux, line);
}

void boot_extlinux(struct boot *boot, size_t part, const char *path) {
    IM_AUTO(free_auto) char *folder = im_strndup(path, (size_t) (strrchr(path, '/') - path));
    struct extlinux extlinux = {.boot = boot, .part = part, .folder = folder, .entry = NOWHERE};

    boot->menu.loader = "extlinux";
    name_config(boot, part, path);
    extlinux_file(&extlinux, path);
}

/* --- GRUB before its second version ----------------------------------------------------------- */

/* "(hd0,1)/path": its partitions are counted from 0. */
static struct boot_file legacy_file(const struct boot *boot, size_t root, const char *text) {
    size_t len = strcspn(text, " \t");
    unsigned disk, number;
    const char *close;

    if (text[0] != '(' || (close = strchr(text, ')')) == NULL)
        return (struct boot_file){root, im_strndup(text, len)};
    root = NOWHERE;
    if (sscanf(text, "(hd%u,%u)", &disk, &number) == 2 && disk == 0)
        for (size_t i = 0; i < boot->look->found->part_count; i++)
            if (number < UINT32_MAX && boot->look->found->parts[i].number == number + 1)
                root = i;
    return (struct boot_file){root, im_strndup(close + 1, strcspn(close + 1, " \t"))};
}

static void legacy_kernel(const struct boot *boot, struct boot_entry *entry, size_t root,
                          const char *text) {
    while (im_starts_with(text, "--"))
        text += strcspn(text, " \t"), text += strspn(text, " \t");
    free(entry->kernel.path);
    entry->kernel = legacy_file(boot, root, text);
    text += strcspn(text, " \t");
    im_replace(&entry->cmdline, text + strspn(text, " \t"));
}

static void legacy_line(struct boot *boot, size_t *root, char *line, size_t home) {
    struct boot_menu *menu = &boot->menu;
    char *rest, *key = cut(line, &rest), *equals = strchr(key, '=');
    struct boot_entry *entry = menu->count > 0 ? &menu->entries[menu->count - 1] : NULL;

    if (equals != NULL) { /* "default=0" */
        *equals = '\0';
        rest = equals + 1;
    }
    if (strcmp(key, "title") == 0) {
        (void) boot_entry_add(menu, rest, "");
        *root = home;
    } else if (strcmp(key, "default") == 0) {
        im_replace(&menu->wanted, rest);
    } else if (strcmp(key, "serial") == 0) {
        menu->serial = true;
    } else if (strcmp(key, "root") == 0 && entry != NULL) {
        struct boot_file file = legacy_file(boot, home, rest);

        *root = file.part;
        free(file.path);
    } else if (strcmp(key, "kernel") == 0 && entry != NULL) {
        legacy_kernel(boot, entry, *root, rest);
    } else if (strcmp(key, "initrd") == 0 && entry != NULL) {
        struct boot_file file = legacy_file(boot, *root, rest);

        boot_entry_initrd(entry, file.part, file.path);
        free(file.path);
    }
}

void boot_grub_legacy(struct boot *boot, size_t part, const char *path) {
    IM_AUTO(free_auto) char *text = boot_text(boot, part, path);
    size_t root = part;
    char *at = text, *line;

    boot->menu.loader = "grub-legacy";
    name_config(boot, part, path);
    while (text != NULL && (line = text_line(&at)) != NULL)
        legacy_line(boot, &root, line, part);
}

/* --- The Boot Loader Specification ------------------------------------------------------------ */

struct names {
    char *items[NAMES_MAX];
    size_t count;
    const char *suffix;
};

static bool take_name(void *arg, const char *name, size_t len) {
    struct names *names = arg;
    size_t end = strlen(names->suffix);

    if (len > end && strncasecmp(name + len - end, names->suffix, end) == 0)
        names->items[names->count++] = im_strndup(name, len);
    return names->count < NAMES_MAX;
}

static int newest_first(const void *a, const void *b) {
    return strverscmp(*(char *const *) b, *(char *const *) a);
}

static void list_names(const struct boot *boot, size_t part, const char *folder,
                       struct names *names) {
    struct file file;

    if (boot_find(boot, part, folder, &file) == BOOT_FOUND && file.facts.kind == NODE_FOLDER)
        (void) file.volume->ops->list(file.volume->state, &file.node, take_name, names);
    qsort(names->items, names->count, sizeof(names->items[0]), newest_first);
}

static void names_done(struct names *names) {
    for (size_t i = 0; i < names->count; i++)
        free(names->items[i]);
}

static void entry_line(struct boot_entry *entry, size_t part, char *line, boot_value *value,
                       void *arg) {
    char *rest, *key = cut(line, &rest);
    IM_AUTO(free_auto) char *text = boot_expand(rest, value, arg);

    if (strcmp(key, "title") == 0) {
        im_replace(&entry->title, text);
    } else if (strcmp(key, "linux") == 0 || strcmp(key, "efi") == 0 || strcmp(key, "uki") == 0) {
        set_kernel(entry, part, text);
        entry->packed = key[0] != 'l';
    } else if (strcmp(key, "options") == 0) {
        add_option(entry, text);
    } else if (strcmp(key, "initrd") == 0) {
        struct im_strings paths = {0};

        im_strings_split(&paths, text, " \t");
        for (size_t i = 0; i < paths.count; i++)
            boot_entry_initrd(entry, part, paths.items[i]);
        im_strings_done(&paths);
    }
}

void boot_entries(struct boot *boot, size_t part, const char *folder, boot_value *value,
                  void *arg) {
    struct names names = {.suffix = ".conf"};

    list_names(boot, part, folder, &names);
    for (size_t i = 0; i < names.count; i++) {
        IM_AUTO(free_auto) char *path = im_printf("%s/%s", folder, names.items[i]);
        IM_AUTO(free_auto) char *text = boot_text(boot, part, path);
        IM_AUTO(free_auto)
        char *id = im_strndup(names.items[i], strlen(names.items[i]) - strlen(".conf"));
        struct boot_entry *entry = text != NULL ? boot_entry_add(&boot->menu, id, id) : NULL;
        char *at = text, *line;

        while (entry != NULL && (line = text_line(&at)) != NULL)
            entry_line(entry, part, line, value, arg);
    }
    names_done(&names);
}

/* --- systemd-boot ----------------------------------------------------------------------------- */

static void packed_kernels(struct boot *boot, size_t part) {
    struct names names = {.suffix = ".efi"};

    list_names(boot, part, "/EFI/Linux", &names);
    for (size_t i = 0; i < names.count; i++) {
        IM_AUTO(free_auto) char *path = im_printf("/EFI/Linux/%s", names.items[i]);
        struct boot_entry *entry = boot_entry_add(&boot->menu, names.items[i], names.items[i]);

        if (entry == NULL)
            break;
        set_kernel(entry, part, path);
        entry->packed = true;
    }
    names_done(&names);
}

/* Names of files may count how often an entry was tried: "6.1+2-1.conf". */
static bool is_named(const char *pattern, const char *id) {
    IM_AUTO(free_auto) char *file = im_printf("%s.conf", id);
    size_t plain = strcspn(id, "+");
    IM_AUTO(free_auto) char *uncounted = im_printf("%.*s.conf", (int) plain, id);

    return fnmatch(pattern, file, FNM_CASEFOLD) == 0 || fnmatch(pattern, id, FNM_CASEFOLD) == 0 ||
           fnmatch(pattern, uncounted, FNM_CASEFOLD) == 0;
}

/* The default is a pattern for names of files; those of many stars would take long. What the loader
 * remembers ("@saved") or makes up itself ("auto-…") is not for us to find. */
static void take_default(struct boot *boot, const char *pattern) {
    const char *star = strchr(pattern, '*');

    if ((star != NULL && (star = strchr(star + 1, '*')) != NULL && strchr(star + 1, '*') != NULL) ||
        pattern[0] == '\0' || pattern[0] == '@' || im_starts_with(pattern, "auto-"))
        return;
    im_replace(&boot->menu.wanted, pattern);
    for (size_t i = 0; i < boot->menu.count; i++)
        if (is_named(pattern, boot->menu.entries[i].id)) {
            im_replace(&boot->menu.wanted, boot->menu.entries[i].id);
            return;
        }
}

/* Entries lie on the EFI system partition, and on the one of the type made for them. */
void boot_systemd(struct boot *boot, size_t part) {
    const struct guest_inspection *found = boot->look->found;
    IM_AUTO(free_auto) char *text = boot_text(boot, part, "/loader/loader.conf");
    char *at = text, *line, *rest;

    boot->menu.loader = "systemd-boot";
    name_config(boot, part, "/loader");
    for (size_t i = 0; i < found->part_count; i++)
        if (i == part || strcmp(found->parts[i].type, TYPE_BOOT) == 0) {
            boot_entries(boot, i, "/loader/entries", NULL, NULL);
            packed_kernels(boot, i);
        }
    while (text != NULL && (line = text_line(&at)) != NULL)
        if (strcmp(cut(line, &rest), "default") == 0)
            take_default(boot, rest);
}
