/* gram.c -- the output error of one linear layer by the second moments of its inputs. */
#include "awq/gram.h"

#include <stdlib.h>
#include <string.h>

#pragma GCC optimize("O3")

#define CHUNK 256 /* tokens summed at a time: their panels stay in the cache */
#define ROWS 64	  /* of D in a unit of work */

struct moments {
	const float *x;
	float *g;     /* [in][in] */
	float *left;  /* [in][CHUNK]: this chunk of x, transposed */
	float *right; /* [panels][CHUNK][SP_PANEL] */
	size_t in, first, count;
};

/* One panel of columns of the chunk, both ways round. */
static void
moments_pack(void *arg, size_t p)
{
	const struct moments *job = arg;
	float *right = job->right + p * CHUNK * SP_PANEL;

	for (size_t t = 0; t < job->count; t++) {
		const float *row = job->x + (job->first + t) * job->in;

		for (size_t c = 0; c < SP_PANEL; c++) {
			size_t column = p * SP_PANEL + c;
			float value = column < job->in ? row[column] : 0.0f;

			right[t * SP_PANEL + c] = value;
			if (column < job->in)
				job->left[column * CHUNK + t] = value;
		}
	}
}

/* Adds the chunk to the columns of panel p, from the first row down to the diagonal: G is
 * symmetric. */
static void
moments_add(void *arg, size_t p)
{
	const struct moments *job = arg;
	size_t first = p * SP_PANEL;
	size_t columns = job->in - first < SP_PANEL ? job->in - first : SP_PANEL;

	sp_kernels_panel(job->left, CHUNK, first + columns, job->count,
	    job->right + p * CHUNK * SP_PANEL, columns, 1, job->g + first, job->in);
}

static void
mirror(float *g, size_t in)
{
	for (size_t i = 0; i < in; i++) {
		for (size_t j = i + 1; j < in; j++)
			g[j * in + i] = g[i * in + j];
	}
}

enum sp_code
sp_gram_open(struct sp_pool *pool, const float *x, size_t n, size_t in, struct sp_gram *gram,
    struct sp_err *err)
{
	size_t panels = sp_kernels_panels(in);
	struct moments job = {.x = x, .in = in};
	enum sp_code rc = SP_OK;

	*gram = (struct sp_gram){.in = in, .n = n};
	job.g = calloc(in * in, sizeof(float));
	job.left = malloc(in * CHUNK * sizeof(float));
	job.right = malloc(panels * CHUNK * SP_PANEL * sizeof(float));
	gram->panels = malloc(panels * in * SP_PANEL * sizeof(float));
	if (job.g == NULL || job.left == NULL || job.right == NULL || gram->panels == NULL) {
		rc = sp_err_set(
		    err, SP_E_NO_MEMORY, "no memory for the second moments of %zu inputs", in);
		sp_gram_close(gram);
		goto out;
	}
	for (job.first = 0; job.first < n; job.first += CHUNK) {
		job.count = n - job.first < CHUNK ? n - job.first : CHUNK;
		sp_pool_run(pool, panels, moments_pack, &job);
		sp_pool_run(pool, panels, moments_add, &job);
	}
	mirror(job.g, in);
	sp_kernels_pack(pool, SP_PANEL_F32, job.g, in, in, gram->panels);
out:
	free(job.g);
	free(job.left);
	free(job.right);
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
