/*
 * stream.h -- a model's layers one after the other over whole sequences, the weights as they come
 * from the disk: memory for one layer and the activations, not for the model. Bits are those of
 * sp_forward.
 */
#ifndef SP_STREAM_H
#define SP_STREAM_H

#include "engine/spill.h"
#include "engine/weights.h"

struct sp_stream;

/* weights and pool are borrowed; positions: the longest sequence. */
enum sp_code sp_stream_open(const struct sp_weights *weights, size_t positions,
    struct sp_pool *pool, struct sp_stream **out, struct sp_err *err) SP_MUST_USE;
void sp_stream_close(struct sp_stream **stream);
const struct sp_layer_env *sp_stream_env(const struct sp_stream *stream);

/*
 * As sp_weights_layer: layer i in fp32, not packed. Then the file's pages of it are let go, and
 * those of layer i + 1 are read ahead while the caller computes.
 */
enum sp_code sp_stream_layer(
    struct sp_stream *stream, size_t i, struct sp_layer *layer, struct sp_err *err) SP_MUST_USE;
/* The same packed, without the plain weights: half the memory and less. */
enum sp_code sp_stream_packed(
    struct sp_stream *stream, size_t i, struct sp_layer *layer, struct sp_err *err) SP_MUST_USE;

/* h[n][hidden] = the embeddings of ids; SP_E_INVALID names one outside the vocabulary. Reads no
 * more of the table than that. */
enum sp_code sp_stream_embed(struct sp_stream *stream, const uint32_t *ids, size_t n, float *h,
    struct sp_err *err) SP_MUST_USE;

/* All layers over h[n_seq*len][hidden], in place. each (may be NULL) is called after each layer; an
 * error of it ends the run. */
enum sp_code sp_stream_run(struct sp_stream *stream, const struct sp_spill *h, size_t n_seq,
    size_t len, enum sp_code (*each)(void *arg, size_t layer, struct sp_err *err), void *arg,
    struct sp_err *err) SP_MUST_USE;

/* The logits of h[n][hidden] after the last layer, some rows at a time and in order: take gets
 * logits[rows][vocab] of rows first … first+rows-1. */
enum sp_code sp_stream_logits(struct sp_stream *stream, const float *h, size_t n,
    enum sp_code (*take)(
	void *arg, size_t first, size_t rows, const float *logits, struct sp_err *err),
    void *arg, struct sp_err *err) SP_MUST_USE;

#endif
