/* gpu.h -- what the .cu files share: the GPU's state, launching, values of each type. */
#ifndef SP_GPU_INTERNAL_H
#define SP_GPU_INTERNAL_H

/* lib's headers are C11 */
#define _Noreturn __attribute__((noreturn))

#ifdef SP_EMU
#include "emu/emu.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <math.h>
#include <string.h>
#endif

extern "C" {
#include "base/err.h"
#include "model/dtype.h"
}

#include "sp_gpu_awq.h"

#define SP_FULL 0xffffffffu /* all lanes of a warp */

/* Dynamic shared memory. */
#ifdef SP_EMU
#define SP_DYNAMIC(type, name) type *name = (type *)emu_shared
#else
#define SP_DYNAMIC(type, name)                                      \
	extern __shared__ __align__(16) unsigned char sp_dynamic[]; \
	type *name = (type *)sp_dynamic
#endif

/* --- values ---------------------------------------------------------------------------------- */

struct sp_f16 {
	uint16_t bits;
};

struct sp_bf16 {
	uint16_t bits;
};

static __device__ __forceinline__ float
widen(float value)
{
	return value;
}

static __device__ __forceinline__ float
widen(sp_f16 value)
{
#ifdef SP_EMU
	return sp_dtype_f16_to_f32(value.bits);
#else
	return __half2float(__ushort_as_half(value.bits));
#endif
}

static __device__ __forceinline__ float
widen(sp_bf16 value)
{
#ifdef SP_EMU
	return sp_dtype_bf16_to_f32(value.bits);
#else
	return __uint_as_float((unsigned)value.bits << 16);
#endif
}

static __device__ __forceinline__ void
narrow(float value, float *to)
{
	*to = value;
}

static __device__ __forceinline__ void
narrow(float value, sp_f16 *to)
{
#ifdef SP_EMU
	to->bits = sp_dtype_f32_to_f16(value);
#else
	to->bits = __half_as_ushort(__float2half_rn(value));
#endif
}

static __device__ __forceinline__ void
narrow(float value, sp_bf16 *to)
{
#ifdef SP_EMU
	to->bits = sp_dtype_f32_to_bf16(value);
#else
	to->bits = __bfloat16_as_ushort(__float2bfloat16_rn(value));
#endif
}

/* N values that are read and written as one. */
template <class T, int N> struct __align__(sizeof(T) * N) pack
{
	T v[N];
};

/* Rounded to fp16 and back. */
static __device__ __forceinline__ float
as_half(float value)
{
	sp_f16 half;

	narrow(value, &half);
	return widen(half);
}

/* Half to even, and exact below 2^22. */
static __device__ __forceinline__ float
nearest(float x)
{
	const float shift = 12582912.0f; /* 1.5 · 2^23 */

	return __fadd_rn(__fadd_rn(x, shift), -shift);
}

static __device__ __forceinline__ float
between(float x, float low, float high)
{
	x = x < low ? low : x;
	return x > high ? high : x;
}

/* Of a warp; the same in every lane, and in the same order always. */
template <class T>
static __device__ __forceinline__ T
warp_sum(T value)
{
	for (unsigned by = 16; by > 0; by /= 2)
		value += __shfl_xor_sync(SP_FULL, value, by);
	return value;
}

static __device__ __forceinline__ float
warp_max(float value)
{
	for (unsigned by = 16; by > 0; by /= 2)
		value = fmaxf(value, __shfl_xor_sync(SP_FULL, value, by));
	return value;
}

/* Of a block of up to 1,024 threads; by all of them. */
template <class T>
static __device__ __forceinline__ T
block_sum(T value, T *parts)
{
	unsigned warps = blockDim.x / 32, lane = threadIdx.x % 32;

	value = warp_sum(value);
	__syncthreads(); /* parts may still be read */
	if (lane == 0)
		parts[threadIdx.x / 32] = value;
	__syncthreads();
	return warp_sum(lane < warps ? parts[lane] : (T)0);
}

/* --- the state ------------------------------------------------------------------------------- */

#define SP_GPU_WORKSPACE ((size_t)32 << 20) /* cuBLASLt's */

struct sp_gpu_state; /* streams and events: device.cu, emu/device.cc */
struct sp_gpu_lt;    /* gemm_lt.cu */

struct sp_gpu_block {
	void *at;
	size_t size;
	int used;
	int recycled; /* operations may still use what it was before */
	int copied;   /* uploads or downloads may still use it */
};

