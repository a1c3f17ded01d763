/* SPDX-License-Identifier: Apache-2.0 */
/* imprint volume: list, show, create, attach, detach, resize, clone, delete, modify; monitor has a
 * file of its own. */
#include "cli-private.h"

static const struct column columns[] = {
    {"ID", "volume_id", FORM_TEXT, 0},
    {"NAME", "volume_name", FORM_TEXT, 1},
    {"STATE", "status", FORM_STATE, 0},
    {"SIZE", "size", FORM_GIB, 0},
    {"INSTANCE", "instance.instance_id", FORM_TEXT, 0},
    {"DEVICE", "device", FORM_TEXT, 1},
    {"TYPE", "volume_type", FORM_INT, 3},
    {"CREATED", "create_time", FORM_TIME, 2},
    {"BACKED UP", "latest_snapshot_time", FORM_TIME, 3},
    {"DESCRIPTION", "description", FORM_TEXT, 4},
    {0},
};
const struct listing volume_listing = {
    "DescribeVolumes", "volume_set",
    "volume_id",       "volumes",
    columns,           "no volumes: make one with 'imprint volume create --size 20 --wait'"};

static bool list(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    client_param(&params, "verbose", "1"); /* guests tell the devices' names */
    return cli_list(cli, &volume_listing, &params, err);
}

static bool show(struct cli *cli, struct im_err *err) {
    return cli_show(cli, &volume_listing, err);
}

/* A verb whose reply lists the volumes it made. */
static bool make(struct cli *cli, const char *action, struct client_params *params,
                 struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    cli_params(cli, params);
    if (!cli_call(cli, action, params, &doc, err))
        return false;
    cli_reply_ids(doc, "volumes", &ids);
    return cli_finish_job(cli, doc, &ids, &volume_listing, err);
}

static bool create(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    return make(cli, "CreateVolumes", &params, err);
}

static bool clone(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    client_param(&params, "volume", cli->args.items[0]);
    return make(cli, "CloneVolumes", &params, err);
}

/* A verb on the volumes that are named. */
static bool call_on(struct cli *cli, const char *action, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;

    client_param_list(&params, "volumes", &cli->args);
    cli_params(cli, &params);
    return cli_call(cli, action, &params, &doc, err) &&
           cli_finish_job(cli, doc, &cli->args, &volume_listing, err);
}

static bool attach(struct cli *cli, struct im_err *err) {
    return call_on(cli, "AttachVolumes", err);
}

static bool detach(struct cli *cli, struct im_err *err) {
    return call_on(cli, "DetachVolumes", err);
}

static bool resize(struct cli *cli, struct im_err *err) {
    return call_on(cli, "ResizeVolumes", err);
}

static bool delete (struct cli *cli, struct im_err *err) {
    if (call_on(cli, "DeleteVolumes", err))
        return true;
    if (err->code == IM_WRONG_STATE && client_fault(cli->client) == CLIENT_ANSWERED)
        cli_hint(cli, "imprint volume detach %s --wait", cli->args.items[0]);
    return false;
}

static bool repair(struct cli *cli, struct im_err *err) {
    return cli_repair(cli, &volume_listing, err);
}

static bool modify(struct cli *cli, struct im_err *err) {
    return cli_modify(cli, "ModifyVolumeAttributes", "volume", err);
}

