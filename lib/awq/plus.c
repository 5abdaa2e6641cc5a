/* plus.c -- method "awq+" on one decoder layer. */
#include "awq/plus.h"

#include "awq/gram.h"
#include "awq/mix.h"
#include "awq/plane.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DAMP 0.01	 /* of the mean second moment; GPTQ's */
#define SHRINK 8	 /* widths tried for a range */
#define REFINE 2	 /* rounds of fitting it */
#define SEARCH_SHRINK 3	 /* while scales are compared */
#define SEARCH_ROWS 1024 /* of each linear layer, then */
#define SCALE_MAX 256.0f
#define SCALE_MIN (1.0f / SCALE_MAX)

struct plus {
	const struct sp_layer_env *env;
	struct sp_layer *layer;
	const struct sp_block_plan *plan;
	struct sp_block *block;
	const struct sp_block_place *place;
	const struct sp_spill *runs;
	struct sp_block_inputs inputs; /* of the exact layer */
	size_t takes[SP_BLOCK_GROUPS_MAX];
	size_t n, step; /* tokens; those taken at a time */
};

/* What the linear layers of group g take in the exact model. */
static const struct sp_spill *
exact_input(const struct plus *p, size_t g)
{
	static const enum sp_block_input inputs[SP_BLOCK_GROUPS_MAX] = {
	    SP_BLOCK_ATTN, SP_BLOCK_HEADS, SP_BLOCK_MLP, SP_BLOCK_ACT};

	return &p->inputs.rows[inputs[p->takes[g]]];
}

/* Tokens of the step that begins at first. */
static size_t
count_at(const struct plus *p, size_t first)
{
	return p->n - first < p->step ? p->n - first : p->step;
}

/* g[in][in], zeros before: second moments of x. */
static enum sp_code
exact_moments(
    const struct plus *p, const struct sp_spill *x, size_t in, float *g, struct sp_err *err)
{
	enum sp_code rc = SP_OK;

	for (size_t t = 0; t < p->n && rc == SP_OK; t += p->step) {
		size_t count = count_at(p, t);

		rc = sp_gram_add(p->env->pool, x->values + t * in, count, in, g, err);
		sp_spill_rest(x, t * in, count * in);
	}
	sp_gram_mirror(p->env->pool, in, g);
	return rc;
}

/* Second moments of fewer tokens than inputs say nothing of the directions that no token had: the
 * fewer there are, the more rounding holds on to the weights themselves. */
static double
damp(const struct plus *p, size_t in)
{
	return p->n >= in ? DAMP : DAMP * (double)in / (double)p->n;
}

/* --- scales ------------------------------------------------------------------------------------
 */

/* The inputs of o_proj that come from the same output of v_proj have one scale: heads h·rep …
 * h·rep+rep-1 take value head h. */
static void
share(const struct plus *p, float *values)
{
	size_t dim = p->env->config.head_dim, kv = p->env->config.kv_heads;
	size_t rep = p->env->config.heads / kv;

	for (size_t h = 0; h < kv; h++) {
		for (size_t d = 0; d < dim; d++) {
			float sum = 0.0f;

			for (size_t r = 0; r < rep; r++)
				sum += values[(h * rep + r) * dim + d];
			for (size_t r = 0; r < rep; r++)
				values[(h * rep + r) * dim + d] = sum / (float)rep;
		}
	}
}

/* Trial k: 0 is no scaling at all; then x^r for r = 0.1 … 0.9 and AutoAWQ's x^r / w^(1-r) for
 * r = 0 … 0.9. */
#define TRIALS 20

static void
scales_of_trial(const float *x, const float *w, size_t in, size_t k, float *scales)
{
	double r = k < 10 ? 0.1 * (double)k : 0.1 * (double)(k - 10);
	double min = INFINITY, max = 0;

	for (size_t i = 0; i < in; i++) {
		double s = pow(x[i], r);

		if (k >= 10)
			s /= pow(w[i], 1 - r) + 1e-4;
		s = s > 1e-4 ? s : 1e-4;
		min = s < min ? s : min;
		max = s > max ? s : max;
		scales[i] = (float)s;
	}
	for (size_t i = 0; i < in; i++) {
		float s = k == 0 ? 1.0f : (float)(scales[i] / sqrt(min * max));

		s = s > SCALE_MIN ? s : SCALE_MIN;
		scales[i] = s < SCALE_MAX ? s : SCALE_MAX;
	}
}

