/* engine_kernels.c -- the kernels of every instruction set against their definition, to the bit
 * where the order of operations is promised; the thread pool. */
#include "../draw.h"
#include "engine/kernels.h"
#include "model/dtype.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const isas[] = {"avx512", "avx2", "portable"};
#define ISAS (sizeof(isas) / sizeof(isas[0]))

static struct sp_pool *pools[3]; /* of 1, 2 and 5 threads */
#define POOLS (sizeof(pools) / sizeof(pools[0]))

static uint64_t seed = 1;

static uint64_t
draw(void)
{
	return draw_next(&seed);
}

/* count values from -scale to scale. */
static float *
numbers(size_t count, float scale)
{
	float *values = malloc((count + 1) * sizeof(*values));

	assert_non_null(values);
	for (size_t i = 0; i < count; i++)
		values[i] = ((float)(draw() >> 40) / (float)(1 << 23) - 1.0f) * scale;
	return values;
}

static int
open_pools(void **state)
{
	static const unsigned threads[POOLS] = {1, 2, 5};

	(void)state;
	for (size_t i = 0; i < POOLS; i++) {
		if (sp_pool_open(threads[i], &pools[i], NULL))
			return -1;
	}
	return 0;
}

static int
close_pools(void **state)
{
	(void)state;
	for (size_t i = 0; i < POOLS; i++)
		sp_pool_close(&pools[i]);
	return 0;
}

/* --- pool ------------------------------------------------------------------------------------- */

static void
count_up(void *arg, size_t i)
{
	atomic_uint *counts = arg;

	atomic_fetch_add(&counts[i], 1);
}

/* Every iteration once, round after round; counts around the number of threads and none at all. */
static void
test_pool(void **state)
{
	static const size_t sizes[] = {0, 1, 2, 4, 5, 6, 1000};

	(void)state;
	for (size_t p = 0; p < POOLS; p++) {
		assert_int_equal(sp_pool_threads(pools[p]), p == 0 ? 1 : p == 1 ? 2 : 5);
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			atomic_uint counts[1001] = {0};

			for (int round = 0; round < 100; round++)
				sp_pool_run(pools[p], sizes[s], count_up, counts);
			for (size_t i = 0; i < 1001; i++)
				assert_int_equal(atomic_load(&counts[i]), i < sizes[s] ? 100 : 0);
		}
	}
}

static void
test_pool_bounds(void **state)
{
	struct sp_pool *pool;
	struct sp_err err;

	(void)state;
	assert_int_equal(sp_pool_open(100000, &pool, &err), SP_E_LIMIT);
	assert_null(pool);
	assert_int_equal(sp_pool_open(0, &pool, &err), SP_OK);
	assert_true(sp_pool_threads(pool) >= 1);
	sp_pool_close(&pool);
	sp_pool_close(&pool);
}

/* --- matrix products ---------------------------------------------------------------------------
 */

/* The promise of kernels.h: one chain of fused multiply-adds, then the bias. */
static void
plain_matmul(
    const float *x, size_t n, size_t in, const float *w, const float *bias, size_t out, float *y)
{
	for (size_t r = 0; r < n; r++) {
		for (size_t c = 0; c < out; c++) {
			float sum = 0;

			for (size_t k = 0; k < in; k++)
				sum = fmaf(x[r * in + k], w[c * in + k], sum);
			y[r * out + c] = bias == NULL ? sum : sum + bias[c];
		}
	}
}

static const char *const kinds[] = {"fp32", "fp16", "bf16", "int4"};

/* Rounds w to what the kind holds. */
static void
round_to(enum sp_panel_kind kind, float *w, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (kind == SP_PANEL_F16)
			w[i] = sp_dtype_f16_to_f32(sp_dtype_f32_to_f16(w[i]));
		else if (kind == SP_PANEL_BF16)
			w[i] = sp_dtype_bf16_to_f32(sp_dtype_f32_to_bf16(w[i]));
	}
}

