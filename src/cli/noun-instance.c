/* SPDX-License-Identifier: Apache-2.0 */
/* imprint instance: list, show, run and the other verbs; ssh, console and monitor have files of
 * their own. */
#include "cli-private.h"

#include <string.h>

#include "base/fd.h"
#include "crypto/crypto.h"

static const struct column columns[] = {
    {"ID", "instance_id", FORM_TEXT, 0},
    {"NAME", "instance_name", FORM_TEXT, 1},
    {"STATE", "status", FORM_STATE, 0},
    {"IMAGE", "image.image_id", FORM_TEXT, 1},
    {"CPUS", "vcpus_current", FORM_INT, 0},
    {"MEMORY", "memory_current", FORM_MIB, 0},
    {"DISK", "extra.os_disk_size", FORM_GIB, 2},
    {"ADDRESS", "vxnets.0.private_ip", FORM_TEXT, 1},
    {"CREATED", "create_time", FORM_TIME, 2},
    {"KEYS", "keypair_ids", FORM_LIST, 3},
    {"HOST", "host_machine", FORM_TEXT, 3},
    {"HOSTNAME", "hostname", FORM_TEXT, 4},
    {"AGENT", "agent_state", FORM_TEXT, 4},
    {"NETWORK", "vxnets.0.vxnet_id", FORM_TEXT, 4},
    {"LOGIN", "image.default_user", FORM_TEXT, 4},
    {"NOT APPLIED", "unapplied", FORM_TEXT, 4},
    {0},
};

const struct listing instance_listing = {
    "DescribeInstances",
    "instance_set",
    "instance_id",
    "instances",
    columns,
    "no instances: make one with 'imprint instance run --image IMAGE --wait'"};

static bool list(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    return cli_list(cli, &instance_listing, &params, err);
}

static bool show(struct cli *cli, struct im_err *err) {
    return cli_show(cli, &instance_listing, err);
}

/* --- Run ----------------------------------------------------------------------------------------
 */

enum { USER_DATA_MAX = 2 << 20 };

static bool user_data(struct cli *cli, struct client_params *params, struct im_err *err) {
    const char *path = cli_value(cli, "user-data");
    IM_AUTO(free_auto) char *bytes = NULL;
    IM_AUTO(free_auto) char *text = NULL;
    size_t len;

    if (path == NULL)
        return true;
    if (!im_read_file(path, USER_DATA_MAX, &bytes, &len, err))
        return false;
    text = crypto_base64(bytes, len);
    client_param(params, "need_userdata", "1");
    client_param(params, "userdata_type", "plain");
    client_param(params, "userdata_value", text);
    return true;
}

static void networks(struct cli *cli, struct client_params *params) {
    const struct im_strings *given = cli_values(cli, "network");
    IM_AUTO(im_strings_done) struct im_strings basic = {0};

    if (cli_flag(cli, "no-network"))
        return;
    im_strings_add(&basic, "vxnet-0");
    client_param_list(params, "vxnets", given != NULL ? given : &basic);
}

static bool run_params(struct cli *cli, struct client_params *params, struct im_err *err) {
    if (cli_flag(cli, "no-network") && cli_flag(cli, "network"))
        return cli_usage(cli, err, "--network and --no-network do not go together");
    if (cli_flag(cli, "type") && (cli_flag(cli, "cpu") || cli_flag(cli, "memory")))
        return cli_usage(cli, err, "--type names CPUs and memory already");
    if (!cli_flag(cli, "type")) {
        client_param(params, "cpu", "1");
        client_param(params, "memory", "1024");
    }
    cli_params(cli, params);
    networks(cli, params);
    if (cli_flag(cli, "no-start"))
        client_param(params, "start", "0");
    return user_data(cli, params, err) && cli_login_params(cli, false, params, err);
}

static bool run(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    if (!run_params(cli, &params, err))
        return false;
    if (!cli_call(cli, "RunInstances", &params, &doc, err)) {
        if (err->code == IM_NOT_FOUND)
            cli_hint(cli, "'imprint image list' and 'imprint keypair list' show what there is");
        return false;
    }
    cli_reply_ids(doc, "instances", &ids);
    if (!cli_finish_job(cli, doc, &ids, &instance_listing, err))
        return false;
    if (cli_flag(cli, "wait") && !cli->quiet && cli->output == OUTPUT_TABLE && ids.count > 0 &&
        !cli_flag(cli, "no-network") && !cli_flag(cli, "no-start"))
        fprintf(stderr, "next: imprint instance ssh %s\n", ids.items[0]);
    return true;
}

