/* SPDX-License-Identifier: Apache-2.0 */
/* A hundred instances, not started, from one image of 20 GiB, and a hundred from one ten times as
 * large, with ten times as much written on it, by turns: time from the call to the end of the job,
 * and bytes of each disk. Neither the image's size nor the number of instances before it may show.
 *
 *     instances [FOLDER]      default: the current folder */
#include <stdio.h>

#include "../cloud.h"

enum { COUNT = 100, TENTH = COUNT / 10, BYTES_MAX = 1 << 20 };
#define GOAL 0.67

static struct rig rig;

static bool one(const char *image_id, double *ret_ms, uint64_t *bytes, struct im_err *err) {
    struct instance_run_args args = rig_run_args(image_id);
    IM_AUTO(im_strings_done) struct im_strings ids = {0};
    IM_AUTO(instance_free_auto) struct instance *instance = NULL;
    struct storage_usage usage = {0};
    char job_id[IM_JOB_ID_MAX];
    double start = bench_now_ms();

    args.no_start = true;
    if (!cloud_instances_run(rig.cloud, &rig.alice, &args, &ids, job_id, err) ||
        !bench_job(&rig, job_id, err))
        return false;
    *ret_ms = bench_now_ms() - start;
    instance = rig_instance_row(&rig, ids.items[0]);
    if (!storage_usage(rig.pool, instance->layer_id, &usage, err))
        return false;
    if (usage.own_bytes > *bytes)
        *bytes = usage.own_bytes;
    return true;
}

static bool measure(double small[COUNT], double large[COUNT], uint64_t bytes[2],
                    struct im_err *err) {
    if (!bench_image(&rig, "small", 20, 128, err) || !bench_image(&rig, "large", 200, 1280, err))
        return false;
    for (int i = 0; i < COUNT; i++)
        if (!one("small", &small[i], &bytes[0], err) || !one("large", &large[i], &bytes[1], err))
            return false;
    return true;
}

int main(int argc, char **argv) {
    double small[COUNT], large[COUNT], first, last, by_image, by_number;
    uint64_t bytes[2] = {0, 0};
    struct im_err err = {0};
    bool fine;

    bench_open(&rig, "instances", argc, argv);
    fine = measure(small, large, bytes, &err);
    bench_close(&rig);
    if (!fine) {
        fprintf(stderr, "instances: %s\n", err.text);
        return 1;
    }
    first = bench_median(small, TENTH);
    last = bench_median(small + COUNT - TENTH, TENTH);
    printf("the first %d: median %.2f ms, the last %d of %d: %.2f ms\n", TENTH, first, TENTH, COUNT,
           last);
    by_number = first / last;
    first = bench_median(small, COUNT);
    last = bench_median(large, COUNT);
    by_image = first / last;
    printf("image of 20 GiB: median %.2f ms, at most %.0f KiB each\n", first,
           (double) bytes[0] / 1024);
    printf("image of 200 GiB: median %.2f ms, at most %.0f KiB each\n", last,
           (double) bytes[1] / 1024);
    printf("instances: ratio %.2f, goal %.2f\n", by_image < by_number ? by_image : by_number, GOAL);
    return bytes[0] < BYTES_MAX && bytes[1] < BYTES_MAX ? 0 : 1;
}
