/* trial.c -- the scales of one group of linear layers, chosen by what the layer then gives. */
#include "awq/trial.h"

#include "awq/gram.h"

#include <stdlib.h>

static const struct sp_linear *
linear_of(const struct sp_layer *layer, enum sp_layer_linear which)
{
	return sp_layer_linear((struct sp_layer *)(uintptr_t)layer, which);
}

/* One search: the layer with trial weights in place of some linear layers. */
struct trial {
	const struct sp_layer_env *env;
	const struct sp_layer *layer;
	const struct sp_block_inputs *inputs;
	const struct sp_block_group *which;
	struct sp_grid grid;
	struct sp_layer with; /* weights of `which` are the trial's own, all else borrowed */
	float *y;	      /* [n][hidden] */
	struct sp_gram gram;  /* when which->count is 1 */
};

static enum sp_code
trial_open(struct trial *trial, const float *x, struct sp_err *err)
{
	size_t n = trial->inputs->n_seq * trial->inputs->len;
	enum sp_code rc = SP_OK;

	trial->with = *trial->layer;
	for (size_t i = 0; i < trial->which->count; i++) {
		struct sp_linear *own =
		    sp_layer_linear(&trial->with, trial->which->first + (unsigned)i);

		own->w = own->packed = NULL;
	}
	for (size_t i = 0; i < trial->which->count && rc == SP_OK; i++) {
		struct sp_linear *own =
		    sp_layer_linear(&trial->with, trial->which->first + (unsigned)i);

		rc = sp_block_floats(&own->w, own->out, own->in, err);
	}
	if (rc == SP_OK && trial->which->count == 1)
		rc = sp_gram_open(trial->env->pool, x, n, trial->which->in, &trial->gram, err);
	else if (rc == SP_OK)
		rc = sp_block_floats(&trial->y, n, trial->env->config.hidden, err);
	return rc;
}

static void
trial_close(struct trial *trial)
{
	for (size_t i = 0; i < trial->which->count; i++) {
		struct sp_linear *own =
		    sp_layer_linear(&trial->with, trial->which->first + (unsigned)i);

		free(own->w);
		free(own->packed);
	}
	free(trial->y);
	sp_gram_close(&trial->gram);
}

static enum sp_code
trial_loss(void *arg, const float *scales, double *loss, struct sp_err *err)
{
	struct trial *trial = arg;
	const struct sp_block_inputs *in = trial->inputs;
	const struct sp_layer_env *env = trial->env;
	size_t n = in->n_seq * in->len;
	enum sp_code rc;

	for (size_t i = 0; i < trial->which->count; i++) {
		enum sp_layer_linear which = trial->which->first + (unsigned)i;
		struct sp_linear *own = sp_layer_linear(&trial->with, which);
		const struct sp_linear *plain = linear_of(trial->layer, which);

		sp_search_round(
		    env->pool, plain->w, own->out, own->in, trial->grid, scales, own->w);
		if (trial->which->count == 1)
			return sp_gram_loss(
			    &trial->gram, env->pool, own->w, plain->w, own->out, loss, err);
		rc = sp_linear_pack(own, env->pool, err);
		if (rc != SP_OK)
			return rc;
	}
	if (trial->which->first == SP_LAYER_Q) {
		rc = sp_layer_attention(
		    env, &trial->with, in->attn, in->n_seq, in->len, NULL, trial->y, err);
		if (rc == SP_OK)
			rc = sp_block_difference(
			    env->pool, trial->y, in->attn_out, n * env->config.hidden, loss, err);
	} else {
		rc = sp_layer_mlp(env, &trial->with, in->mlp, n, NULL, trial->y, err);
		if (rc == SP_OK)
			rc = sp_block_difference(
			    env->pool, trial->y, in->mlp_out, n * env->config.hidden, loss, err);
	}
	return rc;
}

/* --- scales ------------------------------------------------------------------------------------
 */

enum sp_code
sp_trial_search(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, const float *x,
    struct sp_block_group *which, struct sp_err *err)
{
	struct trial trial = {
	    .env = env, .layer = layer, .inputs = inputs, .which = which, .grid = plan->grid};
	const struct sp_linear *linears[SP_LAYER_LINEARS];
	float *x_mean = NULL, *w_mean = NULL;
	enum sp_code rc;

	for (size_t i = 0; i < which->count; i++)
		linears[i] = linear_of(layer, which->first + (unsigned)i);
	which->in = linear_of(layer, which->first)->in;
	if ((rc = sp_block_floats(&x_mean, 1, which->in, err)) ||
	    (rc = sp_block_floats(&w_mean, 1, which->in, err)) ||
	    (rc = sp_block_floats(&which->scales, 1, which->in, err)))
		goto out;
	sp_search_x_mean(env->pool, x, inputs->n_seq * inputs->len, which->in, plan->half, x_mean);
	sp_search_w_mean(env->pool, linears, which->count, plan->grid.group, plan->half, w_mean);
	rc = trial_open(&trial, x, err);
	if (rc == SP_OK)
		rc = sp_search_ratio(x_mean, w_mean, which->in, trial_loss, &trial, which->scales,
		    &which->result, err);
	if (rc == SP_OK && plan->half)
		rc = sp_round_half(which->scales, which->in, err);
	trial_close(&trial);
	if (rc != SP_OK)
		rc = sp_err_prefix(err, "scales after %s", which->prev);
out:
	free(x_mean);
	free(w_mean);
	return rc;
}
