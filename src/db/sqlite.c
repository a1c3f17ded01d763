/* SPDX-License-Identifier: Apache-2.0 */
/* The record in a SQLite file: WAL, synchronous=FULL, statements prepared once per connection. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "db-private.h"

enum { STATEMENTS_KEPT = 128, BUSY_MS = 30000 };

struct file {
    char *path;
};

struct statement {
    char *sql;
    sqlite3_stmt *stmt;
    bool busy; /* a result is being read */
};

struct link {
    sqlite3 *db;
    struct statement kept[STATEMENTS_KEPT];
    size_t next; /* the one to be replaced next */
};

struct result {
    struct link *link;
    sqlite3_stmt *stmt;
    struct statement *kept; /* NULL: the statement is ours alone */
    int64_t changed;
    int64_t before; /* total changes when it began */
};

static bool sql_fail(sqlite3 *db, const char *what, struct im_err *err) {
    int code = db ? sqlite3_extended_errcode(db) : SQLITE_NOMEM;
    const char *text = db ? sqlite3_errmsg(db) : "out of memory";

    switch (code & 0xff) {
    case SQLITE_CONSTRAINT:
        return im_fail(err,
                       code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY
                           ? IM_EXISTS
                           : IM_INTERNAL,
                       "record: %s", text);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return im_fail(err, IM_BUSY, "record is locked by another writer: %s", text);
    case SQLITE_FULL:
        return im_fail(err, IM_NO_SPACE, "record: the disk is full");
    case SQLITE_IOERR:
        if (sqlite3_system_errno(db) == ENOSPC)
            return im_fail(err, IM_NO_SPACE, "record: the disk is full");
        break;
    default:
        break;
    }
    return im_fail(err, IM_INTERNAL, "record: cannot %s: %s", what, text);
}

/* Made by us, as SQLite would take the umask's word for who may read it. Only if it is new:
 * closing a descriptor of a file that SQLite has open would drop the locks it holds on it. */
static bool make_file(const char *path, struct im_err *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd >= 0)
        close(fd);
    return fd >= 0 || errno == EEXIST || im_fail_sys(err, errno, "record: cannot open %s", path);
}

static void *file_open(const char *address, struct im_err *err) {
    struct file *file;

    if (*address == '\0') {
        im_fail(err, IM_BAD_MESSAGE, "record: the URI sqlite: names no file");
        return NULL;
    }
    if (!make_file(address, err))
        return NULL;
    file = im_alloc(sizeof(*file));
    file->path = im_strdup(address);
    return file;
}

static void file_close(void *shared) {
    struct file *file = shared;

    free(file->path);
    free(file);
}

static void link_close(void *arg) {
    struct link *link = arg;

    for (size_t i = 0; i < STATEMENTS_KEPT; i++) {
        sqlite3_finalize(link->kept[i].stmt);
        free(link->kept[i].sql);
    }
    sqlite3_close_v2(link->db);
    free(link);
}

