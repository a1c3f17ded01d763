/* SPDX-License-Identifier: Apache-2.0 */
/* As much of GRUB's script language as menus are written in: variables, tests that can be answered
 * from the disk, menuentry and submenu, search, configfile, blscfg. Tests that cannot be answered
 * (`if loadfont …`) are taken both ways. Bodies of functions are passed over. */
#include <ctype.h>
#include <stdio.h>

#include "boot-config.h"

enum { WORDS_MAX = 128, DEPTH_MAX = 24, FILES_MAX = 8, COMMANDS_MAX = 20000 };
#define VARIABLES_MAX 200u
#define VALUE_MAX 2048u

struct variable {
    char *name, *value;
};
struct grub {
    struct boot *boot;
    struct variable variables[VARIABLES_MAX];
    size_t variable_count;
    size_t home; /* the part of the file that is read */
    unsigned files, commands;
    size_t within, entry; /* the submenu; the entry whose body is read; NOWHERE outside */
    bool ended;
};
struct script {
    const char *at;
};
struct words {
    char *items[WORDS_MAX];
    bool plain[WORDS_MAX]; /* without quotes: may be a word of the language */
    size_t count;
};

static void run_script(struct grub *grub, size_t part, const char *path);

/* --- Variables -------------------------------------------------------------------------------- */

static const char *get(void *arg, const char *name) {
    const struct grub *grub = arg;

    for (size_t i = 0; i < grub->variable_count; i++)
        if (strcmp(grub->variables[i].name, name) == 0)
            return grub->variables[i].value;
    return im_starts_with(name, "feature_") ? "y" : "";
}

static void set(struct grub *grub, const char *name, const char *value) {
    size_t i = 0;

    while (i < grub->variable_count && strcmp(grub->variables[i].name, name) != 0)
        i++;
    if (i == VARIABLES_MAX || strlen(value) > VALUE_MAX)
        return;
    if (i == grub->variable_count)
        grub->variables[grub->variable_count++] = (struct variable){.name = im_strdup(name)};
    im_replace(&grub->variables[i].value, value);
}

/* --- Words ------------------------------------------------------------------------------------ */

static void words_done(struct words *words) {
    for (size_t i = 0; i < words->count; i++)
        free(words->items[i]);
    words->count = 0;
}

static bool in_name(char c) { return isalnum((unsigned char) c) || c == '_'; }

/* At "$": adds the value, and leaves `at` behind the name. */
static const char *add_variable(struct grub *grub, const char *at, struct im_str *word) {
    bool braced = at[1] == '{';
    const char *begin = at + 1 + braced;
    size_t len = 0;
    char name[64];

    while (in_name(begin[len]))
        len++;
    if (begin[len] == '?' && len == 0)
        len = 1;
    if (len == 0 || len >= sizeof(name)) {
        im_str_add_char(word, '$');
        return at + 1;
    }
    memcpy(name, begin, len);
    name[len] = '\0';
    if (word->len < VALUE_MAX)
        im_str_add(word, get(grub, name));
    return begin + len + (braced && begin[len] == '}');
}

static const char *add_quoted(struct grub *grub, const char *at, struct im_str *word) {
    char quote = *at++;

    while (*at != '\0' && *at != quote) {
        if (quote == '"' && *at == '\\' && at[1] != '\0') {
            if (at[1] != '\n')
                im_str_add_char(word, at[1]);
            at += 2;
        } else if (quote == '"' && *at == '$') {
            at = add_variable(grub, at, word);
        } else {
            im_str_add_char(word, *at++);
        }
    }
    return *at == quote ? at + 1 : at;
}

