/* SPDX-License-Identifier: Apache-2.0 */
/* Lines for the operator, on standard error. Only the outer rooms log; inner ones return errors.
 * Never log a secret: no keys, passwords, signatures or user data. */
#ifndef IM_LOG_H
#define IM_LOG_H

enum im_log_level { IM_LOG_ERROR, IM_LOG_WARNING, IM_LOG_INFO, IM_LOG_DEBUG };

/* Highest level that is written; IM_LOG_INFO at start. */
void im_log_set_level(enum im_log_level level);
/* What this thread works for ("j-…", a request id); shown in each of its lines. NULL ends it.
 * Copied. */
void im_log_set_context(const char *context);
/* One line: time, level, area, context, text. Control characters in the text are replaced. */
void im_log(enum im_log_level level, const char *area, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
#define im_error(area, ...) im_log(IM_LOG_ERROR, area, __VA_ARGS__)
#define im_warn(area, ...) im_log(IM_LOG_WARNING, area, __VA_ARGS__)
#define im_info(area, ...) im_log(IM_LOG_INFO, area, __VA_ARGS__)
#define im_debug(area, ...) im_log(IM_LOG_DEBUG, area, __VA_ARGS__)

#endif
