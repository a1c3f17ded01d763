/* SPDX-License-Identifier: Apache-2.0 */
/* The wrapper over the drivers: pool of connections, argument formats, transactions with retry,
 * migrations. */
#include "db/db.h"

#include <assert.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/str.h"
#include "db-private.h"
#include "db/fault.h"
#include "schema.h"

enum { IDLE_KEPT = 16, VALUES_MAX = 96, TRIES = 10, PAUSE_MAX_MS = 500 };

static const struct db_driver *const drivers[] = {&db_sqlite, &db_pgsql};

struct db_conn {
    struct db *db;
    void *link;
    bool open; /* a transaction */
};

struct db {
    const struct db_driver *driver;
    void *shared;
    pthread_mutex_t lock; /* guards all below */
    struct db_conn *idle[IDLE_KEPT];
    size_t idle_count;
    enum db_fault fault;
    unsigned fine, failing; /* see db_fault_commits */
};

struct db_rows {
    struct db_conn *conn;
    void *result;
};

struct db *db_open(const char *uri, struct im_err *err) {
    const char *colon = strchr(uri, ':');

    for (size_t i = 0; colon != NULL && i < sizeof(drivers) / sizeof(drivers[0]); i++) {
        struct db *db;
        void *shared;

        if (strlen(drivers[i]->name) != (size_t) (colon - uri) ||
            !im_starts_with(uri, drivers[i]->name))
            continue;
        shared = drivers[i]->open(colon + 1, err);
        if (shared == NULL)
            return NULL;
        db = im_alloc(sizeof(*db));
        db->driver = drivers[i];
        db->shared = shared;
        pthread_mutex_init(&db->lock, NULL);
        return db;
    }
    im_fail(err, IM_BAD_MESSAGE, "record: the URI should begin with sqlite: or postgresql:");
    return NULL;
}

static void conn_free(struct db_conn *conn) {
    conn->db->driver->disconnect(conn->link);
    free(conn);
}

void db_close(struct db *db) {
    if (db == NULL)
        return;
    for (size_t i = 0; i < db->idle_count; i++)
        conn_free(db->idle[i]);
    db->driver->close(db->shared);
    pthread_mutex_destroy(&db->lock);
    free(db);
}

const char *db_driver(const struct db *db) { return db->driver->name; }

bool db_claim(struct db *db, const char *name, struct im_err *err) {
    return db->driver->claim(db->shared, name, err);
}

uint64_t db_generation(struct db *db) {
    return db->driver->generation != NULL ? db->driver->generation(db->shared) : 0;
}

/* --- Connections ------------------------------------------------------------------------------ */

struct db_conn *db_take(struct db *db, struct im_err *err) {
    struct db_conn *conn = NULL;

    pthread_mutex_lock(&db->lock);
    if (db->idle_count > 0)
        conn = db->idle[--db->idle_count];
    pthread_mutex_unlock(&db->lock);
    if (conn != NULL && !db->driver->alive(conn->link)) {
        conn_free(conn);
        conn = NULL;
    }
    if (conn == NULL) {
        void *link = db->driver->connect(db->shared, err);

        if (link == NULL)
            return NULL;
        conn = im_alloc(sizeof(*conn));
        conn->db = db;
        conn->link = link;
    }
    return conn;
}

void db_give(struct db_conn *conn) {
    struct db *db;
    bool kept = false;

    if (conn == NULL)
        return;
    db = conn->db;
    db_rollback(conn);
    pthread_mutex_lock(&db->lock);
    if (db->idle_count < IDLE_KEPT && db->driver->alive(conn->link)) {
        db->idle[db->idle_count++] = conn;
        kept = true;
    }
    pthread_mutex_unlock(&db->lock);
    if (!kept)
        conn_free(conn);
}

/* --- Transactions ----------------------------------------------------------------------------- */

static bool begin(struct db_conn *conn, bool write, struct im_err *err) {
    assert(!conn->open);
    if (!conn->db->driver->begin(conn->link, write, err))
        return false;
    conn->open = true;
    return true;
}

bool db_begin(struct db_conn *conn, struct im_err *err) { return begin(conn, true, err); }

bool db_begin_read(struct db_conn *conn, struct im_err *err) { return begin(conn, false, err); }

static enum db_fault fault_now(struct db *db) {
    enum db_fault fault = DB_FAULT_NONE;

