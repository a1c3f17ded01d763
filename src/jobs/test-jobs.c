/* SPDX-License-Identifier: Apache-2.0 */
/* The engine of jobs, over each driver: forward, back, cancel, commits that fail one after the
 * other, and death by SIGKILL in every half of every step. The verbs under test write what they do
 * into a file, as a real step does something outside the record. */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "db/fault.h"
#include "harness/postgres.h"
#include "harness/test.h"
#include "jobs/jobs.h"
#include "record/record.h"

static char *uri, *trace_path;
static const char *fail_at = "", /* "run0", "commit1" …: that half fails, */
    *die_at = "",                /* kills the process, */
        *away_at = "";           /* or the server of the record */

static void trace(const char *what) {
    int fd = open(trace_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct im_err err = {0};

    if (!im_write_all(fd, what, strlen(what), trace_path, &err))
        test_note("%s", err.text);
    close(fd);
}

static bool half(const char *name, const char *resource, struct im_err *err) {
    IM_AUTO(free_auto) char *line = im_printf("%s ", name);

    if (strcmp(resource, "odd") == 0)
        return strcmp(name, "run1") != 0 || im_fail(err, IM_NO_SPACE, "the odd one fails");
    trace(line);
    if (strcmp(die_at, name) == 0)
        kill(getpid(), SIGKILL);
    if (strcmp(away_at, name) == 0) {
        postgres_kill();
        __atomic_store_n(&away_at, "", __ATOMIC_RELEASE);
    }
    return strcmp(fail_at, name) != 0 || im_fail(err, IM_NO_SPACE, "%s was told to fail", name);
}

#define STEP(n)                                                                                    \
    static bool run##n(struct job_run *run, struct im_err *err) {                                  \
        return half("run" #n, run->item->resource_id, err);                                        \
    }                                                                                              \
    static bool commit##n(struct job_run *run, struct db_conn *conn, struct im_err *err) {         \
        (void) conn;                                                                               \
        return half("commit" #n, run->item->resource_id, err);                                     \
    }                                                                                              \
    static bool undo##n(struct job_run *run, struct im_err *err) {                                 \
        return half("undo" #n, run->item->resource_id, err);                                       \
    }
STEP(0)
STEP(1)
STEP(2)

static bool undone(struct job_run *run, struct db_conn *conn, const struct im_err *why,
                   struct im_err *err) {
    (void) conn, (void) why;
    return half("undone", run->item->resource_id, err);
}

static bool slow_run(struct job_run *run, struct im_err *err) {
    for (int64_t i = 0; !*run->cancel && i < 500; i++) {
        jobs_progress(run, i * 1000, 500000);
        im_sleep_ms(10);
    }
    return !*run->cancel || im_fail(err, IM_CANCELLED, "cancelled");
}

static bool name_run(struct job_run *run, struct im_err *err) {
    IM_AUTO(free_auto) char *line = im_printf("%s ", run->item->resource_id);

    (void) err;
    trace(line);
    return true;
}

/* How many of them are at work, and were at most. */
static atomic_int singles, singles_most;

static bool single_run(struct job_run *run, struct im_err *err) {
    int now = atomic_fetch_add(&singles, 1) + 1;

    if (now > singles_most)
        singles_most = now;
    for (int i = 0; !*run->cancel && i < 20; i++)
        im_sleep_ms(10);
    atomic_fetch_sub(&singles, 1);
    return !*run->cancel || im_fail(err, IM_CANCELLED, "cancelled");
}

static unsigned single_at_once(void *context) {
    (void) context;
    return 1;
}

static const struct job_step single[] = {{"single", single_run, NULL, NULL}};
static const struct job_step three[] = {
    {"zero", run0, commit0, undo0}, {"one", run1, commit1, undo1}, {"two", run2, commit2, undo2}};
static const struct job_step slow[] = {{"slow", slow_run, NULL, NULL}};
static const struct job_step naming[] = {{"name", name_run, NULL, NULL}};
static const struct job_verb resuming = {"Resuming", three, 3, undone, true, false, NULL};
static const struct job_verb undoing = {"Undoing", three, 3, undone, false, false, NULL};
static const struct job_verb slow_verb = {"Slow", slow, 1, NULL, true, true, NULL};
static const struct job_verb naming_verb = {"Naming", naming, 1, NULL, true, true, NULL};
static const struct job_verb single_verb = {"Single", single, 1, NULL, true, true, single_at_once};
static const struct job_verb *const verbs[] = {&resuming,    &undoing,     &slow_verb,
                                               &naming_verb, &single_verb, NULL};

static struct jobs *engine(struct db *db, unsigned threads, int64_t keep_s) {
    struct jobs_config config = {.db = db,
                                 .verbs = verbs,
                                 .threads = threads,
                                 .worker = "test",
                                 .keep_s = keep_s,
                                 .tick_ms = 200,
                                 .rest_ms = 2};
    struct im_err err = {0};
    struct jobs *jobs = jobs_open(&config, &err);

    if (jobs == NULL)
        test_note("%s", err.text);
    return jobs;
}

static struct db *record_open(void) {
    struct im_err err = {0};
    struct db *db = db_open(uri, &err);

    if (db == NULL || !db_migrate(db, &err))
        test_note("%s", err.text);
    return db;
}

static bool add(struct jobs *jobs, struct db *db, const char *action, const char *const resources[],
                size_t count, char job_id[IM_JOB_ID_MAX]) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(db, &err);
    struct job_order orders[16] = {0};

    for (size_t i = 0; i < count; i++)
        orders[i].resource_id = resources[i];
    return db_begin(conn, &err) &&
           jobs_add(jobs, conn, action, "usr-test", "", orders, count, job_id, &err) &&
           db_commit(conn, &err);
}

