/* SPDX-License-Identifier: Apache-2.0 */
/* The contract of the record, over each driver that is there. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "base/str.h"
#include "db/db.h"
#include "db/fault.h"
#include "harness/postgres.h"
#include "harness/proxy.h"
#include "harness/test.h"

static bool postgres; /* which driver the suite runs over now */
static char *uri;

/* An empty record over the driver under test. */
static struct db *open_fresh(const char *name) {
    struct im_err err = {0};
    struct db *db;

    free(uri);
    uri = postgres ? postgres_database(name) : im_printf("sqlite:%s/%s", test_folder(), name);
    db = uri ? db_open(uri, &err) : NULL;
    if (db == NULL || !db_migrate(db, &err))
        test_note("%s", err.text);
    return db;
}

static int64_t count_of(struct db_conn *conn, const char *sql) {
    struct im_err err = {0};
    IM_AUTO(db_rows_free_auto) struct db_rows *rows = db_query(conn, &err, sql, "");
    bool more = false;

    return rows != NULL && db_next(rows, &more, &err) && more ? db_int(rows, 0) : -1;
}

static bool add_user(struct db_conn *conn, const char *id, struct im_err *err) {
    return db_exec(conn, NULL, err,
                   "INSERT INTO users (user_id, user_name, role, status, create_time)"
                   " VALUES ($1, $1, $2, $3, $4)",
                   "ttti", id, "user", "active", (int64_t) 1);
}

static void test_values(struct db *db) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(db, &err);
    struct db_rows *rows;
    bool more = false;
    size_t len = 0;
    int64_t changed = 7;

    check_ok(db_exec(conn, &changed, &err,
                     postgres ? "CREATE TABLE v (t TEXT, i BIGINT, b BYTEA)"
                              : "CREATE TABLE v (t TEXT, i BIGINT, b BLOB)",
                     ""),
             "a table is made");
    check_ok(db_exec(conn, &changed, &err, "INSERT INTO v (t, i, b) VALUES ($1, $2, $3)", "tib",
                     "测试'; DROP TABLE v", INT64_MIN, "a\0b", (size_t) 3),
             "values of all kinds go in");
    check(changed == 1, "one row changed");
    check_ok(
        db_exec(conn, NULL, &err, "INSERT INTO v (t, i) VALUES ($1, $2)", "ti", NULL, (int64_t) 5),
        "NULL goes in");
    rows = db_query(conn, &err, "SELECT t, i, b FROM v ORDER BY i", "");
    check(rows != NULL && db_next(rows, &more, &err) && more, "the first row comes");
    check(strcmp(db_text(rows, 0), "测试'; DROP TABLE v") == 0 && db_int(rows, 1) == INT64_MIN,
          "text and integer come back");
    check(memcmp(db_blob(rows, 2, &len), "a\0b", 3) == 0 && len == 3, "bytes come back");
    check(db_next(rows, &more, &err) && more && db_is_null(rows, 0), "NULL comes back");
    check(db_next(rows, &more, &err) && !more, "then there are no more");
    db_rows_free(rows);
    check_err(db_exec(conn, NULL, &err, "SELEKT 1", ""), IM_INTERNAL, "bad SQL is an error");
    check_err(db_exec(conn, NULL, &err, "SELECT $2", "t", "x"), IM_INTERNAL,
              "a missing value is an error");
}

static void test_transactions(struct db *db) {
    struct im_err err = {0};
    struct db_conn *conn = db_take(db, &err);
    uint64_t generation = db_generation(db);

    check_ok(db_begin(conn, &err) && add_user(conn, "usr-a", &err), "a row in a transaction");
    db_give(conn);
    conn = db_take(db, &err);
    check(count_of(conn, "SELECT COUNT(*) FROM users") == 0, "giving back rolls back");
    check(db_generation(db) == generation, "and the generation stays");
    check_ok(db_begin(conn, &err) && add_user(conn, "usr-a", &err) && db_commit(conn, &err),
             "a commit");
    check(postgres ? db_generation(db) == 0 : db_generation(db) != generation,
          "raises the generation");
    check_err(add_user(conn, "usr-a", &err), IM_EXISTS, "a key that is taken is IM_EXISTS");
    check(count_of(conn, "SELECT COUNT(*) FROM users") == 1, "the row is there once");
    db_give(conn);
}

