/* round.cu -- plain rounding in groups, a warp for each; packing; the search for clip limits. */
#include "gpu.h"

#define THREADS 256
#define WARPS (THREADS / 32)
#define GROUP_MAX 128
#define LANE (GROUP_MAX / 32) /* values that a lane holds */
#define MAX_CODE 15.0f
#define MIDDLE 8.0f
#define SYMMETRIC_MAX 7.0f
#define RANGE_MIN 1e-5f
#define STEPS 10 /* clip limits that are tried */

/* The values of a group that lane holds: 32k + lane. Those beyond the group repeat its first. */
template <class T>
static __device__ __forceinline__ void
load_group(const T *w, unsigned group, float (&values)[LANE])
{
#pragma unroll
	for (unsigned k = 0; k < LANE; k++) {
		unsigned c = 32 * k + threadIdx.x % 32;

		values[k] = widen(w[c < group ? c : 0]);
	}
}

static __device__ __forceinline__ void
range(const float (&values)[LANE], float *min, float *max)
{
	float low = values[0], high = values[0];

#pragma unroll
	for (unsigned k = 1; k < LANE; k++) {
		low = fminf(low, values[k]);
		high = fmaxf(high, values[k]);
	}
	*min = -warp_max(-low);
	*max = warp_max(high);
}

/* Q of a group in place, as sp_round_fake. */
static __device__ __forceinline__ void
fake(float (&values)[LANE], int symmetric)
{
	float min, max, scale, zero;

	range(values, &min, &max);
	if (symmetric) {
		max = fmaxf(max, -min);
		scale = (max < RANGE_MIN ? RANGE_MIN : max) / SYMMETRIC_MAX;
		zero = MIDDLE;
	} else {
		scale = (max - min < RANGE_MIN ? RANGE_MIN : max - min) / MAX_CODE;
		zero = between(-nearest(min / scale), 0.0f, MAX_CODE);
	}
#pragma unroll
	for (unsigned k = 0; k < LANE; k++)
		values[k] =
		    (between(nearest(values[k] / scale) + zero, 0.0f, MAX_CODE) - zero) * scale;
}

/* Which group of the matrix the warp has; a warp without one leaves. */
static __device__ __forceinline__ size_t
group_of_warp(void)
{
	return (size_t)blockIdx.x * WARPS + threadIdx.x / 32;
}

template <class T>
static __global__ void
fake_kernel(const T *w, size_t count, size_t in, unsigned group, int symmetric, const float *scales,
    float *to)
{
	size_t g = group_of_warp();
	float values[LANE];

	if (g >= count)
		return;
	load_group(w + g * group, group, values);
	if (scales != NULL) {
		scales += g * group % in;
#pragma unroll
		for (unsigned k = 0; k < LANE; k++) {
			unsigned c = 32 * k + threadIdx.x % 32;

			values[k] = __fmul_rn(values[k], scales[c < group ? c : 0]);
		}
	}
	fake(values, symmetric);
#pragma unroll
	for (unsigned k = 0; k < LANE; k++) {
		unsigned c = 32 * k + threadIdx.x % 32;

		if (c < group)
			to[g * group + c] = values[k] / (scales != NULL ? scales[c] : 1.0f);
	}
}

template <class T>
static enum sp_code
fake_of(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in, size_t group,
    int symmetric, struct sp_gpu_array scales, struct sp_gpu_array to, struct sp_err *err)
{
	size_t count = out * (in / group);

	return launch(gpu, "rounding", fake_kernel<T>, (unsigned)ceil_div(count, WARPS), THREADS, 0,
	    err, at<const T>(w), count, in, (unsigned)group, symmetric, at<const float>(scales),
	    at<float>(to));
}

enum sp_code
sp_gpu_fake(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in, size_t group,
    int symmetric, struct sp_gpu_array scales, struct sp_gpu_array to, struct sp_err *err)
{
	SP_ASSERT(w.count >= out * in && to.count >= out * in && to.type == SP_GPU_F32);
	SP_ASSERT(group <= GROUP_MAX && in % group == 0 && out > 0);
	SP_ASSERT(scales.at == 0 || scales.count >= in);
	return SP_BY_TYPE(w.type, fake_of, gpu, w, out, in, group, symmetric, scales, to, err);
}