    pthread_mutex_lock(&db->lock);
    if (db->fine > 0) {
        db->fine--;
    } else if (db->failing > 0) {
        db->failing--;
        fault = db->fault;
    }
    pthread_mutex_unlock(&db->lock);
    return fault;
}

void db_fault_commits(struct db *db, enum db_fault kind, unsigned fine, unsigned failing) {
    pthread_mutex_lock(&db->lock);
    db->fault = kind;
    db->fine = fine;
    db->failing = failing;
    pthread_mutex_unlock(&db->lock);
}

unsigned db_fault_left(struct db *db) {
    unsigned left;

    pthread_mutex_lock(&db->lock);
    left = db->failing;
    pthread_mutex_unlock(&db->lock);
    return left;
}

bool db_commit(struct db_conn *conn, struct im_err *err) {
    enum db_fault fault = fault_now(conn->db);

    assert(conn->open);
    if (fault == DB_FAULT_FULL)
        im_fail(err, IM_NO_RECORD, "record: a commit fails on purpose");
    if (fault == DB_FAULT_FULL || !conn->db->driver->commit(conn->link, err)) {
        db_rollback(conn);
        return false;
    }
    conn->open = false;
    return fault != DB_FAULT_ANSWER ||
           im_fail(err, IM_UNKNOWN_COMMIT, "record: the answer to a commit is lost on purpose");
}

void db_rollback(struct db_conn *conn) {
    if (!conn->open)
        return;
    conn->db->driver->rollback(conn->link);
    conn->open = false;
}

bool db_in_transaction(const struct db_conn *conn) { return conn->open; }

/* Longer each time, and never the same for two that met each other. */
static void pause_after(int try) {
    int64_t most = try < 6 ? 10 << try : PAUSE_MAX_MS
        ;
    uint16_t chance;

    im_random(&chance, sizeof(chance));
    im_sleep_ms(most / 2 + chance % (most / 2));
}

bool db_transact(struct db *db, bool (*body)(struct db_conn *conn, void *arg, struct im_err *err),
                 void *arg, struct im_err *err) {
    for (int try = 1;; try++) {
        struct db_conn *conn = db_take(db, err);
        bool fine =
            conn != NULL && db_begin(conn, err) && body(conn, arg, err) && db_commit(conn, err);
        bool again;

        if (fine) {
            db_give(conn);
            return true;
        }
        again = err->code == IM_BUSY ||
                (err->code == IM_NO_RECORD && (conn == NULL || !db->driver->alive(conn->link)));
        db_give(conn);
        if (!again || try == TRIES)
            return false;
        *err = (struct im_err){0};
        pause_after(try);
    }
}

/* Past the faults that tests plant: they are for commits that matter. */
bool db_transact_lightly(struct db *db,
                         bool (*body)(struct db_conn *conn, void *arg, struct im_err *err),
                         void *arg, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(db, err);
    bool fine;

    if (conn == NULL)
        return false;
    db->driver->lightly(conn->link, true);
    fine = db_begin(conn, err) && body(conn, arg, err) && db->driver->commit(conn->link, err);
    if (fine)
        conn->open = false;
    else
        db_rollback(conn);
    db->driver->lightly(conn->link, false);
    return fine;
}

/* --- Statements ------------------------------------------------------------------------------- */

static size_t gather(const char *format, va_list args, struct db_value values[VALUES_MAX]) {
    size_t count = 0;

    for (; format[count] != '\0'; count++) {
        struct db_value *value = &values[count];

        assert(count < VALUES_MAX);
        *value = (struct db_value){.type = format[count]};
        if (value->type == 'i') {
            value->integer = va_arg(args, int64_t);
        } else {
            value->text = va_arg(args, const char *);
            if (value->type == 'b')
                value->len = va_arg(args, size_t);
        }
    }
    return count;
}

struct db_rows *db_query_values(struct db_conn *conn, struct im_err *err, const char *sql,
                                const struct db_value *values, size_t count) {
    void *result = conn->db->driver->query(conn->link, sql, values, count, err);
    struct db_rows *rows;

    if (result == NULL)
        return NULL;
    rows = im_alloc(sizeof(*rows));
    rows->conn = conn;
    rows->result = result;
    return rows;
}

bool db_exec_values(struct db_conn *conn, int64_t *ret_changed, struct im_err *err, const char *sql,
                    const struct db_value *values, size_t count) {
    IM_AUTO(db_rows_free_auto)
    struct db_rows *rows = db_query_values(conn, err, sql, values, count);
    bool more = true;

    if (rows == NULL)
        return false;
    while (more)
        if (!db_next(rows, &more, err))
            return false;
    if (ret_changed != NULL)
        *ret_changed = conn->db->driver->changed(rows->result);
    return true;
}

