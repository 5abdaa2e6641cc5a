/* time.c -- clocks, and RFC 3339 without the C library's locale and time zone. */
#include "base/time.h"
#include "base/err.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define DAY_MS INT64_C(86400000)
#define FIRST_MS INT64_C(-62167219200000) /* 0000-01-01T00:00:00.000Z */
#define LAST_MS INT64_C(253402300799999)  /* 9999-12-31T23:59:59.999Z */

#define S_NS 1000000000

int64_t
sp_time_ns(const struct timespec *time)
{
	return (int64_t)time->tv_sec * S_NS + time->tv_nsec;
}

static int64_t
read_ns(clockid_t clock)
{
	struct timespec ts;

	SP_ASSERT(clock_gettime(clock, &ts) == 0);
	return sp_time_ns(&ts);
}

void
sp_time_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	SP_ASSERT(pthread_condattr_init(&attr) == 0);
	SP_ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	SP_ASSERT(pthread_cond_init(cond, &attr) == 0);
	pthread_condattr_destroy(&attr);
}

struct timespec
sp_time_cond_until(int64_t ms)
{
	int64_t until_ns = read_ns(CLOCK_MONOTONIC) + ms * 1000000;

	return (struct timespec){.tv_sec = until_ns / S_NS, .tv_nsec = until_ns % S_NS};
}

int64_t
sp_time_monotonic_ms(void)
{
	return read_ns(CLOCK_MONOTONIC) / 1000000;
}

int64_t
sp_time_monotonic_ns(void)
{
	return read_ns(CLOCK_MONOTONIC);
}

int64_t
sp_time_unix_ms(void)
{
	return read_ns(CLOCK_REALTIME) / 1000000;
}

/* Days since 1970-01-01 in the proleptic Gregorian calendar; years are counted from March, so that
 * the leap day is the last of its year. */
static int64_t
days_of_civil(int64_t year, unsigned month, unsigned day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	int64_t in_era = y - era * 400;
	int64_t in_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719468;
}

static void
civil_of_days(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
	int64_t z = days + 719468;
	int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t in_era = z - era * 146097;
	int64_t y = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	int64_t in_year = in_era - (365 * y + y / 4 - y / 100);
	int64_t m = (5 * in_year + 2) / 153;

	*day = (unsigned)(in_year - (153 * m + 2) / 5 + 1);
	*month = (unsigned)(m < 10 ? m + 3 : m - 9);
	*year = y + era * 400 + (*month <= 2);
}

/* width decimal digits of value, most significant first */
static void
put_digits(char *out, unsigned value, int width)
{
	while (width-- > 0) {
		out[width] = (char)('0' + value % 10);
		value /= 10;
	}
}

struct sp_rfc3339
sp_time_rfc3339(int64_t unix_ms)
{
	struct sp_rfc3339 out = {"YYYY-MM-DDThh:mm:ss.mmmZ"};
	unsigned month, day, ms;
	int64_t days, year;

	/* times come from messages too: what the form cannot hold becomes its first or last */
	if (unix_ms < FIRST_MS)
		unix_ms = FIRST_MS;
	if (unix_ms > LAST_MS)
		unix_ms = LAST_MS;
	days = unix_ms / DAY_MS - (unix_ms % DAY_MS < 0);
	ms = (unsigned)(unix_ms - days * DAY_MS);
	civil_of_days(days, &year, &month, &day);
	put_digits(out.s, (unsigned)year, 4);
	put_digits(out.s + 5, month, 2);
	put_digits(out.s + 8, day, 2);
	put_digits(out.s + 11, ms / 3600000, 2);
	put_digits(out.s + 14, ms / 60000 % 60, 2);
	put_digits(out.s + 17, ms / 1000 % 60, 2);
	put_digits(out.s + 20, ms % 1000, 3);
	return out;
}

static unsigned
get_digits(const char *text, int width)
{
	unsigned value = 0;

	while (width-- > 0)
		value = value * 10 + (unsigned)(*text++ - '0');
	return value;
}

int64_t
sp_time_parse_rfc3339(const char *text)
{
	static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";
	unsigned year, month, day, hour, minute, second;
	struct sp_rfc3339 again;
	int64_t ms;
	size_t i;

	for (i = 0; form[i] != '\0'; i++) {
		if (form[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != form[i])
			return -1;
	}
	if (text[i] != '\0')
		return -1;
	year = get_digits(text, 4);
	month = get_digits(text + 5, 2);
	day = get_digits(text + 8, 2);
	hour = get_digits(text + 11, 2);
	minute = get_digits(text + 14, 2);
	second = get_digits(text + 17, 2);
	/* before 1970 a time would be negative, which means "not a time" here */
	if (year < 1970 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 ||
	    second > 59)
		return -1;
	ms = days_of_civil(year, month, day) * DAY_MS +
	     ((hour * 60 + minute) * 60 + second) * INT64_C(1000) + get_digits(text + 20, 3);
	/* the 30th of February is found by writing it again */
	again = sp_time_rfc3339(ms);
	return strcmp(again.s, text) == 0 ? ms : -1;
}
