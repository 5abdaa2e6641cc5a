/* eval_kld.c -- divergences that can be worked out by hand. */
#include "eval/kld.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void
near(double a, double b)
{
	if (!(fabs(a - b) <= 1e-7 * (1 + fabs(b))))
		fail_msg("%.12g, not %.12g", a, b);
}

static void
test_token(void **state)
{
	const double log3 = 1.0986122886681098, log2 = 0.69314718055994531;
	const float even[2] = {0, 0}, odd[2] = {0, (float)log3}, far[3] = {1000, -1000, 0};
	float shifted[2] = {5, 5 + (float)log3};

	(void)state;
	near(sp_kld_token(even, even, 2), 0);
	near(sp_kld_token(odd, shifted, 2), 0); /* logits count up to a constant */
	/* (1/2, 1/2) against (1/4, 3/4): half of log 2 and half of log 2/3 */
	near(sp_kld_token(even, odd, 2), 0.5 * log2 + 0.5 * (log2 - (double)(float)log3));
	/* (1/4, 3/4) against (1/2, 1/2) */
	near(sp_kld_token(odd, even, 2), 0.25 * -log2 + 0.75 * (log3 - log2));
	assert_true(isfinite(sp_kld_token(far, even, 2)));
	near(sp_kld_token(even, (const float[2]){0, -1000}, 2), 500 - log2);
}

static void
test_mean(void **state)
{
	const float a[4] = {0, 0, 0, 1}, b[4] = {0, 0, 3, 1};
	struct sp_kld kld = {0};

	(void)state;
	near(sp_kld_mean(&kld), 0);
	sp_kld_add(&kld, a, b, 2, 2);
	assert_int_equal(kld.tokens, 2);
	assert_int_equal(kld.same_top, 1);
	near(kld.max, sp_kld_token(a + 2, b + 2, 2));
	near(sp_kld_mean(&kld), kld.max / 2);
}

static void
test_not_finite(void **state)
{
	const float a[2] = {0, 0}, b[2] = {NAN, 0};
	struct sp_kld kld = {0};

	(void)state;
	sp_kld_add(&kld, a, b, 1, 2);
	assert_true(!(sp_kld_mean(&kld) < 1e9));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_token),
	    cmocka_unit_test(test_mean),
	    cmocka_unit_test(test_not_finite),
	};

	return cmocka_run_group_tests_name("eval_kld", tests, NULL, NULL);
}
