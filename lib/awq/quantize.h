/* quantize.h -- a checkpoint directory in, its 4-bit AWQ checkpoint out; on the CPU. */
#ifndef SP_QUANTIZE_H
#define SP_QUANTIZE_H

#include "awq/plan.h"
#include "base/json.h"
#include "engine/pool.h"

#define SP_QUANTIZE_METHOD "awq" /* AutoAWQ's steps (awq/block.h) */
#define SP_QUANTIZE_PLUS "awq+"	 /* ours (awq/plus.h) */
#define SP_QUANTIZE_SHARD_BYTES (UINT64_C(5) << 30)
#define SP_QUANTIZE_ROWS_BYTES ((size_t)512 << 20)

struct sp_quantize {
	const char *source; /* checkpoint directory, only read */
	/* Finished layers are kept here, so that a run that was killed goes on after the last of
	 * them. It must belong to these very inputs: name it after their digests. */
	const char *work;
	const char *out;	    /* directory written; what is there is replaced */
	const uint8_t *calibration; /* JSONL (awq/calib.h) */
	size_t calibration_size;
	const char *method; /* SP_QUANTIZE_METHOD (NULL: that) or SP_QUANTIZE_PLUS */
	size_t group_size;  /* 32, 64 or 128 */
	int symmetric;	    /* 1: all zero points are 8 */
	/* modules_to_not_convert, and what to do where group_size does not fit (awq/plan.h) */
	const char *const *skip;
	size_t skip_count;
	enum sp_plan_fallback fallback;
	size_t samples, sequence;
	uint64_t shard_bytes; /* 0: SP_QUANTIZE_SHARD_BYTES */
	/* A matrix of activations with more than this lies in a file in work, not in memory; 0:
	 * SP_QUANTIZE_ROWS_BYTES. No byte of the result depends on it. */
	size_t rows_bytes;
	struct sp_pool *pool;
	/* Layers that are done, at the start and after each; layer: the numbers of the newest
	 * (awq/partial.h), NULL at the start. May be NULL. */
	void (*progress)(void *arg, size_t done, size_t total, const json_t *layer);
	/* Bytes of weights that were looked at before the first layer (awq/inspect.h). May be
	 * NULL. */
	void (*inspected)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
	void *arg;
};

/*
 * The same inputs give the same bytes, on any number of threads, interrupted or not. report (new):
 *	{"blocks": N, "layers": [as in awq/partial.h, …], "method": "awq+", "plan": {…, awq/plan.h},
 *	"skipped": texts not used, "texts": used}
 */
enum sp_code sp_quantize_run(
    const struct sp_quantize *quantize, json_t **report, struct sp_err *err) SP_MUST_USE;

#endif
