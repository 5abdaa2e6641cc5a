/* gpu_round.c -- statistics, plain rounding, packing, clip limits, against lib/awq. */
#include "gpu_rig.h"

#include "awq/pack.h"
#include "awq/search.h"
#include "model/dtype.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OUT ((size_t)66) /* a whole block of rows and a part of one */
#define GROUPS ((size_t)3)

static const size_t sizes[] = {128, 64, 32, 40}; /* of groups */

static void *
room(size_t size)
{
	void *memory = malloc(size + 1);

	assert_non_null(memory);
	return memory;
}

static void
sums(void)
{
	const size_t n = 600, in = 300;
	float *x = gpu_values(SP_GPU_F16, n * in), *mean = room(in * sizeof(*mean));
	float *w = gpu_values(SP_GPU_F32, n * in);
	struct sp_gpu_array gx = gpu_put(SP_GPU_F16, x, n * in), gs = gpu_room(SP_GPU_F64, in);
	struct sp_gpu_array gw = gpu_put(SP_GPU_F32, w, n * in), none = {0};
	struct sp_linear linear = {.w = w, .out = n, .in = in};
	const struct sp_linear *linears[] = {&linear};
	double *got = room(in * sizeof(*got)), one, want = 0;

	gpu_ok(sp_gpu_zero(gpu, gs, &gpu_err));
	gpu_ok(sp_gpu_x_sums(gpu, gx, 500, in, gs, &gpu_err));
	gpu_ok(sp_gpu_x_sums(gpu, sp_gpu_part(gx, 500 * in, 100 * in), 100, in, gs, &gpu_err));
	gpu_ok(sp_gpu_read(gpu, gs, got, &gpu_err));
	sp_search_x_mean(gpu_pool, x, n, in, 0, mean);
	for (size_t i = 0; i < in; i++)
		assert_true(fabs(got[i] / (double)n - (double)mean[i]) <= 1e-7);
	gpu_same(gs);
	gpu_ok(sp_gpu_zero(gpu, gs, &gpu_err));
	gpu_ok(sp_gpu_w_sums(gpu, gw, n, in, 100, gs, &gpu_err));
	gpu_ok(sp_gpu_read(gpu, gs, got, &gpu_err));
	sp_search_w_mean(gpu_pool, linears, 1, 100, 0, mean);
	for (size_t i = 0; i < in; i++)
		assert_true(fabs(got[i] / (double)n - (double)mean[i]) <= 1e-6);
	gpu_same(gs);
	gpu_ok(sp_gpu_difference(gpu, gw, gx, sp_gpu_part(gs, 0, 1), &gpu_err));
	gpu_ok(sp_gpu_read(gpu, sp_gpu_part(gs, 0, 1), &one, &gpu_err));
	for (size_t i = 0; i < n * in; i++)
		want += (double)(w[i] - x[i]) * (double)(w[i] - x[i]);
	assert_true(fabs(one - want) <= 1e-9 * want);
	gpu_same(sp_gpu_part(gs, 0, 1));
	gpu_ok(sp_gpu_difference(gpu, gx, none, sp_gpu_part(gs, 0, 1), &gpu_err));
	gpu_ok(sp_gpu_read(gpu, sp_gpu_part(gs, 0, 1), &one, &gpu_err));
	want = 0;
	for (size_t i = 0; i < n * in; i++)
		want += (double)x[i] * (double)x[i];
	assert_true(fabs(one - want) <= 1e-9 * want);
	free(x), free(w), free(mean), free(got);
	sp_gpu_free(gpu, &gx);
	sp_gpu_free(gpu, &gw);
	sp_gpu_free(gpu, &gs);
}

static void
test_sums(void **state)
{
	(void)state;
	gpu_orders(sums);
}