static void
check_matmul(size_t n, size_t in, size_t out, int with_bias)
{
	const enum sp_panel_kind kind = (enum sp_panel_kind)(draw() % 3);
	const size_t size = sp_kernels_panels_size(kind, out, in, 0);
	float *x = numbers(n * in, 2), *w = numbers(out * in, 1), *b = numbers(out, 1);
	float *bias = with_bias ? b : NULL;
	void *data = malloc(size);
	const struct sp_panels panels = {kind, 0, data};
	float *expected = numbers(n * out, 0), *y = numbers(n * out + 1, 0);

	round_to(kind, w, out * in);
	plain_matmul(x, n, in, w, bias, out, expected);
	for (size_t i = 0; i < ISAS; i++) {
		if (!sp_kernels_select(isas[i]))
			continue;
		for (size_t p = 0; p < POOLS; p++) {
			memset(data, 0xff, size);
			memset(y, 0xff, (n * out + 1) * sizeof(float));
			sp_kernels_pack(pools[p], kind, w, out, in, data);
			sp_kernels_matmul(pools[p], x, n, in, &panels, bias, out, y);
			if (memcmp(y, expected, n * out * sizeof(float)) != 0)
				fail_msg("%s: %s %zu x %zu x %zu differs", isas[i], kinds[kind], n,
				    in, out);
			assert_true(isnan(y[n * out])); /* nothing beyond */
		}
	}
	free(x);
	free(w);
	free(b);
	free(data);
	free(expected);
	free(y);
}

/* Around the sizes of tiles (4, 6, 12 rows), panels (32 columns) and blocks (192 rows, 512 deep).
 */
static void
test_matmul(void **state)
{
	static const size_t rows[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 24, 25};
	static const size_t columns[] = {1, 31, 32, 33, 100};
	static const size_t depths[] = {1, 2, 17, 64};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (size_t k = 0; k < sizeof(columns) / sizeof(columns[0]); k++)
			check_matmul(rows[i], depths[(i + k) % 4], columns[k], (i + k) % 3 == 0);
	}
	check_matmul(191, 65, 40, 1);
	check_matmul(193, 64, 33, 0);
	check_matmul(400, 3, 70, 1);
	check_matmul(193, 33, 32 * 64 + 5, 1); /* panels in groups, the last one short */
	for (size_t i = 0; i < 6; i++) {
		check_matmul(5, 511 + i % 3, 33, i % 2);
		check_matmul(13, 1100, 64, 0);
	}
	check_matmul(3, 1025, 31, 1);
	for (size_t i = 0; i < 6; i++) { /* x is packed */
		check_matmul(1 + 5 * i, 512, 33, i % 2);
		check_matmul(193 + i, 1024, 40 + i, i % 2);
	}
}

/* More rows than are packed at a time (32 MiB). */
static void
test_matmul_chunks(void **state)
{
	const size_t n = 9, in = (size_t)1 << 20, out = 2;
	const struct sp_panels panels = {
	    SP_PANEL_F32, 0, malloc(sp_kernels_panels_size(SP_PANEL_F32, out, in, 0))};
	float *x = numbers(n * in, 1), *w = numbers(out * in, 1), expected[9 * 2], y[9 * 2];

	(void)state;
	assert_non_null(panels.data);
	plain_matmul(x, n, in, w, NULL, out, expected);
	for (size_t i = 0; i < ISAS; i++) {
		if (!sp_kernels_select(isas[i]))
			continue;
		sp_kernels_pack(pools[1], SP_PANEL_F32, w, out, in, (void *)(uintptr_t)panels.data);
		sp_kernels_matmul(pools[1], x, n, in, &panels, NULL, out, y);
		assert_memory_equal(y, expected, sizeof(expected));
	}
	free(x);
	free(w);
	free((void *)(uintptr_t)panels.data);
}

