/* block.c -- one decoder layer through AutoAWQ's steps. */
#include "awq/block.h"

#include "awq/mix.h"
#include "awq/trial.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK ((size_t)2048) /* tokens, see sp_block_step */

const struct sp_linear *
sp_block_linear(const struct sp_layer *layer, enum sp_layer_linear which)
{
	return sp_layer_linear((struct sp_layer *)(uintptr_t)layer, which);
}

enum sp_code
sp_block_floats(float **out, size_t rows, size_t columns, struct sp_err *err)
{
	*out = calloc(rows * columns, sizeof(**out));
	if (*out == NULL)
		return sp_err_set(
		    err, SP_E_NO_MEMORY, "no memory for %zu x %zu values", rows, columns);
	return SP_OK;
}

/* --- inputs ------------------------------------------------------------------------------------
 */

enum sp_code
sp_block_rows(const struct sp_block_place *place, size_t rows, size_t columns, struct sp_spill *out,
    struct sp_err *err)
{
	static const struct sp_block_place memory = {"", SIZE_MAX};

	place = place == NULL ? &memory : place;
	return sp_spill_open(out, rows * columns, place->bound, place->dir, err);
}

size_t
sp_block_step(size_t len)
{
	return len == 0 || len >= CHUNK ? 1 : CHUNK / len;
}

static void
inputs_rest(const struct sp_block_inputs *inputs)
{
	for (size_t i = 0; i < SP_BLOCK_INPUTS; i++)
		sp_spill_rest(&inputs->rows[i], 0, inputs->rows[i].count);
}

static enum sp_code
inputs_open(struct sp_block_inputs *inputs, const struct sp_layer *layer,
    const struct sp_block_place *place, size_t hidden, struct sp_err *err)
{
	const size_t widths[SP_BLOCK_INPUTS] = {
	    hidden, layer->o.in, hidden, hidden, layer->n_experts > 0 ? 0 : layer->down.in, hidden};
	float **values[SP_BLOCK_INPUTS] = {&inputs->attn, &inputs->heads, &inputs->attn_out,
	    &inputs->mlp, &inputs->act, &inputs->mlp_out};
	enum sp_code rc = SP_OK;

	for (size_t i = 0; i < SP_BLOCK_INPUTS && rc == SP_OK; i++) {
		if (widths[i] == 0)
			continue;
		rc = sp_block_rows(
		    place, inputs->n_seq * inputs->len, widths[i], &inputs->rows[i], err);
		*values[i] = inputs->rows[i].values;
	}
	return rc;
}

/* Tokens first … first+n_seq*len-1. */
static enum sp_code
collect(const struct sp_layer_env *env, const struct sp_layer *layer, float *h,
    const struct sp_block_inputs *out, size_t first, size_t n_seq, struct sp_err *err)
{
	size_t n = n_seq * out->len, hidden = env->config.hidden, at = first * hidden;
	float eps = env->config.rms_norm_eps, *x = h + at;
	enum sp_code rc;

	sp_kernels_rmsnorm(env->pool, x, layer->input_norm, eps, n, hidden, out->attn + at);
	rc = sp_layer_attention(env, layer, out->attn + at, n_seq, out->len,
	    out->heads + first * layer->o.in, out->attn_out + at, err);
	if (rc != SP_OK)
		return rc;
	sp_kernels_add(env->pool, x, out->attn_out + at, n * hidden);
	sp_kernels_rmsnorm(env->pool, x, layer->post_norm, eps, n, hidden, out->mlp + at);
	rc = sp_layer_mlp(env, layer, out->mlp + at, n,
	    out->act == NULL ? NULL : out->act + first * layer->down.in, out->mlp_out + at, err);
	if (rc == SP_OK)
		sp_kernels_add(env->pool, x, out->mlp_out + at, n * hidden);
	return rc;
}

enum sp_code
sp_block_collect(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_spill *h, size_t n_seq, size_t len, const struct sp_block_place *place,
    struct sp_block_inputs *out, struct sp_err *err)
{
	size_t step = sp_block_step(len);
	enum sp_code rc;

