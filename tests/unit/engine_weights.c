/* engine_weights.c -- checkpoint directories: the exact tensor set, shards, AWQ int4; a small odd
 * model through the whole engine against a plain forward pass in double. */
#include "../draw.h"
#include "base/buf.h"
#include "base/file.h"
#include "engine/forward.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Sizes that fill no panel: heads of 48, a vocabulary of 101. */
#define HIDDEN 96
#define INNER 160
#define LAYERS 2
#define HEADS 4
#define KV_HEADS 2
#define DIM 48
#define VOCAB 101
#define POSITIONS 64
#define GROUP 32
#define TENSORS_MAX 64

static struct sp_err err;
static struct sp_pool *pool;
static char root[64];
static uint64_t seed;

static uint64_t
draw(void)
{
	return draw_next(&seed);
}

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

/* --- a checkpoint ------------------------------------------------------------------------------
 */

static const struct shape {
	const char *name;
	size_t out, in;
	int bias;
} shapes[] = {
    {"self_attn.q_proj", HEADS *DIM, HIDDEN, 1},
    {"self_attn.k_proj", KV_HEADS *DIM, HIDDEN, 1},
    {"self_attn.v_proj", KV_HEADS *DIM, HIDDEN, 1},
    {"self_attn.o_proj", HIDDEN, HEADS *DIM, 0},
    {"mlp.gate_proj", INNER, HIDDEN, 0},
    {"mlp.up_proj", INNER, HIDDEN, 0},
    {"mlp.down_proj", HIDDEN, INNER, 0},
};
#define LINEARS (sizeof(shapes) / sizeof(shapes[0]))

/* What is written, and the same values as plain floats. */
struct checkpoint {
	struct sp_tensor tensors[TENSORS_MAX];
	char names[TENSORS_MAX][64];
	size_t count;
	int tied, awq;

	float *embed, *head, *norm;
	struct plain_layer {
		float *input_norm, *post_norm;
		float *w[LINEARS], *bias[LINEARS];
	} layers[LAYERS];
};

static struct sp_tensor *
add_tensor(struct checkpoint *c, const char *prefix, const char *name, enum sp_dtype dtype,
    size_t rows, size_t columns)
{
	struct sp_tensor *t = &c->tensors[c->count];
	uint8_t *data;

	assert_true(c->count < TENSORS_MAX);
	snprintf(c->names[c->count], sizeof(c->names[0]), "%s%s", prefix, name);
	*t = (struct sp_tensor){.name = c->names[c->count++], .dtype = dtype};
	t->rank = rows == 0 ? 1 : 2;
	t->shape[0] = rows == 0 ? columns : rows;
	t->shape[1] = rows == 0 ? 0 : columns;
	ok(sp_safetensors_size(t, &t->size, &err));
	data = calloc(1, t->size);
	assert_non_null(data);
	t->data = data;
	return t;
}

static uint8_t *
bytes_of(const struct sp_tensor *t)
{
	return (uint8_t *)(uintptr_t)t->data;
}

/* Random floats around middle; *plain: what the file's type keeps of them. */
static void
add_floats(struct checkpoint *c, const char *prefix, const char *name, enum sp_dtype dtype,
    size_t rows, size_t columns, float middle, float spread, float **plain)
{
	struct sp_tensor *t = add_tensor(c, prefix, name, dtype, rows, columns);
	size_t count = (rows == 0 ? 1 : rows) * columns;

	*plain = malloc(count * sizeof(float));
	for (size_t i = 0; i < count; i++)
		(*plain)[i] = middle + ((float)(draw() >> 40) / (float)(1 << 23) - 1) * spread;
	sp_dtype_from_f32(dtype, *plain, bytes_of(t), count);
	sp_dtype_to_f32(dtype, t->data, *plain, count);
}

