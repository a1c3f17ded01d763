/* SPDX-License-Identifier: Apache-2.0 */
/* What a list costs: 20 of a user's images out of 1,000, newest first, with the number of all of
 * them, as DescribeImages asks for it. The database is the only peer; the goal is a time.
 *
 *     record [URI]      default: a SQLite file in the current folder, gone afterwards */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "record/record.h"

enum { IMAGES = 1000, ROUNDS = 2000, LIMIT = 20 };
#define GOAL_US 100.0

static double now_us(void) {
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double) ts.tv_sec * 1e6 + (double) ts.tv_nsec / 1e3;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}

static bool fill(struct db_conn *conn, void *arg, struct im_err *err) {
    (void) arg;
    for (int i = 0; i < IMAGES; i++) {
        char id[32], name[32], layer[32];
        struct image image = {.image_id = id,
                              .image_name = name,
                              .description = "an image of some length, as people describe them",
                              .owner = i % 2 ? "usr-odd" : "usr-even",
                              .visibility = i % 10 == 0 ? "public" : "private",
                              .status = i % 20 == 0 ? IMAGE_DELETED : IMAGE_AVAILABLE,
                              .processor_type = "64bit",
                              .platform = "linux",
                              .os_family = "debian",
                              .provider = "self",
                              .layer_id = layer,
                              .size = 20,
                              .create_time = 1700000000 + i};

        snprintf(id, sizeof(id), "img-%08d", i);
        snprintf(name, sizeof(name), "web %d", i);
        snprintf(layer, sizeof(layer), "ly-%08d", i);
        if (!record_insert(conn, &image_type, &image, err))
            return false;
    }
    return true;
}

/* One list; false also when it is not what it should be. */
static bool list(struct db *db, double *ret_us, struct im_err *err) {
    double begin = now_us();
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(db, err);
    IM_AUTO(query_done)
    struct query query = {.limit = LIMIT, .visible_to = im_strdup("usr-odd")};
    void **objects = NULL;
    size_t count = 0;
    int64_t total = 0;

    query_add(&query, "status", CONDITION_NOT_IN, "ceased");
    if (conn == NULL || !record_list(conn, &image_type, &query, &objects, &count, &total, err))
        return false;
    record_list_free(&image_type, objects, count);
    *ret_us = now_us() - begin;
    return (count == LIMIT && total == 600) ||
           im_fail(err, IM_INTERNAL, "%zu of %" PRId64 " images are listed", count, total);
}

static bool measure(const char *uri, double *ret_us, struct im_err *err) {
    IM_AUTO(free_auto) double *us = im_alloc(ROUNDS * sizeof(*us));
    struct db *db = db_open(uri, err);
    bool fine = db != NULL && db_migrate(db, err) && db_transact(db, fill, NULL, err);

    for (int i = 0; i < ROUNDS && fine; i++)
        fine = list(db, &us[i], err);
    db_close(db);
    qsort(us, ROUNDS, sizeof(*us), by_size);
    printf("%s: list of %d out of %d and count: %.0f us, nine of ten under %.0f us\n",
           strncmp(uri, "sqlite", 6) == 0 ? "SQLite" : "PostgreSQL", LIMIT, IMAGES, us[ROUNDS / 2],
           us[ROUNDS / 10 * 9]);
    *ret_us = us[ROUNDS / 2];
    return fine;
}

int main(int argc, char **argv) {
    static const char *const ends[] = {"", "-wal", "-shm"};
    char path[64] = "bench-record-XXXXXX", uri[96];
    struct im_err err = {0};
    double us = 0;
    bool fine;
    int fd = argc > 1 ? -1 : mkstemp(path);

    if (fd >= 0)
        close(fd);
    snprintf(uri, sizeof(uri), "sqlite:%s", path);
    fine = measure(argc > 1 ? argv[1] : uri, &us, &err);
    for (size_t i = 0; i < 3 && argc < 2; i++) {
        snprintf(uri, sizeof(uri), "%s%s", path, ends[i]);
        unlink(uri);
    }
    if (!fine) {
        fprintf(stderr, "record: %s\n", err.text);
        return 1;
    }
    printf("record: ratio %.2f, goal 1\n", GOAL_US / us);
    return GOAL_US / us >= 1 ? 0 : 2;
}
