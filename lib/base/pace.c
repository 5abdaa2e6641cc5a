/* pace.c -- a token bucket as arithmetic. */
#include "base/pace.h"
#include "base/err.h"

#define NS_PER_S 1000000000ull

void
sp_pace_init(struct sp_pace *pace, uint64_t rate_bytes_per_s, uint64_t burst_bytes, int64_t now_ns)
{
	SP_ASSERT(rate_bytes_per_s >= 1 && rate_bytes_per_s <= 1000 * NS_PER_S);
	pace->rate_bytes_per_s = rate_bytes_per_s;
	pace->burst_bytes = burst_bytes;
	pace->next_ns = now_ns;
	pace->rest = 0;
}

int64_t
sp_pace_take(struct sp_pace *pace, int64_t now_ns, uint64_t bytes)
{
	/* a burst is a time here: how far behind the clock the schedule may lie */
	int64_t slack_ns = (int64_t)((double)pace->burst_bytes * (double)NS_PER_S /
				     (double)pace->rate_bytes_per_s);
	int64_t when_ns;
	uint64_t cost;

	SP_ASSERT(bytes <= UINT32_MAX);
	if (pace->next_ns < now_ns - slack_ns) {
		pace->next_ns = now_ns - slack_ns;
		pace->rest = 0;
	}
	when_ns = pace->next_ns > now_ns ? pace->next_ns : now_ns;
	/* bytes * 10^9 < 2^62, rest < rate: no overflow */
	cost = bytes * NS_PER_S + pace->rest;
	pace->next_ns += (int64_t)(cost / pace->rate_bytes_per_s);
	pace->rest = cost % pace->rate_bytes_per_s;
	return when_ns;
}
