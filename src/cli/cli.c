/* SPDX-License-Identifier: Apache-2.0 */
/* One run of imprint: settings, the command, and what is said when it fails. */
#include "cli-private.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

volatile sig_atomic_t cli_interrupted;

/* --- The next step ---------------------------------------------------------------------------- */

void cli_hint(struct cli *cli, const char *format, ...) {
    char text[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    im_str_done(&cli->hint);
    im_str_add(&cli->hint, text);
}

bool cli_usage(struct cli *cli, struct im_err *err, const char *format, ...) {
    char text[480];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    cli->exit = CLI_USAGE;
    if (cli->hint.len == 0)
        cli_hint(cli, "imprint%s%s%s%s --help", cli->noun ? " " : "",
                 cli->noun ? cli->noun->name : "", cli->command && cli->command->verb[0] ? " " : "",
                 cli->command ? cli->command->verb : "");
    return im_fail(err, IM_BAD_MESSAGE, "%s", text);
}

/* What helps when the server could not be spoken to. */
static void hint_fault(struct cli *cli) {
    switch (client_fault(cli->client)) {
    case CLIENT_REFUSED:
        cli_hint(cli, "is imprintd running? start it with ./quickstart or systemctl start "
                      "imprintd; another server is named by --endpoint or IMPRINT_ENDPOINT");
        break;
    case CLIENT_UNREACHABLE:
        cli_hint(cli, "is the endpoint right? it is named by --endpoint, IMPRINT_ENDPOINT or %s",
                 cli->settings.config_path);
        break;
    case CLIENT_TLS:
        cli_hint(cli, "a certificate of your own is trusted with --ca-file FILE");
        break;
    case CLIENT_CUT_OFF:
    case CLIENT_SLOW:
        cli_hint(cli, "it may have been done or not: look with 'imprint job list' before you "
                      "repeat it");
        break;
    case CLIENT_FOREIGN:
        cli_hint(cli, "is the endpoint the one of imprintd, such as "
                      "http://127.0.0.1:7200/iaas/ ?");
        break;
    case CLIENT_FINE:
    case CLIENT_ANSWERED:
        break;
    }
}

static void hint_refusal(struct cli *cli) {
    switch (client_ret_code(cli->client)) {
    case 1200:
        cli_hint(cli,
                 "the secret key was read from %s, the access key id is %s; 'imprint "
                 "configure' sets both",
                 cli->settings.secret_from ? cli->settings.secret_from : "nowhere",
                 cli->settings.access_key_id);
        break;
    case 1300:
        cli_hint(cli, "set the clocks right (timedatectl set-ntp true)");
        break;
    case 2100:
        if (cli->noun != NULL && cli->command != NULL && cli->command->complete != NULL &&
            cli->command->complete[0] == '@')
            cli_hint(cli, "imprint %s list", cli->command->complete + 1);
        break;
    case 2500:
        cli_hint(cli, "what is no longer needed can be deleted; the operator sets the limits");
        break;
    case 5100:
        cli_hint(cli, "try again in a moment");
        break;
    case 5200:
        cli_hint(cli, "'imprint pool usage' shows what takes the space");
        break;
    default:
        break;
    }
}

static int exit_status(const struct cli *cli, enum im_code code) {
    static const struct {
        enum im_code code;
        enum cli_exit status;
    } rows[] = {
        {IM_NOT_FOUND, CLI_NOT_FOUND}, {IM_DENIED, CLI_DENIED},        {IM_AUTH, CLI_DENIED},
        {IM_EXPIRED, CLI_DENIED},      {IM_WRONG_STATE, CLI_CONFLICT}, {IM_EXISTS, CLI_CONFLICT},
        {IM_TIMEOUT, CLI_TIMED_OUT},
    };

    if (cli->exit != CLI_OK)
        return cli->exit;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].code == code)
            return rows[i].status;
    return CLI_FAILED;
}

/* A command to be copied stays in one line. */
static void say(const char *head, const char *text, unsigned indent) {
    IM_AUTO(im_str_done) struct im_str lines = {0};
    unsigned width = isatty(STDERR_FILENO) ? terminal_width(STDERR_FILENO) : 0;

    if (width == 0 || strncmp(text, "imprint ", 8) == 0) {
        fprintf(stderr, "%s%s\n", head, text);
        return;
    }
    text_wrap(&lines, text, (unsigned) strlen(head), indent, width);
    fprintf(stderr, "%s%s", head, lines.data);
}

int cli_report(struct cli *cli, const struct im_err *err) {
    say("imprint: ", err->text, 2);
    if (cli->hint.len == 0 && cli->client != NULL) {
        hint_fault(cli);
        if (cli->hint.len == 0 && !cli->job_failed)
            hint_refusal(cli);
    }
    if (cli->hint.len > 0)
        say("  next: ", cli->hint.data, 8);
    return exit_status(cli, err->code);
}

/* --- Interrupts ------------------------------------------------------------------------------- */

static void on_signal(int number) { cli_interrupted = number; }