/* Root mean square of each input, from the moments' diagonal. */
static void
input_sizes(const float *g, size_t in, size_t n, float *x)
{
	for (size_t i = 0; i < in; i++)
		x[i] = sqrtf(g[i * in + i] / (float)n);
}

static enum sp_code
try_scales(const struct plus *p, const struct sp_block_group *which, const struct sp_plane *plane,
    double *loss, struct sp_err *err)
{
	enum sp_code rc = SP_OK;

	*loss = 0;
	for (size_t k = 0; k < which->count && rc == SP_OK; k++) {
		const struct sp_linear *linear =
		    sp_layer_linear(p->layer, which->first + (unsigned)k);
		double one;

		rc = sp_plane_round(p->env->pool, plane, linear->w, linear->out, NULL, &one, err);
		/* too large for fp16 with these scales: others, 1 at least, will do */
		if (rc == SP_E_INVALID) {
			rc = SP_OK;
			one = INFINITY;
		}
		*loss += one;
	}
	return rc;
}

/* Leaves the best trial's scales in which; exact is what its linear layers take in the exact model.
 */
static enum sp_code
search(const struct plus *p, struct sp_block_group *which, const struct sp_spill *exact,
    struct sp_err *err)
{
	const struct sp_linear *linears[SP_LAYER_LINEARS];
	struct sp_pool *pool = p->env->pool;
	float *factor = NULL, *x = NULL, *w_mean = NULL;
	struct sp_search_result *result = &which->result;
	struct sp_plane plane = {
	    .in = which->in, .grid = p->plan->grid, .shrink = SEARCH_SHRINK, .sample = SEARCH_ROWS};
	enum sp_code rc;
	size_t in = which->in;

	for (size_t k = 0; k < which->count; k++)
		linears[k] = sp_layer_linear(p->layer, which->first + (unsigned)k);
	if ((rc = sp_block_floats(&which->scales, 1, in, err)) ||
	    (rc = sp_block_floats(&x, 1, in, err)) || (rc = sp_block_floats(&w_mean, 1, in, err)) ||
	    (rc = sp_block_floats(&factor, in, in, err)) ||
	    (rc = exact_moments(p, exact, in, factor, err)))
		goto out;
	input_sizes(factor, in, p->n, x);
	sp_search_w_mean(pool, linears, which->count, p->plan->grid.group, 0, w_mean);
	if (which->first == SP_LAYER_O) {
		share(p, x);
		share(p, w_mean);
	}
	if ((rc = sp_factor_cholesky(pool, factor, in, p->n, damp(p, in), err)))
		goto out;
	plane.factor = factor;
	plane.scales = which->scales;
	result->best = 0;
	result->count = TRIALS;
	for (size_t k = 0; k < TRIALS; k++) {
		scales_of_trial(x, w_mean, in, k, which->scales);
		rc = try_scales(p, which, &plane, &result->losses[k], err);
		if (rc != SP_OK)
			goto out;
		result->shares[k] = 1;
		if (result->losses[k] < result->losses[result->best])
			result->best = k;
	}
	scales_of_trial(x, w_mean, in, result->best, which->scales);
out:
	free(factor);
	free(x);
	free(w_mean);
	return rc == SP_OK ? SP_OK : sp_err_prefix(err, "scales after %s", which->prev);
}

/* norm /= scales, as fp16; scales become what that division really was. */
static enum sp_code
fold_norm(float *norm, float *scales, size_t count, struct sp_err *err)
{
	for (size_t i = 0; i < count; i++) {
		float before = norm[i], after = norm[i] / scales[i];

		enum sp_code rc = sp_round_half(&after, 1, err);

		if (rc != SP_OK)
			return rc;
		/* 0, or so little that fp16 has no number for it: left alone */
		if (after == 0.0f) {
			scales[i] = 1.0f;
			continue;
		}
		norm[i] = after;
		scales[i] = before / after;
	}
	return SP_OK;
}

