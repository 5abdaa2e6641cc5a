/* humaneval_run.h -- lets a model write programs and judges them. */
#ifndef SP_HUMANEVAL_RUN_H
#define SP_HUMANEVAL_RUN_H

#include "engine/greedy.h"
#include "eval/answer.h"
#include "eval/sandbox.h"
#include "model/tokenizer.h"

/*
 * Greedy completions of all prompts, at most max_new tokens each, cut at the harness's stop
 * strings. A prompt that leaves no room for max_new tokens is cut on the left. progress may be NULL
 * and counts tasks. *out is initialised here; its outcomes are SP_VERDICT_UNKNOWN.
 */
enum sp_code sp_humaneval_generate(struct sp_model *model, const struct sp_tokenizer *tokenizer,
    const struct sp_humaneval *set, unsigned max_new, sp_eval_progress_fn *progress, void *ctx,
    struct sp_answer_programs *out, struct sp_err *err) SP_MUST_USE;

/* Runs a program that does nothing through every task's tests. One that passes them shows that they
 * cannot fail: SP_E_INVALID names the task. progress may be NULL and counts tasks. */
enum sp_code
sp_humaneval_vet(const struct sp_humaneval *set, const struct sp_sandbox_limits *limits,
    sp_eval_progress_fn *progress, void *ctx, struct sp_err *err) SP_MUST_USE;

/*
 * Runs the programs in the sandbox. One whose text `known` (may be NULL) has an outcome for takes
 * it: the same text must not count as a difference because a clock or a random number changed.
 */
enum sp_code sp_humaneval_judge(const struct sp_humaneval *set, struct sp_answer_programs *answers,
    const struct sp_answer_programs *known, const struct sp_sandbox_limits *limits,
    sp_eval_progress_fn *progress, void *ctx, struct sp_err *err) SP_MUST_USE;

#endif
