/* SPDX-License-Identifier: Apache-2.0 */
/* The record in PostgreSQL: libpq, everything SERIALIZABLE, statements prepared once per
 * connection. Passwords of the URI stay in here: no sentence is made from it. */
#include <errno.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "db-private.h"

enum { STATEMENTS_KEPT = 128, TRIES = 10, SCHEMA_LOCK = 1229801552 };

struct server {
    char *info; /* as libpq takes it */
};

struct statement {
    char *sql;
    size_t len;
    unsigned number; /* its name on the server is s<number> */
};

struct link {
    PGconn *pg;
    bool open; /* in a transaction */
    struct statement kept[STATEMENTS_KEPT];
    size_t next; /* the one to be replaced next */
    unsigned last_number;
};

struct result {
    PGresult *rows;
    int row;
    unsigned char *blob; /* the last one that was decoded */
};

/* --- Errors ----------------------------------------------------------------------------------- */

/* SQLSTATEs that mean more than "internal"; a short one is the class of all that begin so. */
static const struct {
    const char *state;
    enum im_code code;
} states[] = {
    {"40001", IM_BUSY},   /* serialisation failure */
    {"40P01", IM_BUSY},   /* deadlock */
    {"55P03", IM_BUSY},   /* lock_timeout */
    {"53300", IM_BUSY},   /* too many connections */
    {"57P", IM_BUSY},     /* the server shuts down, crashed, or starts up */
    {"23505", IM_EXISTS}, /* unique constraint */
    {"53100", IM_NO_SPACE}, {"40003", IM_UNKNOWN_COMMIT},
};

/* One line of what libpq says. */
static const char *first_line(const char *text, char out[300]) {
    snprintf(out, 300, "%.*s", (int) strcspn(text, "\n"), text);
    return out;
}

/* The connection is lost: whether a commit was under way decides what that means. */
static bool lost(const struct link *link, bool committing, struct im_err *err) {
    char line[300];

    first_line(PQerrorMessage(link->pg), line);
    if (committing)
        return im_fail(err, IM_UNKNOWN_COMMIT, "record: PostgreSQL was lost while committing: %s",
                       line);
    return im_fail(err, IM_BUSY, "record: the connection to PostgreSQL was lost: %s", line);
}

static bool pg_fail(const struct link *link, const PGresult *result, bool committing,
                    struct im_err *err) {
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *text = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    char line[300];

    if (PQstatus(link->pg) != CONNECTION_OK)
        return lost(link, committing, err);
    first_line(text ? text : PQerrorMessage(link->pg), line);
    for (size_t i = 0; state != NULL && i < sizeof(states) / sizeof(states[0]); i++)
        if (im_starts_with(state, states[i].state))
            return im_fail(err, states[i].code, "record: %s", line);
    return im_fail(err, IM_INTERNAL, "record: %s%s%s%s", line, state ? " (SQLSTATE " : "",
                   state ? state : "", state ? ")" : "");
}

/* --- Connections ------------------------------------------------------------------------------ */

static void *server_open(const char *address, struct im_err *err) {
    IM_AUTO(free_auto)
    char *info = im_printf("%s%s", im_starts_with(address, "//") ? "postgresql:" : "", address);
    PQconninfoOption *options = PQconninfoParse(info, NULL);
    struct server *server;

    if (options == NULL) {
        im_fail(err, IM_BAD_MESSAGE, "record: the URI postgresql: cannot be understood");
        return NULL;
    }
    PQconninfoFree(options);
    server = im_alloc(sizeof(*server));
    server->info = im_steal(&info);
    return server;
}

static void server_close(void *shared) {
    struct server *server = shared;

    free(server->info);
    free(server);
}

static void link_close(void *arg) {
    struct link *link = arg;

    for (size_t i = 0; i < STATEMENTS_KEPT; i++)
        free(link->kept[i].sql);
    PQfinish(link->pg);
    free(link);
}

static void be_quiet(void *arg, const PGresult *notice) { (void) arg, (void) notice; }

static bool run(struct link *link, const char *sql, struct im_err *err) {
    PGresult *result = PQexec(link->pg, sql);
    ExecStatusType status = PQresultStatus(result);
    bool fine = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ||
                pg_fail(link, result, false, err);

    PQclear(result);
    return fine;
}

