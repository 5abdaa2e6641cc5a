/* humaneval_run.c -- lets a model write programs and judges them. */
#include "eval/humaneval_run.h"

#include <stdlib.h>
#include <string.h>

#define BATCH 32  /* sequences that the model continues together */
#define ROUND 128 /* tasks between two progress reports */

/* A completion in the making: the text of its tokens so far. */
struct draft {
	const struct sp_tokenizer *tokenizer;
	struct sp_buf text;
	struct sp_err err; /* code is SP_OK as long as decoding went well */
};

/* sp_greedy.stop: looks for a stop string. What a token adds to the text depends on those before
 * it, so all are decoded again, which is nothing beside the pass that made one. */
static int
draft_stop(void *arg, const uint32_t *ids, size_t count)
{
	struct draft *draft = arg;
	enum sp_code code;
	char *text;
	size_t len;

	code = sp_tokenizer_decode(draft->tokenizer, ids, count, 1, &text, &len, &draft->err);
	if (code != SP_OK)
		return 1;
	draft->text.len = 0;
	sp_buf_add(&draft->text, text, len);
	free(text);
	return sp_humaneval_stop((const char *)draft->text.data, len, 0) != len;
}

static enum sp_code
prepare(const struct sp_tokenizer *tokenizer, const char *prompt, size_t max_new, size_t positions,
    struct sp_greedy *run, uint32_t **ids, int *truncated, struct sp_err *err)
{
	size_t count, room = max_new < positions ? positions - max_new : 1;
	enum sp_code code;

	code = sp_tokenizer_encode(tokenizer, prompt, strlen(prompt), 1, ids, &count, err);
	if (code != SP_OK)
		return code;
	if (count == 0)
		return sp_err_set(err, SP_E_INVALID, "the prompt is empty");
	*truncated = count > room;
	run->prompt = *truncated ? *ids + (count - room) : *ids;
	run->prompt_len = *truncated ? room : count;
	run->max_new = max_new;
	run->out = sp_xcalloc(max_new, sizeof(*run->out));
	return SP_OK;
}

static void
keep(struct sp_answer_program *program, const struct sp_humaneval_task *task, struct draft *draft)
{
	struct sp_hash *hash = sp_hash_new(SP_SHA256);

	program->completion =
	    sp_humaneval_completion(draft->text.data ? (char *)draft->text.data : "",
		draft->text.len, &program->completion_len);
	sp_hash_add(hash, task->prompt, strlen(task->prompt));
	sp_hash_add(hash, program->completion, program->completion_len);
	program->digest = sp_hash_finish_hex(hash);
	sp_hash_free(&hash);
}

/* Tasks first .. first + count - 1. */
static enum sp_code
generate_round(struct sp_model *model, const struct sp_tokenizer *tokenizer,
    const struct sp_humaneval *set, size_t first, size_t count, unsigned max_new,
    struct sp_answer_programs *out, struct sp_err *err)
{
	struct sp_greedy runs[ROUND] = {{0}};
	struct draft drafts[ROUND] = {{0}};
	uint32_t *ids[ROUND] = {NULL};
	enum sp_code code = SP_OK;
	size_t i;

	for (i = 0; i < count && code == SP_OK; i++) {
		const struct sp_humaneval_task *task = &set->tasks[first + i];
		int truncated = 0;

		drafts[i].tokenizer = tokenizer;
		runs[i].stop = draft_stop;
		runs[i].arg = &drafts[i];
		code = prepare(tokenizer, task->prompt, max_new, sp_model_positions(model),
		    &runs[i], &ids[i], &truncated, err);
		if (code != SP_OK)
			sp_err_prefix(err, "task %s", task->id);
		out->truncated += truncated != 0;
	}
	if (code == SP_OK)
		code = sp_greedy_run(model, runs, count, BATCH, err);
	for (i = 0; i < count; i++) {
		if (code == SP_OK && drafts[i].err.code != SP_OK) {
			code = drafts[i].err.code;
			if (err)
				*err = drafts[i].err;
		}
		if (code == SP_OK)
			keep(&out->programs[first + i], &set->tasks[first + i], &drafts[i]);
		sp_buf_free(&drafts[i].text);
		free(runs[i].out);
		free(ids[i]);
	}
	return code;
}