static void
set_nibble(const struct sp_tensor *t, size_t row, size_t column, unsigned value)
{
	static const unsigned nibble_of[8] = {0, 4, 1, 5, 2, 6, 3, 7}; /* of column 8c + i */
	size_t word = row * t->shape[1] + column / 8;
	uint32_t bits;

	memcpy(&bits, t->data + 4 * word, 4);
	bits |= value << (4 * nibble_of[column % 8]);
	memcpy(bytes_of(t) + 4 * word, &bits, 4);
}

/* Random codes, zeros and scales of a linear layer in AutoAWQ's GEMM layout. */
static void
add_awq(struct checkpoint *c, const char *prefix, const struct shape *shape, float **plain)
{
	size_t in = shape->in, out = shape->out, groups = in / GROUP;
	char name[48];
	struct sp_tensor *q, *z;
	float *scales;
	unsigned *zeros = calloc(groups * out, sizeof(*zeros));

	snprintf(name, sizeof(name), "%s.qweight", shape->name);
	q = add_tensor(c, prefix, name, SP_I32, in, out / 8);
	snprintf(name, sizeof(name), "%s.qzeros", shape->name);
	z = add_tensor(c, prefix, name, SP_I32, groups, out / 8);
	snprintf(name, sizeof(name), "%s.scales", shape->name);
	add_floats(c, prefix, name, SP_F16, groups, out, 0.02f, 0.01f, &scales);
	for (size_t i = 0; i < groups * out; i++) {
		zeros[i] = (unsigned)(draw() % 16);
		set_nibble(z, i / out, i % out, zeros[i]);
	}
	*plain = malloc(out * in * sizeof(float));
	for (size_t k = 0; k < in; k++) {
		for (size_t o = 0; o < out; o++) {
			unsigned code = (unsigned)(draw() % 16);
			size_t at = k / GROUP * out + o;

			set_nibble(q, k, o, code);
			(*plain)[o * in + k] = ((float)code - (float)zeros[at]) * scales[at];
		}
	}
	free(scales);
	free(zeros);
}

static void
add_layer(struct checkpoint *c, size_t i)
{
	struct plain_layer *layer = &c->layers[i];
	char prefix[32], name[48];

	snprintf(prefix, sizeof(prefix), "model.layers.%zu.", i);
	add_floats(
	    c, prefix, "input_layernorm.weight", SP_BF16, 0, HIDDEN, 1, 0.2f, &layer->input_norm);
	add_floats(c, prefix, "post_attention_layernorm.weight", SP_F32, 0, HIDDEN, 1, 0.2f,
	    &layer->post_norm);
	for (size_t k = 0; k < LINEARS; k++) {
		const struct shape *s = &shapes[k];

		snprintf(name, sizeof(name), "%s.weight", s->name);
		if (c->awq && k != LINEARS - 1) /* down_proj is left alone */
			add_awq(c, prefix, s, &layer->w[k]);
		else
			add_floats(c, prefix, name, k % 2 ? SP_F32 : SP_F16, s->out, s->in, 0,
			    2 / sqrtf((float)s->in), &layer->w[k]);
		snprintf(name, sizeof(name), "%s.bias", s->name);
		if (s->bias)
			add_floats(c, prefix, name, SP_F16, 0, s->out, 0, 0.3f, &layer->bias[k]);
	}
}

static struct checkpoint *
make_checkpoint(int tied, int awq)
{
	struct checkpoint *c = calloc(1, sizeof(*c));

	seed = 7;
	c->tied = tied;
	c->awq = awq;
	add_floats(c, "", "model.embed_tokens.weight", SP_F32, VOCAB, HIDDEN, 0, 1, &c->embed);
	for (size_t i = 0; i < LAYERS; i++)
		add_layer(c, i);
	add_floats(c, "", "model.norm.weight", SP_F16, 0, HIDDEN, 1, 0.2f, &c->norm);
	if (!tied)
		add_floats(c, "", "lm_head.weight", SP_BF16, VOCAB, HIDDEN, 0, 0.2f, &c->head);
	return c;
}

