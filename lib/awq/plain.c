/* plain.c -- what rounding a layer's weights to nearest would cost. */
#include "awq/plain.h"

#include <stdlib.h>

struct rows {
	float *w;
	size_t in, group;
};

static void
round_row(void *arg, size_t r)
{
	const struct rows *rows = arg;
	float *w = rows->w + r * rows->in;

	sp_round_fake(w, rows->in, rows->group, w);
}

/* Row by row in a fixed order, so that the sum does not depend on threads. */
static double
mean_square(const float *a, const float *b, size_t rows, size_t columns)
{
	double sum = 0;

	for (size_t r = 0; r < rows; r++) {
		double row = 0;

		for (size_t c = 0; c < columns; c++) {
			double d = (double)a[r * columns + c] - (double)b[r * columns + c];

			row += d * d;
		}
		sum += row;
	}
	return sum / (double)(rows * columns);
}

enum sp_code
sp_plain_errors(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_block_inputs *inputs, size_t group, double *attn_error, double *mlp_error,
    struct sp_err *err)
{
	size_t n = inputs->n_seq * inputs->len, hidden = env->config.hidden;
	float *y = NULL;
	enum sp_code rc;

	for (enum sp_layer_linear i = 0; i < SP_LAYER_LINEARS; i++) {
		struct sp_linear *linear = sp_layer_linear(layer, i);
		struct rows rows = {linear->w, linear->in, group};

		sp_pool_run(env->pool, linear->out, round_row, &rows);
	}
	if ((rc = sp_layer_pack(layer, env->pool, err)))
		return rc;
	if ((y = malloc(n * hidden * sizeof(*y))) == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "no memory for %zu outputs", n);
	if ((rc = sp_layer_attention(
		 env, layer, inputs->attn, inputs->n_seq, inputs->len, NULL, y, err)))
		goto out;
	*attn_error = mean_square(y, inputs->attn_out, n, hidden);
	if ((rc = sp_layer_mlp(env, layer, inputs->mlp, n, NULL, y, err)))
		goto out;
	*mlp_error = mean_square(y, inputs->mlp_out, n, hidden);
out:
	free(y);
	return rc;
}
