/* context.h -- sequences and what the model remembers of them. */
#ifndef SP_CONTEXT_H
#define SP_CONTEXT_H

#include "engine/model.h"

/*
 * A sequence: the keys and values of the tokens it was fed. With a prefix it sees that sequence's
 * tokens too, without copying them: feed what many sequences share once, then make one context per
 * continuation (or rewind one). The prefix is borrowed, must not be fed or freed while it is one,
 * and has no prefix itself. max_tokens: how many own tokens it can hold; together with the prefix
 * at most sp_model_positions (SP_E_LIMIT).
 */
struct sp_context;
enum sp_code sp_context_new(const struct sp_model *model, const struct sp_context *prefix,
    size_t max_tokens, struct sp_context **out, struct sp_err *err) SP_MUST_USE;
void sp_context_free(struct sp_context **context);
/* Tokens so far, the prefix's included. */
size_t sp_context_len(const struct sp_context *context);
/* Forgets all own tokens after the first `own`. */
void sp_context_rewind(struct sp_context *context, size_t own);

#endif
