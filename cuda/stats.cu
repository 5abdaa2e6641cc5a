/* stats.cu -- sums over tokens and rows in a fixed order: pieces side by side, then the pieces. */
#include "gpu.h"

#define THREADS 256
#define PIECE 256  /* rows of a sum */
#define SPAN 16384 /* values of a block of differences */

/* --- |x| -------------------------------------------------------------------------------------
 */

template <class T>
static __global__ void
x_kernel(const T *x, size_t n, size_t in, double *pieces)
{
	size_t column = (size_t)blockIdx.x * THREADS + threadIdx.x;
	size_t first = (size_t)blockIdx.y * PIECE, end = first + PIECE < n ? first + PIECE : n;
	double sum = 0;

	if (column >= in)
		return;
	for (size_t t = first; t < end; t++)
		sum += (double)fabsf(widen(x[t * in + column]));
	pieces[(size_t)blockIdx.y * in + column] = sum;
}

static __global__ void
add_kernel(const double *pieces, size_t count, size_t in, double *sums)
{
	size_t column = (size_t)blockIdx.x * THREADS + threadIdx.x;

	if (column >= in)
		return;
	for (size_t i = 0; i < count; i++)
		sums[column] += pieces[i * in + column];
}

template <class T>
static enum sp_code
x_pieces(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t in, struct sp_gpu_array pieces,
    struct sp_err *err)
{
	return launch(gpu, "sums of inputs", x_kernel<T>,
	    dim3((unsigned)ceil_div(in, THREADS), (unsigned)ceil_div(n, PIECE)), THREADS, 0, err,
	    at<const T>(x), n, in, at<double>(pieces));
}

static enum sp_code
add_pieces(struct sp_gpu *gpu, struct sp_gpu_array pieces, size_t count, size_t in,
    struct sp_gpu_array sums, struct sp_err *err)
{
	SP_ASSERT(sums.type == SP_GPU_F64 && sums.count >= in);
	return launch(gpu, "sums", add_kernel, (unsigned)ceil_div(in, THREADS), THREADS, 0, err,
	    at<const double>(pieces), count, in, at<double>(sums));
}

enum sp_code
sp_gpu_x_sums(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t in,
    struct sp_gpu_array sums, struct sp_err *err)
{
	struct sp_gpu_array pieces = {};
	size_t count = ceil_div(n, PIECE);
	enum sp_code rc;

	SP_ASSERT(x.count >= n * in);
	if (n == 0)
		return SP_OK;
	rc = sp_gpu_alloc(gpu, SP_GPU_F64, count * in, &pieces, err);
	if (rc == SP_OK)
		rc = SP_BY_TYPE(x.type, x_pieces, gpu, x, n, in, pieces, err);
	if (rc == SP_OK)
		rc = add_pieces(gpu, pieces, count, in, sums, err);
	sp_gpu_free(gpu, &pieces);
	return rc;
}

/* --- |w| in shares of its group's largest ----------------------------------------------------
 */

#define WARPS (THREADS / 32)
#define GROUP_MAX 128

/* One group of columns and PIECE rows: a warp takes every eighth row. */
template <class T>
static __global__ void
w_kernel(const T *w, size_t out, size_t in, size_t group, double *pieces)
{
	__shared__ double parts[WARPS][GROUP_MAX];
	unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	size_t end =
	    (size_t)(blockIdx.y + 1) * PIECE < out ? (size_t)(blockIdx.y + 1) * PIECE : out;
	double sums[GROUP_MAX / 32] = {0};

	for (size_t r = (size_t)blockIdx.y * PIECE + warp; r < end; r += WARPS) {
		const T *row = w + r * in + blockIdx.x * group;
		float values[GROUP_MAX / 32], most = 0.0f;

#pragma unroll
		for (unsigned k = 0; k < GROUP_MAX / 32; k++) {
			unsigned c = 32 * k + lane;

			values[k] = c < group ? fabsf(widen(row[c])) : 0.0f;
			most = fmaxf(most, values[k]);
		}
		most = warp_max(most) + 1e-6f;
#pragma unroll
		for (unsigned k = 0; k < GROUP_MAX / 32; k++)
			sums[k] += (double)(values[k] / most);
	}
#pragma unroll
	for (unsigned k = 0; k < GROUP_MAX / 32; k++)
		parts[warp][32 * k + lane] = sums[k];
	__syncthreads();
	if (threadIdx.x < group) {
		double sum = 0;

		for (unsigned i = 0; i < WARPS; i++)
			sum += parts[i][threadIdx.x];
		pieces[blockIdx.y * in + blockIdx.x * group + threadIdx.x] = sum;
	}
}

