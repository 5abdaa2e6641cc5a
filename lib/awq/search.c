/* search.c -- AutoAWQ's searches for scales and clip limits. */
#include "awq/search.h"

#include "awq/gram.h"
#include "awq/power.h"
#include "awq/round.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC optimize("O3")

#define COLUMNS 64 /* of a unit of work in the statistics */
#define SUMS_MAX SP_SEARCH_GROUP_MAX
#define CHUNK_BYTES ((size_t)1 << 30) /* AutoAWQ's max_chunk_memory */
#define CLIP_TOKENS 512		      /* AutoAWQ's n_sample_token */
#define CLIP_ROWS 32		      /* of a unit of work in the clip search */

static size_t
smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

static float
narrow(float x, int half)
{
	return half ? sp_dtype_f16_to_f32(sp_dtype_f32_to_f16(x)) : x;
}

/* --- statistics --------------------------------------------------------------------------------
 */

/* Sums of rows as PyTorch's CPU kernel forms them: so many partial sums, each of up to 2^power of
 * those below it, and a column apart from the others. */
#define LEVELS 4

struct sums {
	float level[LEVELS][SUMS_MAX];
	size_t columns, rows;
	unsigned power;
};

static void
sums_start(struct sums *sums, size_t columns, size_t rows)
{
	memset(sums, 0, sizeof(*sums));
	sums->columns = columns;
	while (((size_t)1 << sums->power) < rows)
		sums->power++;
	sums->power = sums->power / LEVELS > 4 ? sums->power / LEVELS : 4;
}

/* A level that is full goes up; what remains is added at the end, from below. */
static void
sums_add(struct sums *sums, const float *row)
{
	size_t mask = ((size_t)1 << sums->power) - 1, rows = ++sums->rows;

	for (size_t c = 0; c < sums->columns; c++)
		sums->level[0][c] += row[c];
	for (size_t j = 1; j < LEVELS && (rows & mask) == 0; j++) {
		rows >>= sums->power;
		for (size_t c = 0; c < sums->columns; c++) {
			sums->level[j][c] += sums->level[j - 1][c];
			sums->level[j - 1][c] = 0.0f;
		}
	}
}

static const float *
sums_end(struct sums *sums)
{
	for (size_t j = 1; j < LEVELS; j++) {
		for (size_t c = 0; c < sums->columns; c++)
			sums->level[0][c] += sums->level[j][c];
	}
	return sums->level[0];
}

struct x_mean {
	const float *x;
	float *mean;
	size_t n, in;
	int half;
};

static void
x_mean_columns(void *arg, size_t unit)
{
	const struct x_mean *job = arg;
	size_t first = unit * COLUMNS, count = smaller(COLUMNS, job->in - first);
	size_t chunk = smaller(job->n, CHUNK_BYTES / ((job->half ? 4 : 8) * job->in));
	float all[COLUMNS] = {0}, row[COLUMNS] = {0};
	struct sums sums;

	for (size_t done = 0; done < job->n; done += chunk) {
		size_t rows = smaller(chunk, job->n - done);
		const float *sum;

		sums_start(&sums, count, rows);
		for (size_t t = done; t < done + rows; t++) {
			for (size_t c = 0; c < count; c++)
				row[c] = fabsf(job->x[t * job->in + first + c]);
			sums_add(&sums, row);
		}
		sum = sums_end(&sums);
		for (size_t c = 0; c < count; c++)
			all[c] += sum[c];
	}
	for (size_t c = 0; c < count; c++)
		job->mean[first + c] = narrow(all[c] / (float)job->n, job->half);
}

void
sp_search_x_mean(struct sp_pool *pool, const float *x, size_t n, size_t in, int half, float *mean)
{
	struct x_mean job = {.x = x, .mean = mean, .n = n, .in = in, .half = half};

	sp_pool_run(pool, (in + COLUMNS - 1) / COLUMNS, x_mean_columns, &job);
}

struct w_mean {
	const struct sp_linear *const *linears;
	float *mean;
	size_t count, group, rows;
	int half;
};

/* One group of columns, over all rows of all linears. */
static void
w_mean_group(void *arg, size_t unit)
{
	const struct w_mean *job = arg;
	float row[SP_SEARCH_GROUP_MAX] = {0};
	const float *sum;
	struct sums sums;

	sums_start(&sums, job->group, job->rows);
	for (size_t l = 0; l < job->count; l++) {
		const struct sp_linear *linear = job->linears[l];

		for (size_t r = 0; r < linear->out; r++) {
			const float *w = linear->w + r * linear->in + unit * job->group;
			float max = 0.0f;

			for (size_t c = 0; c < job->group; c++)
				max = fabsf(w[c]) > max ? fabsf(w[c]) : max;
			max = narrow(max + 1e-6f, job->half); /* of 0 still 17 fp16 steps above 0 */
			for (size_t c = 0; c < job->group; c++)
				row[c] = narrow(fabsf(w[c]) / max, job->half);
			sums_add(&sums, row);
		}
	}
	sum = sums_end(&sums);
	for (size_t c = 0; c < job->group; c++)
		job->mean[unit * job->group + c] = narrow(sum[c] / (float)job->rows, job->half);
}

