/* SPDX-License-Identifier: Apache-2.0 */
/* What the measurements of whole verbs share: a cloud over a pool of qcow2 files and the hypervisor
 * in memory, disks with something written on them, and the time from a call to the end of its job.
 */
#ifndef BENCH_CLOUD_H
#define BENCH_CLOUD_H

#include "../src/cloud/test-rig.h"

/* In a new folder below argv[1] (default: the current one), which is removed by bench_close. */
void bench_open(struct rig *rig, const char *name, int argc, char **argv);
void bench_close(struct rig *rig);

/* An image for all, of that size, with so many bytes really written. */
bool bench_image(struct rig *rig, const char *image_id, int64_t gib, int64_t written_mib,
                 struct im_err *err);
/* Writes to an instance's disk from its beginning, durably. */
bool bench_write(struct rig *rig, const char *instance_id, int64_t mib, struct im_err *err);

double bench_now_ms(void);
/* Waits for the end of the job without the pauses of a client; false unless it was successful. */
bool bench_job(struct rig *rig, const char *job_id, struct im_err *err);
double bench_median(double *times, size_t count);

#endif
