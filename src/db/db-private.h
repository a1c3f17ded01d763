/* SPDX-License-Identifier: Apache-2.0 */
/* What a driver fills in. The wrapper in db.c keeps the pool, formats, transactions and migrations.
 */
#ifndef DB_PRIVATE_H
#define DB_PRIVATE_H

#include "db/db.h"

/* Longer statements (lists of thousands of values) are not kept prepared. */
enum { DB_KEPT_MAX = 4096 };

struct db_driver {
    const char *name; /* also the scheme of the URI */
    /* Checks the URI's rest and prepares what all connections share. */
    void *(*open)(const char *address, struct im_err *err);
    void (*close)(void *shared);
    void *(*connect)(void *shared, struct im_err *err);
    void (*disconnect)(void *link);
    bool (*alive)(void *link); /* false: the connection is lost, the pool opens a new one */
    /* BEGIN for writing or reading, COMMIT, ROLLBACK. */
    bool (*begin)(void *link, bool write, struct im_err *err);
    bool (*commit)(void *link, struct im_err *err);
    void (*rollback)(void *link);
    /* Whether write transactions that begin from now on need not be durable when they return.
     * Between transactions only. */
    void (*lightly)(void *link, bool on);
    /* Starts a statement; the rows (perhaps none) are fetched with next until it says there are no
     * more. */
    void *(*query)(void *link, const char *sql, const struct db_value *values, size_t count,
                   struct im_err *err);
    bool (*next)(void *result, bool *ret_more, struct im_err *err);
    int64_t (*changed)(void *result);              /* after next said there are no more */
    const char *(*text)(void *result, int column); /* NULL for SQL NULL */
    int64_t (*integer)(void *result, int column);
    const void *(*blob)(void *result, int column, size_t *ret_len);
    void (*free)(void *result);
    /* Runs several statements separated by semicolons; migrations only. */
    bool (*script)(void *link, const char *sql, struct im_err *err);
    /* Keeps other programs out of the schema until the link is closed or asked to let go. NULL: a
     * write transaction does so already. */
    bool (*lock_schema)(void *link, bool on, struct im_err *err);
    /* As db_claim. */
    bool (*claim)(void *shared, const char *name, struct im_err *err);
    /* As db_generation; NULL: the driver can not know. */
    uint64_t (*generation)(void *shared);
};

extern const struct db_driver db_sqlite, db_pgsql;

#endif
