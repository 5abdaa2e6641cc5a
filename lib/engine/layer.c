/* layer.c -- one decoder layer in fp32. */
#include "engine/layer.h"

#include "engine/attention.h"
#include "engine/moe.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Tokens that go through a layer at once: bounds the work memory. */
#define CHUNK ((size_t)2048)

static const struct {
	const char *name;
	size_t at; /* in struct sp_layer */
} linears[SP_LAYER_LINEARS] = {
    [SP_LAYER_Q] = {"self_attn.q_proj", offsetof(struct sp_layer, q)},
    [SP_LAYER_K] = {"self_attn.k_proj", offsetof(struct sp_layer, k)},
    [SP_LAYER_V] = {"self_attn.v_proj", offsetof(struct sp_layer, v)},
    [SP_LAYER_O] = {"self_attn.o_proj", offsetof(struct sp_layer, o)},
    [SP_LAYER_GATE] = {"mlp.gate_proj", offsetof(struct sp_layer, gate)},
    [SP_LAYER_UP] = {"mlp.up_proj", offsetof(struct sp_layer, up)},
    [SP_LAYER_DOWN] = {"mlp.down_proj", offsetof(struct sp_layer, down)},
};

static const struct {
	const char *name;
	size_t at; /* in struct sp_layer */
} norms[SP_LAYER_NORMS] = {
    [SP_LAYER_INPUT_NORM] = {"input_layernorm", offsetof(struct sp_layer, input_norm)},
    [SP_LAYER_POST_NORM] = {"post_attention_layernorm", offsetof(struct sp_layer, post_norm)},
    [SP_LAYER_Q_NORM] = {"self_attn.q_norm", offsetof(struct sp_layer, q_norm)},
    [SP_LAYER_K_NORM] = {"self_attn.k_norm", offsetof(struct sp_layer, k_norm)},
};

size_t
sp_layer_linears(const struct sp_model_config *c, size_t layer)
{
	return sp_config_sparse(c, layer) ? SP_LAYER_GATE + 3 * (size_t)c->experts
					  : SP_LAYER_LINEARS;
}

static struct sp_layer_part
attention_part(const struct sp_model_config *c, enum sp_layer_linear which)
{
	size_t heads = (size_t)c->heads * c->head_dim, kv_heads = (size_t)c->kv_heads * c->head_dim;
	struct sp_layer_part part = {.out = kv_heads, .in = c->hidden, .biased = c->qkv_bias};

	strcpy(part.name, linears[which].name);
	if (which == SP_LAYER_Q)
		part.out = heads;
	if (which == SP_LAYER_O) {
		part.out = c->hidden;
		part.in = heads;
		part.biased = c->o_bias;
	}
	return part;
}

static void
expert_name(const struct sp_model_config *c, size_t expert, enum sp_layer_linear which, char *name,
    size_t size)
{
	static const char *const mixtral[] = {"w1", "w3", "w2"}; /* gate, up, down */
	const char *plain = strchr(linears[which].name, '.') + 1;

	if (c->arch == SP_ARCH_MIXTRAL)
		snprintf(name, size, "block_sparse_moe.experts.%zu.%s", expert,
		    mixtral[which - SP_LAYER_GATE]);
	else
		snprintf(name, size, "mlp.experts.%zu.%s", expert, plain);
}

struct sp_layer_part
sp_layer_part(const struct sp_model_config *c, size_t layer, size_t which)
{
	struct sp_layer_part part = {.out = c->intermediate, .in = c->hidden};
	enum sp_layer_linear kind;

	SP_ASSERT(which < sp_layer_linears(c, layer));
	if (which < SP_LAYER_GATE)
		return attention_part(c, (enum sp_layer_linear)which);
	kind = SP_LAYER_GATE + (which - SP_LAYER_GATE) % 3;
	if (sp_config_sparse(c, layer)) {
		expert_name(c, (which - SP_LAYER_GATE) / 3, kind, part.name, sizeof(part.name));
		part.out = c->moe_intermediate;
	} else {
		strcpy(part.name, linears[kind].name);
		part.biased = c->mlp_bias;
	}
	if (kind == SP_LAYER_DOWN) {
		part.in = part.out;
		part.out = c->hidden;
	}
	return part;
}

const char *
sp_layer_linear_name(enum sp_layer_linear which)
{
	return linears[which].name;
}

const char *
sp_layer_router_name(const struct sp_model_config *c)
{
	return c->arch == SP_ARCH_MIXTRAL ? "block_sparse_moe.gate" : "mlp.gate";
}