void cli_catch_interrupts(void) {
    struct sigaction action = {.sa_handler = on_signal};

    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

/* Dies of the signal that interrupted us, so that a shell's loop ends as well. */
static void die_of_signal(void) {
    struct sigaction action = {.sa_handler = SIG_DFL};

    sigaction(cli_interrupted, &action, NULL);
    raise(cli_interrupted);
}

/* --- Speaking with the server ----------------------------------------------------------------- */

/* Opens the client as the settings stand, without asking the server anything. */
static bool open_client(struct cli *cli, struct im_err *err) {
    const struct cli_settings *settings = &cli->settings;

    if (cli->client != NULL)
        return true;
    if (im_str_empty(settings->access_key_id) || im_str_empty(settings->secret)) {
        cli_hint(cli,
                 "imprint configure (or set IMPRINT_ACCESS_KEY_ID and IMPRINT_SECRET_ACCESS_KEY)");
        cli->exit = CLI_USAGE;
        return im_fail(err, IM_AUTH, "no %s is set: looked in %s and the environment",
                       im_str_empty(settings->access_key_id) ? "access key" : "secret access key",
                       settings->config_path);
    }
    cli->client = client_open(settings->endpoint, settings->access_key_id, settings->secret,
                              settings->zone, err);
    if (cli->client == NULL) {
        cli->exit = CLI_USAGE;
        return false;
    }
    client_set_ca(cli->client, settings->ca);
    client_set_interrupt(cli->client, &cli_interrupted);
    return true;
}

/* A server has one zone mostly; ask it when none is set. */
static bool find_zone(struct cli *cli, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const char *zone;

    if (!client_call(cli->client, "DescribeZones", NULL, &doc, err))
        return false;
    zone = wire_get_text(wire_at(wire_get(wire_root(doc), "zone_set"), 0), "zone_id", NULL);
    if (im_str_empty(zone))
        return im_fail(err, IM_NOT_FOUND, "the server names no zone");
    im_replace(&cli->settings.zone, zone);
    client_close(im_steal(&cli->client));
    return open_client(cli, err);
}

struct client *cli_client(struct cli *cli, struct im_err *err) {
    if (!open_client(cli, err) || (im_str_empty(cli->settings.zone) && !find_zone(cli, err)))
        return NULL;
    return cli->client;
}

bool cli_call(struct cli *cli, const char *action, const struct client_params *params,
              struct wire_doc **ret_doc, struct im_err *err) {
    bool needs_zone = strcmp(action, "DescribeZones") != 0;

    if (needs_zone ? cli_client(cli, err) == NULL : !open_client(cli, err))
        return false;
    return client_call(cli->client, action, params, ret_doc, err);
}

bool cli_find(struct cli *cli, const char *action, const char *set, const char *list_param,
              const char *id, struct wire_doc **ret_doc, const struct wire_value **ret_object,
              struct im_err *err) {
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(free_auto) char *numbered = im_printf("%s.1", list_param);

    client_param(&params, numbered, id);
    client_param(&params, "verbose", "1");
    if (!cli_call(cli, action, &params, &doc, err))
        return false;
    if (wire_count(wire_get(wire_root(doc), set)) == 0) {
        if (cli->hint.len == 0)
            cli_hint(cli, "imprint %.*s list", (int) (strlen(set) - 4), set);
        return im_fail(err, IM_NOT_FOUND, "%.*s %s does not exist", (int) (strlen(set) - 4), set,
                       id);
    }
    *ret_object = wire_at(wire_get(wire_root(doc), set), 0);
    *ret_doc = im_steal(&doc);
    return true;
}

/* --- The run ------------------------------------------------------------------------------------
 */

/* Widths of characters need a UTF-8 locale, also where none is set. */
static void find_locale(void) {
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

static bool choose_output(struct cli *cli, struct im_err *err) {
    static const char *const forms[] = {"table", "json", "csv"};

    cli->quiet = cli_flag(cli, "quiet");
    if (im_str_empty(cli->settings.output))
        return true;
    for (int i = 0; i < 3; i++)
        if (strcmp(cli->settings.output, forms[i]) == 0) {
            cli->output = (enum output_form) i;
            return true;
        }
    return cli_usage(cli, err, "output form %s is none of: table json csv", cli->settings.output);
}

/* Whatever could not be written (a full disk, a closed pipe) is a failure. */
static bool flush_out(struct cli *cli, struct im_err *err) {
    if (fflush(cli->out) != 0 || ferror(cli->out))
        return im_fail_sys(err, errno, "cannot write the output");
    return true;
}

static bool run(struct cli *cli, int argc, char **argv, struct im_err *err) {
    bool help = false;

    if (!cli_parse(cli, argc, argv, &help, err))
        return false;
    if (help) {
        bool asked = cli_flag(cli, "help") || cli->noun == NULL;

        cli_help(cli, asked ? cli->out : stderr, terminal_width(asked ? STDOUT_FILENO : 2));
        if (!cli_flag(cli, "help"))
            cli->exit = CLI_USAGE;
        return true;
    }
    if (cli_flag(cli, "version")) {
        fprintf(cli->out, "imprint %s\n", IMPRINT_VERSION);
        return true;
    }
    return cli_settings_load(cli, err) && choose_output(cli, err) && cli->command->run(cli, err);
}

void cli_done(struct cli *cli) {
    for (size_t i = 0; i < cli->option_count; i++)
        im_strings_done(&cli->options[i].values);
    free(cli->options);
    im_strings_done(&cli->args);
    im_strings_done(&cli->rest);
    client_close(cli->client);
    cli_settings_done(&cli->settings);
    im_str_done(&cli->hint);
}

int cli_main(int argc, char **argv) {
    static char help_option[] = "--help";
    struct cli cli = {.out = stdout};
    struct im_err err = {0};
    bool help = argc > 1 && strcmp(argv[1], "help") == 0; /* "imprint help image" */
    int status;

    if (help) {
        for (int i = 1; i + 1 < argc; i++)
            argv[i] = argv[i + 1];
        argv[argc - 1] = help_option;
    }
    find_locale();
    signal(SIGPIPE, SIG_IGN);
    if (argc > 1 && strcmp(argv[1], "__complete") == 0)
        status = cli_complete(&cli, argc - 2, argv + 2);
    else if (run(&cli, argc - 1, argv + 1, &err) && flush_out(&cli, &err))
        status = cli.exit;
    else
        status = cli_report(&cli, &err);
    cli_done(&cli);
    if (cli_interrupted != 0)
        die_of_signal();
    return status;
}