static bool increment(struct db_conn *conn, void *arg, struct im_err *err) {
    (void) arg;
    return db_exec(conn, NULL, err, "UPDATE users SET create_time = create_time + 1", "");
}

static void *increments(void *db) {
    struct im_err err = {0};

    for (int i = 0; i < 50; i++)
        if (!db_transact(db, increment, NULL, &err))
            return im_strdup(err.text);
    return NULL;
}

static void *insert_one(void *arg) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(arg, &err);

    return (void *) (uintptr_t) (add_user(conn, "usr-race", &err) ? IM_OK : err.code);
}

/* As durable as asked for; SQLite numbers its levels. */
static bool is_durable(struct db_conn *conn) {
    struct im_err err = {0};
    struct db_rows *rows =
        db_query(conn, &err, postgres ? "SHOW synchronous_commit" : "PRAGMA synchronous", "");
    bool more = false, durable;

    durable = rows != NULL && db_next(rows, &more, &err) && more &&
              (postgres ? strcmp(db_text(rows, 0), "off") != 0 : db_int(rows, 0) == 2);
    db_rows_free(rows);
    return durable;
}

static bool light_body(struct db_conn *conn, void *arg, struct im_err *err) {
    const char *name = arg;

    return add_user(conn, "usr-light", err) &&
           (postgres ? !is_durable(conn) || im_fail(err, IM_INTERNAL, "it would wait for the disk")
                     : true) &&
           (name == NULL || im_fail(err, IM_WRONG_STATE, "%s", name));
}

static void test_light(struct db *db) {
    struct im_err err = {0};
    struct db_conn *conn;

    check_err(db_transact_lightly(db, light_body, "no", &err), IM_WRONG_STATE,
              "a light transaction that fails");
    conn = db_take(db, &err);
    check(count_of(conn, "SELECT COUNT(*) FROM users WHERE user_id = 'usr-light'") == 0,
          "leaves nothing");
    check(is_durable(conn), "and others are durable");
    db_give(conn);
    check_ok(db_transact_lightly(db, light_body, NULL, &err), "one that does not");
    conn = db_take(db, &err);
    check(count_of(conn, "SELECT COUNT(*) FROM users WHERE user_id = 'usr-light'") == 1,
          "is there for all");
    check(is_durable(conn), "and others are durable");
    check_ok(db_exec(conn, NULL, &err, "DELETE FROM users WHERE user_id = 'usr-light'", ""),
             "it goes");
    db_give(conn);
}

/* Two threads want one key. */
static void test_unique_race(struct db *db) {
    int won = 0, refused = 0;

    for (int round = 0; round < 10; round++) {
        struct im_err err = {0};
        IM_AUTO(db_give_auto) struct db_conn *conn = db_take(db, &err);
        pthread_t threads[2];

        for (int i = 0; i < 2; i++)
            pthread_create(&threads[i], NULL, insert_one, db);
        for (int i = 0; i < 2; i++) {
            void *code;

            pthread_join(threads[i], &code);
            won += (uintptr_t) code == IM_OK;
            refused += (uintptr_t) code == IM_EXISTS;
        }
        check_ok(db_exec(conn, NULL, &err, "DELETE FROM users WHERE user_id = 'usr-race'", ""),
                 "round %d", round);
    }
    check(won == 10 && refused == 10, "one wins, the other is told that the key is taken");
}

static bool next_number(struct db_conn *conn, void *arg, struct im_err *err) {
    IM_AUTO(db_rows_free_auto)
    struct db_rows *rows = db_query(conn, err, "SELECT COUNT(*) FROM users", "");
    IM_AUTO(free_auto) char *id = NULL;
    bool more = false;

    if (rows == NULL || !db_next(rows, &more, err))
        return false;
    id = im_printf("%s-%d", (const char *) arg, (int) db_int(rows, 0));
    db_rows_free(im_steal(&rows));
    return add_user(conn, id, err);
}

static void *numbers(void *db) {
    struct im_err err = {0};

    for (int i = 0; i < 10; i++)
        if (!db_transact(db, next_number, "num", &err))
            return im_strdup(err.text);
    return NULL;
}

