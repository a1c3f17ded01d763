/* SPDX-License-Identifier: Apache-2.0 */
/* A user's password in the system's own files. Only its hash is known here, and it is not shown. */
#include <stdio.h>

#include "repair-private.h"

#define PASSWD "/etc/passwd"
#define SHADOW "/etc/shadow"
#define HIDDEN "(hidden)"
enum { NAME_MAX_LEN = 64, HASH_MAX = 512, KEY_MAX = 16384 };
enum { PASSWD_HASH = 1, PASSWD_UID, PASSWD_GID, PASSWD_HOME = 5, PASSWD_SHELL };
enum { SHADOW_HASH = 1, SHADOW_CHANGED, SHADOW_EXPIRES = 7 };

/* --- Lines of fields with colons between ------------------------------------------------------ */

static size_t field_len(const char *at) { return strcspn(at, ":\n"); }

/* NULL: the line has fewer. */
static const char *field_at(const char *line, unsigned field) {
    for (; field > 0; field--) {
        line += field_len(line);
        if (*line++ != ':')
            return NULL;
    }
    return line;
}

static char *field_text(const char *line, unsigned field) {
    const char *at = field_at(line, field);

    return at != NULL ? im_strndup(at, field_len(at)) : im_strdup("");
}

static const char *next_line(const char *line) {
    line += strcspn(line, "\n");
    return *line == '\n' ? line + 1 : line;
}

/* The user's; the first counts, as for the C library. */
static const char *line_of(const char *text, const char *user) {
    size_t len = strlen(user);

    for (const char *line = text; *line != '\0'; line = next_line(line))
        if (strncmp(line, user, len) == 0 && line[len] == ':')
            return line;
    return NULL;
}

static char *replaced(const char *text, const char *at, size_t len, const char *with) {
    return im_printf("%.*s%s%s", (int) (at - text), text, with, at + len);
}

static void set_field(char **text, const char *user, unsigned field, const char *value) {
    const char *at = field_at(line_of(*text, user), field);
    char *changed = replaced(*text, at, field_len(at), value);

    free(*text);
    *text = changed;
}

/* --- What is shown of them -------------------------------------------------------------------- */

/* "*", "!" and "x" are no hashes, and a lock stands before one. */
static void put_hidden(struct im_str *out, const char *field, size_t len, const char *fresh) {
    size_t marks = strspn(field, "!*");

    if (marks > len)
        marks = len;
    im_str_add_bytes(out, field, marks);
    if (len - marks <= 1)
        im_str_add_bytes(out, field + marks, len - marks);
    else
        im_str_add(out, strlen(fresh) == len && strncmp(field, fresh, len) == 0 ? "(new)" : HIDDEN);
}

char *hashes_hidden(const char *text, const char *fresh) {
    struct im_str out = {0};

    if (text == NULL)
        return NULL;
    for (const char *line = text; *line != '\0'; line = next_line(line)) {
        const char *at = field_at(line, PASSWD_HASH);
        const char *end = next_line(line);

        if (at == NULL) {
            im_str_add(&out, end[-1] == '\n' ? HIDDEN "\n" : HIDDEN);
            continue;
        }
        im_str_add_bytes(&out, line, (size_t) (at - line));
        put_hidden(&out, at, field_len(at), fresh);
        at += field_len(at);
        im_str_add_bytes(&out, at, (size_t) (end - at));
    }
    return im_str_take(&out);
}

/* --- The account ------------------------------------------------------------------------------ */

static bool take_number(const char *line, unsigned field, uint32_t *ret_number) {
    IM_AUTO(free_auto) char *text = field_text(line, field);
    int64_t number;

    if (!im_parse_i64(text, 0, UINT32_MAX - 1, &number))
        return false;
    *ret_number = (uint32_t) number;
    return true;
}

/* False, and told, when there is none. */
static bool take_account(struct planning *planning, const char *passwd, const char *user,
                         struct account *account) {
    const char *line = line_of(passwd, user);

    if (line == NULL || field_at(line, PASSWD_HOME) == NULL ||
        !take_number(line, PASSWD_UID, &account->uid) ||
        !take_number(line, PASSWD_GID, &account->gid)) {
        plan_cannot(planning,
                    line == NULL ? PASSWD " has no user %s: choose one that it has"
                                 : "the line of user %s in " PASSWD " is damaged",
                    user);
        return false;
    }
    account->user = user;
    account->home = field_text(line, PASSWD_HOME);
    account->shell = field_text(line, PASSWD_SHELL);
    return true;
}

static void account_done(struct account *account) {
    free(account->home);
    free(account->shell);
}

static const char *choose_user(const struct planning *planning, const char *passwd,
                               const char *wanted) {
    const char *maker = planning->look->found->os.user;

    if (!im_str_empty(wanted))
        return wanted;
    return maker[0] != '\0' && line_of(passwd, maker) != NULL ? maker : "root";
}

/* --- The password ----------------------------------------------------------------------------- */

/* As one with a password says it, for what else keeps the user out. */
static char *other_bars(const struct account *account, const char *shadow, int64_t day) {
    const char *line = shadow != NULL ? line_of(shadow, account->user) : NULL;
    IM_AUTO(free_auto) char *expires = line ? field_text(line, SHADOW_EXPIRES) : im_strdup("");
    int64_t last;

    if (im_parse_i64(expires, 0, INT32_MAX, &last) && last <= day)
        return im_strdup("; the account has expired, which stays so");
    if (im_ends_with(account->shell, "/nologin") || im_ends_with(account->shell, "/false"))
        return im_printf("; its shell %.80s lets nobody in, which stays so", account->shell);
    return im_strdup("");
}

