/*
 * awq_f32.c -- method awq against AutoAWQ running in fp32: on the inputs that its linear layers
 * had, the ratios it chose, the bits of its channel scales, and its codes, zeros and scales where
 * the ratios are the same. Files as make_autoawq_f32.py writes them; awq_f32 MODEL FILE... takes
 * those, of that model, instead of the one that is checked in.
 */
#include "awq/block.h"
#include "awq/pack.h"

#include "base/file.h"
#include "engine/weights.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OWN "tests/vectors/autoawq_f32.safetensors"
#define NOISE 64 /* columns of noise */
#define GROUP ((size_t)128)

static const struct sp_block_plan plan = {.grid = {.group = GROUP}};
static struct sp_err err;
static const char *model = "tests/fixtures/model";
static const char *const own[] = {OWN};
static const char *const *files = own;
static size_t file_count = 1;

/* One file: its layer as AutoAWQ and as we quantize it. */
struct one {
	struct sp_map map;
	struct sp_safetensors *file;
	struct sp_pool *pool;
	struct sp_weights *weights;
	struct sp_layer_env env;
	struct sp_layer layer;
	struct sp_block_inputs inputs;
	struct sp_block block;
	int mkl; /* 1: AutoAWQ's square roots are MKL's */
};

static void
ok(enum sp_code rc)
{
	if (rc != SP_OK)
		fail_msg("%s: %s", sp_err_word(rc), err.msg);
}

static const struct sp_tensor *
find(const struct sp_safetensors *file, const char *module, const char *what)
{
	const struct sp_tensor *tensor;
	char name[128];

	snprintf(name, sizeof(name), "%s%s%s", module, what[0] != '\0' ? "." : "", what);
	tensor = sp_safetensors_find(file, name);
	if (tensor == NULL)
		fail_msg("no tensor %s", name);
	return tensor;
}

/* A copy, since tensors in a file are not aligned. */
static float *
floats(const struct sp_safetensors *file, const char *module, const char *what, size_t count)
{
	const struct sp_tensor *tensor = find(file, module, what);
	float *copy = malloc(count * sizeof(*copy));

	assert_non_null(copy);
	assert_int_equal(tensor->size, count * sizeof(*copy));
	memcpy(copy, tensor->data, tensor->size);
	return copy;
}

/* The inputs that AutoAWQ's linear layers had, and what our engine makes of them. */
static void
take(struct one *one, size_t len)
{
	struct sp_block_inputs *in = &one->inputs;
	size_t n = find(one->file, "self_attn.q_proj", "input")->shape[0];
	size_t hidden = one->env.config.hidden;

	assert_int_equal(n % len, 0);
	in->n_seq = n / len;
	in->len = len;
	in->attn = floats(one->file, "self_attn.q_proj", "input", n * hidden);
	in->heads = floats(one->file, "self_attn.o_proj", "input", n * one->layer.o.in);
	in->mlp = floats(one->file, "mlp.gate_proj", "input", n * hidden);
	in->act = floats(one->file, "mlp.down_proj", "input", n * one->layer.down.in);
	ok(sp_block_floats(&in->attn_out, n, hidden, &err));
	ok(sp_block_floats(&in->mlp_out, n, hidden, &err));
	ok(sp_layer_attention(
	    &one->env, &one->layer, in->attn, in->n_seq, len, NULL, in->attn_out, &err));
	ok(sp_layer_mlp(&one->env, &one->layer, in->mlp, n, NULL, in->mlp_out, &err));
	/* and they are in's own */
	in->rows[SP_BLOCK_ATTN].values = in->attn;
	in->rows[SP_BLOCK_HEADS].values = in->heads;
	in->rows[SP_BLOCK_ATTN_OUT].values = in->attn_out;
	in->rows[SP_BLOCK_MLP].values = in->mlp;
	in->rows[SP_BLOCK_ACT].values = in->act;
	in->rows[SP_BLOCK_MLP_OUT].values = in->mlp_out;
}

static void
load(struct one *one, const char *path)
{
	int32_t layer[2]; /* which, and the tokens of a sequence */

	*one = (struct one){0};
	ok(sp_map_open(&one->map, path, &err));
	ok(sp_safetensors_parse(one->map.data, one->map.len, path, &one->file, &err));
	memcpy(layer, find(one->file, "layer", "")->data, sizeof(layer));
	memcpy(&one->mkl, find(one->file, "roots", "")->data, sizeof(one->mkl));
	ok(sp_pool_open(2, &one->pool, &err));
	ok(sp_weights_open(model, &one->weights, &err));
	ok(sp_layer_env_open(
	    &one->env, sp_weights_config(one->weights), (size_t)layer[1], one->pool, &err));
	ok(sp_weights_layer(one->weights, (size_t)layer[0], &one->layer, &err));
	ok(sp_layer_pack(&one->layer, one->pool, &err));
	take(one, (size_t)layer[1]);
	ok(sp_block_search(&one->env, &one->layer, &one->inputs, &plan, &one->block, &err));
}

