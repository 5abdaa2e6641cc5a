/*
 * int4.cu -- layers of 4-bit codes as checkpoints hold them: a product with few tokens, and
 * widening to fp16 for one with many.
 *
 * The product reads each code once, 128 bits a load, and multiplies on the tensor cores: columns of
 * the layer are the rows of a fragment, tokens its columns. A code q becomes the fp16 1024 + q by
 * its bits alone; Σ x·(q - z) is then Σ x·(1024 + q) - (1024 + z)·Σ x, both sums in fp32, the
 * latter by one more product with ones. Groups of codes are shared out over warps and blocks by the
 * layer's shape alone, and their sums added in order.
 */
#include "mma.h"

#define THREADS 128
#define WARPS (THREADS / 32)
#define COLUMNS 256 /* of a block: 8 lanes' 128 bits */
#define TOKENS 8
#define WHOLE 512 /* blocks that keep a GPU busy */
#define ONES 0x3c003c00u
#define MAGIC 0x64006400u /* 1024, twice */

struct job {
	const uint32_t *qweight, *qzeros;
	const sp_f16 *scales, *x;
	size_t in, out, group, groups;
	unsigned n, span; /* groups of a block */
	float *parts;	  /* [blocks of groups][n][out] */
};

/* Four columns pairs of a word: codes i and i + 4 are neighbours. */
static __device__ __forceinline__ uint32_t
two_codes(uint32_t word, unsigned i)
{
	return (word >> (4 * i) & 0x000f000fu) | MAGIC;
}

/* One word of each of a lane's four inputs: 8 columns, by the tokens of b. */
static __device__ __forceinline__ void
multiply_words(const uint32_t (&words)[4], const uint32_t (&b)[2], float (&sums)[4][4])
{
#pragma unroll
	for (unsigned i = 0; i < 4; i++) {
		uint32_t c[4], a[4];

#pragma unroll
		for (unsigned k = 0; k < 4; k++)
			c[k] = two_codes(words[k], i);
		a[0] = __byte_perm(c[0], c[1], 0x5410);
		a[1] = __byte_perm(c[0], c[1], 0x7632);
		a[2] = __byte_perm(c[2], c[3], 0x5410);
		a[3] = __byte_perm(c[2], c[3], 0x7632);
		mma<sp_f16>(sums[i], a, b);
	}
}

/* What 16 inputs from k on add to the group's sums. words: the lane's first of each input. */
static __device__ __forceinline__ void
multiply_step(const struct job *job, size_t k, const uint32_t *words, float (&sums)[4][4][4],
    float (&ones)[4])
{
	unsigned lane = threadIdx.x % 32, token = lane / 4, t = lane % 4;
	size_t stride = job->out / 8;
	const uint32_t whole[4] = {ONES, ONES, ONES, ONES};
	uint32_t b[2] = {0, 0};
	uint4 load[4];

#pragma unroll
	for (unsigned i = 0; i < 4; i++) {
		size_t input = k + 2 * t + i % 2 + 8 * (i / 2);
		uint4 none = {0, 0, 0, 0};

		load[i] = words != NULL ? *(const uint4 *)(words + input * stride) : none;
	}
	if (token < job->n) {
		const uint32_t *x = (const uint32_t *)(job->x + token * job->in + k + 2 * t);

		b[0] = x[0];
		b[1] = x[4];
	}
	mma<sp_f16>(ones, whole, b);
	{
		const uint32_t w0[4] = {load[0].x, load[1].x, load[2].x, load[3].x};
		const uint32_t w1[4] = {load[0].y, load[1].y, load[2].y, load[3].y};
		const uint32_t w2[4] = {load[0].z, load[1].z, load[2].z, load[3].z};
		const uint32_t w3[4] = {load[0].w, load[1].w, load[2].w, load[3].w};

		multiply_words(w0, b, sums[0]);
		multiply_words(w1, b, sums[1]);
		multiply_words(w2, b, sums[2]);
		multiply_words(w3, b, sums[3]);
	}
}