template <class T>
static __global__ void
rescale_kernel(T *w, size_t count, size_t in, const float *rows, const float *columns)
{
	size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

	if (i < count) {
		float value = widen(w[i]);

		if (rows != NULL)
			value /= rows[i / in];
		if (columns != NULL)
			value *= columns[i % in];
		narrow(value, &w[i]);
	}
}

template <class T>
static enum sp_code
rescale_of(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in,
    struct sp_gpu_array rows, struct sp_gpu_array columns, struct sp_err *err)
{
	return launch(gpu, "rescaling", rescale_kernel<T>, (unsigned)ceil_div(out * in, THREADS),
	    THREADS, 0, err, at<T>(w), out * in, in, at<const float>(rows),
	    at<const float>(columns));
}

enum sp_code
sp_gpu_rescale(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in,
    struct sp_gpu_array rows, struct sp_gpu_array columns, struct sp_err *err)
{
	SP_ASSERT(w.count >= out * in && out > 0 && in > 0);
	SP_ASSERT(rows.at == 0 || (rows.count >= out && rows.type == SP_GPU_F32));
	SP_ASSERT(columns.at == 0 || (columns.count >= in && columns.type == SP_GPU_F32));
	return SP_BY_TYPE(w.type, rescale_of, gpu, w, out, in, rows, columns, err);
}

/* --- codes -----------------------------------------------------------------------------------
 */

/* Every operation rounded to fp16, as sp_round_codes. */
template <class T>
static __global__ void
codes_kernel(const T *w, size_t count, unsigned group, int symmetric, uint8_t *codes,
    uint8_t *zeros, sp_f16 *scales)
{
	size_t g = group_of_warp();
	float values[LANE], least = as_half(RANGE_MIN), min, max, scale, zero;

	if (g >= count)
		return;
	load_group(w + g * group, group, values);
	range(values, &min, &max);
	if (symmetric) {
		max = fmaxf(max, -min);
		scale = as_half((max < least ? least : max) / SYMMETRIC_MAX);
		zero = MIDDLE;
	} else {
		float span = as_half(max - min);

		scale = as_half((span < least ? least : span) / MAX_CODE);
		zero = between(-nearest(as_half(min / scale)), 0.0f, MAX_CODE);
	}
#pragma unroll
	for (unsigned k = 0; k < LANE; k++) {
		unsigned c = 32 * k + threadIdx.x % 32;
		float code = between(nearest(as_half(values[k] / scale)) + zero, 0.0f, MAX_CODE);

		if (c < group)
			codes[g * group + c] = (uint8_t)code;
	}
	if (threadIdx.x % 32 == 0) {
		zeros[g] = (uint8_t)zero;
		narrow(scale, &scales[g]);
	}
}

template <class T>
static enum sp_code
codes_of(struct sp_gpu *gpu, struct sp_gpu_array w, size_t count, size_t group, int symmetric,
    const struct sp_gpu_codes *codes, struct sp_err *err)
{
	return launch(gpu, "codes", codes_kernel<T>, (unsigned)ceil_div(count, WARPS), THREADS, 0,
	    err, at<const T>(w), count, (unsigned)group, symmetric, at<uint8_t>(codes->codes),
	    at<uint8_t>(codes->zeros), at<sp_f16>(codes->scales));
}

static void
must_fit(const struct sp_gpu_codes *codes, size_t out, size_t in, size_t group)
{
	SP_ASSERT(group <= GROUP_MAX && in % group == 0 && out > 0);
	SP_ASSERT(codes->codes.count >= out * in && codes->codes.type == SP_GPU_U8);
	SP_ASSERT(codes->zeros.count >= out * (in / group) && codes->zeros.type == SP_GPU_U8);
	SP_ASSERT(codes->scales.count >= out * (in / group) && codes->scales.type == SP_GPU_F16);
}

enum sp_code
sp_gpu_codes_find(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in, size_t group,
    int symmetric, const struct sp_gpu_codes *codes, struct sp_err *err)
{
	must_fit(codes, out, in, group);
	SP_ASSERT(w.count >= out * in);
	return SP_BY_TYPE(
	    w.type, codes_of, gpu, w, out * (in / group), group, symmetric, codes, err);
}

