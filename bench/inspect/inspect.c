/* SPDX-License-Identifier: Apache-2.0 */
/* What a look into a disk costs: ours, of a qcow2 file in this process and with the start of its
 * sandboxed worker, against what there is otherwise: virt-inspector where it is installed and
 * works, else only `qemu-img convert` of its first mebibyte and `blkid`, which tell far less.
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
#define INSPECTOR_ROUNDS 3 /* it takes the better part of a minute without KVM */
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

static double median(double *times, size_t count) {
    qsort(times, count, sizeof(*times), by_size);
    return times[count / 2];
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

/* virt-inspector with what its QEMU needs here: "" or a setting of libguestfs. */
static bool by_inspector(const char *path, const char *setting, struct im_err *err) {
    IM_AUTO(free_auto)
    char *text = im_printf("LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=%s "
                           "virt-inspector --format=qcow2 -a '%s' >/dev/null 2>&1",
                           setting, path);

    return im_run((const char *const[]){"sh", "-c", text, NULL}, NULL, 600000, NULL, err);
}

static bool by_blkid(const char *path, struct im_err *err) {
    IM_AUTO(free_auto)
    char *text = im_printf("qemu-img dd -f qcow2 -O raw bs=1M count=1 if='%s' of='%s.head' && "
                           "{ blkid -p '%s.head'; rm '%s.head'; } >/dev/null",
                           path, path, path, path);

    return im_run((const char *const[]){"sh", "-c", text, NULL}, NULL, 600000, NULL, err);
}

/* A first run makes libguestfs's appliance, and tells whether its QEMU starts with KVM where there
 * is a /dev/kvm; NULL = virt-inspector is not to be had. */
static const char *inspector_setting(const char *path) {
    static const char *const settings[] = {"", "force_tcg"};
    struct im_err err = {0};

    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        if (by_inspector(path, settings[i], &err))
            return settings[i];
    return NULL;
}

static bool measure(const char *path, int fd, uint64_t len, const char *worker,
                    struct im_err *err) {
    const char *setting = inspector_setting(path);
    double ours[ROUNDS], started[ROUNDS], theirs[ROUNDS], mine, peer;
    size_t peers = setting != NULL ? INSPECTOR_ROUNDS : ROUNDS;
    uint64_t bytes = 0;

    for (size_t i = 0; i < ROUNDS; i++) {
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
        if (i < peers && !(setting ? by_inspector(path, setting, err) : by_blkid(path, err)))
            return false;
        theirs[i] = now_ms() - start;
    }
    mine = median(ours, ROUNDS);
    peer = median(theirs, peers);
    printf("a look: %.2f ms, %" PRIu64 " KiB read (goal: under %.0f ms); with its worker: %.1f ms; "
           "%s: %.1f ms\n",
           mine, bytes >> 10, GOAL_MS, worker ? median(started, ROUNDS) : 0.0,
           setting ? "virt-inspector" : "qemu-img and blkid", peer);
    printf("inspect: ratio %.1f, goal %.1f\n", peer / mine, setting ? GOAL_INSPECTOR : GOAL_BLKID);
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
