/* emit.h -- the quantized checkpoint as a directory, from the results of all layers. */
#ifndef SP_EMIT_H
#define SP_EMIT_H

#include "awq/plan.h"
#include "base/json.h"
#include "engine/weights.h"

struct sp_emit {
	const char *source;		  /* checkpoint directory */
	const struct sp_weights *weights; /* of it */
	const char *work;		  /* results of every layer (awq/partial.h) */
	const char *out;		  /* written; what is there is replaced */
	const struct sp_plan *plan;
	uint64_t shard_bytes; /* weights beyond this are split into shards and an index */
};

/*
 * Writes
 *	model.safetensors  the layers' tensors; embeddings, norms and head as f16, and no head when
 *it is tied (or model-NNNNN-of-NNNNN.safetensors, model.safetensors.index.json) config.json the
 *source's with quantization_config, torch_dtype and dtype and copies every other file unchanged,
 *except *.safetensors beside the source's own: a reader that loads them all must find the new ones
 *alone. Other than regular files: SP_E_INVALID. Nothing is synced: the directory counts only once
 *this has returned SP_OK. report: a new array with the layers' numbers.
 */
enum sp_code
sp_emit_checkpoint(const struct sp_emit *emit, json_t **report, struct sp_err *err) SP_MUST_USE;

/* Pure: the text of config.json for a quantized checkpoint, malloc'd. */
enum sp_code sp_emit_config(const uint8_t *config, size_t size, const struct sp_plan *plan,
    char **out, size_t *len, struct sp_err *err) SP_MUST_USE;

#endif
