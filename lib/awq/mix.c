/* mix.c -- the experts of one decoder layer. */
#include "awq/mix.h"

#include "awq/trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sp_layer
sp_mix_view(const struct sp_layer *layer, size_t e)
{
	const struct sp_expert *expert = &layer->experts[e];

	return (struct sp_layer){
	    .index = layer->index, .gate = expert->gate, .up = expert->up, .down = expert->down};
}

void
sp_mix_give_back(struct sp_layer *layer, size_t e, const struct sp_layer *view)
{
	layer->experts[e] =
	    (struct sp_expert){.gate = view->gate, .up = view->up, .down = view->down};
}

struct sp_block_plan
sp_mix_plan(const struct sp_block_plan *plan)
{
	struct sp_block_plan own = *plan;

	for (size_t i = 0; i < SP_LAYER_GATE; i++)
		own.skip[i] = 1;
	return own;
}

enum sp_code
sp_mix_inputs(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_moe_route *route, size_t e, const float *mlp, struct sp_block_inputs *out,
    struct sp_err *err)
{
	const struct sp_expert *expert = &layer->experts[e];
	size_t count = sp_moe_count(route, e), inner = expert->gate.out;
	float *up = NULL;
	enum sp_code rc;

	*out = (struct sp_block_inputs){.n_seq = 1, .len = count};
	if (count == 0)
		return SP_OK;
	if ((rc = sp_block_rows(NULL, count, expert->gate.in, &out->rows[SP_BLOCK_MLP], err)) ||
	    (rc = sp_block_rows(NULL, count, inner, &out->rows[SP_BLOCK_ACT], err)) ||
	    (rc = sp_block_floats(&up, count, inner, err)))
		goto out;
	out->mlp = out->rows[SP_BLOCK_MLP].values;
	out->act = out->rows[SP_BLOCK_ACT].values;
	sp_moe_gather(route, e, mlp, expert->gate.in, out->mlp);
	sp_moe_expert(
	    env, &expert->gate, &expert->up, &expert->down, out->mlp, count, out->act, up, NULL);
out:
	free(up);
	if (rc != SP_OK)
		sp_block_inputs_free(out);
	return rc;
}

struct sp_block_group *
sp_mix_open(const struct sp_layer *layer, struct sp_block *block)
{
	struct sp_block_group *shared = &block->groups[block->group_count++];

	*shared = (struct sp_block_group){.prev = "post_attention_layernorm",
	    .first = SP_LAYER_GATE,
	    .count = 2,
	    .in = layer->router.in};
	block->n_experts = layer->n_experts;
	block->experts = sp_xcalloc(block->n_experts, sizeof(*block->experts));
	for (size_t e = 0; e < block->n_experts; e++) {
		block->experts[e].groups[0] = (struct sp_block_group){.prev = "up_proj",
		    .first = SP_LAYER_DOWN,
		    .count = 1,
		    .in = layer->experts[e].down.in};
		block->experts[e].group_count = 1;
	}
	return shared;
}

enum sp_code
sp_mix_neutral(struct sp_block *expert, struct sp_err *err)
{
	struct sp_block_group *group = &expert->groups[0];
	enum sp_code rc = sp_block_floats(&group->scales, 1, group->in, err);

	for (size_t i = 0; rc == SP_OK && i < group->in; i++)
		group->scales[i] = 1.0f;
	return rc;
}

/* --- the shared scales ---------------------------------------------------------------------------
 */

static int
is_half(float value)
{
	float half = value;

	return sp_round_half(&half, 1, NULL) == SP_OK && half == value;
}

static int
is_exact(const struct sp_layer *layer, size_t channel, float scale)
{
	const struct sp_linear *router = &layer->router;

	if (!is_half(layer->post_norm[channel] / scale))
		return 0;
	for (size_t e = 0; e < router->out; e++) {
		if (!is_half(router->w[e * router->in + channel] * scale))
			return 0;
	}
	return 1;
}

void
sp_mix_exact(const struct sp_layer *layer, float *scales)
{
	for (size_t i = 0; i < layer->router.in; i++) {
		int exponent = 0;
		float part = frexpf(scales[i], &exponent), scale;

		if (!(isfinite(scales[i]) && scales[i] > 0.0f))
			exponent = 0;
		else if (part < (float)M_SQRT1_2)
			exponent--;
		scale = ldexpf(1.0f, exponent);
		while (exponent != 0 && !is_exact(layer, i, scale)) {
			exponent += exponent < 0 ? 1 : -1;
			scale = ldexpf(1.0f, exponent);
		}
		scales[i] = scale;
	}
}

