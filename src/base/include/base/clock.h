/* SPDX-License-Identifier: Apache-2.0 */
/* Time: seconds since the epoch for what is kept and shown, monotonic milliseconds for deadlines.
 */
#ifndef IM_CLOCK_H
#define IM_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define IM_TIME_TEXT 21 /* "2030-01-02T03:04:05Z" and the NUL */

int64_t im_now_s(void);
int64_t im_mono_ms(void);
void im_sleep_ms(int64_t ms);
/* The time of day after so long, for pthread_cond_timedwait(). Below 0 is 0. */
struct timespec im_wall_after(int64_t ms);
/* RFC 3339 in UTC with Z, as every reply carries it. */
void im_time_format(int64_t time_s, char out[IM_TIME_TEXT]);
/* The same form back; fractions of a second are accepted and dropped. */
bool im_time_parse(const char *text, int64_t *ret_time_s);

#endif
