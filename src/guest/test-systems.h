/* SPDX-License-Identifier: Apache-2.0 */
/* Files of the systems that test-systems.c makes disks of. */
#ifndef TEST_SYSTEMS_H
#define TEST_SYSTEMS_H

#include <stdbool.h>
#include <stddef.h>

#include "test-disk.h"

#define ROOT_UUID "11111111-2222-3333-4444-555555555555"
#define LINK "-> " /* a text that begins so is a link's target */

struct entry {
    const char *path; /* with a slash at its end: a folder; "/make": run there, then taken away */
    const char *text; /* NULL: not there after all */
};
struct family {
    const char *name;
    const struct entry *entries;
    const char *osinfo, *init;
    unsigned packages;
    bool desktop;
};
struct defect {
    const char *family, *name;
    const struct entry *entries; /* in place of, or beside, the family's own */
    const char *codes;           /* of its errors and warnings */
    const char *words;           /* that a finding's text has; NULL = any */
    bool all;                    /* codes has those of severity info as well */
};

/* A disk with the entries of all these lists, each of which ends with an empty one; later ones go
 * over earlier ones. */
struct disk make_system(const struct entry *const *parts, size_t count);
const struct family *family_named(const char *name); /* NULL = none */

extern const struct family families[];
extern const size_t family_count;
extern const struct defect defects[];
extern const size_t defect_count;

#endif