static void
free_checkpoint(struct checkpoint *c)
{
	for (size_t i = 0; i < c->count; i++)
		free(bytes_of(&c->tensors[i]));
	for (size_t i = 0; i < LAYERS; i++) {
		free(c->layers[i].input_norm);
		free(c->layers[i].post_norm);
		for (size_t k = 0; k < LINEARS; k++) {
			free(c->layers[i].w[k]);
			free(c->layers[i].bias[k]);
		}
	}
	free(c->embed);
	free(c->head);
	free(c->norm);
	free(c);
}

static void
write_file(const char *name, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", root, name);
	ok(sp_file_write(path, 0644, text, strlen(text), &err));
}

static void
write_config(const struct checkpoint *c)
{
	char text[1024];

	snprintf(text, sizeof(text),
	    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\",\"hidden_size\":%d,"
	    "\"intermediate_size\":%d,\"num_hidden_layers\":%d,\"num_attention_heads\":%d,"
	    "\"num_key_value_heads\":%d,\"head_dim\":%d,\"vocab_size\":%d,\"hidden_act\":\"silu\","
	    "\"max_position_embeddings\":%d,\"rms_norm_eps\":1e-5,\"rope_theta\":500.0,"
	    "\"tie_word_embeddings\":%s,\"eos_token_id\":3%s}",
	    HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, DIM, VOCAB, POSITIONS,
	    c->tied ? "true" : "false",
	    c->awq ? ",\"quantization_config\":{\"quant_method\":\"awq\",\"version\":\"gemm\","
		     "\"zero_point\":true,\"bits\":4,\"group_size\":32,"
		     "\"modules_to_not_convert\":[\"down_proj\"]}"
		   : "");
	write_file("config.json", text);
}

static void
write_tensors(const char *name, const struct sp_tensor *tensors, size_t count)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	ok(sp_safetensors_write(fd, tensors, count, &err));
	close(fd);
}

/* The checkpoint as one file; what else was in the directory goes. */
static void
write_checkpoint(const struct checkpoint *c)
{
	ok(sp_file_remove_all(root, &err));
	ok(sp_file_mkdirs(root, 0755, &err));
	write_config(c);
	write_tensors("model.safetensors", c->tensors, c->count);
}

/* --- the plain forward pass --------------------------------------------------------------------
 */

static void
plain_norm(const double *x, const float *w, double *y)
{
	double sum = 0;

	for (size_t i = 0; i < HIDDEN; i++)
		sum += x[i] * x[i];
	for (size_t i = 0; i < HIDDEN; i++)
		y[i] = x[i] / sqrt(sum / HIDDEN + 1e-5) * w[i];
}

static void
plain_linear(const struct plain_layer *layer, size_t k, const double *x, double *y)
{
	for (size_t o = 0; o < shapes[k].out; o++) {
		y[o] = layer->bias[k] == NULL ? 0 : layer->bias[k][o];
		for (size_t i = 0; i < shapes[k].in; i++)
			y[o] += layer->w[k][o * shapes[k].in + i] * x[i];
	}
}

static void
plain_rope(double *x, size_t heads, size_t position)
{
	for (size_t h = 0; h < heads; h++, x += DIM) {
		for (size_t i = 0; i < DIM / 2; i++) {
			double angle = (double)position * pow(500, -2.0 * (double)i / DIM);
			double a = x[i], b = x[i + DIM / 2];

			x[i] = a * cos(angle) - b * sin(angle);
			x[i + DIM / 2] = b * cos(angle) + a * sin(angle);
		}
	}
}

/* Keys and values so far, per layer. */
struct plain_cache {
	double k[LAYERS][POSITIONS][KV_HEADS * DIM], v[LAYERS][POSITIONS][KV_HEADS * DIM];
};

