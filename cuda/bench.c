/*
 * bench.c -- what a GPU attains, and what of it each kernel of ours does. Usage: bench FILE.json
 *
 * First the card's own figures: bandwidth of copies, and rates of large products by cuBLASLt. Then
 * each kernel at the shapes of a 72B model's layer (hidden 8192, intermediate 29568, 64 heads, 8 KV
 * heads): median of RUNS, and what the card's figures would allow for the same bytes and
 * operations.
 */
#include "sp_gpu_awq.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUNS 5
#define LIMIT ((size_t)40 << 30)
#define HIDDEN ((size_t)8192)
#define INNER ((size_t)29568)
#define HEADS ((size_t)64)
#define KV_HEADS ((size_t)8)
#define DIM ((size_t)128)
#define TOKENS ((size_t)8192) /* of a piece of calibration */
#define GROUP ((size_t)128)
#define FIGURES 64

static struct sp_gpu *gpu;
static struct sp_err err;

enum rate { COPY, HALF, TF32, FP32, RATES };

static double rates[RATES]; /* bytes/s, operations/s */

static struct figure {
	const char *name;
	double ms, operations, bytes;
	enum rate rate; /* of the operations */
} figures[FIGURES];
static size_t figure_count;

static void
ok(enum sp_code rc)
{
	if (rc == SP_OK)
		return;
	fprintf(stderr, "gpu-bench: %s: %s\n", sp_err_word(rc), err.msg);
	exit(1);
}

/* --- arrays ----------------------------------------------------------------------------------
 */

static struct sp_gpu_array
room(enum sp_gpu_type type, size_t count)
{
	struct sp_gpu_array array;

	ok(sp_gpu_alloc(gpu, type, count, &array, &err));
	return array;
}

/* Values between -1 and 1, a million different ones. */
static struct sp_gpu_array
values(enum sp_gpu_type type, size_t count)
{
	static const size_t block = (size_t)1 << 20;
	struct sp_gpu_array array = room(type, count), wide = room(SP_GPU_F32, block);
	float *noise = malloc(block * sizeof(*noise));
	uint32_t state = 1;

	if (noise == NULL)
		exit(1);
	for (size_t i = 0; i < block; i++) {
		state = state * 1664525 + 1013904223;
		noise[i] = (float)(state >> 8) / (float)(1 << 23) - 1.0f;
	}
	ok(sp_gpu_write(gpu, wide, noise, &err));
	for (size_t i = 0; i < count; i += block) {
		size_t part = count - i < block ? count - i : block;

		ok(sp_gpu_convert(
		    gpu, sp_gpu_part(wide, 0, part), sp_gpu_part(array, i, part), &err));
	}
	free(noise);
	sp_gpu_free(gpu, &wide);
	return array;
}

static void
give(struct sp_gpu_array *array)
{
	sp_gpu_free(gpu, array);
}

/* --- measuring -------------------------------------------------------------------------------
 */

