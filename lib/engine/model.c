/* model.c -- a checkpoint in memory, packed for the kernels. */
#include "engine/forward_impl.h"

#include <stdlib.h>

/* Rows of logits at once: about this many values, so that a large vocabulary needs no gigabytes. */
#define LOGIT_VALUES ((size_t)1 << 22)

static enum sp_code
load_layer(struct sp_model *m, const struct sp_weights *weights, size_t i, struct sp_err *err)
{
	enum sp_code code = sp_weights_layer(weights, i, &m->layers[i], err);

	return code ? code : sp_layer_pack_only(&m->layers[i], m->env.pool, err);
}

static enum sp_code
load(struct sp_model *m, const struct sp_weights *weights, struct sp_err *err)
{
	enum sp_code code;

	m->layers = sp_xcalloc(m->config.layers, sizeof(*m->layers));
	for (size_t i = 0; i < m->config.layers; i++) {
		if ((code = load_layer(m, weights, i, err)))
			return code;
	}
	if ((code = sp_weights_head(weights, &m->head, err)) ||
	    (code = sp_linear_pack_only(&m->head, m->env.pool, err)) ||
	    (code = sp_weights_embed(weights, &m->embed, err)))
		return code;
	return sp_weights_final_norm(weights, &m->final_norm, err);
}

static enum sp_code
alloc_work(struct sp_model *m, struct sp_err *err)
{
	const struct sp_model_config *c = &m->config;
	size_t width = (size_t)c->heads * c->head_dim, kv_width = (size_t)c->kv_heads * c->head_dim;
	struct {
		float **rows;
		size_t count, width;
	} const parts[] = {
	    {&m->h, SP__CHUNK, c->hidden},
	    {&m->x, SP__CHUNK, c->hidden},
	    {&m->q, SP__CHUNK, width},
	    {&m->k, SP__CHUNK, kv_width},
	    {&m->v, SP__CHUNK, kv_width},
	    {&m->heads, SP__CHUNK, width},
	    {&m->y, SP__CHUNK, c->hidden},
	    {&m->logits, m->logit_rows, c->vocab},
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		*parts[i].rows = malloc(parts[i].count * parts[i].width * sizeof(float));
		if (*parts[i].rows == NULL)
			return sp_err_set(
			    err, SP_E_NO_MEMORY, "work memory of %zu tokens", SP__CHUNK);
	}
	return sp_moe_work_open(&m->mlp, c, SP__CHUNK, err);
}

enum sp_code
sp_model_open(const char *dir, struct sp_pool *pool, struct sp_model **out, struct sp_err *err)
{
	struct sp_model *m = sp_xcalloc(1, sizeof(*m));
	struct sp_weights *weights = NULL;
	size_t positions, rows;
	enum sp_code code;

	*out = NULL;
	if ((code = sp_weights_open(dir, &weights, err)))
		goto out;
	m->config = *sp_weights_config(weights);
	positions = m->config.max_positions;
	positions = positions < SP_POSITIONS_MAX ? positions : SP_POSITIONS_MAX;
	rows = LOGIT_VALUES / m->config.vocab;
	m->logit_rows = rows < 16 ? 16 : rows > SP__CHUNK ? SP__CHUNK : rows;
	if ((code = sp_layer_env_open(&m->env, &m->config, positions, pool, err)) ||
	    (code = load(m, weights, err)) || (code = alloc_work(m, err))) {
		sp_err_prefix(err, "%s", dir);
		goto out;
	}
	*out = m;
	m = NULL;
out:
	sp_weights_close(&weights);
	sp_model_close(&m);
	return code;
}

void
sp_model_close(struct sp_model **model)
{
	struct sp_model *m = *model;

	if (m == NULL)
		return;
	for (size_t i = 0; m->layers != NULL && i < m->config.layers; i++)
		sp_layer_free(&m->layers[i]);
	free(m->layers);
	sp_linear_free(&m->head);
	sp_attention_close(&m->attention);
	sp_layer_env_close(&m->env);
	free(m->embed);
	free(m->final_norm);
	free(m->h);
	free(m->x);
	free(m->q);
	free(m->k);
	free(m->v);
	free(m->heads);
	free(m->y);
	sp_moe_work_close(&m->mlp);
	free(m->logits);
	free(m);
	*model = NULL;
}

const struct sp_model_config *
sp_model_config(const struct sp_model *model)
{
	return &model->config;
}

size_t
sp_model_positions(const struct sp_model *model)
{
	return model->env.positions;
}
