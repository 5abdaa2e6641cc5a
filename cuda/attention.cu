/*
 * attention.cu -- causal grouped-query attention without a matrix of scores (cf. Dao,
 * FlashAttention 2, arXiv:2307.08691), for prefill and for decode.
 *
 * A block has ROWS rows, the query heads of one KV head token by token, and takes them through the
 * keys a tile of KEYS at a time, always at multiples of KEYS: a tile that a row does not see adds
 * nothing to it, so its bits do not depend on the rows beside it. For a single new token the keys
 * are split at multiples of SPLIT over blocks, whose parts another kernel puts together in order.
 */
#include "mma.h"

#define ROWS 64
#define KEYS 64
#define THREADS 128
#define SPLIT 512

struct tile {
	uint32_t seq, token, tokens; /* of the sequence's new ones */
};

struct job {
	const void *q, *k, *v;
	void *out;
	const struct sp_gpu_seq *seqs;
	const struct tile *tiles;
	unsigned heads, kv_heads, group;
	unsigned window; /* 0: none */
	float scale;	 /* log2(e) / sqrt(head_dim) */
	float *parts;	 /* of splits: [tile][heads][splits][head_dim + 2]; NULL: none */
	unsigned splits;
};

/* What a warp knows of its 16 rows: lane has rows g and g + 8. */
template <int D> struct rows {
	uint32_t q[D / 16][4];
	float out[D / 8][4];
	float max[2], sum[2];
	int at[2];		  /* the rows' positions; -1: no row */
	unsigned head[2], row[2]; /* of q and out */
};

template <class T, int D>
static __device__ __forceinline__ void
load_rows(const struct job *job, const struct tile *tile, struct rows<D> *r)
{
	const struct sp_gpu_seq *seq = &job->seqs[tile->seq];
	unsigned lane = threadIdx.x % 32, first = threadIdx.x / 32 * 16 + lane / 4;

#pragma unroll
	for (unsigned i = 0; i < 2; i++) {
		unsigned index = first + 8 * i, token = index / job->group;
		const T *from;

		r->at[i] =
		    token < tile->tokens
			? (int)(seq->prefix_len + seq->own_len - seq->count + tile->token + token)
			: -1;
		r->head[i] = blockIdx.y * job->group + index % job->group;
		r->row[i] = seq->row + tile->token + token;
		r->max[i] = -INFINITY;
		r->sum[i] = 0.0f;
		from = (const T *)job->q + ((size_t)r->row[i] * job->heads + r->head[i]) * D +
		       lane % 4 * 2;
#pragma unroll
		for (unsigned k = 0; k < D / 16; k++) {
			const uint32_t *words = (const uint32_t *)(from + 16 * k);

			r->q[k][i] = r->at[i] >= 0 ? words[0] : 0;
			r->q[k][i + 2] = r->at[i] >= 0 ? words[4] : 0;
		}
	}
#pragma unroll
	for (unsigned i = 0; i < D / 2; i++)
		r->out[i / 4][i % 4] = 0.0f;
}

/* Keys or values of positions first … first+KEYS-1 of one KV head; zeros from end on. */
template <class T, int D>
static __device__ __forceinline__ void
load_keys(const struct job *job, const struct sp_gpu_seq *seq, const void *from, unsigned first,
    unsigned end, T (*to)[D + 8])
{
	for (unsigned i = threadIdx.x; i < KEYS * D / 8; i += THREADS) {
		unsigned row = i / (D / 8), column = i % (D / 8) * 8, at = first + row;
		uint4 value = {0, 0, 0, 0};

		if (at < end) {
			size_t source = at < seq->prefix_len
					    ? seq->prefix + at
					    : (size_t)seq->own + (at - seq->prefix_len);

			value =
			    *(const uint4 *)((const T *)from +
					     (source * job->kv_heads + blockIdx.y) * D + column);
		}
		*(uint4 *)&to[row][column] = value;
	}
}

/* s = q·kᵀ of the warp's rows, and -infinity where a row does not see a key. */
template <class T, int D>
static __device__ __forceinline__ void
scores(const struct job *job, const struct rows<D> *r, const T (*keys)[D + 8], unsigned first,
    float (&s)[KEYS / 8][4])
{
	unsigned lane = threadIdx.x % 32;

#pragma unroll
	for (unsigned n = 0; n < KEYS / 8; n++) {
		s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0.0f;
#pragma unroll
		for (unsigned k = 0; k < D / 16; k++) {
			const uint32_t *words =
			    (const uint32_t *)&keys[8 * n + lane / 4][16 * k + lane % 4 * 2];
			uint32_t b[2] = {words[0], words[4]};

			mma<T>(s[n], r->q[k], b);
		}
#pragma unroll
		for (unsigned i = 0; i < 4; i++) {
			int key = (int)(first + 8 * n + lane % 4 * 2 + i % 2), at = r->at[i / 2];
			int seen = key <= at && (job->window == 0 || key > at - (int)job->window);

			s[n][i] = seen ? s[n][i] * job->scale : -INFINITY;
		}
	}
}

