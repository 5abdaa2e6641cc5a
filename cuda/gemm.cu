/* gemm.cu -- products: precision, tiles of rows, bias. */
#include "gpu.h"

#define SPLIT_THREADS 256

/* The values of x that TF32 holds exactly; the rest is small enough for TF32 once more. */
static __global__ void
split_kernel(const float *x, size_t rows, size_t columns, size_t stride, float *big, float *small)
{
	size_t i = (size_t)blockIdx.x * SPLIT_THREADS + threadIdx.x;

	if (i < rows * columns) {
		union {
			float value;
			uint32_t bits;
		} part = {x[i / columns * stride + i % columns]};
		float whole = part.value;

		part.bits = (part.bits + 0xfff + (part.bits >> 13 & 1)) & ~(uint32_t)0x1fff;
		big[i] = part.value;
		small[i] = __fadd_rn(whole, -part.value);
	}
}

enum sp_code
sp__split(struct sp_gpu *gpu, const float *x, size_t rows, size_t columns, size_t stride,
    float *big, float *small, struct sp_err *err)
{
	return launch(gpu, "splitting", split_kernel,
	    (unsigned)ceil_div(rows * columns, SPLIT_THREADS), SPLIT_THREADS, 0, err, x, rows,
	    columns, stride, big, small);
}

/* Every element of an m x n matrix lies in its array. */
static void
must_fit(const struct sp_gpu_matrix *x, size_t m, size_t n)
{
	size_t rows = x->transposed ? n : m, columns = x->transposed ? m : n;

	SP_ASSERT(columns <= x->stride || rows == 1);
	SP_ASSERT(x->first + (rows - 1) * x->stride + columns <= x->values.count);
}

static struct sp__operand
operand(const struct sp_gpu_matrix *x)
{
	struct sp__operand out = {
	    at<const char>(x->values) + x->first * sp_gpu_type_size(x->values.type), x->stride,
	    x->transposed};

	return out;
}

/* One operand in its two parts, packed. */
static enum sp_code
split(struct sp_gpu *gpu, const struct sp_gpu_matrix *x, size_t m, size_t n,
    struct sp_gpu_array *parts, struct sp__operand *big, struct sp__operand *small,
    struct sp_err *err)
{
	size_t rows = x->transposed ? n : m, columns = x->transposed ? m : n;
	enum sp_code rc = sp_gpu_alloc(gpu, SP_GPU_F32, 2 * rows * columns, parts, err);

	if (rc != SP_OK)
		return rc;
	big->at = at<float>(*parts);
	small->at = at<float>(*parts) + rows * columns;
	big->stride = small->stride = columns;
	big->transposed = small->transposed = x->transposed;
	return sp__split(gpu, at<float>(x->values) + x->first, rows, columns, x->stride,
	    at<float>(*parts), at<float>(*parts) + rows * columns, err);
}

/* a·b = small·big + big·small + big·big, but for the product of what is small in both. */
static enum sp_code
gemm_split(struct sp_gpu *gpu, struct sp__product *p, const struct sp_gpu_matrix *a,
    const struct sp_gpu_matrix *b, struct sp_err *err)
{
	struct sp_gpu_array parts_a = {}, parts_b = {};
	struct sp__operand big_a, small_a, big_b, small_b;
	enum sp_code rc;

	p->fast = 1;
	if ((rc = split(gpu, a, p->m, p->k, &parts_a, &big_a, &small_a, err)) ||
	    (rc = split(gpu, b, p->k, p->n, &parts_b, &big_b, &small_b, err)))
		goto out;
	p->a = small_a;
	p->b = big_b;
	if ((rc = sp__gemm(gpu, p, err)))
		goto out;
	p->beta = 1;
	p->a = big_a;
	p->b = small_b;
	if ((rc = sp__gemm(gpu, p, err)))
		goto out;
	p->b = big_b;
	rc = sp__gemm(gpu, p, err);
out:
	sp_gpu_free(gpu, &parts_a);
	sp_gpu_free(gpu, &parts_b);
	return rc;
}

enum sp_code
sp_gpu_gemm(struct sp_gpu *gpu, enum sp_gpu_precision precision, size_t m, size_t n, size_t k,
    float alpha, struct sp_gpu_matrix a, struct sp_gpu_matrix b, float beta, struct sp_gpu_matrix c,
    struct sp_err *err)
{
	struct sp__product p = {};