static void
plain_attention(
    const struct plain_cache *cache, size_t l, size_t position, const double *q, double *out)
{
	for (size_t h = 0; h < HEADS; h++) {
		size_t kv = h / (HEADS / KV_HEADS) * DIM;
		double p[POSITIONS], sum = 0;

		for (size_t t = 0; t <= position; t++) {
			double score = 0;

			for (size_t i = 0; i < DIM; i++)
				score += q[h * DIM + i] * cache->k[l][t][kv + i];
			sum += p[t] = exp(score / sqrt(DIM));
		}
		for (size_t i = 0; i < DIM; i++) {
			out[h * DIM + i] = 0;
			for (size_t t = 0; t <= position; t++)
				out[h * DIM + i] += p[t] / sum * cache->v[l][t][kv + i];
		}
	}
}

static void
plain_token(const struct checkpoint *c, struct plain_cache *cache, uint32_t id, size_t position,
    double *logits)
{
	const float *head = c->tied ? c->embed : c->head;
	double h[HIDDEN], x[HIDDEN], y[HIDDEN], q[HEADS * DIM], heads[HEADS * DIM];
	double gate[INNER], up[INNER];

	for (size_t i = 0; i < HIDDEN; i++)
		h[i] = c->embed[id * HIDDEN + i];
	for (size_t l = 0; l < LAYERS; l++) {
		const struct plain_layer *layer = &c->layers[l];

		plain_norm(h, layer->input_norm, x);
		plain_linear(layer, 0, x, q);
		plain_linear(layer, 1, x, cache->k[l][position]);
		plain_linear(layer, 2, x, cache->v[l][position]);
		plain_rope(q, HEADS, position);
		plain_rope(cache->k[l][position], KV_HEADS, position);
		plain_attention(cache, l, position, q, heads);
		plain_linear(layer, 3, heads, y);
		for (size_t i = 0; i < HIDDEN; i++)
			h[i] += y[i];
		plain_norm(h, layer->post_norm, x);
		plain_linear(layer, 4, x, gate);
		plain_linear(layer, 5, x, up);
		for (size_t i = 0; i < INNER; i++)
			gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
		plain_linear(layer, 6, gate, y);
		for (size_t i = 0; i < HIDDEN; i++)
			h[i] += y[i];
	}
	plain_norm(h, c->norm, x);
	for (size_t o = 0; o < VOCAB; o++) {
		logits[o] = 0;
		for (size_t i = 0; i < HIDDEN; i++)
			logits[o] += head[o * HIDDEN + i] * x[i];
	}
}

/* The directory's model against the plain pass, over all its positions. */
static void
check_model(const struct checkpoint *c)
{
	struct plain_cache *cache = calloc(1, sizeof(*cache));
	float *logits = malloc(POSITIONS * VOCAB * sizeof(float));
	uint32_t ids[POSITIONS];
	struct sp_model *model;
	struct sp_context *context;
	double worst = 0, largest = 0;

	ok(sp_model_open(root, pool, &model, &err));
	ok(sp_context_new(model, NULL, POSITIONS, &context, &err));
	for (size_t i = 0; i < POSITIONS; i++)
		ids[i] = (uint32_t)(draw() % VOCAB);
	ok(sp_forward(
	    model, &(struct sp_feed){context, ids, POSITIONS, POSITIONS, logits}, 1, &err));
	for (size_t i = 0; i < POSITIONS; i++) {
		double expected[VOCAB];

		plain_token(c, cache, ids[i], i, expected);
		for (size_t o = 0; o < VOCAB; o++) {
			worst = fmax(worst, fabs(logits[i * VOCAB + o] - expected[o]));
			largest = fmax(largest, fabs(expected[o]));
		}
	}
	if (!(worst < 3e-5 * largest))
		fail_msg("logits differ by %g of %g", worst, largest);
	sp_context_free(&context);
	sp_model_close(&model);
	free(logits);
	free(cache);
}

static void
test_plain(void **state)
{
	(void)state;
	for (int kind = 0; kind < 4; kind++) {
		struct checkpoint *c = make_checkpoint(kind & 1, kind & 2);

		write_checkpoint(c);
		check_model(c);
		free_checkpoint(c);
	}
}

