/* SPDX-License-Identifier: Apache-2.0 */
/* imprint keypair: list, show, create, import, attach, detach, delete, modify. Private keys are
 * kept in ~/.config/imprint/keys, where `instance ssh` finds them. */
#include "cli-private.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/id.h"

static const struct column columns[] = {
    {"ID", "keypair_id", FORM_TEXT, 0},
    {"NAME", "keypair_name", FORM_TEXT, 1},
    {"METHOD", "encrypt_method", FORM_TEXT, 0},
    {"INSTANCES", "instance_ids", FORM_LIST, 1},
    {"CREATED", "create_time", FORM_TIME, 2},
    {"DESCRIPTION", "description", FORM_TEXT, 3},
    {0},
};
const struct listing keypair_listing = {
    "DescribeKeyPairs",
    "keypair_set",
    "keypair_id",
    "keypairs",
    columns,
    "no key pairs: make one with 'imprint keypair create --name NAME'"};

static bool list(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    client_param(&params, "verbose", "1");
    return cli_list(cli, &keypair_listing, &params, err);
}

static bool show(struct cli *cli, struct im_err *err) {
    return cli_show(cli, &keypair_listing, err);
}

char *cli_key_path(const struct cli *cli, const char *keypair_id) {
    return im_printf("%s/keys/%s", cli->settings.folder, keypair_id);
}

/* The server keeps no private keys: this is the only copy, so it is on the disk before anything is
 * said. */
static bool keep_key(struct cli *cli, const char *id, const char *key, char **ret_path,
                     struct im_err *err) {
    IM_AUTO(free_auto) char *folder = im_printf("%s/keys", cli->settings.folder);
    IM_AUTO(free_auto) char *path = cli_key_path(cli, id);

    if (!im_id_valid(id))
        return im_fail(err, IM_BAD_MESSAGE, "the server's key pair id is no file name");
    if (!im_make_dirs(folder, 0700, err) || !im_write_file(path, key, strlen(key), 0600, err)) {
        cli_hint(cli, "imprint keypair delete %s, and create it again where there is room", id);
        return im_within(err, "the private key of %s is lost", id);
    }
    *ret_path = im_steal(&path);
    return true;
}

static bool create(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    IM_AUTO(free_auto) char *path = NULL;
    const char *key;

    client_param(&params, "encrypt_method", "ssh-ed25519");
    cli_params(cli, &params);
    client_param(&params, "mode", "system");
    if (!cli_call(cli, "CreateKeyPair", &params, &doc, err))
        return false;
    im_strings_add(&ids, wire_get_text(wire_root(doc), "keypair_id", ""));
    key = wire_get_text(wire_root(doc), "private_key", "");
    if (*key == '\0')
        return im_fail(err, IM_INTERNAL, "the server made %s, but sent no private key",
                       ids.items[0]);
    if (cli_flag(cli, "stdout")) {
        fputs(key, cli->out);
        fprintf(stderr, "%s\n", ids.items[0]);
        return true;
    }
    if (!keep_key(cli, ids.items[0], key, &path, err))
        return false;
    cli_print_done(cli, doc, &ids, "%s", ids.items[0]);
    if (!cli->quiet)
        fprintf(stderr, "private key: %s (the only copy)\n", path);
    return true;
}

static const struct option create_options[] = {
    {"name", 'N', "NAME", NULL, "name of the key pair", "keypair_name", OPTION_REQUIRED, NULL},
    {"method", 0, "METHOD", "ssh-ed25519", "kind of key", "encrypt_method", 0,
     "ssh-ed25519 ssh-rsa ecdsa-sha2-nistp521"},
    {"stdout", 0, NULL, NULL, "print the private key in place of keeping it in a file", NULL, 0,
     NULL},
    {0},
};

/* A private key given in place of the public one would be sent to the server: never. */
static bool import(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    IM_AUTO(free_auto) char *text = NULL;
    const char *path = cli->args.items[0], *comment;

    if (access(path, F_OK) < 0 && errno == ENOENT) {
        cli->exit = CLI_NOT_FOUND;
        return im_fail(err, IM_NOT_FOUND, "%s does not exist", path);
    }
    if (!im_read_file(path, 65536, &text, NULL, err))
        return false;
    if (strstr(text, "PRIVATE KEY") != NULL)
        return cli_usage(cli, err, "%s is a private key: give the public one, %s.pub", path, path);
    text[strcspn(text, "\r\n")] = '\0';
    comment = strrchr(text, ' ');
    client_param(&params, "keypair_name", comment != NULL ? comment + 1 : path);
    cli_params(cli, &params);
    client_param(&params, "mode", "user");
    client_param(&params, "public_key", text);
    if (!cli_call(cli, "CreateKeyPair", &params, &doc, err))
        return false;
    im_strings_add(&ids, wire_get_text(wire_root(doc), "keypair_id", ""));
    cli_print_done(cli, doc, &ids, "%s", ids.items[0]);
    return true;
}

