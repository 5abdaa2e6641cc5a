/*
 * awq.c -- one layer against AutoAWQ's own searches, codes and packing (tests/vectors/README.md),
 * and what the vectors cannot say: round trips, errors, independence of the number of threads.
 */
#include "../draw.h"
#include "awq/block.h"
#include "awq/gram.h"
#include "awq/pack.h"
#include "awq/trial.h"

#include "base/file.h"
#include "base/json.h"
#include "model/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GROUP ((size_t)128)
#define GRID ((struct sp_grid){.group = GROUP})
#define BLOCKS ((size_t)6)
#define SEQUENCE ((size_t)512)

/* Read once, used by all tests. */
static struct {
	struct sp_map map;
	struct sp_safetensors *file;
	json_t *info;
	struct sp_pool *pool;
	struct sp_layer_env env;
	struct sp_layer plain; /* the layer before anything */
	struct sp_block_inputs inputs;
	struct sp_block searched; /* after sp_block_quantize */
	struct sp_layer result;	  /* scaled */
} t;

static struct sp_err err;
static const struct sp_block_plan whole = {.grid = {.group = GROUP}, .half = 1};

static void
ok(enum sp_code rc)
{
	if (rc != SP_OK)
		fail_msg("%s: %s", sp_err_word(rc), err.msg);
}

struct name {
	char s[128];
};

static struct name SP_PRINTF(1, 2) name_of(const char *fmt, ...)
{
	struct name name;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(name.s, sizeof(name.s), fmt, ap);
	va_end(ap);
	return name;
}

static const struct sp_tensor *
tensor(const char *prefix, const char *name)
{
	const struct sp_tensor *found =
	    sp_safetensors_find(t.file, name_of("%s.%s", prefix, name).s);

	if (found == NULL)
		fail_msg("no tensor %s.%s", prefix, name);
	return found;
}

static size_t
count_of(const struct sp_tensor *tensor)
{
	return tensor->size / sp_dtype_size(tensor->dtype);
}

static float *
floats(const char *prefix, const char *name)
{
	const struct sp_tensor *from = tensor(prefix, name);
	float *values = malloc(count_of(from) * sizeof(*values));

	assert_non_null(values);
	sp_dtype_to_f32(from->dtype, from->data, values, count_of(from));
	return values;
}

/* The layer as the vectors have it. */
static void
load_plain(struct sp_layer *layer)
{
	*layer = (struct sp_layer){0};
	layer->input_norm = floats("weight", "input_layernorm.weight");
	layer->post_norm = floats("weight", "post_attention_layernorm.weight");
	for (enum sp_layer_linear i = 0; i < SP_LAYER_LINEARS; i++) {
		struct sp_linear *linear = sp_layer_linear(layer, i);
		struct name weight = name_of("%s.weight", sp_layer_linear_name(i));

		linear->w = floats("weight", weight.s);
		linear->out = tensor("weight", weight.s)->shape[0];
		linear->in = tensor("weight", weight.s)->shape[1];
		if (i <= SP_LAYER_V)
			linear->bias =
			    floats("weight", name_of("%s.bias", sp_layer_linear_name(i)).s);
	}
	ok(sp_layer_pack(layer, t.pool, &err));
}

static enum sp_code
collect(const struct sp_layer_env *env, const struct sp_layer *layer, float *h, size_t n_seq,
    struct sp_block_inputs *inputs)
{
	const struct sp_spill rows = {.values = h, .count = n_seq * SEQUENCE * env->config.hidden};

	return sp_block_collect(env, layer, &rows, n_seq, SEQUENCE, NULL, inputs, &err);
}

