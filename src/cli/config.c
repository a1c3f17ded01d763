/* SPDX-License-Identifier: Apache-2.0 */
/* Settings: ~/.config/imprint/config (INI), outranked by the environment, outranked by options. The
 * secret comes from a file or the environment, never from the command line. */
#include "cli-private.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>

#include "base/fd.h"

#define ENDPOINT_DEFAULT "http://127.0.0.1:7200/iaas/"
enum { CONFIG_MAX = 65536 };

/* One row per setting: its key in the file, its variable, its option. */
static const struct setting {
    const char *key, *variable, *option;
    size_t offset;
} settings[] = {
#define ROW(key, variable, option, member)                                                         \
    { key, variable, option, offsetof(struct cli_settings, member) }
    ROW("endpoint", "IMPRINT_ENDPOINT", "endpoint", endpoint),
    ROW("access_key_id", "IMPRINT_ACCESS_KEY_ID", "access-key", access_key_id),
    ROW("secret_access_key", "IMPRINT_SECRET_ACCESS_KEY", NULL, secret),
    ROW("zone", "IMPRINT_ZONE", "zone", zone),
    ROW("ca_file", "IMPRINT_CA_FILE", "ca-file", ca),
    ROW("output", "IMPRINT_OUTPUT", "output", output),
#undef ROW
};
enum { SETTINGS = sizeof(settings) / sizeof(settings[0]) };

static char **setting_slot(struct cli_settings *into, const struct setting *setting) {
    return (char **) ((char *) into + setting->offset);
}

static void set(struct cli_settings *into, const struct setting *setting, const char *value,
                const char *from) {
    im_replace(setting_slot(into, setting), value);
    if (setting->offset == offsetof(struct cli_settings, secret))
        im_replace(&into->secret_from, from);
}

static char *trim(char *text) {
    char *end;

    while (isspace((unsigned char) *text))
        text++;
    end = text + strlen(text);
    while (end > text && isspace((unsigned char) end[-1]))
        end--;
    *end = '\0';
    return text;
}

static bool read_line_of(struct cli_settings *into, const char *path, unsigned number, char *line,
                         struct im_err *err) {
    char *key = trim(line), *value = strpbrk(key, "=:"); /* "key: value" is what imprintd prints */

    if (*key == '\0' || *key == '#' || *key == ';' || *key == '[')
        return true;
    if (value == NULL)
        return im_fail(err, IM_BAD_MESSAGE, "%s:%u: not of the form key = value", path, number);
    *value++ = '\0';
    key = trim(key);
    value = trim(value);
    for (size_t i = 0; i < SETTINGS; i++)
        if (strcmp(settings[i].key, key) == 0) {
            set(into, &settings[i], value, path);
            return true;
        }
    return im_fail(err, IM_BAD_MESSAGE, "%s:%u: unknown key %s", path, number, key);
}

static bool read_config(struct cli_settings *into, struct im_err *err) {
    IM_AUTO(free_auto) char *text = NULL;
    const char *path = into->config_path;
    struct stat st;
    unsigned number = 1;

    if (stat(path, &st) < 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return true;
        return im_fail_sys(err, errno, "cannot read %s", path);
    }
    if (!im_read_file(path, CONFIG_MAX, &text, NULL, err))
        return false;
    for (char *line = text, *end; line != NULL; line = end, number++) {
        end = strchr(line, '\n');
        if (end != NULL)
            *end++ = '\0';
        if (!read_line_of(into, path, number, line, err))
            return false;
    }
    if (into->secret != NULL && (st.st_mode & 077) != 0)
        fprintf(stderr, "imprint: warning: others can read the secret key in %s: chmod 600 %s\n",
                path, path);
    return true;
}

/* The first line of a file that holds nothing but the secret. */
static bool read_secret(struct cli *cli, const char *path, struct im_err *err) {
    IM_AUTO(free_auto) char *text = NULL;

    if (!im_read_file(path, CONFIG_MAX, &text, NULL, err))
        return false;
    text[strcspn(text, "\r\n")] = '\0';
    im_replace(&cli->settings.secret, trim(text));
    im_replace(&cli->settings.secret_from, path);
    if (im_str_empty(cli->settings.secret))
        return im_fail(err, IM_BAD_MESSAGE, "%s holds no secret key in its first line", path);
    return true;
}

static void find_folder(struct cli_settings *into) {
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

    if (!im_str_empty(xdg) && xdg[0] == '/')
        into->folder = im_printf("%s/imprint", xdg);
    else
        into->folder = im_printf("%s/.config/imprint", im_str_empty(home) ? "/root" : home);
    into->config_path = im_printf("%s/config", into->folder);
}

