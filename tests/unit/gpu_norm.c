/* gpu_norm.c -- memory, transfers, products, and what is between products, against lib/engine. */
#include "gpu_rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const enum sp_gpu_type types[] = {SP_GPU_F32, SP_GPU_F16, SP_GPU_BF16};
static const float roundings[] = {2e-6f, 1e-3f, 8e-3f}; /* of a value of that type */

/* --- memory ----------------------------------------------------------------------------------
 */

static void
test_limit(void **state)
{
	struct sp_gpu *small = NULL;
	struct sp_gpu_array a, b;
	struct sp_gpu_info info;

	(void)state;
	gpu_ok(sp_gpu_open(0, (size_t)64 << 20, &small, &gpu_err));
	sp_gpu_describe(small, &info);
	assert_true(info.used < (size_t)40 << 20);
	gpu_ok(sp_gpu_alloc(small, SP_GPU_F32, (size_t)5 << 20, &a, &gpu_err));
	assert_int_equal(
	    sp_gpu_alloc(small, SP_GPU_F32, (size_t)14 << 20, &b, &gpu_err), SP_E_NO_MEMORY);
	assert_non_null(strstr(gpu_err.msg, "56 MiB"));
	sp_gpu_free(small, &a);
	assert_int_equal(a.at, 0);
	/* what was freed makes room for another size, and is used again for its own */
	gpu_ok(sp_gpu_alloc(small, SP_GPU_F32, (size_t)7 << 20, &b, &gpu_err));
	sp_gpu_free(small, &b);
	gpu_ok(sp_gpu_alloc(small, SP_GPU_F32, (size_t)7 << 20, &b, &gpu_err));
	sp_gpu_free(small, &b);
	sp_gpu_describe(small, &info);
	assert_true(info.peak <= info.limit);
	sp_gpu_close(&small);
	assert_null(small);
	assert_int_equal(sp_gpu_open(999, (size_t)64 << 20, &small, &gpu_err), SP_E_NOT_FOUND);
}

static void
test_transfers(void **state)
{
	const size_t count = 3001;
	struct sp_gpu_array a = gpu_room(SP_GPU_F32, count), b = gpu_room(SP_GPU_F32, count);
	struct sp_gpu_mark up = {0}, done = {0}, down = {0}, never = {0};
	double ms = -1;
	float *from, *to;
	void *memory;

	(void)state;
	gpu_ok(sp_gpu_host_alloc(gpu, count * sizeof(float), &memory, &gpu_err));
	from = memory;
	gpu_ok(sp_gpu_host_alloc(gpu, count * sizeof(float), &memory, &gpu_err));
	to = memory;
	for (size_t turn = 0; turn < 100; turn++) { /* more marks than are kept */
		for (size_t i = 0; i < count; i += 100)
			from[i] = (float)(turn + i);
		gpu_ok(sp_gpu_upload(gpu, turn == 0 ? never : done, a, from, &up, &gpu_err));
		gpu_ok(sp_gpu_after(gpu, up, &gpu_err));
		gpu_ok(sp_gpu_mark(gpu, &never, &gpu_err));
		gpu_ok(sp_gpu_convert(gpu, a, b, &gpu_err));
		gpu_ok(sp_gpu_mark(gpu, &done, &gpu_err));
		gpu_ok(sp_gpu_download(gpu, done, b, to, &down, &gpu_err));
		gpu_ok(sp_gpu_wait(gpu, down, &gpu_err));
		for (size_t i = 0; i < count; i += 100)
			assert_true(to[i] == (float)(turn + i));
	}
	gpu_ok(sp_gpu_elapsed(gpu, never, done, &ms, &gpu_err));
	assert_true(ms >= 0);
	sp_gpu_host_free(gpu, from);
	sp_gpu_host_free(gpu, to);
	sp_gpu_free(gpu, &a);
	sp_gpu_free(gpu, &b);
}

/* --- products --------------------------------------------------------------------------------
 */

