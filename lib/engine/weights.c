/* weights.c -- the tensors of a checkpoint directory. */
#include "engine/weights.h"

#include "base/file.h"
#include "base/limits.h"
#include "model/index.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * A directory as transformers writes it: config.json and either model.safetensors, or shards and
 * model.safetensors.index.json, {"metadata": {…}, "weight_map": {TENSOR: SHARD FILE, …}}. With both
 * there, readers differ in which they take, so both is an error.
 *
 * The names (modeling_llama.py and those like it), P = model.layers.N.:
 *
 *	model.embed_tokens.weight [vocab][hidden]   model.norm.weight [hidden]
 *	lm_head.weight [vocab][hidden]              not when tied
 *	P input_layernorm.weight, P post_attention_layernorm.weight [hidden]
 *	P self_attn.{q,k,v,o}_proj.weight, P mlp.{gate,up,down}_proj.weight [out][in]
 *	P self_attn.{q,k}_norm.weight [head_dim]    Qwen3
 *	P mlp.gate.weight [experts][hidden], P mlp.experts.E.{gate,up,down}_proj.weight    Qwen3-MoE
 *	P block_sparse_moe.gate.weight, P block_sparse_moe.experts.E.{w1,w3,w2}.weight     Mixtral
 *	a .bias [out] beside those weights of linear layers that have one
 *
 * A linear layer that AutoAWQ quantized (awq/modules/linear/gemm.py) has instead of weight
 *
 *	qweight i32 [in][out/8]    nibble i (bits 4i … 4i+3) of word c is column 8c + awq_order[i]
 *	qzeros  i32 [in/g][out/8]  the same
 *	scales  f16 [in/g][out]    w[column][row] = (qweight - qzeros) * scales
 */
#define CONFIG_MAX ((size_t)1 << 20)
#define SHARDS_MAX 1024
#define SINGLE_NAME "model.safetensors"
#define INDEX_NAME "model.safetensors.index.json"

static const unsigned awq_order[8] = {0, 2, 4, 6, 1, 3, 5, 7};

struct shard {
	char *name;
	struct sp_map map;
	struct sp_safetensors *file;
};

struct entry {
	const struct sp_tensor *tensor;
	int wanted; /* the config calls for it */
};

struct sp_weights {
	struct sp_model_config config;
	struct shard *shards;
	size_t n_shards;
	struct entry *entries; /* of all shards, by name */
	size_t count;
};

/* --- files ---------------------------------------------------------------------------------- */

static char *
file_in(const char *dir, const char *name)
{
	return sp_xasprintf("%s/%s", dir, name);
}

static enum sp_code
read_config(struct sp_weights *w, const char *dir, struct sp_err *err)
{
	char *path = file_in(dir, "config.json");
	uint8_t *data = NULL;
	size_t len;
	enum sp_code code;

	if ((code = sp_file_read(path, CONFIG_MAX, &data, &len, err)) == SP_OK &&
	    (code = sp_config_parse(data, len, &w->config, err)))
		sp_err_prefix(err, "%s", dir);
	free(data);
	free(path);
	return code;
}

static enum sp_code
open_shard(struct sp_weights *w, const char *dir, const char *name, struct sp_err *err)
{
	struct shard *shard;
	char *path = file_in(dir, name);
	enum sp_code code;

	if (w->n_shards == SHARDS_MAX) {
		code = sp_err_set(err, SP_E_LIMIT, "%s: more than %d shards", dir, SHARDS_MAX);
		goto out;
	}
	shard = &w->shards[w->n_shards];
	if ((code = sp_map_open(&shard->map, path, err)))
		goto out;
	shard->name = sp_xstrdup(name);
	w->n_shards++;
	code = sp_safetensors_parse(shard->map.data, shard->map.len, path, &shard->file, err);
out:
	free(path);
	return code;
}

static const struct shard *
find_shard(const struct sp_weights *w, const char *name)
{
	for (size_t i = 0; i < w->n_shards; i++) {
		if (strcmp(w->shards[i].name, name) == 0)
			return &w->shards[i];
	}
	return NULL;
}

