/* kernels.c -- the arithmetic of a forward pass in fp32 on the CPU. */
#include "engine/kernels.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

/* The unrolling that keeps a tile in registers, and vectorised lane loops, need it. */
#pragma GCC optimize("O3")

/* Sums run in 16 chains, element i in chain i mod 16, added up pairwise: 16 is the widest vector
 * below, and the order is the same where vectors are narrower. */
#define LANES 16

struct isa {
	const char *name;
	size_t rows; /* of a full tile */
	void (*tile)(size_t rows, const float *x, size_t ldx, size_t depth, const float *panel,
	    int add, float *y, size_t ldy);
	void (*rmsnorm)(const float *x, const float *weight, float eps, size_t dim, float *y);
	void (*softmax)(float *x, size_t count, float scale);
	void (*silu_mul)(float *gate, const float *up, size_t count);
};

static inline __attribute__((always_inline)) float
lane_sum(const float lane[LANES])
{
	float sum[LANES];

	memcpy(sum, lane, sizeof(sum));
	for (size_t width = LANES / 2; width > 0; width /= 2) {
		for (size_t l = 0; l < width; l++)
			sum[l] += sum[l + width];
	}
	return sum[0];
}

/*
 * e^x within 2 ulp for -87 <= x <= 88, clamped there: x = n ln 2 + r with |r| <= ln 2 / 2, e^r by
 * its Taylor polynomial of degree 7 (remainder below 2^-27), 2^n put together from its exponent
 * bits. Our own because libm's differ by version and machine, and the loops around must vectorise.
 */
static inline __attribute__((always_inline)) float
exp_of(float x)
{
	const float shift = 0x1.8p23f; /* adding it leaves round(value) in the low bits */
	float t, n, r, p, scale;
	uint32_t bits;

	x = x < -87.0f ? -87.0f : x;
	x = x > 88.0f ? 88.0f : x;
	t = fmaf(x, 0x1.715476p0f, shift);
	n = t - shift;
	r = fmaf(n, -0x1.62e400p-1f, x); /* ln 2 in two parts, the first exact times n */
	r = fmaf(n, -0x1.7f7d1cp-20f, r);
	p = fmaf(1.0f / 5040, r, 1.0f / 720);
	p = fmaf(p, r, 1.0f / 120);
	p = fmaf(p, r, 1.0f / 24);
	p = fmaf(p, r, 1.0f / 6);
	p = fmaf(p, r, 0.5f);
	p = fmaf(p, r, 1.0f);
	p = fmaf(p, r, 1.0f);
	memcpy(&bits, &t, sizeof(bits));
	bits = (bits + 127) << 23;
	memcpy(&scale, &bits, sizeof(scale));
	return p * scale;
}

#define ISA(name) name##_portable
#define ISA_NAME "portable"
#define V float
#define VLEN 1
#define ROWS 4
#define V_LOAD(p) (*(p))
#define V_STORE(p, v) (*(p) = (v))
#define V_SET(value) (value)
#define V_FMA(a, b, c) fmaf(a, b, c)
#include "engine/kernels_isa.inc"

#ifdef __x86_64__
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define ISA(name) name##_avx2
#define ISA_NAME "avx2"
#define V __m256
#define VLEN 8
#define ROWS 6
#define V_LOAD _mm256_loadu_ps
#define V_STORE _mm256_storeu_ps
#define V_SET _mm256_set1_ps
#define V_FMA _mm256_fmadd_ps
#include "engine/kernels_isa.inc"
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512vl,fma,prefer-vector-width=512")
#define ISA(name) name##_avx512
#define ISA_NAME "avx512"
#define V __m512
#define VLEN 16
#define ROWS 12
#define V_LOAD _mm512_loadu_ps
#define V_STORE _mm512_storeu_ps
#define V_SET _mm512_set1_ps
#define V_FMA _mm512_fmadd_ps
#include "engine/kernels_isa.inc"
#pragma GCC pop_options
#endif

