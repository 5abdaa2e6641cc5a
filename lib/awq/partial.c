/* partial.c -- what quantizing one layer gave, as files of a work directory. */
#include "awq/partial.h"

#include "awq/pack.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define REPORT_MAX ((size_t)1 << 20)

/* The tensors of a layer in order. All of it is owned. */
struct tensors {
	struct sp_tensor *list;
	char (*names)[128];
	uint8_t **data;
	size_t count, max;
};

static char *
path_of(const char *work, size_t index, const char *suffix)
{
	return sp_xasprintf("%s/layer-%05zu%s", work, index, suffix);
}

/* Room for the norms, a router, and qweight, qzeros, scales and perhaps a bias for each linear
 * layer. */
static struct tensors
tensors_new(size_t linears)
{
	struct tensors tensors = {.max = SP_LAYER_NORMS + 1 + 4 * linears};

	tensors.list = sp_xcalloc(tensors.max, sizeof(*tensors.list));
	tensors.names = sp_xcalloc(tensors.max, sizeof(*tensors.names));
	tensors.data = sp_xcalloc(tensors.max, sizeof(*tensors.data));
	return tensors;
}

static void
tensors_free(struct tensors *tensors)
{
	for (size_t i = 0; i < tensors->count; i++)
		free(tensors->data[i]);
	free(tensors->list);
	free(tensors->names);
	free(tensors->data);
}

/* Adds a tensor of rows x columns (rows 0: a vector) and returns it with its memory, NULL when
 * there is none. with_data: 0 only describes it. */
static uint8_t *
tensor_add(struct tensors *tensors, size_t index, const char *module, const char *what,
    enum sp_dtype dtype, size_t rows, size_t columns)
{
	size_t i = tensors->count++;
	struct sp_tensor *tensor = &tensors->list[i];

	SP_ASSERT(i < tensors->max);
	snprintf(tensors->names[i], sizeof(tensors->names[i]), "model.layers.%zu.%s.%s", index,
	    module, what);
	*tensor = (struct sp_tensor){.name = tensors->names[i], .dtype = dtype};
	if (rows > 0)
		tensor->shape[tensor->rank++] = rows;
	tensor->shape[tensor->rank++] = columns;
	tensor->size = (rows > 0 ? rows : 1) * columns * sp_dtype_size(dtype);
	tensors->data[i] = malloc(tensor->size);
	tensor->data = tensors->data[i];
	return tensors->data[i];
}

static enum sp_code
no_memory(struct sp_err *err)
{
	return sp_err_set(err, SP_E_NO_MEMORY, "no memory for the tensors of a layer");
}

/* rows 0: a vector */
static enum sp_code
add_halves(struct tensors *tensors, size_t index, const char *module, const char *what,
    const float *values, size_t rows, size_t columns, struct sp_err *err)
{
	uint8_t *data = tensor_add(tensors, index, module, what, SP_F16, rows, columns);

	if (data == NULL)
		return no_memory(err);
	sp_dtype_from_f32(SP_F16, values, data, (rows > 0 ? rows : 1) * columns);
	return SP_OK;
}

/* scales[out][groups] -> [groups][out] */
static void
transpose(const uint16_t *from, size_t out, size_t groups, uint16_t *to)
{
	for (size_t r = 0; r < out; r++) {
		for (size_t g = 0; g < groups; g++)
			to[g * out + r] = from[r * groups + g];
	}
}

static enum sp_code
add_linear(struct tensors *tensors, size_t index, const char *module,
    const struct sp_linear *linear, const struct sp_codes *codes, struct sp_err *err)
{
	size_t groups, words = codes->out / 8;
	enum sp_code rc;
	uint8_t *data;

	if (codes->codes == NULL) { /* left out */
		rc = add_halves(
		    tensors, index, module, "weight", linear->w, linear->out, linear->in, err);
		if (rc != SP_OK)
			return rc;
		goto bias;
	}
	groups = codes->in / codes->group;

	data = tensor_add(tensors, index, module, "qweight", SP_I32, codes->in, words);
	if (data == NULL)
		return no_memory(err);
	sp_pack_gemm(codes->codes, codes->out, codes->in, (uint32_t *)(void *)data);
	data = tensor_add(tensors, index, module, "qzeros", SP_I32, groups, words);
	if (data == NULL)
		return no_memory(err);
	sp_pack_gemm(codes->zeros, codes->out, groups, (uint32_t *)(void *)data);
	data = tensor_add(tensors, index, module, "scales", SP_F16, groups, codes->out);
	if (data == NULL)
		return no_memory(err);
	transpose(codes->scales, codes->out, groups, (uint16_t *)(void *)data);
bias:
	if (linear->bias == NULL)
		return SP_OK;
	return add_halves(tensors, index, module, "bias", linear->bias, 0, linear->out, err);
}

