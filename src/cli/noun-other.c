/* SPDX-License-Identifier: Apache-2.0 */
/* imprint job, pool, type, zone, network, key and user. */
#include "cli-private.h"

#include <string.h>

/* --- Jobs ---------------------------------------------------------------------------------------
 */

static const struct column job_columns[] = {
    {"ID", "job_id", FORM_TEXT, 0},
    {"ACTION", "job_action", FORM_TEXT, 0},
    {"STATUS", "status", FORM_TEXT, 0},
    {"DONE", "percent", FORM_PROGRESS, 0},
    {"RESOURCES", "resource_ids", FORM_TEXT, 1},
    {"CREATED", "create_time", FORM_TIME, 2},
    {"ERROR", "error_message", FORM_TEXT, 1},
    {0},
};
const struct listing job_listing = {"DescribeJobs", "job_set",   "job_id",
                                    "jobs",         job_columns, "no jobs"};

static bool job_list(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    client_param(&params, "verbose", "1");
    return cli_list(cli, &job_listing, &params, err);
}

/* Also what came out for each of its resources. */
static bool job_show(struct cli *cli, struct im_err *err) {
    return cli_show(cli, &job_listing, err);
}

static bool job_wait(struct cli *cli, struct im_err *err) {
    for (size_t i = 0; i < cli->args.count; i++) {
        if (!cli_follow_job(cli, cli->args.items[i], NULL, err))
            return false;
        fprintf(cli->out, cli->quiet ? "%s\n" : "%s successful\n", cli->args.items[i]);
    }
    return true;
}

static bool job_cancel(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(free_auto) char *ids = im_strings_join(&cli->args, " ");

    client_param_list(&params, "jobs", &cli->args);
    if (!cli_call(cli, "CancelJobs", &params, &doc, err))
        return false;
    cli_print_done(cli, doc, &cli->args, "%s: asked to stop", ids);
    return true;
}

static const struct option job_list_options[] = {
    {"action", 0, "ACTION", NULL, "only these: RunInstances, ImportImage …", "job_action",
     OPTION_MANY, NULL},
    {0},
};
static const struct option timeout_options[] = {
    {"timeout", 0, "SECONDS", "none", "stop waiting after so long; the job goes on", NULL,
     OPTION_INT, NULL},
    {0},
};

const struct command job_commands[] = {
    {"list", "[JOB…]", 0, SIZE_MAX, "@job", GROUP_LIST, job_list_options, job_list,
     "Lists jobs, the newest first.", NULL,
     "imprint job list --status working\nimprint job list -n 5"},
    {"show", "JOB…", 1, 100, "@job", 0, cli_no_options, job_show,
     "Shows all that is known of jobs, with the result for each resource.", NULL,
     "imprint job show j-1v211t6p04l"},
    {"wait", "JOB…", 1, 1000, "@job", 0, timeout_options, job_wait,
     "Waits until jobs are over, with progress.",
     "Ends with 0 when all went well, 6 when the time was up, 7 when a job was done in part.",
     "imprint job wait j-1v211t6p04l --timeout 600"},
    {"cancel", "JOB…", 1, 1000, "@job", 0, cli_no_options, job_cancel,
     "Asks jobs to stop; what they made is taken back.", NULL, "imprint job cancel j-1v211t6p04l"},
    {0},
};

/* --- The pool -----------------------------------------------------------------------------------
 */

static void tell(struct cli *cli, const struct wire_value *root, const char *kind) {
    const struct wire_value *lines = wire_get(root, kind);

    for (size_t i = 0; i < wire_count(lines); i++)
        fprintf(cli->out, "%s: %s\n", kind, wire_as_text(wire_at(lines, i), ""));
}

/* How far the scrub is. */
static void tell_reading(struct cli *cli, const struct wire_value *root) {
    long long unread = wire_get_int(root, "unread", 0);
    const char *oldest = wire_get_text(root, "oldest_check", "");

    if (unread > 0)
        fprintf(cli->out, "scrub: %lld frozen layer%s not read yet\n", unread,
                unread == 1 ? "" : "s");
    if (oldest[0] != '\0')
        fprintf(cli->out, "scrub: the others were read since %s\n", oldest);
}

