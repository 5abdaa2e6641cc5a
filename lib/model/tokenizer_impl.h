/* tokenizer_impl.h -- what the tokenizer_*.c read from the file, and how they run it. */
#ifndef SP_TOKENIZER_IMPL_H
#define SP_TOKENIZER_IMPL_H

#include "base/buf.h"
#include "model/bpe.h"
#include "model/pattern.h"
#include "model/tokenizer.h"

#include <pthread.h>

#define SP_TOKENIZER_PARTS_MAX 16 /* of a Sequence */
#define SP_TOKENIZER_EXTRA_MAX 16 /* ids that the post-processor puts on either side */
#define SP_TOKENIZER_ID_MAX (1u << 22)
#define SP_TOKENIZER_NO_ID UINT32_MAX
#define SP_TOKENIZER_TEXT_MAX ((size_t)1 << 30) /* bytes of a text to encode */
#define SP_TOKENIZER_ADDED_MAX 1024		/* bytes of an added token's content */

/* A token by id. NULL spelling: no token has this id. */
struct sp__token {
	const char *spelling; /* as in the vocabulary, where ByteLevel writes bytes as characters */
	char *shown;	      /* what decoders begin with, where that is not the spelling */
	uint32_t spelling_len, shown_len;
	uint8_t special;
	uint8_t in_vocab; /* the model has it, not only added_tokens */
};

/* Added tokens that are looked for in one form of the text, sorted by content. */
struct sp__added {
	struct sp__added_token {
		char *content;
		size_t len;
		uint32_t id;
		int single_word, lstrip, rstrip;
	} * tokens;
	size_t count;
	uint8_t starts[256]; /* 1 where some content begins with the byte */
	const struct sp_pattern *word;
};

/* A normalizer. */
struct sp__normal {
	enum { SP__NFC, SP__PREPEND, SP__REPLACE } kind;
	char *from, *to; /* PREPEND has to alone */
	size_t from_len, to_len;
};

/* A pre-tokenizer: makes pieces of a piece. */
struct sp__step {
	enum { SP__SPLIT, SP__PREFIX, SP__METASPACE } kind;
	struct sp_pattern *pattern;	/* SPLIT */
	int drop_matches, drop_between; /* SPLIT: what is removed */
	char mark[5];			/* METASPACE: what a space becomes; PREFIX: a space */
	size_t mark_len;
	enum { SP__ALWAYS, SP__FIRST, SP__NEVER } scheme;
	int split;
};

/* A decoder: makes a list of texts of a list of texts. */
struct sp__decoder {
	enum {
		SP__BYTE_LEVEL,
		SP__DECODE_METASPACE,
		SP__REPLACE_TEXT,
		SP__BYTE_FALLBACK,
		SP__FUSE,
		SP__STRIP
	} kind;
	char *from, *to; /* REPLACE; METASPACE and STRIP have from alone */
	size_t from_len, to_len;
	int keep_first; /* METASPACE: marks of the first text are spaces too */
	int64_t start;	/* STRIP: characters at most */
};

struct sp__encoder;

struct sp_tokenizer {
	struct sp__token *tokens; /* by id */
	uint32_t size;
	char *text;			  /* holds all spellings */
	const struct sp__token **by_name; /* in order of spelling */
	size_t count;

	struct sp__added raw, normalized;
	struct sp_pattern *word;
	struct sp__normal normals[SP_TOKENIZER_PARTS_MAX];
	size_t n_normals;
	struct sp__step steps[SP_TOKENIZER_PARTS_MAX];
	size_t n_steps;
	struct sp__decoder decoders[SP_TOKENIZER_PARTS_MAX];
	size_t n_decoders;
	int joined; /* without decoders: texts are joined with spaces */
	uint32_t before[SP_TOKENIZER_EXTRA_MAX], after[SP_TOKENIZER_EXTRA_MAX];
	size_t n_before, n_after;

	struct sp_bpe *bpe;
	int byte_level; /* a word's symbols are its bytes, else its characters */
	int ignore_merges, byte_fallback, fuse_unk;
	uint32_t byte_ids[256]; /* byte_level or byte_fallback; NO_ID where there is none */
	uint32_t *point_ids;	/* by code point below 0x10000, else NULL; NO_ID likewise */
	uint32_t unk;		/* NO_ID: what is unknown is left out */
	/*
	 * Where no token has the mark (U+2581) behind some symbol, a text can be cut between the
	 * two without changing its ids: bit i of stays is set when that does not hold for id i.
	 */
	uint64_t *stays;

	pthread_mutex_t lock; /* of idle */
	struct sp__encoder *idle;
	size_t n_idle;
};

/* ByteLevel's character for a byte (itself for 21-7E, A1-AC, AE-FF, else U+0100 and up in order)
 * in UTF-8; returns its length, 1 or 2. */
size_t sp__tokenizer_spell(uint8_t byte, char out[2]);
/* The byte of a character, -1 when it stands for none. */
int sp__tokenizer_byte(uint32_t point);

/* The token spelled text[len], NULL when there is none. */
const struct sp__token *
sp__tokenizer_find(const struct sp_tokenizer *t, const char *text, size_t len);

/* Runs the normalizers over text[len]. *out is where the result lies, *out_len its bytes: text
 * itself or in one of the two buffers. */
enum sp_code sp__tokenizer_normalize(const struct sp_tokenizer *t, const char *text, size_t len,
    struct sp_buf work[2], const char **out, size_t *out_len, struct sp_err *err) SP_MUST_USE;

/* Calls token() and between() for what of text[len] is an added token and what is not, in order;
 * no call for an empty text. work finds the pattern for single words. */
struct sp__cut {
	enum sp_code (*between)(void *arg, const char *text, size_t len);
	enum sp_code (*token)(void *arg, uint32_t id);
	void *arg;
	struct sp_pattern_work *work;
	struct sp_err *err;
};
enum sp_code sp__tokenizer_cut(const struct sp__added *added, const char *text, size_t len,
    const struct sp__cut *cut) SP_MUST_USE;
void sp__tokenizer_added_sort(struct sp__added *added);

/* Work memory that encodings share. */
struct sp__words {
	struct sp__word *slots; /* ids of words seen lately, by hash */
	struct sp_bpe_work bpe;
	struct sp_buf spelling;
};

/* Adds the ids of a word to out[*count], which has room for one more id a byte. */
enum sp_code sp__tokenizer_word(const struct sp_tokenizer *t, struct sp__words *words,
    const char *word, size_t len, uint32_t *out, size_t *count, struct sp_err *err) SP_MUST_USE;
void sp__tokenizer_words_free(struct sp__words *words);
/* Frees what is out of proportion. */
void sp__tokenizer_words_trim(struct sp__words *words);

void sp__tokenizer_encoders_free(struct sp_tokenizer *t);

#endif
