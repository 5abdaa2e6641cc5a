/* engine.c -- the fixture model: logits against transformers, a layer and its int4 weights against
 * AutoAWQ (tests/vectors/README.md); the same bits whatever the threads, batches, prefixes and
 * instruction set; greedy decoding. */
#include "base/file.h"
#include "engine/greedy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL "tests/fixtures/model"
#define T 304 /* positions of logits.safetensors */
#define VOCAB 2048
#define N 70 /* tokens whose logits are compared to the bit */

static struct sp_err err;
static struct sp_pool *pools[2]; /* 1 thread, 3 threads */
static struct sp_model *models[2];

/* logits.safetensors */
static uint32_t ids[T], top1_bf16[T];
static float *reference; /* [T][VOCAB] */
/* [N][VOCAB] from one thread and one feed */
static float *expected_bits;

static float *
feed_parts(struct sp_model *model, const struct sp_context *prefix, size_t from, size_t part);

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

struct file {
	struct sp_map map;
	struct sp_safetensors *tensors;
};

static struct file
open_file(const char *path)
{
	struct file file;

	ok(sp_map_open(&file.map, path, &err));
	ok(sp_safetensors_parse(file.map.data, file.map.len, path, &file.tensors, &err));
	return file;
}

static void
close_file(struct file *file)
{
	sp_safetensors_free(&file->tensors);
	sp_map_close(&file->map);
}

static const struct sp_tensor *
tensor(const struct file *file, const char *fmt, ...)
{
	const struct sp_tensor *found;
	char name[128];
	va_list args;

	va_start(args, fmt);
	vsnprintf(name, sizeof(name), fmt, args);
	va_end(args);
	found = sp_safetensors_find(file->tensors, name);
	if (found == NULL)
		fail_msg("no tensor %s", name);
	return found;
}

static float *
floats(const struct sp_tensor *t)
{
	size_t count = t->size / sp_dtype_size(t->dtype);
	float *values = malloc(count * sizeof(float));

	sp_dtype_to_f32(t->dtype, t->data, values, count);
	return values;
}

static void
read_ids(const struct sp_tensor *t, uint32_t out[T])
{
	int64_t value;

	for (size_t i = 0; i < T; i++) {
		memcpy(&value, t->data + 8 * i, 8);
		out[i] = (uint32_t)value;
	}
}

static int
set_up(void **state)
{
	struct file file = open_file("tests/vectors/logits.safetensors");

	(void)state;
	read_ids(tensor(&file, "input_ids"), ids);
	read_ids(tensor(&file, "top1_bf16"), top1_bf16);
	reference = floats(tensor(&file, "logits"));
	close_file(&file);
	for (size_t i = 0; i < 2; i++) {
		ok(sp_pool_open(i == 0 ? 1 : 3, &pools[i], &err));
		ok(sp_model_open(MODEL, pools[i], &models[i], &err));
	}
	expected_bits = feed_parts(models[0], NULL, 0, N);
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	free(reference);
	free(expected_bits);
	for (size_t i = 0; i < 2; i++) {
		sp_model_close(&models[i]);
		sp_pool_close(&pools[i]);
	}
	return 0;
}

/* --- against transformers ----------------------------------------------------------------------
 */

/* The weights are bf16, the arithmetic of both sides fp32: what differs is the order of sums. */
static void
test_logits(void **state)
{
	float *logits = malloc(T * VOCAB * sizeof(float));
	size_t same = 0, same_bf16 = 0;
	struct sp_context *context;
	double worst = 0;

	(void)state;
	ok(sp_context_new(models[1], NULL, T, &context, &err));
	ok(sp_forward(models[1], &(struct sp_feed){context, ids, T, T, logits}, 1, &err));
	assert_int_equal(sp_context_len(context), T);
	for (size_t i = 0; i < (size_t)T * VOCAB; i++)
		worst = fmax(worst, fabs((double)logits[i] - reference[i]));
	for (size_t i = 0; i < T; i++) {
		uint32_t top = sp_forward_argmax(logits + i * VOCAB, VOCAB);

		same += top == sp_forward_argmax(reference + i * VOCAB, VOCAB);
		same_bf16 += top == top1_bf16[i];
	}
	if (!(worst <= 1e-3))
		fail_msg("logits differ by %g", worst);
	assert_int_equal(same, T);
	assert_in_range(same_bf16, 299, T);
	sp_context_free(&context);
	free(logits);
}

