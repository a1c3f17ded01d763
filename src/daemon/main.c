/* SPDX-License-Identifier: Apache-2.0 */
/* imprintd: options, signals, and staying until told to go. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"
#include "daemon-private.h"

#define CONFIG_PATH "/etc/imprint/imprintd.conf"

struct options {
    const char *config_path, *state_dir;
    bool check_config;
};

static const char help[] =
    "usage: imprintd [--config FILE] [--state DIR] [--check-config | --print-config]\n"
    "       imprintd [--config FILE] [--state DIR] user add NAME [--admin] [--email ADDRESS]\n"
    "       imprintd [--config FILE] [--state DIR] user list | disable NAME | enable NAME\n"
    "       imprintd [--config FILE] [--state DIR] key add USER [--name NAME]\n"
    "       imprintd [--config FILE] [--state DIR] network remove\n"
    "       imprintd [--config FILE] [--state DIR] pool accept-loss\n"
    "\n"
    "  --config FILE    configuration, " CONFIG_PATH " by default\n"
    "  --state DIR      keeps everything under DIR; reads DIR/imprintd.conf if it is there\n"
    "  --check-config   reads the configuration, says what is wrong with it, and ends\n"
    "  --print-config   prints every key with its default and ends\n"
    "  --version, --help\n";

static void read_options(struct options *options, int argc, char **argv) {
    static const struct option list[] = {{"config", required_argument, NULL, 'c'},
                                         {"state", required_argument, NULL, 's'},
                                         {"check-config", no_argument, NULL, 'k'},
                                         {"print-config", no_argument, NULL, 'p'},
                                         {"version", no_argument, NULL, 'V'},
                                         {"help", no_argument, NULL, 'h'},
                                         {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "+c:s:h", list, NULL)) != -1) {
        IM_AUTO(free_auto) char *sample = NULL;

        switch (c) {
        case 'c':
            options->config_path = optarg;
            break;
        case 's':
            options->state_dir = optarg;
            break;
        case 'k':
            options->check_config = true;
            break;
        case 'p':
            sample = config_sample();
            fputs(sample, stdout);
            free(im_steal(&sample));
            exit(0);
        case 'V':
            puts("imprintd " IMPRINT_VERSION);
            exit(0);
        case 'h':
            fputs(help, stdout);
            exit(0);
        default:
            fputs(help, stderr);
            exit(2);
        }
    }
}

/* A file that was named must be there; the usual places need not. */
static bool load_config(const struct options *options, struct config *config, struct im_err *err) {
    IM_AUTO(free_auto) char *beside = NULL;
    IM_AUTO(free_auto) char *state = NULL;
    const char *path = options->config_path;

    config_init(config);
    if (options->state_dir != NULL) {
        state = options->state_dir[0] == '/'
                    ? im_strdup(options->state_dir)
                    : im_printf("%s/%s", getcwd((char[4096]){0}, 4096), options->state_dir);
        beside = im_printf("%s/imprintd.conf", state);
        im_replace(&config->state_dir, state);
    }
    if (path == NULL) {
        path = beside != NULL ? beside : CONFIG_PATH;
        if (access(path, F_OK) < 0)
            path = NULL;
    }
    if (path != NULL && !config_read(config, path, err))
        return false;
    if (state != NULL)
        im_replace(&config->state_dir, state);
    return config_finish(config, err);
}

static enum im_log_level level_of(const char *word) {
    static const char *const words[] = {"error", "warning", "info", "debug"};

    for (int i = 0; i < 4; i++)
        if (strcmp(words[i], word) == 0)
            return (enum im_log_level) i;
    return IM_LOG_INFO;
}

/* Signals are taken by sigwait() in the main thread; blocked before the first thread starts, so
 * that all inherit it. */
static void block_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigprocmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static int serve(struct config *config) {
    struct house house;
    struct im_err err = {0};
    sigset_t set;
    int got;

    block_signals(&set);
    if (!house_open(&house, config, &err)) {
        im_error("imprintd", "%s", err.text);
        return 1;
    }
    im_info("imprintd", "imprintd " IMPRINT_VERSION " serves zone %s on %s://%s%s%s:%d/iaas/",
            config->zone, im_str_empty(config->tls_key) ? "http" : "https",
            strchr(config->address, ':') ? "[" : "", config->address,
            strchr(config->address, ':') ? "]" : "", http_port(house.http));
    do
        if (sigwait(&set, &got) != 0)
            got = SIGHUP;
    while (got == SIGHUP); /* logs go to stderr: nothing to open again */
    im_info("imprintd", "stopping (%s); machines go on running", sigdescr_np(got));
    house_close(&house);
    return 0;
}

static int check_config(const struct config *config) {
    struct net_config net = house_net_config(config);
    struct im_err err = {0};

    if (!net_check(&net, &err)) {
        fprintf(stderr, "imprintd: [net] %s\n", err.text);
        return 1;
    }
    puts("the configuration is good");
    return 0;
}

int main(int argc, char **argv) {
    struct options options = {0};
    struct config config;
    struct im_err err = {0};
    int status;

    read_options(&options, argc, argv);
    if (!load_config(&options, &config, &err)) {
        fprintf(stderr, "imprintd: %s\n", err.text);
        config_done(&config);
        return 1;
    }
    im_log_set_level(level_of(config.log_level));
    if (options.check_config) {
        status = check_config(&config);
    } else if (optind < argc &&
               (strcmp(argv[optind], "user") == 0 || strcmp(argv[optind], "key") == 0 ||
                strcmp(argv[optind], "network") == 0 || strcmp(argv[optind], "pool") == 0)) {
        status = account_main(&config, argc - optind, argv + optind);
    } else if (optind < argc) {
        fputs(help, stderr);
        status = 2;
    } else {
        status = serve(&config);
    }
    config_done(&config);
    return status;
}