struct sp_linear *
sp_layer_linear(struct sp_layer *layer, size_t which)
{
	struct sp_expert *expert;

	if (which < SP_LAYER_GATE || layer->n_experts == 0)
		return (struct sp_linear *)(void *)((char *)layer + linears[which].at);
	SP_ASSERT((which - SP_LAYER_GATE) / 3 < layer->n_experts);
	expert = &layer->experts[(which - SP_LAYER_GATE) / 3];
	switch ((which - SP_LAYER_GATE) % 3) {
	case 0:
		return &expert->gate;
	case 1:
		return &expert->up;
	default:
		return &expert->down;
	}
}

static size_t
linears_of(const struct sp_layer *layer)
{
	return layer->n_experts == 0 ? SP_LAYER_LINEARS : SP_LAYER_GATE + 3 * layer->n_experts;
}

const char *
sp_layer_norm_name(enum sp_layer_norm which)
{
	return norms[which].name;
}

size_t
sp_layer_norm_size(const struct sp_model_config *c, enum sp_layer_norm which)
{
	if (which == SP_LAYER_INPUT_NORM || which == SP_LAYER_POST_NORM)
		return c->hidden;
	return c->qk_norm ? c->head_dim : 0;
}

float **
sp_layer_norm(struct sp_layer *layer, enum sp_layer_norm which)
{
	return (float **)(void *)((char *)layer + norms[which].at);
}

enum sp_code
sp_layer_pack(struct sp_layer *layer, struct sp_pool *pool, struct sp_err *err)
{
	enum sp_code code;

	for (size_t i = 0; i < linears_of(layer); i++) {
		if ((code = sp_linear_pack(sp_layer_linear(layer, i), pool, err)))
			return code;
	}
	return layer->n_experts == 0 ? SP_OK : sp_linear_pack(&layer->router, pool, err);
}

enum sp_code
sp_layer_pack_only(struct sp_layer *layer, struct sp_pool *pool, struct sp_err *err)
{
	enum sp_code code;

	for (size_t i = 0; i < linears_of(layer); i++) {
		if ((code = sp_linear_pack_only(sp_layer_linear(layer, i), pool, err)))
			return code;
	}
	return layer->n_experts == 0 ? SP_OK : sp_linear_pack_only(&layer->router, pool, err);
}

void
sp_layer_free(struct sp_layer *layer)
{
	for (enum sp_layer_norm i = 0; i < SP_LAYER_NORMS; i++)
		free(*sp_layer_norm(layer, i));
	for (size_t i = 0; i < linears_of(layer); i++)
		sp_linear_free(sp_layer_linear(layer, i));
	sp_linear_free(&layer->router);
	free(layer->experts);
	*layer = (struct sp_layer){0};
}

static float *
rows_new(size_t rows, size_t columns)
{
	return malloc(rows * columns * sizeof(float));
}

/* Sequences that are taken together: as many as fit a chunk, at least one. */
static size_t
seqs_at_once(size_t n_seq, size_t len)
{
	size_t fit = len >= CHUNK ? 1 : CHUNK / len;

	return fit < n_seq ? fit : n_seq;
}

/* What attention over `rows` tokens in `n` sequences needs. */
struct attention {
	struct sp_attention work;
	struct sp_attention_seq *seqs;
	size_t n;
	float *q, *k, *v, *heads;
};

static void
attention_close(struct attention *a)
{
	for (size_t i = 0; i < a->n; i++)
		sp_attention_kv_close(&a->seqs[i].own);
	free(a->seqs);
	free(a->q);
	free(a->k);
	free(a->v);
	free(a->heads);
	sp_attention_close(&a->work);
}

static enum sp_code
attention_open(struct attention *a, const struct sp_layer_env *env, size_t n, size_t len,
    int want_heads, struct sp_err *err)
{
	size_t width = (size_t)env->config.heads * env->config.head_dim;
	size_t kv_width = (size_t)env->config.kv_heads * env->config.head_dim;
	enum sp_code code;

	*a = (struct attention){0};
	a->seqs = sp_xcalloc(n, sizeof(*a->seqs));
	for (; a->n < n; a->n++) {
		if ((code = sp_attention_kv_open(&a->seqs[a->n].own, &env->config, 1, len, err)))
			goto out;
		a->seqs[a->n].row = a->n * len;
		a->seqs[a->n].count = len;
	}
	a->q = rows_new(n * len, width);
	a->k = rows_new(n * len, kv_width);
	a->v = rows_new(n * len, kv_width);
	a->heads = want_heads ? rows_new(n * len, width) : NULL;
	if (a->q == NULL || a->k == NULL || a->v == NULL || (want_heads && a->heads == NULL)) {
		code = sp_err_set(err, SP_E_NO_MEMORY, "attention of %zu tokens", n * len);
		goto out;
	}
	code = sp_attention_reserve(&a->work, env, len, err);
out:
	if (code)
		attention_close(a);
	return code;
}

