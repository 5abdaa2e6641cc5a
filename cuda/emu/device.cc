/* device.cc -- device.cu's twin: host memory, and copies that are done at once. */
#include "gpu.h"

#include <stdio.h>
#include <time.h>

/* The moments of the last marks, in ns. */
#define MARKS 64

struct sp_gpu_state {
	uint64_t serials[3];
	double ms[MARKS];
};

enum sp_code
sp_gpu_open(unsigned device, size_t limit, struct sp_gpu **out, struct sp_err *err)
{
	struct sp_gpu *gpu = (struct sp_gpu *)sp_xcalloc(1, sizeof(*gpu));
	const char *order = getenv("SALLYPORT_EMU_ORDER");

	if (device != 0) {
		free(gpu);
		return sp_err_set(err, SP_E_NOT_FOUND, "no GPU %u: the emulator is one", device);
	}
	emu_order = order != NULL ? (unsigned)strtoul(order, NULL, 10) : 0;
	snprintf(gpu->info.name, sizeof(gpu->info.name), "emulator");
	gpu->info.limit = gpu->info.memory = limit;
	gpu->info.processors = 1;
	gpu->info.emulated = 1;
	gpu->state = (struct sp_gpu_state *)sp_xcalloc(1, sizeof(*gpu->state));
	*out = gpu;
	return SP_OK;
}

void
sp_gpu_close(struct sp_gpu **gpu)
{
	if (*gpu == NULL)
		return;
	for (size_t i = 0; i < (*gpu)->block_count; i++)
		cudaFree((*gpu)->blocks[i].at);
	free((*gpu)->blocks);
	free((*gpu)->state);
	free(*gpu);
	*gpu = NULL;
}

enum sp_code
sp_gpu_finish(struct sp_gpu *, struct sp_err *)
{
	return SP_OK;
}

void
sp__gpu_copies_finish(struct sp_gpu *)
{
}

enum sp_code
sp_gpu_host_alloc(struct sp_gpu *, size_t size, void **out, struct sp_err *err)
{
	*out = malloc(size);
	return *out != NULL ? SP_OK : sp_err_set(err, SP_E_NO_MEMORY, "%zu bytes", size);
}

void
sp_gpu_host_free(struct sp_gpu *, void *memory)
{
	free(memory);
}

static enum sp_code
transfer(struct sp_gpu *gpu, unsigned order, void *to, const void *from, size_t size,
    struct sp_gpu_mark *mark)
{
	memcpy(to, from, size);
	mark->order = order;
	mark->serial = ++gpu->state->serials[order];
	return SP_OK;
}

enum sp_code
sp_gpu_upload(struct sp_gpu *gpu, struct sp_gpu_mark, struct sp_gpu_array to, const void *from,
    struct sp_gpu_mark *mark, struct sp_err *)
{
	return transfer(gpu, 1, at<void>(to), from, to.count * sp_gpu_type_size(to.type), mark);
}

enum sp_code
sp_gpu_download(struct sp_gpu *gpu, struct sp_gpu_mark, struct sp_gpu_array from, void *to,
    struct sp_gpu_mark *mark, struct sp_err *)
{
	return transfer(gpu, 2, to, at<void>(from), from.count * sp_gpu_type_size(from.type), mark);
}

enum sp_code
sp_gpu_mark(struct sp_gpu *gpu, struct sp_gpu_mark *mark, struct sp_err *)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	mark->order = 0;
	mark->serial = ++gpu->state->serials[0];
	gpu->state->ms[mark->serial % MARKS] = (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
	return SP_OK;
}

enum sp_code
sp_gpu_after(struct sp_gpu *, struct sp_gpu_mark, struct sp_err *)
{
	return SP_OK;
}

enum sp_code
sp_gpu_wait(struct sp_gpu *, struct sp_gpu_mark, struct sp_err *)
{
	return SP_OK;
}

enum sp_code
sp_gpu_elapsed(
    struct sp_gpu *gpu, struct sp_gpu_mark from, struct sp_gpu_mark to, double *ms, struct sp_err *)
{
	*ms = gpu->state->ms[to.serial % MARKS] - gpu->state->ms[from.serial % MARKS];
	return SP_OK;
}
