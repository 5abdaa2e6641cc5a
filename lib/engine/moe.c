/* moe.c -- gated MLPs and mixtures of them. */
#include "engine/moe.h"

#include <stdlib.h>
#include <string.h>

/* --- routing -----------------------------------------------------------------------------------
 */

enum sp_code
sp_moe_route_open(struct sp_moe_route *route, const struct sp_model_config *config, size_t max,
    struct sp_err *err)
{
	size_t k = config->experts_per_token, n_experts = config->experts;

	*route = (struct sp_moe_route){.max = max, .k = k, .n_experts = n_experts};
	route->probs = malloc(max * n_experts * sizeof(*route->probs));
	route->experts = malloc(max * k * sizeof(*route->experts));
	route->weights = malloc(max * k * sizeof(*route->weights));
	route->chosen = malloc(n_experts);
	route->first = malloc((n_experts + 1) * sizeof(*route->first));
	route->tokens = malloc(max * k * sizeof(*route->tokens));
	route->shares = malloc(max * k * sizeof(*route->shares));
	if (route->probs == NULL || route->experts == NULL || route->weights == NULL ||
	    route->chosen == NULL || route->first == NULL || route->tokens == NULL ||
	    route->shares == NULL) {
		sp_moe_route_close(route);
		return sp_err_set(err, SP_E_NO_MEMORY, "routes of %zu tokens", max);
	}
	return SP_OK;
}

void
sp_moe_route_close(struct sp_moe_route *route)
{
	free(route->probs);
	free(route->experts);
	free(route->weights);
	free(route->chosen);
	free(route->first);
	free(route->tokens);
	free(route->shares);
	*route = (struct sp_moe_route){0};
}

/* The k largest of probs[n_experts], the first of equals before the others; NaN is not larger. */
static void
choose(const float *probs, size_t n_experts, size_t k, int normalized, uint8_t *chosen,
    uint32_t *experts, float *weights)
{
	float sum = 0;

	memset(chosen, 0, n_experts);
	for (size_t i = 0; i < k; i++) {
		size_t best = n_experts;

		for (size_t e = 0; e < n_experts; e++) {
			if (!chosen[e] && (best == n_experts || probs[e] > probs[best]))
				best = e;
		}
		chosen[best] = 1;
		experts[i] = (uint32_t)best;
		weights[i] = probs[best];
		sum += probs[best];
	}
	for (size_t i = 0; i < k && normalized; i++)
		weights[i] /= sum;
}

/* Tokens by expert: a counting sort, stable, so that tokens rise. */
static void
sort(struct sp_moe_route *route)
{
	size_t *at = route->first;

	memset(at, 0, (route->n_experts + 1) * sizeof(*at));
	for (size_t i = 0; i < route->n * route->k; i++)
		at[route->experts[i] + 1]++;
	for (size_t e = 0; e < route->n_experts; e++)
		at[e + 1] += at[e];
	for (size_t i = 0; i < route->n * route->k; i++) {
		size_t to = at[route->experts[i]]++;

		route->tokens[to] = (uint32_t)(i / route->k);
		route->shares[to] = route->weights[i];
	}
	for (size_t e = route->n_experts; e > 0; e--) /* each moved on to where the next began */
		at[e] = at[e - 1];
	at[0] = 0;
}

void
sp_moe_route(const struct sp_layer_env *env, const struct sp_layer *layer, const float *x, size_t n,
    struct sp_moe_route *route)
{
	SP_ASSERT(n <= route->max && layer->n_experts == route->n_experts);
	route->n = n;
	sp_linear_apply(&layer->router, env->pool, x, n, route->probs);
	for (size_t t = 0; t < n; t++) {
		float *probs = route->probs + t * route->n_experts;

		sp_kernels_softmax(probs, route->n_experts, 1);
		choose(probs, route->n_experts, route->k, env->config.moe_normalized, route->chosen,
		    route->experts + t * route->k, route->weights + t * route->k);
	}
	sort(route);
}

void
sp_moe_gather(const struct sp_moe_route *route, size_t e, const float *x, size_t width, float *rows)
{
	for (size_t i = 0; i < sp_moe_count(route, e); i++)
		memcpy(rows + i * width, x + route->tokens[route->first[e] + i] * width,
		    width * sizeof(float));
}

void
sp_moe_scatter(
    const struct sp_moe_route *route, size_t e, const float *rows, size_t width, float *out)
{
	for (size_t i = 0; i < sp_moe_count(route, e); i++) {
		float *to = out + route->tokens[route->first[e] + i] * width;
		float share = route->shares[route->first[e] + i];

		for (size_t c = 0; c < width; c++)
			to[c] += share * rows[i * width + c];
	}
}

/* --- MLPs --------------------------------------------------------------------------------------
 */

void
sp_moe_expert(const struct sp_layer_env *env, const struct sp_linear *gate,
    const struct sp_linear *up, const struct sp_linear *down, const float *x, size_t n, float *act,
    float *up_work, float *out)
{
	sp_linear_apply(gate, env->pool, x, n, act);
	sp_linear_apply(up, env->pool, x, n, up_work);
	sp_kernels_silu_mul(env->pool, act, up_work, n * gate->out);
	if (out != NULL)
		sp_linear_apply(down, env->pool, act, n, out);
}

enum sp_code
sp_moe_work_open(
    struct sp_moe_work *work, const struct sp_model_config *config, size_t rows, struct sp_err *err)
{
	size_t inner = config->intermediate > config->moe_intermediate ? config->intermediate
								       : config->moe_intermediate;
	enum sp_code code;

	*work = (struct sp_moe_work){0};
	work->act = malloc(rows * inner * sizeof(float));
	work->up = malloc(rows * inner * sizeof(float));
	if (work->act == NULL || work->up == NULL)
		goto no_memory;
	if (config->experts == 0)
		return SP_OK;
	work->x = malloc(rows * config->hidden * sizeof(float));
	work->y = malloc(rows * config->hidden * sizeof(float));
	if (work->x == NULL || work->y == NULL)
		goto no_memory;
	if ((code = sp_moe_route_open(&work->route, config, rows, err)))
		sp_moe_work_close(work);
	return code;
no_memory:
	sp_moe_work_close(work);
	return sp_err_set(err, SP_E_NO_MEMORY, "MLP of %zu tokens", rows);
}

void
sp_moe_work_close(struct sp_moe_work *work)
{
	free(work->act);
	free(work->up);
	free(work->x);
	free(work->y);
	sp_moe_route_close(&work->route);
	*work = (struct sp_moe_work){0};
}

void
sp_moe_mlp(const struct sp_layer_env *env, const struct sp_layer *layer, struct sp_moe_work *work,
    const float *x, size_t n, float *act, float *out)
{
	size_t hidden = env->config.hidden;

	if (layer->n_experts == 0) {
		sp_moe_expert(env, &layer->gate, &layer->up, &layer->down, x, n,
		    act == NULL ? work->act : act, work->up, out);
		return;
	}
	sp_moe_route(env, layer, x, n, &work->route);
	memset(out, 0, n * hidden * sizeof(float));
	for (size_t e = 0; e < layer->n_experts; e++) {
		const struct sp_expert *expert = &layer->experts[e];
		size_t count = sp_moe_count(&work->route, e);

		if (count == 0)
			continue;
		sp_moe_gather(&work->route, e, x, hidden, work->x);
		sp_moe_expert(env, &expert->gate, &expert->up, &expert->down, work->x, count,
		    work->act, work->up, work->y);
		sp_moe_scatter(&work->route, e, work->y, hidden, out);
	}
}