static void
unload(struct one *one)
{
	sp_block_free(&one->block);
	sp_block_inputs_free(&one->inputs);
	sp_layer_free(&one->layer);
	sp_layer_env_close(&one->env);
	sp_weights_close(&one->weights);
	sp_pool_close(&one->pool);
	sp_safetensors_free(&one->file);
	sp_map_close(&one->map);
}

/* 1: group g has AutoAWQ's ratio. If not, its own losses of the two must be nearly the same. */
static int
same_ratio(const struct one *one, size_t g)
{
	const struct sp_search_result *ours = &one->block.groups[g].result;
	double losses[SP_SEARCH_RATIOS];
	char name[32];
	size_t best = 0;

	snprintf(name, sizeof(name), "group.%zu", g);
	memcpy(losses, find(one->file, name, "losses")->data, sizeof(losses));
	for (size_t k = 1; k < SP_SEARCH_RATIOS; k++)
		best = losses[k] < losses[best] ? k : best;
	for (size_t k = 0; k < SP_SEARCH_RATIOS; k++) {
		if (ours->shares[k] == 1.0) /* else measured on some tokens alone */
			assert_true(fabs(ours->losses[k] - losses[k]) <= 0.002 * losses[k]);
		else
			assert_true(k == best ? k == ours->best : losses[k] > losses[best]);
	}
	assert_true(losses[ours->best] <= losses[best] * 1.001);
	return ours->best == best;
}

static size_t
equal_bits(const float *a, const float *b, size_t count)
{
	size_t same = 0;

	for (size_t i = 0; i < count; i++)
		same += memcmp(&a[i], &b[i], sizeof(float)) == 0;
	return same;
}

/*
 * Our channel scales are AutoAWQ's, bit for bit, where its square roots are right. A bit matters:
 * where a clip limit holds at both ends of a group, limit / ((2 · limit) / 15) is 7.5, and which
 * zero point that rounds to, and so which limit is best, hangs on the last bit of what was scaled.
 */
static void
same_scales(const struct one *one, size_t g)
{
	const struct sp_block_group *ours = &one->block.groups[g];
	float *theirs;
	char name[32];
	size_t same;

	snprintf(name, sizeof(name), "group.%zu", g);
	theirs = floats(one->file, name, "scales", ours->in);
	same = equal_bits(ours->scales, theirs, ours->in);
	print_message("%s: ratio %zu / 20, %zu of %zu channel scales\n", ours->prev,
	    ours->result.best, same, ours->in);
	if (!one->mkl)
		assert_int_equal(same, ours->in);
	for (size_t i = 0; i < ours->in; i++)
		assert_true(fabsf(ours->scales[i] - theirs[i]) <= 0x1p-21f * theirs[i]);
	free(theirs);
}

/* Codes, zeros and scales that are the same, of how many. */
struct counts {
	size_t codes, zeros, scales, of_codes, of_groups;
};

static void
show(const char *name, const struct counts *c)
{
	print_message("%s: %.4f %% of codes, %.4f %% of zeros, %.4f %% of scales\n", name,
	    100 * (double)c->codes / (double)c->of_codes,
	    100 * (double)c->zeros / (double)c->of_groups,
	    100 * (double)c->scales / (double)c->of_groups);
}

static void
sum(struct counts *all, const struct counts *c)
{
	all->codes += c->codes;
	all->zeros += c->zeros;
	all->scales += c->scales;
	all->of_codes += c->of_codes;
	all->of_groups += c->of_groups;
}

static void
compare(const struct one *one, enum sp_layer_linear which, struct counts *all)
{
	const char *name = sp_layer_linear_name(which);
	const struct sp_codes *ours = &one->block.codes[which];
	size_t groups = ours->in / GROUP;
	struct counts c = {.of_codes = ours->out * ours->in, .of_groups = ours->out * groups};
	uint8_t *theirs = malloc(ours->out * ours->in);
	const uint8_t *halves = find(one->file, name, "scales")->data; /* [groups][out] */

	assert_non_null(theirs);
	sp_pack_gemm_decode((const uint32_t *)(const void *)find(one->file, name, "qweight")->data,
	    ours->out, ours->in, theirs);
	for (size_t i = 0; i < ours->out * ours->in; i++)
		c.codes += theirs[i] == ours->codes[i];
	sp_pack_gemm_decode((const uint32_t *)(const void *)find(one->file, name, "qzeros")->data,
	    ours->out, groups, theirs);
	for (size_t i = 0; i < ours->out * groups; i++) {
		c.zeros += theirs[i] == ours->zeros[i];
		c.scales += memcmp(halves + 2 * (i % groups * ours->out + i / groups),
				&ours->scales[i], 2) == 0;
	}
	show(name, &c);
	sum(all, &c);
	free(theirs);
}