void
sp_layer_qkv(const struct sp_layer_env *env, const struct sp_layer *layer, const float *x, size_t n,
    float *q, float *k, float *v)
{
	const struct sp_model_config *c = &env->config;
	float eps = c->rms_norm_eps;

	sp_linear_apply(&layer->q, env->pool, x, n, q);
	sp_linear_apply(&layer->k, env->pool, x, n, k);
	sp_linear_apply(&layer->v, env->pool, x, n, v);
	if (layer->q_norm != NULL)
		sp_kernels_rmsnorm(env->pool, q, layer->q_norm, eps, n * c->heads, c->head_dim, q);
	if (layer->k_norm != NULL)
		sp_kernels_rmsnorm(
		    env->pool, k, layer->k_norm, eps, n * c->kv_heads, c->head_dim, k);
}

enum sp_code
sp_layer_attention(const struct sp_layer_env *env, const struct sp_layer *layer, const float *x,
    size_t n_seq, size_t len, float *heads, float *out, struct sp_err *err)
{
	size_t hidden = env->config.hidden, width = layer->q.out;
	size_t step = seqs_at_once(n_seq, len);
	struct attention a;
	enum sp_code code;

	if (len > env->positions)
		return sp_err_set(
		    err, SP_E_LIMIT, "a sequence of %zu tokens, at most %zu", len, env->positions);
	if (n_seq == 0 || len == 0)
		return SP_OK;
	if ((code = attention_open(&a, env, step, len, heads == NULL, err)))
		return code;
	for (size_t s = 0; s < n_seq; s += step) {
		size_t n = n_seq - s < step ? n_seq - s : step, rows = n * len;
		const float *from = x + s * len * hidden;
		float *to = heads == NULL ? a.heads : heads + s * len * width;

		sp_layer_qkv(env, layer, from, rows, a.q, a.k, a.v);
		sp_attention_append(env, 0, a.seqs, n, a.k, a.v);
		sp_attention_run(env, &a.work, 0, layer->window, a.seqs, n, a.q, to);
		if (out != NULL)
			sp_linear_apply(&layer->o, env->pool, to, rows, out + s * len * hidden);
	}
	attention_close(&a);
	return SP_OK;
}

enum sp_code
sp_layer_mlp(const struct sp_layer_env *env, const struct sp_layer *layer, const float *x, size_t n,
    float *act, float *out, struct sp_err *err)
{
	size_t hidden = env->config.hidden, inner = env->config.intermediate;
	size_t step = n < CHUNK ? n : CHUNK;
	struct sp_moe_work work = {0};
	enum sp_code code;

	SP_ASSERT(act == NULL || layer->n_experts == 0);
	if (n == 0)
		return SP_OK;
	if ((code = sp_moe_work_open(&work, &env->config, step, err)))
		return code;
	for (size_t r = 0; r < n; r += step)
		sp_moe_mlp(env, layer, &work, x + r * hidden, n - r < step ? n - r : step,
		    act == NULL ? NULL : act + r * inner, out == NULL ? NULL : out + r * hidden);
	sp_moe_work_close(&work);
	return SP_OK;
}

enum sp_code
sp_layer_forward(const struct sp_layer_env *env, const struct sp_layer *layer, float *h,
    size_t n_seq, size_t len, struct sp_err *err)
{
	size_t hidden = env->config.hidden, step;
	float eps = env->config.rms_norm_eps, *x = NULL, *y = NULL;
	enum sp_code code = SP_OK;

	if (n_seq == 0 || len == 0)
		return SP_OK;
	step = seqs_at_once(n_seq, len);
	x = rows_new(step * len, hidden);
	y = rows_new(step * len, hidden);
	if (x == NULL || y == NULL) {
		code = sp_err_set(err, SP_E_NO_MEMORY, "a layer over %zu tokens", step * len);
		goto out;
	}
	for (size_t s = 0; s < n_seq; s += step) {
		size_t n = n_seq - s < step ? n_seq - s : step, rows = n * len;
		float *at = h + s * len * hidden;

		sp_kernels_rmsnorm(env->pool, at, layer->input_norm, eps, rows, hidden, x);
		if ((code = sp_layer_attention(env, layer, x, n, len, NULL, y, err)))
			goto out;
		sp_kernels_add(env->pool, at, y, rows * hidden);
		sp_kernels_rmsnorm(env->pool, at, layer->post_norm, eps, rows, hidden, x);
		if ((code = sp_layer_mlp(env, layer, x, rows, NULL, y, err)))
			goto out;
		sp_kernels_add(env->pool, at, y, rows * hidden);
	}
out:
	free(x);
	free(y);
	return code;
}