/* What is read in a write transaction is still true at its commit: no two take the same number. */
static void test_serial(struct db *db) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(db, &err);
    int64_t before = count_of(conn, "SELECT COUNT(*) FROM users");
    pthread_t threads[3];

    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, numbers, db);
    for (int i = 0; i < 3; i++) {
        void *failure = NULL;

        pthread_join(threads[i], &failure);
        check(failure == NULL, "a thread that counts and inserts: %s",
              failure ? (char *) failure : "fine");
        free(failure);
    }
    check(count_of(conn, "SELECT COUNT(*) FROM users") == before + 30, "all numbers differ");
}

/* The same with the order forced: both have read before either writes. */
static void test_skew(struct db *db) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *one = db_take(db, &err);
    IM_AUTO(db_give_auto) struct db_conn *two = db_take(db, &err);

    check(db_begin(one, &err) && db_begin(two, &err) &&
              count_of(one, "SELECT COUNT(*) FROM users") ==
                  count_of(two, "SELECT COUNT(*) FROM users") &&
              add_user(one, "skew-1", &err) && add_user(two, "skew-2", &err),
          "two transactions read and write across: %s", err.text);
    check_ok(db_commit(one, &err), "the first commits");
    check_err(db_commit(two, &err), IM_BUSY, "the second has to begin again");
}

static void test_read_view(struct db *db) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *reader = db_take(db, &err);
    IM_AUTO(db_give_auto) struct db_conn *writer = db_take(db, &err);
    int64_t before = 0;

    check_ok(db_begin_read(reader, &err), "a reader begins");
    before = count_of(reader, "SELECT COUNT(*) FROM users");
    check_ok(add_user(writer, "usr-view", &err), "a writer does not wait for it");
    check(count_of(reader, "SELECT COUNT(*) FROM users") == before, "the reader's moment stays");
    check_ok(db_commit(reader, &err), "it ends");
    check(count_of(reader, "SELECT COUNT(*) FROM users") == before + 1, "then it sees the row");
}

static void test_race(struct db *db) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(db, &err);
    pthread_t threads[4];
    bool fine = true;

    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, increments, db);
    for (int i = 0; i < 4; i++) {
        void *failure = NULL;

        pthread_join(threads[i], &failure);
        if (failure != NULL)
            test_note("%s", (char *) failure);
        fine = fine && failure == NULL;
        free(failure);
    }
    check(fine, "four writers finish");
    check(count_of(conn, "SELECT create_time FROM users") == 201, "and no increment is lost");
}

/* A child writes pairs of rows until it is killed; what is there afterwards must be whole pairs. */
static void test_kill(void) {
    struct db *db = open_fresh("kill");
    struct db_conn *conn;
    struct im_err err = {0};

    for (int round = 0; round < 5; round++) {
        pid_t pid = fork();

        if (pid == 0) {
            struct db *own = db_open(uri, &err);
            struct db_conn *link = own ? db_take(own, &err) : NULL;

            if (link == NULL)
                _exit(1);
            for (int i = 0;; i++) {
                char id[32];

                snprintf(id, sizeof(id), "a-%d-%d", round, i);
                if (!db_begin(link, &err) || !add_user(link, id, &err))
                    _exit(1);
                id[0] = 'b';
                if (!add_user(link, id, &err) || !db_commit(link, &err))
                    _exit(1);
            }
        }
        usleep(100000);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    conn = db_take(db, &err);
    check(count_of(conn, "SELECT COUNT(*) FROM users") > 0, "killed writers left rows");
    /* In one look: a server may still be committing for a client that is dead. */
    check(count_of(conn, "SELECT SUM(CASE WHEN user_id LIKE 'a%' THEN 1 ELSE -1 END) FROM users") ==
              0,
          "and only whole transactions");
    db_give(conn);
    db_close(db);
}

static void *migrate(void *arg) {
    struct im_err err = {0};
    struct db *db = db_open(uri, &err);
    bool fine = db != NULL && db_migrate(db, &err);

    (void) arg;
    db_close(db);
    return fine ? NULL : im_strdup(err.text);
}

/* A new record is met by three programs at once. */
static void test_migrate_race(void) {
    pthread_t threads[3];

    free(uri);
    uri = postgres ? postgres_database("together") : im_printf("sqlite:%s/together", test_folder());
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, migrate, NULL);
    for (int i = 0; i < 3; i++) {
        void *failure = NULL;

        pthread_join(threads[i], &failure);
        check(failure == NULL, "a program migrates among others: %s",
              failure ? (char *) failure : "fine");
        free(failure);
    }
}