static int
setup(void **state)
{
	struct sp_model_config config;
	uint8_t *text;
	size_t len;
	float *h;

	(void)state;
	ok(sp_pool_open(2, &t.pool, &err));
	ok(sp_map_open(&t.map, "tests/vectors/autoawq_layer.safetensors", &err));
	ok(sp_safetensors_parse(t.map.data, t.map.len, "vectors", &t.file, &err));
	ok(sp_file_read("tests/vectors/autoawq_layer.json", 1 << 20, &text, &len, &err));
	ok(sp_json_parse(text, len, "vectors", &t.info, &err));
	free(text);
	ok(sp_file_read("tests/fixtures/model/config.json", 1 << 20, &text, &len, &err));
	ok(sp_config_parse(text, len, &config, &err));
	free(text);
	ok(sp_layer_env_open(&t.env, &config, SEQUENCE, t.pool, &err));
	load_plain(&t.plain);
	load_plain(&t.result);
	h = floats("layer", "input");
	ok(collect(&t.env, &t.plain, h, BLOCKS, &t.inputs));
	free(h);
	ok(sp_block_quantize(&t.env, &t.result, &t.inputs, &whole, &t.searched, &err));
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	sp_block_free(&t.searched);
	sp_block_inputs_free(&t.inputs);
	sp_layer_free(&t.plain);
	sp_layer_free(&t.result);
	sp_layer_env_close(&t.env);
	sp_pool_close(&t.pool);
	sp_safetensors_free(&t.file);
	sp_map_close(&t.map);
	json_decref(t.info);
	return 0;
}

static const json_t *
group_info(size_t i)
{
	return json_array_get(json_object_get(t.info, "groups"), i);
}

/* --- packing and rounding -----------------------------------------------------------------------
 */

static void
test_pack(void **state)
{
	(void)state;
	for (enum sp_layer_linear i = 0; i < SP_LAYER_LINEARS; i++) {
		const struct sp_tensor *codes = tensor("codes", sp_layer_linear_name(i));
		const struct sp_tensor *zeros = tensor("zeros", sp_layer_linear_name(i));
		const struct sp_tensor *weights =
		    tensor("packed", name_of("%s.qweight", sp_layer_linear_name(i)).s);
		const struct sp_tensor *packed_zeros =
		    tensor("packed", name_of("%s.qzeros", sp_layer_linear_name(i)).s);
		size_t out = codes->shape[0], in = codes->shape[1];
		uint32_t *words = malloc(out * in / 2);
		uint8_t *back = malloc(out * in);

		assert_int_equal(weights->size, out * in / 2);
		sp_pack_gemm(codes->data, out, in, words);
		assert_memory_equal(words, weights->data, weights->size);
		sp_pack_gemm_decode(words, out, in, back);
		assert_memory_equal(back, codes->data, out * in);
		sp_pack_gemm(zeros->data, out, in / GROUP, words);
		assert_memory_equal(words, packed_zeros->data, packed_zeros->size);
		free(words);
		free(back);
	}
}

/* Every nibble of every column has its own place. */
static void
test_pack_order(void **state)
{
	static const uint32_t expected[8] = {
	    0x1, 0x10000, 0x10, 0x100000, 0x100, 0x1000000, 0x1000, 0x10000000};

	(void)state;
	for (size_t c = 0; c < 8; c++) {
		uint8_t values[8] = {0}, back[8];
		uint32_t word;

		values[c] = 1;
		sp_pack_gemm(values, 8, 1, &word);
		assert_int_equal(word, expected[c]);
		sp_pack_gemm_decode(&word, 8, 1, back);
		assert_memory_equal(back, values, 8);
	}
}

static void
test_round(void **state)
{
	float w[8] = {-1.5f, 0.0f, 0.75f, 1.5f, 0.1f, -0.1f, 0.3f, -0.5f}, q[8];
	float flat[8] = {3, 3, 3, 3, 3, 3, 3, 3}, huge[8] = {40000, 1};
	const struct sp_grid eight = {.group = 8};
	struct sp_codes codes;

	(void)state;
	/* s = 3 / 15 = 0.2, z = 7.5 -> 8 */
	sp_round_fake(w, 8, eight, q);
	for (size_t i = 0; i < 8; i++)
		assert_true(
		    fabsf(q[i] - 0.2f * nearbyintf(w[i] / 0.2f)) < 1e-6f || i == 0 || i == 3);
	assert_true(fabsf(q[3] - 1.4f) < 1e-6f); /* code 16 is 15 */
	ok(sp_round_codes(w, 1, 8, eight, &codes, &err));
	assert_int_equal(codes.zeros[0], 8);
	assert_int_equal(codes.codes[1], 8);
	assert_int_equal(codes.codes[3], 15);
	sp_round_free(&codes);
	/* a group without 0 in its range: AutoAWQ's zero point ends at 0 and the weight saturates
	 */
	ok(sp_round_codes(flat, 1, 8, eight, &codes, &err));
	assert_int_equal(codes.zeros[0], 0);
	assert_int_equal(codes.codes[0], 15);
	sp_round_free(&codes);
	assert_int_equal(sp_round_codes(huge, 1, 8, eight, &codes, &err), SP_E_INVALID);
	huge[0] = NAN;
	assert_int_equal(sp_round_codes(huge, 1, 8, eight, &codes, &err), SP_E_INVALID);
	huge[0] = 65520; /* rounds to infinity */
	assert_int_equal(sp_round_half(huge, 8, &err), SP_E_INVALID);
}