void
sp_search_w_mean(struct sp_pool *pool, const struct sp_linear *const *linears, size_t count,
    size_t group, int half, float *mean)
{
	struct w_mean job = {
	    .linears = linears, .mean = mean, .count = count, .group = group, .half = half};

	SP_ASSERT(group <= SP_SEARCH_GROUP_MAX && linears[0]->in % group == 0);
	for (size_t l = 0; l < count; l++)
		job.rows += linears[l]->out;
	sp_pool_run(pool, linears[0]->in / group, w_mean_group, &job);
}

/* --- scales ------------------------------------------------------------------------------------
 */

void
sp_search_scales(const float *x_mean, const float *w_mean, size_t in, size_t k, float *scales)
{
	/* Python's numbers, of which PyTorch makes fp32 */
	double ratio = (double)k / SP_SEARCH_RATIOS, rest = 1 - ratio;
	float min = INFINITY, max = 0.0f, middle;

	for (size_t i = 0; i < in; i++) {
		float x = sp_power(x_mean[i], (float)ratio), w = sp_power(w_mean[i], (float)rest);
		float s = x / (w + 1e-4f);

		s = s < 1e-4f ? 1e-4f : s;
		min = s < min ? s : min;
		max = s > max ? s : max;
		scales[i] = s;
	}
	middle = sqrtf(max * min);
	for (size_t i = 0; i < in; i++) {
		scales[i] /= middle;
		if (!isfinite(scales[i]))
			scales[i] = 1.0f;
	}
}

struct round {
	const float *w, *scales, *inverse;
	float *out;
	size_t in;
	struct sp_grid grid;
};

static void
round_row(void *arg, size_t r)
{
	const struct round *job = arg;
	const float *w = job->w + r * job->in;
	float *out = job->out + r * job->in;

	for (size_t c = 0; c < job->in; c++)
		out[c] = w[c] * job->scales[c];
	sp_round_fake(out, job->in, job->grid, out);
	for (size_t c = 0; c < job->in; c++)
		out[c] *= job->inverse[c];
}

void
sp_search_round(struct sp_pool *pool, const float *w, size_t rows, size_t in, struct sp_grid grid,
    const float *scales, float *out)
{
	float *inverse = sp_xcalloc(in, sizeof(*inverse));
	struct round job = {
	    .w = w, .scales = scales, .inverse = inverse, .out = out, .in = in, .grid = grid};

	for (size_t c = 0; c < in; c++)
		inverse[c] = 1.0f / scales[c];
	sp_pool_run(pool, rows, round_row, &job);
	free(inverse);
}

enum sp_code
sp_search_ratio(const float *x_mean, const float *w_mean, size_t in, sp_search_loss_fn *loss,
    void *arg, float *scales, struct sp_search_result *out, struct sp_err *err)
{
	double least = INFINITY;

	out->best = out->count = SP_SEARCH_RATIOS;
	for (size_t k = 0; k < SP_SEARCH_RATIOS; k++) {
		enum sp_code rc;

		sp_search_scales(x_mean, w_mean, in, k, scales);
		rc = loss(arg, scales, &out->losses[k], err);
		if (rc != SP_OK)
			return rc;
		out->shares[k] = 1;
		if (out->losses[k] < least) {
			least = out->losses[k];
			out->best = k;
		}
	}
	if (out->best == SP_SEARCH_RATIOS)
		return sp_err_set(err, SP_E_INVALID,
		    "no ratio gives a finite output error: the weights or the activations are not");
	sp_search_scales(x_mean, w_mean, in, out->best, scales);
	return SP_OK;
}

/* --- clip limits -------------------------------------------------------------------------------
 */

struct clip {
	const float *w;
	const float *moments; /* [in / group]: of the group's inputs, in panels */
	float *limits;
	uint8_t *steps;
	size_t out, in, group;
	struct sp_grid grid;
};

static size_t
panels_size(size_t group)
{
	return sp_kernels_panels(group) * group * SP_PANEL;
}

/* err[r] = dᵀGd, Σ over tokens of (x · d)², of each row d[rows][group]. */
static void
clip_error(const struct clip *job, const float *g, const float *d, size_t rows, double *err)
{
	float y[CLIP_ROWS * SP_SEARCH_GROUP_MAX];
	size_t group = job->group;

	for (size_t p = 0; p < group; p += SP_PANEL)
		sp_kernels_panel(d, group, rows, group, g + p * group, smaller(SP_PANEL, group - p),
		    0, y + p, group);
	for (size_t r = 0; r < rows; r++) {
		err[r] = 0;
		for (size_t c = 0; c < group; c++)
			err[r] += (double)d[r * group + c] * (double)y[r * group + c];
	}
}