static struct job *job_of(struct db *db, const char *job_id) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(db, &err);
    struct job *job = NULL;

    if (!record_get(conn, &job_type, job_id, &job, &err))
        test_note("%s", err.text);
    return job;
}

static char *trace_take(void) {
    struct im_err err = {0};
    char *text = NULL;

    if (!im_read_file(trace_path, 1 << 20, &text, NULL, &err))
        text = im_strdup("");
    unlink(trace_path);
    return text;
}

/* One job of one item to its end; compares what was done and how it ended. */
static void runs(const char *action, const char *failing, enum job_status wanted,
                 const char *wanted_trace) {
    struct db *db = record_open();
    struct jobs *jobs = engine(db, 4, 0);
    char job_id[IM_JOB_ID_MAX];
    IM_AUTO(job_free_auto) struct job *job = NULL;
    IM_AUTO(free_auto) char *done = NULL;

    fail_at = failing;
    check(add(jobs, db, action, (const char *const[]){"res-1"}, 1, job_id), "%s is added", action);
    check_ok(jobs_start(jobs, &err) && jobs_wait(jobs, job_id, 10000, &err), "it ends");
    job = job_of(db, job_id);
    check(job != NULL && job->status == wanted, "as it should when [%s] fails", failing);
    if (wanted == JOB_FAILED)
        check(strstr(job->error_message, "was told to fail") != NULL &&
                  strcmp(job->error_codes, "5200") == 0,
              "with reason and code: %s", job->error_message);
    done = trace_take();
    if (!check(strcmp(done, wanted_trace) == 0, "in the right order"))
        test_note("wanted [%s], got [%s]", wanted_trace, done);
    fail_at = "";
    jobs_stop(jobs);
    db_close(db);
}

static void test_order(void) {
    runs("Resuming", "", JOB_SUCCESSFUL, "run0 commit0 run1 commit1 run2 commit2 ");
    runs("Resuming", "run0", JOB_FAILED, "run0 undo0 undone ");
    runs("Resuming", "run1", JOB_FAILED, "run0 commit0 run1 undo1 undo0 undone ");
    runs("Resuming", "commit2", JOB_FAILED,
         "run0 commit0 run1 commit1 run2 commit2 undo2 undo1 undo0 undone ");
}