#define NAME_OPTION                                                                                \
    { "name", 'N', "NAME", NULL, "name", "instance_name", 0, NULL }
#define KEYPAIR_OPTION                                                                             \
    {                                                                                              \
        "keypair", 'k', "KEYPAIR", "the only one there is", "key pair that is let in", NULL, 0,    \
            "@keypair"                                                                             \
    }
#define PASSWORD_OPTION                                                                            \
    {                                                                                              \
        "password-stdin", 0, NULL, NULL, "read a password for the login user from standard input", \
            NULL, 0, NULL                                                                          \
    }

static const struct option run_options[] = {
    {"image", 'i', "IMAGE", NULL, "image to make it from, or a family: its newest image",
     "image_id", OPTION_REQUIRED, "@image"},
    {"cpu", 'c', "CPUS", "1", "number of CPUs", "cpu", OPTION_INT, NULL},
    {"memory", 'm', "SIZE", "1G", "memory: 2048 is MiB, 2G is the same", "memory", OPTION_SIZE_MIB,
     NULL},
    {"type", 't', "TYPE", NULL, "instance type, in place of --cpu and --memory", "instance_type", 0,
     "@type"},
    {"disk", 'd', "SIZE", "the image's", "system disk: 40 is GiB", "os_disk_size", OPTION_SIZE_GIB,
     NULL},
    {"count", 0, "COUNT", "1", "how many", "count", OPTION_INT, NULL},
    NAME_OPTION,
    {"hostname", 0, "NAME", "the instance's id", "host name inside", "hostname", 0, NULL},
    KEYPAIR_OPTION,
    PASSWORD_OPTION,
    {"no-login", 0, NULL, NULL, "neither key nor password: the image lets one in by itself", NULL,
     0, NULL},
    {"network", 0, "NETWORK", "vxnet-0", "networks to join, NETWORK|ADDRESS for a certain address",
     NULL, OPTION_MANY, NULL},
    {"no-network", 0, NULL, NULL, "join no network", NULL, 0, NULL},
    {"user-data", 0, "FILE", NULL, "script or cloud-config for the first boot", NULL, 0, "@file"},
    {"cpu-model", 0, "MODEL", NULL, "processor model that it sees", "cpu_model", 0, NULL},
    {"no-start", 0, NULL, NULL, "leave it stopped", NULL, 0, NULL},
    {0},
};

/* --- Verbs on instances that are there -------------------------------------------------------- */

static bool call_on(struct cli *cli, const char *action, struct client_params *params,
                    struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;

    client_param_list(params, "instances", &cli->args);
    return cli_call(cli, action, params, &doc, err) &&
           cli_finish_job(cli, doc, &cli->args, &instance_listing, err);
}

static bool plain_verb(struct cli *cli, const char *action, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    cli_params(cli, &params);
    return call_on(cli, action, &params, err);
}

static bool start(struct cli *cli, struct im_err *err) {
    return plain_verb(cli, "StartInstances", err);
}

static bool stop(struct cli *cli, struct im_err *err) {
    return plain_verb(cli, "StopInstances", err);
}

static bool restart(struct cli *cli, struct im_err *err) {
    return plain_verb(cli, "RestartInstances", err);
}

static bool terminate(struct cli *cli, struct im_err *err) {
    if (!plain_verb(cli, "TerminateInstances", err))
        return false;
    for (size_t i = 0; cli_flag(cli, "now") && i < cli->args.count; i++)
        cli_forget_host(cli, cli->args.items[i]);
    return true;
}

static bool cease(struct cli *cli, struct im_err *err) {
    if (!plain_verb(cli, "CeaseInstances", err)) {
        if (err->code == IM_WRONG_STATE)
            cli_hint(cli, "imprint instance terminate %s", cli->args.items[0]);
        return false;
    }
    for (size_t i = 0; i < cli->args.count; i++)
        cli_forget_host(cli, cli->args.items[i]);
    return true;
}

static bool resize(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    cli_params(cli, &params);
    if (params.names.count == 0)
        return cli_usage(cli, err, "what shall be changed? --cpu, --memory, --type or --disk");
    if (call_on(cli, "ResizeInstances", &params, err))
        return true;
    if (err->code == IM_WRONG_STATE && client_fault(cli->client) == CLIENT_ANSWERED)
        cli_hint(cli, "imprint instance stop %s --wait", cli->args.items[0]);
    return false;
}

/* A new system has new host keys: what we knew of it is no longer true. */
static bool reset(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    cli_params(cli, &params);
    if (!cli_login_params(cli, true, &params, err) || !call_on(cli, "ResetInstances", &params, err))
        return false;
    for (size_t i = 0; i < cli->args.count; i++)
        cli_forget_host(cli, cli->args.items[i]);
    return true;
}