/* Opens the shards that the index names. Each tensor of the index is in its shard, and the shards
 * hold no more than the index names: so no tensor is there twice. */
static enum sp_code
open_index(struct sp_weights *w, const char *dir, const struct sp_index *index, struct sp_err *err)
{
	size_t total = 0;
	enum sp_code code;

	for (size_t i = 0; i < index->count; i++) {
		const struct sp_index_entry *entry = &index->entries[i];
		const struct sp_tensor *tensor;

		if (find_shard(w, entry->file) == NULL &&
		    (code = open_shard(w, dir, entry->file, err)))
			return code;
		tensor = sp_safetensors_find(find_shard(w, entry->file)->file, entry->tensor);
		if (tensor == NULL)
			return sp_err_set(err, SP_E_INVALID,
			    "%s/%s: tensor %.128s is not in %.128s", dir, INDEX_NAME, entry->tensor,
			    entry->file);
	}
	for (size_t i = 0; i < w->n_shards; i++)
		total += sp_safetensors_count(w->shards[i].file);
	if (total != index->count)
		return sp_err_set(err, SP_E_INVALID,
		    "%s/%s: names %zu tensors, the shards hold %zu", dir, INDEX_NAME, index->count,
		    total);
	return SP_OK;
}

static enum sp_code
read_index(
    struct sp_weights *w, const char *dir, const uint8_t *data, size_t len, struct sp_err *err)
{
	char *what = file_in(dir, INDEX_NAME);
	struct sp_index *index;
	enum sp_code code;

	if ((code = sp_index_parse(data, len, what, &index, err)) == SP_OK)
		code = open_index(w, dir, index, err);
	sp_index_free(&index);
	free(what);
	return code;
}

static enum sp_code
open_files(struct sp_weights *w, const char *dir, struct sp_err *err)
{
	char *path = file_in(dir, INDEX_NAME);
	uint8_t *index = NULL;
	struct sp_err single_err = {0};
	size_t len = 0;
	enum sp_code code, single;

	w->shards = sp_xcalloc(SHARDS_MAX, sizeof(*w->shards));
	code = sp_file_read(path, SP_JSON_MAX, &index, &len, err);
	if (code && code != SP_E_NOT_FOUND)
		goto out;
	single = open_shard(w, dir, SINGLE_NAME, &single_err);
	if (single == SP_OK && index != NULL) {
		code = sp_err_set(err, SP_E_INVALID,
		    "%s: both %s and %s: which of them holds the weights is not clear", dir,
		    SINGLE_NAME, INDEX_NAME);
	} else if (single == SP_E_NOT_FOUND && index != NULL) {
		code = read_index(w, dir, index, len, err);
	} else {
		code = single;
		if (code && err != NULL)
			*err = single_err;
	}
out:
	free(index);
	free(path);
	return code;
}

/* --- the tensor set ------------------------------------------------------------------------- */

static int
compare_entry(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return strcmp(x->tensor->name, y->tensor->name);
}

static enum sp_code
collect(struct sp_weights *w, const char *dir, struct sp_err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < w->n_shards; i++)
		w->count += sp_safetensors_count(w->shards[i].file);
	if ((w->entries = calloc(w->count + 1, sizeof(*w->entries))) == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "%s: %zu tensors", dir, w->count);
	for (size_t i = 0; i < w->n_shards; i++) {
		for (size_t k = 0; k < sp_safetensors_count(w->shards[i].file); k++)
			w->entries[n++].tensor = sp_safetensors_at(w->shards[i].file, k);
	}
	qsort(w->entries, w->count, sizeof(*w->entries), compare_entry);
	return SP_OK;
}

static struct entry *
find_entry(const struct sp_weights *w, const char *name)
{
	const struct sp_tensor tensor = {.name = name};
	const struct entry key = {.tensor = &tensor};

	return bsearch(&key, w->entries, w->count, sizeof(key), compare_entry);
}

struct name {
	char s[128];
};

