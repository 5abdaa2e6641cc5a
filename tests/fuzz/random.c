/* random.c -- randomness that is none, for keys that are the same in every run. */
#include "../draw.h"
#include "fuzz.h"

#include <sodium.h>

static uint64_t state;

static const char *
name(void)
{
	return "fixed";
}

static uint32_t
next(void)
{
	return (uint32_t)(draw_next(&state) >> 32);
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
