/* stream.c -- a model's layers one after the other, the weights as they come from the disk. */
#include "engine/stream.h"

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Asked of the kernel at a time: a request beyond that could not be stopped for long. */
#define AHEAD ((size_t)8 << 20)
/* Tokens that are taken through a layer before their memory may go (see sp_spill_rest). */
#define CHUNK ((size_t)2048)
/* Rows of logits at once: about this many values. */
#define LOGIT_VALUES ((size_t)1 << 22)

struct range {
	size_t layer;
	uintptr_t from, to; /* whole pages */
};

/* A thread asks for pages, since asking waits for the disk when much is asked for. It takes up
 * `wanted` whenever that changes; `layers` means none. */
struct sp_stream {
	const struct sp_weights *weights;
	struct sp_layer_env env;
	struct range *ranges;
	size_t n_ranges, layers;

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	int started, stop;
	size_t wanted;
};

/* --- pages ------------------------------------------------------------------------------------ */

/* The layer of a tensor "model.layers.N.…"; 0: it is of none. */
static int
layer_of(const char *name, size_t *layer)
{
	static const char prefix[] = "model.layers.";
	char *end;

	if (strncmp(name, prefix, strlen(prefix)) != 0)
		return 0;
	*layer = strtoul(name + strlen(prefix), &end, 10);
	return *end == '.';
}

/* Pages that hold nothing but the tensor. */
static struct range
range_of(const struct sp_tensor *t, size_t layer)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)t->data;
	struct range range = {layer, (at + page - 1) / page * page, (at + t->size) / page * page};

	if (range.to < range.from)
		range.to = range.from;
	return range;
}

static void
let_go(struct range range)
{
	if (range.to > range.from)
		madvise((void *)range.from, range.to - range.from, MADV_DONTNEED);
}

static void
let_go_layer(const struct sp_stream *s, size_t layer)
{
	for (size_t i = 0; i < s->n_ranges; i++) {
		if (s->ranges[i].layer == layer)
			let_go(s->ranges[i]);
	}
}

static int
still_wanted(struct sp_stream *s, size_t layer)
{
	int wanted;

	pthread_mutex_lock(&s->lock);
	wanted = !s->stop && s->wanted == layer;
	pthread_mutex_unlock(&s->lock);
	return wanted;
}

static void
read_ahead(struct sp_stream *s, size_t layer)
{
	for (size_t i = 0; i < s->n_ranges; i++) {
		struct range range = s->ranges[i];

		if (range.layer != layer)
			continue;
		for (uintptr_t at = range.from; at < range.to; at += AHEAD) {
			size_t left = range.to - at;

			if (!still_wanted(s, layer))
				return;
			madvise((void *)at, left < AHEAD ? left : AHEAD, MADV_WILLNEED);
		}
	}
}

