/* inspect.h -- whether weights can become a 4-bit checkpoint at all, found at the disk's speed. */
#ifndef SP_INSPECT_H
#define SP_INSPECT_H

#include "engine/weights.h"

/* Bytes looked at, of how many. */
typedef void sp_inspect_progress_fn(void *arg, uint64_t done_bytes, uint64_t total_bytes);

/*
 * Reads every float tensor once. SP_E_INVALID names file, tensor and element when a value is not
 * finite, or too large for the fp16 that the new checkpoint holds (65504): a quantizer would find
 * it only at that layer, maybe after hours. Pages that were looked at are given back. progress may
 * be NULL.
 */
enum sp_code sp_inspect_weights(const struct sp_weights *weights, sp_inspect_progress_fn *progress,
    void *arg, struct sp_err *err) SP_MUST_USE;

/* Pure: the first value of count that is not finite, or beyond fp16; count when there is none.
 * Tensors of integers have none. */
size_t sp_inspect_values(enum sp_dtype dtype, const uint8_t *data, size_t count);

#endif
