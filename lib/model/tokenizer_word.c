/* tokenizer_word.c -- ids of a word: what the model does. */
#include "model/tokenizer_impl.h"

#include "model/utf8.h"

#include <stdlib.h>
#include <string.h>

/*
 * Words come again: the ids of short ones are kept in a table that is looked up by hash. A word
 * that falls on the place of another replaces it, so the table never grows, and what is in it
 * never depends on anything but words; what is found was compared byte for byte.
 */
#define SLOTS_BITS 16
#define WORD_MAX 30
#define IDS_MAX 8

struct sp__word {
	uint8_t len, count; /* len 0: empty */
	char word[WORD_MAX];
	uint32_t ids[IDS_MAX];
};
_Static_assert(sizeof(struct sp__word) == 64, "a word is a cache line");

/* Bytes of symbols that stay allocated between encodings. */
#define KEPT_SYMBOLS ((size_t)1 << 16)

void
sp__tokenizer_words_free(struct sp__words *words)
{
	free(words->slots);
	words->slots = NULL;
	sp_bpe_work_free(&words->bpe);
	sp_buf_free(&words->spelling);
}

void
sp__tokenizer_words_trim(struct sp__words *words)
{
	if (words->bpe.cap > KEPT_SYMBOLS)
		sp_bpe_work_free(&words->bpe);
	if (words->spelling.cap > KEPT_SYMBOLS)
		sp_buf_free(&words->spelling);
}

/* The word's place in the table; NULL when it is too long for one. */
static struct sp__word *
slot_of(struct sp__words *words, const char *word, size_t len)
{
	uint64_t parts[4] = {0}, hash;

	if (len > WORD_MAX)
		return NULL;
	memcpy(parts, word, len);
	hash = (parts[0] ^ len) * 0x9e3779b97f4a7c15;
	hash = (hash ^ hash >> 32 ^ parts[1]) * 0xbf58476d1ce4e5b9;
	if (len > 16) {
		hash = (hash ^ hash >> 32 ^ parts[2]) * 0x94d049bb133111eb;
		hash = (hash ^ hash >> 32 ^ parts[3]) * 0x9e3779b97f4a7c15;
	}
	return &words->slots[hash >> (64 - SLOTS_BITS)];
}

/* ignore_merges: a word that is a token as it stands. */
static int
is_whole(const struct sp_tokenizer *t, struct sp__words *words, const char *word, size_t len,
    uint32_t *id)
{
	const struct sp__token *token;

	if (!t->byte_level) {
		token = sp__tokenizer_find(t, word, len);
	} else {
		words->spelling.len = 0;
		for (size_t i = 0; i < len; i++) {
			char spelling[2];

			sp_buf_add(&words->spelling, spelling,
			    sp__tokenizer_spell((uint8_t)word[i], spelling));
		}
		token =
		    sp__tokenizer_find(t, (const char *)words->spelling.data, words->spelling.len);
	}
	if (token == NULL || !token->in_vocab)
		return 0;
	*id = (uint32_t)(token - t->tokens);
	return 1;
}

static uint32_t
id_of_character(const struct sp_tokenizer *t, const char *text, size_t n, uint32_t point)
{
	const struct sp__token *token;

	if (point < 0x10000)
		return t->point_ids[point];
	token = sp__tokenizer_find(t, text, n);
	return token != NULL && token->in_vocab ? (uint32_t)(token - t->tokens)
						: SP_TOKENIZER_NO_ID;
}

/* A character's bytes as tokens of their own, <0xE2> and so on; 0 when one of them is missing. */
static int
put_bytes(const struct sp_tokenizer *t, const char *text, size_t n, uint32_t *out)
{
	for (size_t i = 0; i < n; i++) {
		out[i] = t->byte_ids[(uint8_t)text[i]];
		if (out[i] == SP_TOKENIZER_NO_ID)
			return 0;
	}
	return 1;
}

/*
 * Characters to ids. What is unknown becomes its bytes, or else unk_token, which waits for the next
 * known character (not for bytes, so that those come before it), and fuse_unk makes one of all that
 * come meanwhile.
 */
static size_t
put_characters(const struct sp_tokenizer *t, const char *word, size_t len, uint32_t *out)
{
	size_t count = 0, n;
	int waits = 0;

	for (size_t i = 0; i < len; i += n) {
		uint32_t point = sp_utf8_point(word + i, &n);
		uint32_t id = id_of_character(t, word + i, n, point);

		if (id != SP_TOKENIZER_NO_ID) {
			if (waits)
				out[count++] = t->unk;
			waits = 0;
			out[count++] = id;
		} else if (t->byte_fallback && put_bytes(t, word + i, n, out + count)) {
			count += n;
		} else if (t->unk != SP_TOKENIZER_NO_ID) {
			if (waits && !t->fuse_unk)
				out[count++] = t->unk;
			waits = 1;
		}
	}
	if (waits)
		out[count++] = t->unk;
	return count;
}

static enum sp_code
merge_word(const struct sp_tokenizer *t, struct sp__words *words, const char *word, size_t len,
    uint32_t *out, size_t *count, struct sp_err *err)
{
	if (t->ignore_merges && is_whole(t, words, word, len, out)) {
		*count = 1;
		return SP_OK;
	}
	if (t->byte_level) {
		for (size_t i = 0; i < len; i++)
			out[i] = t->byte_ids[(uint8_t)word[i]];
		*count = len;
	} else {
		*count = put_characters(t, word, len, out);
	}
	return sp_bpe_run(t->bpe, &words->bpe, out, count, err);
}

enum sp_code
sp__tokenizer_word(const struct sp_tokenizer *t, struct sp__words *words, const char *word,
    size_t len, uint32_t *out, size_t *count, struct sp_err *err)
{
	struct sp__word *slot;
	size_t n;
	enum sp_code code;

	out += *count;
	if (words->slots == NULL) {
		words->slots = calloc((size_t)1 << SLOTS_BITS, sizeof(*words->slots));
		if (words->slots == NULL)
			return sp_err_set(err, SP_E_NO_MEMORY, "the table of words");
	}
	slot = slot_of(words, word, len);
	if (slot != NULL && slot->len == len && memcmp(slot->word, word, len) == 0) {
		memcpy(out, slot->ids, slot->count * sizeof(*out));
		*count += slot->count;
		return SP_OK;
	}
	if ((code = merge_word(t, words, word, len, out, &n, err)))
		return code;
	*count += n;
	if (slot != NULL && len > 0 && n <= IDS_MAX) {
		slot->len = (uint8_t)len;
		slot->count = (uint8_t)n;
		memcpy(slot->word, word, len);
		memcpy(slot->ids, out, n * sizeof(*out));
	}
	return SP_OK;
}
