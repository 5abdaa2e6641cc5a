/* gpu_attention.c -- attention of prefill and decode against lib/engine/attention.h. */
#include "gpu_rig.h"

#include "engine/attention.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SEQS_MAX 4

struct shape {
	size_t heads, kv_heads, dim, window;
	struct {
		uint32_t prefix, before, count; /* tokens */
	} seqs[SEQS_MAX];
};

static const struct shape shapes[] = {
    {4, 2, 64, 0, {{0, 0, 70}, {0, 0, 1}, {9, 3, 5}}},
    {3, 3, 96, 0, {{0, 0, 65}, {64, 0, 2}}},
    {7, 1, 128, 0, {{0, 0, 20}, {0, 130, 1}, {40, 700, 1}}}, /* more than a split */
    {4, 2, 64, 8, {{0, 0, 150}, {30, 60, 1}, {0, 600, 1}, {10, 2, 3}}},
    {8, 2, 128, 100, {{0, 0, 190}}},
};

/* What one sequence of a shape is on either side. */
struct side {
	struct sp_layer_env env;
	struct sp_attention work;
	struct sp_kv prefix[SEQS_MAX], own[SEQS_MAX];
	struct sp_attention_seq seqs[SEQS_MAX];
	struct sp_gpu_seq on[SEQS_MAX];
	size_t n, rows, cache; /* new tokens; rows of the GPU's keys */
};

/* Fills the CPU's cache of one sequence with rows `from` … of k and v. */
static void
append(
    struct side *side, struct sp_kv *kv, const float *k, const float *v, size_t from, size_t count)
{
	size_t width = side->env.config.kv_heads * side->env.config.head_dim;
	struct sp_attention_seq seq = {.own = *kv, .row = 0, .count = count};

	if (count > 0)
		sp_attention_append(&side->env, 0, &seq, 1, k + from * width, v + from * width);
}

static void
side_open(struct side *side, const struct shape *shape)
{
	size_t dim = shape->dim, longest = 1;

	memset(side, 0, sizeof(*side));
	side->env.config.heads = (uint32_t)shape->heads;
	side->env.config.kv_heads = (uint32_t)shape->kv_heads;
	side->env.config.head_dim = (uint32_t)dim;
	side->env.pool = gpu_pool;
	side->env.positions = 1024;
	side->env.rope = calloc(side->env.positions * dim, sizeof(float));
	assert_non_null(side->env.rope);
	for (size_t i = 0; i < side->env.positions * dim; i += 2)
		side->env.rope[i] = 1.0f; /* q and k are rotated already */
	for (size_t i = 0; i < SEQS_MAX && shape->seqs[i].count > 0; i++) {
		uint32_t prefix = shape->seqs[i].prefix, before = shape->seqs[i].before;
		uint32_t count = shape->seqs[i].count;

		side->on[i] = (struct sp_gpu_seq){.row = (uint32_t)side->rows,
		    .count = count,
		    .prefix = (uint32_t)side->cache,
		    .prefix_len = prefix,
		    .own = (uint32_t)side->cache + prefix + 3, /* rows that are nobody's between */
		    .own_len = before + count};
		side->cache += prefix + 3 + before + count;
		side->rows += count;
		side->n = i + 1;
		longest = prefix + before + count > longest ? prefix + before + count : longest;
	}
	gpu_ok(sp_attention_reserve(&side->work, &side->env, longest, &gpu_err));
}

/* The same keys and values for the CPU. */
static void
side_fill(struct side *side, const float *k, const float *v)
{
	for (size_t i = 0; i < side->n; i++) {
		const struct sp_gpu_seq *on = &side->on[i];

		gpu_ok(sp_attention_kv_open(
		    &side->prefix[i], &side->env.config, 1, on->prefix_len, &gpu_err));
		gpu_ok(sp_attention_kv_open(
		    &side->own[i], &side->env.config, 1, on->own_len, &gpu_err));
		append(side, &side->prefix[i], k, v, on->prefix, on->prefix_len);
		append(side, &side->own[i], k, v, on->own, on->own_len);
		side->seqs[i] = (struct sp_attention_seq){.prefix = side->prefix[i],
		    .own = side->own[i],
		    .prefix_len = on->prefix_len,
		    .own_len = on->own_len - on->count,
		    .row = on->row,
		    .count = on->count};
	}
}

