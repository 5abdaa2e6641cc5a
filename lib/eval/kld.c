/* kld.c -- how far one model's predictions are from another's. */
#include "eval/kld.h"

#include <math.h>

static double
log_sum_exp(const float *logits, size_t vocab, size_t *top)
{
	double sum = 1; /* the largest's own */

	*top = 0;
	for (size_t i = 1; i < vocab; i++)
		*top = logits[i] > logits[*top] ? i : *top;
	for (size_t i = 0; i < vocab; i++) {
		if (i != *top)
			sum += exp((double)logits[i] - (double)logits[*top]);
	}
	return (double)logits[*top] + log(sum);
}

static double
divergence(const float *reference, const float *other, size_t vocab, int *same_top)
{
	size_t top_a, top_b;
	double a = log_sum_exp(reference, vocab, &top_a);
	double b = log_sum_exp(other, vocab, &top_b), sum = 0;

	*same_top = top_a == top_b;
	for (size_t i = 0; i < vocab; i++) {
		double p = (double)reference[i] - a, q = (double)other[i] - b;

		sum += exp(p) * (p - q);
	}
	return sum < 0 ? 0 : sum; /* rounding alone can take it below; NaN stays */
}

double
sp_kld_token(const float *reference, const float *other, size_t vocab)
{
	int same;

	return divergence(reference, other, vocab, &same);
}

void
sp_kld_add(
    struct sp_kld *kld, const float *reference, const float *other, size_t tokens, size_t vocab)
{
	for (size_t t = 0; t < tokens; t++) {
		int same;
		double d = divergence(reference + t * vocab, other + t * vocab, vocab, &same);

		kld->sum += d;
		kld->max = d > kld->max || isnan(d) ? d : kld->max;
		kld->same_top += (size_t)same;
	}
	kld->tokens += tokens;
}

double
sp_kld_mean(const struct sp_kld *kld)
{
	return kld->tokens > 0 ? kld->sum / (double)kld->tokens : 0;
}
