/* plane.c -- rounding by nearest plane, 32 rows side by side. */
#include "awq/plane.h"

#include "awq/search.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC optimize("O3")

#define LANES SP_PANEL /* rows of a unit of work; matrices of it are [column][LANES] */
#define GROUP_MAX SP_SEARCH_GROUP_MAX
#define SHRINK_STEP 0.05f
#define SCALE_MIN 0x1p-20f /* fp16 has 4 bits left there */

struct job {
	const struct sp_plane *plane;
	const float *w; /* [out][in] */
	size_t out;
	struct sp_codes *codes; /* NULL: not wanted */
	size_t all, units;	/* of LANES rows; how many of them are rounded */
	double *losses;		/* of each unit */
	float *tight;		/* [in / group][group][group]: the factor's blocks, see tighten */
	atomic_int *starved;	/* a unit had no memory */
};

static enum sp_code
no_memory(size_t out, size_t in, struct sp_err *err)
{
	return sp_err_set(err, SP_E_NO_MEMORY, "no memory to round %zu x %zu weights", out, in);
}

/* Those that are rounded lie over all of the rows. */
static size_t
unit_at(const struct job *job, size_t unit)
{
	return unit * job->all / job->units;
}

static inline float
scale_of(const struct sp_plane *plane, size_t i)
{
	return plane->scales == NULL ? 1.0f : plane->scales[i];
}

/* One choice for the group of every lane. */
struct trial {
	float scale[LANES], zero[LANES], loss[LANES];
	float q[GROUP_MAX][LANES];     /* code - zero */
	float error[GROUP_MAX][LANES]; /* w - q * scale */
	float rest[GROUP_MAX][LANES];  /* what remains at each column, times L's diagonal */
};

/* What a group is rounded from. */
struct from {
	const float *w;	    /* [group][LANES] */
	const float *base;  /* [group][LANES]: w moved by the errors of later groups */
	const float *tight; /* [group][group]: row i: by how much column i moves each before it */
	const float *diag;  /* L's, of the group's columns */
	size_t group;
};

static inline __attribute__((always_inline)) float
nearest(float x)
{
	const float shift = 0x1.8p23f; /* halves to even; |x| < 2^22 */

	return (x + shift) - shift;
}

static inline __attribute__((always_inline)) float
between(float x, float low, float high)
{
	x = x < low ? low : x;
	return x > high ? high : x;
}

/* Nearest plane within the group, for t's scale and zero. */
static void
run(const struct from *from, struct trial *t)
{
	float target[GROUP_MAX][LANES], inverse[LANES];

	memcpy(target, from->base, from->group * sizeof(*target));
	for (size_t l = 0; l < LANES; l++) {
		inverse[l] = 1.0f / t->scale[l];
		t->loss[l] = 0.0f;
	}
	for (size_t i = from->group; i-- > 0;) {
		const float *by = from->tight + i * from->group;
		float *error = t->error[i];

		for (size_t l = 0; l < LANES; l++) {
			float x = between(target[i][l] * inverse[l], -64.0f, 64.0f);
			float q = between(nearest(x), -t->zero[l], SP_ROUND_MAX - t->zero[l]);
			float rest = (target[i][l] - q * t->scale[l]) * from->diag[i];

			t->q[i][l] = q;
			t->rest[i][l] = rest;
			t->loss[l] += rest * rest;
			error[l] = from->w[i * LANES + l] - q * t->scale[l];
		}
		for (size_t k = 0; k < i; k++) {
			float weight = by[k];

			for (size_t l = 0; l < LANES; l++)
				target[k][l] += error[l] * weight;
		}
	}
}

static void
round_scale(struct trial *t)
{
	for (size_t l = 0; l < LANES; l++) {
		float scale = t->scale[l] > SCALE_MIN ? t->scale[l] : SCALE_MIN;

		t->scale[l] = sp_dtype_f16_to_f32(sp_dtype_f32_to_f16(scale));
	}
}

/* Runs t and keeps it in the lanes where it is better. */
static void
consider(const struct from *from, struct trial *t, struct trial *best)
{
	round_scale(t);
	run(from, t);
	for (size_t l = 0; l < LANES; l++) {
		if (!(t->loss[l] < best->loss[l]))
			continue;
		best->loss[l] = t->loss[l];
		best->scale[l] = t->scale[l];
		best->zero[l] = t->zero[l];
		for (size_t i = 0; i < from->group; i++) {
			best->q[i][l] = t->q[i][l];
			best->error[i][l] = t->error[i][l];
			best->rest[i][l] = t->rest[i][l];
		}
	}
}

/* The whole range of what is to be rounded, and parts of it. A range holds 0 always: a zero point
 * outside 0..15 cannot be stored. */