static void
test_fake(void **state)
{
	(void)state;
	for (size_t i = 0; i < 8; i++) {
		size_t group = sizes[i % 4], in = GROUPS * group;
		struct sp_grid grid = {group, i >= 4};
		float *w = gpu_values(SP_GPU_F32, OUT * in), *scales = room(in * sizeof(*scales));
		float *want = room(OUT * in * sizeof(*want)), *got;
		struct sp_gpu_array gw, gs, to = gpu_room(SP_GPU_F32, OUT * in), none = {0};

		for (size_t k = 0; k < in; k++)
			scales[k] = 1.5f + gpu_noise();
		memset(w, 0, group * sizeof(*w)); /* a group of nothing */
		gw = gpu_put(SP_GPU_F32, w, OUT * in);
		gs = gpu_put(SP_GPU_F32, scales, in);
		gpu_ok(sp_gpu_fake(gpu, gw, OUT, in, group, grid.symmetric, gs, to, &gpu_err));
		sp_search_round(gpu_pool, w, OUT, in, grid, scales, want);
		got = gpu_get(to);
		gpu_near("Q(w s) / s", got, want, OUT * in, 1e-6f);
		free(got);
		gpu_ok(sp_gpu_fake(gpu, gw, OUT, in, group, grid.symmetric, none, to, &gpu_err));
		sp_round_fake(w, OUT * in, grid, want);
		got = gpu_get(to);
		gpu_near("Q(w)", got, want, OUT * in, 1e-6f);
		gpu_same(to);
		free(w), free(scales), free(want), free(got);
		sp_gpu_free(gpu, &gw);
		sp_gpu_free(gpu, &gs);
		sp_gpu_free(gpu, &to);
	}
}

static void
test_rescale(void **state)
{
	const size_t in = 37;
	float *w = gpu_values(SP_GPU_F32, OUT * in), *got;
	float *rows = gpu_values(SP_GPU_F32, OUT), *columns = gpu_values(SP_GPU_F32, in);
	struct sp_gpu_array gw = gpu_put(SP_GPU_F32, w, OUT * in), none = {0}, gr, gc;

	(void)state;
	for (size_t i = 0; i < OUT; i++)
		rows[i] += 2.0f;
	gr = gpu_put(SP_GPU_F32, rows, OUT);
	gc = gpu_put(SP_GPU_F32, columns, in);
	gpu_ok(sp_gpu_rescale(gpu, gw, OUT, in, gr, none, &gpu_err));
	gpu_ok(sp_gpu_rescale(gpu, gw, OUT, in, none, gc, &gpu_err));
	for (size_t i = 0; i < OUT * in; i++)
		w[i] = w[i] / rows[i / in] * columns[i % in];
	got = gpu_get(gw);
	gpu_near("rescaled", got, w, OUT * in, 1e-6f);
	free(w), free(rows), free(columns), free(got);
	sp_gpu_free(gpu, &gw);
	sp_gpu_free(gpu, &gr);
	sp_gpu_free(gpu, &gc);
}

/* Codes bit for bit, what they stand for, and how checkpoints hold them. */
static void
test_codes(void **state)
{
	(void)state;
	for (size_t i = 0; i < 8; i++) {
		size_t group = sizes[i % 4], in = GROUPS * group, out = OUT / 8 * 8;
		struct sp_grid grid = {group, i >= 4};
		float *w = gpu_values(SP_GPU_F16, out * in), *got;
		struct sp_gpu_codes on = {gpu_room(SP_GPU_U8, out * in),
		    gpu_room(SP_GPU_U8, out * GROUPS), gpu_room(SP_GPU_F16, out * GROUPS)};
		struct sp_gpu_array gw = gpu_put(SP_GPU_F16, w, out * in);
		struct sp_gpu_array words = gpu_room(SP_GPU_U32, in * out / 8);
		struct sp_gpu_array turned = gpu_room(SP_GPU_F16, out * GROUPS);
		uint8_t *codes = room(out * in), *zeros = room(out * GROUPS);
		uint16_t *scales = room(out * GROUPS * 2);
		uint32_t *packed = room(in * out / 2), *want_packed = room(in * out / 2);
		struct sp_codes want;

		gpu_ok(sp_gpu_codes_find(gpu, gw, out, in, group, grid.symmetric, &on, &gpu_err));
		gpu_ok(sp_round_codes(w, out, in, grid, &want, &gpu_err));
		gpu_ok(sp_gpu_read(gpu, on.codes, codes, &gpu_err));
		gpu_ok(sp_gpu_read(gpu, on.zeros, zeros, &gpu_err));
		gpu_ok(sp_gpu_read(gpu, on.scales, scales, &gpu_err));
		assert_memory_equal(codes, want.codes, out * in);
		assert_memory_equal(zeros, want.zeros, out * GROUPS);
		assert_memory_equal(scales, want.scales, out * GROUPS * 2);
		gpu_ok(sp_gpu_codes_decode(gpu, &on, out, in, group, gw, &gpu_err));
		got = gpu_get(gw);
		sp_round_decode(&want, w);
		gpu_near("decoded", got, w, out * in, 1e-3f);
		gpu_ok(sp_gpu_pack(gpu, on.codes, out, in, words, &gpu_err));
		gpu_ok(sp_gpu_read(gpu, words, packed, &gpu_err));
		sp_pack_gemm(want.codes, out, in, want_packed);
		assert_memory_equal(packed, want_packed, in * out / 2);
		gpu_ok(sp_gpu_transpose(gpu, on.scales, out, GROUPS, turned, &gpu_err));
		gpu_ok(sp_gpu_read(gpu, turned, scales, &gpu_err));
		for (size_t k = 0; k < out * GROUPS; k++)
			assert_int_equal(scales[k % GROUPS * out + k / GROUPS], want.scales[k]);
		free(w), free(got), free(codes), free(zeros), free(scales);
		free(packed), free(want_packed);
		sp_round_free(&want);
		sp_gpu_free(gpu, &gw);
		sp_gpu_free(gpu, &words);
		sp_gpu_free(gpu, &turned);
		sp_gpu_free(gpu, &on.codes);
		sp_gpu_free(gpu, &on.zeros);
		sp_gpu_free(gpu, &on.scales);
	}
}

