/*
 * mix.h -- the experts of one decoder layer, for both methods.
 *
 * post_attention_layernorm -> gate and up of every expert | the mixture: one scale per channel, as
 * AutoAWQ has it (awq/models/mixtral.py, qwen3_moe.py). The router takes what that norm gives, too.
 * AutoAWQ does not tell it, so that its tokens go elsewhere afterwards; here its columns are
 * multiplied by the scales, which are powers of two, so small that all fp16 values concerned stay
 * exact: the router's products, and with them where every token goes, are the same bits as before.
 *
 * up -> down within each expert, from the tokens that go to it. One that none goes to is rounded as
 * it is, with scales of 1. Only one expert's inputs are held at a time.
 */
#ifndef SP_MIX_H
#define SP_MIX_H

#include "awq/block.h"

/* Expert e as the MLP of a dense layer, which has no attention; its memory stays the layer's. After
 * packing, give it back. */
struct sp_layer sp_mix_view(const struct sp_layer *layer, size_t e);
void sp_mix_give_back(struct sp_layer *layer, size_t e, const struct sp_layer *view);
/* The plan of such a layer. */
struct sp_block_plan sp_mix_plan(const struct sp_block_plan *plan);

/* What expert e (packed) takes and gives: mlp and act of out, a row for each of its tokens in
 * route, from mlp[n][hidden]. Free with sp_block_inputs_free. */
enum sp_code sp_mix_inputs(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_moe_route *route, size_t e, const float *mlp, struct sp_block_inputs *out,
    struct sp_err *err) SP_MUST_USE;

/* Adds the shared group, without scales, and an empty block for each expert; returns the group. */
struct sp_block_group *sp_mix_open(const struct sp_layer *layer, struct sp_block *block);
/* Scales of 1 for an expert without tokens. */
enum sp_code sp_mix_neutral(struct sp_block *expert, struct sp_err *err) SP_MUST_USE;

/* scales[hidden] become the powers of two next to them, nearer to 1 where norm / s or router * s
 * would not be exact in fp16. */
void sp_mix_exact(const struct sp_layer *layer, float *scales);
/* Moves such scales from the norm into the router and every expert's gate and up; w alone. */
void sp_mix_fold(struct sp_layer *layer, const float *scales);

/* The steps of awq/block.h, which calls these; nothing to do in a dense layer or where the plan
 * leaves the experts out. _before: error of the mixture with each weight rounded to nearest. */
enum sp_code sp_mix_search(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, struct sp_block *block,
    struct sp_err *err) SP_MUST_USE;
enum sp_code sp_mix_clip(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, struct sp_block *block,
    struct sp_err *err) SP_MUST_USE;
enum sp_code sp_mix_before(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, double *error,
    struct sp_err *err) SP_MUST_USE;

#endif