static void test_partly(void) {
    struct db *db = record_open();
    struct jobs *jobs = engine(db, 4, 0);
    struct im_err err = {0};
    char job_id[IM_JOB_ID_MAX];
    IM_AUTO(job_free_auto) struct job *job = NULL;

    add(jobs, db, "Resuming", (const char *const[]){"a", "odd", "b"}, 3, job_id);
    check_ok(jobs_start(jobs, &err) && jobs_wait(jobs, job_id, 10000, &err), "three items end");
    job = job_of(db, job_id);
    check(job->status == JOB_FAILED && im_starts_with(job->error_message, "1 of 3 failed"),
          "one of three failed: %s", job->error_message);
    check(strcmp(job->resource_ids, "a odd b") == 0, "all are named");
    (void) err;
    free(trace_take());
    jobs_stop(jobs);
    db_close(db);
}

static void test_cancel(void) {
    struct db *db = record_open();
    struct jobs *jobs = engine(db, 4, 0);
    struct im_err fail = {0};
    struct db_conn *conn = db_take(db, &fail);
    char job_id[IM_JOB_ID_MAX];
    IM_AUTO(job_free_auto) struct job *job = NULL;

    add(jobs, db, "Slow", (const char *const[]){"s", "t"}, 2, job_id);
    check_ok(jobs_start(jobs, &err), "the engine starts");
    im_sleep_ms(500);
    job = job_of(db, job_id);
    check(job->status == JOB_WORKING, "the record says of a job in its first step that it works");
    jobs_overlay(jobs, job);
    check(job->total_bytes == 1000000 && job->done_bytes > 0 && job->rate_bytes > 0,
          "progress and rate of both items are shown");
    check_ok(jobs_cancel(jobs, conn, job_id, &err), "it is cancelled");
    check_ok(jobs_wait(jobs, job_id, 5000, &err), "it ends soon");
    check_err(jobs_cancel(jobs, conn, job_id, &err), IM_WRONG_STATE, "a finished job can not be");
    db_give(conn);
    jobs_stop(jobs);
    db_close(db);
}

/* A child runs the job and is killed in the given half; a second engine must bring it to its end.
 */
static void dies(const char *action, const char *where, enum job_status wanted,
                 const char *wanted_trace) {
    char job_id[IM_JOB_ID_MAX] = "";
    struct db *db;
    struct jobs *jobs;
    IM_AUTO(job_free_auto) struct job *job = NULL;
    IM_AUTO(free_auto) char *done = NULL;
    int pipes[2];
    pid_t pid;

    if (pipe(pipes) < 0)
        return;
    pid = fork();
    if (pid == 0) {
        struct im_err err = {0};

        die_at = where;
        db = record_open();
        jobs = engine(db, 4, 0);
        add(jobs, db, action, (const char *const[]){"res-1"}, 1, job_id);
        if (write(pipes[1], job_id, sizeof(job_id)) < 0 || !jobs_start(jobs, &err))
            _exit(1);
        pause();
    }
    check(read(pipes[0], job_id, sizeof(job_id)) == sizeof(job_id), "a job at work");
    waitpid(pid, NULL, 0);
    close(pipes[0]);
    close(pipes[1]);
    db = record_open();
    jobs = engine(db, 4, 0);
    check_ok(jobs_start(jobs, &err) && jobs_wait(jobs, job_id, 10000, &err),
             "%s killed in %s comes to its end", action, where);
    job = job_of(db, job_id);
    done = trace_take();
    if (!check(job != NULL && job->status == wanted && strcmp(done, wanted_trace) == 0,
               "as it should"))
        test_note("wanted [%s], got [%s]", wanted_trace, done);
    jobs_stop(jobs);
    db_close(db);
}

static char *next_word(char **text) {
    char *word;

    do
        word = strsep(text, " ");
    while (word != NULL && *word == '\0');
    return word;
}

/* Leaves one of equal words that follow each other: a half that was done again. */
static char *once_each(const char *text) {
    IM_AUTO(free_auto) char *copy = im_strdup(text);
    IM_AUTO(im_str_done) struct im_str out = {0};
    char *rest = copy, *word;
    const char *before = "";

    im_str_add(&out, "");
    for (; (word = next_word(&rest)) != NULL; before = word)
        if (strcmp(word, before) != 0)
            im_str_addf(&out, "%s ", word);
    return im_str_take(&out);
}

