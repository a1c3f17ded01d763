/* SPDX-License-Identifier: Apache-2.0 */
/* The record in a SQLite file: WAL, synchronous=FULL, statements prepared once per connection. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "db-private.h"

enum { STATEMENTS_KEPT = 128, BUSY_MS = 30000, INDEX_REGION = 32768, INDEX_WORDS = 12 };

struct link;

struct file {
    char *path;
    struct stat identity; /* of the file when it was opened */
    int claim_fd;         /* see file_claim; -1: none */
    /* Writers of this program queue here: SQLite's own way is to sleep and look again. Held from
     * BEGIN to COMMIT, or while an autocommitted statement runs. */
    pthread_mutex_t writer;
    struct link *first;             /* open as long as we are, so that `index` stays mapped */
    const volatile uint32_t *index; /* the header of the WAL index, see file_generation */
};

struct statement {
    char *sql;
    size_t len;
    sqlite3_stmt *stmt;
    bool busy; /* a result is being read */
};

struct link {
    struct file *file;
    sqlite3 *db;
    bool open;    /* BEGIN was said, and neither COMMIT nor ROLLBACK yet */
    bool writing; /* we hold file->writer */
    struct statement kept[STATEMENTS_KEPT];
    size_t next; /* the one to be replaced next */
};

struct result {
    struct link *link;
    sqlite3_stmt *stmt;
    struct statement *kept; /* NULL: the statement is ours alone */
    int64_t changed;
    int64_t before; /* total changes when it began */
    bool writing;   /* it took file->writer for itself */
};

/* What an operator should do about a record that is the trouble itself. */
static const struct {
    int code;
    const char *what, *next;
} troubles[] = {
    {SQLITE_FULL, "has no room left", "make room on its disk"},
    {SQLITE_IOERR, "cannot be read or written", "look at its disk"},
    {SQLITE_READONLY, "is read-only", "let imprintd's user write to it and its folder"},
    {SQLITE_PERM, "is not ours", "let imprintd's user write to it and its folder"},
    {SQLITE_CANTOPEN, "cannot be opened", "see that it and its folder are there and writable"},
    {SQLITE_CORRUPT, "is damaged", "stop imprintd and bring back a copy"},
    {SQLITE_NOTADB, "is no SQLite database",
     "let uri in [record] name another, or bring back a copy"},
};

static bool trouble_fail(sqlite3 *db, int code, struct im_err *err) {
    const char *path = sqlite3_db_filename(db, "main");
    int sys = sqlite3_system_errno(db);

    if (code == SQLITE_IOERR && (sys == ENOSPC || sys == EDQUOT))
        code = SQLITE_FULL;
    for (size_t i = 0; i < sizeof(troubles) / sizeof(troubles[0]); i++)
        if (troubles[i].code == code)
            return im_fail(
                err, IM_NO_RECORD, "record: %s %s (%s); %s", path ? path : "it", troubles[i].what,
                code == SQLITE_IOERR && sys != 0 ? strerrordesc_np(sys) : sqlite3_errmsg(db),
                troubles[i].next);
    return true;
}

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
    default:
        return (db == NULL || trouble_fail(db, code & 0xff, err)) &&
               im_fail(err, IM_INTERNAL, "record: cannot %s: %s", what, text);
    }
}

/* --- Opening ---------------------------------------------------------------------------------- */

static void link_close(void *arg) {
    struct link *link = arg;

    if (link == NULL)
        return;
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

    link->file = file;
    if (sqlite3_open_v2(file->path, &link->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
            SQLITE_OK ||
        sqlite3_busy_timeout(link->db, BUSY_MS) != SQLITE_OK ||
        sqlite3_exec(link->db,
                     "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
                     "PRAGMA cache_size=-1024; PRAGMA temp_store=MEMORY;"
                     "PRAGMA journal_size_limit=16777216; SELECT COUNT(*) FROM sqlite_master",
                     NULL, NULL, NULL) != SQLITE_OK) {
        sql_fail(link->db, "open it", err);
        link_close(link);
        return NULL;
    }
    return link;
}

/* Made by us, as SQLite would take the umask's word for who may read it. Only if it is new:
 * closing a descriptor of a file that SQLite has open would drop the locks it holds on it. */
static bool make_file(const char *path, struct im_err *err) {
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd >= 0)
        close(fd);
    return fd >= 0 || errno == EEXIST ||
           im_fail(err, IM_NO_RECORD,
                   "record: %s cannot be made (%s); see that its folder is there "
                   "and writable",
                   path, strerrordesc_np(errno));
}

