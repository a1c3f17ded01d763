/* SPDX-License-Identifier: Apache-2.0 */
/* What is started when nobody chooses: a default that the menu does not have becomes its first
 * entry that is all there. */
#include <ctype.h>
#include <stdio.h>

#include "repair-boot.h"

/* --- Names of entries ------------------------------------------------------------------------- */

static const struct boot_entry *first_whole(const struct boot *boot) {
    for (size_t i = 0; i < boot->menu.count; i++) {
        const struct boot_entry *entry = &boot->menu.entries[i];

        if (!entry->submenu && entry->kernel.path != NULL && boot_entry_whole(boot, entry))
            return entry;
    }
    return boot_default(boot);
}

/* As GRUB counts: "0", or "1>2" within a submenu; owned. */
static char *number_of(const struct boot_menu *menu, size_t index) {
    size_t within = menu->entries[index].within;
    unsigned before = 0;
    IM_AUTO(free_auto) char *outer = NULL;

    for (size_t i = 0; i < index; i++)
        before += menu->entries[i].within == within;
    if (within == NOWHERE)
        return im_printf("%u", before);
    outer = number_of(menu, within);
    return im_printf("%s>%u", outer, before);
}

/* What the loader's own file calls the entry; owned. */
static char *name_of(const struct boot_menu *menu, const struct boot_entry *entry) {
    bool systemd = strcmp(menu->loader, "systemd-boot") == 0;

    if (im_starts_with(menu->loader, "grub"))
        return number_of(menu, (size_t) (entry - menu->entries));
    return im_printf("%s%s", entry->id, systemd && !im_ends_with(entry->id, ".efi") ? ".conf" : "");
}

/* --- Lines ------------------------------------------------------------------------------------ */

/* Where a default is kept, and what takes the place of one that there is not. */
static const struct {
    const char *loader, *word;
    bool blank;            /* "default x", else "default=x" */
    bool later, remembers; /* of menus that are made later; what the loader wrote itself */
} places[] = {
    {"grub", "set default", false, false, false},    {"grub", "default", false, false, false},
    {"grub", "saved_entry", false, false, true},     {"grub", "next_entry", false, false, true},
    {"grub", "GRUB_DEFAULT", false, true, false},    {"grub-legacy", "default", true, false, false},
    {"grub-legacy", "default", false, false, false}, {"extlinux", "default", true, false, false},
    {"systemd-boot", "default", true, false, false},
};
enum { PLACES = sizeof(places) / sizeof(places[0]) };

/* The value of "word=value" or "word value", without quotes around it. */
static bool take_value(const struct config_line *line, size_t place, const char **ret_at,
                       size_t *ret_len) {
    const char *end = line->text + line->len, *at = line->text + strspn(line->text, " \t");
    size_t len = strlen(places[place].word);

    if (at >= end || (size_t) (end - at) <= len || strncasecmp(at, places[place].word, len) != 0 ||
        (places[place].blank ? at[len] != ' ' && at[len] != '\t' : at[len] != '='))
        return false;
    at += len + 1;
    while (places[place].blank && at < end && (*at == ' ' || *at == '\t'))
        at++;
    while (end > at && isspace((unsigned char) end[-1]))
        end--;
    if (end - at >= 2 && (*at == '"' || *at == '\'') && end[-1] == *at)
        at++, end--;
    *ret_at = at;
    *ret_len = (size_t) (end - at);
    return true;
}

/* The one that is wanted; of later menus any that this one does not have. */
static bool is_wrong(const struct boot_menu *menu, size_t place, const char *value) {
    if (places[place].later)
        return value[0] != '\0' && strchr(value, '$') == NULL && strcmp(value, "saved") != 0 &&
               !boot_has(menu, value);
    return strcmp(value, menu->wanted) == 0;
}

static bool edit_default(struct planning *planning, const struct config_line *line,
                         struct im_str *out, void *arg) {
    const struct boot_menu *menu = &planning_boot(planning)->menu;

    for (size_t i = 0; i < PLACES; i++) {
        IM_AUTO(free_auto) char *value = NULL;
        const char *at;
        size_t len;

        if (strcmp(places[i].loader, menu->loader) != 0 || !take_value(line, i, &at, &len))
            continue;
        value = im_strndup(at, len);
        if (!is_wrong(menu, i, value))
            return false;
        im_str_add_bytes(out, line->text, (size_t) (at - line->text));
        im_str_add(out, places[i].remembers && strcmp(arg, "0") == 0 ? "" : (const char *) arg);
        im_str_add_bytes(out, at + len, (size_t) (line->text + line->len - at - len));
        return true;
    }
    return false;
}

void repair_boot_default(struct planning *planning) {
    const struct boot *boot = planning_boot(planning);
    const struct boot_entry *entry = first_whole(boot);
    IM_AUTO(free_auto) char *name = NULL;
    IM_AUTO(free_auto) char *paths = NULL;

    if (entry == NULL || im_str_empty(boot->menu.wanted) ||
        boot_has(&boot->menu, boot->menu.wanted)) {
        plan_cannot(planning, "the menu has no entry that could be the default");
        return;
    }
    name = name_of(&boot->menu, entry);
    paths = config_rewrite(planning, edit_default, name);
    if (paths[0] != '\0')
        plan_done(planning, "the default entry is %.100s, by %s", entry->title, paths);
    else
        plan_cannot(planning, "the default %.80s is nowhere that it could be changed",
                    boot->menu.wanted);
}