static bool look(struct db_conn *conn) { return count_of(conn, "SELECT COUNT(*) FROM users") >= 0; }

static bool add_from_outside(struct db_conn *conn) {
    struct im_err err = {0};

    return add_user(conn, "usr-outside", &err);
}

/* The refusal is what is wanted. */
static bool claim_from_outside(struct db_conn *conn) {
    struct im_err err = {0};
    struct db *db = db_open(getenv("TEST_URI"), &err);
    bool refused = !db_claim(db, "second", &err) && err.code == IM_BUSY &&
                   strstr(err.text, "first (process 1)") != NULL;

    (void) conn;
    fprintf(stderr, "%s\n", err.text);
    db_close(db);
    return refused;
}

static bool two_rows(struct db_conn *conn) {
    return count_of(conn, "SELECT COUNT(*) FROM users") == 2;
}

static const struct {
    const char *name;
    bool (*run)(struct db_conn *conn);
} outside[] = {{"look", look},
               {"add", add_from_outside},
               {"two-rows", two_rows},
               {"claim", claim_from_outside}};

/* Another program at the same record: this one, started anew, as a fork would share what SQLite
 * knows of its locks. */
static bool neighbour(const char *what) {
    struct im_err err = {0};

    return im_run((const char *const[]){"/proc/self/exe", what, uri, NULL}, NULL, 30000, NULL,
                  &err);
}

static int be_neighbour(const char *what, const char *address) {
    struct im_err err = {0};
    struct db *db = db_open(address, &err);
    struct db_conn *conn = setenv("TEST_URI", address, 1) == 0 && db ? db_take(db, &err) : NULL;
    bool fine = false;

    for (size_t i = 0; conn != NULL && i < sizeof(outside) / sizeof(outside[0]); i++)
        if (strcmp(outside[i].name, what) == 0)
            fine = outside[i].run(conn);
    db_give(conn);
    db_close(db);
    return fine ? 0 : 1;
}

/* One program serves from a record; others may look. */
static void test_claim(void) {
    struct db *db = open_fresh("claim");
    struct im_err err = {0};

    check_ok(db_claim(db, "first (process 1)", &err), "a program claims the record");
    check(neighbour("claim"), "a second one is refused, with the first one's name");
    check(neighbour("look"), "but may look");
    db_close(db);
    db = db_open(uri, &err);
    check_ok(db_claim(db, "third", &err), "the claim ends with its owner");
    db_close(db);
}

/* A commit that fails on purpose is one that failed. */
static void test_faults(struct db *db) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(db, &err);

    db_fault_commits(db, DB_FAULT_FULL, 1, 1);
    check(db_begin(conn, &err) && add_user(conn, "usr-f1", &err) && db_commit(conn, &err),
          "the first commit is fine");
    check(db_begin(conn, &err) && add_user(conn, "usr-f2", &err), "the second");
    check_err(db_commit(conn, &err), IM_NO_RECORD, "is not");
    db_fault_commits(db, DB_FAULT_ANSWER, 0, 1);
    check(db_begin(conn, &err) && add_user(conn, "usr-f3", &err), "the third is");
    check_err(db_commit(conn, &err), IM_UNKNOWN_COMMIT, "but nobody is told");
    check(count_of(conn, "SELECT COUNT(*) FROM users WHERE user_id LIKE 'usr-f%'") == 2 &&
              db_fault_left(db) == 0,
          "what was committed is there");
}

static void test_newer(void) {
    struct db *db = open_fresh("newer");
    struct im_err err = {0};
    struct db_conn *conn = db_take(db, &err);

    check_ok(db_migrate(db, &err), "migrating twice is fine");
    check_ok(db_exec(conn, NULL, &err, "INSERT INTO schema_migrations VALUES ($1, 0)", "i",
                     (int64_t) db_schema_version() + 1),
             "a newer program was here");
    db_give(conn);
    check_err(db_migrate(db, &err), IM_UNSUPPORTED, "a newer record is refused");
    db_close(db);
}

