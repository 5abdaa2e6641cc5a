/* config.h -- config.json of a checkpoint, as transformers writes it. */
#ifndef SP_CONFIG_H
#define SP_CONFIG_H

#include "model/dtype.h"

#define SP_CONFIG_EOS_MAX 8
#define SP_CONFIG_SKIP_MAX 160 /* modules_to_not_convert */
#define SP_CONFIG_LAYERS_MAX 1024

/* X(member, class in architectures, model_type) */
#define SP_ARCHS(X)                                              \
	X(SP_ARCH_LLAMA, "LlamaForCausalLM", "llama")            \
	X(SP_ARCH_MISTRAL, "MistralForCausalLM", "mistral")      \
	X(SP_ARCH_QWEN2, "Qwen2ForCausalLM", "qwen2")            \
	X(SP_ARCH_QWEN3, "Qwen3ForCausalLM", "qwen3")            \
	X(SP_ARCH_QWEN3_MOE, "Qwen3MoeForCausalLM", "qwen3_moe") \
	X(SP_ARCH_MIXTRAL, "MixtralForCausalLM", "mixtral")

enum sp_arch {
#define X(id, name, type) id,
	SP_ARCHS(X)
#undef X
	    SP_ARCH_COUNT
};

/* The class name in `architectures`. */
const char *sp_config_arch_name(enum sp_arch arch);

enum sp_rope_kind { SP_ROPE_DEFAULT, SP_ROPE_LINEAR, SP_ROPE_LLAMA3, SP_ROPE_YARN };

/* Rotary embeddings; what a kind does not use is 0. */
struct sp_config_rope {
	enum sp_rope_kind kind;
	double theta, factor;
	double original;	    /* llama3, yarn: positions before they were stretched */
	double low_freq, high_freq; /* llama3 */
	double beta_fast, beta_slow;
	int truncate;		 /* yarn: whole bounds of its ramp */
	double attention_factor; /* cos and sin are multiplied by it; 1 except for yarn */
};

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
	struct sp_config_rope rope;
	int qkv_bias, o_bias, mlp_bias; /* 1: these linear layers have one */
	int qk_norm;			/* 1: each head of q and k is normalized before RoPE */
	uint32_t window; /* tokens that a windowed layer sees, its own included; 0: no such layer */
	uint64_t windowed[SP_CONFIG_LAYERS_MAX / 64]; /* bit: sp_config_window */
	/* a mixture of experts: how many there are (0: none), how many a token goes to, how wide
	 * they are, 1 when a token's weights are made to sum to 1 */
	uint32_t experts, experts_per_token, moe_intermediate;
	int moe_normalized;
	uint64_t sparse[SP_CONFIG_LAYERS_MAX / 64]; /* bit: sp_config_sparse */
	int tied;				    /* lm_head is embed_tokens */
	enum sp_dtype dtype; /* what the file says the weights are: F32, F16 or BF16 */
	size_t eos_count;
	uint32_t eos[SP_CONFIG_EOS_MAX];
	struct sp_config_awq awq;
};

/* Refuses what the engine would compute wrongly (SP_E_UNSUPPORTED names the field and its value)
 * and sizes outside sane bounds (SP_E_INVALID). */
enum sp_code sp_config_parse(
    const uint8_t *data, size_t len, struct sp_model_config *out, struct sp_err *err) SP_MUST_USE;

/* How many tokens, its own included, a token of that layer attends to; 0: all before it. */
uint32_t sp_config_window(const struct sp_model_config *config, size_t layer);

/* 1 when that layer's MLP is a mixture of experts. */
int sp_config_sparse(const struct sp_model_config *config, size_t layer);

/* 1 when id is one of the end-of-sequence tokens. */
int sp_config_is_eos(const struct sp_model_config *config, uint32_t id);

/* 1 when the checkpoint is quantized and the linear layer of that name
 * ("model.layers.0.mlp.up_proj") is. */
int sp_config_is_awq(const struct sp_model_config *config, const char *linear);

#endif