/* Some rows of one group. What is multiplied is the difference Q(clamp(w)) - w, which says the same
 * as two products and their difference, without their cancellation. */
static void
clip_unit(void *arg, size_t unit)
{
	const struct clip *job = arg;
	size_t blocks = (job->out + CLIP_ROWS - 1) / CLIP_ROWS, group = job->group;
	size_t g = unit / blocks, first = unit % blocks * CLIP_ROWS;
	size_t rows = smaller(CLIP_ROWS, job->out - first), groups = job->in / group;
	const float *moments = job->moments + g * panels_size(group);
	float d[CLIP_ROWS * SP_SEARCH_GROUP_MAX];
	float max[CLIP_ROWS] = {0};
	double err[CLIP_ROWS], least[CLIP_ROWS];

	for (size_t k = 0; k < SP_SEARCH_CLIP_STEPS; k++) {
		float limit[CLIP_ROWS];

		for (size_t r = 0; r < rows; r++) {
			const float *w = job->w + (first + r) * job->in + g * group;
			float *q = d + r * group;

			for (size_t c = 0; k == 0 && c < group; c++)
				max[r] = fabsf(w[c]) > max[r] ? fabsf(w[c]) : max[r];
			limit[r] = max[r] * (float)(1.0 - (double)k / 20);
			memcpy(q, w, group * sizeof(*q));
			sp_search_clamp(q, 1, group, group, &limit[r]);
			sp_round_fake(q, group, job->grid, q);
			for (size_t c = 0; c < group; c++)
				q[c] -= w[c];
		}
		clip_error(job, moments, d, rows, err);
		for (size_t r = 0; r < rows; r++) {
			size_t at = (first + r) * groups + g;

			if (k > 0 && !(err[r] < least[r]))
				continue;
			least[r] = err[r];
			job->limits[at] = limit[r];
			if (job->steps != NULL)
				job->steps[at] = (uint8_t)k;
		}
	}
}

/* The moments of every stride-th token, divided by the scales, group by group. */
static enum sp_code
clip_moments(struct sp_pool *pool, const float *x, size_t n, size_t stride, const float *scales,
    size_t in, size_t group, float *moments, struct sp_err *err)
{
	size_t count = (n + stride - 1) / stride;
	float *tokens = malloc(count * group * sizeof(*tokens));
	float *g = malloc(group * group * sizeof(*g));
	enum sp_code rc = SP_OK;

	if (tokens == NULL || g == NULL)
		rc = sp_err_set(err, SP_E_NO_MEMORY, "no memory for the moments of %zu tokens", n);
	for (size_t first = 0; first < in && rc == SP_OK; first += group) {
		for (size_t t = 0; t < count; t++) {
			const float *from = x + t * stride * in + first;

			for (size_t c = 0; c < group; c++)
				tokens[t * group + c] =
				    from[c] / (scales != NULL ? scales[first + c] : 1.0f);
		}
		memset(g, 0, group * group * sizeof(*g));
		rc = sp_gram_add(pool, tokens, count, group, g, err);
		sp_gram_mirror(pool, group, g);
		if (rc == SP_OK)
			sp_kernels_pack(pool, SP_PANEL_F32, g, group, group,
			    moments + first / group * panels_size(group));
	}
	free(tokens);
	free(g);
	return rc;
}

enum sp_code
sp_search_clip(struct sp_pool *pool, const float *w, size_t out, size_t in, struct sp_grid grid,
    const float *x, size_t n, const float *scales, float *limits, uint8_t *steps,
    struct sp_err *err)
{
	size_t stride = n / CLIP_TOKENS > 0 ? n / CLIP_TOKENS : 1, group = grid.group;
	struct clip job = {.w = w,
	    .limits = limits,
	    .steps = steps,
	    .out = out,
	    .in = in,
	    .group = group,
	    .grid = grid};
	float *moments;
	enum sp_code rc;

	SP_ASSERT(group <= SP_SEARCH_GROUP_MAX && in % group == 0 && n > 0);
	moments = malloc(in / group * panels_size(group) * sizeof(*moments));
	if (moments == NULL)
		return sp_err_set(
		    err, SP_E_NO_MEMORY, "no memory for the second moments of %zu inputs", in);
	rc = clip_moments(pool, x, n, stride, scales, in, group, moments, err);
	job.moments = moments;
	if (rc == SP_OK)
		sp_pool_run(
		    pool, (out + CLIP_ROWS - 1) / CLIP_ROWS * (in / group), clip_unit, &job);
	free(moments);
	return rc;
}

void
sp_search_clamp(float *w, size_t out, size_t in, size_t group, const float *limits)
{
	for (size_t r = 0; r < out; r++) {
		for (size_t c = 0; c < in; c++) {
			float limit = limits[r * (in / group) + c / group];
			float *value = &w[r * in + c];

			*value = *value > limit ? limit : *value;
			*value = *value < -limit ? -limit : *value;
		}
	}
}