static struct name SP_PRINTF(1, 2) name_of(const char *fmt, ...)
{
	struct name name;
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(name.s, sizeof(name.s), fmt, args);
	va_end(args);
	SP_ASSERT(len > 0 && (size_t)len < sizeof(name.s));
	return name;
}

/* The name of the file that a tensor lies in. */
static const char *
file_of(const struct sp_weights *w, const struct sp_tensor *t)
{
	size_t i = 0;

	while (t->data < w->shards[i].map.data ||
	       t->data > w->shards[i].map.data + w->shards[i].map.len)
		i++;
	return w->shards[i].name;
}

/* Marks the tensor as called for. rows 0: a vector. kind: SP_I32, or SP_F32 for any float. */
static enum sp_code
want(struct sp_weights *w, struct name name, enum sp_dtype kind, uint64_t rows, uint64_t columns,
    struct sp_err *err)
{
	struct entry *entry = find_entry(w, name.s);
	const struct sp_tensor *t;
	int is_float;

	if (entry == NULL)
		return sp_err_set(err, SP_E_INVALID, "tensor %s is missing", name.s);
	entry->wanted = 1;
	t = entry->tensor;
	is_float = t->dtype == SP_F32 || t->dtype == SP_F16 || t->dtype == SP_BF16;
	if (kind == SP_F32 ? !is_float : t->dtype != kind)
		return sp_err_set(err, SP_E_INVALID, "%s: tensor %s is %s, not %s", file_of(w, t),
		    name.s, sp_dtype_name(t->dtype), kind == SP_F32 ? "F32, F16 or BF16" : "I32");
	if (rows == 0 && (t->rank != 1 || t->shape[0] != columns))
		return sp_err_set(err, SP_E_INVALID, "%s: tensor %s is not of shape [%llu]",
		    file_of(w, t), name.s, (unsigned long long)columns);
	if (rows != 0 && (t->rank != 2 || t->shape[0] != rows || t->shape[1] != columns))
		return sp_err_set(err, SP_E_INVALID, "%s: tensor %s is not of shape [%llu, %llu]",
		    file_of(w, t), name.s, (unsigned long long)rows, (unsigned long long)columns);
	return SP_OK;
}

static enum sp_code
want_linear(struct sp_weights *w, size_t layer, size_t which, struct sp_err *err)
{
	struct sp_layer_part part = sp_layer_part(&w->config, layer, which);
	struct name name = name_of("model.layers.%zu.%s", layer, part.name);
	size_t out = part.out, in = part.in, group = w->config.awq.group_size;
	enum sp_code code;

	if (part.biased && (code = want(w, name_of("%s.bias", name.s), SP_F32, 0, out, err)))
		return code;
	if (!sp_config_is_awq(&w->config, name.s))
		return want(w, name_of("%s.weight", name.s), SP_F32, out, in, err);
	if (out % 8 != 0 || in % group != 0)
		return sp_err_set(err, SP_E_INVALID,
		    "%s: %zu x %zu is not quantized by words of 8 columns and groups of %zu rows",
		    name.s, in, out, group);
	if ((code = want(w, name_of("%s.qweight", name.s), SP_I32, in, out / 8, err)) ||
	    (code = want(w, name_of("%s.qzeros", name.s), SP_I32, in / group, out / 8, err)))
		return code;
	return want(w, name_of("%s.scales", name.s), SP_F32, in / group, out, err);
}

static enum sp_code
want_head(struct sp_weights *w, struct sp_err *err)
{
	const struct sp_model_config *c = &w->config;
	const struct sp_tensor *head, *embed;
	enum sp_code code;

	if ((code = want(
		 w, name_of("model.embed_tokens.weight"), SP_F32, c->vocab, c->hidden, err)))
		return code;
	if (c->tied && find_entry(w, "lm_head.weight") == NULL)
		return SP_OK;
	if ((code = want(w, name_of("lm_head.weight"), SP_F32, c->vocab, c->hidden, err)))
		return code;
	head = find_entry(w, "lm_head.weight")->tensor;
	embed = find_entry(w, "model.embed_tokens.weight")->tensor;
	if (c->tied &&
	    (head->dtype != embed->dtype || memcmp(head->data, embed->data, embed->size) != 0))
		return sp_err_set(err, SP_E_INVALID,
		    "tie_word_embeddings is true, but lm_head.weight differs from "
		    "model.embed_tokens.weight");
	return SP_OK;
}

