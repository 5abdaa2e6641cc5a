/* tokenizer_vocab.c -- vocabulary, added tokens and merges of tokenizer.json. */
#include "model/tokenizer_field.h"

#include "base/json.h"
#include "model/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * "added_tokens": [{"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}],
 * "model": {"type": "BPE", "dropout": null, "unk_token": null | TOKEN, "fuse_unk", "byte_fallback",
 *   "ignore_merges", "vocab": {SPELLING: ID}, "merges": [["A", "B"] | "A B"]}
 */

/* The mark that SentencePiece writes for a space, U+2581. */
#define MARK "\xe2\x96\x81"

/* --- ByteLevel's characters --------------------------------------------------------------------
 */

/* Bytes that stand for themselves are 21-7E, A1-AC, AE-FF; the other 33 + 34 + 1 follow U+0100. */
static unsigned
char_of(unsigned byte)
{
	if (byte <= 0x20)
		return 0x100 + byte;
	if (byte >= 0x7f && byte <= 0xa0)
		return 0x121 + byte - 0x7f;
	return byte == 0xad ? 0x143 : byte;
}

size_t
sp__tokenizer_spell(uint8_t byte, char out[2])
{
	unsigned c = char_of(byte);

	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	out[0] = (char)(0xc0 | c >> 6);
	out[1] = (char)(0x80 | (c & 0x3f));
	return 2;
}

int
sp__tokenizer_byte(uint32_t point)
{
	uint32_t byte = point < 0x100	 ? point
			: point <= 0x120 ? point - 0x100
			: point <= 0x142 ? point - 0x121 + 0x7f
			: point == 0x143 ? 0xad
					 : 0x100;

	return byte < 0x100 && char_of(byte) == point ? (int)byte : -1;
}

/* --- lookups -----------------------------------------------------------------------------------
 */

static int
compare_text(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return order != 0 ? order : a_len < b_len ? -1 : a_len > b_len;
}

static int
compare_spelling(const void *a, const void *b)
{
	const struct sp__token *const *x = a, *const *y = b;

	return compare_text((*x)->spelling, (*x)->spelling_len, (*y)->spelling, (*y)->spelling_len);
}

