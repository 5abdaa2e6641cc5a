/*
 * block.h -- one decoder layer through AutoAWQ's steps: search scales, apply them, search clip
 * limits, clamp, round. (awq/plus.h has the steps of our own, for the same groups.)
 *
 * The groups that share a scale (prev -> linear layers | whose output is compared):
 *	input_layernorm -> q, k, v | attention        v -> o | o, unless v and o differ in shape
 *	post_attention_layernorm -> gate, up | MLP     up -> down | down
 * (A mixture of experts: awq/mix.h.) All are searched on the layer as it was; then scales are
 applied in this order: prev /= s, columns of the linear layers *= s. q and k are not clipped.
 Weights are fp16 values before
 * them, since that is what a checkpoint holds, and codes are found with fp16 arithmetic.
 */
#ifndef SP_BLOCK_H
#define SP_BLOCK_H

#include "awq/round.h"
#include "awq/search.h"
#include "engine/moe.h"
#include "engine/spill.h"

/* Where activations lie: a matrix of more than bound bytes in a file in dir (engine/spill.h). */
struct sp_block_place {
	const char *dir;
	size_t bound;
};

enum sp_block_input {
	SP_BLOCK_ATTN,
	SP_BLOCK_HEADS,
	SP_BLOCK_ATTN_OUT,
	SP_BLOCK_MLP,
	SP_BLOCK_ACT,
	SP_BLOCK_MLP_OUT,
	SP_BLOCK_INPUTS
};

/* What the parts of the unquantized layer take and give, a token per row. */
struct sp_block_inputs {
	size_t n_seq, len;
	float *attn, *heads, *attn_out;	       /* [hidden], what o_proj takes, [hidden] */
	float *mlp, *act, *mlp_out;	       /* [hidden], what down_proj takes, [hidden] */
	struct sp_spill rows[SP_BLOCK_INPUTS]; /* what they lie in */
	struct sp_moe_route route; /* of mlp, in a layer with experts, whose act is NULL */
};

/* Sequences of len tokens that are taken at a time, so that the rest of what lies in files needs no
 * memory: about 2,048 tokens, and the same number always, since sums depend on it. */
size_t sp_block_step(size_t len);

/* Runs the (packed) layer over h[n_seq*len][hidden], keeping everything, and leaves in h what the
 * next layer takes. place NULL: in memory. Free with sp_block_inputs_free. */
enum sp_code sp_block_collect(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_spill *h, size_t n_seq, size_t len, const struct sp_block_place *place,
    struct sp_block_inputs *out, struct sp_err *err) SP_MUST_USE;
void sp_block_inputs_free(struct sp_block_inputs *inputs);

/* What becomes of a layer's linear layers. q, k and v, and gate and up, share their lot; all of
 * the experts' have that of SP_LAYER_GATE. */
struct sp_block_plan {
	struct sp_grid grid;
	uint8_t skip[SP_LAYER_LINEARS]; /* 1: stays fp16 */
	/* 1: statistics, scales and the weights of each step are fp16, as when AutoAWQ runs a model
	 * in fp16; 0: fp32 up to the codes, as when it runs one in fp32 */
	int half;
	int exhaustive; /* 1: every ratio is measured on all tokens, for comparison */
};

/* Whether the linear layer of that number (sp_layer_linear) stays fp16. */
static inline int
sp_block_skips(const struct sp_block_plan *plan, size_t which)
{
	return plan
	    ->skip[which < SP_LAYER_GATE ? which : SP_LAYER_GATE + (which - SP_LAYER_GATE) % 3];
}

/* sp_layer_linear of a layer that is only read. */
const struct sp_linear *sp_block_linear(const struct sp_layer *layer, enum sp_layer_linear which);

/* How scales go into a linear layer's weights: what takes scaled inputs has columns w[r][c] *
 * scales[c]; what gives them has rows (and bias, which becomes fp16) divided by scales[r], and with
 * half 1 its weights rounded to fp16, too. SP_E_INVALID: a value is beyond fp16. */
void sp_block_scale_columns(struct sp_linear *linear, const float *scales);
enum sp_code sp_block_unscale_rows(
    struct sp_linear *linear, const float *scales, int half, struct sp_err *err) SP_MUST_USE;