static enum sp_code
want_norm(struct sp_weights *w, size_t layer, enum sp_layer_norm which, struct sp_err *err)
{
	size_t size = sp_layer_norm_size(&w->config, which);
	struct name name = name_of("model.layers.%zu.%s.weight", layer, sp_layer_norm_name(which));

	return size == 0 ? SP_OK : want(w, name, SP_F32, 0, size, err);
}

static enum sp_code
want_router(struct sp_weights *w, size_t layer, struct sp_err *err)
{
	return want(w,
	    name_of("model.layers.%zu.%s.weight", layer, sp_layer_router_name(&w->config)), SP_F32,
	    w->config.experts, w->config.hidden, err);
}

/* Older Llama checkpoints hold the frequencies that we, like transformers, compute. */
static enum sp_code
skip_frequencies(struct sp_weights *w, size_t layer, struct sp_err *err)
{
	struct name name = name_of("model.layers.%zu.self_attn.rotary_emb.inv_freq", layer);

	if (find_entry(w, name.s) == NULL)
		return SP_OK;
	return want(w, name, SP_F32, 0, w->config.head_dim / 2, err);
}

static enum sp_code
check_set(struct sp_weights *w, struct sp_err *err)
{
	uint32_t hidden = w->config.hidden;
	enum sp_code code;

	if ((code = want_head(w, err)) ||
	    (code = want(w, name_of("model.norm.weight"), SP_F32, 0, hidden, err)))
		return code;
	for (size_t i = 0; i < w->config.layers; i++) {
		if ((code = skip_frequencies(w, i, err)))
			return code;
		for (enum sp_layer_norm k = 0; k < SP_LAYER_NORMS; k++) {
			if ((code = want_norm(w, i, k, err)))
				return code;
		}
		for (size_t k = 0; k < sp_layer_linears(&w->config, i); k++) {
			if ((code = want_linear(w, i, k, err)))
				return code;
		}
		if (sp_config_sparse(&w->config, i) && (code = want_router(w, i, err)))
			return code;
	}
	for (size_t i = 0; i < w->count; i++) {
		if (!w->entries[i].wanted)
			return sp_err_set(err, SP_E_INVALID,
			    "%s: tensor %s is not one that config.json calls for",
			    file_of(w, w->entries[i].tensor), w->entries[i].tensor->name);
	}
	return SP_OK;
}

enum sp_code
sp_weights_open(const char *dir, struct sp_weights **out, struct sp_err *err)
{
	struct sp_weights *w = sp_xcalloc(1, sizeof(*w));
	enum sp_code code;

	*out = NULL;
	if ((code = read_config(w, dir, err)) || (code = open_files(w, dir, err)) ||
	    (code = collect(w, dir, err)))
		goto out;
	if ((code = check_set(w, err))) {
		sp_err_prefix(err, "%s", dir);
		goto out;
	}
	*out = w;
	w = NULL;
out:
	sp_weights_close(&w);
	return code;
}

void
sp_weights_close(struct sp_weights **weights)
{
	struct sp_weights *w = *weights;

	if (w == NULL)
		return;
	for (size_t i = 0; i < w->n_shards; i++) {
		sp_safetensors_free(&w->shards[i].file);
		sp_map_close(&w->shards[i].map);
		free(w->shards[i].name);
	}
	free(w->shards);
	free(w->entries);
	free(w);
	*weights = NULL;
}

const struct sp_model_config *
sp_weights_config(const struct sp_weights *weights)
{
	return &weights->config;
}

const struct sp_tensor *
sp_weights_find(const struct sp_weights *weights, const char *name)
{
	const struct entry *entry = find_entry(weights, name);

	return entry == NULL ? NULL : entry->tensor;
}

size_t
sp_weights_count(const struct sp_weights *weights)
{
	return weights->count;
}

