/* emit.c -- the quantized checkpoint as a directory. */
#include "awq/emit.h"

#include "awq/partial.h"

#include <fcntl.h>
#include <fts.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_MAX ((size_t)1 << 20)
#define CHUNK ((size_t)1 << 18) /* values converted, or bytes copied, at a time */

/* --- config.json -------------------------------------------------------------------------------
 */

/* {"quant_method": "awq", …} as AutoAWQ writes it; every field but the last is what makes vLLM take
 * its fast kernels. */
static json_t *
quantization_config(const struct sp_plan *plan)
{
	json_t *skip = plan->skip_count == 0 ? json_null() : json_array();

	for (size_t i = 0; i < plan->skip_count; i++)
		json_array_append_new(skip, json_string(plan->skip[i]));
	return json_pack("{s:s, s:b, s:I, s:i, s:s, s:o}", "quant_method", "awq", "zero_point", 1,
	    "group_size", (json_int_t)plan->grid.group, "bits", 4, "version", "gemm",
	    "modules_to_not_convert", skip);
}

enum sp_code
sp_emit_config(const uint8_t *config, size_t size, const struct sp_plan *plan, char **out,
    size_t *len, struct sp_err *err)
{
	json_t *root = NULL, *known;
	enum sp_code rc;

	*out = NULL;
	rc = sp_json_parse(config, size, "config.json", &root, err);
	if (rc == SP_OK && !json_is_object(root))
		rc = sp_err_set(err, SP_E_INVALID, "config.json is not an object");
	known = json_object_get(root, "quantization_config");
	if (rc == SP_OK && known != NULL && !json_is_null(known))
		rc = sp_err_set(err, SP_E_UNSUPPORTED,
		    "config.json has quantization_config: the model is quantized already");
	if (rc != SP_OK)
		goto out;
	json_object_set_new(root, "torch_dtype", json_string("float16"));
	json_object_set_new(root, "dtype", json_string("float16"));
	json_object_set_new(root, "quantization_config", quantization_config(plan));
	*out = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
	if (*out == NULL) {
		rc = sp_err_set(err, SP_E_NO_MEMORY, "no memory for config.json");
		goto out;
	}
	*len = strlen(*out);
out:
	json_decref(root);
	return rc;
}

static enum sp_code
write_config(const struct sp_emit *emit, struct sp_err *err)
{
	char *from = sp_xasprintf("%s/config.json", emit->source);
	char *to = sp_xasprintf("%s/config.json", emit->out), *text = NULL;
	uint8_t *data = NULL;
	size_t size, len = 0;
	enum sp_code rc;

	if ((rc = sp_file_read(from, CONFIG_MAX, &data, &size, err)) ||
	    (rc = sp_emit_config(data, size, emit->plan, &text, &len, err)))
		goto out;
	rc = sp_file_write(to, 0644, text, len, err);
out:
	free(data);
	free(text);
	free(from);
	free(to);
	return rc;
}

/* --- weights -----------------------------------------------------------------------------------
 */

/* A tensor of the new checkpoint: `from`, converted where the dtypes differ. */
struct item {
	struct sp_tensor to;
	const struct sp_tensor *from;
	size_t shard;
};

struct set {
	struct item *items;
	size_t count, cap;
	uint64_t bytes;
	size_t shards;
};

static void
set_add(struct set *set, const struct sp_tensor *from, enum sp_dtype dtype)
{
	struct item *item;

	if (set->count == set->cap) {
		set->cap = set->cap * 2 + 64;
		set->items = sp_xrealloc(set->items, set->cap, sizeof(*set->items));
	}
	item = &set->items[set->count++];
	*item = (struct item){.to = *from, .from = from};
	item->to.dtype = dtype;
	item->to.size = from->size / sp_dtype_size(from->dtype) * sp_dtype_size(dtype);
	item->to.data = NULL;
	set->bytes += item->to.size;
}

static void
set_build(const struct sp_emit *emit, const struct sp_partial *layers, struct set *set)
{
	const struct sp_model_config *config = sp_weights_config(emit->weights);
	const struct sp_tensor *head = sp_weights_find(emit->weights, "lm_head.weight");

	set_add(set, sp_weights_find(emit->weights, "model.embed_tokens.weight"), SP_F16);
	for (size_t i = 0; i < config->layers; i++) {
		for (size_t k = 0; k < sp_safetensors_count(layers[i].file); k++) {
			const struct sp_tensor *tensor = sp_safetensors_at(layers[i].file, k);

			set_add(set, tensor, tensor->dtype);
		}
	}
	set_add(set, sp_weights_find(emit->weights, "model.norm.weight"), SP_F16);
	if (head != NULL && !config->tied)
		set_add(set, head, SP_F16);
}

