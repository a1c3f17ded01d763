/* SPDX-License-Identifier: Apache-2.0 */
/* Ownership that can be seen: locals that clean up after themselves, and a visible hand-over.
 *
 *     IM_AUTO(free_auto) char *name = NULL;
 *     ...
 *     *ret_name = im_steal(&name);       from here on the caller owns it
 */
#ifndef IM_AUTO_H
#define IM_AUTO_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define IM_AUTO(fn) __attribute__((__cleanup__(fn)))
/* For a pointer type and its release function: defines fn##_auto. */
#define IM_DEFINE_AUTO(type, fn)                                                                   \
    static inline void fn##_auto(type *slot) {                                                     \
        if (*slot)                                                                                 \
            (void) fn(*slot);                                                                      \
    }
/* Takes the pointer out of its slot and leaves NULL. */
#define im_steal(slot)                                                                             \
    __extension__({                                                                                \
        __typeof__(slot) slot_ = (slot);                                                           \
        __typeof__(*slot_) taken_ = *slot_;                                                        \
        *slot_ = 0;                                                                                \
        taken_;                                                                                    \
    })
#define IM_MUST_CHECK __attribute__((warn_unused_result))

static inline void free_auto(void *slot) { free(*(void **) slot); }
/* For file descriptors, which start at -1. */
static inline void fd_auto(int *fd) {
    if (*fd >= 0)
        (void) close(*fd);
}
static inline int im_steal_fd(int *fd) {
    int taken = *fd;
    *fd = -1;
    return taken;
}
IM_DEFINE_AUTO(FILE *, fclose)

#endif
