/*
 * moe.h -- gated MLPs and mixtures of them.
 *
 * A token's MLP output in a layer with experts is Σ w_e · expert_e(x) over the experts_per_token
 * experts of largest probability, the softmax over all experts of the router's product with x; the
 * first of equals wins. w_e is that probability, divided by the sum of those chosen where the model
 * says so. The sum goes over rising e, from 0, so that it does not depend on the tokens beside it.
 */
#ifndef SP_MOE_H
#define SP_MOE_H

#include "engine/layer.h"

/* Where n tokens go. Zero-initialised is empty. */
struct sp_moe_route {
	size_t max, n, k, n_experts;
	float *probs;	   /* [n][n_experts] */
	uint32_t *experts; /* [n][k], falling probability */
	float *weights;	   /* [n][k] */
	uint8_t *chosen;   /* [n_experts], work memory */
	/* the same by expert: expert e takes tokens[first[e]] … tokens[first[e+1] - 1], which rise,
	 * with the shares of the same place */
	size_t *first;	  /* [n_experts + 1] */
	uint32_t *tokens; /* [n * k] */
	float *shares;
};

/* Room for up to max tokens. */
enum sp_code sp_moe_route_open(struct sp_moe_route *route, const struct sp_model_config *config,
    size_t max, struct sp_err *err) SP_MUST_USE;
void sp_moe_route_close(struct sp_moe_route *route);
/* Routes x[n][hidden] after post_norm; the router must be packed. */
void sp_moe_route(const struct sp_layer_env *env, const struct sp_layer *layer, const float *x,
    size_t n, struct sp_moe_route *route);

/* How many tokens expert e takes. */
static inline size_t
sp_moe_count(const struct sp_moe_route *route, size_t e)
{
	return route->first[e + 1] - route->first[e];
}
/* rows[sp_moe_count][width]: the rows of x[n][width] that belong to expert e. */
void sp_moe_gather(
    const struct sp_moe_route *route, size_t e, const float *x, size_t width, float *rows);
/* out[n][width] += share * rows, for expert e's tokens. */
void sp_moe_scatter(
    const struct sp_moe_route *route, size_t e, const float *rows, size_t width, float *out);

/* x[n][hidden] -> act[n][inner], which is what down takes, -> out[n][hidden] or NULL; up[n][inner]
 * is work memory. The same for any expert and, by its gate, up and down, for a dense layer. */
void sp_moe_expert(const struct sp_layer_env *env, const struct sp_linear *gate,
    const struct sp_linear *up, const struct sp_linear *down, const float *x, size_t n, float *act,
    float *up_work, float *out);

/* Work memory for up to rows tokens, of any layer of the model. Zero-initialised is empty. */
struct sp_moe_work {
	float *act, *up, *x, *y;
	struct sp_moe_route route;
};
enum sp_code sp_moe_work_open(struct sp_moe_work *work, const struct sp_model_config *config,
    size_t rows, struct sp_err *err) SP_MUST_USE;
void sp_moe_work_close(struct sp_moe_work *work);

/* The MLP of the layer, dense or not, as sp_layer_mlp, for at most as many tokens as work has room
 * for. out must not be x. */
void sp_moe_mlp(const struct sp_layer_env *env, const struct sp_layer *layer,
    struct sp_moe_work *work, const float *x, size_t n, float *act, float *out);

#endif