enum sp_code
sp_humaneval_generate(struct sp_model *model, const struct sp_tokenizer *tokenizer,
    const struct sp_humaneval *set, unsigned max_new, sp_eval_progress_fn *progress, void *ctx,
    struct sp_answer_programs *out, struct sp_err *err)
{
	enum sp_code code = SP_OK;
	size_t first, count;

	SP_ASSERT(max_new >= 1);
	sp_answer_programs_init(out, set->count);
	for (first = 0; first < set->count && code == SP_OK; first += count) {
		count = set->count - first < ROUND ? set->count - first : ROUND;
		code = generate_round(model, tokenizer, set, first, count, max_new, out, err);
		if (code == SP_OK && progress)
			progress(ctx, first + count, set->count);
	}
	if (code != SP_OK)
		sp_answer_programs_clear(out);
	return code;
}

static struct sp_sandbox_program
program_of(const struct sp_humaneval_task *task, const char *completion, size_t len)
{
	return (struct sp_sandbox_program){.id = task->id,
	    .prompt = task->prompt,
	    .completion = completion,
	    .completion_len = len,
	    .entry = task->entry,
	    .test = task->test};
}

/* How this file counts: tasks that took a known outcome are done from the start. */
struct tally {
	sp_eval_progress_fn *progress;
	void *ctx;
	size_t known;
};

static void
tally_progress(void *ctx, size_t done, size_t total)
{
	struct tally *tally = ctx;

	if (tally->progress)
		tally->progress(tally->ctx, tally->known + done, tally->known + total);
}

enum sp_code
sp_humaneval_vet(const struct sp_humaneval *set, const struct sp_sandbox_limits *limits,
    sp_eval_progress_fn *progress, void *ctx, struct sp_err *err)
{
	static const char nothing[] = "    pass\n";
	struct sp_sandbox_program *runs = sp_xcalloc(set->count, sizeof(*runs));
	struct tally tally = {progress, ctx, 0};
	enum sp_code code;
	size_t i;

	for (i = 0; i < set->count; i++)
		runs[i] = program_of(&set->tasks[i], nothing, sizeof(nothing) - 1);
	code = sp_sandbox_run(runs, set->count, 0, limits, tally_progress, &tally, err);
	for (i = 0; i < set->count && code == SP_OK; i++)
		if (runs[i].outcome == SP_VERDICT_PASSED)
			code = sp_err_set(err, SP_E_INVALID,
			    "data set, task %.100s: a function that does nothing passes its test, "
			    "which therefore shows nothing",
			    set->tasks[i].id);
	free(runs);
	return code;
}

enum sp_code
sp_humaneval_judge(const struct sp_humaneval *set, struct sp_answer_programs *answers,
    const struct sp_answer_programs *known, const struct sp_sandbox_limits *limits,
    sp_eval_progress_fn *progress, void *ctx, struct sp_err *err)
{
	struct sp_sandbox_program *runs = sp_xcalloc(set->count, sizeof(*runs));
	size_t *tasks = sp_xcalloc(set->count, sizeof(*tasks));
	struct tally tally = {progress, ctx, 0};
	size_t count = 0, i;
	enum sp_code code;

	SP_ASSERT(answers->count == set->count && (!known || known->count == set->count));
	for (i = 0; i < set->count; i++) {
		const struct sp_humaneval_task *task = &set->tasks[i];
		struct sp_answer_program *program = &answers->programs[i];

		if (known && known->programs[i].outcome != SP_VERDICT_UNKNOWN &&
		    strcmp(known->programs[i].digest.s, program->digest.s) == 0) {
			program->outcome = known->programs[i].outcome;
			memcpy(program->detail, known->programs[i].detail, sizeof(program->detail));
			tally.known++;
			continue;
		}
		tasks[count] = i;
		runs[count++] = program_of(task, program->completion, program->completion_len);
	}
	tally_progress(&tally, 0, count);
	code = sp_sandbox_check(limits, err);
	if (code == SP_OK)
		code = sp_sandbox_run(runs, count, 0, limits, tally_progress, &tally, err);
	for (i = 0; i < count && code == SP_OK; i++) {
		struct sp_answer_program *program = &answers->programs[tasks[i]];

		program->outcome = runs[i].outcome;
		memcpy(program->detail, runs[i].detail, sizeof(program->detail));
	}
	free(tasks);
	free(runs);
	return code;
}