/* In order, a new shard when the next tensor would make one larger than limit. */
static void
set_shard(struct set *set, uint64_t limit)
{
	uint64_t bytes = 0;

	set->shards = 1;
	for (size_t i = 0; i < set->count; i++) {
		if (bytes > 0 && bytes + set->items[i].to.size > limit) {
			set->shards++;
			bytes = 0;
		}
		bytes += set->items[i].to.size;
		set->items[i].shard = set->shards - 1;
	}
}

static enum sp_code
write_converted(int fd, const struct sp_tensor *from, struct sp_err *err)
{
	size_t count = from->size / sp_dtype_size(from->dtype);
	float *values = malloc(CHUNK * sizeof(*values));
	uint8_t *halves = malloc(CHUNK * 2);
	enum sp_code rc = SP_OK;

	if (values == NULL || halves == NULL) {
		rc = sp_err_set(err, SP_E_NO_MEMORY, "no memory to convert %s", from->name);
		goto out;
	}
	for (size_t i = 0; i < count && rc == SP_OK; i += CHUNK) {
		size_t n = count - i < CHUNK ? count - i : CHUNK;

		sp_dtype_to_f32(
		    from->dtype, from->data + i * sp_dtype_size(from->dtype), values, n);
		rc = sp_round_half(values, n, err);
		if (rc != SP_OK) {
			sp_err_prefix(err, "tensor %s", from->name);
			break;
		}
		sp_dtype_from_f32(SP_F16, values, halves, n);
		rc = sp_file_write_all(fd, halves, n * 2, err);
	}
out:
	free(values);
	free(halves);
	return rc;
}

static enum sp_code
write_shard(const struct sp_emit *emit, const struct set *set, size_t shard, const char *name,
    struct sp_err *err)
{
	char *path = sp_xasprintf("%s/%s", emit->out, name);
	struct sp_tensor *tensors = sp_xcalloc(set->count, sizeof(*tensors));
	enum sp_code rc;
	size_t count = 0;
	int fd;

	for (size_t i = 0; i < set->count; i++) {
		if (set->items[i].shard == shard)
			tensors[count++] = set->items[i].to;
	}
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0) {
		rc = sp_err_errno(err, "%s", path);
		goto out;
	}
	rc = sp_safetensors_write_header(fd, tensors, count, err);
	for (size_t i = 0; i < set->count && rc == SP_OK; i++) {
		const struct item *item = &set->items[i];

		if (item->shard != shard)
			continue;
		if (item->to.dtype == item->from->dtype)
			rc = sp_file_write_all(fd, item->from->data, item->from->size, err);
		else
			rc = write_converted(fd, item->from, err);
	}
	if (close(fd) != 0 && rc == SP_OK)
		rc = sp_err_errno(err, "%s", path);
	else if (rc != SP_OK)
		sp_err_prefix(err, "%s", path);
out:
	free(tensors);
	free(path);
	return rc;
}

static char *
shard_name(size_t shard, size_t shards)
{
	if (shards == 1)
		return sp_xstrdup("model.safetensors");
	return sp_xasprintf("model-%05zu-of-%05zu.safetensors", shard + 1, shards);
}

