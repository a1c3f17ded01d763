/* SPDX-License-Identifier: Apache-2.0 */
/* imprint from the inside: the table of commands, parsed options, output, and what commands share.
 */
#ifndef CLI_PRIVATE_H
#define CLI_PRIVATE_H

#include <stdio.h>

#include "base/str.h"
#include "client/client.h"

enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_NOT_FOUND = 3,
    CLI_DENIED = 4,
    CLI_CONFLICT = 5,
    CLI_TIMED_OUT = 6,
    CLI_PARTLY = 7,
};

/* --- The table of commands -------------------------------------------------------------------- */

enum option_flags {
    OPTION_MANY = 1, /* may be repeated, or its values separated by commas */
    OPTION_REQUIRED = 2,
    OPTION_INT = 4,      /* a whole number, not negative */
    OPTION_SIZE_MIB = 8, /* "2048" is MiB, "2G" is as well */
    OPTION_SIZE_GIB = 16,
    OPTION_EMPTY = 32, /* an empty value is a value: it empties the attribute */
};

struct option {
    const char *name;     /* without the dashes; NULL ends a table */
    char letter;          /* 0 = none */
    const char *metavar;  /* NULL = a flag */
    const char *fallback; /* what holds without it, for the help; NULL = nothing to say */
    const char *help;
    const char *param; /* sent to the API under this name, as given; NULL = the command's own */
    unsigned flags;
    const char *choices; /* "a b c": one of these; "@image": ids of images, for completion */
};

enum option_group {
    GROUP_LIST = 1,        /* --search --status --limit --all */
    GROUP_WAIT = 2,        /* --wait --timeout */
    GROUP_PASSTHROUGH = 4, /* words behind -- belong to another program */
};

struct cli;
struct command {
    const char *verb; /* NULL ends a table */
    const char *args; /* "FILE|URL", "INSTANCE…", "" */
    size_t min_args, max_args;
    const char *complete; /* what the words are: "@image", "@file"; NULL = nothing to offer */
    unsigned groups;      /* of enum option_group */
    const struct option *options;
    bool (*run)(struct cli *cli, struct im_err *err);
    const char *help;    /* one line */
    const char *more;    /* paragraphs, or NULL */
    const char *example; /* lines without the "$ ", or NULL */
};

struct noun {
    const char *name; /* "image"; NULL ends the table */
    const char *help;
    const struct command *commands;
};
extern const struct noun cli_nouns[];
extern const struct option cli_global_options[], cli_list_options[], cli_wait_options[],
    cli_no_options[];
/* Tables of options of a command, in the order of the help; ends with NULL. */
void cli_option_tables(const struct command *command, const struct option *ret_tables[5]);
const struct noun *cli_noun_find(const char *name);
const struct command *cli_command_find(const struct noun *noun, const char *verb);

extern const struct command image_commands[], instance_commands[], keypair_commands[],
    job_commands[], zone_commands[], type_commands[], key_commands[], pool_commands[],
    network_commands[], user_commands[], volume_commands[], snapshot_commands[], recover_commands[];

/* --- One run of the program ---------------------------------------------------------------------
 */

struct option_value {
    const struct option *option;
    struct im_strings values; /* one empty text for a flag */
};

enum output_form { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_CSV };

struct cli_settings {
    char *endpoint, *access_key_id, *secret, *zone, *ca, *output;
    char *folder;      /* "~/.config/imprint" */
    char *config_path; /* the file in it */
    char *secret_from; /* where the secret was read, for the message when it is wrong */
};

struct cli {
    const struct noun *noun;
    const struct command *command;
    struct option_value *options;
    size_t option_count, option_capacity;
    struct im_strings args; /* words behind noun and verb */
    struct im_strings rest; /* words behind -- */
    struct cli_settings settings;
    struct client *client; /* opened by cli_client() */
    enum output_form output;
    bool quiet;
    FILE *out;          /* standard output; a test's file */
    struct im_str hint; /* the next step, set where it is known best */
    int exit;           /* CLI_OK unless the command chose one */
    bool job_failed;    /* the error is a job's: it was no refusal */
};

int cli_main(int argc, char **argv);
void cli_done(struct cli *cli);

/* --- Options (options.c) ------------------------------------------------------------------------
 */

/* Takes the words after the program's name apart. IM_BAD_MESSAGE names what is wrong; *ret_help:
 * help is wanted (of cli->noun and cli->command, as far as they are known). */
bool cli_parse(struct cli *cli, int argc, char *const argv[], bool *ret_help,
               struct im_err *err) IM_MUST_CHECK;
