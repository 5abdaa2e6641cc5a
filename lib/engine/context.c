/* context.c -- sequences and what the model remembers of them. */
#include "engine/forward_impl.h"

#include <stdlib.h>

enum sp_code
sp_context_new(const struct sp_model *model, const struct sp_context *prefix, size_t max_tokens,
    struct sp_context **out, struct sp_err *err)
{
	size_t before = prefix == NULL ? 0 : prefix->len, positions = model->env.positions;
	struct sp_context *context;
	enum sp_code code;

	*out = NULL;
	SP_ASSERT(prefix == NULL || (prefix->prefix == NULL && prefix->model == model));
	if (before > positions || max_tokens > positions - before)
		return sp_err_set(err, SP_E_LIMIT, "%zu tokens: the model has %zu positions",
		    before + max_tokens, positions);
	context = sp_xcalloc(1, sizeof(*context));
	context->model = model;
	context->prefix = prefix;
	context->max = max_tokens;
	code = sp_attention_kv_open(
	    &context->kv, &model->config, model->config.layers, max_tokens, err);
	if (code)
		sp_context_free(&context);
	*out = context;
	return code;
}

void
sp_context_free(struct sp_context **context)
{
	if (*context == NULL)
		return;
	sp_attention_kv_close(&(*context)->kv);
	free(*context);
	*context = NULL;
}

size_t
sp_context_len(const struct sp_context *context)
{
	return sp__context_prefix_len(context) + context->len;
}

void
sp_context_rewind(struct sp_context *context, size_t own)
{
	SP_ASSERT(own <= context->len);
	context->len = own;
}
