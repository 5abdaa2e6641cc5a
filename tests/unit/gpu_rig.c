/* gpu_rig.c -- what the tests of cuda/ share. */
#include "gpu_rig.h"

#include "model/dtype.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LIMIT ((size_t)1 << 30)
#define ORDERS 3

struct sp_err gpu_err;
struct sp_gpu *gpu;
struct sp_pool *gpu_pool;
static uint32_t noise_state = 1;
static uint64_t bits; /* of what gpu_same was given */

void
gpu_ok(enum sp_code rc)
{
	if (rc != SP_OK)
		fail_msg("%s: %s", sp_err_word(rc), gpu_err.msg);
}

int
gpu_setup(void **state)
{
	(void)state;
	gpu_ok(sp_gpu_open(0, LIMIT, &gpu, &gpu_err));
	gpu_ok(sp_pool_open(2, &gpu_pool, &gpu_err));
	return 0;
}

int
gpu_teardown(void **state)
{
	(void)state;
	sp_gpu_close(&gpu);
	sp_pool_close(&gpu_pool);
	return 0;
}

void
gpu_seed(uint32_t seed)
{
	noise_state = seed;
}

float
gpu_noise(void)
{
	noise_state = noise_state * 1664525 + 1013904223;
	return (float)(noise_state >> 8) / (float)(1 << 23) - 1.0f;
}

static enum sp_dtype
dtype_of(enum sp_gpu_type type)
{
	return type == SP_GPU_F16 ? SP_F16 : type == SP_GPU_BF16 ? SP_BF16 : SP_F32;
}

float *
gpu_values(enum sp_gpu_type type, size_t count)
{
	float *values = malloc((count + 1) * sizeof(*values));

	assert_non_null(values);
	for (size_t i = 0; i < count; i++) {
		uint8_t raw[4];

		values[i] = gpu_noise();
		sp_dtype_from_f32(dtype_of(type), &values[i], raw, 1);
		sp_dtype_to_f32(dtype_of(type), raw, &values[i], 1);
	}
	return values;
}

struct sp_gpu_array
gpu_room(enum sp_gpu_type type, size_t count)
{
	struct sp_gpu_array array;

	gpu_ok(sp_gpu_alloc(gpu, type, count, &array, &gpu_err));
	return array;
}

struct sp_gpu_array
gpu_put(enum sp_gpu_type type, const float *values, size_t count)
{
	struct sp_gpu_array array = gpu_room(type, count);
	uint8_t *raw = malloc(count * 4 + 1);

	assert_non_null(raw);
	sp_dtype_from_f32(dtype_of(type), values, raw, count);
	gpu_ok(sp_gpu_write(gpu, array, raw, &gpu_err));
	free(raw);
	return array;
}

struct sp_gpu_array
gpu_put_ids(const uint32_t *ids, size_t count)
{
	struct sp_gpu_array array = gpu_room(SP_GPU_U32, count);

	gpu_ok(sp_gpu_write(gpu, array, ids, &gpu_err));
	return array;
}

float *
gpu_get(struct sp_gpu_array array)
{
	uint8_t *raw = malloc(array.count * 4 + 1);
	float *values = malloc((array.count + 1) * sizeof(*values));

	assert_non_null(raw);
	assert_non_null(values);
	gpu_ok(sp_gpu_read(gpu, array, raw, &gpu_err));
	sp_dtype_to_f32(dtype_of(array.type), raw, values, array.count);
	free(raw);
	return values;
}

void
gpu_near(const char *what, const float *got, const float *want, size_t count, float tolerance)
{
	for (size_t i = 0; i < count; i++) {
		if (!(fabsf(got[i] - want[i]) <= tolerance * (1.0f + fabsf(want[i]))))
			fail_msg("%s: value %zu of %zu is %.9g, not %.9g", what, i, count,
			    (double)got[i], (double)want[i]);
	}
}

void
gpu_same(struct sp_gpu_array array)
{
	size_t size = array.count * sp_gpu_type_size(array.type);
	uint8_t *raw = malloc(size + 1);

	assert_non_null(raw);
	gpu_ok(sp_gpu_read(gpu, array, raw, &gpu_err));
	for (size_t i = 0; i < size; i++)
		bits = (bits ^ raw[i]) * 0x100000001b3; /* FNV-1a */
	free(raw);
}

void
gpu_orders(void (*test)(void))
{
	uint64_t first = 0;

	for (int order = 0; order < ORDERS; order++) {
		char text[12];
		void *none = NULL;

		snprintf(text, sizeof(text), "%d", order);
		assert_int_equal(setenv("SALLYPORT_EMU_ORDER", text, 1), 0);
		assert_int_equal(gpu_teardown(&none), 0);
		assert_int_equal(gpu_setup(&none), 0);
		gpu_seed(1);
		bits = 0xcbf29ce484222325;
		test();
		if (order == 0)
			first = bits;
		assert_true(bits == first);
	}
}
