/* gram.c -- the output error of one linear layer by the second moments of its inputs. */
#include "awq/gram.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC optimize("O3")

#define CHUNK 256	  /* tokens summed at a time: their panels stay in the cache */
#define TURN 1024	  /* tokens of one sum; then it is added to those before */
#define ROWS ((size_t)64) /* of D in a unit of work */
#define BLOCK 192	  /* rows of the moments that are summed while a panel is near */

struct moments {
	const float *a, *b, *scales; /* NULL: b as it is */
	float *g;		     /* [i][32p + c] is g[i * row + p * panel + c] */
	size_t row, panel;
	float *left;  /* [TURN / CHUNK][in][CHUNK]: a's tokens of this turn, transposed */
	float *right; /* [panels][TURN][SP_PANEL], of b */
	size_t in, first, count;
};

/* Columns that panel p holds. */
static size_t
columns_of(const struct moments *job, size_t p)
{
	size_t begin = p * SP_PANEL;

	return job->in - begin < SP_PANEL ? job->in - begin : SP_PANEL;
}

/* One panel of columns of the turn: a's transposed, b's as they are. */
static void
moments_pack(void *arg, size_t p)
{
	const struct moments *job = arg;
	size_t begin = p * SP_PANEL, columns = columns_of(job, p);
	float *right = job->right + p * TURN * SP_PANEL;

	for (size_t t = 0; t < job->count; t++) {
		const float *a = job->a + (job->first + t) * job->in + begin;
		const float *b = job->b + (job->first + t) * job->in + begin;
		float *left = job->left + (t / CHUNK * job->in + begin) * CHUNK + t % CHUNK;

		memset(right + t * SP_PANEL, 0, SP_PANEL * sizeof(*right));
		memcpy(right + t * SP_PANEL, b, columns * sizeof(*right));
		for (size_t c = 0; c < columns && job->scales != NULL; c++)
			right[t * SP_PANEL + c] = b[c] / job->scales[begin + c] - a[c];
		for (size_t c = 0; c < columns; c++)
			left[c * CHUNK] = a[c];
	}
}

/* AᵀA is symmetric: of panel p no row below its diagonal is summed. */
static void
moments_sum(void *arg, size_t p)
{
	const struct moments *job = arg;
	size_t columns = columns_of(job, p);
	size_t end = job->a == job->b ? p * SP_PANEL + columns : job->in;
	const float *right = job->right + p * TURN * SP_PANEL;
	float sums[BLOCK * SP_PANEL];

	for (size_t i = 0; i < end; i += BLOCK) {
		size_t rows = end - i < BLOCK ? end - i : BLOCK, t = 0;

		do {
			sp_kernels_panel(job->left + (t / CHUNK * job->in + i) * CHUNK, CHUNK, rows,
			    job->count - t < CHUNK ? job->count - t : CHUNK, right + t * SP_PANEL,
			    SP_PANEL, t > 0, sums, SP_PANEL);
		} while ((t += CHUNK) < job->count);
		for (size_t r = 0; r < rows; r++) {
			float *to = job->g + (i + r) * job->row + p * job->panel;

			for (size_t c = 0; c < columns; c++)
				to[c] += sums[r * SP_PANEL + c];
		}
	}
}

static enum sp_code
moments(struct sp_pool *pool, struct moments *job, size_t n, struct sp_err *err)
{
	size_t panels = sp_kernels_panels(job->in);
	enum sp_code rc = SP_OK;

	job->left = malloc(job->in * TURN * sizeof(float));
	job->right = malloc(panels * TURN * SP_PANEL * sizeof(float));
	if (job->left == NULL || job->right == NULL)
		rc = sp_err_set(
		    err, SP_E_NO_MEMORY, "no memory for the second moments of %zu inputs", job->in);
	for (job->first = 0; rc == SP_OK && job->first < n; job->first += TURN) {
		job->count = n - job->first < TURN ? n - job->first : TURN;
		sp_pool_run(pool, panels, moments_pack, job);
		sp_pool_run(pool, panels, moments_sum, job);
	}
	free(job->left);
	free(job->right);
	return rc;
}

/* What is right of the diagonal in panel p, below it: no panel reads what another writes. */
static void
mirror_panel(void *arg, size_t p)
{
	const struct moments *job = arg;
	size_t begin = p * SP_PANEL, columns = columns_of(job, p);

	for (size_t i = 0; i < begin + columns; i++) {
		const float *from = job->g + i * job->row + p * job->panel;
		float *to = job->g + i / SP_PANEL * job->panel + i % SP_PANEL;

		for (size_t c = i < begin ? 0 : i - begin + 1; c < columns; c++)
			to[(begin + c) * job->row] = from[c];
	}
}

