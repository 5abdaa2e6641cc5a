/* config.h -- config.json of a checkpoint, as transformers writes it. */
#ifndef SP_CONFIG_H
#define SP_CONFIG_H

#include "model/dtype.h"

#define SP_CONFIG_EOS_MAX 8
#define SP_CONFIG_SKIP_MAX 32 /* modules_to_not_convert */

enum sp_arch { SP_ARCH_QWEN2 };

/* quantization_config of AutoAWQ's GEMM checkpoints; bits is 0 when there is none. */
struct sp_config_awq {
	uint32_t bits; /* 4 */
	uint32_t group_size;
	size_t skip_count;
	/* a linear layer whose name contains one of these is not quantized (vLLM's reading) */
	char skip[SP_CONFIG_SKIP_MAX][64];
};

struct sp_model_config {
	enum sp_arch arch;
	uint32_t hidden, intermediate, layers, heads, kv_heads, head_dim, vocab;
	uint32_t max_positions;
	float rms_norm_eps;
	double rope_theta;
	int tied;	     /* lm_head is embed_tokens */
	enum sp_dtype dtype; /* what the file says the weights are: F32, F16 or BF16 */
	size_t eos_count;
	uint32_t eos[SP_CONFIG_EOS_MAX];
	struct sp_config_awq awq;
};

/* Refuses what the engine would compute wrongly (SP_E_UNSUPPORTED names the field and its value)
 * and sizes outside sane bounds (SP_E_INVALID). */
enum sp_code sp_config_parse(
    const uint8_t *data, size_t len, struct sp_model_config *out, struct sp_err *err) SP_MUST_USE;

/* 1 when id is one of the end-of-sequence tokens. */
int sp_config_is_eos(const struct sp_model_config *config, uint32_t id);

/* 1 when the checkpoint is quantized and the linear layer of that name
 * ("model.layers.0.mlp.up_proj") is. */
int sp_config_is_awq(const struct sp_model_config *config, const char *linear);

#endif
