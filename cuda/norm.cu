/* norm.cu -- what is between products: norms, rotations, activations, sums, scores. */
#include "gpu.h"

#define THREADS 256

static int
by_four(size_t count, struct sp_gpu_array a, struct sp_gpu_array b)
{
	return count % 4 == 0 && a.at % (4 * sp_gpu_type_size(a.type)) == 0 &&
	       b.at % (4 * sp_gpu_type_size(b.type)) == 0;
}

/* --- elements --------------------------------------------------------------------------------
 */

enum element { CONVERT, ADD, SILU_MUL };

template <int WHAT>
static __device__ __forceinline__ float
element(float y, float x)
{
	if (WHAT == ADD)
		return y + x;
	if (WHAT == SILU_MUL)
		return y / (1.0f + expf(-y)) * x;
	return x;
}

/* y = what(y, x), N at a time. */
template <class X, class Y, int WHAT, int N>
static __global__ void
element_kernel(const X *x, Y *y, size_t count)
{
	size_t i = ((size_t)blockIdx.x * THREADS + threadIdx.x) * N;
	pack<X, N> from;
	pack<Y, N> to;

	if (i >= count)
		return;
	from = *(const pack<X, N> *)(x + i);
	if (WHAT != CONVERT)
		to = *(const pack<Y, N> *)(y + i);
#pragma unroll
	for (int k = 0; k < N; k++)
		narrow(element<WHAT>(WHAT != CONVERT ? widen(to.v[k]) : 0.0f, widen(from.v[k])),
		    &to.v[k]);
	*(pack<Y, N> *)(y + i) = to;
}

template <class X, class Y, int WHAT>
static enum sp_code
elements(struct sp_gpu *gpu, const char *what, struct sp_gpu_array x, struct sp_gpu_array y,
    struct sp_err *err)
{
	size_t count = y.count;

	SP_ASSERT(x.count >= count);
	if (count == 0)
		return SP_OK;
	if (by_four(count, x, y))
		return launch(gpu, what, element_kernel<X, Y, WHAT, 4>,
		    (unsigned)ceil_div(count / 4, THREADS), THREADS, 0, err, at<const X>(x),
		    at<Y>(y), count);
	return launch(gpu, what, element_kernel<X, Y, WHAT, 1>, (unsigned)ceil_div(count, THREADS),
	    THREADS, 0, err, at<const X>(x), at<Y>(y), count);
}

template <class X, class Y>
static enum sp_code
convert(struct sp_gpu *gpu, struct sp_gpu_array x, struct sp_gpu_array y, struct sp_err *err)
{
	return elements<X, Y, CONVERT>(gpu, "converting", x, y, err);
}

template <class X, class Y>
static enum sp_code
add(struct sp_gpu *gpu, struct sp_gpu_array x, struct sp_gpu_array y, struct sp_err *err)
{
	return elements<X, Y, ADD>(gpu, "adding", x, y, err);
}

template <class T>
static enum sp_code
silu_mul(struct sp_gpu *gpu, struct sp_gpu_array up, struct sp_gpu_array gate, struct sp_err *err)
{
	return elements<T, T, SILU_MUL>(gpu, "silu", up, gate, err);
}

enum sp_code
sp_gpu_convert(
    struct sp_gpu *gpu, struct sp_gpu_array from, struct sp_gpu_array to, struct sp_err *err)
{
	return SP_BY_TYPES(from.type, to.type, convert, gpu, from, to, err);
}

enum sp_code
sp_gpu_add(struct sp_gpu *gpu, struct sp_gpu_array a, struct sp_gpu_array b, struct sp_err *err)
{
	return SP_BY_TYPES(b.type, a.type, add, gpu, b, a, err);
}

enum sp_code
sp_gpu_silu_mul(
    struct sp_gpu *gpu, struct sp_gpu_array gate, struct sp_gpu_array up, struct sp_err *err)
{
	SP_ASSERT(gate.type == up.type);
	return SP_BY_TYPE(gate.type, silu_mul, gpu, up, gate, err);
}

