/*
 * prefill.c -- one decoder layer over whole sequences, and the same matrix products by OpenBLAS.
 *
 *	sp-bench-prefill ours|blas THREADS SEQUENCES HIDDEN INTERMEDIATE HEADS KV_HEADS HEAD_DIM
 *
 * Sequences of 512 tokens, random weights. "ours" is all that a layer does: norms, rotations,
 * attention, both residuals; "blas" its seven products alone. Prints the seconds of the faster of
 * two passes, after one that is not counted; on stderr the billions of floating-point operations a
 * second that this is, counting the seven products for both, and a second of processor time, which
 * tells more where the machine is busy.
 */
#include "../draw.h"
#include "engine/layer.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LEN ((size_t)512)
#define PASSES 3

/* cblas.h: row-major, as it is, transposed */
enum { ROW_MAJOR = 101, NO_TRANS = 111, TRANS = 112 };
typedef void cblas_sgemm_fn(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
    const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);

static struct sp_err err;

static void
check(enum sp_code code)
{
	if (code == SP_OK)
		return;
	fprintf(stderr, "sp-bench-prefill: %s\n", err.msg);
	exit(1);
}

/* Seconds on the wall, and of this process on all processors. */
struct took {
	double wall, cpu;
};

static double
seconds(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void
begin(struct took *took)
{
	took->wall -= seconds(CLOCK_MONOTONIC);
	took->cpu -= seconds(CLOCK_PROCESS_CPUTIME_ID);
}

static void
end(struct took *took)
{
	took->wall += seconds(CLOCK_MONOTONIC);
	took->cpu += seconds(CLOCK_PROCESS_CPUTIME_ID);
}

/* The first pass warms up and does not count. */
static void
keep_faster(int pass, struct took *best, const struct took *took)
{
	if (pass == 1 || (pass > 1 && took->wall < best->wall))
		*best = *took;
}

/* splitmix64 (Steele, Lea, Flood 2014); values from -scale to scale */
static float *
numbers(size_t count, float scale)
{
	static uint64_t seed = 1;
	float *values = sp_xcalloc(count, sizeof(*values));

	for (size_t i = 0; i < count; i++)
		values[i] = ((float)(draw_next(&seed) >> 40) / (float)(1 << 23) - 1.0f) * scale;
	return values;
}

static double
products_gflop(const struct sp_model_config *config, size_t tokens)
{
	double sum = 0;

	for (enum sp_layer_linear i = 0; i < SP_LAYER_LINEARS; i++) {
		struct sp_layer_part part = sp_layer_part(config, 0, i);

		sum += 2e-9 * (double)tokens * (double)part.out * (double)part.in;
	}
	return sum;
}

static struct took
ours(const struct sp_model_config *config, unsigned threads, size_t sequences)
{
	struct sp_pool *pool;
	struct sp_layer_env env;
	struct sp_layer layer = {0};
	float *h = numbers(sequences * LEN * config->hidden, 1);
	struct took best = {0};

	check(sp_pool_open(threads, &pool, &err));
	check(sp_layer_env_open(&env, config, LEN, pool, &err));
	layer.input_norm = numbers(config->hidden, 1);
	layer.post_norm = numbers(config->hidden, 1);
	for (enum sp_layer_linear i = 0; i < SP_LAYER_LINEARS; i++) {
		struct sp_linear *linear = sp_layer_linear(&layer, i);

		linear->out = sp_layer_part(config, 0, i).out;
		linear->in = sp_layer_part(config, 0, i).in;
		linear->w = numbers(linear->out * linear->in, 0.02f);
		check(sp_linear_pack(linear, pool, &err));
	}
	for (int pass = 0; pass < PASSES; pass++) {
		struct took took = {0};

		begin(&took);
		check(sp_layer_forward(&env, &layer, h, sequences, LEN, &err));
		end(&took);
		keep_faster(pass, &best, &took);
	}
	fprintf(stderr, "ours (%s)", sp_kernels_name());
	sp_layer_free(&layer);
	sp_layer_env_close(&env);
	sp_pool_close(&pool);
	free(h);
	return best;
}

static void *
symbol(void *library, const char *name)
{
	void *found = dlsym(library, name);

	if (found != NULL)
		return found;
	fprintf(stderr, "sp-bench-prefill: libopenblas.so.0 has no %s\n", name);
	exit(1);
}

static struct took
blas(const struct sp_model_config *config, unsigned threads, size_t tokens)
{
	void *library = dlopen("libopenblas.so.0", RTLD_NOW);
	cblas_sgemm_fn *sgemm;
	void (*set_threads)(int);
	char *(*core)(void);
	struct took best = {0};

	if (library == NULL) {
		fprintf(stderr, "sp-bench-prefill: %s: install libopenblas0-pthread\n", dlerror());
		exit(1);
	}
	*(void **)(&sgemm) = symbol(library, "cblas_sgemm");
	*(void **)(&set_threads) = symbol(library, "openblas_set_num_threads");
	*(void **)(&core) = symbol(library, "openblas_get_corename");
	set_threads((int)threads);
	fprintf(stderr, "OpenBLAS (%s)", core());
	for (int pass = 0; pass < PASSES; pass++) {
		struct took took = {0};

		for (enum sp_layer_linear i = 0; i < SP_LAYER_LINEARS; i++) {
			size_t out = sp_layer_part(config, 0, i).out;
			size_t in = sp_layer_part(config, 0, i).in;
			float *x, *w, *y;

			x = numbers(tokens * in, 1);
			w = numbers(out * in, 0.02f);
			y = numbers(tokens * out, 0);
			begin(&took);
			sgemm(ROW_MAJOR, NO_TRANS, TRANS, (int)tokens, (int)out, (int)in, 1, x,
			    (int)in, w, (int)in, 0, y, (int)out);
			end(&took);
			free(x);
			free(w);
			free(y);
		}
		keep_faster(pass, &best, &took);
	}
	return best;
}

int
main(int argc, char **argv)
{
	struct sp_model_config config = {.rms_norm_eps = 1e-6f};
	unsigned number[7];
	struct took took;
	double gflop;

	if (argc != 9) {
		fprintf(stderr, "usage: sp-bench-prefill ours|blas THREADS SEQUENCES HIDDEN "
				"INTERMEDIATE HEADS KV_HEADS HEAD_DIM\n");
		return 2;
	}
	for (int i = 0; i < 7; i++)
		number[i] = (unsigned)strtoul(argv[i + 2], NULL, 10);
	config.hidden = number[2];
	config.intermediate = number[3];
	config.heads = number[4];
	config.kv_heads = number[5];
	config.head_dim = number[6];
	config.rope.theta = 1e6;
	config.rope.attention_factor = 1;
	took = strcmp(argv[1], "ours") == 0 ? ours(&config, number[0], number[1])
					    : blas(&config, number[0], number[1] * LEN);
	gflop = products_gflop(&config, number[1] * LEN);
	fprintf(stderr, ", hidden %u: %.0f GFLOP/s, %.0f of a processor\n", config.hidden,
	    gflop / took.wall, gflop / took.cpu);
	printf("%.6f\n", took.wall);
	return 0;
}