/* The fp32 matrices are what the codes say, to the bit. */
static void
test_awq_values(void **state)
{
	struct checkpoint *c = make_checkpoint(1, 1);
	struct sp_weights *weights;

	(void)state;
	write_checkpoint(c);
	ok(sp_weights_open(root, &weights, &err));
	for (size_t i = 0; i < LAYERS; i++) {
		struct sp_layer layer;
		const struct sp_linear *linears[LINEARS] = {
		    &layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down};

		ok(sp_weights_layer(weights, i, &layer, &err));
		for (size_t k = 0; k < LINEARS; k++) {
			size_t size = shapes[k].out * shapes[k].in * sizeof(float);

			assert_int_equal(linears[k]->out, shapes[k].out);
			assert_int_equal(linears[k]->in, shapes[k].in);
			assert_memory_equal(linears[k]->w, c->layers[i].w[k], size);
			assert_int_equal(linears[k]->bias != NULL, shapes[k].bias);
		}
		sp_layer_free(&layer);
	}
	sp_weights_close(&weights);
	free_checkpoint(c);
}

/* --- shards ------------------------------------------------------------------------------------
 */

/* Writes the tensors in two shards and the index; skip: left out of the index, "": none. */
static void
write_shards(const struct checkpoint *c, const char *skip)
{
	struct sp_buf index = {0};
	size_t half = c->count / 2;
	uint64_t total = 0;
	char *text;
	size_t len, n = 0;

	for (size_t i = 0; i < c->count; i++)
		total += c->tensors[i].size;
	ok(sp_file_remove_all(root, &err));
	ok(sp_file_mkdirs(root, 0755, &err));
	write_config(c);
	write_tensors("model-00001-of-00002.safetensors", c->tensors, half);
	write_tensors("model-00002-of-00002.safetensors", c->tensors + half, c->count - half);
	sp_buf_printf(&index, "{\"metadata\":{\"total_size\":%llu},\"weight_map\":{",
	    (unsigned long long)total);
	for (size_t i = 0; i < c->count; i++) {
		if (strcmp(c->names[i], skip) != 0)
			sp_buf_printf(&index, "%s\"%s\":\"model-0000%d-of-00002.safetensors\"",
			    n++ == 0 ? "" : ",", c->names[i], i < half ? 1 : 2);
	}
	sp_buf_puts(&index, "}}");
	text = sp_buf_take(&index, &len);
	write_file("model.safetensors.index.json", text);
	free(text);
}

static void
expect_refused(enum sp_code code, const char *says)
{
	struct sp_weights *weights;
	enum sp_code got = sp_weights_open(root, &weights, &err);

	if (got == SP_OK)
		fail_msg("accepted, not: %s", says);
	assert_null(weights);
	if (got != code || strstr(err.msg, says) == NULL || strstr(err.msg, root) == NULL)
		fail_msg("%s: %s (expected %s)", sp_err_word(got), err.msg, says);
}

static void
test_shards(void **state)
{
	struct checkpoint *c = make_checkpoint(1, 0);
	struct sp_weights *weights;

	(void)state;
	write_shards(c, "");
	check_model(c);
	ok(sp_weights_open(root, &weights, &err));
	assert_int_equal(sp_weights_count(weights), c->count);
	for (size_t i = 0; i < c->count; i++) {
		assert_string_equal(sp_weights_at(weights, i)->name, c->names[i]);
		assert_ptr_equal(sp_weights_at(weights, i), sp_weights_find(weights, c->names[i]));
	}
	assert_null(sp_weights_find(weights, "lm_head.weight"));
	sp_weights_close(&weights);
	write_tensors("model.safetensors", c->tensors, c->count);
	expect_refused(SP_E_INVALID, "both model.safetensors and");
	write_shards(c, "model.norm.weight");
	expect_refused(SP_E_INVALID, "the shards hold");
	free_checkpoint(c);
}