static const struct option import_options[] = {
    {"name", 'N', "NAME", "the key's comment", "name of the key pair", "keypair_name", 0, NULL},
    {0},
};

/* KEYPAIR INSTANCE… */
static bool attach_or_detach(struct cli *cli, const char *action, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings instances = {0};

    for (size_t i = 1; i < cli->args.count; i++)
        im_strings_add(&instances, cli->args.items[i]);
    client_param(&params, "keypairs.1", cli->args.items[0]);
    client_param_list(&params, "instances", &instances);
    return cli_call(cli, action, &params, &doc, err) &&
           cli_finish_job(cli, doc, &instances, &instance_listing, err);
}

static bool attach(struct cli *cli, struct im_err *err) {
    return attach_or_detach(cli, "AttachKeyPairs", err);
}

static bool detach(struct cli *cli, struct im_err *err) {
    return attach_or_detach(cli, "DetachKeyPairs", err);
}

static bool delete (struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(free_auto) char *ids = im_strings_join(&cli->args, " ");

    client_param_list(&params, "keypairs", &cli->args);
    if (!cli_call(cli, "DeleteKeyPairs", &params, &doc, err)) {
        if (client_ret_code(cli->client) == 1400)
            cli_hint(cli, "imprint keypair detach %s INSTANCE", cli->args.items[0]);
        return false;
    }
    for (size_t i = 0; i < cli->args.count; i++) {
        IM_AUTO(free_auto) char *path = cli_key_path(cli, cli->args.items[i]);

        if (im_id_valid(cli->args.items[i]) && unlink(path) == 0)
            fprintf(stderr, "%s removed\n", path);
    }
    cli_print_done(cli, doc, &cli->args, "%s: deleted", ids);
    return true;
}

static bool modify(struct cli *cli, struct im_err *err) {
    return cli_modify(cli, "ModifyKeyPairAttributes", "keypair", err);
}

static const struct option modify_options[] = {
    {"name", 'N', "NAME", NULL, "new name", "keypair_name", OPTION_EMPTY, NULL},
    {"description", 0, "TEXT", NULL, "new description; \"\" removes it", "description",
     OPTION_EMPTY, NULL},
    {0},
};
static const struct option list_options[] = {
    {"instance", 0, "INSTANCE", NULL, "only those on this instance", "instance_id", 0, "@instance"},
    {0},
};

const struct command keypair_commands[] = {
    {"list", "[KEYPAIR…]", 0, SIZE_MAX, "@keypair", GROUP_LIST, list_options, list,
     "Lists key pairs.", NULL, "imprint keypair list"},
    {"show", "KEYPAIR…", 1, 100, "@keypair", 0, cli_no_options, show,
     "Shows all that is known of key pairs.", NULL, "imprint keypair show kp-bn2n7700"},
    {"create", "", 0, 0, NULL, 0, create_options, create,
     "Makes a key pair and keeps its private key in ~/.config/imprint/keys.",
     "The server does not keep the private key.", "imprint keypair create --name me"},
    {"import", "FILE", 1, 1, "@file", 0, import_options, import,
     "Takes a public key that you have.", NULL, "imprint keypair import ~/.ssh/id_ed25519.pub"},
    {"attach", "KEYPAIR INSTANCE…", 2, 100, "@instance", GROUP_WAIT, cli_no_options, attach,
     "Lets a key pair in to instances.",
     "At once where the guest agent runs or, in a stopped Linux without cloud-init, in its disk; "
     "else at the next boot.",
     "imprint keypair attach kp-bn2n7700 i-4kq0z8pw --wait"},
    {"detach", "KEYPAIR INSTANCE…", 2, 100, "@instance", GROUP_WAIT, cli_no_options, detach,
     "No longer lets a key pair in to instances.", NULL,
     "imprint keypair detach kp-bn2n7700 i-4kq0z8pw --wait"},
    {"delete", "KEYPAIR…", 1, 100, "@keypair", 0, cli_no_options, delete,
     "Deletes key pairs, with their private keys in ~/.config/imprint/keys.", NULL,
     "imprint keypair delete kp-bn2n7700"},
    {"modify", "KEYPAIR", 1, 1, "@keypair", 0, modify_options, modify,
     "Changes name and description of a key pair.", NULL,
     "imprint keypair modify kp-bn2n7700 --name laptop"},
    {0},
};
