/* forward.h -- sequences through the model's layers, and the logits of their tokens. */
#ifndef SP_FORWARD_H
#define SP_FORWARD_H

#include "engine/context.h"

/* Feeds count >= 1 tokens to context; logits[n_logits][vocab] receives those of the last n_logits
 * (<= count, may be 0) of them. */
struct sp_feed {
	struct sp_context *context;
	const uint32_t *tokens;
	size_t count;
	size_t n_logits;
	float *logits;
};

/* Feeds several sequences (distinct contexts) in one pass. SP_E_INVALID names a token outside the
 * vocabulary, SP_E_LIMIT a full context; then nothing was fed. */
enum sp_code sp_forward(struct sp_model *model, const struct sp_feed *feeds, size_t n_feeds,
    struct sp_err *err) SP_MUST_USE;

/* Index of the largest logit, the first of equals. */
uint32_t sp_forward_argmax(const float *logits, size_t vocab);

#endif
