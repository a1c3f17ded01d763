/* SPDX-License-Identifier: Apache-2.0 */
/* For tests that make their disks with other programs: runs one, and tells what it said if it
 * failed. RUN("qemu-img", "create", …) */
#ifndef HARNESS_RUN_H
#define HARNESS_RUN_H

#include "base/spawn.h"
#include "harness/test.h"

enum { TEST_RUN_MS = 120000 };

static inline bool test_run(const char *const argv[]) {
    struct im_err err = {0};

    if (im_run(argv, NULL, TEST_RUN_MS, NULL, &err))
        return true;
    test_note("%s", err.text);
    return false;
}
#define RUN(...) test_run((const char *const[]){__VA_ARGS__, NULL})

#endif