static void *link_open(void *shared, struct im_err *err) {
    struct server *server = shared;
    /* What stands before dbname is a default, what stands behind it overrules. */
    static const char *const names[] = {
        "connect_timeout", "tcp_user_timeout",          "gssencmode", "dbname",
        "client_encoding", "fallback_application_name", NULL};
    const char *const values[] = {"10", "30000", "disable", server->info, "UTF8", "imprintd", NULL};
    struct link *link = im_alloc(sizeof(*link));
    char line[300];

    link->pg = PQconnectdbParams(names, values, 1);
    if (PQstatus(link->pg) != CONNECTION_OK) {
        im_fail(err, IM_BUSY, "record: cannot connect to PostgreSQL: %s",
                first_line(PQerrorMessage(link->pg), line));
        link_close(link);
        return NULL;
    }
    PQsetNoticeReceiver(link->pg, be_quiet, NULL);
    /* Durable means durable, should the server's own default be another. */
    if (!run(link,
             "SET default_transaction_isolation = 'serializable'; SET lock_timeout = '30s';"
             "SET standard_conforming_strings = on;"
             "SELECT set_config('synchronous_commit', 'on', false)"
             " WHERE current_setting('synchronous_commit') = 'off'",
             err)) {
        link_close(link);
        return NULL;
    }
    return link;
}

/* An idle connection has nothing to say; when it does, it most likely says that it ends. */
static bool link_alive(void *arg) {
    struct link *link = arg;
    struct pollfd fd = {PQsocket(link->pg), POLLIN, 0};

    return PQstatus(link->pg) == CONNECTION_OK && fd.fd >= 0 && poll(&fd, 1, 0) == 0;
}

/* --- Transactions ----------------------------------------------------------------------------- */

static bool link_begin(void *arg, bool write, struct im_err *err) {
    struct link *link = arg;

    link->open = run(link,
                     write ? "BEGIN ISOLATION LEVEL SERIALIZABLE"
                           : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                     err);
    return link->open;
}

static void link_rollback(void *arg) {
    struct link *link = arg;

    link->open = false;
    if (PQtransactionStatus(link->pg) != PQTRANS_IDLE)
        PQclear(PQexec(link->pg, "ROLLBACK"));
}

/* The answer to COMMIT may be ROLLBACK: an earlier statement failed, and the caller went on. */
static bool link_commit(void *arg, struct im_err *err) {
    struct link *link = arg;
    PGresult *result = PQexec(link->pg, "COMMIT");
    bool fine = true;

    link->open = false;
    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fine = pg_fail(link, result, true, err);
    else if (strcmp(PQcmdStatus(result), "COMMIT") != 0)
        fine = im_fail(err, IM_INTERNAL, "record: the transaction was rolled back");
    PQclear(result);
    return fine;
}

static bool link_script(void *link, const char *sql, struct im_err *err) {
    return run(link, sql, err);
}

static bool link_lock_schema(void *link, bool on, struct im_err *err) {
    char sql[64];

    snprintf(sql, sizeof(sql), "SELECT pg_advisory_%slock(%d)", on ? "" : "un", SCHEMA_LOCK);
    return run(link, sql, err);
}

/* --- Statements ------------------------------------------------------------------------------- */

static void name_of(unsigned number, char out[16]) { snprintf(out, 16, "s%u", number); }

/* Makes place for one more statement, letting an old one go. */
static struct statement *place_for(struct link *link) {
    struct statement *place = &link->kept[link->next++ % STATEMENTS_KEPT];
    char name[16], sql[32];

    if (place->sql == NULL)
        return place;
    name_of(place->number, name);
    snprintf(sql, sizeof(sql), "DEALLOCATE %s", name);
    PQclear(PQexec(link->pg, sql)); /* in a failed transaction it stays until the connection ends */
    free(im_steal(&place->sql));
    return place;
}

static bool prepare(struct link *link, const char *sql, char ret_name[16], struct im_err *err) {
    struct statement *place;
    size_t len = strlen(sql);
    PGresult *result;
    bool fine;

    for (size_t i = 0; i < STATEMENTS_KEPT; i++) {
        const struct statement *kept = &link->kept[i];

        if (kept->sql != NULL && kept->len == len && memcmp(kept->sql, sql, len) == 0) {
            name_of(kept->number, ret_name);
            return true;
        }
    }
    place = place_for(link);
    name_of(++link->last_number, ret_name);
    result = PQprepare(link->pg, ret_name, sql, 0, NULL);
    fine = PQresultStatus(result) == PGRES_COMMAND_OK || pg_fail(link, result, false, err);
    PQclear(result);
    if (fine)
        *place = (struct statement){.sql = im_strdup(sql), .len = len, .number = link->last_number};
    return fine;
}

