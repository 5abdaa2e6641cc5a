/* plan.h -- which linear layers become 4-bit codes, in groups of what size. */
#ifndef SP_PLAN_H
#define SP_PLAN_H

#include "awq/block.h"
#include "base/json.h"

/* What to do about a linear layer whose inputs are no multiple of the group size. */
enum sp_plan_fallback {
	SP_PLAN_REFUSE,
	SP_PLAN_SMALLER, /* the next smaller group, 64 or 32, for the whole model */
	SP_PLAN_LEAVE	 /* it stays fp16, and with it those that vLLM runs together with it */
};
/* "refuse", "smaller", "leave"; 0 when word is none of them. */
int sp_plan_fallback_parse(const char *word, enum sp_plan_fallback *out);

struct sp_plan {
	struct sp_grid grid;
	/* modules_to_not_convert: a linear layer whose name contains one of these stays fp16 */
	char skip[SP_CONFIG_SKIP_MAX][64];
	size_t skip_count;
	size_t asked; /* group size that was asked for */
	size_t fell;  /* the last `fell` of skip are there by SP_PLAN_LEAVE */
};

/*
 * Pure. grid.group: 32, 64 or 128. skip[skip_count] are read as vLLM reads them, as substrings of
 * "model.layers.N.self_attn.q_proj" and the like; it refuses a model in which of q, k and v (or
 * gate and up) of one layer some are left out and some not, and so does this (SP_E_INVALID names
 * them). A layer's experts are left out together ("mlp.experts", Mixtral's
 * "block_sparse_moe.experts") or not at all. SP_E_UNSUPPORTED names the linear layer that does not
 * fit. Routers are always left out; they stand in skip behind what was asked for.
 */
enum sp_code sp_plan_make(const struct sp_model_config *config, struct sp_grid grid,
    const char *const *skip, size_t skip_count, enum sp_plan_fallback fallback, struct sp_plan *out,
    struct sp_err *err) SP_MUST_USE;

/* The plan of one layer. */
struct sp_block_plan
sp_plan_layer(const struct sp_plan *plan, const struct sp_model_config *config, size_t index);

/* {"asked_group_size", "fallback": [names left out for their size], "group_size",
 * "modules_to_not_convert": [all], "symmetric"}; new. */
json_t *sp_plan_report(const struct sp_plan *plan);

#endif
