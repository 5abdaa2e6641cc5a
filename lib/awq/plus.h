/*
 * plus.h -- method "awq+" on one decoder layer.
 *
 * Scales per channel as in awq/block.h, but 1 is among those tried, o_proj has them under
 * grouped-query attention too (heads that share a value share its scales), and they are judged by
 * the error that compensated rounding (awq/plane.h) leaves. Then the linear layers are rounded in
 * the order in which they run, each on what the quantized ones before it give, its weights first
 * moved so that its output is the exact model's as nearly as that input allows (cf. GPTAQ, Li et
 * al., arXiv:2504.02692).
 */
#ifndef SP_PLUS_H
#define SP_PLUS_H

#include "awq/block.h"

/*
 * exact[n_seq*len][hidden]: what this layer takes in the exact model; runs: what it takes in the
 * quantized one. Both become what the next layer takes. layer is packed with fp16 values;
 * afterwards it is the quantized one, packed: norms, biases and linear layers that the plan skips
 * as they are to be stored, the others what their codes stand for. place: of the activations
 * between (NULL: memory), of which no more than some thousand tokens' need memory when they lie in
 * files. Free block with sp_block_free.
 */
enum sp_code sp_plus_quantize(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_spill *exact, const struct sp_spill *runs, size_t n_seq, size_t len,
    const struct sp_block_plan *plan, const struct sp_block_place *place, struct sp_block *block,
    struct sp_err *err) SP_MUST_USE;

#endif
