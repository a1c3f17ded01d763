/* SPDX-License-Identifier: Apache-2.0 */
/* imprint instance ssh: finds address, user and private key, and becomes ssh. Host keys go to a
 * file of our own under the instance's id, as addresses are given to another machine sooner or
 * later. */
#include "cli-private.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/id.h"

enum { WAIT_DEFAULT_S = 300, TRY_MS = 3000, KNOWN_HOSTS_MAX = 1 << 20 };

static char *known_hosts(const struct cli *cli) {
    return im_printf("%s/known_hosts", cli->settings.folder);
}

void cli_forget_host(const struct cli *cli, const char *instance_id) {
    IM_AUTO(free_auto) char *path = known_hosts(cli);
    IM_AUTO(free_auto) char *text = NULL;
    IM_AUTO(im_str_done) struct im_str kept = {0};
    IM_AUTO(im_strings_done) struct im_strings lines = {0};
    size_t len, id_len = strlen(instance_id);
    struct im_err ignored = {0};

    if (!im_read_file(path, KNOWN_HOSTS_MAX, &text, &len, &ignored))
        return;
    im_strings_split(&lines, text, "\n");
    for (size_t i = 0; i < lines.count; i++) {
        const char *line = lines.items[i];

        if (strncmp(line, instance_id, id_len) != 0 || line[id_len] != ' ')
            im_str_addf(&kept, "%s\n", line);
    }
    if (kept.len != len)
        (void) im_write_file(path, kept.data ? kept.data : "", kept.len, 0600, &ignored);
}

/* --- Waiting for the machine --------------------------------------------------------------------
 */

/* Something that speaks SSH answers: a forwarded port takes connections before the guest is up. */
static bool answers(const char *host, const char *port) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    IM_AUTO(fd_auto) int fd = -1;
    char banner[4] = "";
    struct pollfd wait;

    if (getaddrinfo(host, port, &hints, &list) != 0)
        return false;
    fd = socket(list->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || (connect(fd, list->ai_addr, list->ai_addrlen) < 0 && errno != EINPROGRESS)) {
        freeaddrinfo(list);
        return false;
    }
    freeaddrinfo(list);
    wait = (struct pollfd){fd, POLLIN, 0};
    return poll(&wait, 1, TRY_MS) > 0 && recv(fd, banner, 4, MSG_PEEK) == 4 &&
           memcmp(banner, "SSH-", 4) == 0;
}

static bool wait_for_ssh(struct cli *cli, const char *id, const char *host, const char *port,
                         struct im_err *err) {
    struct progress *progress = progress_new(cli, id);
    const char *text = cli_value(cli, "timeout");
    int64_t timeout_s = WAIT_DEFAULT_S, deadline;
    bool up = false;

    if (text != NULL)
        (void) im_parse_i64(text, 0, INT64_MAX / 1000, &timeout_s);
    deadline = im_mono_ms() + timeout_s * 1000;
    cli_catch_interrupts();
    while (!up && !cli_interrupted && im_mono_ms() < deadline) {
        int64_t next = im_mono_ms() + 1000;

        progress_step(progress, "waiting until it answers");
        up = answers(host, port);
        while (!up && !cli_interrupted && im_mono_ms() < next) {
            progress_step(progress, "waiting until it answers");
            im_sleep_ms(100);
        }
    }
    progress_free(progress, NULL);
    if (cli_interrupted)
        return im_fail(err, IM_CANCELLED, "stopped waiting for %s", id);
    if (!up) {
        cli_hint(cli, "imprint instance log %s", id);
        return im_fail(err, IM_TIMEOUT, "%s does not answer SSH at %s port %s after %" PRId64 " s",
                       id, host, port, timeout_s);
    }
    return true;
}

/* --- The command --------------------------------------------------------------------------------
 */

/* The private key of one of its key pairs, if we have it. NULL: whatever ssh finds by itself. */
static bool find_key(struct cli *cli, const char *id, char **ret_path, struct im_err *err) {
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    const struct wire_value *instance, *ids;
    const char *given = cli_value(cli, "identity");

    if (given != NULL) {
        if (access(given, R_OK) < 0)
            return im_fail_sys(err, errno, "cannot read %s", given);
        *ret_path = im_strdup(given);
        return true;
    }
    if (!cli_find(cli, "DescribeInstances", "instance_set", "instances", id, &doc, &instance, err))
        return false;
    ids = wire_get(instance, "keypair_ids");
    for (size_t i = 0; i < wire_count(ids); i++) {
        const char *keypair = wire_as_text(wire_at(ids, i), "");
        IM_AUTO(free_auto) char *path = cli_key_path(cli, keypair);

        if (im_id_valid(keypair) && access(path, R_OK) == 0) {
            *ret_path = im_steal(&path);
            return true;
        }
    }
    if (wire_count(ids) > 0 && !cli->quiet && !cli_flag(cli, "print"))
        fprintf(stderr, "no private key of %s in %s/keys: ssh tries your own keys (-i names one)\n",
                wire_as_text(wire_at(ids, 0), ""), cli->settings.folder);
    return true;
}

