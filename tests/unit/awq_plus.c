/*
 * awq_plus.c -- method awq+ step by step against the definitions: moments, factor, compensated
 * rounding, the plan of what is quantized.
 */
#include "awq/gram.h"
#include "awq/plan.h"
#include "awq/plane.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IN ((size_t)96)
#define OUT ((size_t)40) /* a whole unit of rows and a part of one */
#define TOKENS ((size_t)1500)
#define GROUP ((size_t)32)

static struct sp_err err;
static struct sp_pool *pool, *alone;
static float *x, *w; /* [TOKENS][IN], correlated; [OUT][IN] */

static void
ok(enum sp_code rc)
{
	if (rc != SP_OK)
		fail_msg("%s: %s", sp_err_word(rc), err.msg);
}

/* -1 … 1, the same every time. */
static float
noise(void)
{
	static uint32_t state = 1;

	state = state * 1664525 + 1013904223;
	return (float)(state >> 8) / (float)(1 << 23) - 1.0f;
}

static float *
floats(size_t count)
{
	float *values = malloc(count * sizeof(*values));

	assert_non_null(values);
	return values;
}

static int
setup(void **state)
{
	(void)state;
	ok(sp_pool_open(2, &pool, &err));
	ok(sp_pool_open(1, &alone, &err));
	x = floats(TOKENS * IN);
	w = floats(OUT * IN);
	for (size_t t = 0; t < TOKENS; t++) {
		float common = noise();

		for (size_t i = 0; i < IN; i++)
			x[t * IN + i] = (common + noise()) * (i % 7 == 0 ? 8.0f : 1.0f);
		x[t * IN + 5] = 0.0f; /* an input that never is */
	}
	for (size_t i = 0; i < OUT * IN; i++)
		w[i] = noise();
	for (size_t i = 0; i < GROUP; i++)
		w[3 * IN + i] = 2.0f + 0.1f * noise(); /* a group far from 0 */
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	free(x);
	free(w);
	sp_pool_close(&pool);
	sp_pool_close(&alone);
	return 0;
}

static float *
moments_new(size_t tokens)
{
	float *g = calloc(IN * IN, sizeof(*g));

	assert_non_null(g);
	ok(sp_gram_add(pool, x, tokens, IN, g, &err));
	sp_gram_mirror(pool, IN, g);
	return g;
}

static float *
factor_new(double damp)
{
	float *factor = moments_new(TOKENS);

	ok(sp_factor_cholesky(pool, factor, IN, TOKENS, damp, &err));
	return factor;
}

static void
test_moments(void **state)
{
	float *g = moments_new(TOKENS), *parts = moments_new(1024), *y = floats(TOKENS * IN);
	float *drift = calloc(IN * IN, sizeof(*drift)), scales[IN];

	(void)state;
	for (size_t i = 0; i < TOKENS * IN; i++)
		y[i] = x[i] + 0.1f * noise();
	for (size_t i = 0; i < IN; i++)
		scales[i] = 1.5f + noise();
	assert_non_null(drift);
	ok(sp_gram_add_drift(pool, x, y, scales, TOKENS, IN, drift, &err));
	/* a part after the other gives the bits of the whole */
	ok(sp_gram_add(alone, x + 1024 * IN, TOKENS - 1024, IN, parts, &err));
	sp_gram_mirror(alone, IN, parts);
	assert_memory_equal(parts, g, IN * IN * sizeof(*g));
	for (size_t i = 0; i < IN; i++) {
		for (size_t j = 0; j < IN; j++) {
			double sum = 0, ahead = 0, size = 0;

			for (size_t t = 0; t < TOKENS; t++) {
				double a = x[t * IN + i], d = y[t * IN + j] / scales[j];

				sum += a * x[t * IN + j];
				ahead += a * (d - x[t * IN + j]);
				size += fabs(a) * (fabs(d) + fabs((double)x[t * IN + j]));
			}
			assert_true(fabs(g[i * IN + j] - sum) <= 1e-5 * (size + 1));
			assert_true(fabs(drift[i * IN + j] - ahead) <= 1e-5 * (size + 1));
			assert_true(g[i * IN + j] == g[j * IN + i]);
		}
	}
	free(g);
	free(parts);
	free(drift);
	free(y);
}

