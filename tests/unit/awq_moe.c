/*
 * awq_moe.c -- mixtures of experts become 4-bit: tokens go where they went, experts are calibrated
 * by those they get, and one that gets none is left in peace; the plan's names; whole checkpoints.
 */
#include "../draw.h"
#include "awq/mix.h"
#include "awq/plus.h"
#include "awq/quantize.h"

#include "base/file.h"
#include "engine/forward.h"
#include "eval/kld.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ARCH "tests/fixtures/arch/"
#define HIDDEN ((size_t)64)
#define LEN ((size_t)200)

static struct sp_err err;
static char top[] = "/tmp/sp-moe-XXXXXX"; /* all files of the tests */
static struct sp_pool *pool;
static const struct sp_grid grid = {.group = 32};

static void
ok(enum sp_code rc)
{
	if (rc != SP_OK)
		fail_msg("%s: %s", sp_err_word(rc), err.msg);
}

/* --- one layer ---------------------------------------------------------------------------------
 */

/* A layer with experts as it is and as it is quantized, and what goes through it. */
struct one {
	struct sp_weights *weights;
	struct sp_layer_env env;
	struct sp_layer plain, layer; /* layer becomes 4-bit */
	struct sp_block_inputs inputs;
	struct sp_block block;
	float *exact, *runs;
};

static void
load_layer(const struct one *one, struct sp_layer *layer)
{
	ok(sp_weights_layer(one->weights, 1, layer, &err));
	for (size_t i = 0; i < sp_layer_linears(&one->env.config, 1); i++) {
		struct sp_linear *linear = sp_layer_linear(layer, i);

		ok(sp_round_half(linear->w, linear->out * linear->in, &err));
	}
	ok(sp_round_half(layer->router.w, layer->router.out * layer->router.in, &err));
	ok(sp_layer_pack(layer, pool, &err));
}

/* Some channels are much larger than others, as in models that were trained. */
static float *
hidden_new(size_t n)
{
	float *h = malloc(n * HIDDEN * sizeof(*h));
	uint64_t state = 7;

	assert_non_null(h);
	for (size_t i = 0; i < n * HIDDEN; i++)
		h[i] = (float)((double)(draw_next(&state) >> 11) * 0x1p-52 - 1.0) *
		       (i % HIDDEN % 13 == 0 ? 12.0f : 1.0f);
	return h;
}

static void
open_one(struct one *one, const char *dir, int plus, size_t len)
{
	const struct sp_block_plan plan = {.grid = grid};
	struct sp_spill exact;

	*one = (struct one){0};
	ok(sp_weights_open(dir, &one->weights, &err));
	ok(sp_layer_env_open(&one->env, sp_weights_config(one->weights), len, pool, &err));
	load_layer(one, &one->plain);
	load_layer(one, &one->layer);
	one->exact = hidden_new(len);
	one->runs = hidden_new(len);
	exact = (struct sp_spill){.values = one->exact, .count = len * HIDDEN};
	ok(sp_block_collect(&one->env, &one->plain, &exact, 1, len, NULL, &one->inputs, &err));
	if (plus) {
		const struct sp_spill runs = {.values = one->runs, .count = len * HIDDEN};

		free(one->exact);
		one->exact = exact.values = hidden_new(len);
		ok(sp_plus_quantize(
		    &one->env, &one->layer, &exact, &runs, 1, len, &plan, NULL, &one->block, &err));
	} else {
		ok(sp_block_quantize(
		    &one->env, &one->layer, &one->inputs, &plan, &one->block, &err));
	}
}

static void
close_one(struct one *one)
{
	sp_block_free(&one->block);
	sp_block_inputs_free(&one->inputs);
	sp_layer_free(&one->plain);
	sp_layer_free(&one->layer);
	sp_layer_env_close(&one->env);
	sp_weights_close(&one->weights);
	free(one->exact);
	free(one->runs);
}

