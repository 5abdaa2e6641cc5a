/* weights.h -- a checkpoint directory: its config, and its tensors as fp32, layer by layer. */
#ifndef SP_WEIGHTS_H
#define SP_WEIGHTS_H

#include "engine/layer.h"
#include "model/safetensors.h"

struct sp_weights;

/*
 * Maps config.json and model.safetensors, or the shards of model.safetensors.index.json, in dir.
 * The tensor set must be exactly what the config calls for: a missing, unknown or doubled tensor or
 * a wrong shape or dtype is SP_E_INVALID and names it. lm_head.weight may be there, with the bytes
 * of embed_tokens, in a tied checkpoint (some tools write it).
 */
enum sp_code
sp_weights_open(const char *dir, struct sp_weights **out, struct sp_err *err) SP_MUST_USE;
void sp_weights_close(struct sp_weights **weights);
const struct sp_model_config *sp_weights_config(const struct sp_weights *weights);

/* A tensor as it lies in the file (borrowed), NULL when there is none: for what is copied through.
 * sp_weights_count and _at go over all, shard by shard. */
const struct sp_tensor *sp_weights_find(const struct sp_weights *weights, const char *name);
size_t sp_weights_count(const struct sp_weights *weights);
const struct sp_tensor *sp_weights_at(const struct sp_weights *weights, size_t i);
/* The name of the file that holds the i-th. */
const char *sp_weights_file_at(const struct sp_weights *weights, size_t i);

/* Layer i in fp32 (AWQ int4 dequantized: w = (q - z) * s), not packed. Free with sp_layer_free. */
enum sp_code sp_weights_layer(const struct sp_weights *weights, size_t i, struct sp_layer *layer,
    struct sp_err *err) SP_MUST_USE;
/* model.embed_tokens.weight [vocab][hidden], lm_head.weight (the same when tied),
 * model.norm.weight [hidden]; malloc'd. */
enum sp_code
sp_weights_embed(const struct sp_weights *weights, float **out, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_weights_head(
    const struct sp_weights *weights, struct sp_linear *out, struct sp_err *err) SP_MUST_USE;
enum sp_code sp_weights_final_norm(
    const struct sp_weights *weights, float **out, struct sp_err *err) SP_MUST_USE;

/* out[n][hidden] = rows of embed[vocab][hidden]; ids must be below vocab. */
void
sp_weights_lookup(const float *embed, size_t hidden, const uint32_t *ids, size_t n, float *out);

#endif
