/* config.c -- config.json of a checkpoint. */
#include "model/config.h"

#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/*
 * What transformers writes (4.x and 5.x; configuration_NAME.py names the defaults). Fields that do
 * not change the forward pass (initializer_range, use_cache, …) are ignored; of those that do, each
 * value we do not compute is refused.
 *
 *	dtype | torch_dtype                            5.x writes the first, 4.x the second
 *	rope_parameters {rope_theta, rope_type, …}     5.x
 *	rope_theta, rope_scaling {rope_type | type, …} 4.x
 */

static const struct arch {
	const char *name, *type;
} archs[SP_ARCH_COUNT] = {
#define X(id, class, model_type) [id] = {class, model_type},
    SP_ARCHS(X)
#undef X
};

/* Fields of other architectures that change the forward pass; a reader that knows them would
 * compute something else than one that does not. */
static const char *const foreign[] = {"attention_chunk_size", "attention_multiplier",
    "attn_logit_softcapping", "clip_qkv", "embedding_multiplier", "final_logit_softcapping",
    "logit_scale", "logits_scaling", "no_rope_layers", "qk_layernorm", "query_pre_attn_scalar",
    "n_shared_experts", "residual_multiplier", "shared_expert_intermediate_size",
    "sliding_window_pattern", "use_mrope", "use_qk_norm"};

static enum sp_code
get_size(const json_t *root, const char *key, int64_t max, uint32_t *out, struct sp_err *err)
{
	int64_t value;
	enum sp_code code = sp_json_integer(root, key, 1, max, &value, err);

	if (code == SP_OK)
		*out = (uint32_t)value;
	return code;
}

/* A number in [min, max], or fallback when the key is missing or null. */
static enum sp_code
get_real(const json_t *root, const char *key, double min, double max, double fallback, double *out,
    struct sp_err *err)
{
	const json_t *value = json_object_get(root, key);

	*out = fallback;
	if (value == NULL || json_is_null(value))
		return SP_OK;
	*out = json_number_value(value);
	if (!json_is_number(value) || !isfinite(*out) || *out < min || *out > max)
		return sp_err_set(
		    err, SP_E_INVALID, "%s is not a number from %g to %g", key, min, max);
	return SP_OK;
}

/* A boolean; missing or null is 0. */
static enum sp_code
get_flag(const json_t *root, const char *key, int *out, struct sp_err *err)
{
	const json_t *value = json_object_get(root, key);

	*out = json_is_true(value);
	if (value != NULL && !json_is_boolean(value) && !json_is_null(value))
		return sp_err_set(err, SP_E_INVALID, "%s is neither true nor false", key);
	return SP_OK;
}

/* The string under key, when there is one, must be `only`. */
static enum sp_code
want_string(const json_t *root, const char *key, const char *only, struct sp_err *err)
{
	const json_t *value = json_object_get(root, key);

	if (value == NULL || json_is_null(value))
		return SP_OK;
	if (!json_is_string(value) || strcmp(json_string_value(value), only) != 0)
		return sp_err_set(err, SP_E_UNSUPPORTED, "%s is %.64s, only %s is supported", key,
		    json_is_string(value) ? json_string_value(value) : "not a string", only);
	return SP_OK;
}

/* 1 when key is there with a value. */
static int
has(const json_t *root, const char *key)
{
	const json_t *value = json_object_get(root, key);

	return value != NULL && !json_is_null(value);
}

static enum sp_code
unknown_arch(const char *name, struct sp_err *err)
{
	char known[192] = "";
	size_t len = 0;

	for (size_t i = 0; i < SP_ARCH_COUNT; i++)
		len += (size_t)snprintf(
		    known + len, sizeof(known) - len, "%s%s", i == 0 ? "" : ", ", archs[i].name);
	return sp_err_set(
	    err, SP_E_UNSUPPORTED, "architecture %.64s is not one of %s", name, known);
}