static void
test_bad_index(void **state)
{
	static const struct {
		const char *index;
		enum sp_code code;
		const char *says;
	} cases[] = {
	    {"{}", SP_E_INVALID, "weight_map"},
	    {"[", SP_E_INVALID, "JSON"},
	    {"{\"weight_map\":{\"a\":\"../model.safetensors\"}}", SP_E_INVALID, "weight_map of a"},
	    {"{\"weight_map\":{\"a\":\".safetensors\"}}", SP_E_INVALID, "weight_map of a"},
	    {"{\"weight_map\":{\"a\":\"x.bin\"}}", SP_E_INVALID, "weight_map of a"},
	    {"{\"weight_map\":{\"a\":7}}", SP_E_INVALID, "weight_map of a"},
	    {"{\"weight_map\":{\"a\":\"gone.safetensors\"}}", SP_E_NOT_FOUND, "gone.safetensors"},
	    {"{\"weight_map\":{\"a\":\"model-00001-of-00002.safetensors\"}}", SP_E_INVALID,
		"tensor a is not in"},
	    {"{\"weight_map\":{}}", SP_E_INVALID, "is missing"},
	    {"{\"weight_map\":{},\"metadata\":{\"total_size\":1}}", SP_E_INVALID, "is missing"},
	};
	struct checkpoint *c = make_checkpoint(1, 0);

	(void)state;
	write_shards(c, "");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		write_file("model.safetensors.index.json", cases[i].index);
		expect_refused(cases[i].code, cases[i].says);
	}
	free_checkpoint(c);
}

/* The first shard also holds a tensor that the index gives to the second. */
static void
test_doubled(void **state)
{
	struct checkpoint *c = make_checkpoint(1, 0);
	struct sp_tensor shard[TENSORS_MAX];
	size_t half = c->count / 2;

	(void)state;
	write_shards(c, "");
	memcpy(shard, c->tensors, half * sizeof(shard[0]));
	shard[half] = c->tensors[c->count - 1];
	write_tensors("model-00001-of-00002.safetensors", shard, half + 1);
	expect_refused(SP_E_INVALID, "the shards hold");
	free_checkpoint(c);
}

/* --- the tensor set ----------------------------------------------------------------------------
 */

static struct sp_tensor *
tensor_of(struct checkpoint *c, const char *name)
{
	for (size_t i = 0; i < c->count; i++) {
		if (strcmp(c->names[i], name) == 0)
			return &c->tensors[i];
	}
	fail_msg("no tensor %s", name);
	return NULL;
}

static void
test_set(void **state)
{
	static const char norm[] = "model.norm.weight";
	static const char qweight[] = "model.layers.1.self_attn.o_proj.qweight";
	static const char up[] = "model.layers.0.mlp.up_proj.";
	float *unused;

	(void)state;
	for (int i = 0; i < 8; i++) {
		struct checkpoint *c = make_checkpoint(1, i >= 4);
		const char *says = "";

		switch (i) {
		case 0:
			strcpy(c->names[c->count - 1], "model.norm.bias");
			says = "tensor model.norm.weight is missing";
			break;
		case 1:
			add_floats(c, "", "model.layers.2.x", SP_F16, 0, 3, 0, 1, &unused);
			free(unused);
			says = "model.layers.2.x is not one that config.json calls for";
			break;
		case 2:
			tensor_of(c, norm)->dtype = SP_I16;
			says = "model.norm.weight is I16, not";
			break;
		case 3:
			tensor_of(c, norm)->rank = 2;
			tensor_of(c, norm)->shape[1] = 1;
			says = "model.norm.weight is not of shape [96]";
			break;
		case 4:
			tensor_of(c, qweight)->shape[0] /= 2;
			tensor_of(c, qweight)->shape[1] *= 2;
			says = "o_proj.qweight is not of shape [192, 12]";
			break;
		case 5:
			tensor_of(c, qweight)->dtype = SP_F32;
			says = "o_proj.qweight is F32, not I32";
			break;
		case 6:
			add_floats(c, up, "weight", SP_F16, INNER, HIDDEN, 0, 1, &unused);
			free(unused);
			says = "up_proj.weight is not one that";
			break;
		default:
			c->awq = 0;
			says = "q_proj.weight is missing";
		}
		write_checkpoint(c);
		expect_refused(SP_E_INVALID, says);
		free_checkpoint(c);
	}
}

