/* SPDX-License-Identifier: Apache-2.0 */
/* imprint snapshot: points in time of instances and volumes, and what is made of them; and
 * imprint recover, which takes things out of the recycle bin. */
#include "cli-private.h"

static const struct column columns[] = {
    {"ID", "snapshot_id", FORM_TEXT, 0},
    {"NAME", "snapshot_name", FORM_TEXT, 1},
    {"STATE", "status", FORM_STATE, 0},
    {"OF", "resource.resource_id", FORM_TEXT, 0},
    {"AFTER", "parent_id", FORM_TEXT, 1},
    {"MB", "size", FORM_INT, 1},
    {"HEAD", "is_head", FORM_YES, 2},
    {"TAKEN", "snapshot_time", FORM_TIME, 1},
    {"COPIED", "copy_time", FORM_TIME, 3},
    {"DAMAGED", "damaged", FORM_YES, 3},
    {"CONSISTENCY", "consistency", FORM_TEXT, 3},
    {"CHAIN", "root_id", FORM_TEXT, 4},
    {"POINTS", "total_count", FORM_INT, 4},
    {"CHAIN MB", "total_size", FORM_INT, 4},
    {"DESCRIPTION", "description", FORM_TEXT, 4},
    {0},
};
const struct listing snapshot_listing = {
    "DescribeSnapshots",
    "snapshot_set",
    "snapshot_id",
    "snapshots",
    columns,
    "no snapshots: take one with 'imprint snapshot create INSTANCE --wait'"};

static bool list(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    return cli_list(cli, &snapshot_listing, &params, err);
}

static bool show(struct cli *cli, struct im_err *err) {
    return cli_show(cli, &snapshot_listing, err);
}

static bool create(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    client_param_list(&params, "resources", &cli->args);
    cli_params(cli, &params);
    if (!cli_call(cli, "CreateSnapshots", &params, &doc, err))
        return false;
    cli_reply_ids(doc, "snapshots", &ids);
    return cli_finish_job(cli, doc, &ids, &snapshot_listing, err);
}

static bool call_on(struct cli *cli, const char *action, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;

    client_param_list(&params, "snapshots", &cli->args);
    cli_params(cli, &params);
    if (cli_flag(cli, "alone"))
        client_param(&params, "merge_action", "commit");
    return cli_call(cli, action, &params, &doc, err) &&
           cli_finish_job(cli, doc, &cli->args, &snapshot_listing, err);
}

static bool apply(struct cli *cli, struct im_err *err) {
    return call_on(cli, "ApplySnapshots", err);
}

static bool delete (struct cli *cli, struct im_err *err) {
    return call_on(cli, "DeleteSnapshots", err);
}

static bool copy(struct cli *cli, struct im_err *err) { return call_on(cli, "CopySnapshots", err); }

static bool restore(struct cli *cli, struct im_err *err) {
    return call_on(cli, "RestoreSnapshots", err);
}

static bool forget(struct cli *cli, struct im_err *err) {
    return call_on(cli, "DeleteSnapshotCopies", err);
}

static const struct column copy_columns[] = {
    {"ID", "snapshot_id", FORM_TEXT, 0},   {"NAME", "snapshot_name", FORM_TEXT, 1},
    {"OF", "resource_id", FORM_TEXT, 0},   {"TAKEN", "snapshot_time", FORM_TIME, 1},
    {"COPIED", "copy_time", FORM_TIME, 1}, {"BYTES", "file_bytes", FORM_BYTES, 1},
    {"WHOLE", "whole", FORM_YES, 0},       {"OWNER", "owner", FORM_TEXT, 3},
    {"TROUBLE", "trouble", FORM_TEXT, 2},  {0},
};
static const struct listing copy_listing = {
    "DescribeSnapshotCopies",
    "snapshot_copy_set",
    "snapshot_id",
    "snapshots",
    copy_columns,
    "no copies: make one with 'imprint snapshot copy SNAPSHOT --wait'"};

static bool copies(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;

    client_param_list(&params, "snapshots", &cli->args);
    if (!cli_call(cli, "DescribeSnapshotCopies", &params, &doc, err))
        return false;
    cli_print_set(cli, &copy_listing, wire_get(wire_root(doc), copy_listing.set));
    return true;
}

static bool modify(struct cli *cli, struct im_err *err) {
    return cli_modify(cli, "ModifySnapshotAttributes", "snapshot", err);
}

/* A verb that makes one thing, named by `key` in the reply. */
static bool make(struct cli *cli, const char *action, const char *key,
                 const struct listing *listing, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings ids = {0};

    client_param(&params, "snapshot", cli->args.items[0]);
    cli_params(cli, &params);
    if (!cli_call(cli, action, &params, &doc, err))
        return false;
    im_strings_add(&ids, wire_get_text(wire_root(doc), key, ""));
    return cli_finish_job(cli, doc, &ids, listing, err);
}

static bool to_volume(struct cli *cli, struct im_err *err) {
    return make(cli, "CreateVolumeFromSnapshot", "volume_id", &volume_listing, err);
}

static bool to_image(struct cli *cli, struct im_err *err) {
    return make(cli, "CaptureImageFromSnapshot", "image_id", &image_listing, err);
}

static bool recover(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(free_auto) char *ids = im_strings_join(&cli->args, " ");

    client_param_list(&params, "resources", &cli->args);
    if (!cli_call(cli, "RecoverResources", &params, &doc, err))
        return false;
    cli_print_done(cli, doc, &cli->args, "%s: back from the recycle bin", ids);
    return true;
}

