/* engine_arch.c -- each architecture: tiny random models and their logits as transformers computes
 * them (tests/vectors/make_arch.py); the same bits whatever the threads, parts and prefixes, layer
 * by layer from the files, and from 4-bit codes as from what they stand for. */
#include "../draw.h"
#include "base/file.h"
#include "engine/forward.h"
#include "engine/moe.h"
#include "engine/stream.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define T 300 /* positions */
#define EVERY 3
#define VOCAB 264

static struct sp_err err;
static struct sp_pool *pools[2]; /* 1 thread, 3 threads */

static const struct model {
	const char *name;
	enum sp_arch arch;
} models[] = {
    {"llama-llama3", SP_ARCH_LLAMA},
    {"llama-linear", SP_ARCH_LLAMA},
    {"mistral", SP_ARCH_MISTRAL},
    {"qwen2", SP_ARCH_QWEN2},
    {"qwen3", SP_ARCH_QWEN3},
    {"qwen3-moe", SP_ARCH_QWEN3_MOE},
    {"qwen3-moe-raw", SP_ARCH_QWEN3_MOE},
    {"mixtral", SP_ARCH_MIXTRAL},
};
#define MODELS (sizeof(models) / sizeof(models[0]))

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

/* What transformers computed. */
struct vectors {
	uint32_t ids[T], top1[T];
	float *logits; /* [T / EVERY][VOCAB], of positions 2, 5, … */
};

static void
read_ids(const struct sp_safetensors *file, const char *name, uint32_t out[T])
{
	const struct sp_tensor *t = sp_safetensors_find(file, name);
	int64_t value;

	assert_non_null(t);
	assert_int_equal(t->size, T * sizeof(value));
	for (size_t i = 0; i < T; i++) {
		memcpy(&value, t->data + 8 * i, 8);
		out[i] = (uint32_t)value;
	}
}

static struct vectors *
vectors_open(const char *name)
{
	struct vectors *v = calloc(1, sizeof(*v));
	struct sp_safetensors *file;
	const struct sp_tensor *logits;
	struct sp_map map;
	char path[128];

	snprintf(path, sizeof(path), "tests/vectors/arch/%s.safetensors", name);
	ok(sp_map_open(&map, path, &err));
	ok(sp_safetensors_parse(map.data, map.len, path, &file, &err));
	read_ids(file, "input_ids", v->ids);
	read_ids(file, "top1", v->top1);
	logits = sp_safetensors_find(file, "logits");
	assert_non_null(logits);
	assert_int_equal(logits->size, T / EVERY * VOCAB * sizeof(float));
	v->logits = malloc(logits->size);
	memcpy(v->logits, logits->data, logits->size);
	sp_safetensors_free(&file);
	sp_map_close(&map);
	return v;
}

static void
vectors_close(struct vectors *v)
{
	free(v->logits);
	free(v);
}

static struct sp_model *
open_model(const char *name, struct sp_pool *pool)
{
	struct sp_model *model;
	char path[128];

	snprintf(path, sizeof(path), "tests/fixtures/arch/%s", name);
	ok(sp_model_open(path, pool, &model, &err));
	return model;
}

/* Logits [T][VOCAB] of ids, the first `shared` tokens as a prefix, the others `part` at a time. */
static float *
feed(struct sp_model *model, const uint32_t *ids, size_t shared, size_t part)
{
	float *logits = calloc(T * VOCAB, sizeof(float));
	struct sp_context *prefix = NULL, *context;

	if (shared > 0) {
		ok(sp_context_new(model, NULL, shared, &prefix, &err));
		ok(sp_forward(
		    model, &(struct sp_feed){prefix, ids, shared, shared, logits}, 1, &err));
	}
	ok(sp_context_new(model, prefix, T - shared, &context, &err));
	for (size_t i = shared; i < T; i += part) {
		size_t n = T - i < part ? T - i : part;

		ok(sp_forward(
		    model, &(struct sp_feed){context, ids + i, n, n, logits + i * VOCAB}, 1, &err));
	}
	sp_context_free(&context);
	sp_context_free(&prefix);
	return logits;
}

