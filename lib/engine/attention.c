/* attention.c -- keys and values of sequences, and causal grouped-query attention over them. */
#include "engine/attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Rows (tokens x query heads of one KV head) that one task takes through all keys: two full tiles
 * of the widest kernel, and their scores still fit a second level cache. */
#define BLOCK_ROWS ((size_t)24)

static size_t
max(size_t a, size_t b)
{
	return a > b ? a : b;
}

static size_t
round_up(size_t value, size_t to)
{
	return (value + to - 1) / to * to;
}

/* Floats of one KV head: its keys, and then its values. */
static size_t
keys_size(const struct sp_model_config *config, size_t cap)
{
	return cap * config->head_dim;
}

static size_t
head_size(const struct sp_model_config *config, size_t cap)
{
	return keys_size(config, cap) + cap * round_up(config->head_dim, SP_PANEL);
}

static float *
head_of(const struct sp_kv *kv, const struct sp_model_config *config, size_t layer, size_t head)
{
	return kv->data + (layer * config->kv_heads + head) * head_size(config, kv->cap);
}

enum sp_code
sp_attention_kv_open(struct sp_kv *kv, const struct sp_model_config *config, size_t layers,
    size_t tokens, struct sp_err *err)
{
	size_t count;

	kv->cap = round_up(max(tokens, 1), SP_PANEL);
	if (__builtin_mul_overflow(head_size(config, kv->cap), layers * config->kv_heads, &count) ||
	    (kv->data = calloc(count, sizeof(float))) == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "keys and values of %zu tokens", tokens);
	return SP_OK;
}

void
sp_attention_kv_close(struct sp_kv *kv)
{
	free(kv->data);
	*kv = (struct sp_kv){0};
}

static size_t
group_of(const struct sp_model_config *config)
{
	return config->heads / config->kv_heads;
}

static size_t
block_tokens(const struct sp_model_config *config)
{
	return max(BLOCK_ROWS / group_of(config), 1);
}

/* A part holds q[rows][head_dim], out[rows][head_dim] and scores[rows][score_stride]. */
static size_t
part_rows(const struct sp_model_config *config)
{
	return block_tokens(config) * group_of(config);
}

/* Not a multiple of 1,024 floats: rows 4 KiB apart would share one set of the first level cache. */
static size_t
score_stride(size_t len)
{
	return round_up(len, SP_PANEL) + 16;
}

enum sp_code
sp_attention_reserve(
    struct sp_attention *work, const struct sp_layer_env *env, size_t len, struct sp_err *err)
{
	const struct sp_model_config *config = &env->config;

	if (work->data != NULL && len <= work->len)
		return SP_OK;
	if (work->data != NULL)
		len = max(len, 2 * work->len);
	sp_attention_close(work);
	work->parts = sp_pool_threads(env->pool);
	work->stride = part_rows(config) * ((size_t)2 * config->head_dim + score_stride(len));
	work->data = malloc(work->parts * work->stride * sizeof(float));
	work->busy = malloc(work->parts * sizeof(*work->busy));
	if (work->data == NULL || work->busy == NULL) {
		sp_attention_close(work);
		return sp_err_set(err, SP_E_NO_MEMORY, "attention over %zu tokens", len);
	}
	for (size_t i = 0; i < work->parts; i++)
		atomic_flag_clear(&work->busy[i]);
	work->len = len;
	return SP_OK;
}

void
sp_attention_close(struct sp_attention *work)
{
	free(work->data);
	free(work->busy);
	*work = (struct sp_attention){0};
}

struct job {
	const struct sp_layer_env *env;
	struct sp_attention *work;
	size_t layer, window;
	const struct sp_attention_seq *seqs;
	size_t n;
	const float *q, *k, *v;
	float *out;
};

static void
append_head(void *arg, size_t i)
{
	const struct job *job = arg;
	const struct sp_model_config *config = &job->env->config;
	const struct sp_attention_seq *seq = &job->seqs[i / config->kv_heads];
	size_t head = i % config->kv_heads, dim = config->head_dim, cap = seq->own.cap;
	float *keys = head_of(&seq->own, config, job->layer, head);
	float *values = keys + keys_size(config, cap);
	float key[1024];

	SP_ASSERT(dim <= sizeof(key) / sizeof(key[0]));
	for (size_t t = 0; t < seq->count; t++) {
		size_t at = seq->own_len + t;
		size_t from = ((seq->row + t) * config->kv_heads + head) * dim;
		float *column = keys + at / SP_PANEL * dim * SP_PANEL + at % SP_PANEL;

		memcpy(key, job->k + from, dim * sizeof(float));
		sp_kernels_rope(key, dim, job->env->rope + (seq->prefix_len + at) * dim);
		for (size_t d = 0; d < dim; d++)
			column[d * SP_PANEL] = key[d];
		for (size_t d = 0; d < dim; d += SP_PANEL)
			memcpy(values + d * cap + at * SP_PANEL, job->v + from + d,
			    (dim - d < SP_PANEL ? dim - d : SP_PANEL) * sizeof(float));
	}
}