/* JSON has no infinity. */
static json_t *
number(double value)
{
	return isfinite(value) ? json_real(value) : json_null();
}

static json_t *
numbers_of(const double *values, size_t count)
{
	json_t *numbers = json_array();

	for (size_t k = 0; k < count; k++)
		json_array_append_new(numbers, number(values[k]));
	return numbers;
}

/* {"losses", "ratio", "shares"} and what `more` (new) holds. */
static json_t *
result_of(const struct sp_search_result *result, json_t *more)
{
	json_object_set_new(more, "losses", numbers_of(result->losses, result->count));
	json_object_set_new(more, "ratio", json_integer((json_int_t)result->best));
	json_object_set_new(more, "shares", numbers_of(result->shares, result->count));
	return more;
}

static json_t *
report_of(const struct sp_block *block)
{
	json_t *groups = json_array(), *experts = json_array(), *report;

	for (size_t i = 0; i < block->group_count; i++) {
		const struct sp_block_group *group = &block->groups[i];

		json_array_append_new(
		    groups, result_of(&group->result, json_pack("{s:s}", "after", group->prev)));
	}
	for (size_t e = 0; e < block->n_experts; e++) {
		const struct sp_block *expert = &block->experts[e];

		json_array_append_new(
		    experts, result_of(&expert->groups[0].result,
				 json_pack("{s:I}", "tokens", (json_int_t)expert->tokens)));
	}
	report = json_pack("{s:o, s:o, s:o, s:o, s:o}", "attn_before", number(block->attn_before),
	    "attn_error", number(block->attn_error), "groups", groups, "mlp_before",
	    number(block->mlp_before), "mlp_error", number(block->mlp_error));
	if (block->plus) {
		json_object_set_new(report, "stream", number(block->stream));
		json_object_set_new(report, "stream_error", number(block->stream_error));
	}
	if (block->n_experts > 0)
		json_object_set(report, "experts", experts);
	json_decref(experts);
	return report;
}

static enum sp_code
save_report(const char *work, size_t index, const struct sp_block *block, struct sp_err *err)
{
	char *path = path_of(work, index, ".json");
	json_t *report = report_of(block);
	enum sp_code rc;
	char *text;
	size_t len;

	SP_ASSERT(report != NULL);
	text = sp_json_canonical(report, &len);
	rc = sp_file_write(path, 0640, text, len, err);
	free(text);
	json_decref(report);
	free(path);
	return rc;
}

static enum sp_code
save_tensors(const char *work, size_t index, const struct tensors *tensors, struct sp_err *err)
{
	char *path = path_of(work, index, ".safetensors"), *tmp = path_of(work, index, ".tmp");
	enum sp_code rc;
	int fd;

	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	if (fd < 0) {
		rc = sp_err_errno(err, "%s", tmp);
		goto out;
	}
	rc = sp_safetensors_write(fd, tensors->list, tensors->count, err);
	if (rc != SP_OK)
		sp_err_prefix(err, "%s", tmp);
	else if (fsync(fd) != 0)
		rc = sp_err_errno(err, "%s", tmp);
	if (close(fd) != 0 && rc == SP_OK)
		rc = sp_err_errno(err, "%s", tmp);
	if (rc == SP_OK && rename(tmp, path) != 0)
		rc = sp_err_errno(err, "%s", path);
	if (rc == SP_OK)
		rc = sp_file_sync_dir(work, err);
out:
	free(path);
	free(tmp);
	return rc;
}

enum sp_code
sp_partial_save(const char *work, size_t index, const struct sp_model_config *config,
    const struct sp_layer *layer, const struct sp_block *block, struct sp_err *err)
{
	struct tensors tensors = tensors_new(sp_layer_linears(config, index));
	struct sp_layer *parts = (struct sp_layer *)(uintptr_t)layer;
	enum sp_code rc = SP_OK;

	for (enum sp_layer_norm i = 0; i < SP_LAYER_NORMS && rc == SP_OK; i++) {
		size_t size = sp_layer_norm_size(config, i);

		if (size > 0)
			rc = add_halves(&tensors, index, sp_layer_norm_name(i), "weight",
			    *sp_layer_norm(parts, i), 0, size, err);
	}
	for (size_t i = 0; i < sp_layer_linears(config, index) && rc == SP_OK; i++) {
		struct sp_layer_part part = sp_layer_part(config, index, i);

		rc = add_linear(&tensors, index, part.name, sp_layer_linear(parts, i),
		    sp_block_codes(block, i), err);
	}
	if (rc == SP_OK && layer->n_experts > 0)
		rc = add_halves(&tensors, index, sp_layer_router_name(config), "weight",
		    layer->router.w, layer->router.out, layer->router.in, err);
	if (rc == SP_OK)
		rc = save_report(work, index, block, err);
	if (rc == SP_OK)
		rc = save_tensors(work, index, &tensors, err);
	tensors_free(&tensors);
	return rc;
}

