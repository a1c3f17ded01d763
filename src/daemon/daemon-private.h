/* SPDX-License-Identifier: Apache-2.0 */
/* Between main.c, wire-up.c and account.c. */
#ifndef DAEMON_PRIVATE_H
#define DAEMON_PRIVATE_H

#include "cloud/cloud.h"
#include "daemon/config.h"
#include "http/http.h"
#include "net/net.h"

/* Everything that is open, in the order of opening. */
struct house {
    struct config *config;
    int lock_fd; /* holds imprintd.pid, locked: one imprintd per state folder */
    struct db *db;
    struct storage_pool *pool;
    struct net *net;
    struct crypto_key *key;
    struct virt *virt;
    struct cloud *cloud;
    struct http *http;
};

/* Opens all of it and serves. On failure what was opened is closed. */
bool house_open(struct house *house, struct config *config, struct im_err *err) IM_MUST_CHECK;
/* Only the record, the key and a cloud over them that runs nothing: for operators' verbs, beside a
 * running imprintd or without. */
bool house_open_record(struct house *house, struct config *config,
                       struct im_err *err) IM_MUST_CHECK;
/* For an operator whose pool is lost, in whole or in part: opens it, marks what is not there, and
 * closes again. */
bool house_accept_loss(struct house *house, struct config *config, int64_t *ret_lost,
                       struct im_err *err) IM_MUST_CHECK;
void house_close(struct house *house);
/* Borrowed from the configuration. */
struct net_config house_net_config(const struct config *config);

/* `imprintd user …`, `key …`, `network …` and `pool …`; words after the options. Returns the exit
 * status. */
int account_main(struct config *config, int argc, char **argv);

#endif