static int
rising(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Median of RUNS, after one that is not counted. */
static double
median_ms(void (*run)(void *arg), void *arg)
{
	double ms[RUNS] = {0};

	run(arg);
	for (int i = 0; i < RUNS; i++) {
		struct sp_gpu_mark from, to;

		ok(sp_gpu_mark(gpu, &from, &err));
		run(arg);
		ok(sp_gpu_mark(gpu, &to, &err));
		ok(sp_gpu_wait(gpu, to, &err));
		ok(sp_gpu_elapsed(gpu, from, to, &ms[i], &err));
	}
	qsort(ms, RUNS, sizeof(ms[0]), rising);
	return ms[RUNS / 2];
}

/* bytes: what must be read and written at least. */
static void
measure(const char *name, void (*run)(void *arg), void *arg, enum rate rate, double operations,
    double bytes)
{
	if (figure_count == FIGURES)
		exit(1);
	figures[figure_count++] =
	    (struct figure){name, median_ms(run, arg), operations, bytes, rate};
}

/* --- the card --------------------------------------------------------------------------------
 */

struct product {
	struct sp_gpu_array a, b, c;
	enum sp_gpu_precision precision;
	size_t m, n, k;
};

static void
run_product(void *arg)
{
	const struct product *p = arg;

	ok(sp_gpu_gemm(gpu, p->precision, p->m, p->n, p->k, 1.0f,
	    (struct sp_gpu_matrix){p->a, 0, p->k, 0}, (struct sp_gpu_matrix){p->b, 0, p->k, 1},
	    0.0f, (struct sp_gpu_matrix){p->c, 0, p->n, 0}, &err));
}

static double
product_rate(enum sp_gpu_type type, enum sp_gpu_precision precision)
{
	struct product p = {values(type, TOKENS * HIDDEN), values(type, INNER * HIDDEN),
	    room(type, TOKENS * INNER), precision, TOKENS, INNER, HIDDEN};
	double ms = median_ms(run_product, &p);

	give(&p.a);
	give(&p.b);
	give(&p.c);
	return 2.0 * (double)TOKENS * (double)INNER * (double)HIDDEN / ms * 1e3;
}

static void
run_copy(void *arg)
{
	struct sp_gpu_array *pair = arg;

	ok(sp_gpu_convert(gpu, pair[0], pair[1], &err));
}

static void
measure_card(void)
{
	size_t count = (size_t)1 << 29;
	struct sp_gpu_array pair[2] = {values(SP_GPU_F32, count), room(SP_GPU_F32, count)};

	rates[COPY] = 8.0 * (double)count / median_ms(run_copy, pair) * 1e3;
	give(&pair[0]);
	give(&pair[1]);
	rates[HALF] = product_rate(SP_GPU_BF16, SP_GPU_EXACT);
	rates[TF32] = product_rate(SP_GPU_F32, SP_GPU_FAST);
	rates[FP32] = product_rate(SP_GPU_F32, SP_GPU_EXACT);
}

/* --- forward ---------------------------------------------------------------------------------
 */

struct forward {
	struct sp_gpu_array x, y, w, norm, none;
	struct sp_gpu_attention attention;
	struct sp_gpu_seq *seqs;
	size_t n;
};

static void
run_linear(void *arg)
{
	const struct forward *f = arg;

	ok(sp_gpu_linear(gpu, f->x, TOKENS, HIDDEN, f->w, f->none, INNER, f->y, &err));
}

static void
run_norm(void *arg)
{
	const struct forward *f = arg;

	ok(sp_gpu_rmsnorm(gpu, f->x, f->norm, 1e-6f, TOKENS, HIDDEN, f->x, &err));
}

static void
run_silu(void *arg)
{
	const struct forward *f = arg;

	ok(sp_gpu_silu_mul(gpu, f->y, f->y, &err));
}

static void
run_attention(void *arg)
{
	const struct forward *f = arg;

	ok(sp_gpu_attend(gpu, &f->attention, f->seqs, f->n, &err));
}

static void
measure_attention(const char *name, size_t n, size_t count, size_t len)
{
	size_t q = n * count * HEADS * DIM, kv = n * len * KV_HEADS * DIM;
	struct forward f = {.n = n,
	    .attention = {.heads = HEADS,
		.kv_heads = KV_HEADS,
		.head_dim = DIM,
		.q = values(SP_GPU_BF16, q),
		.out = room(SP_GPU_BF16, q),
		.k = values(SP_GPU_BF16, kv),
		.v = values(SP_GPU_BF16, kv)}};
	double seen = count == 1 ? (double)len : (double)len / 2;

	f.seqs = calloc(n, sizeof(*f.seqs));
	if (f.seqs == NULL)
		exit(1);
	for (size_t i = 0; i < n; i++)
		f.seqs[i] = (struct sp_gpu_seq){.row = (uint32_t)(i * count),
		    .count = (uint32_t)count,
		    .own = (uint32_t)(i * len),
		    .own_len = (uint32_t)len};
	measure(name, run_attention, &f, HALF, 4.0 * (double)(n * count * HEADS * DIM) * seen,
	    4.0 * (double)kv + 4.0 * (double)q);
	free(f.seqs);
	give(&f.attention.q);
	give(&f.attention.out);
	give(&f.attention.k);
	give(&f.attention.v);
}

static void
measure_forward(void)
{
	struct forward f = {.x = values(SP_GPU_BF16, TOKENS * HIDDEN),
	    .y = room(SP_GPU_BF16, TOKENS * INNER),
	    .w = values(SP_GPU_BF16, INNER * HIDDEN),
	    .norm = values(SP_GPU_F32, HIDDEN)};
	double x = (double)(TOKENS * HIDDEN), y = (double)(TOKENS * INNER);

	measure("linear, bf16", run_linear, &f, HALF, 2 * x * (double)INNER,
	    2 * (x + y + (double)(INNER * HIDDEN)));
	measure("rmsnorm, bf16", run_norm, &f, FP32, 0, 4 * x);
	measure("silu_mul, bf16", run_silu, &f, FP32, 0, 4 * y);
	give(&f.x);
	give(&f.y);
	give(&f.w);
	give(&f.norm);
	measure_attention("attention, 16 x 512", 16, 512, 512);
	measure_attention("attention, 2 x 8192", 2, 8192, 8192);
	measure_attention("decode, 64 x 4096", 64, 1, 4096);
}

/* --- quantizing ------------------------------------------------------------------------------
 */

struct awq {
	struct sp_gpu_array x, exact, g, w, losses, limits, none;
	struct sp_gpu_codes codes;
	struct sp_gpu_plane plane;
	size_t in, out;
};

static void
run_moments(void *arg)
{
	const struct awq *a = arg;

	ok(sp_gpu_moments(gpu, a->x, TOKENS, a->in, a->g, &err));
}

static void
run_drift(void *arg)
{
	const struct awq *a = arg;

	ok(sp_gpu_drift(gpu, a->x, a->exact, a->none, TOKENS, a->in, a->g, &err));
}

/* Of moments that are made anew, whose time is in it. */
static void
run_cholesky(void *arg)
{
	const struct awq *a = arg;

	ok(sp_gpu_zero(gpu, a->g, &err));
	ok(sp_gpu_moments(gpu, a->x, TOKENS, a->in, a->g, &err));
	ok(sp_gpu_cholesky(gpu, a->g, a->in, TOKENS, 0.01, &err));
}

static void
run_plane(void *arg)
{
	const struct awq *a = arg;

	ok(sp_gpu_plane_round(gpu, &a->plane, a->w, a->none, a->out, 0, 1,
	    a->codes.codes.at != 0 ? &a->codes : NULL, a->losses, &err));
}

static void
run_clip(void *arg)
{
	const struct awq *a = arg;

	ok(sp_gpu_clip(gpu, a->w, a->out, a->in, GROUP, 0, a->x, 512, a->limits, &err));
}

static void
measure_plane(struct awq *a)
{
	double square = (double)a->in * (double)a->in, rows = (double)a->out;

	a->plane = (struct sp_gpu_plane){.factor = a->g, .in = a->in, .group = GROUP, .shrink = 3};
	measure("rounding of a trial", run_plane, a, TF32, rows * square, 4 * square);
	a->plane.shrink = 8;
	a->plane.refine = 2;
	a->codes = (struct sp_gpu_codes){room(SP_GPU_U8, a->out * a->in),
	    room(SP_GPU_U8, a->out * (a->in / GROUP)), room(SP_GPU_F16, a->out * (a->in / GROUP))};
	measure("rounding, final", run_plane, a, TF32, rows * square, 4 * square);
	a->plane.drift = a->g;
	measure("rounding, with drift", run_plane, a, TF32, 13 * rows * square, 8 * square);
	give(&a->codes.codes);
	give(&a->codes.zeros);
	give(&a->codes.scales);
}

static void
measure_awq(void)
{
	struct awq a = {.in = HIDDEN,
	    .out = HIDDEN,
	    .x = values(SP_GPU_F16, TOKENS * HIDDEN),
	    .exact = values(SP_GPU_F16, TOKENS * HIDDEN),
	    .g = room(SP_GPU_F32, HIDDEN * HIDDEN),
	    .w = values(SP_GPU_BF16, HIDDEN * HIDDEN),
	    .losses = room(SP_GPU_F64, HIDDEN),
	    .limits = room(SP_GPU_F32, HIDDEN * (HIDDEN / GROUP))};
	double square = (double)(HIDDEN * HIDDEN), n = (double)TOKENS;

	ok(sp_gpu_zero(gpu, a.g, &err));
	measure("moments, fp16", run_moments, &a, HALF, n * square, 2 * n * (double)HIDDEN);
	measure("drift, fp16", run_drift, &a, HALF, 2 * n * square, 8 * n * (double)HIDDEN);
	measure("moments and factor", run_cholesky, &a, HALF,
	    n * square + square * (double)HIDDEN / 3, 4 * square);
	measure_plane(&a);
	measure("clip limits", run_clip, &a, FP32, 20 * square * (double)GROUP, 2 * square);
	give(&a.x);
	give(&a.exact);
	give(&a.g);
	give(&a.w);
	give(&a.losses);
	give(&a.limits);
}

/* --- 4 bits ----------------------------------------------------------------------------------
 */

struct few {
	struct sp_gpu_int4 layer;
	struct sp_gpu_array x, y, none;
	size_t n;
};

static void
run_int4(void *arg)
{
	const struct few *f = arg;

	ok(sp_gpu_int4(gpu, &f->layer, f->x, f->n, f->none, f->y, &err));
}

static void
measure_int4(void)
{
	size_t words = INNER * HIDDEN / 8, zeros = words / GROUP, groups = HIDDEN / GROUP;
	struct few f = {.layer = {.in = HIDDEN,
			    .out = INNER,
			    .group = GROUP,
			    .qweight = room(SP_GPU_U32, words),
			    .qzeros = room(SP_GPU_U32, zeros),
			    .scales = values(SP_GPU_F16, groups * INNER)},
	    .x = values(SP_GPU_F16, 8 * HIDDEN),
	    .y = room(SP_GPU_F16, 8 * INNER)};
	double bytes = 4 * (double)(words + zeros) + 2 * (double)(groups * INNER);

	ok(sp_gpu_zero(gpu, f.layer.qweight, &err));
	ok(sp_gpu_zero(gpu, f.layer.qzeros, &err));
	f.n = 1;
	measure("int4, 1 token", run_int4, &f, HALF, 0, bytes);
	f.n = 8;
	measure("int4, 8 tokens", run_int4, &f, HALF, 0, bytes);
	give(&f.layer.qweight);
	give(&f.layer.qzeros);
	give(&f.layer.scales);
	give(&f.x);
	give(&f.y);
}

/* --- the report ------------------------------------------------------------------------------
 */

static double
attainable_ms(const struct figure *f)
{
	double by_rate = f->operations / rates[f->rate], by_bytes = f->bytes / rates[COPY];

	return (by_rate > by_bytes ? by_rate : by_bytes) * 1e3;
}

static void
write_json(const char *path, const struct sp_gpu_info *info)
{
	FILE *file = fopen(path, "w");

	if (file == NULL) {
		perror(path);
		exit(1);
	}
	fprintf(file,
	    "{\"gpu\":\"%s\",\"driver\":\"%s\",\"copy_bytes_per_s\":%.4g,\"bf16_per_s\":%.4g,"
	    "\"tf32_per_s\":%.4g,\"fp32_per_s\":%.4g,\"results\":[",
	    info->name, info->driver, rates[COPY], rates[HALF], rates[TF32], rates[FP32]);
	for (size_t i = 0; i < figure_count; i++) {
		const struct figure *f = &figures[i];

		fprintf(file, "%s{\"name\":\"%s\",\"ms\":%.4g,\"attainable_ms\":%.4g}",
		    i == 0 ? "" : ",", f->name, f->ms, attainable_ms(f));
	}
	fprintf(file, "]}\n");
	if (fclose(file) != 0) {
		perror(path);
		exit(1);
	}
}

int
main(int argc, char **argv)
{
	struct sp_gpu_info info;

	if (argc != 2) {
		fprintf(stderr, "usage: bench FILE.json\n");
		return 2;
	}
	ok(sp_gpu_open(0, LIMIT, &gpu, &err));
	measure_card();
	measure_forward();
	measure_awq();
	measure_int4();
	sp_gpu_describe(gpu, &info);
	printf(
	    "%s, driver %s: copies %.2f TB/s; products bf16 %.0f, TF32 %.0f, fp32 %.0f Tflop/s\n",
	    info.name, info.driver, rates[COPY] / 1e12, rates[HALF] / 1e12, rates[TF32] / 1e12,
	    rates[FP32] / 1e12);
	printf("%-24s %10s %14s %8s\n", "", "ms", "attainable ms", "share");
	for (size_t i = 0; i < figure_count; i++)
		printf("%-24s %10.3f %14.3f %7.0f%%\n", figures[i].name, figures[i].ms,
		    attainable_ms(&figures[i]), 100 * attainable_ms(&figures[i]) / figures[i].ms);
	printf("memory: at most %zu MiB of %zu\n", info.peak >> 20, info.limit >> 20);
	write_json(argv[1], &info);
	sp_gpu_close(&gpu);
	return 0;
}