/* 1: AutoAWQ's ratios of all groups whose scales a linear layer bears, in columns or rows. */
static int
comparable(const struct one *one, const int *same, enum sp_layer_linear which)
{
	for (size_t g = 0; g < one->block.group_count; g++) {
		const struct sp_block_group *group = &one->block.groups[g];
		int columns = which >= group->first && which < group->first + group->count;
		int rows = (group->first == SP_LAYER_O && which == SP_LAYER_V) ||
			   (group->first == SP_LAYER_DOWN && which == SP_LAYER_UP);

		if ((columns || rows) && !same[g])
			return 0;
	}
	return 1;
}

static void
test_layers(void **state)
{
	struct counts total = {0};

	(void)state;
	for (size_t i = 0; i < file_count; i++) {
		int same[SP_BLOCK_GROUPS_MAX] = {0};
		struct counts all = {0};
		struct one one;
		double limit;

		print_message("%s\n", files[i]);
		load(&one, files[i]);
		/* grouped-query attention: no scales before o_proj */
		assert_int_equal(one.block.group_count, one.layer.v.out == one.layer.o.out ? 4 : 3);
		for (size_t g = 0; g < one.block.group_count; g++) {
			same[g] = same_ratio(&one, g);
			if (same[g])
				same_scales(&one, g);
		}
		ok(sp_block_scale(&one.layer, &plan, &one.block, &err));
		ok(sp_block_clip(&one.env, &one.layer, &one.inputs, &plan, &one.block, &err));
		ok(sp_block_round(&one.layer, &plan, &one.block, &err));
		for (enum sp_layer_linear k = 0; k < SP_LAYER_LINEARS; k++) {
			if (comparable(&one, same, k))
				compare(&one, k, &all);
		}
		show("the layer", &all);
		/* a row's group whose clip errors at two steps are as good as equal may go either
		 * way; another bit of all scales of a layer was seen to move 1 % of its codes */
		limit = one.mkl ? 0.98 : 0.999;
		assert_true((double)all.codes >= limit * (double)all.of_codes);
		assert_true((double)all.zeros >= limit * (double)all.of_groups);
		assert_true((double)all.scales >= limit * (double)all.of_groups);
		sum(&total, &all);
		unload(&one);
	}
	show("all layers", &total);
}

static float *
noise(size_t rows)
{
	float *x = malloc(rows * NOISE * sizeof(*x));

	assert_non_null(x);
	for (size_t i = 0; i < rows * NOISE; i++)
		x[i] = (float)((uint32_t)i * 2654435761U >> 8);
	return x;
}

/* Of so many rows that each level of partial sums is used. */
static void
test_sums(void **state)
{
	static const size_t rows[] = {15, 100, 4097, 70000};
	struct sp_safetensors *file;
	struct sp_pool *pool;
	struct sp_map map;

	(void)state;
	ok(sp_map_open(&map, OWN, &err));
	ok(sp_safetensors_parse(map.data, map.len, OWN, &file, &err));
	ok(sp_pool_open(1, &pool, &err));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		float *x = noise(rows[i]), *theirs, mean[NOISE];
		char name[32];

		snprintf(name, sizeof(name), "sum.%zu", rows[i]);
		theirs = floats(file, name, "", NOISE);
		for (size_t c = 0; c < NOISE; c++)
			theirs[c] /= (float)rows[i];
		sp_search_x_mean(pool, x, rows[i], NOISE, 0, mean);
		assert_memory_equal(mean, theirs, sizeof(mean));
		free(theirs);
		free(x);
	}
	sp_pool_close(&pool);
	sp_safetensors_free(&file);
	sp_map_close(&map);
}

static void
test_scales(void **state)
{
	struct sp_safetensors *file;
	float *x, *w, *theirs, ours[256];
	struct sp_map map;

	(void)state;
	ok(sp_map_open(&map, OWN, &err));
	ok(sp_safetensors_parse(map.data, map.len, OWN, &file, &err));
	x = floats(file, "duo", "x", 256);
	w = floats(file, "duo", "w", 256);
	theirs = floats(file, "duo", "scales", SP_SEARCH_RATIOS * (size_t)256);
	for (size_t k = 0; k < SP_SEARCH_RATIOS; k++) {
		sp_search_scales(x, w, 256, k, ours);
		assert_memory_equal(ours, theirs + k * 256, sizeof(ours));
	}
	free(x);
	free(w);
	free(theirs);
	sp_safetensors_free(&file);
	sp_map_close(&map);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_layers),
	    cmocka_unit_test(test_sums),
	    cmocka_unit_test(test_scales),
	};

	if (argc > 2) {
		model = argv[1];
		files = (const char *const *)argv + 2;
		file_count = (size_t)argc - 2;
	}
	return cmocka_run_group_tests_name("awq_f32", tests, NULL, NULL);
}