	*out = (struct sp_block_inputs){.n_seq = n_seq, .len = len};
	rc = inputs_open(out, layer, place, env->config.hidden, err);
	for (size_t s = 0; rc == SP_OK && s < n_seq; s += step) {
		size_t n = n_seq - s < step ? n_seq - s : step;

		rc = collect(env, layer, h->values, out, s * len, n, err);
		sp_spill_rest(h, s * len * env->config.hidden, n * len * env->config.hidden);
		inputs_rest(out);
	}
	if (rc == SP_OK && layer->n_experts > 0) {
		rc = sp_moe_route_open(&out->route, &env->config, n_seq * len, err);
		if (rc == SP_OK)
			sp_moe_route(env, layer, out->mlp, n_seq * len, &out->route);
		inputs_rest(out);
	}
	if (rc != SP_OK)
		sp_block_inputs_free(out);
	return rc;
}

void
sp_block_inputs_free(struct sp_block_inputs *inputs)
{
	for (size_t i = 0; i < SP_BLOCK_INPUTS; i++)
		sp_spill_close(&inputs->rows[i]);
	sp_moe_route_close(&inputs->route);
	memset(inputs, 0, sizeof(*inputs));
}

/* --- output errors -----------------------------------------------------------------------------
 */

#define PIECE ((size_t)16384) /* values summed by one unit of work */

struct difference {
	const float *a, *b;
	double *sums;
	size_t count;
};

static void
difference_piece(void *arg, size_t unit)
{
	const struct difference *job = arg;
	size_t end = (unit + 1) * PIECE < job->count ? (unit + 1) * PIECE : job->count;
	double sum = 0;

	for (size_t i = unit * PIECE; i < end; i++) {
		double d = (double)job->a[i] - (double)job->b[i];

		sum += d * d;
	}
	job->sums[unit] = sum;
}

enum sp_code
sp_block_difference(struct sp_pool *pool, const float *a, const float *b, size_t count, double *out,
    struct sp_err *err)
{
	size_t units = (count + PIECE - 1) / PIECE;
	struct difference job = {.a = a, .b = b, .count = count};

	job.sums = malloc(units * sizeof(*job.sums));
	if (job.sums == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "no memory to compare outputs");
	sp_pool_run(pool, units, difference_piece, &job);
	*out = 0;
	for (size_t i = 0; i < units; i++)
		*out += job.sums[i];
	*out /= (double)count;
	free(job.sums);
	return SP_OK;
}

/* --- scales ------------------------------------------------------------------------------------
 */

size_t
sp_block_groups(const struct sp_layer *layer, const struct sp_block_plan *plan,
    struct sp_block_group *groups, size_t *takes)
{
	static const struct sp_block_group all[SP_BLOCK_GROUPS_MAX] = {
	    {.prev = "input_layernorm", .first = SP_LAYER_Q, .count = 3},
	    {.prev = "self_attn.v_proj", .first = SP_LAYER_O, .count = 1},
	    {.prev = "post_attention_layernorm", .first = SP_LAYER_GATE, .count = 2},
	    {.prev = "mlp.up_proj", .first = SP_LAYER_DOWN, .count = 1},
	};
	size_t count = 0;

	for (size_t i = 0; i < SP_BLOCK_GROUPS_MAX; i++) {
		if (plan->skip[all[i].first] || all[i].first >= sp_block_plain(layer))
			continue;
		groups[count] = all[i];
		groups[count].in = sp_block_linear(layer, all[i].first)->in;
		takes[count++] = i;
	}
	return count;
}

enum sp_code
sp_block_search(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, struct sp_block *block,
    struct sp_err *err)
{
	const float *x[SP_BLOCK_GROUPS_MAX] = {
	    inputs->attn, inputs->heads, inputs->mlp, inputs->act};
	struct sp_block_group groups[SP_BLOCK_GROUPS_MAX];
	size_t takes[SP_BLOCK_GROUPS_MAX], count = sp_block_groups(layer, plan, groups, takes);

	for (size_t i = 0; i < count; i++) {
		struct sp_block_group *which = &block->groups[block->group_count];
		enum sp_code rc;

		/* under grouped-query attention one output of v feeds several inputs of o */
		if (groups[i].first == SP_LAYER_O &&
		    (layer->v.out != layer->o.out || layer->v.in != layer->o.in))
			continue;
		*which = groups[i];
		block->group_count++;
		rc = sp_trial_search(env, layer, inputs, plan, x[takes[i]], which, err);
		if (rc != SP_OK)
			return rc;
	}
	return sp_mix_search(env, layer, inputs, plan, block, err);
}