static void
test_logits(void **state)
{
	(void)state;
	for (size_t i = 0; i < MODELS; i++) {
		struct vectors *v = vectors_open(models[i].name);
		struct sp_model *model = open_model(models[i].name, pools[0]);
		float *logits = feed(model, v->ids, 0, T);
		size_t same = 0;
		double worst = 0;

		assert_int_equal(sp_model_config(model)->arch, models[i].arch);
		for (size_t t = 0; t < T; t++)
			same += sp_forward_argmax(logits + t * VOCAB, VOCAB) == v->top1[t];
		for (size_t t = 0; t < T / EVERY; t++) {
			const float *ours = logits + (EVERY * t + EVERY - 1) * VOCAB;

			for (size_t k = 0; k < VOCAB; k++)
				worst =
				    fmax(worst, fabs((double)ours[k] - v->logits[t * VOCAB + k]));
		}
		print_message("%-14s largest difference %.1e, top-1 equal on %zu of %d\n",
		    models[i].name, worst, same, T);
		if (!(worst <= 1e-3))
			fail_msg("%s: logits differ by %g", models[i].name, worst);
		assert_int_equal(same, T);
		free(logits);
		sp_model_close(&model);
		vectors_close(v);
	}
}

static void
test_same_bits(void **state)
{
	static const struct {
		size_t shared, part, pool;
	} ways[] = {{0, T, 1}, {0, 1, 0}, {0, 7, 1}, {50, T, 0}, {97, 33, 1}, {290, 3, 0}};

	(void)state;
	for (size_t i = 0; i < MODELS; i++) {
		struct vectors *v = vectors_open(models[i].name);
		struct sp_model *one = open_model(models[i].name, pools[0]);
		struct sp_model *three = open_model(models[i].name, pools[1]);
		float *expected = feed(one, v->ids, 0, T);

		for (size_t k = 0; k < sizeof(ways) / sizeof(ways[0]); k++) {
			float *logits =
			    feed(ways[k].pool ? three : one, v->ids, ways[k].shared, ways[k].part);

			if (memcmp(logits, expected, T * VOCAB * sizeof(float)) != 0)
				fail_msg("%s: other bits after %zu tokens, %zu at a time",
				    models[i].name, ways[k].shared, ways[k].part);
			free(logits);
		}
		free(expected);
		sp_model_close(&one);
		sp_model_close(&three);
		vectors_close(v);
	}
}

/* --- layer by layer -----------------------------------------------------------------------------
 */

static enum sp_code
take_logits(void *arg, size_t first, size_t rows, const float *logits, struct sp_err *e)
{
	(void)e;
	memcpy((float *)arg + first * VOCAB, logits, rows * VOCAB * sizeof(float));
	return SP_OK;
}

static void
test_stream(void **state)
{
	(void)state;
	for (size_t i = 0; i < MODELS; i++) {
		struct vectors *v = vectors_open(models[i].name);
		struct sp_model *model = open_model(models[i].name, pools[0]);
		float *expected = feed(model, v->ids, 0, T),
		      *logits = calloc(T * VOCAB, sizeof(float));
		struct sp_weights *weights;
		struct sp_stream *stream;
		struct sp_spill h;
		char path[128];

		snprintf(path, sizeof(path), "tests/fixtures/arch/%s", models[i].name);
		ok(sp_weights_open(path, &weights, &err));
		ok(sp_stream_open(weights, T, pools[1], &stream, &err));
		ok(sp_spill_open(&h, (size_t)T * 64, SIZE_MAX, "/tmp", &err));
		ok(sp_stream_embed(stream, v->ids, T, h.values, &err));
		ok(sp_stream_run(stream, &h, 1, T, NULL, NULL, &err));
		ok(sp_stream_logits(stream, h.values, T, take_logits, logits, &err));
		if (memcmp(logits, expected, T * VOCAB * sizeof(float)) != 0)
			fail_msg("%s: other bits layer by layer", models[i].name);
		sp_spill_close(&h);
		sp_stream_close(&stream);
		sp_weights_close(&weights);
		free(expected);
		free(logits);
		sp_model_close(&model);
		vectors_close(v);
	}
}