#define SP_BLOCK_GROUPS_MAX 4
/* Sequences that errors are measured on, in a layer without experts. */
#define SP_BLOCK_MEASURED 4

struct sp_block_group {
	const char *prev;
	/* the linear layers are first … first+count-1; in a layer with experts, where first is
	 * SP_LAYER_GATE, the gate and up of every expert */
	enum sp_layer_linear first;
	size_t count;
	size_t in;
	float *scales; /* [in], owned */
	struct sp_search_result result;
};

/* Zero-initialised is empty. */
struct sp_block {
	struct sp_block_group groups[SP_BLOCK_GROUPS_MAX];
	size_t group_count;
	float *limits[SP_LAYER_LINEARS];	 /* clip, [out][in / group]; NULL: not clipped */
	struct sp_codes codes[SP_LAYER_LINEARS]; /* empty where the plan skips it */
	/* mean squared errors of the parts' outputs on the exact inputs of SP_BLOCK_MEASURED
	 * sequences (of all in a layer with experts), quantized against not; before: when each
	 * weight is only rounded to its nearest code */
	double attn_error, mlp_error, attn_before, mlp_before;
	int plus; /* by awq/plus.h */
	/* of that: mean squares of what the next layer takes, and of its error */
	double stream, stream_error;
	/* of a layer with experts that are quantized: each one's gate, up and down (codes[SP_LAYER_
	 * GATE] …), and one group, up -> down */
	struct sp_block *experts;
	size_t n_experts;
	size_t tokens; /* of an expert: that it was calibrated with */
};

/* The codes of the linear layer of that number (sp_layer_linear). */
const struct sp_codes *sp_block_codes(const struct sp_block *block, size_t which);

/* The steps, in order; layer is packed for the first, and changed by _scale and _clip (w alone). */
enum sp_code sp_block_search(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, struct sp_block *block,
    struct sp_err *err) SP_MUST_USE;
enum sp_code sp_block_scale(struct sp_layer *layer, const struct sp_block_plan *plan,
    const struct sp_block *block, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_block_clip(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, struct sp_block *block,
    struct sp_err *err) SP_MUST_USE;
enum sp_code sp_block_round(struct sp_layer *layer, const struct sp_block_plan *plan,
    struct sp_block *block, struct sp_err *err) SP_MUST_USE;
/* Fills attn_before and mlp_before; layer is as it was, packed. */
enum sp_code sp_block_before(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, struct sp_block *block,
    struct sp_err *err) SP_MUST_USE;
/* Fills attn_error and mlp_error; w of layer becomes what the codes stand for, packed. */
enum sp_code sp_block_measure(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_block_inputs *inputs, struct sp_block *block, struct sp_err *err) SP_MUST_USE;

/* All of them. */
enum sp_code sp_block_quantize(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, struct sp_block *block,
    struct sp_err *err) SP_MUST_USE;
void sp_block_free(struct sp_block *block);

/* How many of SP_LAYER_LINEARS lie outside of experts. */
static inline size_t
sp_block_plain(const struct sp_layer *layer)
{
	return layer->n_experts == 0 ? SP_LAYER_LINEARS : SP_LAYER_GATE;
}
/* The scales that a linear layer's inputs are divided by; NULL: none. */
const float *sp_block_scales(const struct sp_block *block, enum sp_layer_linear which);

/* For awq/plus.c: the groups that the plan leaves of the layer outside of experts, without their
 * scales, and the index in sp_block_inputs order (attn, heads, mlp, act) of what each takes. */
size_t sp_block_groups(const struct sp_layer *layer, const struct sp_block_plan *plan,
    struct sp_block_group *groups, size_t *takes);
/* rows x columns zeros, malloc'd. */
enum sp_code
sp_block_floats(float **out, size_t rows, size_t columns, struct sp_err *err) SP_MUST_USE;
/* rows x columns zeros, where place says. */
enum sp_code sp_block_rows(const struct sp_block_place *place, size_t rows, size_t columns,
    struct sp_spill *out, struct sp_err *err) SP_MUST_USE;
/* Mean squared difference of a[count] and b[count]. */
enum sp_code sp_block_difference(struct sp_pool *pool, const float *a, const float *b, size_t count,
    double *out, struct sp_err *err) SP_MUST_USE;

#endif