static const struct option list_options[] = {
    {"of", 0, "RESOURCE", NULL, "only those of these instances and volumes", "resource_id",
     OPTION_MANY, "@disk"},
    {"chain", 0, "SNAPSHOT", NULL, "only points of the chains with these full ones", "root_id",
     OPTION_MANY, "@snapshot"},
    {0},
};
static const struct option create_options[] = {
    {"name", 'N', "NAME", NULL, "name", "snapshot_name", 0, NULL},
    {"full", 0, NULL, NULL, "begin a new chain", "is_full", 0, NULL},
    {0},
};
static const struct option delete_options[] = {
    {"alone", 0, NULL, NULL, "an increment goes alone, those after it stay", NULL, 0, NULL},
    {"now", 0, NULL, NULL, "skip the recycle bin", "direct_cease", 0, NULL},
    {0},
};
static const struct option volume_options[] = {
    {"name", 'N', "NAME", NULL, "name of the volume", "volume_name", 0, NULL},
    {0},
};
static const struct option image_options[] = {
    {"name", 'N', "NAME", NULL, "name of the image", "image_name", 0, NULL},
    {"base", 'b', "IMAGE", "the one its instance was made from",
     "an image whose platform, login user … the new one has where the disk does not tell",
     "base_image", 0, "@image"},
    {"force", 0, NULL, NULL, "take a volume's disk whatever is wrong with it", "force", 0, NULL},
    {"description", 0, "TEXT", NULL, "description", "description", 0, NULL},
    {0},
};
static const struct option modify_options[] = {
    {"name", 'N', "NAME", NULL, "new name", "snapshot_name", OPTION_EMPTY, NULL},
    {"description", 0, "TEXT", NULL, "new description; \"\" removes it", "description",
     OPTION_EMPTY, NULL},
    {0},
};

const struct command snapshot_commands[] = {
    {"list", "[SNAPSHOT…]", 0, SIZE_MAX, "@snapshot", GROUP_LIST, list_options, list,
     "Lists points in time, the newest first.", NULL,
     "imprint snapshot list\nimprint snapshot list --of i-4kq0z8pw"},
    {"show", "SNAPSHOT…", 1, 100, "@snapshot", 0, cli_no_options, show,
     "Shows all that is known of points.", NULL, "imprint snapshot show ss-8s3hc600"},
    {"create", "INSTANCE|VOLUME…", 1, 100, "@disk", GROUP_WAIT, create_options, create,
     "Takes a point in time of each, all at one instant; running or not.",
     "An increment where there is a chain with room, else the first point of a new one.",
     "imprint snapshot create i-4kq0z8pw vol-f9ufyi00 --name before-upgrade --wait"},
    {"apply", "SNAPSHOT…", 1, 100, "@snapshot", GROUP_WAIT, cli_no_options, apply,
     "Rolls disks back to points in time; what they hold now is lost.",
     "Running instances are stopped and started.", "imprint snapshot apply ss-8s3hc600 --wait"},
    {"volume", "SNAPSHOT", 1, 1, "@snapshot", GROUP_WAIT, volume_options, to_volume,
     "Makes a volume of a volume's point.", NULL,
     "imprint snapshot volume ss-8s3hc600 --name restored --wait"},
    {"image", "SNAPSHOT", 1, 1, "@snapshot", GROUP_WAIT, image_options, to_image,
     "Makes an image of an instance's or volume's point.", NULL,
     "imprint snapshot image ss-8s3hc600 --name web-v1 --wait"},
    {"delete", "SNAPSHOT…", 1, 100, "@snapshot", GROUP_WAIT, delete_options, delete,
     "Deletes points: a full one with its chain, an increment with all after it.",
     "Full ones lie in the recycle bin for a while, increments are gone at once.",
     "imprint snapshot delete ss-8s3hc600"},
    {"copy", "SNAPSHOT…", 1, 100, "@snapshot", GROUP_WAIT, cli_no_options, copy,
     "Copies points to the second pool, only what is not there yet.",
     "A copy is whole by itself: it can be restored when the first pool or the record is lost.",
     "imprint snapshot copy ss-8s3hc600 --wait"},
    {"copies", "[SNAPSHOT…]", 0, 100, "@snapshot", 0, cli_no_options, copies,
     "Lists what is in the second pool, read from there.", NULL, "imprint snapshot copies"},
    {"restore", "SNAPSHOT…", 1, 100, NULL, GROUP_WAIT, cli_no_options, restore,
     "Brings points back from the second pool.",
     "Also such as were deleted, or are not in the record any more. What rests on the same layers "
     "is usable again too; disks that were lost are rolled back with 'imprint snapshot apply'.",
     "imprint snapshot restore ss-8s3hc600 --wait"},
    {"forget", "SNAPSHOT…", 1, 100, NULL, GROUP_WAIT, cli_no_options, forget,
     "Removes copies from the second pool; the points stay.", NULL,
     "imprint snapshot forget ss-8s3hc600"},
    {"modify", "SNAPSHOT", 1, 1, "@snapshot", 0, modify_options, modify,
     "Changes name and description of a point.", NULL,
     "imprint snapshot modify ss-8s3hc600 --name before-upgrade"},
    {0},
};

const struct command recover_commands[] = {
    {"", "RESOURCE…", 1, 100, NULL, 0, cli_no_options, recover,
     "Takes images, instances, volumes and full snapshots out of the recycle bin.", NULL,
     "imprint recover vol-f9ufyi00"},
    {0},
};