template <class T>
static __global__ void
decode_kernel(const uint8_t *codes, const uint8_t *zeros, const sp_f16 *scales, size_t count,
    size_t group, T *w)
{
	size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

	if (i < count) {
		int step = (int)codes[i] - (int)zeros[i / group];

		narrow((float)step * widen(scales[i / group]), &w[i]);
	}
}

template <class T>
static enum sp_code
decode_of(struct sp_gpu *gpu, const struct sp_gpu_codes *codes, size_t count, size_t group,
    struct sp_gpu_array w, struct sp_err *err)
{
	return launch(gpu, "codes", decode_kernel<T>, (unsigned)ceil_div(count, THREADS), THREADS,
	    0, err, at<const uint8_t>(codes->codes), at<const uint8_t>(codes->zeros),
	    at<const sp_f16>(codes->scales), count, group, at<T>(w));
}

enum sp_code
sp_gpu_codes_decode(struct sp_gpu *gpu, const struct sp_gpu_codes *codes, size_t out, size_t in,
    size_t group, struct sp_gpu_array w, struct sp_err *err)
{
	must_fit(codes, out, in, group);
	SP_ASSERT(w.count >= out * in);
	return SP_BY_TYPE(w.type, decode_of, gpu, codes, out * in, group, w, err);
}

/* --- the layout of checkpoints ---------------------------------------------------------------
 */

#define PACK_ROWS 32
#define PACK_WORDS 32

/* A tile of words: its values are read along the rows, and written along the columns. */
static __global__ void
pack_kernel(const uint8_t *values, size_t columns, size_t rows, uint32_t *words)
{
	__shared__ uint8_t tile[8 * PACK_WORDS][PACK_ROWS + 4];
	const unsigned order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
	size_t row = (size_t)blockIdx.x * PACK_ROWS, word = (size_t)blockIdx.y * PACK_WORDS;

	for (unsigned i = threadIdx.x; i < 8 * PACK_WORDS * PACK_ROWS; i += THREADS) {
		size_t c = 8 * word + i / PACK_ROWS, r = row + i % PACK_ROWS;

		tile[i / PACK_ROWS][i % PACK_ROWS] =
		    c < columns && r < rows ? values[c * rows + r] : 0;
	}
	__syncthreads();
	for (unsigned i = threadIdx.x; i < PACK_WORDS * PACK_ROWS; i += THREADS) {
		unsigned w = i % PACK_WORDS, r = i / PACK_WORDS;
		uint32_t packed = 0;

		for (unsigned k = 0; k < 8; k++)
			packed |= (uint32_t)(tile[8 * w + order[k]][r] & 15) << (4 * k);
		if (word + w < columns / 8 && row + r < rows)
			words[(row + r) * (columns / 8) + word + w] = packed;
	}
}

enum sp_code
sp_gpu_pack(struct sp_gpu *gpu, struct sp_gpu_array values, size_t columns, size_t rows,
    struct sp_gpu_array words, struct sp_err *err)
{
	SP_ASSERT(columns % 8 == 0 && values.count >= columns * rows && columns * rows > 0);
	SP_ASSERT(words.count >= rows * (columns / 8) && words.type == SP_GPU_U32);
	return launch(gpu, "packing", pack_kernel,
	    dim3((unsigned)ceil_div(rows, PACK_ROWS), (unsigned)ceil_div(columns / 8, PACK_WORDS)),
	    THREADS, 0, err, at<const uint8_t>(values), columns, rows, at<uint32_t>(words));
}

template <class T>
static __global__ void
transpose_kernel(const T *from, size_t rows, size_t columns, T *to)
{
	__shared__ T tile[32][33];
	size_t row = (size_t)blockIdx.x * 32, column = (size_t)blockIdx.y * 32;

	for (unsigned i = threadIdx.x; i < 32 * 32; i += THREADS) {
		size_t r = row + i / 32, c = column + i % 32;

		if (r < rows && c < columns)
			tile[i / 32][i % 32] = from[r * columns + c];
	}
	__syncthreads();
	for (unsigned i = threadIdx.x; i < 32 * 32; i += THREADS) {
		size_t c = column + i / 32, r = row + i % 32;

		if (r < rows && c < columns)
			to[c * rows + r] = tile[i % 32][i / 32];
	}
}

enum sp_code
sp_gpu_transpose(struct sp_gpu *gpu, struct sp_gpu_array from, size_t rows, size_t columns,
    struct sp_gpu_array to, struct sp_err *err)
{
	dim3 grid((unsigned)ceil_div(rows, 32), (unsigned)ceil_div(columns, 32));
	size_t size = sp_gpu_type_size(from.type);

