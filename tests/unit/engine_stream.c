/* engine_stream.c -- a model layer by layer from its files gives what it gives as a whole, to the
 * bit; activations in a file without a name. */
#include "base/file.h"
#include "engine/forward.h"
#include "engine/stream.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL "tests/fixtures/model"
#define LAYERS 4
#define HIDDEN 256
#define VOCAB 264 /* of the smallest model */
#define SEQS 3
#define LEN 40

static struct sp_err err;
static struct sp_pool *pool;
static struct sp_weights *weights;
static uint32_t ids[SEQS * LEN];
static char dir[] = "/tmp/sp-stream-XXXXXX";

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

static int
set_up(void **state)
{
	(void)state;
	for (size_t i = 0; i < SEQS * LEN; i++)
		ids[i] = (uint32_t)(i * 7919 % VOCAB);
	if (mkdtemp(dir) == NULL)
		return -1;
	ok(sp_pool_open(2, &pool, &err));
	ok(sp_weights_open(MODEL, &weights, &err));
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	sp_weights_close(&weights);
	sp_pool_close(&pool);
	ok(sp_file_remove_all(dir, &err));
	return 0;
}

static float *
expected_logits(const char *model_dir, size_t vocab)
{
	float *logits = malloc(SEQS * LEN * vocab * sizeof(float));
	struct sp_feed feeds[SEQS];
	struct sp_model *model;

	ok(sp_model_open(model_dir, pool, &model, &err));
	for (size_t i = 0; i < SEQS; i++) {
		feeds[i] = (struct sp_feed){.tokens = ids + i * LEN,
		    .count = LEN,
		    .n_logits = LEN,
		    .logits = logits + i * LEN * vocab};
		ok(sp_context_new(model, NULL, LEN, &feeds[i].context, &err));
	}
	ok(sp_forward(model, feeds, SEQS, &err));
	for (size_t i = 0; i < SEQS; i++)
		sp_context_free(&feeds[i].context);
	sp_model_close(&model);
	return logits;
}

struct seen {
	size_t layers, rows;
	size_t stop; /* layer whose end is an error */
	size_t vocab;
	float *logits;
};

static enum sp_code
see_layer(void *arg, size_t layer, struct sp_err *e)
{
	struct seen *seen = arg;

	assert_int_equal(layer, seen->layers++);
	return layer == seen->stop ? sp_err_set(e, SP_E_CANCELLED, "enough") : SP_OK;
}

static enum sp_code
see_logits(void *arg, size_t first, size_t rows, const float *logits, struct sp_err *e)
{
	struct seen *seen = arg;

	(void)e;
	assert_int_equal(first, seen->rows);
	memcpy(seen->logits + first * seen->vocab, logits, rows * seen->vocab * sizeof(float));
	seen->rows += rows;
	return SP_OK;
}

static void
check_run(const struct sp_weights *of, size_t bound, const float *expected)
{
	const struct sp_model_config *config = sp_weights_config(of);
	size_t count = SEQS * LEN * config->vocab;
	struct seen seen = {
	    .stop = config->layers, .vocab = config->vocab, .logits = calloc(count, sizeof(float))};
	struct sp_stream *stream;
	struct sp_spill h;

	ok(sp_stream_open(of, LEN, pool, &stream, &err));
	ok(sp_spill_open(&h, SEQS * LEN * config->hidden, bound, dir, &err));
	assert_int_equal(h.mapped, bound == 0);
	ok(sp_stream_embed(stream, ids, SEQS * LEN, h.values, &err));
	ok(sp_stream_run(stream, &h, SEQS, LEN, see_layer, &seen, &err));
	assert_int_equal(seen.layers, config->layers);
	ok(sp_stream_logits(stream, h.values, SEQS * LEN, see_logits, &seen, &err));
	assert_int_equal(seen.rows, SEQS * LEN);
	assert_memory_equal(seen.logits, expected, count * sizeof(float));
	sp_spill_close(&h);
	sp_stream_close(&stream);
	sp_stream_close(&stream);
	free(seen.logits);
}