/* --- against AutoAWQ ---------------------------------------------------------------------------
 */

static const char *const linear_names[] = {"self_attn.q_proj", "self_attn.k_proj",
    "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"};

static void
load_linear(const struct file *file, const char *name, int bias, struct sp_linear *linear)
{
	const struct sp_tensor *w = tensor(file, "weight.%s.weight", name);

	linear->w = floats(w);
	linear->out = w->shape[0];
	linear->in = w->shape[1];
	if (bias)
		linear->bias = floats(tensor(file, "weight.%s.bias", name));
}

/* A decoder layer that torch ran in fp16. */
static void
test_layer(void **state)
{
	struct file file = open_file("tests/vectors/autoawq_layer.safetensors");
	const size_t n_seq = 6, len = 512, hidden = 256, last = 8;
	float *h = floats(tensor(&file, "layer.input"));
	float *expected = floats(tensor(&file, "layer.output_last8"));
	struct sp_layer layer = {0};
	struct sp_linear *const linears[] = {
	    &layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down};
	struct sp_layer_env env;
	double square = 0, error = 0;

	(void)state;
	for (size_t k = 0; k < 7; k++)
		load_linear(&file, linear_names[k], k < 3, linears[k]);
	layer.input_norm = floats(tensor(&file, "weight.input_layernorm.weight"));
	layer.post_norm = floats(tensor(&file, "weight.post_attention_layernorm.weight"));
	ok(sp_layer_env_open(&env, sp_model_config(models[1]), len, pools[1], &err));
	ok(sp_layer_pack(&layer, pools[1], &err));
	ok(sp_layer_forward(&env, &layer, h, n_seq, len, &err));
	for (size_t s = 0; s < n_seq; s++) {
		for (size_t i = 0; i < last * hidden; i++) {
			double want = expected[s * last * hidden + i];

			error += pow(h[(s * len + len - last) * hidden + i] - want, 2);
			square += want * want;
		}
	}
	if (!(sqrt(error / square) < 1e-3)) /* fp16 keeps 11 bits */
		fail_msg("relative error %g", sqrt(error / square));
	sp_layer_free(&layer);
	sp_layer_env_close(&env);
	free(h);
	free(expected);
	close_file(&file);
}

/* One layer as AutoAWQ wrote it, around it what the fixture has. */
static void
write_awq(const char *dir, const struct file *awq, const struct file *plain)
{
	static const char *const parts[] = {"qweight", "qzeros", "scales"};
	static const char config[] =
	    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"hidden_size\":256,"
	    "\"intermediate_size\":640,\"num_hidden_layers\":1,\"num_attention_heads\":4,"
	    "\"num_key_value_heads\":2,\"vocab_size\":2048,\"max_position_embeddings\":2048,"
	    "\"tie_word_embeddings\":true,\"torch_dtype\":\"float16\",\"quantization_config\":"
	    "{\"quant_method\":\"awq\",\"zero_point\":true,\"group_size\":128,\"bits\":4,"
	    "\"version\":\"gemm\",\"modules_to_not_convert\":null}}";
	struct sp_tensor tensors[32];
	char names[32][96], path[128];
	size_t n = 0;
	FILE *out;

	tensors[n++] = *tensor(plain, "model.embed_tokens.weight");
	tensors[n++] = *tensor(plain, "model.norm.weight");
	for (size_t k = 0; k < 9; k++) {
		static const char *const floats_of[] = {"self_attn.q_proj.bias",
		    "self_attn.k_proj.bias", "self_attn.v_proj.bias", "input_layernorm.weight",
		    "post_attention_layernorm.weight"};

		if (k < 5) {
			tensors[n] = *tensor(awq, "after.%s", floats_of[k]);
			snprintf(names[n], sizeof(names[n]), "model.layers.0.%s", floats_of[k]);
			tensors[n].name = names[n];
			n++;
		}
		for (size_t p = 0; k < 7 && p < 3; p++, n++) {
			tensors[n] = *tensor(awq, "packed.%s.%s", linear_names[k], parts[p]);
			snprintf(names[n], sizeof(names[n]), "model.layers.0.%s.%s",
			    linear_names[k], parts[p]);
			tensors[n].name = names[n];
		}
	}
	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	assert_non_null(out = fopen(path, "w"));
	ok(sp_safetensors_write(fileno(out), tensors, n, &err));
	fclose(out);
	snprintf(path, sizeof(path), "%s/config.json", dir);
	ok(sp_file_write(path, 0644, config, strlen(config), &err));
}

