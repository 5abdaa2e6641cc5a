/* greedy.h -- continuations by the likeliest token each time. */
#ifndef SP_GREEDY_H
#define SP_GREEDY_H

#include "engine/forward.h"

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
enum sp_code sp_greedy_run(struct sp_model *model, struct sp_greedy *runs, size_t count,
    size_t batch, struct sp_err *err) SP_MUST_USE;

#endif
