/* tokenizer_parse.c -- tokenizer.json of huggingface/tokenizers, the parts that we know. */
#include "model/tokenizer_field.h"

#include "base/json.h"
#include "base/limits.h"

#include <stdlib.h>
#include <string.h>

/*
 * {
 *   "version": "1.0", "truncation": null, "padding": null,
 *   "added_tokens": […], "normalizer": …, "pre_tokenizer": …, "post_processor": …, "decoder": …,
 *   "model": {…}
 * }
 *
 * Every object is read against the list of its keys: an unknown one may change ids, and is refused.
 */

static enum sp_code
check_extra(const struct sp_tokenizer *t, const uint32_t *ids, size_t n, struct sp_err *err)
{
	for (size_t i = 0; i < n; i++) {
		if (ids[i] >= t->size || t->tokens[ids[i]].spelling == NULL)
			return sp_err_set(
			    err, SP_E_INVALID, "post_processor: no token has the id %u", ids[i]);
	}
	return SP_OK;
}

static enum sp_code
parse_root(struct sp_tokenizer *t, const json_t *root, struct sp_err *err)
{
	struct sp__field f = sp__field(root, "%s", "");
	const char *version;
	enum sp_code code;

	if (!json_is_object(root))
		return sp_err_set(err, SP_E_INVALID, "not an object");
	if ((code = sp__field_keys(&f,
		 "version truncation padding added_tokens normalizer pre_tokenizer "
		 "post_processor decoder model",
		 err)) ||
	    (code = sp_json_string(root, "version", &version, err)))
		return code;
	if (strcmp(version, "1.0") != 0)
		return sp__field_unsupported(&f, "version", "is not 1.0", err);
	if ((code = sp__field_empty(&f, "truncation", err)) ||
	    (code = sp__field_empty(&f, "padding", err)) ||
	    (code = sp__tokenizer_parse_normalizer(t, json_object_get(root, "normalizer"), err)) ||
	    (code = sp__tokenizer_parse_pre_tokenizer(
		 t, json_object_get(root, "pre_tokenizer"), err)) ||
	    (code = sp__tokenizer_parse_post_processor(
		 t, json_object_get(root, "post_processor"), err)) ||
	    (code = sp__tokenizer_parse_decoder(t, json_object_get(root, "decoder"), err)) ||
	    (code = sp__tokenizer_parse_model(t, root, err)) ||
	    (code = check_extra(t, t->before, t->n_before, err)))
		return code;
	return check_extra(t, t->after, t->n_after, err);
}

enum sp_code
sp_tokenizer_parse(const uint8_t *data, size_t len, struct sp_tokenizer **out, struct sp_err *err)
{
	struct sp_tokenizer *t = sp_xcalloc(1, sizeof(*t));
	json_t *root = NULL;
	enum sp_code code;

	*out = NULL;
	pthread_mutex_init(&t->lock, NULL);
	if ((code = sp_json_parse_large(data, len, SP_TOKENIZER_MAX, "tokenizer.json", &root, err)))
		goto out;
	if ((code = parse_root(t, root, err))) {
		sp_err_prefix(err, "tokenizer.json");
		goto out;
	}
	*out = t;
	t = NULL;
out:
	json_decref(root);
	sp_tokenizer_free(&t);
	return code;
}

static void
free_added(struct sp__added *added)
{
	for (size_t i = 0; i < added->count; i++)
		free(added->tokens[i].content);
	free(added->tokens);
}

void
sp_tokenizer_free(struct sp_tokenizer **tokenizer)
{
	struct sp_tokenizer *t = *tokenizer;

	if (t == NULL)
		return;
	sp__tokenizer_encoders_free(t);
	pthread_mutex_destroy(&t->lock);
	free_added(&t->raw);
	free_added(&t->normalized);
	sp_pattern_free(&t->word);
	for (size_t i = 0; i < t->n_normals; i++) {
		free(t->normals[i].from);
		free(t->normals[i].to);
	}
	for (size_t i = 0; i < t->n_steps; i++)
		sp_pattern_free(&t->steps[i].pattern);
	for (size_t i = 0; i < t->n_decoders; i++) {
		free(t->decoders[i].from);
		free(t->decoders[i].to);
	}
	sp_bpe_free(&t->bpe);
	for (uint32_t id = 0; t->tokens != NULL && id < t->size; id++)
		free(t->tokens[id].shown);
	free(t->tokens);
	free((void *)t->by_name);
	free(t->text);
	free(t->point_ids);
	free(t->stays);
	free(t);
	*tokenizer = NULL;
}