static enum sp_code
parse_arch(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	json_t *list;
	const char *name;
	size_t arch = 0;
	enum sp_code code;

	if ((code = sp_json_array(root, "architectures", &list, err)))
		return code;
	name = json_string_value(json_array_get(list, 0));
	if (json_array_size(list) != 1 || name == NULL)
		return sp_err_set(
		    err, SP_E_INVALID, "architectures does not name exactly one class");
	while (arch < SP_ARCH_COUNT && strcmp(name, archs[arch].name) != 0)
		arch++;
	if (arch == SP_ARCH_COUNT)
		return unknown_arch(name, err);
	c->arch = (enum sp_arch)arch;
	if ((code = want_string(root, "model_type", archs[arch].type, err)) ||
	    (code = want_string(root, "hidden_act", "silu", err)))
		return code;
	for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
		if (has(root, foreign[i]) && !json_is_false(json_object_get(root, foreign[i])))
			return sp_err_set(err, SP_E_UNSUPPORTED,
			    "%s is set, which is no part of %s", foreign[i], name);
	}
	return SP_OK;
}

/* Which linear layers have a bias, whether heads are normalized: modeling_NAME.py. */
static enum sp_code
parse_parts(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	enum sp_code code = SP_OK;

	switch (c->arch) {
	case SP_ARCH_LLAMA:
		code = get_flag(root, "attention_bias", &c->qkv_bias, err);
		c->o_bias = c->qkv_bias;
		if (code == SP_OK)
			code = get_flag(root, "mlp_bias", &c->mlp_bias, err);
		break;
	case SP_ARCH_QWEN2:
		c->qkv_bias = 1;
		break;
	case SP_ARCH_QWEN3:
	case SP_ARCH_QWEN3_MOE:
		c->qk_norm = 1;
		code = get_flag(root, "attention_bias", &c->qkv_bias, err);
		c->o_bias = c->qkv_bias;
		break;
	default:
		break;
	}
	return code;
}

/*
 * Work memory grows with these widths, weights with their products: a model of a few bytes whose
 * hidden states are one number wide could ask for gigabytes. No model is near these ratios.
 */
#define ATTENTION_MAX 8	    /* times hidden_size */
#define INTERMEDIATE_MAX 32 /* times hidden_size */

static enum sp_code
check_widths(const struct sp_model_config *c, struct sp_err *err)
{
	if (c->head_dim % 2 != 0 || c->head_dim > 1 << 10)
		return sp_err_set(
		    err, SP_E_INVALID, "head size %u is odd or above 1024", c->head_dim);
	if ((uint64_t)c->heads * c->head_dim > (uint64_t)ATTENTION_MAX * c->hidden)
		return sp_err_set(err, SP_E_INVALID,
		    "num_attention_heads %u of %u values are more than %d times hidden_size %u",
		    c->heads, c->head_dim, ATTENTION_MAX, c->hidden);
	if (c->intermediate > (uint64_t)INTERMEDIATE_MAX * c->hidden)
		return sp_err_set(err, SP_E_INVALID,
		    "intermediate_size %u is more than %d times hidden_size %u", c->intermediate,
		    INTERMEDIATE_MAX, c->hidden);
	return SP_OK;
}

/* Older Llama models have as many as heads and do not say so. */
static enum sp_code
get_kv_heads(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	int missing = json_object_get(root, "num_key_value_heads") == NULL;

	if (!has(root, "num_key_value_heads") && (!missing || c->arch == SP_ARCH_LLAMA)) {
		c->kv_heads = c->heads;
		return SP_OK;
	}
	return get_size(root, "num_key_value_heads", 1 << 10, &c->kv_heads, err);
}

static enum sp_code
get_head_dim(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	if (has(root, "head_dim"))
		return get_size(root, "head_dim", 1 << 10, &c->head_dim, err);
	if (c->arch == SP_ARCH_QWEN3) { /* configuration_qwen3.py has a number, not a rule */
		c->head_dim = 128;
		return SP_OK;
	}
	if (c->hidden % c->heads != 0)
		return sp_err_set(err, SP_E_INVALID,
		    "hidden_size %u is no multiple of num_attention_heads %u and head_dim is "
		    "missing",
		    c->hidden, c->heads);
	c->head_dim = c->hidden / c->heads;
	return SP_OK;
}