/* --- reading -----------------------------------------------------------------------------------
 */

static enum sp_code
expect(const struct sp_partial *result, size_t index, const char *module, const char *what,
    enum sp_dtype dtype, uint64_t rows, uint64_t columns, struct sp_err *err)
{
	const struct sp_tensor *tensor;
	char name[128];

	snprintf(name, sizeof(name), "model.layers.%zu.%s.%s", index, module, what);
	tensor = sp_safetensors_find(result->file, name);
	if (tensor == NULL || tensor->dtype != dtype || tensor->rank != (rows > 0 ? 2 : 1) ||
	    tensor->shape[0] != (rows > 0 ? rows : columns) ||
	    (rows > 0 && tensor->shape[1] != columns))
		return sp_err_set(
		    err, SP_E_INVALID, "tensor %s is missing or of another shape", name);
	return SP_OK;
}

static enum sp_code
expect_linear(const struct sp_partial *result, size_t index, const struct sp_layer_part *part,
    size_t group, int skip, size_t *count, struct sp_err *err)
{
	const char *module = part->name;
	size_t out = part->out, in = part->in;
	enum sp_code rc;

	if (skip) {
		rc = expect(result, index, module, "weight", SP_F16, out, in, err);
		*count += 1;
	} else {
		rc = expect(result, index, module, "qweight", SP_I32, in, out / 8, err);
		if (rc == SP_OK)
			rc = expect(
			    result, index, module, "qzeros", SP_I32, in / group, out / 8, err);
		if (rc == SP_OK)
			rc = expect(result, index, module, "scales", SP_F16, in / group, out, err);
		*count += 3;
	}
	if (rc == SP_OK && part->biased) {
		rc = expect(result, index, module, "bias", SP_F16, 0, out, err);
		*count += 1;
	}
	return rc;
}

static enum sp_code
check_tensors(const struct sp_partial *result, size_t index, const struct sp_model_config *config,
    const struct sp_plan *plan, struct sp_err *err)
{
	struct sp_block_plan block = sp_plan_layer(plan, config, index);
	size_t count = 0;
	enum sp_code rc;

	for (enum sp_layer_norm i = 0; i < SP_LAYER_NORMS; i++) {
		size_t size = sp_layer_norm_size(config, i);

		if (size == 0)
			continue;
		rc = expect(result, index, sp_layer_norm_name(i), "weight", SP_F16, 0, size, err);
		if (rc != SP_OK)
			return rc;
		count++;
	}
	for (size_t i = 0; i < sp_layer_linears(config, index); i++) {
		struct sp_layer_part part = sp_layer_part(config, index, i);

		rc = expect_linear(
		    result, index, &part, plan->grid.group, sp_block_skips(&block, i), &count, err);
		if (rc != SP_OK)
			return rc;
	}
	if (sp_config_sparse(config, index)) {
		rc = expect(result, index, sp_layer_router_name(config), "weight", SP_F16,
		    config->experts, config->hidden, err);
		if (rc != SP_OK)
			return rc;
		count++;
	}
	if (sp_safetensors_count(result->file) != count)
		return sp_err_set(err, SP_E_INVALID, "%zu tensors, not %zu",
		    sp_safetensors_count(result->file), count);
	return SP_OK;
}

enum sp_code
sp_partial_open(const char *work, size_t index, const struct sp_model_config *config,
    const struct sp_plan *plan, struct sp_partial *out, struct sp_err *err)
{
	char *path = path_of(work, index, ".safetensors"), *report = path_of(work, index, ".json");
	uint8_t *text = NULL;
	enum sp_code rc;
	size_t len;

	*out = (struct sp_partial){0};
	if ((rc = sp_map_open(&out->map, path, err)))
		goto out;
	if ((rc = sp_safetensors_parse(out->map.data, out->map.len, path, &out->file, err)))
		goto out;
	if ((rc = check_tensors(out, index, config, plan, err))) {
		sp_err_prefix(err, "%s", path);
		goto out;
	}
	rc = sp_file_read(report, REPORT_MAX, &text, &len, err);
	if (rc == SP_OK)
		rc = sp_json_parse(text, len, report, &out->report, err);
out:
	if (rc != SP_OK)
		sp_partial_close(out);
	free(text);
	free(path);
	free(report);
	return rc;
}

