/* inspect.c -- whether weights can become a 4-bit checkpoint at all. */
#include "awq/inspect.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNK ((size_t)4 << 20) /* values looked at between two reports */
#define RUN ((size_t)1024)	/* values looked at without a branch */

/*
 * Without its sign a float's bits rise with its value, infinity and the NaNs on top, so that one
 * comparison of integers finds both what is not finite and what fp16 cannot hold: 65520, which
 * rounds to infinity (IEEE 754, halves to even), is 0x477ff000 in fp32; the first of bfloat16 above
 * the largest fp16 is 65536, 0x4780.
 */
#define F32_BAD UINT32_C(0x477ff000)
#define BF16_BAD UINT16_C(0x4780)
#define F16_BAD UINT16_C(0x7c00)

static int
bad_halves(const uint8_t *data, size_t count, uint16_t bad)
{
	uint16_t most = 0, bits;

	for (size_t i = 0; i < count; i++) {
		memcpy(&bits, data + 2 * i, sizeof(bits));
		bits &= 0x7fff;
		most = bits > most ? bits : most;
	}
	return most >= bad;
}

static int
bad_singles(const uint8_t *data, size_t count)
{
	uint32_t most = 0, bits;

	for (size_t i = 0; i < count; i++) {
		memcpy(&bits, data + 4 * i, sizeof(bits));
		bits &= UINT32_C(0x7fffffff);
		most = bits > most ? bits : most;
	}
	return most >= F32_BAD;
}

static int
is_bad(enum sp_dtype dtype, const uint8_t *data, size_t count)
{
	switch (dtype) {
	case SP_F32:
		return bad_singles(data, count);
	case SP_BF16:
		return bad_halves(data, count, BF16_BAD);
	case SP_F16:
		return bad_halves(data, count, F16_BAD);
	default:
		return 0;
	}
}

size_t
sp_inspect_values(enum sp_dtype dtype, const uint8_t *data, size_t count)
{
	size_t size = sp_dtype_size(dtype);

	for (size_t i = 0; i < count; i += RUN) {
		size_t n = count - i < RUN ? count - i : RUN, k = 0;

		if (!is_bad(dtype, data + i * size, n))
			continue;
		while (!is_bad(dtype, data + (i + k) * size, 1))
			k++;
		return i + k;
	}
	return count;
}

/* The pages that lie wholly within: the mapping reads them again when they are wanted. */
static void
give_back(const uint8_t *data, size_t size)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t begin = ((uintptr_t)data + page - 1) / page * page;
	uintptr_t end = ((uintptr_t)data + size) / page * page;

	if (end > begin)
		madvise((void *)begin, end - begin, MADV_DONTNEED);
}

static enum sp_code
refuse(const struct sp_weights *weights, size_t which, size_t at, struct sp_err *err)
{
	const struct sp_tensor *tensor = sp_weights_at(weights, which);
	float value;

	sp_dtype_to_f32(tensor->dtype, tensor->data + at * sp_dtype_size(tensor->dtype), &value, 1);
	return sp_err_set(err, SP_E_INVALID, "%s: tensor %s: value %zu is %g: %s",
	    sp_weights_file_at(weights, which), tensor->name, at, (double)value,
	    isfinite(value) ? "fp16, which the new checkpoint holds, ends at 65504"
			    : "the file is damaged, or its training was");
}

enum sp_code
sp_inspect_weights(const struct sp_weights *weights, sp_inspect_progress_fn *progress, void *arg,
    struct sp_err *err)
{
	uint64_t done = 0, total = 0;

	for (size_t i = 0; i < sp_weights_count(weights); i++)
		total += sp_weights_at(weights, i)->size;
	for (size_t i = 0; i < sp_weights_count(weights); i++) {
		const struct sp_tensor *tensor = sp_weights_at(weights, i);
		size_t size = sp_dtype_size(tensor->dtype), count = tensor->size / size;

		for (size_t at = 0; at < count; at += CHUNK) {
			size_t n = count - at < CHUNK ? count - at : CHUNK, found;

			found = sp_inspect_values(tensor->dtype, tensor->data + at * size, n);
			if (found < n)
				return refuse(weights, i, at + found, err);
			give_back(tensor->data + at * size, n * size);
			done += n * size;
			if (progress != NULL)
				progress(arg, done, total);
		}
	}
	return SP_OK;
}