static enum sp_code
parse_sizes(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	double eps;
	enum sp_code code;

	if ((code = get_size(root, "hidden_size", 1 << 16, &c->hidden, err)) ||
	    (code = get_size(root, "intermediate_size", 1 << 20, &c->intermediate, err)) ||
	    (code = get_size(root, "num_hidden_layers", SP_CONFIG_LAYERS_MAX, &c->layers, err)) ||
	    (code = get_size(root, "num_attention_heads", 1 << 10, &c->heads, err)) ||
	    (code = get_kv_heads(root, c, err)) ||
	    (code = get_size(root, "vocab_size", 1 << 22, &c->vocab, err)) ||
	    (code = get_size(root, "max_position_embeddings", 1 << 24, &c->max_positions, err)) ||
	    (code = get_real(root, "rms_norm_eps", 1e-12, 1e-2,
		 c->arch == SP_ARCH_MIXTRAL ? 1e-5 : 1e-6, &eps, err)))
		return code;
	c->rms_norm_eps = (float)eps;
	if (c->heads % c->kv_heads != 0)
		return sp_err_set(err, SP_E_INVALID,
		    "num_attention_heads %u is no multiple of num_key_value_heads %u", c->heads,
		    c->kv_heads);
	if ((code = get_head_dim(root, c, err)))
		return code;
	return check_widths(c, err);
}

/* --- RoPE ------------------------------------------------------------------------------------- */

/* What the object of rope_parameters or rope_scaling may hold: anything else could mean another
 * rotation. */
static const char *const rope_fields[] = {"attention_factor", "beta_fast", "beta_slow", "factor",
    "high_freq_factor", "low_freq_factor", "mscale", "mscale_all_dim",
    "original_max_position_embeddings", "partial_rotary_factor", "rope_theta", "rope_type",
    "truncate", "type"};

static enum sp_code
check_rope_fields(const json_t *part, struct sp_err *err)
{
	size_t count = sizeof(rope_fields) / sizeof(rope_fields[0]), i;
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)part, key, value)
	{
		for (i = 0; i < count && strcmp(key, rope_fields[i]) != 0; i++)
			;
		if (i == count && !json_is_null(value))
			return sp_err_set(err, SP_E_UNSUPPORTED, "%.64s is not supported", key);
	}
	return SP_OK;
}

static enum sp_code
parse_rope_kind(const json_t *part, struct sp_config_rope *rope, struct sp_err *err)
{
	static const char *const kinds[] = {[SP_ROPE_DEFAULT] = "default",
	    [SP_ROPE_LINEAR] = "linear",
	    [SP_ROPE_LLAMA3] = "llama3",
	    [SP_ROPE_YARN] = "yarn"};
	const char *key = has(part, "rope_type") ? "rope_type" : "type", *name;
	const json_t *value = json_object_get(part, key);

	rope->kind = SP_ROPE_DEFAULT;
	if (value == NULL)
		return SP_OK;
	name = json_is_string(value) ? json_string_value(value) : "not a string";
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(name, kinds[i]) == 0) {
			rope->kind = (enum sp_rope_kind)i;
			return SP_OK;
		}
	}
	return sp_err_set(err, SP_E_UNSUPPORTED,
	    "%s is %.64s, not one of default, linear, llama3, yarn", key, name);
}

/* 0.1 m ln(s) + 1 (YaRN, arXiv 2309.00071, eq. 22; the m is transformers') */
static double
yarn_scale(double factor, double m)
{
	return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1;
}

static enum sp_code
parse_yarn(const json_t *part, const struct sp_model_config *c, struct sp_config_rope *rope,
    struct sp_err *err)
{
	const json_t *truncate = json_object_get(part, "truncate");
	double m, m_all;
	enum sp_code code;

	if (!has(part, "factor"))
		rope->factor = c->max_positions / rope->original;
	if (rope->factor < 1)
		return sp_err_set(err, SP_E_INVALID,
		    "original_max_position_embeddings %g is more than max_position_embeddings %u",
		    rope->original, c->max_positions);
	rope->truncate = truncate == NULL || json_is_true(truncate);
	if (truncate != NULL && !json_is_boolean(truncate))
		return sp_err_set(err, SP_E_INVALID, "truncate is neither true nor false");
	if ((code = get_real(part, "beta_fast", 1e-3, 1e6, 32, &rope->beta_fast, err)) ||
	    (code = get_real(part, "beta_slow", 1e-3, 1e6, 1, &rope->beta_slow, err)) ||
	    (code = get_real(part, "mscale", 0, 1e3, 0, &m, err)) ||
	    (code = get_real(part, "mscale_all_dim", 0, 1e3, 0, &m_all, err)))
		return code;
	rope->attention_factor = yarn_scale(rope->factor, 1);
	if (m != 0 && m_all != 0)
		rope->attention_factor =
		    yarn_scale(rope->factor, m) / yarn_scale(rope->factor, m_all);
	return get_real(part, "attention_factor", 1e-3, 1e3, rope->attention_factor,
	    &rope->attention_factor, err);
}

