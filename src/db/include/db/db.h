/* SPDX-License-Identifier: Apache-2.0 */
/* The contract to the record: SQL over SQLite or PostgreSQL, nothing of images or instances.
 *
 * SQL is written once in the dialect both understand: placeholders $1, $2 …; TEXT, BIGINT and
 * BLOB/BYTEA values; ON CONFLICT; RETURNING. Arguments follow a format string, one letter each: 't'
 * const char * (NULL = SQL NULL), 'i' int64_t, 'b' const void * and size_t. Example:
 *
 *     db_exec(conn, &changed, err, "UPDATE images SET status = $1 WHERE image_id = $2", "tt",
 * "deleted", id)
 *
 * Threads: `struct db` is shared; a connection belongs to the thread that took it until it is given
 * back. With SQLite any number of readers run beside one writer; a write transaction waits for the
 * other (up to 30 s, then IM_BUSY). Never write on a second connection while a write transaction of
 * the same thread is open.
 *
 * Codes: IM_EXISTS for a violated unique constraint; IM_BUSY for a lock or serialisation conflict:
 * nothing was committed, and the caller may begin again; IM_NO_RECORD when the record itself is the
 * trouble (a full or read-only disk, a damaged file, a server that was lost or cannot be reached):
 * nothing was committed, the sentence says what an operator can do; IM_INTERNAL for the rest.
 * IM_UNKNOWN_COMMIT, when the server was lost while committing and stayed away for half a minute:
 * only reading again tells whether the commit happened. If it comes back in that time it is asked,
 * and the commit succeeds or is IM_NO_RECORD. */
#ifndef DB_DB_H
#define DB_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

struct db;
struct db_conn;
struct db_rows;

/* "sqlite:/path/to/file" (made if missing, mode 0600, WAL, synchronous=FULL) or "postgresql://…" /
 * "postgresql:key=value …" as libpq takes it. Does not run migrations. */
struct db *db_open(const char *uri, struct im_err *err) IM_MUST_CHECK;
/* All connections must have been given back. NULL is fine. */
void db_close(struct db *db);
const char *db_driver(const struct db *db); /* "sqlite" or "postgresql" */

/* Runs the numbered migrations that are missing, each in its own transaction; two programs may do
 * so at once. A record that is newer than this program is refused with both numbers in the sentence
 * (IM_UNSUPPORTED). */
bool db_migrate(struct db *db, struct im_err *err) IM_MUST_CHECK;
/* Number of the newest migration this program knows. */
int db_schema_version(void);

/* From now until db_close this program is the only one that serves from the record; IM_BUSY naming
 * the other one if there is. `name` tells others who we are. Should PostgreSQL end the connection
 * that holds the claim, every connection is opened anew, and only with the claim regained. Programs
 * that look, or add a user, need no claim. */
bool db_claim(struct db *db, const char *name, struct im_err *err) IM_MUST_CHECK;

/* A number that differs whenever a committed change may have happened since it was last asked:
 * replies may be kept while it stays the same. With SQLite it is read from the mapped WAL index (no
 * I/O, no lock) and tells of other programs' commits too; 0, meaning "never keep", with PostgreSQL.
 */
uint64_t db_generation(struct db *db);

/* A connection from the pool, opened anew when the old one was lost. */
struct db_conn *db_take(struct db *db, struct im_err *err) IM_MUST_CHECK;
/* Rolls back what is open. NULL is fine. */
void db_give(struct db_conn *conn);
IM_DEFINE_AUTO(struct db_conn *, db_give)

/* Transactions do not nest. db_begin takes the write lock at once (SQLite: BEGIN IMMEDIATE), so
 * that what is read inside is still true at commit; PostgreSQL runs at SERIALIZABLE. */
bool db_begin(struct db_conn *conn, struct im_err *err) IM_MUST_CHECK;
/* A read-only view of one moment; end it with db_commit or db_rollback. */
bool db_begin_read(struct db_conn *conn, struct im_err *err) IM_MUST_CHECK;
/* Durable when it returns true. */
bool db_commit(struct db_conn *conn, struct im_err *err) IM_MUST_CHECK;
void db_rollback(struct db_conn *conn);
bool db_in_transaction(const struct db_conn *conn);

/* Runs one statement. ret_changed (may be NULL) is the number of rows that were inserted, changed
 * or deleted. */
bool db_exec(struct db_conn *conn, int64_t *ret_changed, struct im_err *err, const char *sql,
             const char *format, ...) IM_MUST_CHECK;
/* Runs a statement that returns rows; free the result with db_rows_free before the next statement
 * on this connection. */
struct db_rows *db_query(struct db_conn *conn, struct im_err *err, const char *sql,
                         const char *format, ...) IM_MUST_CHECK;

/* The same with arguments gathered at run time. */
struct db_value {
    char type;        /* 't', 'i' or 'b' */
    const char *text; /* borrowed for the call; NULL = SQL NULL; also the bytes of 'b' */
    size_t len;       /* of 'b' */
    int64_t integer;
};
bool db_exec_values(struct db_conn *conn, int64_t *ret_changed, struct im_err *err, const char *sql,
                    const struct db_value *values, size_t count) IM_MUST_CHECK;
struct db_rows *db_query_values(struct db_conn *conn, struct im_err *err, const char *sql,
                                const struct db_value *values, size_t count) IM_MUST_CHECK;

/* Moves to the next row (the first at the first call). *ret_more is false after the last one. */
bool db_next(struct db_rows *rows, bool *ret_more, struct im_err *err) IM_MUST_CHECK;
/* Columns of the current row, from 0. Text is valid until the next db_next; NULL for SQL NULL. */
const char *db_text(struct db_rows *rows, int column);
int64_t db_int(struct db_rows *rows, int column); /* 0 for SQL NULL */
const void *db_blob(struct db_rows *rows, int column, size_t *ret_len);
bool db_is_null(struct db_rows *rows, int column);
void db_rows_free(struct db_rows *rows);
IM_DEFINE_AUTO(struct db_rows *, db_rows_free)

/* Runs `body` in a write transaction and commits; when that meets IM_BUSY, or no connection is to
 * be had, again from the beginning, up to 10 times (some 3 s). `body` must have no effects but on
 * the record and its own *arg, which it sets anew each time. */
bool db_transact(struct db *db, bool (*body)(struct db_conn *conn, void *arg, struct im_err *err),
                 void *arg, struct im_err *err) IM_MUST_CHECK;

/* The same, once, for what may be lost: when it returns true others see it, but only the next
 * durable transaction keeps it over a loss of power (over the end of this program it is kept).
 * Costs no fsync. */
bool db_transact_lightly(struct db *db,
                         bool (*body)(struct db_conn *conn, void *arg, struct im_err *err),
                         void *arg, struct im_err *err) IM_MUST_CHECK;

#endif
