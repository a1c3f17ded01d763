/* SPDX-License-Identifier: Apache-2.0 */
/* One defect each, planted in a system that has none. */
#include "test-systems.h"

#define PUT(...)                                                                                   \
    (const struct entry[]) {                                                                       \
        __VA_ARGS__, { NULL }                                                                      \
    }

#define FINDS(family, name, entries, codes, words)                                                 \
    { family, name, entries, codes, words, false }

const struct defect defects[] = {
    FINDS("Debian 12", "a machine's own name", PUT({"/etc/machine-id", "0123456789abcdef\n"}),
          "identity.machine", "/etc/machine-id"),
};
const size_t defect_count = sizeof(defects) / sizeof(defects[0]);