void
sp_mix_fold(struct sp_layer *layer, const float *scales)
{
	for (size_t i = 0; i < layer->router.in; i++)
		layer->post_norm[i] /= scales[i];
	sp_block_scale_columns(&layer->router, scales);
	for (size_t e = 0; e < layer->n_experts; e++) {
		sp_block_scale_columns(&layer->experts[e].gate, scales);
		sp_block_scale_columns(&layer->experts[e].up, scales);
	}
}

/* --- the mixture with other weights --------------------------------------------------------------
 */

/* Work memory for the tokens of one expert, and weights in place of its own. */
struct stand_in {
	struct sp_layer own;
	float *x, *act, *up, *y;
};

static void
stand_in_close(struct stand_in *s)
{
	sp_linear_free(&s->own.gate);
	sp_linear_free(&s->own.up);
	sp_linear_free(&s->own.down);
	free(s->x);
	free(s->act);
	free(s->up);
	free(s->y);
}

static enum sp_code
stand_in_open(struct stand_in *s, const struct sp_layer *layer, const struct sp_moe_route *route,
    struct sp_err *err)
{
	const struct sp_expert *expert = &layer->experts[0]; /* all are alike */
	size_t most = 0, hidden = expert->gate.in, inner = expert->gate.out;
	enum sp_code rc;

	*s = (struct stand_in){0};
	for (size_t e = 0; e < layer->n_experts; e++)
		most = sp_moe_count(route, e) > most ? sp_moe_count(route, e) : most;
	s->own.gate = (struct sp_linear){.out = inner, .in = hidden};
	s->own.up = (struct sp_linear){.out = inner, .in = hidden};
	s->own.down = (struct sp_linear){.out = hidden, .in = inner};
	if ((rc = sp_block_floats(&s->x, most, hidden, err)) ||
	    (rc = sp_block_floats(&s->act, most, inner, err)) ||
	    (rc = sp_block_floats(&s->up, most, inner, err)) ||
	    (rc = sp_block_floats(&s->y, most, hidden, err)) ||
	    (rc = sp_block_floats(&s->own.gate.w, inner, hidden, err)) ||
	    (rc = sp_block_floats(&s->own.up.w, inner, hidden, err)) ||
	    (rc = sp_block_floats(&s->own.down.w, hidden, inner, err)))
		stand_in_close(s);
	return rc;
}

static enum sp_code
round_linear(const struct sp_layer_env *env, const struct sp_linear *plain, struct sp_grid grid,
    const float *scales, struct sp_linear *own, struct sp_err *err)
{
	if (scales != NULL)
		sp_search_round(env->pool, plain->w, own->out, own->in, grid, scales, own->w);
	else
		sp_round_fake(plain->w, own->out * own->in, grid, own->w);
	return sp_linear_pack(own, env->pool, err);
}

/* Error of the mixture with gate and up rounded after the scales; NULL: with all rounded as they
 * are. */
static enum sp_code
rounded_error(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, struct sp_grid grid, const float *scales, double *error,
    struct sp_err *err)
{
	size_t hidden = env->config.hidden, n = inputs->n_seq * inputs->len;
	const struct sp_moe_route *route = &inputs->route;
	struct stand_in s;
	float *y = NULL;
	enum sp_code rc;

	if ((rc = stand_in_open(&s, layer, route, err)))
		return rc;
	rc = sp_block_floats(&y, n, hidden, err);
	for (size_t e = 0; e < layer->n_experts && rc == SP_OK; e++) {
		const struct sp_expert *plain = &layer->experts[e];
		size_t count = sp_moe_count(route, e);

		if (count == 0)
			continue;
		if ((rc = round_linear(env, &plain->gate, grid, scales, &s.own.gate, err)) ||
		    (rc = round_linear(env, &plain->up, grid, scales, &s.own.up, err)))
			break;
		if (scales == NULL &&
		    (rc = round_linear(env, &plain->down, grid, NULL, &s.own.down, err)))
			break;
		sp_moe_gather(route, e, inputs->mlp, hidden, s.x);
		sp_moe_expert(env, &s.own.gate, &s.own.up,
		    scales == NULL ? &s.own.down : &plain->down, s.x, count, s.act, s.up, s.y);
		sp_moe_scatter(route, e, s.y, hidden, y);
	}
	if (rc == SP_OK)
		rc = sp_block_difference(env->pool, y, inputs->mlp_out, n * hidden, error, err);
	free(y);
	stand_in_close(&s);
	return rc;
}

enum sp_code
sp_mix_before(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, double *error,
    struct sp_err *err)
{
	return rounded_error(env, layer, inputs, plan->grid, NULL, error, err);
}

/* --- the steps -----------------------------------------------------------------------------------
 */

