/* SPDX-License-Identifier: Apache-2.0 */
/* The PostgreSQL server: connecting, the claim, and what its failures mean. The URI may hold a
 * password: no sentence is made from it. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "pgsql-private.h"

enum { CLAIM_WAIT_MS = 5000 }; /* for the server to see that a killed imprintd is gone */

/* --- Errors ----------------------------------------------------------------------------------- */

/* SQLSTATEs that mean more than "internal"; a short one is the class of all that begin so. */
static const struct {
    const char *state;
    enum im_code code;
    const char *next; /* what the operator should do */
} states[] = {
    {"40003", IM_UNKNOWN_COMMIT, ""},
    {"40", IM_BUSY, ""},    /* serialisation failure, deadlock */
    {"55P03", IM_BUSY, ""}, /* lock_timeout */
    {"57P", IM_BUSY, ""},   /* the server shuts down, crashed, or starts up */
    {"23505", IM_EXISTS, ""},
    {"53100", IM_NO_RECORD, "; make room on the disk of PostgreSQL"},
    {"53", IM_NO_RECORD, "; PostgreSQL needs more of it, see its configuration"},
    {"25006", IM_NO_RECORD, "; uri in [record] should name a server that is no stand-by"},
    {"42501", IM_NO_RECORD, "; the user of [record] uri should own the database"},
    {"58", IM_NO_RECORD, "; look at the disk and the log of PostgreSQL"},
    {"XX", IM_NO_RECORD, "; look at the disk and the log of PostgreSQL"},
};

/* One line of what libpq says. */
static const char *first_line(const char *text, char out[300]) {
    snprintf(out, 300, "%.*s", (int) strcspn(text, "\n"), text);
    return out;
}

bool pg_fail(const PGconn *pg, const PGresult *result, struct im_err *err) {
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *text = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    char line[300];

    first_line(text ? text : PQerrorMessage(pg), line);
    if (PQstatus(pg) != CONNECTION_OK)
        return im_fail(err, IM_NO_RECORD, "record: the connection to PostgreSQL was lost: %s",
                       line);
    for (size_t i = 0; state != NULL && i < sizeof(states) / sizeof(states[0]); i++)
        if (im_starts_with(state, states[i].state))
            return im_fail(err, states[i].code, "record: %s%s", line, states[i].next);
    return im_fail(err, IM_INTERNAL, "record: %s%s%s%s", line, state ? " (SQLSTATE " : "",
                   state ? state : "", state ? ")" : "");
}

/* --- Connections ------------------------------------------------------------------------------ */

void *pg_server_open(const char *address, struct im_err *err) {
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
    pthread_mutex_init(&server->lock, NULL);
    return server;
}

