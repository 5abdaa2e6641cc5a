/* factor.h -- the Cholesky factor of the inputs' second moments, in the form rounding needs. */
#ifndef SP_FACTOR_H
#define SP_FACTOR_H

#include "engine/kernels.h"

/*
 * Replaces g[in][in] = XᵀX (symmetric) by the factor of H = g / n + damp · mean(diag(g / n)) · I,
 * with H = L·Lᵀ:
 *	diagonal and below  L[i][j], j <= i
 *	above               L[j][i] / L[i][i], j > i: row i holds how the errors of later columns
 *	                    move the best value of column i
 * An input that is always 0 is no obstacle. When fp32 cannot factor H, damp is raised tenfold until
 * it can; SP_E_INVALID when g is not finite.
 */
enum sp_code sp_factor_cholesky(struct sp_pool *pool, float *g, size_t in, size_t n, double damp,
    struct sp_err *err) SP_MUST_USE;

/* x·H = b for 32 rows at once: b[in][32], a row per lane, becomes x. Serial. */
void sp_factor_solve(const float *factor, size_t in, float *b);

#endif