/* --- against AutoAWQ, each step apart ------------------------------------------------------------
 */

static void
test_forward(void **state)
{
	float *h = floats("layer", "input"), *expected = floats("layer", "output_last8");
	size_t hidden = t.env.config.hidden;

	(void)state;
	ok(sp_layer_forward(&t.env, &t.plain, h, BLOCKS, SEQUENCE, &err));
	for (size_t b = 0; b < BLOCKS; b++) {
		for (size_t i = 0; i < 8 * hidden; i++) {
			float ours = h[((b + 1) * SEQUENCE - 8) * hidden + i];
			float theirs = expected[b * 8 * hidden + i];

			/* theirs went through the layer in fp16 */
			assert_true(fabsf(ours - theirs) <= 0.02f + 0.005f * fabsf(theirs));
		}
	}
	free(h);
	free(expected);
}

static void
near(const float *ours, const float *theirs, size_t count, float relative)
{
	for (size_t i = 0; i < count; i++) {
		if (!(fabsf(ours[i] - theirs[i]) <= relative * fabsf(theirs[i])))
			fail_msg(
			    "value %zu: %g, AutoAWQ has %g", i, (double)ours[i], (double)theirs[i]);
	}
}

static void
test_means(void **state)
{
	const float *x[3] = {t.inputs.attn, t.inputs.mlp, t.inputs.act};

	(void)state;
	for (size_t g = 0; g < 3; g++) {
		const struct sp_block_group *group = &t.searched.groups[g];
		const struct sp_linear *linears[3];
		float *x_mean = floats(name_of("group.%zu", g).s, "x_mean");
		float *w_mean = floats(name_of("group.%zu", g).s, "w_mean");
		float *scales = floats(name_of("group.%zu", g).s, "scales");
		float *ours = malloc(group->in * sizeof(*ours));
		size_t best = (size_t)nearbyint(
		    20 * json_real_value(json_object_get(group_info(g), "best_ratio")));

		for (size_t i = 0; i < group->count; i++)
			linears[i] = sp_layer_linear(&t.plain, group->first + (unsigned)i);
		sp_search_w_mean(t.pool, linears, group->count, GROUP, 1, ours);
		near(ours, w_mean, group->in, 0x1p-10f); /* one step of fp16 */
		sp_search_x_mean(t.pool, x[g], BLOCKS * SEQUENCE, group->in, 1, ours);
		near(ours, x_mean, group->in, 0.002f);
		/* theirs took five fp16 operations */
		sp_search_scales(x_mean, w_mean, group->in, best, ours);
		near(ours, scales, group->in, 0.003f);
		free(x_mean);
		free(w_mean);
		free(scales);
		free(ours);
	}
}

static void
test_ratios(void **state)
{
	(void)state;
	assert_int_equal(
	    t.searched.group_count, json_array_size(json_object_get(t.info, "groups")));
	for (size_t g = 0; g < t.searched.group_count; g++) {
		const struct sp_block_group *group = &t.searched.groups[g];
		const json_t *info = group_info(g), *losses = json_object_get(info, "losses_f32");
		float *scales = floats(name_of("group.%zu", g).s, "scales");

		assert_string_equal(group->prev, json_string_value(json_object_get(info, "prev")));
		assert_int_equal(json_array_size(json_object_get(info, "linears")), group->count);
		assert_int_equal(group->result.best,
		    (size_t)nearbyint(20 * json_real_value(json_object_get(info, "best_ratio"))));
		near(group->scales, scales, group->in, 0.003f);
		for (size_t k = 0; k < SP_SEARCH_RATIOS; k++) {
			double theirs = json_real_value(json_array_get(losses, k));

			assert_true(group->result.shares[k] > 0);
			if (group->result.shares[k] == 1.0) /* else of some tokens alone */
				assert_true(
				    fabs(group->result.losses[k] - theirs) <= 0.005 * theirs);
		}
		free(scales);
	}
}

