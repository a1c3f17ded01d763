/* SPDX-License-Identifier: Apache-2.0 */
/* imprint __complete WORDS… LAST: what LAST may become, one candidate a line, for the shell. Live
 * ids come from the server, which gets two seconds; errors say nothing. "@file" asks the shell for
 * file names. */
#include "cli-private.h"

#include <string.h>
#include <unistd.h>

enum { COMPLETE_TIMEOUT_S = 2 };

static void offer(struct cli *cli, const char *word, const char *last) {
    if (im_starts_with(word, last))
        fprintf(cli->out, "%s\n", word);
}

static void offer_words(struct cli *cli, const char *words, const char *last) {
    IM_AUTO(im_strings_done) struct im_strings list = {0};

    im_strings_split(&list, words, " ");
    for (size_t i = 0; i < list.count; i++)
        offer(cli, list.items[i], last);
}

static void offer_live(struct cli *cli, const char *kind, const char *last) {
    static const struct {
        const char *kind, *action, *set, *id;
    } rows[] = {
        {"@image", "DescribeImages", "image_set", "image_id"},
        {"@image", "DescribeImages", "image_set", "family"},
        {"@export", "DescribeImageExports", "image_export_set", "export_id"},
        {"@boot-test", "DescribeBootTests", "boot_test_set", "boot_test_id"},
        {"@repair", "DescribeImageRepairs", "repair_set", "repair_id"},
        {"@repair", "DescribeImageRepairs", "repair_set", "resource_id"},
        {"@instance", "DescribeInstances", "instance_set", "instance_id"},
        {"@volume", "DescribeVolumes", "volume_set", "volume_id"},
        {"@snapshot", "DescribeSnapshots", "snapshot_set", "snapshot_id"},
        {"@disk", "DescribeInstances", "instance_set", "instance_id"},
        {"@disk", "DescribeVolumes", "volume_set", "volume_id"},
        {"@keypair", "DescribeKeyPairs", "keypair_set", "keypair_id"},
        {"@job", "DescribeJobs", "job_set", "job_id"},
        {"@key", "DescribeAccessKeys", "access_key_set", "access_key_id"},
        {"@type", "DescribeInstanceTypes", "instance_type_set", "instance_type_id"},
        {"@zone", "DescribeZones", "zone_set", "zone_id"},
        {"@user", "DescribeUsers", "user_set", "user_name"},
    };
    struct im_err ignored = {0};

    if (!cli_settings_load(cli, &ignored))
        return;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        IM_AUTO(client_params_done) struct client_params params = {0};
        IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
        const struct wire_value *set;

        if (strcmp(rows[i].kind, kind) != 0)
            continue;
        client_param(&params, "limit", "100");
        if (*last != '\0')
            client_param(&params, "search_word", last);
        if (!cli_call(cli, rows[i].action, &params, &doc, &ignored))
            return;
        set = wire_get(wire_root(doc), rows[i].set);
        for (size_t j = 0; j < wire_count(set); j++) {
            const char *word = wire_get_text(wire_at(set, j), rows[i].id, "");

            if (*word != '\0')
                offer(cli, word, last);
        }
    }
}

static void offer_kind(struct cli *cli, const char *kind, const char *last) {
    if (kind == NULL)
        return;
    if (strcmp(kind, "@file") == 0)
        fputs("@file\n", cli->out);
    else if (kind[0] == '@')
        offer_live(cli, kind, last);
    else
        offer_words(cli, kind, last);
}

static const struct option *option_by_word(const struct cli *cli, const char *word) {
    const struct option *tables[5];

    cli_option_tables(cli->command, tables);
    for (size_t t = 0; tables[t] != NULL; t++)
        for (const struct option *option = tables[t]; option->name != NULL; option++)
            if ((im_starts_with(word, "--") && strcmp(option->name, word + 2) == 0) ||
                (word[0] == '-' && option->letter != 0 && word[1] == option->letter &&
                 word[2] == '\0'))
                return option;
    return NULL;
}

static void offer_options(struct cli *cli, const char *last) {
    const struct option *tables[5];

    cli_option_tables(cli->command, tables);
    for (size_t t = 0; tables[t] != NULL; t++)
        for (const struct option *option = tables[t]; option->name != NULL; option++) {
            IM_AUTO(free_auto) char *word = im_printf("--%s", option->name);

            offer(cli, word, last);
        }
}

/* Follows the words before the last one; returns the option whose value is being typed. *ret_lost:
 * a word is none of ours. */
static const struct option *follow(struct cli *cli, int argc, char *const argv[], bool *ret_lost) {
    for (int i = 0; i < argc; i++) {
        const struct option *option = option_by_word(cli, argv[i]);

        if (option != NULL && option->metavar != NULL) {
            if (i + 1 == argc)
                return option;
            /* The server that is named on the line is the one to ask. */
            im_grow(&cli->options, cli->option_count, &cli->option_capacity);
            cli->options[cli->option_count] = (struct option_value){.option = option};
            im_strings_add(&cli->options[cli->option_count++].values, argv[++i]);
        } else if (argv[i][0] == '-') {
            continue;
        } else if (cli->noun == NULL) {
            cli->noun = cli_noun_find(argv[i]);
            *ret_lost = cli->noun == NULL;
            if (*ret_lost)
                return NULL;
            if (cli->noun->commands[0].verb[0] == '\0')
                cli->command = &cli->noun->commands[0];
        } else if (cli->command == NULL) {
            cli->command = cli_command_find(cli->noun, argv[i]);
            *ret_lost = cli->command == NULL;
            if (*ret_lost)
                return NULL;
        } else {
            im_strings_add(&cli->args, argv[i]);
        }
    }
    return NULL;
}

static void offer_next(struct cli *cli, const char *last) {
    if (last[0] == '-') {
        offer_options(cli, last);
    } else if (cli->noun == NULL) {
        for (const struct noun *noun = cli_nouns; noun->name != NULL; noun++)
            offer(cli, noun->name, last);
    } else if (cli->command == NULL) {
        for (const struct command *command = cli->noun->commands; command->verb != NULL; command++)
            offer(cli, command->verb, last);
    } else if (cli->args.count < cli->command->max_args) {
        bool pair_first = cli->args.count == 0 && im_starts_with(cli->command->args, "KEYPAIR ");

        offer_kind(cli, pair_first ? "@keypair" : cli->command->complete, last);
    }
}

int cli_complete(struct cli *cli, int argc, char *const argv[]) {
    const char *last = argc > 0 ? argv[argc - 1] : "";
    bool lost = false;
    const struct option *option = follow(cli, argc - 1, argv, &lost);

    alarm(COMPLETE_TIMEOUT_S);
    if (option != NULL)
        offer_kind(cli, option->choices, last);
    else if (!lost)
        offer_next(cli, last);
    return fflush(cli->out) == 0 ? CLI_OK : CLI_FAILED;
}