/* Where SQLite has the WAL index mapped; asked through its own interface for file systems. */
static const volatile uint32_t *map_index(sqlite3 *db) {
    sqlite3_file *handle = NULL;
    void volatile *region = NULL;

    if (sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &handle) != SQLITE_OK ||
        handle == NULL || handle->pMethods == NULL || handle->pMethods->iVersion < 2 ||
        handle->pMethods->xShmMap(handle, 0, INDEX_REGION, 0, &region) != SQLITE_OK)
        return NULL;
    return region;
}

static void file_close(void *shared) {
    struct file *file = shared;

    link_close(file->first);
    if (file->claim_fd >= 0)
        close(file->claim_fd);
    pthread_mutex_destroy(&file->writer);
    free(file->path);
    free(file);
}

static bool identify(const struct file *file, struct stat *ret_st, struct im_err *err) {
    return stat(file->path, ret_st) == 0 ||
           im_fail(err, IM_NO_RECORD, "record: %s is gone (%s); stop imprintd and bring it back",
                   file->path, strerrordesc_np(errno));
}

/* A file that was removed or replaced can still be written to: into nothing. */
static bool still_there(const struct file *file, struct im_err *err) {
    struct stat st;

    if (!identify(file, &st, err))
        return false;
    return (st.st_dev == file->identity.st_dev && st.st_ino == file->identity.st_ino) ||
           im_fail(err, IM_NO_RECORD,
                   "record: %s was replaced while it is in use; start imprintd again", file->path);
}

/* A lock on a file beside: it ends with the process, and never meets SQLite's own. */
static bool file_claim(void *shared, const char *name, struct im_err *err) {
    struct file *file = shared;
    IM_AUTO(free_auto) char *path = im_printf("%s-claim", file->path);
    char holder[128] = "";
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return im_fail(err, IM_NO_RECORD,
                       "record: %s cannot be opened (%s); let imprintd's user write to its folder",
                       path, strerrordesc_np(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        ssize_t len = pread(fd, holder, sizeof(holder) - 1, 0);

        close(fd);
        return im_fail(err, IM_BUSY,
                       "record: another program (%s) serves from %s; stop it, or let uri in "
                       "[record] name another file",
                       len > 0 ? holder : "unknown", file->path);
    }
    if (ftruncate(fd, 0) == 0 && pwrite(fd, name, strlen(name), 0) < 0)
        (void) ftruncate(fd, 0); /* only who asks for our name misses it */
    file->claim_fd = fd;
    return true;
}

/* Counting memory takes a lock that all threads share; before the first use of the library. */
static void configure(void) { (void) sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0); }

static void *file_open(const char *address, struct im_err *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct file *file;

    if (*address == '\0') {
        im_fail(err, IM_BAD_MESSAGE, "record: the URI sqlite: names no file");
        return NULL;
    }
    (void) pthread_once(&once, configure);
    if (!make_file(address, err))
        return NULL;
    file = im_alloc(sizeof(*file));
    file->path = im_strdup(address);
    file->claim_fd = -1;
    pthread_mutex_init(&file->writer, NULL);
    file->first = link_open(file, err);
    if (file->first == NULL || !identify(file, &file->identity, err)) {
        file_close(file);
        return NULL;
    }
    file->index = map_index(file->first->db);
    return file;
}

/* The header of the WAL index changes at the very moment at which a commit becomes visible, be it
 * ours or another program's: 12 words, with a counter of commits, the end of the log and a
 * checksum. Torn by a write at the same time it is a number that never comes again. */
static uint64_t file_generation(void *shared) {
    const struct file *file = shared;
    uint64_t hash = 14695981039346656037u;

    if (file->index == NULL)
        return 0;
    for (int i = 0; i < INDEX_WORDS; i++)
        hash = (hash ^ __atomic_load_n(&file->index[i], __ATOMIC_ACQUIRE)) * 1099511628211u;
    return hash != 0 ? hash : 1;
}

/* --- Transactions ----------------------------------------------------------------------------- */

static bool writer_take(struct link *link, struct im_err *err) {
    struct timespec until;

    if (!still_there(link->file, err))
        return false;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += BUSY_MS / 1000;
    if (pthread_mutex_clocklock(&link->file->writer, CLOCK_MONOTONIC, &until) != 0)
        return im_fail(err, IM_BUSY, "record: other writers hold it for too long");
    link->writing = true;
    return true;
}

static void writer_give(struct link *link) {
    if (link->writing)
        pthread_mutex_unlock(&link->file->writer);
    link->writing = false;
}

static bool link_alive(void *link) {
    (void) link;
    return true;
}

static bool run(struct link *link, const char *sql, const char *what, struct im_err *err) {
    return sqlite3_exec(link->db, sql, NULL, NULL, NULL) == SQLITE_OK ||
           sql_fail(link->db, what, err);
}

static bool link_begin(void *arg, bool write, struct im_err *err) {
    struct link *link = arg;

    if (write && !writer_take(link, err))
        return false;
    if (!run(link, write ? "BEGIN IMMEDIATE" : "BEGIN", "begin", err)) {
        writer_give(link);
        return false;
    }
    link->open = true;
    return true;
}

