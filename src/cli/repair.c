/* SPDX-License-Identifier: Apache-2.0 */
/* imprint image plan, repair, repairs, and repair of volumes and instances: what is changed on a
 * disk, before and after. */
#include "cli-private.h"

#include <string.h>
#include <unistd.h>

static const struct column columns[] = {
    {"ID", "repair_id", FORM_TEXT, 0},        {"OF", "resource_id", FORM_TEXT, 0},
    {"STATE", "status", FORM_TEXT, 0},        {"CAN BE UNDONE", "undoable", FORM_YES, 1},
    {"FINDINGS", "findings", FORM_TEXT, 1},   {"SEALED", "seal", FORM_TEXT, 3},
    {"CREATED", "create_time", FORM_TIME, 1}, {"OWNER", "owner", FORM_TEXT, 3},
    {"JOB", "job_id", FORM_TEXT, 4},          {0},
};
static const struct listing repair_listing = {
    "DescribeImageRepairs",
    "repair_set",
    "repair_id",
    "repairs",
    columns,
    "no repairs: 'imprint image inspect IMAGE' says what is wrong with one, and 'imprint image "
    "repair IMAGE' repairs it"};

/* --- What is changed -------------------------------------------------------------------------- */

static void print_diff(const char *diff, bool colours) {
    while (*diff != '\0') {
        size_t len = strcspn(diff, "\n");
        const char *colour = !colours         ? ""
                             : diff[0] == '+' ? "\033[32m"
                             : diff[0] == '-' ? "\033[31m"
                             : diff[0] == '@' ? "\033[36m"
                                              : "";

        printf("%s%.*s%s\n", colour, (int) len, diff, colour[0] != '\0' ? "\033[0m" : "");
        diff += len + (diff[len] == '\n');
    }
}

static void print_changes(const struct wire_value *plan) {
    const struct wire_value *repairs = wire_get(plan, "repairs"), *files = wire_get(plan, "files"),
                            *steps = wire_get(plan, "steps");
    bool colours = terminal_colours(STDOUT_FILENO);

    if (wire_count(repairs) == 0)
        printf("there is nothing to repair\n");
    for (size_t i = 0; i < wire_count(repairs); i++) {
        const struct wire_value *repair = wire_at(repairs, i);

        printf("%s%s [%s]\n", wire_get_int(repair, "done", 0) != 0 ? "" : "cannot be repaired: ",
               wire_get_text(repair, "text", ""), wire_get_text(repair, "code", ""));
    }
    for (size_t i = 0; i < wire_count(steps); i++)
        printf("    %s\n", wire_as_text(wire_at(steps, i), ""));
    for (size_t i = 0; i < wire_count(files); i++)
        print_diff(wire_get_text(wire_at(files, i), "diff", ""), colours);
}

bool cli_repair_plan(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const struct wire_value *found;

    cli_params(cli, &params);
    client_param(&params, "image", cli->args.items[0]);
    if (!cli_call(cli, "PlanImageRepair", &params, &doc, err))
        return false;
    found = wire_get(wire_root(doc), "plan");
    if (cli->output == OUTPUT_JSON) {
        IM_AUTO(free_auto) char *text = wire_dump(found, true);

        printf("%s\n", text);
    } else {
        print_changes(found);
    }
    return true;
}

/* --- Repair ----------------------------------------------------------------------------------- */

static bool describe(struct cli *cli, const char *param, const struct im_strings *ids,
                     struct wire_doc **ret_doc, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};

    client_param_list(&params, param, ids);
    client_param(&params, "verbose", "1");
    return cli_call(cli, repair_listing.action, &params, ret_doc, err);
}

/* After the wait: what was done. */
static bool print_outcome(struct cli *cli, const char *repair_id, struct im_err *err) {
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;

    im_strings_add(&ids, repair_id);
    if (!describe(cli, "repairs", &ids, &doc, err))
        return false;
    print_changes(wire_get(wire_at(wire_get(wire_root(doc), repair_listing.set), 0), "changes"));
    return true;
}

static bool order(struct cli *cli, const char *action, const struct listing *listing,
                  struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;

    cli_params(cli, &params);
    client_param(&params, "image", cli->args.items[0]);
    return cli_call(cli, action, &params, &doc, err) &&
           cli_finish_job(cli, doc, &cli->args, listing, err) &&
           (strcmp(action, "RepairImage") != 0 || !cli_flag(cli, "wait") || cli->quiet ||
            cli->output != OUTPUT_TABLE ||
            print_outcome(cli, wire_get_text(wire_root(doc), "repair_id", ""), err));
}

bool cli_repair(struct cli *cli, const struct listing *listing, struct im_err *err) {
    bool undo = cli_flag(cli, "undo");

    if (undo && (cli_flag(cli, "dry-run") || cli_values(cli, "only") || cli_values(cli, "seal")))
        return cli_usage(cli, err, "--undo stands alone: it takes the last repair back");
    if (cli_flag(cli, "dry-run"))
        return cli_repair_plan(cli, err);
    return order(cli, undo ? "UndoImageRepair" : "RepairImage", listing, err);
}

bool cli_image_repair(struct cli *cli, struct im_err *err) {
    return cli_repair(cli, &image_listing, err);
}

const struct option cli_repair_options[] = {
    {"only", 0, "CODE", NULL, "only findings of these codes", "findings", OPTION_MANY, NULL},
    {"seal", 0, "ITEM", NULL,
     "what is taken out for others: machine-id, ssh-keys, leases, random-seed, net-rules, "
     "cloud-init, logs or history",
     "seal", OPTION_MANY,
     "machine-id ssh-keys leases random-seed net-rules cloud-init logs history"},
    {"dry-run", 0, NULL, NULL, "say what would be changed, and change nothing", NULL, 0, NULL},
    {"undo", 0, NULL, NULL, "take the last repair back", NULL, 0, NULL},
    {0},
};

/* --- What was changed ------------------------------------------------------------------------- */

static void print_repair(const struct wire_value *repair) {
    printf("%s  %s: %s%s\n", wire_get_text(repair, "repair_id", ""),
           wire_get_text(repair, "resource_id", ""), wire_get_text(repair, "status", ""),
           wire_get_int(repair, "undoable", 0) != 0 ? ", can be undone" : "");
    if (wire_kind(wire_get(repair, "changes")) == WIRE_OBJECT)
        print_changes(wire_get(repair, "changes"));
}

/* Of those that are named, or of the disks that are. */
bool cli_image_repairs(struct cli *cli, struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const struct wire_value *set;
    bool repairs;

    if (cli->args.count == 0)
        return cli_list(cli, &repair_listing, &params, err);
    repairs = im_starts_with(cli->args.items[0], "rep-");
    if (!describe(cli, repairs ? "repairs" : "images", &cli->args, &doc, err))
        return false;
    set = wire_get(wire_root(doc), repair_listing.set);
    if (repairs && wire_count(set) == 0) {
        cli->exit = CLI_NOT_FOUND;
        return im_fail(err, IM_NOT_FOUND, "repair %s does not exist", cli->args.items[0]);
    }
    if (cli->quiet || cli->output != OUTPUT_TABLE) {
        cli_print_set(cli, &repair_listing, set);
        return true;
    }
    if (wire_count(set) == 0)
        fprintf(stderr, "%s was not repaired\n", cli->args.items[0]);
    for (size_t i = 0; i < wire_count(set); i++)
        print_repair(wire_at(set, i));
    return true;
}
