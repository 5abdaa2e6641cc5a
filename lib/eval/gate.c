/* gate.c -- may the quantized model go? Statistics of paired answers. */
#include "eval/gate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Halvings that exhaust a double's mantissa on [-1, 1]. */
#define BISECTIONS 200
#define MORE_MAX 1000000000 /* samples; nobody has more */

const char *
sp_gate_word(enum sp_gate_verdict verdict)
{
	switch (verdict) {
#define X(id, word) \
	case id:    \
		return word;
		SP_GATE_VERDICTS(X)
#undef X
	}
	return "?";
}

double
sp_gate_quantile(double p)
{
	double low = -40, high = 40;
	int i;

	for (i = 0; i < BISECTIONS; i++) {
		double middle = (low + high) / 2;

		if (erfc(-middle / sqrt(2)) / 2 < p)
			low = middle;
		else
			high = middle;
	}
	return (low + high) / 2;
}

/* Tango's score statistic of the hypothesis that the drop is `drop`; falls as drop grows. */
static double
score(double lost, double gained, double n, double drop)
{
	double b = -lost - gained + (2 * n - lost + gained) * drop;
	double c = -gained * drop * (1 - drop);
	double root = sqrt(fmax(0, b * b - 8 * n * c));
	/* constrained maximum likelihood of the share of gains; the form without cancellation */
	double share = b > 0 ? -2 * c / (root + b) : (root - b) / (4 * n);
	double variance = n * (2 * share + drop * (1 - drop));
	double difference = lost - gained - n * drop;

	if (variance <= 0)
		return difference > 0 ? INFINITY : difference < 0 ? -INFINITY : 0;
	return difference / sqrt(variance);
}

double
sp_gate_bound(double lost, double gained, double n, double confidence)
{
	double z = sp_gate_quantile(confidence);
	double low = (lost - gained) / n, high = 1;
	int i;

	for (i = 0; i < BISECTIONS; i++) {
		double middle = (low + high) / 2;

		if (score(lost, gained, n, middle) > -z)
			low = middle;
		else
			high = middle;
	}
	return high;
}

double
sp_gate_least(uint64_t correct, uint64_t n, double confidence)
{
	double z = sp_gate_quantile(confidence), size = (double)n;
	double share = (double)correct / size, spread = share * (1 - share) / size;

	return (share + z * z / (2 * size) - z * sqrt(spread + z * z / (4 * size * size))) /
	       (1 + z * z / size);
}

double
sp_gate_mcnemar(uint64_t lost, uint64_t gained)
{
	uint64_t few = lost < gained ? lost : gained;
	double n = (double)lost + (double)gained;
	double sum = 0;
	uint64_t k;

	for (k = 0; k <= few; k++)
		sum += exp(
		    lgamma(n + 1) - lgamma((double)k + 1) - lgamma(n - (double)k + 1) - n * log(2));
	return fmin(1, 2 * sum);
}

double
sp_gate_stderr(struct sp_gate_score of)
{
	double share;

	if (of.n < 2)
		return 0;
	share = (double)of.correct / (double)of.n;
	return sqrt(share * (1 - share) / ((double)of.n - 1));
}

double
sp_gate_pooled_stderr(const struct sp_gate_score *scores, size_t count)
{
	double sum = 0, all = 0;
	size_t i;

	for (i = 0; i < count; i++) {
		double n = (double)scores[i].n, se = sp_gate_stderr(scores[i]);

		all += n;
		sum += (n - 1) * n * se * se;
	}
	if (all <= (double)count)
		return 0;
	return sqrt(sum / (all - (double)count) / all);
}

/* Samples beyond n after which the bound would lie below the margin, losses and gains staying as
 * frequent as they were. */
static uint64_t
more_samples(const struct sp_gate_pairs *pairs, const struct sp_gate_limits *limits)
{
	double margin = limits->max_drop_pp / 100, all = (double)pairs->n;
	double lost = (double)pairs->lost / all, gained = (double)pairs->gained / all;
	uint64_t low, high = pairs->n; /* low does not decide, high does */

	do {
		low = high;
		high *= 2;
		if (high > MORE_MAX)
			return 0;
	} while (sp_gate_bound(lost * (double)high, gained * (double)high, (double)high,
		     limits->confidence) >= margin);
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;
		double n = (double)middle;

		if (sp_gate_bound(lost * n, gained * n, n, limits->confidence) >= margin)
			low = middle;
		else
			high = middle;
	}
	return high - pairs->n;
}