/* The same residual stream, by the norm and router of either layer: the same probabilities. */
static void
same_routes(const struct one *one, size_t n)
{
	const struct sp_layer *layers[2] = {&one->plain, &one->layer};
	float *h = hidden_new(n), *x = malloc(n * HIDDEN * sizeof(*x));
	struct sp_moe_route routes[2];
	size_t size;

	for (size_t i = 0; i < 2; i++) {
		ok(sp_moe_route_open(&routes[i], &one->env.config, n, &err));
		sp_kernels_rmsnorm(
		    pool, h, layers[i]->post_norm, one->env.config.rms_norm_eps, n, HIDDEN, x);
		sp_moe_route(&one->env, layers[i], x, n, &routes[i]);
	}
	size = n * routes[0].n_experts * sizeof(*routes[0].probs);
	assert_memory_equal(routes[0].probs, routes[1].probs, size);
	assert_memory_equal(
	    routes[0].experts, routes[1].experts, n * routes[0].k * sizeof(*routes[0].experts));
	for (size_t i = 0; i < 2; i++)
		sp_moe_route_close(&routes[i]);
	free(h);
	free(x);
}

static int
is_half(float value)
{
	float half = value;

	return sp_round_half(&half, 1, &err) == SP_OK && half == value;
}

static void
check_layer(const char *dir, int plus)
{
	const float *scales;
	struct one one;
	size_t tokens = 0, moved = 0;

	open_one(&one, dir, plus, LEN);
	scales = sp_block_scales(&one.block, SP_LAYER_GATE);
	print_message("%s: attention %.4f -> %.4f, experts %.4f -> %.4f\n", dir,
	    one.block.attn_before, one.block.attn_error, one.block.mlp_before, one.block.mlp_error);
	assert_true(one.block.attn_error < one.block.attn_before);
	assert_true(one.block.mlp_error < one.block.mlp_before);
	for (size_t i = 0; i < HIDDEN; i++) {
		int exponent;

		moved += scales[i] != 1.0f;
		assert_true(frexpf(scales[i], &exponent) == 0.5f);
		assert_true(is_half(one.layer.post_norm[i]));
		for (size_t e = 0; e < one.layer.n_experts; e++)
			assert_true(is_half(one.layer.router.w[e * HIDDEN + i]));
	}
	assert_true(moved > 0); /* or the router would not have been at risk */
	same_routes(&one, LEN);
	assert_int_equal(one.block.n_experts, one.layer.n_experts);
	for (size_t e = 0; e < one.block.n_experts; e++) {
		tokens += one.block.experts[e].tokens;
		if (!plus) /* in the exact model */
			assert_int_equal(
			    one.block.experts[e].tokens, sp_moe_count(&one.inputs.route, e));
	}
	assert_int_equal(tokens, LEN * one.env.config.experts_per_token);
	close_one(&one);
}

static void
test_layers(void **state)
{
	(void)state;
	for (int plus = 0; plus < 2; plus++) {
		check_layer(ARCH "mixtral", plus);
		check_layer(ARCH "qwen3-moe", plus);
		check_layer(ARCH "qwen3-moe-raw", plus);
	}
}

/* Root mean square of how far a linear layer's weights are from those it should have, which are
 * plain's times the scales, divided by their size. */
static double
moved(const struct sp_codes *codes, const struct sp_linear *plain, const float *scales)
{
	float *w = malloc(codes->out * codes->in * sizeof(*w));
	double sum = 0, size = 0;

	sp_round_decode(codes, w);
	for (size_t i = 0; i < codes->out * codes->in; i++) {
		double want = plain->w[i] * scales[i % codes->in];

		sum += (want - (double)w[i]) * (want - (double)w[i]);
		size += want * want;
	}
	free(w);
	return sqrt(sum / size);
}

/* What sp_round_codes makes of plain's weights times the scales. */
static double
nearest(const struct sp_linear *plain, const float *scales, struct sp_codes *codes)
{
	size_t count = plain->out * plain->in;
	float *w = malloc(count * sizeof(*w));

	for (size_t i = 0; i < count; i++)
		w[i] = plain->w[i] * scales[i % plain->in];
	ok(sp_round_codes(w, plain->out, plain->in, grid, codes, &err));
	free(w);
	return moved(codes, plain, scales);
}

/* Three tokens for eight experts: two at least get none, and are rounded to nearest; those that get
 * one or two are not bent to these. */
