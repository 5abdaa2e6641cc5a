/*
 * factor.cu -- Cholesky factorization and solving, in blocks.
 *
 * Columns are factored OUTER at a time, those BLOCK at a time: a diagonal block by one block of
 * threads, which also inverts it; the rows below it by a product with that inverse; the columns
 * behind by products. What is subtracted from all columns behind an outer block, nearly all of the
 * work, goes through the tensor cores as three TF32 products (21 bits: with one, 11 bits of a large
 * moment would be more than the damping of a small one).
 */
#include "gpu.h"

#define BLOCK 64
#define OUTER 512
#define PANEL 4096 /* columns of a product behind: on the diagonal half is for nothing */
#define THREADS 256

/* --- the diagonal ----------------------------------------------------------------------------
 */

/* sum[0] = Σ of the diagonal. */
static __global__ void
trace_kernel(const float *g, size_t in, double *sum)
{
	__shared__ double parts[32];
	double mine = 0;

	for (size_t i = threadIdx.x; i < in; i += THREADS)
		mine += (double)g[i * in + i];
	mine = block_sum(mine, parts);
	if (threadIdx.x == 0)
		*sum = mine;
}

/* g / n + damp · mean · I, on and below the diagonal. */
static __global__ void
damp_kernel(float *g, size_t in, double n, double damp, const double *trace)
{
	size_t row = blockIdx.x;
	float by = (float)(1.0 / n);

	for (size_t j = threadIdx.x; j <= row; j += THREADS) {
		float value = g[row * in + j] * by;

		if (j == row) {
			double mean = *trace / n / (double)in;

			value = (float)((double)value + damp * (mean > 0 ? mean : 1.0));
		}
		g[row * in + j] = value;
	}
}

/* The inverse of the lower triangle l[count][count] by columns; a thread per column. */
static __device__ void
invert(const float (*l)[BLOCK + 1], unsigned count, float *inverse)
{
	unsigned c = threadIdx.x;

	if (c >= BLOCK)
		return;
	for (unsigned i = 0; i < BLOCK; i++) {
		float sum = i == c ? 1.0f : 0.0f;

		if (i >= count || c >= count || i < c) {
			inverse[i * BLOCK + c] = 0.0f;
			continue;
		}
		for (unsigned k = c; k < i; k++)
			sum -= l[i][k] * inverse[k * BLOCK + c];
		inverse[i * BLOCK + c] = sum / l[i][i];
	}
}

/* Factors the block at `first` and inverts it; failed[0] = 1 when a pivot is not above 0. */
static __global__ void
diagonal_kernel(float *g, size_t in, size_t first, unsigned count, float *inverse, uint32_t *failed)
{
	__shared__ float l[BLOCK][BLOCK + 1];
	float *block = g + first * in + first;

	for (unsigned i = threadIdx.x; i < count * count; i += THREADS)
		l[i / count][i % count] = block[i / count * in + i % count];
	__syncthreads();
	for (unsigned k = 0; k < count; k++) {
		if (threadIdx.x == 0) {
			float pivot = l[k][k];
			int good = pivot > 0.0f && pivot < INFINITY;

			if (!good)
				*failed = 1;
			l[k][k] = good ? sqrtf(pivot) : 1.0f;
		}
		__syncthreads();
		for (unsigned i = k + 1 + threadIdx.x; i < count; i += THREADS)
			l[i][k] /= l[k][k];
		__syncthreads();
		for (unsigned i = threadIdx.x; i < count * count; i += THREADS) {
			unsigned r = i / count, c = i % count;

			if (c > k && r >= c)
				l[r][c] -= l[r][k] * l[c][k];
		}
		__syncthreads();
	}
	for (unsigned i = threadIdx.x; i < count * count; i += THREADS) {
		if (i % count <= i / count)
			block[i / count * in + i % count] = l[i / count][i % count];
	}
	invert(l, count, inverse);
}

/* The inverses of all diagonal blocks of a factor. */
static __global__ void
inverses_kernel(const float *f, size_t in, float *inverses)
{
	__shared__ float l[BLOCK][BLOCK + 1];
	size_t first = (size_t)blockIdx.x * BLOCK;
	unsigned count = (unsigned)(in - first < BLOCK ? in - first : BLOCK);

	for (unsigned i = threadIdx.x; i < count * count; i += THREADS)
		l[i / count][i % count] = f[(first + i / count) * in + first + i % count];
	__syncthreads();
	invert(l, count, inverses + (size_t)blockIdx.x * BLOCK * BLOCK);
}

