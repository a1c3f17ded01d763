/* SPDX-License-Identifier: Apache-2.0 */
/* A user's SSH keys: where the system's sshd looks for them, and that it may read them there. */
#include <stdio.h>
#include <strings.h>

#include "repair-private.h"

#define SSHD_CONFIG "/etc/ssh/sshd_config"
#define SSHD_FOLDER "/etc/ssh/sshd_config.d"
#define SELINUX_CONFIG "/etc/selinux/config"

/* --- Where sshd looks ------------------------------------------------------------------------- */

/* The first file of AuthorizedKeysFile, as written; false when nothing is said. What is behind
 * Match counts for some only. */
static bool configured(struct planning *planning, const char *path, char *out, size_t size) {
    static const char key[] = "AuthorizedKeysFile";
    IM_AUTO(free_auto) char *text = tree_text(planning->tree, path);
    char *at = text, *line;

    while (text != NULL && (line = text_line(&at)) != NULL) {
        line += strspn(line, " \t");
        if (strncasecmp(line, "Match", 5) == 0 && (line[5] == ' ' || line[5] == '\t'))
            return false;
        if (strncasecmp(line, key, sizeof(key) - 1) != 0)
            continue;
        line += sizeof(key) - 1;
        if (strspn(line, " \t=\"") == 0)
            continue;
        line += strspn(line, " \t=\"");
        text_take(out, size, line, strcspn(line, " \t\""));
        return out[0] != '\0';
    }
    return false;
}

/* The files of the folder are included first, as all distributions have it. */
static void find_pattern(struct planning *planning, char *out, size_t size) {
    IM_AUTO(im_strings_done) struct im_strings names = {0};

    tree_names(planning->tree, SSHD_FOLDER, "", ".conf", &names);
    for (size_t i = 0; i < names.count; i++) {
        IM_AUTO(free_auto) char *path = im_printf(SSHD_FOLDER "/%s", names.items[i]);

        if (configured(planning, path, out, size))
            return;
    }
    if (!configured(planning, SSHD_CONFIG, out, size))
        snprintf(out, size, ".ssh/authorized_keys");
}

/* %h, %u, %U and %% as sshd has them; what does not begin with a slash is below the home. */
static char *keys_path(struct planning *planning, const struct account *account) {
    char pattern[256];
    struct im_str out = {0};

    find_pattern(planning, pattern, sizeof(pattern));
    if (pattern[0] != '/' && strncmp(pattern, "%h", 2) != 0)
        im_str_addf(&out, "%s/", account->home);
    for (const char *at = pattern; *at != '\0'; at++) {
        if (*at != '%' || at[1] == '\0')
            im_str_add_char(&out, *at);
        else if (*++at == 'h')
            im_str_add(&out, account->home);
        else if (*at == 'u')
            im_str_add(&out, account->user);
        else if (*at == 'U')
            im_str_addf(&out, "%lu", (unsigned long) account->uid);
        else
            im_str_add_char(&out, *at);
    }
    return im_str_take(&out);
}

/* --- Whether that is a place ------------------------------------------------------------------ */