static void
check_idle(int plus)
{
	const float *shared;
	struct one one;
	size_t idle = 0;

	open_one(&one, ARCH "qwen3-moe", plus, 3);
	shared = sp_block_scales(&one.block, SP_LAYER_GATE);
	for (size_t e = 0; e < one.block.n_experts; e++) {
		const struct sp_block *expert = &one.block.experts[e];
		const float *own = expert->groups[0].scales;

		for (size_t i = 0; i < expert->groups[0].in && expert->tokens == 0; i++)
			assert_true(own[i] == 1.0f);
		idle += expert->tokens == 0;
		for (size_t k = 0; k < 3; k++) {
			const struct sp_codes *codes =
			    sp_block_codes(&one.block, SP_LAYER_GATE + 3 * e + k);
			const struct sp_linear *plain =
			    sp_layer_linear(&one.plain, SP_LAYER_GATE + 3 * e + k);
			const float *scales = k == 2 ? own : shared;
			struct sp_codes simple;
			double least = nearest(plain, scales, &simple);

			if (expert->tokens == 0) {
				assert_memory_equal(
				    codes->codes, simple.codes, codes->out * codes->in);
				assert_memory_equal(codes->scales, simple.scales,
				    codes->out * codes->in / grid.group * 2);
			} else if (k != 1) { /* up's rows are divided by own, too */
				assert_true(moved(codes, plain, scales) < 2 * least);
			}
			sp_round_free(&simple);
		}
	}
	assert_true(idle >= 2);
	same_routes(&one, 3);
	close_one(&one);
}

static void
test_idle(void **state)
{
	(void)state;
	check_idle(0);
	check_idle(1);
}

/* Gate's weights are fp16 as they are, but not by the scales that a norm like this asks for: those
 * are no choice, and the layer is quantized by others. */
static void
check_huge(size_t index)
{
	const struct sp_block_plan plan = {.grid = grid};
	const struct sp_search_result *result;
	struct one one = {0};
	struct sp_layer *layer = &one.layer;
	struct sp_spill exact, runs;
	size_t infinite = 0;

	ok(sp_weights_open(ARCH "qwen3-moe", &one.weights, &err));
	ok(sp_layer_env_open(&one.env, sp_weights_config(one.weights), LEN, pool, &err));
	ok(sp_weights_layer(one.weights, index, layer, &err));
	for (size_t i = 0; i < HIDDEN; i++)
		layer->post_norm[i] = i % 16 == 0 ? 1000.0f : 0.01f;
	for (size_t i = SP_LAYER_GATE; i < sp_layer_linears(&one.env.config, index); i += 3) {
		struct sp_linear *gate = sp_layer_linear(layer, i);

		for (size_t k = 0; k < gate->out * gate->in; k++)
			gate->w[k] = k % 2 == 0 ? 20000.0f : -20000.0f;
	}
	for (size_t i = 0; i < sp_layer_linears(&one.env.config, index); i++) {
		struct sp_linear *linear = sp_layer_linear(layer, i);

		ok(sp_round_half(linear->w, linear->out * linear->in, &err));
	}
	ok(sp_round_half(layer->post_norm, HIDDEN, &err));
	ok(sp_layer_pack(layer, pool, &err));
	one.exact = hidden_new(LEN);
	one.runs = hidden_new(LEN);
	exact = (struct sp_spill){.values = one.exact, .count = LEN * HIDDEN};
	runs = (struct sp_spill){.values = one.runs, .count = LEN * HIDDEN};
	ok(sp_plus_quantize(&one.env, layer, &exact, &runs, 1, LEN, &plan, NULL, &one.block, &err));
	result = &one.block.groups[2].result;
	assert_string_equal(one.block.groups[2].prev, "post_attention_layernorm");
	for (size_t k = 0; k < result->count; k++)
		infinite += isinf(result->losses[k]) != 0;
	assert_true(infinite > 0 && infinite < result->count);
	assert_true(isfinite(result->losses[result->best]));
	close_one(&one);
}

static void
test_huge(void **state)
{
	(void)state;
	check_huge(0); /* dense */
	check_huge(1);
}

