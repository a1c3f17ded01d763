/* SPDX-License-Identifier: Apache-2.0 */
/* How one will log in to a new system. Passwords come from standard input, never from the command
 * line. */
#include "cli-private.h"

#include <string.h>

bool cli_password_param(struct cli *cli, struct client_params *params, struct im_err *err) {
    IM_AUTO(free_auto) char *text = NULL;

    if (isatty(STDIN_FILENO))
        fputs("Password (not shown): ", stderr);
    text = cli_read_line(stdin, true);
    if (im_str_empty(text))
        return cli_usage(cli, err, "no password came from standard input");
    client_param(params, "login_passwd", text);
    explicit_bzero(text, strlen(text));
    return true;
}

static void use_keypair(struct client_params *params, const char *id) {
    client_param(params, "login_mode", "keypair");
    client_param(params, "login_keypair", id);
}

static void tell_keypairs(const struct wire_value *set) {
    for (size_t i = 0; i < wire_count(set); i++)
        fprintf(stderr, "  %zu  %s  %s\n", i + 1, wire_get_text(wire_at(set, i), "keypair_id", ""),
                wire_get_text(wire_at(set, i), "keypair_name", ""));
}

/* Lets the person at the terminal pick one. */
static bool pick(struct cli *cli, const struct wire_value *set, struct client_params *params,
                 struct im_err *err) {
    IM_AUTO(free_auto) char *answer = NULL;
    int64_t number;

    fputs("Which key pair shall be let in?\n", stderr);
    tell_keypairs(set);
    fprintf(stderr, "Number [1]: ");
    answer = cli_read_line(stdin, false);
    if (answer == NULL ||
        !im_parse_i64(*answer ? answer : "1", 1, (int64_t) wire_count(set), &number))
        return cli_usage(cli, err, "no key pair was picked");
    use_keypair(params, wire_get_text(wire_at(set, (size_t) number - 1), "keypair_id", ""));
    return true;
}

static bool only_keypair(struct cli *cli, struct client_params *params, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params query = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const struct wire_value *set;

    client_param(&query, "limit", "100");
    if (!cli_call(cli, "DescribeKeyPairs", &query, &doc, err))
        return false;
    set = wire_get(wire_root(doc), "keypair_set");
    if (wire_count(set) == 1) {
        use_keypair(params, wire_get_text(wire_at(set, 0), "keypair_id", ""));
        return true;
    }
    if (wire_count(set) == 0) {
        cli_hint(cli, "'imprint keypair create --name me' makes a key pair, 'imprint keypair "
                      "import ~/.ssh/id_ed25519.pub' takes yours; or give --password-stdin or "
                      "--no-login");
        return cli_usage(cli, err, "there is no key pair to log in with");
    }
    if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO))
        return pick(cli, set, params, err);
    tell_keypairs(set);
    cli_hint(cli, "name one with --keypair, or give --password-stdin or --no-login");
    return cli_usage(cli, err, "there are %zu key pairs to log in with", wire_count(set));
}

bool cli_login_params(struct cli *cli, bool otherwise_keep, struct client_params *params,
                      struct im_err *err) {
    const char *keypair = cli_value(cli, "keypair");
    int given = (keypair != NULL) + cli_flag(cli, "password-stdin") + cli_flag(cli, "no-login");

    if (given > 1)
        return cli_usage(cli, err, "only one of --keypair, --password-stdin and --no-login goes");
    if (keypair != NULL) {
        use_keypair(params, keypair);
        return true;
    }
    if (cli_flag(cli, "password-stdin")) {
        client_param(params, "login_mode", "passwd");
        return cli_password_param(cli, params, err);
    }
    if (given > 0 || otherwise_keep)
        return true;
    return only_keypair(cli, params, err);
}
