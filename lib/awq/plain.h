/* plain.h -- what rounding a layer's weights to nearest would cost, with nothing searched: the
 * number that a quantizer's own errors are compared with. */
#ifndef SP_PLAIN_H
#define SP_PLAIN_H

#include "awq/block.h"

/* Rounds every linear layer of `layer` in groups (awq/round.h; w is changed) and gives the mean
 * squared errors of its parts' outputs against inputs, which were collected from the layer as it
 * was. */
enum sp_code sp_plain_errors(const struct sp_layer_env *env, struct sp_layer *layer,
    const struct sp_block_inputs *inputs, size_t group, double *attn_error, double *mlp_error,
    struct sp_err *err) SP_MUST_USE;

#endif
