/* gpu_plus.c -- what method awq+ takes of a GPU against lib/awq: statistics, moments, factor,
 * compensated rounding. */
#include "gpu_rig.h"

#include "awq/gram.h"
#include "awq/plane.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IN ((size_t)192)
#define OUT ((size_t)150) /* a whole block of rows and a part of one */

static float *
floats(size_t count)
{
	float *values = malloc(count * sizeof(*values));

	assert_non_null(values);
	return values;
}

/* Inputs as models have them: correlated, some much larger, one that never is. */
static float *
inputs(size_t n, size_t in)
{
	float *x = floats(n * in);

	for (size_t t = 0; t < n; t++) {
		float common = gpu_noise();

		for (size_t i = 0; i < in; i++)
			x[t * in + i] = (common + gpu_noise()) * (i % 7 == 0 ? 8.0f : 1.0f);
		if (in > 5)
			x[t * in + 5] = 0.0f;
	}
	return x;
}

/* x as the type holds it. */
static void
settle(float *x, struct sp_gpu_array array)
{
	float *held = gpu_get(array);

	memcpy(x, held, array.count * sizeof(*x));
	free(held);
}

/* XᵀX, and Xᵀ(exact / scales - X), by the CPU. */
static void
moments_of(const float *x, size_t n, size_t in, float *g)
{
	memset(g, 0, in * in * sizeof(*g));
	gpu_ok(sp_gram_add(gpu_pool, x, n, in, g, &gpu_err));
	sp_gram_mirror(gpu_pool, in, g);
}

static void
drift_of(const float *x, const float *exact, const float *scales, size_t n, size_t in, float *g)
{
	memset(g, 0, in * in * sizeof(*g));
	gpu_ok(sp_gram_add_drift(gpu_pool, x, exact, scales, n, in, g, &gpu_err));
}

/* The CPU's factor of x. */
static float *
factor_new(const float *x, size_t n, size_t in, double damp)
{
	float *factor = floats(in * in);

	moments_of(x, n, in, factor);
	gpu_ok(sp_factor_cholesky(gpu_pool, factor, in, n, damp, &gpu_err));
	return factor;
}

static void
moments(void)
{
	static const enum sp_gpu_type types[] = {SP_GPU_F32, SP_GPU_F16, SP_GPU_BF16};
	const size_t in = 45, n = 130;

	for (size_t t = 0; t < 3; t++) {
		float *x = inputs(n, in), *exact = inputs(n, in), *want = floats(in * in), *got;
		float scales[45];
		struct sp_gpu_array gx = gpu_put(types[t], x, n * in), gs;
		struct sp_gpu_array ge, g = gpu_room(SP_GPU_F32, in * in);

		settle(x, gx);
		for (size_t i = 0; i < n * in; i++)
			exact[i] = x[i] + 0.1f * exact[i];
		for (size_t i = 0; i < in; i++)
			scales[i] = 1.5f + gpu_noise();
		ge = gpu_put(types[t], exact, n * in);
		gs = gpu_put(SP_GPU_F32, scales, in);
		settle(exact, ge);
		moments_of(x, n, in, want);
		gpu_ok(sp_gpu_zero(gpu, g, &gpu_err));
		gpu_ok(sp_gpu_moments(gpu, gx, 100, in, g, &gpu_err)); /* in two calls */
		gpu_ok(
		    sp_gpu_moments(gpu, sp_gpu_part(gx, 100 * in, 30 * in), 30, in, g, &gpu_err));
		gpu_ok(sp_gpu_mirror(gpu, g, in, &gpu_err));
		got = gpu_get(g);
		for (size_t i = 0; i < in * in; i++) {
			float size = sqrtf(want[i / in * (in + 1)] * want[i % in * (in + 1)]);

			assert_true(fabsf(got[i] - want[i]) <= 1e-3f * size + 1e-6f);
			assert_true(got[i] == got[i % in * in + i / in]);
		}
		free(got);
		drift_of(x, exact, scales, n, in, want);
		gpu_ok(sp_gpu_zero(gpu, g, &gpu_err));
		gpu_ok(sp_gpu_drift(gpu, gx, ge, gs, n, in, g, &gpu_err));
		got = gpu_get(g);
		gpu_near("drift", got, want, in * in, types[t] == SP_GPU_BF16 ? 4e-2f : 5e-3f);
		gpu_same(g);
		free(x), free(exact), free(want), free(got);
		sp_gpu_free(gpu, &gx);
		sp_gpu_free(gpu, &ge);
		sp_gpu_free(gpu, &gs);
		sp_gpu_free(gpu, &g);
	}
}

