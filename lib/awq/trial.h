/* trial.h -- the scales of one group of linear layers, chosen by what the layer then gives. */
#ifndef SP_TRIAL_H
#define SP_TRIAL_H

#include "awq/block.h"

/* Tries AutoAWQ's ratios for the group `which` of a packed layer, whose linear layers take
 * x[n_seq*len][in]; fills in, scales (owned by which) and result. */
enum sp_code sp_trial_search(const struct sp_layer_env *env, const struct sp_layer *layer,
    const struct sp_block_inputs *inputs, const struct sp_block_plan *plan, const float *x,
    struct sp_block_group *which, struct sp_err *err) SP_MUST_USE;

#endif