/* The object of one of the two spellings; holder has rope_theta where part has not. */
static enum sp_code
parse_rope_part(const json_t *part, const json_t *root, const struct sp_model_config *c,
    struct sp_config_rope *rope, struct sp_err *err)
{
	const json_t *holder = has(part, "rope_theta") ? part : root;
	const char *original = "original_max_position_embeddings";
	double partial;
	enum sp_code code;

	*rope = (struct sp_config_rope){.attention_factor = 1};
	if (!json_is_object(part))
		return sp_err_set(err, SP_E_INVALID, "not an object");
	if ((code = check_rope_fields(part, err)) || (code = parse_rope_kind(part, rope, err)) ||
	    (code = get_real(holder, "rope_theta", 1, 1e12, c->arch == SP_ARCH_MIXTRAL ? 1e6 : 1e4,
		 &rope->theta, err)) ||
	    (code = get_real(part, "partial_rotary_factor", 0, 1, 1, &partial, err)))
		return code;
	if (partial != 1)
		return sp_err_set(
		    err, SP_E_UNSUPPORTED, "partial_rotary_factor is %g, not 1", partial);
	if (rope->kind == SP_ROPE_DEFAULT)
		return SP_OK;
	if (!has(part, "factor") && rope->kind != SP_ROPE_YARN)
		return sp_err_set(err, SP_E_INVALID, "factor is missing");
	if ((code = get_real(part, "factor", 1, 1e6, 1, &rope->factor, err)) ||
	    rope->kind == SP_ROPE_LINEAR)
		return code;
	/* where a model has it beside the object too, transformers takes that one */
	code = get_real(has(root, original) ? root : part, original, 1, 1 << 24, c->max_positions,
	    &rope->original, err);
	if (code || rope->kind == SP_ROPE_YARN)
		return code ? code : parse_yarn(part, c, rope, err);
	if (!has(part, "low_freq_factor") || !has(part, "high_freq_factor"))
		return sp_err_set(
		    err, SP_E_INVALID, "low_freq_factor or high_freq_factor is missing");
	if ((code = get_real(part, "low_freq_factor", 1e-3, 1e6, 0, &rope->low_freq, err)) ||
	    (code = get_real(part, "high_freq_factor", 1e-3, 1e6, 0, &rope->high_freq, err)))
		return code;
	if (rope->high_freq <= rope->low_freq)
		return sp_err_set(
		    err, SP_E_INVALID, "high_freq_factor is not larger than low_freq_factor");
	return SP_OK;
}

static int
is_same_rope(const struct sp_config_rope *a, const struct sp_config_rope *b)
{
	return a->kind == b->kind && a->theta == b->theta && a->factor == b->factor &&
	       a->original == b->original && a->low_freq == b->low_freq &&
	       a->high_freq == b->high_freq && a->beta_fast == b->beta_fast &&
	       a->beta_slow == b->beta_slow && a->truncate == b->truncate &&
	       a->attention_factor == b->attention_factor;
}

static enum sp_code
parse_rope(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	static const char *const keys[] = {"rope_parameters", "rope_scaling"};
	struct sp_config_rope found[2];
	json_t *none = json_object();
	double partial;
	size_t n = 0;
	enum sp_code code;

	for (size_t i = 0; i < 2; i++) {
		if (!has(root, keys[i]))
			continue;
		code = parse_rope_part(json_object_get(root, keys[i]), root, c, &found[n++], err);
		if (code) {
			sp_err_prefix(err, "%s", keys[i]);
			goto out;
		}
	}
	if (n == 0 && (code = parse_rope_part(none, root, c, &found[n++], err)))
		goto out;
	if ((code = get_real(root, "partial_rotary_factor", 0, 1, 1, &partial, err)))
		goto out;
	if (partial != 1)
		code = sp_err_set(
		    err, SP_E_UNSUPPORTED, "partial_rotary_factor is %g, not 1", partial);
	else if (n == 2 && !is_same_rope(&found[0], &found[1]))
		code = sp_err_set(
		    err, SP_E_INVALID, "rope_parameters and rope_scaling say different things");
	else
		c->rope = found[0];
out:
	json_decref(none);
	return code;
}