template <class T>
static enum sp_code
w_pieces(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in, size_t group,
    struct sp_gpu_array pieces, struct sp_err *err)
{
	return launch(gpu, "sums of weights", w_kernel<T>,
	    dim3((unsigned)(in / group), (unsigned)ceil_div(out, PIECE)), THREADS, 0, err,
	    at<const T>(w), out, in, group, at<double>(pieces));
}

enum sp_code
sp_gpu_w_sums(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in, size_t group,
    struct sp_gpu_array sums, struct sp_err *err)
{
	struct sp_gpu_array pieces = {};
	size_t count = ceil_div(out, PIECE);
	enum sp_code rc;

	SP_ASSERT(w.count >= out * in && group <= GROUP_MAX && in % group == 0 && out > 0);
	rc = sp_gpu_alloc(gpu, SP_GPU_F64, count * in, &pieces, err);
	if (rc == SP_OK)
		rc = SP_BY_TYPE(w.type, w_pieces, gpu, w, out, in, group, pieces, err);
	if (rc == SP_OK)
		rc = add_pieces(gpu, pieces, count, in, sums, err);
	sp_gpu_free(gpu, &pieces);
	return rc;
}

/* --- differences -----------------------------------------------------------------------------
 */

template <class X, class Y>
static __global__ void
difference_kernel(const X *a, const Y *b, size_t count, double *pieces)
{
	__shared__ double parts[32];
	size_t first = (size_t)blockIdx.x * SPAN;
	size_t end = first + SPAN < count ? first + SPAN : count;
	double sum = 0;

	for (size_t i = first + threadIdx.x; i < end; i += THREADS) {
		float d = widen(a[i]) - (b != NULL ? widen(b[i]) : 0.0f);

		sum += (double)d * (double)d;
	}
	sum = block_sum(sum, parts);
	if (threadIdx.x == 0)
		pieces[blockIdx.x] = sum;
}

static __global__ void
total_kernel(const double *pieces, size_t count, double *sum)
{
	__shared__ double parts[32];
	double mine = 0;

	for (size_t i = threadIdx.x; i < count; i += THREADS)
		mine += pieces[i];
	mine = block_sum(mine, parts);
	if (threadIdx.x == 0)
		*sum = mine;
}

template <class X, class Y>
static enum sp_code
difference(struct sp_gpu *gpu, struct sp_gpu_array a, struct sp_gpu_array b,
    struct sp_gpu_array pieces, struct sp_err *err)
{
	return launch(gpu, "difference", difference_kernel<X, Y>, (unsigned)pieces.count, THREADS,
	    0, err, at<const X>(a), at<const Y>(b), a.count, at<double>(pieces));
}

enum sp_code
sp_gpu_difference(struct sp_gpu *gpu, struct sp_gpu_array a, struct sp_gpu_array b,
    struct sp_gpu_array sum, struct sp_err *err)
{
	struct sp_gpu_array pieces = {};
	enum sp_code rc;

	SP_ASSERT(b.at == 0 || b.count >= a.count);
	SP_ASSERT(sum.type == SP_GPU_F64 && sum.count >= 1);
	if (a.count == 0)
		return sp_gpu_zero(gpu, sum, err);
	rc = sp_gpu_alloc(gpu, SP_GPU_F64, ceil_div(a.count, SPAN), &pieces, err);
	if (rc == SP_OK)
		rc = SP_BY_TYPES(
		    a.type, b.at == 0 ? a.type : b.type, difference, gpu, a, b, pieces, err);
	if (rc == SP_OK)
		rc = launch(gpu, "difference", total_kernel, 1, THREADS, 0, err,
		    at<const double>(pieces), pieces.count, at<double>(sum));
	sp_gpu_free(gpu, &pieces);
	return rc;
}
