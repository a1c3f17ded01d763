/* SPDX-License-Identifier: Apache-2.0 */
/* One machine that is started to see it start. */
#ifndef CLOUD_BOOT_RUN_H
#define CLOUD_BOOT_RUN_H

#include "boot-watch.h"
#include "cloud-private.h"

enum { BOOT_SERIAL_MAX = 4 << 20 }; /* consoles' logs are cut at a quarter of it */

struct boot_machine {
    const char *name;     /* its own: a boot test's id */
    const char *layer_id; /* a head that nobody else uses */
    const char *firmware;
    int64_t vcpus, memory_mib, timeout_ms;
    const volatile bool *cancel;
    void (*seen)(void *arg, const struct boot_watch *watch); /* several times a second */
    void *arg;
};
/* Zero-initialise. */
struct boot_report {
    struct boot_watch watch; /* that is over */
    int64_t over_ms;         /* when it was */
    bool clean;              /* it powered off when it was asked to, after off_ms */
    int64_t off_ms;
    char *serial, *screen; /* its serial console's log, a PNG of its screen; NULL = none */
    size_t serial_len, screen_len;
};
void boot_report_done(struct boot_report *report);
/* Begins anew, whatever an earlier run left; afterwards nothing of the machine is left but what is
 * in its head. After a failure boot_forget is called for. */
bool boot_run(struct cloud *cloud, const struct boot_machine *machine,
              struct boot_report *ret_report, struct im_err *err) IM_MUST_CHECK;
/* Off, and nothing is left of it but its head. */
bool boot_forget(struct cloud *cloud, const char *name, struct im_err *err) IM_MUST_CHECK;

#endif