static bool password(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    return cli_password_param(cli, &params, err) && call_on(cli, "ResetPassword", &params, err);
}

static bool modify(struct cli *cli, struct im_err *err) {
    return cli_modify(cli, "ModifyInstanceAttributes", "instance", err);
}

static bool clone(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    IM_AUTO(im_strings_done) struct im_strings vxnets = {0};

    for (size_t i = 0; !cli_flag(cli, "no-network") && i < cli->args.count; i++) {
        IM_AUTO(free_auto) char *vxnet = im_printf("%s|vxnet-0", cli->args.items[i]);

        im_strings_add(&vxnets, vxnet);
    }
    client_param_list(&params, "instances", &cli->args);
    client_param_list(&params, "vxnets", &vxnets);
    if (!cli_call(cli, "CloneInstances", &params, &doc, err))
        return false;
    cli_reply_ids(doc, "instances", &ids);
    return cli_finish_job(cli, doc, &ids, &instance_listing, err);
}

static bool console_log(struct cli *cli, struct im_err *err) {
    IM_AUTO(free_auto) char *bytes = NULL;
    size_t len;

    /* one signed call first, so that a missing zone or key is told as everywhere */
    if (cli_client(cli, err) == NULL ||
        !client_console_log(cli->client, cli->args.items[0], &bytes, &len, err))
        return false;
    fwrite(bytes, 1, len, cli->out);
    return true;
}

static const struct option list_options[] = {
    {"image", 'i', "IMAGE", NULL, "only those made from these images", "image_id", OPTION_MANY,
     "@image"},
    {0},
};
static const struct option stop_options[] = {
    {"force", 'f', NULL, NULL, "power off at once, without asking the system inside", "force", 0,
     NULL},
    {0},
};
static const struct option terminate_options[] = {
    {"now", 0, NULL, NULL, "skip the recycle bin", "direct_cease", 0, NULL},
    {0},
};
static const struct option resize_options[] = {
    {"cpu", 'c', "CPUS", NULL, "number of CPUs", "cpu", OPTION_INT, NULL},
    {"memory", 'm', "SIZE", NULL, "memory: 2048 is MiB, 2G is the same", "memory", OPTION_SIZE_MIB,
     NULL},
    {"type", 't', "TYPE", NULL, "instance type", "instance_type", 0, "@type"},
    {"disk", 'd', "SIZE", NULL, "system disk: 40 is GiB; grows only", "os_disk_size",
     OPTION_SIZE_GIB, NULL},
    {0},
};
static const struct option reset_options[] = {
    {"image", 'i', "IMAGE", "the one it was made from", "image of the new system", "image_id", 0,
     "@image"},
    {"disk", 'd', "SIZE", "as it is", "system disk: 40 is GiB", "os_disk_size", OPTION_SIZE_GIB,
     NULL},
    {"keypair", 'k', "KEYPAIR", "as before", "key pair that is let in", NULL, 0, "@keypair"},
    PASSWORD_OPTION,
    {0},
};
static const struct option modify_options[] = {
    {"name", 'N', "NAME", NULL, "new name", "instance_name", OPTION_EMPTY, NULL},
    {"description", 0, "TEXT", NULL, "new description; \"\" removes it", "description",
     OPTION_EMPTY, NULL},
    {0},
};
static const struct option clone_options[] = {
    {"no-network", 0, NULL, NULL, "clones join no network", NULL, 0, NULL},
    {0},
};
static const struct option ssh_options[] = {
    {"identity", 'i', "FILE", "the instance's key pair in ~/.config/imprint/keys",
     "private key to log in with", NULL, 0, "@file"},
    {"user", 'l', "USER", "the image's", "login user", NULL, 0, NULL},
    {"wait", 'w', NULL, NULL, "wait until the machine answers", NULL, 0, NULL},
    {"timeout", 0, "SECONDS", "300", "give up waiting after so long", NULL, OPTION_INT, NULL},
    {"print", 0, NULL, NULL, "print the ssh command in place of running it", NULL, 0, NULL},
    {0},
};