static bool lies_within(const char *path, const char *folder) {
    size_t len = strlen(folder);

    while (len > 0 && folder[len - 1] == '/')
        len--;
    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static bool is_mounted(const struct tree *tree, const char *path) {
    for (size_t i = 0; i < tree->count; i++)
        if (strcmp(tree->mounts[i].path, path) == 0)
            return true;
    return false;
}

/* What is written below such a folder would be hidden once the machine runs; owned, NULL = none. */
static char *hiding_mount(struct planning *planning, const char *path) {
    IM_AUTO(fstab_free_auto) struct fstab *fstab = fstab_read(planning->tree);

    for (size_t i = 0; i < fstab->count; i++) {
        const struct fstab_line *line = &fstab->lines[i];

        if (line->path[0] == '/' && strcmp(line->path, "/") != 0 &&
            strstr(line->options, "noauto") == NULL && lies_within(path, line->path) &&
            !is_mounted(planning->tree, line->path))
            return im_strdup(line->path);
    }
    return NULL;
}

static bool is_folder(const struct planning *planning, const char *path, struct file *file) {
    return tree_find(planning->tree, path, file) && file->facts.kind == NODE_FOLDER;
}

static bool home_fits(struct planning *planning, const struct account *account) {
    IM_AUTO(free_auto) char *mount = hiding_mount(planning, account->home);
    struct file home;

    if (mount != NULL)
        plan_cannot(planning,
                    "the home folder of user %.64s is on %.80s, which is not on this disk",
                    account->user, mount);
    else if (account->home[0] != '/' || strstr(account->home, "/..") != NULL ||
             strspn(account->home, "/") == strlen(account->home) ||
             !is_folder(planning, account->home, &home))
        plan_cannot(planning, "user %.64s has no home folder: %.80s is none", account->user,
                    account->home);
    else
        return true;
    return false;
}

/* A user could have made a link there that leads to what is somebody else's. */
static bool is_own(const struct planning *planning, const char *path,
                   const struct account *account) {
    struct file file, link;

    return !tree_find(planning->tree, path, &file) || file.facts.uid == account->uid ||
           (file.facts.uid == 0 && tree_find_link(planning->tree, path, &link) &&
            link.facts.kind != NODE_LINK);
}

/* --- SELinux ---------------------------------------------------------------------------------- */

static void selinux_value(struct planning *planning, const char *key, char *out, size_t size) {
    IM_AUTO(free_auto) char *text = tree_text(planning->tree, SELINUX_CONFIG);
    char *at = text, *line;

    out[0] = '\0';
    while (text != NULL && (line = text_line(&at)) != NULL)
        (void) text_value(line, key, out, size);
}

/* The policy's rules for homes: a pattern, and behind blanks the label. */
static char *label_of_rules(struct planning *planning, const struct account *account) {
    char type[64];
    IM_AUTO(free_auto) char *path = NULL;
    IM_AUTO(free_auto) char *text = NULL;
    const char *begin = account->uid == 0 ? "/root/" : "/home/";
    char *at, *line;

    selinux_value(planning, "SELINUXTYPE", type, sizeof(type));
    path = im_printf("/etc/selinux/%s/contexts/files/file_contexts.homedirs", type);
    text = strchr(type, '/') == NULL ? tree_text(planning->tree, path) : NULL;
    at = text;
    while (text != NULL && (line = text_line(&at)) != NULL) {
        char *label = strrchr(line, '\t') != NULL ? strrchr(line, '\t') : strrchr(line, ' ');

        if (im_starts_with(line, begin) && strstr(line, "/\\.ssh(/.*)?") != NULL && label != NULL &&
            strchr(label, ':') != NULL)
            return im_strdup(label + 1);
    }
    return NULL;
}

/* Owned; NULL where none is needed, or none is known: then an enforcing system shall label itself
 * at its next start, else its sshd could not read the keys. */
static char *keys_label(struct planning *planning, const struct account *account) {
    IM_AUTO(free_auto) char *label = NULL;
    char mode[32];

    selinux_value(planning, "SELINUX", mode, sizeof(mode));
    if (mode[0] == '\0' || strcmp(mode, "disabled") == 0)
        return NULL;
    label = label_of_rules(planning, account);
    if (label == NULL && strcmp(mode, "enforcing") == 0 &&
        !tree_has(planning->tree, "/.autorelabel")) {
        draft_set(planning, "/.autorelabel", im_strdup(""), 0644);
        plan_done(planning, "SELinux labels the files of the system anew at the next start");
    }
    return im_steal(&label);
}

/* --- The file --------------------------------------------------------------------------------- */

/* Type and key; the comment behind them is free. */
static size_t key_len(const char *key) {
    size_t len = strcspn(key, " ");

    return key[len] == ' ' ? len + 1 + strcspn(key + len + 1, " ") : len;
}

/* The line has one of the keys, whatever options stand before it. */
static bool has_key(const char *line, size_t len, const char *key) {
    const char *at;

    if (len == 0 || line[strspn(line, " \t")] == '#')
        return false;
    at = memmem(line, len, key, key_len(key));
    return at != NULL && (at + key_len(key) == line + len || strchr(" \t\r", at[key_len(key)]));
}

static bool has_any(const char *line, size_t len, const struct im_strings *keys) {
    for (size_t i = 0; i < keys->count; i++)
        if (has_key(line, len, keys->items[i]))
            return true;
    return false;
}

static size_t line_len(const char *line) {
    size_t len = strcspn(line, "\n");

    return len + (line[len] == '\n');
}

static char *without_keys(const char *text, const struct im_strings *keys, size_t *ret_count) {
    struct im_str out = {0};

    for (const char *line = text; *line != '\0'; line += line_len(line))
        if (has_any(line, strcspn(line, "\n"), keys))
            (*ret_count)++;
        else
            im_str_add_bytes(&out, line, line_len(line));
    return im_str_take(&out);
}

static char *with_keys(const char *text, const struct im_strings *keys, size_t *ret_count) {
    struct im_str out = {0};

    im_str_add(&out, text);
    if (out.len > 0 && out.data[out.len - 1] != '\n')
        im_str_add_char(&out, '\n');
    for (size_t i = 0; i < keys->count; i++) {
        bool there = false;

        for (const char *line = text; *line != '\0' && !there; line += line_len(line))
            there = has_key(line, strcspn(line, "\n"), keys->items[i]);
        if (there)
            continue;
        im_str_addf(&out, "%s\n", keys->items[i]);
        (*ret_count)++;
    }
    return im_str_take(&out);
}

/* Nobody but the user may write there, or sshd does not believe it. */
static void make_folder(struct planning *planning, const char *folder,
                        const struct account *account, const char *label) {
    bool own = lies_within(folder, account->home);
    struct file file;

    if (!is_folder(planning, folder, &file))
        plan_folder(planning, folder, own ? 0700 : 0755, own ? account->uid : 0,
                    own ? account->gid : 0, own ? label : NULL);
}

static void tell_keys(struct planning *planning, const struct account *account, const char *path,
                      bool detach, size_t count) {
    if (count == 0)
        plan_done(planning, "%.160s %s", path,
                  detach ? "has none of the keys" : "has the keys already");
    else
        plan_done(planning, "%zu key%s of user %.64s %s %.160s", count, count == 1 ? "" : "s",
                  account->user, detach ? "taken out of" : "added to", path);
}

static void change_keys(struct planning *planning, const struct guest_login *login,
                        const struct account *account, const char *path) {
    IM_AUTO(free_auto) char *folder = im_strndup(path, (size_t) (strrchr(path, '/') - path));
    bool there = tree_has(planning->tree, path);
    const char *text = there ? draft_text(planning, path) : "";
    size_t count = 0;
    char *changed;

    if (text == NULL || !is_own(planning, folder, account) || !is_own(planning, path, account)) {
        plan_cannot(planning, "%.160s is no text file of user %.64s", path, account->user);
        return;
    }
    changed = login->detach ? without_keys(text, &login->keys, &count)
                            : with_keys(text, &login->keys, &count);
    tell_keys(planning, account, path, login->detach, count);
    if (count > 0) {
        IM_AUTO(free_auto) char *label = there ? NULL : keys_label(planning, account);

        if (!there)
            make_folder(planning, folder, account, label);
        draft_set(planning, path, changed, 0600);
        draft_own(planning, path, account->uid, account->gid, label);
    } else {
        free(changed);
    }
}

void keys_plan(struct planning *planning, const struct guest_login *login,
               const struct account *account) {
    IM_AUTO(free_auto) char *path = NULL;

    if (!home_fits(planning, account))
        return;
    path = keys_path(planning, account);
    if (path[0] != '/' || strstr(path, "/..") != NULL || strcmp(path, "/") == 0)
        plan_cannot(planning, "sshd of this system reads keys from %.160s, which is no file", path);
    else
        change_keys(planning, login, account, path);
}