static enum sp_code
write_index(const struct sp_emit *emit, const struct set *set, struct sp_err *err)
{
	char *path = sp_xasprintf("%s/model.safetensors.index.json", emit->out), *text;
	json_t *map = json_object(), *root;
	enum sp_code rc;

	for (size_t i = 0; i < set->count; i++) {
		char *name = shard_name(set->items[i].shard, set->shards);

		json_object_set_new(map, set->items[i].to.name, json_string(name));
		free(name);
	}
	root = json_pack(
	    "{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)set->bytes, "weight_map", map);
	text = json_dumps(root, JSON_INDENT(2));
	rc = text == NULL ? sp_err_set(err, SP_E_NO_MEMORY, "no memory for %s", path)
			  : sp_file_write(path, 0644, text, strlen(text), err);
	free(text);
	json_decref(root);
	free(path);
	return rc;
}

static enum sp_code
write_weights(const struct sp_emit *emit, json_t *report, struct sp_err *err)
{
	const struct sp_model_config *config = sp_weights_config(emit->weights);
	struct sp_partial *layers = sp_xcalloc(config->layers, sizeof(*layers));
	struct set set = {0};
	enum sp_code rc = SP_OK;

	for (size_t i = 0; i < config->layers && rc == SP_OK; i++) {
		rc = sp_partial_open(emit->work, i, config, emit->plan, &layers[i], err);
		if (rc == SP_OK)
			json_array_append(report, layers[i].report);
	}
	if (rc != SP_OK)
		goto out;
	set_build(emit, layers, &set);
	set_shard(&set, emit->shard_bytes);
	for (size_t i = 0; i < set.shards && rc == SP_OK; i++) {
		char *name = shard_name(i, set.shards);

		rc = write_shard(emit, &set, i, name, err);
		free(name);
	}
	if (rc == SP_OK && set.shards > 1)
		rc = write_index(emit, &set, err);
out:
	for (size_t i = 0; i < config->layers; i++)
		sp_partial_close(&layers[i]);
	free(layers);
	free(set.items);
	return rc;
}

/* --- the other files ---------------------------------------------------------------------------
 */

static int
is_replaced(const char *path)
{
	size_t len = strlen(path), suffix = strlen(".safetensors");

	if (strcmp(path, "config.json") == 0 || strcmp(path, "model.safetensors.index.json") == 0)
		return 1;
	return strchr(path, '/') == NULL && len > suffix &&
	       strcmp(path + len - suffix, ".safetensors") == 0;
}

static enum sp_code
copy_bytes(int from, int to, const char *path, struct sp_err *err)
{
	uint8_t *buf = malloc(CHUNK);
	enum sp_code rc = SP_OK;
	ssize_t n = -1;

	if (buf == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "no memory to copy %s", path);
	while (rc == SP_OK && (n = read(from, buf, CHUNK)) > 0)
		rc = sp_file_write_all(to, buf, (size_t)n, err);
	if (rc == SP_OK && n < 0)
		rc = sp_err_errno(err, "%s", path);
	free(buf);
	return rc;
}

static enum sp_code
copy_file(const char *from, const char *to, mode_t mode, struct sp_err *err)
{
	int in, out = -1;
	enum sp_code rc;

	in = open(from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (in < 0)
		return sp_err_errno(err, "%s", from);
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & S_IXUSR ? 0755 : 0644);
	rc = out < 0 ? sp_err_errno(err, "%s", to) : copy_bytes(in, out, from, err);
	if (out >= 0 && close(out) != 0 && rc == SP_OK)
		rc = sp_err_errno(err, "%s", to);
	close(in);
	return rc;
}

static int
by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static enum sp_code
copy_entry(const struct sp_emit *emit, const FTSENT *entry, struct sp_err *err)
{
	const char *path = entry->fts_path + strlen(emit->source);
	enum sp_code rc = SP_OK;
	char *to;

	while (*path == '/')
		path++;
	to = sp_xasprintf("%s/%s", emit->out, path);
	switch (entry->fts_info) {
	case FTS_D:
		rc = sp_file_mkdirs(to, 0755, err);
		break;
	case FTS_DP:
		break;
	case FTS_F:
		if (!is_replaced(path))
			rc = copy_file(entry->fts_path, to, entry->fts_statp->st_mode, err);
		break;
	case FTS_DNR:
	case FTS_ERR:
	case FTS_NS:
		rc =
		    sp_err_set(err, SP_E_IO, "%s: %s", entry->fts_path, strerror(entry->fts_errno));
		break;
	default:
		rc = sp_err_set(err, SP_E_INVALID, "%s is not a regular file", entry->fts_path);
	}
	free(to);
	return rc;
}

static enum sp_code
copy_others(const struct sp_emit *emit, struct sp_err *err)
{
	char *roots[2] = {sp_xstrdup(emit->source), NULL};
	FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
	enum sp_code rc = SP_OK;
	FTSENT *entry;

	if (fts == NULL)
		rc = sp_err_errno(err, "%s", emit->source);
	while (rc == SP_OK && (entry = fts_read(fts)) != NULL)
		rc = copy_entry(emit, entry, err);
	if (fts != NULL)
		fts_close(fts);
	free(roots[0]);
	return rc;
}

enum sp_code
sp_emit_checkpoint(const struct sp_emit *emit, json_t **report, struct sp_err *err)
{
	enum sp_code rc;

	*report = json_array();
	if ((rc = sp_file_remove_all(emit->out, err)) ||
	    (rc = sp_file_mkdirs(emit->out, 0755, err)) ||
	    (rc = write_weights(emit, *report, err)) || (rc = write_config(emit, err)) ||
	    (rc = copy_others(emit, err))) {
		json_decref(*report);
		*report = NULL;
	}
	return rc;
}
