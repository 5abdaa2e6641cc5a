/* gram.c -- the output error of one linear layer by the second moments of its inputs. */
#include "awq/gram.h"

#include <stdlib.h>
#include <string.h>

#pragma GCC optimize("O3")

#define CHUNK 256 /* tokens summed at a time: their panels stay in the cache */
#define TURN 1024 /* tokens of one sum; then it is added to those before */
#define ROWS 64	  /* of D in a unit of work */

struct moments {
	const float *a, *b, *scales; /* NULL: b as it is */
	float *g;		     /* [in][in] */
	float *turn;		     /* [panels][in][SP_PANEL]: sums of this turn */
	float *left;		     /* [in][CHUNK]: this chunk of a, transposed */
	float *right;		     /* [panels][CHUNK][SP_PANEL], of b */
	size_t in, first, count;
	int add; /* not the first chunk of a turn */
};

/* One panel of columns of the chunk: a's transposed, b's as they are. */
static void
moments_pack(void *arg, size_t p)
{
	const struct moments *job = arg;
	size_t begin = p * SP_PANEL;
	size_t columns = job->in - begin < SP_PANEL ? job->in - begin : SP_PANEL;
	float *right = job->right + p * CHUNK * SP_PANEL;

	for (size_t t = 0; t < job->count; t++) {
		const float *a = job->a + (job->first + t) * job->in + begin;
		const float *b = job->b + (job->first + t) * job->in + begin;

		memset(right + t * SP_PANEL, 0, SP_PANEL * sizeof(*right));
		memcpy(right + t * SP_PANEL, b, columns * sizeof(*right));
		for (size_t c = 0; c < columns && job->scales != NULL; c++)
			right[t * SP_PANEL + c] = b[c] / job->scales[begin + c] - a[c];
		for (size_t c = 0; c < columns; c++)
			job->left[(begin + c) * CHUNK + t] = a[c];
	}
}

/* The rows that are computed of panel p: AᵀA is symmetric, from its diagonal on it is mirrored. */
static size_t
moments_rows(const struct moments *job, size_t p)
{
	size_t end = (p + 1) * SP_PANEL < job->in ? (p + 1) * SP_PANEL : job->in;

	return job->a == job->b ? end : job->in;
}

static void
moments_multiply(void *arg, size_t p)
{
	const struct moments *job = arg;

	sp_kernels_panel(job->left, CHUNK, moments_rows(job, p), job->count,
	    job->right + p * CHUNK * SP_PANEL, SP_PANEL, job->add,
	    job->turn + p * job->in * SP_PANEL, SP_PANEL);
}

static void
moments_add(void *arg, size_t p)
{
	const struct moments *job = arg;
	const float *turn = job->turn + p * job->in * SP_PANEL;
	size_t begin = p * SP_PANEL;
	size_t columns = job->in - begin < SP_PANEL ? job->in - begin : SP_PANEL;

	for (size_t i = 0; i < moments_rows(job, p); i++) {
		for (size_t c = 0; c < columns; c++)
			job->g[i * job->in + begin + c] += turn[i * SP_PANEL + c];
	}
}

static void
mirror(float *g, size_t in)
{
	for (size_t i = 0; i < in; i++) {
		for (size_t j = i + 1; j < in; j++)
			g[j * in + i] = g[i * in + j];
	}
}

static enum sp_code
moments(struct sp_pool *pool, const float *a, const float *b, const float *scales, size_t n,
    size_t in, float *g, struct sp_err *err)
{
	size_t panels = sp_kernels_panels(in);
	struct moments job = {.a = a, .b = b, .scales = scales, .g = g, .in = in};
	enum sp_code rc = SP_OK;

	job.left = malloc(in * CHUNK * sizeof(float));
	job.right = malloc(panels * CHUNK * SP_PANEL * sizeof(float));
	job.turn = malloc(panels * in * SP_PANEL * sizeof(float));
	if (job.left == NULL || job.right == NULL || job.turn == NULL) {
		rc = sp_err_set(
		    err, SP_E_NO_MEMORY, "no memory for the second moments of %zu inputs", in);
		goto out;
	}
	memset(g, 0, in * in * sizeof(*g));
	for (job.first = 0; job.first < n; job.first += CHUNK) {
		job.count = n - job.first < CHUNK ? n - job.first : CHUNK;
		job.add = job.first % TURN != 0;
		sp_pool_run(pool, panels, moments_pack, &job);
		sp_pool_run(pool, panels, moments_multiply, &job);
		if ((job.first + CHUNK) % TURN == 0 || job.first + CHUNK >= n)
			sp_pool_run(pool, panels, moments_add, &job);
	}
	if (a == b)
		mirror(g, in);
out:
	free(job.left);
	free(job.right);
	free(job.turn);
	return rc;
}

enum sp_code
sp_gram_moments(struct sp_pool *pool, const float *a, const float *b, size_t n, size_t in, float *g,
    struct sp_err *err)
{
	return moments(pool, a, b, NULL, n, in, g, err);
}

enum sp_code
sp_gram_drift(struct sp_pool *pool, const float *a, const float *b, const float *scales, size_t n,
    size_t in, float *g, struct sp_err *err)
{
	SP_ASSERT(a != b);
	return moments(pool, a, b, scales, n, in, g, err);
}

enum sp_code
sp_gram_open(struct sp_pool *pool, const float *x, size_t n, size_t in, struct sp_gram *gram,
    struct sp_err *err)
{
	float *g = malloc(in * in * sizeof(*g));
	enum sp_code rc = SP_OK;

	*gram = (struct sp_gram){.in = in, .n = n};
	gram->panels = malloc(sp_kernels_panels(in) * in * SP_PANEL * sizeof(float));
	if (g == NULL || gram->panels == NULL)
		rc = sp_err_set(
		    err, SP_E_NO_MEMORY, "no memory for the second moments of %zu inputs", in);
	else
		rc = sp_gram_moments(pool, x, x, n, in, g, err);
	if (rc == SP_OK)
		sp_kernels_pack(pool, SP_PANEL_F32, g, in, in, gram->panels);
	else
		sp_gram_close(gram);
	free(g);
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
	double *sums; /* one of each unit */
	float *work;  /* [units][2][ROWS][in] */
	size_t out;
};

static void
loss_rows(void *arg, size_t unit)
{
	const struct loss *job = arg;
	size_t in = job->gram->in, first = unit * ROWS;
	size_t rows = job->out - first < ROWS ? job->out - first : ROWS;
	float *d = job->work + unit * 2 * ROWS * in, *y = d + ROWS * in;
	double sum = 0;

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
}

enum sp_code
sp_gram_loss(const struct sp_gram *gram, struct sp_pool *pool, const float *a, const float *b,
    size_t out, double *loss, struct sp_err *err)
{
	size_t units = (out + ROWS - 1) / ROWS;
	struct loss job = {.gram = gram, .a = a, .b = b, .out = out};
	enum sp_code rc = SP_OK;

	*loss = 0;
	job.sums = malloc(units * sizeof(*job.sums));
	job.work = malloc(units * 2 * ROWS * gram->in * sizeof(*job.work));
	if (job.sums == NULL || job.work == NULL) {
		rc = sp_err_set(err, SP_E_NO_MEMORY, "no memory for the error of %zu outputs", out);
		goto out;
	}
	sp_pool_run(pool, units, loss_rows, &job);
	for (size_t i = 0; i < units; i++)
		*loss += job.sums[i];
	*loss /= (double)out * (double)gram->n;
out:
	free(job.sums);
	free(job.work);
	return rc;
}