	if (m == 0 || n == 0 || k == 0)
		return SP_OK;
	must_fit(&a, m, k);
	must_fit(&b, k, n);
	must_fit(&c, m, n);
	SP_ASSERT(a.values.type == b.values.type && !c.transposed);
	SP_ASSERT(c.values.type == a.values.type || c.values.type == SP_GPU_F32);
	p.type = a.values.type;
	p.result = c.values.type;
	p.fast = precision == SP_GPU_FAST;
	p.m = m;
	p.n = n;
	p.k = k;
	p.alpha = alpha;
	p.beta = beta;
	p.a = operand(&a);
	p.b = operand(&b);
	p.c = at<char>(c.values) + c.first * sp_gpu_type_size(c.values.type);
	p.c_stride = c.stride;
	if (precision == SP_GPU_SPLIT && p.type == SP_GPU_F32)
		return gemm_split(gpu, &p, &a, &b, err);
	return sp__gemm(gpu, &p, err);
}

/* --- a linear layer --------------------------------------------------------------------------
 */

template <class T>
static __global__ void
bias_kernel(const float *bias, size_t rows, size_t out, T *y)
{
	size_t i = (size_t)blockIdx.x * SPLIT_THREADS + threadIdx.x;

	if (i < rows * out)
		narrow(bias[i % out], &y[i]);
}

template <class T>
static enum sp_code
fill(struct sp_gpu *gpu, struct sp_gpu_array bias, size_t rows, size_t out, struct sp_gpu_array y,
    struct sp_err *err)
{
	return launch(gpu, "bias", bias_kernel<T>, (unsigned)ceil_div(rows * out, SPLIT_THREADS),
	    SPLIT_THREADS, 0, err, at<const float>(bias), rows, out, at<T>(y));
}

/* rows <= SP_GPU_ROWS of x, multiplied as that many. */
static enum sp_code
linear_rows(struct sp_gpu *gpu, struct sp__product *p, struct sp_gpu_array x, size_t rows,
    struct sp_gpu_array bias, struct sp_gpu_array y, struct sp_err *err)
{
	enum sp_code rc = SP_OK;

	p->a.at = at<void>(x);
	p->c = at<void>(y);
	if (bias.count > 0)
		rc = SP_BY_TYPE(y.type, fill, gpu, bias, rows, p->n, y, err);
	return rc != SP_OK ? rc : sp__gemm(gpu, p, err);
}

/* The last rows, fewer than SP_GPU_ROWS: between copies. */
static enum sp_code
linear_rest(struct sp_gpu *gpu, struct sp__product *p, struct sp_gpu_array x, size_t rows,
    struct sp_gpu_array bias, struct sp_gpu_array y, struct sp_err *err)
{
	struct sp_gpu_array in = {}, out = {};
	enum sp_code rc;

	if ((rc = sp_gpu_alloc(gpu, x.type, SP_GPU_ROWS * p->k, &in, err)) ||
	    (rc = sp_gpu_alloc(gpu, y.type, SP_GPU_ROWS * p->n, &out, err)) ||
	    (rc = sp_gpu_zero(gpu, in, err)) ||
	    (rc = sp_gpu_convert(gpu, x, sp_gpu_part(in, 0, rows * p->k), err)) ||
	    (rc = linear_rows(gpu, p, in, SP_GPU_ROWS, bias, out, err)))
		goto done;
	rc = sp_gpu_convert(gpu, sp_gpu_part(out, 0, rows * p->n), y, err);
done:
	sp_gpu_free(gpu, &in);
	sp_gpu_free(gpu, &out);
	return rc;
}

enum sp_code
sp_gpu_linear(struct sp_gpu *gpu, struct sp_gpu_array x, size_t n, size_t in, struct sp_gpu_array w,
    struct sp_gpu_array bias, size_t out, struct sp_gpu_array y, struct sp_err *err)
{
	struct sp__product p = {};
	enum sp_code rc = SP_OK;

	SP_ASSERT(x.type == w.type && x.count >= n * in && w.count >= out * in);
	SP_ASSERT(y.type == x.type || y.type == SP_GPU_F32); /* cuBLASLt has no others */
	SP_ASSERT(y.count >= n * out && (bias.count == 0 || bias.count >= out));
	p.type = x.type;
	p.result = y.type;
	p.m = SP_GPU_ROWS;
	p.n = out;
	p.k = in;
	p.alpha = 1;
	p.beta = bias.count > 0 ? 1 : 0;
	p.a.stride = p.b.stride = in;
	p.b.at = at<void>(w);
	p.b.transposed = 1;
	p.c_stride = out;
	for (size_t row = 0; row < n && rc == SP_OK; row += SP_GPU_ROWS) {
		size_t rows = n - row < SP_GPU_ROWS ? n - row : SP_GPU_ROWS;
		struct sp_gpu_array from = sp_gpu_part(x, row * in, rows * in);
		struct sp_gpu_array to = sp_gpu_part(y, row * out, rows * out);

		rc = rows == SP_GPU_ROWS ? linear_rows(gpu, &p, from, rows, bias, to, err)
					 : linear_rest(gpu, &p, from, rows, bias, to, err);
	}
	return rc;
}