/* What an unquoted variable stands for may be several words, or none. */
static void add_words(struct words *words, struct im_str *word, bool quoted, bool expanded) {
    struct im_strings pieces = {0};

    if (!expanded || quoted) {
        words->plain[words->count] = !quoted;
        words->items[words->count++] = im_str_take(word);
        return;
    }
    im_strings_split(&pieces, word->len > 0 ? word->data : "", " \t\n");
    for (size_t i = 0; i < pieces.count && words->count < WORDS_MAX; i++) {
        words->plain[words->count] = false;
        words->items[words->count++] = im_strdup(pieces.items[i]);
    }
    im_strings_done(&pieces);
    im_str_done(word);
}

static bool ends_word(char c) {
    return c == '\0' || c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ';';
}

static void take_word(struct grub *grub, struct script *script, struct words *words) {
    struct im_str word = {0};
    bool quoted = false, expanded = false;
    const char *at = script->at;

    while (!ends_word(*at)) {
        if (*at == '\'' || *at == '"') {
            quoted = true;
            at = add_quoted(grub, at, &word);
        } else if (*at == '\\' && at[1] != '\0') {
            if (at[1] != '\n')
                im_str_add_char(&word, at[1]);
            at += 2;
        } else if (*at == '$') {
            expanded = true;
            at = add_variable(grub, at, &word);
        } else {
            im_str_add_char(&word, *at++);
        }
    }
    script->at = at;
    add_words(words, &word, quoted, expanded);
}

/* The next command; `ret_opens`: a "{" is its last word. False at the end of the text. "}" is a
 * command of its own. */
static bool take_command(struct grub *grub, struct script *script, struct words *words,
                         bool *ret_opens) {
    *ret_opens = false;
    words_done(words);
    while (*script->at != '\0' && words->count < WORDS_MAX) {
        char c = *script->at;

        if (c == '\n' || c == ';' || c == '\r') {
            script->at++;
            if (words->count > 0)
                return true;
        } else if (c == ' ' || c == '\t') {
            script->at++;
        } else if (c == '#') {
            script->at += strcspn(script->at, "\n");
        } else if (c == '{' && words->count > 0 && ends_word(script->at[1])) {
            script->at++;
            *ret_opens = true;
            return true;
        } else if (c == '}' && ends_word(script->at[1])) {
            if (words->count > 0)
                return true;
            script->at++;
            words->plain[0] = true;
            words->items[words->count++] = im_strdup("}");
            return true;
        } else {
            take_word(grub, script, words);
        }
    }
    return words->count > 0;
}

/* --- Devices and files ------------------------------------------------------------------------ */

static size_t part_numbered(const struct boot *boot, unsigned number) {
    for (size_t i = 0; i < boot->look->found->part_count; i++)
        if (boot->look->found->parts[i].number == number && number > 0)
            return i;
    return NOWHERE;
}

static size_t part_checked(const struct boot *boot, const char *text) {
    size_t part = (size_t) strtoul(text, NULL, 10);

    return part < boot->look->found->part_count ? part : NOWHERE;
}

/* "part,3" is our own word for what `search` found; else "hd0,gpt2", "lvm/vg-lv" … */
static size_t device_part(const struct grub *grub, const char *device, size_t len) {
    IM_AUTO(free_auto) char *name = im_strndup(device, len);
    const char *comma = strrchr(name, ',');

    if (im_starts_with(name, "part,"))
        return part_checked(grub->boot, name + 5);
    if (im_starts_with(name, "lvm/")) {
        IM_AUTO(free_auto) char *path = im_printf("/dev/mapper/%s", name + 4);

        return boot_part_index(grub->boot, part_named(grub->boot->look, path));
    }
    if (comma == NULL || (im_starts_with(name, "hd") && !im_starts_with(name, "hd0")))
        return NOWHERE;
    comma += 1 + strcspn(comma + 1, "0123456789");
    return part_numbered(grub->boot, (unsigned) strtoul(comma, NULL, 10));
}

/* "(device)/path", or a path on $root. */
static struct boot_file file_of(struct grub *grub, const char *text) {
    const char *root = get(grub, "root"), *close = strchr(text, ')');