static bool pool_scrub(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    const char *rate = cli_value(cli, "rate");
    uint64_t bytes = 0;

    if (rate != NULL && !im_parse_size(rate, &bytes))
        return cli_usage(cli, err, "--rate %s is no number of bytes: 100M, or 0 for no limit",
                         rate);
    if (rate != NULL) {
        IM_AUTO(free_auto) char *text = im_printf("%llu", (unsigned long long) bytes);

        client_param(&params, "rate", text);
    }
    return cli_call(cli, "ScrubPool", &params, &doc, err) &&
           cli_finish_job(cli, doc, &ids, NULL, err);
}

static const struct option scrub_options[] = {
    {"rate", 0, "BYTES", "as configured", "read so much a second; 0 = as fast as it goes", NULL, 0,
     NULL},
    {0},
};

static bool pool_pause(struct cli *cli, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;

    return cli_call(cli, "PauseMerging", NULL, &doc, err);
}

static bool pool_resume(struct cli *cli, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;

    return cli_call(cli, "ResumeMerging", NULL, &doc, err);
}

static bool pool_check(struct cli *cli, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const struct wire_value *root;
    long long layers;
    bool clean;

    if (!cli_call(cli, "CheckPool", NULL, &doc, err))
        return false;
    root = wire_root(doc);
    clean = wire_get_int(root, "clean", 0) != 0;
    layers = wire_get_int(root, "layers", 0);
    if (cli->output == OUTPUT_JSON) {
        IM_AUTO(free_auto) char *text = wire_dump(root, true);

        fprintf(cli->out, "%s\n", text);
    } else {
        tell(cli, root, "orphans");
        tell(cli, root, "missing");
        tell(cli, root, "wrong");
        tell(cli, root, "damaged");
        if (!cli->quiet)
            fprintf(cli->out,
                    "%s: %lld layer%s compared, %lld left out because jobs work on them\n",
                    clean ? "clean" : "not clean", layers, layers == 1 ? "" : "s",
                    (long long) wire_get_int(root, "busy", 0));
        if (!cli->quiet)
            tell_reading(cli, root);
        if (!cli->quiet && im_str_equal(wire_get_text(root, "merging", ""), "paused"))
            fprintf(cli->out, "layers are not merged: paused\n");
    }
    if (!clean)
        cli->exit = CLI_FAILED;
    return true;
}

static const struct column usage_columns[] = {
    {"ID", "resource_id", FORM_TEXT, 0},
    {"KIND", "resource_type", FORM_TEXT, 0},
    {"SEEN BY IT", "virtual_bytes", FORM_BYTES, 0},
    {"ITS OWN", "own_bytes", FORM_BYTES, 0},
    {"SHARED", "shared_bytes", FORM_BYTES, 0},
    {0},
};
static const struct listing usage_listing = {"DescribeUsage", "usage_set",   "resource_id",
                                             "resources",     usage_columns, "nothing takes space"};

static bool pool_usage(struct cli *cli, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const struct wire_value *root;
    char used[16], left[16], total[16];

    if (!cli_call(cli, "DescribeUsage", NULL, &doc, err))
        return false;
    root = wire_root(doc);
    if (cli->output == OUTPUT_JSON && !cli->quiet) {
        IM_AUTO(free_auto) char *text = wire_dump(root, true);

        fprintf(cli->out, "%s\n", text);
        return true;
    }
    cli_print_set(cli, &usage_listing, wire_get(root, "usage_set"));
    if (cli->output == OUTPUT_TABLE && !cli->quiet)
        fprintf(stderr, "pool: %s used, %s of %s free\n",
                im_size_text((uint64_t) wire_get_int(root, "pool_used_bytes", 0), used),
                im_size_text((uint64_t) wire_get_int(root, "pool_free_bytes", 0), left),
                im_size_text((uint64_t) wire_get_int(root, "pool_total_bytes", 0), total));
    return true;
}

