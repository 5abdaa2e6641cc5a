/* tokenizer_impl.h -- what tokenizer_parse.c reads and tokenizer.c runs. */
#ifndef SP_TOKENIZER_IMPL_H
#define SP_TOKENIZER_IMPL_H

#include "model/bpe.h"
#include "model/pattern.h"
#include "model/tokenizer.h"

#define SP_TOKENIZER_PATTERNS_MAX 8
#define SP_TOKENIZER_EXTRA_MAX 16 /* ids that the post-processor puts on either side */
#define SP_TOKENIZER_ID_MAX (1u << 22)
#define SP_TOKENIZER_NO_BYTE (-1)

/* A token by id. spelling: as in the vocabulary, where ByteLevel writes each byte as a printable
 * character; bytes: what it stands for. NULL spelling: no token has this id. */
struct sp__token {
	const char *spelling, *bytes;
	uint32_t spelling_len, bytes_len;
	int special;
};

/* Added tokens that are looked for in one form of the text, sorted by content. */
struct sp__added {
	struct sp__added_token {
		char *content;
		size_t len;
		uint32_t id;
	} * tokens;
	size_t count;
	uint8_t starts[256]; /* 1 where some content begins with the byte */
};

struct sp_tokenizer {
	struct sp__token *tokens; /* by id */
	uint32_t size;
	char *text;			  /* holds all spellings and bytes */
	const struct sp__token **by_name; /* in order of spelling */
	size_t count;

	struct sp__added raw, normalized;
	int nfc;
	struct sp_pattern *patterns[SP_TOKENIZER_PATTERNS_MAX]; /* applied one after the other */
	size_t n_patterns;
	int ignore_merges;
	uint32_t byte_ids[256];
	struct sp_bpe *bpe;
	uint32_t before[SP_TOKENIZER_EXTRA_MAX], after[SP_TOKENIZER_EXTRA_MAX];
	size_t n_before, n_after;
};

/* ByteLevel's character for a byte (itself for 21-7E, A1-AC, AE-FF, else U+0100 and up in order)
 * in UTF-8; returns its length, 1 or 2. */
size_t sp__tokenizer_spell(uint8_t byte, char out[2]);

#endif
