/* SPDX-License-Identifier: Apache-2.0 */
/* The record in PostgreSQL: libpq, what writes is SERIALIZABLE, statements prepared once per
 * connection, commits that can be asked after. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/str.h"
#include "pgsql-private.h"

enum {
    STATEMENTS_KEPT = 128,
    TRIES = 10,
    ASK_MS = 30000, /* for the server to come back and tell of a commit */
    MARKS_KEPT_S = 3600,
    SWEEP_EVERY = 4096 /* commits */
};

struct statement {
    char *sql;
    size_t len;
    unsigned number; /* its name on the server is s<number> */
};

struct link {
    struct server *server;
    PGconn *pg;
    bool open;  /* in a transaction */
    bool wrote; /* which has more than SELECTs in it */
    bool light; /* which need not be durable when it is committed */
    struct statement kept[STATEMENTS_KEPT];
    size_t next; /* the one to be replaced next */
    unsigned last_number;
};

struct result {
    PGresult *rows;
    int row;
    unsigned char *blob; /* the last one that was decoded */
};

/* --- Links ----------------------------------------------------------------------------------- */

static void link_close(void *arg) {
    struct link *link = arg;

    for (size_t i = 0; i < STATEMENTS_KEPT; i++)
        free(link->kept[i].sql);
    PQfinish(link->pg);
    free(link);
}

static void *link_open(void *shared, struct im_err *err) {
    struct server *server = shared;
    PGconn *pg = pg_claim_keep(server, err) ? pg_dial(server, "imprintd", err) : NULL;
    struct link *link;

    if (pg == NULL)
        return NULL;
    link = im_alloc(sizeof(*link));
    link->server = server;
    link->pg = pg;
    return link;
}

static bool link_alive(void *arg) {
    struct link *link = arg;

    return pg_quiet(link->pg) && pg_claim_holds(link->server);
}

/* --- Transactions ----------------------------------------------------------------------------- */

static void link_rollback(void *arg) {
    struct link *link = arg;

    link->open = false;
    if (PQtransactionStatus(link->pg) != PQTRANS_IDLE)
        PQclear(PQexec(link->pg, "ROLLBACK"));
}

