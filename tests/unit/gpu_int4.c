/* gpu_int4.c -- layers of 4-bit codes: few tokens, and widened, against what the codes stand for.
 */
#include "gpu_rig.h"

#include "awq/pack.h"
#include "awq/round.h"
#include "model/dtype.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct shape {
	size_t in, out, group, n;
};

/* Parts of blocks, whole blocks, several of them. */
static const struct shape shapes[] = {
    {32, 32, 16, 1},
    {128, 96, 32, 3},
    {640, 288, 128, 8},
    {1408, 512, 128, 2},
};

struct layer {
	struct sp_gpu_int4 on;
	float *w; /* [out][in] */
};

static struct sp_gpu_array
put_words(const uint8_t *values, size_t columns, size_t rows)
{
	uint32_t *words = malloc(rows * columns / 2 + 1);
	struct sp_gpu_array array;

	assert_non_null(words);
	sp_pack_gemm(values, columns, rows, words);
	array = gpu_put_ids(words, rows * columns / 8);
	free(words);
	return array;
}

static void
layer_open(struct layer *layer, const struct shape *shape)
{
	size_t groups = shape->in / shape->group, count = shape->out * groups;
	struct sp_codes codes;
	float *scales = malloc(count * sizeof(*scales));

	layer->w = malloc(shape->out * shape->in * sizeof(float));
	assert_true(scales != NULL && layer->w != NULL);
	gpu_ok(sp_round_alloc(&codes, shape->out, shape->in, shape->group, &gpu_err));
	for (size_t i = 0; i < shape->out * shape->in; i++)
		codes.codes[i] = (uint8_t)((gpu_noise() + 1.0f) * 7.999f);
	for (size_t i = 0; i < count; i++) {
		codes.zeros[i] = (uint8_t)((gpu_noise() + 1.0f) * 7.999f);
		codes.scales[i] = sp_dtype_f32_to_f16(0.02f * (1.5f + gpu_noise()));
		scales[i % groups * shape->out + i / groups] = sp_dtype_f16_to_f32(codes.scales[i]);
	}
	sp_round_decode(&codes, layer->w);
	layer->on = (struct sp_gpu_int4){.in = shape->in,
	    .out = shape->out,
	    .group = shape->group,
	    .qweight = put_words(codes.codes, shape->out, shape->in),
	    .qzeros = put_words(codes.zeros, shape->out, groups),
	    .scales = gpu_put(SP_GPU_F16, scales, count)};
	sp_round_free(&codes);
	free(scales);
}

static void
layer_close(struct layer *layer)
{
	sp_gpu_free(gpu, &layer->on.qweight);
	sp_gpu_free(gpu, &layer->on.qzeros);
	sp_gpu_free(gpu, &layer->on.scales);
	free(layer->w);
}

static void
few(void)
{
	for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
		const struct shape *c = &shapes[s];
		struct layer layer;
		float *x = gpu_values(SP_GPU_F16, c->n * c->in), *got, *one;
		float *bias = gpu_values(SP_GPU_F32, c->out);
		struct sp_gpu_array gx = gpu_put(SP_GPU_F16, x, c->n * c->in);
		struct sp_gpu_array gb = gpu_put(SP_GPU_F32, bias, c->out), none = {0};
		struct sp_gpu_array y = gpu_room(SP_GPU_F32, c->n * c->out);
		struct sp_gpu_array last = gpu_room(SP_GPU_F32, c->out);

		layer_open(&layer, c);
		gpu_ok(sp_gpu_int4(gpu, &layer.on, gx, c->n, gb, y, &gpu_err));
		got = gpu_get(y);
		for (size_t i = 0; i < c->n * c->out; i++) {
			const float *row = x + i / c->out * c->in;
			const float *w = layer.w + i % c->out * c->in;
			double sum = bias[i % c->out], size = 1;

			for (size_t k = 0; k < c->in; k++) {
				sum += (double)row[k] * w[k];
				size += fabs((double)row[k] * w[k]);
			}
			assert_true(fabs(got[i] - sum) <= 2e-5 * size);
		}
		gpu_same(y);
		/* alone, a token gets the same bits */
		gpu_ok(sp_gpu_int4(gpu, &layer.on, sp_gpu_part(gx, (c->n - 1) * c->in, c->in), 1,
		    gb, last, &gpu_err));
		one = gpu_get(last);
		assert_memory_equal(one, got + (c->n - 1) * c->out, c->out * sizeof(*got));
		gpu_ok(sp_gpu_int4(gpu, &layer.on, gx, 1, none, last, &gpu_err));
		free(x), free(bias), free(got), free(one);
		layer_close(&layer);
		sp_gpu_free(gpu, &gx);
		sp_gpu_free(gpu, &gb);
		sp_gpu_free(gpu, &y);
		sp_gpu_free(gpu, &last);
	}
}

static void
test_few(void **state)
{
	(void)state;
	gpu_orders(few);
}

static void
widened(void)
{
	for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
		const struct shape *c = &shapes[s];
		struct layer layer;
		struct sp_gpu_array w = gpu_room(SP_GPU_F16, c->in * c->out);
		float *got;

		layer_open(&layer, c);
		gpu_ok(sp_gpu_int4_widen(gpu, &layer.on, w, &gpu_err));
		got = gpu_get(w);
		gpu_near("widened", got, layer.w, c->in * c->out, 1e-3f);
		gpu_same(w);
		free(got);
		layer_close(&layer);
		sp_gpu_free(gpu, &w);
	}
}

static void
test_widened(void **state)
{
	(void)state;
	gpu_orders(widened);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_few),
	    cmocka_unit_test(test_widened),
	};

	return cmocka_run_group_tests(tests, gpu_setup, gpu_teardown);
}