/* The 4-bit codes as kernels.h lays them out, against w = (code - zero) * scale. */
static void
check_q4(size_t n, size_t in, size_t out, size_t group)
{
	size_t size = sp_kernels_panels_size(SP_PANEL_Q4, out, in, group);
	uint8_t *data = calloc(size, 1), *packed = calloc(size, 1), *all_zeros = calloc(in, out);
	const struct sp_panels panels = {SP_PANEL_Q4, group, data};
	float *x = numbers(n * in, 2), *w = numbers(out * in, 0);
	float *expected = numbers(n * out, 0), *y = numbers(n * out, 0);
	float *all_scales = numbers(in * out, 0);

	for (size_t c = 0; c < out; c++) {
		uint8_t *panel = data + c / SP_PANEL * (size / sp_kernels_panels(out));
		uint8_t *scales = panel + in * SP_PANEL / 2;
		uint8_t *zeros = scales + in / group * SP_PANEL * 2;
		size_t at = c % SP_PANEL;

		for (size_t g = 0; g < in / group; g++) {
			uint16_t scale = sp_dtype_f32_to_f16((float)(draw() % 1000 + 1) * 1e-4f);

			memcpy(scales + (g * SP_PANEL + at) * 2, &scale, sizeof(scale));
			zeros[g * SP_PANEL + at] = draw() % 16;
			all_scales[g * out + c] = sp_dtype_f16_to_f32(scale);
			all_zeros[g * out + c] = zeros[g * SP_PANEL + at];
			for (size_t k = g * group; k < (g + 1) * group; k++) {
				uint8_t code = draw() % 16;

				panel[k * 16 + at % 16] |= (uint8_t)(at < 16 ? code : code << 4);
				w[c * in + k] = (float)(code - zeros[g * SP_PANEL + at]) *
						sp_dtype_f16_to_f32(scale);
			}
		}
	}
	for (size_t i = 0; i < POOLS; i++) {
		assert_true(
		    sp_kernels_pack_q4(pools[i], w, all_scales, all_zeros, out, in, group, packed));
		assert_memory_equal(packed, data, size);
	}
	plain_matmul(x, n, in, w, NULL, out, expected);
	for (size_t i = 0; i < ISAS; i++) {
		if (!sp_kernels_select(isas[i]))
			continue;
		sp_kernels_matmul(pools[i % POOLS], x, n, in, &panels, NULL, out, y);
		if (memcmp(y, expected, n * out * sizeof(float)) != 0)
			fail_msg("%s: %zu x %zu x %zu in groups of %zu differs", isas[i], n, in,
			    out, group);
	}
	/* a weight between two codes, one beyond them, a scale that fp16 cannot hold */
	w[in - 1] += all_scales[(in / group - 1) * out] / 2;
	assert_false(
	    sp_kernels_pack_q4(pools[1], w, all_scales, all_zeros, out, in, group, packed));
	w[in - 1] = 100 * all_scales[(in / group - 1) * out];
	assert_false(
	    sp_kernels_pack_q4(pools[1], w, all_scales, all_zeros, out, in, group, packed));
	w[in - 1] = 0;
	all_scales[0] = 0x1.0001p-4f;
	assert_false(
	    sp_kernels_pack_q4(pools[1], w, all_scales, all_zeros, out, in, group, packed));
	free(data);
	free(packed);
	free(all_zeros);
	free(all_scales);
	free(x);
	free(w);
	free(expected);
	free(y);
}

static void
test_matmul_q4(void **state)
{
	(void)state;
	check_q4(1, 32, 8, 32);
	check_q4(13, 1024, 40, 128);
	check_q4(3, 704, 64, 64);
	check_q4(30, 640, 33, 640); /* a group wider than a block */
	check_q4(5, 1500, 32, 300); /* and one across its end */
}

static void
check_narrowest(float value, enum sp_panel_kind expected)
{
	float *w = numbers(20000, 0);

	w[19999] = value;
	assert_int_equal(sp_kernels_narrowest(pools[1], w, 20000), expected);
	free(w);
}

/* Every value of 16 bits is known for what it is, and its neighbours in fp32 are not taken for it.
 */