/* --- SQLite only ------------------------------------------------------------------------------ */

static void test_open(void) {
    struct stat st = {0};
    struct db *db = open_fresh("mode");

    check(stat(uri + strlen("sqlite:"), &st) == 0 && (st.st_mode & 0777) == 0600,
          "the file is for us alone");
    db_close(db);
    check_err(db_open("oracle:x", &err) != NULL, IM_BAD_MESSAGE, "an unknown scheme is refused");
    check_err(db_open("sqlite:", &err) != NULL, IM_BAD_MESSAGE, "no file is refused");
    check_err(db_open("sqlite:/nonexistent/x", &err) != NULL, IM_NO_RECORD,
              "a missing folder is an error");
}

static bool says(const struct im_err *err, enum im_code code, const char *words) {
    if (err->code == code && strstr(err->text, words) != NULL)
        return true;
    test_note("%s: %s", im_code_name(err->code), err->text);
    return false;
}

/* What became of the file is said with what to do about it. */
static void test_troubles(void) {
    IM_AUTO(free_auto) char *path = im_printf("%s/trouble", test_folder());
    IM_AUTO(free_auto) char *aside = im_printf("%s/aside", test_folder());
    static const char junk[8192] = "this is no database";
    struct im_err err = {0};
    struct db *db = open_fresh("trouble");
    struct db_conn *conn = db_take(db, &err);

    check_ok(add_user(conn, "usr-1", &err), "a row");
    check(rename(path, aside) == 0 && !add_user(conn, "usr-2", &err) &&
              says(&err, IM_NO_RECORD, "is gone"),
          "nothing is written into a file that was removed");
    err = (struct im_err){0};
    check_ok(im_write_file(path, junk, 0, 0600, &err), "another file comes in its place");
    check(!add_user(conn, "usr-2", &err) && says(&err, IM_NO_RECORD, "was replaced"),
          "nor into one that was replaced");
    err = (struct im_err){0};
    check(rename(aside, path) == 0, "the file is brought back");
    check_ok(add_user(conn, "usr-2", &err), "and written to");
    db_give(conn);
    db_close(db);
    check_ok(im_write_file(path, junk, sizeof(junk), 0600, &err), "junk");
    check(db_open(uri, &err) == NULL && says(&err, IM_NO_RECORD, "is no SQLite database"),
          "is no database");
}

/* Page by page in the middle: what is readable is read, what is not is told. */
static void test_damaged(void) {
    IM_AUTO(free_auto) char *path = im_printf("%s/damaged", test_folder());
    struct im_err err = {0};
    struct db *db = open_fresh("damaged");
    struct db_conn *conn = db_take(db, &err);
    static char junk[4096];
    int fd, pages = 0;

    check_ok(add_user(conn, "usr-1", &err), "a row");
    db_give(conn);
    db_close(db);
    memset(junk, 0x5a, sizeof(junk));
    fd = open(path, O_RDWR | O_CLOEXEC);
    for (off_t at = 4096; at < lseek(fd, 0, SEEK_END); at += 4096, pages++)
        check(pwrite(fd, junk, sizeof(junk), at) == sizeof(junk), "page %d is damaged", pages);
    close(fd);
    db = db_open(uri, &err);
    conn = db ? db_take(db, &err) : NULL;
    check((conn == NULL || !add_user(conn, "usr-2", &err)) &&
              says(&err, IM_NO_RECORD, "is damaged"),
          "a damaged file is told from others");
    db_give(conn);
    db_close(db);
}

/* Read-only for this process: root may write to any file, but not to a file system without. */
static void test_read_only(void) {
    IM_AUTO(free_auto) char *disk = im_printf("%s/small", test_folder());
    IM_AUTO(free_auto) char *full = im_printf("%s/full", disk);
    IM_AUTO(free_auto) char *log = im_printf("%s/full-wal", disk);
    struct im_err err = {0};
    struct db_conn *conn;
    struct db *db;

    unlink(log); /* if there was no room for what it holds */
    check(unlink(full) == 0, "room is made");
    db = open_fresh("small/locked");
    conn = db_take(db, &err);
    check_ok(add_user(conn, "usr-1", &err), "a row");
    db_give(conn);
    db_close(db);
    check(mount(NULL, disk, NULL, MS_REMOUNT | MS_RDONLY, "size=2m") == 0, "the disk is read-only");
    db = db_open(uri, &err);
    conn = db ? db_take(db, &err) : NULL;
    check((conn == NULL || !add_user(conn, "usr-2", &err)) && err.code == IM_NO_RECORD,
          "a read-only record says so: %s", err.text);
    db_give(conn);
    db_close(db);
    check(mount(NULL, disk, NULL, MS_REMOUNT, "size=2m") == 0, "it is mounted anew");
    err = (struct im_err){0};
    db = db_open(uri, &err);
    conn = db_take(db, &err);
    check_ok(add_user(conn, "usr-2", &err), "and the record works");
    db_give(conn);
    db_close(db);
}