/* s becomes its exponentials; what is summed already is scaled to the new maxima. */
template <int D>
static __device__ __forceinline__ void
exponentials(struct rows<D> *r, float (&s)[KEYS / 8][4])
{
#pragma unroll
	for (unsigned i = 0; i < 2; i++) {
		float max = r->max[i], by, sum = 0.0f;

#pragma unroll
		for (unsigned n = 0; n < KEYS / 8; n++)
			max = fmaxf(max, fmaxf(s[n][2 * i], s[n][2 * i + 1]));
		max = fmaxf(max, __shfl_xor_sync(SP_FULL, max, 1));
		max = fmaxf(max, __shfl_xor_sync(SP_FULL, max, 2));
		/* nothing seen so far: all stays 0 */
		by = max == -INFINITY ? 1.0f : exp2f(r->max[i] - max);
#pragma unroll
		for (unsigned n = 0; n < KEYS / 8; n++) {
#pragma unroll
			for (unsigned c = 2 * i; c < 2 * i + 2; c++) {
				s[n][c] = max == -INFINITY ? 0.0f : exp2f(s[n][c] - max);
				sum += s[n][c];
			}
		}
		sum += __shfl_xor_sync(SP_FULL, sum, 1);
		sum += __shfl_xor_sync(SP_FULL, sum, 2);
		r->sum[i] = r->sum[i] * by + sum;
		r->max[i] = max;
#pragma unroll
		for (unsigned d = 0; d < D / 8; d++) {
			r->out[d][2 * i] *= by;
			r->out[d][2 * i + 1] *= by;
		}
	}
}

/* out += s·values */
template <class T, int D>
static __device__ __forceinline__ void
add_values(struct rows<D> *r, const float (&s)[KEYS / 8][4], const T (*values)[D + 8])
{
	unsigned lane = threadIdx.x % 32;

#pragma unroll
	for (unsigned k = 0; k < KEYS / 16; k++) {
		uint32_t a[4] = {pair<T>(s[2 * k][0], s[2 * k][1]),
		    pair<T>(s[2 * k][2], s[2 * k][3]), pair<T>(s[2 * k + 1][0], s[2 * k + 1][1]),
		    pair<T>(s[2 * k + 1][2], s[2 * k + 1][3])};

#pragma unroll
		for (unsigned d = 0; d < D / 16; d++) {
			uint32_t b[4];

			load_transposed(b, &values[16 * k + lane % 16][16 * d + lane / 16 * 8]);
			{
				uint32_t low[2] = {b[0], b[1]}, high[2] = {b[2], b[3]};

				mma<T>(r->out[2 * d], a, low);
				mma<T>(r->out[2 * d + 1], a, high);
			}
		}
	}
}

template <class T, int D>
static __device__ __forceinline__ void
store_rows(const struct job *job, const struct rows<D> *r)
{
	unsigned t = threadIdx.x % 4;

#pragma unroll
	for (unsigned i = 0; i < 2; i++) {
		if (r->at[i] < 0)
			continue;
		if (job->parts != NULL) {
			float *to = job->parts +
				    (((size_t)blockIdx.x * job->heads + r->head[i]) * job->splits +
					blockIdx.z) *
					(D + 2);

			for (unsigned d = 0; d < D / 8; d++) {
				to[8 * d + 2 * t] = r->out[d][2 * i];
				to[8 * d + 2 * t + 1] = r->out[d][2 * i + 1];
			}
			to[D] = r->max[i];
			to[D + 1] = r->sum[i];
			continue;
		}
		for (unsigned d = 0; d < D / 8; d++) {
			T *to = (T *)job->out + ((size_t)r->row[i] * job->heads + r->head[i]) * D +
				8 * d + 2 * t;

			*(uint32_t *)to =
			    pair<T>(r->out[d][2 * i] / r->sum[i], r->out[d][2 * i + 1] / r->sum[i]);
		}
	}
}

