/* SPDX-License-Identifier: Apache-2.0 */
/* Operator's verbs: users and their first keys, which work on the record itself, beside a running
 * imprintd and without one; taking down what a bridge left on the host; and accepting that a pool
 * is lost. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "daemon-private.h"

static int fail(const struct im_err *err) {
    fprintf(stderr, "imprintd: %s\n", err->text);
    return 1;
}

static int usage(void) {
    fputs("usage: imprintd [options] user add NAME [--admin] [--email ADDRESS]\n"
          "       imprintd [options] user list | disable NAME | enable NAME\n"
          "       imprintd [options] key add USER [--name NAME]\n"
          "       imprintd [options] network remove\n"
          "       imprintd [options] pool accept-loss\n",
          stderr);
    return 2;
}

static int user_add(struct cloud *cloud, int argc, char **argv) {
    const char *name = NULL, *email = NULL;
    bool admin = false;
    char id[IM_ID_MAX];
    struct im_err err = {0};

    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--admin") == 0)
            admin = true;
        else if (strcmp(argv[i], "--email") == 0 && i + 1 < argc)
            email = argv[++i];
        else if (argv[i][0] != '-' && name == NULL)
            name = argv[i];
        else
            return usage();
    }
    if (name == NULL)
        return usage();
    if (!cloud_user_add(cloud, name, email, admin, id, &err))
        return fail(&err);
    printf("user_id: %s\n", id);
    return 0;
}

static int user_list(struct cloud *cloud) {
    struct user **users = NULL;
    size_t count = 0;
    struct im_err err = {0};

    if (!cloud_user_list(cloud, &users, &count, &err))
        return fail(&err);
    for (size_t i = 0; i < count; i++) {
        const struct user *user = users[i];
        char time[IM_TIME_TEXT];

        im_time_format(user->create_time, time);
        printf("%s\t%s\t%s\t%s\t%s\t%s\n", user->user_id, user->user_name,
               field_word(object_field(&user_type, "role"), user),
               field_word(object_field(&user_type, "status"), user), time,
               user->email ? user->email : "");
        user_free(users[i]);
    }
    free(users);
    return 0;
}

static int user_status(struct cloud *cloud, const char *name, enum account_status status) {
    struct im_err err = {0};

    return cloud_user_set_status(cloud, name, status, &err) ? 0 : fail(&err);
}

static int key_add(struct cloud *cloud, int argc, char **argv) {
    const char *user = NULL, *name = NULL;
    IM_AUTO(free_auto) char *id = NULL, *secret = NULL;
    struct im_err err = {0};

    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--name") == 0 && i + 1 < argc)
            name = argv[++i];
        else if (argv[i][0] != '-' && user == NULL)
            user = argv[i];
        else
            return usage();
    }
    if (user == NULL)
        return usage();
    if (!cloud_access_key_add(cloud, user, name, &id, &secret, &err))
        return fail(&err);
    printf("access_key_id: %s\nsecret_access_key: %s\n", id, secret);
    return 0;
}

static int run(struct cloud *cloud, int argc, char **argv) {
    bool user = strcmp(argv[0], "user") == 0;

    if (argc < 2)
        return usage();
    if (user && strcmp(argv[1], "add") == 0)
        return user_add(cloud, argc - 2, argv + 2);
    if (user && strcmp(argv[1], "list") == 0 && argc == 2)
        return user_list(cloud);
    if (user && strcmp(argv[1], "disable") == 0 && argc == 3)
        return user_status(cloud, argv[2], ACCOUNT_DISABLED);
    if (user && strcmp(argv[1], "enable") == 0 && argc == 3)
        return user_status(cloud, argv[2], ACCOUNT_ACTIVE);
    if (!user && strcmp(argv[1], "add") == 0)
        return key_add(cloud, argc - 2, argv + 2);
    return usage();
}

static int network(const struct config *config, int argc, char **argv) {
    struct net_config net = house_net_config(config);
    struct im_err err = {0};

    if (argc != 2 || strcmp(argv[1], "remove") != 0)
        return usage();
    return net_remove(&net, &err) ? 0 : fail(&err);
}

static int pool(struct config *config, int argc, char **argv) {
    struct house house;
    struct im_err err = {0};
    int64_t lost = 0;

    if (argc != 2 || strcmp(argv[1], "accept-loss") != 0)
        return usage();
    if (!house_accept_loss(&house, config, &lost, &err))
        return fail(&err);
    printf("%" PRId64 " layer%s marked as lost\n", lost, lost == 1 ? "" : "s");
    return 0;
}

int account_main(struct config *config, int argc, char **argv) {
    struct house house;
    struct im_err err = {0};
    int status;

    if (strcmp(argv[0], "network") == 0)
        return network(config, argc, argv);
    if (strcmp(argv[0], "pool") == 0)
        return pool(config, argc, argv);
    if (!house_open_record(&house, config, &err))
        return fail(&err);
    status = run(house.cloud, argc, argv);
    house_close(&house);
    return status;
}
