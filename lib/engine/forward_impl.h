/* forward_impl.h -- what model.c loads, context.c keeps and forward.c runs. */
#ifndef SP_FORWARD_IMPL_H
#define SP_FORWARD_IMPL_H

#include "engine/attention.h"
#include "engine/context.h"
#include "engine/moe.h"

/* Tokens that go through the layers at once. More are taken in turns: every operation treats a
 * row by itself, so that changes no bit. */
#define SP__CHUNK ((size_t)768)

struct sp_model {
	struct sp_model_config config;
	struct sp_layer_env env;
	struct sp_layer *layers; /* packed only */
	struct sp_linear head;
	float *embed, *final_norm;

	/* work memory of a chunk, a token per row */
	struct sp_attention attention;
	struct sp_attention_seq seqs[SP__CHUNK];
	struct sp__source {
		size_t feed, first, count; /* tokens of a feed */
	} sources[SP__CHUNK];
	uint32_t ids[SP__CHUNK];
	float *h, *x, *y, *q, *k, *v, *heads, *logits;
	struct sp_moe_work mlp;
	float *targets[SP__CHUNK]; /* where the logits of each row of x go */
	size_t logit_rows;
};

struct sp_context {
	const struct sp_model *model;
	const struct sp_context *prefix;
	struct sp_kv kv;
	size_t len, max; /* own tokens */
};

static inline size_t
sp__context_prefix_len(const struct sp_context *context)
{
	return context->prefix == NULL ? 0 : context->prefix->len;
}

#endif
