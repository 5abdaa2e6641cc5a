/* retry.h -- when to ask again a hub that has said "not now", or nothing; pure. */
#ifndef SP_RETRY_H
#define SP_RETRY_H

#include <stdint.h>

#define SP_RETRY_BACKOFF_MAX_MS 60000
#define SP_RETRY_HINT_MAX_MS 86400000 /* whoever says more means a day */

/* How long an answer asks not to be asked again, in ms; -1 when it does not say.
 * retry_after: field Retry-After, seconds or an IMF-fixdate (RFC 9110 section 10.2.3).
 * rate_limit: field RateLimit, as in "api";r=0;t=55 (draft-ietf-httpapi-ratelimit-headers-09): the
 * longest t of those that have nothing left (r=0). Either may be NULL. */
int64_t sp_retry_hint_ms(const char *retry_after, const char *rate_limit, int64_t now_unix_ms);

/* How long to wait after so many failures in a row (1, 2, …): doubles from base_ms, at most
 * SP_RETRY_BACKOFF_MAX_MS; random takes off up to a half, so that many do not come back at once. */
int64_t sp_retry_backoff_ms(unsigned failures, int64_t base_ms, uint32_t random);

#endif
