/* forward.c -- a loaded model, sequences with their KV caches, logits and greedy decoding. */
#include "engine/forward.h"

#include "engine/attention.h"

#include <stdlib.h>
#include <string.h>

/* Tokens that go through the layers at once. More are taken in turns: every operation treats a
 * row by itself, so that changes no bit. */
#define CHUNK ((size_t)768)
/* Rows of logits at once: about this many values, so that a large vocabulary needs no gigabytes. */
#define LOGIT_VALUES ((size_t)1 << 22)

struct sp_model {
	struct sp_model_config config;
	struct sp_layer_env env;
	struct sp_layer *layers; /* packed only */
	struct sp_linear head;
	float *embed, *final_norm;

	/* work memory of a chunk, a token per row */
	struct sp_attention attention;
	struct sp_attention_seq seqs[CHUNK];
	struct source {
		size_t feed, first, count; /* tokens of a feed */
	} sources[CHUNK];
	uint32_t ids[CHUNK];
	float *h, *x, *q, *k, *v, *heads, *gate, *up, *logits;
	float *targets[CHUNK]; /* where the logits of each row of x go */
	size_t logit_rows;
};

struct sp_context {
	const struct sp_model *model;
	const struct sp_context *prefix;
	struct sp_kv kv;
	size_t len, max; /* own tokens */
};

static enum sp_code
load_layer(struct sp_model *m, const struct sp_weights *weights, size_t i, struct sp_err *err)
{
	struct sp_layer *layer = &m->layers[i];
	enum sp_code code;

	if ((code = sp_weights_layer(weights, i, layer, err)) ||
	    (code = sp_layer_pack(layer, m->env.pool, err)))
		return code;
	for (enum sp_layer_linear k = 0; k < SP_LAYER_LINEARS; k++) {
		struct sp_linear *linear = sp_layer_linear(layer, k);

		free(linear->w);
		linear->w = NULL;
	}
	return SP_OK;
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
	    (code = sp_linear_pack(&m->head, m->env.pool, err)))
		return code;
	free(m->head.w);
	m->head.w = NULL;
	if ((code = sp_weights_embed(weights, &m->embed, err)))
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
	    {&m->h, CHUNK, c->hidden},
	    {&m->x, CHUNK, c->hidden},
	    {&m->q, CHUNK, width},
	    {&m->k, CHUNK, kv_width},
	    {&m->v, CHUNK, kv_width},
	    {&m->heads, CHUNK, width},
	    {&m->gate, CHUNK, c->intermediate},
	    {&m->up, CHUNK, c->intermediate},
	    {&m->logits, m->logit_rows, c->vocab},
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		*parts[i].rows = malloc(parts[i].count * parts[i].width * sizeof(float));
		if (*parts[i].rows == NULL)
			return sp_err_set(err, SP_E_NO_MEMORY, "work memory of %zu tokens", CHUNK);
	}
	return SP_OK;
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
	m->logit_rows = rows < 16 ? 16 : rows > CHUNK ? CHUNK : rows;
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
	free(m->gate);
	free(m->up);
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

static size_t
prefix_len(const struct sp_context *context)
{
	return context->prefix == NULL ? 0 : context->prefix->len;
}

size_t
sp_context_len(const struct sp_context *context)
{
	return prefix_len(context) + context->len;
}

void
sp_context_rewind(struct sp_context *context, size_t own)
{
	SP_ASSERT(own <= context->len);
	context->len = own;
}

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
	sp_linear_apply(&layer->q, pool, m->x, rows, m->q);
	sp_linear_apply(&layer->k, pool, m->x, rows, m->k);
	sp_linear_apply(&layer->v, pool, m->x, rows, m->v);
	sp_attention_append(&m->env, i, m->seqs, n_seqs, m->k, m->v);
	sp_attention_run(&m->env, &m->attention, i, m->seqs, n_seqs, m->q, m->heads);
	sp_linear_apply(&layer->o, pool, m->heads, rows, m->x);
	sp_kernels_add(pool, m->h, m->x, rows * hidden);
	sp_kernels_rmsnorm(pool, m->h, layer->post_norm, eps, rows, hidden, m->x);
	sp_linear_apply(&layer->gate, pool, m->x, rows, m->gate);
	sp_linear_apply(&layer->up, pool, m->x, rows, m->up);
	sp_kernels_silu_mul(pool, m->gate, m->up, rows * m->config.intermediate);
	sp_linear_apply(&layer->down, pool, m->gate, rows, m->x);
	sp_kernels_add(pool, m->h, m->x, rows * hidden);
}

/* Logits of the wanted rows of h. x takes those rows together: the head goes over few rows, and
 * over many sequences' at once. */