/* totals += scale · (sums - (1024 + zero) · ones) of a group; column: the lane's first. */
static __device__ __forceinline__ void
finish_group(const struct job *job, size_t g, size_t column, float (&sums)[4][4][4],
    const float (&ones)[4], float (&totals)[4][4][4])
{
	uint4 z = *(const uint4 *)(job->qzeros + (g * job->out + column) / 8);
	const uint4 *scales = (const uint4 *)(job->scales + g * job->out + column);
	const uint32_t zeros[4] = {z.x, z.y, z.z, z.w};

#pragma unroll
	for (unsigned j = 0; j < 4; j++) {
		uint4 s = scales[j];
		const uint32_t pairs[4] = {s.x, s.y, s.z, s.w};

#pragma unroll
		for (unsigned i = 0; i < 16; i++) {
			unsigned high = i % 4 / 2; /* the second of two neighbours */
			float zero = (float)(zeros[j] >> (4 * (i / 4 + 4 * high)) & 15);
			sp_f16 scale = {(uint16_t)(pairs[i / 4] >> (16 * high))};
			float sum = sums[j][i / 4][i % 4] - (1024.0f + zero) * ones[i % 2];

			totals[j][i / 4][i % 4] += widen(scale) * sum;
		}
	}
}

static __global__ void
__launch_bounds__(THREADS) int4_kernel(struct job job)
{
	__shared__ float parts[WARPS][TOKENS][COLUMNS];
	unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32;
	size_t column = (size_t)blockIdx.x * COLUMNS + lane / 4 * 32;
	size_t first = (size_t)blockIdx.y * job.span, end = first + job.span;
	float totals[4][4][4] = {};

	end = end < job.groups ? end : job.groups;
	for (size_t g = first + warp; g < end; g += WARPS) {
		const uint32_t *words = column < job.out ? job.qweight + column / 8 : NULL;
		float sums[4][4][4] = {}, ones[4] = {};

#pragma unroll 2
		for (size_t k = g * job.group; k < (g + 1) * job.group; k += 16)
			multiply_step(&job, k, words, sums, ones);
		if (words != NULL)
			finish_group(&job, g, column, sums, ones, totals);
	}
#pragma unroll
	for (unsigned i = 0; i < 64; i++) {
		unsigned j = i / 16, k = i / 4 % 4, c = i % 4;
		unsigned at = lane / 4 * 32 + 8 * j + 2 * k + c / 2;

		parts[warp][lane % 4 * 2 + c % 2][at] = totals[j][k][c];
	}
	__syncthreads();
	for (unsigned i = threadIdx.x; i < job.n * COLUMNS; i += THREADS) {
		size_t to = (size_t)blockIdx.x * COLUMNS + i % COLUMNS;
		float sum = 0.0f;

		for (unsigned w = 0; w < WARPS; w++)
			sum += parts[w][i / COLUMNS][i % COLUMNS];
		if (to < job.out)
			job.parts[((size_t)blockIdx.y * job.n + i / COLUMNS) * job.out + to] = sum;
	}
}

template <class T>
static __global__ void
join_kernel(const float *parts, unsigned count, size_t n, size_t out, const float *bias, T *y)
{
	size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;
	float sum = 0.0f;

	if (i >= n * out)
		return;
	for (unsigned k = 0; k < count; k++)
		sum += parts[k * n * out + i];
	narrow(bias != NULL ? sum + bias[i % out] : sum, &y[i]);
}

template <class T>
static enum sp_code
join(struct sp_gpu *gpu, const struct job *job, unsigned count, struct sp_gpu_array bias,
    struct sp_gpu_array y, struct sp_err *err)
{
	return launch(gpu, "4-bit layer", join_kernel<T>,
	    (unsigned)ceil_div(job->n * job->out, THREADS), THREADS, 0, err,
	    (const float *)job->parts, count, (size_t)job->n, job->out, at<const float>(bias),
	    at<T>(y));
}

static void
must_fit(const struct sp_gpu_int4 *layer)
{
	size_t groups = layer->in / layer->group;

	SP_ASSERT(layer->group % 16 == 0 && layer->in % layer->group == 0);
	SP_ASSERT(layer->out % 32 == 0 && layer->out > 0 && layer->in > 0);
	SP_ASSERT((layer->qweight.at | layer->qzeros.at | layer->scales.at) % 16 == 0);
	SP_ASSERT(layer->qweight.count >= layer->in * (layer->out / 8));
	SP_ASSERT(layer->qzeros.count >= groups * (layer->out / 8));
	SP_ASSERT(layer->scales.count >= groups * layer->out && layer->scales.type == SP_GPU_F16);
}