static void
test_moments(void **state)
{
	(void)state;
	gpu_orders(moments);
}

/* The product of the factor is H, above the diagonal is what it says. Some sizes are less than a
 * block, one is more than an outer block. */
static void
factor(void)
{
	static const size_t sizes[] = {1, 50, 64, 200, 580};

	for (size_t s = 0; s < 5; s++) {
		size_t in = sizes[s], n = 2 * in + 10;
		float *x = inputs(n, in), *g = floats(in * in), *got, *want;
		struct sp_gpu_array gg;

		moments_of(x, n, in, g);
		gg = gpu_put(SP_GPU_F32, g, in * in);
		gpu_ok(sp_gpu_cholesky(gpu, gg, in, n, 0.01, &gpu_err));
		got = gpu_get(gg);
		want = factor_new(x, n, in, 0.01);
		for (size_t i = 0; i < in; i++) {
			for (size_t j = 0; j < in; j++) {
				/* a row of L is as long as H's diagonal says */
				size_t low = i > j ? i : j;
				float size = 0;

				for (size_t k = 0; k <= low; k++)
					size += want[low * in + k] * want[low * in + k];
				size = sqrtf(size);
				if (j > i)
					size /= want[i * in + i];
				assert_true(fabsf(got[i * in + j] - want[i * in + j]) <=
					    2e-4f * (size + 1e-3f));
			}
		}
		gpu_same(gg);
		free(x), free(g), free(got), free(want);
		sp_gpu_free(gpu, &gg);
	}
}

static void
test_factor(void **state)
{
	(void)state;
	gpu_orders(factor);
}

static void
test_not_positive(void **state)
{
	float g[] = {1, 0, 0, 2, -1, 0, 0, 0, 1};
	struct sp_gpu_array gg = gpu_put(SP_GPU_F32, g, 9);

	(void)state;
	assert_int_equal(sp_gpu_cholesky(gpu, gg, 3, 1, 0.01, &gpu_err), SP_E_INVALID);
	g[4] = NAN;
	sp_gpu_free(gpu, &gg);
	gg = gpu_put(SP_GPU_F32, g, 9);
	assert_int_equal(sp_gpu_cholesky(gpu, gg, 3, 1, 10, &gpu_err), SP_E_INVALID);
	sp_gpu_free(gpu, &gg);
}

static void
solve(void)
{
	static const size_t sizes[] = {40, 192, 600};

	for (size_t s = 0; s < 3; s++) {
		size_t in = sizes[s], columns = SP_PANEL, n = 2 * in;
		float *x = inputs(n, in), *f = factor_new(x, n, in, 0.01),
		      *scaled = floats(in * in);
		float *b = gpu_values(SP_GPU_F32, in * columns), *got, *scales = floats(in);
		struct sp_gpu_array gf = gpu_put(SP_GPU_F32, f, in * in), gs;
		struct sp_gpu_array gb = gpu_put(SP_GPU_F32, b, in * columns);
		double size = 0, error = 0;

		gpu_ok(sp_gpu_factor_solve(gpu, gf, in, gb, columns, &gpu_err));
		got = gpu_get(gb);
		sp_factor_solve(f, in, b);
		for (size_t i = 0; i < in * columns; i++) {
			size += (double)b[i] * b[i];
			error += (double)(got[i] - b[i]) * (got[i] - b[i]);
		}
		assert_true(error <= 1e-8 * size);
		gpu_same(gb);
		for (size_t i = 0; i < in; i++)
			scales[i] = 1.5f + gpu_noise();
		gs = gpu_put(SP_GPU_F32, scales, in);
		gpu_ok(sp_gpu_factor_scale(gpu, gf, in, gs, gf, &gpu_err));
		for (size_t i = 0; i < in * in; i++) {
			size_t row = i / in, column = i % in;

			scaled[i] = column <= row ? f[i] / scales[row]
						  : f[i] * scales[row] / scales[column];
		}
		free(got);
		got = gpu_get(gf);
		gpu_near("scaled factor", got, scaled, in * in, 1e-6f);
		free(x), free(f), free(scaled), free(b), free(got), free(scales);
		sp_gpu_free(gpu, &gf);
		sp_gpu_free(gpu, &gb);
		sp_gpu_free(gpu, &gs);
	}
}