/* The race ends where measuring every ratio on every token ends, having measured less. */
static void
test_exhaustive(void **state)
{
	struct sp_block_plan all = whole;
	struct sp_block block = {0};
	double shares = 0;

	(void)state;
	all.exhaustive = 1;
	ok(sp_block_search(&t.env, &t.plain, &t.inputs, &all, &block, &err));
	assert_int_equal(block.group_count, t.searched.group_count);
	for (size_t g = 0; g < block.group_count; g++) {
		const struct sp_search_result *raced = &t.searched.groups[g].result;
		const struct sp_search_result *result = &block.groups[g].result;

		assert_int_equal(result->best, raced->best);
		for (size_t k = 0; k < SP_SEARCH_RATIOS; k++) {
			assert_true(result->shares[k] == 1.0);
			assert_true(result->losses[k] >= result->losses[result->best]);
			shares += raced->shares[k];
			if (raced->shares[k] == 1.0) /* sums of other order */
				assert_true(fabs(result->losses[k] - raced->losses[k]) <=
					    1e-6 * result->losses[k]);
		}
	}
	assert_true(shares < 0.8 * SP_SEARCH_RATIOS * (double)block.group_count);
	sp_block_free(&block);
}

static float
near_0(uint64_t *seed)
{
	return (float)(int64_t)draw_next(seed) * 0x1p-63f;
}

/*
 * What the first token of each sequence alone has, here channels that are silent elsewhere, weighs
 * in the race what it weighs in all: however loud, the race ends where measuring everything ends.
 */
static void
test_first_tokens(void **state)
{
	enum { N_SEQ = 64, LEN = 128, IN = 384, OUT = 32, N = N_SEQ * LEN };
	const struct sp_block_inputs inputs = {.n_seq = N_SEQ, .len = LEN};
	float *x = sp_xcalloc(N * IN, sizeof(*x)), *w = sp_xcalloc(OUT * IN, sizeof(*w));
	const struct sp_layer layer = {.down = {.w = w, .out = OUT, .in = IN}};
	uint64_t seed = 1;

	(void)state;
	for (size_t i = 0; i < OUT * IN; i++)
		w[i] = near_0(&seed);
	for (unsigned loud = 4; loud <= 10; loud += 2) {
		size_t best[2];

		for (size_t i = 0; i < N * IN; i++) {
			size_t first = i / IN % LEN == 0;
			float size = i % 16 == (first ? 8 : 0) ? first ? (float)loud : 4 : 0.5F;

			x[i] = first && i >= IN ? x[i % IN] : near_0(&seed) * size;
		}
		for (int exhaustive = 0; exhaustive < 2; exhaustive++) {
			const struct sp_block_plan plan = {.grid = GRID, .exhaustive = exhaustive};
			struct sp_block_group group = {
			    .prev = "up_proj", .first = SP_LAYER_DOWN, .count = 1};

			ok(sp_trial_search(&t.env, &layer, &inputs, &plan, x, &group, &err));
			best[exhaustive] = group.result.best;
			free(group.scales);
		}
		assert_int_equal(best[0], best[1]);
	}
	free(x);
	free(w);
}

/* The block that AutoAWQ's own scales and clip limits make of the layer. */
static void
follow(struct sp_layer *layer, struct sp_block *block, int clip)
{
	load_plain(layer);
	*block = (struct sp_block){0};
	for (size_t g = 0; g < t.searched.group_count; g++) {
		block->groups[g] = t.searched.groups[g];
		block->groups[g].scales = floats(name_of("group.%zu", g).s, "scales");
		block->group_count++;
	}
	ok(sp_block_scale(layer, &whole, block, &err));
	for (enum sp_layer_linear i = SP_LAYER_V; i < SP_LAYER_LINEARS && clip; i++) {
		struct sp_linear *linear = sp_layer_linear(layer, i);

		block->limits[i] = floats("clip", sp_layer_linear_name(i));
		sp_search_clamp(linear->w, linear->out, linear->in, GROUP, block->limits[i]);
		ok(sp_round_half(linear->w, linear->out * linear->in, &err));
	}
	ok(sp_block_round(layer, &whole, block, &err));
}

