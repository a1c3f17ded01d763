/* SPDX-License-Identifier: Apache-2.0 */
/* The cloud's peer in the tests of http/: the same functions over a few things in memory, and what
 * they were called with. */
#ifndef HTTP_FAKE_CLOUD_H
#define HTTP_FAKE_CLOUD_H

#include "cloud/cloud.h"

#define FAKE_ADMIN_KEY "TESTACCESSKEY0000001"
#define FAKE_USER_KEY "TESTACCESSKEY0000002"
#define FAKE_SECRET "testsecretkeytestsecretkey0000000000000A"

struct fake {
    uint64_t generation;   /* what db_generation() tells */
    unsigned image_lists;  /* calls of cloud_images() */
    struct im_err fail;    /* the next verb fails with it, when its code is set */
    char last[64];         /* name of the verb that was called last */
    struct im_strings ids; /* it was given */
    char *texts[4];        /* and texts of interest, see each verb */
    int64_t numbers[4];
    bool flags[2];
    struct query query; /* the list's, borrowed texts included */
    char upload_path[256];
    bool upload_waits;
    int console_peer; /* the machine's end of the console, -1 when none is open */
    int64_t image_count;
};
extern struct fake fake;
struct cloud *fake_cloud(void);
void fake_done(void);

#endif