/* o_proj's scales, one for each of v_proj's outputs. */
static enum sp_code
fold_values(const struct plus *p, const float *scales, struct sp_err *err)
{
	size_t dim = p->env->config.head_dim, kv = p->env->config.kv_heads;
	size_t rep = p->env->config.heads / kv;
	float *rows;
	enum sp_code rc;

	if ((rc = sp_block_floats(&rows, kv, dim, err)))
		return rc;
	for (size_t h = 0; h < kv; h++)
		memcpy(rows + h * dim, scales + h * rep * dim, dim * sizeof(*rows));
	rc = sp_block_unscale_rows(&p->layer->v, rows, 0, err);
	free(rows);
	return rc;
}

/* Moves the scales into the layer, packed then but for experts. Weights that will be codes keep
 * fp32 until then. */
static enum sp_code
fold(const struct plus *p, struct sp_err *err)
{
	struct sp_layer *layer = p->layer;
	enum sp_code rc = SP_OK;

	for (size_t g = 0; g < p->block->group_count && rc == SP_OK; g++) {
		struct sp_block_group *which = &p->block->groups[g];

		if (which->first == SP_LAYER_GATE && layer->n_experts > 0) {
			sp_mix_fold(layer, which->scales);
			continue;
		}
		if (which->first == SP_LAYER_Q)
			rc = fold_norm(layer->input_norm, which->scales, which->in, err);
		else if (which->first == SP_LAYER_GATE)
			rc = fold_norm(layer->post_norm, which->scales, which->in, err);
		else if (which->first == SP_LAYER_O)
			rc = fold_values(p, which->scales, err);
		else
			rc = sp_block_unscale_rows(&layer->up, which->scales, 0, err);
		for (size_t k = 0; k < which->count && rc == SP_OK; k++)
			sp_block_scale_columns(
			    sp_layer_linear(layer, which->first + (unsigned)k), which->scales);
		if (rc != SP_OK)
			return sp_err_prefix(err, "scaling after %s", which->prev);
	}
	for (enum sp_layer_linear i = 0; i < sp_block_plain(layer) && rc == SP_OK; i++) {
		struct sp_linear *linear = sp_layer_linear(layer, i);

		if (p->plan->skip[i])
			rc = sp_round_half(linear->w, linear->out * linear->in, err);
		if (rc == SP_OK)
			rc = sp_linear_pack(linear, p->env->pool, err);
	}
	return rc == SP_OK && layer->n_experts > 0
		   ? sp_linear_pack(&layer->router, p->env->pool, err)
		   : rc;
}

/* --- rounding ----------------------------------------------------------------------------------
 */

/* What linear layers take in the quantized model: rows or, with a norm, the normalized runs. */
struct taken {
	const struct sp_spill *rows;
	const float *norm;
	float *x; /* [step][hidden]: where they are normalized */
};

static const float *
taken_at(const struct plus *p, const struct taken *taken, size_t first, size_t in)
{
	const struct sp_layer_env *env = p->env;
	const float *from = taken->rows->values + first * in;

	if (taken->norm == NULL)
		return from;
	sp_kernels_rmsnorm(env->pool, from, taken->norm, env->config.rms_norm_eps,
	    count_at(p, first), in, taken->x);
	return taken->x;
}

/* g[in][in]: second moments of what is taken or, with `exact`, how far that is ahead. */
static enum sp_code
moments(const struct plus *p, const struct sp_block_group *which, const struct taken *taken,
    const struct sp_spill *exact, float *g, struct sp_err *err)
{
	struct sp_pool *pool = p->env->pool;
	size_t in = which->in;
	enum sp_code rc = SP_OK;

	memset(g, 0, in * in * sizeof(*g));
	for (size_t t = 0; t < p->n && rc == SP_OK; t += p->step) {
		const float *x = taken_at(p, taken, t, in);
		size_t count = count_at(p, t);

		if (exact == NULL) {
			rc = sp_gram_add(pool, x, count, in, g, err);
		} else {
			rc = sp_gram_add_drift(
			    pool, x, exact->values + t * in, which->scales, count, in, g, err);
			sp_spill_rest(exact, t * in, count * in);
		}
		sp_spill_rest(taken->rows, t * in, count * in);
	}
	if (exact == NULL)
		sp_gram_mirror(pool, in, g);
	for (size_t i = 0; i < in * in && exact != NULL; i++)
		g[i] /= (float)p->n;
	return rc;
}