static bool is_locked(const char *shadow, const char *user) {
    const char *line = shadow != NULL ? line_of(shadow, user) : NULL;
    const char *at = line != NULL ? field_at(line, SHADOW_HASH) : NULL;

    return at != NULL && (*at == '!' || *at == '*');
}

static void tell_password(struct planning *planning, const struct account *account,
                          const char *shadow, int64_t day) {
    IM_AUTO(free_auto) char *bars = other_bars(account, shadow, day);

    plan_done(planning, "user %.64s has a new password%s%s", account->user,
              is_locked(shadow, account->user) ? ", and the account is unlocked" : "", bars);
}

/* ALT Linux keeps a file for each user. */
static char *shadow_path(const struct planning *planning, const char *user) {
    IM_AUTO(free_auto) char *own = im_printf("/etc/tcb/%s/shadow", user);

    return tree_has(planning->tree, own) ? im_steal(&own) : im_strdup(SHADOW);
}

/* The other fields stay. A line that the C library would not take is made anew. */
static char *with_password(const char *shadow, const struct account *account,
                           const struct guest_login *login) {
    IM_AUTO(free_auto) char *day = im_printf("%lld", (long long) login->day);
    IM_AUTO(free_auto)
    char *fresh = im_printf("%s:%s:%s:0:99999:7:::", account->user, login->hash, day);
    const char *line = line_of(shadow, account->user);
    size_t len = strlen(shadow);
    char *text;

    if (line == NULL)
        return im_printf("%s%s%s\n", shadow, len > 0 && shadow[len - 1] != '\n' ? "\n" : "", fresh);
    if (field_at(line, SHADOW_CHANGED) == NULL)
        return replaced(shadow, line, strcspn(line, "\n"), fresh);
    text = im_strdup(shadow);
    set_field(&text, account->user, SHADOW_HASH, login->hash);
    set_field(&text, account->user, SHADOW_CHANGED, day);
    return text;
}

/* Into /etc/passwd itself where the system has no other place for it. */
static void set_in_passwd(struct planning *planning, const struct account *account,
                          const char *hash) {
    char *text = im_strdup(draft_text(planning, PASSWD));

    set_field(&text, account->user, PASSWD_HASH, hash);
    draft_set(planning, PASSWD, text, 0644);
    draft_hide(planning, PASSWD);
}

static void set_password(struct planning *planning, const struct account *account,
                         const struct guest_login *login) {
    IM_AUTO(free_auto) char *path = shadow_path(planning, account->user);
    const char *shadow;

    if (!tree_has(planning->tree, path)) {
        set_in_passwd(planning, account, login->hash);
        tell_password(planning, account, NULL, login->day);
        return;
    }
    shadow = draft_text(planning, path);
    if (shadow == NULL) {
        plan_cannot(planning, "%s is no text file that could be changed", path);
        return;
    }
    tell_password(planning, account, shadow, login->day);
    draft_set(planning, path, with_password(shadow, account, login), 0600);
    draft_hide(planning, path);
    set_in_passwd(planning, account, "x");
}

/* --- All of it -------------------------------------------------------------------------------- */

static bool is_line(const char *text, size_t most) {
    size_t len = strlen(text);

    for (size_t i = 0; i < len; i++)
        if ((unsigned char) text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return len > 0 && len <= most && im_utf8_valid(text, len);
}

bool login_check(const struct guest_login *login, struct im_err *err) {
    if (!im_str_empty(login->user) &&
        (!is_line(login->user, NAME_MAX_LEN) || strpbrk(login->user, ":/ ") != NULL))
        return im_fail(err, IM_BAD_MESSAGE, "that is no name of a user");
    if (!im_str_empty(login->hash) &&
        (!is_line(login->hash, HASH_MAX) || strpbrk(login->hash, ":!* ") != NULL ||
         strlen(login->hash) < 13))
        return im_fail(err, IM_BAD_MESSAGE, "that is no hash of a password");
    for (size_t i = 0; i < login->keys.count; i++)
        if (!is_line(login->keys.items[i], KEY_MAX))
            return im_fail(err, IM_BAD_MESSAGE, "key %zu is no line for authorized_keys", i + 1);
    return true;
}

/* Users of other systems are kept elsewhere, too. */
static const char *read_users(struct planning *planning) {
    const struct guest_os *os = &planning->look->found->os;
    const char *passwd = planning->tree != NULL ? draft_text(planning, PASSWD) : NULL;

    if (os->platform[0] != '\0' && strcmp(os->platform, "linux") != 0)
        plan_cannot(planning, "%.80s is no Linux: passwords and keys can be set while it runs",
                    os->name[0] != '\0' ? os->name : "the system");
    else if (planning->tree == NULL)
        plan_cannot(planning, "no system was found on the disk");
    else if (passwd == NULL)
        plan_cannot(planning, PASSWD " is no text file that could be read");
    else
        return passwd;
    return NULL;
}

void login_plan(struct planning *planning, const struct guest_login *login) {
    IM_AUTO(account_done) struct account account = {0};
    IM_AUTO(free_auto) char *user = NULL;
    const char *passwd;

    planning->code = im_str_empty(login->hash) ? "keys" : "password";
    passwd = read_users(planning);
    if (passwd == NULL)
        return;
    user = im_strdup(choose_user(planning, passwd, login->user));
    if (!take_account(planning, passwd, user, &account))
        return;
    if (!im_str_empty(login->hash))
        set_password(planning, &account, login);
    planning->code = "keys";
    if (login->keys.count > 0)
        keys_plan(planning, login, &account);
}