static void *
reader(void *arg)
{
	struct sp_stream *s = arg;
	size_t seen = s->layers;

	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		if (s->wanted == seen) {
			pthread_cond_wait(&s->changed, &s->lock);
			continue;
		}
		seen = s->wanted;
		pthread_mutex_unlock(&s->lock);
		read_ahead(s, seen);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static void
want_layer(struct sp_stream *s, size_t layer)
{
	pthread_mutex_lock(&s->lock);
	s->wanted = layer;
	pthread_cond_signal(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

/* --- layers ----------------------------------------------------------------------------------- */

enum sp_code
sp_stream_open(const struct sp_weights *weights, size_t positions, struct sp_pool *pool,
    struct sp_stream **out, struct sp_err *err)
{
	struct sp_stream *s = sp_xcalloc(1, sizeof(*s));
	enum sp_code code;

	*out = NULL;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->weights = weights;
	s->layers = s->wanted = sp_weights_config(weights)->layers;
	s->ranges = sp_xcalloc(sp_weights_count(weights), sizeof(*s->ranges));
	for (size_t i = 0; i < sp_weights_count(weights); i++) {
		const struct sp_tensor *t = sp_weights_at(weights, i);
		size_t layer;

		if (layer_of(t->name, &layer))
			s->ranges[s->n_ranges++] = range_of(t, layer);
	}
	code = sp_layer_env_open(&s->env, sp_weights_config(weights), positions, pool, err);
	if (code == SP_OK && pthread_create(&s->thread, NULL, reader, s) != 0)
		code = sp_err_set(err, SP_E_NO_MEMORY, "cannot start a thread that reads ahead");
	else if (code == SP_OK)
		s->started = 1;
	if (code)
		sp_stream_close(&s);
	else
		want_layer(s, 0);
	*out = s;
	return code;
}

void
sp_stream_close(struct sp_stream **stream)
{
	struct sp_stream *s = *stream;

	if (s == NULL)
		return;
	if (s->started) {
		pthread_mutex_lock(&s->lock);
		s->stop = 1;
		pthread_cond_signal(&s->changed);
		pthread_mutex_unlock(&s->lock);
		pthread_join(s->thread, NULL);
	}
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	sp_layer_env_close(&s->env);
	free(s->ranges);
	free(s);
	*stream = NULL;
}

const struct sp_layer_env *
sp_stream_env(const struct sp_stream *stream)
{
	return &stream->env;
}

enum sp_code
sp_stream_layer(struct sp_stream *s, size_t i, struct sp_layer *layer, struct sp_err *err)
{
	enum sp_code code = sp_weights_layer(s->weights, i, layer, err);

	let_go_layer(s, i);
	if (code == SP_OK)
		want_layer(s, i + 1);
	return code;
}

enum sp_code
sp_stream_packed(struct sp_stream *s, size_t i, struct sp_layer *layer, struct sp_err *err)
{
	enum sp_code code = sp_stream_layer(s, i, layer, err);

	if (code)
		return code;
	code = sp_layer_pack_only(layer, s->env.pool, err);
	if (code)
		sp_layer_free(layer);
	return code;
}

enum sp_code
sp_stream_embed(struct sp_stream *s, const uint32_t *ids, size_t n, float *h, struct sp_err *err)
{
	const struct sp_tensor *t = sp_weights_find(s->weights, "model.embed_tokens.weight");
	size_t hidden = s->env.config.hidden, row = hidden * sp_dtype_size(t->dtype);

	for (size_t i = 0; i < n; i++) {
		if (ids[i] >= s->env.config.vocab)
			return sp_err_set(err, SP_E_INVALID,
			    "token %u is not in the vocabulary of %u", ids[i], s->env.config.vocab);
		sp_dtype_to_f32(t->dtype, t->data + ids[i] * row, h + i * hidden, hidden);
		for (size_t k = 0; k < hidden; k++) {
			if (!isfinite(h[i * hidden + k]))
				return sp_err_set(err, SP_E_INVALID,
				    "tensor %s: the row of token %u holds a value that is not "
				    "finite",
				    t->name, ids[i]);
		}
	}
	let_go(range_of(t, s->layers));
	return SP_OK;
}

enum sp_code
sp_stream_run(struct sp_stream *s, const struct sp_spill *h, size_t n_seq, size_t len,
    enum sp_code (*each)(void *arg, size_t layer, struct sp_err *err), void *arg,
    struct sp_err *err)
{
	size_t step = len == 0 || len >= CHUNK ? 1 : CHUNK / len, row = len * s->env.config.hidden;

	SP_ASSERT(n_seq * row <= h->count);
	for (size_t i = 0; i < s->layers; i++) {
		struct sp_layer layer;
		enum sp_code code = sp_stream_packed(s, i, &layer, err);

		if (code)
			return code;
		for (size_t q = 0; code == SP_OK && q < n_seq; q += step) {
			size_t n = n_seq - q < step ? n_seq - q : step;

			code = sp_layer_forward(&s->env, &layer, h->values + q * row, n, len, err);
			sp_spill_rest(h, q * row, n * row);
		}
		sp_layer_free(&layer);
		if (code == SP_OK && each != NULL)
			code = each(arg, i, err);
		if (code)
			return code;
	}
	return SP_OK;
}

enum sp_code
sp_stream_logits(struct sp_stream *s, const float *h, size_t n,
    enum sp_code (*take)(
	void *arg, size_t first, size_t rows, const float *logits, struct sp_err *err),
    void *arg, struct sp_err *err)
{
	const struct sp_model_config *c = &s->env.config;
	const char *name = c->tied ? "model.embed_tokens.weight" : "lm_head.weight";
	size_t step = LOGIT_VALUES / c->vocab < 16 ? 16 : LOGIT_VALUES / c->vocab;
	struct sp_linear head = {0};
	float *norm = NULL, *x = NULL, *logits = NULL;
	enum sp_code code;

	if ((code = sp_weights_final_norm(s->weights, &norm, err)) ||
	    (code = sp_weights_head(s->weights, &head, err)))
		goto out;
	let_go(range_of(sp_weights_find(s->weights, name), s->layers));
	if ((code = sp_linear_pack_only(&head, s->env.pool, err)))
		goto out;
	step = step < n ? step : n;
	x = malloc((step * c->hidden + 1) * sizeof(*x));
	logits = malloc((step * c->vocab + 1) * sizeof(*logits));
	if (x == NULL || logits == NULL)
		code = sp_err_set(err, SP_E_NO_MEMORY, "logits of %zu tokens", step);
	for (size_t r = 0; code == SP_OK && r < n; r += step) {
		size_t rows = n - r < step ? n - r : step;

		sp_kernels_rmsnorm(
		    s->env.pool, h + r * c->hidden, norm, c->rms_norm_eps, rows, c->hidden, x);
		sp_linear_apply(&head, s->env.pool, x, rows, logits);
		code = take(arg, r, rows, logits, err);
	}
out:
	sp_linear_free(&head);
	free(norm);
	free(x);
	free(logits);
	return code;
}