static void
side_close(struct side *side)
{
	for (size_t i = 0; i < side->n; i++) {
		sp_attention_kv_close(&side->prefix[i]);
		sp_attention_kv_close(&side->own[i]);
	}
	sp_attention_close(&side->work);
	free(side->env.rope);
}

static void
compare(const struct shape *shape, enum sp_gpu_type type)
{
	struct side side;
	size_t width = shape->heads * shape->dim, kv = shape->kv_heads * shape->dim;
	struct sp_gpu_attention a = {.heads = shape->heads,
	    .kv_heads = shape->kv_heads,
	    .head_dim = shape->dim,
	    .window = shape->window};
	float *q, *k, *v, *want, *got, *alone;

	side_open(&side, shape);
	q = gpu_values(type, side.rows * width);
	k = gpu_values(type, side.cache * kv);
	v = gpu_values(type, side.cache * kv);
	want = malloc(side.rows * width * sizeof(*want));
	assert_non_null(want);
	side_fill(&side, k, v);
	sp_attention_run(&side.env, &side.work, 0, shape->window, side.seqs, side.n, q, want);
	a.q = gpu_put(type, q, side.rows * width);
	a.k = gpu_put(type, k, side.cache * kv);
	a.v = gpu_put(type, v, side.cache * kv);
	a.out = gpu_room(type, side.rows * width);
	gpu_ok(sp_gpu_attend(gpu, &a, side.on, side.n, &gpu_err));
	got = gpu_get(a.out);
	/* probabilities are rounded to the type before they meet the values */
	gpu_near("attention", got, want, side.rows * width, type == SP_GPU_F16 ? 2e-3f : 1.2e-2f);
	gpu_same(a.out);
	/* a sequence gets the same bits without the others */
	for (size_t i = 0; i < side.n; i++) {
		size_t first = side.on[i].row * width, count = side.on[i].count * width;

		gpu_ok(sp_gpu_attend(gpu, &a, &side.on[i], 1, &gpu_err));
		alone = gpu_get(sp_gpu_part(a.out, first, count));
		assert_memory_equal(alone, got + first, count * sizeof(*got));
		free(alone);
	}
	free(q), free(k), free(v), free(want), free(got);
	sp_gpu_free(gpu, &a.q);
	sp_gpu_free(gpu, &a.k);
	sp_gpu_free(gpu, &a.v);
	sp_gpu_free(gpu, &a.out);
	side_close(&side);
}

static void
attention(void)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		compare(&shapes[i], i % 2 == 0 ? SP_GPU_BF16 : SP_GPU_F16);
}

static void
test_attention(void **state)
{
	(void)state;
	gpu_orders(attention);
}

/* A token's bits do not depend on how many of its sequence come with it, from two on. */
static void
test_chunks(void **state)
{
	const size_t n = 90, heads = 4, dim = 64, width = heads * dim, kv = dim;
	float *q = gpu_values(SP_GPU_BF16, n * width), *k = gpu_values(SP_GPU_BF16, n * kv);
	struct sp_gpu_attention a = {.heads = heads,
	    .kv_heads = 1,
	    .head_dim = dim,
	    .q = gpu_put(SP_GPU_BF16, q, n * width),
	    .k = gpu_put(SP_GPU_BF16, k, n * kv),
	    .v = gpu_put(SP_GPU_BF16, k, n * kv),
	    .out = gpu_room(SP_GPU_BF16, n * width)};
	struct sp_gpu_seq all = {.count = n, .own_len = n};
	struct sp_gpu_seq end = {.row = n - 7, .count = 7, .own_len = n};
	float *whole, *part;

	(void)state;
	gpu_ok(sp_gpu_attend(gpu, &a, &all, 1, &gpu_err));
	whole = gpu_get(a.out);
	gpu_ok(sp_gpu_zero(gpu, a.out, &gpu_err));
	gpu_ok(sp_gpu_attend(gpu, &a, &end, 1, &gpu_err));
	part = gpu_get(a.out);
	assert_memory_equal(
	    part + (n - 7) * width, whole + (n - 7) * width, 7 * width * sizeof(*whole));
	free(q), free(k), free(whole), free(part);
	sp_gpu_free(gpu, &a.q);
	sp_gpu_free(gpu, &a.k);
	sp_gpu_free(gpu, &a.v);
	sp_gpu_free(gpu, &a.out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_attention),
	    cmocka_unit_test(test_chunks),
	};

	return cmocka_run_group_tests(tests, gpu_setup, gpu_teardown);
}
