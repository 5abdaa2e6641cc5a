/* gemm.cc -- gemm_lt.cu's twin: plain loops, operands rounded as the tensor cores do. */
#include "gpu.h"

static float
tf32(float x)
{
	uint32_t bits;

	if (!isfinite(x))
		return x;
	memcpy(&bits, &x, sizeof(bits));
	bits += 0xfff + (bits >> 13 & 1);
	bits &= ~(uint32_t)0x1fff;
	memcpy(&x, &bits, sizeof(x));
	return x;
}

static float
value_of(const void *values, enum sp_gpu_type type, size_t i)
{
	if (type == SP_GPU_F32)
		return ((const float *)values)[i];
	return type == SP_GPU_F16 ? widen(((const sp_f16 *)values)[i])
				  : widen(((const sp_bf16 *)values)[i]);
}

static void
store(void *values, enum sp_gpu_type type, size_t i, float value)
{
	if (type == SP_GPU_F32)
		narrow(value, &((float *)values)[i]);
	else if (type == SP_GPU_F16)
		narrow(value, &((sp_f16 *)values)[i]);
	else
		narrow(value, &((sp_bf16 *)values)[i]);
}

/* op(x), fp32, rounded when the product is fast. */
static float *
operand(const struct sp__product *p, const struct sp__operand *x, size_t rows, size_t columns)
{
	float *out = (float *)sp_xcalloc(rows * columns + 1, sizeof(float));

	for (size_t i = 0; i < rows; i++) {
		for (size_t j = 0; j < columns; j++) {
			size_t from = x->transposed ? j * x->stride + i : i * x->stride + j;
			float value = value_of(x->at, p->type, from);

			out[i * columns + j] =
			    p->fast && p->type == SP_GPU_F32 ? tf32(value) : value;
		}
	}
	return out;
}

enum sp_code
sp__gemm(struct sp_gpu *, const struct sp__product *p, struct sp_err *)
{
	float *a = operand(p, &p->a, p->m, p->k), *b = operand(p, &p->b, p->k, p->n);
	float *row = (float *)sp_xcalloc(p->n + 1, sizeof(float));

	for (size_t i = 0; i < p->m; i++) {
		memset(row, 0, p->n * sizeof(*row));
		for (size_t k = 0; k < p->k; k++) {
			for (size_t j = 0; j < p->n; j++)
				row[j] += a[i * p->k + k] * b[k * p->n + j];
		}
		for (size_t j = 0; j < p->n; j++) {
			size_t to = i * p->c_stride + j;
			float before = p->beta == 0 ? 0 : value_of(p->c, p->result, to) * p->beta;

			store(p->c, p->result, to, before + p->alpha * row[j]);
		}
	}
	free(a);
	free(b);
	free(row);
	return SP_OK;
}