/* The record fails `failing` commits from the n-th on; false when the job is over before. */
static bool fault(const char *action, const char *failing, enum db_fault kind, unsigned n,
                  enum job_status wanted, const char *wanted_trace) {
    struct db *db = record_open();
    struct jobs *jobs = engine(db, 4, 0);
    char job_id[IM_JOB_ID_MAX];
    IM_AUTO(job_free_auto) struct job *job = NULL;
    IM_AUTO(free_auto) char *done = NULL;
    IM_AUTO(free_auto) char *once = NULL;
    bool reached;

    fail_at = failing;
    add(jobs, db, action, (const char *const[]){"res-1"}, 1, job_id);
    db_fault_commits(db, kind, n, 3);
    check_ok(jobs_start(jobs, &err) && jobs_wait(jobs, job_id, 20000, &err),
             "[%s] ends though commits fail from %u on", failing, n);
    reached = db_fault_left(db) < 3;
    job = job_of(db, job_id);
    done = trace_take();
    once = once_each(done);
    /* A commit that happened must not be done again, one that did not must. */
    if (!check(job != NULL && job->status == wanted &&
                   strcmp(kind == DB_FAULT_FULL ? once : done, wanted_trace) == 0,
               "as it should, and each run and undo is done once"))
        test_note("wanted [%s], got [%s], %s", wanted_trace, done, job ? job->error_message : "");
    fail_at = "";
    jobs_stop(jobs);
    db_close(db);
    return reached;
}

static void test_faults(void) {
    static const struct {
        const char *failing;
        enum job_status wanted;
        const char *trace;
        unsigned commits;
    } cases[] = {
        {"", JOB_SUCCESSFUL, "run0 commit0 run1 commit1 run2 commit2 ", 3},
        {"run1", JOB_FAILED, "run0 commit0 run1 undo1 undo0 undone ", 3},
    };
    static const enum db_fault kinds[] = {DB_FAULT_FULL, DB_FAULT_ANSWER};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
            unsigned n = 0;

            while (
                fault("Resuming", cases[i].failing, kinds[k], n, cases[i].wanted, cases[i].trace))
                n++;
            check(n == cases[i].commits, "%u commits were made to fail in turn", n);
        }
}

/* The engine stops while the record is in trouble, and a later one finishes the job. */
static void test_stop_in_trouble(void) {
    struct db *db = record_open();
    struct jobs *jobs = engine(db, 4, 0);
    char job_id[IM_JOB_ID_MAX];
    IM_AUTO(job_free_auto) struct job *job = NULL;

    add(jobs, db, "Resuming", (const char *const[]){"res-1"}, 1, job_id);
    db_fault_commits(db, DB_FAULT_FULL, 1, 1000000);
    check_ok(jobs_start(jobs, &err), "an engine whose record is full");
    im_sleep_ms(200);
    jobs_stop(jobs);
    job = job_of(db, job_id);
    check(job->status == JOB_WORKING, "stops, and the job is as it was");
    db_fault_commits(db, DB_FAULT_NONE, 0, 0);
    jobs = engine(db, 4, 0);
    check_ok(jobs_start(jobs, &err) && jobs_wait(jobs, job_id, 20000, &err),
             "the next one ends it");
    job_free(im_steal(&job));
    job = job_of(db, job_id);
    check(job->status == JOB_SUCCESSFUL, "well");
    free(trace_take());
    jobs_stop(jobs);
    db_close(db);
}

/* Items begin in the order of their numbers: 2 before 10. */
static void test_numbers(void) {
    static const char *const names[] = {"0", "1", "2", "3", "4",  "5",
                                        "6", "7", "8", "9", "10", "11"};
    struct db *db = record_open();
    struct jobs *jobs = engine(db, 1, 0);
    char job_id[IM_JOB_ID_MAX];
    IM_AUTO(free_auto) char *done = NULL;

    add(jobs, db, "Naming", names, 12, job_id);
    check_ok(jobs_start(jobs, &err) && jobs_wait(jobs, job_id, 10000, &err), "twelve items");
    done = trace_take();
    check(strcmp(done, "0 1 2 3 4 5 6 7 8 9 10 11 ") == 0, "one after the other: %s", done);
    jobs_stop(jobs);
    db_close(db);
}

