/* gemm_lt.cu -- products through cuBLASLt, one algorithm for each shape. */
#include "gpu.h"

#include <cublasLt.h>

/* What a product's algorithm depends on. cuBLASLt proposes one by the shape, the same each time on
 * one model of GPU; none whose sums are split over K, so that a value is one sum in one order. */
struct shape {
	enum sp_gpu_type type, result;
	int fast, transposed_a, transposed_b;
	size_t m, n, k, stride_a, stride_b, stride_c;
	unsigned aligned; /* the addresses' common alignment, up to 16 */
};

struct plan {
	struct shape shape;
	cublasLtMatmulAlgo_t algo;
	uint64_t used;
};

#define PLANS 256 /* remembered */

struct sp_gpu_lt {
	cublasLtHandle_t handle;
	struct plan plans[PLANS];
	uint64_t clock;
};

/* A product's descriptions, column-major: cᵀ = op(b)ᵀ·op(a)ᵀ. */
struct call {
	cublasLtMatmulDesc_t product;
	cublasLtMatrixLayout_t a, b, c;
};

static enum sp_code
lt_check(cublasStatus_t status, const char *what, struct sp_err *err)
{
	if (status == CUBLAS_STATUS_SUCCESS)
		return SP_OK;
	return sp_err_set(err, SP_E_INTERNAL, "GPU: %s: %s", what, cublasLtGetStatusString(status));
}

enum sp_code
sp__lt_open(struct sp_gpu *gpu, struct sp_err *err)
{
	gpu->lt = (struct sp_gpu_lt *)sp_xcalloc(1, sizeof(*gpu->lt));
	return lt_check(cublasLtCreate(&gpu->lt->handle), "cuBLASLt", err);
}

void
sp__lt_close(struct sp_gpu *gpu)
{
	if (gpu->lt == NULL)
		return;
	if (gpu->lt->handle != NULL)
		cublasLtDestroy(gpu->lt->handle);
	free(gpu->lt);
	gpu->lt = NULL;
}

