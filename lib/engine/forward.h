/* forward.h -- a loaded model, sequences with their KV caches, logits and greedy decoding. */
#ifndef SP_FORWARD_H
#define SP_FORWARD_H

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

/* One greedy continuation of prompt[prompt_len >= 1]. out has room for max_new ids; out_len says
 * how many came: until an eos id (not stored), stop() returned 1 for the ids so far (may be NULL),
 * or max_new or the model's positions were used up. */
struct sp_greedy {
	const uint32_t *prompt;
	size_t prompt_len;
	size_t max_new;
	uint32_t *out;
	size_t out_len;
	int (*stop)(void *arg, const uint32_t *ids, size_t count);
	void *arg;
};

/* Runs all, at most batch at a time: one that ends makes room for the next. */
enum sp_code sp_forward_greedy(struct sp_model *model, struct sp_greedy *runs, size_t count,
    size_t batch, struct sp_err *err) SP_MUST_USE;

#endif