void
sp_block_scale_columns(struct sp_linear *linear, const float *scales)
{
	for (size_t r = 0; r < linear->out; r++) {
		for (size_t c = 0; c < linear->in; c++)
			linear->w[r * linear->in + c] *= scales[c];
	}
}

enum sp_code
sp_block_unscale_rows(struct sp_linear *linear, const float *scales, int half, struct sp_err *err)
{
	for (size_t r = 0; r < linear->out; r++) {
		for (size_t c = 0; c < linear->in; c++)
			linear->w[r * linear->in + c] /= scales[r];
		if (linear->bias != NULL)
			linear->bias[r] /= scales[r];
	}
	if (linear->bias != NULL) {
		enum sp_code rc = sp_round_half(linear->bias, linear->out, err);

		if (rc != SP_OK)
			return rc;
	}
	if (!half)
		return SP_OK;
	return sp_round_half(linear->w, linear->out * linear->in, err);
}

static enum sp_code
unscale_norm(float *norm, const float *scales, size_t count, struct sp_err *err)
{
	for (size_t i = 0; i < count; i++)
		norm[i] /= scales[i];
	return sp_round_half(norm, count, err);
}

enum sp_code
sp_block_scale(struct sp_layer *layer, const struct sp_block_plan *plan,
    const struct sp_block *block, struct sp_err *err)
{
	enum sp_code rc = SP_OK;

	for (size_t g = 0; g < block->group_count && rc == SP_OK; g++) {
		const struct sp_block_group *which = &block->groups[g];

		if (which->first == SP_LAYER_GATE && layer->n_experts > 0) {
			sp_mix_fold(layer, which->scales);
			continue;
		}
		if (which->first == SP_LAYER_Q)
			rc = unscale_norm(layer->input_norm, which->scales, which->in, err);
		else if (which->first == SP_LAYER_GATE)
			rc = unscale_norm(layer->post_norm, which->scales, which->in, err);
		else
			rc = sp_block_unscale_rows(
			    which->first == SP_LAYER_O ? &layer->v : &layer->up, which->scales,
			    plan->half, err);
		for (size_t i = 0; i < which->count && rc == SP_OK; i++) {
			struct sp_linear *linear =
			    sp_layer_linear(layer, which->first + (unsigned)i);

			sp_block_scale_columns(linear, which->scales);
			if (plan->half)
				rc = sp_round_half(linear->w, linear->out * linear->in, err);
		}
		if (rc != SP_OK)
			rc = sp_err_prefix(err, "scaling after %s", which->prev);
	}
	for (size_t e = 0; e < block->n_experts && rc == SP_OK; e++) {
		struct sp_layer view = sp_mix_view(layer, e);

		rc = sp_block_scale(&view, plan, &block->experts[e], err);
		if (rc != SP_OK)
			sp_err_prefix(err, "expert %zu", e);
	}
	return rc;
}

/* --- clipping and rounding ----------------------------------------------------------------------
 */

const float *
sp_block_scales(const struct sp_block *block, enum sp_layer_linear which)
{
	for (size_t g = 0; g < block->group_count; g++) {
		const struct sp_block_group *group = &block->groups[g];

		if (which >= group->first && which < group->first + group->count)
			return group->scales;
	}
	return NULL;
}

static const float *
input_of(const struct sp_block_inputs *inputs, enum sp_layer_linear which)
{
	switch (which) {
	case SP_LAYER_O:
		return inputs->heads;
	case SP_LAYER_GATE:
	case SP_LAYER_UP:
		return inputs->mlp;
	case SP_LAYER_DOWN:
		return inputs->act;
	default:
		return inputs->attn;
	}
}

