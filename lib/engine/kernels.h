/*
 * kernels.h -- the arithmetic of a forward pass in fp32 on the CPU.
 *
 * Every output is one chain of fused multiply-adds in a fixed order, so its bits depend neither on
 * the rows beside it, nor on the number of threads, nor on which instruction set did the work.
 */
#ifndef SP_KERNELS_H
#define SP_KERNELS_H

#include "engine/pool.h"

#include <stdint.h>

#define SP_PANEL 32 /* columns of a panel */

/*
 * The right-hand side of a product in panels: panel p holds columns 32p … 32p+31 (zeros beyond
 * the last) as [depth][32]. For y = x·Wᵀ a column is a row of W and depth is W's inner size.
 */
static inline size_t
sp_kernels_panels(size_t columns)
{
	return (columns + SP_PANEL - 1) / SP_PANEL;
}

/*
 * What a panel holds its values as; each stands for fp32 values, to which it is widened on the way
 * into the registers. A model's weights are fp16 or bf16 mostly: half the memory, the same bits.
 * Q4: AutoAWQ's 4-bit codes, w = (code - zero) * scale; a panel is
 *
 *	codes   [depth][16]          column c in the low half of byte c, c + 16 in its high half
 *	scales  fp16 [depth/group][32]
 *	zeros   byte [depth/group][32]
 */
enum sp_panel_kind { SP_PANEL_F32, SP_PANEL_F16, SP_PANEL_BF16, SP_PANEL_Q4 };

struct sp_panels {
	enum sp_panel_kind kind;
	size_t group; /* Q4 alone; divides depth */
	const void *data;
};

/* Bytes of the panels of a matrix of so many columns. group is for Q4 alone. */
size_t sp_kernels_panels_size(enum sp_panel_kind kind, size_t columns, size_t depth, size_t group);

/* F16 or BF16 when each of the values is one, else F32. */
enum sp_panel_kind sp_kernels_narrowest(struct sp_pool *pool, const float *w, size_t count);

/* Packs w[out][in] (row-major), whose values `kind` (not Q4) must hold exactly, into panels. */
void sp_kernels_pack(struct sp_pool *pool, enum sp_panel_kind kind, const float *w, size_t out,
    size_t in, void *panels);

/* Packs as Q4 a w[out][in] that is (code - zero) * scale: scales and zeros are [in / group][out].
 * 0, and panels hold nothing, when a weight is not what a code gives, to the bit, or a scale is no
 * fp16. */
int sp_kernels_pack_q4(struct sp_pool *pool, const float *w, const float *scales,
    const uint8_t *zeros, size_t out, size_t in, size_t group, void *panels) SP_MUST_USE;

/* y[n][out] = x[n][in]·panels (+ bias[out] unless NULL). y must not overlap x. Takes up to some
 * 32 MiB of the pool's scratch memory. */
void sp_kernels_matmul(struct sp_pool *pool, const float *x, size_t n, size_t in,
    const struct sp_panels *panels, const float *bias, size_t out, float *y);

/* The serial core: y[r][c] (+)= Σ_k x[r*ldx + k] * panel[32k + c] for r < n, c < columns <= 32.
 * add: start from what y holds instead of 0. */
void sp_kernels_panel(const float *x, size_t ldx, size_t n, size_t depth, const float *panel,
    size_t columns, int add, float *y, size_t ldy);

/* y[r] = x[r] / sqrt(mean(x[r]²) + eps) * weight, n rows of dim. y may be x. */
void sp_kernels_rmsnorm(struct sp_pool *pool, const float *x, const float *weight, float eps,
    size_t n, size_t dim, float *y);

/* In place: x = softmax(x * scale) over count values. */
void sp_kernels_softmax(float *x, size_t count, float scale);

/* gate = silu(gate) * up, count values. */
void sp_kernels_silu_mul(struct sp_pool *pool, float *gate, const float *up, size_t count);

/* a += b, count values. */
void sp_kernels_add(struct sp_pool *pool, float *a, const float *b, size_t count);

/* Rounds a group of weights to 4 bits: w becomes (q - z) * s with s = max(max - min, 1e-5) / 15,
 * z = clamp(-round(min / s)), q = clamp(round(w / s) + z), both within 0..15, halves to even;
 * symmetric: s = max(max|w|, 1e-5) / 7, z = 8. out may be w; count > 0. */
void sp_kernels_round(const float *w, size_t count, int symmetric, float *out);

/* Rotates one head in place; rope[2i], rope[2i+1] are cos and sin of dimension pair i, which is
 * (x[i], x[i + dim/2]) (rotate_half, as transformers lays checkpoints out). */
void sp_kernels_rope(float *x, size_t dim, const float *rope);

/* log(Σ exp(x)): a token's log-probability is its logit minus this. */
double sp_kernels_log_sum_exp(const float *x, size_t count);

/* "avx512", "avx2" or "portable": what this machine runs. */
const char *sp_kernels_name(void);
/* Uses the instruction set of that name from now on; 0 when this machine lacks it. For tests and
 * measurements; not while a kernel runs. */
int sp_kernels_select(const char *name);

#endif
