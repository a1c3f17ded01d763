/* SPDX-License-Identifier: Apache-2.0 */
/* Words of the command line: finds noun, verb and options in the tables, checks values, and says
 * what was probably meant. */
#include "cli-private.h"

#include <string.h>

/* --- Did you mean ----------------------------------------------------------------------------- */

static size_t distance(const char *a, const char *b) {
    size_t n = strlen(b), row[64];

    if (n >= sizeof(row) / sizeof(row[0]))
        return SIZE_MAX;
    for (size_t j = 0; j <= n; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t corner = row[0];

        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = corner + (a[i - 1] != b[j - 1]);

            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            corner = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

const char *cli_nearest(const char *word, const char *const *words, size_t count) {
    size_t len = strlen(word), best = len < 4 ? 2 : 3;
    const char *nearest = NULL;

    for (size_t i = 0; i < count; i++) {
        size_t d = distance(word, words[i]);

        if (len > 2 && d >= best &&
            (im_starts_with(words[i], word) || im_starts_with(word, words[i])))
            d = best - 1;
        if (d < best) {
            best = d;
            nearest = words[i];
        }
    }
    return nearest;
}

/* ", did you mean X?" as a hint, when something is near. */
static void suggest(struct cli *cli, const char *word, const char *const *words, size_t count,
                    const char *prefix) {
    const char *nearest = cli_nearest(word, words, count);

    if (nearest != NULL)
        cli_hint(cli, "did you mean %s%s?", prefix, nearest);
}

/* --- Tables -------------------------------------------------------------------------------------
 */

const struct option cli_no_options[] = {{0}};

const struct noun *cli_noun_find(const char *name) {
    for (const struct noun *noun = cli_nouns; noun->name != NULL; noun++)
        if (strcmp(noun->name, name) == 0)
            return noun;
    /* the plural is what one types half of the time */
    for (const struct noun *noun = cli_nouns; noun->name != NULL; noun++)
        if (im_starts_with(name, noun->name) && strcmp(name + strlen(noun->name), "s") == 0)
            return noun;
    return NULL;
}

const struct command *cli_command_find(const struct noun *noun, const char *verb) {
    for (const struct command *command = noun->commands; command->verb != NULL; command++)
        if (strcmp(command->verb, verb) == 0)
            return command;
    return NULL;
}

void cli_option_tables(const struct command *command, const struct option *ret_tables[5]) {
    size_t count = 0;

    if (command != NULL) {
        ret_tables[count++] = command->options;
        if (command->groups & GROUP_LIST)
            ret_tables[count++] = cli_list_options;
        if (command->groups & GROUP_WAIT)
            ret_tables[count++] = cli_wait_options;
    }
    ret_tables[count++] = cli_global_options;
    ret_tables[count] = NULL;
}

static const struct option *find_option(const struct cli *cli, const char *name, size_t len,
                                        char letter) {
    const struct option *tables[5];

    cli_option_tables(cli->command, tables);
    for (size_t t = 0; tables[t] != NULL; t++)
        for (const struct option *option = tables[t]; option->name != NULL; option++)
            if (name == NULL ? option->letter == letter
                             : strlen(option->name) == len && strncmp(option->name, name, len) == 0)
                return option;
    return NULL;
}

static bool unknown_option(struct cli *cli, const char *word, struct im_err *err) {
    const struct option *tables[5];
    const char *words[64];
    size_t count = 0;
    IM_AUTO(free_auto) char *bare = im_strndup(word, strcspn(word, "="));

    cli_option_tables(cli->command, tables);
    for (size_t t = 0; tables[t] != NULL; t++)
        for (const struct option *option = tables[t]; option->name != NULL; option++)
            if (count < 64)
                words[count++] = option->name;
    cli_usage(cli, err, "unknown option %s", bare);
    if (im_starts_with(bare, "--"))
        suggest(cli, bare + 2, words, count, "--");
    return false;
}

/* --- Values ----------------------------------------------------------------------------------- */

bool cli_size_mib(const char *text, int64_t *ret_mib) {
    uint64_t bytes;

    if (im_parse_i64(text, 1, INT64_C(1) << 40, ret_mib))
        return true;
    if (!im_parse_size(text, &bytes) || bytes == 0 || bytes % (1 << 20) != 0)
        return false;
    *ret_mib = (int64_t) (bytes >> 20);
    return true;
}

bool cli_size_gib(const char *text, int64_t *ret_gib) {
    uint64_t bytes;

    if (im_parse_i64(text, 1, INT64_C(1) << 30, ret_gib))
        return true;
    if (!im_parse_size(text, &bytes) || bytes == 0 || bytes % (1 << 30) != 0)
        return false;
    *ret_gib = (int64_t) (bytes >> 30);
    return true;
}

static bool is_choice(const char *choices, const char *value) {
    size_t len = strlen(value);

    for (const char *at = choices; *at != '\0';) {
        size_t word = strcspn(at, " ");

        if (word == len && strncmp(at, value, len) == 0)
            return true;
        at += word + strspn(at + word, " ");
    }
    return false;
}

static bool check_value(struct cli *cli, const struct option *option, const char *value,
                        struct im_err *err) {
    int64_t number;

    if (*value == '\0' && !(option->flags & OPTION_EMPTY))
        return cli_usage(cli, err, "--%s wants a value", option->name);
    if ((option->flags & OPTION_INT) && !im_parse_i64(value, 0, INT64_MAX, &number))
        return cli_usage(cli, err, "--%s %s is not a whole number", option->name, value);
    if ((option->flags & OPTION_SIZE_MIB) && !cli_size_mib(value, &number))
        return cli_usage(cli, err, "--%s %s is no size: write 2048 for MiB, or 2G", option->name,
                         value);
    if ((option->flags & OPTION_SIZE_GIB) && !cli_size_gib(value, &number))
        return cli_usage(cli, err, "--%s %s is no size: write 40 for GiB, or 40G", option->name,
                         value);
    if (option->choices != NULL && option->choices[0] != '@' && !is_choice(option->choices, value))
        return cli_usage(cli, err, "--%s %s is none of: %s", option->name, value, option->choices);
    return true;
}

static struct im_strings *slot(struct cli *cli, const struct option *option) {
    for (size_t i = 0; i < cli->option_count; i++)
        if (strcmp(cli->options[i].option->name, option->name) == 0)
            return &cli->options[i].values;
    im_grow(&cli->options, cli->option_count, &cli->option_capacity);
    cli->options[cli->option_count] = (struct option_value){.option = option};
    return &cli->options[cli->option_count++].values;
}

static bool set_option(struct cli *cli, const struct option *option, const char *value,
                       struct im_err *err) {
    struct im_strings *values = slot(cli, option);

    if (option->metavar == NULL) {
        if (values->count == 0)
            im_strings_add(values, "");
        return true;
    }
    if (!check_value(cli, option, value, err))
        return false;
    if (option->flags & OPTION_MANY) {
        im_strings_split(values, value, ",");
        return true;
    }
    im_strings_done(values);
    im_strings_add(values, value);
    return true;
}

/* --- The line -----------------------------------------------------------------------------------
 */

struct line {
    int argc, at;
    char *const *argv;
};

static bool take_value(struct cli *cli, struct line *line, const struct option *option,
                       const char *inside, struct im_err *err) {
    if (option->metavar == NULL) {
        if (inside != NULL)
            return cli_usage(cli, err, "--%s takes no value", option->name);
        return set_option(cli, option, "", err);
    }
    if (inside == NULL) {
        if (line->at + 1 >= line->argc)
            return cli_usage(cli, err, "--%s wants a value: %s", option->name, option->metavar);
        inside = line->argv[++line->at];
    }
    return set_option(cli, option, inside, err);
}

static bool take_option(struct cli *cli, struct line *line, struct im_err *err) {
    const char *word = line->argv[line->at];
    const struct option *option;

    if (word[1] == '-') {
        size_t len = strcspn(word + 2, "=");

        option = find_option(cli, word + 2, len, 0);
        if (option == NULL)
            return unknown_option(cli, word, err);
        return take_value(cli, line, option, word[2 + len] == '=' ? word + 3 + len : NULL, err);
    }
    for (const char *letter = word + 1; *letter != '\0'; letter++) {
        option = find_option(cli, NULL, 0, *letter);
        if (option == NULL)
            return cli_usage(cli, err, "unknown option -%c", *letter);
        if (option->metavar != NULL) /* "-ojson", or "-o json" */
            return take_value(cli, line, option, letter[1] != '\0' ? letter + 1 : NULL, err);
        if (!take_value(cli, line, option, NULL, err))
            return false;
    }
    return true;
}

static bool take_noun(struct cli *cli, const char *word, struct im_err *err) {
    const char *words[32];
    size_t count = 0;

    cli->noun = cli_noun_find(word);
    if (cli->noun != NULL) {
        if (cli->noun->commands[0].verb[0] == '\0') /* a noun that needs no verb */
            cli->command = &cli->noun->commands[0];
        return true;
    }
    for (const struct noun *noun = cli_nouns; noun->name != NULL; noun++)
        words[count++] = noun->name;
    cli_usage(cli, err, "there is no command %s", word);
    suggest(cli, word, words, count, "imprint ");
    return false;
}

static bool take_verb(struct cli *cli, const char *word, struct im_err *err) {
    IM_AUTO(free_auto) char *prefix = im_printf("imprint %s ", cli->noun->name);
    const char *words[32];
    size_t count = 0;

    cli->command = cli_command_find(cli->noun, word);
    if (cli->command != NULL)
        return true;
    for (const struct command *command = cli->noun->commands; command->verb != NULL; command++)
        words[count++] = command->verb;
    cli_usage(cli, err, "there is no command %s %s", cli->noun->name, word);
    suggest(cli, word, words, count, prefix);
    return false;
}

static bool take_word(struct cli *cli, const char *word, struct im_err *err) {
    if (cli->noun == NULL)
        return take_noun(cli, word, err);
    if (cli->command == NULL)
        return take_verb(cli, word, err);
    im_strings_add(&cli->args, word);
    return true;
}

static bool check_command(struct cli *cli, struct im_err *err) {
    const struct option *tables[5];
    size_t given = cli->args.count;

    if (given < cli->command->min_args)
        return cli_usage(cli, err, "%s is missing", cli->command->args);
    if (given > cli->command->max_args)
        return cli_usage(cli, err, "%s is one word too many",
                         cli->args.items[cli->command->max_args]);
    cli_option_tables(cli->command, tables);
    for (size_t t = 0; tables[t] != NULL; t++)
        for (const struct option *option = tables[t]; option->name != NULL; option++)
            if ((option->flags & OPTION_REQUIRED) && cli_value(cli, option->name) == NULL)
                return cli_usage(cli, err, "--%s %s is missing", option->name, option->metavar);
    return true;
}

bool cli_parse(struct cli *cli, int argc, char *const argv[], bool *ret_help, struct im_err *err) {
    struct line line = {argc, 0, argv};

    *ret_help = false;
    for (; line.at < argc; line.at++) {
        const char *word = argv[line.at];

        if (strcmp(word, "--") == 0) {
            bool ours = cli->command == NULL || !(cli->command->groups & GROUP_PASSTHROUGH);

            while (++line.at < argc)
                im_strings_add(ours ? &cli->args : &cli->rest, argv[line.at]);
            break;
        }
        if (word[0] == '-' && word[1] != '\0' ? !take_option(cli, &line, err)
                                              : !take_word(cli, word, err))
            return false;
        if (cli_flag(cli, "help")) {
            /* "imprint image --help import" is still help on import */
            while (++line.at < argc)
                if (argv[line.at][0] != '-' && cli->command == NULL &&
                    !take_word(cli, argv[line.at], err))
                    return false;
            *ret_help = true;
            return true;
        }
    }
    if (cli_flag(cli, "version"))
        return true;
    if (cli->command == NULL) {
        *ret_help = true;
        return true;
    }
    return check_command(cli, err);
}

const struct im_strings *cli_values(const struct cli *cli, const char *name) {
    for (size_t i = 0; i < cli->option_count; i++)
        if (strcmp(cli->options[i].option->name, name) == 0)
            return &cli->options[i].values;
    return NULL;
}

const char *cli_value(const struct cli *cli, const char *name) {
    const struct im_strings *values = cli_values(cli, name);

    return values == NULL || values->count == 0 ? NULL : values->items[values->count - 1];
}

bool cli_flag(const struct cli *cli, const char *name) { return cli_value(cli, name) != NULL; }

void cli_params(const struct cli *cli, struct client_params *params) {
    for (size_t i = 0; i < cli->option_count; i++) {
        const struct option *option = cli->options[i].option;
        const struct im_strings *values = &cli->options[i].values;
        int64_t number = 0;

        if (option->param == NULL)
            continue;
        if (option->metavar == NULL)
            client_param(params, option->param, "1");
        else if (option->flags & OPTION_MANY)
            client_param_list(params, option->param, values);
        else if ((option->flags & OPTION_SIZE_MIB) && cli_size_mib(values->items[0], &number))
            client_param_int(params, option->param, number);
        else if ((option->flags & OPTION_SIZE_GIB) && cli_size_gib(values->items[0], &number))
            client_param_int(params, option->param, number);
        else
            client_param(params, option->param, values->items[0]);
    }
}
