/* SPDX-License-Identifier: Apache-2.0 */
/* The contract of the record, over each driver that is there. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "db/db.h"
#include "harness/test.h"

static char *uri;

static struct db *open_fresh(const char *name) {
    struct im_err err = {0};
    struct db *db;

    free(uri);
    uri = im_printf("sqlite:%s/%s", test_folder(), name);
    db = db_open(uri, &err);
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

    check_ok(db_exec(conn, &changed, &err, "CREATE TABLE v (t TEXT, i BIGINT, b BLOB)", ""),
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
    check(db_generation(db) != generation, "raises the generation");
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
    struct db *db = open_fresh("kill.db");
    struct db_conn *conn;
    struct im_err err = {0};

    for (int round = 0; round < 5; round++) {
        pid_t pid = fork();

        if (pid == 0) {
            struct db *own = db_open(uri, &err);
            struct db_conn *link = own ? db_take(own, &err) : NULL;

            for (int i = 0; link != NULL; i++) {
                char id[32];

                snprintf(id, sizeof(id), "a-%d-%d", round, i);
                if (!db_begin(link, &err) || !add_user(link, id, &err))
                    _exit(1);
                id[0] = 'b';
                if (!add_user(link, id, &err) || !db_commit(link, &err))
                    _exit(1);
            }
            _exit(1);
        }
        usleep(100000);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
    conn = db_take(db, &err);
    check(count_of(conn, "SELECT COUNT(*) FROM users") > 0, "killed writers left rows");
    check(count_of(conn, "SELECT COUNT(*) FROM users WHERE user_id LIKE 'a%'") ==
              count_of(conn, "SELECT COUNT(*) FROM users WHERE user_id LIKE 'b%'"),
          "and only whole transactions");
    db_give(conn);
    db_close(db);
}

static void test_newer(void) {
    struct db *db = open_fresh("newer.db");
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

static void test_open(void) {
    struct stat st = {0};
    struct db *db = open_fresh("mode.db");

    check(stat(uri + strlen("sqlite:"), &st) == 0 && (st.st_mode & 0777) == 0600,
          "the file is for us alone");
    db_close(db);
    check_err(db_open("oracle:x", &err) != NULL, IM_BAD_MESSAGE, "an unknown scheme is refused");
    check_err(db_open("sqlite:", &err) != NULL, IM_BAD_MESSAGE, "no file is refused");
    check_err(db_open("sqlite:/nonexistent/x.db", &err) != NULL, IM_INTERNAL,
              "a missing folder is an error");
}

int main(void) {
    struct db *db = open_fresh("main.db");

    check(db != NULL && strcmp(db_driver(db), "sqlite") == 0, "the record opens");
    test_values(db);
    test_transactions(db);
    test_race(db);
    db_close(db);
    test_kill();
    test_newer();
    test_open();
    free(uri);
    return test_end();
}