static int
isa_runs(const struct isa *isa)
{
#ifdef __x86_64__
	if (isa == &isa_avx512)
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
		       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
	if (isa == &isa_avx2)
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
	return isa == &isa_portable;
}

/* Best first. */
static const struct isa *const isas[] = {
#ifdef __x86_64__
    &isa_avx512,
    &isa_avx2,
#endif
    &isa_portable,
};

static const struct isa *chosen;

/* Before main, and so before any thread. */
static __attribute__((constructor)) void
choose(void)
{
	// NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): the last one runs everywhere
	for (size_t i = 0; !isa_runs(chosen = isas[i]); i++)
		;
}

const char *
sp_kernels_name(void)
{
	return chosen->name;
}

int
sp_kernels_select(const char *name)
{
	for (size_t i = 0; i < sizeof(isas) / sizeof(isas[0]); i++) {
		if (strcmp(isas[i]->name, name) == 0 && isa_runs(isas[i])) {
			chosen = isas[i];
			return 1;
		}
	}
	return 0;
}

struct pack {
	const float *w;
	size_t out, in;
	float *panels;
};

static void
pack_panel(void *arg, size_t p)
{
	const struct pack *job = arg;
	float *panel = job->panels + p * job->in * SP_PANEL;
	size_t left = job->out - p * SP_PANEL;
	size_t columns = left < SP_PANEL ? left : SP_PANEL;

	for (size_t k = 0; k < job->in; k++) {
		for (size_t c = 0; c < columns; c++)
			panel[k * SP_PANEL + c] = job->w[(p * SP_PANEL + c) * job->in + k];
		for (size_t c = columns; c < SP_PANEL; c++)
			panel[k * SP_PANEL + c] = 0.0f;
	}
}

void
sp_kernels_pack(struct sp_pool *pool, const float *w, size_t out, size_t in, float *panels)
{
	struct pack job = {w, out, in, panels};

	sp_pool_run(pool, sp_kernels_panels(out), pack_panel, &job);
}

/* A tile that is narrower than its panel goes through a whole one. */
static void
edge_tile(size_t rows, const float *x, size_t ldx, size_t depth, const float *panel, size_t columns,
    int add, float *y, size_t ldy)
{
	float edge[LANES][SP_PANEL];

	if (add) {
		memset(edge, 0, sizeof(edge));
		for (size_t r = 0; r < rows; r++)
			memcpy(edge[r], y + r * ldy, columns * sizeof(float));
	}
	chosen->tile(rows, x, ldx, depth, panel, add, edge[0], SP_PANEL);
	for (size_t r = 0; r < rows; r++)
		memcpy(y + r * ldy, edge[r], columns * sizeof(float));
}

void
sp_kernels_panel(const float *x, size_t ldx, size_t n, size_t depth, const float *panel,
    size_t columns, int add, float *y, size_t ldy)
{
	for (size_t r = 0; r < n; r += chosen->rows) {
		size_t rows = n - r < chosen->rows ? n - r : chosen->rows;

		if (columns == SP_PANEL)
			chosen->tile(rows, x + r * ldx, ldx, depth, panel, add, y + r * ldy, ldy);
		else
			edge_tile(
			    rows, x + r * ldx, ldx, depth, panel, columns, add, y + r * ldy, ldy);
	}
}

/* A block of x (ROW_BLOCK x DEPTH_BLOCK floats, 384 KiB) and one of a panel (64 KiB) fit a second
 * level cache; blocks of one set of rows follow each other. */
#define ROW_BLOCK ((size_t)192)
#define DEPTH_BLOCK ((size_t)512)

struct matmul {
	const float *x;
	size_t n, in;
	const float *panels, *bias;
	size_t out;
	float *y;
};