/* Makes the codes of one linear layer, which then holds what they stand for. */
static enum sp_code
round_linear(
    const struct plus *p, enum sp_layer_linear i, const struct sp_plane *plane, struct sp_err *err)
{
	struct sp_linear *linear = sp_layer_linear(p->layer, i);
	struct sp_codes *codes = &p->block->codes[i];
	struct sp_pool *pool = p->env->pool;
	enum sp_code rc;
	double loss;

	rc = sp_plane_round(pool, plane, linear->w, linear->out, codes, &loss, err);
	if (rc == SP_OK) {
		sp_round_decode(codes, linear->w);
		rc = sp_round_grid(codes, linear, err);
	}
	if (rc == SP_OK)
		rc = sp_linear_pack(linear, pool, err);
	return rc == SP_OK ? SP_OK : sp_err_prefix(err, "%s", sp_layer_linear_name(i));
}

/* The codes of a group whose linear layers take `taken` where the exact model has `exact`. Drift
 * and factor are as large as the layer where it is widest: one of them is there at a time. */
static enum sp_code
round_group(const struct plus *p, const struct sp_block_group *which, const struct sp_spill *exact,
    const struct taken *taken, struct sp_err *err)
{
	float *drifts[SP_LAYER_LINEARS] = {NULL}, *m = NULL;
	struct sp_pool *pool = p->env->pool;
	size_t in = which->in;
	struct sp_plane plane = {
	    .in = in, .grid = p->plan->grid, .shrink = SHRINK, .refine = REFINE};
	enum sp_code rc;

	if ((rc = sp_block_floats(&m, in, in, err)) ||
	    (rc = moments(p, which, taken, exact, m, err)))
		goto out;
	for (size_t k = 0; k < which->count; k++) {
		struct sp_linear *linear = sp_layer_linear(p->layer, which->first + (unsigned)k);
		size_t panels = sp_kernels_panels(linear->out);

		/* of the weights as they were scaled; packed again when they are codes */
		free(linear->packed);
		linear->packed = NULL;
		if ((rc = sp_block_floats(&drifts[k], panels * SP_PANEL, in, err)) ||
		    (rc = sp_plane_drift(pool, m, linear->w, linear->out, in, drifts[k], err)))
			goto out;
	}
	if ((rc = moments(p, which, taken, NULL, m, err)) ||
	    (rc = sp_factor_cholesky(pool, m, in, p->n, damp(p, in), err)))
		goto out;
	plane.factor = m;
	for (size_t k = 0; k < which->count && rc == SP_OK; k++) {
		plane.drift = drifts[k];
		rc = round_linear(p, which->first + (unsigned)k, &plane, err);
		free(drifts[k]);
		drifts[k] = NULL;
	}
out:
	for (size_t k = 0; k < which->count; k++)
		free(drifts[k]);
	free(m);
	return rc;
}

/* Rounds the group whose first layer is `first`, when the plan has it. */
static enum sp_code
round_at(
    const struct plus *p, enum sp_layer_linear first, const struct taken *taken, struct sp_err *err)
{
	for (size_t g = 0; g < p->block->group_count; g++) {
		if (p->block->groups[g].first == first)
			return round_group(p, &p->block->groups[g], exact_input(p, g), taken, err);
	}
	return SP_OK;
}

/* Adds to the runs what the linear layer gives for its rows; y: room for a step. */
static void
apply(const struct plus *p, const struct sp_linear *linear, const struct sp_spill *rows, float *y)
{
	for (size_t t = 0; t < p->n; t += p->step) {
		size_t count = count_at(p, t), values = count * linear->out;
		float *to = p->runs->values + t * linear->out;

		sp_linear_apply(linear, p->env->pool, rows->values + t * linear->in, count, y);
		sp_kernels_add(p->env->pool, to, y, values);
		sp_spill_rest(rows, t * linear->in, count * linear->in);
		sp_spill_rest(p->runs, t * linear->out, values);
	}
}