const struct command pool_commands[] = {
    {"check", "", 0, 0, NULL, 0, cli_no_options, pool_check,
     "Compares the pool with the record (administrators only).",
     "Prints what is in the pool and in no record (orphans), what the record names and the pool "
     "has not (missing), what differs (wrong), and what has rotted or is lost (damaged). Ends with "
     "1 unless all is clean.",
     "imprint pool check"},
    {"pause", "", 0, 0, NULL, 0, cli_no_options, pool_pause,
     "Pauses the merging of layers (administrators only).",
     "What is under way ends without effect. It lasts until imprint pool resume, also when "
     "imprintd "
     "is started again.",
     "imprint pool pause"},
    {"resume", "", 0, 0, NULL, 0, cli_no_options, pool_resume,
     "Merges layers again (administrators only).",
     "Layers that nothing needs but the one above them are merged into it, and long chains are "
     "shortened, at the pace of [storage] merge_rate in imprintd.conf.",
     "imprint pool resume"},
    {"scrub", "", 0, 0, NULL, GROUP_WAIT, scrub_options, pool_scrub,
     "Reads all frozen layers and compares them with their digests (administrators only).",
     "What has rotted is named and put right where the second pool has a good copy; copies there "
     "are read, too. imprintd does the same by itself, slowly.",
     "imprint pool scrub --rate 200M --wait"},
    {"usage", "", 0, 0, NULL, 0, cli_no_options, pool_usage, "Shows what takes the space.",
     "For each image and instance: the size that it sees, the bytes that it alone holds, and those "
     "that it reads from layers it shares.",
     "imprint pool usage"},
    {0},
};

/* --- Types, zones, networks
 * -------------------------------------------------------------------------------
 */

static const struct column type_columns[] = {
    {"TYPE", "instance_type_id", FORM_TEXT, 0}, {"CPUS", "vcpus_current", FORM_INT, 0},
    {"MEMORY", "memory_current", FORM_MIB, 0},  {"CLASS", "instance_class", FORM_INT, 1},
    {"STATUS", "status", FORM_TEXT, 1},         {0},
};
static const struct listing type_listing = {
    "DescribeInstanceTypes", "instance_type_set", "instance_type_id",
    "instance_types",        type_columns,        "no types"};
static const struct column zone_columns[] = {
    {"ZONE", "zone_id", FORM_TEXT, 0},
    {"STATUS", "status", FORM_TEXT, 0},
    {0},
};
static const struct listing zone_listing = {"DescribeZones", "zone_set",   "zone_id",
                                            "zones",         zone_columns, "no zones"};

static const struct column network_columns[] = {
    {"NETWORK", "vxnet_id", FORM_TEXT, 0},
    {"MODE", "mode", FORM_TEXT, 0},
    {"SUBNET", "ip_network", FORM_TEXT, 0},
    {"GATEWAY", "gateway", FORM_TEXT, 1},
    {"FREE", "available_ip_count", FORM_INT, 1},
    {"ABOUT", "description", FORM_TEXT, 2},
    {0},
};
static const struct listing network_listing = {"DescribeVxnets", "vxnet_set",     "vxnet_id",
                                               "vxnets",         network_columns, "no networks"};

static bool type_list(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    return cli_list(cli, &type_listing, &params, err);
}

static bool zone_list(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    return cli_list(cli, &zone_listing, &params, err);
}

static bool network_list(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    return cli_list(cli, &network_listing, &params, err);
}

const struct command network_commands[] = {
    {"list", "", 0, 0, NULL, 0, cli_no_options, network_list,
     "Lists networks: which addresses machines get, and how they are connected.", NULL,
     "imprint network list"},
    {0},
};
const struct command type_commands[] = {
    {"list", "[TYPE…]", 0, SIZE_MAX, NULL, 0, cli_no_options, type_list,
     "Lists instance types; any other CPU count and memory can be had too.", NULL,
     "imprint type list"},
    {0},
};
const struct command zone_commands[] = {
    {"list", "", 0, 0, NULL, 0, cli_no_options, zone_list, "Lists zones.", NULL,
     "imprint zone list"},
    {0},
};

/* --- Access keys --------------------------------------------------------------------------------
 */

static const struct column key_columns[] = {
    {"ID", "access_key_id", FORM_TEXT, 0},    {"NAME", "access_key_name", FORM_TEXT, 1},
    {"STATUS", "status", FORM_TEXT, 0},       {"OWNER", "owner", FORM_TEXT, 1},
    {"CREATED", "create_time", FORM_TIME, 2}, {0},
};
static const struct listing key_listing = {"DescribeAccessKeys", "access_key_set",
                                           "access_key_id",      "access_keys",
                                           key_columns,          "no access keys"};