/* --- norms -----------------------------------------------------------------------------------
 */

/* A row by a block; N values at a time. */
template <class X, class Y, int N>
static __global__ void
rmsnorm_kernel(const X *x, const float *weight, float eps, size_t dim, Y *y)
{
	__shared__ float parts[32];
	size_t row = (size_t)blockIdx.x * dim;
	float sum = 0.0f, scale;

	for (size_t i = threadIdx.x * N; i < dim; i += blockDim.x * N) {
		pack<X, N> from = *(const pack<X, N> *)(x + row + i);

#pragma unroll
		for (int k = 0; k < N; k++)
			sum = fmaf(widen(from.v[k]), widen(from.v[k]), sum);
	}
	scale = 1.0f / sqrtf(block_sum(sum, parts) / (float)dim + eps);
	for (size_t i = threadIdx.x * N; i < dim; i += blockDim.x * N) {
		pack<X, N> from = *(const pack<X, N> *)(x + row + i);
		pack<Y, N> to;

#pragma unroll
		for (int k = 0; k < N; k++)
			narrow(widen(from.v[k]) * scale * weight[i + k], &to.v[k]);
		*(pack<Y, N> *)(y + row + i) = to;
	}
}

template <class X, class Y>
static enum sp_code
rmsnorm(struct sp_gpu *gpu, struct sp_gpu_array x, struct sp_gpu_array weight, float eps, size_t n,
    size_t dim, struct sp_gpu_array y, struct sp_err *err)
{
	/* by dim alone, as all that decides on the order of a sum */
	unsigned threads = dim <= 256 ? 32 : dim <= 2048 ? 128 : 512;

	if (by_four(dim, x, y))
		return launch(gpu, "norm", rmsnorm_kernel<X, Y, 4>, (unsigned)n, threads, 0, err,
		    at<const X>(x), at<const float>(weight), eps, dim, at<Y>(y));
	return launch(gpu, "norm", rmsnorm_kernel<X, Y, 1>, (unsigned)n, threads, 0, err,
	    at<const X>(x), at<const float>(weight), eps, dim, at<Y>(y));
}

enum sp_code
sp_gpu_rmsnorm(struct sp_gpu *gpu, struct sp_gpu_array x, struct sp_gpu_array weight, float eps,
    size_t n, size_t dim, struct sp_gpu_array y, struct sp_err *err)
{
	SP_ASSERT(x.count >= n * dim && y.count >= n * dim && weight.count >= dim);
	if (n == 0)
		return SP_OK;
	return SP_BY_TYPES(x.type, y.type, rmsnorm, gpu, x, weight, eps, n, dim, y, err);
}

/* --- rotations -------------------------------------------------------------------------------
 */

/* A thread per pair. */
template <class T>
static __global__ void
rope_kernel(
    T *x, size_t pairs, size_t heads, size_t dim, const float *rope, const uint32_t *positions)
{
	size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x, half = dim / 2;
	size_t head = i / half, d = i % half;
	const float *turn;
	float a, b;

	if (i >= pairs)
		return;
	turn = rope + positions[head / heads] * dim + 2 * d;
	x += head * dim + d;
	a = widen(x[0]);
	b = widen(x[half]);
	narrow(a * turn[0] - b * turn[1], &x[0]);
	narrow(b * turn[0] + a * turn[1], &x[half]);
}

template <class T>
static enum sp_code
rope_of(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t heads, size_t dim,
    struct sp_gpu_array rope, struct sp_gpu_array positions, struct sp_err *err)
{
	size_t pairs = n * heads * (dim / 2);

	return launch(gpu, "rope", rope_kernel<T>, (unsigned)ceil_div(pairs, THREADS), THREADS, 0,
	    err, at<T>(x), pairs, heads, dim, at<const float>(rope), at<const uint32_t>(positions));
}