/* Everything after the searches is AutoAWQ's, bit for bit. */
static void
test_apply(void **state)
{
	struct sp_layer layer;
	struct sp_block block;
	float *norm;

	(void)state;
	follow(&layer, &block, 1);
	norm = floats("after", "input_layernorm.weight");
	assert_memory_equal(layer.input_norm, norm, layer.q.in * sizeof(*norm));
	free(norm);
	norm = floats("after", "post_attention_layernorm.weight");
	assert_memory_equal(layer.post_norm, norm, layer.up.in * sizeof(*norm));
	free(norm);
	for (enum sp_layer_linear i = 0; i < SP_LAYER_LINEARS; i++) {
		const struct sp_codes *codes = &block.codes[i];
		size_t groups = codes->in / GROUP;

		assert_memory_equal(codes->codes, tensor("codes", sp_layer_linear_name(i))->data,
		    codes->out * codes->in);
		assert_memory_equal(codes->zeros, tensor("zeros", sp_layer_linear_name(i))->data,
		    codes->out * groups);
		assert_memory_equal(codes->scales, tensor("scales", sp_layer_linear_name(i))->data,
		    codes->out * groups * 2);
	}
	sp_block_free(&block);
	sp_layer_free(&layer);
}

/* --- clip limits --------------------------------------------------------------------------------
 */

/* As sp_search_clip measures it, but straight from its definition. */
static double
clip_error(
    const float *w, float limit, const float *x, size_t in, size_t stride, const float *scales)
{
	float q[GROUP];
	double sum = 0;

	memcpy(q, w, sizeof(q));
	sp_search_clamp(q, 1, GROUP, GROUP, &limit);
	sp_round_fake(q, GROUP, GRID, q);
	for (size_t token = 0; token < BLOCKS * SEQUENCE; token += stride) {
		double a = 0, b = 0;

		for (size_t c = 0; c < GROUP; c++) {
			double value =
			    (double)x[token * in + c] / (scales ? (double)scales[c] : 1.0);

			a += value * (double)q[c];
			b += value * (double)w[c];
		}
		sum += (a - b) * (a - b);
	}
	return sum;
}

/* The limit that AutoAWQ chose, before it was rounded to fp16. */
static float
limit_of(const float *w, float rounded)
{
	float max = 0;

	for (size_t c = 0; c < GROUP; c++)
		max = fabsf(w[c]) > max ? fabsf(w[c]) : max;
	return max * (float)(1.0 - nearbyint(20 * (1.0 - (double)(rounded / max))) / 20);
}

static void
clip_one(struct sp_layer *layer, enum sp_layer_linear i, const float *x, const float *scales)
{
	const size_t stride = BLOCKS * SEQUENCE / 512;
	const struct sp_linear *linear = sp_layer_linear(layer, i);
	size_t groups = linear->in / GROUP, same = 0, count = linear->out * groups;
	const json_t *info =
	    json_object_get(json_object_get(t.info, "clip"), sp_layer_linear_name(i));
	float *theirs = floats("clip", sp_layer_linear_name(i)),
	      *ours = malloc(count * sizeof(*ours));
	uint8_t *steps = malloc(count);

	ok(sp_search_clip(t.pool, linear->w, linear->out, linear->in, GRID, x, BLOCKS * SEQUENCE,
	    scales, ours, steps, &err));
	for (size_t k = 0; k < count; k++) {
		const float *w = linear->w + k * GROUP;
		size_t at = k % groups * GROUP;
		const float *s = scales != NULL ? scales + at : NULL;

		assert_true(steps[k] < SP_SEARCH_CLIP_STEPS);
		same += fabsf(ours[k] - theirs[k]) <= 0.001f * theirs[k];
		if (k % 7 != 0) /* the definition is slow: some are enough */
			continue;
		assert_true(
		    clip_error(w, ours[k], x + at, linear->in, stride, s) <=
		    1.0001 * clip_error(w, limit_of(w, theirs[k]), x + at, linear->in, stride, s));
	}
	/* of what AutoAWQ itself would decide alike in fp32, nearly all */
	assert_true((double)same / (double)count >=
		    json_real_value(json_object_get(info, "same_step_in_f32")) - 0.01);
	free(theirs);
	free(ours);
	free(steps);
}

