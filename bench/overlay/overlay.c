/* SPDX-License-Identifier: Apache-2.0 */
/* What the disk of a new machine costs: storage_clone of a 20 GiB layer, durable, against
 * `qemu-img create -b`, which is not. Both on the same file system, by turns.
 *
 *     overlay [FOLDER]      default: the current folder */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/spawn.h"
#include "qcow2/qcow2.h"
#include "storage/storage.h"

#define SIZE (20ull << 30)
#define ROUNDS 30
#define GOAL 10.0

static double now_ms(void) {
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double) ts.tv_sec * 1e3 + (double) ts.tv_nsec / 1e6;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}

static double median(double *times) {
    qsort(times, ROUNDS, sizeof(*times), by_size);
    return times[ROUNDS / 2];
}

static bool prepare(struct storage_pool *pool, struct im_err *err) {
    IM_AUTO(fd_auto) int fd = -1;

    return storage_import_begin(pool, "base", &fd, err) &&
           qcow2_overlay_write(fd, NULL, NULL, SIZE, err) &&
           storage_import_end(pool, "base", fd, err);
}

static bool measure(struct storage_pool *pool, const char *folder, double ours[ROUNDS],
                    double theirs[ROUNDS], struct im_err *err) {
    for (int i = 0; i < ROUNDS; i++) {
        IM_AUTO(free_auto) char *name = im_printf("clone-%d", i);
        IM_AUTO(free_auto) char *path = im_printf("%s/qemu-%d.qcow2", folder, i);
        const char *const argv[] = {
            "qemu-img", "create", "-q", "-f", "qcow2", "-b", "pool/layers/base.qcow2",
            "-F",       "qcow2",  path, NULL};
        double start = now_ms();

        if (!storage_clone(pool, "base", name, SIZE, err))
            return false;
        ours[i] = now_ms() - start;
        start = now_ms();
        if (!im_run(argv, NULL, 60000, NULL, err))
            return false;
        theirs[i] = now_ms() - start;
    }
    return true;
}

int main(int argc, char **argv) {
    IM_AUTO(free_auto) char *folder = im_printf("%s/overlay-XXXXXX", argc > 1 ? argv[1] : ".");
    IM_AUTO(free_auto) char *remove = NULL;
    IM_AUTO(storage_close_auto) struct storage_pool *pool = NULL;
    double ours[ROUNDS], theirs[ROUNDS];
    struct im_err err = {0};
    bool fine;

    if (mkdtemp(folder) == NULL) {
        perror(folder);
        return 1;
    }
    remove = realpath(folder, NULL);
    {
        IM_AUTO(free_auto) char *uri = im_printf("local:%s/pool", remove);

        pool = storage_open(uri, &err);
    }
    fine = pool != NULL && prepare(pool, &err) && measure(pool, remove, ours, theirs, &err);
    if (!im_run((const char *const[]){"rm", "-rf", remove, NULL}, NULL, 60000, NULL,
                &(struct im_err){0}))
        fprintf(stderr, "%s stays\n", remove);
    if (!fine) {
        fprintf(stderr, "overlay: %s\n", err.text);
        return 1;
    }
    printf("storage_clone, durable: median %.3f ms\n", median(ours));
    printf("qemu-img create -b, not durable: median %.3f ms\n", median(theirs));
    printf("overlay: ratio %.1f, goal %.0f\n", median(theirs) / median(ours), GOAL);
    return 0;
}