	SP_ASSERT(from.count >= rows * columns && to.count >= rows * columns);
	SP_ASSERT(from.type == to.type && from.at != to.at);
	if (size == 1)
		return launch(gpu, "transposing", transpose_kernel<uint8_t>, grid, THREADS, 0, err,
		    at<const uint8_t>(from), rows, columns, at<uint8_t>(to));
	if (size == 2)
		return launch(gpu, "transposing", transpose_kernel<uint16_t>, grid, THREADS, 0, err,
		    at<const uint16_t>(from), rows, columns, at<uint16_t>(to));
	SP_ASSERT(size == 4);
	return launch(gpu, "transposing", transpose_kernel<uint32_t>, grid, THREADS, 0, err,
	    at<const uint32_t>(from), rows, columns, at<uint32_t>(to));
}

/* --- clip limits -----------------------------------------------------------------------------
 * The error of a change d of a row's group, Σ over tokens of (x·d)², is dᵀGd with the moments G of
 * the group's inputs: for 128 inputs and 512 tokens a quarter of the work.
 */

#define TOKENS 32 /* in shared memory at a time */

/* g[group][GROUP_MAX][GROUP_MAX] of x[n][in]: a block per group, a thread per 8 x 8 values. */
template <class T>
static __global__ void
group_moments_kernel(const T *x, size_t n, size_t in, unsigned group, float *g)
{
	__shared__ float tile[TOKENS][GROUP_MAX];
	unsigned row = threadIdx.x / 16, column = threadIdx.x % 16;
	float sum[8][8] = {};

	for (size_t t = 0; t < n; t += TOKENS) {
		__syncthreads();
		for (unsigned i = threadIdx.x; i < TOKENS * GROUP_MAX; i += THREADS) {
			size_t token = t + i / GROUP_MAX;
			unsigned c = i % GROUP_MAX;

			tile[i / GROUP_MAX][c] = token < n && c < group
						     ? widen(x[token * in + blockIdx.x * group + c])
						     : 0.0f;
		}
		__syncthreads();
		for (unsigned k = 0; k < TOKENS; k++) {
#pragma unroll
			for (unsigned i = 0; i < 64; i++)
				sum[i / 8][i % 8] = fmaf(tile[k][row + 16 * (i / 8)],
				    tile[k][column + 16 * (i % 8)], sum[i / 8][i % 8]);
		}
	}
	g += (size_t)blockIdx.x * GROUP_MAX * GROUP_MAX;
#pragma unroll
	for (unsigned i = 0; i < 64; i++)
		g[(row + 16 * (i / 8)) * GROUP_MAX + column + 16 * (i % 8)] = sum[i / 8][i % 8];
}

/* dᵀGd, d held by the warp's lanes; `row` is the warp's in shared memory. */
static __device__ __forceinline__ float
quadratic(const float *g, unsigned group, const float (&d)[LANE], float *row)
{
	float y[LANE] = {0}, sum = 0.0f;

#pragma unroll
	for (unsigned i = 0; i < LANE; i++)
		row[32 * i + threadIdx.x % 32] = d[i];
	__syncwarp();
	for (unsigned k = 0; k < group; k++) {
#pragma unroll
		for (unsigned i = 0; i < LANE; i++)
			y[i] = fmaf(row[k], g[k * GROUP_MAX + 32 * i + threadIdx.x % 32], y[i]);
	}
	__syncwarp();
#pragma unroll
	for (unsigned i = 0; i < LANE; i++)
		sum = fmaf(y[i], d[i], sum);
	return warp_sum(sum);
}

/* A group of columns and 64 rows, a row by a warp. */
#define CLIP_ROWS 64

