/* time.h -- clocks, read in one place so that cores take time as an argument. */
#ifndef SP_TIME_H
#define SP_TIME_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

int64_t sp_time_monotonic_ms(void); /* CLOCK_MONOTONIC */
int64_t sp_time_monotonic_ns(void);
int64_t sp_time_unix_ms(void);			 /* CLOCK_REALTIME */
int64_t sp_time_ns(const struct timespec *time); /* of the same clock */

/* A condition that is waited for by CLOCK_MONOTONIC, so that nobody waits on when the time of day
 * is set back, and the end of such a wait for pthread_cond_timedwait. */
void sp_time_cond_init(pthread_cond_t *cond);
struct timespec sp_time_cond_until(int64_t ms);

/* RFC 3339 in UTC with milliseconds: 2026-11-24T05:02:03.123Z, 24 characters + NUL. */
struct sp_rfc3339 {
	char s[25];
};
struct sp_rfc3339 sp_time_rfc3339(int64_t unix_ms);
/* Reads exactly that form; -1 when text is anything else. */
int64_t sp_time_parse_rfc3339(const char *text);

#endif
