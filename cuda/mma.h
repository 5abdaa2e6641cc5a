/*
 * mma.h -- the tensor cores' instructions that kernels of ours use, by all lanes of a warp, and
 * their emulated twins. Fragments are as PTX has them (mma.m16n8k16, ldmatrix): with g = lane / 4
 * and t = lane % 4
 *
 *	a[16][16]  a0 (g; 2t, 2t+1)  a1 (g+8; …)  a2 (g; 2t+8, 2t+9)  a3 (g+8; 2t+8, 2t+9)
 *	b[16][8]   b0 (2t, 2t+1; g)  b1 (2t+8, 2t+9; g)
 *	c[16][8]   c0, c1 (g; 2t, 2t+1)  c2, c3 (g+8; 2t, 2t+1)
 */
#ifndef SP_MMA_H
#define SP_MMA_H

#include "gpu.h"

/* Two values in one register, the first in its low half. */
template <class T>
static __device__ __forceinline__ uint32_t
pair(float low, float high)
{
	T a, b;

	narrow(low, &a);
	narrow(high, &b);
	return (uint32_t)a.bits | (uint32_t)b.bits << 16;
}

#ifdef SP_EMU

template <class T>
static inline float
half_of(uint32_t word, unsigned which)
{
	T value;

	value.bits = (uint16_t)(word >> (16 * which));
	return widen(value);
}

/* c += a·b */
template <class T>
static inline void
mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
	float mine[12], all[32][12]; /* a0 … a3, b0, b1, each its low half and its high one */
	unsigned lane = threadIdx.x % 32;

	for (unsigned i = 0; i < 12; i++)
		mine[i] = half_of<T>(i < 8 ? a[i / 2] : b[i / 2 - 4], i % 2);
	emu_collect(mine, all, sizeof(mine));
	for (unsigned i = 0; i < 4; i++) {
		unsigned row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;

		for (unsigned k = 0; k < 16; k++) {
			unsigned x = 2 * (row / 8 + 2 * (k / 8)) + k % 2, y = 8 + k / 8 * 2 + k % 2;

			c[i] += all[row % 8 * 4 + k % 8 / 2][x] * all[column * 4 + k % 8 / 2][y];
		}
	}
}

/* Four 8 x 8 matrices whose rows 0..7 the lanes 8m … 8m+7 point to; lane gets elements (2t, g) and
 * (2t+1, g) of each. */
static inline void
load_transposed(uint32_t (&to)[4], const void *row)
{
	const void *rows[32];
	unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;

	SP_ASSERT((uintptr_t)row % 16 == 0);
	emu_collect(&row, rows, sizeof(row));
	for (unsigned m = 0; m < 4; m++) {
		const uint16_t *low = (const uint16_t *)rows[8 * m + 2 * t];
		const uint16_t *high = (const uint16_t *)rows[8 * m + 2 * t + 1];

		to[m] = (uint32_t)low[g] | (uint32_t)high[g] << 16;
	}
}

#else

static __device__ __forceinline__ void
mma_of(sp_f16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
		     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

static __device__ __forceinline__ void
mma_of(sp_bf16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
		     "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
		     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
		     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <class T>
static __device__ __forceinline__ void
mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2])
{
	mma_of(T(), c, a, b);
}

static __device__ __forceinline__ void
load_transposed(uint32_t (&to)[4], const void *row)
{
	unsigned at = (unsigned)__cvta_generic_to_shared(row);

	asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
		     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
		     : "r"(at)
		     : "memory");
}

#endif

#endif
