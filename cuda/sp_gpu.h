/*
 * sp_gpu.h -- the GPU, without CUDA's types: memory, transfers, and the arithmetic of a forward
 * pass. cuda/sp_gpu_awq.h has what quantizing takes. Each operation has its reference on the CPU in
 * lib/, which it names; tests/unit/gpu_*.c compare them, with the kernels run by an emulator
 * (cuda/emu/) where there is no GPU.
 *
 * Order: operations run in the order of the calls, and return before they are done. What the host
 * reads is there after sp_gpu_read or sp_gpu_wait. Errors of a kernel (an illegal access, ECC) are
 * reported by the first call after them that can see them, as SP_E_INTERNAL with the driver's
 * words; the GPU is then of no more use to the process.
 *
 * Bits: no sum depends on scheduling, so the same calls give the same bits on the same model of
 * GPU. sp_gpu_linear, sp_gpu_int4, norms and attention give a token the same bits whatever tokens
 * are beside it, but for attention of a sequence's single new token, which is a kernel of its own.
 *
 * Sizes and types that do not fit an operation are programmer errors, as are, for attention and
 * 4-bit codes, parts of arrays that do not begin at a multiple of 16 bytes. One thread opens and
 * uses a GPU.
 */
#ifndef SP_GPU_H
#define SP_GPU_H

#include "base/err.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sp_gpu;

struct sp_gpu_info {
	char name[64], driver[32];	  /* "NVIDIA H200", CUDA version of the driver "13.0" */
	size_t memory, limit, used, peak; /* bytes */
	unsigned processors;
	int emulated; /* 1: no GPU, the emulator */
};

/* The device of that number; at most limit bytes of its memory are taken, work memory included,
 * beside what the driver and cuBLASLt take by themselves (some hundred MiB).
 * SP_E_NOT_FOUND when there is none or no driver; SP_E_UNSUPPORTED when it is older than sm_80. */
enum sp_code
sp_gpu_open(unsigned device, size_t limit, struct sp_gpu **out, struct sp_err *err) SP_MUST_USE;
void sp_gpu_close(struct sp_gpu **gpu);
void sp_gpu_describe(const struct sp_gpu *gpu, struct sp_gpu_info *info);
/* Waits for all that was called, uploads and downloads too. */
enum sp_code sp_gpu_finish(struct sp_gpu *gpu, struct sp_err *err) SP_MUST_USE;

/* --- memory ---------------------------------------------------------------------------------- */

enum sp_gpu_type { SP_GPU_F32, SP_GPU_F16, SP_GPU_BF16, SP_GPU_U32, SP_GPU_U8, SP_GPU_F64 };
size_t sp_gpu_type_size(enum sp_gpu_type type);

/* Values in GPU memory; matrices are row-major. Passed by value, owned by who allocated it. */
struct sp_gpu_array {
	uintptr_t at; /* in the GPU's address space; 0: none */
	size_t count;
	enum sp_gpu_type type;
};

/* Aligned to 256 bytes, not initialised. SP_E_NO_MEMORY beyond the limit, with the figures. */
enum sp_code sp_gpu_alloc(struct sp_gpu *gpu, enum sp_gpu_type type, size_t count,
    struct sp_gpu_array *out, struct sp_err *err) SP_MUST_USE;
/* Operations that use it go on; copies beside them are waited for. An empty array is left alone; a
 * freed one becomes empty. */
void sp_gpu_free(struct sp_gpu *gpu, struct sp_gpu_array *array);
/* count values of it from first on. */
struct sp_gpu_array sp_gpu_part(struct sp_gpu_array array, size_t first, size_t count);
enum sp_code
sp_gpu_zero(struct sp_gpu *gpu, struct sp_gpu_array array, struct sp_err *err) SP_MUST_USE;

/* Host memory that the GPU reads and writes without a copy between; not within the limit. */
enum sp_code
sp_gpu_host_alloc(struct sp_gpu *gpu, size_t size, void **out, struct sp_err *err) SP_MUST_USE;
void sp_gpu_host_free(struct sp_gpu *gpu, void *memory);

/* Copies all of an array and waits until the host's side of it is done with. */
enum sp_code sp_gpu_write(
    struct sp_gpu *gpu, struct sp_gpu_array to, const void *from, struct sp_err *err) SP_MUST_USE;
