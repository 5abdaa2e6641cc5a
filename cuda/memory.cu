/* memory.cu -- arrays within the limit: what is freed is kept for the next of its size. */
#include "gpu.h"

size_t
sp_gpu_type_size(enum sp_gpu_type type)
{
	static const size_t sizes[] = {4, 2, 2, 4, 1, 8};

	return sizes[type];
}

enum sp_code
sp__gpu_check(cudaError_t error, const char *what, struct sp_err *err)
{
	if (error == cudaSuccess)
		return SP_OK;
	/* CUDA would report it once more, as the next launch's */
	(void)cudaGetLastError();
	return sp_err_set(err, error == cudaErrorMemoryAllocation ? SP_E_NO_MEMORY : SP_E_INTERNAL,
	    "GPU: %s: %s", what, cudaGetErrorString(error));
}

static void
drop(struct sp_gpu *gpu, size_t i)
{
	gpu->info.used -= gpu->blocks[i].size;
	cudaFree(gpu->blocks[i].at);
	gpu->blocks[i] = gpu->blocks[--gpu->block_count];
}

/* Gives back what nobody uses until size more fits; the largest first. */
static void
make_room(struct sp_gpu *gpu, size_t size)
{
	while (gpu->info.used + size > gpu->info.limit) {
		size_t best = gpu->block_count;

		for (size_t i = 0; i < gpu->block_count; i++) {
			if (!gpu->blocks[i].used &&
			    (best == gpu->block_count ||
				gpu->blocks[i].size > gpu->blocks[best].size))
				best = i;
		}
		if (best == gpu->block_count)
			return;
		drop(gpu, best);
	}
}

/* Others may have taken what the limit leaves: once more without what is kept. */
static cudaError_t
allocate(struct sp_gpu *gpu, size_t size, void **out)
{
	cudaError_t error = cudaMalloc(out, size);

	if (error != cudaErrorMemoryAllocation)
		return error;
	(void)cudaGetLastError();
	for (size_t i = gpu->block_count; i-- > 0;) {
		if (!gpu->blocks[i].used)
			drop(gpu, i);
	}
	return cudaMalloc(out, size);
}

/* A kept block that wastes at most an eighth. */
static int
reuse(struct sp_gpu *gpu, size_t size, void **out)
{
	struct sp_gpu_block *best = NULL;

	for (size_t i = 0; i < gpu->block_count; i++) {
		struct sp_gpu_block *block = &gpu->blocks[i];

		if (!block->used && block->size >= size && block->size - size <= size / 8 &&
		    (best == NULL || block->size < best->size))
			best = block;
	}
	if (best == NULL)
		return 0;
	best->used = best->recycled = 1;
	*out = best->at;
	return 1;
}

static enum sp_code
take(struct sp_gpu *gpu, size_t size, void **out, struct sp_err *err)
{
	enum sp_code rc;

	if (reuse(gpu, size, out))
		return SP_OK;
	make_room(gpu, size);
	if (gpu->info.used + size > gpu->info.limit)
		return sp_err_set(err, SP_E_NO_MEMORY,
		    "%zu MiB of GPU memory do not fit: %zu of %zu MiB are in use; raise the limit",
		    size >> 20, gpu->info.used >> 20, gpu->info.limit >> 20);
	if ((rc = sp__gpu_check(allocate(gpu, size, out), "memory", err)))
		return rc;
	if (gpu->block_count == gpu->block_max) {
		gpu->block_max = gpu->block_max * 2 + 64;
		gpu->blocks = (struct sp_gpu_block *)sp_xrealloc(
		    gpu->blocks, gpu->block_max, sizeof(*gpu->blocks));
	}
	gpu->blocks[gpu->block_count++] = (struct sp_gpu_block){*out, size, 1, 0, 0};
	gpu->info.used += size;
	if (gpu->info.used > gpu->info.peak)
		gpu->info.peak = gpu->info.used;
	return SP_OK;
}

enum sp_code
sp_gpu_alloc(struct sp_gpu *gpu, enum sp_gpu_type type, size_t count, struct sp_gpu_array *out,
    struct sp_err *err)
{
	size_t size;
	void *memory = NULL;
	enum sp_code rc;

	memset(out, 0, sizeof(*out));
	out->type = type;
	if (count == 0)
		return SP_OK;
	if (__builtin_mul_overflow(count, sp_gpu_type_size(type), &size) || size > SIZE_MAX / 2)
		return sp_err_set(err, SP_E_NO_MEMORY, "%zu values of GPU memory", count);
	if ((rc = take(gpu, ceil_div(size, 256) * 256, &memory, err)))
		return rc;
	out->at = (uintptr_t)memory;
	out->count = count;
	return SP_OK;
}

struct sp_gpu_block *
sp__gpu_block(struct sp_gpu *gpu, struct sp_gpu_array array)
{
	for (size_t i = 0; i < gpu->block_count; i++) {
		uintptr_t first = (uintptr_t)gpu->blocks[i].at;

		if (array.at >= first && array.at - first < gpu->blocks[i].size)
			return &gpu->blocks[i];
	}
	SP_ASSERT(!"an array that is none");
	return NULL;
}

void
sp_gpu_free(struct sp_gpu *gpu, struct sp_gpu_array *array)
{
	struct sp_gpu_block *block;

	if (array->at == 0)
		return;
	block = sp__gpu_block(gpu, *array);
	SP_ASSERT(block->used && (uintptr_t)block->at == array->at);
	if (block->copied)
		sp__gpu_copies_finish(gpu);
	block->used = block->copied = 0;
	/* of an own allocation each time, so that a use after this is seen */
	if (gpu->info.emulated)
		drop(gpu, (size_t)(block - gpu->blocks));
	memset(array, 0, sizeof(*array));
}

struct sp_gpu_array
sp_gpu_part(struct sp_gpu_array array, size_t first, size_t count)
{
	SP_ASSERT(first <= array.count && count <= array.count - first);
	array.at += first * sp_gpu_type_size(array.type);
	array.count = count;
	return array;
}

enum sp_code
sp_gpu_zero(struct sp_gpu *gpu, struct sp_gpu_array array, struct sp_err *err)
{
	if (array.count == 0)
		return SP_OK;
	return sp__gpu_check(cudaMemsetAsync(at<void>(array), 0,
				 array.count * sp_gpu_type_size(array.type), gpu->stream),
	    "clearing", err);
}

static enum sp_code
copy(struct sp_gpu *gpu, void *to, const void *from, size_t size, struct sp_err *err)
{
	enum sp_code rc;

	if (size == 0)
		return SP_OK;
	rc = sp__gpu_check(
	    cudaMemcpyAsync(to, from, size, cudaMemcpyDefault, gpu->stream), "copying", err);
	return rc != SP_OK ? rc
			   : sp__gpu_check(cudaStreamSynchronize(gpu->stream), "an operation", err);
}

enum sp_code
sp_gpu_write(struct sp_gpu *gpu, struct sp_gpu_array to, const void *from, struct sp_err *err)
{
	return copy(gpu, at<void>(to), from, to.count * sp_gpu_type_size(to.type), err);
}

enum sp_code
sp_gpu_read(struct sp_gpu *gpu, struct sp_gpu_array from, void *to, struct sp_err *err)
{
	return copy(gpu, to, at<void>(from), from.count * sp_gpu_type_size(from.type), err);
}

void
sp_gpu_describe(const struct sp_gpu *gpu, struct sp_gpu_info *info)
{
	*info = gpu->info;
}