template <class T, int D>
static __global__ void
__launch_bounds__(THREADS) attention_kernel(struct job job)
{
	SP_DYNAMIC(T, shared);
	T(*keys)[D + 8] = (T(*)[D + 8]) shared;
	T(*values)[D + 8] = keys + KEYS;
	struct tile tile = job.tiles[blockIdx.x];
	const struct sp_gpu_seq *seq = &job.seqs[tile.seq];
	unsigned position = seq->prefix_len + seq->own_len - seq->count + tile.token;
	unsigned first = 0, end = position + tile.tokens;
	int works = threadIdx.x / 32 * 16 < tile.tokens * job.group;
	struct rows<D> rows;

	if (job.window > 0 && position + 1 > job.window)
		first = (position + 1 - job.window) / KEYS * KEYS;
	if (job.parts != NULL) {
		unsigned from = blockIdx.z * SPLIT;

		first = first > from ? first : from;
		end = end < from + SPLIT ? end : from + SPLIT;
	}
	load_rows<T, D>(&job, &tile, &rows);
	for (unsigned at = first; at < end; at += KEYS) {
		float s[KEYS / 8][4];

		__syncthreads();
		load_keys<T, D>(&job, seq, job.k, at, end, keys);
		load_keys<T, D>(&job, seq, job.v, at, end, values);
		__syncthreads();
		if (!works)
			continue;
		scores<T, D>(&job, &rows, keys, at, s);
		exponentials<D>(&rows, s);
		add_values<T, D>(&rows, s, values);
	}
	if (works)
		store_rows<T, D>(&job, &rows);
}