const struct command instance_commands[] = {
    {"list", "[INSTANCE…]", 0, SIZE_MAX, "@instance", GROUP_LIST, list_options, list,
     "Lists instances, the newest first.", NULL,
     "imprint instance list\n"
     "imprint instance list --status running -q"},
    {"show", "INSTANCE…", 1, 100, "@instance", 0, cli_no_options, show,
     "Shows all that is known of instances.", NULL, "imprint instance show i-4kq0z8pw"},
    {"run", "", 0, 0, NULL, GROUP_WAIT, run_options, run, "Makes and starts instances of an image.",
     "Without --keypair, --password-stdin or --no-login the only key pair there is gets let in; of "
     "several, you are asked.",
     "imprint instance run --image debian12 --cpu 2 --memory 2048 --wait\n"
     "imprint instance run -i web-v1 --count 10 --disk 40 --user-data setup.sh\n"
     "imprint instance run -i debian12 --password-stdin < password.txt"},
    {"start", "INSTANCE…", 1, 1000, "@instance", GROUP_WAIT, cli_no_options, start,
     "Starts stopped instances.", NULL, "imprint instance start i-4kq0z8pw --wait"},
    {"stop", "INSTANCE…", 1, 1000, "@instance", GROUP_WAIT, stop_options, stop,
     "Shuts running instances down.", NULL, "imprint instance stop i-4kq0z8pw --wait"},
    {"restart", "INSTANCE…", 1, 1000, "@instance", GROUP_WAIT, cli_no_options, restart,
     "Restarts running instances.", NULL, "imprint instance restart i-4kq0z8pw"},
    {"terminate", "INSTANCE…", 1, 1000, "@instance", GROUP_WAIT, terminate_options, terminate,
     "Moves instances to the recycle bin.", NULL, "imprint instance terminate i-4kq0z8pw --wait"},
    {"cease", "INSTANCE…", 1, 1000, "@instance", GROUP_WAIT, cli_no_options, cease,
     "Ends instances in the recycle bin for good.", NULL, "imprint instance cease i-4kq0z8pw"},
    {"resize", "INSTANCE…", 1, 1000, "@instance", GROUP_WAIT, resize_options, resize,
     "Changes CPUs, memory and disk of stopped instances.", NULL,
     "imprint instance resize i-4kq0z8pw --cpu 4 --memory 8G --disk 80 --wait"},
    {"reset", "INSTANCE…", 1, 1000, "@instance", GROUP_WAIT, reset_options, reset,
     "Makes the system disk anew from the image; what is on it is lost.", NULL,
     "imprint instance reset i-4kq0z8pw --wait"},
    {"password", "INSTANCE…", 1, 100, "@instance", GROUP_WAIT, cli_no_options, password,
     "Sets the login user's password, read from standard input.",
     "At once where the guest agent runs, else at the next boot; 'imprint instance show' tells "
     "which. In a stopped Linux without cloud-init its disk is changed. Only its hash is kept.",
     "imprint instance password i-4kq0z8pw --wait < password.txt"},
    {"modify", "INSTANCE", 1, 1, "@instance", 0, modify_options, modify,
     "Changes name and description of an instance.", NULL,
     "imprint instance modify i-4kq0z8pw --name web-1"},
    {"clone", "INSTANCE…", 1, 100, "@instance", GROUP_WAIT, clone_options, clone,
     "Makes copies of instances, disks included.", NULL,
     "imprint instance clone i-4kq0z8pw --wait"},
    {"ssh", "INSTANCE", 1, 1, "@instance", GROUP_PASSTHROUGH, ssh_options, cli_instance_ssh,
     "Logs in to an instance, or runs a command in it.",
     "Host keys are kept per instance in ~/.config/imprint/known_hosts.",
     "imprint instance ssh i-4kq0z8pw\n"
     "imprint instance ssh i-4kq0z8pw --wait -- uname -a"},
    {"console", "INSTANCE", 1, 1, "@instance", 0, cli_no_options, cli_instance_console,
     "Opens the serial console of a running instance; Ctrl-] leaves it.",
     "Works without a terminal, too: standard input is typed, what the machine prints goes to "
     "standard output, until either ends.",
     "imprint instance console i-4kq0z8pw"},
    {"log", "INSTANCE", 1, 1, "@instance", 0, cli_no_options, console_log,
     "Prints what the serial console showed so far.", NULL, "imprint instance log i-4kq0z8pw"},
    {"monitor", "INSTANCE", 1, 1, "@instance", 0, cli_monitor_options, cli_instance_monitor,
     "Shows what an instance used: CPUs, memory, disks and cards.",
     "A line each, with a small chart: percent against 100, the rest against its largest value. "
     "Values are means of a step; those of five minutes are kept for 15 days, those of two hours "
     "for 180. With -o json and -o csv, each value and its time (UTC).",
     "imprint instance monitor i-4kq0z8pw\n"
     "imprint instance monitor i-4kq0z8pw --since 2d --meter cpu,disk-os -o csv"},
    {0},
};
