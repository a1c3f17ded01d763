/* SPDX-License-Identifier: Apache-2.0 */
/* See test-layers.h. */
#include "test-layers.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "harness/run.h"

char *layers_path(struct rig *rig, const char *layer_id) {
    struct storage_source source = {0};
    struct im_err err = {0};
    char *path = NULL;

    if (!storage_attach_info(rig->pool, layer_id, &source, &err))
        test_note("%s", err.text);
    else
        path = im_steal(&source.path);
    storage_source_done(&source);
    return path;
}

char *layers_head(struct rig *rig, const char *instance_id) {
    IM_AUTO(instance_free_auto) struct instance *instance = rig_instance_row(rig, instance_id);

    return instance ? layers_path(rig, instance->layer_id) : NULL;
}

/* Data over data, data of its own, and zeros over data. */
bool layers_scribble(struct rig *rig, const char *instance_id, int point) {
    IM_AUTO(free_auto) char *path = layers_head(rig, instance_id);
    IM_AUTO(free_auto) char *over = im_printf("write -P %d 1M %dk", point + 1, 256 - 64 * point);
    IM_AUTO(free_auto) char *own = im_printf("write -P %d %dM 2M", point + 11, 8 + 4 * point);
    IM_AUTO(free_auto) char *zero = im_printf("write -z %dM 512k", 5 + 4 * point);

    return path != NULL && RUN("qemu-io", "-f", "qcow2", "-c", over, "-c", own, "-c", zero, path);
}

void layers_arm(struct rig *rig, unsigned n, bool after, enum moment_end end) {
    struct moments moments = {.at = n,
                              .after = after,
                              .end = end,
                              .code = IM_NO_SPACE,
                              .exempt = rig->cloud->background,
                              .main = pthread_self()};

    moments_arm(&moments);
    moments_enter();
}

bool layers_point(struct rig *rig, const char *instance_id, char ret_id[IM_ID_MAX]) {
    IM_AUTO(im_strings_done) struct im_strings ids = rig_ids(instance_id), made = {0};
    struct snapshot_create_args args = {.resources = &ids};
    char job_id[IM_JOB_ID_MAX];
    struct im_err err = {0};

    if (!cloud_snapshots_create(rig->cloud, &rig->alice, &args, &made, job_id, &err)) {
        test_note("%s", err.text);
        return false;
    }
    snprintf(ret_id, IM_ID_MAX, "%s", made.items[0]);
    return rig_done(rig, job_id);
}

char *layers_of_point(struct rig *rig, const char *snapshot_id) {
    IM_AUTO(snapshot_free_auto) struct snapshot *snapshot = rig_snapshot_row(rig, snapshot_id);

    return snapshot ? layers_path(rig, snapshot->layer_id) : NULL;
}

bool layers_rot(const char *path) {
    unsigned char byte;
    IM_AUTO(fd_auto) int fd = open(path, O_RDWR | O_CLOEXEC);

    if (fd < 0 || pread(fd, &byte, 1, 6 << 16) != 1)
        return false;
    byte ^= 1;
    return pwrite(fd, &byte, 1, 6 << 16) == 1;
}
