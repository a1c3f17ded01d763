/* SPDX-License-Identifier: Apache-2.0 */
/* Time of day, monotonic time, and their RFC 3339 text. */
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

int64_t im_now_s(void) { return (int64_t) time(NULL); }

int64_t im_mono_ms(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void im_sleep_ms(int64_t ms) {
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

struct timespec im_wall_after(int64_t ms) {
    struct timespec then;

    ms = ms < 0 ? 0 : ms;
    clock_gettime(CLOCK_REALTIME, &then);
    then.tv_sec += (time_t) (ms / 1000);
    then.tv_nsec += ms % 1000 * 1000000;
    then.tv_sec += then.tv_nsec / 1000000000;
    then.tv_nsec %= 1000000000;
    return then;
}

void im_time_format(int64_t time_s, char out[IM_TIME_TEXT]) {
    time_t time = (time_t) time_s;
    struct tm tm = {0};

    gmtime_r(&time, &tm);
    if (strftime(out, IM_TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        strcpy(out, "1970-01-01T00:00:00Z");
}

bool im_time_parse(const char *text, int64_t *ret_time_s) {
    struct tm tm = {0}, said;
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

    if (rest != NULL && *rest == '.')
        rest += 1 + strspn(rest + 1, "0123456789");
    if (rest == NULL || strcmp(rest, "Z") != 0)
        return false;
    said = tm;
    *ret_time_s = (int64_t) timegm(&tm);
    /* February 30 became a day in March: that was no date. */
    return tm.tm_mday == said.tm_mday && tm.tm_sec == said.tm_sec;
}
