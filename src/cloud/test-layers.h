/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of what becomes of chains: layers of a local pool, written by QEMU's tools. */
#ifndef CLOUD_TEST_LAYERS_H
#define CLOUD_TEST_LAYERS_H

#include "test-moments.h"
#include "test-verbs.h"

/* The file of a layer, of the head of an instance, of a point; owned, NULL with a remark. */
char *layers_path(struct rig *rig, const char *layer_id);
char *layers_head(struct rig *rig, const char *instance_id);
char *layers_of_point(struct rig *rig, const char *snapshot_id);
/* Data over data, data of its own, and zeros over data, by number. */
bool layers_scribble(struct rig *rig, const char *instance_id, int point);
/* A snapshot, waited for. */
bool layers_point(struct rig *rig, const char *instance_id, char ret_id[IM_ID_MAX]);
/* One bit of a file flips. */
bool layers_rot(const char *path);
/* The n-th call of this thread ends so. */
void layers_arm(struct rig *rig, unsigned n, bool after, enum moment_end end);

#endif