static bool link_begin(void *arg, bool write, struct im_err *err) {
    struct link *link = arg;

    link->wrote = false;
    link->open = pg_run(link->pg,
                        write ? "BEGIN ISOLATION LEVEL SERIALIZABLE"
                              : "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                        err);
    if (!link->open || !write || !link->light ||
        pg_run(link->pg, "SET LOCAL synchronous_commit = off", err))
        return link->open;
    link_rollback(link);
    return false;
}

static void link_lightly(void *arg, bool on) {
    struct link *link = arg;

    link->light = on;
}

/* Whoever writes the mark second meets the first: if the old session is still at its COMMIT, the
 * insert waits for its end; if it has not begun, our mark makes it fail. So the answer is final. */
static bool ask_after(const struct server *server, const char *mark, bool *ret_committed,
                      struct im_err *err) {
    IM_AUTO(free_auto)
    char *put = im_printf("INSERT INTO commits (commit_id, void, commit_time)"
                          " VALUES ('%s', 1, %" PRId64 ") ON CONFLICT DO NOTHING",
                          mark, im_now_s());
    IM_AUTO(free_auto)
    char *get = im_printf("SELECT void FROM commits WHERE commit_id = '%s'", mark);
    IM_AUTO(free_auto) char *answer = NULL;
    PGconn *pg = pg_dial(server, "imprintd", err);

    if (pg != NULL && pg_run(pg, put, err))
        answer = pg_value(pg, get, err);
    PQfinish(pg);
    if (answer != NULL)
        *ret_committed = *answer == '0';
    return answer != NULL;
}

/* The answer to COMMIT was lost: a server that is back tells how it went. */
static bool resolve(const struct link *link, const char *mark, struct im_err *err) {
    int64_t until = im_mono_ms() + ASK_MS;
    bool committed = false;

    for (int64_t pause_ms = 10; im_mono_ms() < until;
         pause_ms = pause_ms < 500 ? pause_ms * 2 : 500) {
        struct im_err ignored = {0};

        if (ask_after(link->server, mark, &committed, &ignored))
            return committed ||
                   im_fail(err, IM_NO_RECORD, "record: PostgreSQL was lost before a commit");
        im_sleep_ms(pause_ms);
    }
    return im_fail(err, IM_UNKNOWN_COMMIT,
                   "record: PostgreSQL was lost while committing, and does not come back to tell "
                   "how that went; see that it runs");
}

/* The table of marks comes with a migration; those before it read the schema again instead. */
static bool has_marks(struct link *link) {
    struct im_err ignored = {0};

    if (!__atomic_load_n(&link->server->marks, __ATOMIC_RELAXED)) {
        IM_AUTO(free_auto)
        char *found = pg_value(link->pg, "SELECT to_regclass('commits')", &ignored);

        if (found != NULL)
            __atomic_store_n(&link->server->marks, true, __ATOMIC_RELAXED);
    }
    return __atomic_load_n(&link->server->marks, __ATOMIC_RELAXED);
}

/* Now and then old marks go; not SERIALIZABLE, as that would be in everybody's way. */
static void sweep_marks(struct link *link) {
    IM_AUTO(free_auto)
    char *sql = im_printf("BEGIN ISOLATION LEVEL READ COMMITTED;"
                          "DELETE FROM commits WHERE commit_time < %" PRId64 "; COMMIT",
                          im_now_s() - MARKS_KEPT_S);
    struct im_err ignored = {0};

    if (__atomic_fetch_add(&link->server->commits, 1, __ATOMIC_RELAXED) % SWEEP_EVERY == 0 &&
        !pg_run(link->pg, sql, &ignored))
        link_rollback(link);
}

/* COMMIT, and the mark in the same message: it costs no round trip. The answer to COMMIT may be
 * ROLLBACK: an earlier statement failed, and the caller went on. */
static bool commit(struct link *link, const char *mark, struct im_err *err) {
    IM_AUTO(free_auto)
    char *sql = mark ? im_printf("INSERT INTO commits (commit_id, void, commit_time)"
                                 " VALUES ('%s', 0, %" PRId64 "); COMMIT",
                                 mark, im_now_s())
                     : im_strdup("COMMIT");
    PGresult *result = PQexec(link->pg, sql);
    bool fine = true;

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fine = pg_fail(link->pg, result, err);
    else if (strcmp(PQcmdStatus(result), "COMMIT") != 0)
        fine = im_fail(err, IM_INTERNAL, "record: the transaction was rolled back");
    PQclear(result);
    return fine;
}

static bool link_commit(void *arg, struct im_err *err) {
    struct link *link = arg;
    bool marked = link->wrote && has_marks(link);
    char mark[IM_ID_MAX];

    link->open = false;
    im_id_make(mark, "c-", 24);
    if (commit(link, marked ? mark : NULL, err)) {
        if (marked)
            sweep_marks(link);
        return true;
    }
    if (PQstatus(link->pg) == CONNECTION_OK && err->code != IM_UNKNOWN_COMMIT)
        return false;
    *err = (struct im_err){0};
    if (marked)
        return resolve(link, mark, err);
    return im_fail(err, link->wrote ? IM_UNKNOWN_COMMIT : IM_NO_RECORD,
                   "record: PostgreSQL was lost at the end of a transaction");
}

static bool link_script(void *arg, const char *sql, struct im_err *err) {
    struct link *link = arg;

    link->wrote = true;
    return pg_run(link->pg, sql, err);
}

static bool link_lock_schema(void *arg, bool on, struct im_err *err) {
    struct link *link = arg;
    char sql[64];

    snprintf(sql, sizeof(sql), "SELECT pg_advisory_%slock(%d)", on ? "" : "un", SCHEMA_LOCK);
    return pg_run(link->pg, sql, err);
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
    struct statement *place = NULL;
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
    *ret_name = '\0'; /* the one without a name lives until the next one */
    if (len < DB_KEPT_MAX) {
        place = place_for(link);
        name_of(++link->last_number, ret_name);
    }
    result = PQprepare(link->pg, ret_name, sql, 0, NULL);
    fine = PQresultStatus(result) == PGRES_COMMAND_OK || pg_fail(link->pg, result, err);
    PQclear(result);
    if (fine && place != NULL)
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
    link->wrote = link->wrote || !reads_only(sql);
    result = execute_prepared(link, name, values, count);
    if (PQresultStatus(result) == PGRES_COMMAND_OK || PQresultStatus(result) == PGRES_TUPLES_OK)
        return result;
    pg_fail(link->pg, result, err);
    PQclear(result);
    return NULL;
}

/* A statement that writes outside a transaction gets one, so that its commit has a mark too. */
static PGresult *execute_alone(struct link *link, const char *sql, const struct db_value *values,
                               size_t count, struct im_err *err) {
    PGresult *rows;

    if (reads_only(sql))
        return execute(link, sql, values, count, err);
    if (!link_begin(link, true, err))
        return NULL;
    rows = execute(link, sql, values, count, err);
    if (rows != NULL && link_commit(link, err))
        return rows;
    PQclear(rows);
    link_rollback(link);
    return NULL;
}

/* A statement on its own is a transaction too, and meets conflicts that the caller, who sees one
 * statement, does not expect: it is run again here. */
static void *link_query(void *arg, const char *sql, const struct db_value *values, size_t count,
                        struct im_err *err) {
    struct link *link = arg;
    PGresult *rows = link->open ? execute(link, sql, values, count, err)
                                : execute_alone(link, sql, values, count, err);
    struct result *result;

    for (int try = 1; rows == NULL && err->code == IM_BUSY && !link->open && try < TRIES &&
                      PQstatus(link->pg) == CONNECTION_OK;
         try++) {
        im_sleep_ms(try * 5);
        *err = (struct im_err){0};
        rows = execute_alone(link, sql, values, count, err);
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
                                   .open = pg_server_open,
                                   .close = pg_server_close,
                                   .connect = link_open,
                                   .disconnect = link_close,
                                   .alive = link_alive,
                                   .begin = link_begin,
                                   .commit = link_commit,
                                   .rollback = link_rollback,
                                   .lightly = link_lightly,
                                   .query = link_query,
                                   .next = result_next,
                                   .changed = result_changed,
                                   .text = result_text,
                                   .integer = result_integer,
                                   .blob = result_blob,
                                   .free = result_free,
                                   .script = link_script,
                                   .lock_schema = link_lock_schema,
                                   .claim = pg_server_claim};