enum sp_code
sp_gpu_read(struct sp_gpu *gpu, struct sp_gpu_array from, void *to, struct sp_err *err) SP_MUST_USE;

/*
 * Copies that run beside the operations, for streaming through two buffers. A mark is a moment in
 * one of the three orders: of the operations, of the uploads, of the downloads. Zero-initialised
 * it is long past.
 *
 *	sp_gpu_upload(gpu, after, to, from, &mark)	starts once `after` is past
 *	sp_gpu_after(gpu, mark)				later operations wait for the mark
 *	sp_gpu_mark(gpu)				after all operations called so far
 *	sp_gpu_wait(gpu, mark)				the host waits
 */
struct sp_gpu_mark {
	uint64_t serial;
	unsigned order;
};
/* from and to are of sp_gpu_host_alloc, and stay until the mark is past. */
enum sp_code sp_gpu_upload(struct sp_gpu *gpu, struct sp_gpu_mark after, struct sp_gpu_array to,
    const void *from, struct sp_gpu_mark *mark, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_gpu_download(struct sp_gpu *gpu, struct sp_gpu_mark after, struct sp_gpu_array from,
    void *to, struct sp_gpu_mark *mark, struct sp_err *err) SP_MUST_USE;
enum sp_code
sp_gpu_mark(struct sp_gpu *gpu, struct sp_gpu_mark *mark, struct sp_err *err) SP_MUST_USE;
enum sp_code
sp_gpu_after(struct sp_gpu *gpu, struct sp_gpu_mark mark, struct sp_err *err) SP_MUST_USE;
enum sp_code
sp_gpu_wait(struct sp_gpu *gpu, struct sp_gpu_mark mark, struct sp_err *err) SP_MUST_USE;
/* Milliseconds between two marks of operations that are past. */
enum sp_code sp_gpu_elapsed(struct sp_gpu *gpu, struct sp_gpu_mark from, struct sp_gpu_mark to,
    double *ms, struct sp_err *err) SP_MUST_USE;

/* --- products -------------------------------------------------------------------------------- */

/* How fp32 operands are multiplied; sums are fp32 always. F16 and BF16 operands are exact. */
enum sp_gpu_precision {
	SP_GPU_FAST,  /* rounded to TF32: 11 bits */
	SP_GPU_SPLIT, /* three TF32 products of two parts each: 21 bits */
	SP_GPU_EXACT  /* fp32 */
};

/* A matrix or a part of one: element (i, j) is values[first + i * stride + j]. */
struct sp_gpu_matrix {
	struct sp_gpu_array values;
	size_t first, stride;
	int transposed; /* of an operand: 1: what is multiplied is its transpose */
};

/* c[m][n] = alpha·a[m][k]·b[k][n] + beta·c. a and b have one type, c it or F32. With SP_GPU_SPLIT
 * a and b are F32 and work memory for two parts of each is taken while it runs. */
enum sp_code sp_gpu_gemm(struct sp_gpu *gpu, enum sp_gpu_precision precision, size_t m, size_t n,
    size_t k, float alpha, struct sp_gpu_matrix a, struct sp_gpu_matrix b, float beta,
    struct sp_gpu_matrix c, struct sp_err *err) SP_MUST_USE;

/* y[n][out] = x[n][in]·wᵀ + bias; w[out][in], bias[out] F32 or empty; x and w of one type, y of
 * that or F32. Rows go SP_GPU_ROWS at a time, the last ones filled up, so that cuBLASLt meets one
 * shape only. (sp_linear_apply) */
#define SP_GPU_ROWS 1024
enum sp_code
sp_gpu_linear(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t in, struct sp_gpu_array w,
    struct sp_gpu_array bias, size_t out, struct sp_gpu_array y, struct sp_err *err) SP_MUST_USE;

/* --- between products ------------------------------------------------------------------------
 * Values are F32, F16 or BF16, arithmetic is fp32; one rounding to the type of the result. */

/* to = from in to's type (to nearest, even). Of one type: a copy. (sp_dtype_to_f32, …) */
enum sp_code sp_gpu_convert(struct sp_gpu *gpu, struct sp_gpu_array from, struct sp_gpu_array to,
    struct sp_err *err) SP_MUST_USE;
/* y[r] = x[r] / sqrt(mean(x[r]²) + eps) * weight, n rows of dim, weight F32; y may be x of the same
 * type. With rows n·heads and dim head_dim the norm of q and k. (sp_kernels_rmsnorm) */
enum sp_code sp_gpu_rmsnorm(struct sp_gpu *gpu, struct sp_gpu_array x, struct sp_gpu_array weight,
    float eps, size_t n, size_t dim, struct sp_gpu_array y, struct sp_err *err) SP_MUST_USE;
/* Rotates x[n][heads][dim] in place; rope F32 [positions][dim / 2][cos, sin]; token t is at
 * positions[t], U32. (sp_kernels_rope) */
enum sp_code
sp_gpu_rope(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t heads, size_t dim,
    struct sp_gpu_array rope, struct sp_gpu_array positions, struct sp_err *err) SP_MUST_USE;
/* gate = silu(gate) * up. (sp_kernels_silu_mul) */
enum sp_code sp_gpu_silu_mul(struct sp_gpu *gpu, struct sp_gpu_array gate, struct sp_gpu_array up,
    struct sp_err *err) SP_MUST_USE;
/* a += b. (sp_kernels_add) */
enum sp_code sp_gpu_add(struct sp_gpu *gpu, struct sp_gpu_array a, struct sp_gpu_array b,
    struct sp_err *err) SP_MUST_USE;
/* Row t of y[n][dim] is row ids[t] of table[rows][dim]; an id beyond rows gives zeros. */
enum sp_code sp_gpu_gather(struct sp_gpu *gpu, struct sp_gpu_array table, size_t rows, size_t dim,
    struct sp_gpu_array ids, size_t n, struct sp_gpu_array y, struct sp_err *err) SP_MUST_USE;
/* y[ids[t]] += weights[t] * x[t] for rows of dim, n of them; ids are different, an id beyond rows
 * is left out; weights F32. (sp_moe_scatter) */
enum sp_code sp_gpu_add_rows(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t dim,
    struct sp_gpu_array ids, struct sp_gpu_array weights, struct sp_gpu_array y, size_t rows,
    struct sp_err *err) SP_MUST_USE;
/* Of logits[n][vocab]: lse F32 [n] = log Σ exp; chosen F32 [n] = the logit of ids[t] (U32 [n],
 * below vocab); best U32 [n]: the first of the largest. (sp_kernels_log_sum_exp) */
enum sp_code sp_gpu_score(struct sp_gpu *gpu, struct sp_gpu_array logits, size_t n, size_t vocab,
    struct sp_gpu_array ids, struct sp_gpu_array lse, struct sp_gpu_array chosen,
    struct sp_gpu_array best, struct sp_err *err) SP_MUST_USE;

/* --- attention -------------------------------------------------------------------------------
 */

/* New tokens of one sequence: rows row … row+count-1 of q and out. Its keys and values are rows of
 * k and v: prefix_len rows from prefix on, then all others from own on, the new ones included, the
 * last of which sits at position prefix_len + own_len - 1. */
struct sp_gpu_seq {
	uint32_t row, count, prefix, prefix_len, own, own_len;
};

struct sp_gpu_attention {
	size_t heads, kv_heads, head_dim; /* head_dim: 64, 96 or 128 */
	size_t window;			  /* tokens seen, the own one included; 0: all */
	struct sp_gpu_array q, out;	  /* [rows][heads][head_dim], F16 or BF16, q rotated */
	struct sp_gpu_array k, v;	  /* [rows][kv_heads][head_dim], of q's type, k rotated */
};

/* Causal grouped-query attention; all of seqs have new tokens. Sequences with one new token each
 * (decode) go through another kernel, split over the keys. (sp_attention_run) */
enum sp_code sp_gpu_attend(struct sp_gpu *gpu, const struct sp_gpu_attention *attention,
    const struct sp_gpu_seq *seqs, size_t n, struct sp_err *err) SP_MUST_USE;
/* Row rows[t] of cache becomes row t of x[n][dim]: keys and values of new tokens. */
enum sp_code sp_gpu_scatter(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t dim,
    struct sp_gpu_array rows, struct sp_gpu_array cache, struct sp_err *err) SP_MUST_USE;

#ifdef __cplusplus
}
#endif

#endif