/* L·Lᵀ is H again, the part above the diagonal is what it says, and solving solves. */
static void
test_factor(void **state)
{
	float *g = moments_new(TOKENS), *f = factor_new(0.01);
	float b[IN * SP_PANEL], before[IN * SP_PANEL];
	double mean = 0;

	(void)state;
	for (size_t i = 0; i < IN; i++)
		mean += g[i * IN + i] / TOKENS / IN;
	for (size_t i = 0; i < IN * SP_PANEL; i++)
		b[i] = before[i] = noise();
	sp_factor_solve(f, IN, b);
	for (size_t i = 0; i < IN; i++) {
		double lane[SP_PANEL] = {0};

		for (size_t j = 0; j < IN; j++) {
			double h = g[i * IN + j] / (double)TOKENS + (i == j ? 0.01 * mean : 0);
			double sum = 0;

			for (size_t k = 0; k <= i && k <= j; k++)
				sum += (double)f[i * IN + k] * f[j * IN + k];
			assert_true(fabs(sum - h) <= 1e-4 * mean);
			if (j > i)
				assert_true(fabsf(f[i * IN + j] - f[j * IN + i] / f[i * IN + i]) <=
					    1e-6f * fabsf(f[i * IN + j]));
			for (size_t c = 0; c < SP_PANEL; c++)
				lane[c] += h * b[j * SP_PANEL + c];
		}
		for (size_t c = 0; c < SP_PANEL; c++)
			assert_true(fabs(lane[c] - (double)before[i * SP_PANEL + c]) <= 1e-2);
	}
	free(g);
	free(f);
}

static void
test_factor_hard(void **state)
{
	float *g = calloc(IN * IN, sizeof(*g));

	(void)state;
	assert_non_null(g);
	ok(sp_factor_cholesky(pool, g, IN, 1, 0.01, &err)); /* nothing ever came in */
	for (size_t i = 0; i < IN * IN; i++)
		g[i] = 1.0f; /* one token, and no damping that fp32 sees: raised until it does */
	ok(sp_factor_cholesky(pool, g, IN, 1, 1e-12, &err));
	for (size_t i = 0; i < IN * IN; i++)
		assert_true(isfinite(g[i]));
	g[7 * IN + 7] = NAN;
	assert_int_equal(sp_factor_cholesky(pool, g, IN, 1, 0.01, &err), SP_E_INVALID);
	free(g);
}

static double
round_with(struct sp_pool *with, const struct sp_plane *plane, struct sp_codes *codes, float *back)
{
	double loss, measured;

	ok(sp_plane_round(with, plane, w, OUT, codes, &loss, &err));
	sp_round_decode(codes, back);
	ok(sp_plane_loss(with, plane, w, back, OUT, &measured, &err));
	if (plane->drift == NULL)
		assert_true(fabs(loss - measured) <= 1e-3 * measured);
	return loss;
}

/* What it says it errs by is what its codes err by, and that is less than nearest rounding. */
static void
test_plane(void **state)
{
	float *f = factor_new(0.01), *back = floats(OUT * IN), *plain = floats(OUT * IN);
	struct sp_plane plane = {.factor = f, .in = IN, .grid = {.group = GROUP}, .shrink = 1};
	struct sp_codes codes;
	double nearest, simple, tried, symmetric;

	(void)state;
	sp_round_fake(w, OUT * IN, plane.grid, plain);
	ok(sp_plane_loss(pool, &plane, w, plain, OUT, &nearest, &err));
	simple = round_with(pool, &plane, &codes, back);
	assert_true(simple < nearest);
	/* the group that does not hold 0 is within its grid all the same */
	for (size_t i = 0; i < GROUP; i++)
		assert_true(fabsf(back[3 * IN + i] - w[3 * IN + i]) < 0.5f);
	for (size_t i = 0; i < OUT * IN; i++)
		assert_true(codes.codes[i] <= 15);
	sp_round_free(&codes);
	plane.shrink = 8;
	plane.refine = 2;
	tried = round_with(pool, &plane, &codes, back);
	assert_true(tried < 0.9 * simple);
	sp_round_free(&codes);
	plane.grid.symmetric = 1;
	symmetric = round_with(pool, &plane, &codes, back);
	assert_true(symmetric > tried);
	for (size_t i = 0; i < OUT * IN / GROUP; i++)
		assert_int_equal(codes.zeros[i], SP_GRID_MIDDLE);
	sp_round_free(&codes);
	free(f);
	free(back);
	free(plain);
}