static void
matmul_block(void *arg, size_t i)
{
	const struct matmul *job = arg;
	size_t panels = sp_kernels_panels(job->out), p = i % panels, row = i / panels * ROW_BLOCK;
	size_t rows = job->n - row < ROW_BLOCK ? job->n - row : ROW_BLOCK;
	size_t column = p * SP_PANEL;
	size_t columns = job->out - column < SP_PANEL ? job->out - column : SP_PANEL;
	const float *panel = job->panels + p * job->in * SP_PANEL;
	float *y = job->y + row * job->out + column;

	for (size_t k = 0; k < job->in; k += DEPTH_BLOCK) {
		size_t depth = job->in - k < DEPTH_BLOCK ? job->in - k : DEPTH_BLOCK;

		sp_kernels_panel(job->x + row * job->in + k, job->in, rows, depth,
		    panel + k * SP_PANEL, columns, k != 0, y, job->out);
	}
	if (job->bias == NULL)
		return;
	for (size_t r = 0; r < rows; r++) {
		for (size_t c = 0; c < columns; c++)
			y[r * job->out + c] += job->bias[column + c];
	}
}

void
sp_kernels_matmul(struct sp_pool *pool, const float *x, size_t n, size_t in, const float *panels,
    const float *bias, size_t out, float *y)
{
	struct matmul job = {x, n, in, panels, bias, out, y};

	sp_pool_run(
	    pool, (n + ROW_BLOCK - 1) / ROW_BLOCK * sp_kernels_panels(out), matmul_block, &job);
}

/* Elementwise work is handed out in pieces of about this many values. */
#define PIECE ((size_t)16384)

struct norm {
	const float *x, *weight;
	float eps;
	size_t n, dim, step;
	float *y;
};

static void
norm_rows(void *arg, size_t i)
{
	const struct norm *job = arg;

	for (size_t r = i * job->step; r < job->n && r < (i + 1) * job->step; r++)
		chosen->rmsnorm(
		    job->x + r * job->dim, job->weight, job->eps, job->dim, job->y + r * job->dim);
}

void
sp_kernels_rmsnorm(struct sp_pool *pool, const float *x, const float *weight, float eps, size_t n,
    size_t dim, float *y)
{
	size_t step = dim < PIECE ? PIECE / dim : 1;
	struct norm job = {x, weight, eps, n, dim, step, y};

	sp_pool_run(pool, (n + step - 1) / step, norm_rows, &job);
}

void
sp_kernels_softmax(float *x, size_t count, float scale)
{
	if (count > 0)
		chosen->softmax(x, count, scale);
}

struct pair {
	float *a;
	const float *b;
	size_t count;
};

static void
silu_mul_piece(void *arg, size_t i)
{
	const struct pair *job = arg;
	size_t at = i * PIECE, left = job->count - at;

	chosen->silu_mul(job->a + at, job->b + at, left < PIECE ? left : PIECE);
}

void
sp_kernels_silu_mul(struct sp_pool *pool, float *gate, const float *up, size_t count)
{
	struct pair job = {gate, up, count};

	sp_pool_run(pool, (count + PIECE - 1) / PIECE, silu_mul_piece, &job);
}

static void
add_piece(void *arg, size_t i)
{
	const struct pair *job = arg;
	size_t end = (i + 1) * PIECE < job->count ? (i + 1) * PIECE : job->count;

	for (size_t k = i * PIECE; k < end; k++)
		job->a[k] += job->b[k];
}

void
sp_kernels_add(struct sp_pool *pool, float *a, const float *b, size_t count)
{
	struct pair job = {a, b, count};

	sp_pool_run(pool, (count + PIECE - 1) / PIECE, add_piece, &job);
}

void
sp_kernels_rope(float *x, size_t dim, const float *rope)
{
	size_t half = dim / 2;

	for (size_t i = 0; i < half; i++) {
		float a = x[i], b = x[i + half], cosine = rope[2 * i], sine = rope[2 * i + 1];

		x[i] = a * cosine - b * sine;
		x[i + half] = b * cosine + a * sine;
	}
}

double
sp_kernels_log_sum_exp(const float *x, size_t count)
{
	double sum = 0;
	float max = x[0];

	for (size_t i = 1; i < count; i++)
		max = x[i] > max ? x[i] : max;
	for (size_t i = 0; i < count; i++)
		sum += exp((double)x[i] - (double)max);
	return (double)max + log(sum);
}
