/* kld.h -- how far one model's predictions are from another's. */
#ifndef SP_KLD_H
#define SP_KLD_H

#include <stddef.h>

/* Kullback-Leibler divergence of softmax(other) from softmax(reference), both logits[vocab], in nat
 * and in fp64: Σ p (log p - log q). Never below 0. */
double sp_kld_token(const float *reference, const float *other, size_t vocab);

/* Over many tokens. Zero-initialised is empty. */
struct sp_kld {
	size_t tokens;
	size_t same_top; /* where both have the same likeliest token */
	double sum, max;
};

/* Adds tokens rows of logits. */
void sp_kld_add(
    struct sp_kld *kld, const float *reference, const float *other, size_t tokens, size_t vocab);
double sp_kld_mean(const struct sp_kld *kld); /* 0 of no tokens */

#endif
