/*
 * emu.h -- CUDA's kernels on the CPU, for tests: what a .cu file of ours uses of the language and
 * of the runtime, for g++.
 *
 * Blocks run one after the other; the threads of one are fibers, which change at barriers and
 * warp-wide operations only. A barrier that not all reach aborts. emu_order picks the order in
 * which threads and blocks get their turns: what depends on it is a race. Shared memory is filled
 * with NaNs before each block.
 */
#ifndef SP_EMU_H
#define SP_EMU_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __shared__ static
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)

struct dim3 {
	unsigned x, y, z;
	dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_)
	{
	}
};

struct __align__(8) float2
{
	float x, y;
};

struct __align__(16) float4
{
	float x, y, z, w;
};

struct __align__(8) uint2
{
	unsigned x, y;
};

struct __align__(16) uint4
{
	unsigned x, y, z, w;
};

struct emu_thread;
extern dim3 emu_block, emu_grid, emu_threads;
extern unsigned char *emu_shared;
unsigned emu_index(void); /* of the thread within its block */
#define blockIdx emu_block
#define gridDim emu_grid
#define blockDim emu_threads
#define threadIdx dim3(emu_index(), 0, 0)

/* 0: rising, 1: falling, 2: mixed. From the environment: SALLYPORT_EMU_ORDER, at sp_gpu_open. */
extern unsigned emu_order;

void emu_block_wait(void);
void emu_warp_wait(void);
void emu_run(dim3 grid, unsigned threads, size_t shared, void (*body)(void *), void *arg);

template <class F>
static void
emu_call(void *body)
{
	(*(F *)body)();
}

static inline void
__syncthreads(void)
{
	emu_block_wait();
}

static inline void
__syncwarp(unsigned mask = 0xffffffff)
{
	(void)mask;
	emu_warp_wait();
}

/* What lane `from` of the thread's warp gives; of all lanes at once. */
void emu_exchange(const void *mine, void *theirs, size_t size, unsigned from);
/* The same for all 32 lanes: theirs[32][size]. */
void emu_collect(const void *mine, void *theirs, size_t size);

template <class T>
static inline T
__shfl_sync(unsigned, T value, unsigned from)
{
	T result;

	emu_exchange(&value, &result, sizeof(value), from & 31);
	return result;
}

template <class T>
static inline T
__shfl_xor_sync(unsigned, T value, unsigned by)
{
	T result;

	emu_exchange(&value, &result, sizeof(value), (emu_index() & 31) ^ by);
	return result;
}

static inline uint32_t
__byte_perm(uint32_t a, uint32_t b, uint32_t selector)
{
	uint64_t both = (uint64_t)b << 32 | a;
	uint32_t result = 0;

	for (unsigned i = 0; i < 4; i++)
		result |= (uint32_t)(both >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
	return result;
}

static inline float
__fmul_rn(float a, float b)
{
	return a * b;
}

static inline float
__fadd_rn(float a, float b)
{
	return a + b;
}

/* --- the runtime -----------------------------------------------------------------------------
 */

typedef int cudaError_t;
typedef int *cudaStream_t, *cudaEvent_t;

enum { cudaSuccess = 0, cudaErrorMemoryAllocation = 2 };
enum { cudaMemcpyDefault };

static inline const char *
cudaGetErrorString(cudaError_t error)
{
	return error == cudaSuccess ? "no error" : "out of memory";
}

static inline cudaError_t
cudaGetLastError(void)
{
	return cudaSuccess;
}

static inline cudaError_t
cudaStreamSynchronize(cudaStream_t)
{
	return cudaSuccess;
}

static inline cudaError_t
cudaMalloc(void **out, size_t size)
{
	*out = aligned_alloc(256, (size + 255) / 256 * 256);
	if (*out != NULL)
		memset(*out, 0xff, size);
	return *out != NULL ? cudaSuccess : cudaErrorMemoryAllocation;
}

static inline cudaError_t
cudaFree(void *memory)
{
	free(memory);
	return cudaSuccess;
}

static inline cudaError_t
cudaMemcpyAsync(void *to, const void *from, size_t size, int, cudaStream_t)
{
	memcpy(to, from, size);
	return cudaSuccess;
}

static inline cudaError_t
cudaMemsetAsync(void *to, int value, size_t size, cudaStream_t)
{
	memset(to, value, size);
	return cudaSuccess;
}

#endif
