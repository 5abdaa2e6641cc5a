/* dtype.c -- element types and their conversion to and from fp32. */
#include "model/dtype.h"

#include <string.h>

static const struct {
	const char *name;
	size_t size;
} sp_dtypes[SP_DTYPE_COUNT] = {
#define X(id, name, size) [id] = {name, size},
    SP_DTYPES(X)
#undef X
};

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are little-endian in files");

const char *
sp_dtype_name(enum sp_dtype dtype)
{
	SP_ASSERT(dtype < SP_DTYPE_COUNT);
	return sp_dtypes[dtype].name;
}

size_t
sp_dtype_size(enum sp_dtype dtype)
{
	SP_ASSERT(dtype < SP_DTYPE_COUNT);
	return sp_dtypes[dtype].size;
}

int
sp_dtype_find(const char *name, enum sp_dtype *out)
{
	for (size_t i = 0; i < SP_DTYPE_COUNT; i++) {
		if (strcmp(name, sp_dtypes[i].name) == 0) {
			*out = (enum sp_dtype)i;
			return 1;
		}
	}
	return 0;
}

static inline uint32_t
bits_of(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

static inline float
float_of(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

float
sp_dtype_bf16_to_f32(uint16_t half)
{
	return float_of((uint32_t)half << 16);
}

uint16_t
sp_dtype_f32_to_bf16(float value)
{
	uint32_t bits = bits_of(value);

	if ((bits & 0x7fffffff) > 0x7f800000)
		return (
		    uint16_t)(bits >> 16 | 0x40); /* a NaN whose payload was all in the low half */
	/* half of the dropped unit, and one less when the kept part is even: ties to even */
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits. */
float
sp_dtype_f16_to_f32(uint16_t half)
{
	uint32_t sign = (uint32_t)(half & 0x8000) << 16;
	uint32_t exponent = half >> 10 & 31;
	uint32_t fraction = half & 0x3ff;

	if (exponent == 31)
		return float_of(sign | 0x7f800000 | fraction << 13);
	if (exponent == 0) { /* subnormal: fraction * 2^-24, exact in fp32 */
		float value = (float)fraction * 0x1p-24f;

		return sign ? -value : value;
	}
	return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

uint16_t
sp_dtype_f32_to_f16(float value)
{
	uint32_t bits = bits_of(value);
	uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
	uint32_t magnitude = bits & 0x7fffffff;

	if (magnitude > 0x7f800000)
		return (uint16_t)(sign | 0x7e00);
	if (magnitude >= 0x477ff000) /* 65520 and above round to infinity */
		return (uint16_t)(sign | 0x7c00);
	if (magnitude < 0x38800000) { /* below 2^-14: let the FPU round to a multiple of 2^-24 */
		float aligned = float_of(magnitude) + 0.5f;

		return (uint16_t)(sign | (bits_of(aligned) - bits_of(0.5f)));
	}
	magnitude += 0xfff + (magnitude >> 13 & 1);
	return (uint16_t)(sign | ((magnitude >> 13) - (112 << 10)));
}

void
sp_dtype_to_f32(enum sp_dtype dtype, const uint8_t *src, float *dst, size_t count)
{
	uint16_t half;

	SP_ASSERT(dtype == SP_F32 || dtype == SP_F16 || dtype == SP_BF16);
	if (dtype == SP_F32) {
		memcpy(dst, src, count * sizeof(float));
		return;
	}
	for (size_t i = 0; i < count; i++) {
		memcpy(&half, src + 2 * i, sizeof(half));
		dst[i] = dtype == SP_F16 ? sp_dtype_f16_to_f32(half) : sp_dtype_bf16_to_f32(half);
	}
}

void
sp_dtype_from_f32(enum sp_dtype dtype, const float *src, uint8_t *dst, size_t count)
{
	SP_ASSERT(dtype == SP_F32 || dtype == SP_F16 || dtype == SP_BF16);
	if (dtype == SP_F32) {
		memcpy(dst, src, count * sizeof(float));
		return;
	}
	for (size_t i = 0; i < count; i++) {
		uint16_t half =
		    dtype == SP_F16 ? sp_dtype_f32_to_f16(src[i]) : sp_dtype_f32_to_bf16(src[i]);

		memcpy(dst + 2 * i, &half, sizeof(half));
	}
}