const struct sp_tensor *
sp_weights_at(const struct sp_weights *weights, size_t i)
{
	for (size_t s = 0; s < weights->n_shards; s++) {
		size_t n = sp_safetensors_count(weights->shards[s].file);

		if (i < n)
			return sp_safetensors_at(weights->shards[s].file, i);
		i -= n;
	}
	SP_ASSERT(!"index of a tensor");
	return NULL;
}

const char *
sp_weights_file_at(const struct sp_weights *weights, size_t i)
{
	size_t s = 0;

	SP_ASSERT(i < weights->count);
	for (; i >= sp_safetensors_count(weights->shards[s].file); s++)
		i -= sp_safetensors_count(weights->shards[s].file);
	return weights->shards[s].name;
}

/* --- to fp32 -------------------------------------------------------------------------------- */

/* A tensor of the set that sp_weights_open checked. */
static const struct sp_tensor *
get(const struct sp_weights *w, struct name name)
{
	const struct sp_tensor *tensor = sp_weights_find(w, name.s);

	SP_ASSERT(tensor != NULL);
	return tensor;
}

/* Without a branch in the loop, so that it runs at the speed of memory. */
static int
is_finite(const float *values, size_t count)
{
	uint32_t bad = 0, bits;

	for (size_t i = 0; i < count; i++) {
		memcpy(&bits, &values[i], sizeof(bits));
		bad |= (bits & 0x7f800000) == 0x7f800000;
	}
	return !bad;
}

static enum sp_code
to_f32(const struct sp_weights *w, struct name name, float **out, struct sp_err *err)
{
	const struct sp_tensor *t = get(w, name);
	size_t count = t->size / sp_dtype_size(t->dtype);

	if ((*out = malloc(count * sizeof(float))) == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "tensor %s in fp32", t->name);
	sp_dtype_to_f32(t->dtype, t->data, *out, count);
	if (!is_finite(*out, count)) {
		free(*out);
		*out = NULL;
		return sp_err_set(err, SP_E_INVALID,
		    "%s: tensor %s holds a value that is not finite (NaN or infinity)",
		    file_of(w, t), t->name);
	}
	return SP_OK;
}

static uint32_t
word_at(const struct sp_tensor *t, size_t i)
{
	uint32_t word;

	memcpy(&word, t->data + i * sizeof(word), sizeof(word));
	return word;
}

/* Words are taken 16 columns of words (a cache line) at a time, down all rows. */
static void
dequantize(const struct sp_tensor *qweight, const struct sp_tensor *qzeros, const float *scales,
    size_t in, size_t out, size_t group, float *w)
{
	const size_t words = out / 8, step = 16;

	for (size_t c0 = 0; c0 < words; c0 += step) {
		size_t end = words - c0 < step ? words : c0 + step;

		for (size_t at = 0; at < in * (end - c0); at++) {
			size_t row = at / (end - c0), c = c0 + at % (end - c0);
			uint32_t word = word_at(qweight, row * words + c);
			uint32_t zeros = word_at(qzeros, row / group * words + c);
			const float *scale = scales + row / group * out + 8 * c;

			for (unsigned i = 0; i < 8; i++) {
				unsigned column = awq_order[i];
				int q = word >> (4 * i) & 15, z = zeros >> (4 * i) & 15;

				w[(8 * c + column) * in + row] = (float)(q - z) * scale[column];
			}
		}
	}
}

static void
unpack_zeros(const struct sp_tensor *qzeros, size_t count, uint8_t *zeros)
{
	for (size_t i = 0; i < count; i++) {
		uint32_t word = word_at(qzeros, i / 8);

		zeros[i / 8 * 8 + awq_order[i % 8]] = word >> (4 * (i % 8)) & 15;
	}
}