/* v_proj and up_proj run scaled already, whose inputs the groups after them take. */
static enum sp_code
round_attention(const struct plus *p, float *x, struct sp_err *err)
{
	const struct sp_layer *layer = p->layer;
	const struct taken runs = {.rows = p->runs, .norm = layer->input_norm, .x = x};
	size_t len = p->inputs.len, hidden = p->env->config.hidden;
	struct sp_spill heads = {0};
	enum sp_code rc;

	if ((rc = round_at(p, SP_LAYER_Q, &runs, err)) ||
	    (rc = sp_block_rows(p->place, p->n, layer->o.in, &heads, err)))
		goto out;
	for (size_t t = 0; t < p->n; t += p->step) {
		size_t count = count_at(p, t);
		const float *from = taken_at(p, &runs, t, hidden);

		rc = sp_layer_attention(p->env, layer, from, count / len, len,
		    heads.values + t * layer->o.in, NULL, err);
		if (rc != SP_OK)
			goto out;
		sp_spill_rest(p->runs, t * hidden, count * hidden);
		sp_spill_rest(&heads, t * layer->o.in, count * layer->o.in);
	}
	rc = round_at(p, SP_LAYER_O, &(struct taken){.rows = &heads}, err);
	if (rc == SP_OK)
		apply(p, &layer->o, &heads, x);
out:
	sp_spill_close(&heads);
	return rc;
}

/* --- experts -----------------------------------------------------------------------------------
 */

/* An expert as a layer of its own. */
struct expert {
	struct plus plus;
	struct sp_layer view;
	struct sp_block_plan plan;
};

/* For its tokens in route; they are p's. Close it in any case. */
static enum sp_code
expert_open(struct expert *expert, const struct plus *p, const struct sp_moe_route *route, size_t e,
    struct sp_err *err)
{
	expert->view = sp_mix_view(p->layer, e);
	expert->plan = sp_mix_plan(p->plan);
	expert->plus = (struct plus){.env = p->env,
	    .layer = &expert->view,
	    .plan = &expert->plan,
	    .block = &p->block->experts[e],
	    .n = sp_moe_count(route, e),
	    .step = sp_block_step(1)};
	return sp_mix_inputs(p->env, p->layer, route, e, p->inputs.mlp, &expert->plus.inputs, err);
}

static void
expert_close(struct expert *expert)
{
	sp_block_inputs_free(&expert->plus.inputs);
}

/* Adds what each trial of the shared scales costs an expert; trials[TRIALS][hidden]. */
static enum sp_code
try_shared(const struct plus *p, size_t e, const float *trials, double *losses, struct sp_err *err)
{
	const struct sp_block_group shared = {.first = SP_LAYER_GATE, .count = 2};
	size_t in = p->layer->router.in;
	struct sp_plane plane = {
	    .in = in, .grid = p->plan->grid, .shrink = SEARCH_SHRINK, .sample = SEARCH_ROWS};
	struct sp_pool *pool = p->env->pool;
	struct expert expert;
	float *factor = NULL;
	enum sp_code rc;

	if ((rc = expert_open(&expert, p, &p->inputs.route, e, err)) ||
	    (rc = sp_block_floats(&factor, in, in, err)) ||
	    (rc = exact_moments(
		 &expert.plus, &expert.plus.inputs.rows[SP_BLOCK_MLP], in, factor, err)) ||
	    (rc = sp_factor_cholesky(pool, factor, in, expert.plus.n, damp(&expert.plus, in), err)))
		goto out;
	plane.factor = factor;
	for (size_t k = 0; k < TRIALS && rc == SP_OK; k++) {
		double loss;

		plane.scales = trials + k * in;
		rc = try_scales(&expert.plus, &shared, &plane, &loss, err);
		losses[k] += loss * (double)expert.plus.n / (double)p->n;
	}
out:
	expert_close(&expert);
	free(factor);
	return rc;
}

