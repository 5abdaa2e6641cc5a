/* report.h -- the gates' verdict over both models' answers, and the report that shows it. Pure. */
#ifndef SP_REPORT_H
#define SP_REPORT_H

#include "eval/answer.h"
#include "eval/policy.h"
#include "eval/sandbox.h"

/* Answers of one model; NULL where the policy has no such gate. Borrowed. */
struct sp_report_model {
	const char *tree; /* hex */
	const struct sp_answer_mmlu *mmlu;
	const struct sp_answer_programs *programs;
};

/* Everything borrowed. mmlu and humaneval: the data sets, NULL where the policy has no such gate.
 */
struct sp_report {
	const struct sp_policy *policy;
	const char *engine; /* of the code that computed the answers */
	const struct sp_mmlu *mmlu;
	const struct sp_humaneval *humaneval;
	const struct sp_sandbox_limits *limits; /* that programs ran under */
	struct sp_report_model baseline, candidate;
};

struct sp_report_verdict {
	enum sp_gate_verdict verdict;
	struct sp_gate_pairs mmlu_pairs, humaneval_pairs;
	struct sp_gate_decision mmlu, humaneval; /* of the gates asked for */
	char reason[SP_ERR_MSG_MAX];		 /* both, in one line */
};

/* PASSED when all gates passed, FAILED when one failed, else INCONCLUSIVE. */
void sp_report_decide(const struct sp_report *report, struct sp_report_verdict *out);

/*
 * Canonical JSON; numbers that are no integers are decimal strings. Per gate: parameters, data set
 * digest, scores with standard errors, paired counts, bound, McNemar's p, verdict and reason; of
 * mmlu each subject's counts and every answer ("gold", "baseline", "candidate": one letter a
 * question, ? where a logit was not finite); of humaneval each task's outcome on both sides. So
 * whoever has the data sets can compute the verdict anew. malloc'd.
 */
char *sp_report_format(
    const struct sp_report *report, const struct sp_report_verdict *verdict, size_t *len);

/* The numbers without the answers, for the statement that is signed. New reference. */
json_t *sp_report_summary(const struct sp_report *report, const struct sp_report_verdict *verdict);

#endif
