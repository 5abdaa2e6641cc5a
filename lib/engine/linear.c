/* linear.c -- a linear layer in fp32. */
#include "engine/linear.h"

#include <stdlib.h>

static enum sp_code
room(struct sp_linear *linear, enum sp_panel_kind kind, struct sp_err *err)
{
	const size_t line = 64;
	size_t size = sp_kernels_panels_size(kind, linear->out, linear->in, linear->group);

	if (linear->packed == NULL || linear->kind != kind) {
		free(linear->packed);
		linear->packed = aligned_alloc(line, (size + line - 1) / line * line);
	}
	linear->kind = kind;
	return linear->packed != NULL ? SP_OK
				      : sp_err_set(err, SP_E_NO_MEMORY, "weights of %zu x %zu",
					    linear->out, linear->in);
}

enum sp_code
sp_linear_pack(struct sp_linear *linear, struct sp_pool *pool, struct sp_err *err)
{
	enum sp_panel_kind kind;
	enum sp_code code;

	if (linear->scales != NULL) {
		if ((code = room(linear, SP_PANEL_Q4, err)))
			return code;
		if (sp_kernels_pack_q4(pool, linear->w, linear->scales, linear->zeros, linear->out,
			linear->in, linear->group, linear->packed))
			return SP_OK;
	}
	kind = sp_kernels_narrowest(pool, linear->w, linear->out * linear->in);
	if ((code = room(linear, kind, err)))
		return code;
	sp_kernels_pack(pool, kind, linear->w, linear->out, linear->in, linear->packed);
	return SP_OK;
}

enum sp_code
sp_linear_pack_only(struct sp_linear *linear, struct sp_pool *pool, struct sp_err *err)
{
	enum sp_code code = sp_linear_pack(linear, pool, err);

	free(linear->w);
	linear->w = NULL;
	return code;
}

void
sp_linear_apply(
    const struct sp_linear *linear, struct sp_pool *pool, const float *x, size_t n, float *y)
{
	const struct sp_panels panels = {linear->kind, linear->group, linear->packed};

	SP_ASSERT(linear->packed != NULL);
	sp_kernels_matmul(pool, x, n, linear->in, &panels, linear->bias, linear->out, y);
}

void
sp_linear_free(struct sp_linear *linear)
{
	free(linear->w);
	free(linear->bias);
	free(linear->packed);
	free(linear->scales);
	free(linear->zeros);
	*linear = (struct sp_linear){0};
}