/* Steps as AutoAWQ's in fp32, and never a worse one than it took in fp16. */
static void
test_clip(void **state)
{
	struct sp_layer layer;
	struct sp_block block;

	(void)state;
	follow(&layer, &block, 0);
	clip_one(&layer, SP_LAYER_V, t.inputs.attn, block.groups[0].scales);
	clip_one(&layer, SP_LAYER_O, t.inputs.heads, NULL);
	clip_one(&layer, SP_LAYER_GATE, t.inputs.mlp, block.groups[1].scales);
	clip_one(&layer, SP_LAYER_UP, t.inputs.mlp, block.groups[1].scales);
	clip_one(&layer, SP_LAYER_DOWN, t.inputs.act, block.groups[2].scales);
	sp_block_free(&block);
	sp_layer_free(&layer);
}

/* --- the whole layer -----------------------------------------------------------------------------
 */

/* The least share of codes that agree with AutoAWQ's, over the linear layers. */
static double
agreement(const struct sp_block *block)
{
	double least = 1;

	for (enum sp_layer_linear i = 0; i < SP_LAYER_LINEARS; i++) {
		const struct sp_tensor *codes = tensor("codes", sp_layer_linear_name(i));
		size_t same = 0;

		for (size_t k = 0; k < codes->size; k++)
			same += codes->data[k] == block->codes[i].codes[k];
		least = fmin(least, (double)same / (double)codes->size);
	}
	return least;
}

/* The layer rounded to nearest, after the steps that `block` holds. */
static double
round_only(int with_scales, double *attn_error, double *mlp_error)
{
	struct sp_layer layer;
	struct sp_block block = {0};
	double share;

	load_plain(&layer);
	for (size_t g = 0; g < t.searched.group_count; g++) {
		block.groups[g] = t.searched.groups[g];
		block.groups[g].scales = malloc(block.groups[g].in * sizeof(float));
		for (size_t i = 0; i < block.groups[g].in; i++)
			block.groups[g].scales[i] =
			    with_scales ? t.searched.groups[g].scales[i] : 1.0f;
		block.group_count++;
	}
	ok(sp_block_scale(&layer, &whole, &block, &err));
	ok(sp_block_round(&layer, &whole, &block, &err));
	share = agreement(&block);
	ok(sp_block_measure(&t.env, &layer, &t.inputs, &block, &err));
	*attn_error = block.attn_error;
	*mlp_error = block.mlp_error;
	sp_block_free(&block);
	sp_layer_free(&layer);
	return share;
}

/* What decides alike in fp16 and fp32 is alike; rounding without the searches is far from it, and
 * so is rounding without the clip search: the bound tells them apart. */
#define SAME 0.9

static void
test_codes(void **state)
{
	double attn, mlp;

	(void)state;
	assert_true(agreement(&t.searched) > SAME);
	assert_true(round_only(1, &attn, &mlp) < SAME);
	assert_true(round_only(0, &attn, &mlp) < 0.6);
	/* and the searches serve their purpose */
	assert_true(t.searched.attn_error < attn);
	assert_true(t.searched.mlp_error < mlp);
}