/* One head of one single token by a warp: the parts in order. */
template <class T, int D>
static __global__ void
join_kernel(struct job job, size_t n)
{
	size_t index = (size_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
	const float *parts = job.parts + index * job.splits * (D + 2);
	float out[D / 32] = {}, max = -INFINITY, sum = 0.0f;
	T *to;

	if (index >= n * job.heads)
		return;
	for (unsigned i = 0; i < job.splits; i++) {
		const float *part = parts + (size_t)i * (D + 2);
		float most = fmaxf(max, part[D]), old, now;

		if (part[D] == -INFINITY)
			continue;
		old = exp2f(max - most);
		now = exp2f(part[D] - most);
		sum = sum * old + part[D + 1] * now;
		for (unsigned d = 0; d < D / 32; d++)
			out[d] = out[d] * old + part[32 * d + threadIdx.x % 32] * now;
		max = most;
	}
	to = (T *)job.out + ((size_t)job.seqs[job.tiles[index / job.heads].seq].row * job.heads +
				index % job.heads) *
				D;
	for (unsigned d = 0; d < D / 32; d++)
		narrow(out[d] / sum, &to[32 * d + threadIdx.x % 32]);
}

/* --- from the host ---------------------------------------------------------------------------
 */

struct plan {
	struct tile *tiles;
	size_t count;
	unsigned longest; /* keys of a sequence */
};

/* The tiles of the sequences with one new token, or of the others. */
static void
make_plan(const struct sp_gpu_seq *seqs, size_t n, int single, unsigned tokens, struct plan *plan)
{
	size_t max = 0;

	memset(plan, 0, sizeof(*plan));
	for (size_t i = 0; i < n; i++) {
		SP_ASSERT(seqs[i].count > 0 && seqs[i].count <= seqs[i].own_len);
		if ((seqs[i].count == 1) != single)
			continue;
		for (unsigned t = 0; t < seqs[i].count; t += tokens) {
			unsigned rest = seqs[i].count - t;

			if (plan->count == max)
				plan->tiles = (struct tile *)sp_xrealloc(
				    plan->tiles, max = 2 * max + 64, sizeof(*plan->tiles));
			plan->tiles[plan->count].seq = (uint32_t)i;
			plan->tiles[plan->count].token = t;
			plan->tiles[plan->count++].tokens = rest < tokens ? rest : tokens;
		}
		if (seqs[i].prefix_len + seqs[i].own_len > plan->longest)
			plan->longest = seqs[i].prefix_len + seqs[i].own_len;
	}
}

/* Waits: where a GPU reads pageable memory by itself, the host's side may still be read later. */
static enum sp_code
put(struct sp_gpu *gpu, const void *from, size_t size, struct sp_gpu_array *to, struct sp_err *err)
{
	enum sp_code rc = sp_gpu_alloc(gpu, SP_GPU_U8, size, to, err);

	return rc != SP_OK ? rc : sp_gpu_write(gpu, *to, from, err);
}

template <class T, int D>
static enum sp_code
run_plan(
    struct sp_gpu *gpu, struct job *job, const struct plan *plan, int single, struct sp_err *err)
{
	struct sp_gpu_array tiles = {}, parts = {};
	size_t shared = 2 * KEYS * (D + 8) * sizeof(T);
	enum sp_code rc = put(gpu, plan->tiles, plan->count * sizeof(*plan->tiles), &tiles, err);

	job->tiles = at<const struct tile>(tiles);
	job->splits = single ? (plan->longest + SPLIT - 1) / SPLIT : 1;
	if (rc == SP_OK && single)
		rc = sp_gpu_alloc(
		    gpu, SP_GPU_F32, plan->count * job->heads * job->splits * (D + 2), &parts, err);
	job->parts = at<float>(parts);
	if (rc == SP_OK)
		rc = launch(gpu, "attention", attention_kernel<T, D>,
		    dim3((unsigned)plan->count, job->kv_heads, job->splits), THREADS, shared, err,
		    *job);
	if (rc == SP_OK && single)
		rc = launch(gpu, "attention", join_kernel<T, D>,
		    (unsigned)ceil_div(plan->count * job->heads, THREADS / 32), THREADS, 0, err,
		    *job, plan->count);
	sp_gpu_free(gpu, &tiles);
	sp_gpu_free(gpu, &parts);
	return rc;
}

template <class T>
static enum sp_code
run_dim(struct sp_gpu *gpu, struct job *job, size_t dim, const struct plan *plan, int single,
    struct sp_err *err)
{
	if (dim == 128)
		return run_plan<T, 128>(gpu, job, plan, single, err);
	if (dim == 96)
		return run_plan<T, 96>(gpu, job, plan, single, err);
	SP_ASSERT(dim == 64);
	return run_plan<T, 64>(gpu, job, plan, single, err);
}

static void
must_fit(const struct sp_gpu_attention *a, const struct sp_gpu_seq *seqs, size_t n)
{
	size_t q = a->heads * a->head_dim, kv = a->kv_heads * a->head_dim;

	SP_ASSERT(a->q.type == SP_GPU_F16 || a->q.type == SP_GPU_BF16);
	SP_ASSERT(a->out.type == a->q.type && a->k.type == a->q.type && a->v.type == a->q.type);
	SP_ASSERT((a->q.at | a->k.at | a->v.at | a->out.at) % 16 == 0);
	SP_ASSERT(a->heads % a->kv_heads == 0 && a->heads / a->kv_heads <= ROWS);
	for (size_t i = 0; i < n; i++) {
		size_t last = (size_t)seqs[i].own + seqs[i].own_len;
		size_t prefix = (size_t)seqs[i].prefix + seqs[i].prefix_len;

		SP_ASSERT(((size_t)seqs[i].row + seqs[i].count) * q <= a->q.count);
		SP_ASSERT(((size_t)seqs[i].row + seqs[i].count) * q <= a->out.count);
		SP_ASSERT(last * kv <= a->k.count && last * kv <= a->v.count);
		SP_ASSERT(seqs[i].prefix_len == 0 ||
			  (prefix * kv <= a->k.count && prefix * kv <= a->v.count));
	}
}

enum sp_code
sp_gpu_attend(struct sp_gpu *gpu, const struct sp_gpu_attention *a, const struct sp_gpu_seq *seqs,
    size_t n, struct sp_err *err)
{
	struct sp_gpu_array on = {};
	struct job job = {};
	enum sp_code rc;

	must_fit(a, seqs, n);
	if (n == 0)
		return SP_OK;
	rc = put(gpu, seqs, n * sizeof(*seqs), &on, err);
	job.q = at<void>(a->q);
	job.k = at<void>(a->k);
	job.v = at<void>(a->v);
	job.out = at<void>(a->out);
	job.seqs = at<const struct sp_gpu_seq>(on);
	job.heads = (unsigned)a->heads;
	job.kv_heads = (unsigned)a->kv_heads;
	job.group = job.heads / job.kv_heads;
	job.window = (unsigned)a->window;
	job.scale = 1.44269504f / sqrtf((float)a->head_dim);
	for (int single = 0; single < 2 && rc == SP_OK; single++) {
		struct plan plan;

		make_plan(seqs, n, single, ROWS / job.group, &plan);
		if (plan.count > 0)
			rc = a->q.type == SP_GPU_F16
				 ? run_dim<sp_f16>(gpu, &job, a->head_dim, &plan, single, err)
				 : run_dim<sp_bf16>(gpu, &job, a->head_dim, &plan, single, err);
		free(plan.tiles);
	}
	sp_gpu_free(gpu, &on);
	return rc;
}