enum sp_code
sp_block_clip(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, struct sp_block *block,
    struct sp_err *err)
{
	/* q and k meet in a product, which clipping one of them does not serve: AutoAWQ's rule */
	for (enum sp_layer_linear i = SP_LAYER_V; i < sp_block_plain(layer); i++) {
		struct sp_linear *linear = sp_layer_linear(layer, i);
		enum sp_code rc;

		if (plan->skip[i])
			continue;
		rc = sp_block_floats(
		    &block->limits[i], linear->out, linear->in / plan->grid.group, err);
		if (rc != SP_OK)
			return rc;
		rc = sp_search_clip(env->pool, linear->w, linear->out, linear->in, plan->grid,
		    input_of(inputs, i), inputs->n_seq * inputs->len, sp_block_scales(block, i),
		    block->limits[i], NULL, err);
		if (rc == SP_OK) {
			sp_search_clamp(
			    linear->w, linear->out, linear->in, plan->grid.group, block->limits[i]);
			rc = plan->half ? sp_round_half(linear->w, linear->out * linear->in, err)
					: SP_OK;
		}
		if (rc != SP_OK)
			return sp_err_prefix(err, "clipping %s", sp_layer_linear_name(i));
	}
	return sp_mix_clip(env, layer, inputs, plan, block, err);
}

enum sp_code
sp_block_round(struct sp_layer *layer, const struct sp_block_plan *plan, struct sp_block *block,
    struct sp_err *err)
{
	for (enum sp_layer_linear i = 0; i < sp_block_plain(layer); i++) {
		const struct sp_linear *linear = sp_layer_linear(layer, i);
		enum sp_code rc = sp_round_half(linear->w, linear->out * linear->in, err);

		if (rc == SP_OK && !plan->skip[i])
			rc = sp_round_codes(
			    linear->w, linear->out, linear->in, plan->grid, &block->codes[i], err);
		if (rc != SP_OK)
			return sp_err_prefix(err, "%s", sp_layer_linear_name(i));
	}
	for (size_t e = 0; e < block->n_experts; e++) {
		struct sp_layer view = sp_mix_view(layer, e);
		struct sp_block_plan own = sp_mix_plan(plan);
		enum sp_code rc = sp_block_round(&view, &own, &block->experts[e], err);

		if (rc != SP_OK)
			return sp_err_prefix(err, "expert %zu", e);
	}
	return SP_OK;
}

/* y[n][in] = x / scales; NULL: 1 */
static void
divide(const float *x, const float *scales, size_t n, size_t in, float *y)
{
	for (size_t t = 0; t < n; t++) {
		for (size_t c = 0; c < in; c++)
			y[t * in + c] = x[t * in + c] / (scales != NULL ? scales[c] : 1.0f);
	}
}

/* Of how many sequences, evenly between all, errors are measured. With experts of all, as
 * sp_mix_before does. */
static size_t
measured(const struct sp_layer *layer, size_t n_seq)
{
	return layer->n_experts > 0 || n_seq < SP_BLOCK_MEASURED ? n_seq : SP_BLOCK_MEASURED;
}

/* What one part of a packed layer gives for inputs divided by scales, against `exact`. */
static enum sp_code
part_error(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, int mlp, const float *scales, double *error,
    struct sp_err *err)
{
	const float *from = mlp ? inputs->mlp : inputs->attn;
	const float *exact = mlp ? inputs->mlp_out : inputs->attn_out;
	size_t each = inputs->len * env->config.hidden, count = measured(layer, inputs->n_seq);
	float *x = NULL, *y = NULL;
	enum sp_code rc;

	*error = 0;
	if ((rc = sp_block_floats(&x, 1, each, err)) || (rc = sp_block_floats(&y, 1, each, err)))
		goto out;
	for (size_t i = 0; i < count; i++) {
		size_t at = (2 * i + 1) * inputs->n_seq / (2 * count) * each;
		double one;

		divide(from + at, scales, inputs->len, env->config.hidden, x);
		if (mlp)
			rc = sp_layer_mlp(env, layer, x, inputs->len, NULL, y, err);
		else
			rc = sp_layer_attention(env, layer, x, 1, inputs->len, NULL, y, err);
		if (rc == SP_OK)
			rc = sp_block_difference(env->pool, y, exact + at, each, &one, err);
		if (rc != SP_OK)
			goto out;
		*error += one;
		inputs_rest(inputs);
	}
	*error /= (double)count;
out:
	free(x);
	free(y);
	return rc;
}

static enum sp_code
check_finite(double attn_error, double mlp_error, struct sp_err *err)
{
	if (isfinite(attn_error) && isfinite(mlp_error))
		return SP_OK;
	return sp_err_set(err, SP_E_INVALID, "the quantized layer's output is not finite");
}