static struct job
job_of(const struct sp_gpu_int4 *layer)
{
	struct job job = {};

	must_fit(layer);
	job.qweight = at<const uint32_t>(layer->qweight);
	job.qzeros = at<const uint32_t>(layer->qzeros);
	job.scales = at<const sp_f16>(layer->scales);
	job.in = layer->in;
	job.out = layer->out;
	job.group = layer->group;
	job.groups = layer->in / layer->group;
	return job;
}

enum sp_code
sp_gpu_int4(struct sp_gpu *gpu, const struct sp_gpu_int4 *layer, struct sp_gpu_array x, size_t n,
    struct sp_gpu_array bias, struct sp_gpu_array y, struct sp_err *err)
{
	struct job job = job_of(layer);
	struct sp_gpu_array parts = {};
	unsigned columns = (unsigned)ceil_div(job.out, COLUMNS), blocks;
	enum sp_code rc;

	SP_ASSERT(n <= TOKENS && x.type == SP_GPU_F16 && x.count >= n * job.in && x.at % 16 == 0);
	SP_ASSERT(y.count >= n * job.out && (bias.at == 0 || bias.count >= job.out));
	if (n == 0)
		return SP_OK;
	job.x = at<const sp_f16>(x);
	job.n = (unsigned)n;
	job.span = columns * ceil_div(job.groups, 2 * WARPS) >= WHOLE ? 2 * WARPS : WARPS;
	blocks = (unsigned)ceil_div(job.groups, job.span);
	rc = sp_gpu_alloc(gpu, SP_GPU_F32, blocks * n * job.out, &parts, err);
	job.parts = at<float>(parts);
	if (rc == SP_OK)
		rc = launch(
		    gpu, "4-bit layer", int4_kernel, dim3(columns, blocks), THREADS, 0, err, job);
	if (rc == SP_OK)
		rc = SP_BY_TYPE(y.type, join, gpu, &job, blocks, bias, y, err);
	sp_gpu_free(gpu, &parts);
	return rc;
}

/* --- widening --------------------------------------------------------------------------------
 */

#define TILE 32 /* inputs, and columns */

/* A tile: words are read along the columns, and values written along the inputs. */
static __global__ void
widen_kernel(struct job job, sp_f16 *w)
{
	__shared__ sp_f16 tile[TILE][TILE + 2];
	const unsigned order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
	size_t input = (size_t)blockIdx.x * TILE, column = (size_t)blockIdx.y * TILE;

	for (unsigned i = threadIdx.x; i < TILE * TILE / 8; i += THREADS) {
		unsigned k = i / (TILE / 8), word = i % (TILE / 8);
		size_t at = column / 8 + word, g = (input + k) / job.group;
		uint32_t codes, zeros;

		if (input + k >= job.in)
			continue;
		codes = job.qweight[(input + k) * (job.out / 8) + at];
		zeros = job.qzeros[g * (job.out / 8) + at];
		for (unsigned c = 0; c < 8; c++) {
			int step = (int)(codes >> (4 * c) & 15) - (int)(zeros >> (4 * c) & 15);
			size_t to = 8 * at + order[c];

			narrow((float)step * widen(job.scales[g * job.out + to]),
			    &tile[8 * word + order[c]][k]);
		}
	}
	__syncthreads();
	for (unsigned i = threadIdx.x; i < TILE * TILE; i += THREADS) {
		size_t c = column + i / TILE, k = input + i % TILE;

		if (k < job.in)
			w[c * job.in + k] = tile[i / TILE][i % TILE];
	}
}

enum sp_code
sp_gpu_int4_widen(
    struct sp_gpu *gpu, const struct sp_gpu_int4 *layer, struct sp_gpu_array w, struct sp_err *err)
{
	struct job job = job_of(layer);

	SP_ASSERT(w.type == SP_GPU_F16 && w.count >= job.in * job.out);
	return launch(gpu, "widening", widen_kernel,
	    dim3((unsigned)ceil_div(job.in, TILE), (unsigned)(job.out / TILE)), THREADS, 0, err,
	    job, at<sp_f16>(w));
}
