/* SPDX-License-Identifier: Apache-2.0 */
/* One line per event on standard error, written by a single write(2) so that threads do not mix. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

static enum im_log_level max_level = IM_LOG_INFO;
static __thread char context[64];

void im_log_set_level(enum im_log_level level) { max_level = level; }

void im_log_set_context(const char *text) {
    snprintf(context, sizeof(context), "%s", text ? text : "");
}

void im_log(enum im_log_level level, const char *area, const char *format, ...) {
    static const char *const names[] = {"error", "warning", "info", "debug"};
    char line[1400], now[IM_TIME_TEXT];
    size_t len;
    va_list args;

    if (level > max_level)
        return;
    im_time_format(im_now_s(), now);
    snprintf(line, 256, "%s %s %s%s%s: ", now, names[level], area, context[0] ? " " : "", context);
    len = strlen(line);
    va_start(args, format);
    vsnprintf(line + len, sizeof(line) - len - 1, format, args);
    va_end(args);
    for (char *p = line; *p != '\0'; p++)
        if ((unsigned char) *p < ' ' || *p == 0x7f)
            *p = ' ';
    len = strlen(line);
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, len) < 0)
        return; /* nowhere left to complain */
}