/* --- layers that differ -------------------------------------------------------------------------
 */

static int
has_bit(const uint64_t *bits, size_t layer)
{
	return bits[layer / 64] >> layer % 64 & 1;
}

static void
set_bit(uint64_t *bits, size_t layer, int value)
{
	uint64_t bit = (uint64_t)1 << layer % 64;

	bits[layer / 64] &= ~bit;
	bits[layer / 64] |= value ? bit : 0;
}

/* layer_types decides in Qwen's models; in others it must say what they do anyway. */
static enum sp_code
parse_layer_types(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	const json_t *types = json_object_get(root, "layer_types"), *item;
	int decides = c->arch == SP_ARCH_QWEN2 || c->arch == SP_ARCH_QWEN3;
	size_t i;

	if (!has(root, "layer_types"))
		return SP_OK;
	if (!json_is_array(types) || json_array_size(types) != c->layers)
		return sp_err_set(
		    err, SP_E_INVALID, "layer_types is not a list of %u names", c->layers);
	json_array_foreach(types, i, item)
	{
		const char *type = json_is_string(item) ? json_string_value(item) : "not a string";
		int windowed = strcmp(type, "sliding_attention") == 0;

		if (!windowed && strcmp(type, "full_attention") != 0)
			return sp_err_set(err, SP_E_UNSUPPORTED,
			    "layer_types[%zu] is %.64s, not full_attention or sliding_attention", i,
			    type);
		if (windowed != has_bit(c->windowed, i) && (!decides || c->window == 0))
			return sp_err_set(err, SP_E_UNSUPPORTED,
			    "layer_types[%zu] is %s, which %s does not do with its sliding_window",
			    i, type, archs[c->arch].name);
		set_bit(c->windowed, i, windowed);
	}
	return SP_OK;
}

/* sliding_window of the model, 0 for none; its absence means what the class's default is. */
static enum sp_code
get_window(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	const json_t *value = json_object_get(root, "sliding_window");
	int uses = c->arch == SP_ARCH_MISTRAL || c->arch == SP_ARCH_MIXTRAL;
	enum sp_code code;

	if (c->arch == SP_ARCH_LLAMA && has(root, "sliding_window"))
		return sp_err_set(
		    err, SP_E_UNSUPPORTED, "sliding_window is no part of %s", archs[c->arch].name);
	if (c->arch == SP_ARCH_QWEN2 || c->arch == SP_ARCH_QWEN3 || c->arch == SP_ARCH_QWEN3_MOE) {
		if ((code = get_flag(root, "use_sliding_window", &uses, err)))
			return code;
	}
	if (!uses || json_is_null(value) || (value == NULL && c->arch == SP_ARCH_MIXTRAL))
		return SP_OK;
	if (value != NULL)
		return get_size(root, "sliding_window", 1 << 24, &c->window, err);
	c->window = 4096;
	return SP_OK;
}

static enum sp_code
parse_attention(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	int64_t first = 0;
	enum sp_code code;

	if ((code = get_window(root, c, err)))
		return code;
	if (c->window != 0 && (c->arch == SP_ARCH_QWEN2 || c->arch == SP_ARCH_QWEN3)) {
		first = 28;
		if (has(root, "max_window_layers") &&
		    (code = sp_json_integer(root, "max_window_layers", 0, 1 << 20, &first, err)))
			return code;
	}
	for (size_t i = 0; c->window != 0 && i < c->layers; i++)
		set_bit(c->windowed, i, i >= (size_t)first);
	if ((code = parse_layer_types(root, c, err)))
		return code;
	if (c->window >= c->max_positions) { /* then nothing is out of sight */
		c->window = 0;
		memset(c->windowed, 0, sizeof(c->windowed));
	}
	return SP_OK;
}

