/* tokenizer.c -- text to ids and back. */
#include "model/tokenizer_impl.h"

#include "base/buf.h"
#include "base/path.h"
#include "model/nfc.h"

#include <stdlib.h>
#include <string.h>

/*
 * As tokenizers does it: added tokens that are not normalized are cut out of the text, what is
 * between them is normalized, added tokens that are normalized are cut out of that, what is left
 * goes through the split patterns, and each word's bytes are merged.
 */
#define TEXT_MAX ((size_t)1 << 30)

struct encoder {
	const struct sp_tokenizer *t;
	struct sp_pattern_work *pattern;
	struct sp_bpe_work bpe;
	struct sp_buf spelling;
	uint32_t *ids;
	size_t count, cap;
	struct sp_err *err;
};

static enum sp_code
reserve(struct encoder *e, size_t more)
{
	size_t cap = e->cap * 2 > e->count + more ? e->cap * 2 : e->count + more;
	uint32_t *ids;

	if (e->count + more <= e->cap)
		return SP_OK;
	if ((ids = realloc(e->ids, cap * sizeof(*ids))) == NULL)
		return sp_err_set(e->err, SP_E_NO_MEMORY, "%zu tokens", cap);
	e->ids = ids;
	e->cap = cap;
	return SP_OK;
}

static enum sp_code
put(struct encoder *e, const uint32_t *ids, size_t count)
{
	enum sp_code code = reserve(e, count);

	if (code == SP_OK && count > 0) {
		memcpy(e->ids + e->count, ids, count * sizeof(*ids));
		e->count += count;
	}
	return code;
}

static int
is_whole_token(struct encoder *e, const char *word, size_t len, uint32_t *id)
{
	e->spelling.len = 0;
	for (size_t i = 0; i < len; i++) {
		char spelling[2];

		sp_buf_add(&e->spelling, spelling, sp__tokenizer_spell((uint8_t)word[i], spelling));
	}
	return sp_tokenizer_id(e->t, (const char *)e->spelling.data, id);
}

static enum sp_code
encode_word(struct encoder *e, const char *word, size_t len)
{
	uint32_t *ids, id;
	size_t count = len;
	enum sp_code code;

	if (e->t->ignore_merges && is_whole_token(e, word, len, &id))
		return put(e, &id, 1);
	if ((code = reserve(e, len)))
		return code;
	ids = e->ids + e->count;
	for (size_t i = 0; i < len; i++)
		ids[i] = e->t->byte_ids[(uint8_t)word[i]];
	if ((code = sp_bpe_run(e->t->bpe, &e->bpe, ids, &count, e->err)) == SP_OK)
		e->count += count;
	return code;
}

/* Matches and what lies between them are pieces, which the next pattern splits again. */
static enum sp_code
split(struct encoder *e, size_t level, const char *text, size_t len)
{
	size_t done = 0, from = 0, start, end;
	enum sp_code code;

	if (len == 0)
		return SP_OK;
	if (level == e->t->n_patterns)
		return encode_word(e, text, len);
	while (from <= len) {
		if ((code = sp_pattern_find(
			 e->t->patterns[level], e->pattern, text, len, from, &start, &end, e->err)))
			return code;
		if (start > len)
			break;
		if ((code = split(e, level + 1, text + done, start - done)) ||
		    (code = split(e, level + 1, text + start, end - start)))
			return code;
		done = from = end;
		if (start == end) { /* an empty match: go on after the next character */
			do
				from++;
			while (from < len && ((uint8_t)text[from] & 0xc0) == 0x80);
		}
	}
	return split(e, level + 1, text + done, len - done);
}

/* Longest added token that text begins with, NULL when there is none. The tokens are sorted, so
 * those that share the first i bytes lie together. */
static const struct sp__added_token *
match_added(const struct sp__added *added, const char *text, size_t len)
{
	const struct sp__added_token *best = NULL;
	size_t low = 0, high = added->count;

	for (size_t i = 0; low < high; i++) {
		size_t from, to;

		if (added->tokens[low].len == i)
			best = &added->tokens[low++];
		if (i == len)
			break;
		for (from = low, to = high; from < to;) { /* first with byte i >= text's */
			size_t middle = from + (to - from) / 2;

			if ((uint8_t)added->tokens[middle].content[i] < (uint8_t)text[i])
				from = middle + 1;
			else
				to = middle;
		}
		low = from;
		for (to = high; from < to;) { /* first with byte i > text's */
			size_t middle = from + (to - from) / 2;

			if ((uint8_t)added->tokens[middle].content[i] <= (uint8_t)text[i])
				from = middle + 1;
			else
				to = middle;
		}
		high = from;
	}
	return best;
}

