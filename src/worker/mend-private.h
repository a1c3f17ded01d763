/* SPDX-License-Identifier: Apache-2.0 */
/* What the two files of the verb mend share. */
#ifndef WORKER_MEND_PRIVATE_H
#define WORKER_MEND_PRIVATE_H

#include "worker-private.h"

/* Starts QEMU with the request's layers, in the sandbox. `link` is its side of the socket, whatever
 * its number; the descriptors from 3 on are the layers. *ret_console is what it and its kernel say,
 * until its end. It is killed when this process ends. */
bool appliance_start(const struct request *request, int link, pid_t *ret_pid, int *ret_console,
                     struct im_err *err);

#endif