enum sp_code
sp_gpu_rope(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t heads, size_t dim,
    struct sp_gpu_array rope, struct sp_gpu_array positions, struct sp_err *err)
{
	SP_ASSERT(x.count >= n * heads * dim && positions.count >= n && dim % 2 == 0);
	SP_ASSERT(rope.type == SP_GPU_F32 && positions.type == SP_GPU_U32);
	if (n == 0)
		return SP_OK;
	return SP_BY_TYPE(x.type, rope_of, gpu, x, n, heads, dim, rope, positions, err);
}

/* --- rows ------------------------------------------------------------------------------------
 */

/* Row r of to is row ids[r] of from (gather), or the other way (scatter). */
template <class X, class Y, int SCATTER>
static __global__ void
rows_kernel(const X *from, size_t rows, size_t dim, const uint32_t *ids, Y *to)
{
	size_t row = blockIdx.x, id = ids[row];

	for (size_t i = threadIdx.x; i < dim; i += THREADS) {
		if (SCATTER && id < rows)
			narrow(widen(from[row * dim + i]), &to[id * dim + i]);
		if (!SCATTER)
			narrow(id < rows ? widen(from[id * dim + i]) : 0.0f, &to[row * dim + i]);
	}
}

template <class X, class Y>
static enum sp_code
gather(struct sp_gpu *gpu, struct sp_gpu_array table, size_t rows, size_t dim,
    struct sp_gpu_array ids, size_t n, struct sp_gpu_array y, struct sp_err *err)
{
	return launch(gpu, "gather", rows_kernel<X, Y, 0>, (unsigned)n, THREADS, 0, err,
	    at<const X>(table), rows, dim, at<const uint32_t>(ids), at<Y>(y));
}

template <class X, class Y>
static enum sp_code
scatter(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t dim, struct sp_gpu_array ids,
    struct sp_gpu_array cache, struct sp_err *err)
{
	return launch(gpu, "scatter", rows_kernel<X, Y, 1>, (unsigned)n, THREADS, 0, err,
	    at<const X>(x), cache.count / dim, dim, at<const uint32_t>(ids), at<Y>(cache));
}

enum sp_code
sp_gpu_gather(struct sp_gpu *gpu, struct sp_gpu_array table, size_t rows, size_t dim,
    struct sp_gpu_array ids, size_t n, struct sp_gpu_array y, struct sp_err *err)
{
	SP_ASSERT(table.count >= rows * dim && ids.count >= n && y.count >= n * dim);
	SP_ASSERT(ids.type == SP_GPU_U32);
	if (n == 0)
		return SP_OK;
	return SP_BY_TYPES(table.type, y.type, gather, gpu, table, rows, dim, ids, n, y, err);
}

enum sp_code
sp_gpu_scatter(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t dim,
    struct sp_gpu_array rows, struct sp_gpu_array cache, struct sp_err *err)
{
	SP_ASSERT(x.count >= n * dim && rows.count >= n && rows.type == SP_GPU_U32);
	if (n == 0)
		return SP_OK;
	return SP_BY_TYPES(x.type, cache.type, scatter, gpu, x, n, dim, rows, cache, err);
}

template <class X, class Y>
static __global__ void
add_rows_kernel(
    const X *x, size_t dim, const uint32_t *ids, const float *weights, Y *y, size_t rows)
{
	size_t row = blockIdx.x, id = ids[row];

	for (size_t i = threadIdx.x; i < dim && id < rows; i += THREADS)
		narrow(widen(y[id * dim + i]) + weights[row] * widen(x[row * dim + i]),
		    &y[id * dim + i]);
}

template <class X, class Y>
static enum sp_code
add_rows(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t dim, struct sp_gpu_array ids,
    struct sp_gpu_array weights, struct sp_gpu_array y, size_t rows, struct sp_err *err)
{
	return launch(gpu, "adding rows", add_rows_kernel<X, Y>, (unsigned)n, THREADS, 0, err,
	    at<const X>(x), dim, at<const uint32_t>(ids), at<const float>(weights), at<Y>(y), rows);
}