static enum sp_code
parse_dense_layers(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	const json_t *list = json_object_get(root, "mlp_only_layers"), *item;
	size_t i;

	if (!has(root, "mlp_only_layers"))
		return SP_OK;
	if (!json_is_array(list))
		return sp_err_set(err, SP_E_INVALID, "mlp_only_layers is not a list");
	json_array_foreach(list, i, item)
	{
		json_int_t layer = json_is_integer(item) ? json_integer_value(item) : -1;

		if (layer < 0 || layer >= c->layers)
			return sp_err_set(err, SP_E_INVALID,
			    "mlp_only_layers[%zu] is no layer of %u", i, c->layers);
		set_bit(c->sparse, (size_t)layer, 0);
	}
	return SP_OK;
}

/* num_experts | num_local_experts: Mixtral and transformers 5 write the second. */
static enum sp_code
parse_experts(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	const char *count = has(root, "num_experts") ? "num_experts" : "num_local_experts";
	uint32_t step = 1;
	enum sp_code code;

	if (c->arch != SP_ARCH_MIXTRAL && c->arch != SP_ARCH_QWEN3_MOE)
		return SP_OK;
	if ((code = get_size(root, count, 1 << 10, &c->experts, err)) ||
	    (code = get_size(root, "num_experts_per_tok", c->experts, &c->experts_per_token, err)))
		return code;
	c->moe_intermediate = c->intermediate;
	c->moe_normalized = 1;
	if (c->arch == SP_ARCH_QWEN3_MOE) {
		if ((code = get_size(root, "moe_intermediate_size",
			 (int64_t)INTERMEDIATE_MAX * c->hidden, &c->moe_intermediate, err)) ||
		    (code = get_flag(root, "norm_topk_prob", &c->moe_normalized, err)) ||
		    (has(root, "decoder_sparse_step") &&
			(code = get_size(root, "decoder_sparse_step", 1 << 20, &step, err))))
			return code;
	}
	for (size_t i = 0; i < c->layers; i++)
		set_bit(c->sparse, i, (i + 1) % step == 0);
	return parse_dense_layers(c->arch == SP_ARCH_MIXTRAL ? NULL : root, c, err);
}

/* --- the rest ----------------------------------------------------------------------------------
 */

static enum sp_code
parse_eos(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	const json_t *value = json_object_get(root, "eos_token_id");
	size_t n = json_is_array(value) ? json_array_size(value) : json_is_integer(value);

	if (value != NULL && !json_is_null(value) && !json_is_array(value) &&
	    !json_is_integer(value))
		return sp_err_set(err, SP_E_INVALID, "eos_token_id is neither an id nor a list");
	if (n > SP_CONFIG_EOS_MAX)
		return sp_err_set(
		    err, SP_E_LIMIT, "eos_token_id has more than %d ids", SP_CONFIG_EOS_MAX);
	for (size_t i = 0; i < n; i++) {
		const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
		int64_t id = json_is_integer(item) ? json_integer_value(item) : -1;

		if (id < 0 || id >= c->vocab)
			return sp_err_set(err, SP_E_INVALID,
			    "eos_token_id[%zu] is no id of a vocabulary of %u", i, c->vocab);
		c->eos[c->eos_count++] = (uint32_t)id;
	}
	return SP_OK;
}

static enum sp_code
parse_dtype(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	static const struct {
		const char *name;
		enum sp_dtype dtype;
	} known[] = {{"float32", SP_F32}, {"float16", SP_F16}, {"bfloat16", SP_BF16}};
	const json_t *value = json_object_get(root, "dtype");
	const char *name;

	if (!json_is_string(value))
		value = json_object_get(root, "torch_dtype");
	name = json_is_string(value) ? json_string_value(value) : "float32";
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(name, known[i].name) == 0) {
			c->dtype = known[i].dtype;
			return SP_OK;
		}
	}
	return sp_err_set(err, SP_E_UNSUPPORTED, "dtype is %.64s", name);
}

