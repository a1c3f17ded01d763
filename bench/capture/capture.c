/* SPDX-License-Identifier: Apache-2.0 */
/* Capture of a stopped instance with 64 MiB written to its disk, and of one with 8 GiB, by turns:
 * time from the call to the end of the job. What is on the disk may not show.
 *
 *     capture [FOLDER]      default: the current folder; takes 8 GiB there */
#include <stdio.h>

#include "../cloud.h"

enum { ROUNDS = 3, LITTLE_MIB = 64, MUCH_MIB = 8192, MOST_MS = 2000 };
#define GOAL 0.67

static struct rig rig;

static bool gone(const char *instance_id, const char *image_id, struct im_err *err) {
    IM_AUTO(im_strings_done)
    struct im_strings instances = rig_ids(instance_id), images = rig_ids(image_id);
    IM_AUTO(free_auto) char *faults = NULL;
    char job_id[IM_JOB_ID_MAX];

    if (!cloud_instances_terminate(rig.cloud, &rig.alice, &instances, true, job_id, err) ||
        !bench_job(&rig, job_id, err) ||
        !cloud_images_delete(rig.cloud, &rig.alice, &images, true, job_id, err) ||
        !bench_job(&rig, job_id, err))
        return false;
    faults = rig_faults(&rig); /* waits until the layers are gone */
    return faults[0] == '\0' || im_fail(err, IM_INTERNAL, "%s", faults);
}

static bool one(int64_t mib, double *ret_ms, struct im_err *err) {
    char instance_id[IM_ID_MAX], image_id[IM_ID_MAX], job_id[IM_JOB_ID_MAX];
    struct image_capture_args args = {.instance_id = instance_id, .image_name = "captured"};
    double start;

    rig_instance(&rig, &rig.alice, "base", false, instance_id);
    if (!bench_write(&rig, instance_id, mib, err))
        return false;
    start = bench_now_ms();
    if (!cloud_image_capture(rig.cloud, &rig.alice, &args, image_id, job_id, err) ||
        !bench_job(&rig, job_id, err))
        return false;
    *ret_ms = bench_now_ms() - start;
    return gone(instance_id, image_id, err);
}

int main(int argc, char **argv) {
    double little[ROUNDS], much[ROUNDS], few, many;
    struct im_err err = {0};
    bool fine;

    bench_open(&rig, "capture", argc, argv);
    fine = bench_image(&rig, "base", 20, 64, &err);
    for (int i = 0; i < ROUNDS && fine; i++)
        fine = one(LITTLE_MIB, &little[i], &err) && one(MUCH_MIB, &much[i], &err);
    bench_close(&rig);
    if (!fine) {
        fprintf(stderr, "capture: %s\n", err.text);
        return 1;
    }
    few = bench_median(little, ROUNDS);
    many = bench_median(much, ROUNDS);
    printf("%d MiB written: median %.2f ms\n", LITTLE_MIB, few);
    printf("%d MiB written: median %.2f ms\n", MUCH_MIB, many);
    printf("capture: ratio %.2f, goal %.2f\n", few / many, GOAL);
    return many < MOST_MS ? 0 : 1;
}
