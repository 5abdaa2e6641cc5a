/* plan.c -- which linear layers become 4-bit codes. */
#include "awq/plan.h"

#include <stdio.h>
#include <string.h>

int
sp_plan_fallback_parse(const char *word, enum sp_plan_fallback *out)
{
	static const char *const words[] = {
	    [SP_PLAN_REFUSE] = "refuse", [SP_PLAN_SMALLER] = "smaller", [SP_PLAN_LEAVE] = "leave"};

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++) {
		if (strcmp(word, words[i]) == 0) {
			*out = (enum sp_plan_fallback)i;
			return 1;
		}
	}
	return 0;
}

static int
is_skipped(const struct sp_plan *plan, size_t layer, const char *module)
{
	char name[128];

	snprintf(name, sizeof(name), "model.layers.%zu.%s", layer, module);
	for (size_t i = 0; i < plan->skip_count; i++) {
		if (strstr(name, plan->skip[i]) != NULL)
			return 1;
	}
	return 0;
}

/*
 * vLLM runs some linear layers as one: q, k and v, gate and up, and everything of a layer's experts
 * (FusedMoE, which goes by the experts' common name in modules_to_not_convert:
 * vllm/model_executor/layers/quantization/awq_marlin.py). The name that decides for all of them.
 */
static const char *
leader(const struct sp_model_config *config, size_t layer, size_t which)
{
	if (which <= SP_LAYER_V)
		return sp_layer_linear_name(SP_LAYER_Q);
	if (which >= SP_LAYER_GATE && sp_config_sparse(config, layer))
		return config->arch == SP_ARCH_MIXTRAL ? "block_sparse_moe.experts" : "mlp.experts";
	return sp_layer_linear_name(
	    which == SP_LAYER_UP ? SP_LAYER_GATE : (enum sp_layer_linear)which);
}

struct sp_block_plan
sp_plan_layer(const struct sp_plan *plan, const struct sp_model_config *config, size_t index)
{
	struct sp_block_plan block = {.grid = plan->grid};

	for (size_t i = 0; i < SP_LAYER_LINEARS; i++)
		block.skip[i] = (uint8_t)is_skipped(plan, index, leader(config, index, i));
	return block;
}

static enum sp_code
add_skip(struct sp_plan *plan, const char *name, struct sp_err *err)
{
	size_t len = strlen(name);

	if (len == 0 || len >= sizeof(plan->skip[0]))
		return sp_err_set(err, SP_E_INVALID,
		    "modules_to_not_convert: '%.80s' is not a name of 1 to %zu bytes", name,
		    sizeof(plan->skip[0]) - 1);
	if (plan->skip_count == SP_CONFIG_SKIP_MAX)
		return sp_err_set(err, SP_E_LIMIT, "modules_to_not_convert: more than %d names",
		    SP_CONFIG_SKIP_MAX);
	memcpy(plan->skip[plan->skip_count++], name, len + 1);
	return SP_OK;
}

static int
fits(const struct sp_model_config *config, size_t layer, size_t which, size_t group)
{
	struct sp_layer_part part = sp_layer_part(config, layer, which);

	return part.in % group == 0 && part.out % 8 == 0;
}

static int
is_named(const struct sp_plan *plan, const char *name)
{
	for (size_t i = 0; i < plan->skip_count; i++) {
		if (strcmp(plan->skip[i], name) == 0)
			return 1;
	}
	return 0;
}

/* Leaves out what does not fit of a layer (all experts of it are alike), with those that it is one
 * with. */
static enum sp_code
leave_of(
    struct sp_plan *plan, const struct sp_model_config *config, size_t layer, struct sp_err *err)
{
	for (size_t i = 0; i < SP_LAYER_LINEARS; i++) {
		const char *name = leader(config, layer, i);
		int out = 0;

		for (size_t k = 0; k < SP_LAYER_LINEARS; k++)
			out |= strcmp(leader(config, layer, k), name) == 0 &&
			       !fits(config, layer, k, plan->grid.group);
		if (i < SP_LAYER_GATE || !sp_config_sparse(config, layer))
			name = sp_layer_linear_name((enum sp_layer_linear)i);
		if (out && !is_named(plan, name)) {
			enum sp_code rc = add_skip(plan, name, err);

			if (rc != SP_OK)
				return rc;
			plan->fell++;
		}
	}
	return SP_OK;
}

/* The first layer with experts, or without; config->layers: there is none. */
static size_t
first_layer(const struct sp_model_config *config, int sparse)
{
	size_t i = 0;

	while (i < config->layers && sp_config_sparse(config, i) != sparse)
		i++;
	return i;
}