static void *link_open(void *shared, struct im_err *err) {
    struct file *file = shared;
    struct link *link = im_alloc(sizeof(*link));

    if (sqlite3_open_v2(file->path, &link->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
            SQLITE_OK ||
        sqlite3_busy_timeout(link->db, BUSY_MS) != SQLITE_OK ||
        sqlite3_exec(link->db,
                     "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                     "PRAGMA cache_size=-4096; PRAGMA temp_store=MEMORY",
                     NULL, NULL, NULL) != SQLITE_OK) {
        sql_fail(link->db, "open it", err);
        im_within(err, "%s", file->path);
        link_close(link);
        return NULL;
    }
    return link;
}

static bool link_alive(void *link) {
    (void) link;
    return true;
}

static bool run(struct link *link, const char *sql, const char *what, struct im_err *err) {
    return sqlite3_exec(link->db, sql, NULL, NULL, NULL) == SQLITE_OK ||
           sql_fail(link->db, what, err);
}

static bool link_begin(void *link, bool write, struct im_err *err) {
    return run(link, write ? "BEGIN IMMEDIATE" : "BEGIN", "begin", err);
}

static bool link_commit(void *link, struct im_err *err) {
    return run(link, "COMMIT", "commit", err);
}

static void link_rollback(void *arg) {
    struct link *link = arg;

    if (!sqlite3_get_autocommit(link->db))
        sqlite3_exec(link->db, "ROLLBACK", NULL, NULL, NULL);
}

static bool link_script(void *link, const char *sql, struct im_err *err) {
    return run(link, sql, "migrate", err);
}

/* A kept statement of this text that is free, else a new one, kept if there is a place. */
static bool prepare(struct link *link, const char *sql, struct result *result, struct im_err *err) {
    struct statement *place = NULL;

    for (size_t i = 0; i < STATEMENTS_KEPT; i++) {
        struct statement *kept = &link->kept[i];

        if (kept->sql != NULL && !kept->busy && strcmp(kept->sql, sql) == 0) {
            kept->busy = true;
            result->kept = kept;
            result->stmt = kept->stmt;
            return true;
        }
    }
    if (sqlite3_prepare_v3(link->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &result->stmt, NULL) !=
        SQLITE_OK)
        return sql_fail(link->db, "prepare a statement", err);
    for (size_t tries = 0; tries < STATEMENTS_KEPT && place == NULL; tries++) {
        struct statement *kept = &link->kept[link->next++ % STATEMENTS_KEPT];

        if (!kept->busy)
            place = kept;
    }
    if (place != NULL) {
        sqlite3_finalize(place->stmt);
        im_replace(&place->sql, sql);
        place->stmt = result->stmt;
        place->busy = true;
        result->kept = place;
    }
    return true;
}

/* $N is a named parameter to SQLite: bound by its name, wherever it first stands in the text. */
static bool bind(struct result *result, const struct db_value *values, size_t count,
                 struct im_err *err) {
    int wanted = sqlite3_bind_parameter_count(result->stmt);

    for (int place = 1; place <= wanted; place++) {
        const char *name = sqlite3_bind_parameter_name(result->stmt, place);
        size_t number = name ? (size_t) atoi(name + 1) : 0;
        const struct db_value *value = number >= 1 && number <= count ? &values[number - 1] : NULL;
        int rc;

        if (value == NULL)
            return im_fail(err, IM_INTERNAL, "record: no value for parameter %s", name);
        if (value->type == 'i')
            rc = sqlite3_bind_int64(result->stmt, place, value->integer);
        else if (value->text == NULL)
            rc = sqlite3_bind_null(result->stmt, place);
        else if (value->type == 'b')
            rc =
                sqlite3_bind_blob64(result->stmt, place, value->text, value->len, SQLITE_TRANSIENT);
        else
            rc = sqlite3_bind_text64(result->stmt, place, value->text, strlen(value->text),
                                     SQLITE_TRANSIENT, SQLITE_UTF8);
        if (rc != SQLITE_OK)
            return sql_fail(result->link->db, "bind a value", err);
    }
    return true;
}

static void result_free(void *arg) {
    struct result *result = arg;

    if (result->kept != NULL) {
        sqlite3_reset(result->stmt);
        sqlite3_clear_bindings(result->stmt);
        result->kept->busy = false;
    } else {
        sqlite3_finalize(result->stmt);
    }
    free(result);
}

static void *link_query(void *arg, const char *sql, const struct db_value *values, size_t count,
                        struct im_err *err) {
    struct link *link = arg;
    struct result *result = im_alloc(sizeof(*result));

    result->link = link;
    result->before = sqlite3_total_changes64(link->db);
    if (!prepare(link, sql, result, err)) {
        free(result);
        return NULL;
    }
    if (!bind(result, values, count, err)) {
        result_free(result);
        return NULL;
    }
    return result;
}

static bool result_next(void *arg, bool *ret_more, struct im_err *err) {
    struct result *result = arg;
    int rc = sqlite3_step(result->stmt);

    if (rc != SQLITE_ROW && rc != SQLITE_DONE)
        return sql_fail(result->link->db, "run a statement", err);
    *ret_more = rc == SQLITE_ROW;
    if (rc == SQLITE_DONE)
        result->changed = sqlite3_total_changes64(result->link->db) - result->before;
    return true;
}

static int64_t result_changed(void *result) { return ((struct result *) result)->changed; }

static const char *result_text(void *result, int column) {
    return (const char *) sqlite3_column_text(((struct result *) result)->stmt, column);
}

static int64_t result_integer(void *result, int column) {
    return sqlite3_column_int64(((struct result *) result)->stmt, column);
}

static const void *result_blob(void *arg, int column, size_t *ret_len) {
    struct result *result = arg;
    const void *bytes = sqlite3_column_blob(result->stmt, column);

    *ret_len = (size_t) sqlite3_column_bytes(result->stmt, column);
    return bytes;
}

const struct db_driver db_sqlite = {.name = "sqlite",
                                    .open = file_open,
                                    .close = file_close,
                                    .connect = link_open,
                                    .disconnect = link_close,
                                    .alive = link_alive,
                                    .begin = link_begin,
                                    .commit = link_commit,
                                    .rollback = link_rollback,
                                    .query = link_query,
                                    .next = result_next,
                                    .changed = result_changed,
                                    .text = result_text,
                                    .integer = result_integer,
                                    .blob = result_blob,
                                    .free = result_free,
                                    .script = link_script,
                                    .generations = true};