static const struct option list_options[] = {
    {"instance", 'i', "INSTANCE", NULL, "only those attached to these instances", "instance_id",
     OPTION_MANY, "@instance"},
    {0},
};
static const struct option create_options[] = {
    {"size", 's', "SIZE", NULL, "20 is GiB", "size", OPTION_SIZE_GIB | OPTION_REQUIRED, NULL},
    {"name", 'N', "NAME", NULL, "name", "volume_name", 0, NULL},
    {"type", 't', "TYPE", "0", "type of volume", "volume_type", OPTION_INT, NULL},
    {"count", 'n', "COUNT", "1", "how many", "count", OPTION_INT, NULL},
    {"round-up", 0, NULL, NULL, "lift the size to one that is allowed", "round_up", 0, NULL},
    {0},
};
static const struct option attach_options[] = {
    {"instance", 'i', "INSTANCE", NULL, "where to", "instance", OPTION_REQUIRED, "@instance"},
    {0},
};
static const struct option detach_options[] = {
    {"instance", 'i', "INSTANCE", "whatever they are attached to", "where from", "instance", 0,
     "@instance"},
    {0},
};
static const struct option resize_options[] = {
    {"size", 's', "SIZE", NULL, "40 is GiB; grows only", "size", OPTION_SIZE_GIB | OPTION_REQUIRED,
     NULL},
    {0},
};
static const struct option clone_options[] = {
    {"name", 'N', "NAME", "the source's", "name of the clones", "volume_name", 0, NULL},
    {"count", 'n', "COUNT", "1", "how many", "count", OPTION_INT, NULL},
    {"type", 't', "TYPE", "the source's", "type of volume", "volume_type", OPTION_INT, NULL},
    {0},
};
static const struct option delete_options[] = {
    {"now", 0, NULL, NULL, "skip the recycle bin", "direct_cease", 0, NULL},
    {0},
};
static const struct option modify_options[] = {
    {"name", 'N', "NAME", NULL, "new name", "volume_name", OPTION_EMPTY, NULL},
    {"description", 0, "TEXT", NULL, "new description; \"\" removes it", "description",
     OPTION_EMPTY, NULL},
    {0},
};

const struct command volume_commands[] = {
    {"list", "[VOLUME…]", 0, SIZE_MAX, "@volume", GROUP_LIST, list_options, list,
     "Lists volumes, the newest first.", NULL,
     "imprint volume list\nimprint volume list -i i-4kq0z8pw"},
    {"show", "VOLUME…", 1, 100, "@volume", 0, cli_no_options, show,
     "Shows all that is known of volumes.", NULL, "imprint volume show vol-f9ufyi00"},
    {"create", "", 0, 0, NULL, GROUP_WAIT, create_options, create, "Makes empty volumes.", NULL,
     "imprint volume create --size 20 --name data --wait"},
    {"attach", "VOLUME…", 1, 100, "@volume", GROUP_WAIT, attach_options, attach,
     "Plugs volumes into a running or stopped instance.",
     "In the guest they are /dev/disk/by-id/virtio-VOLUME.",
     "imprint volume attach vol-f9ufyi00 --instance i-4kq0z8pw --wait"},
    {"detach", "VOLUME…", 1, 100, "@volume", GROUP_WAIT, detach_options, detach,
     "Takes volumes out of an instance; unmount them in the guest first.", NULL,
     "imprint volume detach vol-f9ufyi00 --wait"},
    {"resize", "VOLUME…", 1, 100, "@volume", GROUP_WAIT, resize_options, resize,
     "Grows volumes, also attached ones: the guest sees the new size at once.", NULL,
     "imprint volume resize vol-f9ufyi00 --size 40 --wait"},
    {"clone", "VOLUME", 1, 1, "@volume", GROUP_WAIT, clone_options, clone,
     "Makes volumes with the same content, in constant time.", NULL,
     "imprint volume clone vol-f9ufyi00 --name copy --wait"},
    {"delete", "VOLUME…", 1, 100, "@volume", GROUP_WAIT, delete_options, delete,
     "Moves volumes to the recycle bin.", NULL, "imprint volume delete vol-f9ufyi00"},
    {"modify", "VOLUME", 1, 1, "@volume", 0, modify_options, modify,
     "Changes name and description of a volume.", NULL,
     "imprint volume modify vol-f9ufyi00 --name data"},
    {"repair", "VOLUME", 1, 1, "@volume", GROUP_WAIT, cli_repair_options, repair,
     "Repairs the disk that a volume holds.",
     "No machine may have it open. As 'imprint image repair' does; --undo also takes back what was "
     "written to the volume since.",
     "imprint volume repair vol-f9ufyi00 --dry-run\n"
     "imprint volume repair vol-f9ufyi00 --wait"},
    {"monitor", "VOLUME", 1, 1, "@volume", 0, cli_monitor_options, cli_volume_monitor,
     "Shows what was read from and written to a volume.",
     "As 'imprint instance monitor' does; series of a volume stay its own, wherever it is "
     "attached.",
     "imprint volume monitor vol-f9ufyi00 --since 1d"},
    {0},
};