/* A channel whose scale fp16 could not undo keeps a smaller one. */
static void
test_exact(void **state)
{
	struct sp_layer layer = {.router = {.out = 2, .in = 5}};
	float norm[5] = {1.0f, 1.0f, 0x1.ffcp-14f, 0.0f, 1.0f};
	float router[10] = {1.0f, 0.5f, 1.0f, 1.0f, 60000.0f, -3.0f, 1.0f, 0.0f, 1.0f, 1.0f};
	float scales[5] = {3.0f, 0.2f, 16.0f, 4.0f, 8.0f};
	/* 0x1.ffcp-14 has no bit to lose; 60000 times 2 is no fp16 */
	static const float expected[5] = {4.0f, 0.25f, 1.0f, 4.0f, 1.0f};

	(void)state;
	layer.post_norm = norm;
	layer.router.w = router;
	sp_mix_exact(&layer, scales);
	for (size_t i = 0; i < 5; i++)
		assert_true(scales[i] == expected[i]);
}

/* --- the plan ----------------------------------------------------------------------------------
 */

static struct sp_model_config
config_of(const char *dir)
{
	struct sp_model_config config;
	char path[256];
	uint8_t *data;
	size_t len;

	snprintf(path, sizeof(path), "%s/config.json", dir);
	ok(sp_file_read(path, 1 << 20, &data, &len, &err));
	ok(sp_config_parse(data, len, &config, &err));
	free(data);
	return config;
}

static enum sp_code
plan_of(const struct sp_model_config *config, const char *skip, enum sp_plan_fallback fallback,
    struct sp_plan *plan)
{
	return sp_plan_make(config, grid, &skip, skip != NULL, fallback, plan, &err);
}

static void
test_plan(void **state)
{
	struct sp_model_config mixtral = config_of(ARCH "mixtral"),
			       mixed = config_of(ARCH "qwen3-moe");
	struct sp_plan plan;

	(void)state;
	ok(plan_of(&mixtral, NULL, SP_PLAN_REFUSE, &plan));
	assert_int_equal(plan.skip_count, 1);
	assert_string_equal(plan.skip[0], "block_sparse_moe.gate");
	ok(plan_of(&mixtral, "gate", SP_PLAN_REFUSE, &plan)); /* AutoAWQ's own word for it */
	assert_int_equal(plan.skip_count, 1);
	assert_int_equal(sp_plan_layer(&plan, &mixtral, 0).skip[SP_LAYER_GATE], 0);
	ok(plan_of(&mixtral, "block_sparse_moe", SP_PLAN_REFUSE, &plan));
	assert_int_equal(sp_plan_layer(&plan, &mixtral, 0).skip[SP_LAYER_DOWN], 1);
	assert_int_equal(sp_plan_layer(&plan, &mixtral, 0).skip[SP_LAYER_O], 0);
	assert_int_equal(plan_of(&mixtral, "experts.2.", SP_PLAN_REFUSE, &plan), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "block_sparse_moe.experts.2.w1"));
	assert_int_equal(plan_of(&mixtral, "w2", SP_PLAN_REFUSE, &plan), SP_E_INVALID);

	/* layer 0 is dense: "mlp.gate" would be its gate_proj, too */
	ok(plan_of(&mixed, NULL, SP_PLAN_REFUSE, &plan));
	assert_int_equal(plan.skip_count, 1);
	assert_string_equal(plan.skip[0], "layers.1.mlp.gate");
	assert_int_equal(sp_plan_layer(&plan, &mixed, 0).skip[SP_LAYER_GATE], 0);
	assert_int_equal(plan_of(&mixed, "down_proj", SP_PLAN_REFUSE, &plan), SP_E_INVALID);
	ok(plan_of(&mixed, "mlp.down_proj", SP_PLAN_REFUSE, &plan)); /* the dense layer's alone */
	assert_int_equal(sp_plan_layer(&plan, &mixed, 0).skip[SP_LAYER_DOWN], 1);
	assert_int_equal(sp_plan_layer(&plan, &mixed, 1).skip[SP_LAYER_DOWN], 0);

	mixed.moe_intermediate = 40; /* of no group */
	assert_int_equal(plan_of(&mixed, NULL, SP_PLAN_REFUSE, &plan), SP_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "mlp.experts.0.down_proj"));
	ok(plan_of(&mixed, NULL, SP_PLAN_LEAVE, &plan));
	assert_int_equal(plan.skip_count, 2);
	assert_int_equal(plan.fell, 1);
	assert_string_equal(plan.skip[1], "mlp.experts");
	assert_int_equal(sp_plan_layer(&plan, &mixed, 0).skip[SP_LAYER_UP], 0);
	assert_int_equal(sp_plan_layer(&plan, &mixed, 1).skip[SP_LAYER_UP], 1);
}