template <class T>
static __global__ void
clip_kernel(const T *w, size_t out, size_t in, unsigned group, int symmetric, const float *moments,
    float *limits)
{
	SP_DYNAMIC(float, g);
	float *d_of_warp = g + GROUP_MAX * GROUP_MAX + threadIdx.x / 32 * GROUP_MAX;
	size_t first = (size_t)blockIdx.y * CLIP_ROWS;

	moments += (size_t)blockIdx.x * GROUP_MAX * GROUP_MAX;
	for (unsigned i = threadIdx.x; i < GROUP_MAX * GROUP_MAX; i += THREADS)
		g[i] = moments[i];
	__syncthreads();
	for (size_t r = first + threadIdx.x / 32; r < first + CLIP_ROWS && r < out; r += WARPS) {
		float values[LANE], low, high, most, least = INFINITY, best = 0.0f;

		load_group(w + r * in + blockIdx.x * group, group, values);
		range(values, &low, &high);
		most = fmaxf(high, -low);
		for (unsigned k = 0; k < STEPS; k++) {
			float limit = most * (float)(1.0 - (double)k / 20), d[LANE], error;

#pragma unroll
			for (unsigned i = 0; i < LANE; i++)
				d[i] = between(values[i], -limit, limit);
			fake(d, symmetric);
#pragma unroll
			for (unsigned i = 0; i < LANE; i++)
				d[i] = 32 * i + threadIdx.x % 32 < group ? d[i] - values[i] : 0.0f;
			error = quadratic(g, group, d, d_of_warp);
			if (k == 0 || error < least) {
				least = error;
				best = limit;
			}
		}
		if (threadIdx.x % 32 == 0)
			limits[r * (in / group) + blockIdx.x] = best;
	}
}

template <class T>
static enum sp_code
group_moments(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t in, size_t group,
    struct sp_gpu_array g, struct sp_err *err)
{
	return launch(gpu, "clipping", group_moments_kernel<T>, (unsigned)(in / group), THREADS, 0,
	    err, at<const T>(x), n, in, (unsigned)group, at<float>(g));
}

template <class T>
static enum sp_code
clip(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in, size_t group, int symmetric,
    struct sp_gpu_array g, struct sp_gpu_array limits, struct sp_err *err)
{
	return launch(gpu, "clipping", clip_kernel<T>,
	    dim3((unsigned)(in / group), (unsigned)ceil_div(out, CLIP_ROWS)), THREADS,
	    (GROUP_MAX + WARPS) * GROUP_MAX * sizeof(float), err, at<const T>(w), out, in,
	    (unsigned)group, symmetric, at<const float>(g), at<float>(limits));
}

enum sp_code
sp_gpu_clip(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in, size_t group,
    int symmetric, struct sp_gpu_array x, size_t n, struct sp_gpu_array limits, struct sp_err *err)
{
	struct sp_gpu_array g = {};
	enum sp_code rc;

	SP_ASSERT(w.count >= out * in && x.count >= n * in && n > 0 && n <= 1024 && out > 0);
	SP_ASSERT(group <= GROUP_MAX && in % group == 0 && limits.type == SP_GPU_F32);
	SP_ASSERT(limits.count >= out * (in / group));
	rc = sp_gpu_alloc(gpu, SP_GPU_F32, in / group * GROUP_MAX * GROUP_MAX, &g, err);
	if (rc == SP_OK)
		rc = SP_BY_TYPE(x.type, group_moments, gpu, x, n, in, group, g, err);
	if (rc == SP_OK)
		rc = SP_BY_TYPE(w.type, clip, gpu, w, out, in, group, symmetric, g, limits, err);
	sp_gpu_free(gpu, &g);
	return rc;
}

template <class T>
static __global__ void
clamp_kernel(T *w, size_t count, size_t group, const float *limits)
{
	size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

	if (i < count)
		narrow(between(widen(w[i]), -limits[i / group], limits[i / group]), &w[i]);
}

template <class T>
static enum sp_code
clamp_of(struct sp_gpu *gpu, struct sp_gpu_array w, size_t count, size_t group,
    struct sp_gpu_array limits, struct sp_err *err)
{
	return launch(gpu, "clamping", clamp_kernel<T>, (unsigned)ceil_div(count, THREADS), THREADS,
	    0, err, at<T>(w), count, group, at<const float>(limits));
}

enum sp_code
sp_gpu_clamp(struct sp_gpu *gpu, struct sp_gpu_array w, size_t out, size_t in, size_t group,
    struct sp_gpu_array limits, struct sp_err *err)
{
	SP_ASSERT(in % group == 0 && w.count >= out * in && out > 0);
	SP_ASSERT(limits.count >= out * (in / group) && limits.type == SP_GPU_F32);
	return SP_BY_TYPE(w.type, clamp_of, gpu, w, out * in, group, limits, err);
}
