/* kernels.c -- the arithmetic of a forward pass in fp32 on the CPU. */
#include "engine/kernels.h"

#include "model/dtype.h"

#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#ifdef __x86_64__
#include <cpuid.h>
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
	void (*packed_tile)(size_t rows, const float *x, size_t depth, const float *panel, int add,
	    float *y, size_t ldy);
	void (*widen_f16)(const uint16_t *src, size_t count, float *dst);
	void (*widen_bf16)(const uint16_t *src, size_t count, float *dst);
	void (*widen_q4)(
	    const uint8_t *codes, const float *scale, const float *zero, size_t depth, float *dst);
	void (*rmsnorm)(const float *x, const float *weight, float eps, size_t dim, float *y);
	void (*softmax)(float *x, size_t count, float scale);
	void (*silu_mul)(float *gate, const float *up, size_t count);
	void (*round)(const float *w, size_t count, int symmetric, float *out);
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

#define CODE_MAX 15.0f
#define CODE_MIDDLE 8.0f
#define RANGE_MIN 1e-5f /* of a group: keeps the scale of a constant group above 0 */

/* Half to even, and exact below 2^22; beyond that the clamp decides, not the rounding. */
static inline __attribute__((always_inline)) float
nearest(float x)
{
	const float shift = 0x1.8p23f;

	return (x + shift) - shift;
}