/* The layer multiplies with 4-bit codes, and with what they stand for when its weights change; both
 * give the same bits. */
static void
check_codes(struct sp_linear *linear)
{
	const size_t n = 20;
	float *x = calloc(n * linear->in, sizeof(float)), last = linear->w[0];
	float *y = calloc(n * linear->out, sizeof(float));
	float *expected = calloc(n * linear->out, sizeof(float));

	for (size_t i = 0; i < n * linear->in; i++)
		x[i] = (float)(i * 31 % 101) - 50;
	ok(sp_linear_pack(linear, pools[1], &err));
	assert_int_equal(linear->kind, SP_PANEL_Q4);
	sp_linear_apply(linear, pools[1], x, n, y);
	linear->w[0] = 1.2345678f;
	ok(sp_linear_pack(linear, pools[1], &err));
	assert_int_equal(linear->kind, SP_PANEL_F32);
	linear->w[0] = last;
	sp_kernels_pack(pools[1], SP_PANEL_F32, linear->w, linear->out, linear->in, linear->packed);
	sp_linear_apply(linear, pools[1], x, n, expected);
	assert_memory_equal(y, expected, n * linear->out * sizeof(float));
	free(x);
	free(y);
	free(expected);
}

/* AutoAWQ's packed words against the codes, zeros and scales that it packed. */
static void
test_awq(void **state)
{
	struct file awq = open_file("tests/vectors/autoawq_layer.safetensors");
	struct file plain = open_file(MODEL "/model.safetensors");
	char dir[] = "/tmp/sp-engine-XXXXXX";
	struct sp_weights *weights;
	struct sp_layer layer;
	const struct sp_linear *const linears[] = {
	    &layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down};
	struct sp_model *model;
	struct sp_context *context;
	float *logits = malloc(VOCAB * sizeof(float));

	(void)state;
	assert_non_null(mkdtemp(dir));
	write_awq(dir, &awq, &plain);
	ok(sp_weights_open(dir, &weights, &err));
	ok(sp_weights_layer(weights, 0, &layer, &err));
	for (size_t k = 0; k < 7; k++) {
		const uint8_t *codes = tensor(&awq, "codes.%s", linear_names[k])->data;
		const uint8_t *zeros = tensor(&awq, "zeros.%s", linear_names[k])->data;
		float *scales = floats(tensor(&awq, "scales.%s", linear_names[k]));
		size_t in = linears[k]->in, groups = in / 128;

		for (size_t i = 0; i < linears[k]->out * in; i++) {
			size_t group = i / in * groups + i % in / 128;

			assert_true(linears[k]->w[i] ==
				    ((float)codes[i] - (float)zeros[group]) * scales[group]);
		}
		free(scales);
		check_codes(sp_layer_linear(&layer, k));
	}
	sp_layer_free(&layer);
	sp_weights_close(&weights);
	ok(sp_model_open(dir, pools[1], &model, &err));
	ok(sp_context_new(model, NULL, 20, &context, &err));
	ok(sp_forward(model, &(struct sp_feed){context, ids, 20, 1, logits}, 1, &err));
	for (size_t i = 0; i < VOCAB; i++)
		assert_true(isfinite(logits[i]));
	sp_context_free(&context);
	sp_model_close(&model);
	free(logits);
	ok(sp_file_remove_all(dir, &err));
	close_file(&awq);
	close_file(&plain);
}

/* --- the same bits ------------------------------------------------------------------------------
 */

static float *
feed_parts(struct sp_model *model, const struct sp_context *prefix, size_t from, size_t part)
{
	float *logits = calloc(N * VOCAB, sizeof(float));
	struct sp_context *context;

	ok(sp_context_new(model, prefix, N - from, &context, &err));
	for (size_t i = from; i < N; i += part) {
		size_t n = N - i < part ? N - i : part;

		ok(sp_forward(
		    model, &(struct sp_feed){context, ids + i, n, n, logits + i * VOCAB}, 1, &err));
	}
	assert_int_equal(sp_context_len(context), N);
	sp_context_free(&context);
	return logits;
}

