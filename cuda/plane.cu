/*
 * plane.cu -- rounding by nearest plane: every row of weights by a thread, a group of columns at a
 * time from the last to the first.
 *
 * The weights lie transposed, [in][rows], so that neighbouring threads read neighbouring values;
 * where a group has been rounded its weights give place to its errors. By how much those move the
 * groups before it is a product, LAZY columns at a time; within them another for each group, and
 * within the group the threads' own work.
 */
#include "gpu.h"

#define LAZY 1024
#define THREADS 128
#define SUB 16 /* columns whose targets are in registers */
#define TILE 32
#define MAX_CODE 15.0f
#define MIDDLE 8.0f	   /* the zero point where there is no choice of one */
#define SHRINK_STEP 0.05f  /* awq/plane.c's */
#define SCALE_MIN 0x1p-20f /* likewise */

/* --- one row's group -------------------------------------------------------------------------
 */

struct row {
	const float *w, *base; /* [group], rows apart by stride */
	size_t stride;
	const float *tight, *diag; /* shared: [group][group], [group] */
};

struct choice {
	float scale, zero, loss;
};

/* What a run is for besides its loss. */
enum purpose { TRY, FIT, KEEP };

struct kept {
	uint8_t *codes; /* of the row's group, or NULL */
	float *errors;	/* [group], apart by stride */
};

/* Adds what the columns behind the SUB at `first` do to their targets, the last first. */
template <int G>
static __device__ __forceinline__ void
move_targets(const float *tight, const float *by, int first, float (&target)[SUB])
{
	for (int j = G - 1; j >= first + SUB; j--) {
		const float4 *weights = (const float4 *)(tight + j * G + first);
		float e = by[j];

#pragma unroll
		for (int k = 0; k < SUB / 4; k++) {
			float4 four = weights[k];

			target[4 * k] += e * four.x;
			target[4 * k + 1] += e * four.y;
			target[4 * k + 2] += e * four.z;
			target[4 * k + 3] += e * four.w;
		}
	}
}

/* SUB codes, each at most 15, of a row whose groups begin at multiples of 16 bytes. */
static __device__ __forceinline__ void
keep_codes(uint8_t *to, const float (&q)[SUB], float zero)
{
	uint32_t words[SUB / 4];

#pragma unroll
	for (int i = 0; i < SUB / 4; i++) {
		words[i] = 0;
#pragma unroll
		for (int k = 0; k < 4; k++)
			words[i] |= (uint32_t)(q[4 * i + k] + zero) << (8 * k);
	}
	*(uint4 *)to = {words[0], words[1], words[2], words[3]};
}

/*
 * Nearest plane for one scale and zero: the loss. FIT: also the scale that fits the codes best,
 * since the remainder is linear in it, in *fitted. KEEP: also codes and errors.
 */
template <int G, int PURPOSE>
static __device__ float
run(const struct row *row, float scale, float zero, float *fitted, const struct kept *kept)
{
	float error[G], codes[PURPOSE == FIT ? G : 1];
	float inverse = 1.0f / scale, loss = 0.0f, above = 0.0f, below = 0.0f;

	for (int first = G - SUB; first >= 0; first -= SUB) {
		float target[SUB], moved[SUB], q[SUB];

#pragma unroll
		for (int k = 0; k < SUB; k++) {
			target[k] = row->base[(size_t)(first + k) * row->stride];
			moved[k] = 0.0f;
		}
		move_targets<G>(row->tight, error, first, target);
		if (PURPOSE == FIT)
			move_targets<G>(row->tight, codes, first, moved);
#pragma unroll
		for (int k = SUB - 1; k >= 0; k--) {
			const float *by = row->tight + (first + k) * G + first;
			float diag = row->diag[first + k], rest, e;
			float x = between(target[k] * inverse, -64.0f, 64.0f);

			q[k] = between(nearest(x), -zero, MAX_CODE - zero);
			rest = (target[k] - q[k] * scale) * diag;
			loss += rest * rest;
			e = row->w[(size_t)(first + k) * row->stride] - q[k] * scale;
			error[first + k] = e;
			if (PURPOSE == KEEP)
				kept->errors[(size_t)(first + k) * row->stride] = e;
			if (PURPOSE == FIT) {
				float slope = (moved[k] + q[k]) * diag;

				codes[first + k] = q[k];
				above += rest * slope;
				below += slope * slope;
			}
#pragma unroll
			for (int i = 0; i < k; i++) {
				target[i] += e * by[i];
				if (PURPOSE == FIT)
					moved[i] += q[k] * by[i];
			}
		}
		if (PURPOSE == KEEP && kept->codes != NULL)
			keep_codes(kept->codes + first, q, zero);
	}
	if (PURPOSE == FIT)
		*fitted = scale + (below > 0.0f ? above / below : 0.0f);
	return loss;
}