/* --- a block of columns, or of rows ----------------------------------------------------------
 */

enum side { RIGHT_TRANSPOSED, LEFT, LEFT_TRANSPOSED };

/*
 * A tile x of BLOCK rows and columns in place, times the inverse:
 *	RIGHT_TRANSPOSED  x·inverseᵀ, tiles one below the other
 *	LEFT, …           inverse·x or inverseᵀ·x, tiles side by side
 * Beyond the matrix tiles are filled with zeros. A thread has 4 x 4 values of the result.
 */
template <int SIDE>
static __global__ void
apply_kernel(float *x, size_t rows, size_t columns, size_t stride, const float *inverse)
{
	__shared__ float tile[BLOCK][BLOCK + 1], by[BLOCK][BLOCK + 1];
	size_t row = SIDE == RIGHT_TRANSPOSED ? (size_t)blockIdx.x * BLOCK : 0;
	size_t column = SIDE == RIGHT_TRANSPOSED ? 0 : (size_t)blockIdx.x * BLOCK;
	unsigned r = threadIdx.x / 16 * 4, c = threadIdx.x % 16;
	float sum[4][4] = {};

	for (unsigned i = threadIdx.x; i < BLOCK * BLOCK; i += THREADS) {
		size_t a = row + i / BLOCK, b = column + i % BLOCK;

		tile[i / BLOCK][i % BLOCK] = a < rows && b < columns ? x[a * stride + b] : 0.0f;
		by[i / BLOCK][i % BLOCK] = inverse[i];
	}
	__syncthreads();
	for (unsigned k = 0; k < BLOCK; k++) {
		float left[4], right[4];

#pragma unroll
		for (unsigned i = 0; i < 4; i++) {
			left[i] = SIDE == RIGHT_TRANSPOSED ? tile[r + i][k]
				  : SIDE == LEFT	   ? by[r + i][k]
							   : by[k][r + i];
			right[i] =
			    SIDE == RIGHT_TRANSPOSED ? by[c + 16 * i][k] : tile[k][c + 16 * i];
		}
#pragma unroll
		for (unsigned i = 0; i < 16; i++)
			sum[i / 4][i % 4] = fmaf(left[i / 4], right[i % 4], sum[i / 4][i % 4]);
	}
#pragma unroll
	for (unsigned i = 0; i < 16; i++) {
		size_t a = row + r + i / 4, b = column + c + 16 * (i % 4);

		if (a < rows && b < columns)
			x[a * stride + b] = sum[i / 4][i % 4];
	}
}

/* --- the factorization -----------------------------------------------------------------------
 */

struct cholesky {
	struct sp_gpu *gpu;
	struct sp_gpu_array g, inverse, trace, failed;
	struct sp_gpu_array parts; /* of an outer block's rows below: big, then small */
	size_t in;
};

static struct sp_gpu_matrix
part_of(const struct cholesky *job, size_t row, size_t column, int transposed)
{
	struct sp_gpu_matrix matrix = {job->g, row * job->in + column, job->in, transposed};

	return matrix;
}

/* Columns first … end-1, all rows. */
static enum sp_code
factor_outer(const struct cholesky *job, size_t first, size_t end, struct sp_err *err)
{
	size_t in = job->in;
	enum sp_code rc = SP_OK;

	for (size_t b = first; b < end && rc == SP_OK; b += BLOCK) {
		size_t count = end - b < BLOCK ? end - b : BLOCK, next = b + count;

		rc = launch(job->gpu, "factor", diagonal_kernel, 1, THREADS, 0, err,
		    at<float>(job->g), in, b, (unsigned)count, at<float>(job->inverse),
		    at<uint32_t>(job->failed));
		if (rc != SP_OK || next == in)
			return rc;
		rc = launch(job->gpu, "factor", apply_kernel<RIGHT_TRANSPOSED>,
		    (unsigned)ceil_div(in - next, BLOCK), THREADS, 0, err,
		    at<float>(job->g) + next * in + b, in - next, count, in,
		    at<const float>(job->inverse));
		if (rc == SP_OK)
			rc = sp_gpu_gemm(job->gpu, SP_GPU_EXACT, in - next, end - next, count,
			    -1.0f, part_of(job, next, b, 0), part_of(job, next, b, 1), 1.0f,
			    part_of(job, next, next, 0), err);
	}
	return rc;
}

