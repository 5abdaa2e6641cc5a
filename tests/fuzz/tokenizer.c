/* tokenizer.c -- tokenizer.json, and a text through whatever tokenizer was accepted. */
#include "model/tokenizer.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const char text[] = "What's  the capital of Caf\xc3\xa9?\n\t42 <|im_end|>"
				   "\xe2\x96\x81"
				   "e\xcc\x81 \xf0\x9f\x98\x80  <s>word </s>";
	struct sp_tokenizer *tokenizer = NULL;
	struct sp_err err;
	uint32_t *ids;
	size_t count, again_len;
	char *again;

	if (sp_tokenizer_parse(data, len, &tokenizer, &err) != SP_OK) {
		SP_ASSERT(tokenizer == NULL && err.msg[0] != '\0');
		return 0;
	}
	if (sp_tokenizer_encode(tokenizer, text, sizeof(text) - 1, 1, &ids, &count, &err) ==
	    SP_OK) {
		for (size_t i = 0; i < count; i++)
			SP_ASSERT(ids[i] < sp_tokenizer_size(tokenizer));
		if (sp_tokenizer_decode(tokenizer, ids, count, 0, &again, &again_len, &err) ==
		    SP_OK)
			free(again);
		else /* a chain of Replace */
			SP_ASSERT(err.code == SP_E_LIMIT);
		free(ids);
	}
	sp_tokenizer_free(&tokenizer);
	return 0;
}
