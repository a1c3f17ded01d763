/* SPDX-License-Identifier: Apache-2.0 */
/* The table of nouns, and the options that many commands share. */
#include "cli-private.h"

const struct option cli_global_options[] = {
    {"output", 'o', "FORM", "table", "form of the output", NULL, 0, "table json csv"},
    {"quiet", 'q', NULL, NULL, "only ids, and no progress", NULL, 0, NULL},
    {"endpoint", 0, "URL", "http://127.0.0.1:7200/iaas/", "the server's API", NULL, 0, NULL},
    {"access-key", 0, "ID", NULL, "id of the access key", NULL, 0, NULL},
    {"secret-file", 0, "FILE", NULL, "file whose first line is the secret access key", NULL, 0,
     "@file"},
    {"zone", 0, "ZONE", "the server's", "the zone to work in", NULL, 0, "@zone"},
    {"ca-file", 0, "FILE", "the system's", "certificates (PEM) to trust with https", NULL, 0,
     "@file"},
    {"config", 0, "FILE", "~/.config/imprint/config", "settings to read", NULL, 0, "@file"},
    {"help", 'h', NULL, NULL, "this text", NULL, 0, NULL},
    {"version", 0, NULL, NULL, "the program's version", NULL, 0, NULL},
    {0},
};

const struct option cli_list_options[] = {
    {"search", 's', "WORD", NULL, "only those with WORD in id or name", "search_word", 0, NULL},
    {"status", 0, "STATUS", NULL, "only those in these states", "status", OPTION_MANY, NULL},
    {"sort", 0, "FIELD", "create_time", "field to sort by, largest or newest first", "sort_key", 0,
     NULL},
    {"reverse", 'r', NULL, NULL, "smallest or oldest first", "reverse", 0, NULL},
    {"limit", 'n', "COUNT", "all", "at most so many", NULL, OPTION_INT, NULL},
    {0},
};

const struct option cli_wait_options[] = {
    {"wait", 'w', NULL, NULL, "wait until it is done, with progress", NULL, 0, NULL},
    {"timeout", 0, "SECONDS", "none", "stop waiting after so long; the job goes on", NULL,
     OPTION_INT, NULL},
    {0},
};

static const struct option configure_options[] = {
    {"no-input", 0, NULL, NULL, "ask nothing: write what options and environment say", NULL, 0,
     NULL},
    {"no-check", 0, NULL, NULL, "do not try the key at the server", NULL, 0, NULL},
    {0},
};

static const struct command configure_commands[] = {
    {.verb = "",
     .args = "",
     .options = configure_options,
     .run = cli_configure,
     .help = "Asks for endpoint and access key, tries them, and writes the settings.",
     .more = "The file is ~/.config/imprint/config, readable by its owner only. What the "
             "environment (IMPRINT_ENDPOINT, IMPRINT_ACCESS_KEY_ID, IMPRINT_SECRET_ACCESS_KEY, "
             "IMPRINT_ZONE) or options say is offered as the answer.",
     .example = "imprint configure"},
    {0},
};

const struct noun cli_nouns[] = {
    {"image", "Images: what machines are made from.", image_commands},
    {"instance", "Instances: machines made from images.", instance_commands},
    {"volume", "Volumes: data disks for instances.", volume_commands},
    {"snapshot", "Snapshots: points in time of instances and volumes.", snapshot_commands},
    {"recover", "Takes things out of the recycle bin.", recover_commands},
    {"keypair", "Key pairs: SSH keys that new machines let in.", keypair_commands},
    {"job", "Jobs: what the server is doing, and what came of it.", job_commands},
    {"pool", "The storage pool.", pool_commands},
    {"type", "Instance types: names for common sizes.", type_commands},
    {"zone", "Zones of the server.", zone_commands},
    {"network", "Networks of machines.", network_commands},
    {"key", "Access keys: who may speak with the server.", key_commands},
    {"user", "Users of the server (administrators only).", user_commands},
    {"configure", "Names the server and the access key.", configure_commands},
    {0},
};
