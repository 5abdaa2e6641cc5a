/*
 * block.h -- one decoder layer through AutoAWQ's steps: search scales, apply them, search clip
 * limits, clamp, round.
 *
 * The groups that share a scale (prev -> linear layers | whose output is compared):
 *	input_layernorm -> q, k, v | attention        v -> o | o, unless v and o differ in shape
 *	post_attention_layernorm -> gate, up | MLP     up -> down | down
 * All are searched on the layer as it was; then scales are applied in this order: prev /= s,
 *columns of the linear layers *= s. q and k are not clipped. Weights are fp16 values before and
 *after each step, since that is what a checkpoint holds.
 */
#ifndef SP_BLOCK_H
#define SP_BLOCK_H

#include "awq/round.h"
#include "awq/search.h"

/* What the parts of the unquantized layer take and give, a token per row. */
struct sp_block_inputs {
	size_t n_seq, len;
	float *attn, *heads, *attn_out; /* [hidden], what o_proj takes, [hidden] */
	float *mlp, *act, *mlp_out;	/* [hidden], what down_proj takes, [hidden] */
};

/* Runs the (packed) layer over h[n_seq*len][hidden], keeping everything, and leaves in h what the
 * next layer takes. Free with sp_block_inputs_free. */
enum sp_code
sp_block_collect(const struct sp_layer_env *env, const struct sp_layer *layer, float *h,
    size_t n_seq, size_t len, struct sp_block_inputs *out, struct sp_err *err) SP_MUST_USE;
void sp_block_inputs_free(struct sp_block_inputs *inputs);

#define SP_BLOCK_GROUPS_MAX 4

struct sp_block_group {
	const char *prev;
	enum sp_layer_linear first; /* the linear layers are first … first+count-1 */
	size_t count;
	size_t in;
	float *scales; /* [in], fp16 values, owned */
	struct sp_search_result result;
};

/* Zero-initialised is empty. */
struct sp_block {
	struct sp_block_group groups[SP_BLOCK_GROUPS_MAX];
	size_t group_count;
	float *limits[SP_LAYER_LINEARS]; /* clip, [out][in / group]; NULL: not clipped */
	struct sp_codes codes[SP_LAYER_LINEARS];
	/* mean squared errors of the parts' outputs, quantized against not */
	double attn_error, mlp_error;
};

/* The steps, in order; layer is packed for the first, and changed by _scale and _clip (w alone). */
enum sp_code sp_block_search(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, size_t group, struct sp_block *block,
    struct sp_err *err) SP_MUST_USE;
enum sp_code sp_block_scale(
    struct sp_layer *layer, const struct sp_block *block, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_block_clip(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_block_inputs *inputs, size_t group, struct sp_block *block,
    struct sp_err *err) SP_MUST_USE;
enum sp_code sp_block_round(
    struct sp_layer *layer, size_t group, struct sp_block *block, struct sp_err *err) SP_MUST_USE;
/* Fills attn_error and mlp_error; w of layer becomes what the codes stand for, packed. */
enum sp_code sp_block_measure(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_block_inputs *inputs, struct sp_block *block, struct sp_err *err) SP_MUST_USE;

/* All of them. */
enum sp_code sp_block_quantize(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_block_inputs *inputs, size_t group, struct sp_block *block,
    struct sp_err *err) SP_MUST_USE;
void sp_block_free(struct sp_block *block);

#endif
