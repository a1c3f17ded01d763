/* SPDX-License-Identifier: Apache-2.0 */
/* The verb fold: several layers of a pool made into one, at a rate that leaves the disks to those
 * who work on them. */
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "qcow2/fold.h"
#include "worker-private.h"

enum { NICE = 19, IO_WHO_PROCESS = 1, IO_CLASS_SHIFT = 13, IO_CLASS_IDLE = 3, NAP_MS = 500 };
#define SYNC_BYTES (64ull << 20)

/* Whoever else wants processor or disk goes first; where that is not to be had, the rate is all. */
static void step_back(void) {
    if (setpriority(PRIO_PROCESS, 0, NICE) < 0 ||
        syscall(SYS_ioprio_set, IO_WHO_PROCESS, 0, IO_CLASS_IDLE << IO_CLASS_SHIFT) < 0)
        im_debug("worker", "no lower priority: errno %d", errno);
}

struct pace {
    uint64_t rate, size, synced;
    int64_t began_ms;
};

/* The disk keeps up with what is counted: a rate that only fills memory would be none. */
static bool keep_pace(void *arg, uint64_t done, uint64_t copied, struct im_err *err) {
    struct pace *pace = arg;
    int64_t due_ms = pace->began_ms + (int64_t) (copied * 1000 / pace->rate);

    if (copied - pace->synced >= SYNC_BYTES) {
        if (fdatasync(WORKER_FD_FOLDED) < 0)
            return im_fail_sys(err, errno, "the layer");
        pace->synced = copied;
    }
    report_progress("fold", done, pace->size);
    for (int64_t left = due_ms - im_mono_ms(); left > 0; left = due_ms - im_mono_ms()) {
        im_sleep_ms(left < NAP_MS ? left : NAP_MS);
        report_progress("fold", done, pace->size);
    }
    return true;
}

/* Descriptors from WORKER_FD_LAYERS on, as many as are open. */
static bool find_layers(struct qcow2_layer layers[WORKER_LAYERS_MAX], size_t *ret_count,
                        struct im_err *err) {
    struct stat st;
    size_t count = 0;

    for (; count < WORKER_LAYERS_MAX && fstat(WORKER_FD_LAYERS + (int) count, &st) == 0; count++)
        layers[count] = (struct qcow2_layer){.fd = WORKER_FD_LAYERS + (int) count,
                                             .file_size = (uint64_t) st.st_size};
    *ret_count = count;
    return count > 0 ||
           im_fail(err, IM_BAD_MESSAGE, "descriptor %d (a layer) is not open", WORKER_FD_LAYERS);
}

static void tell_result(uint64_t copied) {
    struct wire_writer writer = {0};

    wire_object_begin(&writer, NULL);
    wire_int(&writer, "copied_bytes", (int64_t) copied);
    wire_object_end(&writer);
    report_result(writer.text.data);
    im_str_done(&writer.text);
}

bool verb_fold(const struct request *request, struct im_err *err) {
    struct qcow2_layer layers[WORKER_LAYERS_MAX];
    struct pace pace = {.rate = request->rate, .began_ms = im_mono_ms()};
    struct qcow2_fold fold = {.layers = layers,
                              .backing = request->backing[0] ? request->backing : NULL,
                              .pace = keep_pace,
                              .arg = &pace};
    struct qcow2_info info;
    uint64_t copied;

    step_back();
    if (!find_layers(layers, &fold.count, err) || !enter_sandbox(request, err) ||
        !qcow2_info_read(layers[0].fd, &info, err))
        return false;
    pace.size = info.size_bytes;
    report_progress("fold", 0, pace.size);
    if (!qcow2_fold(WORKER_FD_FOLDED, &fold, &copied, err))
        return false;
    tell_result(copied);
    return true;
}
