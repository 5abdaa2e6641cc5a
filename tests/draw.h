/* draw.h -- pseudo-random numbers of tests and benchmarks: the same from run to run. */
#ifndef SP_TEST_DRAW_H
#define SP_TEST_DRAW_H

#include <stdint.h>

/* splitmix64 (Steele, Lea, Flood 2014) */
static inline uint64_t
draw_next(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

#endif
