/* factor.c -- Cholesky factorization in blocks of columns, and solving with it. */
#include "awq/factor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC optimize("O3")

#define BLOCK SP_PANEL /* columns factored at a time */
#define ROWS 64	       /* in a unit of work */
#define DAMP_MAX 10.0

static size_t
smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

struct cholesky {
	float *g;
	float *panel; /* [first][BLOCK]: rows first … of L, transposed */
	size_t in, first, count;
};

/* Rows row … row+rows-1 of the block's columns, less what the columns before account for. */
static void
subtract(const struct cholesky *job, size_t row, size_t rows)
{
	float y[ROWS * BLOCK];

	sp_kernels_panel(
	    job->g + row * job->in, job->in, rows, job->first, job->panel, BLOCK, 0, y, BLOCK);
	for (size_t r = 0; r < rows; r++) {
		for (size_t c = 0; c < job->count; c++)
			job->g[(row + r) * job->in + job->first + c] -= y[r * BLOCK + c];
	}
}

/* One row below the block: its part of L. */
static void
finish_row(const struct cholesky *job, size_t row)
{
	const float *block = job->g + job->first * job->in + job->first;
	float *out = job->g + row * job->in + job->first;

	for (size_t c = 0; c < job->count; c++) {
		double sum = out[c];

		for (size_t k = 0; k < c; k++)
			sum -= (double)out[k] * block[c * job->in + k];
		out[c] = (float)(sum / block[c * job->in + c]);
	}
}

static void
below(void *arg, size_t unit)
{
	const struct cholesky *job = arg;
	size_t row = job->first + job->count + unit * ROWS;
	size_t rows = smaller(ROWS, job->in - row);

	subtract(job, row, rows);
	for (size_t r = 0; r < rows; r++)
		finish_row(job, row + r);
}

/* 0: a pivot is not above 0. */
static int
diagonal(const struct cholesky *job)
{
	float *block = job->g + job->first * job->in + job->first;

	for (size_t i = 0; i < job->count; i++) {
		for (size_t c = 0; c <= i; c++) {
			double sum = block[i * job->in + c];

			for (size_t k = 0; k < c; k++)
				sum -= (double)block[i * job->in + k] * block[c * job->in + k];
			if (c < i)
				block[i * job->in + c] = (float)(sum / block[c * job->in + c]);
			else if (sum > 0 && isfinite(sum))
				block[i * job->in + i] = (float)sqrt(sum);
			else
				return 0;
		}
	}
	return 1;
}

/* Only g's lower triangle is read and written. */
static int
factor(struct sp_pool *pool, struct cholesky *job)
{
	for (job->first = 0; job->first < job->in; job->first += BLOCK) {
		size_t rest;

		job->count = smaller(BLOCK, job->in - job->first);
		memset(job->panel, 0, job->first * BLOCK * sizeof(*job->panel));
		for (size_t c = 0; c < job->count; c++) {
			for (size_t k = 0; k < job->first; k++)
				job->panel[k * BLOCK + c] = job->g[(job->first + c) * job->in + k];
		}
		subtract(job, job->first, job->count);
		if (!diagonal(job))
			return 0;
		rest = job->in - job->first - job->count;
		sp_pool_run(pool, (rest + ROWS - 1) / ROWS, below, job);
	}
	return 1;
}

/* The symmetric matrix again: its lower triangle from the upper one and the diagonal. */
static void
restore(float *g, const float *diag, size_t in, double damp)
{
	for (size_t i = 0; i < in; i++) {
		g[i * in + i] = (float)(diag[i] + damp);
		for (size_t j = 0; j < i; j++)
			g[i * in + j] = g[j * in + i];
	}
}

struct upper {
	float *g;
	size_t in;
};

static void
upper_row(void *arg, size_t i)
{
	const struct upper *job = arg;

	for (size_t j = i + 1; j < job->in; j++)
		job->g[i * job->in + j] = job->g[j * job->in + i] / job->g[i * job->in + i];
}

enum sp_code
sp_factor_cholesky(
    struct sp_pool *pool, float *g, size_t in, size_t n, double damp, struct sp_err *err)
{
	struct cholesky job = {.g = g, .in = in};
	struct upper upper = {.g = g, .in = in};
	float *diag = malloc(in * sizeof(*diag));
	enum sp_code rc = SP_OK;
	double mean = 0;

	job.panel = malloc(in * BLOCK * sizeof(*job.panel));
	if (diag == NULL || job.panel == NULL) {
		rc = sp_err_set(err, SP_E_NO_MEMORY, "no memory to factor %zu moments", in);
		goto out;
	}
	for (size_t i = 0; i < in * in; i++)
		g[i] *= (float)(1.0 / (double)n);
	for (size_t i = 0; i < in; i++) {
		diag[i] = g[i * in + i];
		mean += diag[i];
	}
	mean = mean > 0 ? mean / (double)in : 1;
	do {
		if (!isfinite(mean) || damp > DAMP_MAX) {
			rc = sp_err_set(err, SP_E_INVALID, "the activations are not finite");
			goto out;
		}
		restore(g, diag, in, damp * mean);
		damp *= 10;
	} while (!factor(pool, &job));
	sp_pool_run(pool, in, upper_row, &upper);
out:
	free(job.panel);
	free(diag);
	return rc;
}

/* Forward through L, then backward through Lᵀ, a block of columns at a time. */
void
sp_factor_solve(const float *f, size_t in, float *b)
{
	float y[BLOCK * SP_PANEL];

	for (size_t first = 0; first < in; first += BLOCK) {
		size_t count = smaller(BLOCK, in - first);

		sp_kernels_panel(f + first * in, in, count, first, b, SP_PANEL, 0, y, SP_PANEL);
		for (size_t i = first; i < first + count; i++) {
			for (size_t c = 0; c < SP_PANEL; c++) {
				float sum = b[i * SP_PANEL + c] - y[(i - first) * SP_PANEL + c];

				for (size_t k = first; k < i; k++)
					sum -= f[i * in + k] * b[k * SP_PANEL + c];
				b[i * SP_PANEL + c] = sum / f[i * in + i];
			}
		}
	}
	for (size_t end = in; end > 0;) {
		size_t first = (end - 1) / BLOCK * BLOCK;

		sp_kernels_panel(f + first * in + end, in, end - first, in - end,
		    b + end * SP_PANEL, SP_PANEL, 0, y, SP_PANEL);
		for (size_t i = end; i-- > first;) {
			for (size_t c = 0; c < SP_PANEL; c++) {
				float sum = b[i * SP_PANEL + c] / f[i * in + i] -
					    y[(i - first) * SP_PANEL + c];

				for (size_t k = i + 1; k < end; k++)
					sum -= f[i * in + k] * b[k * SP_PANEL + c];
				b[i * SP_PANEL + c] = sum;
			}
		}
		end = first;
	}
}