const struct sp__token *
sp__tokenizer_find(const struct sp_tokenizer *t, const char *text, size_t len)
{
	size_t low = 0, high = t->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct sp__token *token = t->by_name[middle];
		int order = compare_text(token->spelling, token->spelling_len, text, len);

		if (order == 0)
			return token;
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

/* The same, in the model's vocabulary. */
static uint32_t
find_id(const struct sp_tokenizer *t, const char *text, size_t len)
{
	const struct sp__token *token = sp__tokenizer_find(t, text, len);

	return token != NULL && token->in_vocab ? (uint32_t)(token - t->tokens)
						: SP_TOKENIZER_NO_ID;
}

int
sp_tokenizer_id(const struct sp_tokenizer *t, const char *content, uint32_t *id)
{
	const struct sp__token *token = sp__tokenizer_find(t, content, strlen(content));

	if (token != NULL)
		*id = (uint32_t)(token - t->tokens);
	return token != NULL;
}

uint32_t
sp_tokenizer_size(const struct sp_tokenizer *t)
{
	return t->size;
}

/* --- tokens ------------------------------------------------------------------------------------
 */

/* The vocabulary as entries of one list with the added tokens that are not in it. */
struct entries {
	struct entry {
		const char *spelling;
		uint32_t id;
	} * list;
	size_t count, vocab;
	uint32_t last; /* largest id of an added token so far */
	int any_added;
};

static enum sp_code
add_entry(struct entries *e, const char *spelling, const json_t *id, const char *where,
    struct sp_err *err)
{
	json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;

	if (value < 0 || value >= SP_TOKENIZER_ID_MAX)
		return sp_err_set(err, SP_E_INVALID, "%s: the id of \"%.64s\" is not from 0 to %u",
		    where, spelling, SP_TOKENIZER_ID_MAX - 1);
	e->list[e->count++] = (struct entry){spelling, (uint32_t)value};
	return SP_OK;
}

static enum sp_code
list_vocab(struct entries *e, const json_t *vocab, struct sp_err *err)
{
	const char *spelling;
	json_t *id;
	enum sp_code code;

	json_object_foreach((json_t *)(uintptr_t)vocab, spelling, id)
	{
		if (spelling[0] == '\0')
			return sp_err_set(err, SP_E_INVALID, "model.vocab has an empty token");
		if ((code = add_entry(e, spelling, id, "model.vocab", err)))
			return code;
	}
	e->vocab = e->count;
	return SP_OK;
}

/*
 * tokenizers does not believe the id of an added token: it takes the vocabulary's when the content
 * is in there, else the next free one, which older versions count otherwise than newer ones. A file
 * that says otherwise means different ids to different readers.
 */
static enum sp_code
list_added(struct entries *e, const struct sp__field *f, const json_t *vocab, struct sp_err *err)
{
	const json_t *id = json_object_get(f->value, "id"), *known;
	json_int_t newer = (json_int_t)e->count, older = (json_int_t)e->vocab;
	const char *content;
	enum sp_code code;

	if ((code = sp__field_text(f, "content", 1, SP_TOKENIZER_ADDED_MAX, &content, err)))
		return code;
	if (e->any_added && e->last >= e->vocab)
		older = (json_int_t)e->last + 1;
	known = json_object_get(vocab, content);
	if (known != NULL)
		newer = older = json_integer_value(known);
	if (!json_is_integer(id) || json_integer_value(id) != newer || newer != older)
		return sp_err_set(err, SP_E_INVALID, "%s.id is not %lld, which readers give it",
		    f->at, (long long)newer);
	if (known == NULL && (code = add_entry(e, content, id, f->at, err)))
		return code;
	e->last = !e->any_added || newer > e->last ? (uint32_t)newer : e->last;
	e->any_added = 1;
	return SP_OK;
}

/* Entries as tokens by id, and by name. */
static enum sp_code
build_tokens(struct sp_tokenizer *t, const struct entries *e, struct sp_err *err)
{
	size_t text_len = 0;
	char *at;

	for (size_t i = 0; i < e->count; i++) {
		text_len += strlen(e->list[i].spelling) + 1;
		t->size = e->list[i].id >= t->size ? e->list[i].id + 1 : t->size;
	}
	t->tokens = calloc((size_t)t->size + 1, sizeof(*t->tokens));
	t->by_name = calloc(e->count + 1, sizeof(*t->by_name));
	t->text = malloc(text_len + 1);
	if (t->tokens == NULL || t->by_name == NULL || t->text == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "%zu tokens", e->count);
	at = t->text;
	for (size_t i = 0; i < e->count; i++) {
		struct sp__token *token = &t->tokens[e->list[i].id];
		size_t len = strlen(e->list[i].spelling);

		if (token->spelling != NULL)
			return sp_err_set(err, SP_E_INVALID,
			    "tokens \"%.64s\" and \"%.64s\" both have the id %u", token->spelling,
			    e->list[i].spelling, e->list[i].id);
		memcpy(at, e->list[i].spelling, len + 1);
		token->spelling = at;
		token->spelling_len = (uint32_t)len;
		token->in_vocab = i < e->vocab;
		at += len + 1;
		t->by_name[t->count++] = token;
	}
	qsort(t->by_name, t->count, sizeof(*t->by_name), compare_spelling);
	/* only among added tokens, one normalized and one not: of whose ids readers keep the first
	 */
	for (size_t i = 1; i < t->count; i++) {
		if (compare_spelling(&t->by_name[i - 1], &t->by_name[i]) == 0)
			return sp_err_set(err, SP_E_INVALID,
			    "added_tokens: \"%.64s\" is there twice", t->by_name[i]->spelling);
	}
	return SP_OK;
}

/* --- added tokens ------------------------------------------------------------------------------
 */

/* A normalized token is looked for as what the normalizers make of it, which is also what decoders
 * begin with. */
static enum sp_code
normalize_added(struct sp_tokenizer *t, const struct sp__field *f, const char *content,
    struct sp__added_token *token, struct sp_err *err)
{
	struct sp_buf work[2] = {{0}};
	const char *normal;
	enum sp_code code;

	code =
	    sp__tokenizer_normalize(t, content, strlen(content), work, &normal, &token->len, err);
	if (code == SP_OK && (token->len == 0 || token->len > SP_TOKENIZER_ADDED_MAX))
		code = sp__field_unsupported(
		    f, "content", "becomes nothing, or too long, when it is normalized", err);
	if (code == SP_OK) {
		token->content = sp_xcalloc(token->len + 1, 1);
		memcpy(token->content, normal, token->len);
		if (strcmp(token->content, content) != 0) {
			free(t->tokens[token->id].shown);
			t->tokens[token->id].shown = sp_xstrdup(token->content);
			t->tokens[token->id].shown_len = (uint32_t)token->len;
		}
	}
	sp_buf_free(&work[0]);
	sp_buf_free(&work[1]);
	return code;
}

static enum sp_code
add_added(struct sp_tokenizer *t, const struct sp__field *f, struct sp_err *err)
{
	const char *content = json_string_value(json_object_get(f->value, "content"));
	struct sp__added_token token = {0};
	struct sp__added *added;
	int normalized, special;
	enum sp_code code;

	if ((code = sp__field_keys(
		 f, "id content single_word lstrip rstrip normalized special", err)) ||
	    (code = sp__field_flag(f, "single_word", 0, &token.single_word, err)) ||
	    (code = sp__field_flag(f, "lstrip", 0, &token.lstrip, err)) ||
	    (code = sp__field_flag(f, "rstrip", 0, &token.rstrip, err)) ||
	    (code = sp__field_flag(f, "normalized", 0, &normalized, err)) ||
	    (code = sp__field_flag(f, "special", 0, &special, err)))
		return code;
	token.id = (uint32_t)json_integer_value(json_object_get(f->value, "id"));
	t->tokens[token.id].special = special != 0;
	if (token.single_word && t->word == NULL && (code = sp_pattern_compile_word(&t->word, err)))
		return code;
	if (normalized) {
		if ((code = normalize_added(t, f, content, &token, err)))
			return code;
	} else {
		token.content = sp_xstrdup(content);
		token.len = strlen(content);
	}
	added = normalized ? &t->normalized : &t->raw;
	added->tokens[added->count++] = token;
	return SP_OK;
}

static enum sp_code
parse_added(struct sp_tokenizer *t, const json_t *list, struct sp_err *err)
{
	struct sp__added *both[] = {&t->raw, &t->normalized};
	size_t n = json_array_size(list);
	enum sp_code code;

	t->raw.tokens = calloc(n + 1, sizeof(*t->raw.tokens));
	t->normalized.tokens = calloc(n + 1, sizeof(*t->normalized.tokens));
	if (t->raw.tokens == NULL || t->normalized.tokens == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "%zu added tokens", n);
	for (size_t i = 0; i < n; i++) {
		struct sp__field f = sp__field(json_array_get(list, i), "added_tokens[%zu]", i);

		if ((code = add_added(t, &f, err)))
			return code;
	}
	for (size_t k = 0; k < 2; k++) {
		struct sp__added *added = both[k];

		sp__tokenizer_added_sort(added);
		added->word = t->word;
		for (size_t i = 1; i < added->count; i++) {
			if (strcmp(added->tokens[i - 1].content, added->tokens[i].content) == 0)
				return sp_err_set(err, SP_E_INVALID,
				    "added_tokens: \"%.64s\" is there twice",
				    added->tokens[i].content);
		}
	}
	return SP_OK;
}

/* --- merges ------------------------------------------------------------------------------------
 */

/* The two halves of a merge, ["A", "B"] or "A B"; text: room for both. */
static int
split_merge(const json_t *item, struct sp_buf *text, size_t *left_len)
{
	const char *left = json_string_value(json_array_get(item, 0));
	const char *right = json_string_value(json_array_get(item, 1));
	const char *space;

	text->len = 0;
	if (json_is_string(item)) {
		left = json_string_value(item);
		space = strchr(left, ' ');
		if (space == NULL || strchr(space + 1, ' ') != NULL)
			return 0;
		*left_len = (size_t)(space - left);
		right = space + 1;
	} else if (json_array_size(item) == 2 && left != NULL && right != NULL) {
		*left_len = strlen(left);
	} else {
		return 0;
	}
	sp_buf_add(text, left, *left_len);
	sp_buf_puts(text, right);
	return *left_len > 0 && text->len > *left_len;
}

static enum sp_code
parse_merges(
    struct sp_tokenizer *t, const json_t *list, struct sp_bpe_merge **out, struct sp_err *err)
{
	size_t n = json_array_size(list), left_len;
	struct sp_bpe_merge *merges = calloc(n + 1, sizeof(*merges));
	struct sp_buf text = {0};
	enum sp_code code;

	*out = merges;
	if (merges == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "%zu merges", n);
	for (size_t i = 0; i < n; i++) {
		struct sp_bpe_merge *m = &merges[i];
		const char *both;

		if (!split_merge(json_array_get(list, i), &text, &left_len)) {
			code = sp_err_set(
			    err, SP_E_INVALID, "model.merges[%zu] is not a pair of tokens", i);
			goto out;
		}
		both = (const char *)text.data;
		m->left = find_id(t, both, left_len);
		m->right = find_id(t, both + left_len, text.len - left_len);
		m->id = find_id(t, both, text.len);
		if (m->left == SP_TOKENIZER_NO_ID || m->right == SP_TOKENIZER_NO_ID ||
		    m->id == SP_TOKENIZER_NO_ID) {
			code = sp_err_set(err, SP_E_INVALID,
			    "model.merges[%zu]: \"%.64s\" or a half of it is not in the vocabulary",
			    i, both);
			goto out;
		}
	}
	if ((code = sp_bpe_new(merges, n, t->size, &t->bpe, err)))
		sp_err_prefix(err, "model.merges");
out:
	sp_buf_free(&text);
	return code;
}

/* --- the model ---------------------------------------------------------------------------------
 */

static enum sp_code
parse_flags(struct sp_tokenizer *t, const struct sp__field *f, struct sp_err *err)
{
	enum sp_code code;

	if ((code = sp__field_keys(f,
		 "type dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk "
		 "byte_fallback ignore_merges vocab merges",
		 err)))
		return code;
	if (strcmp(sp__field_type(f), "BPE") != 0)
		return sp__field_unsupported(f, "type", "is not BPE", err);
	if ((code = sp__field_empty(f, "dropout", err)) ||
	    (code = sp__field_empty(f, "continuing_subword_prefix", err)) ||
	    (code = sp__field_empty(f, "end_of_word_suffix", err)) ||
	    (code = sp__field_flag(f, "byte_fallback", 0, &t->byte_fallback, err)) ||
	    (code = sp__field_flag(f, "fuse_unk", 0, &t->fuse_unk, err)))
		return code;
	return sp__field_flag(f, "ignore_merges", 0, &t->ignore_merges, err);
}

/* With all bytes there no text is unknown, and unk_token, fuse_unk and byte_fallback have no use.
 */
static enum sp_code
find_bytes(struct sp_tokenizer *t, struct sp_err *err)
{
	for (unsigned b = 0; b < 256; b++) {
		char spelling[2];
		size_t len = sp__tokenizer_spell((uint8_t)b, spelling);

		t->byte_ids[b] = find_id(t, spelling, len);
		if (t->byte_ids[b] == SP_TOKENIZER_NO_ID)
			return sp_err_set(err, SP_E_UNSUPPORTED,
			    "model.vocab lacks the byte %02x (%.*s)", b, (int)len, spelling);
	}
	return SP_OK;
}

/* The ids of characters, and of what stands for those that are not in the vocabulary. */
static enum sp_code
find_points(struct sp_tokenizer *t, const struct sp__field *model, struct sp_err *err)
{
	const json_t *unk = json_object_get(model->value, "unk_token");
	int all = t->byte_fallback;

	t->point_ids = malloc(0x10000 * sizeof(*t->point_ids));
	if (t->point_ids == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "the characters");
	memset(t->point_ids, 0xff, 0x10000 * sizeof(*t->point_ids));
	for (uint32_t id = 0; id < t->size; id++) {
		const struct sp__token *token = &t->tokens[id];
		size_t n;

		if (token->in_vocab && token->spelling_len < 4 &&
		    sp_utf8_len(token->spelling[0]) == token->spelling_len)
			t->point_ids[sp_utf8_point(token->spelling, &n)] = id;
	}
	for (unsigned b = 0; b < 256; b++) {
		char name[8];

		snprintf(name, sizeof(name), "<0x%02X>", b);
		t->byte_ids[b] = find_id(t, name, 6);
		all = all && t->byte_ids[b] != SP_TOKENIZER_NO_ID;
	}
	t->unk = SP_TOKENIZER_NO_ID;
	if (sp__field_none(unk) || all)
		return SP_OK;
	if (!json_is_string(unk))
		return sp_err_set(err, SP_E_INVALID, "model.unk_token is not a text");
	t->unk = find_id(t, json_string_value(unk), json_string_length(unk));
	if (t->unk == SP_TOKENIZER_NO_ID)
		return sp_err_set(err, SP_E_INVALID,
		    "model.unk_token: \"%.64s\" is not in the vocabulary", json_string_value(unk));
	return SP_OK;
}

/* Which symbols a merge may join to a mark behind them: the last one of a left half whose right
 * half begins with the mark. Bytes and unk_token are symbols as they are. */
static enum sp_code
find_stays(
    struct sp_tokenizer *t, const struct sp_bpe_merge *merges, size_t count, struct sp_err *err)
{
	const size_t mark_len = strlen(MARK);

	if (find_id(t, MARK, mark_len) == SP_TOKENIZER_NO_ID)
		return SP_OK;
	t->stays = calloc((size_t)t->size / 64 + 1, sizeof(*t->stays));
	if (t->stays == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "%u tokens", t->size);
	for (size_t i = 0; i < count; i++) {
		const struct sp__token *left = &t->tokens[merges[i].left];
		size_t last = sp_utf8_last(left->spelling, left->spelling_len);
		uint32_t id = find_id(t, left->spelling + left->spelling_len - last, last);

		if (strncmp(t->tokens[merges[i].right].spelling, MARK, mark_len) != 0)
			continue;
		t->stays[merges[i].left / 64] |= (uint64_t)1 << merges[i].left % 64;
		if (id != SP_TOKENIZER_NO_ID)
			t->stays[id / 64] |= (uint64_t)1 << id % 64;
	}
	return SP_OK;
}

enum sp_code
sp__tokenizer_parse_model(struct sp_tokenizer *t, const json_t *root, struct sp_err *err)
{
	struct sp__field model = sp__field(json_object_get(root, "model"), "model");
	const json_t *added = json_object_get(root, "added_tokens");
	struct sp_bpe_merge *merges = NULL;
	struct entries e = {0};
	json_t *vocab, *list;
	enum sp_code code;

	if ((code = parse_flags(t, &model, err)))
		return code;
	if ((code = sp_json_object(model.value, "vocab", &vocab, err)) ||
	    (code = sp_json_array(model.value, "merges", &list, err)))
		return sp_err_prefix(err, "model");
	if (!sp__field_none(added) && !json_is_array(added))
		return sp_err_set(err, SP_E_INVALID, "added_tokens is not a list");
	e.list = calloc(json_object_size(vocab) + json_array_size(added) + 1, sizeof(*e.list));
	if (e.list == NULL)
		return sp_err_set(err, SP_E_NO_MEMORY, "the vocabulary");
	if ((code = list_vocab(&e, vocab, err)))
		goto out;
	for (size_t i = 0; i < json_array_size(added); i++) {
		struct sp__field f = sp__field(json_array_get(added, i), "added_tokens[%zu]", i);

		if ((code = list_added(&e, &f, vocab, err)))
			goto out;
	}
	if ((code = build_tokens(t, &e, err)) || (code = parse_added(t, added, err)) ||
	    (code = t->byte_level ? find_bytes(t, err) : find_points(t, &model, err)) ||
	    (code = parse_merges(t, list, &merges, err)) || t->byte_level)
		goto out;
	code = find_stays(t, merges, json_array_size(list), err);
out:
	free(merges);
	free(e.list);
	return code;
}
