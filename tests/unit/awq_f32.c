/*
 * awq_f32.c -- method awq against AutoAWQ running in fp32: the ratios it chose, and its codes,
 * zeros and scales where ours are the same. Files as make_autoawq_f32.py writes them, of the
 * fixture's layers; awq_f32 FILE... takes those instead of the one that is checked in.
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

#define MODEL "tests/fixtures/model"
#define SEQUENCE ((size_t)512)
#define GROUP ((size_t)128)

static const struct sp_block_plan plan = {.grid = {.group = GROUP}};
static struct sp_err err;
static char **files;
static size_t file_count;

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
};

static void
ok(enum sp_code rc)
{
	if (rc != SP_OK)
		fail_msg("%s: %s", sp_err_word(rc), err.msg);
}

static const struct sp_tensor *
find(const struct one *one, const char *module, const char *what)
{
	const struct sp_tensor *tensor;
	char name[128];

	snprintf(name, sizeof(name), "%s%s%s", module, what[0] != '\0' ? "." : "", what);
	tensor = sp_safetensors_find(one->file, name);
	if (tensor == NULL)
		fail_msg("no tensor %s", name);
	return tensor;
}

static void
load(struct one *one, const char *path)
{
	const struct sp_tensor *input;
	int32_t index;
	float *h;

	*one = (struct one){0};
	ok(sp_map_open(&one->map, path, &err));
	ok(sp_safetensors_parse(one->map.data, one->map.len, path, &one->file, &err));
	memcpy(&index, find(one, "layer", "")->data, sizeof(index));
	input = find(one, "layer", "input");
	ok(sp_pool_open(2, &one->pool, &err));
	ok(sp_weights_open(MODEL, &one->weights, &err));
	ok(sp_layer_env_open(
	    &one->env, sp_weights_config(one->weights), SEQUENCE, one->pool, &err));
	ok(sp_weights_layer(one->weights, (size_t)index, &one->layer, &err));
	ok(sp_layer_pack(&one->layer, one->pool, &err));
	h = malloc(input->size);
	assert_non_null(h);
	memcpy(h, input->data, input->size);
	ok(sp_block_collect(
	    &one->env, &one->layer, h, input->shape[0] / SEQUENCE, SEQUENCE, &one->inputs, &err));
	ok(sp_block_search(&one->env, &one->layer, &one->inputs, &plan, &one->block, &err));
	free(h);
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
	memcpy(losses, find(one, name, "losses")->data, sizeof(losses));
	for (size_t k = 1; k < SP_SEARCH_RATIOS; k++)
		best = losses[k] < losses[best] ? k : best;
	for (size_t k = 0; k < SP_SEARCH_RATIOS; k++)
		assert_true(fabs(ours->losses[k] - losses[k]) <= 0.002 * losses[k]);
	assert_true(losses[ours->best] <= losses[best] * 1.001);
	return ours->best == best;
}

/*
 * Our scales of the same ratio become AutoAWQ's, from which they differ by the rounding of sums.
 * Where the clip limit holds at both ends of a group, limit / ((2 · limit) / 15) is 7.5: which zero
 * point that rounds to, and so which limit is best, hangs on the last bit of what was scaled.
 */
static void
adopt_scales(struct one *one, size_t g)
{
	struct sp_block_group *ours = &one->block.groups[g];
	const struct sp_tensor *tensor;
	char name[32];
	float *theirs = malloc(ours->in * sizeof(*theirs));

	snprintf(name, sizeof(name), "group.%zu", g);
	tensor = find(one, name, "scales");
	assert_non_null(theirs);
	assert_int_equal(tensor->size, ours->in * sizeof(*theirs));
	memcpy(theirs, tensor->data, tensor->size);
	for (size_t i = 0; i < ours->in; i++)
		assert_true(fabsf(ours->scales[i] - theirs[i]) <= 1e-5f * theirs[i]);
	free(ours->scales);
	ours->scales = theirs;
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
compare(const struct one *one, enum sp_layer_linear which, struct counts *all)
{
	const char *name = sp_layer_linear_name(which);
	const struct sp_codes *ours = &one->block.codes[which];
	size_t groups = ours->in / GROUP;
	struct counts c = {.of_codes = ours->out * ours->in, .of_groups = ours->out * groups};
	uint8_t *theirs = malloc(ours->out * ours->in);
	const uint8_t *halves = find(one, name, "scales")->data; /* [groups][out] */

	assert_non_null(theirs);
	sp_pack_gemm_decode((const uint32_t *)(const void *)find(one, name, "qweight")->data,
	    ours->out, ours->in, theirs);
	for (size_t i = 0; i < ours->out * ours->in; i++)
		c.codes += theirs[i] == ours->codes[i];
	sp_pack_gemm_decode((const uint32_t *)(const void *)find(one, name, "qzeros")->data,
	    ours->out, groups, theirs);
	for (size_t i = 0; i < ours->out * groups; i++) {
		c.zeros += theirs[i] == ours->zeros[i];
		c.scales += memcmp(halves + 2 * (i % groups * ours->out + i / groups),
				&ours->scales[i], 2) == 0;
	}
	show(name, &c);
	all->codes += c.codes;
	all->zeros += c.zeros;
	all->scales += c.scales;
	all->of_codes += c.of_codes;
	all->of_groups += c.of_groups;
	free(theirs);
}

static void
test_layers(void **state)
{
	(void)state;
	for (size_t i = 0; i < file_count; i++) {
		int same[SP_BLOCK_GROUPS_MAX];
		struct counts all = {0};
		struct one one;

		load(&one, files[i]);
		/* the fixture has grouped-query attention: no scales before o_proj */
		assert_int_equal(one.block.group_count, 3);
		for (size_t g = 0; g < 3; g++)
			same[g] = same_ratio(&one, g);
		for (size_t g = 0; g < 3; g++) {
			if (same[g])
				adopt_scales(&one, g);
		}
		ok(sp_block_scale(&one.layer, &plan, &one.block, &err));
		ok(sp_block_clip(&one.env, &one.layer, &one.inputs, &plan, &one.block, &err));
		ok(sp_block_round(&one.layer, &plan, &one.block, &err));
		print_message("%s: ratios %d %d %d\n", files[i], same[0], same[1], same[2]);
		for (enum sp_layer_linear k = SP_LAYER_Q; k <= SP_LAYER_V && same[0]; k++)
			compare(&one, k, &all);
		compare(&one, SP_LAYER_O, &all);
		if (same[1])
			compare(&one, SP_LAYER_GATE, &all);
		if (same[1] && same[2]) /* its rows bear the scales of down_proj */
			compare(&one, SP_LAYER_UP, &all);
		if (same[2])
			compare(&one, SP_LAYER_DOWN, &all);
		show("all", &all);
		/* a row's group whose clip errors at two steps are as good as equal may go either
		 * way
		 */
		assert_true((double)all.codes >= 0.999 * (double)all.of_codes);
		assert_true((double)all.zeros >= 0.999 * (double)all.of_groups);
		assert_true((double)all.scales >= 0.999 * (double)all.of_groups);
		unload(&one);
	}
}

int
main(int argc, char **argv)
{
	static char *own[] = {(char *)(uintptr_t) "tests/vectors/autoawq_f32.safetensors"};
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_layers),
	};

	files = argc > 1 ? argv + 1 : own;
	file_count = argc > 1 ? (size_t)argc - 1 : 1;
	return cmocka_run_group_tests_name("awq_f32", tests, NULL, NULL);
}