    if (text[0] == '(' && close != NULL)
        return (struct boot_file){device_part(grub, text + 1, (size_t) (close - text - 1)),
                                  im_strdup(close + 1)};
    return (struct boot_file){device_part(grub, root, strlen(root)), im_strdup(text)};
}

static enum boot_answer find(struct grub *grub, const char *text, struct file *ret_file) {
    struct boot_file file = file_of(grub, text);
    enum boot_answer answer =
        boot_find(grub->boot, file.part, file.path[0] == '\0' ? "/" : file.path, ret_file);

    free(file.path);
    return answer;
}

static struct boot_entry *entry_of(struct grub *grub) {
    return grub->entry != NOWHERE ? &grub->boot->menu.entries[grub->entry] : NULL;
}

/* --- search ----------------------------------------------------------------------------------- */

struct search {
    const char *variable, *what;
    char kind; /* 'u'uid, 'l'abel, 'f'ile */
};

static struct search take_search(const struct words *words) {
    struct search search = {.variable = "root", .kind = 'f'};

    if (im_starts_with(words->items[0], "search.")) {
        search.kind = words->items[0][strlen("search.fs_")];
        search.what = words->count > 1 ? words->items[1] : NULL;
        search.variable = words->count > 2 ? words->items[2] : "root";
        return search;
    }
    for (size_t i = 1; i < words->count; i++) {
        const char *word = words->items[i];

        if (strcmp(word, "--fs-uuid") == 0 || strcmp(word, "-u") == 0)
            search.kind = 'u';
        else if (strcmp(word, "--label") == 0 || strcmp(word, "--fs-label") == 0 ||
                 strcmp(word, "-l") == 0)
            search.kind = 'l';
        else if (im_starts_with(word, "--set="))
            search.variable = word + strlen("--set=");
        else if (strcmp(word, "--set") == 0 && i + 2 < words->count &&
                 words->items[i + 1][0] != '-')
            search.variable = words->items[++i];
        else if ((strcmp(word, "--hint") == 0 || strcmp(word, "-h") == 0) && i + 1 < words->count)
            i++;
        else if (word[0] != '-' && search.what == NULL)
            search.what = word;
    }
    return search;
}

static size_t search_part(struct grub *grub, const struct search *search) {
    const struct look *look = grub->boot->look;

    for (size_t i = 0; i < look->found->part_count; i++) {
        const struct guest_part *part = &look->found->parts[i];
        struct file file;

        if (search->kind == 'u'   ? strcasecmp(part->uuid, search->what) == 0
            : search->kind == 'l' ? strcmp(part->label, search->what) == 0
                                  : boot_find(grub->boot, i, search->what, &file) == BOOT_FOUND)
            return i;
    }
    return NOWHERE;
}

/* What is not found leaves the variable as it is, in GRUB too. */
static bool run_search(struct grub *grub, const struct words *words) {
    struct search search = take_search(words);
    struct boot_entry *entry = entry_of(grub);
    char device[32];
    size_t part;

    if (search.what == NULL || search.what[0] == '\0')
        return false;
    part = search_part(grub, &search);
    if (part != NOWHERE) {
        snprintf(device, sizeof(device), "part,%zu", part);
        set(grub, search.variable, device);
        return true;
    }
    if (search.kind != 'f' && !look_hides_something(grub->boot->look))
        im_replace(entry != NULL ? &entry->lost : &grub->boot->menu.lost, search.what);
    return false;
}

static const char *option(const struct words *words, const char *name) {
    for (size_t i = 1; i < words->count; i++) {
        size_t len = strlen(name);

        if (strcmp(words->items[i], name) == 0 && i + 1 < words->count)
            return words->items[i + 1];
        if (strncmp(words->items[i], name, len) == 0 && words->items[i][len] == '=')
            return words->items[i] + len + 1;
    }
    return "";
}

/* --- Commands --------------------------------------------------------------------------------- */

