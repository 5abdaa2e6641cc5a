/* engine_arch.c -- each architecture: tiny random models and their logits as transformers computes
 * them (tests/vectors/make_arch.py); the same bits whatever the threads, parts and prefixes. */
#include "base/file.h"
#include "engine/forward.h"
#include "engine/moe.h"

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

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_logits),
	    cmocka_unit_test(test_same_bits),
	};
	int failed;

	if (sp_pool_open(1, &pools[0], &err) || sp_pool_open(3, &pools[1], &err))
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	sp_pool_close(&pools[0]);
	sp_pool_close(&pools[1]);
	return failed;
}