/* Cuts added tokens out of text; between() takes what is around them. */
static enum sp_code
cut_added(struct encoder *e, const struct sp__added *added, const char *text, size_t len,
    enum sp_code (*between)(struct encoder *e, const char *text, size_t len))
{
	size_t done = 0;
	enum sp_code code;

	for (size_t at = 0; added->count > 0 && at < len;) {
		const struct sp__added_token *token = added->starts[(uint8_t)text[at]]
							  ? match_added(added, text + at, len - at)
							  : NULL;

		if (token == NULL) {
			at++;
			continue;
		}
		if ((code = between(e, text + done, at - done)) || (code = put(e, &token->id, 1)))
			return code;
		done = at += token->len;
	}
	return between(e, text + done, len - done);
}

static enum sp_code
encode_normalized(struct encoder *e, const char *text, size_t len)
{
	return split(e, 0, text, len);
}

static enum sp_code
encode_raw(struct encoder *e, const char *text, size_t len)
{
	char *normal = NULL;
	size_t normal_len;
	enum sp_code code = SP_OK;

	if (e->t->nfc && (code = sp_nfc_normalize(text, len, &normal, &normal_len, e->err)))
		return code;
	if (normal != NULL)
		code = cut_added(e, &e->t->normalized, normal, normal_len, encode_normalized);
	else
		code = cut_added(e, &e->t->normalized, text, len, encode_normalized);
	free(normal);
	return code;
}

enum sp_code
sp_tokenizer_encode(const struct sp_tokenizer *t, const char *text, size_t len, int add_special,
    uint32_t **ids, size_t *count, struct sp_err *err)
{
	struct encoder e = {.t = t, .err = err};
	enum sp_code code;

	*ids = NULL;
	*count = 0;
	if (len > TEXT_MAX)
		return sp_err_set(
		    err, SP_E_LIMIT, "a text of %zu bytes, at most %zu", len, TEXT_MAX);
	if (!sp_path_is_utf8(text, len))
		return sp_err_set(err, SP_E_INVALID, "a text to tokenize is not UTF-8");
	if ((code = sp_pattern_work_new(&e.pattern, err)) ||
	    (code = reserve(&e, len / 3 + SP_TOKENIZER_EXTRA_MAX)) ||
	    (code = put(&e, t->before, add_special ? t->n_before : 0)) ||
	    (code = cut_added(&e, &t->raw, text, len, encode_raw)) ||
	    (code = put(&e, t->after, add_special ? t->n_after : 0)))
		goto out;
	*ids = e.ids;
	*count = e.count;
	e.ids = NULL;
out:
	free(e.ids);
	sp_buf_free(&e.spelling);
	sp_bpe_work_free(&e.bpe);
	sp_pattern_work_free(&e.pattern);
	return code;
}

enum sp_code
sp_tokenizer_decode(const struct sp_tokenizer *t, const uint32_t *ids, size_t count,
    int skip_special, char **text, size_t *len, struct sp_err *err)
{
	struct sp_buf out = {0};

	*text = NULL;
	*len = 0;
	for (size_t i = 0; i < count; i++) {
		const struct sp__token *token = ids[i] < t->size ? &t->tokens[ids[i]] : NULL;

		if (token == NULL || token->spelling == NULL) {
			sp_buf_free(&out);
			return sp_err_set(err, SP_E_INVALID, "no token has the id %u", ids[i]);
		}
		if (!token->special || !skip_special)
			sp_buf_add(&out, token->bytes, token->bytes_len);
	}
	*text = sp_buf_take(&out, len);
	return SP_OK;
}

int
sp_tokenizer_id(const struct sp_tokenizer *t, const char *content, uint32_t *id)
{
	size_t low = 0, high = t->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(t->by_name[middle]->spelling, content);

		if (order == 0) {
			*id = (uint32_t)(t->by_name[middle] - t->tokens);
			return 1;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return 0;
}

uint32_t
sp_tokenizer_size(const struct sp_tokenizer *t)
{
	return t->size;
}
