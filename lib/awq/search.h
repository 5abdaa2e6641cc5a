/*
 * search.h -- AutoAWQ's searches: per-channel scales before rounding, and clip limits per group.
 *
 * Matrices are row-major: w[out][in], x[n][in] with a token per row. All arithmetic is fp32 (output
 * errors fp64) in a fixed order, so results do not depend on the number of threads. Where
 * AutoAWQ, running a model in fp16, hands a statistic on in fp16, it is rounded to fp16 here too
 * when half is 1, because ratios differ by less than that rounding moves them.
 *
 * Means and scales have the bits that AutoAWQ 0.2.9 gets of PyTorch 2.6 on one thread of a CPU,
 * because a bit of a scale can move the zero point of a group (see tests/unit/awq_f32.c): sums as
 * at::native's cascade_sum over rows (SumKernel.cpp) forms them, in pieces of AutoAWQ's
 * max_chunk_memory; a sum divided by the count; powers of awq/power.h. Square roots alone are
 * rounded correctly, where PyTorch has what MKL gives on the processor at hand.
 */
#ifndef SP_SEARCH_H
#define SP_SEARCH_H

#include "awq/round.h"
#include "engine/layer.h"

#define SP_SEARCH_RATIOS 20 /* r = k / 20 for k = 0..19 */
#define SP_SEARCH_TRIALS_MAX 40
#define SP_SEARCH_CLIP_STEPS 10 /* limit = max|w| * (1 - k / 20) for k = 0..9 */
#define SP_SEARCH_GROUP_MAX 128 /* weights of a quantization group */

/* mean[in] = mean over tokens of |x|. */
void
sp_search_x_mean(struct sp_pool *pool, const float *x, size_t n, size_t in, int half, float *mean);

/* mean[in] = mean over the rows of all linears (which share `in`) of |w| / (max|w| of the row's
 * group + 1e-6). */
void sp_search_w_mean(struct sp_pool *pool, const struct sp_linear *const *linears, size_t count,
    size_t group, int half, float *mean);

/*
 * "Duo" scales of ratio r = k / 20: s = max(x_mean^r / (w_mean^(1-r) + 1e-4), 1e-4), then divided
 * by sqrt(max s * min s); what is not finite becomes 1.
 */
void sp_search_scales(const float *x_mean, const float *w_mean, size_t in, size_t k, float *scales);

/* out[rows][in] = Q(w * s) / s, what the scaled and rounded layer computes on unscaled inputs. */
void sp_search_round(struct sp_pool *pool, const float *w, size_t rows, size_t in,
    struct sp_grid grid, const float *scales, float *out);

/* Measures the output error that the scales cause; called once per ratio, in order. */
typedef enum sp_code
sp_search_loss_fn(void *arg, const float *scales, double *loss, struct sp_err *err);

struct sp_search_result {
	size_t best;  /* k of the least loss, the first of equals */
	size_t count; /* that were tried */
	/* mean squares; of how many of the calibration's tokens, 1: all. A trial that was worse
	 * than others beyond doubt is not measured further (awq/race.h). */
	double losses[SP_SEARCH_TRIALS_MAX], shares[SP_SEARCH_TRIALS_MAX];
};

/* Tries every ratio; scales[in] receives the best one's. SP_E_INVALID when no loss is finite. */
enum sp_code
sp_search_ratio(const float *x_mean, const float *w_mean, size_t in, sp_search_loss_fn *loss,
    void *arg, float *scales, struct sp_search_result *out, struct sp_err *err) SP_MUST_USE;

/*
 * Clip limits of w[out][in] (in <= a multiple of group, group <= SP_SEARCH_GROUP_MAX): for each row
 * and group the limit of those tried whose rounding errs least on the group's part of the output,
 * mean over tokens of (x·Q(clamp(w)) - x·w)². Takes every (n / 512)-th token, divided by scales[in]
 * unless NULL. limits[out][in / group]; steps (may be NULL) the k of each.
 */
enum sp_code sp_search_clip(struct sp_pool *pool, const float *w, size_t out, size_t in,
    struct sp_grid grid, const float *x, size_t n, const float *scales, float *limits,
    uint8_t *steps, struct sp_err *err) SP_MUST_USE;

/* Clamps w[out][in] to ±limits[out][in / group]. */
void sp_search_clamp(float *w, size_t out, size_t in, size_t group, const float *limits);

#endif