static void
run_head(struct sp_model *m, const struct sp_feed *feeds, size_t n_seqs)
{
	size_t hidden = m->config.hidden, vocab = m->config.vocab, rows = 0;

	for (size_t i = 0; i < n_seqs; i++) {
		const struct source *s = &m->sources[i];
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

	for (; *feed < n && rows < CHUNK; (*feed)++, *token = 0) {
		const struct sp_feed *f = &feeds[*feed];
		const struct sp_context *context = f->context;
		size_t left = f->count - *token;
		size_t count = left < CHUNK - rows ? left : CHUNK - rows;

		m->sources[n_seqs] = (struct source){*feed, *token, count};
		m->seqs[n_seqs++] = (struct sp_attention_seq){
		    .prefix_len = prefix_len(context),
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

/* A run in progress. */
struct slot {
	struct sp_greedy *run; /* NULL: free */
	struct sp_context *context;
	size_t max; /* tokens it may still get, out_len included */
};

static enum sp_code
slot_start(struct sp_model *m, struct slot *slot, struct sp_greedy *run, struct sp_err *err)
{
	size_t room;
	enum sp_code code;

	SP_ASSERT(run->prompt_len > 0);
	run->out_len = 0;
	if (run->prompt_len > m->env.positions)
		return sp_err_set(err, SP_E_LIMIT,
		    "a prompt of %zu tokens: the model has %zu positions", run->prompt_len,
		    m->env.positions);
	room = m->env.positions - run->prompt_len;
	slot->max = run->max_new < room ? run->max_new : room;
	if (slot->max == 0)
		return SP_OK;
	code = sp_context_new(m, NULL, run->prompt_len + slot->max - 1, &slot->context, err);
	if (code == SP_OK)
		slot->run = run;
	return code;
}

/* 1 when the run has ended with this token or without it. */
static int
slot_take(struct sp_model *m, struct slot *slot, uint32_t id)
{
	struct sp_greedy *run = slot->run;

	if (sp_config_is_eos(&m->config, id))
		return 1;
	run->out[run->out_len++] = id;
	return run->out_len == slot->max ||
	       (run->stop != NULL && run->stop(run->arg, run->out, run->out_len));
}

static void
slot_end(struct slot *slot)
{
	sp_context_free(&slot->context);
	*slot = (struct slot){0};
}

/* One token for each of n slots. */
static enum sp_code
step(struct sp_model *m, struct slot *slots, size_t n, struct sp_feed *feeds, float *logits,
    struct sp_err *err)
{
	enum sp_code code;

	for (size_t i = 0; i < n; i++) {
		const struct sp_greedy *run = slots[i].run;
		int begins = run->out_len == 0;

		feeds[i] = (struct sp_feed){
		    .context = slots[i].context,
		    .tokens = begins ? run->prompt : run->out + run->out_len - 1,
		    .count = begins ? run->prompt_len : 1,
		    .n_logits = 1,
		    .logits = logits + i * m->config.vocab,
		};
	}
	if ((code = sp_forward(m, feeds, n, err)))
		return code;
	for (size_t i = 0; i < n; i++) {
		uint32_t id = sp_forward_argmax(feeds[i].logits, m->config.vocab);

		if (slot_take(m, &slots[i], id))
			slot_end(&slots[i]);
	}
	return SP_OK;
}

enum sp_code
sp_forward_greedy(
    struct sp_model *m, struct sp_greedy *runs, size_t count, size_t batch, struct sp_err *err)
{
	size_t next = 0, active = 0;
	struct slot *slots = NULL;
	struct sp_feed *feeds = NULL;
	float *logits = NULL;
	enum sp_code code = SP_OK;

	SP_ASSERT(batch > 0);
	batch = batch < count ? batch : count;
	slots = sp_xcalloc(batch + 1, sizeof(*slots));
	feeds = sp_xcalloc(batch + 1, sizeof(*feeds));
	if ((logits = calloc(batch + 1, m->config.vocab * sizeof(float))) == NULL) {
		code = sp_err_set(err, SP_E_NO_MEMORY, "logits of %zu sequences", batch);
		goto out;
	}
	for (;;) {
		size_t kept = 0;

		for (size_t i = 0; i < active; i++) { /* close the gaps */
			if (slots[i].run != NULL)
				slots[kept++] = slots[i];
		}
		for (active = kept; active < batch && next < count;) {
			slots[active] = (struct slot){0};
			if ((code = slot_start(m, &slots[active], &runs[next++], err)))
				goto out;
			active += slots[active].run != NULL;
		}
		if (active == 0)
			break;
		if ((code = step(m, slots, active, feeds, logits, err)))
			goto out;
	}
out:
	for (size_t i = 0; i < active; i++)
		slot_end(&slots[i]);
	free(slots);
	free(feeds);
	free(logits);
	return code;
}