/* Replies may be kept while it stays the same: it must tell of every commit, ours or not. */
static void test_generation(void) {
    struct db *db = open_fresh("generation");
    struct im_err err = {0};
    struct db_conn *conn = db_take(db, &err);
    uint64_t before = db_generation(db), now;

    check(before != 0, "SQLite has generations");
    check(count_of(conn, "SELECT COUNT(*) FROM users") == 0 && db_generation(db) == before,
          "reading does not change it");
    check(neighbour("look") && db_generation(db) == before, "nor does another program that reads");
    check_ok(add_user(conn, "usr-g", &err), "a statement on its own");
    now = db_generation(db);
    check(now != before, "changes it");
    check(neighbour("add"), "another program writes");
    check(db_generation(db) != now, "which changes it too");
    now = db_generation(db);
    check(db_begin(conn, &err) && add_user(conn, "usr-h", &err) && db_generation(db) == now,
          "what is not committed does not");
    check(count_of(conn, "SELECT COUNT(*) FROM users") == 3, "three rows are seen inside");
    db_give(conn);
    db_close(db);
}

/* Another program that comes and goes must not take itself for the last one, and the log with it.
 */
static void test_neighbour(void) {
    struct db *db = open_fresh("neighbour");
    struct im_err err = {0};
    struct db_conn *one = db_take(db, &err), *two = db_take(db, &err);
    IM_AUTO(free_auto) char *log = im_printf("%s-wal", uri + strlen("sqlite:"));

    check(neighbour("add"), "another program writes and ends");
    check(access(log, F_OK) == 0, "the log stays where it was");
    check_ok(add_user(one, "usr-after", &err), "we write on");
    check(neighbour("two-rows"), "and a third program sees both rows");
    db_give(one);
    db_give(two);
    db_close(db);
}

static bool add_bytes(struct db_conn *conn, struct im_err *err) {
    static char bytes[100000];

    return db_exec(conn, NULL, err, "INSERT INTO filler (b) VALUES ($1)", "b", bytes,
                   sizeof(bytes));
}

/* A file system of 2 MiB of our own, seen by this process only. */
static bool small_disk(const char *path) {
    return mkdir(path, 0700) == 0 && unshare(CLONE_NEWNS) == 0 &&
           mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", path, "tmpfs", 0, "size=2m") == 0;
}

static void test_full(void) {
    IM_AUTO(free_auto) char *disk = im_printf("%s/small", test_folder());
    IM_AUTO(free_auto) char *ballast = im_printf("%s/small/ballast", test_folder());
    static char weight[500000];
    struct im_err err = {0};
    struct db *db;
    struct db_conn *conn;
    int64_t rows = 0;
    bool room = true;

    if (!small_disk(disk)) {
        test_note("no file system of our own can be mounted here: a full disk is not tried");
        return;
    }
    db = open_fresh("small/full");
    conn = db_take(db, &err);
    check_ok(db_exec(conn, NULL, &err, "CREATE TABLE filler (b BLOB)", ""), "a small disk");
    check_ok(im_write_file(ballast, weight, sizeof(weight), 0600, &err), "with ballast");
    while (rows < 100 && add_bytes(conn, &err))
        rows++;
    check(rows > 0 && rows < 100 && says(&err, IM_NO_RECORD, "make room"),
          "is full after %d rows: %s", (int) rows, err.text);
    check(count_of(conn, "SELECT COUNT(*) FROM filler") == rows, "what was committed is there");
    check_ok(db_begin(conn, &err), "a transaction begins");
    for (int i = 0; i < 100 && room; i++)
        room = add_bytes(conn, &err);
    check(!room, "with more rows than memory holds: %s", err.text);
    check_err(add_user(conn, "usr-behind", &err) && db_commit(conn, &err), IM_INTERNAL,
              "what follows is not committed by itself");
    db_rollback(conn);
    check(unlink(ballast) == 0, "the operator makes room");
    db_give(conn);
    conn = db_take(db, &err);
    check(count_of(conn, "SELECT COUNT(*) FROM users") == 0, "nothing of it was written");
    check_ok(add_bytes(conn, &err), "and the record works again");
    check(count_of(conn, "SELECT COUNT(*) FROM filler") == rows + 1, "with all rows");
    db_give(conn);
    db_close(db);
    test_read_only();
}