/* c = 2·op(a)·op(b) - c, within twice the precision's rounding. */
static void
compare_gemm(enum sp_gpu_type type, enum sp_gpu_precision precision, int ta, int tb, float eps)
{
	const size_t m = 37, n = 21, k = 53, pad = 3;
	size_t lda = (ta ? m : k) + pad, ldb = (tb ? k : n) + pad;
	float *a = gpu_values(type, lda * (ta ? k : m)), *b = gpu_values(type, ldb * (tb ? n : k));
	float *c = gpu_values(SP_GPU_F32, m * n), *got;
	struct sp_gpu_array ga = gpu_put(type, a, lda * (ta ? k : m));
	struct sp_gpu_array gb = gpu_put(type, b, ldb * (tb ? n : k));
	struct sp_gpu_array gc = gpu_put(SP_GPU_F32, c, m * n);

	gpu_ok(sp_gpu_gemm(gpu, precision, m, n, k, 2.0f, (struct sp_gpu_matrix){ga, 0, lda, ta},
	    (struct sp_gpu_matrix){gb, 0, ldb, tb}, -1.0f, (struct sp_gpu_matrix){gc, 0, n, 0},
	    &gpu_err));
	got = gpu_get(gc);
	for (size_t i = 0; i < m; i++) {
		for (size_t j = 0; j < n; j++) {
			double sum = 0, size = 0;

			for (size_t l = 0; l < k; l++) {
				double x = a[ta ? l * lda + i : i * lda + l];
				double y = b[tb ? j * ldb + l : l * ldb + j];

				sum += x * y;
				size += fabs(x * y);
			}
			sum = 2 * sum - (double)c[i * n + j];
			assert_true(
			    fabs((double)got[i * n + j] - sum) <= 4 * (double)eps * (size + 1));
		}
	}
	free(a);
	free(b);
	free(c);
	free(got);
	sp_gpu_free(gpu, &ga);
	sp_gpu_free(gpu, &gb);
	sp_gpu_free(gpu, &gc);
}

static void
test_gemm(void **state)
{
	(void)state;
	for (int way = 0; way < 4; way++) {
		for (size_t t = 0; t < 3; t++)
			compare_gemm(types[t], SP_GPU_EXACT, way & 1, way >> 1, 0x1p-23f);
		compare_gemm(SP_GPU_F32, SP_GPU_FAST, way & 1, way >> 1, 0x1p-11f);
		compare_gemm(SP_GPU_F32, SP_GPU_SPLIT, way & 1, way >> 1, 0x1p-21f);
	}
}

/* Against the engine's product; and rows are the same whatever is beside them. */
static void
linear(void)
{
	const size_t n = SP_GPU_ROWS + 5, in = 40, out = 24;

	for (size_t t = 1; t < 3; t++) {
		float *x = gpu_values(types[t], n * in), *w = gpu_values(types[t], out * in);
		float *bias = gpu_values(types[t], out), *want = malloc(n * out * sizeof(*want));
		float *got, *rest;
		size_t size = sp_kernels_panels_size(SP_PANEL_F32, out, in, 0);
		struct sp_panels panels = {.kind = SP_PANEL_F32, .data = malloc(size)};
		struct sp_gpu_array gx = gpu_put(types[t], x, n * in);
		struct sp_gpu_array gw = gpu_put(types[t], w, out * in);
		struct sp_gpu_array gb = gpu_put(SP_GPU_F32, bias, out), none = {0};
		struct sp_gpu_array gy = gpu_room(types[t], n * out);
		struct sp_gpu_array wide = gpu_room(SP_GPU_F32, 3 * out);

		assert_true(want != NULL && panels.data != NULL);
		sp_kernels_pack(gpu_pool, SP_PANEL_F32, w, out, in, (void *)(uintptr_t)panels.data);
		sp_kernels_matmul(gpu_pool, x, n, in, &panels, bias, out, want);
		gpu_ok(sp_gpu_linear(gpu, gx, n, in, gw, gb, out, gy, &gpu_err));
		got = gpu_get(gy);
		gpu_near("linear", got, want, n * out, roundings[t]);
		gpu_ok(sp_gpu_linear(gpu, sp_gpu_part(gx, (n - 3) * in, 3 * in), 3, in, gw, none,
		    out, wide, &gpu_err));
		rest = gpu_get(wide);
		sp_kernels_matmul(gpu_pool, x + (n - 3) * in, 3, in, &panels, NULL, out, want);
		gpu_near("rows of linear", rest, want, 3 * out, 1e-5f);
		gpu_ok(sp_gpu_linear(gpu, sp_gpu_part(gx, (n - 3) * in, 3 * in), 3, in, gw, gb, out,
		    sp_gpu_part(gy, 0, 3 * out), &gpu_err));
		free(rest);
		rest = gpu_get(sp_gpu_part(gy, 0, 3 * out));
		assert_memory_equal(rest, got + (n - 3) * out, 3 * out * sizeof(*got));
		gpu_same(gy);
		free(x), free(w), free(bias), free(want), free(got), free(rest);
		free((void *)(uintptr_t)panels.data);
		sp_gpu_free(gpu, &gx);
		sp_gpu_free(gpu, &gw);
		sp_gpu_free(gpu, &gb);
		sp_gpu_free(gpu, &gy);
		sp_gpu_free(gpu, &wide);
	}
}

static void
test_linear(void **state)
{
	(void)state;
	gpu_orders(linear);
}

/* --- between products ------------------------------------------------------------------------
 */

