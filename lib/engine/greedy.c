/* greedy.c -- continuations by the likeliest token each time. */
#include "engine/greedy.h"

#include <stdlib.h>

/* A run in progress. */
struct slot {
	struct sp_greedy *run; /* NULL: free */
	struct sp_context *context;
	size_t max; /* tokens it may still get, out_len included */
};

static enum sp_code
slot_start(struct sp_model *m, struct slot *slot, struct sp_greedy *run, struct sp_err *err)
{
	size_t room;
	enum sp_code code;

	SP_ASSERT(run->prompt_len > 0);
	run->out_len = 0;
	if (run->prompt_len > sp_model_positions(m))
		return sp_err_set(err, SP_E_LIMIT,
		    "a prompt of %zu tokens: the model has %zu positions", run->prompt_len,
		    sp_model_positions(m));
	room = sp_model_positions(m) - run->prompt_len;
	slot->max = run->max_new < room ? run->max_new : room;
	if (slot->max == 0)
		return SP_OK;
	code = sp_context_new(m, NULL, run->prompt_len + slot->max - 1, &slot->context, err);
	if (code == SP_OK)
		slot->run = run;
	return code;
}

/* 1 when the run has ended with this token or without it. */
static int
slot_take(struct sp_model *m, struct slot *slot, uint32_t id)
{
	struct sp_greedy *run = slot->run;

	if (sp_config_is_eos(sp_model_config(m), id))
		return 1;
	run->out[run->out_len++] = id;
	return run->out_len == slot->max ||
	       (run->stop != NULL && run->stop(run->arg, run->out, run->out_len));
}

static void
slot_end(struct slot *slot)
{
	sp_context_free(&slot->context);
	*slot = (struct slot){0};
}

/* One token for each of n slots. */
static enum sp_code
step(struct sp_model *m, struct slot *slots, size_t n, struct sp_feed *feeds, float *logits,
    struct sp_err *err)
{
	enum sp_code code;

	for (size_t i = 0; i < n; i++) {
		const struct sp_greedy *run = slots[i].run;
		int begins = run->out_len == 0;

		feeds[i] = (struct sp_feed){
		    .context = slots[i].context,
		    .tokens = begins ? run->prompt : run->out + run->out_len - 1,
		    .count = begins ? run->prompt_len : 1,
		    .n_logits = 1,
		    .logits = logits + i * sp_model_config(m)->vocab,
		};
	}
	if ((code = sp_forward(m, feeds, n, err)))
		return code;
	for (size_t i = 0; i < n; i++) {
		uint32_t id = sp_forward_argmax(feeds[i].logits, sp_model_config(m)->vocab);

		if (slot_take(m, &slots[i], id))
			slot_end(&slots[i]);
	}
	return SP_OK;
}

enum sp_code
sp_greedy_run(
    struct sp_model *m, struct sp_greedy *runs, size_t count, size_t batch, struct sp_err *err)
{
	size_t next = 0, active = 0;
	struct slot *slots = NULL;
	struct sp_feed *feeds = NULL;
	float *logits = NULL;
	enum sp_code code = SP_OK;

	SP_ASSERT(batch > 0);
	batch = batch < count ? batch : count;
	slots = sp_xcalloc(batch + 1, sizeof(*slots));
	feeds = sp_xcalloc(batch + 1, sizeof(*feeds));
	if ((logits = calloc(batch + 1, sp_model_config(m)->vocab * sizeof(float))) == NULL) {
		code = sp_err_set(err, SP_E_NO_MEMORY, "logits of %zu sequences", batch);
		goto out;
	}
	for (;;) {
		size_t kept = 0;

		for (size_t i = 0; i < active; i++) { /* close the gaps */
			if (slots[i].run != NULL)
				slots[kept++] = slots[i];
		}
		for (active = kept; active < batch && next < count;) {
			slots[active] = (struct slot){0};
			if ((code = slot_start(m, &slots[active], &runs[next++], err)))
				goto out;
			active += slots[active].run != NULL;
		}
		if (active == 0)
			break;
		if ((code = step(m, slots, active, feeds, logits, err)))
			goto out;
	}
out:
	for (size_t i = 0; i < active; i++)
		slot_end(&slots[i]);
	free(slots);
	free(feeds);
	free(logits);
	return code;
}