enum sp_code
sp_block_before(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, struct sp_block *block,
    struct sp_err *err)
{
	struct sp_layer rounded = *layer;
	enum sp_code rc = SP_OK;

	for (enum sp_layer_linear i = 0; i < sp_block_plain(layer); i++) {
		if (!plan->skip[i])
			sp_layer_linear(&rounded, i)->packed = NULL;
	}
	for (enum sp_layer_linear i = 0; i < sp_block_plain(layer) && rc == SP_OK; i++) {
		struct sp_linear *linear = sp_layer_linear(&rounded, i);
		const struct sp_linear *plain = sp_block_linear(layer, i);

		if (plan->skip[i])
			continue;
		if ((rc = sp_block_floats(&linear->w, linear->out, linear->in, err)))
			break;
		sp_round_fake(plain->w, linear->out * linear->in, plan->grid, linear->w);
		rc = sp_linear_pack(linear, env->pool, err);
		free(linear->w);
	}
	if (rc == SP_OK)
		rc = part_error(env, &rounded, inputs, 0, NULL, &block->attn_before, err);
	if (rc == SP_OK && layer->n_experts > 0 && !plan->skip[SP_LAYER_GATE])
		rc = sp_mix_before(env, layer, inputs, plan, &block->mlp_before, err);
	else if (rc == SP_OK)
		rc = part_error(env, &rounded, inputs, 1, NULL, &block->mlp_before, err);
	if (rc == SP_OK)
		rc = check_finite(block->attn_before, block->mlp_before, err);
	for (enum sp_layer_linear i = 0; i < sp_block_plain(layer); i++) {
		if (!plan->skip[i])
			free(sp_layer_linear(&rounded, i)->packed);
	}
	return rc;
}

const struct sp_codes *
sp_block_codes(const struct sp_block *block, size_t which)
{
	if (which >= SP_LAYER_GATE && block->n_experts > 0)
		return &block->experts[(which - SP_LAYER_GATE) / 3]
			    .codes[SP_LAYER_GATE + (which - SP_LAYER_GATE) % 3];
	/* experts that are left out have none, as any linear layer that is */
	return &block->codes[which < SP_LAYER_LINEARS ? which : SP_LAYER_GATE];
}

enum sp_code
sp_block_measure(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_block_inputs *inputs, struct sp_block *block, struct sp_err *err)
{
	size_t count = SP_LAYER_GATE + 3 * (layer->n_experts > 0 ? layer->n_experts : 1);
	enum sp_code rc;

	for (size_t i = 0; i < count; i++) {
		const struct sp_codes *codes = sp_block_codes(block, i);

		if (codes->codes != NULL)
			sp_round_decode(codes, sp_layer_linear(layer, i)->w);
	}
	if ((rc = sp_layer_pack(layer, env->pool, err)) ||
	    (rc = part_error(env, layer, inputs, 0, sp_block_scales(block, SP_LAYER_Q),
		 &block->attn_error, err)) ||
	    (rc = part_error(env, layer, inputs, 1, sp_block_scales(block, SP_LAYER_GATE),
		 &block->mlp_error, err)))
		return rc;
	return check_finite(block->attn_error, block->mlp_error, err);
}

enum sp_code
sp_block_quantize(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, struct sp_block *block,
    struct sp_err *err)
{
	enum sp_code rc;

	*block = (struct sp_block){0};
	if ((rc = sp_block_search(env, layer, inputs, plan, block, err)) ||
	    (rc = sp_block_before(env, layer, inputs, plan, block, err)) ||
	    (rc = sp_block_scale(layer, plan, block, err)) ||
	    (rc = sp_block_clip(env, layer, inputs, plan, block, err)) ||
	    (rc = sp_block_round(layer, plan, block, err)) ||
	    (rc = sp_block_measure(env, layer, inputs, block, err)))
		sp_block_free(block);
	return rc;
}

void
sp_block_free(struct sp_block *block)
{
	for (size_t i = 0; i < block->group_count; i++)
		free(block->groups[i].scales);
	for (size_t i = 0; i < SP_LAYER_LINEARS; i++) {
		free(block->limits[i]);
		sp_round_free(&block->codes[i]);
	}
	for (size_t e = 0; e < block->n_experts; e++)
		sp_block_free(&block->experts[e]);
	free(block->experts);
	memset(block, 0, sizeof(*block));
}
