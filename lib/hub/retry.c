/* retry.c -- hints of a hub, and how long to wait without one. */
#include "hub/retry.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Decimal seconds from text up to what is no digit, as ms; -1 when there is no digit. */
static int64_t
seconds_ms(const char *text)
{
	int64_t s = 0;

	if (*text < '0' || *text > '9')
		return -1;
	for (; *text >= '0' && *text <= '9'; text++)
		if (s <= SP_RETRY_HINT_MAX_MS / 1000)
			s = s * 10 + (*text - '0');
	s *= 1000;
	return s < SP_RETRY_HINT_MAX_MS ? s : SP_RETRY_HINT_MAX_MS;
}

/* "Tue, 24 Nov 2026 12:00:00 GMT" */
static int64_t
until_date_ms(const char *text, int64_t now_unix_ms)
{
	struct tm tm = {0};
	const char *rest = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	int64_t ms;

	if (rest == NULL || *rest != '\0')
		return -1;
	ms = (int64_t)timegm(&tm) * 1000 - now_unix_ms;
	if (ms < 0)
		return 0;
	return ms < SP_RETRY_HINT_MAX_MS ? ms : SP_RETRY_HINT_MAX_MS;
}

/* Value of a parameter ";NAME=" of the list member [text, end); NULL when it has none. */
static const char *
parameter(const char *text, const char *end, char name)
{
	int quoted = 0;

	for (const char *p = text; p + 2 < end; p++) {
		quoted ^= *p == '"';
		if (*p != ';' || quoted)
			continue;
		while (p + 3 < end && p[1] == ' ')
			p++;
		if (p[1] == name && p[2] == '=')
			return p + 3;
	}
	return NULL;
}

static int64_t
limit_ms(const char *text)
{
	const char *end, *r, *t;
	int64_t longest = -1, ms;
	int quoted;

	for (; *text != '\0'; text = *end == ',' ? end + 1 : end) {
		for (end = text, quoted = 0; *end != '\0' && (quoted || *end != ','); end++)
			quoted ^= *end == '"';
		r = parameter(text, end, 'r');
		t = parameter(text, end, 't');
		if (r == NULL || t == NULL || seconds_ms(r) != 0)
			continue;
		ms = seconds_ms(t);
		longest = ms > longest ? ms : longest;
	}
	return longest;
}

int64_t
sp_retry_hint_ms(const char *retry_after, const char *rate_limit, int64_t now_unix_ms)
{
	int64_t ms = -1;

	if (retry_after != NULL) {
		ms = seconds_ms(retry_after);
		if (ms < 0)
			ms = until_date_ms(retry_after, now_unix_ms);
	}
	if (ms < 0 && rate_limit != NULL)
		ms = limit_ms(rate_limit);
	return ms;
}

int64_t
sp_retry_backoff_ms(unsigned failures, int64_t base_ms, uint32_t random)
{
	int64_t ms = base_ms;

	while (failures-- > 1 && ms < SP_RETRY_BACKOFF_MAX_MS)
		ms *= 2;
	if (ms > SP_RETRY_BACKOFF_MAX_MS)
		ms = SP_RETRY_BACKOFF_MAX_MS;
	return ms - ms / 2 * (int64_t)(random % 1024) / 1024;
}
