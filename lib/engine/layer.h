/*
 * layer.h -- one decoder layer (RMSNorm, grouped-query attention, a gated MLP or a mixture of such)
 * in fp32, as Llama, Mistral, Qwen and Mixtral have it.
 */
#ifndef SP_LAYER_H
#define SP_LAYER_H

#include "engine/linear.h"
#include "model/config.h"

struct sp_expert {
	struct sp_linear gate, up, down;
};

struct sp_layer {
	size_t index;		       /* in the model */
	float *input_norm, *post_norm; /* [hidden], owned */
	float *q_norm, *k_norm;	       /* [head_dim], owned; NULL: q and k are not normalized */
	struct sp_linear q, k, v, o;
	struct sp_linear gate, up, down; /* empty where there are experts */
	struct sp_linear router;	 /* [experts][hidden] */
	struct sp_expert *experts;	 /* owned */
	size_t n_experts;		 /* 0: a dense layer */
	uint32_t window;		 /* sp_config_window of this layer */
};

/*
 * The linear layers of it, without the router, in the order of their names: "self_attn.q_proj", ….
 * Of a layer with experts the numbers go on: the MLP of expert e has SP_LAYER_GATE + 3e and the two
 * behind it ("mlp.experts.E.up_proj"; Mixtral's "block_sparse_moe.experts.E.w1" is the gate, w3 the
 * up and w2 the down projection).
 */
enum sp_layer_linear {
	SP_LAYER_Q,
	SP_LAYER_K,
	SP_LAYER_V,
	SP_LAYER_O,
	SP_LAYER_GATE,
	SP_LAYER_UP,
	SP_LAYER_DOWN,
	SP_LAYER_LINEARS /* of a dense layer */
};
/* How many layer `layer` of the model has. */
size_t sp_layer_linears(const struct sp_model_config *config, size_t layer);

/* What the configuration says of a linear layer: its weight is [out][in], its name as tensors have
 * it behind "model.layers.N.". */
struct sp_layer_part {
	char name[48];
	size_t out, in;
	int biased; /* 1: it has a bias */
};
struct sp_layer_part
sp_layer_part(const struct sp_model_config *config, size_t layer, size_t which);
/* The name alone, of one of a dense layer. */
const char *sp_layer_linear_name(enum sp_layer_linear which);
struct sp_linear *sp_layer_linear(struct sp_layer *layer, size_t which);
/* The router of a layer with experts, which is not quantized; it has no bias. */
const char *sp_layer_router_name(const struct sp_model_config *config);

/* Its vectors beside biases: the weights of the norms. */
enum sp_layer_norm {
	SP_LAYER_INPUT_NORM,
	SP_LAYER_POST_NORM,
	SP_LAYER_Q_NORM,
	SP_LAYER_K_NORM,
	SP_LAYER_NORMS
};
const char *sp_layer_norm_name(enum sp_layer_norm which); /* "input_layernorm", … */
/* Values of it; 0: the model has none. */
size_t sp_layer_norm_size(const struct sp_model_config *config, enum sp_layer_norm which);
float **sp_layer_norm(struct sp_layer *layer, enum sp_layer_norm which);

enum sp_code
sp_layer_pack(struct sp_layer *layer, struct sp_pool *pool, struct sp_err *err) SP_MUST_USE;
/* The same, and gives each plain weight back as soon as it is packed. */
enum sp_code
sp_layer_pack_only(struct sp_layer *layer, struct sp_pool *pool, struct sp_err *err) SP_MUST_USE;
void sp_layer_free(struct sp_layer *layer);

/* What all layers of a model share. */
struct sp_layer_env {
	struct sp_model_config config;
	struct sp_pool *pool; /* borrowed */
	float *rope;	      /* [positions][head_dim / 2][cos, sin], owned */
	size_t positions;
};

enum sp_code sp_layer_env_open(struct sp_layer_env *env, const struct sp_model_config *config,
    size_t positions, struct sp_pool *pool, struct sp_err *err) SP_MUST_USE;
void sp_layer_env_close(struct sp_layer_env *env);

/*
 * The parts on whole sequences without a cache: n_seq sequences of len tokens each, one after the
 * other, causal attention within each, positions from 0. Matrices are row-major, a token per row.
 * The layer must be packed. Work memory is bounded (some thousand tokens at a time).
 */

/* q[n][heads*head_dim], k and v[n][kv_heads*head_dim] from x[n][hidden] after input_norm: products
 * and the norms of heads, not rotated yet. */
void sp_layer_qkv(const struct sp_layer_env *env, const struct sp_layer *layer, const float *x,
    size_t n, float *q, float *k, float *v);

/* x[n_seq*len][hidden] after input_norm -> heads[..][heads*head_dim], which is what o_proj takes,
 * -> out[..][hidden] (before the residual). heads or out may be NULL when not wanted. */
enum sp_code
sp_layer_attention(const struct sp_layer_env *env, const struct sp_layer *layer, const float *x,
    size_t n_seq, size_t len, float *heads, float *out, struct sp_err *err) SP_MUST_USE;

/* x[n][hidden] after post_norm -> act[n][intermediate], which is what down_proj takes,
 * -> out[n][hidden] (before the residual). act or out may be NULL when not wanted; act must be of a
 * layer with experts, whose parts moe.h has. */
enum sp_code sp_layer_mlp(const struct sp_layer_env *env, const struct sp_layer *layer,
    const float *x, size_t n, float *act, float *out, struct sp_err *err) SP_MUST_USE;

/* The whole layer with both residuals, in place: h[n_seq*len][hidden]. */
enum sp_code sp_layer_forward(const struct sp_layer_env *env, const struct sp_layer *layer,
    float *h, size_t n_seq, size_t len, struct sp_err *err) SP_MUST_USE;

#endif