/* Σ over tokens of (x·Q(clamp(w)) - x·w)² of one row's group. */
static double
clip_error(const float *w, const float *x, size_t n, size_t in, struct sp_grid grid, float limit)
{
	float q[SP_SEARCH_GROUP_MAX];
	double sum = 0;

	memcpy(q, w, grid.group * sizeof(*q));
	sp_search_clamp(q, 1, grid.group, grid.group, &limit);
	sp_round_fake(q, grid.group, grid, q);
	for (size_t t = 0; t < n; t++) {
		double y = 0;

		for (size_t i = 0; i < grid.group; i++)
			y += (double)x[t * in + i] * (double)(q[i] - w[i]);
		sum += y * y;
	}
	return sum;
}

static void
clip(void)
{
	for (size_t i = 0; i < 4; i++) {
		size_t group = sizes[i], in = GROUPS * group, n = 100;
		struct sp_grid grid = {group, i & 1};
		float *w = gpu_values(SP_GPU_F32, OUT * in), *x = gpu_values(SP_GPU_F16, n * in);
		float *want = room(OUT * GROUPS * sizeof(*want)), *got, *clamped;
		struct sp_gpu_array gw, gx = gpu_put(SP_GPU_F16, x, n * in);
		struct sp_gpu_array limits = gpu_room(SP_GPU_F32, OUT * GROUPS);

		for (size_t k = 0; k < OUT * in; k++)
			w[k] *= w[k] * w[k]; /* long tails: something to clip */
		gw = gpu_put(SP_GPU_F32, w, OUT * in);
		gpu_ok(
		    sp_gpu_clip(gpu, gw, OUT, in, group, grid.symmetric, gx, n, limits, &gpu_err));
		got = gpu_get(limits);
		gpu_ok(
		    sp_search_clip(gpu_pool, w, OUT, in, grid, x, n, NULL, want, NULL, &gpu_err));
		for (size_t k = 0; k < OUT * GROUPS; k++) {
			const float *row = w + k / GROUPS * in + k % GROUPS * group;
			const float *tokens = x + k % GROUPS * group;

			/* another limit only where both are equally good */
			if (got[k] != want[k])
				assert_true(clip_error(row, tokens, n, in, grid, got[k]) <=
					    1.0001 * clip_error(row, tokens, n, in, grid, want[k]));
		}
		gpu_same(limits);
		gpu_ok(sp_gpu_clamp(gpu, gw, OUT, in, group, limits, &gpu_err));
		clamped = gpu_get(gw);
		sp_search_clamp(w, OUT, in, group, got);
		assert_memory_equal(clamped, w, OUT * in * sizeof(*w));
		free(w), free(x), free(want), free(got), free(clamped);
		sp_gpu_free(gpu, &gw);
		sp_gpu_free(gpu, &gx);
		sp_gpu_free(gpu, &limits);
	}
}

static void
test_clip(void **state)
{
	(void)state;
	gpu_orders(clip);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_sums),
	    cmocka_unit_test(test_fake),
	    cmocka_unit_test(test_rescale),
	    cmocka_unit_test(test_codes),
	    cmocka_unit_test(test_clip),
	};

	return cmocka_run_group_tests(tests, gpu_setup, gpu_teardown);
}