static void build(struct cli *cli, const char *id, const struct wire_value *address,
                  const char *key, struct im_strings *argv) {
    IM_AUTO(free_auto) char *hosts = known_hosts(cli);
    IM_AUTO(free_auto) char *hosts_option = im_printf("UserKnownHostsFile=\"%s\"", hosts);
    IM_AUTO(free_auto) char *alias = im_printf("HostKeyAlias=%s", id);
    IM_AUTO(free_auto)
    char *port = im_printf("%lld", (long long) wire_get_int(address, "port", 22));
    const char *user = cli_value(cli, "user");
    const char *const fixed[] = {"ssh",
                                 "-o",
                                 hosts_option,
                                 "-o",
                                 alias,
                                 "-o",
                                 "StrictHostKeyChecking=accept-new",
                                 "-o",
                                 "LogLevel=ERROR",
                                 "-p",
                                 port};

    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        im_strings_add(argv, fixed[i]);
    if (key != NULL) {
        im_strings_add(argv, "-o");
        im_strings_add(argv, "IdentitiesOnly=yes");
        im_strings_add(argv, "-i");
        im_strings_add(argv, key);
    }
    if (user == NULL)
        user = wire_get_text(address, "user", "");
    if (*user != '\0') {
        im_strings_add(argv, "-l");
        im_strings_add(argv, user);
    }
    im_strings_add(argv, "--");
    im_strings_add(argv, wire_get_text(address, "host", ""));
    for (size_t i = 0; i < cli->rest.count; i++)
        im_strings_add(argv, cli->rest.items[i]);
}

/* As one would paste it into a shell. */
static void print_command(FILE *out, const struct im_strings *argv) {
    for (size_t i = 0; i < argv->count; i++) {
        const char *word = argv->items[i];

        if (i > 0)
            fputc(' ', out);
        if (*word != '\0' && strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789-_=./:@%+,") == strlen(word)) {
            fputs(word, out);
            continue;
        }
        fputc('\'', out);
        for (; *word != '\0'; word++)
            fputs(*word == '\'' ? "'\\''" : (char[]){*word, '\0'}, out);
        fputc('\'', out);
    }
    fputc('\n', out);
}

bool cli_instance_ssh(struct cli *cli, struct im_err *err) {
    const char *id = cli->args.items[0];
    IM_AUTO(client_params_done) struct client_params params = {0};
    IM_AUTO(wire_doc_free_auto) struct wire_doc *doc = NULL;
    IM_AUTO(im_strings_done) struct im_strings argv = {0};
    IM_AUTO(free_auto) char *key = NULL;
    IM_AUTO(free_auto) char *port = NULL;
    const char *host;

    client_param(&params, "instance", id);
    if (!cli_call(cli, "GetInstanceSSH", &params, &doc, err)) {
        if (err->code == IM_WRONG_STATE)
            cli_hint(cli, "'imprint instance show %s' tells its state", id);
        return false;
    }
    host = wire_get_text(wire_root(doc), "host", "");
    if (*host == '\0') {
        cli_hint(cli, "imprint instance console %s", id);
        return im_fail(err, IM_WRONG_STATE, "%s has no address (yet)", id);
    }
    if (!find_key(cli, id, &key, err))
        return false;
    port = im_printf("%lld", (long long) wire_get_int(wire_root(doc), "port", 22));
    if (cli_flag(cli, "wait") && !wait_for_ssh(cli, id, host, port, err))
        return false;
    build(cli, id, wire_root(doc), key, &argv);
    if (cli_flag(cli, "print")) {
        print_command(cli->out, &argv);
        return true;
    }
    if (!im_make_dirs(cli->settings.folder, 0700, err))
        return false;
    argv.items = im_realloc_array(argv.items, argv.count + 1, sizeof(*argv.items));
    argv.items[argv.count] = NULL;
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    execvp(argv.items[0], argv.items);
    cli_hint(cli, "apt-get install openssh-client");
    return im_fail_sys(err, errno, "cannot run ssh");
}
