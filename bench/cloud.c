/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the measurements of whole verbs. */
#include "cloud.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/spawn.h"

enum { WRITE_MIB = 64, JOB_MS = 600000, COMMAND_MS = 600000 };

static char *folder;

void bench_open(struct rig *rig, const char *name, int argc, char **argv) {
    struct rig_options options = {.local = true};
    IM_AUTO(free_auto) char *template = im_printf("%s/%s-XXXXXX", argc > 1 ? argv[1] : ".", name);

    if (mkdtemp(template) == NULL || (folder = realpath(template, NULL)) == NULL) {
        perror(template);
        exit(1);
    }
    rig_open(rig, folder, &options);
}

void bench_close(struct rig *rig) {
    struct im_err err = {0};

    rig_close(rig);
    if (!im_run((const char *const[]){"rm", "-rf", folder, NULL}, NULL, COMMAND_MS, NULL, &err))
        fprintf(stderr, "%s stays\n", folder);
    free(folder);
}

/* In pieces, as qemu-io keeps each in memory. */
static bool write_disk(struct rig *rig, const char *layer, int64_t mib, struct im_err *err) {
    struct storage_source source = {0};
    const char *argv[2 * 8192 / WRITE_MIB + 16] = {"qemu-io", "-t", "writeback", "-f", "qcow2"};
    IM_AUTO(im_strings_done) struct im_strings commands = {0};
    size_t count = 5;
    bool written;

    if (!storage_attach_info(rig->pool, layer, &source, err))
        return false;
    for (int64_t at = 0; at < mib; at += WRITE_MIB) {
        IM_AUTO(free_auto)
        char *command = im_printf("write -q -P 7 %" PRId64 "M %" PRId64 "M", at,
                                  mib - at < WRITE_MIB ? mib - at : WRITE_MIB);

        im_strings_add(&commands, command);
    }
    im_strings_add(&commands, "flush");
    for (size_t i = 0; i < commands.count && count + 4 < sizeof(argv) / sizeof(argv[0]); i++) {
        argv[count++] = "-c";
        argv[count++] = commands.items[i];
    }
    argv[count++] = source.path;
    argv[count] = NULL;
    written = im_run(argv, NULL, COMMAND_MS, NULL, err);
    storage_source_done(&source);
    return written;
}

static bool add_rows(struct rig *rig, const char *image_id, const char *name, int64_t gib,
                     struct im_err *err) {
    IM_AUTO(db_give_auto) struct db_conn *conn = db_take(rig->db, err);
    struct layer layer = {.layer_id = (char *) name,
                          .name = (char *) name,
                          .pool = rig->pool_uri,
                          .state = LAYER_FROZEN,
                          .size_bytes = gib * GIB,
                          .depth = 1,
                          .create_time = im_now_s()};
    struct image image = {.image_id = (char *) image_id,
                          .image_name = (char *) image_id,
                          .size = gib,
                          .size_bytes = gib * GIB,
                          .platform = "linux",
                          .os_family = "debian",
                          .visibility = "public",
                          .provider = "system",
                          .owner = SYSTEM_OWNER,
                          .status = IMAGE_AVAILABLE,
                          .firmware = "bios",
                          .layer_id = (char *) name,
                          .create_time = im_now_s(),
                          .status_time = im_now_s()};

    return conn != NULL && record_insert(conn, &layer_type, &layer, err) &&
           record_insert(conn, &image_type, &image, err);
}

bool bench_image(struct rig *rig, const char *image_id, int64_t gib, int64_t written_mib,
                 struct im_err *err) {
    IM_AUTO(free_auto) char *name = im_printf("l-%s", image_id);
    char frozen[STORAGE_NAME_MAX], head[STORAGE_NAME_MAX];

    return storage_create(rig->pool, name, (uint64_t) (gib * GIB), err) &&
           write_disk(rig, name, written_mib, err) &&
           storage_freeze_begin(rig->pool, name, "l-rest", frozen, head, err) &&
           storage_freeze_end(rig->pool, frozen, err) && storage_remove(rig->pool, head, err) &&
           add_rows(rig, image_id, frozen, gib, err);
}

bool bench_write(struct rig *rig, const char *instance_id, int64_t mib, struct im_err *err) {
    IM_AUTO(instance_free_auto) struct instance *instance = rig_instance_row(rig, instance_id);

    return write_disk(rig, instance->layer_id, mib, err);
}

double bench_now_ms(void) {
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double) ts.tv_sec * 1e3 + (double) ts.tv_nsec / 1e6;
}

bool bench_job(struct rig *rig, const char *job_id, struct im_err *err) {
    double deadline = bench_now_ms() + JOB_MS;

    while (bench_now_ms() < deadline) {
        IM_AUTO(db_give_auto) struct db_conn *conn = db_take(rig->db, err);
        IM_AUTO(job_free_auto) struct job *job = NULL;

        if (conn == NULL || !record_get(conn, &job_type, job_id, &job, err))
            return false;
        if (job->status == JOB_SUCCESSFUL)
            return true;
        if (job->status == JOB_FAILED)
            return im_fail(err, IM_INTERNAL, "%s: %s", job->job_action, job->error_message);
        usleep(100);
    }
    return im_fail(err, IM_TIMEOUT, "job %s does not end", job_id);
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}

double bench_median(double *times, size_t count) {
    qsort(times, count, sizeof(*times), by_size);
    return times[count / 2];
}