static __device__ __forceinline__ float
storable(float scale)
{
	return as_half(scale > SCALE_MIN ? scale : SCALE_MIN);
}

template <int G>
static __device__ void
consider(const struct row *row, float scale, float zero, struct choice *best)
{
	float loss;

	scale = storable(scale);
	loss = run<G, TRY>(row, scale, zero, NULL, NULL);
	if (loss < best->loss) {
		best->scale = scale;
		best->zero = zero;
		best->loss = loss;
	}
}

/* The whole range of what is to be rounded, and parts of it; 0 is always within. */
template <int G>
static __device__ void
try_widths(const struct row *row, unsigned shrink, int symmetric, struct choice *best)
{
	float low = 0.0f, high = 0.0f;

	for (int i = 0; i < G; i++) {
		float x = row->base[(size_t)i * row->stride];

		low = x < low ? x : low;
		high = x > high ? x : high;
	}
	for (unsigned k = 0; k < shrink; k++) {
		float width = 1.0f - SHRINK_STEP * (float)k;
		float most = high > -low ? high : -low;
		float scale = symmetric ? most / 7.5f * width : (high - low) / MAX_CODE * width;
		float zero = symmetric
				 ? MIDDLE
				 : between(nearest(-low * width / storable(scale)), 0.0f, MAX_CODE);

		consider<G>(row, scale, zero, best);
	}
}

template <int G>
static __device__ void
refine(const struct row *row, int symmetric, struct choice *best)
{
	float fitted;

	run<G, FIT>(row, best->scale, best->zero, &fitted, NULL);
	consider<G>(row, fitted, best->zero, best);
	for (int step = -1; step <= 1 && !symmetric; step += 2)
		consider<G>(
		    row, best->scale, between(best->zero + (float)step, 0.0f, MAX_CODE), best);
}

/* --- a group of all rows ---------------------------------------------------------------------
 */

struct group_job {
	float *w;	   /* [group][rows]: weights, then errors */
	const float *base; /* [group][rows]: w, moved by the errors behind */
	const float *factor;
	size_t in, rows, begin; /* of the group */
	unsigned shrink, refine;
	int symmetric;
	uint8_t *codes, *zeros; /* [rows][in], [rows][in / group], or NULL */
	sp_f16 *scales;
	double *losses;
};

template <int G>
static __global__ void
__launch_bounds__(THREADS) group_kernel(struct group_job job)
{
	SP_DYNAMIC(float, tight);
	float *diag = tight + G * G;
	size_t r = (size_t)blockIdx.x * THREADS + threadIdx.x, at;
	struct choice best = {1.0f, 0.0f, INFINITY};
	struct row row = {job.w + r, job.base + r, job.rows, tight, diag};
	struct kept kept = {NULL, job.w + r};

	for (unsigned i = threadIdx.x; i < G * G; i += THREADS) {
		unsigned k = i / G, c = i % G; /* read along the factor's rows */

		tight[c * G + k] =
		    k < c ? job.factor[(job.begin + k) * job.in + job.begin + c] : 0.0f;
		if (k == c)
			diag[k] = job.factor[(job.begin + k) * job.in + job.begin + k];
	}
	__syncthreads();
	if (r >= job.rows)
		return;
	try_widths<G>(&row, job.shrink, job.symmetric, &best);
	/* where none has a finite loss there is nothing to refine, and the caller sees it */
	for (unsigned k = 0; k < job.refine && best.loss < INFINITY; k++)
		refine<G>(&row, job.symmetric, &best);
	if (job.codes != NULL)
		kept.codes = job.codes + r * job.in + job.begin;
	run<G, KEEP>(&row, best.scale, best.zero, NULL, &kept);
	job.losses[r] += (double)best.loss;
	at = r * (job.in / G) + job.begin / G;
	if (job.codes != NULL) {
		job.zeros[at] = (uint8_t)best.zero;
		narrow(best.scale, &job.scales[at]);
	}
}