static const struct sp_tensor *
find(const struct sp_partial *result, size_t index, const char *module, const char *what)
{
	const struct sp_tensor *tensor;
	char name[128];

	snprintf(name, sizeof(name), "model.layers.%zu.%s.%s", index, module, what);
	tensor = sp_safetensors_find(result->file, name);
	SP_ASSERT(tensor != NULL); /* check_tensors */
	return tensor;
}

/* A tensor of halves. */
static enum sp_code
load_halves(const struct sp_partial *result, size_t index, const char *module, const char *what,
    float **out, struct sp_err *err)
{
	const struct sp_tensor *tensor = find(result, index, module, what);
	size_t count = tensor->size / 2;

	*out = malloc(count * sizeof(**out));
	if (*out == NULL)
		return no_memory(err);
	sp_dtype_to_f32(SP_F16, tensor->data, *out, count);
	return SP_OK;
}

static enum sp_code
load_codes(const struct sp_partial *result, size_t index, const struct sp_layer_part *part,
    size_t group, float **w, struct sp_err *err)
{
	const struct sp_tensor *qweight = find(result, index, part->name, "qweight");
	const struct sp_tensor *qzeros = find(result, index, part->name, "qzeros");
	const struct sp_tensor *scales = find(result, index, part->name, "scales");
	size_t groups = part->in / group;
	struct sp_codes codes = {0};
	enum sp_code rc;

	*w = malloc(part->out * part->in * sizeof(**w));
	if (*w == NULL)
		return no_memory(err);
	rc = sp_round_alloc(&codes, part->out, part->in, group, err);
	if (rc != SP_OK)
		return rc;
	sp_pack_gemm_decode(
	    (const uint32_t *)(const void *)qweight->data, part->out, part->in, codes.codes);
	sp_pack_gemm_decode(
	    (const uint32_t *)(const void *)qzeros->data, part->out, groups, codes.zeros);
	for (size_t g = 0; g < groups; g++) {
		for (size_t r = 0; r < part->out; r++)
			memcpy(&codes.scales[r * groups + g],
			    scales->data + 2 * (g * part->out + r), 2);
	}
	sp_round_decode(&codes, *w);
	sp_round_free(&codes);
	return SP_OK;
}

enum sp_code
sp_partial_layer(const struct sp_partial *result, size_t index,
    const struct sp_model_config *config, const struct sp_plan *plan, struct sp_layer *layer,
    struct sp_err *err)
{
	struct sp_block_plan block = sp_plan_layer(plan, config, index);
	enum sp_code rc = SP_OK;

	*layer = (struct sp_layer){.index = index, .window = sp_config_window(config, index)};
	if (sp_config_sparse(config, index)) {
		layer->n_experts = config->experts;
		layer->experts = sp_xcalloc(layer->n_experts, sizeof(*layer->experts));
		layer->router = (struct sp_linear){.out = config->experts, .in = config->hidden};
		rc = load_halves(
		    result, index, sp_layer_router_name(config), "weight", &layer->router.w, err);
	}
	for (enum sp_layer_norm i = 0; i < SP_LAYER_NORMS && rc == SP_OK; i++) {
		if (sp_layer_norm_size(config, i) > 0)
			rc = load_halves(result, index, sp_layer_norm_name(i), "weight",
			    sp_layer_norm(layer, i), err);
	}
	for (size_t i = 0; i < sp_layer_linears(config, index) && rc == SP_OK; i++) {
		struct sp_linear *linear = sp_layer_linear(layer, i);
		struct sp_layer_part part = sp_layer_part(config, index, i);

		linear->out = part.out;
		linear->in = part.in;
		rc = sp_block_skips(&block, i)
			 ? load_halves(result, index, part.name, "weight", &linear->w, err)
			 : load_codes(result, index, &part, plan->grid.group, &linear->w, err);
		if (rc == SP_OK && part.biased)
			rc = load_halves(result, index, part.name, "bias", &linear->bias, err);
	}
	if (rc != SP_OK)
		sp_layer_free(layer);
	return rc;
}

void
sp_partial_close(struct sp_partial *result)
{
	sp_safetensors_free(&result->file);
	if (result->map.data != NULL)
		sp_map_close(&result->map);
	json_decref(result->report);
	memset(result, 0, sizeof(*result));
}
