/*
 * plane.h -- 4-bit rounding whose errors are compensated: what one weight's rounding changes in the
 * output, the weights that are rounded after it make up for.
 *
 * This is GPTQ's update (Frantar et al., arXiv:2210.17323) in the form of Babai's nearest plane
 * (Chen et al., arXiv:2507.18553): with H = L·Lᵀ the error of a row is ‖Lᵀ(w - q)‖², and going from
 * the last column to the first each code is the best one given those after it. Unlike GPTQ's own
 * form it needs no inverse of H.
 */
#ifndef SP_PLANE_H
#define SP_PLANE_H

#include "awq/factor.h"
#include "awq/round.h"

struct sp_plane {
	/* awq/factor.h, of what the layer takes as it will run; or, with scales[in], of that times
	 * them: then w is scaled by them first */
	const float *factor, *scales;
	/* sp_plane_drift of the rows: the weights are moved so that the output stays though the
	 * inputs are not the exact model's. NULL: nothing. */
	const float *drift;
	size_t in;
	struct sp_grid grid;
	/* How much is tried for the range of each row's group: shrink >= 1 widths (100 %, 95 %, …),
	 * then `refine` rounds of a fitted scale and of the neighbouring zero points. */
	size_t shrink, refine;
	/* Without codes: so many of the rows are enough, in runs of 32 over all of them. 0: all. */
	size_t sample;
};

/* drift[panels of out][in][32] = G·Wᵀ: what inputs that are G (sp_gram_add_drift, divided by the
 * tokens) from the exact model's ask of each row of w[out][in]. */
enum sp_code sp_plane_drift(struct sp_pool *pool, const float *g, const float *w, size_t out,
    size_t in, float *drift, struct sp_err *err) SP_MUST_USE;

/*
 * Rounds w[out][in]. loss: mean over tokens and outputs (those rounded) of the squared error that
 * remains; drift's part that no weights can undo is not in it. Scales are fp16 when the codes are
 * chosen. codes may be NULL when only the loss is wanted; else free with sp_round_free.
 * SP_E_INVALID when a scale does not fit fp16.
 */
enum sp_code sp_plane_round(struct sp_pool *pool, const struct sp_plane *plane, const float *w,
    size_t out, struct sp_codes *codes, double *loss, struct sp_err *err) SP_MUST_USE;

/* The same measure for any other q[out][in] in place of w (drift is not looked at). */
enum sp_code sp_plane_loss(struct sp_pool *pool, const struct sp_plane *plane, const float *w,
    const float *q, size_t out, double *loss, struct sp_err *err) SP_MUST_USE;

#endif