enum sp_code
sp_gpu_add_rows(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t dim,
    struct sp_gpu_array ids, struct sp_gpu_array weights, struct sp_gpu_array y, size_t rows,
    struct sp_err *err)
{
	SP_ASSERT(x.count >= n * dim && ids.count >= n && weights.count >= n);
	SP_ASSERT(y.count >= rows * dim && ids.type == SP_GPU_U32 && weights.type == SP_GPU_F32);
	if (n == 0)
		return SP_OK;
	return SP_BY_TYPES(x.type, y.type, add_rows, gpu, x, n, dim, ids, weights, y, rows, err);
}

/* --- scores ----------------------------------------------------------------------------------
 */

struct largest {
	float value;
	uint32_t at;
};

static __device__ __forceinline__ struct largest
larger(struct largest a, struct largest b)
{
	return b.value > a.value || (b.value == a.value && b.at < a.at) ? b : a;
}

static __device__ __forceinline__ struct largest
block_largest(struct largest mine, struct largest *parts)
{
	unsigned lane = threadIdx.x % 32;

	for (int turn = 0; turn < 2; turn++) {
		for (unsigned by = 16; by > 0; by /= 2) {
			struct largest other = {__shfl_xor_sync(SP_FULL, mine.value, by),
			    __shfl_xor_sync(SP_FULL, mine.at, by)};

			mine = larger(mine, other);
		}
		if (turn == 1)
			break;
		if (lane == 0)
			parts[threadIdx.x / 32] = mine;
		__syncthreads();
		mine = parts[lane % (THREADS / 32)];
	}
	return mine;
}

template <class T>
static __global__ void
score_kernel(
    const T *logits, size_t vocab, const uint32_t *ids, float *lse, float *chosen, uint32_t *best)
{
	__shared__ struct largest parts[THREADS / 32];
	__shared__ float sums[32];
	const T *row = logits + (size_t)blockIdx.x * vocab;
	struct largest most = {-INFINITY, 0xffffffffu};
	float sum = 0.0f;

	for (size_t i = threadIdx.x; i < vocab; i += THREADS) {
		struct largest here = {widen(row[i]), (uint32_t)i};

		most = larger(most, here);
	}
	most = block_largest(most, parts);
	for (size_t i = threadIdx.x; i < vocab; i += THREADS)
		sum += expf(widen(row[i]) - most.value);
	sum = block_sum(sum, sums);
	if (threadIdx.x == 0) {
		lse[blockIdx.x] = most.value + logf(sum);
		chosen[blockIdx.x] = widen(row[ids[blockIdx.x]]);
		best[blockIdx.x] = most.at;
	}
}

template <class T>
static enum sp_code
score(struct sp_gpu *gpu, struct sp_gpu_array logits, size_t n, size_t vocab,
    struct sp_gpu_array ids, struct sp_gpu_array lse, struct sp_gpu_array chosen,
    struct sp_gpu_array best, struct sp_err *err)
{
	return launch(gpu, "score", score_kernel<T>, (unsigned)n, THREADS, 0, err,
	    at<const T>(logits), vocab, at<const uint32_t>(ids), at<float>(lse), at<float>(chosen),
	    at<uint32_t>(best));
}

enum sp_code
sp_gpu_score(struct sp_gpu *gpu, struct sp_gpu_array logits, size_t n, size_t vocab,
    struct sp_gpu_array ids, struct sp_gpu_array lse, struct sp_gpu_array chosen,
    struct sp_gpu_array best, struct sp_err *err)
{
	SP_ASSERT(logits.count >= n * vocab && ids.count >= n && lse.count >= n);
	SP_ASSERT(chosen.count >= n && best.count >= n && best.type == SP_GPU_U32);
	SP_ASSERT(lse.type == SP_GPU_F32 && chosen.type == SP_GPU_F32 && ids.type == SP_GPU_U32);
	if (n == 0)
		return SP_OK;
	return SP_BY_TYPE(logits.type, score, gpu, logits, n, vocab, ids, lse, chosen, best, err);
}