/* Root mean square of each column of x[n][in]. */
static void
column_sizes(const float *x, size_t n, size_t in, double *sums, float *sizes)
{
	memset(sums, 0, in * sizeof(*sums));
	for (size_t t = 0; t < n; t++) {
		for (size_t i = 0; i < in; i++)
			sums[i] += (double)x[t * in + i] * (double)x[t * in + i];
	}
	for (size_t i = 0; i < in; i++)
		sizes[i] = (float)sqrt(sums[i] / (double)n);
}

/* All trials of the shared scales, as they would be used. */
static enum sp_code
shared_trials(const struct plus *p, float *trials, struct sp_err *err)
{
	const struct sp_layer *layer = p->layer;
	size_t in = layer->router.in;
	const struct sp_linear **linears = sp_xcalloc(2 * layer->n_experts, sizeof(*linears));
	double *sums = sp_xcalloc(in, sizeof(*sums));
	float *x = NULL, *w_mean = NULL;
	enum sp_code rc;

	for (size_t e = 0; e < layer->n_experts; e++) {
		linears[2 * e] = &layer->experts[e].gate;
		linears[2 * e + 1] = &layer->experts[e].up;
	}
	if ((rc = sp_block_floats(&x, 1, in, err)) || (rc = sp_block_floats(&w_mean, 1, in, err)))
		goto out;
	column_sizes(p->inputs.mlp, p->n, in, sums, x);
	sp_search_w_mean(
	    p->env->pool, linears, 2 * layer->n_experts, p->plan->grid.group, 0, w_mean);
	for (size_t k = 0; k < TRIALS; k++) {
		scales_of_trial(x, w_mean, in, k, trials + k * in);
		sp_mix_exact(layer, trials + k * in);
	}
out:
	free(linears);
	free(sums);
	free(x);
	free(w_mean);
	return rc;
}

/* The scales that all experts share, judged by the tokens of each. */
static enum sp_code
search_shared(const struct plus *p, struct sp_err *err)
{
	struct sp_block_group *shared = sp_mix_open(p->layer, p->block);
	struct sp_search_result *result = &shared->result;
	float *trials = NULL;
	enum sp_code rc;

	if ((rc = sp_block_floats(&shared->scales, 1, shared->in, err)) ||
	    (rc = sp_block_floats(&trials, TRIALS, shared->in, err)) ||
	    (rc = shared_trials(p, trials, err)))
		goto out;
	result->count = TRIALS;
	for (size_t e = 0; e < p->layer->n_experts && rc == SP_OK; e++) {
		if (sp_moe_count(&p->inputs.route, e) > 0)
			rc = try_shared(p, e, trials, result->losses, err);
		if (rc != SP_OK)
			sp_err_prefix(err, "expert %zu", e);
	}
	for (size_t k = 0; k < TRIALS; k++) {
		result->shares[k] = 1;
		if (result->losses[k] < result->losses[result->best])
			result->best = k;
	}
	memcpy(shared->scales, trials + result->best * shared->in,
	    shared->in * sizeof(*shared->scales));
out:
	free(trials);
	return rc == SP_OK ? SP_OK : sp_err_prefix(err, "scales after %s", shared->prev);
}

/* Rounds gate and up, then down, on x[tokens][hidden] of the quantized model; y[tokens][hidden] is
 * what the expert then gives. Its gate and up have the shared scales already, but not packed. */
static enum sp_code
round_expert(
    struct expert *expert, const float *shared_scales, const float *x, float *y, struct sp_err *err)
{
	const struct plus *p = &expert->plus;
	const struct sp_block_group shared = {.first = SP_LAYER_GATE,
	    .count = 2,
	    .in = expert->view.gate.in,
	    .scales = (float *)(uintptr_t)shared_scales};
	struct sp_block_group *own = &p->block->groups[0];
	const struct sp_block_inputs *exact = &p->inputs;
	size_t inner = own->in;
	const struct sp_spill rows = {.values = (float *)(uintptr_t)x, .count = p->n * shared.in};
	struct sp_spill act = {0};
	float *up = NULL;
	enum sp_code rc;