/* What the columns first … end-1 leave of those behind. */
static enum sp_code
subtract(const struct cholesky *job, size_t first, size_t end, struct sp_err *err)
{
	size_t rest = job->in - end, width = end - first;
	struct sp_gpu_matrix big = {sp_gpu_part(job->parts, 0, rest * width), 0, width, 0};
	struct sp_gpu_matrix small = {
	    sp_gpu_part(job->parts, rest * width, rest * width), 0, width, 0};
	enum sp_code rc = sp__split(job->gpu, at<float>(job->g) + end * job->in + first, rest,
	    width, job->in, at<float>(big.values), at<float>(small.values), err);

	for (size_t p = 0; p < rest && rc == SP_OK; p += PANEL) {
		struct sp_gpu_matrix behind = part_of(job, end + p, end + p, 0);
		struct sp_gpu_matrix left[] = {small, big, big}, right[] = {big, small, big};
		size_t columns = rest - p < PANEL ? rest - p : PANEL;

		for (int i = 0; i < 3 && rc == SP_OK; i++) {
			left[i].first = right[i].first = p * width;
			right[i].transposed = 1;
			rc = sp_gpu_gemm(job->gpu, SP_GPU_FAST, rest - p, columns, width, -1.0f,
			    left[i], right[i], 1.0f, behind, err);
		}
	}
	return rc;
}

static enum sp_code
factor(const struct cholesky *job, size_t n, double damp, struct sp_err *err)
{
	struct sp_gpu *gpu = job->gpu;
	enum sp_code rc;

	if ((rc = sp_gpu_zero(gpu, job->failed, err)) ||
	    (rc = launch(gpu, "factor", trace_kernel, 1, THREADS, 0, err, at<const float>(job->g),
		 job->in, at<double>(job->trace))) ||
	    (rc = launch(gpu, "factor", damp_kernel, (unsigned)job->in, THREADS, 0, err,
		 at<float>(job->g), job->in, (double)n, damp, at<const double>(job->trace))))
		return rc;
	for (size_t first = 0; first < job->in; first += OUTER) {
		size_t end = job->in - first < OUTER ? job->in : first + OUTER;

		if ((rc = factor_outer(job, first, end, err)) ||
		    (end < job->in && (rc = subtract(job, first, end, err))))
			return rc;
	}
	/* above the diagonal: L[j][i] / L[i][i] */
	return sp__mirror(gpu, at<float>(job->g), job->in, 1, err);
}

enum sp_code
sp_gpu_cholesky(
    struct sp_gpu *gpu, struct sp_gpu_array g, size_t in, size_t n, double damp, struct sp_err *err)
{
	struct cholesky job = {};
	uint32_t failed = 0;
	enum sp_code rc;

	SP_ASSERT(g.type == SP_GPU_F32 && g.count >= in * in && in > 0 && n > 0);
	job.gpu = gpu;
	job.g = g;
	job.in = in;
	if ((rc = sp_gpu_alloc(gpu, SP_GPU_F32, BLOCK * BLOCK, &job.inverse, err)) ||
	    (rc = sp_gpu_alloc(gpu, SP_GPU_F64, 1, &job.trace, err)) ||
	    (rc = sp_gpu_alloc(gpu, SP_GPU_U32, 1, &job.failed, err)) ||
	    (in > OUTER &&
		(rc = sp_gpu_alloc(gpu, SP_GPU_F32, 2 * (in - OUTER) * OUTER, &job.parts, err))) ||
	    (rc = factor(&job, n, damp, err)) || (rc = sp_gpu_read(gpu, job.failed, &failed, err)))
		goto out;
	if (failed)
		rc = sp_err_set(err, SP_E_INVALID,
		    "the second moments of %zu inputs are not positive in fp32 with damping %g", in,
		    damp);
out:
	sp_gpu_free(gpu, &job.inverse);
	sp_gpu_free(gpu, &job.trace);
	sp_gpu_free(gpu, &job.failed);
	sp_gpu_free(gpu, &job.parts);
	return rc;
}

/* --- scaling, solving ------------------------------------------------------------------------
 */

static __global__ void
scale_kernel(const float *from, size_t in, const float *scales, float *to)
{
	size_t row = blockIdx.x;

	for (size_t j = threadIdx.x; j < in; j += THREADS) {
		float by = j <= row ? 1.0f / scales[row] : scales[row] / scales[j];

		to[row * in + j] = from[row * in + j] * by;
	}
}