/* Takes logits; those from token `from` on are compared. */
static void
same_bits(const char *what, float *logits, size_t from)
{
	for (size_t i = from; i < N; i++) {
		if (memcmp(logits + i * VOCAB, expected_bits + i * VOCAB, VOCAB * sizeof(float)))
			fail_msg("%s: token %zu has other logits", what, i);
	}
	free(logits);
}

static void
test_same_threads(void **state)
{
	(void)state;
	same_bits("3 threads", feed_parts(models[1], NULL, 0, N), 0);
}

static void
test_same_instructions(void **state)
{
	static const char *const names[] = {"avx512", "avx2", "portable"};
	const char *before = sp_kernels_name();

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		if (sp_kernels_select(names[i]))
			same_bits(names[i], feed_parts(models[1], NULL, 0, N), 0);
	}
	assert_true(sp_kernels_select(before));
}

static void
test_same_parts(void **state)
{
	static const size_t parts[] = {1, 2, 12, 31, 32, 33, 69};

	(void)state;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		same_bits("in parts", feed_parts(models[i % 2], NULL, 0, parts[i]), 0);
}

static void
test_same_prefix(void **state)
{
	static const size_t lengths[] = {1, 31, 32, 33, 64, 69};

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct sp_context *prefix;
		size_t n = lengths[i];

		ok(sp_context_new(models[0], NULL, n + 5, &prefix, &err));
		ok(sp_forward(models[0], &(struct sp_feed){prefix, ids, n, 0, NULL}, 1, &err));
		same_bits("prefix", feed_parts(models[0], prefix, n, N), n);
		same_bits("prefix in parts", feed_parts(models[0], prefix, n, 3), n);
		sp_context_free(&prefix);
	}
}

/* Beside other sequences, so many that they take more than one turn through the layers. */
static void
test_same_batch(void **state)
{
	static const size_t lengths[] = {5, 300, N, 1, 300, 290, N, 17};
	enum { FEEDS = sizeof(lengths) / sizeof(lengths[0]) };
	struct sp_feed feeds[FEEDS];

	(void)state;
	for (size_t i = 0; i < FEEDS; i++) {
		size_t n = lengths[i];

		feeds[i] = (struct sp_feed){NULL, n == N ? ids : ids + i, n, n, NULL};
		ok(sp_context_new(models[1], NULL, n, &feeds[i].context, &err));
		feeds[i].logits = calloc(n * VOCAB, sizeof(float));
	}
	ok(sp_forward(models[1], feeds, FEEDS, &err));
	for (size_t i = 0; i < FEEDS; i++) {
		assert_int_equal(sp_context_len(feeds[i].context), lengths[i]);
		if (lengths[i] == N)
			same_bits("batch", feeds[i].logits, 0);
		else
			free(feeds[i].logits);
		sp_context_free(&feeds[i].context);
	}
}

static void
test_same_rewind(void **state)
{
	float *logits = calloc(N * VOCAB, sizeof(float));
	struct sp_context *context;

	(void)state;
	ok(sp_context_new(models[0], NULL, N + 40, &context, &err));
	ok(sp_forward(models[0], &(struct sp_feed){context, ids, 20, 20, logits}, 1, &err));
	ok(sp_forward(models[0], &(struct sp_feed){context, ids + 100, 90, 0, NULL}, 1, &err));
	sp_context_rewind(context, 20);
	assert_int_equal(sp_context_len(context), 20);
	ok(sp_forward(models[0],
	    &(struct sp_feed){context, ids + 20, N - 20, N - 20, logits + 20 * VOCAB}, 1, &err));
	same_bits("rewound", logits, 0);
	sp_context_free(&context);
}