static bool is_gone(struct db *db, const char *job_id) {
    struct im_err err = {0};
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(db, &err);
    IM_AUTO(job_free_auto) struct job *job = NULL;
    IM_AUTO(query_done) struct query query = {0};
    int64_t items = 0;

    query_add(&query, "job_id", CONDITION_IN, job_id);
    return !record_get(conn, &job_type, job_id, &job, &err) && err.code == IM_NOT_FOUND &&
           record_count(conn, &job_item_type, &query, &items, &err) && items == 0;
}

/* While it runs: a job that nobody woke is found, and goes when its time is over. */
static void test_looking_after(void) {
    struct db *db = record_open();
    struct jobs *jobs = engine(db, 2, 1);
    char job_id[IM_JOB_ID_MAX];

    check_ok(jobs_start(jobs, &err), "an engine with nothing to do");
    im_sleep_ms(100);
    add(jobs, db, "Naming", (const char *const[]){"a", "b"}, 2, job_id);
    check_ok(jobs_wait(jobs, job_id, 10000, &err), "finds a job that nobody woke");
    for (int i = 0; i < 200 && !is_gone(db, job_id); i++)
        im_sleep_ms(100);
    check(is_gone(db, job_id), "and removes it when it is old");
    free(trace_take());
    jobs_stop(jobs);
    db_close(db);
}

/* PostgreSQL is killed in the middle of a job, and comes back. */
static void test_away(void) {
    static const char *const where[] = {"run1", "commit1", "undo1"};

    for (size_t i = 0; i < sizeof(where) / sizeof(where[0]); i++) {
        struct db *db = record_open();
        struct jobs *jobs = engine(db, 4, 0);
        bool fails = strcmp(where[i], "undo1") == 0;
        char job_id[IM_JOB_ID_MAX];
        IM_AUTO(job_free_auto) struct job *job = NULL;
        IM_AUTO(free_auto) char *done = NULL;
        IM_AUTO(free_auto) char *once = NULL;

        fail_at = fails ? "run1" : "";
        away_at = where[i];
        add(jobs, db, "Resuming", (const char *const[]){"res-1"}, 1, job_id);
        check_ok(jobs_start(jobs, &err), "a job");
        while (*__atomic_load_n(&away_at, __ATOMIC_ACQUIRE) != '\0')
            im_sleep_ms(10);
        im_sleep_ms(500);
        check(postgres_again(), "whose server is away for a while in %s", where[i]);
        check_ok(jobs_wait(jobs, job_id, 30000, &err), "ends");
        job = job_of(db, job_id);
        done = trace_take();
        once = once_each(done);
        if (!check(job->status == (fails ? JOB_FAILED : JOB_SUCCESSFUL) &&
                       strcmp(once, fails ? "run0 commit0 run1 undo1 undo0 undone "
                                          : "run0 commit0 run1 commit1 run2 commit2 ") == 0,
                   "as if nothing had been"))
            test_note("got [%s] %s", done, job->error_message);
        fail_at = "";
        jobs_stop(jobs);
        db_close(db);
    }
}