/* --- PostgreSQL only -------------------------------------------------------------------------- */

static bool terminate_others(struct db *db) {
    struct im_err err = {0};
    struct db *other = db_open(uri, &err);
    struct db_conn *conn = db_take(other, &err);
    int64_t ended = count_of(conn, "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity"
                                   " WHERE datname = current_database() AND pid <> "
                                   "pg_backend_pid()");

    (void) db;
    db_give(conn);
    db_close(other);
    usleep(200000);
    return ended > 0;
}

static void test_lost(void) {
    struct db *db = open_fresh("lost");
    struct im_err err = {0};
    struct db_conn *conn = db_take(db, &err);

    db_give(conn);
    check(terminate_others(db), "idle connections are ended by the server");
    conn = db_take(db, &err);
    check_ok(add_user(conn, "usr-1", &err), "the pool gives a new one");
    check(db_begin(conn, &err) && add_user(conn, "usr-2", &err) && terminate_others(db),
          "one is ended in a transaction");
    check_err(add_user(conn, "usr-3", &err), IM_NO_RECORD, "which may be begun again");
    db_give(conn);
    conn = db_take(db, &err);
    check(db_begin(conn, &err) && add_user(conn, "usr-2", &err) && terminate_others(db),
          "one is ended before its commit");
    check_err(db_commit(conn, &err), IM_NO_RECORD, "which did not happen");
    db_give(conn);
    conn = db_take(db, &err);
    check(add_user(conn, "usr-4", &err) && terminate_others(db),
          "one is ended before a statement on its own: %s", err.text);
    check_err(add_user(conn, "usr-2", &err), IM_NO_RECORD, "which did not happen either");
    db_give(conn);
    check(postgres_crash(), "the server is killed and started again");
    check_ok(db_transact(db, increment, NULL, &err), "the record goes on");
    conn = db_take(db, &err);
    check(count_of(conn, "SELECT COUNT(*) FROM users") == 2, "with what was committed");
    db_give(conn);
    db_close(db);
}

static void test_secret(void) {
    struct im_err err = {0};
    struct db *db = db_open("postgresql://imprint:geheim@[/x?nonsense=1", &err);

    check(db == NULL && strstr(err.text, "geheim") == NULL, "a bad URI is not repeated: %s",
          err.text);
    err = (struct im_err){0};
    db = db_open("postgresql:host=/nonexistent user=imprint password=geheim", &err);
    check(db != NULL && db_take(db, &err) == NULL && err.code == IM_NO_RECORD &&
              strstr(err.text, "geheim") == NULL,
          "a password is never named: %s", err.text);
    db_close(db);
}

/* --- PostgreSQL, the connection cut around a commit ------------------------------------------- */

static int64_t user_count(const char *direct, const char *id) {
    struct im_err err = {0};
    struct db *db = db_open(direct, &err);
    struct db_conn *conn = db_take(db, &err);
    IM_AUTO(free_auto)
    char *sql = im_printf("SELECT COUNT(*) FROM users WHERE user_id = '%s'", id);
    int64_t count = count_of(conn, sql);

    db_give(conn);
    db_close(db);
    return count;
}

static bool add_named(struct db_conn *conn, void *arg, struct im_err *err) {
    return add_user(conn, arg, err);
}