/* The layers by themselves (layer.h), which the quantizer runs, are the model's layers. */
static void
test_same_layers(void **state)
{
	float *h = malloc(2 * N * 256 * sizeof(float)), *logits = malloc(N * VOCAB * sizeof(float));
	float *embed, *norm;
	struct sp_weights *weights;
	struct sp_layer_env env;
	struct sp_linear head;

	(void)state;
	ok(sp_weights_open(MODEL, &weights, &err));
	ok(sp_layer_env_open(&env, sp_weights_config(weights), N, pools[1], &err));
	ok(sp_weights_embed(weights, &embed, &err));
	ok(sp_weights_final_norm(weights, &norm, &err));
	ok(sp_weights_head(weights, &head, &err));
	ok(sp_linear_pack(&head, pools[1], &err));
	sp_weights_lookup(embed, 256, ids + 9, N, h); /* another sequence before ours */
	sp_weights_lookup(embed, 256, ids, N, h + N * 256);
	for (size_t i = 0; i < 4; i++) {
		struct sp_layer layer;

		ok(sp_weights_layer(weights, i, &layer, &err));
		ok(sp_layer_pack(&layer, pools[1], &err));
		ok(sp_layer_forward(&env, &layer, h, 2, N, &err));
		sp_layer_free(&layer);
	}
	sp_kernels_rmsnorm(pools[1], h + N * 256, norm, 1e-6f, N, 256, h + N * 256);
	sp_linear_apply(&head, pools[1], h + N * 256, N, logits);
	same_bits("layers", logits, 0);
	assert_int_equal(
	    sp_layer_attention(&env, &(struct sp_layer){0}, h, 1, N + 1, NULL, NULL, &err),
	    SP_E_LIMIT);
	free(h);
	free(embed);
	free(norm);
	sp_linear_free(&head);
	sp_layer_env_close(&env);
	sp_weights_close(&weights);
}

/* --- limits -------------------------------------------------------------------------------------
 */

/* A feed that cannot be taken leaves all sequences as they were. */
static void
test_limits(void **state)
{
	const uint32_t bad[] = {5, VOCAB};
	struct sp_context *a, *b, *c;
	struct sp_feed feeds[2];

	(void)state;
	assert_int_equal(sp_model_positions(models[0]), 2048);
	assert_int_equal(sp_context_new(models[0], NULL, 2049, &a, &err), SP_E_LIMIT);
	assert_null(a);
	ok(sp_context_new(models[0], NULL, 2040, &a, &err));
	ok(sp_context_new(models[0], NULL, 4, &b, &err));
	feeds[0] = (struct sp_feed){a, ids, 10, 0, NULL};
	feeds[1] = (struct sp_feed){b, bad, 2, 0, NULL};
	assert_int_equal(sp_forward(models[0], feeds, 2, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "2048"));
	feeds[1] = (struct sp_feed){b, ids, 5, 0, NULL};
	assert_int_equal(sp_forward(models[0], feeds, 2, &err), SP_E_LIMIT);
	assert_int_equal(sp_context_len(a), 0);
	assert_int_equal(sp_context_len(b), 0);
	feeds[1].count = 4;
	ok(sp_forward(models[0], feeds, 2, &err));
	assert_int_equal(sp_context_len(a), 10);
	assert_int_equal(sp_context_len(b), 4);
	feeds[1].count = 1;
	assert_int_equal(sp_forward(models[0], feeds, 2, &err), SP_E_LIMIT);
	assert_int_equal(sp_context_new(models[0], a, 2039, &c, &err), SP_E_LIMIT);
	ok(sp_context_new(models[0], a, 2038, &c, &err));
	sp_context_free(&c);
	sp_context_free(&a);
	sp_context_free(&b);
	sp_context_free(&b);
}

/* All positions that the model has. */
static void
test_longest(void **state)
{
	float *logits = malloc(VOCAB * sizeof(float));
	uint32_t *tokens = malloc(2048 * sizeof(*tokens));
	struct sp_context *context;

	(void)state;
	for (size_t i = 0; i < 2048; i++)
		tokens[i] = ids[i % T];
	ok(sp_context_new(models[1], NULL, 2048, &context, &err));
	ok(sp_forward(models[1], &(struct sp_feed){context, tokens, 2048, 1, logits}, 1, &err));
	for (size_t i = 0; i < VOCAB; i++)
		assert_true(isfinite(logits[i]));
	sp_context_free(&context);
	free(logits);
	free(tokens);
}

static void
test_argmax(void **state)
{
	const float logits[] = {1, 3, 2, 3, -1};

	(void)state;
	assert_int_equal(sp_forward_argmax(logits, 5), 1);
	assert_int_equal(sp_forward_argmax(logits, 1), 0);
}

/* --- greedy decoding ----------------------------------------------------------------------------
 */

#define RUNS 23
#define NEW 40

/* One token after the other, nothing shared with sp_greedy_run but sp_forward. */
static size_t
plain_greedy(const uint32_t *prompt, size_t len, size_t max, uint32_t *out)
{
	float *logits = malloc(VOCAB * sizeof(float));
	struct sp_context *context;
	size_t n = 0;

	ok(sp_context_new(models[0], NULL, len + max, &context, &err));
	ok(sp_forward(models[0], &(struct sp_feed){context, prompt, len, 1, logits}, 1, &err));
	while (n < max) {
		out[n] = sp_forward_argmax(logits, VOCAB);
		if (out[n] == 1785) /* <|endoftext|> */
			break;
		ok(sp_forward(
		    models[0], &(struct sp_feed){context, out + n, 1, 1, logits}, 1, &err));
		n++;
	}
	sp_context_free(&context);
	free(logits);
	return n;
}