static enum sp_code
load_awq(const struct sp_weights *w, struct name name, struct sp_linear *linear, struct sp_err *err)
{
	const struct sp_tensor *qzeros = get(w, name_of("%s.qzeros", name.s));
	size_t groups;
	enum sp_code code;

	linear->group = w->config.awq.group_size;
	groups = linear->in / linear->group;
	if ((code = to_f32(w, name_of("%s.scales", name.s), &linear->scales, err)))
		return code;
	SP_ASSERT(linear->scales != NULL);
	linear->zeros = malloc(groups * linear->out);
	linear->w = malloc(linear->out * linear->in * sizeof(float));
	if (linear->zeros == NULL || linear->w == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "%s in fp32", name.s);
	unpack_zeros(qzeros, groups * linear->out, linear->zeros);
	dequantize(get(w, name_of("%s.qweight", name.s)), qzeros, linear->scales, linear->in,
	    linear->out, linear->group, linear->w);
	return SP_OK;
}

static enum sp_code
load_linear(const struct sp_weights *w, size_t layer, size_t which, struct sp_linear *linear,
    struct sp_err *err)
{
	struct sp_layer_part part = sp_layer_part(&w->config, layer, which);
	struct name name = name_of("model.layers.%zu.%s", layer, part.name);
	enum sp_code code;

	linear->out = part.out;
	linear->in = part.in;
	if (part.biased && (code = to_f32(w, name_of("%s.bias", name.s), &linear->bias, err)))
		return code;
	if (sp_config_is_awq(&w->config, name.s))
		return load_awq(w, name, linear, err);
	return to_f32(w, name_of("%s.weight", name.s), &linear->w, err);
}

/* And room for the experts. */
static enum sp_code
load_router(const struct sp_weights *w, struct sp_layer *layer, struct sp_err *err)
{
	struct name name =
	    name_of("model.layers.%zu.%s.weight", layer->index, sp_layer_router_name(&w->config));

	layer->n_experts = w->config.experts;
	layer->experts = sp_xcalloc(layer->n_experts, sizeof(*layer->experts));
	layer->router.out = layer->n_experts;
	layer->router.in = w->config.hidden;
	return to_f32(w, name, &layer->router.w, err);
}

enum sp_code
sp_weights_layer(
    const struct sp_weights *weights, size_t i, struct sp_layer *layer, struct sp_err *err)
{
	enum sp_code code;

	SP_ASSERT(i < weights->config.layers);
	*layer = (struct sp_layer){.index = i, .window = sp_config_window(&weights->config, i)};
	if (sp_config_sparse(&weights->config, i) && (code = load_router(weights, layer, err)))
		goto out;
	for (enum sp_layer_norm k = 0; k < SP_LAYER_NORMS; k++) {
		if (sp_layer_norm_size(&weights->config, k) == 0)
			continue;
		code =
		    to_f32(weights, name_of("model.layers.%zu.%s.weight", i, sp_layer_norm_name(k)),
			sp_layer_norm(layer, k), err);
		if (code)
			goto out;
	}
	for (size_t k = 0; k < sp_layer_linears(&weights->config, i); k++) {
		if ((code = load_linear(weights, i, k, sp_layer_linear(layer, k), err)))
			goto out;
	}
out:
	if (code)
		sp_layer_free(layer);
	return code;
}

enum sp_code
sp_weights_embed(const struct sp_weights *weights, float **out, struct sp_err *err)
{
	return to_f32(weights, name_of("model.embed_tokens.weight"), out, err);
}

enum sp_code
sp_weights_head(const struct sp_weights *weights, struct sp_linear *out, struct sp_err *err)
{
	const char *name = weights->config.tied ? "model.embed_tokens.weight" : "lm_head.weight";

	*out = (struct sp_linear){.out = weights->config.vocab, .in = weights->config.hidden};
	return to_f32(weights, name_of("%s", name), &out->w, err);
}

enum sp_code
sp_weights_final_norm(const struct sp_weights *weights, float **out, struct sp_err *err)
{
	return to_f32(weights, name_of("model.norm.weight"), out, err);
}

void
sp_weights_lookup(const float *embed, size_t hidden, const uint32_t *ids, size_t n, float *out)
{
	for (size_t i = 0; i < n; i++)
		memcpy(out + i * hidden, embed + ids[i] * hidden, hidden * sizeof(float));
}