struct trial {
	const struct sp_layer_env *env;
	const struct sp_layer *layer;
	const struct sp_block_inputs *inputs;
	struct sp_grid grid;
	float *exact; /* [hidden]: the scales that would be used */
};

static enum sp_code
trial_loss(void *arg, const float *scales, double *loss, struct sp_err *err)
{
	struct trial *trial = arg;

	memcpy(trial->exact, scales, trial->layer->router.in * sizeof(*scales));
	sp_mix_exact(trial->layer, trial->exact);
	return rounded_error(
	    trial->env, trial->layer, trial->inputs, trial->grid, trial->exact, loss, err);
}

static enum sp_code
search_shared(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan,
    struct sp_block_group *shared, struct sp_err *err)
{
	const struct sp_linear **linears = sp_xcalloc(2 * layer->n_experts, sizeof(*linears));
	struct trial trial = {.env = env, .layer = layer, .inputs = inputs, .grid = plan->grid};
	float *x_mean = NULL, *w_mean = NULL;
	enum sp_code rc;

	for (size_t e = 0; e < layer->n_experts; e++) {
		linears[2 * e] = &layer->experts[e].gate;
		linears[2 * e + 1] = &layer->experts[e].up;
	}
	if ((rc = sp_block_floats(&x_mean, 1, shared->in, err)) ||
	    (rc = sp_block_floats(&w_mean, 1, shared->in, err)) ||
	    (rc = sp_block_floats(&trial.exact, 1, shared->in, err)) ||
	    (rc = sp_block_floats(&shared->scales, 1, shared->in, err)))
		goto out;
	sp_search_x_mean(
	    env->pool, inputs->mlp, inputs->n_seq * inputs->len, shared->in, plan->half, x_mean);
	sp_search_w_mean(
	    env->pool, linears, 2 * layer->n_experts, plan->grid.group, plan->half, w_mean);
	rc = sp_search_ratio(
	    x_mean, w_mean, shared->in, trial_loss, &trial, shared->scales, &shared->result, err);
	if (rc == SP_OK)
		sp_mix_exact(layer, shared->scales);
	else
		sp_err_prefix(err, "scales after %s", shared->prev);
out:
	free(linears);
	free(x_mean);
	free(w_mean);
	free(trial.exact);
	return rc;
}

static enum sp_code
search_expert(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, size_t e,
    struct sp_block *expert, struct sp_err *err)
{
	struct sp_layer view = sp_mix_view(layer, e);
	struct sp_block_inputs own;
	enum sp_code rc;

	expert->tokens = sp_moe_count(&inputs->route, e);
	if (expert->tokens == 0)
		return sp_mix_neutral(expert, err);
	rc = sp_mix_inputs(env, layer, &inputs->route, e, inputs->mlp, &own, err);
	if (rc != SP_OK)
		return rc;
	rc = sp_trial_search(env, &view, &own, plan, own.act, &expert->groups[0], err);
	sp_block_inputs_free(&own);
	return rc == SP_OK ? SP_OK : sp_err_prefix(err, "expert %zu", e);
}

enum sp_code
sp_mix_search(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, struct sp_block *block,
    struct sp_err *err)
{
	enum sp_code rc;

	if (layer->n_experts == 0 || plan->skip[SP_LAYER_GATE])
		return SP_OK;
	rc = search_shared(env, layer, inputs, plan, sp_mix_open(layer, block), err);
	for (size_t e = 0; e < layer->n_experts && rc == SP_OK; e++)
		rc = search_expert(env, layer, inputs, plan, e, &block->experts[e], err);
	return rc;
}

enum sp_code
sp_mix_clip(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, struct sp_block *block,
    struct sp_err *err)
{
	const float *scales = sp_block_scales(block, SP_LAYER_GATE);
	struct sp_block_plan own_plan = sp_mix_plan(plan);
	enum sp_code rc = SP_OK;

	for (size_t e = 0; e < block->n_experts && rc == SP_OK; e++) {
		struct sp_layer view = sp_mix_view(layer, e);
		struct sp_block_inputs own;

		if (block->experts[e].tokens == 0)
			continue;
		/* by the packed weights, which are still those of before the scales */
		if ((rc = sp_mix_inputs(env, layer, &inputs->route, e, inputs->mlp, &own, err)))
			break;
		for (size_t i = 0; i < own.len * layer->router.in; i++)
			own.mlp[i] /= scales[i % layer->router.in];
		rc = sp_block_clip(env, &view, &own, &own_plan, &block->experts[e], err);
		sp_block_inputs_free(&own);
		if (rc != SP_OK)
			sp_err_prefix(err, "expert %zu", e);
	}
	return rc;
}