static void
test_threads(void **state)
{
	float *f = factor_new(0.01), *back = floats(OUT * IN);
	struct sp_plane plane = {
	    .factor = f, .in = IN, .grid = {.group = GROUP}, .shrink = 4, .refine = 1};
	struct sp_codes a, b;

	(void)state;
	assert_true(round_with(pool, &plane, &a, back) == round_with(alone, &plane, &b, back));
	assert_memory_equal(a.codes, b.codes, OUT * IN);
	assert_memory_equal(a.zeros, b.zeros, OUT * IN / GROUP);
	assert_memory_equal(a.scales, b.scales, OUT * IN / GROUP * 2);
	sp_round_free(&a);
	sp_round_free(&b);
	free(f);
	free(back);
}

static double
distance(const float *exact, const float *runs, const float *q)
{
	double sum = 0;

	for (size_t t = 0; t < TOKENS; t++) {
		for (size_t r = 0; r < OUT; r++) {
			double a = 0, b = 0;

			for (size_t i = 0; i < IN; i++) {
				a += (double)w[r * IN + i] * exact[t * IN + i];
				b += (double)q[r * IN + i] * runs[t * IN + i];
			}
			sum += (a - b) * (a - b);
		}
	}
	return sum;
}

/* Inputs that lag behind the exact model's are made up for. */
static void
test_drift(void **state)
{
	float *f = factor_new(0.01), *drift = calloc(IN * IN, sizeof(*drift));
	float *exact = floats(TOKENS * IN), *asked = floats(2 * SP_PANEL * IN);
	float *with = floats(OUT * IN), *without = floats(OUT * IN), scales[IN];
	struct sp_plane plane = {.factor = f, .in = IN, .grid = {.group = GROUP}, .shrink = 1};
	struct sp_codes codes;

	(void)state;
	for (size_t i = 0; i < IN; i++)
		scales[i] = 1.0f;
	for (size_t i = 0; i < TOKENS * IN; i++)
		exact[i] = 1.1f * x[i] + 0.2f * x[i % IN < 3 ? i : i - 3];
	round_with(pool, &plane, &codes, without);
	sp_round_free(&codes);
	assert_non_null(drift);
	ok(sp_gram_add_drift(pool, x, exact, scales, TOKENS, IN, drift, &err));
	for (size_t i = 0; i < IN * IN; i++)
		drift[i] /= TOKENS;
	ok(sp_plane_drift(pool, drift, w, OUT, IN, asked, &err));
	plane.drift = asked;
	round_with(pool, &plane, &codes, with);
	sp_round_free(&codes);
	assert_true(distance(exact, x, with) < 0.5 * distance(exact, x, without));
	free(f);
	free(drift);
	free(asked);
	free(exact);
	free(with);
	free(without);
}

/* Scales are those of the inputs undone: the loss is that of scaled weights on a factor of inputs
 * divided by them. */
static void
test_scaled(void **state)
{
	float *f = factor_new(0.0001), *g = floats(IN * IN), *scaled = floats(OUT * IN);
	float scales[IN];
	struct sp_plane plane = {.factor = f,
	    .scales = scales,
	    .in = IN,
	    .grid = {.group = GROUP},
	    .shrink = 4,
	    .refine = 1};
	struct sp_plane other = plane;
	double loss, expected;

	(void)state;
	for (size_t i = 0; i < IN; i++)
		scales[i] = 1.5f + noise();
	for (size_t i = 0; i < IN; i++) {
		for (size_t j = 0; j < IN; j++)
			g[i * IN + j] =
			    f[i * IN + j] * (j <= i ? 1.0f / scales[i] : scales[i] / scales[j]);
	}
	for (size_t i = 0; i < OUT * IN; i++)
		scaled[i] = w[i] * scales[i % IN];
	other.factor = g;
	other.scales = NULL;
	ok(sp_plane_round(pool, &plane, w, OUT, NULL, &loss, &err));
	ok(sp_plane_round(pool, &other, scaled, OUT, NULL, &expected, &err));
	assert_true(fabs(loss - expected) <= 1e-3 * expected);
	/* one unit of rows of the two, the first */
	plane.sample = 1;
	ok(sp_plane_round(pool, &plane, w, OUT, NULL, &loss, &err));
	ok(sp_plane_round(pool, &other, scaled, SP_PANEL, NULL, &expected, &err));
	assert_true(fabs(loss - expected) <= 1e-3 * expected);
	free(f);
	free(g);
	free(scaled);
}

/* --- the plan ----------------------------------------------------------------------------------
 */

static struct sp_model_config
shape(uint32_t hidden, uint32_t intermediate)
{
	return (struct sp_model_config){.hidden = hidden,
	    .intermediate = intermediate,
	    .layers = 12,
	    .heads = hidden / 64,
	    .kv_heads = hidden / 64,
	    .head_dim = 64};
}