void pg_server_close(void *shared) {
    struct server *server = shared;

    PQfinish(server->claim);
    free(server->name);
    free(server->info);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

static void be_quiet(void *arg, const PGresult *notice) { (void) arg, (void) notice; }

bool pg_run(PGconn *pg, const char *sql, struct im_err *err) {
    PGresult *result = PQexec(pg, sql);
    ExecStatusType status = PQresultStatus(result);
    bool fine = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || pg_fail(pg, result, err);

    PQclear(result);
    return fine;
}

char *pg_value(PGconn *pg, const char *sql, struct im_err *err) {
    PGresult *result = PQexec(pg, sql);
    char *value = NULL;

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        pg_fail(pg, result, err);
    else if (PQntuples(result) > 0 && !PQgetisnull(result, 0, 0))
        value = im_strdup(PQgetvalue(result, 0, 0));
    PQclear(result);
    return value;
}

/* Transactions say themselves that they are SERIALIZABLE; a SELECT alone needs no more than its own
 * moment. Both ends notice within half a minute that the other is gone: what it holds is needed.
 * Durable means durable, should the server's own default be another. */
static const char session[] =
    "SET default_transaction_isolation = 'read committed'; SET lock_timeout = '30s';"
    "SET idle_in_transaction_session_timeout = '120s'; SET standard_conforming_strings = on;"
    "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;"
    "SELECT set_config('synchronous_commit', 'on', false)"
    " WHERE current_setting('synchronous_commit') = 'off'";

PGconn *pg_dial(const struct server *server, const char *name, struct im_err *err) {
    /* What stands before dbname is a default, what stands behind it overrules. */
    static const char *const names[] = {
        "connect_timeout", "tcp_user_timeout", "keepalives_idle",           "gssencmode",
        "dbname",          "client_encoding",  "fallback_application_name", NULL};
    const char *const values[] = {"10", "30000", "15", "disable", server->info, "UTF8", name, NULL};
    PGconn *pg = PQconnectdbParams(names, values, 1);
    char line[300];

    if (PQstatus(pg) != CONNECTION_OK) {
        im_fail(err, IM_NO_RECORD,
                "record: cannot connect to PostgreSQL: %s; see that it runs and lets us in, and "
                "that uri in [record] is right",
                first_line(PQerrorMessage(pg), line));
        PQfinish(pg);
        return NULL;
    }
    PQsetNoticeReceiver(pg, be_quiet, NULL);
    if (!pg_run(pg, session, err)) {
        PQfinish(pg);
        return NULL;
    }
    return pg;
}

/* An idle connection has nothing to say; when it does, it most likely says that it ends. */
bool pg_quiet(const PGconn *pg) {
    struct pollfd fd = {PQsocket(pg), POLLIN, 0};

    return PQstatus(pg) == CONNECTION_OK && fd.fd >= 0 && poll(&fd, 1, 0) == 0;
}

/* --- The claim: a lock that belongs to a session of its own, so that it ends with us ---------- */

static bool claim_failed(PGconn *pg, struct im_err *err) {
    static const char ask[] =
        "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.granted AND l.objid = %d AND l.database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())";
    IM_AUTO(free_auto) char *sql = im_printf(ask, CLAIM_LOCK);
    struct im_err ignored = {0};
    IM_AUTO(free_auto) char *holder = pg_value(pg, sql, &ignored);

    return im_fail(err, IM_BUSY,
                   "record: another program (%s) serves from this database; stop it, or let uri in "
                   "[record] name another database",
                   holder ? holder : "unknown");
}

/* Under the lock. */
static bool claim_take(struct server *server, int64_t wait_ms, struct im_err *err) {
    IM_AUTO(free_auto) char *sql = im_printf("SELECT pg_try_advisory_lock(%d)", CLAIM_LOCK);
    int64_t until = im_mono_ms() + wait_ms;
    PGconn *pg = pg_dial(server, server->name, err);

    for (; pg != NULL; im_sleep_ms(100)) {
        IM_AUTO(free_auto) char *got = pg_value(pg, sql, err);

        if (got != NULL && *got == 't') {
            server->claim = pg;
            return true;
        }
        if (got == NULL || im_mono_ms() >= until)
            break;
    }
    if (pg != NULL && err->code == IM_OK)
        claim_failed(pg, err);
    PQfinish(pg);
    return false;
}

bool pg_claim_holds(struct server *server) {
    bool holds;

    pthread_mutex_lock(&server->lock);
    holds = server->name == NULL || (server->claim != NULL && pg_quiet(server->claim));
    pthread_mutex_unlock(&server->lock);
    return holds;
}

static bool claim_regain(struct server *server, int64_t wait_ms, struct im_err *err) {
    bool kept = true;

    pthread_mutex_lock(&server->lock);
    if (server->name != NULL && (server->claim == NULL || !pg_quiet(server->claim))) {
        PQfinish(server->claim);
        server->claim = NULL;
        kept = claim_take(server, wait_ms, err);
    }
    pthread_mutex_unlock(&server->lock);
    return kept;
}

/* A server that was away has let the lock go: nobody writes before it is ours again. */
bool pg_claim_keep(struct server *server, struct im_err *err) {
    return claim_regain(server, 0, err);
}

bool pg_server_claim(void *shared, const char *name, struct im_err *err) {
    struct server *server = shared;

    im_replace(&server->name, name);
    if (claim_regain(server, CLAIM_WAIT_MS, err))
        return true;
    free(im_steal(&server->name));
    return false;
}