static void
try_widths(
    const struct sp_plane *plane, const struct from *from, struct trial *t, struct trial *best)
{
	float low[LANES] = {0}, high[LANES] = {0};

	for (size_t i = 0; i < from->group; i++) {
		for (size_t l = 0; l < LANES; l++) {
			float x = from->base[i * LANES + l];

			low[l] = x < low[l] ? x : low[l];
			high[l] = x > high[l] ? x : high[l];
		}
	}
	for (size_t k = 0; k < plane->shrink; k++) {
		float width = 1.0f - SHRINK_STEP * (float)k;

		for (size_t l = 0; l < LANES; l++) {
			float most = high[l] > -low[l] ? high[l] : -low[l];
			float scale = (high[l] - low[l]) / SP_ROUND_MAX * width;

			if (plane->grid.symmetric)
				scale = most / 7.5f * width;
			t->scale[l] = scale;
		}
		round_scale(t);
		for (size_t l = 0; l < LANES; l++)
			t->zero[l] = plane->grid.symmetric
					 ? SP_GRID_MIDDLE
					 : between(nearest(-low[l] * width / t->scale[l]), 0.0f,
					       SP_ROUND_MAX);
		consider(from, t, best);
	}
}

/* The scale that fits best's codes: the remainder is linear in it. */
static void
fit_scale(const struct from *from, const struct trial *best, struct trial *t)
{
	float above[LANES] = {0}, below[LANES] = {0}, moved[GROUP_MAX][LANES];

	memcpy(moved, best->q, from->group * sizeof(*moved));
	for (size_t i = from->group; i-- > 0;) {
		const float *by = from->tight + i * from->group;

		for (size_t l = 0; l < LANES; l++) {
			float slope = moved[i][l] * from->diag[i];

			above[l] += best->rest[i][l] * slope;
			below[l] += slope * slope;
		}
		for (size_t k = 0; k < i; k++) {
			for (size_t l = 0; l < LANES; l++)
				moved[k][l] += best->q[i][l] * by[k];
		}
	}
	for (size_t l = 0; l < LANES; l++) {
		t->scale[l] = best->scale[l] + (below[l] > 0.0f ? above[l] / below[l] : 0.0f);
		t->zero[l] = best->zero[l];
	}
}

static void
refine(const struct sp_plane *plane, const struct from *from, struct trial *t, struct trial *best)
{
	fit_scale(from, best, t);
	consider(from, t, best);
	for (int step = -1; step <= 1 && !plane->grid.symmetric; step += 2) {
		for (size_t l = 0; l < LANES; l++) {
			t->scale[l] = best->scale[l];
			t->zero[l] = between(best->zero[l] + (float)step, 0.0f, SP_ROUND_MAX);
		}
		consider(from, t, best);
	}
}

static void
keep(const struct job *job, size_t first, size_t group, const struct trial *best)
{
	struct sp_codes *codes = job->codes;
	size_t size = job->plane->grid.group, groups = job->plane->in / size;

	for (size_t l = 0; l < LANES && first + l < job->out; l++) {
		size_t row = first + l;
		uint8_t *to = codes->codes + row * job->plane->in + group * size;

		for (size_t i = 0; i < size; i++) {
			float code = best->q[i][l] + best->zero[l];

			SP_ASSERT(code >= 0.0f && code <= SP_ROUND_MAX);
			to[i] = (uint8_t)code;
		}
		codes->zeros[row * groups + group] = (uint8_t)best->zero[l];
		codes->scales[row * groups + group] = sp_dtype_f32_to_f16(best->scale[l]);
	}
}

/* w's rows of the unit, transposed and scaled. */
static void
load(const struct job *job, size_t first, float *w)
{
	for (size_t i = 0; i < job->plane->in; i++) {
		float scale = scale_of(job->plane, i);

		for (size_t l = 0; l < LANES; l++)
			w[i * LANES + l] = first + l < job->out
					       ? job->w[(first + l) * job->plane->in + i] * scale
					       : 0.0f;
	}
}

/* Adds to w what the inputs' drift asks for: w·drift·H⁻¹. */
static enum sp_code
follow(const struct sp_plane *plane, size_t unit, float *w)
{
	size_t count = plane->in * LANES;
	float *move = malloc(count * sizeof(*move));

	if (move == NULL)
		return SP_E_NO_MEMORY;
	memcpy(move, plane->drift + unit * count, count * sizeof(*move));
	sp_factor_solve(plane->factor, plane->in, move);
	for (size_t i = 0; i < count; i++)
		w[i] += move[i];
	free(move);
	return SP_OK;
}

/* The group's weights moved by what was lost behind it, where w holds errors (divided by the
 * scales) already. */
