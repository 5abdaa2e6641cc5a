/* mmlu_run.h -- asks a model the questions of an MMLU data set. */
#ifndef SP_MMLU_RUN_H
#define SP_MMLU_RUN_H

#include "engine/forward.h"
#include "eval/answer.h"
#include "model/tokenizer.h"

/*
 * One forward pass a question; what all prompts of a subject begin with goes through the model
 * once. Prompts get the special tokens that the tokenizer itself adds and are cut on the left when
 * the model has fewer positions, both as the harness does. The four letters must be one token each
 * (SP_E_UNSUPPORTED). The answers have the same bits for every number of threads. progress may be
 * NULL and counts questions. *out is initialised here.
 */
enum sp_code sp_mmlu_run(struct sp_model *model, const struct sp_tokenizer *tokenizer,
    const struct sp_mmlu *mmlu, unsigned shots, sp_eval_progress_fn *progress, void *ctx,
    struct sp_answer_mmlu *out, struct sp_err *err) SP_MUST_USE;

#endif