static enum sp_code
parse_skip(const json_t *quant, struct sp_config_awq *awq, struct sp_err *err)
{
	const json_t *list = json_object_get(quant, "modules_to_not_convert"), *item;
	size_t i;

	if (list == NULL || json_is_null(list))
		return SP_OK;
	if (!json_is_array(list) || json_array_size(list) > SP_CONFIG_SKIP_MAX)
		return sp_err_set(err, SP_E_INVALID,
		    "modules_to_not_convert is not a list of at most %d names", SP_CONFIG_SKIP_MAX);
	json_array_foreach(list, i, item)
	{
		const char *name = json_string_value(item);

		if (name == NULL || name[0] == '\0' || strlen(name) >= sizeof(awq->skip[0]))
			return sp_err_set(err, SP_E_INVALID,
			    "modules_to_not_convert[%zu] is not a name of 1 to %zu bytes", i,
			    sizeof(awq->skip[0]) - 1);
		strcpy(awq->skip[awq->skip_count++], name);
	}
	return SP_OK;
}

/* As AutoAWQ (awq/models/_config.py) writes it and vLLM reads it: bits | w_bit, group_size |
 * q_group_size. */
static enum sp_code
parse_quant(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	const json_t *quant = json_object_get(root, "quantization_config");
	int zero_point, lm_head;
	const char *method, *key;
	enum sp_code code;

	if (quant == NULL || json_is_null(quant))
		return SP_OK;
	if ((code = sp_json_string(quant, "quant_method", &method, err)) ||
	    (code = want_string(quant, "quant_method", "awq", err)) ||
	    (code = want_string(quant, "version", "gemm", err)) ||
	    (code = get_flag(quant, "zero_point", &zero_point, err)) ||
	    (code = get_flag(quant, "lm_head", &lm_head, err)))
		return code;
	if (!zero_point || lm_head)
		return sp_err_set(err, SP_E_UNSUPPORTED, "%s",
		    lm_head ? "lm_head is true: a quantized head" : "zero_point is not true");
	key = json_object_get(quant, "bits") != NULL ? "bits" : "w_bit";
	if ((code = get_size(quant, key, 64, &c->awq.bits, err)))
		return code;
	if (c->awq.bits != 4)
		return sp_err_set(
		    err, SP_E_UNSUPPORTED, "%s is %u, only 4 is supported", key, c->awq.bits);
	key = json_object_get(quant, "group_size") != NULL ? "group_size" : "q_group_size";
	if ((code = get_size(quant, key, 1 << 16, &c->awq.group_size, err)))
		return code;
	return parse_skip(quant, &c->awq, err);
}

enum sp_code
sp_config_parse(const uint8_t *data, size_t len, struct sp_model_config *out, struct sp_err *err)
{
	struct sp_model_config c = {0};
	json_t *root = NULL;
	enum sp_code code;

	if ((code = sp_json_parse(data, len, "config.json", &root, err)))
		return code;
	if (!json_is_object(root)) {
		code = sp_err_set(err, SP_E_INVALID, "config.json: not an object");
		goto out;
	}
	if ((code = parse_arch(root, &c, err)) || (code = parse_parts(root, &c, err)) ||
	    (code = parse_sizes(root, &c, err)) || (code = parse_rope(root, &c, err)) ||
	    (code = parse_attention(root, &c, err)) || (code = parse_experts(root, &c, err)) ||
	    (code = parse_eos(root, &c, err)) || (code = parse_dtype(root, &c, err)) ||
	    (code = get_flag(root, "tie_word_embeddings", &c.tied, err))) {
		sp_err_prefix(err, "config.json");
		goto out;
	}
	if ((code = parse_quant(root, &c, err))) {
		sp_err_prefix(err, "config.json: quantization_config");
		goto out;
	}
	*out = c;
out:
	json_decref(root);
	return code;
}

const char *
sp_config_arch_name(enum sp_arch arch)
{
	return archs[arch].name;
}

uint32_t
sp_config_window(const struct sp_model_config *config, size_t layer)
{
	return has_bit(config->windowed, layer) ? config->window : 0;
}

int
sp_config_sparse(const struct sp_model_config *config, size_t layer)
{
	return has_bit(config->sparse, layer);
}

int
sp_config_is_eos(const struct sp_model_config *config, uint32_t id)
{
	for (size_t i = 0; i < config->eos_count; i++) {
		if (config->eos[i] == id)
			return 1;
	}
	return 0;
}

int
sp_config_is_awq(const struct sp_model_config *config, const char *linear)
{
	for (size_t i = 0; i < config->awq.skip_count; i++) {
		if (strstr(linear, config->awq.skip[i]) != NULL)
			return 0;
	}
	return config->awq.bits != 0;
}