static void
move_group(const struct sp_plane *plane, size_t begin, const float *w, float *base)
{
	size_t size = plane->grid.group, end = begin + size, in = plane->in;
	float sums[GROUP_MAX * LANES];

	memcpy(base, w + begin * LANES, size * LANES * sizeof(*base));
	if (plane->scales == NULL) {
		sp_kernels_panel(plane->factor + begin * in + end, in, size, in - end,
		    w + end * LANES, LANES, 1, base, LANES);
		return;
	}
	sp_kernels_panel(plane->factor + begin * in + end, in, size, in - end, w + end * LANES,
	    LANES, 0, sums, LANES);
	for (size_t i = 0; i < size; i++) {
		for (size_t l = 0; l < LANES; l++)
			base[i * LANES + l] += sums[i * LANES + l] * plane->scales[begin + i];
	}
}

static void
round_group(
    const struct job *job, size_t first, size_t g, float *w, struct trial trials[2], double *loss)
{
	const struct sp_plane *plane = job->plane;
	size_t size = plane->grid.group, begin = g * size, in = plane->in;
	float base[GROUP_MAX * LANES], diag[GROUP_MAX];
	const struct from from = {.w = w + begin * LANES,
	    .base = base,
	    .tight = job->tight + g * size * size,
	    .diag = diag,
	    .group = size};
	struct trial *best = &trials[0];

	move_group(plane, begin, w, base);
	for (size_t i = 0; i < size; i++)
		diag[i] = plane->factor[(begin + i) * in + begin + i] / scale_of(plane, begin + i);
	for (size_t l = 0; l < LANES; l++)
		best->loss[l] = INFINITY;
	try_widths(plane, &from, &trials[1], best);
	for (size_t k = 0; k < plane->refine; k++)
		refine(plane, &from, &trials[1], best);
	if (job->codes != NULL)
		keep(job, first, g, best);
	for (size_t l = 0; l < LANES && first + l < job->out; l++)
		*loss += best->loss[l];
	for (size_t i = 0; i < size; i++) {
		for (size_t l = 0; l < LANES; l++)
			w[(begin + i) * LANES + l] = best->error[i][l] / scale_of(plane, begin + i);
	}
}

/* A unit that meets values that fp16 cannot hold leaves a loss that is not finite. */
static void
round_unit(void *arg, size_t unit)
{
	const struct job *job = arg;
	const struct sp_plane *plane = job->plane;
	float *w = malloc(plane->in * LANES * sizeof(*w));
	struct trial *trials = malloc(2 * sizeof(*trials));
	size_t at = unit_at(job, unit);
	double loss = 0;

	if (trials == NULL || w == NULL)
		goto starved;
	load(job, at * LANES, w);
	if (plane->drift != NULL && follow(plane, at, w) != SP_OK)
		goto starved;
	for (size_t g = plane->in / plane->grid.group; g-- > 0;)
		round_group(job, at * LANES, g, w, trials, &loss);
	job->losses[unit] = loss;
	goto out;
starved:
	atomic_store_explicit(job->starved, 1, memory_order_relaxed);
out:
	free(w);
	free(trials);
}

/* For each group its block of the factor, transposed: row i holds, for k < i, how column i's error
 * moves column k. */
static void
tighten(const struct sp_plane *plane, float *tight)
{
	size_t size = plane->grid.group, in = plane->in;

	for (size_t g = 0; g < in / size; g++) {
		for (size_t i = 0; i < size; i++) {
			for (size_t k = 0; k < i; k++)
				tight[(g * size + i) * size + k] =
				    plane->factor[(g * size + k) * in + g * size + i] *
				    (scale_of(plane, g * size + k) / scale_of(plane, g * size + i));
		}
	}
}

/* Rows that were rounded. */
static size_t
rows_of(const struct job *job)
{
	size_t rows = 0;

	for (size_t i = 0; i < job->units; i++) {
		size_t left = job->out - unit_at(job, i) * LANES;

		rows += left < LANES ? left : LANES;
	}
	return rows;
}

enum sp_code
sp_plane_round(struct sp_pool *pool, const struct sp_plane *plane, const float *w, size_t out,
    struct sp_codes *codes, double *loss, struct sp_err *err)
{
	size_t size = plane->grid.group, all = (out + LANES - 1) / LANES;
	size_t sample = (plane->sample + LANES - 1) / LANES;
	atomic_int starved = 0;
	struct job job = {.plane = plane,
	    .w = w,
	    .out = out,
	    .codes = codes,
	    .all = all,
	    .units = sample == 0 || sample > all ? all : sample,
	    .starved = &starved};
	enum sp_code rc = SP_OK;

