/* linear.h -- a linear layer in fp32. */
#ifndef SP_LINEAR_H
#define SP_LINEAR_H

#include "engine/kernels.h"

/*
 * y = x·wᵀ + bias. w[out][in] row-major, bias[out] or NULL, both malloc'd and owned. packed is what
 * sp_linear_apply multiplies with: after changing w, call sp_linear_pack again. Once packed, w may
 * be freed and set to NULL by who does not need it. packed is owned, and of the narrowest kind that
 * holds w exactly. That are 4-bit codes where scales and zeros[in / group][out] (owned) say how w
 * comes of them.
 */
struct sp_linear {
	float *w;
	float *bias;
	void *packed;
	enum sp_panel_kind kind; /* of packed */
	float *scales;
	uint8_t *zeros;
	size_t group;
	size_t out, in;
};

enum sp_code
sp_linear_pack(struct sp_linear *linear, struct sp_pool *pool, struct sp_err *err) SP_MUST_USE;
/* And frees w, also on failure. */
enum sp_code
sp_linear_pack_only(struct sp_linear *linear, struct sp_pool *pool, struct sp_err *err) SP_MUST_USE;
/* y[n][out] from x[n][in]; must be packed. */
void sp_linear_apply(
    const struct sp_linear *linear, struct sp_pool *pool, const float *x, size_t n, float *y);
void sp_linear_free(struct sp_linear *linear);

#endif