/* The fixture, and each architecture's tiny model: dense, windowed, with experts. */
static void
test_same_bits(void **state)
{
	static const char *const dirs[] = {MODEL, "tests/fixtures/arch/llama-llama3",
	    "tests/fixtures/arch/mistral", "tests/fixtures/arch/qwen3",
	    "tests/fixtures/arch/qwen3-moe", "tests/fixtures/arch/mixtral"};

	(void)state;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		struct sp_weights *of;
		float *expected;

		ok(sp_weights_open(dirs[i], &of, &err));
		expected = expected_logits(dirs[i], sp_weights_config(of)->vocab);
		check_run(of, SIZE_MAX, expected);
		check_run(of, 0, expected);
		free(expected);
		sp_weights_close(&of);
	}
}

static void
test_stopped(void **state)
{
	struct seen seen = {.stop = 1};
	struct sp_stream *stream;
	struct sp_spill h;

	(void)state;
	ok(sp_stream_open(weights, LEN, pool, &stream, &err));
	ok(sp_spill_open(&h, LEN * HIDDEN, SIZE_MAX, dir, &err));
	ok(sp_stream_embed(stream, ids, LEN, h.values, &err));
	assert_int_equal(sp_stream_run(stream, &h, 1, LEN, see_layer, &seen, &err), SP_E_CANCELLED);
	assert_int_equal(seen.layers, 2);
	sp_spill_close(&h);
	sp_stream_close(&stream);
}

/* A layer comes plain for who changes its weights. */
static void
test_plain(void **state)
{
	struct sp_layer ours, plain;
	struct sp_stream *stream;

	(void)state;
	ok(sp_stream_open(weights, LEN, pool, &stream, &err));
	for (size_t i = LAYERS; i-- > 0;) {
		ok(sp_stream_layer(stream, i, &ours, &err));
		ok(sp_weights_layer(weights, i, &plain, &err));
		assert_null(ours.q.packed);
		assert_memory_equal(
		    ours.down.w, plain.down.w, plain.down.in * plain.down.out * sizeof(float));
		sp_layer_free(&ours);
		sp_layer_free(&plain);
	}
	sp_stream_close(&stream);
}

static void
test_bad_token(void **state)
{
	const uint32_t bad[2] = {0, 2048};
	struct sp_stream *stream;
	float h[2 * HIDDEN];

	(void)state;
	ok(sp_stream_open(weights, LEN, pool, &stream, &err));
	assert_int_equal(sp_stream_embed(stream, bad, 2, h, &err), SP_E_INVALID);
	assert_non_null(strstr(err.msg, "2048"));
	sp_stream_close(&stream);
}

static size_t
names_in(const char *path)
{
	DIR *d = opendir(path);
	size_t count = 0;

	assert_non_null(d);
	for (const struct dirent *entry; (entry = readdir(d)) != NULL;)
		count += entry->d_name[0] != '.';
	closedir(d);
	return count;
}

static void
test_spill(void **state)
{
	const size_t count = 100000;
	struct sp_spill spill;

	(void)state;
	ok(sp_spill_open(&spill, count, count * sizeof(float) - 1, dir, &err));
	assert_true(spill.mapped);
	/* nobody else can open it, and nothing is left when the process is killed */
	assert_int_equal(names_in(dir), 0);
	for (size_t i = 0; i < count; i++) {
		assert_true(spill.values[i] == 0);
		spill.values[i] = (float)i;
	}
	sp_spill_rest(&spill, 1, count - 1);
	sp_spill_rest(&spill, 7, 0);
	for (size_t i = 0; i < count; i++)
		assert_true(spill.values[i] == (float)i);
	sp_spill_close(&spill);
	sp_spill_close(&spill);
	assert_null(spill.values);
	/* no filesystem holds such a file */
	assert_int_equal(sp_spill_open(&spill, (size_t)1 << 60, 0, dir, &err), SP_E_IO);
	assert_non_null(strstr(err.msg, dir));
	assert_null(spill.values);
	assert_int_equal(sp_spill_open(&spill, 10, 0, "/tmp/sp-no-such-dir", &err), SP_E_NOT_FOUND);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_same_bits),
	    cmocka_unit_test(test_stopped),
	    cmocka_unit_test(test_plain),
	    cmocka_unit_test(test_bad_token),
	    cmocka_unit_test(test_spill),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