/* A value that is not finite is found when its tensor is read; the frequencies of older checkpoints
 * are passed over. */
static void
test_values(void **state)
{
	static const char name[] = "model.layers.1.mlp.gate_proj.weight";
	struct checkpoint *c = make_checkpoint(1, 0);
	struct sp_weights *weights;
	struct sp_layer layer;
	uint16_t infinity = 0x7c00;
	float *unused;

	(void)state;
	add_floats(c, "", "model.layers.0.self_attn.rotary_emb.inv_freq", SP_F32, 0, DIM / 2, 1, 0,
	    &unused);
	free(unused);
	memcpy(bytes_of(tensor_of(c, name)) + 2 * INNER, &infinity, sizeof(infinity));
	write_checkpoint(c);
	ok(sp_weights_open(root, &weights, &err));
	ok(sp_weights_layer(weights, 0, &layer, &err));
	sp_layer_free(&layer);
	assert_int_equal(sp_weights_layer(weights, 1, &layer, &err), SP_E_INVALID);
	if (strstr(err.msg, name) == NULL || strstr(err.msg, "model.safetensors") == NULL)
		fail_msg("says %s", err.msg);
	sp_weights_close(&weights);
	free_checkpoint(c);
}

/* A tied checkpoint may hold a head that is the embedding, byte for byte. */
static void
test_tied_head(void **state)
{
	struct checkpoint *c = make_checkpoint(1, 0);
	struct sp_tensor *head = add_tensor(c, "", "lm_head.weight", SP_F32, VOCAB, HIDDEN);

	(void)state;
	memcpy(bytes_of(head), c->tensors[0].data, head->size);
	write_checkpoint(c);
	check_model(c);
	bytes_of(head)[head->size - 1] ^= 1;
	write_checkpoint(c);
	expect_refused(SP_E_INVALID, "lm_head.weight differs");
	free_checkpoint(c);
	c = make_checkpoint(0, 0);
	strcpy(c->names[c->count - 1], "lm_head.bias");
	write_checkpoint(c);
	expect_refused(SP_E_INVALID, "lm_head.weight is missing");
	free_checkpoint(c);
}

static void
test_no_files(void **state)
{
	struct checkpoint *c = make_checkpoint(1, 0);
	char path[256];

	(void)state;
	write_checkpoint(c);
	snprintf(path, sizeof(path), "%s/model.safetensors", root);
	assert_int_equal(truncate(path, 1000), 0);
	expect_refused(SP_E_INVALID, "model.safetensors");
	assert_int_equal(truncate(path, 0), 0);
	expect_refused(SP_E_INVALID, "too short");
	unlink(path);
	expect_refused(SP_E_NOT_FOUND, "model.safetensors");
	snprintf(path, sizeof(path), "%s/config.json", root);
	unlink(path);
	expect_refused(SP_E_NOT_FOUND, "config.json");
	free_checkpoint(c);
}

static int
set_up(void **state)
{
	(void)state;
	strcpy(root, "/tmp/sp-weights-XXXXXX");
	return mkdtemp(root) == NULL || sp_pool_open(2, &pool, &err) != SP_OK;
}

static int
tear_down(void **state)
{
	(void)state;
	sp_pool_close(&pool);
	return sp_file_remove_all(root, &err) != SP_OK;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_plain),
	    cmocka_unit_test(test_awq_values),
	    cmocka_unit_test(test_shards),
	    cmocka_unit_test(test_bad_index),
	    cmocka_unit_test(test_doubled),
	    cmocka_unit_test(test_set),
	    cmocka_unit_test(test_values),
	    cmocka_unit_test(test_tied_head),
	    cmocka_unit_test(test_no_files),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