/* grubenv: lines of name=value behind a line of comment. */
static void load_env(struct grub *grub, const char *given) {
    IM_AUTO(free_auto)
    char *path = given[0] != '\0' ? im_strdup(given) : im_printf("%s/grubenv", get(grub, "prefix"));
    struct boot_file file = file_of(grub, path);
    IM_AUTO(free_auto) char *text = boot_text(grub->boot, file.part, file.path);
    char *at = text, *line;

    free(file.path);
    while (text != NULL && (line = text_line(&at)) != NULL) {
        char *equals = strchr(line, '=');

        if (line[0] == '#' || equals == NULL)
            continue;
        *equals = '\0';
        set(grub, line, equals + 1);
    }
}

static char *join(const struct words *words, size_t from) {
    struct im_str text = {0};

    for (size_t i = from; i < words->count && text.len < 4096; i++)
        im_str_addf(&text, "%s%s", i > from ? " " : "", words->items[i]);
    return im_str_take(&text);
}

static size_t first_argument(const struct words *words) {
    size_t i = 1;

    while (i < words->count && im_starts_with(words->items[i], "--"))
        i++;
    return i;
}

static void run_linux(struct grub *grub, const struct words *words) {
    size_t first = first_argument(words);
    struct boot_entry *entry = entry_of(grub);

    if (entry == NULL || first >= words->count)
        return;
    free(entry->kernel.path);
    free(entry->cmdline);
    entry->kernel = file_of(grub, words->items[first]);
    entry->cmdline = join(words, first + 1);
}

static void run_initrd(struct grub *grub, const struct words *words) {
    struct boot_entry *entry = entry_of(grub);

    for (size_t i = first_argument(words); entry != NULL && i < words->count; i++) {
        struct boot_file file = file_of(grub, words->items[i]);

        boot_entry_initrd(entry, file.part, file.path);
        free(file.path);
    }
}

static void run_set(struct grub *grub, const struct words *words) {
    for (size_t i = 1; i < words->count; i++) {
        char *equals = strchr(words->items[i], '=');

        if (equals == NULL)
            continue;
        *equals = '\0';
        set(grub, words->items[i], equals + 1);
    }
}

static void run_file(struct grub *grub, const char *text) {
    struct boot_file file = file_of(grub, text);

    run_script(grub, file.part, file.path);
    free(file.path);
}

static void run_blscfg(struct grub *grub) {
    static const char *const folders[] = {"/loader/entries", "/boot/loader/entries"};
    size_t before = grub->boot->menu.count;
    struct boot_file file = file_of(grub, "");

    for (size_t i = 0; i < 2 && grub->boot->menu.count == before; i++)
        boot_entries(grub->boot, file.part, folders[i], get, grub);
    for (size_t i = 0; i < 2 && grub->boot->menu.count == before; i++)
        boot_entries(grub->boot, grub->home, folders[i], get, grub);
    free(file.path);
}

static void run_terminal(struct grub *grub, const struct words *words) {
    for (size_t i = 1; i < words->count; i++) {
        grub->boot->menu.serial |= im_starts_with(words->items[i], "serial");
        grub->boot->menu.graphic |= strcmp(words->items[i], "gfxterm") == 0;
    }
}

static bool run_hand_over(struct grub *grub, const struct words *words) {
    const char *name = words->items[0];

    if ((strcmp(name, "configfile") == 0 || strcmp(name, "source") == 0 || strcmp(name, ".") == 0 ||
         strcmp(name, "extract_entries_configfile") == 0) &&
        words->count > 1) {
        run_file(grub, words->items[1]);
        grub->ended |= strcmp(name, "configfile") == 0 && grub->boot->menu.count > 0;
    } else if (strcmp(name, "normal") == 0) {
        IM_AUTO(free_auto)
        char *path = words->count > 1 ? im_strdup(words->items[1])
                                      : im_printf("%s/grub.cfg", get(grub, "prefix"));

        run_file(grub, path);
    } else {
        return false;
    }
    return true;
}