void
sp_attention_append(const struct sp_layer_env *env, size_t layer,
    const struct sp_attention_seq *seqs, size_t n, const float *k, const float *v)
{
	struct job job = {.env = env, .layer = layer, .seqs = seqs, .n = n, .k = k, .v = v};

	for (size_t i = 0; i < n; i++) {
		SP_ASSERT(seqs[i].own_len + seqs[i].count <= seqs[i].own.cap);
		SP_ASSERT(seqs[i].prefix_len + seqs[i].own_len + seqs[i].count <= env->positions);
	}
	sp_pool_run(env->pool, n * env->config.kv_heads, append_head, &job);
}

/* One block of tokens under one KV head. Rows are token by token, its query heads together, so that
 * consecutive rows see the same keys or more. */
struct block {
	const struct sp_model_config *config;
	const struct sp_attention_seq *seq;
	size_t layer, head; /* KV head */
	size_t token, tokens;
	size_t window; /* 0: none */
	float *q, *out, *scores;
	size_t stride; /* of scores */
};

static void
block_scores(const struct block *b, const struct sp_kv *kv, size_t len, float *scores)
{
	size_t dim = b->config->head_dim, rows = b->tokens * group_of(b->config);
	const float *keys = len == 0 ? NULL : head_of(kv, b->config, b->layer, b->head);

	for (size_t at = 0; at < len; at += SP_PANEL)
		sp_kernels_panel(b->q, dim, rows, dim, keys + at * dim,
		    len - at < SP_PANEL ? len - at : SP_PANEL, 0, scores + at, b->stride);
}

/* Position of the block's token t, and the first that it sees. */
static size_t
position_of(const struct block *b, size_t t)
{
	return b->seq->prefix_len + b->seq->own_len + b->token + t;
}

static size_t
first_seen(const struct block *b, size_t t)
{
	size_t seen = position_of(b, t) + 1;

	return b->window == 0 || seen <= b->window ? 0 : seen - b->window;
}

/* out (+)= scores · values over positions from … to-1, for `tokens` tokens from t on and the
 * dimensions of the panel at d. */
static void
add_values(
    const struct block *b, size_t t, size_t tokens, size_t from, size_t to, size_t d, int add)
{
	const struct sp_model_config *config = b->config;
	const struct sp_attention_seq *seq = b->seq;
	size_t dim = config->head_dim, group = group_of(config), before = seq->prefix_len;
	size_t columns = dim - d < SP_PANEL ? dim - d : SP_PANEL;
	const float *scores = b->scores + t * group * b->stride;
	float *out = b->out + t * group * dim + d;

	if (from < before) {
		size_t end = to < before ? to : before;
		const float *panel = head_of(&seq->prefix, config, b->layer, b->head) +
				     keys_size(config, seq->prefix.cap) + d * seq->prefix.cap;

		sp_kernels_panel(scores + from, b->stride, tokens * group, end - from,
		    panel + from * SP_PANEL, columns, add, out, dim);
		from = end;
		add = 1;
	}
	if (from < to) {
		const float *panel = head_of(&seq->own, config, b->layer, b->head) +
				     keys_size(config, seq->own.cap) + d * seq->own.cap;

		sp_kernels_panel(scores + from, b->stride, tokens * group, to - from,
		    panel + (from - before) * SP_PANEL, columns, add, out, dim);
	}
}

/* What all see. Rows that saw something before it go on, the others begin. */
static void
add_common(const struct block *b, size_t low, size_t high, size_t d)
{
	size_t begun = 0;

	while (begun < b->tokens && first_seen(b, begun) < low)
		begun++;
	if (begun > 0)
		add_values(b, 0, begun, low, high, d, 1);
	if (begun < b->tokens)
		add_values(b, begun, b->tokens - begun, low, high, d, 0);
}

/*
 * out = scores · values in the order of positions, for each row over what its token sees and not
 * beyond: adding 0 * value would not do, since it is not 0 for an infinite value of another token.
 * What the rows have in common goes as one product; what lies before it (under a window) comes
 * first, the later tokens' rest after it.
 */
