/*
 * greedy.c -- what our engine does with prompts, for others to be compared with.
 *
 *	sp-greedy DIR PROMPTS STEPS OUT
 *
 * DIR: a checkpoint and its tokenizer.json. PROMPTS: one {"text": …} a line, encoded with what the
 * post-processor adds. Each is continued by the likeliest token, STEPS times, beyond an end of
 * text, too. OUT becomes a safetensors file of
 *
 *	lengths  I32 [prompts]            tokens of each prompt
 *	ids      I32 [sum of lengths]     all prompts, one after the other
 *	logits   F32 [sum of lengths, V]  at each of those tokens
 *	greedy   I32 [prompts, STEPS]     what the prompts are continued with
 *	margins  F32 [prompts, STEPS]     nats between that token and the second likeliest
 */
#include "base/file.h"
#include "base/json.h"
#include "engine/forward.h"
#include "model/safetensors.h"
#include "model/tokenizer.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROMPTS_MAX 256
#define STEPS_MAX 1024
#define FILE_MAX ((size_t)64 << 20)

static struct sp_err err;

static void
check(enum sp_code code)
{
	if (code == SP_OK)
		return;
	fprintf(stderr, "sp-greedy: %s\n", err.msg);
	exit(1);
}

/* All that goes into OUT. */
struct answers {
	size_t prompts, tokens, vocab, steps;
	int32_t lengths[PROMPTS_MAX];
	uint32_t *ids, *greedy;
	float *logits, *margins;
};

static struct sp_tokenizer *
open_tokenizer(const char *dir)
{
	char *path = sp_xasprintf("%s/tokenizer.json", dir);
	struct sp_tokenizer *tokenizer;
	uint8_t *data;
	size_t len;

	check(sp_file_read(path, FILE_MAX, &data, &len, &err));
	check(sp_tokenizer_parse(data, len, &tokenizer, &err));
	free(data);
	free(path);
	return tokenizer;
}

static void
add_prompt(struct answers *a, const struct sp_tokenizer *tokenizer, const char *line, size_t len)
{
	const char *text;
	json_t *object;
	uint32_t *ids;
	size_t n;

	check(sp_json_parse(line, len, "a prompt", &object, &err));
	check(sp_json_string(object, "text", &text, &err));
	check(sp_tokenizer_encode(tokenizer, text, strlen(text), 1, &ids, &n, &err));
	if (n == 0 || a->prompts == PROMPTS_MAX)
		check(sp_err_set(
		    &err, SP_E_INVALID, "prompt %zu is empty, or too many", a->prompts + 1));
	a->ids = sp_xrealloc(a->ids, a->tokens + n, sizeof(*a->ids));
	memcpy(a->ids + a->tokens, ids, n * sizeof(*ids));
	a->lengths[a->prompts++] = (int32_t)n;
	a->tokens += n;
	free(ids);
	json_decref(object);
}

static void
read_prompts(struct answers *a, const char *dir, const char *path)
{
	struct sp_tokenizer *tokenizer = open_tokenizer(dir);
	uint8_t *data;
	size_t len;

	check(sp_file_read(path, FILE_MAX, &data, &len, &err));
	for (const char *at = (const char *)data, *end; *at != '\0';
	     at = *end != '\0' ? end + 1 : end) {
		end = at + strcspn(at, "\n");
		add_prompt(a, tokenizer, at, (size_t)(end - at));
	}
	free(data);
	sp_tokenizer_free(&tokenizer);
}

/* The likeliest token, and by how much: a difference of logits is one of log-probabilities. */
static uint32_t
likeliest(const float *logits, size_t vocab, float *margin)
{
	uint32_t best = sp_forward_argmax(logits, vocab);

	*margin = INFINITY;
	for (size_t i = 0; i < vocab; i++) {
		if (i != best)
			*margin = fminf(*margin, logits[best] - logits[i]);
	}
	return best;
}

static void
answer(struct answers *a, struct sp_model *model, size_t prompt, size_t first, float *next)
{
	size_t count = (size_t)a->lengths[prompt];
	uint32_t *greedy = a->greedy + prompt * a->steps;
	float *margins = a->margins + prompt * a->steps;
	float *logits = a->logits + first * a->vocab;
	struct sp_context *context;
	struct sp_feed feed = {
	    .tokens = a->ids + first, .count = count, .n_logits = count, .logits = logits};

	check(sp_context_new(model, NULL, count + a->steps - 1, &context, &err));
	feed.context = context;
	check(sp_forward(model, &feed, 1, &err));
	greedy[0] = likeliest(logits + (count - 1) * a->vocab, a->vocab, &margins[0]);
	for (size_t i = 1; i < a->steps; i++) {
		feed = (struct sp_feed){context, &greedy[i - 1], 1, 1, next};
		check(sp_forward(model, &feed, 1, &err));
		greedy[i] = likeliest(next, a->vocab, &margins[i]);
	}
	sp_context_free(&context);
}

static void
answer_all(struct answers *a, const char *dir)
{
	struct sp_model *model;
	struct sp_pool *pool;
	size_t first = 0;
	float *next;

	check(sp_pool_open(1, &pool, &err));
	check(sp_model_open(dir, pool, &model, &err));
	a->vocab = sp_model_config(model)->vocab;
	a->logits = sp_xcalloc(a->tokens, a->vocab * sizeof(float));
	a->greedy = sp_xcalloc(a->prompts, a->steps * sizeof(*a->greedy));
	a->margins = sp_xcalloc(a->prompts, a->steps * sizeof(float));
	next = sp_xcalloc(a->vocab, sizeof(float));
	for (size_t i = 0; i < a->prompts; i++) {
		answer(a, model, i, first, next);
		first += (size_t)a->lengths[i];
	}
	free(next);
	sp_model_close(&model);
	sp_pool_close(&pool);
}

static struct sp_tensor
tensor(const char *name, enum sp_dtype dtype, uint64_t rows, uint64_t columns, const void *data)
{
	struct sp_tensor t = {
	    .name = name, .dtype = dtype, .rank = columns > 0 ? 2 : 1, .data = data};

	t.shape[0] = rows;
	t.shape[1] = columns;
	t.size = rows * (columns > 0 ? columns : 1) * sp_dtype_size(dtype);
	return t;
}

static void
write_answers(const struct answers *a, const char *path)
{
	struct sp_tensor tensors[] = {
	    tensor("lengths", SP_I32, a->prompts, 0, a->lengths),
	    tensor("ids", SP_I32, a->tokens, 0, a->ids),
	    tensor("logits", SP_F32, a->tokens, a->vocab, a->logits),
	    tensor("greedy", SP_I32, a->prompts, a->steps, a->greedy),
	    tensor("margins", SP_F32, a->prompts, a->steps, a->margins),
	};
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0) {
		check(sp_err_errno(&err, "%s", path));
		return;
	}
	check(sp_safetensors_write(fd, tensors, sizeof(tensors) / sizeof(tensors[0]), &err));
	close(fd);
}

int
main(int argc, char **argv)
{
	struct answers a = {0};

	if (argc == 5)
		a.steps = strtoul(argv[3], NULL, 10);
	if (a.steps == 0 || a.steps > STEPS_MAX) {
		fprintf(stderr, "usage: sp-greedy DIR PROMPTS STEPS OUT\n");
		return 2;
	}
	read_prompts(&a, argv[1], argv[2]);
	answer_all(&a, argv[1]);
	write_answers(&a, argv[4]);
	free(a.ids);
	free(a.logits);
	free(a.greedy);
	free(a.margins);
	return 0;
}
