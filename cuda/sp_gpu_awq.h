/*
 * sp_gpu_awq.h -- what quantizing to 4 bits takes of a GPU. Conventions: cuda/sp_gpu.h.
 *
 * Matrices are row-major, weights w[out][in], activations x[n][in] with a token per row; F32 where
 * nothing else is said.
 */
#ifndef SP_GPU_AWQ_H
#define SP_GPU_AWQ_H

#include "sp_gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- statistics ------------------------------------------------------------------------------ */

/* sums F64 [in] += Σ over tokens of |x|, x of any type; divide by the tokens. A call's sum is one
 * chain per 256 tokens and those in order. (sp_search_x_mean) */
enum sp_code sp_gpu_x_sums(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t in,
    struct sp_gpu_array sums, struct sp_err *err) SP_MUST_USE;
/* sums F64 [in] += Σ over rows of |w| / (max|w| of the row's group + 1e-6). (sp_search_w_mean) */
enum sp_code sp_gpu_w_sums(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in,
    size_t group, struct sp_gpu_array sums, struct sp_err *err) SP_MUST_USE;
/* sum F64 [1] = Σ (a - b)²; b may be empty: Σ a². (sp_block_difference) */
enum sp_code sp_gpu_difference(struct sp_gpu *gpu, struct sp_gpu_array a, struct sp_gpu_array b,
    struct sp_gpu_array sum, struct sp_err *err) SP_MUST_USE;

/* --- second moments -------------------------------------------------------------------------- */

/*
 * g[in][in] += XᵀX of x[n][in] (any type), lower triangle; sp_gpu_mirror makes it whole. Tokens
 * are summed SP_GPU_TURN at a time in the order of the calls. F32 is multiplied as TF32.
 * (sp_gram_add)
 */
#define SP_GPU_TURN 4096
enum sp_code sp_gpu_moments(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t in,
    struct sp_gpu_array g, struct sp_err *err) SP_MUST_USE;
enum sp_code
sp_gpu_mirror(struct sp_gpu *gpu, struct sp_gpu_array g, size_t in, struct sp_err *err) SP_MUST_USE;
/* g[in][in] += Xᵀ(exact / scales - X), x what runs; exact is overwritten with the difference,
 * formed in fp32 and rounded to its type; scales[in] or empty. (sp_gram_add_drift) */
enum sp_code sp_gpu_drift(struct sp_gpu *gpu, struct sp_gpu_array x, struct sp_gpu_array exact,
    struct sp_gpu_array scales, size_t n, size_t in, struct sp_gpu_array g,
    struct sp_err *err) SP_MUST_USE;

/* --- the factor ------------------------------------------------------------------------------ */

/*
 * g[in][in], whole or its lower triangle, becomes the factor of g / n + damp · mean(diag) · I as
 * awq/factor.h has it: L on and below the diagonal, L[j][i] / L[i][i] above. Waits for the result.
 * SP_E_INVALID when it is not positive in fp32 (then g is lost: call again with a larger damp), or
 * not finite. (sp_factor_cholesky)
 */
enum sp_code sp_gpu_cholesky(struct sp_gpu *gpu, struct sp_gpu_array g, size_t in, size_t n,
    double damp, struct sp_err *err) SP_MUST_USE;
/* The factor of the same inputs divided by scales[in]; to may be from. (awq/plane.h) */
enum sp_code sp_gpu_factor_scale(struct sp_gpu *gpu, struct sp_gpu_array from, size_t in,
    struct sp_gpu_array scales, struct sp_gpu_array to, struct sp_err *err) SP_MUST_USE;
/* H·x = b for b[in][columns], which becomes x. (sp_factor_solve) */
enum sp_code sp_gpu_factor_solve(struct sp_gpu *gpu, struct sp_gpu_array factor, size_t in,
    struct sp_gpu_array b, size_t columns, struct sp_err *err) SP_MUST_USE;

/* --- compensated rounding -------------------------------------------------------------------- */

struct sp_gpu_plane {
	struct sp_gpu_array factor, drift; /* [in][in]; drift may be empty (awq/plane.h) */
	size_t in, group;		   /* group: 32, 64 or 128 */
	int symmetric;
	size_t shrink, refine;
};

/* Codes of one linear layer. */
struct sp_gpu_codes {
	struct sp_gpu_array codes;  /* U8 [out][in] */
	struct sp_gpu_array zeros;  /* U8 [out][in / group] */
	struct sp_gpu_array scales; /* F16 [out][in / group] */
};

