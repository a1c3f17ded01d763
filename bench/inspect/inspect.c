/* SPDX-License-Identifier: Apache-2.0 */
/* What a look into a disk costs: ours, of a qcow2 file in this process and with the start of its
 * sandboxed worker, against what there is otherwise: virt-inspector where it is installed, else
 * only `qemu-img convert` of its first mebibyte and `blkid`, which tell far less.
 *
 *     inspect DISK.qcow2 [WORKER]     the disk is not written to */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/spawn.h"
#include "guest/inspect.h"
#include "jobs/worker.h"
#include "qcow2/chain.h"

#define ROUNDS 15
#define GOAL_MS 10.0
#define GOAL_INSPECTOR 1000.0 /* against libguestfs */
#define GOAL_BLKID 1.0        /* against mere recognition */

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

static bool read_chain(void *arg, uint64_t offset, void *bytes, size_t len, struct im_err *err) {
    return qcow2_chain_read(arg, offset, bytes, len, err);
}

static bool look(int fd, uint64_t len, struct guest_inspection **ret_found, struct im_err *err) {
    IM_AUTO(qcow2_chain_free_auto) struct qcow2_chain *chain = NULL;
    struct qcow2_layer layer = {.fd = fd, .file_size = len};
    struct guest_source source = {.read = read_chain};

    if (!qcow2_chain_open(&layer, 1, &chain, err))
        return false;
    source.arg = chain;
    source.size_bytes = qcow2_chain_size(chain);
    return guest_inspect(&source, ret_found, err);
}

static bool by_worker(int fd, const char *program, struct im_err *err) {
    IM_AUTO(free_auto) char *report = NULL;

    return worker_run(&(struct worker_call){.program = program,
                                            .verb = "inspect",
                                            .request = "{\"layers\":\"qcow2\"}",
                                            .fds = &fd,
                                            .fd_count = 1},
                      &report, err);
}

static bool by_peer(const char *path, bool inspector, struct im_err *err) {
    IM_AUTO(free_auto)
    char *text =
        inspector ? im_printf("LIBGUESTFS_BACKEND=direct virt-inspector --format=qcow2 '%s' "
                              ">/dev/null 2>&1",
                              path)
                  : im_printf("qemu-img dd -f qcow2 -O raw bs=1M count=1 if='%s' of='%s.head' && "
                              "{ blkid -p '%s.head'; rm '%s.head'; } >/dev/null",
                              path, path, path, path);

    return im_run((const char *const[]){"sh", "-c", text, NULL}, NULL, 600000, NULL, err);
}

static bool measure(const char *path, int fd, uint64_t len, const char *worker,
                    struct im_err *err) {
    bool inspector = system("command -v virt-inspector >/dev/null") == 0;
    double ours[ROUNDS], started[ROUNDS], theirs[ROUNDS], mine, peer;
    uint64_t bytes = 0;

    for (int i = 0; i < ROUNDS; i++) {
        IM_AUTO(guest_inspection_free_auto) struct guest_inspection *found = NULL;
        double start = now_ms();

        if (!look(fd, len, &found, err))
            return false;
        ours[i] = now_ms() - start;
        bytes = found->read_bytes;
        start = now_ms();
        if (worker != NULL && !by_worker(fd, worker, err))
            return false;
        started[i] = now_ms() - start;
        start = now_ms();
        if ((!inspector || i == 0) && !by_peer(path, inspector, err))
            return false;
        theirs[i] = inspector && i > 0 ? theirs[0] : now_ms() - start;
    }
    mine = median(ours);
    peer = median(theirs);
    printf("a look: %.2f ms, %" PRIu64 " KiB read (goal: under %.0f ms); with its worker: %.1f ms; "
           "%s: %.1f ms\n",
           mine, bytes >> 10, GOAL_MS, worker ? median(started) : 0.0,
           inspector ? "virt-inspector" : "qemu-img and blkid", peer);
    printf("inspect: ratio %.1f, goal %.1f\n", peer / mine,
           inspector ? GOAL_INSPECTOR : GOAL_BLKID);
    return true;
}

int main(int argc, char **argv) {
    IM_AUTO(fd_auto) int fd = argc > 1 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
    struct im_err err = {0};
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) {
        fprintf(stderr, "usage: inspect DISK.qcow2 [WORKER]\n");
        return 2;
    }
    if (measure(argv[1], fd, (uint64_t) st.st_size, argc > 2 ? argv[2] : NULL, &err))
        return 0;
    fprintf(stderr, "%s\n", err.text);
    return 1;
}