static enum sp_code
leave(struct sp_plan *plan, const struct sp_model_config *config, struct sp_err *err)
{
	enum sp_code rc = SP_OK;

	for (int sparse = 0; sparse < 2 && rc == SP_OK; sparse++) {
		size_t layer = first_layer(config, sparse);

		if (layer < config->layers)
			rc = leave_of(plan, config, layer, err);
	}
	return rc;
}

/* Routers stay fp16. Qwen's "mlp.gate" is also a part of "mlp.gate_proj", so where some layers are
 * dense, each router is named with its layer. */
static enum sp_code
add_routers(struct sp_plan *plan, const struct sp_model_config *config, struct sp_err *err)
{
	const char *router = sp_layer_router_name(config);
	int mixed = first_layer(config, 0) < config->layers;
	enum sp_code rc = SP_OK;

	for (size_t i = 0; i < config->layers && rc == SP_OK; i++) {
		char name[sizeof(plan->skip[0])];

		if (!sp_config_sparse(config, i) || is_skipped(plan, i, router))
			continue;
		snprintf(name, sizeof(name), "layers.%zu.%s", i, router);
		rc = add_skip(plan, mixed ? name : router, err);
	}
	return rc;
}

static enum sp_code
check_linear(const struct sp_plan *plan, const struct sp_model_config *config, size_t layer,
    size_t which, int skip, struct sp_err *err)
{
	struct sp_layer_part part = sp_layer_part(config, layer, which);

	if (is_skipped(plan, layer, part.name) != skip)
		return sp_err_set(err, SP_E_INVALID,
		    "modules_to_not_convert leaves out one of layer %zu's %s and %s, but vLLM runs "
		    "them as one: name both or neither",
		    layer, leader(config, layer, which), part.name);
	if (!skip && !fits(config, layer, which, plan->grid.group))
		return sp_err_set(err, SP_E_UNSUPPORTED,
		    "%s takes %zu values and gives %zu: AWQ needs multiples of the group size %zu "
		    "and of 8. Choose a smaller group, or leave it out (modules_to_not_convert)",
		    part.name, part.in, part.out, plan->grid.group);
	return SP_OK;
}

/* Every layer's plan is one that can be carried out, and some linear layer is left. */
static enum sp_code
check(const struct sp_plan *plan, const struct sp_model_config *config, struct sp_err *err)
{
	size_t left = 0;

	for (size_t k = 0; k < config->layers; k++) {
		struct sp_block_plan block = sp_plan_layer(plan, config, k);

		for (size_t i = 0; i < sp_layer_linears(config, k); i++) {
			int skip = sp_block_skips(&block, i);
			enum sp_code rc = check_linear(plan, config, k, i, skip, err);

			if (rc != SP_OK)
				return rc;
			left += !skip;
		}
	}
	return left > 0 ? SP_OK
			: sp_err_set(err, SP_E_INVALID,
			      "modules_to_not_convert leaves nothing to quantize");
}

enum sp_code
sp_plan_make(const struct sp_model_config *config, struct sp_grid grid, const char *const *skip,
    size_t skip_count, enum sp_plan_fallback fallback, struct sp_plan *out, struct sp_err *err)
{
	enum sp_code rc = SP_OK;

	*out = (struct sp_plan){.grid = grid, .asked = grid.group};
	if (grid.group != 32 && grid.group != 64 && grid.group != 128)
		return sp_err_set(
		    err, SP_E_UNSUPPORTED, "group_size %zu: choose 32, 64 or 128", grid.group);
	for (size_t i = 0; i < skip_count && rc == SP_OK; i++)
		rc = add_skip(out, skip[i], err);
	if (rc == SP_OK)
		rc = add_routers(out, config, err);
	if (rc == SP_OK && fallback == SP_PLAN_LEAVE)
		rc = leave(out, config, err);
	if (rc != SP_OK)
		return rc;
	rc = check(out, config, err);
	while (rc == SP_E_UNSUPPORTED && fallback == SP_PLAN_SMALLER && out->grid.group > 32) {
		out->grid.group /= 2;
		rc = check(out, config, err);
	}
	return rc;
}

json_t *
sp_plan_report(const struct sp_plan *plan)
{
	json_t *skip = json_array(), *fell = json_array();

	for (size_t i = 0; i < plan->skip_count; i++) {
		json_array_append_new(skip, json_string(plan->skip[i]));
		if (i >= plan->skip_count - plan->fell)
			json_array_append_new(fell, json_string(plan->skip[i]));
	}
	return json_pack("{s:I, s:o, s:I, s:o, s:b}", "asked_group_size", (json_int_t)plan->asked,
	    "fallback", fell, "group_size", (json_int_t)plan->grid.group, "modules_to_not_convert",
	    skip, "symmetric", plan->grid.symmetric);
}