static void
test_solve(void **state)
{
	(void)state;
	gpu_orders(solve);
}

/* --- rounding --------------------------------------------------------------------------------
 */

struct case_of_plane {
	size_t in, group;
	int symmetric, drift;
	size_t shrink, refine;
};

struct rounded {
	double loss, want;
	size_t same, count; /* codes */
};

/* The GPU's rounding of w by plane, beside the CPU's. */
static struct rounded
round_both(const struct case_of_plane *c, const float *f, const float *drift, const float *w)
{
	struct sp_plane plane = {.factor = f,
	    .in = c->in,
	    .grid = {c->group, c->symmetric},
	    .shrink = c->shrink,
	    .refine = c->refine};
	size_t groups = c->in / c->group;
	struct sp_gpu_plane on = {.factor = gpu_put(SP_GPU_F32, f, c->in * c->in),
	    .in = c->in,
	    .group = c->group,
	    .symmetric = c->symmetric,
	    .shrink = c->shrink,
	    .refine = c->refine};
	struct sp_gpu_array gw = gpu_put(SP_GPU_F32, w, OUT * c->in), none = {0};
	struct sp_gpu_array losses = gpu_room(SP_GPU_F64, OUT);
	struct sp_gpu_codes codes = {gpu_room(SP_GPU_U8, OUT * c->in),
	    gpu_room(SP_GPU_U8, OUT * groups), gpu_room(SP_GPU_F16, OUT * groups)};
	struct rounded result = {.count = OUT * c->in};
	uint8_t *got = malloc(OUT * c->in);
	struct sp_codes want;
	double rows[OUT];

	assert_non_null(got);
	if (drift != NULL) {
		float *moved = floats(sp_kernels_panels(OUT) * c->in * SP_PANEL);

		on.drift = gpu_put(SP_GPU_F32, drift, c->in * c->in);
		gpu_ok(sp_plane_drift(gpu_pool, drift, w, OUT, c->in, moved, &gpu_err));
		plane.drift = moved;
	}
	gpu_ok(sp_plane_round(gpu_pool, &plane, w, OUT, &want, &result.want, &gpu_err));
	gpu_ok(sp_gpu_plane_round(gpu, &on, gw, none, OUT, 0, 1, &codes, losses, &gpu_err));
	gpu_ok(sp_gpu_read(gpu, losses, rows, &gpu_err));
	gpu_ok(sp_gpu_read(gpu, codes.codes, got, &gpu_err));
	for (size_t r = 0; r < OUT; r++)
		result.loss += rows[r] / (double)OUT;
	for (size_t i = 0; i < OUT * c->in; i++)
		result.same += got[i] == want.codes[i];
	gpu_same(codes.codes);
	gpu_same(codes.zeros);
	gpu_same(codes.scales);
	gpu_same(losses);
	free(got);
	free((void *)(uintptr_t)plane.drift);
	sp_round_free(&want);
	sp_gpu_free(gpu, &on.factor);
	sp_gpu_free(gpu, &on.drift);
	sp_gpu_free(gpu, &gw);
	sp_gpu_free(gpu, &losses);
	sp_gpu_free(gpu, &codes.codes);
	sp_gpu_free(gpu, &codes.zeros);
	sp_gpu_free(gpu, &codes.scales);
	return result;
}

/* A code that differs moves all after it, so codes are compared where one group is all there is;
 * elsewhere it is the loss that must be as good. */