	if ((rc = sp_block_rows(NULL, p->n, inner, &act, err)) ||
	    (rc = sp_block_floats(&up, p->n, inner, err)) ||
	    (rc = search(p, own, &exact->rows[SP_BLOCK_ACT], err)) ||
	    (rc = sp_block_unscale_rows(&expert->view.up, own->scales, 0, err)))
		goto out;
	sp_block_scale_columns(&expert->view.down, own->scales);
	rc = round_group(
	    p, &shared, &exact->rows[SP_BLOCK_MLP], &(struct taken){.rows = &rows}, err);
	if (rc != SP_OK)
		goto out;
	sp_moe_expert(p->env, &expert->view.gate, &expert->view.up, &expert->view.down, x, p->n,
	    act.values, up, NULL);
	rc = round_group(p, own, &exact->rows[SP_BLOCK_ACT], &(struct taken){.rows = &act}, err);
	if (rc == SP_OK)
		sp_linear_apply(&expert->view.down, p->env->pool, act.values, p->n, y);
out:
	sp_spill_close(&act);
	free(up);
	return rc;
}

/* One that no token came to: its weights to nearest. */
static enum sp_code
round_idle(struct expert *expert, struct sp_err *err)
{
	struct sp_block *block = expert->plus.block;
	enum sp_code rc = sp_mix_neutral(block, err);

	return rc == SP_OK ? sp_block_round(&expert->view, &expert->plan, block, err) : rc;
}

/* All experts, each on the tokens that the router of the quantized model sends there; y[n][hidden],
 * zeros before, is what they give. */
static enum sp_code
round_experts(const struct plus *p, const float *x, float *y, struct sp_err *err)
{
	const struct sp_layer_env *env = p->env;
	const float *scales = sp_block_scales(p->block, SP_LAYER_GATE);
	size_t hidden = env->config.hidden;
	struct sp_moe_route route;
	enum sp_code rc;

	if ((rc = sp_moe_route_open(&route, &env->config, p->n, err)))
		return rc;
	sp_moe_route(env, p->layer, x, p->n, &route);
	for (size_t e = 0; e < p->layer->n_experts && rc == SP_OK; e++) {
		size_t count = sp_moe_count(&route, e);
		float *in = NULL, *out = NULL;
		struct expert expert;

		p->block->experts[e].tokens = count;
		if ((rc = expert_open(&expert, p, &route, e, err)))
			break;
		if (count == 0) {
			rc = round_idle(&expert, err);
		} else if (!(rc = sp_block_floats(&in, count, hidden, err)) &&
			   !(rc = sp_block_floats(&out, count, hidden, err))) {
			sp_moe_gather(&route, e, x, hidden, in);
			rc = round_expert(&expert, scales, in, out, err);
			if (rc == SP_OK)
				sp_moe_scatter(&route, e, out, hidden, y);
		}
		sp_mix_give_back(p->layer, e, &expert.view);
		expert_close(&expert);
		free(in);
		free(out);
		if (rc != SP_OK)
			sp_err_prefix(err, "expert %zu", e);
	}
	sp_moe_route_close(&route);
	return rc;
}

/* --- the layer ---------------------------------------------------------------------------------
 */

static enum sp_code
round_dense(const struct plus *p, const struct taken *runs, struct sp_err *err)
{
	const struct sp_layer *layer = p->layer;
	size_t hidden = p->env->config.hidden, inner = layer->down.in;
	struct sp_spill act = {0};
	enum sp_code rc;

	if ((rc = round_at(p, SP_LAYER_GATE, runs, err)) ||
	    (rc = sp_block_rows(p->place, p->n, inner, &act, err)))
		goto out;
	for (size_t t = 0; t < p->n; t += p->step) {
		size_t count = count_at(p, t);
		const float *from = taken_at(p, runs, t, hidden);

		rc = sp_layer_mlp(p->env, layer, from, count, act.values + t * inner, NULL, err);
		if (rc != SP_OK)
			goto out;
		sp_spill_rest(p->runs, t * hidden, count * hidden);
		sp_spill_rest(&act, t * inner, count * inner);
	}
	rc = round_at(p, SP_LAYER_DOWN, &(struct taken){.rows = &act}, err);
	if (rc == SP_OK)
		apply(p, &layer->down, &act, runs->x);
out:
	sp_spill_close(&act);
	return rc;
}