/* --- 4-bit codes --------------------------------------------------------------------------------
 */

#define GROUP 32
#define TENSORS_MAX 512

/* A checkpoint to be written. */
struct copy {
	struct sp_tensor tensors[TENSORS_MAX];
	char names[TENSORS_MAX][96];
	uint8_t *data[TENSORS_MAX];
	size_t count;
};

static uint8_t *
copy_add(struct copy *c, const char *name, enum sp_dtype dtype, size_t rows, size_t columns)
{
	struct sp_tensor *t = &c->tensors[c->count];

	assert_true(c->count < TENSORS_MAX);
	snprintf(c->names[c->count], sizeof(c->names[0]), "%s", name);
	*t = (struct sp_tensor){
	    .name = c->names[c->count], .dtype = dtype, .rank = 2, .shape = {rows, columns}};
	ok(sp_safetensors_size(t, &t->size, &err));
	t->data = c->data[c->count] = calloc(1, t->size);
	return c->data[c->count++];
}

static void
copy_write(const struct copy *c, const char *dir, const char *config)
{
	char path[160];
	FILE *out;

	ok(sp_file_mkdirs(dir, 0755, &err));
	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	assert_non_null(out = fopen(path, "w"));
	ok(sp_safetensors_write(fileno(out), c->tensors, c->count, &err));
	fclose(out);
	snprintf(path, sizeof(path), "%s/config.json", dir);
	ok(sp_file_write(path, 0644, config, strlen(config), &err));
}

static void
copy_free(struct copy *c)
{
	for (size_t i = 0; i < c->count; i++)
		free(c->data[i]);
	free(c);
}

static uint64_t seed;

static uint64_t
draw(void)
{
	return draw_next(&seed);
}

static void
set_nibble(uint8_t *words, size_t row, size_t column, size_t columns, unsigned value)
{
	static const unsigned nibble_of[8] = {0, 4, 1, 5, 2, 6, 3, 7}; /* of column 8c + i */
	size_t word = row * (columns / 8) + column / 8;
	uint32_t bits;

	memcpy(&bits, words + 4 * word, 4);
	bits |= value << (4 * nibble_of[column % 8]);
	memcpy(words + 4 * word, &bits, 4);
}

/* Random codes in place of the weight [out][in] of that name, and what they stand for. */
static void
add_codes(struct copy *codes, struct copy *plain, const char *name, size_t out, size_t in)
{
	static const char weight[] = ".weight";
	int stem = (int)(strlen(name) - strlen(weight));
	char part[96];
	uint8_t *q, *z, *s, *w;

	snprintf(part, sizeof(part), "%.*s.qweight", stem, name);
	q = copy_add(codes, part, SP_I32, in, out / 8);
	snprintf(part, sizeof(part), "%.*s.qzeros", stem, name);
	z = copy_add(codes, part, SP_I32, in / GROUP, out / 8);
	snprintf(part, sizeof(part), "%.*s.scales", stem, name);
	s = copy_add(codes, part, SP_F16, in / GROUP, out);
	w = copy_add(plain, name, SP_F32, out, in);
	for (size_t k = 0; k < in; k += GROUP) {
		for (size_t o = 0; o < out; o++) {
			unsigned zero = (unsigned)(draw() % 16);
			float scale = 0.02f + (float)(draw() % 64) / 1024, value;

			set_nibble(z, k / GROUP, o, out, zero);
			sp_dtype_from_f32(SP_F16, &scale, s + 2 * (k / GROUP * out + o), 1);
			sp_dtype_to_f32(SP_F16, s + 2 * (k / GROUP * out + o), &scale, 1);
			for (size_t i = k; i < k + GROUP; i++) {
				unsigned code = (unsigned)(draw() % 16);

				set_nibble(q, i, o, out, code);
				value = ((float)code - (float)zero) * scale;
				memcpy(w + 4 * (o * in + i), &value, 4);
			}
		}
	}
}