static cudaDataType
data_type(enum sp_gpu_type type)
{
	SP_ASSERT(type == SP_GPU_F32 || type == SP_GPU_F16 || type == SP_GPU_BF16);
	return type == SP_GPU_F32 ? CUDA_R_32F : type == SP_GPU_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

static unsigned
alignment(const struct sp__product *p)
{
	uintptr_t all = (uintptr_t)p->a.at | (uintptr_t)p->b.at | (uintptr_t)p->c | 16;

	return (unsigned)(all & -all);
}

static void
close_call(struct call *call)
{
	if (call->product != NULL)
		cublasLtMatmulDescDestroy(call->product);
	if (call->a != NULL)
		cublasLtMatrixLayoutDestroy(call->a);
	if (call->b != NULL)
		cublasLtMatrixLayoutDestroy(call->b);
	if (call->c != NULL)
		cublasLtMatrixLayoutDestroy(call->c);
}

static cublasStatus_t
layout(cublasLtMatrixLayout_t *out, enum sp_gpu_type type, size_t rows, size_t columns,
    size_t stride, int transposed)
{
	/* a row-major matrix is its transpose's columns */
	return cublasLtMatrixLayoutCreate(out, data_type(type), transposed ? rows : columns,
	    transposed ? columns : rows, (int64_t)stride);
}

static enum sp_code
open_call(struct call *call, const struct sp__product *p, struct sp_err *err)
{
	cublasComputeType_t compute =
	    p->fast && p->type == SP_GPU_F32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
	cublasOperation_t a = p->b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
	cublasOperation_t b = p->a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
	cublasStatus_t status;

	memset(call, 0, sizeof(*call));
	if ((status = cublasLtMatmulDescCreate(&call->product, compute, CUDA_R_32F)) ||
	    (status = cublasLtMatmulDescSetAttribute(
		 call->product, CUBLASLT_MATMUL_DESC_TRANSA, &a, sizeof(a))) ||
	    (status = cublasLtMatmulDescSetAttribute(
		 call->product, CUBLASLT_MATMUL_DESC_TRANSB, &b, sizeof(b))) ||
	    (status = layout(&call->a, p->type, p->k, p->n, p->b.stride, p->b.transposed)) ||
	    (status = layout(&call->b, p->type, p->m, p->k, p->a.stride, p->a.transposed)) ||
	    (status = layout(&call->c, p->result, p->m, p->n, p->c_stride, 0)))
		return lt_check(status, "a product's shape", err);
	return SP_OK;
}

static enum sp_code
propose(struct sp_gpu *gpu, const struct call *call, const struct shape *shape,
    cublasLtMatmulAlgo_t *algo, struct sp_err *err)
{
	cublasLtMatmulPreference_t preference = NULL;
	cublasLtMatmulHeuristicResult_t found;
	size_t workspace = SP_GPU_WORKSPACE;
	uint32_t whole = CUBLASLT_REDUCTION_SCHEME_NONE, aligned = shape->aligned;
	int count = 0;
	cublasStatus_t status;

	if ((status = cublasLtMatmulPreferenceCreate(&preference)) ||
	    (status = cublasLtMatmulPreferenceSetAttribute(preference,
		 CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof(workspace))) ||
	    (status = cublasLtMatmulPreferenceSetAttribute(
		 preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &whole, sizeof(whole))) ||
	    (status = cublasLtMatmulPreferenceSetAttribute(preference,
		 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &aligned, sizeof(aligned))) ||
	    (status = cublasLtMatmulPreferenceSetAttribute(preference,
		 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &aligned, sizeof(aligned))) ||
	    (status = cublasLtMatmulPreferenceSetAttribute(preference,
		 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &aligned, sizeof(aligned))) ||
	    (status = cublasLtMatmulPreferenceSetAttribute(preference,
		 CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &aligned, sizeof(aligned))))
		goto out;
	status = cublasLtMatmulAlgoGetHeuristic(gpu->lt->handle, call->product, call->a, call->b,
	    call->c, call->c, preference, 1, &found, &count);
	if (status == CUBLAS_STATUS_SUCCESS && count == 0)
		status = CUBLAS_STATUS_NOT_SUPPORTED;
	if (status == CUBLAS_STATUS_SUCCESS)
		*algo = found.algo;
out:
	if (preference != NULL)
		cublasLtMatmulPreferenceDestroy(preference);
	return lt_check(status, "an algorithm for a product", err);
}

/* The shape's plan, proposed on first use in the place of the longest unused. */
static enum sp_code
plan_of(struct sp_gpu *gpu, const struct call *call, const struct shape *shape, struct plan **out,
    struct sp_err *err)
{
	struct plan *plan = gpu->lt->plans;
	enum sp_code rc;

	for (size_t i = 0; i < PLANS; i++) {
		struct plan *other = &gpu->lt->plans[i];

		if (other->used > 0 && memcmp(&other->shape, shape, sizeof(*shape)) == 0) {
			other->used = ++gpu->lt->clock;
			*out = other;
			return SP_OK;
		}
		plan = other->used < plan->used ? other : plan;
	}
	plan->used = 0;
	if ((rc = propose(gpu, call, shape, &plan->algo, err)))
		return rc;
	memcpy(&plan->shape, shape, sizeof(*shape));
	plan->used = ++gpu->lt->clock;
	*out = plan;
	return SP_OK;
}

enum sp_code
sp__gemm(struct sp_gpu *gpu, const struct sp__product *p, struct sp_err *err)
{
	struct shape shape;
	struct call call;
	struct plan *plan;
	enum sp_code rc;

	memset(&shape, 0, sizeof(shape)); /* compared as bytes */
	shape.type = p->type;
	shape.result = p->result;
	shape.fast = p->fast;
	shape.transposed_a = p->a.transposed;
	shape.transposed_b = p->b.transposed;
	shape.m = p->m;
	shape.n = p->n;
	shape.k = p->k;
	shape.stride_a = p->a.stride;
	shape.stride_b = p->b.stride;
	shape.stride_c = p->c_stride;
	shape.aligned = alignment(p);
	if ((rc = open_call(&call, p, err)) || (rc = plan_of(gpu, &call, &shape, &plan, err)))
		goto out;
	rc = lt_check(cublasLtMatmul(gpu->lt->handle, call.product, &p->alpha, p->b.at, call.a,
			  p->a.at, call.b, &p->beta, p->c, call.c, p->c, call.c, &plan->algo,
			  gpu->workspace, SP_GPU_WORKSPACE, gpu->stream),
	    "a product", err);
out:
	close_call(&call);
	return rc;
}