static void
test_narrowest(void **state)
{
	(void)state;
	check_narrowest(0, SP_PANEL_BF16);
	check_narrowest(-0.0f, SP_PANEL_BF16);
	check_narrowest(1e30f, SP_PANEL_F32);
	check_narrowest(0x1p100f, SP_PANEL_BF16);
	check_narrowest(1 + 0x1p-7f, SP_PANEL_BF16);
	check_narrowest(1 + 0x1p-8f, SP_PANEL_F16);
	check_narrowest(-1 - 0x1p-10f, SP_PANEL_F16);
	check_narrowest(1 + 0x1p-11f, SP_PANEL_F32);
	check_narrowest(65504, SP_PANEL_F16);
	check_narrowest(65504 + 16, SP_PANEL_F32);
	check_narrowest(0x1.ffp15f, SP_PANEL_F16);
	check_narrowest(0x1.ffp16f, SP_PANEL_F32);
	check_narrowest(0x3ffp-24f, SP_PANEL_F16);
	check_narrowest(-0x3ffp-24f, SP_PANEL_F16);
	check_narrowest(0x3ffp-25f, SP_PANEL_F32);
	check_narrowest(INFINITY, SP_PANEL_F32);
	check_narrowest(NAN, SP_PANEL_F32);
	for (uint32_t half = 0; half < 0x7c00; half += 7) {
		float values[2] = {sp_dtype_f16_to_f32((uint16_t)half), 1 + 0x1p-10f};

		assert_int_equal(sp_kernels_narrowest(pools[0], values, 2), SP_PANEL_F16);
	}
}

/* Going on from what y holds is the same chain as one that was never cut. */
static void
test_panel_add(void **state)
{
	const size_t n = 7, depth = 300, ldx = 310, ldy = 40;
	float *x = numbers(n * ldx, 1), *panel = numbers(depth * SP_PANEL, 1);

	(void)state;
	for (size_t i = 0; i < ISAS; i++) {
		float whole[7 * 40], parts[7 * 40];

		if (!sp_kernels_select(isas[i]))
			continue;
		for (size_t columns = 1; columns <= SP_PANEL; columns += 31) {
			memset(whole, 0x7f, sizeof(whole));
			memset(parts, 0x7f, sizeof(parts));
			sp_kernels_panel(x, ldx, n, depth, panel, columns, 0, whole, ldy);
			sp_kernels_panel(x, ldx, n, 123, panel, columns, 0, parts, ldy);
			sp_kernels_panel(x + 123, ldx, n, depth - 123, panel + 123 * SP_PANEL,
			    columns, 1, parts, ldy);
			assert_memory_equal(whole, parts, sizeof(whole));
		}
	}
	free(x);
	free(panel);
}

/* --- vectors -----------------------------------------------------------------------------------
 */

static void
test_rmsnorm(void **state)
{
	static const size_t dims[] = {1, 15, 16, 17, 256, 1000};

	(void)state;
	for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++) {
		size_t dim = dims[d], n = 40;
		float *x = numbers(n * dim, 3), *w = numbers(dim, 1), *first = NULL;

		for (size_t i = 0; i < ISAS; i++) {
			float *y = numbers(n * dim, 0);

			if (!sp_kernels_select(isas[i])) {
				free(y);
				continue;
			}
			sp_kernels_rmsnorm(pools[i % POOLS], x, w, 1e-6f, n, dim, y);
			for (size_t r = 0; r < n; r++) {
				double sum = 0;

				for (size_t k = 0; k < dim; k++)
					sum += (double)x[r * dim + k] * x[r * dim + k];
				sum = 1 / sqrt(sum / (double)dim + 1e-6);
				for (size_t k = 0; k < dim; k++)
					assert_true(fabs(y[r * dim + k] -
							 x[r * dim + k] * sum * w[k]) < 3e-6);
			}
			if (first == NULL)
				first = y;
			else
				assert_memory_equal(first, y, n * dim * sizeof(float));
			if (first != y)
				free(y);
		}
		free(x);
		free(w);
		free(first);
	}
}

static void
test_softmax(void **state)
{
	static const size_t counts[] = {1, 2, 15, 16, 17, 33, 1000};

	(void)state;
	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		size_t count = counts[c];
		float *x = numbers(count, 200), *first = NULL;

		for (size_t i = 0; i < ISAS; i++) {
			float *y = malloc(count * sizeof(float));
			double sum = 0, total = 0, max = -INFINITY;

			if (!sp_kernels_select(isas[i])) {
				free(y);
				continue;
			}
			memcpy(y, x, count * sizeof(float));
			sp_kernels_softmax(y, count, 0.125f);
			for (size_t k = 0; k < count; k++)
				max = x[k] > max ? x[k] : max;
			for (size_t k = 0; k < count; k++)
				sum += exp((x[k] - max) * 0.125);
			for (size_t k = 0; k < count; k++) {
				double expected = exp((x[k] - max) * 0.125) / sum;

				assert_true(fabs(y[k] - expected) <= 1e-5 * expected + 1e-30);
				total += y[k];
			}
			assert_true(fabs(total - 1) < 1e-5);
			if (first == NULL)
				first = y;
			else
				assert_memory_equal(first, y, count * sizeof(float));
			if (first != y)
				free(y);
		}
		free(x);
		free(first);
	}
}