static int
is_quantized(const struct sp_tensor *t)
{
	size_t len = strlen(t->name), router = strlen(".gate.weight");

	return strstr(t->name, ".layers.") != NULL && t->rank == 2 &&
	       (len < router || strcmp(t->name + len - router, ".gate.weight") != 0);
}

/* The model in two checkpoints under root, a and b. */
static void
write_both(const char *name, const char *root)
{
	struct copy *codes = calloc(1, sizeof(*codes)), *plain = calloc(1, sizeof(*plain));
	struct sp_weights *weights;
	char path[128], config[4096];
	uint8_t *text;
	size_t len;

	snprintf(path, sizeof(path), "tests/fixtures/arch/%s", name);
	ok(sp_weights_open(path, &weights, &err));
	for (size_t i = 0; i < sp_weights_count(weights); i++) {
		const struct sp_tensor *t = sp_weights_at(weights, i);

		if (is_quantized(t)) {
			add_codes(codes, plain, t->name, t->shape[0], t->shape[1]);
			continue;
		}
		memcpy(copy_add(codes, t->name, SP_U8, 1, t->size), t->data, t->size);
		memcpy(copy_add(plain, t->name, SP_U8, 1, t->size), t->data, t->size);
		for (size_t k = 0; k < 2; k++) {
			struct copy *c = k == 0 ? codes : plain;
			const uint8_t *data = c->data[c->count - 1];

			c->tensors[c->count - 1] = *t;
			c->tensors[c->count - 1].data = data;
			c->tensors[c->count - 1].name = c->names[c->count - 1];
		}
	}
	sp_weights_close(&weights);
	snprintf(path, sizeof(path), "tests/fixtures/arch/%s/config.json", name);
	ok(sp_file_read(path, sizeof(config) / 2, &text, &len, &err));
	snprintf(path, sizeof(path), "%s/b", root);
	copy_write(plain, path, (char *)text);
	snprintf(config, sizeof(config),
	    "{\"quantization_config\":{\"quant_method\":\"awq\",\"zero_point\":true,\"bits\":4,"
	    "\"group_size\":%d,\"version\":\"gemm\"},%s",
	    GROUP, (char *)text + 1);
	snprintf(path, sizeof(path), "%s/a", root);
	copy_write(codes, path, config);
	free(text);
	copy_free(codes);
	copy_free(plain);
}

static void
test_codes(void **state)
{
	char root[] = "/tmp/sp-arch-XXXXXX", path[64];

	(void)state;
	assert_non_null(mkdtemp(root));
	for (size_t i = 0; i < MODELS; i++) {
		struct vectors *v = vectors_open(models[i].name);
		float *logits[2];

		seed = i;
		write_both(models[i].name, root);
		for (size_t k = 0; k < 2; k++) {
			struct sp_model *model;

			snprintf(path, sizeof(path), "%s/%c", root, "ab"[k]);
			ok(sp_model_open(path, pools[k], &model, &err));
			logits[k] = feed(model, v->ids, 0, T);
			sp_model_close(&model);
		}
		assert_true(isfinite(logits[0][T * VOCAB - 1]));
		if (memcmp(logits[0], logits[1], T * VOCAB * sizeof(float)) != 0)
			fail_msg("%s: codes give other bits than their values", models[i].name);
		free(logits[0]);
		free(logits[1]);
		vectors_close(v);
	}
	ok(sp_file_remove_all(root, &err));
}

/* --- routing -------------------------------------------------------------------------------------
 */

