/* awq_race.c -- which candidates a race keeps, on losses made for it. */
#include "awq/race.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define ALL ((size_t)4096)
#define COUNT ((size_t)4)

static float losses[COUNT][ALL];
static uint8_t alive[COUNT];

/* A value in [0, 1) that only u and salt decide. */
static double
noise(size_t u, uint64_t salt)
{
	uint64_t x = (u + 1) * UINT64_C(0x9e3779b97f4a7c15) ^ salt * UINT64_C(0xbf58476d1ce4e5b9);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return (double)(x >> 40) / (double)(1 << 24);
}

/* Tokens differ by a factor of 20; a candidate's own noise is a tenth of what they share. */
static void
fill(const double *means)
{
	for (size_t k = 0; k < COUNT; k++) {
		for (size_t u = 0; u < ALL; u++)
			losses[k][u] = (float)(means[k] * (0.1 + 1.9 * noise(u, 0)) *
					       (0.9 + 0.2 * noise(u, k + 1)));
	}
	memset(alive, 1, sizeof(alive));
}

static size_t
cut(size_t units)
{
	return sp_race_cut(losses[0], ALL, COUNT, units, ALL, alive);
}

static size_t
left(void)
{
	size_t count = 0;

	for (size_t k = 0; k < COUNT; k++)
		count += alive[k];
	return count;
}

/* What is far worse goes at once, what is near stays until the end, where the least wins. */
static void
test_cut(void **state)
{
	(void)state;
	fill((double[COUNT]){1.001, 1.3, 1.0, 1.1});
	cut(SP_RACE_UNITS_MIN - 1);
	assert_int_equal(left(), COUNT);
	cut(SP_RACE_UNITS_MIN);
	assert_false(alive[1]);
	assert_true(alive[0] && alive[2]);
	cut(256);
	assert_false(alive[3]);
	assert_true(alive[0] && alive[2]);
	assert_int_equal(cut(ALL), 2);
	assert_int_equal(left(), 1);
	assert_true(alive[2]);
}

/* The truly best candidate is not lost on the way, whatever the noise. */
static void
test_never_wrong(void **state)
{
	(void)state;
	for (uint64_t salt = 1; salt <= 500; salt++) {
		fill((double[COUNT]){1, 1, 1, 1});
		for (size_t k = 0; k < COUNT; k++) {
			for (size_t u = 0; u < ALL; u++)
				losses[k][u] = (float)(noise(u, 0) + 0.5 * noise(u, k + 8 * salt));
		}
		for (size_t units = 64; units < ALL; units += units / 3)
			cut(units);
		assert_true(left() >= 1);
		{
			double sums[COUNT] = {0}, least = INFINITY;
			size_t best = 0;

			for (size_t k = 0; k < COUNT; k++) {
				for (size_t u = 0; u < ALL; u++)
					sums[k] += (double)losses[k][u];
				best = sums[k] < least ? k : best;
				least = sums[k] < least ? sums[k] : least;
			}
			assert_true(alive[best]);
		}
	}
}

static void
test_ends(void **state)
{
	(void)state;
	/* equals: the first wins and both stay, for nothing tells them apart */
	fill((double[COUNT]){1, 1, 1, 1});
	for (size_t k = 1; k < COUNT; k++)
		memcpy(losses[k], losses[0], sizeof(losses[k]));
	assert_int_equal(cut(512), 0);
	assert_int_equal(left(), COUNT);
	/* without a number: out, even when little was seen */
	losses[0][2] = NAN;
	losses[3][1] = INFINITY;
	assert_int_equal(cut(4), 1);
	assert_int_equal(left(), 2);
	losses[1][0] = losses[2][0] = NAN;
	assert_int_equal(cut(4), COUNT);
	assert_int_equal(left(), 0);
	/* one unit that is all there is */
	fill((double[COUNT]){4, 2, 1, 3});
	assert_int_equal(sp_race_cut(losses[0], ALL, COUNT, 1, 1, alive), 2);
	assert_int_equal(left(), 1);
}

static void
test_order(void **state)
{
	size_t order[100], expected[6] = {0, 4, 2, 1, 5, 3};

	(void)state;
	sp_race_order(6, order);
	assert_memory_equal(order, expected, sizeof(expected));
	for (size_t count = 1; count <= 100; count++) {
		uint8_t seen[100] = {0};
		size_t done = 0, rounds = 0;

		sp_race_order(count, order);
		for (size_t i = 0; i < count; i++)
			seen[order[i]]++;
		for (size_t i = 0; i < count; i++)
			assert_int_equal(seen[i], 1);
		for (; done < count; rounds++) {
			size_t more = sp_race_next(count, done);

			assert_true(more > 0 && done + more <= count);
			done += more;
		}
		assert_true(rounds <= 20);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_cut),
	    cmocka_unit_test(test_never_wrong),
	    cmocka_unit_test(test_ends),
	    cmocka_unit_test(test_order),
	};

	return cmocka_run_group_tests_name("awq_race", tests, NULL, NULL);
}
