/* round.c -- 4-bit rounding of weights in groups. */
#include "awq/round.h"

#include "engine/kernels.h"
#include "model/dtype.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The loops below only vectorise so. */
#pragma GCC optimize("O3")

#define SYMMETRIC_MAX 7 /* the largest step above SP_GRID_MIDDLE */
#define RANGE_MIN 1e-5f /* of a group: keeps the scale of a constant group above 0 */

/* Half to even, and exact below 2^22; beyond that the clamp decides, not the rounding. */
static inline float
nearest(float x)
{
	const float shift = 0x1.8p23f;

	return (x + shift) - shift;
}

static inline float
clamp(float x)
{
	x = x < 0.0f ? 0.0f : x;
	return x > SP_ROUND_MAX ? (float)SP_ROUND_MAX : x;
}

static void
range(const float *w, size_t count, float *min, float *max)
{
	float lo = w[0], hi = w[0];

	for (size_t i = 1; i < count; i++) {
		lo = w[i] < lo ? w[i] : lo;
		hi = w[i] > hi ? w[i] : hi;
	}
	*min = lo;
	*max = hi;
}

void
sp_round_fake(const float *w, size_t count, struct sp_grid grid, float *out)
{
	SP_ASSERT(grid.group > 0 && count % grid.group == 0);
	for (size_t g = 0; g < count; g += grid.group)
		sp_kernels_round(w + g, grid.group, grid.symmetric, out + g);
}

static float
half(float x)
{
	return sp_dtype_f16_to_f32(sp_dtype_f32_to_f16(x));
}

enum sp_code
sp_round_half(float *values, size_t count, struct sp_err *err)
{
	for (size_t i = 0; i < count; i++) {
		float value = half(values[i]);

		if (!isfinite(value))
			return sp_err_set(
			    err, SP_E_INVALID, "value %g does not fit fp16", (double)values[i]);
		values[i] = value;
	}
	return SP_OK;
}

/* One group; PyTorch rounds each fp16 operation on its own, and so does this. */
static void
codes_of_group(const float *w, struct sp_grid grid, uint8_t *codes, uint8_t *zero, uint16_t *scale)
{
	const float least = half(RANGE_MIN);
	float min, max, s, z;

	range(w, grid.group, &min, &max);
	if (grid.symmetric) {
		max = max > -min ? max : -min;
		s = half((max < least ? least : max) / SYMMETRIC_MAX);
		z = SP_GRID_MIDDLE;
	} else {
		float span = half(max - min);

		s = half((span < least ? least : span) / SP_ROUND_MAX);
		z = clamp(-nearest(half(min / s)));
	}
	for (size_t i = 0; i < grid.group; i++)
		codes[i] = (uint8_t)clamp(nearest(half(w[i] / s)) + z);
	*zero = (uint8_t)z;
	*scale = sp_dtype_f32_to_f16(s);
}

enum sp_code
sp_round_alloc(struct sp_codes *codes, size_t out, size_t in, size_t group, struct sp_err *err)
{
	size_t groups = in / group;

	SP_ASSERT(group > 0 && in % group == 0);
	*codes = (struct sp_codes){.out = out, .in = in, .group = group};
	codes->codes = malloc(out * in);
	codes->zeros = malloc(out * groups);
	codes->scales = malloc(out * groups * sizeof(*codes->scales));
	if (codes->codes == NULL || codes->zeros == NULL || codes->scales == NULL) {
		sp_round_free(codes);
		return sp_err_set(
		    err, SP_E_NO_MEMORY, "no memory for the codes of %zu x %zu weights", out, in);
	}
	return SP_OK;
}

enum sp_code
sp_round_codes(const float *w, size_t out, size_t in, struct sp_grid grid, struct sp_codes *codes,
    struct sp_err *err)
{
	enum sp_code rc;

	for (size_t i = 0; i < out * in; i++) {
		/* 65504 is the largest fp16; a range of twice that would not fit one */
		if (!(fabsf(w[i]) <= 65504.0f / 2))
			return sp_err_set(err, SP_E_INVALID,
			    "weight %g in row %zu is too large for fp16 codes", (double)w[i],
			    i / in);
	}
	rc = sp_round_alloc(codes, out, in, grid.group, err);
	for (size_t i = 0; rc == SP_OK && i < out * in / grid.group; i++)
		codes_of_group(w + i * grid.group, grid, codes->codes + i * grid.group,
		    &codes->zeros[i], &codes->scales[i]);
	return rc;
}

void
sp_round_decode(const struct sp_codes *codes, float *w)
{
	for (size_t i = 0; i < codes->out * codes->in; i++) {
		size_t g = i / codes->group;

		w[i] = (float)(codes->codes[i] - codes->zeros[g]) *
		       sp_dtype_f16_to_f32(codes->scales[g]);
	}
}

enum sp_code
sp_round_grid(const struct sp_codes *codes, struct sp_linear *linear, struct sp_err *err)
{
	size_t groups = codes->in / codes->group;

	free(linear->scales);
	free(linear->zeros);
	linear->group = codes->group;
	linear->scales = malloc(groups * codes->out * sizeof(*linear->scales));
	linear->zeros = malloc(groups * codes->out);
	if (linear->scales == NULL || linear->zeros == NULL) {
		free(linear->scales);
		free(linear->zeros);
		linear->scales = NULL;
		linear->zeros = NULL;
		return sp_err_set(err, SP_E_NO_MEMORY,
		    "no memory for the scales of %zu x %zu weights", codes->out, codes->in);
	}
	for (size_t r = 0; r < codes->out; r++) {
		for (size_t g = 0; g < groups; g++) {
			linear->scales[g * codes->out + r] =
			    sp_dtype_f16_to_f32(codes->scales[r * groups + g]);
			linear->zeros[g * codes->out + r] = codes->zeros[r * groups + g];
		}
	}
	return SP_OK;
}

void
sp_round_free(struct sp_codes *codes)
{
	free(codes->codes);
	free(codes->zeros);
	free(codes->scales);
	memset(codes, 0, sizeof(*codes));
}