static enum sp_code
plan_of(const struct sp_model_config *config, size_t group, const char *const *skip, size_t count,
    enum sp_plan_fallback fallback, struct sp_plan *plan)
{
	return sp_plan_make(
	    config, (struct sp_grid){.group = group}, skip, count, fallback, plan, &err);
}

static void
test_plan_skip(void **state)
{
	static const char *const down[] = {"layers.1.mlp.down_proj"}, *const q[] = {"q_proj"};
	static const char *const attn[] = {"self_attn"}, *const all[] = {"proj"},
				 *const no[] = {""};
	struct sp_model_config config = shape(256, 640);
	struct sp_plan plan;
	json_t *report;

	(void)state;
	ok(plan_of(&config, 128, down, 1, SP_PLAN_REFUSE, &plan));
	/* a substring: layers 1, but not 10 and 11, since the dot belongs to it */
	for (size_t i = 0; i < config.layers; i++)
		assert_int_equal(sp_plan_layer(&plan, &config, i).skip[SP_LAYER_DOWN], i == 1);
	assert_int_equal(sp_plan_layer(&plan, &config, 1).skip[SP_LAYER_UP], 0);
	ok(plan_of(&config, 64, attn, 1, SP_PLAN_REFUSE, &plan));
	assert_int_equal(sp_plan_layer(&plan, &config, 3).skip[SP_LAYER_O], 1);
	report = sp_plan_report(&plan);
	assert_int_equal(json_integer_value(json_object_get(report, "group_size")), 64);
	assert_int_equal(json_array_size(json_object_get(report, "modules_to_not_convert")), 1);
	json_decref(report);
	assert_int_equal(plan_of(&config, 128, q, 1, SP_PLAN_REFUSE, &plan), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "self_attn.k_proj"));
	assert_int_equal(plan_of(&config, 128, all, 1, SP_PLAN_REFUSE, &plan), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "nothing"));
	assert_int_equal(plan_of(&config, 128, no, 1, SP_PLAN_REFUSE, &plan), SP_E_INVALID);
	assert_int_equal(plan_of(&config, 100, NULL, 0, SP_PLAN_REFUSE, &plan), SP_E_UNSUPPORTED);
}

static void
test_plan_fallback(void **state)
{
	struct sp_model_config config = shape(256, 29568 / 32), odd = shape(256, 8 * 77);
	enum sp_plan_fallback fallback;
	struct sp_plan plan;
	json_t *report;

	(void)state;
	/* 924 = 28 · 33: not a multiple of 32; 256 is of 128 */
	assert_int_equal(plan_of(&config, 128, NULL, 0, SP_PLAN_REFUSE, &plan), SP_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "mlp.gate_proj"));
	assert_int_equal(plan_of(&odd, 128, NULL, 0, SP_PLAN_SMALLER, &plan), SP_E_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "mlp.down_proj"));
	ok(plan_of(&odd, 128, NULL, 0, SP_PLAN_LEAVE, &plan));
	assert_int_equal(plan.grid.group, 128);
	for (enum sp_layer_linear i = 0; i < SP_LAYER_LINEARS; i++)
		assert_int_equal(sp_plan_layer(&plan, &config, 0).skip[i], i == SP_LAYER_DOWN);
	report = sp_plan_report(&plan);
	assert_string_equal(
	    json_string_value(json_array_get(json_object_get(report, "fallback"), 0)),
	    "mlp.down_proj");
	json_decref(report);
	odd = shape(256, 640 + 32);
	ok(plan_of(&odd, 128, NULL, 0, SP_PLAN_SMALLER, &plan));
	assert_int_equal(plan.grid.group, 32);
	assert_int_equal(plan.asked, 128);
	assert_true(sp_plan_fallback_parse("leave", &fallback) && fallback == SP_PLAN_LEAVE);
	assert_true(!sp_plan_fallback_parse("Leave", &fallback));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_moments),
	    cmocka_unit_test(test_factor),
	    cmocka_unit_test(test_factor_hard),
	    cmocka_unit_test(test_plane),
	    cmocka_unit_test(test_threads),
	    cmocka_unit_test(test_drift),
	    cmocka_unit_test(test_scaled),
	    cmocka_unit_test(test_plan_skip),
	    cmocka_unit_test(test_plan_fallback),
	};

	return cmocka_run_group_tests_name("awq_plus", tests, setup, teardown);
}
