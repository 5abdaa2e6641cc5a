/* config.c -- config.json of a checkpoint. */
#include "model/config.h"

#include "base/json.h"

#include <math.h>
#include <string.h>

/*
 * What transformers writes for Qwen2ForCausalLM (4.x and 5.x; configuration_qwen2.py names the
 * defaults). Fields that do not change the forward pass (initializer_range, use_cache, …) are
 * ignored; of those that do, each value we do not compute is refused.
 *
 *	dtype | torch_dtype                          5.x writes the first, 4.x the second
 *	rope_parameters {rope_theta, rope_type}      5.x
 *	rope_theta, rope_scaling {rope_type | type}  4.x
 */

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

static enum sp_code
parse_arch(const json_t *root, struct sp_err *err)
{
	json_t *list;
	const char *name;
	enum sp_code code;

	if ((code = sp_json_array(root, "architectures", &list, err)))
		return code;
	name = json_string_value(json_array_get(list, 0));
	if (json_array_size(list) != 1 || name == NULL)
		return sp_err_set(
		    err, SP_E_INVALID, "architectures does not name exactly one class");
	if (strcmp(name, "Qwen2ForCausalLM") != 0)
		return sp_err_set(err, SP_E_UNSUPPORTED,
		    "architecture %.64s: only Qwen2ForCausalLM is supported", name);
	if ((code = want_string(root, "model_type", "qwen2", err)))
		return code;
	return want_string(root, "hidden_act", "silu", err);
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

static enum sp_code
parse_sizes(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	const json_t *head_dim = json_object_get(root, "head_dim");
	double eps;
	enum sp_code code;

	if ((code = get_size(root, "hidden_size", 1 << 16, &c->hidden, err)) ||
	    (code = get_size(root, "intermediate_size", 1 << 20, &c->intermediate, err)) ||
	    (code = get_size(root, "num_hidden_layers", 1 << 10, &c->layers, err)) ||
	    (code = get_size(root, "num_attention_heads", 1 << 10, &c->heads, err)) ||
	    (code = get_size(root, "num_key_value_heads", 1 << 10, &c->kv_heads, err)) ||
	    (code = get_size(root, "vocab_size", 1 << 22, &c->vocab, err)) ||
	    (code = get_size(root, "max_position_embeddings", 1 << 24, &c->max_positions, err)) ||
	    (code = get_real(root, "rms_norm_eps", 1e-12, 1e-2, 1e-6, &eps, err)))
		return code;
	c->rms_norm_eps = (float)eps;
	if (c->heads % c->kv_heads != 0)
		return sp_err_set(err, SP_E_INVALID,
		    "num_attention_heads %u is no multiple of num_key_value_heads %u", c->heads,
		    c->kv_heads);
	if (head_dim != NULL && !json_is_null(head_dim)) {
		if ((code = get_size(root, "head_dim", 1 << 10, &c->head_dim, err)))
			return code;
	} else if (c->hidden % c->heads == 0) {
		c->head_dim = c->hidden / c->heads;
	} else {
		return sp_err_set(err, SP_E_INVALID,
		    "hidden_size %u is no multiple of num_attention_heads %u and head_dim is "
		    "missing",
		    c->hidden, c->heads);
	}
	return check_widths(c, err);
}

static enum sp_code
parse_rope(const json_t *root, struct sp_model_config *c, struct sp_err *err)
{
	const json_t *params = json_object_get(root, "rope_parameters");
	const json_t *scaling = json_object_get(root, "rope_scaling");
	const json_t *holder = json_is_object(params) ? params : root;
	enum sp_code code;

	for (int i = 0; i < 2; i++) {
		const json_t *part = i == 0 ? params : scaling;

		if (part == NULL || json_is_null(part))
			continue;
		if (!json_is_object(part))
			return sp_err_set(err, SP_E_INVALID, "%s is not an object",
			    i == 0 ? "rope_parameters" : "rope_scaling");
		if ((code = want_string(part, "rope_type", "default", err)) ||
		    (code = want_string(part, "type", "default", err)))
			return code;
	}
	return get_real(holder, "rope_theta", 1, 1e12, 10000, &c->rope_theta, err);
}

static enum sp_code
parse_attention(const json_t *root, struct sp_err *err)
{
	const json_t *types = json_object_get(root, "layer_types"), *item;
	size_t i;
	int sliding;
	enum sp_code code;

	if ((code = get_flag(root, "use_sliding_window", &sliding, err)))
		return code;
	if (sliding)
		return sp_err_set(err, SP_E_UNSUPPORTED, "use_sliding_window is true");
	if (types != NULL && !json_is_null(types) && !json_is_array(types))
		return sp_err_set(err, SP_E_INVALID, "layer_types is not a list");
	json_array_foreach(types, i, item)
	{
		const char *type = json_string_value(item);

		if (type == NULL || strcmp(type, "full_attention") != 0)
			return sp_err_set(err, SP_E_UNSUPPORTED,
			    "layer_types[%zu] is %.64s, only full_attention is supported", i,
			    type == NULL ? "not a string" : type);
	}
	return SP_OK;
}

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
	struct sp_model_config c = {.arch = SP_ARCH_QWEN2};
	json_t *root = NULL;
	enum sp_code code;

	if ((code = sp_json_parse(data, len, "config.json", &root, err)))
		return code;
	if (!json_is_object(root)) {
		code = sp_err_set(err, SP_E_INVALID, "config.json: not an object");
		goto out;
	}
	if ((code = parse_arch(root, err)) || (code = parse_sizes(root, &c, err)) ||
	    (code = parse_rope(root, &c, err)) || (code = parse_attention(root, err)) ||
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