enum sp_code
sp_gpu_factor_scale(struct sp_gpu *gpu, struct sp_gpu_array from, size_t in,
    struct sp_gpu_array scales, struct sp_gpu_array to, struct sp_err *err)
{
	SP_ASSERT(from.count >= in * in && to.count >= in * in && scales.count >= in);
	SP_ASSERT(from.type == SP_GPU_F32 && to.type == SP_GPU_F32 && scales.type == SP_GPU_F32);
	return launch(gpu, "scaling the factor", scale_kernel, (unsigned)in, THREADS, 0, err,
	    at<const float>(from), in, at<const float>(scales), at<float>(to));
}

struct solve {
	struct sp_gpu *gpu;
	struct sp_gpu_array factor, b, inverses;
	size_t in, columns;
};

/* Rows row … row+rows-1 of b, less L's part (its transpose's, when back) times rows from … to-1. */
static enum sp_code
less(const struct solve *job, int back, size_t row, size_t rows, size_t from, size_t to,
    struct sp_err *err)
{
	struct sp_gpu_matrix by = {
	    job->factor, back ? from * job->in + row : row * job->in + from, job->in, back};
	struct sp_gpu_matrix known = {job->b, from * job->columns, job->columns, 0};
	struct sp_gpu_matrix rest = {job->b, row * job->columns, job->columns, 0};

	return sp_gpu_gemm(job->gpu, SP_GPU_SPLIT, rows, job->columns, to - from, -1.0f, by, known,
	    1.0f, rest, err);
}

static enum sp_code
finish_block(const struct solve *job, int back, size_t first, size_t count, struct sp_err *err)
{
	unsigned grid = (unsigned)ceil_div(job->columns, BLOCK);
	float *x = at<float>(job->b) + first * job->columns;
	const float *inverse = at<const float>(job->inverses) + first / BLOCK * BLOCK * BLOCK;

	return launch(job->gpu, "solving",
	    back ? apply_kernel<LEFT_TRANSPOSED> : apply_kernel<LEFT>, grid, THREADS, 0, err, x,
	    count, job->columns, job->columns, inverse);
}

/* One outer block, by the inner ones in order, or from the last. */
static enum sp_code
solve_outer(const struct solve *job, int back, size_t first, size_t end, struct sp_err *err)
{
	size_t blocks = ceil_div(end - first, BLOCK);
	enum sp_code rc = SP_OK;

	for (size_t i = 0; i < blocks && rc == SP_OK; i++) {
		size_t row = first + (back ? blocks - 1 - i : i) * BLOCK;
		size_t count = end - row < BLOCK ? end - row : BLOCK;

		if (back)
			rc = less(job, back, row, count, row + count, end, err);
		else
			rc = less(job, back, row, count, first, row, err);
		if (rc == SP_OK)
			rc = finish_block(job, back, row, count, err);
	}
	return rc;
}

enum sp_code
sp_gpu_factor_solve(struct sp_gpu *gpu, struct sp_gpu_array factor, size_t in,
    struct sp_gpu_array b, size_t columns, struct sp_err *err)
{
	struct solve job = {gpu, factor, b, {}, in, columns};
	size_t outers = ceil_div(in, OUTER), blocks = ceil_div(in, BLOCK);
	enum sp_code rc;

	SP_ASSERT(factor.type == SP_GPU_F32 && factor.count >= in * in && columns > 0);
	SP_ASSERT(b.type == SP_GPU_F32 && b.count >= in * columns);
	if ((rc = sp_gpu_alloc(gpu, SP_GPU_F32, blocks * BLOCK * BLOCK, &job.inverses, err)) ||
	    (rc = launch(gpu, "solving", inverses_kernel, (unsigned)blocks, THREADS, 0, err,
		 at<const float>(factor), in, at<float>(job.inverses))))
		goto out;
	for (size_t turn = 0; turn < 2 * outers && rc == SP_OK; turn++) {
		int back = turn >= outers;
		size_t first = (back ? 2 * outers - 1 - turn : turn) * OUTER;
		size_t end = in - first < OUTER ? in : first + OUTER;

		if (back)
			rc = less(&job, back, first, end - first, end, in, err);
		else
			rc = less(&job, back, first, end - first, 0, first, err);
		if (rc == SP_OK)
			rc = solve_outer(&job, back, first, end, err);
	}
out:
	sp_gpu_free(gpu, &job.inverses);
	return rc;
}