static void run_command(struct grub *grub, const struct words *words) {
    const char *name = words->items[0];

    if (im_starts_with(name, "linux"))
        run_linux(grub, words);
    else if (im_starts_with(name, "initrd"))
        run_initrd(grub, words);
    else if (strcmp(name, "set") == 0)
        run_set(grub, words);
    else if (strchr(name, '=') != NULL && in_name(name[0]))
        run_set(grub, &(struct words){.items = {NULL, words->items[0]}, .count = 2});
    else if (strcmp(name, "unset") == 0 && words->count > 1)
        set(grub, words->items[1], "");
    else if (strcmp(name, "search") == 0 || im_starts_with(name, "search.fs_"))
        (void) run_search(grub, words);
    else if (strcmp(name, "load_env") == 0)
        load_env(grub, words->count > 2 && strcmp(words->items[1], "-f") == 0
                           ? words->items[2]
                           : option(words, "--file"));
    else if (strcmp(name, "blscfg") == 0 || strcmp(name, "bls_import") == 0)
        run_blscfg(grub);
    else if (im_starts_with(name, "terminal"))
        run_terminal(grub, words);
    else
        (void) run_hand_over(grub, words);
}

/* --- Tests ------------------------------------------------------------------------------------ */

enum truth { FALSE, TRUE, EITHER };

static enum truth test_file(struct grub *grub, char kind, const char *path) {
    struct file file;
    enum boot_answer answer = find(grub, path, &file);

    if (answer != BOOT_FOUND)
        return answer == BOOT_MISSING ? FALSE : EITHER;
    return kind == 'd'   ? file.facts.kind == NODE_FOLDER
           : kind == 'f' ? file.facts.kind == NODE_FILE
           : kind == 's' ? file.facts.kind == NODE_FILE && file.facts.size > 0
                         : TRUE;
}

/* `[ … ]` with one question in it. */
static enum truth test_one(struct grub *grub, char *const *items, size_t count) {
    if (count > 0 && strcmp(items[0], "!") == 0) {
        enum truth truth = test_one(grub, items + 1, count - 1);

        return truth == EITHER ? EITHER : truth == TRUE ? FALSE : TRUE;
    }
    if (count == 0)
        return FALSE;
    if (count == 1)
        return items[0][0] != '\0';
    if (count == 2 && items[0][0] == '-' && strchr("dfse", items[0][1]) != NULL)
        return test_file(grub, items[0][1], items[1]);
    if (count == 2 && strcmp(items[0], "-n") == 0)
        return items[1][0] != '\0';
    if (count == 2 && strcmp(items[0], "-z") == 0)
        return items[1][0] == '\0';
    if (count == 3 && (strcmp(items[1], "=") == 0 || strcmp(items[1], "==") == 0))
        return strcmp(items[0], items[2]) == 0;
    if (count == 3 && strcmp(items[1], "!=") == 0)
        return strcmp(items[0], items[2]) != 0;
    return EITHER;
}

/* Questions joined by -a, which binds closer, and -o. The first that joins them is the one that
 * the rest hangs on, so a chain of either is answered from its left. */
static enum truth test(struct grub *grub, char *const *items, size_t count) {
    static const struct {
        const char *word;
        enum truth decides; /* what one side says alone */
    } joints[] = {{"-o", TRUE}, {"-a", FALSE}};

    for (size_t i = 0; i < 2; i++)
        for (size_t at = 1; at + 1 < count; at++) {
            enum truth left, right;

            if (strcmp(items[at], joints[i].word) != 0)
                continue;
            left = test(grub, items, at);
            if (left == joints[i].decides)
                return left;
            right = test(grub, items + at + 1, count - at - 1);
            return right == joints[i].decides || left != EITHER ? right : EITHER;
        }
    return test_one(grub, items, count);
}