static void
test_greedy(void **state)
{
	static const size_t batches[] = {1, 4, 100};
	uint32_t expected[RUNS][NEW], out[RUNS][NEW];
	size_t lens[RUNS], ended = 0;

	(void)state;
	for (size_t i = 0; i < RUNS; i++) {
		lens[i] = plain_greedy(ids + 7 * i, 3 + 5 * i, NEW, expected[i]);
		ended += lens[i] < NEW;
	}
	assert_in_range(ended, 3, RUNS); /* some end by themselves */
	for (size_t b = 0; b < sizeof(batches) / sizeof(batches[0]); b++) {
		struct sp_greedy runs[RUNS];

		for (size_t i = 0; i < RUNS; i++)
			runs[i] = (struct sp_greedy){.prompt = ids + 7 * i,
			    .prompt_len = 3 + 5 * i,
			    .max_new = NEW,
			    .out = out[i],
			    .out_len = 77};
		ok(sp_greedy_run(models[1], runs, RUNS, batches[b], &err));
		for (size_t i = 0; i < RUNS; i++) {
			assert_int_equal(runs[i].out_len, lens[i]);
			assert_memory_equal(out[i], expected[i], lens[i] * sizeof(uint32_t));
		}
	}
	ok(sp_greedy_run(models[1], NULL, 0, 4, &err));
}

static int
stop_after(void *arg, const uint32_t *tokens, size_t count)
{
	size_t *limit = arg;

	return tokens != NULL && count == *limit;
}

static void
test_greedy_ends(void **state)
{
	uint32_t prompt[2048], expected[NEW], out[5][NEW];
	size_t limit = 3, len = plain_greedy(ids, 60, NEW, expected);
	struct sp_greedy runs[] = {
	    {.prompt = ids,
		.prompt_len = 60,
		.max_new = NEW,
		.out = out[0],
		.stop = stop_after,
		.arg = &limit},
	    {.prompt = ids, .prompt_len = 60, .max_new = 0, .out = out[1], .out_len = 9},
	    {.prompt = ids, .prompt_len = 60, .max_new = 5, .out = out[2]},
	    {.prompt = prompt, .prompt_len = 2046, .max_new = NEW, .out = out[3]},
	    {.prompt = prompt, .prompt_len = 2048, .max_new = NEW, .out = out[4]},
	};
	struct sp_greedy too_long = {
	    .prompt = prompt, .prompt_len = 2049, .max_new = 1, .out = out[0]};

	(void)state;
	assert_in_range(len, 6, NEW);
	for (size_t i = 0; i < 2048; i++)
		prompt[i] = ids[i % 200];
	ok(sp_greedy_run(models[1], runs, 5, 2, &err));
	assert_int_equal(runs[0].out_len, 3);
	assert_memory_equal(out[0], expected, 3 * sizeof(uint32_t));
	assert_int_equal(runs[1].out_len, 0);
	assert_int_equal(runs[2].out_len, 5);
	assert_memory_equal(out[2], expected, 5 * sizeof(uint32_t));
	assert_int_equal(runs[3].out_len, 2);
	assert_int_equal(runs[4].out_len, 0);
	assert_int_equal(sp_greedy_run(models[1], &too_long, 1, 1, &err), SP_E_LIMIT);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_logits),
	    cmocka_unit_test(test_layer),
	    cmocka_unit_test(test_awq),
	    cmocka_unit_test(test_limits),
	    cmocka_unit_test(test_longest),
	    cmocka_unit_test(test_argmax),
	    cmocka_unit_test(test_greedy),
	    cmocka_unit_test(test_greedy_ends),
	    cmocka_unit_test(test_same_threads),
	    cmocka_unit_test(test_same_instructions),
	    cmocka_unit_test(test_same_parts),
	    cmocka_unit_test(test_same_prefix),
	    cmocka_unit_test(test_same_batch),
	    cmocka_unit_test(test_same_rewind),
	    cmocka_unit_test(test_same_layers),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