/* Refused within transactions only. */
static void link_lightly(void *arg, bool on) {
    struct link *link = arg;
    if (sqlite3_exec(link->db, on ? "PRAGMA synchronous=NORMAL" : "PRAGMA synchronous=FULL", NULL,
                     NULL, NULL) == SQLITE_OK ||
        on)
        return;
    fputs("SQLite does not go back to synchronous=FULL\n", stderr);
    abort(); /* what is committed after this would not be durable */
}

static void link_rollback(void *arg) {
    struct link *link = arg;

    if (!sqlite3_get_autocommit(link->db))
        sqlite3_exec(link->db, "ROLLBACK", NULL, NULL, NULL);
    link->open = false;
    writer_give(link);
}

/* After a full disk SQLite has rolled back by itself: what follows must not be taken for part of
 * the transaction, nor be committed on its own. */
static bool still_open(const struct link *link, struct im_err *err) {
    return !link->open || !sqlite3_get_autocommit(link->db) ||
           im_fail(err, IM_INTERNAL, "record: the transaction was rolled back");
}

static bool link_commit(void *arg, struct im_err *err) {
    struct link *link = arg;

    if (!still_open(link, err) || !run(link, "COMMIT", "commit", err))
        return false;
    link->open = false;
    writer_give(link);
    return true;
}

static bool link_script(void *link, const char *sql, struct im_err *err) {
    return run(link, sql, "migrate", err);
}

/* --- Statements ------------------------------------------------------------------------------- */

/* $N is but a name to SQLite, found by a search; ?N is the number. Texts in quotes stay. */
static char *numbered(const char *sql) {
    char *own = im_strdup(sql);
    bool quoted = false;

    for (char *p = own; *p != '\0'; p++) {
        if (*p == '\'')
            quoted = !quoted;
        else if (*p == '$' && !quoted)
            *p = '?';
    }
    return own;
}

/* A kept statement of this text that is free, else a new one, kept if there is a place. */
static bool prepare(struct link *link, const char *sql, struct result *result, struct im_err *err) {
    struct statement *place = NULL;
    IM_AUTO(free_auto) char *own = NULL;
    size_t len = strlen(sql);

    for (size_t i = 0; i < STATEMENTS_KEPT; i++) {
        struct statement *kept = &link->kept[i];

        if (kept->len == len && kept->sql != NULL && !kept->busy &&
            memcmp(kept->sql, sql, len) == 0) {
            kept->busy = true;
            result->kept = kept;
            result->stmt = kept->stmt;
            return true;
        }
    }
    own = numbered(sql);
    if (sqlite3_prepare_v3(link->db, own, -1, SQLITE_PREPARE_PERSISTENT, &result->stmt, NULL) !=
        SQLITE_OK)
        return sql_fail(link->db, "prepare a statement", err);
    for (size_t tries = 0; len < DB_KEPT_MAX && tries < STATEMENTS_KEPT && place == NULL; tries++) {
        struct statement *kept = &link->kept[link->next++ % STATEMENTS_KEPT];

        if (!kept->busy)
            place = kept;
    }
    if (place != NULL) {
        sqlite3_finalize(place->stmt);
        im_replace(&place->sql, sql);
        place->len = len;
        place->stmt = result->stmt;
        place->busy = true;
        result->kept = place;
    }
    return true;
}

static bool bind(struct result *result, const struct db_value *values, size_t count,
                 struct im_err *err) {
    int wanted = sqlite3_bind_parameter_count(result->stmt);

    for (int place = 1; place <= wanted; place++) {
        const struct db_value *value = &values[place - 1];
        int rc;

        if ((size_t) place > count)
            return im_fail(err, IM_INTERNAL, "record: no value for parameter $%d", place);
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
    struct link *link = result->link;

    if (result->kept != NULL) {
        sqlite3_reset(result->stmt);
        sqlite3_clear_bindings(result->stmt);
        result->kept->busy = false;
    } else {
        sqlite3_finalize(result->stmt);
    }
    if (result->writing)
        writer_give(link);
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
    if (still_open(link, err) && bind(result, values, count, err)) {
        if (link->writing || sqlite3_stmt_readonly(result->stmt))
            return result;
        /* Autocommitted, or the first write of a transaction that began as a reader. */
        result->writing = writer_take(link, err);
        if (result->writing)
            return result;
    }
    result_free(result);
    return NULL;
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
                                    .lightly = link_lightly,
                                    .query = link_query,
                                    .next = result_next,
                                    .changed = result_changed,
                                    .text = result_text,
                                    .integer = result_integer,
                                    .blob = result_blob,
                                    .free = result_free,
                                    .script = link_script,
                                    .claim = file_claim,
                                    .generation = file_generation};
