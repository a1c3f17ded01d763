/* SPDX-License-Identifier: Apache-2.0 */
/* Help, drawn from the table of commands: the program's, a noun's, a command's. */
#include "cli-private.h"

#include <string.h>

enum { WIDTH_MAX = 100, INDENT = 2 };

/* A command in quotes is one word: it can be copied. */
static size_t word_length(const char *text) {
    const char *end = *text == '\'' ? strchr(text + 1, '\'') : NULL;

    return end != NULL ? (size_t) (end - text) + strcspn(end, " \n") : strcspn(text, " \n");
}

void text_wrap(struct im_str *out, const char *text, unsigned at, unsigned indent, unsigned width) {
    bool fresh = true; /* nothing stands in this line yet */

    while (*text != '\0') {
        size_t len = word_length(text);
        IM_AUTO(free_auto) char *word = im_strndup(text, len);
        unsigned wide = text_width(word);

        if (!fresh && at + 1 + wide > width) {
            im_str_addf(out, "\n%*s", (int) indent, "");
            at = indent;
            fresh = true;
        }
        if (!fresh) {
            im_str_add_char(out, ' ');
            at++;
        }
        im_str_add(out, word);
        at += wide;
        fresh = false;
        text += len;
        if (*text == '\n') {
            im_str_addf(out, "\n%*s", (int) indent, "");
            at = indent;
            fresh = true;
        }
        text += *text != '\0';
    }
    im_str_add_char(out, '\n');
}

/* "  name   help", the help wrapped in its own column. */
static void entry(struct im_str *out, const char *name, unsigned name_width, const char *help,
                  unsigned width) {
    unsigned indent = INDENT + name_width + 2;

    im_str_addf(out, "%*s", INDENT, "");
    if (text_width(name) > name_width) {
        im_str_addf(out, "%s\n%*s", name, (int) indent, "");
    } else {
        text_fit(out, name, name_width, true);
        im_str_add(out, "  ");
    }
    text_wrap(out, help, indent, indent, width);
}

static char *option_name(const struct option *option) {
    IM_AUTO(free_auto)
    char *letter = option->letter ? im_printf("-%c, ", option->letter) : im_strdup("    ");

    return im_printf("%s--%s%s%s%s", letter, option->name, option->metavar ? " " : "",
                     option->metavar ? option->metavar : "",
                     option->flags & OPTION_MANY ? "…" : "");
}

static char *option_help(const struct option *option) {
    struct im_str text = {0};

    im_str_add(&text, option->help);
    if (option->choices != NULL && option->choices[0] != '@')
        im_str_addf(&text, ": one of %s", option->choices);
    if (option->flags & OPTION_REQUIRED)
        im_str_add(&text, " (required)");
    if (option->fallback != NULL)
        im_str_addf(&text, " (default: %s)", option->fallback);
    return im_str_take(&text);
}

static void options(struct im_str *out, const char *title, const struct option *table,
                    unsigned width) {
    if (table->name == NULL)
        return;
    im_str_addf(out, "\n%s:\n", title);
    for (; table->name != NULL; table++) {
        IM_AUTO(free_auto) char *name = option_name(table);
        IM_AUTO(free_auto) char *help = option_help(table);

        entry(out, name, 26, help, width);
    }
}

static void command_help(const struct cli *cli, struct im_str *out, unsigned width) {
    const struct command *command = cli->command;
    bool verbless = command->verb[0] == '\0';

    im_str_addf(out, "Usage: imprint %s%s%s%s%s [options]%s\n\n", cli->noun->name,
                verbless ? "" : " ", command->verb, command->args[0] ? " " : "", command->args,
                command->groups & GROUP_PASSTHROUGH ? " [-- COMMAND…]" : "");
    text_wrap(out, command->help, 0, 0, width);
    if (command->more != NULL) {
        im_str_add_char(out, '\n');
        text_wrap(out, command->more, 0, 0, width);
    }
    options(out, "Options", command->options, width);
    if (command->groups & GROUP_LIST)
        options(out, "What to list", cli_list_options, width);
    if (command->groups & GROUP_WAIT)
        options(out, "Waiting", cli_wait_options, width);
    options(out, "General options", cli_global_options, width);
    if (command->example != NULL) {
        IM_AUTO(im_strings_done) struct im_strings lines = {0};

        im_strings_split(&lines, command->example, "\n");
        im_str_add(out, "\nExamples:\n");
        for (size_t i = 0; i < lines.count; i++)
            im_str_addf(out, "  %s\n", lines.items[i]);
    }
}

static void noun_help(const struct cli *cli, struct im_str *out, unsigned width) {
    im_str_addf(out, "Usage: imprint %s COMMAND [options]\n\n", cli->noun->name);
    text_wrap(out, cli->noun->help, 0, 0, width);
    im_str_add(out, "\nCommands:\n");
    for (const struct command *command = cli->noun->commands; command->verb != NULL; command++) {
        IM_AUTO(free_auto)
        char *name = im_printf("%s%s%s", command->verb, command->args[0] ? " " : "", command->args);

        entry(out, name, 20, command->help, width);
    }
    im_str_addf(out, "\n'imprint %s COMMAND --help' tells more of each.\n", cli->noun->name);
}

static void program_help(struct im_str *out, unsigned width) {
    im_str_add(out, "Usage: imprint NOUN COMMAND [options]\n\n"
                    "Images of whole machines, and machines cast from them.\n\n");
    for (const struct noun *noun = cli_nouns; noun->name != NULL; noun++) {
        IM_AUTO(im_str_done) struct im_str verbs = {0};

        for (const struct command *command = noun->commands; command->verb != NULL; command++)
            im_str_addf(&verbs, "%s%s", verbs.len ? ", " : "", command->verb);
        entry(out, noun->name, 10, verbs.len > 0 ? verbs.data : noun->help, width);
    }
    options(out, "General options", cli_global_options, width);
    im_str_add(
        out, "\nBegin with:\n"
             "  imprint configure                       name the server and the access key\n"
             "  imprint image list                      what machines can be made from\n"
             "  imprint keypair create --name me        a key to log in with\n"
             "  imprint instance run --image ID --wait  a machine\n"
             "  imprint instance ssh ID                 log in to it\n"
             "\n'imprint NOUN' and 'imprint NOUN COMMAND --help' tell more; so does imprint(1).\n");
}

void cli_help(const struct cli *cli, FILE *out, unsigned width) {
    IM_AUTO(im_str_done) struct im_str text = {0};

    if (width == 0 || width > WIDTH_MAX)
        width = WIDTH_MAX;
    if (cli->command != NULL)
        command_help(cli, &text, width);
    else if (cli->noun != NULL)
        noun_help(cli, &text, width);
    else
        program_help(&text, width);
    fputs(text.data, out);
}
