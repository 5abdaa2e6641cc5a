/*
 * gate.h -- may the quantized model go? Statistics of paired answers, pure.
 *
 * Both models answered the same n questions. A question that only the baseline got right is lost,
 * one that only the candidate got right is gained; drop = (lost - gained) / n. The gate is a
 * non-inferiority test: the upper confidence bound of the drop must lie below the margin.
 */
#ifndef SP_GATE_H
#define SP_GATE_H

#include "base/err.h"

#include <stdint.h>

struct sp_gate_pairs {
	uint64_t n;
	uint64_t lost;	   /* baseline right, candidate wrong */
	uint64_t gained;   /* baseline wrong, candidate right */
	uint64_t baseline; /* how many the baseline got right */
	/* answers without one: a logit was NaN or infinite. They count as wrong. */
	uint64_t baseline_nonfinite, candidate_nonfinite;
};

struct sp_gate_limits {
	double max_drop_pp; /* the margin, percentage points */
	double confidence;  /* of the one-sided bound, 0.95 */
	double
	    chance; /* share that guessing gets right: of letters sp_mmlu_chance, of programs 0 */
};

/* X(member, word) */
#define SP_GATE_VERDICTS(X)         \
	X(SP_GATE_PASSED, "PASSED") \
	X(SP_GATE_FAILED, "FAILED") \
	X(SP_GATE_INCONCLUSIVE, "INCONCLUSIVE") /* blocks as well */

enum sp_gate_verdict {
#define X(id, word) id,
	SP_GATE_VERDICTS(X)
#undef X
};
const char *sp_gate_word(enum sp_gate_verdict verdict);

struct sp_gate_decision {
	enum sp_gate_verdict verdict;
	double baseline_pp, candidate_pp; /* scores */
	double drop_pp;
	double bound_pp;  /* upper confidence bound of the drop */
	double p;	  /* McNemar's exact test, two-sided */
	uint64_t more;	  /* further samples that would decide at these rates; 0: none would */
	char reason[256]; /* one line with the numbers */
};

/*
 * FAILED when the drop itself exceeds the margin or a logit was not finite, PASSED when the bound
 * lies below the margin, else INCONCLUSIVE. INCONCLUSIVE too when the baseline, for all that its
 * score shows with the same confidence, is so close to chance that losing everything would not
 * exceed the margin: then the test could not have failed (assay sensitivity, ICH E10 section 1.5).
 * n >= 1, lost <= baseline <= n.
 */
void sp_gate_decide(const struct sp_gate_pairs *pairs, const struct sp_gate_limits *limits,
    struct sp_gate_decision *out);

/*
 * Upper one-sided score bound of (lost - gained) / n: T. Tango, Equivalence test and confidence
 * interval for the difference in proportions for the paired-sample design, Statistics in Medicine
 * 17 (1998), 891-908. It needs no discordant pair: with none it is z^2 / (n + z^2). Counts are real
 * so that sizes other than the one seen can be tried.
 */
double sp_gate_bound(double lost, double gained, double n, double confidence);

/* Lower one-sided score bound of a share (E. B. Wilson, Journal of the American Statistical
 * Association 22 (1927), 209-212); n >= 1. */
double sp_gate_least(uint64_t correct, uint64_t n, double confidence);

/* Exact two-sided binomial test that losses and gains are as likely (McNemar). */
double sp_gate_mcnemar(uint64_t lost, uint64_t gained);

/* x with P(Z < x) = p, for 0 < p < 1. */
double sp_gate_quantile(double p);

/*
 * Standard errors as lm-evaluation-harness gives them: of one subject, sample standard deviation
 * over sqrt(n) (0 when n < 2); of several, from the pooled variance sum((n-1) n se^2) / (N - k).
 */
struct sp_gate_score {
	uint64_t n, correct;
};
double sp_gate_stderr(struct sp_gate_score score);
double sp_gate_pooled_stderr(const struct sp_gate_score *scores, size_t count);

#endif
