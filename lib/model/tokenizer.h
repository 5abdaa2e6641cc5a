/* tokenizer.h -- BPE from a tokenizer.json of huggingface/tokenizers: byte-level as GPT-2, Llama 3
 * and Qwen have it, or of characters as Llama 2 and Mistral do (Metaspace, byte_fallback). */
#ifndef SP_TOKENIZER_H
#define SP_TOKENIZER_H

#include "base/err.h"

#include <stdint.h>

struct sp_tokenizer;

/* Reads the whole file; whatever of it would change ids and is not understood is
 * SP_E_UNSUPPORTED and names the field. The result is read-only: threads may share it. */
enum sp_code sp_tokenizer_parse(
    const uint8_t *data, size_t len, struct sp_tokenizer **out, struct sp_err *err) SP_MUST_USE;
void sp_tokenizer_free(struct sp_tokenizer **tokenizer);

/* UTF-8 text to ids (malloc'd, free with free(3)). Added tokens are found in the text, special ones
 * too; add_special: also apply the post-processor (BOS where the model has one), as `encode(text)`
 * does in Python. SP_E_INVALID when text is not UTF-8. */
enum sp_code sp_tokenizer_encode(const struct sp_tokenizer *tokenizer, const char *text, size_t len,
    int add_special, uint32_t **ids, size_t *count, struct sp_err *err) SP_MUST_USE;

/*
 * ids to UTF-8 text (malloc'd, NUL after the last), as `decode(ids)` does in Python: bytes that
 * form no character are U+FFFD, and an id that no token has is no text. What an id stands for
 * depends on those beside it, so the texts of parts need not add up to the text of the whole.
 * skip_special leaves out special tokens. SP_E_LIMIT when decoders make far more text than the
 * tokens hold.
 */
enum sp_code sp_tokenizer_decode(const struct sp_tokenizer *tokenizer, const uint32_t *ids,
    size_t count, int skip_special, char **text, size_t *len, struct sp_err *err) SP_MUST_USE;

/* Id of the token spelled so in the vocabulary or added tokens; 0 when there is none, else 1. */
int sp_tokenizer_id(const struct sp_tokenizer *tokenizer, const char *content, uint32_t *id);
/* One more than the largest id. */
uint32_t sp_tokenizer_size(const struct sp_tokenizer *tokenizer);

#endif