static void
plane(void)
{
	static const struct case_of_plane cases[] = {
	    {128, 128, 0, 0, 8, 2}, {64, 64, 1, 0, 8, 2}, {32, 32, 0, 0, 3, 0},
	    {IN, 64, 0, 1, 8, 2}, {IN, 32, 0, 0, 3, 0},
	    {1152, 128, 0, 0, 2, 0}, /* more than is put off */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct case_of_plane *c = &cases[i];
		size_t n = 2 * c->in;
		float *x = inputs(n, c->in), *f = factor_new(x, n, c->in, 0.01), *drift = NULL;
		float *w = gpu_values(SP_GPU_F32, OUT * c->in);
		struct rounded r;

		for (size_t k = 0; k < 32; k++)
			w[3 * c->in + k] = 2.0f + 0.1f * gpu_noise(); /* far from 0 */
		if (c->drift) {
			float *exact = floats(n * c->in), *ones = floats(c->in);

			for (size_t k = 0; k < n * c->in; k++)
				exact[k] = x[k] + 0.05f * gpu_noise();
			for (size_t k = 0; k < c->in; k++)
				ones[k] = 1.0f;
			drift = floats(c->in * c->in);
			drift_of(x, exact, ones, n, c->in, drift);
			for (size_t k = 0; k < c->in * c->in; k++)
				drift[k] /= (float)n;
			free(exact), free(ones);
		}
		r = round_both(c, f, drift, w);
		print_message("in %zu group %zu: %zu of %zu codes, loss %.6g, CPU %.6g\n", c->in,
		    c->group, r.same, r.count, r.loss, r.want);
		assert_true(fabs(r.loss - r.want) <= 5e-3 * r.want);
		assert_true(r.same * 1000 >= r.count * (c->in == c->group ? 999 : 700));
		free(x), free(f), free(drift), free(w);
	}
}

static void
test_plane(void **state)
{
	(void)state;
	gpu_orders(plane);
}

/* Every third row from the first on, scaled: the same rows' losses as of all. */
static void
test_some_rows(void **state)
{
	size_t n = 2 * IN, some = (OUT - 1 + 2) / 3;
	float *x = inputs(n, IN), *f = factor_new(x, n, IN, 0.01), *scales = floats(IN);
	float *w = gpu_values(SP_GPU_BF16, OUT * IN);
	struct sp_gpu_plane on = {
	    .factor = gpu_put(SP_GPU_F32, f, IN * IN), .in = IN, .group = 64, .shrink = 3};
	struct sp_gpu_array gw = gpu_put(SP_GPU_BF16, w, OUT * IN), gs;
	struct sp_gpu_array losses = gpu_room(SP_GPU_F64, OUT);
	double all[OUT], part[OUT];

	(void)state;
	for (size_t i = 0; i < IN; i++)
		scales[i] = 1.5f + gpu_noise();
	gs = gpu_put(SP_GPU_F32, scales, IN);
	gpu_ok(sp_gpu_plane_round(gpu, &on, gw, gs, OUT, 0, 1, NULL, losses, &gpu_err));
	gpu_ok(sp_gpu_read(gpu, losses, all, &gpu_err));
	gpu_ok(sp_gpu_plane_round(gpu, &on, gw, gs, OUT, 1, 3, NULL, losses, &gpu_err));
	gpu_ok(sp_gpu_read(gpu, sp_gpu_part(losses, 0, some), part, &gpu_err));
	for (size_t r = 0; r < some; r++)
		assert_true(fabs(part[r] - all[1 + 3 * r]) <= 2e-2 * all[1 + 3 * r]);
	free(x), free(f), free(scales), free(w);
	sp_gpu_free(gpu, &on.factor);
	sp_gpu_free(gpu, &gw);
	sp_gpu_free(gpu, &gs);
	sp_gpu_free(gpu, &losses);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_moments),
	    cmocka_unit_test(test_factor),
	    cmocka_unit_test(test_not_positive),
	    cmocka_unit_test(test_solve),
	    cmocka_unit_test(test_plane),
	    cmocka_unit_test(test_some_rows),
	};

	return cmocka_run_group_tests(tests, gpu_setup, gpu_teardown);
}
