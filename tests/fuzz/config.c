/* config.c -- config.json: what is accepted has sizes that the engine can compute with. */
#include "model/config.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct sp_model_config c;
	struct sp_err err;

	if (sp_config_parse(data, len, &c, &err) != SP_OK) {
		SP_ASSERT(err.msg[0] != '\0');
		return 0;
	}
	SP_ASSERT(c.hidden > 0 && c.intermediate > 0 && c.layers > 0 && c.vocab > 0);
	SP_ASSERT(c.heads > 0 && c.kv_heads > 0 && c.heads % c.kv_heads == 0 && c.head_dim > 0);
	SP_ASSERT(c.eos_count <= SP_CONFIG_EOS_MAX && c.awq.skip_count <= SP_CONFIG_SKIP_MAX);
	SP_ASSERT(c.awq.bits == 0 || c.awq.group_size > 0);
	SP_ASSERT(c.arch < SP_ARCH_COUNT && c.rope.theta >= 1 && c.rope.attention_factor > 0);
	SP_ASSERT(c.rope.kind == SP_ROPE_DEFAULT || c.rope.factor >= 1);
	SP_ASSERT(c.experts_per_token <= c.experts);
	for (size_t i = 0; i < c.layers; i++) {
		SP_ASSERT(sp_config_window(&c, i) < c.max_positions);
		SP_ASSERT(!sp_config_sparse(&c, i) ||
			  (c.experts_per_token > 0 && c.moe_intermediate > 0));
	}
	for (size_t i = 0; i < c.eos_count; i++)
		SP_ASSERT(sp_config_is_eos(&c, c.eos[i]));
	sp_config_is_awq(&c, "model.layers.0.mlp.up_proj");
	return 0;
}
