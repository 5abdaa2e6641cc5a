/*
 * kld.c -- sp-bench-kld REFERENCE CANDIDATE TEXTS.jsonl: mean KL divergence per token of the
 * candidate checkpoint's predictions from the reference's, each text by itself.
 */
#include "eval/kld.h"

#include "base/file.h"
#include "base/json.h"
#include "engine/forward.h"
#include "model/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct side {
	struct sp_model *model;
	float *logits;
};

static enum sp_code
run(struct side *side, const uint32_t *ids, size_t count, struct sp_err *err)
{
	size_t vocab = sp_model_config(side->model)->vocab;
	struct sp_feed feed = {.tokens = ids, .count = count, .n_logits = count};
	enum sp_code rc;

	free(side->logits);
	side->logits = malloc(count * vocab * sizeof(*side->logits));
	if (side->logits == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "logits of %zu tokens", count);
	feed.logits = side->logits;
	rc = sp_context_new(side->model, NULL, count, &feed.context, err);
	if (rc == SP_OK)
		rc = sp_forward(side->model, &feed, 1, err);
	sp_context_free(&feed.context);
	return rc;
}

static enum sp_code
one_text(struct side sides[2], const struct sp_tokenizer *tokenizer, const uint8_t *line,
    size_t size, struct sp_kld *kld, struct sp_err *err)
{
	json_t *object = NULL;
	uint32_t *ids = NULL;
	const char *text;
	enum sp_code rc;
	size_t count;

	if ((rc = sp_json_parse(line, size, "text", &object, err)) ||
	    (rc = sp_json_string(object, "text", &text, err)) ||
	    (rc = sp_tokenizer_encode(tokenizer, text, strlen(text), 1, &ids, &count, err)))
		goto out;
	if (count == 0)
		goto out;
	if ((rc = run(&sides[0], ids, count, err)) || (rc = run(&sides[1], ids, count, err)))
		goto out;
	sp_kld_add(
	    kld, sides[0].logits, sides[1].logits, count, sp_model_config(sides[0].model)->vocab);
out:
	json_decref(object);
	free(ids);
	return rc;
}

static enum sp_code
all_texts(
    struct side sides[2], const char *dir, const char *path, struct sp_kld *kld, struct sp_err *err)
{
	char *tokenizer_path = sp_xasprintf("%s/tokenizer.json", dir);
	struct sp_tokenizer *tokenizer = NULL;
	uint8_t *data = NULL, *texts = NULL;
	enum sp_code rc;
	size_t len;

	if ((rc = sp_file_read(tokenizer_path, 64 << 20, &data, &len, err)) ||
	    (rc = sp_tokenizer_parse(data, len, &tokenizer, err)) ||
	    (rc = sp_file_read(path, 1 << 30, &texts, &len, err)))
		goto out;
	for (size_t at = 0; at < len && rc == SP_OK;) {
		const uint8_t *end = memchr(texts + at, '\n', len - at);
		size_t size = (end != NULL ? (size_t)(end - texts) : len) - at;

		rc = one_text(sides, tokenizer, texts + at, size, kld, err);
		at += size + 1;
	}
out:
	sp_tokenizer_free(&tokenizer);
	free(tokenizer_path);
	free(data);
	free(texts);
	return rc;
}

int
main(int argc, char **argv)
{
	struct side sides[2] = {{0}};
	struct sp_kld kld = {0};
	struct sp_pool *pool = NULL;
	struct sp_err err;
	enum sp_code rc;

	if (argc != 4) {
		fprintf(stderr, "usage: sp-bench-kld REFERENCE CANDIDATE TEXTS.jsonl\n");
		return 2;
	}
	if ((rc = sp_pool_open(0, &pool, &err)) ||
	    (rc = sp_model_open(argv[1], pool, &sides[0].model, &err)) ||
	    (rc = sp_model_open(argv[2], pool, &sides[1].model, &err)) ||
	    (rc = all_texts(sides, argv[1], argv[3], &kld, &err)))
		fprintf(stderr, "sp-bench-kld: %s\n", err.msg);
	else
		printf("{\"kld\": %.8f, \"max\": %.6f, \"same_top\": %zu, \"tokens\": %zu}\n",
		    sp_kld_mean(&kld), kld.max, kld.same_top, kld.tokens);
	for (size_t i = 0; i < 2; i++) {
		sp_model_close(&sides[i].model);
		free(sides[i].logits);
	}
	sp_pool_close(&pool);
	return rc == SP_OK ? 0 : 1;
}