static void
norm(void)
{
	static const size_t dims[] = {4, 33, 128, 500, 3000};

	for (size_t t = 0; t < 9; t++) {
		for (size_t d = 0; d < 5; d++) {
			size_t n = 3, dim = dims[d];
			float *x = gpu_values(types[t / 3], n * dim), *got;
			float *weight = gpu_values(SP_GPU_F32, dim);
			float *want = malloc(n * dim * sizeof(*want));
			struct sp_gpu_array gx = gpu_put(types[t / 3], x, n * dim);
			struct sp_gpu_array gw = gpu_put(SP_GPU_F32, weight, dim);
			struct sp_gpu_array gy = gpu_room(types[t % 3], n * dim);

			assert_non_null(want);
			sp_kernels_rmsnorm(gpu_pool, x, weight, 1e-5f, n, dim, want);
			gpu_ok(sp_gpu_rmsnorm(gpu, gx, gw, 1e-5f, n, dim, gy, &gpu_err));
			got = gpu_get(gy);
			gpu_near("norm", got, want, n * dim, roundings[t % 3]);
			gpu_same(gy);
			free(x), free(weight), free(want), free(got);
			sp_gpu_free(gpu, &gx);
			sp_gpu_free(gpu, &gw);
			sp_gpu_free(gpu, &gy);
		}
	}
}

static void
test_norm(void **state)
{
	(void)state;
	gpu_orders(norm);
}

static void
test_elements(void **state)
{
	(void)state;
	for (size_t t = 0; t < 9; t++) {
		for (size_t count = 1030; count <= 1031; count++) {
			enum sp_gpu_type from = types[t / 3], to = types[t % 3];
			float *x = gpu_values(from, count), *y = gpu_values(to, count), *got;
			struct sp_gpu_array gx = gpu_put(from, x, count);
			struct sp_gpu_array gy = gpu_put(to, y, count);

			gpu_ok(sp_gpu_add(gpu, gy, gx, &gpu_err));
			sp_kernels_add(gpu_pool, y, x, count);
			got = gpu_get(gy);
			gpu_near("add", got, y, count, roundings[t % 3]);
			free(got);
			gpu_ok(sp_gpu_convert(gpu, gx, gy, &gpu_err));
			got = gpu_get(gy);
			gpu_near("convert", got, x, count, roundings[t % 3]);
			if (from == to) {
				float *up = gpu_values(to, count);
				struct sp_gpu_array gu = gpu_put(to, up, count);

				sp_kernels_silu_mul(gpu_pool, x, up, count);
				gpu_ok(sp_gpu_silu_mul(gpu, gy, gu, &gpu_err));
				free(got);
				got = gpu_get(gy);
				gpu_near("silu", got, x, count, roundings[t % 3]);
				free(up);
				sp_gpu_free(gpu, &gu);
			}
			free(x), free(y), free(got);
			sp_gpu_free(gpu, &gx);
			sp_gpu_free(gpu, &gy);
		}
	}
}

static void
test_rope(void **state)
{
	const size_t n = 5, heads = 3, dim = 24, positions = 9;
	const uint32_t at[] = {8, 0, 3, 3, 7};
	float *rope = gpu_values(SP_GPU_F32, positions * dim);
	struct sp_gpu_array grope = gpu_put(SP_GPU_F32, rope, positions * dim);
	struct sp_gpu_array ids = gpu_put_ids(at, n);

	(void)state;
	for (size_t t = 0; t < 3; t++) {
		float *x = gpu_values(types[t], n * heads * dim), *got;
		struct sp_gpu_array gx = gpu_put(types[t], x, n * heads * dim);

		gpu_ok(sp_gpu_rope(gpu, gx, n, heads, dim, grope, ids, &gpu_err));
		for (size_t h = 0; h < n * heads; h++)
			sp_kernels_rope(x + h * dim, dim, rope + at[h / heads] * dim);
		got = gpu_get(gx);
		gpu_near("rope", got, x, n * heads * dim, roundings[t]);
		free(x), free(got);
		sp_gpu_free(gpu, &gx);
	}
	free(rope);
	sp_gpu_free(gpu, &grope);
	sp_gpu_free(gpu, &ids);
}

