/* model.h -- a checkpoint in memory, packed for the kernels. */
#ifndef SP_MODEL_H
#define SP_MODEL_H

#include "engine/weights.h"

#define SP_POSITIONS_MAX 131072

struct sp_model;

/* Loads the checkpoint in dir (sp_weights_open) into memory, packed for the kernels. pool is
 * borrowed. Results have the same bits for every pool size and every way of batching. */
enum sp_code sp_model_open(
    const char *dir, struct sp_pool *pool, struct sp_model **out, struct sp_err *err) SP_MUST_USE;
void sp_model_close(struct sp_model **model);
const struct sp_model_config *sp_model_config(const struct sp_model *model);
/* Longest sequence: config.max_positions, or SP_POSITIONS_MAX when that is less. */
size_t sp_model_positions(const struct sp_model *model);

#endif
