/* race.c -- which of several candidates causes the least loss. */
#include "awq/race.h"

#include <math.h>

static double
sum_of(const float *losses, size_t units)
{
	double sum = 0;

	for (size_t u = 0; u < units; u++)
		sum += losses[u];
	return sum;
}

/* 1: a's losses are beyond doubt more than b's. */
static int
worse(const float *a, const float *b, size_t units, size_t all)
{
	double sum = 0, squares = 0, mean, variance;

	if (units < SP_RACE_UNITS_MIN && units < all)
		return 0;
	for (size_t u = 0; u < units; u++) {
		double d = (double)a[u] - (double)b[u];

		sum += d;
		squares += d * d;
	}
	if (units == all)
		return sum > 0;
	mean = sum / (double)units;
	variance = (squares - sum * mean) / (double)(units - 1) / (double)units *
		   (1.0 - (double)units / (double)all);
	return mean > 0 && mean * mean > SP_RACE_DOUBT * SP_RACE_DOUBT * variance;
}

size_t
sp_race_cut(
    const float *losses, size_t stride, size_t count, size_t units, size_t all, uint8_t *alive)
{
	size_t best = count;
	double least = INFINITY;

	for (size_t k = 0; k < count; k++) {
		double sum;

		if (!alive[k])
			continue;
		sum = sum_of(losses + k * stride, units);
		alive[k] = isfinite(sum) != 0;
		if (sum < least) {
			least = sum;
			best = k;
		}
	}
	for (size_t k = 0; k < count && best < count; k++) {
		if (alive[k] && k != best)
			alive[k] = !worse(losses + k * stride, losses + best * stride, units, all);
	}
	return best;
}

void
sp_race_order(size_t count, size_t *order)
{
	size_t bits = 0, at = 0;

	while (((size_t)1 << bits) < count)
		bits++;
	for (size_t i = 0; i < (size_t)1 << bits; i++) {
		size_t reversed = 0;

		for (size_t b = 0; b < bits; b++)
			reversed |= (i >> b & 1) << (bits - 1 - b);
		if (reversed < count)
			order[at++] = reversed;
	}
}

size_t
sp_race_next(size_t count, size_t done)
{
	/* a third of those before: each round costs little beside what it may save */
	size_t more = done / 3 > 0 ? done / 3 : 1;

	return count - done < more ? count - done : more;
}