static void
test_rows(void **state)
{
	const size_t rows = 7, dim = 300, n = 4;
	const uint32_t ids[] = {6, 0, 7, 2}; /* the third is none */
	float *table = gpu_values(SP_GPU_BF16, rows * dim), *got, *cache;
	struct sp_gpu_array gt = gpu_put(SP_GPU_BF16, table, rows * dim);
	struct sp_gpu_array gi = gpu_put_ids(ids, n), gy = gpu_room(SP_GPU_F32, n * dim);
	struct sp_gpu_array gc = gpu_room(SP_GPU_F16, rows * dim);

	(void)state;
	gpu_ok(sp_gpu_gather(gpu, gt, rows, dim, gi, n, gy, &gpu_err));
	got = gpu_get(gy);
	gpu_ok(sp_gpu_zero(gpu, gc, &gpu_err));
	gpu_ok(sp_gpu_scatter(gpu, gy, n, dim, gi, gc, &gpu_err));
	cache = gpu_get(gc);
	for (size_t r = 0; r < n; r++) {
		for (size_t i = 0; i < dim; i++) {
			float want = ids[r] < rows ? table[ids[r] * dim + i] : 0.0f;

			assert_true(got[r * dim + i] == want);
			if (ids[r] < rows)
				assert_true(fabsf(cache[ids[r] * dim + i] - want) <= 1e-3f);
			assert_true(cache[1 * dim + i] == 0.0f);
		}
	}
	free(table), free(got), free(cache);
	sp_gpu_free(gpu, &gt);
	sp_gpu_free(gpu, &gi);
	sp_gpu_free(gpu, &gy);
	sp_gpu_free(gpu, &gc);
}

static void
test_add_rows(void **state)
{
	const size_t rows = 5, dim = 40, n = 3;
	const uint32_t ids[] = {4, 9, 1}; /* the second is none */
	const float weights[] = {0.5f, 1.0f, -2.0f};
	float *x = gpu_values(SP_GPU_BF16, n * dim), *y = gpu_values(SP_GPU_F32, rows * dim), *got;
	struct sp_gpu_array gx = gpu_put(SP_GPU_BF16, x, n * dim);
	struct sp_gpu_array gy = gpu_put(SP_GPU_F32, y, rows * dim);
	struct sp_gpu_array gi = gpu_put_ids(ids, n), gw = gpu_put(SP_GPU_F32, weights, n);

	(void)state;
	gpu_ok(sp_gpu_add_rows(gpu, gx, n, dim, gi, gw, gy, rows, &gpu_err));
	for (size_t t = 0; t < n; t++) {
		for (size_t i = 0; i < dim && ids[t] < rows; i++)
			y[ids[t] * dim + i] += weights[t] * x[t * dim + i];
	}
	got = gpu_get(gy);
	gpu_near("added rows", got, y, rows * dim, 1e-6f);
	free(x), free(y), free(got);
	sp_gpu_free(gpu, &gx);
	sp_gpu_free(gpu, &gy);
	sp_gpu_free(gpu, &gi);
	sp_gpu_free(gpu, &gw);
}

static void
score(void)
{
	const size_t n = 3, vocab = 1009;
	const uint32_t ids[] = {1008, 0, 500};

	for (size_t t = 0; t < 3; t++) {
		float *logits = gpu_values(types[t], n * vocab), *lse, *chosen;
		uint32_t best[3];
		struct sp_gpu_array gl, gi = gpu_put_ids(ids, n), gs = gpu_room(SP_GPU_F32, n);
		struct sp_gpu_array gc = gpu_room(SP_GPU_F32, n), gb = gpu_room(SP_GPU_U32, n);

		for (size_t i = 0; i < n * vocab; i++)
			logits[i] *= 16.0f;
		logits[700] = logits[77] = 40.0f; /* equals: the first counts */
		gl = gpu_put(types[t], logits, n * vocab);
		gpu_ok(sp_gpu_score(gpu, gl, n, vocab, gi, gs, gc, gb, &gpu_err));
		lse = gpu_get(gs);
		chosen = gpu_get(gc);
		gpu_ok(sp_gpu_read(gpu, gb, best, &gpu_err));
		assert_int_equal(best[0], 77);
		for (size_t r = 0; r < n; r++) {
			float want = (float)sp_kernels_log_sum_exp(logits + r * vocab, vocab);

			gpu_near("log sum", &lse[r], &want, 1, 2e-6f);
			assert_true(chosen[r] == logits[r * vocab + ids[r]]);
			for (size_t i = 0; i < vocab; i++)
				assert_true(logits[r * vocab + i] <= logits[r * vocab + best[r]]);
		}
		gpu_same(gs);
		gpu_same(gb);
		free(logits), free(lse), free(chosen);
		sp_gpu_free(gpu, &gl);
		sp_gpu_free(gpu, &gi);
		sp_gpu_free(gpu, &gs);
		sp_gpu_free(gpu, &gc);
		sp_gpu_free(gpu, &gb);
	}
}

static void
test_score(void **state)
{
	(void)state;
	gpu_orders(score);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_limit),
	    cmocka_unit_test(test_transfers),
	    cmocka_unit_test(test_gemm),
	    cmocka_unit_test(test_linear),
	    cmocka_unit_test(test_norm),
	    cmocka_unit_test(test_elements),
	    cmocka_unit_test(test_rope),
	    cmocka_unit_test(test_rows),
	    cmocka_unit_test(test_add_rows),
	    cmocka_unit_test(test_score),
	};

	return cmocka_run_group_tests(tests, gpu_setup, gpu_teardown);
}