static enum truth condition(struct grub *grub, const struct words *words) {
    size_t first = 1, last = words->count;

    if (last > first && strcmp(words->items[first], "[") == 0 &&
        strcmp(words->items[last - 1], "]") == 0)
        return test(grub, words->items + first + 1, last - first - 2);
    if (last > first && strcmp(words->items[first], "test") == 0)
        return test(grub, words->items + first + 1, last - first - 1);
    return EITHER;
}

/* --- Blocks ----------------------------------------------------------------------------------- */

enum block { BLOCK_IF, BLOCK_ENTRY, BLOCK_SUBMENU, BLOCK_OTHER };
struct frame {
    enum block block;
    bool ran;     /* what is around it */
    bool decided; /* BLOCK_IF: a branch was taken for sure */
    size_t entry, within;
    char *root; /* owned: as it was before an entry set its own */
};
struct run {
    struct grub *grub;
    struct script script;
    struct frame frames[DEPTH_MAX];
    size_t depth;
    bool runs; /* the commands here are carried out */
};

static bool is(const struct words *words, const char *word) {
    return words->count > 0 && words->plain[0] && strcmp(words->items[0], word) == 0;
}

/* The entry that is started may be in what was not read. */
static void give_up(struct grub *grub) {
    grub->ended = true;
    look_end(grub->boot->look, "the boot menu is too long: not all of it was looked at");
}

static struct frame *push(struct run *run, enum block block) {
    struct frame *frame = &run->frames[run->depth];

    if (run->depth == DEPTH_MAX) {
        give_up(run->grub);
        return NULL;
    }
    *frame = (struct frame){block, run->runs, false, run->grub->entry, run->grub->within, NULL};
    run->depth++;
    return frame;
}

static void pop(struct run *run) {
    struct frame *frame = &run->frames[--run->depth];

    run->runs = frame->ran;
    run->grub->entry = frame->entry;
    run->grub->within = frame->within;
    if (frame->root != NULL)
        set(run->grub, "root", frame->root);
    free(frame->root);
}

static void decide(struct run *run, struct frame *frame, enum truth truth) {
    run->runs = frame->ran && !frame->decided && truth != FALSE;
    frame->decided |= truth == TRUE;
}

/* True if the command is a word of the language for branches. */
static bool branch(struct run *run, const struct words *words) {
    struct frame *frame = run->depth > 0 ? &run->frames[run->depth - 1] : NULL;
    bool within = frame != NULL && frame->block == BLOCK_IF;

    if (is(words, "if")) {
        frame = push(run, BLOCK_IF);
        if (frame != NULL)
            decide(run, frame, run->runs ? condition(run->grub, words) : FALSE);
    } else if (is(words, "elif")) {
        if (within)
            decide(run, frame, frame->ran && !frame->decided ? condition(run->grub, words) : FALSE);
    } else if (is(words, "else")) {
        if (within)
            decide(run, frame, TRUE);
    } else if (is(words, "fi")) {
        if (within)
            pop(run);
    } else {
        return false;
    }
    return true;
}

static void open_block(struct run *run, const struct words *words) {
    struct grub *grub = run->grub;
    bool entry = strcmp(words->items[0], "menuentry") == 0,
         submenu = strcmp(words->items[0], "submenu") == 0;
    struct frame *frame = push(run, entry ? BLOCK_ENTRY : submenu ? BLOCK_SUBMENU : BLOCK_OTHER);
    struct boot_entry *added = NULL;

    if (frame == NULL)
        return;
    if (run->runs && (entry || submenu) && words->count > 1)
        added = boot_entry_add(&grub->boot->menu, words->items[1], option(words, "--id"));
    run->runs = added != NULL;
    if (added == NULL)
        return;
    frame->root = im_strdup(get(grub, "root"));
    added->within = grub->within;
    added->submenu = submenu;
    if (submenu)
        grub->within = grub->boot->menu.count - 1;
    else
        grub->entry = grub->boot->menu.count - 1;
}

