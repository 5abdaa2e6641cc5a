/* random.c -- randomness that is none, for keys that are the same in every run. */
#include "fuzz.h"

#include <sodium.h>

static uint64_t state;

static const char *
name(void)
{
	return "fixed";
}

/* splitmix64 */
static uint32_t
next(void)
{
	uint64_t z = (state += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return (uint32_t)((z ^ (z >> 31)) >> 32);
}

static void
fill(void *const buf, const size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = (uint8_t)next();
}

void
fuzz_fix_random(void)
{
	static struct randombytes_implementation fixed = {
	    .implementation_name = name, .random = next, .buf = fill};

	SP_ASSERT(randombytes_set_implementation(&fixed) == 0);
	state = 1;
}