/* The value, the last one if there are several; NULL: not given. */
const char *cli_value(const struct cli *cli, const char *name);
/* NULL: not given. */
const struct im_strings *cli_values(const struct cli *cli, const char *name);
bool cli_flag(const struct cli *cli, const char *name);
/* Sizes as the API wants them; false if the text is none. */
bool cli_size_mib(const char *text, int64_t *ret_mib);
bool cli_size_gib(const char *text, int64_t *ret_gib);
/* All options of the command that name a parameter. */
void cli_params(const struct cli *cli, struct client_params *params);
/* The nearest of `words`, or NULL when none is near. */
const char *cli_nearest(const char *word, const char *const *words, size_t count);

/* --- Help (help.c) ------------------------------------------------------------------------------
 */

void cli_help(const struct cli *cli, FILE *out, unsigned width);

/* --- Settings (config.c) ------------------------------------------------------------------------
 */

/* File, then environment, then options. A missing file is fine; one that others can read gets a
 * warning on standard error. */
bool cli_settings_load(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
void cli_settings_done(struct cli_settings *settings);
bool cli_configure(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
/* One line of the terminal or of a file, without echo if it is a secret. Owned; NULL at the end. */
char *cli_read_line(FILE *from, bool secret);

/* --- Speaking with the server (cli.c) -----------------------------------------------------------
 */

/* The client, opened and with a zone; NULL with the reason when something is not set. Needs no
 * freeing. */
struct client *cli_client(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
bool cli_call(struct cli *cli, const char *action, const struct client_params *params,
              struct wire_doc **ret_doc, struct im_err *err) IM_MUST_CHECK;
/* One object of a list by its id; a client's error NOT_FOUND when there is none. */
bool cli_find(struct cli *cli, const char *action, const char *set, const char *list_param,
              const char *id, struct wire_doc **ret_doc, const struct wire_value **ret_object,
              struct im_err *err) IM_MUST_CHECK;
/* Sets the hint, in place of an earlier one. */
void cli_hint(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* IM_BAD_MESSAGE with exit status 2. */
bool cli_usage(struct cli *cli, struct im_err *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
extern volatile sig_atomic_t cli_interrupted; /* set by SIGINT and SIGTERM while we wait */
/* Lets SIGINT set the flag instead of ending the program. */
void cli_catch_interrupts(void);

/* --- Output (table.c, output.c) -----------------------------------------------------------------
 */

enum column_form {
    FORM_TEXT,
    FORM_INT,
    FORM_GIB,
    FORM_MIB,
    FORM_BYTES,
    FORM_TIME,
    FORM_STATE,    /* status, and transition_status where there is one */
    FORM_LIST,     /* items of an array */
    FORM_YES,      /* 0 or 1 */
    FORM_PROGRESS, /* of a job */
};
struct column {
    const char *title; /* NULL ends a table */
    const char *path;  /* "image.image_id", "vxnets.0.private_ip" */
    enum column_form form;
    int rank; /* 0 always, 1 may be squeezed, 2 and 3 only where there is room, 4 only in
                 show and csv */
};

struct table {
    const char **titles; /* borrowed */
    const bool *right;   /* aligned to the right */
    const int *ranks;
    size_t columns;
    struct im_strings cells; /* row by row */
};
/* Lays the table out in `width` columns of the terminal, 0 = without limit. Owned text. */
char *table_layout(const struct table *table, unsigned width, bool bold_titles);
/* Columns that the text takes on a terminal. Control characters count as one. */
unsigned text_width(const char *text);
/* Adds `text` cut to `width` columns (with … at the end) and padded to it if `pad`. Control
 * characters are replaced. */
void text_fit(struct im_str *out, const char *text, unsigned width, bool pad);
/* One CSV field by RFC 4180. */
void csv_field(struct im_str *out, const char *text);

/* Columns of the terminal on `fd`; 0 if it is none. COLUMNS outranks it. */
unsigned terminal_width(int fd);
/* Adds the words of `text` and a line end, from column `at` on, wrapped at `width` with `indent`
 * blanks in front of further lines. */
void text_wrap(struct im_str *out, const char *text, unsigned at, unsigned indent, unsigned width);
bool terminal_colours(int fd);

/* Describes, all pages up to --limit, and prints. `columns` also say what `show` shows first. */
struct listing {
    const char *action, *set, *id; /* "DescribeImages", "image_set", "image_id" */
    const char *ids_param;         /* "images" */
    const struct column *columns;
    const char *none; /* said on standard error when the list is empty */
};
bool cli_list(struct cli *cli, const struct listing *listing, struct client_params *params,
              struct im_err *err) IM_MUST_CHECK;
/* Each id of cli->args: all its fields. */
bool cli_show(struct cli *cli, const struct listing *listing, struct im_err *err) IM_MUST_CHECK;
/* Prints the resources of these ids as the list would. */
bool cli_print_ids(struct cli *cli, const struct listing *listing, const struct im_strings *ids,
                   struct im_err *err) IM_MUST_CHECK;
/* Prints an array of objects in the form that is asked for. */
void cli_print_set(struct cli *cli, const struct listing *listing, const struct wire_value *set);
/* What a column shows of an object; `raw` for csv. */
char *column_text(const struct column *column, const struct wire_value *object, bool raw);
/* "image.image_id" from an object; NULL if there is nothing. */
const struct wire_value *wire_path(const struct wire_value *value, const char *path);
/* Changes without a job: ids for -q, the reply for -o json, a sentence else. */
void cli_print_done(struct cli *cli, const struct wire_doc *doc, const struct im_strings *ids,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));

/* The texts of the array `key` of a reply: ids of what was made. */
void cli_reply_ids(const struct wire_doc *doc, const char *key, struct im_strings *ids);
/* `modify` of one resource, named by `param`: sends the options that were given. */
bool cli_modify(struct cli *cli, const char *action, const char *param,
                struct im_err *err) IM_MUST_CHECK;

/* --- Jobs and progress (progress.c) -------------------------------------------------------------
 */

struct progress;
/* `what` stands in front: "import img-…". Draws on standard error if that is a terminal, else says
 * a line at every tenth. */
struct progress *progress_new(const struct cli *cli, const char *what);
void progress_bytes(struct progress *progress, uint64_t done, uint64_t total, int64_t rate);
void progress_step(struct progress *progress, const char *step);
/* Takes the bar away; `last` (may be NULL) stays in its place. */
void progress_free(struct progress *progress, const char *last);

/* After a call that made a job: prints ids, job and the next step, or with --wait follows the job
 * to its end. `ids` are what was made or worked on. `doc` is the reply. `listing` (may be NULL)
 * shows the resources after a successful wait. */
bool cli_finish_job(struct cli *cli, const struct wire_doc *doc, const struct im_strings *ids,
                    const struct listing *listing, struct im_err *err) IM_MUST_CHECK;
/* Follows one job; a failed one is an error, a partly failed one sets cli->exit. *ret_doc (may be
 * NULL) is its last reply. */
bool cli_follow_job(struct cli *cli, const char *job_id, struct wire_doc **ret_doc,
                    struct im_err *err) IM_MUST_CHECK;

/* --- Others -------------------------------------------------------------------------------------
 */

extern const struct listing image_listing, instance_listing, keypair_listing, job_listing,
    volume_listing, snapshot_listing;
/* How one logs in to a new system: a key pair, a password from standard input, or --no-login. With
 * none of these, the only key pair there is; of several, the one that is picked at the terminal.
 * `otherwise_keep`: with none given, the login stays as it is. */
bool cli_login_params(struct cli *cli, bool otherwise_keep, struct client_params *params,
                      struct im_err *err) IM_MUST_CHECK;
/* A new password, read from standard input. */
bool cli_password_param(struct cli *cli, struct client_params *params,
                        struct im_err *err) IM_MUST_CHECK;
bool cli_image_export(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
bool cli_image_exports(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
bool cli_image_unexport(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
bool cli_image_boot_test(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
bool cli_image_boot_tests(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
/* repair.c: on the disk of what is named; `listing` shows it. */
bool cli_repair(struct cli *cli, const struct listing *listing, struct im_err *err) IM_MUST_CHECK;
bool cli_repair_plan(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
bool cli_image_repair(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
bool cli_image_repairs(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
extern const struct option cli_repair_options[];
bool cli_instance_ssh(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
bool cli_instance_console(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
bool cli_instance_monitor(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
bool cli_volume_monitor(struct cli *cli, struct im_err *err) IM_MUST_CHECK;
extern const struct option cli_monitor_options[];
/* Our known_hosts no longer vouches for this machine: it has a new system. */
void cli_forget_host(const struct cli *cli, const char *instance_id);
/* Where `keypair create` keeps a private key. Owned. */
char *cli_key_path(const struct cli *cli, const char *keypair_id);
/* imprint __complete NOUN VERB … WORD: candidates, one a line. */
int cli_complete(struct cli *cli, int argc, char *const argv[]);
/* The sentence and the next step on standard error; returns the exit status. */
int cli_report(struct cli *cli, const struct im_err *err);

#endif
