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
fits(const struct sp_model_config *config, enum sp_layer_linear which, size_t group)
{
	struct sp_layer_part part = sp_layer_part(config, 0, which);

	return part.in % group == 0 && part.out % 8 == 0;
}

static int
is_skipped(const struct sp_plan *plan, size_t layer, enum sp_layer_linear which)
{
	char name[128];

	snprintf(name, sizeof(name), "model.layers.%zu.%s", layer, sp_layer_linear_name(which));
	for (size_t i = 0; i < plan->skip_count; i++) {
		if (strstr(name, plan->skip[i]) != NULL)
			return 1;
	}
	return 0;
}

struct sp_block_plan
sp_plan_layer(const struct sp_plan *plan, size_t index)
{
	struct sp_block_plan block = {.grid = plan->grid};

	for (enum sp_layer_linear i = 0; i < SP_LAYER_LINEARS; i++)
		block.skip[i] = (uint8_t)is_skipped(plan, index, i);
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

/* The first of a run of linear layers that vLLM makes one matrix of. */
static enum sp_layer_linear
fused_first(enum sp_layer_linear which)
{
	if (which <= SP_LAYER_V)
		return SP_LAYER_Q;
	return which == SP_LAYER_UP ? SP_LAYER_GATE : which;
}

/* Leaves out what does not fit, with those it is fused with. */
static enum sp_code
leave(struct sp_plan *plan, const struct sp_model_config *config, struct sp_err *err)
{
	int out[SP_LAYER_LINEARS] = {0};

	for (enum sp_layer_linear i = 0; i < SP_LAYER_LINEARS; i++)
		out[fused_first(i)] |= !fits(config, i, plan->grid.group);
	for (enum sp_layer_linear i = 0; i < SP_LAYER_LINEARS; i++) {
		enum sp_code rc;

		if (!out[fused_first(i)])
			continue;
		if ((rc = add_skip(plan, sp_layer_linear_name(i), err)))
			return rc;
		plan->fell++;
	}
	return SP_OK;
}

/* Every layer's plan is one that can be carried out, and some linear layer is left. */
static enum sp_code
check(const struct sp_plan *plan, const struct sp_model_config *config, struct sp_err *err)
{
	size_t left = 0;

	for (size_t k = 0; k < config->layers; k++) {
		struct sp_block_plan block = sp_plan_layer(plan, k);

		for (enum sp_layer_linear i = 0; i < SP_LAYER_LINEARS; i++) {
			struct sp_layer_part part = sp_layer_part(config, 0, i);
			enum sp_layer_linear first = fused_first(i);

			if (block.skip[i] != block.skip[first])
				return sp_err_set(err, SP_E_INVALID,
				    "modules_to_not_convert leaves out one of layer %zu's %s and "
				    "%s, but vLLM runs them as one matrix: name both or neither",
				    k, sp_layer_linear_name(first), part.name);
			if (block.skip[i])
				continue;
			if (!fits(config, i, plan->grid.group))
				return sp_err_set(err, SP_E_UNSUPPORTED,
				    "%s takes %zu values and gives %zu: AWQ needs multiples of the "
				    "group size %zu and of 8. Choose a smaller group, or leave it "
				    "out (modules_to_not_convert)",
				    part.name, part.in, part.out, plan->grid.group);
			left++;
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