/* Equal probabilities: the first experts win; tokens rise within an expert. */
static void
test_route(void **state)
{
	float w[] = {0, 0, 1, -1, 0, 0, 0, 0}, x[] = {3, -1, -2, 5, 0, 1}; /* [4][2], [3][2] */
	struct sp_layer layer = {.n_experts = 4, .router = {.w = w, .out = 4, .in = 2}};
	struct sp_layer_env env = {
	    .config = {.hidden = 2, .experts = 4, .experts_per_token = 2, .moe_normalized = 1},
	    .pool = pools[1],
	};
	struct sp_moe_route route;
	float rows[6], out[6] = {0};

	(void)state;
	ok(sp_linear_pack(&layer.router, pools[1], &err));
	ok(sp_moe_route_open(&route, &env.config, 3, &err));
	sp_moe_route(&env, &layer, x, 3, &route);
	/* products of expert 1: 4, -7, -1; of the others 0 */
	assert_int_equal(route.experts[0], 1);
	assert_int_equal(route.experts[1], 0);
	assert_int_equal(route.experts[2], 0);
	assert_int_equal(route.experts[3], 2);
	assert_int_equal(route.experts[4], 0);
	assert_int_equal(route.experts[5], 2);
	assert_int_equal(sp_moe_count(&route, 0), 3);
	assert_int_equal(sp_moe_count(&route, 1), 1);
	assert_int_equal(sp_moe_count(&route, 2), 2);
	assert_int_equal(sp_moe_count(&route, 3), 0);
	assert_true(route.weights[2] == 0.5f && route.weights[3] == 0.5f);
	sp_moe_gather(&route, 2, x, 2, rows);
	assert_memory_equal(rows, x + 2, 4 * sizeof(float)); /* tokens 1 and 2 */
	sp_moe_scatter(&route, 2, rows, 2, out);
	assert_true(out[0] == 0 && out[2] == -1 && out[3] == 2.5f && out[5] == 0.5f);
	sp_moe_route_close(&route);
	free(layer.router.packed);
}

#define EXPERTS ((size_t)1024) /* as many as a config.json may have, and a token go to */
#define TOKENS ((size_t)1024)

/* A token that goes to all experts finds them at once: what looked for each among those found
 * before took the minutes that a test has. Expert e's product is e mod 7; all of NaN are equal. */
static void
test_route_all(void **state)
{
	struct sp_layer layer = {.n_experts = EXPERTS, .router = {.out = EXPERTS, .in = 1}};
	struct sp_layer_env env = {
	    .config = {.hidden = 1, .experts = EXPERTS, .experts_per_token = EXPERTS},
	    .pool = pools[1],
	};
	float *w = malloc(EXPERTS * sizeof(*w)), *x = malloc(TOKENS * sizeof(*x));
	struct sp_moe_route route;

	(void)state;
	assert_true(w != NULL && x != NULL);
	for (size_t e = 0; e < EXPERTS; e++)
		w[e] = (float)(e % 7);
	for (size_t t = 0; t < TOKENS; t++)
		x[t] = 1.0f;
	x[1] = NAN;
	layer.router.w = w;
	ok(sp_linear_pack(&layer.router, pools[1], &err));
	ok(sp_moe_route_open(&route, &env.config, TOKENS, &err));
	sp_moe_route(&env, &layer, x, TOKENS, &route);
	for (size_t e = 0; e < EXPERTS; e++) {
		assert_int_equal(sp_moe_count(&route, e), TOKENS);
		assert_int_equal(route.experts[EXPERTS + e], e);
	}
	for (size_t i = 1; i < EXPERTS; i++) {
		uint32_t before = route.experts[i - 1], e = route.experts[i];

		assert_true(before % 7 > e % 7 || (before % 7 == e % 7 && before < e));
	}
	sp_moe_route_close(&route);
	free(layer.router.packed);
	free(w);
	free(x);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_logits),
	    cmocka_unit_test(test_same_bits),
	    cmocka_unit_test(test_stream),
	    cmocka_unit_test(test_codes),
	    cmocka_unit_test(test_route),
	    cmocka_unit_test(test_route_all),
	};
	int failed;

	if (sp_pool_open(1, &pools[0], &err) || sp_pool_open(3, &pools[1], &err))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	sp_pool_close(&pools[0]);
	sp_pool_close(&pools[1]);
	return failed;
}