static void
undecided(const struct sp_gate_pairs *pairs, const struct sp_gate_limits *limits,
    struct sp_gate_decision *out)
{
	out->verdict = SP_GATE_INCONCLUSIVE;
	out->more = more_samples(pairs, limits);
	if (out->more != 0)
		snprintf(out->reason, sizeof(out->reason),
		    "drop %.2f pp, but up to %.2f pp with %g confidence, and %.2f pp are allowed: "
		    "about %llu more questions would decide",
		    out->drop_pp, out->bound_pp, limits->confidence, limits->max_drop_pp,
		    (unsigned long long)out->more);
	else
		snprintf(out->reason, sizeof(out->reason),
		    "drop %.2f pp, up to %.2f pp with %g confidence, and %.2f pp are allowed: no "
		    "number of questions decides so small a difference",
		    out->drop_pp, out->bound_pp, limits->confidence, limits->max_drop_pp);
}

void
sp_gate_decide(const struct sp_gate_pairs *pairs, const struct sp_gate_limits *limits,
    struct sp_gate_decision *out)
{
	double n = (double)pairs->n, least;

	SP_ASSERT(pairs->n >= 1 && pairs->lost <= pairs->baseline && pairs->baseline <= pairs->n);
	SP_ASSERT(pairs->gained <= pairs->n - pairs->baseline);
	memset(out, 0, sizeof(*out));
	out->baseline_pp = 100 * (double)pairs->baseline / n;
	out->drop_pp = 100 * ((double)pairs->lost - (double)pairs->gained) / n;
	out->candidate_pp = 100 * (double)(pairs->baseline - pairs->lost + pairs->gained) / n;
	out->bound_pp =
	    100 * sp_gate_bound((double)pairs->lost, (double)pairs->gained, n, limits->confidence);
	out->p = sp_gate_mcnemar(pairs->lost, pairs->gained);
	least = 100 * sp_gate_least(pairs->baseline, pairs->n, limits->confidence);
	out->verdict = SP_GATE_FAILED;
	if (pairs->candidate_nonfinite != 0 || pairs->baseline_nonfinite != 0)
		snprintf(out->reason, sizeof(out->reason),
		    "the %s gave NaN or infinite logits for %llu of %llu questions",
		    pairs->candidate_nonfinite != 0 ? "candidate" : "baseline",
		    (unsigned long long)(pairs->candidate_nonfinite != 0
					     ? pairs->candidate_nonfinite
					     : pairs->baseline_nonfinite),
		    (unsigned long long)pairs->n);
	else if (out->drop_pp > limits->max_drop_pp)
		snprintf(out->reason, sizeof(out->reason),
		    "drop %.2f pp (%.2f to %.2f), and %.2f pp are allowed", out->drop_pp,
		    out->baseline_pp, out->candidate_pp, limits->max_drop_pp);
	else if (least - 100 * limits->chance <= limits->max_drop_pp) {
		out->verdict = SP_GATE_INCONCLUSIVE;
		snprintf(out->reason, sizeof(out->reason),
		    "the baseline scores %.2f (no less than %.2f with %g confidence), guessing "
		    "%.2f: a loss of %.2f pp could not be seen",
		    out->baseline_pp, least, limits->confidence, 100 * limits->chance,
		    limits->max_drop_pp);
	} else if (out->bound_pp < limits->max_drop_pp) {
		out->verdict = SP_GATE_PASSED;
		snprintf(out->reason, sizeof(out->reason),
		    "drop %.2f pp (%.2f to %.2f), below %.2f pp with %g confidence", out->drop_pp,
		    out->baseline_pp, out->candidate_pp, out->bound_pp, limits->confidence);
	} else
		undecided(pairs, limits, out);
}
