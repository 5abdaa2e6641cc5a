/*
 * partial.h -- what quantizing one layer gave, as files of a work directory.
 *
 *	layer-NNNNN.json         numbers of the searches (report)
 *	layer-NNNNN.safetensors  every tensor of the layer by its final name: qweight, qzeros i32;
 *	                         scales, biases, norms and weights that are left out f16
 *
 * The second appears last, by rename after fsync: where it is, the layer is done, whatever happened
 * to the process afterwards.
 */
#ifndef SP_PARTIAL_H
#define SP_PARTIAL_H

#include "awq/plan.h"
#include "base/file.h"
#include "base/json.h"
#include "model/safetensors.h"

struct sp_partial {
	struct sp_map map;
	struct sp_safetensors *file;
	/*
	 * {"attn_before", "attn_error", "mlp_before", "mlp_error": mean squared errors of the
	 * parts' outputs on the exact inputs of a few sequences, rounded to nearest and as
	 * quantized, "groups": [{"after": what the scales are taken out of, "losses": [of each
	 * trial], "ratio": the best one's number, "shares": [of the tokens each loss is the mean
	 * of; below 1 where it was clear by then that the trial is worse than others, or the
	 * best]}]}; of a layer with experts also "experts": [{"tokens": it was calibrated with,
	 * "losses", "ratio", "shares": of its scales after up_proj}]; awq+ also "stream" and
	 * "stream_error", mean squares of what the next layer takes in the exact model and of its
	 * error in the quantized one.
	 */
	json_t *report;
};

/* layer: its scaled norms and biases; block: its codes. */
enum sp_code sp_partial_save(const char *work, size_t index, const struct sp_model_config *config,
    const struct sp_layer *layer, const struct sp_block *block, struct sp_err *err) SP_MUST_USE;

/* SP_E_NOT_FOUND: not done yet. SP_E_INVALID: something is there, but not the layer's tensors. */
enum sp_code sp_partial_open(const char *work, size_t index, const struct sp_model_config *config,
    const struct sp_plan *plan, struct sp_partial *out, struct sp_err *err) SP_MUST_USE;
/* The layer as the new checkpoint has it, like sp_weights_layer. */
enum sp_code sp_partial_layer(const struct sp_partial *result, size_t index,
    const struct sp_model_config *config, const struct sp_plan *plan, struct sp_layer *layer,
    struct sp_err *err) SP_MUST_USE;
void sp_partial_close(struct sp_partial *result);

#endif
