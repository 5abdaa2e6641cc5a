/* attention.h -- keys and values of sequences, and causal grouped-query attention over them. */
#ifndef SP_ATTENTION_H
#define SP_ATTENTION_H

#include "engine/layer.h"

#include <stdatomic.h>

/*
 * Keys and values of up to cap tokens, in each layer, as panels (kernels.h), so that the products
 * with them need no packing. A layer holds, per KV head, first all keys and then all values:
 *
 *	keys    [cap / 32][head_dim][32]        a column is a token
 *	values  [ceil(head_dim / 32)][cap][32]  a column is a dimension
 */
struct sp_kv {
	float *data;
	size_t cap; /* a multiple of 32 */
};

/* Room for at least tokens tokens, zeroed. */
enum sp_code sp_attention_kv_open(struct sp_kv *kv, const struct sp_model_config *config,
    size_t layers, size_t tokens, struct sp_err *err) SP_MUST_USE;
void sp_attention_kv_close(struct sp_kv *kv);

/* New tokens of one sequence: rows row … row+count-1 of q, k, v and out. They follow the prefix_len
 * tokens of prefix (0: there is none) and the own_len of own. */
struct sp_attention_seq {
	struct sp_kv prefix, own;
	size_t prefix_len, own_len;
	size_t row, count;
	size_t first; /* used inside */
};

/* Work memory, a part per thread. Zero-initialised is empty and valid. */
struct sp_attention {
	float *data;
	size_t parts, stride, len;
	atomic_flag *busy;
};

/* Makes room for sequences of up to len tokens, prefix included. */
enum sp_code sp_attention_reserve(struct sp_attention *work, const struct sp_layer_env *env,
    size_t len, struct sp_err *err) SP_MUST_USE;
void sp_attention_close(struct sp_attention *work);

/* Rotates k[rows][kv_heads*head_dim] by position and stores it and v in layer `layer` of each
 * sequence's own. */
void sp_attention_append(const struct sp_layer_env *env, size_t layer,
    const struct sp_attention_seq *seqs, size_t n, const float *k, const float *v);

/* out[rows][heads*head_dim] from q of the same shape (not rotated yet): each token attends to
 * itself and the window - 1 tokens before it (window 0: all), which sp_attention_append has stored.
 */
void sp_attention_run(const struct sp_layer_env *env, struct sp_attention *work, size_t layer,
    size_t window, struct sp_attention_seq *seqs, size_t n, const float *q, float *out);

#endif
