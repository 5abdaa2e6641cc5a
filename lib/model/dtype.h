/* dtype.h -- element types of tensors and their conversion to and from fp32. */
#ifndef SP_DTYPE_H
#define SP_DTYPE_H

#include "base/err.h"

#include <stdint.h>

/* X(member, name in safetensors, bytes per element) */
#define SP_DTYPES(X)          \
	X(SP_F64, "F64", 8)   \
	X(SP_F32, "F32", 4)   \
	X(SP_F16, "F16", 2)   \
	X(SP_BF16, "BF16", 2) \
	X(SP_I64, "I64", 8)   \
	X(SP_I32, "I32", 4)   \
	X(SP_I16, "I16", 2)   \
	X(SP_I8, "I8", 1)     \
	X(SP_U8, "U8", 1)     \
	X(SP_BOOL, "BOOL", 1)

enum sp_dtype {
#define X(id, name, size) id,
	SP_DTYPES(X)
#undef X
	    SP_DTYPE_COUNT
};

const char *sp_dtype_name(enum sp_dtype dtype);
size_t sp_dtype_size(enum sp_dtype dtype);
/* 1 and *out when name is one of SP_DTYPES, else 0. */
int sp_dtype_find(const char *name, enum sp_dtype *out);

/* One value; rounding is to nearest, ties to even; NaN stays NaN, overflow becomes infinity. */
float sp_dtype_f16_to_f32(uint16_t half);
float sp_dtype_bf16_to_f32(uint16_t half);
uint16_t sp_dtype_f32_to_f16(float value);
uint16_t sp_dtype_f32_to_bf16(float value);

/* count elements of src (F32, F16 or BF16, little-endian, any alignment) into dst, and back. Other
 * dtypes are a programmer error. */
void sp_dtype_to_f32(enum sp_dtype dtype, const uint8_t *src, float *dst, size_t count);
void sp_dtype_from_f32(enum sp_dtype dtype, const float *src, uint8_t *dst, size_t count);

#endif
