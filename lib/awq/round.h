/* round.h -- 4-bit rounding of weights in groups, as AutoAWQ's pseudo_quantize_tensor. */
#ifndef SP_ROUND_H
#define SP_ROUND_H

#include "engine/linear.h"

#include <stdint.h>

#define SP_ROUND_MAX 15	 /* largest code */
#define SP_GRID_MIDDLE 8 /* the zero point where there is no choice of one */

/* Where a run of weights may be rounded to. */
struct sp_grid {
	size_t group;  /* weights that share a scale */
	int symmetric; /* 1: the zero point is SP_GRID_MIDDLE */
};

/*
 * Q(w) in fp32: each group of w[count] becomes (q - z) * s with
 * s = max(max - min, 1e-5) / 15, z = clamp(-round(min / s)), q = clamp(round(w / s) + z), both
 * within 0..15, halves to even; symmetric: s = max(max|w|, 1e-5) / 7, z = 8. out may be w. count is
 * a multiple of the group.
 */
void sp_round_fake(const float *w, size_t count, struct sp_grid grid, float *out);

/* A linear layer's codes: w[r][c] = (codes[r][c] - zeros[r][c/group]) * scales[r][c/group]. */
struct sp_codes {
	size_t out, in, group;
	uint8_t *codes;	  /* [out][in], 0..15 */
	uint8_t *zeros;	  /* [out][in / group], 0..15 */
	uint16_t *scales; /* [out][in / group], fp16 */
};

/*
 * The same rounding with every intermediate value in fp16, which is what a checkpoint stores: for
 * weights that are fp16 values the codes are AutoAWQ's, bit for bit. w[out][in] must be finite and
 * within fp16 (SP_E_INVALID); in is a multiple of the group. Free with sp_round_free.
 */
enum sp_code sp_round_codes(const float *w, size_t out, size_t in, struct sp_grid grid,
    struct sp_codes *codes, struct sp_err *err) SP_MUST_USE;
/* Room for codes that are found elsewhere. */
enum sp_code sp_round_alloc(
    struct sp_codes *codes, size_t out, size_t in, size_t group, struct sp_err *err) SP_MUST_USE;
/* w[out][in] that codes stand for. */
void sp_round_decode(const struct sp_codes *codes, float *w);
/* Tells the linear layer how its w, decoded, comes of codes: it packs to an eighth then. */
enum sp_code sp_round_grid(
    const struct sp_codes *codes, struct sp_linear *linear, struct sp_err *err) SP_MUST_USE;
void sp_round_free(struct sp_codes *codes);

/* Rounds values to the nearest fp16; SP_E_INVALID when one of them is not finite there. */
enum sp_code sp_round_half(float *values, size_t count, struct sp_err *err) SP_MUST_USE;

#endif