/* --- whole checkpoints -------------------------------------------------------------------------
 */

static const char *
at(const char *name)
{
	static char paths[16][256];
	static size_t next;
	char *path = paths[next++ % 16];

	snprintf(path, sizeof(paths[0]), "%s/%s", top, name);
	return path;
}

static void
copy(const char *from_dir, const char *to_dir, const char *name)
{
	char from[512], to[512];
	uint8_t *data;
	size_t len;

	snprintf(from, sizeof(from), "%s/%s", from_dir, name);
	snprintf(to, sizeof(to), "%s/%s", to_dir, name);
	ok(sp_file_read(from, 64 << 20, &data, &len, &err));
	ok(sp_file_write(to, 0644, data, len, &err));
	free(data);
}

/* A token for each byte, by GPT-2's letters: printable bytes stand for themselves, the others for
 * U+0100 and on. */
static void
write_tokenizer(const char *dir)
{
	json_t *vocab = json_object(), *root;
	char path[512], *text;
	unsigned next = 0x100;

	for (unsigned c = 0; c < 256; c++) {
		int plain = (c > 0x20 && c < 0x7f) || (c > 0xa0 && c != 0xad);
		unsigned letter = plain ? c : next++;
		char utf8[3] = {(char)letter, '\0', '\0'};

		if (letter >= 0x80) {
			utf8[0] = (char)(0xc0 | letter >> 6);
			utf8[1] = (char)(0x80 | (letter & 0x3f));
		}
		json_object_set_new(vocab, utf8, json_integer(c));
	}
	root = json_pack("{s:s, s:[], s:n, s:{s:s, s:b, s:b, s:b}, s:n, s:{s:s, s:b, s:b, s:b}, "
			 "s:{s:s, s:o, s:[], s:b, s:b}}",
	    "version", "1.0", "added_tokens", "normalizer", "pre_tokenizer", "type", "ByteLevel",
	    "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1, "post_processor", "decoder",
	    "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 1, "use_regex", 1, "model",
	    "type", "BPE", "vocab", vocab, "merges", "byte_fallback", 0, "ignore_merges", 0);
	assert_non_null(root);
	text = json_dumps(root, 0);
	snprintf(path, sizeof(path), "%s/tokenizer.json", dir);
	ok(sp_file_write(path, 0644, text, strlen(text), &err));
	free(text);
	json_decref(root);
}

static const char letters[33] = "etaoin shrdlucmfwypvbgkqjxz.0123";
static char calibration[1 << 14];

static struct sp_quantize
spec(const char *source, const char *work, const char *out)
{
	return (struct sp_quantize){.source = at(source),
	    .work = at(work),
	    .out = at(out),
	    .calibration = (const uint8_t *)calibration,
	    .calibration_size = strlen(calibration),
	    .group_size = 32,
	    .samples = 6,
	    .sequence = 256,
	    .pool = pool};
}

static int
setup(void **state)
{
	static const char *const names[] = {"mixtral", "qwen3-moe"};
	uint64_t draw = 3;
	char *to = calibration;

	(void)state;
	assert_non_null(mkdtemp(top));
	ok(sp_pool_open(2, &pool, &err));
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		char from[256];

		snprintf(from, sizeof(from), ARCH "%s", names[i]);
		ok(sp_file_mkdirs(at(names[i]), 0755, &err));
		copy(from, at(names[i]), "config.json");
		write_tokenizer(at(names[i]));
	}
	copy(ARCH "qwen3-moe", at("qwen3-moe"), "model.safetensors");
	copy(ARCH "mixtral", at("mixtral"), "model.safetensors.index.json");
	copy(ARCH "mixtral", at("mixtral"), "model-00001-of-00003.safetensors");
	copy(ARCH "mixtral", at("mixtral"), "model-00002-of-00003.safetensors");
	copy(ARCH "mixtral", at("mixtral"), "model-00003-of-00003.safetensors");
	for (size_t line = 0; line < 8; line++) {
		to += sprintf(to, "{\"text\": \"");
		for (size_t i = 0; i < 200; i++)
			*to++ = letters[draw_next(&draw) % 32];
		to += sprintf(to, "\"}\n");
	}
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	sp_pool_close(&pool);
	ok(sp_file_remove_all(top, &err));
	return 0;
}