static enum sp_code
round_group(struct sp_gpu *gpu, size_t group, const struct group_job *job, struct sp_err *err)
{
	unsigned grid = (unsigned)ceil_div(job->rows, THREADS);
	size_t shared = (group * group + group) * sizeof(float);

	if (group == 128)
		return launch(gpu, "rounding", group_kernel<128>, grid, THREADS, shared, err, *job);
	if (group == 64)
		return launch(gpu, "rounding", group_kernel<64>, grid, THREADS, shared, err, *job);
	SP_ASSERT(group == 32);
	return launch(gpu, "rounding", group_kernel<32>, grid, THREADS, shared, err, *job);
}

/* --- all groups ------------------------------------------------------------------------------
 */

/* to[in][rows] = w[first + step · row][in] * scales[in]. */
template <class T>
static __global__ void
load_kernel(
    const T *w, const float *scales, size_t in, size_t rows, size_t first, size_t step, float *to)
{
	__shared__ float tile[TILE][TILE + 1];
	size_t row = (size_t)blockIdx.x * TILE, column = (size_t)blockIdx.y * TILE;

	for (unsigned i = threadIdx.x; i < TILE * TILE; i += THREADS) {
		size_t r = row + i / TILE, c = column + i % TILE;
		float value = 0.0f;

		if (r < rows && c < in)
			value = widen(w[(first + r * step) * in + c]) *
				(scales != NULL ? scales[c] : 1.0f);
		tile[i / TILE][i % TILE] = value;
	}
	__syncthreads();
	for (unsigned i = threadIdx.x; i < TILE * TILE; i += THREADS) {
		size_t c = column + i / TILE, r = row + i % TILE;

		if (r < rows && c < in)
			to[c * rows + r] = tile[i % TILE][i / TILE];
	}
}

template <class T>
static enum sp_code
load(struct sp_gpu *gpu, struct sp_gpu_array w, struct sp_gpu_array scales, size_t in, size_t rows,
    size_t first, size_t step, struct sp_gpu_array to, struct sp_err *err)
{
	dim3 grid((unsigned)ceil_div(rows, TILE), (unsigned)ceil_div(in, TILE));

	return launch(gpu, "rounding", load_kernel<T>, grid, THREADS, 0, err, at<const T>(w),
	    at<const float>(scales), in, rows, first, step, at<float>(to));
}

struct plane_job {
	struct sp_gpu *gpu;
	const struct sp_gpu_plane *plane;
	struct sp_gpu_array w, base; /* [in][rows], [LAZY][rows] */
	size_t rows;
	struct group_job group;
};

/* Adds to w what the inputs' drift asks for: H⁻¹·drift·w. */
static enum sp_code
follow(const struct plane_job *job, struct sp_err *err)
{
	size_t in = job->plane->in, rows = job->rows;
	struct sp_gpu_array move = {};
	struct sp_gpu_matrix drift = {job->plane->drift, 0, in, 0}, w = {job->w, 0, rows, 0};
	struct sp_gpu_matrix to = {{}, 0, rows, 0};
	enum sp_code rc = sp_gpu_alloc(job->gpu, SP_GPU_F32, in * rows, &move, err);

	to.values = move;
	if (rc == SP_OK)
		rc = sp_gpu_gemm(
		    job->gpu, SP_GPU_SPLIT, in, rows, in, 1.0f, drift, w, 0.0f, to, err);
	if (rc == SP_OK)
		rc = sp_gpu_factor_solve(job->gpu, job->plane->factor, in, move, rows, err);
	if (rc == SP_OK)
		rc = sp_gpu_add(job->gpu, job->w, move, err);
	sp_gpu_free(job->gpu, &move);
	return rc;
}

/* base's rows of the columns begin … end-1, which start at `origin`, plus the factor's part behind
 * them up to `to` times the errors there. */
static enum sp_code
move_base(const struct plane_job *job, size_t origin, size_t begin, size_t end, size_t to,
    struct sp_err *err)
{
	size_t in = job->plane->in, rows = job->rows;
	struct sp_gpu_matrix by = {job->plane->factor, begin * in + end, in, 0};
	struct sp_gpu_matrix errors = {job->w, end * rows, rows, 0};
	struct sp_gpu_matrix base = {job->base, (begin - origin) * rows, rows, 0};