static void
block_values(const struct block *b)
{
	size_t low = first_seen(b, b->tokens - 1), high = position_of(b, 0) + 1;

	for (size_t d = 0; d < b->config->head_dim; d += SP_PANEL) {
		if (low >= high) { /* a window shorter than the block */
			for (size_t t = 0; t < b->tokens; t++)
				add_values(b, t, 1, first_seen(b, t), position_of(b, t) + 1, d, 0);
			continue;
		}
		for (size_t t = 0; t < b->tokens && first_seen(b, t) < low; t++)
			add_values(b, t, 1, first_seen(b, t), low, d, 0);
		add_common(b, low, high, d);
		for (size_t t = 1; t < b->tokens; t++)
			add_values(b, t, 1, high, position_of(b, t) + 1, d, 1);
	}
}

static void
block_run(const struct block *b, const struct job *job)
{
	const struct sp_model_config *config = b->config;
	const struct sp_attention_seq *seq = b->seq;
	size_t dim = config->head_dim, group = group_of(config);
	float scale = 1.0f / sqrtf((float)dim);

	for (size_t t = 0; t < b->tokens; t++) {
		const float *from =
		    job->q + ((seq->row + b->token + t) * config->heads + b->head * group) * dim;

		memcpy(b->q + t * group * dim, from, group * dim * sizeof(float));
		for (size_t g = 0; g < group; g++)
			sp_kernels_rope(b->q + (t * group + g) * dim, dim,
			    job->env->rope + position_of(b, t) * dim);
	}
	block_scores(b, &seq->prefix, seq->prefix_len, b->scores);
	block_scores(
	    b, &seq->own, seq->own_len + b->token + b->tokens, b->scores + seq->prefix_len);
	for (size_t r = 0; r < b->tokens * group; r++) {
		size_t first = first_seen(b, r / group);

		sp_kernels_softmax(b->scores + r * b->stride + first,
		    position_of(b, r / group) + 1 - first, scale);
	}
	block_values(b);
	for (size_t t = 0; t < b->tokens; t++) {
		float *to =
		    job->out + ((seq->row + b->token + t) * config->heads + b->head * group) * dim;

		memcpy(to, b->out + t * group * dim, group * dim * sizeof(float));
	}
}

/* There are as many parts as threads, so one is free whenever a task starts. */
static size_t
take_part(struct sp_attention *work)
{
	for (size_t i = 0;; i = (i + 1) % work->parts) {
		if (!atomic_flag_test_and_set_explicit(&work->busy[i], memory_order_acquire))
			return i;
	}
}

static void
run_task(void *arg, size_t i)
{
	const struct job *job = arg;
	const struct sp_model_config *config = &job->env->config;
	size_t low = 0, high = job->n, at, tokens = block_tokens(config), rows = part_rows(config);
	size_t part = take_part(job->work);
	float *data = job->work->data + part * job->work->stride;
	struct block b = {.config = config, .layer = job->layer, .window = job->window};

	while (high - low > 1) { /* the last sequence whose first task is not after i */
		size_t middle = low + (high - low) / 2;

		if (job->seqs[middle].first <= i)
			low = middle;
		else
			high = middle;
	}
	b.seq = &job->seqs[low];
	at = i - b.seq->first;
	b.head = at % config->kv_heads;
	b.token = at / config->kv_heads * tokens;
	b.tokens = b.seq->count - b.token < tokens ? b.seq->count - b.token : tokens;
	b.q = data;
	b.out = b.q + rows * config->head_dim;
	b.scores = b.out + rows * config->head_dim;
	b.stride = score_stride(job->work->len);
	block_run(&b, job);
	atomic_flag_clear_explicit(&job->work->busy[part], memory_order_release);
}

void
sp_attention_run(const struct sp_layer_env *env, struct sp_attention *work, size_t layer,
    size_t window, struct sp_attention_seq *seqs, size_t n, const float *q, float *out)
{
	struct job job = {
	    .env = env,
	    .work = work,
	    .layer = layer,
	    .window = window,
	    .seqs = seqs,
	    .n = n,
	    .q = q,
	    .out = out,
	};
	size_t tokens = block_tokens(&env->config), tasks = 0;

	for (size_t i = 0; i < n; i++) {
		SP_ASSERT(seqs[i].count > 0);
		SP_ASSERT(seqs[i].prefix_len + seqs[i].own_len + seqs[i].count <= work->len);
		seqs[i].first = tasks;
		tasks += (seqs[i].count + tokens - 1) / tokens * env->config.kv_heads;
	}
	sp_pool_run(env->pool, tasks, run_task, &job);
}
