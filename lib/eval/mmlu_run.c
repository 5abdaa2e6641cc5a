/* mmlu_run.c -- asks a model the questions of an MMLU data set. */
#include "eval/mmlu_run.h"

#include <stdlib.h>
#include <string.h>

/* Questions that go through the model together, and the tokens their contexts may hold. */
#define BATCH_MAX 64
#define BATCH_TOKENS 8192

struct prompt {
	uint32_t *ids;
	size_t count;
	int alone; /* was cut on the left: shares nothing */
};

struct asking {
	struct sp_model *model;
	const struct sp_tokenizer *tokenizer;
	size_t positions, vocab;
	uint32_t letters[SP_MMLU_CHOICES];
	struct sp_answer_mmlu *out;
	sp_eval_progress_fn *progress;
	void *ctx;
	float *logits; /* [BATCH_MAX][vocab] */
};

static enum sp_code
encode(const struct sp_tokenizer *tokenizer, const struct sp_buf *text, struct prompt *out,
    struct sp_err *err)
{
	return sp_tokenizer_encode(
	    tokenizer, (const char *)text->data, text->len, 1, &out->ids, &out->count, err);
}

/* The id of each letter: what the prompt's tokens grow by when " A" is added to its text. */
static enum sp_code
find_letters(
    struct asking *ask, struct sp_buf *text, const struct prompt *prompt, struct sp_err *err)
{
	size_t k, len = text->len;
	enum sp_code code = SP_OK;

	for (k = 0; k < SP_MMLU_CHOICES && code == SP_OK; k++) {
		struct prompt whole = {0};

		text->len = len;
		sp_buf_printf(text, " %c", (int)('A' + k));
		code = encode(ask->tokenizer, text, &whole, err);
		if (code == SP_OK &&
		    (whole.count != prompt->count + 1 ||
			memcmp(whole.ids, prompt->ids, prompt->count * sizeof(*prompt->ids)) != 0))
			code = sp_err_set(err, SP_E_UNSUPPORTED,
			    "MMLU: this tokenizer does not make one token of \" %c\" after "
			    "\"Answer:\", and only answers of one token are scored",
			    (int)('A' + k));
		if (code == SP_OK)
			ask->letters[k] = whole.ids[prompt->count];
		if (code == SP_OK && ask->letters[k] >= ask->vocab)
			code = sp_err_set(err, SP_E_INVALID,
			    "MMLU: token %u of the tokenizer is not in the model's vocabulary of "
			    "%zu",
			    ask->letters[k], ask->vocab);
		free(whole.ids);
	}
	text->len = len;
	return code;
}

static enum sp_code
make_prompts(struct asking *ask, const struct sp_mmlu_subject *subject, unsigned shots,
    struct prompt *prompts, struct sp_err *err)
{
	struct sp_buf text = {0};
	enum sp_code code = SP_OK;
	size_t i;

	for (i = 0; i < subject->test.count && code == SP_OK; i++) {
		struct prompt *prompt = &prompts[i];

		text.len = 0;
		sp_mmlu_context(&text, subject, shots, i);
		code = encode(ask->tokenizer, &text, prompt, err);
		if (code == SP_OK && i == 0)
			code = find_letters(ask, &text, prompt, err);
		if (code != SP_OK || prompt->count <= ask->positions)
			continue;
		memmove(prompt->ids, prompt->ids + prompt->count - ask->positions,
		    ask->positions * sizeof(*prompt->ids));
		prompt->count = ask->positions;
		prompt->alone = 1;
		ask->out->truncated++;
	}
	if (code != SP_OK)
		sp_err_prefix(err, "MMLU subject %s", subject->name);
	sp_buf_free(&text);
	return code;
}

/* Tokens that all prompts begin with, the cut ones aside; at least one is left to each. */
static size_t
shared_tokens(const struct prompt *prompts, size_t count)
{
	const struct prompt *first = NULL;
	size_t shared = 0, i;

	for (i = 0; i < count; i++) {
		size_t same = 0;

		if (prompts[i].alone)
			continue;
		if (!first) {
			first = &prompts[i];
			shared = first->count - 1;
		}
		while (same < shared && same < prompts[i].count - 1 &&
		       prompts[i].ids[same] == first->ids[same])
			same++;
		shared = same;
	}
	return shared;
}