bool db_exec(struct db_conn *conn, int64_t *ret_changed, struct im_err *err, const char *sql,
             const char *format, ...) {
    struct db_value values[VALUES_MAX];
    va_list args;
    size_t count;

    va_start(args, format);
    count = gather(format, args, values);
    va_end(args);
    return db_exec_values(conn, ret_changed, err, sql, values, count);
}

struct db_rows *db_query(struct db_conn *conn, struct im_err *err, const char *sql,
                         const char *format, ...) {
    struct db_value values[VALUES_MAX];
    va_list args;
    size_t count;

    va_start(args, format);
    count = gather(format, args, values);
    va_end(args);
    return db_query_values(conn, err, sql, values, count);
}

bool db_next(struct db_rows *rows, bool *ret_more, struct im_err *err) {
    return rows->conn->db->driver->next(rows->result, ret_more, err);
}

const char *db_text(struct db_rows *rows, int column) {
    return rows->conn->db->driver->text(rows->result, column);
}

int64_t db_int(struct db_rows *rows, int column) {
    return rows->conn->db->driver->integer(rows->result, column);
}

const void *db_blob(struct db_rows *rows, int column, size_t *ret_len) {
    return rows->conn->db->driver->blob(rows->result, column, ret_len);
}

bool db_is_null(struct db_rows *rows, int column) { return db_text(rows, column) == NULL; }

void db_rows_free(struct db_rows *rows) {
    if (rows == NULL)
        return;
    rows->conn->db->driver->free(rows->result);
    free(rows);
}

/* --- Migrations: each in its own transaction, so that two programs may run them at once ------- */

static const char *const migrations[] = DB_MIGRATIONS;
enum { MIGRATIONS = sizeof(migrations) / sizeof(migrations[0]) };

int db_schema_version(void) { return MIGRATIONS; }

static bool version_now(struct db_conn *conn, int64_t *ret_version, struct im_err *err) {
    IM_AUTO(db_rows_free_auto)
    struct db_rows *rows =
        db_query(conn, err, "SELECT COALESCE(MAX(version), 0) FROM schema_migrations", "");
    bool more = false;

    if (rows == NULL || !db_next(rows, &more, err))
        return false;
    *ret_version = more ? db_int(rows, 0) : 0;
    return true;
}

static bool migrate_one(struct db_conn *conn, void *arg, struct im_err *err) {
    int64_t *left = arg, version = 0;

    if (!db_exec(conn, NULL, err,
                 "CREATE TABLE IF NOT EXISTS schema_migrations"
                 " (version BIGINT PRIMARY KEY, applied_time BIGINT NOT NULL)",
                 "") ||
        !version_now(conn, &version, err))
        return false;
    if (version > MIGRATIONS)
        return im_fail(err, IM_UNSUPPORTED,
                       "record: its schema %lld is newer than this program, which knows up to %d; "
                       "upgrade imprintd",
                       (long long) version, MIGRATIONS);
    *left = MIGRATIONS - version;
    if (*left == 0)
        return true;
    --*left;
    return (conn->db->driver->script(conn->link, migrations[version], err) &&
            db_exec(conn, NULL, err,
                    "INSERT INTO schema_migrations (version, applied_time) VALUES ($1, $2)", "ii",
                    version + 1, im_now_s())) ||
           im_within(err, "migration %lld", (long long) version + 1);
}

/* Whether a migration was committed is read from the record at the next try. */
static bool unknown(int64_t *ret_left, struct im_err *err) {
    if (err->code != IM_UNKNOWN_COMMIT)
        return false;
    *err = (struct im_err){0};
    *ret_left = 1;
    return true;
}

bool db_migrate(struct db *db, struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(db, err);
    bool (*lock)(void *link, bool on, struct im_err *err) = db->driver->lock_schema;
    struct im_err ignored = {0};
    int64_t left = 1;

    if (conn == NULL || (lock != NULL && !lock(conn->link, true, err)))
        return false;
    while (left > 0 && (db_transact(db, migrate_one, &left, err) || unknown(&left, err)))
        continue;
    if (lock != NULL)
        (void) lock(conn->link, false, &ignored);
    return left == 0;
}
