/* device.cu -- opening a device, its streams, copies beside the operations. */
#include "gpu.h"

#include <stdio.h>

/* Each order is a stream. Serial s of an order has event s % MARKS; once that is used again by a
 * later one, waiting for the later one is waiting for both. */
#define MARKS 64

enum { OPERATIONS, UPLOADS, DOWNLOADS, ORDERS };

struct sp_gpu_state {
	cudaStream_t streams[ORDERS];
	cudaEvent_t events[ORDERS][MARKS];
	uint64_t serials[ORDERS]; /* of the last mark */
};

enum sp_code sp__lt_open(struct sp_gpu *gpu, struct sp_err *err);
void sp__lt_close(struct sp_gpu *gpu);

static enum sp_code
pick(struct sp_gpu *gpu, unsigned device, struct sp_err *err)
{
	cudaDeviceProp prop;
	int count = 0, version = 0;
	size_t free_bytes, total;
	cudaError_t error = cudaGetDeviceCount(&count);
	enum sp_code rc;

	if (error != cudaSuccess || (int)device >= count)
		return sp_err_set(err, SP_E_NOT_FOUND, "no GPU %u: %s", device,
		    error != cudaSuccess ? cudaGetErrorString(error) : "the driver has fewer");
	if ((rc = sp__gpu_check(cudaSetDevice((int)device), "device", err)) ||
	    (rc = sp__gpu_check(cudaGetDeviceProperties(&prop, (int)device), "device", err)) ||
	    (rc = sp__gpu_check(cudaDriverGetVersion(&version), "driver", err)) ||
	    (rc = sp__gpu_check(cudaMemGetInfo(&free_bytes, &total), "memory", err)))
		return rc;
	if (prop.major < 8)
		return sp_err_set(err, SP_E_UNSUPPORTED, "GPU %u is an sm_%d%d: sm_80 is the least",
		    device, prop.major, prop.minor);
	snprintf(gpu->info.name, sizeof(gpu->info.name), "%.63s", prop.name);
	snprintf(gpu->info.driver, sizeof(gpu->info.driver), "%d.%d", version / 1000,
	    version % 1000 / 10);
	gpu->info.memory = total;
	gpu->info.processors = (unsigned)prop.multiProcessorCount;
	return SP_OK;
}

static enum sp_code
open_streams(struct sp_gpu *gpu, struct sp_err *err)
{
	struct sp_gpu_state *state = gpu->state;
	enum sp_code rc = SP_OK;

	for (int i = 0; i < ORDERS && rc == SP_OK; i++) {
		rc = sp__gpu_check(
		    cudaStreamCreateWithFlags(&state->streams[i], cudaStreamNonBlocking), "stream",
		    err);
		for (int k = 0; k < MARKS && rc == SP_OK; k++)
			rc = sp__gpu_check(cudaEventCreate(&state->events[i][k]), "event", err);
	}
	gpu->stream = state->streams[OPERATIONS];
	return rc;
}

enum sp_code
sp_gpu_open(unsigned device, size_t limit, struct sp_gpu **out, struct sp_err *err)
{
	struct sp_gpu *gpu = (struct sp_gpu *)sp_xcalloc(1, sizeof(*gpu));
	struct sp_gpu_array workspace;
	enum sp_code rc;

	gpu->info.limit = limit;
	gpu->state = (struct sp_gpu_state *)sp_xcalloc(1, sizeof(*gpu->state));
	if ((rc = pick(gpu, device, err)) || (rc = open_streams(gpu, err)) ||
	    (rc = sp_gpu_alloc(gpu, SP_GPU_U8, SP_GPU_WORKSPACE, &workspace, err)) ||
	    (rc = sp__lt_open(gpu, err))) {
		sp_gpu_close(&gpu);
		return rc;
	}
	gpu->workspace = at<void>(workspace);
	*out = gpu;
	return SP_OK;
}

void
sp_gpu_close(struct sp_gpu **gpu_at)
{
	struct sp_gpu *gpu = *gpu_at;

	if (gpu == NULL)
		return;
	cudaDeviceSynchronize();
	sp__lt_close(gpu);
	for (size_t i = 0; i < gpu->block_count; i++)
		cudaFree(gpu->blocks[i].at);
	for (int i = 0; i < ORDERS; i++) {
		for (int k = 0; k < MARKS; k++) {
			if (gpu->state->events[i][k] != NULL)
				cudaEventDestroy(gpu->state->events[i][k]);
		}
		if (gpu->state->streams[i] != NULL)
			cudaStreamDestroy(gpu->state->streams[i]);
	}
	free(gpu->blocks);
	free(gpu->state);
	free(gpu);
	*gpu_at = NULL;
}

enum sp_code
sp_gpu_finish(struct sp_gpu *gpu, struct sp_err *err)
{
	enum sp_code rc = SP_OK;

	for (int i = 0; i < ORDERS && rc == SP_OK; i++)
		rc = sp__gpu_check(
		    cudaStreamSynchronize(gpu->state->streams[i]), "an operation", err);
	return rc;
}