bool cli_settings_load(struct cli *cli, struct im_err *err) {
    const char *secret_file = cli_value(cli, "secret-file"), *config = cli_value(cli, "config");

    find_folder(&cli->settings);
    if (config == NULL)
        config = getenv("IMPRINT_CONFIG");
    if (!im_str_empty(config))
        im_replace(&cli->settings.config_path, config);
    if (!read_config(&cli->settings, err))
        return false;
    for (size_t i = 0; i < SETTINGS; i++) {
        const char *value = getenv(settings[i].variable);

        if (!im_str_empty(value))
            set(&cli->settings, &settings[i], value, settings[i].variable);
        if (settings[i].option != NULL && cli_value(cli, settings[i].option) != NULL)
            set(&cli->settings, &settings[i], cli_value(cli, settings[i].option), NULL);
    }
    if (secret_file != NULL && !read_secret(cli, secret_file, err))
        return false;
    if (im_str_empty(cli->settings.endpoint))
        im_replace(&cli->settings.endpoint, ENDPOINT_DEFAULT);
    return true;
}

void cli_settings_done(struct cli_settings *done) {
    if (done->secret != NULL)
        explicit_bzero(done->secret, strlen(done->secret));
    for (size_t i = 0; i < SETTINGS; i++)
        free(*setting_slot(done, &settings[i]));
    free(done->folder);
    free(done->config_path);
    free(done->secret_from);
    *done = (struct cli_settings){0};
}

/* --- imprint configure --------------------------------------------------------------------------
 */

char *cli_read_line(FILE *from, bool secret) {
    struct termios old, quiet;
    bool hide = secret && isatty(fileno(from)) && tcgetattr(fileno(from), &old) == 0;
    IM_AUTO(free_auto) char *line = NULL;
    size_t capacity = 0;
    ssize_t len;

    if (hide) {
        quiet = old;
        quiet.c_lflag &= ~(tcflag_t) ECHO;
        tcsetattr(fileno(from), TCSAFLUSH, &quiet);
    }
    len = getline(&line, &capacity, from);
    if (hide) {
        tcsetattr(fileno(from), TCSAFLUSH, &old);
        fputc('\n', stderr);
    }
    if (len < 0)
        return NULL;
    line[strcspn(line, "\r\n")] = '\0';
    return im_steal(&line);
}

/* An empty answer keeps what is there. */
static void ask(const char *question, char **slot, bool secret) {
    IM_AUTO(free_auto) char *answer = NULL;

    if (isatty(STDIN_FILENO))
        fprintf(stderr, "%s [%s]: ", question,
                secret ? (im_str_empty(*slot) ? "" : "keep") : (*slot ? *slot : ""));
    answer = cli_read_line(stdin, secret);
    if (!im_str_empty(answer))
        im_replace(slot, answer);
}

static bool write_config(const struct cli_settings *from, struct im_err *err) {
    IM_AUTO(im_str_done) struct im_str text = {0};
    const char *slash = strrchr(from->config_path, '/');
    IM_AUTO(free_auto)
    char *folder = slash == NULL
                       ? im_strdup(".")
                       : im_strndup(from->config_path, (size_t) (slash - from->config_path));

    for (size_t i = 0; i < SETTINGS; i++) {
        const char *value = *setting_slot((struct cli_settings *) from, &settings[i]);

        if (!im_str_empty(value))
            im_str_addf(&text, "%s = %s\n", settings[i].key, value);
    }
    return im_make_dirs(folder, 0700, err) &&
           im_write_file(from->config_path, text.data, text.len, 0600, err);
}

bool cli_configure(struct cli *cli, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const char *zone;
    bool asked = !cli_flag(cli, "no-input");

    if (asked) {
        ask("Endpoint", &cli->settings.endpoint, false);
        ask("Access key id", &cli->settings.access_key_id, false);
        ask("Secret access key (not shown)", &cli->settings.secret, true);
    }
    if (im_str_empty(cli->settings.access_key_id) || im_str_empty(cli->settings.secret))
        return im_fail(err, IM_BAD_MESSAGE, "an access key id and its secret are needed");
    /* Better now than at the first real command: this also tells the zone. */
    if (!cli_flag(cli, "no-check")) {
        if (!cli_call(cli, "DescribeZones", NULL, &doc, err))
            return false;
        zone = wire_get_text(wire_at(wire_get(wire_root(doc), "zone_set"), 0), "zone_id", NULL);
        if (im_str_empty(cli->settings.zone))
            im_replace(&cli->settings.zone, zone);
    }
    if (!write_config(&cli->settings, err))
        return false;
    fprintf(stderr, "%s written (zone %s)\n", cli->settings.config_path,
            im_str_empty(cli->settings.zone) ? "not set" : cli->settings.zone);
    return true;
}
