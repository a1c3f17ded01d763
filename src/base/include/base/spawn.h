/* SPDX-License-Identifier: Apache-2.0 */
/* Running other programs: never through a shell, never with a secret in argv. */
#ifndef IM_SPAWN_H
#define IM_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* Runs argv[0] (looked up in PATH) to its end with `input` (may be NULL) on stdin. On exit status 0
 * hands its stdout to the caller (at most 1 MiB; ret_output may be NULL). Otherwise fails with
 * IM_INTERNAL and the last line of its stderr, or IM_TIMEOUT after timeout_ms, when it is killed.
 */
bool im_run(const char *const argv[], const char *input, int64_t timeout_ms, char **ret_output,
            struct im_err *err);
/* Starts argv[0] in its own session with stdin from /dev/null and stdout and stderr appended to
 * log_path (NULL: /dev/null). */
bool im_start(const char *const argv[], const char *log_path, pid_t *ret_pid, struct im_err *err);

#endif