static void
test_silu_mul(void **state)
{
	const size_t count = 40000; /* more than a piece */
	float *gate = numbers(count, 30), *up = numbers(count, 2), *first = NULL;

	(void)state;
	gate[0] = 1000;
	gate[1] = -1000;
	gate[2] = 0;
	for (size_t i = 0; i < ISAS; i++) {
		float *y = malloc(count * sizeof(float));

		if (!sp_kernels_select(isas[i])) {
			free(y);
			continue;
		}
		memcpy(y, gate, count * sizeof(float));
		sp_kernels_silu_mul(pools[i % POOLS], y, up, count);
		for (size_t k = 0; k < count; k++) {
			double expected = (double)gate[k] / (1 + exp(-(double)gate[k])) * up[k];

			assert_true(fabs(y[k] - expected) <= 1e-6 * fabs(expected) + 1e-30);
		}
		if (first == NULL)
			first = y;
		else
			assert_memory_equal(first, y, count * sizeof(float));
		if (first != y)
			free(y);
	}
	free(gate);
	free(up);
	free(first);
}

static void
test_add(void **state)
{
	const size_t count = 50001;
	float *a = numbers(count, 1), *b = numbers(count, 1), *sum = malloc(count * sizeof(float));

	(void)state;
	for (size_t p = 0; p < POOLS; p++) {
		memcpy(sum, a, count * sizeof(float));
		sp_kernels_add(pools[p], sum, b, count);
		for (size_t i = 0; i < count; i++)
			assert_true(sum[i] == a[i] + b[i]);
	}
	free(a);
	free(b);
	free(sum);
}

static void
test_rope(void **state)
{
	float x[4] = {1, 2, 3, 4};
	const float turn[4] = {0, 1, 0.6f, 0.8f}; /* a quarter; one with cos 0.6, sin 0.8 */

	(void)state;
	sp_kernels_rope(x, 4, turn);
	assert_true(x[0] == -3 && x[2] == 1);
	assert_true(fabsf(x[1] - (2 * 0.6f - 4 * 0.8f)) < 1e-6f);
	assert_true(fabsf(x[3] - (4 * 0.6f + 2 * 0.8f)) < 1e-6f);
}

static void
test_log_sum_exp(void **state)
{
	const float equal[4] = {1000, 1000, 1000, 1000}, one[1] = {-5};
	float *x = numbers(2048, 10);
	long double sum = 0;

	(void)state;
	assert_true(fabs(sp_kernels_log_sum_exp(equal, 4) - (1000 + log(4))) < 1e-12);
	assert_true(sp_kernels_log_sum_exp(one, 1) == -5);
	for (size_t i = 0; i < 2048; i++)
		sum += expl(x[i]);
	assert_true(fabs(sp_kernels_log_sum_exp(x, 2048) - (double)logl(sum)) < 1e-12);
	free(x);
}

static void
test_select(void **state)
{
	(void)state;
	assert_true(sp_kernels_select("portable"));
	assert_string_equal(sp_kernels_name(), "portable");
	assert_false(sp_kernels_select("sse9"));
	assert_string_equal(sp_kernels_name(), "portable");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pool),
	    cmocka_unit_test(test_pool_bounds),
	    cmocka_unit_test(test_matmul),
	    cmocka_unit_test(test_matmul_chunks),
	    cmocka_unit_test(test_matmul_q4),
	    cmocka_unit_test(test_narrowest),
	    cmocka_unit_test(test_panel_add),
	    cmocka_unit_test(test_rmsnorm),
	    cmocka_unit_test(test_softmax),
	    cmocka_unit_test(test_silu_mul),
	    cmocka_unit_test(test_add),
	    cmocka_unit_test(test_rope),
	    cmocka_unit_test(test_log_sum_exp),
	    cmocka_unit_test(test_select),
	};

	return cmocka_run_group_tests(tests, open_pools, close_pools);
}