static json_t *
run(const struct sp_quantize *quantize)
{
	json_t *report;

	ok(sp_quantize_run(quantize, &report, &err));
	return report;
}

#define VOCAB ((size_t)264)

static float *
logits_of(const char *dir)
{
	float *logits = malloc(LEN * VOCAB * sizeof(*logits));
	uint32_t ids[LEN];
	uint64_t draw = 11;
	struct sp_model *model;
	struct sp_feed feed = {.tokens = ids, .count = LEN, .n_logits = LEN, .logits = logits};

	for (size_t i = 0; i < LEN; i++)
		ids[i] = (uint32_t)letters[draw_next(&draw) % 32];
	ok(sp_model_open(dir, pool, &model, &err));
	ok(sp_context_new(model, NULL, LEN, &feed.context, &err));
	ok(sp_forward(model, &feed, 1, &err));
	sp_context_free(&feed.context);
	sp_model_close(&model);
	return logits;
}

/*
 * How far out is from its source: 0 is not at all, 1 as far as what the source says of one token
 * from what it says of the next. These models are random and guess, and what comes close to a tie
 * between two experts goes to the other one, so it takes little to change what they say.
 */
static double
distance(const char *source, const char *out)
{
	float *a = logits_of(at(source)), *b = logits_of(at(out));
	struct sp_kld kld = {0}, unrelated = {0};

	sp_kld_add(&kld, a, b, LEN, VOCAB);
	sp_kld_add(&unrelated, a, a + VOCAB, LEN - 1, VOCAB);
	free(a);
	free(b);
	print_message("mean KL divergence %.4f, of unrelated tokens %.4f\n", sp_kld_mean(&kld),
	    sp_kld_mean(&unrelated));
	return sp_kld_mean(&kld) / sp_kld_mean(&unrelated);
}

/* As vLLM's loader of experts wants it: FusedMoE.make_expert_params_mapping
 * (vllm/model_executor/layers/fused_moe/layer.py) maps "experts.E.w1." (or gate_proj) and the like
 * to its fused parameter, and AWQMoEMethod (layers/quantization/awq_marlin.py) gives each the shape
 * of AutoAWQ's linear layer. */
static void
check_tensor(const struct sp_weights *weights, const char *name, enum sp_dtype dtype, uint64_t rows,
    uint64_t columns)
{
	const struct sp_tensor *tensor = sp_weights_find(weights, name);

	if (tensor == NULL)
		fail_msg("%s is missing", name);
	assert_int_equal(tensor->dtype, dtype);
	assert_int_equal(tensor->rank, 2);
	assert_int_equal(tensor->shape[0], rows);
	assert_int_equal(tensor->shape[1], columns);
}

static double
check_checkpoint(const char *source, const char *method, const char *expert, const char *router)
{
	struct sp_quantize quantize = spec(source, "work", "out");
	struct sp_weights *weights;
	char name[128];
	json_t *report;
	double mean;

	quantize.method = method;
	ok(sp_file_remove_all(quantize.work, &err));
	report = run(&quantize);
	assert_int_equal(json_array_size(json_object_get(
			     json_array_get(json_object_get(report, "layers"), 1), "experts")),
	    strcmp(source, "mixtral") == 0 ? 4 : 8);
	json_decref(report);
	ok(sp_weights_open(at("out"), &weights, &err));
	snprintf(name, sizeof(name), "model.layers.1.%s.qweight", expert);
	check_tensor(weights, name, SP_I32, HIDDEN, 32 / 8);
	snprintf(name, sizeof(name), "model.layers.1.%s.qzeros", expert);
	check_tensor(weights, name, SP_I32, HIDDEN / 32, 32 / 8);
	snprintf(name, sizeof(name), "model.layers.1.%s.scales", expert);
	check_tensor(weights, name, SP_F16, HIDDEN / 32, 32);
	snprintf(name, sizeof(name), "model.layers.1.%s.weight", router);
	check_tensor(weights, name, SP_F16, strcmp(source, "mixtral") == 0 ? 4 : 8, HIDDEN);
	sp_weights_close(&weights);
	mean = distance(source, "out");
	print_message("%s by %s: %.4f\n", source, method, mean);
	assert_true(mean > 0 && mean < 0.2);
	return mean;
}