	return sp_gpu_gemm(
	    job->gpu, SP_GPU_FAST, end - begin, rows, to - end, 1.0f, by, errors, 1.0f, base, err);
}

/* The groups of columns begin … end-1. */
static enum sp_code
round_lazy(struct plane_job *job, size_t begin, size_t end, struct sp_err *err)
{
	size_t rows = job->rows, group = job->plane->group;
	enum sp_code rc;

	if ((rc = sp_gpu_convert(job->gpu, sp_gpu_part(job->w, begin * rows, (end - begin) * rows),
		 sp_gpu_part(job->base, 0, (end - begin) * rows), err)) ||
	    (rc = move_base(job, begin, begin, end, job->plane->in, err)))
		return rc;
	for (size_t at_end = end; at_end > begin && rc == SP_OK; at_end -= group) {
		size_t first = at_end - group;

		rc = move_base(job, begin, first, at_end, end, err);
		job->group.begin = first;
		job->group.w = at<float>(job->w) + first * rows;
		job->group.base = at<const float>(job->base) + (first - begin) * rows;
		if (rc == SP_OK)
			rc = round_group(job->gpu, group, &job->group, err);
	}
	return rc;
}

static void
describe(struct plane_job *job, const struct sp_gpu_codes *codes, struct sp_gpu_array losses)
{
	const struct sp_gpu_plane *plane = job->plane;

	job->group.factor = at<const float>(plane->factor);
	job->group.in = plane->in;
	job->group.rows = job->rows;
	job->group.shrink = (unsigned)plane->shrink;
	job->group.refine = (unsigned)plane->refine;
	job->group.symmetric = plane->symmetric;
	job->group.losses = at<double>(losses);
	if (codes == NULL)
		return;
	SP_ASSERT(codes->codes.count >= job->rows * plane->in && codes->codes.at % 16 == 0);
	SP_ASSERT(codes->zeros.count >= job->rows * (plane->in / plane->group));
	SP_ASSERT(codes->scales.count >= job->rows * (plane->in / plane->group));
	SP_ASSERT(codes->scales.type == SP_GPU_F16);
	job->group.codes = at<uint8_t>(codes->codes);
	job->group.zeros = at<uint8_t>(codes->zeros);
	job->group.scales = at<sp_f16>(codes->scales);
}

enum sp_code
sp_gpu_plane_round(struct sp_gpu *gpu, const struct sp_gpu_plane *plane, struct sp_gpu_array w,
    struct sp_gpu_array scales, size_t out, size_t first, size_t step,
    const struct sp_gpu_codes *codes, struct sp_gpu_array losses, struct sp_err *err)
{
	size_t rows = ceil_div(out - first, step), in = plane->in;
	size_t lazy = LAZY / plane->group * plane->group;
	struct plane_job job = {gpu, plane, {}, {}, rows, {}};
	enum sp_code rc;

	SP_ASSERT(first < out && in % plane->group == 0 && plane->shrink > 0);
	SP_ASSERT(w.count >= out * in && plane->factor.count >= in * in);
	SP_ASSERT(losses.type == SP_GPU_F64 && losses.count >= rows);
	SP_ASSERT(codes == NULL || rows == out);
	describe(&job, codes, losses);
	if ((rc = sp_gpu_alloc(gpu, SP_GPU_F32, in * rows, &job.w, err)) ||
	    (rc = sp_gpu_alloc(gpu, SP_GPU_F32, (in < lazy ? in : lazy) * rows, &job.base, err)) ||
	    (rc = sp_gpu_zero(gpu, sp_gpu_part(losses, 0, rows), err)) ||
	    (rc = SP_BY_TYPE(w.type, load, gpu, w, scales, in, rows, first, step, job.w, err)) ||
	    (plane->drift.at != 0 && (rc = follow(&job, err))))
		goto out;
	for (size_t end = in; end > 0 && rc == SP_OK;) {
		size_t begin = (end - 1) / lazy * lazy;

		rc = round_lazy(&job, begin, end, err);
		end = begin;
	}
out:
	sp_gpu_free(gpu, &job.w);
	sp_gpu_free(gpu, &job.base);
	return rc;
}