static bool key_list(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    return cli_list(cli, &key_listing, &params, err);
}

static bool key_delete(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(free_auto) char *ids = im_strings_join(&cli->args, " ");

    for (size_t i = 0; i < cli->args.count; i++)
        if (im_str_equal(cli->args.items[i], cli->settings.access_key_id) &&
            !cli_flag(cli, "force"))
            return cli_usage(cli, err, "%s is the key that you use right now: --force deletes it",
                             cli->args.items[i]);
    client_param_list(&params, "access_keys", &cli->args);
    if (!cli_call(cli, "DeleteAccessKeys", &params, &doc, err))
        return false;
    cli_print_done(cli, doc, &cli->args, "%s: deleted", ids);
    return true;
}

static const struct option key_delete_options[] = {
    {"force", 0, NULL, NULL, "also the key that is in use for this very call", NULL, 0, NULL},
    {0},
};

const struct command key_commands[] = {
    {"list", "[KEY…]", 0, SIZE_MAX, "@key", GROUP_LIST, cli_no_options, key_list,
     "Lists access keys; their secrets are never shown again.", NULL, "imprint key list"},
    {"delete", "KEY…", 1, 100, "@key", 0, key_delete_options, key_delete, "Deletes access keys.",
     NULL, "imprint key delete TESTACCESSKEY0000002"},
    {0},
};

/* --- Users --------------------------------------------------------------------------------------
 */

static const struct column user_columns[] = {
    {"ID", "user_id", FORM_TEXT, 0},
    {"NAME", "user_name", FORM_TEXT, 0},
    {"ROLE", "role", FORM_TEXT, 0},
    {"STATUS", "status", FORM_TEXT, 0},
    {"EMAIL", "email", FORM_TEXT, 1},
    {"CREATED", "create_time", FORM_TIME, 2},
    {0},
};
static const struct listing user_listing = {"DescribeUsers", "user_set",   "user_id",
                                            "users",         user_columns, "no users"};

static bool user_list(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    return cli_list(cli, &user_listing, &params, err);
}

static bool user_add(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    cli_params(cli, &params);
    client_param(&params, "user_name", cli->args.items[0]);
    client_param(&params, "role", cli_flag(cli, "admin") ? "admin" : "user");
    if (!cli_call(cli, "CreateUser", &params, &doc, err))
        return false;
    im_strings_add(&ids, wire_get_text(wire_root(doc), "user_id", ""));
    cli_print_done(cli, doc, &ids, "%s", ids.items[0]);
    if (cli->output == OUTPUT_TABLE && !cli->quiet)
        fprintf(stderr, "next: imprint user key %s\n", cli->args.items[0]);
    return true;
}

/* The secret is shown once, in the form that the settings file has. */
static bool user_key(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    cli_params(cli, &params);
    client_param(&params, "user_name", cli->args.items[0]);
    if (!cli_call(cli, "CreateAccessKey", &params, &doc, err))
        return false;
    im_strings_add(&ids, wire_get_text(wire_root(doc), "access_key_id", ""));
    cli_print_done(cli, doc, &ids, "access_key_id = %s\nsecret_access_key = %s", ids.items[0],
                   wire_get_text(wire_root(doc), "secret_access_key", ""));
    return true;
}

static const struct option user_add_options[] = {
    {"email", 0, "ADDRESS", NULL, "mail address", "email", 0, NULL},
    {"admin", 0, NULL, NULL, "an administrator, who sees and may do all", NULL, 0, NULL},
    {0},
};
static const struct option user_key_options[] = {
    {"name", 'N', "NAME", NULL, "name of the key", "access_key_name", 0, NULL},
    {0},
};

const struct command user_commands[] = {
    {"list", "", 0, 0, NULL, 0, cli_no_options, user_list, "Lists users.", NULL,
     "imprint user list"},
    {"add", "NAME", 1, 1, NULL, 0, user_add_options, user_add, "Adds a user.", NULL,
     "imprint user add ann --email ann@example.com"},
    {"key", "NAME", 1, 1, "@user", 0, user_key_options, user_key,
     "Makes an access key for a user; its secret is shown only now.", NULL,
     "imprint user key ann --name laptop"},
    {0},
};
