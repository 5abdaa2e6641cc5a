/* gram.cu -- second moments, and by how much exact inputs are ahead of what runs. */
#include "gpu.h"

#define PANEL 4096 /* columns of a product: of a panel on the diagonal half is for nothing */
#define TILE 32
#define THREADS 256

enum sp_code
sp_gpu_moments(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t in,
    struct sp_gpu_array g, struct sp_err *err)
{
	enum sp_code rc = SP_OK;

	SP_ASSERT(x.count >= n * in && g.count >= in * in && g.type == SP_GPU_F32);
	for (size_t t = 0; t < n; t += SP_GPU_TURN) {
		size_t tokens = n - t < SP_GPU_TURN ? n - t : SP_GPU_TURN;

		for (size_t p = 0; p < in && rc == SP_OK; p += PANEL) {
			struct sp_gpu_matrix left = {x, t * in + p, in, 1};
			struct sp_gpu_matrix right = {x, t * in + p, in, 0};
			struct sp_gpu_matrix sum = {g, p * in + p, in, 0};
			size_t columns = in - p < PANEL ? in - p : PANEL;

			rc = sp_gpu_gemm(gpu, SP_GPU_FAST, in - p, columns, tokens, 1.0f, left,
			    right, 1.0f, sum, err);
		}
	}
	return rc;
}

/* A tile below the diagonal, or on it, becomes the one above; divided: row i by what stands on the
 * diagonal there. */
static __global__ void
mirror_kernel(float *g, size_t in, int divided)
{
	__shared__ float tile[TILE][TILE + 1];
	size_t row = (size_t)blockIdx.y * TILE, column = (size_t)blockIdx.x * TILE;

	if (blockIdx.x > blockIdx.y)
		return;
	for (unsigned i = threadIdx.x; i < TILE * TILE; i += THREADS) {
		size_t r = row + i / TILE, c = column + i % TILE;

		tile[i / TILE][i % TILE] = r < in && c < in ? g[r * in + c] : 0.0f;
	}
	__syncthreads();
	for (unsigned i = threadIdx.x; i < TILE * TILE; i += THREADS) {
		size_t r = column + i / TILE, c = row + i % TILE;

		if (r < c && c < in)
			g[r * in + c] = tile[i % TILE][i / TILE] / (divided ? g[r * in + r] : 1.0f);
	}
}

enum sp_code
sp__mirror(struct sp_gpu *gpu, float *g, size_t in, int divided, struct sp_err *err)
{
	unsigned tiles = (unsigned)ceil_div(in, TILE);

	return launch(
	    gpu, "mirror", mirror_kernel, dim3(tiles, tiles), THREADS, 0, err, g, in, divided);
}

enum sp_code
sp_gpu_mirror(struct sp_gpu *gpu, struct sp_gpu_array g, size_t in, struct sp_err *err)
{
	SP_ASSERT(g.type == SP_GPU_F32 && g.count >= in * in);
	return sp__mirror(gpu, at<float>(g), in, 0, err);
}

template <class T>
static __global__ void
ahead_kernel(const T *x, const float *scales, size_t count, size_t in, T *exact)
{
	size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;

	if (i < count) {
		float scale = scales != NULL ? scales[i % in] : 1.0f;

		narrow(widen(exact[i]) / scale - widen(x[i]), &exact[i]);
	}
}

template <class T>
static enum sp_code
ahead(struct sp_gpu *gpu, struct sp_gpu_array x, struct sp_gpu_array exact,
    struct sp_gpu_array scales, size_t n, size_t in, struct sp_err *err)
{
	return launch(gpu, "drift", ahead_kernel<T>, (unsigned)ceil_div(n * in, THREADS), THREADS,
	    0, err, at<const T>(x), at<const float>(scales), n * in, in, at<T>(exact));
}

enum sp_code
sp_gpu_drift(struct sp_gpu *gpu, struct sp_gpu_array x, struct sp_gpu_array exact,
    struct sp_gpu_array scales, size_t n, size_t in, struct sp_gpu_array g, struct sp_err *err)
{
	enum sp_code rc;

	SP_ASSERT(x.type == exact.type && x.count >= n * in && exact.count >= n * in);
	SP_ASSERT(g.type == SP_GPU_F32 && g.count >= in * in);
	SP_ASSERT(scales.at == 0 || (scales.type == SP_GPU_F32 && scales.count >= in));
	if (n == 0)
		return SP_OK;
	rc = SP_BY_TYPE(x.type, ahead, gpu, x, exact, scales, n, in, err);
	for (size_t t = 0; t < n && rc == SP_OK; t += SP_GPU_TURN) {
		struct sp_gpu_matrix left = {x, t * in, in, 1}, right = {exact, t * in, in, 0};
		struct sp_gpu_matrix sum = {g, 0, in, 0};
		size_t tokens = n - t < SP_GPU_TURN ? n - t : SP_GPU_TURN;

		rc = sp_gpu_gemm(
		    gpu, SP_GPU_FAST, in, in, tokens, 1.0f, left, right, 1.0f, sum, err);
	}
	return rc;
}