static void
test_gram(void **state)
{
	size_t in = t.plain.down.in, out = t.plain.down.out, n = BLOCKS * SEQUENCE;
	float *w = malloc(out * in * sizeof(*w));
	float *y = malloc(n * out * sizeof(*y)), *z = malloc(n * out * sizeof(*z));
	struct sp_linear rounded = {.w = w, .out = out, .in = in};
	struct sp_gram gram;
	double loss, direct = 0;

	(void)state;
	sp_round_fake(t.plain.down.w, out * in, GRID, w);
	ok(sp_gram_open(t.pool, t.inputs.act, n, in, &gram, &err));
	ok(sp_gram_loss(&gram, t.pool, w, t.plain.down.w, out, &loss, &err));
	ok(sp_linear_pack(&rounded, t.pool, &err));
	sp_linear_apply(&rounded, t.pool, t.inputs.act, n, y);
	sp_linear_apply(&t.plain.down, t.pool, t.inputs.act, n, z);
	for (size_t i = 0; i < n * out; i++)
		direct += ((double)y[i] - (double)z[i]) * ((double)y[i] - (double)z[i]);
	direct /= (double)(n * out);
	assert_true(fabs(loss - direct) < 1e-4 * direct);
	sp_gram_close(&gram);
	sp_linear_free(&rounded);
	free(y);
	free(z);
}

/* The bits of a run with one thread are those of a run with three, and with narrower vectors where
 * the machine has both. */
static void
test_threads(void **state)
{
	const char *kernels = sp_kernels_name();
	struct sp_block_inputs inputs[2];
	struct sp_block blocks[2];

	(void)state;
	for (size_t run = 0; run < 2; run++) {
		struct sp_layer_env env = t.env;
		float *h = floats("layer", "input");
		struct sp_layer layer;

		ok(sp_pool_open(run == 0 ? 1 : 3, &env.pool, &err));
		if (run == 1 && !sp_kernels_select("avx2"))
			print_message("no AVX2 here: %s both times\n", kernels);
		load_plain(&layer);
		ok(collect(&env, &layer, h, 2, &inputs[run]));
		ok(sp_block_quantize(&env, &layer, &inputs[run], &whole, &blocks[run], &err));
		sp_layer_free(&layer);
		sp_pool_close(&env.pool);
		free(h);
	}
	assert_true(sp_kernels_select(kernels));
	assert_true(blocks[0].attn_error == blocks[1].attn_error);
	assert_true(blocks[0].mlp_error == blocks[1].mlp_error);
	for (size_t g = 0; g < blocks[0].group_count; g++)
		assert_memory_equal(&blocks[0].groups[g].result, &blocks[1].groups[g].result,
		    sizeof(blocks[0].groups[g].result));
	for (enum sp_layer_linear i = 0; i < SP_LAYER_LINEARS; i++) {
		const struct sp_codes *a = &blocks[0].codes[i], *b = &blocks[1].codes[i];

		assert_memory_equal(a->codes, b->codes, a->out * a->in);
		assert_memory_equal(a->zeros, b->zeros, a->out * a->in / GROUP);
		assert_memory_equal(a->scales, b->scales, a->out * a->in / GROUP * 2);
	}
	for (size_t run = 0; run < 2; run++) {
		sp_block_inputs_free(&inputs[run]);
		sp_block_free(&blocks[run]);
	}
}

/* Activations that are not numbers end in an error, not in a checkpoint. */
static void
test_not_finite(void **state)
{
	struct sp_block_inputs inputs;
	struct sp_block block;
	struct sp_layer layer;
	float *h = floats("layer", "input");

	(void)state;
	h[300] = NAN;
	load_plain(&layer);
	ok(collect(&t.env, &layer, h, 1, &inputs));
	assert_int_equal(
	    sp_block_quantize(&t.env, &layer, &inputs, &whole, &block, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "input_layernorm"));
	sp_block_inputs_free(&inputs);
	sp_layer_free(&layer);
	free(h);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pack),
	    cmocka_unit_test(test_pack_order),
	    cmocka_unit_test(test_round),
	    cmocka_unit_test(test_forward),
	    cmocka_unit_test(test_means),
	    cmocka_unit_test(test_ratios),
	    cmocka_unit_test(test_exhaustive),
	    cmocka_unit_test(test_first_tokens),
	    cmocka_unit_test(test_apply),
	    cmocka_unit_test(test_clip),
	    cmocka_unit_test(test_codes),
	    cmocka_unit_test(test_gram),
	    cmocka_unit_test(test_threads),
	    cmocka_unit_test(test_not_finite),
	};

	return cmocka_run_group_tests_name("awq", tests, setup, teardown);
}
