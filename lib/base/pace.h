/* pace.h -- a token bucket as arithmetic: no clock, no sleep. */
#ifndef SP_PACE_H
#define SP_PACE_H

#include <stdint.h>

/*
 * The bucket holds time instead of tokens: next_ns is when the bytes sent so far will have crossed
 * a link of rate_bytes_per_s. What is sent may run ahead of the clock by nothing and fall behind by
 * at most the time that burst_bytes take: idle time beyond that is not saved up.
 */
struct sp_pace {
	uint64_t rate_bytes_per_s; /* 1 … 10^12 */
	uint64_t burst_bytes;
	int64_t next_ns;
	uint64_t rest; /* bytes * 10^9 not yet worth a nanosecond: keeps the long-term rate exact */
};

void
sp_pace_init(struct sp_pace *pace, uint64_t rate_bytes_per_s, uint64_t burst_bytes, int64_t now_ns);

/* Accounts for bytes (at most 2^32) that are to be sent and returns when they may be: now_ns, or
 * later. */
int64_t sp_pace_take(struct sp_pace *pace, int64_t now_ns, uint64_t bytes);

#endif
