/*
 * partial.h -- what quantizing one layer gave, as files of a work directory.
 *
 *	layer-NNNNN.json         numbers of the searches (report)
 *	layer-NNNNN.safetensors  every tensor of the layer by its final name: qweight, qzeros i32;
 *	                         scales, biases and norms f16
 *
 * The second appears last, by rename after fsync: where it is, the layer is done, whatever happened
 * to the process afterwards.
 */
#ifndef SP_PARTIAL_H
#define SP_PARTIAL_H

#include "awq/block.h"
#include "base/file.h"
#include "base/json.h"
#include "model/safetensors.h"

struct sp_partial {
	struct sp_map map;
	struct sp_safetensors *file;
	json_t *report; /* {"attn_error", "groups": [{"after", "losses", "ratio"}], "mlp_error"} */
};

/* layer: its scaled norms and biases; block: its codes. */
enum sp_code sp_partial_save(const char *work, size_t index, const struct sp_model_config *config,
    const struct sp_layer *layer, const struct sp_block *block, struct sp_err *err) SP_MUST_USE;

/* SP_E_NOT_FOUND: not done yet. SP_E_INVALID: something is there, but not the layer's tensors. */
enum sp_code sp_partial_open(const char *work, size_t index, const struct sp_model_config *config,
    size_t group, struct sp_partial *out, struct sp_err *err) SP_MUST_USE;
void sp_partial_close(struct sp_partial *result);

#endif