static inline __attribute__((always_inline)) float
clamp_code(float x)
{
	x = x < 0.0f ? 0.0f : x;
	return x > CODE_MAX ? CODE_MAX : x;
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
#define V_LOAD_F16(p) sp_dtype_f16_to_f32(*(p))
#include "engine/kernels_isa.inc"

#ifdef __x86_64__
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#define ISA(name) name##_avx2
#define ISA_NAME "avx2"
#define V __m256
#define VLEN 8
#define ROWS 6
#define V_LOAD _mm256_loadu_ps
#define V_STORE _mm256_storeu_ps
#define V_SET _mm256_set1_ps
#define V_FMA _mm256_fmadd_ps
#define V_LOAD_F16(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p)))
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
#define V_LOAD_F16(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p)))
#include "engine/kernels_isa.inc"
#pragma GCC pop_options
#endif

#ifdef __x86_64__
/* __builtin_cpu_supports does not know it everywhere. */
static int
runs_f16c(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
}
#endif

static int
isa_runs(const struct isa *isa)
{
#ifdef __x86_64__
	if (isa == &isa_avx512)
		return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
		       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
	if (isa == &isa_avx2)
		return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
		       runs_f16c();
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

/* --- packing --------------------------------------------------------------------------------- */

/* Elementwise work is handed out in pieces of about this many values. */
#define PIECE ((size_t)16384)

struct narrow {
	const float *w;
	size_t count;
	atomic_int f16, bf16; /* no value seen that is none */
};

/* Values that bf16 (the upper half of fp32) cannot hold, or fp16: 11 bits of a magnitude from 2^-14
 * to below 2^16, or a multiple of 2^-24 below that. NaN and infinity stay fp32. */
static void
narrow_piece(void *arg, size_t i)
{
	struct narrow *job = arg;
	const float *w = job->w + i * PIECE;
	size_t left = job->count - i * PIECE, count = left < PIECE ? left : PIECE;
	unsigned lost = 0, lost_bf16 = 0;

	if (!atomic_load_explicit(&job->f16, memory_order_relaxed) &&
	    !atomic_load_explicit(&job->bf16, memory_order_relaxed))
		return;
	for (size_t k = 0; k < count; k++) {
		float magnitude = fabsf(w[k]);
		uint32_t bits;
		int normal, tiny;

		memcpy(&bits, &magnitude, sizeof(bits));
		lost_bf16 |= (bits & 0xffff) | (bits >= 0x7f800000);
		normal = (bits >= 0x38800000) & (bits < 0x47800000) & ((bits & 0x1fff) == 0);
		tiny = (bits < 0x38800000) & (magnitude + 0.5f - 0.5f == magnitude);
		lost |= !(normal | tiny);
	}
	if (lost)
		atomic_store_explicit(&job->f16, 0, memory_order_relaxed);
	if (lost_bf16)
		atomic_store_explicit(&job->bf16, 0, memory_order_relaxed);
}

enum sp_panel_kind
sp_kernels_narrowest(struct sp_pool *pool, const float *w, size_t count)
{
	struct narrow job = {.w = w, .count = count, .f16 = 1, .bf16 = 1};

	sp_pool_run(pool, (count + PIECE - 1) / PIECE, narrow_piece, &job);
	return job.bf16 ? SP_PANEL_BF16 : job.f16 ? SP_PANEL_F16 : SP_PANEL_F32;
}

size_t
sp_kernels_panels_size(enum sp_panel_kind kind, size_t columns, size_t depth, size_t group)
{
	size_t panel = depth * SP_PANEL;

	SP_ASSERT(kind != SP_PANEL_Q4 || (group > 0 && depth % group == 0));
	if (kind == SP_PANEL_F32)
		panel *= sizeof(float);
	else if (kind == SP_PANEL_Q4)
		panel = panel / 2 + depth / group * SP_PANEL * 3;
	else
		panel *= sizeof(uint16_t);
	return sp_kernels_panels(columns) * panel;
}

struct pack {
	enum sp_panel_kind kind;
	const float *w;
	size_t out, in;
	void *panels;
};

/* Columns are read a cache line at a time: a value of each in turn would find them all in one set
 * of the cache where rows are a multiple of 4 KiB long. */
#define PACK_STEP ((size_t)16)

static void
pack_wide(const struct pack *job, size_t first, size_t columns, float *panel)
{
	const float *w = job->w + first * job->in;

	for (size_t k0 = 0; k0 < job->in; k0 += PACK_STEP) {
		size_t end = job->in - k0 < PACK_STEP ? job->in : k0 + PACK_STEP;

		for (size_t c = 0; c < columns; c++) {
			for (size_t k = k0; k < end; k++)
				panel[k * SP_PANEL + c] = w[c * job->in + k];
		}
	}
}

static void
pack_half(const struct pack *job, size_t first, size_t columns, uint16_t *panel)
{
	const float *w = job->w + first * job->in;
	enum sp_dtype dtype = job->kind == SP_PANEL_BF16 ? SP_BF16 : SP_F16;

	for (size_t k0 = 0; k0 < job->in; k0 += PACK_STEP) {
		size_t left = job->in - k0, count = left < PACK_STEP ? left : PACK_STEP;
		uint16_t half[PACK_STEP];

		for (size_t c = 0; c < columns; c++) {
			sp_dtype_from_f32(dtype, w + c * job->in + k0, (uint8_t *)half, count);
			for (size_t k = 0; k < count; k++)
				panel[(k0 + k) * SP_PANEL + c] = half[k];
		}
	}
}

static void
pack_panel(void *arg, size_t p)
{
	const struct pack *job = arg;
	size_t left = job->out - p * SP_PANEL;
	size_t columns = left < SP_PANEL ? left : SP_PANEL;
	size_t value = job->kind == SP_PANEL_F32 ? sizeof(float) : sizeof(uint16_t);
	size_t size = SP_PANEL * job->in * value;
	char *panel = (char *)job->panels + p * size;

	if (columns < SP_PANEL)
		memset(panel, 0, size);
	if (job->kind == SP_PANEL_F32)
		pack_wide(job, p * SP_PANEL, columns, (float *)(void *)panel);
	else
		pack_half(job, p * SP_PANEL, columns, (uint16_t *)(void *)panel);
}

void
sp_kernels_pack(struct sp_pool *pool, enum sp_panel_kind kind, const float *w, size_t out,
    size_t in, void *panels)
{
	struct pack job = {kind, w, out, in, panels};

	SP_ASSERT(kind != SP_PANEL_Q4);
	sp_pool_run(pool, sp_kernels_panels(out), pack_panel, &job);
}

struct pack_q4 {
	const float *w, *scales;
	const uint8_t *zeros;
	size_t out, in, group;
	uint8_t *panels;
	atomic_int exact;
};

/* One group of one column into its half of the bytes; 0 when w is not what codes give. */
static int
codes_of(const float *w, float scale, int zero, size_t count, unsigned shift, uint8_t *codes)
{
	int exact = 1;

	for (size_t k = 0; k < count; k++) {
		float steps = scale == 0 ? 0 : w[k] / scale;
		int code = zero + (steps > -16 && steps < 16 ? (int)lrintf(steps) : 16), in_range;
		float value = (float)(code - zero) * scale;

		in_range = code >= 0 && code <= 15;
		exact &= in_range && value == w[k] && signbit(value) == signbit(w[k]);
		codes[k * SP_PANEL / 2] |= (uint8_t)((in_range ? code : 0) << shift);
	}
	return exact;
}

static void
pack_q4_panel(void *arg, size_t p)
{
	struct pack_q4 *job = arg;
	size_t size = sp_kernels_panels_size(SP_PANEL_Q4, SP_PANEL, job->in, job->group);
	size_t left = job->out - p * SP_PANEL, groups = job->in / job->group;
	uint8_t *codes = job->panels + p * size, *scales = codes + job->in * SP_PANEL / 2;
	uint8_t *zeros = scales + groups * SP_PANEL * 2;
	int exact = 1;

	memset(codes, 0, size);
	for (size_t c = 0; c < SP_PANEL && c < left; c++) {
		const float *w = job->w + (p * SP_PANEL + c) * job->in;

		for (size_t g = 0; g < groups; g++) {
			float scale = job->scales[g * job->out + p * SP_PANEL + c];
			uint8_t zero = job->zeros[g * job->out + p * SP_PANEL + c];
			uint16_t half = sp_dtype_f32_to_f16(scale);

			exact &= sp_dtype_f16_to_f32(half) == scale;
			exact &= codes_of(w + g * job->group, scale, zero, job->group,
			    c < SP_PANEL / 2 ? 0 : 4,
			    codes + g * job->group * SP_PANEL / 2 + c % (SP_PANEL / 2));
			memcpy(scales + (g * SP_PANEL + c) * 2, &half, sizeof(half));
			zeros[g * SP_PANEL + c] = zero;
		}
	}
	if (!exact)
		atomic_store_explicit(&job->exact, 0, memory_order_relaxed);
}

int
sp_kernels_pack_q4(struct sp_pool *pool, const float *w, const float *scales, const uint8_t *zeros,
    size_t out, size_t in, size_t group, void *panels)
{
	struct pack_q4 job = {w, scales, zeros, out, in, group, panels, 1};

	sp_pool_run(pool, sp_kernels_panels(out), pack_q4_panel, &job);
	return job.exact;
}

/* --- products -------------------------------------------------------------------------------- */

/* ldx 0: x is packed, [depth][rows of a full tile]. A tile that is narrower than its panel goes
 * through a whole one. */
static void
tile(size_t rows, const float *x, size_t ldx, size_t depth, const float *panel, size_t columns,
    int add, float *y, size_t ldy)
{
	float edge[LANES][SP_PANEL];
	int narrow = columns < SP_PANEL;
	float *to = narrow ? edge[0] : y;
	size_t ld = narrow ? SP_PANEL : ldy;

	if (narrow && add) {
		memset(edge, 0, sizeof(edge));
		for (size_t r = 0; r < rows; r++)
			memcpy(edge[r], y + r * ldy, columns * sizeof(float));
	}
	if (ldx == 0)
		chosen->packed_tile(rows, x, depth, panel, add, to, ld);
	else
		chosen->tile(rows, x, ldx, depth, panel, add, to, ld);
	for (size_t r = 0; narrow && r < rows; r++)
		memcpy(y + r * ldy, edge[r], columns * sizeof(float));
}

void
sp_kernels_panel(const float *x, size_t ldx, size_t n, size_t depth, const float *panel,
    size_t columns, int add, float *y, size_t ldy)
{
	for (size_t r = 0; r < n; r += chosen->rows) {
		size_t rows = n - r < chosen->rows ? n - r : chosen->rows;

		tile(rows, x + r * ldx, ldx, depth, panel, columns, add, y + r * ldy, ldy);
	}
}

/*
 * A block of x (ROW_BLOCK x DEPTH_BLOCK floats, 384 KiB) and one of a panel (64 KiB) fit a second
 * level cache. Panels are taken GROUP at a time while a block of x is there, and a depth after the
 * other, y keeping the sums between: a chain goes on where it was. Where rows of x lie a multiple
 * of 2 KiB apart, and so fall into one or two sets of the first level cache, x is packed tile by
 * tile first; a chunk of it at a time, to bound the memory. Few rows are not worth that.
 */
#define ROW_BLOCK ((size_t)192)
#define DEPTH_BLOCK ((size_t)512)
#define GROUP ((size_t)4)
#define CHUNK ((size_t)32 << 20) /* bytes */
#define FEW ((size_t)4)
#define APART ((size_t)2048)

struct matmul {
	const float *x;
	size_t n, in;
	const struct sp_panels *w;
	const float *bias;
	size_t out;
	float *y;
	float *packed; /* x, [tiles][in][rows of a full tile]; NULL: as it is */
	size_t group;  /* panels at a time */
};

static void
pack_tile(void *arg, size_t i)
{
	const struct matmul *job = arg;
	size_t full = chosen->rows, row = i * full;
	size_t rows = job->n - row < full ? job->n - row : full;
	const float *x = job->x + row * job->in;
	float *packed = job->packed + row * job->in;

	for (size_t k0 = 0; k0 < job->in; k0 += PACK_STEP) {
		size_t end = job->in - k0 < PACK_STEP ? job->in : k0 + PACK_STEP;

		for (size_t r = 0; r < rows; r++) {
			for (size_t k = k0; k < end; k++)
				packed[k * full + r] = x[r * job->in + k];
		}
	}
}

/* Depth k … k+depth-1 of a panel of kind Q4. */
static void
widen_q4(
    const struct sp_panels *w, const uint8_t *panel, size_t in, size_t k, size_t depth, float *wide)
{
	const uint8_t *scales = panel + in * SP_PANEL / 2;
	const uint8_t *zeros = scales + in / w->group * SP_PANEL * 2;
	float scale[SP_PANEL], zero[SP_PANEL];

	for (size_t end = k + depth; k < end;) {
		size_t g = k / w->group, rest = (g + 1) * w->group - k;
		size_t count = rest < end - k ? rest : end - k;

		sp_dtype_to_f32(SP_F16, scales + g * SP_PANEL * 2, scale, SP_PANEL);
		for (size_t c = 0; c < SP_PANEL; c++)
			zero[c] = zeros[g * SP_PANEL + c];
		chosen->widen_q4(panel + k * SP_PANEL / 2, scale, zero, count, wide);
		wide += count * SP_PANEL;
		k += count;
	}
}

/* Depth k … of panel p in fp32: where it lies, or in wide. */
static const float *
widen(const struct matmul *job, size_t p, size_t k, size_t depth, float *wide)
{
	const struct sp_panels *w = job->w;
	const uint8_t *panel = (const uint8_t *)w->data +
			       p * sp_kernels_panels_size(w->kind, SP_PANEL, job->in, w->group);
	const uint16_t *half = (const uint16_t *)(const void *)panel + k * SP_PANEL;

	switch (w->kind) {
	case SP_PANEL_F32:
		return (const float *)(const void *)panel + k * SP_PANEL;
	case SP_PANEL_F16:
		chosen->widen_f16(half, depth * SP_PANEL, wide);
		break;
	case SP_PANEL_BF16:
		chosen->widen_bf16(half, depth * SP_PANEL, wide);
		break;
	case SP_PANEL_Q4:
		widen_q4(w, panel, job->in, k, depth, wide);
	}
	return wide;
}

/* A block of rows by a block of a panel. */
static void
multiply(const struct matmul *job, size_t row, size_t p, size_t k, size_t depth, const float *panel)
{
	size_t end = job->n - row < ROW_BLOCK ? job->n : row + ROW_BLOCK, full = chosen->rows;
	size_t column = p * SP_PANEL;
	size_t columns = job->out - column < SP_PANEL ? job->out - column : SP_PANEL;

	for (; row < end; row += full) {
		size_t rows = end - row < full ? end - row : full;
		float *y = job->y + row * job->out + column;

		if (job->packed == NULL)
			tile(rows, job->x + row * job->in + k, job->in, depth, panel, columns,
			    k != 0, y, job->out);
		else
			tile(rows, job->packed + row * job->in + k * full, 0, depth, panel, columns,
			    k != 0, y, job->out);
		if (k + depth < job->in || job->bias == NULL)
			continue;
		for (size_t r = 0; r < rows; r++) {
			for (size_t c = 0; c < columns; c++)
				y[r * job->out + c] += job->bias[column + c];
		}
	}
}

static void
matmul_block(void *arg, size_t i)
{
	const struct matmul *job = arg;
	size_t panels = sp_kernels_panels(job->out),
	       groups = (panels + job->group - 1) / job->group;
	size_t first = i % groups * job->group, row = i / groups * ROW_BLOCK;
	size_t last = panels - first < job->group ? panels : first + job->group;
	_Alignas(64) float wide[DEPTH_BLOCK * SP_PANEL];

	for (size_t k = 0; k < job->in; k += DEPTH_BLOCK) {
		size_t depth = job->in - k < DEPTH_BLOCK ? job->in - k : DEPTH_BLOCK;

		for (size_t p = first; p < last; p++)
			multiply(job, row, p, k, depth, widen(job, p, k, depth, wide));
	}
}

void
sp_kernels_matmul(struct sp_pool *pool, const float *x, size_t n, size_t in,
    const struct sp_panels *panels, const float *bias, size_t out, float *y)
{
	size_t full = chosen->rows, step = CHUNK / (in * sizeof(float)) / full * full;
	size_t row_blocks = (n + ROW_BLOCK - 1) / ROW_BLOCK, columns = sp_kernels_panels(out);
	size_t enough = (size_t)sp_pool_threads(pool) * 8; /* tasks that keep all threads busy */
	struct matmul job = {.in = in, .w = panels, .bias = bias, .out = out};
	int pack = n > FEW && in * sizeof(float) % APART == 0;

	step = !pack ? n : step < full ? full : step;
	job.group = row_blocks * columns / GROUP >= enough ? GROUP : 1;
	for (size_t r = 0; r < n; r += step) {
		size_t rows = n - r < step ? n - r : step;

		job.x = x + r * in;
		job.y = y + r * out;
		job.n = rows;
		if (pack)
			job.packed = sp_pool_scratch(
			    pool, (rows + full - 1) / full * full * in * sizeof(float));
		if (job.packed != NULL)
			sp_pool_run(pool, (rows + full - 1) / full, pack_tile, &job);
		sp_pool_run(pool,
		    (rows + ROW_BLOCK - 1) / ROW_BLOCK * ((columns + job.group - 1) / job.group),
		    matmul_block, &job);
	}
}

/* --- elementwise ------------------------------------------------------------------------------ */

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
sp_kernels_round(const float *w, size_t count, int symmetric, float *out)
{
	chosen->round(w, count, symmetric, out);
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
