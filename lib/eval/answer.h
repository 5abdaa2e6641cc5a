/* answer.h -- what a model did with a data set: the raw results that a gate compares. */
#ifndef SP_EVAL_ANSWER_H
#define SP_EVAL_ANSWER_H

#include "base/json.h"
#include "eval/humaneval.h"
#include "eval/mmlu.h"
#include "eval/verdict.h"

/* progress of a phase, of any unit */
typedef void sp_eval_progress_fn(void *ctx, uint64_t done, uint64_t total);

/* Answers to the questions of a sp_mmlu, in its order. */
struct sp_answer_mmlu {
	size_t count;
	int8_t *choices;	       /* 0 to 3; -1: a logit was NaN or infinite */
	double (*ll)[SP_MMLU_CHOICES]; /* log-likelihoods, nat; 0 where there is no choice */
	uint64_t truncated;	       /* prompts cut on the left to fit the model */
};

/* Answers to the tasks of a sp_humaneval, in its order. */
struct sp_answer_program {
	char *completion; /* NUL-terminated, may hold NUL */
	size_t completion_len;
	struct sp_hex digest; /* of prompt and completion: the same text is run once */
	enum sp_verdict_outcome outcome;
	char detail[64];
};

struct sp_answer_programs {
	size_t count;
	struct sp_answer_program *programs;
	uint64_t truncated;
};

void sp_answer_mmlu_init(struct sp_answer_mmlu *answers, size_t count);
void sp_answer_mmlu_clear(struct sp_answer_mmlu *answers);
void sp_answer_programs_init(struct sp_answer_programs *answers, size_t count);
void sp_answer_programs_clear(struct sp_answer_programs *answers);

uint64_t sp_answer_nonfinite(const struct sp_answer_mmlu *answers);
/* Questions whose best two answers lie closer than 0.01 nat: those that rounding could turn. */
uint64_t sp_answer_near_ties(const struct sp_answer_mmlu *answers);
/* Mean over the questions of the Kullback-Leibler divergence, nat, of candidate from baseline over
 * five outcomes: the four letters and anything else. Two models of equal score can differ in it
 * (arXiv 2407.09141). 0 for questions without log-likelihoods on either side. */
double
sp_answer_divergence(const struct sp_answer_mmlu *baseline, const struct sp_answer_mmlu *candidate);

/*
 * As text, to keep finished phases over a restart. Canonical JSON:
 *	{"choices": "BAC?…", "ll": [integer micronats, 4 a question, -10^12 when less], "truncated":
 *N}
 *	{"programs": [[OUTCOME, DETAIL, hex], …], "truncated": N}
 * A text that does not parse, is of another count, or has a program without an outcome is
 * SP_E_INVALID. Programs read back have no completion.
 */
char *sp_answer_mmlu_format(const struct sp_answer_mmlu *answers, size_t *len);
enum sp_code sp_answer_mmlu_parse(const uint8_t *text, size_t len, size_t count,
    struct sp_answer_mmlu *out, struct sp_err *err) SP_MUST_USE;
char *sp_answer_programs_format(const struct sp_answer_programs *answers, size_t *len);
enum sp_code sp_answer_programs_parse(const uint8_t *text, size_t len, size_t count,
    struct sp_answer_programs *out, struct sp_err *err) SP_MUST_USE;

#endif