enum sp_code
sp_gram_add(struct sp_pool *pool, const float *x, size_t n, size_t in, float *g, struct sp_err *err)
{
	struct moments job = {.a = x, .b = x, .g = g, .row = in, .panel = SP_PANEL, .in = in};

	return moments(pool, &job, n, err);
}

void
sp_gram_mirror(struct sp_pool *pool, size_t in, float *g)
{
	struct moments job = {.g = g, .row = in, .panel = SP_PANEL, .in = in};

	sp_pool_run(pool, sp_kernels_panels(in), mirror_panel, &job);
}

enum sp_code
sp_gram_add_drift(struct sp_pool *pool, const float *a, const float *b, const float *scales,
    size_t n, size_t in, float *g, struct sp_err *err)
{
	struct moments job = {
	    .a = a, .b = b, .scales = scales, .g = g, .row = in, .panel = SP_PANEL, .in = in};

	SP_ASSERT(a != b);
	return moments(pool, &job, n, err);
}

/* The moments are summed where sp_kernels_panel takes them from: G = Gᵀ, a column is a row. */
enum sp_code
sp_gram_open(struct sp_pool *pool, const float *x, size_t n, size_t in, struct sp_gram *gram,
    struct sp_err *err)
{
	struct moments job = {.a = x, .b = x, .row = SP_PANEL, .panel = in * SP_PANEL, .in = in};
	enum sp_code rc;

	*gram = (struct sp_gram){.in = in, .n = n};
	gram->panels = calloc(sp_kernels_panels(in) * in * SP_PANEL, sizeof(float));
	if (gram->panels == NULL)
		return sp_err_set(
		    err, SP_E_NO_MEMORY, "no memory for the second moments of %zu inputs", in);
	job.g = gram->panels;
	if ((rc = moments(pool, &job, n, err)))
		sp_gram_close(gram);
	else
		sp_pool_run(pool, sp_kernels_panels(in), mirror_panel, &job);
	return rc;
}

void
sp_gram_close(struct sp_gram *gram)
{
	free(gram->panels);
	memset(gram, 0, sizeof(*gram));
}

struct loss {
	const struct sp_gram *gram;
	const float *a, *b;
	double *sums;	     /* one of each unit */
	atomic_int *starved; /* a unit had no memory */
	size_t out;
};

static void
loss_rows(void *arg, size_t unit)
{
	const struct loss *job = arg;
	size_t in = job->gram->in, first = unit * ROWS;
	size_t rows = job->out - first < ROWS ? job->out - first : ROWS;
	float *d = malloc(2 * ROWS * in * sizeof(*d)), *y;
	double sum = 0;

	if (d == NULL) {
		atomic_store_explicit(job->starved, 1, memory_order_relaxed);
		return;
	}
	y = d + ROWS * in;
	for (size_t i = 0; i < rows * in; i++)
		d[i] = job->a[first * in + i] - job->b[first * in + i];
	for (size_t p = 0; p < sp_kernels_panels(in); p++) {
		size_t columns = in - p * SP_PANEL < SP_PANEL ? in - p * SP_PANEL : SP_PANEL;

		sp_kernels_panel(d, in, rows, in, job->gram->panels + p * in * SP_PANEL, columns, 0,
		    y + p * SP_PANEL, in);
	}
	for (size_t i = 0; i < rows * in; i++)
		sum += (double)d[i] * y[i];
	job->sums[unit] = sum;
	free(d);
}

enum sp_code
sp_gram_loss(const struct sp_gram *gram, struct sp_pool *pool, const float *a, const float *b,
    size_t out, double *loss, struct sp_err *err)
{
	size_t units = (out + ROWS - 1) / ROWS;
	atomic_int starved = 0;
	struct loss job = {.gram = gram, .a = a, .b = b, .starved = &starved, .out = out};
	enum sp_code rc = SP_OK;

	*loss = 0;
	job.sums = calloc(units, sizeof(*job.sums));
	if (job.sums != NULL) {
		sp_pool_run(pool, units, loss_rows, &job);
		for (size_t i = 0; i < units; i++)
			*loss += job.sums[i];
		*loss /= (double)out * (double)gram->n;
	}
	if (job.sums == NULL || starved)
		rc = sp_err_set(err, SP_E_NO_MEMORY, "no memory for the error of %zu outputs", out);
	free(job.sums);
	return rc;
}