	SP_ASSERT(size <= GROUP_MAX && plane->in % size == 0 && plane->shrink > 0);
	SP_ASSERT(codes == NULL || (plane->sample == 0 && plane->scales == NULL));
	SP_ASSERT(plane->drift == NULL || plane->scales == NULL);
	*loss = 0;
	job.losses = calloc(job.units, sizeof(*job.losses));
	job.tight = calloc(plane->in * size, sizeof(*job.tight));
	if (job.losses == NULL || job.tight == NULL) {
		rc = no_memory(out, plane->in, err);
		goto out;
	}
	if (codes != NULL && (rc = sp_round_alloc(codes, out, plane->in, size, err)))
		goto out;
	tighten(plane, job.tight);
	sp_pool_run(pool, job.units, round_unit, &job);
	for (size_t i = 0; i < job.units; i++)
		*loss += job.losses[i];
	*loss /= (double)rows_of(&job);
	if (starved)
		rc = no_memory(out, plane->in, err);
	else if (!isfinite(*loss))
		rc = sp_err_set(err, SP_E_INVALID, "rounding %zu x %zu weights: no finite error",
		    out, plane->in);
	if (rc != SP_OK && codes != NULL)
		sp_round_free(codes);
out:
	free(job.losses);
	free(job.tight);
	return rc;
}

/* --- what drifting inputs ask for ----------------------------------------------------------------
 */

struct drift {
	const float *g, *w;
	size_t out, in;
	float *drift;
	atomic_int *starved;
};

static void
drift_panel(void *arg, size_t p)
{
	const struct drift *job = arg;
	const struct sp_plane plain = {.in = job->in};
	const struct job rows = {.plane = &plain, .w = job->w, .out = job->out};
	float *w = malloc(job->in * LANES * sizeof(*w));

	if (w == NULL) {
		atomic_store_explicit(job->starved, 1, memory_order_relaxed);
		return;
	}
	load(&rows, p * LANES, w);
	sp_kernels_panel(job->g, job->in, job->in, job->in, w, LANES, 0,
	    job->drift + p * job->in * LANES, LANES);
	free(w);
}

enum sp_code
sp_plane_drift(struct sp_pool *pool, const float *g, const float *w, size_t out, size_t in,
    float *drift, struct sp_err *err)
{
	atomic_int starved = 0;
	struct drift job = {
	    .g = g, .w = w, .out = out, .in = in, .drift = drift, .starved = &starved};

	sp_pool_run(pool, sp_kernels_panels(out), drift_panel, &job);
	return starved ? no_memory(out, in, err) : SP_OK;
}

/* --- any rounding by the same measure ------------------------------------------------------------
 */

struct measure {
	const struct sp_plane *plane;
	const float *w, *q;
	size_t out;
	double *losses;
	atomic_int *starved;
};

static void
measure_unit(void *arg, size_t unit)
{
	const struct measure *job = arg;
	size_t in = job->plane->in, size = job->plane->grid.group, first = unit * LANES;
	float *d = malloc(2 * in * LANES * sizeof(*d)), *y;
	const float *f = job->plane->factor;
	double sum = 0;

	if (d == NULL) {
		atomic_store_explicit(job->starved, 1, memory_order_relaxed);
		return;
	}
	y = d + in * LANES;
	for (size_t i = 0; i < in; i++) {
		for (size_t l = 0; l < LANES; l++) {
			size_t at = (first + l) * in + i;

			d[i * LANES + l] = first + l < job->out ? job->w[at] - job->q[at] : 0.0f;
		}
	}
	/* (Lᵀd)[i] = L[i][i] · (d[i] + Σ of row i above the diagonal · d) */
	for (size_t g = 0; g < in; g += size)
		sp_kernels_panel(f + g * in + g + size, in, size, in - g - size,
		    d + (g + size) * LANES, LANES, 0, y + g * LANES, LANES);
	for (size_t i = 0; i < in; i++) {
		size_t end = (i / size + 1) * size;

		for (size_t l = 0; l < LANES; l++) {
			float value = y[i * LANES + l] + d[i * LANES + l];

			for (size_t j = i + 1; j < end; j++)
				value += f[i * in + j] * d[j * LANES + l];
			value *= f[i * in + i];
			sum += (double)value * value;
		}
	}
	job->losses[unit] = sum;
	free(d);
}

enum sp_code
sp_plane_loss(struct sp_pool *pool, const struct sp_plane *plane, const float *w, const float *q,
    size_t out, double *loss, struct sp_err *err)
{
	size_t units = (out + LANES - 1) / LANES;
	atomic_int starved = 0;
	struct measure job = {.plane = plane, .w = w, .q = q, .out = out, .starved = &starved};
	enum sp_code rc = SP_OK;

	*loss = 0;
	job.losses = calloc(units, sizeof(*job.losses));
	if (job.losses != NULL)
		sp_pool_run(pool, units, measure_unit, &job);
	for (size_t i = 0; job.losses != NULL && i < units; i++)
		*loss += job.losses[i];
	*loss /= (double)out;
	if (job.losses == NULL || starved)
		rc = no_memory(out, plane->in, err);
	free(job.losses);
	return rc;
}
