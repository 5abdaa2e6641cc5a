/* forward.c -- sequences through the model's layers, and the logits of their tokens. */
#include "engine/forward.h"

#include "engine/forward_impl.h"

#include <string.h>

/* *longest: tokens of the longest sequence after all were fed. */
static enum sp_code
check_feeds(const struct sp_model *m, const struct sp_feed *feeds, size_t n, size_t *longest,
    struct sp_err *err)
{
	*longest = 0;
	for (size_t i = 0; i < n; i++) {
		const struct sp_context *context = feeds[i].context;
		size_t len = sp_context_len(context) + feeds[i].count;

		SP_ASSERT(context->model == m);
		SP_ASSERT(feeds[i].count > 0 && feeds[i].n_logits <= feeds[i].count);
		if (feeds[i].count > context->max - context->len)
			return sp_err_set(err, SP_E_LIMIT,
			    "sequence %zu: %zu more tokens in a context of %zu that holds %zu", i,
			    feeds[i].count, context->max, context->len);
		for (size_t t = 0; t < feeds[i].count; t++) {
			if (feeds[i].tokens[t] >= m->config.vocab)
				return sp_err_set(err, SP_E_INVALID,
				    "sequence %zu: token %u is not in a vocabulary of %u", i,
				    feeds[i].tokens[t], m->config.vocab);
		}
		*longest = len > *longest ? len : *longest;
	}
	return SP_OK;
}

static void
run_layer(struct sp_model *m, size_t i, size_t n_seqs, size_t rows)
{
	const struct sp_layer *layer = &m->layers[i];
	struct sp_pool *pool = m->env.pool;
	size_t hidden = m->config.hidden;
	float eps = m->config.rms_norm_eps;

	sp_kernels_rmsnorm(pool, m->h, layer->input_norm, eps, rows, hidden, m->x);
	sp_layer_qkv(&m->env, layer, m->x, rows, m->q, m->k, m->v);
	sp_attention_append(&m->env, i, m->seqs, n_seqs, m->k, m->v);
	sp_attention_run(&m->env, &m->attention, i, layer->window, m->seqs, n_seqs, m->q, m->heads);
	sp_linear_apply(&layer->o, pool, m->heads, rows, m->y);
	sp_kernels_add(pool, m->h, m->y, rows * hidden);
	sp_kernels_rmsnorm(pool, m->h, layer->post_norm, eps, rows, hidden, m->x);
	sp_moe_mlp(&m->env, layer, &m->mlp, m->x, rows, NULL, m->y);
	sp_kernels_add(pool, m->h, m->y, rows * hidden);
}

/* Logits of the wanted rows of h. x takes those rows together: the head goes over few rows, and
 * over many sequences' at once. */
static void
run_head(struct sp_model *m, const struct sp_feed *feeds, size_t n_seqs)
{
	size_t hidden = m->config.hidden, vocab = m->config.vocab, rows = 0;

	for (size_t i = 0; i < n_seqs; i++) {
		const struct sp__source *s = &m->sources[i];
		const struct sp_feed *feed = &feeds[s->feed];
		size_t from = feed->count - feed->n_logits;

		for (size_t t = s->first > from ? s->first : from; t < s->first + s->count; t++) {
			memcpy(m->x + rows * hidden,
			    m->h + (m->seqs[i].row + t - s->first) * hidden,
			    hidden * sizeof(float));
			m->targets[rows++] = feed->logits + (t - from) * vocab;
		}
	}
	sp_kernels_rmsnorm(
	    m->env.pool, m->x, m->final_norm, m->config.rms_norm_eps, rows, hidden, m->x);
	for (size_t r = 0; r < rows; r += m->logit_rows) {
		size_t n = rows - r < m->logit_rows ? rows - r : m->logit_rows;

		sp_linear_apply(&m->head, m->env.pool, m->x + r * hidden, n, m->logits);
		for (size_t k = 0; k < n; k++)
			memcpy(m->targets[r + k], m->logits + k * vocab, vocab * sizeof(float));
	}
}

/* Takes tokens from feed *feed, token *token on until the chunk is full or nothing is left. */
static size_t
fill_chunk(struct sp_model *m, const struct sp_feed *feeds, size_t n, size_t *feed, size_t *token)
{
	size_t rows = 0, n_seqs = 0;

	for (; *feed < n && rows < SP__CHUNK; (*feed)++, *token = 0) {
		const struct sp_feed *f = &feeds[*feed];
		const struct sp_context *context = f->context;
		size_t left = f->count - *token;
		size_t count = left < SP__CHUNK - rows ? left : SP__CHUNK - rows;

		m->sources[n_seqs] = (struct sp__source){*feed, *token, count};
		m->seqs[n_seqs++] = (struct sp_attention_seq){
		    .prefix_len = sp__context_prefix_len(context),
		    .own = context->kv,
		    .own_len = context->len,
		    .row = rows,
		    .count = count,
		};
		if (context->prefix != NULL)
			m->seqs[n_seqs - 1].prefix = context->prefix->kv;
		memcpy(m->ids + rows, f->tokens + *token, count * sizeof(m->ids[0]));
		rows += count;
		if (count < left) {
			*token += count;
			break;
		}
	}
	return n_seqs;
}

enum sp_code
sp_forward(struct sp_model *m, const struct sp_feed *feeds, size_t n_feeds, struct sp_err *err)
{
	size_t feed = 0, token = 0, longest;
	enum sp_code code;

	if ((code = check_feeds(m, feeds, n_feeds, &longest, err)) ||
	    (code = sp_attention_reserve(&m->attention, &m->env, longest, err)))
		return code;
	while (feed < n_feeds) {
		size_t n_seqs = fill_chunk(m, feeds, n_feeds, &feed, &token);
		size_t rows = m->seqs[n_seqs - 1].row + m->seqs[n_seqs - 1].count;

		sp_weights_lookup(m->embed, m->config.hidden, m->ids, rows, m->h);
		for (size_t i = 0; i < m->config.layers; i++)
			run_layer(m, i, n_seqs, rows);
		run_head(m, feeds, n_seqs);
		for (size_t i = 0; i < n_seqs; i++)
			feeds[m->sources[i].feed].context->len += m->sources[i].count;
	}
	return SP_OK;
}

uint32_t
sp_forward_argmax(const float *logits, size_t vocab)
{
	size_t best = 0;

	for (size_t i = 1; i < vocab; i++) {
		if (logits[i] > logits[best])
			best = i;
	}
	return (uint32_t)best;
}
