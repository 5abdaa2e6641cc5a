/* gram.h -- the output error of one linear layer by the second moments of its inputs. */
#ifndef SP_GRAM_H
#define SP_GRAM_H

#include "engine/kernels.h"

/*
 * G = XᵀX of x[n][in]. For a change D of a linear layer's weights the squared output error summed
 * over all tokens, Σ ‖D x‖², is Σ over rows d of D of dᵀGd: independent of n, which is what makes
 * trying many roundings on many tokens cheap.
 */
struct sp_gram {
	float *panels; /* G packed for sp_kernels_matmul */
	size_t in, n;
};

enum sp_code sp_gram_open(struct sp_pool *pool, const float *x, size_t n, size_t in,
    struct sp_gram *gram, struct sp_err *err) SP_MUST_USE;
void sp_gram_close(struct sp_gram *gram);

/*
 * g[in][in] += XᵀX of n more tokens x[n][in], on and above its diagonal and a little below it; when
 * all were added sp_gram_mirror makes the rest. Sums run over the tokens in order, 1,024 at a time,
 * so that their rounding does not grow with n: matrices that are added in parts of a multiple of
 * that give the bits of the whole.
 */
enum sp_code sp_gram_add(struct sp_pool *pool, const float *x, size_t n, size_t in, float *g,
    struct sp_err *err) SP_MUST_USE;
void sp_gram_mirror(struct sp_pool *pool, size_t in, float *g);

/* g[in][in] += Aᵀ(B / scales - A): by how much b's tokens, divided by scales[in], are ahead of a's.
 */
enum sp_code sp_gram_add_drift(struct sp_pool *pool, const float *a, const float *b,
    const float *scales, size_t n, size_t in, float *g, struct sp_err *err) SP_MUST_USE;

/* Mean over tokens and outputs of (a·x - b·x)², a and b [out][in]. */
enum sp_code sp_gram_loss(const struct sp_gram *gram, struct sp_pool *pool, const float *a,
    const float *b, size_t out, double *loss, struct sp_err *err) SP_MUST_USE;

#endif