/* Asks prompts[0..count), each after `prefix` unless it is alone; the first is question `at`. */
static enum sp_code
ask_batch(struct asking *ask, const struct sp_context *prefix, const struct prompt *prompts,
    size_t count, size_t at, struct sp_err *err)
{
	struct sp_context *contexts[BATCH_MAX] = {NULL};
	struct sp_feed feeds[BATCH_MAX];
	enum sp_code code = SP_OK;
	size_t i;

	for (i = 0; i < count && code == SP_OK; i++) {
		const struct sp_context *before = prompts[i].alone ? NULL : prefix;
		size_t skip = before ? sp_context_len(before) : 0;

		feeds[i] = (struct sp_feed){.tokens = prompts[i].ids + skip,
		    .count = prompts[i].count - skip,
		    .n_logits = 1,
		    .logits = ask->logits + i * ask->vocab};
		code = sp_context_new(ask->model, before, feeds[i].count, &contexts[i], err);
		feeds[i].context = contexts[i];
	}
	if (code == SP_OK)
		code = sp_forward(ask->model, feeds, count, err);
	for (i = 0; i < count; i++) {
		double *ll = ask->out->ll[at + i];

		sp_context_free(&contexts[i]);
		if (code != SP_OK)
			continue;
		ask->out->choices[at + i] = (int8_t)sp_mmlu_choose(
		    ask->logits + i * ask->vocab, ask->vocab, ask->letters, ll);
		if (ask->out->choices[at + i] < 0)
			memset(ll, 0, sizeof(ask->out->ll[0]));
	}
	return code;
}

static enum sp_code
ask_all(
    struct asking *ask, const struct prompt *prompts, size_t count, size_t at, struct sp_err *err)
{
	size_t shared = shared_tokens(prompts, count), i = 0;
	struct sp_context *prefix = NULL;
	enum sp_code code = SP_OK;

	if (shared != 0) {
		struct sp_feed feed = {.tokens = prompts[0].ids, .count = shared};

		for (i = 0; prompts[i].alone; i++)
			;
		feed.tokens = prompts[i].ids;
		code = sp_context_new(ask->model, NULL, shared, &prefix, err);
		feed.context = prefix;
		if (code == SP_OK)
			code = sp_forward(ask->model, &feed, 1, err);
	}
	for (i = 0; i < count && code == SP_OK;) {
		size_t tokens = 0, n = 0;

		do
			tokens += prompts[i + n].count - (prompts[i + n].alone ? 0 : shared);
		while (++n < BATCH_MAX && i + n < count && tokens < BATCH_TOKENS);
		code = ask_batch(ask, prefix, prompts + i, n, at + i, err);
		i += n;
		if (code == SP_OK && ask->progress)
			ask->progress(ask->ctx, at + i, ask->out->count);
	}
	sp_context_free(&prefix);
	return code;
}

enum sp_code
sp_mmlu_run(struct sp_model *model, const struct sp_tokenizer *tokenizer,
    const struct sp_mmlu *mmlu, unsigned shots, sp_eval_progress_fn *progress, void *ctx,
    struct sp_answer_mmlu *out, struct sp_err *err)
{
	struct asking ask = {.model = model,
	    .tokenizer = tokenizer,
	    .positions = sp_model_positions(model),
	    .vocab = sp_model_config(model)->vocab,
	    .out = out,
	    .progress = progress,
	    .ctx = ctx};
	enum sp_code code = SP_OK;
	size_t at = 0, i, k;

	sp_answer_mmlu_init(out, mmlu->questions);
	ask.logits = malloc(BATCH_MAX * ask.vocab * sizeof(float));
	if (!ask.logits)
		code = sp_err_set(err, SP_E_NO_MEMORY, "MMLU: logits of %d questions", BATCH_MAX);
	for (i = 0; i < mmlu->count && code == SP_OK; i++) {
		const struct sp_mmlu_subject *subject = &mmlu->subjects[i];
		size_t count = subject->test.count;
		struct prompt *prompts = sp_xcalloc(count + 1, sizeof(*prompts));

		code = make_prompts(&ask, subject, shots, prompts, err);
		if (code == SP_OK)
			code = ask_all(&ask, prompts, count, at, err);
		for (k = 0; k < count; k++)
			free(prompts[k].ids);
		free(prompts);
		at += count;
	}
	free(ask.logits);
	if (code != SP_OK)
		sp_answer_mmlu_clear(out);
	return code;
}