struct sp_gpu {
	struct sp_gpu_info info;
	struct sp_gpu_block *blocks; /* taken from the device, in use or kept for the next */
	size_t block_count, block_max;
	cudaStream_t stream; /* of the operations */
	struct sp_gpu_state *state;
	struct sp_gpu_lt *lt;
	void *workspace;
};

/* SP_OK, or what CUDA says, behind `what`. */
enum sp_code sp__gpu_check(cudaError_t error, const char *what, struct sp_err *err);

/* The block of an array or of a part of one. */
struct sp_gpu_block *sp__gpu_block(struct sp_gpu *gpu, struct sp_gpu_array array);
/* Waits for the uploads and downloads; a later call reports their errors. */
void sp__gpu_copies_finish(struct sp_gpu *gpu);

/* The product itself, row-major: c = alpha·op(a)·op(b) + beta·c. gemm_lt.cu, emu/gemm.cc */
struct sp__operand {
	const void *at;
	size_t stride;
	int transposed;
};
struct sp__product {
	enum sp_gpu_type type, result; /* of a and b; of c */
	int fast;		       /* F32: TF32 */
	size_t m, n, k;
	float alpha, beta;
	struct sp__operand a, b;
	void *c;
	size_t c_stride;
};
enum sp_code sp__gemm(struct sp_gpu *gpu, const struct sp__product *product, struct sp_err *err);

/* big + small = x as nearly as two TF32 can say, of x[rows][columns]. */
enum sp_code sp__split(struct sp_gpu *gpu, const float *x, size_t rows, size_t columns,
    size_t stride, float *big, float *small, struct sp_err *err);

/* The upper triangle of g[in][in] from the lower; divided: row i by the diagonal's value there. */
enum sp_code sp__mirror(struct sp_gpu *gpu, float *g, size_t in, int divided, struct sp_err *err);

template <class T>
static inline T *
at(struct sp_gpu_array array)
{
	return (T *)array.at;
}

static inline size_t
ceil_div(size_t a, size_t b)
{
	return (a + b - 1) / b;
}

/* kernel over grid blocks of `threads`, with `shared` bytes of dynamic shared memory. */
template <class... P, class... A>
static enum sp_code
launch(struct sp_gpu *gpu, const char *what, void (*kernel)(P...), dim3 grid, unsigned threads,
    size_t shared, struct sp_err *err, A... args)
{
	SP_ASSERT(grid.x > 0 && grid.y > 0 && grid.y < 65536 && grid.z > 0 && grid.z < 65536);
#ifdef SP_EMU
	auto body = [=]() { kernel((P)args...); };

	(void)gpu;
	(void)what;
	(void)err;
	emu_run(grid, threads, shared, emu_call<decltype(body)>, &body);
	return SP_OK;
#else
	if (shared > 48 << 10) {
		enum sp_code rc =
		    sp__gpu_check(cudaFuncSetAttribute((const void *)kernel,
				      cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared),
			what, err);

		if (rc != SP_OK)
			return rc;
	}
	kernel<<<grid, threads, shared, gpu->stream>>>((P)args...);
	return sp__gpu_check(cudaGetLastError(), what, err);
#endif
}

/* Calls f<T>(…) for the floating type of an array. */
#define SP_BY_TYPE(type, f, ...)                              \
	((type) == SP_GPU_F32	    ? f<float>(__VA_ARGS__)   \
	    : (type) == SP_GPU_F16  ? f<sp_f16>(__VA_ARGS__)  \
	    : (type) == SP_GPU_BF16 ? f<sp_bf16>(__VA_ARGS__) \
				    : (sp_err_abort(__FILE__, __LINE__, "type of " #f), SP_OK))

/* Calls f<X, Y>(…) for two. */
#define SP_BY_TYPES_(second, f, X, ...)                            \
	((second) == SP_GPU_F32	      ? f<X, float>(__VA_ARGS__)   \
	    : (second) == SP_GPU_F16  ? f<X, sp_f16>(__VA_ARGS__)  \
	    : (second) == SP_GPU_BF16 ? f<X, sp_bf16>(__VA_ARGS__) \
				      : (sp_err_abort(__FILE__, __LINE__, "type of " #f), SP_OK))
#define SP_BY_TYPES(first, second, f, ...)                                           \
	((first) == SP_GPU_F32	     ? SP_BY_TYPES_(second, f, float, __VA_ARGS__)   \
	    : (first) == SP_GPU_F16  ? SP_BY_TYPES_(second, f, sp_f16, __VA_ARGS__)  \
	    : (first) == SP_GPU_BF16 ? SP_BY_TYPES_(second, f, sp_bf16, __VA_ARGS__) \
				     : (sp_err_abort(__FILE__, __LINE__, "type of " #f), SP_OK))

#endif