/*
 * Rounds w[out][in] * scales[in] (scales may be empty; w of any type), rows first, first + step, …
 * below out (all: 0 and 1); codes are for all rows, or NULL. losses F64 [rows]
 * receives each row's. Takes work memory of (in + 1024) · rows values, with drift in · rows more.
 * (sp_plane_round, whose loss is the mean over rows)
 */
enum sp_code sp_gpu_plane_round(struct sp_gpu *gpu, const struct sp_gpu_plane *plane,
    struct sp_gpu_array w, struct sp_gpu_array scales, size_t out, size_t first, size_t step,
    const struct sp_gpu_codes *codes, struct sp_gpu_array losses, struct sp_err *err) SP_MUST_USE;

/* --- plain rounding -------------------------------------------------------------------------- */

/* to[out][in] = Q(w · scales) / scales, w of any type, scales may be empty. (sp_search_round) */
enum sp_code sp_gpu_fake(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in,
    size_t group, int symmetric, struct sp_gpu_array scales, struct sp_gpu_array to,
    struct sp_err *err) SP_MUST_USE;
/* w[r][c] = w[r][c] / rows[r] * columns[c], w of any type; either F32 or empty. */
enum sp_code sp_gpu_rescale(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in,
    struct sp_gpu_array rows, struct sp_gpu_array columns, struct sp_err *err) SP_MUST_USE;
/* AutoAWQ's codes, by fp16 arithmetic, of w that fits it. (sp_round_codes) */
enum sp_code sp_gpu_codes_find(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in,
    size_t group, int symmetric, const struct sp_gpu_codes *codes, struct sp_err *err) SP_MUST_USE;
/* w[out][in], of any type, that codes stand for. (sp_round_decode) */
enum sp_code sp_gpu_codes_decode(struct sp_gpu *gpu, const struct sp_gpu_codes *codes, size_t out,
    size_t in, size_t group, struct sp_gpu_array w, struct sp_err *err) SP_MUST_USE;
/* words U32 [rows][columns / 8] of values U8 [columns][rows]. (sp_pack_gemm) */
enum sp_code sp_gpu_pack(struct sp_gpu *gpu, struct sp_gpu_array values, size_t columns,
    size_t rows, struct sp_gpu_array words, struct sp_err *err) SP_MUST_USE;
/* to U16-sized [columns][rows] = from [rows][columns]: scales as checkpoints have them. */
enum sp_code sp_gpu_transpose(struct sp_gpu *gpu, struct sp_gpu_array from, size_t rows,
    size_t columns, struct sp_gpu_array to, struct sp_err *err) SP_MUST_USE;
/* limits[out][in / group] that err least on x[n][in], n <= 1024 tokens picked by the caller and
 * divided by the scales: max|w| · (1 - k / 20), k = 0..9. (sp_search_clip) */
enum sp_code sp_gpu_clip(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in,
    size_t group, int symmetric, struct sp_gpu_array x, size_t n, struct sp_gpu_array limits,
    struct sp_err *err) SP_MUST_USE;
/* w = w within ±limits. (sp_search_clamp) */
enum sp_code sp_gpu_clamp(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in,
    size_t group, struct sp_gpu_array limits, struct sp_err *err) SP_MUST_USE;

/* --- 4-bit layers as checkpoints hold them --------------------------------------------------- */

struct sp_gpu_int4 {
	size_t in, out, group;	     /* group: a multiple of 16, out of 32 */
	struct sp_gpu_array qweight; /* U32 [in][out / 8] */
	struct sp_gpu_array qzeros;  /* U32 [in / group][out / 8] */
	struct sp_gpu_array scales;  /* F16 [in / group][out] */
};

/* y[n][out] = x[n][in]·w + bias: x F16, y F16 or F32, bias F32 [out] or empty, n <= 8. */
enum sp_code sp_gpu_int4(struct sp_gpu *gpu, const struct sp_gpu_int4 *layer, struct sp_gpu_array x,
    size_t n, struct sp_gpu_array bias, struct sp_gpu_array y, struct sp_err *err) SP_MUST_USE;
/* w F16 [out][in], for sp_gpu_linear. */
enum sp_code sp_gpu_int4_widen(struct sp_gpu *gpu, const struct sp_gpu_int4 *layer,
    struct sp_gpu_array w, struct sp_err *err) SP_MUST_USE;

#ifdef __cplusplus
}
#endif

#endif