/* "then" and "do" may have a command behind them. */
static void drop_word(struct words *words) {
    free(words->items[0]);
    words->count--;
    memmove(words->items, words->items + 1, words->count * sizeof(words->items[0]));
    memmove(words->plain, words->plain + 1, words->count * sizeof(words->plain[0]));
}

static void carry_out(struct run *run, struct words *words, bool opens) {
    while (words->count > 0 && (is(words, "then") || is(words, "do")))
        drop_word(words);
    if (is(words, "else") && words->count > 1) {
        (void) branch(run, words);
        drop_word(words);
    }
    if (words->count == 0 || branch(run, words))
        return;
    if (is(words, "}")) {
        if (run->depth > 0 && run->frames[run->depth - 1].block != BLOCK_IF)
            pop(run);
    } else if (opens) {
        open_block(run, words);
    } else if (run->runs) {
        run_command(run->grub, words);
    }
}

static void run_text(struct grub *grub, const char *text) {
    IM_AUTO(free_auto) struct run *run = im_alloc(sizeof(*run));
    IM_AUTO(free_auto) struct words *words = im_alloc(sizeof(*words));
    bool opens;

    run->grub = grub;
    run->script.at = text;
    run->runs = true;
    while (!grub->ended && take_command(grub, &run->script, words, &opens)) {
        if (++grub->commands > COMMANDS_MAX)
            give_up(grub);
        if (words->count > 0)
            carry_out(run, words, opens);
    }
    while (run->depth > 0)
        pop(run);
    words_done(words);
}

/* --- Files ------------------------------------------------------------------------------------ */

/* Without a slash at its end; "" is the root. */
static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');

    return im_strndup(path, slash != NULL ? (size_t) (slash - path) : 0);
}

static void run_script(struct grub *grub, size_t part, const char *path) {
    IM_AUTO(free_auto) char *text = NULL;
    IM_AUTO(free_auto) char *folder = folder_of(path);
    IM_AUTO(free_auto) char *directory = im_printf("(part,%zu)%s", part, folder);
    size_t home = grub->home;

    if (grub->files == FILES_MAX || part == NOWHERE ||
        (text = boot_text(grub->boot, part, path)) == NULL)
        return;
    grub->files++;
    grub->home = part;
    set(grub, "config_directory", directory);
    snprintf(grub->boot->menu.config, sizeof(grub->boot->menu.config), "%s on %s", path,
             grub->boot->look->found->parts[part].name);
    grub->boot->menu.part = part;
    run_text(grub, text);
    if (!grub->ended && strlen(text) == CONFIG_BYTES)
        give_up(grub);
    grub->home = home;
}

void boot_grub(struct boot *boot, size_t part, const char *path) {
    IM_AUTO(free_auto) struct grub *grub = im_alloc(sizeof(*grub));
    IM_AUTO(free_auto) char *root = im_printf("part,%zu", part);
    IM_AUTO(free_auto) char *folder = folder_of(path);
    IM_AUTO(free_auto) char *prefix = im_printf("(%s)%s", root, folder);
    bool uefi = boot->look->found->uefi && !boot->look->found->bios;

    *grub = (struct grub){.boot = boot, .home = part, .within = NOWHERE, .entry = NOWHERE};
    set(grub, "root", root);
    set(grub, "prefix", prefix);
    set(grub, "grub_platform", uefi ? "efi" : "pc");
    set(grub, "grub_cpu", uefi ? "x86_64" : "i386");
    set(grub, "menuentry_id_option", "--id");
    boot->menu.loader = "grub";
    run_script(grub, part, path);
    im_replace(&boot->menu.wanted, get(grub, "default"));
    for (size_t i = 0; i < grub->variable_count; i++) {
        free(grub->variables[i].name);
        free(grub->variables[i].value);
    }
}