static enum sp_code
round_mixture(const struct plus *p, const struct taken *runs, struct sp_err *err)
{
	size_t hidden = p->env->config.hidden;
	struct sp_spill x = {0}, y = {0};
	enum sp_code rc;

	if ((rc = sp_block_rows(p->place, p->n, hidden, &x, err)) ||
	    (rc = sp_block_rows(p->place, p->n, hidden, &y, err)))
		goto out;
	for (size_t t = 0; t < p->n; t += p->step)
		memcpy(x.values + t * hidden, taken_at(p, runs, t, hidden),
		    count_at(p, t) * hidden * sizeof(float));
	if (p->block->n_experts > 0)
		rc = round_experts(p, x.values, y.values, err);
	else /* left out */
		rc = sp_layer_mlp(p->env, p->layer, x.values, p->n, NULL, y.values, err);
	if (rc == SP_OK)
		sp_kernels_add(p->env->pool, p->runs->values, y.values, p->n * hidden);
out:
	sp_spill_close(&x);
	sp_spill_close(&y);
	return rc;
}

static enum sp_code
round_mlp(const struct plus *p, float *x, struct sp_err *err)
{
	const struct taken runs = {.rows = p->runs, .norm = p->layer->post_norm, .x = x};

	if (p->layer->n_experts > 0)
		return round_mixture(p, &runs, err);
	return round_dense(p, &runs, err);
}

/* zeros: as many as a step has values. */
static enum sp_code
compare(struct plus *p, const struct sp_spill *exact, float *zeros, struct sp_err *err)
{
	size_t hidden = p->env->config.hidden;
	struct sp_block *block = p->block;
	enum sp_code rc = SP_OK;

	memset(zeros, 0, p->step * hidden * sizeof(*zeros));
	for (size_t t = 0; t < p->n && rc == SP_OK; t += p->step) {
		size_t count = count_at(p, t), at = t * hidden, values = count * hidden;
		double size, error;

		if ((rc = sp_block_difference(
			 p->env->pool, exact->values + at, zeros, values, &size, err)) ||
		    (rc = sp_block_difference(p->env->pool, exact->values + at,
			 p->runs->values + at, values, &error, err)))
			return rc;
		block->stream += size * (double)count / (double)p->n;
		block->stream_error += error * (double)count / (double)p->n;
		sp_spill_rest(exact, at, values);
		sp_spill_rest(p->runs, at, values);
	}
	return sp_block_measure(p->env, p->layer, &p->inputs, block, err);
}

enum sp_code
sp_plus_quantize(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_spill *exact, const struct sp_spill *runs, size_t n_seq, size_t len,
    const struct sp_block_plan *plan, const struct sp_block_place *place, struct sp_block *block,
    struct sp_err *err)
{
	struct plus p = {.env = env,
	    .layer = layer,
	    .plan = plan,
	    .block = block,
	    .place = place,
	    .runs = runs,
	    .n = n_seq * len,
	    .step = sp_block_step(len) * len};
	float *x = NULL;
	enum sp_code rc;

	*block = (struct sp_block){.plus = 1};
	p.step = p.step < p.n ? p.step : p.n;
	if ((rc = sp_block_collect(env, layer, exact, n_seq, len, place, &p.inputs, err)) ||
	    (rc = sp_block_floats(&x, p.step, env->config.hidden, err)))
		goto out;
	block->group_count = sp_block_groups(layer, plan, block->groups, p.takes);
	for (size_t g = 0; g < block->group_count; g++) {
		if ((rc = search(&p, &block->groups[g], exact_input(&p, g), err)))
			goto out;
	}
	if (layer->n_experts > 0 && !plan->skip[SP_LAYER_GATE] && (rc = search_shared(&p, err)))
		goto out;
	if ((rc = sp_block_before(env, layer, &p.inputs, plan, block, err)) ||
	    (rc = fold(&p, err)) || (rc = round_attention(&p, x, err)) ||
	    (rc = round_mlp(&p, x, err)))
		goto out;
	rc = compare(&p, exact, x, err);
out:
	free(x);
	sp_block_inputs_free(&p.inputs);
	if (rc != SP_OK)
		sp_block_free(block);
	return rc;
}
