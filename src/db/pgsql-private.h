/* SPDX-License-Identifier: Apache-2.0 */
/* What the two files of the PostgreSQL driver share: the server with its claim, and calls of libpq
 * whose failures are ours. */
#ifndef DB_PGSQL_PRIVATE_H
#define DB_PGSQL_PRIVATE_H

#include <libpq-fe.h>
#include <pthread.h>

#include "db-private.h"

/* Numbers of advisory locks. */
enum { SCHEMA_LOCK = 1229801552, CLAIM_LOCK };

struct server {
    char *info; /* as libpq takes it */
    bool marks; /* the table of commits is there */
    unsigned commits;
    pthread_mutex_t lock; /* guards all below */
    char *name;           /* in which the record is claimed; NULL: it is not */
    PGconn *claim;        /* whose session holds the lock */
};

void *pg_server_open(const char *address, struct im_err *err);
void pg_server_close(void *shared);
bool pg_server_claim(void *shared, const char *name, struct im_err *err);
/* Whether the claim, if there is one, still holds; what to do before a new connection is used. */
bool pg_claim_holds(struct server *server);
bool pg_claim_keep(struct server *server, struct im_err *err);

/* A session set up as ours are; `name` is what the server's administrator sees. */
PGconn *pg_dial(const struct server *server, const char *name, struct im_err *err);
/* False when the connection is lost, or about to be. */
bool pg_quiet(const PGconn *pg);
/* Says why the result (may be NULL) is none; returns false. */
bool pg_fail(const PGconn *pg, const PGresult *result, struct im_err *err);
bool pg_run(PGconn *pg, const char *sql, struct im_err *err);
/* The first column of the first row, copied; NULL if there is none or the statement fails. */
char *pg_value(PGconn *pg, const char *sql, struct im_err *err);

#endif