/* What libpq wants of one value. */
struct argument {
    const char *text;
    int length, format;
    char number[21];
};

static struct argument argument_of(const struct db_value *value) {
    struct argument argument = {
        .text = value->text, .length = (int) value->len, .format = value->type == 'b'};

    if (value->type == 'i')
        snprintf(argument.number, sizeof(argument.number), "%" PRId64, value->integer);
    return argument;
}

static PGresult *execute_prepared(struct link *link, const char *name,
                                  const struct db_value *values, size_t count) {
    struct argument *arguments = im_alloc(count * sizeof(*arguments));
    const char **texts = im_alloc(count * sizeof(*texts));
    int *lengths = im_alloc(2 * count * sizeof(*lengths)), *formats = lengths + count;
    PGresult *result;

    for (size_t i = 0; i < count; i++) {
        arguments[i] = argument_of(&values[i]);
        texts[i] = values[i].type == 'i' ? arguments[i].number : arguments[i].text;
        lengths[i] = arguments[i].length;
        formats[i] = arguments[i].format;
    }
    result = PQexecPrepared(link->pg, name, (int) count, texts, lengths, formats, 0);
    free(arguments);
    free(texts);
    free(lengths);
    return result;
}

static bool reads_only(const char *sql) { return strncmp(sql, "SELECT", 6) == 0; }

static PGresult *execute(struct link *link, const char *sql, const struct db_value *values,
                         size_t count, struct im_err *err) {
    PGresult *result;
    char name[16];

    if (!prepare(link, sql, name, err))
        return NULL;
    result = execute_prepared(link, name, values, count);
    if (PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK)
        return result;
    pg_fail(link, result, !link->open && !reads_only(sql), err);
    PQclear(result);
    return NULL;
}

/* A statement on its own is a transaction too, and meets conflicts that the caller, who sees one
 * statement, does not expect: it is run again here. */
static void *link_query(void *arg, const char *sql, const struct db_value *values, size_t count,
                        struct im_err *err) {
    struct link *link = arg;
    PGresult *rows = execute(link, sql, values, count, err);
    struct result *result;

    for (int try = 1; rows == NULL && err->code == IM_BUSY && !link->open && try < TRIES &&
                      PQstatus(link->pg) == CONNECTION_OK;
         try++) {
        im_sleep_ms(try * 5);
        *err = (struct im_err){0};
        rows = execute(link, sql, values, count, err);
    }
    if (rows == NULL)
        return NULL;
    result = im_alloc(sizeof(*result));
    result->rows = rows;
    result->row = -1;
    return result;
}

static bool result_next(void *arg, bool *ret_more, struct im_err *err) {
    struct result *result = arg;

    (void) err;
    *ret_more = ++result->row < PQntuples(result->rows);
    return true;
}

static int64_t result_changed(void *result) {
    return strtoll(PQcmdTuples(((struct result *) result)->rows), NULL, 10);
}

static const char *result_text(void *arg, int column) {
    struct result *result = arg;

    return PQgetisnull(result->rows, result->row, column)
               ? NULL
               : PQgetvalue(result->rows, result->row, column);
}

static int64_t result_integer(void *result, int column) {
    const char *text = result_text(result, column);

    return text ? strtoll(text, NULL, 10) : 0;
}

static const void *result_blob(void *arg, int column, size_t *ret_len) {
    struct result *result = arg;
    const char *text = result_text(arg, column);

    PQfreemem(result->blob);
    *ret_len = 0;
    result->blob = text ? PQunescapeBytea((const unsigned char *) text, ret_len) : NULL;
    return result->blob;
}

static void result_free(void *arg) {
    struct result *result = arg;

    PQfreemem(result->blob);
    PQclear(result->rows);
    free(result);
}

const struct db_driver db_pgsql = {.name = "postgresql",
                                   .open = server_open,
                                   .close = server_close,
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
                                   .lock_schema = link_lock_schema};
