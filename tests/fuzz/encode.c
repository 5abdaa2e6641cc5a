/* encode.c -- texts through the fixture's tokenizer: what ids stand for has the same ids again. */
#include "base/file.h"
#include "base/path.h"
#include "fuzz.h"
#include "model/tokenizer.h"

static struct sp_tokenizer *tokenizer;

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct sp_err err;
	uint8_t *data;
	size_t len;

	(void)argc, (void)argv;
	SP_ASSERT(sp_file_read("tests/fixtures/model/tokenizer.json", 1 << 20, &data, &len, &err) ==
		  SP_OK);
	SP_ASSERT(sp_tokenizer_parse(data, len, &tokenizer, &err) == SP_OK);
	free(data);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint32_t *ids, *again;
	size_t count, again_count, text_len;
	struct sp_err err;
	char *text;

	if (sp_tokenizer_encode(tokenizer, (const char *)data, len, 0, &ids, &count, &err) !=
	    SP_OK) {
		SP_ASSERT(!sp_path_is_utf8((const char *)data, len));
		return 0;
	}
	SP_ASSERT(sp_tokenizer_decode(tokenizer, ids, count, 0, &text, &text_len, &err) == SP_OK);
	SP_ASSERT(
	    sp_tokenizer_encode(tokenizer, text, text_len, 0, &again, &again_count, &err) == SP_OK);
	SP_ASSERT(
	    count == again_count && (count == 0 || memcmp(ids, again, count * sizeof(*ids)) == 0));
	free(ids);
	free(again);
	free(text);
	return 0;
}