void
sp__gpu_copies_finish(struct sp_gpu *gpu)
{
	(void)cudaStreamSynchronize(gpu->state->streams[UPLOADS]);
	(void)cudaStreamSynchronize(gpu->state->streams[DOWNLOADS]);
}

enum sp_code
sp_gpu_host_alloc(struct sp_gpu *gpu, size_t size, void **out, struct sp_err *err)
{
	(void)gpu;
	return sp__gpu_check(cudaMallocHost(out, size), "host memory", err);
}

void
sp_gpu_host_free(struct sp_gpu *gpu, void *memory)
{
	(void)gpu;
	cudaFreeHost(memory);
}

static cudaEvent_t
event_of(const struct sp_gpu *gpu, struct sp_gpu_mark mark)
{
	return gpu->state->events[mark.order][mark.serial % MARKS];
}

static enum sp_code
mark_order(struct sp_gpu *gpu, unsigned order, struct sp_gpu_mark *mark, struct sp_err *err)
{
	mark->order = order;
	mark->serial = ++gpu->state->serials[order];
	return sp__gpu_check(
	    cudaEventRecord(event_of(gpu, *mark), gpu->state->streams[order]), "mark", err);
}

static enum sp_code
wait_in(struct sp_gpu *gpu, unsigned order, struct sp_gpu_mark mark, struct sp_err *err)
{
	if (mark.serial == 0)
		return SP_OK;
	return sp__gpu_check(
	    cudaStreamWaitEvent(gpu->state->streams[order], event_of(gpu, mark), 0), "mark", err);
}

/* The array's block belongs to a copy of that order, which does not know of the operations that
 * the block's former owner called. */
static enum sp_code
claim(struct sp_gpu *gpu, unsigned order, struct sp_gpu_array array, struct sp_err *err)
{
	struct sp_gpu_block *block = sp__gpu_block(gpu, array);
	struct sp_gpu_mark now;
	enum sp_code rc = SP_OK;

	if (block->recycled && (rc = mark_order(gpu, OPERATIONS, &now, err)) == SP_OK)
		rc = wait_in(gpu, order, now, err);
	if (rc == SP_OK) {
		block->recycled = 0;
		block->copied = 1;
	}
	return rc;
}

static enum sp_code
transfer(struct sp_gpu *gpu, unsigned order, struct sp_gpu_mark after, struct sp_gpu_array array,
    void *to, const void *from, struct sp_gpu_mark *mark, struct sp_err *err)
{
	size_t size = array.count * sp_gpu_type_size(array.type);
	enum sp_code rc = wait_in(gpu, order, after, err);

	if (rc == SP_OK && size > 0 && (rc = claim(gpu, order, array, err)) == SP_OK)
		rc = sp__gpu_check(
		    cudaMemcpyAsync(to, from, size, cudaMemcpyDefault, gpu->state->streams[order]),
		    "transfer", err);
	return rc == SP_OK ? mark_order(gpu, order, mark, err) : rc;
}

enum sp_code
sp_gpu_upload(struct sp_gpu *gpu, struct sp_gpu_mark after, struct sp_gpu_array to,
    const void *from, struct sp_gpu_mark *mark, struct sp_err *err)
{
	return transfer(gpu, UPLOADS, after, to, at<void>(to), from, mark, err);
}

enum sp_code
sp_gpu_download(struct sp_gpu *gpu, struct sp_gpu_mark after, struct sp_gpu_array from, void *to,
    struct sp_gpu_mark *mark, struct sp_err *err)
{
	return transfer(gpu, DOWNLOADS, after, from, to, at<void>(from), mark, err);
}

enum sp_code
sp_gpu_mark(struct sp_gpu *gpu, struct sp_gpu_mark *mark, struct sp_err *err)
{
	return mark_order(gpu, OPERATIONS, mark, err);
}

enum sp_code
sp_gpu_after(struct sp_gpu *gpu, struct sp_gpu_mark mark, struct sp_err *err)
{
	return wait_in(gpu, OPERATIONS, mark, err);
}

enum sp_code
sp_gpu_wait(struct sp_gpu *gpu, struct sp_gpu_mark mark, struct sp_err *err)
{
	if (mark.serial == 0)
		return SP_OK;
	return sp__gpu_check(cudaEventSynchronize(event_of(gpu, mark)), "an operation", err);
}

enum sp_code
sp_gpu_elapsed(struct sp_gpu *gpu, struct sp_gpu_mark from, struct sp_gpu_mark to, double *ms,
    struct sp_err *err)
{
	float value = 0;
	enum sp_code rc = sp__gpu_check(
	    cudaEventElapsedTime(&value, event_of(gpu, from), event_of(gpu, to)), "timing", err);

	*ms = value;
	return rc;
}