/* Every half of a job that goes through, and of one that goes back. */
static void test_death(void) {
    dies("Resuming", "run0", JOB_SUCCESSFUL, "run0 run0 commit0 run1 commit1 run2 commit2 ");
    dies("Resuming", "commit0", JOB_SUCCESSFUL,
         "run0 commit0 run0 commit0 run1 commit1 run2 commit2 ");
    dies("Resuming", "run1", JOB_SUCCESSFUL, "run0 commit0 run1 run1 commit1 run2 commit2 ");
    dies("Resuming", "commit1", JOB_SUCCESSFUL,
         "run0 commit0 run1 commit1 run1 commit1 run2 commit2 ");
    dies("Resuming", "run2", JOB_SUCCESSFUL, "run0 commit0 run1 commit1 run2 run2 commit2 ");
    dies("Resuming", "commit2", JOB_SUCCESSFUL,
         "run0 commit0 run1 commit1 run2 commit2 run2 commit2 ");
    /* The first step does not count as the middle until it is committed. */
    dies("Undoing", "run0", JOB_SUCCESSFUL, "run0 run0 commit0 run1 commit1 run2 commit2 ");
    dies("Undoing", "commit0", JOB_SUCCESSFUL,
         "run0 commit0 run0 commit0 run1 commit1 run2 commit2 ");
    dies("Undoing", "run1", JOB_FAILED, "run0 commit0 run1 undo1 undo0 undone ");
    dies("Undoing", "commit1", JOB_FAILED, "run0 commit0 run1 commit1 undo1 undo0 undone ");
    dies("Undoing", "run2", JOB_FAILED, "run0 commit0 run1 commit1 run2 undo2 undo1 undo0 undone ");
    dies("Undoing", "commit2", JOB_FAILED,
         "run0 commit0 run1 commit1 run2 commit2 undo2 undo1 undo0 undone ");
    fail_at = "run2";
    dies("Resuming", "undo2", JOB_FAILED,
         "run0 commit0 run1 commit1 run2 undo2 undo2 undo1 undo0 undone ");
    dies("Resuming", "undo1", JOB_FAILED,
         "run0 commit0 run1 commit1 run2 undo2 undo1 undo2 undo1 undo0 undone ");
    dies("Resuming", "undo0", JOB_FAILED,
         "run0 commit0 run1 commit1 run2 undo2 undo1 undo0 undo2 undo1 undo0 undone ");
    dies("Resuming", "undone", JOB_FAILED,
         "run0 commit0 run1 commit1 run2 undo2 undo1 undo0 undone undo2 undo1 undo0 undone ");
    fail_at = "";
}

/* Of a verb that is bounded, some wait, and no thread waits with them. */
static void test_at_once(void) {
    struct db *db = record_open();
    struct jobs *jobs = engine(db, 3, 0);
    char bounded[5][IM_JOB_ID_MAX], other[IM_JOB_ID_MAX];
    IM_AUTO(job_free_auto) struct job *last = NULL;
    IM_AUTO(free_auto) char *done = NULL;
    struct im_err err = {0};

    singles_most = 0;
    check_ok(jobs_start(jobs, &err), "an engine of three threads");
    for (size_t i = 0; i < 5; i++) {
        add(jobs, db, "Single", (const char *const[]){"res-1"}, 1, bounded[i]);
        jobs_wake(jobs, bounded[i]);
    }
    im_sleep_ms(50);
    add(jobs, db, "Naming", (const char *const[]){"passes"}, 1, other);
    jobs_wake(jobs, other);
    check_ok(jobs_wait(jobs, other, 30000, &err), "another job goes past them");
    done = trace_take();
    check(strcmp(done, "passes ") == 0 && singles == 1, "while one is at work, and four wait");
    {
        IM_AUTO(db_give_auto) struct db_conn *conn = db_take(db, &err);

        check_ok(db_begin(conn, &err) && jobs_cancel(jobs, conn, bounded[4], &err) &&
                     db_commit(conn, &err),
                 "one that waits is cancelled");
    }
    for (size_t i = 0; i < 5; i++)
        check_ok(jobs_wait(jobs, bounded[i], 30000, &err), "each ends");
    last = job_of(db, bounded[4]);
    check(singles_most == 1, "never two at once");
    check(last->status == JOB_FAILED, "the cancelled one never began");
    jobs_stop(jobs);
    db_close(db);
}

static void suite(void) {
    test_at_once();
    test_order();
    test_partly();
    test_cancel();
    test_numbers();
    test_looking_after();
    test_faults();
    test_stop_in_trouble();
    test_death();
}

int main(void) {
    uri = im_printf("sqlite:%s/jobs.db", test_folder());
    trace_path = im_printf("%s/trace", test_folder());
    im_log_set_level(IM_LOG_ERROR);
    suite();
    free(uri);
    if (postgres_start()) {
        uri = postgres_database("jobs");
        suite();
        test_away();
        free(uri);
    }
    free(trace_path);
    return test_end();
}