static void cut_one(struct db *db, const char *direct, enum proxy_cut cut, bool committed,
                    const char *id) {
    struct im_err err = {0};
    struct db_conn *conn = db_take(db, &err);
    bool told;

    check(db_begin(conn, &err) && add_user(conn, id, &err), "%s is written", id);
    proxy_next(cut);
    told = db_commit(conn, &err);
    db_give(conn);
    check(told == committed && (told || err.code == IM_NO_RECORD), "and its end is known: %s",
          told ? "committed" : err.text);
    if (cut == PROXY_CUT_LATE)
        usleep(700000);
    check(user_count(direct, id) == committed, "as it is");
}

static void *back_in_a_moment(void *arg) {
    (void) arg;
    usleep(1500000);
    proxy_next(PROXY_PASS);
    return NULL;
}

static void test_cut(void) {
    struct db *db = open_fresh("cut");
    IM_AUTO(free_auto) char *direct = im_strdup(uri);
    IM_AUTO(free_auto) char *cut = proxy_start(direct);
    struct im_err err = {0};
    struct db_conn *conn;
    struct db *other;
    pthread_t thread;

    db_close(db);
    db = cut ? db_open(cut, &err) : NULL;
    if (!check(db != NULL, "a proxy stands between"))
        return;
    cut_one(db, direct, PROXY_CUT_BEFORE, false, "cut-before");
    cut_one(db, direct, PROXY_CUT_AFTER, true, "cut-after");
    cut_one(db, direct, PROXY_CUT_LATE, false, "cut-late");
    pthread_create(&thread, NULL, back_in_a_moment, NULL);
    cut_one(db, direct, PROXY_CUT_STAY, false, "cut-stay");
    pthread_join(thread, NULL);
    proxy_next(PROXY_CUT_AFTER);
    conn = db_take(db, &err);
    check_ok(add_user(conn, "cut-alone", &err), "a statement on its own, its answer cut");
    db_give(conn);
    check(user_count(direct, "cut-alone") == 1, "is there once");
    proxy_next(PROXY_CUT_BEFORE);
    check_ok(db_transact(db, add_named, "cut-again", &err), "a cut transaction is done again");
    proxy_next(PROXY_CUT_AFTER);
    check_ok(db_transact(db, add_named, "cut-done", &err), "a committed one is not");
    check(user_count(direct, "cut-again") == 1 && user_count(direct, "cut-done") == 1,
          "both are there");
    check_ok(db_claim(db, "here", &err), "the record is claimed");
    free(uri);
    uri = im_strdup(direct);
    check(terminate_others(db), "all connections are ended, the claim's too");
    check_ok(db_transact(db, add_named, "cut-claim", &err), "and made anew");
    check(user_count(direct, "cut-claim") == 1, "the record goes on");
    other = db_open(direct, &err);
    conn = db_take(db, &err);
    check(db_begin(conn, &err) && add_user(conn, "cut-stolen", &err) && terminate_others(db) &&
              db_claim(other, "there", &err),
          "another program takes the record while the connections are away");
    check(!db_commit(conn, &err) && err.code == IM_NO_RECORD, "what was begun is not committed");
    db_give(conn);
    err = (struct im_err){0};
    check(db_take(db, &err) == NULL && says(&err, IM_BUSY, "another program (there)"),
          "and nothing can be begun");
    db_close(other);
    check_ok(db_transact(db, add_named, "cut-back", &err), "until it is ours again");
    db_close(db);
}

static void suite(void) {
    struct db *db = open_fresh("first");

    check(db != NULL && strcmp(db_driver(db), postgres ? "postgresql" : "sqlite") == 0,
          "the record opens: %s", db ? db_driver(db) : "not");
    test_values(db);
    test_transactions(db);
    test_light(db);
    test_race(db);
    test_unique_race(db);
    test_serial(db);
    test_read_view(db);
    if (postgres)
        test_skew(db);
    test_faults(db);
    db_close(db);
    test_claim();
    test_kill();
    test_newer();
    test_migrate_race();
}

int main(int argc, char **argv) {
    if (argc == 3)
        return be_neighbour(argv[1], argv[2]);
    suite();
    test_open();
    test_generation();
    test_neighbour();
    test_troubles();
    test_damaged();
    test_secret();
    if (postgres_start()) {
        postgres = true;
        suite();
        test_lost();
        test_cut();
        postgres = false;
    }
    test_full(); /* last: it leaves the others' view of the file system */
    free(uri);
    return test_end();
}