static void
test_checkpoints(void **state)
{
	static const struct {
		const char *source, *expert, *router;
	} models[] = {
	    {"mixtral", "block_sparse_moe.experts.3.w1", "block_sparse_moe.gate"},
	    {"qwen3-moe", "mlp.experts.7.gate_proj", "mlp.gate"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(models) / sizeof(*models); i++) {
		double awq = check_checkpoint(
		    models[i].source, SP_QUANTIZE_METHOD, models[i].expert, models[i].router);
		double plus = check_checkpoint(
		    models[i].source, SP_QUANTIZE_PLUS, models[i].expert, models[i].router);

		assert_true(plus < 0.7 * awq);
	}
}

/* --- the same bytes ----------------------------------------------------------------------------
 */

static void
same_weights(const char *a, const char *b)
{
	uint8_t *x, *y;
	size_t n, m;

	ok(sp_file_read(at(a), 64 << 20, &x, &n, &err));
	ok(sp_file_read(at(b), 64 << 20, &y, &m, &err));
	assert_int_equal(n, m);
	assert_memory_equal(x, y, n);
	free(x);
	free(y);
}

/* The end of a process that has one layer. */
static void
die_after_one(void *arg, size_t done, size_t total, const json_t *layer)
{
	(void)arg;
	(void)total;
	(void)layer;
	if (done == 1)
		raise(SIGKILL);
}

/* By one thread and by two; all activations in files; killed behind its first layer (dense or not)
 * and taken up again. */
static void
check_same(const char *source, const char *method)
{
	struct sp_quantize two = spec(source, "work-2", "out-2");
	struct sp_quantize one = spec(source, "work-1", "out-1");
	int status;
	pid_t pid;

	two.method = one.method = method;
	one.rows_bytes = 1;
	ok(sp_file_remove_all(two.work, &err));
	ok(sp_file_remove_all(one.work, &err));
	json_decref(run(&two));
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		json_t *report;

		one.progress = die_after_one;
		if (sp_pool_open(1, &one.pool, &err) == SP_OK &&
		    sp_quantize_run(&one, &report, &err) == SP_OK)
			json_decref(report);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	ok(sp_pool_open(1, &one.pool, &err));
	json_decref(run(&one));
	sp_pool_close(&one.pool);
	same_weights("out-1/model.safetensors", "out-2/model.safetensors");
	same_weights("out-1/config.json", "out-2/config.json");
}

static void
test_same(void **state)
{
	(void)state;
	check_same("mixtral", SP_QUANTIZE_METHOD);
	check_same("mixtral", SP_QUANTIZE_PLUS);
	check_same("qwen3-moe", SP_QUANTIZE_PLUS);
}

/* Experts that are left out stay fp16, and the others are as they were. */
static void
test_left_out(void **state)
{
	static const char *const skip[] = {"block_sparse_moe.experts"};
	struct sp_quantize quantize = spec("mixtral", "work-l", "out-l");
	double mean;

	(void)state;
	quantize.skip = skip;
	quantize.skip_count = 1;
	quantize.method = SP_QUANTIZE_PLUS;
	json_decref(run(&quantize));
	mean = distance("mixtral", "out-l");
	assert_true(mean > 0 && mean < 0.2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_layers),
	    cmocka_unit_test(test_idle),
	    cmocka_unit_test(test_huge),
	    cmocka_unit_test(test_exact),
	    cmocka_unit_test(test_plan),
	    cmocka_unit_test(test_checkpoints),
	    cmocka_unit_test(test_same),
	    cmocka_unit_test(test_left_out),
	};

	return cmocka_run_group_tests_name("awq_moe", tests, setup, teardown);
}
